"""The coarser way that OmniDocBench 1.6 pairs blocks when joining neighbours takes too long.

Short neighbours of the answer are joined beforehand, then the best assignment is taken, with a price for
pairs of other kinds and of other places.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy

from .markdown import FORMULA, INLINE, Block
from .matching import Match, assign, distances, norm_of
from .rules import Rule
from .truth import Element

_MOST_JOINED = 10
_PLACE = 0.10  # what another place costs at most, where no window is set
_OPEN_ENDS = ".!?\u3002\uff01\uff1f\uff1b;\uff1a:)]}\u300d\u300f\u201d\u2019\"'"


@dataclass(frozen=True)
class _Chunk:
    """Neighbouring blocks of the answer as one."""

    indices: tuple[int, ...]
    raw: str
    norm: str
    category: str
    position: int
    is_formula: bool


def match(elements: Sequence[Element], blocks: Sequence[Block], rule: Rule) -> list[Match]:
    """A match for every block of the truth that says something."""
    gt = [
        (index, element, norm)
        for index, element in enumerate(elements)
        if element.content and (norm := norm_of(element.category, element.content, rule))
    ]
    chunks = _chunks(blocks, [norm for _, element, norm in gt if element.category != FORMULA], rule)
    unread = [
        Match(
            (index,),
            (),
            element.content,
            "",
            norm,
            "",
            element.category,
            gt_position=(element.order or "",),
            attributes=(element.attribute,),
        )
        for index, element, norm in gt
    ]
    if not gt or not chunks:
        return unread
    edits = distances([norm for *_, norm in gt], [chunk.norm for chunk in chunks])
    costs = edits + _prices([element.category == FORMULA for _, element, _ in gt], chunks)
    column_of = dict(zip(*assign(costs), strict=True))
    return [
        _read(unread[row], chunks[column_of[row]], float(edits[row][column_of[row]]))
        if row in column_of
        else unread[row]
        for row in range(len(gt))
    ]


def _read(unread: Match, chunk: _Chunk, edit: float) -> Match:
    length = len(unread.norm_gt)
    limit = 0.40 if length <= 6 else 0.55 if length <= 20 else 0.68 if length <= 80 else 0.78
    if (unread.gt_category == FORMULA) != chunk.is_formula:
        limit -= 0.08
    if edit > max(0.25, limit):
        return unread
    return replace(
        unread,
        pred_idx=chunk.indices,
        pred=chunk.raw,
        norm_pred=chunk.norm,
        pred_category=chunk.category,
        pred_position=chunk.position,
        edit=edit,
    )


def _prices(formulas: Sequence[bool], chunks: Sequence[_Chunk]) -> numpy.ndarray:
    """The price of another kind, and of a place that is far from the one in proportion."""
    count, width = len(formulas), len(chunks)
    window = max(6, min(48, width // 6 + 6))
    prices = numpy.zeros((count, width))
    for row, is_formula in enumerate(formulas):
        expected = round(row * (width - 1) / (count - 1)) if width > 1 and count > 1 else 0
        for column, chunk in enumerate(chunks):
            if is_formula and not chunk.is_formula:
                prices[row][column] += 0.18
            elif not is_formula and chunk.is_formula:
                prices[row][column] += 0.10
            beyond = abs(column - expected) - window
            if beyond > 0:
                prices[row][column] += 0.30 + 0.02 * beyond
    return prices


def _chunks(blocks: Sequence[Block], text_norms: Sequence[str], rule: Rule) -> list[_Chunk]:
    median = int(statistics.median(map(len, text_norms))) if text_norms else 120
    short = min(160, max(12, max(24, min(72, int(median * 0.45)))))
    target = min(420, max(short, max(short * 2, min(220, int(median * 0.95)))))
    most = min(640, max(target, max(target + 48, min(320, int(median * 1.35)))))
    records = [
        (index, block, norm)
        for index, block in enumerate(blocks)
        if block.content and (norm := norm_of(block.kind, block.content, rule))
    ]
    records.sort(key=lambda record: record[1].start)
    chunks, index = [], 0
    while index < len(records):
        span = [records[index]]
        index += 1
        length = len(span[0][2])
        while not _is_formula(span[0][1]) and index < len(records) and len(span) < _MOST_JOINED:
            following = records[index]
            if _is_formula(following[1]) or length + len(following[2]) > most:
                break
            if not (
                length < target
                or len(following[2]) <= short
                or _is_open(span[-1][1].content)
                or _continues(following[1].content)
            ):
                break
            span.append(following)
            index += 1
            length += len(following[2])
            if length >= target and not _is_open(span[-1][1].content):
                break
        chunks.append(_chunk(span))
    return chunks


def _chunk(span: Sequence[tuple[int, Block, Any]]) -> _Chunk:
    first = span[0][1]
    same = all(block.category == first.category for _, block, _ in span)
    text = not any(_is_formula(block) for _, block, _ in span)
    return _Chunk(
        tuple(index for index, *_ in span),
        " ".join(block.content for _, block, _ in span),
        "".join(norm for *_, norm in span),
        first.category if same or not text else "text_block",
        first.start,
        any(_is_formula(block) for _, block, _ in span),
    )


def _is_formula(block: Block) -> bool:
    return block.kind == FORMULA or block.category in (FORMULA, INLINE, "formula_rescue")


def _is_open(text: str) -> bool:
    text = text.rstrip()
    return bool(text) and text[-1] not in _OPEN_ENDS


def _continues(text: str) -> bool:
    text = text.lstrip()
    return bool(text) and (text[0].islower() or text[0].isdigit() or text[0] in ",.;:!?)]}%")
