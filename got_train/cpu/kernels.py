"""Kernels for the CPU: norms, activations, softmax, attention, rope, im2col. They know arrays, no layers.

All arrays are float32 in C order, or bits of bfloat16 where that is said. Sums over rows are taken as
NUM_PARTIALS partial sums, and elementwise work in blocks of BLOCK_SIZE, whatever the number of threads, so
that one thread and many give the same bits: the scalar tail of a block rounds otherwise than its vectors.
"""

# R rows  D width  b windows (or sequences) times heads  n queries  N keys  w window size  d head width
# V views  S side of a map  T side of what a convolution gives  C channels  k side of its kernel

from __future__ import annotations

import numpy as np
from numba import prange, types
from numba.extending import overload

from .jit import jit_inline
from .parallel_jit import parallel_jit

NUM_PARTIALS = 64  # sums over rows, whatever the number of threads
BLOCK_SIZE = 4096  # elements

_one, _half, _zero = np.float32(1), np.float32(0.5), np.float32(0)

# exp(r) - 1 - r over r^2 for |r| <= ln(2) / 2, by degree (Cephes' expf)
_E0, _E1, _E2, _E3, _E4, _E5 = (
    np.float32(x)
    for x in (0.5, 0.16666665459, 0.041665795894, 0.0083334519073, 0.0013981999507, 0.00019875691500)
)
_LOG2E, _LN2, _LN2_REST = np.float32(1.44269504), np.float32(0.693359375), np.float32(-2.12194440e-4)
_EXP_MIN = np.float32(-87)
_BIAS, _SHIFT = np.int32(127), np.int32(23)
_SIGN, _NO_SIGN = np.int32(31), np.int32(0x7FFFFFFF)
_HALF = np.int32(16)

# erf(x) = x P(x^2) / Q(x^2) for |x| <= 4, within 4e-7; 1 beyond
_P = tuple(
    np.float32(x)
    for x in (
        -1.60960333262415e-02, -2.95459980854025e-03, -7.34990630326855e-04, -5.69250639462346e-05,
        -2.10102402082508e-06, 2.77068142495902e-08, -2.72614225801306e-10,
    )
)  # fmt: skip
_Q = tuple(
    np.float32(x)
    for x in (
        -1.42647390514189e-02, -7.37332916720468e-03, -1.68282697438203e-03, -2.13374055278905e-04,
        -1.45660718464996e-05,
    )
)  # fmt: skip
_P0, _P1, _P2, _P3, _P4, _P5, _P6 = _P
_Q0, _Q1, _Q2, _Q3, _Q4 = _Q
_FOUR, _ROOT_HALF, _DENSITY = np.float32(4), np.float32(0.5**0.5), np.float32((2 * np.pi) ** -0.5)


def load_float32(x):
    """A float32, or the bits of a bfloat16 as one."""
    raise NotImplementedError("only inside kernels")


@overload(load_float32, inline="always")
def _load_float32(x):
    if x == types.uint16:
        return lambda x: np.int32(np.int32(x) << _HALF).view(np.float32)
    return lambda x: x


@jit_inline
def exp(x):
    """Of a number up to 88, within 4e-7 of it."""
    x = _EXP_MIN if x < _EXP_MIN else x  # nan stays
    n = np.floor(x * _LOG2E + _half)
    r = x - n * _LN2 - n * _LN2_REST
    tail = ((((_E5 * r + _E4) * r + _E3) * r + _E2) * r + _E1) * r + _E0
    power = np.int32((np.int32(n) + _BIAS) << _SHIFT).view(np.float32)
    return (tail * r * r + r + _one) * power


@jit_inline
def erf(x):
    x = _FOUR if x > _FOUR else x
    x = -_FOUR if x < -_FOUR else x
    s = x * x
    above = (((((_P6 * s + _P5) * s + _P4) * s + _P3) * s + _P2) * s + _P1) * s + _P0
    below = (((_Q4 * s + _Q3) * s + _Q2) * s + _Q1) * s + _Q0
    return x * above / below


@jit_inline
def sortable_bits(bits):
    """The bits of a float32 as an int32 of the same order (nan is the largest), and back."""
    return bits ^ ((bits >> _SIGN) & _NO_SIGN)


