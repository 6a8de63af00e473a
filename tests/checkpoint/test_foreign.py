"""Folders of other programs that hold no whole model are named as what they are, with the way to one."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from got_train.checkpoint.adapters import read_adapter
from got_train.checkpoint.convert import convert
from got_train.checkpoint.foreign import refuse_foreign
from got_train.checkpoint.merge import merge
from got_train.checkpoint.weights import WeightFile
from got_train.config.schema import ModelConfig
from got_train.errors import CheckpointError
from got_train.inference.reader import load_pipeline
from got_train.tokenizer import load_tokenizer
from got_train.training.sources import find_tokenizer

ROOT = Path(__file__).resolve().parents[2]
FIELD, NANO = ROOT / "tests/fixtures/field", ROOT / "configs/nano/weights/stage3"
PEFT = r"a PEFT adapter \(LORA\) of \"GOT_weights\", not one of got_train; merge it into its base first"


@pytest.mark.parametrize("tokenizer", [False, True])
def test_a_peft_adapter_is_named_wherever_it_is_given(tmp_path, tokenizer):
    """Re-created from public reports: what ms-swift and LLaMA-Factory leave behind a LoRA run."""
    folder = Path(shutil.copytree(FIELD / "C02", tmp_path / "tuned"))
    if tokenizer:  # as trainers save it beside their adapter
        load_tokenizer(NANO).save(folder)
    for refused in (
        lambda: WeightFile(folder),
        lambda: read_adapter(folder),
        lambda: load_pipeline(folder),
        lambda: load_pipeline(NANO, adapter=folder),
        lambda: find_tokenizer(ModelConfig(init_from=str(folder))),
        lambda: convert(folder, tmp_path / "converted", "transformers"),
        lambda: merge(folder, tmp_path / "merged"),
    ):
        with pytest.raises(CheckpointError, match=PEFT):
            refused()
    with pytest.raises(CheckpointError, match="a PEFT adapter .*, not a whole model; merge it"):
        WeightFile(folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").rename(tmp_path / "elsewhere.json")
    with pytest.raises(CheckpointError, match="a PEFT adapter, not one of got_train; merge it into its base"):
        WeightFile(folder)


@pytest.mark.parametrize(
    ("file", "named"),
    [
        ("lora_config.json", "a LoRA adapter of PaddleNLP"),
        ("lora_model_state.pdparams", "a LoRA adapter of PaddleNLP"),
        ("checkpoint-20/config.json", "a folder of checkpoints; use one of them, such as .*checkpoint-20"),
        ("got-q4.gguf", r"llama.cpp \(GGUF\)"),
        ("model.onnx", "an exported graph"),
        ("zero_to_fp32.py", "a checkpoint of DeepSpeed; run its zero_to_fp32.py"),
        ("adapter_model.bin", "a PEFT adapter, not one of got_train"),
    ],
)
def test_folders_of_other_programs_are_named(tmp_path, file, named):
    for path in (tmp_path / "f" / file, tmp_path / "f/checkpoint-3/config.json"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    if "checkpoint" not in file:
        shutil.rmtree(tmp_path / "f/checkpoint-3")
    with pytest.raises(CheckpointError, match=named):
        refuse_foreign(tmp_path / "f")
    (tmp_path / "f/model.safetensors").touch()  # beside which nothing else matters
    refuse_foreign(tmp_path / "f")


def test_the_name_of_a_model_on_a_hub_is_told_how_it_is_downloaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "stepfun-ai/GOT-OCR2_0"
    for refused in (
        lambda: load_pipeline(name),
        lambda: find_tokenizer(ModelConfig(init_from=name)),
        lambda: convert(Path(name), tmp_path / "converted", "transformers"),
    ):
        with pytest.raises(CheckpointError, match=f"{name}: no such folder, .*hf download {name} --local"):
            refused()
    Path("runs").mkdir()  # of which a model may well be missing
    refuse_foreign("runs/mine")
    refuse_foreign("../stepfun-ai/GOT-OCR2_0")


@pytest.mark.parametrize(
    ("kind", "name", "named"),
    [
        ("GOT", "base_model.model.x.lora_A.weight", "a PEFT adapter, not a whole model"),
        ("qwen2", "model.layers.0.q_proj.qweight", r"quantized weights \(GPTQ, AWQ"),
        ("GOT", "model.layers.0.q_proj.weight.absmax", "quantized weights"),
        ("qwen2_vl", "visual.patch_embed.proj.weight", "a model of type 'qwen2_vl'; expected GOT's weights"),
        (
            "vision-encoder-decoder",
            "encoder.embeddings.cls_token",
            "a model of type 'vision-encoder-decoder'",
        ),
    ],
)
def test_whole_models_of_another_kind_are_named_before_a_tokenizer_is_missed(tmp_path, kind, name, named):
    save_file({name: np.zeros((2, 2), np.float32)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(CheckpointError, match=named):
        load_pipeline(tmp_path)


def test_what_git_left_in_the_place_of_large_files_is_named(tmp_path):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1432121416\n"
    for name in ("model.safetensors", "qwen.tiktoken"):
        (tmp_path / name).write_text(pointer)
    with pytest.raises(CheckpointError, match="model.safetensors: a pointer of Git LFS .*git lfs pull"):
        load_pipeline(tmp_path)
