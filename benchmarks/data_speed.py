"""How long a page takes from its file to the model's input on one core, beside transformers' processor.

python -m benchmarks.data_speed [--reference PYTHON] [--tokenizer FOLDER] [--repeats 15]

PYTHON is an interpreter with torch and transformers; of its image processors all that it can import are
timed. Both sides read the same files, drawn here by a seed, tokenise an answer of about 500 tokens and give a
batch of one; they take turns, one process each. What is printed are medians of processor time, as machines
are shared. Our views stay 8-bit, and the model turns them into float32: that has a column of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from .transformers.__main__ import run, worker

ROOT = Path(__file__).resolve().parents[1]
SIDE, TOKENS, A4 = 1024, 500, (1240, 1754)  # A4 at 150 dpi
NANO = ROOT / "configs/nano"
PAGES = {
    "page.jpg": "A4, black on white, JPEG",
    "page.png": "the same, PNG in RGB",
    "grey.png": "the same, PNG in grey",
    "figure.jpg": "with a coloured figure, JPEG",
    "scan.jpg": "with noise of a colour scan, JPEG",
    "line.png": "one line, 600x48, PNG",
}
Work = Callable[[], dict[str, float]]  # gives seconds of processor time by step


# ---- what both sides read


def draw(folder: Path) -> None:
    """The pages, and the answer as answer.txt."""
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    generator = np.random.default_rng(0)
    font = ImageFont.load_default(size=18)

    def words(letters: int) -> str:
        lengths = generator.integers(2, 10, letters // 5)
        return " ".join("".join(map(chr, generator.integers(97, 123, length))) for length in lengths)[
            :letters
        ]

    lines = [words(85) for _ in range(60)]
    page = Image.new("RGB", A4, "white")
    for number, line in enumerate(lines):
        ImageDraw.Draw(page).text((120, 140 + 24 * number), line, fill="black", font=font)
    figure = page.copy()
    ImageDraw.Draw(figure).rectangle((300, 400, 800, 700), fill=(200, 30, 40))
    paper = np.asarray(page) - generator.integers(0, 20, (*A4[::-1], 3))
    scan = Image.fromarray(paper.clip(0, 255).astype(np.uint8))
    line = Image.new("RGB", (600, 48), "white")
    ImageDraw.Draw(line).text((10, 10), lines[0][:50], fill="black", font=font)
    drawn = {"page.jpg": page, "page.png": page, "grey.png": page.convert("L")}
    for name, picture in {**drawn, "figure.jpg": figure, "scan.jpg": scan, "line.png": line}.items():
        picture.save(folder / name, quality=90)
    (folder / "answer.txt").write_text("\n".join(lines), encoding="ascii")


# ---- the two sides; each prepares a page and gives what is timed


def ours(folder: Path, name: str) -> Work:
    from got_train.cpu import settings

    settings.tune(1)
    import paddle

    from got_train import images
    from got_train.checkpoint.weights import load_model
    from got_train.data.collator import Collator
    from got_train.data.records import Record
    from got_train.tokenizer import load_tokenizer

    collator = Collator(load_tokenizer(folder / "ours"), SIDE, 256)
    answer = (folder / "answer.txt").read_text()
    record = Record((str(folder / name),), "ocr", answer)
    model = load_model(NANO / "weights/stage3")  # normalises views of any size

    def work() -> dict[str, float]:
        watch = Watch()
        page = images.open_image(record.images[0])
        watch("read, decode")
        views = images.views([page], record.task, SIDE, 6)
        watch("squash")
        collator.tokens(record, 1, page.size)
        watch("tokenise")
        began = time.process_time()
        batch = collator.batch([collator.sample(record)])
        watch.seconds["all"] = time.process_time() - began
        watch.began = time.process_time()
        with paddle.no_grad():
            model.normalize(paddle.to_tensor(views))
        watch("normalise")
        assert batch["pixel_values"].shape == (1, SIDE, SIDE, 3)
        return watch.seconds

    return work


def kinds() -> dict[str, str]:
    """The image processors that are there, by what they work with, and the ends of their names."""
    import transformers

    plain = "Pil" if hasattr(transformers, "GotOcr2ImageProcessorPil") else ""  # the name since version 5
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError):  # built for another torch
        return {"Pillow": plain}
    return {"Pillow": plain, "torchvision": "" if plain else "Fast"}


def theirs(folder: Path, name: str, kind: str) -> Work:
    import torch
    import transformers
    from PIL import Image

    torch.set_num_threads(1)
    processor = getattr(transformers, f"GotOcr2ImageProcessor{kind}")(size={"height": SIDE, "width": SIDE})
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "theirs")
    text = (folder / "prompt.txt").read_text() + (folder / "answer.txt").read_text() + "<|im_end|>"

    def work() -> dict[str, float]:
        watch = Watch()
        with Image.open(folder / name) as page:
            pixels = processor(images=page, return_tensors="pt").pixel_values
        tokenizer(text, return_tensors="pt")
        watch("all")
        assert pixels.shape == (1, 3, SIDE, SIDE)
        return watch.seconds

    return work


class Watch:
    """Processor time between its calls."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.began = time.process_time()

    def __call__(self, step: str) -> None:
        now = time.process_time()
        self.seconds[step] = now - self.began
        self.began = time.process_time()


