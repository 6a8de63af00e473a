"""Document pages set by typst: one to three columns with title, headings, lists, paragraphs and footnotes.

What a page says is taken from its PDF's text layer and must equal the source; knows nothing of the model.
"""

from __future__ import annotations

import argparse
import functools
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from data_tools import arguments, produce
from data_tools.drawing import degrade, system_fonts, text_layer
from data_tools.drawing.fonts import find_fonts, missing
from data_tools.text import corpora, phrases
from got_train.errors import DrawingError

from . import regions

if TYPE_CHECKING:
    import numpy
    import typst
    from PIL import Image

TASKS = ("ocr", "format", "box", "color")
EMBEDDED = "typst:"  # fonts inside the typst package: no file to look into, so only what is known to be there
EMBEDDED_CHARACTERS = set(map(chr, range(0x20, 0x7F))) | set(
    "\u2018\u2019\u201c\u201d\u2013\u2014\u2026\u2022"
)
BULLET = "\u2022"
DEFAULT_FONTS = (
    "Caladea-Regular,DejaVuSans,DejaVuSerif,HankenGrotesk-Regular,Lato-Regular,Manrope-Regular,"
    "SourceSansPro-Regular,SourceSerifPro-Regular,STIXGeneral,typst:Libertinus Serif,"
    "typst:New Computer Modern"
)
GUTTER = 0.04  # between columns, of the text's width: typst's own
MOST_COLUMNS = 3
WIDE = re.compile("[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]")
NOTE_SIZE = 0.8  # of the text
MOST_DOCUMENTS = 500  # of which a page takes its text; large letters in narrow columns leave next to none
HANG = 0.75  # ems that the end of a line may stand in the margin: typst hangs punctuation
WIDEST = 0.62  # ems of a character of a wide face, on average over a word
HEADING_SIZES = {"section": 1.5, "subsection": 1.3}  # of the text: typst's 1.4 and 1.2, and bold
Kind = Literal["title", "section", "subsection", "paragraph", "bullet", "number", "footnote"]


@dataclass(frozen=True)
class Block:
    """One piece of a page; mark is what typst puts before its text (a bullet, a number).

    note is the number of the footnote at the end of a paragraph; the footnote itself is a block of its own.
    """

    kind: Kind
    text: str
    mark: str = ""
    note: str = ""

    @property
    def visible(self) -> str:
        joiner = "" if self.kind == "footnote" else " "  # the number of a note is raised, close to its text
        return (f"{self.mark}{joiner}{self.text}" if self.mark else self.text) + self.note


@dataclass(frozen=True)
class Style:
    """How one page looks; lengths in points."""

    family: str
    font_style: str
    weight: int
    size: float
    columns: int
    margin: float
    leading: float
    spacing: float
    indent: float
    justify: bool
    numbered: bool
    paper: int
    ink: int
    language: str = "en"


@dataclass(frozen=True)
class Face:
    """A font as typst names it; path is None for those inside the typst package."""

    family: str
    style: str
    weight: int
    path: Path | None

    def lacks(self, text: str) -> str:
        if self.path is None:
            return "".join(char for char in dict.fromkeys(text) if char not in EMBEDDED_CHARACTERS)
        return missing(self.path, text)


class Language(NamedTuple):
    """Documents of one language and the faces to set them in."""

    name: str
    documents: tuple[corpora.Document, ...]
    faces: tuple[Face, ...]


