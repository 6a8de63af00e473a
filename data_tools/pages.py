"""Document pages set by typst: one or two columns with title, headings, lists and paragraphs of the corpora.

What a page says is taken from its PDF's text layer and must equal the source; knows nothing of the model.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from data_tools import corpora, output, regions, textlayer
from data_tools.fonts import find_fonts, missing

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
Kind = Literal["title", "section", "subsection", "paragraph", "bullet", "number"]


class PageError(ValueError):
    """Fonts or sizes with which no page can be set."""


@dataclass(frozen=True)
class Block:
    """One piece of a page; mark is what typst puts before its text (a bullet, a number)."""

    kind: Kind
    text: str
    mark: str = ""

    @property
    def visible(self) -> str:
        return f"{self.mark} {self.text}" if self.mark else self.text


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

    def rows(self, index: int, rng: numpy.random.Generator) -> list[output.Row]:
        face = self.faces[int(rng.integers(len(self.faces)))]
        style = self._style(face, rng)
        blocks = self._blocks(style, rng)
        if face.lacks("".join(block.visible for block in blocks)):
            raise output.Rejected(f"{face.family} lacks a character")
        image, lines = self._draw(typst_source(blocks, style, *self._points))
        parts = match(blocks, lines)
        # half an em more than the text is wide: typst hangs punctuation into the margin
        room = ((self._points[0] - 2 * style.margin) / style.columns + 0.5 * style.size) * self.dpi / 72
        flowing = [line for block, own in parts if block.kind != "title" for line in own]
        if any(line.box[2] - line.box[0] > room for line in flowing):
            raise output.Rejected("line wider than its column")
        meta = {"font": face.family, "size": style.size, "columns": style.columns}
        page = regions.Page(
            image,
            lines,
            paragraphs=[piece for _, own in parts for piece in regions.by_column(own)],
            formatted=markdown([block for block, _ in parts]),
            meta=meta,
        )
        return page.rows(self.name, index, self.tasks, self.suffix, rng)

    @property
    def _points(self) -> tuple[float, float]:
        return self.shape[0] * 72 / self.dpi, self.shape[1] * 72 / self.dpi

    def _style(self, face: Face, rng: numpy.random.Generator) -> Style:
        size = int(rng.integers(2 * self.sizes[0], 2 * self.sizes[1] + 1)) / 2
        random = rng.random(8).tolist()
        columns = int(rng.integers(self.columns[0], self.columns[1] + 1))
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
        )  # fmt: skip

    def _blocks(self, style: Style, rng: numpy.random.Generator) -> list[Block]:
        """Blocks of one document after another until the page is about full; what is over is left out."""
        width, height = (length - 2 * style.margin for length in self._points)
        room = width * height / (0.5 * style.size * (0.75 + style.leading) * style.size)  # characters, about
        room *= 0.4 + 0.7 * rng.random()
        blocks: list[Block] = []
        while room > 0:
            document = self.documents[int(rng.integers(len(self.documents)))]
            for block in _document_blocks(document, style, first=not blocks, rng=rng):
                blocks.append(block)
                room -= len(block.text) + 0.25 * width / style.size  # a paragraph's last line is half empty
                if room < 0:
                    break
        return _numbered(blocks, style.numbered)

    def _draw(self, source: str) -> tuple[Image.Image, list[textlayer.Line]]:
        import pypdfium2

        pdf, warnings = _compiler(self._font_folders).compile_with_warnings(
            source.encode(), format="pdf", pdf_tags=False
        )
        if warnings:
            raise output.Rejected(f"typst warns: {warnings[0].message}")
        with pypdfium2.PdfDocument(pdf) as document:
            page = document[0]
            image = render(page, *self.shape)
            try:
                lines = textlayer.read_lines(page, *self.shape)
                textlayer.check_ink(image, lines)
            except textlayer.TextLayerError as error:
                raise output.Rejected(str(error)) from None
        return image, lines

    @functools.cached_property
    def _font_folders(self) -> tuple[str, ...]:
        return tuple(sorted({str(face.path.parent) for face in self.faces if face.path}))


def typst_source(blocks: list[Block], style: Style, width: float, height: float) -> str:
    """The page as typst reads it; texts are strings, in which only backslash and quote have a meaning."""
    lines = [
        f"#set page(width: {width}pt, height: {height}pt, margin: {style.margin}pt, "
        f"columns: {style.columns}, fill: luma({style.paper}))",
        f'#set text(font: "{style.family}", style: "{style.font_style}", weight: {style.weight}, '
        f'size: {style.size}pt, fill: luma({style.ink}), lang: "en", hyphenate: false, fallback: false)',
        f"#set par(justify: {str(style.justify).lower()}, leading: {style.leading}em, "
        f"spacing: {style.spacing}em, first-line-indent: {style.indent}em)",
        f"#set heading(numbering: {chr(34) + '1.' + chr(34) if style.numbered else 'none'})",
        f'#set list(marker: "{BULLET}")',
    ]
    for block in blocks:
        text = '"' + block.text.replace("\\", "\\\\").replace('"', '\\"') + '"'
        if block.kind == "title":
            title = f'par(justify: false, text(size: 1.6em, weight: "bold", {text}))'
            place = ', scope: "parent"' if style.columns == 2 else ""
            lines.append(f"#place(top + center{place}, float: true, {title})")
        elif block.kind == "section":
            lines.append(f"#heading(level: 1, {text})")
        elif block.kind == "subsection":
            lines.append(f"#heading(level: 2, numbering: none, {text})")
        elif block.kind == "paragraph":
            lines.append(f"#par({text})")
        elif block.kind == "bullet":
            lines.append(f"#list({text})")
        else:
            lines.append(f"#enum(start: {block.mark[:-1]}, {text})")
    return "\n".join(lines) + "\n"


def match(blocks: list[Block], lines: list[textlayer.Line]) -> list[tuple[Block, list[textlayer.Line]]]:
    """Each block that stands on the page with its lines; the last one cut where the page ends.

    The lines, joined by a space or by nothing (after a hyphen or slash), must spell the blocks to the letter.
    """
    found: list[tuple[Block, list[textlayer.Line]]] = []
    queue = iter(lines)
    line = next(queue, None)
    for block in blocks:
        own: list[textlayer.Line] = []
        place = 0
        while line is not None and place < len(block.visible):
            if not block.visible.startswith(line.text, place):
                raise output.Rejected("text layer differs from the source")
            if own and abs(line.base - own[-1].base) < 0.3 * line.em:
                raise output.Rejected("line torn by wide gaps")
            place += len(line.text)
            own.append(line)
            if block.visible[place : place + 1] == " ":
                place += 1
            elif place < len(block.visible) and line.text[-1].isalnum():
                raise output.Rejected("text layer differs from the source")
            line = next(queue, None)
        if own:
            text = block.visible[:place].removeprefix(block.mark).strip()
            found.append((replace(block, text=text), own))
    if line is not None or not found:
        raise output.Rejected("text layer differs from the source")
    return found


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
        raise PageError(f"page: drawn {image.size[0]} x {image.size[1]} pixels large, not {width} x {height}")
    return image


def find_faces(names: list[str]) -> tuple[Face, ...]:
    """typst's family, style and weight of fonts by name; "typst:Family" for those inside its package."""
    paths = find_fonts([name for name in names if not name.startswith(EMBEDDED)])
    known = _fonts(tuple(sorted({str(path.parent) for path in paths}))).fonts()
    by_path = {Path(info.path): info for info in known if info.path}
    faces = []
    for path in paths:
        if path not in by_path:
            raise PageError(f"--fonts {path}: typst cannot use this file; choose another")
        info = by_path[path]
        faces.append(Face(info.family, info.style, info.weight, path))
    inside = {info.family for info in known if not info.path}
    for name in names:
        family = name.removeprefix(EMBEDDED)
        if name.startswith(EMBEDDED):
            if family not in inside:
                raise PageError(
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
        items = corpora.sentences(paragraph)
        if random > 0.5 and len(items) > 1:
            kind: Kind = "bullet" if rng.random() < 0.5 else "number"
            for item in items:
                yield Block(kind, item)
        else:
            yield Block("paragraph", paragraph)


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
    options = argparse.ArgumentParser(
        prog="python -m data_tools.pages",
        description="Set document pages by typst and write them as records.",
    )
    output.add_arguments(options, shard_pages=250)
    output.add_size_arguments(options, width=1024, height=1448)
    output.add_text_arguments(options)
    options.add_argument(
        "--tasks", type=output.one_of(TASKS), default=("ocr",), help="ocr,format,box,color (default: ocr)"
    )
    options.add_argument(
        "--fonts", default=DEFAULT_FONTS, help="names, paths, folders, Lato-*, all, typst:Libertinus Serif"
    )
    options.add_argument(
        "--dpi", type=output.positive, default=124, help="pixels in 72 points (default: 124)"
    )
    options.add_argument("--font_size", type=output.span, default=(8, 12), help="points (default: 8-12)")
    options.add_argument("--columns", type=output.span, default=(1, 2), help="(default: 1-2)")
    options.add_argument("--image", choices=("jpg", "png"), default="jpg", help="(default: %(default)s)")
    return options


def make(args: argparse.Namespace) -> dict[str, Any]:
    """Records as the options ask; returns the counts."""
    if args.columns[1] > 2:
        raise PageError(f"--columns {args.columns[1]}: pages have one or two columns; give 1, 2 or 1-2")
    faces = find_faces(args.fonts.split(","))
    shape = (args.side, args.side) if args.side else (args.width, args.height)
    engine = PageEngine(
        corpora.documents(args.split, args.sources), faces, args.tasks, shape, args.dpi, args.font_size,
        args.columns, args.image, name=f"pages-{args.split}",
    )  # fmt: skip
    names = [f"{face.family} {face.style} {face.weight}" for face in faces]
    return output.write(engine, args, args.count, fonts=names)


def main(arguments: list[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    return output.run(lambda: make(args))


if __name__ == "__main__":
    sys.exit(main())
