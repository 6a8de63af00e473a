"""Is a run ready? got check CONFIG [section.key=value ...]: a verdict before any training.

Looks at the config, at every row of every source, and at the run's first steps on its longest rows; prints
what it found and writes check.json and quarantine.jsonl into train.output_dir.
"""

from __future__ import annotations

import argparse
import json
import sys

from got_train.config.loader import load_config
from got_train.cpu import settings
from got_train.errors import ConfigError, DataError
from got_train.preflight import verdict
from got_train.preflight.check import check, refused

from .options import count

READY, NOT_READY, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m got_train.cli.check",
        allow_abbrev=False,
        description="Look at the config, every row and the first steps of a run; is it ready?",
        epilog="Exit codes: 0 ready (with or without warnings), 1 not ready, 2 wrong usage, 130 interrupted.",
    )
    made.add_argument("config", help="a YAML file, as for train.py")
    made.add_argument(
        "overrides", nargs="*", metavar="section.key=value", help="settings that win over the file"
    )
    made.add_argument("--json", action="store_true", help="print check.json instead of text")
    made.add_argument("--workers", type=count, help="processes that look at rows (default: all cores)")
    made.add_argument(
        "--sample", type=count, default=0, help="rows of each source at most, evenly spaced (default: all)"
    )
    made.add_argument(
        "--no-measure", action="store_true", help="rows and config only; memory and time are not measured"
    )
    return made


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_intermixed_args(arguments)
    workers = settings.usable_cores() if options.workers is None else options.workers
    try:
        config = load_config(options.config, options.overrides)
        found = check(config, workers, options.sample, not options.no_measure)
    except ConfigError as error:
        found = refused(error)
    except (DataError, OSError) as error:
        print(f"check: {error}", file=sys.stderr)
        return NOT_READY
    except KeyboardInterrupt:
        print("check: interrupted; nothing is said about the run", file=sys.stderr)
        return INTERRUPTED
    print(json.dumps(found, ensure_ascii=False, indent=1) if options.json else verdict.text(found))
    return NOT_READY if found["verdict"] == verdict.NOT_READY else READY


if __name__ == "__main__":
    sys.exit(main())
