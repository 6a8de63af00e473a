"""Small pages of a few single lines, drawn by Pillow fast enough to feed a nano training while it runs.

render_page draws the lines it is given; the command fills them with words of the corpora and writes records.
"""

from __future__ import annotations

import argparse
import bisect
import functools
import itertools
import random
import string
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from data_tools import arguments, produce
from data_tools.drawing import degrade, system_fonts, wear
from data_tools.drawing.fonts import FontError, load_font, missing
from data_tools.text import corpora, printed
from data_tools.text.phrases import lowercase
from got_train.errors import DrawingError
from got_train.formats import spots as spotting

from .regions import FRAME_COLORS, random_frames

if TYPE_CHECKING:
    import numpy
    from PIL import Image

FRAME_PAD = 2  # pixels of paper between the box of a line and its frame
FRAME_WIDTH = 2
MARGIN = FRAME_PAD + FRAME_WIDTH  # so that a frame never leaves the page
GAP = "   "  # the least room that a tab stands for

TASKS = ("ocr", "box", "color", "spot", "multi_crop_ocr")
WHOLE = {"ocr", "multi_crop_ocr"}  # of these tasks no answer tells the box of a line
TEXTS = ("words", "lowercase", "characters", "digits", "print")
ALPHABETS = {"characters": string.ascii_letters + string.digits + string.punctuation, "digits": string.digits}
DEFAULT_FONTS = (
    "Caladea-Regular,DejaVuSans,DejaVuSansMono,DejaVuSerif,HankenGrotesk-Regular,Lato-Regular,"
    "Manrope-Regular,SourceSansPro-Regular,SourceSerifPro-Regular,STIXGeneral"
)

Box = tuple[int, int, int, int]  # x1, y1, x2, y2 in pixels; x2 and y2 are the first column and row outside
Glyph = tuple[str, float, int, float, int]  # character, x1, y1, x2, y2: from pen to pen, as high as its line


