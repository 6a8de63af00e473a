"""OmniDocBench end to end: pages by the rules of its versions, against values of the official code."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from got_train.cli import evaluate as command
from got_train.errors import EvaluationError
from got_train.evaluation import comparison
from got_train.evaluation.benchmarks import omnidocbench
from got_train.evaluation.benchmarks.omnidocbench import markdown, normalize, official, runner, scoring
from got_train.evaluation.benchmarks.omnidocbench.rules import rule_of
from got_train.evaluation.benchmarks.omnidocbench.truth import stem

FIXTURES = Path(__file__).parents[1] / "fixtures"
FORMATS = FIXTURES / "formats" / "omnidocbench"
MADE = json.loads((FIXTURES / "benchmarks" / "omnidocbench_made.json").read_text("utf-8"))
RANDOM = json.loads((FIXTURES / "benchmarks" / "omnidocbench_random.json").read_text("utf-8"))
OMNI = json.loads((FIXTURES / "metrics_golden_omnidocbench.json").read_text("utf-8"))
SCORES = ("text_edit", "formula_edit", "order_edit")
INLINE = re.compile(r"\$[^$]*[\\^_]|\\\(")  # text with formulas in it needs pylatexenc


def answer_to(name):
    names = (f"{name}.md", f"{name}.mmd", f"{name}.jpg.md")
    return next((MADE["answers"][file] for file in names if file in MADE["answers"]), None)


def needs_pylatexenc(page, answer):
    texts = [str(block.get("text") or block.get("latex") or "") for block in page["layout_dets"]]
    if any(map(INLINE.search, [*texts, answer or ""])):
        pytest.importorskip("pylatexenc")


def assert_same(found, golden, within):
    """Tables are compared as a set: which of two equal tables is which, the official files do not say."""
    assert {name: found[name] for name in SCORES} == pytest.approx(
        {name: golden.get(name) for name in SCORES}, abs=within
    )
    assert sorted(found["teds"]) == pytest.approx(sorted(golden.get("teds", [])), abs=within)


@pytest.mark.parametrize("version", ["1.5", "1.6"])
@pytest.mark.parametrize("page", MADE["truth"], ids=stem)
def test_a_page_of_one_rule_scores_as_by_the_official_code(page, version):
    """55 pages, one rule each, by upstream's commits 8ddf8ba (1.5) and 9dc1dec (1.6); four digits."""
    answer, rule = answer_to(stem(page)), rule_of(version)
    needs_pylatexenc(page, answer)
    golden = MADE["values"][f"v{version}"][stem(page)]
    if answer is None and not rule.empty_pages:
        assert golden == {}
        return
    assert_same(omnidocbench.score_page(page, answer or "", rule), golden, 1e-4)


@pytest.mark.parametrize("page", RANDOM["truth"], ids=stem)
def test_a_random_page_scores_as_by_the_official_code_of_1_5(page):
    """Paragraphs cut, joined, noisy, left out, swapped; formulas of several lines; tables in three forms."""
    answer = RANDOM["answers"][stem(page)]
    needs_pylatexenc(page, answer)
    golden = RANDOM["values"][stem(page)]
    found = omnidocbench.score_page(page, answer, rule_of("1.5"))
    assert_same(found, golden, 1e-8)
    assert sorted(found["teds_s"]) == pytest.approx(sorted(golden.get("teds_s", [])), abs=1e-8)


OFFICIAL = {
    "text_edit": "text_Edit_ALL_page_avg",
    "formula_edit": "formula_Edit_ALL_page_avg",
    "order_edit": "reading_order_ALL_page_avg",
    "teds_over_tables": "table_TEDS",
}


