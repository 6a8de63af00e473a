"""Weights of checkpoint folders: read from every layout, written in each. Transposes happen here alone.

A layout is told by its names, the orientation of its Linear weights by their shapes; never by a flag.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
import paddle

from got_train.atomic_write import sync_folder, sync_tree
from got_train.errors import CheckpointError
from got_train.modeling.config import GotConfig
from got_train.modeling.got import MEAN, STD, Got
from got_train.modeling.int8 import quantize
from got_train.modeling.layers import linear_names

from . import layouts
from .foreign import refuse_adapter_names, refuse_foreign
from .hf_config import check_decoder, config_json, read_config
from .int8 import SCALE, split_int8
from .tensor_io import TensorEntry, save_tensors, tensor_entries

SHARD_BYTES = 5 << 30
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "model-*.safetensors")
_TOKENIZERS = ("qwen.tiktoken", "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt")


class WeightFile:
    """The tensors of one folder or file under our names, read one at a time."""

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        if (self.path / "adapter.json").is_file():
            raise CheckpointError(f"{self.path}: an adapter, not a whole model; got merge makes one of it")
        refuse_foreign(self.path)
        stored, self.int8 = split_int8(self._by_canonical_name(), self.path)
        self.layout = layouts.detect(list(stored))
        if self.layout is None:
            refuse_adapter_names(self.path, stored)
            some = ", ".join(sorted(stored)[:3]) or "none at all"
            raise CheckpointError(
                f"{self.path}: no known layout has names like {some}; known are GOT's original, "
                "transformers' and PaddleMIX's, Vary-tiny's of stage 1, SAM's, Qwen's and OPT's"
            )
        heads = [name for name in (layouts.LM_HEAD_KEYS.get(self.layout), "lm_head.weight") if name in stored]
        self.head: TensorEntry | None = stored.pop(heads[0]) if heads else None  # beside the tied embedding
        named = {name: layouts.to_ours(name, self.layout) for name in stored}
        self.extra = [name for name, ours in named.items() if ours is None]
        self.tensors = {ours: stored[name] for name, ours in named.items() if ours is not None}
        self.transposed = self._is_transposed()
        self.int8 = {ours: self.int8[name] for name, ours in named.items() if name in self.int8 and ours}

    @property
    def folder(self) -> Path:
        return self.path if self.path.is_dir() else self.path.parent

    def names(self, prefix: str = "") -> list[str]:
        return [name for name in self.tensors if name.startswith(prefix)]

    def shapes(self) -> dict[str, list[int]]:
        return {name: tensor.shape for name, tensor in self.tensors.items()}

    def shape(self, name: str, linear: bool) -> list[int]:
        """In Paddle's orientation: Linear weights are [in, out]."""
        shape = self.tensors[name].shape
        return shape[::-1] if linear and not self.transposed else shape

    def read(self, name: str, linear: bool = False) -> paddle.Tensor:
        tensor = paddle.to_tensor(self.tensors[name].read())
        return tensor.t() if linear and not self.transposed else tensor

    def cut(self, name: str, rows: int) -> None:
        """Forget the rows of a tensor from `rows` on."""
        whole = self.tensors[name]
        self.tensors[name] = TensorEntry([rows, *whole.shape[1:]], whole.dtype, lambda: whole.read()[:rows])

    def check_head(self, embedding: str) -> None:
        """Refuse a separate output matrix that is not the embedding, for GOT's are one."""
        if self.head is None or embedding not in self.tensors:
            return
        words, head = self.tensors[embedding].read(), self.head.read()
        if head.shape != words.shape:
            head = head.T  # [width, vocabulary], as Paddle has an untied one
        if head.shape != words.shape:
            raise CheckpointError(f"{self.path}: lm_head is {self.head.shape}, the embedding {words.shape}")
        if not np.array_equal(head, words):
            difference = np.abs(head.astype("float32") - words).max()
            raise CheckpointError(
                f"{self.path}: lm_head differs from the embedding by up to {difference:.3g}; GOT's are tied "
                "and equal"
            )

    def _by_canonical_name(self) -> dict[str, TensorEntry]:
        entries: dict[str, TensorEntry] = {}
        for name, tensor in tensor_entries(self.path).items():
            canonical = layouts.canonical(name)
            if canonical in entries:
                raise CheckpointError(f"{self.path}: {canonical} is there twice, once as {name}")
            entries[canonical] = tensor
        return entries

    def _is_transposed(self) -> bool:
        """Whether Linear weights are [in, out]: most have the width of the norm before them in first place.

        Square ones tell nothing, but every encoder has its qkv, every decoder an MLP.
        """
        votes = []
        for weight, norm in _NORM_BEFORE:
            for name in self.tensors:
                width = self.tensors.get(name.removesuffix(weight) + norm)
                shape = self.tensors[name].shape
                if name.endswith(weight) and width and len(set(shape)) == 2:
                    votes += [shape[0] == width.shape[0]]
        return sum(votes) > len(votes) / 2


