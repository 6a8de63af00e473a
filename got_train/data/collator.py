"""Records become samples, samples a batch: the only place where words turn into ids and labels.

Knows prompts, tokenizer and images; arrays only, no device. A sample's labels stand at the position of their
token (the model shifts) and supervise the answer and its end token, nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from got_train import images, prompts
from got_train.errors import PromptError
from got_train.modeling.config import IGNORED
from got_train.tokenizer import Tokenizer

from .records import Record, RecordError


@dataclass(frozen=True)
class Sample:
    """One record as numbers: ids and labels (T,), views (V, side, side, 3) uint8."""

    ids: np.ndarray
    labels: np.ndarray
    views: np.ndarray
    location: str
    char_ids: np.ndarray | None = None  # (V, grid, grid): the id of the character that each patch shows
    attention_labels: np.ndarray | None = None  # (T,): where in the sample the next character's view token is


@dataclass(frozen=True)
class Collator:
    """How records become samples and batches; the same for training, checking and evaluation."""

    tokenizer: Tokenizer
    side: int  # pixels of a view
    view_tokens: int
    prompt_template: str = "repo"
    max_tokens: int = 8192
    max_crops: int = 6
    char_patch: int = 0  # pixels of an encoder's patch; 0: no map of characters
    attention_labels: bool = False  # whether samples tell where the decoder is to look
    packing_length: int = 0  # tokens of a row that several samples share; 0: a row for each

    def sample(self, record: Record) -> Sample:
        """Raises RecordError with file:line for an unreadable image, a bad region, or too many tokens."""
        views, size = self.views(record)
        question, answer = self.tokens(record, len(views), size)
        self.check_length(record, question, answer)
        look_at = None
        if self.attention_labels:
            look_at = self.view_tokens_to_look_at(record, len(views), size, question, answer)
        return Sample(
            ids=np.array(question + answer, dtype=np.int64),
            labels=np.array([IGNORED] * len(question) + answer, dtype=np.int64),
            views=views,
            location=record.location,
            char_ids=self.char_map(record, len(views), size) if self.char_patch else None,
            attention_labels=look_at,
        )

    def tokens(self, record: Record, views: int, size: tuple[int, int]) -> tuple[list[int], list[int]]:
        """Ids of the prompt and of the answer of a record with so many views; their number is not checked."""
        question = self.tokenizer.encode_prompt(self.prompt(record, views, size))
        return question, self.tokenizer.encode_answer(record.text)

    def check_length(self, record: Record, question: Sequence[int], answer: Sequence[int]) -> None:
        tokens = len(question) + len(answer)
        if tokens > self.max_tokens:
            raise RecordError(
                f"{record.location}: {tokens} tokens ({len(question)} of the prompt, {len(answer)} of the "
                f"answer); expected at most {self.max_tokens} (data.max_tokens), or the answer would lose "
                "its end"
            )

    def char_map(self, record: Record, views: int, size: tuple[int, int]) -> np.ndarray:
        """(views, grid, grid): the first id of the character over the middle of each patch, pad_id on paper.

        Only records that tell their char_boxes, and have one view, are supervised; IGNORED elsewhere.
        """
        grid = self.side // self.char_patch
        if not record.char_boxes or views != 1:
            return np.full((views, grid, grid), IGNORED, dtype=np.int64)
        patches = np.full((1, grid, grid), self.tokenizer.pad_id, dtype=np.int64)
        width, height = size
        x_scale, y_scale = grid / width, grid / height  # patches a pixel
        for char, x1, y1, x2, y2 in record.char_boxes:
            if not char.isspace():
                rows = _patch_range(y1 * y_scale, y2 * y_scale)
                columns = _patch_range(x1 * x_scale, x2 * x_scale)
                patches[0, rows, columns] = self.tokenizer.encode(char)[0]
        return patches

    def view_tokens_to_look_at(
        self,
        record: Record,
        views: int,
        size: tuple[int, int],
        question: Sequence[int],
        answer: Sequence[int],
    ) -> np.ndarray:
        """(T,): for the token before each token of the answer, the place in the sample of the view token over
        the middle of that one's first printed character; IGNORED where there is none.

        Only records with one view, whose char_boxes are the text's characters in their order, have any.
        """
        look_at = np.full(len(question) + len(answer), IGNORED, dtype=np.int64)
        printed = [box for box in record.char_boxes if not box[0].isspace()]
        if views != 1 or [box[0] for box in printed] != [char for char in record.text if not char.isspace()]:
            return look_at
        first_view_token = question.index(self.tokenizer.image_id)
        view_tokens = iter([first_view_token + self._view_token_over(box, size) for box in printed])
        at_byte: list[int] = []  # of the text: the view token of a printed character that begins there, or -1
        for char in self.tokenizer.decode(answer):
            at_byte.append(-1 if char.isspace() else next(view_tokens))
            at_byte.extend([-1] * (len(char.encode()) - 1))
        start = 0  # of a token, in bytes of the text
        for place, token in enumerate(answer, len(question) - 1):
            end = start + len(self.tokenizer.decode_bytes([token]))
            look_at[place] = next((index for index in at_byte[start:end] if index >= 0), IGNORED)
            start = end
        return look_at

    def _view_token_over(self, char_box: tuple, size: tuple[int, int]) -> int:
        """Which view token of the only view covers the middle of a character."""
        side = math.isqrt(self.view_tokens)
        _, x1, y1, x2, y2 = char_box
        column, row = (
            min(max(int((low + high) / 2 / pixels * side), 0), side - 1)
            for low, high, pixels in ((x1, x2, size[0]), (y1, y2, size[1]))
        )
        return row * side + column

    def views(self, record: Record) -> tuple[np.ndarray, tuple[int, int]]:
        """The record's views and the size of its first image, (width, height)."""
        try:
            pages = [images.open_image(path) for path in record.images]
        except (OSError, ValueError) as error:
            raise RecordError(f"{record.location}: {error}") from error
        return images.views(pages, record.task, self.side, self.max_crops), pages[0].size

    def prompt(self, record: Record, views: int, size: tuple[int, int]) -> str:
        try:
            return prompts.build_prompt(
                record.task,
                box=record.box,
                color=record.color,
                image_size=size if record.box_unit == "pixel" else None,
                views=views,
                prompt_template=self.prompt_template,
                view_tokens=self.view_tokens,
            )
        except PromptError as error:
            raise RecordError(f"{record.location}: {error}") from error

    def blank(self) -> Sample:
        """A white page of which nothing is learnt: stands in a batch that has lost all of its samples."""
        ids = self.tokenizer.encode_prompt(
            prompts.build_prompt("ocr", prompt_template=self.prompt_template, view_tokens=self.view_tokens)
        )
        char_ids = None
        if self.char_patch:
            grid = self.side // self.char_patch
            char_ids = np.full((1, grid, grid), IGNORED, dtype=np.int64)
        return Sample(
            ids=np.array(ids, dtype=np.int64),
            labels=np.full(len(ids), IGNORED, dtype=np.int64),
            views=np.full((1, self.side, self.side, 3), 255, dtype=np.uint8),
            location="blank",
            char_ids=char_ids,
            attention_labels=np.full(len(ids), IGNORED, dtype=np.int64) if self.attention_labels else None,
        )

    def batch(self, samples: Sequence[Sample]) -> dict[str, np.ndarray]:
        """Right-padded arrays: input_ids, labels, attention_mask (R, T); pixel_values (V, side, side, 3).

        attention_mask numbers the samples of a row from 1 and is 0 on padding. Without packing a row is a
        sample; with it position_ids (R, T) start again with each, as its neighbours stay unseen.
        """
        indices = pack_samples([len(sample.ids) for sample in samples], self.packing_length)
        rows = [[samples[index] for index in row] for row in indices]
        shape = len(rows), max(sum(len(sample.ids) for sample in row) for row in rows)
        ids = np.full(shape, self.tokenizer.pad_id, dtype=np.int64)
        labels, look_at = (np.full(shape, IGNORED, dtype=np.int64) for _ in range(2))
        mask, positions = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        for index, row in enumerate(rows):
            start = 0
            for number, sample in enumerate(row, 1):
                end = start + len(sample.ids)
                ids[index, start:end], labels[index, start:end] = sample.ids, sample.labels
                mask[index, start:end], positions[index, start:end] = number, np.arange(end - start)
                if sample.attention_labels is not None:
                    at = sample.attention_labels
                    look_at[index, start:end] = np.where(at == IGNORED, IGNORED, at + start)
                start = end
        ordered = [sample for row in rows for sample in row]
        batch = {
            "input_ids": ids,
            "labels": labels,
            "attention_mask": mask,
            "pixel_values": np.concatenate([sample.views for sample in ordered]),
        }
        if self.packing_length:
            batch["position_ids"] = positions
        if self.attention_labels:
            batch["attention_labels"] = look_at
        if self.char_patch:
            batch["char_labels"] = np.concatenate([sample.char_ids for sample in ordered])
        return batch


def pack_samples(lengths: Sequence[int], packing_length: int) -> list[list[int]]:
    """Indices of samples of these lengths, row by row: the longest first, each into the first row with room.

    A row holds packing_length tokens, or as many as the longest sample has; with 0 each sample has its own.
    """
    if not packing_length:
        return [[index] for index in range(len(lengths))]
    capacity = max(packing_length, *lengths)
    rows: list[list[int]] = []
    free: list[int] = []  # tokens that each row still takes
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        row = next((row for row, room in enumerate(free) if room >= lengths[index]), None)
        if row is None:
            row = len(rows)
            rows.append([])
            free.append(capacity)
        rows[row].append(index)
        free[row] -= lengths[index]
    return rows


def _patch_range(low: float, high: float) -> slice:
    """The patches whose middles lie in low..high; the one around its middle for a character too thin."""
    first, end = max(0, math.ceil(low - 0.5)), math.ceil(high - 0.5)
    middle = max(0, int((low + high) / 2))
    return slice(first, end) if end > first else slice(middle, middle + 1)
