"""The plain model and the accelerated one: the same parameters, values, gradients, tokens.

Differences are relative to a tensor's largest value. Both are float32 with other orders of summation: sums
over thousands of terms differ by some 1e-6, and the two have been measured within 2.4e-6.
"""

import re
from pathlib import Path

import numpy as np
import paddle
import pytest

from got_train.checkpoint.weights import load_model
from got_train.generation.generate import RepetitionRule, generate
from got_train.modeling.cpu import accelerate as accelerating
from got_train.modeling.cpu.accelerate import accelerate, restore
from got_train.modeling.lora import Adapter, attach, detach, target_layers

ROOT = Path(__file__).parents[2]
NANO = ROOT / "configs" / "nano" / "weights"
TOLERANCE = 1e-5
# a key's bias adds the same to all scores of a query, which softmax drops: gradient 0 but for rounding
NO_GRADIENT = re.compile(r"k_proj\.bias$")


def batch(model, packed=False, views=2):
    """Rows of two samples: one after the other with its own positions if packed, else with padding."""
    config, generator = model.config, np.random.default_rng(3)
    held, side = config.vision.view_tokens, config.vision.image_side
    sample = held + 9
    ids = generator.integers(2, config.image_token, [views, sample])
    ids[:, 2 : 2 + held] = config.image_token
    mask = np.ones_like(ids)
    inputs = {"pixel_values": generator.normal(size=[views, 3, side, side]).astype("float32")}
    if packed:
        inputs["position_ids"] = np.tile(np.arange(sample), views)[None]
        mask *= np.arange(1, views + 1)[:, None]
        ids, mask = ids.reshape(1, -1), mask.reshape(1, -1)
    else:
        mask[1, -4:] = 0
    labels = np.where(mask > 0, ids, -100)
    labels[:, : held + 2] = -100
    inputs |= {"input_ids": ids, "attention_mask": mask, "labels": labels}
    return {name: paddle.to_tensor(value) for name, value in inputs.items()}


def values_and_gradients(model, inputs):
    """Of the neck, the features, the last states, the logits and the loss; of every parameter that trains."""
    model.clear_gradients()
    neck = model.vision.neck_map(model.normalize(inputs["pixel_values"]))
    features = model.projector(model.vision.features(neck))
    rest = {name: inputs.get(name) for name in ("attention_mask", "labels", "position_ids")}
    output = model.decode(inputs["input_ids"], features, **rest)
    output.loss.backward()
    read = (inputs["attention_mask"] > 0).numpy()
    values = {"neck": neck, "features": features, "loss": output.loss}
    values = {name: value.numpy() for name, value in values.items()}
    values |= {"hidden": output.hidden.numpy()[read], "logits": output.logits.numpy()[read]}
    trained = [(name, value) for name, value in model.named_parameters() if not value.stop_gradient]
    return values, {name: value.grad.numpy() for name, value in trained}


def assert_equal(model, inputs, tolerance=TOLERANCE):
    restore(model)
    values, gradients = values_and_gradients(model, inputs)
    accelerate(model)
    fast_values, fast_gradients = values_and_gradients(model, inputs)
    for name, value in values.items():
        difference = np.abs(fast_values[name] - value).max() / np.abs(value).max()
        assert difference < tolerance, (name, difference)
    assert gradients.keys() == fast_gradients.keys()
    for name, gradient in gradients.items():
        largest = np.abs(gradients[name.replace("k_proj", "q_proj")]).max()
        scale = largest if NO_GRADIENT.search(name) else np.abs(gradient).max()
        difference = np.abs(fast_gradients[name] - gradient).max() / max(scale, 1e-12)
        assert difference < tolerance, (name, difference)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("kind", ["qwen2", "opt"])
def test_all_values_and_gradients_of_padded_and_packed_rows_agree(random_model, kind, packed, recompute):
    model = random_model(kind)
    model.train()
    model.vision.enable_recompute = model.decoder.enable_recompute = recompute
    assert_equal(model, batch(model, packed))


