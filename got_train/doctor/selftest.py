"""The list of checks, in the order in which one builds on another, and the report of them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .checks import FAILED, run_all
from .machine import advice, machine
from .parity import parity_checks
from .rehearsal import Rehearsal
from .report import text_row, write_report

STEPS, QUICK_STEPS = 20, 8


def doctor(folder: Path, quick: bool, facts_only: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Look at the machine, run the checks, and write the report as they go."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = machine(folder)
    report: dict[str, Any] = {"machine": facts, "advice": advice(facts), "checks": [], "left": []}
    with tempfile.TemporaryDirectory() as scratch:
        checks = {}
        if not facts_only:
            checks = parity_checks(quick) | Rehearsal(Path(scratch), QUICK_STEPS if quick else STEPS).checks()
        report["left"] = list(checks)
        write_report(folder, report)
        for row in run_all(checks):
            report["checks"].append(row)
            report["left"].remove(row["name"])
            say(text_row(row))
            write_report(folder, report)
    return report


def has_failed(report: dict[str, Any]) -> bool:
    return any(row["status"] == FAILED for row in report["checks"])
