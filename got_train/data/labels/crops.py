"""Lines and windows of a few lines cut out of labelled pages, as pictures of their own.

For pages whose text is too small for one view, such as receipts: a line crop is what a recognizer of lines is
trained on, a window keeps a few lines together. Knows pixels, boxes and texts; no label format.
"""

from __future__ import annotations

import io
import random
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from got_train.formats.spots import SAME_LINE, Box, Spot
from got_train.images import EncodedImage, open_image

MARGIN = 0.1  # of a line's height that is cut out around it, for labels are drawn tight
WINDOW_ROWS = (3, 8)


def line_crops(path: str, spots: Sequence[Spot]) -> Iterator[tuple[EncodedImage, str]]:
    """Each labelled text as a picture of its own."""
    page = _grey_if_grey(open_image(path))
    for number, spot in enumerate(spots, 1):
        yield _cut(page, path, f"line{number:03d}", [spot]), spot.text


def window_crops(path: str, spots: Sequence[Spot]) -> Iterator[tuple[EncodedImage, str]]:
    """Rows of text, three to eight together, from the top of the page to its end; each row is in one window.

    The number of rows is drawn from the name of the page, so that it is the same each time.
    """
    page = _grey_if_grey(open_image(path))
    rows = text_rows(spots)
    draw = random.Random(zlib.crc32(Path(path).name.encode()))
    start = number = 0
    while start < len(rows):
        count, number = draw.randint(*WINDOW_ROWS), number + 1
        if len(rows) - start - count < WINDOW_ROWS[0]:  # no window of one or two rows is left over
            count = min(len(rows) - start, WINDOW_ROWS[1])
        window = rows[start : start + count]
        text = "\n".join(" ".join(spot.text for spot in row) for row in window)
        yield _cut(page, path, f"window{number:02d}", [spot for row in window for spot in row]), text
        start += count


def text_rows(spots: Sequence[Spot]) -> list[list[Spot]]:
    """Labels at one height, from left to right, however far apart: an item and its price are a row."""
    rows: list[list[Spot]] = []
    for spot in sorted(spots, key=lambda spot: spot.box[1] + spot.box[3]):
        if rows and _shared_height(rows[-1][-1].box, spot.box) >= SAME_LINE:
            rows[-1].append(spot)
        else:
            rows.append([spot])
    return [sorted(row, key=lambda spot: spot.box[0]) for row in rows]


def _shared_height(first: Box, second: Box) -> float:
    """The height that two boxes share, over that of the lower one."""
    return (min(first[3], second[3]) - max(first[1], second[1])) / min(
        first[3] - first[1], second[3] - second[1]
    )


def _cut(page: Image.Image, path: str, name: str, spots: Sequence[Spot]) -> EncodedImage:
    margin = MARGIN * min(spot.box[3] - spot.box[1] for spot in spots)
    left, top = (max(0, int(min(spot.box[side] for spot in spots) - margin)) for side in (0, 1))
    right = min(page.width, round(max(spot.box[2] for spot in spots) + margin))
    bottom = min(page.height, round(max(spot.box[3] for spot in spots) + margin))
    buffer = io.BytesIO()
    page.crop((left, top, max(right, left + 1), max(bottom, top + 1))).save(buffer, "PNG")
    return EncodedImage(f"{Path(path).stem}-{name}.png", buffer.getvalue())


def _grey_if_grey(image: Image.Image) -> Image.Image:
    """Scans are grey more often than not; one channel is a third of the bytes."""
    red, green, blue = image.split()
    grey = red.tobytes() == green.tobytes() == blue.tobytes()
    return red if grey else image
