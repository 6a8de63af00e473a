"""What may be done with a run: the commands that come next, with its paths."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from got_train.html.page import escaped
from got_train.training.run_files import AFTER, BEFORE, BEST, CURVES, FINAL, SKILLS

from .folder import Run


def use(run: Run) -> str:
    lines = "".join(
        f"<dt>{escaped(what)}</dt><dd><code>{escaped(shlex.join(words))}</code></dd>"
        for what, words in commands(run)
    )
    note = ""
    if run.best is not None:
        metric, value = next((key, value) for key, value in run.best.items() if key != "step")
        best = f"{BEST}/ has step {run.best['step']:,}, which had the best {escaped(metric)}: {value:.4f}"
        note = f"<p>{best}. {FINAL}/ has the last.</p>" if run.final else f"<p>{best}.</p>"
    return f"<h2 id=use>How to use it</h2>{note}<dl class=settings>{lines}</dl>"


def commands(run: Run) -> Iterable[tuple[str, list[str]]]:
    """What this run's user may do next, as the words of commands."""
    folder = run.folder
    models = [path for path in (folder / FINAL, folder / f"checkpoint-{run.saved}") if path.exists()]
    if not models:
        return
    model = str(models[0])
    if not run.final:
        yield "go on", ["got", "train", f"{model}/run.yaml", "--resume"]
    yield "read a page", ["got", "infer", "--model-name-or-path", model, "--image-file", "page.png"]
    for source in run.config.data.validation_sources[:1]:
        scores = str(folder / "scores")
        words = ["got", "evaluate", model, "--data", source.path, "--output-dir", scores]
        yield "score it on all validation rows", words
    if run.skills is not None:
        both = [str(folder / SKILLS / name) for name in (BEFORE, AFTER)]
        words = [
            "got",
            "evaluate",
            "--compare",
            *both,
            "--output-dir",
            str(folder / "changed"),
        ]
        yield "see the rows that changed most", words
    merged = model
    if run.config.lora.rank:
        merged = str(folder / "merged")
        yield "adapter and base as one model", ["got", "merge", model, merged]
    words = [
        "got",
        "convert",
        merged,
        str(folder / "transformers"),
        "--layout",
        "transformers",
    ]
    yield "serve it with other programs", words
    yield "see the curves while a run goes", ["visualdl", "--logdir", str(folder / CURVES)]
