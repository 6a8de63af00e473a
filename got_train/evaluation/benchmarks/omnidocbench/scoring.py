"""One page of OmniDocBench scored by the rule of a version: text, formulas, tables, reading order.

Knows no files; `summary` averages over pages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rapidfuzz.distance import Levenshtein

from got_train.errors import AnswerError
from got_train.evaluation.metrics import teds

from . import chunks, formula_matching, normalize, text_spans
from .markdown import FORMULA, HTML, INLINE, LATEX, RESCUED, TEXT, Block, blocks_of, latex_to_html
from .matching import Match, MergeTimeError, match_tables, quick_match, unmatched_texts
from .rules import Rule
from .truth import TEXTS, Page, elements_of

FORMULA_READ = (INLINE, FORMULA, "")  # what a formula may have been read as to be scored as one


@dataclass
class Matched:
    """What of a page belongs together."""

    texts: list[Match] = field(default_factory=list)
    formulas: list[Match] = field(default_factory=list)
    tables: list[Match] = field(default_factory=list)
    merge_timed_out: bool = False
    invented: list[str] = field(default_factory=list)  # text of the answer that belongs to nothing


def match_page(page: Page, answer: str, rule: Rule) -> Matched:
    """The blocks of a page paired with those of an answer."""
    mixed, gt_tables = elements_of(page, rule)
    blocks = blocks_of(answer, rule)
    matched = Matched()
    pool = _pool(blocks)
    if gt_tables:
        matched.tables, left = _match_tables(gt_tables, blocks, rule)
        pool += [] if rule.latex_tables else _cells_as_text(left)
    try:
        matches = quick_match(mixed, pool, rule)
        matched.invented = unmatched_texts(matches, pool, rule)
    except MergeTimeError:
        matched.merge_timed_out = True
        matches = chunks.match(mixed, pool, rule)
    if rule.search_formulas:
        matches = [text_spans.across_categories(match, rule) for match in matches]
        matches = text_spans.search_again(matches, pool, rule)
    matched.texts = [match for match in matches if match.gt_category in TEXTS]
    matched.formulas = [match for match in matches if match.gt_category == FORMULA]
    if rule.search_formulas:
        elements = [element for element in mixed if element.category == FORMULA]
        matched.formulas = formula_matching.best_matches(elements, blocks, matched.formulas, rule)
    return matched


def _pool(blocks: Sequence[Block]) -> list[Block]:
    """What takes part in the match of text and formulas, kind by kind in the order of their first blocks."""
    kinds = dict.fromkeys(block.kind for block in blocks)
    return [
        block
        for kind in kinds
        if kind not in (HTML, LATEX, RESCUED)
        for block in blocks
        if block.kind == kind
    ]


def _match_tables(elements: list, blocks: Sequence[Block], rule: Rule) -> tuple[list[Match], list[Block]]:
    html = [block for block in blocks if block.kind == HTML]
    latex = [block for block in blocks if block.kind == LATEX]
    if rule.latex_tables:
        converted = [replace(block, kind=HTML, content=latex_to_html(block.content, rule)) for block in latex]
        return match_tables(elements, [*html, *converted], rule)
    if len(latex) > len(html):  # then no table of the page has a score
        matches, left = match_tables(elements, latex, rule)
        return [replace(match, pred="", norm_pred="") for match in matches], left
    return match_tables(elements, html, rule)


def _cells_as_text(blocks: Sequence[Block]) -> list[Block]:
    """1.5: the cells of tables that belong to nothing may be text of the page."""
    from lxml.html import HTMLParser, fromstring

    cells = []
    for block in blocks:
        source = f"<html><body>{block.content}</body></html>"
        for cell in fromstring(source, parser=HTMLParser(remove_comments=True)).iter("td"):
            text = _only_string(cell)
            if text:
                cells.append(replace(block, kind=TEXT, content=text.replace("$\\cdot$", "").strip()))
    return cells


def _only_string(element: Any) -> str | None:
    """The text of an element that holds nothing but one piece of text, however deep."""
    children = list(element)
    if not children:
        return element.text
    if len(children) == 1 and not element.text and not children[0].tail:
        return _only_string(children[0])
    return None


def score_page(page: Page, answer: str, rule: Rule) -> dict[str, Any]:
    """The scores of a page by the rule; None for what it has nothing of."""
    matched = match_page(page, answer, rule)
    texts, formulas = matched.texts, matched.formulas
    if not rule.search_formulas:  # a formula that was read as text is scored as text
        as_text = [match for match in formulas if match.pred_category not in FORMULA_READ]
        formulas = [match for match in formulas if match.pred_category in FORMULA_READ]
        texts = texts + [_formula_as_text(match) for match in as_text]
    order = [*matched.texts, *matched.formulas, *matched.tables] if rule.order_of_all else matched.texts
    values: dict[str, Any] = {
        "text_edit": _rate(texts),
        "formula_edit": _rate(formulas),
        "order_edit": _order(order, rule),
        "teds": [],
        "teds_s": [],
        "table_edit": None,
        "invented_characters": sum(map(len, matched.invented)),
        "invented": matched.invented[:5],
        "formulas": [[match.gt, match.pred] for match in formulas],
    }
    if rule.order_of_all:
        values["order_edit_corrected"] = _order(order, rule, corrected=True)
    reasons, table_edits = [], []
    for match in matched.tables:
        gt, pred = normalize.html_table(match.gt, rule), normalize.html_table(match.pred, rule)
        table_edits.append(_table_edits(gt, pred))
        likeness, reason = _likeness(gt, pred)
        values["teds"].append(likeness["teds"])
        values["teds_s"].append(likeness["teds_s"])
        reasons += [reason] if reason else []
    if table_edits:
        values["table_edit"] = sum(count for count, _ in table_edits) / sum(size for _, size in table_edits)
    timed_out = ["joining neighbouring blocks"] if matched.merge_timed_out else []
    values["limits"] = timed_out + reasons
    values["attributes"] = _by_attribute(texts, formulas, matched.tables, values["teds"])
    return values


def _formula_as_text(match: Match) -> Match:
    from got_train.evaluation.metrics import omnidocbench_text

    plain = normalize.pylatexenc_text(match.gt)
    return replace(match, gt=plain, norm_gt=omnidocbench_text.normalised(plain.replace("$", "")))


def _rate(matches: Sequence[Match]) -> float | None:
    """Edits over lengths of all blocks of a kind."""
    edits = [match.edits for match in matches]
    longest = sum(length for _, length in edits)
    return sum(count for count, _ in edits) / longest if longest else None


def _order(matches: Sequence[Match], rule: Rule, corrected: bool = False) -> float | None:
    """How far the order of what was read is from that of the page; what was not read is a deletion.

    As published, the first table of an answer never has a position (its number is 0, which counts as none),
    so it is a deletion, too; `corrected` gives it its position.
    """
    gt = sorted(position for match in matches for position in match.gt_position if position)
    placed = [
        match
        for match in matches
        if match.pred_position is not None
        and (corrected or match.gt_category != "table" or match.pred_idx != (0,))
        and match.gt_position != ("",)
    ]
    placed.sort(key=lambda match: match.pred_position or 0)
    pred = [position for match in placed for position in match.gt_position if position]
    longest = max(len(gt), len(pred))
    return Levenshtein.distance(gt, pred) / longest if longest else None


def _table_edits(gt: str, pred: str) -> tuple[int, int]:
    """Edits and the longer side's length of tables as text, in the official frame."""
    sides = [
        table.replace("<table>", '<html><body><table border="1" >', 1) + "</body></html>" if table else ""
        for table in (gt, pred)
    ]
    return Levenshtein.distance(*sides), max(map(len, sides))