_NORM_BEFORE = [
    ("attn.qkv.weight", "norm1.weight"),
    ("mlp.lin1.weight", "norm2.weight"),
    ("self_attn.k_proj.weight", "input_layernorm.weight"),
    ("mlp.gate_proj.weight", "post_attention_layernorm.weight"),
    ("mlp.up_proj.weight", "post_attention_layernorm.weight"),
    ("linear1.weight", "norm2.weight"),
]


def load_model(folder: str | os.PathLike, dtype: str = "float32", keep_int8: bool = False) -> Got:
    """The GOT model of a checkpoint folder in any layout (original, transformers, PaddleMIX, stage 1).

    A decoder in int8 becomes one of `dtype`, or with `keep_int8` stays so, for reading on a CPU.
    """
    _check_dtype(dtype)
    source = WeightFile(folder)
    if source.layout not in layouts.LAYOUTS:
        raise CheckpointError(f"{folder}: these are weights of {source.layout} alone, not of a whole GOT")
    config = read_config(source.folder, source.shapes())
    check_size(config, source)
    with empty_init(dtype):
        model = Got(config)
    source.check_head(_embedding(model))
    if keep_int8 and source.int8:
        take_int8(model, source)
    load_state_dict(model, source)
    return model.eval()


def take_int8(model: Got, source: WeightFile) -> None:
    """Have the decoder hold what the file has in int8, which is not to be read again."""
    from got_train.modeling.cpu.int8_decoder import quantize_decoder

    prefix, stored = "decoder.", {}
    for name, (rows, scale) in source.int8.items():
        stored[name.removeprefix(prefix)] = (rows.read(), scale.read())
        del source.tensors[name]
    quantize_decoder(model.decoder, stored)


def check_size(config: GotConfig, source: WeightFile) -> None:
    """Refuse sizes for which the file has not the numbers, before any memory is asked for."""
    numbers = sum(tensor.size for tensor in source.tensors.values())
    if config.least_parameters > numbers:
        raise CheckpointError(
            f"{source.folder / 'config.json'}: its sizes need {config.least_parameters:,} numbers or more; "
            f"the weights beside it have {numbers:,}"
        )


def load_weights(model: Got, folder: str | os.PathLike) -> None:
    """Fill a model of the same sizes from a checkpoint folder."""
    load_state_dict(model, WeightFile(folder))


def load_vision(model: Got, path: str | os.PathLike) -> list[str]:
    """Fill the encoder from any GOT or stage-1 checkpoint, or from SAM ViT-B; returns the names left out.

    SAM has no net_2 and net_3, all others have everything.
    """
    source = WeightFile(path)
    if not source.names("vision."):
        raise CheckpointError(f"{path}: no encoder among these weights of {source.layout}")
    absent = ["vision.net_2.weight", "vision.net_3.weight"] if source.layout in layouts.ENCODERS else []
    load_state_dict(model, source, "vision.", absent)
    return absent


def load_decoder(model: Got, path: str | os.PathLike) -> None:
    """Fill the decoder from Qwen1.5-0.5B's or OPT's own folder, or from a GOT checkpoint.

    Surplus rows of the embedding are dropped: Qwen's file has 151,936, GOT's vocabulary 151,860.
    """
    source, embedding = WeightFile(path), _embedding(model)
    if not source.names("decoder."):
        raise CheckpointError(f"{path}: no decoder among these weights of {source.layout}")
    check_decoder(source.folder, model.config.decoder)
    source.check_head(embedding)
    if embedding in source.tensors and source.tensors[embedding].shape[0] > model.config.decoder.vocab_size:
        source.cut(embedding, model.config.decoder.vocab_size)
    load_state_dict(model, source, "decoder.")