@pytest.mark.parametrize("run", OMNI["runs"], ids=lambda run: run["id"])
def test_the_means_agree_with_the_official_ones_of_1_5(run):
    pytest.importorskip("pylatexenc")
    pages = {stem(page): page for page in OMNI["ground_truth"]}
    rule = rule_of("1.5")
    values = {
        name: runner.timed(pages[name], text, rule.version) for name, text in run["predictions"].items()
    }
    means = omnidocbench.summary(values, rule)
    golden = next(iter(run["values"].values()))
    assert {name: means[name] for name in OFFICIAL} == pytest.approx(
        {ours: golden[theirs] for ours, theirs in OFFICIAL.items()}, abs=1e-9
    )


def test_the_first_table_of_a_page_has_no_place_in_1_6_and_the_corrected_order_gives_it_one():
    page = next(page for page in MADE["truth"] if stem(page) == "latex_table")
    found = omnidocbench.score_page(page, answer_to("latex_table"), rule_of("1.6"))
    assert (found["order_edit"], found["order_edit_corrected"]) == (0.5, 0.0)


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("\\tag{3} a", "a"),
        ("a \\phantom{\\frac{x}{y}}", "a"),
        ("x_{2}^{3}", "x_2^3"),
        ("\\begin{array}{lcr} a & b \\end{array}", "ab"),
        ("\\{a~b\\}", "ab"),
        ("$$\\left\\vert x \\right\\vert$$", "|x|"),
        ("\\mathrm{d}x", "dx"),
    ],
)
def test_formulas_are_normalised_more_widely_from_1_6_on(written, plain):
    assert normalize.formula(written, rule_of("1.6")) == plain


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("\uff21\uff11", "A1"),
        ("\u2713", "\u221a"),
        ("$\\checkmark$", "\u221a"),
        (" - ", "\u2014"),
        ("a - b", "a - b"),
        ("5\\%", "5%"),
        ("$\\alpha$", "\u03b1"),
        ("a\u200b\u00a0 b", "a b"),
    ],
)
def test_cells_are_normalised_more_widely_from_1_6_on(written, plain):
    assert normalize.cell(written) == plain


def test_an_answer_is_cut_into_tables_formulas_and_text_with_their_places():
    """As published, the end of a code block is gone before code is looked for, so that it is text."""
    table = "<table><tr><td>1</td></tr></table>"
    answer = f"# Title\n\n\\[a\n= b\\]\n\ntext $x$ on\n\n```py\nx = 1\n```\n\n{table}"
    blocks = markdown.blocks_of(answer, rule_of("1.5"))
    assert [(block.kind, block.fine, block.content) for block in blocks] == [
        ("text_all", "text_block", "# Title"),
        ("equation_isolated", "", "\\[a = b\\]"),
        ("text_all", "text_block", "text $x$ on"),
        ("equation_isolated", "equation_inline", "\\[x\\]"),
        ("text_all", "text_block", "```py\nx = 1"),
        ("html_table", "", table),
    ]
    assert [answer[block.start : block.end] for block in blocks if block.kind == "equation_isolated"] == [
        "\\[a\n= b\\]",
        "$x$",
    ]


def score(tmp_path, *arguments):
    assert command.main([*map(str, arguments), "--no-report", "--output-dir", str(tmp_path)]) in (0, 1)
    return json.loads((tmp_path / "metrics.json").read_text("utf-8"))


def answers_with_one_missing(folder):
    folder.mkdir()
    text = (FORMATS / "predictions" / "harbour_p1.md").read_text("utf-8")
    (folder / "harbour_p1.md").write_text(text + "\n\nA lost dog in the snow.", encoding="utf-8")
    return ["--benchmark", "omnidocbench", "--data", FORMATS / "OmniDocBench.json", "--predictions", folder]


