"""Records that an engine wrote, or others of our own form, read back with their pictures and notes.

Knows parquet shards and JSONL; what becomes of the records is for the engine that reads them.
"""

from __future__ import annotations

import functools
import io
import itertools
import json
from bisect import bisect_right
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from got_train.data.record import RENAMED_KEYS, rename_keys
from got_train.errors import DataError

from . import produce

if TYPE_CHECKING:
    from PIL import Image

COLUMNS = ("id", "images", "task", "text", "box", "color", "char_boxes", *RENAMED_KEYS, "meta")


class NoPagesError(DataError):
    """Records, but none of the tasks asked for."""


@dataclass(frozen=True)
class Made:
    """A record of one picture, in bytes as they were written."""

    where: str
    id: str
    picture: produce.Picture
    task: str
    text: str
    box: tuple[float, ...] | None = None
    color: str | None = None
    char_boxes: list[list[Any]] = field(default_factory=list)
    meta: dict[str, Any] = field(default_factory=dict)

    def image(self) -> Image.Image:
        from PIL import Image, UnidentifiedImageError

        try:
            image = Image.open(io.BytesIO(self.picture.data))
            return image if image.mode in ("L", "RGB") else image.convert("RGB")
        except (UnidentifiedImageError, OSError) as error:
            raise DataError(f"{self.where}: {self.picture.name}: not a picture ({error})") from None


@dataclass(frozen=True)
class MadeRecords:
    """All whole-page records of the tasks asked for, found by their place in the files; it pickles."""

    files: tuple[Path, ...]
    places: tuple[tuple[int, int], ...]  # file, and row (parquet) or first byte of the line (JSONL)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Made:
        file, position = self.places[index]
        return _row(self.files[file], position)


def open_records(paths: list[Path], tasks: tuple[str, ...]) -> MadeRecords:
    """Whole-page records of folders that engines wrote, or of .jsonl or .parquet files."""
    files = tuple(itertools.chain.from_iterable(map(_files, paths)))
    places = []
    for number, file in enumerate(files):
        listed = _parquet_places(file, tasks) if file.suffix == ".parquet" else _jsonl_places(file, tasks)
        places += [(number, position) for position in listed]
    if not places:
        named = ", ".join(map(str, paths))
        raise NoPagesError(f"--records {named}: no whole page of the task {' or '.join(tasks)} in it")
    return MadeRecords(files, tuple(places))


def by_task(paths: list[Path], tasks: tuple[str, ...]) -> tuple[MadeRecords, ...]:
    """As open_records, apart for every task that has any."""
    open_records(paths, tasks)  # refuses where none has
    result = []
    for task in tasks:
        with suppress(NoPagesError):
            result.append(open_records(paths, (task,)))
    return tuple(result)


def fingerprint(records: MadeRecords) -> list[str]:
    """What tells the files from others of the same name: their sizes, and how many records are used."""
    sizes = [f"{file.parent.name}/{file.name} {file.stat().st_size}" for file in records.files]
    return [*sizes, f"{len(records)} records"]


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        shards = sorted(path.glob("*.parquet"))
        files = shards or sorted(path.glob("records.jsonl"))
        if not files:
            raise DataError(
                f"--records {path}: neither *.parquet nor records.jsonl; expected a folder of records"
            )
        return files
    if not path.is_file() or path.suffix not in (".parquet", ".jsonl"):
        raise DataError(f"--records {path}: no such folder, .parquet or .jsonl file; name what was written")
    return [path]


def _fits(row: dict[str, Any], tasks: tuple[str, ...]) -> bool:
    return row.get("task") in tasks and row.get("box") is None and row.get("color") is None


def _parquet_places(file: Path, tasks: tuple[str, ...]) -> list[int]:
    from pyarrow import parquet

    with parquet.ParquetFile(file) as table:
        present = [name for name in ("task", "box", "color") if name in table.schema_arrow.names]
        rows = table.read(columns=present).to_pylist()
    return [number for number, row in enumerate(rows) if _fits(row, tasks)]


def _jsonl_places(file: Path, tasks: tuple[str, ...]) -> list[int]:
    places, start = [], 0
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip() and _fits(_parsed(line, f"{file}:{number}"), tasks):
                places.append(start)
            start += len(line)
    return places


def _parsed(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where}: not JSON ({error}); expected one object a line") from None
    if (
        not isinstance(row, dict)
        or not isinstance(row.get("text"), str)
        or not isinstance(row.get("images"), list)
    ):
        raise DataError(f"{where}: not a record; expected an object with images, task and text")
    return rename_keys(row)


def _row(file: Path, position: int) -> Made:
    if file.suffix == ".parquet":
        row, where = rename_keys(_parquet_row(file, position)), f"{file}[{position}]"
        pictures = [produce.Picture(Path(image["path"]).name, image["bytes"]) for image in row["images"]]
        for name in ("char_boxes", "meta"):
            row[name] = json.loads(row.get(name) or "null")
    else:
        with file.open("rb") as lines:
            lines.seek(position)
            row, where = _parsed(lines.readline(), f"{file}, byte {position}"), f"{file}, byte {position}"
        pictures = [_read(file.parent / name, where) for name in row["images"]]
    if len(pictures) != 1:
        raise DataError(f"{where}: {len(pictures)} images; expected records of one page each")
    name = row.get("id") or Path(pictures[0].name).stem
    return Made(
        where, name, pictures[0], row["task"], row["text"], char_boxes=row.get("char_boxes") or [],
        meta=row.get("meta") or {},
    )  # fmt: skip


def _read(path: Path, where: str) -> produce.Picture:
    try:
        return produce.Picture(path.name, path.read_bytes())
    except OSError as error:
        raise DataError(f"{where}: {path}: {error.strerror}; expected a readable picture") from None


@functools.lru_cache(maxsize=8)
def _group(file: Path, number: int, changed: int) -> list[dict[str, Any]]:
    """The rows of one row group, of a file changed then; neighbours are often asked for together."""
    from pyarrow import parquet

    with parquet.ParquetFile(file) as table:
        present = [name for name in COLUMNS if name in table.schema_arrow.names]
        return table.read_row_group(number, columns=present).to_pylist()


@functools.lru_cache(maxsize=1024)
def _group_ends(file: Path, changed: int) -> tuple[int, ...]:
    from pyarrow import parquet

    with parquet.ParquetFile(file) as table:
        groups = range(table.metadata.num_row_groups)
        return tuple(itertools.accumulate(table.metadata.row_group(group).num_rows for group in groups))


def _parquet_row(file: Path, row: int) -> dict[str, Any]:
    changed = file.stat().st_mtime_ns
    ends = _group_ends(file, changed)
    group = bisect_right(ends, row)
    return dict(_group(file, group, changed)[row - (ends[group - 1] if group else 0)])
