"""Answers that join and leave while others grow: each as if it were alone; and tokens by chance."""

import numpy as np
import paddle
import pytest

import got_train.modeling.kv_cache as kv_cache
from got_train.errors import GenerationError
from got_train.generation.generate import generate
from got_train.generation.hypothesis import Hypothesis
from got_train.generation.no_repeat_ngram import NoRepeatNGram, NoRepeatNGramProcessor
from got_train.generation.running_batch import RunningBatch
from got_train.generation.sampling import Sampler
from got_train.modeling.cpu.accelerate import accelerate

IMAGE = 39


@pytest.fixture(params=["qwen2", "qwen2 accelerated", "opt", "opt accelerated"])
def model(request, random_model):
    kind, _, accelerated = request.param.partition(" ")
    made = random_model(kind, seed=5, decoder={"max_positions": 160})
    with paddle.no_grad():
        made.decoder.head[IMAGE] = 0.0  # never the most probable
    if accelerated:
        accelerate(made)
    return made


def prompt(length, views, seed):
    words = np.random.default_rng(seed).integers(2, IMAGE, length).tolist()
    return [*words[:2], *[IMAGE] * (4 * views), *words[2:]]


def views(count, seed):
    made = np.random.default_rng(seed).integers(0, 256, (count, 64, 64, 3)).astype(np.uint8)
    return made if count else None


SIZES = [(6, 1), (40, 0), (3, 2), (12, 1), (90, 0), (5, 1)]  # words and views
PROMPTS = [(prompt(words, seen, row), views(seen, row)) for row, (words, seen) in enumerate(SIZES)]


def answer(ids, tokens, size=0, sampler=None):
    return Hypothesis(
        tokens, frozenset(), NoRepeatNGramProcessor(NoRepeatNGram(size=size), ids), None, sampler
    )


def alone(model, row, tokens, size=0):
    ids, seen = PROMPTS[row]
    return generate(
        model, np.array([ids]), seen, max_new_tokens=tokens, eos_token_ids=(), no_repeat_ngram=size
    )


def join(batch, rows, tokens, size=0):
    made = [answer(PROMPTS[row][0], tokens[row], size) for row in rows]
    length = max(len(PROMPTS[row][0]) for row in rows)
    gaps = [length - len(PROMPTS[row][0]) for row in rows]
    ids = np.array([[0] * gap + PROMPTS[row][0] for gap, row in zip(gaps, rows, strict=True)])
    mask = np.array([[0] * gap + [1] * (length - gap) for gap in gaps])
    seen = [PROMPTS[row][1] for row in rows if PROMPTS[row][1] is not None]
    batch.join(made, ids, np.concatenate(seen) if seen else None, mask)
    return made


@pytest.mark.parametrize(("size", "block"), [(0, 8), (2, 64)])
def test_answers_that_join_and_leave_at_any_token_are_those_they_are_alone(model, size, block, monkeypatch):
    monkeypatch.setattr(kv_cache, "CACHE_BLOCK", block)
    tokens = [30, 9, 22, 17, 5, 40]
    arrivals = {0: [0], 3: [1, 2], 4: [3], 20: [4], 26: [5]}  # the longest prompt comes and goes in the midst
    batch, made, heard, step = RunningBatch(model), {}, {}, 0
    while batch.answers or step <= max(arrivals):
        rows = arrivals.get(step, ())
        for row, joined in zip(rows, join(batch, rows, tokens, size) if rows else (), strict=True):
            made[row], heard[id(joined)] = joined, []
        for grown, token in batch.step():
            heard[id(grown)].append(token)
        step += 1
    for row, joined in made.items():
        expected = alone(model, row, tokens[row], size)
        assert joined.ids == heard[id(joined)] == expected.ids[0]
        assert joined.finish_reason == "length"
        difference = np.abs(np.subtract(joined.log_probs, expected.log_probs[0])).max()
        assert difference < 1e-5, difference


def test_an_answer_that_is_given_up_leaves_and_its_neighbours_go_on(model):
    batch = RunningBatch(model)
    first, second, third = join(batch, [0, 1, 2], [20] * 3)
    batch.leave([second])  # before its first token
    assert [len(batch.step()) for _ in range(4)] == [2] * 4
    batch.leave([first])
    (late,) = join(batch, [3], [0, 0, 0, 20])
    while batch.answers:
        batch.step()
    assert (len(second.ids), first.ids) == (0, alone(model, 0, 4).ids[0])
    assert [third.ids, late.ids] == [alone(model, row, 20).ids[0] for row in (2, 3)]


def test_the_cache_is_as_long_as_its_longest_row_once_others_join(model):
    batch = RunningBatch(model)
    join(batch, [4], [0, 0, 0, 0, 3])
    join(batch, [0], [30])
    assert batch.state.cache.length == 90
    for _ in range(3):
        batch.step()
    join(batch, [2], [0, 0, 30])  # the long one has gone: 10 tokens of its prompt, 3 of its answer
    assert (len(batch.answers), batch.state.cache.length) == (2, 13)


def test_tokens_are_drawn_as_often_as_the_temperature_says():
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05], dtype=np.float32))
    sampler, count = Sampler(0.5, seed=3), 20_000
    seen = np.bincount([sampler.draw(logits) for _ in range(count)], minlength=4) / count
    expected = np.array([0.25, 0.09, 0.0225, 0.0025]) / 0.365  # p ** 2
    assert np.abs(seen - expected).max() < 0.01
    some = Sampler(1.0, top_p=0.6, seed=3)
    seen = np.bincount([some.draw(logits) for _ in range(count)], minlength=4) / count
    assert np.abs(seen - np.array([0.625, 0.375, 0, 0])).max() < 0.01
    assert {Sampler(0.01, seed=seed).draw(logits) for seed in range(50)} == {0}


def test_a_seed_gives_the_same_tokens_in_any_company(random_model):
    model = random_model(seed=5)
    ids = PROMPTS[0][0]

    def drawn(company, seed):
        batch = RunningBatch(model)
        made = answer(ids, 12, sampler=Sampler(1.0, seed=seed))
        if company:
            join(batch, [3], [0, 0, 0, 20])
            batch.step()
        batch.join([made], np.array([ids]), views(1, 0), np.ones((1, len(ids)), "int64"))
        while not made.finish_reason:
            batch.step()
        return made.ids

    assert drawn(False, 1) == drawn(True, 1) != drawn(False, 2)


def test_banned_tokens_are_never_drawn_and_minus_infinity_is_no_chance():
    logits = np.array([0.0, -np.inf, 0.0], dtype=np.float32)
    assert {Sampler(2.0, seed=seed).draw(logits) for seed in range(50)} == {0, 2}


@pytest.mark.parametrize(
    ("given", "message"),
    [({"temperature": 0}, "temperature: 0"), ({"temperature": 1, "top_p": 0}, "top_p: 0")],
)
def test_a_sampler_without_chance_is_refused(given, message):
    with pytest.raises(GenerationError, match=f"^{message}; expected above 0"):
        Sampler(**given)
