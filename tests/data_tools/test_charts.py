"""Charts: what the dict says is what can be measured in the picture, and nothing hides anything."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
from PIL import Image

from data_tools import produce
from data_tools.drawing import renderers
from data_tools.drawing.fonts import find_font
from data_tools.engines import scene
from data_tools.engines.charts import chart, matplotlib_backend
from data_tools.engines.charts import engine as charts
from data_tools.engines.charts.chart import Axis, Chart, Drawing, Placed, Series
from data_tools.engines.charts.engine import ChartEngine
from data_tools.text import corpora

SANS = find_font("DejaVuSans")
DOCUMENTS = (
    corpora.Document("a", "", (), ("Plain words of a paragraph that says nothing else about red foxes.",)),
    corpora.Document("b", "", (), ("Another text with rivers, mountains and several quiet villages below.",)),
)
TENTHS = Axis(-1, 0, 80, 20, 2)  # 0 to 8.0, ticks 2 apart, values multiples of 0.2
BARS = Chart(
    "bar", "Rain", "", "Month", "mm", (Series("", ("May", "June", "July"), (24, 66, 38)),), TENTHS,
    labels=False,
)  # fmt: skip

needs_echarts = pytest.mark.skipif(
    not renderers.available("node", "npm:echarts", "npm:@napi-rs/canvas"), reason="needs node and echarts"
)
LOOKS = ["matplotlib", pytest.param("echarts", marks=needs_echarts)]


def rng(seed: int = 0) -> numpy.random.Generator:
    return numpy.random.default_rng(seed)


def engine(**changes: object) -> ChartEngine:
    return ChartEngine(**({"languages": (scene.Language("en", DOCUMENTS, (SANS,)),)} | changes))


def drawn(look: str, chart: Chart) -> Drawing:
    """The first picture of a chart that passes."""
    for seed in range(50):
        try:
            drawing = charts._draw(look, chart, SANS, rng(seed))
            charts.check(chart, drawing)
            return drawing
        except produce.Rejected:
            continue
    raise AssertionError("50 pictures were rejected")


def test_the_dict_has_onecharts_keys_and_says_none_for_what_is_not_drawn() -> None:
    told = '{"title": "Rain", "source": "None", "x_title": "Month", "y_title": "mm", '
    told += '"values": {"May": "2.4", "June": "6.6", "July": "3.8"}}'
    assert BARS.target() == told
    two = (Series("A", ("1990",), (5,)), Series("B", ("1990",), (70,)))
    grouped = replace(BARS, kind="grouped", title="", series=two, labels=True)
    assert json.loads(grouped.target())["values"] == {"A": {"1990": "0.5"}, "B": {"1990": "7.0"}}


def test_300_random_charts_are_json_with_numbers_on_their_axis() -> None:
    kinds = set()
    for seed in range(300):
        try:
            chart = charts.random_chart(charts.KINDS, DOCUMENTS, rng(seed))
        except produce.Rejected:
            continue
        kinds.add(chart.kind)
        values = json.loads(chart.target())["values"]
        nested = list(values.values()) if isinstance(next(iter(values.values())), dict) else [values]
        numbers = [float(text.rstrip("%")) for each in nested for text in each.values()]
        assert len(numbers) == sum(len(series.keys) for series in chart.series)  # no key twice
        if chart.percent:
            assert math.isclose(sum(numbers), 100)
        elif chart.kind != "pie":
            low, high = chart.axis.value(chart.axis.low), chart.axis.value(chart.axis.high)
            assert all(low <= number <= high for number in numbers)
            assert [float(text) for _, text in chart.axis.ticks] == [place for place, _ in chart.axis.ticks]
    assert kinds == set(charts.KINDS)


@pytest.mark.parametrize("look", LOOKS)
def test_bars_without_labels_are_as_high_as_the_dict_says_to_half_a_step(look: str) -> None:
    drawing = drawn(look, BARS)
    low, high = drawing.plot[3], drawing.plot[1]  # pixels of 0 and 8
    outlines = [
        mark for mark in drawing.marks if len(mark) == 5 and numpy.ptp(mark[:, 1]) < 0.99 * (low - high)
    ]
    assert len(outlines) == 3
    grey = numpy.asarray(drawing.image.convert("L")).astype(int)
    for mark, told in zip(sorted(outlines, key=lambda mark: mark[0, 0]), (2.4, 6.6, 3.8), strict=True):
        column = grey[:, round(mark[:, 0].mean())]  # independent of the outline's height: the ink is measured
        paper = column[round(high) + 6]
        filled = numpy.flatnonzero(abs(column[round(high) + 6 : round(low) - 4] - paper) > 25)
        runs = numpy.split(filled, numpy.flatnonzero(numpy.diff(filled) > 1) + 1)
        top = round(high) + 6 + max(runs, key=len)[0]
        assert 8 * (low - top) / (low - high) == pytest.approx(told, abs=0.1)


@pytest.mark.parametrize("look", LOOKS)
def test_every_text_of_a_chart_stands_where_the_drawing_says_and_nowhere_twice(look: str) -> None:
    drawing = drawn(look, replace(BARS, labels=True))
    texts = [placed.text for placed in drawing.texts]
    for text in ("Rain", "Month", "mm", "May", "June", "July", "2.4", "6.6", "3.8"):
        assert texts.count(text) == 1
    grey = numpy.asarray(drawing.image.convert("L")).astype(int)
    rain = next(placed for placed in drawing.texts if placed.text == "Rain")
    (x1, y1), (x2, y2) = (corner.round().astype(int) for corner in (rain.corners()[0], rain.corners()[2]))
    x1, x2, y1, y2 = min(x1, x2), max(x1, x2), min(y1, y2), max(y1, y2)
    ink = abs(grey - grey[0, 0]) > 60
    assert ink[y1:y2, x1:x2].any() and not ink[: y1 - 1].any()  # nothing stands above the title
    assert not ink[y1:y2, : x1 - 1].any() and not ink[y1:y2, x2 + 1 :].any()


def test_a_text_turned_by_45_degrees_meets_only_what_lies_under_it() -> None:
    text = Placed("x", (100, 100), (80, 10), math.pi / 4)
    through = numpy.array([[(80, 120), (120, 80)]], float)  # across its middle
    beside = numpy.array([[(130, 70), (140, 100)]], float)  # inside its upright box, not under the text
    assert text.crossed(through) and not text.crossed(beside)
    assert text.corners()[0] == pytest.approx((100 - 28.28 + 3.54, 100 - 28.28 - 3.54), abs=0.02)


def test_a_title_wider_than_the_picture_overlaps_and_tiny_letters_are_rejected() -> None:
    causes = set()
    for seed in range(3):
        wide = replace(BARS, title="very long title " * 20)
        with pytest.raises(produce.Rejected) as rejected:
            charts.check(wide, matplotlib_backend.draw(wide, SANS, rng(seed)))
        causes.add(rejected.value.cause)
    assert causes == {"a text leaves the picture"}
    drawing = drawn("matplotlib", BARS)
    with pytest.raises(produce.Rejected, match="letters too small"):
        charts.check(BARS, replace(drawing, em=5))
    twice = replace(drawing, texts=[*drawing.texts, drawing.texts[-1]])
    with pytest.raises(produce.Rejected, match="two texts overlap"):
        charts.check(BARS, twice)
    blank = replace(drawing, image=Image.new("RGB", drawing.image.size, "white"))
    with pytest.raises(produce.Rejected, match="a text is hardly seen"):
        charts.check(BARS, blank)
    with pytest.raises(produce.Rejected, match="a text is not drawn"):
        charts.check(replace(BARS, title="Snow"), drawing)


def test_two_series_in_nearly_one_red_are_rejected() -> None:
    chart.check_colors([chart.rgb("#c23531"), chart.rgb("#2f4554")])
    with pytest.raises(produce.Rejected, match="like colours"):
        chart.check_colors([chart.rgb("#d87c7c"), chart.rgb("#919e8b"), chart.rgb("#cc7e63")])


def test_values_200_steps_from_end_to_end_are_not_read_from_an_axis_of_a_hundred_pixels() -> None:
    chart = replace(BARS, axis=Axis(-1, 0, 80, 20, 1))
    drawing = replace(drawn("matplotlib", BARS), plot=(0, 0, 300, 100))
    with pytest.raises(produce.Rejected, match="values finer than the axis shows"):
        charts._check_axes(chart, drawing)
    charts._check_axes(replace(chart, labels=True), drawing)  # labels say what the axis cannot


def test_a_font_without_chinese_is_never_used_for_it() -> None:
    documents = (corpora.Document("c", "", (), ("\u5929\u5730\u7384\u9ec4\u5b87\u5b99\u6d2a\u8352" * 3,)),)
    chinese = scene.Language("zh", documents, (SANS,))
    causes = set()
    for seed in range(20):
        with pytest.raises(produce.Rejected) as rejected:
            engine(languages=(chinese,), kinds=("scatter",)).rows(0, rng(seed))
        causes.add(rejected.value.cause)
    assert "no font has all characters" in causes


def test_the_same_index_gives_the_same_bytes_and_another_one_others(tmp_path: Path) -> None:
    arguments = ["--count", "6", "--shard-pages", "3", "--fonts", "DejaVuSans", "--container", "folder"]
    arguments += ["--sources", "pydoc"]
    for name, workers in (("one", "1"), ("two", "2")):
        args = [*arguments, "--out", str(tmp_path / name), "--num-workers", workers]
        assert charts.main(args) == 0
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.png"))
    assert len(files) == 6
    assert all((tmp_path / "one" / f).read_bytes() == (tmp_path / "two" / f).read_bytes() for f in files)
    lines = (tmp_path / "one" / "records.jsonl").read_text().splitlines()
    assert len({json.loads(line)["text"] for line in lines}) == 6
    assert (tmp_path / "one" / "records.jsonl").read_text() == (
        tmp_path / "two" / "records.jsonl"
    ).read_text()


def test_a_label_goes_below_a_point_under_a_roof_and_farther_off_where_that_is_not_enough() -> None:
    roof = chart.segments(numpy.array([(0.0, 88.0), (200.0, 88.0)]))  # 12 pixels above the point
    sides = [("top", "bottom", "left", "right")]
    free = chart.free_sides([(100, 100)], [(40, 20)], sides, roof, 10)
    assert free == [("bottom", 4.0)]
    assert chart.beside((100, 100), (16, 12), "top", 14) == (100, 80)
    narrow = chart.free_sides([(100, 100)], [(16, 12)], [("top",)], roof, 10)
    assert narrow == [("top", 14.0)]  # its lower edge at 86, above the roof; 4 and 9 lie across it
    second = chart.free_sides([(100, 100), (100, 100)], [(40, 20)] * 2, sides * 2, roof[:0], 10)
    assert [side for side, _ in second] == ["top", "bottom"]  # the first label is taken too


def test_an_axis_of_nine_wide_numbers_shows_every_second_or_fourth() -> None:
    axis = Axis(0, 0, 80000, 10000, 1000)
    assert [text for _, text in axis.thinned(30).ticks] == ["0", "20000", "40000", "60000", "80000"]
    assert [text for _, text in axis.thinned(15).ticks] == ["0", "40000", "80000"]
    assert axis.thinned(60) == axis and axis.thinned(15).step == axis.step


def test_unlike_colours_come_first_and_none_is_lost() -> None:
    reds = [(0.8, 0.2, 0.2), (0.82, 0.2, 0.2), (0.2, 0.2, 0.8), (0.2, 0.8, 0.2)]
    assert chart.apart(reds, 3) == [reds[0], reds[2], reds[3], reds[1]]


def test_of_400_random_charts_2_percent_at_most_are_rejected_before_they_are_drawn() -> None:
    rejected = 0
    for seed in range(400):
        try:
            chart = charts.random_chart(charts.KINDS, DOCUMENTS, rng(seed))
        except produce.Rejected:
            rejected += 1
            continue
        if chart.kind == "pie":
            numbers = chart.series[0].numbers
            assert min(numbers) >= 0.05 * sum(numbers)  # a slice has room for its label
    assert rejected <= 8, rejected


def test_a_look_whose_program_is_missing_is_left_out_unless_it_is_the_only_one(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(renderers, "NODE_FOLDER", tmp_path)
    words = ["--count=2", "--sources=pydoc", "--num-workers=1", f"--out={tmp_path / 'both'}"]
    both = charts.make(charts.parser().parse_args([*words, "--looks=matplotlib,echarts"]))
    assert both["without"] == {
        "the look echarts": "npm package echarts: not found in data_tools/node; `make data-tools` installs it"
    }
    assert both["rows"] == 2
    for refused in (["--looks=echarts"], ["--looks=matplotlib,echarts", "--strict"]):
        with pytest.raises(renderers.RendererError, match="npm package echarts: not found"):
            charts.make(charts.parser().parse_args([*words, *refused]))
