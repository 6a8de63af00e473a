"""Data of one format written as another; what a format cannot say is counted and named."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from got_train import prompts
from got_train.errors import DataError, PromptError
from got_train.images import EncodedImage, image_files, open_image

from .columns import choose_columns, sample_rows, unread_prompts
from .convert_options import RECORD_FILES, ConvertOptions
from .formats import MARKED_UP, RowReader
from .image_copies import ImageCopier
from .labels.labelled_page import Losses, picture_size
from .labels.other_formats import other_format
from .labels.readers import are_labels, inner_label_folders, labelled_pages, labels_beside
from .labels.to_spots import CROPS, TASKS, LabelOptions, page_records
from .record import DataFileError, Record, RecordError, shorten
from .records import as_row, read_records

IMAGE = "<image>"
Rows = Iterator[Record | RecordError]


def convert(options: ConvertOptions, losses: Losses) -> tuple[int, int]:
    """Writes OUT, and what was refused beside it; the number of rows of each."""
    out = records_out(options)
    if out.exists() and any(os.path.exists(file) and out.samefile(file) for file in _read_files(options)):
        raise DataError(f"--out: {out} is the source itself; use another file or folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished, refusals = out.with_name(out.name + ".tmp"), refusals_of(out)
    refusals.unlink(missing_ok=True)
    try:
        with open(unfinished, "w", encoding="utf-8", newline="\n") as file, Refusals(refusals) as refuse:
            written, refused = _write(file, refuse, options, losses)
        if not written:
            raise DataError(f"{options.source}: no row can be converted; {first_cause(refusals, losses)}")
        os.replace(unfinished, out)
    finally:
        unfinished.unlink(missing_ok=True)
    return written, refused


def _write(
    file: TextIO, refuse: Callable[[RecordError], None], options: ConvertOptions, losses: Losses
) -> tuple[int, int]:
    folder = records_out(options).parent
    cuts = bool(set(_tasks(options)) & set(CROPS))  # pictures that stand nowhere yet
    copies = ImageCopier(folder / "images", copy_root(options)) if options.copy_images or cuts else None
    written = refused = 0
    for record in _rows(options, losses):
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


def copy_root(options: ConvertOptions) -> str | None:
    """The folder below which pictures are copied: that of the data. None: from anywhere."""
    if options.copy_from_anywhere or not os.path.exists(options.source):  # a data set of a library
        return None
    beside = options.source if os.path.isdir(options.source) else os.path.dirname(options.source) or "."
    if are_labels(options.source):  # whose pictures may stand one folder up
        beside = os.path.join(beside, os.pardir)
    return options.image_root or beside


class Refusals:
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


def _rows(options: ConvertOptions, losses: Losses) -> Rows:
    if os.path.exists(options.source) and are_labels(options.source):
        check_label_flags(options)
        return _label_rows(options, losses)
    if os.path.isfile(options.source) and (named := other_format(options.source)):
        raise DataError(named)
    if options.tasks or options.order:
        raise DataError(_no_labels(options.source))
    return record_rows(options)


def _no_labels(source: str) -> str:
    """Why --tasks and --order are refused: the source has records, or it cannot be read at all."""
    try:
        read_records(source, task="ocr")[0]
    except RecordError as error:
        if os.path.isdir(source) and (folders := inner_label_folders(source)):
            return f"{source}: labels of several splits, {', '.join(folders)}; give one of these folders"
        return other_format(source) or f"no labels that are known here; {error}"
    return f"--tasks, --order: for labels with positions; {source} has records, leave them out"


def check_label_flags(options: ConvertOptions) -> None:
    """Refuse what is said of records where the source has labels."""
    given = [name for name in ("task", "columns", "split") if getattr(options, name)]
    if given:
        raise DataError(f"--{given[0]}: is for records, but {options.source} has labels; use --tasks")


def _opened(options: ConvertOptions) -> Sequence[Record]:
    """The records as the options say; where these are silent, with the columns and task that rows suggest."""

    columns = options.columns

    def read(columns: dict[str, str], task: str | None) -> Sequence[Record]:
        return read_records(
            options.source,
            image_root=options.image_root,
            allow_empty=options.allow_empty,
            check_files=True,
            task=task,
            columns=columns or None,
            split=options.split,
        )

    guess = {} if columns or os.path.isdir(options.source) else choose_columns(options.source)
    task = options.task or ("format" if guess.get("text") in MARKED_UP else "ocr")
    try:
        records = read(columns, options.task)
        try:
            records[0]
        except RecordError as error:
            if guess and "unknown key" in str(error):
                raise
            if options.task or ": no task;" not in str(error):
                return records  # a row of many, which is refused by itself
            guess = {}
        else:
            return records
    except RecordError:
        if not guess:
            raise
        question, values = unread_prompts(sample_rows(options.source), guess)
        if question:
            raise DataError(
                f"{options.source}: column {question} has {len(values)} different questions, which are not "
                "GOT's; leave out rows that ask for something else, and say in --columns which to read"
            ) from None
    columns_flag = " ".join(f"{key}={name}" for key, name in guess.items())
    print(
        f"note: read with {f'--columns {columns_flag} ' if columns_flag else ''}--task {task}",
        file=sys.stderr,
    )
    return read(columns or guess, task)


def record_rows(options: ConvertOptions) -> Rows:
    records = _opened(options)
    for index in range(len(records)):
        try:
            yield records[index]
        except DataFileError:
            raise
        except RecordError as error:
            yield error


def _tasks(options: ConvertOptions) -> tuple[str, ...]:
    return options.tasks or ("spot",)


def _label_rows(options: ConvertOptions, losses: Losses) -> Rows:
    tasks = _tasks(options)
    unknown = [task for task in tasks if task not in TASKS]
    if unknown:
        raise DataError(f"--tasks: {unknown[0]!r}; expected some of {','.join(TASKS)}")
    choices = LabelOptions(tasks, options.order, options.illegible, options.allow_empty)
    for page in labelled_pages(options.source, options.image_root):
        try:
            yield from [page] if isinstance(page, RecordError) else page_records(page, choices, losses)
        except RecordError as error:
            yield error
    add_labels_beside(options.source, losses)


def add_labels_beside(source: str, losses: Losses) -> None:
    for file, form in labels_beside(source):
        losses.add(f"{form} files in the same folder are not read (convert each by itself)", file)


def _converted(
    record: Record | RecordError, options: ConvertOptions, folder: Path, copies: ImageCopier | None
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
    back = reader.record(row, record.location)
    if _plain(back) != _plain(record):
        raise RecordError(f"{record.location}: would be read back as {shorten(back)}; it is left out")
    return row


def _sayable(record: Record, drop: Sequence[str]) -> Record:
    """The record with its box in thousandths, as a question names it; refused if words cannot say it."""
    if record.char_boxes and "char_boxes" not in drop:
        raise RecordError(
            f"{record.location}: {len(record.char_boxes)} character boxes, which only records say; "
            "use --drop char_boxes"
        )
    if IMAGE in record.text:
        raise RecordError(f"{record.location}: the text holds {IMAGE}, which stands for a picture there")
    record = replace(record, char_boxes=())
    if record.box is None or record.box_unit == "thousandth":
        return record
    try:
        box = prompts.thousandths(record.box, image_size(record.images[0]))
    except PromptError as error:
        raise RecordError(f"{record.location}: {error}") from error
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
                f"{record.location}: {len(images)} images that are no folder of their own, which is how GOT "
                "names several; --copy-images makes one"
            )
        images = [os.path.dirname(images[0])]
    question, answer = f"{IMAGE}\n{_question(record)}", record.text
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"image": images[0], "conversations": turns}


def _swift(record: Record, row: dict) -> dict:
    asked = IMAGE * len(row["images"]) + _question(record)
    turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": record.text}]
    return {"messages": turns, "images": row["images"]}


SAID: dict[str, Callable[[Record, dict], dict]] = {"records": _own, "got": _got, "ms_swift": _swift}


def _question(record: Record) -> str:
    return prompts.question(record.task, record.box, record.color)


def _plain(record: Record) -> Record:
    """With paths that can be compared."""
    paths = tuple(
        image if isinstance(image, EncodedImage) else os.path.abspath(image) for image in record.images
    )
    return replace(record, images=paths)


def image_size(image: str | EncodedImage) -> tuple[int, int]:
    return open_image(image).size if isinstance(image, EncodedImage) else picture_size(image)


def _separator(target: str, written: int) -> str:
    if target == "got":
        return ",\n" if written else "[\n"
    return "\n" if written else ""


def records_out(options: ConvertOptions) -> Path:
    """OUT itself if it has the ending of its format, else the file of the usual name in it."""
    out, name = Path(options.out), RECORD_FILES[options.to]
    if out.suffix in (".json", ".jsonl"):
        if out.suffix != Path(name).suffix:
            raise DataError(f"--out: {out}; {options.to} is written as {Path(name).suffix}, or into a folder")
        return out
    return out / name


def _read_files(options: ConvertOptions) -> list[str]:
    """What OUT must not be: the source, or the file of that name in it."""
    return [options.source, os.path.join(options.source, RECORD_FILES["records"])]


def refusals_of(out: Path) -> Path:
    return out.with_name(out.stem + ".refused.jsonl")


def first_cause(refusals: Path, losses: Losses) -> str:
    if not refusals.exists():
        return "; ".join(losses.lines()) or "it has none"
    with open(refusals, encoding="utf-8") as file:
        return f"the first cause of {refusals}: {json.loads(next(iter(file)))['cause']}"
