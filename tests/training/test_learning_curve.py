"""The law through known errors, nested shares of documents, a whole small curve, what is refused."""

import json

import numpy as np
import pytest

from got_train.cli import curve
from got_train.data.documents import nested_share
from got_train.data.records import Record
from got_train.training.learning_curve.power_law import PowerLaw, fit, forecast, words

SIZES = [50, 100, 200, 400]


def errors_of(law, spread, rows=200, seeds=3):
    """Of rows whose mean at each size is the law's, with noise."""
    generator = np.random.default_rng(0)
    means = np.array([law(size) for size in SIZES])[None, :, None]
    return means + spread * generator.normal(size=(seeds, len(SIZES), rows))


@pytest.mark.parametrize("law", [PowerLaw(2.0, 0.5, 0.1), PowerLaw(3.0, 1.0, 0.0), PowerLaw(0.0, 0.05, 0.3)])
def test_the_fit_finds_the_law_that_made_the_errors(law):
    found = PowerLaw(*fit(SIZES, np.array([law(size) for size in SIZES]))[0])
    for size in (50, 400, 800, 2000):
        assert found(size) == pytest.approx(law(size), abs=1e-4)


def test_the_interval_holds_what_the_law_says_of_five_times_as_many_and_narrows_with_rows():
    law = PowerLaw(2.0, 0.5, 0.05)
    documents = [str(row) for row in range(200)]
    _, (wide,) = forecast(SIZES, errors_of(law, 0.1), documents, [2000], draws=300)
    _, (narrow,) = forecast(SIZES, errors_of(law, 0.01), documents, [2000], draws=300)
    for each in (wide, narrow):
        assert each.low <= law(2000) <= each.high
    assert narrow.high - narrow.low < 0.5 * (wide.high - wide.low)


def test_the_words_tell_a_falling_curve_from_a_flat_one_and_from_one_that_says_nothing():
    documents = [str(row) for row in range(200)]
    for law, spread, expected in (
        (PowerLaw(2.0, 0.5, 0.0), 0.001, "more pages help"),
        (PowerLaw(0.0, 0.5, 0.3), 0.001, "the curve has flattened"),
        (PowerLaw(2.0, 0.5, 0.0), 3.0, "it cannot be told"),
    ):
        found, (twice, five) = forecast(SIZES, errors_of(law, spread), documents, [800, 2000], draws=300)
        assert words(400, found, twice, five, "edit_distance")[-1].startswith(expected)


def test_shares_take_documents_whole_and_the_smaller_lie_in_the_larger():
    names = [f"{number:02d}" for number in range(30) for _ in range(1 + number % 3)]
    records = [
        Record(images=(f"{place}.png",), task="ocr", text="a", document=name)
        for place, name in enumerate(names)
    ]
    before = set()
    for share in (0.1, 0.25, 0.5, 1.0):
        rows = nested_share(records, share).tolist()
        chosen = {names[row] for row in rows}
        assert rows == [row for row, name in enumerate(names) if name in chosen]
        assert before <= chosen
        assert abs(len(rows) / len(names) - share) < 0.05
        before = chosen
    assert len(before) == 30


def test_a_curve_is_trained_measured_and_told_and_goes_on_where_it_was(fit, tmp_path, capsys):
    data = f"data.validation={tmp_path}/data.jsonl"
    out = tmp_path / "curve"
    command = [str(fit.path), data, "train.max_steps=2", "eval.max_samples=0", "eval.max_new_tokens=8"]
    command += ["--output-dir", str(out), "--shares", "0.25,0.5,1"]
    assert curve.main(command) == 0
    said = capsys.readouterr().out
    assert "with 64 pages edit_distance is " in said
    assert "with 320 pages (five times as many)" in said
    values = json.loads((out / "curve.json").read_text())
    assert [point["rows"] for point in values["measured"]] == [16, 32, 64]
    assert (out / "curve.html").read_text().count("<svg") == 1
    finals = {path: path.stat().st_mtime_ns for path in out.glob("share-*/final/model.safetensors")}
    assert len(finals) == 3
    assert curve.main(command) == 0
    assert capsys.readouterr().out == said
    assert {path: path.stat().st_mtime_ns for path in finals} == finals


def test_too_little_data_for_a_statement_is_refused(fit, tmp_path, capsys):
    data = f"data.validation={tmp_path}/data.jsonl"
    rows = (tmp_path / "data.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "few.jsonl").write_text("".join(rows[:4]))
    for arguments, words_ in (
        ([], "data.validation: every share is measured on it"),
        ([data, "--shares", "0.03,0.5,1"], "documents; a statement needs 5 or more"),
        ([data, "--shares", "0.5,1"], "expected 3 or more"),
        ([f"data.validation={tmp_path}/few.jsonl"], "4 documents; a statement needs 10 or more"),
        ([data, "--metric", "teds"], "no metric teds"),
    ):
        assert curve.main([str(fit.path), *arguments, "--output-dir", str(tmp_path / "out")]) == 2
        assert words_ in capsys.readouterr().err
