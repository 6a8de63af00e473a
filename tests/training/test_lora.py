"""LoRA: nothing changes at step 0, only adapters train and are kept, they go on, off and into the weights."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest

from got_train.checkpoint.adapters import Adapters, SharedModels, base_hash, load_adapter_weights
from got_train.checkpoint.weights import load_model, load_vision, save_model
from got_train.cli import merge
from got_train.config.loader import load_config
from got_train.errors import CheckpointError, ConfigError
from got_train.inference.reader import load_pipeline
from got_train.modeling.lora import MATRICES, Adapter, attach, detach, target_layers
from got_train.training import run

ROOT = Path(__file__).parents[2]
ALL = "lora.parts=[vision, projector, decoder]"
FROZEN = ("parts.vision.trainable=false", "parts.projector.trainable=false")


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A function: the base folder of this module, made once by the one that is given."""
    folder = tmp_path_factory.mktemp("base") / "final"

    def kept(make):
        if not folder.exists():
            make(folder)
        return folder

    return kept


@pytest.fixture
def base(fit, kept):
    """A trained model of the tiny run, from which `fit` starts from now on."""

    def make(folder):
        run.train(load_config(fit.path, [f"train.output_dir={folder.parent}", "train.max_steps=2"]))

    settings = json.loads(fit.path.read_text())
    folder = kept(make)
    fit.path.write_text(json.dumps(settings | {"model": {"init_from": str(folder)}}))
    return folder


def adapter_of(layers, rank=3, alpha=6.0, dropout=0.5):
    return Adapter("base", "hash", "repo", rank, alpha, dropout, layers)


def shake(model, seed=0, matrix="lora_B"):
    """Numbers for matrices that start at zero."""
    generator = np.random.default_rng(seed)
    for name, value in model.named_parameters():
        if name.endswith(matrix):
            value.set_value(paddle.to_tensor(generator.normal(0, 0.3, value.shape).astype("float32")))


def gap(one, other):
    return max(float(np.abs(one[name] - other[name]).max()) for name in one)


# ---- the layer


@pytest.mark.parametrize("kind", ["qwen2", "opt"])
def test_a_model_with_new_adapters_computes_what_it_did_to_the_last_bit(random_model, logits_of, kind):
    model = random_model(kind)
    before = logits_of(model)
    layers = target_layers(model, ("vision", "projector", "decoder"))
    assert len(layers) == 3 * 4 + 1 + 2 * (7 if kind == "qwen2" else 6)
    attach(model, adapter_of(layers))
    assert np.array_equal(logits_of(model), before)
    shake(model)
    assert np.abs(logits_of(model) - before).max() > 0.1
    assert np.array_equal(logits_of(detach(model)), before)


def test_forward_and_gradients_of_a_layer_are_those_worked_out_by_hand(random_model):
    """y = xW + b + s xAB with s = alpha / rank = 2; dA = s x'g B', dB = s (xA)'g, dx = gW' + s gB'A'."""
    model = random_model()
    attach(model, adapter_of(("projector",), dropout=0.0))
    shake(model)
    layer, generator = model.projector, np.random.default_rng(1)
    x, g = (generator.normal(size=(5, 16)).astype("float32") for _ in "xg")
    given = paddle.to_tensor(x, stop_gradient=False)
    made = layer(given)
    made.backward(paddle.to_tensor(g))
    w, b, a_, b_ = (value.numpy() for value in (layer.weight, layer.bias, layer.lora_A, layer.lora_B))
    np.testing.assert_allclose(made.numpy(), x @ w + b + 2 * (x @ a_ @ b_), atol=1e-5)
    np.testing.assert_allclose(layer.lora_A.grad.numpy(), 2 * x.T @ g @ b_.T, atol=1e-5)
    np.testing.assert_allclose(layer.lora_B.grad.numpy(), 2 * (x @ a_).T @ g, atol=1e-5)
    np.testing.assert_allclose(given.grad.numpy(), g @ w.T + 2 * g @ b_.T @ a_.T, atol=1e-5)


def test_targets_are_ends_of_names_or_patterns_and_a_stranger_is_refused(random_model):
    model = random_model()
    chosen = target_layers(model, ("decoder",), ("q_proj", r"layers\.1\.mlp\..*"))
    assert [name.split("layers.")[1] for name in chosen] == [
        "0.self_attn.q_proj",
        "1.mlp.down_proj",
        "1.mlp.gate_proj",
        "1.mlp.up_proj",
        "1.self_attn.q_proj",
    ]
    with pytest.raises(
        CheckpointError, match="lora.targets: no layer of projector is 'q_proj'; there are proj"
    ):
        target_layers(model, ("projector",), ("q_proj",))


