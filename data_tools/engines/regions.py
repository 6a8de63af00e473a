"""Records of a page and its regions: the whole text, a box around a line or paragraph, a coloured frame.

Knows lines with boxes and pictures; whether typst, a PDF or something else gave them is the engine's matter.
The command makes box, point and frame records of pages that any engine has written with their boxes.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from data_tools import arguments, produce, record_source
from data_tools.drawing import degrade, text_layer
from got_train.errors import DataError

if TYPE_CHECKING:
    import numpy
    from PIL import Image

FRAME_COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
TASKS = ("box", "point", "color")
PAGE_TASKS = ("ocr", "format")
THIRD, HALF = 0.33, 0.5
OUTWARD, INWARD = 0.35, 0.06  # of a line's height: how far a jittered box goes beyond its text, or into it
LEAST_CHARACTERS = 2  # of a region; a lone character is a piece of a formula more often than a line


@dataclass(frozen=True)
class Page:
    """A picture with the lines on it in order of reading, paragraph by paragraph."""

    image: Image.Image
    lines: list[text_layer.Line]
    paragraphs: list[list[text_layer.Line]]
    formatted: str | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    blocks: list[tuple[str, list[text_layer.Line]]] = field(default_factory=list)  # as formatted, with lines

    def degraded(self, rng: numpy.random.Generator, share: float, upright: bool) -> Page:
        """The page made worse in `share` of the calls, its boxes where the text is now."""
        if share == 0 or not self.lines:
            return self
        least = min(line.em for line in self.lines)
        image, parameters, matrix = degrade.apply_with_matrix(self.image, rng, share, least, upright=upright)
        if not parameters:
            return self
        places = {id(line): _moved(line, matrix, image.size) for line in self.lines}
        return replace(
            self,
            image=image,
            lines=[places[id(line)] for line in self.lines],
            paragraphs=[[places[id(line)] for line in own] for own in self.paragraphs],
            blocks=[(text, [places[id(line)] for line in own]) for text, own in self.blocks],
            meta=self.meta | {"degrade": parameters},
        )

    def rows(
        self, engine: str, index: int, tasks: tuple[str, ...], suffix: str, rng: numpy.random.Generator
    ) -> list[produce.Row]:
        """A record for every task; box and color ask for the same line or paragraph, drawn by lot."""
        line_boxes = [text_layer.pixel_box([line], *self.image.size) for line in self.lines]
        paragraph_boxes = [text_layer.pixel_box(own, *self.image.size) for own in self.paragraphs]
        if rng.random() < 0.5:
            regions = [(line.text, box) for line, box in zip(self.lines, line_boxes, strict=True)]
        else:
            sound = [
                (own, box)
                for own, box in zip(self.paragraphs, paragraph_boxes, strict=True)
                if self.holds_its_lines(own, box)
            ]
            regions = [("\n".join(line.text for line in own), box) for own, box in sound]
        regions = [(text, box) for text, box in regions if len(text) >= LEAST_CHARACTERS]
        if not regions:
            raise produce.Rejected("no line or paragraph of two characters")
        target = int(rng.integers(len(regions)))
        text, box = regions[target]
        frames = random_frames(len(regions), target, rng)
        picture = produce.Picture(f"{index:08d}.{suffix}", produce.encode(self.image, suffix))
        rows = []
        for task in tasks:
            row = produce.Row(f"{engine}-{index:08d}-{task}", (picture,), "ocr", text, meta=self.meta)
            if task == "ocr":
                boxes = {"line_boxes": line_boxes, "paragraph_boxes": paragraph_boxes}
                whole = "\n".join(line.text for line in self.lines)
                row = replace(row, text=whole, meta=self.meta | boxes)
            elif task == "format":
                row = replace(
                    row, task="format", text=self.formatted or "", meta=self.meta | self._told_blocks()
                )
            elif task == "box":
                row = replace(row, box=box)
            else:
                framed = draw_frames(
                    self.image, {regions[position][1]: color for position, color in frames.items()}
                )
                colored = produce.Picture(f"{index:08d}-color.{suffix}", produce.encode(framed, suffix))
                row = replace(
                    row, pictures=(colored,), color=frames[target], meta=self.meta | {"region": box}
                )
            rows.append(row)
        return rows

    def holds_its_lines(self, own: list[text_layer.Line], box: text_layer.Box) -> bool:
        """Whether no line but a paragraph's own has its middle in the box (numbers beside a program do)."""
        inside = 0
        for line in self.lines:
            x, y = (line.box[0] + line.box[2]) / 2, (line.box[1] + line.box[3]) / 2
            inside += box[0] <= x < box[2] and box[1] <= y < box[3]
        return inside <= len(own)

    def _told_blocks(self) -> dict[str, Any]:
        """The regions of a formatted page, as the command of this module reads them."""
        blocks = [
            {"box": text_layer.pixel_box(own, *self.image.size), "text": text, "lines": len(own)}
            for text, own in self.blocks
            if self.holds_its_lines(own, text_layer.pixel_box(own, *self.image.size))
        ]
        return {"regions": blocks} if blocks else {}


