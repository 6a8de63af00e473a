"""Workers end with the process that started them."""

import os
import subprocess
import sys
from pathlib import Path

from tests.forked_runs import gone

RUN = """
import time
from got_train.workers import in_processes
if __name__ == "__main__":
    for done in in_processes(time.sleep, [(0,)] * 32 + [(600,)] * 32, 2):
        print("begun", flush=True)
"""


def test_a_killed_evaluation_takes_its_two_busy_workers_along(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(RUN)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, script]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, start_new_session=True) as run:
        assert run.stdout.readline() == b"begun\n"
        run.kill()
        run.wait()
        assert gone(run.pid)


DEAF = """
import mmap, os, signal, multiprocessing
from got_train.workers import exit_with_parent

def wait(over, parent, queue):
    exit_with_parent(parent, lambda: over[0])
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as one that came too early for the worker's handler
    print("begun", flush=True)
    queue.get()

if __name__ == "__main__":
    over, fork = mmap.mmap(-1, 1), multiprocessing.get_context("fork")
    worker = fork.Process(target=wait, args=(over, os.getpid(), fork.Queue()), daemon=True)
    worker.start()
    input()
    over[0] = 1
"""


def test_a_worker_that_heard_no_sigterm_ends_with_its_work_though_nothing_comes_any_more(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(DEAF)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, script], env=environment, **pipes) as run:
        assert run.stdout.readline() == b"begun\n"
        run.communicate(b"\n", timeout=30)  # Python's end sends SIGTERM to the worker and joins it
        assert run.returncode == 0
