"""Metrics of a text against its reference: edit distance, CER, WER, words, BLEU, METEOR; their averages.

Plain functions on (prediction, reference); no files, no tasks, no model. Text is taken as it is: case,
punctuation, width and composition of characters all count.
"""

from __future__ import annotations

import math
import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from functools import lru_cache

from rapidfuzz.distance import Levenshtein

from . import jieba_words
from .meteor import known_synonyms, meteor

UNITS = ("word", "character")  # what BLEU, METEOR, WER and the sets count; characters: scene text
MODES = ("fixed", "official")
CASES = ("kept", "fold")  # fold: for labels that do not tell case, such as those of SROIE
OFFICIAL = ("edit_distance", "precision", "recall", "f1", "bleu", "meteor")  # what GOT's scripts compute
WORDS = ("word_precision", "word_recall", "word_f1")  # SROIE's score of task 2, each occurrence counted
COUNTED = ("edit_distance", "cer", "wer", "precision", "recall", "f1", *WORDS)  # these have a micro average
MICRO_ONLY = ("cer", "wer")  # runs are compared by these rates over all their text, as the field does
FIXED = (*COUNTED, "exact_match", "bleu", "meteor")
_CHINESE = re.compile("[\u4e00-\u9fa5]")  # the official range; without the rarer characters


def edit_distance(prediction: str, reference: str) -> float:
    """Levenshtein's distance over the longer text's length: 0 equal, 1 nothing in common."""
    return Levenshtein.distance(prediction, reference) / (max(len(prediction), len(reference)) or 1)


def cer(prediction: str, reference: str) -> float:
    """Characters to change per character of the reference; may exceed 1. Without a reference 0 or 1."""
    return _rate(Levenshtein.distance(prediction, reference), len(reference))


def wer(prediction: str, reference: str) -> float:
    """Words to change per word of the reference; Chinese words are jieba's, white space is none."""
    predicted, expected = (_visible(words) for words in tokens(prediction, reference))
    return _rate(Levenshtein.distance(predicted, expected), len(expected))


def exact_match(prediction: str, reference: str) -> bool:
    """Equal but for white space around them, which answers are stripped of."""
    return prediction.strip() == reference.strip()


def tokens(prediction: str, reference: str, unit: str = "word") -> tuple[list[str], list[str]]:
    """Both texts in words, or in characters. Where either is Chinese, jieba cuts both and keeps blanks."""
    _check("unit", unit, UNITS)
    if unit == "character":
        return list(prediction), list(reference)
    if _CHINESE.search(prediction) or _CHINESE.search(reference):
        return jieba_words.words(prediction), jieba_words.words(reference)
    return prediction.split(), reference.split()


def bleu(prediction: Sequence[str], reference: Sequence[str]) -> float:
    """BLEU-4 of one list of words, without smoothing, as NLTK computes it: below 4 words nearly 0."""
    logs = []
    for size in range(1, 5):
        predicted, possible = _ngrams(tuple(prediction), size), _ngrams(tuple(reference), size)
        common = (predicted & possible).total()
        if size == 1 and not common:
            return 0.0
        # NLTK's stand-in for 0, whose logarithm does not exist
        logs.append(math.log(common / max(1, predicted.total()) if common else sys.float_info.min))
    shortness = min(0.0, 1 - len(reference) / len(prediction))
    return math.exp(shortness) * math.exp(math.fsum(0.25 * value for value in logs))


