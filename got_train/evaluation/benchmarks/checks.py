"""Yes/no checks on the Markdown of a page, by olmOCR-bench's rules: is a text there, in order, in a cell, ...

Plain functions on a check and an answer; formulas are the affair of math_inclusion. As there, Chinese and
Japanese fail `baseline` unless check_disallowed_characters is false. A result that cannot be known is None.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lxml.html import HtmlElement, HTMLParser, fromstring
from rapidfuzz import fuzz
from rapidfuzz.distance import Levenshtein

from got_train.errors import EvaluationError, RequirementError
from got_train.strict_files import strict_json

from . import math_inclusion

Result = tuple[bool | None, str]  # None: a formula without KaTeX
Cell = tuple[int, int]  # row and column of its upper left corner
TYPES = ("present", "absent", "order", "table", "math", "format", "footnote", "baseline")
_NEEDED = {
    **{"present": ("text",), "absent": ("text",), "order": ("before", "after"), "table": ("cell",)},
    **{"math": ("math",), "format": ("text", "format"), "footnote": ("marker",), "baseline": ()},
}
_SAME = {
    **dict.fromkeys("\u2018\u2019\u201a", "'"),
    **dict.fromkeys("\u201c\u201d\u201e", '"'),
    **dict.fromkeys("\u2013\u2014\u2011\u2012\u2212", "-"),
    "\uff3f": "_",
    "\u00b5": "\u03bc",
}
_FOREIGN = re.compile(
    "[\u4e00-\u9fff\u3040-\u30ff\U0001f600-\U0001f64f\U0001f300-\U0001f5ff\U0001f680-\U0001f6ff\U0001f1e0-\U0001f1ff]"
)
_FORMATS = {
    "heading": [(r"^#{1,6}\s+(.+?)$", re.MULTILINE), (r"<h[1-6][^>]*>(.*?)</h[1-6]>", re.I | re.S)],
    "bold": [
        (r"\*\*(.*?)\*\*", re.S),
        (r"__(.*?)__", re.S),
        (r"<b[^>]*>(.*?)</b>", re.I | re.S),
        (r"<strong[^>]*>(.*?)</strong>", re.I | re.S),
    ],
    "italic": [
        (r"(?<!\*)\*(?!\*)(.*?)(?<!\*)\*(?!\*)", re.S),
        (r"(?<!_)_(?!_)(.*?)(?<!_)_(?!_)", re.S),
        (r"<i[^>]*>(.*?)</i>", re.I | re.S),
        (r"<em[^>]*>(.*?)</em>", re.I | re.S),
    ],
}
_FORMULAS = [r"\\\((.+?)\\\)", r"\\\[(.+?)\\\]", r"\$\$(.+?)\$\$", r"\$(.+?)\$"]
_SUPERSCRIPTS = str.maketrans("0123456789", "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079")
_AROUND = 200  # characters before and after a footnote's marker that are looked at


def read_checks(path: str) -> list[dict[str, Any]]:
    """The checks of a JSONL file, each with pdf, page, id, type and what its type needs."""
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluationError(f"{path}: {error}; expected a file of checks, one a line") from error
    rows = [_row(line, f"{path}:{number}") for number, line in enumerate(lines, start=1) if line.strip()]
    names = [row["id"] for row in rows]
    if not rows or len({*names}) < len(names):
        twice = f"id {max(names, key=names.count)} twice" if rows else "no checks"
        raise EvaluationError(f"{path}: {twice}; expected checks with an id of its own for each")
    return rows


def run(check: dict[str, Any], answer: str) -> Result:
    """Whether an answer passes a check, and if not the reason."""
    return _CHECKS[check["type"]](check, answer)


def normalised(text: str) -> str:
    """Without emphasis, white space folded, quotes and dashes of one kind, characters composed."""
    text = re.sub(r"<br/?>", " ", text)
    for emphasis in (r"\*\*(.*?)\*\*", r"__(.*?)__"):
        text = re.sub(emphasis, r"\1", text)
    text = re.sub(r"</?[bi]>", "", text)
    for emphasis in (r"(\*\*|__)(.*?)\1", r"(\*|_)(.*?)\1"):
        text = re.sub(emphasis, r"\2", text)
    text = unicodedata.normalize("NFC", re.sub(r"\s+", " ", text))
    return text.translate(str.maketrans(_SAME))


def near_matches(text: str, pattern: str, edits: int) -> list[int]:
    """Where the pattern is in the text with at most so many edits: the best start at each place."""
    if not edits:
        return [match.start() for match in re.finditer(f"(?={re.escape(pattern)})", text)]
    matches = []  # (start, end, edits)
    for start in range(len(text)):
        ends = range(start + max(1, len(pattern) - edits), min(len(text), start + len(pattern) + edits) + 1)
        for end in ends:
            distance = Levenshtein.distance(pattern, text[start:end], score_cutoff=edits)
            if distance <= edits:
                matches.append((start, end, distance))
    return [
        min(group, key=lambda match: (match[2], -(match[1] - match[0])))[0] for group in _overlapping(matches)
    ]


def _overlapping(matches: Sequence[tuple[int, int, int]]) -> list[list[tuple[int, int, int]]]:
    groups: list[list[tuple[int, int, int]]] = []
    reached = -1
    for match in matches:
        if not groups or match[0] >= reached:
            groups.append([])
        groups[-1].append(match)
        reached = max(reached, match[1])
    return groups


def _row(line: str, location: str) -> dict[str, Any]:
    try:
        row = strict_json(line, allow_nan=True)
    except ValueError as error:
        raise EvaluationError(f"{location}: not JSON: {error}; one check a line") from error
    if not isinstance(row, dict) or row.get("type") not in TYPES:
        named = row.get("type") if isinstance(row, dict) else line[:40]
        raise EvaluationError(f"{location}: type is {named!r}; expected one of {', '.join(TYPES)}")
    for key in ("pdf", "id", *_NEEDED[row["type"]]):
        if not isinstance(row.get(key), str) or not row[key].strip():
            raise EvaluationError(f"{location}: {key} is {row.get(key)!r}; expected a text")
    row = {"page": 1, "max_diffs": 0, **{key: value for key, value in row.items() if value is not None}}
    if type(row["max_diffs"]) is not int or row["max_diffs"] < 0:
        raise EvaluationError(
            f"{location}: max_diffs is {row['max_diffs']!r}; expected a whole number, 0 or more"
        )
    if row["type"] == "order" and row["max_diffs"] > min(len(row["before"]), len(row["after"])) // 2:
        raise EvaluationError(
            f"{location}: max_diffs {row['max_diffs']}; expected at most half of before and after"
        )
    if row["type"] == "format" and row["format"] not in _FORMATS:
        raise EvaluationError(
            f"{location}: format is {row['format']!r}; expected one of {', '.join(_FORMATS)}"
        )
    return row


def _least(check: dict[str, Any], expected: str) -> float:
    """The similarity that a text of this length needs."""
    return 1.0 - check.get("max_diffs", 0) / (len(expected) or 1)


def _presence(check: dict[str, Any], answer: str) -> Result:
    expected, text = normalised(check["text"]), normalised(answer)
    if not check.get("case_sensitive", True):
        expected, text = expected.lower(), text.lower()
    text = _ends(text, check.get("first_n"), check.get("last_n"))
    absent = check["type"] == "absent"
    # as published, the shorter of both is looked for in the longer: a nearly empty answer holds everything
    best = fuzz.partial_ratio(expected, text) / 100
    there = best >= _least(check, expected)
    if there != absent:
        return True, ""
    return False, f"{expected[:40]!r} is {'there' if absent else 'not there'}, best match {best:.3f}"


def _ends(text: str, first: int | None, last: int | None) -> str:
    if first and last:
        return text[:first] + text[-last:]
    return text[:first] if first else text[-last:] if last else text


def _order(check: dict[str, Any], answer: str) -> Result:
    text, edits = normalised(answer), check.get("max_diffs", 0)
    starts = {}
    for key in ("before", "after"):
        starts[key] = near_matches(text, normalised(check[key]), edits)
        if not starts[key]:
            return False, f"{check[key][:40]!r} is not there with {edits} edits"
    if min(starts["before"]) < max(starts["after"]):
        return True, ""
    return False, f"{check['before'][:40]!r} is nowhere before {check['after'][:40]!r}"


def _format(check: dict[str, Any], answer: str) -> Result:
    texts = [
        normalised(match)
        for pattern, flags in _FORMATS[check["format"]]
        for match in re.findall(pattern, answer, flags)
    ]
    expected = normalised(check["text"])
    if not check.get("case_sensitive", True):
        expected, texts = expected.lower(), [text.lower() for text in texts]
    if any(fuzz.partial_ratio(expected, text) / 100 >= _least(check, expected) for text in texts):
        return True, ""
    return False, f"{expected[:40]!r} is in no {check['format']}, of which there are {len(texts)}"


def _footnote(check: dict[str, Any], answer: str) -> Result:
    marker = check["marker"]
    patterns = [rf"\[\^{re.escape(marker)}\](?!:)", rf"(?i:<sup[^>]*>{re.escape(marker)}</sup>)"]
    if marker.isascii() and marker.isdigit():
        patterns.append(re.escape(marker.translate(_SUPERSCRIPTS)))
    spans = [match.span() for pattern in patterns for match in re.finditer(pattern, answer)]
    if not spans:
        return False, f"footnote marker {marker!r} is not there"
    before = [answer[max(0, start - _AROUND) : start] for start, _ in spans]
    after = [answer[end : end + _AROUND] for _, end in spans]
    sides = {"before": (before, slice(-1, None)), "after": (after, slice(0, 1))}
    for side, (texts, _) in sides.items():
        expected = check.get(f"appears_{side}_marker")
        if expected and not any(_beside(check, expected, text, side) for text in texts):
            return False, f"{expected[:40]!r} is not {side} the marker {marker!r}"
    return True, ""


def _beside(check: dict[str, Any], expected: str, text: str, side: str) -> bool:
    """Whether letters and digits next to a marker are those wanted."""
    target, letters = _letters(expected), _letters(text)
    kept = min(len(letters), 2 * len(target)) or len(letters)
    if not letters:
        return False
    near = letters[-kept:] if side == "before" else letters[:kept]
    return fuzz.partial_ratio(target, near) / 100 >= _least(check, normalised(expected))


def _letters(text: str) -> str:
    return "".join(character for character in normalised(text) if character.isalnum()).lower()


def _baseline(check: dict[str, Any], answer: str) -> Result:
    if check.get("max_length") is not None:
        counted = (
            re.sub(r"!\[.*?\]\(.*?\)", "", answer) if check.get("max_length_skips_image_alt_tags") else answer
        )
        length = sum(map(str.isalnum, counted))
        blank = length <= check["max_length"]
        return blank, "" if blank else f"{length} letters and digits on a page that should be blank"
    if not any(map(str.isalnum, answer)):
        return False, "no letter and no digit"
    for size, repeats in enumerate(repeats_at_end(answer, 5), start=1):
        if repeats > check.get("max_repeats", 30):
            return False, f"ends with {repeats} times the same {size} characters"
    if check.get("check_disallowed_characters", True) and (strange := _FOREIGN.findall(answer)):
        return False, f"characters that are no part of it: {''.join(strange[:10])}"
    return True, ""


def repeats_at_end(text: str, longest: int) -> list[int]:
    """How often the last 1, 2, ... characters stand at the end of a text, white space folded."""
    text = re.sub(r"\s+", " ", text)
    counts = []
    for size in range(1, longest + 1):
        last, count = text[-size:], 0
        while len(text) >= size * (count + 1) and text[len(text) - size * (count + 1) :][:size] == last:
            count += 1
        counts.append(count)
    return counts


def _math(check: dict[str, Any], answer: str) -> Result:
    formulas, rest = [], answer
    for pattern in _FORMULAS[: 2 if check.get("ignore_dollar_delimited") else None]:
        formulas += [formula.strip() for formula in re.findall(pattern, rest, re.DOTALL)]
        rest = re.sub(pattern, "", rest, flags=re.DOTALL)
    expected = check["math"]
    formulas.sort(key=lambda formula: -fuzz.ratio(formula, expected))
    if not formulas:
        return False, "no formula"
    try:
        if math_inclusion.contains(expected, formulas):
            return True, ""
    except RequirementError as error:
        return None, str(error)
    return False, f"{expected!r} is in none of the {len(formulas)} formulas"


@dataclass
class _Grid:
    """Cells of a table with their neighbours; a cell that spans others has several on a side."""

    texts: dict[Cell, str] = field(default_factory=dict)
    headings: set[Cell] = field(default_factory=set)
    places: dict[tuple[int, int], Cell] = field(default_factory=dict)  # every covered place -> its cell

    def add(self, row: int, column: int, text: str, heading: bool, rows: int, columns: int) -> int:
        """Puts a cell into the first free place of a row from `column` on; returns where it ends."""
        while (row, column) in self.places:
            column += 1
        cell = row, column
        self.texts[cell] = text
        if heading:
            self.headings.add(cell)
        self.places |= {
            (row + down, column + across): cell for down in range(rows) for across in range(columns)
        }
        return column + columns

    def beside(self, cell: Cell, down: int, across: int) -> set[Cell]:
        """The nearest cells in a direction, one for each row or column that this cell covers."""
        height = 1 + max(row for row, _ in self.places)
        width = 1 + max(column for _, column in self.places)
        neighbours = set()
        for row, column in [index for index, owner in self.places.items() if owner == cell]:
            while 0 <= (row := row + down) < height and 0 <= (column := column + across) < width:
                neighbour = self.places.get((row, column))
                if neighbour is not None and neighbour != cell:
                    neighbours.add(neighbour)
                    break
        return neighbours

    def heading(self, cell: Cell, down: int, across: int) -> set[Cell]:
        """The headings that one meets going that way; where there are none, the last cells."""
        headings, ends, seen, left = set(), set(), set(), {cell}
        while left:
            now = left.pop()
            seen.add(now)
            if now in self.headings:
                headings.add(now)
            further = self.beside(now, down, across)
            if not further:
                ends.add(now)
            left |= further - seen
        return headings - {cell} or ends - {cell}


_SIDES: dict[str, Callable[[_Grid, Cell], set[Cell]]] = {
    "up": lambda grid, cell: grid.beside(cell, -1, 0),
    "down": lambda grid, cell: grid.beside(cell, 1, 0),
    "left": lambda grid, cell: grid.beside(cell, 0, -1),
    "right": lambda grid, cell: grid.beside(cell, 0, 1),
    "left_heading": lambda grid, cell: grid.heading(cell, 0, -1),
    "top_heading": lambda grid, cell: grid.heading(cell, -1, 0),
}


def _table(check: dict[str, Any], answer: str) -> Result:
    grids = [*([] if check.get("ignore_markdown_tables") else _markdown_grids(answer)), *_html_grids(answer)]
    if not grids:
        return False, "no table in Markdown or HTML"
    expected = normalised(check["cell"])
    reasons = []
    for grid in grids:
        for cell, text in grid.texts.items():
            if fuzz.ratio(expected, normalised(text)) / 100 < max(0.5, _least(check, expected)):
                continue
            wrong = [side for side in _SIDES if check.get(side) and not _is_beside(check, grid, cell, side)]
            if not wrong:
                return True, ""
            reasons += [f"{side} of {expected!r} is not {check[side]!r}" for side in wrong]
    return False, "; ".join(reasons) or f"no cell {expected!r}"


def _is_beside(check: dict[str, Any], grid: _Grid, cell: Cell, side: str) -> bool:
    expected = normalised(check[side])
    least = max(0.5, _least(check, expected))
    near = (normalised(grid.texts[neighbour]) for neighbour in _SIDES[side](grid, cell))
    return any(fuzz.ratio(expected, text) / 100 >= least for text in near)


def _markdown_grids(text: str) -> list[_Grid]:
    """Runs of two and more lines with bars; the first row and column are headings."""
    runs: list[list[str]] = [[]]
    for line in text.strip().split("\n"):
        if "|" in line:
            runs[-1].append(line)
        elif runs[-1]:
            runs.append([])
    grids = [_markdown_grid(run) for run in runs if len(run) >= 2]
    return [grid for grid in grids if grid.texts]


def _markdown_grid(lines: Iterable[str]) -> _Grid:
    grid, row = _Grid(), 0
    for line in lines:
        cells = [cell.strip() for cell in line.split("|")]
        cells = cells[1:] if not cells[0] else cells
        cells = cells[:-1] if cells and not cells[-1] else cells
        if set(line) <= set("- :|") or not cells:
            continue
        for column, cell in enumerate(cells):
            grid.add(row, column, cell, row == 0 or column == 0, 1, 1)
        row += 1
    return grid


def _html_grids(text: str) -> list[_Grid]:
    if "<table" not in text.lower():
        return []
    root = fromstring(f"<html><body>{text}</body></html>", parser=HTMLParser(remove_comments=True))
    grids = [_html_grid(table) for table in root.iter("table")]
    return [grid for grid in grids if grid.texts]


def _html_grid(table: HtmlElement) -> _Grid:
    grid = _Grid()
    rows = list(table.iter("tr"))
    for number, row in enumerate(rows):
        column = 0
        in_head = any(parent.tag == "thead" for parent in row.iterancestors())
        for cell in row:
            if cell.tag not in ("td", "th"):
                continue
            down = _span(cell, "rowspan", len(rows) - number)
            for line_break in cell.iter("br"):
                line_break.text = "\n"
            text = cell.text_content().strip()
            heading = cell.tag == "th" or in_head
            column = grid.add(number, column, text, heading, down, _span(cell, "colspan", 1))
    return grid


def _span(cell: HtmlElement, name: str, rest: int) -> int:
    """Rows or columns that a cell covers; 0 rows: all that are left."""
    span = cell.get(name, "1").strip()
    if span == "0":
        return max(1, rest)
    return max(1, int(span)) if span.isdigit() else 1


_CHECKS: dict[str, Callable[[dict[str, Any], str], Result]] = {
    "present": _presence,
    "absent": _presence,
    "order": _order,
    "table": _table,
    "math": _math,
    "format": _format,
    "footnote": _footnote,
    "baseline": _baseline,
}
