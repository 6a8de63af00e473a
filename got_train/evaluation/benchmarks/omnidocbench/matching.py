"""Blocks of the truth paired with blocks of the answer, as OmniDocBench's quick match pairs them.

Neighbours of the answer may be one block of the truth; then the best assignment is taken, pairs that are too
unlike are undone, and truth that lies inside a block of the answer is found there. Steps, thresholds and the
order in which ties are broken are the official ones, for numbers depend on them.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist

from . import normalize
from .markdown import FORMULA, HTML, INLINE, TEXT, Block
from .multiline import split_blocks, split_elements
from .rules import Rule
from .truth import IGNORED, TEXTS, Element

_SAME = 0.25  # below this two blocks belong together before anything is joined
_REJECTED = 0.7  # above this they do not belong together at all
_PART = 0.6  # below this a block is a part of another
_INSIDE = 0.4  # below this the truth lies inside a block of the answer
_MOST_JOINED = 160


@dataclass(frozen=True)
class Match:
    """A block of the truth, or several, with what was read for it; `pred_idx` is empty if nothing was."""

    gt_idx: tuple[int, ...]
    pred_idx: tuple[int, ...]
    gt: str
    pred: str
    norm_gt: str
    norm_pred: str
    gt_category: str
    pred_category: str = ""
    gt_position: tuple[Any, ...] = ()
    pred_position: float | None = None
    edit: float = 1.0
    attributes: tuple[Any, ...] = field(default=(), compare=False)

    @property
    def compared(self) -> tuple[str, str]:
        """What is compared; as published, what normalises to nothing is compared as it was written."""
        return self.norm_gt or self.gt, self.norm_pred or self.pred

    @property
    def edits(self) -> tuple[int, int]:
        """Edits, and the longer side's length."""
        gt, pred = self.compared
        return Levenshtein.distance(gt, pred), max(len(gt), len(pred))


class MergeTimeError(Exception):
    """Joining neighbours took longer than a page is given."""


@dataclass(frozen=True)
class Side:
    """One side as it is compared. What normalises to nothing is left out of `raw`, `norm` and `categories`,
    but not of `items`: as published, places and kinds are looked up there by the same numbers."""

    raw: list[str]
    norm: list[str]
    categories: list[str]
    items: list[Any]

    def position(self, index: int) -> Any:
        item = self.items[index]
        return (item.order or "") if isinstance(item, Element) else item.start


def truth_side(elements: Sequence[Element], rule: Rule) -> Side:
    return _side(elements, [element.category for element in elements], rule)


def answer_side(blocks: Sequence[Block], rule: Rule) -> Side:
    return _side(blocks, [block.kind for block in blocks], rule)


def _side(items: Sequence[Any], kinds: Sequence[str], rule: Rule) -> Side:
    """The items that have content, also after normalisation by what kind each is."""
    norms = [norm_of(kind, item.content, rule) for kind, item in zip(kinds, items, strict=True)]
    kept = [(item, norm) for item, norm in zip(items, norms, strict=True) if norm and item.content]
    return Side(
        [item.content for item, _ in kept],
        [norm for _, norm in kept],
        [item.category for item, _ in kept],
        list(items),
    )


def norm_of(category: str, content: str, rule: Rule) -> str:
    if category == FORMULA:
        return normalize.formula(content, rule)
    if category == TEXT or category in TEXTS or category in IGNORED:
        return normalize.text(content, rule)
    return content


def distances(first: Sequence[str], second: Sequence[str]) -> numpy.ndarray:
    if not first or not second:
        return numpy.zeros((len(first), len(second)))
    return cdist(first, second, scorer=Levenshtein.normalized_distance, dtype=numpy.float64)


def assign(costs: Any) -> tuple[list[int], list[int]]:
    from scipy.optimize import linear_sum_assignment  # here, for it takes long to load

    rows, columns = linear_sum_assignment(costs)
    return [int(row) for row in rows], [int(column) for column in columns]


def in_reading_order(blocks: Sequence[Block]) -> list[Block]:
    """By position, with formulas inside lines last."""
    return sorted(blocks, key=lambda block: (block.fine == INLINE, block.start))


