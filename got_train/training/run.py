"""From a config to a trainer that is ready to go; everything that can be refused is refused here."""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from got_train.config.loader import load_config
from got_train.config.schema import Config, ModelConfig, SourceConfig, differences
from got_train.cpu import settings as cpu
from got_train.data.collator import Collator
from got_train.data.mixture import Mixture, replay_subset, subsample
from got_train.data.records import Record, RecordError, RecordStream, open_stream, read_records
from got_train.errors import ConfigError
from got_train.tokenizer import Tokenizer, load_tokenizer

from .checkpoints import checkpoints, commit, explain_save_errors, make_tmp_dir, read_json, remove_leftovers
from .run_files import FINAL, ROWS_FILE, RUN_FILE

if TYPE_CHECKING:
    from got_train.modeling.got import Got

    from .feature_cache import DiskUsage, FeatureCache
    from .generation_eval import EvalRecords
    from .signals import SignalHandler
    from .trainer import GotTrainer


NUM_PROBED = 16  # rows of which the views are counted, to know what their features take


def check_device(config: Config) -> str:
    """The device that Paddle has, "gpu" or "cpu"; refuses what the CPU cannot do."""
    import paddle

    device = paddle.get_device().split(":")[0]
    train = config.train
    if device == "cpu":
        if train.precision != "float32":
            raise ConfigError(f"train.precision {train.precision}: the CPU has float32 only; that, or a GPU")
        if train.sharding not in ("", "stage1"):
            raise ConfigError(f"train.sharding {train.sharding}: needs GPUs; on the CPU there is stage1")
    elif train.precision == "bfloat16" and paddle.device.cuda.get_device_capability() < (8, 0):
        has = ".".join(map(str, paddle.device.cuda.get_device_capability()))
        raise ConfigError(
            f"train.precision bfloat16: this GPU has compute capability {has}, 8.0 is needed; use float16"
        )
    return device


def find_tokenizer(settings: ModelConfig) -> Tokenizer:
    for folder in (settings.tokenizer, settings.init_from, settings.decoder_from, settings.vision_from):
        if folder:
            return load_tokenizer(folder)
    raise ConfigError("model.tokenizer: no folder given, and no checkpoint to take it from; a folder")


def build_model(settings: ModelConfig, tokenizer: Tokenizer, lora: bool = False) -> Got:
    """The model that a run starts from, without the adapters that it may train by LoRA."""
    from got_train.checkpoint.weights import load_decoder, load_vision
    from got_train.modeling.config import GotConfig
    from got_train.modeling.got import Got

    from .adapters import load_initial_model

    if settings.init_from:
        model = load_initial_model(settings.init_from, lora)
        if settings.prompt_template not in ("", model.config.prompt_template):
            raise ConfigError(
                f"model.prompt_template {settings.prompt_template}: {settings.init_from} was trained with "
                f"{model.config.prompt_template}; leave it empty"
            )
        if model.config.decoder.vocab_size != tokenizer.size:
            raise ConfigError(
                f"model.tokenizer: {tokenizer.size} tokens; {settings.init_from} has a vocabulary of "
                f"{model.config.decoder.vocab_size}"
            )
        return model
    decoder = settings.decoder
    if decoder.vocab_size == 0:
        decoder = dataclasses.replace(decoder, vocab_size=tokenizer.size)
    if decoder.vocab_size != tokenizer.size:
        raise ConfigError(
            f"model.decoder.vocab_size ({decoder.vocab_size}) must be the tokenizer's {tokenizer.size}; or 0"
        )
    model = Got(
        GotConfig(
            vision=settings.vision,
            decoder=decoder,
            image_token=tokenizer.image_id,
            pad_token=tokenizer.pad_id,
            stop_tokens=tuple(tokenizer.stop_ids),
            prompt_template=settings.prompt_template or "repo",
        )
    )
    if settings.vision_from:
        load_vision(model, settings.vision_from)
    if settings.decoder_from:
        load_decoder(model, settings.decoder_from)
    return model


def build_collator(config: Config, model: Got, tokenizer: Tokenizer) -> Collator:
    vision, places = model.config.vision, model.config.decoder.max_positions
    if config.data.max_tokens > places:
        raise ConfigError(
            f"data.max_tokens ({config.data.max_tokens}): the decoder has {places} positions; at most these"
        )
    return Collator(
        tokenizer=tokenizer,
        side=vision.image_side,
        view_tokens=vision.view_tokens,
        prompt_template=model.config.prompt_template,
        max_tokens=config.data.max_tokens,
        max_crops=config.data.max_crops,
        glyph_patch=vision.patch if config.train.char_loss_weight else 0,
        pack=config.data.packing_length,
    )


def open_source(source: SourceConfig) -> Sequence[Record] | RecordStream:
    """The records of a source; no picture is opened."""
    read = open_stream if source.streaming else read_records
    return read(
        source.path,
        image_root=source.image_root or None,
        allow_empty=source.allow_empty,
        task=source.task,
        columns=source.columns,
        split=source.split,
        accept_answers=source.accept_answers,
    )


