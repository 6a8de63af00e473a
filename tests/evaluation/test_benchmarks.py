"""Benchmarks in their own files, against the golden values of their official tools."""

import json
from pathlib import Path

import pytest

from got_train.cli import evaluate as command
from got_train.data.record import RecordError
from got_train.errors import EvaluationError
from got_train.evaluation.benchmarks import checks, fox, olmocr
from got_train.evaluation.documents import with_documents
from got_train.evaluation.inputs import open_data, read_pairs, read_predictions
from got_train.evaluation.predictions import DataFile

FIXTURES = Path(__file__).parents[1] / "fixtures"
FORMATS = FIXTURES / "formats"
OLMOCR = json.loads((FIXTURES / "metrics_golden_olmocr.json").read_text("utf-8"))
DOCUMENTS = {**OLMOCR["documents"], "empty": ""}


def score(tmp_path, *arguments):
    assert command.main([*map(str, arguments), "--no-report", "--output-dir", str(tmp_path)]) in (0, 1)
    return json.loads((tmp_path / "metrics.json").read_text("utf-8"))


@pytest.mark.parametrize("case", OLMOCR["tests"], ids=lambda case: case["test"]["id"])
def test_checks_agree_with_olmocr_benchs_on_every_document(case):
    results = {name: checks.run(case["test"], text) for name, text in DOCUMENTS.items()}
    unknown = {reason for passed, reason in results.values() if passed is None}
    if unknown:
        pytest.skip(unknown.pop())
    assert {name: passed for name, (passed, _) in results.items()} == {
        name: case[name][0] for name in DOCUMENTS
    }


BASELINE = {
    "zh page": "\u4f60\u597d\u4e16\u754c" * 10,
    "loop": "A page. " + "abc" * 200,
    "long loop no spaces": "A page. " + "a" * 300,
    "normal": "A page with words.",
}


@pytest.mark.parametrize("name", OLMOCR["baseline"])
def test_the_baseline_agrees_with_olmocr_benchs(name):
    passed, reason = checks.run({"type": "baseline"}, BASELINE[name])
    golden, said = OLMOCR["baseline"][name]
    assert passed == golden
    if "repeating" in said:
        count, size = said.split()[3], said.split()[5][0]
        assert reason == f"ends with {count} times the same {size} characters"


def test_a_blank_page_may_hold_few_characters():
    check = {"type": "baseline", "max_length": 3, "max_length_skips_image_alt_tags": True}
    assert checks.run(check, "12 ![a long description](x.png)")[0]
    assert checks.run(check, "a sentence") == (False, "9 letters and digits on a page that should be blank")


SPANS = "<table><tr><th colspan=2>Sales</th><th>Sum</th></tr><tr><td>1</td><td>2</td><td>3</td></tr></table>"


@pytest.mark.parametrize(
    ("sides", "passed"),
    [
        ({"cell": "2", "up": "Sales", "left": "1", "right": "3"}, True),
        ({"cell": "3", "top_heading": "Sum", "left": "2"}, True),
        ({"cell": "3", "top_heading": "Sales"}, False),
        ({"cell": "Sales", "down": "2", "right": "Sum"}, True),
        ({"cell": "9"}, False),
        ({"cell": "3", "left_heading": "1"}, True),
    ],
)
def test_cells_that_span_have_several_neighbours(sides, passed):
    assert checks.run({"type": "table", **sides}, SPANS)[0] == passed


def test_an_order_with_edits_is_found_near():
    text = "Ropes crecked, and Maria kept books"
    assert checks.near_matches(text, "Ropes creaked", 2) == [0]
    assert checks.run(
        {"type": "order", "before": "Ropes creak", "after": "Maria keep", "max_diffs": 2}, text
    )[0]
    assert not checks.run({"type": "order", "before": "Maria", "after": "Ropes"}, text)[0]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"pdf": "p", "id": "1", "type": "sense"}', "type is 'sense'; expected one of present"),
        ('{"pdf": "p", "id": "1", "type": "present"}', "text is None; expected a text"),
        ('{"pdf": "p", "id": "1", "type": "math", "math": "x", "max_diffs": -1}', "max_diffs is -1"),
        ('{"pdf": "p", "id": "1", "type": "format", "text": "x", "format": "red"}', "format is 'red'"),
        ("{", "not JSON"),
    ],
)
def test_a_bad_check_is_refused_with_its_line(tmp_path, line, message):
    (tmp_path / "t.jsonl").write_text(line + "\n")
    with pytest.raises(EvaluationError, match=f"t.jsonl:1: {message}"):
        checks.read_checks(str(tmp_path / "t.jsonl"))


