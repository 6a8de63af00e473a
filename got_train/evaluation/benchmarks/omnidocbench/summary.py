"""Scores of OmniDocBench over pages: means, the overall score of a version, tables by attribute."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from .rules import Rule
from .scoring import scores_of
from .truth import Page

METRICS = (
    "text_edit",
    "formula_edit",
    "table_edit",
    "order_edit",
    "order_edit_corrected",
    "teds",
    "teds_s",
    "cdm",
)
Values = Mapping[str, Mapping[str, Any]]


def summary(values: Values, rule: Rule) -> dict[str, Any]:
    """The means over pages, and the overall score if all that it is made of is there."""
    result = means(list(values.values()))
    tables = [value for page in values.values() for value in page["teds"]]
    result["teds_over_tables"] = math.fsum(tables) / len(tables) if tables else None
    if rule.overall == "edits":
        parts = [result[name] for name in ("text_edit", "formula_edit", "table_edit", "order_edit")]
        result["overall_edit"] = _mean(parts)
    else:
        text = None if result["text_edit"] is None else 1 - result["text_edit"]
        result["overall"] = _mean([text, result["teds"], result["cdm"]], 100)
    return {
        **result,
        "invented_characters": sum(page["invented_characters"] for page in values.values()),
        "pages_at_time_limit": sum(bool(page["limits"]) for page in values.values()),
    }


def means(pages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The mean of each score over the pages that have such truth; None where no page has."""
    scores = [scores_of(page) for page in pages]
    result: dict[str, Any] = {"pages": len(pages)}
    for name in METRICS:
        had = [value for page in scores if (value := page.get(name)) is not None]
        if any(name in page for page in scores) or name != "order_edit_corrected":
            result[name] = math.fsum(had) / len(had) if had else None
    if any(page.get("cdm") is None for page in pages):  # CDM was not asked for, or its time was over
        result["cdm"] = None
    return result


def _mean(parts: Sequence[float | None], scale: float = 1) -> float | None:
    known = [part for part in parts if part is not None]
    return scale * math.fsum(known) / len(known) if len(known) == len(parts) else None


def by_page_attribute(pages: Mapping[str, Page], values: Values) -> dict[str, dict[str, Any]]:
    """The means by each attribute of pages: subset, language, layout, source, special issues."""
    groups: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for name, pages_values in values.items():
        for key, value in (pages[name]["page_info"].get("page_attribute") or {}).items():
            kinds = [issue for issue in value if "table" not in issue] if isinstance(value, list) else [value]
            for kind in kinds:
                groups[f"{key}: {kind}"].append(pages_values)
    return {group: means(pages_values) for group, pages_values in sorted(groups.items())}


def by_block_attribute(values: Values) -> dict[str, dict[str, Any]]:
    """The mean of each metric over the blocks of an attribute, with their number."""
    groups: dict[tuple[str, str], list[float]] = defaultdict(list)
    for page in values.values():
        for metric, attribute, value in page["attributes"]:
            groups[attribute, metric].append(value)
    result: dict[str, dict[str, Any]] = {}
    for (attribute, metric), held_values in sorted(groups.items()):
        entry = result.setdefault(attribute, {})
        entry[metric], entry[f"{metric} blocks"] = math.fsum(held_values) / len(held_values), len(held_values)
    return result