# ---- a run


def test_only_adapters_move_and_only_they_are_kept(fit, base, tmp_path, arrays):
    made = fit("lora.rank=2", ALL, "train.save_steps=3")
    moved = {name for name in made.after if (made.before[name] != made.after[name]).any()}
    assert moved == {name for name in made.after if name.endswith(MATRICES)}
    folder = tmp_path / "run" / "checkpoint-3"
    assert sorted(path.name for path in folder.iterdir()) == [
        "adapter.json",
        "adapter.safetensors",
        "checkpoint.json",
        "optimizer-0.safetensors",
        "qwen.tiktoken",
        "run.yaml",
        "tokenizer_config.json",
        "trainer_state.json",
    ]
    assert arrays(folder / "adapter.safetensors").keys() == {name.removeprefix("got.") for name in moved}
    state = arrays(folder / "optimizer-0.safetensors")
    moments = {name.removesuffix("_moment1_0") for name in state if name.endswith("_moment1_0")}
    assert moments == moved
    audit = json.loads((tmp_path / "run" / "audit.json").read_text())["parts"]
    assert [part["parameters"] for part in audit] == [2 * 8, 2, 2 * 14]
    assert all(part["frozen_modified"] == 0 < part["frozen"] for part in audit)


def test_a_part_without_adapters_trains_or_not_as_its_setting_says(fit, base, tmp_path, arrays):
    made = fit("lora.rank=2", FROZEN[0], "train.save_steps=6")
    moved = {name for name in made.after if (made.before[name] != made.after[name]).any()}
    assert {name.split(".")[1] for name in moved} == {"projector", "decoder"}
    saved = arrays(tmp_path / "run" / "checkpoint-6" / "adapter.safetensors")
    assert {"projector.weight", "projector.bias"} < saved.keys()


@pytest.mark.parametrize(
    "others", [(ALL,), (*FROZEN, "data.num_workers=2", "train.per_device_train_batch_size=4")]
)
def test_a_resumed_run_with_dropout_equals_an_uninterrupted_one_bit_for_bit(fit, base, tmp_path, others):
    settings = ("lora.rank=4", "train.save_steps=3", "train.ema_decay=0.9", *others)
    without = fit(*settings, "lora.dropout=0", f"train.output_dir={tmp_path}/without")
    settings += ("lora.dropout=0.3",)
    whole = fit(*settings)
    again = fit(*settings, f"train.output_dir={tmp_path}/again", checkpoint=tmp_path / "run" / "checkpoint-3")
    assert again.losses == whole.losses[3:]
    assert gap(whole.after, again.after) == 0
    assert gap(whole.after, without.after) > 0  # it was there


def test_a_step_of_8_equals_4_of_2_and_layers_computed_twice(fit, base, within):
    settings = ("lora.rank=4", "lora.dropout=0", ALL)
    whole = fit(*settings)
    for other in ("train.per_device_train_batch_size=2", "train.recompute=true"):
        made = fit(*settings, other)
        within(f"loss, {other}", np.abs(np.subtract(whole.losses, made.losses)).max(), 2e-6)
        within(f"weights, {other}", gap(whole.after, made.after), 1e-5)


