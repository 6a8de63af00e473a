"""Decoding against transformers' own tokens, against full forward passes, and row by row against batches."""

import math
from pathlib import Path

import numpy as np
import paddle
import pytest
from safetensors import safe_open

import got_train.generation.decode as decode
import got_train.generation.running_batch as running_batch
import got_train.modeling.kv_cache as kv_cache
from got_train.checkpoint.weights import load_model
from got_train.errors import GenerationError
from got_train.generation.generate import generate
from got_train.generation.no_repeat_ngram import NoRepeatNGram, NoRepeatNGramProcessor
from got_train.generation.repetition import RepetitionDetector, RepetitionRule
from got_train.modeling.config import DecoderConfig, GotConfig, VisionConfig
from got_train.modeling.cpu.accelerate import accelerate
from got_train.modeling.got import Got
from tests.tiny_models import ENCODER

FIXTURES = Path(__file__).parents[2] / "got_train" / "doctor" / "got_tiny"
CASES = {"single": [0], "multi": [0, 1, 2], "batch_left_padded": [0, 1, 2]}  # the views of each
IMAGE = 59


def arrays(name):
    with safe_open(str(FIXTURES / name), "np") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


@pytest.fixture(scope="module", params=["plain", "accelerated"])
def released(request):
    model = load_model(FIXTURES)
    if request.param == "accelerated":
        accelerate(model)
    return model


@pytest.fixture(scope="module")
def expected():
    return arrays("generate.safetensors")


@pytest.fixture(scope="module")
def pixels():
    return arrays("pixels.safetensors")["pixel_values"]


def tiny(kind="qwen2", image_token=IMAGE, **decoder):
    """A random model whose greedy answers wander; 4 tokens a view of 64 x 64 pixels."""
    paddle.seed(7)
    sizes = {"vocab_size": 60, "width": 32, "layers": 2, "heads": 4, "mlp_width": 48, "max_positions": 96}
    if kind == "qwen2":
        sizes["kv_heads"] = 2
    config = GotConfig(
        vision=VisionConfig(**ENCODER),
        decoder=DecoderConfig(kind=kind, **{**sizes, "init_std": 0.3, **decoder}),
        image_token=image_token,
        pad_token=0,
        stop_tokens=(1,),
    )
    model = Got(config).eval()
    with paddle.no_grad():
        model.decoder.head[image_token] = 0.0  # never the most probable; a full pass would want a view for it
    return model


@pytest.fixture(scope="module", params=["qwen2", "qwen2 accelerated", "opt", "opt accelerated"])
def model(request):
    kind, _, accelerated = request.param.partition(" ")
    model = tiny(kind)
    if accelerated:
        accelerate(model)
    return model


def prompt(length, views, seed):
    """`length` words with the image tokens of `views` views after the second."""
    words = np.random.default_rng(seed).integers(2, IMAGE, length).tolist()
    return [*words[:2], *[IMAGE] * (4 * views), *words[2:]]


def some_views(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 64, 64, 3)).astype(np.uint8)


def padded_left(prompts):
    tokens = max(map(len, prompts))
    ids = np.array([[0] * (tokens - len(row)) + row for row in prompts])
    return ids, np.array([[0] * (tokens - len(row)) + [1] * len(row) for row in prompts])


PROMPTS = [prompt(9, 1, 1), prompt(30, 0, 2), prompt(4, 2, 3)]
VIEWS = [1, 0, 2]


def alone(model, row, **options):
    first = sum(VIEWS[:row])
    seen = some_views(3)[first : first + VIEWS[row]] if VIEWS[row] else None
    return generate(model, np.array([PROMPTS[row]]), seen, **options)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("key", "size"), [("greedy", 0), ("greedy_no_repeat_ngram_2", 2)])
def test_the_32_tokens_are_those_of_transformers(released, expected, pixels, case, key, size):
    made = generate(
        released,
        expected[f"{case}.input_ids"],
        pixels[CASES[case]],
        expected[f"{case}.attention_mask"],
        max_new_tokens=32,
        eos_token_ids=(),
        no_repeat_ngram=size,
    )
    assert made.ids == expected[f"{case}.{key}"].tolist()
    assert made.finish_reasons == ["length"] * len(made.ids)


