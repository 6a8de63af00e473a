"""data.on_error: skip. A bad row goes missing, and nothing else: no other row in its place."""

import json

import numpy as np
import pytest

from got_train.data.collator import Collator
from got_train.data.records import RecordError
from got_train.training.rejected_samples import RejectedSamples
from got_train.training.trainer import NonFiniteError

DROP = "data.on_error=skip"


@pytest.fixture
def broken(fit):
    """A function: spoil the picture of line 12 and the answer of line 30; both are drawn in 8 steps."""

    def spoil():
        folder = fit.path.parent
        (folder / "11.png").write_bytes(b"no picture")
        lines = (folder / "data.jsonl").read_text().splitlines()
        lines[29] = json.dumps({**json.loads(lines[29]), "text": " "})
        (folder / "data.jsonl").write_text("\n".join(lines))

    return spoil


def quarantined(folder):
    return [json.loads(line) for line in (folder / "run" / "quarantine-0.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    "overrides",
    [[], ["data.num_workers=2"], ["data.packing_length=200"], ["train.per_device_train_batch_size=1"]],
)
def test_dropped_rows_are_written_with_their_cause_and_the_others_train_on(fit, broken, tmp_path, overrides):
    """With micro-batches of one row a dropped row leaves an empty one."""
    broken()
    fit(DROP, "train.max_steps=8", *overrides)
    rows = sorted(quarantined(tmp_path), key=lambda row: row["location"])
    assert [row["location"] for row in rows] == [f"{tmp_path}/data.jsonl:12", f"{tmp_path}/data.jsonl:30"]
    assert "11.png" in rows[0]["cause"]
    assert rows[1]["cause"].startswith("empty answer")


def test_a_step_without_its_bad_row_equals_the_step_of_the_other_seven(fit, broken, monkeypatch):
    """The others are taken out of the batch by hand, from data that are whole."""
    whole = Collator.batch

    def without(self, samples):
        return whole(self, [each for each in samples if each.location.rpartition(":")[2] not in ("12", "30")])

    with monkeypatch.context() as patched:
        patched.setattr(Collator, "batch", without)
        expected = fit("train.max_steps=8")
    broken()
    dropped = fit(DROP, "train.max_steps=8")
    assert dropped.losses == expected.losses
    assert all(np.array_equal(dropped.after[name], expected.after[name]) for name in expected.after)
    alone = fit(
        DROP, "train.max_steps=8", "train.per_device_train_batch_size=1"
    )  # a micro-batch of nothing adds nothing
    assert np.abs(np.subtract(alone.losses, expected.losses)).max() <= 1e-6


def test_a_row_drawn_in_every_epoch_is_written_once_and_a_resumed_run_goes_on(fit, broken, tmp_path):
    broken()
    fit(DROP, "train.max_steps=24", "train.save_steps=8", "train.save_total_limit=0")
    assert len(quarantined(tmp_path)) == 2
    fit(DROP, "train.max_steps=24", checkpoint=tmp_path / "run" / "checkpoint-8")
    assert len(quarantined(tmp_path)) == 2


def test_half_a_line_of_a_killed_process_is_taken_back(tmp_path):
    path = tmp_path / "quarantine-0.jsonl"
    path.write_text('{"location": "a.jsonl:1", "cause": "x"}\n{"location": "a.js')
    quarantine = RejectedSamples(path)
    assert len(quarantine) == 1
    quarantine.add(RecordError("a.jsonl:1: x"))
    quarantine.add(RecordError("a.jsonl:2: no picture: b.png; expected a picture"))
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert rows[1] == {"location": "a.jsonl:2", "cause": "no picture: b.png; expected a picture"}
    assert len(rows) == 2


def test_rows_of_a_folder_with_a_colon_in_its_name_are_two(tmp_path):
    quarantine = RejectedSamples(tmp_path / "quarantine-0.jsonl")
    for line in (1, 2, 2):
        quarantine.add(RecordError(f"scans: old/a.jsonl:{line}: empty answer; give the text seen"))
    assert len(quarantine) == 2


def test_a_fault_that_is_not_the_rows_stops_the_run_all_the_same(fit, monkeypatch):
    def full(self, record):
        raise MemoryError("all gone")

    monkeypatch.setattr(Collator, "sample", full)
    with pytest.raises(MemoryError, match="all gone"):
        fit(DROP)


def test_a_step_of_which_every_row_was_dropped_stops_the_run(fit, tmp_path):
    for row in range(64):
        (tmp_path / f"{row}.png").unlink()
    with pytest.raises(NonFiniteError, match="step 1: no supervised token in the whole step"):
        fit(DROP)
    assert len(quarantined(tmp_path)) == 8