def build_mixture(config: Config) -> Mixture:
    data, seed = config.data, config.train.seed
    if not data.sources:
        raise ConfigError("data.train: no data; give a file of records, e.g. data.train=my.jsonl")
    for place, source in enumerate(data.sources):
        if source.streaming and not config.train.max_steps:
            key = f"data.train[{place}].streaming"
            raise ConfigError(
                f"{key}: its rows are not counted, so epochs are not either; give train.max_steps"
            )
    records = [open_source(source) for source in data.sources]
    for place, source in enumerate(data.replay_sources):
        records.append(replay_subset(open_source(source), data.replay_share, seed, place))
    weights = [source.weight for source in (*data.sources, *data.replay_sources)]
    return Mixture(records, None if weights[0] is None else weights, seed)


def build_validation(config: Config) -> Sequence[Record] | None:
    """The records of data.validation that are used, the same in every run of the seed; None without any."""
    sources = config.data.validation_sources
    if not sources:
        return None
    return subsample(list(map(open_source, sources)), config.data.validation_rows, config.train.seed)


def build_rows(config: Config) -> EvalRecords | None:
    """What a run reads; None if nothing."""
    from .generation_eval import EvalSet, choose_records, validation_sets

    if not config.measured_rows:
        return None
    sources = config.data.validation_sources
    validation = validation_sets([each.path for each in sources], list(map(open_source, sources)))
    probes = [EvalSet(each.name, each.path, open_source(each)) for each in config.eval.retention_sets]
    return choose_records(validation, probes, config.measured_rows, config.train.seed)


def count_steps(config: Config, rows: int | None) -> int:
    """Of a run over so many rows; None where streams leave them unknown and train.max_steps is given."""
    return config.train.max_steps or max(
        1, int(rows * config.train.num_train_epochs) // config.train.batch_size
    )


