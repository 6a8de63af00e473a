"""The heap is trimmed where fragments would raise the peak, and nothing that is computed changes."""

import json
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from got_train.cpu import heap

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif("glibc" not in platform.libc_ver(), reason="other heaps are left alone")

FRAGMENTS = r"""
import json, sys
from got_train.cpu import heap, settings
if sys.argv[1] == "tuned":
    settings.tune(1)
import paddle

def resident():
    return 4096 * int(open("/proc/self/statm").read().split()[1])

blocks = [paddle.ones([2 << 20]) for _ in range(128)]  # of 8 MB
looked = None
heap.MIN_TRIM_BYTES = 0
if sys.argv[2] == "looked":
    looked = heap.trim_heap() and heap.trim_heap()  # the first learns the overhead
del blocks[::2]
before = resident()
print(json.dumps([looked, heap.trim_heap(), before - resident(), heap.trim_heap()]))
"""
UPDATE = r"""
import re, sys
from got_train.cpu import heap, settings
settings.tune(1)
heap.MIN_TRIM_BYTES = 0
import paddle
from got_train.training.optimizer import AdamW

weight = paddle.create_parameter([64 << 20], "float32")  # 256 MB
optimizer = AdamW({weight.name: 0.0}, sys.argv[1] == "tidy", learning_rate=0.1, parameters=[weight])
weight.sum().backward()
heap.trim_heap()  # learns the overhead
blocks = [paddle.ones([2 << 20]) for _ in range(128)]  # of 8 MB
del blocks[::2]
optimizer.step()
# not ru_maxrss: that begins at the peak of the process that started this one
print(1024 * int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1]))
"""
NANO = r"""
from got_train.cpu import heap, settings
settings.tune(1)
import paddle
from benchmarks.cpu_settings import nano_step
from got_train.modeling.cpu import trim_hooks
from got_train.modeling.cpu.accelerate import accelerate
trimmed = []
trim_hooks.trim_heap = lambda **ahead: trimmed.append(heap.trim_heap(**ahead))
model, ids, views = nano_step()
model.train()
accelerate(model)
trim_hooks.trim_between_layers(model)
optimizer = paddle.optimizer.AdamW(1e-4, parameters=model.parameters())
for _ in range(3):
    model(ids, views, labels=ids).loss.backward()
    optimizer.step()
    optimizer.clear_grad(set_to_zero=False)
print([len(trimmed), sum(trimmed)])
"""


def printed(script, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_every_second_of_128_blocks_of_8_mb_goes_back_to_the_kernel():
    looked, trimmed, fallen, again = printed(FRAGMENTS, "tuned", "not looked")
    assert (looked, trimmed, again) == (None, True, False)
    assert 400 << 20 < fallen <= 530 << 20


def test_fragments_below_the_peak_are_kept():
    looked, trimmed, fallen, _ = printed(FRAGMENTS, "tuned", "looked")
    assert (looked, trimmed, fallen) == (False, False, 0)


def test_nothing_is_trimmed_where_nothing_was_tuned():
    looked, trimmed, fallen, _ = printed(FRAGMENTS, "as it starts", "looked")
    assert (looked, trimmed) == (False, False)


def test_the_moments_of_the_first_update_replace_512_mb_of_fragments():
    assert 400 << 20 < printed(UPDATE, "untidy") - printed(UPDATE, "tidy") <= 560 << 20


def test_a_nano_step_looks_19_times_and_trims_nothing():
    assert printed(NANO) == [3 * 19, 0]  # ends of six layers, three attentions; loss


@pytest.mark.parametrize("overrides", [(), ("train.recompute=true", "train.per_device_train_batch_size=4")])
def test_trimming_before_and_after_every_layer_and_update_changes_no_bit_of_a_run(
    fit, monkeypatch, overrides
):
    monkeypatch.setattr(heap, "MAX_FRAGMENTATION", -(1 << 50))
    trimmed, trim = [], heap.Heap.trim
    monkeypatch.setattr(heap.Heap, "trim", lambda *a: trimmed.append(trim(*a)) or trimmed[-1])
    never = fit("train.max_steps=3", *overrides)  # so small a run trims nothing
    assert len(trimmed) >= 3 * 9 and not any(trimmed)
    trimmed.clear()
    monkeypatch.setattr(heap, "MIN_TRIM_BYTES", 0)
    always = fit("train.max_steps=3", *overrides, f"train.output_dir={fit.path}.run")
    assert sum(trimmed) == len(trimmed) >= 3 * 9
    assert always.losses == never.losses
    assert all(np.array_equal(always.after[name], never.after[name]) for name in never.after)


def test_a_run_that_is_not_to_be_tuned_looks_at_no_heap(fit, monkeypatch):
    monkeypatch.setattr(heap.Heap, "trim", lambda *_: 1 / 0)
    fit("train.max_steps=1", "train.cpu_tuning=false")
