"""Pictures with nothing to read, or less than they once had: blank paper, photos, destroyed and covered text.

Records of the task ocr whose text is empty (readers need allow_empty) or what is left beyond doubt.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_tools import arguments, produce
from data_tools.drawing import degrade
from data_tools.drawing.fonts import FontError, ShaperError
from data_tools.text import phrases

from . import lines, scene
from .lines import Box

if TYPE_CHECKING:
    import numpy
    from PIL import Image

    Pixels = numpy.ndarray

KINDS = ("blank", "photo", "ruined", "covered")
PAPERS = ("plain", "ruled", "squared", "dotted", "framed")
DAMAGES = ("blur", "smear", "pixels", "ink")
CLEAR = 3  # pixels between what covers a line and the ink of the next one


@dataclass(frozen=True, kw_only=True)
class NegativeEngine:
    """One picture a record, of one of the kinds."""

    languages: tuple[scene.Language, ...]
    kinds: tuple[str, ...]
    shapes: tuple[tuple[int, int], tuple[int, int]]  # least and most of width and of height
    sizes: tuple[int, int]  # of fonts, in pixels
    photos: tuple[Path, ...] = ()  # without text; drawn ones where there are none
    photo_shape: tuple[int, int] = (640, 480)  # in which they are taken, before they get the picture's
    degrade: float = 0.0  # share of pictures
    name: str = "negatives"
    attempts: int = 50

    def rows(self, index: int, rng: numpy.random.Generator) -> list[produce.Row]:
        kind = self.kinds[int(rng.integers(len(self.kinds)))]
        shape = tuple(int(rng.integers(low, high + 1)) for low, high in self.shapes)
        draw = {"blank": self._blank, "photo": self._photo, "ruined": self._ruined, "covered": self._covered}
        image, text, meta = draw[kind](shape, rng)
        image, damage = degrade.apply(image, rng, self.degrade, self.sizes[0])
        suffix = "jpg" if kind in ("photo", "blank") else "png"
        picture = produce.Picture(f"{index:08d}.{suffix}", produce.encode(image, suffix))
        meta = {"kind": kind, **meta} | ({"degrade": damage} if damage else {})
        return [produce.Row(f"{self.name}-{index:08d}", (picture,), "ocr", text, meta=meta)]

    def _blank(
        self, shape: tuple[int, int], rng: numpy.random.Generator
    ) -> tuple[Image.Image, str, dict[str, Any]]:
        from PIL import Image

        paper = PAPERS[int(rng.integers(len(PAPERS)))]
        pixels = blank_paper(shape, paper, rng)
        return Image.fromarray(pixels), "", {"paper": paper}

    def _photo(
        self, shape: tuple[int, int], rng: numpy.random.Generator
    ) -> tuple[Image.Image, str, dict[str, Any]]:
        from PIL import Image

        pixels, background = scene.draw_background(self.photos, self.photo_shape, rng)
        return Image.fromarray(pixels).resize(shape), "", {"background": background}

    def _ruined(
        self, shape: tuple[int, int], rng: numpy.random.Generator
    ) -> tuple[Image.Image, str, dict[str, Any]]:
        damage = DAMAGES[int(rng.integers(len(DAMAGES)))]
        page, size, meta = self._page(shape, rng)
        meta.pop("lines")
        ruin: dict[str, Callable[..., Image.Image]] = {"blur": blur, "smear": smear, "pixels": pixelate}
        if damage in ruin:
            return ruin[damage](page.image, size, rng), "", {"damage": damage, **meta}
        mask = _cover(shape, page.boxes, [], rng)
        return _inked(page.image, mask, rng), "", {"damage": damage, **meta}

    def _covered(
        self, shape: tuple[int, int], rng: numpy.random.Generator
    ) -> tuple[Image.Image, str, dict[str, Any]]:
        """Whole lines hidden by something opaque; what stands free of it is the text."""
        page, _, meta = self._page(shape, rng)
        if len(page.boxes) < 3:
            raise produce.Rejected("fewer than three lines")
        count = int(rng.integers(1, max(2, len(page.boxes) // 2 + 1)))
        first = int(rng.integers(len(page.boxes) - count + 1))
        hidden = set(range(first, first + count))
        free = [box for index, box in enumerate(page.boxes) if index not in hidden]
        mask = _cover(shape, [page.boxes[index] for index in sorted(hidden)], free, rng)
        text = "\n".join(line for index, line in enumerate(meta.pop("lines")) if index not in hidden)
        return _inked(page.image, mask, rng), text, {"hidden_lines": sorted(hidden), **meta}

    def _page(
        self, shape: tuple[int, int], rng: numpy.random.Generator
    ) -> tuple[lines.LinePage, int, dict[str, Any]]:
        """Lines of one language in one font, as many as the page takes or fewer."""
        language = self.languages[int(rng.integers(len(self.languages)))]
        font = language.fonts[int(rng.integers(len(language.fonts)))]
        size = int(rng.integers(self.sizes[0], self.sizes[1] + 1))
        most = int(0.8 * shape[1] / (1.5 * size))
        words = max(2, int(shape[0] / (size * (2.6 if language.name == "zh" else 4.5))))
        texts = [
            phrases.phrase(language.documents, (1, words), rng, shaped=True)
            for _ in range(int(rng.integers(3, max(4, most))))
        ]
        try:
            page = lines.render_page(texts, font, size, shape, rng, scatter=shape[1] // 8)
        except ShaperError as error:
            raise produce.Rejected(str(error)) from None
        except FontError:
            raise produce.Rejected(f"{font.stem} lacks a character") from None
        except lines.LineError:
            raise produce.Rejected("lines larger than the page") from None
        return page, size, {"font": font.stem, "size": size, "lines": texts}


# Paper.


def blank_paper(shape: tuple[int, int], paper: str, rng: numpy.random.Generator) -> Pixels:
    """Paper of some colour, uneven and stained, with rules, squares, dots or a frame, or without."""
    import numpy

    width, height = shape
    page = numpy.full((height, width, 3), rng.integers(205, 256) - rng.integers(0, 18, 3), numpy.float32)
    rows, columns = numpy.arange(height)[:, None], numpy.arange(width)[None]
    apart = int(rng.integers(16, 48))
    marks = numpy.zeros((height, width), bool)
    if paper in ("ruled", "squared"):
        marks |= (rows % apart == 0) & (columns >= 0)
    if paper == "squared":
        marks |= (columns % apart == 0) & (rows >= 0)
    if paper == "dotted":
        marks |= (rows % apart < 2) & (columns % apart < 2)
    if paper == "framed":
        inset, thick = int(rng.integers(8, min(shape) // 6)), int(rng.integers(1, 5))
        edge = numpy.minimum(
            numpy.minimum(rows, height - 1 - rows), numpy.minimum(columns, width - 1 - columns)
        )
        marks |= (edge >= inset) & (edge < inset + thick)
    page[marks] -= rng.uniform(20, 120)
    page += scene.noise(shape, int(rng.integers(60, 200)), rng)[..., None] * rng.uniform(0, 5)
    for _ in range(int(rng.integers(5))):
        color = numpy.array([0.5, 0.8, 1.0]) * rng.uniform(0.7, 1.3, 3)  # brown as coffee, more or less
        page -= _stain(shape, rng)[..., None] * color * rng.uniform(5, 60)
    page += rng.normal(0, rng.uniform(0, 4), (height, width, 1))
    return numpy.clip(page, 0, 255).astype(numpy.uint8)


def _stain(shape: tuple[int, int], rng: numpy.random.Generator) -> Pixels:
    """A round spot or a ring with an uneven edge, 0 outside and up to 1."""
    import numpy

    reach = rng.uniform(0.02, 0.3) * min(shape)
    middle = rng.random(2) * numpy.array(shape)
    down, across = numpy.mgrid[: shape[1], : shape[0]].astype(numpy.float32)
    far = numpy.hypot(across - middle[0], down - middle[1]) / reach
    far += 0.15 * scene.noise(shape, max(4, int(reach / 2)), rng)
    ring = rng.random() < 0.4
    spot = (
        numpy.exp(-(((far - 1) / 0.12) ** 2))
        if ring
        else 1 / (1 + numpy.exp(numpy.clip((far - 1) * 12, -30, 30)))
    )
    return spot.astype(numpy.float32)


# Ruin: none of it leaves strokes apart that lie nearer than half an em, so no letter survives.


def blur(image: Image.Image, size: int, rng: numpy.random.Generator) -> Image.Image:
    """Out of focus by more than a third of an em each way."""
    from PIL import ImageFilter

    return image.filter(ImageFilter.GaussianBlur(size * rng.uniform(0.42, 0.8)))


def smear(image: Image.Image, size: int, rng: numpy.random.Generator) -> Image.Image:
    """Wiped sideways over several letters."""
    import cv2
    import numpy
    from PIL import Image

    reach = int(size * rng.uniform(2.5, 5))
    kernel = numpy.full((1, 2 * reach + 1), 1 / (2 * reach + 1), numpy.float32)
    pixels = cv2.filter2D(numpy.asarray(image), -1, kernel, borderType=cv2.BORDER_REPLICATE)
    return Image.fromarray(cv2.GaussianBlur(pixels, (0, 0), max(1.0, 0.12 * size)))


def pixelate(image: Image.Image, size: int, rng: numpy.random.Generator) -> Image.Image:
    """Squares of more than half an em, each of one grey."""
    from PIL import Image

    side = size * rng.uniform(0.6, 1.1)
    small = tuple(max(1, math.ceil(length / side)) for length in image.size)
    return image.resize(small, Image.Resampling.BOX).resize(image.size, Image.Resampling.NEAREST)


def _cover(shape: tuple[int, int], hidden: list[Box], free: list[Box], rng: numpy.random.Generator) -> Pixels:
    """Where something lies over the hidden boxes, with an uneven edge that keeps clear of the free ones."""
    import numpy

    width, height = shape
    mask = numpy.zeros((height, width), bool)
    for x1, y1, x2, y2 in hidden:
        mask[max(0, y1 - 1) : y2 + 1, max(0, x1 - 1) : x2 + 1] = True
    reach = int(rng.integers(2, 24))
    near = numpy.zeros_like(mask)
    for x1, y1, x2, y2 in hidden:
        near[max(0, y1 - reach) : y2 + reach, max(0, x1 - reach) : x2 + reach] = True
    mask |= near & (scene.noise(shape, int(rng.integers(8, 60)), rng) > -0.6)
    for x1, y1, x2, y2 in free:
        kept = mask[max(0, y1 - CLEAR) : y2 + CLEAR, max(0, x1 - CLEAR) : x2 + CLEAR]
        kept[:] = False
    for x1, y1, x2, y2 in hidden:
        if not mask[y1:y2, x1:x2].all():
            raise produce.Rejected("lines too near to cover one alone")
    return mask


def _inked(image: Image.Image, mask: Pixels, rng: numpy.random.Generator) -> Image.Image:
    """The page with the mask's pixels of one colour: ink, a torn hole, correction fluid."""
    import numpy
    from PIL import Image

    pixels = numpy.array(image.convert("RGB"))
    colors = ((0, 0, 0), (25, 30, 70), (120, 75, 40), (150, 150, 150), (255, 255, 255))
    color = numpy.array(colors[int(rng.integers(len(colors)))])
    pixels[mask] = numpy.clip(color + rng.normal(0, 4, (int(mask.sum()), 1)), 0, 255)
    return Image.fromarray(pixels)


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    options = arguments.CommandParser(
        prog="python -m data_tools.engines.negatives",
        description="Draw pictures with nothing left to read, or only a part, and write them as records.",
    )
    arguments.add_arguments(options, shard_pages=500, counted="pictures")
    scene.add_language_arguments(options, lines.DEFAULT_FONTS)
    degrade.add_arguments(options)
    options.add_argument("--kinds", type=arguments.one_of(KINDS), default=KINDS, help="(default: all)")
    options.add_argument(
        "--photos", help="folder of photos that are known to have no text (default: drawn ones)"
    )
    options.add_argument(
        "--width", type=arguments.span, default=(480, 1100), help="pixels (default: 480-1100)"
    )
    options.add_argument(
        "--height", type=arguments.span, default=(480, 1300), help="pixels (default: 480-1300)"
    )
    options.add_argument("--font-size", type=arguments.span, default=(16, 40), help="pixels (default: 16-40)")
    return options


def make(args: argparse.Namespace) -> dict[str, Any]:
    """Records as the options ask; returns the counts."""
    photos = scene.find_photos(Path(args.photos) if args.photos else None)
    chosen, without = scene.languages(args)
    engine = NegativeEngine(
        languages=chosen,
        kinds=args.kinds,
        shapes=(args.width, args.height),
        sizes=args.font_size,
        photos=photos,
        degrade=args.degrade,
        name=f"negatives-{args.split}",
    )
    fonts = {language.name: [font.stem for font in language.fonts] for language in chosen}
    names = [path.name for path in photos]
    return produce.write(engine, args, args.count, without, fonts=fonts, photo_names=names)


main = produce.command(parser, make)

if __name__ == "__main__":
    sys.exit(main())
