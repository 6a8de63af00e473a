"""What settings.tune and the CPU's kernels do to a matrix product, an encoder block and a nano training step.

python benchmarks/cpu_settings.py [--threads 2]: each setting runs in a process of its own (MKL chooses its
code once a process), the best of five times is printed. Ratios are to Paddle as it starts.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from got_train.cpu import heap

if TYPE_CHECKING:
    from got_train.modeling.config import GotConfig

SETTINGS = {
    "paddle as it starts": [],
    "threads": ["threads"],
    "threads, mkl": ["mkl", "threads"],
    "threads, mkl, allocator": ["mkl", "threads", "allocator"],
    "all (settings.tune, with our kernels)": ["tune"],
}


def best(run: Callable[[], object], times: int = 5) -> float:
    """Milliseconds of the fastest of `times` runs after a first one."""
    run()
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        run()
        taken.append(time.perf_counter() - began)
    return 1e3 * min(taken)


def apply(names: list[str], threads: int) -> None:
    from got_train.cpu import settings

    if "mkl" in names:
        settings.choose_mkl_path()
    if "tune" in names:
        settings.tune(threads)
    if "threads" in names:
        settings.set_threads(threads)
    if "allocator" in names:
        heap.keep_freed_memory()


def nano_config() -> GotConfig:
    """The sizes of the nano models, with the smallest of their encoders."""
    from got_train.modeling.config import DecoderConfig, GotConfig, VisionConfig

    vision = VisionConfig(
        image_side=128, patch=8, width=96, layers=3, heads=4, mlp_width=288, window=4, global_layers=(2,),
        neck_width=48, out_width=128,
    )  # fmt: skip
    decoder = DecoderConfig(vocab_size=384, width=128, layers=3, heads=4, mlp_width=256, max_positions=512)
    return GotConfig(vision=vision, decoder=decoder, image_token=383)


def nano_step() -> tuple:
    """A model of the nano size, with the ids and views of 16 samples."""
    import paddle

    from got_train.modeling.got import Got

    ids = paddle.randint(0, 380, [16, 70])
    ids[:, 5:21] = 383
    views = paddle.randn([16, 3, 128, 128])
    return Got(nano_config()), ids, views


def measure(names: list[str], threads: int) -> dict[str, float]:
    apply(names, threads)
    import paddle

    from got_train.modeling.config import VisionConfig
    from got_train.modeling.cpu.accelerate import accelerate_if_tuned
    from got_train.modeling.vision import Block

    paddle.seed(0)
    a, b = paddle.randn([4096, 768]), paddle.randn([768, 3072])
    block, x = Block(VisionConfig(), window_size=14), paddle.randn([1, 64, 64, 768])
    model, ids, views = nano_step()
    accelerate_if_tuned(block)
    accelerate_if_tuned(model)

    def step() -> None:
        model(ids, views, labels=ids).loss_sum.backward()
        model.clear_gradients()

    def forward() -> None:
        with paddle.no_grad():
            block(x)

    return {
        "product 4096x768x3072": best(lambda: a @ b),
        "window block, one view": best(forward),
        "nano step, 16 views": best(step),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only is not None:
        print(json.dumps(measure(options.only, options.threads)))
        return
    first: dict[str, float] = {}
    for title, names in SETTINGS.items():
        command = [sys.executable, __file__, "--threads", str(options.threads), "--only", *names]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        taken = json.loads(printed.splitlines()[-1])
        first = first or taken
        cells = [f"{ms:.0f} ({ms / first[name]:.2f})" for name, ms in taken.items()]
        if taken is first:
            print(f"| ms (ratio) | {' | '.join(taken)} |\n|---|{'---|' * len(taken)}")
        print(f"| {title} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
