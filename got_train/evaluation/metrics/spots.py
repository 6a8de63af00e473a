"""How well texts were found at their places: boxes matched by their overlap, alone and with their text.

Answers of the task `spot` are in the grammar of got_train.formats.spots: a line that is not finds nothing.
Other systems' are a JSON list of {"box", "text"}, or lines of `[x1, y1, x2, y2] text` with any numbers, in a
unit that both sides share.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy
from rapidfuzz.distance import Levenshtein

from got_train.errors import AnswerError
from got_train.formats import spots as spotting

from .values import MetricValues, means, missing_values, rate

OVERLAP = 0.5  # intersection over union from which on two boxes are one
KINDS = ("boxes", "spotting")  # by the place alone; with the text
_NUMBER = r"\s*(-?\d+(?:\.\d+)?)\s*"
_LINE = re.compile(rf"\s*[\[(]{','.join([_NUMBER] * 4)}[\])]\s*:?\s*(.*?)\s*")


@dataclass(frozen=True)
class Spot:
    """A text and its box: left, top, right, bottom."""

    box: tuple[float, float, float, float]
    text: str


def score(prediction: str, reference: str, overlap: float = OVERLAP) -> MetricValues:
    """Precision, recall and F1 of the boxes alone (boxes_*) and with equal text (spotting_*); text_edit, the
    edit distance of the texts without boxes, in their order; parses.
    """
    rates = [f"{kind}_{name}" for kind in KINDS for name in ("precision", "recall", "f1")]
    try:
        expected = spots(reference)
    except AnswerError as error:
        return missing_values([*rates, "text_edit", "parses"], f"the reference: {error}")
    predicted, parses = _answered(prediction, reference)
    near = _overlaps(predicted, expected) >= overlap
    same = numpy.array([[mine.text == spot.text for spot in expected] for mine in predicted], bool)
    hits = {"boxes": _matched(near), "spotting": _matched(near & same.reshape(near.shape))}
    values = {
        name: value
        for kind, hit in hits.items()
        for name, value in _rates(kind, hit, predicted, expected).items()
    }
    read = _texts(predicted) if parses else spotting.plain_text(prediction)
    values["text_edit"] = Levenshtein.normalized_distance(read, _texts(expected))
    return MetricValues(
        {**values, "parses": parses},
        counts={
            f"{kind}_{name}": (hit, len(side))
            for kind, hit in hits.items()
            for name, side in (("precision", predicted), ("recall", expected))
        },
    )


def averages(pairs: Sequence[MetricValues]) -> dict[str, float | None]:
    """Precision, recall and F1 over the boxes of all pairs together; the share of answers that parse."""
    averaged = means(pairs)
    for kind in KINDS:
        precision, recall = (rate(pairs, f"{kind}_{name}") for name in ("precision", "recall"))
        averaged |= {f"{kind}_precision": precision, f"{kind}_recall": recall}
        averaged[f"{kind}_f1"] = None if precision is None or recall is None else _f1(precision, recall)
    return averaged


def spots(text: str) -> list[Spot]:
    """The boxes of an answer with their texts; an empty one has none."""
    text = text.strip()
    ours, faults = spotting.parse(text)
    if not faults:
        return [Spot(spot.box, spot.text) for spot in ours]
    return _of_json(text) if _is_json(text) else _of_lines(text)


def iou(first: Sequence[float], second: Sequence[float]) -> float:
    """The area that two boxes share over the area that either covers."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(0.0, width) * max(0.0, height)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    return shared / (areas - shared) if areas > shared else 0.0


def _answered(prediction: str, reference: str) -> tuple[list[Spot], bool]:
    """What an answer says as far as it can be told, and whether all of it can."""
    if _is_json(prediction) or spotting.parse(reference)[1]:
        try:
            return spots(prediction), True
        except AnswerError:
            return [], False
    predicted, faults = spotting.parse(prediction)
    return [Spot(spot.box, spot.text) for spot in predicted], not faults


def _is_json(text: str) -> bool:
    return text.lstrip().startswith(("[{", "{")) or text.strip() == "[]"


def _texts(answered: Sequence[Spot]) -> str:
    return "\n".join(spot.text for spot in answered)


def _of_lines(text: str) -> list[Spot]:
    result = []
    for number, line in enumerate(text.splitlines(), 1):
        match = _LINE.fullmatch(line)
        if match is None and line.strip():
            raise AnswerError(f"line {number}: {line.strip()[:40]!r} is no `[x1, y1, x2, y2] text`")
        if match is not None:
            result.append(_spot(match.groups()[:4], match[5]))
    return result


def _of_json(text: str) -> list[Spot]:
    try:
        rows = json.loads(text)
        return [_spot(row.get("box", row.get("bbox")), row.get("text", "")) for row in rows]
    except (ValueError, TypeError, AttributeError) as error:
        raise AnswerError(f"no list of boxes with texts: {error}") from None


def _spot(box: Sequence[float | str], text: str) -> Spot:
    left, top, right, bottom = map(float, box)
    return Spot((min(left, right), min(top, bottom), max(left, right), max(top, bottom)), str(text).strip())


def _overlaps(predicted: Sequence[Spot], expected: Sequence[Spot]) -> numpy.ndarray:
    pairs = [[iou(mine.box, spot.box) for spot in expected] for mine in predicted]
    return numpy.array(pairs, float).reshape(len(predicted), len(expected))


def _matched(allowed: numpy.ndarray) -> int:
    """The largest number of pairs in which each box stands once."""
    from scipy.optimize import linear_sum_assignment  # here, for it takes long to load

    rows, columns = linear_sum_assignment(allowed, maximize=True)
    return int(allowed[rows, columns].sum())


def _rates(kind: str, hits: int, predicted: Sequence[Spot], expected: Sequence[Spot]) -> dict[str, float]:
    precision = hits / len(predicted) if predicted else float(not expected)
    recall = hits / len(expected) if expected else float(not predicted)
    return {f"{kind}_precision": precision, f"{kind}_recall": recall, f"{kind}_f1": _f1(precision, recall)}


def _f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
