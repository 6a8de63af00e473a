"""Weights of checkpoint folders: read from every layout, written in each. Transposes happen here and nowhere else.

A layout is told by its names, the orientation of its Linear weights by a non-square one; never by a flag.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import paddle
from paddle import nn

from . import layouts
from .config import GotConfig
from .config_files import config_json, read_config
from .got import Got

SHARD_BYTES = 5 << 30


class WeightsError(ValueError):
    """Weights that do not fit the model, or that nobody can read."""


class WeightFile:
    """The tensors of one folder or file under our names, [out, in] or [in, out] as stored, read one at a time."""

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self._sources = _tensors_of(self.path)  # canonical name -> (shape, loader)
        self.layout = layouts.detect(list(self._sources))
        if self.layout is None:
            some = ", ".join(sorted(self._sources)[:3])
            raise WeightsError(
                f"{self.path}: no known layout has names like {some}; known are GOT's original, transformers' and "
                "PaddleMIX's, Vary-tiny's stage 1, SAM's, Qwen's and OPT's"
            )
        self.head_name = layouts.canonical(layouts.HEADS.get(self.layout, "lm_head.weight"))
        self.extra: list[str] = []
        self._names: dict[str, str] = {}  # ours -> canonical
        for name in self._sources:
            ours = layouts.to_ours(name, self.layout)
            if ours is not None:
                self._names[ours] = name
            elif name not in (self.head_name, "lm_head.weight"):
                self.extra.append(name)
        self.transposed = self._is_transposed()

    def __contains__(self, ours: str) -> bool:
        return ours in self._names

    def names(self, prefix: str = "") -> list[str]:
        return [name for name in self._names if name.startswith(prefix)]

    def shapes(self) -> dict[str, list[int]]:
        return {ours: self._sources[name][0] for ours, name in self._names.items()}

    def read(self, ours: str, linear: bool = False) -> paddle.Tensor:
        """One tensor in Paddle's orientation (Linear weights are [in, out])."""
        tensor = self._sources[self._names[ours]][1]()
        return tensor.t() if linear and not self.transposed else tensor

    def read_head(self) -> paddle.Tensor | None:
        """The separate output matrix that most files hold beside the tied embedding."""
        for name in (self.head_name, "lm_head.weight"):
            if name in self._sources:
                return self._sources[name][1]()
        return None

    def _is_transposed(self) -> bool:
        """Whether Linear weights are [in, out], told by one whose input width a norm names and that is not square."""
        shapes = self.shapes()
        for weight, norm in _ORIENTATION:
            for ours, shape in shapes.items():
                if ours.endswith(weight) and shape[0] != shape[1]:
                    return shape[0] == shapes[ours.replace(weight, norm)][0]
        return False


# a Linear weight, and a vector beside it that has the width of its input
_ORIENTATION = [
    ("attn.qkv.weight", "norm1.weight"),
    ("mlp.gate_proj.weight", "input_layernorm.weight"),
    ("linear1.weight", "norm1.weight"),
]


def _tensors_of(path: Path) -> dict:
    tensors: dict = {}
    for file in _weight_files(path) if path.is_dir() else [path]:
        if not file.exists():
            raise FileNotFoundError(f"{file}: no such file of weights")
        for name, source in (_safetensors if file.suffix == ".safetensors" else _pickled)(file):
            tensors[layouts.canonical(name)] = source
    return tensors


def _weight_files(folder: Path) -> list[Path]:
    """model.safetensors, or its shards, or the only files of weights that the folder has."""
    if (folder / "model.safetensors").exists():
        return [folder / "model.safetensors"]
    index = folder / "model.safetensors.index.json"
    if index.exists():
        return sorted({folder / name for name in json.loads(index.read_text())["weight_map"].values()})
    for pattern in ("model-*.safetensors", "*.safetensors", "*.pth", "pytorch_model*.bin"):
        if files := sorted(folder.glob(pattern)):
            return files
    raise FileNotFoundError(f"{folder}: no *.safetensors, *.pth or pytorch_model.bin in this folder")


def _safetensors(file: Path) -> Iterator:
    from safetensors import SafetensorError, safe_open

    try:
        opened = safe_open(str(file), framework="paddle")
    except SafetensorError as error:
        raise WeightsError(f"{file}: not a readable safetensors file ({error})") from error
    for name in opened.keys():  # noqa: SIM118  (not a dict)
        yield name, (list(opened.get_slice(name).get_shape()), lambda name=name: _strided(opened.get_tensor, name))


