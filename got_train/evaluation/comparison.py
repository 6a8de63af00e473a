"""Two runs on the same rows: whether they may be compared, what changed and how sure that is, in words.

Knows samples and statistics; knows no file. `skills` takes samples of any two moments, such as a checkpoint
before and after training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from got_train.errors import EvaluationError

from .scored import Sample, lower_is_better, task_name
from .scores import ALL, COUNTS, RATES, at, markdown, shown
from .statistics import LEVEL, Difference, holm, mcnemar, paired

BETTER, WORSE, UNTOLD, SAME = "better", "worse", "cannot be told", "unchanged"
MAIN = ("edit_distance", "exact_match", "f1", "bleu")  # of every kind; beside them those of the kind itself
_SURE = 1 - LEVEL
Row = Sequence[Sample]


@dataclass(frozen=True)
class Skill:
    """What became of one metric of one task."""

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

    def words(self) -> str:
        """The verdict as a sentence."""
        seen = self.difference
        if self.verdict == SAME:
            return f"{self.task}: {self.metric} unchanged at {self.after:.4f} in all {seen.rows} rows"
        won, lost = (seen.lower, seen.higher) if lower_is_better(self.metric) else (seen.higher, seen.lower)
        return (
            f"{self.task}: {self.metric} {self.before:.4f} -> {self.after:.4f}, {self.verdict} "
            f"({seen.mean:+.4f}, 95% {seen.low:+.4f} to {seen.high:+.4f}, p {self.p:.3g}; "
            f"rows: {won} better, {seen.equal} equal, {lost} worse)"
        )

    def row(self) -> dict[str, Any]:
        """As metrics.json has it."""
        return {**asdict(self), "words": self.words()}


def skills(before: Row, after: Row, metrics: Sequence[str] = MAIN, own: bool = True) -> list[Skill]:
    """A skill for each task and metric that both runs have, `all` last; p values are adjusted over them all.

    Rows are matched by their names; only those of both runs count. `own`: the metrics of the kinds as well.
    Fewer than six documents are never enough to tell; such lines keep their p value as it is.
    """
    pairs = matched(before, after)
    tasks: dict[str, list[tuple[Sample, Sample]]] = {}
    for pair in pairs:
        tasks.setdefault(task_name(pair[1].prediction), []).append(pair)
    if len(tasks) > 1:
        tasks[ALL] = pairs
    found = []
    for task, rows in tasks.items():
        names = [*metrics, *(_own_metrics(rows) if own and task != ALL else ())]
        found += [skill for name in names if (skill := _skill(task, name, rows)) is not None]
    # of too few documents no test can tell anything, so these do not make the others less sure
    tested = [skill for skill in found if 2 / 2**skill.difference.clusters <= _SURE]
    adjusted = dict(zip(map(id, tested), holm([skill.p for skill in tested]), strict=True))
    return [_judged(skill, adjusted.get(id(skill), skill.p)) for skill in found]


def matched(before: Row, after: Row) -> list[tuple[Sample, Sample]]:
    """Samples of the same rows, in the order of the second run."""
    first = {each.prediction.name: each for each in before}
    if len(first) < len(before):
        raise EvaluationError("the first run has rows of the same name; an id of its own for each")
    pairs = [(first[each.prediction.name], each) for each in after if each.prediction.name in first]
    if not pairs:
        raise EvaluationError("no row in common; predictions of the same data, or with equal ids")
    for one, other in pairs:
        if one.prediction.reference != other.prediction.reference:
            texts = f"{one.prediction.reference[:40]!r} and {other.prediction.reference[:40]!r}"
            raise EvaluationError(f"{one.prediction.name}: {texts}; the same reference in both runs")
    return pairs


def skill_table(found: Sequence[Skill]) -> str:
    """Task x metric, before and after, with the verdict in words, as markdown."""
    rows = [
        [
            *(skill.task, skill.metric, skill.verdict, f"{skill.before:.4f}", f"{skill.after:.4f}"),
            f"{skill.difference.mean:+.4f}",
            f"{skill.difference.low:+.4f} to {skill.difference.high:+.4f}",
            f"{skill.p:.3g}",
            f"{skill.difference.rows}",
        ]
        for skill in found
    ]
    head = ["task", "metric", "verdict", "before", "after", "change", "95%", "p (Holm)", "rows"]
    return markdown(head, rows, texts=3)


def side_by_side(runs: Mapping[str, Mapping[str, Any]]) -> str:
    """Several runs as markdown: task x metric, the change from the first to the last run.

    Counts that are 0 everywhere are left out, and numbers of rows that are the same.
    """
    names = list(dict.fromkeys(name for metrics in runs.values() for name in metrics["groups"]))
    names.sort(key=lambda name: name == ALL)
    rows = []
    for name in names:
        groups = [metrics["groups"].get(name) for metrics in runs.values()]
        for column, way in {"rows": ("rows",), **RATES, **COUNTS}.items():
            values = [group and at(group, way) for group in groups]
            dull = len(set(values)) == 1 if column == "rows" else column in COUNTS and not any(values)
            if not dull:
                rows.append([name, column, *map(shown, values), _change(values[0], values[-1])])
    return markdown(["task", "metric", *runs, "change"], rows, texts=2)


def differences(runs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What keeps runs from being comparable: other data, prompts, decoding, units or synonyms."""
    found = []
    for what, of_run in _SETTINGS.items():
        values = {name: of_run(metrics) for name, metrics in runs.items()}
        known = {name: value for name, value in values.items() if value is not None}
        other = next((name for name, value in known.items() if value != next(iter(known.values()))), None)
        if other is not None:
            first = next(iter(known))
            found.append(f"different {what}: {first} {_short(known[first])}, {other} {_short(known[other])}")
    return found


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
    found = _setting("decoding")(metrics)
    return found and {name: value for name, value in found.items() if name != "batch_size"}


