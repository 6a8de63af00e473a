"""Whether answers look like text that somebody means to be read: boxes, JSON, numbers, or always the same.

A run of days learns whatever stands in its rows. Knows texts alone; init and check ask it, and the config
says by `accept_answers` which kinds are meant.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from .box_lines import box_format

MOST = 0.9  # of the answers, from which on a source is of a kind
FEW_ROWS = 3  # from which on equal answers are no accident
FEW_VALUES = 0.02  # different answers by rows; below it they are classes, where there are MANY_ROWS
MANY_ROWS = 100


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


def _boxes(answers: Sequence[str]) -> Unusual | None:
    forms = [form for answer in answers if (form := box_format(answer.splitlines()))]
    if len(forms) < MOST * len(answers):
        return None
    cause = f"the answers are boxes ({forms[0]}), such as {_short(answers[0])}"
    return Unusual("boxes", cause, "make records of the label files by got convert-data")


def _many(answers: Sequence[str], test: object) -> bool:
    return sum(map(test, answers)) >= MOST * len(answers)


def _is_json(answer: str) -> bool:
    """An object or list of objects; the values of a chart, which GOT is asked for, are none."""
    if answer.strip()[:1] not in ("{", "["):
        return False
    try:
        value = json.loads(answer)
    except ValueError:
        return False
    if isinstance(value, dict):
        return "values" not in value  # as the answers for charts have them
    return isinstance(value, list) and any(isinstance(part, dict) for part in value)


def _is_numbers(answer: str) -> bool:
    return any(map(str.isdigit, answer)) and not any(map(str.isalpha, answer))


def _short(text: str) -> str:
    line = text.strip().replace("\n", " / ")
    return repr(line if len(line) <= 40 else line[:37] + "...")
