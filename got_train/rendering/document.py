"""One self-contained HTML page for what was read: every page, system and drawing; nothing is fetched.

What an answer is, formats.answer_types says. What was repaired or cannot be drawn is said on the page; the
text as it was read ends every page.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from got_train.errors import RenderingError
from got_train.formats import PLAIN_TASKS
from got_train.formats.answer_types import PartType, answer_parts
from got_train.formats.tables import find_tables

from . import charts, markup, mathpix, music, repair, spots, tikz
from .html import escaped, picture, shown_as_source

LONGEST = 200_000  # characters of a page; an answer has a quarter of that at most
DEEPEST = 40  # environments inside one another
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = Path(__file__).with_name("page.css")


@dataclass(frozen=True)
class Reading:
    """What was read off one page: its name, the answer, the task, and the image if it shall be shown."""

    label: str
    text: str
    task: str = "format"
    image: Image.Image | None = None

    def parts(self) -> list[Part]:
        """What the answer is made of, in its order and repaired, whatever format it is written in."""
        if reason := too_much(self):
            return [Part("plain", self.text, (f"shown as it was read: {reason}",))]
        return [_repaired(kind, text) for kind, text in answer_parts(self.text, self.task)]


@dataclass(eq=False)  # two pages may hold the same text
class Part:
    """A part of an answer: its repaired text, and what was repaired or cannot be drawn, in words."""

    kind: PartType
    text: str
    notes: tuple[str, ...] = ()
    html: str | None = None  # "" is a part of which nothing is to be seen, such as an empty frame


@dataclass
class _Page:
    reading: Reading
    parts: list[Part] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def render(document: Sequence[Reading], title: str = "OCR result") -> str:
    """The whole document as one HTML file."""
    pages = [_page(reading) for reading in document]
    _set_markdown([part for page in pages for part in page.parts if part.kind == "markdown"], pages)
    for page in pages:
        for part in page.parts:
            if part.html is None:
                part.html = _drawn(part, page)
    body = "\n".join(_section(page, len(pages) > 1) for page in pages)
    return (
        f'<!DOCTYPE html>\n<html lang="und"><head><meta charset="utf-8"><title>{escaped(title)}</title>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'
        f"<style>\n{_STYLE.read_text(encoding='utf-8')}</style></head><body>\n{body}\n</body></html>\n"
    )


def too_much(reading: Reading) -> str | None:
    """Why a formatted text is shown as it was read: it is too long, or nested too deeply, to be cut."""
    text = reading.text
    if reading.task in (*PLAIN_TASKS, "spot") or "**kern" in text:
        return None
    if len(text) > LONGEST:
        return f"{len(text):,} characters; expected at most {LONGEST:,}"
    environments, braces = repair.depth(text)
    if environments > DEEPEST or braces > 2 * DEEPEST:
        return f"{environments} environments and {braces} braces stand inside one another"
    return None


def _page(reading: Reading) -> _Page:
    parts = reading.parts()
    return _Page(reading, parts, [note for part in parts for note in part.notes])


def _repaired(kind: PartType, text: str) -> Part:
    if kind == "markdown":
        whole = repair.page(text)
        return Part(kind, whole.text, whole.notes)
    if kind == "table" and not find_tables(text)[0].closed:
        return Part(kind, text, ("<table> has no end: </table> was added",))
    if kind == "chart":
        with contextlib.suppress(RenderingError):
            return Part(kind, text, tuple(charts.read(text).notes()))
    return Part(kind, text)


def _set_markdown(parts: list[Part], pages: list[_Page]) -> None:
    """All Markdown of a document at once, for node starts slowly; what it would change is set here."""
    try:
        answers = mathpix.pages([part.text for part in parts]) if parts else []
    except RenderingError as error:
        answers = [error] * len(parts)
    for part, answer in zip(parts, answers, strict=True):
        if isinstance(answer, str):
            part.html = answer
            continue
        part.html = markup.formatted(part.text)
        page = next(page for page in pages if part in page.parts)
        page.notes.append(f"set by the built-in renderer: {answer}")


def _drawn(part: Part, page: _Page) -> str:
    try:
        return _RENDERERS[part.kind](part.text, page)
    except RenderingError as error:
        return shown_as_source(part.text, f"shown as source: {error}")


def _score(text: str, page: _Page) -> str:
    drawn, note = music.pages(text)
    page.notes += [note] if note else []
    names = (f"score, page {number} of {len(drawn)}" for number in range(1, len(drawn) + 1))
    return "\n".join(picture(svg, "svg+xml", name) for svg, name in zip(drawn, names, strict=True))


def _spots(text: str, page: _Page) -> str:
    return spots.overlay(text, page.reading.image)


def _plain(text: str, page: _Page) -> str:
    return f"<pre>\n{escaped(text)}</pre>"


def _drawing(text: str, page: _Page) -> str:
    figure = tikz.figure(text)
    page.notes += figure.notes
    return f'<p class="figure">{picture(figure.data, figure.kind, "drawing")}</p>'


def _chart(text: str, page: _Page) -> str:
    chart = charts.read(text)
    titles = "".join(
        f"<dt>{escaped(name)}</dt><dd>{escaped(title)}</dd>" for name, title in chart.titles.items()
    )
    try:
        drawing = picture(charts.svg(chart), "svg+xml", chart.titles.get("title", "chart"))
    except RenderingError as error:
        drawing = f'<p class="why">not drawn: {escaped(str(error))}</p>'
    return f'<div class="chart">{drawing}<div><dl>{titles}</dl>{charts.table(chart)}</div></div>'


def _table(text: str, page: _Page) -> str:
    return markup.table(text)


_RENDERERS = {
    "score": _score,
    "spots": _spots,
    "plain": _plain,
    "drawing": _drawing,
    "chart": _chart,
    "table": _table,
}


def _section(page: _Page, labelled: bool) -> str:
    reading = page.reading
    label = f'<p class="label">{escaped(reading.label)}</p>' if labelled or reading.label else ""
    notes = "".join(f'<p class="note">{escaped(note)}</p>' for note in dict.fromkeys(page.notes))
    shown = ""
    if reading.image is not None and all(part.kind != "spots" for part in page.parts):
        shown = f'<details><summary>The image</summary><img class="page" alt="{escaped(reading.label)}" '
        shown += f'src="{spots.thumbnail(reading.image)}"></details>'
    body = "\n".join(part.html or "" for part in page.parts)
    return (
        f"<article>{label}{shown}{notes}\n{body}\n<details><summary>The text as it was read</summary>"
        f'<pre class="read">\n{escaped(reading.text)}</pre></details></article>'
    )
