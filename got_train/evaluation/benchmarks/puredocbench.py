"""PureDocBench: 1,475 pages with truth from their sources, each clean, digitally degraded and photographed.

The release has a manifest (CSV), gt/ in OmniDocBench's form and images/<track>/. Its authors score the pages
by OmniDocBench's code; so do we, by the rule of 1.6. `preset` is not used; the track stands in the version.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from got_train.data.record import Record
from got_train.errors import EvaluationError
from got_train.strict_files import strict_json

from . import omnidocbench
from .omnidocbench import official, runner, truth
from .omnidocbench.summary import by_page_attribute, summary

if TYPE_CHECKING:
    from got_train.evaluation.predictions import DataFile, Prediction

VERSIONS = ("1.1-digital", "1.1-real", "1.1-clean")  # release and track; the last is the default
TAKES = ("cdm_seconds",)
RULE = "1.6"
_COLUMNS = {"clean": "clean_rel", "digital": "digital_rel", "real": "real_rel"}
_FOLDERS = {"clean": "clean", "digital": "digital_degraded", "real": "real_degraded"}
_NEEDED = ("page_id", "gt_rel", *_COLUMNS.values())


def track_of(version: str) -> str:
    return (version or VERSIONS[-1]).rpartition("-")[2]


def open_records(
    path: str, image_root: str | None = None, version: str = "", **_: Any
) -> tuple[list[Record], list[dict[str, Any]]]:
    """The pages of a track."""
    track = track_of(version)
    records, notes = [], []
    for row, page in _pages(path):
        image = _image(Path(image_root or path), track, row[_COLUMNS[track]])
        records.append(
            Record((image,), "format", truth.reading_text(page), location=f"{path}: {row['page_id']}")
        )
        groups = {name: row[name] for name in ("category", "subcategory") if row.get(name)}
        notes.append({"id": row["page_id"], "groups": groups})
    return records, notes


def _image(root: Path, track: str, name: str) -> str:
    """A picture of a track, whose folder is called after the track or its column."""
    folders = [
        root / "images" / _FOLDERS[track],
        root / "images" / track,
        root / _FOLDERS[track],
        root / track,
    ]
    folder = next((folder for folder in folders if folder.is_dir()), folders[0])
    return str(folder / name)


def _pages(path: str) -> list[tuple[dict[str, str], dict[str, Any]]]:
    root = Path(path)
    manifests = sorted({*root.glob("*manifest*.csv"), *root.glob("manifests/*manifest*.csv")})
    if len(manifests) != 1:
        names = ", ".join(file.name for file in manifests) or "none"
        raise EvaluationError(f"{path}: manifests {names}; expected one *manifest*.csv, with gt/ and images/")
    with open(manifests[0], newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    if missing := [name for name in _NEEDED if not rows or name not in rows[0]]:
        raise EvaluationError(f"{manifests[0]}: no column {missing[0]}; expected {', '.join(_NEEDED)}")
    return [(row, _page(root / "gt" / row["gt_rel"], row)) for row in rows]


def _page(file: Path, row: dict[str, str]) -> dict[str, Any]:
    """A page of the truth, with its row's attributes."""
    try:
        page = strict_json(file.read_text(encoding="utf-8"), allow_nan=True)
        blocks = page["layout_dets"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EvaluationError(
            f"{file}: no page with layout_dets ({error!r}); expected one of OmniDocBench's"
        ) from error
    attributes = {name: row[name] for name in ("category", "subcategory") if row.get(name)}
    extra = page.get("extra") if isinstance(page.get("extra"), dict) else {}
    info = {**page.get("page_info", {}), "image_path": f"{row['page_id']}.png", "page_attribute": attributes}
    return {"layout_dets": blocks, "page_info": info, "extra": extra}


def read_answers(path: str, file: DataFile) -> list[str | None]:
    """The answers of a folder, by page id or by the image's name; None for pages without one."""
    folder = Path(path)
    if not folder.is_dir():
        raise EvaluationError(
            f"{path}: no folder; expected one with a file CATEGORY/SUBCATEGORY/PAGE.md a page"
        )
    texts = {
        file_of_page.relative_to(folder).with_suffix("").as_posix(): file_of_page
        for file_of_page in sorted(folder.rglob("*.md"))
    }
    by_name = {Path(name).name: file_of_page for name, file_of_page in texts.items()}
    answers: list[str | None] = []
    for index, note in enumerate(file.notes):
        image = Path(str(file.records[index].images[0])).stem
        names = (note["id"], Path(note["id"]).name, image)
        file_of_page = next(
            (texts.get(name) or by_name.get(name) for name in names if name in texts or name in by_name), None
        )
        answers.append(None if file_of_page is None else file_of_page.read_text(encoding="utf-8"))
    if not any(text is not None for text in answers):
        raise EvaluationError(
            f"{path}: no answer to any page; expected files such as {file.notes[0]['id']}.md"
        )
    return answers


def scores(
    file: DataFile, predictions: Sequence[Prediction], output_dir: Path | None, cdm_seconds: float = 0
) -> dict[str, Any]:
    """OmniDocBench's scores of the pages, with their means by category."""
    rule = omnidocbench.rule_of(RULE)
    answers = {
        prediction.id: None if prediction.failed is not None else prediction.prediction
        for prediction in predictions
    }
    pages = {row["page_id"]: page for row, page in _pages(file.path) if row["page_id"] in answers}
    values = runner.score_pages(pages, answers, rule, output_dir)
    runner.add_cdm(values, cdm_seconds)
    if output_dir is not None:
        official.export(answers, output_dir / "puredocbench")
    return {
        "summary": {"track": track_of(str(file.source.get("version") or "")), **summary(values, rule)},
        "groups": by_page_attribute(pages, values),
        "limits": {
            name: page_values["limits"] for name, page_values in values.items() if page_values["limits"]
        },
        "note": f"by the rule of OmniDocBench {RULE}; claims need the authors' evaluator",
    }
