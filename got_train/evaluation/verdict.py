"""How good a reading is now, in a sentence, and beside another system. Knows what metrics.json holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .scores import ALL, get_path

DECIDING = ("cer", "exact_match")  # what a sentence about another system rests on, in this order


def now(metrics: Mapping[str, Any]) -> str:
    """The share of rows without an error and of wrong characters; empty if nothing was scored."""
    groups = metrics["groups"]
    group = groups.get(ALL) or next(iter(groups.values()), None)
    if not group or not group["rows"]:
        return ""
    exact, cer = (get_path(group, ("fixed", *path)) for path in (("macro", "exact_match"), ("micro", "cer")))
    between = get_path(group.get("intervals") or {"micro": None}, ("micro", "cer"))
    interval = f", 95% {_percent(between[0])} to {_percent(between[1])}" if between else ""
    return f"{shares(exact, cer, group['rows'])} (CER {cer:.4f}{interval})"


def shares(exact: float, cer: float, rows: int) -> str:
    """Such as: 10 of 200 rows (5.0%) are read without an error, 26.3% of the characters are wrong."""
    return (
        f"{round(exact * rows):,} of {rows:,} rows ({_percent(exact)}) are read without an error, "
        f"{_percent(cer)} of the characters are wrong"
    )


def beside(name: str, deltas: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """A sentence on another system's answers to the same rows, and the verdict on ours.

    deltas: rows of MetricDelta, from the other system to ours.
    """
    tasks = list(dict.fromkeys(delta["task"] for delta in deltas))
    task = ALL if ALL in tasks else tasks[0]
    by_metric = {delta["metric"]: delta for delta in deltas if delta["task"] == task}
    cer, exact = (by_metric[metric] for metric in DECIDING)
    sentence = f"{name}: {shares(exact['before'], cer['before'], cer['difference']['rows'])}. "
    change = cer["difference"]
    sure = f"CER {change['mean']:+.4f}, 95% {change['low']:+.4f} to {change['high']:+.4f}, p {cer['p']:.3g}"
    return f"{sentence}Beside it this one is {cer['verdict']} ({sure})", cer["verdict"]


def _percent(share: float) -> str:
    return f"{share:.1%}"
