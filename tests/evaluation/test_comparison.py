"""Two runs compared: what got better or worse, in words, and when that is inconclusive."""

import json
import random
import re

import pytest

from got_train.cli import evaluate as command
from got_train.cli.evaluate import compare_files
from got_train.config import loader
from got_train.errors import EvaluationError
from got_train.evaluation.comparison import BETTER, INCONCLUSIVE, SAME, WORSE, delta_table, metric_deltas
from got_train.evaluation.predictions import Prediction
from got_train.evaluation.runs import run_config
from got_train.evaluation.schema import EvaluationConfig
from got_train.evaluation.scored import lower_is_better, score_predictions
from got_train.evaluation.scores import shortfalls

WORD = "harbour"


def run(edits, task="ocr", document=None, start=0):
    """Samples that differ from their reference in so many characters each."""
    made = []
    for place, count in enumerate(edits, start=start):
        read = "#" * count + WORD[count:]
        page = document or f"page {place}"
        made.append(Prediction(WORD, read, task, id=f"{task} {place}", document=page, finished="stop"))
    return score_predictions(made)


def verdicts(found):
    return {(skill.task, skill.metric): skill.verdict for skill in found}


def test_each_task_is_better_worse_unchanged_or_inconclusive():
    """20 pages each: 2 errors become 1; 1 becomes 2; none change; half go up and half go down."""
    before = run([2] * 20, "ocr") + run([1] * 20, "format") + run([1] * 20, "scene") + run([2] * 20, "page")
    after = run([1] * 20, "ocr") + run([2] * 20, "format") + run([1] * 20, "scene")
    after += run([1, 3] * 10, "page")
    found = metric_deltas(before, after, ["edit_distance"], with_task_metrics=False)
    assert verdicts(found) == {
        ("ocr", "edit_distance"): BETTER,
        ("format", "edit_distance"): WORSE,
        ("scene", "edit_distance"): SAME,
        ("page", "edit_distance"): INCONCLUSIVE,
        ("all", "edit_distance"): INCONCLUSIVE,
    }
    better = found[0]
    assert better.difference.mean == pytest.approx(-1 / 7)
    assert better.sentence().startswith("ocr: edit_distance 0.2857 -> 0.1429, better (-0.1429, 95% -0.1429")
    assert better.sentence().endswith("rows: 20 better, 0 equal, 0 worse)")
    assert "| format | edit_distance | worse " in delta_table(found)


def test_a_higher_f1_is_better_and_a_higher_edit_distance_worse():
    found = metric_deltas(
        run([0] * 12), run([1] * 12), ["edit_distance", "f1", "exact_match"], with_task_metrics=False
    )
    assert [skill.verdict for skill in found] == [WORSE] * 3
    exact = found[2]
    assert (exact.only_after, exact.only_before) == (0, 12)
    assert exact.exact_p == pytest.approx(2 / 2**12)


@pytest.mark.parametrize("name", ["edit_distance", "cer", "music.ser", "formula.token_edit", "no_end"])
def test_errors_are_better_when_low(name):
    assert lower_is_better(name)


@pytest.mark.parametrize("name", ["f1", "bleu", "table.teds", "molecule.valid", "chart.ap_strict", "meteor"])
def test_rates_of_what_is_right_are_better_when_high(name):
    assert not lower_is_better(name)


def test_regions_of_one_document_are_not_many_pages():
    """The same change on 20 rows: sure if these are 20 documents, not if they are one."""
    alone = metric_deltas(run([2] * 20), run([1] * 20), ["edit_distance"])[0]
    together = metric_deltas(run([2] * 20, document="d"), run([1] * 20, document="d"), ["edit_distance"])[0]
    assert (alone.verdict, together.verdict) == (BETTER, INCONCLUSIVE)
    assert (alone.difference.clusters, together.difference.clusters) == (20, 1)


def test_metrics_that_can_never_tell_do_not_make_the_others_less_sure():
    before = run([2] * 8) + [each for n in range(30) for each in run([1], f"rare {n}")]
    after = run([1] * 8) + [each for n in range(30) for each in run([2], f"rare {n}")]
    found = metric_deltas(before, after, ["edit_distance"], with_task_metrics=False)
    assert found[0].p == pytest.approx(2 * 2 / 2**8)  # of two tests: ocr, and all tasks together
    assert found[0].verdict == BETTER


def test_only_rows_of_both_runs_count_and_the_order_is_no_matter():
    before, after = run([2] * 10), run([1] * 8, start=2)
    mixed = random.Random(1).sample(after, len(after))
    assert metric_deltas(before, mixed, ["edit_distance"])[0].difference.rows == 8
    with pytest.raises(EvaluationError, match="^no row in common"):
        metric_deltas(before, run([1], start=50))


