"""Scores in **kern as pictures of all their pages, by verovio in a process of its own, for it may abort.

Knows how a score that was cut off is brought to an end; not what the music means.
"""

from __future__ import annotations

import json
import re
import sys
from importlib.util import find_spec

from got_train.errors import RenderingError
from got_train.formats import kern
from got_train.formats.subprocesses import run

SECONDS = 60.0  # for one score; a page takes a third of a second
MEMORY = 2 * 2**30
# the original's options, but all pages; the seed makes the same score the same bytes
OPTIONS = {
    "pageWidth": 2100,
    "footer": "none",
    "header": "none",
    "barLineWidth": 0.5,
    "beamMaxSlope": 15,
    "staffLineWidth": 0.2,
    "spacingStaff": 6,
    "adjustPageHeight": True,
    "scale": 40,
    "xmlIdSeed": 1,
}
_VEROVIO = """
import json, sys, verovio
verovio.enableLog(verovio.LOG_OFF)
asked = json.loads(sys.stdin.buffer.read())
toolkit = verovio.toolkit()
toolkit.setOptions(asked["options"])
if not toolkit.loadData(asked["score"]) or not toolkit.getPageCount():
    sys.exit(3)
pages = [toolkit.renderToSVG(page + 1) for page in range(toolkit.getPageCount())]
sys.stdout.buffer.write(json.dumps(pages).encode())
"""


def unavailable() -> str | None:
    """Why scores cannot be drawn; None if they can."""
    return (
        None
        if find_spec("verovio")
        else 'verovio is not installed; use `pip install -e ".[engines]"` in the clone'
    )


def pages(score: str, seconds: float = SECONDS) -> tuple[list[bytes], str | None]:
    """An SVG a page, and what had to be mended before it could be drawn."""
    if reason := unavailable():
        raise RenderingError(reason)
    score = score[score.index("**kern") :] if "**kern" in score else score
    fault = kern.fault(score)
    if fault is None:
        return _drawn(score, seconds), None
    mended, note = completed(score)
    if len(score.rstrip("\n").split("\n")) - len(mended.split("\n")) > 1:  # the fault is not at its end
        try:
            return _drawn(score, seconds), f"drawn as verovio understands it, though it has a fault: {fault}"
        except RenderingError:
            pass
    return _drawn(mended, seconds), note


def completed(score: str) -> tuple[str, str]:
    """The score up to its last whole line, with all spines ended; and what was left out or added."""
    lines = score.rstrip("\n").split("\n")
    while len(lines) > 1:
        for ending in _endings(lines):
            if kern.fault("\n".join([*lines, *ending])) is None:
                return "\n".join([*lines, *ending]), _told(score, lines, ending)
        lines.pop()
    raise RenderingError(f"this is no whole score: {kern.fault(score)}")


def _endings(lines: list[str]) -> list[list[str]]:
    spines = lines[-1].count("\t") + 1
    changed = {spines, spines + 1, spines - 1} if lines[-1].startswith("*") else {spines}
    return [[], *(["\t".join(["*-"] * count)] for count in sorted(changed) if count > 0)]


def _told(score: str, lines: list[str], ending: list[str]) -> str:
    lost = score.rstrip("\n").split("\n")[len(lines) :]
    parts = [f"{len(lost)} lines are not drawn from line {len(lines) + 1} on, {lost[0]!r}"] if lost else []
    parts += ["the end of the spines (*-) was added"] if ending else []
    return f"the score is not whole ({kern.fault(score)}): " + "; ".join(parts)


def _drawn(score: str, seconds: float) -> list[bytes]:
    question = json.dumps({"score": score, "options": OPTIONS}).encode()
    command = [sys.executable, "-c", _VEROVIO]
    ended = run(command, seconds=seconds, memory=MEMORY, given=question)
    if ended.code is None:
        raise RenderingError(f"verovio takes longer than {seconds:g} seconds")
    if ended.code:
        raise RenderingError(f"verovio cannot read this score (it ended with {ended.code})")
    return [_smaller(page).encode() for page in json.loads(ended.out)]


def _smaller(svg: str) -> str:
    """Without names that nothing refers to and without the spaces between elements: half the size."""
    meant = set(re.findall(r"#([\w-]+)", svg))
    svg = re.sub(r' id="([\w-]+)"', lambda match: match[0] if match[1] in meant else "", svg)
    return re.sub(r">\s+<", "><", svg)