def build_trainer(config: Config, checkpoint: Path | None = None) -> GotTrainer:
    """The trainer of a run, which may go on from a checkpoint of the same run."""
    import paddle

    device = check_device(config)
    ranks, rank = paddle.distributed.get_world_size(), paddle.distributed.get_rank()
    tuned = device == "cpu" and config.train.cpu_tuning
    if device == "cpu":
        threads = config.train.threads or max(1, cpu.usable_cores() // ranks)
        (cpu.tune if tuned else cpu.set_threads)(threads)
    tokenizer = find_tokenizer(config.model)
    mixture = build_mixture(config)
    if checkpoint is not None:
        check_same_rows(mixture, checkpoint)
    output_dir = make_output_dir(config)

    from got_train.modeling.cpu.accelerate import accelerate
    from got_train.modeling.cpu.trim_hooks import trim_between_layers

    from .adapters import start_lora as begin_lora
    from .ledger import SampleLog
    from .loader import BatchSchedule, StepLoader
    from .rejected_samples import RejectedSamples
    from .trainer import GotTrainer, training_arguments

    steps = count_steps(config, mixture.total)
    plan = BatchSchedule(
        steps, config.train.batch_size, config.train.per_device_train_batch_size, rank, ranks
    )
    args = training_arguments(config, steps, plan.accumulation, device)
    paddle.seed(config.train.seed)  # here, as fleet has set one of its own
    model = build_model(config.model, tokenizer, lora=config.lora.rank > 0)
    adapter = begin_lora(model, config) if config.lora.rank else None
    if tuned:
        accelerate(model)
        trim_between_layers(model)
    collator = build_collator(config, model, tokenizer)
    feature_cache = build_feature_cache(config, model)
    if feature_cache is not None:
        make_folder("train.feature_cache", config.train.feature_cache, "features")
        room = check_room(config, feature_cache, mixture, collator)
        if rank == 0:
            print(f"train.feature_cache {feature_cache.folder}: {room.words()}", file=sys.stderr)
        feature_cache.attach()
    quarantine = None
    if config.data.on_error == "skip":
        quarantine = RejectedSamples(output_dir / f"quarantine-{rank}.jsonl")
    return GotTrainer(
        model=model,
        config=config,
        loader=StepLoader(mixture, collator, plan, config.data.num_workers, quarantine),
        tokenizer=tokenizer,
        args=args,
        validation=build_validation(config) or (),
        adapter=adapter,
        rows=build_rows(config),
        feature_cache=feature_cache,
        ledger=SampleLog(output_dir, rank, ranks),
    )


def make_output_dir(config: Config) -> Path:
    """The folder of a run."""
    return make_folder("train.output_dir", config.train.output_dir, "checkpoints and logs")


def make_folder(key: str, path: str, kept: str) -> Path:
    """The folder that a setting names; refuses now what could not be written hours later."""
    folder = Path(path)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{key} {folder}: a file; a folder for {kept}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise ConfigError(f"{key} {folder}: cannot be written ({error.strerror}); another folder") from error


def build_feature_cache(config: Config, model: Got) -> FeatureCache | None:
    """Of the encoder of a run's model, if there is to be one; touches no folder."""
    if not config.train.feature_cache:
        return None
    from .feature_cache import FeatureCache

    number_bytes = 4 if config.train.precision == "float32" else 2
    return FeatureCache(model.vision, Path(config.train.feature_cache), number_bytes)


def check_room(config: Config, cache: FeatureCache, mixture: Mixture, collator: Collator) -> DiskUsage:
    """What the features of a run's rows take; refused where the disk has not got it."""
    draws, views = count_steps(config, mixture.total) * config.train.batch_size, None
    if mixture.total is not None:
        views = round(min(draws, mixture.total) * _mean_views(mixture, collator, min(draws, NUM_PROBED)))
    room = cache.room(views)
    if room.missing > room.free:
        raise ConfigError(
            f"train.feature_cache {cache.folder}: {room.words()}; make room, name a folder on another disk, "
            "or leave it out"
        )
    return room


def _mean_views(mixture: Mixture, collator: Collator, draws: int) -> float:
    """The mean of the first draws; bad rows have their say when their turn comes."""
    found = []
    for draw in range(draws):
        with suppress(RecordError):
            found.append(len(collator.views(mixture[draw])[0]))
    return sum(found) / max(1, len(found))


def check_same_settings(config: Config, folder: Path) -> None:
    """Refuse to go on with settings that would make another run of it."""
    if not (folder / RUN_FILE).is_file():
        raise ConfigError(f"--resume: {folder} has no {RUN_FILE}; a whole folder that got train wrote")
    changed = differences(config, load_config(folder / RUN_FILE))
    if changed:
        raise ConfigError(
            f"--resume: {folder} was made with other settings ({'; '.join(changed)}); keep them, or start "
            "a run of its own with model.init_from and another train.output_dir"
        )


def check_same_rows(mixture: Mixture, checkpoint: Path) -> None:
    """Refuse to go on with data files that have grown or shrunk: every draw would be another."""
    before = read_json(checkpoint / ROWS_FILE)
    if mixture.rows != before:
        raise ConfigError(
            f"--resume: data.train has {mixture.rows} rows; {checkpoint} was made with {before}, and goes on "
            "with the same files only"
        )


def warn_no_replay(config: Config) -> str:
    """A warning where a model is fine-tuned and nothing of its former data is named as such."""
    if not config.model.init_from or config.data.replay:
        return ""
    advice = "name its former data there, data.replay_share of them come again"
    if len(config.data.sources) > 1:
        advice = f"unless a source of data.train is its former data; else {advice}"
    return f"model.init_from without data.replay: what the model could read before may be forgotten; {advice}"


def train(config: Config, resume: bool = False, interruption: SignalHandler | None = None) -> Path:
    """Run a config to its end, with `resume` from its last checkpoint; returns the final model's folder.

    A folder with results is refused otherwise. A run that is complete stays as it is. With an `interruption`
    a signal ends the run after its step, with a checkpoint, by KeyboardInterrupt.
    """
    output_dir = Path(config.train.output_dir)
    final = output_dir / FINAL
    found = checkpoints(output_dir) + [final] * final.exists()
    if found and not resume:
        raise ConfigError(
            f"train.output_dir {output_dir}: holds {found[-1].name}; add --resume to go on from it, or give "
            "another folder"
        )
    if found:
        check_same_settings(config, found[-1])
    if final.exists():
        return final
    from .callbacks.baseline_comparison import eval_baseline

    if interruption is not None:
        import paddlenlp.trainer  # noqa: F401 - takes the handler of SIGTERM away, so first

        interruption.listen()
    trainer = build_trainer(config, found[-1] if found else None)
    trainer.interruption = interruption
    if trainer.is_world_process_zero():
        remove_leftovers(output_dir)
        if warning := warn_no_replay(config):
            print(f"warning: {warning}", file=sys.stderr)
    eval_baseline(trainer)
    trainer.train(resume_from_checkpoint=str(found[-1]) if found else None)
    _finish(trainer, output_dir)
    return final


def _finish(trainer: GotTrainer, output_dir: Path) -> None:
    """Keep the final model and compare it with the base."""
    from .callbacks.baseline_comparison import eval_final

    made = make_tmp_dir(output_dir, FINAL)
    with explain_save_errors(made), trainer.kept_weights():
        trainer.save_model(str(made))  # all processes, of which each may hold a part
    with trainer.kept_weights():
        eval_final(trainer, made)
    trainer.wait()
    if trainer.is_world_process_zero():
        _note_characters(trainer, made)
        commit(made)
        remove_leftovers(output_dir)
    trainer.wait()  # no process leaves while another still works


def _note_characters(trainer: GotTrainer, folder: Path) -> None:
    """Beside the model, which characters it knows; not where what it started from does not say."""
    from got_train.checkpoint.characters import load_characters, save_characters
    from got_train.data.characters import characters_of

    model = trainer.config.model
    known = None if model.decoder_from else frozenset()
    if model.init_from:
        known = load_characters(model.init_from)
    if known is not None:
        save_characters(folder, known | characters_of(trainer.loader.mixture.sources))
