"""Files that a run, a reading or a check opens, mutated by the thousand: python -m tests.robustness.fuzz.

Each kind is a sound file, the function that reads it, and where there is one an independent judge of the
format. A mutation ends in one of the columns of docs/robustness.md; seeds are fixed.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import signal
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from got_train.errors import GotError

if TYPE_CHECKING:
    from PIL import Image

HANG_SECONDS = 10
COLUMNS = ("refused", "accepted", "unclear", "silent wrong", "traceback", "hang")
VALUES = (
    *(
        "null",
        "true",
        "[]",
        "{}",
        "-1",
        "0",
        "1",
        "1e308",
        "-1e-308",
        "1e999",
        "NaN",
        "Infinity",
        '""',
        '"a"',
    ),
    *('"\\ud800"', '"\\u0000"', "9" * 25, "9" * 5000, "99999999999", "1.5", "[1, 2]", '{"a": 1}'),
    *("[" * 200 + "]" * 200, "[" * 5000 + "]" * 5000, '"' + "x" * 3000 + '"', "[null]", "[-1, 4]"),
)


@dataclass(frozen=True)
class Kind:
    """One sort of file: `read` gets the folder in which `file` was mutated."""

    name: str
    file: str
    read: Callable[[Path], object]
    judge: Callable[[bytes], bool] | None = None  # whether another reader of the format takes these bytes
    text: bool = True  # JSON and lines, whose values are mutated too


class HangError(Exception):
    """The reader took too long."""


@contextmanager
def limit(seconds: int) -> Iterator[None]:
    def over(number: int, frame: object) -> None:
        raise HangError

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def mutated(content: bytes, random: random.Random, text: bool) -> bytes:
    """Another content: bytes or values changed, taken away, doubled or put elsewhere."""
    data = bytearray(content)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        choice = random.randrange(9 if text else 6)
        at = random.randrange(len(data) + 1)
        end = min(len(data), at + random.choice((1, 2, 8, 64, 1000)))
        if choice == 0 and data:
            data[at % len(data)] ^= 1 << random.randrange(8)
        elif choice == 1:
            del data[at:]
        elif choice == 2:
            del data[at:end]
        elif choice == 3:
            data[at:at] = data[at:end]
        elif choice == 4:
            data[at:end] = random.randbytes(end - at)
        elif choice == 5:
            data[at:at] = random.choice((b"\0" * 8, b"\xff" * 8, b"\n", b'"', b"}", b"[", b"\xed\xa0\x80"))
        else:
            data = bytearray(_with_other_value(bytes(data), random))
    return bytes(data)


def _with_other_value(data: bytes, random: random.Random) -> bytes:
    """One value of JSON (or one word of another text) replaced, or a key of it put in a second time."""
    text = data.decode("utf-8", "replace")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        words = text.split(" ")
        words[random.randrange(len(words))] = random.choice(VALUES)
        return " ".join(words).encode("utf-8", "replace")
    places: list[tuple[dict | list, str | int]] = []
    stack = [value]
    while stack:
        node = stack.pop()
        if isinstance(node, (dict, list)) and len(places) < 2000:
            keys = list(node) if isinstance(node, dict) else range(min(len(node), 50))
            places += [(node, key) for key in keys]
            stack += [node[key] for key in keys]
    if not places:
        return random.choice(VALUES).encode("utf-8", "surrogatepass")
    node, key = random.choice(places)
    mark = "\x01value\x01"
    before = node[key]
    if isinstance(node, dict) and random.random() < 0.15:
        twice = json.dumps(key) + ": " + json.dumps(before)
        node[key] = mark
        return json.dumps(value).replace(json.dumps(mark), f"{json.dumps(before)}, {twice}").encode()
    node[key] = mark
    return json.dumps(value).replace(json.dumps(mark), random.choice(VALUES)).encode("utf-8", "replace")


def outcome(kind: Kind, folder: Path, content: bytes) -> tuple[str, str]:
    """The column of one content, and what was said."""
    (folder / kind.file).write_bytes(content)
    try:
        with limit(HANG_SECONDS):
            kind.read(folder)
    except HangError:
        return "hang", ""
    except (GotError, FileNotFoundError) as error:
        named = Path(kind.file).name in str(error) or str(folder) in str(error)
        return ("refused" if named and "\n\n" not in str(error) else "unclear"), str(error)
    except Exception as error:
        return "traceback", f"{type(error).__name__}: {error}"
    if kind.judge is not None and not kind.judge(content):
        return "silent wrong", "another reader of the format refuses it"
    return "accepted", ""


def run(kind: Kind, folder: Path, count: int, seed: int = 0) -> tuple[Counter, dict[str, tuple[int, str]]]:
    """How many of `count` mutations ended where, and the first example of each column."""
    sound = (folder / kind.file).read_bytes()
    kind.read(folder)  # the sound file is read
    counts: Counter = Counter()
    examples: dict[str, tuple[int, str]] = {}
    for number in range(count):
        content = mutated(sound, random.Random(f"{kind.name} {seed} {number}"), kind.text)
        column, message = outcome(kind, folder, content)
        counts[column] += 1
        examples.setdefault(column, (number, message[:300]))
    (folder / kind.file).write_bytes(sound)
    return counts, examples


# ---- judges


def by_safetensors(content: bytes) -> bool:
    from safetensors import SafetensorError, deserialize

    try:
        deserialize(content)
    except (SafetensorError, ValueError, OverflowError, MemoryError):
        return False
    return by_header(content)


def by_header(content: bytes) -> bool:
    """safetensors' library lets a name that stands twice pass; the format does not."""
    length = int.from_bytes(content[:8], "little")
    return by_json(content[8 : 8 + length])


