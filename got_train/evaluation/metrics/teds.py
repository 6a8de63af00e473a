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
    leftmost: tuple[int, ...]  # index of the leftmost leaf below a node; its own index if it is one
    size: int  # elements, those inside cells too: what the distance is divided by


def score(prediction: str, reference: str, seconds: float = SECONDS) -> MetricValues:
    """TEDS and TEDS-S, and whether the prediction's tables are complete.

    Of several tables each one has the best partner on the other side; the score is the mean over the pairs,
    and a table without a partner, missing or invented, has 0.
    """
    expected = find_tables(reference)
    predicted = find_tables(prediction)
    if not expected:
        return missing_values((*NAMES, "closed"), "the reference holds no table")
    closed = bool(predicted) and all(table.closed for table in predicted)
    pairs = best_pairs([table.html for table in predicted], [table.html for table in expected])
    deadline = time.monotonic() + seconds
    totals = dict.fromkeys(NAMES, 0.0)
    try:
        for table, partner in pairs:
            if table is not None and partner is not None:
                scores = both(table, partner, deadline - time.monotonic())
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
    costs = _rename_costs(first, second, structure_only)
    return 1.0 - tree_distance(first, second, costs, time.monotonic() + seconds) / largest


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
    """Append an element after its children; returns the index of its leftmost leaf."""
    if element.tag == "td":  # a leaf: what is in a cell is its text
        leftmost = len(nodes)
        spans = _span(element, "colspan"), _span(element, "rowspan")
        nodes.append((element.tag, spans, "".join(_content(element)), leftmost))
        return leftmost
    leaves = [_walk(child, nodes) for child in element if isinstance(child.tag, str)]
    leftmost = leaves[0] if leaves else len(nodes)
    nodes.append((element.tag, (0, 0), "", leftmost))
    return leftmost


def _span(cell: HtmlElement, name: str) -> int:
    """A span; 1 where it is not a number, as in browsers."""
    digits = re.match(r"\s*\d+", cell.get(name, "1"))
    return int(digits[0]) if digits else 1


def _content(element: HtmlElement) -> Iterator[str]:
    """The characters of a cell; each tag in it is one, of the private planes."""
    yield element.text or ""
    for child in element:
        tag = str(child.tag)
        yield _tag_character(f"<{tag}>")
        yield from _content(child)
        yield _tag_character(f"</{tag}>")
        if tag != "td":  # PubTabNet's tokens have no text behind a cell within a cell
            yield child.tail or ""


_tag_characters: dict[str, str] = {}


def _tag_character(tag: str) -> str:
    return _tag_characters.setdefault(tag, chr(0xF0000 + len(_tag_characters) % 0xFFFE))


def _rename_costs(first: Tree, second: Tree, structure_only: bool) -> numpy.ndarray:
    """(nodes, nodes): 1 for nodes of two kinds; 0 to 1 for cells of the same spans, by their texts."""
    numbers: dict[tuple[str, tuple[int, int]], int] = {}  # of each kind of node: its tag and spans
    kinds = [
        numpy.array(
            [numbers.setdefault(kind, len(numbers)) for kind in zip(tree.tags, tree.spans, strict=True)]
        )
        for tree in (first, second)
    ]
    same_kind = numpy.equal.outer(*kinds)
    if structure_only:
        return numpy.where(same_kind, 0.0, 1.0)
    unlike = cdist(first.texts, second.texts, scorer=Levenshtein.normalized_distance, dtype=numpy.float64)
    return numpy.where(same_kind, unlike, 1.0)


def tree_distance(first: Tree, second: Tree, costs: numpy.ndarray, deadline: float) -> float:
    """Zhang and Shasha's: `distances` (nodes, nodes) is filled for pairs of subtrees, small ones first."""
    # zeros, as _subtree_distances reads a pair's own entry before it is known, and drops it
    distances = numpy.zeros_like(costs)
    _fill_leaves(first, second, costs, distances)
    _fill_leaves(second, first, costs.T, distances.T)
    shapes = _shapes(second)
    for node, leaf in enumerate(first.leftmost):
        if leaf == node:  # a leaf: filled
            continue
        for leftmost, others in shapes:
            if time.monotonic() > deadline:
                raise AnswerError(
                    f"tables of {len(first.tags):,} and {len(second.tags):,} nodes took too long"
                )
            distances[node, others] = _subtree_distances(first, node, leftmost, others, distances, costs)
    return float(distances[-1, -1])


def _shapes(tree: Tree) -> list[tuple[numpy.ndarray, numpy.ndarray]]:
    """Its inner nodes in groups of one shape, small ones first: the subtree's leftmost leaves, the nodes."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for node, leaf in enumerate(tree.leftmost):
        if leaf != node:
            shape = tuple(leftmost - leaf for leftmost in tree.leftmost[leaf : node + 1])
            groups.setdefault(shape, []).append(node)
    return [(numpy.array(shape), numpy.array(groups[shape])) for shape in sorted(groups, key=len)]


def _fill_leaves(leaves: Tree, others: Tree, costs: numpy.ndarray, distances: numpy.ndarray) -> None:
    """A leaf becomes that node of the other subtree which it is most like; the rest is inserted."""
    rows = numpy.array([node for node, leaf in enumerate(leaves.leftmost) if leaf == node])
    for column, leaf in enumerate(others.leftmost):
        distances[rows, column] = costs[rows, leaf : column + 1].min(axis=1) + (column - leaf)


def _subtree_distances(
    first: Tree,
    node: int,
    leftmost: numpy.ndarray,
    others: numpy.ndarray,
    distances: numpy.ndarray,
    costs: numpy.ndarray,
) -> numpy.ndarray:
    """The distances of a subtree to all those of one shape, from the distances of all smaller ones.

    forests[i, :, j] is the distance of the subtree's first i nodes to the first j nodes of each other one.
    """
    start, size = first.leftmost[node], len(leftmost)
    nodes_of_others = others[:, None] - (size - 1) + numpy.arange(size)  # (others, size)
    insertions = numpy.arange(size + 1, dtype=numpy.float64)
    forests = numpy.empty((node - start + 2, len(others), size + 1))
    forests[0] = insertions
    for current in range(start, node + 1):
        before, after = forests[current - start], forests[current - start + 1]
        matched = forests[first.leftmost[current] - start][:, leftmost] + distances[current][nodes_of_others]
        if current == node:
            matched[:, -1] = before[:, -2] + costs[node, others]
        after[:, 0] = before[:, 0] + 1
        numpy.minimum(before[:, 1:] + 1, matched, out=after[:, 1:])
        # an insertion costs 1 a node, so the cheapest start of a run of them is a running minimum
        after[:] = numpy.minimum.accumulate(after - insertions, axis=1) + insertions
    return forests[-1, :, -1]
