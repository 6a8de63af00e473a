"""Runs that SIGKILL, Ctrl-C, SIGTERM or a fault ends, inside saves too, and that go on from there."""

import json
import multiprocessing
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pytest
from safetensors.numpy import load_file

import train
from got_train.training import trainer
from got_train.training.checkpoints import checkpoints
from got_train.training.ledger import SampleLog, read_sample_log
from got_train.training.signals import Interrupted, SignalHandler

ROOT = Path(__file__).parents[2]
STEPS = 24  # 3 epochs
EVERY = (f"train.max_steps={STEPS}", "train.save_steps=1")
FORMS = {
    "qwen2": (),
    "validation, best, average, packing, dropped rows": (
        "data.validation={folder}/data.jsonl",
        "data.validation_rows=8",
        "data.packing_length=128",
        "data.on_error=skip",
        "train.eval_steps=1",
        "train.ema_decay=0.9",
        "train.preview_samples=0",
    ),
    "workers, accumulation": ("data.num_workers=2", "train.per_device_train_batch_size=2"),
    "opt with dropout, char boxes": (
        "model.decoder.kind=opt",
        "model.prompt_template=stage1",
        "model.decoder.dropout=0.1",
        "train.char_loss_weight=0.5",
    ),
    "lora with dropout": (
        "model.init_from={folder}/base/final",
        "model.vision={{}}",
        "model.decoder={{}}",
        "parts.vision.trainable=false",
        "lora.rank=4",
        "lora.dropout=0.3",
    ),
}


@dataclass(frozen=True)
class Moment:
    """A signal `delay` seconds after the `count`-th use of a file of the run, or of saves under way.

    Without delay it comes before that use itself.
    """

    signal: int = 0
    count: int = 0
    in_save: bool = False
    delay: float = 0.0


def moments(generator, number, in_run, in_saves):
    """Without end: in turn anywhere in two and a half steps, and before a use of a file in as many saves."""
    while True:
        for in_save, uses in ((False, in_run), (True, in_saves)):
            count = generator.randint(1, int(2.5 * uses / STEPS))
            yield Moment(number, count, in_save, 0 if in_save else 0.03 * generator.random())


@pytest.fixture(scope="module")
def server():
    running = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "tests.forked_runs"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert running.stdout.readline() == "ready\n"
    yield running
    running.stdin.close()
    assert running.wait(30) == 0


@pytest.fixture
def train_in(server, tiny_run, tmp_path):
    """A function: train.py in a folder below tmp_path, maybe ended at a moment; its exit code."""
    config = str(tiny_run())

    def train_in(name, *overrides, moment=Moment()):
        folder = tmp_path / name
        overrides = [override.format(folder=tmp_path) for override in overrides]
        keys = {override.partition("=")[0] for override in overrides}
        every = [setting for setting in EVERY if setting.partition("=")[0] not in keys]
        arguments = [config, *every, *overrides, f"train.output_dir={folder}", "--resume"]
        request = {
            "arguments": arguments,
            "printed": str(tmp_path / f"{name}.printed"),
            "losses": str(tmp_path / f"{name}.losses"),
            "uses": str(tmp_path / f"{name}.uses"),
            "output_dir": str(folder),
            "moment": moment.count,
            "in_save": moment.in_save,
            "delay": moment.delay,
            "signal": int(moment.signal),
        }
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        ended = json.loads(server.stdout.readline())
        assert not ended["left"], "workers live on without their run"
        return ended["code"]

    return train_in


@pytest.fixture
def whole(train_in, tmp_path):
    """A function: a run from start to end; the uses of its files, and those of its saves alone."""

    def whole(*overrides):
        if "lora.rank=4" in overrides:
            assert train_in("base", "train.max_steps=2") == 0
        assert train_in("whole", *overrides) == 0
        return json.loads((tmp_path / "whole.uses").read_text())

    return whole


def losses(tmp_path, name):
    """Step -> the (loss, learning rate) pairs that were logged for it, of all sessions."""
    found = {}
    for line in (tmp_path / f"{name}.losses").read_text().splitlines():
        step, *values = json.loads(line)
        found.setdefault(step, set()).add(tuple(values))
    return found


def optimizer_state(folder):
    return load_file(folder / "optimizer-0.safetensors")


