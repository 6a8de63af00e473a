"""Wrong configs, rows, pictures and checkpoints as data, and the sheet of what each is told.

`python -m tests.broken_inputs > docs/broken_inputs.md` writes the sheet; test_broken_inputs.py compares it.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import struct
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

import infer
import train
from got_train.cli import evaluate
from tests.tiny_models import TRAINED_DECODER, TRAINED_ENCODER

TOKENIZER = Path(__file__).parents[1] / "configs" / "nano" / "tokenizer"
COMMANDS = {"train": train.main, "infer": infer.main, "evaluate": evaluate.main}
ROWS, BROKEN = (
    8,
    3,
)  # rows of the sound data file, and the line that is spoilt: all are read in the first step


@dataclass(frozen=True)
class Case:
    """One wrong input: `spoil` breaks a copy of what `sound` makes, in which the command is then run."""

    what: str
    names: str  # of the file, line or key that the message must hold
    command: tuple[str, ...]
    spoil: Callable[[], object] = lambda: None
    cpu_only: bool = False  # a GPU can do it


def sound() -> None:
    """Makes in the working directory what every case starts from: data, pages, a config, a finished run."""
    generator = np.random.default_rng(7)
    rows = []
    for number in range(1, ROWS + 1):
        Image.fromarray(generator.integers(0, 256, (24, 40, 3), dtype=np.uint8)).save(f"{number}.png")
        rows.append({"images": [f"{number}.png"], "task": "ocr", "text": "abcdefgh"[:number]})
    write_rows(rows)
    shutil.copytree(TOKENIZER, "tokenizer")
    decoder = {**TRAINED_DECODER, "layers": 1}
    settings = {
        "model": {"tokenizer": "tokenizer", "vision": TRAINED_ENCODER, "decoder": decoder},
        "data": {"train": "data.jsonl", "max_tokens": 128},
        "train": {
            **{
                "max_steps": 1,
                "batch_size": ROWS,
                "per_device_train_batch_size": ROWS,
                "threads": 1,
                "save_steps": 1,
            },
            **{"output_dir": "new"},
        },
    }
    Path("run.yaml").write_text(json.dumps(settings, indent=1))  # JSON is YAML
    assert train.main(["run.yaml", "train.output_dir=run"]) == 0


def run(case: Case, start: Path) -> tuple[int, str]:
    """Exit code and message of a case, in a copy of the folder `start`."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(start, folder, dirs_exist_ok=True)
        with working_in(folder):
            case.spoil()
            return ended(case.command)


def ended(command: tuple[str, ...]) -> tuple[int, str]:
    """Exit code of a command and what it says under its name, without that name."""
    name, *arguments = command
    out, errors = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    with redirect_stdout(out), redirect_stderr(errors):
        try:
            code = COMMANDS[name](arguments)
        except SystemExit as error:  # argparse
            code = error.code
    errors.seek(0)
    return code, errors.read().partition(f"{name}: ")[2].rstrip()


@contextmanager
def working_in(folder: str | Path) -> Iterator[None]:
    """Relative paths, so that no message holds a path of this machine."""
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


# ---- commands


def training(*overrides: str) -> tuple[str, ...]:
    return ("train", "run.yaml", *overrides)


def resumed(*overrides: str) -> tuple[str, ...]:
    return ("train", "run.yaml", "train.output_dir=run", *overrides, "--resume")


def reading(*arguments: str, model: str = "run/final", page: str = "1.png") -> tuple[str, ...]:
    return ("infer", "--model_name_or_path", model, "--image_file", page, *arguments)


def evaluating(data: str = "data.jsonl") -> tuple[str, ...]:
    return ("evaluate", "run/final", "--data", data, "--output-dir", "scores", "--max-new-tokens", "4")


# ---- what breaks things


def write_rows(rows: list[dict], path: str = "data.jsonl") -> None:
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def line(text: str | bytes) -> Callable[[], None]:
    """Line 3 of the data file is these bytes."""

    def spoil() -> None:
        lines = Path("data.jsonl").read_bytes().splitlines()
        lines[BROKEN - 1] = text if isinstance(text, bytes) else text.encode()
        Path("data.jsonl").write_bytes(b"\n".join(lines) + b"\n")

    return spoil


def row(**changes: object) -> Callable[[], None]:
    """Line 3 of the data file is a record with these keys; a key that is None is left out."""
    values = {"images": ["3.png"], "task": "ocr", "text": "abc", **changes}
    return line(json.dumps({key: value for key, value in values.items() if value is not None}))


