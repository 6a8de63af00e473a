"""What a run will take: memory and time measured by a few steps of it, disk counted from its parameters."""

from __future__ import annotations

import dataclasses
import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from got_train.config.schema import Config
from got_train.data.records import Record

from .findings import ERROR, WARNING, Finding

MOMENTS = 2  # float32 numbers that AdamW keeps of each that trains
FULL = 0.9  # of the memory, from which on a run is at risk


def measure(config: Config, longest: Sequence[Record]) -> dict[str, Any]:
    """The run's first steps, on the rows given; raises what the run would raise. Needs Paddle."""
    from got_train.training.dry_run import measure

    dropping = dataclasses.replace(config.data, on_error="skip")  # bad rows have been told already
    result = measure(dataclasses.replace(config, data=dropping), longest)
    usual, slowest = result.step_seconds
    parameters, trained = result.parameters()
    return {
        "steps": result.steps,
        "step_seconds": round(usual, 4),
        "longest_step_seconds": round(slowest, 4),
        "seconds": round(result.steps * usual),
        "memory": result.memory,
        "parameters": parameters,
        "trained": trained,
        **_disk(config, result.steps, parameters, trained),
    }


def _disk(config: Config, steps: int, parameters: int, trained: int) -> dict[str, Any]:
    """Bytes of the checkpoints that stand at once: those kept, one being written, best and final."""
    weights = 4 * (trained if config.lora.rank else parameters)
    checkpoint = weights + 4 * MOMENTS * trained
    written = math.ceil(steps / config.train.save_steps)
    kept = min(written, config.train.save_total_limit or written) + (
        1 if config.train.save_total_limit else 0
    )
    others = 2 if config.data.validation else 1
    free = shutil.disk_usage(_existing(Path(config.train.output_dir))).free
    return {
        "checkpoint_bytes": checkpoint,
        "disk_bytes": kept * checkpoint + others * weights,
        "free_bytes": free,
    }


def faults(measured: dict[str, Any], config: Config) -> list[Finding]:
    """What of the measures speaks against the run."""
    result = []
    if measured["disk_bytes"] > measured["free_bytes"]:
        what = f"{gigabytes(measured['disk_bytes'])} of checkpoints, {gigabytes(measured['free_bytes'])} free"
        fix = "another disk, a smaller train.save_total_limit, or LoRA"
        result.append(Finding(ERROR, "disk", config.train.output_dir, what, fix))
    total = memory_size()
    if total and measured["memory"] > FULL * total:
        what = f"{gigabytes(measured['memory'])} of {gigabytes(total)} on the longest rows"
        fix = "a smaller train.per_device_train_batch_size, train.recompute: true, or LoRA"
        result.append(Finding(WARNING, "memory", "train.per_device_train_batch_size", what, fix))
    return result


def memory_size() -> int:
    """Bytes of the memory that the measured peak is taken of; 0 where nobody tells."""
    import paddle

    if paddle.get_device().startswith("gpu"):
        return paddle.device.cuda.get_device_properties().total_memory
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 0


def gigabytes(size: float) -> str:
    return f"{size / 2**30:.2f} GB"


def _existing(path: Path) -> Path:
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.is_dir())
