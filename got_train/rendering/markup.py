"""A formatted answer as HTML without node: blocks, formulas by KaTeX, tables by evaluation.tabular.

Knows how each block is shown; what a block is, `blocks` says. Nothing comes out but known tags.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from lxml import etree
from lxml.html import HtmlElement, HTMLParser, fromstring

from got_train.errors import AnswerError, RenderingError
from got_train.formats import latex

from . import molecules
from .blocks import Block, blocks, pieces
from .html import escaped, inline_source, picture, shown_as_source

_RENDER = """
function mathml(source, block) {
  return katex.renderToString(source, {output: "mathml", displayMode: block, strict: false, trust: false,
    maxExpand: 1000, maxSize: 20});
}
"""
_CELLS = ("td", "th")
_KEPT = (
    *("table", "caption", "thead", "tbody", "tfoot", "tr", *_CELLS),
    *("b", "i", "u", "s", "em", "strong", "sub", "sup", "br"),
)


def formatted(text: str) -> str:
    """The whole answer."""
    return "\n".join(block(item) for item in blocks(text))


def block(part: Block) -> str:
    if part.kind == "heading":
        return f"<h{part.level}>{inline(part.text)}</h{part.level}>"
    if part.kind == "list":
        tag = "ol" if part.level else "ul"
        return f"<{tag}>{''.join(f'<li>{inline(item)}</li>' for item in part.items)}</{tag}>"
    if part.kind == "table":
        return table(part.html)
    if part.kind == "formula":
        return f'<div class="formula">{formula(part.text, part.source, True)}</div>'
    if part.kind == "caption":
        return f'<p class="caption">{inline(part.text)}</p>'
    if part.kind == "code":
        return f"<pre>\n{escaped(part.text)}</pre>"
    if part.kind == "drawing":
        return shown_as_source(part.source, "a drawing, which the page's own renderer takes")
    return f"<p>{inline(part.text)}</p>"


def inline(line: str) -> str:
    """A line with its formulas and molecules drawn."""
    shown = {
        "text": lambda piece: escaped(piece.text).replace("\n", "<br>\n"),
        "bold": lambda piece: f"<b>{inline(piece.text)}</b>",
        "italic": lambda piece: f"<i>{inline(piece.text)}</i>",
        "formula": lambda piece: formula(piece.text, piece.source, False),
        "molecule": lambda piece: molecule(piece.text, piece.source),
    }
    return "".join(shown[piece.kind](piece) for piece in pieces(line))


def formula(inner: str, source: str, display: bool) -> str:
    """MathML; the marked source if KaTeX is not there or refuses it."""
    try:
        return mathml(inner, display)
    except RenderingError as error:
        return inline_source(source, str(error))


def mathml(source: str, display: bool) -> str:
    """A formula as MathML by KaTeX, without the copy of its source inside."""
    if reason := latex.unavailable():
        raise RenderingError(f"formulas need node or KaTeX: {reason}")
    try:
        result = latex.function(_RENDER, "mathml")(source.strip(), display)
    except AnswerError as error:
        raise RenderingError(f"KaTeX refuses this formula: {error}") from error
    match = re.search(r"<math.*</math>", result, re.DOTALL)
    result = re.sub(r"<annotation\b.*?</annotation>", "", match[0] if match else "", flags=re.DOTALL)
    try:
        etree.fromstring(result, parser=etree.XMLParser(resolve_entities=False))
    except etree.XMLSyntaxError as error:
        raise RenderingError("characters that no formula has") from error
    return result


def molecule(smiles: str, source: str) -> str:
    try:
        return picture(molecules.svg(smiles), "svg+xml", smiles)
    except RenderingError as error:
        return inline_source(source, str(error))


def table(source: str, line: Callable[[str], str] = inline) -> str:
    """A table in HTML with nothing but cells, their spans, emphasis and text, which `line` writes."""
    root = fromstring(f"<div>{source}</div>", parser=HTMLParser(remove_comments=True))
    outer = (
        element
        for element in root.iter("table")
        if not any(up.tag == "table" for up in element.iterancestors())
    )
    return "".join(_safe(element, line) for element in outer)


def _safe(element: HtmlElement, line: Callable[[str], str]) -> str:
    if not isinstance(element.tag, str) or element.tag in ("script", "style"):
        return ""
    if element.tag == "br":
        return "<br>"
    if element.tag == "smiles":
        return line(f"<smiles>{element.text_content()}</smiles>")
    inner = line(element.text or "")
    for child in element:
        inner += _safe(child, line) + line(child.tail or "")
    if element.tag not in _KEPT:
        return inner
    spans = [(name, element.get(name, "")) for name in ("colspan", "rowspan") if element.tag in _CELLS]
    given = "".join(f' {name}="{value}"' for name, value in spans if re.fullmatch(r"[1-9]\d{0,2}", value))
    return f"<{element.tag}{given}>{inner}</{element.tag}>"
