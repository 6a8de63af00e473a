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
from got_train.modeling.config import IGNORED
from got_train.tokenizer import Tokenizer

from .records import Record, RecordError


@dataclass(frozen=True)
class Sample:
    """One record as numbers: ids and labels (T,), views (N, side, side, 3) uint8."""

    ids: np.ndarray
    labels: np.ndarray
    views: np.ndarray
    where: str
    glyphs: np.ndarray | None = None  # (N, grid, grid) the id of the character that each patch shows


@dataclass(frozen=True)
class Collator:
    """How records become samples and batches; the same for training, checking and evaluation."""

    tokenizer: Tokenizer
    side: int  # pixels of a view
    view_tokens: int
    dialect: str = "repo"
    max_tokens: int = 8192
    max_tiles: int = 6
    glyph_patch: int = 0  # pixels of an encoder's patch; 0: no map of characters

    def sample(self, record: Record) -> Sample:
        """Raises RecordError with file:line for an unreadable image, a bad region, or too many tokens."""
        views, size = self.views(record)
        question = self.tokenizer.encode_prompt(self.prompt(record, len(views), size))
        answer = self.tokenizer.encode_answer(record.text)
        tokens = len(question) + len(answer)
        if tokens > self.max_tokens:
            raise RecordError(
                f"{record.where}: {tokens} tokens ({len(question)} of the prompt, {len(answer)} of the answer"
                f"); at most {self.max_tokens} (data.max_tokens), or the answer would lose its end"
            )
        return Sample(
            ids=np.array(question + answer, dtype=np.int64),
            labels=np.array([IGNORED] * len(question) + answer, dtype=np.int64),
            views=views,
            where=record.where,
            glyphs=self.glyph_map(record, len(views), size) if self.glyph_patch else None,
        )

    def glyph_map(self, record: Record, views: int, size: tuple[int, int]) -> np.ndarray:
        """(views, grid, grid): the first id of the character over the middle of each patch, pad_id on paper.

        Only records that tell their glyphs, and one view, are supervised; IGNORED elsewhere.
        """
        grid = self.side // self.glyph_patch
        if not record.glyphs or views != 1:
            return np.full((views, grid, grid), IGNORED, dtype=np.int64)
        patches = np.full((1, grid, grid), self.tokenizer.pad_id, dtype=np.int64)
        across, down = (self.side / side / self.glyph_patch for side in size)
        for char, x1, y1, x2, y2 in record.glyphs:
            if not char.isspace():
                place = _patches(y1 * down, y2 * down), _patches(x1 * across, x2 * across)
                patches[(0, *place)] = self.tokenizer.encode(char)[0]
        return patches

    def views(self, record: Record) -> tuple[np.ndarray, tuple[int, int]]:
        """The record's views and the size of its first image, (width, height)."""
        try:
            pages = [images.open_image(path) for path in record.images]
        except (OSError, ValueError) as error:
            raise RecordError(f"{record.where}: {error}") from error
        return images.views(pages, record.task, self.side, self.max_tiles), pages[0].size

    def prompt(self, record: Record, views: int, size: tuple[int, int]) -> str:
        try:
            return prompts.build_prompt(
                record.task,
                box=record.box,
                color=record.color,
                image_size=size if record.box_unit == "pixel" else None,
                views=views,
                dialect=self.dialect,
                view_tokens=self.view_tokens,
            )
        except prompts.PromptError as error:
            raise RecordError(f"{record.where}: {error}") from error

    def batch(self, samples: Sequence[Sample]) -> dict[str, np.ndarray]:
        """Right-padded arrays: input_ids, labels, attention_mask (B, T); pixel_values (V, side, side, 3)."""
        tokens = max(len(sample.ids) for sample in samples)
        shape = (len(samples), tokens)
        ids = np.full(shape, self.tokenizer.pad_id, dtype=np.int64)
        labels = np.full(shape, IGNORED, dtype=np.int64)
        mask = np.zeros(shape, dtype=np.int64)
        for row, sample in enumerate(samples):
            ids[row, : len(sample.ids)] = sample.ids
            labels[row, : len(sample.ids)] = sample.labels
            mask[row, : len(sample.ids)] = 1
        batch = {
            "input_ids": ids,
            "labels": labels,
            "attention_mask": mask,
            "pixel_values": np.concatenate([sample.views for sample in samples]),
        }
        if self.glyph_patch:
            batch["glyph_labels"] = np.concatenate([sample.glyphs for sample in samples])
        return batch


def _patches(low: float, high: float) -> slice:
    """Those whose middles lie in low..high; for a character too thin for that, the one around its middle."""
    first, end = max(0, math.ceil(low - 0.5)), math.ceil(high - 0.5)
    middle = max(0, int((low + high) / 2))
    return slice(first, end) if end > first else slice(middle, middle + 1)
