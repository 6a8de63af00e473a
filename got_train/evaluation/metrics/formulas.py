"""How like two formulas are: as text after OmniDocBench's normalisation, and as KaTeX's tokens.

CDM, which compares pictures of formulas, is in cdm.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from rapidfuzz.distance import Levenshtein

from got_train.errors import AnswerError
from got_train.formats import latex

from .pairing import best_pairs
from .values import MetricValues, Value, means

TOKEN_NAMES = ("token_edit", "token_exact", "parses")
# in OmniDocBench's order, in which \mathbf is gone before \mathbfcal is looked for
_FONTS = r"""
\mathbf \mathrm \mathnormal \mathit \mathbb \mathcal \mathscr \mathfrak \mathsf \mathtt \textbf \text
\boldmath \boldsymbol \operatorname \bm \symbfit \mathbfcal \symbf \scriptscriptstyle \notag \setlength
\coloneqq \space \thickspace \thinspace \medspace \nobreakspace \negmedspace \quad \qquad \enspace \substackw
"""
DROPPED = (*_FONTS.split(), " ", "$$", "\\left", "\\right", "\\displaystyle", "\\text")
_COMMANDS = (r"\\tag\{.*?\}", r"\\hspace\{.*?\}", r"\\begin\{.*?\}", r"\\end\{.*?\}", r"\\arraycolsep.*?\}")
_DISPLAYED = re.compile(
    r"\\\[.+?(?<!\\)\\\]|\$\$.+?\$\$|\\begin\{(?P<name>(?:equation|align|gather|multline|eqnarray)\*?)\}.+?\\end\{(?P=name)\}",
    re.DOTALL,
)
_DISPLAY = re.compile(r"\\\[(.+?)(?<!\\)\\\]")


def score(prediction: str, reference: str) -> MetricValues:
    """formula_edit, formula_exact: normalised text; token_edit, token_exact: KaTeX's, if it parses.

    Of several displayed formulas each one has the best partner on the other side, and one without a partner
    has an edit distance of 1; KaTeX's tokens are those of all formulas in their order.
    """
    values = _by_text(split(prediction), split(reference))
    reason = latex.unavailable()
    if reason is None:
        try:
            expected = latex.tokens(reference)
        except AnswerError as error:
            reason = f"KaTeX does not take the reference: {error}"
    if reason is not None:
        return MetricValues(values | dict.fromkeys(TOKEN_NAMES), dict.fromkeys(TOKEN_NAMES, reason))
    return MetricValues(values | _by_tokens(prediction, expected))


def split(text: str) -> list[str]:
    """The displayed formulas of a text if there are several, else the text itself."""
    formulas = [match[0] for match in _DISPLAYED.finditer(text)]
    return formulas if len(formulas) > 1 else [text]


def averages(pairs: Sequence[Mapping[str, Value]]) -> dict[str, float | None]:
    """The means; exp_rate is the share that is right to the last token."""
    averaged = means(pairs)
    return averaged | {"exp_rate": averaged.get("token_exact")}


def normalised(formula: str) -> str:
    """OmniDocBench v1.5's: without fonts, spaces, environments and sizes of brackets, in small letters."""
    text = formula.strip().strip("$").strip("\n")
    match = _DISPLAY.search(text)
    text = match[1].strip() if match else text
    for command in _COMMANDS:
        text = re.sub(command, "", text)
    text = text.strip(".")
    for dropped in DROPPED:
        text = text.replace(dropped, "")
    return text.lower()


def _by_text(predicted: Sequence[str], expected: Sequence[str]) -> dict[str, Value]:
    pairs = best_pairs([normalised(text) for text in predicted], [normalised(text) for text in expected])
    edits = [1.0 if None in pair else Levenshtein.normalized_distance(*pair) for pair in pairs]
    return {
        "formula_edit": sum(edits) / len(edits),
        "formula_exact": all(mine == theirs for mine, theirs in pairs),
    }


def _by_tokens(prediction: str, expected: list[str]) -> dict[str, Value]:
    try:
        predicted = latex.tokens(prediction)
    except AnswerError:
        return {"token_edit": float(bool(expected)), "token_exact": False, "parses": False}
    return {
        "token_edit": Levenshtein.normalized_distance(predicted, expected),
        "token_exact": predicted == expected,
        "parses": bool(predicted),
    }
