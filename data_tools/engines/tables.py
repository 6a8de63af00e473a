r"""Tables set by LaTeX, made up or cut from data frames, English or Chinese; target: the tabular as set.

A table whose cells are not, character for character, in the text layer of its PDF becomes no record.
"""

from __future__ import annotations

import argparse
import csv
import functools
import importlib
import re
import sys
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from data_tools import arguments, produce
from data_tools.drawing import degrade, fonts, renderers, system_fonts
from data_tools.text import corpora, phrases
from got_train.errors import DrawingError

from .formulas import common_chinese, compose

if TYPE_CHECKING:
    import numpy

STYLES = ("grid", "booktabs", "lines", "open", "outer")
FONTS = {  # T1 family -> name in meta
    "lmr": "Latin Modern Roman", "lmss": "Latin Modern Sans", "lmtt": "Latin Modern Mono", "ptm": "Times",
    "ppl": "Palatino", "phv": "Helvetica", "pbk": "Bookman", "bch": "Charter", "pnc": "New Century",
}  # fmt: skip
PACKAGES = r"\usepackage{array,multirow,booktabs}"
ENGLISH = (
    r"\documentclass[10pt]{article}\input{glyphtounicode}\pdfgentounicode=1\usepackage[T1]{fontenc}"
    rf"\usepackage{{lmodern,textcomp}}{PACKAGES}"
)
CHINESE = (
    rf"\documentclass[10pt]{{article}}\usepackage{{fontspec,xeCJK}}{PACKAGES}"
    r"\setmainfont{lmroman10-regular.otf}[Ligatures=TeXReset,BoldFont=lmroman10-bold.otf]"
)
ESCAPES = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}",
}  # fmt: skip
ESCAPES |= {char: "\\" + char for char in "&%$#_"}
# quotes that LaTeX sets for typed ones, and pdfium's own words for a hyphen
FOLDED = str.maketrans({"\u2019": "'", "\u2018": "`", "\ufffe": "-", "\x02": "-"})
BATCH = 250  # tables in a LaTeX run; Chinese fonts take it half a second to load
EM = 10 * 72 / 72.27  # of a 10 pt font
LEAST_EM = 9.0  # pixels that an em has left when the picture is made 1024 pixels large
MOST_FONTS = 26  # \ChineseA to \ChineseZ
LONGEST_CELL = 28  # characters of a data frame's cell
SKLEARN = ("iris", "wine", "breast_cancer", "diabetes", "linnerud")
VEGA = ("cars", "stocks", "movies", "seattle_weather", "sp500", "birdstrikes", "gapminder", "barley")
FRAME_ROWS = 2000  # rows of a frame that are kept


class Frame(NamedTuple):
    """A data frame as text."""

    name: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Cell(NamedTuple):
    """A cell; one that is covered by another (of several rows) is empty and has no rule above it."""

    text: str = ""
    columns: int = 1
    rows: int = 1
    bold: bool = False
    split: bool = False  # in two lines, at a space
    covered: bool = False


class Table(NamedTuple):
    """Rows of cells whose widths add up, and how they are ruled."""

    align: str  # a letter for each column
    rows: tuple[tuple[Cell, ...], ...]
    header: int  # rows
    style: str


class Wanted(NamedTuple):
    """A table as LaTeX is to set it."""

    tabular: str
    characters: str
    face: str  # command that chooses the font
    font: str
    program: str
    dpi: int
    stretch: float
    source: str
    style: str


