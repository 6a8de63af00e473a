"""Samples to look at: orders, pictures, choices, and what the page's script is given of each sample.

Knows samples.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from rapidfuzz.distance import Levenshtein

from got_train.evaluation.scored import ScoredPrediction, groups
from got_train.html.page import escaped, select

from .renderings import Budget

CHIPS = ("edit_distance", "cer", "f1", "bleu", "exact_match")
_DRAWN = 1000  # samples whose tables, formulas or molecules are drawn, at most
_SEED = 7


def controls(scored: Sequence[ScoredPrediction], orders: Mapping[str, Sequence[int]], pictures: int) -> str:
    """By what the samples are sorted and chosen."""
    names = {name for sample in scored for name in groups(sample.prediction)}
    selects = []
    for name in sorted(names, key=lambda name: ("task", "language", "length", "source", name).index(name)):
        values = sorted({groups(sample.prediction).get(name, "") for sample in scored} - {""})
        if 1 < len(values) <= 200:
            selects.append(select(name, ["", *values], f'data-group="{escaped(name)}"', "all"))
    faults = sorted({fault for sample in scored for fault in _faults(sample)})
    order = "".join(f'<option value="{name}">{name.replace("_", " ")}</option>' for name in orders)
    return (
        "<h2 id=look>Samples</h2><p class='note legend'>Reference and answer in one text: <del>missing</del> "
        f"stands in the reference only, <ins>extra</ins> in the answer only. {pictures:,} samples have their "
        "picture in this file, with the region that was asked.</p>"
        f"<div id=controls><label>order<select id=order>{order}</select></label>{''.join(selects)}"
        + select("fault", ["", *faults], "id=fault", "any")
        + "<label>words<input id=words type=search placeholder='in name or text'></label>"
        "<span id=shown></span></div><div id=samples></div><button id=more>more</button></main>"
    )


def orders(
    scored: Sequence[ScoredPrediction], before: Sequence[ScoredPrediction] | None
) -> dict[str, list[int]]:
    """The samples' places in each order that they can be looked at in."""
    indices = list(range(len(scored)))
    mixed = indices.copy()
    random.Random(_SEED).shuffle(mixed)
    result = {"worst_first": sorted(indices, key=lambda index: -scored[index].fixed["edit_distance"])}
    if before is not None:
        known = {sample.prediction.name: sample.fixed["edit_distance"] for sample in before}
        change = [
            sample.fixed["edit_distance"] - known.get(sample.prediction.name, math.nan) for sample in scored
        ]
        both = [index for index in indices if not math.isnan(change[index])]
        result |= {
            "most_changed": sorted(both, key=lambda index: -abs(change[index])),
            "most_worsened": sorted(both, key=lambda index: -change[index]),
            "most_improved": sorted(both, key=lambda index: change[index]),
        }
    return {**result, "random": mixed, "as_in_the_data": indices}


def pictured(orders: Mapping[str, Sequence[int]], most: int) -> list[int]:
    """Whose pictures go into the file: the first of each order in turn."""
    chosen: dict[int, None] = {}
    for rank in range(max(map(len, orders.values()), default=0)):
        for order in orders.values():
            if len(chosen) >= most:
                return list(chosen)
            if rank < len(order):
                chosen[order[rank]] = None
    return list(chosen)


def rows(
    scored: Sequence[ScoredPrediction], before: Sequence[ScoredPrediction] | None, pictures: Mapping[int, int]
) -> list[dict[str, Any]]:
    """What the page's script needs of each sample, under short names, for there may be thousands."""
    known = {sample.prediction.name: sample.answer for sample in before or ()}
    cards, drawings, budget = [], 0, Budget()
    for index, sample in enumerate(scored):
        prediction = sample.prediction
        row = {
            "n": prediction.name,
            "r": sample.reference,
            "p": sample.answer,
            "o": _edits(sample.reference, sample.answer),
            "s": {name: sample.value(name) for name in sample.metrics if name in CHIPS or "." in name},
            "g": {name: value for name, value in groups(prediction).items() if value},
            "f": _faults(sample),
        }
        if prediction.color is not None:
            row["g"]["asked"] = prediction.color
        if prediction.failed is not None:
            row["e"] = prediction.failed
        if prediction.name in known:
            row |= {"b": known[prediction.name], "c": _edits(sample.reference, known[prediction.name])}
        if index in pictures:
            row["i"] = pictures[index]
        if drawings < _DRAWN:
            looks = (
                budget.drawn(sample.reference, sample.answer_type),
                budget.drawn(sample.answer, sample.answer_type),
            )
            if any(looks):
                row["l"] = looks
                drawings += 1
        cards.append(row)
    return cards


def _edits(reference: str, prediction: str) -> list[tuple[int, int, int, int]]:
    edits = Levenshtein.opcodes(reference, prediction)
    return [
        (code.src_start, code.src_end, code.dest_start, code.dest_end)
        for code in edits
        if code.tag != "equal"
    ]


def _faults(sample: ScoredPrediction) -> list[str]:
    signs = [name for name in sample.degeneration if sample.degeneration[name] is True]
    return [*(["failed"] if sample.prediction.failed is not None else []), *signs]
