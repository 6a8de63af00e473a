"""Runs that report to trackers, each in its offline mode: what is in their files, read by other means."""

import json
import os
import struct

import numpy as np
import pytest

from got_train.config.loader import load_config
from got_train.errors import ConfigError, RequirementError
from got_train.training import trackers
from got_train.training.run import train

PREFIXES = ("WANDB_", "SWANLAB_", "MLFLOW_")


@pytest.fixture
def reported(tiny_run, tmp_path, monkeypatch):
    """A function: a run of 4 steps that reports to a tracker and validates twice; its folder.

    It works outside of any git repository, whose state trackers ask for and write down.
    """

    def run(name):
        pytest.importorskip(trackers.PACKAGES[name])
        for variable in [variable for variable in os.environ if variable.startswith(PREFIXES)]:
            monkeypatch.delenv(variable)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.resolve().parent))
        monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
        monkeypatch.setenv("HOME", str(tmp_path))
        data = (tmp_path / "data.jsonl", tmp_path / "few.jsonl")
        overrides = [f"train.report_to=[{name}]", "train.max_steps=4", "train.eval_steps=2"]
        config = tiny_run()
        data[1].write_text("".join(data[0].read_text().splitlines(keepends=True)[:3]))
        overrides += [
            f"data.validation={data[1]}",
            "train.preview_samples=1",
            "train.preview_max_new_tokens=4",
        ]
        train(load_config(config, overrides))
        return tmp_path / "run"

    return run


def tensorboard_events(folder):
    from tensorboardX.proto.event_pb2 import Event

    (file,) = folder.glob("events.*")
    data, place = file.read_bytes(), 0
    while place < len(data):
        (length,) = struct.unpack_from("<Q", data, place)
        yield Event.FromString(data[place + 12 : place + 12 + length])
        place += length + 16


def test_tensorboard_has_scalars_pictures_texts_config_and_the_last_values(reported):
    folder = reported("tensorboard")
    values = [(event.step, value) for event in tensorboard_events(folder / "tensorboard")
              for value in event.summary.value]  # fmt: skip
    losses = {step: value.simple_value for step, value in values if value.tag == "train/loss"}
    assert sorted(losses) == [1, 2, 3, 4] and all(1 < loss < 10 for loss in losses.values())
    assert {step for step, value in values if value.tag == "train/validation_loss"} == {2, 4}
    (picture,) = [value.image for _, value in values if value.tag == "picture/0"]
    assert picture.encoded_image_string[:4] == b"\x89PNG" and picture.height == 32
    texts = {(value.tag.split("/text")[0], step): value.tensor.string_val[0].decode()
             for step, value in values if value.tensor.string_val}  # fmt: skip
    assert texts["answer/0", 2].startswith("truth: ")
    assert '"max_steps": 4' in texts["config", 0]
    assert "| validation_loss |" in texts["last values", 4]


