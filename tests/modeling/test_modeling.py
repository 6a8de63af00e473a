"""The model against transformers' numbers (doctor/got_tiny): every stage, gradient and training step.

Differences are relative to a tensor's largest value; transformers' own float32 is up to 5e-6 from float64.
"""

import json

import numpy as np
import paddle
import pytest

from got_train.checkpoint import layouts
from got_train.checkpoint.weights import empty_init, load_model
from got_train.errors import ConfigError
from got_train.modeling.config import DecoderConfig, GotConfig, VisionConfig
from got_train.modeling.cpu.accelerate import accelerate
from got_train.modeling.got import Got, parameter_count
from got_train.modeling.vision import Attention, window_partition, window_unpartition

CASES = {"single": [0], "multi": [0, 1, 2], "batch": [0, 1, 2]}  # the views of each
FOLDERS = (".", "original")
GRADIENTS = 2e-5
STAGES = 1e-5
MAPS = ("vision.neck", "vision.net_2", "vision.net_3")  # transformers has their channels first


def relative(ours, theirs):
    return np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max()


@pytest.fixture(scope="module", params=["plain", "accelerated"])
def put_on(request):
    """A function: have a model run as it is, or with the CPU's forwards."""
    return accelerate if request.param == "accelerated" else lambda model: None


@pytest.fixture(scope="module", params=FOLDERS)
def model(request, got_tiny, put_on):
    model = load_model(got_tiny / request.param)
    put_on(model)
    return model


@pytest.fixture(scope="module")
def cases(got_tiny, arrays):
    """Inputs by name, with the views that belong to them, and what transformers computed."""
    pixels = arrays(got_tiny / "pixels.safetensors")["pixel_values"]
    return {
        name: {**arrays(got_tiny / f"{name}.safetensors"), "pixel_values": pixels[views]}
        for name, views in CASES.items()
    }


def inputs(case):
    names = ("input_ids", "pixel_values", "attention_mask", "labels")
    return {name: paddle.to_tensor(case[name]) for name in names}


def recorded(model, case):
    """The outputs of all sub-layers by name, in one forward pass."""
    seen, hooks = {}, []
    for name, layer in model.named_sublayers():

        def keep(layer, arguments, output, name=name):
            seen[name] = (output[0] if isinstance(output, tuple) else output).numpy()

        hooks.append(layer.register_forward_post_hook(keep))
    try:
        output = model(**inputs(case))
    finally:
        for hook in hooks:
            hook.remove()
    return seen, output


@pytest.mark.parametrize(
    "ours, theirs",
    [
        *((f"vision.blocks.{i}", f"out.vision.layer{i}") for i in range(4)),
        *((f"vision.blocks.{i}.attn", f"out.vision.layer{i}.attn") for i in range(4)),
        ("vision.neck", "out.vision.neck"),
        ("vision.net_2", "out.vision.net_2"),
        ("vision.net_3", "out.vision.net_3"),
        ("projector", "out.projected"),
        ("decoder.model.layers.0", "out.text.layer0"),
        ("decoder.model.layers.1", "out.text.layer1"),
        ("decoder.model.norm", "out.text.norm"),
    ],
)
def test_each_stage_of_one_image_equals_transformers(model, cases, ours, theirs):
    seen, _ = recorded(model, cases["single"])
    expected = cases["single"][theirs]
    if ours in MAPS:
        expected = expected.transpose(0, 2, 3, 1)
    if expected.shape != seen[ours].shape:  # theirs is still cut in windows
        expected = window_unpartition(paddle.to_tensor(expected), seen[ours].shape[1]).numpy()
    assert relative(seen[ours], expected) < STAGES


def test_the_patches_and_the_joined_embeddings_of_one_image_equal_transformers(model, cases):
    case = cases["single"]
    seen, _ = recorded(model, case)
    assert relative(seen["vision.patch_embed"], case["out.vision.patch_embed"]) < STAGES
    features = model.encode(paddle.to_tensor(case["pixel_values"]))
    joined = model.embed(paddle.to_tensor(case["input_ids"]), features)
    assert relative(joined, case["out.text.inputs_embeds"]) < STAGES


