"""What a folder of documents holds: files of rows, pictures beside texts, label files, and what is neither.

Every file that is not taken is told of. Opens no picture.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from got_train import images
from got_train.data.columns import choose_columns, sample_rows, unread_prompts, unused_columns
from got_train.data.formats import MARKED_UP
from got_train.data.labels import readers
from got_train.data.labels.labelled_page import Losses
from got_train.data.labels.other_formats import other_format
from got_train.data.labels.to_spots import LabelOptions, page_records
from got_train.data.records import Record, RecordError, read_records
from got_train.images import natural_order

ROW_SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
MARKUP = re.compile(r"^#{1,4} |\\\(|\\\[|\\begin\{|^\|.*\|\s*$|\*\*|<table", re.MULTILINE)
SAMPLED_ROWS = 200  # rows whose text tells whether it is marked up
SHOWN_NOTES = 20  # about files of rows that cannot be read


@dataclass(frozen=True)
class Document:
    """A source of rows as a config would name it."""

    path: str
    form: str
    records: Sequence[Record] = ()
    task: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    in_memory: bool = False  # made of labels here: a file has to be written for them


def find_documents(folder: str, task: str) -> tuple[list[Document], list[str]]:
    """Candidates for sources in a folder, or a file, and what is to be told about all else."""
    if not os.path.exists(folder):
        raise RecordError(f"{folder}: no such folder; expected a folder of documents, or a file of rows")
    if os.path.isfile(folder):
        return [Document(folder, "labels" if readers.label_format(folder) else "file", task=task)], []
    try:
        read_records(folder, task=task or None)
        return [Document(folder, "folder", task=task)], _left(Path(folder), taken=True)
    except RecordError as error:
        refusal = str(error)
    if files := readers.label_files(folder):
        form = Counter(files.values()).most_common(1)[0][0]
        return [Document(folder, f"labels, {form}", task=task)], _left(Path(folder), True, files)
    rows = [path for path in _visible(Path(folder)) if path.suffix.lower() in ROW_SUFFIXES]
    rows = [path for path in rows if not _is_labels(path)]
    documents = [Document(str(path), path.suffix[1:].lower(), task=task) for path in rows]
    texts = [] if rows else _text_folders(Path(folder))
    documents += [Document(str(path), "pictures with texts", task=task) for path in texts]
    notes = _left(Path(folder), taken=bool(documents))
    if documents:
        return documents, notes
    named = other_format(folder)
    return documents, [f"not used: {named}" if named else f"note: {refusal}", *notes]


def read_documents(candidates: Sequence[Document], notes: list[str]) -> list[Document]:
    """Those that can be read, with their records, columns and task; the others become notes."""
    documents: list[Document] = []
    refused: dict[str, list[str]] = {}
    for candidate in candidates:
        try:
            document = _of_labels(candidate, notes) if _is_label_form(candidate) else _read(candidate)
            documents.append(document)
            notes += _unread(document)
        except (RecordError, OSError) as error:
            cause = re.sub(r"^.*?(?::\d+|\[\d+\])?: ", "", str(error), count=1)
            refused.setdefault(cause, []).append(str(error))
    for messages in list(refused.values())[:SHOWN_NOTES]:
        more = f" ({len(messages)} files alike)" if len(messages) > 1 else ""
        notes.append(f"not used: {messages[0]}{more}")
    if len(refused) > SHOWN_NOTES:
        notes.append(f"not used: {sum(map(len, list(refused.values())[SHOWN_NOTES:]))} more files")
    return documents


def opened(document: Document) -> Sequence[Record]:
    """The records of a document by its own task and columns."""
    if document.in_memory:
        return [replace(record, task=document.task) for record in document.records]
    return read_records(document.path, task=document.task or None, columns=document.columns or None)


def _is_label_form(document: Document) -> bool:
    return document.form.partition(",")[0] == "labels"


def _of_labels(document: Document, notes: list[str]) -> Document:
    """Labels with positions as records: plain pages, or lines with their boxes where the task is spot."""
    task = document.task or "ocr"
    options, losses = LabelOptions(("spot" if task == "spot" else "ocr",)), Losses()
    records, refusals, placed = [], [], False
    for page in readers.labelled_pages(document.path):
        try:
            if isinstance(page, RecordError):
                raise page
            records += page_records(page, options, losses)
            placed = placed or any(label.box is not None for label in page.labels)
        except RecordError as error:
            refusals.append(error)
    if not records:
        raise next(iter(refusals), RecordError(f"{document.path}: labels without a text; {losses.lines()}"))
    notes += [f"labels: {line}" for line in losses.lines()]
    if refusals:
        notes.append(f"not used: {len(refusals)} label file(s), such as {refusals[0]}")
    if placed:
        notes.append(
            "note: the labels have positions; --task spot teaches lines with boxes, "
            "got convert-data --tasks box single lines"
        )
    return replace(document, records=records, task=task, in_memory=True)


def _read(document: Document) -> Document:
    """As the file says; or with the columns and the task that its rows suggest."""
    try:
        return _with_records(document)
    except RecordError as error:
        columns = choose_columns(document.path)
        if not columns and "no task" not in str(error):
            raise
        try:
            return _with_records(document, columns)
        except RecordError:
            raise error from None


def _with_records(document: Document, columns: Mapping[str, str] | None = None) -> Document:
    """Refused if none of the first rows can be read; one bad row is a matter of the check."""
    folder = os.path.isdir(document.path)
    guess = document.task or ("ocr" if columns is not None or folder else "")
    records = read_records(document.path, task=guess or None, columns=columns)
    texts, refusal = [], None
    for row in range(min(SAMPLED_ROWS, len(records))):
        try:
            texts.append(records[row].text)
        except RecordError as error:
            refusal = refusal or error
    if not texts:
        raise refusal
    marked_up = sum(bool(MARKUP.search(text)) for text in texts) > 0.2 * len(texts)
    if guess and not document.task and (marked_up or (columns or {}).get("text") in MARKED_UP):
        guess = "format"
        records = read_records(document.path, task=guess, columns=columns)
    return Document(document.path, document.form, records, guess, columns or {})


def _unread(document: Document) -> list[str]:
    """Columns that nobody reads; a question that differs from row to row is a matter of the check."""
    if not document.columns:
        return []
    rows = sample_rows(document.path)
    prompt, _ = unread_prompts(rows, document.columns)
    notes = []
    for name, values in unused_columns(rows, document.columns).items():
        shown = ", ".join(repr(value if len(value) < 30 else value[:27] + "...") for value in values[:3])
        counted = f"{len(values)} different values" if len(values) > 1 else "the same in all rows"
        kind = "question " if prompt and name == prompt else ""
        notes.append(f"not read: {kind}column {name} of {document.path}: {counted}, such as {shown}")
    return notes


def _text_folders(folder: Path) -> list[Path]:
    """Folders with pictures and .txt files, at any depth."""
    folders = []
    for inner in (folder, *(path for path in _visible(folder, folders=True))):
        names = {path.suffix.lower() for path in inner.iterdir() if path.is_file()}
        if ".txt" in names and names & set(images.SUFFIXES):
            folders.append(inner)
    return folders


def _left(folder: Path, taken: bool, label_files: Mapping[str, str] | None = None) -> list[str]:
    """What is there and is not read, with what would make rows of it."""
    paths = _visible(folder)
    pdfs = [path for path in paths if path.suffix.lower() == ".pdf"]
    used = set(label_files or ())
    labels = [path for path in paths if str(path) not in used and _is_labels(path)]
    others = Counter(
        path.suffix.lower() or "without a suffix"
        for path in paths
        if path.suffix.lower() not in (*images.SUFFIXES, *ROW_SUFFIXES, ".txt", ".pdf", ".xml", ".hocr")
    )
    notes = []
    if pdfs:
        notes.append(
            f"note: {len(pdfs)} PDF file(s) such as {pdfs[0]}; "
            "python -m data_tools.engines.pdf makes rows of those that carry their text"
        )
    if labels:
        notes.append(
            f"note: {len(labels)} label file(s) with positions such as {labels[0]}; "
            "got convert-data makes rows of them, with boxes (task spot) or without"
        )
    if others:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common())
        notes.append(f"note: {sum(others.values())} file(s) of other kinds are not read: {kinds}")
    if not taken:
        pictures = sum(path.suffix.lower() in images.SUFFIXES for path in paths)
        notes.append(f"note: {pictures} picture(s) and no rows for them; write 1.txt beside 1.png")
    return notes


def _is_labels(path: Path) -> bool:
    """A label file with positions; a .txt beside its picture is an answer unless it holds boxes."""
    try:
        form = readers.label_format(str(path)) if path.suffix.lower() in readers.LABEL_SUFFIXES else ""
        return form not in ("", "SROIE key information")
    except (ValueError, OSError):
        return False


def _visible(folder: Path, folders: bool = False) -> list[Path]:
    """The files (or folders) at any depth, but hidden ones, in natural order."""
    paths = []
    for directory, inner, names in os.walk(folder):
        inner[:] = [name for name in inner if name[0] != "."]
        paths += [Path(directory) / name for name in (inner if folders else names) if name[0] != "."]
    return sorted(paths, key=lambda path: natural_order(str(path)))
