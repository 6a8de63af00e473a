"""Drafts for people to correct: got prelabel PAGES --by CHECKPOINT --by tesseract."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from got_train import prompts
from got_train.errors import UsageError

from .arguments import CommandParser, count
from .exits import DONE, FAILED, handle_errors, say

if TYPE_CHECKING:
    from got_train.drafts.prelabel import Summary

OUTPUT = Path("drafts/drafts.jsonl")


def parser() -> CommandParser:
    command = CommandParser(
        "prelabel",
        description="Draft the text of pages or records by one or several readers, a line of JSONL each. "
        "Rerun the command to resume.",
        epilog="Exit codes: 0 done, 1 a reader has read nothing, 2 wrong usage or a reader is not installed.",
    )
    add = command.add_argument
    pages = "pictures, PDFs, folders or patterns; or one data file, of which each record is read"
    add("pages", nargs="+", metavar="PAGES", help=pages)
    readers = "checkpoint or adapter, tesseract, rapidocr, or a predictions.jsonl; the first one's text is "
    readers += "the draft, further ones are compared with it"
    add("--by", nargs="+", action="extend", required=True, metavar="READER", help=readers)
    add("-o", "--output", type=Path, default=OUTPUT, metavar="FILE", help=f"(default {OUTPUT})")
    add("--task", choices=prompts.ONE_VIEW, default="ocr", help="of pages; records have theirs (default ocr)")
    add("--limit", type=count, metavar="N", help="only the first N pages or records")
    lines = "each picture or region is one line of text; tesseract and rapidocr need not find it"
    add("--lines", action="store_true", help=lines)
    add("--language", default="eng", metavar="CODE", help="of tesseract, such as chi_sim+eng (default eng)")
    add("--batch-size", type=int, default=8, metavar="N", help="pages a checkpoint reads at once (default 8)")
    add("--threads", type=int, metavar="N", help="use N CPU threads (default: all cores)")
    return command


@handle_errors("prelabel")
def main(arguments: Sequence[str] | None = None) -> int:
    return run(parser().parse_intermixed_args(arguments))


def run(options: argparse.Namespace) -> int:
    if options.output.suffix != ".jsonl" or options.output.is_dir():
        raise UsageError(f"--output: {options.output}; expected a .jsonl file")
    if options.batch_size < 1:
        raise UsageError(f"--batch-size: {options.batch_size}; expected at least 1")
    from got_train.drafts.prelabel import prelabel, records_of
    from got_train.drafts.readers import ReaderConfig, open_readers

    config = ReaderConfig(
        lines=options.lines,
        language=options.language,
        batch_size=options.batch_size,
        threads=options.threads,
    )
    records = records_of(options.pages, options.task, options.output.parent)
    readers = open_readers(options.by, config)
    summary = prelabel(records, readers, options.output, options.limit)
    for text in described(summary, options.by):
        say("prelabel", text)
    print(options.output)
    return DONE if all(summary.answered[name] for name in options.by) else FAILED


def described(summary: Summary, readers: Sequence[str]) -> list[str]:
    """What was drafted, in lines."""
    lines = [f"{summary.drafts} drafts, {summary.before} of them from before"]
    if summary.twice:
        lines.append(f"{summary.twice} pages are left out: the same picture and question stand there already")
    for name in readers:
        failure = summary.failures.get(name)
        lines.append(
            f"{name}: read {summary.answered[name]} of {summary.drafts}" + (f"; {failure}" if failure else "")
        )
    if summary.agreements:
        lines.append(
            f"agreement: {fmean(summary.agreements):.3f}, the mean over {len(summary.agreements)} drafts"
        )
    return lines