@pytest.mark.parametrize("name", CASES)
def test_logits_and_loss_equal_transformers(model, cases, name):
    case = cases[name]
    seen, output = recorded(model, case)
    words = case["attention_mask"] > 0  # padding sees itself in transformers, nothing here; nobody reads it
    assert relative(seen["vision.neck"], case["out.vision.neck"].transpose(0, 2, 3, 1)) < STAGES
    assert relative(seen["projector"], case["out.projected"]) < STAGES
    assert relative(output.logits.numpy()[words], case["logits"][words]) < STAGES
    assert abs(float(output.loss) - case["loss_float64"]) < 5e-6


@pytest.mark.parametrize("name", CASES)
def test_every_gradient_equals_transformers(model, cases, got_tiny, arrays, name):
    theirs = arrays(got_tiny / f"{name}_grads.safetensors")
    model.clear_gradients()
    model(**inputs(cases[name])).loss.backward()
    ours = gradients(model)
    assert ours.keys() == theirs.keys() and len(ours) == 95
    errors = {key: relative(ours[key], theirs[key]) for key in theirs}
    assert max(errors.values()) < GRADIENTS, max(errors.items(), key=lambda item: item[1])


def by_their_names(model, value):
    """A value of every parameter, in torch's orientation and under the names of transformers' file."""
    layers = model.named_sublayers()
    linears = {f"{name}.weight" for name, layer in layers if isinstance(layer, paddle.nn.Linear)}
    return {
        layouts.to_theirs(name, "transformers"): value(parameter).T if name in linears else value(parameter)
        for name, parameter in model.named_parameters()
        if value(parameter) is not None
    }


def gradients(model):
    return by_their_names(model, lambda parameter: None if parameter.grad is None else parameter.grad.numpy())


@pytest.fixture(scope="module")
def recipe(got_tiny):
    return json.loads((got_tiny / "train.json").read_text())


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("variant", ["all", "frozen_vision", "trainer_groups"])
def test_five_steps_of_adamw_equal_transformers(got_tiny, cases, recipe, folder, variant, put_on):
    """lr 1e-3, betas 0.9 and 0.95, weight decay 0.1, gradient norm clipped to 1, the same batch each time."""
    model, expected = load_model(got_tiny / folder), recipe[variant]
    put_on(model)
    model.train()
    if variant == "frozen_vision":  # as the original code trains
        for parameter in model.vision.parameters():
            parameter.stop_gradient = True
    spared = {layouts.to_ours(name, "transformers") for name in expected.get("no_decay", [])}
    for name, parameter in model.named_parameters():
        parameter.name = name
    optimizer = paddle.optimizer.AdamW(
        1e-3,
        parameters=model.parameters(),
        beta1=0.9,
        beta2=0.95,
        epsilon=1e-8,
        weight_decay=0.1,
        apply_decay_param_fun=lambda name: name not in spared,
        grad_clip=paddle.nn.ClipGradByGlobalNorm(1.0),
    )
    batch, losses, norms = inputs(cases["batch"]), [], []
    for step in range(6):
        loss = model(**batch).loss
        losses.append(float(loss))
        if step < 5:
            loss.backward()
            norms.append(np.sqrt(sum(float((grad**2).sum()) for grad in gradients(model).values())))
            optimizer.step()
            optimizer.clear_grad()
    assert np.abs(np.array(losses) - expected["losses_float64"]).max() < 2e-5
    assert relative(norms, np.array(expected["grad_norms_float64"])) < 1e-5
    final = by_their_names(model, lambda parameter: parameter.numpy())
    assert final.keys() == expected["final"].keys()
    for name, value in final.items():
        # The key third of qkv.bias has no gradient in exact arithmetic (softmax drops what all keys share):
        # AdamW moves it by rounding noise, and transformers' own float32 and float64 differ by 1.3e-4 there.
        tolerance = 2e-4 if name.endswith("attn.qkv.bias") else 5e-5
        assert np.abs(value.ravel()[:4] - expected["final"][name]["first"]).max() < tolerance, name
        assert relative(np.sqrt((value**2).sum()), expected["final"][name]["l2"]) < tolerance, name


