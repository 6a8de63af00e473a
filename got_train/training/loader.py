"""The batches of a run, step by step, from any step on.

Every batch knows how many supervised tokens its whole step has (all micro-batches, all processes), so that
the trainer can divide by it. An unusable record ends the run in the main process, with file:line; an
exception inside paddle.io.DataLoader hangs it without workers and loses its cause with them (paddle 3.3.1).
"""

from __future__ import annotations

import itertools
import mmap
import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.pool import ExceptionWithTraceback
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from got_train import workers as processes
from got_train.data.collator import Collator, Sample
from got_train.data.mixture import Mixture
from got_train.data.record import location_of
from got_train.data.records import DataFileError, RecordError
from got_train.errors import ConfigError, TrainingError
from got_train.modeling.config import IGNORED

from .ledger import DROPPED, record_checksum
from .rejected_samples import RejectedSamples

FAULTS, CHECKSUMS, INDICES = "faults", "checksums", "indices"  # in a batch, beside its tensors
WAITING = "waiting_for_data"  # in the log: the fraction of time that the model had no batch
PREFETCH_FACTOR = 2  # micro-batches that a worker is asked for beforehand, Paddle's default


class WorkerError(TrainingError, RuntimeError):
    """A process of data.num_workers that died."""


@dataclass(frozen=True)
class BatchSchedule:
    """Which samples of the mixture every micro-batch of every process takes."""

    steps: int
    batch_size: int  # of the step, over all processes
    micro_batch_size: int
    rank: int = 0
    ranks: int = 1
    updates: int = 1  # steps that take the same samples (rl.updates)

    def __post_init__(self) -> None:
        if self.batch_size % (self.micro_batch_size * self.ranks):
            raise ConfigError(
                f"train.batch_size ({self.batch_size}) must be a multiple of "
                f"train.per_device_train_batch_size "
                f"({self.micro_batch_size}) times the processes ({self.ranks})"
            )

    @property
    def accumulation(self) -> int:
        return self.batch_size // (self.micro_batch_size * self.ranks)

    def sample_indices(self, step: int, micro: int) -> range:
        """One step's samples are the same however many processes share them."""
        first = (
            step // self.updates * self.batch_size + (micro * self.ranks + self.rank) * self.micro_batch_size
        )
        return range(first, first + self.micro_batch_size)


class _SampleDataset(paddle.io.Dataset):
    """Index -> (sample, checksum of its record); a fault travels in the sample's place."""

    def __init__(self, mixture: Mixture, collator: Collator) -> None:
        self.mixture, self.collator = mixture, collator

    def __getitem__(self, index: int) -> tuple[Sample | ExceptionWithTraceback, int]:
        try:
            record = self.mixture[index]
            sample = self.collator.sample(record)
            return sample, record_checksum(record, sample.labels[sample.labels != IGNORED])
        except Exception as error:
            return ExceptionWithTraceback(error, error.__traceback__), DROPPED

    def collate(self, items: list[tuple[Sample | ExceptionWithTraceback, int]]) -> dict[str, Any]:
        """The batch of the usable samples, with the faults of the others."""
        faults = [sample for sample, _ in items if isinstance(sample, ExceptionWithTraceback)]
        samples = [sample for sample, _ in items if not isinstance(sample, ExceptionWithTraceback)]
        batch = self.collator.batch(samples or [self.collator.blank()])
        batch[CHECKSUMS] = np.array([checksum for _, checksum in items], dtype=np.int64)
        return {**batch, FAULTS: faults} if faults else batch


