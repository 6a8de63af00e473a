"""When a run ends early: which number, which way, how long without an improvement."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from got_train.evaluation.scored import lower_is_better

from .run_files import EARLY_STOP, LOSS, VALIDATION_PREFIX


@dataclass(frozen=True)
class EarlyStopping:
    """The number of a run's log that decides on its best weights, and how long a better one is waited for."""

    metric: str  # loss, or a metric
    patience: int = 0  # evaluations without a better one; 0: never stops

    @property
    def key(self) -> str:
        return f"{VALIDATION_PREFIX}{self.metric}"

    @property
    def lower_is_better(self) -> bool:
        return self.metric == LOSS or lower_is_better(self.metric)

    def values(self, history: Sequence[dict]) -> list[float]:
        return [entry[self.key] for entry in history if self.key in entry]

    def evals_since_best(self, values: Sequence[float]) -> int:
        """Evaluations after the first that was best; none that was not a number is."""
        sign = 1 if self.lower_is_better else -1
        cost = [math.inf if math.isnan(value) else sign * value for value in values]
        return len(cost) - 1 - int(np.argmin(cost)) if cost else 0

    def should_stop(self, values: Sequence[float]) -> bool:
        return bool(self.patience) and self.evals_since_best(values) >= self.patience

    def has_stopped(self, history: Sequence[dict]) -> bool:
        """Whether a run with this log was ended early."""
        return self.should_stop(self.values(history)) or any(EARLY_STOP in entry for entry in history)
