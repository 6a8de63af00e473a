"""How time and memory grow with views, tokens, rows of a batch, rows of data, and processes.

python -m benchmarks.growth WHAT [...] [--points 1 2 4] [--draw]: every point runs in a process of its own, at
full size with random weights in float32 unless its title says otherwise, and is added as a line to
docs/performance/WHAT.jsonl, which is drawn into WHAT.png. `--draw` only draws. One thread, and seconds of
processor time, as machines are shared; of several processes the seconds that pass.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from got_train.cpu import settings as cpu

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "docs/performance"
VOCABULARY = 151_860
PROMPT, STEPS = 287, 8  # tokens of a page's question, and of an answer that are timed
LAYERS = 6  # of 24, where these would take too long or too much memory
NANO = ROOT / "configs/nano"

Work = Callable[[], object]


@dataclass(frozen=True)
class Curve:
    """What is measured against what."""

    title: str
    unit: str  # of x
    points: tuple[int, ...]
    prepare: Callable[[int], Work]
    clock: str = "of one thread"
    warm: bool = True  # run the smallest point first: products choose their code, threads start


def peak() -> float:
    """GB of this process at most, so far."""
    from got_train.profiling.memory import peak_memory  # Paddle, which cpu.tune comes before

    return peak_memory() / 2**30


def measure(curve: Curve, x: int) -> dict[str, float]:
    """Seconds and peak of one run in this process."""
    if curve.warm:
        curve.prepare(min(curve.points))()
    work = curve.prepare(x)
    before = peak()
    began = time.process_time()
    found = work()
    seconds = time.process_time() - began
    told = found if isinstance(found, dict) else {}
    return {"x": x, "seconds": seconds, "gigabytes": peak(), "before": before, **told}


# ---- the model


def views(number: int) -> Work:
    """The reading path: the encoder over all views, some at once."""
    import paddle

    from got_train.generation.decode import encode_views
    from got_train.modeling.config import GotConfig
    from got_train.modeling.cpu.accelerate import accelerate
    from got_train.modeling.got import Got

    if not _kept:
        _kept.append(Got(GotConfig()).eval())
        accelerate(_kept[0])
    pixels = paddle.randint(0, 256, [number, 1024, 1024, 3]).astype("uint8")
    return paddle.no_grad()(lambda: encode_views(_kept[0], pixels))


_kept: list = []  # the model of this process


def decoder(layers: int) -> object:
    from got_train.modeling.config import DecoderConfig
    from got_train.modeling.cpu.accelerate import accelerate
    from got_train.modeling.decoder import build_decoder

    if not _kept:
        _kept.append(build_decoder(DecoderConfig(vocab_size=VOCABULARY, layers=layers)))
        accelerate(_kept[0])
    return _kept[0]


def prefill(tokens: int, layers: int = 24) -> Work:
    """The prompt's pass, with a cache."""
    import paddle

    model = decoder(layers)
    model.eval()
    x, places = paddle.randn([1, tokens, 1024]), paddle.arange(tokens).unsqueeze(0)
    mask = paddle.ones([1, tokens], "int64")
    return paddle.no_grad()(lambda: model.step(x, places, model.new_cache(mask)))


def training(tokens: int) -> Work:
    """Forward and backward of the decoder with its loss, all tokens supervised; no update."""
    import paddle

    from got_train.modeling.loss import fused_linear_cross_entropy

    model = decoder(LAYERS)
    model.train()
    ids = paddle.randint(0, 151_643, [1, tokens])

    def run() -> None:
        hidden = model(model.embed(ids))
        total, count = fused_linear_cross_entropy(hidden, model.head, ids, -100)
        (total / count).backward()
        for parameter in model.parameters():
            parameter.clear_gradient(set_to_zero=False)

    return run


def batch(rows: int) -> Work:
    """Tokens of an answer, one after the other, of so many sequences."""
    import paddle

    model = decoder(24)
    model.eval()
    cache = model.new_cache(paddle.ones([rows, PROMPT], "int64"))
    with paddle.no_grad():
        x = 0.02 * paddle.randn([rows, PROMPT, 1024])
        model.step(x, paddle.arange(PROMPT).expand([rows, PROMPT]), cache)
    token = paddle.randint(0, 151_643, [rows, 1])

    def run() -> dict[str, float]:
        token_, began = token, time.process_time()
        for number in range(STEPS):
            place = paddle.full([rows, 1], PROMPT + number, "int64")
            hidden = model.step(model.embed(token_), place, cache)[:, -1]
            token_ = model.lm_head(hidden).argmax(-1, keepdim=True)
        return {"seconds": (time.process_time() - began) / STEPS}

    return paddle.no_grad()(run)


