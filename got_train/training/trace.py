"""Which rows a step saw, and which steps saw a row, from config, data and ledger."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from got_train.errors import TrainingError

if TYPE_CHECKING:
    from got_train.config.schema import Config
    from got_train.data.mixture import Mixture
    from got_train.tokenizer import Tokenizer

    from .ledger import StepRecord


@dataclass(frozen=True)
class Trace:
    """A run's ledger beside the data that it was made from."""

    config: Config
    mixture: Mixture
    tokenizer: Tokenizer
    ledger: dict[int, StepRecord]
    saved: int  # the last step of which weights were kept

    def draws(self, step: int) -> range:
        size = self.config.train.batch_size
        return range((step - 1) * size, step * size)

    def entry(self, step: int) -> StepRecord:
        if step not in self.ledger:
            raise TrainingError(
                f"step {step}: the ledger has {min(self.ledger)} to {max(self.ledger)}; one of them"
            )
        return self.ledger[step]

    def rows(self, step: int) -> Iterator[tuple[str, bool]]:
        """file:line of each, and whether it was dropped."""
        dropped = self.entry(step).dropped
        return ((self.location_of(draw), draw in dropped) for draw in self.draws(step))

    def location_of(self, draw: int) -> str:
        from got_train.data.record import location_of

        return location_of(self.mixture, draw)

    def is_as_trained(self, step: int) -> bool:
        """Whether the rows that stand at these places now are those of the ledger."""
        from got_train.data.records import RecordError

        from .ledger import checksum

        entry, total = self.entry(step), 0
        for draw in set(self.draws(step)) - set(entry.dropped):
            try:
                record = self.mixture[draw]
            except RecordError:  # usable once, and no more
                return False
            total += checksum(record.location, self.tokenizer.encode_answer(record.text))
        return total == entry.sum and entry.rows + len(entry.dropped) == len(self.draws(step))

    def steps(self, row: str) -> Iterator[tuple[int, bool]]:
        """Those that a row went into, and whether it was dropped there."""
        names: dict[tuple[int, int], str] = {}
        for step in sorted(self.ledger):
            for draw in self.draws(step):
                place = self.mixture.place(draw)
                if place not in names:
                    names[place] = self.location_of(draw)
                if names[place] == row:
                    yield step, draw in self.ledger[step].dropped

    def check_row(self, row: str) -> None:
        """Refuse a name that no row of the run's data has: a slip is not a row that was never drawn."""
        from got_train.data.record import location_of

        if self.mixture.total is None:
            return  # rows of a stream are not counted, let alone searched
        for source in self.mixture.sources:
            if any(location_of(source, place) == row for place in range(len(source))):
                return
        first = self.location_of(0)
        raise TrainingError(f"--row {row}: no row of this run; as it names them, such as {first}")


def open_trace(run: Path) -> Trace:
    from got_train.config.loader import load_config

    from .checkpoints import checkpoints, step_of
    from .ledger import read_sample_log
    from .run import build_mixture, find_tokenizer
    from .run_files import FINAL, RUN_FILE

    ledger, kept = read_sample_log(run), checkpoints(run)
    final = run / FINAL
    folders = [folder for folder in (final, *reversed(kept)) if (folder / RUN_FILE).is_file()]
    if not folders:
        raise TrainingError(f"{run}: no checkpoint and no final model; nothing of this run was kept")
    config = load_config(folders[0] / RUN_FILE)
    saved = max(ledger) if final.exists() else step_of(kept[-1])
    return Trace(config, build_mixture(config), find_tokenizer(config.model), ledger, saved)
