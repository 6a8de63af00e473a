"""characters.json beside the weights: the characters of the model's training answers, where it tells them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from got_train.errors import CheckpointError
from got_train.strict_files import read_json

CHARACTERS_FILE = "characters.json"


def save_characters(folder: str | os.PathLike, characters: frozenset[str]) -> None:
    text = "".join(sorted(characters))
    (Path(folder) / CHARACTERS_FILE).write_text(json.dumps({"characters": text}) + "\n", encoding="utf-8")


def load_characters(folder: str | os.PathLike) -> frozenset[str] | None:
    """Those that a model was trained on; None where its folder does not say."""
    file = Path(folder) / CHARACTERS_FILE
    if not file.exists():
        return None
    characters = read_json(file).get("characters")
    if not isinstance(characters, str):
        raise CheckpointError(f"{file}: no characters; expected an object with them in one string")
    return frozenset(characters)


def copy_characters(source: str | os.PathLike, target: str | os.PathLike) -> None:
    """Carry the file along with weights that are written again."""
    folder = Path(source) if Path(source).is_dir() else Path(source).parent
    if (folder / CHARACTERS_FILE).is_file():
        shutil.copyfile(folder / CHARACTERS_FILE, Path(target) / CHARACTERS_FILE)
