"""Says in one line what is not installed, instead of a traceback from somewhere deep."""

from __future__ import annotations

import warnings
from importlib.util import find_spec

from .errors import RequirementError

# what Paddle and paddlenlp 3.0.0b4 tell every user about themselves, and no user can act on
_NOISE = (r"No ccache found", r"Setuptools is replacing distutils", r"[\s\S]*swiglu", r"pkg_resources is")


def need_packages(extra: str, *modules: str) -> None:
    """Refuse when a module of an extra is not there."""
    for module in modules:
        if find_spec(module) is None:
            raise RequirementError(
                f'{module} is not installed; use `pip install -e ".[{extra}]"` in the clone'
            )


def need_paddle() -> None:
    """Refuse when neither paddlepaddle nor paddlepaddle-gpu is there, or paddlenlp is not."""
    if find_spec("paddle") is None:
        raise RequirementError(
            'PaddlePaddle is not installed; on a CPU use `pip install -e ".[cpu]"` in the clone, on a GPU '
            "install paddlepaddle-gpu for your CUDA"
        )
    if find_spec("paddlenlp") is None:
        raise RequirementError("paddlenlp is not installed; use `pip install -e .` in the clone")


def silence_paddle() -> None:
    """Leave out what Paddle and paddlenlp warn of when they are imported; every command begins with this."""
    for message in _NOISE:
        warnings.filterwarnings("ignore", message=message)
