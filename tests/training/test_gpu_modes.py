"""Modes that want several GPUs: refused on the CPU, and right where the CPU can be made to run them."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import paddle
import pytest
from paddle.base import core

from got_train.checkpoint.weights import save_model
from got_train.config.schema import ConfigError, load_config
from got_train.modeling.causal_attention import Samples, causal_attention
from got_train.modeling.tensor_parallel import Cut, TensorParallelError, cut_axis, split
from got_train.training import run
from got_train.training.callbacks.gradient_audit import gradient, norm
from got_train.training.optimizer_state import Slice, join_state, split_state
from got_train.training.trainer import arguments

from .test_distributed import cut, gap, losses, weights

HERE = Path(__file__).parents[1]
TWO = "train.micro_batch_size=2"
MODES = {
    "stage2": ["train.sharding=stage2"],
    "stage3": ["train.sharding=stage3"],
    "tensor_parallel": ["train.tensor_parallel=2"],
}
AXES = {  # what one process keeps of Qwen2's weights, [in, out]
    "layers.3.self_attn.q_proj.weight": 1,
    "layers.3.self_attn.k_proj.bias": 0,
    "layers.3.self_attn.o_proj.weight": 0,
    "layers.3.mlp.gate_proj.weight": 1,
    "layers.3.mlp.down_proj.weight": 0,
    "layers.3.input_layernorm.weight": None,
    "embed_tokens.weight": None,
}


# ---- refused


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.sharding=stage2", "train.sharding stage2: needs GPUs; on the CPU there is stage1"),
        ("train.sharding=stage3", "train.sharding stage3: needs GPUs; on the CPU there is stage1"),
        ("train.tensor_parallel=2", "train.tensor_parallel 2: needs GPUs; on the CPU 1"),
        ("train.precision=bfloat16", "train.precision bfloat16: the CPU has float32 only; that, or a GPU"),
        ("train.precision=float16", "train.precision float16: the CPU has float32 only; that, or a GPU"),
    ],
)
def test_the_cpu_refuses_what_it_cannot_do(tiny_run, override, message):
    with pytest.raises(ConfigError, match=f"^{message}$"):
        run.build_trainer(load_config(tiny_run(), [override]))


def test_a_gpu_without_bfloat16_is_told_of_float16(tiny_run, monkeypatch):
    monkeypatch.setattr(paddle, "get_device", lambda: "gpu:0")
    monkeypatch.setattr(paddle.device.cuda, "get_device_capability", lambda: (7, 5))
    with pytest.raises(ConfigError, match=r"bfloat16: this GPU has compute capability 7\.5.* use float16"):
        run.check_device(load_config(tiny_run(), ["train.precision=bfloat16"]))
    assert run.check_device(load_config(tiny_run(), ["train.precision=float16"])) == "gpu"
    monkeypatch.setattr(paddle.device.cuda, "get_device_capability", lambda: (8, 0))
    assert run.check_device(load_config(tiny_run(), ["train.precision=bfloat16"])) == "gpu"


def test_what_needs_whole_weights_or_even_parts_is_refused(tiny_run, random_model, monkeypatch):
    path = tiny_run()
    with pytest.raises(ConfigError, match=r"train\.tensor_parallel \(2\) and train\.sharding \(stage1\) ex"):
        load_config(path, ["train.tensor_parallel=2", "train.sharding=stage1"])
    with pytest.raises(ConfigError, match=r"train\.tensor_parallel must be at least 1; got 0"):
        load_config(path, ["train.tensor_parallel=0"])
    for mode in ("train.tensor_parallel=2", "train.sharding=stage3"):
        for other in ("train.average=0.9", "data.validation=some.jsonl"):
            key = other.partition("=")[0].replace(".", r"\.")
            with pytest.raises(ConfigError, match=f"{key}: needs whole weights"):
                load_config(path, [mode, other])
    monkeypatch.setattr(run, "check_device", lambda config: "cpu")
    with pytest.raises(
        ConfigError, match=r"train\.tensor_parallel \(2\) must be the number of processes \(1\)"
    ):
        run.build_trainer(load_config(path, ["train.tensor_parallel=2"]))
    with pytest.raises(TensorParallelError, match=r"\(4\) must divide decoder\.kv_heads \(2\)"):
        split(random_model().decoder, 0, 4)
    with pytest.raises(TensorParallelError, match="a decoder of kind opt; qwen2 only"):
        split(random_model("opt").decoder, 0, 2)


# ---- parts and the whole


@pytest.mark.parametrize("degree", [1, 2, 4])
@pytest.mark.parametrize(("name", "axis"), AXES.items())
def test_cut_parts_side_by_side_are_the_whole(name, axis, degree):
    assert cut_axis(name) == axis
    whole = np.random.default_rng(0).normal(size=(8, 16) if name.endswith("weight") else (8,))
    if axis is not None:
        parts = [Cut(axis, rank, degree).own(whole) for rank in range(degree)]
        assert parts[0].size == whole.size // degree
        assert np.array_equal(np.concatenate(parts, axis), whole)


def test_the_halves_of_a_layer_add_up_to_it(random_model, monkeypatch):
    """Without the sum over processes, each half gives its term."""
    monkeypatch.setattr(paddle.distributed, "all_reduce", lambda *_, **__: None)
    whole = random_model().decoder.model.layers[1]
    halves = []
    for rank in range(2):
        decoder = random_model().decoder
        split(decoder, rank, 2)
        halves.append(decoder.model.layers[1])
    x = paddle.to_tensor(np.random.default_rng(1).normal(size=(2, 5, 16)).astype("float32"))
    angles = [
        paddle.to_tensor(np.random.default_rng(n).normal(size=(2, 1, 5, 4)).astype("float32")) for n in (2, 3)
    ]
    attend = partial(causal_attention, samples=Samples(None, (2, 5)))
    for branch in (lambda layer: layer.fed(x), lambda layer: layer.attended(x, *angles, attend)):
        first, second = (branch(half).numpy() for half in halves)
        assert np.abs(first + second - branch(whole).numpy()).max() <= 1e-6
        assert np.abs(first - second).max() > 0.1


@pytest.mark.parametrize("size", [8, 9, 15, 16])
def test_slices_side_by_side_are_the_whole_and_zeros(size):
    whole = np.arange(1.0, size + 1, dtype="float32").reshape(1, size)
    parts = [Slice((1, size), 8, rank).own(paddle.to_tensor(whole)).numpy() for rank in range(2)]
    assert [part.shape for part in parts] == [(8,), (8,)]
    assert np.array_equal(np.concatenate(parts), np.pad(whole[0], (0, 16 - size)))


def test_a_state_is_told_apart_by_names_and_holds_no_master_of_another_process(monkeypatch):
    """Paddle keeps at a resume what it has read of the others' master weights; that is out of date."""
    state = {"slice@a_moment1_0": paddle.ones([2]), "slice@a_beta1_pow_acc_0": paddle.ones([1])}
    state |= {"b_moment1_0": paddle.ones([3]), "LR_Scheduler": {"last_epoch": 3}}
    state["master_weights"] = {"slice@a": paddle.ones([2]), "b": paddle.ones([3]), "c": paddle.ones([4])}
    how = {"a": Slice((3,), 2, 1)}
    monkeypatch.setattr(paddle.distributed, "all_gather", lambda parts, own, group: parts.extend([own, own]))
    whole = join_state(state, how)
    assert set(whole) == {
        "a_moment1_0", "a_beta1_pow_acc_0", "b_moment1_0", "LR_Scheduler", "master_weights"
    }  # fmt: skip
    assert {name: each.shape for name, each in whole["master_weights"].items()} == {"a": [3], "b": [3]}
    whole["a_moment1_0"] = paddle.to_tensor([1.0, 2.0, 3.0])
    own = split_state(whole, how)
    assert own["slice@a_moment1_0"].tolist() == [3, 0]
    assert set(own["master_weights"]) == {"slice@a", "b"}
    assert own.keys() == state.keys()
    assert join_state(state, how, keep=False)["a_moment1_0"] is None


