"""The trainer on a tiny model and 64 pages: against a loop in numpy, and against itself, interrupted."""

import json
import math
import multiprocessing
import shutil
from types import SimpleNamespace

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from safetensors.numpy import load_file

from got_train.config.loader import load_config
from got_train.config.schema import OptimizerConfig
from got_train.data.records import RecordError
from got_train.errors import CheckpointError, ConfigError
from got_train.training import checkpoints, run, trainer
from got_train.training.callbacks import progress
from got_train.training.loader import BatchSchedule
from got_train.training.optimizer import lr_multiplier

PARTS = ("vision", "projector", "decoder")
OPT = ("model.decoder.kind=opt", "model.prompt_template=stage1", "model.decoder.dropout=0.1")


def weights(made):
    return {name: value.numpy() for name, value in made.training_loss.named_parameters()}


def largest_difference(one, other):
    return max(float(np.abs(one[name] - other[name]).max()) for name in one)


def same(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


# ---- one step


def numpy_adamw(config, steps):
    """Losses and weights of the same run, with the schedule, clipping and AdamW written out in numpy."""
    made = run.build_trainer(config)
    got, loader = made.model.train(), made.loader
    named = {f"got.{name}": value for name, value in got.named_parameters()}
    first, second, losses = {}, {}, []
    for step in range(steps):
        samples = [loader.collator.sample(loader.mixture[step * 8 + row]) for row in range(8)]
        batch = {name: paddle.to_tensor(value) for name, value in loader.collator.batch(samples).items()}
        labels = batch.pop("labels")[:, 1:].flatten()
        logits = got(**batch).logits[:, :-1].flatten(0, 1)
        loss = F.cross_entropy(logits, labels, ignore_index=-100, reduction="sum") / (labels != -100).sum()
        loss.backward()
        losses.append(float(loss))
        grads = {name: value.grad.numpy().astype("float64") for name, value in named.items()}
        norm = math.sqrt(sum(float((grad**2).sum()) for grad in grads.values()))
        assert norm > config.optimizer.max_grad_norm  # or the test would not see clipping
        warm = steps // 2
        share = (
            (step + 1) / warm if step < warm else 0.1 + 0.45 * (1 + math.cos(math.pi * (step - warm) / warm))
        )
        for name, value in named.items():
            part = name.split(".")[1]
            rate = {"vision": 5e-3, "projector": 1e-2, "decoder": 2e-2}[part] * share
            decay = {"vision": 0.1, "projector": 0.0, "decoder": 0.3}[part]
            if value.ndim < 2 or "pos" in name or "norm" in name:
                decay = 0.0
            grad = grads[name] * config.optimizer.max_grad_norm / norm
            first[name] = 0.9 * first.get(name, 0) + 0.1 * grad
            second[name] = 0.98 * second.get(name, 0) + 0.02 * grad**2
            up = first[name] / (1 - 0.9 ** (step + 1))
            down = np.sqrt(second[name] / (1 - 0.98 ** (step + 1))) + 1e-6
            moved = value.numpy().astype("float64") * (1 - rate * decay) - rate * up / down
            value.set_value(moved.astype("float32"))
            value.clear_gradient(False)
    return losses, {name: value.numpy() for name, value in named.items()}


def test_losses_and_weights_equal_a_loop_written_out(fit, within):
    """Learning rate and decay of each part, one norm over all gradients, schedule, the mean over tokens."""
    own = (
        "parts.vision.learning_rate=5e-3",
        "parts.decoder.learning_rate=2e-2",
        "parts.projector.weight_decay=0",
    )
    own += (
        "parts.decoder.weight_decay=0.3",
        "optimizer.adam_beta2=0.98",
        "optimizer.max_grad_norm=0.05",
        "optimizer.adam_epsilon=1e-6",
    )
    ours = fit(*own)
    losses, expected = numpy_adamw(load_config(fit.path, own), 6)
    within("loss", np.abs(np.subtract(ours.losses, losses)).max(), 2e-6)
    within("weights", largest_difference(ours.after, expected), 2e-6)


def test_a_step_of_8_equals_2_of_4_and_4_of_2(fit, within):
    whole = fit()
    for micro in (4, 2):
        parted = fit(f"train.per_device_train_batch_size={micro}")
        within(
            f"loss, micro-batches of {micro}", np.abs(np.subtract(whole.losses, parted.losses)).max(), 1e-6
        )
        within(f"weights, micro-batches of {micro}", largest_difference(whole.after, parted.after), 1e-5)
    answers = [len(whole.trainer.loader.mixture[draw].text) for draw in range(48)]
    assert (min(answers), max(answers)) == (1, 59)  # so that means of means would differ


def test_recomputed_layers_give_the_same_losses(fit):
    assert fit().losses == fit("train.recompute=true").losses


@pytest.mark.parametrize("parts", ["[vision]", "[decoder]", "[]"])
def test_the_layers_of_some_parts_are_recomputed(fit, parts):
    made = fit(f"train.recompute={parts}", "train.max_steps=1").trainer
    for part in ("vision", "decoder"):
        assert made.model.part(part).enable_recompute == (part in parts)


def test_recomputed_layers_of_opt_give_the_same_losses_with_dropout(fit):
    own = ["model.decoder.kind=opt", "model.decoder.dropout=0.1"]
    assert fit(*own).losses == fit(*own, "train.recompute=[decoder]").losses != fit(own[0]).losses


@pytest.mark.parametrize("moving", ["vision", "projector", "decoder", "vision,decoder", "projector,decoder"])
@pytest.mark.parametrize("char_loss_weight", [0, 1])
def test_only_the_named_parts_move(fit, moving, char_loss_weight):
    frozen = [f"parts.{part}.trainable=false" for part in PARTS if part not in moving]
    char_loss_weight = char_loss_weight if "vision" in moving else 0
    made = fit("train.max_steps=1", f"train.char_loss_weight={char_loss_weight}", *frozen)
    moved = {name for name in made.before if not np.array_equal(made.before[name], made.after[name])}
    wanted = {name for name in made.before if name.split(".")[1] in moving or name.startswith("char_head")}
    unused = {
        name for name in wanted if name.endswith("k_proj.bias")
    }  # softmax does not see it: its gradient is 0
    assert wanted - unused <= moved <= wanted


def test_the_first_update_moves_and_the_logged_rates_are_those_of_the_updates_made(fit):
    made = fit("optimizer.warmup_ratio=0.5")
    assert made.rates == pytest.approx([1e-2 / 3, 2e-2 / 3, 1e-2, 1e-2, 7.75e-3, 3.25e-3], rel=1e-3)
    assert not same(fit("train.max_steps=1").before, fit("train.max_steps=1").after)


@pytest.mark.parametrize(
    ("step", "share"),
    [(0, 0.1), (4, 0.5), (9, 1.0), (10, 1.0), (55, 0.6), (99, 0.2003), (100, 0.2), (500, 0.2)],
)
def test_learning_rate_of_100_steps_with_a_tenth_of_warmup(step, share):
    settings = OptimizerConfig(warmup_ratio=0.1, min_lr_ratio=0.2)
    assert lr_multiplier(step, 100, settings) == pytest.approx(share, abs=1e-4)


def test_learning_rate_without_warmup_is_full_at_once_and_constant_stays():
    assert lr_multiplier(0, 1, OptimizerConfig(warmup_ratio=0)) == 1
    assert {
        lr_multiplier(step, 9, OptimizerConfig(warmup_ratio=0, lr_scheduler_type="constant"))
        for step in range(9)
    } == {1}


# ---- refusals before an update


def broken(fit, *overrides):
    made = run.build_trainer(load_config(fit.path, overrides))
    made.create_optimizer_and_scheduler(6)
    return made


def test_a_loss_that_is_no_number_stops_the_run_before_the_update(fit):
    made = broken(fit, "train.per_device_train_batch_size=4")
    made.model.decoder.model.norm.weight.set_value(paddle.full([16], float("nan")))
    before = weights(made)
    rows = ", ".join(made.loader.mixture[draw].location for draw in range(8))
    with pytest.raises(trainer.NonFiniteError) as caught:
        made.train()
    assert str(caught.value) == f"step 1: loss nan, gradient norm nan; nothing was updated; rows {rows}"
    assert all(np.array_equal(value, before[name], equal_nan=True) for name, value in weights(made).items())


def test_a_gradient_that_is_no_number_stops_the_run_before_the_update(fit):
    """In the last layer only, with a finite loss; the encoder, which comes first, must not have moved."""
    made = broken(fit)
    made.model.decoder.model.norm.weight.register_hook(lambda grad: grad * float("inf"))
    before = weights(made)
    with pytest.raises(
        trainer.NonFiniteError, match=r"step 1: loss \d.\d+, gradient norm (inf|nan); nothing was"
    ):
        made.train()
    assert same(before, weights(made))


def test_a_step_without_a_supervised_token_is_refused(fit, monkeypatch):
    whole = type(
        run.build_collator(load_config(fit.path), broken(fit).model, broken(fit).got_tokenizer)
    ).batch
    monkeypatch.setattr(
        "got_train.data.collator.Collator.batch",
        lambda self, samples: {**whole(self, samples), "labels": np.full((8, 200), -100)},
    )
    with pytest.raises(
        trainer.NonFiniteError, match="step 1: no supervised token in the whole step; nothing was"
    ):
        fit()


def test_an_unreadable_image_stops_the_run_with_file_and_line(fit):
    (fit.path.parent / "11.png").write_bytes(b"no picture")
    with pytest.raises(RecordError, match=r"data\.jsonl:12: .*11\.png"):
        fit("train.max_steps=8")


def test_records_drawn_without_character_boxes_train_the_rest(fit):
    """A char_head that no patch supervises keeps its place in the optimizer, or a resumed run would fail."""
    lines = [json.loads(line) for line in (fit.path.parent / "data.jsonl").read_text().splitlines()]
    bare = [json.dumps({key: value for key, value in line.items() if key != "char_boxes"}) for line in lines]
    (fit.path.parent / "data.jsonl").write_text("\n".join(bare))
    made = fit("train.char_loss_weight=1", "train.max_steps=2")
    assert np.array_equal(made.before["char_head.weight"], made.after["char_head.weight"])
    assert made.losses == fit("train.max_steps=2").losses


# ---- interrupted and resumed


def taken(folder, step, tmp_path):
    """A copy of one checkpoint."""
    place = tmp_path / "taken" / f"checkpoint-{step}"
    shutil.copytree(folder / f"checkpoint-{step}", place)
    return place


CHARS = [f"train.{loss}_loss_weight=0.5" for loss in ("char", "token_char", "attention")]


@pytest.mark.parametrize(
    ("steps", "at", "overrides"),
    [
        (6, [3], CHARS),
        (6, [3], ["data.num_workers=2"]),
        (6, [3], ["train.per_device_train_batch_size=2"]),
        (6, [3], ["data.packing_length=200", "data.num_workers=2"]),
        (6, [3], ["train.ema_decay=0.9"]),
        (6, [3], OPT),
        (18, [8, 10], []),  # 8 steps are an epoch
        (
            18,
            [8, 10],
            ["data.num_workers=2", "train.per_device_train_batch_size=4", "data.packing_length=100", *OPT],
        ),
    ],
    ids=[
        "char_boxes",
        "workers",
        "accumulation",
        "packing and workers",
        "average",
        "dropout",
        "epochs",
        "epochs with all of it",
    ],
)
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(fit, tmp_path, within, steps, at, overrides):
    whole = fit(f"train.max_steps={steps}", "train.save_steps=1", "train.save_total_limit=0", *overrides)
    for step in at:
        start = taken(tmp_path / "run", step, tmp_path)
        again = fit(
            f"train.max_steps={steps}",
            f"train.output_dir={tmp_path}/again{step}",
            *overrides,
            checkpoint=start,
        )
        assert len(again.losses) == steps - step
        within(f"loss from step {step}", np.abs(np.subtract(again.losses, whole.losses[step:])).max(), 0)
        within(f"weights from step {step}", largest_difference(again.after, whole.after), 0)


def test_a_resumed_run_over_weighted_sources_replay_and_a_stream_equals_an_uninterrupted_one(
    fit, tmp_path, within
):
    lines = (tmp_path / "data.jsonl").read_text().splitlines(keepends=True)
    for name, rows in (("new", lines[:10]), ("stream", lines[10:30]), ("old", lines[30:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(rows))
    stream = f"{{path: {tmp_path}/stream.jsonl, weight: 2, streaming: true}}"
    settings = [f"data.train=[{{path: {tmp_path}/new.jsonl, weight: 3}}, {stream}]"]
    settings += [f"data.replay=[{{path: {tmp_path}/old.jsonl, weight: 1}}]", "train.max_steps=12"]
    whole = fit(*settings, "train.save_steps=1", "train.save_total_limit=0")
    for step, workers in ((3, 2), (9, 0)):
        again = fit(
            *settings, f"data.num_workers={workers}", checkpoint=taken(tmp_path / "run", step, tmp_path)
        )
        within(f"loss from step {step}", np.abs(np.subtract(again.losses, whole.losses[step:])).max(), 0)
        within(f"weights from step {step}", largest_difference(again.after, whole.after), 0)


def test_pictures_inside_a_parquet_file_train_as_those_beside_a_jsonl_file(fit, tmp_path):
    import pyarrow
    from pyarrow import parquet

    rows = [json.loads(line) for line in (tmp_path / "data.jsonl").read_text().splitlines()]
    for row in rows:
        (name,) = row["images"]
        row["images"] = [{"bytes": (tmp_path / name).read_bytes(), "path": name}]
        row["char_boxes"] = json.dumps(row["char_boxes"])
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "data.parquet", row_group_size=10)
    beside = fit()
    for row in range(64):
        (tmp_path / f"{row}.png").unlink()
    inside = fit(f"data.train={tmp_path}/data.parquet", "data.num_workers=2")
    assert inside.losses == beside.losses
    assert same(inside.after, beside.after)


def test_dropout_is_on_in_the_run_that_resumes_bit_for_bit(fit):
    assert fit(*OPT).losses != fit(*OPT[:2]).losses


def test_two_worker_processes_change_nothing_and_end_with_the_run(fit):
    before = set(multiprocessing.active_children())
    here, there = fit(), fit("data.num_workers=2")
    assert set(multiprocessing.active_children()) <= before
    assert here.losses == there.losses
    assert same(here.after, there.after)


def test_optimizer_state_is_kept_under_the_names_of_the_model(fit, tmp_path):
    fit("train.max_steps=1", "train.save_steps=1")
    state = load_file(tmp_path / "run" / "checkpoint-1" / "optimizer-0.safetensors")
    assert "got.vision.blocks.0.attn.qkv.weight_moment1_0" in state
    assert {name.split(".")[0] for name in state} == {"got"}


def test_a_checkpoint_without_its_optimizer_state_is_refused(fit, tmp_path):
    """Moments that start again from nothing would make a jump that nobody sees the cause of."""
    fit("train.max_steps=1", "train.save_steps=1")
    place = taken(tmp_path / "run", 1, tmp_path)
    (place / "optimizer-0.safetensors").unlink()
    message = r"checkpoint-1 is not whole \(optimizer-0.safetensors is missing\); delete it"
    with pytest.raises(CheckpointError, match=message):
        fit("train.max_steps=1", checkpoint=place)


def test_a_checkpoint_may_be_resumed_in_other_micro_batches_and_with_workers(fit, tmp_path, within):
    whole = fit("train.save_steps=3")
    start = taken(tmp_path / "run", 3, tmp_path)
    again = fit(
        "train.per_device_train_batch_size=4", "data.num_workers=1", "train.logging_steps=1", checkpoint=start
    )
    within("loss", np.abs(np.subtract(again.losses, whole.losses[3:])).max(), 1e-6)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ("train.seed=1", r"train.seed: 1, not 42\)"),
        ("train.batch_size=16", r"train.batch_size: 16, not 8\)"),
        ("train.max_steps=7", r"train.max_steps: 7, not 6\)"),
        ("optimizer.learning_rate=1e-3", r"optimizer.learning_rate: 0.001, not 0.01\)"),
        ("parts.vision.trainable=false", r"parts.vision.trainable: False, not True\)"),
        ("data.max_tokens=200", r"data.max_tokens: 200, not 256\)"),
    ],
)
def test_going_on_with_other_settings_is_refused(fit, tmp_path, changed, named):
    fit("train.max_steps=6", "train.save_steps=3")
    with pytest.raises(
        ConfigError, match=rf"--resume: .*checkpoint-6 was made with other settings \({named}; keep"
    ):
        run.train(load_config(fit.path, [changed]), resume=True)


