"""All rows of all sources, looked at by several processes in pieces, and what they show added up.

No more pieces are under way than twice the processes, so memory does not grow with the pictures.
"""

from __future__ import annotations

import heapq
import json
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from got_train import workers as processes
from got_train.config.schema import SourceConfig
from got_train.data.line_files import RecordFile
from got_train.data.record import location_of
from got_train.data.records import DataFileError, Record, RecordError, RecordStream
from got_train.errors import DataError

from . import fingerprints
from .findings import Finding, Findings
from .rows import ChunkResult, RowChecker, records_of
from .statistics import Statistics

CHUNK_ROWS = 64  # rows that a process takes at once
CLOSE_ROWS = 2000  # rows of a source whose lines of text and scripts are looked at, evenly spaced
STREAM_STRIDE = 9  # the same of a stream, whose rows are not counted: every ninth
HELD_OUT = ("validation", "probe")  # roles of rows that no run trains on
LONGEST = 64  # rows kept of which the run is measured


@dataclass(frozen=True)
class Source:
    """Records, under the name and role (train, replay, validation, probe) that the config gives them."""

    role: str
    path: str
    records: Sequence[Record] | RecordStream
    sample: int = 0  # rows at most, evenly spaced (of a stream: the first); 0: all
    config: SourceConfig | None = None

    def rows(self) -> Sequence[int] | None:
        """The rows to look at; None of a stream, whose rows are not counted."""
        if isinstance(self.records, RecordStream):
            return None
        total = len(self.records)
        if not 0 < self.sample < total:
            return range(total)
        return (np.arange(self.sample) * (total / self.sample)).astype(int).tolist()

    def location(self, row: int) -> str:
        if isinstance(self.records, RecordFile):  # which need not read the row for it
            return self.records.location(row)
        return location_of(self.records, row)


@dataclass
class ScanResult:
    """What all rows have shown."""

    sources: Sequence[Source]
    statistics: list[Statistics] = field(default_factory=list)
    findings: Findings = field(default_factory=Findings)
    fingerprints: np.ndarray = field(default_factory=lambda: np.empty(0, fingerprints.FINGERPRINT))
    longest: list[tuple[int, int, int]] = field(default_factory=list)  # tokens, source, row

    def total(self, *roles: str) -> int:
        return sum(
            stats.rows
            for source, stats in zip(self.sources, self.statistics, strict=True)
            if source.role in roles
        )


def scan(
    sources: Sequence[Source],
    checker: RowChecker,
    workers: int = 0,
    quarantine: FindingsFile | None = None,
    progress: Callable[[int], object] = lambda rows: None,
    all_findings: FindingsFile | None = None,
) -> ScanResult:
    """Look at every row. What is found goes to `all_findings` as it is met, a line each, bad rows to both."""
    seen = ScanResult(sources, [Statistics() for _ in sources])
    parts: list[np.ndarray] = []
    pool = _InProcess(sources, checker) if workers == 0 else _Pool(sources, checker, workers)
    files = [file for file in (quarantine, all_findings) if file is not None]
    with pool:
        for look in pool.looks(_chunks(sources)):
            seen.statistics[look.source].merge(look.statistics)
            for finding in look.findings:
                seen.findings.add(finding)
                for file in files:
                    file.add(finding)
            parts.append(np.array(look.fingerprints, fingerprints.FINGERPRINT))
            for tokens, row in look.longest:
                heapq.heappush(seen.longest, (tokens, look.source, row))
                if len(seen.longest) > LONGEST:
                    heapq.heappop(seen.longest)
            progress(look.statistics.rows)
    seen.longest.sort(reverse=True)
    seen.fingerprints = np.concatenate(parts) if parts else seen.fingerprints
    return seen


Chunk = tuple[int, Sequence, int]  # source; its rows, or of a stream (row, record or fault); stride


