"""olmOCR-bench: yes/no checks on the Markdown of a page; the checks are in `checks`, the files here.

tests.jsonl names a PDF and a page for each check; an answer is <pdf stem>_pg<page>_repeat<n>.md. Its checks
know no LaTeX table: GOT's are scored and exported as HTML, which is said in the scores.
"""

from __future__ import annotations

import io
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from got_train.data.record import Record
from got_train.evaluation.statistics import DRAWS, interval
from got_train.formats.tables import with_html_tables
from got_train.images import SUFFIXES, EncodedImage, pdf_pages

from . import checks, read_folder

VERSIONS = ("2026-03",)  # the date of the official code

if TYPE_CHECKING:
    from got_train.evaluation.predictions import DataFile, Prediction

_FOLDER = "olmocr_bench"  # of the exported answers
_PIXELS = 2048  # of the longer side of a rendered page, as the benchmark's own runners take them


class DrawnPage(EncodedImage):
    """A page of a PDF, which is drawn when it is opened."""

    def __init__(self, file: str, page: int) -> None:
        object.__setattr__(self, "name", f"{file} page {page}")
        object.__setattr__(self, "place", (file, page))

    def __repr__(self) -> str:
        return f"<{self.name}>"

    @property
    def mark(self) -> str:
        """What tells it from others without drawing it."""
        return self.name

    @property
    def data(self) -> bytes:
        file, page = self.place
        picture = next(picture for _, picture in pdf_pages(file, [page]))
        picture.thumbnail((_PIXELS, _PIXELS))
        kept = io.BytesIO()
        picture.save(kept, "PNG")
        return kept.getvalue()


@dataclass(frozen=True)
class Pages(Sequence[Record]):
    """A record for each page that has checks. A PDF's page is drawn when its turn comes."""

    path: str
    root: str  # of its PDFs
    names: tuple[tuple[str, int], ...]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, place: int) -> Record:
        pdf, page = self.names[place]
        file = os.path.join(self.root, pdf)
        image = file if file.lower().endswith(SUFFIXES) else DrawnPage(file, page)
        return Record((image,), "format", "", location=f"{self.path}: {pdf} page {page}")


def open_records(path: str, image_root: str | None = None) -> tuple[Pages, list[dict[str, Any]]]:
    """The pages of tests.jsonl; PDFs lie in `pdfs` beside it, as published, or in image_root."""
    rows = checks.read_checks(path)
    names = tuple(dict.fromkeys((row["pdf"], int(row.get("page", 1))) for row in rows))
    beside = Path(path).parent / "pdfs"
    root = image_root or str(beside if beside.is_dir() else Path(path).parent)
    notes = [
        {"id": answer_name(*name), "document": name[0], "benchmark": "olmocr", "task": "format"}
        for name in names
    ]
    return Pages(path, root, names), notes


def read_answers(path: str, file: DataFile) -> list[str | None]:
    """The answers of a folder, the first repeat of each."""
    return read_folder(path, [note["id"] for note in file.notes], (".md",))


def answer_name(pdf: str, page: int) -> str:
    return f"{os.path.splitext(pdf)[0]}_pg{page}_repeat1"


def scores(file: DataFile, predictions: Sequence[Prediction], output_dir: Path | None) -> dict[str, Any]:
    """The share of checks that hold, by type, and the mean over files, with each failed check's reason."""
    answers = {each.id: with_html_tables(each.prediction) for each in predictions}
    if output_dir is not None:
        _export(answers, output_dir / _FOLDER)
    rows = [
        row for row in checks.read_checks(file.path) if answer_name(row["pdf"], int(row["page"])) in answers
    ]
    results = []
    for row in rows:
        passed, reason = checks.run(row, answers[answer_name(row["pdf"], int(row["page"]))])
        results.append(
            {"id": row["id"], "pdf": row["pdf"], "type": row["type"], "passed": passed, "reason": reason}
        )
    return {
        "summary": _summary(results),
        "types": _by_type(results),
        "checks": results,
        "note": "tables in LaTeX were made HTML; formulas compared as checks.equal_math says",
    }


def _summary(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    if not results:
        return {"checks": 0, "passed": None}
    values = [float(each["passed"]) for each in results]
    low, high = interval(values, clusters=[each["pdf"] for each in results], draws=DRAWS)
    return {
        "checks": len(results),
        "passed": sum(values) / len(values),
        "low": low,
        "high": high,
    }


def _by_type(results: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    types: dict[str, list[bool]] = defaultdict(list)
    for each in results:
        types[each["type"]].append(each["passed"])
    return {
        name: {"checks": len(values), "passed": sum(values) / len(values)} for name, values in types.items()
    }


def _export(answers: dict[str, str], folder: Path) -> None:
    for name, text in answers.items():
        file = folder / f"{name}.md"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8", newline="\n")