def test_recomputed_layers_give_the_same_gradients(got_tiny, cases, put_on):
    model = load_model(got_tiny)
    put_on(model)
    model.train()
    found = []
    for model.vision.enable_recompute in (False, True):
        model.clear_gradients()
        model(**inputs(cases["multi"])).loss.backward()
        found.append(gradients(model))
    assert max(relative(found[1][name], found[0][name]) for name in found[0]) == 0


def test_pixels_of_0_to_255_are_normalized_as_clip_does(model):
    view = np.random.default_rng(0).integers(0, 256, [1, 128, 128, 3], dtype="uint8")
    mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    expected = ((view / 255 - mean) / std).transpose(0, 3, 1, 2)
    assert relative(model.normalize(paddle.to_tensor(view)), expected) < 1e-6


def test_8_image_tokens_with_1_view_of_4_are_refused(model):
    ids = paddle.full([1, 8], model.config.image_token, "int64")
    with pytest.raises(ValueError, match="input_ids hold 8 image tokens; 1 views give 4"):
        model(ids, paddle.zeros([1, 3, 128, 128]))


def test_logits_without_labels_come_without_a_loss(model, cases):
    batch = inputs(cases["single"])
    del batch["labels"]
    output = model(**batch)
    assert output.loss is None
    assert relative(output.logits, cases["single"]["logits"]) < STAGES


@pytest.mark.parametrize("kind", ["qwen2", "opt"])
def test_two_samples_packed_in_a_row_equal_each_alone(random_model, kind, put_on):
    model, generator = random_model(kind), np.random.default_rng(1)
    put_on(model)
    lengths, image = (9, 6), [model.config.image_token] * 4
    rows = [[5, *image, *generator.integers(0, 39, n - 5)] for n in lengths]
    views = paddle.to_tensor(generator.normal(size=[2, 3, 64, 64]).astype("float32"))
    packed = model(
        paddle.to_tensor([[*rows[0], *rows[1], 0]]),
        views,
        attention_mask=paddle.to_tensor([[1] * 9 + [2] * 6 + [0]]),
        position_ids=paddle.to_tensor([[*range(9), *range(6), 0]]),
    ).logits.numpy()[0]
    alone = [model(paddle.to_tensor([row]), views[i : i + 1]).logits.numpy()[0] for i, row in enumerate(rows)]
    assert relative(packed[:15], np.concatenate(alone)) < STAGES


@pytest.mark.parametrize("kind", ["qwen2", "opt"])
def test_padding_on_either_side_changes_nothing(random_model, kind, put_on):
    model, ids = random_model(kind), np.random.default_rng(1).integers(2, 39, 7)
    put_on(model)
    alone = model(paddle.to_tensor(ids[None])).logits.numpy()[0]
    for before, after in ((3, 0), (0, 3)):
        mask = np.array([[0] * before + [1] * 7 + [0] * after])
        padded = np.pad(ids, (before, after))[None]
        places = np.clip(np.cumsum(mask, 1) - 1, 0, None)
        padded, mask, places = (paddle.to_tensor(array) for array in (padded, mask, places))
        output = model(padded, attention_mask=mask, position_ids=places)
        assert relative(output.logits.numpy()[0, before : before + 7], alone) < STAGES


