"""Rows that a run has left out because they cannot be used: a line each, however often they are drawn."""

from __future__ import annotations

import json
from pathlib import Path

from got_train.data.record import RecordError, split_message
from got_train.errors import TrainingError
from got_train.strict_files import read_text, reading, strict_json


class RejectedSamples:
    """A JSONL file of {"location": "file:line", "cause": ...}; a resumed run goes on with it.

    Each process has its own, as each meets other rows.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = read_text(path, TrainingError).splitlines(keepends=True) if path.exists() else []
        # a line without its end is one that the process was killed in; its row will be met again
        with reading(path, TrainingError):
            self._known = {strict_json(line)["location"] for line in lines if line.endswith("\n")}
        if lines and not lines[-1].endswith("\n"):
            path.write_text("".join(lines[:-1]), encoding="utf-8")

    def __len__(self) -> int:
        return len(self._known)

    def add(self, error: RecordError) -> None:
        location, cause = split_message(error)
        if location in self._known:
            return
        self._known.add(location)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"location": location, "cause": cause}, ensure_ascii=False) + "\n")
