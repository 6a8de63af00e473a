"""train.py as a user runs it: what it prints, how it ends, what it leaves."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import train
from got_train.config.loader import load_config
from got_train.training import run
from got_train.training.checkpoints import checkpoints

ROOT = Path(__file__).parents[2]
TRAIN = [sys.executable, "-W", "ignore", str(ROOT / "train.py")]
STAGE1 = str(ROOT / "configs" / "nano" / "stage1.yaml")


def command(*arguments, seconds=300):
    return subprocess.run(
        [*TRAIN, *map(str, arguments)], capture_output=True, text=True, timeout=seconds, check=False
    )


def own_lines(errors):
    return [line for line in errors.splitlines() if line.startswith("train: ")]


# ---- without training


@pytest.mark.parametrize("arguments", [["--help"], [STAGE1, "--show"]])
def test_help_and_show_take_less_than_a_second_and_no_paddle(arguments):
    script = (
        "import sys, train\n"
        "try:\n    train.main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'paddle', 'paddlenlp', 'numpy', 'PIL'} & set(sys.modules)), file=sys.stderr)"
    )
    began = os.times()
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    ended = os.times()  # of the processor, for other work may keep the command waiting
    assert sum(ended[2:4]) - sum(began[2:4]) < 1
    assert done.stderr == "[]\n"
    assert done.stdout.startswith("usage: got train" if arguments == ["--help"] else "model:\n")


def test_show_prints_the_whole_config_with_its_overrides(capsys, tmp_path):
    assert train.main([STAGE1, "--show", "train.seed=7", "parts.vision.learning_rate=1e-4"]) == 0
    (tmp_path / "shown.yaml").write_text(capsys.readouterr().out)
    shown = load_config(tmp_path / "shown.yaml")
    assert (
        shown
        == load_config(STAGE1, ["train.seed=7", "parts.vision.learning_rate=1e-4"])
        != load_config(STAGE1)
    )


def test_overrides_may_stand_before_and_behind_flags(capsys):
    assert train.main([STAGE1, "train.seed=7", "--show", "train.max_steps=3"]) == 0
    assert re.search(r"steps: 3\n(.*\n)*  seed: 7\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["none.yaml"],
            "train: none.yaml: no such file; give a YAML file such as configs/nano/stage1.yaml\n",
        ),
        ([STAGE1, "train.sed=1"], f"train: {STAGE1}: train.sed: no such setting; did you mean seed?\n"),
        (
            [STAGE1, "seed=1"],
            f"train: {STAGE1}: 'seed=1': an override reads section.key=value, "
            "e.g. optimizer.learning_rate=1e-4\n",
        ),
        (
            [STAGE1, "train.precision=bfloat16"],
            "train: train.precision bfloat16: the CPU has float32 only; use that, or a GPU\n",
        ),
    ],
)
def test_wrong_settings_end_with_2_and_one_line(capsys, tmp_path, arguments, line):
    overrides = [f"train.output_dir={tmp_path}"] if len(arguments) > 1 else []
    assert train.main([*arguments, *overrides]) == 2
    assert capsys.readouterr().err == line


# ---- what ends it


@pytest.fixture
def ends_with(monkeypatch, capsys, tmp_path):
    """A function: the code and the line that the command ends with when training raises `error`."""

    def ends_with(error):
        def raises(config, resume, interruption):
            raise error

        monkeypatch.setattr(run, "train", raises)
        return train.main([STAGE1, f"train.output_dir={tmp_path}"]), capsys.readouterr().err

    return ends_with


def test_faults_of_data_files_and_numbers_are_one_line(ends_with, tmp_path):
    from got_train.data.records import RecordError
    from got_train.errors import CheckpointError
    from got_train.training.trainer import NonFiniteError

    for error in (RecordError("a:3: no"), CheckpointError("w"), NonFiniteError("step 3: loss nan")):
        assert ends_with(error) == (1, f"train: {error}\n")
    said = "No space left on device; there is no checkpoint yet\n"
    assert ends_with(OSError(28, "No space left on device", "x")) == (1, f"train: x: {said}")
    assert ends_with(OSError(28, "No space left on device")) == (1, f"train: {tmp_path}: {said}")


@pytest.mark.parametrize("error", [ValueError("shapes"), KeyError("a"), RuntimeError("out of memory")])
def test_a_fault_of_the_program_keeps_its_traceback(ends_with, error):
    with pytest.raises(type(error)):
        ends_with(error)


def test_an_interrupted_run_ends_with_130_and_names_its_checkpoint(ends_with, tmp_path):
    assert ends_with(KeyboardInterrupt()) == (130, "train: interrupted; there is no checkpoint yet\n")
    for step in (9, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
    line = f"train: interrupted; {tmp_path}/checkpoint-10 is complete, --resume continues from it\n"
    assert ends_with(KeyboardInterrupt()) == (130, line)


def test_a_record_that_a_worker_cannot_use_ends_the_command_in_seconds(tiny_run, tmp_path):
    path = tiny_run()
    (tmp_path / "11.png").write_bytes(b"no picture")
    done = command(path, "train.max_steps=1000", "data.num_workers=2")
    assert done.returncode == 1, done.stderr[-3000:]
    (line,) = own_lines(done.stderr)
    assert re.match(rf"train: {tmp_path}/data\.jsonl:12: .*11\.png", line)
    assert "Traceback" not in done.stderr
    steps = [int(step) for step in re.findall(r"step (\d+)/1000", done.stderr)]
    assert max(steps, default=0) < 8  # it comes in the first epoch


def test_a_command_that_trains_prints_a_line_a_step_and_the_final_folder(tiny_run, tmp_path, capsys):
    assert train.main([str(tiny_run()), "train.max_steps=2"]) == 0
    shown = capsys.readouterr()
    assert shown.out == f"{tmp_path}/run/final\n"
    assert [line.partition(":")[0] for line in shown.err.splitlines()] == ["step 1/2", "step 2/2"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_command_after_its_step_and_leaves_whole_checkpoints(
    tiny_run, tmp_path, number, code
):
    arguments = ["train.max_steps=100000", "train.save_steps=2", "data.num_workers=2"]
    running = subprocess.Popen(
        [*TRAIN, str(tiny_run()), *arguments], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    give_up = time.monotonic() + 200
    while len(checkpoints(tmp_path / "run")) < 2 and time.monotonic() < give_up:
        time.sleep(0.01)
    os.killpg(running.pid, number)  # as a terminal does: the workers get it too
    errors = running.communicate(timeout=200)[1]
    found = checkpoints(tmp_path / "run")
    assert running.returncode == code, errors[-3000:]
    assert own_lines(errors) == [
        "train: ends after this step with a checkpoint; the same again ends at once",
        f"train: interrupted; {found[-1]} is complete, --resume continues from it",
    ]
    for folder in found:
        step = json.loads((folder / "trainer_state.json").read_text())["global_step"]
        assert folder.name == f"checkpoint-{step}"
        assert (folder / "optimizer-0.safetensors").exists()
        assert load_config(folder / "run.yaml").train.save_steps == 2


BUILT = """
import os, signal, sys, time
import train
from got_train.training import run

