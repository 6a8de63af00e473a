"""Arabic, Hebrew and other scripts that join or run from the right: drawn as a shaper does, or refused so.

Hebrew letters do not join, so that their order alone can be told without any shaper: the first is rightmost.
"""

import json
from pathlib import Path

import numpy
import pytest
from PIL import Image, ImageDraw, ImageFont, features

from data_tools import produce
from data_tools.drawing import fonts
from data_tools.engines import handwriting, lines, music, negatives, pages, scene
from data_tools.text import corpora, phrases, scripts
from got_train.formats.spots import parse

ARABIC = "كتاب جديد في المدينة القديمة وهو يصف البيت والبحر والنهر الكبير " * 6
HEBREW = "ספר חדש בעיר הישנה הוא מתאר את הבית ואת הים ואת הנהר הגדול " * 6
PERSIAN = "این کتاب\u200cها را می\u200cخواهم و او نمی\u200cداند که چه باید بکند " * 6
HINDI = "नदी के किनारे एक छोटा गाँव है वहाँ के लोग मछली पकड़ते हैं " * 6
SANS = fonts.find_font("DejaVuSans")
ENGINES = ("lines", "scene", "handwriting", "negatives", "music")
SHAPER = pytest.mark.skipif(not features.check("raqm"), reason="this Pillow has no RAQM")


def rng(seed: int = 0) -> numpy.random.Generator:
    return numpy.random.default_rng(seed)


def ink(image: Image.Image) -> numpy.ndarray:
    dark = numpy.asarray(image.convert("L")) < 128
    rows, columns = numpy.flatnonzero(dark.any(axis=1)), numpy.flatnonzero(dark.any(axis=0))
    return dark[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def set_by(layout: ImageFont.Layout, text: str, size: int) -> numpy.ndarray:
    """The text drawn by Pillow alone."""
    image = Image.new("L", (1200, 120), 255)
    face = ImageFont.truetype(str(SANS), size, layout_engine=layout)
    ImageDraw.Draw(image).text((20, 20), text, font=face, fill=0)
    return ink(image)


@SHAPER
@pytest.mark.parametrize("text", [ARABIC, HEBREW, PERSIAN], ids=["Arabic", "Hebrew", "Persian"])
def test_a_line_is_drawn_as_the_shaper_sets_it_and_not_letter_by_letter(text: str) -> None:
    for line in (" ".join(text.split()[:3]), text.split()[1]):
        page = lines.render_page([line], SANS, 24, (600, 80), rng(), grey=False)
        drawn = ink(page.image)
        assert numpy.array_equal(drawn, set_by(ImageFont.Layout.RAQM, line, 24))
        assert not numpy.array_equal(drawn, set_by(ImageFont.Layout.BASIC, line, 24))
        x1, y1, x2, y2 = page.boxes[0]
        dark = numpy.argwhere(numpy.asarray(page.image) < 128)
        assert (dark.min(axis=0) >= (y1, x1)).all() and (dark.max(axis=0) < (y2, x2)).all()
        assert page.char_boxes == [[]]  # letters that join have no cells


@SHAPER
def test_the_first_letter_of_hebrew_stands_on_the_right_and_numbers_read_from_the_left() -> None:
    drawn = ink(lines.render_page(["א12"], SANS, 32, 160, rng(), grey=False).image)
    letter, number = (set_by(ImageFont.Layout.BASIC, part, 32) for part in ("א", "12"))
    assert numpy.array_equal(ink(Image.fromarray(~drawn[:, -letter.shape[1] :])), letter)
    assert numpy.array_equal(ink(Image.fromarray(~drawn[:, : number.shape[1]])), number)


@SHAPER
def test_lines_from_right_to_left_end_at_one_edge_and_keep_their_logical_text() -> None:
    long, short = " ".join(HEBREW.split()[:4]), HEBREW.split()[0]
    page = lines.render_page([long, short], SANS, 20, (400, 100), rng(), grey=False)
    assert page.boxes[0][2] == page.boxes[1][2] and page.boxes[0][0] < page.boxes[1][0]
    left = lines.render_page(["one two three", "one"], SANS, 20, (400, 100), rng(), grey=False)
    assert left.boxes[0][0] == left.boxes[1][0]


@SHAPER
@pytest.mark.parametrize("task", ["ocr", "spot", "box"])
def test_records_hold_the_text_as_it_is_typed(tmp_path: Path, task: str) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "0.txt").write_text(f"{ARABIC}\n\n\u200f{PERSIAN}", encoding="utf-8")
    flags = ["--count", "4", "--container", "folder", "--num-workers", "1", "--texts", str(texts)]
    flags += ["--fonts", str(SANS), "--tasks", task, "--characters", "3-20", "--width", "400", "--char-boxes"]
    assert lines.main(["--out", str(tmp_path / "out"), *flags]) == 0
    typed = f"{' '.join(ARABIC.split())} {' '.join(PERSIAN.split())} {' '.join(ARABIC.split())}"
    for row in map(json.loads, (tmp_path / "out/records.jsonl").open(encoding="utf-8")):
        found = [spot.text for spot in parse(row["text"])[0]] if task == "spot" else row["text"].split("\n")
        assert all(line in typed for line in found) and "\u200f" not in row["text"]
        assert not row.get("char_boxes")


