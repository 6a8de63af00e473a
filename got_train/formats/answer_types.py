"""What kind of thing an answer is: decides which metrics a reference is worth and how a reading is drawn.

Knows how answers are written; neither metrics nor drawing.
"""

from __future__ import annotations

import ast
import json
import re
from typing import Literal, get_args

from . import PLAIN_TASKS, spots
from .tables import find_tables
from .tikz import TIKZPICTURE

AnswerType = Literal[
    "text", "page", "table", "formula", "molecule", "music", "geometry", "chart", "spot", "blank"
]
PartType = Literal["score", "spots", "plain", "drawing", "chart", "table", "markdown"]
ANSWER_TYPES: tuple[str, ...] = get_args(AnswerType)
TASK_TYPES = {"smiles": "molecule", "kern": "music", "tikz": "geometry", "plain": "text", "format": None}
_FORMULAS = re.compile(
    r"(?:\s|\\\[.*?\\\]|\\\(.*?\\\)|\$\$.*?\$\$|\$[^$]+\$"
    r"|\\begin\{(?P<name>equation|align|aligned|gather|multline|eqnarray|math|displaymath)(?P<star>\*?)\}"
    r".*?\\end\{(?P=name)(?P=star)\})+",
    re.DOTALL,
)
_MARKUP = re.compile(
    r"\\\[|\\\(|\$[^$\n]*[\\^_][^$\n]*\$|\$\$|\\begin\{|\\(?:sub)*section\*?\{|\\title\{|\\item\b|<table|<smiles>"
    r"|^#{1,6} |^\s*(?:[-*+]|\d+\.) |\*\*\S|^```",
    re.MULTILINE,
)
_FRAME = re.compile(
    r"\\(?:begin|end)\{(?:table\*?|center)\}(?:\[[^\]]*\])?|\\(?:centering|small)\b|\\(?:caption|label)\{.*?\}"
)


def answer_type(reference: str, task: str | None = None) -> AnswerType:
    """A task that is named after a type decides; else the words do, blank or one thing before a mixture."""
    text = reference.strip()
    if not text:
        return "blank"
    named = TASK_TYPES.get(task or "", task)
    if named in ANSWER_TYPES:
        return named
    if is_music(text):
        return "music"
    if task in PLAIN_TASKS:
        return "text"
    for name, test in _WHOLES.items():
        if test(text):
            return name
    return "page" if _MARKUP.search(text) or find_tables(text) else "text"


def answer_parts(text: str, task: str) -> list[tuple[PartType, str]]:
    """What an answer is made of, in the original's order: a score, text with boxes, plain text, a chart, or
    formatted text, which alone is cut into drawings, HTML tables and Mathpix markdown.
    """
    if "**kern" in text:
        before, _, score = text.partition("**kern")
        line = before.rfind("\n") + 1
        head = [("plain", before[:line])] if before[:line].strip() else []
        return [*head, ("score", before[line:] + "**kern" + score)]
    if task == "spot":
        return [("spots", text)]
    if task in PLAIN_TASKS:
        return [("plain", text)]
    if "\\begin{tikzpicture}" not in text and re.match(r"\s*\{\s*['\"]", text):
        return [("chart", text)]
    spans = [(match.start(), match.end(), "drawing") for match in TIKZPICTURE.finditer(text)]
    spans += [(table.start, table.end, "table") for table in find_tables(text) if table.form == "html"]
    parts, end = [], 0
    for start, after, name in sorted(spans):
        if start >= end:
            parts += [("markdown", text[end:start]), (name, text[start:after])]
            end = after
    return [part for part in [*parts, ("markdown", text[end:])] if part[1].strip()]


def is_music(text: str) -> bool:
    return text.lstrip().startswith("**kern") or "\n**kern" in text


def is_geometry(text: str) -> bool:
    return re.search(r"\\begin\{tikzpicture\}|\\tikz\b", text) is not None


def is_molecule(text: str) -> bool:
    return re.fullmatch(r"(?:\s*<smiles>[^<]*</smiles>)+\s*", text) is not None


def is_chart(text: str) -> bool:
    """A JSON object, or a Python one as OneChart and GOT write them."""
    if not (text.startswith("{") and text.endswith("}")):
        return False
    for parse in (json.loads, ast.literal_eval):
        try:
            return isinstance(parse(text), dict)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return False


def is_spot(text: str) -> bool:
    """Lines of text with their boxes and nothing else, in the grammar of the task `spot`."""
    return not spots.parse(text)[1]


def is_formula(text: str) -> bool:
    return _FORMULAS.fullmatch(text) is not None


def is_table(text: str) -> bool:
    """One or more tables and nothing else but the frame of a LaTeX float."""
    rest, end = "", 0
    tables = find_tables(text)
    for table in tables:
        rest += text[end : table.start]
        end = table.end
    rest += text[end:]
    return bool(tables) and not _FRAME.sub("", rest).strip()


_WHOLES = {
    "spot": is_spot,
    "geometry": is_geometry,
    "molecule": is_molecule,
    "chart": is_chart,
    "table": is_table,
    "formula": is_formula,
}
