import io
import json

import numpy as np
import pytest
from PIL import Image

from data_tools import produce
from data_tools.drawing import renderers
from data_tools.engines import formulas
from data_tools.text import tex_source
from data_tools.text.formula_grammar import Grammar
from data_tools.text.tex_source import EndlessError, Formula

node = pytest.mark.skipif(
    not renderers.available("node", "npm:mathjax-full", "npm:@resvg/resvg-js"),
    reason="needs node and MathJax",
)
latex = pytest.mark.skipif(
    not renderers.available("pdflatex", *(f"tex:{name}" for name in formulas.TEX_NEEDS)), reason="needs TeX"
)

PAPER = r"""
\documentclass{article}
\newcommand{\R}{\mathbb R}
\newcommand*\norm[1]{\left\lVert #1\right\rVert}
\newcommand{\pd}[2][]{\frac{\partial #1}{\partial #2}}
\def\eps{\varepsilon} \def\half#1{\frac12 #1}
\DeclareMathOperator*{\argmin}{arg\,min} \DeclareMathOperator{\tr}{tr}
\let\oldphi\phi \renewcommand{\phi}{\varphi}\newcommand\both{\oldphi,\phi}
\newcommand{\be}{\begin{equation}}\newcommand{\ee}{\end{equation}}
\DeclarePairedDelimiter{\abs}{\lvert}{\rvert}
\begin{document}
Let $x\in\R^n$ and $ \norm{ x_1 } \le \eps $. % comment $y$
\verb|$no$| \be \argmin_x f(x) = \pd[f]x + \pd y \label{eq:1} \ee
\begin{align*} a &= b^2 , \nonumber \\[2pt] &= \half c_\text{max} \end{align*}
$\both$ and $\abs{x}+\abs*{\frac{a}b}$; $\tr A^\mathrm T$ costs \$5 and $\text{if $x>0$ then}$
\begin{verbatim} $a$ \end{verbatim} \input{more}
$$ \sqrt[3] {x} \mbox{ for all }x' $$ \begin{align} z=1 \end{align}
\begin{eqnarray} a &=& b\\ c&=&d \end{eqnarray}
\end{document} $after$
"""
EXPECTED = [  # worked by hand
    (r"x\in\mathbb{R}^{n}", False),
    (r"\left\lVert x_{1}\right\rVert\le\varepsilon", False),
    (r"\operatorname*{argmin}_{x}f(x)=\frac{\partial f}{\partial x}+\frac{\partial}{\partial y}", True),
    (r"\begin{aligned}a&=b^{2},\\&=\frac{1}{2}c_{\text{max}}\end{aligned}", True),
    (r"\phi,\varphi", False),
    (r"\lvert x\rvert+\left\lvert\frac{a}{b}\right\rvert", False),
    (r"\operatorname{tr}A^{\mathrm{T}}", False),
    (r"\text{if }x>0\text{ then}", False),
    (r"\varepsilon^{2}", False),
    (r"\sqrt[3]{x}\text{ for all }x'", True),
    ("z=1", True),
    (r"\begin{array}{rcl}a&=&b\\c&=&d\end{array}", True),
]


@pytest.fixture
def paper(tmp_path):
    path = tmp_path / "paper.tex"
    path.write_text(PAPER)
    (tmp_path / "more.tex").write_text(r"and $\eps^2$")
    return path


def mask(tex, display=True, em=40):
    engine = engine_of()
    return np.asarray(engine._by_mathjax(Formula(tex, display), em).mask)


def engine_of(**changed):
    settings = {
        "formulas": (), "generated": 1.0, "display": 0.7, "count": (1, 1), "sizes": (24, 40),
        "renderer": "mathjax", "seed": 0,
    }  # fmt: skip
    return formulas.FormulaEngine(**{**settings, **changed})


def image_of(row):
    return np.asarray(Image.open(io.BytesIO(row.pictures[0].data)))


def test_formulas_of_a_paper_come_out_with_its_macros_expanded(paper):
    found = [(formula.tex, formula.display) for formula in tex_source.read_formulas(paper)]
    assert found == EXPECTED


def test_the_spelling_is_its_own_canonical_form(paper):
    grammars = (Grammar(seed) for seed in range(300))
    made = [text for grammar in grammars for text in (grammar.formula(), grammar.inline())]
    for tex in [formula for formula, _ in EXPECTED] + made:
        assert tex_source.canonical(tex_source.tokens(tex)) == tex


