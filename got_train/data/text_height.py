"""How high the lines of text on a page are, told from its pixels alone, and what the encoder is left of them.

Pages of text on an even ground; knows no words, no boxes and no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from got_train import images

STRIPS = (0.5, 0.25)  # of the page's width that one look takes in: columns and skew need narrow ones
ROWS = 2048  # pixels of height beyond which a page is scaled down first
CONTRAST = 48  # grey levels between ink and ground
SMALLEST = 4  # pixels; lower runs of ink are rules, dots and noise
FEWEST = 3  # lines of one height that make it a height of the page
SMALL = 0.1  # quantile of the heights that counts as the smallest: a single odd run is no line
WHOLE = (
    0.75  # quantile among runs of at most twice that: letters such as x make low runs, `(p` and `dg` whole
)


@dataclass(frozen=True)
class TextHeight:
    """Height of the smallest lines (from ascender to descender) and size of the page, in its pixels."""

    height: float
    size: tuple[int, int]

    def in_view(self, side: int, grid: tuple[int, int] = (1, 1)) -> float:
        """The height once the page is squashed to so many columns and rows of square views.

        Where the width shrinks more than the height, letters suffer as lines of that height would.
        """
        across, down = (side * count / length for count, length in zip(grid, self.size, strict=True))
        return self.height * min(across, down)


def measure_text_height(image: Image.Image) -> TextHeight | None:
    """None where no text is found: blank pages, photographs, pages in one piece."""
    grey = image.convert("L")
    factor = min(1.0, ROWS / grey.height)
    if factor < 1:
        grey = grey.resize((max(1, round(grey.width * factor)), ROWS), Image.Resampling.BOX)
    heights = _line_heights(_ink(np.asarray(grey)))
    if len(heights) < FEWEST:
        return None
    least = np.quantile(heights, SMALL)
    return TextHeight(float(np.quantile(heights[heights <= 2 * least], WHOLE)) / factor, image.size)


def ink_box(image: Image.Image) -> tuple[int, int, int, int] | None:
    """The box around all ink of a picture, in its pixels; None of a blank one."""
    ink = _ink(np.asarray(image.convert("L")))
    rows, columns = (np.flatnonzero(ink.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def tiles(size: tuple[int, int], most: int, side: int) -> tuple[int, int]:
    """Columns and rows that multi_crop would cut such a page into."""
    return images.grid(size, 1, most, side)


def _ink(grey: np.ndarray) -> np.ndarray:
    """Where the page is written on: pixels that differ from the commonest grey."""
    ground = int(np.bincount(grey.ravel(), minlength=256).argmax())
    return np.abs(grey.astype(np.int16) - ground) > CONTRAST


def _line_heights(ink: np.ndarray) -> np.ndarray:
    """Heights of the runs of written rows in the strips of the width that shows the most of them."""
    best = np.empty(0)
    for share in STRIPS:
        runs = np.concatenate([_runs(strip) for strip in _strips(ink, share)])
        if len(runs) > 1.5 * len(best):
            best = runs
    return best


def _strips(ink: np.ndarray, share: float) -> Sequence[np.ndarray]:
    return np.array_split(ink, max(1, round(1 / share)), axis=1)


def _runs(strip: np.ndarray) -> np.ndarray:
    """Heights of runs of rows with ink, of those that look like text."""
    rows = strip.sum(axis=1)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], rows > 0, [0]]).astype(np.int8)))
    starts, ends = edges[::2], edges[1::2]
    heights = ends - starts
    total = np.concatenate([[0], np.cumsum(rows)])
    density = (total[ends] - total[starts]) / (heights * strip.shape[1] + 1e-9)
    text = (heights >= SMALLEST) & (heights < len(strip) / 4) & (density > 0.02) & (density < 0.6)
    return heights[text]
