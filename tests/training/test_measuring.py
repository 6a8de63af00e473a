"""Reading in a run: rows, scores, best weights and early end by a metric, the skill table, two processes."""

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from visualdl import LogReader

from got_train.checkpoint.weights import save_model
from got_train.cli import evaluate
from got_train.config.loader import load_config
from got_train.data.records import read_records
from got_train.errors import ConfigError
from got_train.evaluation import comparison
from got_train.evaluation.predictions import DataFile, Prediction
from got_train.evaluation.scored import score_predictions
from got_train.training import generation_eval, regressions, run
from got_train.training.callbacks import baseline_comparison
from got_train.training.generation_eval import (
    EvalRecords,
    EvalResult,
    GenerationEval,
    mean_metrics,
    stratified_order,
)

ROOT = Path(__file__).parents[2]
READ = ("eval.max_samples=10", "eval.batch_size=4")
EVERY = ("train.eval_steps=2", "train.preview_samples=2", "eval.max_new_tokens=6", "eval.time_limit=0")


@pytest.fixture
def held_out(fit):
    """The first 10 rows in a file of their own, five of them as a task of their own."""
    rows = [json.loads(line) for line in (fit.path.parent / "data.jsonl").read_text().splitlines()[:10]]
    for row in rows[5:]:
        row["task"] = "format"
    (fit.path.parent / "held_out.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [f"data.validation={fit.path.parent}/held_out.jsonl", *EVERY]


@pytest.fixture
def tuning(fit, tmp_path):
    """The YAML of a run that starts from a whole model, with the last 9 rows as an old skill."""
    made = run.build_trainer(load_config(fit.path))
    save_model(made.model, tmp_path / "base", tokenizer=made.got_tokenizer)
    rows = (tmp_path / "data.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "new.jsonl").write_text("".join(rows[:10]))
    (tmp_path / "old.jsonl").write_text("".join(rows[-9:]))
    settings = json.loads(fit.path.read_text())
    settings["model"] = {"init_from": str(tmp_path / "base")}
    settings["data"]["validation"] = str(tmp_path / "new.jsonl")
    probe = {"name": "old pages", "path": str(tmp_path / "old.jsonl")}
    settings["eval"] = {"max_new_tokens": 6, "time_limit": 0, "batch_size": 4, "retention_sets": [probe]}
    settings["train"]["eval_steps"] = 2
    path = tmp_path / "tuning.yaml"
    path.write_text(json.dumps(settings))
    return path


def lines(folder):
    """measurements.jsonl without what differs from one run to the next."""
    found = [json.loads(line) for line in (folder / "measurements.jsonl").read_text().splitlines()]
    for row in found:
        row.pop("seconds")
        for answer in row["answers"]:
            answer.pop("seconds")
    return found


def predictions(file):
    return {
        row["location"]: row["prediction"] for row in map(json.loads, file.read_text().splitlines()) if row
    }


# ---- which rows


def test_every_beginning_of_the_rows_has_every_kind_in_its_share():
    """900, 90 and 10 rows: of any first n each kind has n times its share, to two rows."""
    shares = {"a": 0.9, "b": 0.09, "c": 0.01}
    strata = [kind for kind, share in shares.items() for _ in range(round(1000 * share))]
    order = stratified_order(strata, 1000, seed=1)
    assert sorted(order) == list(range(1000))
    assert {strata[place] for place in order[:3]} == {"a", "b", "c"}
    for count in range(3, 1001):
        seen = Counter(strata[place] for place in order[:count])
        assert max(abs(seen[kind] - count * share) for kind, share in shares.items()) <= 2.0
    assert order[:50] == stratified_order(strata, 50, seed=1)
    assert order[:50] != stratified_order(strata, 50, seed=2)


def test_rows_are_those_of_the_seed_and_sets_come_in_turns(tuning):
    config = load_config(tuning, ["eval.max_samples=5"])
    rows, again = run.build_eval_records(config), run.build_eval_records(config)
    assert [len(file.records) for file in rows.files] == [5, 5]
    assert [file.name for file, _ in rows.order] == ["validation", "old pages"] * 5
    assert [f.records[p].location for f, p in rows.order] == [f.records[p].location for f, p in again.order]
    other = run.build_eval_records(load_config(tuning, ["eval.max_samples=5", "train.seed=1"]))
    assert [f.records[p].location for f, p in rows.order] != [f.records[p].location for f, p in other.order]


# ---- in the run


def test_scores_in_the_run_are_those_of_evaluate_on_its_final_model(fit, held_out, tmp_path):
    """Two reading paths: the model in training, and the checkpoint opened anew."""
    final = run.train(load_config(fit.path, ["train.max_steps=4", *held_out, *READ]))
    first, last = lines(tmp_path / "run")
    assert (first["step"], last["step"], last["rows"], last["finished"]) == (2, 4, 10, True)
    data = [tmp_path / "held_out.jsonl"]
    metrics = evaluate.evaluate(final, data, tmp_path / "scores", batch_size=10, max_new_tokens=6)
    for task in ("ocr", "format", "all"):
        expected = metrics["groups"][task]["fixed"]["macro"]
        seen = last["metrics"]["validation"][task]
        assert {name: seen[name] for name in expected} == pytest.approx(expected)
    read = predictions(tmp_path / "scores" / "predictions.jsonl")
    assert len(last["answers"]) == 2
    assert all(read[answer["location"]] == answer["prediction"] for answer in last["answers"])


def test_measuring_changes_nothing_in_training(fit, held_out):
    """Dropout is off while reading, and on again afterwards."""
    dropout = ["model.decoder.kind=opt", "model.decoder.dropout=0.1", "train.max_steps=4"]
    plain, made = fit(*dropout), fit(*dropout, *held_out, *READ)
    assert made.losses == plain.losses
    assert all(np.array_equal(made.after[name], plain.after[name]) for name in plain.after)


def test_a_resumed_run_measures_as_the_uninterrupted_one(fit, held_out, tmp_path):
    """Best by a metric; what the killed session wrote after its checkpoint is not there twice."""
    settings = [*held_out, *READ, "eval.best_metric=cer", "train.save_steps=2", "train.save_total_limit=0"]
    run.train(load_config(fit.path, settings))
    whole = tmp_path / "whole"
    shutil.copytree(tmp_path / "run", whole)
    for name in ("checkpoint-4", "checkpoint-6", "final", "best"):
        shutil.rmtree(tmp_path / "run" / name)
    with open(tmp_path / "run" / "measurements.jsonl", "a") as file:
        file.write('{"step": 6, "ro')
    if json.loads((whole / "best" / "best.json").read_text())["step"] == 2:
        shutil.copytree(whole / "best", tmp_path / "run" / "best")
    run.train(load_config(fit.path, settings), resume=True)
    assert lines(tmp_path / "run") == lines(whole)
    assert [row["step"] for row in lines(whole)] == [2, 4, 6]
    for name in ("final", "best"):
        one, other = (load_file(folder / name / "model.safetensors") for folder in (whole, tmp_path / "run"))
        assert max(np.abs(one[key] - other[key]).max() for key in one) == 0
    best = [json.loads((folder / "best" / "best.json").read_text()) for folder in (whole, tmp_path / "run")]
    assert best[0] == best[1]
    values = [row["metrics"]["validation"]["all"]["cer"] for row in lines(whole)]
    assert best[0]["validation_cer"] == min(values)


@pytest.mark.parametrize(("metric", "step"), [("edit_distance", 4), ("f1", 2)])
def test_the_best_weights_are_those_of_the_best_metric(fit, held_out, tmp_path, monkeypatch, metric, step):
    """0.5, 0.2, 0.3, 0.2: lowest at step 4 first, highest at step 2; two worse ones end the run at 8 or 6."""
    coming = iter([0.5, 0.2, 0.3, 0.2])
    monkeypatch.setattr(GenerationEval, "value", lambda self, seen, name: next(coming))
    patience = ["train.max_steps=20", "train.early_stopping_patience=2", "train.save_steps=50"]
    config = load_config(fit.path, [*patience, *held_out, "eval.max_samples=2", f"eval.best_metric={metric}"])
    final = run.train(config)
    best = json.loads((tmp_path / "run" / "best" / "best.json").read_text())
    assert best["step"] == step
    assert list(best) == ["step", f"validation_{metric}"]
    assert final.parent.joinpath(f"checkpoint-{step + 4}").is_dir()


def test_when_the_time_is_over_the_rows_so_far_count(fit, held_out, tmp_path):
    held_out = [setting for setting in held_out if not setting.startswith("eval.time_limit=")]
    run.train(load_config(fit.path, ["train.max_steps=2", *held_out, *READ, "eval.time_limit=1e-9"]))
    (row,) = lines(tmp_path / "run")
    assert (row["rows"], row["of"], row["finished"]) == (4, 10, False)
    assert row["metrics"]["validation"]["ocr"]["rows"] == 2
    assert row["metrics"]["validation"]["format"]["rows"] == 2


def test_curves_and_what_was_read_are_in_visualdl(fit, held_out, tmp_path):
    fit("train.max_steps=4", *held_out, *READ)
    (file,) = (tmp_path / "run" / "visualdl").iterdir()
    reader = LogReader(file_path=str(file))
    curve = reader.get_data("scalar", "validation/format/edit_distance")
    rows = lines(tmp_path / "run")
    assert [point.id for point in curve] == [2, 4]
    expected = [row["metrics"]["validation"]["format"]["edit_distance"] for row in rows]
    assert [point.value for point in curve] == pytest.approx(expected)
    read = reader.get_data("text", "answer/0")[-1].text.encoded_text_string
    assert read.endswith(f"\n\nread: {rows[-1]['answers'][0]['prediction']}")


# ---- before and after


@pytest.mark.parametrize("override", ["train.ema_decay=0.5", "lora.rank=2"])
def test_the_skill_table_compares_what_the_base_and_the_result_read(tuning, tmp_path, capsys, override):
    """The result has averaged weights, or is an adapter's folder."""
    final = run.train(load_config(tuning, [override, "train.max_steps=4"]))
    printed = capsys.readouterr().err
    found = json.loads((tmp_path / "run" / "skills.json").read_text())
    assert found["rows"] == {"validation": 10, "old pages": 9}
    assert found["table"] in printed
    names = {(each["task"], each["metric"]) for each in found["skills"]}
    assert {("ocr in validation", "edit_distance"), ("ocr in old pages", "f1")} <= names
    for folder, key in ((tmp_path / "base", "before"), (final, "after")):
        data, out = [tmp_path / "old.jsonl"], tmp_path / f"scores_{key}"
        metrics = evaluate.evaluate(folder, data, out, batch_size=9, max_new_tokens=6)
        for each in found["skills"]:
            if each["task"] == "ocr in old pages" and each["metric"] in ("edit_distance", "bleu"):
                expected = metrics["groups"]["ocr"]["fixed"]["macro"][each["metric"]]
                assert each[key] == pytest.approx(expected)
    assert lines(tmp_path / "run")[0]["step"] == 0
    kept = tmp_path / "run" / "skills"
    assert json.loads((kept / "after" / "settings.json").read_text())["model"]["folder"] == str(final)
    assert "| edit_distance |" in evaluate.compare_files([kept / "before", kept / "after"])


def test_what_the_base_has_read_is_not_read_again(tuning, tmp_path, monkeypatch):
    """Killed after two of five batches; of other rows nothing is taken over."""
    asked, real = [], generation_eval.read_rows

    def read_rows(reader, rows, batch_size):
        if len(asked) == 8:
            raise KeyboardInterrupt
        asked.extend(rows)
        return real(reader, rows, batch_size)

    monkeypatch.setattr(generation_eval, "read_rows", read_rows)
    config = load_config(tuning, ["train.max_steps=1", "train.save_steps=1"])
    with pytest.raises(KeyboardInterrupt):
        run.train(config)
    assert len(predictions(tmp_path / "run" / "skills" / "before" / "predictions.jsonl")) == 8
    asked.append(None)
    run.train(config)
    assert len(asked) == 8 + 1 + 11 + 19  # the rest, and all rows at the last step, which is the result
    shutil.rmtree(tmp_path / "run" / "final")
    again = len(asked)
    run.train(load_config(tuning, ["train.max_steps=1", "train.save_steps=1"]), resume=True)
    assert len(asked) == again  # the result is kept as well


def test_other_rows_are_read_anew(tuning, tmp_path):
    config = load_config(tuning, ["train.max_steps=1"])
    made = run.build_trainer(config)
    baseline_comparison.eval_baseline(made)
    file = tmp_path / "run" / "skills" / "before" / "settings.json"
    settings = json.loads(file.read_text())
    settings["data"][1]["sha256"] = "other"
    file.write_text(json.dumps(settings))
    (file.parent / "predictions.jsonl").write_text('{"reference": "a", "prediction": "b", "id": "1"}\n')
    baseline_comparison.eval_baseline(made)
    assert len(predictions(file.parent / "predictions.jsonl")) == 19


def measurement(answers):
    """Of ten pages whose text is `right`."""
    rows = [
        Prediction("right", answer, "ocr", data="old", record=place, images=(f"{place}.png",))
        for place, answer in enumerate(answers)
    ]
    return EvalResult(1, score_predictions(rows), len(rows), 0.0)


@pytest.mark.parametrize(("wrong", "said"), [(0, 0), (3, 0), (8, 1)])
def test_a_skill_has_fallen_when_that_is_certain(wrong, said):
    """Three of ten pages may be chance (p 0.25 by sign flips), eight are none (p 0.008)."""
    rows = EvalRecords((), (DataFile("old", "old.jsonl", [None] * 10, ""),), ())
    before, now = measurement(["right"] * 10), measurement(["wrong"] * wrong + ["right"] * (10 - wrong))
    assert len(regressions.regressions(before, now, rows)) == said
    assert not regressions.regressions(now, before, rows)  # better is not worse


def test_a_run_ends_when_an_old_skill_falls(tuning, tmp_path, capsys):
    """Pages that are blank to the base; a high learning rate forgets that at once."""
    found = [json.loads(line) for line in (tmp_path / "old.jsonl").read_text().splitlines()]
    blank = [json.dumps(row | {"text": ""}) + "\n" for row in found]
    (tmp_path / "old.jsonl").write_text("".join(blank))
    tuning.write_text(tuning.read_text().replace('"name":', '"allow_empty": true, "name":'))
    config = load_config(
        tuning, ["train.max_steps=40", "eval.stop_on_regression=true", "optimizer.learning_rate=0.1"]
    )
    final = run.train(config)
    said = capsys.readouterr().err
    rows = lines(tmp_path / "run")
    assert rows[0]["metrics"]["old pages"]["ocr"]["edit_distance"] == 0
    end = rows[-1]["step"]
    assert end < 40
    assert f"step {end}: ended by eval.stop_on_regression: ocr in old pages: edit_distance 0.0000 -> " in said
    (last,) = (tmp_path / "run").glob("checkpoint-*")
    assert last.name == f"checkpoint-{end}"
    best = tmp_path / "run" / "best" / "best.json"
    assert not best.exists() or json.loads(best.read_text())["step"] < end
    expected = (final / "model.safetensors").read_bytes()
    shutil.rmtree(final)
    assert (run.train(config, resume=True) / "model.safetensors").read_bytes() == expected
    assert json.loads((tmp_path / "run" / "skills.json").read_text())["after"]["step"] == end


def test_p_values_are_those_of_each_set_alone(tuning):
    """The table of a set is what comparison says of its rows."""
    rows = run.build_eval_records(load_config(tuning))
    read = [
        file.prediction(place, prediction=file.records[place].text[: -1 - place % 3])
        for file, place in rows.order
    ]
    right = [file.prediction(place, prediction=file.records[place].text) for file, place in rows.order]
    before, after = (EvalResult(0, score_predictions(each), len(each), 0.0) for each in (read, right))
    found = [each for each in regressions.compare(before, after, rows) if each.task == "ocr in old pages"]
    alone = comparison.metric_deltas(before.of_files(rows.probes), after.of_files(rows.probes))
    assert [(each.metric, each.p, each.verdict) for each in found] == [
        (each.metric, each.p, each.verdict) for each in alone
    ]
    assert mean_metrics(after.samples)["exact_match"] == 1


# ---- what is refused


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["eval.best_metric=cer", "data.validation="],
            r"eval.best_metric \(cer\) is measured on data.validation",
        ),
        (["eval.best_metric=eror"], "eval.best_metric: no metric eror; use loss, edit_distance"),
        (["eval.max_samples=0"], r"eval.max_samples \(0\): no row of eval.retention_sets is read"),
        (
            ["eval.retention_sets=[]", "eval.stop_on_regression=true"],
            "eval.stop_on_regression: compares eval.retention_sets",
        ),
        (
            ["eval.retention_sets=[{path: a, name: b}, {path: c, name: b}]"],
            "eval.retention_sets: b is named twice",
        ),
        (
            ["eval.retention_sets=[{path: a}]"],
            r"eval.retention_sets\[0\].name is not given; expected what a shows",
        ),
        (["eval.max_new_tokens=0"], "eval.max_new_tokens must be at least 1; got 0"),
        (
            ["eval.best_metric=table.teds"],
            "table.teds, and no row of data.validation is a table; use one such as",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused(tuning, overrides, said):
    with pytest.raises(ConfigError, match=said):
        run.train(load_config(tuning, overrides))


def test_a_broken_probe_stops_the_run_before_its_first_step(tuning, tmp_path):
    (tmp_path / "60.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"old\.jsonl:6: .*60\.png"):
        run.build_trainer(load_config(tuning))


# ---- several processes


@pytest.mark.slow
def test_two_processes_measure_as_one(tuning, tmp_path):
    settings = ["train.max_steps=4", "eval.best_metric=edit_distance", "eval.batch_size=3"]
    run.train(load_config(tuning, settings))
    launch = [sys.executable, "-W", "ignore", "-m", "paddle.distributed.launch", "--nproc_per_node", "2"]
    launch += ["--log_dir", str(tmp_path / "log"), str(ROOT / "train.py"), str(tuning), *settings]
    where = [f"train.output_dir={tmp_path}/two", "train.per_device_train_batch_size=2"]
    done = subprocess.run(
        [*launch, *where], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, (tmp_path / "log" / "workerlog.0").read_text()[-2000:]
    assert lines(tmp_path / "two") == lines(tmp_path / "run")
    one, two = (json.loads((tmp_path / name / "skills.json").read_text()) for name in ("run", "two"))
    assert one["table"] == two["table"]
    best = [json.loads((tmp_path / name / "best" / "best.json").read_text()) for name in ("run", "two")]
    assert best[0] == best[1]
    read = [predictions(tmp_path / name / "skills/after/predictions.jsonl") for name in ("run", "two")]
    assert len(read[0]) == 19
    assert read[0] == read[1]
    assert len(read_records(tmp_path / "new.jsonl")) == 10
