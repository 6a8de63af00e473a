"""What a check has to say: counted by kind, with some examples; a million bad rows take little room."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from got_train.data.record import split_message

ERROR, WARNING = "error", "warning"
EXAMPLES = 20  # kept of each kind


@dataclass(frozen=True)
class Finding:
    """One fault: where it is, what is wrong, and what would be right."""

    level: str
    subject: str  # config, row, picture, length, question, duplicate, leak ...
    location: str
    cause: str
    fix: str
    usable: bool = False  # said of a row that a run would take nevertheless

    @classmethod
    def of(cls, error: Exception, subject: str, level: str = ERROR, location: str = "") -> Finding:
        """From a message of the project's form, `<where>: <what is wrong>; <what would be right>`."""
        named, rest = split_message(error)
        cause, _, fix = rest.rpartition("; ")
        return cls(level, subject, named or location, cause or rest, fix if cause else "")


@dataclass
class Kind:
    """Findings with the same mend, counted."""

    level: str
    subject: str
    fix: str
    count: int = 0
    examples: list[tuple[str, str]] = field(default_factory=list)  # where, cause

    def plain(self) -> dict[str, Any]:
        shown = [{"location": location, "cause": cause} for location, cause in self.examples]
        return {**vars(self), "examples": shown}


class Findings:
    """All findings of a check by kind, errors first, in the order in which they were met."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, str, str], Kind] = {}

    def add(self, finding: Finding, count: int = 1) -> None:
        key = finding.level, finding.subject, finding.fix
        kind = self._kinds.setdefault(key, Kind(*key))
        kind.count += count
        if len(kind.examples) < EXAMPLES:
            kind.examples.append((finding.location, finding.cause))

    def merge(self, other: Kind) -> None:
        key = other.level, other.subject, other.fix
        kind = self._kinds.setdefault(key, Kind(*key))
        kind.count += other.count
        kind.examples = [*kind.examples, *other.examples][:EXAMPLES]

    def extend(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            self.add(finding)

    def kinds(self, level: str = "") -> list[Kind]:
        kinds = [kind for kind in self._kinds.values() if level in ("", kind.level)]
        return sorted(kinds, key=lambda kind: (kind.level, -kind.count))  # "error" before "warning"

    def count(self, level: str) -> int:
        return sum(kind.count for kind in self.kinds(level))
