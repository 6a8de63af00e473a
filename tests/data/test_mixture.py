"""The order of records: a function of seed and place alone, every row once an epoch, shares exact."""

import json
import pickle
from collections import Counter

import numpy as np
import pytest

from got_train.config.loader import build
from got_train.config.schema import Config
from got_train.data.mixture import BLOCK, Mixture, replay_subset, subsample
from got_train.errors import ConfigError
from got_train.training import run
from got_train.training.loader import BatchSchedule


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
    plans = [BatchSchedule(6, 8, 2, rank, ranks) for rank in range(ranks)]
    for step in range(6):
        drawn = [
            mixture[draw]
            for plan in plans
            for part in range(plan.accumulation)
            for draw in plan.sample_indices(step, part)
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
        ((rows(2, 2), [1.0]), "data.train: 1 weights for 2 sources; expected one for each"),
        (([[0]] * 1001, [1.0] * 1001), "data.train: 1001 weighted sources; expected at most 1000"),
    ],
)
def test_a_mixture_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Mixture(*arguments)


def test_a_negative_draw_is_refused():
    with pytest.raises(IndexError, match="draw -1: draws are counted from 0"):
        Mixture(rows(3))[-1]


# Replay and validation.


def test_replay_is_a_share_of_the_rows_by_seed_and_the_same_in_every_epoch():
    new, former = rows(30, 50)
    chosen = list(replay_subset(former, 0.8, seed=4, source=0))
    assert len(chosen) == len(set(chosen)) == 40
    assert chosen == list(replay_subset(former, 0.8, seed=4, source=0))
    assert chosen != list(replay_subset(former, 0.8, seed=5, source=0))
    assert chosen != list(replay_subset(former, 0.8, seed=4, source=1))
    assert chosen == sorted(chosen, key=former.index)
    mixture = Mixture([new, replay_subset(former, 0.8, 4, 0)], seed=4)
    for epoch in (0, 1, 7):
        assert sorted(mixture[70 * epoch + draw] for draw in range(70)) == sorted(new + chosen)


def test_every_row_is_as_likely_to_be_replayed():
    counts = np.zeros(20)
    for seed in range(400):
        counts[list(replay_subset(range(20), 0.25, seed, 0))] += 1
    assert counts.sum() == 400 * 5
    assert counts.min() > 60  # of 100 expected; 4.6 deviations
    assert counts.max() < 140


@pytest.mark.parametrize(("share", "count"), [(1, 7), (0.5, 4), (0.01, 1)])
def test_replay_of_few_rows_is_rounded_and_at_least_one(share, count):
    assert len(replay_subset(range(7), share, 0, 0)) == count


def test_validation_rows_are_spread_evenly_over_all_sources():
    chosen = list(subsample([range(700), range(700, 1000)], 100, seed=1))
    assert len(chosen) == 100
    assert set(np.diff(chosen)) == {10}
    assert 0 <= chosen[0] < 10
    assert chosen == list(subsample([range(1000)], 100, seed=1))
    assert len({subsample([range(1000)], 10, seed)[0] for seed in range(9)}) > 3
    assert list(subsample([range(5)], 5, 0)) == list(range(5))
    assert list(subsample([range(7)], 5, 0)) == sorted(set(subsample([range(7)], 5, 0)))


@pytest.fixture
def config(tmp_path):
    """A function: a config over files of 4 and 10 rows."""
    for name, count in (("new", 4), ("old", 10)):
        lines = [{"images": ["a.png"], "task": "ocr", "text": f"{name}{row}"} for row in range(count)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    def make(steps=0, **data):
        for key in ("train", "replay", "validation"):
            for source in data.get(key, ()):
                source["path"] = f"{tmp_path}/{source['path']}"
        return build(Config, {"data": data, "train": {"max_steps": steps, "seed": 3, "batch_size": 2}})

    return make


def test_the_config_says_what_is_mixed_replayed_and_validated(config):
    made = config(
        train=[{"path": "new.jsonl"}], replay=[{"path": "old.jsonl"}], validation=[{"path": "*.jsonl"}]
    )
    mixture = run.build_mixture(made)
    assert (mixture.rows, mixture.total, run.count_steps(made, mixture.total)) == ([4, 8], 12, 6)
    texts = [mixture[draw].text for draw in range(12)]
    assert sorted(text[:3] for text in texts) == ["new"] * 4 + ["old"] * 8
    assert [record.text for record in run.build_validation(made)][::4] == ["new0", "old0", "old4", "old8"]
    assert run.build_validation(config()) is None
    few = config(validation=[{"path": "old.jsonl"}], validation_rows=3)
    assert len(run.build_validation(few)) == 3
    with pytest.raises(ConfigError, match="data.train: no data; give a file of records"):
        run.build_mixture(few)


def test_weighted_replay_has_its_share_of_rows_and_its_weight_in_draws(config):
    replay = [{"path": "old.jsonl", "weight": 1}]
    mixture = run.build_mixture(
        config(train=[{"path": "new.jsonl", "weight": 3}], replay=replay, replay_share=0.5)
    )
    draws = Counter(mixture[draw].text for draw in range(BLOCK))
    assert sum(count for text, count in draws.items() if text[:3] == "old") == 250
    assert len(draws) == 4 + 5


def test_a_streamed_source_needs_steps(config):
    train = [{"path": "old.jsonl", "weight": 1, "streaming": True}]
    made = config(train=[dict(source) for source in train], steps=5)
    assert {run.build_mixture(made)[draw].text for draw in range(10)} == {f"old{row}" for row in range(10)}
    assert run.count_steps(made, None) == 5
    with pytest.raises(
        ConfigError, match=r"^data.train\[0\].streaming: its rows are not counted, .*train.max_steps"
    ):
        run.build_mixture(config(train=train))


def test_a_source_is_read_as_its_settings_say(config, tmp_path):
    row = {"page": "a.png", "truth": "", "lang": "en"}
    (tmp_path / "named.jsonl").write_text(json.dumps(row) + "\n")
    columns = {"images": "page", "text": "truth"}
    source = {
        "path": "named.jsonl",
        "columns": columns,
        "task": "format",
        "allow_empty": True,
        "image_root": "r",
    }
    record = run.build_mixture(config(train=[source]))[0]
    assert (record.images, record.task, record.text) == (("r/a.png",), "format", "")
