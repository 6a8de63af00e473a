"""Printed pages: what their lines say, where it stands, and that wear and crops leave both true."""

from __future__ import annotations

import io
import itertools
import random
from collections import Counter
from contextlib import suppress

import numpy
import pytest
from PIL import Image

from data_tools import produce
from data_tools.drawing import wear
from data_tools.drawing.fonts import find_font, load_font
from data_tools.engines import lines
from data_tools.text import printed, tokenizer
from got_train import prompts
from got_train.tokenizer import train_tokenizer

SANS = find_font("DejaVuSans")
WORDS = ("The", "harbour's", "12", "boats,", "\u00a3", "9", "each", "-", '"some"', "of", "them", "old.")


def rng(seed: int = 0) -> numpy.random.Generator:
    return numpy.random.default_rng(seed)


def engine(**changes: object) -> lines.LineEngine:
    settings = {
        "fonts": (SANS,), "tasks": ("ocr",), "shape": (256, 256), "sizes": (10, 34), "lines": (1, 8),
        "characters": (3, 24), "scatter": 256, "words": (WORDS,), "printed": True, "char_boxes": True,
    }  # fmt: skip
    return lines.LineEngine(**(settings | changes))


def rows(made: lines.LineEngine, count: int) -> list[produce.Row]:
    found: list[produce.Row] = []
    for index in range(2 * count):
        with suppress(produce.Rejected):
            found += made.rows(index, produce.generator(5, made.name, index, 0))
    return found[:count]


def picture(row: produce.Row) -> Image.Image:
    return Image.open(io.BytesIO(row.pictures[0].data))


def test_lines_are_as_long_as_asked_or_shorter_and_of_known_characters() -> None:
    seen: Counter[str] = Counter()
    for seed in range(3000):
        writer = printed.Writer(itertools.cycle(WORDS).__next__, random.Random(seed))
        lengths = [1 + seed % 9, 14, 30]
        for line, length in zip(writer.lines(lengths), lengths, strict=True):
            assert 0 < len(line) <= length and line.count("\t") <= 1
            assert printed.readable(line.replace(" ", "").replace("\t", "")), line
            seen.update(line)
    assert set(printed.CHARACTERS) <= set(seen)
    assert not printed.readable("caf\u00e9") and printed.readable("5\u20ac")


def test_capitals_are_capitals_and_no_sign_becomes_another() -> None:
    writers = [printed.Writer(itertools.cycle(WORDS).__next__, random.Random(seed)) for seed in range(300)]
    shouted = [line for writer in writers if writer.upper for line in writer.lines([24, 24])]
    assert len(shouted) > 100 and not any(
        char.islower() for line in shouted for char in line if char < "\x80"
    )
    assert "\u00b5m".translate(printed.CAPITALS) == "\u00b5M"  # str.upper would write a Greek capital


def test_what_follows_a_tab_ends_at_the_right_edge_of_the_block() -> None:
    page = lines.render_page(
        ["TOTAL\t9.00", "CASH AND CHANGE"], SANS, 16, (256, 80), rng(), spread=0.5, grey=False
    )
    ink = numpy.flatnonzero(
        (numpy.asarray(page.image) < 128)[page.boxes[0][1] : page.boxes[0][3]].any(axis=0)
    )
    gaps = numpy.diff(ink)
    assert gaps.max() > 40  # between the total and its price
    assert abs(ink.max() + 1 - page.boxes[0][2]) <= 2 and page.boxes[0][2] > page.boxes[1][2]
    assert "".join(cell[0] for cell in page.char_boxes[0]) == "TOTAL 9.00"
    price = [cell for cell in page.char_boxes[0] if cell[0] == "9"][0]
    column = numpy.asarray(page.image)[:, int(price[1]) : int(price[3])]
    assert (column < 128).any(), "the price's cell holds ink"


def test_indents_move_lines_within_the_block() -> None:
    page = lines.render_page(["a wide line here", "b", "c"], SANS, 16, 200, rng(), indents=[0, 0.5, 1])
    widest, middle, right = page.boxes
    assert right[2] == pytest.approx(widest[2], abs=2)
    assert (middle[0] + middle[2]) / 2 == pytest.approx((widest[0] + widest[2]) / 2, abs=2)


