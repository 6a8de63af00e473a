"""What a run has changed in what the model reads, and what reads worse than the base for certain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from got_train.evaluation.comparison import WORSE, MetricDelta, metric_deltas
from got_train.evaluation.predictions import DataFile

from .generation_eval import VALIDATION, EvalRecords, EvalResult

WATCHED = "edit_distance"  # every kind has it


def compare(before: EvalResult, after: EvalResult, rows: EvalRecords) -> list[MetricDelta]:
    """Skills of the validation rows and of each probe, named by it; p is adjusted within each of them."""
    deltas = []
    for name, files in _sets(rows).items():
        of_set = metric_deltas(before.of_files(files), after.of_files(files))
        deltas += [replace(skill, task=f"{skill.task} in {name}") for skill in of_set]
    return deltas


def regressions(before: EvalResult, now: EvalResult, rows: EvalRecords) -> list[MetricDelta]:
    """Of each probe that reads worse than the base for certain, the change of its edit distance.

    Certain: the 95 % interval of the paired difference lies above 0, and so says the sign-flip test.
    """
    result = []
    for file in rows.probes:
        skill = metric_deltas(
            before.of_files([file]), now.of_files([file]), [WATCHED], with_task_metrics=False
        )[-1]
        if skill.verdict == WORSE and skill.difference.low > 0:
            result.append(replace(skill, task=f"{skill.task} in {file.name}"))
    return result


def _sets(rows: EvalRecords) -> dict[str, Sequence[DataFile]]:
    validation = {VALIDATION: rows.validation} if rows.validation else {}
    return {**validation, **{file.name: [file] for file in rows.probes}}
