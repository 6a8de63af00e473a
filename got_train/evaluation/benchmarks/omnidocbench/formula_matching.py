r"""Formulas of a page paired in several ways, of which the one with the fewest errors counts (from 1.6 on).

Candidates: the match of the whole page, a quick match of formulas alone, the best assignment, runs of
neighbours in order; each with the answer's formulas whole and cut into lines, and with `cases` as braces.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy

from . import normalize
from .markdown import FORMULA, INLINE, RESCUED, RESCUES, Block
from .matching import Match, MergeTimeError, Side, answer_side, assign, distances, quick_match, truth_side
from .multiline import braces_for_cases, split_blocks, split_elements
from .rules import Rule
from .truth import Element

_MOST_CANDIDATES = 128  # ways to cut the answer's formulas into lines
_MOST_LINES = 8  # of one formula, for trying all ways
_TINY = 1e-12


@dataclass(frozen=True)
class Candidate:
    """A way to pair the formulas of a page."""

    rows: list[Match]
    pred_items: Sequence[Block]  # in which the matches' pred_idx are looked up
    raw_count: int  # formulas of the answer before any was cut
    braced: int = 0  # formulas whose cases became braces


@dataclass(frozen=True)
class _Prepared:
    gt: Side
    pred: Side
    blocks: list[Block]  # of the answer, in order
    raw: list[Block]  # before they were cut
    rescued: int


def best_matches(
    elements: Sequence[Element],
    blocks: Sequence[Block],
    page_matches: Sequence[Match],
    rule: Rule,
) -> list[Match]:
    """A match for every formula of the truth, from the candidate with the fewest errors."""
    pool = _pool(blocks)
    prepared = _prepare(elements, pool, rule, split=False)
    count = len(prepared.gt.norm)
    if not count:
        return []
    rows = [_plain_category(match) for match in page_matches]
    candidates = [Candidate(rows, prepared.raw, len(prepared.raw))] if _is_complete(rows, count) else []
    candidates += _unsplit(elements, pool, prepared, rule)
    candidates += _partitioned(elements, pool, rule)
    candidates += _split_in_order(elements, pool, rule)
    braced = [replace(block, content=braces_for_cases(block.content)) for block in _named(pool)]
    changed = sum(new.content != old.content for new, old in zip(braced, pool, strict=True))
    if changed:
        prepared = _prepare(elements, braced, rule, split=False)
        more = _unsplit(elements, braced, prepared, rule)
        more += _partitioned(elements, braced, rule)
        more += _split_in_order(elements, braced, rule)
        candidates += [replace(candidate, braced=changed) for candidate in more]
    best, best_key = candidates[0], _key(candidates[0])
    for candidate in candidates[1:]:
        key = _key(candidate)
        if _is_less(key, best_key):
            best, best_key = candidate, key
    return best.rows


def _pool(blocks: Sequence[Block]) -> list[Block]:
    """All that may be a formula: those written as one, and text that looks like one."""
    formulas = [block for block in blocks if block.kind == FORMULA]
    rescued = [
        replace(block, kind=FORMULA, fine=block.fine or RESCUED) for block in blocks if block.kind == RESCUED
    ]
    return list(dict.fromkeys([*formulas, *rescued]))


def _named(blocks: Iterable[Block]) -> list[Block]:
    """Each block knows itself, so that lines cut from it are known to be its."""
    return [
        block
        if block.source
        else replace(block, source=(block.start, block.end, block.content, block.fine, block.kind))
        for block in blocks
    ]


def _category(block: Block) -> str:
    return FORMULA if block.category in RESCUES else block.category


def _plain_category(match: Match) -> Match:
    return replace(match, pred_category=FORMULA) if match.pred_category in RESCUES else match


def _ordered(blocks: Iterable[Block]) -> list[Block]:
    return sorted(_named(blocks), key=lambda block: (block.start, _category(block) == INLINE, block.end))


def _prepare(elements: Sequence[Element], blocks: Sequence[Block], rule: Rule, split: bool) -> _Prepared:
    raw = _ordered(blocks)
    ordered = split_blocks(raw, rule) if split else raw
    rescued = sum(_category(block) in RESCUES for block in blocks)
    return _Prepared(
        truth_side(split_elements(list(elements), rule), rule),
        answer_side(ordered, rule),
        ordered,
        raw,
        rescued,
    )


def _is_complete(rows: Sequence[Match] | None, count: int) -> bool:
    if not rows or len(rows) != count or any(len(row.gt_idx) != 1 for row in rows):
        return False
    if any(row.pred_category not in ("", INLINE, FORMULA) for row in rows):
        return False
    return len({row.gt_idx for row in rows}) == count


def _unsplit(
    elements: Sequence[Element], blocks: Sequence[Block], prepared: _Prepared, rule: Rule
) -> list[Candidate]:
    try:
        quick = [_plain_category(match) for match in quick_match(elements, _named(blocks), rule, False)]
    except MergeTimeError:
        quick = []
    ways = [quick, _assigned(prepared), _in_order(prepared, False), _in_order(prepared, True)]
    count = len(prepared.gt.norm)
    return [
        Candidate(rows, prepared.raw, len(prepared.raw))
        for rows in ways
        if rows and _is_complete(rows, count)
    ]


def _row(prepared: _Prepared, index: int, run: Sequence[int] = ()) -> Match:
    gt, pred = prepared.gt, prepared.pred
    element = gt.items[index]
    match = Match(
        (index,),
        tuple(run),
        gt.raw[index],
        "",
        gt.norm[index],
        "",
        gt.categories[index],
        gt_position=(element.order if element.order is not None else "",),
        attributes=(element.attribute,),
    )
    if not run:
        return match
    norm = " ".join(pred.norm[number] for number in run).strip()
    return replace(
        match,
        pred=_merged([pred.raw[number] for number in run]) if len(run) > 1 else pred.raw[run[0]],
        norm_pred=norm,
        pred_category=FORMULA if len(run) > 1 else _category(pred.items[run[0]]),
        pred_position=pred.items[run[0]].start,
        edit=_edit(gt.norm[index], norm),
    )


def _edit(gt: str, pred: str) -> float:
    return normalize.edit_distance(gt, pred) if gt and pred else float(bool(gt or pred))


def _merged(formulas: Sequence[str]) -> str:
    bare = [normalize.strip_delimiters(formula.strip()) for formula in formulas]
    bare = [formula for formula in bare if formula]
    if len(bare) < 2:
        return "".join(bare)
    lines = " \\\\ ".join(f"{{{formula}}}" for formula in bare)
    return f"\\begin{{array}}{{l}} {lines} \\end{{array}}"


def _assigned(prepared: _Prepared) -> list[Match]:
    """The best assignment, where nothing may be better than something at the price of 1 on each side."""
    gt, pred = prepared.gt.norm, prepared.pred.norm
    if not pred:
        return [_row(prepared, index) for index in range(len(gt))]
    costs = numpy.ones((len(gt) + len(pred), len(gt) + len(pred)))
    costs[len(gt) :, len(pred) :] = 0.0
    costs[: len(gt), : len(pred)] = distances(gt, pred)
    column_of = dict(zip(*assign(costs), strict=True))
    runs = ((column_of[index],) if column_of[index] < len(pred) else () for index in range(len(gt)))
    return [_row(prepared, index, run) for index, run in enumerate(runs)]


def _in_order(prepared: _Prepared, gaps: bool) -> list[Match] | None:
    """Runs of neighbours, both sides in order, at the least cost; in gaps a formula may be left out."""
    gt_count, pred_count = len(prepared.gt.norm), len(prepared.pred.norm)
    if not gt_count or not pred_count:
        return None
    runs = _runs(prepared, gaps)
    states: dict[tuple[int, int], _State] = {(0, 0): _State()}
    parents: dict[tuple[int, int], tuple[tuple[int, int], tuple[int, ...] | None]] = {}

    def reach(
        cell: tuple[int, int], state: _State, origin: tuple[int, int], run: tuple[int, ...] | None
    ) -> None:
        if cell not in states or state.is_better(states[cell]):
            states[cell], parents[cell] = state, (origin, run)

    for row, column in itertools.product(range(gt_count + 1), range(pred_count + 1)):
        state = states.get((row, column))
        if state is None:
            continue
        here = row, column
        if column < pred_count:
            reach((row, column + 1), state.skipped(), here, None)
        if row < gt_count:
            reach((row + 1, column), state.skipped(), here, ())
            norm_gt = prepared.gt.norm[row]
            for run, norm, inline in runs[column] if column < pred_count else ():
                reach((row + 1, run[-1] + 1), state.matched(norm_gt, norm, inline), here, run)
    return _walked_back(prepared, parents)


def _walked_back(
    prepared: _Prepared, parents: dict[tuple[int, int], tuple[tuple[int, int], tuple[int, ...] | None]]
) -> list[Match]:
    cell = len(prepared.gt.norm), len(prepared.pred.norm)
    rows: list[Match] = []
    while cell != (0, 0):
        origin, run = parents[cell]
        if run is not None:
            rows.append(_row(prepared, origin[0], run))
        cell = origin
    return rows[::-1]


@dataclass(frozen=True)
class _State:
    """What a way cost so far; ties are broken by the rate of edits, then by formulas inside lines."""

    cost: float = 0.0
    edits: int = 0
    length: int = 0
    inline: int = 0

    def skipped(self) -> _State:
        return replace(self, cost=self.cost + 1.0)

    def matched(self, gt: str, pred: str, inline: bool) -> _State:
        distance, longest = normalize.Levenshtein.distance(gt, pred), max(len(gt), len(pred))
        return _State(
            self.cost + distance / longest, self.edits + distance, self.length + longest, self.inline + inline
        )

    def is_better(self, other: _State) -> bool:
        if abs(self.cost - other.cost) > _TINY:
            return self.cost < other.cost
        if self.length and other.length:
            mine, theirs = self.edits * other.length, other.edits * self.length
            if mine != theirs:
                return mine < theirs
        elif self.length or other.length:
            return bool(self.length)
        return self.inline < other.inline


def _runs(prepared: _Prepared, gaps: bool) -> list[list[tuple[tuple[int, ...], str, bool]]]:
    """For each formula of the answer the runs that begin with it, with their text."""
    gt_count, pred_count = len(prepared.gt.norm), len(prepared.pred.norm)
    most = min(pred_count, 10 if gt_count <= 1 or abs(gt_count - pred_count) < 2 else 12)
    span = min(pred_count, most + 2) if gaps else most
    skips = 0
    if gaps and (abs(gt_count - pred_count) >= 1 or prepared.rescued > 0 or pred_count >= 4):
        skips = 2 if abs(gt_count - pred_count) >= 3 else 1
    runs: list[list[tuple[tuple[int, ...], str, bool]]] = []
    for start in range(pred_count):
        runs.append([])
        for run in _sequences(start, min(pred_count, start + span), most, skips):
            norm = " ".join(prepared.pred.norm[index] for index in run).strip()
            if norm and _may_merge(prepared, run):
                inline = len(run) == 1 and _category(prepared.pred.items[run[0]]) == INLINE
                runs[-1].append((run, norm, inline))
    return runs


def _sequences(start: int, end: int, most: int, skips: int) -> Iterator[tuple[int, ...]]:
    def grow(run: tuple[int, ...], left: int) -> Iterator[tuple[int, ...]]:
        yield run
        if len(run) < most:
            for index in range(run[-1] + 1, min(end, run[-1] + 2 + left)):
                yield from grow((*run, index), left - (index - run[-1] - 1))

    return grow((start,), skips)


def _may_merge(prepared: _Prepared, run: Sequence[int]) -> bool:
    if len(run) < 2:
        return True
    items = [prepared.pred.items[index] for index in run]
    if len({item.source for item in items}) == 1:
        return True
    return run[-1] - run[0] + 1 == len(run) and all(_category(item) == FORMULA for item in items)


def _partitioned(elements: Sequence[Element], blocks: Sequence[Block], rule: Rule) -> list[Candidate]:
    """The best assignment for each way to cut the answer's formulas into runs of lines, if these are few."""
    options: list[list[list[Block]]] = []
    total = 1
    for block in _ordered(blocks):
        lines = split_blocks([block], rule)
        if len(lines) <= 1 or len(lines) > _MOST_LINES:
            options.append([[block]])
            continue
        options.append(list(_partitions(lines)))
        total *= len(options[-1])
        if total > _MOST_CANDIDATES:
            return []
    if all(len(option) == 1 for option in options):
        return []
    candidates, seen = [], set()
    for choice in itertools.product(*options):
        prepared = _prepare(elements, [block for part in choice for block in part], rule, split=False)
        rows = _assigned(prepared)
        key = tuple((row.gt_position, row.pred_idx, round(row.edit, 6)) for row in rows)
        if rows and key not in seen:
            seen.add(key)
            plain = [_plain_category(row) for row in rows]
            candidates.append(Candidate(plain, prepared.raw, len(blocks)))
    return candidates


