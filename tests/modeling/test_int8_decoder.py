"""The decoder with its matrices in int8 against one in float32 that holds the same rounded numbers."""

import json
from pathlib import Path

import numpy as np
import paddle
import pytest

from got_train.checkpoint.convert import round_matrices
from got_train.checkpoint.weights import WeightFile, load_model, save_model
from got_train.cli.convert import main as convert
from got_train.errors import CheckpointError, RequirementError
from got_train.inference.reader import load_pipeline
from got_train.modeling.config import DecoderConfig
from got_train.modeling.cpu.bf16_decoder import cast_decoder_to_bf16
from got_train.modeling.cpu.int8_decoder import Int8Matrix, quantize_decoder
from got_train.modeling.decoder import build_decoder
from got_train.modeling.int8 import dequantize, quantize

from .test_bf16_decoder import logits_change

NANO = Path(__file__).parents[2] / "configs" / "nano" / "weights" / "stage3"


def test_each_number_is_rounded_by_half_a_step_at_most_and_a_second_time_not_at_all():
    matrix = np.random.default_rng(0).normal(size=[7, 300]).astype("float32")
    matrix[3] = 0
    matrix[4] *= 1e-20
    rows, scale = quantize(matrix)
    assert rows.dtype == np.int8
    assert scale.shape == (7,)
    assert set(np.abs(rows.astype(int)).max(axis=1)) == {0, 127}  # a row of zeros stays zeros
    held = dequantize(rows, scale)
    assert (np.abs(held - matrix) <= 0.5001 * scale[:, None]).all()
    again, same = quantize(held)
    assert np.array_equal(again, rows)
    assert np.allclose(same, scale, rtol=1e-6, atol=0)


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 16, 17])
def test_products_with_int8_equal_those_of_float64(rows):
    rng = np.random.default_rng(rows)
    x, (matrix, scale) = rng.normal(size=[rows, 200]), quantize(rng.normal(size=[11, 200]))
    found = Int8Matrix(matrix, scale).matmul(paddle.to_tensor(x.astype("float32")))
    expected = x @ (matrix.astype("float64") * scale[:, None]).T
    assert np.abs(found.numpy() - expected).max() < 3e-5


@pytest.mark.parametrize("kind", ["qwen2", "opt"])
def test_prompts_and_steps_have_the_logits_of_the_rounded_weights_to_1e_5(random_model, kind):
    assert 0 < logits_change(round_matrices(random_model(kind)), quantize_decoder) < 1e-5


def test_matrices_take_a_byte_a_number_and_a_scale_a_row():
    decoder = build_decoder(DecoderConfig(vocab_size=64, width=32, layers=2, heads=4, mlp_width=56))
    quantize_decoder(decoder.eval())
    sizes = {1: 0, 4: 0}
    buffers = [x for name, x in decoder.named_buffers() if name.endswith((".weight", ".scale"))]
    for each in (*decoder.parameters(), *buffers):
        sizes[1 if each.dtype == paddle.int8 else 4] += each.size
    scales = 64 + 2 * (5 * 32 + 2 * 56)
    assert sizes[1] == 64 * 32 + 2 * (4 * 32 * 32 + 3 * 32 * 56)
    assert sizes[4] == (2 * 2 + 1) * 32 + 2 * 3 * 32 + scales  # norms, and the biases of q, k and v


@pytest.mark.parametrize("layout", ["original", "transformers"])
def test_a_converted_checkpoint_reads_back_as_the_rounded_model(got_tiny, tmp_path, layout, capsys):
    folder = tmp_path / "int8"
    assert convert([str(got_tiny), str(folder), "--layout", layout, "--quantize", "int8"]) == 0
    said = capsys.readouterr().out
    assert "the decoder's matrices int8" in said
    assert "largest difference 0 in" in said
    source, made = WeightFile(got_tiny), WeightFile(folder)
    assert made.tensors.keys() == source.tensors.keys()
    assert len(made.int8) == 2 * 7 + 1
    bytes_before, bytes_now = (sum(f.stat().st_size for f in p.glob("model*")) for p in (got_tiny, folder))
    saved = 3 * sum(rows.size for rows, _ in made.int8.values())
    assert bytes_before - bytes_now > 0.9 * saved
    expected = round_matrices(load_model(got_tiny)).state_dict()
    for name, value in load_model(folder).state_dict().items():
        assert np.array_equal(value.numpy(), expected[name].numpy()), name
    kept = load_model(folder, keep_int8=True)
    rows, _ = quantize(expected["decoder.model.layers.1.mlp.up_proj.weight"].numpy().T)
    assert np.array_equal(kept.decoder.model.layers[1].mlp.up_proj.weight.numpy(), rows)
    again = tmp_path / "again"
    assert convert([str(folder), str(again), "--layout", "original"]) == 0  # back to float32


def test_the_pipeline_keeps_a_converted_nano_in_int8_and_reads(tmp_path):
    save_model(load_model(NANO), tmp_path, tokenizer=load_pipeline(NANO).tokenizer, int8=True)
    pipeline = load_pipeline(tmp_path)
    decoder = pipeline.model.decoder
    assert decoder.model.layers[0].mlp.down_proj.weight.dtype == paddle.int8
    with pytest.raises(RequirementError, match="decoder in bfloat16: this checkpoint's is int8 already"):
        cast_decoder_to_bf16(decoder)


def test_scales_that_are_missing_or_of_another_length_are_named(got_tiny, tmp_path):
    from safetensors.numpy import load_file, save_file

    save_model(load_model(got_tiny), tmp_path, "transformers", int8=True)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if name.endswith("up_proj.weight"))
    for scale in (None, np.ones(3, "float32")):
        changed = {key: value for key, value in tensors.items() if key != f"{name}_scale"}
        changed |= {} if scale is None else {f"{name}_scale": scale}
        save_file(changed, path)
        with pytest.raises(CheckpointError, match=rf"{name} is int8 \[112, 64\] with .* as {name}_scale"):
            WeightFile(tmp_path)


def test_paddlemix_and_gpus_have_no_int8(got_tiny, tmp_path, monkeypatch):
    with pytest.raises(CheckpointError, match="int8 with layout paddlemix: .*; use original"):
        save_model(load_model(got_tiny), tmp_path / "made", "paddlemix", int8=True)
    monkeypatch.setattr(paddle, "get_device", lambda: "gpu:0")
    with pytest.raises(RequirementError, match=r"int8: gpu:0 is not a CPU; use --dtype bfloat16 there"):
        quantize_decoder(paddle.nn.Linear(2, 2))


def test_the_config_says_what_is_quantized(got_tiny, tmp_path):
    save_model(load_model(got_tiny), tmp_path, int8=True)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["quantization_config"] == {"quant_method": "got_train", "bits": 8, "scales": "row"}
