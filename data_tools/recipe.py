"""A stage's data as a recipe: which engines, how many records of each, with which options.

A YAML file becomes frozen dataclasses and these the arguments of each engine's command; nothing is made here.
"""

from __future__ import annotations

import argparse
import importlib
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from got_train.config import checks, loader
from got_train.data.record import RENAMED_KEYS
from got_train.errors import ConfigError

ENGINES = (
    *("lines", "scene", "pages", "pdf", "handwriting", "formulas", "tables", "markdown", "molecules"),
    *("music", "geometry", "charts", "negatives"),
)
OF_RECORDS = ("regions", "crops", "multipage")  # these take the records of others
OURS = (
    "out",
    "count",
    "seed",
    "records",
    "num_workers",
    "shard",
    "strict",
)  # options that the recipe itself gives
FOLDERS = ("pdfs", "texts", "line_images", "kern", "csv", "smiles", "tex", "backgrounds", "photos")
LEAST_SHARDS = 8  # of a source, so that several processes share even a small one
MILLION = 1_000_000


class RecipeError(ConfigError):
    """A recipe, or one of its options, that cannot be."""


@dataclass(frozen=True, kw_only=True)
class SourceRecipe:
    """Records of one engine, in a folder of their own."""

    rows: int = 0  # records at scale 1
    engine: str = ""  # a module of data_tools; empty: the source's own name
    rows_each: float = 1.0  # records that a page (picture, chart, ...) gives
    weight: float | None = None  # of the source in a run; None: rows in millions; 0: only for others to use
    of: tuple[str, ...] = ()  # the sources above whose records this one takes
    seed: int | None = None  # None: the recipe's seed with the source's name
    options: dict[str, tuple[str, ...]] = field(default_factory=dict)  # of the engine's command

    def __post_init__(self) -> None:
        _check(self.rows >= 1, f"rows must be at least 1; got {self.rows}")
        _check(self.rows_each > 0, f"rows_each must be above 0; got {self.rows_each}")
        _check(self.weight is None or self.weight >= 0, f"weight must not be negative; got {self.weight}")
        _check(self.seed is None or self.seed >= 0, f"seed must not be negative; got {self.seed}")
        for name in self.options:
            advice = "the recipe gives it" if name != "records" else "name sources in of"
            _check(name not in OURS, f"options.{name}: not an option here; {advice}")

    @property
    def share(self) -> float:
        """The weight in a run."""
        return self.rows / MILLION if self.weight is None else self.weight


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that makes a stage's data."""

    out: str = ""  # folder; every source has one below it
    tokenizer: str = ""  # folder of the run's tokenizer; empty: the closing table counts characters
    seed: int = 0
    scale: float = 1.0  # of all rows
    sources: dict[str, SourceRecipe] = field(default_factory=dict)
    replay: dict[str, float] = field(default_factory=dict)  # folders of former stages, share that comes again

    def __post_init__(self) -> None:
        _check(bool(self.out), "out is not given; expected a folder for the records")
        _check(bool(self.sources), "sources is empty; expected at least one engine with its rows")
        _check(self.scale > 0, f"scale must be above 0; got {self.scale}")
        _check(self.seed >= 0, f"seed must not be negative; got {self.seed}")
        for name in self.replay:
            _check(
                0 < self.replay[name] <= 1,
                f"replay.{name} must be above 0, at most 1; got {self.replay[name]}",
            )
        above: list[str] = []
        for name, source in self.sources.items():
            self._check_source(name, source, above)
            above.append(name)

    def _check_source(self, name: str, source: SourceRecipe, above: list[str]) -> None:
        where, engine = f"sources.{name}", source.engine or name
        plain = bool(name) and "/" not in name and not name.startswith(".")
        _check(plain, f"{where}: a folder is called so; expected letters, digits and _ only")
        known = [*ENGINES, *OF_RECORDS]
        _check(engine in known, f"{where}.engine: no engine {engine!r}; {checks.nearest(engine, known)}")
        for other in source.of:
            _check(other in above, f"{where}.of: {other!r} is not a source above it; {_named(other, above)}")
        needed = engine in OF_RECORDS
        verb = "takes the records of others; name sources" if needed else "takes no records; drop it"
        _check(bool(source.of) == needed, f"{where}.of: {engine} {verb}")

    def engine(self, name: str) -> str:
        return self.sources[name].engine or name

    def folder(self, name: str) -> Path:
        return Path(self.out) / name

    def rows(self, name: str) -> int:
        """Records that a source is to have at this scale."""
        return max(1, round(self.sources[name].rows * self.scale))

    def arguments(self, name: str, inputs: Sequence[str], strict: bool = False) -> list[str]:
        """The source's command, without its share of the work; `inputs` are those of its `of` that exist."""
        source = self.sources[name]
        parser = quiet_parser(self.engine(name))
        options = known_options(parser)
        seed = zlib.crc32(f"{self.seed}:{name}".encode()) if source.seed is None else source.seed
        words = [f"--out={self.folder(name)}", f"--seed={seed}"]
        words += [f"--records={self.folder(other)}" for other in inputs]
        pages = max(1, round(self.rows(name) / source.rows_each))
        if "count" in options:
            words.append(f"--count={pages}")
        if strict and "strict" in options:
            words.append("--strict")
        if "shard_pages" not in source.options:
            most = options["shard_pages"].default
            words.append(f"--shard-pages={min(most, math.ceil(pages / LEAST_SHARDS))}")
        if "tokenizer" in options and "tokenizer" not in source.options and self.tokenizer:
            words.append(f"--tokenizer={self.tokenizer}")
        for option, values in source.options.items():
            where = f"sources.{name}.options.{option}"
            near = checks.nearest(option, [known for known in options if known not in OURS])
            near = f"use {RENAMED_KEYS[option]}" if option in RENAMED_KEYS else near
            _check(option in options, f"{where}: {self.engine(name)} has no such option; {near}")
            words += _words(where, options[option], values)
        try:
            parser.parse_args(words)
        except argparse.ArgumentError as error:
            raise RecipeError(f"sources.{name}.options: {error.message or error}") from None
        return words

    def absent(self, name: str) -> list[str]:
        """Files and folders of the user's that a source reads and that are not there."""
        options = self.sources[name].options
        given = [value for option in FOLDERS for value in options.get(option, ())]
        return [value for value in given if not Path(value).exists()]


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """A YAML file and overrides such as scale=0.001 or sources.charts.rows=10, which win."""
    import yaml

    path = Path(path)
    if not path.is_file():
        raise RecipeError(f"{path}: no such file; give a recipe such as configs/data/nano.yaml")
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), loader.strict_loader()) or {}
        _check(isinstance(values, dict), f"holds {values!r}; settings such as out and sources are needed")
        for override in overrides:
            _override(values, override)
        recipe = loader.build(Recipe, _with_texts(values))
        for name, source in recipe.sources.items():
            recipe.arguments(name, source.of)
        return recipe
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from error
    except ConfigError as error:
        raise RecipeError(f"{path}: {error}") from error


