"""What predictions are worth: scores by task, a table of them, and several runs side by side.

Knows predictions and the text metrics; knows no model and no file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import meteor, text
from .predictions import Prediction

ALL = "all"
# column: (its key in a group, or the way to it)
RATES = {
    "edit distance": ("fixed", "macro", "edit_distance"),
    "CER": ("fixed", "micro", "cer"),
    "exact match": ("fixed", "macro", "exact_match"),
    "F1": ("fixed", "macro", "f1"),
}
COUNTS = {
    "empty": ("empty_answers",),
    "empty ref.": ("empty_references",),
    "no end": ("no_end_token",),
    "failed": ("failed",),
    "not asked": ("not_asked",),
}


@dataclass(frozen=True)
class _Scored:
    prediction: Prediction
    fixed: text.Score
    official: text.Score | None


def score(predictions: Sequence[Prediction], unit: str = "word") -> dict[str, Any]:
    """All numbers of metrics.json but the settings. A failed row scores as an empty answer."""
    asked = [
        _Scored(each, *(text.score(each.prediction, each.reference, unit, mode) for mode in text.MODES))
        for each in predictions
        if each.not_asked is None
    ]
    not_asked = Counter(_task(each) for each in predictions if each.not_asked is not None)
    groups = {}
    for name, rows in _grouped(asked).items():
        groups[name] = _group(rows) | {"not_asked": not_asked.pop(name, 0)}
    for name, count in not_asked.items():
        groups[name] = _group([]) | {"not_asked": count}
    if len(groups) > 1:
        groups[ALL] = _group(asked) | {"not_asked": len(predictions) - len(asked)}
    failures = [
        {"where": each.where, "cause": each.failed} for each in predictions if each.failed is not None
    ]
    return {"unit": unit, "meteor_stages": list(meteor.stages()), "groups": groups, "failures": failures}


def table(metrics: Mapping[str, Any]) -> str:
    """A row a group, as markdown."""
    rows = []
    for name, group in metrics["groups"].items():
        rates = [_shown(_at(group, way)) for way in RATES.values()]
        counts = [_shown(_at(group, way)) for way in COUNTS.values()]
        rows.append([name, str(group["rows"]), *rates, *counts])
    return markdown(["task", "rows", *RATES, *COUNTS], rows)


def compare(runs: Mapping[str, Mapping[str, Any]]) -> str:
    """Several runs side by side, as markdown: task x metric, the change from the first to the last run.

    Counts that are 0 everywhere are left out, and numbers of rows that are the same.
    """
    names = list(dict.fromkeys(name for metrics in runs.values() for name in metrics["groups"]))
    names.sort(key=lambda name: name == ALL)
    rows = []
    for name in names:
        groups = [metrics["groups"].get(name) for metrics in runs.values()]
        for column, way in {"rows": ("rows",), **RATES, **COUNTS}.items():
            values = [group and _at(group, way) for group in groups]
            dull = len(set(values)) == 1 if column == "rows" else column in COUNTS and not any(values)
            if not dull:
                rows.append([name, column, *map(_shown, values), _change(values[0], values[-1])])
    shown = markdown(["task", "metric", *runs, "change"], rows, texts=2)
    return "\n\n".join([shown, *_differences(runs)])


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    """A table whose first `texts` columns are words and the others numbers."""
    widths = [max(3, *map(len, column)) for column in zip(head, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if place < texts else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * width if place < texts else "-" * (width - 1) + ":" for place, width in enumerate(widths)]
    return "\n".join([line(head), line(rule), *map(line, rows)])


def _task(prediction: Prediction) -> str:
    region = "box" if prediction.box is not None else "color" if prediction.color is not None else None
    return prediction.task if region is None else f"{prediction.task} + {region}"


def _grouped(asked: Sequence[_Scored]) -> dict[str, list[_Scored]]:
    """By task; a task that occurs in several data files also by file."""
    tasks: dict[str, dict[str | None, list[_Scored]]] = {}
    for each in asked:
        tasks.setdefault(_task(each.prediction), {}).setdefault(each.prediction.data, []).append(each)
    groups = {}
    for task, files in tasks.items():
        groups[task] = [each for rows in files.values() for each in rows]
        if len(files) > 1:
            groups |= {f"{task} in {name}": rows for name, rows in files.items()}
    return groups


def _group(rows: Sequence[_Scored]) -> dict[str, Any]:
    answered = [each.prediction for each in rows if each.prediction.failed is None]
    ends = Counter(each.finished for each in answered)
    told = not ends[None] and bool(answered)
    seconds = [each.seconds for each in answered if each.seconds is not None]
    counted = [each.official for each in rows if each.official is not None]
    official = text.averages(counted, text.OFFICIAL) if counted else {}
    return {
        "rows": len(rows),
        "failed": len(rows) - len(answered),
        "empty_answers": sum(not each.prediction.strip() for each in answered),
        "empty_references": sum(not each.prediction.reference.strip() for each in rows),
        "no_end_token": len(answered) - ends["stop"] if told else None,
        "loops": ends["loop"] if told else None,
        "seconds_a_row": sum(seconds) / len(seconds) if seconds else None,
        "fixed": text.averages([each.fixed for each in rows]) if rows else None,
        "official": {"rows": len(counted), **official},
    }


def _at(group: Mapping[str, Any], way: Sequence[str]) -> float | None:
    value: Any = group
    for key in way:
        value = None if value is None else value[key]
    return value


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


def _change(first: float | None, last: float | None) -> str:
    if first is None or last is None:
        return "-"
    return f"{last - first:+.4f}" if isinstance(first, float) else f"{last - first:+d}"


def _differences(runs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What keeps the columns from being comparable, a line each."""
    found = []
    for what, seen in {
        "data": lambda metrics: [file["sha256"] for file in metrics["settings"]["data"]],
        "limits": lambda metrics: metrics["settings"]["limit"],
        "prompt dialects": lambda metrics: metrics["settings"]["model"]["dialect"],
        "decoding settings": lambda metrics: metrics["settings"]["decoding"],
        "units": lambda metrics: metrics["unit"],
    }.items():
        values = [seen(metrics) for metrics in runs.values() if what == "units" or metrics.get("settings")]
        if any(value != values[0] for value in values):
            found.append(f"not comparable without care: different {what}")
    return found
