"""Drafts: who reads, what stands in a row, how a stopped job goes on, and who is not installed."""

import json
import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from got_train.cli import prelabel as command
from got_train.data.record import Record, RecordError
from got_train.drafts import prelabel as job
from got_train.drafts import readers
from got_train.drafts.draft import Answer, Draft, key_of, read_drafts
from got_train.drafts.prelabel import prelabel, records_of
from got_train.drafts.readers import PredictionsFile, RapidOcr, ReaderConfig, Tesseract, open_readers
from got_train.errors import GotError, RequirementError, UsageError
from got_train.evaluation.inputs import read_predictions
from got_train.inference.reader import OcrRequest, Page, load_pipeline

ROOT = Path(__file__).parents[2]
NANO = ROOT / "configs" / "nano" / "weights" / "stage3"


class Told:
    """A reader that says the name of the picture, with a word behind; it counts what it was asked."""

    checkpoint = None

    def __init__(self, name, word="", breaks_at=None):
        self.name, self.word, self.breaks_at, self.asked = name, word, breaks_at, 0

    def read(self, records):
        for record in records:
            self.asked += 1
            if self.asked == self.breaks_at:
                raise KeyboardInterrupt
            yield Answer(by=self.name, text=Path(record.images[0]).stem + self.word)


@pytest.fixture
def pages(tmp_path):
    """Seven grey pictures of different greys."""
    folder = tmp_path / "pages"
    folder.mkdir()
    for number in range(7):
        Image.new("L", (40, 20), 30 * number).save(folder / f"page{number}.png")
    return folder


def of(source):
    return records_of([str(source)], "ocr", source.parent)


def draft_of(*texts, record=None):
    answers = tuple(Answer(by=f"reader{number}", text=text) for number, text in enumerate(texts))
    return Draft(key="k", record=record or Record(("a.png",), "ocr", ""), answers=answers)


@pytest.mark.parametrize(
    ("texts", "agreement"),
    [
        (("kitten",), None),
        (("kitten", None), None),  # only one has read it
        (("kitten", "sitting"), 1 - 3 / 7),  # Levenshtein's own example: 3 edits of 7 characters
        (("kitten", "sitting", "kitten"), (4 / 7 + 1 + 4 / 7) / 3),
        (("two\nlines", "two  lines "), 1),  # white space is one blank
        (("", ""), 1),
        (("", "ab"), 0),
    ],
)
def test_agreement_is_one_minus_the_mean_edit_distance_of_all_pairs(texts, agreement):
    assert draft_of(*texts).agreement == (agreement if agreement is None else pytest.approx(agreement))


def test_the_draft_is_the_text_of_the_first_reader_who_read_anything():
    assert draft_of(None, "b", "c").text == "b"
    assert draft_of("", "b").text == ""
    assert draft_of(None, None).text == ""


def test_seven_pages_by_two_readers_are_seven_rows_that_evaluation_reads_too(pages, tmp_path):
    output = tmp_path / "out" / "drafts.jsonl"
    summary = prelabel(of(pages), [Told("one"), Told("two", "!")], output)
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert (summary.drafts, summary.before, len(rows)) == (7, 0, 7)
    assert rows[3]["images"] == ["../pages/page3.png"]
    assert [answer["text"] for answer in rows[3]["answers"]] == ["page3", "page3!"]
    assert rows[3]["prediction"] == "page3"
    assert rows[3]["agreement"] == round(1 - 1 / 6, 4) == 0.8333
    drafts = read_drafts(output)
    assert drafts[3].record.images == (str(tmp_path / "out" / ".." / "pages" / "page3.png"),)
    assert [draft.row(output.parent) for draft in drafts] == rows


