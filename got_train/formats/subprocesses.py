"""Programs that are given strangers' input: with limits on time, memory and what they write.

Knows processes; not what is asked of them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

LARGEST_FILE = 64 * 2**20  # bytes that a program may write into one file
# sets the limits and becomes the program: in a process of its own, for threads make preexec_fn unsafe
_LIMITED = """
import os, sys
try:
    import resource
    memory, seconds, size = map(int, sys.argv[1:4])
    if memory:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
except ImportError:
    pass
os.execvp(sys.argv[4], sys.argv[4:])
"""


@dataclass(frozen=True)
class Ended:
    """How a program ended: its code, None if its time was over, and what it said."""

    code: int | None
    out: bytes
    errors: str


def run(
    command: Sequence[str],
    *,
    seconds: float,
    folder: Path | None = None,
    memory: int = 0,
    given: bytes = b"",
    environment: dict[str, str] | None = None,
) -> Ended:
    """Run a program to its end or to the end of its time; memory in bytes, 0 for programs that reserve much.

    Only PATH and `environment` are handed on, so nothing of the user's is there to be read.
    """
    limits = [str(memory), str(int(seconds) + 1), str(LARGEST_FILE)]
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _LIMITED, *limits, *command],
        cwd=folder,
        env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", **(environment or {})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            out, errors = process.communicate(given, timeout=seconds)
            code: int | None = process.returncode
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            out, errors = process.communicate()
            code = None
    return Ended(code, out, errors.decode("utf-8", "replace"))
