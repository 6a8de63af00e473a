"""What a step lowers: the loss of the answers, and what boxes of characters teach. Knows no loop."""

# B rows  T tokens of a row  V views  P tokens a view  S patches of a side of a view  D decoder width

from __future__ import annotations

import math

import paddle
import paddle.nn.functional as F
from paddle import nn

from got_train.errors import ConfigError
from got_train.modeling.causal_attention import PackedMask
from got_train.modeling.config import IGNORED
from got_train.modeling.got import Got


class TrainingLoss(nn.Layer):
    """A Got with what only its training needs; returns what one micro-batch adds to the step's loss.

    The loss is the mean of -log p over the supervised tokens of the step. For records that tell where their
    characters stand are added, each by its weight, the means of -log p of

    - naming the character that each patch shows, from the neck's map (`char_loss_weight`);
    - naming the same characters from the view token that covers them (`token_char_loss_weight`): the
      decoder can read only what these hold;
    - the view token of the next character among all that the first head of the decoder's last layer sees
      (`attention_loss_weight`), as the focusing attention network does (Cheng et al. 2017,
      arXiv:1709.02054): a small decoder finds by itself only after very many pages where it is to look.

    A tensor alone is returned because DataParallel looks for tensors in what a layer returns.
    """

    def __init__(
        self,
        got: Got,
        char_loss_weight: float = 0.0,
        token_char_loss_weight: float = 0.0,
        attention_loss_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.got, self.char_loss_weight = got, char_loss_weight
        self.token_char_loss_weight, self.attention_loss_weight = (
            token_char_loss_weight,
            attention_loss_weight,
        )
        # ZeRO stage 3 gathers a layer's weights while it runs; these are used beyond their layers
        self.extra_parameters = [got.vision.pos_embed, got.decoder.head]
        vision, decoder = got.config.vision, got.config.decoder
        if attention_loss_weight and decoder.kind != "qwen2":
            raise ConfigError(
                f"train.attention_loss_weight ({attention_loss_weight}): needs to see where the decoder "
                f"looks, which is not to be had of kind {decoder.kind}; use 0"
            )
        if char_loss_weight:
            self.char_head = nn.Linear(vision.neck_width, decoder.vocab_size)
        if token_char_loss_weight:
            patches = vision.grid**2 // vision.view_tokens  # that a view token covers
            self.token_char_head = nn.Linear(decoder.width, patches * decoder.vocab_size)

    @property
    def heads(self) -> dict[str, nn.Layer]:
        """What is trained beside the model, by the name under which a checkpoint keeps it."""
        names = ("char_head", "token_char_head")
        return {name: getattr(self, name) for name in names if hasattr(self, name)}

    def forward(
        self,
        input_ids: paddle.Tensor,
        pixel_values: paddle.Tensor,
        attention_mask: paddle.Tensor,
        labels: paddle.Tensor,
        step_tokens: int,
        position_ids: paddle.Tensor | None = None,
        step_patches: int = 0,
        char_labels: paddle.Tensor | None = None,
        step_attention_labels: int = 0,
        attention_labels: paddle.Tensor | None = None,
    ) -> paddle.Tensor:
        got = self.got
        if char_labels is None and attention_labels is None:
            return got(input_ids, pixel_values, attention_mask, labels, position_ids).loss_sum / step_tokens
        neck_map = got.vision.neck_map(got.normalize(pixel_values))  # (V, S, S, C)
        features = got.projector(got.vision.features(neck_map))  # (V, P, D)
        with got.decoder.observe_attention(got.config.decoder.layers - 1) as observed:
            output = got.decode(input_ids, features, attention_mask, labels, position_ids)
        loss = output.loss_sum / step_tokens
        if self.char_loss_weight:
            char_loss_sum = summed_loss(self.char_head(neck_map).flatten(0, 2), char_labels)
            loss = loss + self.char_loss_weight * char_loss_sum / max(step_patches, 1)
        if self.token_char_loss_weight:
            logits = self.token_char_head(features).reshape([-1, got.config.decoder.vocab_size])
            char_loss_sum = summed_loss(logits, patches_by_token(char_labels, features.shape[1]))
            loss = loss + self.token_char_loss_weight * char_loss_sum / max(step_patches, 1)
        if self.attention_loss_weight:
            q, k = (heads[:, 0] for heads in observed)  # (B, T, d) each
            scores = paddle.matmul(q, k, transpose_y=True) / math.sqrt(q.shape[-1])
            visible = PackedMask(attention_mask, input_ids.shape).causal_mask.squeeze(1)
            scores = paddle.where(visible, scores, paddle.full_like(scores, -1e9))  # (B, T, T)
            attention_loss_sum = summed_loss(scores.flatten(0, 1), attention_labels)
            loss = loss + self.attention_loss_weight * attention_loss_sum / max(step_attention_labels, 1)
        return loss


def summed_loss(logits: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
    """-log p of labels (N,) of any shape, by logits (N, classes), summed over those that are not IGNORED."""
    # float32, as Paddle's kernel may have no bfloat16 on a GPU
    logits = logits.astype("float32")
    return F.cross_entropy(logits, labels.flatten(), ignore_index=IGNORED, reduction="sum")


def patches_by_token(patches: paddle.Tensor, view_tokens: int) -> paddle.Tensor:
    """(V, S, S), a number for each patch -> (V, P, patches of a view token), row by row within the token."""
    side = math.isqrt(view_tokens)
    covered = patches.shape[1] // side  # patches of a token's side
    blocks = patches.reshape([-1, side, covered, side, covered]).transpose([0, 1, 3, 2, 4])
    return blocks.reshape([-1, view_tokens, covered * covered])