@pytest.mark.parametrize("case", CASES)
def test_the_logits_of_the_first_and_last_token_are_those_of_transformers(
    released, expected, pixels, case, monkeypatch
):
    seen, choose = [], running_batch._choose

    def watched(logits, answers):
        seen.append(logits)
        return choose(logits, answers)

    monkeypatch.setattr(running_batch, "_choose", watched)
    generate(
        released, expected[f"{case}.input_ids"], pixels[CASES[case]], max_new_tokens=32, eos_token_ids=()
    )
    assert len(seen) == 32
    for logits, name in ((seen[0], "first_logits"), (seen[-1], "last_logits")):
        difference = np.abs(logits.numpy() - expected[f"{case}.{name}"]).max()
        assert difference < 5e-5, difference  # transformers' own float32 is 1e-5 from float64


def test_cached_decoding_equals_full_forward_passes_token_by_token(model):
    for row in range(3):
        made = alone(model, row, max_new_tokens=24, eos_token_ids=())
        assert len(set(made.ids[0])) >= 3, "a constant answer would prove little"
        ids = list(PROMPTS[row])
        seen = some_views(3)[sum(VIEWS[:row]) :][: VIEWS[row]] if VIEWS[row] else None
        for token, log_prob in zip(made.ids[0], made.log_probs[0], strict=True):
            with paddle.no_grad():
                views = None if seen is None else paddle.to_tensor(seen)
                logits = model(paddle.to_tensor([ids]), views).logits[0, -1].numpy().astype(np.float64)
            assert token == logits.argmax()
            exact = logits[token] - logits.max() - math.log(np.exp(logits - logits.max()).sum())
            assert log_prob == pytest.approx(exact, abs=1e-5)
            ids.append(token)


@pytest.mark.parametrize("size", [0, 2])
def test_a_left_padded_row_gets_the_tokens_that_it_gets_alone(model, size):
    options = {"max_new_tokens": 40, "no_repeat_ngram": size, "eos_token_ids": ()}
    single = [alone(model, row, **options) for row in range(3)]
    stop = single[0].ids[0][7]  # now rows end at different tokens, and leave the batch
    options["eos_token_ids"] = (stop,)
    single = [alone(model, row, **options) for row in range(3)]
    assert len({len(made.ids[0]) for made in single}) > 1
    ids, mask = padded_left(PROMPTS)
    together = generate(model, ids, some_views(3), mask, **options)
    for row, made in enumerate(single):
        assert together.ids[row] == made.ids[0]
        assert together.finish_reasons[row] == made.finish_reasons[0]
        difference = np.abs(np.subtract(together.log_probs[row], made.log_probs[0])).max()
        assert difference < 1e-5, difference


def test_what_stands_in_the_padding_changes_nothing(model):
    ids, mask = padded_left(PROMPTS)
    for size in (0, 2):
        options = {"max_new_tokens": 12, "eos_token_ids": (), "no_repeat_ngram": size}
        zeros = generate(model, ids, some_views(3), mask, **options)
        fives = generate(model, np.where(mask, ids, 5), some_views(3), mask, **options)
        assert zeros == fives


def test_a_cache_that_grows_every_8_tokens_gives_the_same_tokens(model, monkeypatch):
    once = alone(model, 0, max_new_tokens=40, eos_token_ids=())
    monkeypatch.setattr(kv_cache, "CACHE_BLOCK", 8)
    often = alone(model, 0, max_new_tokens=40, eos_token_ids=())
    assert often.ids == once.ids
    assert often.log_probs[0] == pytest.approx(once.log_probs[0], abs=1e-5)


def test_either_stop_token_ends_a_row_and_stays_as_its_last(model):
    free = alone(model, 0, max_new_tokens=40, eos_token_ids=()).ids[0]
    for place in (0, 3):
        stop = free[place]
        made = alone(model, 0, max_new_tokens=40, eos_token_ids=(58, stop))
        assert made.ids[0] == free[: free.index(stop) + 1]
        assert made.finish_reasons == ["stop"]
        assert len(made.log_probs[0]) == len(made.ids[0])


def test_the_models_own_stop_tokens_are_the_default():
    model = tiny()
    free = generate(model, np.array([PROMPTS[1]]), max_new_tokens=20, eos_token_ids=())
    object.__setattr__(model.config, "stop_tokens", (free.ids[0][4],))
    made = generate(model, np.array([PROMPTS[1]]), max_new_tokens=20)
    assert made.finish_reasons == ["stop"]
    assert len(made.ids[0]) <= 5


def test_positions_end_a_row_at_96_tokens_and_a_prompt_of_96_is_refused(model):
    ids, mask = padded_left([prompt(90, 0, 4), prompt(80, 0, 5)])
    made = generate(model, ids, None, mask, max_new_tokens=4096, eos_token_ids=())
    assert [len(row) for row in made.ids] == [6, 16]
    assert made.finish_reasons == ["length", "length"]
    with pytest.raises(
        GenerationError, match="^prompt: 96 tokens leave no room in the decoder's 96 positions"
    ):
        generate(model, np.array([prompt(96, 0, 4)]))