def test_records_keep_their_region_document_and_right_text_and_are_scored_by_got_evaluate(pages, tmp_path):
    data = tmp_path / "data.jsonl"
    row = {"images": ["pages/page1.png"], "task": "ocr", "text": "page2", "document": "d"}
    box = {"box": [0, 0, 500, 1000], "box_unit": "thousandth"}
    unknown = {"images": ["pages/page4.png"], "task": "ocr", "text": ""}
    data.write_text("".join(json.dumps(each) + "\n" for each in (row, row | box, unknown)))
    output = tmp_path / "drafts.jsonl"
    prelabel(of(data), [Told("one")], output)
    plain, boxed, without = read_drafts(output)
    assert (plain.reference, plain.record.document, plain.record.box) == ("page2", "d", None)
    assert (boxed.record.box, boxed.record.box_unit) == ((0, 0, 500, 1000), "thousandth")
    assert (without.reference, "reference" in without.row(tmp_path)) == (None, False)
    assert len({plain.key, boxed.key, without.key}) == 3
    with pytest.raises(GotError, match=r"drafts.jsonl:3: reference or label is 'None'"):
        read_predictions(output)
    output.write_text("".join(output.read_text().splitlines(keepends=True)[:2]))
    assert [(row.reference, row.prediction) for row in read_predictions(output)] == [("page2", "page1")] * 2


def test_a_job_that_is_stopped_goes_on_where_it_was_and_writes_the_same_file(pages, tmp_path, monkeypatch):
    monkeypatch.setattr(job, "TOGETHER", 2)
    whole, stopped = tmp_path / "whole.jsonl", tmp_path / "stopped.jsonl"
    prelabel(of(pages), [Told("one"), Told("two")], whole)
    with pytest.raises(KeyboardInterrupt):
        prelabel(of(pages), [Told("one"), Told("two", breaks_at=6)], stopped)
    with open(stopped, "a") as file:
        file.write('{"id": "torn')
    again = Told("two")
    summary = prelabel(of(pages), [Told("one"), again], stopped)
    assert (summary.drafts, summary.before, again.asked) == (7, 5, 2)
    assert stopped.read_text() == whole.read_text()


def test_drafts_of_other_readers_are_not_mixed(pages, tmp_path):
    output = tmp_path / "drafts.jsonl"
    prelabel(of(pages), [Told("one")], output)
    with pytest.raises(
        UsageError, match="holds drafts by one, or by other weights of the same name; use anot"
    ):
        prelabel(of(pages), [Told("two")], output)


def test_the_same_picture_twice_is_one_draft(pages, tmp_path):
    shutil.copy(pages / "page0.png", pages / "page9.png")
    summary = prelabel(of(pages), [Told("one")], tmp_path / "drafts.jsonl")
    assert (summary.drafts, summary.twice) == (7, 1)


def test_the_pages_of_a_pdf_become_pictures_beside_the_drafts(tmp_path):
    two = [Image.new("RGB", (60, 40), color) for color in ("white", "grey")]
    two[0].save(tmp_path / "scan.pdf", save_all=True, append_images=two[1:])
    records = list(records_of([str(tmp_path / "scan.pdf")], "format", tmp_path / "out"))
    names = [Path(record.images[0]).relative_to(tmp_path) for record in records]
    assert list(map(str, names)) == ["out/pictures/scan_0001.png", "out/pictures/scan_0002.png"]
    assert [(record.document, record.task) for record in records] == [("scan.pdf", "format")] * 2
    with Image.open(records[0].images[0]) as first, Image.open(records[1].images[0]) as second:
        assert first.getpixel((5, 5)) == (255, 255, 255) != second.getpixel((5, 5))


def test_a_checkpoint_is_as_sure_of_a_draft_as_of_its_words_in_the_mean(tmp_path):
    from data_tools.drawing.fonts import find_fonts
    from data_tools.engines.lines import render_page

    font = find_fonts(["Lato-Regular"])[0]
    for name, words in (("a", ["the", "source"]), ("b", ["license"])):
        render_page(words, font, 20, 128, np.random.default_rng(0)).image.save(tmp_path / f"{name}.png")
    (reader,) = open_readers([str(NANO)], ReaderConfig(threads=1))
    records = list(records_of([str(tmp_path)], "ocr", tmp_path))
    answers = list(reader.read(records))
    alone = load_pipeline(NANO)
    for answer, name in zip(answers, "ab", strict=True):
        result = next(alone.read([OcrRequest((Page(str(tmp_path / f"{name}.png")),), "ocr")]))
        words = [word.confidence for word in alone.spans(result, "word")]
        assert answer.text == result.text
        assert answer.confidence == pytest.approx(sum(words) / len(words), abs=1e-3)
    assert (answers[0].text, len(answers[0].checkpoint)) == ("the\nsource", 64)


