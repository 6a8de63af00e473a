"""Files of safetensors and of PyTorch: what is read, and what is refused by its name."""

import json
import os

import numpy as np
import pytest
from safetensors.numpy import save_file

from got_train.checkpoint.tensor_io import tensor_entries
from got_train.errors import CheckpointError


@pytest.fixture
def arrays_made():
    generator = np.random.default_rng(0)
    return {
        "one": generator.normal(size=[3, 5]).astype("float32"),
        "odd": generator.normal(size=[7]).astype("float16"),  # leaves what follows at an odd place
        "two": generator.normal(size=[2, 2, 2]).astype("float64"),
        "number": np.array(4, "float32"),
    }


def equal(found, expected):
    return found.keys() == expected.keys() and all(
        stored.shape == list(expected[name].shape) and (stored.read() == expected[name]).all()
        for name, stored in found.items()
    )


def test_safetensors_are_read_one_at_a_time_in_their_own_types(tmp_path, arrays_made):
    save_file(arrays_made, str(tmp_path / "model.safetensors"))
    found = tensor_entries(tmp_path)
    assert equal(found, arrays_made)
    assert [found[name].dtype for name in ("one", "odd", "two")] == ["float32", "float16", "float64"]
    assert [found[name].size for name in ("one", "odd", "two")] == [15, 7, 8]


def test_bfloat16_is_widened_without_a_change(tmp_path):
    import paddle
    from safetensors.paddle import save_file as save_paddle

    values = paddle.to_tensor([1.0, -2.5, 3.1415927, 1e-30, 6e37]).astype("bfloat16")
    save_paddle({"x": values}, str(tmp_path / "x.safetensors"))
    stored = tensor_entries(tmp_path / "x.safetensors")["x"]
    assert (stored.dtype, stored.read().dtype) == ("bfloat16", np.float32)
    assert (stored.read() == values.astype("float32").numpy()).all()


def test_a_pth_is_read_with_turned_tensors_and_halves_and_without_what_is_no_tensor(tmp_path, write_pth):
    turned = np.asfortranarray(np.arange(12, dtype="float32").reshape(3, 4))
    state = {"turned": turned, "half": np.arange(5, dtype="float16"), "empty": np.zeros([0, 3], "float32")}
    write_pth(tmp_path / "weights.pth", {**state, "epoch": 3})
    assert equal(tensor_entries(tmp_path), state)
    write_pth(tmp_path / "weights.pth", {"model": state, "optimizer": {"step": np.arange(3)}})
    assert equal(tensor_entries(tmp_path), state)


def test_shards_are_those_of_the_index_and_one_file_goes_before_them(tmp_path, arrays_made):
    names = {"one": "a.safetensors", "odd": "b.safetensors"}
    for name, file in names.items():
        save_file({name: arrays_made[name]}, str(tmp_path / file))
    save_file({"stranger": np.zeros(3, "float32")}, str(tmp_path / "c.safetensors"))
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    assert equal(tensor_entries(tmp_path), {name: arrays_made[name] for name in names})
    save_file({"two": arrays_made["two"]}, str(tmp_path / "model.safetensors"))
    assert equal(tensor_entries(tmp_path), {"two": arrays_made["two"]})


def test_a_missing_shard_is_named(tmp_path):
    index = {"weight_map": {"one": "model-00001-of-00002.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(FileNotFoundError, match="model-00001-of-00002.safetensors: no such file of weights"):
        tensor_entries(tmp_path)


@pytest.mark.parametrize(
    "name", ["\ud800.safetensors", "../a.safetensors", "\u4e2d" * 86, "a\0", "..", "", 3]
)
def test_an_index_that_names_what_can_be_no_file_beside_it_is_refused(tmp_path, name):
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"one": name}}))
    with pytest.raises(CheckpointError, match=r"index.json: names .*; expected the names of files beside it"):
        tensor_entries(tmp_path)


def test_a_tensor_in_two_files_is_refused(tmp_path, arrays_made):
    for file in ("a", "b"):
        save_file({"one": arrays_made["one"]}, str(tmp_path / f"{file}.safetensors"))
    with pytest.raises(CheckpointError, match=r"b\.safetensors: one is in another file of "):
        tensor_entries(tmp_path)


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no \*\.safetensors, \*\.pth or pytorch_model\.bin"):
        tensor_entries(tmp_path)


def test_a_file_that_lacks_100_bytes_is_refused_by_name(tmp_path, arrays_made):
    file = tmp_path / "model.safetensors"
    save_file(arrays_made, str(file))
    size = file.stat().st_size
    os.truncate(file, size - 100)
    with pytest.raises(CheckpointError) as refused:
        tensor_entries(tmp_path)
    assert str(refused.value) == f"{file}: has {size - 100} bytes of {size}; it was not copied to its end"


@pytest.mark.parametrize("length", [0, 5, 100])
def test_a_file_cut_in_its_header_is_refused_by_name(tmp_path, arrays_made, length):
    save_file(arrays_made, str(tmp_path / "model.safetensors"))
    os.truncate(tmp_path / "model.safetensors", length)
    with pytest.raises(CheckpointError, match="model.safetensors: not a safetensors file, or cut"):
        tensor_entries(tmp_path)


def test_a_pointer_of_git_lfs_is_refused_by_name(tmp_path):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1596760\n"
    (tmp_path / "model.safetensors").write_text(pointer)
    with pytest.raises(CheckpointError, match="model.safetensors: not a safetensors file"):
        tensor_entries(tmp_path)


def test_a_header_that_promises_more_than_its_bytes_is_refused(tmp_path):
    header = json.dumps({"x": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}).encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(
        CheckpointError, match=r"model.safetensors: x: \[3\] of F32 take 12 bytes, and the file"
    ):
        tensor_entries(tmp_path)["x"].read()


@pytest.mark.parametrize("kind, name", [("safetensors", "I64"), ("pth", "LongStorage")])
def test_whole_numbers_are_no_weights(tmp_path, write_pth, kind, name):
    state, file = {"x": np.arange(3)}, tmp_path / f"model.{kind}"
    if kind == "pth":
        write_pth(file, state)
    else:
        save_file(state, str(file))
    with pytest.raises(
        CheckpointError, match=f"holds {name}; weights are float64, float32, float16, bfloat16"
    ):
        tensor_entries(file)["x"].read()


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("made_by_a_pickle",)


def test_a_pth_that_calls_a_function_is_refused_and_nothing_is_called(monkeypatch, tmp_path, write_pth):
    monkeypatch.chdir(tmp_path)
    write_pth(tmp_path / "bad.pth", {"model": {"image_encoder.pos_embed": Malicious()}})
    with pytest.raises(CheckpointError, match=r"bad\.pth: holds a posix\.mkdir; only tensors are read"):
        tensor_entries(tmp_path / "bad.pth")
    assert not (tmp_path / "made_by_a_pickle").exists()


@pytest.mark.parametrize("content", [b"", b"\x80\x02}q\x00.", b"PK\x03\x04"])
def test_a_pth_that_is_no_zip_is_refused_by_name(tmp_path, content):
    (tmp_path / "old.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"old\.pth: not a file of PyTorch 1\.6 or later, or cut off"):
        tensor_entries(tmp_path / "old.pth")


def test_a_pth_of_a_list_is_refused(tmp_path, write_pth):
    write_pth(tmp_path / "list.pth", [1, 2])
    with pytest.raises(CheckpointError, match="holds a list; expected a dictionary of tensors"):
        tensor_entries(tmp_path / "list.pth")
