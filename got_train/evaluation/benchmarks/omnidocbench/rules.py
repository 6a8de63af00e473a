"""The versions of OmniDocBench as named rules: what counts, what is left out, how pages are averaged.

Each rule says on which version and commit of the official code it was read.
"""

from __future__ import annotations

from dataclasses import dataclass

from got_train.errors import EvaluationError


@dataclass(frozen=True)
class Rule:
    """How one version of the official end-to-end evaluation scores a page."""

    version: str
    pages: int  # of the published data
    commit: str  # of the official repository that the rule was read in
    empty_pages: bool  # a page without an answer is an empty page; else it is left out
    drops_ignored: bool  # blocks of the truth that are marked as ignored
    latex_tables: bool  # tables in LaTeX become HTML and count; else all tables of such a page score 0
    wide_normalization: bool
    search_formulas: bool  # several matchings of formulas, inline ones among them, of which the best is kept
    order_of_all: bool  # tables and formulas belong to the reading order
    merge_seconds: float  # for joining neighbouring blocks of an answer; then a coarser way is taken
    overall: str  # "edits" or "scores"


RULES = {
    "1.0": Rule(
        version="1.0",
        pages=981,
        commit="8ddf8ba",
        empty_pages=False,
        drops_ignored=False,
        latex_tables=False,
        wide_normalization=False,
        search_formulas=False,
        order_of_all=False,
        merge_seconds=30,
        overall="edits",
    ),
    "1.5": Rule(
        version="1.5",
        pages=1355,
        commit="8ddf8ba",
        empty_pages=False,
        drops_ignored=False,
        latex_tables=False,
        wide_normalization=False,
        search_formulas=False,
        order_of_all=False,
        merge_seconds=30,
        overall="scores",
    ),
    "1.6": Rule(
        version="1.6",
        pages=1651,
        commit="9dc1dec",
        empty_pages=True,
        drops_ignored=True,
        latex_tables=True,
        wide_normalization=True,
        search_formulas=True,
        order_of_all=True,
        merge_seconds=300,
        overall="scores",
    ),
}
LATEST = "1.6"


def rule_of(version: str) -> Rule:
    """The rule of a version by its name."""
    if version not in RULES:
        raise EvaluationError(f"OmniDocBench {version}: unknown version; expected {', '.join(RULES)}")
    return RULES[version]