def load_state_dict(
    model: Got, source: WeightFile, prefix: str = "", absent: list[str] | None = None
) -> None:
    """Copy tensors into the parameters below `prefix`, or refuse and name all that do not fit."""
    linears = linear_names(model)
    parameters = {name: value for name, value in model.named_parameters() if name.startswith(prefix)}
    parameters = {name: value for name, value in parameters.items() if name not in (absent or [])}
    faults = [f"missing: {name}" for name in parameters if name not in source.tensors]
    strangers = [name for name in source.names(prefix) if name not in parameters]
    faults += [f"not of this model: {name}" for name in strangers + ([] if prefix else source.extra)]
    for name in parameters.keys() & source.tensors.keys():
        needed, shape = list(parameters[name].shape), source.shape(name, name in linears)
        if shape != needed:
            faults.append(f"{name}: the file has {shape}, the model {needed}")
    if faults:
        raise CheckpointError(
            "\n  ".join([f"{source.path}: {len(faults)} weights do not fit the model:", *sorted(faults)])
        )
    for name, parameter in parameters.items():
        parameter.set_value(source.read(name, name in linears).astype(parameter.dtype))


def _embedding(model: Got) -> str:
    return next(name for name, value in model.named_parameters() if value is model.decoder.head)


def _check_dtype(dtype: str) -> None:
    if dtype not in ("float32", "bfloat16", "float16"):
        raise CheckpointError(f"dtype must be float32, bfloat16 or float16; got {dtype!r}")
    if dtype != "float32" and paddle.get_device() == "cpu":
        raise CheckpointError(f"dtype {dtype}: Paddle has no {dtype} kernels on the CPU; use float32")


@contextlib.contextmanager
def empty_init(dtype: str) -> Iterator[None]:
    """Parameters made here are `dtype` and hold nothing: drawing 560 million takes longer than reading."""
    from paddlenlp.transformers.model_utils import no_init_weights

    before = paddle.get_default_dtype()
    paddle.set_default_dtype(dtype)
    try:
        with paddle.LazyGuard(), no_init_weights():
            yield
    finally:
        paddle.set_default_dtype(before)


def save_model(
    model: Got,
    folder: str | os.PathLike,
    layout: str | None = None,
    dtype: str | None = None,
    tokenizer: object | None = None,
    int8: bool = False,
) -> None:
    """Write weights and config.json in `layout`, with the tokenizer's files beside them.

    A stage-1 model (OPT) has one layout, "vary"; others are written in "original" where nothing is said, as
    the dtype is the parameters' own. All is made beside the folder first: a killed save changes nothing.
    With `int8` the decoder's matrices are rounded, see int8_matrices.
    """
    allowed = ("vary",) if model.config.decoder.kind == "opt" else ("original", "transformers", "paddlemix")
    layout = layout or allowed[0]
    if layout not in allowed:
        raise CheckpointError(f"layout must be one of {', '.join(allowed)}; got {layout!r}")
    if layout == "transformers" and model.config.vision.out_width != model.config.decoder.width:
        raise CheckpointError(
            f"layout transformers: vision.out_width ({model.config.vision.out_width}) must be decoder.width "
            f"({model.config.decoder.width}) there; use original"
        )
    if int8 and layout == "paddlemix":
        raise CheckpointError("int8 with layout paddlemix: its matrices stand the other way; use original")
    dtype = dtype or str(model.projector.weight.dtype).split(".")[-1]
    folder = Path(folder).resolve()
    tmp_dir = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(tmp_dir, ignore_errors=True)
    tmp_dir.mkdir(parents=True)
    try:
        config = config_json(model.config, layout, dtype)
        if int8:
            config["quantization_config"] = {"quant_method": "got_train", "bits": 8, "scales": "row"}
        _write_json(tmp_dir / "config.json", config)
        _write_weights(model, tmp_dir, layout, dtype, int8_matrices(model) if int8 else frozenset())
        if layout == "transformers":
            _write_json(tmp_dir / "preprocessor_config.json", _preprocessor(model.config))
            _write_json(tmp_dir / "generation_config.json", _generation(model.config))
        if tokenizer is not None:
            (tokenizer.to_transformers if layout == "transformers" else tokenizer.save)(tmp_dir)
        sync_tree(tmp_dir)
        _commit(tmp_dir, folder, (*_WEIGHTS, *_TOKENIZERS) if tokenizer is not None else _WEIGHTS)
        sync_folder(folder)
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(tmp_dir, ignore_errors=True)  # on a full disk its half would stay in the way


