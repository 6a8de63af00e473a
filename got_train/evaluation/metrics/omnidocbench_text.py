r"""OmniDocBench v1.5's normalisation of text, and the edit distance after it.

Letters and digits are all that counts; formulas within a line become Unicode, for which pylatexenc is needed.
"""

from __future__ import annotations

import re

from rapidfuzz.distance import Levenshtein

from got_train.errors import AnswerError

from .values import MetricValues, missing_values
from .values import rate as _rate

NAME = "omnidocbench_edit"
_INLINE = re.compile(r"\$(.*?)\$|\\\((.*?)\\\)")
_ESCAPED = re.compile(r"\\([\\_&%^])")
# marks of a line's end and of a tabulator, the misspelt ones as well, as published
_MARKS = ("\\t", "\\n", "\t", "\n", "/t", "/n")
_OTHER = re.compile(r"[^\w\u4e00-\u9fff]")


def score(prediction: str, reference: str) -> MetricValues:
    """The edits over the longer text's length, both normalised; as `parts` too, for the rate of a page."""
    try:
        predicted, expected = normalised(prediction), normalised(reference)
    except AnswerError as error:
        return missing_values([NAME], str(error))
    edits, longest = Levenshtein.distance(predicted, expected), max(len(predicted), len(expected))
    return MetricValues({NAME: edits / longest if longest else 0.0}, counts={NAME: (edits, longest)})


def page_rate(blocks: list[MetricValues]) -> float | None:
    """A page's score: the edits of its blocks over their lengths."""
    return _rate(blocks, NAME)


def normalised(text: str) -> str:
    """Letters, digits and underscores of a text, in their case."""
    text = unicode_formulas(text)
    for mark in _MARKS:
        text = text.replace(mark, "")
    return _OTHER.sub("", text)


def unicode_formulas(text: str) -> str:
    """The text with those formulas within a line that have a command, an index or a power as Unicode."""
    return _INLINE.sub(lambda match: _unicode(match[1] if match[1] is not None else match[2], match[0]), text)


def _unicode(formula: str, written: str) -> str:
    formula = _ESCAPED.sub("", formula)
    if not any(char in formula for char in "\\^_"):
        return written
    try:
        from pylatexenc.latex2text import LatexNodes2Text
    except ImportError:
        raise AnswerError(
            'pylatexenc is not installed; use `pip install -e ".[formulas]"` in the clone'
        ) from None
    try:
        # a backslash at the end would take what follows
        return LatexNodes2Text().latex_to_text(formula + " " * formula.endswith("\\")).strip()
    except Exception:  # it fails in many ways on broken formulas; as published, they stay
        return written
