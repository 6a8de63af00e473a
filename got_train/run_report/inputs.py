"""What a run was given, as numbers and words: the check's verdict on it, data, rows left out, settings.

Knows what folder.py has read.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from got_train.config.loader import dump_config
from got_train.config.schema import Config, flat
from got_train.html import charts
from got_train.html.page import escaped, table
from got_train.preflight import verdict as checks

from .folder import Run

_ROWS = 200  # of a list, at most


def verdict(run: Run) -> str:
    title = "<h2 id=verdict>Verdict of the check</h2>"
    if run.check is None:
        advice = "got check CONFIG looks at settings and every row, before a run"
        return f"{title}<p class=note>No check.json stands in this folder. {advice}.</p>"
    other = "" if run.checked else "<p class=worse>It was made with other settings than this run's.</p>"
    rows = [
        f"<tr><td class=word>{kind['level']}<td class=word>{escaped(kind['subject'])}<td>{kind['count']:,}"
        f"<td class='word wrap'>{_example(kind)}<td class='word wrap'>{escaped(kind['fix'])}"
        for kind in run.check["findings"]
    ]
    head = ("level", "about", "times", "such as", "what would be right")
    findings = table(head, rows, words=5) if rows else "<p>Nothing was found.</p>"
    mark = {checks.READY: "better", checks.NOT_READY: "worse"}.get(run.check["verdict"], "")
    return (
        f"{title}<p class='{mark}'>{escaped(run.check['verdict'])}</p>{other}{findings}"
        f"<details><summary>all that the check said</summary><pre class=text>"
        f"{escaped(checks.text(run.check))}</pre></details>"
    )


def _example(kind: Mapping[str, Any]) -> str:
    first = kind["examples"][0]
    return escaped(f"{first['location']}: {first['cause']}")


def data(run: Run) -> str:
    parts = ["<h2 id=data>Data</h2>"]
    if run.check and run.check["sources"]:
        parts.append(_sources(run.check["sources"]))
    else:
        named = [("train", run.config.data.sources), ("replay", run.config.data.replay_sources)]
        named.append(("validation", run.config.data.validation_sources))
        rows = [
            f"<tr><td class=word>{role}<td class=word>{escaped(source.path)}"
            for role, sources in named
            for source in sources
        ]
        parts.append(table(("role", "path"), rows, words=2))
        parts.append("<p class=note>Lengths, scripts and duplicates are told by got check.</p>")
    if run.ledger:
        entered = sum(entry.rows for entry in run.ledger.values())
        trace = f"got trace {shlex.quote(str(run.folder))} --step {max(run.ledger)}"
        parts.append(
            f"<p>{entered:,} rows entered {len(run.ledger):,} steps (a row counts each time). Which: "
            f"<code>{escaped(trace)}</code></p>"
        )
    return "".join(parts)


def _sources(sources: Sequence[Mapping[str, Any]]) -> str:
    rows, figures = [], []
    for source in sources:
        tokens, lines = source["tokens"], source["smallest_lines"]
        tasks = ", ".join(f"{task} {count:,}" for task, count in source["tasks"].items())
        low = f"{lines['p5']} px" if lines["pages"] else "-"
        rows.append(
            f"<tr><td class=word>{source['role']}<td class=word>{escaped(source['path'])}"
            f"<td>{source['rows']:,}<td>{source['bad']:,}<td>{source['too_long']:,}<td>{tokens['median']:,}<td>{tokens['p95']:,}"
            f"<td>{tokens['most']:,}<td>{low}<td class='word wrap'>{escaped(tasks)}"
        )
        bars = [(f"{edge:,}", count) for edge, count in tokens["histogram"]]
        if any(count for _, count in bars):
            title = escaped(f"{source['role']} {source['path']}")
            drawn = charts.columns(bars, "tokens of a row, at most", "rows")
            figures.append(f"<figure><figcaption>{title}</figcaption>{drawn}</figure>")
    head = (
        "role",
        "path",
        "rows",
        "bad",
        "too long",
        "tokens",
        "95 %",
        "most",
        "smallest lines, 5 %",
        "tasks",
    )
    return f"{table(head, rows, words=2)}<div class=charts>{''.join(figures)}</div>"


def dropped(run: Run) -> str:
    """Rows that training left out, and those that the check says cannot be used."""
    times = sum(len(entry.dropped) for entry in run.ledger.values())
    title = "<h2 id=dropped>Rows left out</h2>"
    if not run.dropped:
        said = "none can be: such a row stops the run" if run.config.data.on_error == "raise" else "none was"
        return f"{title}<p class=note>data.on_error is {run.config.data.on_error}: {said}.</p>"
    rows = [
        f"<tr><td class=word>{escaped(row['location'])}<td class='word wrap'>{escaped(row['cause'])}"
        for row in run.dropped[:_ROWS]
    ]
    more = f"<p class=note>and {len(run.dropped) - _ROWS:,} more</p>" if len(run.dropped) > _ROWS else ""
    return (
        f"{title}<p class=worse>{len(run.dropped):,} rows could not be used; they were drawn {times:,} "
        f"times, and nothing took their place.</p>{table(('row', 'cause'), rows, words=2)}{more}"
    )


def settings(run: Run) -> str:
    """What differs from the defaults; all, folded."""
    ours, default = (dict(flat(dataclasses.asdict(config))) for config in (run.config, Config()))
    rows = [
        f"<tr><td class=word>{key}<td class='word wrap'>{escaped(_said(value))}<td class='word wrap'>"
        f"{escaped(_said(default.get(key, '')))}"
        for key, value in ours.items()
        if value != default.get(key, "")
    ]
    return (
        f"<h2 id=settings>Settings</h2>{table(('setting', 'value', 'default'), rows, words=3)}"
        "<details><summary>all settings</summary>"
        f"<pre class=text>{escaped(_all_settings(run.config))}</pre></details>"
    )


def _all_settings(config: Config) -> str:
    """As YAML; sizes of a model that the run does not make are left out, for they are its checkpoint's."""
    import yaml

    values = yaml.safe_load(dump_config(config))
    if config.model.init_from:
        values["model"] = {
            key: value for key, value in values["model"].items() if key not in ("vision", "decoder")
        }
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _said(value: Any) -> str:
    """Sources by their paths and what is given with them."""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_said, value)) or "none"
    if isinstance(value, Mapping):
        given = [f"{key} {item}" for key, item in value.items() if item not in (None, "", {}, False)]
        return "{" + ", ".join(given) + "}"
    return "none" if value in ("", None) else str(value)
