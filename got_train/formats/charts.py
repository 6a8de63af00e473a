"""Charts as answers: OneChart's JSON and tables of values."""

from __future__ import annotations

import ast
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rapidfuzz.distance import Levenshtein

from got_train.errors import AnswerError

TITLES = ("title", "source", "x_title", "y_title")
NO_TITLE = "None"
TEXT_THETA, NUMBER_THETA = 0.5, 0.1  # of RMS: beyond these a key or a number is wrong


def chart(text: str) -> dict[str, Any]:
    """The object that a text writes down; braces missing at its end are added, as OneChart does."""
    text = text.strip()
    text += "}" * max(0, text.count("{") - text.count("}"))
    for parse in (json.loads, ast.literal_eval):
        try:
            read = parse(text)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
        if isinstance(read, dict) and isinstance(values_of(read), dict):
            return read
    raise AnswerError("no object with values")


def title(prediction: str | Sequence[str], reference: str | Sequence[str]) -> float | None:
    """1 - the edit distance of a title in small letters; None where the reference has no title."""
    predicted, expected = (
        [side] if isinstance(side, str) else list(side) for side in (prediction, reference)
    )
    if len(predicted) == 1 and predicted[0] != NO_TITLE and NO_TITLE not in expected:
        return max(_likeness(predicted[0], text) for text in expected) / len(expected)
    total, count = 0.0, 0
    for index, text in enumerate(expected):
        if text != NO_TITLE:
            mine = predicted[index] if index < len(predicted) else predicted[0]
            total += 0.0 if mine == NO_TITLE else _likeness(mine, text)
            count += 1
    return total / count if count else None


@dataclass(frozen=True)
class Table:
    """What RMS compares: a title and rows under heads."""

    title: str | None = None
    heads: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()

    def points(self) -> list[tuple[str, str]]:
        """ "row head" with its value, and the title; of two points of one name the last."""
        points = {} if self.title is None else {"title": self.title}
        for row in self.rows if len(self.heads) > 1 else ():
            points |= {f"{row[0]} {head}": cell for head, cell in zip(self.heads[1:], row[1:], strict=False)}
        return list(points.items())

    def transposed(self) -> Table:
        """With the heads as the first column."""
        lines = [*itertools.zip_longest(self.heads, *self.rows, fillvalue="")]
        return Table(self.title, lines[0], tuple(lines[1:])) if lines else self


def table(text: str) -> Table:
    """A table of lines with bars, in small letters; its first line may be the title."""
    lines = text.lower().splitlines()
    named = lines[0][len("title |") :].strip() if lines and lines[0].startswith("title |") else None
    rows = [tuple(cell.strip() for cell in line.split(" | ")) for line in lines[named is not None :]]
    return Table(named, rows[0], tuple(rows[1:])) if rows else Table(named)


def anls(first: str, second: str) -> float:
    distance = Levenshtein.normalized_distance(first, second)
    return 1 - distance if distance < TEXT_THETA else 0.0


def _likeness(first: str, second: str) -> float:
    return 1 - Levenshtein.normalized_distance(first.lower(), second.lower())


def values_of(read: Mapping[str, Any]) -> Any:
    """The values of a chart; an object without titles is values itself."""
    for key in ("values", "data"):
        if key in read:
            return read[key]
    return {key: value for key, value in read.items() if key not in TITLES}


def title_of(read: Mapping[str, Any], name: str) -> str | list[str]:
    """A title, or as OneChart has it a list of several."""
    value = read.get(name, NO_TITLE)
    if isinstance(value, list) and value:
        return [str(item) for item in value]
    return value if isinstance(value, str) else str(value)


def to_table(read: Mapping[str, Any]) -> Table:
    """The values as RMS takes them: a row a key and a column, or a column for each name of the series."""
    values = values_of(read)
    titles = title_of(read, "title")
    named = None if titles == NO_TITLE else str(titles).lower()
    series = {key: cell if isinstance(cell, dict) else {"value": cell} for key, cell in values.items()}
    heads = dict.fromkeys(str(name) for cells in series.values() for name in cells)
    rows = [
        (
            str(key).lower(),
            *(str({str(name): cell for name, cell in cells.items()}.get(head, "")).lower() for head in heads),
        )
        for key, cells in series.items()
    ]
    return Table(named, ("", *(head.lower() for head in heads)), tuple(rows))
