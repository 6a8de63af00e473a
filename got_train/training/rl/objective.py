"""The clipped policy objective over sampled answers: what a step minimises, and what its numbers weigh.

Group-relative advantages and the clipped ratio are GRPO's (Shao et al., 2024, arXiv 2402.03300). Of the
corrections that followed: the mean over tokens, the higher upper clip and leaving out groups without
variance are DAPO's (Yu et al., 2025, arXiv 2503.14476); no division by the group's deviation, and a constant
in place of an answer's length, are Dr. GRPO's (Liu et al., 2025, arXiv 2503.20783).
"""

# A answers of the micro-batch  T tokens of a row  V views of its pages

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import paddle

from got_train.config.schema import RlConfig

from .rows import AnswerLoss, answer_log_probs, log_probs_at

NO_VARIANCE = 1e-6  # of a group's rewards; float sums of equal metrics differ by less


def has_variance(rewards: Sequence[float]) -> bool:
    return float(np.ptp(np.asarray(rewards, np.float64))) > NO_VARIANCE


def advantages(rewards: Sequence[float], by_std: bool = False) -> np.ndarray:
    """How much better each answer is than its group's mean, in units of the deviation if wanted."""
    values = np.asarray(rewards, np.float64)
    centred = values - values.mean()
    if not has_variance(rewards):
        return np.zeros_like(centred)
    return centred / values.std() if by_std else centred


def token_weight(tokens: int, settings: RlConfig) -> float:
    """What each token of an answer of so many counts, before the division by the step's `normalizer`."""
    return {"token": 1.0, "sequence": 1 / tokens, "constant": 1 / settings.max_new_tokens}[
        settings.normalization
    ]


def normalizer(answers: int, tokens: int, settings: RlConfig) -> float:
    """What a step's sum is divided by: its tokens, or its answers; of groups with variance alone."""
    return float(max(1, tokens if settings.normalization == "token" else answers))


def surrogate(
    log_probs: paddle.Tensor,
    old: paddle.Tensor,
    advantage: paddle.Tensor,
    clip_low: float,
    clip_high: float,
) -> paddle.Tensor:
    """-min(r A, clip(r) A) of each token, r the ratio of its new and old probability."""
    ratio = (log_probs - old).exp()
    clipped = ratio.clip(1 - clip_low, 1 + clip_high)
    return -paddle.minimum(ratio * advantage, clipped * advantage)


def kl_to_start(log_probs: paddle.Tensor, start: paddle.Tensor) -> paddle.Tensor:
    """An estimate of each token's distance that is never negative: e^d - d - 1, d = log p_start - log p."""
    difference = start - log_probs
    return difference.exp() - difference - 1


class PolicyLoss(AnswerLoss):
    """A Got with the objective of its sampled answers; returns what one micro-batch adds to the step's.

    Each page goes through the encoder once; `view_index` says which of its views every answer looks at.
    """

    def forward(
        self,
        input_ids: paddle.Tensor,
        pixel_values: paddle.Tensor,
        attention_mask: paddle.Tensor,
        view_index: paddle.Tensor,
        weights: paddle.Tensor,
        advantages: paddle.Tensor,
        old_log_probs: paddle.Tensor,
        start_log_probs: paddle.Tensor,
    ) -> paddle.Tensor:
        """weights, advantages and log p are (A, T), a value a token; tokens of weight 0 are left out."""
        settings = self.settings
        positions = paddle.nonzero(weights[:, 1:].flatten() > 0).flatten()
        inputs = (input_ids, pixel_values, attention_mask, view_index)
        log_probs = answer_log_probs(self.got, *inputs, positions, settings.temperature)
        if len(positions) == 0:
            return log_probs.sum()

        def chosen(values: paddle.Tensor) -> paddle.Tensor:
            return paddle.gather(values[:, 1:].flatten(), positions)

        loss = surrogate(
            log_probs, chosen(old_log_probs), chosen(advantages), settings.clip_low, settings.clip_high
        )
        if settings.kl_coefficient:
            loss = loss + settings.kl_coefficient * kl_to_start(log_probs, chosen(start_log_probs))
        return (loss * chosen(weights)).sum()

    def log_probs_at(self, tensors: dict[str, paddle.Tensor], mask: paddle.Tensor) -> paddle.Tensor:
        """log p (A, T) of the mask's tokens at the temperature of sampling."""
        return log_probs_at(self.got, tensors, mask, self.settings.temperature)
