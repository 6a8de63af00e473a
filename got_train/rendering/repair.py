r"""What is missing at the end of braces, formulas and environments, added, and told.

Knows nesting, no meaning: `\frac{1` becomes `\frac{1}`, which a renderer may still refuse.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from got_train.formats.tables import outer_end

_TOKEN = re.compile(
    r"\\begin\s*\{(?P<begin>[A-Za-z]+\*?)\}|\\end\s*\{(?P<end>[A-Za-z]+\*?)\}|\\.|[{}]", re.DOTALL
)
_OPENING = re.compile(r"(?<!\\)\\(?P<kind>[(\[])|\\begin\{(?P<name>tabular|table|itemize|enumerate)\}")
LISTS = ("itemize", "enumerate")
_BLANK = re.compile(r"\s*\n\s*\n")
_AFTER_ITEMS = re.compile(r"\s*\n\s*\n\s*(?=\S)(?!\\begin)(?!(?:(?!\\begin|\\end).)*\\item)", re.DOTALL)
_FORMULA = re.compile(r"(?<!\\)(\\\()(.*?)(\\\))|(?<!\\)(\\\[)(.*?)(\\\])", re.DOTALL)
_CLOSING = {"(": "\\)", "[": "\\]"}
_SIDE = re.compile(r"\\(left|right)(?![A-Za-z])")


def depth(text: str) -> tuple[int, int]:
    """How deep environments and braces stand inside one another."""
    counts = {"environment": 0, "brace": 0}
    deepest = dict(counts)
    for match in _TOKEN.finditer(text):
        kind = "environment" if match["begin"] or match["end"] else "brace"
        step = (match["begin"] is not None or match[0] == "{") - (match["end"] is not None or match[0] == "}")
        counts[kind] = max(0, counts[kind] + step)
        deepest[kind] = max(deepest[kind], counts[kind])
    return deepest["environment"], deepest["brace"]


@dataclass(frozen=True)
class Mended:
    """A text that is whole now, and what was done to it, in words."""

    text: str
    notes: tuple[str, ...] = ()


def closed(source: str) -> Mended:
    """With what is still open at the end closed in the right order; what closes nothing is left."""
    open_ends: list[str] = []
    for match in _TOKEN.finditer(source):
        if match["begin"]:
            open_ends.append(f"\\end{{{match['begin']}}}")
        elif match["end"]:
            _close(open_ends, f"\\end{{{match['end']}}}")
        elif match[0] == "{":
            open_ends.append("}")
        elif match[0] == "}":
            _close(open_ends, "}")
    added = "".join(reversed(open_ends))
    return Mended(source + added, (f"added at the end: {added}",)) if added else Mended(source)


def formula(source: str) -> Mended:
    r"""A formula with its braces and environments closed, and as many \right as \left."""
    sides = [match[1] for match in _SIDE.finditer(source)]
    missing = sides.count("left") - sides.count("right")
    if missing > 0 and "\\begin" not in source:
        whole = closed(source)
        text = whole.text + " \\right." * missing
        return Mended(text, (*whole.notes, f"added at the end: {missing} \\right."))
    if missing < 0 and "\\begin" not in source:
        return Mended("\\left. " * -missing + source, (f"added at the start: {-missing} \\left.",))
    return closed(source)


def page(text: str, deepest: int = 20) -> Mended:
    """A page whose formulas, tables and lists are closed, where their paragraph ends or the text does.

    Of things that are open inside one another, the outer `deepest` are closed.
    """
    if not deepest:
        return Mended(text)
    parts, notes, position = [], [], 0
    while match := _OPENING.search(text, position):
        end = match.end() if match["name"] and _ended(text, match) else _formula_end(text, match)
        if end is None:
            end = _limit(text, match)
            inner = page(text[match.end() : end], deepest - 1)
            whole = match[0] + inner.text
            added = _CLOSING[match["kind"]] if match["kind"] else closed(whole).text[len(whole) :]
            notes += [*inner.notes, f"{match[0]} has no end: {added} was added"]
            parts.append(f"{text[position : match.start()]}{whole}{' ' if match['kind'] else chr(10)}{added}")
        else:
            parts.append(text[position:end])
        position = end
    text = _FORMULA.sub(lambda match: _inner(match, notes), "".join([*parts, text[position:]]))
    return Mended(text, tuple(notes))


def _inner(match: re.Match, notes: list[str]) -> str:
    opening, inner, closing = filter(None, match.groups("")) if match[2] or match[5] else (match[0], "", "")
    mended = formula(inner)
    notes += [f"formula {match[0]}: {note}" for note in mended.notes]
    return f"{opening}{mended.text}{' ' if mended.notes else ''}{closing}"


def _formula_end(text: str, match: re.Match) -> int | None:
    if match["name"]:
        return None
    end = text.find(_CLOSING[match["kind"]], match.end(), _limit(text, match))
    return end + 2 if end >= 0 else None


def _limit(text: str, match: re.Match) -> int:
    """Where formulas, tables and lists end that have no end: their paragraph (of lists the first without an
    item behind it), what they stand in, or the text.
    """
    ends = [match.end() + len(text[match.end() :].rstrip())]
    if match["name"] != "table":
        blank = (_AFTER_ITEMS if match["name"] in LISTS else _BLANK).search(text, match.end())
        ends += [blank.start()] if blank else []
        outer = outer_end(text, match.end())
        ends += [match.end() + len(text[match.end() : outer].rstrip())] if outer is not None else []
    return min(ends)


def _ended(text: str, match: re.Match) -> bool:
    depth = 1
    for mark in re.finditer(rf"\\(begin|end)\s*\{{{match['name']}\}}", text[match.end() :]):
        depth += 1 if mark[1] == "begin" else -1
        if not depth:
            return True
    return False


def _close(open_ends: list[str], end: str) -> None:
    if end in open_ends:
        while open_ends.pop() != end:
            pass
