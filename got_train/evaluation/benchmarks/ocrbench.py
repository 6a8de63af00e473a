"""OCRBench v2, its reading half: text, pages, formulas, tables and documents; questions are not asked.

The published list has rows with type, image_path, question and answers; an answer file is the same list with
`predict`. Scores are means by type and by capability and language; the whole benchmark's score is not there.
"""

from __future__ import annotations

import os
import re
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
from rapidfuzz.distance import Levenshtein

from got_train.data.record import Record
from got_train.errors import AnswerError, EvaluationError
from got_train.evaluation.metrics import teds, text

from .files import read_rows

if TYPE_CHECKING:
    from got_train.evaluation.predictions import DataFile, Prediction

VERSIONS = ("2",)
TAKES = ()
FILE = "OCRBench_v2.json"
CAPABILITIES = {
    "text recognition en": ("text recognition en", "fine-grained text recognition en", "full-page OCR en"),
    "element parsing en": ("document parsing en", "table parsing en", "formula recognition en"),
    "text recognition cn": ("full-page OCR cn",),
    "element parsing cn": ("document parsing cn", "table parsing cn", "formula recognition cn"),
}
_TYPES = {kind for kinds in CAPABILITIES.values() for kind in kinds}
_PLAIN = ("text recognition en", "fine-grained text recognition en", "full-page OCR en", "full-page OCR cn")
_FENCE = "`adkmnorw"  # as published, these characters go at both ends
_SECONDS = 60.0  # for the trees of one document


def open_records(path: str, image_root: str | None = None, **_: Any) -> tuple[list[Record], list[dict]]:
    """The rows of the reading half; the others are counted as not asked."""
    file = os.path.join(path, FILE) if os.path.isdir(path) else path
    records, notes = [], []
    for index, row in enumerate(_rows(file)):
        image = os.path.join(image_root or os.path.dirname(file), row["image_path"])
        kind = row["type"]
        answers = row["answers"] if isinstance(row["answers"], list) else [row["answers"]]
        box = _box(row["question"]) if kind.startswith("fine-grained") else None
        region = {"box": box, "box_unit": "thousandth"} if box else {}
        task = "ocr" if kind in _PLAIN else "format"
        label = str(answers[0]) if answers else ""
        records.append(Record((image,), task, label, location=f"{file}[{index}]", **region))
        note = {
            "id": str(row.get("id", index)),
            "groups": {"type": kind},
            "benchmark": "ocrbench",
            "task": task,
        }
        if kind not in _TYPES:
            note |= {"not_asked": f"{kind} is not of the reading half"}
        elif kind.startswith("fine-grained") and not box:
            note |= {"not_asked": "no box in thousandths in the question"}
        notes.append(note)
    return records, notes


def _rows(file: str) -> list[dict[str, Any]]:
    return read_rows(file, ("type", "image_path", "question", "answers"), FILE)


def _box(question: str) -> tuple[int, ...] | None:
    numbers = [int(number) for number in re.findall(r"(?<![\w.])\d+(?![\w.])", question)]
    return tuple(numbers[:4]) if len(numbers) >= 4 and max(numbers[:4]) <= 1000 else None


def read_answers(path: str, file: DataFile) -> list[str | None]:
    """The answers of the list with `predict`, in the order of the rows; None for rows without one."""
    rows = read_rows(path, (), "a list of rows with id and predict")
    by_id = {str(row.get("id", index)): row.get("predict") for index, row in enumerate(rows)}
    answers = [by_id.get(note["id"]) for note in file.notes]
    if not any(isinstance(answer, str) for answer in answers):
        raise EvaluationError(f"{path}: no answer to any row; expected rows with id and predict")
    return [answer if isinstance(answer, str) else None for answer in answers]


def scores(file: DataFile, predictions: Sequence[Prediction], output_dir: Path | None) -> dict[str, Any]:
    """The means by type, and by capability over all its rows."""
    source = os.path.join(file.path, FILE) if os.path.isdir(file.path) else file.path
    rows = {str(row.get("id", index)): row for index, row in enumerate(_rows(source))}
    values: dict[str, list[float]] = defaultdict(list)
    for prediction in predictions:
        if prediction.not_asked is None and prediction.id is not None:
            values[rows[prediction.id]["type"]].append(score(rows[prediction.id], prediction.prediction))
    capabilities = {}
    for name, kinds in CAPABILITIES.items():
        type_scores = [value for kind in kinds for value in values.get(kind, ())]
        capabilities[name] = sum(type_scores) / len(type_scores) if type_scores else None
    return {
        "summary": {"rows": sum(map(len, values.values())), **capabilities},
        "types": {
            kind: {"rows": len(type_scores), "score": sum(type_scores) / len(type_scores)}
            for kind, type_scores in sorted(values.items())
        },
        "note": "the reading half alone: no detection, spotting, extraction, counting, charts or questions",
    }


def score(row: Mapping[str, Any], prediction: str) -> float:
    """What an answer is worth by the rule of its type."""
    answers = row["answers"] if isinstance(row["answers"], list) else [row["answers"]]
    return float(_RULES[row["type"].removesuffix(" en").removesuffix(" cn")](row, prediction, answers))


