"""Samples, their groups and averages; settings as YAML; formatted pages in parts."""

import io
import json
from pathlib import Path

import pytest
from PIL import Image

from got_train.cli import evaluate as command
from got_train.config import loader
from got_train.errors import ConfigError
from got_train.evaluation import schema
from got_train.evaluation.comparison import setting_differences, side_by_side
from got_train.evaluation.inputs import open_data
from got_train.evaluation.metrics import characters, pages
from got_train.evaluation.predictions import Prediction
from got_train.evaluation.runs import score_file
from got_train.evaluation.scored import groups, length_bin, score_predictions
from got_train.evaluation.scores import summary, table
from got_train.inference import reader

FIXTURES = Path(__file__).parents[1] / "fixtures"
FORMAT = json.loads((FIXTURES / "metrics_golden_format.json").read_text("utf-8"))
NAMES = {"bleu": "bleu", "meteor": "meteor", "f1": "f_measure", "precision": "precision", "recall": "recall"}


@pytest.mark.parametrize("case", FORMAT, ids=lambda case: case["id"])
def test_the_parts_of_a_page_are_gots(case):
    for side in ("label", "answer"):
        assert pages.split(case[side], "official") == case["split"][side]
    found = pages.official(case["answer"], case["label"])
    for part in pages.PARTS:
        golden = next(iter(case["values"][part].values()))
        if not golden:
            assert found[part] is None
            continue
        values = {name: found[part][ours] for ours, name in NAMES.items() if name != "meteor"}
        assert values == pytest.approx({name: golden[name] for name in values}, abs=1e-9)
        assert found[part]["edit_distance"] == pytest.approx(golden["edit_dist"], abs=1e-9)
        assert found[part]["meteor"] == pytest.approx(golden["meteor"], abs=3e-3)


def test_folded_case_is_said_wherever_its_scores_stand(tmp_path):
    file = tmp_path / "predictions.jsonl"
    file.write_text('{"prediction": "Total Rm 9", "reference": "TOTAL RM 8", "task": "ocr"}')
    kept, folded = score_file(file), score_file(file, case="fold")
    assert kept["groups"]["ocr"]["fixed"]["micro"]["cer"] == pytest.approx(6 / 10)
    assert folded["groups"]["ocr"]["fixed"]["micro"]["cer"] == pytest.approx(1 / 10)
    assert folded["groups"]["ocr"]["fixed"]["micro"]["word_f1"] == pytest.approx(2 / 3)
    assert (kept["case"], folded["case"]) == ("kept", "fold")
    assert "word F1 (case folded)" in table(folded) and "folded" not in table(kept)
    assert "CER (case folded)" in side_by_side({"a": folded, "b": folded})
    assert setting_differences({"a": kept, "b": folded}) == ["different letter case: a kept, b fold"]


def test_formulas_of_several_lines_and_dollars_count_in_our_own_parts():
    page = "\\[\nx +\ny\n\\]\nand $a$, $$b$$"
    assert pages.split(page)["math"] == "x + y\na\nb"
    assert pages.split(page, "official")["math"] == ""
    assert pages.score("no math", "none either") == dict.fromkeys(pages.score("", ""))


def test_the_script_of_a_text_is_that_of_most_letters():
    assert characters.language("The harbour, 1922.") == "Latin"
    assert characters.language("\u5c0f\u9547\u7684\u6e05\u6668 a") == "Chinese"
    assert characters.language("\u5c0f\u3055\u306a\u753a") == "Japanese"
    assert characters.language("12, 13") == "no letters"
    assert characters.script("\uff21") == "Latin"


def test_confusions_are_counted_by_character():
    found = characters.confusions("wakcs x", "wakes")
    assert found == {("e", "c"): 1, ("", " "): 1, ("", "x"): 1}
    assert characters.word_confusions(["a", "c"], ["a", "b"]) == {("b", "c"): 1}


def test_samples_are_grouped_by_language_task_source_length_and_their_own():
    said = Prediction("ab", "ab", "ocr", box=(1, 2, 3, 4), data="d", groups={"layout": "double"})
    assert groups(said) == {
        "language": "Latin",
        "task": "ocr + box",
        "source": "d",
        "length": "1-100",
        "layout": "double",
    }
    assert [length_bin(n) for n in (0, 1, 100, 101, 2000, 2001)] == [
        *("0", "1-100", "1-100", "101-500", "1001-2000", "2001 and more")
    ]


def test_kinds_have_their_own_averages_and_say_why_some_have_none():
    table = r"\begin{tabular}{l} a \\ \end{tabular}"
    rows = [Prediction(table, table, "format", id="1"), Prediction(table, "no table", "format", id="2")]
    rows.append(Prediction("plain", "plain", "ocr", id="3"))
    found = summary(score_predictions(rows), rows)
    assert list(found["answer_types"]) == ["table"]
    assert found["answer_types"]["table"]["averages"]["teds"] == 0.5
    assert found["answer_types"]["table"]["intervals"]["teds"] == [0.0, 1.0]
    assert found["counts"]["unknown_end"] == 3


def test_intervals_hold_the_means_and_are_narrower_with_more_documents():
    def width(count, document):
        rows = [
            Prediction("abcd", "abcd" if n % 2 else "ab", id=str(n), document=document and f"{n % 2}")
            for n in range(count)
        ]
        group = summary(score_predictions(rows), rows)["groups"]["text"]
        for average in ("macro", "micro"):
            for name, (low, high) in group["intervals"][average].items():
                assert low - 1e-9 <= group["fixed"][average][name] <= high + 1e-9
        low, high = group["intervals"]["macro"]["edit_distance"]
        return high - low

    assert width(100, "") < width(10, "") < 0.5
    assert width(100, "two documents") == 0.5  # either may be drawn twice


