"""A moving average of the weights: steadier than the last update's, for validation and the final model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import paddle
from paddle import nn
from paddlenlp.trainer import TrainerCallback

AVERAGE_FILE = "average.pdparams"


class EMA(TrainerCallback):
    """average <- d * average + (1 - d) * weight after every update, d = min(decay, (1 + n) / (10 + n)) at n.

    The growing d, as in TensorFlow's ExponentialMovingAverage, lets the start be forgotten in short runs.
    """

    def __init__(self, model: nn.Layer, decay: float) -> None:
        self.decay = decay
        self._weights = {value.name: value for value in model.parameters() if not value.stop_gradient}
        self.average: dict[str, paddle.Tensor] = {}

    def on_train_begin(self, args: object, state: object, control: object, **kwargs: object) -> None:
        if not self.average:  # no checkpoint has brought them
            self.average = {name: _copy(value) for name, value in self._weights.items()}

    @paddle.no_grad()
    def on_optimizer_end(self, args: object, state: object, control: object, **kwargs: object) -> None:
        updates = state.global_step + 1
        decay = min(self.decay, (1 + updates) / (10 + updates))
        for name, weight in self._weights.items():
            self.average[name].scale_(decay).add_((1 - decay) * weight.astype("float32"))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model has the averages in here, its own weights afterwards."""
        own = {name: value.clone() for name, value in self._weights.items()}
        self._set(self.average)
        try:
            yield
        finally:
            self._set(own)

    def save(self, folder: Path) -> None:
        paddle.save(self.average, str(folder / AVERAGE_FILE))

    def load(self, folder: Path) -> None:
        loaded = paddle.load(str(folder / AVERAGE_FILE))
        self.average = {name: loaded[name] for name in self._weights}

    @paddle.no_grad()
    def _set(self, values: dict[str, paddle.Tensor]) -> None:
        for name, weight in self._weights.items():
            weight.set_value(values[name].astype(weight.dtype))


def _copy(value: paddle.Tensor) -> paddle.Tensor:
    return value.detach().astype("float32").clone()
