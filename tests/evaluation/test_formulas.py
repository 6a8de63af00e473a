"""Formulas: OmniDocBench's normalisation and KaTeX's tokens against the official values."""

import json
from pathlib import Path

import pytest

from got_train.errors import AnswerError
from got_train.evaluation.metrics.formulas import averages, normalised, score
from got_train.formats import latex

GOLDEN = json.loads((Path(__file__).parents[1] / "fixtures" / "metrics_golden_kinds.json").read_text("utf-8"))
CASES = pytest.mark.parametrize("case", GOLDEN["formulas"], ids=lambda case: case["id"])
needs_katex = pytest.mark.skipif(latex.unavailable() is not None, reason=str(latex.unavailable()))


@CASES
def test_the_normalised_formulas_and_their_distance_are_omnidocbench_s(case):
    values = case["values"]
    assert [normalised(case["label"]), normalised(case["answer"])] == values[
        "omnidocbench_normalized_formula"
    ]
    scored = score(case["answer"], case["label"])
    assert scored["formula_edit"] == pytest.approx(values["omnidocbench_norm_edit"], abs=1e-9)


@needs_katex
@CASES
def test_the_tokens_after_katex_are_im2markup_s(case):
    values = case["values"]
    for side, expected in zip(
        ("label", "answer"), values["katex_tokens(im2markup preprocess_formula.js)"], strict=True
    ):
        if expected:
            assert latex.tokens(case[side]) == expected.split()
        else:
            with pytest.raises(AnswerError, match="KaTeX parse error"):
                latex.tokens(case[side])
    scored = score(case["answer"], case["label"])
    assert scored["token_edit"] == pytest.approx(values["token_norm_edit_after_katex"], abs=1e-9)
    assert scored["token_exact"] is values["exact_match_after_katex"]


@needs_katex
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x^2", "x^{2}"),
        (r"\frac12", r"\frac{1}{2}"),
        (r"\[ x \]", "$$x$$"),
        (r"\begin{equation}\label{a} x \end{equation}", "x"),
        (r"\begin{align*} a&=b\end{align*}", r"\begin{aligned} a &= b \end{aligned}"),
        (r"a \over b", r"\frac{a}{b}"),
        (r"{\rm ab}", r"{\mathrm{ab}}"),
        (r"x\ne y", r"x\neq y"),
        ("x % a comment\n+1", "x+1"),
    ],
)
def test_two_ways_to_write_a_formula_have_the_same_tokens(one, other):
    assert latex.tokens(one) == latex.tokens(other)


@needs_katex
@pytest.mark.parametrize(
    ("formula", "tokens"),
    [
        (r"\sin x", r"\sin x"),
        (r"\lim_{x\to 0}", r"\operatorname* { l i m } _ { x \to 0 }"),
        (r"\left(\sqrt[3]{x}\right]", r"\left( \sqrt [ 3 ] { x } \right]"),
        (r"\bigl( a \bigr)", r"\bigl ( a \bigr )"),
        (r"\hat{a}\,b\quad c", r"\hat { a } \, b \quad c"),
        (r"\text{for all } x", r"\mathrm { f o r ~ a l l ~ } x"),
        (
            r"\begin{pmatrix}1&2\\3&4\end{pmatrix}",
            r"\left( \begin{array} { c c } { 1 } & { 2 } \\ { 3 } & { 4 } \end{array} \right)",
        ),
    ],
)
def test_tokens_by_hand(formula, tokens):
    assert latex.tokens(formula) == tokens.split()


@needs_katex
def test_a_broken_answer_is_all_wrong_and_a_broken_reference_has_no_score():
    broken = score(r"\frac{a}{b", r"\frac{a}{b}")
    assert (broken["token_edit"], broken["token_exact"], broken["parses"]) == (1.0, False, False)
    unfit = score("x", r"\frac{a}{b")
    assert unfit["token_edit"] is None
    assert unfit.missing_reasons["token_edit"].startswith(
        "KaTeX does not take the reference: KaTeX parse error"
    )


@needs_katex
def test_a_formula_that_never_ends_expanding_is_refused():
    with pytest.raises(AnswerError, match="Too many expansions"):
        latex.tokens(r"\def\a{\a\a}\a")


@needs_katex
@pytest.mark.parametrize("formula", ["x \ud83d", "x \0 y"])
def test_characters_that_would_end_the_interpreter_are_refused(formula):
    assert score(formula, "x")["parses"] is False


@needs_katex
def test_exp_rate_is_the_share_of_exact_ones():
    pairs = [score("x^2", "x^{2}"), score("y", "x"), score("x", "x"), score("x", r"\frac{")]
    assert averages(pairs)["exp_rate"] == 2 / 3  # the fourth has no score


def test_without_katex_the_reason_is_told(monkeypatch):
    monkeypatch.setattr(latex, "PLACES", ())
    scored = score("x", "x")
    assert scored["token_edit"] is None
    assert scored["formula_exact"] is True
    assert scored.missing_reasons["token_edit"].startswith(
        ("quickjs is not installed", "katex.min.js is not there")
    )


def test_half_a_character_in_a_formula_does_not_end_the_report():
    """quickjs would end Python with a segmentation fault."""
    from got_train.evaluation.report.renderings import drawn

    assert drawn("\\( x \ud83d \\)", "formula") is None
