"""The values of one pair's metrics, with the reason for each that could not be had, and their means.

Knows no metric.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

Value = float | bool | None


class Values(dict[str, Value]):
    """Metrics of a pair by name; where one is None, `reasons` has why; `parts` has what a rate is made of."""

    def __init__(
        self,
        values: Mapping[str, Value],
        reasons: Mapping[str, str] | None = None,
        parts: Mapping[str, tuple[float, float]] | None = None,
    ) -> None:
        super().__init__(values)
        self.reasons = dict(reasons or {})
        self.parts = dict(parts or {})


def missing(names: Iterable[str], reason: str) -> Values:
    """None for each name, for one reason."""
    names = list(names)
    return Values(dict.fromkeys(names), dict.fromkeys(names, reason))


def means(pairs: Sequence[Mapping[str, Value]]) -> dict[str, float | None]:
    """The mean of each metric over the pairs that have it, yes counting 1; None if none has."""
    names = dict.fromkeys(name for pair in pairs for name in pair)
    averages: dict[str, float | None] = {}
    for name in names:
        had = [float(value) for pair in pairs if (value := pair.get(name)) is not None]
        averages[name] = math.fsum(had) / len(had) if had else None
    return averages


def rate(pairs: Sequence[Values], name: str) -> float | None:
    """A rate over all pairs together, sum of parts over sum of wholes; None if no pair has it."""
    parts = [pair.parts[name] for pair in pairs if name in pair.parts]
    part, whole = (math.fsum(column) for column in zip(*parts, strict=True)) if parts else (0.0, 0.0)
    return part / whole if whole else float(part > 0) if parts else None


def reasons(pairs: Sequence[Mapping[str, Value]]) -> dict[str, dict[str, int]]:
    """For each metric that some pairs lack, the reasons with how many pairs each holds for."""
    found: dict[str, Counter[str]] = {}
    for pair in pairs:
        for name, reason in getattr(pair, "reasons", {}).items():
            found.setdefault(name, Counter())[reason] += 1
    return {name: dict(counts.most_common()) for name, counts in found.items()}
