"""The encoder: ViTDet with windowed and global attention, neck, strided convolutions. Knows pixels, no text.

Follows segment-anything's image encoder (ViT-B) and GOT's net_2 and net_3; sizes come from VisionConfig.
"""

# V views  S patches along a side (64)  E width (768)  H heads  d head width (64)  N = S*S
# W windows of all views  w window side (14)  P tokens a view (256)  D out width (1024)

from dataclasses import dataclass

import paddle
from paddle import nn

from got_train.cpu import kernels
from got_train.cpu.parallel_jit import array

from .config import VisionConfig
from .layers import Convolution, Function, Gelu, LayerNorm, Linear, add, after, run_layer
from .rel_pos_attention import square_attention


def split_windows(x: paddle.Tensor, window: int, filling: paddle.Tensor) -> paddle.Tensor:
    """(V, S, S, E) -> (W, w, w, E); `filling` (E,) stands beyond the right and bottom edges, unmasked."""
    views, side, _, width = x.shape
    count = -(-side // window)
    gap = count * window - side
    if gap:
        x = paddle.concat([x, filling.expand([views, side, gap, width])], axis=2)
        x = paddle.concat([x, filling.expand([views, gap, side + gap, width])], axis=1)  # (V, c*w, c*w, E)
    x = x.reshape([views, count, window, count, window, width]).transpose([0, 1, 3, 2, 4, 5])
    return x.reshape([-1, window, window, width])  # (W, w, w, E)


def join_windows(x: paddle.Tensor, side: int) -> paddle.Tensor:
    """The inverse of split_windows: (W, w, w, E) -> (V, S, S, E), the padding cut off."""
    window, width = x.shape[1], x.shape[3]
    count = -(-side // window)
    x = x.reshape([-1, count, count, window, window, width]).transpose([0, 1, 3, 2, 4, 5])
    x = x.reshape([-1, count * window, count * window, width])  # (V, c*w, c*w, E)
    return x if count * window == side else x[:, :side, :side]  # (V, S, S, E)


@dataclass(frozen=True)
class CutIntoHeads(Function):
    """The heads of the windows of a map: x (V, S, S, K*H*d), edge (K*H*d,) -> K times (W*H, w*w, d)."""

    side: int
    window: int
    heads: int
    head_width: int

    @property
    def squares(self) -> int:
        """Windows times heads of a view."""
        return (-(-self.side // self.window)) ** 2 * self.heads

    def plain(self, x, edge):
        windows = split_windows(x, self.window, edge)  # (W, w, w, K*E)
        shape = [windows.shape[0], self.window**2, -1, self.heads, self.head_width]
        windows = windows.reshape(shape).transpose([2, 0, 3, 1, 4]).flatten(1, 2)  # (K, W*H, w*w, d)
        return tuple(windows[kind] for kind in range(windows.shape[0]))

    def forward(self, x, edge):
        kinds = x.shape[3] // (self.heads * self.head_width)
        shape = [x.shape[0] * self.squares, self.window**2, self.head_width]
        outs = tuple(paddle.empty(shape) for _ in range(kinds))
        for kind, out in enumerate(outs):
            kernels.to_windows(x, edge, self.window, kind, out)
        return outs

    def kept(self, x, edge):
        return ()

    def backward(self, slopes):
        views = slopes[0].shape[0] // self.squares
        edge_grad = paddle.empty([len(slopes), self.heads, self.head_width])
        for slope, total in zip(slopes, array(edge_grad), strict=True):
            kernels.edge_sums(slope, views, self.side, self.window, total)
        return self.joined(*slopes), edge_grad.flatten()

    def joined(self, *kinds):
        """The inverse: K times (W*H, w*w, d) -> (V, S, S, K*H*d), without what stands beyond the map."""
        views, width = kinds[0].shape[0] // self.squares, self.heads * self.head_width
        out = paddle.empty([views, self.side, self.side, len(kinds) * width])
        for kind, x in enumerate(kinds):
            kernels.from_windows(x, self.window, kind, out)
        return out


@dataclass(frozen=True)
class JoinedHeads(Function):
    """The inverse for one kind: (W*H, w*w, d) -> (V, S, S, H*d)."""

    cut: CutIntoHeads

    def plain(self, x):
        cut = self.cut
        x = x.reshape([-1, cut.heads, cut.window, cut.window, cut.head_width]).transpose([0, 2, 3, 1, 4])
        return join_windows(x.flatten(3), cut.side)

    def forward(self, x):
        return self.cut.joined(x)

    def kept(self, x):
        return ()

    def backward(self, slope):
        return self.cut.forward(slope, paddle.zeros(slope.shape[-1:]))


class Attention(nn.Layer):
    """Multi-head attention over a square of patches, or its windows, with decomposed relative positions.

    The scores are q.k * d^-0.5 + q.R_h[i - j] + q.R_w[i - j], the last two from the unscaled q.
    """

    def __init__(self, width: int, heads: int, side: int):
        super().__init__()
        self.side, self.heads, self.head_width = side, heads, width // heads
        self.qkv = Linear(width, 3 * width)
        self.proj = Linear(width, width)
        zeros = nn.initializer.Constant(0.0)
        table = [2 * side - 1, self.head_width]
        self.rel_pos_h = self.create_parameter(table, default_initializer=zeros)
        self.rel_pos_w = self.create_parameter(table, default_initializer=zeros)

    def forward(self, x, norm):  # (V, S, S, E)
        cut = CutIntoHeads(x.shape[1], self.side, self.heads, self.head_width)
        qkv = after(self.qkv, norm.function, *norm.inputs(x))
        # the zeros at the edges are seen: their q, k and v are the bias
        q, k, v = cut(qkv, self.qkv.bias)  # (W*H, N, d)
        x = square_attention(q, k, v, self.rel_pos_h, self.rel_pos_w)  # (W*H, N, d)
        return after(self.proj, JoinedHeads(cut), x)


class Mlp(nn.Layer):
    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.lin1 = Linear(width, hidden)
        self.lin2 = Linear(hidden, width)

    def forward(self, x, norm):
        hidden = after(self.lin1, norm.function, *norm.inputs(x))
        return after(self.lin2, Gelu(), hidden)


class Block(nn.Layer):
    """Pre-norm attention and MLP; window 0 means global attention."""

    def __init__(self, config: VisionConfig, window: int):
        super().__init__()
        self.norm1 = LayerNorm(config.width, epsilon=config.norm_eps)
        self.attn = Attention(config.width, config.heads, window or config.grid)
        self.norm2 = LayerNorm(config.width, epsilon=config.norm_eps)
        self.mlp = Mlp(config.width, config.mlp_width)

    def forward(self, x):
        x = add(x, self.attn(x, self.norm1))
        return add(x, self.mlp(x, self.norm2))  # (V, S, S, E)


class Neck(nn.Layer):
    """The blocks' map to fewer channels, (V, S, S, E) -> (V, S, S, C)."""

    def __init__(self, width: int, channels: int, epsilon: float):
        super().__init__()
        self.conv1 = Convolution(width, channels, 1, biased=False)
        self.norm1 = LayerNorm(channels, epsilon=epsilon)
        self.conv2 = Convolution(channels, channels, 3, padding=1, biased=False)
        self.norm2 = LayerNorm(channels, epsilon=epsilon)

    def forward(self, x):
        return self.norm2(self.conv2(self.norm1(self.conv1(x))))


class Vision(nn.Layer):
    """Views (V, 3, side, side), normalised float -> features (V, P, D); row-major over the final grid."""

    def __init__(self, config: VisionConfig):
        super().__init__()
        self.config = config
        self.enable_recompute = False  # set by the trainer
        self.patch_embed = Convolution(3, config.width, config.patch, stride=config.patch)
        # segment-anything starts this at zero and loads it; from scratch a small start tells places apart
        self.pos_embed = self.create_parameter(
            [1, config.grid, config.grid, config.width],
            default_initializer=nn.initializer.TruncatedNormal(std=0.02),
        )
        self.blocks = nn.LayerList(
            Block(config, 0 if index in config.global_layers else config.window)
            for index in range(config.layers)
        )
        self.neck = Neck(config.width, config.neck_width, 1e-6)  # whatever the blocks have
        halved = {"size": 3, "stride": 2, "padding": 1, "biased": False}
        self.net_2 = Convolution(config.neck_width, 2 * config.neck_width, **halved)
        self.net_3 = Convolution(2 * config.neck_width, config.out_width, **halved)
        for layer in self.sublayers():
            if isinstance(layer, nn.Linear):
                nn.initializer.TruncatedNormal(std=0.02)(layer.weight)

    def forward(self, pixels):
        return self.features(self.neck_map(pixels))

    def neck_map(self, pixels):
        """What segment-anything's encoder gives, (V, S, S, C)."""
        x = self.patch_embed(pixels.transpose([0, 2, 3, 1]))  # (V, S, S, E)
        x = add(x, self.pos_embed.expand(x.shape))  # Paddle's own broadcast is five times slower backward
        for block in self.blocks:
            x = run_layer(block, x, again=self.enable_recompute and self.training)
        return self.neck(x)

    def features(self, neck_map):
        """GOT's two convolutions over the neck's map, (V, S, S, C) -> (V, P, D)."""
        return self.net_3(self.net_2(neck_map)).flatten(1, 2)
