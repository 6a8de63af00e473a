"""Evaluations that lie in folders: their samples, several side by side, the page to look at.

Knows files and which may be compared; what is better or worse is comparison's affair.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from got_train.errors import EvaluationError

from .other_system import system_name
from .provenance import METRICS, PREDICTIONS, REPORT, SAMPLES, read_json, write_json, write_lines, write_text

if TYPE_CHECKING:
    from .comparison import MetricDelta
    from .predictions import DataFile
    from .schema import EvaluationConfig
    from .scored import ScoredPrediction


def compare_files(
    paths: Sequence[str | os.PathLike],
    force: bool = False,
    output_dir: str | os.PathLike | None = None,
) -> str:
    """Several evaluations side by side, as markdown: their folders, metrics.json, or files of predictions.

    Runs with other data, prompts or decoding are refused unless forced. Of each run that has its samples, as
    the first has, a table follows of what is better or worse than in the first; p values are adjusted over
    all of them. A report of the first and the last goes to `output_dir`.
    """
    from . import comparison

    files = [Path(path) / METRICS if os.path.isdir(path) else Path(path) for path in paths]
    runs = dict(zip(_run_names(files), map(_metrics, files), strict=True))
    notes = checked_differences(runs, force)
    parts = [comparison.side_by_side(runs)]
    first, last = map(_samples_file, (files[0], files[-1]))
    if len(files) > 1 and first and last:
        names = list(runs)
        samples = {
            name: file for name, file in zip(names[1:], map(_samples_file, files[1:]), strict=True) if file
        }
        for name, deltas in _deltas(first, samples, runs, output_dir).items():
            parts += [comparison.delta_table(deltas, (names[0], name))]
            parts += ["\n".join(delta.sentence() for delta in deltas)]
    elif output_dir is not None:
        raise EvaluationError(f"--output-dir: a report needs {SAMPLES} of two runs beside their {METRICS}")
    return "\n\n".join([*parts, *notes])


def _metrics(file: Path) -> dict[str, Any]:
    """What metrics.json holds, or would hold for a file of predictions."""
    if file.suffix == ".jsonl":
        from .inputs import read_predictions
        from .scores import score

        return {"settings": None, **score(read_predictions(file))}
    metrics = read_json(file)
    if not isinstance(metrics, dict) or "groups" not in metrics:
        raise EvaluationError(f"{file}: no groups in it; expected a {METRICS} that this command wrote")
    return metrics


def checked_differences(runs: dict[str, dict[str, Any]], force: bool) -> list[str]:
    """Notes on what is not the same in forced comparisons; others are refused."""
    from .comparison import setting_differences

    differences = setting_differences(runs)
    if differences and not force:
        raise EvaluationError(
            f"--compare: {'; '.join(differences)}; expected the same in all, or use --force"
        )
    return [f"not comparable without care: {difference}" for difference in differences]


def read_samples(folder: Path, unit: str, case: str = "kept") -> list[ScoredPrediction]:
    """The samples of an evaluation's folder, or of a file of predictions, scored again."""
    from .inputs import read_predictions
    from .scored import score_predictions

    file = _samples_file(folder / METRICS if folder.is_dir() else folder)
    if file is None:
        raise EvaluationError(
            f"{folder}: neither {SAMPLES} nor {PREDICTIONS}; expected the folder of an evaluation"
        )
    return score_predictions(read_predictions(file), unit, case=case)


def deltas_beside(
    path: str | os.PathLike,
    scored: Sequence[ScoredPrediction],
    data: Sequence[DataFile] = (),
    unit: str = "word",
    case: str = "kept",
) -> list[MetricDelta]:
    """From another system's answers to these: what is better or worse on the rows that both have."""
    from .comparison import metric_deltas
    from .other_system import read_other
    from .scored import score_predictions

    others = read_other(path, [row.prediction for row in scored], data)
    return metric_deltas(score_predictions(others, unit, case=case), scored)


def write_report(
    output_dir: Path,
    config: EvaluationConfig,
    metrics: dict[str, Any],
    scored: Sequence[ScoredPrediction],
    before: Sequence[ScoredPrediction] | None,
    data: Sequence[DataFile],
) -> None:
    """The page of an evaluation; `before` has the samples that it is compared with."""
    from .report import page, pictures

    opened = pictures.Pictures(data, metrics["settings"], config.report.picture_side)
    write_text(output_dir / REPORT, page.report(metrics, scored, before, opened, config.report.pictures))


def _samples_file(file: Path) -> Path | None:
    """The samples beside a metrics.json; a file of predictions itself."""
    if file.suffix == ".jsonl":
        return file
    files = (file.with_name(name) for name in (SAMPLES, PREDICTIONS))
    return next((path for path in files if path.exists()), None)


def _deltas(
    first: Path,
    samples: Mapping[str, Path],
    runs: Mapping[str, dict[str, Any]],
    output_dir: str | os.PathLike | None,
) -> dict[str, list[MetricDelta]]:
    """What each of these runs does better or worse than the first; a report of the last if asked for."""
    from .comparison import adjusted_deltas, metric_deltas, setting_differences
    from .other_system import read_other
    from .schema import EvaluationConfig
    from .scored import score_predictions

    metrics = runs[list(runs)[-1]]
    unit, case = metrics["unit"], metrics.get("case", "kept")
    deltas: dict[str, list[MetricDelta]] = {}
    for name, file in samples.items():
        after = read_samples(file, unit, case)
        others = read_other(first, [row.prediction for row in after])
        before = score_predictions(others, unit, case=case)
        deltas[name] = metric_deltas(before, after)
    adjusted = iter(adjusted_deltas([delta for own in deltas.values() for delta in own]))
    deltas = {name: [next(adjusted) for _ in own] for name, own in deltas.items()}
    if output_dir is not None:
        rows = [delta.row() for delta in deltas[list(runs)[-1]]]
        notes = setting_differences(runs)
        metrics = {**metrics, "comparison": {"with": str(first.parent), "notes": notes, "skills": rows}}
        target = Path(output_dir)
        target.mkdir(parents=True, exist_ok=True)
        write_json(target / METRICS, metrics)
        write_lines(target / SAMPLES, (prediction.row() for prediction in after))
        write_report(target, EvaluationConfig(), metrics, after, before, ())
    return deltas


def _run_names(files: Sequence[Path]) -> list[str]:
    names = [file.absolute().parent.name if file.name == METRICS else system_name(file) for file in files]
    if len(set(names)) < len(names):
        names = [str(file) for file in files]
    if len(set(names)) < len(names):
        raise EvaluationError(f"--compare: {max(names, key=names.count)} is given twice; give each run once")
    return names
