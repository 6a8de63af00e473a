"""The HTML page of an answer, read back by a parser of its own: nothing runs, nothing is lost."""

import random
from html.parser import HTMLParser

import pytest

from got_train.rendering.html import render


class Browser(HTMLParser):
    """Elements with their text, as a browser would build them: the first newline in <pre> is dropped."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.elements, self.tags, self.open = [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag not in ("meta", "br"):
            self.open.append(len(self.elements))
            self.elements.append([tag, dict(attributes), ""])

    def handle_endtag(self, tag):
        assert self.elements[self.open.pop()][0] == tag, "tags are not nested"

    def handle_data(self, data):
        for place in self.open:
            self.elements[place][2] += data

    def texts(self, tag, **attributes):
        found = [
            text for name, given, text in self.elements if name == tag and attributes.items() <= given.items()
        ]
        return [text.removeprefix("\n") if tag == "pre" else text for text in found]


def shown(text, ocr_type="format"):
    return Browser(render(text, ocr_type))


def marked(browser):
    return browser.texts("pre", **{"class": "source"}) + browser.texts("span", **{"class": "source"})


PIECES = [
    *(
        "a < b & c > d \"e\" 'f'",
        "\n",
        "\n\n",
        "  ",
        "\\\\",
        "&",
        "{",
        "}",
        "\\(",
        "\\)",
        "\\[",
        "\\]",
        "# ",
        "x",
    ),
    *(
        "\\title{",
        "\\section*{A}",
        "\\begin{tabular}{ll}",
        "\\end{tabular}",
        "\\hline",
        "\\multirow{2}{*}{m}",
    ),
    *("\\begin{itemize}", "\\item", "\\end{itemize}", "<smiles>", "</smiles>", "<script>alert(1)</script>"),
    *(
        "</pre>",
        "</details>",
        "<!--",
        "]]>",
        "&lt;",
        "\u732b",
        "\r",
        "{'title': 1}",
        "\\multicolumn{2}{c}{n}",
    ),
]


@pytest.mark.parametrize("seed", range(60))
def test_any_text_stands_whole_at_the_end_and_adds_no_element_of_its_own(seed):
    text = "".join(random.Random(seed).choices(PIECES, k=40))
    for ocr_type in ("ocr", "format"):
        browser = shown(text, ocr_type)
        assert browser.open == []
        assert browser.texts("pre")[-1] == text
        assert not {"script", "img", "iframe", "a", "link", "smiles"} & set(browser.tags)


def test_letters_of_the_text_are_in_the_body_in_their_order():
    words = [f"w{number}" for number in range(200)]
    for seed in range(30):
        choose = random.Random(seed)
        text = " ".join(word + choose.choice(["", *PIECES]) for word in words)
        body = render(text, "format").split("<details>")[0]
        plain = Browser(body + "</body></html>").texts("body")[0]
        place = 0
        for word in words:
            place = plain.index(word, place) + len(word)


def test_the_page_needs_no_network_and_lets_no_script_run():
    page = render("# A", "format")
    assert "default-src 'none'" in page
    assert "http://" not in page
    assert "https://" not in page


def test_headings_and_lists():
    browser = shown(
        "\\title{\nA \\(x\\) title\n}\n\\section*{1 Intro}\ntext\n\\subsection{1.1}\n## two\nline\n"
        "\\begin{enumerate}\n\\item one\n\\item two\n\\end{enumerate}"
    )
    assert browser.texts("h1") == ["A \\(x\\) title"]
    assert browser.texts("h2") == ["1 Intro", "two"]
    assert browser.texts("h3") == ["1.1"]
    assert browser.texts("li") == ["one", "two"]
    assert browser.texts("p")[1:] == ["text", "line"]  # the first is the note about formulas


def table(text):
    browser = shown(text)
    cells = [
        (text, int(given.get("colspan", 1)), int(given.get("rowspan", 1)))
        for name, given, text in browser.elements
        if name == "td"
    ]
    return cells, browser.tags.count("tr"), marked(browser)


def test_a_table_with_spans_becomes_cells():
    cells, rows, left = table(
        r"\begin{tabular}{|l|c|r|} \hline \multicolumn{2}{|c|}{ab} & \multirow{2}{*}{down} \\ \hline"
        "\na \\& b & 5 & \\\\\\hline\n1 & 2 & 3 \\\\ \\hline\n\\end{tabular}"
    )
    expected = [("ab", 2, 1), ("down", 1, 2), ("a \\& b", 1, 1), ("5", 1, 1)]
    assert cells == [*expected, ("1", 1, 1), ("2", 1, 1), ("3", 1, 1)]
    assert rows == 3
    assert left == []


@pytest.mark.parametrize(
    "inner",
    [
        "{ll} a & \\begin{tabular}{l}x",  # a table in a table
        "{p{3cm}l} a & b ",  # a column of a width
        "{ll} a & b \\\\ \\cline{1-2} c & d ",
        "{ll} \\multirow{2}{*}{a} & b \\\\ c & d ",  # text below a cell of two rows
        "{ll} a & \\multirow{2}{*}{b} ",  # the second row is missing
        "{l} a & b ",  # more cells than columns
        "{ll} \\multirow{-2}{*}{a} & b ",
    ],
)
def test_a_table_that_would_lose_something_is_shown_as_source(inner):
    source = f"\\begin{{tabular}}{inner}\\end{{tabular}}"
    browser = shown(f"before {source} after")
    assert "table" not in browser.tags
    assert source in browser.texts("pre", **{"class": "source"})
    assert "tables with more than" in browser.texts("p")[0]


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("x \\(a < b\\) y", "formulas"),
        ("\\[ E = mc^2 \\]", "formulas"),
        ("<smiles>C(=O)O</smiles>", "molecules (SMILES)"),
        ("\\begin{tikzpicture}\n\\draw (0,0);\n\\end{tikzpicture}", "drawings (tikzpicture)"),
        ("**kern\n4c\n*-", "musical scores (**kern)"),
        ("{'title': 'A', 'values': {'x': '1'}}", "charts"),
    ],
)
def test_what_no_renderer_draws_is_marked_and_named(text, note):
    browser = shown(text)
    assert text in marked(browser) or any(source in text and len(source) > 5 for source in marked(browser))
    assert browser.texts("p")[0] == f"Shown as source, for no renderer is built in: {note}."


def test_plain_text_is_shown_as_it_is_unless_it_is_kern():
    text = "# no heading\n\\section*{x} {'a': 1} \\(y\\)\n\\begin{tikzpicture}"
    browser = shown(text, "ocr")
    assert browser.texts("pre") == [text, text]
    assert marked(browser) == []
    assert marked(shown("**kern\n4c", "ocr")) == ["**kern\n4c"]


def test_the_order_of_decisions_is_kern_tikz_chart_markdown():
    tikz = "\\begin{tikzpicture}\n\\title{x}\n\\end{tikzpicture}"
    assert marked(shown(tikz)) == [tikz]
    assert marked(shown(f"{tikz} **kern")) == [f"{tikz} **kern"]
    assert "musical" in shown(f"{tikz} **kern").texts("p")[0]
