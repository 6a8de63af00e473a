"""From records to scores: groups, failures, evaluations killed and continued, comparisons."""

import dataclasses
import json
import subprocess
import sys

import pytest
from PIL import Image

from got_train.cli import evaluate as command
from got_train.cli.evaluate import compare_files, evaluate, model_hash, score_file
from got_train.data.records import Record, write_records
from got_train.errors import EvaluationError, InferenceError
from got_train.evaluation.inputs import open_data, read_predictions
from got_train.evaluation.scores import markdown, table
from got_train.inference import reader as reading
from got_train.inference.reader import FailedRequest, OcrResult
from got_train.tokenizer import train_tokenizer


class FakeReader:
    """Answers by the image's name: a text, a text with how it ended, or None for a page that fails."""

    num_beams = 2  # several pages are read by the pipeline itself, see inference/continuous.py

    def __init__(self, answers, prompt_template="repo", stop_after=None, max_new_tokens=4096):
        self.answers, self.prompt_template, self.stop_after = answers, prompt_template, stop_after
        self.max_new_tokens, self.no_repeat_ngram_size, self.stop_loops, self.max_crops = (
            max_new_tokens,
            None,
            True,
            6,
        )
        self.asked = []

    def read(self, questions, batch_size=1, on_text=None):
        for question in questions:
            if self.stop_after is not None and len(self.asked) == self.stop_after:
                raise KeyboardInterrupt
            name = question.pages[0].file.rsplit("/")[-1]
            self.asked.append(name)
            found = self.answers[name]
            if found is None:
                yield FailedRequest(question, f"{name}: no picture")
                continue
            text, finished = (found, "stop") if isinstance(found, str) else found
            yield OcrResult(question, text, [5, 6, 1], [-0.1] * 3, finished, 0.25)


@pytest.fixture
def reads(monkeypatch):
    """A function: from now on load_pipeline gives a FakeReader of these answers; returns it."""

    def make(answers, **options):
        reader = FakeReader(answers, **options)

        def load(folder, dtype, **decoding):
            reader.max_new_tokens = decoding.get("max_new_tokens", reader.max_new_tokens)
            return reader

        monkeypatch.setattr(reading, "load_pipeline", load)
        return reader

    return make


@pytest.fixture
def records(tmp_path):
    """A function: writes records of (image name, task, text, region) and returns the file."""

    def write(rows, name="test"):
        made = []
        for image, task, text, *region in rows:
            region = dict(region)
            made.append(Record((str(tmp_path / image),), task, text, **region))
        path = tmp_path / f"{name}.jsonl"
        write_records(path, made)
        return path

    return write


@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


ROWS = [
    ("a.png", "ocr", "ab cd"),
    ("b.png", "ocr", "abc"),
    ("c.png", "ocr", "four", ("box", (1, 2, 30, 40))),
    ("d.png", "ocr", "x", ("color", "red")),
    ("e.png", "format", "# T", ("color", "blue")),
    ("f.png", "ocr", "abcde"),
]
ANSWERS = {
    "a.png": "ab cd",
    "b.png": "",
    "c.png": ("fourfour", "loop"),
    "d.png": ("xy", "length"),
    "e.png": "# T",
    "f.png": None,
}


def run(checkpoint, data, output, **options):
    return evaluate(checkpoint, [data], output, tune_cpu=False, **options)


