"""An optimizer's state that several processes share, whole on disk whatever their number and way of sharing.

Knows how ZeRO stage 3 slices a parameter, not where files are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import paddle
from paddle import nn

SHARD_PREFIX = "slice@"  # Paddle's optimizers know a sliced parameter under its name with this before it


@dataclass(frozen=True)
class ZeroShard:
    """A parameter's share in ZeRO stage 3: its values flat, filled up with zeros, in equal parts."""

    shape: tuple[int, ...]
    length: int  # of a part
    rank: int
    group: Any = None  # of paddle.distributed

    def own(self, whole: paddle.Tensor) -> paddle.Tensor:
        """This process's part."""
        flat = whole.flatten()[self.rank * self.length : (self.rank + 1) * self.length]
        return paddle.concat([flat, paddle.zeros([self.length - flat.shape[0]], flat.dtype)])

    def whole(self, own: paddle.Tensor) -> paddle.Tensor:
        """All processes' parts joined; every process of the group must come here."""
        parts: list[paddle.Tensor] = []
        paddle.distributed.all_gather(parts, own, group=self.group)
        return paddle.concat(parts)[: math.prod(self.shape)].reshape(self.shape)


def zero_shards(loss: nn.Layer, wrapped: nn.Layer) -> dict[str, ZeroShard]:
    """Name -> how this process shares the parameter with others; `wrapped` is the loss as it is trained."""
    shards = {}
    buffers = getattr(wrapped, "_param2buffer", {})  # of GroupShardedStage3
    for parameter in loss.parameters():
        if parameter.name in buffers:
            first, end = buffers[parameter.name][0]
            group = wrapped._group
            shards[parameter.name] = ZeroShard(tuple(parameter.shape), end - first, group.rank, group)
    return shards


def gather_weights(loss: nn.Layer, how: dict[str, ZeroShard]) -> None:
    """Every weight of ZeRO stage 3 whole, in the host's memory, until the next step takes it away again.

    Paddle's own get_all_parameters leaves out those that do not train, or fails with those in use elsewhere.
    """
    for parameter in loss.parameters():
        share = how.get(parameter.name)
        if share is not None and parameter.status == "part":
            share.whole(parameter.fw_storage).cpu()._share_buffer_to(parameter)


def gather_state(state: dict, how: dict[str, ZeroShard], keep: bool = True) -> dict:
    """Moments and master weights whole, under the parameters' names. Every process of a group must come here.

    What was joined lies in the host's memory; a process that does not keep it only hands over its part.
    Master weights without moments are those of other processes, as they were read at a resume: they go.
    """
    joined = {
        key.removeprefix(SHARD_PREFIX): value for key, value in state.items() if key != "master_weights"
    }
    masters = {
        name.removeprefix(SHARD_PREFIX): value for name, value in state.get("master_weights", {}).items()
    }
    masters = {name: value for name, value in masters.items() if f"{name}_moment1_0" in joined}

    def whole(share: ZeroShard, value: paddle.Tensor) -> paddle.Tensor | None:
        value = share.whole(value)
        return value.cpu() if keep else None

    _convert(joined, masters, how.items(), whole)
    return {**joined, "master_weights": masters} if masters else joined


def scatter_state(state: dict, how: dict[str, ZeroShard]) -> dict:
    """What this process's optimizer takes of a whole state."""
    split, masters = dict(state), dict(state.get("master_weights", {}))
    _convert(split, masters, how.items(), lambda share, value: share.own(value))
    for name in how:
        for values in (split, masters):
            for key in [key for key in _keys(name) if key in values]:
                values[SHARD_PREFIX + key] = values.pop(key)
    return {**split, "master_weights": masters} if masters else split


def _keys(name: str) -> list[str]:
    return [name, *(f"{name}_{kind}_0" for kind in ("moment1", "moment2", "beta1_pow_acc", "beta2_pow_acc"))]


def _convert(state: dict, masters: dict, how: Iterable[tuple[str, ZeroShard]], change: Callable) -> None:
    for name, share in how:
        for key in (f"{name}_moment1_0", f"{name}_moment2_0"):
            if key in state:
                state[key] = change(share, state[key])
        if name in masters:
            masters[name] = change(share, masters[name])
