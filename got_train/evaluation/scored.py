"""One prediction with its scores: text metrics, those of its answer type, signs of degeneration.

Averages, groups and tables are made elsewhere.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm

from got_train.formats.answer_types import ANSWER_TYPES, answer_type
from got_train.formats.plain_text import canonical_text
from got_train.workers import in_processes

from .documents import with_documents
from .metrics import characters, degeneration, pages, task_metrics, text
from .metrics.values import MetricValues
from .predictions import Prediction

SLOW_TYPES = ("table", "geometry")  # one pair of these may take a second and more
SLOW_PER_PROCESS = 8  # of these pairs, because a process takes a second to start
CHARACTERS_PER_PROCESS = 1_000_000  # for the same reason
LENGTHS = (100, 500, 1000, 2000)  # characters of a reference, where the groups by length end
ERROR_METRICS = (
    "edit",
    "cer",
    "wer",
    "ser",
    "ler",
    "distance",
    "ned",
)  # in names: lower is better


@dataclass(frozen=True)
class ScoredPrediction:
    """A prediction that was asked, and its scores."""

    prediction: Prediction
    answer_type: str
    fixed: text.Score
    official: text.Score | None
    task_metrics: Mapping[str, float | bool | None] = field(default_factory=dict)  # of its answer type
    degeneration: Mapping[str, float | bool | None] = field(default_factory=dict)

    @property
    def reference(self) -> str:
        """In the form in which texts are compared."""
        return canonical_text(self.prediction.reference)

    @property
    def answer(self) -> str:
        return canonical_text(self.prediction.prediction)

    def value(self, metric: str) -> float | None:
        """A metric by its name: edit_distance, table.teds, no_end; None where it cannot be computed."""
        answer_type, dot, name = metric.rpartition(".")
        if dot:
            value = self.task_metrics.get(name) if answer_type == self.answer_type else None
        elif metric in text.FIXED:
            value = self.fixed[metric]
        else:
            value = self.degeneration.get(metric)
        return None if value is None or not math.isfinite(value) else float(value)

    @property
    def metrics(self) -> list[str]:
        task_metrics = (f"{self.answer_type}.{name}" for name in self.task_metrics)
        return [*text.FIXED, *task_metrics, *self.degeneration]

    def row(self) -> dict[str, Any]:
        """As a line of samples.jsonl."""
        row = {"id": self.prediction.name, **self.prediction.row(), "answer_type": self.answer_type}
        row["groups"] = groups(self.prediction)
        row["scores"] = {name: self.value(name) for name in self.metrics}
        reasons = getattr(self.task_metrics, "missing_reasons", {})
        return row | ({"missing_reasons": dict(reasons)} if reasons else {})


def score_predictions(
    predictions: Sequence[Prediction],
    unit: str = "word",
    progress: bool = False,
    cdm_seconds: float = 0,
    case: str = "kept",
) -> list[ScoredPrediction]:
    """Scores of all that were asked, of formulas with CDM if it has time. A failed row is an empty answer.

    Both texts are compared in one form (canonical_text); the official mode alone sees them as they are.
    With case "fold" letters of either case are the same to the text metrics, but not to those of a type.
    """
    predictions, _ = with_documents(predictions)
    asked = [prediction for prediction in predictions if prediction.not_asked is None]
    pairs = [(canonical_text(row.prediction), canonical_text(row.reference)) for row in asked]
    types = [answer_type(reference, row.task) for (_, reference), row in zip(pairs, asked, strict=True)]
    task_values = _task_metrics(types, pairs, progress)
    if cdm_seconds:
        _add_cdm(task_values, pairs, types, cdm_seconds, progress)
    jobs = [
        (row.prediction, row.reference, unit, row.finished, name, case)
        for row, name in zip(asked, types, strict=True)
    ]
    characters = sum(len(prediction) + len(reference) for prediction, reference, *_ in jobs)
    scores = in_processes(_text_scores, jobs, _process_count(characters // CHARACTERS_PER_PROCESS))
    scores = tqdm(scores, total=len(jobs), unit="pair", desc="text", disable=None if progress else True)
    return [
        ScoredPrediction(row, name, fixed, official, values, signs)
        for row, name, values, (fixed, official, signs) in zip(asked, types, task_values, scores, strict=True)
    ]


def _add_cdm(
    task_values: list[MetricValues],
    pairs: Sequence[tuple[str, str]],
    types: Sequence[str],
    seconds: float,
    progress: bool,
) -> None:
    from .metrics import cdm

    deadline = time.time() + seconds
    indices = [index for index, name in enumerate(types) if name == "formula"]
    jobs = [(*pairs[index], deadline) for index in indices]
    scores = in_processes(cdm.score_until, jobs, _process_count(len(jobs) // SLOW_PER_PROCESS))
    scores = tqdm(scores, total=len(jobs), unit="pair", desc="CDM", disable=None if progress else True)
    for index, score in zip(indices, scores, strict=True):
        values = task_values[index]
        reasons = {**values.missing_reasons, **score.missing_reasons}
        task_values[index] = MetricValues({**values, **score}, reasons, values.counts)


def _text_scores(
    prediction: str, reference: str, unit: str, finished: str | None, answer_type: str, case: str
) -> tuple[text.Score, text.Score | None, MetricValues]:
    """What every pair has: both modes of the text metrics, signs of degeneration."""
    plain = canonical_text(prediction), canonical_text(reference)
    signs = degeneration.score(*plain, finished, answer_type)
    if case == "fold":
        prediction, reference, *plain = (side.casefold() for side in (prediction, reference, *plain))
    official = text.score(prediction, reference, unit, "official")
    return text.score(*plain, unit), official, signs


def _process_count(parts: int) -> int:
    """As many as there are parts of work, but not more than processors."""
    return max(1, min(os.cpu_count() or 1, parts))


def metric_error(name: str) -> str:
    """What is wrong with the name of a metric, if anything; of TYPE.METRIC only the type is known here."""
    names = (*text.FIXED, *degeneration.NAMES)
    if name.partition(".")[0] in ANSWER_TYPES if "." in name else name in names:
        return ""
    return f"no metric {name}; use loss, {', '.join(names)}, or TYPE.METRIC such as table.teds"


def lower_is_better(metric: str) -> bool:
    """Whether a smaller value of this metric means a better reading."""
    name = metric.rpartition(".")[2]
    return name in degeneration.NAMES or bool({*ERROR_METRICS} & {*name.split("_")})


def groups(prediction: Prediction) -> dict[str, str]:
    """By what a prediction is averaged together with others: language, task, source, length, its own."""
    own = {name: str(value) for name, value in prediction.groups.items()}
    return {
        "language": characters.language(prediction.reference),
        "task": task_name(prediction),
        "source": prediction.data or "",
        "length": length_bin(len(prediction.reference)),
        **own,
    }


def task_name(prediction: Prediction) -> str:
    """The task, with what tells the region where there is one."""
    region = "box" if prediction.box is not None else "color" if prediction.color is not None else None
    return prediction.task if region is None else f"{prediction.task} + {region}"


def length_bin(length: int) -> str:
    """The group of a length in characters, such as 101-500."""
    if not length:
        return "0"
    low = 1
    for high in LENGTHS:
        if length <= high:
            return f"{low}-{high}"
        low = high + 1
    return f"{low} and more"


def task_averages(answer_type: str, values: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """The averages of an answer type's own metrics, as its module defines them."""
    return (pages if answer_type == "page" else task_metrics.module_of(answer_type)).averages(values)


def _task_metrics(
    types: Sequence[str], pairs: Sequence[tuple[str, str]], progress: bool
) -> list[MetricValues]:
    """The values of the types' own metrics, in the order of the pairs; the slow ones in several processes."""
    values = [
        MetricValues(pages.score(*pair) if name == "page" else {})
        for name, pair in zip(types, pairs, strict=True)
    ]
    indices = [index for index, name in enumerate(types) if name in task_metrics.MODULES]
    slow = sum(types[index] in SLOW_TYPES for index in indices)
    jobs = [(types[index], *pairs[index]) for index in indices]
    scores = task_metrics.score_all(jobs, _process_count(slow // SLOW_PER_PROCESS))
    bar = tqdm(scores, total=len(jobs), unit="pair", desc="task metrics", disable=None if progress else True)
    for index, score in zip(indices, bar, strict=True):
        values[index] = score
    return values
