"""olmOCR-bench's published folder: groups, baseline, repeats and formulas, against the official code."""

import json
from pathlib import Path

import pytest

from got_train.cli import evaluate as command
from got_train.errors import EvaluationError
from got_train.evaluation.benchmarks import checks, chromium, math_inclusion, olmocr
from got_train.evaluation.benchmarks.math_inclusion import Symbol
from got_train.formats import latex

FIXTURES = Path(__file__).parents[1] / "fixtures" / "benchmarks"
FOLDER = json.loads((FIXTURES / "olmocr_folder.json").read_text("utf-8"))
PAIRS = json.loads((FIXTURES / "olmocr_pairs.json").read_text("utf-8"))
needs_katex = pytest.mark.skipif(latex.unavailable() is not None, reason="KaTeX is not there")
needs_browser = pytest.mark.skipif(
    latex.unavailable() is not None or chromium.program() is None, reason="KaTeX or a browser is not there"
)


@pytest.fixture
def folder(tmp_path):
    """As published: files of checks, PDFs in sub-folders, one system's answers in three repeats."""
    root = tmp_path / "bench"
    for name in FOLDER["pdfs"]:
        (root / "pdfs" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "pdfs" / name).write_bytes(b"%PDF-")
    for name, rows in FOLDER["tests"].items():
        (root / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for name, text in FOLDER["answers"].items():
        (root / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "mine" / name).write_text(text, encoding="utf-8")
    return root


def scored(folder, output_dir, *arguments):
    command_line = [
        "--benchmark",
        "olmocr",
        str(folder),
        *arguments,
        "--no-report",
        "--output-dir",
        str(output_dir),
    ]
    assert command.main(command_line) in (0, 1)
    return json.loads((output_dir / "metrics.json").read_text("utf-8"))["benchmarks"]["olmocr 2026-03"]


def test_the_published_folder_opens_with_a_baseline_check_for_each_pdf(folder):
    rows = olmocr.read_tests(str(folder))
    assert len(rows) == 16 + 15
    assert {row["group"] for row in rows} == {"arxiv_math", "old_scans", "table_tests", "baseline"}
    records, notes = olmocr.open_records(str(folder))
    assert len(records) == len(notes) == 15
    assert [record.task for record in records] == ["format"] * 15
    assert olmocr.candidates(str(folder)) == ["mine"]


@needs_browser
def test_the_score_of_the_folder_is_the_official_one(folder, tmp_path):
    """81.7 by the official code at f7cfe4c, from four groups."""
    found = scored(folder, tmp_path / "out")
    assert round(found["summary"]["score"], 1) == FOLDER["score"]
    rates = [round(100 * group["passed"], 1) for group in found["groups"].values()]
    assert sorted(rates) == sorted(FOLDER["pass_rates"])
    summary = found["summary"]
    assert summary["low"] < summary["score"] < summary["high"]
    assert summary["low_by_document"] < summary["score"] < summary["high_by_document"]


def test_groups_without_formulas_equal_the_official_ones_everywhere(folder, tmp_path):
    found = scored(folder, tmp_path / "out")
    rates = {name: 100 * group["passed"] for name, group in found["groups"].items() if name != "arxiv_math"}
    assert rates == {"old_scans": 50.0, "table_tests": 100.0, "baseline": 100.0}
    reasons = {each["id"]: each["reason"] for each in found["checks"]}
    assert reasons["o1"].startswith("1 of 3 repeats pass")


def test_without_katex_there_is_no_score_and_the_reason_is_told(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(latex, "unavailable", lambda: "quickjs is not installed")
    summary = scored(folder, tmp_path / "out")["summary"]
    assert (summary["score"], summary["checks_without_result"]) == (None, 12)


def test_a_page_without_an_answer_fails_its_checks_and_is_told(folder, tmp_path):
    for file in (folder / "mine" / "tables").iterdir():
        file.unlink()
    found = scored(folder, tmp_path / "out", "--predictions", str(folder / "mine"))
    assert found["groups"]["table_tests"]["passed"] == 0.0
    assert "1 pages without an answer" in found["note"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: [file.unlink() for file in folder.glob("*.jsonl")], "no JSONL file"),
        (lambda folder: (folder / "pdfs").rename(folder / "papers"), "no PDF in pdfs/"),
        (
            lambda folder: (folder / "more.jsonl").write_text((folder / "old_scans.jsonl").read_text()),
            "twice",
        ),
    ],
)
def test_a_folder_that_is_not_the_published_one_is_refused(folder, spoil, message):
    spoil(folder)
    with pytest.raises(EvaluationError, match=message):
        olmocr.read_tests(str(folder))


def test_several_systems_in_the_folder_have_to_be_named(folder, capsys):
    (folder / "other").mkdir()
    (folder / "other" / "x_pg1_repeat1.md").write_text("x")
    assert command.main(["--benchmark", "olmocr", str(folder)]) == 2
    assert "holds answers of mine, other; use --predictions FOLDER" in capsys.readouterr().err


