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
class ModelConfig:
    """What the model starts from. Without a path a part starts at random, with the sizes given here."""

    init_from: str = ""  # a whole checkpoint folder, any layout; sizes and prompt template are its own
    vision_from: str = ""  # the encoder only: a stage-1 or GOT checkpoint, or SAM ViT-B
    decoder_from: str = ""  # the decoder only: the folder of Qwen1.5-0.5B or OPT-125M
    tokenizer: str = ""  # folder; where empty that of init_from, decoder_from or vision_from, in this order
    prompt_template: Literal["", "repo", "hub", "transformers", "stage1"] = (
        ""  # empty: the checkpoint's, or repo
    )
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
    *("images", "task", "text", "box", "color", "box_unit", "char_boxes"),
    *("conversations", "messages", "query", "response", "prompt", "document"),
)
# Kinds of answers that are seldom meant; got_train.data.answers tells them.
UNUSUAL_ANSWERS = ("boxes", "json", "xml", "names", "numbers", "equal", "prompts")


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """One file or folder of records and its share of the run."""

    path: str = ""  # a file, a folder, or several files as in shards/*.parquet
    weight: float | None = None  # None in all sources: every row of every source once an epoch
    image_root: str = ""  # what relative image paths start from; empty: the folder of the file
    split: str = ""  # of a data set that has several; empty: train
    streaming: bool = False  # read forward only, shuffled in windows; needs weights and train.max_steps
    columns: dict[str, str] = field(default_factory=dict)  # {text: ground_truth}: text is called so there
    task: str = ""  # of rows that name none
    allow_empty: bool = False  # blank pages, whose answer is empty
    share: float = 1.0  # of its documents; a smaller share is part of every larger one
    accept_answers: tuple[
        str, ...
    ] = ()  # of unusual kinds that are meant: boxes, json, xml, names, numbers, equal, prompts

    def __post_init__(self) -> None:
        for kind in self.accept_answers:
            require(
                kind in UNUSUAL_ANSWERS, f"accept_answers: {kind!r}; expected {', '.join(UNUSUAL_ANSWERS)}"
            )
        require(bool(self.path), "path is not given; expected a file or folder of records")
        require(self.weight is None or self.weight > 0, f"weight must be above 0; got {self.weight}")
        require(0 < self.share <= 1, f"share must be above 0, at most 1; got {self.share}")
        require(self.share == 1 or not self.streaming, f"share {self.share}: of a stream; use files, or 1")
        for key, name in self.columns.items():
            require(key in COLUMNS, f"columns.{key}: no key of a record; {nearest(key, list(COLUMNS))}")
            require(bool(name), f"columns.{key} is empty; give the name of a column, or leave {key} out")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    train: str | tuple[SourceConfig, ...] = ()
    replay: str | tuple[SourceConfig, ...] = ()  # the former stage's data; replay_share of it trains again
    replay_share: float = 0.8  # of the rows of each replay source, chosen by train.seed; the paper's
    validation: str | tuple[SourceConfig, ...] = ()
    validation_rows: int = 256  # at most, evenly spaced over all of them
    max_tokens: int = 8192  # of one sample, image tokens included
    max_crops: int = 6  # of multi_crop, without the thumbnail; 12 in the paper, 6 in the released code
    packing_length: int = 0  # tokens of a row that several samples share; 0: one sample a row
    on_error: Literal["raise", "skip"] = (
        "raise"  # a record that cannot be used; skip: quarantine-<rank>.jsonl
    )
    num_workers: int = 0  # processes that read and decode; 0: the main process
    remote_cache: str = ""  # a folder for copies of files of stores (s3://...); empty: in the user's cache
    remote_cache_gb: float = 10.0  # of copies of pictures, about

    def __post_init__(self) -> None:
        require(self.max_tokens >= 16, f"max_tokens must be at least 16; got {self.max_tokens}")
        require(self.num_workers >= 0, f"num_workers must not be negative; got {self.num_workers}")
        require(self.max_crops >= 1, f"max_crops must be at least 1; got {self.max_crops}")
        require(
            self.packing_length == 0 or self.packing_length >= 16,
            f"packing_length must be 0 or at least 16; got {self.packing_length}",
        )
        require(
            0 < self.replay_share <= 1, f"replay_share must be above 0, at most 1; got {self.replay_share}"
        )
        require(self.remote_cache_gb > 0, f"remote_cache_gb must be above 0; got {self.remote_cache_gb}")
        require(self.validation_rows >= 1, f"validation_rows must be at least 1; got {self.validation_rows}")
        weighted = [source.weight is not None for source in self.sources]
        require(
            all(weighted) or not any(weighted),
            f"train: {sum(weighted)} of {len(weighted)} sources have a weight; give all sources one, or none",
        )
        for index, source in enumerate(self.sources):
            known = not source.streaming or source.weight is not None
            require(known, f"train[{index}].streaming: its rows are not counted; give all sources a weight")
        for index, source in enumerate(self.replay_sources):
            self._check_replay(f"replay[{index}]", source, any(weighted))
        for index, source in enumerate(self.validation_sources):
            where = f"validation[{index}]"
            require(source.weight is None, f"{where}.weight: {source.weight}; here each row counts once")
            require(not source.streaming, f"{where}.streaming: its rows are taken from all over; drop it")

    def _check_replay(self, where: str, source: SourceConfig, weighted: bool) -> None:
        has = source.weight is not None
        needed = "needed, as train has weights" if weighted else f"{source.weight}; train has no weights"
        require(has == weighted or not self.sources, f"{where}.weight: {needed}")
        advice = "a share of its rows needs their number; put it into train with a weight"
        require(not source.streaming, f"{where}.streaming: {advice}")

    @property
    def sources(self) -> tuple[SourceConfig, ...]:
        return _sources(self.train)

    @property
    def replay_sources(self) -> tuple[SourceConfig, ...]:
        return _sources(self.replay)

    @property
    def validation_sources(self) -> tuple[SourceConfig, ...]:
        return _sources(self.validation)


