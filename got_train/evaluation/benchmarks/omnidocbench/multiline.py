r"""Formulas of several lines, cut into their lines as OmniDocBench does on both sides before it pairs them.

Version 1.5 cuts arrays of one column. Version 1.6 cuts every environment that only aligns (aligned, gather,
...), and `\\` without one, but keeps together what a brace or a case distinction holds together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from . import normalize
from .markdown import FORMULA, Block
from .rules import Rule
from .truth import Element

_ARRAY = re.compile(r"\\begin\{array\}\{(?P<columns>[^}]*)\}(?P<body>.*?)\\end\{array\}", re.DOTALL)
_NAMES = (
    *("array", "aligned", "align", "align*", "alignedat", "alignedat*", "split", "gather", "gather*"),
    *("gathered", "multline", "multline*", "flalign", "flalign*", "eqnarray", "eqnarray*", "cases"),
)
_BEGIN = re.compile(
    r"\\begin\{(?P<name>" + "|".join(map(re.escape, _NAMES)) + r")\}\s*(?P<extra>(?:\{[^{}]*\}\s*)*)"
)
_ALIGNED = ("aligned", "align", "align*", "alignedat", "alignedat*")
_SPACE_AT_END = re.compile(r"(?:\\qquad|\\quad|\\,|\\;|\\!|\\>|\\:|~)\s*$")
_SPACE = re.compile(r"(?:\\qquad|\\quad|\\,|\\;|\\!|\\>|\\:|~)+")
_LOGIC = re.compile(
    r"\\(?:Rightarrow|Leftrightarrow|Longrightarrow|Longleftrightarrow|longrightarrow|longleftrightarrow|"
    "implies|therefore|because|uparrow|downarrow|Updownarrow|forall|exists)\\b|\u5355\u8c03|\u5426\u5b9a"
)
_NESTED = re.compile(
    r"\\begin\{(?:array|aligned|align\*?|alignedat\*?|split|gathered?|multline\*?|flalign\*?|eqnarray\*?|cases)\}"
)
_CASE_LEAD = re.compile(
    r"(?:\(?\d+\)?|\\(?:Rightarrow|Leftrightarrow|Longrightarrow|Longleftrightarrow|implies|therefore|uparrow"
    r"|downarrow|Updownarrow|leftarrow|rightarrow))"
)
_WORDS = re.compile(r"\\(?:text|mathrm|operatorname)\s*\{")


@dataclass(frozen=True)
class Lines:
    """The lines of a formula; `starts` are where their bodies begin in it, `end` where the last one ends."""

    raw: tuple[str, ...]  # as they are written
    contents: tuple[str, ...]  # without tags, the last one with what follows the environment
    body: str
    body_start: int
    end: int = 0  # of what follows the environment; 0 if nothing does


def split_elements(elements: list[Element], rule: Rule) -> list[Element]:
    """Elements of the truth, with formulas of several lines as one element a line."""
    output: list[Element] = []
    for element in elements:
        lines = _lines(element.content, rule) if element.category == FORMULA else None
        if lines is None:
            output.append(element)
            continue
        step = 1000 if rule.search_formulas else 10
        for number, line in enumerate(lines.contents, start=1):
            order = float(element.order or 0) + number / step
            order = order if rule.search_formulas else round(order, 1)
            output.append(replace(element, content=f"\\[{line}\\]", order=order))
    return output


def split_blocks(blocks: list[Block], rule: Rule) -> list[Block]:
    """Blocks of an answer, with formulas of several lines as one block a line."""
    output: list[Block] = []
    for block in blocks:
        lines = _lines(block.content, rule) if block.kind == FORMULA else None
        output += [block] if lines is None else _placed(block, lines, rule)
    return output


def _placed(block: Block, lines: Lines, rule: Rule) -> Iterator[Block]:
    searched = 0
    for number, (raw, content) in enumerate(zip(lines.raw, lines.contents, strict=True), start=1):
        raw = normalize.strip_tags(raw).strip() if rule.search_formulas else raw
        index = lines.body.find(raw, searched)
        index = searched if index < 0 else index
        searched = index + len(raw)
        start = block.start + lines.body_start + index
        end = start + len(raw) - 1
        if number == len(lines.raw) and lines.end > 0:
            end = block.start + lines.end - 1
        yield replace(block, content=f"\\[{content.strip()}\\]", start=start, end=end)


def _lines(formula: str, rule: Rule) -> Lines | None:
    if not rule.search_formulas:
        return _array_lines(formula)
    lines = _environment_lines(formula) or _bare_lines(formula)
    if lines is None:
        return None
    pairs = [(raw, normalize.strip_tags(raw).strip()) for raw in lines.raw]
    pairs = [(raw, content) for raw, content in pairs if content]
    if len(pairs) <= 1:
        return None
    suffix = normalize.strip_tags("".join(lines.contents)).strip()
    raw, contents = zip(*pairs, strict=True)
    if suffix:
        contents = (*contents[:-1], f"{contents[-1]} {suffix}".strip())
    return replace(lines, raw=raw, contents=contents)


def _array_lines(formula: str) -> Lines | None:
    """1.5: the rows of the first array, if it has one column."""
    match = _ARRAY.search(formula) if "\\begin{array" in formula else None
    if match is None or len(_columns(match["columns"])) != 1 or _columns(match["columns"]) not in "lcr":
        return None
    rows = tuple(row.strip() for row in re.split(r"\\\\", match["body"]) if row.strip())
    return Lines(rows, rows, match["body"], match.start("body"))


def _columns(specification: str) -> str:
    plain = re.sub(r"\s+|\|", "", specification)
    return re.sub(r"!{[^}]*}", "", re.sub(r"@{[^}]*}", "", plain))


def rows_of(body: str) -> list[str]:
    r"""Cut at `\\` outside braces and environments."""
    rows: list[str] = []
    current, braces, environments, index = "", 0, 0, 0
    while index < len(body):
        opened = body.startswith("\\begin{", index)
        if opened or body.startswith("\\end{", index):
            end = body.find("}", index)
            if end >= 0:
                environments = max(0, environments + (1 if opened else -1))
                current += body[index : end + 1]
                index = end + 1
                continue
        if body.startswith("\\\\", index) and not braces and not environments:
            if current.strip():
                rows.append(current.strip())
            current, index = "", _after_row(body, index + 2)
            continue
        character = body[index]
        current += character
        if character in "{}" and not _is_escaped(body, index):
            braces = max(0, braces + (1 if character == "{" else -1))
        index += 1
    return [*rows, current.strip()] if current.strip() else rows


def _after_row(body: str, index: int) -> int:
    while index < len(body) and body[index].isspace():
        index += 1
    index += body.startswith("*", index)
    closed = body.find("]", index + 1) if body.startswith("[", index) else -1
    return closed + 1 if closed >= 0 else index


def _is_escaped(text: str, index: int) -> bool:
    return (index - len(text[:index].rstrip("\\"))) % 2 == 1


def _bare_lines(formula: str) -> Lines | None:
    stripped = normalize.strip_delimiters(formula)
    rows = rows_of(stripped) if "\\\\" in stripped else []
    return Lines(tuple(rows), (), stripped, max(0, formula.find(stripped))) if len(rows) > 1 else None


def _environment_lines(formula: str) -> Lines | None:
    """The rows of a formula that is one environment, if these may be taken apart."""
    stripped = normalize.strip_delimiters(formula).strip()
    prefix = re.match(r"(?:\\left\s*\\\{|\\left\.)\s*", stripped)
    core = stripped[prefix.end() :].lstrip() if prefix else stripped
    suffix = re.search(r"\s*\\right(?:\.|\\\})\s*$", core)
    core = core[: suffix.start()].rstrip() if suffix else core
    begin = _BEGIN.match(core)
    end = _environment_end(core, begin["name"], begin.end()) if begin else -1
    if begin is None or end < begin.end():
        return None
    name, body = begin["name"], core[begin.end() : end]
    rows = rows_of(body)
    if not _MAY_SPLIT.get(name, _always)(body, rows, bool(prefix or suffix), begin["extra"]):
        return None
    end_tag = f"\\end{{{name}}}"
    following = _without_labels(core[end + len(end_tag) :]).strip()
    if following and len(rows_of(following)) > 1:
        return None
    start = max(0, formula.find(body))
    tag = formula.find(end_tag, start + len(body)) if following else -1
    position = formula.find(following, tag + len(end_tag)) if tag >= 0 else -1
    stop = position + len(following) if position >= 0 else 0
    return Lines(tuple(rows), (following,), body, start, stop)


def _environment_end(text: str, name: str, index: int) -> int:
    begin, end, depth = f"\\begin{{{name}}}", f"\\end{{{name}}}", 1
    while index < len(text):
        opened, closed = text.find(begin, index), text.find(end, index)
        if closed < 0:
            return -1
        if 0 <= opened < closed:
            depth, index = depth + 1, opened + len(begin)
            continue
        depth -= 1
        if depth == 0:
            return closed
        index = closed + len(end)
    return -1


def _without_labels(following: str) -> str:
    r"""What follows an environment without \label, \tag and a number in brackets."""
    working = re.sub(r"\\label\s*\{[^{}]*\}", "", following)
    while stripped := working.rstrip():
        tag = re.search(r"\\tag\*?\s*\{[^{}]*\}", stripped)
        if tag and tag.end() == len(stripped):
            working = _without_space(stripped[: tag.start()].rstrip())
            continue
        start = stripped.rfind({")": "(", "]": "["}.get(stripped[-1], "\0"))
        if start < 0 or not _is_label(stripped[start + 1 : -1].strip(), stripped[:start]):
            return stripped
        working = _without_space(stripped[:start])
    return ""


def _without_space(text: str) -> str:
    text = text.rstrip()
    while (shorter := _SPACE_AT_END.sub("", text).rstrip()) != text:
        text = shorter
    return text


def _is_label(label: str, before: str) -> bool:
    if not label or (before and not (before[-1].isspace() or _SPACE.search(before[-10:]))):
        return False
    if re.fullmatch(r"[a-z]{1,3}", label):
        return False
    return bool(re.fullmatch(r"[A-Za-z0-9.\-#]+", label) or re.fullmatch(r"(?:\\[A-Za-z#]+)+", label))


def _cells(row: str) -> list[str]:
    """Cut at `&` outside environments."""
    cells, current, depth, index = [], "", 0, 0
    while index < len(row):
        opened = row.startswith("\\begin{", index)
        if opened or row.startswith("\\end{", index):
            end = row.find("}", index)
            if end >= 0:
                depth = max(0, depth + (1 if opened else -1))
                current += row[index : end + 1]
                index = end + 1
                continue
        if row[index] == "&" and not depth and not _is_escaped(row, index):
            cells.append(current.strip())
            current = ""
        else:
            current += row[index]
        index += 1
    return [*cells, current.strip()]


def _lead(row: str) -> str:
    row = row.lstrip()
    while row.startswith("&"):
        row = row[1:].lstrip()
    return row


def _is_case(row: str) -> bool:
    return bool(_CASE_LEAD.match(normalize.strip_tags(_lead(row)).strip()))


def _has_words(row: str) -> bool:
    return bool(_WORDS.search(_lead(row)))


def _has_logic(row: str) -> bool:
    return bool(_LOGIC.search(_lead(row)))


def _always(body: str, rows: list[str], braced: bool, extra: str) -> bool:
    return True


def _cases_may_split(body: str, rows: list[str], braced: bool, extra: str) -> bool:
    if len(rows) <= 1 or any(len(_cells(row)) > 1 for row in rows) or not _LOGIC.search(body):
        return False
    if _NESTED.search(body) or any(_has_logic(row) or _has_words(row) for row in rows[1:]):
        return True
    return _has_logic(rows[0])


def _aligned_may_split(body: str, rows: list[str], braced: bool, extra: str) -> bool:
    nested, case = bool(_NESTED.search(body)), any(map(_is_case, rows[1:]))
    if nested and case:
        return False
    if not braced:
        return True
    independent = 0
    for row in rows:
        cells = _cells(row)
        independent += len(cells) > 1 and bool(normalize.strip_tags(cells[0]).strip())
    return not (nested or independent >= 2 or case or any(map(_has_words, rows[1:])))


def _array_may_split(body: str, rows: list[str], braced: bool, extra: str) -> bool:
    groups = re.findall(r"\{([^{}]*)\}", extra)
    columns = _columns(groups[0]) if groups else ""
    plain = bool(columns) and set(columns) <= set("lcr")
    if not plain or not (len(columns) == 1 or (len(columns) == 2 and ("l" in columns or "r" in columns))):
        return False
    if _NESTED.search(body) and any(map(_is_case, rows[1:])):
        return False
    return not (braced and set(columns) <= {"l"} and len(rows) > 1)


_MAY_SPLIT: dict[str, Callable[[str, list[str], bool, str], bool]] = {
    "cases": _cases_may_split,
    "array": _array_may_split,
    **dict.fromkeys(_ALIGNED, _aligned_may_split),
}


def braces_for_cases(formula: str) -> str:
    r"""A formula whose `cases` without columns, but with logic, are written as a brace and an array."""
    output, index = "", 0
    while (begin := formula.find("\\begin{", index)) >= 0:
        output += formula[index:begin]
        match = _BEGIN.match(formula, begin)
        if match is None:
            output, index = output + "\\begin{", begin + len("\\begin{")
            continue
        name = match["name"]
        end = _environment_end(formula, name, match.end())
        if end < match.end():
            return output + formula[begin:]
        body = braces_for_cases(formula[match.end() : end])
        end_tag = f"\\end{{{name}}}"
        index = end + len(end_tag)
        if name == "cases" and _cases_are_braced(body, rows_of(body), formula[index : index + 200]):
            output += f"\\left\\{{ \\begin{{array}}{{l}} {body.strip()} \\end{{array}} \\right."
        else:
            output += formula[begin : match.end()] + body + end_tag
    return output + formula[index:]


def _cases_are_braced(body: str, rows: list[str], following: str) -> bool:
    if len(rows) <= 1 or any(len(_cells(row)) > 1 for row in rows):
        return False
    following = following.lstrip()
    return bool(_LOGIC.search(body) or _LOGIC.search(following) or _BEGIN.match(following))