class LineError(DrawingError):
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
    indents: Sequence[float] = (),
    spread: float = 0.0,
) -> LinePage:
    """Lines of dark text on light paper, under each other.

    indents says where each line stands in the block, from 0 (left edge, the default) to 1 (right edge). What
    follows a tab stands at the right edge of the block, which spread makes wider by that share of the room.

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
        absent = _missing(font, line.replace("\t", " "))
        if absent:
            raise FontError(f"lines: {font.stem} cannot draw {absent!r} of {line!r}")
    face = load_font(font, size)
    # left, top, right, bottom of the ink from the pen's start; the right edge counts the last advance as well
    pieces = [line.split("\t") for line in lines]
    inks = [tuple(map(int, face.getbbox(line.replace("\t", GAP)))) for line in lines]
    framed = [row in (frames or ()) for row in range(len(lines))]
    pitch = _pitch(inks, framed, line_height(font, size))
    inset = -min(0, *(ink[0] for ink in inks)), -min(0, inks[0][1])
    needed = (
        2 * MARGIN + inset[0] + max(ink[2] for ink in inks),
        2 * MARGIN + inset[1] + pitch * (len(lines) - 1) + max(line_height(font, size), inks[-1][3]),
    )
    free = width - needed[0], height - needed[1]
    block = max(ink[2] for ink in inks)
    if spread and min(free) >= 0:
        block += int(spread * free[0])
        free = free[0] - int(spread * free[0]), free[1]
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
    for row, (parts, ink) in enumerate(zip(pieces, inks, strict=True)):
        y = top + row * pitch
        start = left + (int(indents[row] * (block - ink[2])) if indents and len(parts) == 1 else 0)
        ends = [start + ink[2]] if len(parts) == 1 else [start, left + block]
        line_top, line_bottom = y + ink[1], y + ink[3]
        cells: list[Glyph] = []
        for part, text in enumerate(parts):
            pen = float(start)
            if part:  # what follows the tab ends at the block's right edge
                pen = float(left + block - int(face.getlength(text)))
                cells.append((" ", cells[-1][3], line_top, pen, line_bottom))
            draw.text((pen, y), text, font=face, fill=ink_grey)
            for char, following in zip(text, text[1:] + "\0", strict=True):
                step = _advance(font, size, char, "" if following == "\0" else following)
                cells.append((char, pen, line_top, pen + step, line_bottom))
                pen += step
        boxes.append((start + ink[0], line_top, ends[-1], line_bottom))
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
    with their boxes), multi_crop_ocr (whole page, cut into tiles when it is trained on)."""

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
    wear: float = 0.0  # share of pages
    printed: bool = False  # words as printed matter has them (data_tools.text.printed), set as it is there
    crop: bool = False  # a picture is cut to its lines, as line crops and windows are

    def rows(self, index: int, rng: numpy.random.Generator) -> list[produce.Row]:
        # without Chinese no number is drawn for it, and a seed gives the pages that it always gave
        chinese = bool(self.chinese) and (not (self.words or self.alphabet) or bool(rng.random() < 0.5))
        fonts = self.chinese_fonts if chinese else self.fonts
        font = fonts[int(rng.integers(len(fonts)))]
        size = self._size(rng) if self.printed else _within(self.sizes, rng)
        setting: dict[str, Any] = {}
        if self.printed:
            lines, setting = self._printed_lines(font, size, rng)
        else:
            lines = self._chinese_lines(rng) if chinese else self._lines(rng)
        target = int(rng.integers(len(lines)))
        frames = random_frames(len(lines), target, rng)
        draw = functools.partial(
            render_page, lines, font, size, self.shape, rng, scatter=self.scatter, **setting
        )
        try:
            page = draw()
            framed = draw(frames=frames) if "color" in self.tasks else page
        except FontError:
            raise produce.Rejected(f"{font.stem} lacks a character") from None
        except LineError:
            raise produce.Rejected("lines larger than the page") from None
        lines = [line.replace("\t", " ") for line in lines]
        meta: dict[str, Any] = {"font": font.stem, "size": size}
        if self.crop:
            page = framed = _cropped(page, rng)
        if self.wear and rng.random() < self.wear:
            worn, done = wear.wear(page.image, page.boxes, size, random.Random(int(rng.integers(1 << 62))))
            page, meta = page._replace(image=worn), meta | {"wear": done}
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
            elif task == "multi_crop_ocr":
                rows.append(produce.Row(name, (picture,), task, "\n".join(lines), meta=meta))
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
        upright = (self.glyphs and not self.printed) or not WHOLE.issuperset(self.tasks)
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

    def _size(self, rng: numpy.random.Generator) -> int:
        """Small sizes more often than large ones, as a page of small text has more of it."""
        low, high = self.sizes
        return round(low * (high / low) ** (rng.random() ** 1.3))

    def _printed_lines(
        self, font: Path, size: int, rng: numpy.random.Generator
    ) -> tuple[list[str], dict[str, Any]]:
        """Lines that fill the page, or some of it, and how they are set."""
        draw = random.Random(int(rng.integers(1 << 62)))
        start = draw.randrange(self._ends[-1])
        document = self.words[bisect.bisect_right(self._ends, start)]
        words = itertools.islice(itertools.cycle(document), start % len(document), None)
        writer = printed.Writer(words.__next__, draw)
        width, height = (side - 2 * MARGIN for side in self.shape)
        broad = writer.upper or writer.style == "characters"
        advance = load_font(font, size).getlength("ABENRS 052" if broad else "aenrtio e5") / 10
        most = max(1, min(self.characters[1], int(width / advance) - 1))
        rows = max(1, min(self.lines[1], height // line_height(font, size)))
        if rows > self.lines[0]:  # full pages more often than single lines
            rows = round(self.lines[0] + (rows - self.lines[0]) * draw.random() ** 0.6)
        least = min(self.characters[0], most)
        if writer.style == "prose":  # a block of about even lines, or a narrow one
            edge = max(least, round(most * draw.choice((1, 1, 1, 0.8, 0.5))))
            lengths = [edge] * (rows - 1) + [draw.randint(least, edge)]
        else:
            lengths = [draw.randint(max(least, most // 2), most) for _ in range(rows)]
        lines = [line.strip() for line in writer.lines(lengths)]
        align = draw.choice((0, 0, 0, 0.5, 0.5, 1, None))
        indents = [draw.random() if align is None else align for _ in lines]
        spread = draw.random() if draw.random() < 0.7 and any("\t" in line for line in lines) else 0.0
        return [line or "-" for line in lines], {"indents": indents, "spread": spread}

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


def _cropped(page: LinePage, rng: numpy.random.Generator) -> LinePage:
    """The page cut to its lines, with up to a third of a line's height around them."""
    height = page.boxes[0][3] - page.boxes[0][1]
    around = (rng.random(4) ** 2 * height / 3).astype(int).tolist()
    x1, y1 = (max(0, min(box[axis] for box in page.boxes) - around[axis]) for axis in (0, 1))
    x2, y2 = (max(box[axis] for box in page.boxes) + around[axis] for axis in (2, 3))
    image = page.image.crop((x1, y1, min(x2, page.image.width), min(y2, page.image.height)))
    boxes = [(a - x1, b - y1, c - x1, d - y1) for a, b, c, d in page.boxes]
    glyphs = [[(g[0], g[1] - x1, g[2] - y1, g[3] - x1, g[4] - y1) for g in line] for line in page.glyphs]
    return LinePage(image, boxes, glyphs)


def _within(span: tuple[int, int], rng: numpy.random.Generator) -> int:
    return int(rng.integers(span[0], span[1] + 1))


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    options = argparse.ArgumentParser(
        prog="python -m data_tools.engines.lines",
        description="Draw small pages of single lines and write them as records.",
    )
    arguments.add_arguments(options, shard_pages=1000)
    arguments.add_size_arguments(options, width=128, height=128)
    arguments.add_text_arguments(options)
    options.add_argument(
        "--tasks", type=arguments.one_of(TASKS), default=("ocr",), help=f"{','.join(TASKS)} (default: ocr)"
    )
    options.add_argument(
        "--fonts", default=DEFAULT_FONTS, help="names, paths, folders, beginnings such as Lato-*, or all"
    )
    options.add_argument("--text", choices=TEXTS, default="words", help="(default: %(default)s)")
    options.add_argument(
        "--glyphs", action="store_true", help="tell the box of every character in ocr records"
    )
    options.add_argument("--font_size", type=arguments.span, default=(13, 16), help="pixels (default: 13-16)")
    options.add_argument("--lines", type=arguments.span, default=(1, 4), help="on a page (default: 1-4)")
    options.add_argument("--characters", type=arguments.span, default=(3, 9), help="in a line (default: 3-9)")
    options.add_argument(
        "--scatter",
        type=arguments.not_negative,
        default=8,
        help="pixels off the corner at most (default: 8)",
    )
    options.add_argument(
        "--crop", action="store_true", help="cut the picture to its lines, as line crops and windows are"
    )
    options.add_argument(
        "--wear", type=degrade.share, default=0.0,
        help="share of pages with rules, faint or dotted ink, inverted blocks and the like (default: 0)",
    )  # fmt: skip
    corpora.add_arguments(options)
    options.add_argument(
        "--fonts_zh", default="all", help="for Chinese: names, paths, folders (default: all installed)"
    )
    degrade.add_arguments(options)
    return options


def make(args: argparse.Namespace) -> dict[str, Any]:
    """Records as the options ask; returns the counts."""
    fonts = system_fonts.named_fonts(args.fonts)
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
        wear=args.wear, printed=args.text == "print", crop=args.crop,
    )  # fmt: skip
    names = [font.stem for font in (*fonts, *chinese_fonts)]
    return produce.write(engine, args, args.count, without, fonts=names)


def _words(args: argparse.Namespace) -> tuple[tuple[tuple[str, ...], ...], tuple[tuple[str, ...], ...]]:
    """The words of every Latin document, and the characters of every Chinese one."""
    if args.language == "en" and args.texts is None:
        words = corpora.words(args.split, args.sources) if args.text not in ALPHABETS else ()
        if args.text == "print":
            known = (tuple(filter(printed.readable, document)) for document in words)
            return tuple(document for document in known if document), ()
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
