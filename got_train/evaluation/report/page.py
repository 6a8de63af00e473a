"""The report as one HTML file: counts, means with intervals, groups, what changed, confusions, samples.

Knows metrics and samples. The page asks for nothing from outside: a policy in it forbids that.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rapidfuzz.distance import Levenshtein

from .. import characters, text
from ..comparison import BETTER, WORSE
from ..samples import LENGTHS, Sample, groups, length_bin
from . import charts
from .pictures import Pictures
from .renderings import drawn

_MAIN = {
    "edit distance": ("macro", "edit_distance"),
    "CER": ("micro", "cer"),
    "WER": ("micro", "wer"),
    "exact match": ("macro", "exact_match"),
    "F1": ("macro", "f1"),
    "BLEU": ("macro", "bleu"),
    "METEOR": ("macro", "meteor"),
}
_CHIPS = ("edit_distance", "cer", "f1", "bleu", "exact_match")
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
_CONFUSIONS = 15  # a script
_NAMED = {"": "nothing", " ": "space", "\n": "new line", "\t": "tab", "\u00a0": "no-break space"}
_DRAWN = 1000  # samples whose tables, formulas or molecules are drawn, at most
_DOTS = 1000  # points of a drawing, at most
_SEED = 7
_FOLDER = Path(__file__).parent


def report(
    metrics: Mapping[str, Any],
    scored: Sequence[Sample],
    before: Sequence[Sample] | None,
    pictures: Pictures,
    most_pictures: int = 120,
) -> str:
    """The page. `before`: an earlier run's samples, whose answers stand beside those of the same name."""
    orders = _orders(scored, before)
    chosen = _pictured(orders, most_pictures)
    shown = [pictures.shown(scored[place].prediction) for place in chosen]
    data = {
        "samples": _samples(scored, before, {place: number for number, place in enumerate(chosen)}),
        "orders": orders,
        "shown": _CHIPS,
    }
    sections = [
        _head(metrics),
        _settings(metrics),
        _changes(metrics),
        _main_table(metrics),
        _kinds(metrics),
        _benchmarks(metrics),
        _breakdown(metrics),
        _drawings(scored),
        _endings(scored),
        _confusions(scored),
        _controls(scored, orders, len(chosen)),
    ]
    return _document("\n".join(filter(None, sections)), _title(metrics), data, shown)