def _sources(named: str | tuple[SourceConfig, ...]) -> tuple[SourceConfig, ...]:
    """A path alone is one source."""
    if isinstance(named, str):
        return (SourceConfig(path=named),) if named else ()
    return named


@dataclass(frozen=True, kw_only=True)
class PartConfig:
    """How one part of the model trains."""

    trainable: bool = True
    learning_rate: float | None = None  # peak; None: optimizer.learning_rate
    weight_decay: float | None = None  # None: optimizer.weight_decay

    def __post_init__(self) -> None:
        require(
            self.learning_rate is None or self.learning_rate > 0,
            f"learning_rate must be above 0; got {self.learning_rate} (trainable: false freezes)",
        )
        decay = self.weight_decay
        require(decay is None or decay >= 0, f"weight_decay must not be negative; got {decay}")


@dataclass(frozen=True, kw_only=True)
class PartsConfig:
    vision: PartConfig = field(default_factory=PartConfig)
    projector: PartConfig = field(default_factory=PartConfig)
    decoder: PartConfig = field(default_factory=PartConfig)

    def __post_init__(self) -> None:
        trains = self.vision.trainable or self.projector.trainable or self.decoder.trainable
        require(trains, "decoder.trainable is false, as in all parts; one must train")


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """Small matrices A (in, rank) and B (rank, out) beside frozen layers: y = xW + b + (alpha / rank) xAB.

    A part named here trains by these alone, with the learning rate that it would have had; the others follow
    parts.<part>.trainable. Only what trains is kept in checkpoints, with the name of its base.
    """

    rank: int = 0  # 0: no LoRA
    alpha: float = 16.0  # with rank 8 a factor of 2, the original arguments' values, as is dropout
    dropout: float = 0.05  # of the input of A, while training
    parts: tuple[Literal["vision", "projector", "decoder"], ...] = ("decoder",)
    targets: tuple[str, ...] = ()  # ends of layer names, such as q_proj, or regular expressions; empty: all

    def __post_init__(self) -> None:
        require(self.rank >= 0, f"rank must not be negative; got {self.rank}")
        others = dataclasses.fields(self)[1:]
        given = [part.name for part in others if getattr(self, part.name) != part.default]
        off = "rank is 0, which is no LoRA; a rank such as 8, or leave it out"
        require(self.rank > 0 or not given, f"{given[0] if given else ''}: {off}")
        require(self.alpha > 0, f"alpha must be above 0; got {self.alpha}")
        require(0 <= self.dropout < 1, f"dropout must be in 0..1, without 1; got {self.dropout}")
        require(bool(self.parts), "parts is empty; expected at least one of vision, projector, decoder")
        for target in self.targets:
            try:
                re.compile(target)
            except re.error as error:
                raise ConfigError(
                    f"targets: {target!r} is not a regular expression ({error}); use one such as q_proj"
                ) from error


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW. Biases and norms never decay."""

    learning_rate: float = 2e-5  # peak
    lr_scheduler_type: Literal["cosine", "constant"] = "cosine"
    warmup_ratio: float = 0.001  # of all steps; the released README's value
    min_lr_ratio: float = 0.0  # of the peak, where the cosine ends
    weight_decay: float = 0.0
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_epsilon: float = 1e-8
    max_grad_norm: float = 1.0  # of all gradients together; 0: no clipping

    def __post_init__(self) -> None:
        require(self.learning_rate > 0, f"learning_rate must be above 0; got {self.learning_rate}")
        require(0 <= self.warmup_ratio <= 1, f"warmup_ratio must be in 0..1; got {self.warmup_ratio}")
        require(0 <= self.min_lr_ratio <= 1, f"min_lr_ratio must be in 0..1; got {self.min_lr_ratio}")
        require(self.weight_decay >= 0, f"weight_decay must not be negative; got {self.weight_decay}")
        for key in ("adam_beta1", "adam_beta2"):
            require(
                0 <= getattr(self, key) < 1, f"{key} must be in 0..1, without 1; got {getattr(self, key)}"
            )
        require(self.adam_epsilon > 0, f"adam_epsilon must be above 0; got {self.adam_epsilon}")
        require(self.max_grad_norm >= 0, f"max_grad_norm must not be negative; got {self.max_grad_norm}")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    output_dir: str = "runs/run"
    max_steps: int = 0  # 0: epochs counts
    num_train_epochs: float = 1.0
    batch_size: int = 32  # samples of one step, over all processes and micro-batches
    per_device_train_batch_size: int = 1  # samples of one forward pass of one process
    seed: int = 42
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    char_loss_weight: float = (
        0.0  # of a loss that has the encoder name each patch's character; needs char_boxes in records
    )
    # of two more losses from char_boxes: view tokens name their characters, and the decoder's last attention
    # finds the next character's view token (training/loss.py); a small model learns to read far sooner
    token_char_loss_weight: float = 0.0
    attention_loss_weight: float = 0.0
    feature_cache: str = ""  # a folder that keeps what an encoder which does not train gives; empty: none
    # of all layers, or of those of some parts: trade a second forward pass for memory
    recompute: bool | tuple[Literal["vision", "decoder"], ...] = False
    logging_steps: int = 10  # steps, as are the next
    save_steps: int = 200
    save_total_limit: int = 2  # checkpoints; 0: all
    eval_steps: int = 200  # where data.validation is given
    early_stopping_patience: int = 0  # validations without a lower loss after which the run ends; 0: never
    ema_decay: float = 0.0  # decay of a moving average of the weights, for `best` and `final`; 0: none
    preview_samples: int = 4  # of data.validation, read at each validation for VisualDL and trackers
    preview_max_new_tokens: int = 128  # of each of these answers, at most
    # where curves, pictures and texts go; VisualDL's file is written in any case, as the report reads it
    report_to: tuple[Literal["visualdl", "tensorboard", "wandb", "swanlab", "mlflow"], ...] = ("visualdl",)
    threads: int = 0  # of one process on the CPU; 0: its share of the cores
    cpu_tuning: bool = True
    deterministic: bool = False  # on a GPU the same bits in every run; a CPU has them in any case
    # of the optimizer's state over processes; stage2: gradients too; stage3: weights too (2 and 3: GPUs only)
    sharding: Literal["", "stage1", "stage2", "stage3"] = ""

    def __post_init__(self) -> None:
        require(bool(self.output_dir), "output_dir is empty; expected a folder for checkpoints and logs")
        positive = ("batch_size", "per_device_train_batch_size", "logging_steps", "save_steps", "eval_steps")
        for key in positive:
            require(getattr(self, key) >= 1, f"{key} must be at least 1; got {getattr(self, key)}")
        require(
            self.batch_size % self.per_device_train_batch_size == 0,
            f"batch_size ({self.batch_size}) must be a multiple of train.per_device_train_batch_size "
            f"({self.per_device_train_batch_size})",
        )
        for key in (
            "max_steps",
            "seed",
            "save_total_limit",
            "early_stopping_patience",
            "preview_samples",
            "threads",
            "char_loss_weight",
            "token_char_loss_weight",
            "attention_loss_weight",
        ):
            require(getattr(self, key) >= 0, f"{key} must not be negative; got {getattr(self, key)}")
        require(self.seed < 2**32, f"seed must be below 2^32; got {self.seed}")
        most = 1 << 16
        require(
            self.per_device_train_batch_size <= most and self.batch_size <= most * most,
            f"per_device_train_batch_size ({self.per_device_train_batch_size}) must be at most {most}",
        )
        require(0 <= self.ema_decay < 1, f"ema_decay must be in 0..1, without 1; got {self.ema_decay}")
        require(
            self.preview_max_new_tokens >= 1,
            f"preview_max_new_tokens must be at least 1; got {self.preview_max_new_tokens}",
        )
        require(
            self.max_steps > 0 or self.num_train_epochs > 0,
            f"num_train_epochs must be above 0; got {self.num_train_epochs}",
        )

    @property
    def recomputed_parts(self) -> tuple[str, ...]:
        if isinstance(self.recompute, bool):
            return ("vision", "decoder") if self.recompute else ()
        return self.recompute


@dataclass(frozen=True, kw_only=True)
class RetentionConfig(SourceConfig):
    """Records of an old skill, read before, in and after a run, never trained on."""

    name: str = ""  # as the skill table calls it

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.name), f"name is not given; expected what {self.path} shows, such as old_pages")
        require(self.name.partition("/")[0] != "validation", f"name: {self.name}; data.validation has it")
        require(self.weight is None, f"weight: {self.weight}; here each row counts once")
        require(not self.streaming, "streaming: its rows are taken from all over; drop it")


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """Reading: rows of data.validation and of the probes are read and scored as evaluation does it."""

    # of data.validation, and of each probe, at most; None: 64 in a run with model.init_from, else 0
    max_samples: int | None = None
    max_new_tokens: int = 1024  # of an answer, at most
    batch_size: int = 8  # rows read together by one process
    every_steps: int = 0  # steps; 0: train.eval_steps
    time_limit: float = 120.0  # of reading at one time, at most; 0: no limit, as before and after the run
    best_metric: str = (
        "loss"  # what decides on best/ and train.early_stopping_patience; or a metric, such as edit_distance
    )
    retention_sets: tuple[RetentionConfig, ...] = ()
    baseline: bool = True  # read the base before the run and the result after it, for the skill table
    stop_on_regression: bool = False  # end the run when a probe's edit distance has risen for certain

    def __post_init__(self) -> None:
        for key in ("max_new_tokens", "batch_size"):
            require(getattr(self, key) >= 1, f"{key} must be at least 1; got {getattr(self, key)}")
        for key in ("max_samples", "every_steps", "time_limit"):
            require((getattr(self, key) or 0) >= 0, f"{key} must not be negative; got {getattr(self, key)}")
        require(
            bool(self.best_metric), "best_metric is empty; expected loss, or a metric such as edit_distance"
        )
        names = [probe.name for probe in self.retention_sets]
        twice = [name for name in names if names.count(name) > 1]
        require(
            not twice, f"retention_sets: {twice[0] if twice else ''} is named twice; each a name of its own"
        )
        compares = bool(names) and self.baseline
        require(
            compares or not self.stop_on_regression,
            "stop_on_regression: compares eval.retention_sets with what the base read; name some, keep "
            "baseline: true",
        )


# What an answer is worth: metrics of evaluation with their weights. Errors count as 1 - error; a metric of a
# kind of answer counts for that kind alone, and the reward is the weighted mean of those that apply.
REWARDS = {
    "edit_distance": 1.0,
    "table.teds": 1.0,
    "formula.token_edit": 1.0,
    "molecule.tanimoto": 1.0,
    "music.music_ser": 1.0,
    "chart.sim_slight": 1.0,
    "spot.spotting_f1": 1.0,
    "no_end": 0.2,
    "repeated_tail": 0.2,
    "invalid_structure": 0.2,
    "length_ratio": 0.2,
}


@dataclass(frozen=True, kw_only=True)
class RlConfig:
    """What a run learns from in place of labels: answers sampled and scored (grpo), or pairs (dpo)."""

    objective: Literal["", "grpo", "dpo"] = ""  # empty: labels
    group_size: int = 8  # answers sampled for each page
    temperature: float = 1.0  # of sampling, and of the probabilities that are trained
    top_p: float = 1.0  # sample from the most probable tokens that have so much together; 1: from all
    max_new_tokens: int = 1024  # of a sampled answer, at most
    # metric: weight, or a name of your own: path.py:function
    rewards: dict[str, float | str] = field(default_factory=lambda: dict(REWARDS))
    updates: int = 1  # of the weights with the same sampled answers
    clip_low: float = 0.2  # the ratio of new and old probability counts down to 1 - clip_low
    clip_high: float = 0.28  # and up to 1 + clip_high; DAPO's, so that rare tokens may grow
    # tokens of the step (DAPO), each answer alike (GRPO), or group_size x max_new_tokens (Dr. GRPO)
    normalization: Literal["token", "sequence", "constant"] = "token"
    scale_by_std: bool = False  # divide the advantages of a group by their deviation, as GRPO does
    kl_coefficient: float = 0.0  # of the distance to the start; above 0 a second model is held in memory
    beta: float = 0.1  # of dpo: how far the margin of a pair may take the model from its start
    stop_on_collapse: bool = True  # end the run when the reward rises while held-out records read worse

    def __post_init__(self) -> None:
        require(self.group_size >= 2, f"group_size must be at least 2; got {self.group_size}")
        require(self.temperature > 0, f"temperature must be above 0; got {self.temperature}")
        require(0 < self.top_p <= 1, f"top_p must be above 0, at most 1; got {self.top_p}")
        for key in ("max_new_tokens", "updates"):
            require(getattr(self, key) >= 1, f"{key} must be at least 1; got {getattr(self, key)}")
        require(0 < self.clip_low < 1, f"clip_low must be in 0..1; got {self.clip_low}")
        require(self.clip_high > 0, f"clip_high must be above 0; got {self.clip_high}")
        require(self.beta > 0, f"beta must be above 0; got {self.beta}")
        require(self.kl_coefficient >= 0, f"kl_coefficient must not be negative; got {self.kl_coefficient}")
        require(bool(self.rewards), "rewards is empty; a metric and its weight, such as edit_distance: 1")
        for name, value in self.rewards.items():
            if isinstance(value, str):
                file, _, function = value.rpartition(":")
                fits = file.endswith(".py") and function.isidentifier()
                require(fits, f"rewards.{name}: {value!r}; expected a weight, or path.py:function")
            else:
                require(value > 0, f"rewards.{name} must be above 0; got {value}")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that a run is."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    parts: PartsConfig = field(default_factory=PartsConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    rl: RlConfig = field(default_factory=RlConfig)

    def __post_init__(self) -> None:
        if self.train.sharding == "stage3":  # no process has all weights
            needs = [("data.validation", self.data.validation), ("train.ema_decay", self.train.ema_decay)]
            needs.append(("eval.retention_sets", self.eval.retention_sets))
            needs.append(("train.feature_cache", self.train.feature_cache))
            for key, value in needs:
                require(not value, f"{key}: needs whole weights; leave it out with stage3")
        self._check_lora()
        self._check_measure()
        self._check_rl()
        for key in ("char_loss_weight", "token_char_loss_weight"):
            weight = getattr(self.train, key)
            require(
                self.parts.vision.trainable or not weight,
                f"train.{key} ({weight}) teaches parts.vision, which does not train; use 0, or "
                "parts.vision.trainable: true",
            )
        require(
            "decoder" not in self.train.recomputed_parts or not self.train.attention_loss_weight,
            f"train.attention_loss_weight ({self.train.attention_loss_weight}) looks at attention that "
            "train.recompute does not keep; use recompute: [vision], or 0",
        )
        require(
            not (self.parts.vision.trainable and self.train.feature_cache),
            f"train.feature_cache ({self.train.feature_cache}) keeps what parts.vision gives, which trains; "
            "parts.vision.trainable: false, or leave it out",
        )
        require(
            bool(self.data.validation) or not self.train.early_stopping_patience,
            f"train.early_stopping_patience ({self.train.early_stopping_patience}) waits for a lower loss on "
            "data.validation, which is empty; name validation records, or use 0",
        )

    @property
    def measured_rows(self) -> int:
        """Of data.validation, and of each probe, at most; 0: nothing is read."""
        if not (self.data.validation or self.eval.retention_sets):
            return 0
        default = _MEASURED_ROWS if self.model.init_from else 0
        return default if self.eval.max_samples is None else self.eval.max_samples

    def _check_measure(self) -> None:
        best = self.eval.best_metric
        require(
            best == "loss" or (bool(self.data.validation) and self.measured_rows > 0),
            f"eval.best_metric ({best}) is measured on data.validation; name validation records and "
            "eval.max_samples",
        )
        require(
            self.measured_rows > 0 or not self.eval.retention_sets,
            f"eval.max_samples ({self.eval.max_samples or 0}): no row of eval.retention_sets is read; use 64",
        )

    def _check_rl(self) -> None:
        if not self.rl.objective:
            given = [key for key, value in vars(self.rl).items() if value != getattr(RlConfig(), key)]
            require(not given, f"rl.{given[0] if given else ''}: needs rl.objective, grpo or dpo; add it")
            return
        if self.rl.objective == "dpo":
            require(
                bool(self.model.init_from),
                "rl.objective dpo: measures from model.init_from, which is empty; name a model that reads",
            )
            require(self.rl.updates == 1, f"rl.updates ({self.rl.updates}): goes with grpo; use 1")
        for key, value in (
            ("data.packing_length", self.data.packing_length),
            ("train.char_loss_weight", self.train.char_loss_weight),
            ("train.token_char_loss_weight", self.train.token_char_loss_weight),
            ("train.attention_loss_weight", self.train.attention_loss_weight),
            ("lora.dropout", self.lora.rank and self.lora.dropout),
        ):
            require(not value, f"{key} ({value}): does not go with rl.objective; use 0")
        require(
            self.train.sharding not in ("stage2", "stage3"),
            f"train.sharding ({self.train.sharding}): sampling needs whole weights; use stage1",
        )
        require(
            not self.rl.kl_coefficient or bool(self.model.init_from),
            "rl.kl_coefficient: measures the distance to model.init_from, which is empty; use 0",
        )
        watched = self.model.init_from and self.data.validation and self.measured_rows and self.eval.baseline
        require(
            bool(watched) or not self.rl.stop_on_collapse or self.rl.objective == "dpo",
            "rl.stop_on_collapse: compares what held-out records read with what model.init_from read; name "
            "data.validation and keep eval.baseline, or use false",
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
                getattr(self.parts, part).trainable,
                f"parts.{part}.trainable is false, but lora.parts names {part}; drop one of the two",
            )
        alone = self.train.sharding in ("", "stage1")
        require(alone, "lora.rank: goes with data parallel and train.sharding stage1 only; leave others out")


# Settings that do not change what is computed; a resumed run must keep all others.
FREE = (
    "data.on_error",  # what was computed before met no bad row, or dropped it
    "data.validation",
    "data.validation_rows",
    "data.num_workers",
    "data.remote_cache",
    "data.remote_cache_gb",
    "eval.batch_size",
    "eval.baseline",
    "eval.retention_sets",
    "eval.time_limit",
    "train.output_dir",
    "train.feature_cache",
    "train.per_device_train_batch_size",
    "train.recompute",
    "train.logging_steps",
    "train.save_steps",
    "train.save_total_limit",
    "train.preview_samples",
    "train.preview_max_new_tokens",
    "train.report_to",
    "train.threads",
    "train.cpu_tuning",
    "train.sharding",
)


def differences(config: Config, other: Config) -> list[str]:
    """Where two configs differ in what is computed, as `train.seed: 1, not 2`."""
    ours, others = (dict(flat(dataclasses.asdict(side))) for side in (config, other))
    return [
        f"{key}: {ours.get(key)!r}, not {others.get(key)!r}"
        for key in ours | others  # rewards have names of their own
        if ours.get(key) != others.get(key) and key not in FREE
    ]


def flat(values: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings as (section.key, value)."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{before}{key}.")
        else:
            yield before + key, value