def quick_match(
    elements: Sequence[Element],
    blocks: Sequence[Block],
    rule: Rule,
    split_answer: bool = True,
    seconds: float | None = None,
) -> list[Match]:
    """A match for every block of the truth; blocks of the answer that belong to nothing have none.

    Raises MergeTimeError when joining takes more than the seconds that the rule gives a page.
    """
    gt = truth_side(split_elements(list(elements), rule), rule)
    ordered = in_reading_order(blocks)
    pred = answer_side(split_blocks(ordered, rule) if split_answer else ordered, rule)
    if not gt.norm:
        return []
    if not pred.norm:
        return [_unread(gt, index) for index in range(len(gt.norm))]
    if len(gt.norm) == len(pred.norm) == 1:
        return [_match(gt, pred, (0,), (0,), rule=rule, joined=False)]
    ignored = [index for index, category in enumerate(gt.categories) if category in IGNORED]
    scored = [index for index, category in enumerate(gt.categories) if category not in IGNORED]
    taken, ignored_matches = _ignored_first(gt, pred, ignored, rule)
    free = [index for index in range(len(pred.norm)) if index not in taken]
    end = time.monotonic() + (rule.merge_seconds if seconds is None else seconds)
    groups = _matched_groups(
        [gt.norm[index] for index in scored],
        [pred.norm[index] for index in free],
        [gt.categories[index] for index in scored] if rule.search_formulas else [],
        end,
    )
    matches = []
    # as published, the n-th of the blocks that take part is looked up among all of them
    gt_part, pred_part = _part(gt, scored), _part(pred, free)
    for group in groups:
        matches.append(_renumbered(_match(gt_part, pred_part, *group, rule=rule), scored, free))
    return [*matches, *ignored_matches]


def unmatched_texts(matches: Sequence[Match], blocks: Sequence[Block], rule: Rule) -> list[str]:
    """The text of an answer that was paired with nothing: what the model may have invented."""
    pred = answer_side(split_blocks(in_reading_order(blocks), rule), rule)
    used = {index for match in matches for index in match.pred_idx}
    return [
        raw
        for index, raw in enumerate(pred.raw)
        if index not in used and pred.categories[index] == "text_block"
    ]


def _part(side: Side, indices: Sequence[int]) -> Side:
    return Side(
        [side.raw[index] for index in indices],
        [side.norm[index] for index in indices],
        [side.categories[index] for index in indices],
        [side.items[index] for index in indices],
    )


def _renumbered(match: Match, gt_indices: Sequence[int], pred_indices: Sequence[int]) -> Match:
    return replace(
        match,
        gt_idx=tuple(gt_indices[index] for index in match.gt_idx),
        pred_idx=tuple(pred_indices[index] for index in match.pred_idx),
    )


def _ignored_first(gt: Side, pred: Side, ignored: Sequence[int], rule: Rule) -> tuple[set[int], list[Match]]:
    """Captions, headers and the like take what is like them out of the answer before all else."""
    if not ignored:
        return set(), []
    matrix = distances([gt.norm[index] for index in ignored], pred.norm)
    near = [(int(row), int(column)) for row, column in numpy.argwhere(matrix < _SAME)]
    columns = [column for _, column in near]
    gt_part, pred_part = _part(gt, ignored), _part(pred, columns)
    chosen = {row: (number,) for number, (row, _) in enumerate(near)}
    groups = _finished(_merged(chosen, {}), gt_part.norm, pred_part.norm)
    matches = [
        _renumbered(_match(gt_part, pred_part, *group, rule=rule, joined=False), ignored, columns)
        for group in groups
    ]
    return set(columns), matches


# places of the truth, places of the answer, whether both were merely left over
Group = tuple[tuple[int, ...], tuple[int, ...], bool]