def _document(body: str, title: str, data: Mapping[str, Any], pictures: Sequence[Mapping[str, Any]]) -> str:
    style, script = ((_FOLDER / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{_escaped(title)}</title>
<style>{style}</style></head>
<body>
{body}
<script type="application/json" id="pictures">{_json(pictures)}</script>
<script type="application/json" id="data">{_json(data)}</script>
<script>{script}</script>
</body></html>
"""


def _json(value: Any) -> str:
    """JSON that may stand in HTML."""
    written = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return written.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _escaped(value: object) -> str:
    return html.escape(str(value)).replace("\0", "\u2400")


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
        f"<header><h1>{_escaped(_title(metrics))}</h1><nav>{links}<a href='#look'>samples</a></nav>"
        f"<ul class=counts>{items}</ul>{note}</header><main>"
    )


def _settings(metrics: Mapping[str, Any]) -> str:
    settings = metrics.get("settings")
    stages = ", ".join(metrics["meteor_stages"])
    rows = {"metrics count": f"{metrics['unit']}s", "METEOR stages": stages}
    if settings:
        model, decoding = settings["model"], settings["decoding"]
        rows |= {"checkpoint": model["folder"], "its SHA-256": model["sha256"], "prompts": model["dialect"]}
        rows |= {"decoding": ", ".join(f"{name} {value}" for name, value in decoding.items())}
        for file in settings["data"]:
            said = f"{file['path']}, {file['records']:,} records, SHA-256 {file['sha256']}"
            rows[f"data {file['name']}"] = said
        rows |= {"limit": settings["limit"] or "none", "code": settings["code"]}
    else:
        rows["origin"] = "predictions without settings: model, prompts and decoding are not known"
    listed = "".join(f"<dt>{_escaped(name)}</dt><dd>{_escaped(value)}</dd>" for name, value in rows.items())
    return f"<details><summary>What was run</summary><dl class=settings>{listed}</dl></details>"


def _changes(metrics: Mapping[str, Any]) -> str:
    found = metrics.get("comparison")
    if not found:
        return ""
    notes = "".join(f"<p class=worse>{_escaped(note)}</p>" for note in found["notes"])
    rows = []
    for skill in found["skills"]:
        seen, verdict = skill["difference"], skill["verdict"]
        mark = {BETTER: " better", WORSE: " worse"}.get(verdict, "")
        rows.append(
            f"<tr><td class=word>{_escaped(skill['task'])}<td class=word>{_escaped(skill['metric'])}"
            f'<td class="word{mark}">{verdict}<td>{skill["before"]:.4f}<td>{skill["after"]:.4f}'
            f"<td>{seen['mean']:+.4f}<small>{seen['low']:+.4f} to {seen['high']:+.4f}</small>"
            f"<td>{skill['p']:.3g}<td>{seen['higher']} / {seen['equal']} / {seen['lower']}<td>{seen['rows']}"
        )
    head = (
        "task",
        "metric",
        "verdict",
        "before",
        "after",
        "change, 95%",
        "p (Holm)",
        "up / equal / down",
        "rows",
    )
    return (
        f"<h2 id=changes>What changed since {_escaped(found['with'])}</h2>{notes}"
        f"{_table(head, rows, words=3)}"
        "<p class=note>Rows of both runs, matched by name. The interval is a bootstrap over documents, p a "
        "sign-flip test over documents, adjusted for all lines of this table. Better and worse: p at most "
        "0.05; else it cannot be told.</p>"
    )


def _main_table(metrics: Mapping[str, Any]) -> str:
    rows = []
    for name, group in metrics["groups"].items():
        cells = [f"<td class=word>{_escaped(name)}<td>{group['rows']:,}"]
        for average, metric in _MAIN.values():
            cells.append(_with_interval(group["fixed"], group.get("intervals"), average, metric))
        cells += [
            f"<td>{group[count] if group[count] is not None else '-'}"
            for count in ("empty_answers", "no_end_token", "failed", "not_asked")
        ]
        rows.append("<tr>" + "".join(cells))
    head = ("task", "rows", *_MAIN, "empty", "no end", "failed", "not asked")
    return (
        f"<h2 id=means>Means, with 95% intervals</h2>{_table(head, rows)}"
        "<p class=note>CER and WER are rates over all characters and words together, the others means over "
        "rows. Intervals are bootstraps over documents. A failed row counts as an empty answer.</p>"
        + _official(metrics)
    )


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
        found = group["official"].get("macro")
        if found:
            cells = "".join(f"<td>{found[metric]:.4f}" for metric in text.OFFICIAL)
            rows.append(f"<tr><td class=word>{_escaped(name)}<td>{group['official']['rows']}{cells}")
    parts = metrics["kinds"].get("page", {}).get("official", {})
    for part, found in parts.items():
        cells = "".join(
            f"<td>{found[metric]:.4f}" if metric in found else "<td>-" for metric in text.OFFICIAL
        )
        rows.append(f"<tr><td class=word>formatted pages: {part}<td>{found['rows']}{cells}")
    table = _table(("task", "rows", *text.OFFICIAL), rows)
    return (
        "<details><summary>As GOT's released scripts count</summary><p class=note>To compare with published "
        "tables only: reference and answer exchanged (precision is recall), rows with an empty side left "
        f"out.</p>{table}</details>"
    )


def _kinds(metrics: Mapping[str, Any]) -> str:
    rows = []
    for kind, found in metrics["kinds"].items():
        for name, value in found["averages"].items():
            low, high = found["intervals"].get(name, (math.nan, math.nan))
            between = "" if math.isnan(low) else f"<small>{low:.3f} to {high:.3f}</small>"
            reasons = "; ".join(f"{why} ({count})" for why, count in found["reasons"].get(name, {}).items())
            mean = "-" if value is None else f"{value:.4f}"
            rows.append(
                f"<tr><td class=word>{_escaped(kind)}<td class=word>{_escaped(name)}<td>{mean}{between}"
                f"<td>{found['computed'][name]:,}<td>{found['rows']:,}<td class=word>{_escaped(reasons)}"
            )
    if not rows:
        return ""
    head = ("kind", "metric", "mean", "computed", "rows", "why not all")
    return f"<h2>Tables, formulas and other kinds</h2>{_table(head, rows, words=2)}"


def _benchmarks(metrics: Mapping[str, Any]) -> str:
    parts = []
    for name, found in metrics.get("benchmarks", {}).items():
        rows = [
            f"<tr><td class=word>{_escaped(key)}<td>{f'{value:.4f}' if isinstance(value, float) else value}"
            for key, value in found["summary"].items()
        ]
        note = f"<p class=note>{_escaped(found['note'])}</p>" if found.get("note") else ""
        parts.append(
            f"<h2>{_escaped(name)}</h2>{note}{_table(('score', 'value'), rows)}{_failed_checks(found)}"
        )
    return "".join(parts)


def _failed_checks(found: Mapping[str, Any]) -> str:
    rows = [
        f"<tr><td class=word>{_escaped(each['id'])}<td class=word>{_escaped(each['type'])}"
        f"<td class=word>{_escaped(each['reason'])}"
        for each in found.get("checks", ())
        if not each["passed"]
    ]
    if not rows:
        return ""
    table = _table(("check", "type", "reason"), rows[:500], words=3)
    return f"<details><summary>{len(rows):,} checks failed</summary>{table}</details>"


def _breakdown(metrics: Mapping[str, Any]) -> str:
    parts = []
    for name, values in metrics["breakdown"].items():
        rows = [
            f"<tr{' class=small' if part['small'] else ''}><td class=word>{_escaped(value or '(none)')}"
            f"<td>{part['rows']:,}<td>{part['edit_distance']:.4f}"
            f"<small>{part['interval'][0]:.3f} to {part['interval'][1]:.3f}</small>"
            f"<td>{part['exact_match']:.4f}"
            for value, part in values.items()
        ]
        head = (name, "rows", "edit distance", "exact match")
        parts.append(f"<div>{_table(head, rows)}</div>")
    if not parts:
        note = "All rows are of one language, task, source and length."
        return f"<h2 id=groups>Groups</h2><p class=note>{note}</p>"
    note = "Grey: fewer than 30 rows, of which a mean says little."
    return f"<h2 id=groups>Groups</h2><p class=note>{note}</p><div class=pairs>{''.join(parts)}</div>"


def _drawings(scored: Sequence[Sample]) -> str:
    if not scored:
        return ""
    values = [each.fixed["edit_distance"] for each in scored]
    lengths = [(len(each.prediction.reference), len(each.prediction.prediction)) for each in scored]
    if len(lengths) > _DOTS:
        lengths = random.Random(_SEED).sample(lengths, _DOTS)
    figures = {
        "Rows by edit distance": charts.histogram(values),
        "Edit distance by length": charts.bars(
            _by_length(scored), "characters of the reference", "mean, 95%"
        ),
        "Lengths": charts.points(lengths, "characters of the reference", "of the answer"),
    }
    parts = [f"<figure><figcaption>{name}</figcaption>{figure}</figure>" for name, figure in figures.items()]
    return f"<h2>Where the errors are</h2><div class=charts>{''.join(parts)}</div>"


def _by_length(scored: Sequence[Sample]) -> list[tuple[str, float, float, float]]:
    from ..statistics import interval

    bins: dict[str, list[Sample]] = {
        name: [] for name in ("0", *(length_bin(n) for n in LENGTHS), length_bin(10**9))
    }
    for each in scored:
        bins[length_bin(len(each.prediction.reference))].append(each)
    found = []
    for name, rows in bins.items():
        if rows:
            values = [each.fixed["edit_distance"] for each in rows]
            low, high = interval(values, clusters=[each.prediction.cluster for each in rows], draws=1000)
            found.append((name.replace(" and more", "+"), sum(values) / len(values), low, high))
    return found


def _endings(scored: Sequence[Sample]) -> str:
    """Signs of degeneration: how many rows show each, of those where it can be told."""
    seen: dict[str, list[float]] = defaultdict(list)
    for each in scored:
        for name in each.faults:
            value = each.value(name)
            if value is not None:
                seen[name].append(value)
    rows = [
        f"<tr><td class=word>{_escaped(name.replace('_', ' '))}<td>{sum(values):,.0f}<td>{len(values):,}"
        f"<td>{sum(values) / len(values):.4f}"
        for name, values in seen.items()
        if {*values} <= {0.0, 1.0}
    ]
    return f"<h3>Signs of degeneration</h3>{_table(('sign', 'rows', 'of', 'share'), rows)}" if rows else ""


def _confusions(scored: Sequence[Sample]) -> str:
    pairs: Counter[tuple[str, str]] = Counter()
    words: Counter[tuple[str, str]] = Counter()
    there: Counter[str] = Counter()
    for each in scored:
        answer, reference = each.prediction.prediction, each.prediction.reference
        pairs += characters.confusions(answer, reference)
        there += Counter(map(characters.script, reference))
        if each.fixed["edit_distance"] < 0.5:  # of others the words do not correspond
            words += characters.word_confusions(*map(_seen, text.tokens(answer, reference)))
    by_script: dict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
    for (wanted, got), count in pairs.items():
        by_script[characters.script(wanted or got)][wanted, got] += count
    if not by_script:
        return "<h2 id=confusions>Confusions</h2><p class=note>No character was read wrongly.</p>"
    tables = [
        f"<div>{_confusion_table(script, found, there[script])}</div>"
        for script, found in sorted(by_script.items(), key=lambda item: -item[1].total())
    ]
    rows = [_confusion_row(wanted, got, count) for (wanted, got), count in words.most_common(_CONFUSIONS)]
    if rows:
        table = _table(("reference", "read as", "times"), rows, words=2)
        tables.append(f"<div><h3>Whole words</h3>{table}</div>")
    note = "Characters of the reference and what was read for them, by script, the most frequent first."
    return (
        f"<h2 id=confusions>Confusions</h2><p class=note>{note}</p><div class=pairs>{''.join(tables)}</div>"
    )


def _seen(words: Iterable[str]) -> list[str]:
    return [word for word in words if not word.isspace()]


def _confusion_table(script: str, found: Counter[tuple[str, str]], there: int) -> str:
    wrong = sum(count for (wanted, _), count in found.items() if wanted)
    right = f"{1 - wrong / there:.2%} of {there:,} right" if there else "in no reference"
    rows = [_confusion_row(wanted, got, count) for (wanted, got), count in found.most_common(_CONFUSIONS)]
    return f"<h3>{script}: {right}</h3>{_table(('reference', 'read as', 'times'), rows, words=2)}"


def _confusion_row(wanted: str, got: str, count: int) -> str:
    return f"<tr><td class=word>{_visible(wanted)}<td class=word>{_visible(got)}<td>{count:,}"


def _visible(character: str) -> str:
    """A character as one sees it; white space and marks that stand on others by their code."""
    if character in _NAMED:
        return f"<i>{_NAMED[character]}</i>"
    if character.isspace() or not character.isprintable() or (len(character) == 1 and _combines(character)):
        return " ".join(f"U+{ord(each):04X}" for each in character)
    return f"<bdi>{_escaped(character)}</bdi>"


def _combines(character: str) -> bool:
    import unicodedata

    return unicodedata.category(character).startswith("M")


def _controls(scored: Sequence[Sample], orders: Mapping[str, Sequence[int]], pictured: int) -> str:
    names = {name for each in scored for name in groups(each.prediction)}
    selects = []
    for name in sorted(names, key=lambda name: ("task", "language", "length", "source", name).index(name)):
        values = sorted({groups(each.prediction).get(name, "") for each in scored} - {""})
        if 1 < len(values) <= 200:
            selects.append(_select(name, ["", *values], f'data-group="{_escaped(name)}"', "all"))
    faults = sorted({fault for each in scored for fault in _faults(each)})
    order = "".join(f'<option value="{name}">{name.replace("_", " ")}</option>' for name in orders)
    return (
        "<h2 id=look>Samples</h2><p class='note legend'>Reference and answer in one text: <del>missing</del> "
        f"stands in the reference only, <ins>extra</ins> in the answer only. {pictured:,} samples have their "
        "picture in this file, with the region that was asked.</p>"
        f"<div id=controls><label>order<select id=order>{order}</select></label>{''.join(selects)}"
        + _select("fault", ["", *faults], "id=fault", "any")
        + "<label>words<input id=words type=search placeholder='in name or text'></label>"
        "<span id=shown></span></div><div id=samples></div><button id=more>more</button></main>"
    )


def _select(label: str, values: Sequence[str], mark: str, none: str) -> str:
    options = "".join(
        f'<option value="{_escaped(value)}">{_escaped(value) or none}</option>' for value in values
    )
    return f"<label>{_escaped(label)}<select {mark}>{options}</select></label>"


def _orders(scored: Sequence[Sample], before: Sequence[Sample] | None) -> dict[str, list[int]]:
    """The samples' places in each order that they can be looked at in."""
    places = list(range(len(scored)))
    mixed = places.copy()
    random.Random(_SEED).shuffle(mixed)
    orders = {"worst_first": sorted(places, key=lambda place: -scored[place].fixed["edit_distance"])}
    if before is not None:
        known = {each.prediction.name: each.fixed["edit_distance"] for each in before}
        change = [each.fixed["edit_distance"] - known.get(each.prediction.name, math.nan) for each in scored]
        both = [place for place in places if not math.isnan(change[place])]
        orders |= {
            "most_changed": sorted(both, key=lambda place: -abs(change[place])),
            "most_worsened": sorted(both, key=lambda place: -change[place]),
            "most_improved": sorted(both, key=lambda place: change[place]),
        }
    return {**orders, "random": mixed, "as_in_the_data": places}


def _pictured(orders: Mapping[str, Sequence[int]], most: int) -> list[int]:
    """Whose pictures go into the file: the first of each order in turn."""
    chosen: dict[int, None] = {}
    for rank in range(max(map(len, orders.values()), default=0)):
        for places in orders.values():
            if len(chosen) >= most:
                return list(chosen)
            if rank < len(places):
                chosen[places[rank]] = None
    return list(chosen)


def _samples(
    scored: Sequence[Sample], before: Sequence[Sample] | None, pictured: Mapping[int, int]
) -> list[dict[str, Any]]:
    """What the page's script needs of each sample, under short names, for there may be thousands."""
    known = {each.prediction.name: each.prediction.prediction for each in before or ()}
    rows, drawings = [], 0
    for place, each in enumerate(scored):
        said = each.prediction
        row = {
            "n": said.name,
            "r": said.reference,
            "p": said.prediction,
            "o": _edits(said.reference, said.prediction),
            "s": {name: each.value(name) for name in each.metrics if name in _CHIPS or "." in name},
            "g": {name: value for name, value in groups(said).items() if value},
            "f": _faults(each),
        }
        if said.failed is not None:
            row["e"] = said.failed
        if said.name in known:
            row |= {"b": known[said.name], "c": _edits(said.reference, known[said.name])}
        if place in pictured:
            row["i"] = pictured[place]
        if drawings < _DRAWN:
            looks = drawn(said.reference, each.kind), drawn(said.prediction, each.kind)
            if any(looks):
                row["l"] = looks
                drawings += 1
        rows.append(row)
    return rows


def _edits(reference: str, prediction: str) -> list[tuple[int, int, int, int]]:
    found = Levenshtein.opcodes(reference, prediction)
    return [
        (code.src_start, code.src_end, code.dest_start, code.dest_end)
        for code in found
        if code.tag != "equal"
    ]


def _faults(sample: Sample) -> list[str]:
    signs = [name for name in sample.faults if sample.faults[name] is True]
    return [*(["failed"] if sample.prediction.failed is not None else []), *signs]


def _table(head: Iterable[str], rows: Iterable[str], words: int = 1) -> str:
    cells = "".join(
        f"<th{' class=word' if place < words else ''}>{_escaped(name)}" for place, name in enumerate(head)
    )
    return f"<div class=wide><table><tr>{cells}{''.join(rows)}</table></div>"
