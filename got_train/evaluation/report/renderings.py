"""Answers and references as they would look, by the renderers of got_train.rendering, within time and size.

Everything that comes out is made of a few known tags, for answers may hold any HTML.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from html import escape

from got_train.errors import RenderingError
from got_train.formats.tikz import TIKZPICTURE
from got_train.rendering import charts, markup, molecules, music, tikz
from got_train.rendering.html import picture

_SMILES = re.compile(r"<smiles>(.*?)</smiles>", re.DOTALL)
_LONGEST = 20_000  # characters of a text that is drawn
_SECONDS = 10.0  # for one score or drawing
_MOLECULES = 6  # of one answer


@dataclass
class Budget:
    """What is left for scores and drawings of one report, which take long and are large."""

    seconds: float = 60.0
    size: int = 12_000_000  # characters
    _known: dict[tuple[str, str], str | None] = field(default_factory=dict)

    def drawn(self, text: str, kind: str) -> str | None:
        """As `drawn`; None once the budget is used up. The same text is drawn once."""
        if kind not in _SLOW:
            return drawn(text, kind)
        if (text, kind) not in self._known:
            if self.seconds <= 0 or self.size <= 0:
                return None
            begun = time.monotonic()
            drawing = drawn(text, kind)
            self.seconds -= time.monotonic() - begun
            self.size -= len(drawing or "")
            self._known[text, kind] = drawing
        return self._known[text, kind]


def drawn(text: str, kind: str) -> str | None:
    """The text as HTML, for the kinds that look different from their source; None for the others."""
    draw = _RENDERERS.get(kind)
    if draw is None or len(text) > _LONGEST or not text.strip():
        return None
    try:
        return draw(text)
    except RenderingError as error:
        return f"<p>not drawn: {escape(str(error))}</p>" if kind in (*_SLOW, "chart") else None


def _page(text: str) -> str | None:
    page = re.sub(r"<(/?)h[1-6]>", r"<\1b>", markup.formatted(text))
    return page if re.search("<(?:table|math|b>|svg|img)", page) else None


def _molecules(text: str) -> str | None:
    pictures = []
    for smiles in (_SMILES.findall(text) or [text])[:_MOLECULES]:
        try:
            pictures.append(molecules.svg(smiles).decode().partition("?>")[2].strip())
        except RenderingError as error:
            pictures.append(f"<code>{escape(smiles)}</code>: {escape(str(error))}")
    return "".join(pictures)


def _score(text: str) -> str:
    pages, note = music.pages(text, _SECONDS)
    page_count = f"<p>page 1 of {len(pages)}</p>" if len(pages) > 1 else ""
    mended = f"<p>{escape(note)}</p>" if note else ""
    return mended + picture(pages[0], "svg+xml", "score") + page_count


def _drawing(text: str) -> str:
    match = TIKZPICTURE.search(text)
    if match is None:
        raise RenderingError("this is no tikzpicture")
    figure = tikz.figure(match[0], _SECONDS)
    mended = "".join(f"<p>{escape(note)}</p>" for note in figure.notes)
    return mended + picture(figure.data, figure.kind, "drawing")


def _chart(text: str) -> str:
    chart = charts.read(text)
    try:
        return picture(charts.svg(chart), "svg+xml", "chart") + charts.table(chart)
    except RenderingError as error:
        return f"<p>not drawn: {escape(str(error))}</p>{charts.table(chart)}"


_SLOW = ("music", "geometry")
_RENDERERS = {
    **dict.fromkeys(("page", "table", "formula"), _page),
    "molecule": _molecules,
    "music": _score,
    "geometry": _drawing,
    "chart": _chart,
}
