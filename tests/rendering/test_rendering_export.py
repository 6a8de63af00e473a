"""Answers as Markdown, Word and JSON, read back by other libraries; and the commands around rendering."""

import io
import json
import re
from pathlib import Path

import pytest

from got_train.cli import render as command
from got_train.errors import RenderingError
from got_train.formats import latex, node_packages
from got_train.formats.tables import find_tables
from got_train.rendering import mathpix, word
from got_train.rendering.document import Reading
from got_train.rendering.export import export
from got_train.rendering.table_grid import grid

MarkdownIt = pytest.importorskip("markdown_it").MarkdownIt
needs_word = pytest.mark.skipif(word.unavailable() is not None, reason=str(word.unavailable()))
PAGE = (
    "\\title{A \\(x\\)}\n\n\\section*{One}\nIt costs $5; **bold** <script>x</script> [l](javascript:x) 2*3*4 "
    "\\(y^2\\)\n\n\\begin{tabular}{lll} \\multicolumn{2}{c}{ab} & \\multirow{2}{*}{c|d} \\\\ "
    "e & \\(z\\) & \\\\ \\end{tabular}\n\n\\[ \\frac{1}{2} \\]\n\n"
    "\\begin{itemize}\n\\item p\n\\item q\n\\end{itemize}"
)


def text_of(made):
    return made.decode("utf-8")


def test_markdown_is_read_back_as_what_was_written():
    made = text_of(export([Reading("", PAGE)], "md"))
    assert made.startswith("# A $x$\n\n## One\n\nIt costs \\$5; **bold** \\<script>")
    tokens = MarkdownIt("commonmark", {"html": True}).parse(made)
    assert [token.content for token in tokens if token.type == "html_block"] == [
        '<table><tr><td colspan="2">ab</td><td rowspan="2">c|d</td></tr>'
        "<tr><td>e</td><td>$z$</td></tr></table>\n"
    ]
    inline = [child for token in tokens for child in token.children or []]
    assert not [child for child in inline if child.type in ("html_inline", "link_open", "image")]
    said = "".join(child.content for child in inline if child.type == "text")
    assert "It costs $5; bold <script>x</script> [l](javascript:x) 2*3*4 $y^2$" in said


def test_tables_are_pipes_only_where_no_cell_spans_others():
    plain = "\\begin{tabular}{ll} a & b|c \\\\ \\(z\\) & \\$ \\\\ \\end{tabular}"
    made = text_of(export([Reading("", plain), Reading("", PAGE)], "md", "pipes"))
    assert made.startswith("| a | b\\|c |\n| --- | --- |\n| $z$ | \\$ |\n\n---\n\n# A")
    assert "<table>" in made
    rows = MarkdownIt("commonmark").enable("table").parse(made)
    assert [token.content for token in rows if token.type == "inline"][:4] == ["a", "b|c", "$z$", "\\$"]


def test_plain_text_in_markdown_keeps_its_signs():
    text = "# no heading *x* <b> \\(y\\) _z_ [a]: b\n- item $1$ `c`"
    made = text_of(export([Reading("", text, "ocr")], "md"))
    tokens = MarkdownIt("commonmark").parse(made)
    assert [token.type for token in tokens] == ["paragraph_open", "inline", "paragraph_close"]
    shown = [child.content or "\n" for child in tokens[1].children]
    assert "".join(shown) == text


def test_numbers_that_begin_lines_of_plain_text_count_nothing():
    text = "1986. What a year\n7) seven\n# not a heading\n\n    3. four spaces\n3.5 no"
    html = MarkdownIt("commonmark").render(text_of(export([Reading("", text, "ocr")], "md")))
    assert not re.search("<ol|<h1|<pre", html)
    words = " ".join(re.sub("<[^>]*>", " ", html).split())
    assert words == "1986. What a year 7) seven # not a heading 3. four spaces 3.5 no"


def test_json_has_the_text_as_it_was_read_and_its_blocks():
    found = json.loads(export([Reading("p. 1", PAGE), Reading("p. 2", "a", "ocr")], "json"))
    first, second = found["pages"]
    assert first["text"] == PAGE
    kinds = [block["kind"] for block in first["blocks"]]
    assert kinds == ["heading", "heading", "paragraph", "table", "formula", "list"]
    assert first["blocks"][0]["level"] == 1
    assert first["blocks"][5]["items"] == ["p", "q"]
    assert second == {"label": "p. 2", "task": "ocr", "text": "a", "blocks": [{"kind": "plain", "text": "a"}]}
    assert text_of(export([Reading("", "a"), Reading("", "b")], "txt")) == "a\n\nb\n"


@needs_word
def test_word_has_headings_merged_cells_and_lists():
    import docx

    made = docx.Document(io.BytesIO(export([Reading("", PAGE + "\0\ud800")], "docx")))
    headings = [each.text for each in made.paragraphs if each.style.name == "Heading 2"]
    assert headings == ["One"]
    assert [each.text for each in made.paragraphs if each.style.name == "List Bullet"] == ["p", "q"]
    table = made.tables[0]
    assert table.cell(0, 0)._tc is table.cell(0, 1)._tc
    assert table.cell(0, 2)._tc is table.cell(1, 2)._tc
    assert [table.cell(0, 0).text, table.cell(0, 2).text, table.cell(1, 0).text] == ["ab", "c|d", "e"]
    assert [run.text for each in made.paragraphs for run in each.runs if run.bold] == ["bold"]


