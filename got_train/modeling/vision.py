"""The encoder: ViTDet with windowed and global attention, neck, strided convolutions. Knows pixels, no text.

Follows segment-anything's image encoder (ViT-B) and GOT's net_2 and net_3; sizes come from VisionConfig. Maps
have their channels last.
"""

# V views  S side of a view's map in patches (64)  E width (768)  H heads  d head width (64)
# W windows of all views  w window size (14)  N = w*w  p padding  P tokens a view (256)  D out width (1024)

import math
from functools import partial

import paddle
import paddle.nn.functional as F
from paddle import nn

from .config import VisionConfig
from .layers import LayerNorm, checkpoint_layer
from .rel_pos_attention import rel_pos_attention


def window_partition(x: paddle.Tensor, window_size: int, pad_value: paddle.Tensor) -> paddle.Tensor:
    """(V, S, S, E) -> (W, w, w, E); pad_value (E,) fills up the right and the bottom edge."""
    views, side, _, width = x.shape
    pad = -side % window_size  # what side lacks to the next multiple of the window size
    if pad:
        x = paddle.concat([x, pad_value.expand([views, side, pad, width])], axis=2)
        x = paddle.concat([x, pad_value.expand([views, pad, side + pad, width])], axis=1)  # (V, S+p, S+p, E)
    count = (side + pad) // window_size  # of windows in a row, and in a column
    x = x.reshape([views, count, window_size, count, window_size, width]).transpose([0, 1, 3, 2, 4, 5])
    return x.reshape([-1, window_size, window_size, width])  # (W, w, w, E)


def window_unpartition(windows: paddle.Tensor, side: int) -> paddle.Tensor:
    """The inverse of window_partition, without the padding: (W, w, w, E) -> (V, S, S, E)."""
    window_size, width = windows.shape[1], windows.shape[3]
    count = math.ceil(side / window_size)
    x = windows.reshape([-1, count, count, window_size, window_size, width]).transpose([0, 1, 3, 2, 4, 5])
    x = x.reshape([-1, count * window_size, count * window_size, width])  # (V, S+p, S+p, E)
    return x if count * window_size == side else x[:, :side, :side]  # (V, S, S, E)


class Attention(nn.Layer):
    """Multi-head attention inside windows of a map, with decomposed relative positions."""

    def __init__(self, width: int, heads: int, window_size: int):
        super().__init__()
        self.heads, self.head_width, self.window_size = heads, width // heads, window_size
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        zeros = nn.initializer.Constant(0.0)
        shape = [2 * window_size - 1, self.head_width]  # a vector for each distance, -(w-1) .. w-1
        self.rel_pos_h = self.create_parameter(shape, default_initializer=zeros)
        self.rel_pos_w = self.create_parameter(shape, default_initializer=zeros)

    def forward(self, x):  # (V, S, S, E)
        side = x.shape[1]
        # segment-anything pads the map with zeros before qkv, and does not mask them. Padding what comes out
        # of qkv by its bias, which is what qkv makes of a zero, is the same and computes less
        qkv = window_partition(self.qkv(x), self.window_size, self.qkv.bias)  # (W, w, w, 3*E)
        x = self.merge_heads(self.attend(*self.split_heads(qkv)))  # (W, w, w, E)
        return self.proj(window_unpartition(x, side))  # (V, S, S, E)

    def split_heads(self, qkv):
        """(W, w, w, 3*E) -> q, k, v, (W*H, N, d) each."""
        qkv = qkv.reshape([qkv.shape[0], self.window_size**2, 3, self.heads, self.head_width])
        qkv = qkv.transpose([2, 0, 3, 1, 4]).flatten(1, 2)  # (3, W*H, N, d)
        return qkv[0], qkv[1], qkv[2]

    def attend(self, q, k, v):
        return rel_pos_attention(q, k, v, self.rel_pos_h, self.rel_pos_w)

    def merge_heads(self, x):
        """(W*H, N, d) -> (W, w, w, E)."""
        x = x.reshape([-1, self.heads, self.window_size, self.window_size, self.head_width])
        return x.transpose([0, 2, 3, 1, 4]).flatten(3)


class Mlp(nn.Layer):
    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.lin1 = nn.Linear(width, hidden)
        self.lin2 = nn.Linear(hidden, width)

    def forward(self, x):
        return self.lin2(F.gelu(self.lin1(x)))


class Block(nn.Layer):
    """Pre-norm attention and MLP; a window as large as the map is global attention."""

    def __init__(self, config: VisionConfig, window_size: int):
        super().__init__()
        self.norm1 = LayerNorm(config.width, epsilon=config.norm_eps)
        self.attn = Attention(config.width, config.heads, window_size)
        self.norm2 = LayerNorm(config.width, epsilon=config.norm_eps)
        self.mlp = Mlp(config.width, config.mlp_width)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))  # (V, S, S, E)


class Neck(nn.Layer):
    """The blocks' map to fewer channels, (V, S, S, E) -> (V, S, S, C)."""

    def __init__(self, width: int, channels: int):
        super().__init__()
        conv = partial(nn.Conv2D, bias_attr=False, data_format="NHWC")
        norm = partial(LayerNorm, epsilon=1e-6)  # also where the blocks have another one
        self.conv1 = conv(width, channels, 1)
        self.norm1 = norm(channels)
        self.conv2 = conv(channels, channels, 3, padding=1)
        self.norm2 = norm(channels)

    def forward(self, x):
        return self.norm2(self.conv2(self.norm1(self.conv1(x))))


class Vision(nn.Layer):
    """Views (V, 3, side, side), normalized float -> features (V, P, D); row-major over the final grid."""

    def __init__(self, config: VisionConfig):
        super().__init__()
        self.config = config
        self.enable_recompute = False  # set by the trainer
        self.patch_embed = nn.Conv2D(3, config.width, config.patch, stride=config.patch, data_format="NHWC")
        # segment-anything starts this at zero and loads it; from scratch a small start tells positions apart
        self.pos_embed = self.create_parameter(
            [1, config.grid, config.grid, config.width],
            default_initializer=nn.initializer.TruncatedNormal(std=0.02),
        )
        self.blocks = nn.LayerList(
            Block(config, config.grid if index in config.global_layers else config.window)
            for index in range(config.layers)
        )
        self.neck = Neck(config.width, config.neck_width)
        # each convolution halves the side: 64 -> 32 -> 16 patches
        halve = partial(nn.Conv2D, kernel_size=3, stride=2, padding=1, bias_attr=False, data_format="NHWC")
        self.net_2 = halve(config.neck_width, 2 * config.neck_width)
        self.net_3 = halve(2 * config.neck_width, config.out_width)
        for layer in self.sublayers():
            if isinstance(layer, nn.Linear):
                nn.initializer.TruncatedNormal(std=0.02)(layer.weight)

    def forward(self, pixels):
        return self.features(self.neck_map(pixels))

    def neck_map(self, pixels):
        """What segment-anything's encoder gives, (V, S, S, C)."""
        x = self.patch_embed(pixels.transpose([0, 2, 3, 1]))  # (V, S, S, E)
        x = self.add_position_embeddings(x)
        for block in self.blocks:
            x = checkpoint_layer(block, x, recompute=self.enable_recompute and self.training)
        return self.neck(x)

    def add_position_embeddings(self, x):
        return x + self.pos_embed

    def features(self, neck_map):
        """GOT's two convolutions over the neck's map, (V, S, S, C) -> (V, P, D)."""
        return self.net_3(self.net_2(neck_map)).flatten(1, 2)
