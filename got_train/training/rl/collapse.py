"""When a run is to end because its reward rises while what it was meant to stand for falls (reward hacking).

Knows rewards and readings; what is read and when is decided in the callbacks.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from paddlenlp.trainer import TrainerCallback

from got_train.evaluation.comparison import WORSE, metric_deltas
from got_train.training.generation_eval import EvalRecords, EvalResult
from got_train.training.trainer import GotTrainer

from .answer_log import StepRewards, read_rewards
from .rollouts import RolloutLoader

WATCHED = "edit_distance"  # every kind has it


def collapse(
    rewards: Sequence[StepRewards], before: EvalResult, now: EvalResult, records: EvalRecords
) -> str:
    """Why to end the run, or nothing.

    The last third of its rewards is above the first, and held-out rows are read worse for certain.
    """
    third = len(rewards) // 3
    if third == 0:
        return ""
    first, last = (
        float(np.mean([step.reward for step in steps])) for steps in (rewards[:third], rewards[-third:])
    )
    if last <= first:
        return ""
    deltas = metric_deltas(before.of_files(records.validation), now.of_files(records.validation))
    worse = [delta for delta in deltas if delta.metric == WATCHED and delta.verdict == WORSE]
    if not worse:
        return ""
    return f"the reward rose from {first:.4f} to {last:.4f}, but {worse[0].sentence()}"


class CollapseGuard:
    """Asked after every reading of held-out records."""

    def __init__(self, output_dir: str) -> None:
        self.output_dir = Path(output_dir)

    def __call__(self, before: EvalResult, now: EvalResult, records: EvalRecords) -> str:
        message = collapse(read_rewards(self.output_dir), before, now, records)
        return f"rl.stop_on_collapse: {message}" if message else ""


class RewardCurves(TrainerCallback):
    """Rewards by component, entropy and lengths as curves beside the loss."""

    def __init__(self, trainer: GotTrainer, loader: RolloutLoader) -> None:
        self.trainer, self.loader = trainer, loader

    def on_step_end(self, args: object, state: object, control: object, **kwargs: object) -> None:
        rewards = self.loader.rewards_of_step
        if rewards is None or rewards.step != state.global_step:
            return
        if writer := self.trainer.log_writer():
            for name, value in rewards.curves().items():
                writer.add_scalar(name, value, state.global_step)
