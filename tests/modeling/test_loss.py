"""The chunked cross-entropy against numpy in float64: value and gradients, for any number of labels."""

import numpy as np
import paddle
import pytest
from paddle.base import core

from got_train.modeling import loss
from got_train.modeling.config import DecoderConfig
from got_train.modeling.cpu.accelerate import accelerate
from got_train.modeling.decoder import build_decoder
from got_train.modeling.loss import chunk_rows, fused_linear_cross_entropy

ROWS, TOKENS, WIDTH, WORDS = 3, 11, 6, 17
IGNORED = -100


def tensors(hidden, weight):
    made = paddle.to_tensor(hidden.astype("float32")), paddle.to_tensor(weight.astype("float32"))
    for tensor in made:
        tensor.stop_gradient = False
    return made


@pytest.fixture
def hidden():
    return np.random.default_rng(0).normal(size=[ROWS, TOKENS, WIDTH])


@pytest.fixture
def weight():
    return np.random.default_rng(1).normal(size=[WORDS, WIDTH])


def labelled(count):
    """Labels of which `count` are supervised, in random places after the first of a row."""
    generator = np.random.default_rng(2)
    labels = np.full([ROWS, TOKENS], IGNORED)
    labels[:, 0] = 3  # nothing comes before it, so that nothing can predict it
    places = generator.permutation(ROWS * (TOKENS - 1))[:count]
    rows, columns = places // (TOKENS - 1), places % (TOKENS - 1) + 1
    labels[rows, columns] = generator.integers(0, WORDS, count)
    return labels


def by_numpy(hidden, weight, labels):
    """The sum of -log p of every label, seen from the position before it, with its gradients."""
    total, hidden_grad, weight_grad = 0.0, np.zeros_like(hidden), np.zeros_like(weight)
    for row, column in np.argwhere(labels[:, 1:] != IGNORED):
        state, label = hidden[row, column], labels[row, column + 1]
        scores = weight @ state
        p = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
        total -= np.log(p[label])
        p[label] -= 1
        hidden_grad[row, column] += p @ weight
        weight_grad += np.outer(p, state)
    return total, hidden_grad, weight_grad


@pytest.mark.parametrize("rows_at_once", [1, 4, 1000])
@pytest.mark.parametrize("count", [1, 7, 30])
def test_value_and_gradients_equal_numpy_in_chunks_of_any_size(
    monkeypatch, hidden, weight, count, rows_at_once
):
    monkeypatch.setattr(loss, "CHUNK_BYTES", rows_at_once * 4 * WORDS)
    labels = labelled(count)
    expected, hidden_grad, weight_grad = by_numpy(hidden, weight, labels)
    states, head = tensors(hidden, weight)
    total, found = fused_linear_cross_entropy(states, head, paddle.to_tensor(labels), IGNORED)
    (total * 0.5).backward()
    assert found == count
    assert abs(float(total) - expected) < 1e-6 * expected
    assert np.abs(states.grad.numpy() * 2 - hidden_grad).max() < 1e-6
    assert np.abs(head.grad.numpy() * 2 - weight_grad).max() < 2e-6
    with paddle.no_grad():
        again, _ = fused_linear_cross_entropy(states, head, paddle.to_tensor(labels), IGNORED)
    assert abs(float(again) - expected) < 1e-6 * expected


def test_no_label_gives_0_and_gradients_of_0(hidden, weight):
    states, head = tensors(hidden, weight)
    total, count = fused_linear_cross_entropy(states, head, paddle.to_tensor(labelled(0)), IGNORED)
    total.backward()
    assert (float(total), count) == (0.0, 0)
    assert np.abs(states.grad.numpy()).max() == 0
    assert head.grad is None or np.abs(head.grad.numpy()).max() == 0


@pytest.mark.parametrize("frozen", ["weight", "both"])
def test_a_frozen_head_gets_no_gradient_and_the_states_the_right_one(hidden, weight, frozen):
    labels = labelled(7)
    expected, hidden_grad, _ = by_numpy(hidden, weight, labels)
    states, head = tensors(hidden, weight)
    head.stop_gradient, states.stop_gradient = True, frozen == "both"
    total, _ = fused_linear_cross_entropy(states, head, paddle.to_tensor(labels), IGNORED)
    assert abs(float(total) - expected) < 1e-6 * expected
    assert total.stop_gradient == (frozen == "both")
    if frozen == "weight":
        total.backward()
        assert np.abs(states.grad.numpy() - hidden_grad).max() < 1e-6
    assert head.grad is None


def test_no_more_logits_exist_than_a_chunk_holds(monkeypatch, hidden, weight):
    monkeypatch.setattr(loss, "CHUNK_BYTES", 4 * 4 * WORDS)
    seen, softmax = [], loss.F.softmax_

    def watched(scores):
        seen.append(scores.shape)
        return softmax(scores)

    monkeypatch.setattr(loss.F, "softmax_", watched)
    states, head = tensors(hidden, weight)
    fused_linear_cross_entropy(states, head, paddle.to_tensor(labelled(10)), IGNORED)
    assert seen == [[4, WORDS], [4, WORDS], [2, WORDS]]


