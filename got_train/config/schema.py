"""One run as frozen dataclasses: every default stands here once, a YAML file says only what it changes.

Unknown keys, wrong types and impossible values are refused by their full key. Reads neither data nor weights.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from got_train.modeling.config import DecoderConfig, ModelConfigError, VisionConfig


class ConfigError(ValueError):
    """A setting that does not exist or cannot be."""


def _check(condition: bool, message: str) -> None:
    """In a dataclass the message begins with the field; `build` puts the section before it."""
    if not condition:
        raise ConfigError(message)


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
            _check(
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
        _check(bool(self.path), "path is not given; a file or folder of records")
        _check(self.weight is None or self.weight > 0, f"weight must be above 0; got {self.weight}")
        for key, name in self.columns.items():
            _check(key in COLUMNS, f"columns.{key}: no key of a record; {nearest(key, list(COLUMNS))}")
            _check(bool(name), f"columns.{key} is empty; the name of a column, or leave {key} out")


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
        _check(self.max_tokens >= 16, f"max_tokens must be at least 16; got {self.max_tokens}")
        _check(self.workers >= 0, f"workers must not be negative; got {self.workers}")
        _check(self.max_tiles >= 1, f"max_tiles must be at least 1; got {self.max_tiles}")
        _check(self.pack == 0 or self.pack >= 16, f"pack must be 0 or at least 16; got {self.pack}")
        _check(
            0 < self.replay_share <= 1, f"replay_share must be above 0, at most 1; got {self.replay_share}"
        )
        _check(self.validation_rows >= 1, f"validation_rows must be at least 1; got {self.validation_rows}")
        weighted = [source.weight is not None for source in self.sources]
        _check(
            all(weighted) or not any(weighted),
            f"train: {sum(weighted)} of {len(weighted)} sources have a weight; give all sources one, or none",
        )
        for place, source in enumerate(self.sources):
            known = not source.streaming or source.weight is not None
            _check(known, f"train[{place}].streaming: its rows are not counted; give all sources a weight")
        for place, source in enumerate(self.replay_sources):
            self._check_replay(f"replay[{place}]", source, any(weighted))
        for place, source in enumerate(self.validation_sources):
            where = f"validation[{place}]"
            _check(source.weight is None, f"{where}.weight: {source.weight}; here each row counts once")
            _check(not source.streaming, f"{where}.streaming: its rows are taken from all over; drop it")

    def _check_replay(self, where: str, source: SourceSettings, weighted: bool) -> None:
        has = source.weight is not None
        needed = "needed, as train has weights" if weighted else f"{source.weight}; train has no weights"
        _check(has == weighted or not self.sources, f"{where}.weight: {needed}")
        advice = "a share of its rows needs their number; put it into train with a weight"
        _check(not source.streaming, f"{where}.streaming: {advice}")

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
        _check(self.lr is None or self.lr > 0, f"lr must be above 0; got {self.lr} (train: false freezes)")
        decay = self.weight_decay
        _check(decay is None or decay >= 0, f"weight_decay must not be negative; got {decay}")


@dataclass(frozen=True, kw_only=True)
class PartsSettings:
    vision: PartSettings = field(default_factory=PartSettings)
    projector: PartSettings = field(default_factory=PartSettings)
    decoder: PartSettings = field(default_factory=PartSettings)

    def __post_init__(self) -> None:
        trains = self.vision.train or self.projector.train or self.decoder.train
        _check(trains, "decoder.train is false, as in all parts; one must train")


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
        _check(self.rank >= 0, f"rank must not be negative; got {self.rank}")
        others = dataclasses.fields(self)[1:]
        given = [each.name for each in others if getattr(self, each.name) != each.default]
        off = "rank is 0, which is no LoRA; a rank such as 8, or leave it out"
        _check(self.rank > 0 or not given, f"{given[0] if given else ''}: {off}")
        _check(self.alpha > 0, f"alpha must be above 0; got {self.alpha}")
        _check(0 <= self.dropout < 1, f"dropout must be in 0..1, without 1; got {self.dropout}")
        _check(bool(self.parts), "parts is empty; at least one of vision, projector, decoder")
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
        _check(self.lr > 0, f"lr must be above 0; got {self.lr}")
        _check(0 <= self.warmup_ratio <= 1, f"warmup_ratio must be in 0..1; got {self.warmup_ratio}")
        _check(0 <= self.min_lr_ratio <= 1, f"min_lr_ratio must be in 0..1; got {self.min_lr_ratio}")
        _check(self.weight_decay >= 0, f"weight_decay must not be negative; got {self.weight_decay}")
        for key in ("beta1", "beta2"):
            _check(0 <= getattr(self, key) < 1, f"{key} must be in 0..1, without 1; got {getattr(self, key)}")
        _check(self.eps > 0, f"eps must be above 0; got {self.eps}")
        _check(self.max_grad_norm >= 0, f"max_grad_norm must not be negative; got {self.max_grad_norm}")


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
        _check(bool(self.output_dir), "output_dir is empty; a folder for checkpoints and logs")
        positive = ("batch_size", "micro_batch_size", "log_every", "save_every", "validate_every")
        for key in positive:
            _check(getattr(self, key) >= 1, f"{key} must be at least 1; got {getattr(self, key)}")
        _check(
            self.batch_size % self.micro_batch_size == 0,
            f"batch_size ({self.batch_size}) must be a multiple of train.micro_batch_size "
            f"({self.micro_batch_size})",
        )
        for key in ("steps", "seed", "keep_last", "patience", "show_rows", "threads", "glyph_weight"):
            _check(getattr(self, key) >= 0, f"{key} must not be negative; got {getattr(self, key)}")
        _check(0 <= self.average < 1, f"average must be in 0..1, without 1; got {self.average}")
        _check(self.show_tokens >= 1, f"show_tokens must be at least 1; got {self.show_tokens}")
        _check(self.steps > 0 or self.epochs > 0, f"epochs must be above 0; got {self.epochs}")

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
        _check(bool(self.name), f"name is not given; what {self.path} shows, such as old_pages")
        _check(self.name.partition("/")[0] != "validation", f"name: {self.name}; data.validation has it")
        _check(self.weight is None, f"weight: {self.weight}; here each row counts once")
        _check(not self.streaming, "streaming: its rows are taken from all over; drop it")


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
            _check(getattr(self, key) >= 1, f"{key} must be at least 1; got {getattr(self, key)}")
        for key in ("rows", "every", "seconds"):
            _check((getattr(self, key) or 0) >= 0, f"{key} must not be negative; got {getattr(self, key)}")
        _check(bool(self.best), "best is empty; loss, or a metric such as edit_distance")
        names = [probe.name for probe in self.probes]
        twice = [name for name in names if names.count(name) > 1]
        _check(not twice, f"probes: {twice[0] if twice else ''} is named twice; each a name of its own")
        compares = bool(names) and self.before_after
        _check(
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
                _check(not value, f"{key}: needs whole weights; leave it out with stage3")
        self._check_lora()
        self._check_measure()
        _check(
            self.parts.vision.train or not self.train.glyph_weight,
            f"train.glyph_weight ({self.train.glyph_weight}) teaches parts.vision, which does not train; "
            "0, or parts.vision.train: true",
        )
        _check(
            not (self.parts.vision.train and self.train.feature_cache),
            f"train.feature_cache ({self.train.feature_cache}) keeps what parts.vision gives, which trains; "
            "parts.vision.train: false, or leave it out",
        )
        _check(
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
        _check(
            best == "loss" or (bool(self.data.validation) and self.measured_rows > 0),
            f"measure.best ({best}) is measured on data.validation; name validation records and measure.rows",
        )
        _check(
            self.measured_rows > 0 or not self.measure.probes,
            f"measure.rows ({self.measure.rows or 0}): no row of measure.probes is read; such as 64",
        )

    def _check_lora(self) -> None:
        if not self.lora.rank:
            return
        _check(
            bool(self.model.init_from),
            "lora.rank: adapters are kept without the weights that they belong to; give model.init_from",
        )
        for part in self.lora.parts:
            _check(
                getattr(self.parts, part).train,
                f"parts.{part}.train is false, but lora.parts names {part}; drop one of the two",
            )
        alone = self.train.sharding in ("", "stage1")
        _check(alone, "lora.rank: goes with data parallel and train.sharding stage1 only; leave others out")


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """A YAML file and `section.key=value` overrides, which win. Raises ConfigError with file and key."""
    import yaml

    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; give a YAML file such as configs/nano/stage1.yaml")
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), strict_loader()) or {}
        _check(isinstance(values, dict), f"holds {values!r}; sections such as model, data, train are needed")
        for override in overrides:
            apply_override(values, override)
        return build(Config, values)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 ({error}); save it as UTF-8") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1
        raise ConfigError(
            f"{path}:{line}: not YAML ({error.problem}); key: value, indented with spaces"
        ) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML ({' '.join(str(error).split())}); a text file") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def strict_loader() -> type:
    """PyYAML's safe loader, which by itself would take the last of two equal keys and drop the first."""
    import yaml

    class StrictLoader(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
            keys = [str(key.value) for key, _ in node.value]
            for place, (key, _) in enumerate(node.value):
                twice = f"{keys[place]} (line {key.start_mark.line + 1}) stands there a second time"
                _check(keys[place] not in keys[:place], f"{twice}; keep one of them")
            return super().construct_mapping(node, deep)

    return StrictLoader


def apply_override(values: dict[str, Any], override: str) -> None:
    import yaml

    key, equals, text = override.partition("=")
    _check(
        bool(equals) and "." in key, f"{override!r}: an override reads section.key=value, e.g. optim.lr=1e-4"
    )
    *sections, last = key.split(".")
    for section in sections:
        if values.get(section) is None:
            values[section] = {}
        values = values[section]
        _check(isinstance(values, dict), f"{override!r}: {section} is a value; it has no keys below it")
    try:
        values[last] = yaml.safe_load(text) if text else ""
    except yaml.YAMLError as error:
        raise ConfigError(
            f"{override!r}: {text!r} is not YAML; a value, a [list] or a {{mapping}}"
        ) from error


def build(kind: type, values: Any, where: str = "") -> Any:
    """A dataclass from nested mappings, with every key and type checked."""
    _check(isinstance(values, dict), f"{where or 'config'} must be a mapping of settings; got {values!r}")
    hints = typing.get_type_hints(kind)
    known = [item.name for item in dataclasses.fields(kind)]
    before = f"{where}." if where else ""
    for key in values:
        _check(key in known, f"{before}{key}: no such setting; {nearest(str(key), known)}")
    arguments = {key: _convert(value, hints[key], before + key) for key, value in values.items()}
    try:
        return kind(**arguments)
    except ModelConfigError as error:  # its message begins with the section
        raise ConfigError(f"{where.rpartition('.')[0]}.{error}") from error
    except ConfigError as error:
        raise ConfigError(f"{before}{error}") from error


def nearest(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    return f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"


def _convert(value: Any, hint: Any, where: str) -> Any:
    origin, choices = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(value, choices, where)
    if origin is Literal:
        _check(value in choices, f"{where} must be one of {', '.join(map(repr, choices))}; got {value!r}")
        return value
    if origin is tuple:
        _check(isinstance(value, (list, tuple)), f"{where} must be a list; got {value!r}")
        return tuple(_convert(item, choices[0], f"{where}[{index}]") for index, item in enumerate(value))
    if origin is dict:
        _check(isinstance(value, dict), f"{where} must be a mapping; got {value!r}")
        return {
            _convert(key, choices[0], where): _convert(value[key], choices[1], f"{where}.{key}")
            for key in value
        }
    if dataclasses.is_dataclass(hint):
        return build(hint, value, where)
    return _convert_scalar(value, hint, where)


def _convert_union(value: Any, choices: tuple, where: str) -> Any:
    if value is None and type(None) in choices:
        return None
    sequence = isinstance(value, (list, tuple))
    fitting = [c for c in choices if c is not type(None) and (typing.get_origin(c) is tuple) == sequence]
    if not fitting or isinstance(value, dict):
        names = ["a list" if typing.get_origin(c) is tuple else c.__name__ for c in choices]
        raise ConfigError(f"{where} must be {' or '.join(names)}; got {value!r}")
    return _convert(value, fitting[0], where)


def _convert_scalar(value: Any, hint: type, where: str) -> Any:
    if hint is float and isinstance(value, str):  # YAML 1.1 reads 1e-4 as text
        try:
            value = float(value)
        except ValueError:
            raise ConfigError(f"{where} must be a number; got {value!r}") from None
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{where} must be a finite number; got {value}")
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ConfigError(f"{where} must be of type {hint.__name__}; got {value!r}")
    return value


def dump_config(config: Config) -> str:
    """The whole config as YAML that load_config reads back to an equal one."""
    import yaml

    return yaml.safe_dump(_plain(dataclasses.asdict(config)), sort_keys=False, allow_unicode=True)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


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
