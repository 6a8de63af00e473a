"""Pages of 6 to 8 handwritten lines pasted on blank paper: fonts that look like handwriting, or real lines.

Real lines are the user's: pictures with .txt files, IAM's lines.txt, or a .jsonl of pictures and texts.
"""

from __future__ import annotations

import argparse
import functools
import io
import itertools
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from data_tools import arguments, produce
from data_tools.drawing import degrade, system_fonts
from data_tools.drawing.fonts import ShaperError, font_for, load_font, missing
from data_tools.text import corpora
from data_tools.text.scripts import needs_shaping
from got_train.errors import DrawingError

from . import regions, scene

if TYPE_CHECKING:
    import numpy

    Pixels = numpy.ndarray

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
TRIES = 400  # draws of a place for all lines of a page
GAP = 4  # pixels of paper between two lines
INKS = ((20, 20, 24), (24, 32, 90), (50, 50, 52), (10, 40, 130), (90, 20, 30), (40, 40, 40))
COMMON_CHINESE = "\u7684\u4e00\u662f\u4e0d\u4e86"  # a font without these five has no Chinese


class Sample(NamedTuple):
    """A picture of one line of real handwriting, and what it says."""

    path: Path
    text: str


class Piece(NamedTuple):
    """A line to paste: how much ink each pixel takes (0..255), and where it came from."""

    text: str
    ink: Pixels
    height: float  # of its letters, about the font size
    source: str


@dataclass(frozen=True)
class HandwritingEngine:
    """One page of plain text a number; its lines are read by where they stand."""

    languages: tuple[scene.Language, ...]
    samples: tuple[Sample, ...]  # used instead of fonts where there are any
    shape: tuple[int, int]
    lines: tuple[int, int]
    sizes: tuple[int, int]  # of the fonts, in pixels
    degrade: float = 0.0
    name: str = "handwriting"
    attempts: int = 50

    def rows(self, index: int, rng: numpy.random.Generator) -> list[produce.Row]:
        from PIL import Image

        count = int(rng.integers(self.lines[0], self.lines[1] + 1))
        pieces = self._sampled(count, rng) if self.samples else self._written(count, rng)
        boxes = _places(pieces, self.shape, rng)
        order = regions.reading_order(boxes) or []
        page = _paper(self.shape, rng)
        color = INKS[int(rng.integers(len(INKS)))]
        for piece, box in zip(pieces, boxes, strict=True):
            part = page[box[1] : box[3], box[0] : box[2]]
            scene._blend(part, piece.ink, list(color))
        least = min(piece.height for piece in pieces)
        image, parameters = degrade.apply(Image.fromarray(page), rng, self.degrade, least)
        meta: dict[str, Any] = {"sources": [pieces[position].source for position in order]}
        meta |= (
            {"degrade": parameters} if parameters else {"line_boxes": [boxes[position] for position in order]}
        )
        picture = produce.Picture(f"{index:08d}.jpg", produce.encode(image, "jpg"))
        text = "\n".join(pieces[position].text for position in order)
        return [produce.Row(f"{self.name}-{index:08d}-ocr", (picture,), "ocr", text, meta=meta)]

    def _written(self, count: int, rng: numpy.random.Generator) -> list[Piece]:
        """Consecutive lines of one document in one hand, as a page of notes has."""
        language = self.languages[int(rng.integers(len(self.languages)))]
        font = language.fonts[int(rng.integers(len(language.fonts)))]
        size = _same_height(font, int(rng.integers(self.sizes[0], self.sizes[1] + 1)))
        document = language.documents[int(rng.integers(len(language.documents)))]
        # two thirds of the page at most: lines stand apart, and are not all equally long
        widest = [round(self.shape[0] * part) for part in rng.uniform(0.25, 0.8, count)]
        try:
            texts = _fill(document, font, size, widest, rng)
        except ShaperError as error:
            raise produce.Rejected(str(error)) from None
        if missing(font, "".join(texts)):
            raise produce.Rejected(f"{font.stem} lacks a character")
        return [_write(text, font, size, rng) for text in texts]

    def _sampled(self, count: int, rng: numpy.random.Generator) -> list[Piece]:
        """Lines in their own size, made smaller where one is wider than the page or too high for it."""
        chosen = [self.samples[int(index)] for index in rng.integers(len(self.samples), size=count)]
        room = self.shape[0] * 0.9, self.shape[1] * 0.75 / count
        return [_read_line(sample, room) for sample in chosen]


