"""Two runs on the same rows: whether they may be compared, what changed and how sure that is, in words.

Knows scored predictions and statistics; knows no file. The two runs may be any two moments, such as a
checkpoint before and after training, or two systems.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from got_train.errors import EvaluationError

from .metrics import text
from .scored import ScoredPrediction, lower_is_better, task_name
from .scores import ALL, COUNTS, format_value, get_path, markdown, rates_of
from .statistics import LEVEL, Difference, holm, mcnemar, paired, paired_rates

BETTER, WORSE, INCONCLUSIVE, SAME = "better", "worse", "inconclusive", "unchanged"
# of every answer type; beside them those of the type itself
MAIN = ("edit_distance", "cer", "wer", "exact_match", "f1", "bleu")
MAX_P = 1 - LEVEL
Run = Sequence[ScoredPrediction]
Pair = tuple[ScoredPrediction, ScoredPrediction]


@dataclass(frozen=True)
class MetricDelta:
    """How one metric of one task changed from the first run to the second."""

    task: str
    metric: str
    before: float
    after: float
    difference: Difference
    p: float  # adjusted for all comparisons of the table
    verdict: str
    missing: int  # rows without a value in one of the runs
    only_after: int | None = None  # of yes/no metrics: rows that are yes in the second run only
    only_before: int | None = None
    exact_p: float | None = None  # McNemar's, unadjusted

    def sentence(self) -> str:
        """The verdict as a sentence."""
        change = self.difference
        if self.verdict == SAME:
            return f"{self.task}: {self.metric} unchanged at {self.after:.4f} in all {change.rows} rows"
        won, lost = change.higher, change.lower
        if lower_is_better(self.metric):
            won, lost = lost, won
        return (
            f"{self.task}: {self.metric} {self.before:.4f} -> {self.after:.4f}, {self.verdict} "
            f"({change.mean:+.4f}, 95% {change.low:+.4f} to {change.high:+.4f}, p {self.p:.3g}; "
            f"rows: {won} better, {change.equal} equal, {lost} worse)"
        )

    def row(self) -> dict[str, Any]:
        """As metrics.json has it."""
        return {**asdict(self), "words": self.sentence()}


def metric_deltas(
    before: Run, after: Run, metrics: Sequence[str] = MAIN, with_task_metrics: bool = True
) -> list[MetricDelta]:
    """A delta for each task and metric that both runs have, `all` last; p values are adjusted over them all.

    Rows are matched by their names; only those of both runs count. cer and wer are rates over all characters
    and words together, the others means over rows. Fewer than six documents are never enough to tell; such
    lines keep their p value as it is.
    """
    pairs = matched_pairs(before, after)
    tasks: dict[str, list[Pair]] = {}
    for pair in pairs:
        tasks.setdefault(task_name(pair[1].prediction), []).append(pair)
    if len(tasks) > 1:
        tasks[ALL] = pairs
    deltas = []
    for task, rows in tasks.items():
        names = [*metrics, *(_task_metric_names(rows) if with_task_metrics and task != ALL else ())]
        deltas += filter(None, (_delta(task, name, rows) for name in names))
    return adjusted_deltas(deltas)


def adjusted_deltas(deltas: Sequence[MetricDelta]) -> list[MetricDelta]:
    """With p values adjusted over all of them, whatever was done before, and their verdicts."""
    deltas = [replace(delta, p=delta.difference.p) for delta in deltas]
    # of too few documents no test can tell anything, so these do not make the others less sure
    tested = [delta for delta in deltas if 2 / 2**delta.difference.clusters <= MAX_P]
    adjusted = dict(zip(map(id, tested), holm([delta.p for delta in tested]), strict=True))
    return [_with_verdict(delta, adjusted.get(id(delta), delta.p)) for delta in deltas]


def matched_pairs(before: Run, after: Run) -> list[Pair]:
    """Predictions of the same rows, in the order of the second run."""
    first = {scored.prediction.name: scored for scored in before}
    if len(first) < len(before):
        raise EvaluationError("the first run has rows of the same name; give each an id of its own")
    pairs = [(first[scored.prediction.name], scored) for scored in after if scored.prediction.name in first]
    if not pairs:
        raise EvaluationError("no row in common; expected predictions of the same data, or with equal ids")
    for left, right in pairs:
        if left.reference != right.reference:
            texts = f"{left.reference[:40]!r} and {right.reference[:40]!r}"
            raise EvaluationError(
                f"{left.prediction.name}: references {texts}; expected the same reference in both runs"
            )
    return pairs


def delta_table(deltas: Sequence[MetricDelta], runs: tuple[str, str] = ("before", "after")) -> str:
    """Task x metric, both runs, with the verdict on the second in words, as markdown."""
    rows = [
        [
            *(delta.task, delta.metric, delta.verdict, f"{delta.before:.4f}", f"{delta.after:.4f}"),
            f"{delta.difference.mean:+.4f}",
            f"{delta.difference.low:+.4f} to {delta.difference.high:+.4f}",
            f"{delta.p:.3g}",
            f"{delta.difference.rows}",
        ]
        for delta in deltas
    ]
    head = ["task", "metric", "verdict", *runs, "change", "95%", "p (Holm)", "rows"]
    return markdown(head, rows, texts=3)


def side_by_side(runs: Mapping[str, Mapping[str, Any]]) -> str:
    """Several runs as markdown: task x metric, the change from the first to the last run.

    Counts that are 0 everywhere are left out, and numbers of rows that are the same.
    """
    names = list(dict.fromkeys(name for metrics in runs.values() for name in metrics["groups"]))
    rates = rates_of(next(iter(runs.values())))
    names.sort(key=lambda name: name == ALL)
    rows = []
    for name in names:
        groups = [metrics["groups"].get(name) for metrics in runs.values()]
        for column, path in {"rows": ("rows",), **rates, **COUNTS}.items():
            values = [group and get_path(group, path) for group in groups]
            dull = len(set(values)) == 1 if column == "rows" else column in COUNTS and not any(values)
            if not dull:
                rows.append([name, column, *map(format_value, values), _change(values[0], values[-1])])
    return markdown(["task", "metric", *runs, "change"], rows, texts=2)


def setting_differences(runs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What keeps runs from being comparable: other data, prompts, decoding, units or synonyms."""
    differences = []
    for what, of_run in _SETTINGS.items():
        values = {name: of_run(metrics) for name, metrics in runs.items()}
        known = {name: value for name, value in values.items() if value is not None}
        different = next((name for name, value in known.items() if value != next(iter(known.values()))), None)
        if different is not None:
            first = next(iter(known))
            differences.append(
                f"different {what}: {first} {_short(known[first])}, {different} {_short(known[different])}"
            )
    return differences


