"""From a folder of documents to a run: got init my_docs/ -o my.yaml.

Tells what it sees in the folder and writes a config in which every choice has its reason. What it writes is
a beginning: got check judges it, and every line may be changed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from got_train import prompts
from got_train.errors import UsageError
from got_train.strict_files import printable_lines

from .arguments import CommandParser, count
from .exits import DONE, FAILED, handle_errors


def parser() -> CommandParser:
    command = CommandParser(
        "init",
        description="Look at a folder of documents and write a config to fine-tune on it, with reasons.",
        epilog="Exit codes: 0 written, 1 nothing to train on, or not ready, 2 wrong usage, 130 interrupted.",
    )
    command.add_argument(
        "folder", type=_folder, help="documents: pictures with .txt, records, conversations, parquet ..."
    )
    command.add_argument("-o", "--out", required=True, type=Path, help="the config to write, e.g. my.yaml")
    command.add_argument(
        "--init-from", default="GOT_weights", help="checkpoint to start from (default: GOT_weights)"
    )
    command.add_argument(
        "--task", default="", choices=("", *prompts.TASKS), help="of rows that name none (default: by looks)"
    )
    command.add_argument(
        "--split",
        type=_share,
        default=0.0,
        metavar="SHARE",
        help="hold out this share of the rows, in whole documents, in files beside the config",
    )
    command.add_argument(
        "--document",
        type=_document,
        default="",
        metavar="RULE",
        help="what a document of --split is: folder, file, or a regular expression on the picture's path "
        "with one group (default: the rows' `document`, else pages and crops by their names)",
    )
    command.add_argument("--workers", type=count, help="check rows in N processes (default: all cores)")
    command.add_argument(
        "--no-measure",
        action="store_true",
        help="do not load the checkpoint to see how well it reads a few of these rows",
    )
    return command


def _folder(text: str) -> str:
    if not text:  # a variable that is not set, and not the folder we stand in
        raise argparse.ArgumentTypeError("empty; expected a folder of documents")
    return os.path.normpath(text)


def _document(text: str) -> str:
    from got_train.data.documents import check_rule

    try:
        check_rule(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def _share(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 <= float(text) < 1:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r}; expected a fraction such as 0.1")


@handle_errors("init", refused=FAILED, interrupted="interrupted; no config is written")
def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    # after the arguments: these import Paddle, which takes seconds
    from got_train.autoconfig.init import InitOptions, init
    from got_train.cpu import settings

    workers = settings.usable_cores() if options.workers is None else options.workers
    init_options = InitOptions(
        folder=options.folder,
        out=options.out,
        init_from=options.init_from,
        task=options.task,
        split=options.split,
        document=options.document,
        read_base=not options.no_measure,
        workers=workers,
    )
    report = init(init_options)
    print(printable_lines(report.text))
    return DONE if report.ready else FAILED
