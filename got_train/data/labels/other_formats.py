"""Text files that are no labels here, told by their looks, each with the way to labels that are read."""

from __future__ import annotations

import os
import re
from pathlib import Path

from got_train.data.box_lines import text_lines
from got_train.data.formats import foreign_rows
from got_train.data.line_files import has_utf16_mark
from got_train.strict_files import strict_json

_ENDINGS = (".box", ".tsv", ".json", ".xlsx", ".xls", ".ods")  # of such files in a folder
SAMPLED = 20  # lines of a file
_BOX = re.compile(r"\S.*?(?: \d+){5}")  # a character, left, bottom, right, top, page


def _named(file: str) -> str:
    """What a file of a folder is, by its looks or by the keys of its rows."""
    if said := other_format(file):
        return said
    try:
        if file.lower().endswith(".tsv"):
            keys = Path(file).read_text(encoding="utf-8-sig").partition("\n")[0].strip().split("\t")
        else:
            keys = strict_json(Path(file).read_bytes().decode("utf-8-sig"), allow_nan=True)
            keys = keys[0] if isinstance(keys, list) and keys else keys
        program, advice = (
            foreign_rows(keys)
            if isinstance(keys, dict | list) and all(isinstance(key, str) for key in keys)
            else ("", "")
        )
    except (OSError, ValueError, RecursionError):
        return ""
    return f"{file}: {program}; {advice}" if program else ""


def _of_inner_folder(path: str) -> str:
    """The same of the folders of labels that a data set has; not of their own."""
    folders = (os.path.join(path, name) for name in ("json", "annotations", "labels", "gt"))
    return next(filter(None, (other_format(folder) for folder in folders if os.path.isdir(folder))), "")


def other_format(path: str) -> str:
    """What a file is, or the first .box file of a folder, and what helps; empty where nobody knows it."""
    if os.path.isdir(path):
        names = sorted(name for name in os.listdir(path) if name.lower().endswith(_ENDINGS))
        files = [os.path.join(path, name) for name in names][:SAMPLED]
        return next(filter(None, map(_named, files)), "") or _of_inner_folder(path)
    if path.lower().endswith((".xlsx", ".xls", ".ods")):
        return f"{path}: a spreadsheet; save it as CSV in UTF-8"
    if has_utf16_mark(path):
        return f"{path}: is UTF-16; save it as UTF-8"
    lines = text_lines(path)[:SAMPLED] if path.lower().endswith(".box") else []
    if lines and all(map(_BOX.fullmatch, lines)):
        return (
            f"{path}: Tesseract's boxes of single characters, which make no lines; "
            "write hOCR or ALTO (tesseract page.png out hocr)"
        )
    return ""
