"""**kern as answers: is it well-formed, which notes does it hold."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence

from .subprocesses import run

VEROVIO_SECONDS = 20.0
_VEROVIO = "import sys, verovio; sys.exit(0 if verovio.toolkit().loadData(sys.stdin.read()) else 3)"
# a note or rest: marks, a duration or the sign of a grace note, marks, a pitch, its signs and marks
_NOTE = re.compile(
    r"(?=\S*[\dq])[^\sA-Za-z0-9]*q*(?:\d+(?:%\d+)?\.*)?q*[^\sA-Za-z0-9]*"
    r"(?P<pitch>(?P<letter>[A-Ga-g])(?P=letter)*(?=[^\sA-Ga-g]*$)|r+)\S*"
)
_BAR = re.compile(r"==?\S*")


def fault(text: str) -> str | None:
    """What keeps a text from being a whole score in **kern, with its line; None if nothing does."""
    spines, strict = None, True
    for number, line in enumerate(text.rstrip("\n").split("\n"), 1):
        tokens = line.rstrip("\r").split("\t")
        if line.startswith("!!"):
            continue
        if spines is None:
            reason, strict = _opening_fault(tokens), {*tokens} == {"**kern"}
        else:
            reason = _line_fault(tokens, spines, strict)
        if reason:
            return f"line {number}: {reason}"
        spines = sum(_spines_after(tokens))
    return "no **kern" if spines is None else "the spines have no end, *-" if spines else None


def parses(text: str) -> bool:
    """Whether every line has a token a spine, each is one of **kern, and all spines end."""
    return fault(text) is None


def notes(text: str) -> int:
    """The notes of a score as they are written; a chord is one."""
    lines = [line for line in text.split("\n") if line[:1] not in ("*", "!", "=")]
    first = [token.split(" ")[0] for line in lines for token in line.split("\t")]
    matches = [_NOTE.fullmatch(token) for token in first]
    return sum(match is not None and match["letter"] is not None for match in matches)


def loads(text: str, seconds: float = VEROVIO_SECONDS) -> bool | None:
    """Whether verovio takes the score, in a process of its own, for it may abort; None without verovio."""
    from importlib.util import find_spec

    if find_spec("verovio") is None:
        return None
    command = [sys.executable, "-c", _VEROVIO]
    return run(command, seconds=seconds, given=text.encode(), environment=dict(os.environ)).code == 0


def _symbols(text: str) -> list[str]:
    return text.replace("\n", " <b> ").replace("\t", " <t> ").split(" ")


CUTS = {"music_cer": str, "music_ser": _symbols, "music_ler": lambda text: text.split("\n")}


def _opening_fault(tokens: Sequence[str]) -> str | None:
    opens = all(token.startswith("**") for token in tokens) and "**kern" in tokens
    return None if opens else f"{tokens[0]!r}; **kern opens a score"


def _line_fault(tokens: Sequence[str], spines: int, strict: bool) -> str | None:
    """Beside **kern there may be spines of words or dynamics, whose tokens are free."""
    if not spines:
        return "something follows the end of all spines"
    if len(tokens) != spines:
        return f"{len(tokens)} tokens for {spines} spines"
    kinds = {token: _kind(token) for token in tokens} if strict else {}
    for token, kind in kinds.items():
        if kind is None:
            return f"{token!r} is not a token of **kern"
    names = sorted({*map(str, kinds.values())})
    return f"{' and '.join(names)} in one line" if len(names) > 1 else None


def _kind(token: str) -> str | None:
    if token.startswith("*"):
        return "interpretation"
    if token.startswith("!"):
        return "comment"
    if token.startswith("="):
        return "bar line" if _BAR.fullmatch(token) else None
    if token == "." or (token and all(_NOTE.fullmatch(note) for note in token.split(" "))):
        return "data"
    return None


def _spines_after(tokens: Sequence[str]) -> Iterator[int]:
    """What each spine becomes: two, its part of a joined one, itself or none."""
    joining = False
    for token in tokens:
        if token == "*v":
            yield 0 if joining else 1
            joining = True
            continue
        joining = False
        yield {"*^": 2, "*+": 2, "*-": 0}.get(token, 1)
