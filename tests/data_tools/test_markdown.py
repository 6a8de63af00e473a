"""Markdown pages: the picture says its source, letter by letter, or there is no record."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy
import pytest
from PIL import Image

from data_tools import produce
from data_tools.drawing import renderers
from data_tools.drawing.fonts import find_font
from data_tools.engines import markdown, scene
from data_tools.engines.markdown import Block, MarkdownEngine
from data_tools.text import corpora
from got_train.errors import DrawingError

SERIF = find_font("DejaVuSerif")
TEXTS = (
    "Plain words of a paragraph that says nothing else about red foxes. It has two sentences, or three.",
    "Another text with rivers, mountains and several quiet villages (all of them below the hills).",
)
ENGLISH = scene.Language("en", (corpora.Document("a", "", (), TEXTS),), (SERIF,))
LOOK = {"width": 700, "font_size": 18, "margin": 40, "leading": 1.4, "columns": 1, "paper": [255, 255, 255],
        "ink": 0, "justify": False}  # fmt: skip

needs_browser = pytest.mark.skipif(
    not renderers.available("node", "chromium", "npm:mathpix-markdown-it", "npm:puppeteer-core"),
    reason="needs node, chromium and mathpix-markdown-it",
)
needs_tesseract = pytest.mark.skipif(not shutil.which("tesseract"), reason="needs tesseract")


def rng(seed: int = 0) -> numpy.random.Generator:
    return numpy.random.default_rng(seed)


def engine(**changes: object) -> MarkdownEngine:
    chromium = renderers.find_program("chromium")
    settings = {"languages": (ENGLISH,), "width": (700, 800), "sizes": (16, 18), "chromium": chromium,
                "suffix": "png"}  # fmt: skip
    return MarkdownEngine(**(settings | changes))


def rejection(blocks: list[Block], look: dict[str, object] = LOOK) -> str:
    with pytest.raises(produce.Rejected) as rejected:
        engine()._drawn(blocks, SERIF, look)
    return rejected.value.cause


def test_items_of_a_list_stand_together_and_other_blocks_apart() -> None:
    item = Block("- one", "one", list_item=True)
    blocks = [Block("Text.", "Text."), item, item, Block(r"\[x\]", "", 1)]
    assert markdown.joined(blocks) == "Text.\n\n- one\n- one\n\n\\[x\\]"


def test_formulas_are_put_between_words_and_change_no_letter() -> None:
    for seed in range(50):
        writer = markdown._Writer(ENGLISH, rng(seed))
        source, formulas = writer.with_formulas(TEXTS[0])
        assert source.count(r"\(") == formulas
        plain = re.sub(r" \\\(.*?\\\)(?= |$)", "", source)
        assert plain == TEXTS[0]
    chinese = "\u5929\u5730\u7384\u9ec4\uff0c\u5b87\u5b99\u6d2a\u8352\u3002" * 4
    writer = markdown._Writer(ENGLISH._replace(name="zh"), rng(3))
    sources = [writer.with_formulas(chinese)[0] for _ in range(20)]
    assert any(r"\(" in source for source in sources)
    assert {re.sub(r"\\\(.*?\\\)", "", source) for source in sources} == {chinese}


def test_paragraphs_with_marks_of_markdown_are_never_taken() -> None:
    marked = (
        "a *word* in it",
        "an_under_score",
        "1. an item",
        "- a dash",
        "dots ... here",
        "(c) 2020",
        "a :cat: b",
    )
    for text in marked:
        assert markdown.MARKUP.search(text) or markdown.LISTLIKE.match(text), text
    assert not markdown.MARKUP.search(TEXTS[1]) and not markdown.LISTLIKE.match(TEXTS[1])


@needs_browser
def test_pages_say_what_their_source_says() -> None:
    made = 0
    kinds: set[str] = set()
    for seed in range(8):
        with contextlib.suppress(produce.Rejected):
            (row,) = engine().rows(seed, rng(seed))
            made += 1
            kinds |= set(re.findall(r"\\(title|author|section|begin\{tabular\}|\[|\()", row.text))
            image = numpy.asarray(Image.open(io.BytesIO(row.pictures[0].data)).convert("L")).astype(int)
            ink = abs(image - image[0, 0]) > 60
            assert ink.any() and not ink[:10].any() and not ink[-10:].any() and not ink[:, :10].any()
    assert made >= 5 and {"section", "[", "("} <= kinds


@needs_browser
def test_a_formula_of_two_sizes_is_as_much_larger_in_the_picture() -> None:
    heights = []
    for size in (16, 32):
        image = engine()._drawn([Block(r"\[x\]", "", 1)], SERIF, LOOK | {"font_size": size})
        ink = numpy.asarray(image.convert("L")) < 128
        rows = numpy.flatnonzero(ink.any(axis=1))
        heights.append(rows[-1] - rows[0] + 1)
    assert heights[1] / heights[0] == pytest.approx(2, abs=0.35)


@needs_browser
def test_faults_of_a_page_are_rejected_each_by_its_cause() -> None:
    assert rejection([Block(r"\[\undefinedmacro x\]", "", 1)]) == "mathpix-markdown-it cannot set a formula"
    assert rejection([Block(r"\(\frac{1}\)", "", 1)]) == "mathpix-markdown-it cannot set a formula"
    swallowed = "the page says something else than its source"
    assert rejection([Block("a *word* in it", "a *word* in it")]) == swallowed
    assert rejection([Block("one", "two")]) == swallowed
    assert rejection([Block("text", "text", formulas=1)]).startswith("the page shows more or fewer formulas")
    wide = "x" + "+x" * 120
    assert rejection([Block(rf"\[{wide}\]", "", 1)]) == "something wider than its column"
    long = [Block(TEXTS[0] * 3, TEXTS[0] * 3)] * 12
    assert rejection(long, LOOK | {"width": 400}) == "page too long"
    assert rejection([Block("\\(\\text{\u6f22}\\)", "", 1)]) == "letters of another font in a formula"


@needs_browser
@needs_tesseract
def test_tesseract_reads_all_words_of_a_page_of_two_paragraphs(tmp_path: Path) -> None:
    image = engine()._drawn([Block(text, text) for text in TEXTS], SERIF, LOOK)
    path = tmp_path / "page.png"
    image.resize((2 * image.width, 2 * image.height)).save(path)
    read = subprocess.run(["tesseract", str(path), "-"], capture_output=True, text=True, check=True).stdout
    assert read.split() == " ".join(TEXTS).split()


@needs_browser
def test_a_page_is_the_same_picture_from_another_browser() -> None:
    first, second = engine(), engine()
    made = next(seed for seed in range(20) if _row(first, seed))
    one = _row(first, made)
    renderers.node(markdown.SCRIPT, *markdown.PACKAGES).close()
    other = _row(second, made)
    assert one.text == other.text and one.pictures[0].data == other.pictures[0].data


def _row(chosen: MarkdownEngine, seed: int) -> produce.Row | None:
    with contextlib.suppress(produce.Rejected):
        return chosen.rows(0, rng(seed))[0]
    return None


@needs_browser
def test_the_command_writes_records_of_the_task_format(tmp_path: Path) -> None:
    arguments = ["--count", "2", "--fonts", "DejaVuSerif", "--container", "folder", "--num-workers", "1"]
    assert markdown.main([*arguments, "--sources", "pydoc", "--out", str(tmp_path / "out")]) == 0
    lines = (tmp_path / "out" / "records.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["task"] for line in lines] == ["format", "format"]


def test_fonts_that_are_all_collections_are_refused() -> None:
    with pytest.raises(DrawingError, match="all 1 for en are collections"):
        markdown._with_single_fonts(ENGLISH._replace(fonts=(Path("a.ttc"),)))
