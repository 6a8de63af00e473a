"""How well a model reads: python -m got_train.evaluate CHECKPOINT --data records.jsonl --output_dir FOLDER.

Answers go to FOLDER/predictions.jsonl as they come, then scores to FOLDER/metrics.json and a table to stdout.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SCORED, SOME_FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130
PREDICTIONS, SETTINGS, METRICS = "predictions.jsonl", "settings.json", "metrics.json"
# what makes a checkpoint; beside it may lie the state of its training
_MODEL = ("config.json", "model*.safetensors*", "*.pth", "*.bin", "qwen.tiktoken", "tokenizer*.json")
_MODEL += ("vocab.json", "merges.txt")
_TRAINING = ("rng_state", "optimizer", "scheduler", "scaler", "training_args")


class EvaluationError(ValueError):
    """An evaluation that cannot be made or continued."""


def evaluate(
    model_folder: str | os.PathLike,
    data_paths: Sequence[str | os.PathLike],
    output_dir: str | os.PathLike,
    limit: int | None = None,
    batch_size: int = 32,
    unit: str = "word",
    dtype: str = "float32",
    threads: int | None = None,
    tune_cpu: bool = True,
    **decoding: Any,
) -> dict[str, Any]:
    """Ask a model the records, at most `limit` of each file, and score its answers.

    Returns what metrics.json holds. `decoding` are fields of reading.Reader, such as max_new_tokens. An
    evaluation that was killed is continued: only what `output_dir` does not hold yet is asked.
    """
    from got_train import cpu, reading
    from got_train.evaluation.predictions import open_data, predict
    from got_train.evaluation.scores import score

    _check_counts(limit=limit, batch_size=batch_size, threads=threads)
    data = open_data(data_paths)
    if tune_cpu:
        cpu.tune(threads)
    reader = reading.load_reader(model_folder, dtype, **decoding)
    settings = {
        "model": {"folder": str(model_folder), "sha256": model_hash(model_folder), "dialect": reader.dialect},
        "decoding": {
            "max_new_tokens": reader.max_new_tokens,
            "no_repeat_ngram_size": reader.no_repeat_ngram_size,  # null: 20 with one view, off with several
            "stop_loops": reader.stop_loops,
            "max_tiles": reader.max_tiles,
            "dtype": dtype,
            "batch_size": batch_size,
        },
        "data": [
            {"name": file.name, "path": file.path, "records": len(file.records), "sha256": file.sha256}
            for file in data
        ],
        "limit": limit,
        "code": code_version(),
    }
    output_dir = Path(output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    _check_same(output_dir, settings)
    _write_json(output_dir / SETTINGS, settings)
    predictions = predict(reader, data, output_dir / PREDICTIONS, limit, batch_size)
    metrics = {"settings": settings, **score(predictions, unit)}
    _write_json(output_dir / METRICS, metrics)
    return metrics


def score_file(path: str | os.PathLike, unit: str = "word") -> dict[str, Any]:
    """The metrics of a file of predictions, with the settings that an evaluation wrote beside it."""
    from got_train.evaluation.predictions import read_predictions
    from got_train.evaluation.scores import score

    beside = Path(path).with_name(SETTINGS)
    settings = _read_json(beside) if Path(path).name == PREDICTIONS and beside.exists() else None
    return {"settings": settings, **score(read_predictions(path), unit)}


def compare_files(paths: Sequence[str | os.PathLike]) -> str:
    """A markdown table of several metrics.json (or their folders), each under the name of its folder."""
    from got_train.evaluation.scores import compare

    files = [Path(path) / METRICS if os.path.isdir(path) else Path(path) for path in paths]
    names = [file.absolute().parent.name for file in files]
    if len(set(names)) < len(names):
        names = [str(file) for file in files]
    if len(set(names)) < len(names):
        raise EvaluationError(f"--compare: {max(names, key=names.count)} is given twice; each run once")
    runs = {name: _read_json(file) for name, file in zip(names, files, strict=True)}
    for file, metrics in zip(files, runs.values(), strict=True):
        if not isinstance(metrics, dict) or "groups" not in metrics:
            raise EvaluationError(f"{file}: no groups in it; a {METRICS} that this command wrote")
    return compare(runs)


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

    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return __version__
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--exclude=*", "--abbrev=12"]
    try:
        described = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return __version__
    return f"{__version__} {described.stdout.strip()}".strip()


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m got_train.evaluate",
        description="Score a model on records, score predictions that exist, or compare scores.",
        epilog="Exit codes: 0 scored, 1 some rows failed (listed on stderr), 2 wrong usage or files. A "
        "killed evaluation continues when it is started again.",
    )
    add = made.add_argument
    add("model", nargs="?", metavar="FOLDER", help="a checkpoint in any layout")
    add(
        "--data",
        action="append",
        metavar="FILE",
        help="records to read and score; may be given several times",
    )
    add("--output_dir", metavar="FOLDER", help="predictions.jsonl and metrics.json go here")
    add("--limit", type=int, metavar="N", help="only the first N records of each file")
    add("--batch_size", type=int, default=32, metavar="N", help="pages read together (32)")
    add("--max_new_tokens", type=int, default=4096, metavar="N", help="tokens of an answer at most (4096)")
    add(
        "--unit",
        choices=("word", "character"),
        default="word",
        help="what BLEU, F1, ... count; scene text: character",
    )
    add("--dtype", choices=("float32", "bfloat16", "float16"), default="float32", help="(float32)")
    add("--threads", type=int, metavar="N", help="CPU threads (all cores)")
    add("--no_tune_cpu", action="store_true", help="leave Paddle's CPU settings as they are")
    add(
        "--predictions",
        metavar="FILE",
        help="score this file; keys prediction, reference, task (or answer, label)",
    )
    add("--compare", nargs="+", metavar="FILE", help="metrics.json of several runs, side by side")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    from got_train.installation import InstallationError

    try:
        return run(options)
    except KeyboardInterrupt:
        _say("interrupted; the answers so far are kept, the same command goes on from them")
        return INTERRUPTED
    except (InstallationError, ValueError, OSError) as error:
        _say(str(error))
        return WRONG_USAGE


def run(options: argparse.Namespace) -> int:
    """Do what the options ask for; returns the exit code."""
    chosen = [name for name in ("model", "predictions", "compare") if getattr(options, name)]
    if len(chosen) != 1:
        given = " and ".join(chosen) or "none of them"
        raise EvaluationError(f"a checkpoint, --predictions or --compare: got {given}; give one")
    if options.compare:
        print(compare_files(options.compare))
        return SCORED
    metrics = _asked(options) if options.model else _scored(options)
    from got_train.evaluation.scores import table

    print(table(metrics))
    failures = [f"{each['where']}: {each['cause']}" for each in metrics["failures"]]
    if failures:
        _say("\n  ".join([f"{len(failures)} failed and count as empty answers", *failures]))
    return SOME_FAILED if failures else SCORED


def _asked(options: argparse.Namespace) -> dict[str, Any]:
    from got_train.installation import need_paddle

    for name in ("data", "output_dir"):
        if not getattr(options, name):
            raise EvaluationError(
                f"--{name}: missing; a checkpoint needs --data FILE and --output_dir FOLDER"
            )
    need_paddle()
    return evaluate(
        options.model,
        options.data,
        options.output_dir,
        limit=options.limit,
        batch_size=options.batch_size,
        unit=options.unit,
        dtype=options.dtype,
        threads=options.threads,
        tune_cpu=not options.no_tune_cpu,
        max_new_tokens=options.max_new_tokens,
    )


def _scored(options: argparse.Namespace) -> dict[str, Any]:
    for name in ("data", "limit"):
        if getattr(options, name):
            raise EvaluationError(f"--{name}: does not go with --predictions, which asks no model")
    metrics = score_file(options.predictions, options.unit)
    if options.output_dir:
        Path(options.output_dir).mkdir(parents=True, exist_ok=True)
        _write_json(Path(options.output_dir) / METRICS, metrics)
    return metrics


def _check_same(output_dir: Path, settings: dict[str, Any]) -> None:
    """Refuse to mix answers of two models, two sets of records or two ways of decoding in one file."""
    if not (output_dir / PREDICTIONS).exists():
        return
    if not (output_dir / SETTINGS).exists():
        raise EvaluationError(
            f"{output_dir}: holds {PREDICTIONS} without {SETTINGS}; give another --output_dir"
        )
    before, now = _identity(_read_json(output_dir / SETTINGS)), _identity(settings)
    for name, value in now.items():
        if before.get(name) != value:
            changed = f"{name} {_short(before.get(name))}, not {_short(value)}"
            raise EvaluationError(f"{output_dir}: holds answers of {changed}; give another --output_dir")


def _identity(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that change answers. How many are read together does not."""
    decoding = {name: value for name, value in settings["decoding"].items() if name != "batch_size"}
    data = [(file["name"], file["sha256"]) for file in settings["data"]]
    return {"model": settings["model"]["sha256"], "data": data, **decoding}


def _short(value: object) -> str:
    shown = str(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def _check_counts(**counts: int | None) -> None:
    for name, count in counts.items():
        if count is not None and count < 1:
            raise EvaluationError(f"--{name}: {count}; at least 1")


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise EvaluationError(f"{path}: not JSON: {error}; a file that this command wrote") from error


def _write_json(path: Path, values: dict[str, Any]) -> None:
    unfinished = path.with_name(path.name + ".tmp")
    unfinished.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(unfinished, path)


def _say(message: str) -> None:
    print(f"evaluate: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
