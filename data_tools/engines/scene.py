"""Pictures with text in them as in a street or on a package: signs and words on textures or photos.

Knows phrases, fonts and pixels; the text of a picture is that of its regions in order of reading.
"""

from __future__ import annotations

import argparse
import functools
import io
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from data_tools import arguments, produce
from data_tools.drawing import degrade, system_fonts
from data_tools.drawing.fonts import ShaperError, find_fonts, font_for, missing
from data_tools.text import corpora, phrases
from data_tools.text.scripts import is_right_to_left
from got_train.errors import DrawingError

from . import regions
from .lines import DEFAULT_FONTS

if TYPE_CHECKING:
    import numpy
    from PIL import Image

    Pixels = numpy.ndarray

TASKS = ("scene", "slices")
PHOTOS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
BACKGROUNDS = ("gradient", "clouds", "planks", "shapes")
CONTRAST = 90  # of 255, between text and what lies under it, when a colour is chosen
LEAST_CONTRAST = 55  # measured on the picture, at the edge of the letters
GAP = 8  # pixels between regions, and around a slice
DENSE = 1.3  # times larger than the smallest Latin letters is the smallest Chinese text
TRIES = 30


class Language(NamedTuple):
    """Documents and the fonts to write them with."""

    name: str
    documents: tuple[corpora.Document, ...]
    fonts: tuple[Path, ...]


class Region(NamedTuple):
    """A piece of text: its mask in its own plane, and where the four corners of that plane go."""

    lines: tuple[str, ...]
    font: Path
    size: int
    mask: Pixels
    corners: Pixels  # 4 x 2, of the picture

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def box(self) -> tuple[int, int, int, int]:
        low, high = self.corners.min(axis=0), self.corners.max(axis=0)
        return math.floor(low[0]), math.floor(low[1]), math.ceil(high[0]), math.ceil(high[1])


