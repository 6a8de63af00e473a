"""The model: encoder, projector, decoder, their weights in every layout, decoding. Knows no files of data.

Names are imported when they are first used, so that sizes can be read without Paddle.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "config": ("IGNORED", "PARTS", "DecoderConfig", "GotConfig", "ModelConfigError", "VisionConfig"),
    "got": ("Got", "GotOutput", "parameter_count"),
    "weights": ("WeightsError", "load_decoder", "load_model", "load_vision", "save_model"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME_OF)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME_OF[name]}", __name__), name)