def test_other_references_under_the_same_name_are_refused():
    other = score_predictions([Prediction("other", "other", id="ocr 0")])
    with pytest.raises(
        EvaluationError, match="^ocr 0: references 'harbour' and 'other'; expected the same reference"
    ):
        metric_deltas(run([1]), other)


def predictions(tmp_path, name, edits):
    rows = [
        {"id": f"page {n}", "reference": WORD, "prediction": "#" * count + WORD[count:], "task": "ocr"}
        for n, count in enumerate(edits)
    ]
    path = tmp_path / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_the_command_compares_with_a_baseline_and_says_it_in_words(tmp_path, capsys):
    first, second = predictions(tmp_path, "first", [2] * 20), predictions(tmp_path, "second", [1] * 20)
    options = ["--no-report", "--output-dir"]
    assert command.main(["--predictions", first, *options, str(tmp_path / "a")]) == 0
    baseline = ["--baseline", str(tmp_path / "a")]
    assert command.main(["--predictions", second, *options, str(tmp_path / "b"), *baseline]) == 0
    assert "ocr: edit_distance 0.2857 -> 0.1429, better" in capsys.readouterr().out
    metrics = json.loads((tmp_path / "b" / "metrics.json").read_text())
    assert metrics["comparison"]["skills"][0]["verdict"] == "better"
    shown = compare_files([tmp_path / "a", tmp_path / "b"], output_dir=tmp_path / "both")
    assert "| ocr  | edit_distance | better " in shown
    assert (tmp_path / "both" / "report.html").stat().st_size > 10_000


def test_a_run_is_too_bad_by_the_limits_one_gives(tmp_path, capsys):
    file = predictions(tmp_path, "p", [0, 2])
    fine = ["--fail-under", "edit_distance=0.2", "--fail-under", "ocr:exact_match=0.5"]
    assert command.main(["--predictions", file, *fine]) == 0
    assert command.main(["--predictions", file, "--fail-under", "edit_distance=0.1"]) == 3
    assert "edit_distance is 0.1429; expected at most 0.1" in capsys.readouterr().err
    assert command.main(["--predictions", file, "--fail-under", "f1=0.9"]) == 3
    assert "f1 is 0.5000; expected at least 0.9" in capsys.readouterr().err
    assert command.main(["--predictions", file, "--fail-under", "table.teds=0.1"]) == 3
    assert "table.teds has no value" in capsys.readouterr().err
    assert command.main(["--predictions", file, "--fail-under", "edit=0.1"]) == 2
    assert "fail_under.edit: no metric" in capsys.readouterr().err
    assert command.main(["--predictions", file, "--fail-under", "f1"]) == 2


def test_a_run_without_rows_meets_no_limit():
    assert shortfalls({"groups": {}, "answer_types": {}}, {"f1": 0.1}) == [
        "f1 has no value; name a metric of rows that are there"
    ]


def test_a_report_of_two_runs_needs_their_samples(tmp_path):
    metrics = {"groups": {}, "unit": "word", "settings": None}
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(EvaluationError, match="a report needs samples.jsonl of two runs"):
        compare_files([tmp_path / "a", tmp_path / "b"], output_dir=tmp_path / "both")


def test_cer_and_wer_have_verdicts_over_all_text_not_over_rows():
    """Of 20 pages one has 700 characters: CER is 19 + 7 errors over 833 characters, then 19 over 833."""
    long = WORD * 100
    before = run([1] * 19) + score_predictions([Prediction(long, "#" * 7 + long[7:], "ocr", id="long")])
    after = run([1] * 19) + score_predictions([Prediction(long, long, "ocr", id="long")])
    cer, wer = metric_deltas(before, after, ["cer", "wer"], with_task_metrics=False)
    assert (cer.metric, cer.before, cer.after) == ("cer", (19 + 7) / 833, 19 / 833)
    assert (wer.before, wer.after) == (1.0, 19 / 20)
    assert (cer.verdict, cer.difference.lower, cer.difference.equal) == (INCONCLUSIVE, 1, 19)
    assert cer.exact_p is None


def test_a_cer_that_falls_on_every_page_is_better_with_an_interval():
    cer = metric_deltas(run([2] * 20), run([1] * 20), ["cer"])[0]
    assert (cer.before, cer.after, cer.verdict) == (2 / 7, 1 / 7, BETTER)
    assert (cer.difference.low, cer.difference.high) == (-1 / 7, -1 / 7)
    assert cer.sentence().startswith("ocr: cer 0.2857 -> 0.1429, better")


