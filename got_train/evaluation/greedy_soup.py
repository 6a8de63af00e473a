"""Which runs a soup is made of: those that do not make it worse on held-out records, the best run first.

The greedy recipe of Wortsman et al. (2022). The records decide, so report the result on others.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence

from got_train.checkpoint.soup import blend
from got_train.errors import EvaluationError
from got_train.inference.reader import OcrPipeline
from got_train.modeling.cpu.accelerate import accelerate_if_tuned
from got_train.tokenizer import load_tokenizer

from .inputs import open_data
from .predictions import DataFile, read_rows
from .scored import lower_is_better, metric_error, score_predictions

Folder = str | os.PathLike
Score = Callable[[Sequence[Folder]], float]


def choose_greedily(folders: Sequence[Folder], score: Score, lower: bool) -> list[Folder]:
    """The runs whose mean `score` finds best; prints every try. A run stays when the mean is not worse."""
    sign = -1 if lower else 1
    alone = [score([folder]) for folder in folders]
    for folder, value in zip(folders, alone, strict=True):
        print(f"{folder}: {value:.4f}", flush=True)
    order = sorted(range(len(folders)), key=lambda candidate: -sign * alone[candidate])
    chosen, best = [folders[order[0]]], alone[order[0]]
    for candidate in order[1:]:
        value = score([*chosen, folders[candidate]])
        stays = sign * value >= sign * best
        print(
            f"with {folders[candidate]}: {value:.4f}, before {best:.4f}; {'kept' if stays else 'left out'}",
            flush=True,
        )
        if stays:
            chosen, best = [*chosen, folders[candidate]], value
    return chosen


def scorer(
    data: Folder, metric: str, max_new_tokens: int, batch_size: int, limit: int | None = None
) -> Score:
    """The mean of a metric over the records of a file, read by the mean of some runs."""
    if fault := metric_error(metric):
        raise EvaluationError(f"--metric: {fault}")
    file = open_data([data])[0]
    return lambda folders: _score(folders, file, metric, max_new_tokens, batch_size, limit)


def _score(
    folders: Sequence[Folder], file: DataFile, metric: str, tokens: int, batch_size: int, limit: int | None
) -> float:
    model, _ = blend(folders)
    accelerate_if_tuned(model)
    reader = OcrPipeline(model, load_tokenizer(folders[0]), max_new_tokens=tokens)
    rows = [(file, index) for index in range(len(file.records))[:limit]]
    scored = score_predictions(list(read_rows(reader, rows, batch_size)))
    values = [value for prediction in scored if (value := prediction.value(metric)) is not None]
    if not values:
        raise EvaluationError(
            f"--metric {metric}: no row of {file.path} has it; use edit_distance, or other rows"
        )
    return math.fsum(values) / len(values)


def pick(
    folders: Sequence[Folder],
    data: Folder,
    metric: str,
    max_new_tokens: int,
    batch_size: int,
    limit: int | None = None,
) -> list[Folder]:
    """The greedy choice among runs by a metric on held-out records."""
    score = scorer(data, metric, max_new_tokens, batch_size, limit)
    return choose_greedily(folders, score, lower_is_better(metric))
