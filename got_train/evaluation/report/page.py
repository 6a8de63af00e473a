"""The report as one HTML file: counts, means with intervals, groups, what changed, confusions, samples.

The page asks for nothing from outside: a policy in it forbids that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from got_train.evaluation import verdict
from got_train.evaluation.comparison import BETTER, WORSE
from got_train.evaluation.scored import ScoredPrediction
from got_train.html.page import document, escaped, json_text

from . import cards, errors, numbers
from .pictures import Pictures

_COUNTS = {
    "rows": "rows",
    "scored": "scored",
    "failed": "failed",
    "empty": "empty answers",
    "truncated": "cut at the limit",
    "loops": "cut in a loop",
    "not_asked": "not asked",
}
_ALARMS = ("failed", "empty", "truncated", "loops")


def report(
    metrics: Mapping[str, Any],
    scored: Sequence[ScoredPrediction],
    before: Sequence[ScoredPrediction] | None,
    pictures: Pictures,
    most_pictures: int = 120,
) -> str:
    """The page. `before`: an earlier run's samples, whose answers stand beside those of the same name."""
    orders = cards.orders(scored, before)
    chosen = cards.pictured(orders, most_pictures)
    shown = [pictures.shown(scored[index].prediction) for index in chosen]
    data = {
        "samples": cards.rows(scored, before, {index: number for number, index in enumerate(chosen)}),
        "orders": orders,
        "shown": cards.CHIPS,
    }
    sections = [
        _head(metrics),
        _settings(metrics),
        numbers.changes(metrics),
        numbers.beside(metrics),
        numbers.main_table(metrics),
        numbers.kinds(metrics),
        numbers.benchmarks(metrics),
        numbers.breakdown(metrics),
        errors.drawings(scored),
        errors.endings(scored),
        errors.confusions(scored),
        cards.controls(scored, orders, len(chosen)),
    ]
    embedded = [
        f'<script type="application/json" id="pictures">{json_text(shown)}</script>',
        f'<script type="application/json" id="data">{json_text(data)}</script>',
    ]
    script = Path(__file__).with_name("report.js").read_text(encoding="utf-8")
    return document(_title(metrics), "\n".join([*filter(None, sections), *embedded]), script=script)


def _title(metrics: Mapping[str, Any]) -> str:
    settings = metrics.get("settings")
    return f"Evaluation of {settings['model']['folder']}" if settings else "Evaluation of predictions"


def _head(metrics: Mapping[str, Any]) -> str:
    items = "".join(
        f"<li{' class=alarm' if name in _ALARMS and metrics['counts'][name] else ''}>"
        f"<b>{metrics['counts'][name]:,}</b>{label}</li>"
        for name, label in _COUNTS.items()
    )
    unknown = metrics["counts"]["unknown_end"]
    note = f"<p class=note>How the answer ended is not known of {unknown:,} rows.</p>" if unknown else ""
    links = "".join(
        f'<a href="#{name}">{label}</a>'
        for name, label in (("means", "means"), ("groups", "groups"), ("confusions", "confusions"))
    )
    return (
        f"<header><h1>{escaped(_title(metrics))}</h1><nav>{links}<a href='#look'>samples</a></nav>"
        f"{_verdict(metrics)}<ul class=counts>{items}</ul>{note}{_provenance(metrics)}"
        "</header><main>"
    )


def _verdict(metrics: Mapping[str, Any]) -> str:
    lines = [(verdict.now(metrics), "")]
    if "beside" in metrics:
        lines.append(verdict.beside(metrics["beside"]["name"], metrics["beside"]["skills"]))
    return "".join(
        f"<p class='verdict {mark if mark in (BETTER, WORSE) else ''}'>{escaped(sentence)}</p>"
        for sentence, mark in lines
        if sentence
    )


def _provenance(metrics: Mapping[str, Any]) -> str:
    facts = metrics.get("provenance", {})
    listed = "".join(
        f"<dt>{escaped(name)}</dt><dd>{escaped(str(value))}</dd>" for name, value in facts.items()
    )
    return f"<dl class=settings>{listed}</dl>" if listed else ""


def _settings(metrics: Mapping[str, Any]) -> str:
    settings = metrics.get("settings")
    stages = ", ".join(metrics["meteor_stages"])
    case = "folded" if metrics.get("case") == "fold" else "kept"
    rows = {"metrics count": f"{metrics['unit']}s", "letter case": case, "METEOR stages": stages}
    if settings:
        model, decoding = settings["model"], settings["decoding"]
        rows |= {
            "checkpoint": model["folder"],
            "its SHA-256": model["sha256"],
            "prompts": model["prompt_template"],
        }
        rows |= {"decoding": ", ".join(f"{name} {value}" for name, value in decoding.items())}
        for file in settings["data"]:
            description = f"{file['path']}, {file['records']:,} records, SHA-256 {file['sha256']}"
            rows[f"data {file['name']}"] = description
        rows |= {"limit": settings["limit"] or "none", "code": settings["code"]}
    else:
        rows["origin"] = "predictions without settings: model, prompts and decoding are not known"
    listed = "".join(f"<dt>{escaped(name)}</dt><dd>{escaped(value)}</dd>" for name, value in rows.items())
    return f"<details><summary>What was run</summary><dl class=settings>{listed}</dl></details>"