def test_220_rows_of_the_released_vocabulary_fit_a_chunk_and_one_row_always_does():
    assert chunk_rows(151_860) == 220  # of 128 MiB
    assert chunk_rows(10**9) == 1


def test_scores_of_a_thousand_neither_overflow_nor_vanish():
    weight = np.zeros([WORDS, WIDTH])
    weight[:, 0] = 1000 + 3 * np.arange(WORDS)
    hidden = np.zeros([1, 2, WIDTH])
    hidden[..., 0] = 1
    states, head = tensors(hidden, weight)
    for label in (WORDS - 1, 0):
        total, _ = fused_linear_cross_entropy(states, head, paddle.to_tensor([[0, label]]), IGNORED)
        expected = np.logaddexp.reduce(weight[:, 0]) - weight[label, 0]  # 0.05 and 48.05
        assert abs(float(total) - expected) < 1e-4


def test_a_loss_above_64_is_not_capped():
    weight = paddle.to_tensor([[0.0, 0.0], [100.0, 0.0]])
    hidden = paddle.to_tensor([[[1.0, 0.0], [1.0, 0.0]]])
    labels = paddle.to_tensor([[0, 0]])
    with paddle.no_grad():
        assert float(fused_linear_cross_entropy(hidden, weight, labels, -100)[0]) == pytest.approx(100)
    hidden.stop_gradient = False
    assert float(fused_linear_cross_entropy(hidden, weight, labels, -100)[0]) == pytest.approx(100)


def small_decoder(kind):
    return build_decoder(
        DecoderConfig(kind=kind, vocab_size=WORDS, width=8, layers=1, heads=2, kv_heads=2, mlp_width=8)
    )


def joint(decoder, ids, labels):
    """The loss of words that are their own states, by the one table of embedding and head."""
    return fused_linear_cross_entropy(decoder.embed(ids), decoder.head, labels, IGNORED)[0]


@pytest.mark.parametrize("kind", ["qwen2", "opt"])
@pytest.mark.parametrize("counts", [(7,), (7, 30), (0,), (0, 7), (7, 0)])
@pytest.mark.parametrize("put_on", [accelerate, lambda decoder: None])
def test_embedding_and_head_have_one_dense_gradient_the_sum_of_both(kind, counts, put_on):
    """Over the batches of an accumulated step; a word that comes twice counts twice."""
    decoder = build_decoder(
        DecoderConfig(kind=kind, vocab_size=WORDS, width=8, layers=1, heads=2, mlp_width=8)
    )
    put_on(decoder)
    ids = np.random.default_rng(3).integers(0, WORDS, [ROWS, TOKENS])
    table, expected = decoder.head.numpy().astype("float64"), np.zeros(decoder.head.shape)
    for count in counts:
        joint(decoder, paddle.to_tensor(ids), paddle.to_tensor(labelled(count))).backward()
        _, hidden_grad, weight_grad = by_numpy(table[ids], table, labelled(count))
        expected += weight_grad
        np.add.at(expected, ids, hidden_grad)
    assert decoder.head.grad.is_dense()
    assert np.abs(decoder.head.grad.numpy() - expected).max() < 1e-5
    optimizer = paddle.optimizer.AdamW(
        parameters=[decoder.head], grad_clip=paddle.nn.ClipGradByGlobalNorm(1.0)
    )
    optimizer.step()


def test_the_gradients_of_a_table_of_64_mb_take_no_second_one():
    words, width = 16_384, 1024
    decoder = build_decoder(DecoderConfig(vocab_size=words, width=width, layers=1, heads=16, mlp_width=8))
    accelerate(decoder)
    ids = paddle.arange(64).unsqueeze(0)
    core.host_memory_stat_reset_peak_value("Allocated", 0)
    before = core.host_memory_stat_current_value("Allocated", 0)
    joint(decoder, ids, ids).backward()
    taken = core.host_memory_stat_peak_value("Allocated", 0) - before
    assert 64 << 20 < taken < 90 << 20  # the gradient, some rows of it again, and logits
    assert core.host_memory_stat_current_value("Allocated", 0) - before < 65 << 20


def test_a_frozen_table_gets_no_gradient_from_its_words():
    decoder = small_decoder("qwen2")
    decoder.head.stop_gradient = True
    shift = paddle.zeros([8])
    shift.stop_gradient = False
    ids = paddle.to_tensor(labelled(30)).clip(min=0)
    fused_linear_cross_entropy(decoder.embed(ids) + shift, decoder.head, ids, IGNORED)[0].backward()
    assert decoder.head.grad is None
    assert np.abs(shift.grad.numpy()).max() > 0