def _words(row: Mapping[str, Any], prediction: str, answers: Sequence[str]) -> float:
    """A short answer has to be in the text; a long one like it, by half at least."""
    sensitive = row.get("eval") == "case sensitive"
    best = 0.0
    for answer in map(str, answers):
        sides = [side if sensitive else side.lower() for side in (prediction, answer)]
        predicted, expected = (side.strip().replace("\n", " ") for side in sides)
        if len(expected.split()) < 5:
            best = max(best, float(expected in predicted))
        else:
            likeness = Levenshtein.normalized_similarity(predicted, expected)
            best = max(best, likeness if likeness >= 0.5 else 0.0)
    return best


def _page(row: Mapping[str, Any], prediction: str, answers: Sequence[str]) -> float:
    """The mean of BLEU, METEOR, F1 and 1 - edit distance."""
    if not prediction:
        return 0.0
    values = text.score(prediction, str(answers[0]))
    if values is None:
        return 0.0
    return (values["bleu"] + values["meteor"] + values["f1"] + 1 - values["edit_distance"]) / 4


def _formula(row: Mapping[str, Any], prediction: str, answers: Sequence[str]) -> float:
    """1 if the formula is in the answer, white space aside."""
    if row["type"].endswith(" cn"):
        prediction, *answers = (re.sub(r"\\text\{([^{}]*)\}", r"\1", side) for side in (prediction, *answers))
    predicted = prediction.strip().replace("\n", " ").replace(" ", "")
    return float(any(answer.strip().replace("\n", " ").replace(" ", "") in predicted for answer in answers))


def _table(row: Mapping[str, Any], prediction: str, answers: Sequence[str]) -> float:
    """PubTabNet's TEDS of tables in HTML, or in Markdown where the question asks for that."""
    question = row["question"].lower()
    if row["type"].endswith(" en") and "html" not in question:
        if "markdown" not in question:
            return 0.0
        return _teds(_markdown_html(prediction), _markdown_html(answers[0]))
    match = re.search("<body.*", prediction.replace("\n", "")) or re.search(
        "<table.*", prediction.replace("\n", "")
    )
    return _teds(_framed(match[0]), _framed(answers[0])) if match else 0.0


def _framed(table: str) -> str:
    table = table.replace("\n", "")
    if "<table" not in table:
        table = f"<table>{table}"
    return table if "</table>" in table else f"{table}</table>"


def _markdown_html(markdown: str) -> str:
    lines = markdown.strip(_FENCE).strip().split("\n")
    rows = [line.strip().split("|")[1:-1] for line in [lines[0], *lines[2:]]]
    cells = ("".join(f"<td>{cell.strip() if cell.strip(' ') else ' '}</td>" for cell in row) for row in rows)
    return f"<table>{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"


def _teds(prediction: str, reference: str) -> float:
    try:
        return teds.teds(prediction, reference, normalise=False)
    except AnswerError:
        return 0.0


def _document(row: Mapping[str, Any], prediction: str, answers: Sequence[str]) -> float:
    """1 - the edit distance of the trees of headings and lines over their nodes; words do not count."""
    first, second = outline(prediction), outline(answers[0])
    blank = [[not label.split() for label in side.texts] for side in (first, second)]
    costs = numpy.logical_or.outer(*map(numpy.array, blank)).astype(float)
    try:
        distance = teds.tree_distance(first, second, costs, time.monotonic() + _SECONDS)
    except AnswerError:
        return 0.0
    return 1 - distance / max(len(first.texts), len(second.texts))


class _Node:
    """A line of a document with the lines below it."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.children: list[_Node] = []

    def find(self, label: str) -> _Node | None:
        if self.label == label:
            return self
        return next(filter(None, (child.find(label) for child in self.children)), None)


def outline(source: str) -> teds.Tree:
    """A document as a tree: headings below the root, lines below their heading, or below the title."""
    root = _Node("ROOT")
    root.children.append(_Node("TITLE"))
    heading = ""
    for line in map(_cleaned, source.split("\n")):
        if line.startswith("#"):
            heading = line.replace("#", "")
            root.children.append(_Node(heading))
        else:
            parent = root.find(heading or "TITLE") or root
            parent.children.append(_Node(line))
    nodes: list[tuple[str, int]] = []
    _postorder(root, nodes)
    labels, leftmost = zip(*nodes, strict=True)
    return teds.Tree(labels, ((0, 0),) * len(nodes), labels, leftmost, len(nodes))


def _postorder(node: _Node, nodes: list[tuple[str, int]]) -> int:
    leaves = [_postorder(child, nodes) for child in node.children]
    leftmost = leaves[0] if leaves else len(nodes)
    nodes.append((node.label, leftmost))
    return leftmost


def _cleaned(line: str) -> str:
    line = re.sub(r"<bos>|<eos>|<pad>|<unk>", "", line)
    for pattern, put in (
        *((r"\s##(\S)", r"\1"), (r"\\\s", r"\\"), (r"\s\*\s\*\s", "**"), (r"{\s", "{"), (r"\s}", "}")),
        *((r"\s}", "}"), (r"\\begin\s", r"\\begin"), (r"\\end\s", r"\\end")),
    ):
        line = re.sub(pattern, put, line)
    return (
        re.sub(r"\\end{table}", r"\\end{table} \n\n", line)
        .replace("\n", " ")
        .replace("*", " ")
        .replace("_", " ")
    )


_RULES: dict[str, Callable[[Mapping[str, Any], str, Sequence[str]], float]] = {
    "text recognition": _words,
    "fine-grained text recognition": _page,
    "full-page OCR": _page,
    "formula recognition": _formula,
    "table parsing": _table,
    "document parsing": _document,
}
