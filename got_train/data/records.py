"""The ways to records: which reader a path needs, and how records are written.

Opens no image and knows no token.
"""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from got_train import prompts, remote_files
from got_train.images import EncodedImage, natural_order

from .formats import RowReader
from .labels.other_formats import other_format
from .labels.readers import LABEL_SUFFIXES, label_format
from .line_files import ConcatDataset, RecordFile, TextFolder, is_csv, meta_rows
from .parquet import ParquetRecords, SavedRecords, all_parquet, chosen_split, split_of_files
from .record import DataFileError, Record, RecordError, check_choice, shorten
from .streams import RecordStream

__all__ = [
    "DataFileError",
    "ConcatDataset",
    "ParquetRecords",
    "Record",
    "RecordError",
    "RecordFile",
    "RecordStream",
    "SavedRecords",
    "TextFolder",
    "as_row",
    "open_stream",
    "read_meta",
    "read_records",
    "write_records",
]

_METADATA = ("metadata.jsonl", "metadata.csv")  # of an image folder


def read_records(
    path: str | os.PathLike,
    image_root: str | os.PathLike | None = None,
    allow_empty: bool = False,
    check_files: bool = False,
    task: str | None = None,
    columns: Mapping[str, str] | None = None,
    split: str = "",
    accept_answers: Sequence[str] = (),
) -> Sequence[Record]:
    """The records of a file, folder or pattern, each read and checked when it is asked for.

    Files: lines or lists of JSON in our own form, GOT's or ms-swift's; PaddleMIX's meta JSON, which joins
    several; CSV; parquet. Folders: image folders of Hugging Face, parquet files, saved data sets, pictures
    beside .txt files. `columns` says what a record's keys are called in the rows, `task` is that of rows that
    name none, `allow_empty` admits blank pages, `check_files` looks for each image, `accept_answers` are
    kinds of unusual answers that are meant (answers.py).
    """
    options = _options(
        path,
        allow_empty=allow_empty,
        check_files=check_files,
        task=task,
        columns=columns,
        accept_answers=tuple(accept_answers),
    )
    path = os.fspath(path)
    if os.path.isdir(path):
        return _folder(path, image_root, split, options)
    files = _matches(path)
    if remote_files.is_url(path) and _are_parquet(files):
        image_root = path.rpartition("/")[0] if image_root is None else image_root
        path, files = _copies(path, files)
    if _are_parquet(files):
        return _parquet(_of_split(path, files, split), image_root, options)
    _refuse_split(path, split)
    parts = [_file(file, image_root, options) for file in files]
    return parts[0] if len(parts) == 1 else ConcatDataset(parts)


def open_stream(
    path: str | os.PathLike,
    image_root: str | os.PathLike | None = None,
    allow_empty: bool = False,
    task: str | None = None,
    columns: Mapping[str, str] | None = None,
    split: str = "",
    accept_answers: Sequence[str] = (),
) -> RecordStream:
    """The rows of JSONL or parquet files, read forward."""
    accepted = tuple(accept_answers)
    options = _options(path, allow_empty=allow_empty, task=task, columns=columns, accept_answers=accepted)
    path = os.fspath(path)
    files = _stream_files(path) if os.path.isdir(path) else _matches(path)
    tables = _are_parquet(files)
    if remote_files.is_url(path):
        image_root = path.rpartition("/")[0] if image_root is None else image_root
        path, files = _copies(path, files)
    if tables:
        files = _of_split(path, files, split)
    else:
        _refuse_split(path, split)
    for file in files:
        if not tables and Path(file).suffix.lower() not in (".jsonl", ".json"):
            raise RecordError(
                f"{file}: cannot be streamed; expected .jsonl or .parquet files, all of one kind"
            )
    return RecordStream(files, _reader(files[0], image_root, table=tables, **options))


