"""The values of one pair's metrics, with the reason for each that is missing, and their means.

Knows no metric.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

Value = float | bool | None


class MetricValues(dict[str, Value]):
    """Metrics of a pair by name.

    missing_reasons: why a value is None; counts: of a rate its numerator and denominator.
    """

    def __init__(
        self,
        values: Mapping[str, Value],
        missing_reasons: Mapping[str, str] | None = None,
        counts: Mapping[str, tuple[float, float]] | None = None,
    ) -> None:
        super().__init__(values)
        self.missing_reasons = dict(missing_reasons or {})
        self.counts = dict(counts or {})


def missing_values(names: Iterable[str], reason: str) -> MetricValues:
    """None for each name, for one reason."""
    names = list(names)
    return MetricValues(dict.fromkeys(names), dict.fromkeys(names, reason))


def means(pairs: Sequence[Mapping[str, Value]]) -> dict[str, float | None]:
    """The mean of each metric over the pairs that have it, yes counting 1; None if none has."""
    averages: dict[str, float | None] = {}
    for name in dict.fromkeys(name for pair in pairs for name in pair):
        values = [float(value) for pair in pairs if (value := pair.get(name)) is not None]
        averages[name] = math.fsum(values) / len(values) if values else None
    return averages


def rate(pairs: Sequence[MetricValues], name: str) -> float | None:
    """A rate over all pairs together, the sum of its numerators over that of its denominators."""
    counts = [pair.counts[name] for pair in pairs if name in pair.counts]
    if not counts:
        return None
    numerator, denominator = (math.fsum(column) for column in zip(*counts, strict=True))
    return numerator / denominator if denominator else float(numerator > 0)


def missing_reasons(pairs: Sequence[Mapping[str, Value]]) -> dict[str, dict[str, int]]:
    """For each metric that some pairs lack, the reasons with the number of pairs that each holds for."""
    reasons: dict[str, Counter[str]] = {}
    for pair in pairs:
        for name, reason in getattr(pair, "missing_reasons", {}).items():
            reasons.setdefault(name, Counter())[reason] += 1
    return {name: dict(counter.most_common()) for name, counter in reasons.items()}
