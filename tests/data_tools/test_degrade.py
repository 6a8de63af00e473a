"""Degradations: letters stay the letters they were, nothing leaves the picture, boxes follow."""

from __future__ import annotations

import argparse

import numpy
import pytest
from PIL import Image, ImageDraw

from data_tools.drawing import degrade
from data_tools.drawing.fonts import find_font, load_font
from got_train.errors import DrawingError

pytest.importorskip("cv2")
SANS = find_font("DejaVuSans")
LETTERS = "abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"  # l, I, O, 0, 1 left out: near twins


def rng(seed: int = 0) -> numpy.random.Generator:
    return numpy.random.default_rng(seed)


def letter_page(size: int) -> tuple[Image.Image, list[tuple[int, int, int, int]]]:
    """Letters in a grid of cells of twice their size, black on white, with the cells."""
    face, cell = load_font(SANS, size), 2 * size
    image = Image.new("L", (12 * cell, 7 * cell), 255)
    draw, cells = ImageDraw.Draw(image), []
    for place, letter in enumerate(LETTERS):
        x, y = cell * (1 + place % 10), cell * (place // 10) + cell // 2
        draw.text((x + size // 2, y), letter, font=face, fill=0)
        cells.append((x, y, x + cell, y + cell - 1))
    return image, cells


def ink_like(image: Image.Image, cells: list[tuple[int, int, int, int]]) -> list[numpy.ndarray]:
    grey = 255 - numpy.asarray(image.convert("L")).astype(float)
    return [grey[y1:y2, x1:x2] - grey[y1:y2, x1:x2].mean() for x1, y1, x2, y2 in cells]


@pytest.mark.parametrize("size", [11, 16, 30])
def test_letters_of_full_strength_are_nearest_to_their_own_clean_shape_in_99_of_100(size: int) -> None:
    """The reader here is plain correlation with the clean letters, in the place the matrix names."""
    import cv2

    clean, cells = letter_page(size)
    shapes = ink_like(clean, cells)
    right = read = 0
    for seed in range(25):
        worse, _, matrix = degrade.degrade(clean, rng(seed), 1.0, size)
        half = numpy.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
        back = numpy.linalg.inv(half) @ numpy.linalg.inv(matrix) @ half
        level = Image.fromarray(cv2.warpPerspective(numpy.asarray(worse.convert("L")), back, clean.size,
                                                    borderMode=cv2.BORDER_REPLICATE))  # fmt: skip
        for place, found in enumerate(ink_like(level, cells)):
            alike = [(found * shape).sum() / numpy.linalg.norm(shape) for shape in shapes]
            right += int(numpy.argmax(alike) == place)
            read += 1
    assert right / read > 0.99


def test_all_ink_stays_on_the_picture_and_inside_the_boxes_that_follow_it() -> None:
    sides = []
    for seed in range(60):
        random = rng(seed)
        image = Image.new("L", (300, 200), 255)
        box = (*random.integers(0, 100, 2).tolist(), *random.integers(110, 200, 2).tolist())
        ImageDraw.Draw(image).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=0)
        worse, parameters, matrix = degrade.degrade(image, random, 1.0, 12)
        dark = numpy.argwhere(numpy.asarray(worse.convert("L")) < 60)
        (y1, x1), (y2, x2) = dark.min(axis=0), dark.max(axis=0) + 1
        (moved,) = degrade.moved([box], matrix, image.size)
        assert numpy.abs(numpy.array(moved) - (x1, y1, x2, y2)).max() <= 2  # soft edges
        corners = matrix @ [box[::2] + box[2::-2], numpy.repeat(box[1::2], 2), [1] * 4]
        (xs, ys), ones = corners[:2] / corners[2], numpy.array([1, 2, 3, 0])
        area = abs((xs * ys[ones] - xs[ones] * ys).sum()) / 2  # of a polygon, by its corners
        assert len(dark) > 0.95 * area  # nothing was cut off
        sides.append("warp" in parameters)
    assert 10 < sum(sides) < 50


def test_upright_degradation_keeps_lines_level() -> None:
    for seed in range(20):
        image, _ = letter_page(14)
        _, _, matrix = degrade.degrade(image, rng(seed), 1.0, 14, upright=True)
        assert matrix[0, 1] == matrix[1, 0] == matrix[2, 0] == matrix[2, 1] == 0
        assert degrade.LEAST_SCALE <= matrix[0, 0] <= 1


def test_the_generator_alone_decides_and_all_eight_kinds_come() -> None:
    image, _ = letter_page(20)
    kinds: set[str] = set()
    for seed in range(20):
        one, two = (degrade.degrade(image, rng(seed), 0.7, 20) for _ in range(2))
        assert one[0].tobytes() == two[0].tobytes() and one[1] == two[1]
        assert one[0].tobytes() != image.tobytes()
        kinds |= set(one[1]) | set(one[1].get("blur", {}))
    assert kinds >= {"warp", "bleed", "paper", "shadow", "blur", "motion", "noise", "jpeg"}


def test_half_the_pictures_are_degraded_by_a_share_of_one_half_and_none_by_zero() -> None:
    image, random = Image.new("L", (64, 64), 255), rng()
    made = sum(bool(degrade.apply(image, random, 0.5, 20)[1]) for _ in range(200))
    assert 75 < made < 125
    state = random.bit_generator.state
    same, parameters = degrade.apply(image, random, 0.0, 20)
    assert same is image and parameters == {} and random.bit_generator.state == state


def test_shares_and_strengths_beyond_one_are_refused() -> None:
    with pytest.raises(DrawingError, match=r"degrade: strength 1\.5 and text_height 12; expected 0\.\.1"):
        degrade.degrade(Image.new("L", (9, 9)), rng(), 1.5, 12)
    with pytest.raises(argparse.ArgumentTypeError, match="'2' is not a share from 0 to 1"):
        degrade.share("2")
