"""What is known of each benchmark: versions, size, licence, where its data come from, published values.

It stands in catalog.yaml.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from got_train.errors import EvaluationError


@dataclass(frozen=True)
class Value:
    """A published value: who, what, how much, from where and when."""

    system: str
    score: str
    value: str
    source: str


@dataclass(frozen=True)
class Benchmark:
    """A benchmark as `got benchmarks` lists it."""

    name: str
    title: str
    versions: list[str]  # of its rules, the latest last
    size: str
    licence: str
    data: str  # where they are published
    layout: str  # what the folder holds
    scored: str
    values: tuple[Value, ...] = ()


def _read() -> Iterator[Benchmark]:
    entries = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
    for entry in entries:
        sources = entry.pop("values", {})
        values = tuple(Value(*value, source) for source, listed in sources.items() for value in listed)
        yield Benchmark(**entry, values=values)


BENCHMARKS = tuple(_read())


def listed(name: str | None = None) -> str:
    """All benchmarks in a line each, or all that is known of one."""
    if name is None:
        rows = [
            f"{benchmark.name:14} {', '.join(benchmark.versions):20} {benchmark.title}"
            for benchmark in BENCHMARKS
        ]
        return "\n".join([f"{'name':14} {'versions':20} what it is", *rows])
    entry = next((benchmark for benchmark in BENCHMARKS if benchmark.name == name), None)
    if entry is None:
        known = ", ".join(benchmark.name for benchmark in BENCHMARKS)
        raise EvaluationError(f"{name}: unknown benchmark; expected one of {known}")
    facts = {
        "versions": ", ".join(entry.versions),
        "size": entry.size,
        "licence": entry.licence,
        "data": entry.data,
        "folder": entry.layout,
        "scored": entry.scored,
    }
    lines = [entry.title, *(f"{key:9} {value}" for key, value in facts.items())]
    if entry.values:
        lines.append("published by others:")
        lines += [f"  {value.system}: {value.score} {value.value} ({value.source})" for value in entry.values]
    return "\n".join(lines)
