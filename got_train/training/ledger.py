"""Which rows entered which step: a line a step and process, of what the collator really got.

The rows themselves follow from seed and step (data/mixture.py); the ledger keeps how many they were, a sum
over their places, pictures and answers to compare with, and which samples were dropped. Knows no model.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from got_train.atomic_write import write_atomic
from got_train.data.record import Record
from got_train.errors import TrainingError
from got_train.images import EncodedImage
from got_train.strict_files import read_text, strict_json

DROPPED = -1  # stands for the checksum of a row that could not be used


@dataclass(frozen=True)
class StepRecord:
    """What went into one step, over all processes."""

    step: int  # from 1, as in logs and checkpoints
    rows: int
    sum: int  # of the rows' checksums; the same in whatever order, over however many processes
    dropped: tuple[int, ...] = ()  # indices of samples

    @classmethod
    def of(cls, step: int, indices: Sequence[int], checksums: Sequence[int]) -> StepRecord:
        dropped = tuple(
            index for index, checksum in zip(indices, checksums, strict=True) if checksum == DROPPED
        )
        return cls(
            step,
            len(checksums) - len(dropped),
            sum(checksum for checksum in checksums if checksum != DROPPED),
            dropped,
        )

    def __add__(self, other: StepRecord) -> StepRecord:
        dropped = tuple(sorted(self.dropped + other.dropped))
        return StepRecord(self.step, self.rows + other.rows, self.sum + other.sum, dropped)


def record_checksum(record: Record, answer: Sequence[int]) -> int:
    """A number for a row: file:line, what is asked, the bytes of its pictures and the ids that it supervises.

    A picture that is gone counts as an empty one, so that a changed row is told from a fault.
    """
    asked = (record.location, record.task, record.box, record.box_unit, record.color)
    asked += (record.rejected,) if record.rejected else ()
    value = zlib.crc32(np.asarray(answer, np.int64).tobytes(), zlib.crc32(repr(asked).encode()))
    for image in record.images:
        value = zlib.crc32(image.data if isinstance(image, EncodedImage) else _content(image), value)
    return value


def _content(image: str) -> bytes:
    try:
        return Path(image).read_bytes()
    except OSError:
        return b""


@dataclass
class SampleLog:
    """The file of one process; only steps of which the weights were kept, or may still be, stand in it."""

    output_dir: Path
    rank: int = 0
    ranks: int = 1
    path: Path = field(init=False)

    def __post_init__(self) -> None:
        self.path = Path(self.output_dir) / f"ledger-{self.rank}.jsonl"

    def truncate_after(self, step: int) -> None:
        """Forget the steps after `step`: their weights are lost, and they will be made again."""
        others = _files(self.output_dir).items() if self.rank == 0 else ()
        for path in {self.path, *(path for rank, path in others if rank >= self.ranks)}:
            _truncate(path, step)

    def add(self, entry: StepRecord) -> None:
        row = {"step": entry.step, "rows": entry.rows, "sum": f"{entry.sum:x}"}
        row |= {"dropped": list(entry.dropped)} if entry.dropped else {}
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def has_sample_log(output_dir: str | os.PathLike) -> bool:
    return bool(_files(output_dir))


def read_sample_log(output_dir: str | os.PathLike) -> dict[int, StepRecord]:
    """Step -> what went into it, of all processes' files."""
    records: dict[int, StepRecord] = {}
    for _, path in sorted(_files(output_dir).items()):
        for entry in _entries(path):
            records[entry.step] = records[entry.step] + entry if entry.step in records else entry
    if not records:
        raise TrainingError(
            f"{output_dir}: no ledger-*.jsonl with a step; the folder of a run that has begun"
        )
    return records


def _entries(path: Path) -> Iterator[StepRecord]:
    """Those of whole lines; half a one is of a step in which the process was killed."""
    for number, line in enumerate(_whole_lines(path), 1):
        try:
            row = strict_json(line)
            yield StepRecord(row["step"], row["rows"], int(row["sum"], 16), tuple(row.get("dropped", ())))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise TrainingError(f"{path}:{number}: not a line of a ledger ({error}); take it out") from error


def _truncate(path: Path, step: int) -> None:
    if not path.exists():
        return
    kept = [
        line for line, entry in zip(_whole_lines(path), _entries(path), strict=True) if entry.step <= step
    ]
    write_atomic(path, "".join(kept))


def _whole_lines(path: Path) -> Iterable[str]:
    lines = read_text(path, TrainingError).split("\n")
    yield from (f"{line}\n" for line in lines[:-1])


def _files(output_dir: str | os.PathLike) -> dict[int, Path]:
    paths = Path(output_dir).glob("ledger-*.jsonl")
    return {int(path.stem.partition("-")[2]): path for path in paths if path.stem.partition("-")[2].isdigit()}