@pytest.mark.skipif(shutil.which("tesseract") is None, reason="tesseract is not installed")
def test_tesseract_reads_a_region_and_leaves_what_is_no_plain_text_or_no_picture(tmp_path):
    from data_tools.drawing.fonts import find_fonts
    from data_tools.engines.lines import render_page

    font = find_fonts(["Lato-Regular"])[0]
    render_page(["source", "license"], font, 40, 256, np.random.default_rng(0)).image.save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    page, broken = str(tmp_path / "a.png"), str(tmp_path / "b.png")
    with Image.open(page) as image:
        ink = np.flatnonzero(np.asarray(image.convert("L")).min(axis=1) < 128)  # rows with ink, of two lines
    gap = next(int(one) for one, two in zip(ink, ink[1:], strict=False) if two - one > 5) + 4
    records = [
        Record((page,), "ocr", ""),
        Record((broken,), "ocr", ""),
        Record((page,), "ocr", "", box=(0, 0, 256, gap)),
        Record((page,), "format", ""),
        Record((page,), "ocr", "", color="red"),
    ]
    whole, unreadable, boxed, formatted, framed = Tesseract().read(records)
    assert (whole.text, boxed.text) == ("source\nlicense", "source")
    assert unreadable.text is None and unreadable.failed.startswith(f"{broken}: ")
    assert (formatted.text, formatted.failed) == (None, "task format; only a checkpoint reads it")
    assert framed.failed == "a frame of a color, or a point; only a checkpoint reads it"
    with pytest.raises(GotError, match="tesseract: .*xyz.*; expected one answer a picture"):
        list(Tesseract(language="xyz").read(records[:1]))


def test_rapidocr_is_told_whether_a_picture_is_one_line_and_its_lines_are_joined(pages, monkeypatch):
    """A stand-in for the package: what it is told, and how its answer comes."""
    told = []

    class Engine:
        def __call__(self, path, **how):
            with Image.open(path) as image:
                told.append((image.size, how))
            return types.SimpleNamespace(txts=("one", "two") if how["use_det"] else None)

    monkeypatch.setitem(sys.modules, "rapidocr", types.SimpleNamespace(RapidOCR=Engine))
    monkeypatch.setattr(readers, "find_spec", lambda name: True)
    record = Record((str(pages / "page1.png"),), "ocr", "", box=(0, 0, 500, 500), box_unit="thousandth")
    texts = [next(RapidOcr(detect=detect).read([record])).text for detect in (True, False)]
    assert texts == ["one\ntwo", ""]
    how = {"use_cls": False, "use_rec": True}
    assert told == [((20, 10), {"use_det": True, **how}), ((20, 10), {"use_det": False, **how})]


def test_who_is_not_installed_is_refused_by_name_with_what_to_install(monkeypatch):
    monkeypatch.setattr(readers.shutil, "which", lambda name: None)
    monkeypatch.setattr(readers, "find_spec", lambda name: None if name == "onnxruntime" else True)
    with pytest.raises(RequirementError, match="^tesseract: no such program; install tesseract-ocr and"):
        Tesseract()
    with pytest.raises(
        RequirementError, match="^onnxruntime is not installed; use `pip install rapidocr onn"
    ):
        RapidOcr()


def test_answers_of_a_file_are_found_by_path_and_region_or_by_the_name_of_the_picture(pages, tmp_path):
    rows = [
        {"images": [str(pages / "page0.png")], "answer": "whole"},
        {"images": ["pages/page0.png"], "box": [0, 0, 9, 9], "prediction": "boxed", "confidence": 0.25},
        {"images": ["elsewhere/page1.png"], "prediction": "by name"},
        {"images": ["a/page2.png"], "prediction": "one of two"},
        {"images": ["b/page2.png"], "prediction": "the other"},
        {"images": [str(pages / "page3.png")], "prediction": "", "failed": "page3.png: too dark"},
    ]
    file = tmp_path / "predictions.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = [Record((str(pages / f"page{number}.png"),), "ocr", "") for number in range(4)]
    asked.append(Record((str(pages / "page0.png"),), "ocr", "", box=(0, 0, 9, 9)))
    answers = list(PredictionsFile(str(file)).read(asked))
    assert [answer.text for answer in answers] == ["whole", "by name", None, None, "boxed"]
    assert answers[2].failed == f"{pages / 'page2.png'}: no row in {file}"
    assert (answers[3].failed, answers[4].confidence) == ("page3.png: too dark", 0.25)


