"""Pages with labelled boxes as records: all lines with their boxes (spot), one by its box, or the plain page.

Knows boxes, images' sizes and records; how a label file says them is a matter of readers.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from got_train.data.record import Record, RecordError, shorten
from got_train.errors import AnswerError
from got_train.formats import spots as spotting
from got_train.formats.spots import Box, Spot
from got_train.images import FORMATS

from .crops import line_crops, window_crops

CROPS = {"line": line_crops, "window": window_crops}  # tasks that cut pictures out of the page
TASKS = ("spot", "box", "ocr", *CROPS)
ORDERS = ("file", "page")  # as the labels stand in their file; as they stand on the page
ILLEGIBLE = ("leave_out", "skip_page")
UNREADABLE = "###"  # what ICDAR's labels, and many after them, write for a text that nobody can read
ASPECT = 0.01  # by which the sides of a label's page and its image may be in another proportion
LARGEST = 1e9  # of a coordinate; a larger one, infinity or NaN is a mistake of the file
_ORIENTATION, _TURNED = 0x0112, (5, 6, 7, 8)  # EXIF tag; its values that exchange width and height
_WIDTH, _HEIGHT = 0x0100, 0x0101  # TIFF tags


@dataclass(frozen=True)
class Label:
    """A text with its box in the unit of its page; the box is None in files that have no positions."""

    text: str
    box: Box | None
    polygon: bool = False  # the box goes around one that is no upright rectangle
    legible: bool = True
    location: str = ""  # in its file; empty: that of its page


@dataclass(frozen=True)
class LabelledPage:
    """One image with its labels, as a label file tells them."""

    image: str
    labels: tuple[Label, ...]
    location: str
    size: tuple[float, float] | None = None  # of the page in the unit of the boxes; None: the image's pixels
    order: str = "file"  # the one that the format asks for
    left_out: tuple[tuple[str, Label], ...] = ()  # by the reader: cause, and the label or text


@dataclass(frozen=True)
class LabelOptions:
    """What becomes of labelled pages."""

    tasks: tuple[str, ...] = ("spot",)
    order: str | None = None  # None: the format's own
    illegible: str = "leave_out"  # these labels, or the whole page
    allow_empty: bool = False  # pages without a text


@dataclass
class Loss:
    """What became of labels for one cause."""

    count: int = 0
    words: int = 0  # of texts that stand in no record
    first: str = ""  # where the first of them is


@dataclass
class Losses:
    """What labels lost on their way to records, by cause: how many, their words, and where the first is."""

    causes: dict[str, Loss] = field(default_factory=dict)

    def add(self, cause: str, location: str, texts: Sequence[str] = (), count: int = 1) -> None:
        loss = self.causes.setdefault(cause, Loss(first=location))
        loss.count += count
        loss.words += sum(len(text.split()) for text in texts)

    @property
    def words(self) -> int:
        return sum(loss.words for loss in self.causes.values())

    def lines(self) -> list[str]:
        """A line a cause: `2 illegible labels left out (3 words), the first at page.xml:12`."""
        return [
            f"{loss.count} {cause}{f' ({loss.words} words)' if loss.words else ''}, the first at {loss.first}"
            for cause, loss in self.causes.items()
        ]


def page_records(page: LabelledPage, options: LabelOptions, losses: Losses) -> list[Record]:
    """The records of a page; what stands in none of them is added to `losses`."""
    for cause, label in page.left_out:
        losses.add(cause, label.location or page.location, [label.text])
    illegible = [label for label in page.labels if not _legible(label)]
    if illegible and options.illegible == "skip_page":
        texts = [label.text for label in page.labels]
        losses.add("pages skipped for an illegible label", page.location, texts)
        return []
    for label in illegible:
        losses.add("illegible labels left out", label.location or page.location, [label.text])
    labels = [label for label in page.labels if _legible(label) and label.text.strip()]
    for label in page.labels:
        if _legible(label) and not label.text.strip():
            losses.add("labels without text left out", label.location or page.location)
    if labels and all(label.box is None for label in labels):
        return [_unplaced(page, labels, options.tasks)]
    size = picture_size(page.image)
    spots = _in_pixels(page, labels, size, losses)
    if not spots and not options.allow_empty:
        losses.add("pages without text left out", page.location)
        return []
    return _placed(page, spots, size, options)


def picture_size(path: str) -> tuple[int, int]:
    """Width and height of a picture file as `images.open_image` turns it, without decoding its pixels."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            turned = image.getexif().get(_ORIENTATION) in _TURNED
            tags = getattr(image, "tag_v2", {})  # of a TIFF: some versions of Pillow turn its size themselves
            width, height = tags.get(_WIDTH, image.width), tags.get(_HEIGHT, image.height)
            return (height, width) if turned else (width, height)
    except FileNotFoundError as error:
        raise RecordError(f"{path}: no such picture; relative to the label file or image_root") from error
    except (OSError, UnidentifiedImageError, SyntaxError, Image.DecompressionBombError) as error:
        raise RecordError(f"{path}: no picture that can be opened ({error}); PNG, JPEG, TIFF ...") from error


