"""olmOCR-bench: yes/no checks on the Markdown of a page; the checks are in `checks`, files and scores here.

The published folder holds JSONL files of checks and pdfs/ with sub-folders; an answer is
<pdf stem>_pg<page>_repeat<n>.md in a folder for each system. The score is the mean of the pass rates of the
files, and of the baseline checks that are added for PDFs without one.
"""

from __future__ import annotations

import io
import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from got_train.data.documents import documents_of_pictures
from got_train.data.record import Record
from got_train.errors import EvaluationError
from got_train.formats.tables import find_tables, with_html_tables
from got_train.images import SUFFIXES, EncodedImage, pdf_pages
from got_train.workers import in_processes

from . import checks, math_inclusion

if TYPE_CHECKING:
    from got_train.evaluation.predictions import DataFile, Prediction

VERSIONS = ("2026-03",)  # the date of the official code, allenai/olmocr at f7cfe4c
TAKES = ("answers_path",)  # further arguments of `scores`
BASELINE = "baseline"  # the group of checks that are added
DRAWS = 1000  # of the bootstrap inside groups
_FOLDER = "olmocr_bench"  # of the exported answers
_FEW = 40  # pages that one process checks before another is worth its start
_SEED = 0
_DPI = 72  # that a page is measured at, to draw it as large as the benchmark's own runners do


@dataclass(frozen=True)
class Preset:
    """How pages are read: the task that is asked, and the longer side of a page in pixels."""

    task: str
    side: int
    words: str


PRESETS = {
    "ours": Preset("format", 2048, "format type, longest side 2,048"),
    "published": Preset("ocr", 1024, "plain type, longest side 1,024, as the published GOT row"),
}


class DrawnPage(EncodedImage):
    """A page of a PDF, which is drawn when it is opened."""

    def __init__(self, file: str, page: int, side: int) -> None:
        object.__setattr__(self, "name", f"{file} page {page}")
        object.__setattr__(self, "place", (file, page, side))

    def __repr__(self) -> str:
        return f"<{self.name}>"

    @property
    def mark(self) -> str:
        """What tells it from others without drawing it."""
        return self.name

    @property
    def data(self) -> bytes:
        file, page, side = self.place
        small = next(picture for _, picture in pdf_pages(file, [page], dpi=_DPI))
        picture = next(picture for _, picture in pdf_pages(file, [page], dpi=_DPI * side / max(small.size)))
        picture.thumbnail((side, side))  # by the pixel that rounding may have added
        kept = io.BytesIO()
        picture.save(kept, "PNG")
        return kept.getvalue()


