"""Counted operations against real passes of small models: layers by hooks, attention by plain loops."""

import numpy as np
import paddle
import pytest
from paddle import nn

from got_train.errors import ConfigError
from got_train.modeling.config import DecoderConfig, GotConfig, VisionConfig
from got_train.modeling.vision import Attention, window_partition
from got_train.profiling import flops
from got_train.profiling.flops import PARTS, Work

FULL = GotConfig()
SHAPES = {
    "windows padded from 8 to 9": ("qwen2", {}),
    "windows that fit, keys not shared": ("qwen2", {"window": 4, "decoder": {"kv_heads": 4}}),
    "a window wider than the view": ("qwen2", {"window": 11, "global_layers": ()}),
    "odd grid, all heads share their keys": ("qwen2", {"image_side": 72, "decoder": {"kv_heads": 1}}),
    "opt": ("opt", {"layers": 2, "mlp_width": 40, "decoder": {"mlp_width": 56}}),
}


class Counter:
    """Operations of linear layers and convolutions as they run, and of the gradients that they are asked."""

    def __init__(self, model):
        self.forward = self.backward = 0
        for layer in model.sublayers():
            if isinstance(layer, (nn.Linear, nn.Conv2D)):
                layer.register_forward_post_hook(self.add)

    def add(self, layer, inputs, output):
        each = (
            layer.weight.size if isinstance(layer, nn.Linear) else layer.weight.size // layer.weight.shape[0]
        )
        places = output.size // layer.weight.shape[1] if isinstance(layer, nn.Linear) else output.size
        done = 2 * each * places
        self.forward += done
        asked = any(not x.stop_gradient for x in inputs)
        self.backward += done * ((not layer.weight.stop_gradient) + asked)


def batch(model, views=2):
    """Two samples of unequal length, the second padded, with a view each; 9 supervised tokens."""
    paddle.seed(3)
    held, image = model.config.vision.view_tokens, model.config.image_token
    tokens = held + 9
    ids = paddle.randint(2, image, [views, tokens])
    ids[:, 2 : 2 + held] = image
    labels = paddle.full([views, tokens], -100, "int64")
    labels[0, -6:], labels[1, -7:-4] = 3, 4
    seen = paddle.ones([views, tokens], "int64")
    seen[1, -4:] = 0
    pixels = paddle.randn([views, 3, model.config.vision.image_side, model.config.vision.image_side])
    return {"input_ids": ids, "pixel_values": pixels, "attention_mask": seen, "labels": labels}


def work_of(given):
    """The padding of a row goes through the linear layers like any token."""
    views, tokens = given["input_ids"].shape
    return Work(views, (tokens,) * views, int((given["labels"] != -100).sum()))


def parts_of(config, work):
    """Weighted and mutual products of all parts together."""
    parts = flops.vision(config.vision) * work.views + flops.projector(config) * work.views
    return parts + flops.decoder_layers(config.decoder, work.samples)


