"""train.py --dry-run: a run's first steps on its longest rows, and what the whole of it will take.

Everything is built and checked as for the run itself; nothing is kept on disk.
"""

from __future__ import annotations

import dataclasses
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
from paddlenlp.trainer import TrainerCallback
from tqdm import tqdm

from got_train.config import Config
from got_train.data.collator import Collator, Sample
from got_train.data.mixture import Mixture
from got_train.data.records import Record, RecordError
from got_train.modeling import IGNORED, PARTS

from .audit import GradientAudit
from .memory import peak_memory
from .run import build_trainer, count_steps

if TYPE_CHECKING:
    from .trainer import GotTrainer

RECORDS, SECONDS = 20_000, 20.0  # the longest rows are looked for among the first; whichever ends first
SAMPLES = 64  # of which the tokens are counted


@dataclass
class Stopwatch(TrainerCallback):
    """Seconds of every step: of its forward and backward passes, and of its update."""

    passes: list[float] = field(default_factory=list)
    updates: list[float] = field(default_factory=list)

    def on_step_begin(self, args: object, state: object, control: object, **kwargs: object) -> None:
        self._began = time.monotonic()

    def on_optimizer_begin(self, args: object, state: object, control: object, **kwargs: object) -> None:
        self.passes.append(time.monotonic() - self._began)

    def on_step_end(self, args: object, state: object, control: object, **kwargs: object) -> None:
        self.updates.append(time.monotonic() - self._began - self.passes[-1])


class Chosen:
    """Some draws of a mixture, as a mixture of their own."""

    def __init__(self, mixture: Mixture, draws: Sequence[int]) -> None:
        self.mixture, self.draws = mixture, draws

    def __getitem__(self, draw: int) -> Record:
        return self.mixture[self.draws[draw]]


@dataclass(frozen=True)
class Rows:
    """The rows of a run that a dry run looks at; a bad one is a fault, unless the run drops such rows."""

    mixture: Mixture
    collator: Collator
    drop: bool

    def records(self, draws: Sequence[int]) -> Iterator[tuple[int, Record]]:
        for draw in draws:
            with self._dropping():
                yield draw, self.mixture[draw]

    def samples(self, draws: Sequence[int]) -> dict[int, Sample]:
        found = {}
        for draw in draws:
            with self._dropping():
                found[draw] = self.collator.sample(self.mixture[draw])
        if not found:
            raise RecordError(
                f"data.train: none of {len(draws)} rows can be used; see them one by one without drop"
            )
        return found

    def longest(self, draws: Sequence[int], count: int) -> tuple[list[int], int, int]:
        """Those with the most tokens, how many these are, and how many draws were looked at.

        They are found by the lengths of their texts and images, then counted exactly.
        """
        sizes, end = {}, time.monotonic() + SECONDS
        for draw, record in self.records(draws):
            sizes[draw] = len(record.text) + len(record.images) * self.collator.view_tokens
            if time.monotonic() > end:
                break
        samples = self.samples(sorted(sizes, key=lambda draw: -sizes[draw])[: 4 * count + 16])
        ranked = sorted(samples, key=lambda draw: -len(samples[draw].ids))
        most = len(samples[ranked[0]].ids)
        return [ranked[place % len(ranked)] for place in range(count)], most, len(sizes)

    @contextmanager
    def _dropping(self) -> Iterator[None]:
        try:
            yield
        except RecordError:
            if not self.drop:
                raise


def dry_run(config: Config) -> str:
    """The report of three steps: two on the longest rows (the optimizer is full from then on), one on usual.

    Raises what the run would raise.
    """
    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(_short(config, folder))
        loader = trainer.loader
        mixture, plan = loader.mixture, loader.plan
        rows = Rows(mixture, loader.collator, config.data.on_bad == "drop")
        steps = count_steps(config, mixture.total)
        draws = range(min(RECORDS, steps * config.train.batch_size))
        longest, most, looked_at = rows.longest(draws, plan.batch_size)
        usual = rows.samples(draws[:SAMPLES])
        third = [list(usual)[place % len(usual)] for place in range(plan.batch_size)]
        loader.mixture = Chosen(mixture, [*longest, *longest, *third])
        watch = Stopwatch()
        trainer.add_callback(watch)
        trainer.train()
    accumulation = config.train.batch_size // plan.batch_size
    lines = [
        *_parts(trainer, config),
        "",
        f"rows       {_rows(mixture)}; of the first {looked_at:,} the longest have {most} tokens",
        f"steps      {_steps(config, steps, accumulation, plan.ranks)}",
        f"tokens     {_tokens(list(usual.values()), steps * config.train.batch_size)}",
        f"memory     {peak_memory() / 2**30:.2f} GB at most, measured on the longest rows",
        f"time       {_times(watch, steps, accumulation)}",
        "",
        *_shown(loader.collator, *next(iter(usual.items())), mixture),
    ]
    return "\n".join(lines)


