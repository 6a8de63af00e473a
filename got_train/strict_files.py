"""Files that somebody else wrote: regular ones only, JSON without double keys, faults under the file's name.

Checkpoints, configs, tokenizers, adapters and journals are read through here. Knows no format of ours.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from .errors import CheckpointError, GotError

MAX_JSON_BYTES = 256 << 20  # tokenizer.json of the largest vocabularies has 20 MB
_TYPES = {
    stat.S_ISDIR: "a folder",
    stat.S_ISFIFO: "a FIFO",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
    stat.S_ISSOCK: "a socket",
}


@contextlib.contextmanager
def reading(path: str | os.PathLike, error: type[GotError] = CheckpointError) -> Iterator[None]:
    """Whatever goes wrong in here is this file's fault, and its message says so: no traceback."""
    try:
        yield
    except GotError as fault:
        if str(path) in str(fault):
            raise
        raise type(fault)(f"{path}: {fault}") from fault
    except OSError as fault:
        if fault.errno is None:  # a message of our own
            raise
        raise error(f"{path}: cannot be read ({fault.strerror})") from fault
    except Exception as fault:
        raise error(f"{path}: {explain(fault)}") from fault


def explain(fault: Exception) -> str:
    """An exception of Python or a library in words, on one line."""
    if isinstance(fault, MemoryError):
        return "asks for more memory than there is"
    if isinstance(fault, RecursionError):
        return "is nested too deeply"
    if isinstance(fault, KeyError):
        return f"no {fault}"
    if isinstance(fault, UnicodeDecodeError):
        return f"is not UTF-8 ({fault}); save it as UTF-8"
    return " ".join(str(fault).split())[:300] or type(fault).__name__


def open_regular(path: str | os.PathLike, error: type[GotError] = CheckpointError) -> BinaryIO:
    """Open a file for reading; a FIFO, on which open would wait for ever, or a device is refused."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        kind = next((name for test, name in _TYPES.items() if test(mode)), "no file")
        raise error(f"{path}: is {kind}; expected a regular file")
    return os.fdopen(descriptor, "rb")


def read_bytes(
    path: str | os.PathLike, error: type[GotError] = CheckpointError, max_bytes: int = MAX_JSON_BYTES
) -> bytes:
    with reading(path, error), open_regular(path, error) as file:
        content = file.read(max_bytes + 1)
        if len(content) > max_bytes:
            raise error(f"{path}: has more than {max_bytes:,} bytes; expected a smaller file")
        return content


def read_text(path: str | os.PathLike, error: type[GotError] = CheckpointError) -> str:
    with reading(path, error):
        return read_bytes(path, error).decode("utf-8")


def read_json(
    path: str | os.PathLike,
    error: type[GotError] = CheckpointError,
    kind: type = dict,
    allow_nan: bool = False,
) -> Any:
    """The value of a JSON file, which must be an object, or a list with `kind=list`."""
    text = read_text(path, error)
    try:
        value = strict_json(text, allow_nan)
    except (ValueError, RecursionError) as fault:
        raise error(f"{path}: invalid JSON ({explain(fault)}); expected a whole JSON file") from fault
    if not isinstance(value, kind):
        expected = {dict: "an object", list: "a list"}[kind]
        raise error(f"{path}: holds a {type(value).__name__}; expected {expected}")
    return value


def read_lines(
    path: str | os.PathLike, error: type[GotError], allow_nan: bool = False
) -> Iterator[dict[str, Any]]:
    """The rows of a log of JSON lines; the half line that a killed process leaves at its end is none."""
    whole, _, _ = Path(path).read_text(encoding="utf-8", errors="replace").rpartition("\n")
    for number, line in enumerate(whole.split("\n"), 1):
        try:
            if line:
                yield strict_json(line, allow_nan)
        except ValueError as fault:
            raise error(f"{path}:{number}: not JSON ({fault}); take the line out") from fault


def strict_json(text: str | bytes, allow_nan: bool = False) -> Any:
    """json.loads, but a key that stands twice in an object is refused, and so is NaN. Raises ValueError."""
    settings: dict[str, Callable] = {} if allow_nan else {"parse_constant": _refuse_constant}
    try:
        return json.loads(text, object_pairs_hook=unique_keys, **settings)
    except RecursionError as error:
        raise ValueError(explain(error)) from error


def unique_keys(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object's keys and values; json would keep the last of two equal keys and drop the first."""
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} stands twice; keep one of them")
    return values


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def is_file_name(name: object) -> bool:
    """Whether a value that a file holds can be the name of a file beside it."""
    if not isinstance(name, str) or name in ("", ".", "..") or name != os.path.basename(name) or "\0" in name:
        return False
    try:
        return len(name.encode("utf-8")) <= 255  # half a character is no text
    except UnicodeEncodeError:
        return False


def check_inside(path: Path, folder: Path) -> None:
    """Refuse a file that a name or a link takes out of its folder.

    The cache of the hub is allowed for: its snapshots are links into the folder `blobs` beside them.
    """
    home, target = folder.resolve(), path.resolve()
    in_hub_cache = target.parent.name == "blobs" and target.parent.parent in home.parents
    if not (target.is_relative_to(home) or in_hub_cache):
        raise CheckpointError(f"{path}: leads out of {folder} to {target}; copy the file into the folder")


def printable(text: object) -> str:
    """A file's name on one line, as it may be printed: what steers a terminal or turns text is escaped."""
    return "".join(
        letter.encode("unicode_escape", "backslashreplace").decode() if _is_control(letter) else letter
        for letter in str(text)
    )


def printable_lines(text: str) -> str:
    """The same of a text with lines of its own."""
    return "\n".join(map(printable, text.split("\n")))


def _is_control(letter: str) -> bool:
    category = unicodedata.category(letter)
    return category[0] == "C" or category in ("Zl", "Zp")
