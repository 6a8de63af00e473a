"""A whole small run: steps, save, kill, resume, read a page, read pages together, memory as estimated.

The pages are noise with random answers, as nothing has to be learnt. On a GPU the model has the picture size
and the head widths of GOT, so that the same kernels run as in a real one.
"""

from __future__ import annotations

import base64
import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import paddle
from PIL import Image
from safetensors.numpy import load_file

from got_train.config.loader import load_config
from got_train.config.schema import Config
from got_train.data.records import Record
from got_train.inference.continuous import read_requests
from got_train.inference.reader import OcrPipeline, OcrRequest, load_pipeline
from got_train.tokenizer import NANO_SPECIALS, Tokenizer
from got_train.training.run import build_trainer, train

from .checks import Check, Measured, Skipped
from .parity import on_gpu, relative

NUM_PAGES, NEW_TOKENS = 24, 16
WEB = ("starlette", "uvicorn", "python_multipart", "prometheus_client")  # what got serve needs
SERVER_SECONDS = 120.0  # for its start, and for its answer
SMALL = {
    "vision": {
        "image_side": 64, "patch": 8, "width": 32, "layers": 2, "heads": 2, "mlp_width": 64,
        "window": 3, "global_layers": [1], "neck_width": 16, "out_width": 32,
    },
    "decoder": {"vocab_size": 0, "width": 32, "layers": 2, "heads": 4, "mlp_width": 64, "max_positions": 512},
}  # fmt: skip
LARGE = {
    "vision": {
        "image_side": 1024, "patch": 16, "width": 256, "layers": 2, "heads": 4, "mlp_width": 1024,
        "window": 14, "global_layers": [1], "neck_width": 64, "out_width": 256,
    },
    "decoder": {
        "vocab_size": 0, "width": 256, "layers": 4, "heads": 4, "mlp_width": 704, "max_positions": 2048,
    },
}  # fmt: skip


