"""Types of arguments that several commands share."""

from __future__ import annotations

import argparse


def count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}; a whole number, 0 or more")
    return int(text)
