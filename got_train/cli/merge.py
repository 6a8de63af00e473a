"""An adapter and its base as one model: python -m got_train.cli.merge ADAPTER OUT [--layout transformers].

OUT appears only when its weights, read back, give the logits of base and adapter for a probe image.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .convert import DTYPES, LAYOUTS, check_places, probe, rounded, widest

if TYPE_CHECKING:
    import numpy as np

MERGED, REFUSED, INTERRUPTED = 0, 2, 130
CLOSE = 1e-4  # of the largest logit: what xW + sxAB and x(W + sAB) may differ in float32


class MergeError(ValueError):
    """A merged model that does not compute what base and adapter do."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m got_train.cli.merge",
        allow_abbrev=False,
        description="Write base and adapter as one model and prove that it computes the same.",
        epilog="Exit codes: 0 merged, 2 wrong usage or not the same, 130 interrupted.",
    )
    parser.add_argument("adapter", metavar="ADAPTER", help="a folder that a LoRA run wrote")
    parser.add_argument("result", metavar="OUT", help="the folder to make; must be new or empty")
    parser.add_argument("--base", metavar="FOLDER", help="where the adapter's base is now, if it has moved")
    parser.add_argument("--layout", choices=LAYOUTS, help="whose names to write (default: original)")
    parser.add_argument("--dtype", choices=DTYPES, help="of the weights written (default: the base's)")
    options = parser.parse_args(arguments)

    from got_train.requirements import InstallationError, need_paddle

    try:
        check_places(Path(options.adapter), Path(options.result))
        need_paddle()
        from got_train.cpu import settings

        settings.tune()
        merge(options.adapter, options.result, options.base, options.layout, options.dtype)
    except KeyboardInterrupt:
        print("merge: interrupted; nothing is written", file=sys.stderr)
        return INTERRUPTED
    except (InstallationError, ValueError, OSError) as error:
        print(f"merge: {error}", file=sys.stderr)
        return REFUSED
    return MERGED


def merge(
    adapter: str | os.PathLike,
    result: str | os.PathLike,
    base: str | os.PathLike | None = None,
    layout: str | None = None,
    dtype: str | None = None,
) -> None:
    """Merge and print every finding; raises MergeError if the result is not equal to base and adapter."""
    from got_train.checkpoint.weights import WeightFile, load_model, save_model
    from got_train.tokenizer import load_tokenizer
    from got_train.training.adapters import base_of, detach, load_adapted

    base = base or base_of(adapter)
    dtype = dtype or widest(WeightFile(base))
    model = load_adapted(adapter, base)
    both = probe(model)
    merged = probe(detach(model, fold=True))
    _check(_difference("merged", both, merged), CLOSE * abs(both).max(), adapter)
    if dtype != "float32":
        merged = probe(rounded(model, dtype))
        _difference(f"merged and rounded to {dtype}", both, merged)
    result = Path(result).resolve()
    made = result.with_name(f".{result.name}.merging")
    shutil.rmtree(made, ignore_errors=True)
    try:
        with _writing(result):
            save_model(model, made, layout, dtype, load_tokenizer(adapter))
        del model  # one of the released size is 2 GB
        _check(_difference("read back", merged, probe(load_model(made))), 0, adapter)
        os.replace(made, result)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    print(f"{result}: done")


@contextmanager
def _writing(result: Path) -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        raise MergeError(f"{result}: cannot be written ({error}); another disk or folder") from error


def _difference(what: str, expected: np.ndarray, found: np.ndarray) -> float:
    largest = float(abs(expected - found).max())
    print(
        f"{what}: largest difference {largest:.3g} in {expected.shape[0]} x {expected.shape[1]} logits, "
        f"which reach {abs(expected).max():.3g}",
        flush=True,
    )
    return largest


def _check(difference: float, bound: float, adapter: str | os.PathLike) -> None:
    if not difference <= bound:
        raise MergeError(
            f"{adapter}: merged, the logits move by {difference:.3g}, not by {bound:.3g}; nothing written"
        )


if __name__ == "__main__":
    sys.exit(main())