def around(points: Sequence[Sequence[float]]) -> Box:
    """The box around a polygon."""
    across, down = zip(*points, strict=True)
    return min(across), min(down), max(across), max(down)


def is_rectangle(points: Sequence[Sequence[float]]) -> bool:
    """Whether these corners are those of an upright rectangle, so that the box around them loses nothing."""
    x1, y1, x2, y2 = around(points)
    return {(x, y) for x, y in points} == {(x1, y1), (x2, y1), (x2, y2), (x1, y2)}


def is_coordinate(value: object) -> bool:
    """Whether this is a number of a size that pictures have; NaN and infinity are none."""
    return type(value) in (int, float) and abs(value) < LARGEST


def _legible(label: Label) -> bool:
    return label.legible and label.text.strip() != UNREADABLE


def _unplaced(page: LabelledPage, labels: Sequence[Label], tasks: Sequence[str]) -> Record:
    if tuple(tasks) != ("ocr",):
        raise RecordError(f"{page.location}: has no positions; --tasks ocr")
    return Record((page.image,), "ocr", "\n".join(label.text for label in labels), location=page.location)


def _placed(
    page: LabelledPage, spots: Sequence[Spot], size: tuple[int, int], options: LabelOptions
) -> list[Record]:
    if (options.order or page.order) == "file":
        rows = [[spot] for spot in spots]
    else:
        places = spotting.reading_rows([spot.box for spot in spots])
        rows = [[spots[place] for place in row] for row in places]
    spots = [spot for row in rows for spot in row]
    whole = Record((page.image,), "ocr", "", location=page.location)
    made = []
    if "spot" in options.tasks:
        made.append(replace(whole, task="spot", text=_written(page.location, spots, size)))
    if "box" in options.tasks:
        made += [replace(whole, text=spot.text, box=spot.box) for spot in spots]
    if "ocr" in options.tasks:
        made.append(replace(whole, text="\n".join(" ".join(spot.text for spot in row) for row in rows)))
    for task in (task for task in options.tasks if task in CROPS):
        document = Path(page.image).stem  # so that all crops of a page stay on one side of a split
        crops = CROPS[task](page.image, spots)
        made += [replace(whole, images=(crop,), text=text, document=document) for crop, text in crops]
    return made


def _written(location: str, spots: Sequence[Spot], size: tuple[int, int]) -> str:
    try:
        return spotting.write(spots, size)
    except AnswerError as error:
        raise RecordError(f"{location}: {error}") from error


def _in_pixels(
    page: LabelledPage, labels: Sequence[Label], size: tuple[int, int], losses: Losses
) -> list[Spot]:
    """The labels in pixels of the image, cut off at its edges."""
    across, down = _scale(page, size)
    spots = []
    for label in labels:
        if label.box is None:
            raise RecordError(
                f"{page.location}: no box for {label.text[:40]!r}; all texts of a page have one"
            )
        if not all(map(is_coordinate, label.box)):
            raise RecordError(
                f"{page.location}: box {shorten(label.box)} of {label.text[:40]!r}; four numbers"
            )
        x1, y1, x2, y2 = label.box
        location = label.location or page.location
        whole = x1 * across, y1 * down, x2 * across, y2 * down
        box = _clipped(whole, size)
        if label.polygon:
            losses.add("polygons turned into the boxes around them", location)
        if box[0] >= box[2] or box[1] >= box[3]:
            losses.add("labels outside their image, or without area, left out", location, [label.text])
            continue
        if box != whole:
            losses.add("boxes cut at the image's edge", location)
        spots.append(Spot(label.text.strip(), tuple(map(_plain, box))))
    return spots


def _scale(page: LabelledPage, size: tuple[int, int]) -> tuple[float, float]:
    """Pixels for the page's unit, across and down."""
    if page.size is None or page.size == size:
        return 1, 1
    if not all(map(is_coordinate, page.size)) or min(page.size) <= 0:
        raise RecordError(f"{page.location}: a page of {page.size[0]} x {page.size[1]}; both above 0")
    across, down = size[0] / page.size[0], size[1] / page.size[1]
    if abs(across / down - 1) > ASPECT:
        told, seen = (" x ".join(f"{side:g}" for side in sides) for sides in (page.size, size))
        raise RecordError(
            f"{page.location}: labels for {told}, but {page.image} is {seen}; the picture that was labelled"
        )
    return across, down


def _clipped(box: Box, size: tuple[int, int]) -> Box:
    width, height = size
    return max(0, box[0]), max(0, box[1]), min(width, box[2]), min(height, box[3])


def _plain(number: float) -> float:
    """A whole number as an int, others to a thousandth of a pixel."""
    return int(number) if number == int(number) else round(number, 3)
