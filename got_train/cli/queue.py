"""Which drafts to correct first: got queue drafts/drafts.jsonl."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from got_train.errors import DataError, UsageError
from got_train.strict_files import printable_lines

from .arguments import CommandParser, count
from .exits import DONE, handle_errors, say

SHOWN = 10  # drafts that are printed
WIDTH = 60  # characters of a text


def parser() -> CommandParser:
    command = CommandParser(
        "queue",
        description="Order drafts for a person: those that the model doubts, or that readers dispute, first, "
        "and none like one before it.",
    )
    add = command.add_argument
    add("drafts", type=Path, metavar="DRAFTS", help="a file of got prelabel")
    add("-o", "--output", type=Path, metavar="FILE", help="(default: queue.jsonl beside the drafts)")
    add("--limit", type=count, metavar="N", help="only the first N drafts of the order")
    add("--shuffle", type=count, metavar="SEED", help="in random order instead, to compare with")
    return command


@handle_errors("queue")
def main(arguments: Sequence[str] | None = None) -> int:
    return run(parser().parse_args(arguments))


def run(options: argparse.Namespace) -> int:
    output = options.output or options.drafts.with_name("queue.jsonl")
    if output.resolve() == options.drafts.resolve():
        raise UsageError(f"--output: {output} is the file of drafts; use another one")
    if options.limit == 0:
        raise UsageError("--limit: 0; expected at least 1")
    from got_train.drafts import queue
    from got_train.drafts.draft import read_drafts, write_drafts

    drafts = read_drafts(options.drafts)
    read = [draft for draft in drafts if draft.answer.text is not None]
    if not read:
        raise DataError(f"{options.drafts}: no reader has read any of its {len(drafts)} drafts; draft again")
    if len(read) < len(drafts):
        say("queue", f"{len(drafts) - len(read)} of {len(drafts)} are left out: no reader has read them")
    if options.shuffle is None:
        ordered = queue.order(read, options.limit)
    else:
        ordered = queue.shuffled(read, options.shuffle, options.limit)
    write_drafts(output, ordered)
    for number, draft in enumerate(ordered[:SHOWN], 1):
        scores = " ".join(f"{name} {value:.2f}" for name, value in draft.scores.items() if value is not None)
        text = " ".join(draft.text.split())
        print(printable_lines(f"{number:3} {scores}  {text if len(text) <= WIDTH else text[:WIDTH] + '...'}"))
    say("queue", f"{len(ordered)} drafts in {output}; correct them with got app --queue {output}")
    return DONE
