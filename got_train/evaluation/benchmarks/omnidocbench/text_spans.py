"""From 1.6 on: text that was matched badly is looked for once more, near where it should stand.

A title or a paragraph far from its match may be a run of blocks nearby that nothing else took, formulas
among them where the truth has some.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from . import normalize
from .markdown import FORMULA, INLINE, TEXT, Block
from .matching import Match, in_reading_order
from .rules import Rule

_BAD = 0.45  # matches that are farther than this are looked at again
_GAIN = 0.2
_AROUND = 8  # blocks before and after the match
_TINY = 1e-12
_HINT = re.compile(r"\$[^$]+\$|\\\([^)]*\\\)")
_COMMANDS = ("\\frac", "\\sum", "\\int", "\\sqrt", "\\left", "\\right")


def is_formula(category: str) -> bool:
    return category in (FORMULA, INLINE)


def across_categories(match: Match, rule: Rule) -> Match:
    """A match of text with a formula is compared as text."""
    if not match.gt_category or not match.pred_category:
        return match
    if is_formula(match.gt_category) == is_formula(match.pred_category):
        return match
    gt = _as_text(match.gt_category, match.gt, rule)
    pred = _as_text(match.pred_category, match.pred, rule)
    norms = normalize.text(gt, rule), normalize.text(pred, rule)
    return replace(match, gt=gt, pred=pred, norm_gt=norms[0], norm_pred=norms[1], edit=_edit(*norms))


def _as_text(category: str, text: str, rule: Rule) -> str:
    return normalize.inline_to_unicode(
        normalize.strip_delimiters(text) if is_formula(category) else text, rule
    )


def _edit(gt: str, pred: str) -> float:
    return normalize.edit_distance(gt, pred) if gt and pred else float(bool(gt or pred))


@dataclass(frozen=True)
class _Span:
    start: int
    end: int  # of the last block
    norm: str
    edit: float
    moved: int  # blocks from where the match was

    @property
    def indices(self) -> tuple[int, ...]:
        return tuple(range(self.start, self.end + 1))


def search_again(matches: Sequence[Match], blocks: Sequence[Block], rule: Rule) -> list[Match]:
    """The matches, with better spans for those that are bad."""
    pool = [block for block in in_reading_order(blocks) if block.kind in (TEXT, FORMULA)]
    if not pool:
        return list(matches)
    updated = list(matches)
    owned = [_owned(match, pool) for match in matches]
    spans: list[tuple[int, _Span]] = []
    for number, match in enumerate(matches):
        if not _is_bad(match):
            continue
        taken = {index for owner, indices in enumerate(owned) if owner != number for index in indices}
        span = _best_span(match, pool, owned[number], taken, rule)
        if span is not None:
            spans.append((number, span))
    used: set[int] = set()
    for number, span in sorted(spans, key=lambda item: item[1].edit - matches[item[0]].edit):
        if used & set(span.indices):
            continue
        used |= set(span.indices)
        updated[number] = replace(
            matches[number],
            pred_idx=span.indices,
            pred="".join(pool[index].content for index in span.indices),
            pred_position=pool[span.start].start,
            pred_category="text_block",
            norm_pred=span.norm,
            edit=span.edit,
        )
    return updated


def _owned(match: Match, pool: Sequence[Block]) -> list[int]:
    indices = sorted({index for index in match.pred_idx if index < len(pool)})
    if indices or match.pred_position is None:
        return indices
    return [index for index, block in enumerate(pool) if block.start <= match.pred_position <= block.end]


def _is_bad(match: Match) -> bool:
    if match.gt_category not in ("title", "text_block") or match.edit <= _BAD:
        return False
    return match.gt_category == "title" or _hints_at_formula(match.gt) or len(match.norm_gt) >= 80


def _hints_at_formula(text: str) -> bool:
    if _HINT.search(text) or any(command in text for command in _COMMANDS):
        return True
    return ("^" in text or "_" in text) and ("$" in text or "\\" in text)


def _best_span(
    match: Match, pool: Sequence[Block], owned: Sequence[int], taken: set[int], rule: Rule
) -> _Span | None:
    hint = _hints_at_formula(match.gt)
    gt = _target(match, hint, rule)
    if not gt:
        return None
    first = max(0, owned[0] - _AROUND) if owned else 0
    last = min(len(pool) - 1, owned[-1] + _AROUND) if owned else len(pool) - 1
    best: _Span | None = None
    for span in _spans(gt, pool, range(first, last + 1), taken, hint, owned, rule):
        if best is None or span.edit + _TINY < best.edit:
            best = span
        elif span.edit <= best.edit + _TINY:
            size, best_size = span.end - span.start, best.end - best.start
            if (size, span.moved) < (best_size, best.moved):
                best = span
    if best is None or best.edit >= match.edit - _GAIN or best.edit > (0.45 if hint else 0.35):
        return None
    return best


def _target(match: Match, hint: bool, rule: Rule) -> str:
    if hint and not is_formula(match.gt_category):
        plain = re.sub(
            r"\$(.*?)\$|\\\((.*?)\\\)",
            lambda item: normalize.formula(item[1] if item[1] is not None else item[2], rule).strip(),
            match.gt,
        )
        return normalize.text(plain, rule)
    return normalize.text(_as_text(match.gt_category, match.gt, rule), rule)


def _spans(
    gt: str,
    pool: Sequence[Block],
    window: range,
    taken: set[int],
    hint: bool,
    owned: Sequence[int],
    rule: Rule,
) -> Iterator[_Span]:
    kinds = (TEXT, FORMULA) if hint else (TEXT,)
    longest = 8 if hint else 4
    for start in window:
        text = ""
        for end in range(start, min(window.stop, start + longest)):
            if pool[end].kind not in kinds or end in taken:
                break
            text += _as_text(pool[end].kind, pool[end].content, rule)
            norm = normalize.text(text, rule)
            if norm:
                moved = abs(start - owned[0]) if owned else 0
                yield _Span(start, end, norm, _edit(gt, norm), moved)
