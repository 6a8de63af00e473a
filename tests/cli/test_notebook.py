"""docs/quickstart.ipynb: its cells run in their order, without Jupyter, with fewer steps of training."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs/quickstart.ipynb"


def code_cells():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def run_cell(source, names, folder):
    """As IPython does: lines of `!` are commands with {names} of the cells before, the rest is Python."""
    python = "\n".join(line for line in source.splitlines() if not line.startswith("!"))
    for line in source.splitlines():
        if not line.startswith("!"):
            continue
        command = re.sub(r"\{(\w+)\}", lambda match: str(names[match[1]]), line[1:])
        words = command.split()
        start = {"python": [sys.executable], "got": [sys.executable, "-m", "got_train"]}[words[0]]
        done = subprocess.run(
            [*start, *words[1:]], cwd=folder, capture_output=True, text=True, timeout=500, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    exec(compile(ast.parse(python), str(NOTEBOOK), "exec"), names)  # our own file


def test_the_notebook_is_stored_without_outputs_and_its_links_lead_somewhere():
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4 and len({cell["id"] for cell in notebook["cells"]}) == len(
        notebook["cells"]
    )
    assert all(not cell.get("outputs") for cell in notebook["cells"])
    text = "".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    links = re.findall(r"\]\(([^)#]+)\)", text)
    assert links and all((NOTEBOOK.parent / link).exists() for link in links)


@pytest.mark.slow
def test_every_cell_of_the_notebook_runs(tmp_path, monkeypatch):
    for name in ("pyproject.toml", "configs", "data_tools", "got_train"):
        os.symlink(ROOT / name, tmp_path / name)  # so that runs/ is written elsewhere
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path / "docs")
    names = {}
    for source in code_cells():
        run_cell(source, names, tmp_path)
        if "STEPS" in names:
            names["STEPS"] = 2
    assert Path.cwd() == tmp_path
    assert "ocr_line" in (tmp_path / "runs/notebook/read" / f"{names['page'].stem}.hocr").read_text()
    scores = [tmp_path / "runs/notebook" / name / "predictions.jsonl" for name in ("before", "after")]
    assert [len(file.read_text().splitlines()) for file in scores] == [12, 12]
