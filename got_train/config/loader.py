"""YAML and overrides become frozen dataclasses; unknown keys, wrong types and bad choices are refused."""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from got_train.errors import ConfigError
from got_train.modeling.config import ModelConfigError
from got_train.strict_files import explain, read_text

from .checks import require
from .schema import Config

if TYPE_CHECKING:
    import yaml

# keys of the versions before 0.2 and what they are called now
RENAMED = {
    "optim": "optimizer",
    "measure": "eval",
    "optimizer.lr": "optimizer.learning_rate",
    "optimizer.schedule": "optimizer.lr_scheduler_type",
    "optimizer.beta1": "optimizer.adam_beta1",
    "optimizer.beta2": "optimizer.adam_beta2",
    "optimizer.eps": "optimizer.adam_epsilon",
    "parts.<part>.train": "parts.<part>.trainable",
    "parts.<part>.lr": "parts.<part>.learning_rate",
    "train.steps": "train.max_steps",
    "train.epochs": "train.num_train_epochs",
    "train.micro_batch_size": "train.per_device_train_batch_size",
    "train.glyph_weight": "train.char_loss_weight",
    "train.log_every": "train.logging_steps",
    "train.save_every": "train.save_steps",
    "train.keep_last": "train.save_total_limit",
    "train.validate_every": "train.eval_steps",
    "train.patience": "train.early_stopping_patience",
    "train.average": "train.ema_decay",
    "train.show_rows": "train.preview_samples",
    "train.show_tokens": "train.preview_max_new_tokens",
    "train.tune_cpu": "train.cpu_tuning",
    "model.dialect": "model.prompt_template",
    "data.max_tiles": "data.max_crops",
    "data.pack": "data.packing_length",
    "data.on_bad": "data.on_error (raise or skip)",
    "data.workers": "data.num_workers",
    "eval.rows": "eval.max_samples",
    "eval.tokens": "eval.max_new_tokens",
    "eval.every": "eval.every_steps",
    "eval.seconds": "eval.time_limit",
    "eval.best": "eval.best_metric",
    "eval.probes": "eval.retention_sets",
    "eval.before_after": "eval.baseline",
    "eval.stop_if_worse": "eval.stop_on_regression",
}


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """A YAML file and `section.key=value` overrides, which win. Raises ConfigError with file and key."""
    import yaml

    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; give a YAML file such as configs/nano/stage1.yaml")
    try:
        values = yaml.load(read_text(path, ConfigError), strict_loader()) or {}
        require(isinstance(values, dict), f"holds {values!r}; sections such as model, data, train are needed")
        keys = [override.partition("=")[0] for override in overrides]
        twice = next((key for place, key in enumerate(keys) if key in keys[:place]), None)
        require(twice is None, f"{twice}: is set twice among the overrides; keep one of them")
        for override in overrides:
            apply_override(values, override)
        return build(Config, values)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1
        raise ConfigError(
            f"{path}:{line}: not YAML ({error.problem}); expected key: value, indented with spaces"
        ) from error
    except yaml.YAMLError as error:
        raise ConfigError(
            f"{path}: not YAML ({' '.join(str(error).split())}); expected a text file"
        ) from error
    except ConfigError as error:
        raise ConfigError(str(error) if str(path) in str(error) else f"{path}: {error}") from error
    except (ValueError, TypeError, RecursionError, OverflowError) as error:  # of PyYAML, on what it reads
        raise ConfigError(
            f"{path}: not YAML that can be read ({explain(error)}); use plain values"
        ) from error


MOST_VALUES = 100_000  # of a file with its aliases written out; nine lines of aliases can stand for 10^9


def strict_loader() -> type:
    """PyYAML's safe loader, which by itself takes the last of two equal keys, 010 for 8 and 1:30 for 90,
    and follows aliases until the memory is full.
    """
    import yaml

    class StrictLoader(yaml.SafeLoader):
        def get_single_node(self) -> yaml.Node | None:
            node = super().get_single_node()
            values = 0 if node is None else _count_values(node, {})
            require(values <= MOST_VALUES, f"its aliases stand for {values} values; write the values out")
            return node

        def fetch_flow_collection_start(self, token: type) -> None:
            if self.flow_level == 100:  # thousands take seconds before Python gives up
                raise RecursionError
            super().fetch_flow_collection_start(token)

        def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
            node = super().compose_mapping_node(anchor)
            keys = [str(key.value) for key, _ in node.value]
            for index, (key, _) in enumerate(node.value):
                twice = f"{keys[index]} (line {key.start_mark.line + 1}) stands there a second time"
                require(keys[index] not in keys[:index], f"{twice}; keep one of them")
            return node

        def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
            text = self.construct_scalar(node)
            plain = re.fullmatch(r"[-+]?(0|[1-9][0-9_]*)", text)
            line = node.start_mark.line + 1
            require(plain is not None, f"{text} (line {line}) is no plain number; use digits, or quotes")
            require(len(text) < 40, f"{text[:20]}... (line {line}) has {len(text)} digits; use a number")
            return super().construct_yaml_int(node)

        def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
            text = self.construct_scalar(node)
            require(":" not in text, f"{text} (line {node.start_mark.line + 1}) is a time; use a number")
            return super().construct_yaml_float(node)

    for kind in ("int", "float"):
        StrictLoader.add_constructor(
            f"tag:yaml.org,2002:{kind}", getattr(StrictLoader, f"construct_yaml_{kind}")
        )
    return StrictLoader


