"""Drafts of pages or records by one or several readers, written as they come; a stopped job goes on.

Knows records, readers and files; knows no order and no person.
"""

from __future__ import annotations

import io
import itertools
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tqdm import tqdm

from got_train.atomic_write import write_atomic
from got_train.data.image_copies import ImageCopier
from got_train.data.record import Record
from got_train.data.records import read_records
from got_train.errors import DataError, UsageError
from got_train.images import EncodedImage
from got_train.inference.pages import Page, find_pages

from .draft import Answer, Draft, as_line, key_of, parse_drafts, readers_of
from .readers import Reader

PICTURES = "pictures"  # beside the drafts: pages of PDFs, and pictures that lay inside data files
DATA = (".jsonl", ".json", ".csv", ".parquet")
TOGETHER = 100  # records that each reader is given at once


@dataclass
class Summary:
    """What was drafted, now and before; answers and empty hands by reader."""

    drafts: int = 0
    before: int = 0
    twice: int = 0  # the same picture and question again
    answered: Counter[str] = field(default_factory=Counter)
    failures: dict[str, str] = field(default_factory=dict)  # the first of each reader
    agreements: list[float] = field(default_factory=list)

    def add(self, draft: Draft) -> None:
        self.drafts += 1
        if draft.agreement is not None:
            self.agreements.append(draft.agreement)
        for answer in draft.answers:
            self.answered[answer.by] += answer.text is not None
            if answer.failed:
                self.failures.setdefault(answer.by, answer.failed)


def prelabel(
    records: Iterable[Record], readers: Sequence[Reader], output: Path, limit: int | None = None
) -> Summary:
    """Appends what `output` does not hold yet: a draft for each of the first records."""
    summary = Summary()
    kept = _kept(output, readers)
    for draft in kept.values():
        summary.add(draft)
    summary.before = len(kept)
    records = itertools.islice(records, limit)
    some = list(itertools.islice(records, TOGETHER))
    if not some:
        raise DataError("pages: none to read; expected at least one")
    output.parent.mkdir(parents=True, exist_ok=True)
    seen: set[str] = set()
    with (
        open(output, "a", encoding="utf-8", newline="\n") as file,
        tqdm(unit="page", disable=None) as counter,
    ):
        while some:
            left = {}
            for record in some:
                key = key_of(record)
                summary.twice += key in seen
                if key not in seen and key not in kept:
                    left[key] = record
                seen.add(key)
            for draft in _drafts(left, readers):
                file.write(as_line(draft, output.parent))
                summary.add(draft)
            file.flush()
            counter.update(len(some))
            some = list(itertools.islice(records, TOGETHER))
    return summary


def _drafts(records: dict[str, Record], readers: Sequence[Reader]) -> Iterator[Draft]:
    answers: list[Iterable[Answer]] = [reader.read(list(records.values())) for reader in readers]
    for (key, record), *of_record in zip(records.items(), *answers, strict=True):
        reference = record.text or None
        question = replace(record, text="", char_boxes=(), rejected="")
        yield Draft(key=key, record=question, answers=tuple(of_record), reference=reference)


def _kept(output: Path, readers: Sequence[Reader]) -> dict[str, Draft]:
    """The whole lines of a job before, by the same readers; a line that it had begun goes."""
    if not output.exists():
        return {}
    whole, _, torn = output.read_text(encoding="utf-8", errors="replace").rpartition("\n")
    drafts = parse_drafts(whole, output)
    if torn:
        write_atomic(output, whole + "\n" if whole else "")
    now = [(reader.name, reader.checkpoint) for reader in readers]
    if drafts and readers_of(drafts) != now:
        names = ", ".join(name for name, _ in readers_of(drafts))
        raise UsageError(
            f"{output}: holds drafts by {names}, or by other weights of the same name; use another --output"
        )
    return {draft.key: draft for draft in drafts}


def records_of(sources: Sequence[str], task: str, folder: Path) -> Iterator[Record]:
    """The records of a data file, or one for each page of pictures, PDFs and folders.

    They are looked for at once, and read when their turn comes.
    Pictures that are no file of their own are copied to PICTURES below that folder.
    """
    copies = ImageCopier(folder / PICTURES)
    if len(sources) == 1 and _is_data(sources[0]):
        records = read_records(sources[0], allow_empty=True, check_files=True)
        return (_with_files(record, copies) for record in records)
    return (_of_page(page, task, copies) for page in find_pages(sources))


def _of_page(page: Page, task: str, copies: ImageCopier) -> Record:
    if page.number is None:
        return Record((str(page.file),), task, "", location=str(page))
    drawn = io.BytesIO()
    page.open().save(drawn, "PNG", compress_level=1)
    copy = copies.one(EncodedImage(f"{page.name}.png", drawn.getvalue()))
    return Record((copy,), task, "", document=Path(str(page.file)).name, location=str(page))


def _is_data(source: str) -> bool:
    if source.lower().endswith(DATA):
        return True
    return any(os.path.isfile(os.path.join(source, name)) for name in ("records.jsonl", "metadata.jsonl"))


def _with_files(record: Record, copies: ImageCopier) -> Record:
    if not any(isinstance(image, EncodedImage) for image in record.images):
        return record
    files = (copies.one(record.images[0]),) if len(record.images) == 1 else copies.several(record.images)
    return replace(record, images=files)
