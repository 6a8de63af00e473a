"""Predictions: what a model answered to records, written as the answers come and read back later.

Knows records, the reader and files; knows no metric.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from got_train import prompts
from got_train.atomic_write import write_atomic
from got_train.errors import EvaluationError, PromptError
from got_train.strict_files import strict_json

if TYPE_CHECKING:
    from got_train.data.records import Record
    from got_train.inference.reader import OcrPipeline

DEFAULT_TASK = "text"  # the task of predictions that name none
Key = tuple[str | None, int | None]
# what a file of predictions may call them, ours first, then GOT's and Fox's, ms-swift's
_NAMES = {"reference": ("reference", "label", "labels"), "prediction": ("prediction", "answer", "response")}


@dataclass(frozen=True)
class Prediction:
    """A record's reference with what was read; `failed` and `not_asked` tell why nothing was."""

    reference: str
    prediction: str = ""
    task: str = DEFAULT_TASK
    box: tuple[float, ...] | None = None
    box_unit: str | None = None  # thousandth; else pixel
    color: str | None = None
    images: tuple[str, ...] = ()  # paths; of pictures inside a data file their names
    location: str = ""
    data: str | None = None  # the name of its data file, and the record's place in it from 0
    record: int | None = None
    finished: str | None = None  # "stop", "length" or "loop", see reader.OcrResult
    tokens: int | None = None
    seconds: float | None = None
    failed: str | None = None
    not_asked: str | None = None
    id: str | None = None  # of its own, such as another system's; else its place in the data
    document: str | None = None  # rows of one document are no independent samples; else its first page
    groups: Mapping[str, str] = field(default_factory=dict)  # such as language or layout, for tables by group
    benchmark: str | None = None  # that has scores of its own for this row

    @property
    def key(self) -> Key:
        return self.data, self.record

    @property
    def name(self) -> str:
        """What tells this row from all others of its file, and is the same for every system."""
        if self.id is not None:
            return self.id
        return self.location if self.record is None else f"{self.data or 'data'}:{self.record}"

    @property
    def cluster(self) -> str:
        """Rows that share this were read off the same document, as far as is known."""
        return self.document or self.picture or self.name

    @property
    def picture(self) -> str:
        """The path of the first picture; empty if it has none, as bytes in a row of a table."""
        return "" if not self.images or self.images[0].startswith("images[") else self.images[0]

    def row(self) -> dict[str, Any]:
        """As a line of predictions.jsonl."""
        return {key: value for key, value in asdict(self).items() if value not in (None, (), {})}


@dataclass(frozen=True)
class DataFile:
    """Records to be asked, under a name that tells them from those of the other files."""

    name: str
    path: str
    records: Sequence[Record]
    sha256: str  # of the records, images by their names
    source: Mapping[str, Any] = field(default_factory=dict)  # how it was read, beside its path
    notes: Sequence[Mapping[str, Any]] = ()  # of each record, further fields of its predictions

    def prediction(self, index: int, **fields: Any) -> Prediction:
        """What became of a record. A note on it wins, such as why it cannot be asked."""
        return self.answered(index, **{**fields, **self.note(index)})

    def answered(self, index: int, **fields: Any) -> Prediction:
        """The same for an answer that there is, whatever the notes say on asking."""
        record = self.records[index]
        known = {
            "reference": record.text,
            "task": record.task,
            "box": record.box,
            "box_unit": None if record.box_unit == "pixel" else record.box_unit,
            "color": record.color,
            "images": tuple(map(str, record.images)),
            "document": record.document or None,
            "location": record.location,
            "data": self.name,
            "record": index,
        }
        notes = {name: value for name, value in self.note(index).items() if name != "not_asked"}
        return Prediction(**{**known, **notes, **fields})

    def note(self, index: int) -> Mapping[str, Any]:
        return self.notes[index] if self.notes else {}


def predict(
    reader: OcrPipeline,
    data: Sequence[DataFile],
    path: Path,
    limit: int | None = None,
    batch_size: int = 32,
) -> list[Prediction]:
    """Predictions of the first `limit` records of each file, in their order.

    What `path` holds already is not asked again, but for what failed; answers are appended to it at once.
    """
    done = {prediction.key: prediction for prediction in _kept_predictions(path)}
    rows = [(file, index) for file in data for index in range(len(file.records))[:limit]]
    left = [(file, index) for file, index in rows if (file.name, index) not in done]
    counter = tqdm(total=len(rows), initial=len(rows) - len(left), unit="row", disable=None)  # on a terminal
    with open(path, "a", encoding="utf-8", newline="\n") as file, counter:
        for prediction in read_rows(reader, left, batch_size):
            file.write(_line(prediction))
            file.flush()
            done[prediction.key] = prediction
            counter.update()
    return [done[file.name, index] for file, index in rows]


