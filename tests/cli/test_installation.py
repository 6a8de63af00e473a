"""Without PaddlePaddle or paddlenlp every command says in one line what to install."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ABSENT = "import sys; sys.modules[{name!r}] = None; import train; sys.exit(train.main([{config!r}]))"


@pytest.mark.parametrize(
    ("name", "line"),
    [
        (
            "paddle",
            "train: PaddlePaddle is not installed; on a CPU: pip install 'got_train[cpu]', on a GPU: "
            "install paddlepaddle-gpu for your CUDA\n",
        ),
        ("paddlenlp", "train: paddlenlp is not installed; pip install got_train brings it\n"),
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
