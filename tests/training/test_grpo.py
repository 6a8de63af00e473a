"""Reinforcement: the objective by hand, sampling and training agree, a bandit, exact resume, the guard."""

import json
import shutil

import numpy as np
import paddle
import pytest

from got_train.config.loader import load_config
from got_train.config.schema import RlConfig
from got_train.data.records import Record
from got_train.errors import ConfigError
from got_train.evaluation.predictions import DataFile, Prediction
from got_train.evaluation.scored import score_predictions
from got_train.modeling import loss as losses
from got_train.strict_files import read_lines
from got_train.training import run
from got_train.training.generation_eval import EvalRecords, EvalResult
from got_train.training.rl.answer_log import read_rewards
from got_train.training.rl.collapse import collapse
from got_train.training.rl.objective import advantages, kl_to_start, normalizer, surrogate, token_weight
from got_train.training.rl.rewards import Rewards

GRPO = ("rl.objective=grpo", "rl.group_size=4", "rl.max_new_tokens=12", "rl.stop_on_collapse=false")


def grpo(*overrides):
    """GRPO with other values for some of its settings, each given once."""
    given = [each.partition("=")[0] for each in overrides]
    return [*(each for each in GRPO if each.partition("=")[0] not in given), *overrides]


def record(text, task="ocr"):
    return Record(images=("page.png",), task=task, text=text, location="rows.jsonl:1")


# ---- the objective


def test_the_gradient_of_the_objective_is_the_one_worked_out_by_hand():
    """By log p: -r A where the ratio r counts, 0 where it is clipped. r = 1, 1.5, 1.5, 0.5, 0.5; A = +, -."""
    ratio = np.array([1.0, 1.5, 1.5, 0.5, 0.5], np.float32)
    advantage = np.array([2.0, 2.0, -2.0, 2.0, -2.0], np.float32)
    log_probs = paddle.to_tensor(np.log(ratio), stop_gradient=False)
    loss = surrogate(log_probs, paddle.zeros([5]), paddle.to_tensor(advantage), 0.2, 0.28)
    assert np.allclose(loss.numpy(), [-2.0, -2 * 1.28, 3.0, -1.0, 2 * 0.8], atol=1e-6)
    loss.sum().backward()
    assert np.allclose(log_probs.grad.numpy(), [-2.0, 0.0, 3.0, -1.0, 0.0], atol=1e-6)


def test_the_gradient_through_log_p_equals_numpys_in_any_number_of_chunks(monkeypatch):
    generator = np.random.default_rng(0)
    hidden, head = generator.normal(size=(7, 5)), generator.normal(size=(11, 5))
    labels, weight = generator.integers(0, 11, 7), generator.normal(size=7)
    logits = hidden @ head.T
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    by_logits = weight[:, None] * (np.eye(11)[labels] - p)
    for rows in (100, 3):
        monkeypatch.setattr(losses, "chunk_rows", lambda _, rows=rows: rows)
        states, matrix = (
            paddle.to_tensor(each.astype("float32"), stop_gradient=False) for each in (hidden, head)
        )
        found = losses.token_log_probs(states, matrix, paddle.to_tensor(labels))
        assert np.allclose(found.numpy(), np.log(p[np.arange(7), labels]), atol=1e-5)
        (found * paddle.to_tensor(weight.astype("float32"))).sum().backward()
        assert np.abs(states.grad.numpy() - by_logits @ head).max() < 1e-5
        assert np.abs(matrix.grad.numpy() - by_logits.T @ hidden).max() < 1e-5


def test_advantages_are_deviations_from_the_group_and_zero_without_variance():
    assert np.allclose(advantages([0.0, 0.5, 1.0]), [-0.5, 0.0, 0.5])
    assert np.allclose(advantages([0.0, 1.0], by_std=True), [-1.0, 1.0])
    assert advantages([0.3, 0.3 + 1e-9], by_std=True).tolist() == [0.0, 0.0]


def test_a_tokens_weight_follows_the_three_ways_to_treat_lengths():
    """Answers of 2 and 6 tokens, 10 at most: DAPO 1/8 each; GRPO 1/2 of 1/2 and 1/6; Dr. GRPO 1/20 each."""
    for name, expected in (
        ("token", (1 / 8, 1 / 8)),
        ("sequence", (1 / 4, 1 / 12)),
        ("constant", (1 / 20, 1 / 20)),
    ):
        settings = RlConfig(normalization=name, max_new_tokens=10)
        total = normalizer(2, 8, settings)
        assert np.allclose([token_weight(tokens, settings) / total for tokens in (2, 6)], expected)