@needs_word
@pytest.mark.skipif(latex.unavailable() is not None, reason=str(latex.unavailable()))
def test_formulas_in_word_are_words_own():
    import docx

    made = docx.Document(io.BytesIO(export([Reading("", "a \\( \\frac{x}{2} \\) b \\( \\bad \\)")], "docx")))
    found = made.element.body.xpath(".//m:oMath//m:f")
    assert len(found) == 1
    parts = ["".join(part.itertext()) for part in found[0] if part.tag.endswith(("}num", "}den"))]
    assert parts == ["x", "2"]
    assert "\\( \\bad \\)" in made.paragraphs[0].text


def test_a_format_that_is_none_and_a_missing_library_are_told(monkeypatch):
    with pytest.raises(
        RenderingError, match="format: pdf, tables html; expected one of html, md, docx, json, txt"
    ):
        export([], "pdf")
    monkeypatch.setattr(word, "find_spec", lambda name: None)
    with pytest.raises(RenderingError, match="docx and mathml2omml not installed"):
        export([], "docx")


def test_cells_stand_at_their_places_behind_those_that_span():
    rows = grid(
        "<table><tr><td rowspan=2>a<td colspan='2'>b</tr><tr><td>c<td>d<br>e</tr>"
        "<tr><td rowspan=99999>f<td colspan=0>g</table>"
    )
    places = [(cell.text, cell.row, cell.column, cell.rows, cell.columns) for row in rows for cell in row]
    assert places == [
        ("a", 0, 0, 2, 1),
        ("b", 0, 1, 1, 2),
        ("c", 1, 1, 1, 1),
        ("d\ne", 1, 2, 1, 1),
        ("f", 2, 0, 1, 1),
        ("g", 2, 1, 1, 1),
    ]