# ---- data and processes


def data(rows: int, kind: str = "jsonl") -> Work:
    """From the start of a run's data to its first batch of 16, of a file that is written first."""
    from PIL import Image

    folder = Path(tempfile.mkdtemp())
    Image.new("RGB", (128, 128), "white").save(folder / "page.png")
    row = {"images": ["page.png"], "task": "ocr", "text": "some words of a line, as long as many are"}
    path = folder / f"data.{kind}"
    if kind == "jsonl":
        with path.open("w") as file:
            file.writelines(json.dumps({**row, "text": f"{row['text']} {i}"}) + "\n" for i in range(rows))
    else:
        _write_parquet(path, row, rows)
    return lambda: _first_batch(path, folder)


def _write_parquet(path: Path, row: dict, rows: int) -> None:
    """In a process of its own, whose memory is not counted."""
    code = (
        "import sys, json, pyarrow as pa, pyarrow.parquet as pq; row, n = json.loads(sys.argv[2]), "
        "int(sys.argv[3]); w = None\n"
        "for at in range(0, n, 10000):\n"
        "    t = pa.table({k: [v] * min(10000, n - at) for k, v in row.items()})\n"
        "    w = w or pq.ParquetWriter(sys.argv[1], t.schema); w.write_table(t)\n"
        "w.close()"
    )
    subprocess.run([sys.executable, "-c", code, str(path), json.dumps(row), str(rows)], check=True)


def _first_batch(path: Path, folder: Path) -> None:
    import shutil

    from got_train.config.loader import load_config
    from got_train.data.collator import Collator
    from got_train.tokenizer import load_tokenizer
    from got_train.training.loader import BatchSchedule, StepLoader
    from got_train.training.sources import build_mixture

    config = load_config(NANO / "stage2.yaml", [f"data.train={path}", "train.num_train_epochs=1"])
    mixture = build_mixture(config)
    collator = Collator(load_tokenizer(NANO / "tokenizer"), 128, 16)
    next(iter(StepLoader(mixture, collator, BatchSchedule(10, 16, 16))))
    shutil.rmtree(folder)


def processes(number: int) -> Work:
    """Nano training over gloo, a thread a process: seconds of a sample, by the last line of its log."""
    from PIL import Image

    folder = Path(tempfile.mkdtemp())
    Image.new("RGB", (128, 128), "grey").save(folder / "page.png")
    row = json.dumps({"images": ["page.png"], "task": "ocr", "text": "a line of some words, like many"})
    (folder / "data.jsonl").write_text(64 * (row + "\n"))
    model = "model.init_from=configs/nano/weights/stage3"
    settings = [f"data.train={folder}/data.jsonl", f"train.output_dir={folder}/run", "train.max_steps=60"]
    settings += [
        "train.batch_size=32",
        f"train.per_device_train_batch_size={32 // number}",
        "train.threads=1",
    ]
    settings += [
        "train.logging_steps=30",
        "train.save_steps=1000",
        "eval.max_samples=0",
        "data.max_tokens=512",
        model,
    ]
    (folder / "run.yaml").write_text("{}")
    launch = [sys.executable, "-W", "ignore"]
    if number > 1:
        launch += ["-m", "paddle.distributed.launch", "--nproc_per_node", str(number)]
        launch += ["--log_dir", str(folder / "log")]

    def run() -> dict[str, float]:
        command = [*launch, "train.py", str(folder / "run.yaml"), *settings]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        said = done.stdout + done.stderr + "".join(p.read_text() for p in folder.glob("log/workerlog.*"))
        speeds = re.findall(r"step 60/60: .*?([\d.]+) pages/s.*?([\d.]+) GB", said)
        if not speeds:
            raise SystemExit(said[-3000:])
        return {"seconds": 1 / float(speeds[0][0]), "gigabytes": float(speeds[0][1])}

    return run


