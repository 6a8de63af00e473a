"""One owner for a folder: a lock that the system gives back when its process ends, however it ends.

Beside it stands who holds it, for the message to whoever comes second. Knows no format of ours.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from pathlib import Path

from .atomic_write import write_atomic
from .errors import GotError
from .strict_files import read_json

LOCK_FILE, OWNER_FILE = ".lock", ".owner.json"


class FolderLock:
    """Held from `acquire` to `release`; `check` tells when the folder was deleted or replaced meanwhile."""

    def __init__(
        self, folder: str | os.PathLike, key: str, error: type[GotError], lost: type[GotError] | None = None
    ) -> None:
        """`key` is the setting that names the folder; `error` refuses it, `lost` ends what goes on in it."""
        self.folder, self.key, self.error, self.lost = Path(folder), key, error, lost or error
        self._lock = None
        self._identity: tuple[int, int] | None = None

    def acquire(self) -> None:
        """Refuses a folder that another living process holds; a lock that a killed one left is taken."""
        from filelock import FileLock, Timeout

        self.folder.mkdir(parents=True, exist_ok=True)
        self.remember()
        lock = FileLock(self.folder / LOCK_FILE, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise self.error(
                f"{self.key} {self.folder}: in use by {self.owner()}; wait for its end, or use another folder"
            ) from None
        except NotImplementedError:  # a file system without locks
            return
        self._lock = lock
        owner = {"process": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%F %T %z")}
        write_atomic(self.folder / OWNER_FILE, json.dumps(owner) + "\n")

    def owner(self) -> str:
        """Who holds the folder, in words."""
        with contextlib.suppress(GotError, OSError):
            owner = read_json(self.folder / OWNER_FILE)
            return f"process {owner.get('process')} on {owner.get('host')} since {owner.get('since')}"
        return "another process"

    def refuse_if_held(self) -> None:
        """As acquire would, without taking it; for a dry run."""
        if (self.folder / LOCK_FILE).exists():
            self.acquire()
            self.release()

    def remember(self) -> None:
        """To be called by a process that works in the folder and does not hold it."""
        state = os.stat(self.folder)
        self._identity = state.st_dev, state.st_ino

    def check(self) -> None:
        """Refuse to go on in a folder that is no longer the one that was begun in."""
        try:
            state = os.stat(self.folder)
        except OSError:
            state = None
        if state is None or (state.st_dev, state.st_ino) != self._identity:
            what = "was deleted" if state is None else "was deleted and made again"
            raise self.lost(f"{self.key} {self.folder}: {what} while it was in use; start again")

    def release(self) -> None:
        if self._lock is not None:
            with contextlib.suppress(OSError):
                (self.folder / OWNER_FILE).unlink(missing_ok=True)
            self._lock.release()
            self._lock = None
