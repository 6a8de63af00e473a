"""Answers as HTML pages, read back by a parser of its own: nothing is lost, nothing runs, faults are told."""

import base64
import contextlib
import random
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from got_train.errors import RenderingError
from got_train.formats import latex, subprocesses
from got_train.formats.tikz import unavailable
from got_train.rendering import charts, mathpix, music, repair, tikz
from got_train.rendering.document import Reading, render
from got_train.rendering.export import export
from got_train.rendering.mathpix import written
from got_train.rendering.sanitize import clean

FIXTURES = Path(__file__).parents[1] / "fixtures" / "rendering"
needs_node = pytest.mark.skipif(mathpix.unavailable() is not None, reason=str(mathpix.unavailable()))
needs_katex = pytest.mark.skipif(latex.unavailable() is not None, reason=str(latex.unavailable()))
needs_tex = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))
needs_verovio = pytest.mark.skipif(music.unavailable() is not None, reason=str(music.unavailable()))


class Page(HTMLParser):
    """Elements with their text, as a browser would build them: the first newline in <pre> is dropped."""

    VOID = ("meta", "br", "link", "img", "hr", "col")

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.elements, self.tags, self.open, self.attributes = [], [], [], set()
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attributes}
        self.elements.append([tag, dict(attributes), ""])
        if tag not in self.VOID:
            self.open.append(len(self.elements) - 1)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        while self.elements[self.open[-1]][0] in ("dt", "dd") and tag not in ("dt", "dd"):
            self.open.pop()  # these may be left open
        assert self.elements[self.open.pop()][0] == tag, "tags are not nested"

    def handle_data(self, data):
        for place in self.open:
            self.elements[place][2] += data

    def texts(self, tag, **attributes):
        found = [
            text for name, given, text in self.elements if name == tag and attributes.items() <= given.items()
        ]
        return [text.removeprefix("\n") if tag == "pre" else text for text in found]

    def notes(self):
        return self.texts("p", **{"class": "note"})


@pytest.fixture
def without_node(monkeypatch):
    monkeypatch.setattr(mathpix, "unavailable", lambda: "node is not installed")


def shown(text, task="format", image=None):
    return Page(render([Reading("", text, task, image)]))


def pictures(page):
    """What the images of a page hold, as text where they are SVG."""
    held = [given["src"] for tag, given, _ in page.elements if tag == "img"]
    return [base64.b64decode(source.partition(",")[2]) for source in held]


PIECES = [
    *("a < b & c > d \"e\" 'f'", "\n", "\n\n", "  ", "\\\\", "&", "{", "}", "\\(", "\\)", "\\[", "\\]", "# "),
    *("\\title{", "\\section*{A}", "\\begin{tabular}{ll}", "\\end{tabular}", "\\hline", "x", "$", "$$", "*"),
    *("\\multirow{2}{*}{m}", "\\begin{itemize}", "\\item", "\\end{itemize}", "<smiles>", "</smiles>"),
    *("<script>alert(1)</script>", "</pre>", "</details>", "<!--", "]]>", "&lt;", "\u732b", "\r", "\ud800"),
    *("{'title': 1}", "\\multicolumn{2}{c}{n}", "<img src=x onerror=alert(2)>", "[l](javascript:alert(3))"),
    *("<table><tr><td onclick=y>", "</table>", "|a|b|\n|-|-|\n", "```", "![p](https://example.com/p.png)"),
    *("\\href{https://example.com}{z}", "\\input{/etc/hostname}", "\\frac{1", "\\left(", "\0"),
]
HANDLERS = {"onclick", "onerror", "onload", "srcset", "action"}
ELEMENTS = {"script", "iframe", "a", "object", "embed", "form", "smiles", "foreignobject", "use"}


def assert_harmless(page):
    assert page.open == []
    assert not ELEMENTS & set(page.tags)
    assert not HANDLERS & page.attributes
    for tag, given, _ in page.elements:
        for name in ("src", "href", "xlink:href"):
            assert given.get(name, "data:").startswith("data:"), (tag, given)


