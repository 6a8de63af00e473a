"""What samples are worth together: averages with intervals by task and by group, counts, a table of them.

Knows samples and statistics; knows no model and no file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from got_train.strict_files import printable

from .metrics import meteor, pages, text
from .metrics.values import missing_reasons
from .predictions import Prediction
from .scored import ScoredPrediction, groups, lower_is_better, score_predictions, task_averages, task_name
from .statistics import intervals

ALL = "all"
SMALL = 30  # rows of a group below which its mean says little
# column: (its key in a group, or the path to it)
RATES = {
    "edit distance": ("fixed", "macro", "edit_distance"),
    "CER": ("fixed", "micro", "cer"),
    "WER": ("fixed", "micro", "wer"),
    "exact match": ("fixed", "macro", "exact_match"),
    "F1": ("fixed", "macro", "f1"),
    "word F1": ("fixed", "micro", "word_f1"),
}
COUNTS = {
    "empty": ("empty_answers",),
    "empty ref.": ("empty_references",),
    "no end": ("no_end_token",),
    "failed": ("failed",),
    "not asked": ("not_asked",),
}
_GROUP_DRAWS = 2000  # for the many intervals of groups


def score(predictions: Sequence[Prediction], unit: str = "word", case: str = "kept") -> dict[str, Any]:
    """All numbers of metrics.json but the settings. A failed row scores as an empty answer."""
    return summary(score_predictions(predictions, unit, case=case), predictions, unit, case)


def summary(
    scored: Sequence[ScoredPrediction],
    predictions: Sequence[Prediction],
    unit: str = "word",
    case: str = "kept",
) -> dict[str, Any]:
    """The numbers of metrics.json for samples; all predictions are counted, also those that have none."""
    not_asked = Counter(
        task_name(prediction) for prediction in predictions if prediction.not_asked is not None
    )
    result = {}
    for name, rows in _grouped(scored).items():
        result[name] = _group(rows) | {"not_asked": not_asked.pop(name, 0)}
    for name, count in not_asked.items():
        result[name] = _group([]) | {"not_asked": count}
    if len(result) > 1:
        result[ALL] = _group(scored) | {
            "not_asked": sum(prediction.not_asked is not None for prediction in predictions)
        }
    failures = [
        {"location": prediction.location, "cause": prediction.failed}
        for prediction in predictions
        if prediction.failed is not None
    ]
    return {
        "unit": unit,
        "case": case,
        "meteor_stages": list(meteor.stages()),
        "counts": counts(predictions),
        "groups": result,
        "answer_types": {kind: _answer_type(rows) for kind, rows in _by_answer_type(scored).items()},
        "breakdown": _breakdown(scored),
        "failures": failures,
    }


def counts(predictions: Sequence[Prediction]) -> dict[str, int]:
    """How many rows there are, and what became of them. Only the first two and the last add up."""
    asked = [prediction for prediction in predictions if prediction.not_asked is None]
    answered = [prediction for prediction in asked if prediction.failed is None]
    return {
        "rows": len(predictions),
        "scored": len(answered),
        "failed": len(asked) - len(answered),
        "not_asked": len(predictions) - len(asked),
        "empty": sum(not prediction.prediction.strip() for prediction in answered),
        "truncated": sum(prediction.finished == "length" for prediction in answered),
        "loops": sum(prediction.finished == "loop" for prediction in answered),
        "unknown_end": sum(prediction.finished is None for prediction in answered),
    }


def shortfalls(metrics: dict[str, Any], limits: dict[str, float]) -> list[str]:
    """Which metrics are worse than their limits, each as a message; one without a value is."""
    result = []
    for name, limit in limits.items():
        task, _, metric = name.rpartition(":")
        kind, dot, own = metric.rpartition(".")
        if dot:
            value = get_path(metrics["answer_types"].get(kind), ("averages",))
            value = value and value.get(own)
        else:
            groups = metrics["groups"]
            group = groups.get(task or (ALL if ALL in groups else next(iter(groups), ALL)))
            value = get_path(group and group["fixed"], ("macro", metric))
        lower = lower_is_better(metric)
        if value is None:
            result.append(f"{name} has no value; name a metric of rows that are there")
        elif value > limit if lower else value < limit:
            result.append(f"{name} is {value:.4f}; expected {'at most' if lower else 'at least'} {limit:g}")
    return result


def rates_of(metrics: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """RATES under names that say whether letter case was folded."""
    folded = " (case folded)" if metrics.get("case") == "fold" else ""
    return {f"{name}{folded}": way for name, way in RATES.items()}


def table(metrics: Mapping[str, Any]) -> str:
    """A row a group, then one a kind that has metrics of its own, as markdown."""
    rows = []
    for name, group in metrics["groups"].items():
        rates = [format_value(get_path(group, path)) for path in RATES.values()]
        rows.append(
            [
                name,
                str(group["rows"]),
                *rates,
                *(format_value(get_path(group, path)) for path in COUNTS.values()),
            ]
        )
    parts = [markdown(["task", "rows", *rates_of(metrics), *COUNTS], rows)]
    own = [
        [kind, name, str(values["computed"][name]), format_value(value)]
        for kind, values in metrics.get("answer_types", {}).items()
        for name, value in values["averages"].items()
    ]
    if own:
        parts.append(markdown(["kind", "metric", "rows", "mean"], own, texts=2))
    return "\n\n".join(parts)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    """A table whose first `texts` columns are words, the others numbers; what steers terminals is escaped."""
    head, *rows = (list(map(printable, cells)) for cells in (head, *rows))
    widths = [max(3, *map(len, column)) for column in zip(head, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if index < texts else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = [
        "-" * width if position < texts else "-" * (width - 1) + ":" for position, width in enumerate(widths)
    ]
    return "\n".join([line(head), line(rule), *map(line, rows)])


def get_path(group: Mapping[str, Any], path: Sequence[str]) -> Any:
    """The value at the end of a path through nested mappings; None where it ends earlier."""
    value: Any = group
    for key in path:
        value = None if value is None else value[key]
    return value


def format_value(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


def _grouped(scored: Sequence[ScoredPrediction]) -> dict[str, list[ScoredPrediction]]:
    """By task; a task that occurs in several data files also by file."""
    tasks: dict[str, dict[str | None, list[ScoredPrediction]]] = {}
    for sample in scored:
        tasks.setdefault(task_name(sample.prediction), {}).setdefault(sample.prediction.data, []).append(
            sample
        )
    groups = {}
    for task, files in tasks.items():
        groups[task] = [sample for rows in files.values() for sample in rows]
        if len(files) > 1:
            groups |= {f"{task} in {name}": rows for name, rows in files.items()}
    return groups


def _group(rows: Sequence[ScoredPrediction]) -> dict[str, Any]:
    answered = [sample.prediction for sample in rows if sample.prediction.failed is None]
    ends = Counter(prediction.finished for prediction in answered)
    ends_known = not ends[None] and bool(answered)
    seconds = [prediction.seconds for prediction in answered if prediction.seconds is not None]
    counted = [sample.official for sample in rows if sample.official is not None]
    official = text.averages(counted, text.OFFICIAL) if counted else {}
    return {
        "rows": len(rows),
        "documents": len({sample.prediction.cluster for sample in rows}),
        "failed": len(rows) - len(answered),
        "empty_answers": sum(not answer.prediction.strip() for answer in answered),
        "empty_references": sum(not sample.prediction.reference.strip() for sample in rows),
        "no_end_token": len(answered) - ends["stop"] if ends_known else None,
        "loops": ends["loop"] if ends_known else None,
        "seconds_a_row": sum(seconds) / len(seconds) if seconds else None,
        "fixed": text.averages([sample.fixed for sample in rows]) if rows else None,
        "intervals": _text_intervals(rows) if rows else None,
        "official": {"rows": len(counted), **official},
    }


def _text_intervals(rows: Sequence[ScoredPrediction]) -> dict[str, dict[str, list[float]]]:
    """95 % of the macro averages and of the micro rates that `fixed` holds, by documents."""
    clusters = [row.prediction.cluster for row in rows]
    macro = [[row.fixed[name] for name in text.FIXED] for row in rows]
    parts = [{name: row.fixed.counts.ratio(name) for name in text.COUNTED} for row in rows]
    over = [[top for top, _ in row.values()] for row in parts]
    under = [[bottom for _, bottom in row.values()] for row in parts]
    joined = [[*mean, *rate] for mean, rate in zip(macro, over, strict=True)]
    below = [[*([1.0] * len(text.FIXED)), *row] for row in under]
    ends = [list(row) for row in intervals(joined, below, clusters)]
    return {
        "macro": dict(zip(text.FIXED, ends, strict=False)),
        "micro": dict(zip(parts[0], ends[len(text.FIXED) :], strict=True)),
    }


def _by_answer_type(scored: Sequence[ScoredPrediction]) -> dict[str, list[ScoredPrediction]]:
    kinds: dict[str, list[ScoredPrediction]] = {}
    for sample in scored:
        if sample.task_metrics:
            kinds.setdefault(sample.answer_type, []).append(sample)
    return kinds


def _answer_type(rows: Sequence[ScoredPrediction]) -> dict[str, Any]:
    """The kind's own averages; how many rows each could be computed for, and intervals of plain means."""
    averages = task_averages(rows[0].answer_type, [row.task_metrics for row in rows])
    names = list(dict.fromkeys(name for row in rows for name in row.task_metrics))
    values = {name: [row.value(f"{row.answer_type}.{name}") for row in rows] for name in names}
    computed = {name: sum(value is not None for value in values[name]) for name in names}
    known = [name for name in names if computed[name]]
    ends: list[Any] = []
    if known:
        there = [[float(values[name][index] is not None) for name in known] for index in range(len(rows))]
        filled = [[values[name][index] or 0.0 for name in known] for index in range(len(rows))]
        ends = intervals(filled, there, [row.prediction.cluster for row in rows])
    return {
        "rows": len(rows),
        "computed": {name: computed.get(name, len(rows)) for name in averages},
        "averages": averages,
        "missing_reasons": missing_reasons([row.task_metrics for row in rows]),
        "intervals": {name: list(end) for name, end in zip(known, ends, strict=True)},
        **({"official": _official_parts(rows)} if rows[0].answer_type == "page" else {}),
    }


