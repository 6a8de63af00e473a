"""The mean of the weights of several runs from one start: a model soup (Wortsman et al., 2022, ICML).

Averages whole models and adapters, and refuses runs that did not start alike. Which runs go into a soup is
decided elsewhere.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import paddle

from got_train.config.loader import load_config
from got_train.errors import CheckpointError
from got_train.modeling.got import Got
from got_train.modeling.layers import linear_names
from got_train.modeling.lora import MATRICES, Adapter, attach
from got_train.tokenizer import load_tokenizer

from .adapters import (
    ADAPTER_WEIGHTS,
    MAX_RANK,
    _entries_of,
    base_folder,
    base_hash,
    is_adapter,
    read_adapter,
    save_adapter,
)
from .characters import load_characters, save_characters
from .convert import probe_logits, widest_dtype
from .merge import check_difference, print_difference, writing
from .tensor_io import weight_files
from .weights import WeightFile, load_model, save_model

RUN_FILE = "run.yaml"  # the record that a run leaves beside its weights
SOUP_FILE = "soup.json"  # what a soup was made of

Folder = str | os.PathLike


def check_same_start(folders: Sequence[Folder]) -> None:
    """Refuse runs whose records name different starts: a mean of unrelated weights reads nothing."""
    kinds = {is_adapter(folder) for folder in folders}
    if len(kinds) > 1:
        raise CheckpointError("--soup: adapters and whole models; use got merge on the adapters first")
    first, others = folders[0], folders[1:]
    if True in kinds:
        _check_same_adapters(folders)
    start = _start(first)
    for folder in others:
        another = _start(folder)
        if start != another and not _same_weights(start, another):
            raise CheckpointError(
                f"--soup: {first} started from {start}, {folder} from {another}; expected runs from one "
                "checkpoint"
            )


def _start(folder: Folder) -> Path:
    record = Path(folder) / RUN_FILE
    if not record.is_file():
        raise CheckpointError(
            f"{folder}: no {RUN_FILE}, so its start is not known; expected a folder of got train"
        )
    start = load_config(record).model.init_from
    if not start:
        raise CheckpointError(
            f"{folder}: started from random weights, says {record.name}; expected a run with model.init_from"
        )
    return Path(start).resolve()


def _same_weights(first: Path, second: Path) -> bool:
    """Whether two folders hold the same files of weights, as copies do."""
    return first.is_dir() and second.is_dir() and _digests(first) == _digests(second)


def _digests(folder: Path) -> list[str]:
    files = [folder / ADAPTER_WEIGHTS] if is_adapter(folder) else weight_files(folder)
    digests = []
    for file in files:
        with open(file, "rb") as opened:
            digest = hashlib.sha256()
            while piece := opened.read(1 << 22):
                digest.update(piece)
        digests.append(digest.hexdigest())
    return digests


def _check_same_adapters(folders: Sequence[Folder]) -> None:
    cards = [read_adapter(folder) for folder in folders]
    for folder, card in zip(folders[1:], cards[1:], strict=True):
        for name in ("base_sha256", "prompt_template", "rank", "alpha", "layers", "whole"):
            if getattr(card, name) != getattr(cards[0], name):
                raise CheckpointError(
                    f"--soup: {folder} is an adapter with another {name} than {folders[0]}; expected the same"
                )
    rank = cards[0].rank * len(cards)
    if rank > MAX_RANK:
        raise CheckpointError(f"--soup: the mean has rank {rank}; at most {MAX_RANK}, use got merge on each")


def blend(folders: Sequence[Folder]) -> tuple[Got, Adapter | None]:
    """The model whose weights are the mean of those of all folders; of adapters also the card of the mean."""
    return _blend_adapters(folders) if is_adapter(folders[0]) else (_blend_models(folders), None)


def _blend_models(folders: Sequence[Folder]) -> Got:
    model = load_model(folders[0])
    linears, files = linear_names(model), [WeightFile(folder) for folder in folders]
    for file in files[1:]:
        for name, parameter in model.named_parameters():
            shape = file.shape(name, name in linears) if name in file.tensors else "nothing"
            if shape != list(parameter.shape):
                raise CheckpointError(
                    f"{file.path}: {name} has {shape}, in {folders[0]} it has {list(parameter.shape)}; "
                    "expected models of one size"
                )
    for name, parameter in model.named_parameters():
        # one tensor at a time in float64, so that the mean of one model is that model to the last bit
        total = sum(file.read(name, name in linears).astype("float64") for file in files)
        parameter.set_value((total / len(files)).astype(parameter.dtype))
    return model


def _blend_adapters(folders: Sequence[Folder]) -> tuple[Got, Adapter]:
    """The mean of the products AB, which is itself a product: all A side by side, all B below each other.

    The mean of A times the mean of B would be another model.
    """
    card, count = read_adapter(folders[0]), len(folders)
    base = base_folder(folders[0])
    model = load_model(base)
    if base_hash(base, model) != card.base_sha256:
        raise CheckpointError(f"{folders[0]}: its base {base} has other weights now; put the old ones back")
    together = dataclasses.replace(card, rank=card.rank * count, alpha=card.alpha * count)
    attach(model, together)
    entries = [_entries_of(folder, read_adapter(folder)) for folder in folders]
    for name, parameter in model.named_parameters():
        if not (name.endswith(MATRICES) or name.partition(".")[0] in card.whole):
            continue
        values = [_value(adapter, name, folder) for adapter, folder in zip(entries, folders, strict=True)]
        if name.endswith(MATRICES[0]):
            value = np.concatenate(values, axis=1)
        elif name.endswith(MATRICES[1]):
            value = np.concatenate(values, axis=0) / count
        else:
            value = sum(values) / count
        parameter.set_value(paddle.to_tensor(value.astype("float32")).astype(parameter.dtype))
    return model, together


def _value(entries: dict, name: str, folder: Folder) -> np.ndarray:
    if name not in entries:
        raise CheckpointError(f"{folder}: {ADAPTER_WEIGHTS} has no {name}; expected all of its layers")
    return entries[name].read().astype("float64")


def write_soup(
    folders: Sequence[Folder], result: Folder, layout: str | None = None, dtype: str | None = None
) -> None:
    """Write the mean of the folders' weights, read it back and compare the logits of a probe page."""
    model, card = blend(folders)
    expected = probe_logits(model)
    result = Path(result).resolve()
    tmp_dir = result.with_name(f".{result.name}.merging")
    shutil.rmtree(tmp_dir, ignore_errors=True)
    try:
        with writing(result):
            tokenizer = load_tokenizer(folders[0])
            if card is None:
                dtype = dtype or widest_dtype(WeightFile(folders[0]))
                save_model(model, tmp_dir, layout, dtype, tokenizer)
            else:
                save_adapter(model, tmp_dir, card, tokenizer)
            known = [load_characters(folder) for folder in folders]
            if None not in known:
                save_characters(tmp_dir, frozenset.intersection(*known))
            origin = {
                "runs": [str(Path(run).resolve()) for run in folders],
                "start": str(_start(folders[0])),
            }
            (tmp_dir / SOUP_FILE).write_text(json.dumps(origin, indent=1) + "\n", encoding="utf-8")
        again, _ = blend([tmp_dir])
        exact = card is not None or dtype in (None, "float32")
        difference = print_difference("read back", expected, probe_logits(again))
        if exact:
            check_difference(difference, 0, result)
        os.replace(tmp_dir, result)
    finally:
        shutil.rmtree(tmp_dir, ignore_errors=True)
    print(f"{result}: the mean of {len(folders)} runs")
