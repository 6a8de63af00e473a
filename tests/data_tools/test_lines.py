"""Engines of data_tools: what is drawn is what a record says, and a run gives the same bytes every way."""

from __future__ import annotations

import io
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy
import pytest
from PIL import Image

from data_tools import produce
from data_tools.drawing import text_layer
from data_tools.drawing.fonts import FontError, find_font, find_fonts, load_font, missing
from data_tools.engines import lines, pages, pdf, regions
from data_tools.text import corpora, phrases
from got_train.errors import DrawingError

ROOT = Path(__file__).parents[2]
SANS, SERIF = find_font("DejaVuSans"), find_font("DejaVuSerif")
WORDS = (("one", "fox", "jumps", "over", "Quick", "(dogs)"), ("lazy", "brown", "type", "12:30"))


def rng(seed: int = 0) -> numpy.random.Generator:
    return numpy.random.default_rng(seed)


def ink(image: Image.Image) -> numpy.ndarray:
    """Pixels that are not paper (the most frequent grey)."""
    grey = numpy.asarray(image.convert("L")).astype(int)
    return grey != numpy.bincount(grey.ravel()).argmax()


def line_engine(**changes: object) -> lines.LineEngine:
    settings = {
        "fonts": (SANS, SERIF), "tasks": ("ocr", "box", "color"), "shape": (128, 128), "sizes": (13, 16),
        "lines": (1, 4), "characters": (3, 9), "scatter": 8, "words": WORDS,
    }  # fmt: skip
    return lines.LineEngine(**(settings | changes))


def plan(
    out: Path, container: str = "parquet", count: int = 60, shard_pages: int = 20, seed: int = 7
) -> produce.Plan:
    return produce.Plan(out, container, count, seed, shard_pages, settings={})