YAML = """
output_dir: out
model: {path: checkpoint, dtype: bfloat16}
data:
  - {path: fox, benchmark: fox}
  - {path: a.parquet, columns: {images: image, text: words}, task: ocr}
decoding: {max_new_tokens: 100}
scores: {unit: character, fail_under: {edit_distance: 0.2, table.teds: 0.5}}
report: {pictures: 10}
"""


def test_a_yaml_file_says_what_is_evaluated(tmp_path):
    (tmp_path / "e.yaml").write_text(YAML)
    found = schema.load(tmp_path / "e.yaml", ["decoding.batch_size=2"], "elsewhere")
    assert found.output_dir == "elsewhere"
    assert (found.decoding.max_new_tokens, found.decoding.batch_size) == (100, 2)
    assert found.scores.fail_under == {"edit_distance": 0.2, "table.teds": 0.5}
    assert found.sources[0].options() == {"path": "fox", "benchmark": "fox", "allow_empty": True}
    assert found.sources[1].options()["columns"] == {"images": "image", "text": "words"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("decoding: {max_token: 3}", "decoding.max_token: no such setting; did you mean max_"),
        ("model: {path: x}", "data is not given"),
        ("data: [{path: x, weight: 2}]", r"data\[0\].weight: 2.0; here each row counts once"),
        ("data: [{path: x, streaming: true}]", r"data\[0\].streaming: rows are counted here"),
        ("data: [{path: x, benchmark: foxy}]", r"data\[0\].benchmark: foxy; expected"),
        ("scores: {fail_under: {edits: 1}}", "scores.fail_under.edits: no metric"),
        ("limit: 0", "limit must be at least 1"),
        ("limit: 1\nlimit: 2", r"limit \(line 2\) stands there a second time"),
        ("report: {pictures: -1}", "report.pictures must not be negative"),
        ("{", "not readable as YAML"),
    ],
)
def test_a_bad_yaml_file_is_refused_with_the_key(tmp_path, text, message):
    (tmp_path / "e.yaml").write_text(text)
    with pytest.raises(ConfigError, match=rf"e.yaml: {message}"):
        schema.load(tmp_path / "e.yaml")


def test_the_command_takes_a_yaml_file_with_predictions(tmp_path, capsys):
    (tmp_path / "p.json").write_text(json.dumps([{"label": "ab", "answer": "a"}]))
    (tmp_path / "e.yaml").write_text(f"predictions: {tmp_path}/p.json\noutput_dir: {tmp_path}/out\n")
    config = str(tmp_path / "e.yaml")
    assert command.main([config, "report.page=false", "--fail-under", "edit_distance=0.4"]) == 3
    assert "edit_distance is 0.5000; expected at most 0.4" in capsys.readouterr().err
    assert (tmp_path / "out" / "metrics.json").exists()
    assert not (tmp_path / "out" / "report.html").exists()
    assert command.main([str(tmp_path / "none.yaml")]) == 2


def test_embedded_pictures_are_asked_and_shown(tmp_path, monkeypatch):
    """Parquet rows hold their pictures; the reader opens them, and so does the report, also later."""
    datasets = pytest.importorskip("datasets")
    kept = io.BytesIO()
    Image.new("RGB", (30, 20), (200, 10, 10)).save(kept, "PNG")
    rows = {"image": [{"bytes": kept.getvalue(), "path": "a.png"}] * 2, "text": ["ab", "cd"]}
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    datasets.Dataset.from_dict(rows, features=features).to_parquet(str(tmp_path / "d.parquet"))
    source = {"path": str(tmp_path / "d.parquet"), "task": "ocr"}

    class Reader:
        num_beams = 2  # several pages are read by the pipeline itself, see inference/continuous.py
        prompt_template, max_new_tokens, no_repeat_ngram_size, stop_loops, max_crops = (
            "repo",
            8,
            None,
            True,
            6,
        )

        def read(self, questions, batch_size=1, on_text=None):
            for question in questions:
                assert question.pages[0].open().getpixel((3, 3)) == (200, 10, 10)
                yield reader.OcrResult(question, "ab", [1], [-0.1], "stop", 0.1)

    monkeypatch.setattr(reader, "load_pipeline", lambda *_, **__: Reader())
    (tmp_path / "model").mkdir()
    values = {"model": {"path": f"{tmp_path}/model", "tune_cpu": False}, "data": [source]}
    config = command_config({**values, "output_dir": str(tmp_path / "out")})
    metrics = command.run_config(config)
    assert metrics["groups"]["ocr"]["fixed"]["macro"]["exact_match"] == 0.5
    assert metrics["settings"]["data"][0]["source"]["task"] == "ocr"
    assert (tmp_path / "out" / "report.html").read_text("utf-8").count("data:image/webp;base64") == 2
    again = tmp_path / "out" / "predictions.jsonl"
    assert command.main(["--predictions", str(again), "--output-dir", str(tmp_path / "later")]) == 0
    assert (tmp_path / "later" / "report.html").read_text("utf-8").count("data:image/webp;base64") == 2


def command_config(values):

    return loader.build(schema.EvaluationConfig, values)


def test_the_hash_of_the_data_sees_pictures_inside_it(tmp_path):
    datasets = pytest.importorskip("datasets")
    hashes = set()
    for color in ("red", "blue"):
        kept = io.BytesIO()
        Image.new("RGB", (8, 8), color).save(kept, "PNG")
        file = tmp_path / color / "d.parquet"
        file.parent.mkdir()
        rows = {"image": [{"bytes": kept.getvalue(), "path": None}], "text": ["x"], "task": ["ocr"]}
        datasets.Dataset.from_dict(rows).to_parquet(str(file))
        hashes.add(open_data([file])[0].sha256)
    assert len(hashes) == 2