def lines(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_tasks_boxes_and_colors_have_rows_of_their_own(reads, records, checkpoint, tmp_path):
    """ocr: one exact, one empty answer (edit 1), one failure that scores as an empty answer."""
    reads(ANSWERS)
    groups = run(checkpoint, records(ROWS), tmp_path / "out")["groups"]
    assert list(groups) == ["ocr", "ocr + box", "ocr + color", "format + color", "all"]
    plain = groups["ocr"]
    assert [plain[name] for name in ("rows", "failed", "empty_answers", "no_end_token")] == [3, 1, 1, 0]
    assert plain["fixed"]["macro"]["edit_distance"] == pytest.approx((0 + 1 + 1) / 3)
    assert plain["fixed"]["micro"]["cer"] == pytest.approx((0 + 3 + 5) / (5 + 3 + 5))
    assert plain["fixed"]["macro"]["exact_match"] == pytest.approx(1 / 3)
    assert plain["fixed"]["macro"]["f1"] == pytest.approx(1 / 3)
    assert plain["official"]["rows"] == 1  # the official mean drops what is empty
    assert plain["official"]["macro"]["edit_distance"] == 0.0
    boxed, colored = groups["ocr + box"], groups["ocr + color"]
    assert (boxed["no_end_token"], boxed["loops"]) == (1, 1)
    assert boxed["fixed"]["macro"]["edit_distance"] == pytest.approx(4 / 8)
    assert boxed["fixed"]["micro"]["cer"] == pytest.approx(4 / 4)
    assert (colored["no_end_token"], colored["loops"]) == (1, 0)
    assert groups["format + color"]["fixed"]["macro"]["exact_match"] == 1.0
    assert groups["all"]["rows"] == 6
    assert groups["all"]["fixed"]["macro"]["edit_distance"] == pytest.approx((0 + 1 + 1 + 0.5 + 0.5 + 0) / 6)


def test_predictions_and_settings_stand_beside_the_metrics(reads, records, checkpoint, tmp_path):
    reads(ANSWERS, prompt_template="hub")
    metrics = run(checkpoint, records(ROWS), tmp_path / "out", max_new_tokens=50)
    written = lines(tmp_path / "out" / "predictions.jsonl")
    assert [row["record"] for row in written] == [0, 1, 2, 3, 4, 5]
    assert written[2] == {
        "reference": "four",
        "prediction": "fourfour",
        "task": "ocr",
        "box": [1, 2, 30, 40],
        "images": [str(tmp_path / "c.png")],
        "location": f"{tmp_path}/test.jsonl:3",
        "data": "test",
        "record": 2,
        "finished": "loop",
        "tokens": 3,
        "seconds": 0.25,
    }
    assert written[5]["failed"] == "f.png: no picture"
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == metrics
    assert metrics["failures"] == [{"location": f"{tmp_path}/test.jsonl:6", "cause": "f.png: no picture"}]
    settings = metrics["settings"]
    assert settings["model"]["prompt_template"] == "hub"
    assert settings["model"]["sha256"] == model_hash(checkpoint)
    assert settings["decoding"]["max_new_tokens"] == 50
    assert settings["data"][0]["records"] == 6
    assert len(settings["data"][0]["sha256"]) == 64
    assert settings["code"].startswith("0.")
    assert metrics["meteor_stages"][:2] == ["exact", "stem"]


@pytest.mark.parametrize("torn", [b"", b'{"reference": "half a line, \xe4\xb8'])
def test_an_evaluation_killed_after_3_rows_continues_with_the_other_3(
    reads, records, checkpoint, tmp_path, torn
):
    answers = {**ANSWERS, "f.png": "abcde"}
    data, output = records(ROWS), tmp_path / "out"
    whole = (reads(answers), run(checkpoint, data, tmp_path / "whole"))[1]
    reads(answers, stop_after=3)
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint, data, output)
    with open(output / "predictions.jsonl", "ab") as file:
        file.write(torn)
    reader = reads(answers)
    continued = run(checkpoint, data, output, batch_size=2)
    assert reader.asked == ["d.png", "e.png", "f.png"]
    assert continued["groups"] == whole["groups"]
    assert lines(output / "predictions.jsonl") == lines(tmp_path / "whole" / "predictions.jsonl")
    reader = reads(answers)
    assert run(checkpoint, data, output)["groups"] == whole["groups"]
    assert reader.asked == []


def test_what_failed_is_asked_again(reads, records, checkpoint, tmp_path):
    data, output = records(ROWS), tmp_path / "out"
    reads(ANSWERS)
    assert run(checkpoint, data, output)["groups"]["all"]["failed"] == 1
    reader = reads({**ANSWERS, "f.png": "abcde"})
    metrics = run(checkpoint, data, output)
    assert reader.asked == ["f.png"]
    assert metrics["failures"] == []
    assert len(lines(output / "predictions.jsonl")) == 6


def test_answers_of_another_model_data_or_decoding_are_not_mixed(reads, records, checkpoint, tmp_path):
    data, output = records(ROWS), tmp_path / "out"
    reads(ANSWERS)
    run(checkpoint, data, output)
    with pytest.raises(EvaluationError, match="holds answers of max_new_tokens 4096, not 7; give another"):
        run(checkpoint, data, output, max_new_tokens=7)
    with pytest.raises(EvaluationError, match="holds answers of data"):
        run(checkpoint, records(ROWS[:5]), output)
    data = records(ROWS)
    (checkpoint / "model.safetensors").write_bytes(b"others!")
    with pytest.raises(EvaluationError, match="holds answers of model"):
        run(checkpoint, data, output)
    (output / "settings.json").unlink()
    with pytest.raises(EvaluationError, match="holds predictions.jsonl without settings.json"):
        run(checkpoint, data, output)


