"""Predictions: what a model answered to records, written as the answers come and read back later.

Knows records, the reader and files; knows no metric.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

if TYPE_CHECKING:
    from got_train.data.records import Record
    from got_train.reading import Reader

UNTOLD = "text"  # the task of predictions that name none
Key = tuple[str | None, int | None]


class PredictionError(ValueError):
    """A file that holds no predictions, or those of something else."""


@dataclass(frozen=True)
class Prediction:
    """A record's reference with what was read; the last two tell why nothing was."""

    reference: str
    prediction: str = ""
    task: str = UNTOLD
    box: tuple[float, ...] | None = None
    color: str | None = None
    images: tuple[str, ...] = ()
    where: str = ""
    data: str | None = None  # the name of its data file, and the record's place in it from 0
    record: int | None = None
    finished: str | None = None  # "stop", "length" or "loop", see reading.Answer
    tokens: int | None = None
    seconds: float | None = None
    failed: str | None = None
    not_asked: str | None = None

    @property
    def key(self) -> Key:
        return self.data, self.record

    def row(self) -> dict[str, Any]:
        """As a line of predictions.jsonl."""
        return {key: value for key, value in asdict(self).items() if value not in (None, ())}


@dataclass(frozen=True)
class DataFile:
    """Records to be asked, under a name that tells them from those of the other files."""

    name: str
    path: str
    records: Sequence[Record]
    sha256: str  # of the records, images by their names

    def prediction(self, place: int, **found: Any) -> Prediction:
        record = self.records[place]
        return Prediction(
            record.text,
            task=record.task,
            box=record.box,
            color=record.color,
            images=record.images,
            where=record.where,
            data=self.name,
            record=place,
            **found,
        )


def open_data(paths: Sequence[str | os.PathLike]) -> list[DataFile]:
    """The records of each file or folder; all are read once, so that a bad line stops here."""
    from got_train.data.records import read_records

    paths = [os.fspath(path) for path in paths]
    data = []
    for name, path in zip(_names(paths), paths, strict=True):
        records = read_records(path, allow_empty=True)
        data.append(DataFile(name, path, records, _records_hash(records, Path(path).parent)))
    return data


def predict(
    reader: Reader,
    data: Sequence[DataFile],
    path: Path,
    limit: int | None = None,
    batch_size: int = 32,
) -> list[Prediction]:
    """Predictions of the first `limit` records of each file, in their order.

    What `path` holds already is not asked again, but for what failed; answers are appended to it at once.
    """
    done = {prediction.key: prediction for prediction in _kept(path)}
    wanted = [(file, place) for file in data for place in range(len(file.records))[:limit]]
    left = [(file, place) for file, place in wanted if (file.name, place) not in done]
    counter = tqdm(
        total=len(wanted), initial=len(wanted) - len(left), unit="row", disable=None
    )  # on a terminal
    with open(path, "a", encoding="utf-8", newline="\n") as file, counter:
        for prediction in _answers(reader, left, batch_size):
            file.write(_line(prediction))
            file.flush()
            done[prediction.key] = prediction
            counter.update()
    return [done[file.name, place] for file, place in wanted]


def read_predictions(path: str | os.PathLike) -> list[Prediction]:
    """Predictions of a JSONL file or a JSON list, with keys prediction and reference, or answer and label.

    The latter are GOT's. task, box, color, finished and whatever else a line of ours holds may be there.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise PredictionError(f"{path}: {error}; a UTF-8 file of predictions") from error
    found = [_prediction(row, where) for row, where in _rows(text, str(path))]
    if not found:
        raise PredictionError(f"{path}: holds no predictions; at least one")
    return found


def _answers(reader: Reader, left: Sequence[tuple[DataFile, int]], batch_size: int) -> Iterator[Prediction]:
    from got_train.reading import Failure, Question

    asked = []
    for file, place in left:
        if reason := _cannot_ask(file.records[place], reader.dialect):
            yield file.prediction(place, not_asked=reason)
        else:
            asked.append((file, place))
    questions = (Question.of_record(file.records[place]) for file, place in asked)
    for (file, place), answer in zip(asked, reader.read(questions, batch_size), strict=True):
        if isinstance(answer, Failure):
            yield file.prediction(place, failed=answer.cause)
            continue
        yield file.prediction(
            place,
            prediction=answer.text,
            finished=answer.finished,
            tokens=len(answer.ids),
            seconds=round(answer.seconds, 4),
        )


def _cannot_ask(record: Record, dialect: str) -> str | None:
    if dialect == "stage1" and (record.task != "ocr" or record.box or record.color):
        return "the stage1 dialect has ocr of whole pages only"
    return None


def _kept(path: Path) -> list[Prediction]:
    """What a file holds, and from now on all that it holds: complete lines that did not fail."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8", errors="replace")
    whole, _, torn = text.rpartition("\n")  # a killed run may have begun a line
    found = [_prediction(row, where) for row, where in _rows(whole, str(path))]
    kept = [prediction for prediction in found if not prediction.failed]
    if torn or len(kept) < len(found):
        unfinished = path.with_name(path.name + ".tmp")
        unfinished.write_text("".join(map(_line, kept)), encoding="utf-8", newline="\n")
        os.replace(unfinished, path)
    return kept


def _line(prediction: Prediction) -> str:
    return json.dumps(prediction.row(), ensure_ascii=False) + "\n"


def _rows(text: str, path: str) -> Iterator[tuple[object, str]]:
    """The values of a JSON list, or of JSON lines, each with its place."""
    if text.lstrip().startswith("["):
        try:
            yield from ((row, f"{path}[{place}]") for place, row in enumerate(json.loads(text)))
        except json.JSONDecodeError as error:
            raise PredictionError(
                f"{path}: not JSON: {error}; a list of objects, or one object a line"
            ) from error
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield json.loads(line), f"{path}:{number}"
            except json.JSONDecodeError as error:
                raise PredictionError(f"{path}:{number}: not JSON: {error}; one object a line") from error


def _prediction(row: object, where: str) -> Prediction:
    if not isinstance(row, dict):
        raise PredictionError(f"{where}: {str(row)[:60]!r}; an object with prediction and reference")
    reference = row.get("reference", row.get("label"))
    prediction = row.get("prediction", row.get("answer"))
    for name, value in (("reference or label", reference), ("prediction or answer", prediction)):
        if not isinstance(value, str):
            raise PredictionError(f"{where}: {name} is {str(value)[:60]!r}; a text")
    known = {key: row[key] for key in Prediction.__dataclass_fields__ if key in row}
    known |= {key: tuple(known[key]) for key in ("box", "images") if isinstance(known.get(key), list)}
    return Prediction(**{"where": where, **known, "reference": reference, "prediction": prediction})


def _names(paths: Sequence[str]) -> Sequence[str]:
    """File names without suffix if these differ, else the folders' names, else the paths."""
    whole = [Path(os.path.abspath(path)) for path in paths]
    for names in ([path.stem for path in whole], [path.parent.name for path in whole]):
        if len(set(names)) == len(names):
            return names
    if len(set(paths)) < len(paths):
        raise PredictionError(f"data: {max(paths, key=paths.count)} is given twice; each file once")
    return paths


def _records_hash(records: Sequence[Record], folder: Path) -> str:
    digest = hashlib.sha256()
    for place in range(len(records)):
        record = records[place]
        images = [os.path.relpath(image, folder) for image in record.images]
        said = [images, record.task, record.text, record.box, record.color, record.box_unit]
        digest.update(json.dumps(said).encode() + b"\n")
    return digest.hexdigest()
