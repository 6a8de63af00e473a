"""Humdrum **kern of one or two staves: composed at random, or cut from the user's files into short systems.

Knows notes and bars as text; how they look is the engraver's matter.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from data_tools import produce
from got_train.errors import DrawingError

from . import corpora

if TYPE_CHECKING:
    import numpy

LETTERS = "cdefgab"
SHARPS, FLATS = "fcgdaeb", "beadgcf"
# lowest and highest note of a staff, as steps above C0 (7 an octave), about two ledger lines beyond it
RANGES = {"*clefG2": (26, 41), "*clefF4": (14, 29), "*clefC3": (20, 35), "*clefC4": (18, 33)}
# clefs of two staves, the lower first as kern has it; hands may share one, but no G clef lies under an F clef
PIANO = (("*clefF4", "*clefG2"), ("*clefG2", "*clefG2"), ("*clefF4", "*clefF4"))
# meter -> how many beats, whether each is a dotted quarter, the duration that fills the bar ("" if none does)
METERS = {
    "2/4": (2, False, "2"), "3/4": (3, False, "2."), "4/4": (4, False, "1"), "2/2": (4, False, "1"),
    "6/8": (2, True, "2."), "9/8": (3, True, ""), "12/8": (4, True, "1."), "3/8": (1, True, "4."),
}  # fmt: skip
# rhythms of one beat with how often they come; r is a rest
SIMPLE = (
    ("4", 6), ("8 8", 6), ("8. 16", 2), ("16 8.", 0.5), ("8 16 16", 1.5), ("16 16 8", 1.5),
    ("16 16 16 16", 2), ("12 12 12", 1), ("8r 8", 0.7), ("8 8r", 0.7), ("4r", 1), ("16r 16 16 16", 0.3),
)  # fmt: skip
PAIRS = (("2", 4), ("4. 8", 2), ("8 4 8", 1), ("2r", 0.4), ("4.. 16", 0.2))  # of two beats
COMPOUND = (
    ("4.", 5), ("8 8 8", 6), ("4 8", 4), ("8 4", 1), ("16 16 16 16 16 16", 1), ("8. 16 8", 1),
    ("8 8 16 16", 1), ("4r 8", 0.7), ("8 8r 8", 0.5), ("4.r", 0.6),
)  # fmt: skip
DEGREES = (0, 3, 4, 5, 1, 4, 0)  # of the scale, on which the chords of bars stand
# what a system begins with, in the order of STATE_ORDER; no *met(c): with it verovio shows no meter
STATE = re.compile(r"\*(?:clef|k\[|M\d)")
STATE_ORDER = ("*clef", "*k[", "*M")


class Event(NamedTuple):
    """A note, chord (several steps) or rest (none) of a staff; accidentals as in kern."""

    start: Fraction  # of a whole note, in the bar
    duration: str
    steps: tuple[int, ...]
    accidentals: tuple[str, ...]
    beam: str = ""
    tie: str = ""  # [ begins, ] ends

    def token(self) -> str:
        if not self.steps:
            return self.duration + "r"
        opening, closing = ("[", "") if self.tie == "[" else ("", self.tie)
        notes = [
            f"{opening}{self.duration}{pitch(step)}{accidental}{closing}"
            for step, accidental in zip(self.steps, self.accidentals, strict=True)
        ]
        notes[0] += self.beam
        return " ".join(notes)


def pitch(step: int) -> str:
    """A step above C0 as kern writes it: CC, C, c, cc, ccc from the second octave on."""
    octave, letter = step // 7, LETTERS[step % 7]
    return letter * (octave - 3) if octave >= 4 else letter.upper() * (4 - octave)


def length(duration: str) -> Fraction:
    """Of a whole note: 4 is a quarter, 8. a dotted eighth, 12 an eighth of a triplet."""
    plain = Fraction(1, int(duration.rstrip(".")))
    dots = duration.count(".")
    return plain * (2 - Fraction(1, 2**dots))


def beams(durations: list[str]) -> list[str]:
    """The marks of notes under one beam: L and J for every beam that begins and ends, K and k for stubs."""
    levels = [max(0, int(duration.rstrip(".")).bit_length() - 3) for duration in durations]
    marks = []
    for index, level in enumerate(levels):
        before = levels[index - 1] if index else 0
        after = levels[index + 1] if index + 1 < len(levels) else 0
        mark = ""
        for beam in range(1, level + 1):
            if before < beam <= after:
                mark += "L"
            elif after < beam <= before:
                mark += "J"
            elif before < beam > after:
                mark += "k" if index else "K"
        marks.append("".join(sorted(mark, key="LJKk".index)))
    return marks


# Composing.


@dataclass
class _Staff:
    """One staff while it is composed: where the melody is and which accidentals hold in the bar."""

    clef: str
    key: dict[str, str]  # letter -> # or -
    busy: float  # 0 long notes, 1 short ones
    step: int
    held: dict[int, str] = field(default_factory=dict)
    tied: tuple[tuple[int, ...], tuple[str, ...]] | None = None  # chord and signs that the next note repeats


def compose(bars: int, staves: int, rng: numpy.random.Generator) -> str:
    """A system of so many bars on one staff or, left hand first, on two."""
    fifths = int(rng.integers(-5, 6))
    signs = SHARPS[:fifths] if fifths > 0 else FLATS[: max(0, -fifths)]
    key = dict.fromkeys(signs, "#" if fifths > 0 else "-")
    meter = list(METERS)[int(rng.choice(len(METERS), p=[0.2, 0.2, 0.28, 0.04, 0.16, 0.04, 0.04, 0.04]))]
    if staves == 2:
        clefs = list(PIANO[int(rng.choice(len(PIANO), p=[0.83, 0.11, 0.06]))])
    else:
        clefs = [list(RANGES)[int(rng.choice(4, p=[0.6, 0.25, 0.1, 0.05]))]]
    parts = [_Staff(clef, key, rng.random(), sum(RANGES[clef]) // 2) for clef in clefs]
    mark = "#" if fifths > 0 else "-"
    header = [clefs, [f"*k[{''.join(sign + mark for sign in signs)}]"] * staves, [f"*M{meter}"] * staves]
    rows = [["**kern"] * staves, *header]
    tonic = (4 * fifths) % 7  # a fifth up is four letters on
    voices: list[list[list[Event]]] = [[] for _ in parts]
    for _ in range(bars):
        root = tonic + DEGREES[int(rng.integers(len(DEGREES)))]
        for index, part in enumerate(parts):
            voices[index].append(_bar(part, meter, root, index < staves - 1, rng))
    voices = [_without_broken_ties(part_events) for part_events in voices]
    for number, bar in enumerate(zip(*voices, strict=True), 1):
        rows += [[f"={number}"] * staves, *_aligned(list(bar))]
    ending = ("==", "=||", f"={bars + 1}")[int(rng.choice(3, p=[0.5, 0.1, 0.4]))]
    rows += [[ending] * staves, ["*-"] * staves]
    return "\n".join("\t".join(row) for row in rows)


def _aligned(parts: list[list[Event]]) -> list[list[str]]:
    """One row for every time at which something begins; a dot where a staff goes on."""
    tokens = [{event.start: event.token() for event in part} for part in parts]
    times = sorted(set().union(*tokens))
    return [[part.get(time, ".") for part in tokens] for time in times]


def _bar(staff: _Staff, meter: str, root: int, accompanies: bool, rng: numpy.random.Generator) -> list[Event]:
    """One bar of a staff; accompaniment keeps to the chord, a melody moves about it."""
    staff.held = {}
    groups = _rhythm(meter, staff.busy, rng)
    events: list[Event] = []
    time = Fraction(0)
    style = int(rng.integers(3))
    for group in groups:
        marks = _beamed(group)
        for index, duration in enumerate(group):
            event = _event(staff, duration, time, marks[index], root, accompanies, style, rng)
            events.append(event)
            time += length(duration.rstrip("r"))
    return events


def _without_broken_ties(events: list[list[Event]]) -> list[list[Event]]:
    """The bars of a staff; a tie that no note follows is none."""
    following = [event for bar in events for event in bar][1:]
    sounds = iter([bool(event.steps) for event in following] + [False])
    return [
        [event._replace(tie="") if not next(sounds) and event.tie == "[" else event for event in bar]
        for bar in events
    ]


def _rhythm(meter: str, busy: float, rng: numpy.random.Generator) -> list[list[str]]:
    """The durations of a bar, by beat."""
    beats, compound, whole = METERS[meter]
    random = rng.random()
    if whole and random < 0.1:
        return [[whole + "r" * (random < 0.04)]]
    groups: list[list[str]] = []
    left = beats
    while left:
        if not compound and left >= 2 and (beats - left) % 2 == 0 and rng.random() < 0.3 - 0.2 * busy:
            groups.append(_drawn(PAIRS, 0.5, rng))
            left -= 2
        else:
            groups.append(_drawn(COMPOUND if compound else SIMPLE, busy, rng))
            left -= 1
    return groups


def _drawn(rhythms: tuple[tuple[str, float], ...], busy: float, rng: numpy.random.Generator) -> list[str]:
    """A rhythm by its weight; busy staves prefer those of many notes."""
    weights = [weight * (0.4 + busy) ** (rhythm.count(" ") / 2) for rhythm, weight in rhythms]
    index = int(rng.choice(len(rhythms), p=[weight / sum(weights) for weight in weights]))
    return rhythms[index][0].split(" ")


def _beamed(group: list[str]) -> list[str]:
    """Beam marks of a beat: over neighbours shorter than a quarter, parted by rests and longer notes."""
    marks = [""] * len(group)
    run: list[int] = []
    for index, duration in enumerate([*group, "4"]):
        short = (
            not duration.endswith("r") and length(duration) < Fraction(1, 4) and duration not in ("4", "4.")
        )
        if short:
            run.append(index)
            continue
        if len(run) > 1:
            for event, mark in zip(run, beams([group[i] for i in run]), strict=True):
                marks[event] = mark
        run = []
    return marks


def _event(
    staff: _Staff, duration: str, time: Fraction, beam: str, root: int, accompanies: bool, style: int,
    rng: numpy.random.Generator,
) -> Event:  # fmt: skip
    if duration.endswith("r"):
        staff.tied = None
        return Event(time, duration[:-1], (), ())
    if staff.tied:
        steps, signs = staff.tied
        staff.tied = None
        return Event(time, duration, steps, signs, beam, "]")
    steps = _steps(staff, time, root, accompanies, style, duration, rng)
    signs = tuple(_sign(staff, step, rng) for step in steps)
    # only signs of the key, so that nobody has to say whether one holds beyond the barline
    plain = all(sign == staff.key.get(LETTERS[step % 7], "") for step, sign in zip(steps, signs, strict=True))
    if plain and rng.random() < 0.05:
        staff.tied = (steps, signs)
    return Event(time, duration, steps, signs, beam, "[" if staff.tied else "")


def _steps(
    staff: _Staff, time: Fraction, root: int, accompanies: bool, style: int, duration: str,
    rng: numpy.random.Generator,
) -> tuple[int, ...]:  # fmt: skip
    """One note, or a chord of thirds, fifths and octaves, near where the staff was."""
    low, high = RANGES[staff.clef]
    strong = time == 0 or length(duration) >= Fraction(1, 4)
    leap = int(rng.choice([-2, -1, -1, 1, 1, 2])) if not accompanies else int(rng.choice([-3, -2, 2, 3]))
    step = staff.step + leap
    if strong or (accompanies and style):
        step = min(
            range(step - 3, step + 4),
            key=lambda candidate: ((candidate - root) % 7 not in (0, 2, 4), abs(candidate - step)),
        )
    if step < low or step > high:
        step = staff.step - leap
    step = min(max(step, low), high)
    staff.step = step
    chance = (
        0.45
        if accompanies and style == 2 and length(duration) >= Fraction(1, 8)
        else 0.15
        if strong
        else 0.03
    )
    if rng.random() >= chance:
        return (step,)
    below = ((2,), (4,), (7,), (2, 4), (3, 5), (2, 5))[int(rng.integers(6))]
    return tuple(sorted({step, *(step - interval for interval in below if step - interval >= low)}))


def _sign(staff: _Staff, step: int, rng: numpy.random.Generator) -> str:
    """The accidental of a note; n where the key or the bar so far make a natural sign necessary."""
    usual = staff.key.get(LETTERS[step % 7], "")
    now = staff.held.get(step, usual)
    sign = now
    if rng.random() < 0.05:
        choices = {"": ("#", "-"), "#": ("",), "-": ("",)}[usual]
        sign = choices[int(rng.integers(len(choices)))]
    elif rng.random() < 0.5:
        sign = usual
    staff.held[step] = sign
    return "n" if sign == "" and now != "" else sign


# Counting and cutting.


def counts(kern: str) -> dict[str, int]:
    """How many notes, rests, ties and bars a text has, as an engraver must draw them."""
    result = {"note": 0, "rest": 0, "tie": 0, "measure": 0}
    for line in kern.split("\n"):
        if line.startswith(("*", "!")):
            continue
        if line.startswith("="):
            result["measure"] += 1
            continue
        for token in line.split("\t"):
            for note in token.split(" ") if token != "." else ():
                rest = "r" in note
                result["rest"] += rest and "yy" not in note
                result["note"] += not rest
                result["tie"] += not rest and ("[" in note or "_" in note)
    result["measure"] -= 1  # one barline more than bars
    return result


@dataclass(frozen=True)
class Score:
    """The **kern spines of a file: its bars as rows of tokens, and the state in which each begins."""

    name: str
    bars: tuple[tuple[tuple[str, ...], ...], ...]
    states: tuple[tuple[tuple[str, ...], ...] | None, ...]  # by staff; None where a spine is split

    @property
    def staves(self) -> int:
        return next((len(state) for state in self.states if state), 0)

    def system(self, first: int, bars: int) -> str:
        """Bars as a system of their own: exclusive interpretation, state, rows, a barline, the end."""
        state = self.states[first]
        if state is None:
            raise produce.Rejected("a system that begins in a split spine")
        rows: list[tuple[str, ...]] = [("**kern",) * len(state)]
        for kind in STATE_ORDER:
            own = tuple(next((token for token in staff if _kind(token) == kind), "*") for staff in state)
            rows += [own] if set(own) != {"*"} else []
        width = len(state)
        chosen = [_without_state(self.bars[first]), *self.bars[first + 1 : first + bars]]
        for number, bar in enumerate(chosen, 1):
            rows.append((f"={number}",) * width)
            for row in bar:
                rows.append(row)
                width = _next_width(row)
        if width != len(state):
            raise produce.Rejected("a system that ends in a split spine")
        rows += [(f"={len(chosen) + 1}",) * width, ("*-",) * width]
        kern = "\n".join("\t".join(row) for row in rows)
        _check_closed(kern)
        return kern


def _without_state(bar: tuple[tuple[str, ...], ...]) -> list[tuple[str, ...]]:
    """The rows of a bar without the clefs, keys and meters before its first note, which the header says."""
    first = next(index for index, row in enumerate(bar) if not row[0].startswith("*"))
    leading = [tuple(token if token in ("*^", "*v") else "*" for token in row) for row in bar[:first]]
    return [row for row in leading if set(row) != {"*"}] + list(bar[first:])


def _next_width(row: tuple[str, ...]) -> int:
    """How many spines follow a row: *^ makes two of one, neighbours with *v become one."""
    width, merging = 0, False
    for token in row:
        if token == "*v":
            width += not merging
        else:
            width += 2 if token == "*^" else 1
        merging = token == "*v"
    return width


def _check_closed(kern: str) -> None:
    """Rejects a system into which or out of which a tie, slur or beam reaches."""
    notes = "".join(line for line in kern.split("\n") if not line.startswith(("*", "!", "=")))
    for opening, closing in ("[]", "()", "LJ"):
        open_now = list(itertools.accumulate((char == opening) - (char == closing) for char in notes))
        if open_now and (min(open_now) < 0 or open_now[-1]):
            raise produce.Rejected("a tie, slur or beam across the end of the system")


def read_scores(
    paths: list[Path], staves: tuple[int, ...] = (1, 2), split: corpora.Split = "train"
) -> tuple[Score, ...]:
    """The scores of .krn files and folders that fall on this side by name and have so many staves."""
    files = [file for path in paths for file in (sorted(path.rglob("*.krn")) if path.is_dir() else [path])]
    scores = [read_score(file) for file in files if corpora.split_of(file.name) == split]
    kept = tuple(score for score in scores if score.staves in staves and score.bars)
    if not kept:
        given, sides = ", ".join(map(str, paths)), " or ".join(map(str, staves))
        cause = f"{len(files)} files, {len(scores)} on the {split} side, none of them with {sides} staves"
        raise DrawingError(f"--kern {given}: {cause}; more files, or another --split")
    return kept


def read_score(path: Path) -> Score:
    """The **kern spines of a file: notes, barlines, clefs, keys, meters and splits, nothing else."""
    try:
        # older files are not UTF-8, but only in lyrics and comments, which are left out
        lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").decode("latin-1").splitlines()
    except OSError as error:
        raise DrawingError(f"--kern {path}: {error.strerror}; expected a readable file") from None
    reader = _Reader(path)
    for number, line in enumerate(lines, 1):
        if line and not line.startswith("!"):
            reader.row(line.split("\t"), number)
    rows = [(tuple(bar), state) for bar, state in zip(reader.bars, reader.states, strict=True) if _notes(bar)]
    return Score(path.name, tuple(bar for bar, _ in rows), tuple(state for _, state in rows))


def _notes(bar: list[tuple[str, ...]] | tuple[tuple[str, ...], ...]) -> bool:
    return any(not row[0].startswith("*") for row in bar)


def _kind(token: str) -> str:
    return next(kind for kind in STATE_ORDER if token.startswith(kind))


class _Reader:
    """Follows the spines of a file row by row."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.kinds: list[str] = []
        self.state: list[dict[str, str]] = []
        self.base = 0
        self.bars: list[list[tuple[str, ...]]] = []
        self.states: list[tuple[tuple[str, ...], ...] | None] = []

    def row(self, tokens: list[str], number: int) -> None:
        if tokens[0].startswith("**"):
            self.kinds = tokens
            self.state = [{} for _ in tokens]
            self.base = tokens.count("**kern")
            return
        if len(tokens) != len(self.kinds):
            counted = f"{len(tokens)} tokens, {len(self.kinds)} spines"
            raise DrawingError(f"--kern {self.path}:{number}: {counted}; expected one token a spine")
        if tokens[0].startswith("="):
            self._barline()
        elif any(token.startswith("*") for token in tokens):
            self._interpretation(tokens)
        else:
            self._keep(self._own(tokens))

    def _own(self, tokens: list[str]) -> tuple[str, ...]:
        return tuple(token for token, kind in zip(tokens, self.kinds, strict=True) if kind == "**kern")

    def _keep(self, row: tuple[str, ...]) -> None:
        if not all(map(str.isascii, row)):
            raise DrawingError(
                f"--kern {self.path}: {row!r} is not ASCII; expected notes as **kern writes them"
            )
        if set(row) - {".", "*"} and not self.bars:
            self._begin()
        if set(row) - {".", "*"}:
            self.bars[-1].append(row)

    def _barline(self) -> None:
        if self.bars and not _notes(self.bars[-1]):
            self.bars.pop()  # a barline at the start, or two together
            self.states.pop()
        self._begin()

    def _begin(self) -> None:
        self.bars.append([])
        self.states.append(self._state())

    def _state(self) -> tuple[tuple[str, ...], ...] | None:
        own = [state for state, kind in zip(self.state, self.kinds, strict=True) if kind == "**kern"]
        return tuple(tuple(state.values()) for state in own) if len(own) == self.base else None

    def _interpretation(self, tokens: list[str]) -> None:
        kept = []
        for token, kind, state in zip(tokens, self.kinds, self.state, strict=True):
            if STATE.match(token):
                state[_kind(token)] = token
            if kind == "**kern":
                kept.append(token if STATE.match(token) or token in ("*^", "*v") else "*")
        if self.bars:
            self._keep(tuple(kept))
            if not _notes(self.bars[-1]) and self._state():
                self.states[-1] = self._state()
        self._follow(tokens)

    def _follow(self, tokens: list[str]) -> None:
        kinds: list[str] = []
        states: list[dict[str, str]] = []
        merging = False
        for token, kind, state in zip(tokens, self.kinds, self.state, strict=True):
            if token == "*-":
                continue
            copies = 2 if token == "*^" else 0 if token == "*v" and merging else 1
            kinds += [kind] * copies
            states += [dict(state) for _ in range(copies)]
            merging = token == "*v"
        self.kinds, self.state = kinds, states
