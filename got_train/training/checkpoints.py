"""Checkpoints of a run on disk: complete or absent, found again, the old ones deleted; names of its files."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from got_train.atomic_write import sync_folder, sync_tree
from got_train.errors import CheckpointError, TrainingError

from .run_files import DELETING, UNFINISHED

_NAME = re.compile(r"checkpoint-(\d+)$")


class SaveError(TrainingError, OSError):
    """A checkpoint that could not be written; the one before it is whole."""


def checkpoints(output_dir: str | os.PathLike) -> list[Path]:
    """The complete checkpoints of a run, oldest first."""
    found = [
        path for path in Path(output_dir).glob("checkpoint-*") if path.is_dir() and _NAME.search(path.name)
    ]
    return sorted(found, key=step_of)


def step_of(checkpoint: str | os.PathLike) -> int:
    return int(_NAME.search(Path(checkpoint).name).group(1))


def read_json(file: Path) -> Any:
    """A file of a checkpoint that a run is to go on from. Raises CheckpointError if it is not whole."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise incomplete(file.parent, f"{file.name}: {error}") from error


def incomplete(checkpoint: Path, fault: str) -> CheckpointError:
    return CheckpointError(
        f"--resume: {checkpoint} is not whole ({fault}); delete it to go on from the one before"
    )


def make_tmp_dir(output_dir: str | os.PathLike, name: str) -> Path:
    """The folder to write a checkpoint into."""
    made = Path(output_dir) / UNFINISHED / name
    made.mkdir(parents=True, exist_ok=True)
    return made


@contextmanager
def explain_save_errors(made: Path) -> Iterator[None]:
    """Say of a full disk, in whichever words it is told, what is lost and what is not."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        found = checkpoints(made.parent.parent)
        kept = f"--resume continues from {found[-1].name}" if found else "there is none before it"
        raise SaveError(f"{made}: could not be written ({error}); {kept}") from error


def commit(made: Path) -> None:
    """Move a finished checkpoint to its place; from then on it counts, also after a power cut."""
    sync_tree(made)
    os.replace(made, made.parent.parent / made.name)
    sync_folder(made.parent.parent)


def commit_over(made: Path) -> None:
    """As publish, where another may stand; a run killed in between makes it anew from its last checkpoint."""
    place, doomed = made.parent.parent / made.name, made.parent.parent / DELETING
    if place.exists():
        doomed.mkdir(exist_ok=True)
        os.replace(place, doomed / made.name)
    commit(made)
    shutil.rmtree(doomed, ignore_errors=True)


def rotate_checkpoints(output_dir: str | os.PathLike, keep: int) -> None:
    """Delete all but the last `keep` checkpoints (0: none)."""
    doomed = Path(output_dir) / DELETING  # a half-deleted folder must not look complete
    for path in checkpoints(output_dir)[:-keep] if keep else []:
        doomed.mkdir(exist_ok=True)
        os.replace(path, doomed / path.name)
        shutil.rmtree(doomed, ignore_errors=True)


def remove_leftovers(output_dir: str | os.PathLike) -> None:
    """Delete what a killed run has left of saves and deletions."""
    for name in (UNFINISHED, DELETING):
        shutil.rmtree(Path(output_dir) / name, ignore_errors=True)
