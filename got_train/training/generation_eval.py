"""Records that a run reads to know how well it reads, and what evaluation's metrics say of the answers.

Knows the reader, evaluation and VisualDL's curves; what follows from the numbers is decided in validation.py.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import paddle
from tqdm import tqdm

from got_train.config.schema import Config
from got_train.data.mixture import subsample
from got_train.data.records import Record
from got_train.errors import ConfigError, TrainingError
from got_train.evaluation.metrics import degeneration, text
from got_train.evaluation.predictions import DataFile, Prediction, data_names, read_rows, records_hash
from got_train.evaluation.provenance import write_lines
from got_train.evaluation.scored import (
    ScoredPrediction,
    metric_error,
    score_predictions,
    task_averages,
    task_name,
)
from got_train.evaluation.scores import ALL
from got_train.formats.answer_types import answer_type
from got_train.inference.reader import OcrPipeline
from got_train.strict_files import read_lines

from .run_files import MEASUREMENTS
from .trackers import Writers

VALIDATION = "validation"
NUM_PROBED = 10_000  # records of a set, evenly spaced, whose kinds are found before some are chosen
_SEED = 2**31 + 2  # other random numbers than those of the mixture
_LOGGED = ("edit_distance", "exact_match")
Result = TypeVar("Result")


@dataclass(frozen=True)
class EvalRecords:
    """What is read, of data.validation and of every probe, and in which order."""

    validation: tuple[DataFile, ...]
    probes: tuple[DataFile, ...]
    order: tuple[tuple[DataFile, int], ...]  # of any beginning every set and kind has its share

    @property
    def files(self) -> tuple[DataFile, ...]:
        return (*self.validation, *self.probes)

    def first(self, count: int) -> list[tuple[DataFile, int]]:
        """Of every file so many rows, to be shown at every measuring."""
        return [(file, index) for file in self.files for index in range(min(count, len(file.records)))]


@dataclass(frozen=True)
class EvalSet:
    """Records under the name that tables give them, one of several sources or a probe."""

    name: str
    path: str
    records: Sequence[Record]


def validation_sets(paths: Sequence[str], records: Sequence[Sequence[Record]]) -> list[EvalSet]:
    """The sources of data.validation under their names."""
    names = [VALIDATION] if len(paths) == 1 else [f"{VALIDATION}/{name}" for name in data_names(paths)]
    return [EvalSet(*item) for item in zip(names, paths, records, strict=True)]


def choose_records(
    validation: Sequence[EvalSet], probes: Sequence[EvalSet], most: int, seed: int
) -> EvalRecords:
    """At most `most` rows of the validation sources together and of each probe, the same for a seed."""
    chosen = [_choose(validation, most, seed), *(_choose([probe], most, seed) for probe in probes)]
    files = [file for records, _ in chosen for file in records]
    orders = [[(records[source], index) for source, index in order] for records, order in chosen]
    # in turns: the first of every set, the second of every set
    turns = sorted((turn, number) for number, order in enumerate(orders) for turn in range(len(order)))
    order = tuple(orders[number][turn] for turn, number in turns)
    return EvalRecords(tuple(files[: len(validation)]), tuple(files[len(validation) :]), order)


def _choose(sets: Sequence[EvalSet], most: int, seed: int) -> tuple[list[DataFile], list[tuple[int, int]]]:
    """A file of the chosen records of each source, and the order of all (source, place in its file)."""
    share = max(1, NUM_PROBED // max(1, len(sets)))
    looked_at = [
        (source, index)
        for source, pool in enumerate(sets)
        for index in subsample([range(len(pool.records))], share, seed)
    ]
    strata = [(source, *_stratum(sets[source].records[index])) for source, index in looked_at]
    taken: list[list[Record]] = [[] for _ in sets]
    order = []
    for number in stratified_order(strata, most, seed):
        source, index = looked_at[number]
        order.append((source, len(taken[source])))
        taken[source].append(sets[source].records[index])
    files = [
        DataFile(pool.name, pool.path, records, records_hash(records, Path(pool.path).parent))
        for pool, records in zip(sets, taken, strict=True)
    ]
    return files, order


def _stratum(record: Record) -> tuple[Hashable, ...]:
    """What a record asks for, and what its answer is."""
    kind = answer_type(record.text, record.task)
    return record.task, record.box is not None, record.color is not None, kind


def stratified_order(strata: Sequence[Hashable], most: int, seed: int) -> list[int]:
    """Places of at most `most` items, ordered so that every beginning has all strata in their shares.

    The first of each stratum come first, however rare it is.
    """
    indices: dict[Hashable, list[int]] = {}
    for index in np.random.default_rng([seed, _SEED]).permutation(len(strata)).tolist():
        indices.setdefault(strata[index], []).append(index)
    keyed = [(number / len(group), index) for group in indices.values() for number, index in enumerate(group)]
    return [index for _, index in sorted(keyed, key=lambda pair: pair[0])][:most]


@dataclass(frozen=True)
class EvalResult:
    """The scored answers of a moment of a run."""

    step: int
    samples: Sequence[ScoredPrediction]
    of: int  # rows that there are to read
    seconds: float  # of reading and scoring

    @property
    def finished(self) -> bool:
        """Whether the time has sufficed for all rows."""
        return len(self.samples) == self.of

    def of_files(self, files: Sequence[DataFile]) -> list[ScoredPrediction]:
        names = {file.name for file in files}
        return [sample for sample in self.samples if sample.prediction.data in names]

    def metrics(self) -> dict[str, dict[str, dict[str, float]]]:
        """By source, then by task: rows, and the mean of each metric; a source of several tasks has `all`."""
        sources: dict[str, dict[str, list[ScoredPrediction]]] = {}
        for sample in self.samples:
            tasks = sources.setdefault(sample.prediction.data or "", {})
            tasks.setdefault(task_name(sample.prediction), []).append(sample)
        for tasks in sources.values():
            if len(tasks) > 1:
                tasks[ALL] = [sample for rows in tasks.values() for sample in rows]
        return {
            source: {task: mean_metrics(rows) for task, rows in tasks.items()}
            for source, tasks in sources.items()
        }

    def row(self, shown: Sequence[tuple[DataFile, int]]) -> dict[str, Any]:
        """As a line of measurements.jsonl, with what was read of the rows that are shown."""
        keys = {(file.name, index) for file, index in shown}
        answers = [sample.prediction for sample in self.samples if sample.prediction.key in keys]
        return {
            "step": self.step,
            "rows": len(self.samples),
            "of": self.of,
            "seconds": round(self.seconds, 2),
            "finished": self.finished,
            "metrics": self.metrics(),
            "answers": [{"id": answer.name, **answer.row()} for answer in answers],
        }

    def line(self) -> str:
        """For the log."""
        of = "" if self.finished else f" of {self.of}, for then the time was over"
        parts = []
        for source, tasks in self.metrics().items():
            seen = list(tasks.values())[-1]  # all of them, or the only one
            parts.append(f"{source} " + ", ".join(f"{name} {seen[name]:.4f}" for name in _LOGGED))
        rows = f"{len(self.samples)} rows{of}"
        return f"step {self.step}: read {rows} in {self.seconds:.1f} s: {'; '.join(parts)}"


def mean_metrics(rows: Sequence[ScoredPrediction]) -> dict[str, float]:
    """Rows and means by the names of metrics that have a value; of the kinds' own as these define them."""
    means: dict[str, float] = {"rows": len(rows)}
    for name in (*text.FIXED, *degeneration.NAMES):
        values = [value for sample in rows if (value := sample.value(name)) is not None]
        means |= {name: sum(values) / len(values)} if values else {}
    of_kind: dict[str, list[ScoredPrediction]] = {}
    for sample in rows:
        if sample.task_metrics:
            of_kind.setdefault(sample.answer_type, []).append(sample)
    for kind, some in of_kind.items():
        own = task_averages(kind, [sample.task_metrics for sample in some])
        means |= {f"{kind}.{name}": float(value) for name, value in own.items() if value is not None}
    return means


