"""From a config to a trainer that is ready to go, and its run; what can be refused is refused first."""

from __future__ import annotations

import dataclasses
import sys
from contextlib import suppress
from pathlib import Path

import paddle

from got_train.checkpoint.characters import load_characters, save_characters
from got_train.checkpoint.weights import load_decoder, load_vision
from got_train.config.loader import load_config
from got_train.config.schema import Config, ModelConfig, differences
from got_train.cpu import settings as cpu
from got_train.data.characters import characters_of
from got_train.data.collator import Collator
from got_train.data.mixture import Mixture
from got_train.data.records import RecordError
from got_train.errors import ConfigError, TrainingError
from got_train.folder_lock import FolderLock
from got_train.modeling.config import GotConfig
from got_train.modeling.cpu.accelerate import accelerate
from got_train.modeling.cpu.trim_hooks import trim_between_layers
from got_train.modeling.got import Got
from got_train.modeling.gpu.accelerate import accelerate_on_gpu
from got_train.tokenizer import Tokenizer, load_tokenizer

from .adapters import load_initial_model, start_lora
from .callbacks.baseline_comparison import eval_baseline, eval_final
from .callbacks.ema import EMA
from .callbacks.gradient_check import GradientCheck
from .callbacks.progress import Progress
from .callbacks.validation import Validation, reader_for
from .checkpoints import checkpoints, commit, explain_save_errors, make_tmp_dir, remove_leftovers, step_of
from .determinism import set_deterministic
from .feature_cache import DiskUsage, FeatureCache
from .generation_eval import EvalRecords, EvalSet, GenerationEval, choose_records, validation_sets
from .ledger import SampleLog, has_sample_log, read_sample_log
from .loader import BatchSchedule, StepLoader
from .rejected_samples import RejectedSamples
from .rl.collapse import CollapseGuard, RewardCurves
from .rl.objective import PolicyLoss
from .rl.preferences import PreferenceLoader, PreferenceLoss
from .rl.rollouts import RolloutLoader
from .run_files import FINAL, RUN_FILE
from .run_state import RunRecord, read_record
from .signals import SignalHandler
from .sources import (
    build_mixture,
    build_validation,
    count_steps,
    find_tokenizer,
    make_folder,
    make_output_dir,
    open_source,
    source_stamps,
)
from .trace import Trace
from .trackers import Trackers, last_values
from .trainer import GotTrainer, training_arguments

NUM_PROBED = 16  # rows of which the views are counted, to know what their features take
MAX_COMPARED_ROWS = 512  # of those that a run has seen, when it goes on


def check_device(config: Config) -> str:
    """The device that Paddle has, "gpu" or "cpu"; refuses what the CPU cannot do."""
    device = paddle.get_device().split(":")[0]
    train = config.train
    if device == "cpu":
        if train.precision != "float32":
            raise ConfigError(
                f"train.precision {train.precision}: the CPU has float32 only; use that, or a GPU"
            )
        if train.sharding not in ("", "stage1"):
            raise ConfigError(f"train.sharding {train.sharding}: needs GPUs; on the CPU there is stage1")
    elif train.precision == "bfloat16" and paddle.device.cuda.get_device_capability() < (8, 0):
        has = ".".join(map(str, paddle.device.cuda.get_device_capability()))
        raise ConfigError(
            f"train.precision bfloat16: this GPU has compute capability {has}, 8.0 is needed; use float16"
        )
    return device