def by_json(content: bytes) -> bool:
    """JSON of which no key stands twice."""

    def check(pairs: list) -> dict:
        if len({key for key, _ in pairs}) < len(pairs):
            raise ValueError
        return dict(pairs)

    try:
        json.loads(content.decode("utf-8"), object_pairs_hook=check)
    except (ValueError, RecursionError):
        return False
    return True


def by_zip(content: bytes) -> bool:
    try:
        return zipfile.ZipFile(io.BytesIO(content)).testzip() is None
    except Exception:
        return False


# ---- kinds


def all_values(path: Path) -> None:
    from got_train.checkpoint.tensor_io import tensor_entries

    for entry in tensor_entries(path).values():
        if entry.dtype in ("float64", "float32", "float16", "bfloat16"):
            entry.read()


def model_config(folder: Path) -> object:
    from got_train.checkpoint.hf_config import read_config
    from got_train.checkpoint.weights import WeightFile, check_size

    source = WeightFile(folder)
    config = read_config(source.folder, source.shapes())
    check_size(config, source)
    return config


def tokenizer(folder: Path) -> object:
    from got_train.tokenizer import load_tokenizer

    return load_tokenizer(folder).encode("a text\n12 3")


def adapter(folder: Path) -> object:
    from got_train.checkpoint.adapters import read_adapter

    return read_adapter(folder)


def calibration(folder: Path) -> object:
    from got_train.inference.confidence import load_calibration

    return load_calibration(folder)


def run_record(folder: Path) -> object:
    from got_train.training.run_state import read_record

    return read_record(folder / "checkpoint-3")


def trainer_state(folder: Path) -> object:
    from got_train.training.run_state import read_trainer_state

    return read_trainer_state(folder / "checkpoint-3")


def sample_log(folder: Path) -> object:
    from got_train.training.ledger import read_sample_log

    return read_sample_log(folder)


def config(folder: Path) -> object:
    from got_train.config.loader import load_config

    return load_config(folder / "run.yaml")


def records(name: str) -> Callable[[Path], object]:
    def read(folder: Path) -> object:
        from got_train.data.records import read_records

        rows = read_records(str(folder / name))
        for index in range(len(rows)):
            rows[index]
        return rows

    return read


def predictions(folder: Path) -> object:
    from got_train.evaluation.inputs import read_predictions

    return read_predictions(folder / "predictions.jsonl")


def job(folder: Path) -> object:
    from got_train.inference.journal import ProgressFile

    with ProgressFile(folder / "job", {"task": "ocr"}) as progress:
        return progress


def picture(name: str) -> Callable[[Path], object]:
    def read(folder: Path) -> object:
        from got_train.images import image_frames, pdf_pages

        return list(pdf_pages(folder / name) if name.endswith(".pdf") else image_frames(folder / name))

    return read


def by_sound_pixels(content: bytes) -> bool:
    """Of a PNG, whose checksums tell every change: the picture is the sound one, or there is none."""
    from PIL import Image

    with Image.open(io.BytesIO(content)) as image:
        return image.convert("RGB").tobytes() == _scan().tobytes()


def _scan() -> Image.Image:
    from PIL import Image

    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8))


MODEL = Path(__file__).parents[2] / "got_train" / "doctor" / "got_tiny"


def below(read: Callable[[Path], object], name: str) -> Callable[[Path], object]:
    return lambda folder: read(folder / name)