@dataclass(frozen=True)
class PageEngine:
    """Pages as records of the tasks ocr and format (whole page), box and color (a line or paragraph)."""

    documents: tuple[corpora.Document, ...]
    faces: tuple[Face, ...]
    tasks: tuple[str, ...]
    shape: tuple[int, int]
    dpi: int
    sizes: tuple[int, int]  # of the font, in points
    columns: tuple[int, int]
    suffix: str = "jpg"
    name: str = "pages"
    attempts: int = 20
    language: str = "en"  # of documents and faces
    others: tuple[Language, ...] = ()  # a page is in one language, all as likely
    footnotes: float = 0.0  # share of paragraphs
    degrade: float = 0.0  # share of pages
    tell_blocks: bool = False

    def rows(self, index: int, rng: numpy.random.Generator) -> list[produce.Row]:
        here = Language(self.language, self.documents, self.faces)
        if self.others:
            here = (here, *self.others)[int(rng.integers(1 + len(self.others)))]
        first, *others = (here.faces[position] for position in rng.permutation(len(here.faces)).tolist())
        style = self._style(first, here.name, rng)
        blocks = self._blocks(here.documents, style, rng)
        text = "".join(block.visible for block in blocks)
        phrases.refuse_shaped(text)  # typst's text layer tells their order otherwise than it is typed
        face = next((face for face in (first, *others) if not face.lacks(text)), None)
        if face is None:
            raise produce.Rejected("all fonts lack a character")
        style = replace(style, family=face.family, font_style=face.style, weight=face.weight)
        image, lines = self._draw(typst_source(blocks, style, *self._points))
        if self.footnotes:
            lines = with_raised_numbers(lines, 0.75 * style.size * self.dpi / 72)
        parts = match_notes(blocks, lines, 0.9 * style.size * self.dpi / 72)
        flowing = [line for block, own in parts if block.kind != "title" for line in own]
        if any(self._leaves_column(line, style) for line in flowing):
            raise produce.Rejected("line wider than its column")
        meta = {"font": face.family, "size": style.size, "columns": style.columns}
        meta |= {} if here.name == "en" else {"language": here.name}
        whole = [(block, own) for block, own in parts if len(regions.by_column(own)) == 1]
        page = regions.Page(
            image,
            lines,
            paragraphs=[piece for _, own in parts for piece in regions.by_column(own)],
            formatted=markdown([block for block, _ in parts]),
            meta=meta,
            blocks=[(markdown([block]), own) for block, own in whole] if self.tell_blocks else [],
        )
        # boxes of turned lines would hold pieces of their neighbours
        upright = self.tell_blocks or not set(self.tasks) <= {"ocr", "format"}
        page = page.degraded(rng, self.degrade, upright)
        return page.rows(self.name, index, self.tasks, self.suffix, rng)

    @property
    def _points(self) -> tuple[float, float]:
        return self.shape[0] * 72 / self.dpi, self.shape[1] * 72 / self.dpi

    def _style(self, face: Face, language: str, rng: numpy.random.Generator) -> Style:
        size = int(rng.integers(2 * self.sizes[0], 2 * self.sizes[1] + 1)) / 2
        random = rng.random(8).tolist()
        columns = int(rng.integers(self.columns[0], self.columns[1] + 1))
        if columns == MOST_COLUMNS:
            size = min(size, max(9, self.sizes[0]))  # long words leave narrow columns of larger letters
        return Style(
            face.family, face.style, face.weight, size, columns,
            margin=round(self._points[0] * (0.04 + 0.08 * random[0]), 1),
            leading=round(0.5 + 0.4 * random[1], 2),
            spacing=round(0.9 + 0.8 * random[2], 2),
            indent=1.5 if random[3] < 0.3 else 0.0,
            # justified lines of under 24 ems, unhyphenated, are torn by wide gaps
            justify=random[4] < 0.6 and self._points[0] * 0.85 / columns > 24 * size,
            numbered=random[5] < 0.3,
            paper=255 - int(24 * random[6]),
            ink=int(70 * random[7]),
            language=language,
        )  # fmt: skip

    def _leaves_column(self, line: text_layer.Line, style: Style) -> bool:
        """Whether a line ends beyond its column by more than what typst hangs into margins."""
        text = self._points[0] - 2 * style.margin
        step = text * (1 + GUTTER) / style.columns  # from one column's left edge to the next one's
        left, right = (72 * line.box[side] / self.dpi - style.margin for side in (0, 2))
        column = min(style.columns - 1, max(0, int((left + 0.5 * style.size) / step)))
        return right > (column + 1) * step - GUTTER * text + HANG * style.size

    def _blocks(
        self, documents: tuple[corpora.Document, ...], style: Style, rng: numpy.random.Generator
    ) -> list[Block]:
        """Blocks of one document after another until the page is about full; what is over is left out."""
        width, height = (length - 2 * style.margin for length in self._points)
        wide = 1.0 if style.language == "zh" else 0.5  # ems of a character, about
        room = width * height / (wide * style.size * (0.75 + style.leading) * style.size)  # characters
        room *= 0.4 + 0.7 * rng.random()
        blocks: list[Block] = []
        tried = 0
        while room > 0:
            tried += 1
            if tried > MOST_DOCUMENTS:
                raise produce.Rejected("words wider than their column")
            document = documents[int(rng.integers(len(documents)))]
            for block in _document_blocks(document, style, first=not blocks, rng=rng):
                if self._has_a_word_too_wide(block, style):
                    continue
                blocks.append(block)
                room -= len(block.text) + 0.25 * width / style.size  # a paragraph's last line is half empty
                if room < 0:
                    break
        blocks = _numbered(blocks, style.numbered)
        return self._noted(blocks, documents, rng) if self.footnotes else blocks

    def _has_a_word_too_wide(self, block: Block, style: Style) -> bool:
        """Whether a word may be wider than its column; titles stand over all columns."""
        if block.kind == "title" or style.language == "zh":
            return False
        column = (self._points[0] - 2 * style.margin) / style.columns
        em = WIDEST * style.size * HEADING_SIZES.get(block.kind, 1)
        longest = max(map(len, re.split(r"(?<=[-/])|\s+", block.text)))
        return longest * em > (1 - GUTTER * MOST_COLUMNS) * column

    def _noted(
        self, blocks: list[Block], documents: tuple[corpora.Document, ...], rng: numpy.random.Generator
    ) -> list[Block]:
        """Some paragraphs with a footnote, a sentence from elsewhere; the notes follow all blocks."""
        noted, notes = [], []
        for block in blocks:
            if block.kind == "paragraph" and rng.random() < self.footnotes:
                document = documents[int(rng.integers(len(documents)))]
                paragraph = document.paragraphs[int(rng.integers(len(document.paragraphs)))]
                number = str(len(notes) + 1)
                notes.append(Block("footnote", _sentences(paragraph)[0], mark=number))
                block = replace(block, note=number)
            noted.append(block)
        return noted + notes

    def _draw(self, source: str) -> tuple[Image.Image, list[text_layer.Line]]:
        import pypdfium2

        pdf, warnings = _compiler(self._font_folders).compile_with_warnings(
            source.encode(), format="pdf", pdf_tags=False
        )
        if warnings:
            raise produce.Rejected(f"typst warns: {warnings[0].message}")
        with pypdfium2.PdfDocument(pdf) as document:
            page = document[0]
            image = render(page, *self.shape)
            try:
                lines = text_layer.read_lines(page, *self.shape)
                text_layer.check_ink(image, lines)
            except text_layer.TextLayerError as error:
                raise produce.Rejected(str(error)) from None
        return image, lines

    @functools.cached_property
    def _font_folders(self) -> tuple[str, ...]:
        faces = [*self.faces, *(face for other in self.others for face in other.faces)]
        return tuple(sorted({str(face.path.parent) for face in faces if face.path}))


