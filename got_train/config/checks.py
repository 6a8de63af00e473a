"""What refuses a setting, and the key that was meant."""

from __future__ import annotations

import difflib

from got_train.errors import ConfigError


def require(condition: bool, message: str) -> None:
    """In a dataclass the message begins with the field; `build` puts the section before it."""
    if not condition:
        raise ConfigError(message)


def nearest(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    return f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
