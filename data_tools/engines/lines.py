"""Small pages of a few single lines, drawn by Pillow fast enough to feed a nano training while it runs.

render_page draws the lines it is given; the command fills them with words of the corpora and writes records.
"""

from __future__ import annotations

import argparse
import bisect
import functools
import itertools
import re
import string
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from data_tools import produce
from data_tools.drawing import degrade, system_fonts
from data_tools.drawing.fonts import FontError, find_fonts, load_font, missing
from data_tools.text import corpora
from got_train.formats import spots as spotting

from .regions import FRAME_COLORS, random_frames

if TYPE_CHECKING:
    import numpy
    from PIL import Image

FRAME_PAD = 2  # pixels of paper between the box of a line and its frame
FRAME_WIDTH = 2
MARGIN = FRAME_PAD + FRAME_WIDTH  # so that a frame never leaves the page

TASKS = ("ocr", "box", "color", "spot")
TEXTS = ("words", "lowercase", "characters", "digits")
ALPHABETS = {"characters": string.ascii_letters + string.digits + string.punctuation, "digits": string.digits}
DEFAULT_FONTS = (
    "Caladea-Regular,DejaVuSans,DejaVuSansMono,DejaVuSerif,HankenGrotesk-Regular,Lato-Regular,"
    "Manrope-Regular,SourceSansPro-Regular,SourceSerifPro-Regular,STIXGeneral"
)

Box = tuple[int, int, int, int]  # x1, y1, x2, y2 in pixels; x2 and y2 are the first column and row outside
Glyph = tuple[str, float, int, float, int]  # character, x1, y1, x2, y2: from pen to pen, as high as its line


class LineError(ValueError):
    """Lines that cannot be drawn whole on the page asked for."""


class LinePage(NamedTuple):
    """What render_page draws: the picture, the box of every line, the cells of every line's characters."""

    image: Image.Image
    boxes: list[Box]
    glyphs: list[list[Glyph]]


@functools.lru_cache(maxsize=1 << 18)
def _advance(path: Path, size: int, char: str, following: str) -> float:
    """Pixels from the pen before a character to the pen before the next one, kerning included."""
    font = load_font(path, size)
    return font.getlength(char + following) - font.getlength(following)


@functools.lru_cache(maxsize=1 << 16)
def _missing(path: Path, word: str) -> str:
    return missing(path, word)


@functools.lru_cache(maxsize=1024)
def line_height(path: Path, size: int) -> int:
    """Ascent and descent of the font at this size, in pixels."""
    return sum(load_font(path, size).getmetrics())


def _pitch(inks: list[Box], framed: list[bool], least: int) -> int:
    """Distance of base lines at which no frame touches the ink or the frame of the line above or below."""
    pairs = zip(inks, inks[1:], framed, framed[1:], strict=False)
    apart = [up[3] - low[1] + MARGIN * (up_framed + low_framed) for up, low, up_framed, low_framed in pairs]
    return max([least, *apart])


