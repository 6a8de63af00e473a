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
        self._groups: dict[int, Group] = {}  # by the draw of their row; of the batch under way

    def __iter__(self) -> Iterator[dict]:
        self.log.truncate_after(self.start)
        yield from super().__iter__()

    def prepare(self, step: int, micros: list[dict]) -> tuple[list[dict], dict[str, Any]]:
        """The micro-batches as the objective takes them; a batch of answers serves rl.updates steps."""
        draws_by_micro = []  # of the rows that could be read
        for micro, batch in enumerate(micros):
            rows = zip(self.schedule.sample_indices(step, micro), batch[CHECKSUMS].tolist(), strict=True)
            draws_by_micro.append([draw for draw, checksum in rows if checksum != DROPPED])
        needed = set(itertools.chain.from_iterable(draws_by_micro))
        if step % self.config.rl.updates == 0 or not needed <= self._groups.keys():
            self._sample(step, micros, draws_by_micro)
        groups = [[self._groups[draw] for draw in draws] for draws in draws_by_micro]
        total = self._normalizer([*itertools.chain.from_iterable(groups)])
        return [self._batch(*pair, total) for pair in zip(micros, groups, strict=True)], {}

    # ---- sampling

    def _sample(self, step: int, micros: list[dict], draws_by_micro: list[list[int]]) -> None:
        began = time.monotonic()
        self._groups = {}
        for batch, draws in zip(micros, draws_by_micro, strict=True):
            if draws:
                groups = self._sample_micro(batch, draws)
                if self.config.rl.temperature != 1:
                    groups = self._at_temperature(batch, groups)
                self._groups |= zip(draws, groups, strict=True)
        self.sampling_seconds.append(time.monotonic() - began)
        self.tokens += sum(len(answer.ids) for group in self._groups.values() for answer in group)
        for draw, group in self._groups.items():
            self.log.add(step + 1, draw, self.locations([range(draw, draw + 1)])[0], group)
        self.rewards_of_step = StepRewards.of(step + 1, list(self._groups.values()), self._gathered)
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
        seed, stop_tokens = self.config.train.seed, {*model.config.stop_tokens, *tokenizer.stop_ids}
        answers = [
            Hypothesis(
                max(1, min(settings.max_new_tokens, free)),
                frozenset(stop_tokens),
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
        groups = []
        for page, draw in enumerate(draws):
            of_page = answers[page * size : (page + 1) * size]
            texts = [tokenizer.decode(answer.ids).strip() for answer in of_page]
            ends = [answer.finish_reason for answer in of_page]
            rewards = self.rewards.score(self.mixture[draw], texts, ends)
            groups.append(
                [
                    Answer(answer.ids, answer.log_probs, end, text, reward.value, dict(reward.parts))
                    for answer, end, text, reward in zip(of_page, ends, texts, rewards, strict=True)
                ]
            )
        return groups

    # ---- what the objective takes

    def _normalizer(self, groups: Sequence[Group]) -> float:
        """What the step is divided by, over all processes; groups without variance teach nothing."""
        totals = np.zeros(2, np.int64)  # answers, tokens
        for group in groups:
            if has_variance([answer.reward for answer in group]):
                totals += (len(group), sum(len(answer.ids) for answer in group))
        if self.schedule.ranks > 1:
            shared = paddle.to_tensor(totals)
            paddle.distributed.all_reduce(shared)
            totals = shared.numpy()
        return normalizer(*totals.tolist(), self.config.rl)

    def _batch(self, batch: dict, groups: Sequence[Group], total: float) -> dict[str, Any]:
        settings = self.config.rl
        if not groups:  # every row was dropped: the white page that stands for them teaches nothing
            groups = [[Answer([], [], "stop", "")] * settings.group_size]
        tensors, positions = self._rows(batch, groups)
        shape, names = tensors["input_ids"].shape, ("weights", "advantages", "old_log_probs")
        arrays = {name: np.zeros(shape, np.float32) for name in names}  # a value a token
        following = iter(positions)
        for group in groups:
            rewards = [answer.reward for answer in group]
            for answer, advantage in zip(group, advantages(rewards, settings.scale_by_std), strict=True):
                position = next(following)
                arrays["old_log_probs"][position] = answer.log_probs
                arrays["advantages"][position] = advantage
                if has_variance(rewards):
                    arrays["weights"][position] = token_weight(len(answer.ids), settings) / total
        tensors |= {name: paddle.to_tensor(array) for name, array in arrays.items()}
        start = tensors["old_log_probs"] * 0
        if self.start_loss is not None:
            start = self.start_loss.log_probs_at(tensors, tensors["weights"] > 0)
        return {**tensors, "start_log_probs": start, CHECKSUMS: batch[CHECKSUMS]}

    def _rows(self, batch: dict, groups: Sequence[Group]) -> tuple[dict[str, Any], list[tuple[int, slice]]]:
        return answer_rows(batch, [[answer.ids for answer in group] for group in groups], self.collator)

    def _at_temperature(self, batch: dict, groups: list[Group]) -> list[Group]:
        """The answers with log p at the temperature at which they were drawn, by one more forward pass."""
        tensors, positions = self._rows(batch, groups)
        mask = np.zeros(tensors["input_ids"].shape, bool)
        for position in positions:
            mask[position] = True
        log_probs = self.loss.log_probs_at(tensors, paddle.to_tensor(mask)).numpy()
        of_answer = (log_probs[position].tolist() for position in positions)
        return [[replace(answer, log_probs=next(of_answer)) for answer in group] for group in groups]

    def _gathered(self, value: Any) -> list[Any]:
        """Of all processes."""
        if self.schedule.ranks == 1:
            return [value]
        values: list[Any] = []
        paddle.distributed.all_gather_object(values, value)
        return values

    # ---- a run that goes on within a batch of answers

    def save(self, folder: Path, step: int) -> None:
        """The answers that steps after `step` still learn from, as the weights that sampled them are gone."""
        if step % self.config.rl.updates:
            lines = [
                json.dumps({"draw": draw, "answers": list(map(asdict, group))})
                for draw, group in self._groups.items()
            ]
            text = "".join(f"{line}\n" for line in lines)
            (folder / f"rollouts-{self.schedule.rank}.jsonl").write_text(text, encoding="utf-8")

    def load(self, checkpoint: Path, step: int) -> None:
        if step % self.config.rl.updates == 0:
            return
        self._groups = {}
        for path in sorted(checkpoint.glob("rollouts-*.jsonl")):
            for line in path.read_text(encoding="utf-8").splitlines():
                row = strict_json(line)
                self._groups[row["draw"]] = [Answer(**fields) for fields in row["answers"]]
        if not self._groups:
            raise TrainingError(f"{checkpoint}: no rollouts-*.jsonl; use the checkpoint before it")
