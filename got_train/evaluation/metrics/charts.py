"""How like two charts are: OneChart's SCRM and titles, and DePlot's RMS.

A chart is a JSON or Python object with `values`, flat or of series, and titles; for RMS also lines of cells
between bars. SCRM as published: a key that contains the other one matches, even strictly.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy
from rapidfuzz.distance import Levenshtein

from got_train.errors import AnswerError
from got_train.formats.charts import (
    NO_TITLE,
    NUMBER_THETA,
    TITLES,
    Table,
    anls,
    chart,
    title,
    title_of,
    to_table,
    values_of,
)

from .values import MetricValues, Value, means

Triple = tuple[str, str, float | str]

TOLERANCES = {"strict": (0, 0.0), "slight": (2, 0.05), "high": (5, 0.1)}  # edits of a key, relative error
# as published: here 0.6 is 0.6000000000000001, which a similarity of 0.6 does not reach
THRESHOLDS = tuple(numpy.arange(0.5, 1, 0.05))
SINGLE = {"50": 0.5, "75": 0.75, "90": 0.9}
RMS_NAMES = ("rms_precision", "rms_recall", "rms_f1")


def score(prediction: str, reference: str) -> MetricValues:
    """SCRM as sim_*, ap_* (the share of thresholds reached) and em; titles; rms_*; parses: is it a chart."""
    try:
        expected = chart(reference)
    except AnswerError as error:
        names = (
            *(f"{kind}_{name}" for kind in ("sim", "ap") for name in TOLERANCES),
            "em",
            *TITLES,
            *RMS_NAMES,
        )
        return MetricValues(
            dict.fromkeys((*names, "parses")), dict.fromkeys((*names, "parses"), f"the reference: {error}")
        )
    try:
        predicted: dict[str, Any] | None = chart(prediction)
    except AnswerError:
        predicted = None
    sims = {name: similarity(values_of(predicted or {}), values_of(expected), name) for name in TOLERANCES}
    if predicted is None:
        sims = dict.fromkeys(TOLERANCES, 0.0)
    rms_scores = (0.0, 0.0, 0.0) if predicted is None else rms(to_table(predicted), to_table(expected))
    return MetricValues(
        {
            **{f"sim_{name}": sim for name, sim in sims.items()},
            **{f"ap_{name}": _reached(sim) for name, sim in sims.items()},
            "em": sims["strict"] >= 1,
            **{name: title(title_of(predicted or {}, name), title_of(expected, name)) for name in TITLES},
            **dict(zip(RMS_NAMES, rms_scores, strict=True)),
            "parses": predicted is not None,
        },
        {name: "the reference has none" for name in TITLES if title_of(expected, name) == NO_TITLE},
    )


def averages(pairs: Sequence[Mapping[str, Value]]) -> dict[str, float | None]:
    """The means, and of SCRM the share of charts that reach 0.5, 0.75 and 0.9."""
    averaged = means(pairs)
    for name in TOLERANCES:
        sims = [float(sim) for pair in pairs if (sim := pair.get(f"sim_{name}")) is not None]
        for label, threshold in SINGLE.items():
            share = sum(sim >= threshold for sim in sims) / len(sims) if sims else None
            averaged[f"ap_{label}_{name}"] = share
    return averaged


def similarity(prediction: Mapping[str, Any], reference: Mapping[str, Any], tolerance: str) -> float:
    """SCRM's similarity of two sets of values; two empty ones are equal."""
    predicted, expected = triples(prediction), triples(reference)
    _aligned(predicted, expected)
    mine, theirs = set(predicted), set(expected)
    near = {
        triple
        for triple in mine
        if any(_match(triple, triple_expected, *TOLERANCES[tolerance]) for triple_expected in theirs)
    }
    union = (mine | theirs) - (near - (mine & theirs))
    return len(near) / len(union) if union else float(not mine and not theirs)


def triples(values: Mapping[str, Any]) -> list[Triple]:
    """(series, key, number) of values; of flat ones (key, "value", number)."""
    result = []
    for key, value in values.items():
        inner = value.items() if isinstance(value, dict) else [("value", value)]
        for name, cell in inner:
            digits = re.sub(r"[^\d.-]", "", str(cell))
            result.append((str(key).lower(), str(name).lower(), _number(digits)))
    return result


def rms(prediction: Table, reference: Table) -> tuple[float, float, float]:
    """Precision, recall and F1 of the points, of the prediction or its transpose, whichever is better."""
    return max(
        (_matched(side.points(), reference.points()) for side in (prediction.transposed(), prediction)),
        key=lambda scores: scores[2],
    )


def _matched(
    predicted: Sequence[tuple[str, str]], expected: Sequence[tuple[str, str]]
) -> tuple[float, float, float]:
    if not predicted or not expected:
        return float(not predicted), float(not expected), float(not predicted and not expected)
    from scipy.optimize import linear_sum_assignment  # here, for it takes long to load

    costs = numpy.array([[1 - anls(key, other) for other, _ in predicted] for key, _ in expected])
    rows, columns = linear_sum_assignment(costs)
    total = sum(_point(expected[row], predicted[column]) for row, column in zip(rows, columns, strict=True))
    if not total:
        return 0.0, 0.0, 0.0
    precision, recall = total / len(predicted), total / len(expected)
    return precision, recall, 2 * precision * recall / (precision + recall)


def _point(expected: tuple[str, str], predicted: tuple[str, str]) -> float:
    key = anls(expected[0], predicted[0])
    target, number = _rms_number(expected[1]), _rms_number(predicted[1])
    if number is not None and target:
        error = abs((target - number) / target)
        return key * (1 - error) if error < NUMBER_THETA else 0.0
    return key if expected[1] == predicted[1] else key * anls(expected[1], predicted[1])


def _rms_number(text: str) -> float | None:
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _aligned(predicted: list[Triple], expected: list[Triple]) -> None:
    """Sort the heads of each triple, and take "value" from the reference; by position, as published."""
    for index in range(min(len(predicted), len(expected))):
        mine, theirs = predicted[index], expected[index]
        if theirs[1] == "value" and "value" not in mine[:2]:
            mine = mine[0], "value", mine[2]
        predicted[index] = (*sorted(mine[:2]), mine[2])
        expected[index] = (*sorted(theirs[:2]), theirs[2])


def _match(first: Triple, second: Triple, edits: int, error: float) -> bool:
    if isinstance(first[2], str) or isinstance(second[2], str):
        sides = ("".join(map(str, triple)) for triple in (first, second))
        return Levenshtein.distance(*sides) <= edits
    if abs(first[2] - second[2]) / (abs(second[2]) + 1e-6) > error:
        return False
    mine, theirs = first[0] + first[1], second[0] + second[1]
    return mine in theirs or theirs in mine or Levenshtein.distance(mine, theirs) <= edits


def _reached(similarity: float) -> float:
    return sum(similarity >= threshold for threshold in THRESHOLDS) / len(THRESHOLDS)