def test_the_command_tells_who_read_how_much_and_how_far_they_agree(pages, tmp_path, capsys):
    for name, word in (("one", ""), ("two", "xyzvw")):
        rows = [{"images": [f"pages/page{n}.png"], "prediction": f"page{n}{word}"} for n in range(7)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:6]))
    one, two = (str(tmp_path / f"{name}.jsonl") for name in ("one", "two"))
    output = tmp_path / "drafts.jsonl"
    assert command.main([str(pages), "--by", one, "--by", two, "-o", str(output), "--limit", "7"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{output}\n"
    assert err.splitlines() == [
        "prelabel: 7 drafts, 0 of them from before",
        *(f"prelabel: {name}: read 6 of 7; {pages / 'page6.png'}: no row in {name}" for name in (one, two)),
        "prelabel: agreement: 0.500, the mean over 6 drafts",  # 5 edits of 10 characters
    ]
    (tmp_path / "none.jsonl").write_text('{"images": ["z.png"], "prediction": "z"}\n')
    again = ["--by", str(tmp_path / "none.jsonl"), "-o", str(tmp_path / "other.jsonl")]
    assert command.main([str(pages), *again]) == 1  # a reader that has read nothing


def test_pages_and_programs_are_looked_for_before_a_model_is_loaded(pages, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(readers, "CheckpointReader", None)  # to open one would fail
    monkeypatch.setattr(readers.shutil, "which", lambda name: None)
    assert command.main([str(tmp_path / "none"), "--by", str(NANO)]) == 2
    assert command.main([str(pages), "--by", str(NANO), "tesseract"]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(f"prelabel: {tmp_path / 'none'}: no such file; ")
    assert second.startswith("prelabel: tesseract: no such program; install tesseract-ocr ")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--by", "org/model"], "org/model: no such folder, and nothing is downloaded here; "),
        (["--by", "nobody"], "--by: nobody; expected the folder of a checkpoint, tesseract, rapidocr or a "),
        (["--by", "tesseract", "tesseract"], "--by: tesseract is given twice; give each reader once"),
        (["--by", "tesseract", "-o", "a.txt"], "--output: a.txt; expected a .jsonl file"),
        (["--by", "tesseract", "--batch-size", "0"], "--batch-size: 0; expected at least 1"),
    ],
)
def test_a_wrong_command_is_told_in_one_line_with_code_2(more, message, pages, capsys):
    assert command.main([str(pages), *more]) == 2
    assert capsys.readouterr().err.startswith(f"prelabel: {message}")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", ":1: not JSON: "),
        ('{"images": ["a.png"], "task": "ocr", "prediction": "a"}', ":1: no id and answers; expected a row "),
        ('{"id": "a", "answers": [{"text": "b"}]}', ":1: no images; "),
        (
            '{"id": "a", "images": ["a.png"], "task": "ocr", "answers": [{"text": "b"}]}',
            ":1: an answer is {'te",
        ),
        ('{"id": "a", "images": ["a.png"], "task": "ocr", "answers": [{"by": 1}]}', ":1: an answer is {'by"),
        ("", ": holds no drafts; expected at least one line of got prelabel"),
    ],
)
def test_a_file_that_is_none_of_drafts_is_refused_by_its_line(line, message, tmp_path):
    file = tmp_path / "drafts.jsonl"
    file.write_text(line + "\n")
    with pytest.raises(RecordError) as refused:
        read_drafts(file)
    assert str(refused.value).startswith(f"{file}{message}")


def test_the_key_of_a_draft_is_that_of_the_picture_wherever_it_lies(pages, tmp_path):
    shutil.copy(pages / "page1.png", tmp_path / "b.png")
    keys = [key_of(Record((str(path),), "ocr", "")) for path in (pages / "page1.png", tmp_path / "b.png")]
    other = key_of(Record((str(pages / "page1.png"),), "format", ""))
    assert keys[0] == keys[1] != other
