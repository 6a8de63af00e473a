"""The page of a run as one HTML file without scripts; it asks for nothing from outside.

Knows which sections there are and their order.
"""

from __future__ import annotations

import os
from pathlib import Path

import got_train.evaluation.report
from got_train.config import Config
from got_train.evaluation.report.markup import escaped
from got_train.evaluation.report.pictures import Pictures

from . import gallery, inputs, results, use
from .folder import Run, read_run

FILE = "report.html"
_SECTIONS = (
    "verdict",
    "skills",
    "curves",
    "samples",
    "worst",
    "data",
    "dropped",
    "audit",
    "settings",
    "costs",
    "use",
)
_STYLE = """
.wide td.wrap { white-space: normal; overflow-wrap: anywhere; min-width: 12em; }
pre.text { margin: .4rem 0; } code { overflow-wrap: anywhere; }
.sample details { margin-top: 4px; } nav { display: flex; flex-wrap: wrap; gap: 0 .4em; }
"""


def write_report(folder: str | os.PathLike, config: Config | None = None) -> Path:
    """Write the page into a run's folder; the config is read there where none is given."""
    run = read_run(folder, config)
    path = Path(folder) / FILE
    unfinished = path.with_name(f".{FILE}.tmp")
    unfinished.write_text(report(run), encoding="utf-8", errors="backslashreplace")
    os.replace(unfinished, path)
    return path


def report(run: Run) -> str:
    pictures = Pictures((), run.reading if _inside(run) else None)
    parts = [
        inputs.verdict(run),
        results.skills(run),
        results.curves(run),
        gallery.over_time(run.measurements, pictures),
        gallery.worst(run.before, run.after, pictures),
        inputs.data(run),
        inputs.dropped(run),
        results.audit(run),
        inputs.settings(run),
        results.costs(run),
        use.use(run),
    ]
    body = "\n".join(filter(None, parts))
    links = "".join(f'<a href="#{name}">{name}</a>' for name in _SECTIONS if f"id={name}>" in body)
    title = f"Run {run.folder}"
    head = f"<header><h1>{escaped(title)}</h1><nav>{links}</nav>{results.head(run)}</header>"
    return _document(title, f"{head}<main>{body}</main>")


def _inside(run: Run) -> bool:
    """Whether pictures are in data files, which are opened for them only then: they may be large."""
    answers = [answer for row in run.measurements[-1:] for answer in row.get("answers", ())]
    return any(not Path(image).exists() for row in (*answers, *run.after) for image in row.get("images", ()))


def _document(title: str, body: str) -> str:
    style = Path(got_train.evaluation.report.__file__).with_name("report.css").read_text(encoding="utf-8")
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{escaped(title)}</title>
<style>{style}{_STYLE}</style></head>
<body>
{body}
</body></html>
"""
