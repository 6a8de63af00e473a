"""TEDS and TEDS-S: how like two tables are, by the edit distance of their trees.

The formula is PubTabNet's with OmniDocBench's normalisation; the distance is exact (Zhang and Shasha's), many
subtrees at a time. Tables in LaTeX and Markdown are taken as the HTML that formats.tables makes of them.
"""

from __future__ import annotations

import html
import re
import time
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy
from lxml import etree
from lxml.html import HtmlElement, HTMLParser, fromstring
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist

from got_train.errors import AnswerError
from got_train.formats.tables import find_tables

from .pairing import best_pairs
from .values import MetricValues, means, missing_values

NAMES = ("teds", "teds_s")
LARGEST = 3000  # nodes of a table; two of these take about half a gigabyte and a minute
SECONDS = 60.0
_DROPPED = re.compile(r"</?(?:sup|sub|span|div|p|tbody)>|<colgroup>.*?</colgroup>")
_FORMATS = re.compile(r' (?:style|height|width|align|class)=".*?"')
# what looks like a tag, but is a cell's text after its entities were resolved
_TEXT = re.compile(
    r"<(?!/?(?:table|t[rdh]|t?head|tbody|tfoot|caption|col|colgroup|b|i|u|s|em|strong|br|a|sup|sub|span|div|p|img"
    r"|math|m[a-z]+|ul|ol|li|font|small|big|code|del|ins|hr|html|body|input|strike|tt|annotation|semantics)\b[^<]*>)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Tree:
    """A table's nodes in postorder, children before parents."""

    tags: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]  # columns and rows of a cell
    texts: tuple[str, ...]  # of a cell; a tag inside it is one character
    firsts: tuple[int, ...]  # the first leaf below a node; its own place if it is one
    size: int  # elements, those inside cells too: what the distance is divided by


def score(prediction: str, reference: str, seconds: float = SECONDS) -> MetricValues:
    """TEDS and TEDS-S, and whether the prediction's tables are complete.

    Of several tables each one has the best partner on the other side; the score is the mean over the pairs,
    and a table without a partner, missing or invented, has 0.
    """
    expected = find_tables(reference)
    found = find_tables(prediction)
    if not expected:
        return missing_values((*NAMES, "closed"), "the reference holds no table")
    closed = bool(found) and all(table.closed for table in found)
    pairs = best_pairs([table.html for table in found], [table.html for table in expected])
    deadline = time.monotonic() + seconds
    totals = dict.fromkeys(NAMES, 0.0)
    try:
        for mine, other in pairs:
            if mine is not None and other is not None:
                scores = both(mine, other, deadline - time.monotonic())
                totals = {name: totals[name] + scores[name] for name in NAMES}
    except AnswerError as error:
        return MetricValues({**dict.fromkeys(NAMES), "closed": closed}, dict.fromkeys(NAMES, str(error)))
    return MetricValues({**{name: total / len(pairs) for name, total in totals.items()}, "closed": closed})


averages = means


def both(prediction: str, reference: str, seconds: float = SECONDS) -> dict[str, float]:
    """TEDS and TEDS-S of two tables in HTML."""
    if prediction == reference:  # however large
        return dict.fromkeys(NAMES, 1.0)
    trees = [tree(normalised(side)) for side in (prediction, reference)]
    return {name: similarity(*trees, structure_only=name == "teds_s", seconds=seconds) for name in NAMES}


def teds(prediction: str, reference: str, structure_only: bool = False, normalise: bool = True) -> float:
    """TEDS of two tables in HTML; not normalised, it is PubTabNet's own."""
    sides = [normalised(side) if normalise else side for side in (prediction, reference)]
    return similarity(tree(sides[0]), tree(sides[1]), structure_only)


