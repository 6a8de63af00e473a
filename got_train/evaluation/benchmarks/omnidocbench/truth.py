"""The truth of OmniDocBench: pages with their blocks, read, checked and put in reading order."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from got_train.errors import EvaluationError
from got_train.formats.tables import to_html
from got_train.strict_files import strict_json

from .rules import Rule

Page = Mapping[str, Any]

TABLE, FORMULA = "table", "equation_isolated"
TEXTS = ("text_block", "title", "code_txt", "code_txt_caption", "reference")
# these may be read or left out: they take what is like them out of the answer, and have no score
IGNORED = (
    *("figure_caption", "figure_footnote", "table_caption", "table_footnote", "code_algorithm"),
    *("code_algorithm_caption", "header", "footer", "page_footnote", "page_number", "equation_caption"),
)
# in the order in which the official code gathers them, which decides between blocks of the same place
_MIXED = (
    *("text_block", "title", "code_txt", "code_txt_caption", "reference", "equation_caption"),
    *("figure_caption", "figure_footnote", "table_caption", "table_footnote", "code_algorithm"),
    *("code_algorithm_caption", "header", "footer", "page_footnote", "page_number", FORMULA),
)


@dataclass(frozen=True)
class Element:
    """A block of the truth as it is matched: its category, what it says, its place in the reading order."""

    category: str
    content: str
    order: float | None = None
    attribute: Mapping[str, Any] = field(default_factory=dict)


def read_pages(path: str) -> list[dict[str, Any]]:
    """The pages of a file, each image once."""
    try:
        pages = strict_json(Path(path).read_text(encoding="utf-8-sig"), allow_nan=True)
        names = [stem(page) for page in pages if page["layout_dets"] is not None]
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise EvaluationError(
            f"{path}: no pages with layout_dets and page_info ({error!r}); expected OmniDocBench.json"
        ) from error
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise EvaluationError(f"{path}: image {repeated[0]} twice; expected a page for each image")
    if not pages:
        raise EvaluationError(f"{path}: no pages; expected at least one")
    return pages


def stem(page: Page) -> str:
    return os.path.splitext(page["page_info"]["image_path"])[0]


def contents(block: Mapping[str, Any]) -> str:
    """What a block says: a table in HTML if it has that, a formula in LaTeX, else its text."""
    names = ("html", "latex", "text") if block["category_type"] == TABLE else ("latex", "text", "html")
    return next((str(block[name]) for name in names if block.get(name)), "")


def reading_text(page: Page) -> str:
    """A page as one text, its blocks in reading order."""
    blocks = [block for block in page["layout_dets"] if not block.get("ignore") and block.get("order")]
    return "\n\n".join(contents(block) for block in sorted(blocks, key=lambda block: block["order"]))


def elements_of(page: Page, rule: Rule) -> tuple[list[Element], list[Element]]:
    """The blocks that are matched as text or formula, and the tables, both in reading order."""
    groups: dict[str, list[Element]] = {}
    for block in _joined(page, rule):
        groups.setdefault(block["category_type"], []).append(_element(block))
    mixed = [element for category in _MIXED for element in groups.get(category, ())]
    return _sorted(mixed), _sorted(groups.get(TABLE, ()))


def _element(block: Mapping[str, Any]) -> Element:
    category = block["category_type"]
    if category == TABLE:
        content = str(block.get("html") or to_html(str(block.get("latex") or "")) or "")
    else:
        content = str(block.get("latex" if category == FORMULA else "text") or "")
    return Element(category, content, block.get("order"), block.get("attribute") or {})


def _sorted(elements: Sequence[Element]) -> list[Element]:
    return sorted(elements, key=lambda element: element.order or 0)


def _joined(page: Page, rule: Rule) -> Iterator[Mapping[str, Any]]:
    """The blocks of a page; those that a column or a figure cuts in two are one, however long the chain.

    From 1.6 on a block that is marked as ignored is left out, and a chain with one.
    """
    relations = [
        (relation["source_anno_id"], relation["target_anno_id"])
        for relation in (page.get("extra") or {}).get("relation") or ()
        if relation.get("relation_type") == "truncated"
    ]
    parts: dict[Any, Mapping[str, Any] | None] = {name: None for pair in relations for name in pair}
    for block in page["layout_dets"]:
        if block.get("anno_id") in parts:
            parts[block["anno_id"]] = block
        elif not (rule.drops_ignored and block.get("ignore")):
            yield block
    for names in _transitive(relations):
        blocks = [block for name in names if (block := parts.get(name))]
        if not blocks or (rule.drops_ignored and any(block.get("ignore") for block in blocks)):
            continue
        blocks.sort(key=lambda block: block.get("order") or 0)
        text = "".join(str(block.get("text") or "") for block in blocks)
        yield {"category_type": blocks[0]["category_type"], "order": blocks[0].get("order"), "text": text}


def _transitive(relations: Sequence[tuple[Any, Any]]) -> list[set[Any]]:
    groups: list[set[Any]] = []
    for pair in relations:
        merged, rest = set(pair), []
        for group in groups:
            if group & merged:
                merged |= group
            else:
                rest.append(group)
        groups = [*rest, merged]
    return groups