def hostile(seed):
    return "".join(random.Random(seed).choices(PIECES, k=40))


def test_any_text_stands_whole_at_the_end_and_adds_no_element_of_its_own(without_node):
    for seed in range(60):
        for task in ("ocr", "format", "spot"):
            page = shown(hostile(seed), task)
            assert_harmless(page)
            assert page.texts("pre", **{"class": "read"}) == [
                hostile(seed).replace("\ud800", "?").replace("\0", "\u2400")
            ]


@needs_node
def test_the_same_texts_through_node_are_as_harmless():
    page = Page(render([Reading(str(seed), hostile(seed)) for seed in range(60)]))
    assert_harmless(page)
    assert len(page.texts("pre", **{"class": "read"})) == 60


@pytest.mark.parametrize("name", ["chart.json", "formulas.mmd", "molecule.mmd", "receipt.txt", "table.mmd"])
def test_golden_answers_cut_at_every_7th_character_keep_their_words(name, without_node):
    text = (FIXTURES / name).read_text(encoding="utf-8")
    task = "spot" if name == "receipt.txt" else "format"
    cuts = [text[:end] for end in range(0, len(text), 7)]
    sections = render([Reading("", cut, task) for cut in cuts]).split("<article>")[1:]
    assert len(sections) == len(cuts)
    for cut, section in zip(cuts, sections, strict=True):
        page = Page(f"<article>{section.replace('</body></html>', '')}")
        assert page.texts("pre", **{"class": "read"}) == [cut]
        body = Page(section.partition("<details><summary>The text")[0])
        plain = re.sub(r"\\\(.*|\\\[.*|<smiles>.*|\\\w+|\{[^{}]*\}|\[[\d,]*\]|values", " ", cut)
        shown_there = " ".join(text for _, _, text in body.elements)
        assert set(re.findall(r"[^\W\d_]{3,}", plain)) <= set(re.findall(r"[^\W\d_]{3,}", shown_there))


def test_words_of_the_text_are_in_the_body_in_their_order_without_node(without_node):
    words = [f"w{number}" for number in range(100)]
    joins = [
        "",
        "\n",
        " < ",
        "*",
        " \\[",
        "\\] ",
        "\n# ",
        "$",
        "{",
        "} ",
        " \\item ",
        "\\textbf{",
        " & ",
        "\n- ",
    ]
    for seed in range(20):
        choose = random.Random(seed)
        text = " ".join(word + choose.choice(joins) for word in words)
        body = render([Reading("", text)]).partition("<body>")[2].partition("<details>")[0]
        body = re.sub(r'<p class="note">.*?</p>', "", body, flags=re.DOTALL)
        plain = re.sub(r"\s", "", "".join(Page(body + "</article>").texts("article")))
        found = [int(number) for number in re.findall(r"w(\d+)", plain)]
        assert found == list(range(100))


def test_a_page_fetches_nothing_and_says_so_to_the_browser(without_node):
    page = render([Reading("", "# A")])
    assert "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\"" in page
    assert "http" not in page.replace("http-equiv", "")


def test_every_page_of_a_document_is_there(without_node):
    page = Page(render([Reading(f"p. {number}", f"# Title {number}") for number in range(1, 31)]))
    assert page.texts("h1") == [f"Title {number}" for number in range(1, 31)]
    assert page.texts("p", **{"class": "label"}) == [f"p. {number}" for number in range(1, 31)]


