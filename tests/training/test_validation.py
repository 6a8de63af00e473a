"""Validation during training: its loss by hand, the best weights, the early end, the moving average."""

import json
import shutil

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from visualdl import LogReader

from got_train.checkpoint.weights import load_model
from got_train.config.loader import load_config
from got_train.data.records import read_records
from got_train.errors import ConfigError
from got_train.training import run
from got_train.training.callbacks import validation
from got_train.training.callbacks.ema import EMA
from got_train.training.early_stopping import EarlyStopping


@pytest.fixture
def held_out(fit):
    """The first 10 rows in a file of their own; a run that validates on them every 2 steps."""
    rows = (fit.path.parent / "data.jsonl").read_text().splitlines(keepends=True)[:10]
    (fit.path.parent / "held_out.jsonl").write_text("".join(rows))
    settings = json.loads(fit.path.read_text())
    settings["train"]["preview_samples"] = 0
    fit.path.write_text(json.dumps(settings))
    return [f"data.validation={fit.path.parent}/held_out.jsonl", "train.eval_steps=2"]


def by_hand(model, collator, path):
    """Row by row, without padding: the mean of -log p over all supervised tokens."""
    total = tokens = 0
    for record in read_records(path):
        arrays = collator.batch([collator.sample(record)])
        labels = paddle.to_tensor(arrays.pop("labels"))[0, 1:]
        logits = model(**{name: paddle.to_tensor(value) for name, value in arrays.items()}).logits[0, :-1]
        total += float(F.cross_entropy(logits, labels, ignore_index=-100, reduction="sum"))
        tokens += int((labels != -100).sum())
    return total / tokens


@pytest.mark.parametrize(
    "overrides", [[], ["data.packing_length=200", "train.per_device_train_batch_size=4"]]
)
def test_the_loss_is_the_mean_over_all_supervised_tokens(fit, held_out, overrides):
    made = fit("train.max_steps=2", *held_out, *overrides)
    (seen,) = made.validation
    collator = made.trainer.loader.collator
    assert seen == pytest.approx(
        by_hand(made.trainer.model.eval(), collator, fit.path.parent / "held_out.jsonl"), abs=2e-6
    )


def test_validation_changes_nothing_in_training(fit, held_out):
    """Dropout is off while validating, and on again afterwards."""
    dropout = ["model.decoder.kind=opt", "model.decoder.dropout=0.1"]
    plain, made = fit(*dropout), fit(*dropout, *held_out, "train.preview_samples=2")
    assert made.losses == plain.losses
    assert all(np.array_equal(made.after[name], plain.after[name]) for name in plain.after)
    assert len(made.validation) == 3  # after steps 2, 4 and 6


def test_the_last_step_is_validated_too(fit, held_out):
    assert len(fit("train.max_steps=3", *held_out).validation) == 2


def losses_to_come(monkeypatch, values):
    """Validations give these losses."""
    coming = iter(values)
    monkeypatch.setattr(validation.Validation, "_loss", lambda self: next(coming))


def test_the_weights_of_the_lowest_loss_are_kept_as_best(fit, held_out, tmp_path, monkeypatch):
    """Of four validations the second is lowest; equal is not lower."""
    losses_to_come(monkeypatch, [3.0, 1.0, 2.0, 1.0])
    fit("train.max_steps=8", "train.save_steps=4", "train.save_total_limit=0", *held_out)
    best = tmp_path / "run" / "best"
    assert json.loads((best / "best.json").read_text()) == {"step": 4, "validation_loss": 1.0}
    assert (best / "model.safetensors").read_bytes() == (
        tmp_path / "run" / "checkpoint-4" / "model.safetensors"
    ).read_bytes()
    assert load_model(best) is not None


def test_a_run_ends_when_the_loss_has_not_fallen_twice(fit, held_out, tmp_path, monkeypatch):
    losses_to_come(monkeypatch, [3.0, 1.0, 2.0, 1.5, 0.1])
    final = run.train(
        load_config(fit.path, ["train.max_steps=20", "train.early_stopping_patience=2", *held_out])
    )
    assert sorted(path.name for path in (tmp_path / "run").glob("checkpoint-*")) == ["checkpoint-8"]
    last = tmp_path / "run" / "checkpoint-8" / "model.safetensors"
    assert (final / "model.safetensors").read_bytes() == last.read_bytes()


def test_a_run_killed_between_its_early_end_and_its_final_model_only_writes_that(
    fit, held_out, tmp_path, monkeypatch
):
    losses_to_come(monkeypatch, [1.0, 2.0, 3.0])
    config = load_config(fit.path, ["train.max_steps=20", "train.early_stopping_patience=2", *held_out])
    expected = (run.train(config) / "model.safetensors").read_bytes()
    shutil.rmtree(tmp_path / "run" / "final")
    assert (run.train(config, resume=True) / "model.safetensors").read_bytes() == expected