def system(tmp_path, name, rows):
    path = tmp_path / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def row(number, edits, **more):
    text = f"{WORD} {number}"
    return {"reference": text, "prediction": "#" * edits + text[edits:], "task": "ocr", **more}


THEIRS = {  # how another system may name the same 20 rows
    "ids": [row(n, 0, id=f"page {n}") for n in reversed(range(20))],
    "images": [row(n, 0, image=f"elsewhere/{n}.png") for n in reversed(range(20))],
    "their order": [row(n, 0) for n in range(20)],
}


@pytest.mark.parametrize("rows", THEIRS.values(), ids=THEIRS)
def test_another_system_stands_beside_with_a_verdict(tmp_path, capsys, rows):
    """Ours has 2 errors in 9 or 10 characters of each of 20 rows, 40 of 190; the other system none."""
    ours = system(tmp_path, "ours", [row(n, 2, id=f"page {n}", images=[f"scans/{n}.png"]) for n in range(20)])
    other = system(tmp_path, "engine", rows)
    folder = str(tmp_path / "scores")
    assert command.main(["--predictions", ours, "--beside", other, "--output-dir", folder]) == 0
    out = capsys.readouterr().out
    assert (
        "0 of 20 rows (0.0%) are read without an error, 21.1% of the characters are wrong (CER 0.2105" in out
    )
    assert (
        "engine: 20 of 20 rows (100.0%) are read without an error, 0.0% of the characters are wrong. " in out
    )
    assert "Beside it this one is worse (CER +0.2105" in out
    page = (tmp_path / "scores" / "report.html").read_text(encoding="utf-8")
    assert "<p class='verdict worse'>engine: 20 of 20 rows (100.0%)" in page
    assert "<h2 id=beside>Beside engine</h2>" in page


def test_a_folder_of_texts_named_as_the_images_stands_beside(tmp_path):
    ours = system(tmp_path, "ours", [row(n, 2, images=[f"scans/{n}.png"]) for n in range(8)])
    texts = tmp_path / "texts"
    texts.mkdir()
    for n in range(7):  # the eighth was not read: it is left out
        (texts / f"{n}.txt").write_text(f"{WORD} {n}\n")
    values = {"predictions": ours, "report": {"beside": str(texts)}}
    metrics = run_config(loader.build(EvaluationConfig, values))
    cer = next(delta for delta in metrics["beside"]["skills"] if delta["metric"] == "cer")
    assert (cer["before"], cer["difference"]["rows"]) == (0.0, 7)


def test_a_system_that_read_other_rows_is_refused(tmp_path):
    ours = system(tmp_path, "ours", [row(n, 2) for n in range(8)])
    other = system(tmp_path, "engine", [row(n, 2) for n in range(50, 58)])
    values = {"predictions": ours, "report": {"beside": other}}
    with pytest.raises(
        EvaluationError, match="engine.jsonl: no row in common with ours; expected the same id"
    ):
        run_config(loader.build(EvaluationConfig, values))


def test_files_of_predictions_are_compared_like_evaluations(tmp_path):
    one = system(tmp_path, "one", [row(n, 2, id=str(n)) for n in range(20)])
    two = system(tmp_path, "two", [row(n, 1, id=str(n)) for n in range(20)])
    shown = compare_files([one, two])
    assert "| task | metric        |    one |    two |  change |" in shown
    assert "| ocr  | cer           | better " in shown


def test_of_three_runs_each_is_compared_with_the_first_and_all_lines_are_adjusted_together(tmp_path):
    """The second is better in 6 of 6 documents: p 2 / 2 ** 6 alone, and with twice as many lines more."""
    first = system(tmp_path, "first", [row(n, 2, id=str(n)) for n in range(6)])
    second = system(tmp_path, "second", [row(n, 1, id=str(n)) for n in range(6)])
    third = system(tmp_path, "third", [row(n, 2, id=str(n)) for n in range(6)])
    pair, triple = compare_files([first, second]), compare_files([first, second, third])
    heads = [line.split("|")[4:6] for line in triple.splitlines() if "verdict" in line]
    assert [[name.strip() for name in head] for head in heads] == [["first", "second"], ["first", "third"]]
    assert re.search(r"ocr: edit_distance unchanged at 0\.\d+ in all 6 rows", triple)

    def p_of(shown):
        line = next(line for line in shown.splitlines() if line.startswith("| ocr  | edit_distance "))
        return float(line.split("|")[8])

    assert 2 / 2**6 <= p_of(pair) < p_of(triple)