def engines(text: str) -> dict[str, object]:
    documents = (corpora.Document("text:0", "", (), (text,)),)
    language = (scene.Language("en", documents, (SANS,)),)
    return {
        "lines": lambda: lines.LineEngine(
            (SANS,), ("ocr",), (500, 200), (20, 20), (1, 2), (3, 9), 8, (tuple(text.split()),), attempts=3
        ).rows(0, rng()),
        "scene": lambda: scene.SceneEngine(
            languages=language,
            backgrounds=(),
            tasks=("scene",),
            shape=(640, 480),
            sizes=(24, 32),
            regions=(1, 2),
        ).rows(0, rng()),
        "handwriting": lambda: handwriting.HandwritingEngine(language, (), (640, 480), (3, 3), (26, 30)).rows(
            0, rng()
        ),
        "negatives": lambda: negatives.NegativeEngine(
            languages=language, kinds=("covered",), shapes=((640, 640), (480, 480)), sizes=(20, 24)
        ).rows(0, rng()),
        "music": lambda: heading(music.MusicEngine(documents, (SANS,), (1,), (4, 4), 1.0)),
    }


def heading(engine: music.MusicEngine) -> list[produce.Row]:
    """The row of a title over a system, without the program that engraves one."""
    sheet, words = Image.new("L", (900, 120), 255), engine._heading(rng(3))
    engine._write(sheet, words, 24, 60, rng())
    assert ink(sheet).size
    return [produce.Row("0", (), "format", " ".join(words))]


@SHAPER
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("text", [ARABIC, HEBREW], ids=["Arabic", "Hebrew"])
def test_engines_that_draw_by_pillow_take_such_texts(engine: str, text: str) -> None:
    rows = engines(text)[engine]()
    letters = set("".join(text.split()))
    assert rows and all(set("".join(row.text.split())) <= letters for row in rows)


@pytest.mark.parametrize("engine", ENGINES)
def test_without_a_shaper_every_engine_refuses_them_by_name(monkeypatch, engine: str) -> None:
    monkeypatch.setattr(fonts, "has_shaper", lambda: False)
    for text, name in ((ARABIC, "Arabic"), (HEBREW, "Hebrew")):
        with pytest.raises(produce.Rejected, match=f"{name} needs a shaper, .* install libraqm"):
            engines(text)[engine]()


def test_engines_with_programs_of_their_own_refuse_them_by_name() -> None:
    documents = (corpora.Document("text:0", "", (), (ARABIC,)),)
    faces = pages.find_faces(["DejaVuSans"])
    page = pages.PageEngine(documents, faces, ("ocr",), (800, 1000), 96, (9, 11), (1, 1))
    with pytest.raises(
        produce.Rejected, match="Arabic text, which this engine cannot set; use engines.lines"
    ):
        page.rows(0, rng())
    with pytest.raises(produce.Rejected, match="Arabic text, which this engine cannot set"):
        phrases.phrase(documents, (1, 3), rng())
    assert phrases.phrase(documents, (2, 2), rng(), shaped=True) in " ".join(ARABIC.split())


@pytest.mark.parametrize(
    ("text", "shaped", "right", "name"),
    [
        ("plain Latin, naïve façade", False, False, ""),
        ("汉字 カナ 한글", False, False, ""),
        ("Привет Ελλάδα", False, False, ""),
        ("سلام", True, True, "Arabic"),
        ("12 שלום", True, True, "Hebrew"),
        ("the word שלום", True, False, "Hebrew"),
        ("नमस्ते", True, False, "Devanagari"),
        ("ܫܠܡܐ", True, True, "Syriac"),
        ("ไม่", True, False, "Thai"),
        ("e\u0301", True, False, "Combining"),
    ],
)
def test_which_texts_a_shaper_sets(text: str, shaped: bool, right: bool, name: str) -> None:
    assert (scripts.needs_shaping(text), scripts.is_right_to_left(text)) == (shaped, right)
    assert not shaped or scripts.script_name(text) == name


def test_a_font_without_the_letters_is_refused_before_any_shaping() -> None:
    assert set(fonts.missing(SANS, HINDI)) == set("".join(HINDI.split()))
    with pytest.raises(fonts.FontError, match="DejaVuSans cannot draw"):
        lines.render_page([HINDI[:9]], SANS, 24, 400, rng())