def take_turns(case: str) -> None:
    """One side in a process of its own: the work once for every line on stdin."""
    side, folder, name = case.split("|")
    work = ours(Path(folder), name) if side == "ours" else theirs(Path(folder), name, side)
    work()  # the first run chooses code paths and fills caches
    print(json.dumps({"ready": True}), flush=True)
    for _ in sys.stdin:
        print(json.dumps(work()), flush=True)


# ---- the table


def measure(
    folder: Path, name: str, python: str | None, peers: dict[str, str], repeats: int
) -> dict[str, dict]:
    """Median milliseconds by side and step."""
    sides = {"ours": (sys.executable, "ours")} | {title: (python, kind) for title, kind in peers.items()}
    found = {title: [] for title in sides}
    with ExitStack() as stack:
        processes = {
            title: stack.enter_context(worker(interpreter, __file__, f"{side}|{folder}|{name}", 1))
            for title, (interpreter, side) in sides.items()
        }
        for _ in range(repeats):
            for title, process in processes.items():
                found[title].append(run(process))
    return {
        title: {step: 1e3 * median(each[step] for each in runs) for step in runs[0]}
        for title, runs in found.items()
    }


def prepare(folder: Path, tokenizer: Path) -> int:
    """Draws the pages, writes prompt and tokenizers for both sides; returns the tokens of the answer."""
    from got_train.prompts import build_prompt
    from got_train.tokenizer import load_tokenizer

    draw(folder)
    words = load_tokenizer(tokenizer)
    words.save(folder / "ours")
    words.to_transformers(folder / "theirs")
    (folder / "prompt.txt").write_text(build_prompt("ocr"), encoding="ascii")
    answer = folder / "answer.txt"
    ids = words.encode(answer.read_text())[:TOKENS]
    answer.write_text(words.decode(ids), encoding="ascii")
    return len(ids)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.data_speed", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--reference", default=os.environ.get("GOT_REFERENCE_PYTHON"), metavar="PYTHON")
    parser.add_argument("--tokenizer", type=Path, default=NANO / "tokenizer", metavar="FOLDER")
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    peers = {}
    if options.reference:
        asked = [options.reference, "-m", "benchmarks.data_speed", "kinds"]
        said = subprocess.run(asked, capture_output=True, text=True, check=True, cwd=ROOT)
        peers = json.loads(said.stdout.splitlines()[-1])
    steps = ("read, decode", "squash", "tokenise", "all", "normalise")
    titles = [f"transformers, {title}" for title in peers]
    with tempfile.TemporaryDirectory() as made:
        tokens = prepare(Path(made), options.tokenizer)
        print(f"Milliseconds of processor time of one core, views of {SIDE}x{SIDE}, {tokens} tokens:\n")
        cells = [*steps, *titles, *(f"ratio, {title}" for title in peers)]
        print(f"| file | {' | '.join(cells)} |\n|{'---|' * (1 + len(cells))}")
        for name, what in PAGES.items():
            found = measure(Path(made), name, options.reference, peers, options.repeats)
            mine, others = found.pop("ours"), [each["all"] for each in found.values()]
            numbers = [f"{mine[step]:.1f}" for step in steps] + [f"{other:.1f}" for other in others]
            ratios = [f"{other / mine['all']:.2f}" for other in others]
            print(f"| {what} | {' | '.join(numbers + ratios)} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["kinds"]:
        print(json.dumps(kinds()))
    elif len(sys.argv) > 1 and "|" in sys.argv[1]:
        take_turns(sys.argv[1])
    else:
        main()