def _partitions(lines: Sequence[Block]) -> Iterator[list[Block]]:
    for mask in range(1 << (len(lines) - 1)):
        cuts = [index + 1 for index in range(len(lines) - 1) if mask & (1 << index)]
        edges = zip([0, *cuts], [*cuts, len(lines)], strict=True)
        yield [_segment(lines[start:end]) for start, end in edges]


def _segment(lines: Sequence[Block]) -> Block:
    if len(lines) == 1:
        return lines[0]
    merged = _merged([line.content for line in lines])
    return replace(lines[0], content=f"\\[{merged}\\]", end=lines[-1].end, fine=FORMULA)


def _split_in_order(elements: Sequence[Element], blocks: Sequence[Block], rule: Rule) -> list[Candidate]:
    prepared = _prepare(elements, blocks, rule, split=True)
    if len(prepared.blocks) <= len(prepared.raw):
        return []
    ways: list[Callable[[], list[Match] | None]] = [
        lambda: _in_order(prepared, False),
        lambda: _in_order(prepared, True),
    ]
    candidates = (way() for way in ways)
    return [Candidate(rows, prepared.blocks, len(prepared.raw)) for rows in candidates if rows]


def _key(candidate: Candidate) -> tuple[float, ...]:
    """What decides between candidates, first things first; less is better."""
    rows = candidate.rows
    edits = [row.edit for row in rows]
    read = [row for row in rows if row.pred_idx]
    counts = [
        (
            normalize.Levenshtein.distance(row.norm_gt, row.norm_pred),
            max(len(row.norm_gt), len(row.norm_pred)),
        )
        for row in read
    ]
    length = sum(longest for _, longest in counts)
    used = {
        candidate.pred_items[index].source
        for row in read
        for index in row.pred_idx
        if index < len(candidate.pred_items) and candidate.pred_items[index].source
    }
    return (
        sum(edits),
        sum(count for count, _ in counts) / length if length else 0.0,
        float(max(0, candidate.raw_count - len(used))),
        sum(edits) / len(edits),
        float(-candidate.braced),
        float(len(rows) - len(read)),
    )


def _is_less(first: tuple[float, ...], second: tuple[float, ...]) -> bool:
    for mine, theirs in zip(first, second, strict=True):
        if mine + _TINY < theirs:
            return True
        if mine > theirs + _TINY:
            return False
    return False