def build_model(settings: ModelConfig, tokenizer: Tokenizer, lora: bool = False) -> Got:
    """The model that a run starts from, without the adapters that it may train by LoRA."""
    if settings.init_from:
        model = load_initial_model(settings.init_from, lora)
        if settings.prompt_template not in ("", model.config.prompt_template):
            raise ConfigError(
                f"model.prompt_template {settings.prompt_template}: {settings.init_from} was trained with "
                f"{model.config.prompt_template}; leave it empty"
            )
        words, image = model.config.decoder.vocab_size, model.config.image_token
        if words < tokenizer.size or (words > tokenizer.size and image != tokenizer.image_id):  # or padded
            raise ConfigError(
                f"model.tokenizer: {tokenizer.size} tokens; {settings.init_from} has a vocabulary of "
                f"{model.config.decoder.vocab_size}; use the tokenizer of that model"
            )
        return model
    decoder = settings.decoder
    if decoder.vocab_size == 0:
        decoder = dataclasses.replace(decoder, vocab_size=tokenizer.size)
    if decoder.vocab_size != tokenizer.size:
        raise ConfigError(
            f"model.decoder.vocab_size ({decoder.vocab_size}) must be the tokenizer's {tokenizer.size}, or 0"
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
    train, vision, positions = config.train, model.config.vision, model.config.decoder.max_positions
    if config.data.max_tokens > positions:
        raise ConfigError(
            f"data.max_tokens ({config.data.max_tokens}): the decoder has {positions} positions; use fewer"
        )
    return Collator(
        tokenizer=tokenizer,
        side=vision.image_side,
        view_tokens=vision.view_tokens,
        prompt_template=model.config.prompt_template,
        max_tokens=config.data.max_tokens,
        max_crops=config.data.max_crops,
        char_patch=vision.patch if train.char_loss_weight or train.token_char_loss_weight else 0,
        attention_labels=bool(train.attention_loss_weight),
        packing_length=config.data.packing_length,
    )


def build_eval_records(config: Config) -> EvalRecords | None:
    """What a run reads; None if nothing."""
    if not config.measured_rows:
        return None
    sources = config.data.validation_sources
    validation = validation_sets([source.path for source in sources], list(map(open_source, sources)))
    probes = [EvalSet(source.name, source.path, open_source(source)) for source in config.eval.retention_sets]
    return choose_records(validation, probes, config.measured_rows, config.train.seed)


def set_up_threads(config: Config, device: str, processes: int) -> int:
    """The threads of this process on the CPU, which are set; 0 on a GPU."""
    if device != "cpu":
        return 0
    threads = config.train.threads or max(1, cpu.usable_cores() // processes)
    (cpu.tune if config.train.cpu_tuning else cpu.set_threads)(threads)
    return threads


def build_trainer(config: Config, checkpoint: Path | None = None) -> GotTrainer:
    """The trainer of a run with its callbacks; it may go on from a checkpoint of the same run."""
    device = check_device(config)
    if config.train.deterministic and device == "gpu":
        set_deterministic()
    ranks, rank = paddle.distributed.get_world_size(), paddle.distributed.get_rank()
    threads = set_up_threads(config, device, ranks)
    tokenizer = find_tokenizer(config.model) if checkpoint is None else load_tokenizer(checkpoint)
    mixture, sources = build_mixture(config), source_stamps(config.data)
    if checkpoint is not None:
        record = read_record(checkpoint)
        check_same_threads(record, checkpoint, threads, ranks)
        check_same_rows(record, checkpoint, mixture, sources)
        if rank == 0:
            check_same_samples(config, mixture, tokenizer, checkpoint)
    output_dir = make_output_dir(config)
    schedule = BatchSchedule(
        count_steps(config, mixture.total),
        config.train.batch_size,
        config.train.per_device_train_batch_size,
        rank,
        ranks,
        config.rl.updates,
    )
    if checkpoint is not None and record.step > schedule.steps:
        raise ConfigError(f"--resume: {checkpoint} is beyond the run's {schedule.steps} steps; delete it")
    args = training_arguments(config, schedule.steps, schedule.accumulation, device)
    paddle.seed(config.train.seed)  # here, as fleet has set one of its own
    model = build_model(config.model, tokenizer, lora=config.lora.rank > 0)
    adapter = start_lora(model, config) if config.lora.rank else None
    accelerate_for(model, config, device)
    collator = build_collator(config, model, tokenizer)
    feature_cache = start_feature_cache(config, model, mixture, collator, rank)
    skips = config.data.on_error == "skip"
    rejected = RejectedSamples(output_dir / f"quarantine-{rank}.jsonl") if skips else None
    loader = build_loader(config, mixture, collator, schedule, rejected)
    callbacks = [Progress(config.train.batch_size, loader)]
    if config.train.sharding not in ("stage2", "stage3"):  # where a process has some gradients only
        callbacks.append(GradientCheck(model, config, args.output_dir))
    callbacks += [feature_cache] if feature_cache else []
    if set(config.train.report_to) - {"visualdl"}:
        callbacks.append(Trackers(config))
    trainer = GotTrainer(
        model=model,
        config=config,
        loader=loader,
        tokenizer=tokenizer,
        args=args,
        callbacks=callbacks,
        adapter=adapter,
        sample_log=SampleLog(output_dir, rank, ranks),
        sources=sources,
        threads=threads,
        training_loss=start_objective(config, loader, model, tokenizer) if config.rl.objective else None,
    )
    if config.rl.objective == "grpo":
        trainer.add_callback(RewardCurves(trainer, loader))
        trainer.guards += [CollapseGuard(config.train.output_dir)] if config.rl.stop_on_collapse else []
    if config.train.ema_decay:
        add_ema(trainer)
    add_validation(trainer)
    return trainer


def accelerate_for(model: Got, config: Config, device: str) -> None:
    """The kernels of the device, put on the plain model."""
    # stage 3 gathers weights layer by layer as layers are called, which fused forwards do not
    if device == "cpu" and config.train.cpu_tuning and config.train.sharding != "stage3":
        accelerate(model)
        trim_between_layers(model)
    accelerate_on_gpu(model)


def build_loader(
    config: Config,
    mixture: Mixture,
    collator: Collator,
    schedule: BatchSchedule,
    rejected: RejectedSamples | None,
) -> StepLoader:
    """Of labelled samples, of sampled answers (grpo) or of pairs (dpo)."""
    rows = (mixture, collator, schedule, config.data.num_workers, rejected)
    if config.rl.objective == "grpo":
        return RolloutLoader(*rows, config=config)
    return (PreferenceLoader if config.rl.objective == "dpo" else StepLoader)(*rows)


def start_objective(
    config: Config, loader: RolloutLoader | PreferenceLoader, model: Got, tokenizer: Tokenizer
) -> PolicyLoss | PreferenceLoss:
    """The objective of a model in training, and beside it the start, where the distance to it counts."""
    kind = PolicyLoss if config.rl.objective == "grpo" else PreferenceLoss
    loader.loss = kind(model, config.rl)
    if config.rl.kl_coefficient or config.rl.objective == "dpo":
        start = build_model(config.model, tokenizer)
        for parameter in start.parameters():
            parameter.stop_gradient = True
        loader.start_loss = kind(start.eval(), config.rl)
    return loader.loss


def add_ema(trainer: GotTrainer) -> None:
    """The trained weights' average, which is then what is validated and kept."""
    ema = EMA(trainer.model, trainer.config.train.ema_decay)
    trainer.add_callback(ema)
    trainer.extra["ema"], trainer.eval_weights = ema, ema.in_place


def add_validation(trainer: GotTrainer) -> None:
    """The loss of validation records and what the model reads, where there are any."""
    config, schedule = trainer.config, trainer.loader.schedule
    records, eval_records = build_validation(config) or (), build_eval_records(config)
    if not (records or eval_records):
        return
    generation_eval = None
    if eval_records:
        reader = reader_for(trainer, config.eval.max_new_tokens)
        generation_eval = GenerationEval(reader, eval_records, config, schedule.rank, schedule.ranks)
    trainer.add_callback(Validation(trainer, records, generation_eval))


def start_feature_cache(
    config: Config, model: Got, mixture: Mixture, collator: Collator, rank: int
) -> FeatureCache | None:
    """The folder of features of train.feature_cache, from which the encoder is served from now on."""
    cache = build_feature_cache(config, model)
    if cache is not None:
        make_folder("train.feature_cache", config.train.feature_cache, "features")
        usage = check_disk_usage(config, cache, mixture, collator)
        if rank == 0:
            print(f"train.feature_cache {cache.folder}: {usage.words()}", file=sys.stderr)
        cache.attach()
    return cache


def build_feature_cache(config: Config, model: Got) -> FeatureCache | None:
    """Of the encoder of a run's model, if there is to be one; touches no folder."""
    if not config.train.feature_cache:
        return None
    number_bytes = 4 if config.train.precision == "float32" else 2
    return FeatureCache(model.vision, Path(config.train.feature_cache), number_bytes)


def check_disk_usage(config: Config, cache: FeatureCache, mixture: Mixture, collator: Collator) -> DiskUsage:
    """What the features of a run's rows take; refused where the disk has not got it."""
    samples, views = count_steps(config, mixture.total) * config.train.batch_size, None
    if mixture.total is not None:
        mean = _mean_views(mixture, collator, min(samples, NUM_PROBED))
        views = round(min(samples, mixture.total) * mean)
    usage = cache.disk_usage(views)
    if usage.missing > usage.free:
        raise ConfigError(
            f"train.feature_cache {cache.folder}: {usage.words()}; make room, name a folder on another disk, "
            "or leave it out"
        )
    return usage


def _mean_views(mixture: Mixture, collator: Collator, count: int) -> float:
    """Of the first samples; bad rows have their say when their turn comes."""
    views = []
    for index in range(count):
        with suppress(RecordError):
            views.append(len(collator.views(mixture[index])[0]))
    return sum(views) / max(1, len(views))


def check_same_settings(config: Config, folder: Path) -> None:
    """Refuse to go on with settings that would make another run of it."""
    if not (folder / RUN_FILE).is_file():
        raise ConfigError(f"--resume: {folder} has no {RUN_FILE}; expected a folder of got train")
    changed = differences(config, load_config(folder / RUN_FILE))
    if changed:
        raise ConfigError(
            f"--resume: {folder} was made with other settings ({'; '.join(changed)}); keep them, or start "
            "a run of its own with model.init_from and another train.output_dir"
        )


def check_same_threads(record: RunRecord, checkpoint: Path, threads: int, processes: int) -> None:
    """Refuse another number of threads, which rounds otherwise; other processes do so in any case."""
    if record.processes == processes and record.threads != threads:
        raise ConfigError(
            f"--resume: {checkpoint} was made with {record.threads} threads, now {threads}, which round "
            f"otherwise; use train.threads={record.threads}"
        )


def check_same_rows(record: RunRecord, checkpoint: Path, mixture: Mixture, sources: dict[str, str]) -> None:
    """Refuse to go on with data files that are not what they were: samples would be others."""
    rows = tuple(map(str, mixture.rows))
    if rows != record.rows:
        raise ConfigError(
            f"--resume: data.train has [{', '.join(rows)}] rows; {checkpoint} was made with "
            f"[{', '.join(record.rows)}], and goes on with the same files only"
        )
    changed = [path for path, stamp in sources.items() if record.sources.get(path) != stamp]
    if changed:
        raise ConfigError(
            f"--resume: {changed[0]} has changed since {checkpoint} was made, which goes on with the same "
            "files only; put it back, or start a run of its own"
        )


def check_same_samples(config: Config, mixture: Mixture, tokenizer: Tokenizer, checkpoint: Path) -> None:
    """Refuse rows or pictures that are not those which the run has seen, as its sample log tells."""
    output_dir, saved = checkpoint.parent, step_of(checkpoint)
    if mixture.total is None or not has_sample_log(output_dir):
        return  # a stream is read forward only
    steps = {step: entry for step, entry in read_sample_log(output_dir).items() if step <= saved}
    step = Trace(config, mixture, tokenizer, steps, saved).changed_step(MAX_COMPARED_ROWS)
    if step is not None:
        raise ConfigError(
            f"--resume: rows of data.train that step {step} saw, or their pictures, have changed since; put "
            "them back, or start a run of its own"
        )


def warn_no_replay(config: Config) -> str:
    """A warning where a model is fine-tuned and nothing of its former data is named as such."""
    if not config.model.init_from or config.data.replay:
        return ""
    advice = "name its former data there, data.replay_share of them come again"
    if len(config.data.sources) > 1:
        advice = f"unless a source of data.train is its former data; else {advice}"
    return f"model.init_from without data.replay: what the model could read before may be forgotten; {advice}"


def check_output_dir(config: Config, resume: bool = False) -> Path | None:
    """What a run would go on from, in a folder that it may use; refuses one with results of its own."""
    output_dir = Path(make_output_dir(config))
    final = output_dir / FINAL
    results = checkpoints(output_dir) + [final] * final.exists()
    if results and not resume:
        raise ConfigError(
            f"train.output_dir {output_dir}: holds {results[-1].name}; add --resume to go on from it, or "
            "use another folder"
        )
    if results:
        check_same_settings(config, results[-1])
    return results[-1] if results else None


def train(config: Config, resume: bool = False, signals: SignalHandler | None = None) -> Path:
    """Run a config to its end, with `resume` from its last checkpoint; returns the final model's folder.

    A folder with results is refused otherwise. A run that is complete stays as it is. With `signals` one of
    them ends the run after its step, with a checkpoint, by KeyboardInterrupt.
    """
    lock = FolderLock(config.train.output_dir, "train.output_dir", ConfigError, lost=TrainingError)
    make_output_dir(config)
    if paddle.distributed.get_rank() == 0:
        lock.acquire()
    else:
        lock.remember()
    try:
        return _train(config, check_output_dir(config, resume), lock, signals)
    finally:
        lock.release()


def _train(config: Config, start: Path | None, lock: FolderLock, signals: SignalHandler | None) -> Path:
    output_dir = Path(config.train.output_dir)
    if start is not None and start.name == FINAL:
        return start
    if signals is not None:
        signals.listen()  # again: importing paddlenlp has taken the handler of SIGTERM away
    trainer = build_trainer(config, start)
    trainer.signals, trainer.lock = signals, lock
    if trainer.is_world_process_zero():
        remove_leftovers(output_dir)
        if warning := warn_no_replay(config):
            print(f"warning: {warning}", file=sys.stderr)
    trackers = trainer.callback(Trackers)
    try:
        return _finish(trainer, start, lock, output_dir)
    finally:
        if trackers is not None:
            trackers.finish()


def _finish(trainer: GotTrainer, start: Path | None, lock: FolderLock, output_dir: Path) -> Path:
    """Train and keep the result; returns its folder."""
    eval_baseline(trainer)
    trainer.train(resume_from_checkpoint=None if start is None else str(start))
    lock.check()
    tmp_dir = make_tmp_dir(output_dir, FINAL)
    with explain_save_errors(tmp_dir), trainer.eval_weights():
        trainer.save_model(str(tmp_dir))  # all processes, of which each may hold a part
    with trainer.eval_weights():
        eval_final(trainer, tmp_dir)
    trainer.wait()
    if trainer.is_world_process_zero():
        note_characters(trainer, tmp_dir)
        if trackers := trainer.callback(Trackers):
            trackers.add_text(
                "last values", last_values(trainer.state.log_history), trainer.state.global_step
            )
        commit(tmp_dir)
        remove_leftovers(output_dir)
    trainer.wait()  # no process leaves while another still works
    return output_dir / FINAL


def note_characters(trainer: GotTrainer, folder: Path) -> None:
    """Beside the model, which characters it knows; not where what it started from does not say."""
    model = trainer.config.model
    known = None if model.decoder_from else frozenset()
    if model.init_from:
        known = load_characters(model.init_from)
    if known is not None:
        save_characters(folder, known | characters_of(trainer.loader.mixture.sources))
