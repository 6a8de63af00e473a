"""Which characters a model was trained on, and which of a text it cannot know.

characters.json beside the weights lists those of the model's training answers. Models of others have no such
file; there only characters without a token of their own can be told.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from .records import RecordError, RecordStream

if TYPE_CHECKING:
    from got_train.tokenizer import Tokenizer

    from .records import Record

MAX_ROWS, MAX_SECONDS = 20_000, 20.0  # of a source that are looked at, evenly spaced; whichever ends first
SHOWN = 8


def characters_of(sources: Sequence[Sequence[Record] | RecordStream]) -> frozenset[str]:
    """The characters of the answers of these sources; streams, which read forward only, are left out."""
    characters: set[str] = set()
    for records in sources:
        if isinstance(records, RecordStream):
            continue
        end, stride = time.monotonic() + MAX_SECONDS, max(1, len(records) // MAX_ROWS)
        for row in range(0, len(records), stride):
            try:
                characters.update(records[row].text)
            except RecordError:
                continue  # the run itself has refused or skipped it
            if time.monotonic() > end:
                break
    return frozenset(characters)


def unfamiliar(text: str, tokenizer: Tokenizer, trained: frozenset[str] | None) -> Counter[str]:
    """How often each character comes that the model was not trained on, or else that has no token."""
    counts = Counter(char for char in text if not char.isspace())
    if trained is not None:
        return Counter({char: count for char, count in counts.items() if char not in trained})
    return Counter({char: n for char, n in counts.items() if len(tokenizer.encode(char)) > 1})


def describe(counts: Mapping[str, int], trained: bool) -> str:
    """The counts in words; `trained` says whether the model tells what it was trained on."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = ", ".join(f"{char!r} {count:,} time{'s' * (count != 1)}" for char, count in ordered[:SHOWN])
    rest = f" and {len(ordered) - SHOWN:,} more" if len(ordered) > SHOWN else ""
    single = len(ordered) == 1
    cause = (
        f"{'was' if single else 'were'} never trained"
        if trained
        else f"{'has' if single else 'have'} no token and {'is' if single else 'are'} spelled in bytes"
    )
    return f"{len(ordered):,} character{'s' * (not single)} {cause}: {shown}{rest}"
