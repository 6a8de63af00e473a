"""Answers and references as they would look: tables, formulas, molecules; what cannot be drawn stays text.

Everything that comes out is made of a few known tags, for answers may hold any HTML.
"""

from __future__ import annotations

import html
import re

from lxml import etree
from lxml.html import HtmlElement, HTMLParser, fromstring

from .. import katex
from ..tabular import find_tables

_CELLS = ("td", "th")
_KEPT = ("table", "thead", "tbody", "tr", *_CELLS, "b", "i", "u", "s", "em", "strong", "sub", "sup", "br")
_FORMULA = re.compile(
    r"\\\[(?P<block>.+?)\\\]|\$\$(?P<dollars>.+?)\$\$|\\\((?P<inline>.+?)\\\)|(?<![\\$])\$(?P<dollar>[^$\n]+?)\$"
    r"|(?P<environment>\\begin\{(?P<name>equation|align|gather|multline|displaymath)\*?\}.+?"
    r"\\end\{(?P=name)\*?\})",
    re.DOTALL,
)
_SMILES = re.compile(r"<smiles>(.*?)</smiles>", re.DOTALL)
_LONGEST = 20_000  # characters of a text that is drawn
_RENDER = """
function mathml(source, block) {
  return katex.renderToString(source, {output: "mathml", displayMode: block, strict: false, trust: false,
    maxExpand: 1000, maxSize: 20});
}
"""


def drawn(text: str, kind: str) -> str | None:
    """The text as HTML, for the kinds that look different from their source; None for the others."""
    if len(text) > _LONGEST or not text.strip():
        return None
    if kind == "molecule":
        return _molecules(text)
    if kind in ("page", "table", "formula"):
        found = _page(text)
        return found if re.search("<(?:table|math|h[1-6]|svg)", found) else None
    return None


def _page(text: str) -> str:
    parts, end = [], 0
    for table in find_tables(text):
        parts += [_formulas(text[end : table.start]), safe_table(table.html)]
        end = table.end
    return "".join([*parts, _formulas(text[end:])])


def safe_table(source: str) -> str:
    """A table in HTML with nothing but cells, their spans, emphasis and text; formulas in it are drawn."""
    root = fromstring(f"<div>{source}</div>", parser=HTMLParser(remove_comments=True))
    return "".join(_safe(child) for child in root.iter("table") if not _inside_table(child))


def _inside_table(element: HtmlElement) -> bool:
    return any(parent.tag == "table" for parent in element.iterancestors())


def _safe(element: HtmlElement) -> str:
    if not isinstance(element.tag, str) or element.tag in ("script", "style"):
        return ""
    inner = _formulas(element.text or "")
    for child in element:
        inner += _safe(child) + _formulas(child.tail or "")
    if element.tag not in _KEPT:
        return inner
    if element.tag == "br":
        return "<br>"
    spans = [(name, element.get(name, "")) for name in ("colspan", "rowspan") if element.tag in _CELLS]
    given = "".join(f' {name}="{value}"' for name, value in spans if re.fullmatch(r"[1-9]\d{0,2}", value))
    return f"<{element.tag}{given}>{inner}</{element.tag}>"


def _formulas(text: str) -> str:
    parts, end = [], 0
    for match in _FORMULA.finditer(text):
        source = next(
            match[name] for name in ("block", "dollars", "inline", "dollar", "environment") if match[name]
        )
        block = match["inline"] is None and match["dollar"] is None
        parts += [_paragraphs(text[end : match.start()]), _formula(source, block) or _paragraphs(match[0])]
        end = match.end()
    return "".join([*parts, _paragraphs(text[end:])])


def _paragraphs(text: str) -> str:
    """Escaped; headings in Markdown and LaTeX are marked, lines stay lines."""
    lines = []
    for line in text.split("\n"):
        heading = re.fullmatch(r"\s*(?:#{1,6} +(.+)|\\(?:sub)*section\*?\{(.+)\}|\\title\{(.+)\})\s*", line)
        if heading:
            lines.append(f"<b>{html.escape(heading[1] or heading[2] or heading[3])}</b>")
        else:
            lines.append(html.escape(line))
    return "<br>".join(lines)


def _formula(source: str, block: bool) -> str | None:
    """MathML by KaTeX, which escapes what it is given; None if it does not understand."""
    if katex.unavailable():
        return None
    try:
        found = katex.function(_RENDER, "mathml")(source.strip(), block)
    except katex.FormulaError:
        return None
    return f'<span class="formula">{found}</span>' if _well_formed(found) else None


def _well_formed(found: str) -> bool:
    try:
        etree.fromstring(found, parser=etree.XMLParser(resolve_entities=False))
    except etree.XMLSyntaxError:
        return False
    return True


def _molecules(text: str) -> str | None:
    try:
        from rdkit import Chem, RDLogger
        from rdkit.Chem.Draw import rdMolDraw2D
    except ImportError:
        return None
    RDLogger.DisableLog("rdApp.*")
    pictures = []
    for smiles in (_SMILES.findall(text) or [text])[:6]:
        molecule = Chem.MolFromSmiles(smiles.strip()) if " " not in smiles.strip() else None
        if molecule is None:
            pictures.append(f"<code>{html.escape(smiles)}</code>: no molecule")
            continue
        drawing = rdMolDraw2D.MolDraw2DSVG(260, 180)
        drawing.DrawMolecule(molecule)
        drawing.FinishDrawing()
        pictures.append(drawing.GetDrawingText().partition("?>")[2].strip())
    return "".join(pictures)
