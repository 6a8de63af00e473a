"""Documents held out for validation: what belongs together stays together, and the same choice every time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from got_train.data.documents import documents_of
from got_train.data.records import RecordError
from got_train.preflight.duplicates import PairGroup
from got_train.preflight.fingerprints import hash_bytes
from got_train.preflight.scan import ScanResult

NEAR = 0.002  # of the rows, by which the share that is held out may miss the one that is asked for

Row = tuple[int, int]  # source, row


@dataclass(frozen=True)
class Split:
    """Rows to train on and rows held out, both in their order, and how documents were told."""

    train: list[Row]
    validation: list[Row]
    asked: float
    documents: tuple[int, int]  # held out, and all
    told_by: str
    joined: int  # documents that share (nearly) the same pages with others

    @property
    def share(self) -> float:
        return len(self.validation) / (len(self.train) + len(self.validation))

    def __str__(self) -> str:
        rows = len(self.train) + len(self.validation)
        held_out, documents = self.documents
        alike = (
            f"; {self.joined} of them share (nearly) the same pages and stay together" if self.joined else ""
        )
        missed = abs(self.share - self.asked) > max(NEAR, 1 / rows)
        why = f", not {self.asked:.1%}: documents stay whole" if missed else ""
        return (
            f"held out: {len(self.validation):,} of {rows:,} rows ({self.share:.1%}{why}), {held_out:,} of "
            f"{documents:,} documents, told by {self.told_by}{alike}"
        )


def split_by_document(result: ScanResult, pairs: Sequence[PairGroup], share: float, rule: str = "") -> Split:
    """A share of the rows, in whole documents; bad rows are in neither part.

    Rows of one document, and documents with (nearly) the same pages, are one group.
    """
    rows = [(int(row["source"]), int(row["row"])) for row in result.fingerprints]
    names, told_by = documents_of((result.sources[source].records[row] for source, row in rows), rule)
    groups = _Groups(len(rows))
    first: dict[str, int] = {}
    for index, name in enumerate(names):
        groups.join(index, first.setdefault(name, index))
    documents = len(first)
    for pair in pairs:
        for one, other in pair.places:
            groups.join(int(one), int(other))
    members = defaultdict(list)
    for index in range(len(rows)):
        members[groups.root(index)].append(index)
    if len(members) < 2:
        cause = f"all rows belong to one document, told by {told_by}"
        if documents > 1:
            cause = f"all {documents} documents share (nearly) the same pages with others"
        raise RecordError(
            f"--split {share}: {cause}; hold out a file of your own, or say by --document what a document is"
        )
    held_out = _chosen(result, list(members.values()), share)
    return Split(
        [row for index, row in enumerate(rows) if index not in held_out],
        [row for index, row in enumerate(rows) if index in held_out],
        share,
        (len({names[index] for index in held_out}), documents),
        told_by,
        sum(len(places) > 1 for places in map(set, _names_of(members, names))),
    )


def _names_of(members: dict[int, list[int]], names: Sequence[str]) -> list[list[str]]:
    return [[names[index] for index in indices] for indices in members.values()]


def _chosen(result: ScanResult, members: list[list[int]], share: float) -> set[int]:
    """Whole groups, in an order that their pictures decide, as near to the share as they go; never all."""
    order = sorted(members, key=lambda indices: hash_bytes(*sorted(_key(result, index) for index in indices)))
    target = share * len(result.fingerprints)
    held_out: set[int] = set()
    taken = 0
    for indices in order:
        if len(held_out) + len(indices) / 2 <= target and taken < len(order) - 1:
            held_out.update(indices)
            taken += 1
    if not held_out:  # the smallest, where each is too large for the share
        held_out.update(min(order, key=len))
    return held_out


def _key(result: ScanResult, index: int) -> bytes:
    return int(result.fingerprints["pictures"][index]).to_bytes(8, "little")


class _Groups:
    """Indices that belong together (union-find)."""

    def __init__(self, count: int) -> None:
        self._above = list(range(count))

    def root(self, index: int) -> int:
        while self._above[index] != index:
            self._above[index] = self._above[self._above[index]]
            index = self._above[index]
        return index

    def join(self, one: int, other: int) -> None:
        self._above[self.root(one)] = self.root(other)
