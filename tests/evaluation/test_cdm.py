"""CDM against the values of its authors' program, and by hand."""

import json
import shutil
import time
from pathlib import Path

import numpy
import pytest

from got_train.cli import evaluate as command
from got_train.evaluation.metrics import cdm
from got_train.formats import latex

GOLDEN = json.loads((Path(__file__).parents[1] / "fixtures" / "metrics_golden_kinds.json").read_text("utf-8"))
REASON = latex.unavailable() or (None if shutil.which("xelatex") else "xelatex is not installed")
needs_latex = pytest.mark.skipif(REASON is not None, reason=str(REASON))


def symbols(*rows):
    """Symbols of 10 x 10 pixels, of (token, left, top)."""
    return [cdm.Symbol(token, (x, y, x + 10, y + 10)) for token, x, y in rows]


def test_pairs_count_that_are_the_same_and_moved_together():
    """x and y moved by 100 pixels, as did z; of four symbols one is another."""
    expected = symbols(("x", 0, 0), ("y", 20, 0), ("z", 40, 0), ("w", 60, 0))
    found = symbols(("x", 100, 0), ("y", 120, 0), ("z", 140, 0), ("v", 160, 0))
    assert cdm._rates(found, expected) == {
        "cdm_f1": 0.75,
        "cdm_precision": 0.75,
        "cdm_recall": 0.75,
        "cdm_exact": False,
    }
    assert cdm._rates(found[:3], expected)["cdm_f1"] == pytest.approx(2 * 3 / 7)
    assert cdm._rates([], expected)["cdm_f1"] == 0.0
    assert cdm._rates([], [])["cdm_exact"] is True


def test_a_symbol_that_went_astray_is_wrong_and_a_line_that_moved_as_a_whole_is_not():
    lines = [("a", 0, 0), ("b", 20, 0), ("c", 40, 0), ("d", 0, 100), ("e", 20, 100), ("f", 40, 100)]
    moved = [(token, x + 200 * (y > 0), y) for token, x, y in lines]
    assert cdm._right(symbols(*moved), symbols(*lines)) == 6
    astray = [*lines[:5], ("f", 40, 300)]
    assert cdm._right(symbols(*astray), symbols(*lines)) == 5


def test_boxes_are_where_the_colors_are():
    picture = numpy.full((20, 30, 3), 255, numpy.uint8)
    picture[3:5, 4:9] = (0, 0, 20)  # the second
    picture[10, 11] = (0, 20, 0)  # the 13th
    boxes = cdm._boxes(picture, 13)
    assert [boxes[0], boxes[1], boxes[12]] == [None, (4, 3, 9, 5), (11, 10, 12, 11)]


# F1, precision, recall by the authors' program: xelatex of TeX Live 2022, Ghostscript at 200 dpi
AUTHORS = {
    "f_wrong_digit": (0.909, 0.909, 0.909),
    "f_case": (0.941, 0.941, 0.941),
    "f_align": (1.0, 1.0, 1.0),
    "f_zh": (1.0, 1.0, 1.0),
    "f_tag": (0.833, 1.0, 0.714),
}


@needs_latex
@pytest.mark.slow
@pytest.mark.parametrize("name", AUTHORS)
def test_the_authors_values_are_met_within_five_hundredths(name):
    """That far apart are programs that draw the PDF."""
    case = next(case for case in GOLDEN["formulas"] if case["id"] == name)
    found = cdm.score(case["answer"], case["label"])
    assert [found[name] for name in cdm.NAMES[:3]] == pytest.approx(AUTHORS[name], abs=0.05)
    assert found["cdm_exact"] == (AUTHORS[name][0] == 1.0)


@needs_latex
def test_every_symbol_of_a_formula_with_all_sorts_of_commands_is_found():
    """Both brackets of a pair, and the bars of a fraction or a root, are one symbol each."""
    formula = r"\sqrt[3]{x} \left( \frac{a}{b} \middle| \dfrac12 \right) \neq \sum_{i=1} \hat{y} \bigl[ \bmod"
    formula += r" \cancel{z}"
    seen = cdm.symbols(formula)
    assert [each.token for each in seen] == [
        *("\\sqrt", "3", "x", "\\left(", "\\frac", "a", "b", "\\frac", "1", "2", "\u2260", "\\sum", "i", "="),
        *("1", "\\hat", "y", "\\bigl", "m", "o", "d", "\\cancel", "z"),
    ]


def test_without_latex_or_time_it_says_so(monkeypatch):
    monkeypatch.setattr(cdm, "unavailable", lambda: "pdflatex is not installed")
    assert cdm.score("x", "x").missing_reasons["cdm_f1"] == "pdflatex is not installed"
    assert cdm.score_until("x", "x", time.time() - 1).missing_reasons["cdm_f1"] == "the time for CDM was up"


@needs_latex
def test_a_self_test_that_fails_is_told_instead_of_scores(monkeypatch):
    monkeypatch.setattr(cdm, "_KNOWN", ((r"a", r"b", 1.0),))
    monkeypatch.setattr(cdm, "symbols", lambda formula: symbols((formula, 0, 0)))
    assert cdm.unavailable.__wrapped__() == "the self-test failed: a for b has 0.0, not 1.0"


def test_the_command_adds_cdm_to_formulas(tmp_path, monkeypatch):
    monkeypatch.setattr(cdm, "unavailable", lambda: "pdflatex is not installed")
    rows = [{"reference": r"\[ x \]", "prediction": r"\[ x \]", "task": "formula"}]
    (tmp_path / "p.jsonl").write_text(json.dumps(rows[0]))
    options = [
        "--predictions",
        str(tmp_path / "p.jsonl"),
        "--output-dir",
        str(tmp_path / "out"),
        "--no-report",
    ]
    assert command.main([*options, "--cdm-timeout", "60"]) == 0
    found = json.loads((tmp_path / "out" / "metrics.json").read_text("utf-8"))["answer_types"]["formula"]
    assert found["missing_reasons"]["cdm_f1"] == {"pdflatex is not installed": 1}
    assert found["averages"]["formula_edit"] == 0.0
    assert command.main(options) == 0
    assert "cdm_f1" not in (tmp_path / "out" / "metrics.json").read_text("utf-8")