def typst_source(blocks: list[Block], style: Style, width: float, height: float) -> str:
    """The page as typst reads it; texts are strings, in which only backslash and quote have a meaning."""
    lines = [
        f"#set page(width: {width}pt, height: {height}pt, margin: {style.margin}pt, "
        f"columns: {style.columns}, fill: luma({style.paper}))",
        f'#set text(font: "{style.family}", style: "{style.font_style}", weight: {style.weight}, '
        f'size: {style.size}pt, fill: luma({style.ink}), lang: "{style.language}", hyphenate: false, '
        "fallback: false, cjk-latin-spacing: none)",  # spaces that no character stands for
        f"#set par(justify: {str(style.justify).lower()}, leading: {style.leading}em, "
        f"spacing: {style.spacing}em, first-line-indent: {style.indent}em)",
        f"#set heading(numbering: {chr(34) + '1.' + chr(34) if style.numbered else 'none'})",
        f'#set list(marker: "{BULLET}")',
        f"#show footnote.entry: set text(size: {NOTE_SIZE * style.size}pt)",
    ]
    notes = {block.mark: _quoted(block.text) for block in blocks if block.kind == "footnote"}
    for block in blocks:
        text = _quoted(block.text)
        if block.kind == "title":
            title = f'par(justify: false, text(size: 1.6em, weight: "bold", {text}))'
            scope = ', scope: "parent"' if style.columns > 1 else ""
            lines.append(f"#place(top + center{scope}, float: true, {title})")
        elif block.kind == "section":
            lines.append(f"#heading(level: 1, {text})")
        elif block.kind == "subsection":
            lines.append(f"#heading(level: 2, numbering: none, {text})")
        elif block.kind == "paragraph":
            note = f" + footnote({notes[block.note]})" if block.note else ""
            lines.append(f"#par({text}{note})")
        elif block.kind == "bullet":
            lines.append(f"#list({text})")
        elif block.kind == "number":
            lines.append(f"#enum(start: {block.mark[:-1]}, {text})")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def with_raised_numbers(lines: list[text_layer.Line], size: float) -> list[text_layer.Line]:
    """The lines, joined with the raised numbers below `size` that pdfium takes for lines of their own."""
    joined: list[text_layer.Line] = []
    number: text_layer.Line | None = None
    for line in lines:
        if number is not None and _follow(number, line):
            line = _joined(number, line, line)
        elif number is not None:
            joined.append(number)
        number = None
        if line.text.isdecimal() and line.em < size:
            if joined and _follow(joined[-1], line):
                joined[-1] = _joined(joined[-1], line, joined[-1])
            else:
                number = line
            continue
        joined.append(line)
    return joined if number is None else [*joined, number]


