r"""CDM: how many symbols of a formula are right and stand right, by their pictures.

As published (arXiv 2409.03643): LaTeX sets every symbol in a color of its own, and its box is where it is.
Symbols of answer and reference are paired at the least cost, and the pairs count that moved together. Needs
LaTeX, and KaTeX for the tokens; it has to score known pairs rightly before it is believed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import numpy

from got_train.errors import AnswerError, EvaluationError
from got_train.formats import latex
from got_train.formats.tikz import compiled

from .values import MetricValues, Value, missing_values

NAMES = ("cdm_f1", "cdm_precision", "cdm_recall", "cdm_exact")
SECONDS = 20.0  # for one picture; a second is usual
MOST = 1000  # symbols of a formula
DPI = 200
_MOVED = 25  # pixels by which pairs may differ that moved together
_WAYS = 60  # to move that are tried, with those halfway between two
_ROUNDS = 3  # groups of pairs that moved differently, such as lines
_PLACE, _ORDER = 0.05, 0.15  # what they weigh against another symbol, which costs 1
_STEPS, _STEP = 12, 20  # shades of red, green and blue, and how far apart
_DOCUMENT = r"""\documentclass[12pt]{article}
\usepackage[paperwidth=60cm,paperheight=30cm,margin=1cm]{geometry}
\usepackage{amsmath,amssymb,cancel,xcolor}
%s
\pagestyle{empty}
\begin{document}
\begin{displaymath}
%s
\end{displaymath}
\end{document}
"""
_CHINESE = re.compile("[\u3000-\u303f\u3400-\u9fff\uff00-\uffef]")
# commands by their arguments and whether they draw something themselves
_DRAWING = {
    **dict.fromkeys(("\\frac", "\\binom"), 2),
    **dict.fromkeys(("\\sqrt", "\\overline", "\\underline", "\\xrightarrow", "\\xleftarrow"), 1),
    **dict.fromkeys(("\\hat", "\\widehat", "\\tilde", "\\widetilde", "\\bar", "\\vec", "\\dot", "\\ddot"), 1),
    **dict.fromkeys(("\\check", "\\breve", "\\acute", "\\grave", "\\mathring", "\\dddot"), 1),
    **dict.fromkeys(
        ("\\underbrace", "\\overbrace", "\\overrightarrow", "\\overleftarrow", "\\boxed", "\\cancel"), 1
    ),
}
_FONTS = """
\\mathrm \\mathbf \\mathit \\mathbb \\mathcal \\mathscr \\mathfrak \\mathsf \\mathtt \\boldsymbol \\pmb \\bm
\\mathop \\operatorname \\operatorname* \\smash \\mathnormal
"""
_PLAIN = {name: name for name in _FONTS.split()} | {
    "\\mathscr": "\\mathcal",
    "\\bm": "\\boldsymbol",
    "\\mathbold": "\\boldsymbol",
}
# what KaTeX's tokens are in LaTeX
_WRITTEN = {"\u2260": "\\neq", "\u2209": "\\notin", "\u0338": "\\not", "\\fbox": "\\boxed"}
_SPACE = re.compile(r"\\hspace\{([^{}]*mu)\}")
_SILENT = re.compile(
    r"\\(?:[,;:!> ]?|allowbreak|q?quad|(?:display|text|script|scriptscript)style|(?:no)?limits"
    r"|hspace\{[^{}]*\}|hline)|~|&|\\\\"
)
_KNOWN = (  # answer, reference, F1: what the self-test must find
    (r"E = mc^2", r"E=m c^{2}", 1.0),
    (r"\int_0^1 x^2\,dx=\frac{1}{8}", r"\int_0^1 x^2\,dx=\frac{1}{3}", 10 / 11),
    (r"a+b", r"c", 0.0),
)


@dataclass(frozen=True)
class Symbol:
    """A symbol of a formula and its box in the picture: left, top, right, bottom."""

    token: str
    box: tuple[int, int, int, int]


def score(prediction: str, reference: str) -> MetricValues:
    """cdm_f1, its precision and recall; cdm_exact if all symbols are right. What LaTeX refuses has 0."""
    reason = unavailable()
    if reason is not None:
        return missing_values(NAMES, reason)
    try:
        expected = symbols(reference)
    except (EvaluationError, AnswerError) as error:
        return missing_values(NAMES, f"the reference: {error}")
    try:
        predicted = symbols(prediction)
    except (EvaluationError, AnswerError):
        predicted = ()
    return MetricValues(_rates(predicted, expected))


def score_until(prediction: str, reference: str, end: float) -> MetricValues:
    """`score`, or nothing once the clock (time.time) has passed the end."""
    if time.time() > end:
        return missing_values(NAMES, "the time for CDM was up")
    return score(prediction, reference)


@cache
def unavailable() -> str | None:
    """Why CDM cannot be had here; None if it can, and says the right thing of the known pairs."""
    if reason := latex.unavailable():
        return reason
    if shutil.which("pdflatex") is None:
        return "pdflatex is not installed"
    for answer, reference, right in _KNOWN:
        try:
            f1 = _rates(symbols(answer), symbols(reference))["cdm_f1"]
        except (EvaluationError, AnswerError) as error:
            return f"the self-test failed: {error}"
        if abs(f1 - right) > 1e-9:
            return f"the self-test failed: {answer} for {reference} has {f1}, not {right}"
    return None


@lru_cache(maxsize=1 << 10)
def symbols(formula: str) -> tuple[Symbol, ...]:
    """What is seen of a formula, symbol by symbol, in the order of its tokens."""
    tokens = latex.tokens(formula)
    if not tokens:
        return ()
    writer = _Colored(tokens)
    source = writer.formula()
    if len(writer.tokens) > MOST:
        raise EvaluationError(f"{len(writer.tokens)} symbols; expected at most {MOST}")
    boxes = _boxes(_picture(source), len(writer.tokens))
    return tuple(Symbol(*pair) for pair in zip(writer.tokens, boxes, strict=True) if pair[1] is not None)


def _rates(predicted: Sequence[Symbol], expected: Sequence[Symbol]) -> dict[str, Value]:
    both = _right(predicted, expected)
    precision = both / len(predicted) if predicted else float(not expected)
    recall = both / len(expected) if expected else float(not predicted)
    f1 = 2 * both / (len(predicted) + len(expected)) if predicted or expected else 1.0
    return dict(zip(NAMES, (f1, precision, recall, f1 == 1.0), strict=True))


def _right(predicted: Sequence[Symbol], expected: Sequence[Symbol]) -> int:
    """How many symbols of the answer are the reference's, and moved together with others."""
    if not predicted or not expected:
        return 0
    from scipy.optimize import linear_sum_assignment  # here, for it takes long to load

    rows, columns = linear_sum_assignment(_costs(predicted, expected))
    pairs = [(predicted[row], expected[column]) for row, column in zip(rows, columns, strict=True)]
    same = [(mine, theirs) for mine, theirs in pairs if mine.token == theirs.token]
    if not same:
        return 0
    moved = numpy.array([_middle(mine.box) - _middle(theirs.box) for mine, theirs in same])
    return _together(moved)


