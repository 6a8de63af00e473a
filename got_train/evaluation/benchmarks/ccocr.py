"""CC-OCR V2, its parsing track: tables, documents, formulas, molecules, information boards.

The published tree has parsing/<sub-task>/{question,answer,images}/<scenario>/<id>; an answer to score is
<sub-task>/<scenario>/<id>.txt or .md. Each sub-task has its own score between 0 and 1; the track's is their
unweighted mean. LaTeX tables, which the rule does not know, are scored as HTML beside it.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lxml import etree
from lxml.html import HTMLParser, fromstring
from rapidfuzz.distance import Levenshtein

from got_train.data.record import Record
from got_train.errors import AnswerError, EvaluationError
from got_train.evaluation.metrics import teds
from got_train.formats.tables import find_tables, with_html_tables
from got_train.images import SUFFIXES

from .files import read_folder

if TYPE_CHECKING:
    from got_train.evaluation.predictions import DataFile, Prediction

VERSIONS = ("2",)
TAKES = ()
SUB_TASKS = (
    *("complex_table_parsing", "formula_parsing", "general_documents_parsing", "info_board_parsing"),
    "molecular_parsing",
)
_TABLE_WEIGHT = 0.9  # of an information board's tables against its text
_EPSILON = 1e-9
_PREAMBLE = (
    *(r"\\documentclass\{.*?\}", r"\\usepackage\[.*?\]\{.*?\}", r"\\usepackage\{.*?\}", r"\\geometry\{.*?\}"),
    *(r"\\begin\{document\}", r"\\end\{document\}", r"\\noindent"),
)
_NOTES = "\\n\\s*(?:#{1,6}\\s*(?:\U0001f4dd\\s*)?Notes[^\\n]*|\U0001f4cc\\s*Notes[^\\n]*"
_LATEX_NOTES = re.compile(_NOTES + r")(?:\n.*)*\Z", re.IGNORECASE | re.DOTALL)
_HTML_NOTES = re.compile(
    _NOTES + "|\u2705\\s*\\*{0,2}Note\\*{0,2}\\s*:|>{0,1}\\s*\\*{0,2}Note\\*{0,2}\\s*:)(?:\\n.*)*\\Z",
    re.IGNORECASE | re.DOTALL,
)
_LEAD = re.compile(
    r"^(?:Here (?:is|\u2019s|'s|are) (?:the )?(?:LaTeX|latex) [^\n]+(?:\n|$)|Note that [^\n]+(?:\n|$))+",
    re.IGNORECASE | re.DOTALL,
)
_HTML_START = re.compile(
    r"<\s*(?:!DOCTYPE\b|html\b|body\b|table\b|div\b|h[1-6]\b|p\b|main\b|section\b)", re.IGNORECASE
)
_WIDE = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}


def open_records(path: str, image_root: str | None = None, **_: Any) -> tuple[list[Record], list[dict]]:
    """The samples of the track that have an answer and an image, to be read with GOT's format prompt."""
    root = Path(path) / "parsing" if (Path(path) / "parsing").is_dir() else Path(path)
    records, notes = [], []
    for sub_task in SUB_TASKS:
        for answer in sorted((root / sub_task / "answer").glob("*/*.txt")):
            scenario, name = answer.parent.name, answer.stem
            images = _images(root / sub_task / "images" / scenario, name)
            if not images:
                raise EvaluationError(
                    f"{answer}: no image {sub_task}/images/{scenario}/{name}.*; expected one"
                )
            task = "format" if len(images) == 1 else "multi_page"
            text = answer.read_text(encoding="utf-8", errors="replace")
            records.append(Record(tuple(images), task, text, location=str(answer)))
            groups = {"sub-task": sub_task, "scenario": scenario}
            notes.append(
                {"id": f"{sub_task}/{scenario}/{name}", "groups": groups, "benchmark": "ccocr", "task": task}
            )
    if not records:
        raise EvaluationError(
            f"{path}: no sample of the parsing track; expected parsing/{SUB_TASKS[0]}/answer/SCENARIO/ID.txt"
        )
    return records, notes


def _images(folder: Path, name: str) -> list[str]:
    """A file of that name, or the pages in a folder of that name."""
    pages = folder / name
    files = pages.iterdir() if pages.is_dir() else folder.glob("*") if folder.is_dir() else ()
    chosen = [
        file for file in files if file.suffix.lower() in SUFFIXES and (pages.is_dir() or file.stem == name)
    ]
    return sorted(map(str, chosen), key=_natural)


def _natural(path: str) -> list[Any]:
    parts = re.split(r"(\d+)", os.path.basename(path))
    return [int(part) if part.isdigit() else part.lower() for part in parts]


def read_answers(path: str, file: DataFile) -> list[str | None]:
    """The answers of a folder in the order of the samples; None for samples without one."""
    return read_folder(path, [note["id"] for note in file.notes])


def scores(file: DataFile, predictions: Sequence[Prediction], output_dir: Path | None) -> dict[str, Any]:
    """Each sub-task's mean and the mean of these, of the answers as they are and with tables as HTML."""
    rows = [
        {
            "id": prediction.id,
            "sub_task": prediction.groups["sub-task"],
            "score": score(prediction.prediction, prediction.reference, prediction.groups["scenario"]),
        }
        for prediction in predictions
    ]
    result = {
        "summary": _means(rows),
        "samples": rows,
        "note": "parsing track alone; molecules by characters",
    }
    if any(
        table.form == "latex" for prediction in predictions for table in find_tables(prediction.prediction)
    ):
        again = [
            {
                **row,
                "score": score(
                    with_html_tables(prediction.prediction),
                    prediction.reference,
                    prediction.groups["scenario"],
                ),
            }
            for row, prediction in zip(rows, predictions, strict=True)
        ]
        result["html_tables"] = {"summary": _means(again)}
        result["summary"]["parsing_with_html_tables"] = result["html_tables"]["summary"]["parsing"]
    return result


