"""got doctor: the whole list runs on a CPU and passes; a fault is found, named, and kept on disk."""

import json

import pytest

from got_train.cli.doctor import main
from got_train.doctor import checks, machine, parity, report, selftest
from got_train.doctor.checks import Measured, Skipped, run_check


def test_on_a_cpu_the_same_list_passes(tmp_path, capsys, processor_seconds):
    """Bfloat16 attention alone is not run: a CPU has no kernels for it."""
    began = processor_seconds()
    assert main(["--quick", "--threads", "1", "--folder", str(tmp_path)]) == 0
    assert processor_seconds() - began < 120
    said = capsys.readouterr().out
    found = json.loads((tmp_path / report.JSON_FILE).read_text(encoding="utf-8"))
    rows = {row["name"]: row for row in found["checks"]}
    assert len(rows) == 17
    assert found["left"] == []
    skipped = {name for name, row in rows.items() if row["status"] == "skipped"}
    assert {name for name in skipped if "HTTP" not in name} == {
        "attention of packed rows, 256 tokens, bfloat16",
        "attention with relative positions, 12 x 12 patches, bfloat16",
    }
    assert all(row["status"] == "passed" for name, row in rows.items() if name not in skipped)
    resumed = rows["killed between two checkpoints, resumed: the same weights"]
    assert resumed["value"] == 0
    assert 1e-4 < rows["logits and loss, bfloat16"]["value"] < 0.05  # it was rounded
    assert found["machine"]["device"] == "cpu"
    assert "17 checks, none failed" in said
    page = (tmp_path / report.HTML_FILE).read_text(encoding="utf-8")
    assert "17 checks, none failed" in page
    assert "<script" not in page


def test_a_fault_in_the_encoder_is_found(monkeypatch):
    """Relative positions that are looked up one row off."""
    made = parity.tiny_model

    def broken(dtype):
        model = made(dtype)
        table = model.vision.blocks[1].attn.rel_pos_h
        table.set_value(table.roll(1, axis=0))
        return model

    monkeypatch.setattr(parity, "tiny_model", broken)
    for check in (parity.check_stages, parity.check_logits, parity.check_gradients):
        assert run_check("it", lambda check=check: check("float32"))["status"] == "failed"
    stages = parity.check_stages("float32").numbers
    assert stages["vision.blocks.0"] < 1e-5 < stages["vision.blocks.1"]  # and the report says where


def test_samples_that_see_each_other_in_a_packed_row_are_found(monkeypatch):
    from got_train.modeling.causal_attention import PackedMask

    monkeypatch.setattr(PackedMask, "segment_start", property(lambda mask: 0 * mask._on_host.astype("int32")))
    assert not parity.check_packing().passes


def boom():
    raise RuntimeError("no kernel image is available for execution on the device")


def test_what_fails_is_told_from_what_passes_and_a_number_that_is_none_fails():
    rows = [
        run_check("a", lambda: Measured(0.5, 1.0, "why", {"seen": 2.0})),
        run_check("b", lambda: Measured(1.5, 1.0)),
        run_check("c", lambda: Measured(float("nan"), 1.0)),
        run_check("d", boom),
        run_check("e", lambda: Skipped("there is none")),
    ]
    assert [row["status"] for row in rows] == ["passed", "failed", "failed", "failed", "skipped"]
    assert "no kernel image" in rows[3]["error"]
    assert [report.text_row({**row, "seconds": 0.0}) for row in rows[:1] + rows[3:]] == [
        "passed  a: 0.5, at most 1 (0.0 s)",
        "failed  d: RuntimeError: no kernel image is available for execution on the device (0.0 s)",
        "skipped e: there is none (0.0 s)",
    ]


def test_a_failure_ends_with_code_1_and_a_crash_leaves_what_was_found_before_it(
    tmp_path, monkeypatch, capsys
):
    def crash():
        raise KeyboardInterrupt  # stands for a driver that takes the process down

    listed = {"first": lambda: Measured(0, 1), "second": boom, "third": lambda: Skipped("-")}
    monkeypatch.setattr(selftest, "parity_checks", lambda quick: listed)
    monkeypatch.setattr(selftest.Rehearsal, "checks", lambda self: {})
    assert main(["--threads", "1", "--folder", str(tmp_path)]) == 1
    assert "1 of 3 checks failed: second" in capsys.readouterr().out
    listed["second"] = crash
    assert main(["--threads", "1", "--folder", str(tmp_path)]) == 130
    found = json.loads((tmp_path / report.JSON_FILE).read_text(encoding="utf-8"))
    assert [row["name"] for row in found["checks"]] == ["first"]
    assert found["left"] == ["second", "third"]


def test_missing_extras_and_a_gpu_that_paddle_does_not_find_are_named(tmp_path, monkeypatch):
    lines = ["numpy>=1", 'no-such-thing>=2; extra == "video"', "numpy; extra == 'data'"]
    monkeypatch.setattr(machine.importlib.metadata, "requires", lambda name: lines)
    facts = machine.machine(tmp_path)
    assert facts["missing extras"] == {"video": ["no-such-thing"]}
    assert facts["gpu"] is None
    monkeypatch.setattr(machine.paddle, "is_compiled_with_cuda", lambda: True)
    assert machine.advice(facts)[0].startswith("Paddle is built for GPUs and finds none; look at the driver")
    facts |= {"gpu": {"compute capability": "7.5"}, "disk": {"free GB": 3.0}}
    assert machine.advice(facts) == [
        "this GPU has neither bfloat16 nor flash attention; use float16",
        "3.0 GB of disk are free; a run of GOT keeps about 20",
    ]


def test_facts_alone_run_no_check(tmp_path, monkeypatch):
    monkeypatch.setattr(selftest, "run_all", lambda listed: pytest.fail("ran") if listed else ())
    assert main(["--facts", "--threads", "1", "--folder", str(tmp_path)]) == 0
    assert checks.PASSED not in (tmp_path / report.JSON_FILE).read_text(encoding="utf-8")
