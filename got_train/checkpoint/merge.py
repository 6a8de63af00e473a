"""An adapter and its base become one checkpoint, checked by logits."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from got_train.errors import CheckpointError

from .convert import load_tuned, probe_logits, round_weights, widest_dtype

if TYPE_CHECKING:
    import numpy as np


TOLERANCE = 1e-4  # of the largest logit: what xW + sxAB and x(W + sAB) may differ in float32


def merge(
    adapter: str | os.PathLike,
    result: str | os.PathLike,
    base: str | os.PathLike | None = None,
    layout: str | None = None,
    dtype: str | None = None,
) -> None:
    """Merge and print every finding; raises MergeError if the result is not equal to base and adapter."""
    from got_train.modeling.cpu.accelerate import accelerate_if_tuned
    from got_train.modeling.lora import detach
    from got_train.tokenizer import load_tokenizer

    from .adapters import base_folder, load_adapted
    from .characters import copy_characters
    from .weights import WeightFile, save_model

    base = base or base_folder(adapter)
    dtype = dtype or widest_dtype(WeightFile(base))
    model = load_adapted(adapter, base)
    accelerate_if_tuned(model)
    both = probe_logits(model)
    merged = probe_logits(detach(model, fold=True))
    check_difference(print_difference("merged", both, merged), TOLERANCE * abs(both).max(), adapter)
    if dtype != "float32":
        merged = probe_logits(round_weights(model, dtype))
        print_difference(f"merged and rounded to {dtype}", both, merged)
    result = Path(result).resolve()
    tmp_dir = result.with_name(f".{result.name}.merging")
    shutil.rmtree(tmp_dir, ignore_errors=True)
    try:
        with writing(result):
            save_model(model, tmp_dir, layout, dtype, load_tokenizer(adapter))
            copy_characters(adapter, tmp_dir)
        del model  # one of the released size is 2 GB
        check_difference(print_difference("read back", merged, probe_logits(load_tuned(tmp_dir))), 0, adapter)
        os.replace(tmp_dir, result)
    finally:
        shutil.rmtree(tmp_dir, ignore_errors=True)
    print(f"{result}: done")


@contextmanager
def writing(result: Path) -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{result}: cannot be written ({error}); use another disk or folder") from error


def print_difference(what: str, expected: np.ndarray, actual: np.ndarray) -> float:
    largest = float(abs(expected - actual).max())
    print(
        f"{what}: largest difference {largest:.3g} in {expected.shape[0]} x {expected.shape[1]} logits, "
        f"which reach {abs(expected).max():.3g}",
        flush=True,
    )
    return largest


def check_difference(difference: float, bound: float, adapter: str | os.PathLike) -> None:
    if not difference <= bound:
        raise CheckpointError(
            f"{adapter}: merged, the logits move by {difference:.3g}, not by {bound:.3g}; nothing was written"
        )
