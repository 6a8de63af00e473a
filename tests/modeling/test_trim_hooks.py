"""Holes in the heap: given back where they would raise the peak, and nothing that is computed changes."""

import json
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from got_train.cpu import heap, settings

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif("glibc" not in platform.libc_ver(), reason="other heaps are left alone")

HOLES = r"""
import json, sys
from got_train import cpu
if sys.argv[1] == "tuned":
    cpu.tune(1)
import paddle
from got_train.cpu import give_back_holes

def resident():
    return 4096 * int(open("/proc/self/statm").read().split()[1])

blocks = [paddle.ones([2 << 20]) for _ in range(128)]  # of 8 MB
looked = None
cpu.SMALL = 0
if sys.argv[2] == "looked":
    looked = give_back_holes() and give_back_holes()  # the first learns what is beside the heap
del blocks[::2]
before = resident()
print(json.dumps([looked, give_back_holes(), before - resident(), give_back_holes()]))
"""
UPDATE = r"""
import resource, sys
from got_train import cpu
cpu.tune(1)
cpu.SMALL = 0
import paddle
from got_train.training.optimizer import AdamW

weight = paddle.create_parameter([64 << 20], "float32")  # 256 MB
optimizer = AdamW({weight.name: 0.0}, sys.argv[1] == "tidy", learning_rate=0.1, parameters=[weight])
weight.sum().backward()
cpu.give_back_holes()  # learns what is beside the heap
blocks = [paddle.ones([2 << 20]) for _ in range(128)]  # of 8 MB
del blocks[::2]
optimizer.step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10)
"""
NANO = r"""
from got_train import cpu
cpu.tune(1)
import paddle
from benchmarks.cpu_settings import nano_step
from got_train.training import holes
given = []
holes.give_back_holes = lambda **ahead: given.append(cpu.give_back_holes(**ahead))
model, ids, views = nano_step()
model.train()
holes.give_back_between_layers(model)
optimizer = paddle.optimizer.AdamW(1e-4, parameters=model.parameters())
for _ in range(3):
    model(ids, views, labels=ids).loss.backward()
    optimizer.step()
    optimizer.clear_grad(set_to_zero=False)
print([len(given), sum(given)])
"""


def printed(script, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_every_second_of_128_blocks_of_8_mb_goes_back_to_the_kernel():
    looked, given, fallen, again = printed(HOLES, "tuned", "not looked")
    assert (looked, given, again) == (None, True, False)
    assert 400 << 20 < fallen <= 530 << 20


def test_holes_beneath_the_most_that_was_in_use_are_kept():
    looked, given, fallen, _ = printed(HOLES, "tuned", "looked")
    assert (looked, given, fallen) == (False, False, 0)


def test_nothing_is_given_back_where_nothing_was_tuned():
    looked, given, fallen, _ = printed(HOLES, "as it starts", "looked")
    assert (looked, given) == (False, False)


def test_the_moments_of_the_first_update_take_the_place_of_512_mb_of_holes():
    assert 400 << 20 < printed(UPDATE, "untidy") - printed(UPDATE, "tidy") <= 560 << 20


def test_a_nano_step_looks_19_times_and_gives_nothing_back():
    assert printed(NANO) == [3 * 19, 0]  # ends of six layers, three attentions; loss


@pytest.mark.parametrize("overrides", [(), ("train.recompute=true", "train.per_device_train_batch_size=4")])
def test_giving_back_before_and_after_every_layer_and_update_changes_no_bit_of_a_run(
    fit, monkeypatch, overrides
):
    monkeypatch.setattr(settings, "HOLES", -(1 << 50))
    monkeypatch.setattr(settings, "SMALL", 0)
    given, give_back = [], heap._Heap.give_back
    monkeypatch.setattr(heap._Heap, "give_back", lambda *a: given.append(give_back(*a)) or given[-1])
    with_holes = fit("train.max_steps=3", *overrides)
    assert sum(given) == len(given) >= 3 * 9
    count = len(given)
    without = fit(
        "train.max_steps=3", "train.cpu_tuning=false", *overrides, f"train.output_dir={fit.path}.run"
    )
    assert len(given) == count
    assert with_holes.losses == without.losses
    assert all(np.array_equal(with_holes.after[name], without.after[name]) for name in without.after)


def test_a_run_that_is_not_to_be_tuned_looks_at_no_heap(fit, monkeypatch):
    monkeypatch.setattr(heap._Heap, "give_back", lambda *_: 1 / 0)
    fit("train.max_steps=1", "train.cpu_tuning=false")
