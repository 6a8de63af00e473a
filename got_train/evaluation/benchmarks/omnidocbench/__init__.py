"""OmniDocBench: pages of blocks in their order, scored by the rules of its versions 1.0, 1.5 and 1.6.

`markdown` cuts an answer into blocks, `matching` pairs them with the truth, `scoring` scores a page,
`summary` averages over pages, `official` exports answers for the official tool and reads its result files.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from got_train.data.record import Record
from got_train.errors import EvaluationError
from got_train.formats.tables import find_tables, with_html_tables

from . import latexml, official, runner
from .rules import LATEST, RULES, rule_of
from .scoring import score_page
from .summary import means, summary
from .truth import FORMULA, TABLE, Page, contents, read_pages, reading_text, stem

if TYPE_CHECKING:
    from got_train.evaluation.predictions import DataFile, Prediction

__all__ = ["LATEST", "RULES", "means", "official", "rule_of", "score_page", "summary"]

FILE = "OmniDocBench.json"  # in the published folder
FOLDER = "omnidocbench"  # of the exported answers
VERSIONS = tuple(RULES)
TAKES = ("cdm_seconds",)  # further arguments of `scores`


def open_records(path: str, image_root: str | None = None, **_: Any) -> tuple[list[Record], list[dict]]:
    """The pages; pictures lie in `images` beside the file, as published, or in image_root."""
    path = data_file(path)
    beside = Path(path).parent / "images"
    root = image_root or str(beside if beside.is_dir() else Path(path).parent)
    records, notes = [], []
    for index, page in enumerate(read_pages(path)):
        name = page["page_info"]["image_path"]
        image = os.path.join(root, name)
        records.append(Record((image,), "format", reading_text(page), location=f"{path}[{index}]"))
        attributes = page["page_info"].get("page_attribute") or {}
        groups = {key: str(value) for key, value in attributes.items() if isinstance(value, str)}
        notes.append({"id": stem(page), "groups": groups})
    return records, notes


def data_file(path: str) -> str:
    """The file of pages, which may be given by its folder."""
    if not os.path.isdir(path):
        return path
    if not (Path(path) / FILE).is_file():
        raise EvaluationError(f"{path}: no {FILE} in it; expected the published folder or that file")
    return str(Path(path) / FILE)


def read_answers(path: str, file: DataFile) -> list[str | None]:
    """The answers of a folder under any of the three official names; None for pages without one."""
    return official.read_answers(path, [note["id"] for note in file.notes], _images(file))


def _images(file: DataFile) -> list[str]:
    return [os.path.basename(str(file.records[index].images[0])) for index in range(len(file.records))]


def blocks(page: Mapping[str, Any], where: str) -> Iterator[dict[str, Any]]:
    """Of a page whose blocks have their answers beside them (`pred`), each as a row of predictions."""
    for block in page.get("layout_dets", ()):
        if "pred" in block:
            kind = {TABLE: "table", FORMULA: "formula"}.get(block["category_type"], "text")
            yield {
                "reference": contents(block),
                "prediction": block["pred"],
                "task": kind,
                "images": [page["page_info"]["image_path"]],
                "groups": {"block": block["category_type"]},
                "id": f"{page['page_info']['image_path']}#{block.get('anno_id')}",
                "where": where,
            }


def scores(
    file: DataFile, predictions: Sequence[Prediction], output_dir: Path | None, cdm_seconds: float = 0
) -> dict[str, Any]:
    """What the pages score by the rule of the version that the data were opened with.

    `summary` follows the rule. Beside it stand `missing_as_empty`, where the rule leaves pages without an
    answer out, and `html_tables`, where answers hold LaTeX tables: the same answers with these as HTML.
    """
    rule = rule_of(str(file.source.get("version") or LATEST))
    answers = {
        prediction.id: None if prediction.failed is not None else prediction.prediction
        for prediction in predictions
    }
    pages = {stem(page): page for page in read_pages(data_file(file.path)) if stem(page) in answers}
    if output_dir is not None:
        images = {name: page["page_info"]["image_path"] for name, page in pages.items()}
        official.export(answers, output_dir / FOLDER, images)
    values = runner.score_pages(pages, answers, rule, output_dir)
    runner.add_cdm(values, cdm_seconds)
    missing = [name for name in pages if answers[name] is None]
    present = {name: values[name] for name in values if answers[name] is not None}
    counted = values if rule.empty_pages else present
    result: dict[str, Any] = {
        "version": rule.version,
        "summary": summary(counted, rule) | {"missing_pages": len(missing)},
        **_tables(pages, counted),
    }
    if missing and not rule.empty_pages:
        result["missing_as_empty"] = summary(values, rule)
    html = {
        name: with_html_tables(text)
        for name, text in answers.items()
        if text and any(table.form == "latex" for table in find_tables(text))
    }
    if html:
        again = runner.score_pages({name: pages[name] for name in html}, html, rule, output_dir)
        for name in again:
            again[name]["cdm"] = values[name].get("cdm")
        result["html_tables"] = summary({**counted, **again}, rule)
    limits = {name: page_values["limits"] for name, page_values in values.items() if page_values["limits"]}
    result["limits"] = limits
    result["pages"] = {name: _short(page_values) for name, page_values in values.items()}
    return result | {"note": _note(rule, html, limits)}


def _short(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in ("formulas", "attributes", "limits")}


def _tables(pages: Mapping[str, Page], values: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The scores by the attributes of pages, such as subset, language and layout, and of blocks."""
    from .summary import by_block_attribute, by_page_attribute

    return {"groups": by_page_attribute(pages, values), "attributes": by_block_attribute(values)}


def _note(rule: Any, html: Mapping[str, str], limits: Mapping[str, Any]) -> str:
    remarks = [
        f"rule of version {rule.version}, as read in the official code at commit {rule.commit}",
        f"{len(limits):,} pages hit a time limit",
    ]
    if html:
        program = "LaTeXML" if latexml.is_installed() else "our converter, for LaTeXML is not installed"
        way = f"made HTML by {program}" if rule.latex_tables else "which this version gives nothing"
        remarks.append(
            f"{len(html):,} answers hold LaTeX tables, {way}; html_tables has them as HTML of ours"
        )
    remarks.append(f"the official tool takes the folder {FOLDER}")
    return "; ".join(remarks)
