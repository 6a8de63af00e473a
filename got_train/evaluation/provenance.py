"""Where scores come from: a checkpoint's hash, the version of the code, whether answers may be mixed.

Knows files and git; knows no metric and no model.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from got_train.atomic_write import write_atomic
from got_train.errors import EvaluationError, PromptError
from got_train.strict_files import strict_json

if TYPE_CHECKING:
    from got_train.inference.reader import OcrPipeline

    from .predictions import DataFile, Prediction

PREDICTIONS, SETTINGS, METRICS, SAMPLES = (
    "predictions.jsonl",
    "settings.json",
    "metrics.json",
    "samples.jsonl",
)
REPORT = "report.html"
# what makes a checkpoint; beside it may lie the state of its training
_MODEL = ("config.json", "model*.safetensors*", "*.pth", "*.bin", "qwen.tiktoken", "tokenizer*.json")
_MODEL += ("vocab.json", "merges.txt", "adapter.json", "adapter.safetensors")
_TRAINING = ("rng_state", "optimizer", "scheduler", "scaler", "training_args")


def model_hash(folder: str | os.PathLike) -> str:
    """SHA-256 over config, weights and tokenizer of a checkpoint folder, by the files' names."""
    files = {file for pattern in _MODEL for file in Path(folder).glob(pattern)}
    digest = hashlib.sha256()
    for file in sorted(file for file in files if not file.name.startswith(_TRAINING)):
        digest.update(f"{file.name} {file.stat().st_size}\n".encode())
        with open(file, "rb") as opened:
            while piece := opened.read(1 << 22):
                digest.update(piece)
    return digest.hexdigest()


def code_version() -> str:
    """got_train's version, and the commit if this is a clone."""
    from got_train import __version__

    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return __version__
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--exclude=*", "--abbrev=12"]
    try:
        described = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return __version__
    return f"{__version__} {described.stdout.strip()}".strip()


def run_settings(
    folder: str | os.PathLike,
    reader: OcrPipeline,
    data: Iterable[DataFile],
    limit: int | None,
    **decoding: Any,
) -> dict[str, Any]:
    """All that answers depend on, as settings.json holds it; `decoding` is what the reader does not know."""
    return {
        "model": {
            "folder": str(folder),
            "sha256": model_hash(folder),
            "prompt_template": reader.prompt_template,
        },
        "decoding": {
            "max_new_tokens": reader.max_new_tokens,
            "no_repeat_ngram_size": reader.no_repeat_ngram_size,  # null: 20 with one view, off with several
            "stop_loops": reader.stop_loops,
            "max_crops": reader.max_crops,
            **decoding,
        },
        "data": [
            {
                "name": file.name,
                "path": file.path,
                "source": dict(file.source),
                "records": len(file.records),
                "sha256": file.sha256,
            }
            for file in data
        ],
        "limit": limit,
        "code": code_version(),
    }


def assert_same_settings(output_dir: Path, settings: Mapping[str, Any]) -> None:
    """Refuse to mix answers of two models, two sets of records or two ways of decoding in one file."""
    if not (output_dir / PREDICTIONS).exists():
        return
    if not (output_dir / SETTINGS).exists():
        raise EvaluationError(
            f"{output_dir}: holds {PREDICTIONS} without {SETTINGS}; give another --output-dir"
        )
    before, now = _identity(read_json(output_dir / SETTINGS)), _identity(settings)
    for name, value in now.items():
        if before.get(name) != value:
            changed = f"{name} {_short(before.get(name))}, not {_short(value)}"
            raise EvaluationError(f"{output_dir}: holds answers of {changed}; give another --output-dir")


def provenance(
    settings: Mapping[str, Any] | None,
    data: Sequence[DataFile],
    predictions: Sequence[Prediction],
    answers_path: str = "",
    benchmark_titles: Sequence[str] = (),
) -> dict[str, Any]:
    """What the numbers depend on, as the head of a report says it: benchmark and version, prompts, decoding,
    checkpoint, data and answers by their hashes, the code."""
    facts: dict[str, Any] = {
        "benchmark": ", ".join(dict.fromkeys(benchmark_titles)) or None,
        **{f"data {file.name}": f"{len(file.records):,} records, SHA-256 {file.sha256}" for file in data},
        "answers": f"{len(predictions):,} of {answers_path}" if answers_path else f"{len(predictions):,}",
        "answers SHA-256": answers_hash(predictions),
    }
    if settings:
        template = settings["model"]["prompt_template"]
        tasks = sorted({prediction.task for prediction in predictions if prediction.not_asked is None})
        decoding = dict(settings["decoding"])
        facts |= {
            "checkpoint": settings["model"]["folder"],
            "checkpoint SHA-256": settings["model"]["sha256"],
            "prompt template": template,
            "prompts": ", ".join(filter(None, (_words(task, template) for task in tasks))),
            "crops": f"up to {decoding.pop('max_crops', 1)}",
            "dtype": decoding.pop("dtype", None),
            "decoding": ", ".join(f"{name} {value}" for name, value in decoding.items()),
        }
    return {name: value for name, value in {**facts, "code": code_version()}.items() if value}


def answers_hash(predictions: Iterable[Prediction]) -> str:
    """SHA-256 over the answers and what they answer."""
    digest = hashlib.sha256()
    for prediction in predictions:
        digest.update(
            json.dumps([prediction.name, prediction.prediction, prediction.failed]).encode() + b"\n"
        )
    return digest.hexdigest()


def _words(task: str, template: str) -> str | None:
    """A task with the words that ask for it; None for what no prompt asks."""
    from got_train import prompts

    try:
        return f"{task} {prompts.question(task, prompt_template=template)!r}"
    except PromptError:
        return None


def read_json(path: Path) -> Any:
    try:
        return strict_json(path.read_text(encoding="utf-8"), allow_nan=True)
    except ValueError as error:
        raise EvaluationError(
            f"{path}: not JSON: {error}; expected a file that this command wrote"
        ) from error


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(values, indent=1, ensure_ascii=False) + "\n")


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """JSON lines."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def write_text(path: Path, text: str) -> None:
    """Half a character, which UTF-8 has not, becomes its escape."""
    write_atomic(path, text.encode("utf-8", "backslashreplace"))


def _identity(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that change answers. How many are read together does not."""
    decoding = {name: value for name, value in settings["decoding"].items() if name != "batch_size"}
    data = [(file["name"], file["sha256"]) for file in settings["data"]]
    return {"model": settings["model"]["sha256"], "data": data, **decoding}


def _short(value: object) -> str:
    shown = str(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."
