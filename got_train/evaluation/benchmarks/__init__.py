"""Benchmarks as their authors publish them: what is asked, which answers belong to it, scores of their own.

Each module of this package knows the files and the rules of one benchmark.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from got_train.errors import EvaluationError

from .files import read_folder

if TYPE_CHECKING:
    from got_train.data.records import Record
    from got_train.evaluation.predictions import DataFile, Prediction

NAMES = ("fox", "onechart", "omnidocbench", "olmocr", "ccocr", "puredocbench", "ocrbench")
Notes = Sequence[Mapping[str, Any]]


def open_benchmark(path: str, benchmark: str, **options: Any) -> tuple[Sequence[Record], Notes]:
    """The records of a benchmark, and for each the further fields of its predictions."""
    allowed = {"image_root", "allow_empty", "version", "preset"}
    if strange := sorted({*options} - allowed):
        raise EvaluationError(f"{path}: {strange[0]} does not go with benchmark {benchmark}; use image_root")
    check_version(benchmark, options.get("version") or "")
    module = _module(benchmark)
    reading = {name: options[name] for name in ("preset", "version") if options.get(name)}
    if "preset" in reading and not hasattr(module, "PRESETS"):
        raise EvaluationError(f"{path}: preset does not go with benchmark {benchmark}; use it with olmocr")
    return module.open_records(path, options.get("image_root"), **reading)


def check_version(benchmark: str, version: str) -> str:
    """The version of a benchmark that is meant: the one given if it is known, else the latest."""
    versions = _module(benchmark).VERSIONS
    if version and version not in versions:
        raise EvaluationError(f"{benchmark} {version}: unknown version; expected {', '.join(versions)}")
    return version or versions[-1]


def candidate(benchmark: str, folder: str) -> str:
    """The folder of answers that lies in a benchmark's own, if there is just one."""
    known = _module(benchmark)
    names = known.candidates(folder) if hasattr(known, "candidates") else []
    if len(names) == 1:
        return str(Path(folder) / names[0])
    description = f"holds answers of {', '.join(names)}" if names else "holds no answers"
    raise EvaluationError(
        f"{folder}: {description}; use --predictions FOLDER, or name a checkpoint before it"
    )


def title(file: DataFile) -> str:
    """The name of a benchmark's scores, which has the version in it."""
    benchmark = str(file.source["benchmark"])
    return f"{benchmark} {check_version(benchmark, str(file.source.get('version') or ''))}"


def title_with_preset(file: DataFile) -> str:
    preset = file.source.get("preset")
    return f"{title(file)} (preset {preset})" if preset else title(file)


def answers(path: str, data: Sequence[DataFile]) -> list[Prediction]:
    """Another system's answers to the records of data files: a folder or file, as the benchmark wants it.

    Without a benchmark a folder with a .txt or .md file for each image, named as the image is.
    """
    predictions = []
    for file in data:
        benchmark = file.source.get("benchmark")
        read = _module(benchmark).read_answers if benchmark else _read_texts
        texts = read(path, file)
        for index in range(len(file.records)):
            if file.note(index).get("not_asked") and texts[index] is None:
                predictions.append(file.prediction(index))
                continue
            missing = {} if texts[index] is not None else {"failed": f"no answer in {path}"}
            predictions.append(file.answered(index, prediction=texts[index] or "", **missing))
    return predictions


def scores(
    predictions: Sequence[Prediction],
    data: Sequence[DataFile],
    output_dir: Path | None,
    cdm_seconds: float = 0,
    answers_path: str = "",
) -> dict[str, Any]:
    """Scores by the benchmarks' own rules, by name and version; files for the official tools are written."""
    results = {}
    for file in data:
        module = _module(str(file.source["benchmark"])) if file.source.get("benchmark") else None
        if module is not None and hasattr(module, "scores"):
            rows = [prediction for prediction in predictions if prediction.data == file.name]
            given = {"cdm_seconds": cdm_seconds, "answers_path": answers_path}
            further = {name: given[name] for name in module.TAKES}
            results[title(file)] = module.scores(file, rows, output_dir, **further)
    return results


def _module(name: str) -> ModuleType:
    return import_module(f".{name}", __name__)


def _read_texts(path: str, file: DataFile) -> list[str | None]:
    names = [
        Path(str(record.images[0])).stem for record in map(file.records.__getitem__, range(len(file.records)))
    ]
    if len({*names}) < len(names):
        raise EvaluationError(f"{path}: several rows of one image; use answers as a file with ids instead")
    return read_folder(path, names)