def files(folder: Path) -> dict[str, bytes]:
    """Everything written but the counts, which name the folder."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if not name.endswith("summary.json")}


def page_engine(**changes: object) -> pages.PageEngine:
    faces = pages.find_faces(["DejaVuSerif", "typst:Libertinus Serif"])
    settings = {
        "documents": corpora.documents("train", ("pydoc",)), "faces": faces, "shape": (600, 800), "dpi": 96,
        "tasks": ("ocr", "format", "box", "color"), "sizes": (8, 11), "columns": (1, 2), "suffix": "png",
    }  # fmt: skip
    return pages.PageEngine(**(settings | changes))


STYLE = pages.Style("DejaVu Serif", "normal", 400, 10, 1, 30, 0.65, 1.2, 0, False, False, 255, 0)


def set_page(blocks: list[pages.Block], style: pages.Style = STYLE) -> bytes:
    source = pages.typst_source(blocks, style, 450, 600)
    engine = page_engine()
    made, warnings = pages._compiler(engine._font_folders).compile_with_warnings(
        source.encode(), format="pdf"
    )
    assert not warnings
    return made


# --- lines


def test_a_drawn_letter_is_the_same_letter_drawn_by_freetype_alone() -> None:
    page = lines.render_page(["A"], SANS, 24, 64, rng(), grey=False)
    x1, y1, x2, y2 = page.boxes[0]
    mask = load_font(SANS, 24).getmask("A")  # FreeType's own bitmap, not through ImageDraw
    bitmap = numpy.array(mask).reshape(mask.size[::-1])
    drawn = 255 - numpy.asarray(page.image)[y1:y2, x1 : x1 + bitmap.shape[1]].astype(int)
    assert bitmap.max() == 255 and numpy.array_equal(drawn, bitmap)
    assert ink(page.image).sum() == (bitmap > 0).sum()  # and nothing elsewhere


@pytest.mark.parametrize("font", [SANS, SERIF], ids=lambda path: path.stem)
def test_boxes_hold_all_ink_of_their_lines_and_no_more_than_two_empty_rows(font: Path) -> None:
    for seed in range(40):
        page = lines.render_page(["Quick", "yes, (no)", "_jp|"], font, 15, 128, rng(seed))
        drawn = ink(page.image)
        covered = numpy.zeros_like(drawn)
        for x1, y1, x2, y2 in page.boxes:
            covered[y1:y2, x1:x2] = True
            rows = numpy.flatnonzero(drawn[y1:y2, x1:x2].any(axis=1))
            assert rows[0] <= 1 and rows[-1] >= y2 - y1 - 2
        assert not (drawn & ~covered).any()


def test_character_cells_follow_freetypes_lengths_of_beginnings() -> None:
    text = "AVATAR, Wave"  # much kerning
    page = lines.render_page([text], SERIF, 16, 200, rng())
    for place, (char, x1, _, x2, _) in enumerate(page.char_boxes[0]):
        start = page.char_boxes[0][0][1]
        assert char == text[place]
        assert x2 - start == pytest.approx(load_font(SERIF, 16).getlength(text[: place + 1]), abs=0.6)
        assert x1 < x2


def test_a_line_of_130_pixels_is_refused_on_a_page_of_128() -> None:
    with pytest.raises(lines.LineError, match="lines: 1 lines of DejaVuSans 16 need"):
        lines.render_page(["much too long for it"], SANS, 16, 128, rng())


def test_a_frame_has_its_colour_around_the_box_and_touches_no_ink() -> None:
    for seed in range(20):
        page = lines.render_page(["one", "gyp", "two"], SANS, 14, 128, rng(seed), frames={1: "blue"})
        pixels = numpy.asarray(page.image)
        x1, y1, x2, y2 = page.boxes[1]
        blue = (pixels == (0, 0, 255)).all(axis=2)
        outside, inside = (x2 - x1 + 8) * (y2 - y1 + 8), (x2 - x1 + 4) * (y2 - y1 + 4)
        assert blue.sum() == outside - inside  # a full ring of 2 pixels, so nothing was drawn over it
        assert blue[y1 - 4, x1 - 4] and blue[y2 + 3, x2 + 3]
        rings = ink(page.image) & ~blue
        assert not rings[y1 - 4 : y1, x1 - 4 : x2 + 4].any()


def test_a_character_that_the_font_lacks_is_refused_and_counted_never_drawn(tmp_path: Path) -> None:
    assert missing(SANS, "a\u6f22b\u6f22") == "\u6f22"
    with pytest.raises(FontError, match="DejaVuSans cannot draw"):
        lines.render_page(["a\u6f22"], SANS, 14, 128, rng())
    words = (("fine", "words", "only", "but", "one", "\u6f22\u5b57"),)
    summary = produce.produce(line_engine(words=words, tasks=("ocr",)), plan(tmp_path, "folder", count=30))
    texts = [json.loads(line)["text"] for line in (tmp_path / "records.jsonl").open(encoding="utf-8")]
    assert len(texts) == 30 and not any("\u6f22" in text for text in texts)
    assert sum(count for cause, count in summary["rejected"].items() if "lacks a character" in cause) > 5


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "1", "P"])
def test_a_png_holds_the_pixels_of_its_picture(mode: str) -> None:
    noise = Image.fromarray(rng().integers(0, 256, (37, 53, 3), dtype=numpy.uint8)).convert(mode)
    with Image.open(io.BytesIO(produce.encode(noise, "png"))) as read:
        read.load()
        assert read.format == "PNG" and (read.mode, read.size) == (mode, (53, 37))
        assert numpy.array_equal(numpy.asarray(read.convert("RGBA")), numpy.asarray(noise.convert("RGBA")))


def test_pages_made_ahead_end_with_the_shard_that_asks_for_them(tmp_path: Path) -> None:
    """Batches of 4 in shards of 6 pages, 15 in all: 4 and 2, twice, then 3."""
    from data_tools.drawing.renderers import Ahead

    made: list[int] = []

    class Numbers:
        name, attempts = "numbers", 1

        def __init__(self) -> None:
            self.ahead = Ahead(self.name, 7, 4, lambda index, _: index, self.make)

        def make(self, wanted: list[int]) -> list[str]:
            made.append(len(wanted))
            return list(map(str, wanted))

        def expect(self, wanted: range) -> None:
            self.ahead.pages = wanted

        def rows(self, index: int, rng: numpy.random.Generator) -> list[produce.Row]:
            return [produce.Row(f"{index:02d}", (), "ocr", self.ahead.get(index, rng)[1])]

    where = produce.Plan(tmp_path, "parquet", 15, 7, 6, {})
    assert produce.produce(Numbers(), where)["rows"] == 15
    assert made == [4, 2, 4, 2, 3]


def test_box_and_color_crops_hold_one_whole_line(tmp_path: Path) -> None:
    engine = line_engine(fonts=(SANS,), lines=(3, 3))
    for index in range(10):
        whole, box, color = engine.rows(index, rng(index))
        for row, region in ((box, box.box), (color, color.meta["region"])):
            image = Image.open(io.BytesIO(row.pictures[0].data)).convert("L")
            assert row.text in whole.text.split("\n")
            crop = ink(image.crop(region))
            # the same line drawn alone has the same ink, to the pixel
            alone = lines.render_page([row.text], SANS, row.meta["size"], 128, rng(), grey=False)
            assert crop.sum() == ink(alone.image.crop(alone.boxes[0])).sum()
        assert color.color in regions.FRAME_COLORS and color.box is None


def test_lines_hold_consecutive_words_and_pass_over_those_too_long() -> None:
    words = iter(
        ["the", "quick", "brown", "fox", "incomprehensibly", "jumps", "over", "a", "lazy", "dog", "x"]
    )
    assert lines.fill_lines(words, [9, 9, 9, 6]) == ["the quick", "brown fox", "jumps", "over a"]
    with pytest.raises(produce.Rejected, match="no word as short"):
        lines.fill_lines(itertools.repeat("long"), [3])


def test_character_boxes_of_a_whole_page_spell_its_text_and_small_letters_are_a_to_z() -> None:
    ocr, box, _ = line_engine(char_boxes=True, words=phrases.lowercase(WORDS)).rows(3, rng(3))
    assert (
        "".join(char_box[0] for char_box in ocr.char_boxes) == ocr.text.replace("\n", "")
        and not box.char_boxes
    )
    assert phrases.lowercase((("Quick", "(dogs)"), ("--",))) == (("quick", "dogs"),)
    x1, y1, x2, y2 = ocr.meta["line_boxes"][0]
    assert ocr.char_boxes[0][2] == y1 and ocr.char_boxes[0][4] == y2 and ocr.char_boxes[0][1] <= x1 + 1


# --- fonts and corpora


def test_fonts_are_found_by_name_path_star_and_all() -> None:
    assert find_fonts(["dejavusans", str(SANS)]) == [SANS]
    assert {path.stem for path in find_fonts(["DejaVuSansMono*"])} >= {
        "DejaVuSansMono",
        "DejaVuSansMono-Bold",
    }
    assert not any(path.stem.startswith(("cm", "LastResort")) for path in find_fonts(["all"]))
    with pytest.raises(FontError, match="'NoSuch' is not installed"):
        find_font("NoSuch")


def test_no_paragraph_of_the_train_side_is_in_the_test_side() -> None:
    sides = {side: corpora.documents(side, ("pydoc", "licences")) for side in corpora.SPLITS}
    texts = {
        side: {re.sub(r"\W+", " ", text).lower() for each in found for text in each.paragraphs + each.items}
        for side, found in sides.items()
    }
    assert len(texts["train"]) > 500 and len(texts["test"]) > 20
    assert not texts["train"] & texts["test"]
    assert not {each.name for each in sides["train"]} & {each.name for each in sides["test"]}


def test_the_side_of_a_document_is_fixed_by_its_name() -> None:
    # computed by sha256sum of the name: first four bytes modulo 100, below 10 is test
    assert {name: corpora.split_of(name) for name in ("pydoc:dict", "pydoc:if")} == {
        "pydoc:dict": "test",
        "pydoc:if": "train",
    }


# --- output


@pytest.mark.parametrize("container", produce.CONTAINERS)
def test_two_workers_and_three_parts_give_the_bytes_of_one_worker(tmp_path: Path, container: str) -> None:
    engine = line_engine()
    produce.produce(engine, plan(tmp_path / "one", container))
    produce.produce(engine, plan(tmp_path / "two", container), num_workers=2)
    for part in (3, 1, 2):
        summary = produce.produce(engine, plan(tmp_path / "parts", container), shard=(part, 3))
    one = files(tmp_path / "one")
    assert len(one) > 6 and files(tmp_path / "two") == one and files(tmp_path / "parts") == one
    assert summary["rows"] == 180 and summary["missing_shards"] == 0


def test_a_killed_and_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "data_tools.engines.lines",
        "--count",
        "4000",
        "--shard-pages",
        "100",
        "--seed",
        "3",
    ]
    command += ["--sources", "pydoc", "--container", "folder", "--fonts", "DejaVuSans", "--num-workers", "1"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    killed = subprocess.Popen(
        [*command, "--out", str(tmp_path / "killed")], cwd=ROOT, env=environment, stderr=subprocess.DEVNULL
    )
    done = tmp_path / "killed" / produce.STATE
    deadline = time.monotonic() + 60
    while len(list(done.glob("0*.json"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    made = len(list(done.glob("0*.json")))
    assert 3 <= made < 30 and not (tmp_path / "killed" / "records.jsonl").exists()
    first = (done / "00000.json").stat().st_mtime_ns
    for name in ("killed", "whole"):
        subprocess.run(
            [*command, "--out", str(tmp_path / name)], cwd=ROOT, env=environment, check=True, stderr=-3
        )
    assert (done / "00000.json").stat().st_mtime_ns == first  # not made again
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


def test_a_folder_with_records_of_other_settings_is_refused(tmp_path: Path) -> None:
    produce.produce(line_engine(), plan(tmp_path / "a", count=20))
    with pytest.raises(DrawingError, match="holds records made with seed=7, not 8"):
        produce.produce(line_engine(), plan(tmp_path / "a", count=20, seed=8))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "notes.txt").write_text("mine")
    with pytest.raises(DrawingError, match="holds other files"):
        produce.produce(line_engine(), plan(tmp_path / "b"))


def test_settings_that_leave_nothing_to_draw_end_the_run(tmp_path: Path) -> None:
    with pytest.raises(DrawingError, match="page 0: all 50 attempts were rejected"):
        produce.produce(line_engine(shape=(20, 20)), plan(tmp_path))


def test_datasets_opens_the_parquet_with_pictures(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    produce.produce(line_engine(), plan(tmp_path / "out", count=25))
    found = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    assert found.num_rows == 75
    ocr, box, color = found[0], found[1], found[2]
    assert ocr["images"][0].size == (128, 128) and ocr["box"] is None and ocr["task"] == "ocr"
    assert len(box["box"]) == 4 and color["color"] in regions.FRAME_COLORS
    assert json.loads(ocr["meta"])["font"] in ("DejaVuSans", "DejaVuSerif")


@pytest.mark.parametrize("module", ["drawing.fonts", "engines.lines", "engines.pages", "engines.pdf"])
def test_help_comes_in_under_a_second(module: str, processor_seconds) -> None:
    before = processor_seconds()
    subprocess.run(
        [sys.executable, "-m", f"data_tools.{module}", "--help"], cwd=ROOT, capture_output=True, check=True
    )
    assert processor_seconds() - before < 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lines", "--count", "0"], "'0' is not a whole number above 0"),
        (["lines", "--count", "5", "--tasks", "ocr,boxes"], "'boxes' is not one of ocr, box, color"),
        (["lines", "--count", "5", "--shard", "0/4"], "'0/4' is not a part such as 2/8"),
        (["lines", "--count", "5", "--fonts", "NoSuch"], "fonts: 'NoSuch' is not installed"),
        (["pages", "--count", "5", "--columns", "1-4"], "--columns 4: pages have one to three columns"),
        (["pdf", "--pdfs", "nowhere"], "--pdfs nowhere: no such folder"),
    ],
)
def test_wrong_inputs_end_with_one_line_and_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    command = {"lines": lines.main, "pages": pages.main, "pdf": pdf.main}[arguments[0]]
    try:
        code = command([*arguments[1:], "--out", str(tmp_path / "out")])
    except SystemExit as ended:  # argparse's own way
        code = ended.code
    assert code == 2 and message in capsys.readouterr().err.strip().split("\n")[-1]
    assert not (tmp_path / "out").exists()


# --- pages


def test_a_page_says_its_source_and_its_markdown_is_mathpix_like() -> None:
    blocks = [
        pages.Block("title", "A title"),
        pages.Block("section", "First part", mark="1."),
        pages.Block(
            "paragraph", 'Some "quoted" *text* with a \\ and #let, long enough to be broken into two lines.'
        ),
        pages.Block("bullet", "an item", mark="\u2022"),
        pages.Block("bullet", "another", mark="\u2022"),
        pages.Block("number", "counted", mark="1."),
        pages.Block("subsection", "Deeper"),
        pages.Block("paragraph", "The end."),
    ]
    style = pages.replace(STYLE, numbered=True)
    import pypdfium2

    with pypdfium2.PdfDocument(set_page(blocks, style)) as document:
        found = pages.match(blocks, text_layer.read_lines(document[0], 900, 1200))
    assert [block for block, _ in found] == blocks
    assert len(found[2][1]) == 2
    assert pages.markdown(blocks) == (
        "\\title{\nA title\n}\n\n\\section*{1. First part}\n\n"
        'Some "quoted" *text* with a \\ and #let, long enough to be broken into two lines.\n\n'
        "- an item\n- another\n\n1. counted\n\n\\subsection*{Deeper}\n\nThe end."
    )


def drawn_line(text: str, row: int) -> text_layer.Line:
    return text_layer.Line(text, (0, 20 * row, 100, 20 * row + 12), 14, 20 * row + 10)


def test_a_text_layer_with_one_other_letter_is_rejected() -> None:
    blocks = [pages.Block("paragraph", "a well-known fact and more")]
    found = pages.match(blocks, [drawn_line("a well-", 0), drawn_line("known fact", 1)])
    assert found[0][0].text == "a well-known fact"  # the page ends here
    for wrong in (["a wel-", "known"], ["a well-known fac", "t and"], ["a well-known fact and more", "more"]):
        with pytest.raises(produce.Rejected, match="text layer differs from the source"):
            pages.match(blocks, [drawn_line(text, row) for row, text in enumerate(wrong)])


def test_a_family_that_typst_lacks_is_rejected_not_replaced() -> None:
    engine = page_engine(faces=(pages.Face("No Such Family", "normal", 400, None),), columns=(1, 1))
    with pytest.raises(produce.Rejected, match="typst warns: unknown font family"):
        for seed in range(9):  # a page with a character outside of ASCII is rejected earlier
            try:
                engine.rows(0, rng(seed))
            except produce.Rejected as rejection:
                if "lacks" not in rejection.cause:
                    raise


def test_boxes_of_a_page_hold_what_pdfium_itself_finds_there(tmp_path: Path) -> None:
    """Independent of our grouping: pdfium's text inside the box, in page units."""
    import pypdfium2

    blocks = [pages.Block("section", "Head"), pages.Block("paragraph", "Of many words, gypsy style. " * 12)]
    with pypdfium2.PdfDocument(set_page(blocks)) as document:
        page = document[0]
        found = text_layer.read_lines(page, 900, 1200)
        assert len(found) > 4
        for line in found:
            x1, y1, x2, y2 = (value / 2 for value in text_layer.pixel_box([line], 900, 1200))  # 144 dpi
            inside = page.get_textpage().get_text_bounded(x1, 600 - y2, x2, 600 - y1)
            assert inside.split() == line.text.split()


