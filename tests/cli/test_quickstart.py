"""The quickstart's plan, and the whole of it at a hundredth of its size."""

import json
import subprocess
import sys

import pytest

from data_tools.recipe import load_recipe
from got_train.cli import nano, quickstart


def commands(steps):
    return [command for _, made in steps for command in made]


def test_no_training_page_has_the_unseen_face_or_a_held_out_document():
    for command in commands(quickstart.plan("runs/x")):
        if "data_tools.engines.lines" not in command:
            continue
        faces = command[command.index("--fonts") + 1]
        held_out = "/test" in command[command.index("--out") + 1]
        assert ("--split" in command) == held_out
        assert held_out or nano.UNSEEN_FACE not in faces


def test_every_page_set_has_its_own_seed():
    made = commands(quickstart.plan("runs/x"))
    seeds = [command[command.index("--seed") + 1] for command in made if "--seed" in command]
    assert len(seeds) == len(set(seeds)) > 3


def test_the_nano_world_tests_on_faces_and_documents_that_no_training_page_has():
    sources = load_recipe(nano.ROOT / "configs/data/nano_world.yaml").sources
    tests = {name for name in sources if name.startswith("test_")}
    assert tests == {f"test_{name}" for name in nano.TESTS}
    printed = {name: source.options for name, source in sources.items() if "fonts" in source.options}
    unseen = {face for name in printed if name in tests for face in printed[name]["fonts"]}
    trained = {face for name in printed if name not in tests for face in printed[name]["fonts"]}
    assert len(trained) >= 60 and len(unseen) >= 10 and not trained & unseen
    for name, source in sources.items():
        assert source.options.get("split", ("train",)) == (("test",) if name in tests else ("train",))


def test_the_plan_skips_what_is_done_and_says_where_a_stage_stands(tmp_path, monkeypatch):
    monkeypatch.setattr(nano, "ROOT", tmp_path)
    assert [step.state for step in nano.plan()] == ["to do"] * 8
    (tmp_path / "runs/nano/data").mkdir(parents=True)
    (tmp_path / "runs/nano/data/train.yaml").write_text("")
    (tmp_path / "runs/nano/stage1/checkpoint-40").mkdir(parents=True)
    (tmp_path / "runs/nano/stage1/checkpoint-120").mkdir()
    assert [step.state for step in nano.plan()][:3] == ["done", "at step 120", "to do"]
    (tmp_path / "runs/nano/stage1/final").mkdir()
    assert [step.done for step in nano.plan()] == [True, True, *[False] * 6]
    assert nano.plan()[3].commands == [
        ["-m", "got_train", "train", "configs/nano/print/stage2.yaml", "--resume"]
    ]


@pytest.mark.slow
def test_quickstart_runs_from_pages_to_a_page_read(tmp_path):
    options = ["--scale", "0.005", "--folder", str(tmp_path / "q")]
    command = [sys.executable, "-m", "got_train", "quickstart", *options]
    done = subprocess.run(command, cwd=nano.ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    for name in ("before", "stage3", "tuned"):
        assert json.loads((tmp_path / "q/scores" / name / "metrics.json").read_text())
    assert (tmp_path / "q/tuned/final/model.safetensors").exists()
    assert "after" in done.stderr
    assert done.stdout.strip()