def check_metric(name: str, files: Sequence[DataFile]) -> None:
    """Refuse a metric that the answers to no row of these files can have."""
    if fault := metric_error(name):
        raise ConfigError(f"eval.best_metric: {fault}")
    kind, dot, _ = name.partition(".")
    if not dot:
        return
    records = [(file, index) for file in files for index in range(len(file.records))]
    right = [file.prediction(index, prediction=file.records[index].text) for file, index in records]
    of_kind = [answer for answer in right if answer_type(answer.reference, answer.task) == kind]
    if not of_kind:
        raise ConfigError(
            f"eval.best_metric: {name}, and no row of data.validation is a {kind}; use one such as loss"
        )
    known = mean_metrics(score_predictions(of_kind[:1]))
    if name not in known:
        has = ", ".join(metric for metric in known if metric.startswith(f"{kind}."))
        raise ConfigError(f"eval.best_metric: {kind} has no metric {name} here; {has or 'loss, or another'}")


class GenerationEval:
    """Reads the rows with a run's model, all processes together, and scores the answers.

    Decoding is greedy and scoring draws from generators of its own: no weight and no random state changes.
    """

    def __init__(
        self, reader: OcrPipeline, records: EvalRecords, config: Config, rank: int = 0, ranks: int = 1
    ) -> None:
        self.reader, self.records, self.rank, self.ranks = reader, records, rank, ranks
        self.settings = config.eval
        self.shown = records.first(config.train.preview_samples)
        if config.eval.best_metric != "loss":
            check_metric(config.eval.best_metric, records.validation)

    def evaluate(self, step: int) -> EvalResult:
        """What the model reads now, as far as eval.time_limit suffice."""
        began = time.monotonic()
        samples = [sample for batch in self.read(self.settings.time_limit) for sample in batch]
        return self.scored(step, samples, began)

    def read(self, seconds: float = 0.0, known: Sequence[Prediction] = ()) -> Iterator[list[Prediction]]:
        """Answers to the rows that are not known, some at a time; ends with the rows, or after `seconds`."""
        done = {sample.key for sample in known}
        left = [(file, index) for file, index in self.records.order if (file.name, index) not in done]
        together, began = self.settings.batch_size * self.ranks, time.monotonic()
        with tqdm(total=len(left), unit="row", leave=False, disable=True if self.rank else None) as bar:
            for start in range(0, len(left), together):
                some = left[start : start + together]
                mine = list(read_rows(self.reader, some[self.rank :: self.ranks], self.settings.batch_size))
                parts = self._gathered((mine, time.monotonic() - began))
                samples = {sample.key: sample for part, _ in parts for sample in part}
                yield [samples[file.name, index] for file, index in some]
                bar.update(len(some))
                if seconds and max(spent for _, spent in parts) >= seconds:
                    return

    def scored(self, step: int, predictions: Sequence[Prediction], began: float | None = None) -> EvalResult:
        """By the first process for all: a score with a time limit may differ from one to the other."""
        scored = self.from_first(lambda: score_predictions(predictions))
        spent = sum(
            prediction.seconds or 0.0 for prediction in predictions
        )  # of answers that an earlier session read
        return EvalResult(
            step, scored, len(self.records.order), spent if began is None else time.monotonic() - began
        )

    def from_first(self, make: Callable[[], Result]) -> Result:
        """What the first process makes, in all processes."""
        return self._gathered(make() if self.rank == 0 else None)[0]

    def value(self, result: EvalResult, metric: str) -> float:
        """Of the validation rows; nan where the time was over before one of them had it."""
        return mean_metrics(result.of_files(self.records.validation)).get(metric, math.nan)

    def _gathered(self, value: Any) -> list[Any]:
        """Of all processes."""
        if self.ranks == 1:
            return [value]
        gathered: list[Any] = []
        paddle.distributed.all_gather_object(gathered, value)
        return gathered


class EvalLog:
    """measurements.jsonl: a line a measuring; those of a killed session after its checkpoint go."""

    def __init__(self, output_dir: Path) -> None:
        self.path = output_dir / MEASUREMENTS

    def truncate_after(self, step: int, base: Mapping[str, Any] | None) -> None:
        """From a checkpoint, after the line of the base where it was read."""
        kept = [] if base is None else [base]
        first = min(1, len(kept))
        kept += [row for row in self._rows() if first <= row["step"] <= step]
        if kept or self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_lines(self.path, kept)

    def add(self, row: Mapping[str, Any]) -> None:
        with open(self.path, "a", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def _rows(self) -> Iterator[dict[str, Any]]:
        return read_lines(self.path, TrainingError, allow_nan=True) if self.path.exists() else iter(())


def log_curves(writer: Writers, result: EvalResult) -> None:
    """A curve for each metric of each task of each source."""
    for source, tasks in result.metrics().items():
        for task, values in tasks.items():
            for name, value in values.items():
                if name != "rows":
                    writer.add_scalar(f"{source}/{task}/{name}", value, result.step)
