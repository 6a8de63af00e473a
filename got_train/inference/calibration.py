"""Temperatures that make a checkpoint's confidences believable. Knows no command line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rapidfuzz.distance import Levenshtein

from got_train.errors import InferenceError

from .confidence import LEVELS, calibration_error, fit_platt_scaling, spans, units

if TYPE_CHECKING:
    from got_train.data.record import Record

    from .reader import OcrPipeline


@dataclass
class Observed:
    """Of a level: the confidences of its pieces and whether each was right, by record."""

    confidences: list[list[float]] = field(default_factory=list)
    right: list[list[bool]] = field(default_factory=list)

    def some(self, first: int, step: int) -> tuple[list[float], list[bool]]:
        return _flat(self.confidences[first::step]), _flat(self.right[first::step])


def observe(
    readings: Iterable[tuple[Sequence[tuple[str, float]], str]],
) -> dict[str, Observed]:
    """Of answers in pieces (see Reader.pieces) and their true texts."""
    by_level = {level: Observed() for level in LEVELS}
    for pieces, truth in readings:
        for level, observed in by_level.items():
            parts = spans(pieces, level)
            if level == "token":
                text = "".join(piece for piece, _ in pieces).strip()
                hits = _matched(text, truth)
                right = [all(hits[part.start : part.start + len(part.text)]) for part in parts]
            else:
                right = _matched([part.text for part in parts], units(truth, level))
            observed.confidences.append([part.confidence for part in parts])
            observed.right.append(right)
    return by_level


def fit(observed: Observed) -> dict[str, Any]:
    """The scale fitted to all, and how well one fitted to every other record does on the rest (ECE)."""
    probabilities, right = observed.some(0, 1)
    if all(right) or not any(right):
        what = "right" if right and all(right) else "wrong"
        raise InferenceError(f"all {len(right)} were {what}; records of which the model reads some wrong")
    whole = fit_platt_scaling(probabilities, right)
    half = fit_platt_scaling(*observed.some(0, 2))
    held_out, held_right = observed.some(1, 2)
    return {
        "temperature": round(whole.temperature, 4),
        "shift": round(whole.shift, 4),
        "ece_before": round(calibration_error(held_out, held_right), 4),
        "ece_after": round(calibration_error([half.apply(p) for p in held_out], held_right), 4),
        "count": len(right),
        "right": round(sum(right) / len(right), 4),
        "confidence": round(sum(probabilities) / len(probabilities), 4),
    }


def calibrate(reader: OcrPipeline, records: Sequence[Record], batch_size: int) -> dict[str, Any]:
    """What calibration.json holds but for where it comes from."""
    from .continuous import read_requests
    from .reader import FailedRequest, OcrRequest

    causes = []
    readings = []
    questions = (OcrRequest.of_record(record) for record in records)
    for record, answer in zip(records, read_requests(reader, questions, batch_size), strict=True):
        if isinstance(answer, FailedRequest):
            causes.append(answer.cause)
        else:
            readings.append((reader.token_texts(answer), record.text))
    if len(readings) < 2:
        raise InferenceError(
            f"{len(readings)} records were read; expected at least 2, better 100 ({causes[:1]})"
        )
    levels, left_out = {}, {}
    for level, observed in observe(readings).items():
        try:
            levels[level] = fit(observed)
        except InferenceError as error:
            left_out[level] = str(error)
    if not levels:
        raise InferenceError(f"{left_out['word']}")
    return {"levels": levels, "left_out": left_out, "records": len(readings), "failed": causes}


def table(calibration: dict[str, Any]) -> str:
    rows = ["level  temperature   shift  ECE before  ECE after   right  confidence   count"]
    for level, row in calibration["levels"].items():
        rows.append(
            f"{level:<5}  {row['temperature']:>11.3f}  {row['shift']:>6.2f}  {row['ece_before']:>10.4f}  "
            f"{row['ece_after']:>9.4f}  {row['right']:>6.3f}  {row['confidence']:>10.3f}  {row['count']:>6}"
        )
    rows += [f"{level}: left out, {reason}" for level, reason in calibration["left_out"].items()]
    return "\n".join([*rows, *(f"failed: {cause}" for cause in calibration["failed"])])


def _matched(words: Sequence[str], truth: Sequence[str]) -> list[bool]:
    """Whether each stands in the truth, in the alignment of fewest edits."""
    hits = [False] * len(words)
    for code in Levenshtein.opcodes(words, truth):
        if code.tag == "equal":
            hits[code.src_start : code.src_end] = [True] * (code.src_end - code.src_start)
    return hits


def _flat(parts: Iterable[list]) -> list:
    return [item for part in parts for item in part]
