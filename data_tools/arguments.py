"""Options that the engines share, and the types of their values. Knows nothing of what is drawn."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from got_train.cli.arguments import CommandParser

from .produce import CONTAINERS
from .text import corpora

__all__ = [
    "CommandParser",
    "add_arguments",
    "add_size_arguments",
    "add_text_arguments",
    "not_negative",
    "one_of",
    "part",
    "positive",
    "span",
]


def add_arguments(parser: argparse.ArgumentParser, shard_pages: int, counted: str | None = "pages") -> None:
    """The options that every engine has; counted=None for engines that count what they are given."""
    parser.add_argument(
        "--out", type=Path, required=True, help="folder to write; a stopped run there goes on"
    )
    if counted:
        parser.add_argument(
            "--count", type=positive, required=True, help=f"{counted}; each gives a record per task"
        )
    parser.add_argument("--seed", type=not_negative, default=0, help="(default: %(default)s)")
    parser.add_argument("--container", choices=CONTAINERS, default="parquet", help="(default: %(default)s)")
    parser.add_argument(
        "--num-workers", type=positive, default=os.cpu_count() or 1, help="(default: all cores)"
    )
    parser.add_argument(
        "--shard", type=part, default=(1, 1), help="make only part i of n, as in 2/8 (default: 1/1)"
    )
    parser.add_argument(
        "--shard-pages", type=positive, default=shard_pages, help="pages in one shard (default: %(default)s)"
    )


def add_size_arguments(parser: argparse.ArgumentParser, width: int, height: int) -> None:
    parser.add_argument("--width", type=positive, default=width, help="pixels (default: %(default)s)")
    parser.add_argument("--height", type=positive, default=height, help="pixels (default: %(default)s)")
    parser.add_argument("--side", type=positive, help="pixels; a square page instead of --width and --height")


def add_text_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--split", choices=corpora.SPLITS, default="train", help="side of the corpora (default: %(default)s)"
    )
    parser.add_argument(
        "--sources",
        type=one_of(corpora.SOURCES),
        default=corpora.SOURCES,
        help="corpora (default: all three)",
    )


def positive(text: str) -> int:
    """A whole number above 0, for argparse."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def not_negative(text: str) -> int:
    """A whole number from 0, for argparse."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return int(text)


def span(text: str) -> tuple[int, int]:
    """A range of whole numbers such as 1-4 (or 3), for argparse."""
    first, _, last = text.partition("-")
    try:
        low, high = positive(first), positive(last or first)
    except argparse.ArgumentTypeError:
        low, high = 1, 0
    if low > high:
        raise argparse.ArgumentTypeError(f"{text!r} is not a range such as 1-4")
    return low, high


def part(text: str) -> tuple[int, int]:
    """Part i of n, as in 2/8, for argparse."""
    first, _, last = text.partition("/")
    if not (first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a part such as 2/8 (1/8 is the first, 8/8 the last)"
        )
    return int(first), int(last)


def one_of(known: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    """A list such as ocr,box of known words, for argparse."""

    def choose(text: str) -> tuple[str, ...]:
        chosen = tuple(dict.fromkeys(text.split(",")))
        for word in chosen:
            if word not in known:
                raise argparse.ArgumentTypeError(f"{word!r} is not one of {', '.join(known)}")
        return chosen

    return choose
