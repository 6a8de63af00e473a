"""The ledger against what the collator really got: dropped rows, resumed runs, several processes; trace."""

import json
from collections import defaultdict
from pathlib import Path

import pytest

from got_train.cli import trace
from got_train.config.loader import load_config
from got_train.data.collator import Collator
from got_train.errors import TrainingError
from got_train.training import run
from got_train.training.ledger import DROPPED, SampleLog, StepRecord, read_sample_log
from got_train.training.trace import open_trace

DROP = ("data.on_error=skip", "train.max_steps=10")


@pytest.fixture
def collated(monkeypatch):
    """The rows of every batch that the collator makes in this process, in order."""
    batches, whole = [], Collator.batch

    def batch(self, samples):
        batches.append([sample.location for sample in samples])
        return whole(self, samples)

    monkeypatch.setattr(Collator, "batch", batch)
    return batches


@pytest.fixture
def broken(fit):
    """Lines 12 and 30 cannot be used; both are drawn in 10 steps of 8 of 64 rows."""
    folder = fit.path.parent
    (folder / "11.png").write_bytes(b"no picture")
    lines = (folder / "data.jsonl").read_text().splitlines()
    lines[29] = json.dumps({**json.loads(lines[29]), "text": " "})
    (folder / "data.jsonl").write_text("\n".join(lines))
    return folder


def trained(fit, *overrides, resume=False):
    config = load_config(fit.path, [*DROP, *overrides])
    run.train(config, resume=resume)
    return config.train.output_dir


def entered(opened, step):
    return sorted(where for where, dropped in opened.rows(step) if not dropped)


@pytest.mark.parametrize("micro", [8, 2])
def test_the_rows_of_every_step_are_those_that_the_collator_got(fit, broken, collated, micro):
    """With micro-batches of 2, replay and weights, too."""
    overrides = [f"train.per_device_train_batch_size={micro}"]
    if micro == 2:
        source = f"{{path: {broken}/data.jsonl, weight: 1}}"
        overrides += [f"data.train=[{source}]", f"data.replay=[{source}]", "data.replay_share=0.5"]
    opened = open_trace(Path(trained(fit, *overrides)))
    got = defaultdict(list)
    for number, batch in enumerate(collated):
        got[1 + number * micro // 8] += batch
    assert len(got) == len(opened.ledger) == 10
    for step, rows in got.items():
        assert entered(opened, step) == sorted(rows)
        assert opened.is_as_trained(step)
    dropped = [where for step in got for where, out in opened.rows(step) if out]
    assert {where.rpartition(":")[2] for where in dropped} == {"12", "30"}
    assert sum(entry.rows for entry in opened.ledger.values()) == 80 - len(dropped)


def test_a_resumed_run_has_the_ledger_of_an_uninterrupted_one(fit, broken, monkeypatch):
    """It ends in step 6, after the checkpoint of step 4; a worker and other micro-batches go on."""
    whole = trained(fit)
    cut = f"train.output_dir={broken}/cut"
    with monkeypatch.context() as patched:
        add = SampleLog.add

        def stop(self, entry):
            add(self, entry)
            if entry.step == 6:
                raise KeyboardInterrupt

        patched.setattr(SampleLog, "add", stop)
        with pytest.raises(KeyboardInterrupt):
            trained(fit, cut, "train.save_steps=4")
    assert list(read_sample_log(broken / "cut")) == [1, 2, 3, 4, 5, 6]
    trained(
        fit,
        cut,
        "train.save_steps=4",
        "data.num_workers=1",
        "train.per_device_train_batch_size=4",
        resume=True,
    )
    assert read_sample_log(broken / "cut") == read_sample_log(whole)


def test_processes_add_up_and_lost_steps_of_all_of_them_are_forgotten(tmp_path):
    for rank in range(3):
        ledger = SampleLog(tmp_path, rank, 3)
        ledger.truncate_after(0)
        for step in (1, 2, 3):
            draws = range(6 * step + 2 * rank, 6 * step + 2 * rank + 2)
            ledger.add(StepRecord.of(step, draws, [draws[0], DROPPED if rank == 1 else 7]))
    found = read_sample_log(tmp_path)
    assert found[2] == StepRecord(2, 5, 12 + 7 + 14 + 16 + 7, (15,))
    with open(tmp_path / "ledger-2.jsonl", "a") as file:
        file.write('{"step": 4, "ro')  # killed in the midst of it
    assert read_sample_log(tmp_path) == found
    for rank in range(2):  # two go on where three were
        SampleLog(tmp_path, rank, 2).truncate_after(2)
    assert list(read_sample_log(tmp_path)) == [1, 2]
    assert all(path.read_text().count("\n") == 2 for path in tmp_path.glob("ledger-*.jsonl"))
    (tmp_path / "ledger-0.jsonl").write_text("{}\n")
    with pytest.raises(TrainingError, match="ledger-0.jsonl:1: not a line of a ledger"):
        read_sample_log(tmp_path)


def test_trace_prints_rows_and_steps_and_notices_edited_data(fit, broken, capsys):
    folder = trained(fit, "train.save_steps=4")
    ledger = read_sample_log(folder)
    gaps = [step for step, entry in ledger.items() if entry.dropped]
    assert trace.main([folder, "--step", str(gaps[0])]) == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    missing = len(ledger[gaps[0]].dropped)
    assert len(lines) == 8 and sum(line.endswith(" dropped") for line in lines) == missing
    assert f"trace: step {gaps[0]}: {8 - missing} rows, {missing} dropped\n" in shown.err
    row = next(line for line in lines if not line.endswith(" dropped"))
    assert trace.main([folder, "--row", row]) == 0
    steps = capsys.readouterr().out.split()
    assert str(gaps[0]) in steps
    assert trace.main([folder, "--row", f"{broken}/data.jsonl:12"]) == 0
    assert all(line.endswith(" dropped") for line in capsys.readouterr().out.splitlines())

    number = int(row.rpartition(":")[2])
    rows = (broken / "data.jsonl").read_text().splitlines()
    rows[number - 1] = json.dumps({**json.loads(rows[number - 1]), "text": "edited"})
    (broken / "data.jsonl").write_text("\n".join(rows))
    assert trace.main([folder, "--step", str(gaps[0])]) == 1
    assert "the data files have other rows or answers now" in capsys.readouterr().err
    others = [step for step in ledger if str(step) not in steps]
    assert trace.main([folder, "--step", str(others[0])]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--step", "11"], "trace: step 11: the sample log has 1 to 10; use one of them"),
        (["--step", "0"], "trace: step 0: the sample log has 1 to 10; use one of them"),
        (["--row", "data.jsonl:3"], "--row data.jsonl:3: no row of this run; use a name such as /"),
    ],
)
def test_a_question_without_an_answer_ends_with_2(fit, broken, capsys, arguments, message):
    assert trace.main([trained(fit), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert trace.main([str(broken), "--step", "1"]) == 2
    assert "no ledger-*.jsonl with a step" in capsys.readouterr().err
