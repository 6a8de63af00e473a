"""The whole line at nano size on this machine: pages, three stages, evaluation, one page read.

Reading from nothing takes more than an hour on two cores (`make nano`), so the steps that must read start
from the checkpoint that stands in the repository.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from .arguments import CommandParser
from .exits import handle_errors
from .nano import FACES, HELD_OUT, REGIONS, ROOT, UNSEEN_FACE, WEIGHTS, Steps, compare, evaluate, lines, run

NEW_LOOK = "SourceSerifPro-BlackIt"  # what the fine-tuning is for


def train(folder: str, stage: str, name: str, steps: int, data: str, *options: str) -> list[str]:
    """A short run of a nano stage on the pages drawn in `folder`."""
    records = f"data.train={sources(folder, data)}"
    where = [f"train.output_dir={folder}/{name}", f"train.max_steps={steps}", f"train.save_steps={steps}"]
    return ["-m", "got_train", "train", f"configs/nano/{stage}.yaml", records, *where, *options]


def sources(folder: str, data: str) -> str:
    """The file of these pages; where new ones are trained on, a share of the former ones comes again."""
    new, _, old = data.partition("+")
    paths = [f"{folder}/data/{name}/records.jsonl" for name in (new, old) if name]
    if not old:
        return paths[0]
    return f"[{{path: {paths[0]}, weight: 0.6}}, {{path: {paths[1]}, weight: 0.4}}]"


def plan(folder: str, scale: float = 1.0) -> Steps:
    """The commands, which write below `folder`; scale shortens training and pages, for tests."""

    def short(full: int) -> int:
        return max(4, round(full * scale))

    data, scores, start = f"{folder}/data", f"{folder}/scores", f"{WEIGHTS}/stage2"
    tests = [f"{data}/test", f"{data}/test_look"]
    page = f"{tests[1]}/images/00000/00000001.png"  # the first holds one letter
    stage3, tuned = f"{folder}/stage3/final", f"{folder}/tuned/final"
    return [
        (
            "Draw the pages: faces to train on, a face never trained on, a new look",
            [
                lines(f"{data}/stage1", short(2000), 21, FACES, "--char-boxes"),
                lines(f"{data}/stage3", short(5000), 22, FACES, *REGIONS),
                lines(f"{data}/look", short(5000), 23, NEW_LOOK),
                lines(tests[0], short(64), 24, UNSEEN_FACE, *REGIONS, *HELD_OUT),
                lines(tests[1], short(64), 25, NEW_LOOK, *HELD_OUT),
            ],
        ),
        (
            "Stages 1 and 2 from nothing, a few steps: this shows that they run, not that they read",
            [
                train(folder, "stage1", "stage1", short(60), "stage1"),
                train(
                    folder,
                    "stage2",
                    "stage2",
                    short(60),
                    "stage1",
                    f"model.vision_from={folder}/stage1/final",
                ),
            ],
        ),
        (
            "Stage 3 from the checkpoint in the repository: it reads pages, and learns box and color prompts",
            [
                evaluate(start, f"{scores}/before", *tests),
                train(folder, "stage3", "stage3", short(700), "stage3", f"model.init_from={start}"),
                evaluate(stage3, f"{scores}/stage3", *tests),
            ],
        ),
        (
            "Fine-tune on the new look",
            [
                train(folder, "finetune", "tuned", short(400), "look+stage3", f"model.init_from={stage3}"),
                evaluate(tuned, f"{scores}/tuned", *tests),
            ],
        ),
        (
            "Before, after stage 3, after fine-tuning",
            [compare(*(f"{scores}/{n}" for n in ("before", "stage3", "tuned")))],
        ),
        (
            "Read a page in the new look",
            [
                ["-m", "got_train", "infer", "--model-name-or-path", tuned, "--image-file", page],
            ],
        ),
    ]


def parser() -> CommandParser:
    parser = CommandParser(
        "quickstart", description="Draw pages, train three stages at nano size, evaluate, read a page."
    )
    add = parser.add_argument
    add("--scale", type=float, default=1.0, help="fraction of the steps and pages (default: 1)")
    add("--folder", default="runs/quickstart", help="is emptied first (default: runs/quickstart)")
    return parser


@handle_errors("quickstart")
def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    shutil.rmtree(ROOT / options.folder, ignore_errors=True)
    return run(plan(options.folder, options.scale))