def random_frames(regions: int, target: int, rng: numpy.random.Generator) -> dict[int, str]:
    """A colour for the target and, on up to half of the pages, another colour for another region."""
    colors = rng.permutation(list(FRAME_COLORS)).tolist()
    frames = {target: colors[0]}
    other = int(rng.integers(regions))
    if other != target and rng.random() < 0.5:
        frames[other] = colors[1]
    return frames


def draw_frames(image: Image.Image, frames: dict[text_layer.Box, str]) -> Image.Image:
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


def by_column(lines: list[text_layer.Line]) -> list[list[text_layer.Line]]:
    """The lines of a paragraph, parted where it goes on at the top of the next column."""
    pieces: list[list[text_layer.Line]] = []
    for line in lines:
        if pieces and line.box[1] > pieces[-1][-1].box[1]:
            pieces[-1].append(line)
        else:
            pieces.append([line])
    return pieces


def reading_order(boxes: Sequence[Sequence[float]]) -> list[int] | None:
    """The places of boxes from top to bottom, those side by side from left to right.

    Two stand side by side if they share more than half the height of the lower one. None where that is no
    order: two share a third to a half, or a chain of neighbours climbs down the page.
    """
    rows: list[list[int]] = []
    for index in sorted(range(len(boxes)), key=lambda index: boxes[index][1] + boxes[index][3]):
        shares = [[_shared_height(boxes[index], boxes[other]) for other in row] for row in rows]
        if any(THIRD < share <= HALF for row in shares for share in row):
            return None
        if any(share > HALF for row in shares[:-1] for share in row):
            return None
        if shares and max(shares[-1]) > HALF:
            if min(shares[-1]) <= HALF:
                return None
            rows[-1].append(index)
        else:
            rows.append([index])
    return [index for row in rows for index in sorted(row, key=lambda index: boxes[index][0])]


def near(first: Sequence[float], second: Sequence[float], gap: float) -> bool:
    """Whether less than `gap` pixels are between two boxes."""
    across = first[0] - gap < second[2] and second[0] - gap < first[2]
    return across and first[1] - gap < second[3] and second[1] - gap < first[3]


def _shared_height(one: Sequence[float], other: Sequence[float]) -> float:
    """The height that two boxes share, as a part of the lower box's own."""
    lower = min(one[3] - one[1], other[3] - other[1])
    return (min(one[3], other[3]) - max(one[1], other[1])) / max(lower, 1e-6)


def _moved(line: text_layer.Line, matrix: numpy.ndarray, size: tuple[int, int]) -> text_layer.Line:
    ((x1, y1, x2, y2),) = degrade.moved([line.box], matrix, size)
    scale = (y2 - y1) / max(line.box[3] - line.box[1], 1e-6)
    base = y1 + (line.base - line.box[1]) * scale
    return replace(line, box=(x1, y1, x2, y2), em=line.em * float(matrix[1, 1]), base=base)


class Region(NamedTuple):
    """A piece of a page that can be asked for: what it says and the box of its ink."""

    text: str
    box: tuple[int, int, int, int]
    kind: str  # line, paragraph, or region where the engine did not say
    lines: int

    @property
    def line_height(self) -> float:
        return (self.box[3] - self.box[1]) / max(1, self.lines)


