"""Ours beside transformers' GotOcr2, the same work in the same run: one table of times, ratios and memory.

python -m benchmarks.transformers --reference PYTHON [CASE ...] [--repeats 5] [--threads 2]

PYTHON is an interpreter with torch and transformers. Full size, random weights. The two sides take turns, one
process each; what is printed are medians. Peak memory is that of the whole process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

HERE = Path(__file__).parent
PAUSE = 0.5  # seconds before every run: the other side's threads go on spinning for a while


@dataclass(frozen=True)
class Case:
    """One kind of work: what each side runs, and in which unit a run's amount is counted."""

    title: str
    ours: str
    theirs: str
    units: float = 1.0  # that one run does; the table shows seconds of one
    alone: bool = False  # both sides together need more memory than a common machine has


CASES = {
    "matmul": Case("product 4096x768x3072 (the machine)", "matmul", "matmul"),
    "encoder": Case("encoder forward, one view, float32", "encoder", "encoder"),
    "encoder-bf16": Case("encoder forward, one view, our float32 to its bfloat16", "encoder", "encoder_bf16"),
    "prefill": Case("prefill, 287 tokens, float32", "prefill", "prefill"),
    "decode-1": Case("decode, 1 sequence, float32, a token", "decode_1", "decode_1", 32),
    "decode-8": Case("decode, 8 sequences, float32, a token", "decode_8", "decode_8", 8 * 16),
    "decode-32": Case("decode, 32 sequences, float32, a token", "decode_32", "decode_32", 32 * 8),
    "train": Case("train step, 287 + 512 tokens, all parts", "train", "train", alone=True),
    "train-frozen": Case("train step, vision frozen", "train_frozen", "train_frozen", alone=True),
    "train-cached": Case("train step, vision's features cached", "train_cached", "train_frozen", alone=True),
    "nano": Case("nano train step, a sample", "nano", "nano", 16),
    "prefill-bf16": Case("prefill, our float32 to its bfloat16", "prefill", "prefill_bf16"),
    "loss": Case("loss, 8,192 tokens x 151,860 words, with gradients", "loss", "loss", alone=True),
}


@contextmanager
def worker(python: str, file: str, case: str, threads: int) -> Iterator[subprocess.Popen]:
    """A process that has prepared a case and runs it once for every line that it gets."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(HERE.parents[1])}
    command = [python, str(HERE / file), case, str(threads)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, text=True, env=environment, **pipes)
    try:
        answer(process)
        yield process
    finally:
        process.kill()
        process.wait()


def answer(process: subprocess.Popen) -> dict:
    """The next line of JSON; Paddle prints other lines now and then."""
    for line in process.stdout:
        if line.startswith("{"):
            return json.loads(line)
    raise SystemExit(f"{' '.join(process.args)}:\n{process.stderr.read()[-3000:]}")


def run(process: subprocess.Popen) -> dict:
    time.sleep(PAUSE)
    process.stdin.write("run\n")
    process.stdin.flush()
    return answer(process)


def compare(case: Case, reference: str, repeats: int, threads: int) -> tuple[list[dict], list[dict]]:
    """The runs of both sides, in turns."""
    sides = [(sys.executable, "ours.py", case.ours, threads), (reference, "theirs.py", case.theirs, threads)]
    found: tuple[list[dict], list[dict]] = [], []
    if case.alone:
        for _ in range(repeats):
            for runs, side in zip(found, sides, strict=True):
                with worker(*side) as process:
                    runs.append(run(process))
        return found
    with worker(*sides[0]) as ours, worker(*sides[1]) as theirs:
        for _ in range(repeats):
            for runs, process in zip(found, (ours, theirs), strict=True):
                runs.append(run(process))
    return found


def row(case: Case, ours: list[dict], theirs: list[dict]) -> str:
    seconds = [median(each["seconds"] for each in runs) / case.units for runs in (ours, theirs)]
    memory = [max(each["gigabytes"] for each in runs) for runs in (ours, theirs)]
    cells = [case.title, *map(shown, seconds), f"{seconds[0] / seconds[1]:.2f}"]
    cells += [f"{memory[0]:.1f}", f"{memory[1]:.1f}", f"{memory[0] / memory[1]:.2f}"]
    return f"| {' | '.join(cells)} |"


def shown(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1e3 * seconds:.1f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.transformers", description=__doc__.splitlines()[0]
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; none: all")
    parser.add_argument("--reference", default=os.environ.get("GOT_REFERENCE_PYTHON"), metavar="PYTHON")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    if not options.reference:
        parser.error("--reference: none given; an interpreter with torch and transformers")
    if unknown := [name for name in options.cases if name not in CASES]:
        parser.error(f"{unknown[0]}: no such case; one of {', '.join(CASES)}")
    print("| work | ours | transformers | ratio | GB ours | GB transformers | ratio |")
    print("|---|---|---|---|---|---|---|")
    for name in options.cases or CASES:
        found = compare(CASES[name], options.reference, options.repeats, options.threads)
        print(row(CASES[name], *found), flush=True)


if __name__ == "__main__":
    main()
