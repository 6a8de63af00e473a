"""Preferences: the loss by hand, a run that learns its pairs, what has no pair is refused."""

import json

import numpy as np
import paddle
import pytest

from got_train.config.loader import load_config
from got_train.data.records import read_records
from got_train.errors import ConfigError
from got_train.training import run
from got_train.training.rl.preferences import preference_loss
from got_train.training.rl.rows import log_probs_at

DPO = ("rl.objective=dpo", "train.max_steps=16")


@pytest.fixture
def pairs(fit, tmp_path):
    """`fit` starts from a model of two steps, and every row has a rejected answer."""
    base = tmp_path / "base"
    run.train(load_config(fit.path, [f"train.output_dir={base}", "train.max_steps=2"]))
    settings = json.loads(fit.path.read_text())
    fit.path.write_text(json.dumps(settings | {"model": {"init_from": str(base / "final")}}))
    rows = [json.loads(line) for line in (tmp_path / "data.jsonl").read_text().splitlines()]
    changed = [json.dumps({**row, "rejected": row["text"][::-1] + "x"}) + "\n" for row in rows]
    (tmp_path / "data.jsonl").write_text("".join(changed))
    return fit


def test_the_loss_and_its_gradient_are_those_worked_out_by_hand():
    """Margins 2 and -1, beta 0.5: -log s(1), -log s(-0.5); by chosen -beta (1 - s), rejected the opposite."""
    sums = paddle.to_tensor([-3.0, -6.0, -4.0, -5.0], stop_gradient=False)
    loss = preference_loss(sums, paddle.to_tensor([-4.0, -5.0, -3.0, -5.0]), 0.5)
    sigmoid = 1 / (1 + np.exp(-np.array([1.0, -0.5])))
    assert np.allclose(loss.numpy(), -np.log(sigmoid), atol=1e-6)
    loss.sum().backward()
    pull = 0.5 * (1 - sigmoid)
    assert np.allclose(sums.grad.numpy(), [-pull[0], pull[0], -pull[1], pull[1]], atol=1e-6)


def test_a_run_makes_what_was_corrected_likelier_than_what_it_replaced(pairs):
    made = pairs(*DPO)
    assert made.losses[0] == pytest.approx(np.log(2), abs=1e-5)  # the start itself: no margin yet
    assert made.losses[-1] < 0.6
    loader = made.trainer.loader
    batch = next(iter(loader))
    now = log_probs_at(loader.loss.got, batch, batch["answered"]).sum(axis=1).numpy()
    gained = now - batch["start_sums"].numpy()
    assert (gained[0::2] > gained[1::2]).mean() > 0.9


def test_a_row_without_a_rejected_answer_stops_the_run_by_its_name(fit, tmp_path):
    base = tmp_path / "base"
    run.train(load_config(fit.path, [f"train.output_dir={base}", "train.max_steps=1"]))
    with pytest.raises(ConfigError, match="which is empty; name a model that reads"):
        load_config(fit.path, DPO)
    settings = json.loads(fit.path.read_text())
    fit.path.write_text(json.dumps(settings | {"model": {"init_from": str(base / "final")}}))
    with pytest.raises(Exception, match=r"data.jsonl:\d+: no rejected answer; rl.objective=dpo"):
        fit(*DPO)


def test_the_rejected_answer_is_read_with_its_row(pairs, tmp_path):
    first = read_records(tmp_path / "data.jsonl")[0]
    assert first.rejected == first.text[::-1] + "x"