@pytest.mark.parametrize(
    ("text", "task", "expected"),
    [
        ("**kern\n4c\n*-", "ocr", ["score"]),
        ("\\begin{tikzpicture}\\end{tikzpicture} **kern", "format", ["score"]),
        ("\\begin{tikzpicture}\\end{tikzpicture}", "ocr", ["plain"]),
        ("a \\begin{tikzpicture}\\end{tikzpicture} b", "format", ["markdown", "drawing", "markdown"]),
        ("{'title': 'A', 'values': {}}", "format", ["chart"]),
        ("{'a': '\\begin{tikzpicture}'", "format", ["markdown", "drawing"]),
        ("a <table><tr><td>1</td></tr></table>", "format", ["markdown", "table"]),
        ("[1,2,3,4] a", "spot", ["spots"]),
        ("# A", "ocr", ["plain"]),
        ("# A", "multi_page", ["markdown"]),
    ],
)
def test_the_order_of_decisions_is_kern_plain_tikz_chart_markdown(text, task, expected):
    assert [part.kind for part in Reading("", text, task).parts()] == expected


@needs_katex
def test_headings_lists_tables_and_formulas_without_node(without_node):
    page = shown(
        "\\title{\nA \\(x\\) title\n}\n\\section*{1 Intro}\ntext **bold**\n\\subsection{1.1}\n## two\nline\n"
        "\\begin{enumerate}\n\\item one\n\\item two\n\\end{enumerate}\n\n\\[ \\frac{1}{2} \\]\n\n"
        "\\begin{tabular}{|l|c|r|} \\hline \\multicolumn{2}{|c|}{ab} & \\multirow{2}{*}{down} \\\\ \\hline"
        "\na \\& b & \\( \\frac{3}{4} \\) & \\\\\\hline\n1 & 2 & 3 \\\\ \\hline\n\\end{tabular}"
    )
    assert page.texts("h1") == ["A x title"]
    assert page.texts("h2") == ["1 Intro", "two"]
    assert page.texts("h3") == ["1.1"]
    assert page.texts("li") == ["one", "two"]
    assert page.texts("b") == ["bold"]
    assert page.texts("mfrac") == ["12", "34"]
    cells = [(said, given) for tag, given, said in page.elements if tag == "td"]
    assert cells[:3] == [("ab", {"colspan": "2"}), ("down", {"rowspan": "2"}), ("a & b", {})]
    assert [said for said, _ in cells[4:]] == ["1", "2", "3"]


@needs_node
def test_mathpix_sets_formulas_tables_and_molecules_and_changes_no_word():
    page = shown(
        '\\section{One}\nIt costs $5 and $6; "quoted" 2*3*4 snake_case_x &copy; a^2+b^2, H~2~O, '
        "\\(E=mc^2\\)\n\n"
        "\\begin{table}\n\\caption{Means}\n\\begin{tabular}{|l|c|r|} \\hline \\multicolumn{2}{|c|}{ab} & "
        "\\multirow{2}{*}{down} \\\\ \\cline { 1 - 2 } 1 & 2 & \\\\ \\hline \\end{tabular}\n\\end{table}\n\n"
        "<smiles>CC(=O)Oc1ccccc1C(=O)O</smiles>\n\n\\begin{align} a &= b \\\\ c &= d \\end{align}"
    )
    assert page.notes() == []
    body = page.texts("body")[0]
    for said in ('costs $5 and $6; "quoted" 2*3*4 snake_case_x &copy; a^2+b^2, H2O,', "Means"):
        assert said in body
    assert "Table 1" not in body.partition("The text as")[0]
    assert [text.strip() for text in page.texts("h2")] == ["One"]  # not "1. One": the page has no number
    spans = [(given.get("colspan"), given.get("rowspan")) for tag, given, _ in page.elements if tag == "td"]
    assert spans == [("2", None), (None, "2"), (None, None), (None, None)]
    assert page.tags.count("mjx-container") == 2
    molecule = [Reading("", "<smiles>CC(=O)Oc1ccccc1C(=O)O</smiles>")]
    assert render(molecule) == render(molecule)
    assert page.tags.count("svg") >= 3


