"""The images: every file they copy is here, every extra is declared, the smoke test's commands read a page.

No Docker runs in the tests. A program of its name takes the smoke test's words, and runs here what a
container would run, with the mounted folder in the place of the container's.
"""

import importlib
import os
import re
import shlex
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

from got_train.cli.__main__ import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
IMAGES = sorted((ROOT / "docker").glob("*Dockerfile"))
EACH_IMAGE = pytest.mark.parametrize("image", IMAGES, ids=lambda path: path.name)
SMOKE_TEST = ROOT / "docker" / "smoke_test.sh"
PROJECT = (ROOT / "pyproject.toml").read_text("utf-8")
DOCKER = r"""#!{python}
import os, subprocess, sys
name, *words = sys.argv[1:]
if name == "info":
    sys.exit(int(os.environ["DOCKER_INFO"]))
if name == "build":
    options = dict(zip(words[:-1:2], words[1:-1:2]))
    sys.exit(not os.path.isfile(options["-f"]) or options["-t"] != "got_train:smoke" or words[-1] != ".")
entry, mounts = [sys.executable, "-m", "got_train"], []
while words[0].startswith("-"):
    option = words.pop(0)
    value = None if option == "--rm" else words.pop(0)
    if option == "--entrypoint":
        entry = {"python": [sys.executable]}[value]
    elif option == "-v":
        mounts.append(value.split(":"))
assert words.pop(0) == "got_train:smoke"
for here, there in mounts:
    words = [word.replace(there + "/", here + "/") for word in words]
if words[0] == "infer" and "DOCKER_READS" in os.environ:
    folder = words[words.index("--output-dir") + 1]
    os.mkdir(folder)
    for name in ("page.txt", "page.pdf"):
        open(os.path.join(folder, name), "w").write(os.environ["DOCKER_READS"])
    sys.exit(0)
sys.exit(subprocess.run([*entry, *words]).returncode)
"""


