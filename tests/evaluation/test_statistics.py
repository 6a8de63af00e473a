"""Intervals and tests against golden values, SciPy and values worked by hand."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from got_train.errors import EvaluationError
from got_train.evaluation import statistics
from got_train.evaluation.statistics import holm, interval, intervals, mcnemar, paired

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
