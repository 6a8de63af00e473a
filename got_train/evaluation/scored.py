"""One prediction with all that was measured on it: text metrics, those of its kind, how its answer ended.

Knows the metrics' modules by the kind they score; averages, groups and tables are made elsewhere.
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
from got_train.workers import in_processes

from .metrics import characters, degeneration, pages, task_metrics, text
from .metrics.values import Values
from .predictions import Prediction

_SLOW = ("table", "geometry")  # kinds of which one pair may take a second and more
_FEW = 8  # of them a process, for it takes a second to start
_MANY = 1_000_000  # characters of texts a process, for the same reason
LENGTHS = (100, 500, 1000, 2000)  # characters of a reference, where the groups by length end
_LOWER = ("edit", "cer", "wer", "ser", "ler", "distance", "ned")  # ends or parts of names that are errors


@dataclass(frozen=True)
class Sample:
    """A prediction that was asked, and its scores."""

    prediction: Prediction
    kind: str
    fixed: text.Score
    official: text.Score | None
    own: Mapping[str, float | bool | None] = field(default_factory=dict)  # of its kind's metrics
    faults: Mapping[str, float | bool | None] = field(default_factory=dict)  # signs of degeneration

    def value(self, metric: str) -> float | None:
        """A metric by its name: edit_distance, table.teds, no_end; None where it cannot be computed."""
        kind, dot, own = metric.rpartition(".")
        if dot:
            found = self.own.get(own) if kind == self.kind else None
        elif metric in text.FIXED:
            found = self.fixed[metric]
        else:
            found = self.faults.get(metric)
        return None if found is None or not math.isfinite(found) else float(found)

    @property
    def metrics(self) -> list[str]:
        return [*text.FIXED, *(f"{self.kind}.{name}" for name in self.own), *self.faults]

    def row(self) -> dict[str, Any]:
        """As a line of samples.jsonl."""
        scores = {name: self.value(name) for name in self.metrics}
        known = {"id": self.prediction.name, **self.prediction.row(), "kind": self.kind}
        reasons = getattr(self.own, "reasons", {})
        known |= {"groups": groups(self.prediction), "scores": scores}
        return known | ({"reasons": dict(reasons)} if reasons else {})


def samples(
    predictions: Sequence[Prediction], unit: str = "word", progress: bool = False, cdm_seconds: float = 0
) -> list[Sample]:
    """All that were asked, scored, formulas by CDM if it has time. A failed row scores as an empty answer."""
    asked = [each for each in predictions if each.not_asked is None]
    found = [answer_type(each.reference, each.task) for each in asked]
    own = _own_scores(found, [(each.prediction, each.reference) for each in asked], progress)
    if cdm_seconds:
        _add_cdm(own, asked, found, cdm_seconds, progress)
    wanted = [
        (each.prediction, each.reference, unit, each.finished, kind)
        for each, kind in zip(asked, found, strict=True)
    ]
    characters = sum(len(pair[0]) + len(pair[1]) for pair in wanted)
    scores = in_processes(_text_scores, wanted, _processes(characters // _MANY))
    shown = tqdm(scores, total=len(wanted), unit="pair", desc="text", disable=None if progress else True)
    return [
        Sample(each, kind, *texts, own=special, faults=faults)
        for each, kind, special, (*texts, faults) in zip(asked, found, own, shown, strict=True)
    ]


def _add_cdm(
    own: list[Values], asked: Sequence[Prediction], found: Sequence[str], seconds: float, progress: bool
) -> None:
    from .metrics import cdm

    end = time.time() + seconds
    places = [place for place, kind in enumerate(found) if kind == "formula"]
    wanted = [(asked[place].prediction, asked[place].reference, end) for place in places]
    scores = in_processes(cdm.score_until, wanted, _processes(len(places) // _FEW))
    shown = tqdm(scores, total=len(wanted), unit="pair", desc="CDM", disable=None if progress else True)
    for place, score in zip(places, shown, strict=True):
        reasons = {**own[place].reasons, **score.reasons}
        own[place] = Values({**own[place], **score}, reasons, own[place].parts)


def _text_scores(
    prediction: str, reference: str, unit: str, finished: str | None, kind: str
) -> tuple[text.Score, text.Score | None, Values]:
    """What every pair has: both modes of the text metrics, signs of degeneration."""
    fixed, official = (text.score(prediction, reference, unit, mode) for mode in text.MODES)
    return fixed, official, degeneration.score(prediction, reference, finished, kind)


def _processes(parts: int) -> int:
    """As many as there are parts of work, but not more than processors."""
    return max(1, min(os.cpu_count() or 1, parts))


def metric_fault(name: str) -> str:
    """What is wrong with the name of a metric, if anything; of a kind's own only the kind is known here."""
    known = (*text.FIXED, *degeneration.NAMES)
    if name.partition(".")[0] in ANSWER_TYPES if "." in name else name in known:
        return ""
    return f"no metric {name}; loss, {', '.join(known)}, or KIND.METRIC such as table.teds"


def lower_is_better(metric: str) -> bool:
    """Whether a smaller value of this metric means a better reading."""
    name = metric.rpartition(".")[2]
    return name in degeneration.NAMES or bool({*_LOWER} & {*name.split("_")})


def groups(prediction: Prediction) -> dict[str, str]:
    """By what a prediction is looked at together with others: language, task, source, length, its own."""
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


def averages_of(kind: str, scores: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """The averages of a kind's own metrics, as the kind defines them."""
    return (pages if kind == "page" else task_metrics.module_of(kind)).averages(scores)


def _own_scores(found: Sequence[str], pairs: Sequence[tuple[str, str]], progress: bool) -> list[Values]:
    """What the kinds' own modules say, in the order of the pairs; what takes long in several processes."""
    own = [
        Values(pages.score(*pair) if kind == "page" else {}) for kind, pair in zip(found, pairs, strict=True)
    ]
    places = [place for place, kind in enumerate(found) if kind in task_metrics.MODULES]
    slow = sum(found[place] in _SLOW for place in places)
    wanted = [(found[place], *pairs[place]) for place in places]
    scores = task_metrics.score_all(wanted, _processes(slow // _FEW))
    shown = tqdm(scores, total=len(wanted), unit="pair", desc="kinds", disable=None if progress else True)
    for place, score in zip(places, shown, strict=True):
        own[place] = score
    return own
