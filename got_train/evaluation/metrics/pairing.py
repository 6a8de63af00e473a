"""Which of several tables, formulas or molecules of an answer belongs to which of the reference.

Knows strings; knows no metric.
"""

from __future__ import annotations

from collections.abc import Sequence

from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist

Paired = list[tuple[str | None, str | None]]  # (of the answer, of the reference); None: it has no partner


def best_pairs(predicted: Sequence[str], expected: Sequence[str]) -> Paired:
    """The pairs that have least to edit all together, in the reference's order; then what is left over.

    Each string is in one pair, so a missing one and an invented one count as much as one that is there.
    """
    if len(predicted) == len(expected) == 1:
        return [(predicted[0], expected[0])]
    partners: dict[int, int] = {}
    if predicted and expected:
        from scipy.optimize import linear_sum_assignment  # imported here because it takes long to load

        costs = cdist(expected, predicted, scorer=Levenshtein.normalized_distance)
        partners = {int(row): int(column) for row, column in zip(*linear_sum_assignment(costs), strict=True)}
    pairs: Paired = [
        (predicted[partners[row]] if row in partners else None, text) for row, text in enumerate(expected)
    ]
    taken = {*partners.values()}
    return [*pairs, *((text, None) for column, text in enumerate(predicted) if column not in taken)]