def read_meta(
    path: str | os.PathLike,
    image_root: str | os.PathLike | None = None,
    **options: Any,
) -> dict[str, RecordFile]:
    """The data sets of a PaddleMIX meta JSON by name; the paths in it are relative to it."""
    form = '{"name": {"images": "folder/", "annotations": "file.json"}}'
    rows = meta_rows(path)
    if rows is None:
        raise RecordError(f"{path}: not a meta JSON; {form}")
    parts = {}
    for name, row in rows.items():
        location = f"{path}[{name!r}]"
        images, annotations = row.get("images", ""), row["annotations"]
        if not isinstance(images, str) or not isinstance(annotations, str):
            raise RecordError(f"{location}: {shorten(row)}; {form}")
        file = Path(path).parent / annotations
        if not file.is_file():
            raise RecordError(f"{location}: no file {file}; annotations are named relative to the meta file")
        root = Path(path).parent / images if image_root is None else image_root
        parts[name] = RecordFile(file, RowReader(root=str(root), **options))
    return parts


def write_records(path: str | os.PathLike, records: Iterable[Record]) -> int:
    """Writes JSONL with image paths relative to it and returns how many; the file appears when complete."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".tmp")
    count = 0
    try:
        with open(unfinished, "w", encoding="utf-8", newline="\n") as file:
            for record in records:
                file.write(json.dumps(as_row(record, path.parent), ensure_ascii=False) + "\n")
                count += 1
        if not count:
            raise RecordError(f"{path}: no records to write; expected at least one")
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return count


def _folder(path: str, image_root: str | os.PathLike | None, split: str, options: dict) -> Sequence[Record]:
    forms = {
        "a saved data set": _is_saved(path),
        "records.jsonl": os.path.isfile(os.path.join(path, "records.jsonl")),
        "metadata.jsonl or .csv": _metadata(path),
        "parquet files": all_parquet(path),
    }
    present = [form for form, there in forms.items() if there]
    if len(present) > 1:
        raise RecordError(f"{path}: holds {' and '.join(present)}; name one of them")
    if not present:
        _refuse_split(path, split)
        return TextFolder(path, image_root, **options)
    if present == ["a saved data set"]:
        return SavedRecords(path, _reader(path, image_root, table=True, **options), split)
    if present == ["records.jsonl"]:
        _refuse_split(path, split)
        return _file(os.path.join(path, "records.jsonl"), image_root, options)
    if present == ["parquet files"]:
        return _parquet(_of_split(path, forms["parquet files"], split), image_root, options)
    files = forms["metadata.jsonl or .csv"]
    file = files[chosen_split(path, list(files), split)]
    return RecordFile(file, _reader(file, image_root, table=True, **options))


def _file(path: str, image_root: str | os.PathLike | None, options: dict) -> Sequence[Record]:
    if path.lower().endswith(".parquet"):
        return _parquet([path], image_root, options)
    if remote_files.is_url(path):
        return RecordFile(path, _reader(path, image_root, table=is_csv(path), **options))
    if path.lower().endswith(LABEL_SUFFIXES) and (form := label_format(path)):
        raise RecordError(f"{path}: labels with positions ({form}); got convert-data makes records of them")
    if named := other_format(path):
        raise RecordError(named)
    if meta_rows(path) is not None:
        return ConcatDataset(list(read_meta(path, image_root, **options).values()))
    return RecordFile(path, _reader(path, image_root, table=is_csv(path), **options))


def _parquet(files: list[str], image_root: str | os.PathLike | None, options: dict) -> ParquetRecords:
    return ParquetRecords(files, _reader(files[0], image_root, table=True, **options))


def _reader(path: str, image_root: str | os.PathLike | None, **options: Any) -> RowReader:
    folder = path if os.path.isdir(path) else os.path.dirname(path)
    return RowReader(root=folder if image_root is None else os.fspath(image_root), **options)


def _options(path: str | os.PathLike, **options: Any) -> dict[str, Any]:
    """What a RowReader takes, without what is not given."""
    if options["task"]:
        check_choice(str(path), "task", options["task"], prompts.TASKS)
    return {key: value for key, value in options.items() if value}


def _matches(path: str) -> list[str]:
    """The files of a pattern such as shards/*.parquet, in natural order; a plain path is itself."""
    if os.path.exists(path) or not glob.has_magic(path):
        return [path]
    if remote_files.is_url(path):
        files = sorted(remote_files.cache().matches(path), key=natural_order)
    else:
        files = sorted(filter(os.path.isfile, glob.glob(path, recursive=True)), key=natural_order)
    if not files:
        raise RecordError(f"{path}: no file fits this pattern; use one such as shards/*.parquet")
    return files


def _copies(path: str, files: list[str]) -> tuple[str, list[str]]:
    """Of files of a store, with what stands for their path."""
    copies = [str(remote_files.cache().data_file(file)) for file in files]
    return copies[0] if len(copies) == 1 else path, copies


def _metadata(folder: str) -> dict[str, str]:
    """The metadata file of an image folder, or of each of its splits, which are its sub-folders."""
    files = {}
    for split in ("", *sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())):
        for name in _METADATA:
            path = os.path.join(folder, split, name)
            if os.path.isfile(path):
                if split in files:
                    raise RecordError(f"{folder}: both {' and '.join(_METADATA)}; keep one: one of them")
                files[split] = path
    return {"": files[""]} if "" in files else files


def _is_saved(folder: str) -> bool:
    return any(os.path.isfile(os.path.join(folder, name)) for name in ("dataset_dict.json", "state.json"))


def _stream_files(folder: str) -> list[str]:
    lines, tables = os.path.join(folder, "records.jsonl"), all_parquet(folder)
    if os.path.isfile(lines) == bool(tables):
        raise RecordError(f"{folder}: cannot be streamed; expected records.jsonl, or parquet files")
    return tables or [lines]


def _are_parquet(files: Sequence[str]) -> bool:
    return all(file.lower().endswith(".parquet") for file in files)


def _of_split(path: str, files: list[str], split: str) -> list[str]:
    folder = (
        path
        if os.path.isdir(path)
        else os.path.commonpath([os.path.dirname(os.path.abspath(file)) for file in files])
    )
    return split_of_files(folder, files, split)


def _refuse_split(path: str, split: str) -> None:
    if split:
        raise RecordError(f"{path}: split {split!r} of data without splits; leave it out")


def name_from(folder: str | os.PathLike, image: str | os.PathLike) -> str:
    """A path as a file in that folder names it: relative, so that both can be moved together; or absolute
    where they have no folder in common, so that the file alone can.
    """
    try:
        shared = os.path.commonpath([os.path.abspath(image), os.path.abspath(folder)])
    except ValueError:  # two drives
        return Path(os.path.abspath(image)).as_posix()
    if shared == os.path.dirname(shared):
        return Path(os.path.abspath(image)).as_posix()
    return Path(os.path.relpath(image, folder)).as_posix()


def as_row(record: Record, folder: Path) -> dict:
    """A record in our own form, its images named from the folder of its file."""
    inside = next((image for image in record.images if isinstance(image, EncodedImage)), None)
    if inside is not None:
        raise RecordError(
            f"{record.location}: image {inside} is inside its file; save it, a line can only name it"
        )
    row = {
        "images": [name_from(folder, image) for image in record.images],
        "task": record.task,
        "text": record.text,
    }
    if record.box is not None:
        row["box"] = list(record.box)
    if record.color is not None:
        row["color"] = record.color
    if record.box_unit != "pixel":
        row["box_unit"] = record.box_unit
    if record.document:
        row["document"] = record.document
    if record.rejected:
        row["rejected"] = record.rejected
    if record.char_boxes:
        row["char_boxes"] = [list(char_box) for char_box in record.char_boxes]
    return row
