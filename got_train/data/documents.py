"""Which document a record belongs to, so that splits, leaks and intervals take documents whole.

The row says it (`document`), else the name of its picture does: pages, crops and lines of one scan.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import PurePath

import numpy as np

from got_train.errors import UsageError
from got_train.images import EncodedImage

from .record import Record

# invoice_7_page-3 belongs to invoice_7, 335_crop_00012 and 335_00012 to 335
_PART = r"page|window|pg|p|seite|blatt|sheet|slice|crop|line|word|region|tile|box|zone|part|img|l|w"
# a word of its own, or as in invoicePage3: a bill_1 is no line of a bil
_BEGINS = r"(?:(?<![^\W\d_])|(?<=(?-i:[a-z]))(?=(?-i:[A-Z])))"
_NAMED = re.compile(rf"^(?:(.*?)[-_. ]*{_BEGINS}(?:{_PART})[-_. ]*\d+|(.+\.pdf)[-_. ]+\d+)$", re.IGNORECASE)
_NUMBERED = re.compile(r"^(.*?\w)[-_. ]+\d+$")
FEWEST = 5  # documents that names ending in a number tell; two of them may be two boxes of scans
BY_ROW, BY_NAME, BY_NUMBER, BY_FILE = (
    "the rows' `document`",
    "pages and crops by their names",
    "names that end in a number",
    "the file",
)


def documents_of(records: Iterable[Record], rule: str = "") -> tuple[list[str], str]:
    """The document of every record, and by what it was told.

    `rule` is `folder`, `file`, or a regular expression with one group, which finds the document in the path.

    Names that only end in a number (`335_00012`) are parts of a document where several records share what
    stands before it, and there are several such documents; `scan_1`, `scan_2` are documents of their own.
    """
    return documents_of_pictures([(record.document, _path(record)) for record in records], rule)


def documents_of_pictures(
    pictures: Sequence[tuple[str | None, str]], rule: str = ""
) -> tuple[list[str], str]:
    """The same of rows that say their document, or nothing, and the path of their first picture."""
    if rule:
        return [_by_rule(path, rule) for _, path in pictures], f"{rule!r}"
    files = [_file(path) for _, path in pictures]
    if any(document for document, _ in pictures):
        return [document or file for (document, _), file in zip(pictures, files, strict=True)], BY_ROW
    names = [_file_and_name(path)[1] for _, path in pictures]
    if names != files:
        return names, BY_NAME
    numbered = [_numbered(path) for _, path in pictures]
    if FEWEST <= len(set(numbered)) < len(set(files)):
        return numbered, BY_NUMBER
    return files, BY_FILE


def nested_share(records: Iterable[Record], share: float) -> np.ndarray:
    """Rows of whole documents that have about this share of them all; every larger share holds these too.

    Documents come in the order of the hashes of their names, so that the choice is the same everywhere.
    """
    names, _ = documents_of(records)
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        rows.setdefault(name, []).append(row)
    chosen: list[int] = []
    for name in sorted(rows, key=lambda name: hashlib.sha256(PurePath(name).name.encode()).digest()):
        if chosen and len(chosen) + len(rows[name]) / 2 > share * len(names):
            break
        chosen += rows[name]
    return np.array(sorted(chosen), dtype=np.int64)


def _path(record: Record) -> str:
    image = record.images[0]
    if isinstance(image, EncodedImage) and image.name.startswith("images["):  # bytes that have no name
        return hashlib.sha256(image.data).hexdigest()
    return str(image)


def _file(image: str) -> str:
    return _file_and_name(image)[0]


@lru_cache(8192)  # many rows show one page
def _file_and_name(image: str) -> tuple[str, str]:
    """Without its suffix, and without a word for a page or crop and its number, twice: deed_page3_line12."""
    path = PurePath(image)
    stem = path.stem
    for _ in range(2):
        match = _NAMED.match(stem)
        name = (match[1] or match[2] or "").rstrip("-_. ") if match else ""
        if not name.strip("-_. "):
            break
        stem = name
    return str(path.parent / path.stem), str(path.parent / stem)


def _numbered(image: str) -> str:
    path = PurePath(image)
    match = _NUMBERED.match(path.stem)
    return str(path.parent / (match[1] if match else path.stem))


def document_key(record: Record) -> str:
    """The document that a row or the name of its picture tells by itself; empty if that is the file's own."""
    if record.document:
        return record.document
    file, name = _file_and_name(_path(record))
    return name if name != file else ""


def check_rule(rule: str) -> None:
    """Refuse what is neither `folder`, `file` nor a regular expression with a group."""
    if rule in ("", "folder", "file"):
        return
    try:
        groups = re.compile(rule).groups
    except re.error as error:
        raise UsageError(
            f"{rule!r} is not a regular expression ({error}); use one such as '(\\d+)_'"
        ) from error
    if groups != 1:
        raise UsageError(f"{rule!r} has {groups} groups; expected one, which is the document")


def _by_rule(image: str, rule: str) -> str:
    path = PurePath(image)
    if rule == "folder":
        return str(path.parent)
    match = None if rule == "file" else re.search(rule, str(path))
    return match[1] if match else _file(image)
