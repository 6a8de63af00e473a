"""Scores in **kern: the rates against the official values, the grammar line by line."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from got_train.evaluation.metrics.music import averages, score
from got_train.formats.kern import fault, loads, notes, parses

GOLDEN = json.loads(
    (Path(__file__).parents[1] / "fixtures" / "metrics_golden_kinds.json").read_text("utf-8")
)["kern"]
CASES = pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["id"])


@CASES
def test_the_rates_are_those_of_the_sheet_music_transformer(case):
    scored = score(case["answer"], case["label"])
    for ours, theirs in (("music_cer", "smt_CER%"), ("music_ser", "smt_SER%"), ("music_ler", "smt_LER%")):
        assert 100 * scored[ours] == pytest.approx(case["values"][theirs], abs=1e-9)


def test_averages_are_edits_over_lengths_of_all_pairs_together():
    pairs = [score("a b", "a c"), score("", "a b c d e f")]
    averaged = averages(pairs)
    assert averaged["music_cer"] == (1 + 11) / (3 + 11)
    # no symbols make one empty symbol, as published: the second pair has one to replace and five to insert
    assert averaged["music_ser"] == (1 + 6) / (2 + 6)
    assert averaged["parses"] == 0.0


@CASES
def test_music21_counts_as_many_notes(case):
    assert notes(case["answer"]) == case["values"]["music21_notes"]


@CASES
def test_a_score_parses_where_verovio_loads_it(case):
    assert parses(case["answer"]) is (case["values"]["verovio(subprocess)"] == "loads")


@pytest.mark.skipif(find_spec("verovio") is None, reason="needs verovio")
def test_verovio_may_abort_and_this_process_lives():
    cases = {case["id"]: case for case in GOLDEN}
    assert loads(cases["kern_exact"]["answer"]) is True
    assert loads(cases["kern_truncated"]["answer"]) is False


OPENING, ENDING = "**kern\t**kern\n*clefF4\t*clefG2\n", "\n==\t==\n*-\t*-"


@pytest.mark.parametrize(
    "body",
    [
        "4C\t8ccL\n.\t8ddJ",
        "[2.GG#_\t(16ee-\\LL)",
        "4r\t4c 4e- 4g;",
        "1r\tqqcc",
        "*^\t*\n4C\t4E\t4c\n*v\t*v\t*\n4D\t4d",
        "!!! a comment\n!\t! another\n=2\t=2\n4.CT\t8%3d",
    ],
)
def test_what_kern_allows_parses(body):
    assert fault(OPENING + body + ENDING) is None


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("4C", "line 3: 1 tokens for 2 spines"),
        ("4C\t4H", "line 3: '4H' is not a token of **kern"),
        ("4C\t4cd", "line 3: '4cd' is not a token of **kern"),
        ("4C\tc", "line 3: 'c' is not a token of **kern"),
        ("4C\t=2", "line 3: bar line and data in one line"),
        ("", "line 3: 1 tokens for 2 spines"),
        ("*v\t*v\n4C\t4c", "line 4: 2 tokens for 1 spines"),
    ],
)
def test_what_kern_does_not_allow_is_named(body, reason):
    assert fault(OPENING + body + ENDING) == reason


def test_a_score_has_a_beginning_and_an_end():
    assert fault("4C\n*-") == "line 1: '4C'; **kern opens a score"
    assert fault("**kern\n4C") == "the spines have no end, *-"
    assert fault("**kern\n*-\n4C") == "line 3: something follows the end of all spines"
    assert fault("") == "line 1: ''; **kern opens a score"
