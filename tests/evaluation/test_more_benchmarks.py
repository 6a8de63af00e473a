"""Fox, OneChart, CC-OCR V2, PureDocBench and OCRBench v2: their files and their rules."""

import json
from pathlib import Path

import pytest

from got_train.cli import benchmarks as listing
from got_train.cli import evaluate as command
from got_train.errors import EvaluationError
from got_train.evaluation.benchmarks import NAMES, catalog, ccocr, fox, ocrbench, onechart, puredocbench
from got_train.evaluation.benchmarks.omnidocbench.rules import RULES
from got_train.evaluation.inputs import open_data
from got_train.formats import charts

FIXTURES = Path(__file__).parents[1] / "fixtures"
FORMATS = FIXTURES / "formats"
OFFICIAL = json.loads((FIXTURES / "benchmarks" / "ccocr_ocrbench.json").read_text("utf-8"))


def scored(tmp_path, *arguments):
    assert command.main([*map(str, arguments), "--no-report", "--output-dir", str(tmp_path / "out")]) in (
        0,
        1,
    )
    return json.loads((tmp_path / "out" / "metrics.json").read_text("utf-8"))["benchmarks"]


@pytest.mark.parametrize("case", OFFICIAL["ccocr"], ids=lambda case: f"{case['scenario']}-{case['number']}")
def test_an_answer_of_the_parsing_track_is_worth_what_the_official_port_says(case):
    found = ccocr.score(case["prediction"], case["reference"], case["scenario"])
    assert found == pytest.approx(case["score"], abs=1e-9)


@pytest.mark.parametrize("case", OFFICIAL["ocrbench"], ids=lambda case: f"{case['type']}-{case['number']}")
def test_an_answer_of_ocrbenchs_reading_half_is_worth_what_the_official_port_says(case):
    """METEOR of words without WordNet may differ by 3e-3, which is a quarter of the score."""
    found = ocrbench.score(case, case["prediction"])
    assert found == pytest.approx(case["score"], abs=1e-3 if "OCR" in case["type"] else 1e-9)


def parsing_track(root):
    samples = {
        ("formula_parsing", "formula", "a"): ("x^{2}", "$x^2$"),
        ("complex_table_parsing", "table", "b"): ("<table><tr><td>1</td></tr></table>",) * 2,
    }
    for (sub_task, scenario, name), (answer, _) in samples.items():
        base = root / "data" / "parsing" / sub_task
        for part in ("answer", "question", "images"):
            (base / part / scenario).mkdir(parents=True)
        (base / "answer" / scenario / f"{name}.txt").write_text(answer)
        (base / "question" / scenario / f"{name}.txt").write_text("Read it.")
        (base / "images" / scenario / f"{name}.png").write_bytes(b"x")
    answers = root / "answers"
    for (sub_task, scenario, name), (_, answer) in samples.items():
        (answers / sub_task / scenario).mkdir(parents=True)
        (answers / sub_task / scenario / f"{name}.txt").write_text(answer)
    return root / "data", answers


def test_the_tree_of_the_parsing_track_is_read_and_its_sub_tasks_are_averaged(tmp_path):
    """Formula: x^{2} against $x^2$ has 3 edits in 5 characters; the table is right."""
    data, answers = parsing_track(tmp_path)
    found = scored(tmp_path, "--benchmark", "ccocr", data, "--predictions", answers)["ccocr 2"]["summary"]
    assert (found["formula_parsing"], found["complex_table_parsing"]) == (pytest.approx(0.4), 1.0)
    assert found["parsing"] == pytest.approx(0.7)


def test_a_tree_without_the_parsing_track_is_refused(tmp_path):
    with pytest.raises(EvaluationError, match="no sample of the parsing track"):
        ccocr.open_records(str(tmp_path))


def test_a_latex_table_has_no_score_until_it_is_html():
    latex = "\\begin{tabular}{l}1\\end{tabular}"
    html = "<table><tr><td>1</td></tr></table>"
    assert ccocr.score(latex, html, "table") == 0.0


def release(root):
    """Two pages of PureDocBench, one of which is answered rightly."""
    block = {"category_type": "text_block", "order": 1, "text": "The harbour wakes.", "anno_id": 1}
    rows = []
    for name in ("one", "two"):
        (root / "gt" / "c").mkdir(parents=True, exist_ok=True)
        (root / "gt" / "c" / f"{name}.json").write_text(json.dumps({"layout_dets": [block], "page_info": {}}))
        rows.append(f"c/{name},c,s,c/{name}.json,c/{name}.png,c/{name}.png,c/{name}__real.jpg")
    head = "page_id,category,subcategory,gt_rel,clean_rel,digital_rel,real_rel"
    (root / "release_manifest.csv").write_text("\n".join([head, *rows]))
    for track in ("clean", "real_degraded"):
        (root / "images" / track / "c").mkdir(parents=True)
    return root


def test_puredocbenchs_pages_are_scored_by_omnidocbenchs_rule_track_by_track(tmp_path):
    root = release(tmp_path / "data")
    real = puredocbench.open_records(str(root), version="1.1-real")[0]
    assert str(real[0].images[0]).endswith("images/real_degraded/c/one__real.jpg")
    (tmp_path / "answers").mkdir()
    (tmp_path / "answers" / "one__real.md").write_text("The harbour wakes.")
    arguments = ["--benchmark", "puredocbench", root, "--version", "1.1-real"]
    found = scored(tmp_path, *arguments, "--predictions", tmp_path / "answers")["puredocbench 1.1-real"]
    assert (found["summary"]["track"], found["summary"]["pages"], found["summary"]["text_edit"]) == (
        "real",
        2,
        0.5,
    )
    assert found["groups"]["category: c"]["pages"] == 2


