"""Short texts for charts, scores and pages: names and titles cut from documents of the corpora.

Works on English (words), on Chinese (runs of characters), and where it is asked for on scripts that a shaper
sets; knows nothing of what they will name.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import regex

from data_tools import produce

from . import corpora
from .scripts import JOINERS, needs_shaping, script_name

if TYPE_CHECKING:
    import numpy

CHARACTERS_A_WORD = (2, 3)  # of a Chinese phrase that is to be as long as so many words
TRIES = 200
_SHAPED = regex.compile(rf"[\p{{L}}\p{{M}}{JOINERS} ]+")  # words with nothing but spaces between them


def is_chinese(text: str) -> bool:
    """Whether a third of the characters, or more, are Chinese."""
    return 3 * len(re.findall(f"[{corpora.CHINESE}]", text)) >= max(1, len(text))


def is_shaped(text: str) -> bool:
    """Whether a third of the characters, or more, are of a script that a shaper sets, such as Arabic."""
    return 3 * sum(map(needs_shaping, text)) >= max(1, len(text))


def cannot_set(script: str) -> str:
    """The cause of a refusal by engines whose programs set no such script, or cannot prove that they do."""
    return f"{script} text, which this engine cannot set; use engines.lines, scene or handwriting"


def refuse_shaped(text: str) -> None:
    """Refuse a text of a script that only a shaper sets, by the script's name."""
    if is_shaped(text):
        raise produce.Rejected(cannot_set(script_name(text)))


def phrase(
    documents: tuple[corpora.Document, ...],
    words: tuple[int, int],
    rng: numpy.random.Generator,
    shaped: bool = False,
) -> str:
    """Consecutive words of one sentence, or as much Chinese, with no punctuation between them.

    `shaped` says that whoever asks can draw scripts that a shaper sets; others are refused these by name.
    """
    script = ""
    for _ in range(TRIES):
        document = documents[int(rng.integers(len(documents)))]
        paragraph = document.paragraphs[int(rng.integers(len(document.paragraphs)))]
        runs = _runs(paragraph)
        if not runs:
            continue
        if not shaped and is_shaped(paragraph):
            script = script_name(paragraph)
            continue
        run = runs[int(rng.integers(len(runs)))]
        count = int(rng.integers(words[0], words[1] + 1))
        if is_chinese(run):
            length = count * int(rng.integers(CHARACTERS_A_WORD[0], CHARACTERS_A_WORD[1] + 1))
            pieces, joiner = list(run), ""
        else:
            length, pieces, joiner = count, run.split(" "), " "
        if len(pieces) >= length:
            start = int(rng.integers(len(pieces) - length + 1))
            return joiner.join(pieces[start : start + length])
    if script:
        raise produce.Rejected(cannot_set(script))
    raise produce.Rejected("no phrase as long as asked for")


def name(
    documents: tuple[corpora.Document, ...],
    words: tuple[int, int],
    rng: numpy.random.Generator,
    shaped: bool = False,
) -> str:
    """A phrase whose first word begins with a capital."""
    text = phrase(documents, words, rng, shaped)
    return text[0].upper() + text[1:]


def distinct(draw: Callable[[], str], count: int) -> list[str]:
    """So many different results of a draw, capitals not counted as a difference."""
    result: dict[str, str] = {}
    for _ in range(TRIES):
        text = draw()
        result.setdefault(text.lower(), text)
        if len(result) == count:
            return list(result.values())
    raise produce.Rejected("too few different phrases")


@functools.lru_cache(maxsize=1 << 15)
def _runs(paragraph: str) -> tuple[str, ...]:
    """What stands between punctuation: words of letters alone, single spaces between them, or Chinese."""
    if is_chinese(paragraph):
        return tuple(re.findall(f"[{corpora.CHINESE}]{{2,}}", paragraph))
    if is_shaped(paragraph):
        words = (match.strip() for match in _SHAPED.findall(paragraph))
        return tuple(" ".join(run.split()) for run in words if len(run) > 2)
    runs: list[list[str]] = [[]]
    for token in paragraph.split():
        word = re.fullmatch(r"[(\"']?([A-Za-z]+(?:-[A-Za-z]+)*)([.,;:!?)\"']*)", token)
        if word:
            runs[-1].append(word[1])
        if not word or word[2]:
            runs.append([])
    return tuple(" ".join(run) for run in runs if max(map(len, run), default=0) > 2)


def lowercase(documents: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
    """The same words in small letters and digits alone; documents without any are dropped."""
    plain = (tuple(re.sub(r"[^a-z0-9]", "", word.lower()) for word in document) for document in documents)
    kept = (tuple(word for word in document if word) for document in plain)
    return tuple(document for document in kept if document)
