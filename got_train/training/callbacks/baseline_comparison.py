"""What a run has changed: the base before it and its result read the same rows, and a table says the rest.

Knows evaluation's files and comparison; what is read and how stands in measuring.py.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from got_train.errors import EvaluationError
from got_train.evaluation.comparison import WORSE, MetricDelta, delta_table, metric_deltas
from got_train.evaluation.inputs import read_predictions
from got_train.evaluation.predictions import DataFile, Prediction
from got_train.evaluation.provenance import (
    METRICS,
    PREDICTIONS,
    SAMPLES,
    SETTINGS,
    assert_same_settings,
    run_settings,
    write_json,
    write_lines,
)
from got_train.evaluation.scores import summary
from got_train.training.generation_eval import VALIDATION, EvalRecords, EvalResult, GenerationEval
from got_train.training.run_files import AFTER, BEFORE, SKILLS, SKILLS_FILE, UNFINISHED

if TYPE_CHECKING:
    from got_train.training.trainer import GotTrainer

WATCHED = "edit_distance"  # every kind has it


def eval_baseline(trainer: GotTrainer) -> None:
    """The base reads, where the run is to tell what it has changed; to be called before the run loads a
    checkpoint."""
    measuring = _generation_eval(trainer)
    if measuring is not None:
        base = Path(trainer.config.model.init_from)
        trainer.validation.base = read = _read(measuring, _folder(trainer, BEFORE), base, 0)
        if trainer.is_world_process_zero():
            print(read.line(), file=sys.stderr, flush=True)


def eval_final(trainer: GotTrainer, model_folder: Path) -> None:
    """The result, which stands in this folder, reads the same; writes and prints the skill table."""
    measuring = _generation_eval(trainer)
    if measuring is None:
        return
    before, last, step = trainer.validation.base, trainer.validation.last, trainer.state.global_step
    known = [each.prediction for each in last.samples] if last is not None and last.step == step else []
    after = _read(measuring, _folder(trainer, AFTER), model_folder, step, known)
    if trainer.is_world_process_zero():
        found = compare(before, after, measuring.rows)
        table = delta_table(found)
        values = {
            "before": {"folder": trainer.config.model.init_from, "step": 0},
            "after": {"folder": model_folder.name, "step": step},
            "rows": {file.name: len(file.records) for file in measuring.rows.files},
            "skills": [skill.row() for skill in found],
            "table": table,
        }
        write_json(Path(trainer.args.output_dir) / SKILLS_FILE, values)
        print(f"{table}\n", file=sys.stderr, flush=True)


def compare(before: EvalResult, after: EvalResult, rows: EvalRecords) -> list[MetricDelta]:
    """Skills of the validation rows and of each probe, named by it; p is adjusted within each of them."""
    found = []
    for name, files in _sets(rows).items():
        of_set = metric_deltas(before.of_files(files), after.of_files(files))
        found += [replace(skill, task=f"{skill.task} in {name}") for skill in of_set]
    return found


def regressions(before: EvalResult, now: EvalResult, rows: EvalRecords) -> list[MetricDelta]:
    """Of each probe that reads worse than the base for certain, the change of its edit distance.

    Certain: the 95 % interval of the paired difference lies above 0, and so says the sign-flip test.
    """
    found = []
    for file in rows.probes:
        skill = metric_deltas(
            before.of_files([file]), now.of_files([file]), [WATCHED], with_task_metrics=False
        )[-1]
        if skill.verdict == WORSE and skill.difference.low > 0:
            found.append(replace(skill, task=f"{skill.task} in {file.name}"))
    return found


def _sets(rows: EvalRecords) -> dict[str, Sequence[DataFile]]:
    validation = {VALIDATION: rows.validation} if rows.validation else {}
    return {**validation, **{file.name: [file] for file in rows.probes}}


def _generation_eval(trainer: GotTrainer) -> GenerationEval | None:
    """What reads, in a run that starts from a whole model and is to be compared with it."""
    config = trainer.config
    wanted = config.eval.baseline and config.model.init_from and trainer.validation is not None
    return trainer.validation.measuring if wanted else None


def _folder(trainer: GotTrainer, name: str) -> Path:
    return Path(trainer.args.output_dir) / SKILLS / name


def _read(
    measuring: GenerationEval, folder: Path, model: Path, step: int, known: Sequence[Prediction] = ()
) -> EvalResult:
    """All rows as a model reads them, kept as an evaluation keeps them; what is there is not repeated."""
    first = measuring.rank == 0
    found = measuring.from_first(lambda: list(known) or _kept(measuring, folder, model))
    if first and known:
        _begin(measuring, folder, model)
    for batch in measuring.read(known=found):
        found = [*found, *batch]
        if first:
            write_lines(folder / PREDICTIONS, (each.row() for each in found))
    measurement = measuring.scored(step, found)
    if first:
        settings = _settings(measuring, model)
        write_lines(folder / PREDICTIONS, (each.row() for each in found))
        write_json(folder / METRICS, {"settings": settings, **summary(measurement.samples, found)})
        write_lines(folder / SAMPLES, (each.row() for each in measurement.samples))
    return measurement


def _kept(measuring: GenerationEval, folder: Path, model: Path) -> list[Prediction]:
    """What an earlier session has read with the same model, rows and decoding; anything else goes."""
    settings = _settings(measuring, model)
    try:
        assert_same_settings(folder, settings)
        if (folder / PREDICTIONS).exists():
            return read_predictions(folder / PREDICTIONS)
    except EvaluationError:
        shutil.rmtree(folder)
    _begin(measuring, folder, model)
    return []


def _begin(measuring: GenerationEval, folder: Path, model: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / SETTINGS, _settings(measuring, model))


def _settings(measuring: GenerationEval, model: Path) -> dict[str, Any]:
    """As evaluation writes them, so that it can compare these files; a final model under its name to come."""
    files, batch = measuring.rows.files, measuring.settings.batch_size
    settings = run_settings(model, measuring.reader, files, None, batch_size=batch)
    if model.parent.name == UNFINISHED:
        settings["model"]["folder"] = str(model.parent.parent / model.name)
    return settings
