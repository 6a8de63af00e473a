"""Any data that is read here, in another form: got convert-data SRC --to FORM -o OUT.

Every row that is written is read back and compared; one that the form cannot say is refused with its reason.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from got_train.data.convert_options import (
    DROPPABLE,
    ILLEGIBLE,
    LABEL_FORMATS,
    ORDERS,
    RECORD_FILES,
    ConvertOptions,
)
from got_train.errors import UsageError
from got_train.strict_files import printable

from .arguments import CommandParser
from .exits import WRONG_USAGE, handle_errors

CONVERTED, SOME_REFUSED = 0, 1
__all__ = ["CONVERTED", "SOME_REFUSED", "WRONG_USAGE", "main", "parser"]


def parser() -> CommandParser:
    command = CommandParser(
        "convert-data",
        description="Convert training data between its formats, row by row; no row is changed on the way.",
        epilog="Exit codes: 0 all rows converted, 1 some refused (a file beside OUT tells why), 2 usage.",
    )
    add = command.add_argument
    formats = (
        f"of records: {', '.join(RECORD_FILES)}; of labels: {', '.join(LABEL_FORMATS)} (docs/formats.md)"
    )
    add("source", help="data that got train reads, or labels: PAGE, ALTO, COCO-Text, PaddleOCR, lines")
    add("--to", required=True, choices=(*RECORD_FILES, *LABEL_FORMATS), metavar="FORMAT", help=formats)
    add("-o", "--out", required=True, metavar="OUT", help="the file to write, or a folder for it")
    add(
        "--copy-images",
        action="store_true",
        help="copy the images next to OUT; without it they stay where they are",
    )
    add(
        "--copy-from-anywhere",
        action="store_true",
        help="copy images too that are not below --image-root, or else the source's own folder",
    )
    add("--image-root", metavar="FOLDER", help="where relative image paths of the source start")
    add("--task", help="task of rows that name none")
    add("--columns", nargs="+", metavar="KEY=NAME", help="what keys are called in the source, as text=ocr")
    add("--split", default="", help="of a data set that has several")
    add("--allow-empty", action="store_true", help="convert blank pages too")
    add(
        "--drop",
        choices=DROPPABLE,
        nargs="+",
        default=(),
        help="leave this out where the format cannot hold it",
    )
    labels = command.add_argument_group("labels with positions")
    add = labels.add_argument
    add(
        "--tasks",
        metavar="spot,box,ocr,line,window",
        help="of each page (default spot): all lines with boxes, every line by its box, the plain text; "
        "every line, or 3 to 8 rows, cut out as pictures of their own",
    )
    add(
        "--order", choices=ORDERS, help="of lines: the file's (default for PAGE, ALTO) or the page's (others)"
    )
    add("--illegible", choices=ILLEGIBLE, default="leave_out", help="labels like ### (default leave_out)")
    return command


@handle_errors("convert-data")
def main(arguments: Sequence[str] | None = None) -> int:
    given = vars(parser().parse_args(arguments))
    pairs = [pair.partition("=") for pair in given["columns"] or ()]
    for key, _, name in pairs:
        if not key or not name:
            raise UsageError(f"--columns: {key or name!r}; expected KEY=NAME such as text=ocr")
    tasks = tuple(given["tasks"].split(",")) if given["tasks"] else ()
    columns = {key: name for key, _, name in pairs}
    options = ConvertOptions(**given | {"columns": columns, "tasks": tasks, "drop": tuple(given["drop"])})
    return _run(options)


def _run(options: ConvertOptions) -> int:
    from got_train.data.convert import convert, records_out, refusals_of
    from got_train.data.convert_labels import convert_labels, label_refusals, labels_out
    from got_train.data.labels.labelled_page import Losses

    losses = Losses()
    labels = options.to in LABEL_FORMATS
    written, refused = (convert_labels if labels else convert)(options, losses)
    output = printable((labels_out if labels else records_out)(options))
    print(f"{written} {'pages' if labels else 'rows'} in {output}")
    for line in losses.lines():
        print(f"  {printable(line)}")
    if refused:
        file = label_refusals(options) if labels else refusals_of(records_out(options))
        print(f"{refused} {'pages' if labels else 'rows'} refused, see {printable(file)}", file=sys.stderr)
    return SOME_REFUSED if refused else CONVERTED
