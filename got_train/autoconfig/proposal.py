"""A config for documents that have been looked at: each value with its reason, as YAML with comments."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from got_train.atomic_write import write_atomic
from got_train.cpu import settings
from got_train.modeling.config import GotConfig
from got_train.preflight import config_checks
from got_train.preflight.base_reading import BaseReading
from got_train.preflight.scan import ScanResult
from got_train.preflight.statistics import Statistics, merged
from got_train.prompts import TILED

from .documents import Document

FEW_ROWS = 5000  # below which adapters are proposed
SMALL_WIDTH = 256  # of a decoder; the nano model's needs larger steps than the released one's
STEPS = 400  # aimed at where there are few rows
MOST_EPOCHS = 10
STEPS_ANEW, EPOCHS_ANEW = 4000, 30  # where the base has never learnt these characters
ROUND = 64  # tokens
MOST_TOKENS = 8192  # of a sample: the released model's training length

Line = tuple[str, Any, str]  # key, value, reason


@dataclass(frozen=True)
class Choices:
    """The sections of a config, each a list of (key, value, reason)."""

    sections: dict[str, list[Line]]
    head: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def report_lines(self) -> list[str]:
        """The reasons of the choices that differ from file to file, one a line."""
        return [
            f"chosen: {section}.{key}: {_value(value)} - {reason}"
            for section, lines in self.sections.items()
            for key, value, reason in lines
            if reason and section in ("data", "parts", "lora", "optimizer")
        ] + list(self.notes)

    def with_train(self, path: str, reason: str) -> Choices:
        """The same on one file of rows."""
        data = [("train", path, reason), *(line for line in self.sections["data"] if line[0] != "train")]
        return replace(self, sections={**self.sections, "data": data})

    def with_split(self, train: str, validation: str, share: float, rows: int) -> Choices:
        """The same on the two files of rows of a split."""
        choices = self.with_train(train, "the rows that stay")
        first, *others = choices.sections["data"]
        held_out = (
            "validation",
            validation,
            f"{rows} rows ({share:.1%}) of other documents, never trained on",
        )
        training = [
            *self.sections["train"],
            ("eval_steps", _value_of(self.sections["train"], "save_steps"), "steps; as often as it saves"),
            ("early_stopping_patience", 3, "validations without a lower loss, after which the run ends"),
        ]
        return replace(
            self, sections={**self.sections, "data": [first, held_out, *others], "train": training}
        )


def propose(
    start: str,
    sizes: GotConfig,
    documents: Sequence[Document],
    seen: ScanResult,
    output_dir: str,
    crops: Sequence[Line] = (),
    base: BaseReading | None = None,
) -> Choices:
    """`crops` are the lines about tiles, where with_tiles made some; `base` says what the start can read."""
    whole = merged(seen.statistics)
    rows = sum(len(document.records) for document in documents)
    unread = base.unread() if base is not None else {}
    adapters = rows < FEW_ROWS and not unread
    scripts = new_scripts(whole)
    sections = {
        "model": [("init_from", start, "the checkpoint whose skills this run starts from")],
        "data": [*_sources(documents), *crops, *_tokens(whole, sizes)],
        "parts": [_vision(scripts, base)],
        **({"lora": _lora(rows)} if adapters else {}),
        "optimizer": _optim(rows, adapters, sizes),
        "train": _train(rows, sizes, output_dir, bool(unread)),
    }
    notes = (
        "note: data.replay is empty: without rows of the former kind the model may forget old skills; "
        "got check says so too",
    )
    return Choices(sections, tuple(_head(rows, whole)), notes)


def new_scripts(whole: Statistics) -> list[str]:
    """Scripts of these answers that the released weights were not taught."""
    total = sum(fitness.characters for fitness in whole.scripts.values()) or 1
    return [
        name
        for name, fitness in whole.scripts.items()
        if name not in config_checks.READ and fitness.characters >= config_checks.SHARE * total
    ]


def _head(rows: int, whole: Statistics) -> list[str]:
    tasks = ", ".join(f"{count:,} {task}" for task, count in whole.tasks.most_common())
    return [
        f"Written by got init for {rows:,} rows ({tasks} looked at). Every line may be changed.",
        "data.replay: none is given. Rows of the former kind of data keep old skills: name a file there, and",
        "data.replay_share (0.8 where it is not given, as in the paper) of them trains again.",
    ]


def with_tiles(
    documents: Sequence[Document], whole: Statistics, sizes: GotConfig
) -> tuple[list[Document], str]:
    """The documents with tasks that cut pages into tiles, and why; the same and nothing where one view shows
    their lines, tiles would not help, or rows name their own task."""
    warning = config_checks.text_height_warning(whole, sizes.vision.patch, "these rows")
    if warning is None or whole.small[0][1] <= whole.small[0][0]:
        return list(documents), ""
    moved = [
        replace(document, task=TILED.get(document.task, document.task), form=f"{document.form}, tiles")
        if document.task in TILED
        else document
        for document in documents
    ]
    if moved == list(documents):
        return list(documents), ""
    return moved, f"{warning.cause}; tiles show them {whole.small[0][1]} px high"


def _sources(documents: Sequence[Document]) -> list[Line]:
    sources = []
    for document in documents:
        keys = {"path": document.path, "task": document.task, "columns": dict(document.columns)}
        sources.append({key: value for key, value in keys.items() if value})
    plain = len(sources) == 1 and list(sources[0]) == ["path"]
    return [("train", sources[0]["path"] if plain else sources, "")]


def _tokens(whole: Statistics, sizes: GotConfig) -> list[Line]:
    most = whole.tokens.plain()["most"]
    room = min(MOST_TOKENS, sizes.decoder.max_positions)
    max_tokens = math.ceil(1.05 * most / ROUND) * ROUND  # not every row may have been looked at
    lines = [("max_tokens", max(ROUND, min(room, max_tokens)), f"of a row; the longest seen has {most:,}")]
    long = whole.tokens.above(room)
    if long or whole.bad:
        reason = f"{whole.bad} rows cannot be used" if whole.bad else f"{long} rows are longer than that"
        lines.append(
            ("on_error", "skip", f"{reason}; they go to quarantine-0.jsonl, raise would end the run")
        )
    workers = max(0, min(4, settings.usable_cores() - 1))
    return [*lines, ("num_workers", workers, "processes that read and decode, beside the one that trains")]


def _vision(scripts: Sequence[str], base: BaseReading | None) -> Line:
    if base is not None and (unread := base.unread()):
        named = ", ".join(f"{name} (loss {base.classes[name][1]:.1f})" for name in unread)
        reason = (
            f"the base reads {named} no better than guessing ({base.chance:.2f}): it must learn to see them"
        )
        return ("vision", {"trainable": True}, reason)
    if scripts:
        reason = f"{', '.join(scripts)}: the released encoder never saw it and must train, carefully"
        return ("vision", {"trainable": True, "learning_rate": 2e-6}, reason)
    reason = "nobody has looked whether the base reads these rows; got check does"
    if base is not None and base.classes:
        total = sum(count for count, _ in base.classes.values())
        loss = sum(count * loss for count, loss in base.classes.values()) / max(1, total)
        reason = f"the base knows these characters: loss {loss:.2f} a token, guessing {base.chance:.2f}"
        if loss >= base.chance:
            reason = (
                f"loss {loss:.2f} a token, guessing {base.chance:.2f}: the base may not know these "
                "characters, of which there are too few to tell"
            )
    return ("vision", {"trainable": False}, f"{reason}; trainable: true for a look it has never seen")


def _lora(rows: int) -> list[Line]:
    return [
        ("rank", 8, f"adapters: {rows:,} rows are few ({FEW_ROWS:,} or more: all weights train)"),
        ("alpha", 16, "a factor of 2, as in the original's arguments"),
        ("dropout", 0.05, "few rows are seen again and again"),
        ("parts", ["decoder"], "where the wording of answers is; vision too for a new look"),
    ]


def _optim(rows: int, adapters: bool, sizes: GotConfig) -> list[Line]:
    rate = 1e-4 if adapters else 2e-5
    why = "adapters start at zero and take larger steps" if adapters else "the released README's"
    if sizes.decoder.width <= SMALL_WIDTH:
        rate, why = 25 * rate, f"{why}; 25 times that of the released model, for this small one"
    return [
        ("learning_rate", rate, why),
        ("warmup_ratio", 0.03, "the first steps, while the moments are few"),
    ]


def _train(rows: int, sizes: GotConfig, output_dir: str, anew: bool) -> list[Line]:
    small = sizes.decoder.width <= SMALL_WIDTH
    batch = 16 if small else 8 if rows >= 200 else 4
    fewest, most = (STEPS_ANEW, EPOCHS_ANEW) if anew else (STEPS, MOST_EPOCHS)
    epochs = min(most, max(1, round(fewest * batch / max(1, rows))))
    steps = max(1, rows * epochs // batch)
    precision, why = _precision()
    return [
        ("output_dir", output_dir, ""),
        ("num_train_epochs", epochs, f"about {steps:,} steps" + ", as it learns characters anew" * anew),
        ("batch_size", batch, "rows of a step"),
        ("per_device_train_batch_size", batch if small else 1, "rows at once; raise it while memory lasts"),
        ("precision", precision, why),
        ("recompute", not small, "trade time for memory" if not small else "a small model fits"),
        ("save_steps", max(1, steps // 5), "steps"),
    ]


def _precision() -> tuple[str, str]:
    """The precision of the device that Paddle would use, and why."""
    if find_spec("paddle") is None:
        return "float32", "Paddle is not here to tell the device; bfloat16 on a GPU of compute capability 8"
    import paddle

    if not paddle.is_compiled_with_cuda() or not paddle.device.cuda.device_count():
        return "float32", "the CPU's"
    capability = paddle.device.cuda.get_device_capability()
    name = ".".join(map(str, capability))
    if capability[0] >= 8:
        return "bfloat16", f"this GPU has compute capability {name}"
    return "float16", f"this GPU has compute capability {name}; bfloat16 needs 8"


def _value_of(lines: Sequence[Line], key: str) -> Any:
    return next(value for name, value, _ in lines if name == key)


def write(path: Path, choices: Choices) -> None:
    """The YAML file; it appears when it is complete."""
    lines = [f"# {line}" for line in choices.head]
    for section, entries in choices.sections.items():
        lines.append(f"{section}:")
        for key, value, reason in entries:
            lines.extend(_entry(key, value, reason))
    write_atomic(path, "\n".join(lines) + "\n")


def _entry(key: str, value: Any, reason: str) -> list[str]:
    comment = f"  # {reason}" if reason else ""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [f"  {key}:{comment}", *(f"    - {_value(item)}" for item in value)]
    return [f"  {key}: {_value(value)}{comment}"]


def _value(value: Any) -> str:
    """As YAML: JSON, which YAML reads too, with plain words where they stay words."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, float):
        return f"{value:g}"
    return json.dumps(value, ensure_ascii=False)
