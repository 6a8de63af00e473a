"""A run's folder has one owner, and a run whose folder is taken away ends with an error."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import train
from got_train.errors import InferenceError, TrainingError
from got_train.folder_lock import FolderLock
from got_train.inference.journal import ProgressFile
from got_train.inference.pages import Page
from got_train.training.checkpoints import checkpoints

TRAIN = [sys.executable, "-W", "ignore", str(Path(__file__).parents[2] / "train.py")]
ENDLESS = ("train.max_steps=100000", "train.save_steps=2")


@contextlib.contextmanager
def living(config, folder):
    """A run that goes on until it is ended, once it has a checkpoint."""
    run = subprocess.Popen([*TRAIN, str(config), *ENDLESS], stderr=subprocess.PIPE, text=True)
    try:
        give_up = time.monotonic() + 300
        while not checkpoints(folder) and time.monotonic() < give_up:
            time.sleep(0.05)
        yield run
    finally:
        run.kill()
        run.wait()


def test_a_second_run_a_resumed_one_and_a_dry_run_are_refused_while_the_first_lives(
    tiny_run, tmp_path, capsys
):
    config, folder = tiny_run(), tmp_path / "run"
    with living(config, folder) as first:
        for more in ([], ["--resume"], ["--dry-run"]):
            assert train.main([str(config), *ENDLESS, *more]) == 2, more
            said = capsys.readouterr().err
            assert f"train.output_dir {folder}: in use by process {first.pid} on " in said, more
        assert first.poll() is None
        first.send_signal(signal.SIGKILL)
        first.wait()
        assert (folder / ".owner.json").exists()  # left behind, and no lock
    steps = [json.loads(line)["step"] for line in (folder / "ledger-0.jsonl").read_text().splitlines()]
    assert steps == list(range(1, len(steps) + 1))
    lock = FolderLock(folder, "train.output_dir", TrainingError)
    lock.acquire()
    assert f"process {os.getpid()} on " in lock.owner()
    lock.release()


@pytest.mark.parametrize("made_again", [False, True])
def test_a_run_whose_folder_is_taken_away_ends_with_an_error(tiny_run, tmp_path, made_again):
    config, folder = tiny_run(), tmp_path / "run"
    with living(config, folder) as run:
        folder.rename(tmp_path / "elsewhere")
        if made_again:
            folder.mkdir()
        said = run.communicate(timeout=120)[1]
    assert run.returncode == 1, said[-2000:]
    assert "Traceback" not in said
    last = [line for line in said.splitlines() if line.startswith("train: ")][-1]
    assert str(folder) in last
    assert ("was deleted" in last) or ("No such file" in last)
    assert list(folder.glob("*")) == []  # nothing is made anew


def test_a_reading_job_whose_folder_is_deleted_ends_with_an_error(tmp_path):
    page = tmp_path / "a.png"
    page.write_bytes(b"")
    pages = [Page(str(page))]
    with ProgressFile(tmp_path / "out", {"task": "ocr"}) as progress:
        progress.begin(pages)
        progress.add(pages, {"text": "a"})
        shutil.rmtree(tmp_path / "out")
        with pytest.raises(InferenceError, match="--output-dir .*out: was deleted while it was in use"):
            progress.add(pages, {"text": "b"})
        (tmp_path / "out").mkdir()
        with pytest.raises(InferenceError, match="was deleted and made again while it was in use"):
            progress.add(pages, {"text": "b"})