def normalised(table: str, change_cell: Callable[[str], str] | None = None) -> str:
    """A table in HTML without what TEDS is not to see: heads, formats, the width of characters; else nothing.

    OmniDocBench v1.5's, but that a cell's `<` stays a character where it opens no tag; `change_cell`
    changes the text of cells first, as v1.6 does.
    """
    if "<table" not in table.replace(" ", "").lower():
        return ""
    root = _parsed(table)
    for cell in root.iter("th"):
        cell.tag = "td"
    for formula in list(root.iter("math")):
        _replace(formula, f"${formula.get('alttext', '')}$")
    etree.strip_tags(root, "thead", "span")
    if change_cell is not None:
        etree.strip_tags(root, "tbody")
        for element in root.iter("td"):
            _change_text(element, change_cell)
    text = html.unescape(etree.tostring(root, encoding="unicode", method="html")).replace("\n", "")
    inner = re.search(
        r"<table\b[^>]*>(.*)</table>", unicodedata.normalize("NFKC", text), re.DOTALL | re.IGNORECASE
    )
    text = re.sub(r"\s+", " ", _FORMATS.sub("", inner[1])) if inner else ""
    return f"<table>{_TEXT.sub('&lt;', _DROPPED.sub('', text))}</table>"


def tree(table: str) -> Tree | None:
    """The first table of the HTML; None if there is none."""
    root = _parsed(table).find("body/table") if table.strip() else None
    if root is None:
        return None
    nodes: list[tuple[str, tuple[int, int], str, int]] = []
    _walk(root, nodes)
    return Tree(*map(tuple, zip(*nodes, strict=True)), size=sum(1 for _ in root.iterdescendants()))


def similarity(
    first: Tree | None, second: Tree | None, structure_only: bool = False, seconds: float = SECONDS
) -> float:
    """1 - the distance of the trees over the larger one's elements; 0 without a table on either side.

    As published: very unlike trees may be farther apart than that and fall below 0.
    """
    if first is None or second is None:
        return 0.0
    largest = max(first.size, second.size)
    if largest > LARGEST:
        raise AnswerError(f"a table of {largest:,} elements; expected at most {LARGEST:,}")
    if not largest:
        return 1.0
    renames = _renames(first, second, structure_only)
    return 1.0 - _distance(first, second, renames, time.monotonic() + seconds) / largest


def _parsed(source: str) -> HtmlElement:
    return fromstring(f"<html><body>{source}</body></html>", parser=HTMLParser(remove_comments=True))


def _replace(element: HtmlElement, text: str) -> None:
    element.clear(keep_tail=True)
    element.text = text
    element.drop_tag()


def _change_text(element: HtmlElement, change: Callable[[str], str]) -> None:
    """Change the text of a cell, and of what is in it, piece by piece."""
    element.text = change(element.text) if element.text else element.text
    for child in element:
        if isinstance(child.tag, str) and child.tag != "td":
            _change_text(child, change)
        child.tail = change(child.tail) if child.tail else child.tail


def _walk(element: HtmlElement, nodes: list[tuple[str, tuple[int, int], str, int]]) -> int:
    """Append an element after its children; the place of its first leaf."""
    cell = element.tag == "td"
    firsts = [] if cell else [_walk(child, nodes) for child in element if isinstance(child.tag, str)]
    first = firsts[0] if firsts else len(nodes)
    spans = (_span(element, "colspan"), _span(element, "rowspan")) if cell else (0, 0)
    nodes.append((element.tag, spans, "".join(_content(element)) if cell else "", first))
    return first


def _span(cell: HtmlElement, name: str) -> int:
    """A span; what is no number is none, as browsers have it."""
    digits = re.match(r"\s*\d+", cell.get(name, "1"))
    return int(digits[0]) if digits else 1


def _content(element: HtmlElement) -> Iterator[str]:
    """The characters of a cell; each tag in it is one, of the private planes."""
    yield element.text or ""
    for child in element:
        tag = str(child.tag)
        yield _mark(f"<{tag}>")
        yield from _content(child)
        yield _mark(f"</{tag}>")
        if tag != "td":  # PubTabNet's tokens have no text behind a cell within a cell
            yield child.tail or ""


_marks: dict[str, str] = {}