def test_going_on_with_data_that_has_grown_is_refused(fit, tmp_path):
    fit("train.max_steps=3", "train.save_steps=3")
    data = tmp_path / "data.jsonl"
    data.write_text(data.read_text() + data.read_text().splitlines()[0] + "\n")
    with pytest.raises(
        ConfigError, match=r"--resume: data.train has \[65\] rows; .*checkpoint-3 was made with \[64\]"
    ):
        run.train(load_config(fit.path, ["train.max_steps=3"]), resume=True)


def test_going_on_with_a_checkpoint_beyond_the_runs_last_step_is_refused(fit, tmp_path):
    """Its record is that of a run of 6 steps; its name and its own step say 7."""
    fit("train.max_steps=6", "train.save_steps=3")
    folder = tmp_path / "run"
    checkpoint = (folder / "checkpoint-6").rename(folder / "checkpoint-7")
    for name, key in (("checkpoint.json", "step"), ("trainer_state.json", "global_step")):
        text = (checkpoint / name).read_text()
        assert f'"{key}": 6' in text
        (checkpoint / name).write_text(text.replace(f'"{key}": 6', f'"{key}": 7'))  # as long as it was
    with pytest.raises(
        ConfigError, match=r"--resume: .*run/checkpoint-7 is beyond the run's 6 steps; delete it"
    ):
        run.train(load_config(fit.path, ["train.max_steps=6", "train.save_steps=3"]), resume=True)


