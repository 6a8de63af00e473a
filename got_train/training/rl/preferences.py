"""Preferences: a corrected answer becomes likelier than the one that it replaced, measured from the start.

Direct preference optimization (Rafailov et al., 2023, arXiv 2305.18290). A row has both answers: `text`, and
`rejected` beside it, as the app keeps them.
"""

# P pages  A = 2 P answers, chosen and rejected in turns  T tokens of a row

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F

from got_train.data.record import Record, RecordError
from got_train.training.ledger import DROPPED
from got_train.training.loader import CHECKSUMS, StepLoader

from .rows import AnswerLoss, answer_log_probs, answer_rows, log_probs_at


def preference_loss(sums: paddle.Tensor, start_sums: paddle.Tensor, beta: float) -> paddle.Tensor:
    """-log sigmoid(beta x margin) of each pair; sums (A,): log p of whole answers, now and at the start."""
    gains = sums - start_sums
    return -F.log_sigmoid(beta * (gains[0::2] - gains[1::2]))


class PreferenceLoss(AnswerLoss):
    """A Got with the loss of its pairs; returns what one micro-batch adds to the mean over the step's."""

    def forward(
        self,
        input_ids: paddle.Tensor,
        pixel_values: paddle.Tensor,
        attention_mask: paddle.Tensor,
        view_index: paddle.Tensor,
        answered: paddle.Tensor,
        start_sums: paddle.Tensor,
        step_pairs: int,
    ) -> paddle.Tensor:
        """answered (A, T) is true at the tokens of the answers; start_sums (A,) are those of the start."""
        rows, width = answered.shape
        positions = paddle.nonzero(answered[:, 1:].flatten()).flatten()
        inputs = (input_ids, pixel_values, attention_mask, view_index)
        log_probs = answer_log_probs(self.got, *inputs, positions)
        if len(positions) == 0:
            return log_probs.sum()
        by_position = paddle.scatter_nd(positions.unsqueeze(1), log_probs, [rows * (width - 1)])
        sums = by_position.reshape([rows, width - 1]).sum(axis=1)
        return preference_loss(sums, start_sums, self.settings.beta).sum() / max(1, step_pairs)


class PreferenceLoader(StepLoader):
    """A StepLoader whose batches hold two answers a page: the row's text, and what it replaced."""

    loss: PreferenceLoss  # of the model in training
    start_loss: PreferenceLoss  # of the model that the run started from

    def prepare(self, step: int, micros: list[dict]) -> tuple[list[dict], dict[str, Any]]:
        """The pairs of a step, and how many there are in all processes."""
        batches, pairs = [], 0
        for micro, batch in enumerate(micros):
            checksums = batch[CHECKSUMS].tolist()
            draws = zip(self.schedule.sample_indices(step, micro), checksums, strict=True)
            records = [self.mixture[draw] for draw, checksum in draws if checksum != DROPPED]
            pairs += len(records)
            batches.append(self._batch(batch, [self._pair(record) for record in records]))
        self.tokens += sum(int(batch["answered"].sum()) for batch in batches)
        if self.schedule.ranks > 1:
            shared = paddle.to_tensor([pairs], dtype="int64")
            paddle.distributed.all_reduce(shared)
            pairs = int(shared)
        return batches, {"step_pairs": pairs}

    def _pair(self, record: Record) -> tuple[list[int], list[int]]:
        if not record.rejected:
            raise RecordError(
                f"{record.location}: no rejected answer; rl.objective=dpo learns from pairs, give each row "
                "one"
            )
        encode = self.collator.tokenizer.encode_answer
        chosen, rejected = encode(record.text), encode(record.rejected)
        self.collator.check_length(record, [], rejected)
        return chosen, rejected

    def _batch(self, batch: dict, pairs: list[tuple[list[int], list[int]]]) -> dict[str, Any]:
        tensors, positions = answer_rows(batch, pairs or [([], [])], self.collator)
        answered = np.zeros(tensors["input_ids"].shape, bool)
        for position in positions:
            answered[position] = True
        tensors["answered"] = paddle.to_tensor(answered)
        tensors["start_sums"] = log_probs_at(self.start_loss.got, tensors, tensors["answered"]).sum(axis=1)
        return {**tensors, CHECKSUMS: batch[CHECKSUMS]}