def wandb_records(file):
    """Records of W&B's file: those of a LevelDB log, after a head of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, record = file.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:  # the rest of a block is padding
            place += 32768 - place % 32768
            continue
        length, kind = struct.unpack_from("<HB", data, place + 4)
        record += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # full, or the last part
            yield Record.FromString(record)
            record = b""


def test_wandb_offline_keeps_what_it_would_send(reported):
    folder = reported("wandb")
    (file,) = (folder / "wandb").glob("offline-run-*/run-*.wandb")
    losses, keys, config = {}, set(), {}
    for record in wandb_records(file):
        assert not record.run.git.commit and not record.run.git.remote_url
        items = {item.key or item.nested_key[0]: item.value_json for item in record.history.item}
        keys |= items.keys()
        if "train/loss" in items:
            losses[int(items["_step"])] = json.loads(items["train/loss"])
        config |= {item.key: item.value_json for item in record.run.config.update}
    assert sorted(losses) == [1, 2, 3, 4] and all(1 < loss < 10 for loss in losses.values())
    assert {"train/validation_loss", "picture/0", "answer/0", "last values"} <= keys, keys
    assert json.loads(config["train"])["max_steps"] == 4
    assert list((folder / "wandb").glob("offline-run-*/files/media/images/**/*.png"))


def test_swanlab_offline_keeps_what_it_would_send(reported):
    folder = reported("swanlab")
    (file,) = (folder / "swanlab").glob("run-*/*.swanlab")
    data = file.read_bytes()
    for name in (b"train/loss", b"train/validation_loss", b"picture/0", b"answer/0", b"last values"):
        assert name in data, name
    texts = [path.read_text() for path in (folder / "swanlab").glob("run-*/media/text/**/*.txt")]
    assert any(text.startswith("truth: ") for text in texts)
    assert any("| validation_loss |" in text for text in texts)
    assert list((folder / "swanlab").glob("run-*/media/image/**/*.png"))
    (settings,) = (folder / "swanlab").glob("run-*/files/config.yaml")
    assert "max_steps" in settings.read_text()


def test_mlflow_writes_into_the_runs_folder(reported):
    folder = reported("mlflow")
    (losses,) = (folder / "mlruns").glob("*/*/metrics/train/loss")
    rows = [line.split() for line in losses.read_text().splitlines()]
    assert [int(step) for _, _, step in rows] == [1, 2, 3, 4]
    assert all(1 < float(value) < 10 for _, value, _ in rows)
    artifacts = losses.parents[2] / "artifacts"
    assert json.loads((artifacts / "config.json").read_text())["train"]["max_steps"] == 4
    assert (artifacts / "answer" / "0" / "2.md").read_text().startswith("truth: ")
    assert "| validation_loss |" in (artifacts / "last values" / "4.md").read_text()
    assert (artifacts / "picture" / "0" / "0.png").read_bytes()[:4] == b"\x89PNG"


class Heard:
    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        return lambda *given: self.calls.append((name, *given))


def test_what_is_written_goes_to_visualdl_and_to_every_tracker():
    writer, first, second = Heard(), Heard(), Heard()
    made = trackers.Writers(writer, type("Open", (), {"open": [first, second]}))
    image = np.zeros((2, 2, 3), np.uint8)
    made.add_scalar("a/b", 1.5, 3)
    made.add_image("p", image, 0)
    made.add_text("t", "x", 1)
    made.close()
    more = [("add_image", "p", image, 0), ("add_text", "t", "x", 1)]
    assert writer.calls == [("add_scalar", "a/b", 1.5, 3), *more, ("close",)]
    expected = [("add_scalars", {"a/b": 1.5}, 3), *more]
    assert first.calls == second.calls == expected


def test_a_run_and_what_goes_on_from_it_have_one_name_and_another_folder_has_another(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
    first, again, other = (trackers._run_id(tmp_path / name) for name in "aab")
    assert first == again != other


def test_a_tracker_that_is_absent_or_unknown_stops_before_the_run(tiny_run, monkeypatch):
    monkeypatch.setitem(trackers.PACKAGES, "wandb", "no_such_package")
    config = load_config(tiny_run(), ["train.report_to=[wandb]"])
    with pytest.raises(
        RequirementError, match="^train.report_to wandb: no_such_package is not installed; use pip"
    ):
        trackers.Trackers(config)
    with pytest.raises(ConfigError, match="train.report_to"):
        load_config(tiny_run(), ["train.report_to=[comet]"])


def test_the_last_values_are_the_last_of_each_name():
    history = [
        {"step": 1, "loss": 3.0},
        {"step": 2, "loss": 2.0},
        {"step": 2, "validation_loss": 2.5, "x": "no"},
    ]
    lines = trackers.last_values(history).splitlines()
    assert lines[2:] == ["| step | 2 |", "| loss | 2 |", "| validation_loss | 2.5 |"]