def _follow(left: text_layer.Line, right: text_layer.Line) -> bool:
    """Whether one stands just right of the other, at about its height."""
    em = max(left.em, right.em)
    gap = right.box[0] - left.box[2]
    return -0.2 * em < gap < 0.6 * em and abs(left.base - right.base) < 0.7 * em


def _joined(left: text_layer.Line, right: text_layer.Line, main: text_layer.Line) -> text_layer.Line:
    low = (min(one, other) for one, other in zip(left.box[:2], right.box[:2], strict=True))
    high = (max(one, other) for one, other in zip(left.box[2:], right.box[2:], strict=True))
    return replace(main, text=left.text + right.text, box=(*low, *high))


def match_notes(
    blocks: list[Block], lines: list[text_layer.Line], size: float
) -> list[tuple[Block, list[text_layer.Line]]]:
    """As match, for pages with footnotes, which stand at the foot of their column in letters below `size`."""
    notes = [block for block in blocks if block.kind == "footnote"]
    if not notes:
        return match(blocks, lines)
    small = [line for line in lines if line.em < size]
    body = match([block for block in blocks if block.kind != "footnote"], [x for x in lines if x.em >= size])
    called = [block.note for block, _ in body if block.note]
    if not called and not small:
        return body
    matched = match(notes, small)
    complete = all(block.text == note.text for (block, _), note in zip(matched, notes, strict=False))
    if called != [block.mark for block, _ in matched] or not complete:
        raise produce.Rejected("footnote without its mark, or cut")
    return body + matched


def match(blocks: list[Block], lines: list[text_layer.Line]) -> list[tuple[Block, list[text_layer.Line]]]:
    """Each block that stands on the page with its lines; the last one cut where the page ends.

    The lines, joined by a space or by nothing (after a hyphen or slash), must spell the blocks to the letter.
    """
    matched: list[tuple[Block, list[text_layer.Line]]] = []
    queue = iter(lines)
    line = next(queue, None)
    for block in blocks:
        own: list[text_layer.Line] = []
        position = 0
        while line is not None and position < len(block.visible):
            if not block.visible.startswith(line.text, position):
                raise produce.Rejected("text layer differs from the source")
            if own and abs(line.base - own[-1].base) < 0.3 * line.em:
                raise produce.Rejected("line torn by wide gaps")
            position += len(line.text)
            own.append(line)
            if block.visible[position : position + 1] == " ":
                position += 1
            elif position < len(block.visible) and not _may_break(line.text[-1], block.visible[position]):
                raise produce.Rejected("text layer differs from the source")
            line = next(queue, None)
        if own:
            whole = position >= len(block.visible)
            text = block.visible[:position].removeprefix(block.mark)
            text = (text.removesuffix(block.note) if whole else text).strip()
            matched.append((replace(block, text=text, note=block.note if whole else ""), own))
    if line is not None or not matched:
        raise produce.Rejected("text layer differs from the source")
    return matched


