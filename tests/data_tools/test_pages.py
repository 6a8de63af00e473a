"""Pages, lines and PDFs in Chinese, with footnotes and three columns, degraded, and cut into slices."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy
import pytest
from PIL import Image

from data_tools import produce
from data_tools.drawing import system_fonts, text_layer
from data_tools.drawing.fonts import FontError, find_font, missing
from data_tools.engines import lines, pages, pdf, regions
from data_tools.text import corpora

pytest.importorskip("cv2")
CHINESE = "\u6c49\u5b57"


def chinese_font() -> list[Path]:
    try:
        return system_fonts.chinese_fonts()
    except FontError:
        return []


needs_chinese = pytest.mark.skipif(not chinese_font(), reason="no Chinese font is installed")


def rng(seed: int = 0) -> numpy.random.Generator:
    return numpy.random.default_rng(seed)


def rows_of(maker: pages.PageEngine, count: int) -> list[list[produce.Row]]:
    made = []
    for seed in range(4 * count):
        try:
            made.append(maker.rows(seed, rng(seed)))
        except produce.Rejected:
            continue
        if len(made) == count:
            return made
    raise AssertionError(f"only {len(made)} of {4 * count} pages were not rejected")


def page_engine(**changes: object) -> pages.PageEngine:
    settings = {
        "documents": corpora.documents("train", ("pydoc",)), "faces": pages.find_faces(["DejaVuSerif"]),
        "shape": (800, 1000), "dpi": 96, "tasks": ("ocr", "format"), "sizes": (8, 10), "columns": (1, 3),
        "suffix": "png",
    }  # fmt: skip
    return pages.PageEngine(**(settings | changes))


def opened(row: produce.Row) -> Image.Image:
    return Image.open(io.BytesIO(row.pictures[0].data))


# --- pages


def test_a_footnote_is_read_with_its_number_and_written_as_mathpix_does() -> None:
    import pypdfium2

    blocks = [
        pages.Block("paragraph", "A first statement that needs support.", note="1"),
        pages.Block("paragraph", "Another one.", note="2"),
        pages.Block("footnote", "So they say.", mark="1"),
        pages.Block("footnote", "They do not.", mark="2"),
    ]
    style = pages.Style("DejaVu Serif", "normal", 400, 10, 1, 30, 0.65, 1.2, 0, False, False, 255, 0)
    source = pages.typst_source(blocks, style, 450, 600)
    made, warnings = pages._compiler(page_engine()._font_folders).compile_with_warnings(
        source.encode(), format="pdf"
    )
    with pypdfium2.PdfDocument(made) as document:
        read = text_layer.read_lines(document[0], 900, 1200)
    # two pixels a point; the notes are drawn 8 points high at the foot of the page
    assert [line.text for line in read if line.em < 18] == ["1So they say.", "2They do not."]
    found = pages.match_notes(blocks, read, 18)
    assert [block for block, _ in found] == blocks
    assert pages.markdown(blocks) == (
        "A first statement that needs support. \\({ }^{1}\\)\n\nAnother one. \\({ }^{2}\\)\n\n"
        "\\footnotetext{\n\\({ }^{1}\\) So they say.\n}\n\n\\footnotetext{\n\\({ }^{2}\\) They do not.\n}"
    )
    without = [line for line in read if line.text != "2They do not."]
    with pytest.raises(produce.Rejected, match="footnote without its mark, or cut"):
        pages.match_notes(blocks, without, 18)


def test_pages_of_three_columns_with_footnotes_say_the_same_plain_and_formatted() -> None:
    marks = r"\\(title|section|subsection)\*?\{|^\}|\}$|^- |^\u2022 |\\footnotetext\{|\\\(\{ \}\^\{|\}\\\)|\s"
    notes = 0
    for plain, formatted in rows_of(page_engine(columns=(3, 3), footnotes=0.5), 8):
        one, other = (sorted(re.sub(marks, "", row.text, flags=re.M)) for row in (plain, formatted))
        assert one == other  # the notes stand at the foot of each column, and last in the markdown
        assert len(plain.meta["line_boxes"]) == len(plain.text.split("\n"))
        notes += formatted.text.count("footnotetext")
    assert notes > 8


def test_words_wider_than_their_column_are_left_out_and_a_text_of_nothing_else_ends() -> None:
    """At 8 to 10 points a column of three has less than 28 ems; a heading is half as large again."""
    from dataclasses import replace

    wide, narrow = "importlib.resources._adapters_of_old", "A few short words."
    documents = (corpora.Document("made", wide, (wide,), (narrow, "x" * 60, narrow)),)
    made = rows_of(page_engine(documents=documents, columns=(3, 3)), 3)
    texts = [row.text for rows in made for row in rows if row.task == "ocr"]
    assert all(narrow in text and "xxx" not in text for text in texts)
    assert not any(line.endswith(wide) for text in texts for line in text.split("\n")[1:])
    with pytest.raises(produce.Rejected, match="words wider than their column"):
        only = (replace(documents[0], paragraphs=("x" * 60,)),)
        page_engine(documents=only, columns=(3, 3)).rows(0, rng())


@needs_chinese
def test_chinese_pages_are_cut_into_lines_that_spell_their_paragraphs() -> None:
    documents = corpora.chinese("train")[:20]
    faces = pages.find_faces([str(chinese_font()[0])])
    maker = page_engine(documents=documents, faces=faces, language="zh", tasks=("ocr", "format", "box"))
    whole = {text for document in documents for text in (*document.paragraphs, document.title)}
    for plain, formatted, box in rows_of(maker, 4):
        assert plain.meta["language"] == "zh" and box.text in plain.text
        texts = [re.sub(r"^(- |\d+\. )", "", text) for text in formatted.text.split("\n") if text.strip()]
        texts = [text for text in texts if not text.startswith(("\\", "}"))]
        assert len(texts) > 5 and all(any(text in known for known in whole) for text in texts)
        for (x1, y1, x2, y2), text in zip(plain.meta["line_boxes"], plain.text.split("\n"), strict=True):
            width = 0.9 * 8 * 96 / 72 * len(re.findall("[\u4e00-\u9fa5]", text))
            assert x2 - x1 > width and y2 > y1  # every character takes an em of 8 points or more


@needs_chinese
def test_both_languages_come_and_each_in_a_font_that_has_it() -> None:
    other = pages.Language("zh", corpora.chinese("test"), pages.find_faces([str(chinese_font()[0])]))
    made = rows_of(page_engine(others=(other,)), 8)
    languages = {row[0].meta.get("language", "en") for row in made}
    assert languages == {"en", "zh"}
    for plain, _ in made:
        assert bool(re.search("[\u4e00-\u9fa5]", plain.text)) == (plain.meta.get("language") == "zh")
    assert missing(chinese_font()[0], CHINESE) == ""


@pytest.mark.parametrize("upright", [True, False])
def test_boxes_of_degraded_pages_hold_the_ink_where_it_is_now(upright: bool) -> None:
    """Black bars for lines; whatever is darker than halfway to paper lies in the boxes, to a pixel."""
    image = Image.new("L", (400, 300), 250)
    bars = [(30, 40 * row, 100 + 30 * row, 40 * row + 14) for row in range(1, 7)]
    for x1, y1, x2, y2 in bars:
        image.paste(0, (x1, y1, x2, y2))
    own = [text_layer.Line("text", bar, 14, bar[3]) for bar in bars]
    page = regions.Page(image, own, [own[:2], own[2:]])
    warped = 0
    for seed in range(40):
        worse = page.degraded(rng(seed), 1.0, upright)
        grey = numpy.asarray(worse.image.convert("L"))
        covered = numpy.zeros(grey.shape, bool)
        for line in worse.lines:
            x1, y1, x2, y2 = text_layer.pixel_box([line], *worse.image.size)
            inside = grey[y1:y2, x1:x2] < 90
            assert inside.mean() > (0.6 if upright else 0.15)  # turned bars leave corners of their boxes free
            covered[y1:y2, x1:x2] = True
        assert not ((grey < 60) & ~covered).any()
        assert worse.paragraphs[0][0] is worse.lines[0] and worse.meta["degrade"]["strength"] > 0
        warped += "warp" in worse.meta["degrade"]
    assert warped > 10


# --- lines


@needs_chinese
def test_chinese_lines_are_characters_in_a_row_without_spaces(tmp_path: Path) -> None:
    args = ["--out", str(tmp_path), "--count", "20", "--container", "folder", "--num-workers", "1"]
    args += ["--language", "both", "--fonts", "DejaVuSans", "--characters", "4-8", "--sources", "pydoc"]
    args += ["--fonts-zh", str(chinese_font()[0]), "--side", "200", "--degrade", "0.5", "--char-boxes"]
    lines.make(lines.parser().parse_args(args))
    records = [json.loads(line) for line in (tmp_path / "records.jsonl").open(encoding="utf-8")]
    chinese = [record for record in records if re.search("[\u4e00-\u9fa5]", record["text"])]
    assert 3 < len(chinese) < 17
    for record in chinese:
        assert " " not in record["text"] and record["meta"]["font"] == chinese_font()[0].stem
        assert all(4 <= len(line) <= 8 for line in record["text"].split("\n"))
    assert 3 < sum("degrade" in record["meta"] for record in records) < 17


def test_boxes_of_degraded_lines_move_with_their_text() -> None:
    words = (("one", "fox", "jumps", "over", "Quick"),)
    font = find_font("DejaVuSans")
    maker = lines.LineEngine(
        (font,), ("ocr", "box"), (160, 160), (15, 20), (2, 4), (3, 9), 8, words, degrade=1.0
    )
    for seed in range(20):
        ocr, box = maker.rows(seed, rng(seed))
        grey = numpy.asarray(opened(ocr).convert("L")).astype(int)
        for x1, y1, x2, y2 in ocr.meta["line_boxes"]:
            inside = grey[y1:y2, x1:x2]
            assert numpy.percentile(inside, 5) < numpy.percentile(inside, 90) - 60
        assert box.box in ocr.meta["line_boxes"]
        x1, y1, x2, y2 = box.box
        assert 0 <= x1 < x2 <= 160 and 0 <= y1 < y2 <= 160


# --- pdf


@pytest.fixture(scope="module")
def pdfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import typst

    folder = tmp_path_factory.mktemp("pdfs")
    head = '#set page(width: 400pt, height: 300pt)\n#set text(font: "Libertinus Serif")\n'
    prose = "\n\n".join(f"Paragraph {n} runs \\\nover two lines of text \\\nor three." for n in "abc")
    math = (
        "As it is known that $alpha^2 + beta_i <= gamma$ holds, the sum $sum_i delta_i x^i$ is bounded. " * 9
    )
    (folder / "prose.pdf").write_bytes(typst.compile((head + prose).encode(), format="pdf"))
    (folder / "math.pdf").write_bytes(typst.compile((head + math).encode(), format="pdf"))
    return folder


def run(pdfs: Path, out: Path, *more: str) -> tuple[dict, list[dict]]:
    args = ["--pdfs", str(pdfs), "--out", str(out), "--container", "folder", "--num-workers", "1"]
    summary = pdf.make(pdf.parser().parse_args([*args, "--least-characters", "20", *more]))
    return summary, [json.loads(line) for line in (out / "records.jsonl").open(encoding="utf-8")]


def test_slices_are_lines_and_paragraphs_of_the_page_as_pictures_of_their_own(
    pdfs: Path, tmp_path: Path
) -> None:
    summary, records = run(pdfs, tmp_path / "out", "--tasks", "ocr,slices", "--slices", "6", "--image", "png")
    whole = next(r for r in records if r["id"].endswith("-ocr") and r["meta"]["file"] == "prose.pdf")
    slices = [r for r in records if "slice" in r["id"] and r["meta"]["file"] == "prose.pdf"]
    page = numpy.asarray(Image.open(tmp_path / "out" / whole["images"][0]))
    assert {record["meta"]["kind"] for record in slices} == {"line", "paragraph"} and len(slices) == 6
    for record in slices:
        x1, y1, x2, y2 = record["meta"]["box"]
        cut = numpy.asarray(Image.open(tmp_path / "out" / record["images"][0]))
        assert numpy.array_equal(cut, page[y1:y2, x1:x2]) and record["text"] in whole["text"]
        # ink all around stays clear of the edge: nothing of a neighbour is in the picture
        assert (cut[0] > 200).all() and (cut[-1] > 200).all()
    assert summary["rejected"] == {"dense mathematics": 1}


def test_a_page_of_formulas_is_left_out_and_prose_has_no_mathematics(pdfs: Path) -> None:
    import pypdfium2

    share = {}
    for name in ("prose", "math"):
        with pypdfium2.PdfDocument(pdfs / f"{name}.pdf") as document:
            share[name] = pdf.math_share(document[0])
    assert share["prose"] == 0 and share["math"] > 0.1
    names = (
        b"ABCDEF+CMMI10",
        b"NewCMMath-Regular",
        b"LatinModernMath",
        b"CMSY8",
        b"CMR10",
        b"Symbola",
        b"Times",
    )
    assert [pdf._names_math_font(name) for name in names] == [True, True, True, True, False, True, False]


def test_a_paragraph_with_a_strange_line_in_its_box_is_not_cut_out() -> None:
    """Numbers beside a program stand in the box of its lines but not in its text."""
    line = text_layer.Line("x = 1 and more", (40, 10, 200, 22), 14, 20)
    low = text_layer.Line("y = 2 and more", (10, 30, 200, 42), 14, 40)
    number = text_layer.Line("3", (12, 10, 18, 22), 14, 20)
    image = Image.new("L", (220, 60), 255)
    alone = regions.Page(image, [line, low], [[line, low]])
    beside = regions.Page(image, [number, line, low], [[number], [line, low]])
    assert {region.kind for region, _ in pdf.cuttable(alone)} == {"line", "paragraph"}
    assert {region.kind for region, _ in pdf.cuttable(beside)} == {"line"}
