"""What a config says before any row is read: the sizes of its model, its tokenizer, and doubtful choices.

Reads sizes from the headers of weight files; loads no weight and needs no Paddle.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from got_train.checkpoint import layouts
from got_train.checkpoint.adapters import ADAPTER_FILE
from got_train.checkpoint.hf_config import read_config, vision_from_shapes
from got_train.checkpoint.tensor_io import tensor_entries
from got_train.config.schema import Config
from got_train.data.characters import describe
from got_train.data.collator import Collator
from got_train.errors import ConfigError
from got_train.evaluation.scored import metric_error
from got_train.modeling.config import GotConfig
from got_train.strict_files import read_json
from got_train.tokenizer import Tokenizer
from got_train.training.checkpoints import checkpoints
from got_train.training.run_files import FINAL

from .findings import ERROR, WARNING, Finding
from .statistics import Statistics

READ = ("Latin", "Han", "Digits", "Marks")  # what the released weights were taught: English and Chinese
SHARE = 0.01  # of all characters; a script below it is a few names
MANY_TOKENS = 1.5  # a character, from which on a script is spelled in bytes
FEW_STEPS = 50
SPELLED_SHARE = 0.001  # of all characters; below it rare names and signs, of which no model has all


def model_sizes(config: Config, tokenizer: Tokenizer) -> GotConfig:
    """The model that a run starts from, by its sizes alone; refuses what cannot be that."""
    model = config.model
    if not model.init_from:
        vision = stored_vision(model.vision_from, config) if model.vision_from else model.vision
        size = model.decoder.vocab_size or tokenizer.size
        if size != tokenizer.size:
            raise ConfigError(
                f"model.decoder.vocab_size ({size}) must be the tokenizer's {tokenizer.size}, or 0"
            )
        return GotConfig(
            vision=vision,
            decoder=replace(model.decoder, vocab_size=size),
            image_token=tokenizer.image_id,
            prompt_template=model.prompt_template or "repo",
        )
    sizes = stored_sizes(base_of(model.init_from))
    if model.prompt_template not in ("", sizes.prompt_template):
        advice = f"{model.init_from} was trained with {sizes.prompt_template}; leave it empty"
        raise ConfigError(f"model.prompt_template {model.prompt_template}: {advice}")
    words, image = sizes.decoder.vocab_size, sizes.image_token
    if words < tokenizer.size or (words > tokenizer.size and image != tokenizer.image_id):  # or padded
        has = f"{model.init_from} has a vocabulary of {sizes.decoder.vocab_size}; the tokenizer of that model"
        raise ConfigError(f"model.tokenizer: {tokenizer.size} tokens, {has}")
    return sizes


def character_warning(stats: Statistics, trained: bool, role: str) -> Finding | None:
    """Characters of the answers that the model was never trained on, or that have no token."""
    total = sum(script.characters for script in stats.scripts.values())
    if not stats.unfamiliar or (not trained and stats.unfamiliar.total() < SPELLED_SHARE * total):
        return None
    return Finding(
        WARNING,
        "characters",
        role,
        describe(stats.unfamiliar, trained),
        "a model learns a new character from some hundred rows that have it; add such rows, or write another",
        usable=True,
    )


def base_of(folder: str) -> str:
    """The checkpoint that a folder is, or of an adapter the one that it stands on."""
    card = Path(folder) / ADAPTER_FILE
    if not card.is_file():
        return folder
    try:
        base = read_json(card)["base"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{card}: not an adapter ({error!r}); a folder that a LoRA run wrote") from error
    if not Path(base).is_dir():
        raise ConfigError(f"model.init_from {folder}: its base {base} is not there; put it back")
    return base


def stored_sizes(folder: str) -> GotConfig:
    if not Path(folder).is_dir():
        raise ConfigError(f"model.init_from: no folder {folder}; expected a whole checkpoint, in any layout")
    return read_config(Path(folder), _shapes(folder))


def stored_vision(path: str, config: Config) -> object:
    """Of an encoder alone; of another family (SAM) those that the config gives."""
    if not Path(path).exists():
        raise ConfigError(
            f"model.vision_from: no file or folder {path}; expected a stage-1, GOT or SAM checkpoint"
        )
    shapes = _shapes(path)
    return vision_from_shapes(shapes) if "vision.net_3.weight" in shapes else config.model.vision


def _shapes(path: str) -> dict[str, list[int]]:
    stored = {layouts.canonical(name): tensor for name, tensor in tensor_entries(Path(path)).items()}
    layout = layouts.detect(list(stored))
    if layout is None:
        raise ConfigError(
            f"{path}: no known layout has names like {', '.join(sorted(stored)[:3])}; use GOT's names"
        )
    named = {layouts.to_ours(name, layout): tensor.shape for name, tensor in stored.items()}
    return {name: shape for name, shape in named.items() if name is not None}


def build_collator(config: Config, sizes: GotConfig, tokenizer: Tokenizer) -> Collator:
    """What the run's own would be, as far as rows are concerned."""
    places = sizes.decoder.max_positions
    if config.data.max_tokens > places:
        raise ConfigError(
            f"data.max_tokens ({config.data.max_tokens}): the decoder has {places} positions; use fewer"
        )
    return Collator(
        tokenizer=tokenizer,
        side=sizes.vision.image_side,
        view_tokens=sizes.vision.view_tokens,
        prompt_template=sizes.prompt_template,
        max_tokens=config.data.max_tokens,
        max_crops=config.data.max_crops,
    )


