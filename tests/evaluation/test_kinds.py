"""Which kind a reference is of, and the scores of many pairs in several processes."""

import pytest

from got_train.evaluation.metrics import kinds
from got_train.evaluation.metrics.kinds import KINDS, kind_of, module_of, score, score_all
from got_train.evaluation.metrics.values import Values, means, missing, rate, reasons

TABLE = r"\begin{tabular}{l} a \\ \end{tabular}"
TIKZ = r"\begin{tikzpicture}\draw (0,0);\end{tikzpicture}"


@pytest.mark.parametrize(
    ("reference", "task", "kind"),
    [
        ("", "ocr", "blank"),
        (" \n", None, "blank"),
        ("Some words, 5% of $12 and $13.", None, "text"),
        ("Some words with $x^2$ in them", None, "page"),
        ("# A heading\nand words", "format", "page"),
        (f"Words above\n{TABLE}", "format", "page"),
        (TABLE, "format", "table"),
        (f"\\begin{{table}}[h]\n\\centering\n\\caption{{x}}\n{TABLE}\n\\end{{table}}", "format", "table"),
        ("| a | b |\n|---|---|\n| 1 | 2 |", None, "table"),
        ("<table><tr><td>a</td></tr></table>", None, "table"),
        (r"\[ x^2 \]", "format", "formula"),
        ("\\begin{align*}\na &= b\n\\end{align*}\n\\( c \\)", None, "formula"),
        ("<smiles>CCO</smiles>", "format", "molecule"),
        ("CCO", "smiles", "molecule"),
        ("CCO", "molecule", "molecule"),
        ("**kern\n4C\n*-", "ocr", "music"),
        (TIKZ, "format", "geometry"),
        ("{'title': 'a', 'values': {'b': 1}}", "format", "chart"),
        ('{"b": 1}', None, "chart"),
        ("{not a chart}", None, "text"),
        ("[1,2,30,40] a line\n[1,50,30,60] another", "spot", "spot"),
        ("[1,2,30,40] a line\n[1,50,30,60] another", "format", "spot"),
        ("[1,2,30,40] a line\nand words", "format", "text"),
        ("# no heading\n$x^2$", "ocr", "text"),
    ],
)
def test_the_kind_of_a_reference(reference, task, kind):
    assert kind_of(reference, task) == kind


def test_every_kind_with_a_module_scores_a_perfect_answer_and_an_empty_one():
    references = {
        "table": TABLE,
        "formula": r"\[ x \]",
        "molecule": "CCO",
        "music": "**kern\n4C\n*-",
        "chart": '{"b": 1}',
        "spot": "[1,2,30,40] a line",
    }
    assert {*references, "geometry"} == {*kinds.MODULES}
    for kind, reference in references.items():
        for prediction in (reference, ""):
            values = score(kind, prediction, reference)
            assert {name for name, value in values.items() if value is None} == {*values.reasons}
            assert set(module_of(kind).averages([values])) >= set(values)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in kinds.MODULES])
def test_the_other_kinds_have_no_values_of_their_own(kind):
    assert module_of(kind) is None
    assert score(kind, "a", "b") == {}


def test_two_processes_give_the_scores_of_one_in_order():
    pairs = [("table", TABLE.replace(" a ", f" {name} "), TABLE) for name in "abcd"] + [
        ("music", "x", "**kern")
    ]
    one, two = list(score_all(pairs)), list(score_all(pairs, processes=2))
    assert one == two
    assert [pair["teds"] for pair in two[:4]] == [1.0, 0.5, 0.5, 0.5]
    assert two[4].parts == one[4].parts != {}


def test_means_leave_out_what_is_missing_and_say_why():
    pairs = [
        Values({"a": 1.0, "b": True}),
        Values({"a": None, "b": False}, {"a": "too large"}),
        missing(["a"], "no"),
    ]
    assert means(pairs) == {"a": 1.0, "b": 0.5}
    assert means(pairs[1:2])["a"] is None
    assert reasons(pairs) == {"a": {"too large": 1, "no": 1}}


def test_a_rate_of_all_pairs_weighs_them_by_their_length():
    pairs = [Values({"a": 0.5}, parts={"a": (1, 2)}), Values({"a": 0.0}, parts={"a": (0, 8)})]
    assert rate(pairs, "a") == 0.1
    assert rate(pairs, "b") is None
    assert rate([Values({}, parts={"a": (1, 0)})], "a") == 1.0
