"""Handwritten pages: lines whole and apart, told in order of their places, from fonts and from real lines."""

from __future__ import annotations

import io
import itertools
import json
from pathlib import Path

import numpy
import pytest
from PIL import Image, ImageDraw

from data_tools import produce
from data_tools.drawing.fonts import find_font, load_font
from data_tools.engines import handwriting, scene
from data_tools.text import corpora
from got_train.errors import DrawingError

pytest.importorskip("cv2")
SANS = find_font("DejaVuSans")
SAID = {"a01-000u-00": "A move to stop", "a01-000u-01": "from nominating any,", "b02-001-00": "more of it."}


def rng(seed: int = 0) -> numpy.random.Generator:
    return numpy.random.default_rng(seed)


def engine(**changes: object) -> handwriting.HandwritingEngine:
    english = scene.Language("en", corpora.documents("train", ("pydoc",)), (SANS,))
    settings = {
        "languages": (english,),
        "samples": (),
        "shape": (600, 600),
        "lines": (6, 8),
        "sizes": (18, 30),
    }
    return handwriting.HandwritingEngine(**(settings | changes))


def ink(row: produce.Row) -> numpy.ndarray:
    page = numpy.asarray(Image.open(io.BytesIO(row.pictures[0].data)).convert("L")).astype(int)
    return page < numpy.median(page) - 45  # JPEG ripples are fainter


@pytest.fixture
def line_folder(tmp_path: Path) -> Path:
    """Lines on grey paper, as pairs with .txt files."""
    tmp_path = tmp_path / "lines"
    tmp_path.mkdir()
    for name, text in SAID.items():
        image = Image.new("L", (400, 50), 210)
        ImageDraw.Draw(image).text((20, 8), text, font=load_font(SANS, 26), fill=40)
        image.save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_text(text + "\n")
    return tmp_path


def test_all_ink_lies_in_six_to_eight_boxes_that_do_not_overlap() -> None:
    made = 0
    for seed in range(12):
        try:
            (row,) = engine().rows(seed, rng(seed))
        except produce.Rejected:
            continue
        made += 1
        boxes, drawn = row.meta["line_boxes"], ink(row)
        assert 6 <= len(boxes) == len(row.text.split("\n")) <= 8
        for one, other in itertools.combinations(boxes, 2):
            assert max(one[0] - other[2], other[0] - one[2], one[1] - other[3], other[1] - one[3]) >= 4
        for (x1, y1, x2, y2), text in zip(boxes, row.text.split("\n"), strict=True):
            assert drawn[y1:y2, x1:x2].any()
            assert x2 - x1 > 0.7 * load_font(SANS, 18).getlength(text)  # the whole line, in size 18 or more
            drawn[y1 - 1 : y2 + 1, x1 - 1 : x2 + 1] = False
        assert not drawn.any()
        for one, other in itertools.pairwise(boxes):
            assert other[3] > one[1]  # never a line that ends above the start of the one before it
    assert made >= 8


def test_lines_from_a_folder_from_iam_and_from_jsonl_are_the_same(line_folder: Path) -> None:
    samples = handwriting.find_samples(line_folder, "all")
    assert {sample.path.stem: sample.text for sample in samples} == SAID
    iam = line_folder / "lines.txt"
    words = {"a01-000u-01": "from|nominating|any|,", "b02-001-00": "more|of|it|."}
    rows = [
        f"{name} ok 154 19 0 0 9 9 {words.get(name, text.replace(' ', '|'))}" for name, text in SAID.items()
    ]
    iam.write_text("# comment\n" + "\n".join(rows) + "\na01-000u-02 err 154 19 0 0 9 9 wrong\n")
    assert handwriting.find_samples(iam, "all") == samples
    listed = line_folder / "all.jsonl"
    listed.write_text("".join(json.dumps({"image": f"{n}.png", "text": t}) + "\n" for n, t in SAID.items()))
    assert handwriting.find_samples(listed, "all") == samples


def test_lines_of_one_iam_form_stay_on_one_side(line_folder: Path) -> None:
    rows = [f"{name} ok 154 19 0 0 9 9 x" for name in SAID]
    (line_folder / "lines.txt").write_text("\n".join(rows))
    sides = {side: [] for side in corpora.SPLITS}
    for side in corpora.SPLITS:
        try:
            sides[side] = [s.path.stem for s in handwriting.find_samples(line_folder, side)]
        except DrawingError:
            continue
    assert sorted(sides["train"] + sides["test"]) == sorted(SAID)
    assert ("a01-000u-00" in sides["train"]) == ("a01-000u-01" in sides["train"])


def test_pasted_real_lines_look_like_the_lines_given(line_folder: Path) -> None:
    """Each pasted line is most like its own picture, by correlation, and not like the others."""
    samples = handwriting.find_samples(line_folder, "all")
    (row,) = engine(samples=samples, lines=(3, 3)).rows(0, rng(4))
    page = numpy.asarray(Image.open(io.BytesIO(row.pictures[0].data)).convert("L"))
    for (x1, y1, x2, y2), text in zip(row.meta["line_boxes"], row.text.split("\n"), strict=True):
        alike = {}
        for sample in samples:
            whole = Image.open(sample.path)
            cut = whole.crop(Image.eval(whole, lambda grey: 255 * (grey < 180)).getbbox())
            shape = numpy.asarray(cut.resize((x2 - x1, y2 - y1))).astype(float)
            alike[sample.text] = numpy.corrcoef(shape.ravel(), page[y1:y2, x1:x2].ravel())[0, 1]
        assert max(alike, key=alike.get) == text and alike[text] > 0.9


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.png", b"", r"c\.png: no c\.txt beside it; expected one text a picture"),
        ("lines.txt", b"a01-000u-00 ok text", r"lines\.txt:1: 'a01-000u-00 ok text' is not a line of IAM"),
        ("all.jsonl", b'{"text": "x"}', r"all\.jsonl:1: .* is not a line; write"),
        ("all.jsonl", b'{"image": "no.png", "text": "x"}', r"no file .*no\.png"),
        ("all.jsonl", b'{"image": "b02-001-00.png", "text": "x\\ny"}', "is not one line"),
    ],
)
def test_broken_lists_of_lines_are_refused_by_name(
    line_folder: Path, name: str, content: bytes, message: str
) -> None:
    path = line_folder / name
    path.write_bytes(content)
    given = path if path.suffix == ".jsonl" else line_folder
    with pytest.raises(DrawingError, match=message):
        handwriting.find_samples(given, "all")


def test_the_command_draws_the_same_page_again(tmp_path: Path, line_folder: Path) -> None:
    made = []
    for name in ("one", "two"):
        args = ["--out", str(tmp_path / "out" / name), "--count", "2", "--line-images", str(line_folder)]
        args += ["--container", "folder", "--num-workers", "1", "--degrade", "1", "--split", "train"]
        handwriting.make(handwriting.parser().parse_args(args))
        made.append((tmp_path / "out" / name / "records.jsonl").read_bytes())
    assert made[0] == made[1] and b'"sources"' in made[0]
