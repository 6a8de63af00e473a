"""OneChart's ChartQA-SE and PlotQA-SE: charts whose answer is a dictionary, scored by SCRM.

gt.json lists {"images": file, "gts": dictionary}, an answer file {"imagename": file, "answer": text}.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from got_train.data.record import Record
from got_train.errors import EvaluationError
from got_train.evaluation.metrics import charts

from .files import read_rows

VERSIONS = ("2025-02",)  # the date of the official code

if TYPE_CHECKING:
    from got_train.evaluation.predictions import DataFile, Prediction


def open_records(
    path: str, image_root: str | None = None, **_: Any
) -> tuple[list[Record], list[dict[str, Any]]]:
    """The charts, to be read with GOT's format prompt."""
    records, notes = [], []
    for index, row in enumerate(read_rows(path, ("images", "gts"), "a file such as gt.json")):
        image = os.path.join(image_root or os.path.dirname(path), row["images"])
        label = row["gts"] if isinstance(row["gts"], str) else json.dumps(row["gts"], ensure_ascii=False)
        records.append(Record((image,), "format", label, location=f"{path}[{index}]"))
        notes.append({"id": row["images"], "groups": {"benchmark": "chart"}})
    if len({note["id"] for note in notes}) < len(notes):
        raise EvaluationError(f"{path}: an image twice; expected one row each")
    return records, notes


def read_answers(path: str, file: DataFile) -> list[str | None]:
    """The answers in the order of the charts; None for a chart without one."""
    answers = {
        row["imagename"]: row["answer"]
        for row in read_rows(path, ("imagename", "answer"), "OneChart's answers")
    }
    names = [note["id"] for note in file.notes]
    if strange := sorted({*answers} - {*names}):
        raise EvaluationError(f"{path}: an answer to {strange[0]}, which {file.path} has not")
    texts = [answers.get(name) for name in names]
    return [json.dumps(text, ensure_ascii=False) if isinstance(text, dict) else text for text in texts]


TAKES = ()  # further arguments of `scores`
METRICS = ("ap_strict", "ap_slight", "ap_high", "em")


def scores(file: DataFile, predictions: Sequence[Prediction], output_dir: Path | None) -> dict[str, Any]:
    """SCRM over all charts, where one that does not parse counts 0, and over those that parse alone.

    The official means are over those that parse; its closing line is these times the share that parses.
    """
    values = [charts.score(prediction.prediction, prediction.reference) for prediction in predictions]
    parsed = [value for value in values if value["parses"]]
    means = {"with_unparsable": charts.averages(values), "without_unparsable": charts.averages(parsed)}
    share = len(parsed) / len(values) if values else None
    summary: dict[str, Any] = {
        "charts": len(values),
        "unparsable": len(values) - len(parsed),
        "parsed": share,
    }
    for name in METRICS:
        summary |= {f"{name} {kind}": mean_by_name.get(name) for kind, mean_by_name in means.items()}
    unparsable = [
        prediction.id for prediction, value in zip(predictions, values, strict=True) if not value["parses"]
    ]
    note = "published tables have the means without charts that do not parse, times the share that parses"
    return {"summary": summary, **means, "unparsable": unparsable, "note": note}