def instructions(path):
    """(name, words) of a file's instructions: comments left out, lines that go on joined."""
    lines = [line for line in path.read_text("utf-8").splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [(line.split()[0], line.split()[1:]) for line in joined if line.strip()]


def copied(path):
    return [source for name, words in instructions(path) if name == "COPY" for source in words[:-1]]


def section(name):
    return re.search(rf"^\[{re.escape(name)}\]\n(.*?)(?=^\[)", PROJECT, re.MULTILINE | re.DOTALL).group(1)


def test_both_images_are_looked_at():
    assert [image.name for image in IMAGES] == ["Dockerfile", "gpu.Dockerfile"]


@EACH_IMAGE
def test_every_file_that_is_copied_is_here_and_not_ignored(image):
    ignored = image.with_name(image.name + ".dockerignore").read_text("utf-8").split()
    assert {".git", ".venv*", "runs", "**/__pycache__"} <= set(ignored)
    assert len(copied(image)) >= 8
    for source in copied(image):
        assert (ROOT / source).exists(), f"{image.name} copies {source}, which is not here"
        assert not any(fnmatch(source.rstrip("/"), pattern) for pattern in ignored), source


@EACH_IMAGE
def test_all_that_pip_reads_and_the_commands_need_is_copied_before_pip_runs(image):
    names = [name for name, _ in instructions(image)]
    assert names.index("RUN", names.index("WORKDIR")) > len(names) - 1 - names[::-1].index("COPY")
    project = section("project")
    files = re.findall(r'^readme = "(.+)"', project, re.MULTILINE)
    files += re.findall(r'^license-files = \["(.+)"\]', project, re.MULTILINE)
    packages = re.search(r"^include = \[(.*)\]", section("tool.setuptools.packages.find"), re.MULTILINE)
    files += [name.strip(' "*') for name in packages.group(1).split(",")]
    assert sorted(files) == ["LICENSE", "README.md", "data_tools", "got_train"]
    assert {*files, "pyproject.toml", "configs"} <= set(copied(image))


@EACH_IMAGE
def test_the_extras_that_pip_is_asked_for_are_declared_and_the_gpu_image_keeps_its_paddle(image):
    declared = set(re.findall(r"^(\w+) = \[", section("project.optional-dependencies"), re.MULTILINE))
    runs = [" ".join(words) for name, words in instructions(image) if name == "RUN"]
    groups = [group for run in runs for group in re.findall(r"\.\[([\w,-]+)\]", run)]
    asked = ",".join(groups).split(",")
    assert set(asked) <= declared
    assert ("cpu" in asked) == (image.name == "Dockerfile")
    assert {"app", "pdf"} <= set(asked)  # what the documentation and the smoke test do in them
    entry = next(words for name, words in instructions(image) if name == "ENTRYPOINT")
    assert entry == ['["got"]'] and re.search(r"^got = ", section("project.scripts"), re.MULTILINE)


def test_what_is_compiled_into_the_image_is_found_by_every_user():
    """Next to the sources, numba's own place, a user without the right to write there compiles again."""
    image = instructions(ROOT / "docker" / "Dockerfile")
    (folder,) = [word.partition("=")[2] for _, words in image for word in words if "NUMBA_CACHE_DIR=" in word]
    (run,) = [" ".join(words) for name, words in image if "precompile" in words]
    assert folder.startswith("/") and run.endswith('got precompile && chmod -R a+rwX "$NUMBA_CACHE_DIR"')
    names = [name for name, _ in image]
    assert names.index("ENV") < max(place for place, name in enumerate(names) if name == "RUN")


@pytest.mark.parametrize("page", ["docs/installation.md", "docs/zh/installation.md"])
def test_the_documented_commands_fit_the_images_and_our_flags(page):
    text = (ROOT / page).read_text("utf-8").replace("\\\n", " ")
    lines = [shlex.split(line) for line in text.splitlines() if line.startswith("docker ")]
    tags = {}
    for line in lines:
        if line[1] == "build":
            tags[line[line.index("-t") + 1]] = ROOT / line[line.index("-f") + 1]
    assert sorted(tags.values()) == IMAGES
    runs = [line for line in lines if line[1] == "run"]
    assert len(runs) == 3
    for line in runs:
        (place,) = [place for place, word in enumerate(line) if word in tags]
        options, (name, *words) = line[2:place], line[place + 1 :]
        assert "--rm" in options and name in COMMANDS
        asked = vars(importlib.import_module(f"got_train.cli.{name}").parser().parse_args(words))
        mounts = [word.split(":")[1] for word in options if word.startswith("$PWD")]
        paths = [word for word in words if word.startswith("/")]
        assert all(any(path.startswith(mount) for mount in mounts) for path in paths), paths
        if name == "serve":  # or nobody outside of the container reaches it, and serve asks for a key then
            assert asked["host"] == "0.0.0.0" and "GOT_API_KEY" in options
        if name == "train":  # or what it writes goes with the container
            assert options[options.index("-w") + 1] in mounts


@pytest.fixture
def smoke_test(tmp_path):
    """A function: the smoke test with our program for Docker; its result."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "docker"
    program.write_text(DOCKER.replace("{python}", sys.executable))
    program.chmod(0o755)
    paths = os.pathsep.join([str(program.parent), os.environ["PATH"]])

    def run(info=0, **more):
        environment = os.environ | {"PATH": paths, "DOCKER_INFO": str(info), "TMPDIR": str(tmp_path), **more}
        return subprocess.run(
            ["bash", SMOKE_TEST], env=environment, capture_output=True, text=True, timeout=300, check=False
        )

    return run


@pytest.mark.slow
def test_the_smoke_test_reads_the_page_it_draws_and_leaves_nothing(smoke_test, tmp_path):
    pytest.importorskip("fontTools")  # extra pdf
    assert os.access(SMOKE_TEST, os.X_OK)
    done = smoke_test()
    assert (done.returncode, done.stdout) == (0, "smoke_test: read mill\n"), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["bin"]


@pytest.mark.parametrize(("text", "code"), [("mill\n", 0), ("mi11\n", 1), ("", 1)])
def test_the_smoke_test_fails_on_another_text(smoke_test, tmp_path, text, code):
    done = smoke_test(DOCKER_READS=text)
    assert (done.returncode, done.stdout) == (code, "" if code else "smoke_test: read mill\n"), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["bin"]


def test_the_smoke_test_says_when_no_docker_runs(smoke_test):
    done = smoke_test(info=1)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("smoke_test: no Docker runs here; start it")
