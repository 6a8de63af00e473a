"""The batches of a run, step by step, from any step on.

Every batch knows how many supervised tokens its whole step has (all micro-batches, all processes), so that the
trainer can divide by it. A record that cannot be used ends the run here, in the main process, with file:line: an
exception inside paddle.io.DataLoader would hang it (paddlenlp 3.0.0b4 on paddle 3.3.1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import paddle

from got_train.data.collator import IGNORED, Collator
from got_train.data.mixture import Mixture
from got_train.data.records import RecordError

_FAULT = "fault"


@dataclass(frozen=True)
class StepPlan:
    """Which draws of the mixture every micro-batch of every process takes."""

    steps: int
    batch_size: int  # of the step, over all processes
    micro_batch_size: int
    rank: int = 0
    ranks: int = 1

    def __post_init__(self) -> None:
        share = self.micro_batch_size * self.ranks
        if self.batch_size % share:
            raise ValueError(
                f"train.batch_size ({self.batch_size}) must be a multiple of train.micro_batch_size "
                f"({self.micro_batch_size}) times the processes ({self.ranks})"
            )

    @property
    def accumulation(self) -> int:
        return self.batch_size // (self.micro_batch_size * self.ranks)

    def draws(self, step: int, micro: int) -> range:
        """One step's draws are the same however many processes share them."""
        first = step * self.batch_size + (micro * self.ranks + self.rank) * self.micro_batch_size
        return range(first, first + self.micro_batch_size)


class _MicroBatches(paddle.io.BatchSampler):
    """Lists of draws, as paddle.io.DataLoader asks for them."""

    def __init__(self, plan: StepPlan, start: int):
        self.plan, self.start = plan, start

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.start, self.plan.steps):
            for micro in range(self.plan.accumulation):
                yield list(self.plan.draws(step, micro))

    def __len__(self) -> int:
        return (self.plan.steps - self.start) * self.plan.accumulation


class _Samples(paddle.io.Dataset):
    """Draw -> sample; a fault travels as data to the main process."""

    def __init__(self, mixture: Mixture, collator: Collator):
        self.mixture, self.collator = mixture, collator

    def __len__(self) -> int:
        return 1 << 62  # draws never end

    def __getitem__(self, draw: int) -> object:
        try:
            return self.collator.sample(self.mixture[draw])
        except (ValueError, OSError) as error:
            return error

    def collate(self, samples: list) -> dict[str, np.ndarray]:
        for sample in samples:
            if isinstance(sample, Exception):
                return {_FAULT: np.frombuffer(str(sample).encode(), dtype=np.uint8)}
        return self.collator.batch(samples)


class StepLoader:
    """Iterates over the micro-batches of steps `start`... as dicts of tensors with `step_tokens` and `draws`."""

    def __init__(self, mixture: Mixture, collator: Collator, plan: StepPlan, workers: int = 0):
        self.samples, self.plan, self.workers = _Samples(mixture, collator), plan, workers
        self.start = 0

    def __len__(self) -> int:
        return self.plan.steps * self.plan.accumulation

    def __iter__(self) -> Iterator[dict]:
        batches = self._batches()
        for step in range(self.start, self.plan.steps):
            micros = [self._checked(next(batches)) for _ in range(self.plan.accumulation)]
            tokens = self._step_tokens(micros)
            for micro, batch in enumerate(micros):
                batch["step_tokens"] = tokens
                batch["draws"] = self.plan.draws(step, micro)
                yield batch

    def _batches(self) -> Iterator[dict]:
        sampler = _MicroBatches(self.plan, self.start)
        if not self.workers:
            for draws in sampler:
                yield self.samples.collate([self.samples[draw] for draw in draws])
            return
        yield from paddle.io.DataLoader(
            self.samples,
            batch_sampler=sampler,
            collate_fn=self.samples.collate,
            num_workers=self.workers,
            return_list=True,
        )

    @staticmethod
    def _checked(batch: dict) -> dict:
        if _FAULT in batch:
            raise RecordError(np.asarray(batch[_FAULT]).tobytes().decode())
        return {name: paddle.to_tensor(value) for name, value in batch.items()}

    def _step_tokens(self, micros: list[dict]) -> int:
        """Supervised tokens of the step; the first position of a row has nothing before it to predict it."""
        count = sum(int((batch["labels"][:, 1:] != IGNORED).sum()) for batch in micros)
        if self.plan.ranks > 1:
            total = paddle.to_tensor([count], dtype="int64")
            paddle.distributed.all_reduce(total)
            count = int(total)
        return count
