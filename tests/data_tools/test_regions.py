"""The command of regions: boxes, points and frames of written pages hold exactly the text they ask for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy
import pytest
from PIL import Image

from data_tools import produce, record_source
from data_tools.drawing.fonts import find_font
from data_tools.engines import lines, pages, regions
from got_train.data.records import read_records
from got_train.errors import DataError

SANS = find_font("DejaVuSans")


def rng(seed: int = 0) -> numpy.random.Generator:
    return numpy.random.default_rng(seed)


@pytest.fixture(scope="module")
def line_pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """170 pages with the cells of all their characters."""
    out = tmp_path_factory.mktemp("lines") / "out"
    args = [
        "--out",
        str(out),
        "--count",
        "170",
        "--container",
        "folder",
        "--num-workers",
        "1",
        "--char-boxes",
    ]
    args += ["--sources", "pydoc", "--fonts", "DejaVuSans,DejaVuSerif", "--lines", "2-5", "--side", "160"]
    lines.make(lines.parser().parse_args(args))
    return out


@pytest.mark.parametrize("jitter", [0.0, 1.0])
def test_the_characters_inside_1000_boxes_are_the_text_and_no_others(line_pages: Path, jitter: float) -> None:
    """By the middles of the characters' cells, which regions does not use where line boxes are told."""
    records = record_source.open_records([line_pages], ("ocr",))
    engine = regions.RegionEngine(records, ("box",), 3, jitter)
    asked = loose = 0
    for index in range(len(records)):
        for row in engine.rows(index, rng(index)):
            x1, y1, x2, y2 = row.box
            inside = "".join(
                char
                for char, a, b, c, d in records[index].char_boxes
                if x1 < (a + c) / 2 < x2 and y1 < (b + d) / 2 < y2
            )
            assert inside.replace(" ", "") == row.text.replace(" ", "")
            asked += 1
            loose += row.box != tuple(row.meta["region"])
    assert asked > 400 and (loose > 0.95 * asked if jitter else loose == 0)


def test_boxes_from_char_boxes_alone_hold_their_lines(line_pages: Path) -> None:
    records = record_source.open_records([line_pages], ("ocr",))
    made = records[3]
    told = regions.told_regions(made)
    bare = record_source.Made("here", "a", made.picture, "ocr", made.text, char_boxes=made.char_boxes)
    found = regions.told_regions(bare)
    assert [region.text for region in found] == [region.text for region in told] == made.text.split("\n")
    for one, other in zip(found, told, strict=True):
        assert numpy.abs(numpy.array(one.box) - other.box).max() <= 2  # cells reach from pen to pen
    wrong = record_source.Made("here", "a", made.picture, "ocr", made.text + "x", char_boxes=made.char_boxes)
    assert regions.told_regions(wrong) == []


def test_a_point_lies_in_its_line_and_its_record_has_two_numbers(line_pages: Path, tmp_path: Path) -> None:
    args = [
        "--records",
        str(line_pages),
        "--out",
        str(tmp_path),
        "--tasks",
        "point,color",
        "--num-workers",
        "1",
    ]
    summary = regions.make(regions.parser().parse_args([*args, "--container", "folder", "--jitter", "0.5"]))
    assert summary["rows"] == 340
    records = read_records(tmp_path / "records.jsonl", check_files=True)
    metas = [json.loads(line)["meta"] for line in (tmp_path / "records.jsonl").open(encoding="utf-8")]
    points = [(record, meta) for record, meta in zip(records, metas, strict=True) if record.box]
    for record, meta in points:
        (x, y), (x1, y1, x2, y2) = record.box, meta["region"]
        assert x1 < x < x2 and y1 < y < y2 and "\n" not in record.text
    colored = [(record, meta) for record, meta in zip(records, metas, strict=True) if record.color]
    assert len(points) == len(colored) == 170
    for record, meta in colored[:40]:
        pixels = numpy.asarray(Image.open(record.images[0]))
        x1, y1, x2, y2 = meta["region"]
        assert (pixels[max(0, y1 - 1), x1:x2] == regions.FRAME_COLORS[record.color]).mean() > 0.9


def test_two_lines_of_a_page_that_overlap_are_not_asked_for() -> None:
    apart = regions.Region("a", (0, 0, 50, 20), "line", 1)
    low, lower = (regions.Region("b", (0, top, 50, top + 20), "line", 1) for top in (30, 42))
    paragraph = regions.Region("b\nb", (0, 30, 50, 62), "paragraph", 2)
    known = [apart, low, lower, paragraph]
    assert [regions.alone(region, known) for region in known] == [True, False, False, True]


def test_formatted_blocks_of_pages_become_format_records(tmp_path: Path) -> None:
    """The block's box holds the words of its markdown, by the lines that the plain record tells."""
    common = ["--count", "6", "--side", "700", "--num-workers", "1", "--sources", "pydoc", "--dpi", "96"]
    args = [*common, "--out", str(tmp_path / "pages"), "--tasks", "ocr,format", "--blocks", "--seed", "5"]
    pages.make(pages.parser().parse_args(args))
    plain = record_source.open_records([tmp_path / "pages"], ("ocr",))
    formatted = record_source.open_records([tmp_path / "pages"], ("format",))
    engine = regions.RegionEngine(formatted, ("box", "point"), 2, 1.0)
    asked = 0
    for index in range(6):
        words = list(zip(plain[index].text.split("\n"), plain[index].meta["line_boxes"], strict=True))
        for row in engine.rows(index, rng(index)):
            assert row.task == "format" and row.text in formatted[index].text
            if len(row.box) == 4:
                x1, y1, x2, y2 = row.box
                inside = [t for t, (a, b, c, d) in words if x1 < (a + c) / 2 < x2 and y1 < (b + d) / 2 < y2]
                bare = row.text.replace("\\title{\n", "").replace("\n}", "").lstrip("- ")
                bare = bare.split("{", 1)[1][:-1] if bare.startswith("\\s") else bare
                assert "".join(" ".join(inside).lstrip("\u2022 ").split()) == "".join(bare.split())
                asked += 1
    assert asked > 8


def test_records_without_boxes_are_counted_and_wrong_ones_refused(tmp_path: Path) -> None:
    data = produce.encode(Image.new("L", (50, 50), 255), "png")
    (tmp_path / "a.png").write_bytes(data)
    path = tmp_path / "records.jsonl"
    path.write_text(json.dumps({"images": ["a.png"], "task": "ocr", "text": "no boxes"}) + "\n")
    args = ["--records", str(tmp_path), "--num-workers", "1"]
    summary = regions.make(regions.parser().parse_args([*args, "--out", str(tmp_path / "out")]))
    assert summary["rows"] == 0 and summary["rejected"] == {"no region with a box of its own": 1}
    record = {"images": ["a.png"], "task": "ocr", "text": "a\nb", "meta": {"line_boxes": [[0, 0, 5, 5]]}}
    path.write_text(json.dumps(record) + "\n")
    with pytest.raises(DataError, match="1 line_boxes for 2 lines of text"):
        regions.make(regions.parser().parse_args([*args, "--out", str(tmp_path / "out2")]))
