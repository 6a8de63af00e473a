"""From a step's pages to its sampled answers, their rewards and the batch that the objective takes.

A loader like any other to the trainer: the answers of a step are sampled when its batches are asked for, with
the weights as they are then. Tokens follow from train.seed, the draw of the row and the answer's number.
"""

# R pages  A = R x group_size answers  T tokens of a row  V views of the pages

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from got_train.config.schema import Config
from got_train.errors import TrainingError
from got_train.generation.decode import encode_views
from got_train.generation.generate import eval_mode
from got_train.generation.hypothesis import Hypothesis
from got_train.generation.no_repeat_ngram import NoRepeatNGram, NoRepeatNGramProcessor
from got_train.generation.running_batch import RunningBatch
from got_train.generation.sampling import Sampler
from got_train.strict_files import strict_json
from got_train.training.ledger import DROPPED
from got_train.training.loader import CHECKSUMS, StepLoader

from .answer_log import Answer, AnswerLog, Group, StepRewards
from .objective import PolicyLoss, advantages, has_variance, normalizer, token_weight
from .rewards import Rewards
from .rows import answer_rows, prompts_of, view_index

_ROLLOUT = 2**31 + 3  # other random numbers than those of the mixture and of what is read


class _NoImage(NoRepeatNGramProcessor):
    """No n-gram rule, and never the token that stands for pixels: training would look for a view there."""

    def __init__(self, image_id: int) -> None:
        super().__init__(NoRepeatNGram(), ())
        self._banned = (image_id,)

    def banned_tokens(self) -> Sequence[int]:
        return self._banned


