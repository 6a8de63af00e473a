"""What several test files share: one thread, small random models, and torch in an interpreter of its own."""

import json
import os
import pickle
import subprocess
import sys
import types
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from got_train.cpu import settings as cpu
from tests.tiny_models import ENCODER, TRAINED_DECODER, TRAINED_ENCODER

GOT_TINY = Path(__file__).parents[1] / "got_train" / "doctor" / "got_tiny"


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Tests run beside other work; the numbers do not depend on it."""
    cpu.tune(1)


@pytest.fixture(scope="session")
def got_tiny():
    """A random GOT by transformers, with its outputs, losses and gradients; `original` has the hub's."""
    return GOT_TINY


@pytest.fixture(scope="session")
def arrays():
    """The arrays of a safetensors file."""
    from safetensors.numpy import load_file

    return lambda path: load_file(str(path))


@pytest.fixture
def random_model():
    """A function: a model of 4 image tokens a view whose every parameter, zeros and ones too, is random."""
    import paddle

    from got_train.modeling.config import DecoderConfig, GotConfig, VisionConfig
    from got_train.modeling.got import Got

    def make(kind="qwen2", seed=0, decoder=None, **vision):
        sizes = {"vocab_size": 40, "width": 16, "layers": 2, "heads": 4, "mlp_width": 24, "max_positions": 64}
        sizes |= {"kind": kind, "kv_heads": 2 if kind == "qwen2" else 4, **(decoder or {})}
        config = GotConfig(
            vision=VisionConfig(**{**ENCODER, "layers": 3, "mlp_width": 24, **vision}),
            decoder=DecoderConfig(**sizes),
            image_token=sizes["vocab_size"] - 1,
            pad_token=0,
            stop_tokens=(1, 0),
        )
        model = Got(config)
        generator = np.random.default_rng(seed)
        for parameter in model.parameters():
            values = generator.normal(size=parameter.shape) * (0.5 if parameter.ndim == 1 else 0.2)
            parameter.set_value(paddle.to_tensor(values.astype("float32")))
        return model.eval()

    return make


@pytest.fixture
def logits_of():
    """A function: a model's logits for a seeded view among seeded words."""
    from got_train.checkpoint.convert import probe_logits

    return probe_logits


@pytest.fixture
def write_pth(monkeypatch):
    """A function: write nested dictionaries of arrays as torch.save would, without torch."""
    kinds = {"float32": "FloatStorage", "float16": "HalfStorage", "int64": "LongStorage"}

    def rebuild(*_):
        """Stands for torch's function in the pickle; nothing here calls it."""

    def write(path, state):
        torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
        torch._utils, utils._rebuild_tensor_v2 = utils, rebuild
        rebuild.__module__, rebuild.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
        for kind in kinds.values():
            setattr(torch, kind, type(kind, (), {"__module__": "torch"}))
        storages = []

        class Storage:
            def __init__(self, array):
                self.bytes, self.dtype, self.size = array.tobytes("A"), array.dtype.name, array.size

        class Pickler(pickle.Pickler):
            def persistent_id(self, thing):
                if not isinstance(thing, Storage):
                    return None
                storages.append(thing.bytes)
                kind = getattr(torch, kinds[thing.dtype])
                return "storage", kind, str(len(storages) - 1), "cpu", thing.size

            def reducer_override(self, thing):
                if not isinstance(thing, np.ndarray):
                    return NotImplemented
                strides = tuple(step // thing.itemsize for step in thing.strides)
                return rebuild, (Storage(thing), 0, thing.shape, strides, False, {})

        with monkeypatch.context() as patched:
            patched.setitem(sys.modules, "torch", torch)
            patched.setitem(sys.modules, "torch._utils", utils)
            with zipfile.ZipFile(path, "w") as archive:
                with archive.open("weights/data.pkl", "w") as opened:
                    Pickler(opened, 2).dump(state)
                for number, content in enumerate(storages):
                    archive.writestr(f"weights/data/{number}", content)

    return write


@pytest.fixture(scope="session")
def reference():
    """A function: run a script where torch and transformers are; returns the JSON that it prints last."""
    python = os.environ.get("GOT_REFERENCE_PYTHON")
    if not python:
        pytest.skip("set GOT_REFERENCE_PYTHON to a Python with torch and transformers to compare with them")

    def run(script, *arguments):
        done = subprocess.run(
            [python, "-W", "ignore", "-c", script, *map(str, arguments)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout.splitlines()[-1])

    return run


@pytest.fixture
def tiny_run(tmp_path):
    """A function: the YAML of a run of 6 steps of 8 on 64 small pages with answers of 1 to 60 characters."""
    from PIL import Image

    generator = np.random.default_rng(7)
    rows = []
    for row in range(64):
        pixels = generator.integers(0, 256, (24, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{row}.png")
        letters = [chr(97 + place) for place in generator.integers(0, 26, 1 + row * 11 % 60)]
        char_boxes = [[letter, 5 * x, 4, 5 * x + 5, 16] for x, letter in enumerate(letters[:8])]
        rows.append(
            {"images": [f"{row}.png"], "task": "ocr", "text": "".join(letters), "char_boxes": char_boxes}
        )
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tokenizer = str(GOT_TINY.parents[2] / "configs" / "nano" / "tokenizer")
    train = {
        "max_steps": 6,
        "batch_size": 8,
        "per_device_train_batch_size": 8,
        "logging_steps": 1,
        "save_steps": 100,
    }
    settings = {
        "model": {"tokenizer": tokenizer, "vision": TRAINED_ENCODER, "decoder": TRAINED_DECODER},
        "data": {"train": str(tmp_path / "data.jsonl"), "max_tokens": 256},
        "optimizer": {"learning_rate": 1e-2, "warmup_ratio": 0.5, "min_lr_ratio": 0.1, "weight_decay": 0.1},
        "train": {**train, "threads": 1, "output_dir": str(tmp_path / "run")},
    }

    def write(name="run.yaml"):
        (tmp_path / name).write_text(json.dumps(settings))  # JSON is YAML
        return tmp_path / name

    return write


@pytest.fixture
def processor_seconds():
    """A function: the processor time so far, ended children too; other work does not lengthen it."""
    return lambda: sum(os.times()[:4])


@pytest.fixture
def within(request):
    """A function: assert that a difference is within a bound; the file GOT_MEASURED collects them."""

    def check(what, difference, bound):
        if path := os.environ.get("GOT_MEASURED"):
            row = {"test": request.node.nodeid, "what": what, "seen": float(difference), "bound": bound}
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        assert difference <= bound, what

    return check


@dataclass
class Trained:
    """Of a run: loss and learning rate of every step, loss of every validation, and the weights by name."""

    losses: tuple
    rates: tuple
    validation: tuple
    before: dict
    after: dict
    trainer: object


@pytest.fixture
def fit(tiny_run):
    """A function: train a config from its start or a checkpoint; nothing else than run.train does."""
    from got_train.config.loader import load_config
    from got_train.training import run

    path = tiny_run()

    def weights(made):
        return {name: value.numpy() for name, value in made.training_loss.named_parameters()}

    def fit(*overrides, checkpoint=None):
        made = run.build_trainer(load_config(path, overrides), checkpoint)
        before, rows, log = weights(made), [], made.log
        made.log = lambda logs, **kwargs: (rows.append(logs), log(logs, **kwargs))
        made.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        losses, rates, validation = (
            tuple(row[key] for row in rows if key in row)
            for key in ("loss", "learning_rate", "validation_loss")
        )
        return Trained(losses, rates, validation, before, weights(made), made)

    fit.path = path
    return fit
