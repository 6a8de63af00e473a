"""What a reference is made of, and so which metrics its prediction is worth.

Knows how references are written and which module scores which; computes no metric itself.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Sequence
from importlib import import_module
from types import ModuleType
from typing import Literal, get_args

from got_train.evaluation.workers import in_processes
from got_train.formats import spots
from got_train.formats.tables import find_tables

from .values import Values

Kind = Literal["text", "page", "table", "formula", "molecule", "music", "geometry", "chart", "spot", "blank"]
KINDS: tuple[str, ...] = get_args(Kind)
MODULES = {  # of this package, each with `score` of a pair and `averages` of many
    "table": "tables",
    "formula": "formulas",
    "molecule": "molecules",
    "music": "music",
    "geometry": "geometry",
    "chart": "charts",
    "spot": "spotting",
}
PLAIN = ("ocr", "multi_crop_ocr", "scene")  # tasks whose answers have no markup
NAMES = {"smiles": "molecule", "kern": "music", "tikz": "geometry", "plain": "text", "format": None}
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


def kind_of(reference: str, task: str | None = None) -> Kind:
    """A task that is called after a kind decides; else the words do, blank or one thing before a mixture."""
    text = reference.strip()
    if not text:
        return "blank"
    named = NAMES.get(task or "", task)
    if named in KINDS:
        return named
    if is_music(text):
        return "music"
    if task in PLAIN:
        return "text"
    for kind, test in _WHOLES.items():
        if test(text):
            return kind
    return "page" if _MARKUP.search(text) or find_tables(text) else "text"


def module_of(kind: str) -> ModuleType | None:
    """What scores a kind beside the text metrics; None for texts, pages and blanks."""
    name = MODULES.get(kind)
    return import_module(f".{name}", __package__) if name else None


def score(kind: str, prediction: str, reference: str) -> Values:
    """The metrics of a pair that its kind has beside the text metrics; empty if it has none."""
    module = module_of(kind)
    return module.score(prediction, reference) if module else Values({})


def score_all(pairs: Sequence[tuple[str, str, str]], processes: int = 1) -> Iterator[Values]:
    """`score` of each (kind, prediction, reference), in order and as they are ready."""
    return in_processes(score, pairs, processes)


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