# ---- the run's folder


# of a folder whose run of 6 steps has ended, with a checkpoint every 2 steps
FINISHED = [".lock", "audit.json", "checkpoint-4", "checkpoint-6", "final", "ledger-0.jsonl", "visualdl"]


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_run_leaves_checkpoints_the_final_model_and_scalars_and_nothing_else(fit, tmp_path):
    final = run.train(load_config(fit.path, ["train.save_steps=2", "train.char_loss_weight=1"]))
    assert final == tmp_path / "run" / "final"
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == FINISHED
    model = ["config.json", "model.safetensors", "qwen.tiktoken", "run.yaml", "tokenizer_config.json"]
    assert names(final) == ["characters.json", *model]
    more = ["char_head.safetensors", "checkpoint.json", "optimizer-0.safetensors", "trainer_state.json"]
    assert names(tmp_path / "run" / "checkpoint-6") == sorted(model + more)


def test_scalars_can_be_read_back_from_visualdl(fit, tmp_path):
    from visualdl import LogReader

    losses = fit("train.max_steps=3").losses
    (file,) = (tmp_path / "run" / "visualdl").iterdir()
    reader = LogReader(file_path=str(file))
    seen = {tag: reader.get_data("scalar", tag) for tag in ("train/loss", "train/learning_rate")}
    assert [row.id for row in seen["train/loss"]] == [1, 2, 3]
    assert [row.value for row in seen["train/loss"]] == pytest.approx(losses)
    assert [row.value for row in seen["train/learning_rate"]] == pytest.approx([5e-3, 1e-2, 1e-2])


