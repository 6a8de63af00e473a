"""Which rows went into a step of a run, or a row into which steps: got trace RUN --step N.

The rows follow from the run's settings and data files; they are compared with what the ledger holds.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from got_train.config.schema import Config
    from got_train.data.mixture import Mixture
    from got_train.tokenizer import Tokenizer
    from got_train.training.ledger import Entry

FOUND, CHANGED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130


class TraceError(ValueError):
    """A question that this run's ledger cannot answer."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m got_train.cli.trace",
        allow_abbrev=False,
        description="Print the rows of a step, or the steps of a row; what was dropped is marked.",
        epilog="Exit codes: 0 found, 1 the data files are not those that were trained on, 2 wrong usage, "
        "130 interrupted.",
    )
    parser.add_argument("run", metavar="RUN", help="the output_dir of a run")
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--step", type=int, metavar="N", help="from 1, as in logs and checkpoints")
    asked.add_argument("--row", metavar="FILE:LINE", help="as messages and quarantine name it")
    options = parser.parse_args(arguments)
    from got_train.requirements import InstallationError

    try:
        trace = open_trace(Path(options.run))
        return _print_step(trace, options.step) if options.row is None else _print_row(trace, options.row)
    except BrokenPipeError:  # whoever reads has seen enough
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())  # or Python's last flush would tell of it
        return FOUND
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED
    except (InstallationError, ValueError, OSError) as error:
        _say(str(error))
        return WRONG_USAGE


@dataclass(frozen=True)
class Trace:
    """A run's ledger beside the data that it was made from."""

    config: Config
    mixture: Mixture
    tokenizer: Tokenizer
    ledger: dict[int, Entry]
    saved: int  # the last step of which weights were kept

    def draws(self, step: int) -> range:
        size = self.config.train.batch_size
        return range((step - 1) * size, step * size)

    def entry(self, step: int) -> Entry:
        if step not in self.ledger:
            raise TraceError(
                f"step {step}: the ledger has {min(self.ledger)} to {max(self.ledger)}; one of them"
            )
        return self.ledger[step]

    def rows(self, step: int) -> Iterator[tuple[str, bool]]:
        """file:line of each, and whether it was dropped."""
        dropped = self.entry(step).dropped
        return ((self.where(draw), draw in dropped) for draw in self.draws(step))

    def where(self, draw: int) -> str:
        from got_train.data.record import where_of

        return where_of(self.mixture, draw)

    def is_as_trained(self, step: int) -> bool:
        """Whether the rows that stand at these places now are those of the ledger."""
        from got_train.data.records import RecordError
        from got_train.training.ledger import mark

        entry, total = self.entry(step), 0
        for draw in set(self.draws(step)) - set(entry.dropped):
            try:
                record = self.mixture[draw]
            except RecordError:  # usable once, and no more
                return False
            total += mark(record.where, self.tokenizer.encode_answer(record.text))
        return total == entry.sum and entry.rows + len(entry.dropped) == len(self.draws(step))

    def steps(self, row: str) -> Iterator[tuple[int, bool]]:
        """Those that a row went into, and whether it was dropped there."""
        names: dict[tuple[int, int], str] = {}
        for step in sorted(self.ledger):
            for draw in self.draws(step):
                place = self.mixture.place(draw)
                if place not in names:
                    names[place] = self.where(draw)
                if names[place] == row:
                    yield step, draw in self.ledger[step].dropped

    def check_row(self, row: str) -> None:
        """Refuse a name that no row of the run's data has: a slip is not a row that was never drawn."""
        from got_train.data.record import where_of

        if self.mixture.total is None:
            return  # rows of a stream are not counted, let alone searched
        for source in self.mixture.sources:
            if any(where_of(source, place) == row for place in range(len(source))):
                return
        raise TraceError(f"--row {row}: no row of this run; as it names them, such as {self.where(0)}")


def open_trace(run: Path) -> Trace:
    from got_train.config.schema import load_config
    from got_train.training.checkpoints import FINAL, RUN_FILE, checkpoints, step_of
    from got_train.training.ledger import read_ledger
    from got_train.training.run import build_mixture, find_tokenizer

    ledger, kept = read_ledger(run), checkpoints(run)
    final = run / FINAL
    folders = [folder for folder in (final, *reversed(kept)) if (folder / RUN_FILE).is_file()]
    if not folders:
        raise TraceError(f"{run}: no checkpoint and no final model; nothing of this run was kept")
    config = load_config(folders[0] / RUN_FILE)
    saved = max(ledger) if final.exists() else step_of(kept[-1])
    return Trace(config, build_mixture(config), find_tokenizer(config.model), ledger, saved)


def _print_step(trace: Trace, step: int) -> int:
    entry = trace.entry(step)
    kept = "" if step <= trace.saved else "; after the last checkpoint, so no weights of it are kept"
    _say(f"step {step}: {entry.rows} rows, {len(entry.dropped)} dropped{kept}")
    for where, dropped in trace.rows(step):
        print(f"{where} dropped" if dropped else where)
    return _judge(trace, [step])


def _print_row(trace: Trace, row: str) -> int:
    steps = list(trace.steps(row))
    if not steps:
        trace.check_row(row)
    for step, dropped in steps:
        print(f"{step} dropped" if dropped else step)
    _say(f"{row}: in {len(steps)} of the {len(trace.ledger)} steps of the ledger")
    return _judge(trace, [step for step, _ in steps])


def _judge(trace: Trace, steps: Sequence[int]) -> int:
    changed = [step for step in steps if not trace.is_as_trained(step)]
    if changed:
        _say(f"step {changed[0]}: the data files have other rows or answers now than when this step was made")
    return CHANGED if changed else FOUND


def _say(line: str) -> None:
    print(f"trace: {line}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
