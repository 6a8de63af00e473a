"""The cells of an HTML table at their places. Knows rows and spans, nothing of their looks."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lxml.html import HtmlElement, HTMLParser, fromstring

MOST_COLUMNS = 500


@dataclass(frozen=True)
class Cell:
    """A cell: its text, with formulas as they are written, its place from 0, and what it spans."""

    text: str
    row: int
    column: int
    rows: int = 1
    columns: int = 1


def grid(html: str) -> list[list[Cell]]:
    """The cells of the first table, row by row."""
    root = fromstring(f"<div>{html}</div>", parser=HTMLParser(remove_comments=True))
    table = next(root.iter("table"), None)
    taken: set[tuple[int, int]] = set()
    lines = [] if table is None else [row for row in table.iter("tr") if _owner(row) is table]
    return [list(_line(row, number, len(lines), taken)) for number, row in enumerate(lines)]


def _line(row: HtmlElement, number: int, count: int, taken: set[tuple[int, int]]) -> list[Cell]:
    cells, column = [], 0
    for element in row.iterchildren("td", "th"):
        while (number, column) in taken:
            column += 1
        across = _span(element, "colspan", MOST_COLUMNS)
        down = _span(element, "rowspan", count - number)
        taken |= {(number + y, column + x) for y in range(down) for x in range(across)}
        cells.append(Cell(_text(element), number, column, down, across))
        column += across
    return cells


def _text(element: HtmlElement) -> str:
    for smiles in element.iter("smiles"):
        smiles.text = f"<smiles>{smiles.text_content()}</smiles>"
    for end in element.iter("br"):
        end.tail = "\n" + (end.tail or "")
    return element.text_content().strip()


def _owner(row: HtmlElement) -> HtmlElement:
    return next(row.iterancestors("table"))


def _span(element: HtmlElement, name: str, most: int) -> int:
    given = element.get(name, "1")
    return max(1, min(int(given), most)) if re.fullmatch(r"\d{1,4}", given) else 1