@dataclass(frozen=True)
class TableEngine:
    """Pictures of one table, as records of the task format."""

    documents: tuple[corpora.Document, ...]
    frames: tuple[Frame, ...]
    from_frames: float  # share of tables cut from them
    chinese: float  # share of Chinese tables among the made up
    chinese_fonts: tuple[Path, ...]
    columns: tuple[int, int]
    body: tuple[int, int]  # rows
    dpi: tuple[int, int]
    seed: int
    degrade: float = 0.0
    suffix: str = "png"
    name: str = "tables"
    attempts: int = 200

    def rows(self, index: int, rng: numpy.random.Generator) -> list[produce.Row]:
        from PIL import ImageOps

        drawing, page = self._ahead.get(index, rng)
        mask = ImageOps.invert(renderers.page_that_shows(page, drawing.characters, characters).image)
        em = round(EM * drawing.dpi / 72)
        image, look = compose([mask.crop(mask.getbbox())], em, rng)
        if em * 1024 / max(image.size) < LEAST_EM:
            raise produce.Rejected("table too large to be read at 1024 pixels")
        image, worse = degrade.apply(image, rng, self.degrade, em)
        meta = {"source": drawing.source, "style": drawing.style, "font": drawing.font, "dpi": drawing.dpi}
        meta |= look | ({"degrade": worse} if worse else {})
        picture = produce.Picture(f"{index:08d}.{self.suffix}", produce.encode(image, self.suffix))
        return [produce.Row(f"{self.name}-{index:08d}", (picture,), "format", drawing.tabular, meta=meta)]

    def expect(self, pages: range) -> None:
        self._ahead.pages = pages

    def _draw(self, index: int, rng: numpy.random.Generator) -> Wanted:
        frame = self.frames[int(rng.integers(len(self.frames)))] if self.frames else None
        if frame and rng.random() < self.from_frames:
            source, table = frame.name, cut(frame, self.columns, self.body, rng)
            chinese = any(phrases.is_chinese(cell.text) for row in table.rows for cell in row)
        else:
            chinese = rng.random() < self.chinese
            words = ChineseWords(rng) if chinese else EnglishWords(self.documents, rng)
            source, table = "generated", made_up(words, self.columns, self.body, rng)
        text = "".join(cell.text for row in table.rows for cell in row)
        random = rng.random(3).tolist()
        if text.isascii():
            family = list(FONTS)[int(random[0] * len(FONTS))]
            face, font, program = rf"\fontfamily{{{family}}}\selectfont", FONTS[family], "pdflatex"
        else:
            face, font = self._chinese_face(text, random[0])
            program = "xelatex"
        dpi = self.dpi[0] + int(random[1] * (self.dpi[1] - self.dpi[0] + 1))
        stretch = round(1 + 0.4 * random[2], 2)
        return Wanted(
            tabular(table), characters(text), face, font, program, dpi, stretch, source, table.style
        )

    def _chinese_face(self, text: str, random: float) -> tuple[str, str]:
        if not self.chinese_fonts:
            raise produce.Rejected("no Chinese font for a cell")
        number = int(random * len(self.chinese_fonts))
        path = self.chinese_fonts[number]
        han = "".join(char for char in text if ord(char) >= 0x2E80)
        if fonts.missing(path, han):
            raise produce.Rejected(f"{path.stem} lacks a character")
        return rf"\Chinese{chr(ord('A') + number)} ", path.stem

    @functools.cached_property
    def _ahead(self) -> renderers.Ahead[Wanted, renderers.LatexPage | renderers.LatexFault]:
        return renderers.Ahead(self.name, self.seed, BATCH, self._draw, self._make)

    def _make(self, drawings: list[Wanted]) -> list[renderers.LatexPage | renderers.LatexFault]:
        preambles = {"pdflatex": ENGLISH, "xelatex": CHINESE + chinese_faces(self.chinese_fonts)}
        return renderers.latex_pictures(
            [
                renderers.Snippet(snippet(drawing), preambles[drawing.program], drawing.program, drawing.dpi)
                for drawing in drawings
            ]
        )


def snippet(drawing: Wanted) -> str:
    return rf"{drawing.face}\renewcommand\arraystretch{{{drawing.stretch}}}%" + "\n" + drawing.tabular


def chinese_faces(paths: tuple[Path, ...]) -> str:
    """Commands \\ChineseA, \\ChineseB ... that choose font files."""
    return "".join(
        rf"\newCJKfontfamily\Chinese{chr(ord('A') + number)}"
        rf"[Path={path.parent}/,{'FontIndex=0' if path.suffix.lower() == '.ttc' else ''}]{{{path.name}}}"
        for number, path in enumerate(paths)
    )


