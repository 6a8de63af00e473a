"""Which parts of the model train, with which learning rate and weight decay; and the optimizer made of them."""

from __future__ import annotations

import math

import paddle
from paddle import nn

from got_train.config import Config, OptimSettings
from got_train.modeling import PARTS

_NEVER_DECAY = ("norm", "pos_embed", "rel_pos")


def learning_rate(step: int, steps: int, settings: OptimSettings) -> float:
    """Share of the peak at update `step` (0-based) of `steps`: linear warm-up, then cosine or constant.

    The first update already moves: warm-up of w updates gives 1/w, 2/w, ... 1.
    """
    warmup = math.ceil(settings.warmup_ratio * steps)
    if step < warmup:
        return (step + 1) / warmup
    if settings.schedule == "constant":
        return 1.0
    progress = (step - warmup) / max(1, steps - warmup)
    return settings.min_lr_ratio + (1 - settings.min_lr_ratio) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def name_parameters(model: nn.Layer) -> None:
    """Give every parameter its structural name, under which Paddle's optimizers keep its moments.

    Paddle's own names (linear_3.w_0) count the layers made in the process, so that a second model, or one layer
    more before it, could not resume (paddlenlp 3.0.0b4: `Optimizer set error ... should in state dict`).
    """
    for name, parameter in model.named_parameters():
        parameter.name = name


def freeze(model: nn.Layer, config: Config) -> None:
    """Parts that do not train receive no gradient."""
    for part in PARTS:
        for parameter in model.part(part).parameters():
            parameter.stop_gradient = not getattr(config.parts, part).train


def decays(name: str, parameter: paddle.Tensor) -> bool:
    return parameter.ndim > 1 and not any(word in name for word in _NEVER_DECAY)


def parameter_groups(model: nn.Layer, config: Config) -> list[dict]:
    """Paddle's parameter groups; their `learning_rate` is a factor on the schedule's value."""
    groups = []
    for part in PARTS:
        settings = getattr(config.parts, part)
        if not settings.train:
            continue
        decay = config.optim.weight_decay if settings.weight_decay is None else settings.weight_decay
        named = list(model.part(part).named_parameters())
        for wanted, amount in ((True, decay), (False, 0.0)):
            chosen = [parameter for name, parameter in named if decays(name, parameter) == wanted]
            if chosen:
                factor = (settings.lr or config.optim.lr) / config.optim.lr
                groups.append({"params": chosen, "learning_rate": factor, "weight_decay": amount})
    return groups


def build_schedule(config: Config, steps: int) -> paddle.optimizer.lr.LRScheduler:
    return paddle.optimizer.lr.LambdaDecay(
        learning_rate=config.optim.lr, lr_lambda=lambda step: learning_rate(step, steps, config.optim)
    )


def build_optimizer(
    model: nn.Layer,
    config: Config,
    schedule: paddle.optimizer.lr.LRScheduler,
    clip: nn.ClipGradByGlobalNorm,
) -> paddle.optimizer.Optimizer:
    settings = config.optim
    return paddle.optimizer.AdamW(
        learning_rate=schedule,
        parameters=parameter_groups(model, config),
        beta1=settings.beta1,
        beta2=settings.beta2,
        epsilon=settings.eps,
        weight_decay=0.0,  # the groups carry it
        grad_clip=clip,
        multi_precision=config.train.precision != "float32",
    )
