"""Is a run ready: config, rows and first steps, one verdict. Knows no command line."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from got_train.atomic_write import write_atomic
from got_train.checkpoint.characters import load_characters
from got_train.config.loader import dump_config
from got_train.config.schema import Config, SourceConfig
from got_train.data.records import ConcatDataset, Record, RecordError
from got_train.errors import RequirementError
from got_train.modeling.config import GotConfig
from got_train.requirements import need_paddle
from got_train.training.sources import count_steps, find_tokenizer, make_output_dir, open_source

from . import config_checks, duplicates, verdict
from .answers import answer_findings
from .findings import ERROR, WARNING, Finding, Findings
from .rows import RowChecker
from .scan import HELD_OUT, FindingsFile, ScanResult, Source, scan
from .statistics import Statistics, merged, plain_scripts

QUARANTINE, FINDINGS = "quarantine.jsonl", "findings.jsonl"


def check(config: Config, workers: int = 0, sample: int = 0, measure: bool = True) -> dict[str, Any]:
    """All that is found about a run, as check.json holds it; the two files are written.

    `sample`: rows of each source at most, evenly spaced (0: all). `workers` 0: in this process alone.
    """
    output = make_output_dir(config)
    report = examine(config, workers, sample, measure, output)
    for key, name in (("quarantine", QUARANTINE), ("all_findings", FINDINGS)):
        report[key] = str(output / name) if (output / name).exists() else ""
    report["report"] = str(output / verdict.FILE)
    _write(report, output / verdict.FILE)
    return report


def examine(
    config: Config, workers: int = 0, sample: int = 0, measure: bool = True, output: Path | None = None
) -> dict[str, Any]:
    """The same without check.json; bad rows and all findings go into files in `output` if it is given."""
    began, findings = time.monotonic(), Findings()
    report: dict[str, Any] = {"verdict": "", "config_sha256": _hash(config), "sample": sample}
    findings.extend(config_checks.config_warnings(config))
    result = _scanned(config, findings, workers, sample, output)
    if result is None:
        report |= {"sources": [], "scripts": {}, "unmeasured": "the rows could not be looked at"}
    else:
        report |= _described(result, config.data.max_tokens)
        report |= _needs(config, findings, result, measure)
    report |= {
        "findings": [kind.plain() for kind in findings.kinds()],
        "seconds": round(time.monotonic() - began, 1),
        "quarantine": "",
    }
    report["verdict"] = verdict.verdict(report["findings"])
    return report


def refused(error: Exception) -> dict[str, Any]:
    """The verdict on a config that cannot be read."""
    findings = Findings()
    findings.add(Finding.of(error, "config"))
    report = {"sources": [], "scripts": {}, "findings": [kind.plain() for kind in findings.kinds()]}
    return {"verdict": verdict.NOT_READY, **report, "quarantine": ""}


def _scanned(
    config: Config, findings: Findings, workers: int, sample: int, output: Path | None
) -> ScanResult | None:
    try:
        tokenizer = find_tokenizer(config.model)
        sizes = config_checks.model_sizes(config, tokenizer)
        collator = config_checks.build_collator(config, sizes, tokenizer)
    except (ValueError, OSError, KeyError) as error:
        findings.add(Finding.of(error, "model", location="model"))
        return None
    sources = _sources(config, findings, sample)
    if not sources:
        return None
    bad = WARNING if config.data.on_error == "skip" else ERROR
    level = {index: bad for index, source in enumerate(sources) if source.role not in HELD_OUT}
    trained = load_characters(config.model.init_from) if config.model.init_from else None
    checker = RowChecker(collator, level, trained=trained)
    with contextlib.ExitStack() as files:
        quarantine, all_findings = None, None
        if output is not None:
            quarantine = files.enter_context(FindingsFile(output / QUARANTINE, bad=True))
            all_findings = files.enter_context(FindingsFile(output / FINDINGS))
        seen = _scan(sources, checker, workers, quarantine, all_findings)
        for kind in seen.findings.kinds():
            findings.merge(kind)
        for finding in duplicates.findings(seen):
            findings.add(finding)
            if all_findings is not None:
                all_findings.add(finding)
    findings.extend(_said_of(config, seen, sizes))
    findings.extend(_unfamiliar(seen, trained is not None))
    for source in sources:
        if source.role in ("train", "replay", "validation"):
            findings.extend(answer_findings(source, source.config))
    return seen


def _scan(
    sources: Sequence[Source],
    checker: RowChecker,
    workers: int,
    quarantine: FindingsFile | None,
    all_findings: FindingsFile | None,
) -> ScanResult:
    from tqdm import tqdm

    counted = [source.rows() for source in sources]
    total = None if any(rows is None for rows in counted) else sum(map(len, counted))
    with tqdm(total=total, unit="row", file=sys.stderr, disable=None) as bar:
        return scan(sources, checker, workers, quarantine, bar.update, all_findings)


def _sources(config: Config, findings: Findings, sample: int) -> list[Source]:
    """Those of the config that can be opened; the others are findings."""
    data = config.data
    named = [
        ("train", data.sources),
        ("replay", data.replay_sources),
        ("validation", data.validation_sources),
        ("probe", config.eval.retention_sets),
    ]
    if not data.sources:
        findings.add(
            Finding(ERROR, "config", "data.train", "no data", "a file of records, e.g. data.train=my.jsonl")
        )
    result = []
    for role, sources in named:
        for source in sources:
            opened = _opened(source, findings)
            if opened is not None:
                result.append(Source(role, source.path, opened, sample, source))
    return result


def _opened(source: SourceConfig, findings: Findings) -> Sequence[Record] | None:
    try:
        return open_source(source)
    except (RecordError, OSError) as error:
        findings.add(Finding.of(error, "source", location=source.path))
        return None


def _said_of(config: Config, seen: ScanResult, sizes: GotConfig) -> list[Finding]:
    """What the numbers of all rows together say against the config."""
    findings = []
    train = seen.total("train")
    usable = sum(stats.rows - stats.bad for stats in _of_role(seen, "train"))
    if train and not usable:
        findings.append(
            Finding(ERROR, "source", "data.train", f"none of {train:,} rows can be used", "see each below")
        )
    learnt = [*_of_role(seen, "train"), *_of_role(seen, "replay")]
    findings += config_checks.script_warnings(config, merged(learnt))
    for role in ("train", "validation"):
        whole = merged(_of_role(seen, role))
        findings.append(config_checks.text_height_warning(whole, sizes.vision.patch, role))
        findings.append(config_checks.crop_width_warning(whole, sizes.vision.patch, role))
    counted = all(source.rows() is not None for source in seen.sources)
    if counted and train:
        findings.append(
            config_checks.steps_warning(config, count_steps(config, _rows_of_epoch(config, seen)))
        )
    return [finding for finding in findings if finding is not None]


def _unfamiliar(seen: ScanResult, trained: bool) -> list[Finding]:
    """Characters of each role that the model cannot know."""
    warnings = [
        config_checks.character_warning(merged(_of_role(seen, role)), trained, f"data.{role}")
        for role in ("train", "validation")
    ]
    return [warning for warning in warnings if warning is not None]


def _rows_of_epoch(config: Config, seen: ScanResult) -> int:
    replay = [len(source.records) for source in seen.sources if source.role == "replay"]
    train = [len(source.records) for source in seen.sources if source.role == "train"]
    return sum(train) + round(config.data.replay_share * sum(replay))


def _of_role(seen: ScanResult, role: str) -> list[Statistics]:
    pairs = zip(seen.sources, seen.statistics, strict=True)
    return [statistics for source, statistics in pairs if source.role == role]


def _described(seen: ScanResult, most: int) -> dict[str, Any]:
    pairs = zip(seen.sources, seen.statistics, strict=True)
    sources = [
        {"role": stats.role, "path": stats.path, **numbers.plain(), "too_long": numbers.tokens.above(most)}
        for stats, numbers in pairs
    ]
    return {"sources": sources, "scripts": plain_scripts(merged(seen.statistics).scripts)}


def _needs(config: Config, findings: Findings, seen: ScanResult, measure: bool) -> dict[str, Any]:
    """Memory, time and disk, or why they are not measured."""
    longest = _longest(config, seen)
    if not measure or not longest:
        return {"unmeasured": "--no-measure" if longest else "no row of data.train can be used"}
    try:
        need_paddle()
        from . import estimates

        base = _base(config, findings, seen)
        needs = estimates.measure(config, longest)
    except RequirementError as error:
        return {"unmeasured": str(error)}
    except Exception as error:
        if not (isinstance(error, OSError) or type(error).__module__.startswith("got_train.")):
            raise  # a fault of ours, which needs its traceback
        findings.add(Finding.of(error, "start", location="train"))
        return {"unmeasured": "the run does not start"}
    findings.extend(estimates.faults(needs, config))
    return {"needs": needs, "base": base}


def _base(config: Config, findings: Findings, result: ScanResult) -> dict[str, Any] | None:
    """How well the base reads the rows to train on; None of a run from nothing."""
    from .base_reading import read_with_base

    tokenizer = find_tokenizer(config.model)
    sizes = config_checks.model_sizes(config, tokenizer)
    collator = config_checks.build_collator(config, sizes, tokenizer)
    train = [source for source in result.sources if source.role == "train" and source.rows() is not None]
    if not train:
        return None
    reading = read_with_base(config, collator, ConcatDataset([source.records for source in train]))
    if reading is None:
        return None
    if finding := reading.finding():
        findings.add(finding)
    return reading.plain()


def _longest(config: Config, seen: ScanResult) -> list[Record]:
    """Those of one micro-batch; the same again where there are fewer."""
    rows = [(source, row) for _, source, row in seen.longest if seen.sources[source].role not in HELD_OUT]
    return [
        seen.sources[source].records[row] for source, row in rows[: config.train.per_device_train_batch_size]
    ]


def _hash(config: Config) -> str:
    return hashlib.sha256(dump_config(config).encode()).hexdigest()


def _write(verdict: dict[str, Any], path: Path) -> None:
    write_atomic(path, json.dumps(verdict, ensure_ascii=False, indent=1) + "\n")
