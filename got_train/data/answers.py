"""Whether answers look like text that somebody means to be read: boxes, JSON, numbers, or always the same.

A run of days learns whatever stands in its rows. Knows texts alone; init and check ask it, and the config
says by `accept_answers` which kinds are meant.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .box_lines import box_format

MOST = 0.9  # of the answers, from which on a source is of a kind
FEW_ROWS = 3  # from which on equal answers are no accident
FEW_VALUES = 0.02  # different answers by rows; below it they are classes, where there are MANY_ROWS
MANY_ROWS = 100
MOST_LITERAL = 20_000  # characters of what may be Python's
_NUMBER = r"\d+(?:\.\d+)?"
_MARK = r"\s*[,;\t]\s*"
_BEHIND = re.compile(
    rf".*[^\W\d_][^,;\t]*{_MARK}({_NUMBER}(?:{_MARK}{_NUMBER}){{3}}(?:(?:{_MARK}{_NUMBER}){{4}})?)\s*"
)
# of a file, or of the kind img_00012
_NAME = re.compile(
    r"\S+\.(?:png|jpe?g|tiff?|webp|bmp|gif|pdf|txt|xml|json)"
    r"|(?:img|image|pic|page|row|sample|doc|document|id|line|word|crop|file|scan)[-_]?\d+",
    re.IGNORECASE,
)
_ELEMENT = re.compile(r"<([A-Za-z][\w:.-]*)[\s>]")
# elements that answers of GOT may be
_MARKUP = {
    "table",
    "html",
    "body",
    "div",
    "p",
    "span",
    "b",
    "i",
    "u",
    "ul",
    "ol",
    "smiles",
    "math",
    "svg",
    "pre",
}


@dataclass(frozen=True)
class Unusual:
    """Answers of a kind that is seldom meant: the word of `accept_answers` for it, and what is wrong."""

    kind: str
    cause: str
    fix: str


def unusual_answers(texts: Sequence[str], tasks: Sequence[str] = ()) -> list[Unusual]:
    """What the answers of one source are instead of text; nothing of text as people write it."""
    answers = [text for text in texts if text.strip()]
    tasks = [task for text, task in zip(texts, tasks, strict=False) if text.strip()]
    spots = sum(task == "spot" for task in tasks)
    if not answers or spots > len(answers) / 2:
        return []
    unusual = []
    if boxes := _boxes(answers):
        unusual.append(boxes)
    elif _many(answers, _is_json):
        unusual.append(
            Unusual("json", f"the answers are JSON, such as {_short(answers[0])}", "name the text in columns")
        )
    elif len(answers) >= FEW_ROWS and _many(answers, _NAME.fullmatch):
        cause = f"the answers are names of files or numbered ones, such as {_short(answers[0])}"
        unusual.append(Unusual("names", cause, "name the text in columns"))
    elif _many(answers, _is_xml):
        unusual.append(
            Unusual("xml", f"the answers are XML, such as {_short(answers[0])}", "give their text")
        )
    elif len(answers) >= FEW_ROWS and _many(answers, _is_numbers):
        cause = f"the answers are digits and signs alone, such as {_short(answers[0])}"
        unusual.append(Unusual("numbers", cause, "name the text in columns"))
    values = set(answers)
    if (len(answers) >= FEW_ROWS and len(values) == 1) or (
        len(answers) >= MANY_ROWS and len(values) <= FEW_VALUES * len(answers)
    ):
        shown = ", ".join(_short(value) for value in sorted(values)[:3])
        counted = "all answers are the same" if len(values) == 1 else f"only {len(values)} different answers"
        cause = f"{counted} in {len(answers)} rows: {shown}"
        unusual.append(Unusual("equal", cause, "name the text in columns; these are classes"))
    return unusual


def _is_xml(answer: str) -> bool:
    """A document of one element, or one that says it is XML; tables, formulas and molecules are none."""
    answer = answer.strip()
    match = _ELEMENT.match(answer)
    if answer.startswith("<?xml"):
        return True
    return match is not None and match[1].lower() not in _MARKUP and answer.endswith(f"</{match[1]}>")


def _boxes(answers: Sequence[str]) -> Unusual | None:
    forms = [
        form for answer in answers if (form := box_format(answer.splitlines()) or _ends_in_boxes(answer))
    ]
    if len(forms) < MOST * len(answers):
        return None
    cause = f"the answers are boxes ({forms[0]}), such as {_short(answers[0])}"
    return Unusual("boxes", cause, "make records of the label files by got convert-data")


def _ends_in_boxes(answer: str) -> str:
    """The same where the box stands behind the text."""
    lines = [line for line in answer.splitlines() if line.strip()]
    matches = map(_BEHIND.fullmatch, lines)
    boxes = [match and [float(number) for number in re.split(_MARK, match[1])] for match in matches]
    upright = all(box and (len(box) == 8 or (box[0] < box[2] and box[1] < box[3])) for box in boxes)
    return "text, then x1, y1, x2, y2" if boxes and upright else ""


def _many(answers: Sequence[str], test: Callable[[str], object]) -> bool:
    return sum(bool(test(answer)) for answer in answers) >= MOST * len(answers)


def _is_json(answer: str) -> bool:
    """An object or list of objects; the values of a chart, which GOT is asked for, are none."""
    if answer.strip()[:1] not in ("{", "["):
        return False
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError):
        value = _literal(answer)
    if isinstance(value, dict):
        return "values" not in value  # as the answers for charts have them
    return isinstance(value, list) and any(isinstance(part, dict) for part in value)


def _literal(answer: str) -> object:
    """What Python's print makes of an object, in single quotes."""
    try:
        return ast.literal_eval(answer.strip()) if len(answer) < MOST_LITERAL else None
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _is_numbers(answer: str) -> bool:
    return any(map(str.isdigit, answer)) and not any(map(str.isalpha, answer))


def _short(text: str) -> str:
    line = text.strip().replace("\n", " / ")
    return repr(line if len(line) <= 40 else line[:37] + "...")
