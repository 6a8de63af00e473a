"""Which rows a step saw, and which steps saw a row, from config, data and sample log."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from got_train.config.loader import load_config
from got_train.config.schema import Config
from got_train.data.mixture import Mixture
from got_train.data.record import location_of
from got_train.data.records import RecordError
from got_train.errors import TrainingError
from got_train.tokenizer import Tokenizer, load_tokenizer

from .checkpoints import checkpoints, step_of
from .ledger import StepRecord, read_sample_log, record_checksum
from .run_files import FINAL, RUN_FILE
from .sources import build_mixture


@dataclass(frozen=True)
class Trace:
    """A run's sample log beside the data that it was made from."""

    config: Config
    mixture: Mixture
    tokenizer: Tokenizer
    ledger: dict[int, StepRecord]
    saved: int  # the last step of which weights were kept

    def sample_indices(self, step: int) -> range:
        size, batch = self.config.train.batch_size, (step - 1) // self.config.rl.updates
        return range(batch * size, (batch + 1) * size)

    def entry(self, step: int) -> StepRecord:
        if step not in self.ledger:
            raise TrainingError(
                f"step {step}: the sample log has {min(self.ledger)} to {max(self.ledger)}; use one of them"
            )
        return self.ledger[step]

    def rows(self, step: int) -> Iterator[tuple[str, bool]]:
        """file:line of each, and whether it was dropped."""
        dropped = self.entry(step).dropped
        return ((self.location_of(index), index in dropped) for index in self.sample_indices(step))

    def location_of(self, index: int) -> str:
        return location_of(self.mixture, index)

    def is_as_trained(self, step: int) -> bool:
        """Whether the rows that stand there now, with their pictures, are those of the sample log."""
        entry, total = self.entry(step), 0
        for index in set(self.sample_indices(step)) - set(entry.dropped):
            try:
                record = self.mixture[index]
            except RecordError:  # usable once, and no more
                return False
            total += record_checksum(record, self.tokenizer.encode_answer(record.text))
        return total == entry.sum and entry.rows + len(entry.dropped) == len(self.sample_indices(step))

    def changed_step(self, max_rows: int) -> int | None:
        """The first step whose rows are others now, of steps all over the run with at most so many rows."""
        steps = sorted(self.ledger)
        count = min(len(steps), max(1, max_rows // self.config.train.batch_size))
        looked_at = [steps[int(index)] for index in np.linspace(0, len(steps) - 1, count)] if steps else []
        return next((step for step in looked_at if not self.is_as_trained(step)), None)

    def steps(self, row: str) -> Iterator[tuple[int, bool]]:
        """Those that a row went into, and whether it was dropped there."""
        locations: dict[tuple[int, int], str] = {}
        for step in sorted(self.ledger):
            for index in self.sample_indices(step):
                position = self.mixture.place(index)
                if position not in locations:
                    locations[position] = self.location_of(index)
                if locations[position] == row:
                    yield step, index in self.ledger[step].dropped

    def check_row(self, row: str) -> None:
        """Refuse a name that no row of the run's data has: a slip is not a row that was never drawn."""
        if self.mixture.total is None:
            return  # rows of a stream are not counted, let alone searched
        for source in self.mixture.sources:
            if any(location_of(source, index) == row for index in range(len(source))):
                return
        raise TrainingError(f"--row {row}: no row of this run; use a name such as {self.location_of(0)}")


def open_trace(run: Path) -> Trace:
    """Of a run's folder, with the tokenizer that it kept."""
    ledger, kept = read_sample_log(run), checkpoints(run)
    final = run / FINAL
    folders = [folder for folder in (final, *reversed(kept)) if (folder / RUN_FILE).is_file()]
    if not folders:
        raise TrainingError(f"{run}: no checkpoint and no final model; nothing of this run was kept")
    config = load_config(folders[0] / RUN_FILE)
    saved = max(ledger) if final.exists() else step_of(kept[-1])
    return Trace(config, build_mixture(config), load_tokenizer(folders[0]), ledger, saved)
