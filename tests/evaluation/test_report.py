"""The report: what it holds, that it asks for nothing, and that it works in a browser."""

import json
import random
import re
import time
from html.parser import HTMLParser

import pytest
from PIL import Image

from got_train.cli import evaluate as command
from got_train.evaluation.predictions import DataFile, Prediction
from got_train.evaluation.report import numbers, page
from got_train.evaluation.report.errors import length_edges
from got_train.evaluation.report.pictures import Pictures
from got_train.evaluation.report.renderings import drawn
from got_train.evaluation.scored import score_predictions
from got_train.evaluation.scores import summary
from got_train.html import charts
from got_train.rendering.markup import table as safe_table
from tests.chromium import PROGRAM, Chromium

TABLE = r"\begin{tabular}{ll} a & b \\ \multicolumn{2}{c}{c} \\ \end{tabular}"
HARM = (
    "<table><tr><td onclick='x()'><img src=x onerror=alert(1)><script>alert(2)</script>seen</td></tr></table>"
)
HARD = [
    ("plain", "a b\tcdefgh", "a bcdef\ngh", "ocr"),
    ("script", "</script><script>alert(1)</script>", "<b>x</b> & \u2028 \0", "ocr"),
    ("table", TABLE, HARM, "format"),
    ("right to left", "\u0647\u0630\u0627 \u0646\u0635", "\u0647\u0630\u0627 \u0646\u0648", "ocr"),
    ("astral", "x\U00020bb7y\U0001f600z", "x\U00020bb7z", "ocr"),
    ("blank", "", "hallucinated", "ocr"),
    ("empty", "nothing read", "", "ocr"),
]


def made(rows, images=()):
    return score_predictions(
        [
            Prediction(reference, answer, task, id=name, images=tuple(images), finished="stop", data="test")
            for name, reference, answer, task in rows
        ]
    )


def report(scored, before=None, pictures=None):
    predictions = [each.prediction for each in scored]
    metrics = {"settings": None, **summary(scored, predictions)}
    return page.report(metrics, scored, before, pictures or Pictures((), None))


def embedded(text, name):
    found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', text, re.DOTALL)
    return json.loads(found[1])


