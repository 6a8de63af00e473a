"""A draft: what one or several readers read of a record, for a person to accept or to correct.

In a file it is a prediction as got evaluate reads it, with the answer of every reader beside. Knows records
and files; no model and no web.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

from got_train.atomic_write import write_atomic
from got_train.data.formats import RowReader
from got_train.data.record import Record, RecordError
from got_train.data.records import as_row
from got_train.evaluation.metrics.text import edit_distance
from got_train.strict_files import strict_json

_KEY_DIGITS = 16
# the keys of a record that a row has as they are
_ASKED = ("images", "task", "box", "color", "box_unit", "document")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one reader read; `text` is None if it read nothing, and `failed` says why."""

    by: str  # the reader, as --by named it
    text: str | None = None
    checkpoint: str | None = None  # hash of a model's folder
    confidence: float | None = None  # the share of its words that are right, as the model expects
    finished: str | None = None  # stop, length, loop or retried
    failed: str | None = None


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What was asked, without a text, and its answers in the order of the readers."""

    key: str  # the same for the same picture and question, wherever the files lie
    record: Record
    answers: tuple[Answer, ...]
    reference: str | None = None  # the right text, where the data has one
    scores: Mapping[str, float | None] = field(default_factory=dict)  # by which got queue has ordered it

    @property
    def answer(self) -> Answer:
        """The one to be corrected: that of the first reader who read anything."""
        return next((answer for answer in self.answers if answer.text is not None), self.answers[0])

    @property
    def text(self) -> str:
        return self.answer.text or ""

    @property
    def agreement(self) -> float | None:
        """1 - edit distance, the mean over all pairs of readers, white space counted as one blank each."""
        texts = [" ".join(answer.text.split()) for answer in self.answers if answer.text is not None]
        if len(texts) < 2:
            return None
        return fmean(1 - edit_distance(one, two) for one, two in combinations(texts, 2))

    def row(self, folder: Path) -> dict[str, Any]:
        """As a line of a file in that folder."""
        asked = as_row(self.record, folder)
        answer = self.answer
        row = {
            "id": self.key,
            **{name: asked[name] for name in _ASKED if name in asked},
            "reference": self.reference,
            "prediction": self.text,
            "finished": answer.finished,
            "confidence": answer.confidence,
            "agreement": None if self.agreement is None else round(self.agreement, 4),
            "failed": answer.failed if answer.text is None else None,
            "answers": [_without_none(asdict(answer)) for answer in self.answers],
            "queue": dict(self.scores) or None,
        }
        return _without_none(row)


def _without_none(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None}


def key_of(record: Record) -> str:
    """A hash of what is asked: the pictures' bytes, task and region."""
    asked = [record.task, record.box, record.box_unit, record.color]
    digest = hashlib.sha256(json.dumps(asked).encode())
    for image in record.images:
        data = Path(image).read_bytes() if isinstance(image, str) else image.data
        digest.update(hashlib.sha256(data).digest())
    return digest.hexdigest()[:_KEY_DIGITS]


def write_drafts(path: str | os.PathLike, drafts: Iterable[Draft]) -> None:
    folder = Path(path).parent
    write_atomic(path, "".join(as_line(draft, folder) for draft in drafts))


def as_line(draft: Draft, folder: Path) -> str:
    return json.dumps(draft.row(folder), ensure_ascii=False) + "\n"


def read_drafts(path: str | os.PathLike) -> list[Draft]:
    """The drafts of a file of got prelabel or got queue."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RecordError(f"{path}: {error}; expected a file that got prelabel wrote") from error
    drafts = parse_drafts(text, path)
    if not drafts:
        raise RecordError(f"{path}: holds no drafts; expected at least one line of got prelabel")
    return drafts


def parse_drafts(text: str, path: str | os.PathLike) -> list[Draft]:
    root = os.path.dirname(path)
    lines = ((number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip())
    drafts = [_parse(line, f"{path}:{number}", root) for number, line in lines]
    keys: set[str] = set()
    for draft in drafts:
        if draft.key in keys:
            raise RecordError(f"{draft.record.location}: id {draft.key} stands twice; keep one of the rows")
        keys.add(draft.key)
    return drafts


def _parse(line: str, location: str, root: str) -> Draft:
    try:
        row = strict_json(line)
    except ValueError as error:
        raise RecordError(f"{location}: not JSON: {error}; expected a row that got prelabel wrote") from error
    answers = row.get("answers") if isinstance(row, dict) else None
    if not isinstance(answers, list) or not answers or not isinstance(row.get("id"), str):
        raise RecordError(f"{location}: no id and answers; expected a row that got prelabel wrote")
    asked = {name: row[name] for name in _ASKED if name in row} | {"text": ""}
    return Draft(
        key=row["id"],
        record=RowReader(root=root, allow_empty=True).record(asked, location),
        answers=tuple(_answer(answer, location) for answer in answers),
        reference=row.get("reference"),
        scores=row.get("queue") or {},
    )


def _answer(row: object, location: str) -> Answer:
    try:
        answer = Answer(**row)
    except TypeError as error:
        raise RecordError(
            f"{location}: an answer is {str(row)[:60]}; expected one that got prelabel wrote"
        ) from error
    texts = isinstance(answer.by, str) and isinstance(answer.text, str | None)
    if not texts or not isinstance(answer.confidence, int | float | None):
        raise RecordError(f"{location}: an answer is {str(row)[:60]}; expected text and a number")
    return answer


def readers_of(drafts: Sequence[Draft]) -> list[tuple[str, str | None]]:
    """The names and checkpoints of those who read."""
    return list(dict.fromkeys((answer.by, answer.checkpoint) for draft in drafts for answer in draft.answers))