@dataclass(frozen=True)
class Counts:
    """What the rates of one pair are made of; the rates of a sum of Counts are its micro averages."""

    edits: int = 0
    longest: int = 0  # characters of the longer text
    characters: int = 0  # of the reference, like words
    word_edits: int = 0
    words: int = 0
    common: int = 0  # different tokens in both
    predicted: int = 0  # different tokens of the prediction
    expected: int = 0  # different tokens of the reference
    word_matches: int = 0  # words of the prediction that the reference has too, each with one of its own
    predicted_words: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*map(sum, zip(astuple(self), astuple(other), strict=True)))

    def ratio(self, metric: str) -> tuple[int, int]:
        """Numerator and denominator of a metric that has a micro average."""
        return {
            "edit_distance": (self.edits, self.longest),
            "cer": (self.edits, self.characters),
            "wer": (self.word_edits, self.words),
            "precision": (self.common, self.predicted),
            "recall": (self.common, self.expected),
            "f1": (2 * self.common, self.predicted + self.expected),
            "word_precision": (self.word_matches, self.predicted_words),
            "word_recall": (self.word_matches, self.words),
            "word_f1": (2 * self.word_matches, self.predicted_words + self.words),
        }[metric]

    @property
    def edit_distance(self) -> float:
        return self.edits / (self.longest or 1)

    @property
    def cer(self) -> float:
        return _rate(self.edits, self.characters)

    @property
    def wer(self) -> float:
        return _rate(self.word_edits, self.words)

    @property
    def precision(self) -> float:
        return self.common / self.predicted if self.predicted else float(not self.expected)

    @property
    def recall(self) -> float:
        return self.common / self.expected if self.expected else float(not self.predicted)

    @property
    def f1(self) -> float:
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0

    @property
    def word_precision(self) -> float:
        return self.word_matches / self.predicted_words if self.predicted_words else float(not self.words)

    @property
    def word_recall(self) -> float:
        return self.word_matches / self.words if self.words else float(not self.predicted_words)

    @property
    def word_f1(self) -> float:
        total = self.predicted_words + self.words
        return 2 * self.word_matches / total if total else 1.0


@dataclass(frozen=True)
class Score:
    """All metrics of one pair."""

    counts: Counts
    exact_match: bool
    bleu: float
    meteor: float

    def __getitem__(self, name: str) -> float:
        return float(getattr(self.counts if name in COUNTED else self, name))


def score(prediction: str, reference: str, unit: str = "word", mode: str = "fixed") -> Score | None:
    """All metrics of one pair.

    fixed: an answer of no words has 0 in everything that is better when high; if the reference has none
    either, 1. official: as GOT's scripts call their function, with prediction and reference exchanged (its
    precision is recall; BLEU and METEOR see the answer as the reference), and None, to be left out of the
    mean, if one side has no words. CER and WER mean nothing there; OFFICIAL names what does.
    """
    _check("mode", mode, MODES)
    if mode == "official":
        prediction, reference = reference, prediction
    predicted, expected = tokens(prediction, reference, unit)
    if mode == "official" and not (predicted and expected):
        return None
    neither = not predicted and not expected
    return Score(
        _count(prediction, reference, predicted, expected),
        exact_match(prediction, reference),
        bleu=1.0 if neither else bleu(predicted, expected),
        meteor=1.0 if neither else meteor(predicted, expected, known_synonyms()),
    )


def averages(scores: Sequence[Score], names: Sequence[str] = FIXED) -> dict[str, dict[str, float]]:
    """macro: the mean over the pairs; micro: the rate over all their characters or words together."""
    if not scores:
        raise ValueError("averages: no scores; expected at least one")
    total = sum((score.counts for score in scores), Counts())
    return {
        "macro": {name: math.fsum(score[name] for score in scores) / len(scores) for name in names},
        "micro": {name: getattr(total, name) for name in names if name in COUNTED},
    }


def _count(prediction: str, reference: str, predicted: list[str], expected: list[str]) -> Counts:
    words, read = _visible(expected), _visible(predicted)
    return Counts(
        edits=Levenshtein.distance(prediction, reference),
        longest=max(len(prediction), len(reference)),
        characters=len(reference),
        word_edits=Levenshtein.distance(read, words),
        words=len(words),
        common=len({*predicted} & {*expected}),
        predicted=len({*predicted}),
        expected=len({*expected}),
        word_matches=(Counter(read) & Counter(words)).total(),
        predicted_words=len(read),
    )


def _rate(edits: int, length: int) -> float:
    return edits / length if length else float(edits > 0)


def _visible(words: Iterable[str]) -> list[str]:
    return [word for word in words if not word.isspace()]


@lru_cache(maxsize=8)  # of the pair at hand, for both modes
def _ngrams(words: tuple[str, ...], size: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(words[start:] for start in range(size)), strict=False))


def _check(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {value!r}")
