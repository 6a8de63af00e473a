"""Says in one line what is not installed, instead of a traceback from somewhere deep."""

from __future__ import annotations

from importlib.util import find_spec


class InstallationError(RuntimeError):
    """A package that a command needs is absent."""


def need_paddle() -> None:
    """Refuse when neither paddlepaddle nor paddlepaddle-gpu is there, or paddlenlp is not."""
    if find_spec("paddle") is None:
        raise InstallationError(
            "got_train: PaddlePaddle is not installed; on a CPU: pip install 'got_train[cpu]', on a GPU: install "
            "paddlepaddle-gpu for your CUDA"
        )
    if find_spec("paddlenlp") is None:
        raise InstallationError(
            "got_train: paddlenlp is not installed; pip install 'got_train[cpu]' or got_train"
        )
