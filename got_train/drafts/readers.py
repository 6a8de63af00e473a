"""Who reads: a checkpoint, Tesseract, RapidOCR, or a file of answers that somebody read before.

Each turns records into answers, in their order. Knows programs and models; knows no order and no person.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Protocol

from PIL import Image

from got_train import images
from got_train.checkpoint.foreign import refuse_foreign
from got_train.data.record import Record
from got_train.errors import EvaluationError, ImageError, InferenceError, RequirementError, UsageError
from got_train.requirements import need_paddle

from .draft import Answer

if TYPE_CHECKING:
    from got_train.inference.reader import OcrPipeline, OcrResult

PROGRAMS = ("tesseract", "rapidocr")
PREDICTIONS = (".jsonl", ".json")


class Reader(Protocol):
    """`name` is what --by called it; `checkpoint` the hash of its weights, if it has any of ours."""

    name: str
    checkpoint: str | None

    def read(self, records: Sequence[Record]) -> Iterator[Answer]: ...


@dataclass(frozen=True, kw_only=True)
class ReaderConfig:
    """What the readers can be told."""

    lines: bool = False  # each picture or region is one line of text
    language: str = "eng"  # of tesseract, such as chi_sim+eng
    batch_size: int = 8  # pages that a checkpoint reads together
    threads: int | None = None  # of a checkpoint; None: all cores


def open_readers(names: Sequence[str], config: ReaderConfig) -> list[Reader]:
    """The readers of these names, each once; what is not installed is refused before anything is read."""
    if len(set(names)) < len(names):
        raise UsageError(f"--by: {max(names, key=names.count)} is given twice; give each reader once")
    first_programs = sorted(names, key=os.path.isdir)  # a checkpoint takes a while to load
    readers = {name: _open_reader(name, config) for name in first_programs}
    return [readers[name] for name in names]


def _open_reader(name: str, config: ReaderConfig) -> Reader:
    if name == "tesseract":
        return Tesseract(name, config.language, psm=7 if config.lines else None)
    if name == "rapidocr":
        return RapidOcr(name, detect=not config.lines)
    if os.path.isdir(name):
        return CheckpointReader(name, config)
    if os.path.isfile(name) and name.lower().endswith(PREDICTIONS):
        return PredictionsFile(name)
    refuse_foreign(name)  # such as the name of a model on a hub
    raise UsageError(
        f"--by: {name}; expected the folder of a checkpoint, {', '.join(PROGRAMS)} or a predictions.jsonl"
    )


class CheckpointReader:
    """A model of ours. Its confidence is the mean of its words' probabilities, calibrated if they can be."""

    def __init__(self, name: str, config: ReaderConfig) -> None:
        need_paddle()
        from got_train.cpu import settings as cpu
        from got_train.evaluation.provenance import model_hash
        from got_train.inference.reader import load_pipeline

        cpu.tune(config.threads)
        self.name, self._batch_size = name, config.batch_size
        self.pipeline: OcrPipeline = load_pipeline(name)
        self.checkpoint: str | None = model_hash(name)

    def read(self, records: Sequence[Record]) -> Iterator[Answer]:
        from got_train.inference.continuous import read_requests
        from got_train.inference.reader import FailedRequest, OcrRequest

        for result in read_requests(self.pipeline, map(OcrRequest.of_record, records), self._batch_size):
            if isinstance(result, FailedRequest):
                yield Answer(by=self.name, checkpoint=self.checkpoint, failed=result.cause)
                continue
            yield Answer(
                by=self.name,
                text=result.text,
                checkpoint=self.checkpoint,
                confidence=round(self._confidence(result), 4),
                finished=result.finished,
            )

    def _confidence(self, result: OcrResult) -> float:
        words = self.pipeline.spans(result, "word")
        return fmean(word.confidence for word in words) if words else result.confidence


class Tesseract:
    """The program `tesseract`; it is started once for all records of a call."""

    checkpoint = None

    def __init__(self, name: str = "tesseract", language: str = "eng", psm: int | None = None) -> None:
        if shutil.which("tesseract") is None:
            raise RequirementError(
                "tesseract: no such program; install tesseract-ocr and tesseract-ocr-eng, or the package of "
                "your language"
            )
        self.name = name
        self._options = ["-l", language] + ([] if psm is None else ["--psm", str(psm)])

    def read(self, records: Sequence[Record]) -> Iterator[Answer]:
        with tempfile.TemporaryDirectory(prefix="got_train-tesseract-") as folder:
            files, failed = _cut_out(records, Path(folder))
            texts = dict(zip(files, self._run(list(files.values()), Path(folder)), strict=True))
            for index in range(len(records)):
                yield Answer(by=self.name, text=texts.get(index), failed=failed.get(index))

    def _run(self, files: Sequence[Path], folder: Path) -> list[str]:
        if not files:
            return []
        listing = folder / "files.txt"
        listing.write_text("".join(f"{file}\n" for file in files), encoding="utf-8")
        command = ["tesseract", str(listing), "stdout", *self._options]
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
        pages = done.stdout.split("\f")  # a form feed stands between pages
        if done.returncode or len(pages) != len(files):
            said = (done.stderr.strip().splitlines() or [f"{len(pages)} answers to {len(files)} pictures"])[0]
            raise InferenceError(f"tesseract: {said}; expected one answer a picture")
        return [page.strip() for page in pages]


