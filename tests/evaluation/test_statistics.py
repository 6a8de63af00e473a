"""Intervals and tests against golden values, SciPy and values worked by hand."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest

from got_train.errors import EvaluationError
from got_train.evaluation import statistics
from got_train.evaluation.statistics import holm, interval, intervals, mcnemar, paired, paired_rates

GOLDEN = json.loads((Path(__file__).parents[1] / "fixtures/metrics_golden_statistics.json").read_text())
FIRST, SECOND = GOLDEN["paired_scores_a"], GOLDEN["paired_scores_b"]


def golden(beginning):
    return next(value for key, value in GOLDEN.items() if key.startswith(beginning))


def test_the_paired_difference_meets_the_golden_values():
    found = paired(SECOND, FIRST)
    assert found.mean == pytest.approx(golden("mean_diff"), abs=1e-12)
    assert (found.low, found.high) == pytest.approx(golden("bootstrap_mean_diff"), abs=1e-12)
    assert found.p == golden("exact_sign_flip_p")
    assert (found.higher, found.equal, found.lower) == (8, 1, 1)


def test_the_interval_of_a_micro_average_meets_the_golden_value():
    micro = GOLDEN["micro_CER"]
    bounds = next(value for key, value in micro.items() if key.startswith("bootstrap"))
    assert interval(micro["edits"], micro["lengths"]) == pytest.approx(bounds, abs=1e-12)


def test_mcnemar_meets_the_golden_value_and_scipys_binomial_test():
    from scipy.stats import binomtest

    case = GOLDEN["mcnemar"]
    assert mcnemar(case["a"], case["b"]) == (case["n01"], case["n10"], case["exact_p"])
    won, lost, p = mcnemar([0] * 9 + [1] * 3, [1] * 9 + [0, 1, 1])
    assert (won, lost) == (9, 1)
    assert p == pytest.approx(binomtest(1, 10, 0.5).pvalue, abs=1e-15)
    assert mcnemar([1, 0], [1, 0]) == (0, 0, 1.0)


def test_drawing_in_pieces_changes_nothing(monkeypatch):
    whole = paired(FIRST * 3, SECOND * 3)
    monkeypatch.setattr(statistics, "_CELLS", 1000)
    assert paired(FIRST * 3, SECOND * 3) == whole


def test_many_sign_flips_agree_with_scipys_permutation_test():
    from scipy.stats import permutation_test

    change = np.random.default_rng(3).normal(0.2, 1, 40)
    expected = permutation_test(
        (change,), np.mean, permutation_type="samples", n_resamples=20_000, rng=np.random.default_rng(1)
    )
    assert paired(np.zeros(40), change).p == pytest.approx(expected.pvalue, abs=0.02)


def test_rows_of_one_document_are_drawn_together():
    """Ten documents of five equal rows: as sure as ten rows, not as fifty."""
    values = np.arange(10) / 10
    alone = interval(values)
    together = interval(np.repeat(values, 5), clusters=np.repeat(np.arange(10), 5).tolist())
    assert together == pytest.approx(alone, abs=1e-12)
    low, high = interval(np.repeat(values, 5))
    assert high - low < 0.5 * (alone[1] - alone[0])
    assert paired(np.zeros(50), np.repeat(values, 5), clusters=np.repeat(np.arange(10), 5).tolist()).p == (
        paired(np.zeros(10), values).p
    )


def test_columns_are_those_of_their_own_and_missing_values_do_not_count():
    values = np.array([[0.1, 1.0], [0.4, 0.0], [0.2, 0.0], [0.9, 3.0]])
    there = np.array([[1.0, 1.0], [1.0, 0.0], [1.0, 1.0], [1.0, 1.0]])
    both = intervals(values, there)
    assert both[0] == pytest.approx(interval(values[:, 0]), abs=1e-12)
    assert both[1][0] == pytest.approx(0.0, abs=1e-12)
    assert both[1][1] == pytest.approx(3.0, abs=1e-12)


def test_holm_is_as_worked_by_hand():
    """0.01 x 4; 0.03 x 3; 0.04 x 2 = 0.08 is raised to the 0.09 before it; 0.5 x 1."""
    assert holm([0.03, 0.5, 0.01, 0.04]) == pytest.approx([0.09, 0.5, 0.04, 0.09])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_equal_runs_have_no_difference():
    found = paired(FIRST, FIRST)
    assert (found.mean, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 1.0)
    assert (found.higher, found.equal, found.lower) == (0, 10, 0)


def test_numbers_that_do_not_belong_together_are_refused():
    with pytest.raises(EvaluationError, match="^paired: 2 and 1 values"):
        paired([1, 2], [1])
    with pytest.raises(EvaluationError, match="^clusters: 1 for 2 rows"):
        interval([1, 2], clusters=["a"])
    with pytest.raises(EvaluationError, match="no values"):
        paired([], [])
    assert all(map(math.isnan, intervals(np.zeros((2, 1)), np.zeros((2, 1)))[0]))


def test_rates_are_compared_over_all_text_and_exchanged_by_document():
    """Three documents of 10, 20 and 70 characters: 5+2+7 errors become 1+2+0, so 0.14 becomes 0.03.

    Of the eight exchanges only those that move both changed documents the same way reach 0.11: four of eight.
    """
    first, second = [(5, 10), (2, 20), (7, 70)], [(1, 10), (2, 20), (0, 70)]
    difference, before, after = paired_rates(first, second)
    assert (before, after) == pytest.approx((0.14, 0.03))
    assert difference.mean == pytest.approx(-0.11)
    assert difference.p == 4 / 8
    assert (difference.higher, difference.equal, difference.lower) == (0, 1, 2)
    assert difference.low == pytest.approx(-0.4)  # the first document three times


def test_rates_with_other_denominators_meet_a_loop_over_all_exchanges():
    random = np.random.default_rng(5)
    first, second = random.integers(1, 30, (2, 9, 2))
    documents = [0, 0, 1, 2, 3, 3, 4, 5, 6]
    difference, before, after = paired_rates(first, second, documents)
    reached = []
    for exchanged in itertools.product((False, True), repeat=7):
        swapped = [exchanged[document] for document in documents]
        sides = [
            (other, one) if swap else (one, other)
            for one, other, swap in zip(first, second, swapped, strict=True)
        ]
        rates = [sum(row[side][0] for row in sides) / sum(row[side][1] for row in sides) for side in (0, 1)]
        reached.append(abs(rates[1] - rates[0]) >= abs(after - before) - 1e-12)
    assert difference.p == pytest.approx(np.mean(reached), abs=1e-12)
    assert difference.clusters == 7


def test_edits_over_no_characters_are_an_error_of_one():
    difference, before, after = paired_rates([(0, 0)] * 6, [(3, 0)] * 6)
    assert (before, after, difference.higher) == (0.0, 1.0, 6)