def _strided(read: Callable, name: str) -> paddle.Tensor:
    """safetensors makes its tensors with a view, which Paddle's CPU only has among the stride kernels."""
    flag = "FLAGS_use_stride_kernel"
    before = paddle.get_flags(flag)
    paddle.set_flags({flag: True})
    try:
        return read(name)
    finally:
        paddle.set_flags(before)


def _pickled(file: Path) -> Iterator:
    """PyTorch's zip format, read by paddlenlp without torch; only tensors are unpickled."""
    from paddlenlp.utils.serialization import load_torch

    state = load_torch(str(file))
    state = state.get("model", state)  # Vary-tiny keeps its weights under "model"
    for name, tensor in state.items():
        yield name, (list(tensor.shape), lambda tensor=tensor: paddle.to_tensor(tensor))


def _linear_names(model: nn.Layer) -> set[str]:
    return {f"{name}.weight" for name, layer in model.named_sublayers() if isinstance(layer, nn.Linear)}


def _fill(model: Got, source: WeightFile, wanted: dict[str, paddle.Tensor], refuse_extra: bool) -> None:
    """Copy tensors into parameters; all missing, extra and mis-shaped names are listed in one refusal."""
    linears = _linear_names(model)
    faults = [f"missing: {name}" for name in wanted if name not in source]
    if refuse_extra:
        faults += [f"not of this model: {name}" for name in source.extra]
        faults += [f"not of this model: {name}" for name in source.names() if name not in wanted]
    shapes = source.shapes()
    for name, parameter in wanted.items():
        if name not in source:
            continue
        shape = shapes[name][::-1] if name in linears and not source.transposed else shapes[name]
        if list(parameter.shape) != list(shape):
            faults.append(f"{name}: the file has {list(shape)}, the model {list(parameter.shape)}")
    if faults:
        shown = "\n  ".join(faults[:40] + ([f"... and {len(faults) - 40} more"] if len(faults) > 40 else []))
        raise WeightsError(f"{source.path}: {len(faults)} weights do not fit the model:\n  {shown}")
    for name, parameter in wanted.items():
        parameter.set_value(source.read(name, name in linears).astype(parameter.dtype))


def _check_head(source: WeightFile, embedding: paddle.Tensor) -> None:
    head = source.read_head()
    if head is None:
        return
    if list(head.shape) == list(embedding.shape)[::-1] != list(embedding.shape):
        head = head.t()
    difference = float((head.astype("float32") - embedding.astype("float32")).abs().max())
    if difference > 0:
        raise WeightsError(
            f"{source.path}: lm_head differs from the embedding by up to {difference:.3g}; GOT's are tied and equal"
        )


def _checked_dtype(dtype: str) -> str:
    if dtype not in ("float32", "bfloat16", "float16"):
        raise WeightsError(f"dtype must be float32, bfloat16 or float16; got {dtype!r}")
    if dtype != "float32" and paddle.get_device() == "cpu":
        raise WeightsError(f"dtype {dtype}: Paddle has no {dtype} kernels on the CPU; use float32")
    return dtype


@contextlib.contextmanager
def _default_dtype(dtype: str) -> Iterator[None]:
    before = paddle.get_default_dtype()
    paddle.set_default_dtype(dtype)
    try:
        yield
    finally:
        paddle.set_default_dtype(before)


def load_model(folder: str | os.PathLike, dtype: str = "float32") -> Got:
    """The GOT model of a checkpoint folder in any layout (original, transformers, PaddleMIX, stage 1)."""
    dtype = _checked_dtype(dtype)
    source = WeightFile(folder)
    if source.layout not in layouts.LAYOUTS:
        raise WeightsError(f"{folder}: these are weights of {source.layout} alone; a whole GOT checkpoint is needed")
    shapes = source.shapes()
    if source.transposed:
        shapes = {name: shape[::-1] if len(shape) == 2 else shape for name, shape in shapes.items()}
        shapes |= {name: shape for name, shape in source.shapes().items() if "rel_pos" in name}
    with _default_dtype(dtype):
        model = Got(read_config(source.path if source.path.is_dir() else source.path.parent, shapes))
    _fill(model, source, dict(model.named_parameters()), refuse_extra=True)
    _check_head(source, model.decoder.head)
    return model.eval()


def fill_from(model: Got, folder: str | os.PathLike) -> None:
    """Fill a model of the same sizes from a checkpoint folder."""
    _fill(model, WeightFile(folder), dict(model.named_parameters()), refuse_extra=True)


