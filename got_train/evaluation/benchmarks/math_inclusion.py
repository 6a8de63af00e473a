r"""Whether a formula is contained in another, as olmOCR-bench judges: by MathML, else by where symbols stand.

KaTeX makes MathML of both in quickjs. Where a browser is installed, KaTeX's layout is measured in it, and the
formula is contained if its symbols are found in the other with the same neighbours above, below, left and
right. Without a browser only the MathML half is there.
"""

from __future__ import annotations

import atexit
import functools
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from got_train.errors import AnswerError, RequirementError
from got_train.formats import latex

from . import chromium

_NEAR = 5  # pixels by which neighbours may stand beside the line
_STEPS = 200_000  # of the search for symbols; formulas of a page need a few hundred
_BLANK = re.compile("[\\s\u200a-\u200d\u2060\ufeff]+")
_MATHML = """
function mathml(source) {
  return katex.renderToString(source, {displayMode: true, throwOnError: true, output: "mathml"});
}
"""
_PAGE = """
document.open();  // a page without this first line is laid out by other rules, which KaTeX refuses
document.write("<!DOCTYPE html><html><head></head><body><div id=equation></div></body></html>");
document.close();
const style = document.createElement("style");
style.textContent = %s + `
body { display: flex; justify-content: center; align-items: center; height: 100vh; margin: 0;
  background-color: white; color: black; }
#equation { padding: 0; font-size: 24px; }`;
document.head.append(style);
"""
_MEASURE = r"""
(() => {
  const place = document.getElementById("equation");
  try { katex.render(%s, place, {displayMode: true, throwOnError: true}); } catch (error) { return null; }
  return [...document.querySelectorAll("span")]
    .filter(span => span.children.length === 0 && /\S/.test(span.textContent))
    .map(span => {
      const box = span.getBoundingClientRect();
      return [span.textContent.trim(), box.x, box.y, box.width, box.height];
    });
})()
"""


@dataclass(frozen=True)
class Symbol:
    """A character and the middle of its box, in pixels."""

    text: str
    x: float
    y: float


def method() -> str:
    """How formulas are compared on this machine."""
    if latex.unavailable() is not None:
        return "characters"
    return "MathML, then neighbours in the layout" if chromium.program() else "MathML"


def check_available() -> None:
    """Refuse to score formulas without KaTeX."""
    reason = latex.unavailable()
    if reason is not None:
        raise RequirementError(f"olmOCR-bench's formulas need KaTeX: {reason}")


def contains(reference: str, formulas: Iterable[str]) -> bool:
    """Whether one of the formulas of an answer contains the reference.

    As published, a reference that KaTeX refuses is in every formula.
    """
    formulas = list(formulas)
    if reference in formulas:
        return True
    check_available()
    expected = _inner(reference)
    for formula in formulas:
        inner = _inner(formula)
        if expected is None or (inner is not None and expected in inner):
            return True
        if inner is not None and chromium.program() and _stands_in(reference, formula):
            return True
    return False


@functools.lru_cache(maxsize=1 << 14)
def _inner(formula: str) -> str | None:
    """What MathML says, without the annotation and spaces; None if KaTeX refuses the formula."""
    try:
        markup = latex.function(_MATHML, "mathml")(formula)
    except AnswerError:
        return None
    inner = re.search(r"<semantics>(.*?)<annotation\b", markup, re.DOTALL)
    return _BLANK.sub("", (inner[1] if inner else markup).replace("&nbsp;", ""))


def _stands_in(reference: str, formula: str) -> bool:
    expected, symbols = _symbols(reference), _symbols(formula)
    return expected is not None and symbols is not None and is_found(expected, symbols)


@functools.lru_cache(maxsize=1 << 14)
def _symbols(formula: str) -> tuple[Symbol, ...] | None:
    """The characters that KaTeX draws with their places; None if it refuses the formula."""
    spans = _browser().run(_MEASURE % json.dumps(formula))
    return None if spans is None else tuple(symbols_of(spans))