def assert_same_run(tmp_path, one, other):
    """Final and best weights, dropped rows, ledger, optimizer state, losses, learning rates: all digits."""
    folders = [tmp_path / name for name in (one, other)]
    weights = ("final/model.safetensors", "final/adapter.safetensors", "best/model.safetensors")
    for name in (*weights, "quarantine-0.jsonl", "ledger-0.jsonl"):
        made = [folder / name for folder in folders]
        assert made[0].exists() == made[1].exists()
        assert not made[0].exists() or made[0].read_bytes() == made[1].read_bytes()
    states = [optimizer_state(folder / f"checkpoint-{STEPS}") for folder in folders]
    assert states[0].keys() == states[1].keys() and len(states[0]) > 100
    for name, value in states[0].items():
        assert value.tobytes() == states[1][name].tobytes(), name
    assert losses(tmp_path, one) == losses(tmp_path, other)
    assert sorted(losses(tmp_path, one)) == list(range(1, STEPS + 1))


@pytest.mark.parametrize(("form", "kills"), zip(FORMS, (10, 5, 3, 3, 5), strict=True))
def test_a_run_killed_at_random_moments_goes_on_to_the_same_bytes(whole, train_in, tmp_path, form, kills):
    if "data.on_error=skip" in FORMS[form]:
        (tmp_path / "11.png").write_bytes(b"no picture")
    drawn = moments(random.Random(form), signal.SIGKILL, *whole(*FORMS[form]))
    torn, last, wanted = 0, set(), kills // 4
    for count, moment in enumerate(islice(drawn, 2 * kills)):
        if count >= kills and torn >= wanted and len(last) >= wanted:
            break
        assert train_in("killed", *FORMS[form], moment=moment) == -signal.SIGKILL, moment
        torn += any((tmp_path / "killed" / ".unfinished").glob("*"))
        last.update(checkpoints(tmp_path / "killed")[-1:])
    assert torn >= wanted  # saves that were cut short: more moments are drawn if all fell between saves
    assert len(last) >= wanted  # different steps to go on from
    assert train_in("killed", *FORMS[form]) == 0
    assert_same_run(tmp_path, "whole", "killed")
    assert not (tmp_path / "killed" / ".unfinished").exists()


def test_a_save_killed_before_any_use_of_a_file_leaves_what_the_run_goes_on_from(whole, train_in, tmp_path):
    uses = whole()[1] // STEPS
    assert uses >= 15
    torn = 0
    for count in range(1, uses + 1):
        moment = Moment(signal.SIGKILL, count, in_save=True)
        assert train_in("killed", moment=moment) == -signal.SIGKILL, moment
        torn += any((tmp_path / "killed" / ".unfinished").glob("*"))
    assert torn >= uses - 6  # the others are of what is begun, published or deleted
    assert train_in("killed") == 0
    assert_same_run(tmp_path, "whole", "killed")


@pytest.mark.parametrize(
    ("number", "code", "form"),
    [(signal.SIGINT, 130, "qwen2"), (signal.SIGTERM, 143, "workers, accumulation")],
)
def test_interrupted_at_3_random_moments_a_run_names_its_checkpoint_and_goes_on(
    whole, train_in, tmp_path, number, code, form
):
    drawn = moments(random.Random(form), number, *whole(*FORMS[form]))
    for moment in islice(drawn, 3):
        assert train_in("ended", *FORMS[form], moment=moment) == code, moment
        lines = (tmp_path / "ended.printed").read_text().splitlines()
        found = checkpoints(tmp_path / "ended")
        told = "there is no checkpoint yet"
        if found:
            told = f"{found[-1]} is complete, --resume continues from it"
        assert lines[-1] == f"train: interrupted; {told}"
        assert all(line.startswith(("step ", "train: ")) for line in lines)
    assert train_in("ended", *FORMS[form]) == 0
    assert_same_run(tmp_path, "whole", "ended")


