"""GOT: encoder, projector, decoder, and the seam where image features replace <imgpad>."""

# B batch  T tokens  V views of the whole batch  P tokens a view (256)  D decoder width  E encoder's out width

from __future__ import annotations

from functools import cached_property

import paddle
from paddle import nn

from got_train import compat

from .config import IGNORED, MEAN, STD, GotConfig
from .decoder import build_decoder
from .loss import fused_linear_cross_entropy
from .vision import Vision


class GotOutput:
    """Last states of one forward pass; the logits are computed when somebody asks for them."""

    def __init__(self, hidden, head, loss_sum=None, num_tokens: int = 0):
        self.hidden, self._head = hidden, head  # (B, T, D)
        self.loss_sum, self.num_tokens = loss_sum, num_tokens

    @property
    def loss(self):
        """Mean of -log p over the supervised tokens, or None without labels."""
        return None if self.loss_sum is None else self.loss_sum / max(self.num_tokens, 1)

    @cached_property
    def logits(self):
        return paddle.matmul(self.hidden, self._head, transpose_y=True)  # (B, T, vocabulary)


class Got(nn.Layer):
    """input_ids (B, T), views (V, 3, side, side) float or (V, side, side, 3) uint8 -> GotOutput.

    The views of all samples come one after another, in the order of their <imgpad> runs in the batch.
    attention_mask (B, T) is 0 on padding; other numbers are the segment ids of packed samples. labels (B, T)
    stand at the position of their token (the shift happens inside), -100 where nothing is supervised.
    """

    def __init__(self, config: GotConfig):
        super().__init__()
        self.config = config
        self.vision = Vision(config.vision)
        self.projector = nn.Linear(config.vision.out_width, config.decoder.width)
        self.decoder = build_decoder(config.decoder)
        nn.initializer.TruncatedNormal(std=0.02)(self.projector.weight)
        compat.keep_buffers_float32(self)  # mean and std: mixed precision would round 122.77 to 123
        shape = [1, 3, 1, 1]
        self.register_buffer(
            "mean", 255 * paddle.to_tensor(MEAN, "float32").reshape(shape), persistable=False
        )
        self.register_buffer("std", 255 * paddle.to_tensor(STD, "float32").reshape(shape), persistable=False)

    def forward(self, input_ids, pixel_values=None, attention_mask=None, labels=None, position_ids=None):
        features = None if pixel_values is None else self.encode(pixel_values)
        return self.decode(input_ids, features, attention_mask, labels, position_ids)

    def decode(self, input_ids, features=None, attention_mask=None, labels=None, position_ids=None):
        """The forward pass after the encoder; features (V, P, D) are projected."""
        hidden = self.decoder(self.embed(input_ids, features), attention_mask, position_ids)
        head = self.decoder.head
        if labels is None:
            return GotOutput(hidden, head)
        return GotOutput(hidden, head, *fused_linear_cross_entropy(hidden, head, labels, IGNORED))

    def embed(self, input_ids, features=None):
        """Word embeddings with the image features where <imgpad> stands, (B, T, D)."""
        x = self.decoder.embed(input_ids)
        if features is None:
            return x
        is_image = input_ids == self.config.image_token
        views, view_tokens, _ = features.shape
        if int(is_image.sum()) != views * view_tokens:
            raise ValueError(
                f"input_ids hold {int(is_image.sum())} image tokens; {views} views give {views * view_tokens}"
            )
        # the n-th image token of the batch takes the n-th feature
        index = (paddle.cumsum(is_image.flatten().astype("int64")) - 1).clip(min=0)
        image = paddle.gather(features.flatten(0, 1), index).reshape(x.shape)
        return paddle.where(is_image.unsqueeze(-1), image.astype(x.dtype), x)

    def encode(self, pixel_values):
        """Views -> projected features (V, P, D)."""
        return self.projector(self.vision(self.normalize(pixel_values)))

    def normalize(self, pixel_values):
        if pixel_values.dtype == paddle.uint8:
            x = pixel_values.transpose([0, 3, 1, 2]).astype("float32")
            pixel_values = (x - self.mean) / self.std
        return pixel_values.astype(self.projector.weight.dtype)

    def part(self, name: str) -> nn.Layer:
        return getattr(self, name)


def parameter_count(model: nn.Layer) -> int:
    """Parameters, the tied head counted once."""
    return sum(parameter.size for parameter in model.parameters())