@needs_node
def test_what_mathpix_would_lose_is_set_by_the_other_renderer_and_said():
    text = 'see [1]\n\n[1]: http://host/path "the title"\n'
    page = shown(text)
    assert page.notes()[0].startswith("set by the built-in renderer: mathpix-markdown-it would lose")
    assert '[1]: http://host/path "the title"' in page.texts("p")[-1]


@needs_node
def test_a_formula_or_molecule_that_cannot_be_set_is_source_with_the_reason():
    page = shown("a \\( \\frac{1}} \\) <smiles>C(C</smiles> \\(\\unknowncommand\\) b")
    marked = [(said, given["title"]) for tag, given, said in page.elements if given.get("class") == "source"]
    assert marked[0] == ("\\frac{1}}", "this formula cannot be set: Extra close brace or missing open brace")
    assert marked[1][0] == "C(C"
    assert "parentheses" in marked[1][1]


def test_links_and_pictures_become_words_and_addresses():
    assert clean('<a href="javascript:x()">w</a> <img src="http://h/p.png" alt="d" onerror="x()">') == (
        "w <code>javascript:x()</code> <code>![d](http://h/p.png)</code>"
    )
    assert clean(
        '<p style="color: red; background: url(http://h)" onclick="x()">t<script>s</script></p>'
    ) == ('<p style="color: red">t</p>')
    drawn = clean('<svg><mask id="q1"></mask><path mask="url(\'#q1\')" fill="url(http://h)" d="M0 0"/></svg>')
    assert drawn == '<svg><mask id="n0"></mask><path mask="url(#n0)" d="M0 0"></path></svg>'


# ---- what the original's renderer changes, and ours does not: the table of docs/reading.md


@pytest.mark.parametrize("path", ["node", "python"])
@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("a price of $5 and $6", "a price of $5 and $6"),  # every $ is deleted there
        ('she said "no"', 'she said "no"'),  # every " becomes two backticks
        ("a back\\textbackslash{} slash C:\\new", "C:\\new"),  # backslashes are doubled for a JS string
        ("</script> <b>x</b>", "</script> <b>x</b>"),  # HTML in an answer is HTML of the page
    ],
)
def test_text_that_the_original_changes_stays(text, kept, path, request):
    if path == "python":
        request.getfixturevalue("without_node")
    elif mathpix.unavailable():
        pytest.skip(mathpix.unavailable())
    page = shown(text)
    assert kept in page.texts("article")[0].partition("The text as")[0]


def test_dollars_are_formulas_only_where_they_hold_one():
    assert written("$x^2$ costs $5 and $6, $$\\frac12$$ or $y$") == (
        "\\(x^2\\) costs \\$5 and \\$6, \\[\\frac12\\] or \\(y\\)"
    )
    assert written("\\( a $ b \\) `$c` 5$-6$") == "\\( a $ b \\) `$c` 5\\$-6\\$"


@needs_katex
def test_left_without_right_is_mended_and_told_where_the_original_drops_all_of_both(without_node):
    page = shown("\\[ \\left( \\frac{1}{2} \\]")
    assert page.notes()[0] == "formula \\[ \\left( \\frac{1}{2} \\]: added at the end: 1 \\right."
    assert page.texts("mfrac") == ["12"]
    balanced = shown("\\[ \\left( a \\right) \\]")
    assert balanced.notes()[0].startswith("set by")


@needs_tex
def test_no_line_of_tikz_loses_its_last_character(tmp_path):
    source = "\\begin{tikzpicture}\n\\draw (0,0)\n  -- (1,1)\n   \n  node {end};\n\\end{tikzpicture}"
    figure = tikz.figure(source)
    assert figure.notes == ()
    page = shown(source)
    assert page.notes() == []
    assert len(pictures(page)) == 1


