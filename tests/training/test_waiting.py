"""The share of time that a run waits for its batches, beside pauses of known length."""

import time

import pytest

from got_train.config.loader import load_config
from got_train.training import run
from got_train.training.loader import WAITING

PAUSE = 0.05  # seconds; a step of the small run computes for about half of one


class Slow:
    """A collator that takes its time over every sample."""

    def __init__(self, collator):
        self.collator = collator

    def __getattr__(self, name):
        return getattr(self.collator, name)

    def sample(self, record):
        time.sleep(PAUSE)
        return self.collator.sample(record)


def built(tiny_run, *overrides):
    return run.build_trainer(load_config(tiny_run(), overrides))


def test_a_run_with_a_slow_collator_logs_that_it_waits_most_of_the_time(tiny_run, tmp_path, capsys):
    from visualdl import LogReader

    made = built(tiny_run, "train.max_steps=3")
    made.loader.collator = Slow(made.loader.collator)
    made.train()
    (file,) = (tmp_path / "run" / "visualdl").iterdir()
    seen = LogReader(file_path=str(file)).get_data("scalar", f"train/{WAITING}")
    assert [row.id for row in seen] == [1, 2, 3]
    assert all(0.6 < row.value <= 1 for row in seen[1:]), seen  # 0.4 s of pauses a step
    shown = [line for line in capsys.readouterr().err.splitlines() if line.startswith("step ")]
    assert len(shown) == 3
    assert f", waits {100 * seen[2].value:.0f} %, " in shown[2]


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_that_are_ready_before_they_are_asked_for_are_not_waited_for(tiny_run, workers):
    loader = built(tiny_run, f"data.num_workers={workers}").loader
    batches = iter(loader)
    next(batches)
    loader.fraction_waiting()  # the start of a worker
    for _ in range(4):
        time.sleep(8 * PAUSE)  # the model's work
        next(batches)
    assert loader.fraction_waiting() < 0.3
    assert loader.fraction_waiting() == 0  # of the time since it was last asked


def test_one_slow_worker_is_waited_for_while_the_model_has_nothing_to_do(tiny_run):
    loader = built(tiny_run, "data.num_workers=1").loader
    loader.collator = Slow(loader.collator)
    assert sum(1 for _ in loader) == 6
    assert loader.fraction_waiting() > 0.6
