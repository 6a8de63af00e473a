"""Answers and rows as benchmarks keep them: a folder with a text for each page, a JSON list."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from got_train.errors import EvaluationError
from got_train.strict_files import strict_json


def read_folder(path: str, names: Sequence[str]) -> list[str | None]:
    """The texts of a folder's files with these stems; None for those that are not there."""
    folder = Path(path)
    if not folder.is_dir():
        raise EvaluationError(f"{path}: not a folder; expected one with a file {names[0]}.md and so on")
    texts = []
    for name in names:
        files = [folder / f"{name}{suffix}" for suffix in (".txt", ".md")]
        file = next((file for file in files if file.is_file()), None)
        texts.append(None if file is None else file.read_text(encoding="utf-8"))
    if not any(text is not None for text in texts):
        raise EvaluationError(f"{path}: no answer to any row; expected files such as {names[0]}.md")
    return texts


def read_rows(path: str | Path, keys: Sequence[str], expected: str) -> list[dict[str, Any]]:
    """The objects of a JSON list, each of which has these keys; `expected` says in words what file it is."""
    try:
        rows = strict_json(Path(path).read_text(encoding="utf-8-sig"), allow_nan=True)
    except (OSError, ValueError) as error:
        raise EvaluationError(f"{path}: not JSON: {error}; expected {expected}") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) and {*keys} <= {*row} for row in rows):
        named = f" with {', '.join(keys)}" if keys else ""
        raise EvaluationError(f"{path}: not a list of rows{named}; expected {expected}")
    return rows