def test_the_final_model_is_that_of_the_last_update(fit, tmp_path):
    from got_train.checkpoint.weights import load_model

    after = fit().after
    final = run.train(load_config(fit.path))
    loaded = {f"got.{name}": value.numpy() for name, value in load_model(final).named_parameters()}
    assert same(loaded, after)


@pytest.mark.parametrize(("keep", "left"), [(2, [4, 5]), (1, [5]), (0, [1, 2, 3, 4, 5])])
def test_the_last_checkpoints_are_kept(fit, tmp_path, keep, left):
    fit("train.max_steps=5", "train.save_steps=1", f"train.save_total_limit={keep}")
    assert [checkpoints.step_of(path) for path in checkpoints.checkpoints(tmp_path / "run")] == left


def test_a_save_that_fails_leaves_the_checkpoint_before_it(fit, tmp_path, monkeypatch):
    whole = fit(f"train.output_dir={tmp_path}/whole")
    save, saves = trainer.save_optimizer, []

    def full_disk(state, folder, rank):
        saves.append(folder)
        if len(saves) == 2:
            raise OSError(28, "No space left on device", str(folder))
        save(state, folder, rank)

    monkeypatch.setattr(trainer, "save_optimizer", full_disk)
    config = load_config(fit.path, ["train.save_steps=2"])
    with pytest.raises(OSError, match="No space left on device"):
        run.train(config)
    folder = tmp_path / "run"
    assert [path.name for path in checkpoints.checkpoints(folder)] == ["checkpoint-2"]
    assert (folder / ".unfinished" / "checkpoint-4" / "model.safetensors").exists()
    monkeypatch.setattr(trainer, "save_optimizer", save)
    run.train(config, resume=True)
    assert sorted(path.name for path in folder.iterdir()) == FINISHED
    assert names(folder / "checkpoint-4") == names(folder / "checkpoint-6")
    assert (folder / "final" / "model.safetensors").read_bytes() == _final(whole, tmp_path)