def test_a_release_without_its_manifest_is_refused(tmp_path):
    with pytest.raises(EvaluationError, match="manifests none; expected one"):
        puredocbench.open_records(str(tmp_path))


def test_ocrbenchs_questions_are_not_asked_and_its_pages_are(tmp_path):
    rows = [
        {
            "id": 1,
            "type": "full-page OCR en",
            "image_path": "a.png",
            "question": "Read.",
            "answers": ["the sea"],
        },
        {"id": 2, "type": "cognition VQA en", "image_path": "a.png", "question": "Why?", "answers": ["so"]},
        {
            **{"id": 3, "type": "fine-grained text recognition en", "image_path": "a.png"},
            **{"question": "Read the text within [10, 20, 30, 40].", "answers": ["x"]},
        },
    ]
    (tmp_path / "OCRBench_v2.json").write_text(json.dumps(rows))
    records, notes = ocrbench.open_records(str(tmp_path))
    assert [note.get("not_asked") for note in notes] == [
        None,
        "cognition VQA en is not of the reading half",
        None,
    ]
    assert (records[0].task, records[2].box, records[2].box_unit) == ("ocr", (10, 20, 30, 40), "thousandth")
    (tmp_path / "answers.json").write_text(
        json.dumps([{**rows[0], "predict": "the sea"}, {**rows[2], "predict": ""}])
    )
    found = scored(tmp_path, "--benchmark", "ocrbench", tmp_path, "--predictions", tmp_path / "answers.json")
    assert found["ocrbench 2"]["summary"]["rows"] == 2
    assert found["ocrbench 2"]["types"]["fine-grained text recognition en"]["score"] == 0.0


def test_foxs_lines_are_found_in_the_pictures_of_the_other_language(tmp_path):
    turns = [{"from": "human", "value": "Read the line at [10, 20]."}, {"from": "gpt", "value": "x"}]
    (tmp_path / "en_line_ocr.json").write_text(json.dumps([{"image": "a.png", "conversations": turns}]))
    for folder in ("en_pdf_png", "cn_pdf_png"):
        (tmp_path / folder).mkdir()
    (tmp_path / "cn_pdf_png" / "a.png").write_bytes(b"x")
    image = fox.open_records(str(tmp_path / "en_line_ocr.json"))[0][0].images[0]
    assert Path(image) == tmp_path / "cn_pdf_png" / "a.png"
    (tmp_path / "en_pdf_png" / "a.png").write_bytes(b"x")
    image = fox.open_records(str(tmp_path / "en_line_ocr.json"))[0][0].images[0]
    assert Path(image) == tmp_path / "en_pdf_png" / "a.png"


def test_charts_that_do_not_parse_count_0_or_are_left_out_by_name(tmp_path):
    """One chart right, one not readable: 0.5 with it, 1.0 without, as the official means have it."""
    gts = [{"images": f"{name}.png", "gts": {"values": {"a": 1, "b": 2}}} for name in ("one", "two")]
    answers = [{"imagename": "one.png", "answer": '{"values": {"a": 1, "b": 2}}'}]
    answers.append({"imagename": "two.png", "answer": "nothing"})
    (tmp_path / "gt.json").write_text(json.dumps(gts))
    (tmp_path / "pred.json").write_text(json.dumps(answers))
    arguments = ["--benchmark", "onechart", tmp_path / "gt.json", "--predictions", tmp_path / "pred.json"]
    found = scored(tmp_path, *arguments)["onechart 2025-02"]
    summary = found["summary"]
    assert (summary["charts"], summary["unparsable"], found["unparsable"]) == (2, 1, ["two.png"])
    for name in onechart.METRICS:
        assert (summary[f"{name} with_unparsable"], summary[f"{name} without_unparsable"]) == (
            pytest.approx(0.5),
            pytest.approx(1.0),
        )


@pytest.mark.parametrize(
    ("read", "truth", "value"),
    [("kg", ["kg", "t"], 0.5), (["kg", "t"], "kg", 1.0), (["kg", "t"], ["kg", "t"], 1.0)],
)
def test_titles_that_are_lists_are_compared_item_by_item(read, truth, value):
    """Values of the official code."""
    sides = (charts.title_of({"y_title": side}, "y_title") for side in (read, truth))
    assert charts.title(*sides) == pytest.approx(value)


def test_every_benchmark_is_listed_with_its_versions(capsys):
    versions = {benchmark.name: benchmark.versions for benchmark in catalog.BENCHMARKS}
    assert set(versions) == {*NAMES} and versions["omnidocbench"] == list(RULES)
    assert listing.main([]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(NAMES)
    for name in NAMES:
        assert listing.main([name]) == 0
        assert "versions" in capsys.readouterr().out
    assert listing.main(["sudoku"]) == 2
    assert "sudoku: unknown benchmark; expected one of fox" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"benchmark": "omnidocbench", "version": "2.0"}, "omnidocbench 2.0: unknown version"),
        ({"benchmark": "omnidocbench", "preset": "published"}, "preset does not go with benchmark"),
    ],
)
def test_an_unknown_version_or_preset_is_refused(options, message):
    source = {"path": str(FORMATS / "omnidocbench" / "OmniDocBench.json"), **options}
    with pytest.raises(EvaluationError, match=message):
        open_data([source])


def test_published_values_stand_in_the_docs_with_their_source():
    docs = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    for benchmark in catalog.BENCHMARKS:
        for value in benchmark.values:
            row = [benchmark.name, value.system, value.score, value.value, value.source]
            assert f"| {' | '.join(row)} |" in docs
