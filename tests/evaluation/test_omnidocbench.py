"""OmniDocBench's normalisation of text against the official values."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from got_train.errors import AnswerError
from got_train.evaluation.metrics import omnidocbench_text
from got_train.evaluation.metrics.omnidocbench_text import NAME, normalised, page_rate, score

GOLDEN = json.loads((Path(__file__).parents[1] / "fixtures" / "metrics_golden_kinds.json").read_text("utf-8"))
needs_pylatexenc = pytest.mark.skipif(find_spec("pylatexenc") is None, reason="needs pylatexenc")


@needs_pylatexenc
@pytest.mark.parametrize("case", GOLDEN["omnidocbench_text_normalisation"], ids=lambda case: case["label"])
def test_the_normalised_texts_and_their_distance_are_the_official_ones(case):
    assert [normalised(case["label"]), normalised(case["answer"])] == case["norm"]
    scored = score(case["answer"], case["label"])
    assert scored[NAME] == pytest.approx(case["omnidocbench_text_norm_edit"], abs=1e-9)


def test_only_letters_digits_and_underscores_stay_in_their_case():
    assert normalised("A b-c_1,\t2 \u4e2d\u6587\uff0c and/now \\to") == "Abc_12\u4e2d\u6587andowo"


def test_a_page_is_the_edits_of_its_blocks_over_their_lengths():
    blocks = [score("abcd", "abcx"), score("", "abcdef"), score("...", "---")]
    assert page_rate(blocks) == (1 + 6 + 0) / (4 + 6 + 0)
    assert blocks[2][NAME] == 0.0


@needs_pylatexenc
def test_dollars_without_a_formula_stay_and_unfinished_formulas_do_not_stop_it():
    assert omnidocbench_text.unicode_formulas("from $5 to $6") == "from $5 to $6"
    assert normalised(r"a $\frac{1$ b") != ""


def test_without_pylatexenc_texts_without_formulas_are_still_scored(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pylatexenc", None)
    monkeypatch.setitem(sys.modules, "pylatexenc.latex2text", None)
    assert score("a b", "ab")[NAME] == 0.0
    with pytest.raises(AnswerError, match="pylatexenc is not installed"):
        normalised("$x^2$")
    assert score("$x^2$", "x")[NAME] is None
