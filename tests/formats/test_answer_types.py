"""What kind of thing a reference is."""

import pytest

from got_train.formats.answer_types import answer_type

TABLE = r"\begin{tabular}{l} a \\ \end{tabular}"
TIKZ = r"\begin{tikzpicture}\draw (0,0);\end{tikzpicture}"


@pytest.mark.parametrize(
    ("reference", "task", "expected"),
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
def test_a_reference_tells_the_type_of_answer(reference, task, expected):
    assert answer_type(reference, task) == expected
