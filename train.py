"""Train a GOT model: train.py CONFIG [section.key=value ...] [--resume] [--show] [--dry-run]."""

from __future__ import annotations

import argparse
import os
import signal
import sys

from got_train.config.loader import dump_config, load_config
from got_train.config.schema import Config
from got_train.errors import ConfigError
from got_train.requirements import need_paddle
from got_train.training.signals import SignalHandler

DONE, FAILED, WRONG_USAGE, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="train.py",
        allow_abbrev=False,
        description="Train a GOT model from a YAML file; prints the folder of the final model.",
        epilog="Exit codes: 0 trained, 1 failed, 2 wrong usage or settings, 130 interrupted, 143 terminated.",
    )
    made.add_argument("config", help="a YAML file, e.g. configs/nano/stage1.yaml")
    made.add_argument(
        "overrides", nargs="*", metavar="section.key=value", help="settings that win over the file"
    )
    made.add_argument("--resume", action="store_true", help="go on from the last complete checkpoint, if any")
    made.add_argument("--show", action="store_true", help="print the whole config and stop")
    made.add_argument(
        "--dry-run",
        action="store_true",
        help="build everything, try the longest rows, print what the run will take, and stop",
    )
    return made


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_intermixed_args(arguments)
    try:
        config = load_config(options.config, options.overrides)
    except ConfigError as error:
        _say(str(error))
        return WRONG_USAGE
    if options.show:
        print(dump_config(config), end="")
        return DONE
    interruption = SignalHandler()
    interruption.listen()
    try:
        print(dry_run(config) if options.dry_run else run(config, options.resume, interruption))
        return DONE
    except KeyboardInterrupt as error:
        if not options.dry_run:
            report(config)
        _say(f"interrupted; {last_checkpoint(config)}")
        return TERMINATED if getattr(error, "number", 0) == signal.SIGTERM else INTERRUPTED
    except Exception as error:
        if not (isinstance(error, OSError) or type(error).__module__.startswith("got_train.")):
            raise  # a fault of ours, which needs its traceback
        named = not (isinstance(error, OSError) and error.strerror)
        _say(str(error) if named else unwritten(error, config))
        return WRONG_USAGE if isinstance(error, ConfigError) else FAILED


def run(config: Config, resume: bool, interruption: SignalHandler) -> str:
    need_paddle()
    from got_train.training.run import train

    final = str(train(config, resume, interruption))
    report(config)
    return final


def dry_run(config: Config) -> str:
    need_paddle()
    from got_train.training.dry_run import dry_run

    return dry_run(config)


def report(config: Config) -> None:
    """Write the run's page; no fault of a page is one of the run."""
    if int(os.environ.get("PADDLE_TRAINER_ID", "0")) > 0 or not os.path.isdir(config.train.output_dir):
        return
    try:
        from got_train.run_report.page import write_report

        write_report(config.train.output_dir, config)
    except (Exception, KeyboardInterrupt) as error:
        _say(f"no report.html: {type(error).__name__}: {error}")


def unwritten(error: OSError, config: Config) -> str:
    """The system's words for a file that cannot be read or written, with its place, and what is kept."""
    where = error.filename or config.train.output_dir
    return f"{where}: {error.strerror}; {last_checkpoint(config)}"


def last_checkpoint(config: Config) -> str:
    from got_train.training.checkpoints import checkpoints

    found = checkpoints(config.train.output_dir)
    return f"{found[-1]} is complete, --resume goes on from it" if found else "there is no checkpoint yet"


def _say(line: str) -> None:
    print(f"train.py: {line}", file=sys.stderr)


def leave(code: int) -> None:
    """End the process; one of several without Paddle's tear-down, in which gloo aborts now and then."""
    if int(os.environ.get("PADDLE_TRAINERS_NUM", "1")) > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    leave(main())