def _matched_groups(
    gt: Sequence[str], pred: Sequence[str], categories: Sequence[str], end: float
) -> list[Group]:
    matrix, runs = _joined(distances(gt, pred), gt, pred, end)
    rows, columns = assign(matrix)
    column_of = dict(zip(rows, columns, strict=True))
    matches: dict[int, tuple[int, ...]] = {}
    unmatched: list[int] = []
    for index in range(len(gt)):
        column = column_of.get(index)
        if column is None or matrix[index][column] > _REJECTED:
            unmatched.append(index)
        else:
            matches[index] = runs[column]
    inside = _inside(unmatched, gt, pred, categories)
    return _finished(_merged(matches, inside), gt, pred)


def _joined(
    matrix: numpy.ndarray, gt: Sequence[str], pred: Sequence[str], end: float
) -> tuple[numpy.ndarray, list[tuple[int, ...]]]:
    """The distances once neighbours of the answer are one block where that is nearer to the truth."""
    near = numpy.argwhere(matrix < _SAME)
    gt_known, pred_known = {int(row) for row, _ in near}, {int(column) for _, column in near}
    parts = _Parts()
    best: list[tuple[list[int], float]] = []
    for row in range(len(gt)):
        if row in gt_known:
            continue
        runs = []
        for start in range(len(pred)):
            if start not in pred_known:
                if time.monotonic() >= end:
                    raise MergeTimeError
                runs.append(_run_from(start, gt[row], pred, pred_known, parts))
        if runs:
            costs = [normalize.edit_distance(gt[row], " ".join(pred[index] for index in run)) for run in runs]
            lowest = min(costs)
            best.append((runs[costs.index(lowest)], lowest))
    plain = [(index,) for index in range(len(pred))]
    chosen = _without_overlaps(best)
    if not chosen:
        return matrix, plain
    joined = _with_runs(plain, chosen)
    texts = [" ".join(pred[index] for index in run) if len(run) > 1 else pred[run[0]] for run in joined]
    return distances(gt, texts), joined


def _with_runs(plain: list[tuple[int, ...]], runs: Sequence[list[int]]) -> list[tuple[int, ...]]:
    for run in runs:
        index = plain.index((run[0],))
        plain[index : index + len(run)] = [tuple(run)]
    return plain


def _run_from(start: int, gt: str, pred: Sequence[str], known: set[int], parts: _Parts) -> list[int]:
    step = 1
    while step < _MOST_JOINED and start + step not in known and start + step < len(pred):
        joins, goes_on = _joins(gt, pred[start : start + step + 1], parts)
        if not joins:
            break
        step += 1
        if not goes_on:
            break
    return list(range(start, start + step))


def _joins(gt: str, run: Sequence[str], parts: _Parts) -> tuple[bool, bool]:
    """Whether the last block belongs to the run, and whether more may follow."""
    before, now = " ".join(run[:-1]), " ".join(run)
    if normalize.edit_distance(gt, now) > normalize.edit_distance(gt, before):
        return False, False
    if not all(parts.holds(gt, text, inclusive=True) for text in run[:-1]):
        return False, False
    return parts.holds(gt, run[-1], inclusive=False), len(now) <= len(gt)


