"""Fox: 13 files of nine sub-tasks on dense pages in English and Chinese.

Each sub-task has a folder for its pictures. What GOT has no prompt for (translation, summary, caption,
questions, regions of several pages) is counted as not asked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from got_train import prompts
from got_train.data.record import Record, RecordError
from got_train.errors import EvaluationError

from .files import read_rows

VERSIONS = ("2024-05",)  # the date of the official code

if TYPE_CHECKING:
    from got_train.evaluation.predictions import DataFile

_COLORS = re.compile(r"\b(" + "|".join(prompts.COLORS) + r")\b", re.IGNORECASE)


@dataclass(frozen=True)
class SubTask:
    """A file of the benchmark."""

    name: str
    folder: str  # of its pictures
    region: str = "page"  # how the question names what is to be read: page, box, point or color
    asked: bool = True  # whether GOT has a prompt for it


_VARIANT = re.compile(r"((?:en|cn)_pdf_png)_.+")
_MANY = "pdfpng_encn_multi_8page"
SUB_TASKS = {
    "en_page_ocr": SubTask("page OCR", "en_pdf_png"),
    "cn_page_ocr": SubTask("page OCR", "cn_pdf_png"),
    "en_box_ocr": SubTask("region OCR", "en_pdf_png", "box"),
    "cn_box_ocr": SubTask("region OCR", "cn_pdf_png", "box"),
    "en_line_ocr": SubTask("line OCR", "en_pdf_png", "point"),
    "cn_line_ocr": SubTask("line OCR", "cn_pdf_png", "point"),
    "en_onbox_ocr": SubTask("color OCR", "en_pdf_png_onbox", "color"),
    "cn_onbox_ocr": SubTask("color OCR", "cn_pdf_png_onbox", "color"),
    "en_box_translation": SubTask("region translation", "en_pdf_png", "box", asked=False),
    "en_box_summary": SubTask("region summary", "en_pdf_png", "box", asked=False),
    "en_page_indoc_caption": SubTask("figure caption", "en_pdf_png_render_laioncoco", "box", asked=False),
    "encn-multi-8page-box-ocr": SubTask("multi-page region OCR", _MANY, "box", asked=False),
    "encn-multi-8page-cross-vqa": SubTask("cross-page questions", _MANY, asked=False),
}


def open_records(
    path: str, image_root: str | None = None, **_: Any
) -> tuple[list[Record], list[dict[str, Any]]]:
    """The records of one of the files, or of all that a folder holds."""
    files = [Path(path)] if Path(path).is_file() else [Path(path) / f"{name}.json" for name in SUB_TASKS]
    files = [file for file in files if file.is_file()]
    if not files or any(file.stem not in SUB_TASKS for file in files):
        raise EvaluationError(
            f"{path}: none of Fox's files; {', '.join(f'{name}.json' for name in SUB_TASKS)}"
        )
    records, notes = [], []
    for file in files:
        for index, row in enumerate(read_rows(file, (), "one of Fox's files")):
            record, note = _record(row, file, index, image_root)
            records.append(record)
            notes.append(note)
    return records, notes


def read_answers(path: str, file: DataFile) -> list[str | None]:
    """Refused: Fox's result files hold their labels and need no data beside them."""
    raise EvaluationError(f"{path}: result files of Fox hold their labels; give --predictions without --data")


def _record(
    row: dict[str, Any], file: Path, index: int, image_root: str | None
) -> tuple[Record, dict[str, Any]]:
    sub, location = SUB_TASKS[file.stem], f"{file}[{index}]"
    try:
        question, label = (turn["value"] for turn in row["conversations"])
        images = [row["image"]] if isinstance(row["image"], str) else list(row["image"])
    except (KeyError, TypeError, ValueError) as error:
        raise RecordError(f"{location}: no image with a question and an answer: {error!r}") from error
    root = Path(image_root or file.parent)
    paths = tuple(str(_picture(root, sub.folder, image)) for image in images)
    page = Path(paths[0])  # the same with a box drawn on it, or a figure set into it, is in another folder
    document = page.parent.with_name(_VARIANT.sub(r"\1", page.parent.name)) / page.stem
    note: dict[str, Any] = {"document": str(document), "groups": {"sub-task": sub.name, "file": file.stem}}
    if not sub.asked:
        note |= {"not_asked": f"GOT has no prompt for Fox's {sub.name}", "task": sub.name}
        return Record(paths, "ocr" if len(paths) == 1 else "multi_page", label, location=location), note
    return Record(paths, "ocr", label, **_region(sub.region, question, location), location=location), note


def _picture(root: Path, folder: str, image: str) -> Path:
    """Where a picture is: in its sub-task's folder, or that of the other language, or with the file.

    Fox's README pairs the lines of one language with the pictures of the other.
    """
    other_language = {"en": "cn", "cn": "en"}.get(folder[:2], folder[:2]) + folder[2:]
    paths = [root / folder / image, root / other_language / image, root / image]
    if not (root / folder).is_dir():  # whoever sorted the pictures otherwise says so
        paths = paths[1:] + paths[:1]
        return next((path for path in paths if path.is_file()), root / image)
    return next((path for path in paths if path.is_file()), paths[0])


def _region(region: str, question: str, location: str) -> dict[str, Any]:
    """The box or point in thousandths, or the color, that a question names in whatever words."""
    words = question.replace("<image>", "").strip()
    if region == "page":
        return {}
    if region == "color":
        color = _COLORS.search(words)
        if color is None:
            raise RecordError(
                f"{location}: question {words[:60]!r}; expected one that names {', '.join(prompts.COLORS)}"
            )
        return {"color": color[1].lower()}
    numbers = [int(number) for number in re.findall(r"(?<![\w.])\d+(?![\w.])", words)]
    if len(numbers) not in (2, 4) or max(numbers) > 1000:
        raise RecordError(f"{location}: question {words[:60]!r}; one with a box or point in thousandths")
    return {"box": tuple(numbers), "box_unit": "thousandth"}
