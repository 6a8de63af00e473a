"""Documents held out for validation: what belongs together stays together, and the same choice every time."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from got_train.data.records import RecordError
from got_train.preflight.duplicates import PairGroup
from got_train.preflight.fingerprints import hash_bytes
from got_train.preflight.scan import ScanResult

# invoice_7_page-3 belongs to invoice_7
_PAGE = re.compile(r"^(.*?)[-_. ]*(?:page|pg|p|seite|sheet|slice|crop)[-_. ]*\d+$", re.IGNORECASE)

Row = tuple[int, int]  # source, row


def split_by_document(
    seen: ScanResult, pairs: Sequence[PairGroup], share: float
) -> tuple[list[Row], list[Row]]:
    """Rows to train on and rows to hold out, both in their order; bad rows are in neither.

    Rows of one picture, pages of one document by their names, and (nearly) the same pages are one group.
    """
    groups = _Groups(len(seen.fingerprints))
    first: dict[str, int] = {}
    for place, row in enumerate(seen.fingerprints):
        groups.join(place, first.setdefault(_name(seen, row), place))
    for each in pairs:
        for one, other in each.places:
            groups.join(int(one), int(other))
    members = defaultdict(list)
    for place in range(len(seen.fingerprints)):
        members[groups.root(place)].append(place)
    if len(members) < 2:
        raise RecordError(f"--split {share}: all rows belong to one document; hold out a file of your own")
    held = _chosen(seen, list(members.values()), share)
    rows = [(int(row["source"]), int(row["row"])) for row in seen.fingerprints]
    return (
        [row for place, row in enumerate(rows) if place not in held],
        [row for place, row in enumerate(rows) if place in held],
    )


def _chosen(seen: ScanResult, members: list[list[int]], share: float) -> set[int]:
    """Whole groups, in an order that their pictures decide, until the share is reached; never all of them."""
    order = sorted(members, key=lambda places: hash_bytes(*sorted(_key(seen, place) for place in places)))
    held: set[int] = set()
    for places in order[:-1]:
        if held and len(held) + len(places) / 2 > share * len(seen.fingerprints):
            break
        held.update(places)
    return held


def _key(seen: ScanResult, place: int) -> bytes:
    return int(seen.fingerprints["pictures"][place]).to_bytes(8, "little")


def _name(seen: ScanResult, row: object) -> str:
    """The document of a row: folder and name of its first picture without its page."""
    record = seen.sources[int(row["source"])].records[int(row["row"])]
    path = Path(str(record.images[0]))
    page = _PAGE.match(path.stem)
    return str(path.parent / (page[1] if page and page[1] else path.stem))


class _Groups:
    """Places that belong together (union-find)."""

    def __init__(self, count: int) -> None:
        self._above = list(range(count))

    def root(self, place: int) -> int:
        while self._above[place] != place:
            self._above[place] = self._above[self._above[place]]
            place = self._above[place]
        return place

    def join(self, one: int, other: int) -> None:
        self._above[self.root(one)] = self.root(other)