def _costs(predicted: Sequence[Symbol], expected: Sequence[Symbol]) -> numpy.ndarray:
    differs = numpy.array([[mine.token != symbol.token for symbol in expected] for mine in predicted], float)
    positions = [_placed(side) for side in (predicted, expected)]
    apart = numpy.abs(positions[0][:, None] - positions[1][None]).sum(2)
    order = [numpy.arange(len(side)) / len(side) for side in (predicted, expected)]
    return differs + _PLACE * apart + _ORDER * numpy.abs(order[0][:, None] - order[1][None])


def _placed(side: Sequence[Symbol]) -> numpy.ndarray:
    """Boxes as parts of the box around all."""
    boxes = numpy.array([symbol.box for symbol in side], float)
    low, high = boxes[:, :2].min(0), boxes[:, 2:].max(0)
    return (boxes - [*low, *low]) / numpy.maximum(numpy.array([*(high - low)] * 2), 1)


def _together(moved: numpy.ndarray) -> int:
    """Of the ways that pairs moved the largest groups of nearly the same; one or two more are wrong."""
    right = 0
    for _ in range(_ROUNDS):
        if not len(moved):
            break
        ways = numpy.unique(moved.round(), axis=0)[:_WAYS]
        centres = ((ways[:, None] + ways[None]) / 2).reshape(-1, 2)  # of two that moved a little differently
        near = numpy.abs(centres[:, None] - moved[None]).max(2) <= _MOVED
        group = near[near.sum(1).argmax()]
        if right and group.sum() < 3:
            break
        right += int(group.sum())
        moved = moved[~group]
    return right


def _middle(box: tuple[int, int, int, int]) -> numpy.ndarray:
    return numpy.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])


