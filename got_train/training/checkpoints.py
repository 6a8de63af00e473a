"""Checkpoints of a run on disk: complete or absent, found again, the old ones deleted; names of its files."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from got_train.atomic_write import sync_folder, sync_tree
from got_train.errors import CheckpointError, TrainingError

from .run_files import DELETING, UNFINISHED

_NAME = re.compile(r"checkpoint-(\d+)$")


class SaveError(TrainingError, OSError):
    """A checkpoint that could not be written; the one before it is whole."""


def checkpoints(output_dir: str | os.PathLike) -> list[Path]:
    """The complete checkpoints of a run, oldest first."""
    folders = [
        path for path in Path(output_dir).glob("checkpoint-*") if path.is_dir() and _NAME.search(path.name)
    ]
    return sorted(folders, key=step_of)


def step_of(checkpoint: str | os.PathLike) -> int:
    return int(_NAME.search(Path(checkpoint).name).group(1))


def incomplete(checkpoint: Path, fault: str) -> CheckpointError:
    return CheckpointError(
        f"--resume: {checkpoint} is not whole ({fault}); delete it to go on from the one before"
    )


def make_tmp_dir(output_dir: str | os.PathLike, name: str) -> Path:
    """The folder to write a checkpoint into."""
    tmp_dir = Path(output_dir) / UNFINISHED / name
    tmp_dir.mkdir(parents=True, exist_ok=True)
    return tmp_dir


@contextmanager
def explain_save_errors(tmp_dir: Path) -> Iterator[None]:
    """Say of a full disk, in whichever words it is told, what is lost and what is not."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        saved = checkpoints(tmp_dir.parent.parent)
        kept = f"--resume continues from {saved[-1].name}" if saved else "there is none before it"
        raise SaveError(f"{tmp_dir}: could not be written ({error}); {kept}") from error


def commit(tmp_dir: Path) -> None:
    """Move a finished checkpoint to its place; from then on it counts, also after a power cut."""
    sync_tree(tmp_dir)
    os.replace(tmp_dir, tmp_dir.parent.parent / tmp_dir.name)
    sync_folder(tmp_dir.parent.parent)


def commit_over(tmp_dir: Path) -> None:
    """As publish, where another may stand; a run killed in between makes it again from its checkpoint."""
    folder, doomed = tmp_dir.parent.parent / tmp_dir.name, tmp_dir.parent.parent / DELETING
    if folder.exists():
        doomed.mkdir(exist_ok=True)
        os.replace(folder, doomed / tmp_dir.name)
    commit(tmp_dir)
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