class StepLoader:
    """The micro-batches from step `start` on as dicts of tensors, with indices, checksums, the step's counts.

    A row that cannot be used ends the run, or with a `rejected` is written there and missing in its batch.
    """

    def __init__(
        self,
        mixture: Mixture,
        collator: Collator,
        schedule: BatchSchedule,
        workers: int = 0,
        rejected: RejectedSamples | None = None,
    ) -> None:
        self.mixture, self.collator, self.schedule, self.workers = mixture, collator, schedule, workers
        self.rejected = rejected
        self.start = 0
        self.tokens = 0  # supervised ones handed out, of all processes
        self._waited = 0.0  # seconds spent waiting for batches since fraction_waiting was last called
        self._asked_at = time.monotonic()  # when that was

    def __len__(self) -> int:
        return self.schedule.steps * self.schedule.accumulation

    def __iter__(self) -> Iterator[dict]:
        batches = self._from_workers() if self.workers else self._from_this_process()
        self.fraction_waiting()  # what was before the run does not count
        try:
            for step in range(self.start, self.schedule.steps):
                micros = [self._usable(self._next(batches)) for _ in range(self.schedule.accumulation)]
                if step == self.schedule.steps - 1:
                    next(batches, None)  # the end, at which the workers go; the trainer asks no further
                micros, counts = self.prepare(step, micros)
                for micro, batch in enumerate(micros):
                    checksums = batch[CHECKSUMS].tolist()
                    indices = self.schedule.sample_indices(step, micro)
                    yield {**batch, **counts, CHECKSUMS: checksums, INDICES: indices}
        finally:
            batches.close()  # now, not while Python ends, when no thread can tell the workers any more

    def prepare(self, step: int, micros: list[dict]) -> tuple[list[dict], dict[str, Any]]:
        """The micro-batches of a step as they are trained on, and what all of them share."""
        counts = self._step_counts(micros)
        self.tokens += counts["step_tokens"]
        return micros, counts

    def save(self, folder: Path, step: int) -> None:
        """What a run that goes on after `step` needs beside its number: nothing here."""

    def load(self, checkpoint: Path, step: int) -> None:
        """Take up what `save` has left."""

    def fraction_waiting(self) -> float:
        """Of the time since this was last asked, how much the run stood still until it had its batches.

        Without workers all the making of a batch is waiting.
        """
        now = time.monotonic()
        fraction = self._waited / max(now - self._asked_at, 1e-9)
        self._waited, self._asked_at = 0.0, now
        return fraction

    def _next(self, batches: Iterator[dict]) -> dict:
        started = time.monotonic()
        batch = next(batches)
        self._waited += time.monotonic() - started
        return batch

    def locations(self, indices: list[range]) -> list[str]:
        """file:line of each."""
        return [location_of(self.mixture, index) for micro_batch in indices for index in micro_batch]

    def dead_worker(self, step: int, error: Exception) -> WorkerError:
        """What to say when a worker has died after `step` steps, of a row that was on its way."""
        under_way = itertools.islice(self._schedule_from(step), 1 + PREFETCH_FACTOR * self.workers)
        rows = first_few(self.locations(list(under_way)), most=32)
        cause = next(line for line in str(error).splitlines() if "DataLoader" in line).strip()
        return WorkerError(
            f"step {step + 1}: a process of data.num_workers died ({cause}); killed for want of memory, "
            f"or by a picture that was on its way: rows {rows}"
        )

    def _schedule_from(self, start: int) -> Iterator[range]:
        """The sample indices of one micro-batch after another."""
        for step in range(start, self.schedule.steps):
            for micro in range(self.schedule.accumulation):
                yield self.schedule.sample_indices(step, micro)

    def _from_this_process(self) -> Iterator[dict]:
        samples = _SampleDataset(self.mixture, self.collator)
        for indices in self._schedule_from(self.start):
            batch = samples.collate([samples[index] for index in indices])
            faults = {FAULTS: batch.pop(FAULTS)} if FAULTS in batch else {}
            yield {name: paddle.to_tensor(array) for name, array in batch.items()} | faults

    def _from_workers(self) -> Iterator[dict]:
        samples = _SampleDataset(self.mixture, self.collator)
        run_is_over = mmap.mmap(-1, 1)  # a byte shared with the workers
        # set to 1 before Python ends and joins its children
        Finalize(self, run_is_over.__setitem__, (0, 1), exitpriority=1)
        loader = paddle.io.DataLoader(
            samples,
            batch_sampler=map(list, self._schedule_from(self.start)),
            collate_fn=samples.collate,
            num_workers=self.workers,
            worker_init_fn=partial(_stay_until, run_is_over, os.getpid()),
            prefetch_factor=PREFETCH_FACTOR,
            return_list=True,
        )
        batches = iter(loader)  # held, for Paddle joins the workers without a time limit when it is deleted
        try:
            yield from batches
        finally:
            run_is_over[0] = 1

    def _usable(self, batch: dict) -> dict:
        """The batch without its faults, which are written down as rejected samples, or end the run."""
        for fault in batch.pop(FAULTS, ()):
            # one that came from a worker is the exception again
            error = fault.exc if isinstance(fault, ExceptionWithTraceback) else fault
            is_about_one_row = isinstance(error, RecordError) and not isinstance(error, DataFileError)
            if self.rejected is None or not is_about_one_row:
                raise error
            self.rejected.add(error)
        return batch

    def _step_counts(self, micros: list[dict]) -> dict[str, int]:
        """What the step's means are taken over, in all micro-batches and processes.

        The first position of a row is not counted: nothing stands before it to predict it.
        """
        counts = {"step_tokens": sum(_count_supervised(batch["labels"][:, 1:]) for batch in micros)}
        if "char_labels" in micros[0]:
            counts["step_patches"] = sum(_count_supervised(batch["char_labels"]) for batch in micros)
        if "attention_labels" in micros[0]:
            labels = [batch["attention_labels"] for batch in micros]
            counts["step_attention_labels"] = sum(map(_count_supervised, labels))
        if self.schedule.ranks > 1:
            totals = paddle.to_tensor(list(counts.values()), dtype="int64")
            paddle.distributed.all_reduce(totals)
            counts = dict(zip(counts, totals.tolist(), strict=True))
        return counts


def first_few(rows: Sequence[str], most: int = 8) -> str:
    """The first of them, for a message."""
    return ", ".join(rows[:most]) + (f" and {len(rows) - most} more" if len(rows) > most else "")


def _stay_until(run_is_over: mmap.mmap, run: int, worker: int) -> None:
    """A worker ends with its run and no sooner: it ignores SIGTERM until then, and ends if the run is killed.

    Paddle's own watch for a killed run never acts, and its worker waits for work without a time limit: it
    calls indices_queue.get(5), whose 5 is taken for `block` (3.3.1). A SIGTERM that came before this handler
    was put here went to the run's own, so a thread looks at the byte too.
    """

    def terminate(number: int, frame: object) -> None:
        if run_is_over[0]:
            os._exit(0)

    signal.signal(signal.SIGTERM, terminate)
    processes.exit_with_parent(run, lambda: run_is_over[0])


def _count_supervised(labels: paddle.Tensor) -> int:
    return int((labels != IGNORED).sum())