PICTURES = ("scan.jpg", "scan.tif", "scan.gif", "scan.webp", "scan.bmp", "scan.jp2", "scan.pdf")
KINDS = (
    Kind("model.safetensors", "model/model.safetensors", below(all_values, "model"), by_safetensors, False),
    Kind("safetensors header", "a.safetensors", below(all_values, "a.safetensors"), by_safetensors),
    Kind("weights.pth", "weights.pth", below(all_values, "weights.pth"), by_zip, False),
    Kind("index of shards", "shards/model.safetensors.index.json", below(all_values, "shards"), by_json),
    Kind("config.json (transformers)", "model/config.json", below(model_config, "model"), by_json),
    Kind("config.json (ours)", "ours/config.json", below(model_config, "ours"), by_json),
    Kind("config.json (original)", "original/config.json", below(model_config, "original"), by_json),
    Kind("qwen.tiktoken", "ranks/qwen.tiktoken", below(tokenizer, "ranks")),
    Kind("tokenizer_config.json", "ranks/tokenizer_config.json", below(tokenizer, "ranks"), by_json),
    Kind("tokenizer.json", "fast/tokenizer.json", below(tokenizer, "fast"), by_json),
    Kind("adapter.json", "adapter/adapter.json", below(adapter, "adapter"), by_json),
    Kind("calibration.json", "model/calibration.json", below(calibration, "model"), by_json),
    Kind("checkpoint.json", "checkpoint-3/checkpoint.json", run_record, by_json),
    Kind("trainer_state.json", "checkpoint-3/trainer_state.json", trainer_state, by_json),
    Kind("sample log", "ledger-0.jsonl", sample_log),
    Kind("run.yaml", "run.yaml", config),
    Kind("records.jsonl", "records.jsonl", records("records.jsonl")),
    Kind("records.csv", "records.csv", records("records.csv")),
    Kind("predictions.jsonl", "predictions.jsonl", predictions),
    Kind("journal.jsonl", "job/journal.jsonl", job),
    Kind("PNG", "scan.png", picture("scan.png"), by_sound_pixels, False),
    *(Kind(name[5:].upper(), name, picture(name), None, False) for name in PICTURES),
)


