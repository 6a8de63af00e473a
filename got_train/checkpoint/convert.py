"""A checkpoint from one layout to another, checked by its own logits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from got_train.errors import CheckpointError

from .foreign import refuse_foreign

if TYPE_CHECKING:
    import numpy as np

    from got_train.modeling.got import Got
    from got_train.tokenizer import Tokenizer

    from .weights import WeightFile


def check_paths(source: Path, result: Path) -> None:
    """Refuse a source that is not there, and a result that would replace anything."""
    refuse_foreign(source)
    if not source.exists():
        raise CheckpointError(f"{source}: no such folder or file")
    if result.resolve() in (source.resolve(), *source.resolve().parents):
        raise CheckpointError(f"{result}: is or holds the source; give another folder")
    if result.exists() and (not result.is_dir() or any(result.iterdir())):
        raise CheckpointError(f"{result}: exists and is not an empty folder; give a new one")


def convert(
    source: Path, result: Path, layout: str, dtype: str | None = None, quantized: str | None = None
) -> None:
    """Convert and print every finding; raises ConvertError if the result is not equal to its source."""
    import numpy as np

    from .characters import copy_characters
    from .weights import WeightFile, save_model

    file = WeightFile(source)
    print(describe_weights(file), flush=True)
    model = load_tuned(source)
    tokenizer = _tokenizer_of(file.folder)
    stored = widest_dtype(file)
    dtype = dtype or stored
    kind = f"{dtype}, the decoder's matrices {quantized}" if quantized else dtype
    print(f"{result}: layout {layout}, {kind}{'' if tokenizer else '; no tokenizer beside the source'}")
    expected = exact = probe_logits(model)
    if dtype not in ("float32", stored):
        expected = probe_logits(round_weights(model, dtype))
    save_model(model, result, layout, dtype, tokenizer, int8=quantized == "int8")
    if quantized:
        expected = probe_logits(round_matrices(model))
    if expected is not exact:
        moved, largest = np.abs(expected - exact).max(), np.abs(exact).max()
        what = f"the decoder's matrices to {quantized}" if quantized else f"to {dtype}"
        print(f"rounding {what} moves the probe's logits by up to {moved:.3g}; they reach {largest:.3g}")
    copy_characters(source, result)
    del model  # one of the released size is 2 GB
    difference = np.abs(probe_logits(load_tuned(result)) - expected).max()
    tokens, words = expected.shape
    print(f"read back: largest difference {difference:.3g} in {tokens} x {words} logits")
    if not difference == 0:
        raise CheckpointError(f"{result}: does not compute what {source} does; do not use it")
    print("done")


def describe_weights(file: WeightFile) -> str:
    """A table of parts: tensors and parameters; above it layout, orientation and dtype."""
    from got_train.modeling.config import PARTS

    rows = [f"  {'part':<10}{'tensors':>8}{'parameters':>14}"]
    counts = {part: [file.tensors[name].size for name in file.names(f"{part}.")] for part in PARTS}
    for part, sizes in [*counts.items(), ("all", sum(counts.values(), []))]:
        rows.append(f"  {part:<10}{len(sizes):>8}{sum(sizes):>14,}")
    order = "[in, out]" if file.transposed else "[out, in]"
    dtypes = ", ".join(sorted({tensor.dtype for tensor in file.tensors.values()}))
    head = "; beside them lm_head, a copy of the embedding" if file.head else ""
    return "\n".join([f"{file.path}: layout {file.layout}, Linear weights {order}, {dtypes}{head}", *rows])


def widest_dtype(file: WeightFile) -> str:
    """The dtype that loses nothing of the file."""
    dtypes = {tensor.dtype for name, tensor in file.tensors.items() if name not in file.int8}
    return dtypes.pop() if len(dtypes) == 1 and "float64" not in dtypes else "float32"


def load_tuned(folder: Path) -> Got:
    """A model that computes as fast as this process was set up for."""
    from got_train.modeling.cpu.accelerate import accelerate_if_tuned

    from .weights import load_model

    model = load_model(folder)
    accelerate_if_tuned(model)
    return model


def probe_logits(model: Got) -> np.ndarray:
    """Logits (T, vocabulary) of a random view among random words, always the same for the same sizes."""
    import numpy as np
    import paddle

    random, config = np.random.default_rng(20240903), model.config
    side, words = config.vision.image_side, min(config.image_token, config.decoder.vocab_size - 1)
    before, after = random.integers(0, words, [2, 16])
    ids = np.concatenate([before, np.full(config.vision.view_tokens, config.image_token), after])
    view = random.integers(0, 256, [1, side, side, 3], dtype="uint8")
    with paddle.no_grad():
        return model(paddle.to_tensor(ids[None]), paddle.to_tensor(view)).logits[0].numpy()


def round_weights(model: Got, dtype: str) -> Got:
    for parameter in model.parameters():
        parameter.set_value(parameter.astype(dtype).astype(parameter.dtype))
    return model


def round_matrices(model: Got) -> Got:
    """The decoder's matrices as int8 and a scale for each row hold them."""
    from got_train.modeling.int8 import dequantize, quantize
    from got_train.modeling.layers import linear_names

    from .weights import int8_matrices

    linears, names = linear_names(model), int8_matrices(model)
    for name, parameter in model.named_parameters():
        if name in names:
            matrix = parameter.numpy()
            rounded = dequantize(*quantize(matrix.T if name in linears else matrix))
            parameter.set_value(rounded.T if name in linears else rounded)
    return model


def _tokenizer_of(folder: Path) -> Tokenizer | None:
    from got_train.tokenizer import RANKS_FILE, TRANSFORMERS_FILE, VOCAB_FILE, load_tokenizer

    if any((folder / name).exists() for name in (RANKS_FILE, TRANSFORMERS_FILE, VOCAB_FILE)):
        return load_tokenizer(folder)
    return None