def _means(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    by_task: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        by_task[row["sub_task"]].append(row["score"])
    means = {name: sum(values) / len(values) for name, values in by_task.items()}
    return {"samples": len(rows), "parsing": sum(means.values()) / len(means) if means else None, **means}


def score(prediction: str, reference: str, scenario: str) -> float:
    """What an answer is worth by the rule of its scenario."""
    name = scenario.lower()
    rule = next((rule for rule in _RULES if rule in name), "doc")
    return _RULES[rule](prediction, reference)


def _similarity(prediction: str, reference: str) -> float:
    return Levenshtein.normalized_similarity(prediction, reference)


def _formula(prediction: str, reference: str) -> float:
    plain = prediction.strip().replace("\n", " ").replace("```latex", "").replace("```", "")
    return _similarity(plain.replace("\t", " ").replace(" ", ""), reference.replace(" ", ""))


def _molecule(prediction: str, reference: str) -> float:
    plain = prediction.strip()
    for dropped in ("\n", " ", "<smiles>", "</smiles>"):
        plain = plain.replace(dropped, "")
    return _similarity(plain, reference.replace(" ", ""))


def _document(prediction: str, reference: str) -> float:
    for pattern in _PREAMBLE:
        prediction = re.sub(pattern, "", prediction)
    text = _LATEX_NOTES.sub("", _fenced(prediction, "latex").strip())
    starts = [re.search(pattern, text, re.MULTILINE) for pattern in (r"^\\documentclass\b", r"^\\begin\s*\{")]
    starts_found = [match.start() for match in starts if match]
    text = (text[min(starts_found) :] if starts_found else _LEAD.sub("", text)).strip()
    return _similarity(*(side.replace(" ", "").replace("\n", "") for side in (text, reference)))


def _fenced(text: str, language: str) -> str:
    fence = f"```{language}"
    return (text.split(fence, 1)[1].split("```", 1)[0] if fence in text else text).strip()


def _html_of(prediction: str) -> str:
    text = _HTML_NOTES.sub("", _fenced(prediction, "html").strip())
    match = _HTML_START.search(text)
    return (text[match.start() :] if match else text).lstrip()


def _tables_of(text: str) -> str:
    """All tables of a text, without attributes of the table and white space in cells."""
    text += "" if "</table>" in text else "</table>"
    tables = []
    for table in re.findall(r"<table.*?>.*?</table>", text, re.DOTALL):
        table = re.sub(r">\s+<", "><", re.sub(r"<table.*?>", "<table>", table))
        table = re.sub(
            r">(.*?)<",
            lambda match: f">{match[1]}<".replace("\n", "").replace(" ", ""),
            table,
            flags=re.DOTALL,
        )
        tables.append(table.replace("\n", "").strip())
    return "".join(tables)


def _table(prediction: str, reference: str) -> float:
    sides = (_tables_of(_html_of(prediction)), _tables_of(reference))
    return _teds(*(side.translate(_WIDE) for side in sides))


def _teds(prediction: str, reference: str) -> float:
    """PubTabNet's TEDS of the first tables; 0 where it cannot be had."""
    if not prediction or not reference:
        return 0.0
    try:
        return teds.teds(prediction, reference, normalise=False)
    except AnswerError:
        return 0.0


def _board(prediction: str, reference: str) -> float:
    read = _html_of(prediction)
    expected, predicted = _characters(reference), _characters(read)
    text = _f1(expected, predicted) if expected or predicted else 1.0
    return (1 - _TABLE_WEIGHT) * text + _TABLE_WEIGHT * _board_tables(read, reference)


def _characters(mixed: str) -> list[str]:
    outside = re.sub(r"<table\b[^>]*>.*?</table>", "", mixed, flags=re.IGNORECASE | re.DOTALL)
    plain = _parsed(f"<div>{outside}</div>").text_content().strip() if outside.strip() else ""
    plain = re.sub("[/\uff0f|\uff5c]+", " ", plain.translate(_WIDE)).replace("###", "").replace("***", "")
    return list(re.sub(r"\s+", "", plain))


def _f1(expected: Sequence[str], predicted: Sequence[str]) -> float:
    right = (Counter(expected) & Counter(predicted)).total()
    recall, precision = right / (len(expected) + _EPSILON), right / (len(predicted) + _EPSILON)
    return 2 * recall * precision / (recall + precision + _EPSILON)


def _board_tables(prediction: str, reference: str) -> float:
    sides = [_tables_of(side).strip().translate(_WIDE) for side in (prediction, reference)]
    if not any(sides):
        return 1.0
    predicted, expected = (_parsed(f"<html><body>{side}</body></html>").xpath("body/table") for side in sides)
    if not all(sides) or not predicted or not expected:
        return 0.0
    texts = [
        [etree.tostring(table, encoding="unicode", method="html") for table in side]
        for side in (predicted, expected)
    ]
    values = [_teds(*pair) for pair in zip(*texts, strict=False)]
    return sum(values) / max(map(len, texts))


def _parsed(source: str) -> Any:
    return fromstring(source, parser=HTMLParser(remove_comments=True))


_RULES = {"formula": _formula, "molecular": _molecule, "custom": _board, "table": _table, "doc": _document}