def test_attention_equals_its_definition_written_as_loops():
    """Scores are q.k / sqrt(d) + q.R_h[row - row'] + q.R_w[column - column'], the last of plain q."""
    paddle.seed(0)
    side, heads, width = 3, 2, 4
    layer = Attention(2 * width, heads, side)
    for parameter in layer.parameters():
        parameter.set_value(paddle.randn(parameter.shape))
    x = paddle.randn([1, side, side, heads * width])
    q, k, v = layer.qkv(x).numpy().reshape(9, 3, heads, width).transpose(1, 2, 0, 3)
    rel_pos_h, rel_pos_w = layer.rel_pos_h.numpy(), layer.rel_pos_w.numpy()
    expected = np.zeros([9, heads, width])
    for head in range(heads):
        for i in range(9):
            scores = [
                q[head, i] @ k[head, j] / np.sqrt(width)
                + q[head, i] @ rel_pos_h[i // side - j // side + side - 1]
                + q[head, i] @ rel_pos_w[i % side - j % side + side - 1]
                for j in range(9)
            ]
            weights = np.exp(scores - np.max(scores))
            expected[i, head] = weights @ v[head] / weights.sum()
    expected = layer.proj(paddle.to_tensor(expected.reshape(1, side, side, 8).astype("float32")))
    assert relative(layer(x), expected.numpy()) < 1e-6


@pytest.mark.parametrize("side, window, count", [(8, 3, 9), (6, 3, 4), (4, 7, 1)])
def test_windows_are_in_reading_order_and_join_again_without_padding(side, window, count):
    x = np.random.default_rng(0).normal(size=[2, side, side, 5]).astype("float32")
    windows = window_partition(paddle.to_tensor(x), window, paddle.full([5], 7.0))
    assert windows.shape == [2 * count, window, window, 5]
    across = -(-side // window)
    edges = [(0, 0), (0, across * window - side), (0, across * window - side), (0, 0)]
    padded = np.pad(x, edges, constant_values=7.0)
    row, column = divmod(count - 1, across)
    last = padded[1, row * window : (row + 1) * window, column * window : (column + 1) * window]
    assert (windows[-1].numpy() == last).all()
    assert (window_unpartition(windows, side).numpy() == x).all()


@pytest.mark.parametrize("side, tokens", [(1024, 256), (128, 4), (112, 4), (144, 9), (16, 1)])
def test_tokens_of_a_view_are_what_the_encoder_gives(random_model, side, tokens):
    assert VisionConfig(image_side=side).view_tokens == tokens
    if side < 1024:
        vision = random_model(image_side=side, patch=16).vision
        assert vision(paddle.zeros([1, 3, side, side])).shape == [1, tokens, 16]


def test_the_released_sizes_have_560528640_parameters():
    with empty_init("float32"):
        model = Got(GotConfig())
    assert parameter_count(model) == 560_528_640
    counts = [parameter_count(model.part(part)) for part in ("vision", "projector", "decoder")]
    assert counts == [95_569_152, 1_049_600, 463_909_888]
    assert len(list(model.named_parameters())) == 471  # the file holds the head a second time: 472


def test_stage_1_has_221595648_parameters():
    opt = DecoderConfig(
        kind="opt", vocab_size=50272, width=768, layers=12, heads=12, mlp_width=3072, max_positions=2048
    )
    with empty_init("float32"):
        model = Got(GotConfig(decoder=opt, image_token=50271, pad_token=1))
    assert parameter_count(model.decoder) == 125_239_296
    assert parameter_count(model) == 221_595_648


@pytest.mark.parametrize(
    "part, sizes, message",
    [
        (VisionConfig, {"image_side": 1000}, "vision.image_side (1000) must be a multiple of vision.patch"),
        (VisionConfig, {"heads": 5}, "vision.width (768) must be a multiple of vision.heads (5)"),
        (VisionConfig, {"window": 0}, "vision.window must be at least 1; got 0"),
        (
            VisionConfig,
            {"global_layers": (2, 12)},
            "vision.global_layers: [12] are not layers; expected numbers in 0..11",
        ),
        (DecoderConfig, {"heads": 3}, "decoder.width (1024) must be a multiple of decoder.heads (3)"),
        (DecoderConfig, {"kv_heads": 3}, "decoder.heads (16) must be a multiple of decoder.kv_heads (3)"),
        (DecoderConfig, {"kind": "opt", "kv_heads": 4}, "decoder.kv_heads (4) must equal decoder.heads"),
        (DecoderConfig, {"kind": "gpt"}, "decoder.kind must be qwen2 or opt; got 'gpt'"),
        (GotConfig, {"image_token": 151860}, "image_token (151860) must be below decoder.vocab_size"),
    ],
)
def test_sizes_that_no_model_has_are_refused(part, sizes, message):
    with pytest.raises(ConfigError) as refused:
        part(**sizes)
    assert str(refused.value).startswith(message)


def test_a_config_survives_its_dictionary():
    config = GotConfig(decoder=DecoderConfig(kv_heads=4), stop_tokens=(7,), prompt_template="hub")
    assert GotConfig.from_dict(json.loads(json.dumps(config.as_dict()))) == config