def test_a_macro_that_defines_itself_ends_and_one_that_doubles_is_refused(tmp_path):
    path = tmp_path / "a.tex"
    path.write_text(r"\def\x{\x y}$\x$")
    assert len(list(tex_source.read_formulas(path))) == 1
    assert [each.tex for each in tex_source.read_formulas(path)][0].startswith("\\x")
    path.write_text(r"\def\x{\x}\newcommand\y[1][a]{\y} $\x$ $b$")  # neither comes to an end nor writes
    assert "b" in [each.tex for each in tex_source.read_formulas(path)]
    path.write_text(r"\newcommand\y[1][a]{\y} $\y$ $b$")
    with pytest.raises(EndlessError, match="without end"):
        list(tex_source.read_formulas(path))
    path.write_text(r"\def\x{\x\x}$\x$")
    with pytest.raises(EndlessError, match=r"a\.tex: its macros expand without end"):
        list(tex_source.read_formulas(path))


@node
def test_wrong_tex_is_rejected_and_never_drawn():
    engine = engine_of()
    causes = []
    for tex in (
        r"\foo x",
        "x^",
        r"\frac{a}",
        r"\left(x",
        "",
        r"\newcommand{\q}{x}\q",
        r"\href{a}{b}",
        "\u00e9",
    ):
        with pytest.raises(produce.Rejected) as caught:
            engine._by_mathjax(Formula(tex, True), 30)
        causes.append(caught.value.cause)
    assert causes[0] == "MathJax rejects it: Undefined control sequence ..."
    assert causes[-1] == "formula with a character that MathJax has no glyph for"


@node
def test_rules_of_arrays_and_frames_are_drawn():
    """MathJax leaves them to a style sheet."""
    for with_rule, without in (
        (r"\begin{array}{c|c}a&b\end{array}", r"\begin{array}{cc}a&b\end{array}"),
        (r"\begin{array}{c}a\\\hline b\end{array}", r"\begin{array}{c}a\\b\end{array}"),
        (r"\boxed{a}", "a"),
    ):
        ink, less = (int((mask(tex) > 128).sum()) for tex in (with_rule, without))
        assert ink > less + 40


@node
def test_a_picture_of_known_glyphs_has_them():
    one, two = mask("x"), mask("xx")
    assert np.array_equal(two[:, : one.shape[1] - 1] > 128, one[:, :-1] > 128)
    assert not np.array_equal(mask("x"), mask("y"))
    large = mask("x", em=80)
    assert abs(large.shape[0] - 2 * one.shape[0]) <= 2


@node
def test_mathjax_reads_every_made_up_formula():
    engine = engine_of(chinese_font=None)
    for seed in range(150):
        grammar = Grammar(seed)
        for formula in (Formula(grammar.formula(), True), Formula(grammar.inline(), False)):
            assert engine._ask(formula, 24, draw=False)["text"] == ""


@node
def test_one_index_gives_the_same_bytes_in_any_engine_and_several_formulas_a_line_each():
    rows = [engine_of(count=(3, 3)).rows(5, produce.generator(0, "formulas", 5, 0)) for _ in range(2)]
    assert rows[0] == rows[1]
    lines = rows[0][0].text.split("\n")
    assert len(lines) == 3
    assert all(line[:2] + line[-2:] in (r"\(\)", r"\[\]") for line in lines)
    assert rows[0][0].task == "format"


@node
def test_hidden_ink_is_rejected():
    for tex in (r"a\phantom{b}", r"a\hspace{-1em}b", r"\smash{x}"):
        engine = engine_of(formulas=(("a.tex", (Formula(tex, True),)),), generated=0.0)
        with pytest.raises(produce.Rejected, match="hides or moves ink"):
            engine.rows(0, produce.generator(0, "formulas", 0, 0))


@node
def test_the_command_writes_the_users_formulas(paper, tmp_path):
    out = tmp_path / "out"
    arguments = ["--out", out, "--count", 24, "--tex", paper, "--container", "folder", "--num-workers", 1]
    assert formulas.main([str(each) for each in arguments]) == 0
    records = [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]
    targets = {rf"\[{tex}\]" if display else rf"\({tex}\)" for tex, display in EXPECTED}
    assert {record["text"] for record in records} <= targets
    assert all(record["meta"]["source"] == ["paper.tex"] for record in records)


@node
@latex
def test_latex_sets_what_mathjax_accepts_alone_or_in_a_batch(monkeypatch):
    def rows(batch):
        monkeypatch.setattr(formulas, "BATCH", batch)
        engine = engine_of(renderer="latex", count=(1, 2))
        found = []
        for index in range(8):
            try:
                found += engine.rows(index, produce.generator(0, "formulas", index, 0))
            except produce.Rejected as rejected:
                found.append(rejected.cause)
        return found

    together = rows(8)
    assert together == rows(3)
    made = [row for row in together if not isinstance(row, str)]
    assert len(made) >= 6
    assert {row.meta["font"] for row in made} <= set(formulas.PREAMBLES)
    assert all(image_of(row).min() < 128 < image_of(row).max() for row in made)
