"""Flags of Paddle under which a GPU gives the same bits in every run."""

import paddle

DETERMINISTIC_FLAGS = {
    "FLAGS_cudnn_deterministic": True,  # convolutions, and the backward pass of fused attention
    "FLAGS_embedding_deterministic": 1,  # else the gradients of a word's places are added in any order
    "FLAGS_cudnn_exhaustive_search": False,  # picks kernels by their time, so another each run
    "FLAGS_use_autotune": False,  # the same
}


def set_deterministic() -> None:
    """For this process; only a build of Paddle for GPUs knows these flags."""
    paddle.set_flags(DETERMINISTIC_FLAGS)
