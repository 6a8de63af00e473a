"""A record: one line of data, checked when it is made. Knows the words of the tasks; no file and no token."""

import functools
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from got_train import prompts
from got_train.errors import DataError
from got_train.formats import spots as spotting
from got_train.images import EncodedImage

RENAMED_KEYS = {"glyphs": "char_boxes"}  # of rows that earlier versions drew: old name -> name
UNITS = ("pixel", "thousandth")  # thousandth: of the image's width or height, as the prompt says it


class RecordError(DataError):
    """A data file or one of its records that cannot be used, named by file and line."""


class DataFileError(RecordError):
    """A data file of which no row can be used any more: gone, changed while it was read, or damaged."""


_WHERE = re.compile(r"(.+?:\d+): ", re.DOTALL)  # file:line, whatever the file is called


def split_message(error: Exception) -> tuple[str, str]:
    """`<where>: <what is wrong>` in its two halves; without a where the first is empty."""
    message = str(error)
    if row := _WHERE.match(message):
        return row[1], message[row.end() :]
    location, _, cause = message.partition(": ")
    return (location, cause) if cause else ("", message)


def location_of(records: object, row: int) -> str:
    """file:line of a row, whether it can be used or not."""
    try:
        return records[row].location
    except RecordError as error:
        return split_message(error)[0]


@dataclass(frozen=True, slots=True)
class Record:
    """One task with its answer. `images` open as they stand: readers have joined them with their folder."""

    images: tuple[str | EncodedImage, ...]  # the page, its tiles (multi_crop), or pages (multi_page)
    task: str
    text: str
    box: tuple[float, ...] | None = None  # x1, y1, x2, y2 or a point x, y
    color: str | None = None
    box_unit: str = "pixel"
    char_boxes: tuple[
        tuple, ...
    ] = ()  # (character, x1, y1, x2, y2) in pixels, for the encoder's auxiliary loss
    document: str = ""  # what the page belongs to; empty: told by its file, see documents.py
    rejected: str = ""  # a wrong answer that `text` replaced, for preferences
    location: str = field(default="record", compare=False)  # file:line, for messages

    def __post_init__(self) -> None:
        self._check_words(self.location)
        self._check_images(self.location)
        if self.box is not None:
            self._check_box(self.location, self.box)
        for char_box in self.char_boxes:
            box = char_box[1:] if isinstance(char_box, tuple) else ()
            numbers = len(box) == 4 and all(type(value) in (int, float) for value in box)
            numbers = numbers and all(map(math.isfinite, box))
            if not numbers or not isinstance(char_box[0], str) or len(char_box[0]) != 1:
                raise RecordError(
                    f"{self.location}: char_boxes holds {shorten(char_box)}; expected a character, "
                    "x1, y1, x2, y2"
                )

    def _check_words(self, location: str) -> None:
        check_choice(location, "task", self.task, prompts.TASKS)
        check_choice(location, "box_unit", self.box_unit, UNITS)
        if self.color is not None:
            check_choice(location, "color", self.color, prompts.COLORS)
        if self.box is not None and self.color is not None:
            raise RecordError(
                f"{location}: box and color together; expected one region, named by one of them"
            )
        if self.task not in prompts.REGIONAL and (self.box, self.color) != (None, None):
            named = "box" if self.color is None else "color"
            raise RecordError(f"{location}: {named} with task {self.task}; only ocr and format read a region")
        if not isinstance(self.text, str):
            raise RecordError(f"{location}: text is {shorten(self.text)}; expected a string")
        _check_unicode(location, "text", self.text)
        if not isinstance(self.rejected, str):
            raise RecordError(f"{location}: rejected is {shorten(self.rejected)}; expected a string")
        _check_unicode(location, "rejected", self.rejected)
        if self.task == "spot":
            _check_spots(location, self.text)

    def _check_images(self, location: str) -> None:
        if not isinstance(self.images, tuple):
            raise RecordError(f"{location}: images is {shorten(self.images)}; expected a tuple of paths")
        check_images(location, self.images)
        if len(self.images) > 1 and self.task in prompts.ONE_VIEW:
            several = f"{len(self.images)} images with task {self.task}"
            raise RecordError(
                f"{location}: {several}; expected one, or task multi_page (pages) or multi_crop (tiles)"
            )

    def _check_box(self, location: str, box: tuple[float, ...]) -> None:
        numbers = isinstance(box, tuple) and all(type(number) in (int, float) for number in box)
        if not numbers or len(box) not in (2, 4) or not all(map(math.isfinite, box)):
            raise RecordError(
                f"{location}: box is {shorten(box)}; four numbers x1, y1, x2, y2, or a point x, y"
            )
        if min(box) < 0:
            raise RecordError(
                f"{location}: box {list(box)} begins outside the image; expected no number below 0"
            )
        cut = self.box_unit == "thousandth"  # down to whole thousandths: a thin box may have lost its width
        if cut and not all(type(number) is int and number <= 1000 for number in box):
            raise RecordError(
                f"{location}: box {list(box)} in thousandths; expected whole numbers from 0 to 1000"
            )
        if any(low > high or (low == high and not cut) for low, high in zip(box, box[2:], strict=False)):
            raise RecordError(f"{location}: box {list(box)} has no area; expected x1 < x2 and y1 < y2")