def _mark(tag: str) -> str:
    return _marks.setdefault(tag, chr(0xF0000 + len(_marks) % 0xFFFE))


def _renames(first: Tree, second: Tree, structure_only: bool) -> numpy.ndarray:
    """What it costs to rename a node: 1, or for cells of the same spans how unlike their texts are."""
    kinds = {
        kind: place
        for place, kind in enumerate(
            {*zip(first.tags, first.spans, strict=True)} | {*zip(second.tags, second.spans, strict=True)}
        )
    }
    ours, theirs = (
        numpy.array([kinds[kind] for kind in zip(side.tags, side.spans, strict=True)])
        for side in (first, second)
    )
    same = ours[:, None] == theirs[None, :]
    if structure_only:
        return numpy.where(same, 0.0, 1.0)
    unlike = cdist(first.texts, second.texts, scorer=Levenshtein.normalized_distance, dtype=numpy.float64)
    return numpy.where(same, unlike, 1.0)


def _distance(first: Tree, second: Tree, renames: numpy.ndarray, deadline: float) -> float:
    """Zhang and Shasha's recursion over pairs of inner nodes; with a leaf on one side it is a minimum."""
    trees = numpy.zeros_like(renames)  # _pairs reads a pair's own place before it is known, and drops it
    _with_leaves(first, second, renames, trees)
    _with_leaves(second, first, renames.T, trees.T)
    shapes = _shapes(second)
    for row, leaf in enumerate(first.firsts):
        for starts, columns in shapes if leaf != row else ():
            if time.monotonic() > deadline:
                raise AnswerError(
                    f"tables of {len(first.tags):,} and {len(second.tags):,} nodes took too long"
                )
            trees[row, columns] = _pairs(first, row, starts, columns, trees, renames)
    return float(trees[-1, -1])


def _shapes(side: Tree) -> list[tuple[numpy.ndarray, numpy.ndarray]]:
    """The inner nodes in groups of one shape, small ones first: where the first leaves are, and the nodes."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for place, leaf in enumerate(side.firsts):
        if leaf != place:
            groups.setdefault(tuple(first - leaf for first in side.firsts[leaf : place + 1]), []).append(
                place
            )
    return [(numpy.array(shape), numpy.array(groups[shape])) for shape in sorted(groups, key=len)]


def _with_leaves(leaves: Tree, others: Tree, renames: numpy.ndarray, trees: numpy.ndarray) -> None:
    """The leaf becomes that node of the other tree which it is most like; the rest is inserted."""
    rows = numpy.array([place for place, leaf in enumerate(leaves.firsts) if leaf == place])
    for column, leaf in enumerate(others.firsts):
        trees[rows, column] = renames[rows, leaf : column + 1].min(axis=1) + (column - leaf)


def _pairs(
    first: Tree,
    row: int,
    starts: numpy.ndarray,
    columns: numpy.ndarray,
    trees: numpy.ndarray,
    renames: numpy.ndarray,
) -> numpy.ndarray:
    """The distances of a subtree to all those of one shape, from the distances of all smaller ones."""
    top, width = first.firsts[row], len(starts)
    within = columns[:, None] - (width - 1) + numpy.arange(width)  # (columns, width)
    steps = numpy.arange(width + 1, dtype=numpy.float64)
    forests = numpy.empty((row - top + 2, len(columns), width + 1))
    forests[0] = steps
    for place in range(top, row + 1):
        above, line = forests[place - top], forests[place - top + 1]
        joined = forests[first.firsts[place] - top][:, starts] + trees[place][within]
        if place == row:
            joined[:, -1] = above[:, -2] + renames[row, columns]
        line[:, 0] = above[:, 0] + 1
        numpy.minimum(above[:, 1:] + 1, joined, out=line[:, 1:])
        # an insertion costs 1 a step, so the cheapest start of a run of them is a running minimum
        line[:] = numpy.minimum.accumulate(line - steps, axis=1) + steps
    return forests[-1, :, -1]