@functools.cache
def _same_height(font: Path, size: int) -> int:
    """The size at which a font's x is as high as that of most fonts at `size`; some hands are very small."""
    _, top, _, bottom = load_font(font, 200).getbbox("x")
    return round(size * max(1.0, 0.4 * 200 / max(1, bottom - top)))


def _fill(
    document: corpora.Document, font: Path, size: int, widest: list[int], rng: numpy.random.Generator
) -> list[str]:
    """Consecutive words (characters, in Chinese) in lines of at most these widths in pixels, none twice."""
    start = int(rng.integers(len(document.paragraphs)))
    paragraphs = (*document.paragraphs[start:], *document.paragraphs[:start])
    chinese = corpora.is_chinese(document)
    joiner = "" if chinese else " "
    stream = itertools.chain.from_iterable(map(list if chinese else str.split, paragraphs))
    face = font_for("".join(document.paragraphs), font, size)
    lines, word = [], next(stream, None)
    for width in widest:
        while word is not None and face.getlength(word) > width:
            word = next(stream, None)
        if word is None:
            raise produce.Rejected("document shorter than a page")
        line, word = word, next(stream, None)
        while word is not None and face.getlength(f"{line}{joiner}{word}") <= width:
            line, word = f"{line}{joiner}{word}", next(stream, None)
        lines.append(line)
    return lines


def _write(text: str, font: Path, size: int, rng: numpy.random.Generator) -> Piece:
    """The line word by word, each a little higher or lower and nearer or farther, then slanted and bent.

    A line that a shaper sets is drawn at once, as its words may stand from right to left.
    """
    import cv2
    import numpy
    from PIL import Image, ImageDraw

    face = font_for(text, font, size)
    ascent, descent = face.getmetrics()
    pad = size
    image = Image.new("L", (round(face.getlength(text) * 1.15) + 2 * pad, ascent + descent + 2 * pad))
    draw = ImageDraw.Draw(image)
    pen = float(pad)
    for word in [text] if needs_shaping(text) else text.split(" "):
        draw.text((round(pen), pad + float(rng.normal(0, 0.03)) * size), word, font=face, fill=255)
        pen += face.getlength(word) + face.getlength(" ") * rng.uniform(0.9, 1.4)
    mask = numpy.asarray(image)
    height, width = mask.shape
    slant, drift = rng.uniform(-0.12, 0.2), rng.uniform(-0.012, 0.012)
    wave, phase = rng.uniform(0, 0.05) * size, rng.uniform(0, 2 * math.pi)
    ys, xs = numpy.mgrid[0:height, 0:width].astype(numpy.float32)
    from_y = ys + drift * (xs - width / 2) + wave * numpy.sin(2 * math.pi * xs / (12 * size) + phase)
    bent = cv2.remap(
        mask,
        (xs + slant * (ys - height / 2)).astype(numpy.float32),
        from_y.astype(numpy.float32),
        cv2.INTER_LINEAR,
    )
    return Piece(text, _trimmed(bent, 8), size, font.stem)