def test_the_gradient_norm_counts_a_slice(random_model):
    """ZeRO stage 3 takes a parameter's gradient away and leaves the process its part."""
    layer = paddle.nn.Linear(2, 2)
    layer(paddle.ones([1, 2])).sum().backward()  # all gradients are 1
    assert norm([gradient(each) for each in layer.parameters()]) == pytest.approx(6**0.5)
    layer.weight.clear_gradient(False)
    layer.weight.bw_storage = paddle.to_tensor([3.0, float("inf")])
    assert norm([gradient(each) for each in layer.parameters()]) == float("inf")


# ---- mixed precision, as far as the CPU shows it


def test_mixed_precision_leaves_the_pixels_mean_alone(random_model):
    """paddle.amp.decorate casts buffers too, by this function and flag; 122.77 would become 123."""
    model = random_model()
    before = model.mean.numpy()
    for layer in model.sublayers(include_self=True):
        if layer._cast_to_low_precision:
            layer._to_impl(dtype="bfloat16", include_sublayers=False, floating_only=True)
    assert model.projector.weight.dtype == paddle.bfloat16
    assert model.mean.dtype == model.std.dtype == paddle.float32
    assert np.array_equal(model.mean.numpy(), before)


def test_float16_keeps_gradients_where_the_scaler_looks(tiny_run):
    """Paddle's GradScaler unscales `grad` and never sees paddlenlp's `main_grad`."""
    parameter = paddle.create_parameter([3], "float32")
    parameter.main_grad = paddle.ones([3])
    assert core.eager.get_grads_lists([parameter]) == [[], [], []]
    for precision, kept in (("float16", False), ("bfloat16", True)):
        config = load_config(tiny_run(), [f"train.precision={precision}"])
        assert arguments(config, 6, 1, "cpu").amp_master_grad == kept