# ---- things that are not whole


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("a \\( x^2", "a \\( x^2 \\)"),
        ("a \\( \\frac{1\n\nb", "a \\( \\frac{1 } \\)\n\nb"),
        ("\\[ \\begin{array}{c} 1", "\\[ \\begin{array}{c} 1 \\end{array} \\]"),
        (
            "\\begin{tabular}{l} a & \\textbf{b\n\nc",
            "\\begin{tabular}{l} a & \\textbf{b\n}\\end{tabular}\n\nc",
        ),
        ("\\begin{itemize}\n\\item a", "\\begin{itemize}\n\\item a\n\\end{itemize}"),
        ("\\( a \\) \\[ b \\] \\} { \\begin{tabular}{l}\\end{tabular}", None),
    ],
)
def test_what_is_open_is_closed_and_each_mend_told(text, whole):
    mended = repair.page(text)
    assert mended.text == (whole or text)
    assert bool(mended.notes) == (whole is not None)


def test_half_a_table_is_drawn_with_its_mend_told(without_node):
    page = shown("before\n\n\\begin{tabular}{ll} a & b \\\\ c & \\textbf{d")
    assert page.texts("td") == ["a", "b", "c", "d"]
    assert "has no end: }\\end{tabular} was added" in page.notes()[0]


