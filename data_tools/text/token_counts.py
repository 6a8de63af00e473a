"""Tokens of the answers that an engine wrote, by task, counted once for each shard and kept beside it.

Knows the shards of data_tools.produce and a tokenizer; what the counts are for is the caller's matter.
"""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from data_tools import produce
from got_train.atomic_write import write_atomic

CHARACTERS = "characters"  # what is counted without a tokenizer


class Count(NamedTuple):
    """Records of a task, and the tokens of their answers."""

    rows: int = 0
    tokens: int = 0
    longest: int = 0

    def plus(self, other: Iterable[int]) -> Count:
        rows, tokens, longest = other
        return Count(self.rows + rows, self.tokens + tokens, max(self.longest, longest))


def kind(task: str, box: Any, color: Any) -> str:
    """A task and how it names its region, such as `ocr, box`; upper levels sum over these."""
    if box is not None:
        return f"{task}, {'point' if len(box) == 2 else 'box'}"
    return task if color is None else f"{task}, color"


def kept(folder: Path, shard: int) -> Path:
    """Where the counts of a shard stand."""
    return folder / produce.STATE / f"{shard:05d}.tokens.json"


def count_shard(folder: Path, shard: int, tokenizer: str) -> None:
    """Count a finished shard, if that has not been done with this tokenizer."""
    if read_shard(folder, shard, tokenizer) is not None:
        return
    length = measure(tokenizer)
    counts: dict[str, Count] = {}
    for row in _rows(folder, shard):
        name = kind(row["task"], row.get("box"), row.get("color"))
        tokens = length(row["text"])
        counts[name] = counts.get(name, Count()).plus((1, tokens, tokens))
    path = kept(folder, shard)
    write_atomic(path, json.dumps({"tokenizer": tokenizer, "tasks": counts}) + "\n")


def read_shard(folder: Path, shard: int, tokenizer: str) -> dict[str, Count] | None:
    """The counts of a shard by this tokenizer; None if there are none."""
    path = kept(folder, shard)
    if not path.exists():
        return None
    content = json.loads(path.read_text())
    if content["tokenizer"] != tokenizer:
        return None
    return {task: Count(*count) for task, count in content["tasks"].items()}


def total(counts: Iterable[Mapping[str, Iterable[int]]]) -> dict[str, Count]:
    """The sum by task, the most records first."""
    result: dict[str, Count] = {}
    for by_task in counts:
        for task, count in by_task.items():
            result[task] = result.get(task, Count()).plus(count)
    order = Counter({task: count.rows for task, count in result.items()})
    return {task: result[task] for task, _ in order.most_common()}


@functools.lru_cache(maxsize=2)
def measure(tokenizer: str) -> Callable[[str], int]:
    """How many tokens a text has; without a tokenizer, characters."""
    if not tokenizer:
        return len
    from got_train.tokenizer import load_tokenizer

    encode = load_tokenizer(tokenizer).encode
    return lambda text: len(encode(text))


def _rows(folder: Path, shard: int) -> Iterator[dict[str, Any]]:
    lines = folder / produce.STATE / f"{shard:05d}.jsonl"
    if lines.exists():
        with lines.open(encoding="utf-8") as file:
            yield from map(json.loads, file)
        return
    from pyarrow import parquet

    (path,) = folder.glob(f"records-{shard:05d}-of-*.parquet")
    with parquet.ParquetFile(path) as table:
        yield from table.read(columns=["task", "text", "box", "color"]).to_pylist()
