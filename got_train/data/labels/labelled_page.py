"""A labelled page: what every reader of label files gives and every writer takes.

Lines with the text, the box, the corners where they are no upright rectangle, and the words where the file
has their boxes. Knows pictures' sizes; no label format and no record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from PIL import Image, UnidentifiedImageError

from got_train.data.record import RecordError, shorten
from got_train.formats.spots import Box, Spot
from got_train.images import FORMATS

UNREADABLE = "###"  # what ICDAR's labels, and many after them, write for a text that nobody can read
PADDLE_MARKS = ("*", UNREADABLE)  # PaddleOCR's: a text that is there and is not to be learnt
TEXT_KEYS = ("text", "transcription", "transcript", "content", "words", "utf8_string")  # as tools call it
ASPECT = 0.01  # by which the sides of a label's page and its image may be in another proportion
LARGEST = 1e9  # of a coordinate; a larger one, infinity or NaN is a mistake of the file
_ORIENTATION, _TURNED = 0x0112, (5, 6, 7, 8)  # EXIF tag; its values that exchange width and height
_WIDTH, _HEIGHT = 0x0100, 0x0101  # TIFF tags

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Label:
    """A text with its box in the unit of its page; the box is None where the file gives no position."""

    text: str
    box: Box | None
    polygon: Points = ()  # its corners, if they are no upright rectangle: the box goes around them
    legible: bool = True
    location: str = ""  # in its file; empty: that of its page
    words: tuple[Spot, ...] = ()  # of the text, where the file gives their boxes


@dataclass(frozen=True)
class LabelledPage:
    """One image with its labels, as a label file tells them."""

    image: str
    labels: tuple[Label, ...]
    location: str
    size: tuple[float, float] | None = None  # of the page in the unit of the boxes; None: the image's pixels
    order: str = "file"  # the one that the format asks for
    left_out: tuple[tuple[str, Label], ...] = ()  # by the reader: cause, and the label or text


@dataclass
class Loss:
    """What became of labels for one cause."""

    count: int = 0
    words: int = 0  # of texts that stand in no record
    first: str = ""  # where the first of them is


@dataclass
class Losses:
    """What labels lost on their way, by cause: how many, their words, and where the first is."""

    causes: dict[str, Loss] = field(default_factory=dict)

    def add(self, cause: str, location: str, texts: Sequence[str] = (), count: int = 1) -> None:
        loss = self.causes.setdefault(cause, Loss(first=location))
        loss.count += count
        loss.words += sum(len(text.split()) for text in texts)

    def add_left_out(self, page: LabelledPage) -> None:
        """What the reader of a page left out."""
        for cause, label in page.left_out:
            self.add(cause, label.location or page.location, [label.text])

    @property
    def words(self) -> int:
        return sum(loss.words for loss in self.causes.values())

    def lines(self) -> list[str]:
        """A line a cause: `2 illegible labels left out (3 words), the first at page.xml:12`."""
        return [
            f"{loss.count} {cause}{f' ({loss.words} words)' if loss.words else ''}, the first at {loss.first}"
            for cause, loss in self.causes.items()
        ]


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


def around_boxes(boxes: Sequence[Box]) -> Box | None:
    """The box around boxes; none around nothing."""
    return around([end for box in boxes for end in (box[:2], box[2:])]) if boxes else None


def corners(points: Sequence[Sequence[float]]) -> Points:
    """The corners of a polygon; none of an upright rectangle, of which the box around it loses nothing."""
    x1, y1, x2, y2 = around(points)
    if len(points) < 3 or {(x, y) for x, y in points} == {(x1, y1), (x2, y1), (x2, y2), (x1, y2)}:
        return ()
    return tuple((x, y) for x, y in points)


def is_coordinate(value: object) -> bool:
    """Whether this is a number of a size that pictures have; NaN and infinity are none."""
    return type(value) in (int, float) and abs(value) < LARGEST


def are_coordinates(values: object, count: int = 0) -> bool:
    """Whether this is a list of coordinates, of `count` if it is told."""
    listed = isinstance(values, (list, tuple)) and (not count or len(values) == count)
    return bool(listed and values) and all(map(is_coordinate, values))


def is_legible(keys: Mapping) -> bool:
    """As COCO-Text (legibility), CVAT (legible), PaddleOCR (difficult) and others say it."""
    if keys.get("legibility", "legible") != "legible" or _is_said(keys.get("legible", True), False):
        return False
    names = ("illegible", "ignore", "iscrowd", "difficult")
    return not any(_is_said(keys.get(name), True) for name in names)


def _is_said(value: object, expected: bool) -> bool:
    """Whether a value says yes or no, which some programs write as words."""
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    value = words.get(value.lower()) if isinstance(value, str) else value
    return value is not None and bool(value) == expected


def in_pixels(page: LabelledPage, size: tuple[int, int]) -> LabelledPage:
    """The page with all its coordinates in pixels of its image."""
    across, down = _scale(page, size)
    labels = tuple(_scaled(label, across, down, page.location) for label in page.labels)
    return replace(page, labels=labels, size=size)


def _scaled(label: Label, across: float, down: float, location: str) -> Label:
    if label.box is None:
        return label
    if not all(map(is_coordinate, label.box)):
        raise RecordError(f"{location}: box {shorten(label.box)} of {label.text[:40]!r}; four numbers")

    def box(sides: Box) -> Box:
        x1, y1, x2, y2 = sides
        return x1 * across, y1 * down, x2 * across, y2 * down

    polygon = tuple((x * across, y * down) for x, y in label.polygon)
    words = tuple(Spot(word.text, box(word.box)) for word in label.words)
    return replace(label, box=box(label.box), polygon=polygon, words=words)


def _scale(page: LabelledPage, size: tuple[int, int]) -> tuple[float, float]:
    """Pixels for the page's unit, across and down."""
    if page.size is None or page.size == size:
        return 1, 1
    if not all(map(is_coordinate, page.size)) or min(page.size) <= 0:
        raise RecordError(f"{page.location}: a page of {page.size[0]} x {page.size[1]}; both above 0")
    across, down = size[0] / page.size[0], size[1] / page.size[1]
    if abs(across / down - 1) > ASPECT:
        labels_size, image_size = (" x ".join(f"{side:g}" for side in sides) for sides in (page.size, size))
        raise RecordError(
            f"{page.location}: labels for {labels_size}, but {page.image} is {image_size}; "
            "use the picture that was labelled"
        )
    return across, down
