"""Corrected answers as training data: a line of JSONL each, the picture copied beside.

Knows records and files; no model and no web.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from io import FileIO
from pathlib import Path
from typing import Any

from got_train.data.image_copies import ImageCopier
from got_train.data.record import Record, RecordError
from got_train.data.records import as_row
from got_train.evaluation.provenance import model_hash
from got_train.images import EncodedImage

PICTURES = "pictures"  # the folder beside the file


class Corrections:
    """A file that grows by whole lines, whoever else appends to it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._hashes: dict[str, str] = {}
        self._lock = threading.Lock()

    def add(
        self,
        picture: EncodedImage,
        task: str,
        text: str,
        box: Sequence[int] | None = None,
        color: str | None = None,
        replaced: str = "",
        model: str = "",
    ) -> int:
        """Appends a record and returns how many the file then has. The box is in thousandths.

        The answer that was replaced, if it was another, stands beside it as `rejected` with the hash of its
        model's folder: pairs for rl.objective=dpo.
        """
        rejected = replaced if replaced.strip() and replaced != text else ""
        question = {"box": box and tuple(box), "color": color, "rejected": rejected}
        if box is not None:
            question["box_unit"] = "thousandth"
        record = Record((picture,), task, text, location="correction", **question)
        from_model = bool(rejected) and os.path.isdir(model)
        return self.append(record, {"checkpoint": self._checkpoint(model)} if from_model else None)

    def append(self, record: Record, meta: Mapping[str, str] | None = None) -> int:
        """Appends a record with copies of its pictures and returns how many the file then has."""
        _check_text(record.text)
        with self._opened() as file:
            copies = ImageCopier(self.file.parent / PICTURES)  # a new one finds its earlier copies again
            images = record.images
            images = (copies.one(images[0]),) if len(images) == 1 else copies.several(images)
            row = as_row(replace(record, images=images), self.file.parent)
            if meta:
                row["meta"] = dict(meta)
            return _append(file, json.dumps(row, ensure_ascii=False).encode() + b"\n")

    def rows(self) -> list[dict[str, Any]]:
        """The rows of the file as they stand there; lines that are none are left out."""
        if not self.file.exists():
            return []
        return [row for line in self.file.read_bytes().splitlines() if (row := _row(line)) is not None]

    def take_back(self, belongs: Callable[[dict[str, Any]], bool]) -> dict[str, Any] | None:
        """Takes the last row out of the file and returns it, if it belongs to the caller; else None."""
        if not self.file.exists():
            return None
        with self._opened() as file:
            file.seek(0)
            lines = file.read().splitlines(keepends=True)
            row = _row(lines[-1]) if lines else None
            if row is None or not belongs(row):
                return None
            file.truncate(sum(map(len, lines[:-1])))
            os.fsync(file.fileno())
            return row

    def _checkpoint(self, folder: str) -> str:
        """The hash of a model's folder; read once, as weights are large."""
        if folder not in self._hashes:
            self._hashes[folder] = model_hash(folder)
        return self._hashes[folder]

    @contextmanager
    def _opened(self) -> Iterator[FileIO]:
        """The file, and nobody else writes there or copies pictures meanwhile."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self._lock, open(self.file, "a+b", buffering=0) as file:
            _lock(file.fileno())
            yield file


def _check_text(text: str) -> None:
    if not text.strip():
        raise RecordError("correction: no text; write what stands on the page")


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _append(file: FileIO, line: bytes) -> int:
    """The lines that the file then has; what cannot be written whole is taken back."""
    file.seek(0)
    before = file.read()
    data = (b"\n" if before and not before.endswith(b"\n") else b"") + line
    try:
        if file.write(data) != len(data):
            raise OSError(f"{file.name}: the disk is full")
        os.fsync(file.fileno())
    except OSError:
        file.truncate(len(before))
        raise
    return (before + data).count(b"\n")


def _lock(descriptor: int) -> None:
    try:
        import fcntl
    except ImportError:  # no Unix
        return
    fcntl.flock(descriptor, fcntl.LOCK_EX)  # until the file is closed
