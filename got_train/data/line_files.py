"""Data files of lines, lists and texts, each row found by its place and read when it is asked for.

Knows bytes, JSON and CSV; what a row means is a matter of formats.py.
"""

from __future__ import annotations

import csv
import io
import json
import operator
import os
import re
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from got_train import images as pictures
from got_train import prompts, remote_files
from got_train.strict_files import strict_json, unique_keys

from .box_lines import box_format, text_lines
from .formats import RowReader
from .record import DataFileError, Record, RecordError, shorten

FOLDER_FORMS = (
    "records.jsonl, metadata.jsonl or .csv, parquet files, a saved data set, or pictures with a .txt file of "
    "the same name"
)
SAMPLED = 20  # texts of a folder that are looked at before any is read
ONE_PICTURE = (*prompts.ONE_VIEW, "multi_crop", "multi_crop_ocr")  # tasks of a picture and a text
_SPLITS = {"train", "training", "test", "val", "valid", "validation", "dev", "eval"}
HEADLESS = ("image", "text")  # what the two columns of a CSV file without a head are
_DELIMITERS = (",", ";", "\t", "|")
_BOM, _SPACE = b"\xef\xbb\xbf", b" \t\r\n"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


class RecordFile(Sequence):
    """The records of a JSONL file, a JSON list or a CSV file, found by their byte offsets.

    Holds 8 bytes a record and no open file, so it can be pickled and shared by threads and forked processes.
    """

    def __init__(self, path: str | os.PathLike, reader: RowReader | None = None) -> None:
        self.path = str(path)
        self._file = self.path
        if remote_files.is_url(self.path):
            self._file = str(remote_files.cache().data_file(self.path))
        self._reader = reader or RowReader(root=os.path.dirname(self.path))
        self._is_list = first_bytes(self._file).startswith(b"[")
        self._size = os.path.getsize(self._file)
        self._header: list[str] = []
        self._delimiter = csv_delimiter(self._file) if is_csv(path) else ""
        # One start more than records: each ends where the next begins.
        starts, blanks = (_list_starts(self._file), array("q")) if self._is_list else self._line_starts()
        self._starts, self._blanks = np.array(starts, np.int64), np.array(blanks, np.int64)
        if len(self._starts) < 2:
            raise RecordError(f"{path}: holds no records; expected at least one")

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, index: int) -> Record:
        index = checked_index(index, len(self))
        location, raw = self.location(index), self._bytes(index)
        row = (
            csv_row(location, raw, self._header, self._delimiter)
            if self._header
            else json_row(location, raw, self._is_list)
        )
        return self._reader.record(row, location)

    def location(self, index: int) -> str:
        """file:line of a record, or file[index] in a JSON list."""
        if self._is_list:
            return f"{self.path}[{index}]"
        return f"{self.path}:{index + 1 + int(np.searchsorted(self._blanks, index, side='right'))}"

    def _line_starts(self) -> tuple[array, array]:
        if not self._delimiter:
            return _line_starts(self._file)
        starts, blanks = _line_starts(self._file, quoted=True)
        if len(starts) < 2:
            return starts, blanks
        self._starts = starts
        self._header = csv_cells(f"{self.path}:1", self._bytes(0), self._delimiter)
        if self._header[0].lower().endswith(pictures.SUFFIXES):  # the first line is a row
            if len(self._header) < 2 or self._reader.columns:
                named = f"the first line names no columns but the picture {self._header[0]}"
                raise RecordError(f"{self.path}:1: {named}; write a first line such as image,text")
            self._refuse_third_column(len(starts) - 1)
            self._header = list(HEADLESS)
            return starts, blanks
        if len(self._header) == 2 and self._header[1].lower().endswith(pictures.SUFFIXES):
            self._header = list(reversed(HEADLESS))
            return starts, blanks
        try:
            self._reader.columns_to_read([name.strip() for name in self._header], self.path)
        except RecordError as error:
            self._refuse_headless(error)
            raise
        return starts[1:], array("q", [0, *(max(0, before - 1) for before in blanks)])

    def _refuse_third_column(self, count: int) -> None:
        """A last cell that says the split, or the same in all rows, is no part of their texts."""
        rows = (csv_cells(self.path, self._bytes(row), self._delimiter) for row in range(min(count, SAMPLED)))
        cells = list(rows)
        last = {row[-1].strip().lower() for row in cells}
        alike = {len(row) for row in cells} == {len(self._header)} and len(self._header) > 2
        same = len(last) == 1 and len(cells) > 2
        if alike and (same or last <= _SPLITS or all(cell.replace(".", "", 1).isdigit() for cell in last)):
            raise RecordError(
                f"{self.path}:1: {len(self._header)} cells a line and no head, the last such as "
                f"{cells[0][-1].strip()!r}; write a first line such as image,text,split"
            )

    def _refuse_headless(self, error: RecordError) -> None:
        """A first line with a picture's name without its suffix is a row and no head."""
        for cell in filter(None, self._header):
            path = os.path.join(self._reader.root, cell)
            there = next(filter(os.path.isfile, (path + suffix for suffix in pictures.SUFFIXES)), "")
            if there:
                raise RecordError(
                    f"{self.path}:1: a row and no head, as {cell} is the picture {there}; write a first line "
                    "such as image,text, and the pictures with their suffixes"
                ) from error

    def _bytes(self, index: int) -> bytes:
        start, end = (int(offset) for offset in self._starts[index : index + 2])
        try:
            with open(self._file, "rb") as file:
                if os.fstat(file.fileno()).st_size != self._size:
                    raise DataFileError(f"{self.path}: changed since it was opened; start again")
                file.seek(start)
                return file.read(end - start).strip(_SPACE)
        except OSError as error:
            raise DataFileError(f"{self.path}: {error.strerror}; expected a readable file") from error


