"""What a run has done, in numbers and words: its state, skills, curves, gradient audit, memory and time.

Knows what folder.py has read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from got_train.evaluation.comparison import BETTER, WORSE
from got_train.evaluation.report import numbers
from got_train.evaluation.scores import ALL
from got_train.evaluation.verdict import beside
from got_train.html import charts
from got_train.html.page import escaped, table
from got_train.preflight import verdict as checks
from got_train.training.generation_eval import VALIDATION
from got_train.training.run_files import EARLY_STOP, MEMORY

from .folder import Curve, Run

_TRAIN = "train/"  # what paddlenlp calls the curves of the loop
_LOSSES = {"training": f"{_TRAIN}loss", "validation": f"{_TRAIN}validation_loss"}
_RL = "rl/"  # what reinforcement calls its own
_SAMPLED = {
    "reward": ("Reward", "mean over sampled answers"),
    "deviation": ("Deviation of rewards", "mean over groups"),
    "no_variance": ("Groups without variance", "share"),
    "entropy": ("Entropy", "nats a token"),
    "tokens": ("Tokens of a sampled answer", "mean"),
    "ended": ("Sampled answers that ended", "share"),
}
_SPEED = "interval_samples_per_second"
_METRICS = {"Edit distance": "edit_distance", "Exact match": "exact_match", "F1": "f1", "No end": "no_end"}


def state(run: Run) -> str:
    """How far the run has come, in a few words."""
    planned = run.state.get("max_steps") or 0
    of = f" of {planned:,}" if planned > run.done else ""
    if not run.final:
        last = f"the last checkpoint is of step {run.saved:,}{of}; --resume continues from it"
        return f"not complete: {last}" if run.saved else "not complete: there is no checkpoint yet"
    if not of:
        return f"complete, {run.done:,} steps"
    why = [str(entry[EARLY_STOP]) for entry in run.state.get("log_history", ()) if EARLY_STOP in entry]
    reasons = "; ".join(why) or "train.early_stopping_patience was over"
    return f"complete, ended at step {run.done:,}{of}: {reasons}"


def head(run: Run) -> str:
    losses = run.curves.get(_LOSSES["training"], ())
    items = {
        "check": run.check["verdict"] if run.check else "none in this folder",
        "steps": f"{run.done:,}",
        "training loss, last": f"{losses[-1][1]:.4f}" if losses else "-",
        "time": checks.duration(run.seconds) if run.sessions else "-",
        "rows dropped": f"{len(run.dropped):,}",
    }
    alarms = {"check"} if run.check and run.check["verdict"] == checks.NOT_READY else set()
    alarms |= {"rows dropped"} if len(run.dropped) else set()
    listed = "".join(
        f"<li{' class=alarm' if name in alarms else ''}><b>{escaped(value)}</b>{name}</li>"
        for name, value in items.items()
    )
    lines = "".join(
        f"<p class='verdict {mark if mark in (BETTER, WORSE) else ''}'>{escaped(sentence)}</p>"
        for sentence, mark in verdict(run)
    )
    return f"<p>{escaped(state(run))}</p>{lines}<ul class=counts>{listed}</ul>"


def verdict(run: Run) -> list[tuple[str, str]]:
    """How good the result is now, on what it was trained for and on old skills, and beside another system.

    Sentences, each with better, worse or neither; an old skill that became worse always has one.
    """
    lines = []
    by_set: dict[str, list[Mapping[str, Any]]] = {}
    for delta in (run.skills or {}).get("skills", ()):
        by_set.setdefault(delta["task"].rpartition(" in ")[2], []).append(delta)
    for name, deltas in by_set.items():
        tasks = [delta["task"] for delta in deltas]
        task = f"{ALL} in {name}" if f"{ALL} in {name}" in tasks else tasks[0]
        by_metric = {delta["metric"]: delta for delta in deltas if delta["task"] == task}
        error = by_metric.get("cer") or by_metric["edit_distance"]
        exact = by_metric["exact_match"]
        rows = exact["difference"]["rows"]
        if name == VALIDATION or error["verdict"] == WORSE:
            share = "of the characters wrong" if "cer" in by_metric else "edit distance"
            now = (
                f"{name}: {round(exact['after'] * rows):,} of {rows:,} rows ({exact['after']:.1%}) are read "
                f"without an error, {error['after']:.1%} {share}; before the run {exact['before']:.1%} and "
                f"{error['before']:.1%}"
            )
            lost = "" if name == VALIDATION else "; this old skill has become worse"
            lines.append((now + lost, error["verdict"] if error["verdict"] == WORSE else ""))
    if run.beside:
        lines.append(beside(run.beside["name"], run.beside["skills"]))
    return lines


def skills(run: Run) -> str:
    title = "<h2 id=skills>What it can do, before and after</h2>"
    if run.skills is None:
        asked = run.config.measured_rows and run.config.eval.baseline and run.config.model.init_from
        needs = "model.init_from, and data.validation or eval.retention_sets"
        why = "It comes with the end of the run." if asked else f"It needs {needs}."
        return f"{title}<p class=note>There is no skill table. {why}</p>"
    deltas = run.skills["skills"]
    main = [skill for skill in deltas if skill["metric"] == "edit_distance"]
    words = "".join(f"<li{_mark(skill)}>{escaped(skill['words'])}</li>" for skill in main)
    counted = ", ".join(f"{rows:,} of {escaped(name)}" for name, rows in run.skills["rows"].items())
    note = (
        f"Before: {escaped(run.skills['before']['folder'])}; after: step {run.skills['after']['step']:,}. "
        f"Rows: {counted}. The interval is a bootstrap over documents, p a sign-flip test over documents, "
        "adjusted within each set. Better and worse: p at most 0.05; otherwise inconclusive, also "
        "where the interval of one line alone leaves out 0. Lower is better of edit_distance, cer and wer."
    )
    return f"{title}<ul>{words}</ul>{numbers.skills(deltas)}<p class=note>{note}</p>"


def beside_table(run: Run) -> str:
    return numbers.beside({"beside": run.beside})


def _mark(skill: Mapping[str, Any]) -> str:
    return f" class={skill['verdict']}" if skill["verdict"] in ("better", "worse") else ""


def curves(run: Run) -> str:
    losses = {name: run.curves[key] for name, key in _LOSSES.items() if key in run.curves}
    rates, speeds = (run.curves.get(f"{_TRAIN}{name}", []) for name in ("learning_rate", _SPEED))
    figures = [
        _figure("Loss", losses, "mean of -log p", low=None),
        _figure("Learning rate", {"": rates}, ""),
        *(_figure(title, measured(run, name), "mean") for title, name in _METRICS.items()),
        _figure("Pages a second", {"": speeds}, ""),
        *_sampled(run),
    ]
    drawn = "".join(filter(None, figures))
    if not drawn:
        return "<h2 id=curves>Curves</h2><p class=note>Nothing has been logged yet.</p>"
    return (
        f"<h2 id=curves>Curves</h2><div class=charts>{drawn}</div><p class=note>The scale of a loss that "
        "falls to less than a twentieth is logarithmic. Metrics are means over the rows read.</p>"
    )


def _sampled(run: Run) -> list[str]:
    """Of answers that were sampled: rewards by component, entropy, lengths, groups without variance."""
    found = {name.removeprefix(_RL): curve for name, curve in run.curves.items() if name.startswith(_RL)}
    parts = {name: found.pop(name) for name in list(found) if name not in _SAMPLED}
    figures = [_figure("Rewards by component", dict([each]), each[0]) for each in parts.items()]
    return [
        *(_figure(title, {"": found.get(name, [])}, up) for name, (title, up) in _SAMPLED.items()),
        *figures,
    ]


def measured(run: Run, metric: str) -> dict[str, Curve]:
    """By set: the metric at each measuring, over all tasks of the set."""
    curves: dict[str, Curve] = {}
    for row in run.measurements:
        for name, tasks in row["metrics"].items():
            values = list(tasks.values())[-1]  # all, or the only task
            if metric in values:
                curves.setdefault(name, []).append((row["step"], values[metric]))
    return curves


def _figure(title: str, series: Mapping[str, Curve], up: str, low: float | None = 0.0) -> str:
    known = {name: points for name, points in series.items() if points}
    if not known or not any(value for points in known.values() for _, value in points):
        return ""
    keys = "".join(
        f"<span class='key s{index % charts.STYLES}'>{escaped(name)}</span>"
        for index, name in enumerate(known)
        if name
    )
    drawn = charts.curves(known, "step", up, low)
    return f"<figure><figcaption>{title}{keys}</figcaption>{drawn}</figure>"


def audit(run: Run) -> str:
    title = "<h2 id=audit>Gradient audit</h2>"
    if run.audit is None:
        return f"{title}<p class=note>No update was made yet, or this mode of training has no audit.</p>"
    rows = [
        f"<tr><td class=word>{part['part']}<td class=word>{'trains' if part['train'] else 'rests'}"
        f"<td>{part['parameters']}<td>{part['optimized']}<td>{part['with_gradient']}<td>{part['changed']}"
        f"<td>{part['gradient_norm']:.4g}<td>{part.get('frozen', 0)}<td>{part.get('frozen_modified', 0)}"
        for part in run.audit["parts"]
    ]
    head = (
        "part",
        "by config",
        "parameters",
        "in the optimizer",
        "with gradient",
        "changed",
        "gradient norm",
    )
    head = (*head, "frozen by LoRA", "of these touched")
    note = (
        f"What was seen at the update of step {run.audit['step']:,}. Parameters are counted as tensors. A "
        "part that does not do what the config says stops the run."
    )
    if run.config.lora.rank:
        note += " The first update changes one matrix of each pair of LoRA: A, once B is not zero."
    return f"{title}{table(head, rows, words=2)}<p class=note>{note}</p>"


def costs(run: Run) -> str:
    """Memory and time, as measured, beside what the check had said."""
    memory = [value for _, value in run.curves.get(f"{_TRAIN}{MEMORY}", ())]
    needs = (run.check or {}).get("needs") or {}
    speed = [value for _, value in run.curves.get(f"{_TRAIN}{_SPEED}", ())]
    reading = sum(row["seconds"] for row in run.measurements)
    rows = {
        "peak memory of the first process": (
            f"{max(memory):.2f} GB" if memory else "-",
            checks.size(needs["memory"]) if needs else "-",
        ),
        "time, from first to last value logged": (
            f"{checks.duration(run.seconds)} in {len(run.sessions)} session(s)",
            checks.duration(needs["seconds"]) + " without reading and saves" if needs else "-",
        ),
        "of this, reading": (checks.duration(reading) if run.measurements else "-", ""),
        "pages a second, median": (f"{sorted(speed)[len(speed) // 2]:.1f}" if speed else "-", ""),
        "parameters that train": (
            "",
            f"{needs['trained']:,} of {needs['parameters']:,}" if needs else "-",
        ),
        "disk": ("", checks.size(needs["disk_bytes"]) if needs else "-"),
    }
    lines = [
        f"<tr><td class=word>{name}<td>{escaped(seen)}<td>{escaped(said)}"
        for name, (seen, said) in rows.items()
    ]
    return f"<h2 id=costs>Memory and time</h2>{table(('what', 'measured', 'the check had said'), lines)}"