class Links(HTMLParser):
    """Whatever a page would fetch."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("src", "href", "srcset", "action", "data") and not value.startswith(("#", "data:")):
                self.found.append((tag, name, value))


def test_the_page_is_one_file_that_links_to_nothing(tmp_path):
    text = report(made(HARD))
    links = Links()
    links.feed(text)
    assert links.found == []
    assert "default-src 'none'" in text
    assert not re.search(r"url\(|@import|https?:", re.sub(r'xmlns="[^"]*"', "", text))


def test_samples_stand_in_it_unharmed_with_edits_by_code_points():
    data = embedded(report(made(HARD)), "data")
    assert [(each["n"], each["r"], each["p"]) for each in data["samples"]] == [row[:3] for row in HARD]
    by_name = {each["n"]: each for each in data["samples"]}
    assert by_name["astral"]["o"] == [[2, 4, 2, 2]]
    assert by_name["blank"]["f"] == ["hallucinated"]
    assert "empty" in by_name["empty"]["f"]
    assert data["orders"]["worst_first"][0] in (5, 6)


def test_answers_bring_no_markup_of_their_own():
    assert safe_table(HARM) == "<table><tr><td>seen</td></tr></table>"
    assert drawn(HARM, "table") == safe_table(HARM)
    assert drawn(TABLE, "table").count("<td") == 3
    assert 'colspan="2"' in drawn(TABLE, "table")
    assert drawn("<i>text</i>", "text") is None
    assert "&lt;img" in drawn(f"<img src=x> {TABLE}", "page")


def test_formulas_and_molecules_are_drawn_where_the_libraries_are():
    pytest.importorskip("quickjs")
    from got_train.formats import latex

    if latex.unavailable():
        pytest.skip("KaTeX is not there")
    assert "<mfrac>" in drawn(r"\[ \frac{1}{2} \]", "formula")
    assert drawn(r"\[ \frac{1 \]", "formula") is None
    assert "href=" not in (drawn(r"\[ \href{javascript:x}{y} \]", "formula") or "")
    pytest.importorskip("rdkit")
    assert drawn("<smiles>CCO</smiles>", "molecule").startswith("<svg")
    assert "no molecule" in drawn("<smiles>C(</smiles>", "molecule")


def test_a_region_is_drawn_into_its_picture_in_pixels_and_in_thousandths(tmp_path):
    import base64
    import io

    Image.new("RGB", (400, 200), "white").save(tmp_path / "p.png")
    for box, unit in (((100, 50, 300, 150), None), ((250, 250, 750, 750), "thousandth")):
        said = Prediction("a", "a", images=(str(tmp_path / "p.png"),), box=box, box_unit=unit)
        uri = Pictures((), None, side=200).shown(said)["uri"]
        picture = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
        assert picture.size == (200, 100)
        red, _, blue = picture.getpixel((48, 50))
        assert red > blue + 60  # beside the left edge of the box, at half the size
        assert min(picture.getpixel((60, 50))) > 200  # nothing upon what stands in it
        assert min(picture.getpixel((20, 50))) > 230


def test_pictures_inside_the_data_are_shown_and_missing_ones_say_why(tmp_path):
    import io

    from got_train.data.record import Record
    from got_train.images import EncodedImage

    kept = io.BytesIO()
    Image.new("RGB", (30, 20), "blue").save(kept, "PNG")
    record = Record((EncodedImage("inside.png", kept.getvalue()),), "ocr", "text")
    file = DataFile("rows", "rows.parquet", [record], "hash")
    opened = Pictures([file], None)
    assert opened.shown(file.answered(0, prediction="x"))["uri"].startswith("data:image/webp;base64,")
    assert "no such file" in Pictures((), None).shown(file.answered(0))["cause"]
    assert opened.shown(Prediction("a", "a"))["cause"] == "the prediction names no picture"
    (tmp_path / "bad.png").write_bytes(b"no picture")
    assert "bad.png" in opened.shown(Prediction("a", "a", images=(str(tmp_path / "bad.png"),)))["cause"]


def test_drawings_have_what_they_were_given():
    drawing = charts.histogram([0.0, 0.01, 0.5, 1.0, 1.7], bins=4)
    titles = re.findall("<title>(.*?)</title>", drawing)
    assert titles == ["0.00 to 0.25: 2", "0.25 to 0.50: 0", "0.50 to 0.75: 1", "0.75 to 1.00: 2"]
    heights = [float(height) for height in re.findall(r'class="bar".*?height="([\d.]+)"', drawing)]
    assert heights[0] == heights[3] == 2 * heights[2] > heights[1] == 0
    assert charts.points([(1, 2), (3, 4)], "a", "b").count("<circle") == 2


@pytest.mark.parametrize(("metric", "counts"), [("edit_distance", "6 / 13 / 11"), ("f1", "11 / 13 / 6")])
def test_rows_that_became_better_are_counted_first_whichever_way_the_metric_runs(metric, counts):
    difference = {"mean": 0.1, "low": -0.1, "high": 0.3, "higher": 11, "equal": 13, "lower": 6, "rows": 30}
    delta = {"task": "ocr", "metric": metric, "verdict": "inconclusive", "before": 0.2, "after": 0.3, "p": 1}
    shown = numbers.skills([{**delta, "difference": difference}])
    assert "better / equal / worse" in shown and f"<td>{counts}<td>30" in shown


@pytest.mark.parametrize(
    ("lengths", "edges"),
    [
        ([0, 0, 7], [0, 7]),  # lines of a receipt and blank ones
        ([*range(1, 101)], [21, 41, 61, 81, 100]),
        ([5] * 50, [5]),
        ([1234, 1260, 2480, 5120, 5130], [1300, 2500, 5130]),
    ],
)
def test_bins_of_length_are_the_data_s_own_and_none_is_empty(lengths, edges):
    assert length_edges(lengths) == edges
    bounds = [-1, *edges]
    counts = [
        sum(low < length <= high for length in lengths) for low, high in zip(bounds, edges, strict=False)
    ]
    assert min(counts) > 0 and sum(counts) == len(lengths)


def test_an_evaluation_without_rows_has_a_report_too():
    assert "<h1>" in report([])


def test_the_command_writes_a_report_with_its_settings(tmp_path):
    rows = [{"reference": "ab", "prediction": "a", "task": "ocr", "finished": "stop"}]
    (tmp_path / "predictions.jsonl").write_text(json.dumps(rows[0]) + "\n")
    settings = {
        "model": {"folder": "runs/x", "sha256": "cafe", "prompt_template": "repo"},
        "decoding": {"max_new_tokens": 7},
        "data": [{"name": "d", "path": "nowhere.jsonl", "records": 1, "sha256": "f00d"}],
        "limit": None,
        "code": "1.2.3",
    }
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    out = tmp_path / "out"
    assert command.main(["--predictions", str(tmp_path / "predictions.jsonl"), "--output-dir", str(out)]) == 0
    text = (out / "report.html").read_text("utf-8")
    for said in ("Evaluation of runs/x", "cafe", "max_new_tokens 7", "f00d", "1.2.3", "repo"):
        assert said in text
    row = json.loads((out / "samples.jsonl").read_text("utf-8"))
    assert row["scores"]["edit_distance"] == 0.5
    assert row["groups"] == {"language": "Latin", "task": "ocr", "source": "", "length": "1-100"}


browser = pytest.mark.skipif(PROGRAM is None, reason="Chromium is not installed")


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A report of 2,000 samples in four languages, with another run beside."""
    folder = tmp_path_factory.mktemp("report")
    Image.new("RGB", (300, 200), "gray").save(folder / "p.png")
    draw = random.Random(1)
    rows = []
    for place in range(2000 - len(HARD)):
        text = "".join(draw.choice("abcdefgh \n") for _ in range(draw.choice((20, 300))))
        read = text if place % 3 else text[: len(text) // 2]
        rows.append((f"page {place}", text, read, "ocr" if place % 2 else "format"))
    now = made([*HARD, *rows], [str(folder / "p.png")])
    before = made([(name, text, text[1:], task) for name, text, _, task in rows])
    file = folder / "report.html"
    file.write_text(report(now, before), encoding="utf-8")
    return file


SETTLE = "new Promise(done => setTimeout(() => done(document.getElementById('shown').textContent), 400))"


def choose(page, control, value):
    """Set a control as a user would; what the page then says it shows."""
    page.run(
        f"(() => {{ const c = document.querySelector({control!r}); c.value = {value!r};"
        "c.dispatchEvent(new Event('input', {bubbles: true})); return c.value; })()"
    )
    return page.run(SETTLE)


def cards(page):
    return page.run("[...document.querySelectorAll('.sample > h3')].map(each => each.textContent)")


@browser
@pytest.mark.slow
def test_it_opens_without_an_error_or_a_request_and_its_filters_work(large, tmp_path):
    with Chromium(tmp_path / "profile") as opened:
        began = time.monotonic()
        opened.open(large)
        assert opened.run(SETTLE) == "2000 of 2000 samples, 20 shown"
        assert time.monotonic() - began < 20  # two seconds alone; tests run beside other work
        assert choose(opened, "#words", "right to") == "1 of 2000 samples, 1 shown"
        assert choose(opened, "#words", "") == "2000 of 2000 samples, 20 shown"
        assert choose(opened, "[data-group=task]", "format").startswith("998 of 2000")
        assert choose(opened, "[data-group=task]", "").startswith("2000 of")
        assert choose(opened, "#fault", "hallucinated") == "1 of 2000 samples, 1 shown"
        assert cards(opened) == ["blank"]
        assert opened.run("getComputedStyle(document.getElementById('more')).display") == "none"
        choose(opened, "#fault", "")
        choose(opened, "#order", "as_in_the_data")
        assert cards(opened)[:7] == [row[0] for row in HARD]
        assert (
            opened.run(
                "document.getElementById('more').click() || document.querySelectorAll('.sample').length"
            )
            == 40
        )
        assert opened.run("document.querySelectorAll('.sample img').length") > 0
        asked = [each for each in opened.requests if not each.startswith("data:")]
        assert asked == [large.resolve().as_uri()]
        assert opened.messages == []


@browser
@pytest.mark.slow
def test_differences_are_shown_with_their_white_space_and_nothing_runs(large, tmp_path):
    with Chromium(tmp_path / "profile") as opened:
        opened.open(large)
        choose(opened, "#order", "as_in_the_data")
        texts = opened.run(
            "[...document.querySelectorAll('.sample')].slice(0, 7).map(each => each.innerHTML)"
        )
        assert "<del>\u21e5</del>" in texts[0]
        assert "<ins>\u21b5\n</ins>" in texts[0]
        assert "<del>y\U0001f600</del>" in texts[4]
        assert opened.run("document.querySelectorAll('.sample script, .sample [onclick]').length") == 0
        assert opened.run("document.querySelector('.look table').rows.length") == 2
        assert opened.messages == []


@browser
@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_a_phone_and_follows_light_and_dark(large, tmp_path, dark):
    with Chromium(tmp_path / "profile", width=390, height=844, dark=dark, mobile=True) as opened:
        opened.open(large)
        assert opened.run("document.documentElement.scrollWidth") <= 390
        color = opened.run("getComputedStyle(document.body).backgroundColor")
        brightness = sum(map(int, re.findall(r"\d+", color)[:3])) / 3
        assert (brightness < 60) == dark
        ink = opened.run("getComputedStyle(document.body).color")
        assert abs(sum(map(int, re.findall(r"\d+", ink)[:3])) / 3 - brightness) > 150


FITS = """(() => {
  const right = document.documentElement.clientWidth;
  const open = [...document.querySelectorAll('.wide')].filter(each => each.offsetParent !== null);
  const texts = [...document.querySelectorAll('svg text')].filter(each => {
    const text = each.getBoundingClientRect(), drawing = each.ownerSVGElement.getBoundingClientRect();
    return text.left < drawing.left - 1 || text.right > drawing.right + 1 || text.top < drawing.top - 1
      || text.bottom > drawing.bottom + 1;
  });
  return JSON.stringify({
    beyond: open.filter(each => each.getBoundingClientRect().right > right + 1).length,
    scrolling: open.filter(each => each.scrollWidth > each.clientWidth).length,
    shaded: open.filter(each => getComputedStyle(each).backgroundAttachment.includes('local')).length,
    tables: open.length,
    clipped: texts.map(each => each.textContent),
    letters: Math.min(...[...document.querySelectorAll('svg text')].map(each =>
      parseFloat(getComputedStyle(each).fontSize) * each.ownerSVGElement.clientWidth / 460)),
  });
})()"""


@browser
@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_clipped_on_a_screen_and_a_phone_shows_what_scrolls(large, tmp_path, width):
    with Chromium(tmp_path / "profile", width=width, height=900, mobile=width == 390) as opened:
        opened.open(large)
        seen = json.loads(opened.run(FITS))
    assert (seen["beyond"], seen["clipped"]) == (0, [])
    assert seen["shaded"] == seen["tables"] > 3  # a shade that shows only where more is to the side
    assert seen["letters"] >= 9  # pixels
    assert (seen["scrolling"] > 0) == (width == 390)