def config_warnings(config: Config) -> Iterator[Finding]:
    """Choices that are allowed and seldom meant, and a metric that does not exist."""
    output, data = Path(config.train.output_dir), config.data
    if config.eval.best_metric != "loss" and (fault := metric_error(config.eval.best_metric)):
        yield Finding(ERROR, "config", "eval.best_metric", *fault.split("; ", 1))
    existing = [*checkpoints(output), *([output / FINAL] if (output / FINAL).exists() else [])]
    if existing:
        yield _warning(
            "train.output_dir",
            f"{output} holds {existing[-1].name} of another run",
            "--resume continues from it; a new run needs another folder",
        )
    if config.model.init_from and not data.replay:
        yield _warning(
            "data.replay",
            "empty, and the run starts from a trained model, which forgets what it no longer sees",
            "rows of its former kind of data, of which data.replay_share trains again",
        )
    if not data.validation:
        yield _warning(
            "data.validation",
            "empty, so nothing tells when the run begins to learn its rows by heart",
            "a file of rows of other documents; got init --split 0.1 makes one",
        )


def steps_warning(config: Config, steps: int) -> Finding | None:
    if steps >= FEW_STEPS:
        return None
    key = "train.max_steps" if config.train.max_steps else "train.num_train_epochs"
    what = f"{steps} steps of {config.train.batch_size} rows; few to learn from"
    return _warning(key, what, "more epochs, or a smaller train.batch_size")


def script_warnings(config: Config, statistics: Statistics) -> Iterator[Finding]:
    """Scripts that the tokenizer spells in bytes, and such as the encoder may not know."""
    total = max(1, sum(script.characters for script in statistics.scripts.values()))
    for name, fitness in statistics.scripts.items():
        if fitness.characters < SHARE * total:
            continue
        per_character = fitness.tokens / max(1, fitness.characters)
        if per_character > MANY_TOKENS and name not in ("Digits", "Marks"):
            yield _warning(
                "model.tokenizer",
                f"{name} takes {per_character:.1f} tokens a character "
                f"({fitness.size / max(1, fitness.tokens):.1f} bytes a token)",
                "it is learnt, but long answers: raise data.max_tokens, and infer's max_new_tokens with it",
            )
        frozen = not config.parts.vision.trainable and "vision" not in config.lora.parts
        if name not in READ and frozen and config.model.init_from:
            yield _warning(
                "parts.vision.trainable",
                f"false, and {fitness.characters / total:.0%} of the characters are {name}",
                "an encoder that never saw a script must train: parts.vision={train: true, lr: 2e-6}, or "
                "lora.parts with vision",
            )


def text_height_warning(statistics: Statistics, patch: int, role: str) -> Finding | None:
    """Pages whose smallest lines are lower than half a patch of the encoder once squashed to a view."""
    pages = statistics.cropped.total
    low = statistics.lines.above(-1) - statistics.lines.above((patch - 1) // 2)
    if not pages or low < 0.05 * statistics.lines.total or not statistics.small:
        return None
    seen, cropped, task, location = statistics.small[0]
    gain = f"task {task} would show them {cropped} px high, data.max_crops more so; raise data.max_tokens too"
    if cropped <= seen:
        gain = (
            f"{'tiles would not help' if task else 'such rows are read in one view'}: scan at a higher "
            "resolution, or cut pages into windows of a few lines (got convert-data --tasks window)"
        )
    return Finding(
        WARNING,
        "legibility",
        location,
        f"lines of {seen} px in the view; {low} of {statistics.lines.total} pages looked at in {role} have "
        f"lines below {patch // 2} px, two of which share a patch of the encoder",
        gain,
    )


def crop_width_warning(statistics: Statistics, patch: int, role: str) -> Finding | None:
    """Line crops whose characters are narrower than half a patch once squashed to a square view."""
    crops = statistics.crop_widths
    narrow = crops.above(-1) - crops.above((patch - 1) // 2)
    if not crops.total or narrow < 0.05 * crops.total:
        return None
    width, location = statistics.narrow[0]
    return Finding(
        WARNING,
        "legibility",
        location,
        f"characters {width} px wide in the view; {narrow} of {crops.total} line crops looked at in {role} "
        f"have characters below {patch // 2} px, two of which share a patch of the encoder",
        "a view is square, a line is not: cut long lines into shorter pieces, or give several lines in one "
        "picture (got convert-data --tasks window)",
    )


def _warning(key: str, cause: str, fix: str) -> Finding:
    return Finding(WARNING, "config", key, cause, fix)
