"""Signs of an answer that went wrong, by hand."""

import pytest

from got_train.evaluation.metrics.degeneration import averages, faults, repeats, score
from got_train.evaluation.predictions import Prediction
from got_train.evaluation.scored import score_predictions

KERN = "**kern\n4C\n*-"


def test_a_tail_that_is_repeated_ten_times_counts_even_if_it_is_cut_inside():
    assert repeats("Intro. " + "the same words " * 10)
    assert repeats("Intro. " + "the same words " * 11 + "the sa")
    assert not repeats("Intro. " + "the same words " * 9)
    assert not repeats("a" + "\n" * 50)
    assert not repeats("")
    assert score("-" * 20, "-" * 20)["repeated_tail"] is False  # as in the reference


def test_lengths_ends_and_blanks():
    scored = score("abc", "abcdef", finished="length")
    assert (scored["no_end"], scored["length_ratio"], scored["empty"], scored["hallucinated"]) == (
        True,
        0.5,
        False,
        None,
    )
    assert score(" \n", "x", finished="stop")["empty"] is True
    hallucinated = score("words", "")
    assert (hallucinated["hallucinated"], hallucinated["length_ratio"], hallucinated["no_end"]) == (
        True,
        None,
        None,
    )
    assert hallucinated.missing_reasons["no_end"] == "how the answer ended is not told"
    quiet = score("", "")
    assert (quiet["hallucinated"], quiet["empty"]) == (False, False)
    assert averages([hallucinated, quiet, scored])["hallucinated"] == 0.5


@pytest.mark.parametrize(
    ("text", "kind", "found"),
    [
        (r"\begin{tabular}{l} a \\", None, ["tabular is not closed"]),
        (r"\begin{a}\begin{b}\end{a}", None, ["b is not closed"]),
        (r"\end{a}", None, ["a is not closed"]),
        (r"\[ x", None, ["a displayed formula is not closed"]),
        (r"\( x \) \\[2pt] \\(", None, []),
        ("<table><tr>", None, ["an HTML table is not closed"]),
        ("<smiles>CC", None, ["a molecule is not closed"]),
        (KERN, None, []),
        (KERN.removesuffix("*-"), None, ["**kern: the spines have no end, *-"]),
        ('{"a": 1', "chart", []),  # the brace is added, as OneChart does
        ('{"a": ', "chart", ["the chart: no object with values"]),
        ("plain { text", None, []),
        ("[1,2,3,4] a", "spot", []),
        ("[1,2,3,4] a\n[5,6", "spot", ["the spots: line 2: '[5,6' is no `[x1, y1, x2, y2] text`"]),
        (r"\[ \frac{1}{2 \]", "page", ["{ is not closed in LaTeX"]),
        (r"\frac{1}{2}}", "formula", ["} is not closed in LaTeX"]),
        (r"\left( \{ x \right. \leftarrow", "formula", []),
        (r"\left( x", "formula", [r"\left is not closed in LaTeX"]),
        ("\\begin{tabular}{l} \\textbf{a & b \\\\ \\end{tabular}", "table", ["{ is not closed in LaTeX"]),
        ("\\tikz \\draw (0,0); % { a remark", "geometry", []),
    ],
)
def test_what_is_not_well_formed_is_named(text, kind, found):
    assert faults(text, kind) == found
    assert score(text, "x", kind=kind)["invalid_structure"] is bool(found)


def test_an_invalid_molecule_is_a_fault():
    pytest.importorskip("rdkit")
    assert faults("c1ccccc", "molecule") == ["the molecule is invalid"]
    assert faults("c1ccccc1", "molecule") == []


def test_samples_are_judged_by_their_kind_and_by_how_the_answer_ended():
    """Each answer is broken in the way of its kind; the last one was cut at the limit."""
    pytest.importorskip("rdkit")
    rows = [
        Prediction("CCO", "C(C", "smiles", finished="stop"),
        Prediction("{'a': 1}", "{'a': ", "chart", finished="stop"),
        Prediction(KERN, "**kern\n4C", "kern", finished="stop"),
        Prediction(r"\[ x^{2} \]", r"\[ x^{2 \]", "format", finished="stop"),
        Prediction("words", "words", "ocr", finished="length"),
        Prediction("words", "words", "ocr", finished="stop"),
    ]
    found = score_predictions(rows)
    assert [each.answer_type for each in found] == ["molecule", "chart", "music", "formula", "text", "text"]
    assert [each.value("invalid_structure") for each in found] == [1, 1, 1, 1, 0, 0]
    assert [each.value("no_end") for each in found] == [0, 0, 0, 0, 1, 0]


def test_2000_pages_of_2000_characters_take_less_than_10_seconds(processor_seconds):
    page = "The small harbour wakes before the sun does, and nobody sees it. " * 31
    start = processor_seconds()
    for number in range(2000):
        score(f"{number} {page} end {number}", page)
    assert processor_seconds() - start < 10
