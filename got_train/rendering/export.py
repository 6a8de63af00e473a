"""What was read in other formats than the answer's own: HTML, Markdown, DOCX, JSON or the plain answer.

Knows how blocks are written in each; the looks of HTML are the matter of `document`, those of DOCX of `word`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence

from got_train.errors import RenderingError

from . import FORMATS, TABLES, charts, mathpix, word
from .blocks import Block, blocks, pieces
from .document import Part, Reading, render
from .html import escaped
from .markup import table as safe_table
from .table_grid import grid

# of Markdown, in plain text
_MARKS = re.compile(r"^(?P<number>\d{1,9})(?P<dot>[.)])(?!\S)|(?P<sign>[\\`*_\[\]<$~^|&]|^[#>+=-])")
_FENCES = {"drawing": "latex", "score": "kern", "chart": "json", "spots": "", "plain": ""}


def export(document: Sequence[Reading], form: str, tables: str = "html") -> bytes:
    """The document in one of FORMATS; tables of Markdown as HTML, or as pipes where no cell spans others."""
    if form not in FORMATS or tables not in TABLES:
        raise RenderingError(
            f"format: {form}, tables {tables}; expected one of {', '.join(FORMATS)} and {', '.join(TABLES)}"
        )
    if form == "docx":
        if reason := word.unavailable():
            raise RenderingError(f"format: docx; {reason}")
        return word.written(document)
    writers: dict[str, Callable[[], str]] = {
        "html": lambda: render(document),
        "md": lambda: markdown(document, tables),
        "json": lambda: as_json(document),
        "txt": lambda: "\n\n".join(reading.text for reading in document) + "\n",
    }
    return writers[form]().encode("utf-8", "replace")


def as_json(document: Sequence[Reading]) -> str:
    """Pages with their text as it was read, the blocks that it is made of, and notes on what was repaired."""
    pages = []
    for reading in document:
        parts = reading.parts()
        page = {"label": reading.label, "task": reading.task, "text": reading.text}
        if notes := _notes(parts):
            page["notes"] = notes
        pages.append(page | {"blocks": [row for part in parts for row in _rows(part.kind, part.text)]})
    return json.dumps({"pages": pages}, ensure_ascii=False, indent=2) + "\n"


def markdown(document: Sequence[Reading], tables: str = "html") -> str:
    r"""Markdown with $...$ for formulas; HTML in an answer is text; notes stand above as quotations."""
    pages = []
    for reading in document:
        parts = reading.parts()
        notes = "\n".join(f"> {_escaped(' '.join(note.split()))}  " for note in _notes(parts))
        written = [notes, *(_part(part.kind, part.text, tables) for part in parts)]
        pages.append("\n\n".join(filter(None, written)))
    return "\n\n---\n\n".join(pages) + "\n"


def _notes(parts: Sequence[Part]) -> list[str]:
    return list(dict.fromkeys(note for part in parts for note in part.notes))


def _rows(kind: str, text: str) -> Iterable[dict]:
    if kind not in ("markdown", "table"):
        yield {"kind": kind, "text": text}
        return
    for block in blocks(text):
        row = {"kind": block.kind, "text": block.text}
        if block.kind == "heading":
            row["level"] = block.level
        if block.kind == "list":
            row |= {"numbered": bool(block.level), "items": list(block.items)}
        if block.kind == "table":
            row["html"] = safe_table(block.html, escaped)
        yield row


def _part(kind: str, text: str, tables: str) -> str:
    if kind in ("markdown", "table"):
        return "\n\n".join(_block(block, tables) for block in blocks(text))
    if kind == "plain":
        lines = text.strip("\n").split("\n")  # spaces before a line would make code of it
        return "  \n".join(_MARKS.sub(_unmarked, line.lstrip()) for line in lines)
    if kind == "chart":
        try:
            return f"{_table(charts.table(charts.read(text)), tables)}\n\n{_fenced(text, 'json')}"
        except RenderingError:
            pass
    return _fenced(text, _FENCES[kind])


def _unmarked(match: re.Match) -> str:
    return f"\\{match['sign']}" if match["sign"] else f"{match['number']}\\{match['dot']}"


def _block(block: Block, tables: str) -> str:
    if block.kind == "heading":
        return f"{'#' * block.level} {_line(' '.join(block.text.split()))}"
    if block.kind == "table":
        return _table(block.html, tables)
    if block.kind == "formula":
        return f"$$\n{block.text}\n$$"
    if block.kind == "list":
        return "\n".join(f"{'1.' if block.level else '-'} {_line(item)}" for item in block.items)
    if block.kind == "code":
        return _fenced(block.text.rstrip("\n"), "")
    if block.kind == "drawing":
        return _fenced(block.text, "latex")
    return _line(block.text)


def _table(html: str, tables: str) -> str:
    rows = grid(html)
    if tables == "html" or any(cell.rows > 1 or cell.columns > 1 for row in rows for cell in row):
        return safe_table(html, lambda text: _line(text, escaped))
    width = max((len(row) for row in rows), default=0)
    lines = [
        [_line(" ".join(cell.text.split())).replace("|", "\\|") for cell in row] + [""] * (width - len(row))
        for row in rows
    ]
    lines.insert(1, ["---"] * width)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _line(text: str, plain: Callable[[str], str] | None = None) -> str:
    """A line with its formulas in dollars; `plain` writes the text between."""
    shown = []
    for piece in pieces(text):
        if piece.kind == "formula":
            shown.append(f"${' '.join(piece.text.split())}$" if plain is None else f"${plain(piece.text)}$")
        elif piece.kind == "molecule":
            shown.append(f"`{piece.source}`" if plain is None else f"<code>{plain(piece.source)}</code>")
        elif piece.kind == "text":
            shown.append((plain or _escaped)(piece.text))
        else:
            mark = "**" if piece.kind == "bold" else "*"
            shown.append(f"{mark}{_line(piece.text, plain)}{mark}" if plain is None else plain(piece.text))
    return "".join(shown)


def _escaped(text: str) -> str:
    """Text of an answer in Markdown: no HTML, no link and no picture comes out of it."""
    text = mathpix.escaped(text).replace("<", "\\<").replace("](", "]\\(")
    return re.sub(r"^(\s*)\[(?=[^\]\n]*\]:)", r"\1\\[", text, flags=re.MULTILINE)


def _fenced(text: str, language: str) -> str:
    longest = max((len(ticks) for ticks in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.strip(chr(10))}\n{fence}"