class RapidOcr:
    """The package rapidocr, PaddleOCR's models; without `detect` a picture is one line."""

    checkpoint = None

    def __init__(self, name: str = "rapidocr", detect: bool = True) -> None:
        for package in ("rapidocr", "onnxruntime"):
            if find_spec(package) is None:
                raise RequirementError(f"{package} is not installed; use `pip install rapidocr onnxruntime`")
        self.name, self._detect = name, detect

    @cached_property
    def _engine(self):  # noqa: ANN202
        from rapidocr import RapidOCR

        return RapidOCR()

    def read(self, records: Sequence[Record]) -> Iterator[Answer]:
        with tempfile.TemporaryDirectory(prefix="got_train-rapidocr-") as folder:
            files, failed = _cut_out(records, Path(folder))
            for index in range(len(records)):
                text = self._text(files[index]) if index in files else None
                yield Answer(by=self.name, text=text, failed=failed.get(index))

    def _text(self, file: Path) -> str:
        result = self._engine(str(file), use_det=self._detect, use_cls=False, use_rec=True)
        return "\n".join(result.txts or ())


class PredictionsFile:
    """Answers that were read before, found by the path of their picture and the region, or by its name."""

    checkpoint = None

    def __init__(self, name: str) -> None:
        from got_train.evaluation.predictions import Prediction, json_rows, parse_prediction

        self.name = name
        try:
            text = Path(name).read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise EvaluationError(f"{name}: {error}; expected a UTF-8 file of predictions") from error
        self._by_path: dict[tuple, tuple[Prediction, float | None]] = {}
        self._by_name: dict[tuple, tuple[Prediction, float | None] | None] = {}  # None: several
        for row, location in json_rows(text, name):
            known = {"reference": "", **row} if isinstance(row, dict) else row
            prediction = parse_prediction(known, location)
            confidence = row.get("confidence")
            entry = prediction, confidence if isinstance(confidence, float) else None
            region = prediction.box, prediction.color
            for folder in (".", os.path.dirname(name)):
                path = os.path.abspath(os.path.join(folder, prediction.picture))
                self._by_path.setdefault((path, *region), entry)
            key = (Path(prediction.picture).name, *region)
            self._by_name[key] = None if key in self._by_name else entry

    def read(self, records: Sequence[Record]) -> Iterator[Answer]:
        for record in records:
            entry = self._find(record)
            if entry is None:
                yield Answer(by=self.name, failed=f"{record.images[0]}: no row in {self.name}")
                continue
            prediction, confidence = entry
            failed = prediction.failed or prediction.not_asked
            yield Answer(
                by=self.name,
                text=None if failed else prediction.prediction,
                confidence=None if failed else confidence,
                finished=prediction.finished,
                failed=failed,
            )

    def _find(self, record: Record):  # noqa: ANN202
        path, region = str(record.images[0]), (record.box, record.color)
        entry = self._by_path.get((os.path.abspath(path), *region))
        return entry or self._by_name.get((Path(path).name, *region))


def _cut_out(records: Sequence[Record], folder: Path) -> tuple[dict[int, Path], dict[int, str]]:
    """The picture or region of each record as a file of its own, and why some have none, by their index."""
    files, failed = {}, {}
    for index, record in enumerate(records):
        if reason := _not_plain(record):
            failed[index] = reason
            continue
        try:
            picture = region(images.open_image(record.images[0]), record)
        except ImageError as error:
            failed[index] = str(error)
            continue
        files[index] = folder / f"{index:06d}.ppm"  # written and read in no time
        picture.save(files[index])
    return files, failed


def _not_plain(record: Record) -> str | None:
    """Why a program that reads plain text cannot answer a record."""
    if record.task != "ocr" or len(record.images) > 1:
        return f"task {record.task}; only a checkpoint reads it"
    if record.color is not None or (record.box is not None and len(record.box) != 4):
        return "a frame of a color, or a point; only a checkpoint reads it"
    return None


def pixels_of(record: Record, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """The record's box in whole pixels inside a picture of that size; None for the whole."""
    if record.box is None or len(record.box) != 4:
        return None
    scale = (size[0] / 1000, size[1] / 1000) if record.box_unit == "thousandth" else (1, 1)
    x1, y1, x2, y2 = (value * scale[index % 2] for index, value in enumerate(record.box))
    left, top = min(int(x1), size[0] - 1), min(int(y1), size[1] - 1)
    return left, top, max(left + 1, min(round(x2), size[0])), max(top + 1, min(round(y2), size[1]))


def region(picture: Image.Image, record: Record) -> Image.Image:
    box = pixels_of(record, picture.size)
    return picture if box is None else picture.crop(box)
