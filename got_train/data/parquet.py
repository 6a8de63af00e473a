"""Data sets of Hugging Face on disk: parquet files and saved data sets, without decoding a picture.

Knows Arrow; what a row means is a matter of formats.py.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from got_train.images import natural_order

from .formats import RowReader
from .line_files import checked_index
from .record import DataFileError, Record, RecordError

if TYPE_CHECKING:
    import datasets
    import pyarrow

SPLITS = ("train", "training", "validation", "valid", "val", "dev", "test", "testing", "eval")
GROUP_BYTES = 32 * 2**20  # of a row group that may be read to reach one of its rows
_SHARD = re.compile(r"(.+?)-\d+-of-\d+(-\w+)?$")  # train-00000-of-00002, as Hugging Face names them


class ParquetRecords(Sequence):
    """The records of parquet files, in the order of their rows.

    A row is read with its row group. Files with groups above GROUP_BYTES are too slow for that: `datasets`
    copies these once into its cache, as Arrow, where every row stands by itself.
    """

    def __init__(self, paths: Sequence[str], reader: RowReader) -> None:
        self._paths, self._reader = list(paths), reader
        groups: list[tuple[int, int, int, int]] = []  # file, number in it, first row, rows
        largest = 0
        for index, path in enumerate(paths):
            first = 0
            for number, (rows, size) in enumerate(row_groups(path, reader)):
                groups.append((index, number, first, rows))
                first, largest = first + rows, max(largest, size)
        self._sizes = [os.path.getsize(path) for path in paths]
        self._groups = np.array(groups, np.int64).reshape(-1, 4)
        self._ends = np.cumsum(self._groups[:, 3])
        if not len(self):
            raise RecordError(f"{paths[0]}: holds no records; expected at least one")
        self._copy = _arrow_copy(self._paths, reader) if largest > GROUP_BYTES else None
        self._kept: tuple[tuple[str, int], pyarrow.Table] | None = None  # the group last read

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": None}

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> Record:
        index = checked_index(index, len(self))
        group = int(np.searchsorted(self._ends, index, side="right"))
        file, number, first, rows = (int(value) for value in self._groups[group])
        row = index - int(self._ends[group]) + rows
        path = self._paths[file]
        if self._copy is not None:
            table = self._copy[index : index + 1]
        else:
            table = self._group(path, number, self._sizes[file]).slice(row, 1)
        return self._reader.record(table.to_pylist()[0], f"{path}[{first + row}]")

    def _group(self, path: str, number: int, size: int) -> pyarrow.Table:
        if self._kept is None or self._kept[0] != (path, number):
            with arrow_faults(path):
                if os.path.getsize(path) != size:
                    raise DataFileError(f"{path}: changed since it was opened; start again")
                with open_parquet(path) as file:
                    columns = self._reader.columns_to_read(file.schema_arrow.names, path)
                    # one thread: this may be a forked process, and others decode beside it
                    table = file.read_row_group(number, columns, use_threads=False)
            self._kept = (path, number), table
        return self._kept[1]


class SavedRecords(Sequence):
    """The records of a folder that `datasets` has saved (save_to_disk), mapped into memory."""

    def __init__(self, folder: str, reader: RowReader, split: str = "") -> None:
        import datasets

        with arrow_faults(folder):
            dataset = datasets.load_from_disk(folder)
        if isinstance(dataset, datasets.DatasetDict):
            dataset = dataset[chosen_split(folder, list(dataset), split)]
        elif split:
            raise RecordError(f"{folder}: split {split!r} of a data set that has none; leave it out")
        self._where, self._reader = folder, reader
        self._rows = dataset.select_columns(reader.columns_to_read(dataset.column_names, folder)).with_format(
            "arrow"
        )
        if not len(self):
            raise RecordError(f"{folder}: holds no records; expected at least one")

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Record:
        index = checked_index(index, len(self))
        with arrow_faults(self._where):
            row = self._rows[index : index + 1].to_pylist()[0]
        return self._reader.record(row, f"{self._where}[{index}]")


def all_parquet(folder: str) -> list[str]:
    """The parquet files of a folder and the folders below it, in natural order."""
    paths = [path for path in Path(folder).rglob("*.parquet") if not _hidden(path.relative_to(folder))]
    return sorted(map(str, paths), key=natural_order)


def split_of_files(location: str, paths: list[str], split: str = "") -> list[str]:
    """The files of a split, as told by their names: train-00000-of-00002, train.parquet, train/0.parquet."""
    splits = {
        path: _split_name(os.path.relpath(os.path.abspath(path), os.path.abspath(location))) for path in paths
    }
    names = list(dict.fromkeys(splits.values()))
    chosen = chosen_split(location, names, split)
    return [path for path in paths if splits[path] == chosen]


def chosen_split(location: str, names: Sequence[str], split: str = "") -> str:
    """The split asked for; the only one, or train, if none is."""
    if split in names:
        return split
    if not split and (len(names) == 1 or "train" in names):
        return names[0] if len(names) == 1 else "train"
    listed = ", ".join(sorted(name or "files of no split" for name in names))
    asked = f"no split {split!r}" if split else "several splits, none of them train"
    raise RecordError(f"{location}: {asked}; split: one of {listed}")


def row_groups(path: str, reader: RowReader) -> list[tuple[int, int]]:
    """Rows and uncompressed bytes of each row group of a file whose columns the reader can read."""
    with arrow_faults(path), open_parquet(path) as file:
        reader.columns_to_read(file.schema_arrow.names, path)
        groups = map(file.metadata.row_group, range(file.num_row_groups))
        return [(group.num_rows, group.total_byte_size) for group in groups]


def open_parquet(path: str) -> Any:
    """pyarrow's ParquetFile, to be closed by `with`."""
    from pyarrow import parquet

    status = os.stat(path)
    return parquet.ParquetFile(
        path, metadata=_footer(path, status.st_size, status.st_mtime_ns), buffer_size=2**20
    )


@lru_cache(maxsize=16)
def _footer(path: str, size: int, changed: int) -> pyarrow.parquet.FileMetaData:
    """The list of row groups, which takes milliseconds to read for every thousand of them."""
    from pyarrow import parquet

    return parquet.read_metadata(path)


@contextmanager
def arrow_faults(location: str) -> Iterator[None]:
    """Turns what Arrow and `datasets` raise on bad files into a RecordError that names the file."""
    import pyarrow

    try:
        yield
    except RecordError:
        raise
    except FileNotFoundError as error:
        raise DataFileError(f"{location}: no such file, or a part of it is gone; a whole data set") from error
    except (pyarrow.ArrowException, OSError, ValueError, KeyError) as error:
        what = " ".join(str(error).split())[:200]
        raise DataFileError(
            f"{location}: cannot be read ({what}); expected a whole parquet file or data set"
        ) from error


def _split_name(path: str) -> str:
    shard = _SHARD.match(Path(path).stem)
    if shard:
        return shard[1]
    return next((part for part in (*Path(path).parts, Path(path).stem) if part in SPLITS), "")


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _arrow_copy(paths: list[str], reader: RowReader) -> datasets.Dataset:
    import datasets

    with arrow_faults(paths[0]), open_parquet(paths[0]) as file:
        columns = reader.columns_to_read(file.schema_arrow.names, paths[0])
        return datasets.Dataset.from_parquet(paths, columns=columns).with_format("arrow")
