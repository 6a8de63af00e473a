"""got infer --format page, alto, hocr, pdf: what was read, with its boxes, as other programs open it.

The model's place is taken by answers that are given, as no small checkpoint reads boxes.
"""

import json
import shutil
import unicodedata
import xml.etree.ElementTree as ElementTree
from types import SimpleNamespace

import pypdfium2
import pytest
from PIL import Image

from got_train.cli import infer
from got_train.data.labels.labelled_page import Losses
from got_train.data.labels.readers import labelled_pages
from got_train.data.labels.to_spots import LabelOptions, page_records
from got_train.inference import job
from got_train.inference.reader import OcrResult

SPOTS = '[25,100,500,200] Harbour "report"\n[25,400,500,500] \u5317\u4eac & \u05e2\u05d1\u05e8\u05d9\u05ea'
BOXES = [(10, 20, 200, 40), (10, 80, 200, 100)]
TEXTS = ['Harbour "report"', "\u5317\u4eac & \u05e2\u05d1\u05e8\u05d9\u05ea"]


@pytest.fixture
def read(tmp_path, monkeypatch, capfd):
    """A function: got infer with these flags, answered with a text a page; exit code and stderr."""

    def call(paths, text, *flags):
        def answers(requests, batch_size, on_text=None):
            for request in requests:
                yield OcrResult(request, text, [1], [0.0], "stop", 0.1)

        pipeline = SimpleNamespace(read=answers, calibration=None)
        monkeypatch.setattr(job, "load", lambda options: pipeline)
        monkeypatch.setattr(job, "model_stamp", lambda *folders: [])
        start = ["--model-name-or-path", str(tmp_path), "--image-file", *map(str, paths)]
        code = infer.main([*start, "--output-dir", str(tmp_path / "out"), *flags])
        return code, capfd.readouterr().err

    return call


@pytest.fixture
def page(tmp_path):
    (tmp_path / "scans").mkdir()
    Image.new("RGB", (400, 200), "white").save(tmp_path / "scans/p1.png")
    return tmp_path / "scans/p1.png"


@pytest.mark.parametrize(("form", "name"), [("page", "p1.xml"), ("alto", "p1.xml"), ("hocr", "p1.hocr")])
def test_spots_keep_their_boxes_and_name_their_picture(read, page, tmp_path, form, name):
    code, err = read([page], SPOTS, "--ocr-type", "spot", "--format", form)
    assert code == 0, err
    (found,) = labelled_pages(tmp_path / "out" / name)
    assert [(label.text, label.box) for label in found.labels] == list(zip(TEXTS, BOXES, strict=True))
    assert Image.open(found.image).size == (400, 200)
    ElementTree.parse(tmp_path / "out" / name)  # well-formed for a parser of another make


@pytest.mark.parametrize(("form", "name"), [("page", "p1.xml"), ("alto", "p1.xml"), ("hocr", "p1.hocr")])
def test_plain_lines_have_no_places(read, page, tmp_path, form, name):
    assert read([page], "Harbour\n\nreport of the town", "--format", form)[0] == 0
    (found,) = labelled_pages(tmp_path / "out" / name)
    assert [(label.text, label.box) for label in found.labels] == [
        ("Harbour", None),
        ("report of the town", None),
    ]


def test_a_searchable_pdf_shows_the_page_and_finds_its_words_at_their_boxes(read, page, tmp_path):
    assert read([page], SPOTS, "--ocr-type", "spot", "--format", "pdf")[0] == 0
    (sheet,) = pypdfium2.PdfDocument(tmp_path / "out/p1.pdf")
    assert sheet.get_size() == (200, 100)  # 400 x 200 pixels at 144 dpi
    text = sheet.get_textpage()
    assert text.get_text_bounded().split("\r\n") == TEXTS
    left, right = text.get_charbox(0)[0], text.get_charbox(15)[2]
    assert (left, right) == pytest.approx((5, 100), abs=0.5)  # half of the box's pixels
    assert 100 - 40 / 2 <= text.get_charbox(0)[1] <= 100 - 20 / 2
    start, count = text.search('"report"').get_next()
    assert (start, count) == (8, 8)
    assert text.get_charbox(8)[0] == pytest.approx(5 + 95 * 8 / 16, abs=0.5)
    shown = sheet.render(scale=2).to_pil().convert("L")
    assert shown.getextrema() == (255, 255)  # a white page: nothing of the text is seen