class _Colored:
    """Writes tokens as LaTeX, in a color each; `tokens` are those that got one, in their order."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self.rest: list[str] = list(reversed(tokens))
        self.tokens: list[str] = []

    def formula(self) -> str:
        parts = []
        while self.rest:
            parts.append(self._next())
        return " ".join(parts)

    def _next(self) -> str:
        token = self.rest.pop()
        if token == "{":
            return "{" + " ".join(self._until("}")) + "}"
        if token == "\\middle":
            return token + self.rest.pop()
        if token in ("_", "^") or _SILENT.fullmatch(token) or token.startswith("\\end"):
            return _SPACE.sub(r"\\mskip\1 ", token) + " "
        if token.startswith("\\begin"):
            columns = "".join(self._raw_group())
            return f"{token}{{{columns}}}"
        if token.startswith("\\left"):
            color = self._color(token)
            inner = " ".join(self._until("\\right"))
            return f"{{{color}{token} {inner} {self.closed}}}"
        if token == "\\tag":
            color = self._color(token)
            return f"\\tag*{{${color}({self._next()}{color})$}}"
        if token in _DRAWING:
            color = self._color(token)
            optional = "[" + " ".join(self._until("]")) + "]" if self._drop("[") else ""
            return (
                "{" + color + token + optional + "".join(self._next() for _ in range(_DRAWING[token])) + "}"
            )
        if token in _PLAIN:
            return _PLAIN[token] + self._next()
        shown = f"\\mbox{{{token}}}" if _CHINESE.search(token) else _WRITTEN.get(token, token)
        if re.fullmatch(r"\\[bB]ig+[lrm]?", token):
            shown += self.rest.pop()
        return f"{{{self._color(token)}{shown}}}"

    def _until(self, end: str) -> Iterator[str]:
        while self.rest:
            if self.rest[-1].startswith(end):
                self.closed = self.rest.pop()
                return
            yield self._next()
        raise EvaluationError(f"{end} is missing")

    def _raw_group(self) -> Iterator[str]:
        if self._drop("{"):
            while self.rest and not self._drop("}"):
                yield self.rest.pop()

    def _drop(self, token: str) -> bool:
        dropped = bool(self.rest) and self.rest[-1] == token
        if dropped:
            self.rest.pop()
        return dropped

    def _color(self, token: str) -> str:
        number = len(self.tokens)
        self.tokens.append(token)
        return rf"\color[RGB]{{{','.join(str(_STEP * part) for part in _shades(number))}}}"


def _shades(number: int) -> tuple[int, int, int]:
    return number // _STEPS**2, number // _STEPS % _STEPS, number % _STEPS


def _picture(source: str) -> numpy.ndarray:
    """The formula as it is set, (H, W, 3), without smooth edges, whose colors would be others."""
    import pypdfium2

    chinese = _CHINESE.search(source) is not None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "formula.tex"
        file.write_text(_DOCUMENT % (_chinese_font() if chinese else "", source), encoding="utf-8")
        if not compiled(file, SECONDS, "xelatex" if chinese else "pdflatex"):
            raise EvaluationError("LaTeX does not set it")
        with pypdfium2.PdfDocument(file.with_suffix(".pdf")) as document:
            sharp = {"no_smoothtext": True, "no_smoothpath": True}
            page = document[0].render(scale=DPI / 72, **sharp)
            return numpy.asarray(page.to_pil().convert("RGB"))


@cache
def _chinese_font() -> str:
    if shutil.which("xelatex") is None or shutil.which("fc-match") is None:
        raise EvaluationError("Chinese characters, for which xelatex and a font are needed")
    asked = ["fc-match", "sans:lang=zh-cn", "-f", "%{family[0]}"]
    name = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
    return rf"\usepackage{{xeCJK}}\setCJKmainfont{{{name}}}"


def _boxes(picture: numpy.ndarray, count: int) -> list[tuple[int, int, int, int] | None]:
    """Where each color is; None for what left no trace, such as a space."""
    rows, columns = (picture.min(2) < _STEP * _STEPS).nonzero()
    shades = (picture[rows, columns].astype(int) + _STEP // 2) // _STEP
    numbers = shades @ numpy.array([_STEPS**2, _STEPS, 1])
    numbers[(shades >= _STEPS).any(1)] = -1
    boxes: list[tuple[int, int, int, int] | None] = []
    for number in range(count):
        mask = numbers == number
        if not mask.any():
            boxes.append(None)
            continue
        x, y = columns[mask], rows[mask]
        boxes.append((int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1))
    return boxes
