"""One evaluation as frozen dataclasses: what is asked or read, how it is scored and shown.

Every default stands here once; a YAML file says only what it changes. Reads neither data nor weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import yaml

from got_train.config import loader
from got_train.config.schema import SourceConfig
from got_train.errors import ConfigError

from . import benchmarks
from .metrics.text import FIXED


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    path: str = ""  # a checkpoint in any layout; empty where predictions are given
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    threads: int = 0  # on the CPU; 0: all cores
    tune_cpu: bool = True

    def __post_init__(self) -> None:
        _check(self.threads >= 0, f"threads must not be negative; got {self.threads}")


@dataclass(frozen=True, kw_only=True)
class TestSource(SourceConfig):
    """One file or folder of records, or a benchmark as its authors publish it."""

    allow_empty: bool = True  # a blank page is a test like others
    benchmark: str = ""  # one of benchmarks.NAMES
    version: str = ""  # of the benchmark's rules; empty: the latest
    preset: Literal["", "ours", "published", "both"] = ""  # how olmOCR-bench's pages are read

    __test__ = False  # no test, in the eyes of pytest

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self.weight is None, f"weight: {self.weight}; here each row counts once")
        _check(not self.streaming, "streaming: rows are counted here; drop it")
        _check(self.share == 1, f"share: {self.share}; all records are read; use limit, or leave it out")
        known = not self.benchmark or self.benchmark in benchmarks.NAMES
        _check(known, f"benchmark: {self.benchmark}; expected {', '.join(benchmarks.NAMES)}")
        _check(
            bool(self.benchmark) or not (self.version or self.preset),
            "version and preset: use with a benchmark",
        )

    def options(self) -> dict[str, Any]:
        """As predictions.open_data takes it: what is not given is left out."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        dropped = ("weight", "streaming", "share")
        return {name: value for name, value in given.items() if value and name not in dropped} | {
            "allow_empty": self.allow_empty
        }


@dataclass(frozen=True, kw_only=True)
class DecodingSettings:
    """Fields of reading.Reader, and how many pages are read together."""

    max_new_tokens: int = 4096
    no_repeat_ngram_size: int | None = None  # None: 20 with one view, off with several, as the original
    stop_loops: bool = True
    max_crops: int = 6
    batch_size: int = 32

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "max_crops", "batch_size"):
            _check(getattr(self, name) >= 1, f"{name} must be at least 1; got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class ScoreSettings:
    unit: Literal["word", "character"] = "word"  # what BLEU, F1, ... count; scene text: character
    case: Literal["kept", "fold"] = "kept"  # fold: for labels that do not tell case, as SROIE's
    document: str = ""  # which rows intervals take whole: folder, file, or a pattern on the picture's path
    cdm_seconds: float = 0  # for CDM of formulas, about 2 each; 0: without; what is left then has no value
    fail_under: dict[str, float] = field(default_factory=dict)  # metric: the worst value that passes

    def __post_init__(self) -> None:
        if self.document:
            from got_train.data.documents import check_rule

            check_rule(self.document)
        _check(self.cdm_seconds >= 0, f"cdm_seconds must not be negative; got {self.cdm_seconds}")
        for name in self.fail_under:
            known = name.rpartition(":")[2]
            _check(
                known in FIXED or "." in known,
                f"fail_under.{name}: no metric; expected one of {', '.join(FIXED)}, KIND.METRIC or "
                "TASK:METRIC",
            )


@dataclass(frozen=True, kw_only=True)
class ReportSettings:
    page: bool = True  # report.html
    pictures: int = 120  # samples with their picture in it, at most
    picture_side: int = 640  # pixels of its longer side
    baseline: str = ""  # folder of an earlier evaluation of the same data, to compare with
    beside: str = ""  # another system's answers to the same rows: a file, or a folder with a text an image
    force: bool = False  # compare even if prompts, decoding or data differ

    def __post_init__(self) -> None:
        _check(self.pictures >= 0, f"pictures must not be negative; got {self.pictures}")
        _check(self.picture_side >= 64, f"picture_side must be at least 64; got {self.picture_side}")


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Everything that an evaluation is."""

    output_dir: str = ""
    predictions: str = ""  # a file or folder of another system's answers, instead of a model
    limit: int | None = None  # records of each file, at most
    model: ModelSettings = field(default_factory=ModelSettings)
    data: str | tuple[TestSource, ...] = ()
    decoding: DecodingSettings = field(default_factory=DecodingSettings)
    scores: ScoreSettings = field(default_factory=ScoreSettings)
    report: ReportSettings = field(default_factory=ReportSettings)

    def __post_init__(self) -> None:
        both = bool(self.model.path) and bool(self.predictions)
        _check(
            not both, f"predictions ({self.predictions}) and model.path ({self.model.path}); keep one of them"
        )
        _check(self.limit is None or self.limit >= 1, f"limit must be at least 1; got {self.limit}")
        _check(not self.model.path or bool(self.data), "data is not given; records for the model to read")
        _check(
            not self.model.path or bool(self.output_dir),
            "output_dir is not given; expected a folder for answers",
        )

    @property
    def sources(self) -> tuple[TestSource, ...]:
        if isinstance(self.data, str):
            return (TestSource(path=self.data),) if self.data else ()
        return self.data


def load(path: str | Path, overrides: Sequence[str] = (), output_dir: str | None = None) -> EvaluationConfig:
    """A YAML file and `section.key=value` overrides, which win. Raises ConfigError with file and key."""
    path = Path(path)
    if not path.is_file():
        raise ConfigError(
            f"{path}: no such file; expected a YAML file with sections model, data, report, ..."
        )
    try:
        return loader.build(EvaluationConfig, _values(path, overrides, output_dir))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _values(path: Path, overrides: Sequence[str], output_dir: str | None) -> dict[str, Any]:
    values = yaml.load(path.read_text(encoding="utf-8"), loader.strict_loader()) or {}
    _check(isinstance(values, dict), f"holds {values!r}; sections such as model, data, report are needed")
    for override in overrides:
        loader.apply_override(values, override)
    return values if output_dir is None else {**values, "output_dir": output_dir}


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)