def load_vision(model: Got, path: str | os.PathLike) -> list[str]:
    """Fill the encoder from any GOT or stage-1 checkpoint, or from SAM ViT-B; returns the names left at their start.

    SAM has no net_2 and net_3, all others have everything.
    """
    source = WeightFile(path)
    wanted = {name: value for name, value in model.named_parameters() if name.startswith("vision.")}
    if not source.names("vision."):
        raise WeightsError(f"{path}: no encoder among these weights of {source.layout}")
    absent = [name for name in wanted if ".net_" in name] if source.layout == "sam" else []
    _fill(model, source, {name: value for name, value in wanted.items() if name not in absent}, refuse_extra=False)
    return absent


def load_decoder(model: Got, path: str | os.PathLike) -> None:
    """Fill the decoder from Qwen1.5-0.5B's or OPT's own folder, or from a GOT checkpoint.

    Surplus rows of the embedding are dropped: Qwen's file has 151,936, GOT's vocabulary 151,860.
    """
    source = WeightFile(path)
    wanted = {name: value for name, value in model.named_parameters() if name.startswith("decoder.")}
    if not source.names("decoder."):
        raise WeightsError(f"{path}: no decoder among these weights of {source.layout}")
    embedding = next(name for name, value in wanted.items() if value is model.decoder.head)
    rows, needed = source.shapes().get(embedding, [0])[0], model.decoder.head.shape[0]
    if rows > needed:
        model.decoder.head.set_value(source.read(embedding)[:needed].astype(model.decoder.head.dtype))
        del wanted[embedding]
    _fill(model, source, wanted, refuse_extra=False)


def save_model(
    model: Got,
    folder: str | os.PathLike,
    layout: str = "original",
    dtype: str | None = None,
    tokenizer: object | None = None,
) -> None:
    """Write weights and config.json in `layout`, with the tokenizer's files beside them.

    The folder is made beside its place and renamed when it is complete; float32 is kept unless `dtype` says
    otherwise. A stage-1 model (OPT) has one layout, "vary".
    """
    config = model.config
    if config.decoder.kind == "opt" and layout == "original":
        layout = "vary"
    allowed = ("vary",) if config.decoder.kind == "opt" else ("original", "transformers", "paddlemix")
    if layout not in allowed:
        raise WeightsError(f"layout must be one of {', '.join(allowed)}; got {layout!r}")
    dtype = dtype or str(model.projector.weight.dtype).split(".")[-1]
    folder = Path(folder)
    beside = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    write_weights(model, beside, layout, dtype)
    if tokenizer is not None:
        (tokenizer.to_transformers if layout == "transformers" else tokenizer.save)(beside)
    if layout == "transformers":
        _write_json(beside / "preprocessor_config.json", _preprocessor(config))
        _write_json(beside / "generation_config.json", _generation(config))
    if folder.exists():
        for made in beside.iterdir():
            os.replace(made, folder / made.name)
        beside.rmdir()
    else:
        beside.rename(folder)


def write_weights(model: Got, folder: Path, layout: str, dtype: str) -> None:
    """model.safetensors (in shards of 5 GB) and config.json of `layout` into an existing folder."""
    from safetensors.paddle import save_file

    tensors = dict(_renamed(model, layout, dtype))
    shards: list[dict] = [{}]
    for name, tensor in tensors.items():
        if shards[-1] and sum(map(_bytes, shards[-1].values())) + _bytes(tensor) > SHARD_BYTES:
            shards.append({})
        shards[-1][name] = tensor
    if len(shards) == 1:
        save_file(shards[0], str(folder / "model.safetensors"), metadata={"format": "pt"})
    else:
        weight_map = {}
        for number, shard in enumerate(shards, 1):
            file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
            save_file(shard, str(folder / file), metadata={"format": "pt"})
            weight_map |= dict.fromkeys(shard, file)
        total = sum(map(_bytes, tensors.values()))
        _write_json(
            folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": weight_map}
        )
    _write_json(folder / "config.json", config_json(model.config, layout, dtype))


def _bytes(tensor: paddle.Tensor) -> int:
    return tensor.size * tensor.element_size()


def _renamed(model: Got, layout: str, dtype: str) -> Iterator[tuple[str, paddle.Tensor]]:
    linears = _linear_names(model)
    for name, parameter in model.named_parameters():
        tensor = parameter.detach().astype(dtype)
        turn = name in linears and layout != "paddlemix"
        yield layouts.to_theirs(name, layout), tensor.t().contiguous() if turn else tensor
    if layout == "original":  # the released file holds the tied head a second time
        yield layouts.HEADS[layout], model.decoder.head.detach().astype(dtype).clone()


def _preprocessor(config: GotConfig) -> dict:
    from .got import MEAN, STD

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
