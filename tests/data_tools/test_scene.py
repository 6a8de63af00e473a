"""Scenes: the letters are on the picture, stand off what is under them, and are told in order of reading."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy
import pytest
from PIL import Image, ImageDraw

from data_tools import produce
from data_tools.drawing.fonts import find_font, load_font
from data_tools.engines import regions, scene
from data_tools.text import corpora
from got_train.errors import DrawingError

cv2 = pytest.importorskip("cv2")
SANS, SERIF = find_font("DejaVuSans"), find_font("DejaVuSerif")


def rng(seed: int = 0) -> numpy.random.Generator:
    return numpy.random.default_rng(seed)


def engine(**changes: object) -> scene.SceneEngine:
    english = scene.Language("en", corpora.documents("train", ("pydoc",)), (SANS, SERIF))
    settings = {"languages": (english,), "backgrounds": (), "tasks": ("scene", "slices"), "shape": (480, 360),
                "sizes": (16, 48), "regions": (1, 5)}  # fmt: skip
    return scene.SceneEngine(**(settings | changes))


def opened(row: produce.Row) -> Image.Image:
    return Image.open(io.BytesIO(row.pictures[0].data))


def test_every_region_laid_flat_again_shows_the_letters_that_pillow_draws() -> None:
    """Correlation of the picture, by the region's corners, with the text drawn without this module."""
    seen = 0
    for seed in range(12):
        random = rng(seed)
        maker = engine()
        pixels, _ = scene.draw_background((), maker.shape, random)
        for region in maker._placed(random):
            if len(region.lines) > 1:
                continue
            scene._paint(pixels, region, random)
            face = load_font(region.font, region.size)
            x1, y1, x2, y2 = map(int, face.getbbox(region.text))
            drawn = Image.new("L", (x2 - x1, y2 - y1))
            ImageDraw.Draw(drawn).text((-x1, -y1), region.text, font=face, fill=255)
            height, width = region.mask.shape
            flat = numpy.array([(0, 0), (width, 0), (width, height), (0, height)], numpy.float32)
            back = cv2.getPerspectiveTransform(region.corners.astype(numpy.float32), flat)
            grey = cv2.warpPerspective(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), back, (width, height))
            found = cv2.matchTemplate(grey, numpy.asarray(drawn), cv2.TM_CCOEFF_NORMED)
            assert abs(found).max() > 0.6, (seed, region.text)  # dark on light gives -1
            seen += 1
    assert seen > 20


def test_a_picture_is_read_row_by_row_and_left_to_right() -> None:
    boxes = [(200, 10, 300, 30), (10, 12, 90, 32), (10, 60, 300, 90), (400, 5, 450, 28)]
    assert regions.reading_order(boxes) == [1, 0, 3, 2]
    assert regions.reading_order([(0, 0, 9, 10), (20, 6, 29, 16)]) is None  # 0.4 of the height shared
    stairs = [(0, 0, 9, 10), (20, 4, 29, 14), (40, 8, 49, 18)]
    assert regions.reading_order(stairs) is None  # each beside the next, the first above the third
    assert regions.reading_order([]) == []


def test_slices_show_one_region_each_and_together_say_what_the_picture_says() -> None:
    for seed in range(8):
        whole, *slices = engine().rows(seed, rng(seed))
        assert whole.text == "\n".join(each.text for each in slices)
        boxes = [each["box"] for each in whole.meta["regions"]]
        sizes = [opened(each).size for each in slices]
        for (x1, y1, x2, y2), (width, height) in zip(boxes, sizes, strict=True):
            assert x2 - x1 <= width <= x2 - x1 + scene.GAP and y2 - y1 <= height <= y2 - y1 + scene.GAP
        for one in range(len(boxes)):
            for other in range(one):
                a, b = boxes[one], boxes[other]
                apart = max(a[0] - b[2], b[0] - a[2], a[1] - b[3], b[1] - a[3])
                assert apart >= scene.GAP


def test_chosen_colours_stand_90_greys_off_what_is_under_them() -> None:
    for seed in range(50):
        random = rng(seed)
        low = float(random.integers(0, 256))
        color = scene._color(low, low, random)
        grey = Image.new("RGB", (1, 1), tuple(color)).convert("L").getpixel((0, 0))
        assert abs(grey - low) >= scene.CONTRAST - 1


def test_text_like_its_background_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene, "_paint", lambda *_: None)
    with pytest.raises(produce.Rejected, match="text too faint on its background"):
        engine().rows(0, rng())


def test_characters_that_a_font_lacks_and_photos_that_are_none_are_refused(tmp_path: Path) -> None:
    chinese = scene.Language("zh", (corpora.Document("a", "", (), ("\u6c49\u5b57" * 40,)),), (SANS,))
    with pytest.raises(produce.Rejected, match="DejaVuSans lacks a character"):
        for seed in range(5):  # some texts are numbers
            engine(languages=(chinese,), regions=(3, 3)).rows(0, rng(seed))
    (tmp_path / "a.jpg").write_text("no picture")
    photos = scene.find_photos(tmp_path)
    with pytest.raises(DrawingError, match=r"a\.jpg: not a picture"):
        engine(backgrounds=photos).rows(0, rng())
    with pytest.raises(DrawingError, match="--backgrounds nowhere: no such folder"):
        scene.find_photos(Path("nowhere"))


def test_photos_lie_under_the_text_and_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    Image.new("RGB", (900, 500), (10, 120, 30)).save(tmp_path / "green.png")
    made = [engine(backgrounds=scene.find_photos(tmp_path), degrade=0.5).rows(3, rng(3)) for _ in range(2)]
    assert made[0] == made[1] and made[0][0].meta["background"] == "green.png"
    plain = engine(backgrounds=scene.find_photos(tmp_path)).rows(1, rng(1))[0]
    green = (abs(numpy.asarray(opened(plain)).astype(int) - (10, 120, 30)).max(axis=2) < 12).mean()
    assert green > 0.5


def test_the_command_writes_records_that_our_reader_takes(tmp_path: Path) -> None:
    from got_train.data.records import read_records

    args = ["--out", str(tmp_path), "--count", "3", "--container", "folder", "--num-workers", "1"]
    args += ["--sources", "pydoc", "--fonts", "DejaVuSans", "--tasks", "scene", "--degrade", "1"]
    summary = scene.make(scene.parser().parse_args(args))
    records = read_records(tmp_path / "records.jsonl", check_files=True)
    assert summary["rows"] == len(records) == 3 and {record.task for record in records} == {"ocr"}
    meta = json.loads((tmp_path / "records.jsonl").open(encoding="utf-8").readline())["meta"]
    assert meta["fonts"][0] == "DejaVuSans" and meta["degrade"]["strength"] > 0
