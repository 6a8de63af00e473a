"""One evaluation from its settings to its files: answers asked or given, their scores, what to look at.

Answers go to predictions.jsonl as they come, then scores to metrics.json and samples.jsonl, and a page to
look at to report.html.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from got_train.config import loader
from got_train.errors import EvaluationError

from .compare import checked_differences, read_samples, write_report
from .provenance import (
    METRICS,
    PREDICTIONS,
    SAMPLES,
    SETTINGS,
    assert_same_settings,
    provenance,
    read_json,
    run_settings,
    write_json,
    write_lines,
)

if TYPE_CHECKING:
    from .predictions import DataFile, Prediction
    from .schema import EvaluationConfig
    from .scored import ScoredPrediction


def evaluate(
    model_folder: str | os.PathLike,
    data_paths: Sequence[str | os.PathLike],
    output_dir: str | os.PathLike,
    limit: int | None = None,
    batch_size: int = 32,
    unit: str = "word",
    case: str = "kept",
    dtype: str = "float32",
    threads: int | None = None,
    tune_cpu: bool = True,
    **decoding: Any,
) -> dict[str, Any]:
    """Ask a model the records, at most `limit` of each file, and score its answers.

    Returns what metrics.json holds. `decoding` are fields of reader.OcrPipeline, such as max_new_tokens. An
    evaluation that was killed is continued: only what `output_dir` does not hold yet is asked.
    """

    from .schema import EvaluationConfig

    check_counts(limit=limit, batch_size=batch_size, threads=threads)
    values = {
        "output_dir": os.fspath(output_dir),
        "limit": limit,
        "model": {
            "path": os.fspath(model_folder),
            "dtype": dtype,
            "threads": threads or 0,
            "tune_cpu": tune_cpu,
        },
        "data": [{"path": os.fspath(path)} for path in data_paths],
        "decoding": {"batch_size": batch_size, **decoding},
        "scores": {"unit": unit, "case": case},
    }
    return run_config(loader.build(EvaluationConfig, values))


def score_file(path: str | os.PathLike, unit: str = "word", case: str = "kept") -> dict[str, Any]:
    """The metrics of a file of predictions, with the settings that an evaluation wrote beside it."""

    from .schema import EvaluationConfig

    values = {"predictions": os.fspath(path), "scores": {"unit": unit, "case": case}}
    return run_config(loader.build(EvaluationConfig, values))


def run_config(config: EvaluationConfig) -> dict[str, Any]:
    """One evaluation from its settings to its files; returns what metrics.json holds."""
    if config.model.path:
        predictions, settings, data = _asked(config)
    elif config.predictions:
        predictions, settings, data = _given(config)
    else:
        raise EvaluationError(
            "model.path or predictions: neither is given; give a checkpoint, or answers to score"
        )
    return _scored(config, predictions, settings, data)


def _asked(config: EvaluationConfig) -> tuple[list[Prediction], dict[str, Any], list[DataFile]]:
    """The model's predictions, kept in the output folder."""
    from got_train.cpu import settings as cpu
    from got_train.inference import reader as reading

    from .inputs import open_data
    from .predictions import predict

    data = open_data([source.options() for source in config.sources])
    if config.model.tune_cpu:
        cpu.tune(config.model.threads or None)
    decoding = {name: value for name, value in vars(config.decoding).items() if name != "batch_size"}
    reader = reading.load_pipeline(config.model.path, config.model.dtype, **decoding)
    how = {"dtype": config.model.dtype, "batch_size": config.decoding.batch_size}
    settings = run_settings(config.model.path, reader, data, config.limit, **how)
    output_dir = Path(config.output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    assert_same_settings(output_dir, settings)
    write_json(output_dir / SETTINGS, settings)
    predictions = predict(reader, data, output_dir / PREDICTIONS, config.limit, config.decoding.batch_size)
    return predictions, settings, data


def _given(config: EvaluationConfig) -> tuple[list[Prediction], dict[str, Any] | None, list[DataFile]]:
    """Predictions that exist; those that an evaluation wrote have its settings beside them."""
    from .inputs import open_data, read_pairs, read_predictions

    folders = [
        source.path for source in config.sources if not source.benchmark and os.path.isdir(source.path)
    ]
    if len(folders) == 1 and os.path.isdir(config.predictions):
        return read_pairs(folders[0], config.predictions), None, []
    data = open_data([source.options() for source in config.sources])
    if data:
        from .benchmarks import answers

        return answers(config.predictions, data), None, data
    beside = Path(config.predictions).with_name(SETTINGS)
    ours = Path(config.predictions).name == PREDICTIONS and beside.exists()
    return read_predictions(config.predictions), read_json(beside) if ours else None, data


def _scored(
    config: EvaluationConfig,
    predictions: list[Prediction],
    settings: dict[str, Any] | None,
    data: Sequence[DataFile],
) -> dict[str, Any]:
    """Scores, comparison and files of predictions."""
    from . import benchmarks
    from .documents import with_documents
    from .scored import score_predictions
    from .scores import summary

    unit, case = config.scores.unit, config.scores.case
    output_dir = Path(config.output_dir) if config.output_dir else None
    own = [prediction for prediction in predictions if prediction.benchmark is None]
    own, documents = with_documents(own, config.scores.document)
    scored = score_predictions(own, unit, output_dir is not None, config.scores.cdm_seconds, case)
    metrics = {"settings": settings, **summary(scored, predictions, unit, case)}
    metrics["documents"] = [count.row() for count in documents]
    if results := benchmarks.scores(
        predictions, data, output_dir, config.scores.cdm_seconds, config.predictions
    ):
        metrics["benchmarks"] = results
    if config.report.beside:
        metrics["beside"] = _beside(scored, config, data)
    titles = [benchmarks.title_with_preset(file) for file in data if file.source.get("benchmark")]
    metrics["provenance"] = provenance(settings, data, predictions, config.predictions, titles)
    before = None
    if config.report.baseline:
        before = _compared(metrics, scored, config)
    if output_dir is not None:
        output_dir.mkdir(parents=True, exist_ok=True)
        write_json(output_dir / METRICS, metrics)
        write_lines(output_dir / SAMPLES, (prediction.row() for prediction in scored))
        if config.report.page:
            write_report(output_dir, config, metrics, scored, before, data)
    return metrics


def _beside(
    scored: Sequence[ScoredPrediction], config: EvaluationConfig, data: Sequence[DataFile]
) -> dict[str, Any]:
    """Another system's answers to the same rows, from it to this run."""
    from .compare import deltas_beside
    from .other_system import system_name

    path = config.report.beside
    deltas = deltas_beside(path, scored, data, config.scores.unit, config.scores.case)
    return {"with": path, "name": system_name(path), "skills": [delta.row() for delta in deltas]}


def _compared(
    metrics: dict[str, Any], scored: Sequence[ScoredPrediction], config: EvaluationConfig
) -> list[ScoredPrediction]:
    """Adds what changed since the baseline; returns the baseline's samples."""
    from .comparison import metric_deltas

    folder = Path(config.report.baseline)
    runs = {folder.name or str(folder): read_json(folder / METRICS), "this run": metrics}
    notes = checked_differences(runs, config.report.force)
    before = read_samples(folder, config.scores.unit, config.scores.case)
    metrics["comparison"] = {
        "with": str(folder),
        "notes": notes,
        "skills": [skill.row() for skill in metric_deltas(before, scored)],
    }
    return before


def check_counts(**counts: int | None) -> None:
    """Refuse what is given and not at least 1, by the option's name."""
    for name, count in counts.items():
        if count is not None and count < 1:
            raise EvaluationError(f"--{name.replace('_', '-')}: {count}; expected at least 1")
