"""Records of a page and its regions: the whole text, a box around a line or paragraph, a coloured frame.

Knows lines with boxes and pictures; whether typst, a PDF or something else gave them is the engine's matter.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from data_tools import output, textlayer

if TYPE_CHECKING:
    import numpy
    from PIL import Image

FRAME_COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
LEAST_CHARACTERS = 2  # of a region; a lone character is a piece of a formula more often than a line


@dataclass(frozen=True)
class Page:
    """A picture with the lines on it in order of reading, paragraph by paragraph."""

    image: Image.Image
    lines: list[textlayer.Line]
    paragraphs: list[list[textlayer.Line]]
    formatted: str | None = None
    meta: dict[str, Any] = field(default_factory=dict)

    def rows(
        self, engine: str, index: int, tasks: tuple[str, ...], suffix: str, rng: numpy.random.Generator
    ) -> list[output.Row]:
        """A record for every task; box and color ask for the same line or paragraph, drawn by lot."""
        line_boxes = [textlayer.pixel_box([line], *self.image.size) for line in self.lines]
        paragraph_boxes = [textlayer.pixel_box(own, *self.image.size) for own in self.paragraphs]
        if rng.random() < 0.5:
            regions = [(line.text, box) for line, box in zip(self.lines, line_boxes, strict=True)]
        else:
            texts = ["\n".join(line.text for line in own) for own in self.paragraphs]
            regions = list(zip(texts, paragraph_boxes, strict=True))
        regions = [(text, box) for text, box in regions if len(text) >= LEAST_CHARACTERS]
        if not regions:
            raise output.Rejected("no line or paragraph of two characters")
        target = int(rng.integers(len(regions)))
        text, box = regions[target]
        frames = random_frames(len(regions), target, rng)
        picture = output.Picture(f"{index:08d}.{suffix}", output.encode(self.image, suffix))
        rows = []
        for task in tasks:
            row = output.Row(f"{engine}-{index:08d}-{task}", (picture,), "ocr", text, meta=self.meta)
            if task == "ocr":
                boxes = {"line_boxes": line_boxes, "paragraph_boxes": paragraph_boxes}
                whole = "\n".join(line.text for line in self.lines)
                row = replace(row, text=whole, meta=self.meta | boxes)
            elif task == "format":
                row = replace(row, task="format", text=self.formatted or "")
            elif task == "box":
                row = replace(row, box=box)
            else:
                framed = draw_frames(
                    self.image, {regions[place][1]: color for place, color in frames.items()}
                )
                colored = output.Picture(f"{index:08d}-color.{suffix}", output.encode(framed, suffix))
                row = replace(
                    row, pictures=(colored,), color=frames[target], meta=self.meta | {"region": box}
                )
            rows.append(row)
        return rows


def random_frames(regions: int, target: int, rng: numpy.random.Generator) -> dict[int, str]:
    """A colour for the target and, on up to half of the pages, another colour for another region."""
    colors = rng.permutation(list(FRAME_COLORS)).tolist()
    frames = {target: colors[0]}
    other = int(rng.integers(regions))
    if other != target and rng.random() < 0.5:
        frames[other] = colors[1]
    return frames


def draw_frames(image: Image.Image, frames: dict[textlayer.Box, str]) -> Image.Image:
    """A copy in colour with a frame around each box, outside of it."""
    from PIL import ImageDraw

    framed = image.convert("RGB")
    draw = ImageDraw.Draw(framed)
    width = max(2, round(max(image.size) / 500))
    # the asked frame comes first in the dict and is drawn last, so that it is whole where two cross
    for (x1, y1, x2, y2), color in reversed(frames.items()):
        corners = (x1 - width, y1 - width, x2 + width - 1, y2 + width - 1)
        draw.rectangle(corners, outline=FRAME_COLORS[color], width=width)
    return framed


def by_column(lines: list[textlayer.Line]) -> list[list[textlayer.Line]]:
    """The lines of a paragraph, parted where it goes on at the top of the next column."""
    pieces: list[list[textlayer.Line]] = []
    for line in lines:
        if pieces and line.box[1] > pieces[-1][-1].box[1]:
            pieces[-1].append(line)
        else:
            pieces.append([line])
    return pieces
