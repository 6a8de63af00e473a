"""train.py --dry-run: a run's first steps on its longest rows, and what the whole of it will take.

Everything is built and checked as for the run itself; nothing is kept on disk.
"""

from __future__ import annotations

import dataclasses
import math
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import numpy as np
import paddle
from paddlenlp.trainer import TrainerCallback
from tqdm import tqdm

from got_train.checkpoint.characters import load_characters
from got_train.config.schema import Config, EvalConfig
from got_train.data.characters import describe, unfamiliar
from got_train.data.collator import Collator, Sample, pack_samples
from got_train.data.mixture import Mixture
from got_train.data.records import Record, RecordError
from got_train.errors import ConfigError
from got_train.folder_lock import FolderLock
from got_train.modeling.config import IGNORED, PARTS
from got_train.modeling.got import Got
from got_train.profiling.memory import MicroBatch, Training, estimate, peak_memory

from .callbacks.gradient_check import GradientCheck
from .feature_cache import DiskUsage
from .run import build_feature_cache, build_trainer, check_disk_usage, check_output_dir
from .sources import count_steps
from .trainer import GotTrainer

NUM_PROBED, SECONDS = 20_000, 20.0  # the longest rows are looked for among the first; whichever ends first
NUM_SAMPLES = 64  # of which the tokens are counted
RUNTIME_OVERHEAD_BYTES = (
    100 << 20
)  # bytes that a process was seen to load after its start beside model and batches
MIN_SAVING = 0.02  # of the memory: what saves less is not offered


@dataclass
class StepTimer(TrainerCallback):
    """Seconds of every step: of its forward and backward passes, and of its update."""

    passes: list[float] = field(default_factory=list)
    updates: list[float] = field(default_factory=list)

    def on_step_begin(self, args: object, state: object, control: object, **kwargs: object) -> None:
        self._began = time.monotonic()

    def on_optimizer_begin(self, args: object, state: object, control: object, **kwargs: object) -> None:
        self.passes.append(time.monotonic() - self._began)

    def on_step_end(self, args: object, state: object, control: object, **kwargs: object) -> None:
        self.updates.append(time.monotonic() - self._began - self.passes[-1])


@dataclass(frozen=True)
class ProbedRecords:
    """The rows of a run that a dry run looks at; a bad one is a fault, unless the run drops such rows."""

    mixture: Mixture
    collator: Collator
    drop: bool

    def records(self, draws: Sequence[int]) -> Iterator[tuple[int, Record]]:
        for draw in draws:
            with self._dropping():
                yield draw, self.mixture[draw]

    def samples(self, draws: Sequence[int]) -> dict[int, Sample]:
        samples = {}
        for draw in draws:
            with self._dropping():
                samples[draw] = self.collator.sample(self.mixture[draw])
        if not samples:
            raise RecordError(
                f"data.train: none of {len(draws)} rows can be used; see them one by one without drop"
            )
        return samples

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
        return [ranked[index % len(ranked)] for index in range(count)], most, len(sizes)

    @contextmanager
    def _dropping(self) -> Iterator[None]:
        try:
            yield
        except RecordError:
            if not self.drop:
                raise


@dataclass(frozen=True)
class DryRunResult:
    """What three steps have shown of a run: two on the longest rows, one on usual ones."""

    config: Config
    trainer: GotTrainer
    mixture: Mixture
    usual: dict[int, Sample]
    longest: str  # said of the rows that were taken for the longest
    watch: StepTimer
    memory: int  # bytes at most
    begun: int  # bytes at most before there was a model
    training: Training
    micro_batch: MicroBatch  # of the longest rows
    usage: DiskUsage | None = None  # with train.feature_cache

    @property
    def steps(self) -> int:
        return count_steps(self.config, self.mixture.total)

    @property
    def accumulation(self) -> int:
        plan = self.trainer.loader.schedule
        return self.config.train.batch_size // (plan.micro_batch_size * plan.ranks)

    @property
    def estimate(self) -> int:
        """Bytes, to be compared with what was measured."""
        later = RUNTIME_OVERHEAD_BYTES if self.training.device == "cpu" else 0
        return self.begun + later + estimate(self.training, self.micro_batch)

    @property
    def step_seconds(self) -> tuple[float, float]:
        """Of a usual step, and of one whose rows are all as long as the longest."""
        (_, longest, usual), update = self.watch.passes, min(self.watch.updates)
        times = self.config.train.batch_size / self.trainer.loader.schedule.batch_size
        longest, usual = longest + self.sampling_seconds[0], usual + self.sampling_seconds[1]
        return times * usual + update, times * longest + update

    @property
    def sampling_seconds(self) -> tuple[float, float]:
        """Of the answers of the longest rows and of usual ones, a step; zeros where none are sampled."""
        seconds = getattr(self.trainer.loader, "sampling_seconds", ())
        updates = self.config.rl.updates
        return (max(seconds[:2]) / updates, seconds[-1] / updates) if seconds else (0.0, 0.0)

    def parameters(self) -> tuple[int, int]:
        """How many numbers the model has, and how many of them train."""
        values = self.trainer.model.parameters()
        trained = [value.size for value in values if not value.stop_gradient]
        return sum(value.size for value in values), sum(trained)


