"""Ours beside transformers' GotOcr2, the same work in the same run: one table of times, ratios and memory.

python -m benchmarks.transformers --reference PYTHON [CASE ...] [--repeats 5] [--threads 2]

PYTHON is an interpreter with torch and transformers. Full size, random weights. The two sides take turns, one
process each; what is printed are medians. Peak memory is that of the whole process. The shares are ours: of
the fastest product (operations) or of the fastest reading of a matrix (bytes of weights) on either side.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.cpu_settings import nano_config
from got_train.modeling.config import DecoderConfig, GotConfig
from got_train.profiling import flops

from .turns import NANO_STEPS

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
    flops: float = 0.0  # of one run, or else
    weights: float = 0.0  # bytes that one run reads, where reading them is the work


NANO_GOT = nano_config()
GOT = GotConfig(decoder=DecoderConfig(vocab_size=151860))
PROMPT, ANSWER, SOME = 287, 512, ("projector", "decoder")
STEP = flops.Work(1, (PROMPT + ANSWER,), ANSWER)
VIEW = float(flops.vision(GOT.vision).forward)
READ = float(flops.decoder_layers(GOT.decoder, (PROMPT,)).forward + flops.head(GOT.decoder, 1).forward)
NANO = flops.Work(16, (70,) * 16, 16 * 69)
TOKEN = 4.0 * (
    GOT.decoder.layers * flops.decoder_matrices(GOT.decoder) + GOT.decoder.width * GOT.decoder.vocab_size
)
LOSS = 3.0 * flops.head(GOT.decoder, 8192).forward


def training(trains: Sequence[str], config: GotConfig = GOT, work: flops.Work = STEP) -> float:
    return float(flops.training(config, work, trains).useful)


PAGE = "an A4 page, file to text, {} tokens: our int8 to its bfloat16{}"
CASES = {
    "page": Case(PAGE.format("1,000", ""), "page_1000", "page_1000", weights=1000 * TOKEN / 4),
    "page-static": Case(
        PAGE.format("1,000", ", static cache"), "page_1000", "page_1000_static", weights=1000 * TOKEN / 4
    ),
    "page-short": Case(PAGE.format("32", ""), "page_32", "page_32", weights=32 * TOKEN / 4),
    "page-short-static": Case(
        PAGE.format("32", ", static cache"), "page_32", "page_32_static", weights=32 * TOKEN / 4
    ),
    "matmul": Case("product 4096x768x3072 (the machine)", "matmul", "matmul", flops=2.0 * 4096 * 768 * 3072),
    "stream": Case("a row times a matrix of 1 GiB (the machine)", "stream", "stream", weights=2.0**30),
    "encoder": Case("encoder forward, one view, float32", "encoder", "encoder", flops=VIEW),
    "encoder-bf16": Case("encoder forward, one view, bfloat16", "encoder_bf16", "encoder_bf16", flops=VIEW),
    "prefill": Case("prefill, 287 tokens, float32", "prefill", "prefill", flops=READ),
    "prefill-bf16": Case("prefill, weights in bfloat16", "prefill_bf16", "prefill_bf16", flops=READ),
    "decode-1": Case("decode, 1 sequence, a token", "decode_1", "decode_1", 32, weights=32 * TOKEN),
    "decode-8": Case("decode, 8 sequences, a token", "decode_8", "decode_8", 8 * 16, weights=16 * TOKEN),
    "decode-12": Case(
        "decode, 12 crops of a page, a token", "decode_12", "decode_12", 120, weights=10 * TOKEN
    ),
    "decode-32": Case("decode, 32 sequences, a token", "decode_32", "decode_32", 32 * 8, weights=8 * TOKEN),
    "decode-1-bf16": Case(
        "decode, 1 sequence, weights in bfloat16", "decode_1_bf16", "decode_1_bf16", 32, weights=16 * TOKEN
    ),
    "decode-8-bf16": Case(
        "decode, 8 sequences, weights in bfloat16",
        "decode_8_bf16",
        "decode_8_bf16",
        8 * 16,
        weights=8 * TOKEN,
    ),
    "decode-1-int8": Case(
        "decode, 1 sequence, int8 to its bfloat16",
        "decode_1_int8",
        "decode_1_bf16",
        32,
        weights=8 * TOKEN,
    ),
    "decode-8-int8": Case(
        "decode, 8 sequences, int8 to its bfloat16",
        "decode_8_int8",
        "decode_8_bf16",
        8 * 16,
        weights=4 * TOKEN,
    ),
    "train": Case(
        "train step, 287 + 512 tokens, all parts", "train", "train", alone=True, flops=training(flops.PARTS)
    ),
    "train-bf16": Case(
        "train step, our float32 to its pure bfloat16",
        "train",
        "train_bf16",
        alone=True,
        flops=training(flops.PARTS),
    ),
    "train-frozen": Case(
        "train step, vision frozen", "train_frozen", "train_frozen", alone=True, flops=training(SOME)
    ),
    "train-cached": Case(
        "train step, vision's features cached",
        "train_cached",
        "train_frozen",
        alone=True,
        flops=training(SOME) - VIEW,
    ),
    "nano": Case(
        "nano train step, a sample",
        "nano",
        "nano",
        16 * NANO_STEPS,
        flops=NANO_STEPS * training(flops.PARTS, NANO_GOT, NANO),
    ),
    "loss": Case(
        "loss, 8,192 tokens x 151,860 words, with gradients", "loss", "loss", alone=True, flops=LOSS
    ),
}
PEAKS = ("matmul", "stream")  # always run first: what the shares are of


@contextmanager
def worker(python: str, file: str, case: str, threads: int) -> Iterator[subprocess.Popen]:
    """A process that has prepared a case and runs it once for every line that it gets."""
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1])}  # each sets its threads as its users do
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


def row(case: Case, ours: list[dict], theirs: list[dict], peaks: dict[str, float]) -> str:
    """One line of the table; a case of PEAKS sets the peak that the next lines are held against."""
    seconds = [median(each["seconds"] for each in runs) for runs in (ours, theirs)]
    memory = [max(each["gigabytes"] for each in runs) for runs in (ours, theirs)]
    amount, kind = (case.flops, "product") if case.flops else (case.weights, "bandwidth")
    peaks.setdefault(kind, amount / min(seconds))
    cells = [case.title, *(shown(each / case.units) for each in seconds), f"{seconds[0] / seconds[1]:.2f}"]
    cells += [f"{amount / seconds[0] / peaks[kind]:.0%} of {kind}"]
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
    print("| work | ours | transformers | ratio | share of the peak | GB ours | GB transformers | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    peaks: dict[str, float] = {}
    every = [name for name in CASES if not name.startswith("page-short")]  # these are trials
    wanted = [name for name in options.cases or every if name not in PEAKS]
    for name in (*PEAKS, *wanted):
        found = compare(CASES[name], options.reference, options.repeats, options.threads)
        print(row(CASES[name], *found, peaks), flush=True)


if __name__ == "__main__":
    main()
