"""train.py with the modes that want GPUs let through to the CPU, for tests; its arguments are train.py's.

What stands between them and gloo are Paddle's tests of the device, and copies between device and host, which
are no copies here. All that computes, cuts, gathers and saves is what a GPU would run.
"""

import contextlib
import sys
import types
from pathlib import Path

import paddle
from paddle.distributed.fleet.meta_parallel.sharding import (
    group_sharded_optimizer_stage2,
    group_sharded_stage2,
    group_sharded_stage3,
    group_sharded_storage,
    group_sharded_utils,
)
from paddle.distributed.sharding import group_sharded

STAGES = (group_sharded_optimizer_stage2, group_sharded_stage3)
SLICED_ABOVE = 64  # elements; 2**20 in Paddle, more than a small model's parameters have


class Seen(types.SimpleNamespace):
    """A module as it is, but for what is given."""

    def __init__(self, module, **other):
        super().__init__(module=module, **other)

    def __getattr__(self, name):
        return getattr(self.module, name)


def let_through():
    device = {"get_device": lambda: "gpu:0"}
    seen = Seen(paddle, device=Seen(paddle.device, **device), **device)
    for module in (*STAGES, group_sharded, group_sharded_utils):
        module.paddle = seen
    for module in STAGES:
        module.core = Seen(module.core, is_compiled_with_cuda=lambda: True)
    for module in (*STAGES, group_sharded_stage2, group_sharded_storage, group_sharded_utils):
        module.device_guard = lambda *_, **__: contextlib.nullcontext()
    storage = group_sharded_storage.ParamStorage
    add = storage.add_rank_params
    storage.add_rank_params = lambda self, parameters, align: add(self, parameters, align, convert_gpu=False)
    stage3 = group_sharded_stage3.GroupShardedStage3
    begin = stage3.__init__
    stage3.__init__ = lambda self, *a, **k: begin(self, *a, **{**k, "segment_size": SLICED_ABOVE})


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    import train
    from got_train.training import run

    let_through()
    run.check_device = lambda config: "cpu"
    train.leave(train.main(sys.argv[1:]))