def _final(whole, tmp_path):
    whole.trainer.save_model(str(tmp_path / "expected"))
    return (tmp_path / "expected" / "model.safetensors").read_bytes()


def test_an_interrupted_run_leaves_whole_checkpoints_only(fit, tmp_path, monkeypatch):
    whole, calls = trainer.save_model, []

    def interrupted(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        whole(*arguments, **options)

    monkeypatch.setattr(trainer, "save_model", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.train(load_config(fit.path, ["train.save_steps=2"]))
    assert [path.name for path in checkpoints.checkpoints(tmp_path / "run")] == ["checkpoint-2"]


def test_a_used_folder_is_refused_unless_it_is_to_be_resumed(fit, tmp_path):
    config = load_config(fit.path, ["train.save_steps=4"])
    run.train(config)
    shutil.rmtree(tmp_path / "run" / "final")
    with pytest.raises(
        ConfigError, match=r"train.output_dir .*run: holds checkpoint-4; add --resume to go on"
    ):
        run.train(config)
    final = run.train(config, resume=True)
    with pytest.raises(ConfigError, match=r"train.output_dir .*run: holds final; add --resume to go on"):
        run.train(config)
    written = (final / "model.safetensors").stat().st_mtime_ns
    assert run.train(config, resume=True) == final
    assert (final / "model.safetensors").stat().st_mtime_ns == written  # nothing was trained again


def test_resuming_a_run_that_was_killed_before_its_final_model_writes_that(fit, tmp_path):
    config = load_config(fit.path, ["train.save_steps=6"])
    expected = (run.train(config) / "model.safetensors").read_bytes()
    shutil.rmtree(tmp_path / "run" / "final")
    assert (run.train(config, resume=True) / "model.safetensors").read_bytes() == expected


def test_resume_without_a_checkpoint_starts_at_the_first_step(fit):
    assert run.train(load_config(fit.path, ["train.max_steps=1"]), resume=True).is_dir()


# ---- refusals before a model is built


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "train.precision=bfloat16",
            "train.precision bfloat16: the CPU has float32 only; use that, or a GPU",
        ),
        ("train.precision=float16", "train.precision float16: the CPU has float32 only; use that, or a GPU"),
        ("train.sharding=stage2", "train.sharding stage2: needs GPUs"),
        ("data.max_tokens=300", r"data.max_tokens \(300\): the decoder has 256 positions"),
        ("model.decoder.vocab_size=100", r"model.decoder.vocab_size \(100\) must be the tokenizer's 384"),
        ("model.tokenizer=", "model.tokenizer: no folder given"),
        ("data.train=", "data.train: no data"),
    ],
)
def test_what_cannot_be_is_refused_before_training(fit, override, message):
    with pytest.raises(ConfigError, match=message):
        run.build_trainer(load_config(fit.path, [override]))


