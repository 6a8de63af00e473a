"""What a run has changed: the base before it and its result read the same rows, and a table says the rest.

Knows evaluation's files and comparison; what is read and how stands in generation_eval.py.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from got_train.errors import EvaluationError
from got_train.evaluation.comparison import delta_table
from got_train.evaluation.inputs import read_predictions
from got_train.evaluation.predictions import Prediction
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
from got_train.training.generation_eval import EvalResult, GenerationEval
from got_train.training.regressions import compare
from got_train.training.run_files import AFTER, BEFORE, SKILLS, SKILLS_FILE, UNFINISHED
from got_train.training.trackers import Trackers
from got_train.training.trainer import GotTrainer

from .validation import Validation


def eval_baseline(trainer: GotTrainer) -> None:
    """The base reads, where the run is to tell what it has changed; to be called before the run loads a
    checkpoint."""
    validation = _compared(trainer)
    if validation is not None:
        base = Path(trainer.config.model.init_from)
        result = _evaluate(validation.generation_eval, _folder(trainer, BEFORE), base, 0)
        validation.baseline = result
        if trainer.is_world_process_zero():
            print(result.line(), file=sys.stderr, flush=True)


def eval_final(trainer: GotTrainer, model_folder: Path) -> None:
    """The result, which stands in this folder, reads the same; writes and prints the table of changes."""
    validation = _compared(trainer)
    if validation is None:
        return
    generation_eval, last, step = validation.generation_eval, validation.last, trainer.state.global_step
    known = [sample.prediction for sample in last.samples] if last is not None and last.step == step else []
    after = _evaluate(generation_eval, _folder(trainer, AFTER), model_folder, step, known)
    if trainer.is_world_process_zero():
        deltas = compare(validation.baseline, after, generation_eval.records)
        table = delta_table(deltas)
        values = {
            "before": {"folder": trainer.config.model.init_from, "step": 0},
            "after": {"folder": model_folder.name, "step": step},
            "rows": {file.name: len(file.records) for file in generation_eval.records.files},
            "skills": [delta.row() for delta in deltas],
            "table": table,
        }
        write_json(Path(trainer.args.output_dir) / SKILLS_FILE, values)
        print(f"{table}\n", file=sys.stderr, flush=True)
        if trackers := trainer.callback(Trackers):
            trackers.add_text("changes", table, step)


def _compared(trainer: GotTrainer) -> Validation | None:
    """The validation of a run that starts from a whole model and is to be compared with it."""
    config = trainer.config
    return trainer.callback(Validation) if config.eval.baseline and config.model.init_from else None


def _folder(trainer: GotTrainer, name: str) -> Path:
    return Path(trainer.args.output_dir) / SKILLS / name


def _evaluate(
    generation_eval: GenerationEval, folder: Path, model: Path, step: int, known: Sequence[Prediction] = ()
) -> EvalResult:
    """All rows as a model reads them, kept as an evaluation keeps them; what is there is not repeated."""
    first = generation_eval.rank == 0
    samples = generation_eval.from_first(lambda: list(known) or _kept(generation_eval, folder, model))
    if first and known:
        _begin(generation_eval, folder, model)
    for batch in generation_eval.read(known=samples):
        samples = [*samples, *batch]
        if first:
            write_lines(folder / PREDICTIONS, (sample.row() for sample in samples))
    measurement = generation_eval.scored(step, samples)
    if first:
        settings = _settings(generation_eval, model)
        write_lines(folder / PREDICTIONS, (sample.row() for sample in samples))
        write_json(folder / METRICS, {"settings": settings, **summary(measurement.samples, samples)})
        write_lines(folder / SAMPLES, (sample.row() for sample in measurement.samples))
    return measurement


def _kept(generation_eval: GenerationEval, folder: Path, model: Path) -> list[Prediction]:
    """What an earlier session has read with the same model, rows and decoding; anything else goes."""
    settings = _settings(generation_eval, model)
    try:
        assert_same_settings(folder, settings)
        if (folder / PREDICTIONS).exists():
            return read_predictions(folder / PREDICTIONS)
    except EvaluationError:
        shutil.rmtree(folder)
    _begin(generation_eval, folder, model)
    return []


def _begin(generation_eval: GenerationEval, folder: Path, model: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / SETTINGS, _settings(generation_eval, model))


def _settings(generation_eval: GenerationEval, model: Path) -> dict[str, Any]:
    """As evaluation writes them, so that it can compare these files; a final model under its name to come."""
    files, batch = generation_eval.records.files, generation_eval.settings.batch_size
    settings = run_settings(model, generation_eval.reader, files, None, batch_size=batch)
    if model.parent.name == UNFINISHED:
        settings["model"]["folder"] = str(model.parent.parent / model.name)
    return settings