def test_a_limit_takes_the_first_records_of_each_file_and_can_be_raised(reads, records, checkpoint, tmp_path):
    first, second = records(ROWS[:2], "first"), records(ROWS[2:], "second")
    reader = reads(ANSWERS)
    output = tmp_path / "out"
    metrics = evaluate(checkpoint, [first, second], output, limit=1, tune_cpu=False)
    assert reader.asked == ["a.png", "c.png"]
    assert metrics["groups"]["all"]["rows"] == 2
    evaluate(checkpoint, [first, second], output, limit=2, tune_cpu=False)
    assert reader.asked == ["a.png", "c.png", "b.png", "d.png"]
    metrics = evaluate(checkpoint, [first, second], output, limit=1, tune_cpu=False)
    assert metrics["groups"]["all"]["rows"] == 2
    with pytest.raises(EvaluationError, match="^--limit: 0; expected at least 1"):
        evaluate(checkpoint, [first], output, limit=0, tune_cpu=False)


def test_a_task_of_two_files_has_a_row_for_each(reads, records, checkpoint, tmp_path):
    reads(ANSWERS)
    files = [records(ROWS[:1], "old"), records(ROWS[1:3], "new")]
    groups = evaluate(checkpoint, files, tmp_path / "out", tune_cpu=False)["groups"]
    assert list(groups) == ["ocr", "ocr in old", "ocr in new", "ocr + box", "all"]
    assert [groups[name]["rows"] for name in groups] == [2, 1, 1, 1, 3]
    assert groups["ocr in old"]["fixed"]["macro"]["exact_match"] == 1.0


def test_files_are_named_by_what_tells_them_apart(records, tmp_path):
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        records(ROWS[:1], f"{folder}/records")
    both = [tmp_path / "x/records.jsonl", tmp_path / "y/records.jsonl"]
    assert [file.name for file in open_data(both)] == ["x", "y"]
    assert [file.name for file in open_data([records(ROWS[:1], "valid"), both[0]])] == ["valid", "records"]
    with pytest.raises(EvaluationError, match="records.jsonl is given twice"):
        open_data([both[0], both[0]])


def test_stage_1_is_asked_ocr_of_whole_pages_and_the_rest_is_counted(reads, records, checkpoint, tmp_path):
    rows = [*ROWS, ("g.png", "format", "# G")]
    reader = reads(ANSWERS, prompt_template="stage1")
    metrics = run(checkpoint, records(rows), tmp_path / "out")
    assert reader.asked == ["a.png", "b.png", "f.png"]
    groups = metrics["groups"]
    assert {name: (group["rows"], group["not_asked"]) for name, group in groups.items()} == {
        "ocr": (3, 0),
        "ocr + box": (0, 1),
        "ocr + color": (0, 1),
        "format + color": (0, 1),
        "format": (0, 1),
        "all": (3, 4),
    }
    assert groups["format"]["fixed"] is None
    assert "stage1" in lines(tmp_path / "out" / "predictions.jsonl")[0]["not_asked"]
    assert score_file(tmp_path / "out" / "predictions.jsonl")["groups"] == groups


def test_a_blank_page_that_is_read_as_blank_is_exact(reads, records, checkpoint, tmp_path):
    reads({"a.png": ""})
    group = run(checkpoint, records([("a.png", "ocr", "")]), tmp_path / "out")["groups"]["ocr"]
    assert (group["empty_answers"], group["empty_references"]) == (1, 1)
    assert group["fixed"]["macro"]["edit_distance"] == 0.0
    assert group["fixed"]["macro"]["exact_match"] == group["fixed"]["macro"]["f1"] == 1.0


def test_a_bad_line_of_data_stops_before_the_model_is_loaded(records, checkpoint, tmp_path):
    data = records(ROWS)
    data.write_text(data.read_text() + '{"images": ["a.png"], "task": "orc", "text": ""}\n')
    with pytest.raises(ValueError, match="test.jsonl:7: task is 'orc'"):
        run(checkpoint, data, tmp_path / "out")


def test_the_models_hash_sees_weights_config_and_tokenizer_but_no_state_of_training(checkpoint):
    before = model_hash(checkpoint)
    for name in ("optimizer.pdopt", "rng_state.pth", "trainer_state.json", "run.yaml", "optimizer.bin"):
        (checkpoint / name).write_text("other")
    assert model_hash(checkpoint) == before
    seen = {before}
    for name in ("config.json", "model.safetensors", "qwen.tiktoken", "model-00001-of-00002.safetensors"):
        (checkpoint / name).write_text("changed")
        seen.add(model_hash(checkpoint))
    assert len(seen) == 5


