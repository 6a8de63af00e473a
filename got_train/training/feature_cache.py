"""What a frozen encoder gives for a view, kept in files that epochs, processes and runs share.

Knows an encoder, pixels and a folder; knows no records, and not what is made of the features.
"""

from __future__ import annotations

import hashlib
import io
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import paddle
from paddlenlp.trainer import TrainerCallback

from got_train import cpu, modeling
from got_train.atomic_write import write_atomic
from got_train.errors import TrainingError
from got_train.modeling.vision import Vision

SUFFIX = ".features"
CODE = [Path(package.__file__).parent for package in (modeling, cpu)]  # which features depend on
_DIGEST = hashlib.sha256().digest_size
_MEGABYTE = 1e6


class FeatureCacheError(TrainingError, OSError):
    """Features that could not be written."""


@dataclass(frozen=True)
class DiskUsage:
    """What the features of a run take on the disk, in bytes."""

    view: int
    there: int  # of the encoder as it is
    views: int | None  # of the run's rows; None: a stream's are not counted
    free: int

    @property
    def missing(self) -> int:
        return max(0, (self.views or 0) * self.view - self.there)

    def words(self) -> str:
        all_views = "an unknown number of views"
        if self.views is not None:
            all_views = f"{_megabytes(self.views * self.view)} for about {self.views:,} views"
        there, free = _megabytes(self.there), _megabytes(self.free)
        return f"{self.view / _MEGABYTE:.3g} MB a view, {all_views}; {there} are there, {free} free"


class FeatureCache(TrainerCallback):
    """The features of a view by its pixels and the encoder's weights: others are not found, none is stale.

    Views go through the encoder one at a time, so that what is kept does not depend on their neighbours.
    """

    def __init__(self, encoder: Vision, folder: Path, number_bytes: int = 4) -> None:
        self.encoder, self.folder, self.number_bytes = encoder, folder, number_bytes
        self.computed = self.read = 0  # views
        self._compute = encoder.forward
        self._name = ""

    def attach(self) -> None:
        """From now on whoever calls the encoder (training, validation, reading) is served from here."""
        self.encoder.forward = self.features

    def forget_weights(self) -> None:
        """To be called where the encoder's weights may have become others."""
        self._name = ""

    def on_train_begin(self, args: object, state: object, control: object, **kwargs: object) -> None:
        self.forget_weights()  # mixed precision has cast them

    @paddle.no_grad()
    def features(self, pixels: paddle.Tensor) -> paddle.Tensor:
        """What the encoder gives, (V, 3, side, side) -> (V, P, D)."""
        return paddle.concat([self._of_view(view) for view in pixels.split(len(pixels))])

    def disk_usage(self, views: int | None) -> DiskUsage:
        """What so many views take. Makes no folder."""
        config, existing = self.encoder.config, self.folder.absolute()
        while not existing.exists():
            existing = existing.parent
        view = len(_serialize(np.zeros([1, config.view_tokens, config.out_width], f"u{self.number_bytes}")))
        return DiskUsage(view, view * sum(1 for _ in self._files()), views, shutil.disk_usage(existing).free)

    def _of_view(self, pixels: paddle.Tensor) -> paddle.Tensor:
        path = self._path(pixels)
        cached = _deserialize(path)
        if cached is not None:
            self.read += 1
            return paddle.to_tensor(cached)
        self.computed += 1
        features = self._compute(pixels)
        try:
            write_atomic(path, _serialize(features.numpy()))
        except OSError as error:
            raise FeatureCacheError(
                f"train.feature_cache {path}: could not be written ({error.strerror}); make room and "
                "--resume, or leave it out"
            ) from error
        return features

    def _files(self) -> Iterator[Path]:
        return (self.folder / self._encoder_name()).glob(f"*/*{SUFFIX}")

    def _path(self, pixels: paddle.Tensor) -> Path:
        autocast = paddle.get_autocast_dtype() if paddle.is_autocast_enabled() else ""
        digest = hashlib.sha256(f"{pixels.dtype} {pixels.shape} {autocast}".encode())
        digest.update(_bytes(pixels))
        name = digest.hexdigest()
        return self.folder / self._encoder_name() / name[:2] / f"{name[2:]}{SUFFIX}"

    def _encoder_name(self) -> str:
        if not self._name:
            self._name = encoder_fingerprint(self.encoder)
        return self._name


def encoder_fingerprint(encoder: Vision) -> str:
    """Tells encoders apart by all that their output depends on: weights, sizes, code, Paddle, device."""
    device = paddle.get_device().partition(":")[0]
    digest = hashlib.sha256(f"{encoder.config} {paddle.__version__} {device}".encode())
    for folder in CODE:
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.read_bytes())
    for layer in encoder.sublayers(include_self=True):  # plain, or with the CPU's forwards
        digest.update(type(layer).__name__.encode())
    for name, value in encoder.named_parameters():
        digest.update(f"{name} {value.dtype} {value.shape}".encode())
        digest.update(_bytes(value))
    return digest.hexdigest()[:32]


def _bytes(tensor: paddle.Tensor) -> memoryview:
    return np.ascontiguousarray(tensor.numpy()).data.cast("B")


def _serialize(features: np.ndarray) -> bytes:
    """A .npy file (bfloat16 as uint16, as Paddle has it in numpy) behind its SHA-256."""
    file = io.BytesIO()
    np.save(file, features)
    return hashlib.sha256(file.getbuffer()).digest() + file.getbuffer()


def _deserialize(path: Path) -> np.ndarray | None:
    """None where there is no such file, or where it is not what was written."""
    try:
        content = memoryview(path.read_bytes())
    except FileNotFoundError:
        return None
    if hashlib.sha256(content[_DIGEST:]).digest() != content[:_DIGEST]:
        return None
    return np.load(io.BytesIO(content[_DIGEST:]), allow_pickle=False)


def _megabytes(size: float) -> str:
    return f"{size / _MEGABYTE:,.1f} MB"