def dry_run(config: Config, resume: bool = False) -> str:
    """The report of a measured start of a run. Raises what the run would raise."""
    _look_at_output_dir(config, resume)
    return "\n".join(_report(measure(config)))


def _look_at_output_dir(config: Config, resume: bool) -> None:
    """Refuse a folder as the run would; one that was not there is taken away again."""
    folder = Path(config.train.output_dir)
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        FolderLock(folder, "train.output_dir", ConfigError).refuse_if_held()
        check_output_dir(config, resume)
    finally:
        for path in missing:
            with suppress(OSError):
                path.rmdir()


def measure(config: Config, longest: Sequence[Record] = ()) -> DryRunResult:
    """Three steps of a run, the first two (the optimizer is full from then on) on its longest rows.

    These are looked for among its first draws, unless they are known and given. Nothing stays on disk.
    """
    with tempfile.TemporaryDirectory() as folder:
        begun = peak_memory()
        trainer = build_trainer(_short_config(config, folder))
        loader, training = trainer.loader, _training(config, trainer.model)
        mixture, size = loader.mixture, loader.schedule.batch_size
        cache = build_feature_cache(config, trainer.model)
        usage = None if cache is None else check_disk_usage(config, cache, mixture, loader.collator)
        rows = ProbedRecords(mixture, loader.collator, config.data.on_error == "skip")
        draws = range(min(NUM_PROBED, count_steps(config, mixture.total) * config.train.batch_size))
        if longest:
            most, description = len(loader.collator.sample(longest[0]).ids), "of all rows"
            chosen = [longest[index % len(longest)] for index in range(size)]
        else:
            probed, most, looked_at = rows.longest(draws, size)
            description, chosen = f"of the first {looked_at:,}", [mixture[draw] for draw in probed]
        usual = rows.samples(draws[:NUM_SAMPLES])
        third = [mixture[list(usual)[index % len(usual)]] for index in range(size)]
        loader.mixture = [*chosen, *chosen, *third]
        watch = StepTimer()
        trainer.add_callback(watch)
        trainer.train()
    description = f"{description} the longest have {most} tokens"
    memory = peak_memory()
    samples = [loader.collator.sample(loader.mixture[draw]) for draw in loader.schedule.sample_indices(0, 0)]
    batch = _micro_batch(loader.collator, samples)
    return DryRunResult(
        config, trainer, mixture, usual, description, watch, memory, begun, training, batch, usage
    )


def _training(config: Config, model: Got) -> Training:
    """What the memory of a run follows from, before the weights are cut into slices."""
    values = {part: list(model.part(part).parameters()) for part in PARTS}
    accumulation = config.train.batch_size // config.train.per_device_train_batch_size
    ranks = paddle.distributed.get_world_size()
    return Training(
        config=model.config,
        trained={part: [v.size for v in numbers if not v.stop_gradient] for part, numbers in values.items()},
        frozen={part: [v.size for v in numbers if v.stop_gradient] for part, numbers in values.items()},
        recompute=config.train.recomputed_parts,
        accumulates=accumulation > ranks,
        precision=config.train.precision,
        sharding=config.train.sharding,
        processes=ranks,
        device="gpu" if paddle.get_device().startswith("gpu") else "cpu",
    )