@dataclass(frozen=True)
class Pages(Sequence[Record]):
    """A record for each page that has checks. A PDF's page is drawn when its turn comes."""

    path: str
    root: str  # of its PDFs
    names: tuple[tuple[str, int], ...]
    presets: tuple[str, ...] = ("ours",)

    def __len__(self) -> int:
        return len(self.names) * len(self.presets)

    def __getitem__(self, index: int) -> Record:
        if not 0 <= index < len(self):
            raise IndexError(index)
        preset, (pdf, page) = (
            PRESETS[self.presets[index // len(self.names)]],
            self.names[index % len(self.names)],
        )
        file = os.path.join(self.root, pdf)
        image = file if file.lower().endswith(SUFFIXES) else DrawnPage(file, page, preset.side)
        return Record((image,), preset.task, "", location=f"{self.path}: {pdf} page {page}")


def open_records(
    path: str, image_root: str | None = None, preset: str = "ours", **_: Any
) -> tuple[Pages, list[dict[str, Any]]]:
    """The pages of the published folder, or of one file of checks; PDFs lie in pdfs/ or in image_root."""
    rows = read_tests(path, image_root)
    names = tuple(dict.fromkeys((row["pdf"], row["page"]) for row in rows))
    presets = tuple(PRESETS) if preset == "both" else (preset,)
    notes = [
        {
            "id": record_name(*name, chosen),
            "document": name[0],
            "benchmark": "olmocr",
            "task": PRESETS[chosen].task,
            "groups": {"preset": chosen},
        }
        for chosen in presets
        for name in names
    ]
    return Pages(path, str(_pdfs(path, image_root)), names, presets), notes


def _pdfs(path: str, image_root: str | None = None) -> Path:
    folder = Path(path) if os.path.isdir(path) else Path(path).parent
    return Path(image_root) if image_root else folder / "pdfs" if (folder / "pdfs").is_dir() else folder


def read_tests(path: str, image_root: str | None = None) -> list[dict[str, Any]]:
    """The checks of all files, each with its file as `group`, and a baseline check for PDFs without one."""
    folder = Path(path)
    files = sorted(folder.glob("*.jsonl")) if folder.is_dir() else [folder]
    if not files:
        raise EvaluationError(f"{path}: no JSONL file; expected the published folder, with pdfs/ beside them")
    rows = [{**row, "group": file.stem} for file in files for row in checks.read_checks(str(file))]
    pdfs = _pdfs(path, image_root)
    pdf_files = sorted(file.relative_to(pdfs).as_posix() for file in pdfs.glob("**/*.pdf"))
    if folder.is_dir() and not (pdf_files and (image_root or (folder / "pdfs").is_dir())):
        raise EvaluationError(f"{path}: no PDF in pdfs/; expected the published folder")
    named = {row["pdf"] for row in rows}
    if not folder.is_dir():
        pdf_files = [pdf for pdf in pdf_files if pdf in named]
    based = {row["pdf"] for row in rows if row["type"] == "baseline"}
    rows += [
        {"id": f"{pdf}_baseline", "pdf": pdf, "page": 1, "type": "baseline", "group": BASELINE}
        for pdf in pdf_files
        if pdf not in based
    ]
    for row in rows:
        row["page"] = int(row.get("page", 1))
    names = [row["id"] for row in rows]
    if len({*names}) < len(names):
        twice = max(names, key=names.count)
        raise EvaluationError(f"{path}: id {twice} twice; expected an id of its own for each check")
    return rows


def candidates(folder: str) -> list[str]:
    """The folders of answers in the published folder: one for each system."""
    if not os.path.isdir(folder):
        return []
    folders = (entry for entry in os.scandir(folder) if entry.is_dir() and entry.name != "pdfs")
    return sorted(entry.name for entry in folders if any(Path(entry.path).glob("**/*_repeat*.md")))


def record_name(pdf: str, page: int, preset: str = "ours") -> str:
    return answer_name(pdf, page) + ("" if preset == "ours" else f" ({preset})")


def answer_name(pdf: str, page: int) -> str:
    return f"{os.path.splitext(pdf)[0]}_pg{page}_repeat1"


def read_answers(path: str, file: DataFile) -> list[str | None]:
    """The first repeat of each answer of a folder; None for pages without one. `scores` reads all repeats."""
    repeats = read_repeats(path)
    names = [re.sub(r"_repeat1(?: \(\w+\))?$", "", note["id"]) for note in file.notes]
    if not any(name in repeats for name in names):
        raise EvaluationError(f"{path}: no answer to any page; expected files such as {names[0]}_repeat1.md")
    return [repeats[name][0] if name in repeats else None for name in names]


def read_repeats(path: str) -> dict[str, list[str]]:
    """All answers of a folder by <pdf stem>_pg<page>, in the order of their repeats."""
    folder = Path(path)
    if not folder.is_dir():
        raise EvaluationError(
            f"{path}: no folder; expected one with a file NAME_pg1_repeat1.md for each page"
        )
    repeats: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for file in sorted(folder.glob("**/*.md")):
        match = re.fullmatch(r"(.+_pg\d+)_repeat(\d+)", file.relative_to(folder).with_suffix("").as_posix())
        if match:
            try:
                repeats[match[1]].append((int(match[2]), file.read_text(encoding="utf-8")))
            except UnicodeDecodeError as error:
                raise EvaluationError(f"{file}: not UTF-8 ({error}); expected Markdown in UTF-8") from error
    return {name: [text for _, text in sorted(texts)] for name, texts in repeats.items()}


def scores(
    file: DataFile, predictions: Sequence[Prediction], output_dir: Path | None, answers_path: str = ""
) -> dict[str, Any]:
    """The score by the official rule, of the answers as they are and with LaTeX tables as HTML.

    All repeats of a folder of answers count: a check passes if more than half of them pass it.
    """
    tests = read_tests(file.path, file.source.get("image_root"))
    repeats = read_repeats(answers_path) if answers_path and os.path.isdir(answers_path) else {}
    by_preset: dict[str, dict[str, list[str]]] = defaultdict(dict)
    for prediction in predictions:
        preset = prediction.groups.get("preset", "ours")
        name = re.sub(r"_repeat1(?: \(\w+\))?$", "", prediction.id or "")
        texts = [] if prediction.failed is not None else repeats.get(name, [prediction.prediction])
        by_preset[preset][name] = texts
    results = {
        preset: _scored(tests, answers, preset, output_dir, bool(repeats))
        for preset, answers in by_preset.items()
    }
    first = next(iter(results.values()), None) or _scored(tests, {}, "ours", output_dir, False)
    return first if len(results) < 2 else {**first, "presets": results}


def _scored(
    tests: Sequence[Mapping[str, Any]],
    answers: Mapping[str, list[str]],
    preset: str,
    output_dir: Path | None,
    given: bool,
) -> dict[str, Any]:
    rows = [row for row in tests if _page_name(row) in answers]
    html = {name: [with_html_tables(text) for text in texts] for name, texts in answers.items()}
    if output_dir is not None:
        _export(html, output_dir / (_FOLDER if preset == "ours" else f"{_FOLDER}_{preset}"))
    results = run_tests(rows, answers)
    how = "answers of a folder" if given else PRESETS[preset].words
    summary = {"preset": preset, **summarised(results), **document_interval(results)}
    scored: dict[str, Any] = {
        "summary": summary,
        "groups": by_group(results),
        "types": by_type(results),
        "checks": results,
    }
    if any(
        table.form == "latex" for texts in answers.values() for text in texts for table in find_tables(text)
    ):
        again = run_tests(rows, html)
        scored["html_tables"] = {
            "summary": summarised(again),
            "groups": by_group(again),
            "types": by_type(again),
        }
        summary["score_with_html_tables"] = scored["html_tables"]["summary"]["score"]
    unread = len({_page_name(row) for row in rows if not answers[_page_name(row)]})
    note = (
        f"{how}; official code of {VERSIONS[-1]}; formulas by {math_inclusion.method()}; {unread:,} pages "
        "without an answer fail their checks; score_with_html_tables: LaTeX tables, which the checks do not "
        "know, as HTML"
    )
    return {**scored, "note": note}


def _page_name(row: Mapping[str, Any]) -> str:
    return f"{os.path.splitext(row['pdf'])[0]}_pg{row['page']}"


def run_tests(
    rows: Sequence[Mapping[str, Any]], answers: Mapping[str, Sequence[str]]
) -> list[dict[str, Any]]:
    """Each check with whether it passed, in order; pages are checked on all cores."""
    pages: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        pages[_page_name(row)].append(row)
    tasks = [(page, list(answers[name])) for name, page in pages.items()]
    processes = max(1, min(os.cpu_count() or 1, len(tasks) // _FEW))
    scores = {}
    for page, results in zip(pages.values(), in_processes(check_page, tasks, processes), strict=True):
        scores |= {row["id"]: result for row, result in zip(page, results, strict=True)}
    return [
        {
            "id": row["id"],
            "pdf": row["pdf"],
            "type": row["type"],
            "group": row.get("group", ""),
            "passed": scores[row["id"]][0],
            "reason": scores[row["id"]][1],
        }
        for row in rows
    ]


def check_page(rows: Sequence[Mapping[str, Any]], texts: Sequence[str]) -> list[checks.Result]:
    """The checks of a page on all repeats of its answer: passed if more than half pass."""
    return [_majority([checks.run(dict(row), text) for text in texts]) for row in rows]


def _majority(results: Sequence[checks.Result]) -> checks.Result:
    if not results:
        return False, "no answer"
    unknown = next((reason for passed, reason in results if passed is None), None)
    if unknown is not None:
        return None, unknown
    passes = sum(bool(passed) for passed, _ in results)
    if passes * 2 > len(results):
        return True, ""
    reason = next(reason for passed, reason in results if not passed)
    return False, reason if len(results) == 1 else f"{passes} of {len(results)} repeats pass: {reason}"


def summarised(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The mean of the groups' pass rates with its interval; None where a check has no result."""
    if not results:
        return {"checks": 0, "passed": None, "score": None}
    known = [result for result in results if result["passed"] is not None]
    unknown = len(results) - len(known)
    groups: dict[str, list[float]] = defaultdict(list)
    for result in known:
        groups[result["group"]].append(float(result["passed"]))
    summary: dict[str, Any] = {
        "checks": len(results),
        "passed": sum(float(result["passed"]) for result in known) / len(known) if known else None,
    }
    if unknown:
        return {**summary, "score": None, "checks_without_result": unknown}
    low, high = bootstrap(list(groups.values()))
    score = sum(sum(values) / len(values) for values in groups.values()) / len(groups)
    return {**summary, "score": 100 * score, "low": 100 * low, "high": 100 * high}


def bootstrap(groups: Sequence[Sequence[float]]) -> tuple[float, float]:
    """The middle 95 % of the mean over groups, with checks drawn again inside each group."""
    import numpy

    generator = numpy.random.default_rng(_SEED)
    means = numpy.zeros(DRAWS)
    for group in groups:
        chosen = generator.integers(0, len(group), (DRAWS, len(group)))
        means += numpy.asarray(group, dtype=float)[chosen].mean(axis=1) / len(groups)
    low, high = numpy.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def document_interval(results: Sequence[Mapping[str, Any]], draws: int = DRAWS) -> dict[str, Any]:
    """The interval of the score with documents drawn whole, for the checks of a page fail together.

    Ours, beside the official one. A group without a check in a draw is left out of its mean.
    """
    import numpy

    if not results or any(result["passed"] is None for result in results):
        return {}
    names, _ = documents_of_pictures([(None, result["pdf"]) for result in results])
    documents, groups = list(dict.fromkeys(names)), list(dict.fromkeys(row["group"] for row in results))
    passed, counts = numpy.zeros((2, len(documents), len(groups)))
    places = {name: place for place, name in enumerate(documents)}
    for name, result in zip(names, results, strict=True):
        cell = places[name], groups.index(result["group"])
        passed[cell] += result["passed"]
        counts[cell] += 1
    generator = numpy.random.default_rng(_SEED)
    drawn = generator.multinomial(len(documents), numpy.full(len(documents), 1 / len(documents)), draws)
    with numpy.errstate(invalid="ignore"):
        means = numpy.nanmean((drawn @ passed) / (drawn @ counts), axis=1)
    low, high = 100 * numpy.percentile(means, [2.5, 97.5])
    return {"documents": len(documents), "low_by_document": float(low), "high_by_document": float(high)}


def by_group(results: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return _rates(results, "group")


def by_type(results: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return _rates(results, "type")


def _rates(results: Sequence[Mapping[str, Any]], key: str) -> dict[str, dict[str, Any]]:
    groups: dict[str, list[bool | None]] = defaultdict(list)
    for result in results:
        groups[result[key]].append(result["passed"])
    return {
        name: {
            "checks": len(values),
            "passed": None if None in values else sum(map(bool, values)) / len(values),
        }
        for name, values in groups.items()
    }


def _export(answers: Mapping[str, Sequence[str]], folder: Path) -> None:
    """A file for each repeat of each answer, with tables as HTML, as the official script looks for them."""
    for name, texts in answers.items():
        for number, text in enumerate(texts, start=1):
            file = folder / f"{name}_repeat{number}.md"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8", newline="\n")