def symbols_of(spans: Sequence[Sequence[Any]]) -> list[Symbol]:
    """Spans of [text, x, y, width, height] as single characters, each with its part of the width."""
    symbols = []
    for text, x, y, width, height in spans:
        text = _BLANK.sub("", text)
        for index, character in enumerate(text):
            symbols.append(Symbol(character, x + width * (index + 0.5) / len(text), y + height / 2))
    return symbols


@functools.cache
def _browser() -> chromium.Chromium:
    """The browser with KaTeX in it; its fonts are not loaded, as in the official test."""
    script = next(folder for folder in latex.PLACES if folder.is_file())
    style = Path(script).with_name("katex.min.css")
    if not style.is_file():
        raise RequirementError(f"{style} is not there; `make data-tools` installs it")
    page = chromium.Chromium()
    atexit.register(page.close)
    page.run("(() => {" + _PAGE % json.dumps(style.read_text("utf-8")) + "})()")
    page.run(script.read_text("utf-8") + "; 0")
    return page


def is_found(expected: Sequence[Symbol], symbols: Sequence[Symbol]) -> bool:
    """Whether symbols are found among others with the same neighbours; not if that takes too long."""
    indices: dict[str, list[int]] = {}
    for index, symbol in enumerate(symbols):
        indices.setdefault(symbol.text, []).append(index)
    if any(symbol.text not in indices for symbol in expected):
        return False
    return _Search(expected, symbols, indices).succeeds()


class _Search:
    """Symbol by symbol, going back where a neighbour does not fit."""

    def __init__(
        self, expected: Sequence[Symbol], held: Sequence[Symbol], places: dict[str, list[int]]
    ) -> None:
        self.expected, self.held, self.places = expected, held, places
        self.wanted_beside, self.held_beside = neighbors(expected), neighbors(held)
        self.chosen: dict[int, int] = {}
        self.steps = 0

    def succeeds(self) -> bool:
        """Depth first, with a stack of its own: formulas may have more symbols than Python has depth."""
        if not self.expected:
            return True
        options = [iter(self.places[self.expected[0].text])]
        while options:
            index = len(options) - 1
            self.chosen.pop(index, None)
            for candidate in options[-1]:
                self.steps += 1
                if self.steps > _STEPS:
                    return False
                if candidate not in self.chosen.values() and self._fits(index, candidate):
                    self.chosen[index] = candidate
                    break
            else:
                options.pop()
                continue
            if index + 1 == len(self.expected):
                return True
            options.append(iter(self.places[self.expected[index + 1].text]))
        return False

    def _fits(self, index: int, candidate: int) -> bool:
        self.chosen[index] = candidate
        try:
            for mine, theirs in zip(self.wanted_beside[index], self.held_beside[candidate], strict=True):
                if mine is None:
                    continue
                if theirs is None:
                    return False
                if mine in self.chosen:
                    if self.chosen[mine] != theirs:
                        return False
                elif self.held[theirs].text != self.expected[mine].text:
                    return False
            return True
        finally:
            del self.chosen[index]


Beside = tuple[int | None, int | None, int | None, int | None]


def neighbors(symbols: Sequence[Symbol]) -> list[Beside]:
    """The nearest symbol above, below, left and right of each, within 5 pixels of its column or line."""
    return [_beside(index, symbols) for index in range(len(symbols))]


def _beside(index: int, symbols: Sequence[Symbol]) -> Beside:
    here = symbols[index]
    nearest: list[tuple[float, int] | None] = [None, None, None, None]
    for symbol_index, symbol in enumerate(symbols):
        if symbol_index == index:
            continue
        right, down = symbol.x - here.x, symbol.y - here.y
        ways = []
        if abs(right) <= _NEAR and down:
            ways.append((0 if down < 0 else 1, abs(down)))
        if abs(down) <= _NEAR and right:
            ways.append((2 if right < 0 else 3, abs(right)))
        for way, distance in ways:
            best = nearest[way]
            if best is None or distance < best[0]:
                nearest[way] = (distance, symbol_index)
    up, below, left, after = (None if nearby is None else nearby[1] for nearby in nearest)
    return up, below, left, after