def render_page(
    lines: Sequence[str],
    font: Path,
    size: int,
    shape: int | tuple[int, int],
    rng: numpy.random.Generator,
    *,
    frames: Mapping[int, str] | None = None,
    scatter: int = 8,
    grey: bool = True,
) -> LinePage:
    """Lines of dark text on light paper, under each other, left edges aligned.

    shape is the side of a square page or (width, height). The block of lines starts up to `scatter` pixels
    right of and below the margin, the distance between lines varies by up to a quarter, and the greys of
    paper (219..255) and ink (0..89) vary too; grey=False gives black on white. frames {line index: "red" |
    "green" | "blue"} draws a frame around the box of that line; the page is then RGB, else L.
    Lines that do not fit are refused (LineError), and so is a character that the font lacks (FontError).
    """
    from PIL import Image, ImageDraw

    width, height = (shape, shape) if isinstance(shape, int) else shape
    if not lines or not all(line.strip() for line in lines):
        raise LineError(f"lines: {list(lines)!r} hold an empty line or none at all; give text in each")
    for line in lines:
        if _missing(font, line):
            raise FontError(f"lines: {font.stem} cannot draw {_missing(font, line)!r} of {line!r}")
    face = load_font(font, size)
    # left, top, right, bottom of the ink from the pen's start; the right edge counts the last advance as well
    inks = [tuple(map(int, face.getbbox(line))) for line in lines]
    framed = [row in (frames or ()) for row in range(len(lines))]
    pitch = _pitch(inks, framed, line_height(font, size))
    inset = -min(0, *(ink[0] for ink in inks)), -min(0, inks[0][1])
    needed = (
        2 * MARGIN + inset[0] + max(ink[2] for ink in inks),
        2 * MARGIN + inset[1] + pitch * (len(lines) - 1) + max(line_height(font, size), inks[-1][3]),
    )
    free = width - needed[0], height - needed[1]
    if min(free) < 0:
        raise LineError(
            f"lines: {len(lines)} lines of {font.stem} {size} need {needed[0]} x {needed[1]} pixels, the "
            f"page has {width} x {height}; use fewer or shorter lines or a smaller size"
        )

    random = rng.random(5).tolist()  # one call for all: a Generator call costs as much as a short line
    paper, ink_grey = (255 - int(random[0] * 36), int(random[1] * 90)) if grey else (255, 0)
    right, down = (int(random[2 + axis] * (min(scatter, free[axis]) + 1)) for axis in (0, 1))
    left, top = MARGIN + inset[0] + right, MARGIN + inset[1] + down
    if len(lines) > 1:
        pitch += int(random[4] * (min(pitch // 4, (free[1] - down) // (len(lines) - 1)) + 1))

    image = Image.new("L", (width, height), paper)
    draw = ImageDraw.Draw(image)
    boxes: list[Box] = []
    glyphs: list[list[Glyph]] = []
    for row, (line, ink) in enumerate(zip(lines, inks, strict=True)):
        y = top + row * pitch
        draw.text((left, y), line, font=face, fill=ink_grey)
        box = (left + ink[0], y + ink[1], left + ink[2], y + ink[3])
        boxes.append(box)
        cells: list[Glyph] = []
        pen = float(left)
        for char, following in zip(line, line[1:] + "\0", strict=True):
            step = _advance(font, size, char, "" if following == "\0" else following)
            cells.append((char, pen, box[1], pen + step, box[3]))
            pen += step
        glyphs.append(cells)
    if frames:
        image = image.convert("RGB")
        draw = ImageDraw.Draw(image)
        for row, color in frames.items():
            x1, y1, x2, y2 = boxes[row]
            # Pillow's rectangle includes its last pixel
            draw.rectangle(
                (x1 - MARGIN, y1 - MARGIN, x2 + MARGIN - 1, y2 + MARGIN - 1),
                outline=FRAME_COLORS[color],
                width=FRAME_WIDTH,
            )
    return LinePage(image, boxes, glyphs)


@dataclass(frozen=True)
class LineEngine:
    """Pages of lines as records: ocr (whole page), box (one line), color (one framed line), spot (all lines
    with their boxes)."""

    fonts: tuple[Path, ...]
    tasks: tuple[str, ...]
    shape: tuple[int, int]
    sizes: tuple[int, int]  # of the font, in pixels
    lines: tuple[int, int]  # on a page
    characters: tuple[int, int]  # in a line
    scatter: int
    words: tuple[tuple[str, ...], ...] = ()  # of every document
    alphabet: str = ""  # random characters of it instead of words
    glyphs: bool = False  # whether whole pages tell the box of every character
    name: str = "lines"
    attempts: int = 50
    chinese: tuple[tuple[str, ...], ...] = ()  # as words, character by character
    chinese_fonts: tuple[Path, ...] = ()
    degrade: float = 0.0  # share of pages

    def rows(self, index: int, rng: numpy.random.Generator) -> list[produce.Row]:
        # without Chinese no number is drawn for it, and a seed gives the pages that it always gave
        chinese = bool(self.chinese) and (not (self.words or self.alphabet) or bool(rng.random() < 0.5))
        fonts = self.chinese_fonts if chinese else self.fonts
        font = fonts[int(rng.integers(len(fonts)))]
        size = _within(self.sizes, rng)
        lines = self._chinese_lines(rng) if chinese else self._lines(rng)
        target = int(rng.integers(len(lines)))
        frames = random_frames(len(lines), target, rng)
        draw = functools.partial(render_page, lines, font, size, self.shape, rng, scatter=self.scatter)
        try:
            page = draw()
            framed = draw(frames=frames) if "color" in self.tasks else page
        except FontError:
            raise produce.Rejected(f"{font.stem} lacks a character") from None
        except LineError:
            raise produce.Rejected("lines larger than the page") from None
        meta: dict[str, Any] = {"font": font.stem, "size": size}
        if self.degrade:
            page, parameters = self._worse(page, size, rng)
            meta |= {"degrade": parameters} if parameters else {}
            framed, _ = self._worse(framed, size, rng)
        picture = produce.Picture(f"{index:08d}.png", produce.encode(page.image, "png"))
        box = page.boxes[target]
        rows = []
        for task in self.tasks:
            name = f"{self.name}-{index:08d}-{task}"
            if task == "ocr":
                boxes = {"line_boxes": page.boxes}
                glyphs = (
                    [[c, *map(round, box)] for line in page.glyphs for c, *box in line] if self.glyphs else []
                )
                text = "\n".join(lines)
                rows.append(produce.Row(name, (picture,), "ocr", text, glyphs=glyphs, meta=meta | boxes))
            elif task == "spot":
                spots = [spotting.Spot(line, box) for line, box in zip(lines, page.boxes, strict=True)]
                text = spotting.write(spots, page.image.size)
                rows.append(produce.Row(name, (picture,), "spot", text, meta=meta))
            elif task == "box":
                rows.append(produce.Row(name, (picture,), "ocr", lines[target], box, meta=meta))
            else:
                image = produce.Picture(f"{index:08d}-color.png", produce.encode(framed.image, "png"))
                region = meta | {"region": framed.boxes[target]}
                color = frames[target]
                rows.append(produce.Row(name, (image,), "ocr", lines[target], color=color, meta=region))
        return rows

    def _worse(
        self, page: LinePage, size: int, rng: numpy.random.Generator
    ) -> tuple[LinePage, dict[str, Any]]:
        """The page degraded, or not, with its boxes where the text is then."""
        # turned lines would share their boxes with their neighbours
        upright = self.glyphs or self.tasks != ("ocr",)
        image, parameters, matrix = degrade.apply_with_matrix(
            page.image, rng, self.degrade, size, upright=upright
        )
        if not parameters:
            return page, parameters
        boxes = degrade.moved(page.boxes, matrix, image.size)
        glyphs = []
        for line in page.glyphs:
            cells = degrade.moved([cell[1:] for cell in line], matrix, image.size)
            glyphs.append([(glyph[0], *cell) for glyph, cell in zip(line, cells, strict=True)])
        return LinePage(image, boxes, glyphs), parameters

    def _chinese_lines(self, rng: numpy.random.Generator) -> list[str]:
        lengths = [_within(self.characters, rng) for _ in range(_within(self.lines, rng))]
        document = self.chinese[int(rng.integers(len(self.chinese)))]
        start = int(rng.integers(len(document)))
        return fill_lines(itertools.islice(itertools.cycle(document), start, None), lengths, joiner="")

    @functools.cached_property
    def _ends(self) -> list[int]:
        """Where each document ends, in words, so that long documents are drawn more often than short ones."""
        return list(itertools.accumulate(len(document) for document in self.words))

    def _lines(self, rng: numpy.random.Generator) -> list[str]:
        lengths = [_within(self.characters, rng) for _ in range(_within(self.lines, rng))]
        if not self.words:
            return [
                "".join(self.alphabet[i] for i in rng.integers(len(self.alphabet), size=n)) for n in lengths
            ]
        start = int(rng.integers(self._ends[-1]))
        document = self.words[bisect.bisect_right(self._ends, start)]
        words = itertools.islice(itertools.cycle(document), start % len(document), None)
        return fill_lines(words, lengths)


def fill_lines(words: Iterator[str], lengths: Sequence[int], joiner: str = " ") -> list[str]:
    """Consecutive words, as many in each line as go into its length; words too long for it are left out."""
    lines: list[str] = []
    word, passed = next(words), 0
    for length in lengths:
        while len(word) > length:
            word, passed = next(words), passed + 1
            if passed > 1000:
                raise produce.Rejected("no word as short as a line")
        line, word = word, next(words)
        while len(line) + len(joiner) + len(word) <= length:
            line, word = f"{line}{joiner}{word}", next(words)
        lines.append(line)
    return lines


def lowercase(documents: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
    """The same words in small letters and digits alone; documents without any are dropped."""
    plain = (tuple(re.sub(r"[^a-z0-9]", "", word.lower()) for word in document) for document in documents)
    kept = (tuple(word for word in document if word) for document in plain)
    return tuple(document for document in kept if document)


def _within(span: tuple[int, int], rng: numpy.random.Generator) -> int:
    return int(rng.integers(span[0], span[1] + 1))


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    options = argparse.ArgumentParser(
        prog="python -m data_tools.engines.lines",
        description="Draw small pages of single lines and write them as records.",
    )
    produce.add_arguments(options, shard_pages=1000)
    produce.add_size_arguments(options, width=128, height=128)
    produce.add_text_arguments(options)
    options.add_argument(
        "--tasks", type=produce.one_of(TASKS), default=("ocr",), help="ocr,box,color,spot (default: ocr)"
    )
    options.add_argument(
        "--fonts", default=DEFAULT_FONTS, help="names, paths, folders, beginnings such as Lato-*, or all"
    )
    options.add_argument("--text", choices=TEXTS, default="words", help="(default: %(default)s)")
    options.add_argument(
        "--glyphs", action="store_true", help="tell the box of every character in ocr records"
    )
    options.add_argument("--font_size", type=produce.span, default=(13, 16), help="pixels (default: 13-16)")
    options.add_argument("--lines", type=produce.span, default=(1, 4), help="on a page (default: 1-4)")
    options.add_argument("--characters", type=produce.span, default=(3, 9), help="in a line (default: 3-9)")
    options.add_argument(
        "--scatter",
        type=produce.not_negative,
        default=8,
        help="pixels off the corner at most (default: 8)",
    )
    corpora.add_arguments(options)
    options.add_argument(
        "--fonts_zh", default="all", help="for Chinese: names, paths, folders (default: all installed)"
    )
    degrade.add_arguments(options)
    return options


def make(args: argparse.Namespace) -> dict[str, Any]:
    """Records as the options ask; returns the counts."""
    fonts = find_fonts(args.fonts.split(","))
    words, chinese = _words(args)
    alphabet = ALPHABETS.get(args.text, "") if args.language != "zh" else ""
    texts = {"en": words or alphabet, "zh": chinese}
    find = {"en": lambda: fonts, "zh": lambda: system_fonts.chinese_fonts(args.fonts_zh)}
    asked = {language: text for language, text in texts.items() if text}
    found, without = system_fonts.with_fonts(asked, find, args.strict)
    chinese, chinese_fonts = found.get("zh", ((), ()))
    shape = (args.side, args.side) if args.side else (args.width, args.height)
    engine = LineEngine(
        tuple(fonts), args.tasks, shape, args.font_size, args.lines, args.characters, args.scatter,
        words, alphabet, args.glyphs, name=f"lines-{args.split}",
        chinese=chinese, chinese_fonts=tuple(chinese_fonts), degrade=args.degrade,
    )  # fmt: skip
    names = [font.stem for font in (*fonts, *chinese_fonts)]
    return produce.write(engine, args, args.count, without, fonts=names)


def _words(args: argparse.Namespace) -> tuple[tuple[tuple[str, ...], ...], tuple[tuple[str, ...], ...]]:
    """The words of every Latin document, and the characters of every Chinese one."""
    if args.language == "en" and args.texts is None:
        words = corpora.words(args.split, args.sources) if args.text in ("words", "lowercase") else ()
        return (lowercase(words) if args.text == "lowercase" else words), ()
    found = corpora.by_language(args)
    if args.text not in ("words", "lowercase"):
        found.pop("en", None)
    words = tuple(tuple(" ".join(document.paragraphs).split()) for document in found.get("en", ()))
    words = lowercase(words) if args.text == "lowercase" else words
    chinese = tuple(tuple("".join(document.paragraphs).replace(" ", "")) for document in found.get("zh", ()))
    return words, chinese


def main(arguments: list[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    return produce.run(lambda: make(args))


if __name__ == "__main__":
    sys.exit(main())
