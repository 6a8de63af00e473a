"""Pages with several answers each as rows of ids, and log p of these answers. Each page is encoded once."""

# A answers of the micro-batch  T tokens of a row  V views of its pages  N tokens that are asked for

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import paddle
from paddle import nn

from got_train.config.schema import RlConfig
from got_train.data.collator import Collator
from got_train.generation.generate import eval_mode
from got_train.modeling.config import IGNORED
from got_train.modeling.got import Got
from got_train.modeling.loss import token_log_probs


class AnswerLoss(nn.Layer):
    """A Got with a loss of answers that stand beside each other; to the trainer it is as TrainingLoss."""

    def __init__(self, got: Got, settings: RlConfig) -> None:
        super().__init__()
        self.got, self.settings = got, settings
        self.heads: dict[str, nn.Layer] = {}  # nothing is trained beside the model
        # ZeRO stage 3 gathers a layer's weights while it runs; these are used beyond their layers
        self.extra_parameters = [got.vision.pos_embed, got.decoder.head]


def prompts_of(batch: dict) -> list[list[int]]:
    """The ids before the answer of each row of a batch with labels."""
    rows = zip(*(batch[name].numpy() for name in ("input_ids", "labels", "attention_mask")), strict=True)
    return [ids[(mask > 0) & (labels == IGNORED)].tolist() for ids, labels, mask in rows]


def answer_rows(
    batch: dict, answers: Sequence[Sequence[Sequence[int]]], collator: Collator
) -> tuple[dict[str, Any], list[tuple[int, slice]]]:
    """The answers to each page of a batch behind its prompt, and where each stands: row and tokens of it."""
    prompts = prompts_of(batch)
    rows = [
        (prompt, list(answer))
        for prompt, page_answers in zip(prompts, answers, strict=True)
        for answer in page_answers
    ]
    shape = len(rows), max(len(prompt) + len(answer) for prompt, answer in rows)
    ids = np.full(shape, collator.tokenizer.pad_id, np.int64)
    mask = np.zeros(shape, np.int64)
    positions = []
    for row, (prompt, answer) in enumerate(rows):
        end = len(prompt) + len(answer)
        ids[row, :end], mask[row, :end] = prompt + answer, 1
        positions.append((row, slice(len(prompt), end)))
    return {
        "input_ids": paddle.to_tensor(ids),
        "attention_mask": paddle.to_tensor(mask),
        "pixel_values": batch["pixel_values"],
        "view_index": view_index(prompts, list(map(len, answers)), collator),
    }, positions


def view_index(prompts: Sequence[Sequence[int]], answers: Sequence[int], collator: Collator) -> paddle.Tensor:
    """Which views the answers look at, one after another: those of a page as often as it has answers."""
    index: list[int] = []
    first = 0
    for prompt, count in zip(prompts, answers, strict=True):
        views = list(prompt).count(collator.tokenizer.image_id) // collator.view_tokens
        index += list(range(first, first + views)) * count
        first += views
    return paddle.to_tensor(index, dtype="int64")


def answer_log_probs(
    got: Got,
    input_ids: paddle.Tensor,
    pixel_values: paddle.Tensor,
    attention_mask: paddle.Tensor,
    view_index: paddle.Tensor,
    positions: paddle.Tensor,
    temperature: float = 1.0,
) -> paddle.Tensor:
    """log p of the tokens (N,) after these positions, counted through the rows without their last token."""
    features = paddle.gather(got.encode(pixel_values), view_index)
    hidden, head = got.decode(input_ids, features, attention_mask).hidden, got.decoder.head
    if len(positions) == 0:  # nothing to learn: every parameter still gets a gradient, of zeros
        return (hidden.sum() + head[:1].sum()).astype("float32") * 0.0
    states = paddle.gather(hidden[:, :-1].flatten(0, 1), positions) / temperature
    return token_log_probs(states, head, paddle.gather(input_ids[:, 1:].flatten(), positions))


@paddle.no_grad()
def log_probs_at(
    got: Got, tensors: dict[str, paddle.Tensor], mask: paddle.Tensor, temperature: float = 1.0
) -> paddle.Tensor:
    """log p (A, T) of the tokens that the mask (A, T) takes; zeros elsewhere. Learns nothing."""
    rows, width = mask.shape
    log_probs = paddle.zeros([rows * (width - 1)])
    positions = paddle.nonzero(mask[:, 1:].flatten()).flatten()
    if len(positions):
        inputs = [tensors[name] for name in ("input_ids", "pixel_values", "attention_mask", "view_index")]
        with eval_mode(got):
            values = answer_log_probs(got, *inputs, positions, temperature)
        log_probs = paddle.scatter(log_probs, positions, values)
    return paddle.concat([paddle.zeros([rows, 1]), log_probs.reshape([rows, width - 1])], axis=1)