@dataclass(frozen=True, kw_only=True)
class SceneEngine:
    """Whole pictures (scene) and crops of single regions (slices), both as plain ocr records."""

    languages: tuple[Language, ...]
    backgrounds: tuple[Path, ...]  # photos; drawn ones where there are none
    tasks: tuple[str, ...]
    shape: tuple[int, int]
    sizes: tuple[int, int]  # of the fonts, in pixels
    regions: tuple[int, int]  # in a picture
    degrade: float = 0.0
    name: str = "scene"
    attempts: int = 50

    def rows(self, index: int, rng: numpy.random.Generator) -> list[produce.Row]:
        from PIL import Image

        pixels, background = draw_background(self.backgrounds, self.shape, rng)
        placed = self._placed(rng)
        for region in placed:
            _paint(pixels, region, rng)
        for region in placed:
            if _edge_contrast(pixels, region) < LEAST_CONTRAST:
                raise produce.Rejected("text too faint on its background")
        image = Image.fromarray(pixels)
        rows: list[produce.Row] = []
        for task in self.tasks:
            if task == "scene":
                rows.append(self._row(f"{index:08d}", image, placed, {"background": background}, rng))
            else:
                rows += [
                    self._row(
                        f"{index:08d}-{position}", image.crop(self._cut(text_region)), [text_region], {}, rng
                    )
                    for position, text_region in enumerate(placed)
                ]
        return rows

    def _row(
        self,
        name: str,
        image: Image.Image,
        shown: list[Region],
        meta: dict[str, Any],
        rng: numpy.random.Generator,
    ) -> produce.Row:
        worse, parameters = degrade.apply(
            image, rng, self.degrade, min(region.size for region in shown) * 0.9
        )
        meta = meta | {
            "fonts": [region.font.stem for region in shown],
            "sizes": [region.size for region in shown],
        }
        if parameters:
            meta["degrade"] = parameters
        elif "background" in meta:  # the whole picture, where nothing has moved
            meta["regions"] = [
                {"box": region.box, "text": region.text, "lines": len(region.lines)} for region in shown
            ]
        picture = produce.Picture(f"{name}.jpg", produce.encode(worse, "jpg"))
        text = "\n".join(region.text for region in shown)
        return produce.Row(f"{self.name}-{name}", (picture,), "ocr", text, meta=meta)

    def _cut(self, region: Region) -> tuple[int, int, int, int]:
        """The box of a slice: no other region comes as near as this."""
        x1, y1, x2, y2 = region.box
        pad = GAP // 2
        return max(0, x1 - pad), max(0, y1 - pad), min(self.shape[0], x2 + pad), min(self.shape[1], y2 + pad)

    def _placed(self, rng: numpy.random.Generator) -> list[Region]:
        """Regions that neither touch each other nor leave the order of reading open, in that order."""
        count = int(rng.integers(self.regions[0], self.regions[1] + 1))
        placed: list[Region] = []
        for _ in range(TRIES):
            region = self._region(rng)
            boxes = [known.box for known in (*placed, region)]
            low, high = region.corners.min(axis=0), region.corners.max(axis=0)
            inside = low.min() >= 2 and high[0] <= self.shape[0] - 2 and high[1] <= self.shape[1] - 2
            apart = not any(regions.near(region.box, box, GAP) for box in boxes[:-1])
            if inside and apart and regions.reading_order(boxes) is not None:
                placed.append(region)
            if len(placed) == count:
                break
        if len(placed) < self.regions[0]:
            raise produce.Rejected("no room for the text")
        order = regions.reading_order([known.box for known in placed])
        return [placed[index] for index in order or ()]

    def _region(self, rng: numpy.random.Generator) -> Region:
        language = self.languages[int(rng.integers(len(self.languages)))]
        font = language.fonts[int(rng.integers(len(language.fonts)))]
        lines = _text(language, rng)
        # small text is more frequent than large, as on pictures
        low, high = self.sizes
        low = min(high, round(low * DENSE)) if language.name == "zh" else low
        size = round(low * (high / low) ** (rng.random() ** 1.5))
        lacking = missing(font, "".join(lines))
        if lacking:
            raise produce.Rejected(f"{font.stem} lacks a character")
        try:
            mask = _mask(lines, font, size, centred=bool(rng.random() < 0.5))
        except ShaperError as error:
            raise produce.Rejected(str(error)) from None
        return Region(tuple(lines), font, size, mask, self._corners(mask.shape, rng))

    def _corners(self, shape: tuple[int, ...], rng: numpy.random.Generator) -> Pixels:
        """Turned by up to 12 degrees, mostly by little, and seen from a side."""
        import numpy

        height, width = shape
        corners = numpy.array([(0, 0), (width, 0), (width, height), (0, height)], float) - (
            width / 2,
            height / 2,
        )
        angle = float(numpy.clip(rng.normal(0, 4), -12, 12)) * math.pi / 180 * (rng.random() < 0.7)
        near, shear = rng.uniform(-0.12, 0.12), rng.uniform(-0.15, 0.15)
        corners[:, 1] *= 1 + near * numpy.sign(corners[:, 0])  # one end of the line is higher than the other
        corners[:, 0] += shear * corners[:, 1]
        turn = numpy.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        corners = corners @ turn
        reach = numpy.abs(corners).max(axis=0) + 3
        room = numpy.maximum(numpy.array(self.shape) - 2 * reach, 0)
        return corners + reach + rng.random(2) * room


def draw_background(
    photos: Sequence[Path], shape: tuple[int, int], rng: numpy.random.Generator
) -> tuple[Pixels, str]:
    """A part of one of the photos, or a drawn ground where there are none, with its name."""
    import numpy

    if not photos:
        kind = BACKGROUNDS[int(rng.integers(len(BACKGROUNDS)))]
        return _drawn_background(kind, shape, rng), kind
    path = photos[int(rng.integers(len(photos)))]
    photo = _photo(path)
    width, height = shape
    scale = max(width / photo.width, height / photo.height) * rng.uniform(1, 1.5)
    # taken out of the photo before it is resized: photos are larger than pictures
    own = (photo.width - width / scale, photo.height - height / scale)
    left, top = (rng.random() * max(0.0, free) for free in own)
    cut = (left, top, min(photo.width, left + width / scale), min(photo.height, top + height / scale))
    return numpy.array(photo.resize(shape, box=cut)), path.name


