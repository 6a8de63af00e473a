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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from data_tools import arguments, produce
from data_tools.drawing import degrade, system_fonts, wear
from data_tools.drawing.fonts import FontError, ShaperError, font_for, load_font, missing
from data_tools.text import corpora, printed
from data_tools.text.phrases import lowercase
from data_tools.text.scripts import is_right_to_left, needs_shaping
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
# a character and its cell x1, y1, x2, y2: from the pen before it to the pen after it, as high as its line
CharBox = tuple[str, float, int, float, int]


class LineError(DrawingError):
    """Lines that cannot be drawn whole on the page asked for."""


class LinePage(NamedTuple):
    """What render_page draws: the picture, the box of every line, the cells of every line's characters.

    A line that a shaper sets has no cells: its letters join, change places, or stand on each other.
    """

    image: Image.Image
    boxes: list[Box]
    char_boxes: list[list[CharBox]]


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


def _pitch(inks: list[Box], framed: list[bool], minimum: int) -> int:
    """Distance of base lines at which no frame touches the ink or the frame of the line above or below."""
    pitch = minimum
    for row in range(1, len(inks)):
        frames = framed[row - 1] + framed[row]  # 0, 1 or 2
        pitch = max(pitch, inks[row - 1][3] - inks[row][1] + MARGIN * frames)
    return pitch


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
    follows a tab stands at the right edge of the block; spread is the share of the page's free width by
    which the block is made wider.

    shape is the side of a square page or (width, height). The block of lines starts up to `scatter` pixels
    right of and below the margin, the distance between lines varies by up to a quarter, and the greys of
    paper (219..255) and ink (0..89) vary too; grey=False gives black on white. frames {line index: "red" |
    "green" | "blue"} draws a frame around the box of that line; the page is then RGB, else L.
    Lines that do not fit are refused (LineError), and so is a character that the font lacks (FontError).
    Lines of Arabic, Hebrew, Devanagari and the like are set by Pillow's shaper, those from right to left at
    the right edge of the block.
    """
    from PIL import Image, ImageDraw

    width, height = (shape, shape) if isinstance(shape, int) else shape
    _check_lines(lines, font)
    shaped = [needs_shaping(line) for line in lines]
    faces = [font_for(line, font, size) for line in lines]
    pieces = [
        [line.replace("\t", GAP)] if joined else line.split("\t")
        for line, joined in zip(lines, shaped, strict=True)
    ]
    # left, top, right, bottom of the ink from the pen's start; the right edge counts the last advance as well
    inks = [
        tuple(map(int, face.getbbox(line.replace("\t", GAP))))
        for face, line in zip(faces, lines, strict=True)
    ]
    framed = [row in (frames or ()) for row in range(len(lines))]
    pitch = _pitch(inks, framed, line_height(font, size))
    # some fonts draw left of the pen's start or above it
    x_inset, y_inset = -min(0, *(ink[0] for ink in inks)), -min(0, inks[0][1])
    block_width = max(ink[2] for ink in inks)
    block_height = pitch * (len(lines) - 1) + max(line_height(font, size), inks[-1][3])
    needed_width, needed_height = 2 * MARGIN + x_inset + block_width, 2 * MARGIN + y_inset + block_height
    free_width, free_height = width - needed_width, height - needed_height
    if min(free_width, free_height) < 0:
        raise LineError(
            f"lines: {len(lines)} lines of {font.stem} {size} need {needed_width} x {needed_height} pixels, "
            f"the page has {width} x {height}; use fewer or shorter lines or a smaller size"
        )
    widening = int(spread * free_width)
    block_width, free_width = block_width + widening, free_width - widening

    # one call for all five: a call of a Generator costs as much as drawing a short line
    paper_draw, ink_draw, x_draw, y_draw, pitch_draw = rng.random(5).tolist()
    paper_grey, ink_grey = (255 - int(paper_draw * 36), int(ink_draw * 90)) if grey else (255, 0)
    right = int(x_draw * (min(scatter, free_width) + 1))
    down = int(y_draw * (min(scatter, free_height) + 1))
    left, top = MARGIN + x_inset + right, MARGIN + y_inset + down
    if len(lines) > 1:
        pitch += int(pitch_draw * (min(pitch // 4, (free_height - down) // (len(lines) - 1)) + 1))

    image = Image.new("L", (width, height), paper_grey)
    draw = ImageDraw.Draw(image)
    boxes: list[Box] = []
    char_boxes: list[list[CharBox]] = []
    for row, (parts, ink) in enumerate(zip(pieces, inks, strict=True)):
        y = top + row * pitch
        face, start, end = faces[row], left, left + block_width
        if len(parts) == 1:
            indent = indents[row] if indents else float(is_right_to_left(lines[row]))
            start += int(indent * (block_width - ink[2]))
            end = start + ink[2]
        pens = [start, *(end - int(face.getlength(text)) for text in parts[1:])]  # of what a tab parts
        for pen, text in zip(pens, parts, strict=True):
            draw.text((float(pen), y), text, font=face, fill=ink_grey)
        box = (start + ink[0], y + ink[1], end, y + ink[3])
        boxes.append(box)
        char_boxes.append([] if shaped[row] else _char_boxes(parts, pens, font, size, box))
    return LinePage(_framed(image, boxes, frames) if frames else image, boxes, char_boxes)


def _check_lines(lines: Sequence[str], font: Path) -> None:
    if not lines or not all(line.strip() for line in lines):
        raise LineError(f"lines: {list(lines)!r} hold an empty line or none at all; give text in each")
    for line in lines:
        absent = _missing(font, line.replace("\t", " "))
        if absent:
            raise FontError(f"lines: {font.stem} cannot draw {absent!r} of {line!r}")


def _char_boxes(parts: Sequence[str], pens: Sequence[int], font: Path, size: int, line: Box) -> list[CharBox]:
    """The cells of a line's characters; a tab is a space from the end of one part to the pen of the next."""
    _, top, _, bottom = line
    cells: list[CharBox] = []
    for text, start in zip(parts, pens, strict=True):
        pen = float(start)
        if cells:
            cells.append((" ", cells[-1][3], top, pen, bottom))
        for char, following in itertools.zip_longest(text, text[1:], fillvalue=""):
            end = pen + _advance(font, size, char, following)
            cells.append((char, pen, top, end, bottom))
            pen = end
    return cells