def test_a_missing_page_is_empty_in_1_6_and_left_out_but_told_in_1_5(tmp_path):
    pytest.importorskip("pylatexenc")
    arguments = answers_with_one_missing(tmp_path / "answers")
    metrics = score(tmp_path / "out", *arguments)
    assert list(metrics["benchmarks"]) == ["omnidocbench 1.6"]
    found = metrics["benchmarks"]["omnidocbench 1.6"]
    assert found["summary"]["missing_pages"] == metrics["counts"]["failed"] == 1
    assert (found["summary"]["pages"], found["summary"]["text_edit"]) == (2, 0.5)
    assert found["summary"]["invented_characters"] == len("A lost dog in the snow.")
    assert (tmp_path / "out" / "omnidocbench" / "harbour_p1.md").exists()
    assert not (tmp_path / "out" / "omnidocbench" / "town_p1.md").exists()
    found = score(tmp_path / "old", *arguments, "--version", "1.5")["benchmarks"]["omnidocbench 1.5"]
    assert (found["summary"]["pages"], found["summary"]["text_edit"]) == (1, 0.0)
    assert (found["missing_as_empty"]["pages"], found["missing_as_empty"]["text_edit"]) == (2, 0.5)


def test_runs_of_two_versions_are_not_compared(tmp_path):
    pytest.importorskip("pylatexenc")
    arguments = answers_with_one_missing(tmp_path / "answers")
    runs = {
        version: score(tmp_path / version, *arguments, "--version", version) for version in ("1.5", "1.6")
    }
    assert any("different benchmark rules" in each for each in comparison.setting_differences(runs))
    files = [str(tmp_path / version / "metrics.json") for version in runs]
    assert command.main(["--compare", *files]) == 2


def test_the_overall_score_is_there_only_with_all_its_parts():
    page = next(page for page in MADE["truth"] if stem(page) == "order_table_first")
    values = {"a": {**scoring.score_page(page, answer_to("order_table_first"), rule_of("1.6")), "cdm": []}}
    assert omnidocbench.summary(values, rule_of("1.6"))["overall"] is None  # no page has a formula
    other = next(page for page in MADE["truth"] if stem(page) == "f_case")
    values["b"] = {**scoring.score_page(other, "nothing of it", rule_of("1.6")), "cdm": [0.0]}
    found = omnidocbench.summary(values, rule_of("1.6"))
    assert found["overall"] == pytest.approx(100 * ((1 - found["text_edit"]) + 1.0 + 0.0) / 3)
    del values["b"]["cdm"]
    assert omnidocbench.summary(values, rule_of("1.6"))["overall"] is None


def test_tables_of_subset_language_and_special_issue_are_means_over_their_pages():
    page = MADE["truth"][0]
    pages = {
        name: {**page, "page_info": {**page["page_info"], "page_attribute": attributes}}
        for name, attributes in {
            "a": {"subset": "base", "language": "en", "special_issue": ["watermark", "table_x"]},
            "b": {"subset": "hard", "language": "en", "special_issue": []},
        }.items()
    }
    values = {
        "a": scoring.score_page(page, answer_to("order_missing"), rule_of("1.6")),
        "b": scoring.score_page(page, "", rule_of("1.6")),
    }
    groups = omnidocbench._tables(pages, values)["groups"]
    assert {name: (group["pages"], round(group["order_edit"], 4)) for name, group in groups.items()} == {
        "language: en": (2, 0.625),
        "special_issue: watermark": (1, 0.25),
        "subset: base": (1, 0.25),
        "subset: hard": (1, 1.0),
    }


@pytest.mark.parametrize("name", ["p.md", "p.mmd", "p.jpg.md"])
def test_answers_are_found_under_all_official_names(tmp_path, name):
    (tmp_path / name).write_text("text")
    assert official.read_answers(str(tmp_path), ["p"], ["p.jpg"]) == ["text"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "no answer to any page; expected files such as p.md"),
        (lambda folder: (folder / "p.md").write_bytes(b"\xff\xfe"), "not UTF-8"),
    ],
)
def test_a_folder_that_holds_no_answers_is_refused(tmp_path, make, message):
    make(tmp_path)
    with pytest.raises(EvaluationError, match=message):
        official.read_answers(str(tmp_path), ["p"], ["p.jpg"])


def test_a_file_without_pages_is_refused_with_one_message(tmp_path):
    (tmp_path / "OmniDocBench.json").write_text("[{}]")
    with pytest.raises(EvaluationError, match="no pages with layout_dets and page_info"):
        omnidocbench.open_records(str(tmp_path))
    with pytest.raises(EvaluationError, match="no OmniDocBench.json in it"):
        omnidocbench.open_records(str(tmp_path / ".."))


