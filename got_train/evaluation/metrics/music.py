"""How like two scores in **kern are, by characters, symbols and lines, and whether the answer holds together.

The rates are the Sheet Music Transformer's; the grammar asks for what no reader of **kern can do without.
"""

from __future__ import annotations

from collections.abc import Sequence

from rapidfuzz.distance import Levenshtein

from got_train.formats.kern import CUTS, notes, parses

from .values import MetricValues, means, rate

RATES = ("music_cer", "music_ser", "music_ler")


def score(prediction: str, reference: str) -> MetricValues:
    """The rates of this pair, each edits over the reference's length; and whether the answer parses."""
    rates, parts = {}, {}
    for name, cut in CUTS.items():
        predicted, expected = cut(prediction), cut(reference)
        edits = Levenshtein.distance(predicted, expected)
        rates[name] = edits / len(expected) if expected else float(edits > 0)
        parts[name] = edits, len(expected)
    same = notes(prediction) == notes(reference)
    return MetricValues({**rates, "parses": parses(prediction), "same_notes": same}, counts=parts)


def averages(pairs: Sequence[MetricValues]) -> dict[str, float | None]:
    """The rates over all pairs together, in parts of 1; the shares of those that parse and count alike."""
    return means(pairs) | {name: rate(pairs, name) for name in RATES}