class RolloutLoader(StepLoader):
    """A StepLoader whose batches are sampled answers with advantages; labels are only scored against."""

    def __init__(self, *arguments: Any, config: Config, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.config, self.rewards = config, Rewards(config.rl.rewards)
        schedule = self.schedule
        self.log = AnswerLog(Path(config.train.output_dir), schedule.rank)
        self.loss: PolicyLoss | None = None  # of the model in training, which the trainer makes
        self.start_loss: PolicyLoss | None = None  # of the model that the run started from, for the KL
        self.rewards_of_step: StepRewards | None = None
        self.sampling_seconds: list[float] = []  # of every batch of answers
        self._kept: dict[int, Group] = {}  # draw -> answers of the batch under way

    def __iter__(self) -> Iterator[dict]:
        self.log.truncate_after(self.start)
        yield from super().__iter__()

    def prepare(self, step: int, micros: list[dict]) -> tuple[list[dict], dict[str, Any]]:
        """The micro-batches as the objective takes them; a batch of answers serves rl.updates steps."""
        indices = [self.schedule.sample_indices(step, micro) for micro in range(len(micros))]
        usable = [
            [
                draw
                for draw, checksum in zip(draws, batch[CHECKSUMS].tolist(), strict=True)
                if checksum != DROPPED
            ]
            for draws, batch in zip(indices, micros, strict=True)
        ]
        wanted = {draw for draws in usable for draw in draws}
        if step % self.config.rl.updates == 0 or not wanted <= self._kept.keys():
            self._sample(step, micros, usable)
        groups = [[self._kept[draw] for draw in draws] for draws in usable]
        total = self._counts([group for some in groups for group in some])
        batches = [self._batch(batch, some, total) for batch, some in zip(micros, groups, strict=True)]
        return batches, {}

    # ---- sampling

    def _sample(self, step: int, micros: list[dict], usable: list[list[int]]) -> None:
        began = time.monotonic()
        self._kept = {}
        for batch, draws in zip(micros, usable, strict=True):
            if draws:
                groups = self._sample_micro(batch, draws)
                if self.config.rl.temperature != 1:
                    groups = self._at_temperature(batch, groups)
                self._kept |= zip(draws, groups, strict=True)
        self.sampling_seconds.append(time.monotonic() - began)
        self.tokens += sum(len(each.ids) for group in self._kept.values() for each in group)
        for draw, group in self._kept.items():
            self.log.add(step + 1, draw, self.locations([range(draw, draw + 1)])[0], group)
        self.rewards_of_step = StepRewards.of(step + 1, list(self._kept.values()), self._gathered)
        if self.schedule.rank == 0:
            self.log.add_step(self.rewards_of_step)

    def _sample_micro(self, batch: dict, draws: Sequence[int]) -> list[Group]:
        """The scored answers to the pages of a micro-batch."""
        settings, prompts = self.config.rl, prompts_of(batch)
        tokenizer, model, size = self.collator.tokenizer, self.loss.got, settings.group_size
        longest = max(map(len, prompts))
        rows = [prompt for prompt in prompts for _ in range(size)]
        padding = [longest - len(row) for row in rows]
        room = [self.config.data.max_tokens - len(row) for row in rows]
        seed, end = self.config.train.seed, frozenset({*model.config.stop_tokens, *tokenizer.stop_ids})
        answers = [
            Hypothesis(
                max(1, min(settings.max_new_tokens, free)),
                end,
                _NoImage(tokenizer.image_id),
                None,
                Sampler(settings.temperature, settings.top_p, (seed, _ROLLOUT, draw, number)),
            )
            for free, (draw, number) in zip(room, itertools.product(draws, range(size)), strict=True)
        ]
        with paddle.no_grad(), eval_mode(model):
            features = encode_views(model, batch["pixel_values"])
            running = RunningBatch(model)
            running.join(
                answers,
                np.array([[tokenizer.pad_id] * gap + row for gap, row in zip(padding, rows, strict=True)]),
                None,
                np.array([[0] * gap + [1] * (longest - gap) for gap in padding]),
                paddle.gather(features, view_index(prompts, [size] * len(prompts), self.collator)),
            )
            while running.answers:
                running.step()
        texts = [tokenizer.decode(each.ids).strip() for each in answers]
        groups = []
        for place, draw in enumerate(draws):
            some = range(place * size, (place + 1) * size)
            ends = [answers[row].finish_reason for row in some]
            scores = self.rewards.score(self.mixture[draw], [texts[row] for row in some], ends)
            groups.append(
                [
                    Answer(
                        answers[row].ids,
                        answers[row].log_probs,
                        end,
                        texts[row],
                        each.value,
                        dict(each.parts),
                    )
                    for row, end, each in zip(some, ends, scores, strict=True)
                ]
            )
        return groups

    # ---- what the objective takes

    def _counts(self, groups: Sequence[Group]) -> float:
        """What the step is divided by, over all processes; groups without variance teach nothing."""
        counted = [group for group in groups if has_variance([each.reward for each in group])]
        totals = np.zeros(2, np.int64)
        for group in counted:
            totals += (len(group), sum(len(each.ids) for each in group))
        if self.schedule.ranks > 1:
            shared = paddle.to_tensor(totals)
            paddle.distributed.all_reduce(shared)
            totals = shared.numpy()
        return normalizer(*totals.tolist(), self.config.rl)

    def _batch(self, batch: dict, groups: Sequence[Group], total: float) -> dict[str, Any]:
        settings = self.config.rl
        if not groups:  # every row was dropped: the white page that stands for them teaches nothing
            groups = [[Answer([], [], "stop", "")] * settings.group_size]
        tensors, places = self._rows(batch, groups)
        weights, worth, old = (np.zeros(tensors["input_ids"].shape, np.float32) for _ in range(3))
        rows = iter(places)
        for group in groups:
            rewards = [each.reward for each in group]
            for answer, value in zip(group, advantages(rewards, settings.scale_by_std), strict=True):
                place = next(rows)
                old[place], worth[place] = answer.log_probs, value
                if has_variance(rewards):
                    weights[place] = token_weight(len(answer.ids), settings) / total
        named = {"weights": weights, "advantages": worth, "old_log_probs": old}
        tensors |= {name: paddle.to_tensor(value) for name, value in named.items()}
        start = tensors["old_log_probs"] * 0
        if self.start_loss is not None:
            start = self.start_loss.log_probs_at(tensors, tensors["weights"] > 0)
        return {**tensors, "start_log_probs": start, CHECKSUMS: batch[CHECKSUMS]}

    def _rows(self, batch: dict, groups: Sequence[Group]) -> tuple[dict[str, Any], list[tuple[int, slice]]]:
        return answer_rows(batch, [[each.ids for each in group] for group in groups], self.collator)

    def _at_temperature(self, batch: dict, groups: list[Group]) -> list[Group]:
        """The answers with log p at the temperature at which they were drawn, by one more forward pass."""
        tensors, places = self._rows(batch, groups)
        wanted = np.zeros(tensors["input_ids"].shape, bool)
        for place in places:
            wanted[place] = True
        found = self.loss.log_probs_at(tensors, paddle.to_tensor(wanted)).numpy()
        rows = iter(places)
        return [[replace(each, log_probs=found[next(rows)].tolist()) for each in group] for group in groups]

    def _gathered(self, value: Any) -> list[Any]:
        """Of all processes."""
        if self.schedule.ranks == 1:
            return [value]
        found: list[Any] = []
        paddle.distributed.all_gather_object(found, value)
        return found

    # ---- a run that goes on within a batch of answers

    def save(self, folder: Path, step: int) -> None:
        """The answers that steps after `step` still learn from, as the weights that sampled them are gone."""
        if step % self.config.rl.updates:
            lines = [
                json.dumps({"draw": draw, "answers": list(map(asdict, group))})
                for draw, group in self._kept.items()
            ]
            text = "".join(f"{line}\n" for line in lines)
            (folder / f"rollouts-{self.schedule.rank}.jsonl").write_text(text, encoding="utf-8")

    def load(self, checkpoint: Path, step: int) -> None:
        if step % self.config.rl.updates == 0:
            return
        self._kept = {}
        for path in sorted(checkpoint.glob("rollouts-*.jsonl")):
            for line in path.read_text(encoding="utf-8").splitlines():
                row = strict_json(line)
                self._kept[row["draw"]] = [Answer(**each) for each in row["answers"]]
        if not self._kept:
            raise TrainingError(f"{checkpoint}: no rollouts-*.jsonl; use the checkpoint before it")