def build(*_):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)

run.build_trainer = build
train.leave(train.main(sys.argv[1:]))
"""


def test_a_signal_while_the_run_is_built_is_answered_too(tiny_run):
    """paddlenlp.trainer, once imported, leaves SIGTERM to the system, which says nothing."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", BUILT, str(tiny_run())],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 143, done.stderr[-3000:]
    assert own_lines(done.stderr) == ["train: interrupted; there is no checkpoint yet"]


KILLED = """
import os, signal, sys
import safetensors.paddle, train

save, saves = safetensors.paddle.save_file, []

def killed(tensors, path, metadata=None):
    if "optimizer" in os.path.basename(path):
        saves.append(path)
    if len(saves) == 2:
        open(path, "wb").write(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    save(tensors, path, metadata)

safetensors.paddle.save_file = killed
train.main(sys.argv[1:])
"""


@pytest.mark.slow
def test_a_save_that_is_killed_leaves_the_checkpoint_before_it(tiny_run, tmp_path):
    path, save_every = tiny_run(), "train.save_steps=2"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLED, str(path), save_every],
        cwd=ROOT,
        capture_output=True,
        timeout=300,
        check=False,
    )
    folder = tmp_path / "run"
    assert done.returncode == -signal.SIGKILL
    assert (folder / ".unfinished" / "checkpoint-4" / "optimizer-0.safetensors").read_bytes() == b"half"
    assert [path.name for path in checkpoints(folder)] == ["checkpoint-2"]
    assert train.main([str(path), save_every, "--resume"]) == 0
    assert train.main([str(path), save_every, f"train.output_dir={tmp_path}/whole"]) == 0
    weights = [tmp_path / name / "final" / "model.safetensors" for name in ("run", "whole")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert not (folder / ".unfinished").exists()