def test_the_distance_to_the_start_is_zero_there_and_positive_elsewhere():
    here, start = paddle.to_tensor([-1.0, -1.0, -1.0]), paddle.to_tensor([-1.0, -2.0, -0.5])
    assert np.allclose(kl_to_start(here, start).numpy(), [0, np.exp(-1.0), np.exp(0.5) - 1.5], atol=1e-6)


# ---- rewards


def test_rewards_are_the_metrics_of_the_answers_kind_and_what_does_not_apply_is_left_out():
    rewards = Rewards({"edit_distance": 3.0, "table.teds": 1.0, "no_end": 1.0, "length_ratio": 1.0})
    good, half = rewards.score(record("abcd"), ["abcd", "ab"], ["stop", "length"])
    assert good.parts == {"edit_distance": 1.0, "no_end": 1.0, "length_ratio": 1.0}
    assert half.parts == {"edit_distance": 0.5, "no_end": 0.0, "length_ratio": 0.5}
    assert (good.value, half.value) == (1.0, (3 * 0.5 + 0 + 0.5) / 5)
    table = r"\begin{tabular}{cc}a&b\\c&d\end{tabular}"
    right, none = rewards.score(record(table, "format"), [table, "a"], ["stop", "stop"])
    assert (right.parts["table.teds"], none.parts["table.teds"]) == (1.0, 0.0)


