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
    names = {name for each in scored for name in groups(each.prediction)}
    selects = []
    for name in sorted(names, key=lambda name: ("task", "language", "length", "source", name).index(name)):
        values = sorted({groups(each.prediction).get(name, "") for each in scored} - {""})
        if 1 < len(values) <= 200:
            selects.append(select(name, ["", *values], f'data-group="{escaped(name)}"', "all"))
    faults = sorted({fault for each in scored for fault in _faults(each)})
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
    places = list(range(len(scored)))
    mixed = places.copy()
    random.Random(_SEED).shuffle(mixed)
    found = {"worst_first": sorted(places, key=lambda place: -scored[place].fixed["edit_distance"])}
    if before is not None:
        known = {each.prediction.name: each.fixed["edit_distance"] for each in before}
        change = [each.fixed["edit_distance"] - known.get(each.prediction.name, math.nan) for each in scored]
        both = [place for place in places if not math.isnan(change[place])]
        found |= {
            "most_changed": sorted(both, key=lambda place: -abs(change[place])),
            "most_worsened": sorted(both, key=lambda place: -change[place]),
            "most_improved": sorted(both, key=lambda place: change[place]),
        }
    return {**found, "random": mixed, "as_in_the_data": places}


def pictured(orders: Mapping[str, Sequence[int]], most: int) -> list[int]:
    """Whose pictures go into the file: the first of each order in turn."""
    chosen: dict[int, None] = {}
    for rank in range(max(map(len, orders.values()), default=0)):
        for places in orders.values():
            if len(chosen) >= most:
                return list(chosen)
            if rank < len(places):
                chosen[places[rank]] = None
    return list(chosen)


def rows(
    scored: Sequence[ScoredPrediction], before: Sequence[ScoredPrediction] | None, pictures: Mapping[int, int]
) -> list[dict[str, Any]]:
    """What the page's script needs of each sample, under short names, for there may be thousands."""
    known = {each.prediction.name: each.answer for each in before or ()}
    found, drawings, budget = [], 0, Budget()
    for place, each in enumerate(scored):
        said = each.prediction
        row = {
            "n": said.name,
            "r": each.reference,
            "p": each.answer,
            "o": _edits(each.reference, each.answer),
            "s": {name: each.value(name) for name in each.metrics if name in CHIPS or "." in name},
            "g": {name: value for name, value in groups(said).items() if value},
            "f": _faults(each),
        }
        if said.color is not None:
            row["g"]["asked"] = said.color
        if said.failed is not None:
            row["e"] = said.failed
        if said.name in known:
            row |= {"b": known[said.name], "c": _edits(each.reference, known[said.name])}
        if place in pictures:
            row["i"] = pictures[place]
        if drawings < _DRAWN:
            looks = (
                budget.drawn(each.reference, each.answer_type),
                budget.drawn(each.answer, each.answer_type),
            )
            if any(looks):
                row["l"] = looks
                drawings += 1
        found.append(row)
    return found


def _edits(reference: str, prediction: str) -> list[tuple[int, int, int, int]]:
    found = Levenshtein.opcodes(reference, prediction)
    return [
        (code.src_start, code.src_end, code.dest_start, code.dest_end)
        for code in found
        if code.tag != "equal"
    ]


def _faults(sample: ScoredPrediction) -> list[str]:
    signs = [name for name in sample.degeneration if sample.degeneration[name] is True]
    return [*(["failed"] if sample.prediction.failed is not None else []), *signs]
