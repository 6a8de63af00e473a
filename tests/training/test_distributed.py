"""Two processes over gloo, launched as a user launches them, against one: same losses, same weights."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from visualdl import LogReader

from got_train.config.loader import load_config
from got_train.training import run

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
HALVES = "train.per_device_train_batch_size=2"  # two processes take two of these each for a step of 8


@pytest.fixture
def both(tiny_run, tmp_path):
    """Functions: run the same config in one process and in two, into folders of the given names."""
    path = tiny_run()

    def settings(name, *overrides):
        return ["train.save_steps=3", f"train.output_dir={tmp_path / name}", *overrides]

    def one(name, *overrides, resume=False):
        run.train(load_config(path, settings(name, *overrides)), resume=resume)
        return tmp_path / name

    def two(name, *overrides, resume=False):
        launch = [sys.executable, "-W", "ignore", "-m", "paddle.distributed.launch", "--nproc_per_node", "2"]
        launch += ["--log_dir", str(tmp_path / f"{name}.log"), str(ROOT / "train.py"), str(path)]
        done = subprocess.run(
            [*launch, *settings(name, *overrides), *["--resume"] * resume],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        logs = [(tmp_path / f"{name}.log" / f"workerlog.{rank}").read_text() for rank in (0, 1)]
        assert done.returncode == 0, logs[0][-2000:] + logs[1][-2000:]
        return tmp_path / name

    return one, two


def losses(folder, first=1, name="loss", every=1):
    """By step, of the last session."""
    file = max((folder / "visualdl").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    rows = LogReader(file_path=str(file)).get_data("scalar", f"train/{name}")
    assert [row.id for row in rows] == list(range(first, 7, every))
    return np.array([row.value for row in rows])


def weights(folder, model="final"):
    return load_file(folder / model / "model.safetensors")


def gap(one, other):
    return max(float(np.abs(one[name] - other[name]).max()) for name in one)


def cut(folder, name):
    """A copy of a run that was killed after step 3."""
    copy = folder.with_name(name)
    shutil.copytree(folder / "checkpoint-3", copy / "checkpoint-3")
    return copy


def test_two_processes_equal_one(both, within):
    """Accumulation, DataParallel; then one process goes on with what two have saved."""
    one, two = both
    whole, halves = one("whole"), two("halves", HALVES)
    within("loss", np.abs(losses(whole) - losses(halves)).max(), 1e-6)
    within("weights", gap(weights(whole), weights(halves)), 1e-5)
    again = one(cut(halves, "again").name, resume=True)
    within("loss, resumed", np.abs(losses(again, 4) - losses(halves)[3:]).max(), 1e-6)


def test_two_processes_equal_one_with_packing_dropped_rows_validation_and_averaged_weights(
    both, within, tmp_path
):
    """Seven rows are broken, so that micro-batches of a process lose a row or both of theirs."""
    one, two = both
    for row in range(7):
        (tmp_path / f"{row}.png").write_bytes(b"no picture")
    rows = (tmp_path / "data.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "held_out.jsonl").write_text("".join(rows[50:57]))  # an odd number to share
    settings = ["data.on_error=skip", "data.packing_length=100", f"data.validation={tmp_path}/held_out.jsonl"]
    settings += ["train.eval_steps=3", "train.ema_decay=0.5"]
    whole, halves = one("whole", *settings), two("halves", HALVES, *settings)
    within("loss", np.abs(losses(whole) - losses(halves)).max(), 1e-6)
    seen = [losses(folder, 3, "validation_loss", 3) for folder in (whole, halves)]
    within("validation loss", np.abs(seen[0] - seen[1]).max(), 1e-6)
    within("weights", gap(weights(whole), weights(halves)), 1e-5)
    within("best weights", gap(weights(whole, "best"), weights(halves, "best")), 1e-5)
    assert len(dropped(whole)) >= 3
    assert dropped(whole) == dropped(halves)
    assert len(list(halves.glob("quarantine-*"))) == 2


def dropped(folder):
    lines = "".join(path.read_text() for path in folder.glob("quarantine-*")).splitlines()
    return sorted(json.loads(line)["location"] for line in lines)


def test_two_processes_that_share_the_optimizer_state_equal_one(both, within):
    """ZeRO stage 1; then one process goes on with the two shares that these have saved."""
    one, two = both
    whole, shares = one("whole"), two("shares", HALVES, "train.sharding=stage1")
    within("loss", np.abs(losses(whole) - losses(shares)).max(), 1e-6)
    within("weights", gap(weights(whole), weights(shares)), 1e-5)
    files = [
        path.stat().st_size for path in sorted((shares / "checkpoint-3").glob("optimizer-*.safetensors"))
    ]
    (undivided,) = (path.stat().st_size for path in (whole / "checkpoint-3").glob("optimizer-*.safetensors"))
    assert len(files) == 2
    assert max(files) < 0.6 * undivided
    again = one(cut(shares, "again").name, resume=True)
    within("loss, resumed", np.abs(losses(again, 4) - losses(whole)[3:]).max(), 1e-6)


def test_two_processes_go_on_with_what_one_has_saved(both, within):
    """Into shares of the state, and with layers computed twice: neither changes a number."""
    one, two = both
    whole = one("whole")
    again = two(
        cut(whole, "again").name, HALVES, "train.sharding=stage1", "train.recompute=true", resume=True
    )
    within("loss, resumed", np.abs(losses(again, 4) - losses(whole)[3:]).max(), 1e-6)
    within("weights", gap(weights(whole), weights(again)), 1e-5)


def test_a_record_that_one_process_cannot_use_ends_both(both, tmp_path):
    """Long before the 100,000 steps are over; the other one says no more than that it was told to end."""
    _, two = both
    (tmp_path / "11.png").write_bytes(b"no picture")
    with pytest.raises(AssertionError, match=r"train: .*data\.jsonl:12: .*11\.png"):
        two("broken", HALVES, "train.max_steps=100000", "train.logging_steps=1000")
    logs = [(tmp_path / "broken.log" / f"workerlog.{rank}").read_text() for rank in (0, 1)]
    assert sum(bool(re.search(r"^train: .*11\.png", text, re.MULTILINE)) for text in logs) == 1


def test_two_processes_that_sample_answers_equal_one(both, within):
    one, two = both
    settings = ["rl.objective=grpo", "rl.group_size=4", "rl.max_new_tokens=12", "rl.stop_on_collapse=false"]
    settings += ["rl.updates=2", "optimizer.learning_rate=1e-3"]
    whole, halves = one("whole", *settings), two("halves", HALVES, *settings)
    within("weights", gap(weights(whole), weights(halves)), 1e-5)
    answers = [
        sorted(line for path in folder.glob("answers-*.jsonl") for line in path.read_text().splitlines())
        for folder in (whole, halves)
    ]
    assert answers[0] == answers[1]
    assert len(answers[0]) == 24
