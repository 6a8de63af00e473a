"""What was read as a Word document: headings, tables with their spans, formulas as Word's own, pictures.

Knows python-docx; formulas go over KaTeX's MathML to Office's, and stay source where that fails.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from lxml import etree

from got_train.errors import RenderingError

from . import charts, markup, molecules, music, tikz
from .blocks import Block, blocks, pieces
from .document import Reading
from .table_grid import grid

WIDTH = 6.0  # inches of a page's text
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/math"
_CONTROL = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")  # XML has none of these


def unavailable() -> str | None:
    """Why no document can be written; None if it can."""
    missing = [name for name in ("docx", "mathml2omml") if find_spec(name) is None]
    return (
        f'{" and ".join(missing)} not installed; use `pip install -e ".[docx]"` in the clone'
        if missing
        else None
    )


def written(document: Sequence[Reading]) -> bytes:
    """The bytes of the .docx file; each page of the document begins a new one."""
    import docx

    file = docx.Document()
    for number, reading in enumerate(document):
        if number:
            file.add_page_break()
        parts = reading.parts()
        for note in dict.fromkeys(note for part in parts for note in part.notes):
            _note(file, note)
        for part in parts:
            _part(file, part.kind, part.text)
    kept = io.BytesIO()
    file.save(kept)
    return kept.getvalue()


def _part(file: Any, kind: str, text: str) -> None:
    if kind in ("markdown", "table"):
        for block in blocks(text):
            _block(file, block)
        return
    try:
        _DRAWN.get(kind, _lines)(file, text)
    except RenderingError as error:
        _source(file, text, str(error))


def _block(file: Any, block: Block) -> None:
    if block.kind == "heading":
        _line(file.add_heading(level=min(block.level, 9)), block.text)
    elif block.kind == "list":
        for item in block.items:
            _line(file.add_paragraph(style="List Number" if block.level else "List Bullet"), item)
    elif block.kind == "table":
        _table(file, block.html)
    elif block.kind == "formula":
        _formula(file.add_paragraph(), block.text, block.source, True)
    elif block.kind == "code":
        _source(file, block.text)
    elif block.kind == "drawing":
        _part(file, "drawing", block.source)
    else:
        _line(file.add_paragraph(style="Caption" if block.kind == "caption" else None), block.text)


def _line(paragraph: Any, text: str) -> None:
    for piece in pieces(text):
        if piece.kind == "formula":
            _formula(paragraph, piece.text, piece.source, False)
        elif piece.kind == "molecule":
            try:
                _picture(paragraph, _pixels(molecules.svg(piece.text)), 2.0)
            except RenderingError:
                paragraph.add_run(_clean(piece.source))
        else:
            run = paragraph.add_run(_clean(piece.text))
            run.bold, run.italic = piece.kind == "bold" or None, piece.kind == "italic" or None


def _formula(paragraph: Any, inner: str, source: str, display: bool) -> None:
    try:
        paragraph._p.append(office_formula(inner, display))
    except RenderingError:
        paragraph.add_run(_clean(source)).font.name = "Courier New"


def office_formula(source: str, display: bool = False) -> Any:
    """A formula as an element of Office's MathML."""
    import mathml2omml

    mathml = markup.mathml(source, display)
    try:
        formula = mathml2omml.convert(mathml).replace("<m:oMath>", f'<m:oMath xmlns:m="{_OFFICE}">', 1)
        return etree.fromstring(formula, parser=etree.XMLParser(resolve_entities=False))
    except Exception as error:  # the library knows not every element, and says so in many ways
        raise RenderingError(f"no formula of Word: {error}") from error


def _table(file: Any, html: str) -> None:
    rows = grid(html)
    width = max((cell.column + cell.columns for row in rows for cell in row), default=0)
    if not width:
        return
    table = file.add_table(len(rows), width, style="Table Grid")
    for cell in (cell for row in rows for cell in row):
        target = table.cell(cell.row, cell.column)
        if cell.rows > 1 or cell.columns > 1:
            with contextlib.suppress(IndexError, ValueError):  # spans that overlap, in a table that is none
                target = target.merge(table.cell(cell.row + cell.rows - 1, cell.column + cell.columns - 1))
        _line(target.paragraphs[0], cell.text)
    file.add_paragraph()


def _drawing(file: Any, text: str) -> None:
    figure = tikz.figure(text, as_png=True)
    _picture(file.add_paragraph(), figure.data, None)
    for note in figure.notes:
        _note(file, note)


def _score(file: Any, text: str) -> None:
    drawn, note = music.pages(text)
    for page in drawn:
        _picture(file.add_paragraph(), _pixels(page), WIDTH)
    if note:
        _note(file, note)


def _chart(file: Any, text: str) -> None:
    chart = charts.read(text)
    with contextlib.suppress(RenderingError):
        _picture(file.add_paragraph(), _pixels(charts.svg(chart)), WIDTH)
    for name, title in chart.titles.items():
        file.add_paragraph(_clean(f"{name}: {title}"))
    _table(file, charts.table(chart))


def _lines(file: Any, text: str) -> None:
    for line in text.split("\n"):
        file.add_paragraph(_clean(line))


def _source(file: Any, text: str, reason: str = "") -> None:
    if reason:
        _note(file, f"shown as source: {reason}")
    for line in text.split("\n"):
        file.add_paragraph().add_run(_clean(line)).font.name = "Courier New"


def _note(file: Any, note: str) -> None:
    file.add_paragraph(_clean(note), style="Intense Quote")


def _picture(paragraph: Any, data: bytes, inches: float | None) -> None:
    from docx.shared import Inches
    from PIL import Image

    wide = Image.open(io.BytesIO(data)).width / 180
    paragraph.add_run().add_picture(io.BytesIO(data), Inches(min(WIDTH, inches or wide)))


def _pixels(svg: bytes) -> bytes:
    """An SVG as PNG, for Word takes no SVG alone."""
    try:
        import resvg_py
    except ImportError:
        raise RenderingError(
            'resvg_py is not installed; use `pip install -e ".[engines]"` in the clone'
        ) from None
    return bytes(resvg_py.svg_to_bytes(svg_string=svg.decode(), zoom=2, background="white"))


def _clean(text: str) -> str:
    return _CONTROL.sub("\ufffd", text)


_DRAWN = {"drawing": _drawing, "score": _score, "chart": _chart}
