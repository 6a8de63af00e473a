"""A moving average of the weights: steadier than the last update's, for validation and the final model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import paddle
from paddle import nn
from paddlenlp.trainer import TrainerCallback


class EMA(TrainerCallback):
    """shadow <- d * shadow + (1 - d) * weight after every update, d = min(decay, (1 + n) / (10 + n)) at n.

    The growing d, as in TensorFlow's ExponentialMovingAverage, lets the start be forgotten in short runs.
    """

    def __init__(self, model: nn.Layer, decay: float) -> None:
        self.decay = decay
        self._weights = {value.name: value for value in model.parameters() if not value.stop_gradient}
        self.shadow: dict[str, paddle.Tensor] = {}

    def on_train_begin(self, args: object, state: object, control: object, **kwargs: object) -> None:
        self.shadow = self.state_dict()  # the weights', where no checkpoint has brought any

    @paddle.no_grad()
    def on_optimizer_end(self, args: object, state: object, control: object, **kwargs: object) -> None:
        updates = state.global_step + 1
        decay = min(self.decay, (1 + updates) / (10 + updates))
        for name, weight in self._weights.items():
            self.shadow[name].scale_(decay).add_((1 - decay) * weight.astype("float32"))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model has the averages in here, its own weights afterwards."""
        own = {name: value.clone() for name, value in self._weights.items()}
        self._set(self.shadow)
        try:
            yield
        finally:
            self._set(own)

    def state_dict(self) -> dict[str, paddle.Tensor]:
        return self.shadow or {
            name: value.detach().astype("float32").clone() for name, value in self._weights.items()
        }

    def set_state_dict(self, state: dict[str, paddle.Tensor]) -> None:
        self.shadow = {name: state[name] for name in self._weights}

    @paddle.no_grad()
    def _set(self, values: dict[str, paddle.Tensor]) -> None:
        for name, weight in self._weights.items():
            weight.set_value(values[name].astype(weight.dtype))
