"""The estimate of a run's memory, against the peaks of processes and what must hold of any estimate."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.scaling import parameter_sizes
from got_train.config.loader import load_config
from got_train.modeling.config import DecoderConfig, GotConfig, VisionConfig
from got_train.profiling import memory
from got_train.profiling.memory import MicroBatch, Training, estimate
from got_train.training.dry_run import measure, suggestions

ROOT = Path(__file__).parents[2]
VISION = {"image_side": 256, "patch": 8, "width": 96, "layers": 4, "heads": 4, "mlp_width": 384}
VISION |= {"window": 8, "global_layers": (3,), "neck_width": 32, "out_width": 64}
DECODER = {"vocab_size": 384, "width": 128, "layers": 4, "heads": 4, "mlp_width": 352, "max_positions": 2048}
BATCH = MicroBatch(rows=8, tokens=800, supervised=8 * 500, views=8)

STEPS = r"""
import json, re, sys
from pathlib import Path
from got_train.cpu import heap, settings
settings.tune(1)
import paddle
import paddlenlp.transformers
from got_train.modeling.config import DecoderConfig, GotConfig, VisionConfig
from got_train.modeling.cpu.accelerate import accelerate
from got_train.modeling.cpu.trim_hooks import trim_between_layers
from got_train.modeling.got import Got

vision, decoder, parts = map(json.loads, sys.argv[1:])

def held(name):
    # without the pages of libraries, which come and go
    status = Path("/proc/self/status").read_text()
    size, files = (int(re.search(rf"{each}:\s+(\d+) kB", status)[1]) for each in (name, "RssFile"))
    return 1024 * (size - files)

heap.MIN_TRIM_BYTES = 0  # these sizes stand for larger ones
config = GotConfig(vision=VisionConfig(**vision), decoder=DecoderConfig(**decoder), image_token=383)
small = VisionConfig(**vision | {"image_side": 64, "layers": 1, "global_layers": [], "window": 3})
ids = paddle.ones([1, 12], dtype="int64")
ids[:, 5:9] = 383
# loads the kernels and starts the products
first = Got(GotConfig(vision=small, decoder=config.decoder, image_token=383))
accelerate(first)
first(ids, paddle.zeros([1, 3, 64, 64]), labels=ids).loss.backward()
del first
begun = held("VmRSS")
model = Got(config)
for part in parts:
    model.part(part).enable_recompute = True
accelerate(model)
trim_between_layers(model)
optimizer = paddle.optimizer.AdamW(1e-4, parameters=model.parameters())
ids = paddle.randint(0, 380, [8, 800])
ids[:, 5:69] = 383
labels = ids.clone()
labels[:, :300] = -100
views = paddle.randint(0, 256, [8, 256, 256, 3]).astype("uint8")
for _ in range(2):
    model(ids, views, labels=labels).loss.backward()
    optimizer.step()
    optimizer.clear_grad(set_to_zero=False)
print(json.dumps(held("VmHWM") - begun))
"""


def training(**changed):
    config = GotConfig(vision=VisionConfig(**VISION), decoder=DecoderConfig(**DECODER), image_token=383)
    return Training(**{"config": config, "trained": parameter_sizes(config), "frozen": {}, **changed})


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
@pytest.mark.parametrize("parts", [(), ("vision",), ("vision", "decoder")])
def test_the_estimate_is_within_15_percent_of_what_two_steps_take(parts, within, monkeypatch):
    monkeypatch.setattr(memory, "MIN_TRIM_BYTES", 0)
    given = [json.dumps(each) for each in (VISION, DECODER, parts)]
    done = subprocess.run([sys.executable, "-c", STEPS, *given], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    taken = int(done.stdout.splitlines()[-1])
    print(parts, "MB", taken >> 20, estimate(training(recompute=parts), BATCH) >> 20)
    within("relative error", abs(estimate(training(recompute=parts), BATCH) / taken - 1), 0.15)


@pytest.mark.parametrize("name", ["rows", "tokens", "supervised", "views"])
@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_more_of_anything_takes_more(name, device):
    sizes = [
        estimate(training(device=device), dataclasses.replace(BATCH, **{name: getattr(BATCH, name) * times}))
        for times in (1, 4, 16)
    ]
    assert sizes[0] <= sizes[1] <= sizes[2]
    assert sizes[0] < sizes[2] or name == "supervised"


def test_recompute_freezing_and_fewer_rows_take_less():
    whole = estimate(training(), BATCH)
    by_part = [estimate(training(recompute=parts), BATCH) for parts in (("vision",), ("decoder",))]
    both = estimate(training(recompute=("vision", "decoder")), BATCH)
    assert both < min(by_part) <= max(by_part) < whole
    sizes = parameter_sizes(training().config)
    frozen = {"vision": sizes.pop("vision")}
    assert estimate(training(trained=sizes, frozen=frozen), BATCH) < whole
    assert estimate(training(), dataclasses.replace(BATCH, rows=4, views=4, supervised=2000)) < whole


def test_accumulation_keeps_the_gradients_beside_the_activations():
    sizes = parameter_sizes(training().config)
    gradients = 4 * sum(sum(each) for each in sizes.values())
    more = estimate(training(accumulates=True), BATCH) - estimate(training(), BATCH)
    assert 0.5 * gradients < more <= gradients


def test_a_dry_run_offers_what_lowers_its_peak_and_nothing_else(tiny_run):
    path = tiny_run()
    found = measure(load_config(path, ["train.per_device_train_batch_size=4"]))
    assert found.training.accumulates
    assert (found.micro_batch.rows, found.micro_batch.views) == (4, 4)
    assert list(suggestions(found)) == []  # Paddle itself is all that counts in so small a run
    large = dataclasses.replace(found, training=training(), micro_batch=BATCH, memory=1 << 30)
    offered = dict(suggestions(large))
    assert list(offered) == [
        "train.recompute=true",
        "train.recompute=[decoder]",
        "train.recompute=[vision]",
        "train.per_device_train_batch_size=2",
        "data.packing_length=800 (one of the longest beside usual ones)",
    ]
    assert max(offered.values()) < 1 << 30
    parts = [offered[f"train.recompute=[{part}]"] for part in ("vision", "decoder")]
    assert offered["train.recompute=true"] < min(parts)
    frozen = {"vision": parameter_sizes(training().config)["vision"]}
    rest = {part: sizes for part, sizes in parameter_sizes(training().config).items() if part != "vision"}
    large = dataclasses.replace(large, training=training(trained=rest, frozen=frozen))
    assert [each for each in dict(suggestions(large)) if "recompute" in each] == ["train.recompute=true"]
    again = training(recompute=("vision", "decoder"))
    config = load_config(path, ["train.per_device_train_batch_size=1", "train.recompute=true"])
    assert list(suggestions(dataclasses.replace(large, training=again, config=config))) == []
