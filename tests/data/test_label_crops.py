"""Lines and windows cut out of labelled pages: their pixels, their texts, their documents."""

import json

import numpy as np
import pytest
from PIL import Image

from got_train.cli.convert_data import main
from got_train.data.labels.crops import WINDOW_ROWS, text_rows, window_crops
from got_train.data.records import read_records
from got_train.formats.spots import Spot
from got_train.images import open_image

ROWS = 23


@pytest.fixture
def receipt(tmp_path):
    """A grey page whose row r has the grey 10 * r: a name on the left, a price far to the right of it."""
    folder = tmp_path / "scans"
    folder.mkdir()
    pixels = np.full((40 * ROWS + 20, 400), 255, np.uint8)
    lines = []
    for row in range(ROWS):
        top = 20 + 40 * row
        pixels[top : top + 20, 20:120] = pixels[top : top + 20, 320:380] = 10 * row
        lines += [f"320,{top + 2},380,{top + 2},380,{top + 22},320,{top + 22},{row}.00"]
        lines += [f"20,{top},120,{top},120,{top + 20},20,{top + 20},ITEM {row}, NEW"]
    Image.fromarray(pixels).save(folder / "r1.png")
    (folder / "r1.txt").write_text("\n".join(lines))
    return folder


def test_every_line_is_a_picture_of_its_box_and_a_tenth_of_its_height_around(receipt, tmp_path):
    assert main([str(receipt), "--to", "records", "-o", str(tmp_path / "out"), "--tasks", "line"]) == 0
    records = read_records(tmp_path / "out/records.jsonl", check_files=True)
    assert len(records) == 2 * ROWS and {record.document for record in records} == {"r1"}
    by_text = {record.text: Image.open(record.images[0]) for record in records}
    item, price = by_text["ITEM 3, NEW"], by_text["3.00"]
    assert (item.size, item.mode) == ((104, 24), "L") and price.size == (64, 24)
    pixels = np.asarray(item)
    assert (pixels[2:22, 2:102] == 30).all() and (pixels == 30).sum() == 2000
    assert (
        np.asarray(price) == 30
    ).sum() == 60 * 20  # its label stands 2 pixels too low, the margin mends it


def test_windows_hold_every_row_once_from_the_top_and_say_price_behind_item(receipt, tmp_path):
    assert main([str(receipt), "--to", "records", "-o", str(tmp_path / "out"), "--tasks", "window"]) == 0
    records = read_records(tmp_path / "out/records.jsonl", check_files=True)
    texts = [records[place].text.split("\n") for place in range(len(records))]
    assert [row for text in texts for row in text] == [f"ITEM {row}, NEW {row}.00" for row in range(ROWS)]
    assert all(WINDOW_ROWS[0] <= len(text) <= WINDOW_ROWS[1] for text in texts)
    first = np.asarray(open_image(records[0].images[0]))
    assert sorted(set(first[..., 0].ravel().tolist())) == [*range(0, 10 * len(texts[0]), 10), 255]


def test_no_window_of_one_or_two_rows_is_left_over_where_others_can_take_them(receipt, tmp_path):
    for count in range(3, 60):
        path = str(tmp_path / f"p{count}.png")
        Image.new("L", (50, 20 * count)).save(path)
        spots = [Spot(str(row), (5, 20 * row, 45, 20 * row + 15)) for row in range(count)]
        sizes = [len(text.split("\n")) for _, text in window_crops(path, spots)]
        assert sum(sizes) == count and max(sizes) <= WINDOW_ROWS[1]
        assert min(sizes[:-1], default=3) >= WINDOW_ROWS[0]


def test_rows_are_told_by_height_not_by_distance():
    left, right, below = (
        Spot("a", (0, 0, 10, 20)),
        Spot("b", (500, 9, 540, 29)),
        Spot("c", (20, 21, 30, 41)),
    )
    assert [[spot.text for spot in row] for row in text_rows([right, below, left])] == [["a", "b"], ["c"]]


def test_crops_are_the_same_in_a_second_run(receipt, tmp_path):
    for name in ("one", "two"):
        target = str(tmp_path / name)
        assert main([str(receipt), "--to", "records", "-o", target, "--tasks", "line,window"]) == 0
    one, two = ((tmp_path / name / "records.jsonl").read_text() for name in ("one", "two"))
    assert one == two and len(json.loads(one.split("\n")[0])["images"]) == 1
    names = sorted(path.name for path in (tmp_path / "one/images").iterdir())
    assert names[0] == "r1-line001.png" and names[-1].startswith("r1-window")