POWERS, ROWS = (256, 512, 1024, 2048, 4096, 8192), (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
BEGUN = "from the start to the first batch of 16"
PASSES = f"forward and backward pass of {LAYERS} of the decoder's 24 layers and the loss"
CURVES = {
    "views": Curve("the encoder's forward pass (reading)", "views", (1, 2, 4, 8, 13), views),
    "prefill": Curve("a prompt through the decoder (reading)", "tokens", POWERS, prefill),
    "training": Curve(PASSES, "tokens", POWERS, training),
    "batch": Curve(
        "a token of every sequence (reading)", "sequences", (1, 2, 4, 8, 16, 32), batch, warm=False
    ),
    "rows": Curve(f"{BEGUN}, JSONL", "rows of data", ROWS, data, warm=False),
    "parquet": Curve(
        f"{BEGUN}, parquet", "rows of data", ROWS, lambda rows: data(rows, "parquet"), warm=False
    ),
    "processes": Curve(
        "nano training, a sample; a thread a process", "processes", (1, 2), processes, "that pass", warm=False
    ),
}


# ---- the picture


def exponent(xs: list[float], ys: list[float]) -> float:
    """The slope of a line through the logarithms."""
    import numpy as np

    return float(np.polyfit(np.log(xs), np.log(ys), 1)[0])


def read(name: str) -> list[dict[str, float]]:
    """The last measurement of every point."""
    lines = (OUT / f"{name}.jsonl").read_text().splitlines()
    found = {row["x"]: row for row in map(json.loads, lines)}
    return [found[x] for x in sorted(found)]


def draw(name: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    curve, points = CURVES[name], read(name)
    xs = [point["x"] for point in points]
    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.2))
    for axis, key, label in zip(
        axes, ("seconds", "gigabytes"), (f"seconds {curve.clock}", "GB of the process at most"), strict=True
    ):
        ys = [point[key] for point in points]
        axis.plot(xs, ys, marker="o", label="".join(_legend(key, points)))
        axis.set(xlabel=curve.unit, ylabel=label, xscale="log", xticks=xs)
        axis.set_xticks([], minor=True)
        axis.set_xticklabels([f"{x:,}" for x in xs], fontsize=8)
        if key == "seconds":
            axis.set(yscale="log")
        else:
            axis.set(ylim=(0, 1.2 * max(ys)))
        axis.grid(alpha=0.3, which="both")
        axis.legend(fontsize=8)
    figure.suptitle(curve.title, fontsize=10)
    figure.tight_layout()
    figure.savefig(OUT / f"{name}.png", dpi=110)


def _legend(key: str, points: list[dict[str, float]]) -> Iterator[str]:
    """How the values grow: over all points, and from the last but one to the last."""
    xs = [point["x"] for point in points]
    if key == "seconds":
        ys = [point[key] for point in points]
        yield f"grows as x^{exponent(xs, ys):.2f}"
        if len(xs) > 2:
            yield f" (last two x^{exponent(xs[-2:], ys[-2:]):.2f})"
        return
    more = [max(point[key] - points[0][key], 0) for point in points]
    if len(xs) > 3 and more[-1] > 0.5 and min(more[1:]) > 0:
        steps = [x - xs[0] for x in xs[1:]]
        yield f"above the first point as x^{exponent(steps, more[1:]):.2f}"
    else:
        yield f"{more[-1]:+.2f} GB from first to last"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__.splitlines()[0])
    parser.add_argument("curves", nargs="*", metavar="WHAT", help=f"of {', '.join(CURVES)}; all if none")
    parser.add_argument("--points", type=int, nargs="*")
    parser.add_argument("--draw", action="store_true")
    parser.add_argument("--only", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = options.curves or list(CURVES)
    if options.only is not None:
        cpu.tune(1)
        print(json.dumps(measure(CURVES[names[0]], options.only)))
        return
    OUT.mkdir(exist_ok=True)
    for name in names:
        for x in [] if options.draw else options.points or CURVES[name].points:
            again = [sys.executable, "-m", "benchmarks.growth", name, "--only", str(x)]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            done = subprocess.run(again, cwd=ROOT, env=environment, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(done.stderr[-3000:])
            line = done.stdout.splitlines()[-1]
            print(name, line, flush=True)
            with (OUT / f"{name}.jsonl").open("a") as file:
                file.write(line + "\n")
        draw(name)


if __name__ == "__main__":
    main()
