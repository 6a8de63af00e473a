"""Which rows entered which step: a line a step and process, of what the collator really got.

The rows themselves follow from seed and step (data/mixture.py); the ledger keeps how many they were, a sum
over their places and answers to compare with, and which draws were dropped. Knows no model.
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
from got_train.errors import TrainingError

DROPPED = -1  # stands for the mark of a row that could not be used


@dataclass(frozen=True)
class StepRecord:
    """What went into one step, over all processes."""

    step: int  # from 1, as in logs and checkpoints
    rows: int
    sum: int  # of the rows' marks; the same in whatever order, over however many processes
    dropped: tuple[int, ...] = ()  # draws

    @classmethod
    def of(cls, step: int, draws: Sequence[int], marks: Sequence[int]) -> StepRecord:
        dropped = tuple(draw for draw, each in zip(draws, marks, strict=True) if each == DROPPED)
        return cls(step, len(marks) - len(dropped), sum(each for each in marks if each != DROPPED), dropped)

    def __add__(self, other: StepRecord) -> StepRecord:
        dropped = tuple(sorted(self.dropped + other.dropped))
        return StepRecord(self.step, self.rows + other.rows, self.sum + other.sum, dropped)


def checksum(where: str, answer: Sequence[int]) -> int:
    """A number for a row: its file:line and the ids that it supervises."""
    return zlib.crc32(np.asarray(answer, np.int64).tobytes(), zlib.crc32(where.encode()))


@dataclass
class SampleLog:
    """The file of one process; only steps of which the weights were kept, or may still be, stand in it."""

    output_dir: Path
    rank: int = 0
    ranks: int = 1
    path: Path = field(init=False)

    def __post_init__(self) -> None:
        self.path = _path(self.output_dir, self.rank)

    def go_on_from(self, step: int) -> None:
        """Forget the steps after `step`: their weights are lost, and they will be made again."""
        others = _files(self.output_dir).items() if self.rank == 0 else ()
        for path in {self.path, *(path for rank, path in others if rank >= self.ranks)}:
            _truncate(path, step)

    def add(self, entry: StepRecord) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        row = {"step": entry.step, "rows": entry.rows, "sum": f"{entry.sum:x}"}
        row |= {"dropped": list(entry.dropped)} if entry.dropped else {}
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def read_sample_log(output_dir: str | os.PathLike) -> dict[int, StepRecord]:
    """Step -> what went into it, of all processes' files."""
    found: dict[int, StepRecord] = {}
    for _, path in sorted(_files(output_dir).items()):
        for entry in _entries(path):
            found[entry.step] = found[entry.step] + entry if entry.step in found else entry
    if not found:
        raise TrainingError(
            f"{output_dir}: no ledger-*.jsonl with a step; the folder of a run that has begun"
        )
    return found


def _entries(path: Path) -> Iterator[StepRecord]:
    """Those of whole lines; half a one is of a step in which the process was killed."""
    for number, line in enumerate(_whole_lines(path), 1):
        try:
            row = json.loads(line)
            yield StepRecord(row["step"], row["rows"], int(row["sum"], 16), tuple(row.get("dropped", ())))
        except (ValueError, KeyError, TypeError) as error:
            raise TrainingError(f"{path}:{number}: not a line of a ledger ({error}); take it out") from error


def _truncate(path: Path, step: int) -> None:
    if not path.exists():
        return
    kept = [
        line for line, entry in zip(_whole_lines(path), _entries(path), strict=True) if entry.step <= step
    ]
    write_atomic(path, "".join(kept))


def _whole_lines(path: Path) -> Iterable[str]:
    with open(path, encoding="utf-8") as file:
        yield from (line for line in file if line.endswith("\n"))


def _path(output_dir: str | os.PathLike, rank: int) -> Path:
    return Path(output_dir) / f"ledger-{rank}.jsonl"


def _files(output_dir: str | os.PathLike) -> dict[int, Path]:
    found = Path(output_dir).glob("ledger-*.jsonl")
    return {int(path.stem.partition("-")[2]): path for path in found if path.stem.partition("-")[2].isdigit()}
