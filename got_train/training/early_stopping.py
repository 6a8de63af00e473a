"""When a run ends early: which number, which way, how long without an improvement."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from got_train.config.schema import Config
from got_train.evaluation.scored import lower_is_better

from .checkpoints import read_json
from .run_files import EARLY_STOP, LOSS, STATE_FILE, VALIDATION_PREFIX

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class EarlyStopping:
    """The number of a run's log that decides on its best weights and its early end."""

    name: str  # loss, or a metric

    @property
    def key(self) -> str:
        return f"{VALIDATION_PREFIX}{self.name}"

    @property
    def lower(self) -> bool:
        """Whether less is better."""
        return self.name == LOSS or lower_is_better(self.name)

    def values(self, history: Sequence[dict]) -> list[float]:
        return [entry[self.key] for entry in history if self.key in entry]

    def since_best(self, values: Sequence[float]) -> int:
        """Validations after the first that was best; none that was no number is."""
        cost = [math.inf if math.isnan(value) else value if self.lower else -value for value in values]
        return len(cost) - 1 - int(np.argmin(cost)) if cost else 0

    def waited(self, values: Sequence[float], patience: int) -> bool:
        """Whether that many have come in vain; never with 0."""
        return bool(patience) and self.since_best(values) >= patience


def has_stopped(checkpoint: Path, config: Config) -> bool:
    """Whether a run ended early at this checkpoint."""
    history = read_json(checkpoint / STATE_FILE)["log_history"]
    goal = EarlyStopping(config.eval.best_metric)
    waited = goal.waited(goal.values(history), config.train.early_stopping_patience)
    return waited or any(EARLY_STOP in entry for entry in history)
