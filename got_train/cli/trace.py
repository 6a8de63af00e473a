"""Which rows went into a step of a run, or a row into which steps: got trace RUN --step N.

The rows follow from the run's settings and data files; they are compared with what the ledger holds.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from got_train.training.trace import Trace, open_trace

if TYPE_CHECKING:
    pass

FOUND, CHANGED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m got_train.cli.trace",
        allow_abbrev=False,
        description="Print the rows of a step, or the steps of a row; what was dropped is marked.",
        epilog="Exit codes: 0 found, 1 the data files are not those that were trained on, 2 wrong usage, "
        "130 interrupted.",
    )
    parser.add_argument("run", metavar="RUN", help="the output_dir of a run")
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--step", type=int, metavar="N", help="from 1, as in logs and checkpoints")
    asked.add_argument("--row", metavar="FILE:LINE", help="as messages and quarantine name it")
    options = parser.parse_args(arguments)
    from got_train.errors import RequirementError

    try:
        trace = open_trace(Path(options.run))
        return _print_step(trace, options.step) if options.row is None else _print_row(trace, options.row)
    except BrokenPipeError:  # whoever reads has seen enough
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())  # or Python's last flush would tell of it
        return FOUND
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED
    except (RequirementError, ValueError, OSError) as error:
        _say(str(error))
        return WRONG_USAGE


def _print_step(trace: Trace, step: int) -> int:
    entry = trace.entry(step)
    kept = "" if step <= trace.saved else "; after the last checkpoint, so no weights of it are kept"
    _say(f"step {step}: {entry.rows} rows, {len(entry.dropped)} dropped{kept}")
    for where, dropped in trace.rows(step):
        print(f"{where} dropped" if dropped else where)
    return _judge(trace, [step])


def _print_row(trace: Trace, row: str) -> int:
    steps = list(trace.steps(row))
    if not steps:
        trace.check_row(row)
    for step, dropped in steps:
        print(f"{step} dropped" if dropped else step)
    _say(f"{row}: in {len(steps)} of the {len(trace.ledger)} steps of the ledger")
    return _judge(trace, [step for step, _ in steps])


def _judge(trace: Trace, steps: Sequence[int]) -> int:
    changed = [step for step in steps if not trace.is_as_trained(step)]
    if changed:
        _say(f"step {changed[0]}: the data files have other rows or answers now than when this step was made")
    return CHANGED if changed else FOUND


def _say(line: str) -> None:
    print(f"trace: {line}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