def _micro_batch(collator: Collator, samples: Sequence[Sample]) -> MicroBatch:
    batch = collator.batch(samples)
    supervised = int((batch["labels"] != IGNORED).sum())
    return MicroBatch(*batch["input_ids"].shape, supervised, len(batch["pixel_values"]))


def _report(measured: DryRunResult) -> Iterator[str]:
    config, trainer, usual = measured.config, measured.trainer, measured.usual
    steps, mixture = measured.steps, measured.mixture
    yield from _parts(trainer, config)
    yield ""
    yield f"rows       {_rows(mixture)}; {measured.longest}"
    yield f"steps      {_steps(config, steps, measured.accumulation, trainer.loader.schedule.ranks)}"
    yield f"tokens     {_tokens(list(usual.values()), steps * config.train.batch_size)}"
    if characters := _characters(config, trainer.loader.collator, [mixture[draw] for draw in usual]):
        yield f"characters {characters}"
    yield f"memory     {_memory(measured)}"
    for setting, size in suggestions(measured):
        yield f"           {setting}: about {size / 2**30:.2f} GB"
    if config.rl.objective == "grpo":
        yield f"sampling   {_sampling(measured)}"
    if measured.usage is not None:
        yield f"features   {measured.usage.words()}; the time is that without any"
    yield f"time       {_times(measured)}"
    yield ""
    yield from _shown(trainer.loader.collator, *next(iter(usual.items())), mixture)


def _characters(config: Config, collator: Collator, records: Sequence[Record]) -> str:
    """Which characters of these rows the model cannot know."""
    trained = load_characters(config.model.init_from) if config.model.init_from else None
    text = "".join(record.text for record in records)
    counts = unfamiliar(text, collator.tokenizer, trained)
    return f"{describe(counts, trained is not None)} in {len(records)} rows" if counts else ""