def test_lines_of_an_answer_that_are_no_spots_are_not_lost(read, page, tmp_path):
    answer = SPOTS + "\nno box here"
    for form, name in (("alto", "p1.xml"), ("hocr", "p1.hocr")):
        assert read([page], answer, "--ocr-type", "spot", "--format", form, "--no-retry")[0] == 0
        (sheet,) = labelled_pages(tmp_path / "out" / name)
        assert [label.text for label in sheet.labels] == [*TEXTS, "no box here"]
        assert sheet.labels[2].box is None
        losses = Losses()
        (record,) = page_records(sheet, LabelOptions(("ocr",)), losses)
        assert record.text.split("\n") == TEXTS
        assert losses.lines()[0].startswith("1 texts without a box left out (3 words)")
        shutil.rmtree(tmp_path / "out")
    assert read([page], answer, "--ocr-type", "spot", "--format", "pdf")[0] == 0
    text = pypdfium2.PdfDocument(tmp_path / "out/p1.pdf")[0].get_textpage().get_text_bounded()
    assert sorted(text.split("\r\n")) == sorted([*TEXTS, "no box here"])


@pytest.mark.parametrize(
    "line",
    [
        "e\u0301te\u0301 a\u0300 12,50",  # marks that stand over letters from left to right
        "\u0928\u092e\u0938\u094d\u0924\u0947",
        "\u05e9\u05c1\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd",
        "\u0645\u0631\u062d\u0628\u0627",
        "\U0001d11e \U00020000 \u3042",
    ],
)
def test_every_script_comes_back_as_it_went_in(read, page, tmp_path, line):
    assert read([page], f"[25,100,500,200] {line}", "--ocr-type", "spot", "--format", "pdf")[0] == 0
    text = pypdfium2.PdfDocument(tmp_path / "out/p1.pdf")[0].get_textpage().get_text_bounded()
    assert unicodedata.normalize("NFC", text) == unicodedata.normalize("NFC", line)


def test_a_document_is_one_searchable_pdf_and_one_file_of_lines(read, tmp_path):
    pages = [Image.new("RGB", (400, 200), color) for color in ("white", "red", "blue")]
    pages[0].save(tmp_path / "doc.pdf", save_all=True, append_images=pages[1:], resolution=144)
    flags = ["--ocr-type", "spot", "--group-by", "document"]
    assert read([tmp_path / "doc.pdf"], SPOTS, *flags, "--format", "pdf")[0] == 0
    sheets = list(pypdfium2.PdfDocument(tmp_path / "out/doc.pdf"))
    assert [sheet.get_textpage().get_text_bounded().split("\r\n") for sheet in sheets] == [TEXTS] * 3
    colors = [sheet.render(scale=1).to_pil().convert("RGB").getpixel((50, 50)) for sheet in sheets]
    assert colors[0] == (255, 255, 255) and colors[1][0] > 240 > 20 > colors[1][2] and colors[2][2] > 240
    rows = [json.loads(line) for line in (tmp_path / "out/doc.jsonl").read_text().splitlines()]
    assert [row["page"] for row in rows] == [1, 2, 3]
    assert [tuple(line["box"]) for line in rows[2]["lines"]] == BOXES


def test_plain_text_is_found_in_the_pdf_line_by_line(read, page, tmp_path):
    long = "a line that is far too long for the page " * 8
    assert read([page], f"Harbour\n\n{long}", "--format", "pdf")[0] == 0
    text = pypdfium2.PdfDocument(tmp_path / "out/p1.pdf")[0].get_textpage()
    assert text.get_text_bounded().split("\r\n") == ["Harbour", long.strip()]
    assert text.get_charbox(text.count_chars() - 1)[2] <= 200


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--format", "page", "--ocr-type", "format"],
            "--format page: has no markup; use --ocr-type",
        ),
        (
            ["--format", "alto", "--group-by", "document"],
            "--format alto: is a file a page; leave out",
        ),
    ],
)
def test_what_these_formats_cannot_be_is_told(read, page, flags, message):
    code, err = read([page], "x", *flags)
    assert (code, err.startswith(f"infer: {message}")) == (2, True)


def test_a_missing_package_is_named(read, page, monkeypatch):
    from got_train.rendering import searchable_pdf

    monkeypatch.setattr(searchable_pdf, "find_spec", lambda name: None)
    code, err = read([page], "x", "--format", "pdf")
    assert code == 2
    assert err.startswith("infer: --format: pdf; pikepdf and fontTools not installed; `pip install -e")