def _framed(image: Image.Image, boxes: Sequence[Box], frames: Mapping[int, str]) -> Image.Image:
    from PIL import ImageDraw

    framed = image.convert("RGB")
    draw = ImageDraw.Draw(framed)
    for row, color in frames.items():
        x1, y1, x2, y2 = boxes[row]
        # Pillow's rectangle includes its last pixel
        outer = (x1 - MARGIN, y1 - MARGIN, x2 + MARGIN - 1, y2 + MARGIN - 1)
        draw.rectangle(outer, outline=FRAME_COLORS[color], width=FRAME_WIDTH)
    return framed


@dataclass(frozen=True)
class _Drawn:
    """A page from which the records of all tasks are made."""

    page: LinePage
    framed: LinePage  # the same with frames, for the task color
    lines: list[str]
    target: int  # the line that box and color ask for
    color: str  # of its frame
    meta: dict[str, Any]


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
    char_boxes: bool = False  # whether whole pages tell the box of every character
    name: str = "lines"
    attempts: int = 50
    chinese: tuple[tuple[str, ...], ...] = ()  # as words, character by character
    chinese_fonts: tuple[Path, ...] = ()
    degrade: float = 0.0  # share of pages
    wear: float = 0.0  # share of pages
    printed: bool = False  # words as printed matter has them (data_tools.text.printed), set as it is there
    crop: bool = False  # a picture is cut to its lines, as line crops and windows are

    def rows(self, index: int, rng: numpy.random.Generator) -> list[produce.Row]:
        chinese = bool(self.chinese)
        if chinese and (self.words or self.alphabet):  # both: half of the pages each
            chinese = bool(rng.random() < 0.5)
        fonts = self.chinese_fonts if chinese else self.fonts
        font = fonts[int(rng.integers(len(fonts)))]
        size = self._size(rng) if self.printed else _within(self.sizes, rng)
        layout: dict[str, Any] = {}
        if self.printed:
            lines, layout = self._printed_lines(font, size, rng)
        else:
            lines = self._chinese_lines(rng) if chinese else self._lines(rng)
        target = int(rng.integers(len(lines)))
        frames = random_frames(len(lines), target, rng)
        draw = functools.partial(
            render_page, lines, font, size, self.shape, rng, scatter=self.scatter, **layout
        )
        try:
            page = draw()
            framed = draw(frames=frames) if "color" in self.tasks else page
        except ShaperError as error:
            raise produce.Rejected(str(error)) from None
        except FontError:
            raise produce.Rejected(f"{font.stem} lacks a character") from None
        except LineError:
            raise produce.Rejected("lines larger than the page") from None
        lines = [line.replace("\t", " ") for line in lines]
        meta: dict[str, Any] = {"font": font.stem, "size": size}
        if self.crop:
            page = framed = _cropped(page, rng)
        if self.wear and rng.random() < self.wear:
            worn, marks = wear.wear(page.image, page.boxes, size, random.Random(int(rng.integers(1 << 62))))
            page, meta = page._replace(image=worn), meta | {"wear": marks}
        if self.degrade:
            page, parameters = self._degraded(page, size, rng)
            meta |= {"degrade": parameters} if parameters else {}
            framed, _ = self._degraded(framed, size, rng)
        drawn = _Drawn(page, framed, lines, target, frames[target], meta)
        picture = produce.Picture(f"{index:08d}.png", produce.encode(page.image, "png"))
        return [self._row(task, index, picture, drawn) for task in self.tasks]

    def _row(self, task: str, index: int, picture: produce.Picture, drawn: _Drawn) -> produce.Row:
        """The record of one task. A picture is shared by all but `color`, whose own shows the frames."""
        page, lines, meta = drawn.page, drawn.lines, drawn.meta
        row = produce.Row(f"{self.name}-{index:08d}-{task}", (picture,), "ocr", "\n".join(lines), meta=meta)
        if task == "multi_crop_ocr":
            return replace(row, task=task)
        if task == "spot":
            spots = [spotting.Spot(line, box) for line, box in zip(lines, page.boxes, strict=True)]
            return replace(row, task=task, text=spotting.write(spots, page.image.size))
        if task == "ocr":
            row = replace(row, meta=meta | {"line_boxes": page.boxes})
            if not self.char_boxes:
                return row
            cells = itertools.chain.from_iterable(page.char_boxes)
            return replace(row, char_boxes=[[char, *map(round, cell)] for char, *cell in cells])
        row = replace(row, text=lines[drawn.target])
        if task == "box":
            return replace(row, box=page.boxes[drawn.target])
        framed = produce.Picture(f"{index:08d}-color.png", produce.encode(drawn.framed.image, "png"))
        meta = meta | {"region": drawn.framed.boxes[drawn.target]}
        return replace(row, pictures=(framed,), color=drawn.color, meta=meta)

    def _degraded(
        self, page: LinePage, size: int, rng: numpy.random.Generator
    ) -> tuple[LinePage, dict[str, Any]]:
        """The page degraded, or not, with its boxes where the text is then."""
        # turned lines would share their boxes with their neighbours
        upright = (self.char_boxes and not self.printed) or not WHOLE.issuperset(self.tasks)
        image, parameters, matrix = degrade.apply_with_matrix(
            page.image, rng, self.degrade, size, upright=upright
        )
        if not parameters:
            return page, parameters
        boxes = degrade.moved(page.boxes, matrix, image.size)
        char_boxes = []
        for line in page.char_boxes:
            cells = degrade.moved([cell[1:] for cell in line], matrix, image.size)
            char_boxes.append([(char, *cell) for (char, *_), cell in zip(line, cells, strict=True)])
        return LinePage(image, boxes, char_boxes), parameters

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
        # pixels of a usual character, by ten of them
        advance = load_font(font, size).getlength("ABENRS 052" if broad else "aenrtio e5") / 10
        longest = max(1, min(self.characters[1], int(width / advance) - 1))
        rows = max(1, min(self.lines[1], height // line_height(font, size)))
        if rows > self.lines[0]:  # full pages more often than single lines
            rows = round(self.lines[0] + (rows - self.lines[0]) * draw.random() ** 0.6)
        shortest = min(self.characters[0], longest)
        if writer.style == "prose":  # a block of about even lines, or a narrow one
            length = max(shortest, round(longest * draw.choice((1, 1, 1, 0.8, 0.5))))
            lengths = [length] * (rows - 1) + [draw.randint(shortest, length)]
        else:
            lengths = [draw.randint(max(shortest, longest // 2), longest) for _ in range(rows)]
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
            alphabet = list(self.alphabet)
            return ["".join(rng.choice(alphabet, size=length)) for length in lengths]
        start = int(rng.integers(self._ends[-1]))
        document = self.words[bisect.bisect_right(self._ends, start)]
        words = itertools.islice(itertools.cycle(document), start % len(document), None)
        return fill_lines(words, lengths)


def fill_lines(words: Iterator[str], lengths: Sequence[int], joiner: str = " ") -> list[str]:
    """Consecutive words, as many in each line as go into its length; words too long for it are left out."""
    lines: list[str] = []
    word, skipped = next(words), 0
    for length in lengths:
        while len(word) > length:
            word, skipped = next(words), skipped + 1
            if skipped > 1000:
                raise produce.Rejected("no word as short as a line")
        line, word = word, next(words)
        while len(line) + len(joiner) + len(word) <= length:
            line, word = f"{line}{joiner}{word}", next(words)
        lines.append(line)
    return lines


def _cropped(page: LinePage, rng: numpy.random.Generator) -> LinePage:
    """The page cut to its lines, with up to a third of a line's height around them."""
    height = page.boxes[0][3] - page.boxes[0][1]
    left, top, right, bottom = (rng.random(4) ** 2 * height / 3).astype(int).tolist()  # pixels of paper kept
    lefts, tops, rights, bottoms = zip(*page.boxes, strict=True)
    x, y = max(0, min(lefts) - left), max(0, min(tops) - top)
    width, height = page.image.size
    image = page.image.crop((x, y, min(max(rights) + right, width), min(max(bottoms) + bottom, height)))
    boxes = [(x1 - x, y1 - y, x2 - x, y2 - y) for x1, y1, x2, y2 in page.boxes]
    char_boxes = [
        [(char, x1 - x, y1 - y, x2 - x, y2 - y) for char, x1, y1, x2, y2 in line] for line in page.char_boxes
    ]
    return LinePage(image, boxes, char_boxes)


def _within(span: tuple[int, int], rng: numpy.random.Generator) -> int:
    return int(rng.integers(span[0], span[1] + 1))


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    options = arguments.CommandParser(
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
        "--char-boxes", action="store_true", help="tell the box of every character in ocr records"
    )
    options.add_argument("--font-size", type=arguments.span, default=(13, 16), help="pixels (default: 13-16)")
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
        "--fonts-zh", default="all", help="for Chinese: names, paths, folders (default: all installed)"
    )
    degrade.add_arguments(options)
    return options


def make(args: argparse.Namespace) -> dict[str, Any]:
    """Records as the options ask; returns the counts."""
    fonts = system_fonts.named_fonts(args.fonts)
    words, chinese = _words(args)
    alphabet = ALPHABETS.get(args.text, "") if args.language != "zh" else ""
    texts = {"en": words or alphabet, "zh": chinese}
    find_fonts = {"en": lambda: fonts, "zh": lambda: system_fonts.chinese_fonts(args.fonts_zh)}
    texts = {language: text for language, text in texts.items() if text}
    usable, without = system_fonts.with_fonts(texts, find_fonts, args.strict)
    chinese, chinese_fonts = usable.get("zh", ((), ()))
    shape = (args.side, args.side) if args.side else (args.width, args.height)
    engine = LineEngine(
        fonts=tuple(fonts),
        tasks=args.tasks,
        shape=shape,
        sizes=args.font_size,
        lines=args.lines,
        characters=args.characters,
        scatter=args.scatter,
        words=words,
        alphabet=alphabet,
        char_boxes=args.char_boxes,
        name=f"lines-{args.split}",
        chinese=chinese,
        chinese_fonts=tuple(chinese_fonts),
        degrade=args.degrade,
        wear=args.wear,
        printed=args.text == "print",
        crop=args.crop,
    )
    names = [font.stem for font in (*fonts, *chinese_fonts)]
    return produce.write(engine, args, args.count, without, fonts=names)


def _words(args: argparse.Namespace) -> tuple[tuple[tuple[str, ...], ...], tuple[tuple[str, ...], ...]]:
    """The words of every Latin document, and the characters of every Chinese one."""
    if args.language == "en" and args.texts is None:
        words = corpora.words(args.split, args.sources) if args.text not in ALPHABETS else ()
        if args.text == "print":
            readable = (tuple(filter(printed.readable, document)) for document in words)
            return tuple(document for document in readable if document), ()
        return (lowercase(words) if args.text == "lowercase" else words), ()
    documents = corpora.by_language(args)
    if args.text not in ("words", "lowercase"):
        documents.pop("en", None)
    words = tuple(tuple(" ".join(document.paragraphs).split()) for document in documents.get("en", ()))
    words = lowercase(words) if args.text == "lowercase" else words
    chinese = tuple(
        tuple("".join(document.paragraphs).replace(" ", "")) for document in documents.get("zh", ())
    )
    return words, chinese


main = produce.command(parser, make)

if __name__ == "__main__":
    sys.exit(main())
