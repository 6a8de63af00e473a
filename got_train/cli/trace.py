"""Which rows went into a step of a run, or a row into which steps: got trace RUN --step N.

The rows follow from the run's settings and data files; they are compared with what the ledger holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .arguments import CommandParser
from .exits import handle_errors, say

if TYPE_CHECKING:
    from got_train.training.trace import Trace

FOUND, CHANGED = 0, 1


def parser() -> CommandParser:
    parser = CommandParser(
        "trace",
        description="Print the rows of a step, or the steps of a row; what was dropped is marked.",
        epilog="Exit codes: 0 found, 1 the data files are not those that were trained on, 2 wrong usage, "
        "130 interrupted.",
    )
    parser.add_argument("run", metavar="RUN", help="the output_dir of a run")
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--step", type=int, metavar="N", help="from 1, as in logs and checkpoints")
    asked.add_argument("--row", metavar="FILE:LINE", help="as messages and quarantine name it")
    return parser


@handle_errors("trace")
def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    # after the arguments: this imports numpy and readers of data, which takes a second
    from got_train.training.trace import open_trace

    trace = open_trace(Path(options.run))
    return _print_step(trace, options.step) if options.row is None else _print_row(trace, options.row)


def _print_step(trace: Trace, step: int) -> int:
    entry = trace.entry(step)
    kept = "" if step <= trace.saved else "; after the last checkpoint, so no weights of it are kept"
    say("trace", f"step {step}: {entry.rows} rows, {len(entry.dropped)} dropped{kept}")
    for where, dropped in trace.rows(step):
        print(f"{where} dropped" if dropped else where)
    return _judge(trace, [step])


def _print_row(trace: Trace, row: str) -> int:
    steps = list(trace.steps(row))
    if not steps:
        trace.check_row(row)
    for step, dropped in steps:
        print(f"{step} dropped" if dropped else step)
    say("trace", f"{row}: in {len(steps)} of the {len(trace.ledger)} steps of the ledger")
    return _judge(trace, [step for step, _ in steps])


def _judge(trace: Trace, steps: Sequence[int]) -> int:
    changed = [step for step in steps if not trace.is_as_trained(step)]
    if changed:
        now = "the data files have other rows or answers now than when this step was trained"
        say("trace", f"step {changed[0]}: {now}")
    return CHANGED if changed else FOUND
