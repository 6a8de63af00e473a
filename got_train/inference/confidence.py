"""How sure an answer is, of its tokens, words and lines, and how far such numbers can be believed.

Works on texts and probabilities alone; knows no model and no page.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from got_train.errors import InferenceError
from got_train.strict_files import read_json

CALIBRATION = "calibration.json"  # beside the weights
LEVELS = ("token", "word", "line")
# Scripts without spaces: each character is a word.
_IDEOGRAPHS = "\u2e80-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_IDEOGRAPHS}]|[^\s{_IDEOGRAPHS}]+")
_LINE = re.compile(r"\S(?:[^\n]*\S)?")
_CLOSEST = 1e-6  # to 0 and 1: float32 tells no more
LEAST_SLOPE = 0.05  # so that the order of confidences stays


class Span(NamedTuple):
    """A piece of a text from `start` on, and the probability that all of it is right."""

    text: str
    start: int
    confidence: float


class PlattScaling(NamedTuple):
    """p becomes sigmoid(logit(p) / temperature + shift); the order of confidences stays.

    The temperature makes all less sure, or more (Guo et al., On Calibration of Modern Neural Networks, 2017);
    the shift is for pages on which it is right less often than any temperature could tell (Platt, 1999).
    """

    temperature: float = 1.0
    shift: float = 0.0

    def apply(self, probability: float) -> float:
        if self == PlattScaling():
            return probability
        logit = float(_logits([probability])[0])
        return 1 / (1 + math.exp(-(logit / self.temperature + self.shift)))


@dataclass(frozen=True)
class Calibration:
    """The scale of each level; a level without one stays as it is."""

    scales: dict[str, PlattScaling] = field(default_factory=dict)

    def apply(self, level: str, probability: float) -> float:
        return self.scales.get(level, PlattScaling()).apply(probability)


def load_calibration(folder: str | os.PathLike) -> Calibration | None:
    """What got calibrate wrote into a checkpoint's folder; None where it has not."""
    file = Path(folder) / CALIBRATION
    if not file.exists():
        return None
    try:
        levels = read_json(file, InferenceError)["levels"]
        scales = {
            level: PlattScaling(float(levels[level]["temperature"]), float(levels[level]["shift"]))
            for level in LEVELS
            if level in levels
        }
    except InferenceError:
        raise
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise InferenceError(
            f"{file}: no calibration ({error!r}); make it again with got calibrate"
        ) from error
    if not scales or not all(
        0 < scale.temperature < math.inf and math.isfinite(scale.shift) for scale in scales.values()
    ):
        raise InferenceError(f"{file}: {scales}; expected a positive temperature and a shift by level")
    return Calibration(scales)


def spans(
    pieces: Sequence[tuple[str, float]], level: str, calibration: Calibration | None = None
) -> list[Span]:
    """The tokens, words or lines of an answer given in pieces with their probabilities.

    A word is right if all its tokens are, so its probability is their product; so with lines. Places count
    from the first character that is no space, as in the answer's text, which is stripped.
    """
    text = "".join(piece for piece, _ in pieces)
    skipped = len(text) - len(text.lstrip())
    result = _pieces(pieces) if level == "token" else _cut(text, pieces, _WORD if level == "word" else _LINE)
    calibration = calibration or Calibration()
    return [
        Span(span.text, span.start - skipped, calibration.apply(level, span.confidence)) for span in result
    ]


def units(text: str, level: str) -> list[str]:
    """The words or lines of a text, as `spans` cuts them."""
    return (_WORD if level == "word" else _LINE).findall(text)


def highlight_uncertain(text: str, words: Iterable[Span], below: float) -> str:
    """The text with `[?` and `?]` around its doubtful words."""
    parts, end = [], 0
    for word in words:
        if word.confidence < below:
            parts += [text[end : word.start], "[?", word.text, "?]"]
            end = word.start + len(word.text)
    return "".join([*parts, text[end:]])


def fit_platt_scaling(probabilities: Sequence[float], right: Sequence[bool]) -> PlattScaling:
    """The scale under which what was right or wrong is most probable, by logistic regression.

    One observation's weight holds it to (1, 0), so that few or one-sided ones do not drive it away.
    """
    from scipy.optimize import minimize  # imported here because it takes long to load
    from scipy.special import expit

    columns = np.stack([_logits(probabilities), np.ones(len(probabilities))], axis=1)  # (N, 2)
    signs = np.where(right, 1.0, -1.0)
    start = np.array([1.0, 0.0])

    def loss(weights: np.ndarray) -> float:
        return np.logaddexp(0, -signs * (columns @ weights)).sum() + ((weights - start) ** 2).sum() / 2

    def gradient(weights: np.ndarray) -> np.ndarray:
        return columns.T @ (expit(columns @ weights) - (signs > 0)) + weights - start

    def hessian(weights: np.ndarray) -> np.ndarray:
        fitted = expit(columns @ weights)
        return (columns * (fitted * (1 - fitted))[:, None]).T @ columns + np.eye(2)

    options = {"gtol": 1e-9}
    slope, shift = minimize(loss, start, jac=gradient, hess=hessian, method="trust-exact", options=options).x
    return PlattScaling(1 / max(float(slope), LEAST_SLOPE), float(shift))


def calibration_error(probabilities: Sequence[float], right: Sequence[bool], bins: int = 15) -> float:
    """ECE: by how much confidence and share of right answers differ, in `bins` equal steps of confidence."""
    sums = [[0.0, 0.0] for _ in range(bins)]
    for probability, hit in zip(probabilities, right, strict=True):
        bin = min(int(probability * bins), bins - 1)
        sums[bin][0] += probability
        sums[bin][1] += hit
    return sum(abs(confidence - hits) for confidence, hits in sums) / max(1, len(probabilities))


def _logits(probabilities: Sequence[float]) -> np.ndarray:
    bounded = np.clip(np.asarray(probabilities, float), _CLOSEST, 1 - _CLOSEST)
    return np.log(bounded) - np.log1p(-bounded)


def _pieces(pieces: Sequence[tuple[str, float]]) -> Iterator[Span]:
    start = 0
    for text, probability in pieces:
        if text.strip():
            yield Span(text.strip(), start + len(text) - len(text.lstrip()), probability)
        start += len(text)


def _cut(text: str, pieces: Sequence[tuple[str, float]], pattern: re.Pattern[str]) -> Iterator[Span]:
    ends, end = [], 0
    for piece, _ in pieces:
        end += len(piece)
        ends.append(end)
    first = 0
    for match in pattern.finditer(text):
        while ends[first] <= match.start():
            first += 1
        last = first
        while ends[last] < match.end():
            last += 1
        yield Span(match[0], match.start(), math.prod(p for _, p in pieces[first : last + 1]))
        first = last
