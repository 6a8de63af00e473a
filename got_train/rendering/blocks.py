r"""A formatted answer cut into what it is made of: headings, lists, tables, formulas, drawings, paragraphs.

Knows where a thing begins and ends; every character of the text is in one block or between two.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from got_train.formats.tables import find_tables
from got_train.formats.tikz import TIKZPICTURE

from .mathpix import DOLLARS, formula_in_dollars

Kind = Literal["heading", "paragraph", "caption", "list", "table", "formula", "drawing", "code"]
_BLOCK = re.compile(
    r"^```(?P<language>\w*)[^\n]*\n(?P<code>.*?)(?:^```[ \t]*$|\Z)"
    r"|\\begin\{(?P<list>itemize|enumerate)\}(?P<items>.*?)\\end\{(?P=list)\}"
    r"|\\\[(?P<square>.*?)\\\]"
    r"|(?P<environment>\\begin\{(?P<name>equation|align|gather|multline|eqnarray|displaymath)\*?\}.*?"
    r"\\end\{(?P=name)\*?\})"
    r"|\\title\{(?P<title>(?:[^{}]|\{[^{}]*\})*)\}"
    r"|\\(?P<section>(?:sub)*section)\*?\{(?P<named>(?:[^{}]|\{[^{}]*\})*)\}"
    r"|\\caption\{(?P<caption>(?:[^{}]|\{[^{}]*\})*)\}"
    r"|^(?P<marks>#{1,6})[ \t]+(?P<heading>[^\n]*)$",
    re.DOTALL | re.MULTILINE,
)
_FRAME = re.compile(r"\\(?:begin|end)\{(?:table|figure|center)\*?\}(?:\[[^\]]*\])?|\\centering\b")
_INLINE = re.compile(
    r"\\\((?P<round>.*?)\\\)|<smiles>(?P<smiles>[^<]*)</smiles>|(?P<dollars>" + DOLLARS.pattern + ")"
    r"|\*\*(?P<stars>[^*\n]+)\*\*|\\textbf\{(?P<bold>[^{}]*)\}|\\(?:textit|emph)\{(?P<italic>[^{}]*)\}",
    re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A part of an answer: its source, and what is in it without the marks that say what it is.

    level: of a heading from 1, of a list 1 if it is numbered; items: of a list; html: of a table.
    """

    kind: Kind
    source: str
    text: str
    level: int = 0
    items: tuple[str, ...] = ()
    html: str = ""


@dataclass(frozen=True)
class Piece:
    """A part of a line: plain text, bold or italic text, a formula or a molecule."""

    kind: Literal["text", "bold", "italic", "formula", "molecule"]
    source: str
    text: str


def blocks(text: str) -> list[Block]:
    """The blocks of an answer in their order; frames of floats (table, center) are left out."""
    result, end = [], 0
    for start, after, block in sorted(_candidates(text), key=lambda candidate: (candidate[0], -candidate[1])):
        if start >= end:
            result += [*_paragraphs(text[end:start]), block]
            end = after
    return [*result, *_paragraphs(text[end:])]


def pieces(line: str) -> Iterator[Piece]:
    """A line's formulas and molecules, and the text between them."""
    end = 0
    for match in _INLINE.finditer(line):
        piece = _piece(match)
        if piece is not None:
            if line[end : match.start()]:
                yield Piece("text", line[end : match.start()], line[end : match.start()])
            yield piece
            end = match.end()
    if line[end:]:
        yield Piece("text", line[end:], line[end:])


def _piece(match: re.Match) -> Piece | None:
    """None for dollars that are money."""
    if match["dollars"] is not None:
        formula = formula_in_dollars(match)
        return None if formula is None else Piece("formula", match[0], formula.strip())
    named = {"round": "formula", "smiles": "molecule", "stars": "bold", "bold": "bold", "italic": "italic"}
    name = next(name for name in named if match[name] is not None)
    return Piece(named[name], match[0], match[name].strip())


def _candidates(text: str) -> Iterator[tuple[int, int, Block]]:
    for match in TIKZPICTURE.finditer(text):
        yield match.start(), match.end(), Block("drawing", match[0], match[0])
    for table in find_tables(text):
        yield table.start, table.end, _table(text[table.start : table.end], table.html)
    for match in _BLOCK.finditer(text):
        if block := _block(match):
            yield match.start(), match.end(), block
    for match in DOLLARS.finditer(text):
        if match["block"]:
            yield match.start(), match.end(), Block("formula", match[0], match["block"].strip())


def _table(source: str, html: str) -> Block:
    return Block("table", source, source, html=html)


def _block(match: re.Match) -> Block | None:
    groups = match.groupdict()
    if groups["code"] is not None:
        return Block("code", match[0], groups["code"])
    if groups["list"]:
        before, *items = re.split(r"\\item\b", groups["items"])
        if before.strip() or not items or "\\begin" in groups["items"]:
            return None
        kept = tuple(item.strip() for item in items)
        return Block("list", match[0], "\n".join(kept), int(groups["list"] == "enumerate"), kept)
    formula = groups["square"] if groups["square"] is not None else groups["environment"]
    if formula is not None:
        return Block("formula", match[0], formula.strip())
    if groups["caption"] is not None:
        return Block("caption", match[0], groups["caption"].strip())
    if groups["title"] is not None:
        return Block("heading", match[0], groups["title"].strip(), 1)
    if groups["section"]:
        return Block("heading", match[0], groups["named"].strip(), min(2 + groups["section"].count("sub"), 6))
    return Block("heading", match[0], groups["heading"].strip(), len(groups["marks"]))


def _paragraphs(text: str) -> list[Block]:
    text = _FRAME.sub("", text)
    parts = (part.strip("\n") for part in re.split(r"\n\s*\n", text))
    return [Block("paragraph", part, part.strip()) for part in parts if part.strip()]
