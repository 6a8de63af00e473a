"""Drawings in TikZ against the official values; and what a hostile answer may not do."""

import json
import time
from pathlib import Path

import numpy
import pytest

from got_train.evaluation.metrics import geometry
from got_train.evaluation.metrics.geometry import score, ssim
from got_train.formats import tikz
from got_train.formats.tikz import picture, tokens

GOLDEN = json.loads(
    (Path(__file__).parents[1] / "fixtures" / "metrics_golden_kinds.json").read_text("utf-8")
)["tikz"]
needs_latex = pytest.mark.skipif(tikz.unavailable() is not None, reason=str(tikz.unavailable()))


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["id"])
def test_the_distances_are_the_golden_ones(case, monkeypatch):
    monkeypatch.setattr(geometry, "unavailable", lambda: "not asked here")
    scored = score(case["answer"], case["label"])
    assert scored["geometry_edit"] == pytest.approx(case["values"]["norm_edit_raw"], abs=1e-9)
    assert scored["geometry_token_edit"] == pytest.approx(case["values"]["norm_edit_tokens"], abs=1e-9)
    assert scored["compiles"] is None
    assert scored.missing_reasons["ssim"] == "not asked here"


@needs_latex
@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["id"])
def test_the_pictures_are_as_like_as_the_golden_ones(case):
    scored, values = score(case["answer"], case["label"]), case["values"]
    assert scored["compiles"] is values["compiles"]
    assert scored["pixel_equal"] is values["pixel_equal"]
    assert scored["ssim"] == pytest.approx(values["ssim"], abs=1e-9)


def test_ssim_of_flat_pictures_by_hand():
    # without variance what is left is (2ab + c) / (a^2 + b^2 + c) with c = (0.01 * 255)^2
    sides = numpy.full((9, 9), 100.0), numpy.full((9, 9), 200.0)
    assert ssim(*sides) == pytest.approx((2 * 100 * 200 + 6.5025) / (100**2 + 200**2 + 6.5025), abs=1e-12)
    assert ssim(sides[0], sides[0]) == 1.0


def test_comments_are_no_tokens():
    assert tokens("\\draw (0,0) % from\n-- (1,1); \\% {a}") == tokens("\\draw (0,0) -- (1,1); \\% {a}")
    assert tokens(r"\node[above] {$A$};") == ["\\node", "[", "above", "]", "{", "$A$", "}", ";"]


def drawing(inner):
    return rf"\begin{{tikzpicture}}{inner}\end{{tikzpicture}}"


@needs_latex
def test_an_answer_cannot_run_programs_or_reach_files_outside(tmp_path):
    outside, secret = tmp_path / "outside", tmp_path / "secret.tex"
    secret.write_text("secret")
    assert picture(drawing(rf"\immediate\write18{{touch {outside}}}\draw (0,0) -- (1,1);")) is not None
    assert picture(drawing(rf"\node {{\input{{{secret}}}}};")) is None
    assert picture(drawing(rf"\immediate\openout5={outside} \immediate\write5{{x}}")) is None
    assert not outside.exists()


@needs_latex
def test_an_answer_that_never_ends_is_ended():
    start = time.perf_counter()
    assert picture(drawing(r"\def\a{\a}\a"), seconds=3) is None
    assert time.perf_counter() - start < 8


@needs_latex
def test_what_is_no_drawing_or_a_huge_one_has_no_picture():
    assert picture("only words") is None
    assert picture(drawing(r"\draw (0,0) -- (100,100);")) is None


@needs_latex
def test_a_picture_of_another_size_is_less_like_and_a_broken_reference_has_no_score():
    small, large = drawing(r"\draw (0,0) -- (1,1);"), drawing(r"\draw (0,0) -- (2,1);")
    scored = score(large, small)
    assert 0 < scored["ssim"] < 1
    assert scored["pixel_equal"] is False
    unfit = score(small, "\\begin{tikzpicture}")
    assert (unfit["compiles"], unfit["ssim"]) == (True, None)
    assert unfit.missing_reasons["ssim"] == "the reference does not compile"