def _short_config(config: Config, folder: str) -> Config:
    """Three steps of one micro-batch a process, written nowhere that stays; two where there are more, as
    then gradients stay while the second runs.
    """
    once = config.train.per_device_train_batch_size * paddle.distributed.get_world_size()
    train = dataclasses.replace(
        config.train,
        max_steps=3,
        batch_size=once * min(2, config.train.batch_size // once),
        output_dir=folder,
        feature_cache="",
        logging_steps=1,
        save_steps=1_000_000,
        preview_samples=0,
        early_stopping_patience=0,
    )
    data = dataclasses.replace(config.data, num_workers=0, validation=())
    rl = (
        dataclasses.replace(config.rl, updates=1, stop_on_collapse=False)
        if config.rl.objective
        else config.rl
    )
    return dataclasses.replace(config, train=train, data=data, eval=EvalConfig(), rl=rl)


def _parts(trainer: GotTrainer, config: Config) -> Iterator[str]:
    check = trainer.callback(GradientCheck)
    yield f"{'part':10} {'parameters':>12} {'trains':>10} {'peak lr':>8} {'decay':>6} {'gradient norm':>14}"
    for part in PARTS:
        own = getattr(config.parts, part)
        values = trainer.model.part(part).parameters()
        size, trained = (
            sum(value.size for value in group)
            for group in (values, [v for v in values if not v.stop_gradient])
        )
        adapted = config.lora.rank and part in config.lora.parts
        shown = f"{trained:,}" if adapted else "yes" if own.trainable else "no"  # of adapters their number
        line = f"{part:10} {size:12,} {shown:>10}"
        if own.trainable:
            decay = config.optimizer.weight_decay if own.weight_decay is None else own.weight_decay
            line += f" {own.learning_rate or config.optimizer.learning_rate:8.1e} {decay:6g}"
            # there is no audit where no process has all gradients (sharding stage 2 and 3)
            line += f" {check.parts[part].gradient_norm:14.4g}" if check else f" {'-':>14}"
        yield line


def _memory(measured: DryRunResult) -> str:
    error = measured.estimate / measured.memory - 1
    return (
        f"{measured.memory / 2**30:.2f} GB at most, measured on the longest rows; estimated "
        f"{measured.estimate / 2**30:.2f} ({error:+.0%})"
    )


def suggestions(measured: DryRunResult) -> Iterator[tuple[str, int]]:
    """Settings that would lower the peak, each alone, and the bytes that they would leave by the estimate."""
    now, memory, seen = estimate(measured.training, measured.micro_batch), measured.memory, set()
    for setting, training, batch in _suggestions(measured):
        saved = now - estimate(training, batch)
        if saved >= MIN_SAVING * memory and saved not in seen:  # recompute of a frozen part changes nothing
            seen.add(saved)
            yield setting, memory - saved


def _suggestions(measured: DryRunResult) -> Iterator[tuple[str, Training, MicroBatch]]:
    """What a run that is short of memory may change without changing what it computes."""
    training, batch, train = measured.training, measured.micro_batch, measured.config.train
    for parts in (("vision", "decoder"), *(() if train.recomputed_parts else (("decoder",), ("vision",)))):
        setting = f"[{parts[0]}]" if len(parts) == 1 else "true"
        yield f"train.recompute={setting}", dataclasses.replace(training, recompute=parts), batch
    size = train.per_device_train_batch_size
    if size == 1:
        return
    left = max(number for number in range(1, size) if size % number == 0)
    several = dataclasses.replace(training, accumulates=True)
    yield f"train.per_device_train_batch_size={left}", several, _share(batch, left / size)
    if not measured.config.data.packing_length:
        usual = [len(sample.ids) for sample in measured.usual.values()][: size - 1]
        rows = pack_samples([batch.tokens, *usual], batch.tokens)
        beside = "one of the longest beside usual ones"
        yield (
            f"data.packing_length={batch.tokens} ({beside})",
            training,
            dataclasses.replace(batch, rows=len(rows)),
        )


def _share(batch: MicroBatch, share: float) -> MicroBatch:
    """Of a batch with fewer samples, as long."""
    rows, supervised, views = (
        math.ceil(share * number) for number in (batch.rows, batch.supervised, batch.views)
    )
    return MicroBatch(rows, batch.tokens, supervised, views)


def _rows(mixture: Mixture) -> str:
    counted = "not counted" if mixture.total is None else f"{mixture.total:,}"
    return f"{counted} in {_count(len(mixture.rows), 'source', 'sources')}"


def _steps(config: Config, steps: int, accumulation: int, ranks: int) -> str:
    parts = [_count(ranks, "process", "processes"), _count(accumulation, "micro-batch", "micro-batches")]
    shares = " x ".join([*parts, _count(config.train.per_device_train_batch_size, "row", "rows")])
    return f"{steps} of {config.train.batch_size} rows ({shares})"


def _count(number: int, one: str, several: str) -> str:
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


def _times(measured: DryRunResult) -> str:
    step, longest = measured.step_seconds
    return (
        f"about {tqdm.format_interval(measured.steps * step)}: {step:.2f} s a step, "
        f"{longest:.2f} s if all its rows were the longest"
    )


def _sampling(measured: DryRunResult) -> str:
    """What the answers of a step take, which the memory and the time above include."""
    settings, (longest, usual) = measured.config.rl, measured.sampling_seconds
    times = measured.config.train.batch_size / measured.trainer.loader.schedule.batch_size
    return (
        f"{settings.group_size} answers a page of at most {settings.max_new_tokens:,} tokens: "
        f"{times * usual:.2f} s of a step, {times * longest:.2f} s on the longest rows; memory and time "
        "include it"
    )


def _shown(collator: Collator, draw: int, sample: Sample, mixture: Mixture) -> Iterator[str]:
    """What the decoder is given of a sample, and between >>> and <<< what it is to say."""
    yield f"{mixture[draw].location}, as the decoder sees it; it learns what stands between >>> and <<<:"
    text = ""
    for supervised, tokens in groupby(
        zip(sample.ids, sample.labels, strict=True), lambda pair: pair[1] != IGNORED
    ):
        words = collator.tokenizer.decode([token for token, _ in tokens], skip_special=False)
        text += f">>>{words}<<<" if supervised else words
    image = collator.tokenizer.decode([collator.tokenizer.image_id], skip_special=False)
    yield re.sub(f"(?:{re.escape(image)})+", lambda run: f"{image} x {len(run[0]) // len(image)}", text)