@dataclass(frozen=True)
class RegionEngine:
    """Page by page through records with boxes; a record for every task and region drawn."""

    records: record_source.MadeRecords
    tasks: tuple[str, ...]
    per_page: int
    jitter: float  # share of the boxes and frames
    name: str = "regions"
    attempts: int = 1

    def rows(self, index: int, rng: numpy.random.Generator) -> list[produce.Row]:
        record = self.records[index]
        known = told_regions(record)
        fit = [region for region in known if len(region.text) >= LEAST_CHARACTERS and alone(region, known)]
        if not fit:
            raise produce.Rejected("no region with a box of its own")
        suffix = Path(record.picture.name).suffix
        picture = produce.Picture(f"{index:08d}{suffix}", record.picture.data)
        rows = []
        for number, position in enumerate(rng.permutation(len(fit))[: self.per_page].tolist()):
            for task in self.tasks:
                name = f"{self.name}-{index:08d}-{number}-{task}"
                row = produce.Row(
                    name, (picture,), record.task, fit[position].text, meta={"source": record.id}
                )
                made_row = self._row(row, task, record, fit, position, known, rng)
                rows += [made_row] if made_row else []
        return rows

    def _row(
        self,
        row: produce.Row,
        task: str,
        record: record_source.Made,
        fit: list[Region],
        index: int,
        known: list[Region],
        rng: numpy.random.Generator,
    ) -> produce.Row | None:
        region, meta = fit[index], row.meta | {"kind": fit[index].kind, "region": fit[index].box}
        if task == "point":
            # a point in a paragraph stands in a line as well: of the two, the line is meant
            return (
                None if region.kind == "paragraph" else replace(row, box=random_point(region, rng), meta=meta)
            )
        meta |= {"jittered": bool(rng.random() < self.jitter)}
        box = jittered(region, known, record.image().size, rng) if meta["jittered"] else region.box
        if task == "box":
            return replace(row, box=box, meta=meta)
        frames = random_frames(len(fit), index, rng)
        drawn = {box if other == index else fit[other].box: color for other, color in frames.items()}
        suffix = "png" if record.picture.name.endswith(".png") else "jpg"
        framed = produce.encode(draw_frames(record.image(), drawn), suffix)
        picture = produce.Picture(f"{row.id.removeprefix(self.name + '-')}.{suffix}", framed)
        return replace(row, pictures=(picture,), color=frames[index], meta=meta | {"region": box})


def told_regions(record: record_source.Made) -> list[Region]:
    """The regions that a record tells: its own list, or lines and paragraphs by boxes of lines or letters."""
    if "regions" in record.meta:
        return [
            Region(region["text"], _corners(record, region["box"]), "region", int(region.get("lines", 1)))
            for region in record.meta["regions"]
        ]
    if record.task != "ocr":
        return []
    texts = record.text.split("\n")
    boxes = record.meta.get("line_boxes") or _line_boxes(record, texts)
    if not boxes:
        return []
    if len(boxes) != len(texts):
        raise DataError(
            f"{record.where}: {len(boxes)} line_boxes for {len(texts)} lines of text; expected one a line"
        )
    lines = [Region(text, _corners(record, box), "line", 1) for text, box in zip(texts, boxes, strict=True)]
    return lines + _paragraphs(record, lines)


def _corners(record: record_source.Made, box: Sequence[float]) -> tuple[int, int, int, int]:
    if len(box) != 4 or not box[0] < box[2] or not box[1] < box[3]:
        raise DataError(f"{record.where}: box {list(box)} has no area; expected x1, y1, x2, y2")
    x1, y1, x2, y2 = (int(value) for value in box)
    return x1, y1, x2, y2


def _line_boxes(record: record_source.Made, texts: list[str]) -> list[list[int]]:
    """The boxes around the characters of each line; none if they do not spell the text."""
    char_boxes = [char_box for char_box in record.char_boxes if char_box[0].strip()]
    spelled = "".join(char_box[0] for char_box in char_boxes)
    if not char_boxes or spelled != "".join(record.text.split()):
        return []
    rest, boxes = iter(char_boxes), []
    for text in texts:
        own = list(itertools.islice(rest, len("".join(text.split()))))
        if not own:
            return []
        boxes.append(
            [*(min(g[at] for g in own) for at in (1, 2)), *(max(g[at] for g in own) for at in (3, 4))]
        )
    return boxes