class Rehearsal:
    """The checks in their order; each may use what those before it left in the folder."""

    def __init__(self, folder: Path, steps: int) -> None:
        self.folder, self.steps = folder, steps

    def checks(self) -> dict[str, Check]:
        return {
            f"{self.steps} training steps": self.check_training,
            "killed between two checkpoints, resumed: the same weights": self.check_resume,
            "a page is read": self.check_reading,
            "pages read together give the texts of each alone": self.check_batch,
            "a page over HTTP": self.check_serving,
            "memory and time of a step beside the estimate": self.check_estimate,
        }

    def check_training(self) -> Measured:
        """The mean loss of the last quarter of the steps, beside that of the first."""
        losses = self._train("whole")
        part = max(1, len(losses) // 4)
        first, last = np.mean(losses[:part]), np.mean(losses[-part:])
        numbers = {"steps": len(losses), "first loss": losses[0], "last loss": losses[-1]}
        return Measured(float(last / first), 1.0, "the loss falls", numbers)

    def check_resume(self) -> Measured:
        """A child is killed after three quarters of the steps and goes on from the checkpoint at the half."""
        kill_at = self.steps - self.steps // 4
        child = self._child("kill", str(self._path("killed")), str(kill_at))
        if child.returncode != -signal.SIGKILL:
            raise RuntimeError(f"the child ended with {child.returncode}: {child.stderr[-2000:]}")
        config = self.config("killed")
        train(config, resume=True)
        weights = [self._weights(name) for name in ("whole", "killed")]
        apart = {name: relative(weights[1][name], value) for name, value in weights[0].items() if value.any()}
        return Measured(max(apart.values()), 0.0, "train.deterministic, the same threads, the same device")

    def check_reading(self) -> Measured:
        """Whether the model of the run opens and answers; its text means nothing."""
        (answer,) = self._pipeline.read([self._request(0)])
        return Measured(0.0, 0.0, "it answered", {"tokens": len(answer.ids)})

    def check_batch(self) -> Measured:
        requests = [self._request(page) for page in range(6)]
        together = [answer.text for answer in read_requests(self._pipeline, requests, batch_size=6)]
        alone = [answer.text for answer in self._pipeline.read(requests, batch_size=1)]
        different = sum(a != b for a, b in zip(together, alone, strict=True))
        tolerated = 1 if on_gpu() else 0
        reason = (
            "a GPU may round otherwise in a batch, which a model that knows nothing may follow" * on_gpu()
        )
        return Measured(different, tolerated, reason, {"pages": len(requests)})

    def check_serving(self) -> Measured | Skipped:
        """got serve in a process of its own gives the text that the pipeline gives."""
        missing = [name for name in WEB if find_spec(name) is None]
        if missing:
            return Skipped(f"{missing[0]} is not installed; pip install 'got_train[app]'")
        (expected,) = self._pipeline.read([self._request(0)])
        command = [sys.executable, "-W", "ignore", "-m", "got_train", "serve", "--port", "0"]
        command += ["--model", f"tiny={self._last('whole')}", "--max-new-tokens", str(NEW_TOKENS)]
        with (self.folder / "serve.log").open("w+", encoding="utf-8") as log:
            server = subprocess.Popen(command, stderr=log)
            try:
                text = self._ask(self._address(server))
            except OSError as error:
                last_words = (self.folder / "serve.log").read_text(encoding="utf-8")[-2000:]
                raise RuntimeError(f"the server: {error}; {last_words}") from error
            finally:
                server.terminate()
                server.wait()
        return Measured(float(text != expected.text), 0.0, "the same text")

    def _address(self, server: subprocess.Popen) -> str:
        end = time.monotonic() + SERVER_SECONDS
        while time.monotonic() < end and server.poll() is None:
            log = (self.folder / "serve.log").read_text(encoding="utf-8")
            if match := re.search(r"serve: (http\S+)", log):
                return match[1]
            time.sleep(0.2)
        raise OSError(f"no address within {SERVER_SECONDS:.0f} seconds")

    def _ask(self, address: str) -> str:
        picture = base64.b64encode((self.folder / "0.png").read_bytes()).decode()
        url = {"url": f"data:image/png;base64,{picture}"}
        content = [{"type": "image_url", "image_url": url}, {"type": "text", "text": "OCR: "}]
        body = {"model": "tiny", "messages": [{"role": "user", "content": content}]}
        request = urllib.request.Request(
            f"{address}/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=SERVER_SECONDS) as answer:
            return json.load(answer)["choices"][0]["message"]["content"]

    def check_estimate(self) -> Measured:
        """The estimate's error; of a model as small as this a process is mostly Paddle itself."""
        child = self._child("measure", str(self._path("measured")))
        if child.returncode:
            raise RuntimeError(f"the child ended with {child.returncode}: {child.stderr[-2000:]}")
        numbers = json.loads(child.stdout.splitlines()[-1])
        error = abs(numbers["estimate MB"] / numbers["measured MB"] - 1)
        return Measured(error, 0.5, "the estimate leaves out what Paddle keeps for itself", numbers)

    @staticmethod
    def _child(*arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-W", "ignore", "-m", "got_train.doctor.children", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def config(self, name: str) -> Config:
        return load_config(self._path(name))

    def _path(self, name: str) -> Path:
        path = self.folder / f"{name}.yaml"
        if not path.exists():
            path.write_text(json.dumps(self._settings(name)), encoding="utf-8")  # JSON is YAML
        return path

    def _settings(self, name: str) -> dict:
        self._draw_pages()
        model = LARGE if on_gpu() else SMALL
        return {
            "model": {**model, "tokenizer": str(self.folder / "tokenizer")},
            "data": {
                "train": str(self.folder / "pages.jsonl"),
                "max_tokens": 512,
                "packing_length": 2048 if on_gpu() else 512,
            },
            "optimizer": {"learning_rate": 3e-3, "warmup_ratio": 0.1},
            "train": {
                "output_dir": str(self.folder / name),
                "max_steps": self.steps,
                "batch_size": 8,
                "per_device_train_batch_size": 4,
                "logging_steps": 1,
                "save_steps": self.steps // 2,
                "deterministic": True,
                "precision": "bfloat16" if self._half_precision() else "float32",
                "threads": 0 if on_gpu() else 1,
            },
        }

    @staticmethod
    def _half_precision() -> bool:
        return on_gpu() and paddle.device.cuda.get_device_capability() >= (8, 0)

    def _draw_pages(self) -> None:
        if (self.folder / "pages.jsonl").exists():
            return
        generator, rows = np.random.default_rng(0), []
        for page in range(NUM_PAGES):
            pixels = generator.integers(0, 256, (48, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(self.folder / f"{page}.png")
            text = "".join(chr(97 + letter) for letter in generator.integers(0, 6, 8 + page))
            rows.append({"images": [f"{page}.png"], "task": "ocr", "text": text})
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (self.folder / "pages.jsonl").write_text(lines, encoding="utf-8")
        ranks = {bytes([byte]): byte for byte in range(256)}
        Tokenizer(ranks, NANO_SPECIALS).save(self.folder / "tokenizer")

    def _train(self, name: str) -> list[float]:
        """A run from its start to its last checkpoint; the loss of every step."""
        trainer, losses = build_trainer(self.config(name)), []
        log = trainer.log

        def keep(logs: dict[str, float], **kwargs: object) -> None:
            losses.extend([logs["loss"]] if "loss" in logs else [])
            log(logs, **kwargs)

        trainer.log = keep
        trainer.train(resume_from_checkpoint=None)
        return losses

    def _weights(self, name: str) -> dict[str, np.ndarray]:
        return load_file(self._last(name) / "model.safetensors")

    def _last(self, name: str) -> Path:
        return self.folder / name / f"checkpoint-{self.steps}"

    @cached_property
    def _pipeline(self) -> OcrPipeline:
        return load_pipeline(self._last("whole"), max_new_tokens=NEW_TOKENS)

    def _request(self, page: int) -> OcrRequest:
        return OcrRequest.of_record(Record(images=(str(self.folder / f"{page}.png"),), task="ocr", text=""))
