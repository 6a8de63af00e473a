"""What the rows of one source are like, in numbers that can be added up; no row is kept.

Counts by value, so that quantiles are exact: there are never more lengths than data.max_tokens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import regex

SCRIPTS = (
    *("Latin", "Han", "Hiragana", "Katakana", "Hangul", "Cyrillic", "Greek", "Arabic", "Hebrew"),
    *("Devanagari", "Bengali", "Gurmukhi", "Gujarati", "Oriya", "Tamil", "Telugu", "Kannada", "Malayalam"),
    *("Sinhala", "Thai", "Lao", "Tibetan", "Myanmar", "Khmer", "Georgian", "Armenian", "Ethiopic"),
    *("Mongolian", "Cherokee", "Syriac", "Thaana"),
)
_RUNS = regex.compile(
    "|".join(rf"(?P<{name}>\p{{{name}}}[\p{{{name}}}\p{{M}}]*)" for name in SCRIPTS)
    + r"|(?P<Digits>\p{N}+)|(?P<Marks>[^\p{L}\p{N}\p{M}\s]+)|(?P<Other>\p{L}[\p{L}\p{M}]*)"
)
BINS = (64, 128, 256, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 16384, 32768)


def script_runs(text: str) -> dict[str, list[str]]:
    """The pieces of a text by the script they are written in; Digits, Marks and Other for the rest."""
    runs: dict[str, list[str]] = {}
    for match in _RUNS.finditer(text):
        runs.setdefault(match.lastgroup, []).append(match[0])
    return runs


@dataclass
class Histogram:
    """Counts of whole numbers."""

    counts: Counter[int] = field(default_factory=Counter)

    def add(self, value: int) -> None:
        self.counts[value] += 1

    def merge(self, other: Histogram) -> None:
        self.counts.update(other.counts)

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def mean(self) -> float:
        return sum(value * count for value, count in self.counts.items()) / max(1, self.total)

    def quantile(self, share: float) -> int:
        """The smallest value that at least this share of all do not exceed; 0 of none."""
        seen, target = 0, share * self.total
        for value in sorted(self.counts):
            seen += self.counts[value]
            if seen >= target:
                return value
        return 0

    def above(self, most: int) -> int:
        return sum(count for value, count in self.counts.items() if value > most)

    def histogram(self, bins: Iterable[int] = BINS) -> list[list[int]]:
        """[upper edge, count] of the bins from the first to the last that holds something."""
        edges, bars, low = list(bins), [], -1
        for edge in [*edges, max([*self.counts, edges[-1]])]:
            if edge > low:
                bars.append([edge, sum(n for value, n in self.counts.items() if low < value <= edge)])
            low = max(low, edge)
        while len(bars) > 1 and not bars[-1][1]:
            bars.pop()
        while len(bars) > 1 and not bars[0][1]:
            bars.pop(0)
        return bars

    def plain(self) -> dict[str, Any]:
        at = {name: self.quantile(share) for name, share in (("median", 0.5), ("p95", 0.95), ("p99", 0.99))}
        ends = {"least": min(self.counts, default=0), "most": max(self.counts, default=0)}
        return {**ends, "mean": round(self.mean, 1), **at}


@dataclass
class ScriptTokens:
    """Of one script: its characters, their bytes, and the tokens these became."""

    characters: int = 0
    size: int = 0  # bytes
    tokens: int = 0

    def merge(self, other: ScriptTokens) -> None:
        self.characters += other.characters
        self.size += other.size
        self.tokens += other.tokens

    def plain(self) -> dict[str, Any]:
        tokens = max(1, self.tokens)
        return {
            "characters": self.characters,
            "bytes_per_token": round(self.size / tokens, 2),
            "tokens_per_character": round(self.tokens / max(1, self.characters), 2),
        }


@dataclass
class Statistics:
    """One source. `lines` counts the smallest line heights of one-view rows, in pixels of a view."""

    rows: int = 0
    bad: int = 0
    tasks: Counter[str] = field(default_factory=Counter)
    tokens: Histogram = field(default_factory=Histogram)  # of a whole sample
    answers: Histogram = field(default_factory=Histogram)  # tokens that are learnt
    characters: Histogram = field(default_factory=Histogram)
    views: Histogram = field(default_factory=Histogram)
    sides: Histogram = field(default_factory=Histogram)  # the longer one of the first picture, pixels
    lines: Histogram = field(default_factory=Histogram)
    cropped: Histogram = field(default_factory=Histogram)  # the same lines, were the page cut into tiles
    no_lines: int = 0
    crop_widths: Histogram = field(default_factory=Histogram)  # of a character of a line crop, view pixels
    narrow: list[tuple[int, str]] = field(default_factory=list)  # crop widths, location: the worst few
    # lines, cropped, task of tiles (empty: none), location: the worst few
    small: list[tuple[int, int, str, str]] = field(default_factory=list)
    scripts: dict[str, ScriptTokens] = field(default_factory=dict)
    unfamiliar: Counter[str] = field(default_factory=Counter)  # characters, see data/characters.py

    def merge(self, other: Statistics) -> None:
        self.rows += other.rows
        self.bad += other.bad
        self.no_lines += other.no_lines
        self.tasks.update(other.tasks)
        self.unfamiliar.update(other.unfamiliar)
        for name in ("tokens", "answers", "characters", "views", "sides", "lines", "cropped", "crop_widths"):
            getattr(self, name).merge(getattr(other, name))
        self.small = sorted([*self.small, *other.small])[:5]
        self.narrow = sorted([*self.narrow, *other.narrow])[:5]
        for name, fitness in other.scripts.items():
            self.scripts.setdefault(name, ScriptTokens()).merge(fitness)

    def plain(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "bad": self.bad,
            "tasks": dict(self.tasks.most_common()),
            "tokens": {**self.tokens.plain(), "histogram": self.tokens.histogram()},
            "answer_tokens": self.answers.plain(),
            "answer_characters": self.characters.plain(),
            "views": self.views.plain(),
            "longer_side": self.sides.plain(),
            "smallest_lines": {
                "pages": self.lines.total,
                "untold": self.no_lines,
                "p5": self.lines.quantile(0.05),
                **self.lines.plain(),
            },
            "line_crops": {"rows": self.crop_widths.total, **self.crop_widths.plain()},
            "scripts": plain_scripts(self.scripts),
            "unfamiliar_characters": dict(self.unfamiliar.most_common()),
        }


def merged(parts: Iterable[Statistics]) -> Statistics:
    """Several sources as one."""
    whole = Statistics()
    for part in parts:
        whole.merge(part)
    return whole


def plain_scripts(scripts: Mapping[str, ScriptTokens]) -> dict[str, Any]:
    ordered = sorted(scripts.items(), key=lambda item: -item[1].characters)
    return {name: fitness.plain() for name, fitness in ordered}
