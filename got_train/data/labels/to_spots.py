"""Pages with labelled boxes as records: all lines with their boxes (spot), one by its box, or the plain page.

Knows boxes, images' sizes and records; how a label file says them is a matter of readers.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from got_train.data.record import Record, RecordError
from got_train.errors import AnswerError
from got_train.formats import spots as spotting
from got_train.formats.spots import Box, Spot

from .crops import line_crops, window_crops
from .labelled_page import UNREADABLE, Label, LabelledPage, Losses, in_pixels, picture_size

CROPS = {"line": line_crops, "window": window_crops}  # tasks that cut pictures out of the page
TASKS = ("spot", "box", "ocr", *CROPS)


@dataclass(frozen=True)
class LabelOptions:
    """What becomes of labelled pages."""

    tasks: tuple[str, ...] = ("spot",)
    order: str | None = None  # None: the format's own
    illegible: str = "leave_out"  # these labels, or the whole page
    allow_empty: bool = False  # pages without a text


def page_records(page: LabelledPage, options: LabelOptions, losses: Losses) -> list[Record]:
    """The records of a page; what stands in none of them is added to `losses`."""
    losses.add_left_out(page)
    illegible = [label for label in page.labels if not _legible(label)]
    if illegible and options.illegible == "skip_page":
        texts = [label.text for label in page.labels]
        losses.add("pages skipped for an illegible label", page.location, texts)
        return []
    for label in illegible:
        losses.add("illegible labels left out", label.location or page.location, [label.text])
    labels = [label for label in page.labels if _legible(label) and label.text.strip()]
    for label in page.labels:
        if _legible(label) and not label.text.strip():
            losses.add("labels without text left out", label.location or page.location)
    if labels and all(label.box is None for label in labels):
        return [_unplaced(page, labels, options.tasks)]
    size = picture_size(page.image)
    spots = _in_pixels(page, labels, size, losses)
    if not spots and not options.allow_empty:
        losses.add("pages without text left out", page.location)
        return []
    return _placed(page, spots, size, options)


def _legible(label: Label) -> bool:
    return label.legible and label.text.strip() != UNREADABLE


def _unplaced(page: LabelledPage, labels: Sequence[Label], tasks: Sequence[str]) -> Record:
    if tuple(tasks) != ("ocr",):
        raise RecordError(f"{page.location}: has no positions; --tasks ocr")
    return Record((page.image,), "ocr", "\n".join(label.text for label in labels), location=page.location)


def _placed(
    page: LabelledPage, spots: Sequence[Spot], size: tuple[int, int], options: LabelOptions
) -> list[Record]:
    if (options.order or page.order) == "file":
        rows = [[spot] for spot in spots]
    else:
        indices = spotting.reading_rows([spot.box for spot in spots])
        rows = [[spots[index] for index in row] for row in indices]
    spots = [spot for row in rows for spot in row]
    whole = Record((page.image,), "ocr", "", location=page.location)
    records = []
    if "spot" in options.tasks:
        records.append(replace(whole, task="spot", text=_written(page.location, spots, size)))
    if "box" in options.tasks:
        records += [replace(whole, text=spot.text, box=spot.box) for spot in spots]
    if "ocr" in options.tasks:
        records.append(replace(whole, text="\n".join(" ".join(spot.text for spot in row) for row in rows)))
    for task in (task for task in options.tasks if task in CROPS):
        document = Path(page.image).stem  # so that all crops of a page stay on one side of a split
        crops = CROPS[task](page.image, spots)
        records += [replace(whole, images=(crop,), text=text, document=document) for crop, text in crops]
    return records


def _written(location: str, spots: Sequence[Spot], size: tuple[int, int]) -> str:
    try:
        return spotting.write(spots, size)
    except AnswerError as error:
        raise RecordError(f"{location}: {error}") from error


def _in_pixels(
    page: LabelledPage, labels: Sequence[Label], size: tuple[int, int], losses: Losses
) -> list[Spot]:
    """The labels in pixels of the image, cut off at its edges."""
    spots = []
    for label in in_pixels(replace(page, labels=tuple(labels)), size).labels:
        if label.box is None:
            losses.add("texts without a box left out", label.location or page.location, [label.text])
            continue
        location = label.location or page.location
        box = _clipped(label.box, size)
        if label.polygon:
            losses.add("polygons turned into the boxes around them", location)
        if box[0] >= box[2] or box[1] >= box[3]:
            losses.add("labels outside their image, or without area, left out", location, [label.text])
            continue
        if box != label.box:
            losses.add("boxes cut at the image's edge", location)
        spots.append(Spot(label.text.strip(), tuple(map(_plain, box))))
    return spots


def _clipped(box: Box, size: tuple[int, int]) -> Box:
    width, height = size
    return max(0, box[0]), max(0, box[1]), min(width, box[2]), min(height, box[3])


def _plain(number: float) -> float:
    """A whole number as an int, others to a thousandth of a pixel."""
    return int(number) if number == int(number) else round(number, 3)
