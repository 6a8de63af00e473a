"""The exact words around an image: every task, box and color, in each prompt template that GOT is spoken to.

Pure text. It does not know tokens, files or how an image becomes views.
"""

import math
import re
from collections.abc import Sequence
from difflib import get_close_matches
from numbers import Integral, Real
from operator import ge, gt, le

from .errors import PromptError

START, END = "<|im_start|>", "<|im_end|>"
IMAGE_START, IMAGE_TOKEN, IMAGE_END = "<img>", "<imgpad>", "</img>"
SYSTEM = "You should follow the instructions carefully and explain your answers in detail."

# The space after the colon belongs to the words: the released weights were trained with it.
WORDS = {
    "ocr": "OCR: ",
    "format": "OCR with format: ",
    "multi_crop": "OCR with format upon the patch reference: ",
    "multi_crop_ocr": "OCR upon the patch reference: ",
    "multi_page": "OCR with format across multi pages: ",
    "spot": "OCR with boxes: ",  # ours: no released weights know it; the answer's grammar is in spotting.py
}
STAGE1_QUESTION = "OCR:"  # Vary-tiny: no chat around it, no trailing space

# by template: what stands before the system sentence, and before the words: alone, after a box, after a color
SPACES = {
    "repo": ("", "", " ", " "),
    "hub": (" " * 8, "", " ", " "),
    "transformers": ("", " ", " ", "  "),
}

TASKS = tuple(WORDS)
ONE_VIEW = ("ocr", "format", "spot")
TILED = {"ocr": "multi_crop_ocr", "format": "multi_crop"}  # the same of a whole page in several views
REGIONAL = ("ocr", "format")  # these read a box or a color
COLORS = ("red", "green", "blue")
PROMPT_TEMPLATES = (*SPACES, "stage1")

Box = Sequence[float] | str
Size = tuple[int, int]


def build_prompt(
    task: str,
    box: Box | None = None,
    color: str | None = None,
    image_size: Size | None = None,
    views: int = 1,
    prompt_template: str = "repo",
    view_tokens: int = 256,
) -> str:
    """All text before the answer. A box is in pixels of `image_size` (width, height), else in thousandths."""
    words = question(task, box, color, image_size, prompt_template)
    _check_count("views", views)
    _check_count("view_tokens", view_tokens)
    if views != 1 and task in ONE_VIEW:
        raise PromptError(f"views: {task} sees 1 view, got {views}; multi_crop and multi_page see several")
    image = IMAGE_TOKEN * (view_tokens * views)
    if prompt_template == "stage1":
        return image + words
    system = f"{START}system\n{SPACES[prompt_template][0]}{SYSTEM}{END}"
    return f"{system}{START}user\n{IMAGE_START}{image}{IMAGE_END}\n{words}{END}{START}assistant\n"


def question(
    task: str,
    box: Box | None = None,
    color: str | None = None,
    image_size: Size | None = None,
    prompt_template: str = "repo",
) -> str:
    """The words that follow the image, such as `[100, 200, 300, 400] OCR: `."""
    _check_choice("prompt_template", prompt_template, PROMPT_TEMPLATES)
    _check_choice("task", task, TASKS)
    if prompt_template == "stage1" and task != "ocr":
        raise PromptError(f"task: the stage1 prompt template knows no {task}; it has ocr only")
    _check_region(task, box, color, prompt_template)
    if image_size is not None:
        _check_size(image_size)
    if prompt_template == "stage1":
        return STAGE1_QUESTION
    _, alone, after_box, after_color = SPACES[prompt_template]
    if color is not None:
        return f"[{color}]{after_color}{WORDS[task]}"
    if box is None:
        return alone + WORDS[task]
    corners = thousandths(box, image_size)
    if prompt_template == "transformers" and len(corners) != 4:
        raise PromptError(
            f"box: the transformers prompt template has no point {corners}; give x1, y1, x2, y2"
        )
    return f"{corners}{after_box}{WORDS[task]}"


def parse_question(text: str) -> tuple[str, list[int] | None, str | None]:
    """Task, box in thousandths and color of a question in the repo template; the inverse of `question`."""
    region, words = re.fullmatch(r"(?:\[([^]]*)] )?(.*)", text, re.DOTALL).groups()
    task = next((task for task in TASKS if WORDS[task] == words), None)
    if task is None:
        raise PromptError(f"query: {text!r} is not known; {_advised_question(text, words)}")
    box = parse_box(region) if region is not None and "," in region else None
    color = region if box is None else None
    _check_region(task, box, color, "repo")
    if box and not (f"[{region}]" == str(box) and _inside(box) and all(map(le, box, box[2:]))):
        raise PromptError(f"query: box [{region}] is not in thousandths; write it like [100, 200, 300, 400]")
    return task, box, color


