"""Every command of the README runs, on the nano checkpoint and on pages drawn here.

One marked as needing `make data-tools` may be refused where that was not run, in words that name it.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NANO = ROOT / "configs/nano/weights/stage3"
NEEDS_TOOLS = "needs make data-tools"  # the mark, in the comment behind a command
FULL_SIZE = "configs/got/"  # no weights of this size here: their config is shown, not trained


def commands() -> dict[str, str]:
    """Each command and the comment behind it."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = (line.partition("#") for block in blocks for line in block.splitlines())
    kept = {" ".join(command.split()): comment for command, _, comment in lines}
    return {
        command: comment
        for command, comment in kept.items()
        if command.startswith(("got ", "python ", "make "))
    }


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> dict[str, str]:
    """What stands for the files that a reader of the README has."""
    folder = tmp_path_factory.mktemp("readme")
    drawn = ["--out", str(folder / "my_data"), "--count", "8", "--side", "128", "--text", "lowercase"]
    faces = ["--fonts", "DejaVuSans", "--font-size", "17-21", "--container", "folder", "--num-workers", "1"]
    run(["-m", "data_tools.engines.lines", *drawn, *faces], folder)
    records = str(folder / "my_data/records.jsonl")
    return {
        "GOT_weights/": str(NANO),
        "GOT_weights": str(NANO),
        "GOT_transformers/": str(folder / "GOT_transformers"),
        "page.png": str(folder / "my_data/images/00000/00000000.png"),
        "my.jsonl": records,
        "test.jsonl": records,
        "my_data/records.jsonl": records,
        "my_data/": str(folder / "my_data"),
        "my.yaml": str(folder / "my.yaml"),
        "scans/": str(folder / "my_data/images/00000"),
        "texts": str(folder / "texts"),
        "merged/": str(folder / "merged"),
        "scores": str(folder / "scores"),
        "answers.jsonl": str(folder / "scores/predictions.jsonl"),
        "scores_of_answers": str(folder / "scores_of_answers"),
        "runs/mine": str(folder / "mine"),
        "runs/mine/final": str(folder / "mine/final"),
        "here": str(folder),
    }


def run(words: list[str], folder: Path, may_be_refused: bool = False) -> subprocess.CompletedProcess:
    command = [sys.executable, *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    refused = may_be_refused and done.returncode == 2 and "make data-tools" in done.stderr
    assert done.returncode == 0 or refused, f"{shlex.join(words)}\n{done.stderr[-2000:]}"
    return done


def words_of(command: str) -> list[str]:
    """What Python is given for a command; `got` may not be on the path where the tests run."""
    program, *words = shlex.split(command)
    return ["-m", "got_train", *words] if program == "got" else words


def start(words: list[str]) -> list[str]:
    """The training command without a launcher of several processes before it."""
    return words[words.index("train.py") :] if "train.py" in words else words


def placed(word: str, places: dict[str, str]) -> str:
    key, equals, value = word.rpartition("=")
    return key + equals + places.get(value, value)


def test_the_readme_names_the_two_commands_that_set_everything_up():
    makefile = (ROOT / "Makefile").read_text()
    named = [command.split()[1] for command in commands() if command.startswith("make ")]
    assert named[:2] == ["quickstart", "test"]
    assert all(re.search(rf"^{name}:", makefile, re.MULTILINE) for name in named)


@pytest.mark.slow
def test_every_command_of_the_readme_runs(places):
    asked = {command: mark for command, mark in commands().items() if not command.startswith("make ")}
    assert len(asked) >= 7
    for command, mark in asked.items():
        words = [placed(word, places) for word in words_of(command)]
        config = next((word for word in words if word.startswith("configs/")), "")
        if config.startswith(FULL_SIZE):
            assert "model:" in run([*start(words), "--show"], places["here"]).stdout
            continue
        if "train" in words:
            words += [
                "train.precision=float32",
                "train.max_steps=2",
                "data.num_workers=0",
                "data.max_tokens=200",
            ]
        if "data_tools.build" in words:
            words += [f"out={places['here']}/mixture", "scale=0.05"]
        if "--render" in words:
            words += ["--save_render_file", f"{places['here']}/page.html"]
        if "infer" in words:
            words += ["--max-new-tokens", "8"]
        run(words, places["here"], NEEDS_TOOLS in mark and "GOT_DATA_TOOLS" not in os.environ)
