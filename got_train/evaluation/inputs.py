"""What is evaluated: records, benchmarks, answers that exist."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from got_train.errors import EvaluationError

from .predictions import DataFile, Prediction, data_names, json_rows, parse_prediction, records_hash


def open_data(sources: Sequence[str | os.PathLike | Mapping[str, Any]]) -> list[DataFile]:
    """The records of each file or folder; all are read once, so that a bad line stops here.

    A source is a path, or a mapping with a path and what `read_records` or a benchmark's reader takes.
    """
    options = [
        dict(source) if isinstance(source, Mapping) else {"path": os.fspath(source)} for source in sources
    ]
    paths = [settings.pop("path") for settings in options]
    return list(map(_opened, data_names(paths), paths, options))


def _opened(name: str, path: str, options: dict[str, Any]) -> DataFile:
    from got_train.data.records import read_records

    if options.get("benchmark"):
        from .benchmarks import open_benchmark

        records, notes = open_benchmark(path, **options)
    else:
        records, notes = read_records(path, **{"allow_empty": True, **options}), ()
    return DataFile(name, path, records, records_hash(records, Path(path).parent), options, notes)


def read_predictions(path: str | os.PathLike) -> list[Prediction]:
    """Predictions of a JSONL file or a JSON list, with keys prediction and reference, or answer and label.

    The latter are GOT's. task, box, color, finished and whatever else a line of ours holds may be there.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluationError(f"{path}: {error}; expected a UTF-8 file of predictions") from error
    predictions = [
        parse_prediction(row, location)
        for rows in json_rows(text, str(path))
        for row, location in _blocks(*rows)
    ]
    if not predictions:
        raise EvaluationError(f"{path}: holds no predictions; expected at least one")
    return predictions


def read_pairs(references: str, answers: str) -> list[Prediction]:
    """Predictions of two folders of .txt or .md files, by their names; a missing answer is a failure."""
    expected, predicted = _texts(references), _texts(answers)
    if strange := sorted({*predicted} - {*expected}):
        raise EvaluationError(f"{answers}: {strange[0]} has no reference in {references}")
    return [
        Prediction(text, predicted[name], id=name, location=name)
        if name in predicted
        else Prediction(text, id=name, location=name, failed=f"no {name} in {answers}")
        for name, text in expected.items()
    ]


def _texts(folder: str) -> dict[str, str]:
    """The texts of a folder by their files' names without suffix."""
    files = sorted(file for file in Path(folder).iterdir() if file.suffix in (".txt", ".md"))
    if not files:
        raise EvaluationError(f"{folder}: no .txt or .md file; expected one a page")
    if twice := [
        file for file, following in zip(files, files[1:], strict=False) if file.stem == following.stem
    ]:
        raise EvaluationError(f"{folder}: {twice[0].stem} is there twice; expected one file a page")
    return {file.stem: file.read_text(encoding="utf-8-sig").rstrip("\n") for file in files}


def _blocks(row: object, location: str) -> Iterator[tuple[object, str]]:
    """The row, or of a page of OmniDocBench its blocks that have an answer."""
    if isinstance(row, dict) and "layout_dets" in row:
        from .benchmarks import omnidocbench

        yield from ((block, location) for block in omnidocbench.blocks(row, location))
    else:
        yield row, location