def read_rows(
    reader: OcrPipeline, left: Sequence[tuple[DataFile, int]], batch_size: int
) -> Iterator[Prediction]:
    """The answers to records, first of all why some cannot be asked."""
    from got_train.inference.continuous import read_requests
    from got_train.inference.reader import FailedRequest, OcrRequest

    asked = []
    for file, index in left:
        if reason := file.note(index).get("not_asked") or _cannot_ask(
            file.records[index], reader.prompt_template
        ):
            yield file.prediction(index, not_asked=reason)
        else:
            asked.append((file, index))
    questions = (OcrRequest.of_record(file.records[index]) for file, index in asked)
    for (file, index), answer in zip(asked, read_requests(reader, questions, batch_size), strict=True):
        if isinstance(answer, FailedRequest):
            yield file.prediction(index, failed=answer.cause)
            continue
        yield file.prediction(
            index,
            prediction=answer.text,
            finished=answer.finished,
            tokens=len(answer.ids),
            seconds=round(answer.seconds, 4),
        )


def _cannot_ask(record: Record, prompt_template: str) -> str | None:
    if prompt_template == "stage1" and (record.task != "ocr" or record.box or record.color):
        return "the stage1 prompt template has ocr of whole pages only"
    return None


def _kept_predictions(path: Path) -> list[Prediction]:
    """What a file holds, and from now on all that it holds: complete lines that did not fail."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8", errors="replace")
    whole, _, torn = text.rpartition("\n")  # a killed run may have begun a line
    predictions = [parse_prediction(row, location) for row, location in json_rows(whole, str(path))]
    kept = [prediction for prediction in predictions if not prediction.failed]
    if torn or len(kept) < len(predictions):
        write_atomic(path, "".join(map(_line, kept)))
    return kept


def _line(prediction: Prediction) -> str:
    return json.dumps(prediction.row(), ensure_ascii=False) + "\n"


def json_rows(text: str, path: str) -> Iterator[tuple[object, str]]:
    """The values of a JSON list, or of JSON lines, each with its place."""
    if text.lstrip().startswith("["):
        try:
            yield from (
                (row, f"{path}[{index}]") for index, row in enumerate(strict_json(text, allow_nan=True))
            )
        except (ValueError, RecursionError) as error:
            raise EvaluationError(
                f"{path}: not JSON: {error}; expected a list of objects, or one object a line"
            ) from error
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield strict_json(line, allow_nan=True), f"{path}:{number}"
            except (ValueError, RecursionError) as error:
                raise EvaluationError(
                    f"{path}:{number}: not JSON: {error}; expected one object a line"
                ) from error


def parse_prediction(row: object, location: str) -> Prediction:
    if not isinstance(row, dict):
        raise EvaluationError(
            f"{location}: {str(row)[:60]!r}; expected an object with prediction and reference"
        )
    texts = {name: _text(row, name, location) for name in _NAMES}
    known = {key: row[key] for key in Prediction.__dataclass_fields__ if row.get(key) is not None}
    known |= {key: tuple(known[key]) for key in ("box", "images") if isinstance(known.get(key), list)}
    if "task" not in known and isinstance(row.get("question"), str):
        known |= _of_question(row["question"])
    images = known.get("images", row.get("image"))
    known["images"] = tuple(map(_image_name, [images] if isinstance(images, (str, dict)) else images or ()))
    return Prediction(**{"location": location, **known, **texts})


def _text(row: dict[str, Any], asked: str, location: str) -> str:
    value = next((row[name] for name in _NAMES[asked] if row.get(name) is not None), None)
    if not isinstance(value, str):
        raise EvaluationError(
            f"{location}: {' or '.join(_NAMES[asked][:2])} is {str(value)[:60]!r}; expected a text"
        )
    return value


def _image_name(image: object) -> str:
    """A path; of ms-swift's {bytes, path} the latter."""
    return str((image.get("path") or "") if isinstance(image, dict) else image)


def _of_question(question: str) -> dict[str, Any]:
    """Task and region of a question in GOT's words, after whatever stands for the image."""
    words = question.rpartition("</img>")[2].rpartition("<image>")[2].strip() + " "
    try:
        task, box, color = prompts.parse_question(words)
    except PromptError:
        return {}
    region = {} if box is None else {"box": tuple(box), "box_unit": "thousandth"}
    return {"task": task, "color": color, **region}


def data_names(paths: Sequence[str]) -> Sequence[str]:
    """File names without suffix if these differ, else the folders' names, else the paths."""
    whole = [Path(os.path.abspath(path)) for path in paths]
    for names in ([path.stem for path in whole], [path.parent.name for path in whole]):
        if len(set(names)) == len(names):
            return names
    if len(set(paths)) < len(paths):
        raise EvaluationError(f"data: {max(paths, key=paths.count)} is given twice; give each file once")
    return paths


def records_hash(records: Sequence[Record], folder: Path) -> str:
    digest = hashlib.sha256()
    for index in range(len(records)):
        record = records[index]
        images = [_image_mark(image, folder) for image in record.images]
        fields = [images, record.task, record.text, record.box, record.color, record.box_unit]
        digest.update(json.dumps(fields).encode() + b"\n")
    return digest.hexdigest()


def _image_mark(image: object, folder: Path) -> str:
    """A picture file by its name, a picture inside the data by its bytes or what it says of itself."""
    if isinstance(image, str):
        return os.path.relpath(image, folder)
    return getattr(image, "mark", None) or hashlib.sha256(image.data).hexdigest()
