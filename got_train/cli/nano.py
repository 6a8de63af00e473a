"""The nano world: small pages of a few lines, a model of a million parameters, the commands that make both.

`got nano` makes the checkpoints of configs/nano/weights again, from nothing (docs/nano.md has
the log). Every step is a command that is printed before it runs, so that it can be repeated by hand.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FACES = "DejaVuSans,Lato-Regular,SourceSansPro-Regular,HankenGrotesk-Regular"  # those that are trained on
UNSEEN_FACE = "Manrope-Regular"  # those that are only tested on
WEIGHTS = "configs/nano/weights"
REGIONS = ("--tasks", "ocr,box,color")
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
        "--font_size",
        "17-21",
        "--characters",
        "3-9",
    ]
    where = ["--out", folder, "--count", str(count), "--seed", str(seed), "--fonts", faces]
    return ["-m", "data_tools.engines.lines", *where, *drawing, *options]


def evaluate(model: str, folder: str, *tests: str) -> list[str]:
    data = [word for test in tests for word in ("--data", f"{test}/records.jsonl")]
    return ["-m", "got_train.cli.evaluate", model, *data, "--output_dir", folder]


def compare(*folders: str) -> list[str]:
    files = [f"{folder}/metrics.json" for folder in folders]
    return [
        "-m",
        "got_train.cli.evaluate",
        "--compare",
        *files,
        "--force",
    ]  # stage 1 has a dialect of its own


def run(steps: Steps) -> int:
    """Run the commands in order from the repository's root; the code of the first that fails, or 0."""
    began = time.monotonic()
    for title, commands in steps:
        print(f"\n== {title} ({time.monotonic() - began:.0f} s)", file=sys.stderr)
        for command in commands:
            print(f"$ python {shlex.join(command)}", file=sys.stderr, flush=True)
            code = subprocess.run([sys.executable, *command], cwd=ROOT, check=False).returncode
            if code:
                print(f"the command above ended with code {code}", file=sys.stderr)
                return code
    print(f"\ndone in {time.monotonic() - began:.0f} s", file=sys.stderr)
    return 0


def plan() -> Steps:
    data, runs, scores = "runs/nano/data", "runs/nano", "runs/nano/scores"
    test = f"{data}/test"
    stages = [f"stage{number}" for number in (1, 2, 3)]
    launch = ["-m", "paddle.distributed.launch", "--nproc_per_node", "2", "--log_dir"]
    layout = ["--layout", "original"]
    shared = "train.micro_batch_size=8"  # two processes of one thread each beat one of two at this size
    return [
        (
            "The tokenizer; the same stands in configs/nano/tokenizer",
            [["-m", "data_tools.text.tokenizer", "--out", f"{runs}/tokenizer"]],
        ),
        (
            "Draw the pages",
            [
                lines(f"{data}/stage1", 60000, 1, FACES, "--glyphs"),
                lines(f"{data}/stage2", 80000, 2, FACES),
                lines(f"{data}/stage3", 40000, 3, FACES, *REGIONS),
                lines(test, 100, 9, UNSEEN_FACE, *REGIONS, *HELD_OUT),
            ],
        ),
        *(
            (
                f"Stage {stage[-1]}",
                [
                    [*launch, f"{runs}/{stage}/log", "train.py", f"configs/nano/{stage}.yaml", shared],
                    evaluate(f"{runs}/{stage}/final", f"{scores}/{stage}", test),
                ],
            )
            for stage in stages
        ),
        (
            f"The checkpoints as {WEIGHTS} holds them",
            [
                ["-m", "got_train.cli.convert", f"{runs}/{stage}/final", f"{runs}/weights/{stage}", *layout]
                for stage in stages[1:]
            ],
        ),
        ("After each stage", [compare(*(f"{scores}/{stage}" for stage in stages))]),
    ]


if __name__ == "__main__":
    sys.exit(run(plan()))
