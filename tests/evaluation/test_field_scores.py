"""Predictions as people bring them, whose scores were wrong without a word."""

from pathlib import Path

import pytest

from got_train.evaluation.comparison import metric_deltas
from got_train.evaluation.inputs import read_predictions
from got_train.evaluation.metrics import formulas, molecules, teds
from got_train.evaluation.predictions import Prediction
from got_train.evaluation.scored import score_predictions
from got_train.formats.plain_text import canonical_text
from got_train.tokenizer import Tokenizer

FIELD = Path(__file__).parents[1] / "fixtures" / "field"


def values(file, metric):
    return [scored.value(metric) for scored in score_predictions(read_predictions(FIELD / file))]


def test_tags_in_upper_case_are_the_same_table():
    assert values("e01_heads.jsonl", "table.teds") == [1.0] * 5
    assert values("e01_heads.jsonl", "table.teds_s") == [1.0] * 5
    mixed = "<Table><TR><td>a</TD></tr></taBLE>"
    assert teds.score(mixed, mixed.lower())["teds"] == 1.0


def test_of_two_tables_each_counts_a_missing_one_and_an_invented_one_too():
    """First only, second only, both, one too many."""
    assert values("e03_two.jsonl", "table.teds") == [0.5, 0.5, 1.0, 0.5]


def test_tables_in_another_order_are_each_compared_with_their_own():
    cells = [f"<table><tr><td>{text}</td></tr></table>" for text in ("oranges", "lemons", "plums")]
    assert teds.score("".join(cells), "".join(reversed(cells)))["teds"] == 1.0


def test_a_second_formula_that_is_missing_or_invented_counts():
    one, two = r"\[ a+b \]", "\\[ \\frac{c}{d} \\]"
    both = f"{one}\n{two}"
    assert formulas.score(both, both)["formula_exact"] is True
    for prediction, reference in ((one, both), (two, both), (both, one)):
        scored = formulas.score(prediction, reference)
        assert (scored["formula_exact"], scored["formula_edit"]) == (False, 0.5)
    wrong = formulas.score(f"{one}\n" + r"\[ \frac{c}{x} \]", both)
    assert wrong["formula_edit"] == pytest.approx(1 / len(r"\frac{c}{d}") / 2)


def test_a_second_molecule_that_is_missing_counts():
    both, one = "<smiles>CCO</smiles>\n<smiles>CCN</smiles>", "<smiles>CCO</smiles>"
    assert molecules.score(both, both)["smiles_edit"] == 0.0
    assert molecules.score(one, both)["smiles_edit"] == 0.5
    assert molecules.score(both, one)["smiles_edit"] == 0.5
    if molecules.unavailable() is None:
        assert molecules.score(both, both)["exact"] is True
        half = molecules.score(one, both)
        assert (half["exact"], half["tanimoto"]) == (False, 0.5)


def test_a_reference_in_another_unicode_form_can_be_reached():
    assert values("e05_nfd.jsonl", "edit_distance") == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    "reference",
    ["two\nlines\n", "two\r\nlines", "two\rlines", " two\nlines\t", "\ufefftwo\nlines", "two\nlines"],
)
def test_line_ends_and_white_space_around_a_reference_do_not_count(reference):
    scored = score_predictions([Prediction(reference, "two\nlines", "ocr")])[0]
    assert (scored.value("edit_distance"), scored.value("cer"), scored.value("exact_match")) == (
        0.0,
        0.0,
        1.0,
    )
    inner = score_predictions([Prediction(reference, "two\n\nlines", "ocr")])[0]
    assert inner.value("edit_distance") == 1 / 10


def test_the_tokenizer_writes_the_form_that_texts_are_compared_in():
    tokenizer = Tokenizer({bytes([byte]): byte for byte in range(256)})
    decomposed = "Zu\u0308rich \u1100\u1161 e\u0301"
    assert (
        tokenizer.decode(tokenizer.encode(decomposed))
        == canonical_text(decomposed)
        == "Z\u00fcrich \uac00 \u00e9"
    )


def test_two_runs_with_one_reference_in_two_forms_are_compared():
    before = score_predictions([Prediction("e\u0301", "x", id=str(n)) for n in range(6)])
    after = score_predictions([Prediction("\u00e9\n", "\u00e9", id=str(n)) for n in range(6)])
    assert metric_deltas(before, after, ["edit_distance"])[0].after == 0.0
