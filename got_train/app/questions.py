"""What is asked of a page: task, crop and region, checked together. Knows prompts; no web."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from got_train import prompts
from got_train.errors import PromptError, RequestError

CROPS = ("single", "multi", "auto")
TILES = {"ocr": "multi_crop_ocr", "format": "multi_crop"}


def choice(fields: Mapping[str, Any], name: str, choices: Iterable[str]) -> str:
    if fields.get(name) not in choices:
        raise RequestError(f"{name}: {str(fields.get(name))[:60]!r}; expected one of {', '.join(choices)}")
    return fields[name]


def task_and_crop(fields: Mapping[str, Any], tasks: Iterable[str]) -> tuple[str, bool]:
    """The task of the prompt, and whether tiles are chosen by the height of the page's lines."""
    task, crop = choice(fields, "task", tasks), choice(fields, "crop", CROPS)
    if task not in TILES and crop == "multi":
        raise RequestError(f"crop: multi with task {task}; use single, or task ocr or format")
    region = fields.get("box") is not None or fields.get("color") is not None
    if region and (task not in prompts.REGIONAL or crop != "single"):
        raise RequestError(
            f"box or color: with task {task}, crop {crop}; only ocr and format in one view read a region"
        )
    return (TILES[task] if crop == "multi" else task), crop == "auto" and task in TILES


def question_of(text: str) -> tuple[str, list[int] | None, str | None]:
    """Task, box in thousandths and color of a question in GOT's words; colon and spaces may differ."""
    words = re.sub(r"\s+", " ", text).strip().rstrip(": ")
    try:
        return prompts.parse_question(f"{words}: ")
    except PromptError as error:
        known = ", ".join(repr(question.strip()) for question in prompts.WORDS.values())
        raise RequestError(
            f"text: {text[:60]!r} is none of GOT's questions; expected one of {known}, or the field task"
        ) from error