@pytest.mark.slow
def test_two_processes_equal_one(fit, base, tmp_path, within, arrays):
    """Also the ledger: what two have written adds up to what one has."""
    from got_train.training.ledger import read_sample_log

    settings = ["lora.rank=4", "lora.dropout=0", "parts.vision.trainable=false", "data.on_error=skip"]
    (tmp_path / "11.png").write_bytes(b"no picture")
    run.train(load_config(fit.path, settings))
    launch = [sys.executable, "-W", "ignore", "-m", "paddle.distributed.launch", "--nproc_per_node", "2"]
    launch += ["--log_dir", str(tmp_path / "log"), str(ROOT / "train.py"), str(fit.path), *settings]
    launch += ["train.per_device_train_batch_size=2", f"train.output_dir={tmp_path}/two"]
    done = subprocess.run(launch, cwd=tmp_path, capture_output=True, timeout=300, check=False)
    logs = "".join((tmp_path / "log" / f"workerlog.{rank}").read_text() for rank in (0, 1))
    assert done.returncode == 0, logs[-3000:]
    one, two = (arrays(tmp_path / name / "final" / "adapter.safetensors") for name in ("run", "two"))
    within("weights", gap(one, two), 1e-5)
    assert len(list((tmp_path / "two").glob("ledger-*.jsonl"))) == 2
    assert read_sample_log(tmp_path / "run") == read_sample_log(tmp_path / "two")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.init_from="], "lora.rank: adapters are kept without the weights"),
        (["parts.decoder.trainable=false"], "parts.decoder.trainable is false, but lora.parts names decoder"),
        (["lora.rank=0", "lora.alpha=8"], "lora.alpha: rank is 0, which is no LoRA"),
        (["train.sharding=stage2"], "lora.rank: goes with data parallel"),
        (["lora.targets=['(']"], "lora.targets: '\\(' is not a regular expression"),
        (["lora.parts=[encoder]"], "lora.parts.0. must be one of 'vision', 'projector', 'decoder'"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(fit, base, overrides, message):
    with pytest.raises(ConfigError, match=message):
        load_config(fit.path, overrides if "lora.rank=0" in overrides else ["lora.rank=4", *overrides])


# ---- folders


@pytest.fixture
def two_adapters(base, tmp_path, monkeypatch):
    """Folders a and b of one base, other in rank, layers and parts; a brings a projector of its own."""
    from got_train.checkpoint.adapters import save_adapter
    from got_train.tokenizer import load_tokenizer

    def make(name, seed, rank, parts, whole):
        model = load_model(base)
        sha = base_hash(base, model)
        layers = target_layers(model, parts)
        adapter = Adapter(str(base), sha, "repo", rank, 2.0 * rank, 0.1, layers, whole)
        attach(model, adapter)
        shake(model, seed)
        if whole:
            shake(model, seed, "projector.weight")
        save_adapter(model, tmp_path / name, adapter, load_tokenizer(base))
        return tmp_path / name

    return make("a", 1, 2, ("vision", "decoder"), ("projector",)), make("b", 2, 3, ("projector",), ())


def test_adapters_are_swapped_exactly_and_without_reading_the_base_again(base, two_adapters, logits_of):
    a, b = two_adapters
    alone = logits_of(load_pipeline(base).model)
    fresh = {folder: logits_of(load_pipeline(folder).model) for folder in two_adapters}
    model = load_pipeline(base).model
    embedding = model.decoder.head
    adapters = Adapters(model, base)
    for folder in (a, b, a, None, b, b, a):
        adapters.use(folder)
        assert np.array_equal(logits_of(model), alone if folder is None else fresh[folder])
    assert model.decoder.head is embedding
    assert min(np.abs(fresh[a] - alone).max(), np.abs(fresh[a] - fresh[b]).max()) > 0.1
    assert not model.projector.training


def test_models_of_one_base_share_its_weights_and_each_computes_what_it_does_alone(
    base, two_adapters, logits_of
):
    shared, folders = SharedModels(), (*two_adapters, base)
    models = {folder: load_pipeline(folder, shared=shared).model for folder in folders}
    for folder, model in models.items():
        assert np.array_equal(logits_of(model), logits_of(load_pipeline(folder).model))
    a, b, alone = models.values()
    assert a.decoder.head is b.decoder.head is alone.decoder.head
    assert b.projector.base_layer.weight is alone.projector.weight
    assert np.abs((a.projector.weight - alone.projector.weight).numpy()).max() > 0  # a brings its own


def test_an_adapter_refuses_another_base_and_takes_a_moved_one(base, two_adapters, tmp_path, logits_of):
    a, _ = two_adapters
    expected = logits_of(load_pipeline(a).model)
    other = load_model(base)
    other.projector.bias.set_value(other.projector.bias + 1e-6)
    save_model(other, tmp_path / "other")
    with pytest.raises(
        CheckpointError, match="other has other weights or sizes; give the model that it was trained on"
    ):
        load_pipeline(tmp_path / "other", adapter=a)
    save_model(load_model(base), tmp_path / "moved", "transformers", None, load_pipeline(base).tokenizer)
    assert np.array_equal(logits_of(load_pipeline(tmp_path / "moved", adapter=a).model), expected)
    card = json.loads((a / "adapter.json").read_text())
    (a / "adapter.json").write_text(json.dumps(card | {"base": "/nowhere"}))
    with pytest.raises(CheckpointError, match="its base /nowhere is not there; put it back, or name both"):
        load_pipeline(a)


def test_an_adapter_folder_that_is_damaged_leaves_the_model_as_it_was(base, two_adapters, logits_of):
    a, b = two_adapters
    (b / "adapter.safetensors").write_bytes((a / "adapter.safetensors").read_bytes())
    model = load_model(base)
    before = logits_of(model)
    with pytest.raises(CheckpointError, match="lora_A is .*; expected rank 3"):
        Adapters(model, base).use(b)
    assert np.array_equal(logits_of(model), before)
    (b / "adapter.json").write_text("{")
    with pytest.raises(CheckpointError, match="adapter.json: not an adapter"):
        load_pipeline(b)
    for load in (load_model, lambda folder: load_vision(model, folder)):
        with pytest.raises(CheckpointError, match="an adapter, not a whole model; got merge"):
            load(a)


def test_a_run_goes_on_from_an_adapter_or_from_it_merged(fit, base, tmp_path, within):
    fit("lora.rank=2", *FROZEN, "train.save_steps=6")
    settings = json.loads(fit.path.read_text())
    start = tmp_path / "run" / "checkpoint-6"
    fit.path.write_text(json.dumps(settings | {"model": {"init_from": str(start)}}))
    further = fit("lora.rank=2", *FROZEN, "train.output_dir=" + str(tmp_path / "further"))
    model = load_model(base)
    attach(model, further.trainer.adapter)
    load_adapter_weights(model, start)
    begun = {f"got.{name}": value.numpy() for name, value in model.named_parameters()}
    assert gap(begun, further.before) == 0
    assert further.trainer.adapter.base == str(base)
    full = fit("train.output_dir=" + str(tmp_path / "full"))
    merged = {f"got.{name}": value.numpy() for name, value in detach(model, fold=True).named_parameters()}
    assert gap(merged, full.before) == 0 and full.trainer.adapter is None
    with pytest.raises(
        CheckpointError, match=r"an adapter with other rank \(2, now 3\); keep lora and parts"
    ):
        fit("lora.rank=3", *FROZEN)


# ---- merged


@pytest.mark.parametrize("layout", ["original", "transformers"])
def test_a_merged_model_computes_what_base_and_adapter_do(two_adapters, tmp_path, logits_of, capsys, layout):
    a, _ = two_adapters
    assert merge.main([str(a), str(tmp_path / "out"), "--layout", layout]) == 0
    assert "merged: largest difference" in capsys.readouterr().out
    expected, found = (logits_of(load_pipeline(folder).model) for folder in (a, tmp_path / "out"))
    assert np.abs(expected - found).max() <= 1e-5 * np.abs(expected).max()
    assert merge.main([str(a), str(tmp_path / "out")]) == 2  # which holds something
    assert "exists and is not an empty folder" in capsys.readouterr().err


def test_a_merge_without_its_base_says_how_to_name_it(two_adapters, tmp_path, capsys):
    a, _ = two_adapters
    card = json.loads((a / "adapter.json").read_text())
    (a / "adapter.json").write_text(json.dumps({**card, "base": "/none"}))
    try:
        assert merge.main([str(a), str(tmp_path / "out")]) == 2
    finally:
        (a / "adapter.json").write_text(json.dumps(card))
    assert "its base /none is not there; put it back, or name both" in capsys.readouterr().err


def test_a_merge_on_a_full_disk_says_so_and_leaves_nothing(two_adapters, tmp_path, capsys, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("got_train.checkpoint.weights._write_weights", full)
    assert merge.main([str(two_adapters[0]), str(tmp_path / "out")]) == 2
    assert f"{tmp_path}/out: cannot be written ([Errno 28]" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.glob("*out*")) == []
    assert not list(tmp_path.glob(".*out*"))


def test_a_merge_that_computes_something_else_leaves_nothing(two_adapters, tmp_path, capsys, monkeypatch):
    a, _ = two_adapters
    monkeypatch.setattr("got_train.checkpoint.merge.TOLERANCE", 0.0)  # as float32 is not exact
    assert merge.main([str(a), str(tmp_path / "out")]) == 2
    assert "merged, the logits move by" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.glob("*out*")) == []
