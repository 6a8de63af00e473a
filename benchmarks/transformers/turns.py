"""The loop of one side: prepare a case, then run and time it once for every line on stdin."""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw

NANO_STEPS = 10  # of training in a turn: one alone would be timed with cold caches and sleeping threads


def a4_page() -> Path:
    """The file of an A4 page at 150 dpi with lines of words, the same on both sides."""
    page = Image.new("RGB", (1240, 1754), "white")
    draw = ImageDraw.Draw(page)
    for line in range(60):
        draw.text((90, 80 + 26 * line), f"line {line}: " + "words that stand on a page " * 6, fill="black")
    path = Path(tempfile.mkdtemp()) / "page.jpg"
    page.save(path, quality=90)
    return path


def repeated(step: Callable[[], object]) -> Callable[[], None]:
    """So many nano steps as one run."""

    def run() -> None:
        for _ in range(NANO_STEPS):
            step()

    return run


def take_turns(cases: dict[str, Callable[[], Callable[[], object]]]) -> None:
    """argv names the case; a case prepares its inputs and returns what is timed."""
    work = cases[sys.argv[1]]()
    work()  # the first run chooses code paths and fills caches
    print(json.dumps({"ready": True}), flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        work()
        seconds = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(json.dumps({"seconds": seconds, "gigabytes": peak}), flush=True)