def test_without_a_limit_an_answer_has_what_the_positions_leave(model):
    assert len(generate(model, np.array([prompt(70, 0, 4)]), eos_token_ids=()).ids[0]) == 26


def test_every_token_is_heard_in_order_and_with_its_row(model):
    ids, mask = padded_left(PROMPTS)
    heard = [[], [], []]
    made = generate(
        model,
        ids,
        some_views(3),
        mask,
        max_new_tokens=9,
        eos_token_ids=(),
        on_token=lambda row, token: heard[row].append(token),
    )
    assert heard == made.ids


def banned_by_definition(ids, size):
    """transformers' NoRepeatNGramLogitsProcessor in plain words: every window whose start is the ids' end."""
    if len(ids) < size:
        return set()
    end = ids[len(ids) + 1 - size :]
    windows = (ids[start : start + size] for start in range(len(ids) - size + 1))
    return {window[-1] for window in windows if window[:-1] == end}


@pytest.mark.parametrize("size", [1, 2, 3, 5, 20])
def test_banned_tokens_are_those_that_complete_an_ngram_again(size):
    random = np.random.default_rng(size)
    for words in (1, 2, 4):
        ids = random.integers(0, words, 60).tolist()
        ngrams = NoRepeatNGramProcessor(NoRepeatNGram(size=size), ids[:7])
        for place in range(7, 60):
            assert set(ngrams.banned_tokens()) == banned_by_definition(ids[:place], size)
            ngrams.add(ids[place])
    assert list(NoRepeatNGramProcessor(NoRepeatNGram(), [1, 1, 1, 1]).banned_tokens()) == []


def test_a_window_forgets_old_ngrams_and_exempt_tokens_are_never_banned():
    random = np.random.default_rng(1)
    ids = random.integers(0, 3, 200).tolist()
    banned = 0
    for window in (4, 9, 40):
        ngrams = NoRepeatNGramProcessor(NoRepeatNGram(size=3, window=window, exempt_tokens={2}), ids[:50])
        for place in range(50, 200):
            seen = ids[max(0, place - window) : place]
            assert set(ngrams.banned_tokens()) == banned_by_definition(seen, 3) - {2}
            banned += len(ngrams.banned_tokens())
            ngrams.add(ids[place])
    assert banned > 200


def test_a_copy_of_an_answer_does_not_change_what_it_came_from():
    ngrams = NoRepeatNGramProcessor(NoRepeatNGram(size=2), [1, 2, 1])
    detector = RepetitionDetector(RepetitionRule(max_unit=2, min_repeats=2, min_tokens=3))
    assert (ngrams.copy().banned_tokens(), detector.excess_tokens([5])) == ([2], 0)
    other, other_detector = ngrams.copy(), detector.copy()
    other.add(3)
    other.add(1)
    assert (other.banned_tokens(), ngrams.banned_tokens()) == ([2, 3], [2])
    assert [other_detector.excess_tokens(ids) for ids in ([5, 5], [5, 5, 5])] == [0, 2]
    assert detector.excess_tokens([5, 6]) == 0


def test_log_probs_are_the_models_own_although_its_favourite_is_banned():
    model = tiny()
    made = alone(model, 1, max_new_tokens=30, eos_token_ids=(), no_repeat_ngram=1)
    with paddle.no_grad():
        logits = model(paddle.to_tensor([PROMPTS[1] + made.ids[0]])).logits[0, len(PROMPTS[1]) - 1 : -1]
    exact = logits - logits.logsumexp(-1, keepdim=True)
    forced = (exact.argmax(-1).numpy() != made.ids[0]).sum()
    assert forced >= 5
    expected = exact.numpy()[np.arange(len(made.ids[0])), made.ids[0]]
    assert made.log_probs[0] == pytest.approx(expected.tolist(), abs=1e-5)


def every_answer(model, prompt, limit, stops):
    """All answers of at most `limit` tokens, with log p of each token by full passes."""
    ended, open_ = [], [((), ())]
    for _ in range(limit):
        grown = []
        for ids, log_probs in open_:
            with paddle.no_grad():
                logits = model(paddle.to_tensor([[*prompt, *ids]])).logits[0, -1].astype("float64")
            exact = (logits - logits.logsumexp()).tolist()
            grown += [((*ids, token), (*log_probs, exact[token])) for token in range(len(exact))]
        ended += [each for each in grown if each[0][-1] in stops]
        open_ = [each for each in grown if each[0][-1] not in stops]
    return ended + open_


