"""Which parts of the model train, with which learning rate and weight decay; the optimizer made of them."""

from __future__ import annotations

import math

import paddle
from paddle import nn
from paddle.utils import unique_name

from got_train.config.schema import Config, OptimizerConfig
from got_train.cpu.heap import trim_heap
from got_train.modeling.config import PARTS
from got_train.modeling.got import Got

from .adapters import is_trainable

NO_DECAY = ("norm", "pos_embed", "rel_pos")


def lr_multiplier(step: int, steps: int, settings: OptimizerConfig) -> float:
    """Share of the peak at update `step` (0-based) of `steps`: linear warm-up, then cosine or constant.

    The first update already moves: warm-up of w updates gives 1/w, 2/w, ... 1.
    """
    warmup = math.ceil(settings.warmup_ratio * steps)
    if step < warmup:
        return (step + 1) / warmup
    if settings.lr_scheduler_type == "constant":
        return 1.0
    progress = (step - warmup) / max(1, steps - warmup)
    return settings.min_lr_ratio + (1 - settings.min_lr_ratio) * 0.5 * (
        1 + math.cos(math.pi * min(1.0, progress))
    )


def name_parameters(model: nn.Layer) -> None:
    """Give every parameter its structural name, under which Paddle's optimizers keep its moments.

    Paddle's own names (linear_3.w_0) count the layers made in the process, so that a second model, or one
    layer more before it, could not resume (`Optimizer set error ... should in state dict`).
    """
    for name, parameter in model.named_parameters():
        parameter.name = name


def freeze(model: Got, config: Config) -> None:
    """What does not train receives no gradient."""
    for name, parameter in model.named_parameters():
        parameter.stop_gradient = not is_trainable(name, config)


def uses_weight_decay(name: str, parameter: paddle.Tensor) -> bool:
    return parameter.ndim > 1 and not any(word in name for word in NO_DECAY)


def build_lr_scheduler(optimizer: OptimizerConfig, steps: int) -> paddle.optimizer.lr.LRScheduler:
    return paddle.optimizer.lr.LambdaDecay(
        learning_rate=optimizer.learning_rate, lr_lambda=lambda step: lr_multiplier(step, steps, optimizer)
    )


class AdamW(paddle.optimizer.AdamW):
    """AdamW over one list of parameters, each with a learning rate and weight decay of its own.

    Paddle's parameter groups would do that too, but it clips every group by the group's own norm, and cannot
    share them out over processes.
    """

    def __init__(self, decay: dict[str, float], tidy: bool = False, **settings: object) -> None:
        super().__init__(weight_decay=0.0, **settings)
        self.decay = decay  # by the parameter's name
        self.tidy = tidy  # gives holes in the heap back before it updates

    def _append_optimize_op(self, block: object, param_and_grad: tuple) -> None:
        self._weight_decay = self.decay[param_and_grad[0].name.removeprefix("slice@")]  # of ZeRO stage 3
        return super()._append_optimize_op(block, param_and_grad)

    def step(self) -> None:
        """The first update makes the moments, which find no room in the holes of the backward pass."""
        if self.tidy:
            has_moments = bool(self._accumulators)
            trim_heap(
                ahead=0 if has_moments else sum(8 * parameter.size for parameter in self._parameter_list)
            )
        super().step()

    def clear_grad(self, set_to_zero: bool = False) -> None:
        """Give the gradients' memory to the next forward pass; Paddle's default keeps zeros in it."""
        super().clear_grad(set_to_zero=False)

    def _add_accumulator(self, *args: object, **kwargs: object) -> paddle.Tensor:
        with unique_name.guard():  # x_moment1_0, whatever number of optimizers the process has made before
            return super()._add_accumulator(*args, **kwargs)


def build_optimizer(
    model: Got,
    config: Config,
    schedule: paddle.optimizer.lr.LRScheduler,
    others: list[paddle.Tensor] = (),
) -> AdamW:
    """The optimizer of the parts that train; `others` join at the peak rate, without weight decay."""
    settings = config.optimizer
    chosen, decay = [*others], {parameter.name: 0.0 for parameter in others}
    for part in PARTS:
        own = getattr(config.parts, part)
        amount = settings.weight_decay if own.weight_decay is None else own.weight_decay
        for name, parameter in model.part(part).named_parameters():
            if not is_trainable(f"{part}.{name}", config):
                continue
            parameter.optimize_attr["learning_rate"] = (
                own.learning_rate or settings.learning_rate
            ) / settings.learning_rate  # on the schedule's
            decay[parameter.name] = amount if uses_weight_decay(name, parameter) else 0.0
            chosen.append(parameter)
    return AdamW(
        decay,
        config.train.cpu_tuning,
        learning_rate=schedule,
        parameters=chosen,
        beta1=settings.adam_beta1,
        beta2=settings.adam_beta2,
        epsilon=settings.adam_epsilon,
        grad_clip=nn.ClipGradByGlobalNorm(settings.max_grad_norm) if settings.max_grad_norm else None,
        multi_precision=config.train.precision != "float32",
    )