def test_olmocr_bench_is_scored_by_its_checks_and_exported(tmp_path):
    """15 checks, of which the golden file lets t3, t4, t7 and t9 fail."""
    folder = FORMATS / "olmocr_bench"
    arguments = [
        "--benchmark",
        "olmocr",
        "--data",
        folder / "tests.jsonl",
        "--predictions",
        folder / "my_model",
    ]
    found = score(tmp_path, *arguments)["benchmarks"]["olmocr 2026-03"]
    assert (found["summary"]["checks"], found["summary"]["passed"]) == (15, pytest.approx(11 / 15))
    assert [each["id"] for each in found["checks"] if not each["passed"]] == ["t3", "t4", "t7", "t9"]
    assert (tmp_path / "olmocr_bench" / "p_pg1_repeat1.md").exists()


def test_a_latex_table_passes_the_checks_once_it_is_html(tmp_path):
    """As published it passes none."""
    (tmp_path / "p_pg1_repeat1.md").write_text(DOCUMENTS["latex_table(GOT style)"], encoding="utf-8")
    tests = FORMATS / "olmocr_bench" / "tests.jsonl"
    arguments = ["--benchmark", "olmocr", "--data", tests, "--predictions", tmp_path]
    found = score(tmp_path / "out", *arguments)["benchmarks"]["olmocr 2026-03"]
    assert found["types"]["table"] == {"checks": 2, "passed": 0.0}
    assert found["html_tables"]["types"]["table"] == {"checks": 2, "passed": 0.5}
    assert "<table>" in (tmp_path / "out" / "olmocr_bench" / "p_pg1_repeat1.md").read_text("utf-8")


def test_pages_of_a_pdf_are_drawn_when_they_are_opened(tmp_path):
    from PIL import Image

    from got_train.inference.reader import OcrRequest

    Image.new("RGB", (100, 140), (10, 200, 30)).save(tmp_path / "p.pdf")
    (tmp_path / "tests.jsonl").write_text((FORMATS / "olmocr_bench" / "tests.jsonl").read_text())
    data = open_data([{"path": str(tmp_path / "tests.jsonl"), "benchmark": "olmocr"}])[0]
    page = OcrRequest.of_record(data.records[0]).pages[0].open()
    assert page.getpixel((50, 50)) == pytest.approx((10, 200, 30), abs=6)
    (tmp_path / "p.pdf").unlink()
    again = open_data([{"path": str(tmp_path / "tests.jsonl"), "benchmark": "olmocr"}])[0]
    assert again.sha256 == data.sha256  # a PDF that is not there fails when its page is read
    assert olmocr.answer_name("p.pdf", 1) == again.notes[0]["id"]


def test_blocks_with_their_answers_beside_them_are_predictions():
    found = read_predictions(FORMATS / "omnidocbench" / "recognition_formula.json")
    assert [(each.task, each.reference, each.prediction) for each in found] == [
        ("formula", "$$E = m c^{2}$$", "$$E=mc^2$$")
    ]


def test_charts_are_scored_by_their_own_metrics(tmp_path):
    """Pears 86 instead of 88 is 2.3 % off: wrong strictly, right at the slight tolerance."""
    folder = FORMATS / "onechart"
    arguments = ["--data", folder / "gt.json", "--predictions", folder / "pred.json"]
    found = score(tmp_path, "--benchmark", "onechart", *arguments)["answer_types"]["chart"]["averages"]
    assert (found["em"], found["ap_strict"], found["ap_slight"]) == (0.0, 0.0, pytest.approx(1.0))