@pytest.mark.parametrize("columns", [1, 2])
def test_all_ink_of_a_page_lies_in_its_line_boxes(columns: int) -> None:
    engine = page_engine(columns=(columns, columns))
    made = 0
    for seed in range(8):
        try:
            ocr, formatted, box, color = engine.rows(seed, rng(seed))
        except produce.Rejected:
            continue
        made += 1
        drawn = ink(Image.open(io.BytesIO(ocr.pictures[0].data)))
        assert drawn.shape == (800, 600)
        for x1, y1, x2, y2 in ocr.meta["line_boxes"]:
            assert drawn[y1:y2, x1:x2].any()
            drawn[y1:y2, x1:x2] = False
        assert not drawn.any()
        assert box.text == color.text and box.text in ocr.text and box.box == color.meta["region"]
        framed = numpy.asarray(Image.open(io.BytesIO(color.pictures[0].data)))
        x1, y1, x2, y2 = color.meta["region"]
        assert (framed[y1 - 1, x1:x2] == regions.FRAME_COLORS[color.color]).all()
        marks = r"\\(title|section|subsection)\*?\{|^\}|\}$|^- |^\u2022 |\s"  # all that the two do not share
        plain, markdown = (re.sub(marks, "", text, flags=re.M) for text in (ocr.text, formatted.text))
        assert plain == markdown
    assert made >= 5