def test_a_resumed_run_remembers_its_best_and_its_patience(fit, held_out, tmp_path, monkeypatch):
    """Lowest at step 2, killed after step 4, so the third without a lower one ends it at step 8."""
    losses_to_come(monkeypatch, [1.0, 2.0, 3.0, 4.0, 5.0])
    settings = [
        "train.max_steps=20",
        "train.early_stopping_patience=3",
        "train.save_steps=2",
        "train.save_total_limit=0",
        *held_out,
    ]
    fit(*settings)
    assert (tmp_path / "run" / "checkpoint-8").exists()
    for name in ("checkpoint-6", "checkpoint-8"):
        shutil.rmtree(tmp_path / "run" / name)
    losses_to_come(monkeypatch, [3.0, 4.0, 5.0])
    run.train(load_config(fit.path, settings), resume=True)
    assert not (tmp_path / "run" / "checkpoint-10").exists()
    assert json.loads((tmp_path / "run" / "best" / "best.json").read_text())["step"] == 2


@pytest.mark.parametrize(
    ("losses", "since"),
    [
        ([], 0),
        ([1.0], 0),
        ([1.0, float("nan")], 1),
        ([1.0, 2.0], 1),
        ([2.0, 1.0, 1.0, 3.0], 2),
        ([3.0, 2.0, 1.0], 0),
    ],
)
def test_validations_since_the_first_lowest(losses, since):
    assert EarlyStopping("loss").evals_since_best(losses) == since
    assert EarlyStopping("f1").evals_since_best([-loss for loss in losses]) == since


def test_patience_without_validation_data_is_refused(fit):
    with pytest.raises(
        ConfigError, match=r"train.early_stopping_patience \(2\) waits .* data.validation, which is empty"
    ):
        load_config(fit.path, ["train.early_stopping_patience=2"])


def test_a_broken_validation_row_stops_the_run_before_its_first_step(fit, held_out, tmp_path):
    from got_train.data.records import RecordError

    (tmp_path / "3.png").write_bytes(b"no picture")
    with pytest.raises(RecordError, match=r"held_out\.jsonl:4: .*3\.png"):
        run.build_trainer(load_config(fit.path, held_out))


def test_pictures_and_answers_are_shown_in_visualdl(fit, held_out, tmp_path):
    made = fit("train.max_steps=4", *held_out, "train.preview_samples=2", "train.preview_max_new_tokens=5")
    (file,) = (tmp_path / "run" / "visualdl").iterdir()
    reader = LogReader(file_path=str(file))
    scalars = reader.get_data("scalar", "train/validation_loss")
    assert [row.value for row in scalars] == pytest.approx(made.validation)
    texts = reader.get_data("text", "answer/1")
    record = read_records(tmp_path / "held_out.jsonl")[1]
    assert [row.id for row in texts] == [2, 4]
    assert all(row.text.encoded_text_string.startswith(f"truth: {record.text}\n\nread: ") for row in texts)
    assert len(reader.get_data("image", "picture/1")) == 1


# ---- the moving average


def test_the_average_of_three_updates_by_hand():
    """Weights 1, 2, 4 after 0; d = min(0.25, (1 + n) / (10 + n)) = 2/11, 3/12, 0.25."""
    layer = paddle.nn.Linear(1, 1, bias_attr=False)
    layer.weight.name = "weight"
    layer.weight.set_value(np.zeros((1, 1), "float32"))
    average = EMA(layer, 0.25)
    average.on_train_begin(None, None, None)
    expected = 0.0
    for update, value in enumerate([1.0, 2.0, 4.0]):
        layer.weight.set_value(np.full((1, 1), value, "float32"))
        state = type("State", (), {"global_step": update})
        average.on_optimizer_end(None, state, None)
        decay = [2 / 11, 0.25, 0.25][update]
        expected = decay * expected + (1 - decay) * value
    assert float(average.shadow["weight"]) == pytest.approx(expected, rel=1e-6)
    with average.in_place():
        assert float(layer.weight) == pytest.approx(expected, rel=1e-6)
    assert float(layer.weight) == 4.0


def test_validation_best_and_final_have_the_averaged_weights(fit, held_out, tmp_path):
    settings = ["train.ema_decay=0.8", "train.save_steps=6", *held_out]
    made = fit(*settings)
    average = {name: value.numpy() for name, value in made.trainer.callback(EMA).shadow.items()}
    best = {
        f"got.{name}": value.numpy()
        for name, value in load_model(tmp_path / "run" / "best").named_parameters()
    }
    assert all(np.array_equal(best[name], average[name]) for name in average)
    assert not all(np.array_equal(made.after[name], average[name]) for name in average)
    final = run.train(load_config(fit.path, settings), resume=True)
    loaded = {f"got.{name}": value.numpy() for name, value in load_model(final).named_parameters()}
    assert all(np.array_equal(loaded[name], average[name]) for name in average)
    collator = made.trainer.loader.collator
    expected = by_hand(load_model(final).eval(), collator, tmp_path / "held_out.jsonl")
    assert made.validation[-1] == pytest.approx(expected, abs=2e-6)
