"""How sure a score is: bootstrap intervals, two runs compared pair by pair, many comparisons at once.

Plain functions on numbers. Knows no metric, task or file. Values of one cluster (a document, or a page with
several regions) are drawn and exchanged together, for they succeed and fail together.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from got_train.errors import EvaluationError

if TYPE_CHECKING:
    import numpy as np

DRAWS = 10_000
SEED = 12345
LEVEL = 0.95
EXACT = 12  # clusters up to which all 2 ** n exchanges are tried
_CELLS = 4_000_000  # of a matrix of random numbers made at once
_EQUAL = 1e-12  # what rounding may change in a sum of scores


@dataclass(frozen=True)
class Difference:
    """One run against another on the same rows. A positive mean: the second has the higher values."""

    rows: int
    clusters: int
    mean: float
    low: float
    high: float
    p: float  # of the sign-flip test, two-sided
    higher: int  # rows whose value is higher in the second run
    equal: int
    lower: int


def intervals(
    numerators: np.ndarray,
    denominators: np.ndarray | None = None,
    clusters: Sequence[Hashable] | None = None,
    draws: int = DRAWS,
    level: float = LEVEL,
) -> list[tuple[float, float]]:
    """Percentile intervals of the columns' sum(numerators) / sum(denominators), each (rows, columns).

    Without denominators, of the means. A row without a value has numerator and denominator 0 (a column of
    denominators is needed then). Draws in which a column has no values are left out.
    """
    import numpy as np

    numerators = _matrix(numerators)
    denominators = np.ones_like(numerators) if denominators is None else _matrix(denominators)
    if numerators.shape != denominators.shape:
        raise EvaluationError(
            f"denominators {denominators.shape}; expected as many as numerators {numerators.shape}"
        )
    if not len(numerators):
        raise EvaluationError("intervals: no values; expected at least one row")
    columns = numerators.shape[1]
    sums = _cluster_sums(np.hstack([numerators, denominators]), clusters)
    drawn = np.concatenate([counts @ sums for counts in _resampled(len(sums), draws)])
    with np.errstate(invalid="ignore", divide="ignore"):
        rates = drawn[:, :columns] / drawn[:, columns:]
    ends = [50 * (1 - level), 50 * (1 + level)]
    return [_ends(rates[:, column], ends) for column in range(columns)]


def interval(
    values: Sequence[float],
    lengths: Sequence[float] | None = None,
    clusters: Sequence[Hashable] | None = None,
    draws: int = DRAWS,
) -> tuple[float, float]:
    """The interval of a mean; with lengths that of sum(values) / sum(lengths), a micro average."""
    return intervals(_matrix(values), None if lengths is None else _matrix(lengths), clusters, draws)[0]


def paired(
    first: Sequence[float],
    second: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    draws: int = DRAWS,
) -> Difference:
    """What changed from the first to the second run, whose values stand in the same order."""
    import numpy as np

    if len(first) != len(second):
        raise EvaluationError(f"paired: {len(first)} and {len(second)} values; expected as many in both")
    if not len(first):
        raise EvaluationError("paired: no values; expected at least one pair")
    change = np.asarray(second, dtype=float) - np.asarray(first, dtype=float)
    sums = _cluster_sums(change[:, None], clusters)
    low, high = interval(change, clusters=clusters, draws=draws)
    return Difference(
        rows=len(change),
        clusters=len(sums),
        mean=float(change.mean()),
        low=low,
        high=high,
        p=_sign_flip(sums[:, 0], draws),
        higher=int((change > _EQUAL).sum()),
        equal=int((abs(change) <= _EQUAL).sum()),
        lower=int((change < -_EQUAL).sum()),
    )


def paired_rates(
    first: Sequence[tuple[float, float]],
    second: Sequence[tuple[float, float]],
    clusters: Sequence[Hashable] | None = None,
    draws: int = DRAWS,
) -> tuple[Difference, float, float]:
    """The same for two micro averages, of which each row gives (numerator, denominator); and both averages.

    A rate over nothing is 1 if there are edits all the same, else 0, as that of a row.
    """
    import numpy as np

    if len(first) != len(second):
        raise EvaluationError(f"paired_rates: {len(first)} and {len(second)} rows; expected as many in both")
    if not len(first):
        raise EvaluationError("paired_rates: no rows; expected at least one pair")
    values = np.hstack([np.asarray(first, dtype=float), np.asarray(second, dtype=float)])
    sums = _cluster_sums(values, clusters)
    before, after = (float(_rates(sums[:, side].sum(axis=0)[None])[0]) for side in (slice(0, 2), slice(2, 4)))
    drawn = np.concatenate([counts @ sums for counts in _resampled(len(sums), draws)])
    changes = _rates(drawn[:, 2:]) - _rates(drawn[:, :2])
    row_change = _rates(values[:, 2:]) - _rates(values[:, :2])
    low, high = _ends(changes, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    # exchanging a cluster's runs turns half of what they differ by
    middle, half = (sums[:, :2] + sums[:, 2:]) / 2, (sums[:, 2:] - sums[:, :2]) / 2
    observed = abs(after - before) - _EQUAL

    def reached(signs: np.ndarray) -> int:
        moved = signs @ half
        swapped = _rates(middle.sum(axis=0) + moved) - _rates(middle.sum(axis=0) - moved)
        return int((abs(swapped) >= observed).sum())

    difference = Difference(
        rows=len(values),
        clusters=len(sums),
        mean=after - before,
        low=low,
        high=high,
        p=_exchange_p(len(sums), draws, reached),
        higher=int((row_change > _EQUAL).sum()),
        equal=int((abs(row_change) <= _EQUAL).sum()),
        lower=int((row_change < -_EQUAL).sum()),
    )
    return difference, before, after


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> tuple[int, int, float]:
    """Of yes/no values: how often only the second is yes, only the first, and the exact two-sided p.

    scipy's binomtest says the same to 2e-15, but loading scipy.stats takes a second of processor time.
    """
    if len(first) != len(second):
        raise EvaluationError(f"mcnemar: {len(first)} and {len(second)} values; expected as many in both")
    pairs = [(bool(before), bool(after)) for before, after in zip(first, second, strict=True)]
    won, lost = pairs.count((False, True)), pairs.count((True, False))
    changed = won + lost
    tail = sum(math.comb(changed, count) for count in range(min(won, lost) + 1))
    return won, lost, min(1.0, 2 * tail / 2**changed)


def holm(values: Sequence[float]) -> list[float]:
    """p values of several tests, adjusted so that all of them together keep the level (scipy has no Holm)."""
    order = sorted(range(len(values)), key=lambda index: values[index])
    adjusted, highest = [0.0] * len(values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(values) - rank) * values[index]))
        adjusted[index] = highest
    return adjusted


def _matrix(values: Sequence[float] | np.ndarray) -> np.ndarray:
    import numpy as np

    matrix = np.asarray(values, dtype=float)
    return matrix[:, None] if matrix.ndim == 1 else matrix


def _cluster_sums(values: np.ndarray, clusters: Sequence[Hashable] | None) -> np.ndarray:
    """(rows, columns) summed to (clusters, columns), these in the order in which they come."""
    import numpy as np

    if clusters is None:
        return values
    if len(clusters) != len(values):
        raise EvaluationError(f"clusters: {len(clusters)} for {len(values)} rows; expected one for each")
    indices: dict[Hashable, int] = {}
    of_row = [indices.setdefault(cluster, len(indices)) for cluster in clusters]
    sums = np.zeros((len(indices), values.shape[1]))
    np.add.at(sums, of_row, values)
    return sums


def _resampled(size: int, draws: int) -> Iterator[np.ndarray]:
    """How often each of `size` is drawn in each of `draws` samples with replacement, some rows at a time."""
    import numpy as np

    generator = np.random.default_rng(SEED)
    at_once = max(1, _CELLS // size)
    for start in range(0, draws, at_once):
        rows = min(at_once, draws - start)
        indices = generator.integers(0, size, (rows, size)) + size * np.arange(rows)[:, None]
        yield np.bincount(indices.ravel(), minlength=rows * size).reshape(rows, size).astype(float)


def _ends(rates: np.ndarray, ends: Sequence[float]) -> tuple[float, float]:
    import numpy as np

    finite = rates[np.isfinite(rates)]
    if not len(finite):
        return math.nan, math.nan
    low, high = np.percentile(finite, ends)
    return float(low), float(high)


def _rates(sums: np.ndarray) -> np.ndarray:
    """(rows, 2) numerators over denominators."""
    import numpy as np

    numerators, denominators = sums[:, 0], sums[:, 1]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(denominators > 0, numerators / denominators, numerators > 0)


def _sign_flip(sums: np.ndarray, draws: int) -> float:
    """How often exchanging the two runs at random, cluster by cluster, changes as much as was seen."""
    observed = abs(sums.sum()) - _EQUAL * len(sums)
    return _exchange_p(len(sums), draws, lambda signs: int((abs(signs @ sums) >= observed).sum()))


def _exchange_p(size: int, draws: int, reached: Callable[[np.ndarray], int]) -> float:
    """The share of exchanges, rows of 1 and -1, that reach the observed change; all are tried of few."""
    import numpy as np

    if size <= EXACT:
        signs = np.array(list(itertools.product((1, -1), repeat=size)))
        return reached(signs) / len(signs)
    generator, count = np.random.default_rng(SEED), 0
    chunk = max(1, _CELLS // size)
    for start in range(0, draws, chunk):
        rows = min(chunk, draws - start)
        count += reached(np.where(generator.random((rows, size)) < 0.5, 1.0, -1.0))
    return (count + 1) / (draws + 1)
