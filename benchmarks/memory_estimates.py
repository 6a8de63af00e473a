"""What a run's memory is estimated to be, beside the peak of a real start of it.

python -m benchmarks.memory_estimates [CASE ...] [--threads 2]: each case is a dry run in a process of its
own, on pages that are drawn here, at random weights. Those of full size take up to 12 GB.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RANKS = 151_643  # of Qwen's tokenizer

NANO = {
    "vision": {"image_side": 128, "patch": 8, "width": 96, "layers": 3, "heads": 4, "mlp_width": 288,
               "window": 4, "global_layers": [2], "neck_width": 48, "out_width": 128},
    "decoder": {"width": 128, "layers": 3, "heads": 4, "mlp_width": 256, "max_positions": 512},
}  # fmt: skip
MIDDLE = {
    "vision": {"image_side": 512, "width": 384, "layers": 4, "heads": 6, "mlp_width": 1536,
               "global_layers": [3], "neck_width": 128, "out_width": 512},
    "decoder": {"width": 512, "layers": 6, "heads": 8, "mlp_width": 1408, "max_positions": 4096},
}  # fmt: skip
FULL = {"vision": {}, "decoder": {}}
SIZES = {"nano": NANO, "middle": MIDDLE, "full": FULL}

FOUR = ["train.per_device_train_batch_size=4", "train.batch_size=4"]
FROZEN = "parts.vision.trainable=false"
# size, tokens of an answer, and what else the run is told
CASES = {
    "nano, 16 rows": ("nano", 70, ["train.per_device_train_batch_size=16", "train.batch_size=16"]),
    "nano, 64 rows": ("nano", 70, ["train.per_device_train_batch_size=64", "train.batch_size=64"]),
    "middle, 1 row": ("middle", 700, ["train.batch_size=1"]),
    "middle, 4 rows": ("middle", 700, FOUR),
    "middle, 4 rows, recompute": ("middle", 700, [*FOUR, "train.recompute=true"]),
    "middle, 4 rows, recompute of the encoder": ("middle", 700, [*FOUR, "train.recompute=[vision]"]),
    "middle, 4 rows, vision frozen": ("middle", 700, [*FOUR, FROZEN]),
    "middle, 2 x 2 rows": ("middle", 700, ["train.per_device_train_batch_size=2", "train.batch_size=4"]),
    "middle, 8 rows packed into 2048": (
        "middle",
        300,
        ["train.per_device_train_batch_size=8", "train.batch_size=8", "data.packing_length=2048"],
    ),
    "middle, 1 row of 3,000": ("middle", 3000, ["train.batch_size=1"]),
    "full, 1 row, vision frozen": ("full", 512, ["train.batch_size=1", FROZEN]),
    "full, 1 row, vision frozen, recompute": (
        "full",
        512,
        ["train.batch_size=1", FROZEN, "train.recompute=true"],
    ),
    "full, 1 row, recompute": ("full", 512, ["train.batch_size=1", "train.recompute=true"]),
}


def write_tokenizer(folder: Path) -> None:
    """One with as many words as Qwen's, made of all pairs and many triples of bytes."""
    from got_train.tokenizer import Tokenizer

    words = (bytes(each) for length in (1, 2, 3) for each in product(range(256), repeat=length))
    Tokenizer(dict(zip(words, range(RANKS), strict=False))).save(folder)


def write_records(folder: Path, tokenizer: Path, tokens: int, rows: int = 8) -> Path:
    """Grey pages with answers of so many tokens."""
    from PIL import Image

    from got_train.tokenizer import load_tokenizer

    words = load_tokenizer(tokenizer)
    text = words.decode(words.encode("abc 123 xyz. " * tokens)[: tokens - 1])
    Image.new("RGB", (600, 800), "grey").save(folder / "page.png")
    row = {"images": ["page.png"], "task": "ocr", "text": text}
    (folder / "data.jsonl").write_text(rows * (json.dumps(row) + "\n"), encoding="utf-8")
    return folder / "data.jsonl"


def measure(case: str, threads: int, folder: Path) -> dict:
    """Bytes: the estimate, and the peak of a dry run in this process."""
    from got_train.config.loader import load_config
    from got_train.training.dry_run import measure

    size, tokens, overrides = CASES[case]
    tokenizer = ROOT / "configs/nano/tokenizer"
    if size != "nano":
        write_tokenizer(tokenizer := folder / "tokenizer")
    settings = {
        "model": {"tokenizer": str(tokenizer), **SIZES[size]},
        "data": {"train": str(write_records(folder, tokenizer, tokens))},
        "train": {"output_dir": str(folder / "run"), "threads": threads, "num_train_epochs": 3},
    }
    settings["model"]["decoder"]["vocab_size"] = 0
    settings["data"]["max_tokens"] = settings["model"]["decoder"].get("max_positions", 8192)
    (folder / "run.yaml").write_text(json.dumps(settings))  # JSON is YAML
    found = measure(load_config(folder / "run.yaml", overrides))
    batch = found.micro_batch
    size = f"{batch.rows} x {batch.tokens}, {batch.views}"
    return {"measured": found.memory, "estimate": found.estimate, "begun": found.begun, "batch": size}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measure(options.only, options.threads, Path(folder))))
        return
    print("| run | rows x tokens, views | estimate, GB | measured, GB | error |\n|---|---|---|---|---|")
    for case in options.cases or CASES:
        again = [sys.executable, "-m", "benchmarks.memory_estimates", "--threads", str(options.threads)]
        done = subprocess.run([*again, "--only", case], cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr[-3000:])
        found = json.loads(done.stdout.splitlines()[-1])
        guess, peak = found["estimate"], found["measured"]
        numbers = f"{guess / 2**30:.2f} | {peak / 2**30:.2f} | {guess / peak - 1:+.1%}"
        print(f"| {case} | {found['batch']} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