def test_predictions_of_others_are_scored_in_a_list_or_in_lines(tmp_path):
    rows = [{"label": "abcd", "answer": "abcx", "question": "Read!"}, {"label": "ab", "answer": "ab"}]
    (tmp_path / "got.json").write_text(json.dumps(rows))
    group = score_file(tmp_path / "got.json")["groups"]["text"]
    assert group["rows"] == 2
    assert group["fixed"]["macro"]["edit_distance"] == pytest.approx(1 / 8)
    assert group["fixed"]["micro"]["cer"] == pytest.approx(1 / 6)
    assert group["no_end_token"] is None
    rows = [
        {"reference": "a", "prediction": "a", "task": "ocr", "box": [1, 2, 3, 4]},
        {"reference": "a", "prediction": "b", "task": "chart", "finished": "length"},
    ]
    (tmp_path / "ours.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "\n")
    groups = score_file(tmp_path / "ours.jsonl")["groups"]
    assert list(groups) == ["ocr + box", "chart", "all"]
    assert groups["chart"]["no_end_token"] == 1


def test_scene_text_is_scored_by_character(tmp_path):
    (tmp_path / "p.json").write_text(json.dumps([{"label": "EXIT", "answer": "EX1T"}]))
    assert score_file(tmp_path / "p.json")["groups"]["text"]["fixed"]["macro"]["f1"] == 0.0
    by_character = score_file(tmp_path / "p.json", unit="character")
    assert by_character["groups"]["text"]["fixed"]["macro"]["f1"] == 0.75
    assert by_character["unit"] == "character"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"label": "a"}', "p.jsonl:1: prediction or answer is 'None'; expected a text"),
        (
            '{"label": "a", "answer": "a"}\n{"answer": "a"}',
            "p.jsonl:2: reference or label is 'None'; expected a text",
        ),
        ('{"label": 3, "answer": "a"}', "p.jsonl:1: reference or label is '3'; expected a text"),
        ('\n{"label": "a"', "p.jsonl:2: not JSON"),
        ('[{"label": "a"', "p.jsonl: not JSON"),
        ("[1]", r"p.jsonl\[0\]: '1'; expected an object"),
        ("", "p.jsonl: holds no predictions"),
    ],
)
def test_a_bad_file_of_predictions_is_refused_with_its_place(tmp_path, content, message):
    (tmp_path / "p.jsonl").write_text(content)
    with pytest.raises(EvaluationError, match=message):
        read_predictions(tmp_path / "p.jsonl")


def test_a_missing_file_of_predictions_is_refused(tmp_path):
    with pytest.raises(EvaluationError, match="No such file"):
        read_predictions(tmp_path / "p.jsonl")


def metrics_of(tmp_path, name, pairs, **settings):
    (tmp_path / name).mkdir()
    rows = [{"reference": reference, "prediction": answer, **more} for answer, reference, more in pairs]
    (tmp_path / name / "p.json").write_text(json.dumps(rows))
    metrics = score_file(tmp_path / name / "p.json")
    metrics["settings"] = settings or None
    (tmp_path / name / "metrics.json").write_text(json.dumps(metrics))
    return metrics


def test_two_runs_stand_side_by_side_with_their_change(tmp_path):
    stop, cut = {"task": "ocr", "finished": "stop"}, {"task": "ocr", "finished": "length"}
    metrics_of(tmp_path, "before", [("abcx", "abcd", cut), ("", "ab", cut)])
    metrics_of(tmp_path, "after", [("abcd", "abcd", stop), ("ab", "ab", stop)])
    assert compare_files([tmp_path / "before", tmp_path / "after" / "metrics.json"]) == "\n".join(
        [
            "| task | metric        | before |  after |  change |",
            "| ---- | ------------- | -----: | -----: | ------: |",
            "| ocr  | edit distance | 0.6250 | 0.0000 | -0.6250 |",
            "| ocr  | CER           | 0.5000 | 0.0000 | -0.5000 |",
            "| ocr  | WER           | 1.0000 | 0.0000 | -1.0000 |",
            "| ocr  | exact match   | 0.0000 | 1.0000 | +1.0000 |",
            "| ocr  | F1            | 0.0000 | 1.0000 | +1.0000 |",
            "| ocr  | word F1       | 0.0000 | 1.0000 | +1.0000 |",
            "| ocr  | empty         |      1 |      0 |      -1 |",
            "| ocr  | no end        |      2 |      0 |      -2 |",
        ]
    )