# --- pdf

PROSE = ["The first line of a page", "goes on here, with a comma", "and ends (so it does) here."]


@pytest.fixture
def pdfs(tmp_path: Path) -> Path:
    import typst

    folder = tmp_path / "pdfs"
    folder.mkdir()
    text = '#set page(width: 300pt, height: 300pt)\n#set text(font: "Libertinus Serif")\n'
    body = " \\\n".join(PROSE) + "\n\nA second paragraph, apart."
    sources = {
        "good": text + body + "\n#pagebreak()\n" + body,
        "empty": text + "#rect(width: 90%, height: 90%, fill: gray)",
        "white": text + "#set text(fill: white)\n" + body,
        "turned": text + f"#rotate(90deg, reflow: true)[{body}]",
        "short": text + "Few.",
    }
    for name, source in sources.items():
        (folder / f"{name}.pdf").write_bytes(typst.compile(source.encode(), format="pdf"))
    (folder / "cut.pdf").write_bytes((folder / "good.pdf").read_bytes()[:900])
    return folder


def test_a_pdf_gives_exactly_its_lines_and_bad_pages_are_counted_by_cause(pdfs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    args = ["--pdfs", str(pdfs), "--out", str(out), "--container", "folder", "--num-workers", "1"]
    summary = pdf.make(
        pdf.parser().parse_args([*args, "--tasks", "ocr,box,color", "--least-characters", "20"])
    )
    records = [json.loads(line) for line in (out / "records.jsonl").open(encoding="utf-8")]
    pages_read = [record for record in records if record["id"].endswith("-ocr")]
    lines_read = [*PROSE, "A second paragraph, apart."]
    assert [record["text"].split("\n") for record in pages_read] == [lines_read, lines_read]
    assert [record["meta"]["page"] for record in pages_read] == [1, 2]
    assert len(pages_read[0]["meta"]["paragraph_boxes"]) == 2
    image = Image.open(out / pages_read[0]["images"][0])
    assert image.size == (600, 600)
    for record in records:
        if "box" in record:
            assert "\n".join(lines_read).count(record["text"]) == 1
    assert summary["left_out"] == {"damaged": 1}
    assert summary["rejected"] == {
        "no text": 1,
        "text that is not to be seen": 1,
        "rotated text": 1,
        "few characters": 1,
    }


def test_the_command_closes_every_pdf_that_it_reads(pdfs: Path, tmp_path: Path) -> None:
    words = ["--pdfs", str(pdfs), "--out", str(tmp_path / "out"), "--num-workers", "1"]
    command = [sys.executable, "-m", "data_tools.engines.pdf", *words, "--least-characters", "20"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stderr
    assert "2 records of" in said and "still open" not in said  # pdfium's words at the end of the process


def test_private_use_characters_are_a_broken_text_layer() -> None:
    assert [text_layer._meaningless(code) for code in (0xE000, 0xFFFD, 0x07, 0x2D, 0x6F22, 0x0D)] == [
        True, True, True, False, False, False,
    ]  # fmt: skip


def test_indents_list_marks_and_short_last_lines_part_paragraphs() -> None:
    def line(text: str, row: float, left: float = 0, right: float = 300) -> text_layer.Line:
        return text_layer.Line(text, (left, 18 * row, right, 18 * row + 11), 12, 18 * row + 10)

    page = [
        line("A heading", 0, right=90),
        line("One paragraph that fills its line and", 1.5),
        line("stops short here.", 2.5, right=120),
        line("Another begins without a gap and goes", 3.5),
        line("over the whole width of the next line", 4.5),
        line("An indented one follows after a full", 5.5, left=20),
        line("line, as in books.", 6.5, right=110),
        line("1. counted", 7.5, left=10, right=90),
        line("2. counted", 8.5, left=10, right=90),
    ]
    sizes = [len(paragraph.lines) for paragraph in text_layer.group_paragraphs(page)]
    assert sizes == [1, 2, 2, 2, 1, 1]


def test_the_nano_tokenizer_keeps_letters_apart_and_prompts_short():
    from got_train import prompts
    from got_train.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(Path(__file__).parents[2] / "configs/nano/tokenizer")
    assert tokenizer.size == 384
    assert len(tokenizer.encode_prompt(prompts.build_prompt("ocr", view_tokens=16))) == 46  # 16 of the view
    assert tokenizer.encode("quiz") == [ord(letter) for letter in "quiz"]
    assert tokenizer.decode(tokenizer.encode("the first 42 lines")) == "the first 42 lines"
