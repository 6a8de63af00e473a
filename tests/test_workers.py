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