def _may_break(before: str, after: str) -> bool:
    """Whether a line may end between these characters where the source has no space."""
    return not before.isalnum() or bool(WIDE.match(before) or WIDE.match(after))


def markdown(blocks: list[Block]) -> str:
    """The page as Mathpix writes it: titles and headings as LaTeX commands, lists as in Markdown."""
    pieces: list[str] = []
    for previous, block in zip([None, *blocks], blocks, strict=False):
        if block.kind == "title":
            piece = f"\\title{{\n{block.text}\n}}"
        elif block.kind in ("section", "subsection"):
            piece = f"\\{block.kind}*{{{block.visible}}}"
        elif block.kind == "bullet":
            piece = f"- {block.text}"
        elif block.kind == "footnote":
            piece = f"\\footnotetext{{\n\\({{ }}^{{{block.mark}}}\\) {block.text}\n}}"
        elif block.note:
            piece = f"{block.text} \\({{ }}^{{{block.note}}}\\)"
        else:
            piece = block.visible
        same_list = (
            previous is not None and previous.kind == block.kind and block.kind in ("bullet", "number")
        )
        pieces.append(("\n" if same_list else "\n\n") + piece)
    return "".join(pieces).strip("\n")


def render(page: Any, width: int, height: int) -> Image.Image:
    """A pypdfium2 page as a grey picture of exactly this size, give or take a pixel its own proportions."""
    # pypdfium2 rounds sizes up; a hundredth of a pixel less than asked for lands on the size asked for
    scale = min((width - 0.01) / page.get_width(), (height - 0.01) / page.get_height())
    image = page.render(scale=scale, grayscale=True).to_pil().convert("L")
    if image.size != (width, height):
        raise DrawingError(
            f"page: drawn {image.size[0]} x {image.size[1]} pixels large, not {width} x {height}"
        )
    return image


def find_faces(names: list[str]) -> tuple[Face, ...]:
    """typst's family, style and weight of fonts by name; "typst:Family" for those inside its package."""
    paths = find_fonts([name for name in names if not name.startswith(EMBEDDED)])
    known = _fonts(tuple(sorted({str(path.parent) for path in paths}))).fonts()
    by_path = {}
    for info in known:
        # of a collection the last face, but not one with the shapes of another country
        path = Path(info.path or "")
        if info.path and (path not in by_path or not info.family.endswith(system_fonts.OTHER_COUNTRIES)):
            by_path[path] = info
    faces = []
    for path in paths:
        if path not in by_path:
            raise DrawingError(f"--fonts {path}: typst cannot use this file; choose another")
        info = by_path[path]
        faces.append(Face(info.family, info.style, info.weight, path))
    inside = {info.family for info in known if not info.path}
    for name in names:
        family = name.removeprefix(EMBEDDED)
        if name.startswith(EMBEDDED):
            if family not in inside:
                raise DrawingError(
                    f"--fonts {name}: typst holds {', '.join(sorted(inside))}; choose one of them"
                )
            faces.append(Face(family, "normal", 400, None))
    return tuple(faces)


@functools.cache
def _fonts(folders: tuple[str, ...]) -> typst.Fonts:
    import typst

    return typst.Fonts(include_system_fonts=False, include_embedded_fonts=True, font_paths=list(folders))


@functools.cache
def _compiler(folders: tuple[str, ...]) -> typst.Compiler:
    import typst

    return typst.Compiler(font_paths=_fonts(folders), ignore_system_fonts=True)


def _document_blocks(
    document: corpora.Document, style: Style, first: bool, rng: numpy.random.Generator
) -> Iterator[Block]:
    """A stretch of a document under a title or a heading; some paragraphs become lists of their sentences."""
    start = int(rng.integers(len(document.paragraphs)))
    if document.title:
        yield Block("title" if first and rng.random() < 0.5 else "section", document.title)
    headings = list(document.headings)
    for paragraph in document.paragraphs[start : start + int(rng.integers(2, 12))]:
        random = rng.random()
        if headings and random < 0.3:
            yield Block("subsection" if rng.random() < 0.5 else "section", headings.pop(0))
        items = _sentences(paragraph)
        if random > 0.5 and len(items) > 1:
            kind: Kind = "bullet" if rng.random() < 0.5 else "number"
            for item in items:
                yield Block(kind, item)
        else:
            yield Block("paragraph", paragraph)