def _count_values(node: yaml.Node, known: dict[yaml.Node, int | None]) -> int:
    """Nodes of a composed document, an alias counted as often as it is used."""
    import yaml

    if node not in known:
        known[node] = None
        inner = node.value if isinstance(node, yaml.CollectionNode) else []
        inner = [item for pair in inner for item in pair] if isinstance(node, yaml.MappingNode) else inner
        known[node] = 1 + sum(_count_values(item, known) for item in inner)
    count = known[node]
    line = node.start_mark.line + 1
    require(count is not None, f"the value of line {line} holds an alias of itself; write the values out")
    return count


def apply_override(values: dict[str, Any], override: str) -> None:
    import yaml

    key, equals, text = override.partition("=")
    require(
        bool(equals) and "." in key,
        f"{override!r}: an override reads section.key=value, e.g. optimizer.learning_rate=1e-4",
    )
    *sections, last = key.split(".")
    for section in sections:
        if values.get(section) is None:
            values[section] = {}
        values = values[section]
        require(isinstance(values, dict), f"{override!r}: {section} is a value; it has no keys below it")
    try:
        values[last] = yaml.load(text, strict_loader()) if text else ""
    except ConfigError as error:
        raise ConfigError(f"{override!r}: {error}") from error
    except (yaml.YAMLError, ValueError, TypeError, RecursionError, OverflowError) as error:
        raise ConfigError(
            f"{override!r}: {text!r} is not YAML; expected a value, a [list] or a {{mapping}}"
        ) from error


def build(kind: type, values: Any, where: str = "") -> Any:
    """A dataclass from nested mappings, with every key and type checked."""
    require(isinstance(values, dict), f"{where or 'config'} must be a mapping of settings; got {values!r}")
    hints = typing.get_type_hints(kind)
    known = [item.name for item in dataclasses.fields(kind)]
    before = f"{where}." if where else ""
    for key in values:
        require(key in known, f"{before}{key}: no such setting; {_advice(before, str(key), known)}")
    arguments = {key: _convert(value, hints[key], before + key) for key, value in values.items()}
    try:
        return kind(**arguments)
    except ModelConfigError as error:  # its message begins with the section
        section = where.rpartition(".")[0]
        raise ConfigError(f"{section}.{error}" if section else str(error)) from error
    except ConfigError as error:
        raise ConfigError(f"{before}{error}") from error


def _advice(before: str, key: str, known: list[str]) -> str:
    """The setting that was meant: what an old key is called now, or the nearest of the old and new keys."""
    section = re.sub(r"^parts\.\w+", "parts.<part>", before)
    old = {name.removeprefix(section): new for name, new in RENAMED.items() if name.startswith(section)}
    old = {name: new.removeprefix(section) for name, new in old.items() if "." not in name}
    if key in old:
        return f"use {old[key]}"
    near = difflib.get_close_matches(key, [*known, *old], n=1)
    if near:
        return f"did you mean {old.get(near[0], near[0]).split()[0]}?"
    return f"known are {', '.join(known)}"


def _convert(value: Any, hint: Any, where: str) -> Any:
    origin, choices = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(value, choices, where)
    if origin is Literal:
        require(value in choices, f"{where} must be one of {', '.join(map(repr, choices))}; got {value!r}")
        return value
    if origin is tuple:
        require(isinstance(value, (list, tuple)), f"{where} must be a list; got {value!r}")
        return tuple(_convert(item, choices[0], f"{where}[{index}]") for index, item in enumerate(value))
    if origin is dict:
        require(isinstance(value, dict), f"{where} must be a mapping; got {value!r}")
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
    return _convert(value, type(value) if type(value) in fitting else fitting[0], where)


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