def test_runs_of_other_data_prompts_or_decoding_are_not_compared_unless_forced(tmp_path):
    settings = {
        "model": {"prompt_template": "repo"},
        "data": [{"sha256": "1"}],
        "limit": None,
        "decoding": {"a": 1},
    }
    metrics_of(tmp_path, "one", [("a", "a", {"task": "ocr"})], **settings)
    pairs = [("a", "a", {"task": "ocr"}), ("b", "b", {"task": "format"})]
    changes = {
        "data": {"data": [{"sha256": "2"}]},
        "limits": {"limit": 5},
        "prompt templates": {"model": {"prompt_template": "hub"}},
        "decoding settings": {"decoding": {"a": 2}},
    }
    for place, (what, change) in enumerate(changes.items()):
        metrics_of(tmp_path, f"other{place}", pairs, **{**settings, **change})
        folders = [tmp_path / "one", tmp_path / f"other{place}"]
        with pytest.raises(EvaluationError, match=f"^--compare: different {what}: one .*, or use --force$"):
            compare_files(folders)
        shown = compare_files(folders, force=True)
        assert f"not comparable without care: different {what}" in shown
    assert "| format | rows          |      - |      1 |       - |" in shown
    assert "| all    | exact match   |      - | 1.0000 |       - |" in shown


def test_batch_size_is_no_difference(tmp_path):
    settings = {"model": {"prompt_template": "repo"}, "data": [{"sha256": "1"}], "limit": None}
    for name, size in (("one", 1), ("two", 8)):
        metrics_of(tmp_path, name, [("a", "a", {})], **settings, decoding={"batch_size": size, "stop": True})
    assert "comparable" not in compare_files([tmp_path / "one", tmp_path / "two"])


def test_a_comparison_of_the_same_or_of_other_files_is_refused(tmp_path, capsys):
    metrics_of(tmp_path, "one", [("a", "a", {})])
    with pytest.raises(EvaluationError, match="is given twice"):
        compare_files([tmp_path / "one", tmp_path / "one"])
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(EvaluationError, match="other.json: no groups in it"):
        compare_files([tmp_path / "other.json"])
    assert command.main(["--compare", str(tmp_path / "missing.json")]) == 2
    assert "missing.json" in capsys.readouterr().err


def test_a_markdown_table_is_as_wide_as_its_widest_cells():
    assert markdown(["a", "b"], [["long name", "1"]]).splitlines() == [
        "| a         |   b |",
        "| --------- | --: |",
        "| long name |   1 |",
    ]


def test_the_command_scores_predictions_without_a_model(tmp_path, capsys):
    (tmp_path / "p.json").write_text(
        json.dumps([{"label": "ab", "answer": "a", "task": "ocr", "finished": "stop"}])
    )
    assert (
        command.main(["--predictions", str(tmp_path / "p.json"), "--output-dir", str(tmp_path / "out")]) == 0
    )
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split("|")[1:5] == [" task ", " rows ", " edit distance ", "    CER "]
    assert shown[2].split("|")[1:5] == [" ocr  ", "    1 ", "        0.5000 ", " 0.5000 "]
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["groups"]["ocr"]["rows"] == 1


def test_names_of_files_steer_no_terminal_in_tables_of_scores_and_of_runs(tmp_path, capsys):
    rows = [{"reference": "ab", "prediction": "a", "task": "ocr"}]
    for name in ("a\x1b[2J", "b\u202e\n| ocr | 0.0 |"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(rows[0]) + "\n")
    files = sorted(map(str, tmp_path.glob("*.jsonl")))
    assert command.main(["--compare", *files]) == 0
    shown = capsys.readouterr().out
    assert "| a\\x1b[2J | b\\u202e\\n| ocr | 0.0 | |" in shown.splitlines()[0]
    assert not [sign for sign in shown if sign != "\n" and not sign.isprintable()]
    lines = table({"groups": {"ocr (a\x1b[2J\nb)": score_file(files[0])["groups"]["ocr"]}}).splitlines()
    assert len(lines) == 3 and lines[2].startswith("| ocr (a\\x1b[2J\\nb) |")
    assert len(set(map(len, lines))) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "got none of them; give one"),
        (["folder", "--predictions", "p.json"], "got model and predictions; give one"),
        (["folder"], "--data: missing"),
        (["folder", "--data", "d.jsonl"], "--output-dir: missing"),
        (["--predictions", "p.json", "--limit", "3"], "--limit: does not go with --predictions"),
        (["nowhere", "--data", "nowhere.jsonl", "--output-dir", "o"], "nowhere.jsonl: no such file"),
    ],
)
def test_wrong_usage_is_told_in_a_line_with_exit_code_2(capsys, arguments, message):
    assert command.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_an_interrupted_command_says_that_it_can_go_on(reads, records, checkpoint, tmp_path, capsys):
    reads(ANSWERS, stop_after=2)
    arguments = [
        str(checkpoint),
        "--data",
        str(records(ROWS)),
        "--output-dir",
        str(tmp_path / "out"),
        "--no-cpu-tuning",
    ]
    assert command.main(arguments) == 130
    assert "run the same command to continue" in capsys.readouterr().err
    assert len(lines(tmp_path / "out" / "predictions.jsonl")) == 2


