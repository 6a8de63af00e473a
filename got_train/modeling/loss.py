"""Cross-entropy of the decoder's last states without ever holding all logits.

8,192 tokens x 151,860 words are 5 GB in float32. Here rows are taken in chunks, and the gradients are
computed in the same pass, so that one chunk of logits is all that ever exists.
"""

# B batch  T tokens of a row  D width  R supervised tokens

import paddle
import paddle.nn.functional as F
from paddle.autograd import PyLayer

from got_train import compat

CHUNK_BYTES = 128 << 20  # of float32 logits that exist at once
GRAD_ROWS = 4096  # of the head's gradient that are computed at once, 16 MB in GOT


def chunk_rows(vocab_size: int) -> int:
    """Rows whose logits fit CHUNK_BYTES."""
    return max(1, CHUNK_BYTES // (4 * vocab_size))


def log_probabilities(hidden: paddle.Tensor, weight: paddle.Tensor) -> paddle.Tensor:
    """States (R, D) and head (vocabulary, D) -> log p (R, vocabulary) float32.

    Paddle's own log_softmax and cross_entropy stop at -64 on the CPU.
    """
    logits = paddle.matmul(hidden, weight, transpose_y=True).astype("float32")
    return logits - paddle.logsumexp(logits, axis=-1, keepdim=True)


class FusedLinearCrossEntropy(PyLayer):
    """hidden (R, D), weight (vocabulary, D), labels (R,) -> the sum of -log p, float32."""

    @staticmethod
    def forward(ctx, hidden, weight, labels):
        loss = paddle.zeros([], dtype="float32")
        hidden_grads = []
        # in float32: the sum over chunks would lose the small terms in bfloat16
        weight_grad = None if weight.stop_gradient else paddle.zeros_like(weight, dtype="float32")
        for start in range(0, hidden.shape[0], chunk_rows(weight.shape[0])):
            rows = slice(start, start + chunk_rows(weight.shape[0]))
            states = hidden[rows]
            chunk_loss, logits_grad = _loss_and_grad(states, weight, labels[rows])
            loss += chunk_loss
            hidden_grads.append(paddle.matmul(logits_grad, weight))
            if weight_grad is not None:
                _add_weight_grad(weight_grad, logits_grad, states)
            del logits_grad  # else two chunks would exist
        if weight_grad is not None:
            weight_grad = weight_grad.astype(weight.dtype)
        ctx.grads = [paddle.concat(hidden_grads), weight_grad]
        return loss

    @staticmethod
    def backward(ctx, grad_output):
        # in place: the head's is 0.6 GB; Paddle wants None for a frozen weight
        grads = [
            None if grad is None else grad.multiply_(grad_output.astype(grad.dtype)) for grad in ctx.grads
        ]
        ctx.grads = None
        return (*grads, None)


def _loss_and_grad(hidden, weight, labels) -> tuple[paddle.Tensor, paddle.Tensor]:
    """The sum of -log p over states (R, D), and its gradient by the logits, (R, vocabulary), in their place.

    gather_nd and index_put_, as take_along_axis and put_along_axis_ copy all logits on the CPU.
    """
    logits = paddle.matmul(hidden, weight, transpose_y=True).astype("float32")
    index = paddle.arange(labels.shape[0], dtype=labels.dtype), labels
    row_max, target = logits.max(-1), paddle.gather_nd(logits, paddle.stack(index, axis=1))
    probs = F.softmax_(logits)
    # the largest probability is 1 / sum exp(logit - row_max): a log that no small probability cuts off
    loss = -(target - row_max + probs.max(-1).log()).sum()
    logits_grad = probs.index_put_(index, paddle.full(labels.shape, -1.0), accumulate=True)
    return loss, logits_grad.astype(weight.dtype)


def _add_weight_grad(total: paddle.Tensor, logits_grad: paddle.Tensor, hidden: paddle.Tensor) -> None:
    """total (vocabulary, D) += logits_grad (R, vocabulary).T @ hidden (R, D), some rows at a time."""
    for start in range(0, total.shape[0], GRAD_ROWS):
        words = slice(start, start + GRAD_ROWS)
        rows = compat.rows_view(total, words.start, min(words.stop, total.shape[0]))
        rows.add_(paddle.matmul(logits_grad[:, words], hidden, transpose_x=True).astype(total.dtype))


def fused_linear_cross_entropy(
    hidden: paddle.Tensor, weight: paddle.Tensor, labels: paddle.Tensor, ignore_index: int
) -> tuple[paddle.Tensor, int]:
    """The sum of -log p over the supervised positions, and their number.

    hidden (B, T, D) are the last states, weight (vocabulary, D) the head, labels (B, T) the id *at* each
    position (the shift by one happens here) or `ignore_index`.
    """
    targets = labels[:, 1:].flatten()
    supervised = paddle.nonzero(targets != ignore_index).flatten()
    count = supervised.shape[0]
    if count == 0:  # the head too: the embedding's gradient alone would be rows, which no optimizer clips
        return (hidden.sum() + weight[:1].sum()) * 0.0, 0
    states = paddle.gather(hidden[:, :-1].flatten(0, 1), supervised)
    targets = paddle.gather(targets, supervised)
    if paddle.is_grad_enabled() and not (states.stop_gradient and weight.stop_gradient):
        return FusedLinearCrossEntropy.apply(states, weight, targets), count
    total = paddle.zeros([], dtype="float32")
    for start in range(0, count, chunk_rows(weight.shape[0])):
        rows = slice(start, start + chunk_rows(weight.shape[0]))
        log_p = log_probabilities(states[rows], weight)
        total -= paddle.take_along_axis(log_p, targets[rows].unsqueeze(-1), axis=1).sum()
    return total, count


class TokenLogProbs(PyLayer):
    """hidden (R, D), weight (vocabulary, D), labels (R,) -> log p of each label (R,), float32.

    The backward pass computes the logits again, chunk by chunk: what each log p weighs is known only then.
    """

    @staticmethod
    def forward(ctx, hidden, weight, labels):
        ctx.save_for_backward(hidden, weight, labels)
        return _log_probs_of(hidden, weight, labels)

    @staticmethod
    def backward(ctx, grad_output):
        hidden, weight, labels = ctx.saved_tensor()
        hidden_grads = []
        weight_grad = None if weight.stop_gradient else paddle.zeros_like(weight, dtype="float32")
        for start in range(0, hidden.shape[0], chunk_rows(weight.shape[0])):
            rows = slice(start, start + chunk_rows(weight.shape[0]))
            _, logits_grad = _loss_and_grad(hidden[rows], weight, labels[rows])  # of the sum of -log p
            logits_grad.multiply_((-grad_output[rows]).unsqueeze(-1).astype(logits_grad.dtype))
            hidden_grads.append(paddle.matmul(logits_grad, weight))
            if weight_grad is not None:
                _add_weight_grad(weight_grad, logits_grad, hidden[rows])
            del logits_grad
        return (
            paddle.concat(hidden_grads),
            None if weight_grad is None else weight_grad.astype(weight.dtype),
            None,
        )


def token_log_probs(hidden: paddle.Tensor, weight: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
    """log p of a label after each state; states (R, D), head (vocabulary, D), labels (R,) -> (R,)."""
    if paddle.is_grad_enabled() and not (hidden.stop_gradient and weight.stop_gradient):
        return TokenLogProbs.apply(hidden, weight, labels)
    return _log_probs_of(hidden, weight, labels)


@paddle.no_grad()
def _log_probs_of(hidden, weight, labels) -> paddle.Tensor:
    log_probs = []
    for start in range(0, hidden.shape[0], chunk_rows(weight.shape[0])):
        rows = slice(start, start + chunk_rows(weight.shape[0]))
        log_p = log_probabilities(hidden[rows], weight)
        log_probs.append(paddle.take_along_axis(log_p, labels[rows].unsqueeze(-1), axis=1).squeeze(-1))
    return paddle.concat(log_probs)
