"""What boxes of characters teach, against numpy."""

import numpy as np
import paddle
import pytest

from got_train.errors import ConfigError
from got_train.modeling.config import IGNORED
from got_train.modeling.cpu.accelerate import accelerate
from got_train.training.loss import TrainingLoss, patches_by_token

IMAGE, PATCHES = 39, 8  # the model's image token; patches of a side of a view
BATCH = {
    "input_ids": [[5, 39, 39, 39, 39, 7, 8, 9, 10], [39, 39, 39, 39, 11, 12, 13, 0, 0]],
    "labels": [[-100] * 6 + [8, 9, 10], [-100] * 5 + [12, 13] + [-100] * 2],
    "attention_mask": [[1] * 9, [1] * 7 + [0, 0]],
    "attention_labels": [[-100] * 5 + [2, 4, -100, -100], [-100] * 4 + [0, 3] + [-100] * 3],
}


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def made(model, **weights):
    paddle.seed(0)
    loss = TrainingLoss(model, **weights).train()
    side = model.config.vision.image_side
    generator = np.random.default_rng(1)
    arrays = {name: np.array(rows) for name, rows in BATCH.items()}
    arrays["pixel_values"] = generator.integers(0, 256, [2, side, side, 3], dtype=np.uint8)
    labels = generator.integers(0, 40, [2, model.config.vision.grid, model.config.vision.grid])
    arrays["char_labels"] = np.where(generator.random(labels.shape) < 0.3, IGNORED, labels)
    return loss, arrays


def value(loss, arrays, **more):
    return float(
        loss(**{name: paddle.to_tensor(array) for name, array in arrays.items()}, step_tokens=5, **more)
    )


def added(model, weights, **counts):
    """What a weighted loss adds to that of the answers; the loss and the arrays it was given."""
    loss, arrays = made(model, **weights)
    answers = {name: array for name, array in arrays.items() if "_labels" not in name}
    return value(loss, arrays, **counts) - value(TrainingLoss(model).train(), answers), loss, arrays


def test_the_patches_of_a_view_token_are_those_below_it():
    """4 x 4 patches, 2 x 2 view tokens: the first covers patches 0, 1, 4, 5."""
    patches = paddle.arange(16).reshape([1, 4, 4])
    tokens = [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    assert patches_by_token(patches, 4).numpy().tolist() == [tokens]


@pytest.mark.parametrize("is_accelerated", [False, True])
def test_view_tokens_name_the_characters_of_their_patches_as_numpy_sums_it(
    random_model, within, is_accelerated
):
    model = random_model()
    if is_accelerated:
        accelerate(model)
    found, loss, arrays = added(model, {"token_char_loss_weight": 3.0}, step_patches=7)
    features = model.encode(paddle.to_tensor(arrays["pixel_values"])).numpy()  # (2, 4, 16)
    head = loss.token_char_head
    logits = (features @ head.weight.numpy() + head.bias.numpy()).reshape([2, 4, -1, 40])
    grid, expected = model.config.vision.grid, 0.0
    for view in range(2):
        for row in range(grid):
            for column in range(grid):
                label = arrays["char_labels"][view, row, column]
                half = grid // 2
                token, patch = row // half * 2 + column // half, row % half * half + column % half
                if label != IGNORED:
                    expected -= log_softmax(logits[view, token, patch])[label]
    within("the loss, relative", abs(found - 3 * expected / 7) / found, 1e-5)


@pytest.mark.parametrize("is_accelerated", [False, True])
def test_the_first_head_of_the_last_layer_is_told_where_to_look_as_numpy_sums_it(
    random_model, within, is_accelerated
):
    model = random_model()
    if is_accelerated:
        accelerate(model)
    found, _, arrays = added(model, {"attention_loss_weight": 2.0}, step_attention_labels=4)
    inputs = []
    decoder = model.decoder
    hook = decoder.layers[1].register_forward_pre_hook(lambda layer, given: inputs.append(given[0].numpy()))
    views = model.encode(paddle.to_tensor(arrays["pixel_values"]))
    model.decode(paddle.to_tensor(arrays["input_ids"]), views, paddle.to_tensor(arrays["attention_mask"]))
    hook.remove()
    x, layer = inputs[0].astype("float64"), decoder.layers[1]
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + model.config.decoder.norm_eps)
    x = x * layer.input_layernorm.weight.numpy()
    width = layer.self_attn.head_dim
    angles = np.arange(9)[:, None] * model.config.decoder.rope_theta ** (-np.arange(0, width, 2) / width)

    def turned(projection):
        first = x @ projection.weight.numpy()[:, :width] + projection.bias.numpy()[:width]
        left, right = np.split(first, 2, axis=-1)
        cos, sin = np.cos(angles), np.sin(angles)
        return np.concatenate([left * cos - right * sin, right * cos + left * sin], -1)

    q, k = turned(layer.self_attn.q_proj), turned(layer.self_attn.k_proj)
    expected = 0.0
    for row, labels in enumerate(BATCH["attention_labels"]):
        for place, label in enumerate(labels):
            if label != IGNORED:  # no padding stands before it
                scores = q[row, place] @ k[row, : place + 1].T / np.sqrt(width)
                expected -= log_softmax(scores)[label]
    within("the loss, relative", abs(found - 2 * expected / 4) / found, 1e-5)


def test_a_packed_row_looks_at_its_own_sample_only(random_model):
    """With everything before it in the row, it would look at the neighbour's view as well."""
    loss, arrays = made(random_model(), attention_loss_weight=1.0)
    plain = value(loss, arrays, step_attention_labels=1)
    first, second = ({name: rows[i] for name, rows in BATCH.items()} for i in (0, 1))
    packed = {name: np.array([[*first[name], *second[name][:7]]]) for name in BATCH}
    packed["attention_mask"][0, 9:] = 2
    packed["attention_labels"][0, 9:] += np.where(packed["attention_labels"][0, 9:] == IGNORED, 0, 9)
    packed["position_ids"] = np.array([[*range(9), *range(7)]])
    packed |= {name: arrays[name] for name in ("pixel_values", "char_labels")}
    assert value(loss, packed, step_attention_labels=1) == pytest.approx(plain, rel=1e-5)


def test_opt_is_not_told_where_to_look(random_model):
    with pytest.raises(ConfigError, match=r"train\.attention_loss_weight \(1\.0\): .* kind opt"):
        TrainingLoss(random_model("opt"), attention_loss_weight=1.0)