def _commit(tmp_dir: Path, folder: Path, replaced: tuple[str, ...]) -> None:
    """Put a complete folder in its place; into one that exists, so that what it holds besides stays.

    There the weights come last and in one rename: before it a reader finds the old ones, after it the new.
    (Old shards stay a moment longer; model.safetensors goes before them, and no two saves name theirs alike.)
    """
    if not folder.exists():
        tmp_dir.rename(folder)
        return
    new = sorted(tmp_dir.iterdir(), key=lambda file: file.name in _WEIGHTS[:2])
    for file in new:
        os.replace(file, folder / file.name)
    names = {file.name for file in new}
    for pattern in replaced:
        for old in folder.glob(pattern):
            if old.name not in names:
                old.unlink()
    tmp_dir.rmdir()


def _write_weights(model: Got, folder: Path, layout: str, dtype: str, int8: Collection[str]) -> None:
    """model.safetensors, or shards of 5 GB and their index."""
    metadata = {"format": "np" if layout == "paddlemix" else "pt"}  # PaddleNLP opens no others
    shards: list[dict] = [{}]
    room = SHARD_BYTES
    for name, tensor in _renamed(model, layout, dtype, int8):
        size = tensor.size * tensor.element_size()
        if shards[-1] and size > room:
            shards.append({})
            room = SHARD_BYTES
        shards[-1][name] = tensor
        room -= size
    if len(shards) == 1:
        save_tensors(shards[0], folder / "model.safetensors", metadata)
        return
    save, weight_map = secrets.token_hex(4), {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{save}-{number:05d}-of-{len(shards):05d}.safetensors"
        save_tensors(shard, folder / file, metadata)
        weight_map |= dict.fromkeys(shard, file)
    total = sum(tensor.size * tensor.element_size() for shard in shards for tensor in shard.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    _write_json(folder / "model.safetensors.index.json", index)


def int8_matrices(model: Got) -> set[str]:
    """The decoder's linear weights and word embeddings, which a token reads whole."""
    names = {name for name in linear_names(model) if name.startswith("decoder.")}
    return names | {_embedding(model)}


def _renamed(
    model: Got, layout: str, dtype: str, int8: Collection[str]
) -> Iterator[tuple[str, paddle.Tensor]]:
    linears = linear_names(model)
    for name, parameter in model.named_parameters():
        if name in int8:
            matrix = parameter.numpy()
            rows, scale = quantize(matrix.T if name in linears else matrix)
            yield layouts.to_theirs(name, layout), paddle.to_tensor(rows)
            yield layouts.to_theirs(name, layout) + SCALE, paddle.to_tensor(scale)
            continue
        tensor = parameter.detach().astype(dtype)
        turn = name in linears and layout != "paddlemix"
        yield layouts.to_theirs(name, layout), tensor.t().contiguous() if turn else tensor
    if layout == "original" and not int8:  # the released file holds the tied head a second time
        yield layouts.LM_HEAD_KEYS[layout], model.decoder.head.detach().astype(dtype).clone()


def _preprocessor(config: GotConfig) -> dict:
    side = config.vision.image_side
    return {
        "image_processor_type": "GotOcr2ImageProcessor",
        "processor_class": "GotOcr2Processor",
        "size": {"height": side, "width": side},
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "do_convert_rgb": True,
        "resample": 3,
        "rescale_factor": 1 / 255,
        "image_mean": list(MEAN),
        "image_std": list(STD),
    }


def _generation(config: GotConfig) -> dict:
    return {"eos_token_id": list(config.stop_tokens), "pad_token_id": config.pad_token}


def _write_json(path: Path, values: dict) -> None:
    path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
