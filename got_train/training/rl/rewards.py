"""What a sampled answer is worth: evaluation's metrics with weights, and functions of one's own.

Metrics are called, not copied. Knows records and texts; knows no model.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from got_train.data.record import Record
from got_train.errors import ConfigError, TrainingError
from got_train.evaluation.predictions import Prediction
from got_train.evaluation.scored import ScoredPrediction, lower_is_better, metric_error, score_predictions

OwnReward = Callable[[str, str, Record], float]  # answer, reference, record
_LENGTH = "length_ratio"


@dataclass(frozen=True)
class Reward:
    """The reward of one answer, and what it is the weighted mean of."""

    value: float
    parts: Mapping[str, float] = field(default_factory=dict)


class Rewards:
    """Scores the answers to one record together: which metrics apply is decided by its reference."""

    def __init__(self, rewards: Mapping[str, float | str]) -> None:
        self.weights = {name: float(value) for name, value in rewards.items() if not isinstance(value, str)}
        own = {name: value for name, value in rewards.items() if isinstance(value, str)}
        for name in self.weights:
            if fault := metric_error(name):
                raise ConfigError(f"rl.rewards.{name}: {fault.replace('use loss, ', 'use ')}")
        self.own = {name: load_function(name, value) for name, value in own.items()}
        self.weights |= dict.fromkeys(self.own, 1.0)

    def score(self, record: Record, answers: Sequence[str], finished: Sequence[str]) -> list[Reward]:
        """Of each answer. A metric that none of them can have is left out; one that lacks it there has 0."""
        scored = score_predictions(
            [
                Prediction(reference=record.text, prediction=answer, task=record.task, finished=end)
                for answer, end in zip(answers, finished, strict=True)
            ]
        )
        columns = {}
        for name in self.weights:
            if name in self.own:
                column = [self._own(name, answer, record) for answer in answers]
            else:
                column = [metric_reward(name, prediction) for prediction in scored]
            if any(value is not None for value in column):
                columns[name] = [value or 0.0 for value in column]
        if not columns:
            raise TrainingError(
                f"{record.location}: none of rl.rewards ({', '.join(self.weights)}) applies to its answer; "
                "add edit_distance"
            )
        total = sum(self.weights[name] for name in columns)
        rewards = []
        for index in range(len(answers)):
            parts = {name: column[index] for name, column in columns.items()}
            rewards.append(Reward(sum(self.weights[name] * parts[name] for name in parts) / total, parts))
        return rewards

    def _own(self, name: str, answer: str, record: Record) -> float:
        value = self.own[name](answer, record.text, record)
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            raise TrainingError(
                f"rl.rewards.{name}: gives {value!r} for {record.location}; expected a number"
            )
        return float(value)


def metric_reward(name: str, scored: ScoredPrediction) -> float | None:
    """A metric as a reward, 1 at best; None where the answer has no such metric.

    An error counts as 1 - error, down to 0. The ratio of lengths counts as the smaller over the larger.
    """
    value = scored.value(name)
    if value is None:
        return None
    if name == _LENGTH:
        return min(value, 1 / value) if value > 0 else 0.0
    return max(0.0, 1.0 - value) if lower_is_better(name) else value


def load_function(name: str, location: str) -> OwnReward:
    """The function of `path.py:function`; the file is run, as the config says."""
    path, _, function_name = location.rpartition(":")
    if not Path(path).is_file():
        raise ConfigError(f"rl.rewards.{name}: {path}: no such file; expected path.py:function")
    spec = importlib.util.spec_from_file_location(f"reward_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function = getattr(module, function_name, None)
    if not callable(function):
        raise ConfigError(f"rl.rewards.{name}: {path} has no function {function_name}; expected one")
    return function
