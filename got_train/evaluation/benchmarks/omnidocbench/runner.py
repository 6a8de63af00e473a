"""Pages of OmniDocBench scored on all cores, each within a time, kept as they are ready.

A scoring that was killed takes up what lies in its file of pages, so far as page, answer, rule and code are
the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from got_train.evaluation.metrics import cdm
from got_train.evaluation.provenance import code_version
from got_train.strict_files import strict_json
from got_train.workers import in_processes

from . import latexml
from .rules import Rule, rule_of
from .scoring import score_page
from .truth import Page

PAGE_SECONDS = 900  # for one page; a second is usual, and the official code may join blocks for 300
_FEW = 8  # pages that one process scores before another is worth its start


class PageTimeError(Exception):
    """A page that took longer than PAGE_SECONDS."""


def score_pages(
    pages: Mapping[str, Page], answers: Mapping[str | None, str | None], rule: Rule, output_dir: Path | None
) -> dict[str, dict[str, Any]]:
    """The values of each page, by name; a page without an answer is an empty one."""
    keys = {name: _key(page, answers[name], rule) for name, page in pages.items()}
    file = output_dir / f"omnidocbench_{rule.version}_pages.jsonl" if output_dir is not None else None
    kept = _kept(file)
    values = {name: kept[key] for name, key in keys.items() if key in kept}
    left = [name for name in pages if name not in values]
    tasks = [(pages[name], answers[name] or "", rule.version) for name in left]
    results = in_processes(timed, tasks, max(1, min(os.cpu_count() or 1, len(left) // _FEW)))
    with _appended(file) as write:
        for name, result in zip(left, results, strict=True):
            values[name] = result
            write({"page": name, "key": keys[name], "values": result})
    return {name: values[name] for name in pages}


def timed(page: Page, answer: str, version: str) -> dict[str, Any]:
    """`score_page` within PAGE_SECONDS; a page whose time is over is scored as empty, and says so."""
    rule, begun = rule_of(version), time.monotonic()
    try:
        with _alarm(PAGE_SECONDS):
            values = score_page(page, answer, rule)
    except PageTimeError:
        values = score_page(page, "", rule)
        values["limits"].append(f"the page took more than {PAGE_SECONDS} s; scored as empty")
    return {**values, "seconds": round(time.monotonic() - begun, 3)}


@contextmanager
def _alarm(seconds: int) -> Iterator[None]:
    """Raise PageTimeError after so many seconds, where the system and the thread allow it."""
    if not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise PageTimeError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _key(page: Page, answer: str | None, rule: Rule) -> str:
    """What a page's values depend on."""
    inputs = [page, answer, rule.version, latexml.is_installed(), code_version()]
    return hashlib.sha256(json.dumps(inputs, sort_keys=True, default=str).encode()).hexdigest()


def _kept(file: Path | None) -> dict[str, dict[str, Any]]:
    """The values that a file holds; a line that a killed run left unfinished is not there."""
    kept: dict[str, dict[str, Any]] = {}
    if file is None or not file.is_file():
        return kept
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = strict_json(line, allow_nan=True)
            kept[row["key"]] = row["values"]
        except (ValueError, KeyError, TypeError):
            continue
    return kept


@contextmanager
def _appended(file: Path | None) -> Iterator[Any]:
    if file is None:
        yield lambda row: None
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    torn = file.is_file() and not file.read_bytes().endswith(b"\n")
    with open(file, "a", encoding="utf-8", errors="backslashreplace", newline="\n") as opened:
        opened.write("\n" if torn else "")

        def write(row: Mapping[str, Any]) -> None:
            opened.write(json.dumps(row, ensure_ascii=False) + "\n")
            opened.flush()

        yield write


def add_cdm(values: Mapping[str, dict[str, Any]], seconds: float) -> None:
    """CDM's F1 of all formulas within the seconds; a page with a formula that was left over has none."""
    if seconds <= 0:
        return
    end = time.time() + seconds
    pairs = [(name, pred, gt) for name, page_values in values.items() for gt, pred in page_values["formulas"]]
    tasks = [(_bare(pred), _bare(gt), end) for _, pred, gt in pairs]
    processes = max(1, min(os.cpu_count() or 1, len(tasks) // _FEW))
    cdm_scores: dict[str, list[float | None]] = {}
    for (name, *_), score in zip(pairs, in_processes(cdm.score_until, tasks, processes), strict=True):
        cdm_scores.setdefault(name, []).append(score["cdm_f1"])
    for name, page_values in values.items():
        scores: Sequence[float | None] = cdm_scores.get(name, [])
        page_values["cdm"] = None if any(score is None for score in scores) else list(scores)


def _bare(formula: str) -> str:
    """As the official code hands a formula to CDM."""
    formula = formula.split("```latex")[-1].split("```")[0]
    return formula.strip("$").strip()