def _paragraphs(record: record_source.Made, lines: list[Region]) -> list[Region]:
    """Paragraphs of several lines, where the boxes told hold consecutive lines and nothing else."""
    result = []
    for box in record.meta.get("paragraph_boxes", ()):
        x1, y1, x2, y2 = _corners(record, box)
        own = [index for index, line in enumerate(lines) if _within(line.box, (x1, y1, x2, y2))]
        if len(own) > 1 and own == list(range(own[0], own[-1] + 1)):
            text = "\n".join(lines[index].text for index in own)
            result.append(Region(text, (x1, y1, x2, y2), "paragraph", len(own)))
    return result


def alone(region: Region, known: list[Region], box: Sequence[int] | None = None, least: float = 0.2) -> bool:
    """Whether the box shows no more than a share of the height of any text that is not the region's."""
    box = box or region.box
    for other in known:
        if _within(other.box, region.box) or _within(region.box, other.box):
            continue  # its own lines, or the paragraph that it belongs to
        across = min(box[2], other.box[2]) - max(box[0], other.box[0])
        down = min(box[3], other.box[3]) - max(box[1], other.box[1])
        if across > 0 and down > least * other.line_height:
            return False
    return True


def _within(inner: Sequence[float], outer: Sequence[float]) -> bool:
    return all(inner[at] >= outer[at] - 1 and inner[at + 2] <= outer[at + 2] + 1 for at in (0, 1))


def jittered(
    region: Region, known: list[Region], size: tuple[int, int], rng: numpy.random.Generator
) -> tuple[int, int, int, int]:
    """A box as a hand draws it: up to a third of a line too large, or a little too small; no other text."""
    height = region.line_height
    drawn = rng.uniform(-INWARD, OUTWARD, 4) * height
    for shrink in (1.0, 0.5, 0.25, 0.0):
        x1, y1, x2, y2 = (
            round(edge + sign * max(0.0, shift) * shrink + sign * min(0.0, shift))
            for edge, sign, shift in zip(region.box, (-1, -1, 1, 1), drawn.tolist(), strict=True)
        )
        box = max(0, x1), max(0, y1), min(size[0], x2), min(size[1], y2)
        if alone(region, known, box, least=0.2 if shrink == 0 else 0.0):
            return box
    return region.box


def random_point(region: Region, rng: numpy.random.Generator) -> tuple[int, int]:
    """A point well inside the region."""
    x1, y1, x2, y2 = region.box
    right, down = rng.uniform((0.1, 0.25), (0.9, 0.75)).tolist()
    return int(x1 + right * (x2 - x1)), int(y1 + down * (y2 - y1))


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    options = arguments.CommandParser(
        prog="python -m data_tools.engines.regions",
        description="Make box, point and frame records of pages that were written with their boxes.",
    )
    options.add_argument(
        "--records",
        action="append",
        required=True,
        help="folder or file of records of one page; may come again",
    )
    arguments.add_arguments(options, shard_pages=250, counted=None)
    options.add_argument(
        "--tasks", type=arguments.one_of(TASKS), default=("box",), help="box,point,color (default: box)"
    )
    options.add_argument(
        "--page-tasks", type=arguments.one_of(PAGE_TASKS), default=PAGE_TASKS,
        help="which records to take: ocr gives plain, format formatted ones (default: both)",
    )  # fmt: skip
    options.add_argument(
        "--per-page", type=arguments.positive, default=1, help="regions of a page (default: %(default)s)"
    )
    options.add_argument(
        "--jitter",
        type=degrade.share,
        default=0.0,
        help="share of boxes that are not tight, 0-1 (default: 0)",
    )
    return options


def make(args: argparse.Namespace) -> dict[str, Any]:
    """Records as the options ask; returns the counts."""
    records = record_source.open_records([Path(path) for path in args.records], args.page_tasks)
    engine = RegionEngine(records=records, tasks=args.tasks, per_page=args.per_page, jitter=args.jitter)
    return produce.write(engine, args, len(records), files=record_source.fingerprint(records), redrawn=False)


main = produce.command(parser, make)

if __name__ == "__main__":
    sys.exit(main())