def characters(text: str) -> str:
    """All that is visible, sorted: a text layer tells the cells in an order of its own."""
    folded = unicodedata.normalize("NFKC", text).translate(FOLDED)
    return "".join(sorted(char for char in folded if char.isprintable() and not char.isspace()))


def escape(text: str) -> str:
    escaped = "".join(ESCAPES.get(char, char) for char in text)
    # TeX joins two dashes, commas or quotes into others
    return re.sub(r"([-,'`!?])(?=\1|`)", r"\1{}", escaped)


def tabular(table: Table) -> str:
    """The table as LaTeX and Mathpix write it, a row on a line."""
    bars = table.style == "grid"
    spec = "|".join(table.align) if bars else table.align
    spec = f"|{spec}|" if table.style in ("grid", "outer") else spec
    rules = {"grid": r"\hline", "lines": r"\hline", "outer": r"\hline", "booktabs": r"\toprule", "open": ""}
    lines = [rf"\begin{{tabular}}{{{spec}}}", rules[table.style]]
    for number, row in enumerate(table.rows):
        lines.append(" & ".join(_cell(cell, column, table) for column, cell in _placed(row)) + r" \\")
        lines.append(_rule(table, number))
    lines.append(r"\end{tabular}")
    return "\n".join(line for line in lines if line)


def _placed(row: tuple[Cell, ...]) -> list[tuple[int, Cell]]:
    column, placed = 0, []
    for cell in row:
        placed.append((column, cell))
        column += cell.columns
    return placed


def _cell(cell: Cell, column: int, table: Table) -> str:
    text = escape(cell.text)
    if cell.split:
        parts = [escape(part) for part in _halves(cell.text)]
        text = rf"\begin{{tabular}}{{c}}{parts[0]} \\ {parts[1]}\end{{tabular}}"
    if cell.bold and text:
        text = rf"\textbf{{{text}}}"
    if cell.rows > 1:
        text = rf"\multirow{{{cell.rows}}}{{*}}{{{text}}}"
    if cell.columns > 1:
        framed = table.style in ("grid", "outer")
        left = "|" if framed and column == 0 else ""
        ends = column + cell.columns == len(table.align)
        right = "|" if table.style == "grid" or (framed and ends) else ""
        text = rf"\multicolumn{{{cell.columns}}}{{{left}c{right}}}{{{text}}}"
    return text


def _halves(text: str) -> tuple[str, str]:
    spaces = [match.start() for match in re.finditer(" ", text)]
    middle = min(spaces, key=lambda index: abs(index - len(text) / 2))
    return text[:middle], text[middle + 1 :]


def _rule(table: Table, number: int) -> str:
    """What stands below a row: only what is ruled can be seen to be a group."""
    last, header = number == len(table.rows) - 1, number == table.header - 1
    if table.style == "open":
        return ""
    if last or header:
        return r"\hline" if table.style != "booktabs" else r"\bottomrule" if last else r"\midrule"
    if table.style == "grid":
        return _cline(table, number)
    if number < table.header:
        groups = [(column, cell) for column, cell in _placed(table.rows[number]) if cell.columns > 1]
        name = r"\cmidrule(lr)" if table.style == "booktabs" else r"\cline"
        return "".join(rf"{name}{{{column + 1}-{column + cell.columns}}}" for column, cell in groups)
    grouped = any(row[0].rows > 1 for row in table.rows[table.header :])
    below = table.rows[number + 1]
    if (grouped and not below[0].covered) or len(below) == 1:
        return r"\midrule" if table.style == "booktabs" else r"\hline"
    return ""


def _cline(table: Table, number: int) -> str:
    """The rule of a grid, left out where a cell of several rows goes on."""
    below = _placed(table.rows[number + 1])
    covered = {column + n for column, cell in below if cell.covered for n in range(cell.columns)}
    ruled = [column for column in range(len(table.align)) if column not in covered]
    if not covered:
        return r"\hline"
    return "".join(rf"\cline{{{first + 1}-{end + 1}}}" for first, end in _runs(ruled))