class TextFolder(Sequence):
    """Pictures of a folder, each with its answer in a .txt file of the same name beside it.

    With `image_root` the pictures are looked for there. The last line end of a file is not part of its text.
    A text may also be called 1.TXT, 1.gt.txt (as OCRopus, Tesseract and Kraken have it) or 1.png.txt.
    """

    def __init__(
        self, folder: str | os.PathLike, image_root: str | os.PathLike | None = None, **options: Any
    ) -> None:
        root = str(folder if image_root is None else image_root)
        self._reader = RowReader(root=root, **options)
        self._folder, self._task = str(folder), self._reader.task or "ocr"
        if self._task not in ONE_PICTURE:
            raise RecordError(f"{folder}: task is {self._task!r}; expected one of {', '.join(ONE_PICTURE)}")
        self._texts = self._text_files(folder)
        texts = set(self._texts)
        if not os.path.isdir(root):
            raise RecordError(f"{root}: no such folder; expected the folder of the images")
        self._images = pictures.image_files(root)
        stems = [self._stem(image) for image in self._images]
        if not texts and not stems:
            raise RecordError(f"{folder}: holds no records; expected {FOLDER_FORMS}")
        for alone, other, ending in (
            (set(stems) - texts, folder, ".txt"),
            (texts - set(stems), root, " picture"),
        ):
            if alone:
                first = min(alone, key=pictures.natural_order)
                raise RecordError(
                    f"{other}: no {first}{ending} ({len(alone)} missing); expected one text a picture"
                )
        self._refuse_boxes()
        if len(set(stems)) < len(stems):
            twice = next(stem for stem in stems if stems.count(stem) > 1)
            raise RecordError(f"{root}: {stems.count(twice)} pictures {twice}; expected one a text")

    @staticmethod
    def _text_files(folder: str | os.PathLike) -> dict[str, str]:
        """The texts of a folder by what they share with the names of their pictures."""
        files: dict[str, str] = {}
        for name in sorted(os.listdir(folder)):
            if name[0] == "." or not name.lower().endswith(".txt"):
                continue
            stem = Path(name).stem
            shared = Path(stem).stem if stem.lower().endswith((".gt", *pictures.SUFFIXES)) else stem
            if shared in files:
                raise RecordError(f"{folder}: {files[shared]} and {name}; expected one text a picture")
            files[shared] = name
        return files

    def _stem(self, image: str) -> str:
        """What the picture shares with its text; of OCRopus' 1.bin.png and 1.nrm.png that is 1."""
        stem = Path(image).stem
        short = stem.removesuffix(".bin").removesuffix(".nrm").removesuffix(".gt")
        return short if stem not in self._texts and short in self._texts else stem

    def _text_of(self, image: str) -> str:
        return os.path.join(self._folder, self._texts[self._stem(image)])

    def _refuse_boxes(self) -> None:
        """A .txt beside a picture is its answer, unless it holds boxes: nobody means these as text."""
        images = self._images[:: max(1, len(self._images) // SAMPLED)]
        files = [self._text_of(image) for image in images]
        forms = [box_format(text_lines(file)) for file in files]
        boxes = [(file, form) for file, form in zip(files, forms, strict=True) if form]
        if len(boxes) > len(files) / 2 and "boxes" not in self._reader.accept_answers:
            file, form = boxes[0]
            raise RecordError(
                f"{self._folder}: its .txt files hold boxes ({form}), such as {file}; "
                "got convert-data makes records of them, accept_answers: [boxes] if that is meant"
            )

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Record:
        image = self._images[checked_index(index, len(self))]
        location = self._text_of(image)
        try:
            text = Path(location).read_text(encoding="utf-8-sig").removesuffix("\n")
        except UnicodeDecodeError as error:
            raise RecordError(f"{location}: not UTF-8 ({error}); save it as UTF-8") from error
        except OSError as error:
            raise RecordError(f"{location}: {error.strerror}; expected a readable file") from error
        return self._reader.validate(Record((image,), self._task, text, location=location))


class ConcatDataset(Sequence):
    """Several sequences of records as one, in order."""

    def __init__(self, parts: Sequence[Sequence[Record]]) -> None:
        self._parts = parts
        self._ends = list(accumulate(len(part) for part in parts))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Record:
        index = checked_index(index, len(self))
        part = bisect_right(self._ends, index)
        return self._parts[part][index - self._ends[part]]  # counted from the part's end


def first_bytes(path: str | os.PathLike) -> bytes:
    """The beginning of a data file from its first character on, which tells a JSON list from lines."""
    try:
        with open(path, "rb") as file:
            start = file.read(4096)
    except FileNotFoundError as error:
        raise RecordError(f"{path}: no such file; expected a .jsonl or .json file, or a folder") from error
    except OSError as error:
        raise DataFileError(f"{path}: {error.strerror}; expected a readable file") from error
    if start.startswith(_UTF16):
        raise RecordError(f"{path}: is UTF-16; save it as UTF-8")
    return start.removeprefix(_BOM).lstrip(_SPACE)


def has_utf16_mark(path: str | os.PathLike) -> bool:
    """Whether a file begins with the byte order mark of UTF-16; false where it cannot be opened."""
    try:
        with open(path, "rb") as file:
            return file.read(2).startswith(_UTF16)
    except OSError:
        return False


def meta_rows(path: str | os.PathLike) -> dict | None:
    """The rows of a PaddleMIX meta JSON, or None for all other data files."""
    if Path(path).suffix.lower() != ".json" or not first_bytes(path).startswith(b"{"):
        return None
    try:
        rows = strict_json(Path(path).read_bytes().decode("utf-8-sig"), allow_nan=True)
    except (ValueError, RecursionError):
        return None  # lines under the name of .json, or broken: the line will tell
    is_meta = rows and all(isinstance(row, dict) and "annotations" in row for row in rows.values())
    return rows if is_meta else None


def _line_starts(path: str, quoted: bool = False) -> tuple[array, array]:
    """Byte offsets of all but the blank lines, with the end; and how many stand before each blank line.

    `quoted` takes the lines inside a CSV cell for such blank lines.
    """
    starts, blanks, inside = array("q"), array("q"), False
    with open(path, "rb") as file:
        offset = file.seek(len(_BOM) if file.read(len(_BOM)) == _BOM else 0)
        for line in file:
            if line.strip(_SPACE) and not inside:
                starts.append(offset)
            else:
                blanks.append(len(starts))
            inside ^= quoted and line.count(b'"') % 2 == 1
            offset += len(line)
    if inside:
        raise RecordError(f'{path}: a " is open at the end of the file; close every quoted cell')
    starts.append(offset)
    return starts, blanks


def _list_starts(path: str) -> array:
    """Byte offsets of the elements of a JSON list, with the end of the last."""
    # As Latin-1 a place in the text is a byte offset, and all that JSON is built of is ASCII in UTF-8 too.
    text = Path(path).read_bytes().decode("latin-1")
    decoder, space = json.JSONDecoder(), re.compile(r"[ \t\n\r]*")
    starts = array("q")
    at = space.match(text, text.index("[") + 1).end()
    more = text[at : at + 1] != "]"
    try:
        while more:
            starts.append(at)
            at = space.match(text, decoder.raw_decode(text, at)[1]).end()
            more = text[at : at + 1] == ","
            if more:
                at = space.match(text, at + 1).end()
            elif text[at : at + 1] != "]":
                raise json.JSONDecodeError("a comma or ] is missing", text, at)
        if space.match(text, at + 1).end() < len(text):
            raise json.JSONDecodeError("something follows the list", text, at + 1)
    except (ValueError, RecursionError) as error:
        location = f"{path}[{max(0, len(starts) - 1)}]"
        raise RecordError(f"{location}: not JSON: {error}; expected a list of objects") from error
    starts.append(at)
    return starts


def json_row(location: str, raw: bytes, in_list: bool = False) -> dict:
    """The object of a line, or of an element of a list."""
    try:
        text = _text(location, raw)
        decoder = json.JSONDecoder(object_pairs_hook=unique_keys)
        row = decoder.raw_decode(text)[0] if in_list else decoder.decode(text)
    except json.JSONDecodeError as error:
        what = f"{error.msg} at column {error.colno}"
        raise RecordError(
            f"{location}: not JSON: {what}; expected one object a line, or a list of objects"
        ) from error
    except RecordError:
        raise
    except (ValueError, RecursionError) as error:  # numbers or nesting beyond Python's limits
        raise RecordError(
            f"{location}: not JSON: {error}; expected one object a line, or a list of objects"
        ) from error
    if not isinstance(row, dict):
        raise RecordError(f"{location}: {shorten(row)}; expected an object with images, task and text")
    return row


def is_csv(path: str | os.PathLike) -> bool:
    return str(path).lower().endswith((".csv", ".tsv"))


def csv_delimiter(path: str) -> str:
    """What parts the cells of a file: behind the picture of its first line, or the commonest in that line."""
    location, raw = next(forward_lines(path), ("", b""))
    line = _text(location, raw)
    if re.fullmatch(r"sep=.", line.strip(), re.IGNORECASE):
        raise RecordError(f"{location}: {line.strip()!r} is for Excel alone; leave this line out")
    suffixes = "|".join(suffix[1:] for suffix in pictures.SUFFIXES)
    if first := re.match(rf'(?:"[^"]*"|[^,;\t|]+\.(?:{suffixes}))([,;\t|])', line, re.IGNORECASE):
        return first[1]
    return max(_DELIMITERS, key=line.count)


def csv_row(location: str, raw: bytes, header: Sequence[str], delimiter: str = ",") -> dict:
    cells = csv_cells(location, raw, delimiter)
    if tuple(header) == HEADLESS and len(cells) > 2:  # a text with commas that nobody quoted
        cells = [cells[0], delimiter.join(cells[1:])]
    if len(cells) != len(header):
        raise RecordError(f"{location}: {len(cells)} cells; expected {len(header)}, as in the first line")
    return {
        name.strip(): cell.lstrip() if name[:1] == " " else cell  # `image, text` has a space in all rows
        for name, cell in zip(header, cells, strict=True)
    }


def csv_cells(location: str, raw: bytes, delimiter: str = ",") -> list[str]:
    try:
        text = io.StringIO(_text(location, raw), newline="")
        return next(csv.reader(text, strict=True, delimiter=delimiter))
    except csv.Error as error:
        raise RecordError(
            f"{location}: not CSV: {error}; put cells with commas or quotes in quotes"
        ) from error


def _text(location: str, raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise RecordError(f"{location}: not UTF-8 ({error}); save it as UTF-8") from error


def forward_lines(path: str) -> Iterator[tuple[str, bytes]]:
    """file:line and bytes of all but the blank lines, read forward."""
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                line = line.removeprefix(_BOM) if number == 1 else line
                if line.strip(_SPACE):
                    yield f"{path}:{number}", line.strip(_SPACE)
    except OSError as error:
        raise DataFileError(f"{path}: {error.strerror}; expected a readable file") from error


def checked_index(index: int, count: int) -> int:
    """The place in a sequence that an index names, which may count from its end."""
    if not -count <= operator.index(index) < count:
        raise IndexError(f"record {index} of {count}")
    return operator.index(index) % count