class _Parts:
    """Whether a text is like some part of another of its length; each pair is looked at once."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, str, bool], bool] = {}

    def holds(self, whole: str, part: str, inclusive: bool) -> bool:
        key = whole, part, inclusive
        if key not in self.known:
            self.known[key] = self._holds(*key)
        return self.known[key]

    def _holds(self, whole: str, part: str, inclusive: bool) -> bool:
        size = len(part)
        if not size or len(whole) < size:
            return False
        for distance in _window_distances(whole, part, _PART):
            if distance / size < _PART or (inclusive and distance / size == _PART):
                return True
        return False


def _window_distances(whole: str, part: str, limit: float) -> Iterator[int]:
    """Edits between a text and every part of another that is as long as it."""
    size = len(part)
    cutoff = int(limit * size) + 1
    for start in range(len(whole) - size + 1):
        yield Levenshtein.distance(whole[start : start + size], part, score_cutoff=cutoff)


def _without_overlaps(runs: Sequence[tuple[list[int], float]]) -> list[list[int]]:
    """Runs that have no block in common: of those that overlap the ones of the least mean cost."""
    if not runs:
        return []
    ordered = sorted(runs, key=lambda run: run[0][0])
    groups = [[ordered[0]]]
    for run in ordered[1:]:
        if any(set(run[0]) & set(previous[0]) for previous in groups[-1]):
            groups[-1].append(run)
        else:
            groups.append([run])
    kept: list[list[int]] = []
    for group in groups:
        kept += [group[0][0]] if len(group) == 1 else _best_path(group)
    return kept


def _best_path(group: Sequence[tuple[list[int], float]]) -> list[list[int]]:
    paths = [[group[0]]]
    for run in group[1:]:
        is_new = True
        for path in paths:
            overlaps = same = False
            for visited in path:  # grows and shrinks while it is walked, as published
                if visited[0] == run[0]:
                    overlaps = same = True
                    if visited[1] > run[1]:
                        path.pop(path.index(visited))
                        path.append(run)
                elif set(visited[0]) & set(run[0]):
                    overlaps = True
            if not overlaps:
                path.append(run)
                is_new = False
            if same:
                is_new = False
        if is_new:
            paths.append([run])
    best = min(paths, key=lambda path: sum(cost for _, cost in path) / len(path))
    return [run for run, _ in best]


def _inside(
    unmatched: Sequence[int], gt: Sequence[str], pred: Sequence[str], categories: Sequence[str]
) -> dict[int, list[int]]:
    """For blocks of the answer, the truth that is found in them."""
    inside: dict[int, list[int]] = {}
    for column, text in enumerate(pred):
        rows = []
        for row in unmatched:
            size = len(gt[row])
            if (categories and categories[row] == FORMULA) or not size or len(text) < size:
                continue
            if any(distance / size < _INSIDE for distance in _window_distances(text, gt[row], _INSIDE)):
                rows.append(row)
        if rows:
            inside[column] = rows
    return inside


def _merged(
    matches: dict[int, tuple[int, ...]], inside: dict[int, list[int]]
) -> dict[tuple[int, ...], list[int]]:
    """The truth that belongs to each run of the answer."""
    merged: dict[tuple[int, ...], list[int]] = {}
    done: set[int] = set()
    for row, run in matches.items():
        merged.setdefault(tuple(sorted(run)), []).append(row)
        done.add(row)
    for column, rows in inside.items():
        group = merged.setdefault((column,), [])
        for row in rows:
            if row not in done:
                group.append(row)
                done.add(row)
    return merged


def _finished(
    merged: dict[tuple[int, ...], list[int]], gt: Sequence[str], pred: Sequence[str]
) -> list[Group]:
    """A group for all truth: what is left over on both sides is paired at the full price."""
    entries = [(row, run) for run, rows in merged.items() for row in sorted(set(rows))]
    used_rows = set().union(*[set(rows) for rows in merged.values()])
    used_columns = {column for run in merged for column in run}
    rows_left, columns_left = set(range(len(gt))) - used_rows, set(range(len(pred))) - used_columns
    left_over: set[tuple[int, ...]] = set()
    if rows_left and columns_left:
        rows, columns = list(rows_left), list(columns_left)
        costs = distances([gt[row] for row in rows], [pred[column] for column in columns])
        pairs = [(rows[row], (columns[column],)) for row, column in zip(*assign(costs), strict=True)]
        entries += pairs
        left_over = {run for _, run in pairs}
    groups: dict[tuple[int, ...], list[int]] = {}
    for row, run in entries:
        groups.setdefault(run, []).append(row)
    finished = [(tuple(rows), run, run in left_over) for run, rows in groups.items()]
    grouped = {row for row, _ in entries}
    return finished + [((row,), (), True) for row in range(len(gt)) if row not in grouped]


def _unread(gt: Side, index: int) -> Match:
    return Match(
        (index,),
        (),
        gt.raw[index],
        "",
        gt.norm[index],
        "",
        gt.categories[index],
        gt_position=(gt.position(index),),
        attributes=(_attribute(gt, index),),
    )


def _attribute(gt: Side, index: int) -> Any:
    return gt.items[index].attribute


def _match(
    gt: Side,
    pred: Side,
    gt_idx: tuple[int, ...],
    pred_idx: tuple[int, ...],
    left_over: bool = False,
    *,
    rule: Rule,
    joined: bool = True,
) -> Match:
    """A group as one match; several lines of formulas become one array."""
    categories = [gt.categories[index] for index in gt_idx]
    counted = [category for category in categories if category not in IGNORED] or categories
    category = Counter(counted).most_common(1)[0][0]
    pred_category = pred.items[pred_idx[0]].category if pred_idx else ""
    gt_texts, pred_texts = [gt.raw[index] for index in gt_idx], [pred.raw[index] for index in pred_idx]
    norm_gt = "".join(gt.norm[index] for index in gt_idx)
    norm_pred = "".join(pred.norm[index] for index in pred_idx)
    return Match(
        gt_idx,
        pred_idx,
        _array(gt_texts, rule) if joined and category == FORMULA else "".join(gt_texts),
        _array(pred_texts, rule) if joined and "equation" in pred_category else "".join(pred_texts),
        norm_gt,
        norm_pred,
        category,
        pred_category,
        tuple(gt.position(index) for index in gt_idx),
        pred.position(pred_idx[0]) if pred_idx else None,
        1.0 if left_over else _edit(gt, pred, gt_idx, pred_idx),
        tuple(_attribute(gt, index) for index in gt_idx),
    )


def _edit(gt: Side, pred: Side, gt_idx: Sequence[int], pred_idx: Sequence[int]) -> float:
    """The distance by which 1.6 looks for better matchings: joined with spaces, of several only the first."""
    if len(gt_idx) > 1:
        return normalize.edit_distance("".join(gt.norm[index] for index in gt_idx), pred.norm[pred_idx[0]])
    return normalize.edit_distance(gt.norm[gt_idx[0]], " ".join(pred.norm[index] for index in pred_idx))


def _array(texts: Sequence[str], rule: Rule) -> str:
    if len(texts) < 2:
        return "".join(texts)
    if rule.search_formulas:
        bare = [normalize.strip_delimiters(text) for text in texts]
    else:
        bare = [text.strip("$").strip("\n") for text in texts]
    lines = " \\\\ ".join(f"{{{text}}}" for text in bare)
    return f"\\begin{{array}}{{l}} {lines} \\end{{array}}"


def match_tables(
    elements: Sequence[Element], blocks: Sequence[Block], rule: Rule
) -> tuple[list[Match], list[Block]]:
    """Tables by the best assignment, and the tables of the answer that are left over."""
    gt_norms = [_table_norm(element.content, rule) for element in elements]
    pred_norms = [_table_norm(block.content, rule) for block in blocks]
    gt = _table_side(elements, gt_norms)
    pred = _table_side(blocks, pred_norms)
    if not gt.norm or not pred.norm:
        return [_unread(gt, index) for index in range(len(gt.norm))], []
    matrix = distances(gt.norm, pred.norm)
    column_of = dict(zip(*assign(matrix), strict=True))
    matches = []
    for index in range(len(gt.norm)):
        match, column = _unread(gt, index), column_of.get(index)
        if column is not None:
            match = replace(
                match,
                pred_idx=(column,),
                pred=pred.raw[column],
                norm_pred=pred.norm[column],
                pred_category=pred.items[column].category,
                pred_position=pred.items[column].start,
                edit=float(matrix[index][column]),
            )
        matches.append(match)
    left = [pred.items[column] for column in range(len(pred.norm)) if column not in column_of.values()]
    return matches, left


def _table_side(items: Sequence[Any], norms: Sequence[str]) -> Side:
    contents = [item.content for item in items]
    kept = [index for index, norm in enumerate(norms) if norm and contents[index]]
    return Side(
        [contents[index] for index in kept],
        [norms[index] for index in kept],
        [getattr(items[index], "category", HTML) for index in kept],
        list(items),
    )


def _table_norm(content: str, rule: Rule) -> str:
    """1.6 compares normalised tables, 1.5 what was written."""
    return (
        normalize.html_table(content, rule)
        if rule.wide_normalization and "<table" in content.lower()
        else content
    )