def test_the_command_writes_a_page_of_saved_answers(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(mathpix, "unavailable", lambda: "node is not installed")
    for name in ("a", "b"):
        (tmp_path / f"{name}.mmd").write_text(f"# Title {name}\n")
    answers = [str(tmp_path / "a.mmd"), str(tmp_path / "b.mmd")]
    assert command.main([*answers, "--output", str(tmp_path / "out.html")]) == 0
    assert "<h1>Title b</h1>" in (tmp_path / "out.html").read_text()
    folder = tmp_path / "wrong"
    folder.mkdir()
    (folder / "latin").write_bytes(b"\xff")
    for answer, output, message in (
        (folder / "latin", "x.html", f"{folder}/latin: 'utf-8' codec can't decode"),
        (folder / "none", "x.html", f"{folder}/none: No such file"),
        (tmp_path / "a.mmd", tmp_path / "a.mmd", f"--output: {tmp_path}/a.mmd is an input"),
    ):
        capsys.readouterr()
        assert command.main([str(answer), "--output", str(output)]) == 2
        assert capsys.readouterr().err.startswith(f"render: {message}")
    assert command.main([*answers, "--output", str(tmp_path / "out.pdf")]) == 2
    assert "format: pdf" in capsys.readouterr().err
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.mmd", "b.mmd", "out.html", "wrong"]


def test_the_install_step_lists_licences_and_its_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("GOT_TRAIN_CACHE", str(tmp_path))
    package = tmp_path / "node" / "node_modules" / "mathpix-markdown-it"
    package.mkdir(parents=True)
    about = {"name": "mathpix-markdown-it", "version": "9.9", "license": "MIT"}
    (package / "package.json").write_text(json.dumps(about))
    assert node_packages.packages("mathpix-markdown-it") == tmp_path / "node"
    assert node_packages.packages("no-such-package") is None
    assert "1 packages, 0 MB; licences in LICENCES.txt: MIT (1)" in node_packages.told(tmp_path / "node")
    assert (tmp_path / "node" / "LICENCES.txt").read_text() == "mathpix-markdown-it 9.9: MIT\n"
    monkeypatch.setattr(node_packages.shutil, "which", lambda name: None)
    assert node_packages.main() == 2


def test_reports_draw_scores_drawings_and_charts_until_their_time_is_used_up(monkeypatch):
    from got_train.evaluation.report import renderings

    calls = []
    monkeypatch.setattr(renderings.tikz, "figure", lambda source, seconds: calls.append(source) or 1 / 0)
    budget = renderings.Budget(seconds=0)
    assert budget.drawn("\\begin{tikzpicture}\\end{tikzpicture}", "geometry") is None
    assert calls == []
    chart = budget.drawn("{'values': {'x<b': '1'}}", "chart")  # fast ones go on
    assert chart.startswith('<img class="drawn" alt="chart" src="data:image/svg+xml;base64,')
    assert "<th>x&lt;b</th><td>1</td>" in chart
    assert "no chart" in renderings.drawn("none", "chart")


def test_reports_draw_the_same_text_once_and_say_why_not(monkeypatch):
    from got_train.errors import RenderingError
    from got_train.evaluation.report import renderings

    asked = []

    def refuse(score, seconds):
        asked.append(score)
        raise RenderingError("too <long>")

    monkeypatch.setattr(renderings.music, "pages", refuse)
    budget = renderings.Budget()
    assert [budget.drawn("**kern", "music") for _ in range(3)] == ["<p>not drawn: too &lt;long&gt;</p>"] * 3
    assert asked == ["**kern"]


CUT = {  # an answer that was cut off, what its note begins with, and its blocks
    "a table before other text": (
        (Path(__file__).parents[1] / "fixtures/field/g01b_open.mmd").read_text(),
        "\\begin{tabular} has no end",
        [("table", "a b c d"), ("paragraph", "After text")],
    ),
    "a formula": (
        "cut \\( \\frac{1\n\nAfter text",
        "\\( has no end",
        [("paragraph", ""), ("paragraph", "After text")],
    ),
    "a list": ("\\begin{itemize}\n\\item a\n\\item b", "\\begin{itemize} has no end", [("list", "a b")]),
    "a list before other text": (
        "\\begin{itemize}\n\\item a\n\n\\item b\n\nAfter text",
        "\\begin{itemize} has no end",
        [("list", "a b"), ("paragraph", "After text")],
    ),
    "a list in a list": (
        "\\begin{enumerate}\n\\item a\n\\begin{itemize}\n\\item b\n\\end{enumerate}\n\nAfter text",
        "\\begin{itemize} has no end",
        [("paragraph", ""), ("paragraph", "After text")],  # nested lists stay as they are written
    ),
    "an HTML table before other text": (
        "<table><tr><td>a</td></tr><tr><td>b\n\nAfter text",
        "<table> has no end",
        [("table", "a b"), ("paragraph", "After text")],
    ),
    "an HTML table": ("<table><tr><td>a</td><td>b", "<table> has no end", [("table", "a b")]),
    "a table in a table float": (
        "\\begin{table}\\begin{center}\\begin{tabular}{l} a \\\\ b \\\\ \\end{center}\\end{table} After text",
        "\\begin{tabular} has no end",
        [("table", "a b"), ("paragraph", "After text")],
    ),
}


@pytest.mark.parametrize(("text", "note", "blocks"), CUT.values(), ids=CUT)
def test_what_was_cut_off_is_repaired_and_noted_in_every_format(text, note, blocks, monkeypatch):
    monkeypatch.setattr(mathpix, "unavailable", lambda: "not asked here")
    page = json.loads(export([Reading("", text)], "json"))["pages"][0]
    assert page["text"] == text
    assert page["notes"][0].startswith(note)
    assert [block["kind"] for block in page["blocks"]] == [kind for kind, _ in blocks]
    for block, (kind, words) in zip(page["blocks"], blocks, strict=True):
        shown = " ".join(re.sub("<[^>]*>", " ", block.get("html", block["text"])).split())
        assert not words or shown == words, kind
    markdown = text_of(export([Reading("", text)], "md"))
    assert markdown.startswith(f"> {note}".replace("<", "\\<"))
    html = text_of(export([Reading("", text)], "html"))
    assert f'<p class="note">{note}'.replace("<table>", "&lt;table&gt;") in html
    if ("paragraph", "After text") in blocks:
        assert "\n\nAfter text\n" in markdown
        assert "<p>After text</p>" in html


@needs_word
@pytest.mark.parametrize(("text", "note", "blocks"), CUT.values(), ids=CUT)
def test_what_was_cut_off_is_repaired_and_noted_in_word(text, note, blocks):
    import docx

    made = docx.Document(io.BytesIO(export([Reading("", text)], "docx")))
    assert made.paragraphs[0].style.name == "Intense Quote"
    assert made.paragraphs[0].text.startswith(note)
    tables = [" ".join(cell.text for row in table.rows for cell in row.cells) for table in made.tables]
    assert tables == [words for kind, words in blocks if kind == "table"]
    if ("paragraph", "After text") in blocks:
        assert made.paragraphs[-1].text == "After text"
    items = [line.text for line in made.paragraphs if line.style.name == "List Bullet"]
    assert items == [item for kind, words in blocks if kind == "list" for item in words.split()]


def test_a_chart_that_was_cut_off_is_noted_in_json_and_markdown():
    text = '{"values": {"a": 1, "b": 25'
    note = "the chart was cut off: }} was added, and its last number may be longer"
    assert json.loads(export([Reading("", text)], "json"))["pages"][0]["notes"] == [note]
    assert text_of(export([Reading("", text)], "md")).startswith(f"> {note}")


def test_an_open_table_ends_where_what_it_stands_in_ends():
    text = "\\begin{table}\\begin{tabular}{l} a \\\\ \\begin{tabular}{l} b \\end{tabular} \\end{table} words"
    table = find_tables(text)[0]
    assert (table.closed, text[table.end :]) == (False, "\\end{table} words")
    assert table.html == "<table><tr><td>a</td></tr><tr><td>b</td></tr></table>"