def _short(config: Config, folder: str) -> Config:
    """Three steps of one micro-batch a process, written nowhere that stays."""
    import paddle

    train = dataclasses.replace(
        config.train,
        steps=3,
        batch_size=config.train.micro_batch_size
        * (paddle.distributed.get_world_size() // config.train.tensor_parallel),
        output_dir=folder,
        log_every=1,
        save_every=1_000_000,
        show_rows=0,
        patience=0,
    )
    data = dataclasses.replace(config.data, workers=0, validation=())
    return dataclasses.replace(config, train=train, data=data)


def _parts(trainer: GotTrainer, config: Config) -> Iterator[str]:
    audits = [each for each in trainer.callback_handler.callbacks if isinstance(each, GradientAudit)]
    yield f"{'part':10} {'parameters':>12} {'trains':>7} {'peak lr':>8} {'decay':>6} {'gradient norm':>14}"
    for part in PARTS:
        own = getattr(config.parts, part)
        size = sum(value.size for value in trainer.model.part(part).parameters())
        line = f"{part:10} {size:12,} {'yes' if own.train else 'no':>7}"
        if own.train:
            decay = config.optim.weight_decay if own.weight_decay is None else own.weight_decay
            line += f" {own.lr or config.optim.lr:8.1e} {decay:6g}"
            # there is no audit where no process has all gradients (sharding stage 2 and 3)
            line += f" {audits[0].parts[part].gradient_norm:14.4g}" if audits else f" {'-':>14}"
        yield line


def _rows(mixture: Mixture) -> str:
    counted = "not counted" if mixture.total is None else f"{mixture.total:,}"
    return f"{counted} in {_counted(len(mixture.rows), 'source', 'sources')}"


def _steps(config: Config, steps: int, accumulation: int, ranks: int) -> str:
    parts = [_counted(ranks, "process", "processes"), _counted(accumulation, "micro-batch", "micro-batches")]
    shares = " x ".join([*parts, _counted(config.train.micro_batch_size, "row", "rows")])
    return f"{steps} of {config.train.batch_size} rows ({shares})"


def _counted(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"


def _tokens(samples: list[Sample], rows: int) -> str:
    """Of the whole run, from the mean of some."""
    every = np.mean([len(sample.ids) for sample in samples])
    learnt = np.mean([(sample.labels != IGNORED).sum() for sample in samples])
    views = np.mean([len(sample.views) for sample in samples])
    return (
        f"about {every * rows:,.0f}, of which {learnt * rows:,.0f} supervised; a row has {views:.1f} views, "
        f"{every:.0f} tokens, {learnt:.0f} supervised (mean of {len(samples)} rows)"
    )


def _times(watch: Stopwatch, steps: int, accumulation: int) -> str:
    (_, longest, usual), update = watch.passes, min(watch.updates)
    step = accumulation * usual + update
    return (
        f"about {tqdm.format_interval(steps * step)}: {step:.2f} s a step, "
        f"{accumulation * longest + update:.2f} s if all its rows were the longest"
    )


def _shown(collator: Collator, draw: int, sample: Sample, mixture: Mixture) -> Iterator[str]:
    """What the decoder is given of a sample, and between >>> and <<< what it is to say."""
    yield f"{mixture[draw].where}, as the decoder sees it; it learns what stands between >>> and <<<:"
    text = ""
    for supervised, tokens in groupby(
        zip(sample.ids, sample.labels, strict=True), lambda pair: pair[1] != IGNORED
    ):
        words = collator.tokenizer.decode([token for token, _ in tokens], skip_special=False)
        text += f">>>{words}<<<" if supervised else words
    image = collator.tokenizer.decode([collator.tokenizer.image_id], skip_special=False)
    yield re.sub(f"(?:{re.escape(image)})+", lambda run: f"{image} x {len(run[0]) // len(image)}", text)