def test_the_score_is_the_mean_of_groups_of_whatever_size():
    results = [{"group": "a", "passed": True}] * 9 + [{"group": "b", "passed": False}]
    summary = olmocr.summarised(results)
    assert (summary["passed"], summary["score"]) == (0.9, 50.0)
    assert (summary["low"], summary["high"]) == (50.0, 50.0)


def test_the_interval_draws_inside_groups():
    """Two groups of 100, half of each right: a standard deviation of sqrt(0.25 / 200) = 3.54 %."""
    low, high = olmocr.bootstrap([[0.0, 1.0] * 50, [0.0, 1.0] * 50])
    assert high - low == pytest.approx(2 * 1.96 * 0.0354, rel=0.15)


def checks_of(pages, each):
    """Every second page passes all of its checks, the others none."""
    return [
        {"pdf": f"maths/{page}.pdf", "group": "maths", "passed": page % 2 == 0}
        for page in range(pages)
        for _ in range(each)
    ]


def test_the_interval_by_documents_draws_the_checks_of_a_page_together():
    """100 checks of 100 pages, or ten each of ten: sqrt(0.25 / 100) = 5 %, and sqrt(0.25 / 10) = 15.8 %."""
    for pages, each, deviation in ((100, 1, 5.0), (10, 10, 15.8)):
        found = olmocr.document_interval(checks_of(pages, each), draws=4000)
        assert found["documents"] == pages
        width = found["high_by_document"] - found["low_by_document"]
        assert width == pytest.approx(2 * 1.96 * deviation, rel=0.15), pages
    pages = [{**check, "pdf": f"{place // 5}_pg{place}.pdf"} for place, check in enumerate(checks_of(20, 1))]
    assert olmocr.document_interval(pages)["documents"] == 4  # pages of one paper
    assert olmocr.document_interval([{**pages[0], "passed": None}]) == {}


def test_more_than_half_of_the_repeats_have_to_pass():
    row = {"type": "present", "text": "harbour", "max_diffs": 0}
    texts = ["the harbour", "nothing"]
    assert olmocr.check_page([row], texts)[0] == (
        False,
        "1 of 2 repeats pass: 'harbour' is not there, best match 0.250",
    )
    assert olmocr.check_page([row], [*texts, "a harbour"]) == [(True, "")]
    assert olmocr.check_page([row], []) == [(False, "no answer")]


def test_the_published_preset_reads_plain_type_at_1024_pixels(folder, tmp_path):
    import io

    from PIL import Image

    page = Image.new("RGB", (1700, 2200), "white")
    page.save(folder / "pdfs" / "tables" / "t.pdf", resolution=200)
    both, notes = olmocr.open_records(str(folder), preset="both")
    assert len(both) == 30
    assert {(note["groups"]["preset"], note["task"]) for note in notes} == {
        ("ours", "format"),
        ("published", "ocr"),
    }
    ours, published = (both[index] for index, note in enumerate(notes) if note["document"] == "tables/t.pdf")
    assert (ours.task, max(Image.open(io.BytesIO(ours.images[0].data)).size)) == ("format", 2048)
    assert (published.task, max(Image.open(io.BytesIO(published.images[0].data)).size)) == ("ocr", 1024)


def test_an_answer_shorter_than_the_text_holds_it_as_in_the_official_test():
    """The official test looks for the shorter in the longer."""
    assert checks.run({"type": "present", "text": "The text"}, "T")[0]
    assert not checks.run({"type": "absent", "text": "The text"}, "T")[0]


@needs_browser
@pytest.mark.parametrize("chunk", range(10))
def test_formulas_are_contained_as_the_official_test_says(chunk):
    pairs = PAIRS["pairs"][chunk::10]
    found = [math_inclusion.contains(reference, [formula]) for reference, formula, _ in pairs]
    assert [pair for pair, verdict in zip(pairs, found, strict=True) if verdict != pair[2]] == []


@needs_katex
def test_mathml_alone_finds_nothing_that_the_official_test_does_not(monkeypatch):
    monkeypatch.setattr(chromium, "program", lambda: None)
    found = [math_inclusion.contains(reference, [formula]) for reference, formula, _ in PAIRS["pairs"]]
    assert sum(found) > 100
    assert not [pair for pair, verdict in zip(PAIRS["pairs"], found, strict=True) if verdict and not pair[2]]


def test_symbols_are_found_by_their_neighbours():
    """a over b is not b over a, nor a beside b; it is in (a over b) + c."""
    fraction = [Symbol("a", 10, 0), Symbol("b", 10, 20)]
    assert math_inclusion.is_found(fraction, [Symbol("c", 40, 10), *fraction])
    assert not math_inclusion.is_found(fraction, [Symbol("b", 10, 0), Symbol("a", 10, 20)])
    assert not math_inclusion.is_found(fraction, [Symbol("a", 10, 0), Symbol("b", 30, 0)])
    assert math_inclusion.neighbors(fraction) == [(None, 1, None, None), (0, None, None, None)]


def test_characters_of_a_span_share_its_width():
    assert math_inclusion.symbols_of([["lo g", 0, 0, 30, 10]]) == [
        Symbol("l", 5, 5),
        Symbol("o", 15, 5),
        Symbol("g", 25, 5),
    ]