@pytest.mark.parametrize("kind", ["qwen2", "opt"])
@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
def test_a_wide_beam_finds_the_best_of_all_answers(kind, penalty):
    model = tiny(kind, image_token=6, vocab_size=7)
    object.__setattr__(model.config, "image_token", 60)  # so that 6 is a token like the others
    prompts = [[2, 4, 3, 2, 5], [3, 3, 4]]
    best = []
    for row in prompts:
        answers = every_answer(model, row, 3, stops={1})
        best.append(max(answers, key=lambda each: sum(each[1]) / len(each[1]) ** penalty))
    ids, mask = padded_left(prompts)
    options = {"max_new_tokens": 3, "eos_token_ids": (1,), "length_penalty": penalty}
    made = generate(model, ids, None, mask, num_beams=49, **options)
    assert [tuple(each) for each in made.ids] == [each for each, _ in best]
    for found, (_, exact) in zip(made.log_probs, best, strict=True):
        assert found == pytest.approx(exact, abs=1e-5)
    assert made.finish_reasons == ["stop" if each[-1] == 1 else "length" for each, _ in best]


def test_several_beams_find_what_greedy_decoding_misses_and_one_is_greedy(model):
    rows = range(3)
    options = {"max_new_tokens": 16, "eos_token_ids": ()}
    greedy = [alone(model, row, **options) for row in rows]
    beams = [alone(model, row, num_beams=4, **options) for row in rows]
    assert [alone(model, row, num_beams=1, **options) for row in rows] == greedy
    totals = [[sum(made.log_probs[0]) for made in each] for each in (greedy, beams)]
    assert all(found >= missed - 1e-5 for missed, found in zip(*totals, strict=True))
    assert any(found > missed + 0.01 for missed, found in zip(*totals, strict=True))


@pytest.mark.parametrize("size", [0, 2])
def test_beams_of_a_left_padded_row_are_those_it_has_alone(model, size):
    options = {"max_new_tokens": 20, "no_repeat_ngram": size, "eos_token_ids": (), "num_beams": 3}
    free = [alone(model, row, **options) for row in range(3)]
    options["eos_token_ids"] = (free[0].ids[0][6], free[1].ids[0][11])  # now rows end at different tokens
    single = [alone(model, row, **options) for row in range(3)]
    assert len({len(made.ids[0]) for made in single}) > 1
    ids, mask = padded_left(PROMPTS)
    together = generate(model, ids, some_views(3), mask, **options)
    assert together.ids == [made.ids[0] for made in single]
    assert together.finish_reasons == [made.finish_reasons[0] for made in single]
    if size:
        for row, made in enumerate(single):
            pairs = list(zip(*[[*PROMPTS[row], *made.ids[0]][start:] for start in (0, 1)], strict=False))
            new = pairs[len(PROMPTS[row]) - 1 :]
            assert len(set(new)) == len(new)
            assert not set(new) & set(pairs[: len(PROMPTS[row]) - 1])


def test_a_beam_search_takes_the_best_answer_that_does_not_loop(released, expected, pixels):
    ids, seen = expected["batch_left_padded.input_ids"], expected["batch_left_padded.attention_mask"]
    options = {"max_new_tokens": 32, "eos_token_ids": (), "num_beams": 2}
    free = generate(released, ids, pixels, seen, **options)
    made = generate(
        released,
        ids,
        pixels,
        seen,
        repetition=RepetitionRule(max_unit=4, min_repeats=10, min_tokens=10),
        **options,
    )
    assert free.ids[1] == [235] * 32
    assert made.finish_reasons == ["length", "length"]
    assert made.ids[1][:10] != [235] * 10
    assert sum(made.log_probs[1]) < sum(free.log_probs[1])


def excess_by_definition(ids, rule):
    """Strip whole units from the end while they repeat; for the shortest unit that counts as a loop."""
    for unit in range(1, rule.max_unit + 1):
        equal = 0
        while unit + equal < len(ids) and ids[-1 - equal] == ids[-1 - equal - unit]:
            equal += 1
        if equal and equal + unit >= max(rule.min_repeats * unit, rule.min_tokens):
            return equal
    return 0


