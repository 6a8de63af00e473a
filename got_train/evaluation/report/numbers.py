"""Tables of numbers: means with intervals, kinds, benchmarks, groups, and what changed.

Knows what metrics.json holds; knows no sample.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from got_train.evaluation.comparison import BETTER, WORSE
from got_train.evaluation.metrics import text
from got_train.evaluation.scored import lower_is_better
from got_train.html.page import escaped, table

_MAIN = {
    "edit distance": ("macro", "edit_distance"),
    "CER": ("micro", "cer"),
    "WER": ("micro", "wer"),
    "exact match": ("macro", "exact_match"),
    "F1": ("macro", "f1"),
    "word F1": ("micro", "word_f1"),
    "BLEU": ("macro", "bleu"),
    "METEOR": ("macro", "meteor"),
}
_ENDS = {
    "empty_answers": "empty",
    "no_end_token": "no end",
    "failed": "failed",
    "not_asked": "not asked",
}


def changes(metrics: Mapping[str, Any]) -> str:
    comparison = metrics.get("comparison")
    if not comparison:
        return ""
    notes = "".join(f"<p class=worse>{escaped(note)}</p>" for note in comparison["notes"])
    return (
        f"<h2 id=changes>What changed since {escaped(comparison['with'])}</h2>{notes}"
        f"{skills(comparison['skills'])}"
        "<p class=note>Rows of both runs, matched by name. The interval is a bootstrap over documents, p a "
        "sign-flip test over documents, adjusted for all lines of this table. Better and worse: p at most "
        "0.05; otherwise inconclusive, also where the interval of one line alone leaves out 0.</p>"
    )


def beside(metrics: Mapping[str, Any]) -> str:
    other_system = metrics.get("beside")
    if not other_system:
        return ""
    table_of_both = skills(other_system["skills"], (other_system["name"], "ours"))
    return (
        f"<h2 id=beside>Beside {escaped(other_system['name'])}</h2>{table_of_both}"
        f"<p class=note>Answers of {escaped(other_system['with'])} to the same rows. "
        "Better: ours is better.</p>"
    )


def skills(deltas: Sequence[Mapping[str, Any]], names: tuple[str, str] = ("before", "after")) -> str:
    """A line for each metric of each task: both runs, the change and how sure it is."""
    rows = []
    for skill in deltas:
        seen, verdict = skill["difference"], skill["verdict"]
        mark = {BETTER: " better", WORSE: " worse"}.get(verdict, "")
        better, worse = seen["higher"], seen["lower"]
        if lower_is_better(skill["metric"]):
            better, worse = worse, better
        rows.append(
            f"<tr><td class=word>{escaped(skill['task'])}<td class=word>{escaped(skill['metric'])}"
            f'<td class="word{mark}">{verdict}<td>{skill["before"]:.4f}<td>{skill["after"]:.4f}'
            f"<td>{seen['mean']:+.4f}<small>{seen['low']:+.4f} to {seen['high']:+.4f}</small>"
            f"<td>{skill['p']:.3g}<td>{better} / {seen['equal']} / {worse}<td>{seen['rows']}"
        )
    head = (
        "task",
        "metric",
        "verdict",
        *names,
        "change, 95%",
        "p (Holm)",
        "better / equal / worse",
        "rows",
    )
    return table(head, rows, words=3)


def main_table(metrics: Mapping[str, Any]) -> str:
    rows = []
    for name, group in metrics["groups"].items():
        cells = [f"<td class=word>{escaped(name)}<td>{group['rows']:,}"]
        for average, metric in _MAIN.values():
            cells.append(_with_interval(group["fixed"], group.get("intervals"), average, metric))
        rows.append("<tr>" + "".join(cells))
    folded = ", letter case folded" if metrics.get("case") == "fold" else ""
    head = ("task", "rows", *_MAIN)
    return (
        f"<h2 id=means>Means, with 95% intervals{folded}</h2>{table(head, rows)}"
        "<p class=note>CER, WER and word F1 are rates over all characters and words together, the "
        "others means over rows. Intervals are bootstraps over documents. A failed row counts as an empty "
        "answer.</p>" + _ends(metrics) + _official(metrics)
    )


def _ends(metrics: Mapping[str, Any]) -> str:
    """How many rows of each task went wrong as a whole; one table for all would be wider than the page."""
    groups = metrics["groups"]
    names = [name for name in _ENDS if any(group[name] for group in groups.values())]
    if not names:
        return "<p class=note>No answer is empty, without an end, failed or left out.</p>"
    rows = [
        f"<tr><td class=word>{escaped(task)}<td>{group['rows']:,}"
        + "".join(f"<td>{'-' if group[name] is None else group[name]}" for name in names)
        for task, group in groups.items()
    ]
    return f"<h3>Answers that went wrong</h3>{table(('task', 'rows', *map(_ENDS.get, names)), rows)}"


def _with_interval(values: Any, intervals: Any, average: str, metric: str) -> str:
    if not values:
        return "<td>-"
    low, high = (intervals or {}).get(average, {}).get(metric, (math.nan, math.nan))
    between = "" if math.isnan(low) else f"<small>{low:.3f} to {high:.3f}</small>"
    return f"<td>{values[average][metric]:.4f}{between}"


def _official(metrics: Mapping[str, Any]) -> str:
    """Folded: the same as the released scripts would print it."""
    rows = []
    for name, group in metrics["groups"].items():
        part_values = group["official"].get("macro")
        if part_values:
            cells = "".join(f"<td>{part_values[metric]:.4f}" for metric in text.OFFICIAL)
            rows.append(f"<tr><td class=word>{escaped(name)}<td>{group['official']['rows']}{cells}")
    parts = metrics["answer_types"].get("page", {}).get("official", {})
    for part, part_values in parts.items():
        cells = "".join(
            f"<td>{part_values[metric]:.4f}" if metric in part_values else "<td>-" for metric in text.OFFICIAL
        )
        rows.append(f"<tr><td class=word>formatted pages: {part}<td>{part_values['rows']}{cells}")
    values = table(("task", "rows", *text.OFFICIAL), rows)
    return (
        "<details><summary>As GOT's released scripts count</summary><p class=note>To compare with published "
        "tables only: reference and answer exchanged (precision is recall), rows with an empty side left "
        f"out.</p>{values}</details>"
    )


def kinds(metrics: Mapping[str, Any]) -> str:
    rows = []
    for kind, values in metrics["answer_types"].items():
        for name, value in values["averages"].items():
            low, high = values["intervals"].get(name, (math.nan, math.nan))
            between = "" if math.isnan(low) else f"<small>{low:.3f} to {high:.3f}</small>"
            reasons = "; ".join(
                f"{why} ({count})" for why, count in values["missing_reasons"].get(name, {}).items()
            )
            mean = "-" if value is None else f"{value:.4f}"
            rows.append(
                f"<tr><td class=word>{escaped(kind)}<td class=word>{escaped(name)}<td>{mean}{between}"
                f"<td>{values['computed'][name]:,}<td>{values['rows']:,}<td class=word>{escaped(reasons)}"
            )
    if not rows:
        return ""
    head = ("kind", "metric", "mean", "computed", "rows", "why not all")
    return f"<h2>Tables, formulas and other kinds</h2>{table(head, rows, words=2)}"


def benchmarks(metrics: Mapping[str, Any]) -> str:
    parts = []
    for name, results in metrics.get("benchmarks", {}).items():
        rows = [
            f"<tr><td class=word>{escaped(key)}<td>{f'{value:.4f}' if isinstance(value, float) else value}"
            for key, value in results["summary"].items()
        ]
        note = f"<p class=note>{escaped(results['note'])}</p>" if results.get("note") else ""
        parts.append(
            f"<h2>{escaped(name)}</h2>{note}{table(('score', 'value'), rows)}"
            f"{_groups(results)}{_failed_checks(results)}"
        )
    return "".join(parts)


def _groups(results: Mapping[str, Any]) -> str:
    """The scores of a benchmark by its groups: files of checks, subsets, languages, kinds of pages."""
    groups = results.get("groups", {})
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    rows = [
        f"<tr><td class=word>{escaped(group)}" + "".join(f"<td>{_cell(values.get(name))}" for name in names)
        for group, values in groups.items()
    ]
    if not rows:
        return ""
    return f"<details><summary>{len(rows):,} groups</summary>{table(('group', *names), rows)}</details>"


def _cell(value: Any) -> str:
    return "-" if value is None else f"{value:.4f}" if isinstance(value, float) else escaped(str(value))


def _failed_checks(results: Mapping[str, Any]) -> str:
    rows = [
        f"<tr><td class=word>{escaped(check['id'])}<td class=word>{escaped(check['type'])}"
        f"<td class=word>{escaped(check['reason'])}"
        for check in results.get("checks", ())
        if not check["passed"]
    ]
    if not rows:
        return ""
    failed = table(("check", "type", "reason"), rows[:500], words=3)
    return f"<details><summary>{len(rows):,} checks failed</summary>{failed}</details>"


def breakdown(metrics: Mapping[str, Any]) -> str:
    parts = []
    for name, values in metrics["breakdown"].items():
        rows = [
            f"<tr{' class=small' if part['small'] else ''}><td class=word>{escaped(value or '(none)')}"
            f"<td>{part['rows']:,}<td>{part['edit_distance']:.4f}"
            f"<small>{part['interval'][0]:.3f} to {part['interval'][1]:.3f}</small>"
            f"<td>{part['exact_match']:.4f}"
            for value, part in values.items()
        ]
        head = (name, "rows", "edit distance", "exact match")
        parts.append(f"<div>{table(head, rows)}</div>")
    if not parts:
        note = "All rows are of one language, task, source and length."
        return f"<h2 id=groups>Groups</h2><p class=note>{note}</p>"
    note = "Grey: fewer than 30 rows, of which a mean says little."
    return f"<h2 id=groups>Groups</h2><p class=note>{note}</p><div class=pairs>{''.join(parts)}</div>"
