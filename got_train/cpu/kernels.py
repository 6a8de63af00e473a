"""The loops behind norms, activations, softmax, heads and positions on the CPU. They know arrays, no layers.

All arrays are float32 in C order, or bits of bfloat16 where that is said. Sums over rows are taken in SLICES
parts, and numbers one by one in parts of PART, whatever the number of threads, so that one thread and many
give the same bits: the last of a part are rounded otherwise than those that go through the vectors of the
processor.
"""

# R rows  D width  b squares or heads  n queries  N keys  w side of a square  d head width
# V views  S side of a map  T side of what a convolution gives  C channels  k side of its kernel

from __future__ import annotations

import numpy as np
from numba import prange, types
from numba.extending import overload

from .jit import inlined
from .parallel_jit import compiled

SLICES = 64  # of the rows, each with a sum of its own
PART = 4096  # numbers

_one, _half, _zero = np.float32(1), np.float32(0.5), np.float32(0)

# exp(r) - 1 - r over r^2 for |r| <= ln(2) / 2, by degree (Cephes' expf)
_E0, _E1, _E2, _E3, _E4, _E5 = (
    np.float32(x)
    for x in (0.5, 0.16666665459, 0.041665795894, 0.0083334519073, 0.0013981999507, 0.00019875691500)
)
_LOG2E, _LN2, _LN2_REST = np.float32(1.44269504), np.float32(0.693359375), np.float32(-2.12194440e-4)
_LEAST = np.float32(-87)
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


def number(x):
    """A float32, or the bits of a bfloat16 as one."""
    raise NotImplementedError("in compiled loops only")


@overload(number, inline="always")
def _number(x):
    if x == types.uint16:
        return lambda x: np.int32(np.int32(x) << _HALF).view(np.float32)
    return lambda x: x


@inlined
def exp(x):
    """Of a number up to 88, within 4e-7 of it."""
    x = _LEAST if x < _LEAST else x  # nan stays
    n = np.floor(x * _LOG2E + _half)
    r = x - n * _LN2 - n * _LN2_REST
    tail = ((((_E5 * r + _E4) * r + _E3) * r + _E2) * r + _E1) * r + _E0
    power = np.int32((np.int32(n) + _BIAS) << _SHIFT).view(np.float32)
    return (tail * r * r + r + _one) * power


@inlined
def erf(x):
    x = _FOUR if x > _FOUR else x
    x = -_FOUR if x < -_FOUR else x
    s = x * x
    above = (((((_P6 * s + _P5) * s + _P4) * s + _P3) * s + _P2) * s + _P1) * s + _P0
    below = (((_Q4 * s + _Q3) * s + _Q2) * s + _Q1) * s + _Q0
    return x * above / below


@inlined
def ordered(bits):
    """The bits of a float32 as an int32 of the same order (nan highest), and back."""
    return bits ^ ((bits >> _SIGN) & _NO_SIGN)


@inlined
def highest(row):
    """As integers, since comparisons of floats stay one by one where nan is allowed for."""
    bits = row.view(np.int32)
    top = ordered(bits[0])
    for i in range(bits.shape[0]):
        top = max(top, ordered(bits[i]))
    return np.int32(ordered(top)).view(np.float32)


@inlined
def to_shares(row):
    """Softmax in place."""
    top, total = highest(row), _zero
    for i in range(row.shape[0]):
        power = exp(row[i] - top)
        total += power
        row[i] = power
    scale = _one / total
    for i in range(row.shape[0]):
        row[i] *= scale


@inlined
def through_shares(share, slope):
    """The gradient of what a softmax was taken of, in place of that of its result."""
    lost = _zero
    for i in range(share.shape[0]):
        lost += share[i] * slope[i]
    for i in range(share.shape[0]):
        slope[i] = share[i] * (slope[i] - lost)


