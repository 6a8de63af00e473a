"""The nano world: small pages of a few lines, a model of a million parameters, the commands that make both.

`got nano` makes the checkpoints of configs/nano/weights again, from nothing (docs/nano.md has
the log). Every step is a command that is printed before it runs, so that it can be repeated by hand; stopped,
the same command goes on where it was.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from got_train.training.checkpoints import checkpoints, step_of

from .arguments import CommandParser
from .exits import handle_errors

ROOT = Path(__file__).resolve().parents[2]
FACES = "DejaVuSans,Lato-Regular,SourceSansPro-Regular,HankenGrotesk-Regular"  # those that are trained on
UNSEEN_FACE = "Manrope-Regular"  # those that are only tested on
WEIGHTS = "configs/nano/weights"
REGIONS = ("--tasks", "ocr,box,color")
TESTS = ("views", "windows", "wide", "regions", "paragraphs", "blank")
WHOLE_VIEWS = 3  # of the tests are whole views, which every stage reads
HELD_OUT = ("--split", "test")  # documents that no training page takes its words from
Steps = list[tuple[str, list[list[str]]]]  # titles and commands


def lines(folder: str, count: int, seed: int, faces: str, *options: str) -> list[str]:
    """The command that draws `count` pages of one to four lines of small letters and digits."""
    drawing = [
        "--container",
        "folder",
        "--text",
        "lowercase",
        "--side",
        "128",
        "--font-size",
        "17-21",
        "--characters",
        "3-9",
    ]
    where = ["--out", folder, "--count", str(count), "--seed", str(seed), "--fonts", faces]
    return ["-m", "data_tools.engines.lines", *where, *drawing, *options]


def evaluate(model: str, folder: str, *tests: str) -> list[str]:
    data = [word for test in tests for word in ("--data", f"{test}/records.jsonl")]
    return ["-m", "got_train", "evaluate", model, *data, "--output-dir", folder]


def compare(*folders: str) -> list[str]:
    files = [f"{folder}/metrics.json" for folder in folders]
    return [
        "-m",
        "got_train",
        "evaluate",
        "--compare",
        *files,
        "--force",
    ]  # stage 1 has a prompt template of its own


def run(steps: Steps) -> int:
    """Run the commands in order from the repository's root; the code of the first that fails, or 0."""
    began = time.monotonic()
    for title, commands in steps:
        print(f"\n== {title} ({time.monotonic() - began:.0f} s)", file=sys.stderr)
        for command in commands:
            words = ["got", *command[2:]] if command[:2] == ["-m", "got_train"] else ["python", *command]
            print(f"$ {shlex.join(words)}", file=sys.stderr, flush=True)
            code = subprocess.run([sys.executable, *command], cwd=ROOT, check=False).returncode
            if code:
                print(f"the command above ended with code {code}", file=sys.stderr)
                return code
    print(f"\ndone in {time.monotonic() - began:.0f} s", file=sys.stderr)
    return 0


class Step(NamedTuple):
    """Commands, and the file or folder that exists when they are done."""

    title: str
    product: str
    commands: list[list[str]]

    @property
    def done(self) -> bool:
        return (ROOT / self.product).exists()

    @property
    def state(self) -> str:
        """done, or how far its training has come."""
        if self.done:
            return "done"
        saved = checkpoints(ROOT / Path(self.product).parent)
        return f"at step {step_of(saved[-1])}" if saved else "to do"


def plan(configs: str = "configs/nano/print", recipe: str = "configs/data/nano_world.yaml") -> list[Step]:
    """From nothing to the checkpoints and their scores; a step that was stopped goes on."""
    runs = "runs/nano"
    scores, tests = f"{runs}/scores", [f"{runs}/data/test_{name}" for name in TESTS]
    stages = [f"stage{number}" for number in (1, 2, 3)]
    layout = ["--layout", "original"]
    steps = [Step("Draw the pages", f"{runs}/data/train.yaml", [["-m", "data_tools.build", recipe]])]
    for stage in stages:
        folder, file = f"{runs}/{stage}/final", f"{configs}/{stage}.yaml"
        steps.append(Step(f"Train {stage}", folder, [["-m", "got_train", "train", file, "--resume"]]))
        seen = tests if stage == "stage3" else tests[:WHOLE_VIEWS]
        scored = f"{scores}/{stage}"
        steps.append(Step(f"Score {stage}", f"{scored}/metrics.json", [evaluate(folder, scored, *seen)]))
    kept = f"{runs}/weights/stage3"
    convert = ["-m", "got_train", "convert", f"{runs}/stage3/final", kept, *layout]
    return [*steps, Step(f"The checkpoint as {WEIGHTS} holds it", kept, [convert])]


def parser() -> CommandParser:
    parser = CommandParser("nano", description="Make the nano checkpoint of this repository, from nothing.")
    parser.add_argument("--dry-run", action="store_true", help="print what is left to do and stop")
    return parser


@handle_errors("nano")
def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    steps = plan()
    for step in steps:
        print(f"{step.state:>14}  {step.title}", file=sys.stderr)
    if options.dry_run:
        return 0
    return run([(step.title, step.commands) for step in steps if not step.done])
