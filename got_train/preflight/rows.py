"""One row as a run would take it: its pictures opened, its prompt and answer counted; nothing is kept of it.

Runs in processes of its own, without Paddle.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from got_train import images, prompts
from got_train.data import text_height
from got_train.data.characters import unfamiliar
from got_train.data.collator import Collator
from got_train.data.documents import document_key
from got_train.data.record import split_message
from got_train.data.records import DataFileError, Record, RecordError
from got_train.errors import ImageError
from got_train.evaluation.metrics.degeneration import repeats
from got_train.images import EncodedImage

from . import fingerprints
from .findings import ERROR, WARNING, Finding
from .statistics import ScriptTokens, Statistics, script_runs

WIDE = 3  # times its height, from which on a picture of one line is a crop of it
BLANK = 24  # grey levels between the lightest and the darkest; paper and JPEG alone stay below
_SUBJECTS = {"query": "question", "box": "region", "color": "region"}


@dataclass
class ChunkResult:
    """What a piece of a source has shown."""

    source: int
    statistics: Statistics = field(default_factory=Statistics)
    findings: list[Finding] = field(default_factory=list)
    fingerprints: list[tuple] = field(default_factory=list)
    longest: list[tuple[int, int]] = field(default_factory=list)  # tokens, row: the longest few

    def add(self, finding: Finding) -> None:
        self.findings.append(finding)


@dataclass
class Pictures:
    """What the rows of one page share, so that it is decoded once; of the pixels it keeps only numbers."""

    images: tuple[str | EncodedImage, ...]
    size: tuple[int, int]  # of the first
    has_ink: bool  # any of them
    content: int  # a hash of the files
    dhash: np.ndarray
    grey: Image.Image | None  # the first, until pictures of another row are opened

    @cached_property
    def text_height(self) -> text_height.TextHeight | None:
        return text_height.measure_text_height(self._grey())

    @cached_property
    def ink_box(self) -> tuple[int, int, int, int] | None:
        """The box around what is written, of a picture of one line."""
        return text_height.ink_box(self._grey())

    def _grey(self) -> Image.Image:
        return self.grey or images.open_image(self.images[0]).convert("L")


class OpenedPictures:
    """Those of the latest rows: rows of one page need not follow each other."""

    def __init__(self, most: int = 4096) -> None:
        self.most = most
        self._kept: OrderedDict[tuple[str, ...], Pictures] = OrderedDict()
        self._last: Pictures | None = None

    def pictures(self, record: Record) -> Pictures:
        if self._last is not None and self._last.images == record.images:
            return self._last
        are_files = all(isinstance(image, str) for image in record.images)
        if are_files and record.images in self._kept:
            self._kept.move_to_end(record.images)
            return self._kept[record.images]
        if self._last is not None:
            self._last.grey = None
            self._last = None  # before the next is decoded
        self._last = opened = open_pictures(record)
        if are_files:
            self._kept[record.images] = opened
            if len(self._kept) > self.most:
                self._kept.popitem(last=False)
        return opened


@dataclass(frozen=True)
class RowChecker:
    """Looks at rows; `stride` of a source says at which of them more closely (lines of text, scripts)."""

    collator: Collator
    level: dict[int, str] = field(default_factory=dict)  # of a bad row in each source; ERROR otherwise
    keep: int = 16  # of the longest rows of each piece
    trained: frozenset[str] | None = None  # characters that the model knows, where its folder says so
    opened: OpenedPictures = field(default_factory=OpenedPictures, repr=False, compare=False)

    def check(
        self, source: int, rows: Iterable[tuple[int, Record | RecordError]], stride: int
    ) -> ChunkResult:
        result = ChunkResult(source)
        for row, record in rows:
            result.statistics.rows += 1
            try:
                if isinstance(record, RecordError):
                    raise record
                pictures = self.opened.pictures(record)
                self._record(result, row, record, pictures, closely=row % stride == 0)
            except Exception as error:  # whatever a row does, the others are still looked at
                result.statistics.bad += 1
                result.add(self._bad(source, record, error))
        result.longest = sorted(result.longest, reverse=True)[: self.keep]
        return result

    def _bad(self, source: int, record: Record | RecordError, error: Exception) -> Finding:
        if isinstance(error, RecordError):
            level = ERROR if isinstance(error, DataFileError) else self.level.get(source, ERROR)
            return Finding.of(error, subject_of(error), level)
        what = f"cannot be checked ({type(error).__name__}: {error})"
        return Finding(
            ERROR, "row", getattr(record, "location", ""), what, "leave this row out, and report it"
        )

    def _record(
        self, result: ChunkResult, row: int, record: Record, pictures: Pictures, closely: bool
    ) -> None:
        size = pictures.size
        views, grid = self._views(record, pictures)
        question, answer = self.collator.tokens(record, views, size)
        stats = result.statistics
        stats.tasks[_kind(record)] += 1
        for numbers, value in (
            (stats.tokens, len(question) + len(answer)),
            (stats.answers, len(answer)),
            (stats.characters, len(record.text)),
            (stats.views, views),
            (stats.sides, max(size)),
        ):
            numbers.add(value)
        self.collator.check_length(record, question, answer)
        result.longest.append((len(question) + len(answer), row))
        if repeats(record.text):
            result.add(_loop(record))
        if blank := _blank(record, pictures.has_ink):
            result.add(blank)
        result.fingerprints.append(_fingerprint(result.source, row, record, pictures))
        if closely:
            self._lines(stats, record, pictures, grid)
            self._scripts(stats, record.text)
            stats.unfamiliar.update(unfamiliar(record.text, self.collator.tokenizer, self.trained))

    def _views(self, record: Record, pictures: Pictures) -> tuple[int, tuple[int, int]]:
        """How many views images.views would make, and into how many columns and rows it would cut."""
        if not record.task.startswith("multi_crop") or len(record.images) > 1:
            return len(record.images), (1, 1)
        columns, rows = text_height.tiles(pictures.size, self.collator.max_crops, self.collator.side)
        return columns * rows + (columns * rows > 1), (columns, rows)

    def _lines(self, stats: Statistics, record: Record, pictures: Pictures, grid: tuple[int, int]) -> None:
        lines, side = pictures.text_height, self.collator.side
        if lines is None:
            stats.no_lines += 1
            if is_line_crop(record, pictures.size) and pictures.ink_box:
                left, _, right, _ = pictures.ink_box
                width = side * (right - left) / pictures.size[0] / len(record.text.strip())
                stats.crop_widths.add(round(width))
                stats.narrow = sorted([*stats.narrow, (round(width), record.location)])[:5]
            return
        cut = text_height.tiles(pictures.size, self.collator.max_crops, side)
        seen, cropped = lines.in_view(side, grid), lines.in_view(side, cut)
        stats.lines.add(round(seen))
        if record.task in prompts.ONE_VIEW:
            whole = record.box is None and record.color is None
            task = prompts.TILED.get(record.task, "") if whole else ""
            cropped = cropped if task else seen  # the others see one view, whatever they show
            stats.cropped.add(round(cropped))
            stats.small = sorted([*stats.small, (round(seen), round(cropped), task, record.location)])[:5]

    def _scripts(self, stats: Statistics, text: str) -> None:
        for script, runs in script_runs(text).items():
            tokens = sum(len(self.collator.tokenizer.encode(run)) for run in runs)
            written = "".join(runs)
            fitness = ScriptTokens(len(written), len(written.encode()), tokens)
            stats.scripts.setdefault(script, ScriptTokens()).merge(fitness)


def open_pictures(record: Record) -> Pictures:
    try:
        pages = [images.open_image(path).convert("L") for path in record.images]
        content = fingerprints.hash_bytes(*map(_bytes, record.images))
    except (OSError, ValueError) as error:
        raise RecordError(f"{record.location}: {error}") from error
    ink = any(high - low >= BLANK for low, high in (page.getextrema() for page in pages))
    return Pictures(record.images, pages[0].size, ink, content, fingerprints.dhash(pages[0]), pages[0])


def is_line_crop(record: Record, size: tuple[int, int]) -> bool:
    """Whether a row is a single line of text on a picture of its own."""
    text = record.text.strip()
    whole = record.task in prompts.ONE_VIEW and record.box is None and record.color is None
    return whole and bool(text) and "\n" not in text and size[0] >= WIDE * size[1]


def subject_of(error: Exception) -> str:
    """What a refused row is refused for, by the first words of its message."""
    message = split_message(error)[1]
    if "data.max_tokens" in message:
        return "length"
    if message.startswith("empty answer"):
        return "answer"
    if isinstance(error.__cause__, ImageError):
        return "picture"
    return _SUBJECTS.get(message.partition(":")[0].partition(" ")[0], "row")


def _kind(record: Record) -> str:
    region = "box" if record.box is not None else "color" if record.color is not None else ""
    return f"{record.task} in {region}" if region else record.task


def _loop(record: Record) -> Finding:
    tail = record.text.rstrip()[-30:]
    return Finding(
        WARNING,
        "answer",
        record.location,
        f"the answer ends in the same characters over and over ({tail!r})",
        "such rows teach endless repetition; cut the answer where the page ends, or leave the row out",
        usable=True,
    )


def _blank(record: Record, ink: bool) -> Finding | None:
    """A blank picture with an answer would teach to invent, one with ink and no answer to be silent."""
    if ink == bool(record.text.strip()):
        return None
    cause = (
        "an empty answer to a picture with ink"
        if ink
        else f"a blank picture with the answer {record.text[:30]!r}"
    )
    fix = (
        "such rows teach to be silent; write what the page shows"
        if ink
        else ("such rows teach to invent text; look at the picture, or leave the row out")
    )
    return Finding(WARNING, "blank", record.location, cause, fix, usable=True)


def _fingerprint(source: int, row: int, record: Record, pictures: Pictures) -> tuple:
    text = fingerprints.normal_text(record.text)
    long = len(text) >= fingerprints.MIN_TEXT_BYTES
    document = document_key(record)
    asked = repr((record.task, record.box, record.box_unit, record.color)).encode()
    return (
        source,
        row,
        pictures.content,
        fingerprints.hash_bytes(asked),
        fingerprints.hash_bytes(text) if long else 0,
        fingerprints.hash_bytes(record.text.encode()),
        len(record.text.strip()),
        fingerprints.hash_bytes(document.encode()) if document else 0,
        pictures.dhash,
        fingerprints.minhash(text) if long else np.zeros(fingerprints.BINS, np.uint16),
    )


def _bytes(image: str | EncodedImage) -> bytes:
    return image.data if isinstance(image, EncodedImage) else Path(image).read_bytes()


def records_of(source: object, rows: Iterable[int]) -> Iterator[tuple[int, Record | RecordError]]:
    """Rows of a source with their records, or with the fault for which they have none."""
    for row in rows:
        try:
            yield row, source[row]
        except RecordError as error:
            yield row, error
