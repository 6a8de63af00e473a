"""Records that are read forward only: no index, no copy, no more than a window of rows in memory.

Knows lines and parquet files; the order inside a window is drawn by mixture.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from .formats import RowReader
from .line_files import first_bytes, forward_lines, json_row
from .parquet import arrow_faults, open_parquet, row_groups
from .record import Record, RecordError

if TYPE_CHECKING:
    import pyarrow

WINDOW = 256  # rows that are held and shuffled together

Row = tuple[str, Callable[[], dict]]  # file:line and what reads it


class RecordStream:
    """Row i of JSONL and parquet files, best asked for in windows that follow each other.

    `rows` is None until the end has been seen. Going back starts again at the first file.
    """

    def __init__(self, paths: Sequence[str], reader: RowReader) -> None:
        self.paths, self._reader = list(paths), reader
        for path in paths:
            if _is_parquet(path):
                row_groups(path, reader)
            elif first_bytes(path).startswith(b"["):
                raise RecordError(f"{path}: a JSON list; streaming reads lines (.jsonl) and parquet files")
        self.rows: int | None = None
        self._close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_items": None, "_window": [], "_number": -1}

    def __getitem__(self, row: int) -> Record:
        number, offset = divmod(row, WINDOW)
        window = self._windowed(number)
        if offset >= len(window):
            raise IndexError(f"row {row}: the stream has {self.rows}")
        location, read = window[offset]
        return self._reader.record(read(), location)

    @property
    def size(self) -> str:
        """What stands for the number of rows where a run is compared with its data."""
        return f"{len(self.paths)} file(s) of {sum(map(os.path.getsize, self.paths))} bytes"

    def window_rows(self, number: int) -> int:
        """How many rows window `number` has: WINDOW, fewer at the end, 0 behind it."""
        if self.rows is None:
            return len(self._windowed(number))
        return min(WINDOW, max(0, self.rows - number * WINDOW))

    def _close(self) -> None:
        self._items: Iterator[Row] | None = None
        self._window: list[Row] = []
        self._number = -1
        self._process = os.getpid()

    def _windowed(self, number: int) -> list[Row]:
        if self._process != os.getpid():
            self._close()  # forked: the parent's open files would be read by both
        if number == self._number:
            return self._window
        self._window = []  # before the next is read: one at a time in memory
        if self._items is None or number <= self._number:
            self._items = self._forward(number * WINDOW)
        else:
            over = (number - self._number - 1) * WINDOW
            next(islice(self._items, over, over), None)
        self._window = list(islice(self._items, WINDOW))
        self._number = number
        if self.rows == 0:
            raise RecordError(f"{self.paths[0]}: holds no records; expected at least one")
        return self._window

    def _forward(self, first: int) -> Iterator[Row]:
        """The rows from `first` on. At the end the number of all is known."""
        row = 0
        for path in self.paths:
            if _is_parquet(path):
                skipped = yield from self._parquet(path, max(0, first - row))
                row += skipped
            else:
                for location, raw in forward_lines(path):
                    if row >= first:
                        yield location, partial(json_row, location, raw)
                    row += 1
        self.rows = row

    def _parquet(self, path: str, first: int) -> Iterator[Row]:
        """The rows of a file from `first` on, groups before it unread; returns how many the file has."""
        row = 0
        groups = row_groups(path, self._reader)
        with arrow_faults(path), open_parquet(path) as file:
            columns = self._reader.columns_to_read(file.schema_arrow.names, path)
            for group, (count, _) in enumerate(groups):
                row += count
                if row <= first:
                    continue
                offset = row - count
                for batch in file.iter_batches(WINDOW, [group], columns, use_threads=False):
                    for index in range(max(0, first - offset), batch.num_rows):
                        yield f"{path}[{offset + index}]", partial(_cells, batch, index)
                    offset += batch.num_rows
        return row


def _cells(batch: pyarrow.RecordBatch, index: int) -> dict:
    return batch.slice(index, 1).to_pylist()[0]


def _is_parquet(path: str) -> bool:
    return path.lower().endswith(".parquet")