def nearest_question(text: str) -> str:
    """The known query most like `text`; what stands in brackets before the words is kept."""
    region = re.match(r"(\[[^]]*] )?", text)[0]
    return region + get_close_matches(text[len(region) :], WORDS.values(), n=1, cutoff=0)[0]


def _advised_question(text: str, words: str) -> str:
    if get_close_matches(words, WORDS.values(), n=1, cutoff=0.6) or words.strip().lower() == "ocr":
        return f"the nearest, with its spaces, is {nearest_question(text)!r}"
    return f"use {WORDS['ocr']!r} for plain text, {WORDS['format']!r} for Markdown"


def parse_box(text: str) -> list[float]:
    """The 2 or 4 numbers of `[1, 2, 3, 4]`, `(1, 2)` or `1,2,3,4`."""
    inner = re.fullmatch(r"\[(.*)]|\((.*)\)|(.*)", text.strip(), re.DOTALL)
    words = [word.strip() for word in inner[inner.lastindex].split(",")]
    if len(words) not in (2, 4) or not all(
        re.fullmatch(r"[+-]?[0-9]{1,9}(\.[0-9]*)?", word) for word in words
    ):
        raise PromptError(f"box: cannot read {text!r}; write 4 numbers x1,y1,x2,y2 or 2 numbers x,y")
    return [float(word) if "." in word else int(word) for word in words]


def thousandths(box: Box, image_size: Size | None) -> list[int]:
    """The box as GOT writes it: each coordinate / width or height * 1000, truncated."""
    box = parse_box(box) if isinstance(box, str) else list(box) if isinstance(box, Sequence) else [box]
    if len(box) not in (2, 4):
        raise PromptError(f"box: {box} has length {len(box)}; give x1, y1, x2, y2 or the point x, y")
    if not all(isinstance(v, Real) and not isinstance(v, bool) and abs(v) < math.inf for v in box):
        raise PromptError(f"box: {box} must hold finite numbers only; give x1, y1, x2, y2")
    # in thousandths the ends may be equal: truncation does that to a region thinner than one
    if any(map(gt if image_size is None else ge, box, box[2:])):
        raise PromptError(f"box: {box} is reversed or empty; x2 must exceed x1 and y2 must exceed y1")
    if image_size is None:
        if not _inside(box) or any(v != int(v) for v in box):
            raise PromptError(f"box: {box} is not in whole thousandths 0..1000; pixels need image_size")
        return [int(v) for v in box]
    _check_size(image_size)
    if not _inside(box, image_size):
        width, height = image_size
        raise PromptError(f"box: {box} leaves the image; x must be in 0..{width} and y in 0..{height}")
    # Divided first, as upstream does: floats round, and another order gives other integers.
    return [int(v / side * 1000) for v, side in zip(box, (*image_size, *image_size), strict=False)]


def _inside(box: Sequence[float], size: Size = (1000, 1000)) -> bool:
    return min(box) >= 0 and all(map(le, box, (*size, *size)))


def _check_region(task: str, box: Box | None, color: str | None, prompt_template: str) -> None:
    if color is not None:
        _check_choice("color", color, COLORS)
    if box is not None and color is not None:
        raise PromptError(f"box and color: got {box} and {color} together; give one of them")
    reads_regions = task in REGIONAL and prompt_template != "stage1"
    if not reads_regions and (box is not None or color is not None):
        given = f"box: {box}" if color is None else f"color: {color}"
        raise PromptError(
            f"{given} does not go with task {task} in {prompt_template}; only ocr and format read a region"
        )


def _check_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        near = get_close_matches(str(value).lower(), allowed, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise PromptError(f"{name} must be one of {', '.join(allowed)}; got {value!r}{hint}")


def _check_count(name: str, value: int) -> None:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise PromptError(f"{name} must be a whole number, 1 or more; got {value!r}")


def _check_size(size: Size) -> None:
    if not isinstance(size, Sequence) or isinstance(size, str) or len(size) != 2:
        raise PromptError(f"image_size must be (width, height) in pixels; got {size!r}")
    for name, side in zip(("width", "height"), size, strict=True):
        _check_count(f"image_size: {name}", side)
