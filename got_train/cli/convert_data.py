"""Any data that is read here, in another form: python -m got_train.cli.convert_data SRC --to FORM -o OUT.

Every row that is written is read back and compared; one that the form cannot say is refused with its reason.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from got_train import prompts
from got_train.data.formats import RowReader
from got_train.data.image_copies import PictureCopies
from got_train.data.labels.readers import are_labels, labelled_pages
from got_train.data.labels.to_spots import ILLEGIBLE, ORDERS, TASKS, Choices, page_records, picture_size
from got_train.data.record import DataFileError, Record, RecordError, short
from got_train.data.records import as_row, read_records
from got_train.images import EncodedImage, image_files, open_image

CONVERTED, SOME_REFUSED, WRONG_USAGE = 0, 1, 2
NAMES = {"records": "records.jsonl", "got": "got.json", "ms_swift": "ms_swift.jsonl"}  # in a folder
IMAGE = "<image>"
DROPPABLE = ("glyphs",)

Rows = Iterator[Record | RecordError]


class ConversionError(ValueError):
    """Flags that do not go together, or a source of which nothing can be converted."""


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m got_train.cli.convert_data",
        allow_abbrev=False,
        description="Convert training data between its formats, row by row; no row is changed on the way.",
        epilog="Exit codes: 0 all rows converted, 1 some refused (see OUT.refused.jsonl), 2 wrong usage.",
    )
    add = made.add_argument
    add("source", help="data that train.py reads, or labels: PAGE, ALTO, COCO-Text, PaddleOCR, image + lines")
    add("--to", required=True, choices=tuple(NAMES), help="the format to write")
    add("-o", "--out", required=True, metavar="OUT", help="a .jsonl or .json file, or a folder for it")
    add(
        "--copy-images",
        action="store_true",
        help="copy the pictures beside OUT; else they stay where they are",
    )
    add("--image_root", metavar="FOLDER", help="where relative image paths of the source start")
    add("--task", help="of rows that name none")
    add("--columns", nargs="+", metavar="KEY=NAME", help="what keys are called in the source, as text=ocr")
    add("--split", default="", help="of a data set that has several")
    add("--allow_empty", action="store_true", help="convert blank pages too")
    add("--drop", choices=DROPPABLE, nargs="+", default=(), help="lose this where the target cannot say it")
    labels = made.add_argument_group("labels with positions")
    add = labels.add_argument
    add("--tasks", metavar="spot,box,ocr", help="of each page (default spot): all lines with boxes, "
        "every line by its box, the plain text")  # fmt: skip
    add(
        "--order", choices=ORDERS, help="of lines: the file's (default for PAGE, ALTO) or the page's (others)"
    )
    add("--illegible", choices=ILLEGIBLE, default="leave_out", help="labels like ### (default leave_out)")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    counts: Counter[str] = Counter()
    try:
        written, refused = convert(options, counts)
    except (ConversionError, RecordError, OSError) as error:
        named = isinstance(error, OSError) and error.filename
        print(f"convert_data: {f'{named}: {error.strerror}' if named else error}", file=sys.stderr)
        return WRONG_USAGE
    out = _out(options)
    print(f"{written} rows in {out}")
    for cause, count in counts.items():
        if count:
            print(f"  {count} {cause}")
    if refused:
        print(f"{refused} rows refused, see {_refusals(out)}", file=sys.stderr)
    return SOME_REFUSED if refused else CONVERTED


def convert(options: argparse.Namespace, counts: Counter[str]) -> tuple[int, int]:
    """Writes OUT, and what was refused beside it; the number of rows of each."""
    out = _out(options)
    if out.exists() and any(os.path.exists(file) and out.samefile(file) for file in _read_files(options)):
        raise ConversionError(f"--out: {out} is the source itself; another file or folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished, refusals = out.with_name(out.name + ".tmp"), _refusals(out)
    refusals.unlink(missing_ok=True)
    try:
        with open(unfinished, "w", encoding="utf-8", newline="\n") as file, _Refusals(refusals) as refuse:
            written, refused = _write(file, refuse, options, counts)
        if not written:
            raise ConversionError(f"{options.source}: no row can be converted; {_cause(refusals, counts)}")
        os.replace(unfinished, out)
    finally:
        unfinished.unlink(missing_ok=True)
    return written, refused


def _write(
    file: TextIO, refuse: Callable[[RecordError], None], options: argparse.Namespace, counts: Counter[str]
) -> tuple[int, int]:
    folder = _out(options).parent
    copies = PictureCopies(folder / "images") if options.copy_images else None
    written = refused = 0
    for record in _rows(options, counts):
        try:
            row = _converted(record, options, folder, copies)
        except RecordError as error:
            refuse(error)
            refused += 1
            continue
        file.write(_separator(options.to, written) + json.dumps(row, ensure_ascii=False))
        written += 1
    file.write("\n]\n" if options.to == "got" else "\n")
    return written, refused


class _Refusals:
    """A file of causes that is there only if there are any."""

    def __init__(self, path: Path) -> None:
        self._path, self._file = path, None

    def __enter__(self) -> Callable[[RecordError], None]:
        return self._add

    def _add(self, error: RecordError) -> None:
        if self._file is None:
            self._file = open(self._path, "w", encoding="utf-8", newline="\n")  # noqa: SIM115
        self._file.write(json.dumps({"cause": str(error)}, ensure_ascii=False) + "\n")

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()


def _rows(options: argparse.Namespace, counts: Counter[str]) -> Rows:
    if os.path.exists(options.source) and are_labels(options.source):
        given = [name for name in ("task", "columns", "split") if getattr(options, name)]
        if given:
            raise ConversionError(f"--{given[0]}: for records; {options.source} has labels, see --tasks")
        return _label_rows(options, counts)
    if options.tasks or options.order:
        raise ConversionError(f"--tasks, --order: for labels with positions; {options.source} has records")
    return _record_rows(options)


def _record_rows(options: argparse.Namespace) -> Rows:
    pairs = [pair.partition("=") for pair in options.columns or ()]
    for key, _, name in pairs:
        if not key or not name:
            raise ConversionError(f"--columns: {key or name!r}; KEY=NAME, as text=ocr")
    columns = {key: name for key, _, name in pairs}
    records = read_records(
        options.source,
        image_root=options.image_root,
        allow_empty=options.allow_empty,
        check_files=True,
        task=options.task,
        columns=columns or None,
        split=options.split,
    )
    for place in range(len(records)):
        try:
            yield records[place]
        except DataFileError:
            raise
        except RecordError as error:
            yield error


def _label_rows(options: argparse.Namespace, counts: Counter[str]) -> Rows:
    tasks = tuple((options.tasks or "spot").split(","))
    unknown = [task for task in tasks if task not in TASKS]
    if unknown:
        raise ConversionError(f"--tasks: {unknown[0]!r}; some of {','.join(TASKS)}")
    choices = Choices(tasks, options.order, options.illegible, options.allow_empty)
    for page in labelled_pages(options.source, options.image_root):
        try:
            yield from [page] if isinstance(page, RecordError) else page_records(page, choices, counts)
        except RecordError as error:
            yield error


def _converted(
    record: Record | RecordError, options: argparse.Namespace, folder: Path, copies: PictureCopies | None
) -> dict:
    """The row of a record, read back and found to say the same."""
    if isinstance(record, RecordError):
        raise record
    if options.to != "records":
        record = _sayable(record, options.drop)
    if copies is not None:
        together = options.to == "got" and len(record.images) > 1  # which names their folder
        images = copies.several(record.images) if together else tuple(map(copies.one, record.images))
        record = replace(record, images=images)
    row = SAID[options.to](record, as_row(record, folder))
    reader = RowReader(root=str(folder), allow_empty=True)
    back = reader.record(row, record.where)
    if _plain(back) != _plain(record):
        raise RecordError(f"{record.where}: would be read back as {short(back)}; left out")
    return row


def _sayable(record: Record, drop: Sequence[str]) -> Record:
    """The record with its box in thousandths, as a question names it; refused if words cannot say it."""
    if record.glyphs and "glyphs" not in drop:
        raise RecordError(
            f"{record.where}: {len(record.glyphs)} glyphs, which only records say; --drop glyphs"
        )
    if IMAGE in record.text:
        raise RecordError(f"{record.where}: the text holds {IMAGE}, which stands for a picture there")
    record = replace(record, glyphs=())
    if record.box is None or record.box_unit == "thousandth":
        return record
    try:
        box = prompts.thousandths(record.box, _size(record.images[0]))
    except prompts.PromptError as error:
        raise RecordError(f"{record.where}: {error}") from error
    return replace(record, box=tuple(box), box_unit="thousandth")


def _own(record: Record, row: dict) -> dict:
    return row


def _got(record: Record, row: dict) -> dict:
    images = row["images"]
    if len(images) > 1:
        folder = os.path.dirname(record.images[0])
        if [os.path.abspath(path) for path in image_files(folder)] != list(
            map(os.path.abspath, record.images)
        ):
            raise RecordError(
                f"{record.where}: {len(images)} images that are no folder of their own, which is how GOT "
                "names several; --copy-images makes one"
            )
        images = [os.path.dirname(images[0])]
    asked, said = f"{IMAGE}\n{_question(record)}", record.text
    turns = [{"from": "human", "value": asked}, {"from": "gpt", "value": said}]
    return {"image": images[0], "conversations": turns}


def _swift(record: Record, row: dict) -> dict:
    asked = IMAGE * len(row["images"]) + _question(record)
    turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": record.text}]
    return {"messages": turns, "images": row["images"]}


SAID: dict[str, Callable[[Record, dict], dict]] = {"records": _own, "got": _got, "ms_swift": _swift}


def _question(record: Record) -> str:
    return prompts.query(record.task, record.box, record.color)


def _plain(record: Record) -> Record:
    """With paths that can be compared."""
    paths = tuple(
        image if isinstance(image, EncodedImage) else os.path.abspath(image) for image in record.images
    )
    return replace(record, images=paths)


def _size(image: str | EncodedImage) -> tuple[int, int]:
    return open_image(image).size if isinstance(image, EncodedImage) else picture_size(image)


def _separator(target: str, written: int) -> str:
    if target == "got":
        return ",\n" if written else "[\n"
    return "\n" if written else ""


def _out(options: argparse.Namespace) -> Path:
    """OUT itself if it has the ending of its format, else the file of the usual name in it."""
    out, name = Path(options.out), NAMES[options.to]
    if out.suffix in (".json", ".jsonl"):
        if out.suffix != Path(name).suffix:
            raise ConversionError(
                f"--out: {out}; {options.to} is written as {Path(name).suffix}, or into a folder"
            )
        return out
    return out / name


def _read_files(options: argparse.Namespace) -> list[str]:
    """What OUT must not be: the source, or the file of that name in it."""
    return [options.source, os.path.join(options.source, NAMES["records"])]


def _refusals(out: Path) -> Path:
    return out.with_name(out.stem + ".refused.jsonl")


def _cause(refusals: Path, counts: Counter[str]) -> str:
    if not refusals.exists():
        return ", ".join(f"{count} {cause}" for cause, count in counts.items() if count) or "it has none"
    with open(refusals, encoding="utf-8") as file:
        return f"the first cause of {refusals}: {json.loads(next(iter(file)))['cause']}"


if __name__ == "__main__":
    sys.exit(main())
