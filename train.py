"""Train a GOT model: train.py CONFIG [section.key=value ...] [--resume] [--show]."""

from __future__ import annotations

import argparse
import sys


def main() -> int:
    parser = argparse.ArgumentParser(description="Train a GOT model from a YAML file.")
    parser.add_argument("config", help="a YAML file, e.g. configs/nano/stage1.yaml")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="settings that win over the file")
    parser.add_argument("--resume", action="store_true", help="go on from the last complete checkpoint")
    parser.add_argument("--show", action="store_true", help="print the whole config and stop")
    options = parser.parse_args()

    from got_train.config import ConfigError, dump_config, load_config
    from got_train.installation import InstallationError

    try:
        config = load_config(options.config, options.overrides)
        if options.show:
            print(dump_config(config), end="")
            return 0
        from got_train.training.run import train

        print(train(config, resume=options.resume))
    except (ConfigError, InstallationError, ValueError, OSError, ArithmeticError) as error:
        print(f"train.py: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