def _chunks(sources: Sequence[Source]) -> Iterator[Chunk]:
    for index, source in enumerate(sources):
        rows = source.rows()
        if rows is None:
            yield from ((index, part, STREAM_STRIDE) for part in _of_stream(source))
            continue
        stride = max(1, len(source.records) // CLOSE_ROWS)
        for start in range(0, len(rows), CHUNK_ROWS):
            yield index, rows[start : start + CHUNK_ROWS], stride


def _of_stream(source: Source) -> Iterator[list]:
    """A stream is read here, forward, and its rows are handed on whole."""
    rows = iter(_forward(source.records))
    if source.sample:
        rows = islice(rows, source.sample)
    while part := list(islice(rows, CHUNK_ROWS)):
        yield part


def _forward(stream: RecordStream) -> Iterator[tuple[int, Record | RecordError]]:
    row = 0
    while stream.rows is None or row < stream.rows:
        try:
            yield row, stream[row]
        except IndexError:
            return
        except DataFileError as error:  # nothing behind it can be read either
            yield row, error
            return
        except RecordError as error:
            yield row, error
        row += 1


def check_chunk(sources: Sequence[Source], checker: RowChecker, piece: Chunk) -> ChunkResult:
    index, rows, stride = piece
    if isinstance(rows[0], tuple):  # of a stream, which come with their records
        return checker.check(index, rows, stride)
    return checker.check(index, records_of(sources[index].records, rows), stride)


class _InProcess:
    """The same in this process."""

    def __init__(self, sources: Sequence[Source], checker: RowChecker) -> None:
        self.sources, self.checker = sources, checker

    def __enter__(self) -> _InProcess:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def looks(self, pieces: Iterable[Chunk]) -> Iterator[ChunkResult]:
        for piece in pieces:
            yield check_chunk(self.sources, self.checker, piece)


_WORK: tuple[Sequence[Source], RowChecker] | None = None  # of a process of the pool


def _start_worker(sources: Sequence[Source], checker: RowChecker, check: int) -> None:
    global _WORK
    _WORK = sources, checker
    processes.exit_with_parent(check)


def _check_chunk(piece: Chunk) -> ChunkResult:
    return check_chunk(*_WORK, piece)


class _Pool:
    """Several processes; results come in the order of the pieces."""

    def __init__(self, sources: Sequence[Source], checker: RowChecker, workers: int) -> None:
        # forked where that exists: what is open stays shared, and nothing is imported again
        kind = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
        context = multiprocessing.get_context(kind)
        self.workers = workers
        self.executor = ProcessPoolExecutor(workers, context, _start_worker, (sources, checker, os.getpid()))

    def __enter__(self) -> _Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.executor.shutdown(cancel_futures=True)

    def looks(self, pieces: Iterable[Chunk]) -> Iterator[ChunkResult]:
        waiting: deque[Future] = deque()
        try:
            for piece in pieces:
                waiting.append(self.executor.submit(_check_chunk, piece))
                if len(waiting) >= 2 * self.workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise DataError(
                f"--workers {self.workers}: a process was ended from outside, perhaps for want of memory; "
                "use fewer workers, or 0"
            ) from error


class FindingsFile:
    """A JSONL file of findings, there if there are any: of bad rows as a run writes them, or all."""

    def __init__(self, path: Path, bad: bool = False) -> None:
        self.path, self.bad, self._file = path, bad, None
        self._unfinished = path.with_name(path.name + ".tmp")

    def __enter__(self) -> FindingsFile:
        return self

    def add(self, finding: Finding) -> None:
        if self.bad and finding.usable:
            return
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self._unfinished, "w", encoding="utf-8")  # noqa: SIM115 - closed in __exit__
        cause = f"{finding.cause}; {finding.fix}" if finding.fix else finding.cause
        line = {"location": finding.location, "cause": cause, "fix": finding.fix}
        if not self.bad:
            line = {"level": finding.level, "subject": finding.subject, **line}
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def __exit__(self, failed: object, *_: object) -> None:
        if self._file is None:
            if failed is None:
                self.path.unlink(missing_ok=True)  # of a former check
            return
        self._file.close()
        if failed is None:
            os.replace(self._unfinished, self.path)
        else:
            self._unfinished.unlink(missing_ok=True)