def test_a_view_is_filled_more_often_than_not_and_its_text_is_the_char_boxes() -> None:
    made = rows(engine(), 200)
    for row in made:
        assert row.text.count("\n") < 8 and max(map(len, row.text.split("\n"))) <= 24
        assert "".join(char_box[0] for char_box in row.char_boxes) == row.text.replace("\n", "")
    assert numpy.median([row.text.count("\n") + 1 for row in made]) >= 4
    sizes = [row.meta["size"] for row in made]
    assert min(sizes) == 10 and max(sizes) >= 32 and numpy.median(sizes) < 20


def test_cells_hold_the_ink_of_their_characters_on_turned_pages_too() -> None:
    turned = 0
    for row in rows(engine(degrade=1.0, sizes=(18, 24)), 60):
        warp = row.meta["degrade"].get("warp")
        turned += bool(warp) and abs(warp["matrix"][1][0]) > 0.01
        pixels = numpy.asarray(picture(row).convert("L")).astype(int)
        for char, x1, y1, x2, y2 in row.char_boxes:
            if char.isalnum() and x2 - x1 > 4:
                cell = pixels[max(0, y1) : y2, max(0, x1) : x2]
                assert cell.max() - cell.min() > 20, (row.id, char)
    assert turned > 5


def test_a_crop_has_its_lines_and_a_third_of_their_height_around_at_most() -> None:
    for row in rows(engine(crop=True, scatter=8), 60):
        width, height = picture(row).size
        boxes = row.meta["line_boxes"]
        least = boxes[0][3] - boxes[0][1]
        edges = min(box[0] for box in boxes), min(box[1] for box in boxes)
        ends = width - max(box[2] for box in boxes), height - max(box[3] for box in boxes)
        assert all(-1 <= edge <= least / 3 + 1 for edge in (*edges, *ends))


def test_every_kind_of_wear_changes_the_page_and_leaves_its_text_readable() -> None:
    text = ["HARBOUR 12", "some boats"]
    page = lines.render_page(text, SANS, 20, 200, rng(3), scatter=200)
    for name, step in wear._STEPS.items():
        pixels = numpy.array(page.image, numpy.float32)
        extremes = float(pixels.max()), float(pixels.min())
        changed = 0
        for seed in range(8):
            known = wear._Page(page.boxes, 20, *extremes, random.Random(seed))
            worn = step(pixels.copy(), known)
            changed += bool((abs(worn - pixels) > 1).any())
            for x1, y1, x2, y2 in page.boxes:
                line = worn[y1:y2, x1:x2].clip(0, 255)
                assert line.max() - line.min() > 0.15 * (extremes[0] - extremes[1]), name
        assert changed >= 4, name


def test_wear_is_the_same_for_the_same_numbers() -> None:
    page = lines.render_page(["some boats"], SANS, 20, 128, rng(3))
    one, other = (wear.wear(page.image, page.boxes, 20, random.Random(4)) for _ in range(2))
    assert one[1] == other[1] and one[0].tobytes() == other[0].tobytes()


def test_a_page_in_tiles_names_its_task_and_all_lines() -> None:
    row = rows(engine(tasks=("multi_crop_ocr",), shape=(512, 512), lines=(4, 14), characters=(12, 44)), 1)[0]
    assert row.task == "multi_crop_ocr" and picture(row).size == (512, 512) and "\n" in row.text


def test_the_tokenizer_for_print_has_a_token_for_every_character() -> None:
    made = train_tokenizer(tokenizer.texts(printed.SIGNS), 420)
    assert [char for char in printed.CHARACTERS if len(made.encode(char)) != 1] == []
    assert len(made.encode_prompt(prompts.build_prompt("ocr", view_tokens=1))) < 40


def test_the_tokenizer_in_the_repository_is_the_one_that_its_command_makes(tmp_path) -> None:
    assert tokenizer.main(["--print", "--size", "420", "--out", str(tmp_path)]) == 0
    made = (tmp_path / "qwen.tiktoken").read_bytes()
    with open("configs/nano/print/tokenizer/qwen.tiktoken", "rb") as kept:
        assert kept.read() == made


def test_a_font_has_the_width_that_lines_are_fitted_by() -> None:
    """A line of as many average characters as fit is no wider than the view."""
    for seed in range(40):
        made, setting = engine()._printed_lines(SANS, 20, rng(seed))
        assert set(setting) == {"indents", "spread"} and len(setting["indents"]) == len(made)
        assert numpy.median([load_font(SANS, 20).getlength(line) for line in made]) < 256
