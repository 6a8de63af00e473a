"""From a config to a trainer that is ready to go; everything that can be refused is refused here."""

from __future__ import annotations

import os
from pathlib import Path

from got_train import cpu
from got_train.config import Config, ConfigError, ModelSettings
from got_train.data.collator import Collator
from got_train.data.mixture import Mixture
from got_train.data.records import read_records
from got_train.tokenizer import Tokenizer, load_tokenizer

from .checkpoints import checkpoints


def check_device(config: Config) -> str:
    """The device that Paddle has, "gpu" or "cpu"; refuses what the CPU cannot do."""
    import paddle

    device = paddle.get_device().split(":")[0]
    train = config.train
    if device == "cpu":
        if train.precision != "float32":
            raise ConfigError(f"train.precision {train.precision}: Paddle computes float32 only on the CPU")
        if train.sharding in ("stage2", "stage3"):
            raise ConfigError(f"train.sharding {train.sharding}: needs GPUs; on the CPU there is stage1")
        if train.tensor_parallel > 1:
            raise ConfigError(f"train.tensor_parallel {train.tensor_parallel}: needs GPUs; on the CPU it is 1")
    return device


def find_tokenizer(settings: ModelSettings) -> Tokenizer:
    for folder in (settings.tokenizer, settings.init_from, settings.decoder_from, settings.vision_from):
        if folder:
            return load_tokenizer(folder)
    raise ConfigError("model.tokenizer: no folder given, and no checkpoint to take it from")


def build_model(settings: ModelSettings, tokenizer: Tokenizer):  # noqa: ANN201  (importing Got means importing paddle)
    """The model that a run starts from, in training mode."""
    import dataclasses

    from got_train.modeling import Got, GotConfig, load_decoder, load_model, load_vision

    if settings.init_from:
        model = load_model(settings.init_from)
        if settings.dialect not in ("", model.config.dialect):
            raise ConfigError(
                f"model.dialect {settings.dialect}: {settings.init_from} was trained with {model.config.dialect}"
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
            f"model.decoder.vocab_size ({decoder.vocab_size}) must be the tokenizer's {tokenizer.size}; 0 takes it"
        )
    model = Got(
        GotConfig(
            vision=settings.vision,
            decoder=decoder,
            image_token=tokenizer.image_id,
            pad_token=tokenizer.pad_id,
            stop_tokens=tuple(tokenizer.stop_ids),
            dialect=settings.dialect or "repo",
        )
    )
    if settings.vision_from:
        load_vision(model, settings.vision_from)
    if settings.decoder_from:
        load_decoder(model, settings.decoder_from)
    return model


def build_collator(config: Config, model, tokenizer: Tokenizer) -> Collator:  # noqa: ANN001
    return Collator(
        tokenizer=tokenizer,
        side=model.config.vision.image_side,
        view_tokens=model.config.vision.view_tokens,
        dialect=model.config.dialect,
        max_tokens=config.data.max_tokens,
        max_tiles=config.data.max_tiles,
    )


def build_mixture(config: Config) -> Mixture:
    sources = config.data.sources("train")
    if not sources:
        raise ConfigError("data.train: no data; give a file of records, e.g. data.train=my.jsonl")
    weights = [source.weight for source in sources]
    records = [read_records(source.path, image_root=source.image_root or None) for source in sources]
    return Mixture(records, None if weights[0] is None else weights, config.train.seed)


def count_steps(config: Config, rows: int) -> int:
    return config.train.steps or max(1, int(rows * config.train.epochs) // config.train.batch_size)


def build_trainer(config: Config):  # noqa: ANN201
    """The trainer of a run; may be called once in a process."""
    threads = config.train.threads or max(1, cpu.usable_cores() // int(os.environ.get("PADDLE_TRAINERS_NUM", 1)))
    if config.train.tune_cpu:
        cpu.tune(threads)
    import paddle

    device = check_device(config)
    tokenizer = find_tokenizer(config.model)
    mixture = build_mixture(config)
    paddle.seed(config.train.seed)
    model = build_model(config.model, tokenizer)

    from .loader import StepLoader, StepPlan
    from .progress import Progress
    from .trainer import GotTrainer, arguments

    steps = count_steps(config, len(mixture))
    ranks, rank = paddle.distributed.get_world_size(), paddle.distributed.get_rank()
    plan = StepPlan(steps, config.train.batch_size, config.train.micro_batch_size, rank, ranks)
    collator = build_collator(config, model, tokenizer)
    return GotTrainer(
        model=model,
        config=config,
        loader=StepLoader(mixture, collator, plan, config.data.workers),
        tokenizer=tokenizer,
        args=arguments(config, steps, plan.accumulation, device),
        callbacks=[Progress(config.train.batch_size)],
    )


def where_to_resume(config: Config, resume: bool) -> str | None:
    """The last complete checkpoint of the run, if it is to go on; a used folder is refused otherwise."""
    found = checkpoints(config.train.output_dir)
    if not resume and found:
        raise ConfigError(
            f"train.output_dir {config.train.output_dir}: holds {found[-1].name}; add --resume to go on from it, or "
            "give another folder"
        )
    return str(found[-1]) if found else None


def train(config: Config, resume: bool = False) -> Path:
    """Run a config to its end; returns the folder of the final model."""
    checkpoint = where_to_resume(config, resume)
    trainer = build_trainer(config)
    trainer.train(resume_from_checkpoint=checkpoint)
    final = Path(config.train.output_dir) / "final"
    if trainer.is_world_process_zero():
        trainer.save_model(str(final))
    return final
