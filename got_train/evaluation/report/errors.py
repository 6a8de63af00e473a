"""Where the errors are: by distance and length, signs of degeneration, characters and words confused.

Knows samples.
"""

from __future__ import annotations

import random
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from got_train.evaluation.metrics import characters, text
from got_train.evaluation.scored import ScoredPrediction
from got_train.evaluation.statistics import interval
from got_train.html import charts
from got_train.html.page import escaped, table

BINS = 5  # of length
_CONFUSIONS = 15  # a script
_NAMED = {"": "nothing", " ": "space", "\n": "new line", "\t": "tab", "\u00a0": "no-break space"}
_DOTS = 1000  # points of a drawing, at most
_SEED = 7


def drawings(scored: Sequence[ScoredPrediction]) -> str:
    if not scored:
        return ""
    values = [sample.fixed["edit_distance"] for sample in scored]
    lengths = [(len(sample.reference), len(sample.answer)) for sample in scored]
    if len(lengths) > _DOTS:
        lengths = random.Random(_SEED).sample(lengths, _DOTS)
    figures = {
        "Rows by edit distance": charts.histogram(values),
        "Edit distance by length": charts.bars(
            _by_length(scored), "characters of the reference", "mean, 95%"
        ),
        "Lengths": charts.points(lengths, "characters of the reference", "of the answer"),
    }
    parts = [f"<figure><figcaption>{name}</figcaption>{figure}</figure>" for name, figure in figures.items()]
    return f"<h2>Where the errors are</h2><div class=charts>{''.join(parts)}</div>"


def _by_length(scored: Sequence[ScoredPrediction]) -> list[tuple[str, float, float, float]]:
    """Edit distance in bins of length that hold about as many rows each: (bin, mean, low, high)."""
    lengths = [len(row.reference) for row in scored]
    bars, low = [], min(lengths)
    for high in length_edges(lengths):
        rows = [row for row, length in zip(scored, lengths, strict=True) if low <= length <= high]
        values = [row.fixed["edit_distance"] for row in rows]
        ends = interval(values, clusters=[row.prediction.cluster for row in rows], draws=1000)
        bars.append((str(high) if low == high else f"{low}-{high}", sum(values) / len(values), *ends))
        low = high + 1
    return bars


def length_edges(lengths: Sequence[int]) -> list[int]:
    """Where bins of length end: at most BINS, at round numbers, none empty; the last ends at the longest."""
    ordered = sorted(lengths)
    edges: list[int] = []
    for part in range(1, BINS):
        quantile = ordered[part * len(ordered) // BINS]
        unit = 10 ** max(0, len(str(quantile)) - 2)  # two digits: 12, 120, 1300
        edge = round(quantile / unit) * unit
        first = edges[-1] + 1 if edges else ordered[0]
        if any(first <= length <= edge for length in ordered) and edge < ordered[-1]:
            edges.append(edge)
    return [*edges, ordered[-1]]


def endings(scored: Sequence[ScoredPrediction]) -> str:
    """Signs of degeneration: how many rows show each, of those where it can be told."""
    seen: dict[str, list[float]] = defaultdict(list)
    for sample in scored:
        for name in (name for name in sample.degeneration if name != "length_ratio"):  # which is no sign
            value = sample.value(name)
            if value is not None:
                seen[name].append(value)
    rows = [
        f"<tr><td class=word>{escaped(name.replace('_', ' '))}<td>{sum(values):,.0f}<td>{len(values):,}"
        f"<td>{sum(values) / len(values):.4f}"
        for name, values in seen.items()
        if {*values} <= {0.0, 1.0}
    ]
    return f"<h3>Signs of degeneration</h3>{table(('sign', 'rows', 'of', 'share'), rows)}" if rows else ""


def confusions(scored: Sequence[ScoredPrediction]) -> str:
    pairs: Counter[tuple[str, str]] = Counter()
    words: Counter[tuple[str, str]] = Counter()
    there: Counter[str] = Counter()
    for sample in scored:
        answer, reference = sample.answer, sample.reference
        pairs += characters.confusions(answer, reference)
        there += Counter(map(characters.script, reference))
        if sample.fixed["edit_distance"] < 0.5:  # of others the words do not correspond
            words += characters.word_confusions(*map(_seen, text.tokens(answer, reference)))
    by_script: dict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
    for (expected, got), count in pairs.items():
        by_script[characters.script(expected or got)][expected, got] += count
    if not by_script:
        return "<h2 id=confusions>Confusions</h2><p class=note>No character was read wrongly.</p>"
    tables = [
        f"<div>{_confusion_table(script, counts, there[script])}</div>"
        for script, counts in sorted(by_script.items(), key=lambda item: -item[1].total())
    ]
    rows = [_confusion_row(expected, got, count) for (expected, got), count in words.most_common(_CONFUSIONS)]
    if rows:
        whole = table(("reference", "read as", "times"), rows, words=2)
        tables.append(f"<div><h3>Whole words</h3>{whole}</div>")
    note = "Characters of the reference and what was read for them, by script, the most frequent first."
    return (
        f"<h2 id=confusions>Confusions</h2><p class=note>{note}</p><div class=pairs>{''.join(tables)}</div>"
    )


def _seen(words: Iterable[str]) -> list[str]:
    return [word for word in words if not word.isspace()]


def _confusion_table(script: str, counts: Counter[tuple[str, str]], there: int) -> str:
    wrong = sum(count for (expected, _), count in counts.items() if expected)
    right = f"{1 - wrong / there:.2%} of {there:,} right" if there else "in no reference"
    rows = [
        _confusion_row(expected, got, count) for (expected, got), count in counts.most_common(_CONFUSIONS)
    ]
    return f"<h3>{script}: {right}</h3>{table(('reference', 'read as', 'times'), rows, words=2)}"


def _confusion_row(expected: str, got: str, count: int) -> str:
    return f"<tr><td class=word>{_visible(expected)}<td class=word>{_visible(got)}<td>{count:,}"


def _visible(character: str) -> str:
    """A character as one sees it; white space and marks that stand on others by their code."""
    if character in _NAMED:
        return f"<i>{_NAMED[character]}</i>"
    if (
        character.isspace()
        or not character.isprintable()
        or (len(character) == 1 and unicodedata.category(character).startswith("M"))
    ):
        return " ".join(f"U+{ord(char):04X}" for char in character)
    return f"<bdi>{escaped(character)}</bdi>"
