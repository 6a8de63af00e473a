"""Pages with several answers each as rows of ids, and log p of these answers. Each page is encoded once."""

# A answers of the micro-batch  T tokens of a row  V views of its pages  N tokens that are asked for

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import paddle

from got_train.data.collator import Collator
from got_train.generation.generate import eval_mode
from got_train.modeling.config import IGNORED
from got_train.modeling.got import Got
from got_train.modeling.loss import token_log_probs


def prompts_of(batch: dict) -> list[list[int]]:
    """The ids before the answer of each row of a batch with labels."""
    ids, labels, mask = (batch[name].numpy() for name in ("input_ids", "labels", "attention_mask"))
    rows = zip(ids, labels, mask, strict=True)
    return [row[(seen > 0) & (label == IGNORED)].tolist() for row, label, seen in rows]


def answer_rows(
    batch: dict, answers: Sequence[Sequence[Sequence[int]]], collator: Collator
) -> tuple[dict[str, Any], list[tuple[int, slice]]]:
    """The answers to each page of a batch behind its prompt, and where in its row each of them stands."""
    prompts = prompts_of(batch)
    rows = [(prompt, list(ids)) for prompt, several in zip(prompts, answers, strict=True) for ids in several]
    shape = len(rows), max(len(prompt) + len(answer) for prompt, answer in rows)
    ids = np.full(shape, collator.tokenizer.pad_id, np.int64)
    mask = np.zeros(shape, np.int64)
    places = []
    for row, (prompt, answer) in enumerate(rows):
        end = len(prompt) + len(answer)
        ids[row, :end], mask[row, :end] = prompt + answer, 1
        places.append((row, slice(len(prompt), end)))
    return {
        "input_ids": paddle.to_tensor(ids),
        "attention_mask": paddle.to_tensor(mask),
        "pixel_values": batch["pixel_values"],
        "view_index": view_index(prompts, list(map(len, answers)), collator),
    }, places


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
    places: paddle.Tensor,
    temperature: float = 1.0,
) -> paddle.Tensor:
    """log p of the tokens (N,) after these places of the rows without their last tokens, all rows as one."""
    features = paddle.gather(got.encode(pixel_values), view_index)
    hidden, head = got.decode(input_ids, features, attention_mask).hidden, got.decoder.head
    if len(places) == 0:  # nothing to learn: every parameter still gets a gradient, of zeros
        return (hidden.sum() + head[:1].sum()).astype("float32") * 0.0
    states = paddle.gather(hidden[:, :-1].flatten(0, 1), places) / temperature
    return token_log_probs(states, head, paddle.gather(input_ids[:, 1:].flatten(), places))


@paddle.no_grad()
def log_probs_at(
    got: Got, tensors: dict[str, paddle.Tensor], wanted: paddle.Tensor, temperature: float = 1.0
) -> paddle.Tensor:
    """log p (A, T) of the wanted tokens (A, T), at their places; zeros elsewhere. Learns nothing."""
    rows, width = wanted.shape
    found = paddle.zeros([rows * (width - 1)])
    places = paddle.nonzero(wanted[:, 1:].flatten()).flatten()
    if len(places):
        inputs = [tensors[name] for name in ("input_ids", "pixel_values", "attention_mask", "view_index")]
        with eval_mode(got):
            found = paddle.scatter(found, places, answer_log_probs(got, *inputs, places, temperature))
    return paddle.concat([paddle.zeros([rows, 1]), found.reshape([rows, width - 1])], axis=1)