def test_a_run_that_is_told_to_end_saves_the_step_under_way_and_goes_on_from_it(whole, train_in, tmp_path):
    """No checkpoint is due but at the end."""
    seldom = f"train.save_steps={STEPS}"
    uses = whole(seldom)[0]
    for turn, number in enumerate((signal.SIGTERM, signal.SIGINT), 1):
        moment = Moment(number, uses // 3)
        assert train_in("ended", seldom, moment=moment) == 128 + number
        lines = (tmp_path / "ended.printed").read_text().splitlines()
        assert "train: ends after this step with a checkpoint; the same again ends at once" in lines
        (saved,) = checkpoints(tmp_path / "ended")[-1:]
        assert lines[-1] == f"train: interrupted; {saved} is complete, --resume continues from it"
        assert f"checkpoint-{max(read_sample_log(tmp_path / 'ended'))}" == saved.name
        assert len(checkpoints(tmp_path / "ended")) == turn
        assert not (tmp_path / "ended" / "final").exists()
    assert train_in("ended", seldom) == 0
    assert_same_run(tmp_path, "whole", "ended")


def test_a_first_signal_is_remembered_and_a_second_ends_at_once_but_for_an_echo(capfd, monkeypatch):
    monkeypatch.setattr(SignalHandler, "listen", lambda self: None)
    for echo in (0.0, 60.0):
        heard = SignalHandler(echo)
        with pytest.raises(Interrupted, match="SIGINT"):
            heard.on_signal(signal.SIGINT, None)  # nobody would look
        with heard.graceful():
            heard.on_signal(signal.SIGTERM, None)
            assert heard.number == signal.SIGTERM
            if echo:
                heard.on_signal(signal.SIGTERM, None)
            else:
                with pytest.raises(Interrupted, match="SIGTERM"):
                    heard.on_signal(signal.SIGINT, None)
        assert capfd.readouterr().err.count("ends after this step") == 1


def no_number(monkeypatch, tmp_path):
    forward = trainer.TrainingLoss.forward
    monkeypatch.setattr(
        trainer.TrainingLoss, "forward", lambda self, **batch: forward(self, **batch) * float("nan")
    )


def no_picture(monkeypatch, tmp_path):
    for row in range(64):
        (tmp_path / f"{row}.png").unlink()


def no_room(monkeypatch, tmp_path):
    """The kernel's own refusal, in Python's and safetensors' words."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def no_worker(monkeypatch, tmp_path):
    youngest = max(child.pid for child in multiprocessing.active_children())
    os.kill(youngest, signal.SIGKILL)
    # a large process takes its time to die; Paddle looks for it, too
    os.waitid(os.P_PID, youngest, os.WEXITED | os.WNOWAIT)
    time.sleep(0.1)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (no_number, r"step 4: loss nan, gradient norm nan; nothing was updated; rows {rows} and 0 more"),
        (no_picture, r"{rows}: .*\.png"),
        (
            no_room,
            r".*/checkpoint-4: could not be written \(.*File too large.*\); "
            r"--resume continues from checkpoint-3",
        ),
        (no_worker, r"step 4: a process of data.num_workers died \(.*pid.*killed.*\); .*rows {rows}"),
    ],
)
def test_a_fault_in_the_midst_ends_with_1_names_rows_and_leaves_the_checkpoint_before(
    tiny_run, tmp_path, capsys, monkeypatch, fault, message
):
    """After the third of six steps; mended, the run goes on to the same bytes."""
    path, add = str(tiny_run()), SampleLog.add
    every = [path, "train.save_steps=1", "data.num_workers=1" if fault is no_worker else "data.num_workers=0"]
    pictures = {name: name.read_bytes() for name in tmp_path.glob("*.png")}
    assert train.main([*every, f"train.output_dir={tmp_path}/whole"]) == 0
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def after(self, entry):
        add(self, entry)
        if entry.step == 3 and fault is not no_room or entry.step == 4:
            fault(monkeypatch, tmp_path)

    with monkeypatch.context() as patched:
        patched.setattr(SampleLog, "add", after)
        capsys.readouterr()
        try:
            assert train.main(every) == 1
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            monkeypatch.undo()
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("train: "))
    row = rf"{tmp_path}/data\.jsonl:\d+"
    message = message.replace("{rows} and 0 more", f"({row}(, )?){{8}}$").replace("{rows}", row)
    assert re.match("train: " + message, line), line
    last = 2 if fault is no_worker else 3  # Paddle tells of a dead worker at once, in the midst of a step
    assert [path.name for path in checkpoints(tmp_path / "run")][-1] == f"checkpoint-{last}"
    for name, picture in pictures.items():
        name.write_bytes(picture)
    assert train.main([*every, "--resume"]) == 0
    made = [tmp_path / name / "final" / "model.safetensors" for name in ("run", "whole")]
    assert made[0].read_bytes() == made[1].read_bytes()