def _setting(*way: str) -> Callable[[Mapping[str, Any]], Any]:
    def found(metrics: Mapping[str, Any]) -> Any:
        value: Any = metrics.get("settings")
        for key in way:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    return found


def _data(metrics: Mapping[str, Any]) -> list[str] | None:
    files = _setting("data")(metrics)
    return None if files is None else [file["sha256"] for file in files]


def _limit(metrics: Mapping[str, Any]) -> Any:
    settings = metrics.get("settings")
    return (settings or {}).get("limit", 0) or 0 if settings else None


def _decoding(metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    """How many rows are read together changes no answer."""
    decoding = _setting("decoding")(metrics)
    return decoding and {name: value for name, value in decoding.items() if name != "batch_size"}


_SETTINGS: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "data": _data,
    "limits": _limit,
    "prompt templates": _setting("model", "prompt_template"),
    "decoding settings": _decoding,
    "benchmark rules": lambda metrics: sorted(metrics.get("benchmarks", ())) or None,
    "units": lambda metrics: metrics["unit"],
    "letter case": lambda metrics: metrics.get("case", "kept"),
    "METEOR stages": lambda metrics: metrics.get("meteor_stages"),
}


def _delta(task: str, metric: str, rows: Sequence[Pair]) -> MetricDelta | None:
    values = [(left.value(metric), right.value(metric)) for left, right in rows]
    known = [
        (pair, row)
        for pair, row in zip(values, rows, strict=True)
        if pair[0] is not None and pair[1] is not None
    ]
    if not known:
        return None
    first, second = ([pair[side] for pair, _ in known] for side in (0, 1))
    clusters = [right.prediction.cluster for _, (_, right) in known]
    if metric in text.MICRO_ONLY:
        counts = ([row[side].fixed.counts.ratio(metric) for _, row in known] for side in (0, 1))
        difference, before, after = paired_rates(*counts, clusters)
    else:
        difference = paired(first, second, clusters)
        before, after = sum(first) / len(first), sum(second) / len(second)
    yes_or_no = {0.0, 1.0} >= {*first, *second} and metric not in text.MICRO_ONLY
    won, lost, exact_p = mcnemar(first, second) if yes_or_no else (None, None, None)
    missing = len(rows) - len(known)
    return MetricDelta(task, metric, before, after, difference, difference.p, "", missing, won, lost, exact_p)


def _with_verdict(delta: MetricDelta, p: float) -> MetricDelta:
    change = delta.difference
    if change.equal == change.rows:
        verdict = SAME
    elif p > MAX_P:
        verdict = INCONCLUSIVE
    else:
        verdict = BETTER if (change.mean < 0) == lower_is_better(delta.metric) else WORSE
    return replace(delta, p=p, verdict=verdict)


def _task_metric_names(rows: Sequence[Pair]) -> list[str]:
    return sorted({f"{later.answer_type}.{name}" for _, later in rows for name in later.task_metrics})


def _change(first: float | None, last: float | None) -> str:
    if first is None or last is None:
        return "-"
    return f"{last - first:+.4f}" if isinstance(first, float) else f"{last - first:+d}"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