def make_sound(folder: Path) -> None:
    """A sound file of every kind."""
    import shutil

    from safetensors.numpy import load_file, save_file

    from got_train.tokenizer import NANO_SPECIALS, Tokenizer

    arrays = {"a": np.arange(6, dtype="float32").reshape(2, 3), "b": np.ones([4], "float16")}
    shutil.copytree(MODEL, folder / "model")
    weights = load_file(str(folder / "model" / "model.safetensors"))
    for name in ("ours", "original"):
        _copy_model(folder / "model", folder / name, "transformers" if name == "ours" else "original")
    values = json.loads((folder / "original" / "config.json").read_text())
    del values["got_train"]
    values |= {"eos_token_id": 1, "pad_token_id": 0, "vocab_size": values["vocab_size"]}
    (folder / "original" / "config.json").write_text(json.dumps(values))
    save_file(arrays, str(folder / "a.safetensors"))
    _write_pth(folder / "weights.pth", arrays)
    (folder / "shards").mkdir()
    names = sorted(weights)
    for number, part in enumerate((names[::2], names[1::2])):
        save_file({name: weights[name] for name in part}, str(folder / "shards" / f"{number}.safetensors"))
    index = {"weight_map": {name: f"{place % 2}.safetensors" for place, name in enumerate(names)}}
    (folder / "shards" / "model.safetensors.index.json").write_text(json.dumps(index))
    bpe = Tokenizer({bytes([byte]): byte for byte in range(256)} | {b"th": 256, b"the": 257}, NANO_SPECIALS)
    bpe.save(folder / "ranks")
    bpe.to_transformers(folder / "fast")
    (folder / "adapter").mkdir()
    card = {"base": "base", "base_sha256": "0" * 64, "prompt_template": "repo", "rank": 2, "alpha": 4.0}
    card |= {"dropout": 0.0, "layers": ["projector"], "whole": []}
    (folder / "adapter" / "adapter.json").write_text(json.dumps(card))
    levels = {"levels": {level: {"temperature": 1.5, "shift": 0.1} for level in ("token", "word", "line")}}
    (folder / "model" / "calibration.json").write_text(json.dumps(levels))
    checkpoint = folder / "checkpoint-3"
    checkpoint.mkdir()
    save_file(arrays, str(checkpoint / "optimizer-0.safetensors"))
    size = (checkpoint / "optimizer-0.safetensors").stat().st_size
    record = {"format": 2, "step": 3, "processes": 1, "threads": 1, "optimizer": ["optimizer-0.safetensors"]}
    record |= {"extra": {}, "last_epoch": 3, "last_lr": 1e-4, "rows": ["8"], "sources": {"a.jsonl": "0"}}
    record |= {"files": {"optimizer-0.safetensors": size}}
    (checkpoint / "checkpoint.json").write_text(json.dumps(record))
    state = {
        "epoch": 1.0,
        "global_step": 3,
        "max_steps": 6,
        "log_history": [{"step": 2, "validation_loss": 1.5}],
    }
    (checkpoint / "trainer_state.json").write_text(json.dumps(state))
    lines = [
        json.dumps({"step": step, "rows": 8, "sum": f"{step * 999:x}", "dropped": [step]})
        for step in (1, 2, 3)
    ]
    (folder / "ledger-0.jsonl").write_text("\n".join(lines) + "\n")
    settings = "train:\n  max_steps: 6\n  ema_decay: 0.9\ndata:\n  train: a.jsonl\n  max_tokens: 64\n"
    settings += "parts: {vision: {trainable: false}}\noptimizer: {learning_rate: 1e-4}\n"
    (folder / "run.yaml").write_text(settings)
    row = {"images": ["a.png"], "task": "ocr", "text": "a b", "box": [1, 2, 3, 4]}
    (folder / "records.jsonl").write_text("".join(json.dumps(row) + "\n" for _ in range(4)))
    (folder / "records.csv").write_text('image,text,task\na.png,"a, b",ocr\nb.png,c,ocr\n')
    told = {"id": "a", "prediction": "a b", "reference": "a c", "task": "ocr"}
    (folder / "predictions.jsonl").write_text("".join(json.dumps(told | {"id": i}) + "\n" for i in "abc"))
    (folder / "job").mkdir()
    rows = [{"settings": {"task": "ocr"}}, {"key": "a", "stamp": [[1, 2]], "text": "b"}]
    (folder / "job" / "journal.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))

    for name in ("scan.png", *PICTURES):
        _scan().save(folder / name)


def _copy_model(source: Path, target: Path, layout: str) -> None:
    from got_train.checkpoint.weights import load_model, save_model

    save_model(load_model(source), target, layout)


def _write_pth(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """As torch.save writes a state dict, by torch's own names, without torch."""
    import pickle
    import types

    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    def rebuild(*arguments: object) -> None: ...

    rebuild.__module__, rebuild.__name__ = "torch._utils", "_rebuild_tensor_v2"
    rebuild.__qualname__ = rebuild.__name__
    utils._rebuild_tensor_v2 = rebuild
    storages = {"float32": "FloatStorage", "float16": "HalfStorage"}
    for name in storages.values():
        kind = type(name, (), {"__module__": "torch"})
        setattr(torch, name, kind)

    class Tensor:
        def __init__(self, key: str, array: np.ndarray) -> None:
            self.key, self.array = key, array

        def __reduce__(self) -> tuple:
            strides = tuple(step // self.array.itemsize for step in self.array.strides)
            return rebuild, (Storage(self), 0, self.array.shape, strides, False, {})

    class Storage:
        def __init__(self, tensor: Tensor) -> None:
            self.tensor = tensor

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: object) -> object:
            if not isinstance(value, Storage):
                return None
            array = value.tensor.array
            return (
                "storage",
                getattr(torch, storages[str(array.dtype)]),
                value.tensor.key,
                "cpu",
                array.size,
            )

    before = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules |= {"torch": torch, "torch._utils": utils}
    try:
        buffer = io.BytesIO()
        tensors = {name: Tensor(str(number), array) for number, (name, array) in enumerate(arrays.items())}
        Pickler(buffer, protocol=2).dump(tensors)
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weights/data.pkl", buffer.getvalue())
        for number, array in enumerate(arrays.values()):
            archive.writestr(f"weights/data/{number}", array.tobytes())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000, help="mutations of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", default="", help="only kinds whose name has this")
    options = parser.parse_args()
    print(f"{options.count} mutations a kind, seed {options.seed}; a hang is {HANG_SECONDS} s or more\n")
    print(f"| file | tried | {' | '.join(COLUMNS)} |\n|{'---|' * (len(COLUMNS) + 2)}")
    total: Counter = Counter()
    with tempfile.TemporaryDirectory() as name:
        make_sound(Path(name))
        for kind in KINDS:
            if options.kind not in kind.name:
                continue
            began = time.monotonic()
            counts, examples = run(kind, Path(name), options.count, options.seed)
            total += counts
            print(
                f"| {kind.name} | {options.count} | {' | '.join(str(counts[c]) for c in COLUMNS)} |",
                flush=True,
            )
            for column in COLUMNS[2:]:
                if column in examples:
                    print(f"  {column}: number {examples[column][0]}: {examples[column][1]}", file=sys.stderr)
            print(f"  {kind.name}: {time.monotonic() - began:.1f} s", file=sys.stderr)
    print(f"| all | {sum(total.values())} | {' | '.join(str(total[column]) for column in COLUMNS)} |")
    return 1 if any(total[column] for column in COLUMNS[2:]) else 0


if __name__ == "__main__":
    sys.exit(main())