def _runs(places: list[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for column in places:
        if runs and runs[-1][1] == column - 1:
            runs[-1] = (runs[-1][0], column)
        else:
            runs.append((column, column))
    return runs


class EnglishWords:
    """Names and values of made up English tables."""

    def __init__(self, documents: tuple[corpora.Document, ...], rng: numpy.random.Generator) -> None:
        self.documents, self.rng = documents, rng

    def name(self) -> str:
        text = phrases.phrase(self.documents, (1, 3), self.rng)
        return text[0].upper() + text[1:] if self.rng.random() < 0.8 else text

    def value(self) -> str:
        return phrases.phrase(self.documents, (1, 2), self.rng)


class ChineseWords:
    """The same in Chinese: common characters at random."""

    def __init__(self, rng: numpy.random.Generator) -> None:
        self.rng = rng

    def name(self) -> str:
        known = common_chinese()
        length = int(self.rng.integers(2, 6))
        return "".join(known[index] for index in self.rng.integers(len(known), size=length).tolist())

    value = name


def _number(kind: int, rng: numpy.random.Generator) -> str:
    """A value of a column of numbers; all of a column are of one kind."""
    value = float(rng.random())
    small, large = int(value * 100), int(value * 10 ** int(rng.integers(2, 7)))
    kinds = (
        f"{small}", f"{large}", f"{large:,}", f"{100 * value:.1f}", f"{value:.3f}", f"{100 * value:.2f}%",
        f"-{value:.2f}" if value < 0.5 else f"+{value:.2f}", f"{10 * value:.2f} ({value:.2f})",
        f"{1950 + int(75 * value)}", f"${large:,}",
        f"20{small // 4:02d}-{1 + small // 9:02d}-{1 + small // 4:02d}",
    )  # fmt: skip
    return kinds[kind]


def made_up(
    words: EnglishWords | ChineseWords,
    columns: tuple[int, int],
    body: tuple[int, int],
    rng: numpy.random.Generator,
) -> Table:
    """A table with a header, perhaps groups of columns and rows, one kind of value in each column."""
    width, height = (int(rng.integers(low, high + 1)) for low, high in (columns, body))
    style = STYLES[int(rng.choice(len(STYLES), p=(0.35, 0.3, 0.2, 0.05, 0.1)))]
    random = rng.random(6).tolist()
    bold = random[0] < 0.25 and isinstance(words, EnglishWords)
    kinds = [-1] + [int(rng.integers(11)) if rng.random() < 0.75 else -1 for _ in range(width - 1)]
    align = "".join(
        "l" if kind < 0 and random[1] < 0.6 else "r" if kind >= 0 and random[1] < 0.3 else "c"
        for kind in kinds
    )
    header = [tuple(_head(words, bold, rng) for _ in range(width))]
    if width > 3 and random[2] < 0.35:
        header = _grouped_header(header[0], words, bold, rng)
    rows = [
        tuple(
            Cell("" if rng.random() < 0.03 else words.value() if kind < 0 else _number(kind, rng))
            for kind in kinds
        )
        for _ in range(height)
    ]
    if random[3] < 0.35 and height > 2 and style != "open":
        rows = _grouped_rows(rows, words, rng)
    elif random[3] > 0.88 and height > 2:
        rows.insert(int(rng.integers(1, height)), (Cell(words.name(), columns=width, bold=bold),))
    return Table(align, (*header, *rows), len(header), style)


def _head(words: EnglishWords | ChineseWords, bold: bool, rng: numpy.random.Generator) -> Cell:
    text = words.name()
    return Cell(text, bold=bold, split=" " in text and len(text) > 12 and rng.random() < 0.4)


def _grouped_header(
    names: tuple[Cell, ...], words: EnglishWords | ChineseWords, bold: bool, rng: numpy.random.Generator
) -> list[tuple[Cell, ...]]:
    """Two rows: groups of two or three columns over their names, the other names over both rows."""
    plain = [name._replace(split=False) for name in names]
    above, below = [plain[0]._replace(rows=2)], [Cell(covered=True)]
    column = 1
    while column < len(plain):
        size = min(int(rng.integers(1, 4)), len(plain) - column)
        if size == 1:
            above.append(plain[column]._replace(rows=2))
            below.append(Cell(covered=True))
        else:
            above.append(Cell(words.name(), columns=size, bold=bold))
            below += plain[column : column + size]
        column += size
    if all(cell.rows == 2 for cell in above):
        return [names]
    return [tuple(above), tuple(below)]


def _grouped_rows(
    rows: list[tuple[Cell, ...]], words: EnglishWords | ChineseWords, rng: numpy.random.Generator
) -> list[tuple[Cell, ...]]:
    """The first column names groups of rows."""
    grouped: list[tuple[Cell, ...]] = []
    while len(grouped) < len(rows):
        size = min(int(rng.integers(1, 5)), len(rows) - len(grouped))
        for index in range(size):
            first = Cell(words.value(), rows=size) if index == 0 else Cell(covered=True)
            grouped.append((first, *rows[len(grouped)][1:]))
    return grouped


def cut(frame: Frame, columns: tuple[int, int], body: tuple[int, int], rng: numpy.random.Generator) -> Table:
    """Consecutive rows of a data frame, some of its columns, its names above."""
    width, height = (int(rng.integers(low, high + 1)) for low, high in (columns, body))
    width, height = min(width, len(frame.header)), min(height, len(frame.rows))
    chosen = sorted(rng.choice(len(frame.header), size=width, replace=False).tolist())
    start = int(rng.integers(len(frame.rows) - height + 1))
    rows = [
        tuple(row[index] for index in chosen) for row in (frame.header, *frame.rows[start : start + height])
    ]
    if max(len(text) for row in rows for text in row) > LONGEST_CELL:
        raise produce.Rejected("data frame's cell too long")
    numeric = [all(re.fullmatch(r"[-+]?[\d.,]*%?", row[index]) for row in rows[1:]) for index in range(width)]
    right = rng.random() < 0.5
    align = "".join(("r" if right else "c") if number else "l" for number in numeric)
    bold = rng.random() < 0.25 and all(text.isascii() for text in rows[0])
    cells = [tuple(Cell(text, bold=bold and number == 0) for text in row) for number, row in enumerate(rows)]
    style = STYLES[int(rng.choice(len(STYLES), p=(0.35, 0.35, 0.2, 0.05, 0.05)))]
    return Table(align, tuple(cells), 1, style)


def read_csv(path: Path) -> Frame:
    """A CSV file whose first line names the columns; commas, semicolons or tabs between cells."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        delimiter = max(",;\t", key=text.partition("\n")[0].count)
        read = csv.reader(text.splitlines(), delimiter=delimiter, strict=True)
        rows = [tuple(" ".join(cell.split()) for cell in row) for row in read]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DrawingError(f"--csv {path}: cannot be read ({error}); give CSV files in UTF-8") from None
    rows = [row for row in rows if any(row)]
    if len(rows) < 3 or len(rows[0]) < 2 or len({len(row) for row in rows}) > 1:
        raise DrawingError(f"--csv {path}: no table of equally long rows under a header; give one")
    return Frame(path.name, rows[0], tuple(rows[1 : FRAME_ROWS + 1]))


def installed_frames() -> tuple[Frame, ...]:
    """The data frames inside scikit-learn and vega_datasets, as far as these are installed."""
    frames = []
    for package, read in (("sklearn.datasets", _sklearn_frames), ("vega_datasets", _vega_frames)):
        try:
            module = importlib.import_module(package)
        except ImportError:
            continue
        for name, data in read(module):
            header = tuple(str(column) for column in data.columns)
            values = data.head(FRAME_ROWS).itertuples(index=False)
            rows = tuple(tuple(_shown(value) for value in row) for row in values)
            frames.append(Frame(f"{package.split('.')[0]}:{name}", header, rows))
    return tuple(frames)


def _sklearn_frames(module: Any) -> list[tuple[str, Any]]:
    return [(name, getattr(module, f"load_{name}")(as_frame=True).frame) for name in SKLEARN]


def _vega_frames(module: Any) -> list[tuple[str, Any]]:
    local = module.local_data
    return [(name, getattr(local, name)()) for name in VEGA if name in local.list_datasets()]


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:.4g}"
    return " ".join(str(value).removesuffix(" 00:00:00").split())


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    options = arguments.CommandParser(
        prog="python -m data_tools.engines.tables",
        description="Set tables by LaTeX and write them as records.",
    )
    arguments.add_arguments(options, shard_pages=500, counted="tables")
    arguments.add_text_arguments(options)
    options.add_argument("--csv", type=Path, nargs="+", default=[], help="CSV files to cut tables from")
    options.add_argument(
        "--frames",
        action="store_true",
        help="cut tables from the data inside scikit-learn and vega_datasets too",
    )
    options.add_argument(
        "--from-frames",
        type=degrade.share,
        default=0.5,
        help="share of tables cut from data, if any (default: 0.5)",
    )
    options.add_argument(
        "--chinese", type=degrade.share, default=0.0, help="share of the made up (default: 0)"
    )
    options.add_argument(
        "--strict",
        action="store_true",
        help="refuse where fonts or programs for Chinese are missing, instead of leaving it out",
    )
    options.add_argument("--chinese-fonts", default="all", help="names, files or folders (default: all)")
    options.add_argument("--columns", type=arguments.span, default=(2, 7), help="(default: 2-7)")
    options.add_argument(
        "--rows", type=arguments.span, default=(2, 12), help="without the header (default: 2-12)"
    )
    options.add_argument(
        "--dpi", type=arguments.span, default=(110, 200), help="at 10 point (default: 110-200)"
    )
    options.add_argument("--image", choices=("jpg", "png"), default="png", help="(default: %(default)s)")
    degrade.add_arguments(options)
    return options


def make(args: argparse.Namespace) -> dict[str, Any]:
    """Records as the options ask; returns the counts."""
    drawn_by = [renderers.program_version("pdflatex")]
    for file in ("multirow.sty", "booktabs.sty", "lmodern.sty"):
        renderers.find_tex_file(file)
    if args.columns[0] < 2:
        raise DrawingError(
            f"--columns {args.columns[0]}: a table has two columns or more; give a range from 2"
        )
    frames = tuple(read_csv(path) for path in args.csv) + (installed_frames() if args.frames else ())
    strange = any(
        not text.isascii() for frame in frames for row in (frame.header, *frame.rows) for text in row
    )
    if args.frames and not frames:
        raise DrawingError(
            "--frames: neither scikit-learn nor vega_datasets is installed; install one or give --csv"
        )
    chinese, paths, without = args.chinese, (), {}
    if args.chinese or strange:
        try:
            xelatex, paths = _chinese(args.chinese_fonts)
            drawn_by.append(xelatex)
        except (renderers.RendererError, system_fonts.NoFontsError) as error:
            if args.strict or (args.chinese == 1 and not frames):
                raise
            chinese, without = 0.0, {system_fonts.LANGUAGES["zh"]: str(error)}
    engine = TableEngine(
        documents=corpora.documents(args.split, args.sources),
        frames=frames,
        from_frames=args.from_frames,
        chinese=chinese,
        chinese_fonts=paths,
        columns=args.columns,
        body=args.rows,
        dpi=args.dpi,
        seed=args.seed,
        degrade=args.degrade,
        suffix=args.image,
        name=f"tables-{args.split}",
    )
    names = [frame.name for frame in frames]
    return produce.write(
        engine,
        args,
        args.count,
        without,
        csv=[path.name for path in args.csv],
        data=names,
        drawn_by=drawn_by,
        faces=[path.stem for path in paths],
    )


def _chinese(names: str) -> tuple[str, tuple[Path, ...]]:
    """The version of XeLaTeX, which sets Chinese, and the fonts."""
    version = renderers.program_version("xelatex")
    renderers.find_tex_file("xeCJK.sty")
    paths = tuple(system_fonts.chinese_fonts(names))
    if len(paths) > MOST_FONTS:
        raise DrawingError(
            f"--chinese-fonts: {len(paths)} fonts; LaTeX is told of {MOST_FONTS} at most, name fewer"
        )
    return version, paths


main = produce.command(parser, make)

if __name__ == "__main__":
    sys.exit(main())
