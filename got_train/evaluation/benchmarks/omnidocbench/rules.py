"""The versions of OmniDocBench as named rules: what counts, what is left out, how pages are averaged.

Each rule says on which version and commit of the official code it was read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from got_train.errors import EvaluationError


@dataclass(frozen=True)
class Rule:
    """How one version of the official end-to-end evaluation scores a page."""

    version: str
    pages: int  # of the published data
    commit: str  # of the official repository that the rule was read in
    merge_seconds: float  # for joining neighbouring blocks of an answer; then a coarser way is taken
    overall: str  # "edits" or "scores"
    # what 1.6 brought
    empty_pages: bool = False  # a page without an answer is an empty page; else it is left out
    drops_ignored: bool = False  # blocks of the truth that are marked as ignored
    latex_tables: bool = False  # tables in LaTeX become HTML and count; else such a page's tables score 0
    wide_normalization: bool = False
    search_formulas: bool = False  # the best of several matchings of formulas, inline ones among them
    order_of_all: bool = False  # tables and formulas belong to the reading order


_1_0 = Rule(version="1.0", pages=981, commit="8ddf8ba", merge_seconds=30, overall="edits")
_1_5 = replace(_1_0, version="1.5", pages=1355, overall="scores")
_1_6 = Rule(
    version="1.6",
    pages=1651,
    commit="9dc1dec",
    merge_seconds=300,
    overall="scores",
    empty_pages=True,
    drops_ignored=True,
    latex_tables=True,
    wide_normalization=True,
    search_formulas=True,
    order_of_all=True,
)
RULES = {rule.version: rule for rule in (_1_0, _1_5, _1_6)}
LATEST = "1.6"


def rule_of(version: str) -> Rule:
    """The rule of a version by its name."""
    if version not in RULES:
        raise EvaluationError(f"OmniDocBench {version}: unknown version; expected {', '.join(RULES)}")
    return RULES[version]
