"""Spreads of two or three pages side by side or under each other, too large for one view: multi_crop records.

Pages are records that engines made; the text of a spread is that of its pages, one after another.
"""

from __future__ import annotations

import argparse
import functools
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_tools import arguments, produce, record_source
from got_train.errors import DrawingError

if TYPE_CHECKING:
    import numpy
    from PIL import Image

    from got_train.tokenizer import Tokenizer

PAGE_TASKS = {"format": "multi_crop", "ocr": "multi_crop_ocr"}
LARGEST_SCALE = 1.5  # pages that differ more in size would become too small or too soft to read


@dataclass(frozen=True)
class CropsEngine:
    """One spread a number; half of them follow each other in the records, as the pages of a book do."""

    sources: tuple[record_source.MadeRecords, ...]  # one for each task of the pages
    pages: tuple[int, int]  # in a spread
    tokenizer: str | None
    most_tokens: int
    suffix: str = "jpg"
    name: str = "crops"
    attempts: int = 50

    def rows(self, index: int, rng: numpy.random.Generator) -> list[produce.Row]:
        count = int(rng.integers(self.pages[0], self.pages[1] + 1))
        source = self.sources[int(rng.integers(len(self.sources)))]
        chosen = drawn_pages(source, count, rng, following=bool(rng.random() < 0.5))
        text = "\n".join(page.text for page in chosen)
        if self.tokenizer and len(load(self.tokenizer).encode(text)) > self.most_tokens:
            raise produce.Rejected(f"more than {self.most_tokens} tokens")
        direction = "side by side" if rng.random() < 0.5 else "stacked"
        image = stitched([page.image() for page in chosen], direction == "side by side", rng)
        picture = produce.Picture(f"{index:08d}.{self.suffix}", produce.encode(image, self.suffix))
        meta = {"pages": [page.id for page in chosen], "direction": direction, "size": image.size}
        task = PAGE_TASKS[chosen[0].task]
        return [produce.Row(f"{self.name}-{index:08d}", (picture,), task, text, meta=meta)]


@functools.lru_cache(maxsize=4)
def load(folder: str) -> Tokenizer:
    """The tokenizer of a folder, once a process."""
    from got_train.tokenizer import load_tokenizer

    return load_tokenizer(folder)


def drawn_pages(
    records: record_source.MadeRecords, count: int, rng: numpy.random.Generator, following: bool
) -> list[record_source.Made]:
    """Different records by lot: neighbours, or from anywhere."""
    if count > len(records):
        raise DrawingError(f"--records: {len(records)} pages; {count} are to stand together, give more")
    if following:
        start = int(rng.integers(len(records) - count + 1))
        return [records[index] for index in range(start, start + count)]
    return [records[int(index)] for index in rng.choice(len(records), count, replace=False)]


def stitched(images: list[Image.Image], across: bool, rng: numpy.random.Generator) -> Image.Image:
    """The pages on one ground, equally high (across) or wide, with a gap or none between them."""
    from PIL import Image

    side = 1 if across else 0
    common = sorted(image.size[side] for image in images)[len(images) // 2]
    scaled = []
    for image in images:
        scale = common / image.size[side]
        if not 1 / LARGEST_SCALE <= scale <= LARGEST_SCALE:
            raise produce.Rejected("pages of too different sizes")
        size = (round(image.width * scale), round(image.height * scale))
        scaled.append(image if size == image.size else image.resize(size, Image.Resampling.BICUBIC))
    gap = int(rng.integers(0, 1 + common // 30)) if rng.random() < 0.6 else 0
    ground = tuple(int(value) for value in (255 - rng.integers(0, 60, 1).repeat(3)))
    length = sum(image.size[1 - side] for image in scaled) + gap * (len(scaled) - 1)
    mode = "L" if all(image.mode == "L" for image in scaled) else "RGB"
    spread = Image.new(
        mode, (length, common) if across else (common, length), ground if mode == "RGB" else ground[0]
    )
    start = 0
    for image in scaled:
        spread.paste(image, (start, 0) if across else (0, start))
        start += image.size[1 - side] + gap
    return spread


def add_record_arguments(options: argparse.ArgumentParser, default: tuple[str, ...]) -> None:
    """The options of engines that make records of records."""
    options.add_argument(
        "--records",
        action="append",
        required=True,
        help="folder or file of records of one page; may come again",
    )
    options.add_argument(
        "--page-tasks", type=arguments.one_of(tuple(PAGE_TASKS)), default=default,
        help=f"which records to take (default: {','.join(default)})",
    )  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    options = arguments.CommandParser(
        prog="python -m data_tools.engines.crops",
        description="Stitch pages to large pictures and write them as records.",
    )
    arguments.add_arguments(options, shard_pages=100, counted="spreads")
    add_record_arguments(options, default=("format", "ocr"))
    options.add_argument("--pages", type=arguments.span, default=(2, 3), help="in a spread (default: 2-3)")
    options.add_argument("--tokenizer", help="folder of the tokenizer that counts --most-tokens")
    options.add_argument(
        "--most-tokens", type=arguments.positive, default=4500,
        help="of a spread's text; 13 views of 256 fill the rest of 8K (default: %(default)s)",
    )  # fmt: skip
    options.add_argument("--image", choices=("jpg", "png"), default="jpg", help="(default: %(default)s)")
    return options


def make(args: argparse.Namespace) -> dict[str, Any]:
    """Records as the options ask; returns the counts."""
    sources = record_source.by_task([Path(path) for path in args.records], args.page_tasks)
    if args.tokenizer:
        load(args.tokenizer)  # a wrong folder ends the command here, not in a worker
    engine = CropsEngine(
        sources=sources,
        pages=args.pages,
        tokenizer=args.tokenizer,
        most_tokens=args.most_tokens,
        suffix=args.image,
    )
    return produce.write(
        engine, args, args.count, files=[record_source.fingerprint(source) for source in sources]
    )


main = produce.command(parser, make)

if __name__ == "__main__":
    sys.exit(main())
