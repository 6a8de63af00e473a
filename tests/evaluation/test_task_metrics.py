"""The metrics of each type of answer, in one and in several processes."""

import pytest

from got_train.evaluation.metrics.task_metrics import MODULES, module_of, score, score_all
from got_train.evaluation.metrics.values import MetricValues, means, missing_reasons, missing_values, rate
from got_train.formats.answer_types import ANSWER_TYPES

TABLE = r"\begin{tabular}{l} a \\ \end{tabular}"


def test_every_type_with_a_module_scores_a_perfect_answer_and_an_empty_one():
    references = {
        "table": TABLE,
        "formula": r"\[ x \]",
        "molecule": "CCO",
        "music": "**kern\n4C\n*-",
        "chart": '{"b": 1}',
        "spot": "[1,2,30,40] a line",
    }
    assert {*references, "geometry"} == {*MODULES}
    for kind, reference in references.items():
        for prediction in (reference, ""):
            values = score(kind, prediction, reference)
            assert {name for name, value in values.items() if value is None} == {*values.missing_reasons}
            assert set(module_of(kind).averages([values])) >= set(values)


@pytest.mark.parametrize("answer_type", [name for name in ANSWER_TYPES if name not in MODULES])
def test_the_other_types_have_no_values_of_their_own(answer_type):
    assert module_of(answer_type) is None
    assert score(answer_type, "a", "b") == {}


def test_two_processes_give_the_scores_of_one_in_order():
    pairs = [("table", TABLE.replace(" a ", f" {name} "), TABLE) for name in "abcd"] + [
        ("music", "x", "**kern")
    ]
    one, two = list(score_all(pairs)), list(score_all(pairs, processes=2))
    assert one == two
    assert [pair["teds"] for pair in two[:4]] == [1.0, 0.5, 0.5, 0.5]
    assert two[4].counts == one[4].counts != {}


def test_means_leave_out_what_is_missing_and_say_why():
    pairs = [
        MetricValues({"a": 1.0, "b": True}),
        MetricValues({"a": None, "b": False}, {"a": "too large"}),
        missing_values(["a"], "no"),
    ]
    assert means(pairs) == {"a": 1.0, "b": 0.5}
    assert means(pairs[1:2])["a"] is None
    assert missing_reasons(pairs) == {"a": {"too large": 1, "no": 1}}


def test_a_rate_of_all_pairs_weighs_them_by_their_length():
    pairs = [MetricValues({"a": 0.5}, counts={"a": (1, 2)}), MetricValues({"a": 0.0}, counts={"a": (0, 8)})]
    assert rate(pairs, "a") == 0.1
    assert rate(pairs, "b") is None
    assert rate([MetricValues({}, counts={"a": (1, 0)})], "a") == 1.0
