"""One run as frozen dataclasses: every default stands here once, a YAML file says only what it changes.

Unknown keys, wrong types and impossible values are refused by their full key. Reads neither data nor weights.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from got_train.errors import ConfigError
from got_train.modeling.config import DecoderConfig, VisionConfig

from .checks import nearest, require


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """What the model starts from. Without a path a part starts at random, with the sizes given here."""

    init_from: str = ""  # a whole checkpoint folder, any layout; sizes and dialect are its own
    vision_from: str = ""  # the encoder only: a stage-1 or GOT checkpoint, or SAM ViT-B
    decoder_from: str = ""  # the decoder only: the folder of Qwen1.5-0.5B or OPT-125M
    tokenizer: str = ""  # folder; where empty that of init_from, decoder_from or vision_from, in this order
    dialect: Literal["", "repo", "hub", "transformers", "stage1"] = ""  # empty: the checkpoint's, or repo
    vision: VisionConfig = field(default_factory=VisionConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)  # vocab_size 0: the tokenizer's

    def __post_init__(self) -> None:
        for key in ("vision_from", "decoder_from", "vision", "decoder"):
            alone = getattr(self, key) in ("", VisionConfig(), DecoderConfig())
            require(
                alone or not self.init_from,
                f"{key}: init_from ({self.init_from}) brings the whole model; drop one",
            )


_MEASURED_ROWS = 64  # enough to tell a change of 0.1 in most metrics
# What a source's `columns` may name: the keys of a record, and those of the rows of others.
COLUMNS = (
    *("images", "task", "text", "box", "color", "box_unit", "glyphs"),
    *("conversations", "messages", "query", "response"),
)


@dataclass(frozen=True, kw_only=True)
class SourceSettings:
    """One file or folder of records and its share of the run."""

    path: str = ""  # a file, a folder, or several files as in shards/*.parquet
    weight: float | None = None  # None in all sources: every row of every source once an epoch
    image_root: str = ""  # what relative image paths start from; empty: the folder of the file
    split: str = ""  # of a data set that has several; empty: train
    streaming: bool = False  # read forward only, shuffled in windows; needs weights and train.steps
    columns: dict[str, str] = field(default_factory=dict)  # {text: ground_truth}: text is called so there
    task: str = ""  # of rows that name none
    allow_empty: bool = False  # blank pages, whose answer is empty

    def __post_init__(self) -> None:
        require(bool(self.path), "path is not given; a file or folder of records")
        require(self.weight is None or self.weight > 0, f"weight must be above 0; got {self.weight}")
        for key, name in self.columns.items():
            require(key in COLUMNS, f"columns.{key}: no key of a record; {nearest(key, list(COLUMNS))}")
            require(bool(name), f"columns.{key} is empty; the name of a column, or leave {key} out")


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    train: str | tuple[SourceSettings, ...] = ()
    replay: str | tuple[SourceSettings, ...] = ()  # the former stage's data; replay_share of it trains again
    replay_share: float = 0.8  # of the rows of each replay source, chosen by train.seed; the paper's
    validation: str | tuple[SourceSettings, ...] = ()
    validation_rows: int = 256  # at most, evenly spaced over all of them
    max_tokens: int = 8192  # of one sample, image tokens included
    max_tiles: int = 6  # of multi_crop, without the thumbnail; 12 in the paper, 6 in the released code
    pack: int = 0  # tokens of a row that several samples share; 0: one sample a row
    on_bad: Literal["stop", "drop"] = "stop"  # a record that cannot be used; drop: quarantine-<rank>.jsonl
    workers: int = 0  # processes that read and decode; 0: the main process

    def __post_init__(self) -> None:
        require(self.max_tokens >= 16, f"max_tokens must be at least 16; got {self.max_tokens}")
        require(self.workers >= 0, f"workers must not be negative; got {self.workers}")
        require(self.max_tiles >= 1, f"max_tiles must be at least 1; got {self.max_tiles}")
        require(self.pack == 0 or self.pack >= 16, f"pack must be 0 or at least 16; got {self.pack}")
        require(
            0 < self.replay_share <= 1, f"replay_share must be above 0, at most 1; got {self.replay_share}"
        )
        require(self.validation_rows >= 1, f"validation_rows must be at least 1; got {self.validation_rows}")
        weighted = [source.weight is not None for source in self.sources]
        require(
            all(weighted) or not any(weighted),
            f"train: {sum(weighted)} of {len(weighted)} sources have a weight; give all sources one, or none",
        )
        for place, source in enumerate(self.sources):
            known = not source.streaming or source.weight is not None
            require(known, f"train[{place}].streaming: its rows are not counted; give all sources a weight")
        for place, source in enumerate(self.replay_sources):
            self._check_replay(f"replay[{place}]", source, any(weighted))
        for place, source in enumerate(self.validation_sources):
            where = f"validation[{place}]"
            require(source.weight is None, f"{where}.weight: {source.weight}; here each row counts once")
            require(not source.streaming, f"{where}.streaming: its rows are taken from all over; drop it")

    def _check_replay(self, where: str, source: SourceSettings, weighted: bool) -> None:
        has = source.weight is not None
        needed = "needed, as train has weights" if weighted else f"{source.weight}; train has no weights"
        require(has == weighted or not self.sources, f"{where}.weight: {needed}")
        advice = "a share of its rows needs their number; put it into train with a weight"
        require(not source.streaming, f"{where}.streaming: {advice}")

    @property
    def sources(self) -> tuple[SourceSettings, ...]:
        return _sources(self.train)

    @property
    def replay_sources(self) -> tuple[SourceSettings, ...]:
        return _sources(self.replay)

    @property
    def validation_sources(self) -> tuple[SourceSettings, ...]:
        return _sources(self.validation)


def _sources(named: str | tuple[SourceSettings, ...]) -> tuple[SourceSettings, ...]:
    """A path alone is one source."""
    if isinstance(named, str):
        return (SourceSettings(path=named),) if named else ()
    return named


@dataclass(frozen=True, kw_only=True)
class PartSettings:
    """How one part of the model trains."""

    train: bool = True
    lr: float | None = None  # peak; None: optim.lr
    weight_decay: float | None = None  # None: optim.weight_decay

    def __post_init__(self) -> None:
        require(self.lr is None or self.lr > 0, f"lr must be above 0; got {self.lr} (train: false freezes)")
        decay = self.weight_decay
        require(decay is None or decay >= 0, f"weight_decay must not be negative; got {decay}")


@dataclass(frozen=True, kw_only=True)
class PartsSettings:
    vision: PartSettings = field(default_factory=PartSettings)
    projector: PartSettings = field(default_factory=PartSettings)
    decoder: PartSettings = field(default_factory=PartSettings)

    def __post_init__(self) -> None:
        trains = self.vision.train or self.projector.train or self.decoder.train
        require(trains, "decoder.train is false, as in all parts; one must train")


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """Small matrices A (in, rank) and B (rank, out) beside frozen layers: y = xW + b + (alpha / rank) xAB.

    A part named here trains by these alone, with the learning rate that it would have had; the others follow
    parts.<part>.train. Only what trains is kept in checkpoints, with the name of its base.
    """

    rank: int = 0  # 0: no LoRA
    alpha: float = 16.0  # with rank 8 a factor of 2, the original arguments' values, as is dropout
    dropout: float = 0.05  # of the input of A, while training
    parts: tuple[Literal["vision", "projector", "decoder"], ...] = ("decoder",)
    targets: tuple[str, ...] = ()  # ends of layer names, such as q_proj, or regular expressions; empty: all

    def __post_init__(self) -> None:
        require(self.rank >= 0, f"rank must not be negative; got {self.rank}")
        others = dataclasses.fields(self)[1:]
        given = [each.name for each in others if getattr(self, each.name) != each.default]
        off = "rank is 0, which is no LoRA; a rank such as 8, or leave it out"
        require(self.rank > 0 or not given, f"{given[0] if given else ''}: {off}")
        require(self.alpha > 0, f"alpha must be above 0; got {self.alpha}")
        require(0 <= self.dropout < 1, f"dropout must be in 0..1, without 1; got {self.dropout}")
        require(bool(self.parts), "parts is empty; at least one of vision, projector, decoder")
        for target in self.targets:
            try:
                re.compile(target)
            except re.error as error:
                raise ConfigError(
                    f"targets: {target!r} is no regular expression ({error}); such as q_proj"
                ) from error


@dataclass(frozen=True, kw_only=True)
class OptimSettings:
    """AdamW. Biases and norms never decay."""

    lr: float = 2e-5  # peak
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_ratio: float = 0.001  # of all steps; the released README's value
    min_lr_ratio: float = 0.0  # of the peak, where the cosine ends
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    max_grad_norm: float = 1.0  # of all gradients together; 0: no clipping

    def __post_init__(self) -> None:
        require(self.lr > 0, f"lr must be above 0; got {self.lr}")
        require(0 <= self.warmup_ratio <= 1, f"warmup_ratio must be in 0..1; got {self.warmup_ratio}")
        require(0 <= self.min_lr_ratio <= 1, f"min_lr_ratio must be in 0..1; got {self.min_lr_ratio}")
        require(self.weight_decay >= 0, f"weight_decay must not be negative; got {self.weight_decay}")
        for key in ("beta1", "beta2"):
            require(
                0 <= getattr(self, key) < 1, f"{key} must be in 0..1, without 1; got {getattr(self, key)}"
            )
        require(self.eps > 0, f"eps must be above 0; got {self.eps}")
        require(self.max_grad_norm >= 0, f"max_grad_norm must not be negative; got {self.max_grad_norm}")


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    output_dir: str = "runs/run"
    steps: int = 0  # 0: epochs counts
    epochs: float = 1.0
    batch_size: int = 32  # samples of one step, over all processes and micro-batches
    micro_batch_size: int = 1  # samples of one forward pass of one process
    seed: int = 42
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    glyph_weight: float = (
        0.0  # of a loss that has the encoder name each patch's character; needs glyphs in records
    )
    feature_cache: str = ""  # a folder that keeps what an encoder which does not train gives; empty: none
    # of all layers, or of those of some parts: trade a second forward pass for memory
    recompute: bool | tuple[Literal["vision", "decoder"], ...] = False
    log_every: int = 10  # steps, as are the next
    save_every: int = 200
    keep_last: int = 2  # checkpoints; 0: all
    validate_every: int = 200  # where data.validation is given
    patience: int = 0  # validations without a lower loss after which the run ends; 0: never
    average: float = 0.0  # decay of a moving average of the weights, for `best` and `final`; 0: none
    show_rows: int = 4  # of data.validation, read at each validation for VisualDL
    show_tokens: int = 128  # of each of these answers, at most
    threads: int = 0  # of one process on the CPU; 0: its share of the cores
    tune_cpu: bool = True
    # of the optimizer's state over processes; stage2: gradients too; stage3: weights too (2 and 3: GPUs only)
    sharding: Literal["", "stage1", "stage2", "stage3"] = ""

    def __post_init__(self) -> None:
        require(bool(self.output_dir), "output_dir is empty; a folder for checkpoints and logs")
        positive = ("batch_size", "micro_batch_size", "log_every", "save_every", "validate_every")
        for key in positive:
            require(getattr(self, key) >= 1, f"{key} must be at least 1; got {getattr(self, key)}")
        require(
            self.batch_size % self.micro_batch_size == 0,
            f"batch_size ({self.batch_size}) must be a multiple of train.micro_batch_size "
            f"({self.micro_batch_size})",
        )
        for key in ("steps", "seed", "keep_last", "patience", "show_rows", "threads", "glyph_weight"):
            require(getattr(self, key) >= 0, f"{key} must not be negative; got {getattr(self, key)}")
        require(0 <= self.average < 1, f"average must be in 0..1, without 1; got {self.average}")
        require(self.show_tokens >= 1, f"show_tokens must be at least 1; got {self.show_tokens}")
        require(self.steps > 0 or self.epochs > 0, f"epochs must be above 0; got {self.epochs}")

    @property
    def recomputed_parts(self) -> tuple[str, ...]:
        if isinstance(self.recompute, bool):
            return ("vision", "decoder") if self.recompute else ()
        return self.recompute


@dataclass(frozen=True, kw_only=True)
class ProbeSettings(SourceSettings):
    """Records of an old skill, read before, in and after a run, never trained on."""

    name: str = ""  # as the skill table calls it

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.name), f"name is not given; what {self.path} shows, such as old_pages")
        require(self.name.partition("/")[0] != "validation", f"name: {self.name}; data.validation has it")
        require(self.weight is None, f"weight: {self.weight}; here each row counts once")
        require(not self.streaming, "streaming: its rows are taken from all over; drop it")


@dataclass(frozen=True, kw_only=True)
class MeasureSettings:
    """Reading: rows of data.validation and of the probes are read and scored as evaluation does it."""

    # of data.validation, and of each probe, at most; None: 64 in a run with model.init_from, else 0
    rows: int | None = None
    tokens: int = 1024  # of an answer, at most
    batch_size: int = 8  # rows read together by one process
    every: int = 0  # steps; 0: train.validate_every
    seconds: float = 120.0  # of reading at one time, at most; 0: no limit, as before and after the run
    best: str = "loss"  # what decides on best/ and train.patience; or a metric, such as edit_distance
    probes: tuple[ProbeSettings, ...] = ()
    before_after: bool = True  # read the base before the run and the result after it, for the skill table
    stop_if_worse: bool = False  # end the run when a probe's edit distance has risen for certain

    def __post_init__(self) -> None:
        for key in ("tokens", "batch_size"):
            require(getattr(self, key) >= 1, f"{key} must be at least 1; got {getattr(self, key)}")
        for key in ("rows", "every", "seconds"):
            require((getattr(self, key) or 0) >= 0, f"{key} must not be negative; got {getattr(self, key)}")
        require(bool(self.best), "best is empty; loss, or a metric such as edit_distance")
        names = [probe.name for probe in self.probes]
        twice = [name for name in names if names.count(name) > 1]
        require(not twice, f"probes: {twice[0] if twice else ''} is named twice; each a name of its own")
        compares = bool(names) and self.before_after
        require(
            compares or not self.stop_if_worse,
            "stop_if_worse: compares measure.probes with what the base read; name probes, keep before_after",
        )


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that a run is."""

    model: ModelSettings = field(default_factory=ModelSettings)
    data: DataSettings = field(default_factory=DataSettings)
    parts: PartsSettings = field(default_factory=PartsSettings)
    lora: LoraSettings = field(default_factory=LoraSettings)
    optim: OptimSettings = field(default_factory=OptimSettings)
    train: TrainSettings = field(default_factory=TrainSettings)
    measure: MeasureSettings = field(default_factory=MeasureSettings)

    def __post_init__(self) -> None:
        if self.train.sharding == "stage3":  # no process has all weights
            needs = [("data.validation", self.data.validation), ("train.average", self.train.average)]
            needs.append(("measure.probes", self.measure.probes))
            needs.append(("train.feature_cache", self.train.feature_cache))
            for key, value in needs:
                require(not value, f"{key}: needs whole weights; leave it out with stage3")
        self._check_lora()
        self._check_measure()
        require(
            self.parts.vision.train or not self.train.glyph_weight,
            f"train.glyph_weight ({self.train.glyph_weight}) teaches parts.vision, which does not train; "
            "0, or parts.vision.train: true",
        )
        require(
            not (self.parts.vision.train and self.train.feature_cache),
            f"train.feature_cache ({self.train.feature_cache}) keeps what parts.vision gives, which trains; "
            "parts.vision.train: false, or leave it out",
        )
        require(
            bool(self.data.validation) or not self.train.patience,
            f"train.patience ({self.train.patience}) waits for a lower loss on data.validation, which is "
            "empty; name validation records, or 0",
        )

    @property
    def measured_rows(self) -> int:
        """Of data.validation, and of each probe, at most; 0: nothing is read."""
        if not (self.data.validation or self.measure.probes):
            return 0
        default = _MEASURED_ROWS if self.model.init_from else 0
        return default if self.measure.rows is None else self.measure.rows

    def _check_measure(self) -> None:
        best = self.measure.best
        require(
            best == "loss" or (bool(self.data.validation) and self.measured_rows > 0),
            f"measure.best ({best}) is measured on data.validation; name validation records and measure.rows",
        )
        require(
            self.measured_rows > 0 or not self.measure.probes,
            f"measure.rows ({self.measure.rows or 0}): no row of measure.probes is read; such as 64",
        )

    def _check_lora(self) -> None:
        if not self.lora.rank:
            return
        require(
            bool(self.model.init_from),
            "lora.rank: adapters are kept without the weights that they belong to; give model.init_from",
        )
        for part in self.lora.parts:
            require(
                getattr(self.parts, part).train,
                f"parts.{part}.train is false, but lora.parts names {part}; drop one of the two",
            )
        alone = self.train.sharding in ("", "stage1")
        require(alone, "lora.rank: goes with data parallel and train.sharding stage1 only; leave others out")


# Settings that do not change what is computed; a resumed run must keep all others.
FREE = (
    "data.on_bad",  # what was computed before met no bad row, or dropped it
    "data.validation",
    "data.validation_rows",
    "data.workers",
    "measure.batch_size",
    "measure.before_after",
    "measure.probes",
    "measure.seconds",
    "train.output_dir",
    "train.feature_cache",
    "train.micro_batch_size",
    "train.recompute",
    "train.log_every",
    "train.save_every",
    "train.keep_last",
    "train.show_rows",
    "train.show_tokens",
    "train.threads",
    "train.tune_cpu",
    "train.sharding",
)


def differences(config: Config, other: Config) -> list[str]:
    """Where two configs differ in what is computed, as `train.seed: 1, not 2`."""
    ours, others = (dict(flat(dataclasses.asdict(each))) for each in (config, other))
    return [
        f"{key}: {ours[key]!r}, not {others[key]!r}"
        for key in ours
        if ours[key] != others[key] and key not in FREE
    ]


def flat(values: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings as (section.key, value)."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{before}{key}.")
        else:
            yield before + key, value
