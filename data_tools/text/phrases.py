"""Short texts for charts, scores and pages: names and titles cut from documents of the corpora.

Works on English (words) and on Chinese (runs of characters); knows nothing of what they will name.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from data_tools import produce

from . import corpora

if TYPE_CHECKING:
    import numpy

if TYPE_CHECKING:
    import numpy

CHARACTERS_A_WORD = (2, 3)  # of a Chinese phrase that is to be as long as so many words
TRIES = 200


def is_chinese(text: str) -> bool:
    """Whether a third of the characters, or more, are Chinese."""
    return 3 * len(re.findall(f"[{corpora.CHINESE}]", text)) >= max(1, len(text))


def phrase(
    documents: tuple[corpora.Document, ...], words: tuple[int, int], rng: numpy.random.Generator
) -> str:
    """Consecutive words of one sentence, or as much Chinese, with no punctuation between them."""
    for _ in range(TRIES):
        document = documents[int(rng.integers(len(documents)))]
        runs = _runs(document.paragraphs[int(rng.integers(len(document.paragraphs)))])
        if not runs:
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
    raise produce.Rejected("no phrase as long as asked for")


def name(documents: tuple[corpora.Document, ...], words: tuple[int, int], rng: numpy.random.Generator) -> str:
    """A phrase whose first word begins with a capital."""
    text = phrase(documents, words, rng)
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