@needs_tex
def test_a_drawing_that_was_cut_off_is_drawn_to_its_last_whole_command(tmp_path):
    cut = "\\begin{tikzpicture}\n\\begin{scope}\n\\fill (0,0) rectangle (2,1);\n\\draw (0,0) -- (3,"
    assert tikz.completed(cut).text == (
        "\\begin{tikzpicture}\n\\begin{scope}\n\\fill (0,0) rectangle (2,1);\n% \\draw (0,0) -- (3,\n"
        "\\end{scope}\\end{tikzpicture}"
    )
    page = shown(cut)
    assert page.notes() == [
        "the last command has no end and is not drawn: \\draw (0,0) -- (3,",
        "the drawing was cut off: \\end{scope}\\end{tikzpicture} was added",
    ]
    (tmp_path / "drawn").write_bytes(tikz.figure(cut, as_png=True).data)
    with Image.open(tmp_path / "drawn") as image:
        width, height = image.size
        centimetre, border = 28.45, 4  # points; the rectangle is 2 x 1 with 2 points around
        expected = (2 * centimetre + border) / (centimetre + border)
        assert width / height == pytest.approx(expected, rel=0.01)
        assert image.convert("L").getpixel((width // 2, height // 2)) == 0


@needs_tex
def test_a_drawing_that_tex_refuses_is_source_with_what_tex_said():
    page = shown("\\begin{tikzpicture}\\drwa (0,0);\\end{tikzpicture}")
    assert page.texts("p", **{"class": "why"}) == [
        "shown as source: TeX refuses it: Undefined control sequence."
    ]
    assert "\\drwa (0,0);" in page.texts("pre")[0]


@needs_tex
@pytest.mark.skipif(shutil.which("xelatex") is None, reason="xelatex is not installed")
def test_full_width_signs_in_a_drawing_are_drawn_and_told():
    source = "\\begin{tikzpicture}\\draw (0\uff0c0) -- (1\uff0c1)\uff1b\\end{tikzpicture}"
    figure = tikz.figure(source)
    assert figure.notes == ("full-width signs are drawn as , . ; ( ), for TeX refuses them",)


@needs_tex
def test_tex_reads_no_file_writes_none_outside_and_has_no_shell(tmp_path):
    secret = tmp_path / "secret.tex"
    secret.write_text("OPENSESAME")
    for attack in (f"\\input{{{secret}}}", f"\\node{{\\input{{../../../../../..{secret}}}}};"):
        with pytest.raises(RenderingError, match="TeX refuses it"):
            tikz.figure(f"\\begin{{tikzpicture}}{attack}\\end{{tikzpicture}}")
    for attack in (
        f"\\immediate\\write18{{touch {tmp_path}/shell}}",
        f"\\immediate\\openout5={tmp_path}/file \\immediate\\write5{{x}}\\immediate\\closeout5 ",
    ):
        with contextlib.suppress(RenderingError):
            tikz.figure(f"\\begin{{tikzpicture}}{attack}\\draw (0,0)--(1,1);\\end{{tikzpicture}}")
    assert [file.name for file in tmp_path.iterdir()] == ["secret.tex"]


@needs_tex
def test_an_endless_drawing_ends_with_its_time():
    with pytest.raises(RenderingError, match="TeX takes longer than 1 seconds"):
        tikz.figure("\\begin{tikzpicture}\\loop\\iftrue\\repeat\\end{tikzpicture}", seconds=1)


# ---- scores


@needs_verovio
def test_a_long_score_is_drawn_on_several_pages_with_every_bar():
    bars = "".join(f"={bar}\t={bar}\n1C\t1c\n" for bar in range(1, 301))
    page = shown(f"**kern\t**kern\n*clefF4\t*clefG2\n*M4/4\t*M4/4\n{bars}==\t==\n*-\t*-\n", "ocr")
    drawn = [svg.decode() for svg in pictures(page)]
    assert len(drawn) > 1
    assert sum(svg.count('class="measure') for svg in drawn) == 300
    assert page.notes() == []


@needs_verovio
def test_a_score_that_was_cut_off_is_drawn_to_its_last_whole_line_where_verovio_alone_would_abort():
    page = shown("**kern\t**kern\n*clefF4\t*clefG2\n4c\t4e\n4d")
    assert page.notes() == [
        "the score is not whole (line 4: 1 tokens for 2 spines): 1 lines are not drawn from line 4 on, '4d'; "
        "the end of the spines (*-) was added"
    ]
    assert pictures(page)[0].count(b'class="notehead"') == 2


def test_a_score_of_no_notes_is_source(monkeypatch):
    page = shown("**kern **kern nothing")
    assert pictures(page) == []
    assert "**kern **kern nothing" in page.texts("pre")[0]


# ---- charts and boxes


def test_bars_are_as_high_as_their_values_and_the_table_has_every_cell():
    text = "{'title': 'T<b>', 'values': {'A': {'x': '10%', 'y': '20'}, 'B': {'x': '-5', 'y': 'n/a'}}}"
    drawn = charts.svg(charts.read(text)).decode()
    heights = [float(value) for value in re.findall(r'height="([\d.]+)" fill="#[^w]', drawn)][:3]
    assert heights[1] == pytest.approx(2 * heights[0], abs=0.2)
    assert heights[2] == pytest.approx(heights[0] / 2, abs=0.2)
    assert "T&lt;b&gt;" in drawn
    page = shown(text)
    assert page.texts("td") == ["10%", "-5", "20", "n/a"]
    assert page.texts("dd")[0].startswith("T<b>")


def test_a_chart_that_was_cut_off_is_completed_and_one_that_is_none_is_source():
    assert charts.read('{"title": "a", "values": {"x": "1"').note == "the chart was cut off: }} was added"
    assert charts.read('{"values": {"x": 1').note.endswith("was added, and its last number may be longer")
    page = shown("{'title': 'a', 'values': {'x': ")
    assert page.texts("p", **{"class": "why"})[0].startswith("shown as source: this is no chart")


def test_lines_and_slices_follow_the_values():
    line = charts.svg(
        charts.read('{"chart_type": "line", "values": {"a": 1, "b": "?", "c": 2, "d": 3}}')
    ).decode()
    assert re.search(r'<path d="M[\d.]+ [\d.]+M[\d.]+ [\d.]+L[\d.]+ [\d.]+" fill="none"', line)  # a gap at b
    pie = charts.svg(charts.read('{"type": "pie", "values": {"a": 3, "b": 1}}')).decode()
    assert [int(large) for large in re.findall(r"A120 120 0 ([01]) 1", pie)] == [1, 0]


def test_boxes_lie_where_the_answer_says_and_broken_lines_are_marked():
    image = Image.new("RGB", (400, 200), "white")
    page = shown("[250,500,750,1000] A <i>\n[5,5] half", "spot", image)
    boxes = [given for tag, given, _ in page.elements if tag == "rect" and given.get("fill") == "none"]
    assert [(box["x"], box["y"], box["width"], box["height"]) for box in boxes] == [
        ("100.0", "100.0", "200.0", "100.0")
    ]
    assert page.texts("li") == ["A <i>"]
    assert page.texts("code", **{"class": "source"}) == ["[5,5] half"]
    assert next(given for tag, given, _ in page.elements if tag == "image")["href"].startswith(
        "data:image/jpeg"
    )


@needs_node
def test_a_text_that_ends_node_does_not_take_the_others_with_it(monkeypatch):
    monkeypatch.setattr(mathpix, "TOGETHER", 15)
    asked = []

    def run(command, *, seconds, given):
        asked.append(len(mathpix.json.loads(given)))
        texts = mathpix.json.loads(given)
        bad = any("bad" in text for text in texts)
        made = mathpix.json.dumps([{"html": f"<p>{text}</p>"} for text in texts]).encode()
        return subprocesses.Ended(1, b"", "killed") if bad else subprocesses.Ended(0, made, "")

    monkeypatch.setattr(mathpix, "run", run)
    first, second, third, fourth = mathpix.pages(["one", "bad", "three", "fourfourfour"])
    assert (first, third, fourth) == ("<p>one</p>", "<p>three</p>", "<p>fourfourfour</p>")
    assert str(second) == "node ended with 1: killed"
    assert asked == [3, 1, 1, 1, 1]


@pytest.mark.parametrize(
    "text",
    [
        "\\begin{tabular}{l} " * 1000,
        "\\begin{itemize}\\item " * 1000,
        "\\(" + "{" * 5000,
        "\\[ " * 1000,
        "<smiles>" * 3000,
        "<table><tr><td>" + "<b>" * 5000,
        "**kern" + "\t**kern" * 500 + "\n4c",
        "x" * 200_001,
        "{'values': {'a': 1e308, 'b': -1e308}}",
        "{'values': {'a': {'x': 1}, 'b': 2}}",
    ],
    ids=range(10),
)
def test_what_is_too_deep_or_too_long_is_shown_and_ends_nothing(text, without_node):
    page = shown(text)
    assert page.texts("pre", **{"class": "read"}) == [text]
    for made in ("md", "json"):
        assert export([Reading("", text)], made)


def test_numbers_of_a_chart_are_read_as_they_are_written():
    cells = {
        "12%": 12,
        "$1,234.5": 1234.5,
        "1e3": 1000,
        "-5": -5,
        "5-10": None,
        "Q1 2020: 5": None,
        "n/a": None,
        "1,00,000": 100000,
        "1,5": None,
        "1.234,5": None,
        "1,2345": None,
    }
    chart = charts.Chart({}, tuple(cells), {"": {cell: cell for cell in cells}})
    assert {cell: chart.number("", cell) for cell in cells} == cells


def test_a_comma_that_may_be_decimal_is_marked_and_not_drawn():
    page = shown("{'values': {'a': '1,5', 'b': '2', 'c': '1,500'}}")
    assert page.texts("td", **{"class": "doubtful"}) == ["1,5"]
    assert page.notes() == ["not drawn, for what the comma means is not certain: 1,5"]
    assert b'fill="#3566a8"' in pictures(page)[0] and pictures(page)[0].count(b'fill="#3566a8"') == 2


def test_pages_of_the_same_text_each_tell_their_own_mends(monkeypatch):
    monkeypatch.setattr(mathpix, "unavailable", lambda: "node is not installed")
    sections = render([Reading("1", "# a"), Reading("2", "# a")]).split("<article>")[1:]
    assert ["set by the built-in renderer" in section for section in sections] == [True, True]
