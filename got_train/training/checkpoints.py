"""Checkpoints of a run on disk: complete or absent, found again, the old ones deleted."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

UNFINISHED = ".unfinished"  # a checkpoint is written here and renamed when it is complete
FINAL = "final"
_NAME = re.compile(r"checkpoint-(\d+)$")


def checkpoints(output_dir: str | os.PathLike) -> list[Path]:
    """The complete checkpoints of a run, oldest first."""
    found = [path for path in Path(output_dir).glob("checkpoint-*") if path.is_dir() and _NAME.search(path.name)]
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    return int(_NAME.search(checkpoint.name).group(1))


def publish(output_dir: str | os.PathLike, name: str) -> Path:
    """Move a finished checkpoint to its place; from then on it counts."""
    made, place = Path(output_dir) / UNFINISHED / name, Path(output_dir) / name
    if place.exists():  # the same step saved twice, at an interval and at the end
        shutil.rmtree(place)
    os.replace(made, place)
    shutil.rmtree(made.parent, ignore_errors=True)
    return place


def delete_old(output_dir: str | os.PathLike, keep: int, best: str | None = None) -> list[Path]:
    """Delete all but the last `keep` checkpoints (0: none) and the best; returns what went."""
    kept = {Path(best).name} if best else set()
    old = [path for path in checkpoints(output_dir)[:-keep] if path.name not in kept] if keep else []
    for path in old:
        doomed = path.with_name(f".deleting-{path.name}")  # a half-deleted folder must not look complete
        os.replace(path, doomed)
        shutil.rmtree(doomed, ignore_errors=True)
    return old