@pytest.mark.parametrize("trained", ["vision", "projector", "decoder"])
def test_they_agree_where_one_part_trains(random_model, trained):
    model = random_model()
    for name, parameter in model.named_parameters():
        parameter.stop_gradient = not name.startswith(trained)
    assert_equal(model, batch(model))


@pytest.mark.parametrize("targets", [(), ("qkv", "lin2", "proj", "down_proj")])
def test_they_agree_with_adapters_and_taking_these_off_gives_the_layers_back(random_model, targets):
    model = random_model()
    before = {name: type(layer) for name, layer in model.named_sublayers()}
    layers = target_layers(model, ("vision", "decoder"), targets)
    adapter = Adapter("", "", "repo", rank=4, alpha=8, dropout=0.0, layers=layers)
    attach(model, adapter)
    paddle.seed(5)
    for name, parameter in model.named_parameters():
        parameter.stop_gradient = "lora" not in name
        if "lora" in name:
            parameter.set_value(0.2 * paddle.randn(parameter.shape))
    assert_equal(model, batch(model))
    detach(model)
    after = {name: type(layer) for name, layer in model.named_sublayers()}
    assert after == {name: accelerating.CPU_CLASSES.get(kind, kind) for name, kind in before.items()} | {
        "projector": paddle.nn.Linear
    }
    restore(model)
    assert {name: type(layer) for name, layer in model.named_sublayers()} == before


def test_the_trained_nano_has_the_same_gradients_and_reads_the_same_tokens():
    """Answers of several kinds, on random views: eight rows, greedy, and with beams."""
    model = load_model(NANO / "stage3")
    inputs = batch(model, views=8)
    assert_equal(model, inputs, tolerance=5e-5)  # gradients of trained weights are small sums of large terms
    read = []
    ids, views = (inputs[name].numpy() for name in ("input_ids", "pixel_values"))
    for put_on in (restore, accelerate):
        put_on(model)
        options = {"max_new_tokens": 24, "repetition": RepetitionRule(max_unit=4)}
        read.append([generate(model, ids[:, :-5], views, num_beams=beams, **options).ids for beams in (1, 3)])
    assert read[0] == read[1]
    assert sum(len(set(row)) for row in read[0][0]) > 20


def test_names_shapes_and_memory_of_the_parameters_stay(random_model):
    model = random_model()
    before = {name: (value.shape, value.data_ptr()) for name, value in model.state_dict().items()}
    accelerate(model)
    assert {name: (value.shape, value.data_ptr()) for name, value in model.state_dict().items()} == before
    changed = {type(layer).__name__ for layer in model.sublayers()}
    assert {"CpuLinear", "CpuConv2D", "CpuLayerNorm", "CpuRMSNorm", "CpuBlock", "CpuQwen2Layer"} <= changed
    accelerate(model)  # again changes nothing
    assert {type(layer).__name__ for layer in model.sublayers()} == changed


def test_only_a_process_that_tuned_its_cpu_accelerates(random_model, monkeypatch):
    monkeypatch.setattr(accelerating.settings, "_tuned", False)
    model = random_model()
    accelerating.accelerate_if_tuned(model)
    assert not any(type(layer).__name__.startswith("Cpu") for layer in model.sublayers())
    monkeypatch.setattr(accelerating.settings, "_tuned", True)
    with monkeypatch.context() as on_gpu:
        on_gpu.setattr(paddle, "get_device", lambda: "gpu:0")
        accelerating.accelerate_if_tuned(model)
    assert not any(type(layer).__name__.startswith("Cpu") for layer in model.sublayers())
    accelerating.accelerate_if_tuned(model)
    assert type(model.vision) is accelerating.CpuVision


def test_no_file_of_the_plain_model_knows_a_kernel_or_a_device():
    """Beside cpu/ and gpu/, modeling/ imports nothing of these, and asks nowhere where it runs."""
    for path in (ROOT / "got_train" / "modeling").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        wrong = re.findall(
            r"got_train\.cpu|from \.[cg]pu|numba|on_cpu|is_gpu_place|get_device|\.place\b", text
        )
        assert not wrong, (path.name, wrong)
