"""Several samples in one row: the arrays by hand, and that no sample notices its neighbours."""

import numpy as np
import paddle
import pytest

from got_train.data.collator import Collator, Sample, pack_samples
from got_train.modeling.config import IGNORED
from got_train.training.loss import TrainingLoss

EIGHT = [9, 3, 14, 5, 5, 8, 2, 11]


class Words:
    pad_id = 0


def sample(length, seed, image_token=39, views=1):
    """Words 3.. with four image tokens a view in front, of which the last third is supervised."""
    generator = np.random.default_rng(seed)
    ids = np.concatenate([np.full(4 * views, image_token), generator.integers(3, 30, length)])
    labels = np.where(np.arange(len(ids)) < len(ids) - max(1, length // 3), IGNORED, ids)
    pixels = generator.integers(0, 256, (views, 64, 64, 3), dtype=np.uint8)
    return Sample(ids.astype("int64"), labels.astype("int64"), pixels, location=str(seed))


def batch(samples, packing_length):
    return Collator(Words(), side=64, view_tokens=4, packing_length=packing_length).batch(samples)


@pytest.mark.parametrize(
    ("lengths", "room", "rows"),
    [
        ([3, 5, 2], 0, [[0], [1], [2]]),
        ([3, 5, 2], 5, [[1], [0, 2]]),
        ([3, 5, 2], 100, [[1, 0, 2]]),
        ([3, 5, 2], 1, [[1], [0, 2]]),  # never less than the longest sample
        ([4, 4, 4, 4], 8, [[0, 1], [2, 3]]),
        ([6, 5, 4, 3, 2], 10, [[0, 2], [1, 3, 4]]),
    ],
)
def test_the_longest_goes_first_into_the_first_row_with_room(lengths, room, rows):
    assert pack_samples(lengths, room) == rows


@pytest.mark.parametrize("seed", range(20))
def test_every_sample_has_one_place_and_no_row_is_too_long(seed):
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, 60, generator.integers(1, 40)).tolist()
    rows = pack_samples(lengths, 64)
    assert sorted(place for row in rows for place in row) == list(range(len(lengths)))
    assert all(sum(lengths[place] for place in row) <= 64 for row in rows)


def test_a_packed_row_numbers_its_samples_and_starts_their_positions_anew():
    first, second = sample(3, seed=1), sample(5, seed=2)
    made = batch([first, second], packing_length=20)
    assert made["attention_mask"].tolist() == [[1] * 9 + [2] * 7]
    assert made["position_ids"].tolist() == [[*range(9), *range(7)]]
    assert made["input_ids"].tolist() == [[*second.ids, *first.ids]]
    assert made["labels"].tolist() == [[*second.labels, *first.labels]]
    assert np.array_equal(made["pixel_values"], np.concatenate([second.views, first.views]))


def test_eight_uneven_samples_take_three_rows_of_32_with_little_padding():
    made = batch([sample(length, seed) for seed, length in enumerate(EIGHT)], packing_length=32)
    assert made["input_ids"].shape == (3, 31)  # 18 + 13, 15 + 12 and 9 + 9 + 7 + 6 tokens
    assert (made["attention_mask"] == 0).sum() == 4


@pytest.mark.parametrize("kind", ["qwen2", "opt"])
@pytest.mark.parametrize("pack", [20, 32, 200])
def test_packed_rows_give_the_loss_and_gradients_of_unpacked_ones(random_model, within, kind, pack):
    """Relative to the loss, and to the largest gradient."""
    samples = [sample(length, seed, views=1 + (seed == 3)) for seed, length in enumerate(EIGHT)]

    def trained(pack):
        loss = TrainingLoss(random_model(kind, decoder={"max_positions": 256}), char_loss_weight=0).train()
        arrays = {name: paddle.to_tensor(value) for name, value in batch(samples, pack).items()}
        value = loss(**arrays, step_tokens=1)
        value.backward()
        return float(value), {name: each.grad.numpy() for name, each in loss.named_parameters()}

    (plain, grads), (value, others) = trained(0), trained(pack)
    within("loss, relative", abs(value - plain) / abs(plain), 1e-5)
    gap = max(np.abs(grads[name] - others[name]).max() for name in grads)
    within("gradients, relative", gap / max(np.abs(grad).max() for grad in grads.values()), 1e-5)


@pytest.mark.parametrize("overrides", [[], ["model.decoder.kind=opt", "model.prompt_template=stage1"]])
def test_a_packed_run_equals_a_padded_one(fit, within, overrides):
    """Also with labels of characters, whose views follow their samples into other rows."""
    overrides = [*overrides, "train.char_loss_weight=0.5"]
    plain, made = fit(*overrides), fit(*overrides, "data.packing_length=220")
    within("loss", np.abs(np.subtract(plain.losses, made.losses)).max(), 1e-5)
    within("weights", max(np.abs(plain.after[name] - made.after[name]).max() for name in plain.after), 1e-4)


@pytest.mark.parametrize("overrides", [[], ["model.decoder.kind=opt", "model.decoder.max_positions=128"]])
def test_a_packed_row_may_be_longer_than_the_decoder_has_positions(fit, overrides):
    """It has 128 or 256; 8 samples in one row have more, and each begins at 0."""
    overrides = ["train.max_steps=2", "data.max_tokens=128", *overrides]
    plain, made = fit(*overrides), fit(*overrides, "data.packing_length=2000")
    loader = made.trainer.loader
    samples = [loader.collator.sample(loader.mixture[draw]) for draw in range(8)]
    assert loader.collator.batch(samples)["input_ids"].shape[1] > 256
    assert np.abs(np.subtract(plain.losses, made.losses)).max() <= 1e-5