def conversation(*turns: tuple[str, str], image: object = "3.png") -> Callable[[], None]:
    said = [{"from": speaker, "value": text} for speaker, text in turns]
    return line(json.dumps({"image": image, "conversations": said}))


def swift(**keys: object) -> Callable[[], None]:
    return line(json.dumps({"query": "<image>OCR: ", "response": "abc", "images": ["3.png"], **keys}))


def content(path: str, content: str | bytes) -> Callable[[], None]:
    """A file holds this."""
    raw = content if isinstance(content, bytes) else content.encode()

    def spoil() -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(raw)

    return spoil


def cut(path: str, share: float = 0.5) -> Callable[[], None]:
    """A file ends early."""
    return lambda: os.truncate(path, int(os.path.getsize(path) * share))


def deleted(*paths: str) -> Callable[[], None]:
    return lambda: [Path(path).unlink() for path in paths]


def tensors(change: Callable[[dict], object], folder: str = "run/final") -> Callable[[], None]:
    """The arrays of a checkpoint, changed in place."""

    def spoil() -> None:
        from safetensors.numpy import load_file, save_file

        path = f"{folder}/model.safetensors"
        arrays = load_file(path)
        change(arrays)
        save_file(arrays, path)

    return spoil


def values(path: str, **changes: object) -> Callable[[], None]:
    """Keys of a JSON file, changed; a key that is None is left out."""

    def spoil() -> None:
        found = json.loads(Path(path).read_text()) | changes
        kept = {key: value for key, value in found.items() if value is not None}
        Path(path).write_text(json.dumps(kept))

    return spoil


def start(**model: str) -> Callable[[], None]:
    """A config whose model comes from a folder."""
    train = {"output_dir": "new", "max_steps": 1, "batch_size": ROWS, "per_device_train_batch_size": ROWS}
    settings = {"model": model, "data": {"train": "data.jsonl", "max_tokens": 128}, "train": train}
    return content("start.yaml", json.dumps(settings))


def picture(
    path: str, mode: str = "RGB", size: tuple[int, int] = (40, 24), **how: object
) -> Callable[[], None]:
    return lambda: Image.new(mode, size).save(path, **how)


def animated() -> None:
    frames = [Image.new("L", (8, 8), shade) for shade in (0, 100, 200)]
    frames[0].save("3.png", format="GIF", save_all=True, append_images=frames[1:])


def bomb() -> bytes:
    """A PNG that says it has 3.6 thousand million pixels."""
    start = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", start) + chunk(b"IDAT", zlib.compress(bytes(1000)))


def chunk(name: bytes, values: bytes) -> bytes:
    """Of a PNG: length, name, values, checksum."""
    return struct.pack(">I", len(values)) + name + values + struct.pack(">I", zlib.crc32(name + values))


def parquet(path: str, **columns: list) -> Callable[[], None]:
    def spoil() -> None:
        from pyarrow import Table
        from pyarrow.parquet import write_table

        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_table(Table.from_pydict(columns), path)

    return spoil


def saved(folder: str) -> Callable[[], None]:
    """One record as `datasets` saves it."""

    def spoil() -> None:
        import datasets

        datasets.Dataset.from_dict({"images": [["../1.png"]], "task": ["ocr"], "text": ["a"]}).save_to_disk(
            folder
        )

    return spoil


def both(*spoils: Callable[[], object]) -> Callable[[], None]:
    return lambda: [spoil() for spoil in spoils]


def pdf(pages: int, path: str = "pages.pdf") -> Callable[[], None]:
    def spoil() -> None:
        first, *more = [Image.new("RGB", (40, 24), "white") for _ in range(pages)]
        first.save(path, save_all=True, append_images=more)

    return spoil


def one_more_row() -> None:
    with open("data.jsonl", "a") as file:
        file.write(json.dumps({"images": ["1.png"], "task": "ocr", "text": "more"}) + "\n")


def other_tokenizer(folder: str) -> Callable[[], None]:
    """One of 262 ids: the bytes and the special tokens."""

    def spoil() -> None:
        from got_train.tokenizer import NANO_SPECIALS, Tokenizer

        Tokenizer({bytes([byte]): byte for byte in range(256)}, NANO_SPECIALS).save(folder)

    return spoil


def program(path: str) -> Callable[[], None]:
    """A PyTorch file whose pickle would run a command."""

    def spoil() -> None:
        import zipfile

        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("weights/data.pkl", b"cos\nsystem\n(S'echo run'\ntR.")

    return spoil


def half(what: str, spoil: Callable[[], object], names: str = "run/checkpoint-1") -> Case:
    """A run that is to go on from a checkpoint whose folder is not whole."""
    return Case(what, names, resumed(), both(lambda: shutil.rmtree("run/final"), spoil))