def test_a_loop_is_found_at_the_token_that_completes_it():
    random = np.random.default_rng(3)
    rule = RepetitionRule(max_unit=5, min_repeats=3, min_tokens=8)
    found = 0
    for _ in range(300):
        unit = random.integers(0, 3, random.integers(1, 8)).tolist()
        ids = random.integers(0, 3, 12).tolist() + unit * 6
        detector = RepetitionDetector(rule)
        for end in range(1, len(ids) + 1):
            excess = detector.excess_tokens(ids[:end])
            assert excess == excess_by_definition(ids[:end], rule)
            found += excess > 0
    assert found > 1000


def test_a_loop_is_cut_after_its_first_unit_and_marked(released, expected, pixels):
    made = generate(
        released,
        expected["batch_left_padded.input_ids"],
        pixels,
        max_new_tokens=32,
        eos_token_ids=(),
        repetition=RepetitionRule(max_unit=4, min_repeats=10, min_tokens=10),
    )
    assert made.finish_reasons == ["length", "loop"]
    assert made.ids[0] == expected["batch_left_padded.greedy"][0].tolist()
    assert made.ids[1] == [235]
    assert len(made.log_probs[1]) == 1


def test_a_table_of_12_equal_rows_is_no_loop():
    row = [10, 11, 11, 11, 11, 11, 12, 13]
    detector = RepetitionDetector(RepetitionRule())
    ids = [1, 2, 3, *row * 12]
    assert not any(detector.excess_tokens(ids[:end]) for end in range(1, len(ids) + 1))
    ids += row * 40
    assert any(detector.excess_tokens(ids[:end]) for end in range(100, len(ids) + 1))


def test_the_encoder_sees_each_view_once_and_as_many_as_memory_allows(monkeypatch):
    model = tiny()
    ids, mask = padded_left(PROMPTS)
    together = generate(model, ids, some_views(3), mask, max_new_tokens=8, eos_token_ids=())
    calls, encode = [], model.encode
    monkeypatch.setattr(model, "encode", lambda views: (calls.append(views.shape[0]), encode(views))[1])
    grid = model.config.vision.grid
    for at_once, counts in ((1, [1, 1, 1]), (2, [2, 1]), (50, [3])):
        calls.clear()
        monkeypatch.setattr(decode, "ENCODER_BYTES", at_once * 4 * 2 * grid**4)
        apart = generate(model, ids, some_views(3), mask, max_new_tokens=8, eos_token_ids=())
        assert calls == counts
        assert apart.ids == together.ids


def test_dropout_is_off_while_decoding_and_layers_keep_their_modes():
    model = tiny("opt", dropout=0.5)
    model.train()
    model.vision.eval()
    before = [layer.training for layer in model.sublayers(include_self=True)]
    first, second = (generate(model, np.array([PROMPTS[1]]), max_new_tokens=8) for _ in range(2))
    assert first == second
    assert [layer.training for layer in model.sublayers(include_self=True)] == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pixel_values": some_views(2)}, "^input_ids: 4 image tokens, but 2 views give 8"),
        ({"pixel_values": None}, "^input_ids: 4 image tokens, but 0 views give 0"),
        ({"attention_mask": np.ones((1, 3))}, r"^attention_mask: shape \[1, 3\]; expected that of input_ids"),
        ({"attention_mask": np.array([[1] * 12 + [0]])}, "^attention_mask: not zeros followed by ones"),
        ({"attention_mask": np.array([[1] * 6 + [2] * 7])}, "^attention_mask: not zeros followed by ones"),
        ({"input_ids": np.array([1, 2])}, r"^input_ids: shape \[2\]; expected rows of tokens"),
        ({"max_new_tokens": 0}, "^max_new_tokens: 0; expected 1 or more"),
        ({"no_repeat_ngram": -1}, "^no_repeat_ngram: n-grams of -1; expected 0"),
        (
            {"no_repeat_ngram": NoRepeatNGram(size=9, window=8)},
            "^no_repeat_ngram: a window of 8 holds no n-gram of 9",
        ),
        ({"num_beams": 0}, "^num_beams: 0; expected 1 or more"),
        ({"num_beams": 2, "on_token": print}, "^num_beams: 2 with on_token: no token of a beam is certain"),
    ],
)
def test_wrong_arguments_are_refused(change, message):
    right = {"input_ids": np.array([PROMPTS[0]]), "pixel_values": some_views(1)}
    with pytest.raises(GenerationError, match=message):
        generate(tiny(), **{**right, **change})


def test_weights_that_give_no_numbers_are_refused():
    model = tiny()
    model.projector.bias.set_value(paddle.full_like(model.projector.bias, math.nan))
    with pytest.raises(GenerationError, match="^token 1: the logits hold nan or inf"):
        alone(model, 0)
