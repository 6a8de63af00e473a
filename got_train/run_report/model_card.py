"""README.md beside a trained model: what it was trained on, what it reads, its limits, how to use it.

Everything in it is read from the run's files; what is not known is said to be unknown.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from got_train import __version__
from got_train.atomic_write import write_atomic
from got_train.checkpoint.characters import load_characters
from got_train.config.schema import Config, flat
from got_train.prompts import WORDS
from got_train.training.run_files import FINAL

from .folder import Run, read_run
from .results import state, verdict

FILE = "README.md"
_SHOWN = 200  # characters that are listed
_SETTINGS = (
    "optimizer.",
    "lora.",
    "parts.",
    "train.batch_size",
    "train.seed",
    "train.precision",
    "train.ema",
)


def write_card(folder: str | os.PathLike, config: Config | None = None) -> Path | None:
    """Write the card into the final folder of a run; None where the run is not complete."""
    run = read_run(folder, config)
    if not run.final:
        return None
    path = Path(folder) / FINAL / FILE
    write_atomic(path, card(run))
    return path


def card(run: Run) -> str:
    sections = (
        _head(run),
        ("How to use it", _use(run)),
        ("What it was trained on", _data(run)),
        ("How it was trained", _training(run)),
        ("What it reads", _results(run)),
        ("Limits", _limits(run)),
        ("Which files these are", _files(run)),
    )
    parts = []
    for section in sections:
        title, lines = section if isinstance(section, tuple) else ("", section)
        parts.append("\n".join([f"## {title}\n"] * bool(title) + [*lines]))
    return "\n\n".join(parts) + "\n"


def _head(run: Run) -> Iterator[str]:
    yield "---\nlibrary_name: paddlepaddle\npipeline_tag: image-to-text\ntags: [ocr, got-ocr2]\n---\n"
    yield f"# {_text(run.folder.resolve().name)}\n"
    start, rank = run.config.model.init_from, run.config.lora.rank
    kind = f"A LoRA adapter (rank {rank}) of {_code(start)}" if rank else "A GOT-OCR2.0 model"
    begun = "" if rank else f", fine-tuned from {_code(start)}" if start else ", trained from random weights"
    yield f"{kind}{begun}, by got_train {__version__}. The run is {state(run)}."


def _use(run: Run) -> Iterator[str]:
    yield "```bash"
    yield "got infer --model-name-or-path THIS_FOLDER --image-file page.png --ocr-type ocr"
    yield "got serve --model THIS_FOLDER"
    if run.config.lora.rank:
        yield "got merge THIS_FOLDER merged/       # adapter and base as one model"
    else:
        yield "got convert THIS_FOLDER exported/ --layout transformers"
    yield "```"


def _data(run: Run) -> Iterator[str]:
    sources = (run.check or {}).get("sources") or ()
    if sources and run.checked:
        yield "| role | path | rows | tokens of a row, median | tasks |\n|---|---|---|---|---|"
        for source in sources:
            tasks = ", ".join(f"{task} {count:,}" for task, count in source["tasks"].items())
            tokens = f"{source['tokens']['median']:,}"
            yield f"| {source['role']} | {_code(source['path'])} | {source['rows']:,} | {tokens} | {tasks} |"
    else:
        yield "| role | path |\n|---|---|"
        data = run.config.data
        named = (
            ("train", data.sources),
            ("replay", data.replay_sources),
            ("validation", data.validation_sources),
        )
        for role, of_role in named:
            yield from (f"| {role} | {_code(source.path)} |" for source in of_role)
        yield "\nRows and tasks are not known: the check (`got check`) was not made with these settings."
    if run.ledger:
        entered = sum(record.rows for record in run.ledger.values())
        yield f"\n{entered:,} rows entered {len(run.ledger):,} steps; a row counts each time."
    if run.dropped:
        yield f"{len(run.dropped):,} rows could not be used and were left out."


def _training(run: Run) -> Iterator[str]:
    ours, default = (dict(flat(dataclasses.asdict(config))) for config in (run.config, Config()))
    yield "| setting | value |\n|---|---|"
    yield f"| steps | {run.done:,} |"
    for name, value in ours.items():
        if name.startswith(_SETTINGS) and (
            value != default.get(name) or name.startswith("optimizer.learning")
        ):
            yield f"| {name} | {value} |"
    for name in ("train/loss", "train/validation_loss"):
        if run.curves.get(name):
            step, value = run.curves[name][-1]
            yield f"| {name.removeprefix('train/').replace('_', ' ')}, step {step:,} | {value:.4f} |"


def _results(run: Run) -> Iterator[str]:
    for sentence, _ in verdict(run):
        yield f"* {_text(sentence)}"
    if run.skills is None:
        yield "No table of skills was made: it needs `model.init_from` and validation records."
        return
    counted = ", ".join(f"{rows:,} of {_text(name)}" for name, rows in run.skills["rows"].items())
    before = _code(run.skills["before"]["folder"])
    yield f"\nRows: {counted}. Before: {before}.\n\n{_text(run.skills['table'])}"


def _limits(run: Run) -> Iterator[str]:
    tasks = {task for source in (run.check or {}).get("sources") or () for task in source["tasks"]}
    if tasks and run.checked:
        others = [task for task in WORDS if task not in tasks]
        yield f"* Trained tasks: {', '.join(sorted(tasks))}. Not in this run's data: {', '.join(others)}."
    yield f"* Prompts are those of the template `{run.config.model.prompt_template or 'of its base'}`."
    yield f"* Rows of at most {run.config.data.max_tokens:,} tokens were seen."
    characters = load_characters(run.folder / FINAL)
    if characters is not None:
        known = sorted(characters)
        shown = "".join(character for character in known if not character.isspace())[:_SHOWN]
        more = f" and {len(known) - _SHOWN:,} more" if len(known) > _SHOWN else ""
        yield f"* {len(known):,} characters were in the training answers: {_code(shown)}{more}."
    if run.check is None:
        yield "* The data were not checked (`got check`)."
    else:
        other = "" if run.checked else ", with other settings than this run's"
        yield f"* The check said{other}: {run.check['verdict']}."
        for kind in run.check["findings"][:10]:
            subject, fix = _text(kind["subject"]), _text(kind["fix"])
            yield f"  * {kind['level']}, {subject}, {kind['count']:,} times: {fix}"
    yield "* An answer can be wrong and read well. Its confidence says more after `got calibrate`."


def _files(run: Run) -> Iterator[str]:
    yield "| file | SHA-256 |\n|---|---|"
    for path in sorted((run.folder / FINAL).glob("*.safetensors")):
        with open(path, "rb") as file:
            digest = hashlib.sha256()
            while piece := file.read(1 << 20):
                digest.update(piece)
        yield f"| `{path.name}` | `{digest.hexdigest()}` |"
    yield "\nAll settings are in `run.yaml` beside this file; `got trace` tells the rows of every step."


def _text(words: str) -> str:
    """Words of files, in which nothing is markup."""
    return words.replace("&", "&amp;").replace("<", "&lt;")


def _code(words: str) -> str:
    """As code in a table's cell."""
    return "`" + str(words).replace("`", "'").replace("|", "/").replace("\n", " ") + "`"
