"""In which order a person corrects drafts: what is doubtful or disputed first, and no two alike in a row.

**Priority** is the mean of two ranks, each from 1/N (least) to 1 (most), equal values sharing their mean:

* doubt: 1 - confidence of the first reader that has one, which is the expected share of wrong words of a
  checkpoint (calibrated, if it is); 1 if its answer was cut or began to repeat itself;
* disagreement: 1 - agreement, the mean edit distance between the readers' texts.

Ranks, because the two have no common scale: a doubt of 0.02 may say more than a disagreement of 0.2. A draft
that lacks one counts by the other, a draft that lacks both by 0.5.

**Novelty** is the smallest cosine distance between the counts of a draft's character trigrams (small letters)
and those of every draft before it; 1 for the first.

The next draft is the one with the largest priority x novelty (farthest first, weighted); at equal values the
larger priority, then the earlier row. So the same text a second time comes last. No chance is in it.

Knows drafts and numbers; knows no reader and no page.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.sparse import csr_array
from scipy.stats import rankdata

from .draft import Draft

SIZE = 3  # characters of an n-gram
UNSURE = 0.5  # the priority of a draft of which nothing is known
_CUT = ("length", "loop")  # answers without an end of their own
_DIGITS = 6  # of numbers that are compared: the last bits of a product differ between processors


def order(drafts: Sequence[Draft], limit: int | None = None) -> list[Draft]:
    """The first `limit` drafts as they are to be corrected, each with its scores."""
    doubts, disagreements = [doubt(draft) for draft in drafts], [disagreement(draft) for draft in drafts]
    priority = priorities(doubts, disagreements)
    vectors = trigram_vectors([draft.text for draft in drafts])
    novelty, left = np.ones(len(drafts)), np.ones(len(drafts), bool)
    ordered = []
    for _ in range(min(len(drafts), limit or len(drafts))):
        value = np.where(left, np.round(priority * novelty, _DIGITS), -1.0)
        best = np.flatnonzero(value == value.max())
        index = int(best[np.argmax(priority[best])])
        scores = {
            "priority": round(float(priority[index]), 4),
            "doubt": doubts[index],
            "disagreement": disagreements[index],
            "novelty": round(float(novelty[index]), 4),
        }
        ordered.append(replace(drafts[index], scores=scores))
        left[index] = False
        cosines = vectors @ vectors[[index]].toarray()[0]
        distances = np.round(np.clip(1 - cosines, 0, 1), _DIGITS)
        novelty = np.minimum(novelty, distances)
    return ordered


def shuffled(drafts: Sequence[Draft], seed: int, limit: int | None = None) -> list[Draft]:
    """As many in random order, to compare with."""
    drafts = [replace(draft, scores={}) for draft in drafts]
    random.Random(seed).shuffle(drafts)
    return drafts[:limit]


def doubt(draft: Draft) -> float | None:
    """None if no reader says how sure it is."""
    answer = next((answer for answer in draft.answers if answer.confidence is not None), None)
    if answer is None:
        return None
    return 1.0 if answer.finished in _CUT else round(1 - answer.confidence, 4)


def disagreement(draft: Draft) -> float | None:
    """None of a single reader."""
    return None if draft.agreement is None else round(1 - draft.agreement, 4)


def priorities(doubts: Sequence[float | None], disagreements: Sequence[float | None]) -> np.ndarray:
    ranks = np.stack([_ranks(doubts), _ranks(disagreements)])  # (2, N)
    known = ~np.isnan(ranks)
    total = np.where(known, ranks, 0).sum(0)
    return np.where(known.any(0), total / np.maximum(known.sum(0), 1), UNSURE)


def _ranks(values: Sequence[float | None]) -> np.ndarray:
    """From 1/N to 1 among those that are known; NaN for the others."""
    numbers = np.array([np.nan if value is None else value for value in values])
    known = ~np.isnan(numbers)
    ranks = np.full(len(numbers), np.nan)
    ranks[known] = rankdata(numbers[known]) / max(1, known.sum())
    return ranks


def trigram_vectors(texts: Sequence[str]) -> csr_array:
    """(N, V): the counts of each text's trigrams, of length 1, V of them in all."""
    columns: dict[str, int] = {}
    indices, values, ends = [], [], [0]
    for text in texts:
        counts = trigrams(text)
        norm = np.sqrt(sum(count**2 for count in counts.values()))
        indices += [columns.setdefault(gram, len(columns)) for gram in counts]
        values += [count / norm for count in counts.values()]
        ends.append(len(indices))
    return csr_array((values, indices, ends), shape=(len(texts), len(columns)))


def trigrams(text: str) -> Counter[str]:
    """Both ends of the text are marked, so that an empty one has some too."""
    marked = "\x02" * (SIZE - 1) + " ".join(text.lower().split()) + "\x03" * (SIZE - 1)
    return Counter(marked[start : start + SIZE] for start in range(len(marked) - SIZE + 1))
