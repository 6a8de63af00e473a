"""Which module scores which type of answer beside the text metrics; computes no metric itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from types import ModuleType

from got_train.workers import in_processes

from .values import MetricValues

MODULES = {  # of this package, each with `score` of a pair and `averages` of many
    "table": "teds",
    "formula": "formulas",
    "molecule": "molecules",
    "music": "music",
    "geometry": "geometry",
    "chart": "charts",
    "spot": "spots",
}


def module_of(answer_type: str) -> ModuleType | None:
    """What scores a type of answer beside the text metrics; None for texts, pages and blanks."""
    name = MODULES.get(answer_type)
    return import_module(f".{name}", __package__) if name else None


def score(answer_type: str, prediction: str, reference: str) -> MetricValues:
    """The metrics of a pair that its type has beside the text metrics; empty if it has none."""
    module = module_of(answer_type)
    return module.score(prediction, reference) if module else MetricValues({})


def score_all(pairs: Sequence[tuple[str, str, str]], processes: int = 1) -> Iterator[MetricValues]:
    """`score` of each (answer_type, prediction, reference), in order and as they are ready."""
    return in_processes(score, pairs, processes)
