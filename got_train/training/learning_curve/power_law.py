"""error(n) = a n^-b + c through the errors at several numbers of pages, and what it says of other numbers.

Numbers only. The interval comes from drawing held-out documents and seeds again: it knows the noise of the
measurement, and not whether errors go on to follow the law.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

EXPONENTS = np.linspace(0.05, 2.0, 79)
DRAWS = 2000
SEED = 20260101
FLAT = 0.02  # of the error: what twice as many pages must change at least to be worth a sentence


@dataclass(frozen=True)
class PowerLaw:
    """a n^-b + c, with a and c not below 0: more pages never make the law worse."""

    scale: float
    exponent: float
    floor: float

    def __call__(self, pages: float) -> float:
        return self.scale * pages**-self.exponent + self.floor


@dataclass(frozen=True)
class Forecast:
    """The error at a number of pages with its 95 % interval, by the law."""

    pages: int
    error: float
    low: float
    high: float


def fit(pages: Sequence[float], errors: np.ndarray) -> np.ndarray:
    """Of each row of errors (D, number of sizes): scale, exponent and floor with the smallest sum of squares.

    For each exponent the other two follow by least squares, on the edge where they would be negative.
    """
    n, y = np.asarray(pages, float), np.atleast_2d(np.asarray(errors, float))
    best = np.full(len(y), np.inf)
    parameters = np.zeros((len(y), 3))
    for exponent in EXPONENTS:
        x = (n / n.max()) ** -exponent
        spread = ((x - x.mean()) ** 2).sum()
        scale = ((x - x.mean()) * (y - y.mean(1, keepdims=True))).sum(1) / spread
        floor = y.mean(1) - scale * x.mean()
        flat, bare = scale < 0, floor < 0
        scale = np.where(bare, (x * y).sum(1) / (x**2).sum(), scale)
        floor = np.where(bare, 0.0, floor)
        scale, floor = np.where(flat, 0.0, scale), np.where(flat, y.mean(1), floor)
        squares = ((scale[:, None] * x + floor[:, None] - y) ** 2).sum(1)
        better = squares < best - 1e-15
        best = np.where(better, squares, best)
        row = np.stack([scale * n.max() ** exponent, np.full(len(y), exponent), floor], axis=1)
        parameters = np.where(better[:, None], row, parameters)
    return parameters


def forecast(
    pages: Sequence[int],
    errors: np.ndarray,
    documents: Sequence[Hashable],
    targets: Sequence[int],
    draws: int = DRAWS,
) -> tuple[PowerLaw, list[Forecast]]:
    """errors (seeds, sizes, held-out rows) at so many pages -> the law, and the errors at the target numbers.

    Documents are drawn again for all sizes together, as the same rows are hard for all of them.
    """
    law = PowerLaw(*fit(pages, errors.mean((0, 2)))[0].tolist())
    names = {name: index for index, name in enumerate(dict.fromkeys(documents))}
    groups = np.array([names[document] for document in documents])
    generator = np.random.default_rng(SEED)
    seeds, sizes, _ = errors.shape
    sums = np.zeros((seeds, sizes, len(names)))
    for index in range(len(names)):
        sums[:, :, index] = errors[:, :, groups == index].sum(2)
    counts = np.bincount(groups, minlength=len(names))
    means_by_draw = np.zeros((draws, sizes))
    for draw in range(draws):
        sample = generator.integers(0, len(names), len(names))
        chosen = generator.integers(0, seeds, (seeds, sizes))
        means = sums[:, :, sample].sum(2) / counts[sample].sum()  # (seeds, sizes)
        means_by_draw[draw] = np.take_along_axis(means, chosen, axis=0).mean(0)
    laws = fit(pages, means_by_draw)
    forecasts = []
    for size in targets:
        values = laws[:, 0] * float(size) ** -laws[:, 1] + laws[:, 2]
        low, high = np.percentile(values, [2.5, 97.5]).tolist()
        forecasts.append(Forecast(int(size), law(size), low, high))
    return law, forecasts


def words(now: int, law: PowerLaw, twice: Forecast, five: Forecast, metric: str) -> list[str]:
    """What the law says, in sentences."""
    error, formula = law(now), f"{law.scale:.3g} n^-{law.exponent:.2f} + {law.floor:.4f}"
    sentences = [f"with {now:,} pages {metric} is {error:.4f} by the law {formula}"]
    for prediction, times in ((twice, "twice"), (five, "five times")):
        between = f"95 % {prediction.low:.4f} to {prediction.high:.4f}"
        sentences.append(
            f"with {prediction.pages:,} pages ({times} as many) it would be {prediction.error:.4f} "
            f"({between})"
        )
    gain = (error - twice.error) / error if error else 0.0
    if twice.high < error * (1 - FLAT):
        sentences.append(f"more pages help: twice as many would take away about {gain:.0%} of the error")
    elif error - twice.low <= FLAT * error:
        sentences.append(
            f"the curve has flattened: twice as many pages would change less than {FLAT:.0%} of the error"
        )
    else:
        sentences.append(
            "it cannot be told whether more pages help: the interval of twice as many holds both"
        )
    return sentences
