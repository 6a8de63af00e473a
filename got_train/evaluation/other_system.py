"""Another system's predictions of the same rows, put under the names of ours, so that they can be compared.

Knows predictions and where they lie; knows no metric.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from got_train.errors import EvaluationError
from got_train.formats.plain_text import canonical_text

from .inputs import read_predictions
from .predictions import DataFile, Prediction
from .provenance import PREDICTIONS, SAMPLES


def system_name(path: str | os.PathLike) -> str:
    """What a system is called in tables: its folder, or its file without suffix."""
    path = Path(os.path.abspath(path))
    return path.parent.name if path.name in (SAMPLES, PREDICTIONS) else path.stem


def read_other(
    path: str | os.PathLike, ours: Sequence[Prediction], data: Sequence[DataFile] = ()
) -> list[Prediction]:
    """The predictions of a file, of an evaluation's folder, or of a folder with a text for each image.

    Rows belong together by their names, by the names of their images, or in their order if all references
    are the same. Rows of which only one system has an answer are left out.
    """
    if not os.path.isdir(path):
        return _under_our_names(read_predictions(path), ours, path)
    for name in (SAMPLES, PREDICTIONS):
        if (Path(path) / name).exists():
            return _under_our_names(read_predictions(Path(path) / name), ours, path)
    if data:
        from .benchmarks import answers

        return answers(os.fspath(path), data)
    return _texts(Path(path), ours)


def _under_our_names(
    others: Sequence[Prediction], ours: Sequence[Prediction], path: str | os.PathLike
) -> list[Prediction]:
    keys: tuple[Callable[[Prediction], Any], ...] = (lambda row: row.name, _image_name)
    for key in keys:
        known = {key(row): row for row in ours}
        if len(known) == len(ours) and len({key(row) for row in others}) == len(others):
            pairs = [(known[key(row)], row) for row in others if key(row) in known]
            if pairs:
                return [_answered(*pair) for pair in pairs]
    theirs, expected = ([canonical_text(row.reference) for row in rows] for rows in (others, ours))
    if theirs == expected:
        return [_answered(*pair) for pair in zip(ours, others, strict=True)]
    raise EvaluationError(
        f"{path}: no row in common with ours; expected the same id, the same image, or the same references "
        "in the same order"
    )


def _texts(folder: Path, ours: Sequence[Prediction]) -> list[Prediction]:
    rows = []
    for row in ours:
        files = [folder / f"{_image_name(row)}{suffix}" for suffix in (".txt", ".md")]
        file = next((file for file in files if file.is_file()), None)
        if file is not None:
            text = file.read_text(encoding="utf-8-sig")
            rows.append(_answered(row, Prediction(row.reference, text)))
    if not rows:
        raise EvaluationError(
            f"{folder}: no answer to any row; expected files named as the images, as page.txt"
        )
    return rows


def _answered(ours: Prediction, other: Prediction) -> Prediction:
    """Our row with the other system's answer; its reference stays, so that another one is noticed."""
    return replace(
        ours,
        reference=other.reference,
        prediction=other.prediction,
        finished=other.finished,
        failed=other.failed,
        not_asked=other.not_asked,
        tokens=other.tokens,
        seconds=other.seconds,
    )


def _image_name(row: Prediction) -> str:
    return Path(row.images[0]).stem if row.images else row.name
