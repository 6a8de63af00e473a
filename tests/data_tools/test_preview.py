"""The preview page: it counts what the records hold, nothing on it acts, boxes lie where they belong."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from PIL import Image

from data_tools import preview

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>&amp;\0"
TABLE = "\\begin{tabular}{lr}\nsea & 1 \\\\\n\\multicolumn{2}{c}{<b>wide</b>}\n\\end{tabular}"


class Page(HTMLParser):
    """All tags with their attributes, and the text outside of them."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def show(tmp_path):
    """A function: the page for rows of one 200 x 100 picture."""
    Image.new("RGB", (200, 100), "white").save(tmp_path / "page.png")

    def show(*rows, **changes):
        rows = [{"images": ["page.png"], "task": "format", **row} for row in rows]
        (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        words = [str(tmp_path / "data.jsonl"), "-o", str(tmp_path / "preview.html")]
        for name, value in changes.items():
            words += [f"--{name}", str(value)]
        assert preview.main(words) == 0
        return (tmp_path / "preview.html").read_text(encoding="utf-8")

    return show


def test_text_of_records_is_shown_as_text_and_nothing_of_it_acts(show):
    answers = [HOSTILE, f"\\title{{{HOSTILE}}}", json.dumps({"title": HOSTILE, "values": {HOSTILE: HOSTILE}}),
               f"<table><tr onclick='x()'><td colspan=2><a href='http://x'>{HOSTILE}</a></td></tr></table>",
               TABLE, f"<smiles>{HOSTILE}</smiles>", "\\(<script>\\)"]  # fmt: skip
    source = show(*({"text": answer} for answer in answers), samples=20)
    page = Page(source)
    assert {tag for tag, _ in page.tags} <= {
        *("html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "h3", "h4", "p", "a", "div"),
        *("table", "tr", "td", "th", "svg", "rect", "article", "figure", "figcaption", "img", "pre", "br"),
        *("details", "summary", "code", "ul", "li", "b"),
        *("math", "semantics", "mrow", "mi", "mo"),  # of a formula, where KaTeX is there
    }
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert all(each["href"].startswith("#") for each in page.all("a"))
    assert all(each["src"].startswith("data:image/") for each in page.all("img"))
    named = r'"data:[^"]*"|xmlns="[^"]*"'  # a namespace is a name: nothing is asked there
    assert not re.search(r"(?:https?:)?//", re.sub(named, "", page_without_text(source)))
    assert page.text.count("alert(1)") >= 6 and "\0" not in source


def page_without_text(source):
    return "".join(re.findall(r"<[^>]*>", source))


def test_tables_and_charts_are_drawn_as_tables_and_the_source_stands_beside_them(show):
    chart = {"title": "Rain", "values": {"north": {"May": "3"}, "south": {"May": "4"}}}
    page = Page(show({"text": TABLE}, {"text": json.dumps(chart)}))
    assert {"colspan": "2"} in page.all("td")
    assert "\\begin{tabular}{lr}" in page.text and "northsouthMay34" in page.text
    assert "<b>wide</b>" in page.text and not page.all("b")


def test_a_box_is_drawn_in_the_pixels_of_its_picture_and_thousandths_are_scaled(show):
    page = Page(
        show(
            {"text": "a", "box": [20, 10, 60, 30]},
            {"text": "b", "box": [100, 100, 300, 300], "box_unit": "thousandth"},
            {"text": "c", "box": [50, 40]},
        )
    )
    drawn = [each for each in page.all("rect") if "x" in each and each.get("width") != "4"]
    assert drawn == [{"x": "20", "y": "10", "width": "40", "height": "20"}] * 2
    assert [(each["cx"], each["cy"]) for each in page.all("circle")] == [("50", "40")]
    assert [each["viewbox"] for each in page.all("svg") if "preserveaspectratio" in each] == [
        "0 0 200 100"
    ] * 3


def test_counts_duplicates_and_faults_are_those_of_the_records(show):
    ours = [("one  two", "format"), ("one two", "format"), ("one two", "ocr"), ("", "ocr"), ("x", "odd")]
    page = Page(show(*({"text": text, "task": task} for text, task in ours)))
    assert "5 records." in page.text
    # the same task and picture: the second format record, and the second ocr record
    assert "2 records (50.0 %) ask the same of the same picture as one before" in page.text
    assert "2 (50.0 %) have an answer that stood before; 1 answers are empty" in page.text
    assert "1 records that cannot be read" in page.text and "data.jsonl:5: task is 'odd'" in page.text
    row = re.search(r"format(\d+)(\d+)", page.text)
    assert row and row[0].startswith("format2")


def test_numbers_are_tokens_where_a_tokenizer_is_named(show, request):
    folder = request.config.rootpath / "configs" / "nano" / "tokenizer"
    from got_train.tokenizer import load_tokenizer

    text = "the quick brown fox"
    page = Page(show({"text": text}, tokenizer=folder))
    assert f"format; {len(load_tokenizer(folder).encode(text))} tokens" in page.text


def test_samples_are_drawn_from_every_folder_and_follow_the_seed():
    import random

    places = {"a": [(0, n) for n in range(100)], "b": [(1, 0)], "c": [(2, n) for n in range(5)]}
    chosen = preview._chosen(places, 6, random.Random(1))
    assert sorted({number for number, _ in chosen}) == [0, 1, 2] and len(set(chosen)) == 6
    assert (
        chosen == preview._chosen(places, 6, random.Random(1)) != preview._chosen(places, 6, random.Random(2))
    )


def test_data_that_cannot_be_read_end_with_one_line_and_leave_no_page(tmp_path, capsys):
    out = tmp_path / "preview.html"
    assert preview.main([str(tmp_path / "none.jsonl"), "-o", str(out)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium")
@pytest.mark.parametrize("width", [500, 1300])
def test_a_browser_shows_the_page_without_a_fault_and_without_scrolling_sideways(show, tmp_path, width):
    show({"text": TABLE + "\nlong " + "x" * 3000}, {"text": HOSTILE, "box": [1, 2, 30, 40]})
    path = tmp_path / "preview.html"
    # only for this test the page may run a script, which tells its width
    source = path.read_text(encoding="utf-8").replace(
        "default-src 'none'", "default-src 'none'; script-src 'unsafe-inline'"
    )
    path.write_text(
        source + "<script>document.title = document.documentElement.scrollWidth + ' ' + innerWidth</script>"
    )
    done = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},900",
         "--enable-logging=stderr", "--dump-dom", path.as_uri()],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    title = re.search(r"<title>(\d+) (\d+)</title>", done.stdout)
    assert title and int(title[1]) <= int(title[2])
    assert "CONSOLE" not in done.stderr
