"""A folder of documents becomes a config with a reason beside every value. Knows no command line."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from got_train.config.loader import load_config
from got_train.config.schema import Config, ModelConfig
from got_train.data.records import write_records
from got_train.errors import CheckpointError, ConfigError
from got_train.preflight import config_checks, duplicates
from got_train.preflight.rows import RowChecker
from got_train.preflight.scan import ScanResult, Source, scan
from got_train.preflight.statistics import Histogram, Statistics
from got_train.training.run import find_tokenizer

from .documents import Document, find_documents, read_documents
from .proposal import Choices, propose, write
from .splitting import split_by_document

SAMPLE = 2000  # rows of a source that are looked at, evenly spaced; all where documents are held out


@dataclass(frozen=True)
class InitOptions:
    """What the user asked for."""

    folder: str
    out: Path
    init_from: str
    task: str = ""
    split: float = 0.0  # share of the documents to hold out
    workers: int = 0

    @property
    def parts(self) -> tuple[Path, ...]:
        """Beside the config, where documents are held out: rows to train on, and those of validation."""
        names = ("train", "validation") if self.split else ()
        return tuple(self.out.with_suffix(f".{name}.jsonl") for name in names)


def init(wish: InitOptions) -> str:
    """Look, choose, write; returns what is to be told. The config is checked before it takes its place."""
    for file in (wish.out, *wish.parts):
        if file.exists():
            raise ConfigError(f"{file}: exists already; another name for the config, or delete it")
    config = Config(model=ModelConfig(init_from=wish.init_from))
    try:
        tokenizer = find_tokenizer(config.model)
        sizes = config_checks.model_sizes(config, tokenizer)
    except (CheckpointError, ConfigError) as error:
        advice = "--init_from names the checkpoint to start from, such as the folder of the released weights"
        raise ConfigError(f"{error}; {advice}") from error
    found, notes = find_documents(wish.folder, wish.task)
    documents = read_documents(found, notes)
    if not documents:
        raise ConfigError("\n".join([f"{wish.folder}: no rows to train on; see docs/data.md", *notes]))
    collator = config_checks.build_collator(
        replace_tokens(config, sizes.decoder.max_positions), sizes, tokenizer
    )
    sources = [Source("train", each.path, each.records, 0 if wish.split else SAMPLE) for each in documents]
    seen = scan(sources, RowChecker(collator), wish.workers)
    rows, bad = (sum(getattr(each, name) for each in seen.statistics) for name in ("rows", "bad"))
    if rows == bad:
        raise ConfigError("\n".join([f"{wish.folder}: none of {rows:,} rows can be used", *_faults(seen)]))
    choices = propose(wish.init_from, sizes, documents, seen, str(Path("runs") / wish.out.stem))
    try:
        choices, files = _held_out(wish, choices, documents, seen) if wish.split else (choices, "")
        write(wish.out, choices)
    except OSError as error:
        raise ConfigError(f"{wish.out}: cannot be written ({error}); another folder") from error
    load_config(wish.out)
    told = [_table(documents, seen), *_seen(seen), *notes, files, *choices.told()]
    ending = f"{wish.out} is written; next: got check {wish.out}"
    return "\n".join([*filter(None, told), "", ending])


def replace_tokens(config: Config, tokens: int) -> Config:
    """The same with room for as many tokens as the decoder takes: how long rows are is yet to be seen."""
    return replace(config, data=replace(config.data, max_tokens=tokens))


def _held_out(
    wish: InitOptions, choices: Choices, documents: list[Document], seen: ScanResult
) -> tuple[Choices, str]:
    """Two files of records beside the config, no document in both."""
    parts = split_by_document(seen, duplicates.find_pairs(seen), wish.split)
    for name, rows in zip(wish.parts, parts, strict=True):
        write_records(name, (documents[source].records[row] for source, row in rows))
    bad = sum(each.bad for each in seen.statistics)
    lost = f"; {bad} rows that cannot be used are in neither" if bad else ""
    said = f"held out: {len(parts[1])} of {len(parts[0]) + len(parts[1])} rows, by document{lost}"
    return choices.with_files(*map(str, wish.parts), wish.split, len(parts[1])), said


def _table(documents: list[Document], seen: ScanResult) -> str:
    lines = [f"{'source':40} {'rows':>7} {'bad':>5}   tasks"]
    for document, found in zip(documents, seen.statistics, strict=True):
        tasks = ", ".join(task for task, _ in found.tasks.most_common()) or "none"
        name = document.path if len(document.path) <= 40 else "..." + document.path[-37:]
        lines.append(f"{name:40} {len(document.records):7,} {found.bad:5,}   {tasks} ({document.form})")
    return "\n".join(lines)


def _seen(seen: ScanResult) -> list[str]:
    """What the rows are like, all sources together."""
    whole = Statistics()
    for each in seen.statistics:
        whole.merge(each)
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
    found = numbers.plain()
    return f"{found['median']:,} in the middle, {found['least']:,} to {found['most']:,}"
