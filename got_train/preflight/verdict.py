"""The verdict of a check, as text to read and as values for other programs; it finds nothing itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

READY, WARNED, NOT_READY = "ready", "ready with warnings", "not ready"
SHOWN = 3  # examples of each kind in the text
FILE = "check.json"
_BAR = 30  # signs of the longest bar of a histogram


def verdict(findings: Sequence[Mapping[str, Any]]) -> str:
    levels = {finding["level"] for finding in findings}
    return NOT_READY if "error" in levels else WARNED if levels else READY


def text(verdict: Mapping[str, Any]) -> str:
    """What the command prints: sources, tokens, scripts, needs, faults, and last the verdict."""
    parts = [
        _sources(verdict["sources"]),
        _histograms(verdict["sources"]),
        _scripts(verdict["scripts"]),
        _lines(verdict["sources"]),
        _base(verdict.get("base")),
        _needs(verdict.get("needs"), verdict.get("unmeasured", "")),
        _faults(verdict["findings"], bool(verdict.get("all_findings"))),
        [_ending(verdict)],
    ]
    return "\n\n".join("\n".join(lines) for lines in map(list, parts) if lines)


def _sources(sources: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not sources:
        return
    yield f"{'source':34} {'rows':>8} {'bad':>6}   {'tokens: median':>14} {'p95':>6} {'most':>6}   tasks"
    for source in sources:
        tokens, name = source["tokens"], f"{source['role']} {_short(source['path'])}"
        tasks = ", ".join(f"{task} {count:,}" for task, count in source["tasks"].items())
        numbers = f"{tokens['median']:14,} {tokens['p95']:6,} {tokens['most']:6,}"
        yield f"{name:34} {source['rows']:8,} {source['bad']:6,}   {numbers}   {tasks}"


def _histograms(sources: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """How many tokens the rows of each source have, as bars."""
    for source in sources:
        bars = source["tokens"]["histogram"]
        most = max((count for _, count in bars), default=0)
        if not most:
            continue
        yield f"tokens of a row in {source['role']} {_short(source['path'])}"
        for edge, count in bars:
            yield f"  to {edge:6,} {count:8,} {'#' * round(_BAR * count / most)}"


def _scripts(scripts: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    if scripts:
        yield f"{'script':12} {'characters':>10} {'bytes a token':>14} {'tokens a character':>19}"
    for name, fitness in scripts.items():
        per_token, per_character = fitness["bytes_per_token"], fitness["tokens_per_character"]
        yield f"{name:12} {fitness['characters']:10,} {per_token:14.2f} {per_character:19.2f}"


def _lines(sources: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for source in sources:
        lines, name = source["smallest_lines"], f"{source['role']} {_short(source['path'])}"
        if lines["pages"]:
            yield (
                f"smallest lines of text in {name}: {lines['median']} px high in the view (median), "
                f"{lines['p5']} px on the worst pages (5 %); {lines['pages']:,} pages looked at"
            )


def _base(base: Mapping[str, Any] | None) -> Iterator[str]:
    """The loss of the base by class of character; guessing among all tokens has that of chance."""
    if not base:
        return
    yield f"loss of the base before the run, {base['rows']} rows read (guessing: {base['chance']:.2f})"
    for name, numbers in base["classes"].items():
        worse = "  no better than guessing" if numbers["loss"] >= base["chance"] else ""
        yield f"  {name:28} {numbers['loss']:6.2f} {numbers['tokens']:8,} tokens{worse}"


def _needs(needs: Mapping[str, Any] | None, unmeasured: str) -> Iterator[str]:
    if needs is None:
        if unmeasured:
            yield f"memory, time and disk are not measured: {unmeasured}"
        return
    share = f"{needs['trained']:,} of {needs['parameters']:,} parameters train"
    yield f"model      {share}"
    yield f"memory     {size(needs['memory'])} at most, measured on the longest rows"
    yield (
        f"time       {duration(needs['seconds'])} for {needs['steps']:,} steps: "
        f"{needs['step_seconds']:.2f} s each, {needs['longest_step_seconds']:.2f} s of the longest rows; "
        "without validation and saves"
    )
    yield f"disk       {size(needs['disk_bytes'])} of checkpoints; {size(needs['free_bytes'])} are free"


def _faults(findings: Sequence[Mapping[str, Any]], has_file: bool) -> Iterator[str]:
    for kind in findings:
        fix = f"; {kind['fix']}" if kind["fix"] else ""
        if kind["count"] == 1:
            yield "{}: {location}: {cause}{}".format(kind["level"], fix, **kind["examples"][0])
            continue
        yield f"{kind['level']}: {kind['subject']}, {kind['count']:,} times{fix}"
        shown = kind["examples"][:SHOWN]
        for example in shown:
            yield f"    {example['location']}: {example['cause']}"
        if kind["count"] > len(shown):
            yield f"    ... and {kind['count'] - len(shown):,} more" + " (see all findings)" * has_file


def _ending(verdict: Mapping[str, Any]) -> str:
    counted = []
    for level in ("error", "warning"):
        counts = [kind["count"] for kind in verdict["findings"] if kind["level"] == level]
        kinds = f" of {len(counts)} kind{'s' * (len(counts) != 1)}" * (max(counts, default=0) > SHOWN)
        counted += [f"{sum(counts):,} {level}{'s' * (sum(counts) != 1)}{kinds}"] * bool(counts)
    names = {"report": "report", "quarantine": "quarantine", "all_findings": "all findings"}
    files = [f"{said}: {verdict[name]}" for name, said in names.items() if verdict.get(name)]
    return "\n".join([*files, ": ".join([verdict["verdict"], ", ".join(counted)] if counted else [READY])])


def _short(path: str, most: int = 24) -> str:
    return path if len(path) <= most else "..." + path[3 - most :]


def size(count: float) -> str:
    """Of so many bytes."""
    return f"{count / 2**30:.2f} GB"


def duration(seconds: float) -> str:
    """In hours and minutes, or minutes and seconds."""
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours} h {rest // 60:02} min" if hours else f"{rest // 60} min {rest % 60:02} s"