def test_help_takes_less_than_a_second_and_imports_no_paddle(processor_seconds):
    code = (
        "import sys, got_train.cli.evaluate as e\n"
        "try: e.main(['--help'])\n"
        "except SystemExit: print(sorted(sys.modules))"
    )
    began = processor_seconds()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert processor_seconds() - began < 1
    assert "'paddle'" not in done.stdout
    assert "'numpy'" not in done.stdout
    assert "--compare" in done.stdout


# With a model: random, tiny, of both kinds.


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["the cat sat on the mat, the cat sat on the hat " * 4], 270)


@pytest.fixture
def tiny(random_model, tokenizer, tmp_path):
    """A function: the folder of a random checkpoint that reads views of 64 x 64 pixels."""
    from got_train.checkpoint.weights import save_model

    def make(kind, prompt_template):
        model = random_model(kind, decoder={"vocab_size": tokenizer.size, "max_positions": 512})
        model.config = dataclasses.replace(
            model.config, prompt_template=prompt_template, stop_tokens=tokenizer.stop_ids
        )
        save_model(model, tmp_path / kind, tokenizer=tokenizer)
        return tmp_path / kind

    return make


@pytest.fixture
def pages(records, tmp_path):
    for number, name in enumerate(("a.png", "b.png", "c.png", "d.png", "e.png")):
        Image.new("RGB", (60, 50), (40 * number, 90, 200)).save(tmp_path / name)
    (tmp_path / "f.png").write_bytes(b"no picture")
    return records(ROWS)


def test_a_model_answers_as_the_reader_does_and_a_broken_image_is_a_failure(tiny, pages, tmp_path, capsys):
    folder, output = tiny("qwen2", "repo"), tmp_path / "out"
    arguments = [str(folder), "--data", str(pages), "--output-dir", str(output), "--max-new-tokens", "6"]
    arguments += ["--batch-size", "2", "--threads", "1", "--no-cpu-tuning"]
    assert command.main(arguments) == 1
    shown = capsys.readouterr()
    assert "1 failed and count as empty answers" in shown.err
    assert f"{tmp_path}/f.png" in shown.err
    reader = reading.load_pipeline(folder, max_new_tokens=6)
    questions = [reading.OcrRequest.of_record(record) for record in open_data([pages])[0].records]
    answers = list(reader.read(questions[:5]))
    written = lines(output / "predictions.jsonl")
    assert [row["prediction"] for row in written[:5]] == [answer.text for answer in answers]
    assert [row["finished"] for row in written[:5]] == [answer.finished for answer in answers]
    assert len(written) == 6
    assert "f.png" in written[5]["failed"]
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["groups"]["all"]["rows"] == 6
    assert metrics["groups"]["all"]["failed"] == 1
    assert "| all " in shown.out


def test_a_stage_1_checkpoint_is_evaluated_on_its_ocr(tiny, pages, tmp_path):
    metrics = run(tiny("opt", "stage1"), pages, tmp_path / "out", max_new_tokens=4)
    assert metrics["settings"]["model"]["prompt_template"] == "stage1"
    assert metrics["groups"]["ocr"]["rows"] == 3
    assert metrics["groups"]["all"]["not_asked"] == 3


def test_a_folder_without_a_checkpoint_is_refused(records, tmp_path):
    with pytest.raises(InferenceError, match="no such folder"):
        run(tmp_path / "nowhere", records(ROWS), tmp_path / "out")
    assert not (tmp_path / "out").exists()
