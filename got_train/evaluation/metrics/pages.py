r"""Formatted pages in their parts, as GOT's format script takes them: the whole page, its math, its tables.

Knows LaTeX's marks for both; the parts are scored as text. What a table or formula means is no matter here.
"""

from __future__ import annotations

import re

from got_train.formats.tables import find_tables

from . import text
from .values import means

PARTS = ("text", "math", "table")
_INLINE = re.compile(r"\\\((.*?)(?<!\\)\\\)")
_DISPLAY = re.compile(r"\\\[(.+?)(?<!\\)\\\]")
_TABLE = re.compile(r"\\begin\{tabular\}(.+?)(?:\\end\{tabular\}|$)", re.DOTALL)
# what the official marks miss: formulas of several lines, and dollars
_FORMULA = re.compile(
    r"\\\((.*?)(?<!\\)\\\)|\\\[(.+?)(?<!\\)\\\]|\$\$(.+?)\$\$|(?<!\\)\$(.+?)(?<!\\)\$", re.DOTALL
)
_KEPT = ("edit_distance", "f1", "bleu", "meteor")


def split(page: str, mode: str = "fixed") -> dict[str, str]:
    """The parts of a page; a part that it has not is empty.

    official: inline formulas a line each, display formulas of one line glued behind, LaTeX tables, as the
    released script does it. fixed: all formulas in their order, tables of any kind as HTML, a line each. In
    both the text is the whole page.
    """
    if mode == "official":
        tables = "\n".join(_TABLE.findall(page))
        math = "\n".join(_INLINE.findall(page)) + "\n".join(_DISPLAY.findall(page))
    else:
        tables = "\n".join(table.html for table in find_tables(page))
        math = "\n".join(" ".join("".join(match).split()) for match in _FORMULA.findall(page))
    return {"text": page.strip(), "math": math, "table": tables}


def score(prediction: str, reference: str) -> dict[str, float | None]:
    """The text metrics of math and tables, as math_f1; None for a part that neither side has."""
    predicted, expected = split(prediction), split(reference)
    scores: dict[str, float | None] = {}
    for part in PARTS[1:]:
        there = predicted[part] or expected[part]
        counted = text.score(predicted[part], expected[part]) if there else None
        scores |= {f"{part}_{name}": counted and counted[name] for name in _KEPT}
    return scores


def official(prediction: str, reference: str) -> dict[str, text.Score | None]:
    """Each part as GOT's format script scores it; None for what it leaves out of its mean."""
    predicted, expected = split(prediction, "official"), split(reference, "official")
    return {
        part: text.score(predicted[part], expected[part], mode="official")
        if predicted[part] and expected[part]
        else None
        for part in PARTS
    }


averages = means