_SETTINGS: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "data": _data,
    "limits": _limit,
    "prompt dialects": _setting("model", "dialect"),
    "decoding settings": _decoding,
    "benchmark rules": lambda metrics: sorted(metrics.get("benchmarks", ())) or None,
    "units": lambda metrics: metrics["unit"],
    "METEOR stages": lambda metrics: metrics.get("meteor_stages"),
}


def _skill(task: str, metric: str, rows: Sequence[tuple[Sample, Sample]]) -> Skill | None:
    values = [(one.value(metric), other.value(metric), other.prediction.cluster) for one, other in rows]
    known = [each for each in values if None not in each[:2]]
    if not known:
        return None
    first, second, clusters = map(list, zip(*known, strict=True))
    difference = paired(first, second, clusters)
    yes_or_no = {0.0, 1.0} >= {*first, *second}
    won, lost, exact = mcnemar(first, second) if yes_or_no else (None, None, None)
    before, after = sum(first) / len(first), sum(second) / len(second)
    missing = len(rows) - len(known)
    return Skill(task, metric, before, after, difference, difference.p, "", missing, won, lost, exact)


def _judged(skill: Skill, p: float) -> Skill:
    seen = skill.difference
    if seen.equal == seen.rows:
        verdict = SAME
    elif p > _SURE:
        verdict = UNTOLD
    else:
        verdict = BETTER if (seen.mean < 0) == lower_is_better(skill.metric) else WORSE
    return Skill(**{**vars(skill), "p": p, "verdict": verdict})


def _own_metrics(rows: Sequence[tuple[Sample, Sample]]) -> list[str]:
    kinds = {(other.kind, name) for _, other in rows for name in other.own}
    return [f"{kind}.{name}" for kind, name in sorted(kinds)]


def _change(first: float | None, last: float | None) -> str:
    if first is None or last is None:
        return "-"
    return f"{last - first:+.4f}" if isinstance(first, float) else f"{last - first:+d}"


def _short(value: object) -> str:
    said = str(value)
    return said if len(said) <= 60 else said[:57] + "..."