def test_a_reward_of_ones_own_is_called_and_wrong_ones_are_refused(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def short(answer, reference, record):\n    return -len(answer)\n")
    values = Rewards({"short": f"{file}:short"}).score(record("abc"), ["a", "abc"], ["stop", "stop"])
    assert [each.value for each in values] == [-1.0, -3.0]
    for rewards, words in (
        ({"short": f"{file}:long"}, "has no function long"),
        ({"short": "none.py:f"}, "no such file"),
        ({"edit": 1.0}, "no metric edit"),
    ):
        with pytest.raises(ConfigError, match=words):
            Rewards(rewards)
    with pytest.raises(ConfigError, match="expected a weight, or path.py:function"):
        RlConfig(rewards={"short": "mine"})


def test_settings_that_do_not_go_with_sampling_are_refused(fit):
    for setting, words in (
        ("data.packing_length=100", "data.packing_length"),
        ("rl.stop_on_collapse=true", "name data.validation"),
        ("rl.kl_coefficient=0.1", "which is empty"),
        ("rl.objective=", "needs rl.objective, grpo or dpo"),
    ):
        with pytest.raises(ConfigError, match=words):
            load_config(fit.path, grpo(setting))


# ---- runs


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probabilities_of_sampling_and_training_agree(fit, within, temperature):
    trainer = run.build_trainer(load_config(fit.path, [*GRPO, f"rl.temperature={temperature}"]))
    batch = next(iter(trainer.loader))
    counted = batch["weights"].numpy() > 0
    assert counted.sum() > 50
    found = trainer.loader.loss.log_probs_at(batch, paddle.to_tensor(counted)).numpy()
    within("log p", np.abs(found - batch["old_log_probs"].numpy())[counted].max(), 1e-5)
    assert np.ptp(found[counted]) > 0.01


def largest_difference(one, other):
    return max(float(np.abs(one[name] - other[name]).max()) for name in one)


@pytest.mark.parametrize("updates", [1, 2])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(fit, tmp_path, within, updates):
    """After step 3 the second of two updates on the same answers has begun; the checkpoint has them."""
    settings = (*GRPO, f"rl.updates={updates}", "train.max_steps=5", "data.num_workers=0")
    whole = fit(*settings, "train.save_steps=3", "train.save_total_limit=0")
    again = tmp_path / "again"
    shutil.copytree(tmp_path / "run", again)
    begun = fit(*settings, f"train.output_dir={again}", checkpoint=again / "checkpoint-3")
    within("weights", largest_difference(begun.after, whole.after), 0)
    assert largest_difference(whole.before, whole.after) > 1e-3
    for name in ("answers-0.jsonl", "rewards.jsonl"):
        assert (again / name).read_text() == (tmp_path / "run" / name).read_text()
    rewards = read_rewards(tmp_path / "run")
    assert [each.step for each in rewards] == ([1, 2, 3, 4, 5] if updates == 1 else [1, 3, 5])
    assert all(each.answers == 32 for each in rewards)
    rows = list(read_lines(again / "answers-0.jsonl", ConfigError))
    assert len(rows) == 8 * len(rewards)
    assert len(rows[0]["answers"]) == 4
    assert "data.jsonl:" in rows[0]["row"]


def test_a_bandit_learns_the_arm_that_pays(fit, tmp_path):
    """One token a page: those that begin with a vowel are worth 1, others 0. The best is always 1."""
    file = tmp_path / "vowel.py"
    file.write_text("def vowel(answer, reference, record):\n    return float(answer[:1] in tuple('aeiou'))\n")
    settings = (
        "train.max_steps=40",
        "rl.max_new_tokens=1",
        "rl.group_size=16",
        f"rl.rewards={{vowel: '{file}:vowel'}}",
    )
    run_ = fit(*grpo(*settings), "optimizer.lr_scheduler_type=constant", "optimizer.weight_decay=0")
    rewards = [each.reward for each in read_rewards(tmp_path / "run")]
    assert rewards[0] < 0.35
    assert np.mean(rewards[-5:]) > 0.95
    entropy = [each.entropy for each in read_rewards(tmp_path / "run")]
    assert entropy[-1] < entropy[0]
    audit = json.loads((tmp_path / "run" / "audit.json").read_text())
    assert all(part["gradient_norm"] > 0 for part in audit["parts"])
    assert run_.trainer.state.global_step == 40


def test_a_run_with_a_distance_to_its_start_stays_nearer_to_it(fit, tmp_path):
    base = tmp_path / "base"
    run.train(load_config(fit.path, [f"train.output_dir={base}", "train.max_steps=2"]))
    settings = json.loads(fit.path.read_text())
    fit.path.write_text(json.dumps(settings | {"model": {"init_from": str(base / "final")}}))
    moved = {}
    for coefficient in (0.0, 10.0):
        name = f"train.output_dir={tmp_path}/kl{coefficient}"
        made = fit(*GRPO, name, f"rl.kl_coefficient={coefficient}", "train.max_steps=4", "rl.updates=2")
        moved[coefficient] = sum(
            float(np.abs(made.after[key] - made.before[key]).sum()) for key in made.after
        )
    assert moved[10.0] < moved[0.0]


def test_the_dry_run_samples_and_says_what_that_takes(fit):
    from got_train.training.dry_run import dry_run

    report = dry_run(load_config(fit.path, GRPO))
    assert "sampling   4 answers a page of at most 12 tokens: " in report


# ---- the guard


def readings(*texts):
    predictions = [
        Prediction(
            "abcdefgh",
            text,
            task="ocr",
            data="validation",
            record=place,
            images=(f"{place}.png",),
            finished="stop",
        )
        for place, text in enumerate(texts)
    ]
    return EvalResult(0, score_predictions(predictions), len(texts), 1.0)


def test_the_guard_fires_when_a_broken_reward_rises_and_held_out_rows_get_worse():
    from got_train.training.rl.answer_log import StepRewards

    def rewards(*values):
        return [StepRewards(step, 8, value, 0.1, 0.0, 1.0, 5.0, 1.0) for step, value in enumerate(values, 1)]

    records = EvalRecords((DataFile("validation", "", [], ""),), (), ())
    before, broken = readings(*["abcdefgh"] * 30), readings(*["aaaaaaaa"] * 30)
    rising, falling = rewards(0.1, 0.2, 0.9), rewards(0.9, 0.2, 0.1)
    message = collapse(rising, before, broken, records)
    assert message.startswith("the reward rose from 0.1000 to 0.9000, but ")
    assert collapse(rising, before, before, records) == ""
    assert collapse(falling, before, broken, records) == ""
    assert collapse(rising[:2], before, broken, records) == ""


def test_a_run_with_a_broken_reward_is_ended_by_the_guard(fit, tmp_path, capsys):
    """The reward pays for answers without the letters of the page, which the base reads."""
    rows = [json.loads(line) for line in (tmp_path / "data.jsonl").read_text().splitlines()]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps({**row, "text": "aaaa"}) + "\n" for row in rows))
    base, file = tmp_path / "base", tmp_path / "broken.py"
    run.train(load_config(fit.path, [f"train.output_dir={base}", "train.max_steps=40"]))
    settings = json.loads(fit.path.read_text())
    fit.path.write_text(json.dumps(settings | {"model": {"init_from": str(base / "final")}}))
    file.write_text("def broken(answer, reference, record):\n    return -float(answer.count('a'))\n")
    overrides = [
        *GRPO[:3],
        f"rl.rewards={{broken: '{file}:broken'}}",
        f"data.validation={tmp_path}/data.jsonl",
    ]
    overrides += ["train.max_steps=30", "train.eval_steps=3", "eval.max_samples=16", "eval.max_new_tokens=12"]
    run.train(load_config(fit.path, [*overrides, f"train.output_dir={tmp_path}/broken"]))
    assert "ended by rl.stop_on_collapse: the reward rose from" in capsys.readouterr().err
    assert read_rewards(tmp_path / "broken")[-1].step < 30