def _sentences(paragraph: str) -> list[str]:
    if WIDE.search(paragraph):
        return re.findall("[^\u3002\uff01\uff1f]+[\u3002\uff01\uff1f]?", paragraph)
    return corpora.sentences(paragraph)


def _numbered(blocks: list[Block], numbered_sections: bool) -> list[Block]:
    """The blocks with the marks that typst will show."""
    marked: list[Block] = []
    sections = 0
    for block in blocks:
        mark = ""
        if block.kind == "section":
            sections += 1
            mark = f"{sections}." if numbered_sections else ""
        elif block.kind == "bullet":
            mark = BULLET
        elif block.kind == "number":
            before = marked[-1] if marked else None
            mark = f"{int(before.mark[:-1]) + 1}." if before and before.kind == "number" else "1."
        marked.append(replace(block, mark=mark))
    return marked


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    options = arguments.CommandParser(
        prog="python -m data_tools.engines.pages",
        description="Set document pages by typst and write them as records.",
    )
    arguments.add_arguments(options, shard_pages=250)
    arguments.add_size_arguments(options, width=1024, height=1448)
    arguments.add_text_arguments(options)
    options.add_argument(
        "--tasks", type=arguments.one_of(TASKS), default=("ocr",), help="ocr,format,box,color (default: ocr)"
    )
    options.add_argument(
        "--fonts", default=DEFAULT_FONTS, help="names, paths, folders, Lato-*, all, typst:Libertinus Serif"
    )
    options.add_argument(
        "--dpi", type=arguments.positive, default=124, help="pixels in 72 points (default: 124)"
    )
    options.add_argument("--font-size", type=arguments.span, default=(8, 12), help="points (default: 8-12)")
    options.add_argument("--columns", type=arguments.span, default=(1, 2), help="up to 3 (default: 1-2)")
    options.add_argument(
        "--footnotes", type=degrade.share, default=0.0, help="share of paragraphs with one, 0-1 (default: 0)"
    )
    options.add_argument(
        "--blocks",
        action="store_true",
        help="tell the boxes of blocks in format records, for data_tools.engines.regions",
    )
    corpora.add_arguments(options)
    options.add_argument(
        "--fonts-zh", default="all", help="for Chinese: names, paths, folders (default: all installed)"
    )
    degrade.add_arguments(options)
    options.add_argument("--image", choices=("jpg", "png"), default="jpg", help="(default: %(default)s)")
    return options


def make(args: argparse.Namespace) -> dict[str, Any]:
    """Records as the options ask; returns the counts."""
    if args.columns[1] > MOST_COLUMNS:
        raise DrawingError(
            f"--columns {args.columns[1]}: pages have one to three columns; give 1, 2, 3 or 1-3"
        )
    find = {
        "en": lambda: find_faces(args.fonts.split(",")),
        "zh": lambda: find_faces([str(path) for path in system_fonts.chinese_files(args.fonts_zh)]),
    }
    usable, without = system_fonts.with_fonts(corpora.by_language(args), find, args.strict)
    first, *others = (Language(name, documents, faces) for name, (documents, faces) in usable.items())
    shape = (args.side, args.side) if args.side else (args.width, args.height)
    engine = PageEngine(
        documents=first.documents,
        faces=first.faces,
        tasks=args.tasks,
        shape=shape,
        dpi=args.dpi,
        sizes=args.font_size,
        columns=args.columns,
        suffix=args.image,
        name=f"pages-{args.split}",
        language=first.name,
        others=tuple(others),
        footnotes=args.footnotes,
        degrade=args.degrade,
        tell_blocks=args.blocks,
    )
    names = [
        f"{face.family} {face.style} {face.weight}"
        for language in (first, *others)
        for face in language.faces
    ]
    return produce.write(engine, args, args.count, without, fonts=names)


main = produce.command(parser, make)

if __name__ == "__main__":
    sys.exit(main())
