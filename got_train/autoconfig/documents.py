"""What a folder of documents holds: files of rows, pictures beside texts, and what is neither.

Every file that is not taken is told of. Opens no picture.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from got_train import images
from got_train.data import line_files
from got_train.data.labels import readers
from got_train.data.records import Record, RecordError, read_records

ROW_SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
# what others call the picture and the answer of a row, the surest first
IMAGE_COLUMNS = ("image", "images", "file_name", "image_path", "img_path", "img", "filename", "path", "file")
TEXT_COLUMNS = (
    "text",
    "ground_truth",
    "answer",
    "label",
    "transcription",
    "response",
    "markdown",
    "gt",
    "caption",
)
MARKUP = re.compile(r"^#{1,4} |\\\(|\\\[|\\begin\{|^\|.*\|\s*$|\*\*|<table", re.MULTILINE)
SAMPLED_ROWS = 200  # rows whose text tells whether it is marked up


@dataclass(frozen=True)
class Document:
    """A source of rows as a config would name it."""

    path: str
    form: str
    records: Sequence[Record] = ()
    task: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)


def find_documents(folder: str, task: str) -> tuple[list[Document], list[str]]:
    """Candidates for sources in a folder, or a file, and what is to be told about all else."""
    if not os.path.exists(folder):
        raise RecordError(f"{folder}: no such folder; a folder of documents, or a file of rows")
    if os.path.isfile(folder):
        return [Document(folder, "file", task=task)], []
    try:
        read_records(folder, task=task or None)
        return [Document(folder, "folder", task=task)], _left(Path(folder), taken=True)
    except RecordError as error:
        refusal = str(error)
    rows = [
        path for path in _visible(Path(folder)) if path.suffix.lower() in ROW_SUFFIXES and not _labels(path)
    ]
    found = [Document(str(path), path.suffix[1:].lower(), task=task) for path in rows]
    texts = [] if rows else _text_folders(Path(folder))
    found += [Document(str(path), "pictures with texts", task=task) for path in texts]
    notes = _left(Path(folder), taken=bool(found))
    return found, notes if found else [f"note: {refusal}", *notes]


def read_documents(found: Sequence[Document], notes: list[str]) -> list[Document]:
    """Those that can be read, with their records, columns and task; the others become notes."""
    made = []
    for document in found:
        try:
            made.append(_read(document))
        except (RecordError, OSError) as error:
            notes.append(f"not used: {error}")
    return made


def _read(document: Document) -> Document:
    """As the file says; or with the columns and the task that its rows suggest."""
    try:
        return _opened(document)
    except RecordError as error:
        columns = _columns(document.path)
        if not columns and "no task" not in str(error):
            raise
        try:
            return _opened(document, columns)
        except RecordError:
            raise error from None


def _opened(document: Document, columns: Mapping[str, str] | None = None) -> Document:
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
    if guess and not document.task and sum(bool(MARKUP.search(text)) for text in texts) > 0.2 * len(texts):
        guess = "format"
        records = read_records(document.path, task=guess, columns=columns)
    return Document(document.path, document.form, records, guess, columns or {})


def _columns(path: str) -> dict[str, str]:
    """Which names of a file stand for the picture and the answer; empty if none is like it."""
    names = _names(path)
    picture = next((name for name in IMAGE_COLUMNS if name in names), None)
    text = next((name for name in TEXT_COLUMNS if name in names), None)
    if picture is None or text is None:
        return {}
    others = {key: key for key in ("task", "box", "color") if key in names}
    return {"images": picture, "text": text, **others}


def _names(path: str) -> list[str]:
    """The keys of the first row of a file."""
    suffix = Path(path).suffix.lower()
    if suffix == ".parquet":
        from pyarrow import parquet

        return parquet.read_schema(path).names
    if suffix == ".csv":
        return line_files.csv_cells(f"{path}:1", next(line_files.forward_lines(path))[1])
    if not os.path.isfile(path):
        return []
    if line_files.first_bytes(path).startswith(b"["):
        rows = json.loads(Path(path).read_text(encoding="utf-8-sig"))
        return list(rows[0]) if rows and isinstance(rows[0], dict) else []
    location, raw = next(line_files.forward_lines(path))
    return list(line_files.json_row(location, raw))


def _text_folders(folder: Path) -> list[Path]:
    """Folders with pictures and .txt files, at any depth."""
    found = []
    for place in (folder, *(path for path in _visible(folder, folders=True))):
        names = {path.suffix.lower() for path in place.iterdir() if path.is_file()}
        if ".txt" in names and names & set(images.SUFFIXES):
            found.append(place)
    return found


def _left(folder: Path, taken: bool) -> list[str]:
    """What is there and is not read, with what would make rows of it."""
    paths = _visible(folder)
    pdfs = [path for path in paths if path.suffix.lower() == ".pdf"]
    labels = [path for path in paths if _labels(path)]
    notes = []
    if pdfs:
        notes.append(
            f"note: {len(pdfs)} PDF file(s) such as {pdfs[0]}; "
            "python -m data_tools.engines.pdf makes rows of those that carry their text"
        )
    if labels:
        notes.append(
            f"note: {len(labels)} label file(s) with positions such as {labels[0]}; python -m "
            "got convert-data makes rows of them, with boxes (task spot) or without"
        )
    if not taken:
        pictures = sum(path.suffix.lower() in images.SUFFIXES for path in paths)
        notes.append(f"note: {pictures} picture(s) and no rows for them; write 1.txt beside 1.png")
    return notes


def _labels(path: Path) -> bool:
    """A label file with positions; a .txt beside its picture is an answer, whatever stands in it."""
    if path.suffix == ".txt" and any(path.with_suffix(suffix).exists() for suffix in images.SUFFIXES):
        return False
    try:
        return path.suffix.lower() in (".xml", ".txt", ".json") and readers.are_labels(path)
    except (ValueError, OSError):
        return False


def _visible(folder: Path, folders: bool = False) -> list[Path]:
    """The files (or folders) at any depth, but hidden ones, in natural order."""
    found = []
    for place, inner, names in os.walk(folder):
        inner[:] = [name for name in inner if name[0] != "."]
        found += [Path(place) / name for name in (inner if folders else names) if name[0] != "."]
    return sorted(found, key=lambda path: images.natural_order(str(path)))
