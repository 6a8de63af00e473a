"""The page of a run as one HTML file without scripts; it asks for nothing from outside.

Knows which sections there are and their order.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from got_train.config.schema import Config
from got_train.evaluation.compare import deltas_beside, read_samples
from got_train.evaluation.other_system import system_name
from got_train.evaluation.provenance import write_text
from got_train.evaluation.report.pictures import Pictures
from got_train.html.page import document, escaped
from got_train.training.run_files import AFTER, SKILLS

from . import gallery, inputs, results, use
from .folder import Run, read_run

FILE = "report.html"
_SECTIONS = (
    "verdict",
    "skills",
    "beside",
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


def write_report(folder: str | os.PathLike, config: Config | None = None, other_system: str = "") -> Path:
    """Write the page into a run's folder; the config is read there where none is given.

    other_system: a file or folder of its answers to the rows that the run read at its end.
    """
    run = read_run(folder, config)
    if other_system:
        run = replace(run, beside=_compared(Path(folder), other_system))
    path = Path(folder) / FILE
    write_text(path, report(run))
    return path


def _compared(folder: Path, other_system: str) -> dict[str, Any]:
    scored = read_samples(folder / SKILLS / AFTER, "word")
    deltas = deltas_beside(other_system, scored)
    return {
        "with": other_system,
        "name": system_name(other_system),
        "skills": [delta.row() for delta in deltas],
    }


def report(run: Run) -> str:
    pictures = Pictures((), run.reading if _inside(run) else None)
    parts = [
        inputs.verdict(run),
        results.skills(run),
        results.beside_table(run),
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
    return document(title, f"{head}<main>{body}</main>", _STYLE)


def _inside(run: Run) -> bool:
    """Whether pictures are in data files, which are opened for them only then: they may be large."""
    answers = [answer for row in run.measurements[-1:] for answer in row.get("answers", ())]
    return any(not Path(image).exists() for row in (*answers, *run.after) for image in row.get("images", ()))
