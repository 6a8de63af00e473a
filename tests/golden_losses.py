"""Golden losses: five short trainings on stored pages, every loss to the last digit, the hash of the weights.

`make golden` (python tests/golden_losses.py) writes tests/fixtures/golden/losses.json anew and prints how far
the losses moved; `--pages` draws the pages anew first, which moves every number. Names of settings stand in
SHARED and RUNS alone.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "tests" / "fixtures" / "golden"
LOSSES = FOLDER / "losses.json"
PAGES, REGIONS = f"{FOLDER}/pages.parquet", f"{FOLDER}/regions.parquet"
STEPS = 30

SHARED = [
    f"train.max_steps={STEPS}",
    f"train.save_steps={STEPS}",
    "train.logging_steps=1",
    "train.batch_size=4",
    "train.per_device_train_batch_size=2",  # two backward passes a step, so that their sum counts too
    "train.threads=1",
    "eval.baseline=false",
]
# name: config, settings; {name} stands for the model that the run of that name ended with
RUNS = {
    "stage1": ("configs/nano/stage1.yaml", [f"data.train={PAGES}"]),
    "stage2": ("configs/nano/stage2.yaml", [f"data.train={PAGES}", "model.vision_from={stage1}"]),
    "stage3": (
        "configs/nano/stage3.yaml",
        [
            f"data.train=[{{path: {REGIONS}, weight: 0.8}}, {{path: {PAGES}, weight: 0.2}}]",
            "model.init_from={stage2}",
        ],
    ),
    "lora": (
        "configs/finetune/nano_lora.yaml",
        [f"data.train={REGIONS}", "model.init_from={stage2}", "lora.dropout=0.05"],
    ),
    "packed": (
        "configs/nano/stage2.yaml",
        [
            f"data.train={PAGES}",
            "model.vision_from={stage1}",
            "data.packing_length=160",
            "train.per_device_train_batch_size=4",
        ],
    ),
}

DRAW = [
    "--seed 31 --fonts DejaVuSans,Lato-Regular,SourceSansPro-Regular,HankenGrotesk-Regular --num-workers 1",
    "--text lowercase --side 128 --font-size 17-21 --characters 3-9",
]
DRAWN = {
    PAGES: ["--count 48 --char-boxes", *DRAW],
    REGIONS: ["--count 24 --tasks ocr,box,color", *DRAW],
}


def draw_pages(folder: Path) -> None:
    for path, options in DRAWN.items():
        out = folder / Path(path).stem
        words = " ".join(options).split()
        command = [sys.executable, "-m", "data_tools.engines.lines", "--out", str(out), *words]
        subprocess.run(command, cwd=ROOT, check=True)
        (shard,) = out.glob("*.parquet")
        Path(path).write_bytes(shard.read_bytes())


def train(folder: Path) -> dict[str, dict]:
    """Train all runs below `folder`: {name: {losses: [float32 as hex], weights: sha256}}."""
    return {name: train_one(folder, name) for name in RUNS}


def train_one(folder: Path, name: str) -> dict:
    config, settings = RUNS[name]
    models = {run: str(folder / run / "final") for run in RUNS}
    own = [re.sub(r"\{(\w+)\}", lambda run: models[run[1]], setting) for setting in settings]
    keys = {setting.partition("=")[0] for setting in own}
    shared = [setting for setting in SHARED if setting.partition("=")[0] not in keys]
    command = [sys.executable, "train.py", config, *shared, *own, f"train.output_dir={folder / name}"]
    ended = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    return {"losses": losses(folder / name), "weights": hash_weights(folder / name / "final")}


def losses(run: Path) -> list[str]:
    """Of every step. paddlenlp rounds to 8 decimals, which is finer than float32 above 0.125."""
    from visualdl import LogReader

    (log,) = run.rglob("vdlrecords.*.log")
    rows = LogReader(file_path=str(log)).get_data("scalar", "train/loss")
    return [float(np.float32(row.value)).hex() for row in sorted(rows, key=lambda row: row.id)]


def hash_weights(model: Path) -> str:
    """sha256 over names, types, shapes and bytes of all tensors, in the order of their names."""
    from safetensors.numpy import load_file

    (path,) = model.glob("*.safetensors")
    whole = hashlib.sha256()
    for name, tensor in sorted(load_file(str(path)).items()):
        whole.update(f"{name} {tensor.dtype} {tensor.shape}".encode() + tensor.tobytes())
    return whole.hexdigest()


def machine() -> dict[str, str]:
    """What decides about the last digit: MKL and numba choose instructions by the processor."""
    told = Path("/proc/cpuinfo").read_text(encoding="utf-8") if os.path.exists("/proc/cpuinfo") else ""
    cpu = dict(re.findall(r"^(vendor_id|cpu family|model|flags)\s*: (.*)$", told, re.MULTILINE))
    sets = [name for name in cpu.get("flags", "").split() if re.match("avx|fma|amx", name)]
    return {
        "processor": " ".join(cpu.get(key, "?") for key in ("vendor_id", "cpu family", "model")),
        "instructions": " ".join(sorted(sets)),
        **{name: importlib.metadata.version(name) for name in ("paddlepaddle", "numba", "numpy")},
    }


def largest_difference(golden: list[str], seen: list[str]) -> float:
    """Relative, over all steps."""
    assert len(golden) == len(seen), f"{len(seen)} losses; the golden file has {len(golden)}"
    pairs = [(float.fromhex(old), float.fromhex(new)) for old, new in zip(golden, seen, strict=True)]
    return max(abs(new - old) / abs(old) for old, new in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description="Record the golden losses anew.")
    parser.add_argument("--pages", action="store_true", help="draw the pages anew first")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.pages:
            draw_pages(Path(folder))
        runs = train(Path(folder))
    if LOSSES.exists():
        for name, old in json.loads(LOSSES.read_text(encoding="utf-8"))["runs"].items():
            same = "same" if old["weights"] == runs[name]["weights"] else "other"
            moved = largest_difference(old["losses"], runs[name]["losses"])
            print(f"{name}: losses moved by {moved:.1e} relative at most, {same} weights")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    golden = {"made_by": "make golden", "after_commit": commit, "machine": machine(), "runs": runs}
    LOSSES.write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