@jit_inline
def row_max(row):
    """As integers, since comparisons of floats stay one by one where nan is allowed for."""
    bits = row.view(np.int32)
    maximum = sortable_bits(bits[0])
    for i in range(bits.shape[0]):
        maximum = max(maximum, sortable_bits(bits[i]))
    return np.int32(sortable_bits(maximum)).view(np.float32)


@jit_inline
def softmax_(row):
    """Softmax in place."""
    maximum, total = row_max(row), _zero
    for i in range(row.shape[0]):
        power = exp(row[i] - maximum)
        total += power
        row[i] = power
    scale = _one / total
    for i in range(row.shape[0]):
        row[i] *= scale


@jit_inline
def softmax_backward_(probs, grad):
    """The gradient of a softmax by its input, in place of that by its output."""
    total = _zero
    for i in range(probs.shape[0]):
        total += probs[i] * grad[i]
    for i in range(probs.shape[0]):
        grad[i] = probs[i] * (grad[i] - total)


@parallel_jit
def add(x, y, out):
    for index in prange(-(-x.shape[0] // BLOCK_SIZE)):
        block = slice(index * BLOCK_SIZE, (index + 1) * BLOCK_SIZE)
        a, b, total = x[block], y[block], out[block]
        for i in range(total.shape[0]):
            total[i] = a[i] + b[i]


@parallel_jit
def add_bias(x, bias):
    """x (R, D) += bias (D,)."""
    for i in prange(x.shape[0]):
        for j in range(x.shape[1]):
            x[i, j] += bias[j]


@jit_inline
def mean_rstd(row, epsilon, centered):
    """Mean (0 where it is not subtracted) and reciprocal standard deviation."""
    width, mean, variance = np.float32(row.shape[0]), _zero, _zero
    if centered:
        for j in range(row.shape[0]):
            mean += row[j]
        mean /= width
    for j in range(row.shape[0]):
        variance += (row[j] - mean) * (row[j] - mean)
    return mean, _one / np.sqrt(variance / width + epsilon)


@parallel_jit
def layer_norm(x, weight, bias, epsilon, out):
    """Rows of x (R, D) with mean 0 and variance 1, times weight (D,), plus bias (D,)."""
    for i in prange(x.shape[0]):
        mean, rstd = mean_rstd(x[i], epsilon, True)
        for j in range(x.shape[1]):
            out[i, j] = (x[i, j] - mean) * rstd * weight[j] + bias[j]


@parallel_jit
def rms_norm(x, weight, epsilon, out):
    """The same without mean and bias."""
    for i in prange(x.shape[0]):
        _, rstd = mean_rstd(x[i], epsilon, False)
        for j in range(x.shape[1]):
            out[i, j] = x[i, j] * rstd * weight[j]


@parallel_jit
def norm_backward(x, weight, grad_output, epsilon, centered, grad_x, grad_weights, grad_biases):
    """Of either norm; those of weight and bias as (NUM_PARTIALS, D), to be added up."""
    rows, width = x.shape
    for part in prange(NUM_PARTIALS):
        grad_weights[part] = _zero
        grad_biases[part] = _zero
        for i in range(part * rows // NUM_PARTIALS, (part + 1) * rows // NUM_PARTIALS):
            mean, rstd = mean_rstd(x[i], epsilon, centered)
            mean_grad, mean_grad_x_hat = _zero, _zero
            for j in range(width):
                x_hat, grad = (x[i, j] - mean) * rstd, grad_output[i, j]
                grad_weights[part, j] += grad * x_hat
                grad_biases[part, j] += grad
                mean_grad += grad * weight[j]
                mean_grad_x_hat += grad * weight[j] * x_hat
            mean_grad = mean_grad / np.float32(width) if centered else _zero
            mean_grad_x_hat /= np.float32(width)
            for j in range(width):
                x_hat = (x[i, j] - mean) * rstd
                grad_x[i, j] = (grad_output[i, j] * weight[j] - mean_grad - x_hat * mean_grad_x_hat) * rstd


@parallel_jit
def gelu(x, out):
    """x times the normal distribution function of x, exactly (erf)."""
    for index in prange(-(-x.shape[0] // BLOCK_SIZE)):
        block = slice(index * BLOCK_SIZE, (index + 1) * BLOCK_SIZE)
        a, y = x[block], out[block]
        for i in range(y.shape[0]):
            y[i] = _half * a[i] * (_one + erf(a[i] * _ROOT_HALF))


@parallel_jit
def gelu_backward(x, grad_output, out):
    for index in prange(-(-x.shape[0] // BLOCK_SIZE)):
        block = slice(index * BLOCK_SIZE, (index + 1) * BLOCK_SIZE)
        a, grad, y = x[block], grad_output[block], out[block]
        for i in range(y.shape[0]):
            below = _half * (_one + erf(a[i] * _ROOT_HALF))
            y[i] = grad[i] * (below + a[i] * _DENSITY * exp(-_half * a[i] * a[i]))


@parallel_jit
def swiglu(gate, up, out):
    """gate * sigmoid(gate) * up."""
    for index in prange(-(-gate.shape[0] // BLOCK_SIZE)):
        block = slice(index * BLOCK_SIZE, (index + 1) * BLOCK_SIZE)
        g, u, y = gate[block], up[block], out[block]
        for i in range(y.shape[0]):
            y[i] = g[i] / (_one + exp(-g[i])) * u[i]


@parallel_jit
def swiglu_backward(gate, up, grad_output, grad_gate, grad_up):
    for index in prange(-(-gate.shape[0] // BLOCK_SIZE)):
        block = slice(index * BLOCK_SIZE, (index + 1) * BLOCK_SIZE)
        g, u, grad, to_gate, to_up = (
            gate[block],
            up[block],
            grad_output[block],
            grad_gate[block],
            grad_up[block],
        )
        for i in range(g.shape[0]):
            sigmoid = _one / (_one + exp(-g[i]))
            to_gate[i] = grad[i] * u[i] * sigmoid * (_one + g[i] * (_one - sigmoid))
            to_up[i] = grad[i] * g[i] * sigmoid


@parallel_jit
def rel_pos_softmax(scores, rel_terms, start, scale):
    """In place of the products (b, n, w*w) of n queries, from `start` on, with all keys: attention weights.

    rel_terms (b, n, 2 * (2w - 1)) holds for each query what a key so many columns, then rows after it adds.
    """
    queries = scores.shape[1]
    side = (rel_terms.shape[2] // 2 + 1) // 2
    for index in prange(scores.shape[0] * queries):
        head, query = index // queries, index % queries
        right, down = side - 1 - (start + query) % side, 3 * side - 2 - (start + query) // side
        column_terms, row_terms = (
            rel_terms[head, query, right : right + side],
            rel_terms[head, query, down : down + side],
        )
        for k in range(side):
            line, row_term = scores[head, query, k * side : (k + 1) * side], row_terms[k]
            for j in range(side):
                line[j] = scale * line[j] + row_term + column_terms[j]
        softmax_(scores[head, query])


@parallel_jit
def rel_pos_softmax_backward(probs, grad, start, scale, grad_terms):
    """By the products, in place of the gradient by the weights; by rel_terms in grad_terms, written whole."""
    queries = probs.shape[1]
    side = (grad_terms.shape[2] // 2 + 1) // 2
    for index in prange(probs.shape[0] * queries):
        head, query = index // queries, index % queries
        softmax_backward_(probs[head, query], grad[head, query])
        grad_terms[head, query] = _zero
        right, down = side - 1 - (start + query) % side, 3 * side - 2 - (start + query) // side
        column_grads = grad_terms[head, query, right : right + side]
        for k in range(side):
            line, row_grad = grad[head, query, k * side : (k + 1) * side], _zero
            for j in range(side):
                row_grad += line[j]
                column_grads[j] += line[j]
                line[j] *= scale
            grad_terms[head, query, down + k] = row_grad


@parallel_jit
def causal_softmax(scores, segment_start, offset, scale):
    """In place of products (b, n, N): softmax from key segment_start (rows, n) to the query's own.

    Query t stands where key offset + t does; each row has as many heads.
    """
    queries, keys = scores.shape[1:]
    heads = scores.shape[0] // segment_start.shape[0]
    for index in prange(scores.shape[0] * queries):
        head, query = index // queries, index % queries
        start, stop = segment_start[head // heads, query], offset + query + 1
        row = scores[head, query]
        row[:start] = _zero
        row[stop:] = _zero
        row[start:stop] *= scale
        softmax_(row[start:stop])


@parallel_jit
def softmax_backward(probs, grad, scale):
    """By the products (b, n, N), in place of the gradient by the weights; hidden keys have weight 0."""
    queries = probs.shape[1]
    for index in prange(probs.shape[0] * queries):
        row = grad[index // queries, index % queries]
        softmax_backward_(probs[index // queries, index % queries], row)
        row *= scale


@parallel_jit
def small_batch_matmul(x, matrix, out):
    """x (R, D) times matrix (N, D) transposed, which is read once for four rows: out (R, N).

    The matrix may be bfloat16.
    """
    rows, width = x.shape
    for column in prange(matrix.shape[0]):
        for row in range(0, rows, 4):
            # a row that is not there is the last one again
            a, b, c = min(row + 1, rows - 1), min(row + 2, rows - 1), min(row + 3, rows - 1)
            first, second, third, fourth = _zero, _zero, _zero, _zero
            for j in range(width):
                value = load_float32(matrix[column, j])
                first += x[row, j] * value
                second += x[a, j] * value
                third += x[b, j] * value
                fourth += x[c, j] * value
            out[row, column], out[a, column], out[b, column], out[c, column] = first, second, third, fourth


@parallel_jit
def int8_matmul(x, matrix, scale, out):
    """x (R, D) times int8 matrix (N, D) transposed, of which row n stands for scale[n] times it: out (R, N).

    As small_batch_matmul; one row by itself, as a quarter of the bytes leaves no time for idle products.
    """
    rows, width = x.shape
    for column in prange(matrix.shape[0]):
        factor = scale[column]
        if rows == 1:
            total = _zero
            for j in range(width):
                total += x[0, j] * np.float32(matrix[column, j])
            out[0, column] = total * factor
        else:
            for row in range(0, rows, 4):
                a, b, c = min(row + 1, rows - 1), min(row + 2, rows - 1), min(row + 3, rows - 1)
                first, second, third, fourth = _zero, _zero, _zero, _zero
                for j in range(width):
                    value = np.float32(matrix[column, j])
                    first += x[row, j] * value
                    second += x[a, j] * value
                    third += x[b, j] * value
                    fourth += x[c, j] * value
                out[row, column], out[a, column] = first * factor, second * factor
                out[b, column], out[c, column] = third * factor, fourth * factor


@parallel_jit
def dequantize(matrix, scale, out):
    """int8 (N, D) with a scale (N,) for each row as float32."""
    for i in prange(matrix.shape[0]):
        row, wide, factor = matrix[i], out[i], scale[i]
        for j in range(row.shape[0]):
            wide[j] = np.float32(row[j]) * factor


@parallel_jit
def to_float32(x, out):
    """bfloat16 x (R, D) as float32."""
    for i in prange(x.shape[0]):
        row, wide = x[i], out[i]
        for j in range(row.shape[0]):
            wide[j] = load_float32(row[j])


@parallel_jit
def decode_attention(q, k, v, mask, scale, attn_weights, out):
    """One query of each head, q (B, K, G, d), over keys (B, K, L, d) and values (B, K, d, L) -> out like q.

    mask (B, N) is added to the scores of the first N keys, the others are not read; attn_weights (B * K, N).
    """
    heads, length, width = q.shape[1], mask.shape[1], q.shape[3]
    for index in prange(q.shape[0] * heads):
        row, head = index // heads, index % heads
        probs = attn_weights[index]
        for member in range(q.shape[2]):
            for i in range(length):
                score = _zero
                for j in range(width):
                    score += q[row, head, member, j] * k[row, head, i, j]
                probs[i] = scale * score + mask[row, i]
            softmax_(probs)
            for j in range(width):
                mean = _zero
                for i in range(length):
                    mean += probs[i] * v[row, head, j, i]
                out[row, head, member, j] = mean


@parallel_jit
def split_heads(x, pad_value, window, part, out):
    """x (V, S, S, K*H*d) -> part 0 .. K-1, out (V*c*c*H, w*w, d), in windows; pad_value (K*H*d,) fills up."""
    side, d = x.shape[1], out.shape[2]
    count = -(-side // window)
    heads = out.shape[0] // (x.shape[0] * count * count)
    for line in prange(x.shape[0] * count * count * window):
        index, i = line // window, line % window
        row = index // count % count * window + i
        for j in range(window):
            column = index % count * window + j
            inside = row < side and column < side
            source = x[index // (count * count), row, column] if inside else pad_value
            for head in range(heads):
                start = (part * heads + head) * d
                out[index * heads + head, i * window + j] = source[start : start + d]


@parallel_jit
def merge_heads(x, window, part, out):
    """The inverse: x (V*c*c*H, w*w, d) -> its part of out (V, S, S, K*H*d), without the padding."""
    side, d = out.shape[1], x.shape[2]
    count = -(-side // window)
    heads = x.shape[0] // (out.shape[0] * count * count)
    for line in prange(out.shape[0] * side):
        view, row = line // side, line % side
        for column in range(side):
            index = (view * count + row // window) * count + column // window
            position = row % window * window + column % window
            for head in range(heads):
                start = (part * heads + head) * d
                out[view, row, column, start : start + d] = x[index * heads + head, position]


@parallel_jit
def padding_grad(x, views, side, window, out):
    """The sum of x (V*c*c*H, w*w, d) over the padding of maps of side x side: out (H, d)."""
    count = -(-side // window)
    heads = out.shape[0]
    for head in prange(heads):
        total = out[head]
        total[:] = _zero
        for index in range(views * count * count):
            for position in range(window * window):
                row = index // count % count * window + position // window
                if row >= side or index % count * window + position % window >= side:
                    total += x[index * heads + head, position]


@parallel_jit
def im2col(x, stride, padding, out):
    """x (V, S, S, C) -> out (V, T, T, k, k*C): the patches that a convolution sees, zeros beyond the map."""
    side, channels = x.shape[1], x.shape[3]
    count, size = out.shape[1], out.shape[3]
    for index in prange(x.shape[0] * count):
        view, row = index // count, index % count
        for column in range(count):
            left = column * stride - padding
            before, after = max(-left, 0) * channels, min(side - left, size) * channels
            for i in range(size):
                y, line = row * stride - padding + i, out[view, row, column, i]
                if y < 0 or y >= side:
                    line[:] = _zero
                    continue
                line[:before] = _zero
                line[after:] = _zero
                inside, source = line[before:after], x[view, y].reshape(-1)[max(left, 0) * channels :]
                for j in range(inside.shape[0]):
                    inside[j] = source[j]


@parallel_jit
def col2im(x, stride, padding, out):
    """The transpose of im2col: x (V, T, T, k, k*C) -> out (V, S, S, C), overlaps added up."""
    count, size = x.shape[1], x.shape[3]
    side, channels = out.shape[1], out.shape[3]
    for index in prange(out.shape[0] * side):
        view, y = index // side, index % side
        out[view, y] = _zero
        for i in range(size):
            row = (y + padding - i) // stride
            if row * stride != y + padding - i or row < 0 or row >= count:
                continue
            for column in range(count):
                left = column * stride - padding
                before, after = max(-left, 0) * channels, min(side - left, size) * channels
                inside = x[view, row, column, i, before:after]
                total = out[view, y].reshape(-1)[max(left, 0) * channels :]
                for j in range(inside.shape[0]):
                    total[j] += inside[j]


@parallel_jit
def apply_rope(x, cos, sin, out):
    """Rotary positions: x (B, T, H, d) by cos and sin (B, T, d) -> out (B, H, T, d)."""
    tokens, heads, half = x.shape[1], x.shape[2], x.shape[3] // 2
    for index in prange(x.shape[0] * tokens):
        row, token = index // tokens, index % tokens
        c, s = cos[row, token], sin[row, token]
        for head in range(heads):
            a, b, y = x[row, token, head, :half], x[row, token, head, half:], out[row, head, token]
            for j in range(half):
                y[j] = a[j] * c[j] - b[j] * s[j]
                y[half + j] = b[j] * c[half + j] + a[j] * s[half + j]


@parallel_jit
def apply_rope_backward(x, cos, sin, out):
    """The transpose of apply_rope: x (B, H, T, d) -> out (B, T, H, d)."""
    heads, tokens, half = x.shape[1], x.shape[2], x.shape[3] // 2
    for index in prange(x.shape[0] * tokens):
        row, token = index // tokens, index % tokens
        c, s = cos[row, token], sin[row, token]
        for head in range(heads):
            a, b, y = x[row, head, token, :half], x[row, head, token, half:], out[row, token, head]
            for j in range(half):
                y[j] = a[j] * c[j] + b[j] * s[half + j]
                y[half + j] = b[j] * c[half + j] - a[j] * s[j]
