"""Serves training runs as forked children that a signal ends at a chosen moment; see test_killed.py.

Importing Paddle takes seconds, a tiny run less than one: everything is imported once, and nothing is computed
before a fork. Reads one request a line from stdin and answers one line on stdout, both JSON.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing.util
import os
import select
import signal
import sys
import time
from typing import Any

import train
from got_train.training import run, trainer  # noqa: F401 - all that train.py imports when it trains
from got_train.training.callbacks.progress import Progress

# What Python reports when it opens, makes, renames or deletes a file. safetensors writes without Python.
EVENTS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree")


class Uses:
    """Counts how often files of data and run, and those of saves under way, are used.

    At the moment that is asked for it sends the signal, or, if that is to come later, tells the parent to.
    """

    def __init__(self, request: dict[str, Any], pipe: int) -> None:
        self.request, self.pipe, self.pid = request, pipe, os.getpid()
        output_dir = request["output_dir"]
        self.folders = (
            (os.path.dirname(output_dir),),
            (f"{output_dir}/.unfinished", f"{output_dir}/.deleting"),
        )
        self.counts = [0, 0]
        sys.addaudithook(self.hear)

    def hear(self, event: str, arguments: tuple) -> None:
        if event not in EVENTS:
            return
        for which, folders in enumerate(self.folders):
            if str(arguments[0]).startswith(folders):
                self.counts[which] += 1
                if (which, self.counts[which]) == (self.request["in_save"], self.request["moment"]):
                    self.end()

    def end(self) -> None:
        with contextlib.suppress(OSError):  # in a worker, when the parent was told already
            if self.request["delay"]:
                os.write(self.pipe, b"now")
            else:
                os.kill(self.pid, self.request["signal"])


def note_losses(path: str) -> None:
    """Have every log of a loss written to a file, with all its digits."""
    show = Progress.on_log

    def on_log(self: Progress, args: Any, state: Any, control: Any, logs: dict | None = None, **kwargs: Any):
        if "loss" in (logs or {}):
            with open(path, "a") as file:
                file.write(json.dumps([state.global_step, logs["loss"], logs["learning_rate"]]) + "\n")
        show(self, args, state, control, logs, **kwargs)

    Progress.on_log = on_log


def child(request: dict[str, Any], pipe: int) -> None:
    """Train as train.py does, with what it prints in a file; never returns."""
    os.setpgid(0, 0)  # by which its workers are found when it is gone
    printed = os.open(request["printed"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(printed, 1)
    os.dup2(printed, 2)
    note_losses(request["losses"])
    uses = Uses(request, pipe)
    code = 70  # of an exception that train.py lets pass
    try:
        code = train.main(request["arguments"])
        with open(request["uses"], "w") as file:
            json.dump(uses.counts, file)
        multiprocessing.util._exit_function()  # what Python does at its end, which _exit leaves out
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def serve(request: dict[str, Any]) -> dict[str, Any]:
    """`code`: of the run's exit, or minus the signal that ended it. `left`: whether its workers went on."""
    told, pipe = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(told)
        child(request, pipe)
    os.close(pipe)
    ended = os.pidfd_open(pid)
    if ended not in select.select([told, ended], [], [])[0]:
        time.sleep(request["delay"])
        os.kill(pid, request["signal"])
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(told)
    os.close(ended)
    return {"code": code, "left": not gone(pid)}


def gone(group: int, seconds: float = 20) -> bool:
    """Whether no process of a group is left some seconds later; those that are get killed."""
    give_up = time.monotonic() + seconds
    with contextlib.suppress(ProcessLookupError):
        while time.monotonic() < give_up:
            os.killpg(group, 0)
            time.sleep(0.01)
        os.killpg(group, signal.SIGKILL)
        return False
    return True


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has background jobs ignore it
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(serve(json.loads(line))), flush=True)