def _trimmed(ink: Pixels, least: int) -> Pixels:
    """Without the empty rows and columns around it."""
    import numpy

    rows, columns = (numpy.flatnonzero((ink > least).any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        raise produce.Rejected("a line without ink")
    return numpy.ascontiguousarray(ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


@functools.lru_cache(maxsize=256)
def _line_picture(path: Path) -> Pixels:
    import numpy
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            return numpy.asarray(image.convert("L"))
    except (UnidentifiedImageError, OSError):
        raise DrawingError(f"{path}: not a picture; name it no more in the list of lines") from None


def _read_line(sample: Sample, room: tuple[float, float]) -> Piece:
    """Ink is what is darker than the paper, which most pixels are."""
    import numpy
    from PIL import Image

    grey = _line_picture(sample.path).astype(numpy.float32)
    paper, dark = numpy.percentile(grey, (70, 1))
    if paper - dark < 40:
        raise produce.Rejected("a line without ink")
    ink = numpy.clip((paper - 12 - grey) / (paper - 12 - dark), 0, 1) * 255
    ink = _trimmed(ink.astype(numpy.uint8), 64)
    height, width = ink.shape
    scale = min(1.0, room[0] / width, room[1] / height)
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        ink = numpy.asarray(Image.fromarray(ink).resize(size, Image.Resampling.LANCZOS))
    if ink.shape[0] < 12:
        raise produce.Rejected("a line made smaller than 12 pixels")
    return Piece(sample.text, ink, ink.shape[0] * 0.6, sample.path.name)


def _places(
    pieces: list[Piece], shape: tuple[int, int], rng: numpy.random.Generator
) -> list[tuple[int, int, int, int]]:
    """A place for every line, at random, such that no two overlap and the order of reading is plain."""
    boxes: list[tuple[int, int, int, int]] = []
    for piece in pieces:
        height, width = piece.ink.shape
        free = shape[0] - width - 2 * GAP, shape[1] - height - 2 * GAP
        if min(free) < 0:
            raise produce.Rejected("a line larger than the page")
        for _ in range(TRIES // len(pieces)):
            x, y = (GAP + int(rng.integers(room + 1)) for room in free)
            box = (x, y, x + width, y + height)
            if any(regions.near(box, known, GAP) for known in boxes):
                continue
            if regions.reading_order([*boxes, box]) is not None:
                boxes.append(box)
                break
        else:
            raise produce.Rejected("no room for the lines")
    return boxes


def _paper(shape: tuple[int, int], rng: numpy.random.Generator) -> Pixels:
    """Blank paper, nearly white, on every other page of one grey all over."""
    import numpy

    width, height = shape
    tone = rng.integers(228, 256) - rng.integers(0, 12, 3)
    page = numpy.full((height, width, 3), tone, numpy.float32)
    if rng.random() < 0.5:
        page += scene.noise(shape, 90, rng)[..., None] * 2
    return numpy.clip(page, 0, 255).astype(numpy.uint8)


def find_samples(given: Path, split: str) -> tuple[Sample, ...]:
    """The lines of a folder, an IAM lines.txt or a .jsonl that fall on this side, by page or file name."""
    if given.is_dir():
        listed = given / "lines.txt"
        samples = _iam(listed) if listed.is_file() else _pairs(given)
    elif given.suffix == ".jsonl":
        samples = _jsonl(given)
    elif given.is_file():
        samples = _iam(given)
    else:
        raise DrawingError(
            f"--line-images {given}: no such folder or file; expected a folder, lines.txt or .jsonl"
        )
    kept = [sample for page, sample in samples if split == "all" or corpora.split_of(page) == split]
    if not kept:
        raise DrawingError(
            f"--line-images {given}: none of {len(samples)} lines is on the {split} side; add lines"
        )
    for sample in kept:
        if not sample.path.is_file():
            raise DrawingError(
                f"--line-images {given}: no file {sample.path}; keep pictures and list together"
            )
        if not sample.text.strip() or not sample.text.isprintable():
            raise DrawingError(
                f"{sample.path}: its text {sample.text!r} is not one line; correct or remove it"
            )
    return tuple(kept)


def _pairs(folder: Path) -> list[tuple[str, Sample]]:
    """Pictures with a .txt file of the same name beside them."""
    samples = []
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in PICTURES:
            beside = path.with_suffix(".txt")
            if not beside.is_file():
                raise DrawingError(f"{path}: no {beside.name} beside it; expected one text a picture")
            text = beside.read_text(encoding="utf-8-sig").strip("\n")
            samples.append((path.relative_to(folder).as_posix(), Sample(path, text)))
    return samples


def _iam(listed: Path) -> list[tuple[str, Sample]]:
    """IAM: `a01-000u-00 ok 154 19 408 746 1661 89 A|MOVE|to`; pictures in lines/a01/a01-000u/ or beside."""
    samples = []
    for number, row in enumerate(listed.read_text(encoding="utf-8").splitlines(), 1):
        if not row.strip() or row.startswith("#"):
            continue
        fields = row.split(" ", 8)
        if len(fields) != 9 or fields[1] not in ("ok", "err"):
            raise DrawingError(f"{listed}:{number}: {row[:40]!r} is not a line of IAM; name ok ... text")
        if fields[1] == "err":  # the words were not parted right; the text of the line may be wrong
            continue
        name = fields[0]
        form = name.rsplit("-", 1)[0]
        places = (listed.parent / "lines" / form.split("-")[0] / form, listed.parent / "lines", listed.parent)
        path = next(
            (p / f"{name}.png" for p in places if (p / f"{name}.png").is_file()), places[0] / f"{name}.png"
        )
        samples.append((form, Sample(path, _iam_text(fields[8]))))
    return samples


def _iam_text(words: str) -> str:
    """IAM parts all words by |, so that marks stand apart from the word before them."""
    text = " ".join(words.split("|"))
    for mark in (",", ".", ";", ":", "!", "?", ")"):
        text = text.replace(f" {mark}", mark)
    return text.replace("( ", "(")


def _jsonl(listed: Path) -> list[tuple[str, Sample]]:
    """Objects with the path of a picture (image, image_path, file_name, path) and its text."""
    samples = []
    for number, row in enumerate(listed.read_text(encoding="utf-8").splitlines(), 1):
        if not row.strip():
            continue
        try:
            fields = json.loads(row)
            image = next(fields[key] for key in ("image", "image_path", "file_name", "path") if key in fields)
            sample = Sample(listed.parent / image, fields["text"])
            page = str(fields.get("page", fields.get("document", image)))
        except (ValueError, StopIteration, KeyError, TypeError, AttributeError):
            form = '{"image": "a.png", "text": "..."}'
            raise DrawingError(f"{listed}:{number}: {row[:40]!r} is not a line; write {form}") from None
        samples.append((page, sample))
    return samples


def _languages(args: argparse.Namespace) -> tuple[tuple[scene.Language, ...], dict[str, str]]:
    """As scene.languages, in handwriting fonts; those with Chinese write Latin like a printed book."""
    hands = {
        "en": lambda font: missing(font, COMMON_CHINESE) != "",
        "zh": lambda font: missing(font, COMMON_CHINESE) == "",
    }
    names = {"en": args.fonts, "zh": args.fonts_zh}

    def find(name: str) -> list[Path]:
        fonts = system_fonts.handwriting_fonts(names[name])
        fit = [font for font in fonts if names[name] != "all" or hands[name](font)]
        if not fit:
            raise system_fonts.NoFontsError(
                f"fonts: no handwriting font for {system_fonts.LANGUAGES[name]} is installed; "
                "`make data-tools` installs some"
            )
        return fit

    finders = {name: functools.partial(find, name) for name in names}
    chosen, without = system_fonts.with_fonts(corpora.by_language(args), finders, args.strict)
    return tuple(scene.Language(name, texts, tuple(fit)) for name, (texts, fit) in chosen.items()), without


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    options = arguments.CommandParser(
        prog="python -m data_tools.engines.handwriting",
        description="Paste handwritten lines on blank pages and write them as records.",
    )
    arguments.add_arguments(options, shard_pages=500)
    arguments.add_size_arguments(options, width=1024, height=1024)
    scene.add_language_arguments(options, "all")
    degrade.add_arguments(options)
    options.add_argument(
        "--line-images", help="folder of pictures with .txt, IAM's lines.txt or a .jsonl, instead of fonts"
    )
    options.add_argument("--font-size", type=arguments.span, default=(26, 56), help="pixels (default: 26-56)")
    options.add_argument("--lines", type=arguments.span, default=(6, 8), help="on a page (default: 6-8)")
    return options


def make(args: argparse.Namespace) -> dict[str, Any]:
    """Records as the options ask; returns the counts."""
    shape = (args.side, args.side) if args.side else (args.width, args.height)
    samples = find_samples(Path(args.line_images), args.split) if args.line_images else ()
    chosen, without = ((), {}) if samples else _languages(args)
    engine = HandwritingEngine(
        languages=chosen,
        samples=samples,
        shape=shape,
        lines=args.lines,
        sizes=args.font_size,
        degrade=args.degrade,
        name=f"handwriting-{args.split}",
    )
    fonts = {language.name: [font.stem for font in language.fonts] for language in chosen}
    return produce.write(engine, args, args.count, without, fonts=fonts, samples=len(samples))


main = produce.command(parser, make)

if __name__ == "__main__":
    sys.exit(main())