ASKED, READ = ("human", "<image>\nOCR: "), ("gpt", "abc")
LINE = f"data.jsonl:{BROKEN}"
MODEL = "run/final/model.safetensors"
STARTED = ("train", "start.yaml")

CASES: dict[str, list[Case]] = {
    "Configs": [
        Case("no such config", "none.yaml", ("train", "none.yaml")),
        Case("a folder as config", "tokenizer", ("train", "tokenizer")),
        Case(
            "YAML with an open bracket",
            "run.yaml",
            training(),
            content("run.yaml", "train: {max_steps: 3\n"),
        ),
        Case(
            "YAML with a tab",
            "run.yaml",
            training(),
            content("run.yaml", "train:\n\tsteps: 3\n"),
        ),
        Case(
            "YAML in Latin-1",
            "run.yaml",
            training(),
            content("run.yaml", b"# caf\xe9\n"),
        ),
        Case("a list as config", "run.yaml", training(), content("run.yaml", "- 1\n- 2\n")),
        Case(
            "a key that stands there twice",
            "steps",
            training(),
            content("run.yaml", "train:\n  steps: 3\n  steps: 4\n"),
        ),
        Case("a section that is a number", "optimizer", training(), content("run.yaml", "optimizer: 3\n")),
        Case("an unknown section", "optimiser", training("optimiser.lr=1e-4")),
        Case("an unknown key", "optimizer.learning_rat", training("optimizer.learning_rat=1e-4")),
        Case("an override without a section", "lr=1", training("lr=1")),
        Case("an override without a value", "optimizer.learning_rate", training("optimizer.learning_rate")),
        Case(
            "an override below a value",
            "optimizer.learning_rate.peak",
            training("optimizer.learning_rate=1", "optimizer.learning_rate.peak=2"),
        ),
        Case(
            "an override that is no YAML",
            "optimizer.learning_rate=[1",
            training("optimizer.learning_rate=[1"),
        ),
        Case("words for a number", "optimizer.learning_rate", training("optimizer.learning_rate=fast")),
        Case("words for a whole number", "train.max_steps", training("train.max_steps=many")),
        Case("half a step", "train.max_steps", training("train.max_steps=1.5")),
        Case("yes for a number", "train.max_steps", training("train.max_steps=true")),
        Case("a number for yes or no", "parts.vision.trainable", training("parts.vision.trainable=1")),
        Case(
            "an infinite learning rate", "optimizer.learning_rate", training("optimizer.learning_rate=.inf")
        ),
        Case("a learning rate of 0", "optimizer.learning_rate", training("optimizer.learning_rate=0")),
        Case("a warm-up of 200 %", "optimizer.warmup_ratio", training("optimizer.warmup_ratio=2")),
        Case("beta2 of 1", "optimizer.adam_beta2", training("optimizer.adam_beta2=1")),
        Case(
            "an unknown schedule",
            "optimizer.lr_scheduler_type",
            training("optimizer.lr_scheduler_type=linear"),
        ),
        Case("an unknown precision", "train.precision", training("train.precision=fp8")),
        Case(
            "bfloat16 on a CPU",
            "train.precision",
            training("train.precision=bfloat16"),
            cpu_only=True,
        ),
        Case("sharding stage 2 on a CPU", "train.sharding", training("train.sharding=stage2"), cpu_only=True),
        Case(
            "micro-batches that do not divide the batch",
            "batch_size",
            training("train.per_device_train_batch_size=3"),
        ),
        Case("a batch of 0", "train.batch_size", training("train.batch_size=0")),
        Case("a negative seed", "train.seed", training("train.seed=-1")),
        Case(
            "neither steps nor epochs",
            "train.num_train_epochs",
            training("train.max_steps=0", "train.num_train_epochs=0"),
        ),
        Case("an empty output folder", "train.output_dir", training("train.output_dir=")),
        Case(
            "a file as output folder",
            "data.jsonl",
            training("train.output_dir=data.jsonl"),
        ),
        Case("an output folder with a run in it", "train.output_dir", training("train.output_dir=run")),
        Case(
            "nothing that trains",
            "parts",
            training(*(f"parts.{part}.trainable=false" for part in ("vision", "projector", "decoder"))),
        ),
        Case(
            "a loss of characters for a frozen encoder",
            "train.char_loss_weight",
            training("train.char_loss_weight=1", "parts.vision.trainable=false"),
        ),
        Case("features kept of an encoder that trains", "parts.vision", training("train.feature_cache=kept")),
        Case(
            "a file as folder of features",
            "data.jsonl",
            training("train.feature_cache=data.jsonl", "parts.vision.trainable=false"),
        ),
        Case(
            "patience without validation",
            "train.early_stopping_patience",
            training("train.early_stopping_patience=3"),
        ),
        Case("an average that never moves", "train.ema_decay", training("train.ema_decay=1")),
        Case(
            "two beginnings",
            "model.vision",
            training("model.init_from=run/final"),
        ),
        Case("heads that do not divide the width", "vision.heads", training("model.vision.heads=3")),
        Case(
            "a global layer that is not there",
            "vision.global_layers",
            training("model.vision.global_layers=[7]"),
        ),
        Case("a patch that does not divide the view", "vision.patch", training("model.vision.patch=5")),
        Case(
            "a vocabulary that is not the tokenizer's", "vocab_size", training("model.decoder.vocab_size=99")
        ),
        Case("an unknown decoder", "model.decoder.kind", training("model.decoder.kind=llama")),
        Case(
            "more tokens than positions",
            "data.max_tokens",
            training("data.max_tokens=9999"),
        ),
        Case(
            "no tokenizer",
            "model.tokenizer",
            training("model.tokenizer="),
        ),
        Case("a tokenizer folder without one", "new_tokenizer", training("model.tokenizer=new_tokenizer")),
        Case(
            "a tokenizer file that is cut off",
            "qwen.tiktoken:2",
            training(),
            content("tokenizer/qwen.tiktoken", "AA== 0\nAQ=="),
        ),
        Case("no data", "data.train", training("data.train=")),
        Case("a source without a path", "data.train[0]", training("data.train=[{weight: 1}]")),
        Case(
            "a weight for one source of two",
            "data.train",
            training("data.train=[{path: data.jsonl, weight: 1}, {path: data.jsonl}]"),
        ),
        Case("a weight of 0", "data.train[0].weight", training("data.train=[{path: data.jsonl, weight: 0}]")),
        Case(
            "a stream without weights",
            "data.train[0].streaming",
            training("data.train=[{path: data.jsonl, streaming: true}]"),
        ),
        Case(
            "a stream without steps",
            "data.train[0].streaming",
            training("data.train=[{path: data.jsonl, streaming: true, weight: 1}]", "train.max_steps=0"),
        ),
        Case("a replay share of 80", "data.replay_share", training("data.replay_share=80")),
        Case(
            "a weight in validation",
            "data.validation[0]",
            training("data.validation=[{path: data.jsonl, weight: 1}]"),
        ),
        Case(
            "a column of a key that no record has",
            "columns.txt",
            training("data.train=[{path: data.jsonl, columns: {txt: answer}}]"),
        ),
        Case("rows too short to pack", "data.packing_length", training("data.packing_length=8")),
        Case("an unknown on_error", "data.on_error", training("data.on_error=ignore")),
    ],
    "Data files": [
        Case("no such file", "none.jsonl", training("data.train=none.jsonl")),
        Case("a pattern without files", "shards/*.parquet", training("data.train=shards/*.parquet")),
        Case("a folder without records", "tokenizer", training("data.train=tokenizer")),
        Case("an empty file", "data.jsonl", training(), content("data.jsonl", "")),
        Case("a file of blank lines", "data.jsonl", training(), content("data.jsonl", "\n\n")),
        Case("UTF-16", "data.jsonl", training(), content("data.jsonl", "{}".encode("utf-16"))),
        Case("a line in Latin-1", LINE, training(), line(b'{"images": ["3.png"], "text": "caf\xe9"}')),
        Case("a line that is no JSON", LINE, training(), line("images: 3.png")),
        Case("half a line", LINE, training(), line('{"images": ["3.png"], "task": "oc')),
        Case("a line that is a list", LINE, training(), line('["3.png", "abc"]')),
        Case(
            "a JSON list without a comma",
            "data.json[0]",
            training("data.train=data.json"),
            content("data.json", '[{"images": ["1.png"]} {"images": ["2.png"]}]'),
        ),
        Case(
            "a JSON list that is cut off",
            "data.json[1]",
            training("data.train=data.json"),
            content("data.json", '[{"images": ["1.png"]}, {"images": ["2.p'),
        ),
        Case(
            "a meta JSON whose file is not there",
            "data.json['pages']",
            training("data.train=data.json"),
            content("data.json", '{"pages": {"images": "", "annotations": "none.json"}}'),
        ),
        Case(
            "a CSV line with a cell too many",
            "data.csv:2",
            training("data.train=data.csv"),
            content("data.csv", "file_name,text\n1.png,a,b\n"),
        ),
        Case(
            "a parquet file that is none",
            "data.parquet",
            training("data.train=data.parquet"),
            content("data.parquet", "PAR1 no PAR1"),
        ),
        Case(
            "a parquet file with a column that no record has",
            "answer_text",
            training("data.train=data.parquet"),
            parquet("data.parquet", image=["1.png"], answer_text=["a"]),
        ),
        Case(
            "a column that is not there",
            "answer",
            training("data.train=[{path: data.parquet, columns: {images: image, text: answer}, task: ocr}]"),
            parquet("data.parquet", image=["1.png"], ground_truth=["a"]),
        ),
        Case(
            "a split that is not there",
            "shards",
            training("data.train=[{path: shards, split: tests}]"),
            both(
                parquet("shards/train.parquet", images=[["../1.png"]], task=["ocr"], text=["a"]),
                parquet("shards/test.parquet", images=[["../1.png"]], task=["ocr"], text=["a"]),
            ),
        ),
        Case(
            "a picture without its text",
            "pairs",
            training("data.train=pairs"),
            both(
                lambda: os.mkdir("pairs"),
                picture("pairs/a.png"),
                picture("pairs/b.png"),
                content("pairs/a.txt", "a"),
            ),
        ),
        Case(
            "a broken line of a stream",
            LINE,
            training("data.train=[{path: data.jsonl, streaming: true, weight: 1}]"),
            line("{"),
        ),
        Case(
            "a parquet row without a task",
            "data.parquet[0]",
            training("data.train=data.parquet"),
            parquet("data.parquet", images=[["1.png"]], text=["a"]),
        ),
        Case(
            "a parquet row whose text is empty",
            "data.parquet[1]",
            training("data.train=data.parquet"),
            parquet("data.parquet", images=[["1.png"]] * 2, text=["a", None], task=["ocr"] * 2),
        ),
        Case(
            "a parquet picture that is none",
            "data.parquet[0]",
            training("data.train=data.parquet"),
            parquet("data.parquet", images=[[{"bytes": b"no", "path": None}]], text=["a"], task=["ocr"]),
        ),
        Case(
            "a parquet picture without bytes and path",
            "data.parquet[0]",
            training("data.train=data.parquet"),
            parquet("data.parquet", images=[[{"bytes": None, "path": None}]], text=["a"], task=["ocr"]),
        ),
        Case(
            "an image folder without file names",
            "pages/metadata.jsonl",
            training("data.train=pages"),
            content("pages/metadata.jsonl", '{"text": "a"}\n'),
        ),
        Case(
            "an image folder whose picture is not there",
            "pages/metadata.jsonl:1",
            training("data.train=[{path: pages, task: ocr}]"),
            content("pages/metadata.jsonl", '{"file_name": "none.png", "text": "a"}\n'),
        ),
        Case(
            "a saved data set whose rows are gone",
            "saved",
            training("data.train=saved"),
            both(saved("saved"), lambda: [path.unlink() for path in Path("saved").glob("*.arrow")]),
        ),
        Case(
            "a split of a saved data set that has none",
            "saved",
            training("data.train=[{path: saved, split: test}]"),
            saved("saved"),
        ),
        Case(
            "a stream of CSV",
            "data.csv",
            training("data.train=[{path: data.csv, streaming: true, weight: 1}]"),
            content("data.csv", "file_name,text\n1.png,a\n"),
        ),
        Case(
            "a stream as validation",
            "data.validation[0].streaming",
            training("data.validation=[{path: data.jsonl, streaming: true}]"),
        ),
        Case(
            "a stream as replay",
            "data.replay[0].streaming",
            training("data.replay=[{path: data.jsonl, streaming: true}]"),
        ),
        Case("no validation file", "none.jsonl", training("data.validation=none.jsonl")),
        Case(
            "a validation row without text",
            "valid.jsonl:1",
            training("data.validation=valid.jsonl", "train.eval_steps=1"),
            lambda: write_rows([{"images": ["1.png"], "task": "ocr"}], "valid.jsonl"),
        ),
        Case("no replay file", "none.jsonl", training("data.replay=none.jsonl")),
        Case("a broken row before a dry run", LINE, training("--dry-run"), row(text=None)),
        Case(
            "no row that can be used, and such rows are dropped",
            "data.jsonl:",
            training("data.on_error=skip"),
            lambda: write_rows([{"images": ["none.png"], "task": "ocr", "text": "a"}] * ROWS),
        ),
    ],
    "Records": [
        Case("an unknown key", LINE, training(), row(txt="abc")),
        Case("no text", LINE, training(), row(text=None)),
        Case("a text that is a number", LINE, training(), row(text=5)),
        Case("half a character in the text", LINE, training(), row(text="a\ud800")),
        Case("an empty answer", LINE, training(), row(text=" ")),
        Case("an answer that is too long", LINE, training(), row(text="word " * 99)),
        Case("an unknown task", LINE, training(), row(task="formatted")),
        Case("images that are no list", LINE, training(), row(images="3.png")),
        Case("no images", LINE, training(), row(images=[])),
        Case("an image that is a number", LINE, training(), row(images=[3])),
        Case("an image that is not there", "none.png", training(), row(images=["none.png"])),
        Case("a folder as image", "tokenizer", training(), row(images=["tokenizer"])),
        Case("several images with task ocr", LINE, training(), row(images=["3.png", "4.png"])),
        Case("an unknown colour", LINE, training(), row(color="purple")),
        Case("a box and a colour", LINE, training(), row(box=[1, 1, 9, 9], color="red")),
        Case("a box of three numbers", LINE, training(), row(box=[1, 1, 9])),
        Case("a box of words", LINE, training(), row(box="1,1,9,9")),
        Case("a box that begins outside", LINE, training(), row(box=[-1, 1, 9, 9])),
        Case("a box that ends outside", LINE, training(), row(box=[1, 1, 99, 9])),
        Case("a box without area", LINE, training(), row(box=[9, 1, 9, 9])),
        Case("a box of several pages", LINE, training(), row(task="multi_page", box=[1, 1, 9, 9])),
        Case(
            "a box beyond a thousand thousandths",
            LINE,
            training(),
            row(box=[1, 1, 1001, 9], box_unit="thousandth"),
        ),
        Case(
            "character boxes that are no list",
            LINE,
            training(),
            row(char_boxes=5),
        ),
        Case("a character box of two characters", LINE, training(), row(char_boxes=[["ab", 1, 1, 9, 9]])),
        Case(
            "a character box without numbers",
            LINE,
            training("train.char_loss_weight=1"),
            row(char_boxes=[["a", 1, 1, 9]]),
        ),
        Case(
            "a character box of words",
            LINE,
            training("train.char_loss_weight=1"),
            row(char_boxes=[["a", 1, 1, 9, "b"]]),
        ),
        Case("two rounds of a conversation", LINE, training(), conversation(ASKED, READ, ASKED, READ)),
        Case("a conversation that the model begins", LINE, training(), conversation(READ, ASKED)),
        Case("a conversation without an answer", LINE, training(), conversation(ASKED)),
        Case("a conversation without an image", LINE, training(), conversation(ASKED, READ, image=None)),
        Case("a question without `<image>`", LINE, training(), conversation(("human", "OCR: "), READ)),
        Case(
            "a question that GOT was never asked",
            LINE,
            training(),
            conversation(("human", "<image>\nWhat is this?"), READ),
        ),
        Case("turns that are no list", LINE, training(), line('{"image": "3.png", "conversations": "OCR"}')),
        Case("an ms-swift row with a history", LINE, training(), swift(history=[["a", "b"]])),
        Case("an ms-swift row with its own system sentence", LINE, training(), swift(system="Read.")),
        Case("an ms-swift row without an answer", LINE, training(), swift(response=None)),
        Case(
            "an ms-swift row with two marks and one image",
            LINE,
            training(),
            swift(query="<image><image>OCR: "),
        ),
    ],
    "Pictures": [
        Case("an empty file", "3.png", training(), content("3.png", "")),
        Case("a PNG that is cut off", "3.png", training(), cut("3.png")),
        Case(
            "a JPEG that is cut off",
            "3.png",
            training(),
            both(picture("3.png", size=(200, 200), format="JPEG"), cut("3.png")),
        ),
        Case("text in a .png", "3.png", training(), content("3.png", "no picture")),
        Case("an SVG", "3.png", training(), content("3.png", '<svg xmlns="http://www.w3.org/2000/svg"/>')),
        Case(
            "a PDF in a record", "3.png", training(), both(pdf(1), lambda: os.replace("pages.pdf", "3.png"))
        ),
        Case("an animated GIF", "3.png", training(), animated),
        Case("60,000 x 60,000 pixels", "3.png", training(), content("3.png", bomb())),
        Case("a TIFF of floats", "3.png", training(), picture("3.png", mode="F", format="TIFF")),
        Case(
            "a picture that a worker cannot read",
            "3.png",
            training("data.num_workers=1"),
            content("3.png", "no picture"),
        ),
        Case("no such page", "none.png", reading(page="none.png")),
        Case("a page that is cut off", "1.png", reading(), cut("1.png")),
        Case("a folder without pages", "tokenizer", reading(page="tokenizer")),
        Case(
            "a PDF that is none", "pages.pdf", reading(page="pages.pdf"), content("pages.pdf", "%PDF-1.7 no")
        ),
        Case("page 3 of 2", "pages.pdf", reading("--pages", "3", page="pages.pdf"), pdf(2)),
        Case("pages backwards", "pages", reading("--pages", "2-1", page="pages.pdf"), pdf(2)),
        Case("pages of a picture", "1.png", reading("--pages", "1")),
        Case("a box of three numbers", "box", reading("--box", "1,2,3")),
        Case("a box outside the page", "box", reading("--box", "1,2,99,9")),
        Case("a box and a colour", "color", reading("--box", "1,2,9,9", "--color", "red")),
        Case("several pages as plain text", "--multi-page", reading("--multi_page")),
        Case("a batch of 0", "--batch-size", reading("--batch-size", "0")),
        Case("a picture in an evaluation that is not there", LINE, evaluating(), row(images=["none.png"])),
    ],
    "Checkpoints": [
        Case("no such folder", "run/none", reading(model="run/none")),
        Case(
            "no such folder to begin from",
            "no such folder",
            STARTED,
            start(init_from="run/none"),
        ),
        Case("no config.json", "run/final", reading(), deleted("run/final/config.json")),
        Case(
            "a config.json that is cut off",
            "run/final/config.json",
            reading(),
            cut("run/final/config.json"),
        ),
        Case(
            "a config.json that is a list",
            "run/final/config.json",
            reading(),
            content("run/final/config.json", "[]"),
        ),
        Case(
            "a config.json without sizes",
            "run/final/config.json",
            reading(),
            content("run/final/config.json", "{}"),
        ),
        Case(
            "no weights",
            "run/final",
            reading(),
            deleted(MODEL),
        ),
        Case(
            "weights of 0 bytes",
            MODEL,
            reading(),
            content(MODEL, ""),
        ),
        Case(
            "weights that are text",
            MODEL,
            reading(),
            content(MODEL, "version https://git-lfs.github.com/spec/v1\n"),
        ),
        Case("weights that are cut off", MODEL, reading(), cut(MODEL)),
        Case(
            "weights that are cut off in the header",
            MODEL,
            reading(),
            cut(MODEL, 0.01),
        ),
        Case(
            "a tensor that is missing",
            "projector",
            reading(),
            tensors(lambda arrays: arrays.pop("model.mm_projector_vary.bias")),
        ),
        Case(
            "a tensor of another shape",
            "projector",
            reading(),
            tensors(lambda arrays: arrays.update({"model.mm_projector_vary.bias": np.zeros(3, np.float32)})),
        ),
        Case(
            "a tensor too many",
            "model.adapter",
            reading(),
            tensors(lambda arrays: arrays.update({"model.adapter": np.zeros(3, np.float32)})),
        ),
        Case(
            "an output matrix that is not the embedding",
            "lm_head",
            reading(),
            tensors(lambda arrays: arrays.update({"lm_head.weight": arrays["lm_head.weight"] + 1})),
        ),
        Case(
            "weights of some other model",
            "run/final",
            reading(),
            tensors(lambda arrays: [arrays.clear(), arrays.update({"bert.weight": np.zeros(3, np.float32)})]),
        ),
        Case(
            "weights that are no numbers",
            "token",
            reading(),
            tensors(lambda arrays: arrays["model.mm_projector_vary.bias"].fill(np.nan)),
        ),
        Case(
            "an index whose shard is missing",
            "model-1.safetensors",
            reading(),
            both(
                deleted(MODEL),
                content(
                    "run/final/model.safetensors.index.json", '{"weight_map": {"a": "model-1.safetensors"}}'
                ),
            ),
        ),
        Case(
            "an index that is no JSON",
            "model.safetensors.index.json",
            reading(),
            both(deleted(MODEL), content("run/final/model.safetensors.index.json", "{")),
        ),
        Case(
            "a PyTorch file that is none",
            "weights.pth",
            reading(),
            both(deleted(MODEL), content("run/final/weights.pth", "no")),
        ),
        Case(
            "a PyTorch file that would run a command",
            "weights.pth",
            reading(),
            both(deleted(MODEL), program("run/final/weights.pth")),
        ),
        Case("no tokenizer", "run/final", reading(), deleted("run/final/qwen.tiktoken")),
        Case("a tokenizer of another size", "tokenizer", reading(), other_tokenizer("run/final")),
        Case(
            "a tokenizer of another size to begin from",
            "model.tokenizer",
            STARTED,
            both(other_tokenizer("other"), start(init_from="run/final", tokenizer="other")),
        ),
        Case(
            "another prompt template than the checkpoint's",
            "model.prompt_template",
            STARTED,
            start(init_from="run/final", prompt_template="hub"),
        ),
        Case(
            "an encoder of other sizes",
            "run/final",
            training("model.vision_from=run/final", "model.vision.mlp_width=48"),
        ),
        Case(
            "a decoder of other sizes",
            "run/final",
            training("model.decoder_from=run/final", "model.decoder.mlp_width=48"),
        ),
        Case("no data to evaluate on", "--data", ("evaluate", "run/final")),
        Case("data to evaluate on that is not there", "none.jsonl", evaluating(data="none.jsonl")),
        Case(
            "predictions that are no JSON",
            "p.jsonl:1",
            ("evaluate", "--predictions", "p.jsonl"),
            content("p.jsonl", "no\n"),
        ),
        Case("metrics that are none", "m.json", ("evaluate", "--compare", "m.json"), content("m.json", "{}")),
    ],
    "Resuming": [
        Case("another learning rate", "optimizer.learning_rate", resumed("optimizer.learning_rate=1")),
        Case("another seed and length", "train.seed", resumed("train.seed=1", "train.max_steps=9")),
        Case(
            "a row more in the data",
            "data.train",
            resumed(),
            both(one_more_row, lambda: shutil.rmtree("run/final")),
        ),
        Case(
            "a row of another source",
            "data.train",
            resumed("data.train=[{path: data.jsonl}, {path: data.jsonl}]"),
        ),
        Case(
            "a final folder without run.yaml",
            "--resume: run/final",
            resumed(),
            deleted("run/final/run.yaml"),
        ),
        Case(
            "a run.yaml that is cut off",
            "run/final/run.yaml",
            resumed(),
            content("run/final/run.yaml", "model:\n  init_from: ''\npa\n"),
        ),
        half("no checkpoint.json", deleted("run/checkpoint-1/checkpoint.json")),
        half("a checkpoint.json that is cut off", content("run/checkpoint-1/checkpoint.json", "[")),
        half("no trainer state", deleted("run/checkpoint-1/trainer_state.json")),
        half(
            "a trainer state that is cut off",
            cut("run/checkpoint-1/trainer_state.json"),
        ),
        half("no optimizer state", deleted("run/checkpoint-1/optimizer-0.safetensors")),
        half(
            "an optimizer state that is cut off",
            cut("run/checkpoint-1/optimizer-0.safetensors"),
        ),
        half("no weights", deleted("run/checkpoint-1/model.safetensors")),
        half("weights that are cut off", cut("run/checkpoint-1/model.safetensors")),
        half(
            "a checkpoint folder that is empty",
            lambda: os.mkdir("run/checkpoint-9"),
            names="--resume: run/checkpoint-9",
        ),
    ],
}


