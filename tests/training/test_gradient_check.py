"""The audit after the first update: silent on a sound run, and it names each of five ways to be wrong."""

import json
import math

import numpy as np
import paddle
import pytest

from got_train.config.loader import load_config
from got_train.errors import TrainingError
from got_train.modeling.vision import Vision
from got_train.training import optimizer, run, trainer
from got_train.training.callbacks.gradient_check import global_norm, weight_checksum

FROZEN = ("parts.vision.trainable=false", "train.max_steps=1")


def test_a_sound_run_writes_what_each_part_did(fit, tmp_path):
    made = fit(*FROZEN)
    report = json.loads((tmp_path / "run" / "audit.json").read_text())
    assert report["step"] == 1
    vision, projector, decoder = report["parts"]
    sizes = {
        part: len(made.trainer.model.part(part).parameters()) for part in ("vision", "projector", "decoder")
    }
    assert (vision["train"], vision["optimized"], vision["with_gradient"], vision["changed"]) == (
        False,
        0,
        0,
        0,
    )
    assert [part["parameters"] for part in (vision, projector, decoder)] == list(sizes.values())
    assert projector["optimized"] == projector["with_gradient"] == projector["changed"] == 2
    assert decoder["optimized"] == decoder["with_gradient"] == sizes["decoder"]
    changed = [name for name in made.before if (made.before[name] != made.after[name]).any()]
    assert decoder["changed"] == len([name for name in changed if name.startswith("got.decoder")]) > 0


def test_a_part_cut_off_from_the_loss_is_found(fit, monkeypatch):
    """As in the released trainer, whose encoder runs without gradients whatever its flags say."""
    whole = Vision.features
    monkeypatch.setattr(Vision, "features", lambda self, neck_map: whole(self, neck_map).detach())
    message = (
        r"step 1: parts.vision.trainable is true, but only 0 of \d+ parameters got a gradient; the run would"
    )
    with pytest.raises(TrainingError, match=message):
        fit("train.max_steps=2")


def test_a_part_that_the_optimizer_lacks_is_found(fit, monkeypatch):
    whole = optimizer.build_optimizer

    def partial(model, config, schedule, others):
        made = whole(model, config, schedule, others)
        made._parameter_list = [value for value in made._parameter_list if "projector.bias" not in value.name]
        return made

    monkeypatch.setattr(trainer, "build_optimizer", partial)
    message = "parts.projector.trainable is true, but only 1 of 2 parameters are in the optimizer"
    with pytest.raises(TrainingError, match=message):
        fit("train.max_steps=2")


def test_a_part_that_should_stay_but_trains_is_found(fit, monkeypatch):
    policy = load_config(fit.path)
    monkeypatch.setattr(trainer, "freeze", lambda model, config: None)
    whole = optimizer.build_optimizer
    monkeypatch.setattr(
        trainer, "build_optimizer", lambda model, config, *others: whole(model, policy, *others)
    )
    message = r"parts.vision.trainable is false, but (\d+) of \1 parameters are in the optimizer"
    with pytest.raises(TrainingError, match=message):
        fit(*FROZEN)


def test_a_frozen_part_that_gets_a_gradient_is_found(fit, monkeypatch):
    """It would cost time and memory, and weigh in the norm that all gradients are clipped by."""
    monkeypatch.setattr(trainer, "freeze", lambda model, config: None)
    with pytest.raises(
        TrainingError, match=r"parts.vision.trainable is false, but (\d+) of \1 parameters got a gradient"
    ):
        fit(*FROZEN)


def test_an_update_that_changes_nothing_is_found(fit, monkeypatch):
    monkeypatch.setattr(optimizer.AdamW, "step", lambda self: None)
    message = (
        r"step 1: parts.vision.trainable is true, but none of \d+ parameters has changed; "
        r"parts.projector.trainable is true, but none of 2 .*; parts.decoder.trainable is true, but none of "
    )
    with pytest.raises(TrainingError, match=message):
        fit("train.max_steps=2")


def test_the_run_is_stopped_before_a_checkpoint_is_written(fit, tmp_path, monkeypatch):
    monkeypatch.setattr(optimizer.AdamW, "step", lambda self: None)
    with pytest.raises(TrainingError):
        run.train(load_config(fit.path, ["train.save_steps=1"]))
    assert not list((tmp_path / "run").glob("checkpoint-*"))
    assert (tmp_path / "run" / "audit.json").exists()


def test_a_single_changed_bit_changes_the_fingerprint(random_model):
    weight = random_model().projector.weight
    before = weight_checksum(weight)
    assert weight_checksum(weight) == before
    values = weight.numpy().copy()
    values.view("int32")[0, 0] ^= 1
    weight.set_value(values)
    assert weight_checksum(weight) != before


def test_the_norm_of_30_million_numbers_is_numpys_in_float64_to_1e_6():
    paddle.seed(0)
    grads = [paddle.randn([30_000_000]), paddle.full([3, 4], 2000.0), paddle.ones([1], "bfloat16")]
    true = math.sqrt(sum(np.square(grad.astype("float32").numpy(), dtype="float64").sum() for grad in grads))
    assert abs(global_norm(grads) / true - 1) < 1e-6
    assert math.isnan(global_norm([*grads, paddle.full([2], math.nan)]))
    assert math.isinf(global_norm([*grads, paddle.full([2], math.inf)])) and global_norm([]) == 0
