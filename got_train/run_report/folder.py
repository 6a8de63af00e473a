"""What the folder of a run holds, read as far as it is there; a run may be under way, killed or complete.

Knows files, no page.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from got_train.config.loader import dump_config, load_config
from got_train.config.schema import Config
from got_train.errors import TrainingError
from got_train.evaluation.provenance import SAMPLES, SETTINGS
from got_train.preflight.verdict import FILE as CHECK_FILE
from got_train.strict_files import read_lines, strict_json
from got_train.training.checkpoints import checkpoints, step_of
from got_train.training.ledger import StepRecord, read_sample_log
from got_train.training.run_files import (
    AFTER,
    AUDIT_FILE,
    BEFORE,
    BEST,
    CURVES,
    FINAL,
    MEASUREMENTS,
    RUN_FILE,
    SKILLS,
    SKILLS_FILE,
    STATE_FILE,
)

Curve = list[tuple[int, float]]  # (step, value)


@dataclass(frozen=True)
class Run:
    """A run as its files tell it; what is not there is empty."""

    folder: Path
    config: Config
    check: Mapping[str, Any] | None = None
    audit: Mapping[str, Any] | None = None
    state: Mapping[str, Any] = field(default_factory=dict)  # paddlenlp's, of the last checkpoint
    saved: int = 0  # the step of the last checkpoint
    final: bool = False
    best: Mapping[str, Any] | None = None
    curves: Mapping[str, Curve] = field(default_factory=dict)
    sessions: Sequence[tuple[float, float]] = ()  # when each wrote its first and last value, seconds
    measurements: Sequence[Mapping[str, Any]] = ()
    skills: Mapping[str, Any] | None = None
    before: Sequence[Mapping[str, Any]] = ()  # samples
    after: Sequence[Mapping[str, Any]] = ()
    reading: Mapping[str, Any] | None = None  # settings of these
    ledger: Mapping[int, StepRecord] = field(default_factory=dict)
    beside: Mapping[str, Any] | None = None  # another system's answers to the validation rows, compared
    dropped: Sequence[Mapping[str, str]] = ()  # rows that training left out, and why

    @property
    def done(self) -> int:
        """Steps that were made and kept."""
        return max(self.ledger, default=self.saved) if self.final else self.saved

    @property
    def seconds(self) -> float:
        """Of all sessions, from the first to the last value that each has logged."""
        return sum(end - begin for begin, end in self.sessions)

    @property
    def checked(self) -> bool:
        """Whether the check was of these very settings."""
        expected = hashlib.sha256(dump_config(self.config).encode()).hexdigest()
        return self.check is not None and self.check.get("config_sha256") == expected


def read_run(folder: str | os.PathLike, config: Config | None = None) -> Run:
    """All of it. The config is that of the model or the last checkpoint, where none is given."""
    folder = Path(folder)
    kept, final = checkpoints(folder), folder / FINAL
    config = config or _config(folder, [final, *reversed(kept), folder / BEST])
    curves, sessions = _curves(folder / CURVES)
    return Run(
        folder=folder,
        config=config,
        check=_json(folder / CHECK_FILE),
        audit=_json(folder / AUDIT_FILE),
        state=(_json(kept[-1] / STATE_FILE) or {}) if kept else {},
        saved=step_of(kept[-1]) if kept else 0,
        final=final.exists(),
        best=_json(folder / BEST / "best.json"),
        curves=curves,
        sessions=sessions,
        measurements=list(_lines(folder / MEASUREMENTS)),
        skills=_json(folder / SKILLS_FILE),
        before=list(_lines(folder / SKILLS / BEFORE / SAMPLES)),
        after=list(_lines(folder / SKILLS / AFTER / SAMPLES)),
        reading=_json(folder / SKILLS / AFTER / SETTINGS) or _json(folder / SKILLS / BEFORE / SETTINGS),
        ledger=_ledger(folder),
        dropped=[row for path in sorted(folder.glob("quarantine-*.jsonl")) for row in _lines(path)],
    )


def _config(folder: Path, models: Sequence[Path]) -> Config:
    for model in models:
        if (model / RUN_FILE).is_file():
            return load_config(model / RUN_FILE)
    raise TrainingError(
        f"{folder}: no checkpoint and no final model with a {RUN_FILE}; expected a folder of got train"
    )


def _ledger(folder: Path) -> Mapping[int, StepRecord]:
    try:
        return read_sample_log(folder)
    except TrainingError:
        if any(folder.glob("ledger-*.jsonl")) and any(
            path.stat().st_size for path in folder.glob("ledger-*")
        ):
            raise
        return {}


def _json(path: Path) -> Any:
    if not path.exists():
        return None
    try:
        return strict_json(path.read_text(encoding="utf-8"), allow_nan=True)
    except ValueError as error:
        raise TrainingError(
            f"{path}: not JSON ({error}); delete it, and the page is made without it"
        ) from error


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    return read_lines(path, TrainingError, allow_nan=True) if path.exists() else iter(())


def _curves(folder: Path) -> tuple[dict[str, Curve], list[tuple[float, float]]]:
    """Curves by name, of all sessions; what a later session made again counts as the later one has it."""
    curves: dict[str, dict[int, float]] = {}
    times = []
    for path in sorted(folder.glob("vdlrecords.*")):
        scalars = _scalars(path)
        if not scalars:
            continue
        first = min(step for step, *_ in scalars)
        for values in curves.values():
            for step in [step for step in values if step >= first]:
                del values[step]
        for step, name, _, value in scalars:
            curves.setdefault(name, {})[step] = value
        seconds = [when / 1000 for *_, when, _ in scalars]
        times.append((min(seconds), max(seconds)))
    return {name: sorted(values.items()) for name, values in curves.items() if values}, times


def _scalars(path: Path) -> list[tuple[int, str, int, float]]:
    """(step, name, time in milliseconds, value) of VisualDL's file; its own reader refuses a torn one."""
    from google.protobuf.message import DecodeError
    from visualdl.proto.record_pb2 import Record
    from visualdl.reader.record_reader import RecordReader

    scalars = []
    for written in RecordReader(filepath=str(path)).get_all():
        try:
            value = Record.FromString(written).values[0]
        except DecodeError:  # the last, in which the run was killed
            break
        if value.WhichOneof("one_value") == "value":
            scalars.append((value.id, value.tag, value.timestamp, value.value))
    return scalars
