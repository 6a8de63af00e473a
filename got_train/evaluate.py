"""How well a model reads: python -m got_train.evaluate CONFIG.yaml, or a checkpoint, or answers that exist.

Answers go to FOLDER/predictions.jsonl as they come, then scores to metrics.json and samples.jsonl, a page to
look at to report.html, and a table to stdout.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from got_train.evaluation.provenance import (
    METRICS,
    PREDICTIONS,
    REPORT,
    SAMPLES,
    SETTINGS,
    EvaluationError,
    check_same,
    code_version,
    model_hash,
    read_json,
    write_json,
    write_lines,
    write_text,
)

if TYPE_CHECKING:
    from got_train.evaluation.predictions import DataFile, Prediction
    from got_train.evaluation.samples import Sample
    from got_train.evaluation.settings import EvaluationConfig
    from got_train.reading import Reader

SCORED, SOME_FAILED, WRONG_USAGE, TOO_LOW, INTERRUPTED = 0, 1, 2, 3, 130


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
    from got_train import config
    from got_train.evaluation.settings import EvaluationConfig

    _check_counts(limit=limit, batch_size=batch_size, threads=threads)
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
        "scores": {"unit": unit},
    }
    return run_config(config.build(EvaluationConfig, values))


def run_config(config: EvaluationConfig) -> dict[str, Any]:
    """One evaluation from its settings to its files; returns what metrics.json holds."""
    if config.model.path:
        predictions, settings, data = _asked(config)
    elif config.predictions:
        predictions, settings, data = _given(config)
    else:
        raise EvaluationError("model.path or predictions: neither is given; a checkpoint or answers to score")
    return _scored(config, predictions, settings, data)


def score_file(path: str | os.PathLike, unit: str = "word") -> dict[str, Any]:
    """The metrics of a file of predictions, with the settings that an evaluation wrote beside it."""
    from got_train import config
    from got_train.evaluation.settings import EvaluationConfig

    values = {"predictions": os.fspath(path), "scores": {"unit": unit}}
    return run_config(config.build(EvaluationConfig, values))


def compare_files(
    paths: Sequence[str | os.PathLike],
    force: bool = False,
    output_dir: str | os.PathLike | None = None,
) -> str:
    """Several metrics.json (or their folders) side by side, as markdown, each under the name of its folder.

    Runs with other data, prompts or decoding are refused unless forced. If the first and the last have their
    samples too, a table of what got better or worse follows, and a report of both goes to `output_dir`.
    """
    from got_train.evaluation import comparison

    files = [Path(path) / METRICS if os.path.isdir(path) else Path(path) for path in paths]
    runs = dict(zip(_run_names(files), map(read_json, files), strict=True))
    for file, metrics in zip(files, runs.values(), strict=True):
        if not isinstance(metrics, dict) or "groups" not in metrics:
            raise EvaluationError(f"{file}: no groups in it; a {METRICS} that this command wrote")
    notes = _checked_differences(runs, force)
    parts = [comparison.side_by_side(runs)]
    first, last = files[0].parent, files[-1].parent
    if len(files) > 1 and _samples_file(first) and _samples_file(last):
        skills = _skills(first, last, runs, output_dir)
        parts += [comparison.skill_table(skills), "\n".join(skill.words() for skill in skills)]
    elif output_dir is not None:
        raise EvaluationError(f"--output_dir: a report needs {SAMPLES} of two runs beside their {METRICS}")
    return "\n\n".join([*parts, *notes])


def _asked(config: EvaluationConfig) -> tuple[list[Prediction], dict[str, Any], list[DataFile]]:
    """The model's predictions, kept in the output folder."""
    from got_train import cpu, reading
    from got_train.evaluation.predictions import open_data, predict

    data = open_data([source.options() for source in config.sources])
    if config.model.tune_cpu:
        cpu.tune(config.model.threads or None)
    decoding = {name: value for name, value in vars(config.decoding).items() if name != "batch_size"}
    reader = reading.load_reader(config.model.path, config.model.dtype, **decoding)
    settings = _settings(config, reader, data)
    output_dir = Path(config.output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    check_same(output_dir, settings)
    write_json(output_dir / SETTINGS, settings)
    predictions = predict(reader, data, output_dir / PREDICTIONS, config.limit, config.decoding.batch_size)
    return predictions, settings, data


def _settings(config: EvaluationConfig, reader: Reader, data: Sequence[DataFile]) -> dict[str, Any]:
    """All that the answers depend on, as settings.json and metrics.json hold it."""
    folder = config.model.path
    return {
        "model": {"folder": folder, "sha256": model_hash(folder), "dialect": reader.dialect},
        "decoding": {
            "max_new_tokens": reader.max_new_tokens,
            "no_repeat_ngram_size": reader.no_repeat_ngram_size,  # null: 20 with one view, off with several
            "stop_loops": reader.stop_loops,
            "max_tiles": reader.max_tiles,
            "dtype": config.model.dtype,
            "batch_size": config.decoding.batch_size,
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
        "limit": config.limit,
        "code": code_version(),
    }


def _given(config: EvaluationConfig) -> tuple[list[Prediction], dict[str, Any] | None, list[DataFile]]:
    """Predictions that exist; those that an evaluation wrote have its settings beside them."""
    from got_train.evaluation.predictions import open_data, read_pairs, read_predictions

    folders = [
        source.path for source in config.sources if not source.benchmark and os.path.isdir(source.path)
    ]
    if len(folders) == 1 and os.path.isdir(config.predictions):
        return read_pairs(folders[0], config.predictions), None, []
    data = open_data([source.options() for source in config.sources])
    if data:
        from got_train.evaluation.benchmarks import answers

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
    from got_train.evaluation import benchmarks
    from got_train.evaluation.samples import samples
    from got_train.evaluation.scores import summary

    unit, output_dir = config.scores.unit, Path(config.output_dir) if config.output_dir else None
    own = [each for each in predictions if each.benchmark is None]
    scored = samples(own, unit, progress=output_dir is not None)
    metrics = {"settings": settings, **summary(scored, predictions, unit)}
    if found := benchmarks.scores(predictions, data, output_dir):
        metrics["benchmarks"] = found
    before = None
    if config.report.baseline:
        before = _compared(metrics, scored, config)
    if output_dir is not None:
        output_dir.mkdir(parents=True, exist_ok=True)
        write_json(output_dir / METRICS, metrics)
        write_lines(output_dir / SAMPLES, (each.row() for each in scored))
        if config.report.page:
            _write_report(output_dir, config, metrics, scored, before, data)
    return metrics


def _compared(metrics: dict[str, Any], scored: Sequence[Sample], config: EvaluationConfig) -> list[Sample]:
    """Adds what changed since the baseline; returns the baseline's samples."""
    from got_train.evaluation.comparison import skills

    folder = Path(config.report.baseline)
    runs = {folder.name or str(folder): read_json(folder / METRICS), "this run": metrics}
    notes = _checked_differences(runs, config.report.force)
    before = _read_samples(folder, config.scores.unit)
    metrics["comparison"] = {
        "with": str(folder),
        "notes": notes,
        "skills": [skill.row() for skill in skills(before, scored)],
    }
    return before


def _skills(
    first: Path, last: Path, runs: dict[str, dict[str, Any]], output_dir: str | os.PathLike | None
) -> list[Any]:
    """What got better or worse from the first to the last run; a report of both where it is wanted."""
    from got_train.evaluation.comparison import differences, skills
    from got_train.evaluation.settings import EvaluationConfig

    metrics = runs[list(runs)[-1]]
    before, after = (_read_samples(folder, metrics["unit"]) for folder in (first, last))
    found = skills(before, after)
    if output_dir is not None:
        rows = [skill.row() for skill in found]
        notes = differences(runs)
        metrics = {**metrics, "comparison": {"with": str(first), "notes": notes, "skills": rows}}
        target = Path(output_dir)
        target.mkdir(parents=True, exist_ok=True)
        write_json(target / METRICS, metrics)
        write_lines(target / SAMPLES, (each.row() for each in after))
        _write_report(target, EvaluationConfig(), metrics, after, before, ())
    return found


def _write_report(
    output_dir: Path,
    config: EvaluationConfig,
    metrics: dict[str, Any],
    scored: Sequence[Sample],
    before: Sequence[Sample] | None,
    data: Sequence[DataFile],
) -> None:
    from got_train.evaluation.report import page, pictures

    opened = pictures.Pictures(data, metrics["settings"], config.report.picture_side)
    write_text(output_dir / REPORT, page.report(metrics, scored, before, opened, config.report.pictures))


def _read_samples(folder: Path, unit: str) -> list[Sample]:
    from got_train.evaluation.predictions import read_predictions
    from got_train.evaluation.samples import samples

    file = _samples_file(folder)
    if file is None:
        raise EvaluationError(f"{folder}: neither {SAMPLES} nor {PREDICTIONS}; the folder of an evaluation")
    return samples(read_predictions(file), unit)


def _samples_file(folder: Path) -> Path | None:
    return next((folder / name for name in (SAMPLES, PREDICTIONS) if (folder / name).exists()), None)


def _checked_differences(runs: dict[str, dict[str, Any]], force: bool) -> list[str]:
    """Notes on what is not the same in forced comparisons; others are refused."""
    from got_train.evaluation.comparison import differences

    found = differences(runs)
    if found and not force:
        raise EvaluationError(f"--compare: {'; '.join(found)}; the same in all, or --force")
    return [f"not comparable without care: {each}" for each in found]


def _run_names(files: Sequence[Path]) -> list[str]:
    names = [file.absolute().parent.name for file in files]
    if len(set(names)) < len(names):
        names = [str(file) for file in files]
    if len(set(names)) < len(names):
        raise EvaluationError(f"--compare: {max(names, key=names.count)} is given twice; each run once")
    return names


def shortfalls(metrics: dict[str, Any], limits: dict[str, float]) -> list[str]:
    """Which metrics are worse than their limits, each as a message; one without a value is."""
    from got_train.evaluation.samples import lower_is_better
    from got_train.evaluation.scores import ALL, at

    found = []
    for name, limit in limits.items():
        task, _, metric = name.rpartition(":")
        kind, dot, own = metric.rpartition(".")
        if dot:
            value = at(metrics["kinds"].get(kind), ("averages",))
            value = value and value.get(own)
        else:
            groups = metrics["groups"]
            group = groups.get(task or (ALL if ALL in groups else next(iter(groups), ALL)))
            value = at(group and group["fixed"], ("macro", metric))
        lower = lower_is_better(metric)
        if value is None:
            found.append(f"{name} has no value; a metric of rows that are there")
        elif value > limit if lower else value < limit:
            found.append(f"{name} is {value:.4f}; {'at most' if lower else 'at least'} {limit:g}")
    return found


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m got_train.evaluate",
        description="Score a model on records, score predictions that exist, or compare scores.",
        epilog="Exit codes: 0 scored, 1 some rows failed (listed on stderr), 2 wrong usage or files, 3 worse "
        "than --fail-under. A killed evaluation continues when it is started again.",
    )
    add = made.add_argument
    add("model", nargs="?", metavar="CONFIG|FOLDER", help="a YAML file, or a checkpoint in any layout")
    add("overrides", nargs="*", metavar="SECTION.KEY=VALUE", help="settings that win over the YAML file")
    add(
        "--data",
        action="append",
        metavar="FILE",
        help="records to read and score; may be given several times",
    )
    add(
        "--benchmark",
        choices=("fox", "onechart", "omnidocbench", "olmocr"),
        help="what --data is, as its authors publish it",
    )
    add("--output_dir", metavar="FOLDER", help="predictions.jsonl, metrics.json and report.html go here")
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
        help="score this file; keys prediction, reference, task (or answer, label); a benchmark's folder",
    )
    add("--compare", nargs="+", metavar="FILE", help="metrics.json of several runs, side by side")
    add("--baseline", metavar="FOLDER", help="an earlier evaluation of the same data, to compare with")
    add("--force", action="store_true", help="compare even if prompts, decoding or data differ")
    add("--no_page", action="store_true", help="no report.html")
    add(
        "--fail-under",
        action="append",
        default=[],
        metavar="METRIC=VALUE",
        help="exit with 3 if it is worse, e.g. edit_distance=0.2, table.teds=0.8, ocr:f1=0.9",
    )
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
        print(compare_files(options.compare, options.force, options.output_dir))
        return SCORED
    config = _config(options)
    if config.model.path:
        from got_train.installation import need_paddle

        need_paddle()
    metrics = run_config(config)
    return _told(metrics, config.scores.fail_under)