def test_a_batch_that_the_processes_cannot_share_is_refused():
    message = (
        r"train.batch_size \(8\) must be a multiple of train.per_device_train_batch_size \(2\) times "
        r"the processes \(3\)"
    )
    with pytest.raises(ConfigError, match=message):
        BatchSchedule(steps=1, batch_size=8, micro_batch_size=2, ranks=3)


@pytest.mark.parametrize(("micro", "ranks"), [(8, 1), (2, 1), (4, 2), (1, 4), (2, 2)])
def test_slices_of_all_processes_are_the_whole_step(micro, ranks):
    plans = [BatchSchedule(5, 8, micro, rank, ranks) for rank in range(ranks)]
    for step in range(5):
        shares = [
            draw
            for plan in plans
            for part in range(plan.accumulation)
            for draw in plan.sample_indices(step, part)
        ]
        assert sorted(shares) == list(range(8 * step, 8 * step + 8))


@pytest.mark.parametrize(
    ("overrides", "rows", "steps"),
    [
        (["train.max_steps=7"], 10, 7),
        (["train.max_steps=0", "train.num_train_epochs=1"], 64, 8),
        (["train.max_steps=0", "train.num_train_epochs=2.5"], 64, 20),
        (["train.max_steps=0", "train.num_train_epochs=1"], 5, 1),
    ],
)
def test_steps_of_a_run(tiny_run, overrides, rows, steps):
    config = load_config(tiny_run(), overrides)
    assert run.count_steps(config, rows) == steps


# ---- what is shown


def test_progress_of_a_resumed_run_counts_its_own_steps(monkeypatch, capsys):
    """100 of 200 steps were done before; 10 more of 8 pages in 20 s are 4 a second, 3 minutes left."""
    clock = iter([50.0, 70.0])
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(progress, "peak_memory", lambda: 3 << 29)
    shown, state = (
        progress.Progress(8, loader := SimpleNamespace(tokens=0)),
        SimpleNamespace(global_step=100, max_steps=200, is_world_process_zero=True),
    )
    shown.on_train_begin(None, state, None)
    state.global_step, loader.tokens = 110, 1000
    shown.on_log(None, state, None, logs={"loss": 1.25, "learning_rate": 3e-4, "waiting_for_data": 0.034})
    shown.on_log(None, state, None, logs={"train_loss": 1.25})
    shown.close()
    line = "step 110/200: loss 1.2500, lr 3.0e-04, 4.0 pages/s, 50 tokens/s, 1.50 GB, waits 3 %, 03:00 left\n"
    assert capsys.readouterr().err == line
