"""Without PaddlePaddle or paddlenlp every command says in one line what to install."""

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from got_train.errors import RequirementError
from got_train.requirements import need_packages

ROOT = Path(__file__).parents[2]
ABSENT = "import sys; sys.modules[{name!r}] = None; import train; sys.exit(train.main([{config!r}]))"


@pytest.mark.parametrize(
    ("name", "line"),
    [
        (
            "paddle",
            'train: PaddlePaddle is not installed; on a CPU use `pip install -e ".[cpu]"` in the clone, on a '
            "GPU install paddlepaddle-gpu for your CUDA\n",
        ),
        ("paddlenlp", "train: paddlenlp is not installed; use `pip install -e .` in the clone\n"),
    ],
)
def test_an_absent_package_is_named_in_one_line(name, line):
    script = ABSENT.format(name=name, config="configs/nano/stage1.yaml")
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", line)


def test_both_packages_are_here():
    from got_train.requirements import need_paddle

    assert need_paddle() is None


def test_a_command_says_its_own_line_and_nothing_of_paddle():
    """Paddle warns of a missing ccache when it is imported, in which no reader of pages can do anything."""
    words = ["infer", "--model-name-or-path", "none", "--image-file", "docs/reading/table.png"]
    done = subprocess.run(
        [sys.executable, "-m", "got_train", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    message = "infer: none: no such folder; a checkpoint has config.json, weights and a tokenizer\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", message)


@pytest.mark.skipif("GOT_BARE" not in os.environ, reason="of `make test-bare`")
def test_the_bare_leg_has_no_optional_program_package_or_font():
    from data_tools.drawing import system_fonts
    from got_train.formats import node_packages

    programs = ("node", "npm", "chromium", "pdflatex", "xelatex", "kpsewhich", "tesseract", "pdftocairo")
    assert [name for name in programs if shutil.which(name)] == []
    packages = ("rdkit", "verovio", "resvg_py", "quickjs", "pylatexenc", "ray", "torch", "transformers")
    assert [name for name in packages if find_spec(name)] == []
    assert {face.family.split()[0] for face in system_fonts.faces()} <= {"DejaVu"}
    assert node_packages.packages("katex") is None
    assert [name for name in os.environ if name.startswith("GOT_")] == ["GOT_BARE"]


def test_an_absent_package_of_an_extra_is_named_with_the_extra():
    need_packages("app", "json", "socket")
    message = 'no_such_module is not installed; use `pip install -e ".[app]"` in the clone'
    with pytest.raises(RequirementError, match=f"^{re.escape(message)}$"):
        need_packages("app", "json", "no_such_module")