def _official_parts(rows: Sequence[ScoredPrediction]) -> dict[str, dict[str, Any]]:
    """Pages, their math and their tables as GOT's format script averages them."""
    scored = [pages.official(sample.prediction.prediction, sample.prediction.reference) for sample in rows]
    result = {}
    for part in pages.PARTS:
        kept = [sample[part] for sample in scored if sample[part] is not None]
        averages = text.averages(kept, text.OFFICIAL)["macro"] if kept else {}
        result[part] = {"rows": len(kept), **averages}
    return result


def _breakdown(scored: Sequence[ScoredPrediction]) -> dict[str, dict[str, dict[str, Any]]]:
    """Edit distance by language, task, source, length and what the rows name; dull ones are left out."""
    result: dict[str, dict[str, list[ScoredPrediction]]] = {}
    for sample in scored:
        for name, value in groups(sample.prediction).items():
            result.setdefault(name, {}).setdefault(value, []).append(sample)
    return {
        name: {value: _part(rows) for value, rows in sorted(values.items(), key=_order)}
        for name, values in result.items()
        if len(values) > 1
    }


def _order(group: tuple[str, list[ScoredPrediction]]) -> tuple[int, int]:
    """Lengths from short to long, other groups from large to small."""
    value, rows = group
    first = value.partition("-")[0].partition(" ")[0]
    return (int(first), 0) if first.isdigit() else (0, -len(rows))


def _part(rows: Sequence[ScoredPrediction]) -> dict[str, Any]:
    values = [row.fixed["edit_distance"] for row in rows]
    clusters = [row.prediction.cluster for row in rows]
    ends = intervals(values, None, clusters, _GROUP_DRAWS)[0]
    return {
        "rows": len(rows),
        "small": len(rows) < SMALL,
        "edit_distance": sum(values) / len(values),
        "interval": list(ends),
        "exact_match": sum(row.fixed["exact_match"] for row in rows) / len(rows),
    }
