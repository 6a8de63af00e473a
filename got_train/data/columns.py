"""What the columns of a file hold, by its first rows: which is the answer, and which nobody reads."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .answers import unusual_answers
from .formats import IMAGE_COLUMNS, PROMPT_COLUMNS, TEXT_COLUMNS, guess_columns, task_of_prompt
from .line_files import csv_cells, csv_delimiter, csv_row, first_bytes, forward_lines, is_csv, json_row
from .record import RecordError

SAMPLED = 200  # rows by which a column is judged
# notes of data sets, and the numbers that pandas writes, which nobody takes for a question
READ_OVER = ("id", "meta", "split", "source", "", "index", "Unnamed: 0")


def sample_rows(path: str | os.PathLike, count: int = SAMPLED) -> list[dict[str, Any]]:
    """The first rows of a file as they stand, without pictures inside; none of what has no columns."""
    path = os.fspath(path)
    suffix = Path(path).suffix.lower()
    if not os.path.isfile(path):
        return []
    try:
        if suffix == ".parquet":
            return _parquet_rows(path, count)
        return list(itertools.islice(_line_rows(path), count))
    except (RecordError, OSError, ValueError):  # who reads it as records will tell
        return []


def unused_columns(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> dict[str, list[str]]:
    """The columns of text that `columns` does not name, each with its different values."""
    names = dict.fromkeys(name for row in rows for name in row)
    used = {*columns.values(), *IMAGE_COLUMNS, *READ_OVER}
    values = {name: [row[name] for row in rows if isinstance(row.get(name), str)] for name in names}
    return {name: list(dict.fromkeys(values[name])) for name in names if name not in used and values[name]}


def unread_prompts(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> tuple[str, list[str]]:
    """The column of questions that differ from row to row and are not read, with its values; or nothing."""
    unused = unused_columns(rows, columns)
    return next(((name, unused[name]) for name in PROMPT_COLUMNS if len(unused.get(name, ())) > 1), ("", []))


def choose_columns(path: str | os.PathLike) -> dict[str, str]:
    """Which columns of a file stand for the picture, the answer and the question, by names and by values.

    Of several columns that are named like an answer it is the first whose values are text: neither the same
    in all rows nor classes, numbers or boxes. Questions are read if all are GOT's.
    """
    rows = sample_rows(path)
    names = list(dict.fromkeys(name for row in rows for name in row)) or column_names(path)
    columns = guess_columns(names)
    if not columns:
        return {}
    given = {name.lower(): name for name in reversed(names)}
    candidates = [given[name] for name in TEXT_COLUMNS if name in given and given[name] != columns["images"]]
    texts = {name: [str(row[name]) for row in rows if row.get(name) is not None] for name in candidates}
    usual = [name for name in candidates if texts[name] and not unusual_answers(texts[name])]
    columns["text"] = next(iter(usual), columns["text"])
    prompt, values = unread_prompts(rows, columns)
    if prompt and all(task_of_prompt(value) for value in values):
        columns["prompt"] = prompt
    return columns


def column_names(path: str | os.PathLike) -> list[str]:
    """The columns of a parquet or CSV file, or the keys of the first row of others."""
    path = os.fspath(path)
    if path.lower().endswith(".parquet"):
        from pyarrow import parquet

        return parquet.read_schema(path).names
    rows = sample_rows(path, 1)
    return list(rows[0]) if rows else []


def _line_rows(path: str) -> Iterator[dict[str, Any]]:
    if is_csv(path):
        delimiter = csv_delimiter(path)
        lines = forward_lines(path)
        header = csv_cells(*next(lines), delimiter)
        for location, raw in lines:
            yield csv_row(location, raw, header, delimiter)
    elif first_bytes(path).startswith(b"["):
        yield from (row for row in json.loads(Path(path).read_bytes()) if isinstance(row, dict))
    else:
        for location, raw in forward_lines(path):
            yield json_row(location, raw)


def _parquet_rows(path: str, count: int) -> list[dict[str, Any]]:
    import pyarrow
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        plain = [
            field.name
            for field in file.schema_arrow
            if not (pyarrow.types.is_nested(field.type) or pyarrow.types.is_binary(field.type))
        ]
        names = file.schema_arrow.names
        batch = next(file.iter_batches(count, columns=plain), None) if plain else None
        rows = batch.to_pylist() if batch is not None else []
    return [{**dict.fromkeys(names), **row} for row in rows]
