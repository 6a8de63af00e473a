"""Files of object stores by their URLs (s3://, gs://, https://, memory://), through fsspec.

Each is copied once into a folder of bounded size and read from there. A store that fails is asked again, a
few times; one that is silent is given up. Files are taken to stay as they are while a run lasts.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .errors import DataError

_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)  # not C:\
PICTURES, DATA = "pictures", "data"
CHUNK = 1 << 20
SLACK = 20  # a process looks at the folder's size whenever it has added a part of so many of it
FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, ImportError, ValueError)


class RemoteError(DataError):
    """A file of a store that cannot be read, named by its URL."""


def is_url(path: object) -> bool:
    return isinstance(path, str) and _URL.match(path) is not None


def join(root: str, name: str) -> str:
    """A picture's path below the folder of its data file; URLs and absolute paths stand for themselves."""
    if is_url(name):
        return name
    return f"{root.rstrip('/')}/{name}" if is_url(root) else os.path.join(root, name)


@dataclass(frozen=True)
class RemoteCache:
    """Copies of files; of pictures the longest unused leave when there are more than `max_bytes` of them.

    Data files stay, as their rows are found by places. Several processes may share the folder.
    """

    folder: Path = Path.home() / ".cache" / "got_train" / "remote"
    max_bytes: int = 10 << 30
    attempts: int = 4
    wait: float = 1.0  # seconds before the second attempt, twice as long before each further one
    silence: float = 60.0  # seconds without a byte after which an attempt is given up
    _added: dict[int, int] = field(default_factory=dict, compare=False)  # bytes by process, since it looked

    def read(self, url: str) -> io.BytesIO:
        """A picture, called by its URL."""
        path = self.folder / PICTURES / _key(url)
        try:
            data = path.read_bytes()
            with contextlib.suppress(OSError):
                os.utime(path)  # used just now
        except OSError:  # not here, or left for others meanwhile
            self._copy(url, path)
            data = path.read_bytes()
            self._make_room(len(data))
        opened = _Named(data)
        opened.name = url
        return opened

    def data_file(self, url: str) -> Path:
        """The copy of a data file as it is in the store now."""
        path = self.folder / DATA / _key(f"{url} {self.stamp(url)}") / url.rstrip("/").rpartition("/")[2]
        if not path.exists():
            self._copy(url, path)
        return path

    def stamp(self, url: str) -> str:
        """What tells a file from a changed one: its size, and what the store says of its content or time."""
        info = self._asked(url, lambda system, path: system.info(path))
        if info.get("type") == "directory":
            raise RemoteError(f"{url}: a folder of a store; name a file, or a pattern like {url}/*.parquet")
        keys = ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "mtime", "created")
        return " ".join(str(info[key]) for key in ("size", *keys) if info.get(key) is not None)

    def matches(self, pattern: str) -> list[str]:
        """The URLs that fit a pattern."""
        paths = self._asked(pattern, lambda system, path: system.glob(path))
        protocol = pattern.partition("://")[0]
        return [url if is_url(url) else f"{protocol}://{url.lstrip('/')}" for url in paths]

    def exists(self, url: str) -> bool:
        return self._asked(url, lambda system, path: system.exists(path))

    def _copy(self, url: str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")

        def copy(system: Any, remote: str, moved: Callable[[], None]) -> None:
            with system.open(remote, "rb") as source, open(unfinished, "wb") as copied:
                while chunk := source.read(CHUNK):
                    copied.write(chunk)
                    moved()

        try:
            self._retried(url, copy)
            os.replace(unfinished, path)
        except OSError as error:
            raise RemoteError(f"{path}: {error.strerror}; room for the copy of {url}") from error
        finally:
            unfinished.unlink(missing_ok=True)

    def _asked(self, url: str, question: Callable[[Any, str], Any]) -> Any:
        answer = []
        self._retried(url, lambda system, path, moved: answer.append(question(system, path)))
        return answer[-1]

    def _retried(self, url: str, work: Callable[[Any, str, Callable[[], None]], None]) -> None:
        for attempt in range(1, self.attempts + 1):
            try:
                self._watched(url, work)
                return
            except FINAL as error:
                raise RemoteError(f"{url}: {_told(error)}") from error
            except Exception as error:  # a store's own exceptions are many
                if attempt == self.attempts:
                    what = f"not read in {attempt} attempts, at last {_told(error)}"
                    raise RemoteError(
                        f"{url}: {what}; look at the store, the network and your keys"
                    ) from error
                time.sleep(self.wait * 2 ** (attempt - 1))

    def _watched(self, url: str, work: Callable[[Any, str, Callable[[], None]], None]) -> None:
        """In a thread, as a socket that is silent cannot be told to stop; it is left behind then."""
        import fsspec

        last, failed, done = [time.monotonic()], [], threading.Event()

        def run() -> None:
            try:
                system, path = fsspec.core.url_to_fs(url)
                work(system, path, lambda: last.__setitem__(0, time.monotonic()))
            except BaseException as error:
                failed.append(error)
            finally:
                done.set()

        threading.Thread(target=run, daemon=True).start()
        while not done.wait(min(1.0, self.silence / 4)):
            if time.monotonic() - last[0] > self.silence:
                raise TimeoutError(f"silence of {self.silence:g} seconds")
        if failed:
            raise failed[0]

    def _make_room(self, size: int) -> None:
        added = self._added.get(os.getpid(), self.max_bytes) + size
        self._added[os.getpid()] = added
        if added < self.max_bytes // SLACK:
            return
        self._added[os.getpid()] = 0
        files = []
        for entry in os.scandir(self.folder / PICTURES):
            with contextlib.suppress(OSError):  # another process makes room, too
                files.append((entry.stat().st_mtime, entry.stat().st_size, entry.path))
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= self.max_bytes - self.max_bytes // SLACK:
                break
            with contextlib.suppress(OSError):
                os.unlink(path)
            total -= size


class _Named(io.BytesIO):
    name = ""


def _key(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:40]


def _told(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file in the store"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


_cache = RemoteCache()


def cache() -> RemoteCache:
    """That of this process."""
    return _cache


def configure(folder: str = "", max_gigabytes: float = 0.0) -> None:
    """Where copies stand from now on, and how much of pictures; what is not given keeps its default."""
    global _cache
    _cache = RemoteCache()
    if folder:
        _cache = replace(_cache, folder=Path(folder))
    if max_gigabytes:
        _cache = replace(_cache, max_bytes=round(max_gigabytes * 2**30))
