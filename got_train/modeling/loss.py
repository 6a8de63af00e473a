"""Cross-entropy of the decoder's last states without ever holding all logits.

8,192 tokens x 151,860 words are 5 GB in float32. Here rows are taken in chunks, and the gradients are made in
the same pass, so that one chunk of logits is all that ever exists.
"""

import paddle
from paddle.autograd import PyLayer

CHUNK_BYTES = 128 << 20  # of float32 logits that exist at once


def chunk_rows(vocab_size: int) -> int:
    """Rows whose logits fit CHUNK_BYTES."""
    return max(1, CHUNK_BYTES // (4 * vocab_size))


def log_probabilities(states: paddle.Tensor, weight: paddle.Tensor) -> paddle.Tensor:
    """States (R, D) and head (vocabulary, D) -> log p (R, vocabulary) float32.

    Paddle's own log_softmax and cross_entropy stop at -64 on the CPU.
    """
    logits = paddle.matmul(states, weight, transpose_y=True).astype("float32")
    return logits - paddle.logsumexp(logits, axis=-1, keepdim=True)


class _SummedCrossEntropy(PyLayer):
    """hidden (R, D), weight (vocabulary, D), labels (R,) -> the sum of -log p, float32."""

    @staticmethod
    def forward(ctx, hidden, weight, labels):
        total = paddle.zeros([], dtype="float32")
        hidden_grads = []
        # in float32: the sum over chunks would lose the small terms in bfloat16
        weight_grad = None if weight.stop_gradient else paddle.zeros_like(weight, dtype="float32")
        for start in range(0, hidden.shape[0], chunk_rows(weight.shape[0])):
            rows = slice(start, start + chunk_rows(weight.shape[0]))
            states = hidden[rows]
            log_p = log_probabilities(states, weight)
            target = labels[rows].unsqueeze(-1)
            total -= paddle.take_along_axis(log_p, target, axis=1).sum()
            minus_one = paddle.full(target.shape, -1.0)
            slope = paddle.put_along_axis(log_p.exp(), target, minus_one, axis=1, reduce="add")
            slope = slope.astype(weight.dtype)
            hidden_grads.append(paddle.matmul(slope, weight))
            if weight_grad is not None:
                weight_grad += paddle.matmul(slope, states, transpose_x=True).astype("float32")
        if weight_grad is not None:
            weight_grad = weight_grad.astype(weight.dtype)
        ctx.save_for_backward(paddle.concat(hidden_grads), weight_grad)
        return total

    @staticmethod
    def backward(ctx, grad):
        hidden_grad, weight_grad = ctx.saved_tensor()
        if weight_grad is not None:  # Paddle wants None for a frozen weight
            weight_grad = weight_grad * grad.astype(weight_grad.dtype)
        return hidden_grad * grad.astype(hidden_grad.dtype), weight_grad, None


def summed_cross_entropy(
    hidden: paddle.Tensor, weight: paddle.Tensor, labels: paddle.Tensor, ignored: int
) -> tuple[paddle.Tensor, int]:
    """The sum of -log p over the supervised positions, and their number.

    hidden (B, T, D) are the last states, weight (vocabulary, D) the head, labels (B, T) the id *at* each
    position (the shift by one happens here) or `ignored`.
    """
    targets = labels[:, 1:].flatten()
    places = paddle.nonzero(targets != ignored).flatten()
    count = places.shape[0]
    if count == 0:
        return hidden.sum() * 0.0, 0
    states = paddle.gather(hidden[:, :-1].flatten(0, 1), places)
    targets = paddle.gather(targets, places)
    if paddle.is_grad_enabled() and not (states.stop_gradient and weight.stop_gradient):
        return _SummedCrossEntropy.apply(states, weight, targets), count
    total = paddle.zeros([], dtype="float32")
    for start in range(0, count, chunk_rows(weight.shape[0])):
        rows = slice(start, start + chunk_rows(weight.shape[0]))
        log_p = log_probabilities(states[rows], weight)
        total -= paddle.take_along_axis(log_p, targets[rows].unsqueeze(-1), axis=1).sum()
    return total, count