def quiet_parser(engine: str) -> argparse.ArgumentParser:
    """The options of an engine; what they refuse is raised instead of printed."""
    parser: argparse.ArgumentParser = importlib.import_module(f"data_tools.engines.{engine}").parser()

    def refuse(message: str) -> None:
        raise argparse.ArgumentError(None, message)

    parser.error = refuse  # type: ignore[method-assign, assignment]
    return parser


def known_options(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    return {action.dest: action for action in parser._actions if action.dest != "help"}


def _words(where: str, action: argparse.Action, values: tuple[str, ...]) -> list[str]:
    """An option as the command line has it."""
    name = action.option_strings[-1]
    if action.nargs == 0:
        _check(values in (("true",), ("false",)), f"{where} must be true or false; got {', '.join(values)}")
        return [name] if values == ("true",) else []
    if action.nargs == "+":
        return [name, *values]
    return [f"{name}={','.join(values)}"]


def _with_texts(values: dict[str, Any]) -> dict[str, Any]:
    """The options of all sources as lists of texts, whatever YAML took them for."""
    sources = values.get("sources")
    if not isinstance(sources, dict):
        return values
    return {**values, "sources": {name: _source_with_texts(source) for name, source in sources.items()}}


def _source_with_texts(source: Any) -> Any:
    if not isinstance(source, dict) or not isinstance(source.get("options"), dict):
        return source
    texts = {str(key): list(_texts(value)) for key, value in source["options"].items()}
    return {**source, "options": texts}


def _texts(value: Any) -> Iterator[str]:
    for item in value if isinstance(value, list) else [value]:
        yield str(item).lower() if isinstance(item, bool) else str(item)


def _override(values: dict[str, Any], override: str) -> None:
    import yaml

    key, equals, text = override.partition("=")
    if equals and "." in key:
        loader.apply_override(values, override)
        return
    _check(bool(equals) and bool(key), f"{override!r}: an override reads key=value, such as scale=0.001")
    try:
        values[key] = yaml.safe_load(text) if text else ""
    except yaml.YAMLError as error:
        raise RecipeError(f"{override!r}: {text!r} is not readable as YAML") from error


def _named(name: str, known: list[str]) -> str:
    return checks.nearest(name, known) if known else "a source takes records of those before it"


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise RecipeError(message)
