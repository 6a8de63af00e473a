"""The converter: what it prints, that its done can be trusted, and what it refuses in one line."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from got_train.checkpoint import weights
from got_train.checkpoint.weights import WeightFile, load_model, save_model
from got_train.cli import convert
from got_train.tokenizer import load_tokenizer, train_tokenizer

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def untuned(monkeypatch):
    """The command would take all cores, for the tests that come after it too."""
    monkeypatch.setattr("got_train.cpu.settings.tune", lambda: 1)


def run(capsys, *arguments):
    """Exit code and lines of both streams."""
    try:
        code = convert.main([str(argument) for argument in arguments])
    except SystemExit as stopped:  # argparse
        code = stopped.code
    captured = capsys.readouterr()
    return code, captured.out.splitlines(), captured.err.splitlines()


def test_the_inventory_and_the_comparison_are_printed_and_done_comes_last(capsys, got_tiny, tmp_path):
    source, result = got_tiny / "original", tmp_path / "made"
    code, out, err = run(capsys, source, result, "--layout", "transformers")
    assert (code, err) == (0, [])
    assert out == [
        f"{source}: layout original, Linear weights [out, in], float32; beside them lm_head, a copy of the "
        "embedding",
        "  part       tensors    parameters",
        "  vision          67       255,168",
        "  projector        2         4,160",
        "  decoder         26       102,720",
        "  all             95       362,048",
        f"{result}: layout transformers, float32; no tokenizer beside the source",
        "read back: largest difference 0 in 36 x 540 logits",
        "done",
    ]


@pytest.mark.parametrize("before", convert.LAYOUTS)
@pytest.mark.parametrize("after", convert.LAYOUTS)
def test_every_layout_becomes_every_other_with_equal_logits(
    capsys, random_model, logits_of, tmp_path, before, after
):
    model = random_model()
    save_model(model, tmp_path / "source", before)
    code, out, _ = run(capsys, tmp_path / "source", tmp_path / "made", "--layout", after)
    assert (code, out[-1]) == (0, "done")
    assert WeightFile(tmp_path / "made").layout == after
    assert WeightFile(tmp_path / "made").transposed == (after == "paddlemix")
    assert (logits_of(load_model(tmp_path / "made")) == logits_of(model)).all()


def test_bfloat16_says_how_far_its_rounding_moves_the_logits(capsys, random_model, logits_of, tmp_path):
    model = random_model()
    exact = logits_of(model)
    save_model(model, tmp_path / "source")
    options = ["--layout", "transformers", "--dtype", "bfloat16"]
    code, out, _ = run(capsys, tmp_path / "source", tmp_path / "made", *options)
    assert code == 0
    moved = np.abs(logits_of(load_model(tmp_path / "made")) - exact).max()
    assert moved > 0
    largest = np.abs(exact).max()
    assert out[-3:] == [
        f"rounding to bfloat16 moves the probe's logits by up to {moved:.3g}; they reach {largest:.3g}",
        "read back: largest difference 0 in 36 x 40 logits",
        "done",
    ]
    assert {tensor.dtype for tensor in WeightFile(tmp_path / "made").tensors.values()} == {"bfloat16"}


def test_a_bfloat16_source_stays_bfloat16_and_loses_nothing_as_float32(capsys, random_model, tmp_path):
    save_model(random_model(), tmp_path / "source", dtype="bfloat16")
    for name, options in (("same", []), ("wide", ["--dtype", "float32"])):
        code, out, _ = run(capsys, tmp_path / "source", tmp_path / name, "--layout", "paddlemix", *options)
        assert (code, out[-1]) == (0, "done")
        assert not any(line.startswith("rounding") for line in out)
    stored = [WeightFile(tmp_path / name).tensors["projector.weight"] for name in ("same", "wide")]
    assert [tensor.dtype for tensor in stored] == ["bfloat16", "float32"]
    assert (stored[0].read() == stored[1].read()).all()


def test_the_tokenizer_goes_along_in_the_files_of_the_layout(capsys, random_model, tmp_path):
    tokenizer = train_tokenizer(["pages and pages of text about pages"] * 9, 270)
    save_model(random_model(), tmp_path / "source", tokenizer=tokenizer)
    run(capsys, tmp_path / "source", tmp_path / "hf", "--layout", "transformers")
    run(capsys, tmp_path / "hf", tmp_path / "back", "--layout", "original")
    assert (tmp_path / "hf" / "tokenizer.json").exists() and (tmp_path / "back" / "qwen.tiktoken").exists()
    for name in ("hf", "back"):
        assert load_tokenizer(tmp_path / name).encode("pages of it") == tokenizer.encode("pages of it")


def test_a_result_that_computes_otherwise_is_not_done(monkeypatch, capsys, got_tiny, tmp_path):
    write = weights.save_tensors

    def spoiled(tensors, path, metadata):
        name = "multi_modal_projector.multimodal_projector.weight"  # square, so that no shape tells
        write({**tensors, name: tensors[name].t().contiguous()}, path, metadata)

    monkeypatch.setattr(weights, "save_tensors", spoiled)
    code, out, err = run(capsys, got_tiny, tmp_path / "made", "--layout", "transformers")
    assert (code, out[-1] == "done") == (2, False)
    assert err == [f"convert: {tmp_path / 'made'}: does not compute what {got_tiny} does; do not use it"]


@pytest.mark.parametrize(
    "result, message",
    [
        (".", "is or holds the source; give another folder"),
        ("..", "is or holds the source; give another folder"),
        ("../link", "is or holds the source; give another folder"),
        ("../full", "exists and is not an empty folder; give a new one"),
        ("../full/file", "exists and is not an empty folder; give a new one"),
    ],
)
def test_nothing_is_written_over(capsys, got_tiny, tmp_path, result, message):
    source = tmp_path / "source"
    shutil.copytree(got_tiny / "original", source)
    (tmp_path / "link").symlink_to(source)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    code, out, err = run(capsys, source, source / result, "--layout", "paddlemix")
    assert (code, out) == (2, [])
    assert err == [f"convert: {source / result}: {message}"]
    assert sorted(tmp_path.rglob("*")) == before


def test_a_source_behind_a_link_is_not_written_over(capsys, got_tiny, tmp_path):
    shutil.copytree(got_tiny / "original", tmp_path / "source")
    (tmp_path / "link").symlink_to(tmp_path / "source")
    code, _, err = run(capsys, tmp_path / "link", tmp_path / "source", "--layout", "paddlemix")
    assert (code, len(err)) == (2, 1) and "is or holds the source" in err[0]


def test_a_file_is_not_written_over_by_its_own_folder(capsys, got_tiny, tmp_path):
    shutil.copytree(got_tiny / "original", tmp_path / "source")
    file = tmp_path / "source" / "model.safetensors"
    code, _, err = run(capsys, file, tmp_path / "source", "--layout", "paddlemix")
    assert (code, len(err)) == (2, 1) and "is or holds the source" in err[0]
    assert run(capsys, file, tmp_path / "made", "--layout", "paddlemix")[0] == 0


def spoil_config(folder):
    (folder / "config.json").write_text("{")


def spoil_weights(folder):
    (folder / "model.safetensors").write_bytes(b"oh")


def spoil_tokenizer(folder):
    (folder / "qwen.tiktoken").write_text("not base64\n")


@pytest.mark.parametrize(
    "spoil, message",
    [
        (spoil_config, "config.json: invalid JSON (Expecting property name"),
        (spoil_weights, "model.safetensors: not a safetensors file, or cut off"),
        (spoil_tokenizer, "qwen.tiktoken:1: expected base64 and a rank"),
        (lambda folder: (folder / "config.json").unlink(), "source: no config.json"),
        (lambda folder: (folder / "model.safetensors").unlink(), "source: no *.safetensors"),
        (shutil.rmtree, "source: no such folder or file"),
    ],
)
def test_a_wrong_source_is_one_line_and_exit_code_2(capsys, got_tiny, tmp_path, spoil, message):
    shutil.copytree(got_tiny / "original", tmp_path / "source")
    spoil(tmp_path / "source")
    code, _, err = run(capsys, tmp_path / "source", tmp_path / "made", "--layout", "paddlemix")
    assert (code, len(err)) == (2, 1)
    assert err[0].startswith("convert: ") and message in err[0]
    assert not (tmp_path / "made").exists()


def test_stage_1_has_no_other_layout(capsys, random_model, tmp_path):
    save_model(random_model("opt"), tmp_path / "source")
    code, _, err = run(capsys, tmp_path / "source", tmp_path / "made", "--layout", "original")
    assert (code, err) == (2, ["convert: layout must be one of vary; got 'original'"])


@pytest.mark.parametrize("options", [[], ["--layout", "vary"], ["--layout", "original", "--dtype", "int8"]])
def test_options_outside_the_list_are_exit_code_2(capsys, got_tiny, tmp_path, options):
    assert run(capsys, got_tiny, tmp_path / "made", *options)[0] == 2


def test_help_comes_without_paddle():
    code = (
        "import sys; from got_train.cli import convert\n"
        "try: convert.main(['--help'])\n"
        "except SystemExit: print({'paddle', 'numpy', 'paddlenlp'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage:") and done.stdout.splitlines()[-1] == "set()"


def test_the_result_of_transformers_layout_names_its_image_size_and_end_tokens(
    capsys, random_model, tmp_path
):
    save_model(random_model(), tmp_path / "source")
    run(capsys, tmp_path / "source", tmp_path / "made", "--layout", "transformers")
    read = {
        name: json.loads((tmp_path / "made" / f"{name}.json").read_text())
        for name in ("preprocessor_config", "generation_config")
    }
    assert read["preprocessor_config"]["size"] == {"height": 64, "width": 64}
    assert read["generation_config"] == {"eos_token_id": [1, 0], "pad_token_id": 0}