def positions(config, views):
    """Operations of relative positions, which no layer does: checked with attention below."""
    total = 0
    for index in range(config.layers):
        side = config.grid if index in config.global_layers else config.window
        places = (-(-config.grid // side) * side) ** 2
        total += 4 * places * side * config.width
    return views * total


@pytest.mark.parametrize("shape", SHAPES)
def test_linear_layers_and_convolutions_count_as_a_forward_pass_runs_them(random_model, shape):
    kind, sizes = SHAPES[shape]
    model = random_model(kind, **sizes)
    given = batch(model)
    counter = Counter(model)
    model(**given)
    counted = parts_of(model.config, work_of(given))
    assert counter.forward == counted.weights + counted.pixels - positions(model.config.vision, 2)
    assert counter.forward > 0


def product(done, left, right):
    done.append(2 * left.size * right.shape[-1])
    return left @ right


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def plain_window(q, k, v, layer, done):
    """One window of one head, (w, w, d) each, by its rows and columns, as segment-anything writes it."""
    side, width = layer.window_size, q.shape[-1]
    distance = np.arange(side)[:, None] - np.arange(side)[None] + side - 1
    by_row, by_column = (table.numpy()[distance] for table in (layer.rel_pos_h, layer.rel_pos_w))
    scores = product(done, q.reshape(-1, width) * width**-0.5, k.reshape(-1, width).T)
    scores = scores.reshape(side, side, side, side)
    for row in range(side):
        scores[row] += product(done, q[row], by_row[row].T)[:, :, None]
        scores[:, row] += product(done, q[:, row], by_column[row].T)[:, None, :]
    weights = softmax(scores.reshape(side**2, side**2))
    return product(done, weights, v.reshape(-1, width)).reshape(side, side, width)


@pytest.mark.parametrize(("grid", "side"), [(6, 6), (6, 4), (8, 3), (3, 5)])
def test_vision_attention_counts_what_a_plain_one_with_the_same_output_multiplies(grid, side):
    paddle.seed(1)
    width, heads, done = 12, 3, []
    layer = Attention(width, heads, side)
    for table in (layer.rel_pos_h, layer.rel_pos_w):
        table.set_value(paddle.randn(table.shape))
    x = paddle.randn([1, grid, grid, width])
    windows = window_partition(layer.qkv(x), side, layer.qkv.bias).numpy()
    windows = windows.reshape(len(windows), side, side, 3, heads, width // heads)
    plain = [
        [plain_window(*(window[:, :, part, head] for part in range(3)), layer, done) for head in range(heads)]
        for window in windows
    ]
    count = -(-grid // side)
    joined = np.array(plain).transpose(0, 2, 3, 1, 4).reshape(count, count, side, side, width)
    joined = joined.transpose(0, 2, 1, 3, 4).reshape(count * side, count * side, width)[:grid, :grid]
    out = layer.proj(paddle.to_tensor(joined[None].astype("float32")))
    assert np.abs(out.numpy() - layer(x).numpy()).max() < 2e-5

    sizes = {"image_side": 8 * grid, "patch": 8, "width": width, "heads": heads, "mlp_width": 7}
    counted = flops.vision_block(VisionConfig(**sizes), 0 if side == grid else side)
    linear = 2 * grid**2 * (4 * width**2 + 2 * width * 7)
    assert sum(done) == counted.forward - linear
    assert counted.activations > 0


def heard(model, kind):
    """Queries, keys, values and what attention gives for them, of the first decoder layer, as they pass."""
    layers = model.decoder.model.layers if kind == "qwen2" else model.decoder.model.decoder.layers
    attention, found = layers[0].self_attn, {}
    for name in ("q_proj", "k_proj", "v_proj"):
        getattr(attention, name).register_forward_post_hook(
            lambda layer, inputs, output, name=name: found.update({name: output.numpy()})
        )
    last = attention.o_proj if kind == "qwen2" else attention.out_proj
    last.register_forward_pre_hook(lambda layer, inputs: found.update(out=inputs[0].numpy()))
    return found


def turned(x, theta):
    """Rotary positions of a sample's tokens, (T, heads, d)."""
    half = x.shape[-1] // 2
    angles = np.arange(len(x))[:, None] * theta ** (-np.arange(half) / half)
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    first, second = x[..., :half], x[..., half:]
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def plain_causal(q, k, v, config, done):
    """Token after token, each over itself and those before it; heads share keys in groups."""
    width, group = config.width // config.heads, config.heads // config.kv_heads
    q, k, v = (x.reshape(len(x), -1, width) for x in (q, k, v))
    if config.kind == "qwen2":
        q, k = turned(q, config.rope_theta), turned(k, config.rope_theta)
    out = np.zeros_like(q)
    for token in range(len(q)):
        for head in range(config.heads):
            keys, values = (x[: token + 1, head // group] for x in (k, v))
            weights = softmax(product(done, q[None, token, head] * width**-0.5, keys.T))
            out[token, head] = product(done, weights, values)[0]
    return out.reshape(len(q), -1)


@pytest.mark.parametrize(("kind", "kv_heads"), [("qwen2", 4), ("qwen2", 2), ("qwen2", 1), ("opt", 4)])
def test_causal_attention_counts_what_a_plain_one_of_packed_samples_multiplies(random_model, kind, kv_heads):
    model, lengths, done = random_model(kind, decoder={"kv_heads": kv_heads, "layers": 1}), (5, 9), []
    found = heard(model, kind)
    row = np.repeat([1, 2], lengths)[None]
    places = np.concatenate([np.arange(tokens) for tokens in lengths])[None]
    ids = paddle.randint(0, 30, row.shape)
    mask, positions = (paddle.to_tensor(each.astype("int64")) for each in (row, places))
    model(ids, attention_mask=mask, position_ids=positions)
    parts = [
        [found[name][0][row[0] == sample] for name in ("q_proj", "k_proj", "v_proj")] for sample in (1, 2)
    ]
    plain = np.concatenate([plain_causal(*part, model.config.decoder, done) for part in parts])
    assert np.abs(plain - found["out"][0]).max() < 2e-5
    counted = flops.decoder_layers(model.config.decoder, lengths)
    assert sum(done) == counted.activations
    apart = sum(flops.decoder_layers(model.config.decoder, [tokens]).activations for tokens in lengths)
    assert counted.activations == apart


@pytest.mark.parametrize("trains", [PARTS, ("decoder",), ("projector",), ("vision",), ("vision", "decoder")])
@pytest.mark.parametrize("kind", ["qwen2", "opt"])
def test_gradients_pass_where_autograd_asks_for_them(random_model, kind, trains):
    model = random_model(kind)
    for name in PARTS:
        for parameter in model.part(name).parameters():
            parameter.stop_gradient = name not in trains
    given, config = batch(model), model.config
    counter = Counter(model)
    output = model(**given)
    work = work_of(given)

    step = flops.training(config, work, trains)
    head = flops.head(config.decoder, work.supervised).forward
    head *= (not output.hidden.stop_gradient) + (not model.decoder.head.stop_gradient)
    attention = 2 * flops.decoder_layers(config.decoder, work.samples).activations
    if "vision" in trains:
        attention += 2 * work.views * flops.vision(config.vision).activations
        attention += 2 * positions(config.vision, work.views)
    assert step.backward == counter.backward + head + attention
    assert step.recomputed == 0


@pytest.mark.parametrize("trains", [PARTS, ("decoder",)])
@pytest.mark.parametrize("kind", ["qwen2", "opt"])
def test_recompute_runs_the_blocks_and_layers_again_that_it_is_said_to(random_model, kind, trains):
    model = random_model(kind)
    model.train()
    for parameter in [] if "vision" in trains else model.vision.parameters():
        parameter.stop_gradient = True
    model.apply(
        lambda layer: setattr(layer, "enable_recompute", True) if hasattr(layer, "enable_recompute") else 0
    )
    given, config = batch(model), model.config
    counter, work = Counter(model), work_of(given)
    loss = model(**given).loss_sum
    forward = counter.forward
    loss.backward()
    again = flops.training(config, work, trains, recompute=True).recomputed
    again -= flops.decoder_layers(config.decoder, work.samples).activations
    if "vision" in trains:
        again -= work.views * flops.vision(config.vision).activations + positions(config.vision, work.views)
    assert counter.forward - forward == again > 0


def test_full_size_numbers_worked_by_hand():
    matrices = 4 * 1024 * 1024 + 3 * 1024 * 2816  # of a layer: 12,850,176 parameters less biases and norms
    assert flops.decoder_matrices(FULL.decoder) == matrices == 12_850_176 - 3 * 1024 - 2 * 1024
    layers = flops.decoder_layers(FULL.decoder, [287])
    assert layers.weights == 24 * 2 * matrices * 287
    assert layers.activations == 24 * 16 * (287 * 288 // 2) * (2 * 64 + 2 * 64)
    biases_and_norms = 12 * (2304 + 768 + 3072 + 768 + 4 * 768)
    positions = 8 * 2 * 27 * 64 + 4 * 2 * 127 * 64
    blocks = 2 * 4096 * (85_147_136 - biases_and_norms - positions)  # 12 blocks have these parameters
    attention = 4 * 768 * (4 * 4096**2 + 8 * 25 * 196**2)
    relative = 4 * 768 * (4 * 4096 * 64 + 8 * 25 * 196 * 14)
    assert flops.vision_blocks(FULL.vision).forward == blocks + attention + relative
    assert flops.patches(FULL.vision).forward == 2 * 4096 * 768 * 768
    assert flops.head(FULL.decoder, 10).forward == 2 * 10 * 155_504_640
    step = flops.training(FULL, Work(1, (287,), 10))
    assert step.useful == 3 * step.forward - flops.patches(FULL.vision).forward


def test_full_attention_counts_hidden_pairs_too():
    assert [flops.seen(5), flops.seen(5, "full"), flops.seen(0)] == [15, 25, 0]
    causal, full = (flops.decoder_layers(FULL.decoder, [100], kind) for kind in ("causal", "full"))
    assert full.activations / causal.activations == pytest.approx(200 / 101)
    assert full.weights == causal.weights


def test_impossible_work_is_refused():
    with pytest.raises(ConfigError, match="12 supervised tokens of 11"):
        Work(1, (5, 6), 12)
    with pytest.raises(ConfigError, match="views holds -1"):
        Work(-1, (5,), 1)
    with pytest.raises(ConfigError, match="trains holds encoder"):
        flops.training(FULL, Work(1, (300,), 1), ["encoder"])
    with pytest.raises(ConfigError, match="trains holds nothing"):
        flops.training(FULL, Work(1, (300,), 1), [])


def test_sizes_of_other_decoders_are_counted_from_their_own_numbers():
    opt = DecoderConfig(kind="opt", vocab_size=50272, width=768, layers=12, heads=12, mlp_width=3072)
    assert flops.decoder_matrices(opt) == 4 * 768**2 + 2 * 768 * 3072
    shared = DecoderConfig(heads=16, kv_heads=2)
    assert flops.decoder_matrices(FULL.decoder) - flops.decoder_matrices(shared) == 2 * 1024 * (1024 - 128)