# ---- two processes


def launch(folder, script, *arguments):
    """Two processes over gloo; their logs."""
    command = [sys.executable, "-W", "ignore", "-m", "paddle.distributed.launch", "--nproc_per_node", "2"]
    command += ["--log_dir", str(folder), str(HERE / script), *map(str, arguments)]
    done = subprocess.run(command, cwd=folder.parent, capture_output=True, timeout=300, check=False)
    logs = [(folder / f"workerlog.{rank}").read_text() for rank in (0, 1)]
    assert done.returncode == 0, logs[0][-2000:] + logs[1][-2000:]


@pytest.mark.slow
def test_a_decoder_over_two_processes_has_the_loss_and_gradients_of_one(random_model, tmp_path):
    model = random_model()
    save_model(model, tmp_path / "model")
    generator = np.random.default_rng(3)
    ids = generator.integers(2, 39, (2, 12))
    ids[0, 2:6] = 39  # one view of 4 image tokens
    mask = np.ones((2, 12), dtype="int64")
    mask[1, 9:] = 0
    inputs = {"input_ids": ids, "attention_mask": mask, "labels": np.where(mask > 0, ids, -100)}
    inputs["pixel_values"] = generator.normal(size=(1, 3, 64, 64)).astype("float32")
    np.savez(tmp_path / "inputs.npz", **inputs)
    loss = model(**{name: paddle.to_tensor(value) for name, value in inputs.items()}).loss_sum
    loss.backward()
    launch(tmp_path / "log", "split_decoder.py", tmp_path)
    for rank in range(2):
        result = np.load(tmp_path / f"result-{rank}.npz")
        assert abs(result["loss"] / float(loss) - 1) <= 1e-6
        for name, parameter in model.named_parameters():
            axis = cut_axis(name) if name.startswith("decoder.model.layers") else None
            whole = parameter.grad.numpy()
            own = whole if axis is None else np.split(whole, 2, axis)[rank]
            assert result[name].shape == own.shape
            # the key's bias has gradient 0 but for rounding: softmax does not see it
            assert np.abs(result[name] - own).max() <= 1e-6 * max(1, np.abs(whole).max()), name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "then", "setting"),
    [
        ("stage2", "stage3", "parts.decoder.train=true"),
        ("stage3", "tensor_parallel", "parts.vision.train=false"),
        ("tensor_parallel", "stage2", "train.glyph_weight=1"),
    ],
)
def test_two_processes_in_a_gpu_mode_equal_one(tiny_run, tmp_path, mode, then, setting):
    """Also when another mode goes on from the checkpoint, with layers computed twice, or one process."""
    path, whole = tiny_run(), tmp_path / "one"

    def settings(folder):
        return ["train.save_every=3", f"train.output_dir={folder}", setting]

    def one(folder, resume=False):
        run.train(load_config(path, settings(folder)), resume=resume)

    def two(folder, *options):
        launch(folder.with_suffix(".log"), "gpu_modes_on_cpu.py", path, *settings(folder), TWO, *options)

    def check(folder, first=1):
        assert np.abs(losses(whole)[first - 1 :] - losses(folder, first)).max() <= 1e-6
        assert gap(weights(whole), weights(folder)) <= 1e-5

    one(whole)
    folder = tmp_path / mode
    two(folder, *MODES[mode])
    check(folder)
    again = cut(folder, f"{mode}-{then}")
    two(again, *MODES[then], "train.recompute=true", "--resume")
    check(again, 4)
    alone = cut(folder, f"{mode}-alone")
    one(alone, resume=True)
    check(alone, 4)
