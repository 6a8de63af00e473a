"""What a run goes on with next to its weights: optimizer, averages, heads, as safetensors and a JSON record.

Nothing here is a pickle, and only files that the record names are opened.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import paddle
from paddlenlp.trainer import TrainerState

from got_train.checkpoint.tensor_io import save_tensors, tensor_entries
from got_train.config.loader import build
from got_train.errors import GotError
from got_train.strict_files import check_inside, is_file_name, read_json

from .checkpoints import incomplete, step_of
from .run_files import RECORD_FILE, STATE_FILE

FORMAT = 2  # 1 kept pickles: .pdopt and .pdparams
MASTERS, SCHEDULER = "master_weights", "LR_Scheduler"


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """checkpoint.json, written last: what belongs to a checkpoint, and what its numbers follow from."""

    format: int = FORMAT
    step: int
    processes: int = 1
    threads: int = 0  # of a process on the CPU; 0: not set, as on a GPU
    deterministic: bool = False  # whether equal runs have equal bits: train.deterministic, or a CPU
    optimizer: tuple[str, ...] = ()  # files
    extra: dict[str, str] = field(default_factory=dict)  # file of averages and heads by their names
    last_epoch: int = 0  # of the schedule
    last_lr: float = 0.0
    rows: tuple[str, ...] = ()  # of each source: their number, or what stands for a stream
    sources: dict[str, str] = field(default_factory=dict)  # stamp of each file of data.train
    files: dict[str, int] = field(default_factory=dict)  # bytes of every file of the checkpoint


def write_record(folder: Path, record: RunRecord) -> None:
    (folder / RECORD_FILE).write_text(json.dumps(asdict(record), indent=1) + "\n", encoding="utf-8")


def sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if path.is_file()}


def read_record(checkpoint: Path) -> RunRecord:
    """The record of a checkpoint, whose files are all there and as long as it says."""
    path = checkpoint / RECORD_FILE
    if not path.exists():
        old = [*checkpoint.glob("*.pdopt"), *checkpoint.glob("*.pdparams")]
        if old:
            raise incomplete(
                checkpoint,
                f"{old[0].name} is a pickle of an older version, which may run code and is not read; start a "
                f"run with model.init_from={checkpoint}",
            )
        raise incomplete(checkpoint, f"no {RECORD_FILE}")
    try:
        record = build(RunRecord, read_json(path))
    except (GotError, TypeError) as error:
        raise incomplete(checkpoint, str(error)) from error
    if record.format != FORMAT or record.step != step_of(checkpoint) or record.step < 1:
        fault = f"{RECORD_FILE} is of step {record.step}, format {record.format}"
        raise incomplete(checkpoint, f"{fault}; expected step {step_of(checkpoint)}, format {FORMAT}")
    for name, size in record.files.items():
        file = checkpoint / name
        if not is_file_name(name) or not file.is_file():
            raise incomplete(checkpoint, f"{name[:80]} is missing")
        if file.stat().st_size != size:
            raise incomplete(checkpoint, f"{name} is not as long as it was saved")
        check_inside(file, checkpoint)
    for name in (*record.optimizer, *record.extra.values()):
        if name not in record.files:
            raise incomplete(checkpoint, f"{RECORD_FILE} does not list {name[:80]}")
    return record


def read_trainer_state(checkpoint: Path) -> TrainerState:
    """paddlenlp's own record, looked through before paddlenlp reads it."""
    path = checkpoint / STATE_FILE
    try:
        values = read_json(path, allow_nan=True)
    except GotError as error:
        raise incomplete(checkpoint, str(error)) from error
    numbers = {key: values.get(key) for key in ("global_step", "max_steps")}
    if any(type(number) is not int for number in numbers.values()):
        raise incomplete(checkpoint, f"{path.name}: {numbers}; expected whole numbers")
    if numbers["global_step"] != step_of(checkpoint):
        raise incomplete(checkpoint, f"{path.name} is of step {numbers['global_step']}")
    history = values.get("log_history")
    if not isinstance(history, list) or not all(isinstance(entry, dict) for entry in history):
        raise incomplete(checkpoint, f"{path.name}: log_history is not a list of entries")
    try:
        return TrainerState(**values)
    except TypeError as error:
        raise incomplete(checkpoint, f"{path.name}: {error}") from error


def optimizer_file(rank: int) -> str:
    return f"optimizer-{rank}.safetensors"


def save_optimizer(state: Mapping[str, Any], folder: Path, rank: int) -> None:
    """Moments and master weights under the names of their parameters."""
    tensors = {name: value for name, value in state.items() if isinstance(value, paddle.Tensor)}
    tensors |= {f"{MASTERS}/{name}": value for name, value in state.get(MASTERS, {}).items()}
    save_tensors(tensors, folder / optimizer_file(rank), {"format": "pd"})


def load_optimizer(checkpoint: Path, record: RunRecord, trained: Sequence[str]) -> dict[str, Any]:
    """The state of all processes together, as Paddle's optimizers take it."""
    state: dict[str, Any] = {}
    for name in record.optimizer:
        state |= load_tensors(checkpoint / name)
    masters = {name: state.pop(name) for name in list(state) if name.startswith(f"{MASTERS}/")}
    missing = [name for name in trained if f"{name}_moment1_0" not in state]
    if missing:
        others = f"{missing[0]} and {len(missing) - 1} others"
        raise incomplete(checkpoint, f"no optimizer state of {others} in optimizer-*.safetensors")
    if masters:
        state[MASTERS] = {name.removeprefix(f"{MASTERS}/"): value for name, value in masters.items()}
    state[SCHEDULER] = {"last_epoch": record.last_epoch, "last_lr": record.last_lr}
    return state


def load_tensors(path: Path) -> dict[str, paddle.Tensor]:
    """The tensors of one file of a checkpoint."""
    try:
        return {name: paddle.to_tensor(entry.read()) for name, entry in tensor_entries(path).items()}
    except (GotError, FileNotFoundError) as error:
        raise incomplete(path.parent, str(error)) from error