def test_foxs_files_are_records_and_what_got_cannot_be_asked_is_counted():
    records, notes = fox.open_records(str(FORMATS / "fox"))
    kinds = {
        note["groups"]["file"]: (note["groups"]["sub-task"], record)
        for note, record in zip(notes, records, strict=True)
    }
    assert {name: kinds[name][0] for name in kinds} == {
        "en_page_ocr": "page OCR",
        "cn_page_ocr": "page OCR",
        "en_box_ocr": "region OCR",
        "en_onbox_ocr": "color OCR",
        "encn-multi-8page-box-ocr": "multi-page region OCR",
    }
    assert kinds["en_box_ocr"][1].box == (40, 139, 840, 217)
    assert kinds["en_box_ocr"][1].box_unit == "thousandth"
    assert kinds["en_onbox_ocr"][1].color == "red"
    assert [note.get("not_asked") for note in notes][
        -1
    ] == "GOT has no prompt for Fox's multi-page region OCR"
    assert len(fox.SUB_TASKS) == 13
    assert len({task.name for task in fox.SUB_TASKS.values()}) == 9


def test_a_page_of_fox_is_one_document_whatever_is_drawn_on_it(tmp_path):
    """Its text, a region of it, and the copy with a coloured frame fail together."""
    for file, question in (
        ("en_page_ocr", "OCR:"),
        ("en_box_ocr", "OCR the text in the box: [40, 139, 840, 217]"),
        ("en_onbox_ocr", "OCR the text in the red box"),
    ):
        turns = [{"from": "human", "value": question}, {"from": "gpt", "value": "x"}]
        rows = [{"image": name, "conversations": turns} for name in ("en_1.png", "en_2.png")]
        (tmp_path / f"{file}.json").write_text(json.dumps(rows))
    for folder in ("en_pdf_png", "en_pdf_png_onbox"):
        for number in (1, 2):
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / f"en_{number}.png").touch()
    records, notes = fox.open_records(str(tmp_path))
    data = DataFile("fox", "fox", records, "", notes=notes)
    _, (count,) = with_documents([data.answered(place, prediction="x") for place in range(len(records))])
    assert (count.rows, count.documents, count.told_by) == (6, 2, "the rows' `document`")


def test_a_fox_question_without_its_region_is_refused(tmp_path):
    turns = [{"from": "human", "value": "Read the box."}, {"from": "gpt", "value": "x"}]
    (tmp_path / "en_box_ocr.json").write_text(json.dumps([{"image": "a.png", "conversations": turns}]))
    with pytest.raises(RecordError, match="a box or point in thousandths"):
        fox.open_records(str(tmp_path))
    with pytest.raises(EvaluationError, match="none of Fox's files"):
        fox.open_records(str(tmp_path / "nowhere"))


def test_results_of_fox_and_got_bring_task_and_region_in_their_question():
    found = read_predictions(FORMATS / "fox" / "results_final.json")
    assert [(each.task, each.images) for each in found] == [
        ("ocr", ("harbour_p1.png",)),
        ("ocr", ("town_p1.png",)),
    ]
    assert read_predictions(FORMATS / "got" / "results_final.json")[0].task == "ocr"
    swift = read_predictions(FORMATS / "ms_swift" / "infer_result.jsonl")
    assert swift[0].prediction


def test_folders_of_texts_are_paired_by_name(tmp_path):
    found = read_pairs(str(FORMATS / "text_pairs" / "gt"), str(FORMATS / "text_pairs" / "pred"))
    assert [each.id for each in found] == ["harbour_p1", "town_p1"]
    (tmp_path / "town_p1.txt").write_text("x")
    found = read_pairs(str(FORMATS / "text_pairs" / "gt"), str(tmp_path))
    assert [each.failed is None for each in found] == [False, True]
    (tmp_path / "other.txt").write_text("x")
    with pytest.raises(ValueError, match="other has no reference"):
        read_pairs(str(FORMATS / "text_pairs" / "gt"), str(tmp_path))


def test_an_answer_to_something_else_is_refused(tmp_path):
    rows = [{"imagename": "other.png", "answer": "{}"}]
    (tmp_path / "pred.json").write_text(json.dumps(rows))
    gt = str(FORMATS / "onechart" / "gt.json")
    arguments = ["--benchmark", "onechart", "--data", gt, "--predictions", str(tmp_path / "pred.json")]
    assert command.main(arguments) == 2