@compiled
def add(x, y, out):
    for part in prange(-(-x.shape[0] // PART)):
        here = slice(part * PART, (part + 1) * PART)
        a, b, total = x[here], y[here], out[here]
        for i in range(total.shape[0]):
            total[i] = a[i] + b[i]


@compiled
def add_bias(x, bias):
    """x (R, D) += bias (D,)."""
    for i in prange(x.shape[0]):
        for j in range(x.shape[1]):
            x[i, j] += bias[j]


@inlined
def moments(row, epsilon, centred):
    """Mean (0 where it is not subtracted) and 1 / root of the variance."""
    width, mean, square = np.float32(row.shape[0]), _zero, _zero
    if centred:
        for j in range(row.shape[0]):
            mean += row[j]
        mean /= width
    for j in range(row.shape[0]):
        square += (row[j] - mean) * (row[j] - mean)
    return mean, _one / np.sqrt(square / width + epsilon)


@compiled
def layer_norm(x, weight, bias, epsilon, out):
    """Rows of x (R, D) with mean 0 and variance 1, times weight (D,), plus bias (D,)."""
    for i in prange(x.shape[0]):
        mean, shrink = moments(x[i], epsilon, True)
        for j in range(x.shape[1]):
            out[i, j] = (x[i, j] - mean) * shrink * weight[j] + bias[j]


@compiled
def rms_norm(x, weight, epsilon, out):
    """The same without mean and bias."""
    for i in prange(x.shape[0]):
        _, shrink = moments(x[i], epsilon, False)
        for j in range(x.shape[1]):
            out[i, j] = x[i, j] * shrink * weight[j]


@compiled
def norm_gradients(x, weight, slope, epsilon, centred, x_slope, weight_slopes, bias_slopes):
    """Of either norm; those of weight and bias in (SLICES, D), to be added up."""
    rows, width = x.shape
    for part in prange(SLICES):
        weight_slopes[part] = _zero
        bias_slopes[part] = _zero
        for i in range(part * rows // SLICES, (part + 1) * rows // SLICES):
            mean, shrink = moments(x[i], epsilon, centred)
            shift, turn = _zero, _zero
            for j in range(width):
                unit, down = (x[i, j] - mean) * shrink, slope[i, j]
                weight_slopes[part, j] += down * unit
                bias_slopes[part, j] += down
                shift += down * weight[j]
                turn += down * weight[j] * unit
            shift = shift / np.float32(width) if centred else _zero
            turn /= np.float32(width)
            for j in range(width):
                unit = (x[i, j] - mean) * shrink
                x_slope[i, j] = (slope[i, j] * weight[j] - shift - unit * turn) * shrink


@compiled
def gelu(x, out):
    """x times the normal distribution's share below it, exactly (erf)."""
    for part in prange(-(-x.shape[0] // PART)):
        here = slice(part * PART, (part + 1) * PART)
        a, y = x[here], out[here]
        for i in range(y.shape[0]):
            y[i] = _half * a[i] * (_one + erf(a[i] * _ROOT_HALF))


@compiled
def gelu_gradient(x, slope, out):
    for part in prange(-(-x.shape[0] // PART)):
        here = slice(part * PART, (part + 1) * PART)
        a, down, y = x[here], slope[here], out[here]
        for i in range(y.shape[0]):
            below = _half * (_one + erf(a[i] * _ROOT_HALF))
            y[i] = down[i] * (below + a[i] * _DENSITY * exp(-_half * a[i] * a[i]))


@compiled
def swiglu(gate, up, out):
    """gate * sigmoid(gate) * up."""
    for part in prange(-(-gate.shape[0] // PART)):
        here = slice(part * PART, (part + 1) * PART)
        g, u, y = gate[here], up[here], out[here]
        for i in range(y.shape[0]):
            y[i] = g[i] / (_one + exp(-g[i])) * u[i]


@compiled
def swiglu_gradients(gate, up, slope, gate_slope, up_slope):
    for part in prange(-(-gate.shape[0] // PART)):
        here = slice(part * PART, (part + 1) * PART)
        g, u, down, to_gate, to_up = gate[here], up[here], slope[here], gate_slope[here], up_slope[here]
        for i in range(g.shape[0]):
            share = _one / (_one + exp(-g[i]))
            to_gate[i] = down[i] * u[i] * share * (_one + g[i] * (_one - share))
            to_up[i] = down[i] * g[i] * share


@compiled
def square_softmax(scores, distances, start, scale):
    """In place of products (b, n, w*w) of n patches, from `start` on, with all: softmax of them and terms.

    distances (b, n, 2 * (2w - 1)) holds for each query what a key so many columns, then rows behind it adds.
    """
    queries = scores.shape[1]
    side = (distances.shape[2] // 2 + 1) // 2
    for each in prange(scores.shape[0] * queries):
        square, query = each // queries, each % queries
        right, down = side - 1 - (start + query) % side, 3 * side - 2 - (start + query) // side
        across, below = (
            distances[square, query, right : right + side],
            distances[square, query, down : down + side],
        )
        for k in range(side):
            line, here = scores[square, query, k * side : (k + 1) * side], below[k]
            for j in range(side):
                line[j] = scale * line[j] + here + across[j]
        to_shares(scores[square, query])


@compiled
def square_softmax_gradients(shares, slope, start, scale, distance_slopes):
    """Of the products, in place of that of the shares; of the terms in distance_slopes, written whole."""
    queries = shares.shape[1]
    side = (distance_slopes.shape[2] // 2 + 1) // 2
    for each in prange(shares.shape[0] * queries):
        square, query = each // queries, each % queries
        through_shares(shares[square, query], slope[square, query])
        distance_slopes[square, query] = _zero
        right, down = side - 1 - (start + query) % side, 3 * side - 2 - (start + query) // side
        across = distance_slopes[square, query, right : right + side]
        for k in range(side):
            line, here = slope[square, query, k * side : (k + 1) * side], _zero
            for j in range(side):
                here += line[j]
                across[j] += line[j]
                line[j] *= scale
            distance_slopes[square, query, down + k] = here


@compiled
def causal_softmax(scores, first, before, scale):
    """In place of products (b, n, N): the softmax of those from key `first` (rows, n) to the query's own.

    The query number t stands where key number before + t does; each row has as many heads.
    """
    queries, keys = scores.shape[1:]
    heads = scores.shape[0] // first.shape[0]
    for each in prange(scores.shape[0] * queries):
        head, query = each // queries, each % queries
        start, stop = first[head // heads, query], before + query + 1
        row = scores[head, query]
        row[:start] = _zero
        row[stop:] = _zero
        row[start:stop] *= scale
        to_shares(row[start:stop])


@compiled
def softmax_gradient(shares, slope, scale):
    """Of the products (b, n, N), in place of that of the shares; hidden keys have share 0."""
    queries = shares.shape[1]
    for each in prange(shares.shape[0] * queries):
        row = slope[each // queries, each % queries]
        through_shares(shares[each // queries, each % queries], row)
        row *= scale


@compiled
def few_products(x, words, out):
    """x (R, D) times words (N, D) transposed, which are read once for four rows: out (R, N).

    The words may be bfloat16.
    """
    rows, width = x.shape
    for word in prange(words.shape[0]):
        for row in range(0, rows, 4):
            # a row that is not there is the last one again
            a, b, c = min(row + 1, rows - 1), min(row + 2, rows - 1), min(row + 3, rows - 1)
            first, second, third, fourth = _zero, _zero, _zero, _zero
            for j in range(width):
                value = number(words[word, j])
                first += x[row, j] * value
                second += x[a, j] * value
                third += x[b, j] * value
                fourth += x[c, j] * value
            out[row, word], out[a, word], out[b, word], out[c, word] = first, second, third, fourth


@compiled
def widen(x, out):
    """bfloat16 x (R, D) as float32."""
    for i in prange(x.shape[0]):
        row, wide = x[i], out[i]
        for j in range(row.shape[0]):
            wide[j] = number(row[j])


@compiled
def attend_cached(q, k, v, hidden, scale, shares, out):
    """One query of each head, q (B, K, G, d), over keys (B, K, L, d) and values (B, K, d, L) -> out like q.

    hidden (B, N) is added to the scores of the first N keys, the others are not read; shares is (B * K, N).
    """
    heads, length, width = q.shape[1], hidden.shape[1], q.shape[3]
    for each in prange(q.shape[0] * heads):
        row, head = each // heads, each % heads
        share = shares[each]
        for member in range(q.shape[2]):
            for i in range(length):
                score = _zero
                for j in range(width):
                    score += q[row, head, member, j] * k[row, head, i, j]
                share[i] = scale * score + hidden[row, i]
            to_shares(share)
            for j in range(width):
                mean = _zero
                for i in range(length):
                    mean += share[i] * v[row, head, j, i]
                out[row, head, member, j] = mean


@compiled
def to_windows(x, edge, side, kind, out):
    """x (V, S, S, K*H*d) -> one kind, out (V*c*c*H, w*w, d): windows of side w, `edge` (K*H*d,) beyond."""
    grid, d = x.shape[1], out.shape[2]
    across = -(-grid // side)
    heads = out.shape[0] // (x.shape[0] * across * across)
    for each in prange(x.shape[0] * across * across * side):
        window, i = each // side, each % side
        row = window // across % across * side + i
        for j in range(side):
            column = window % across * side + j
            inside = row < grid and column < grid
            source = x[window // (across * across), row, column] if inside else edge
            for head in range(heads):
                start = (kind * heads + head) * d
                out[window * heads + head, i * side + j] = source[start : start + d]


@compiled
def from_windows(x, side, kind, out):
    """The inverse: one kind, x (V*c*c*H, w*w, d) -> its place in out (V, S, S, K*H*d), without the beyond."""
    grid, d = out.shape[1], x.shape[2]
    across = -(-grid // side)
    heads = x.shape[0] // (out.shape[0] * across * across)
    for each in prange(out.shape[0] * grid):
        view, row = each // grid, each % grid
        for column in range(grid):
            window = (view * across + row // side) * across + column // side
            place = row % side * side + column % side
            for head in range(heads):
                start = (kind * heads + head) * d
                out[view, row, column, start : start + d] = x[window * heads + head, place]


@compiled
def edge_sums(x, views, grid, side, out):
    """What of x (V*c*c*H, w*w, d) stands beyond a map of grid x grid, added up: out (H, d)."""
    across = -(-grid // side)
    heads = out.shape[0]
    for head in prange(heads):
        total = out[head]
        total[:] = _zero
        for window in range(views * across * across):
            for place in range(side * side):
                row = window // across % across * side + place // side
                if row >= grid or window % across * side + place % side >= grid:
                    total += x[window * heads + head, place]


@compiled
def unfold(x, stride, padding, out):
    """x (V, S, S, C) -> out (V, T, T, k, k*C): the squares that a convolution sees, zeros beyond the map."""
    side, channels = x.shape[1], x.shape[3]
    count, size = out.shape[1], out.shape[3]
    for each in prange(x.shape[0] * count):
        view, row = each // count, each % count
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
                seen, source = line[before:after], x[view, y].reshape(-1)[max(left, 0) * channels :]
                for j in range(seen.shape[0]):
                    seen[j] = source[j]


@compiled
def fold(x, stride, padding, out):
    """Its transpose, for gradients: x (V, T, T, k, k*C) -> out (V, S, S, C)."""
    count, size = x.shape[1], x.shape[3]
    side, channels = out.shape[1], out.shape[3]
    for each in prange(out.shape[0] * side):
        view, y = each // side, each % side
        out[view, y] = _zero
        for i in range(size):
            row = (y + padding - i) // stride
            if row * stride != y + padding - i or row < 0 or row >= count:
                continue
            for column in range(count):
                left = column * stride - padding
                before, after = max(-left, 0) * channels, min(side - left, size) * channels
                seen = x[view, row, column, i, before:after]
                total = out[view, y].reshape(-1)[max(left, 0) * channels :]
                for j in range(seen.shape[0]):
                    total[j] += seen[j]


@compiled
def turn_into_heads(x, cos, sin, out):
    """Rotary positions: x (B, T, H, d) by the angles (B, T, d) -> out (B, H, T, d)."""
    tokens, heads, half = x.shape[1], x.shape[2], x.shape[3] // 2
    for each in prange(x.shape[0] * tokens):
        row, token = each // tokens, each % tokens
        c, s = cos[row, token], sin[row, token]
        for head in range(heads):
            a, b, y = x[row, token, head, :half], x[row, token, head, half:], out[row, head, token]
            for j in range(half):
                y[j] = a[j] * c[j] - b[j] * s[j]
                y[half + j] = b[j] * c[half + j] + a[j] * s[half + j]


@compiled
def turn_back(x, cos, sin, out):
    """Its transpose, for gradients: x (B, H, T, d) -> out (B, T, H, d)."""
    heads, tokens, half = x.shape[1], x.shape[2], x.shape[3] // 2
    for each in prange(x.shape[0] * tokens):
        row, token = each // tokens, each % tokens
        c, s = cos[row, token], sin[row, token]
        for head in range(heads):
            a, b, y = x[row, head, token, :half], x[row, head, token, half:], out[row, token, head]
            for j in range(half):
                y[j] = a[j] * c[j] + b[j] * s[half + j]
                y[half + j] = b[j] * c[half + j] - a[j] * s[j]
