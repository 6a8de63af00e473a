"""The quickstart's plan, and the whole of it at a hundredth of its size."""

import json
import subprocess
import sys

import pytest

from got_train.cli import nano, quickstart


def commands(steps):
    return [command for _, made in steps for command in made]


def test_no_training_page_has_the_unseen_face_or_a_held_out_document():
    for steps in (quickstart.plan("runs/x"), nano.plan()):
        for command in commands(steps):
            if "data_tools.engines.lines" not in command:
                continue
            faces = command[command.index("--fonts") + 1]
            held_out = "/test" in command[command.index("--out") + 1]
            assert ("--split" in command) == held_out
            assert held_out or nano.UNSEEN_FACE not in faces


def test_every_page_set_has_its_own_seed():
    for steps in (quickstart.plan("runs/x"), nano.plan()):
        seeds = [command[command.index("--seed") + 1] for command in commands(steps) if "--seed" in command]
        assert len(seeds) == len(set(seeds)) > 3


@pytest.mark.slow
def test_quickstart_runs_from_pages_to_a_page_read(tmp_path):
    options = ["--scale", "0.005", "--folder", str(tmp_path / "q")]
    command = [sys.executable, "-m", "got_train.cli.quickstart", *options]
    done = subprocess.run(command, cwd=nano.ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    for name in ("before", "stage3", "tuned"):
        assert json.loads((tmp_path / "q/scores" / name / "metrics.json").read_text())
    assert (tmp_path / "q/tuned/final/model.safetensors").exists()
    assert "after" in done.stderr
    assert done.stdout.strip()