def _told(metrics: dict[str, Any], limits: dict[str, float]) -> int:
    """Tables to stdout, failures to stderr; the exit code."""
    from got_train.evaluation.scores import table

    print(table(metrics))
    for sentence in (skill["words"] for skill in metrics.get("comparison", {}).get("skills", ())):
        print(sentence)
    for name, found in metrics.get("benchmarks", {}).items():
        print(f"{name}: " + ", ".join(f"{key} {value}" for key, value in found["summary"].items()))
    failures = [f"{each['where']}: {each['cause']}" for each in metrics["failures"]]
    if failures:
        _say("\n  ".join([f"{len(failures)} failed and count as empty answers", *failures]))
    if short := shortfalls(metrics, limits):
        _say("\n  ".join(["worse than --fail-under", *short]))
        return TOO_LOW
    return SOME_FAILED if failures else SCORED


def _config(options: argparse.Namespace) -> EvaluationConfig:
    from got_train import config
    from got_train.evaluation import settings

    if options.model and options.model.lower().endswith((".yaml", ".yml")):
        limits = [f"scores.fail_under.{each}" for each in options.fail_under]
        return settings.load(options.model, [*options.overrides, *limits], options.output_dir)
    if options.overrides:
        raise EvaluationError(
            f"{options.overrides[0]}: settings go with a YAML file; options with a checkpoint"
        )
    _check_options(options)
    _check_counts(limit=options.limit, batch_size=options.batch_size, threads=options.threads)
    source = {"benchmark": options.benchmark} if options.benchmark else {}
    values = {
        "output_dir": options.output_dir or "",
        "predictions": options.predictions or "",
        "limit": options.limit,
        "model": {
            "path": options.model or "",
            "dtype": options.dtype,
            "threads": options.threads or 0,
            "tune_cpu": not options.no_tune_cpu,
        },
        "data": [{"path": path, **source} for path in options.data or ()],
        "decoding": {"max_new_tokens": options.max_new_tokens, "batch_size": options.batch_size},
        "scores": {"unit": options.unit, "fail_under": dict(map(_limit, options.fail_under))},
        "report": {
            "page": not options.no_page,
            "baseline": options.baseline or "",
            "force": options.force,
        },
    }
    return config.build(settings.EvaluationConfig, values)


def _check_options(options: argparse.Namespace) -> None:
    if options.benchmark and not options.data:
        raise EvaluationError(
            f"--benchmark {options.benchmark}: --data is missing; the benchmark's file or folder"
        )
    if options.model:
        for name in ("data", "output_dir"):
            if not getattr(options, name):
                missing = "missing; a checkpoint needs --data FILE and --output_dir FOLDER"
                raise EvaluationError(f"--{name}: {missing}")
    elif options.limit:
        raise EvaluationError("--limit: does not go with --predictions, which asks no model")


def _limit(given: str) -> tuple[str, float]:
    name, _, value = given.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise EvaluationError(f"--fail-under {given}: no number; like edit_distance=0.2") from None


def _check_counts(**counts: int | None) -> None:
    for name, count in counts.items():
        if count is not None and count < 1:
            raise EvaluationError(f"--{name}: {count}; at least 1")


def _say(message: str) -> None:
    print(f"evaluate: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
