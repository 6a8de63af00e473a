"""Text files that are no labels here, told by their looks, each with the way to labels that are read."""

from __future__ import annotations

import os
import re

from got_train.data.box_lines import text_lines
from got_train.data.line_files import has_utf16_mark

SAMPLED = 20  # lines of a file
_BOX = re.compile(r"\S.*?(?: \d+){5}")  # a character, left, bottom, right, top, page


def other_format(path: str) -> str:
    """What a file is, or the first .box file of a folder, and what helps; empty where nobody knows it."""
    if os.path.isdir(path):
        names = sorted(name for name in os.listdir(path) if name.lower().endswith(".box"))
        return next(filter(None, (other_format(os.path.join(path, name)) for name in names)), "")
    if has_utf16_mark(path):
        return f"{path}: is UTF-16; save it as UTF-8"
    lines = text_lines(path)[:SAMPLED] if path.lower().endswith(".box") else []
    if lines and all(map(_BOX.fullmatch, lines)):
        return (
            f"{path}: Tesseract's boxes of single characters, which make no lines; "
            "write hOCR or ALTO (tesseract page.png out hocr)"
        )
    return ""
