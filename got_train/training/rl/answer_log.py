"""What was sampled and what it was worth, as files of the run; steps that are made again are forgotten."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from got_train.atomic_write import write_atomic
from got_train.errors import TrainingError
from got_train.strict_files import read_lines

from .objective import has_variance

REWARDS_FILE = "rewards.jsonl"  # a line a step


@dataclass(frozen=True)
class Answer:
    """One sampled answer to a page. `log_probs` are those under the weights that sampled it."""

    ids: list[int]
    log_probs: list[float]
    finished: str
    text: str
    reward: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)


Group = list[Answer]  # the answers to one page


@dataclass(frozen=True)
class StepRewards:
    """The means of one batch of answers, over all processes."""

    step: int  # from 1, the first that learns from it
    answers: int
    reward: float
    deviation: float  # of the rewards of a group, mean over groups
    no_variance: float  # share of groups whose answers are all worth the same
    entropy: float  # nats a token, by the log p of what was sampled
    tokens: float  # of an answer
    ended: float  # share of answers with an end token
    parts: dict[str, float] = field(default_factory=dict)  # mean of each reward where it applies

    @classmethod
    def of(cls, step: int, groups: Sequence[Group], gathered: Callable[[Any], list[Any]]) -> StepRewards:
        """Of this process's groups together with those that `gathered` brings from the others."""
        own = [
            {
                "rewards": [answer.reward for answer in group],
                "log_probs": float(sum(sum(answer.log_probs) for answer in group)),
                "tokens": sum(len(answer.ids) for answer in group),
                "ended": sum(answer.finished == "stop" for answer in group),
                "parts": {name: [answer.parts[name] for answer in group] for name in group[0].parts},
            }
            for group in groups
        ]
        totals = [group for process in gathered(own) for group in process]
        if not totals:
            return cls(step, 0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)
        rewards = [value for group in totals for value in group["rewards"]]
        tokens = sum(group["tokens"] for group in totals)
        names = dict.fromkeys(name for group in totals for name in group["parts"])
        return cls(
            step=step,
            answers=len(rewards),
            reward=float(np.mean(rewards)),
            deviation=float(np.mean([np.std(group["rewards"]) for group in totals])),
            no_variance=float(np.mean([not has_variance(group["rewards"]) for group in totals])),
            entropy=-sum(group["log_probs"] for group in totals) / max(1, tokens),
            tokens=tokens / len(rewards),
            ended=sum(group["ended"] for group in totals) / len(rewards),
            parts={
                name: float(np.mean([v for group in totals for v in group["parts"].get(name, ())]))
                for name in names
            },
        )

    def curves(self) -> dict[str, float]:
        """By the names of their curves."""
        names = ("reward", "deviation", "no_variance", "entropy", "tokens", "ended")
        return {f"rl/{name}": getattr(self, name) for name in names} | {
            f"rl/{name.replace('.', '_')}": value for name, value in self.parts.items()
        }


@dataclass
class AnswerLog:
    """answers-<process>.jsonl has a line a page with its answers; rewards.jsonl one a batch of them."""

    output_dir: Path
    rank: int = 0

    def add(self, step: int, draw: int, location: str, group: Group) -> None:
        answers = [
            {
                "text": answer.text,
                "reward": round(answer.reward, 6),
                "tokens": len(answer.ids),
                "finished": answer.finished,
                "parts": {name: round(value, 6) for name, value in answer.parts.items()},
            }
            for answer in group
        ]
        self._append(
            self._answers(self.rank), {"step": step, "draw": draw, "row": location, "answers": answers}
        )

    def add_step(self, rewards: StepRewards) -> None:
        self._append(self.output_dir / REWARDS_FILE, asdict(rewards))

    def truncate_after(self, step: int) -> None:
        """Forget what steps after `step` have sampled: they will be made again."""
        paths = [self._answers(self.rank)] if self.rank else sorted(self.output_dir.glob("answers-*.jsonl"))
        for path in (*paths, *([] if self.rank else [self.output_dir / REWARDS_FILE])):
            if path.exists():
                lines = [
                    json.dumps(row, ensure_ascii=False)
                    for row in read_lines(path, TrainingError)
                    if row["step"] <= step
                ]
                write_atomic(path, "".join(f"{line}\n" for line in lines))

    def _answers(self, rank: int) -> Path:
        return self.output_dir / f"answers-{rank}.jsonl"

    def _append(self, path: Path, row: dict[str, Any]) -> None:
        with open(path, "a", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_rewards(output_dir: Path) -> list[StepRewards]:
    """Of every batch of answers so far."""
    path = output_dir / REWARDS_FILE
    try:
        return [StepRewards(**row) for row in read_lines(path, TrainingError)] if path.exists() else []
    except TypeError as error:
        raise TrainingError(f"{path}: not the rewards of a run ({error}); delete it") from error
