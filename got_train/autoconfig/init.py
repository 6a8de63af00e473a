"""A folder of documents becomes a config with a reason beside every value. Knows no command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from got_train.config.loader import load_config
from got_train.config.schema import Config, ModelConfig
from got_train.data.image_copies import ImageCopier
from got_train.data.records import ConcatDataset, Record, write_records
from got_train.errors import CheckpointError, ConfigError, DataError
from got_train.modeling.config import GotConfig
from got_train.preflight import config_checks, duplicates, verdict
from got_train.preflight.base_reading import BaseReading, read_with_base
from got_train.preflight.check import examine
from got_train.preflight.findings import ERROR
from got_train.preflight.rows import RowChecker
from got_train.preflight.scan import ScanResult, Source, scan
from got_train.preflight.statistics import Histogram, merged
from got_train.tokenizer import Tokenizer
from got_train.training.sources import find_tokenizer

from .documents import Document, find_documents, opened, read_documents
from .proposal import Choices, Line, propose, with_tiles, write
from .splitting import split_by_document

CROPS = (6, 4, 2)  # tiles of a page that are tried, the most first
SAMPLE = 2000  # rows of a source that are looked at, evenly spaced; all where documents are held out


@dataclass(frozen=True)
class InitOptions:
    """What the user asked for."""

    folder: str
    out: Path
    init_from: str
    task: str = ""
    split: float = 0.0  # share of the rows to hold out, in whole documents
    document: str = ""  # how to tell documents: folder, file, or a pattern; empty: by the rows and names
    workers: int = 0
    read_base: bool = True  # let the base read a few rows; it chooses which parts train

    def file(self, name: str) -> Path:
        """A file of rows beside the config: `train` and `validation` of a split, `records` made of labels."""
        return self.out.with_suffix(f".{name}.jsonl")


@dataclass(frozen=True)
class InitReport:
    """What init has to say, and whether the check found nothing against the config that it wrote."""

    text: str
    ready: bool


def init(options: InitOptions) -> InitReport:
    """Look, choose, write, and check what is written."""
    names = ("train", "validation") if options.split else ("records",)
    for file in (options.out, *map(options.file, names)):
        if file.exists():
            raise ConfigError(f"{file}: exists already; use another name for the config, or delete it")
    config = Config(model=ModelConfig(init_from=options.init_from))
    try:
        tokenizer = find_tokenizer(config.model)
        sizes = config_checks.model_sizes(config, tokenizer)
    except (CheckpointError, ConfigError) as error:
        advice = "--init-from names the checkpoint to start from, such as the folder of the released weights"
        raise ConfigError(f"{error}; {advice}") from error
    candidates, notes = find_documents(options.folder, options.task)
    documents = read_documents(candidates, notes)
    if not documents:
        raise DataError("\n".join([f"{options.folder}: no rows to train on; see docs/data.md", *notes]))

    def look(documents: Sequence[Document], max_crops: int) -> ScanResult:
        data = replace(config.data, max_tokens=sizes.decoder.max_positions, max_crops=max_crops)
        collator = config_checks.build_collator(replace(config, data=data), sizes, tokenizer)
        sample = 0 if options.split else SAMPLE
        sources = [Source("train", document.path, document.records, sample) for document in documents]
        return scan(sources, RowChecker(collator), options.workers)

    result = look(documents, config.data.max_crops)
    rows, bad = (sum(getattr(stats, name) for stats in result.statistics) for name in ("rows", "bad"))
    if rows == bad:
        raise DataError("\n".join([f"{options.folder}: none of {rows:,} rows can be used", *_faults(result)]))
    documents, result, crops = _tiles(documents, result, sizes, look)
    data = replace(config.data, max_tokens=sizes.decoder.max_positions)
    base = _base(options, replace(config, data=data), sizes, tokenizer, documents)
    output_dir = str(Path("runs") / options.out.stem)
    choices = propose(options.init_from, sizes, documents, result, output_dir, crops, base)
    try:
        choices, files = _files(options, choices, documents, result)
        write(options.out, choices)
    except OSError as error:
        raise DataError(f"{options.out}: cannot be written ({error}); use another folder") from error
    checked = examine(load_config(options.out), options.workers, SAMPLE, measure=False)
    lines = [_table(documents, result), *_seen(result), *notes, files, *choices.report_lines()]
    return InitReport(
        "\n".join([*filter(None, lines), "", *_ending(options.out, checked)]), _is_ready(checked)
    )


def _base(
    options: InitOptions, config: Config, sizes: GotConfig, tokenizer: Tokenizer, documents: list[Document]
) -> BaseReading | None:
    """How well the base reads a few of these rows; None where it is not asked, or Paddle is not there."""
    if not options.read_base or find_spec("paddle") is None:
        return None
    collator = config_checks.build_collator(config, sizes, tokenizer)
    return read_with_base(config, collator, ConcatDataset([document.records for document in documents]))


def _is_ready(checked: Mapping[str, Any]) -> bool:
    return checked["verdict"] != verdict.NOT_READY


def _ending(out: Path, checked: Mapping[str, Any]) -> list[str]:
    """What the check says of the config that is written, and of characters that the model cannot know."""
    characters = [kind for kind in checked["findings"] if kind["subject"] == "characters"]
    warnings = [f"warning: {kind['examples'][0]['cause']}; {kind['fix']}" for kind in characters]
    if _is_ready(checked):
        return [*warnings, f"{out} is written and can start; next: got check {out}"]
    errors = [kind for kind in checked["findings"] if kind["level"] == ERROR]
    return [
        *warnings,
        *(
            "not ready: {location}: {cause}; {fix}".format(fix=kind["fix"], **kind["examples"][0])
            for kind in errors
        ),
        f"{out} is written and cannot start as it is; change it, then: got check {out}",
    ]


def _tiles(
    documents: list[Document], result: ScanResult, sizes: GotConfig, look: Callable[..., ScanResult]
) -> tuple[list[Document], ScanResult, list[Line]]:
    """Tiles for pages whose lines one view cannot show, as many as fit beside the answers; checked again."""
    moved, reason = with_tiles(documents, merged(result.statistics), sizes)
    if not reason:
        return documents, result, []
    before = sum(stats.bad for stats in result.statistics)
    reopened = [replace(document, records=opened(document)) for document in moved]
    for crops in CROPS:
        again = look(reopened, crops)
        if sum(stats.bad for stats in again.statistics) <= before:
            return reopened, again, [("max_crops", crops, reason)]
    return documents, result, []


def _files(
    options: InitOptions, choices: Choices, documents: list[Document], result: ScanResult
) -> tuple[Choices, str]:
    """The files of rows that the config needs: two of a split, or one of rows that labels were made of."""
    if options.split:
        return _held_out(options, choices, documents, result)
    if not any(document.in_memory for document in documents):
        return choices, ""
    rows = [record for document in documents for record in document.records]
    count = write_records(options.file("records"), rows)
    note = f"made of labels: {count:,} rows in {options.file('records')}"
    return choices.with_train(str(options.file("records")), "made of the labels"), note


def _held_out(
    options: InitOptions, choices: Choices, documents: list[Document], result: ScanResult
) -> tuple[Choices, str]:
    """Two files of records beside the config, no document in both."""
    split = split_by_document(result, duplicates.find_pairs(result), options.split, options.document)
    copier = ImageCopier(options.out.with_suffix(".images"))
    for name, rows in (("train", split.train), ("validation", split.validation)):
        records = (documents[source].records[row] for source, row in rows)
        write_records(options.file(name), (_on_disk(record, copier) for record in records))
    bad = sum(stats.bad for stats in result.statistics)
    lost = f"; {bad} rows that cannot be used are in neither" if bad else ""
    names = [str(options.file(name)) for name in ("train", "validation")]
    return choices.with_split(*names, split.share, len(split.validation)), f"{split}{lost}"


def _on_disk(record: Record, copier: ImageCopier) -> Record:
    """The record with pictures of a parquet file written beside the config, as a line can only name files."""
    if all(isinstance(image, str) for image in record.images):
        return record
    images = tuple(image if isinstance(image, str) else copier.one(image) for image in record.images)
    return replace(record, images=images)


def _table(documents: list[Document], seen: ScanResult) -> str:
    lines = [f"{'source':40} {'rows':>7} {'bad':>5}   tasks"]
    for document, stats in zip(documents, seen.statistics, strict=True):
        tasks = ", ".join(task for task, _ in stats.tasks.most_common()) or "none"
        name = document.path if len(document.path) <= 40 else "..." + document.path[-37:]
        lines.append(f"{name:40} {len(document.records):7,} {stats.bad:5,}   {tasks} ({document.form})")
    return "\n".join(lines)


def _seen(seen: ScanResult) -> list[str]:
    """What the rows are like, all sources together."""
    whole = merged(seen.statistics)
    scripts = sum(fitness.characters for fitness in whole.scripts.values()) or 1
    shares = [
        f"{name} {fitness.characters / scripts:.0%}"
        for name, fitness in sorted(whole.scripts.items(), key=lambda item: -item[1].characters)
    ]
    lines = [
        f"scripts: {', '.join(shares)}",
        f"answers: {_range(whole.answers)} tokens, {_range(whole.characters)} characters",
        f"pictures: {_range(whole.sides)} pixels on the longer side",
    ]
    if whole.lines.total:
        lines.append(
            f"smallest lines of text: {_range(whole.lines)} px high in the encoder's view "
            f"({whole.lines.total:,} pages looked at)"
        )
    return [*lines, *_faults(seen)]


def _faults(seen: ScanResult) -> list[str]:
    lines = []
    for kind in seen.findings.kinds("error"):
        location, cause = kind.examples[0]
        fix = f"; {kind.fix}" if kind.fix else ""
        lines.append(f"cannot be used: {kind.count:,} rows, such as {location}: {cause}{fix}")
    return lines


def _range(numbers: Histogram) -> str:
    summary = numbers.plain()
    return f"{summary['median']:,} in the middle, {summary['least']:,} to {summary['most']:,}"
