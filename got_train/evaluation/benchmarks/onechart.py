"""OneChart's ChartQA-SE and PlotQA-SE: charts whose answer is a dictionary, scored by SCRM.

gt.json lists {"images": file, "gts": dictionary}, an answer file {"imagename": file, "answer": text}.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from got_train.data.record import Record
from got_train.errors import EvaluationError

VERSIONS = ("2025-02",)  # the date of the official code

if TYPE_CHECKING:
    from got_train.evaluation.predictions import DataFile


def open_records(path: str, image_root: str | None = None) -> tuple[list[Record], list[dict[str, Any]]]:
    """The charts, to be read with GOT's format prompt."""
    records, notes = [], []
    for place, row in enumerate(_rows(path, ("images", "gts"))):
        image = os.path.join(image_root or os.path.dirname(path), row["images"])
        label = row["gts"] if isinstance(row["gts"], str) else json.dumps(row["gts"], ensure_ascii=False)
        records.append(Record((image,), "format", label, location=f"{path}[{place}]"))
        notes.append({"id": row["images"], "groups": {"benchmark": "chart"}})
    if len({note["id"] for note in notes}) < len(notes):
        raise EvaluationError(f"{path}: an image twice; one row each")
    return records, notes


def read_answers(path: str, file: DataFile) -> list[str | None]:
    """The answers in the order of the charts; None for a chart without one."""
    found = {row["imagename"]: row["answer"] for row in _rows(path, ("imagename", "answer"))}
    names = [note["id"] for note in file.notes]
    if strange := sorted({*found} - {*names}):
        raise EvaluationError(f"{path}: an answer to {strange[0]}, which {file.path} has not")
    texts = [found.get(name) for name in names]
    return [json.dumps(text, ensure_ascii=False) if isinstance(text, dict) else text for text in texts]


def _rows(path: str, keys: tuple[str, str]) -> list[dict[str, Any]]:
    try:
        rows = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise EvaluationError(
            f"{path}: not JSON: {error}; a list of objects with {' and '.join(keys)}"
        ) from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) and {*keys} <= {*row} for row in rows):
        raise EvaluationError(f"{path}: no list of objects with {' and '.join(keys)}")
    return rows
