"""The order of records: a function of seed and place alone, every row once an epoch, shares exact."""

import pickle
from collections import Counter

import numpy as np
import pytest

from got_train.data.mixture import BLOCK, Mixture
from got_train.training.loader import StepPlan


def rows(*counts, names="abcdefgh"):
    return [[f"{name}{row}" for row in range(count)] for name, count in zip(names, counts, strict=False)]


def test_every_row_of_every_source_comes_once_an_epoch():
    mixture = Mixture(rows(7, 1, 30))
    assert len(mixture) == 38
    everything = sorted(mixture[draw] for draw in range(38))
    for epoch in (1, 2, 40):
        assert (
            sorted(mixture[38 * epoch + place] for place in range(38))
            == everything
            == sorted(sum(rows(7, 1, 30), []))
        )


def test_epochs_and_seeds_differ_in_order():
    mixture, other = Mixture(rows(50)), Mixture(rows(50), seed=1)
    orders = [[mixture[epoch * 50 + place] for place in range(50)] for epoch in range(3)]
    orders.append([other[place] for place in range(50)])
    assert len({tuple(order) for order in orders}) == 4


@pytest.mark.parametrize("weights", [None, [1, 2]])
def test_a_draw_is_the_same_whatever_was_drawn_before(weights):
    draws = [0, 5, 4999, 3, 1000, 999, 77777, 0]
    forward = Mixture(rows(40, 60), weights, seed=3)
    known = {draw: forward[draw] for draw in sorted(draws)}
    for draw in draws:
        assert Mixture(rows(40, 60), weights, seed=3)[draw] == known[draw] == forward[draw]


def test_the_order_is_that_of_this_version_for_good():
    """Resuming a run of an earlier version depends on it."""
    assert [Mixture(rows(5, 5), seed=42)[draw] for draw in range(12)] == [
        "b0",
        "b1",
        "a0",
        "b2",
        "a3",
        "a2",
        "a4",
        "b4",
        "a1",
        "b3",
        "b2",
        "a3",
    ]
    weighted = Mixture(rows(5, 5), [1, 3], seed=42)
    assert [weighted[draw] for draw in range(995, 1007)] == [
        "b4",
        "b0",
        "b2",
        "a3",
        "a4",
        "b3",
        "b2",
        "a0",
        "b4",
        "b0",
        "b1",
        "a2",
    ]


@pytest.mark.parametrize(
    ("weights", "shares"),
    [
        ([1, 1], [500, 500]),
        ([1, 2], [333, 667]),
        ([0.8, 0.2], [800, 200]),
        ([1.3, 5.6, 3.2], [129, 554, 317]),
        ([1, 1, 1, 1, 1, 1, 1], [143, 143, 143, 143, 143, 143, 142]),
        ([1e-9, 1], [1, 999]),
        ([1e-9, 1e-9, 1], [1, 1, 998]),
    ],
)
def test_shares_are_exact_in_every_block_of_a_thousand(weights, shares):
    mixture = Mixture(rows(*[9] * len(weights)), weights, seed=5)
    for block in (0, 1, 77):
        counts = Counter(mixture.place(draw)[0] for draw in range(BLOCK * block, BLOCK * (block + 1)))
        assert [counts[source] for source in range(len(weights))] == shares


def test_each_weighted_source_goes_through_its_rows_in_epochs():
    mixture = Mixture(rows(300, 7), [1, 1], seed=2)
    places = [mixture.place(draw) for draw in range(6000)]
    for source, count in ((0, 300), (1, 7)):
        drawn = [row for place, row in places if place == source]
        for start in range(0, len(drawn) - count + 1, count):
            assert sorted(drawn[start : start + count]) == list(range(count))


def test_weighted_sources_are_spread_over_the_block():
    sources = [Mixture(rows(9, 9), [1, 1]).place(draw)[0] for draw in range(BLOCK)]
    for start in range(0, BLOCK, 100):
        assert 25 <= sum(sources[start : start + 100]) <= 75


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_the_slices_of_processes_are_the_whole_order(ranks):
    mixture = Mixture(rows(20, 30), [1, 2])
    plans = [StepPlan(6, 8, 2, rank, ranks) for rank in range(ranks)]
    for step in range(6):
        drawn = [
            mixture[draw]
            for plan in plans
            for part in range(plan.accumulation)
            for draw in plan.draws(step, part)
        ]
        assert sorted(drawn) == sorted(mixture[step * 8 + place] for place in range(8))


def test_a_mixture_pickles_small_after_use():
    mixture = Mixture([range(1_000_000), range(500_000)])
    mixture[0], mixture[1_500_000]
    assert len(pickle.dumps(mixture)) < 1000
    assert pickle.loads(pickle.dumps(mixture))[7] == mixture[7]


def test_one_order_of_each_source_is_kept_and_no_more():
    mixture = Mixture(rows(*range(3, 11)), [1] * 8)
    for draw in range(3000):
        mixture.place(draw)
    assert sorted(mixture._orders) == list(range(8))


def test_twelve_sources_of_a_million_rows_are_drawn_from_quickly():
    """An order is drawn once an epoch, not whenever another source comes between."""
    mixture, made = Mixture([range(1_000_000)] * 12, [1] * 12), []
    draw = np.random.default_rng
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np.random, "default_rng", lambda key: made.append(key) or draw(key))
        for place in range(2000):
            mixture.place(place)
    assert len(made) == 12 + 2  # orders and blocks


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "data.train: no sources; give a file of records"),
        ((rows(2, 2), [1.0]), "data.train: 1 weights for 2 sources; one for each"),
        (([[0]] * 1001, [1.0] * 1001), "data.train: 1001 weighted sources; at most 1000"),
    ],
)
def test_a_mixture_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Mixture(*arguments)


def test_a_negative_draw_is_refused():
    with pytest.raises(IndexError, match="draw -1: draws are counted from 0"):
        Mixture(rows(3))[-1]