def _likeness(gt: str, pred: str) -> tuple[dict[str, float], str]:
    """TEDS and TEDS-S; a pair that takes too long has 0, as published."""
    names = ("teds", "teds_s")
    if not pred:
        return dict.fromkeys(names, 0.0), ""
    trees = teds.tree(pred), teds.tree(gt)
    try:
        return {name: teds.similarity(*trees, structure_only=name == "teds_s") for name in names}, ""
    except AnswerError as error:
        return dict.fromkeys(names, 0.0), f"TEDS: {error}"


def _by_attribute(
    texts: Sequence[Match], formulas: Sequence[Match], gt_tables: Sequence[Match], values: Sequence[float]
) -> list[list[Any]]:
    """What a block of an attribute scores: its metric, attribute and value, one entry a block."""
    entries: list[list[Any]] = []
    scored = [("text_edit", match, None) for match in texts]
    scored += [("formula_edit", match, None) for match in formulas]
    scored += [("teds", match, value) for match, value in zip(gt_tables, values, strict=True)]
    for metric, match, value in scored:
        if value is None:
            count, longest = match.edits
            value = count / longest if longest else None
        if value is not None:
            names = {
                f"{key}: {kind}" for attributes in match.attributes for key, kind in dict(attributes).items()
            }
            entries += [[metric, name, value] for name in sorted(names)]
    return entries


def scores_of(values: Mapping[str, Any]) -> dict[str, float | None]:
    """The scores of a page that are averaged over pages: of several tables their mean."""
    scores = {name: values.get(name) for name in ("text_edit", "formula_edit", "table_edit", "order_edit")}
    if "order_edit_corrected" in values:
        scores["order_edit_corrected"] = values["order_edit_corrected"]
    for name in ("teds", "teds_s", "cdm"):
        value = values.get(name)
        if value is not None:
            scores[name] = sum(value) / len(value) if value else None
    return scores
