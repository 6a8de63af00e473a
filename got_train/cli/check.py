"""Is a run ready? got check CONFIG [section.key=value ...]: a verdict before any training.

Looks at the config, at every row of every source, and at the run's first steps on its longest rows; prints
what it found and writes check.json and quarantine.jsonl into train.output_dir.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from got_train.errors import ConfigError
from got_train.strict_files import printable_lines

from .arguments import CommandParser, count
from .exits import handle_errors

READY, NOT_READY = 0, 1


def parser() -> CommandParser:
    command = CommandParser(
        "check",
        description="Look at the config, every row and the first steps of a run; is it ready?",
        epilog="Exit codes: 0 ready (with or without warnings), 1 not ready, 2 wrong usage, 130 interrupted.",
    )
    command.add_argument("config", help="a YAML file, as for got train")
    command.add_argument(
        "overrides", nargs="*", metavar="section.key=value", help="settings that win over the file"
    )
    command.add_argument("--json", action="store_true", help="print check.json instead of text")
    command.add_argument("--workers", type=count, help="check rows in N processes (default: all cores)")
    command.add_argument(
        "--sample",
        type=count,
        default=0,
        help="check at most N rows of each source, evenly spaced (default: all)",
    )
    command.add_argument(
        "--no-measure", action="store_true", help="check rows and config only; do not measure memory and time"
    )
    return command


@handle_errors("check", refused=NOT_READY, interrupted="interrupted; there is no verdict")
def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_intermixed_args(arguments)
    # after the arguments: these import Paddle, which takes seconds
    from got_train.config.loader import load_config
    from got_train.cpu import settings
    from got_train.preflight import verdict
    from got_train.preflight.check import check, refused

    workers = settings.usable_cores() if options.workers is None else options.workers
    try:
        config = load_config(options.config, options.overrides)
        outcome = check(config, workers, options.sample, not options.no_measure)
    except ConfigError as error:
        outcome = refused(error)
    text = verdict.text(outcome)
    print(json.dumps(outcome, ensure_ascii=False, indent=1) if options.json else printable_lines(text))
    return NOT_READY if outcome["verdict"] == verdict.NOT_READY else READY
