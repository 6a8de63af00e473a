"""gpu_report.json and the page of it: facts of the machine and rows of checks. Runs nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from got_train.atomic_write import write_atomic
from got_train.html.page import document, escaped, table

from .checks import FAILED

JSON_FILE, HTML_FILE = "gpu_report.json", "gpu_report.html"


def write_report(folder: Path, report: Mapping[str, Any]) -> None:
    """After every check, so that a crash of a driver leaves what was found before it."""
    for name, text in (
        (JSON_FILE, json.dumps(report, indent=1, ensure_ascii=False) + "\n"),
        (HTML_FILE, page(report)),
    ):
        write_atomic(folder / name, text.encode())


def verdict(report: Mapping[str, Any]) -> str:
    rows, left = report["checks"], report["left"]
    failed = [row["name"] for row in rows if row["status"] == FAILED]
    if failed:
        return f"{len(failed)} of {len(rows)} checks failed: {'; '.join(failed)}"
    return f"{len(rows)} checks, none failed" + (f"; {len(left)} were not run" if left else "")


def page(report: Mapping[str, Any]) -> str:
    title = f"got doctor: {report['machine']['device']}"
    facts = table(["", ""], (_fact(name, value) for name, value in report["machine"].items()), words=2)
    rows = table(["check", "", "measured", "limit", "seconds", "more"], map(_row, report["checks"]), words=2)
    advice = "".join(f"<p>{escaped(line)}</p>" for line in report["advice"])
    body = f"<header><h1>{escaped(title)}</h1><p>{escaped(verdict(report))}</p></header>"
    return document(title, f"{body}<main>{advice}<h2>Checks</h2>{rows}<h2>Machine</h2>{facts}</main>")


def text_row(row: Mapping[str, Any]) -> str:
    """A check on one line of a terminal."""
    return f"{row['status']:8}{row['name']}{_said(row)} ({row['seconds']:.1f} s)"


def _said(row: Mapping[str, Any]) -> str:
    if "error" in row:
        return f": {str(row['error']).strip().splitlines()[-1]}"
    return f": {row['reason']}" if "value" not in row else f": {row['value']:.2g}, at most {row['limit']:.2g}"


def _row(row: Mapping[str, Any]) -> str:
    more = row.get("error") or row.get("reason", "")
    for name, number in row.get("numbers", {}).items():
        more += f"; {name} {number:.4g}" if isinstance(number, (int, float)) else f"; {name} {number}"
    value, limit = (f"{row[key]:.3g}" if key in row else "" for key in ("value", "limit"))
    return _cells(row["name"], row["status"], value, limit, row["seconds"], more.strip("; "))


def _fact(name: str, value: object) -> str:
    if isinstance(value, Mapping):
        value = "; ".join(f"{key}: {_listed(item)}" for key, item in value.items())
    return _cells(name, "none" if value in (None, "") else value)


def _listed(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _cells(*values: object) -> str:
    cells = "".join(f"<td class='word wrap'>{escaped(value)}</td>" for value in values)
    return f"<tr>{cells}</tr>"