@functools.lru_cache(maxsize=4)
def _photo(path: Path) -> Image.Image:
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(io.BytesIO(path.read_bytes())).convert("RGB")
    except (UnidentifiedImageError, OSError):
        raise DrawingError(f"--backgrounds {path}: not a picture; move it out of the folder") from None


def _text(language: Language, rng: numpy.random.Generator) -> list[str]:
    """One line, or two where it is long; some in capitals, some numbers as on price tags and doors."""
    if rng.random() < 0.08:
        digits = "".join(str(digit) for digit in rng.integers(0, 10, int(rng.integers(1, 6))))
        return [digits if rng.random() < 0.5 else f"{digits}.{int(rng.integers(10, 100))}"]
    text = phrases.phrase(language.documents, (1, 5), rng, shaped=True)
    if language.name != "zh":
        text = {0: text.upper(), 1: text.title()}.get(int(rng.integers(4)), text)
    pieces = text.split(" ") if " " in text else list(text) if language.name == "zh" else [text]
    if len(pieces) < 4 or rng.random() < 0.6:
        return [text]
    joiner, half = (" " if " " in text else ""), len(pieces) // 2
    return [joiner.join(pieces[:half]), joiner.join(pieces[half:])]


def _mask(lines: list[str], font: Path, size: int, centred: bool) -> Pixels:
    """White letters on black, with some black around them: the sign, where there is one."""
    import numpy
    from PIL import Image, ImageDraw

    face = font_for("".join(lines), font, size)
    on_right = is_right_to_left("".join(lines))
    inks = [face.getbbox(line) for line in lines]
    pitch = round(1.25 * size)
    left = min(ink[0] for ink in inks)
    widths = [ink[2] - ink[0] for ink in inks]
    top = min(row * pitch + ink[1] for row, ink in enumerate(inks))
    bottom = max(row * pitch + ink[3] for row, ink in enumerate(inks))
    pad = max(2, size // 8)
    image = Image.new("L", (math.ceil(max(widths)) + 2 * pad + 1, math.ceil(bottom - top) + 2 * pad + 1))
    draw = ImageDraw.Draw(image)
    for row, (line, ink, width) in enumerate(zip(lines, inks, widths, strict=True)):
        x = pad - ink[0] + (max(widths) - width) // 2 if centred else pad - left
        if on_right and not centred:
            x = pad - ink[0] + max(widths) - width
        draw.text((x, pad - top + row * pitch), line, font=face, fill=255)
    return numpy.asarray(image)


def _warped(region: Region, mask: Pixels) -> tuple[Pixels, tuple[slice, slice]]:
    """The mask as the picture sees it, cut to the region's box, and where that is."""
    import cv2
    import numpy

    x1, y1, x2, y2 = region.box
    height, width = region.mask.shape
    plane = numpy.array([(0, 0), (width, 0), (width, height), (0, height)], numpy.float32)
    seen = (region.corners - (x1, y1)).astype(numpy.float32)
    matrix = cv2.getPerspectiveTransform(plane, seen)
    warped = cv2.warpPerspective(mask, matrix, (x2 - x1, y2 - y1), flags=cv2.INTER_LINEAR)
    return warped, (slice(y1, y2), slice(x1, x2))


def _paint(pixels: Pixels, region: Region, rng: numpy.random.Generator) -> None:
    """Draw a region in a colour that stands off what is under it, on a sign where none would."""
    import cv2
    import numpy

    ink, area = _warped(region, region.mask)
    under = cv2.cvtColor(pixels[area], cv2.COLOR_RGB2GRAY)
    low, high = numpy.percentile(under, (3, 97)).tolist()
    if max(low, 255 - high) < CONTRAST + 25 or rng.random() < 0.35:
        sign, _ = _warped(region, numpy.full_like(region.mask, 255))
        color = rng.integers(0, 256, 3).tolist()
        _blend(pixels[area], sign, color)
        low = high = _lightness(color)
    color = _color(low, high, rng)
    effect = rng.random()
    if effect < 0.15:
        # an outline between the letters and what is under them, on the far side of it
        width = max(3, 2 * (region.size // 24) + 1)
        outline = cv2.dilate(ink, numpy.ones((width, width), numpy.uint8))
        _blend(pixels[area], outline, [0, 0, 0] if _lightness(color) > 127 else [255, 255, 255])
    elif effect < 0.3 and _lightness(color) > 127:
        offset = max(1, region.size // 16)
        shadow = numpy.zeros_like(ink)
        shadow[offset:, offset:] = ink[:-offset, :-offset] // 2
        _blend(pixels[area], shadow, [0, 0, 0])
    _blend(pixels[area], ink, color)


def _blend(part: Pixels, mask: Pixels, color: list[int]) -> None:
    import numpy

    alpha = mask[..., None].astype(numpy.float32) / 255
    part[:] = (part + alpha * (numpy.array(color, numpy.float32) - part) + 0.5).astype(numpy.uint8)


def _lightness(color: list[int]) -> float:
    return 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]


def _color(low: float, high: float, rng: numpy.random.Generator) -> list[int]:
    """A colour darker than low or lighter than high by the contrast asked for; black or white at worst."""
    for _ in range(TRIES):
        color = rng.integers(0, 256, 3).tolist()
        if _lightness(color) <= low - CONTRAST or _lightness(color) >= high + CONTRAST:
            return color
    return [0, 0, 0] if low > 255 - high else [255, 255, 255]


def _edge_contrast(pixels: Pixels, region: Region) -> float:
    """Between the letters and the pixels around them, in greys; small letters count by their middles."""
    import cv2
    import numpy

    ink, area = _warped(region, region.mask)
    grey = cv2.cvtColor(pixels[area], cv2.COLOR_RGB2GRAY).astype(float)
    reach = max(3, 2 * (region.size // 16) + 1)
    around = (cv2.dilate(ink, numpy.ones((reach + 2, reach + 2), numpy.uint8)) > 0) & (ink == 0)
    inner = ink >= min(200, int(ink.max()))
    if not around.any():
        return 0.0
    return abs(float(numpy.median(grey[inner])) - float(numpy.median(grey[around])))


def _drawn_background(kind: str, shape: tuple[int, int], rng: numpy.random.Generator) -> Pixels:
    import cv2
    import numpy

    width, height = shape
    one, two = rng.integers(0, 256, (2, 3)).astype(numpy.float32)
    grey = rng.random() ** 0.5  # most walls and boxes are less colourful than random numbers
    one, two = (color + grey * (color.mean() - color) for color in (one, two))
    if kind == "gradient":
        angle = rng.uniform(0, 2 * math.pi)
        across = numpy.linspace(-0.5, 0.5, width, dtype=numpy.float32)[None] * math.cos(angle)
        weight = (
            across + numpy.linspace(-0.5, 0.5, height, dtype=numpy.float32)[:, None] * math.sin(angle) + 0.5
        )
    elif kind == "clouds":
        weight = (
            sum(noise(shape, cell, rng) / 2**octave for octave, cell in enumerate((160, 60, 20, 6))) / 3 + 0.5
        )
    elif kind == "planks":
        weight = 0.3 + 0.1 * cv2.resize(noise((width, height // 12 + 1), 30, rng), shape)
        weight += 0.25 * rng.random((height // 48 + 1, 1)).astype(numpy.float32).repeat(48, axis=0)[:height]
        weight[::48] = 1
    else:
        weight = numpy.zeros((height, width), numpy.float32)
        for _ in range(int(rng.integers(3, 9))):
            centre = (int(rng.integers(width)), int(rng.integers(height)))
            reach = (int(rng.integers(20, width // 2)), int(rng.integers(20, height // 2)))
            tone = float(rng.random())
            if rng.random() < 0.5:
                cv2.ellipse(weight, centre, reach, float(rng.uniform(0, 180)), 0, 360, tone, -1)
            else:
                cv2.rectangle(weight, centre, (centre[0] + reach[0], centre[1] + reach[1]), tone, -1)
        weight = cv2.GaussianBlur(weight, (0, 0), float(rng.uniform(0.5, 6)))
    weight = (
        numpy.clip(weight, 0, 1)[..., None] if rng.random() < 0.5 else 1 - numpy.clip(weight, 0, 1)[..., None]
    )
    mixed = (
        one
        + weight * (two - one)
        + rng.normal(0, rng.uniform(0, 5), (height, width, 1)).astype(numpy.float32)
    )
    return numpy.clip(mixed, 0, 255).astype(numpy.uint8)


def noise(shape: tuple[int, int], cell: int, rng: numpy.random.Generator) -> Pixels:
    """Smooth random values around 0 that change over about so many pixels."""
    import cv2
    import numpy

    coarse = rng.standard_normal((shape[1] // cell + 2, shape[0] // cell + 2), numpy.float32)
    return cv2.resize(coarse, shape, interpolation=cv2.INTER_CUBIC)


def find_photos(folder: Path | None) -> tuple[Path, ...]:
    """The pictures under a folder, in order of their names; none without a folder."""
    if folder is None:
        return ()
    if not folder.is_dir():
        raise DrawingError(f"--backgrounds {folder}: no such folder; give a folder of photos without text")
    photos = tuple(sorted(path for path in folder.rglob("*") if path.suffix.lower() in PHOTOS))
    if not photos:
        raise DrawingError(f"--backgrounds {folder}: no {', '.join(PHOTOS)} in it; give a folder of photos")
    return photos


def add_language_arguments(parser: argparse.ArgumentParser, fonts: str) -> None:
    """The options of engines that write in several languages: texts, and fonts for each."""
    arguments.add_text_arguments(parser)
    corpora.add_arguments(parser)
    parser.add_argument(
        "--fonts", default=fonts, help="for Latin: names, paths, folders, Lato-* (default: a set)"
    )
    parser.add_argument(
        "--fonts-zh", default="all", help="for Chinese: names, paths, folders (default: all installed)"
    )


def languages(args: argparse.Namespace) -> tuple[tuple[Language, ...], dict[str, str]]:
    """Documents and fonts as the options of add_language_arguments ask, and the languages left out."""
    find = {
        "en": lambda: find_fonts(args.fonts.split(",")),
        "zh": lambda: system_fonts.chinese_fonts(args.fonts_zh),
    }
    chosen, without = system_fonts.with_fonts(corpora.by_language(args), find, args.strict)
    return tuple(Language(name, texts, tuple(fonts)) for name, (texts, fonts) in chosen.items()), without


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    options = arguments.CommandParser(
        prog="python -m data_tools.engines.scene",
        description="Draw text into scenes and write them as records.",
    )
    arguments.add_arguments(options, shard_pages=500, counted="pictures")
    arguments.add_size_arguments(options, width=640, height=480)
    add_language_arguments(options, DEFAULT_FONTS)
    degrade.add_arguments(options)
    options.add_argument(
        "--tasks", type=arguments.one_of(TASKS), default=("scene",), help="scene,slices (default: scene)"
    )
    options.add_argument(
        "--backgrounds", type=Path, help="folder of photos without text (default: drawn ones)"
    )
    options.add_argument("--font-size", type=arguments.span, default=(16, 72), help="pixels (default: 16-72)")
    options.add_argument("--regions", type=arguments.span, default=(1, 7), help="in a picture (default: 1-7)")
    return options


def make(args: argparse.Namespace) -> dict[str, Any]:
    """Records as the options ask; returns the counts."""
    shape = (args.side, args.side) if args.side else (args.width, args.height)
    if args.font_size[0] < 12:
        raise DrawingError(f"--font-size {args.font_size[0]}: text turned in space needs 12 pixels or more")
    photos, (chosen, without) = find_photos(args.backgrounds), languages(args)
    engine = SceneEngine(
        languages=chosen,
        backgrounds=photos,
        tasks=args.tasks,
        shape=shape,
        sizes=args.font_size,
        regions=args.regions,
        degrade=args.degrade,
        name=f"scene-{args.split}",
    )
    fonts = {language.name: [font.stem for font in language.fonts] for language in chosen}
    backgrounds = [path.name for path in photos]
    return produce.write(engine, args, args.count, without, fonts=fonts, backgrounds=backgrounds)


main = produce.command(parser, make)

if __name__ == "__main__":
    sys.exit(main())
