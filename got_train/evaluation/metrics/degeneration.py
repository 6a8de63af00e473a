r"""Signs that an answer went wrong as a whole: no end, repetition, nothing at all, invention, broken markup.

Cheap enough for every answer of an evaluation in training.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from got_train.errors import AnswerError
from got_train.formats import kern
from got_train.formats.answer_types import is_music
from got_train.formats.charts import chart

from .molecules import all_smiles, molecule, unavailable
from .spots import spots
from .values import MetricValues, means

NAMES = ("no_end", "repeated_tail", "empty", "length_ratio", "hallucinated", "invalid_structure")
REPEATS = 10
LONGEST = 500  # characters of what is repeated
_ENVIRONMENT = re.compile(r"\\(begin|end)\s*\{([^{}]*)\}")
_PAIRS = {  # opening and closing marks that come in equal numbers
    "a displayed formula": (re.compile(r"(?<!\\)\\\["), re.compile(r"(?<!\\)\\\]")),
    "a formula": (re.compile(r"(?<!\\)\\\("), re.compile(r"(?<!\\)\\\)")),
    "an HTML table": (re.compile(r"<table\b", re.IGNORECASE), re.compile(r"</table>", re.IGNORECASE)),
    "a molecule": (re.compile(r"<smiles>"), re.compile(r"</smiles>")),
}
# what is LaTeX in a page
_LATEX = re.compile(
    r"\\\[.+?\\\]|\\\(.+?\\\)|\$\$.+?\$\$|\\begin\{(tabular|array)\}.+?\\end\{\1\}", re.DOTALL
)
_COMMENT = re.compile(r"(?<!\\)%[^\n]*")
_MARK = re.compile(r"\\(?:left|right)(?![a-zA-Z])|\\.|[{}]", re.DOTALL)
_CLOSED_BY = {"{": "}", "\\left": "\\right"}


def score(
    prediction: str, reference: str, finished: str | None = None, kind: str | None = None
) -> MetricValues:
    """Each sign as yes or no, and how long the answer is over the reference. `finished` as in Prediction."""
    blank = not reference.strip()
    empty = not prediction.strip()
    untold = {"no_end": "how the answer ended is not told"} if finished is None else {}
    no_length = {"length_ratio": "the reference is blank"} if blank else {}
    not_blank = {} if blank else {"hallucinated": "the reference is not blank"}
    return MetricValues(
        {
            "no_end": None if finished is None else finished != "stop",
            "repeated_tail": repeats(prediction) and not repeats(reference),
            "empty": empty and not blank,
            "length_ratio": None if blank else len(prediction) / len(reference),
            "hallucinated": not empty if blank else None,
            "invalid_structure": bool(faults(prediction, kind)),
        },
        untold | no_length | not_blank,
    )


averages = means


def repeats(text: str) -> bool:
    """Whether the text ends in the same characters so many times; those that are only blank do not count."""
    text = text.rstrip()
    longest = min(LONGEST, len(text) // REPEATS)
    return any(text.endswith(text[-length:] * REPEATS) for length in range(1, longest + 1))


def faults(text: str, kind: str | None = None) -> list[str]:
    """What is not closed or, by what the text is of, not well formed."""
    result = [f"{name} is not closed" for name in _open_environments(text)]
    for name, (opening, closing) in _PAIRS.items():
        if len(opening.findall(text)) != len(closing.findall(text)):
            result.append(f"{name} is not closed")
    latex = [text] if kind in ("formula", "geometry") else (match[0] for match in _LATEX.finditer(text))
    result += [
        f"{mark} is not closed in LaTeX" for mark in dict.fromkeys(filter(None, map(_odd_mark, latex)))
    ]
    if (kind == "music" or is_music(text)) and (fault := kern.fault(text)):
        result.append(f"**kern: {fault}")
    if kind == "molecule" and unavailable() is None and None in map(molecule, all_smiles(text)):
        result.append("the molecule is invalid")
    if kind == "chart":
        try:
            chart(text)
        except AnswerError as error:
            result.append(f"the chart: {error}")
    if kind == "spot":
        try:
            spots(text)
        except AnswerError as error:
            result.append(f"the spots: {error}")
    return result


def _open_environments(text: str) -> Sequence[str]:
    r"""The environments that have no end of their own, and ends that have no beginning."""
    stack: list[str] = []
    odd: list[str] = []
    for match in _ENVIRONMENT.finditer(text):
        if match[1] == "begin":
            stack.append(match[2])
        elif match[2] in stack:
            while (name := stack.pop()) != match[2]:
                odd.append(name)
        else:
            odd.append(match[2])
    return [*odd, *stack]


def _odd_mark(latex: str) -> str | None:
    r"""The first brace, \left or \right that has no partner."""
    stack: list[str] = []
    for mark in _MARK.findall(_COMMENT.sub("", latex)):
        if mark in _CLOSED_BY:
            stack.append(mark)
        elif mark in _CLOSED_BY.values() and (not stack or _CLOSED_BY[stack.pop()] != mark):
            return mark
    return stack[-1] if stack else None
