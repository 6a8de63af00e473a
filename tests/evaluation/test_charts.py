"""Charts: SCRM, titles and RMS against the official values and by hand."""

import json
from pathlib import Path

import pytest

from got_train.evaluation.metrics.charts import RMS_NAMES, averages, rms, score, similarity
from got_train.formats.charts import chart, table, title

GOLDEN = json.loads((Path(__file__).parents[1] / "fixtures" / "metrics_golden_kinds.json").read_text("utf-8"))


@pytest.mark.parametrize("case", GOLDEN["charts_scrm"], ids=lambda case: case["id"])
def test_scrm_is_onechart_s_to_1e_9(case):
    averaged = averages([score(json.dumps(case["answer"]), json.dumps(case["label"]))])
    values = case["values"]["onechart_SCRM(single sample)"]
    assert len(values) == 13
    for name, value in values.items():
        assert averaged[name.replace("map_", "ap_")] == pytest.approx(value, abs=1e-9), name


@pytest.mark.parametrize("case", GOLDEN["charts_titles"], ids=lambda case: case["label"][0])
def test_titles_are_onechart_s(case):
    scores = [title(*pair) for pair in zip(case["answer"], case["label"], strict=True)]
    assert sum(scores) / len(scores) == pytest.approx(case["onechart_ocr_eval"], abs=1e-5)


@pytest.mark.parametrize("case", GOLDEN["charts_rms"], ids=lambda case: case["id"])
def test_rms_is_deplot_s_to_1e_9(case):
    expected = case["values"]["RMS_direct_best_of_transposed(precision,recall,f1)"]
    assert rms(table(case["answer"]), table(case["label"])) == pytest.approx(expected, abs=1e-9)


def test_a_similarity_of_0_6_reaches_two_thresholds_as_published():
    reference = {name: place for place, name in enumerate("abcde", 1)}
    prediction = {name: reference[name] for name in "abc"}
    assert similarity(prediction, reference, "strict") == 0.6
    assert score(json.dumps(prediction), json.dumps(reference))["ap_strict"] == 0.2


def test_the_ap_of_two_charts_is_the_share_that_reaches_a_threshold():
    pairs = [
        score('{"a": 1}', '{"a": 1}'),
        score('{"a": 1}', '{"a": 1, "b": 2}'),
        score("no chart", '{"a": 1}'),
    ]
    averaged = averages(pairs)
    assert averaged["ap_50_strict"] == pytest.approx(2 / 3)
    assert averaged["ap_75_strict"] == pytest.approx(1 / 3)
    assert averaged["ap_strict"] == pytest.approx((1.0 + 0.1 + 0.0) / 3)
    assert averaged["em"] == averaged["ap_75_strict"]
    assert averaged["parses"] == pytest.approx(2 / 3)


ONECHART = {
    "title": "Fruit sold",
    "source": "None",
    "x_title": "Fruit",
    "y_title": "kg",
    "values": {"Apples": 120},
}


def test_a_chart_of_onechart_has_titles_and_those_it_has_not_do_not_count():
    answer = dict(ONECHART, title="Fruit gold", x_title="None", values={"Apples": "120 kg"})
    scored = score(json.dumps(answer), json.dumps(ONECHART))
    assert (scored["title"], scored["source"], scored["x_title"], scored["y_title"]) == (0.9, None, 0.0, 1.0)
    assert scored.missing_reasons == {"source": "the reference has none"}
    assert scored["em"] is True


def test_python_s_quotes_and_missing_braces_are_taken():
    assert chart(str(ONECHART)) == ONECHART
    assert chart(json.dumps(ONECHART)[:-2]) == ONECHART
    for text in ("", "[1, 2]", '{"values": [1]}', '{"a": ', "__import__('os')"):
        assert score(text, json.dumps(ONECHART))["parses"] is False


def test_rms_of_objects_takes_series_as_columns():
    reference = {"values": {"North": {"2019": 5, "2020": 6}}}
    swapped = {"values": {"2019": {"North": 5}, "2020": {"North": 6}}}
    assert [score(json.dumps(swapped), json.dumps(reference))[name] for name in RMS_NAMES] == [1.0, 1.0, 1.0]
    # one of two points is 4 % off: (1 + 0.96) / 2
    near = {"values": {"North": {"2019": 5, "2020": 6.24}}}
    assert score(json.dumps(near), json.dumps(reference))["rms_f1"] == pytest.approx(0.98)


def test_two_empty_charts_are_equal_and_a_reference_that_is_none_has_no_score():
    assert similarity({}, {}, "strict") == 1.0
    assert score('{"a": 1}', "words")["ap_strict"] is None
