"""What a reading job has done, in its output folder, so that a killed one goes on where it was.

One line a page, appended once the page's files are written. Knows rows and files; knows no model.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from got_train.errors import InferenceError
from got_train.folder_lock import FolderLock
from got_train.strict_files import strict_json

from .pages import Page

PROGRESS_FILE = "journal.jsonl"


class ProgressFile:
    """The first line holds the settings that the answers depend on, each other one a page that was read.

    A page whose file has changed since counts as unread. Failures are not kept, so they are tried again.
    Texts stay on the disk: of each page the memory holds the place of its row only.
    """

    def __init__(self, folder: str | os.PathLike, settings: dict[str, Any]) -> None:
        self.path = Path(folder) / PROGRESS_FILE
        self.settings = settings
        self._lock = FolderLock(folder, "--output-dir", InferenceError)
        self._places: dict[str, int] = {}  # where the row of a page begins
        self._stamps: dict[str, list] = {}
        self._begun: dict[str, list] = {}  # stamps of pages that are being read

    def __enter__(self) -> ProgressFile:
        self._lock.acquire()
        try:
            self._file = open(self.path, "a+b")
            self._recover()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._lock.release()

    def has(self, pages: Sequence[Page]) -> bool:
        key = _key(pages)
        try:
            return key in self._places and self._stamps[key] == _stamp(pages)
        except OSError:  # the file is gone; opening it will tell
            return False

    def begin(self, pages: Sequence[Page]) -> None:
        """To be told before a page is opened: one that changes while it is read is read again."""
        with contextlib.suppress(OSError):  # the file is gone; opening it will tell
            self._begun[_key(pages)] = _stamp(pages)

    def add(self, pages: Sequence[Page], row: dict[str, Any]) -> None:
        """The row of a page that was begun, and whose files are there."""
        self._lock.check()
        key = _key(pages)
        stamp = self._begun.pop(key, [])
        self._places[key] = self._file.seek(0, os.SEEK_END)
        self._stamps[key] = stamp
        self._write({"key": key, "stamp": stamp, **row})

    def row(self, pages: Sequence[Page]) -> dict[str, Any] | None:
        """What was added for a page; None if it was not."""
        if not self.has(pages):
            return None
        self._file.seek(self._places[_key(pages)])
        return strict_json(self._file.readline())

    def _recover(self) -> None:
        """Learns what is done. A line that a killed job left unfinished is cut off."""
        self._file.seek(0)
        whole = 0
        for offset, line in _lines(self._file):
            row = _parsed(line, self.path)
            if row is None:
                break
            if offset == 0:
                self._check(row)
            elif not {"key", "stamp"} <= row.keys():
                raise InferenceError(
                    f"{self.path}: {line[:40]!r} is not the row of a page; move the file away"
                )
            else:
                self._places[row["key"]], self._stamps[row["key"]] = offset, row["stamp"]
            whole = offset + len(line)
        self._file.truncate(whole)
        if not whole:
            self._write({"settings": self.settings})

    def _check(self, row: dict[str, Any]) -> None:
        before = row.get("settings")
        if not isinstance(before, dict):
            raise InferenceError(
                f"{self.path}:1: no settings, so it may be another program's; use another folder"
            )
        for name in {**before, **self.settings}:
            old, new = before.get(name), self.settings.get(name)
            if old != new:
                raise InferenceError(
                    f"{self.path}: read with {name} {json.dumps(old)}, now {json.dumps(new)}; use another "
                    "--output-dir, or the same settings to go on"
                )

    def _write(self, row: dict[str, Any]) -> None:
        # a file's name need not be UTF-8: what of it is not becomes an escape of JSON
        self._file.write(json.dumps(row, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def _lines(file: Any) -> Iterator[tuple[int, bytes]]:
    offset = 0
    for line in file:
        yield offset, line
        offset += len(line)


def _parsed(line: bytes, path: Path) -> dict[str, Any] | None:
    """The row of a line; None for the beginning of one."""
    if not line.endswith(b"\n"):
        return None
    try:
        row = strict_json(line)
    except (ValueError, RecursionError) as error:
        raise InferenceError(f"{path}: {line[:40]!r} is not a row ({error}); move the file away") from error
    if not isinstance(row, dict):
        raise InferenceError(f"{path}: {line[:40]!r} is not a row; move the file away to read all again")
    return row


def _key(pages: Sequence[Page]) -> str:
    return json.dumps([[os.path.abspath(str(page.file)), page.number] for page in pages], ensure_ascii=False)


def _stamp(pages: Sequence[Page]) -> list[list[int]]:
    """Size and time of every file, by which a change is seen."""
    stamps = []
    for file in dict.fromkeys(str(page.file) for page in pages):
        state = os.stat(file)
        stamps.append([state.st_size, state.st_mtime_ns])
    return stamps
