"""One check of the self-test: what was measured, what it had to be, and why that much."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"


@dataclass(frozen=True)
class Measured:
    """A number that must not be above `limit`, and what explains it."""

    value: float
    limit: float
    reason: str = ""  # for the limit
    numbers: Mapping[str, float | str] = field(default_factory=dict)  # what was seen besides

    @property
    def passes(self) -> bool:
        return self.value <= self.limit  # not for nan


@dataclass(frozen=True)
class Skipped:
    reason: str


Check = Callable[[], Measured | Skipped]


def run_check(name: str, check: Check) -> dict[str, object]:
    """The check's row of the report; an exception is a failure and keeps its traceback."""
    began = time.monotonic()
    try:
        result = check()
    except Exception:
        row = {"status": FAILED, "error": traceback.format_exc(limit=-4)}
    else:
        if isinstance(result, Skipped):
            row = {"status": SKIPPED, "reason": result.reason}
        else:
            row = {
                "status": PASSED if result.passes else FAILED,
                "value": result.value,
                "limit": result.limit,
                "reason": result.reason,
                "numbers": dict(result.numbers),
            }
    return {"name": name, **row, "seconds": round(time.monotonic() - began, 2)}


def run_all(checks: Mapping[str, Check]) -> Iterator[dict[str, object]]:
    for name, check in checks.items():
        yield run_check(name, check)
