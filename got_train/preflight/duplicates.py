"""The same rows twice, and rows of validation that the run also trains on, told from their finger prints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from . import fingerprints
from .findings import WARNING, Finding
from .scan import HELD_OUT, ScanResult

_LEAK = "take one of them out: what is trained on must not be in data.validation, nor in a probe"
_TWICE = "leave one out, unless it is meant to count more"
_ANSWERS = "keep the right one: the model cannot learn both"

# what two rows have in common -> (said of them, within one role also a fault)
_KINDS = {
    "pictures": ("the same picture", False),
    "dhash": ("nearly the same picture", True),
    "answer": ("the same answer", True),
    "minhash": ("nearly the same answer", True),
    "document": ("a page of the same document", False),
}


@dataclass(frozen=True)
class PairGroup:
    """Pairs of rows with something in common: `places` are rows of the finger prints."""

    subject: str  # leak, duplicate, contradiction
    what: str
    fix: str
    places: np.ndarray


def find_pairs(seen: ScanResult) -> list[PairGroup]:
    """All pairs, the strongest first; a pair stands under the strongest it belongs to only."""
    rows = seen.fingerprints
    held_out = np.array([source.role in HELD_OUT for source in seen.sources], bool)[rows["source"]]
    pairs = list(_same_questions(rows, held_out))
    kinds = {
        "pictures": _across(rows["pictures"], held_out),
        "dhash": fingerprints.near_images(rows, held_out),
        "answer": _of(rows["answer"], held_out),
        "minhash": fingerprints.near_answers(rows, held_out),
        "document": _across(rows["document"], held_out),
    }
    known = np.concatenate([_keys(pair.places, len(rows)) for pair in pairs])
    for kind, places in kinds.items():
        said, within = _KINDS[kind]
        places = places[~np.isin(_keys(places, len(rows)), known)]
        known = np.concatenate([known, _keys(places, len(rows))])
        across = held_out[places[:, 0]] != held_out[places[:, 1]]
        pairs.append(PairGroup("leak", f"{said} in training", _LEAK, places[across]))
        if within:  # other questions to a page are other rows
            alike = rows["question"][places[:, 0]] == rows["question"][places[:, 1]]
            pairs.append(PairGroup("duplicate", said, _TWICE, places[~across & alike]))
    return [pair for pair in pairs if len(pair.places)]


def findings(seen: ScanResult) -> Iterator[Finding]:
    """What the pairs say, one after another; the row to act on first, which is the one held out."""
    source, row = (seen.fingerprints[name].tolist() for name in ("source", "row"))
    held_out = [data.role in HELD_OUT for data in seen.sources]

    def where(index: int) -> str:
        return seen.sources[source[index]].location(row[index])

    for pair in find_pairs(seen):
        for first, later in pair.places.tolist():
            swap = held_out[source[first]] and not held_out[source[later]]
            act, keep = (first, later) if swap else (later, first)
            yield Finding(WARNING, pair.subject, where(act), f"{pair.what} as {where(keep)}", pair.fix)


def _same_questions(rows: np.ndarray, held_out: np.ndarray) -> Iterator[PairGroup]:
    """The same question to the same picture: with the same answer twice, with another a contradiction."""
    asked = np.stack([rows["pictures"], rows["question"], held_out.astype(np.uint64)], axis=1)
    places = fingerprints.same(asked)
    agree = rows["exact"][places[:, 0]] == rows["exact"][places[:, 1]]
    yield PairGroup("contradiction", "another answer to the same question", _ANSWERS, places[~agree])
    yield PairGroup("duplicate", "the same picture, question and answer", _TWICE, places[agree])


def _across(keys: np.ndarray, held_out: np.ndarray) -> np.ndarray:
    """Each row of validation whose key a row of training has, with the first of these."""
    train, valid = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    if not len(train) or not len(valid):
        return np.empty((0, 2), np.int64)
    known, first = np.unique(keys[train], return_index=True)
    nearest = np.minimum(np.searchsorted(known, keys[valid]), len(known) - 1)
    hit = (known[nearest] == keys[valid]) & (keys[valid] != 0)
    return np.stack([train[first[nearest[hit]]], valid[hit]], axis=1)


def _of(keys: np.ndarray, held_out: np.ndarray) -> np.ndarray:
    """Pairs with the same key, 0 excepted: across the roles, and within each."""
    rows = np.flatnonzero(keys)
    both = np.stack([keys[rows], held_out[rows].astype(np.uint64)], axis=1)
    within = rows[fingerprints.same(both)] if len(rows) else np.empty((0, 2), np.int64)
    return np.concatenate([_across(keys, held_out), within.reshape(-1, 2)])


def _keys(places: np.ndarray, rows: int) -> np.ndarray:
    """Each pair as one number."""
    return places[:, 0] * rows + places[:, 1]
