"""The decoder with its weights in bfloat16 against the one in float32."""

import numpy as np
import paddle
import pytest

from got_train.errors import RequirementError
from got_train.generation.decode import DecodingState
from got_train.modeling.config import DecoderConfig
from got_train.modeling.cpu.autograd import lm_head_logits
from got_train.modeling.cpu.bf16_decoder import cast_decoder_to_bf16
from got_train.modeling.decoder import build_decoder


def rounded(layer):
    """With weights that bfloat16 can hold, as those of the released checkpoints are."""
    for parameter in layer.parameters():
        parameter.set_value(parameter.astype("bfloat16").astype("float32"))
    return layer


def logits_change(model, change):
    """How far the logits of 3 prompts and of 2 steps after them move with the change, as part of the largest.

    Rows of a prompt are many (36), of a step few (3): they take different paths.
    """
    paddle.seed(4)
    tokens, side = model.config.vision.view_tokens, model.config.vision.image_side
    ids, mask = np.full([3, tokens + 8], 3), np.ones([3, tokens + 8], "int64")
    ids[:, 1 : 1 + tokens] = model.config.image_token
    ids[0, :1] = mask[0, :1] = 0
    views = paddle.randn([3, 3, side, side])

    def logits():
        with paddle.no_grad():
            state = DecodingState(model, ids, views, mask)
            values = [state.logits.numpy()]
            for step in ([4, 5, 6], [7, 8, 9]):
                state.step(step)
                values.append(state.logits.numpy())
        return np.stack(values)

    before = logits()
    change(model.decoder)
    return np.abs(logits() - before).max() / np.abs(before).max()


@pytest.mark.parametrize("kind", ["qwen2", "opt"])
def test_weights_that_are_bfloat16_give_the_same_logits_to_1e_5_for_prompts_and_steps(random_model, kind):
    model = random_model(kind)
    rounded(model.decoder)
    assert 0 < logits_change(model, cast_decoder_to_bf16) < 1e-5


def test_its_weights_take_half_the_memory_and_are_rounded_by_a_256th_at_most():
    decoder = build_decoder(DecoderConfig(vocab_size=64, width=32, layers=2, heads=4, mlp_width=56))
    decoder.eval()
    sizes = {4: 0, 2: 0}
    before = decoder.model.layers[0].mlp.up_proj.weight.numpy()
    cast_decoder_to_bf16(decoder)
    for each in (*decoder.parameters(), *(x for name, x in decoder.named_buffers() if "weight_t" in name)):
        sizes[2 if each.dtype == paddle.bfloat16 else 4] += each.size
    matrices = 64 * 32 + 2 * (4 * 32 * 32 + 3 * 32 * 56)
    assert sizes == {4: (2 * 2 + 1) * 32 + 2 * 3 * 32, 2: matrices}  # norms and the biases of q, k and v
    after = decoder.model.layers[0].mlp.up_proj.weight_t.astype("float32").numpy().T
    error = np.abs(after / before - 1).max()
    assert 1 / 2048 < error <= 1 / 256


@pytest.mark.parametrize("rows", [1, 3, 4, 16, 17])
def test_products_with_bfloat16_equal_those_of_float64(rows):
    rng = np.random.default_rng(rows)
    x, matrix = rng.normal(size=[rows, 40]), rng.normal(size=[11, 40])
    held = paddle.to_tensor(matrix.astype("float32")).astype("bfloat16")
    with paddle.no_grad():
        found = lm_head_logits(paddle.to_tensor(x.astype("float32")), held)
    expected = x @ held.astype("float32").numpy().astype("float64").T
    assert np.abs(found.numpy() - expected).max() < 1e-5


def test_a_gpu_is_told_of_its_own_type(monkeypatch):
    monkeypatch.setattr(paddle, "get_device", lambda: "gpu:0")
    with pytest.raises(RequirementError, match=r"gpu:0 is not a CPU; use --dtype bfloat16 there"):
        cast_decoder_to_bf16(paddle.nn.Linear(2, 2))