def _check_spots(location: str, text: str) -> None:
    """Refuse an answer that is not, sign by sign, as the grammar writes it: it would be learnt so."""
    spots, faults = spotting.parse(text)
    if faults:
        raise RecordError(f"{location}: text of task spot, {faults[0]}")
    lines, written = text.split("\n"), spotting.write(spots).split("\n")
    for number, (line, expected) in enumerate(zip(lines, written, strict=False), 1):
        if line != expected:
            raise RecordError(
                f"{location}: text of task spot, line {number}: {shorten(line)}; expected {shorten(expected)}"
            )
    if len(lines) != len(written):
        raise RecordError(
            f"{location}: text of task spot has {len(lines) - len(written)} blank lines; expected none"
        )


def rename_keys(row: dict[str, Any]) -> dict[str, Any]:
    """The row by today's names: data drawn by an earlier version is read, and told once."""
    old_names = [name for name in RENAMED_KEYS if name in row and RENAMED_KEYS[name] not in row]
    for old in old_names:
        tell_once(f"rows have {old!r}, which is called {RENAMED_KEYS[old]!r} now; read as that")
    return {RENAMED_KEYS[name] if name in old_names else name: value for name, value in row.items()}


@functools.cache
def tell_once(message: str) -> None:
    print(f"note: {message}", file=sys.stderr)


def check_choice(location: str, name: str, value: object, choices: Sequence[str]) -> None:
    """Refuse a value that is none of the choices."""
    if value not in choices:
        raise RecordError(f"{location}: {name} is {shorten(value)}; {nearest_choice(value, choices)}")


def nearest_choice(value: object, choices: Sequence[str]) -> str:
    close = get_close_matches(str(value), choices, 1)
    return f"did you mean {close[0]}?" if close else f"expected one of {', '.join(choices)}"


def check_images(location: str, paths: Sequence) -> None:
    if not paths:
        raise RecordError(f"{location}: images is empty; expected at least one path")
    for index, path in enumerate(paths):
        if isinstance(path, EncodedImage):
            continue
        if not isinstance(path, str) or not path:
            raise RecordError(
                f"{location}: images[{index}] is {shorten(path)}; expected the path of an image"
            )
        _check_unicode(location, f"images[{index}]", path)


def _check_unicode(location: str, name: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = ascii(text[error.start])
        raise RecordError(
            f"{location}: {name} holds half a character, {half}; expected whole ones"
        ) from error


def shorten(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."