INTRODUCTION = """# Broken inputs

What the commands say to wrong configs, data, pictures and checkpoints. A message reads
`<where>: <what is wrong>; <what would be right>`, or `<key> must ...`; the exit code is never 0, and there is
no traceback. `(...)` stands for words of another library. tests/cli/test_broken_inputs.py runs all of these;
`python -m tests.broken_inputs > docs/broken_inputs.md` writes this page.
"""
FOREIGN = re.compile(r"(damaged or cut off|too large|not UTF-8|cannot be read|without pages) \(.*\);")


def sheet(messages: dict[tuple[str, str], str]) -> str:
    """The page, from the messages by group and case."""
    lines = [INTRODUCTION]
    for group, cases in CASES.items():
        told = [sheet_row(case, messages[group, case.what]) for case in cases]
        lines += [f"## {group}\n", "| input | message |", "| --- | --- |", *told, ""]
    return "\n".join(lines)


def sheet_row(case: Case, message: str) -> str:
    return f"| {escaped(case.what)} | {case.command[0]}: {escaped(plain(message))} |"


def plain(message: str) -> str:
    """Without the words of Pillow, PDFium, Arrow and Python, which change with their versions."""
    message = FOREIGN.sub(r"\1 (...);", message)
    return re.sub(r"expected a file of \d+ bytes", "expected a file of ... bytes", message)


def escaped(text: str) -> str:
    for mark in "\\|<>*_[]`":
        text = text.replace(mark, f"\\{mark}")
    return text.replace("\n", "<br>")


def main() -> None:
    messages = {}
    with tempfile.TemporaryDirectory() as start:
        with working_in(start), redirect_stdout(sys.stderr):
            sound()
        for group, cases in CASES.items():
            for case in cases:
                messages[group, case.what] = run(case, Path(start))[1]
    print(sheet(messages), end="")


if __name__ == "__main__":
    main()
