"""Modes that want several GPUs: refused on the CPU, and right where the CPU can be made to run them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest
from paddle.base import core

from got_train.config.loader import load_config
from got_train.errors import ConfigError
from got_train.training import run
from got_train.training.callbacks.gradient_check import global_norm, gradient
from got_train.training.optimizer_state import ZeroShard, gather_state, scatter_state
from got_train.training.run_state import read_record
from got_train.training.trainer import training_arguments

from .test_distributed import cut, gap, losses, weights

HERE = Path(__file__).parents[1]
TWO = "train.per_device_train_batch_size=2"
MODES = {
    "stage2": ["train.sharding=stage2"],
    "stage3": ["train.sharding=stage3"],
}


# ---- refused


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.sharding=stage2", "train.sharding stage2: needs GPUs; on the CPU there is stage1"),
        ("train.sharding=stage3", "train.sharding stage3: needs GPUs; on the CPU there is stage1"),
        (
            "train.precision=bfloat16",
            "train.precision bfloat16: the CPU has float32 only; use that, or a GPU",
        ),
        ("train.precision=float16", "train.precision float16: the CPU has float32 only; use that, or a GPU"),
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


@pytest.mark.parametrize("wanted", [False, True])
def test_deterministic_sets_paddles_flags_on_a_gpu_before_the_model_is_built(tiny_run, wanted, monkeypatch):
    """A CPU build of Paddle has no such flags, and no GPU: the run stops where its model would be built."""
    seen = {}

    class StopError(Exception):
        pass

    def stop(*_, **__):
        raise StopError

    monkeypatch.setattr(run, "check_device", lambda config: "gpu")
    monkeypatch.setattr(paddle, "set_flags", seen.update)
    monkeypatch.setattr(run, "build_model", stop)
    with pytest.raises(StopError):
        run.build_trainer(load_config(tiny_run(), [f"train.deterministic={str(wanted).lower()}"]))
    assert bool(seen) == wanted
    if wanted:
        assert seen["FLAGS_cudnn_deterministic"] is True
        assert seen["FLAGS_embedding_deterministic"] == 1
        assert seen["FLAGS_cudnn_exhaustive_search"] is seen["FLAGS_use_autotune"] is False


def test_the_record_of_a_run_says_whether_equal_runs_have_equal_bits(tiny_run):
    config = load_config(tiny_run(), ["train.save_steps=2", "train.max_steps=2", "train.deterministic=true"])
    run.train(config)
    assert read_record(Path(config.train.output_dir) / "checkpoint-2").deterministic


@pytest.mark.parametrize("setting", ["train.ema_decay=0.9", "data.validation=some.jsonl"])
def test_stage3_refuses_what_needs_whole_weights(tiny_run, setting):
    key = setting.partition("=")[0].replace(".", r"\.")
    with pytest.raises(ConfigError, match=f"{key}: needs whole weights"):
        load_config(tiny_run(), ["train.sharding=stage3", setting])


# ---- parts and the whole


@pytest.mark.parametrize("size", [8, 9, 15, 16])
def test_slices_side_by_side_are_the_whole_and_zeros(size):
    whole = np.arange(1.0, size + 1, dtype="float32").reshape(1, size)
    parts = [ZeroShard((1, size), 8, rank).own(paddle.to_tensor(whole)).numpy() for rank in range(2)]
    assert [part.shape for part in parts] == [(8,), (8,)]
    assert np.array_equal(np.concatenate(parts), np.pad(whole[0], (0, 16 - size)))


def test_a_state_is_told_apart_by_names_and_holds_no_master_of_another_process(monkeypatch):
    """Paddle keeps at a resume what it has read of the others' master weights; that is out of date."""
    state = {"slice@a_moment1_0": paddle.ones([2]), "slice@a_beta1_pow_acc_0": paddle.ones([1])}
    state |= {"b_moment1_0": paddle.ones([3]), "LR_Scheduler": {"last_epoch": 3}}
    state["master_weights"] = {"slice@a": paddle.ones([2]), "b": paddle.ones([3]), "c": paddle.ones([4])}
    how = {"a": ZeroShard((3,), 2, 1)}
    monkeypatch.setattr(paddle.distributed, "all_gather", lambda parts, own, group: parts.extend([own, own]))
    whole = gather_state(state, how)
    assert set(whole) == {
        "a_moment1_0", "a_beta1_pow_acc_0", "b_moment1_0", "LR_Scheduler", "master_weights"
    }  # fmt: skip
    assert {name: each.shape for name, each in whole["master_weights"].items()} == {"a": [3], "b": [3]}
    whole["a_moment1_0"] = paddle.to_tensor([1.0, 2.0, 3.0])
    own = scatter_state(whole, how)
    assert own["slice@a_moment1_0"].tolist() == [3, 0]
    assert set(own["master_weights"]) == {"slice@a", "b"}
    assert own.keys() == state.keys()
    assert gather_state(state, how, keep=False)["a_moment1_0"] is None


def test_the_gradient_norm_counts_a_slice(random_model):
    """ZeRO stage 3 takes a parameter's gradient away and leaves the process its part."""
    layer = paddle.nn.Linear(2, 2)
    layer(paddle.ones([1, 2])).sum().backward()  # all gradients are 1
    assert global_norm([gradient(each) for each in layer.parameters()]) == pytest.approx(6**0.5)
    layer.weight.clear_gradient(False)
    layer.weight.bw_storage = paddle.to_tensor([3.0, float("inf")])
    assert global_norm([gradient(each) for each in layer.parameters()]) == float("inf")


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
        assert training_arguments(config, 6, 1, "cpu").amp_master_grad == kept


# ---- two processes


def launch(folder, script, *arguments):
    """Two processes over gloo; their logs."""
    command = [sys.executable, "-W", "ignore", "-m", "paddle.distributed.launch", "--nproc_per_node", "2"]
    command += ["--log_dir", str(folder), str(HERE / script), *map(str, arguments)]
    done = subprocess.run(command, cwd=folder.parent, capture_output=True, timeout=300, check=False)
    logs = [(folder / f"workerlog.{rank}").read_text() for rank in (0, 1)]
    assert done.returncode == 0, logs[0][-2000:] + logs[1][-2000:]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "then", "setting"),
    [
        ("stage2", "stage3", "train.char_loss_weight=1"),
        ("stage3", "stage2", "parts.vision.trainable=false"),
    ],
)
def test_two_processes_in_a_gpu_mode_equal_one(tiny_run, tmp_path, mode, then, setting):
    """Also when another mode goes on from the checkpoint, with layers computed twice, or one process."""
    path, whole = tiny_run(), tmp_path / "one"

    def settings(folder):
        return ["train.save_steps=3", f"train.output_dir={folder}", setting]

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
