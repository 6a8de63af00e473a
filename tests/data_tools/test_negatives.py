"""Negatives: empty where nothing can be read, and of covered pages exactly the lines that are untouched."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import subprocess
from pathlib import Path

import numpy
import pytest
from PIL import Image

from data_tools import produce
from data_tools.drawing.fonts import find_font
from data_tools.engines import lines, negatives, scene
from data_tools.text import corpora
from got_train.data.records import RecordError, read_records

SANS = find_font("DejaVuSans")
WORDS = "Plain words of a paragraph that says nothing about covers and holds several small stories."
LANGUAGES = (scene.Language("en", (corpora.Document("a", "", (), (WORDS,)),), (SANS,)),)

needs_tesseract = pytest.mark.skipif(not shutil.which("tesseract"), reason="needs tesseract")


def rng(seed: int = 0) -> numpy.random.Generator:
    return numpy.random.default_rng(seed)


def engine(**changes: object) -> negatives.NegativeEngine:
    settings = {"languages": LANGUAGES, "photo_shape": (320, 240), "kinds": negatives.KINDS,
                "shapes": ((400, 500), (400, 500)), "sizes": (18, 24)}  # fmt: skip
    return negatives.NegativeEngine(**(settings | changes))


def made(kind: str, count: int) -> list[produce.Row]:
    rows: list[produce.Row] = []
    seed = 0
    while len(rows) < count:
        with contextlib.suppress(produce.Rejected):
            rows += engine(kinds=(kind,)).rows(len(rows), rng(seed))
        seed += 1
    return rows


def test_blank_photo_and_ruined_pictures_have_an_empty_text() -> None:
    for kind in ("blank", "photo", "ruined"):
        for row in made(kind, 4):
            assert (row.task, row.text, row.meta["kind"]) == ("ocr", "", kind)


def test_what_covers_lines_hides_all_their_ink_and_touches_no_other() -> None:
    size, shape = 20, (420, 420)
    texts = ["first line", "second gyp", "third", "fourth line", "fifth"]
    for seed in range(30):
        page = lines.render_page(texts, SANS, size, shape, rng(seed), grey=False)
        hidden, free = page.boxes[1:3], [page.boxes[0], *page.boxes[3:]]
        try:
            mask = negatives._cover(shape, hidden, free, rng(seed))
        except produce.Rejected:
            continue
        drawn = numpy.asarray(page.image) < 255
        rows = numpy.flatnonzero(drawn.any(axis=1))
        own = numpy.zeros_like(drawn)
        for x1, y1, x2, y2 in hidden:
            own[y1:y2, x1:x2] = True
        assert rows.size and (drawn & own & mask).sum() == (drawn & own).sum()
        assert not (drawn & ~own & mask).any()


def test_a_covered_page_tells_the_lines_that_remain_in_order() -> None:
    for row in made("covered", 5):
        hidden = row.meta["hidden_lines"]
        remaining = row.text.split("\n")
        assert hidden == list(range(hidden[0], hidden[-1] + 1)) and remaining and all(remaining)
        assert "lines" not in row.meta  # the hidden text stands nowhere in the record


@needs_tesseract
def test_tesseract_reads_the_lines_that_remain_of_three_covered_pages(tmp_path: Path) -> None:
    for place, row in enumerate(made("covered", 3)):
        path = tmp_path / f"{place}.png"
        Image.open(io.BytesIO(row.pictures[0].data)).convert("L").resize((1200, 1200)).save(path)
        command = ["tesseract", str(path), "-", "--psm", "6"]
        read = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        words = row.text.split()
        found = sum(word in read for word in words)
        assert found >= 0.7 * len(words), (row.text, read)


@pytest.mark.parametrize("ruin", [negatives.blur, negatives.smear, negatives.pixelate])
def test_after_ruin_two_words_of_the_same_width_differ_less_than_their_contrast(ruin: object) -> None:
    """What tells letters apart is gone: an l and an o of one width leave nearly the same grey."""
    pages = [
        lines.render_page([text], find_font("DejaVuSansMono"), 24, (300, 80), rng(1), grey=False).image
        for text in ("oleolecseesl", "sceloeslocee")
    ]
    clean = numpy.abs(numpy.subtract(*(numpy.asarray(page).astype(int) for page in pages))).max()
    ruined = [numpy.asarray(ruin(page, 24, rng(1))).astype(int) for page in pages]
    assert clean == 255 and numpy.abs(ruined[0] - ruined[1]).max() < 100


def test_blank_papers_differ_and_hold_their_rules_only() -> None:
    plain = negatives.blank_paper((300, 200), "plain", rng(3))
    ruled = negatives.blank_paper((300, 200), "ruled", rng(3))
    assert plain.shape == ruled.shape == (200, 300, 3) and not numpy.array_equal(plain, ruled)
    assert not numpy.array_equal(plain, negatives.blank_paper((300, 200), "plain", rng(4)))


def test_empty_texts_are_read_when_they_are_allowed_and_refused_when_not(tmp_path: Path) -> None:
    arguments = ["--count", "6", "--kinds", "blank,photo", "--container", "folder", "--sources", "pydoc"]
    arguments += ["--width", "100-120", "--height", "100-120", "--num-workers", "1"]
    for name in ("one", "two"):
        assert negatives.main([*arguments, "--out", str(tmp_path / name)]) == 0
    records = read_records(tmp_path / "one" / "records.jsonl", allow_empty=True)
    assert [record.text for record in records] == [""] * 6
    with pytest.raises(RecordError, match="empty answer"):
        read_records(tmp_path / "one" / "records.jsonl")[0]
    first = (tmp_path / "one" / "records.jsonl").read_text()
    assert first == (tmp_path / "two" / "records.jsonl").read_text()
    for line in first.splitlines():
        name = json.loads(line)["images"][0]
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