def test_a_page_whose_time_is_over_is_empty_and_told(monkeypatch):
    page = next(page for page in MADE["truth"] if stem(page) == "order_missing")
    scored = scoring.score_page

    def slow(page, answer, rule):
        time.sleep(5 if answer else 0)
        return scored(page, answer, rule)

    monkeypatch.setattr(runner, "PAGE_SECONDS", 1)
    monkeypatch.setattr(runner, "score_page", slow)
    found = runner.timed(page, "text", "1.6")
    assert found["text_edit"] == 1.0
    assert found["limits"] == ["the page took more than 1 s; scored as empty"]


def test_a_killed_scoring_goes_on_from_its_pages(tmp_path):
    """Killed as soon as five pages are there; the second run scores the others alone."""
    plain = ("order_missing", "order_swapped", "cell_", "truncated", "split_", "joined_", "title", "bold")
    pages = {stem(page): page for page in MADE["truth"] if stem(page).startswith(plain)}
    work = tmp_path / "work.json"
    work.write_text(json.dumps([pages, {name: answer_to(name) for name in pages}]))
    code = (
        "import json, sys, time, pathlib\n"
        "from got_train.evaluation.benchmarks.omnidocbench import runner, rules\n"
        "pages, answers = json.loads(pathlib.Path(sys.argv[1]).read_text())\n"
        "scored = runner.score_page\n"
        "runner.score_page = lambda *given: (time.sleep(0.1), scored(*given))[1]\n"
        "runner.os.cpu_count = lambda: 1\n"
        "runner.score_pages(pages, answers, rules.rule_of('1.6'), pathlib.Path(sys.argv[2]))\n"
    )
    root = Path(__file__).parents[2]
    run = subprocess.Popen(
        [sys.executable, "-c", code, str(work), str(tmp_path)],
        cwd=root,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    file, end = tmp_path / "omnidocbench_1.6_pages.jsonl", time.monotonic() + 60
    while time.monotonic() < end and (not file.exists() or file.read_bytes().count(b"\n") < 5):
        time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    run.wait()
    lines = file.read_text().splitlines()
    assert 5 <= len(lines) < len(pages)
    with open(file, "a") as opened:
        opened.write('{"page": "torn')
    answers = {name: answer_to(name) for name in pages}
    asked = []
    scored = runner.score_page
    runner.score_page = lambda page, *given: (asked.append(stem(page)), scored(page, *given))[1]
    try:
        cores, runner.os.cpu_count = runner.os.cpu_count, lambda: 1
        found = runner.score_pages(pages, answers, rule_of("1.6"), tmp_path)
    finally:
        runner.score_page, runner.os.cpu_count = scored, cores
    assert len(asked) == len(pages) - len(lines)
    golden = {name: MADE["values"]["v1.6"][name]["order_edit"] for name in pages}
    assert {name: values["order_edit"] for name, values in found.items()} == pytest.approx(golden, abs=1e-4)


def test_the_coarse_way_pairs_short_neighbours_when_joining_takes_too_long(monkeypatch):
    monkeypatch.setattr("got_train.evaluation.benchmarks.omnidocbench.matching.time.monotonic", lambda: 0.0)
    page = next(page for page in MADE["truth"] if stem(page) == "split_text")
    from dataclasses import replace

    found = scoring.score_page(page, answer_to("split_text"), replace(rule_of("1.6"), merge_seconds=0))
    assert found["limits"] == ["joining neighbouring blocks"]
    assert found["text_edit"] == 0.0


def test_the_official_result_files_stand_beside_ours_page_by_page(tmp_path):
    """A result file as the official tool writes it, with one value that differs from ours."""
    pytest.importorskip("pylatexenc")
    arguments = answers_with_one_missing(tmp_path / "answers")
    metrics = score(tmp_path / "out", *arguments)
    ours = metrics["benchmarks"]["omnidocbench 1.6"]["pages"]
    rows = [
        {"img_id": "harbour_p1.jpg", "gt": "abcd", "pred": "abcx", "norm_gt": "abcd", "norm_pred": "abcx"},
        {"img_id": "town_p1.jpg", "gt": "ab", "pred": "", "norm_gt": "ab", "norm_pred": ""},
    ]
    results = tmp_path / "result"
    results.mkdir()
    (results / "run_text_block_result.json").write_text(json.dumps(rows))
    orders = [{"img_id": f"{name}.jpg", "edit": ours[name]["order_edit"]} for name in ours]
    (results / "run_reading_order_result.json").write_text(json.dumps(orders))
    told = official.compare(str(results), str(tmp_path / "out"))
    assert "text_edit: 1 of 2 values differ, by at most 0.2500" in told
    assert "  harbour_p1: official 0.2500, ours 0.0000" in told
    assert "order_edit: 0 of 2 values differ" in told
    with pytest.raises(EvaluationError, match="no result files"):
        official.compare(str(tmp_path), str(tmp_path / "out"))


def official_name(image, folder):
    """Where the official tool looks for the answer to an image (1.5 and 1.6 alike, read at 9dc1dec)."""
    short = image[:-4].replace(".pdf", "")
    names = (f"{image[:-4]}.md", f"{short}.mmd", f"{short}.md", f"{image}.md")
    return next((folder / name for name in names if (folder / name).exists()), None)


@pytest.mark.parametrize("image", ["a.jpg", "scan.pdf_3.png", "b.jpeg", "c.pdf.jpg"])
def test_the_export_is_found_by_the_official_tool(tmp_path, image):
    text = "\\begin{tabular}{l}1\\end{tabular}"
    official.export({os.path.splitext(image)[0]: text}, tmp_path, {os.path.splitext(image)[0]: image})
    assert official_name(image, tmp_path).read_text() == "<table><tr><td>1</td></tr></table>"


def test_what_a_run_used_stands_in_metrics_and_in_the_reports_head(tmp_path):
    pytest.importorskip("pylatexenc")
    arguments = answers_with_one_missing(tmp_path / "answers")
    assert command.main([*map(str, arguments), "--output-dir", str(tmp_path / "out")]) == 1
    held = json.loads((tmp_path / "out" / "metrics.json").read_text("utf-8"))["provenance"]
    assert held["benchmark"] == "omnidocbench 1.6"
    assert re.fullmatch(r"2 records, SHA-256 [0-9a-f]{64}", held["data OmniDocBench"])
    assert re.fullmatch(r"[0-9a-f]{64}", held["answers SHA-256"])
    head = (tmp_path / "out" / "report.html").read_text("utf-8").partition("</header>")[0]
    assert all(value in head for value in (held["benchmark"], held["answers SHA-256"], held["code"]))


def test_the_benchmarks_folder_may_stand_alone_behind_its_options(tmp_path, capsys):
    pytest.importorskip("pylatexenc")
    arguments = answers_with_one_missing(tmp_path / "answers")
    folder = [
        "--benchmark",
        "omnidocbench",
        "--version",
        "1.5",
        str(FORMATS),
        "--predictions",
        str(arguments[-1]),
    ]
    assert command.main([*folder, "--no-report", "--output-dir", str(tmp_path / "out")]) == 1
    assert "omnidocbench 1.5: pages 1, text_edit 0.0" in capsys.readouterr().out
    assert command.main(["--benchmark", "omnidocbench", str(FORMATS)]) == 2
    assert "holds no answers; use --predictions FOLDER" in capsys.readouterr().err


def test_a_checkpoint_may_stand_before_the_benchmarks_folder():
    options = command.parser().parse_args(
        ["GOT", "DATA", "--benchmark", "omnidocbench", "--output-dir", "out"]
    )
    command._take_benchmark(options)
    assert (options.model, options.data, options.predictions) == ("GOT", ["DATA"], None)
