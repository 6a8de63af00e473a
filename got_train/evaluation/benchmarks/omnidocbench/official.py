"""What goes to OmniDocBench's official tool and what comes back: names of answers, export, result files.

The export has one file <image stem>.md a page, with tables as HTML, which every version of the tool reads.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rapidfuzz.distance import Levenshtein

from got_train.errors import EvaluationError
from got_train.evaluation.provenance import METRICS, read_json
from got_train.formats.tables import with_html_tables
from got_train.strict_files import strict_json

SAME = 1e-4  # below this two values of a page are the same
_EDITS = {"text_block": "text_edit", "display_formula": "formula_edit", "reading_order": "order_edit"}


def names_of(stem: str, image: str) -> tuple[str, ...]:
    """The files that the official tool takes as the answer to a page, in its order."""
    return f"{stem}.md", f"{stem.replace('.pdf', '')}.mmd", f"{stem.replace('.pdf', '')}.md", f"{image}.md"


def read_answers(path: str, stems: Sequence[str], images: Sequence[str]) -> list[str | None]:
    """The answers of a folder in the order of the pages; None for a page without one."""
    folder = Path(path)
    if not folder.is_dir():
        raise EvaluationError(f"{path}: no folder; expected one with a file {stems[0]}.md for each page")
    answers = []
    for stem, image in zip(stems, images, strict=True):
        files = (folder / name for name in names_of(os.path.basename(stem), image))
        file = next((file for file in files if file.is_file()), None)
        answers.append(None if file is None else _text(file))
    if not any(answer is not None for answer in answers):
        raise EvaluationError(f"{path}: no answer to any page; expected files such as {stems[0]}.md")
    return answers


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise EvaluationError(f"{file}: not UTF-8 ({error}); expected Markdown in UTF-8") from error


def export(
    answers: Mapping[str | None, str | None], folder: Path, images: Mapping[str, str] | None = None
) -> None:
    """A file for each page that has an answer, with tables in HTML, under a name that the tool looks for.

    The tool takes four characters off an image's name, which suits .jpg and .png; a .jpeg keeps its name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in answers.items():
        if text is not None:
            image = os.path.basename((images or {}).get(str(name), f"{name}.jpg"))
            stem = image[:-4] if image[-4:-3] == "." else image
            (folder / f"{stem}.md").write_text(with_html_tables(text), encoding="utf-8", newline="\n")


def page_values(folder: str) -> dict[str, dict[str, Any]]:
    """The values of each page from the official tool's result files (*_result.json) of one run."""
    files = sorted(Path(folder).glob("*_result.json")) if os.path.isdir(folder) else []
    pages: dict[str, dict[str, Any]] = defaultdict(dict)
    for file in files:
        kind = next((kind for kind in (*_EDITS, "table") if file.name.endswith(f"_{kind}_result.json")), None)
        if kind is None:
            continue
        for page, rows in _by_page(file).items():
            pages[page] |= _values(kind, rows)
    if not pages:
        raise EvaluationError(
            f"{folder}: no result files; expected the official tool's *_text_block_result.json"
        )
    return dict(pages)


def _by_page(file: Path) -> dict[str, list[dict[str, Any]]]:
    try:
        rows = strict_json(file.read_text(encoding="utf-8"), allow_nan=True)
        pages: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in rows:
            name = str(row["img_id"])
            image = name if name.lower().endswith((".jpg", ".png", ".jpeg")) else name.rpartition("_")[0]
            pages[os.path.splitext(image)[0]].append(row)
    except (ValueError, KeyError, TypeError) as error:
        raise EvaluationError(
            f"{file}: no rows with img_id ({error!r}); expected a result file of the official tool"
        ) from error
    return pages


def _values(kind: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if kind == "reading_order":
        return {"order_edit": rows[0]["edit"]}
    if kind == "table":
        scores = [row.get("metric", {}) for row in rows]
        return {
            name: [float(score[theirs]) for score in scores if theirs in score]
            for name, theirs in (("teds", "TEDS"), ("teds_s", "TEDS_structure_only"))
        }
    sides = [(row.get("norm_gt") or row["gt"], row.get("norm_pred") or row["pred"]) for row in rows]
    longest = sum(max(len(gt), len(pred)) for gt, pred in sides)
    edits = sum(Levenshtein.distance(gt, pred) for gt, pred in sides)
    return {_EDITS[kind]: edits / longest} if longest else {}


def compare(results: str, scores: str) -> str:
    """The official tool's result files beside a metrics.json of ours, page by page, as text."""
    official = page_values(results)
    file = Path(scores) / METRICS if os.path.isdir(scores) else Path(scores)
    benchmarks = read_json(file).get("benchmarks", {})
    name = next((name for name in benchmarks if name.startswith("omnidocbench")), None)
    if name is None:
        raise EvaluationError(
            f"{file}: no scores of OmniDocBench; expected metrics.json of such an evaluation"
        )
    ours = {os.path.basename(page): values for page, values in benchmarks[name]["pages"].items()}
    lines = [f"{name}: {len(official):,} pages of the official tool, {len(ours):,} of ours"]
    for label, missing in (
        ("official tool", ours.keys() - official.keys()),
        ("us", official.keys() - ours.keys()),
    ):
        lines += [f"no values of {label}: {page}" for page in sorted(missing)]
    both = sorted(official.keys() & ours.keys())
    for metric in ("text_edit", "formula_edit", "order_edit", "teds", "teds_s"):
        lines += _differences(metric, both, official, ours)
    return "\n".join(lines)


def _differences(
    metric: str,
    pages: Sequence[str],
    official: Mapping[str, Mapping[str, Any]],
    ours: Mapping[str, Mapping[str, Any]],
) -> list[str]:
    different, largest, compared = [], 0.0, 0
    for page in pages:
        sides = [_list(side[page].get(metric)) for side in (official, ours)]
        compared += max(map(len, sides))
        far = [abs(theirs - mine) for theirs, mine in zip(*sides, strict=False)]
        if len(sides[0]) != len(sides[1]) or max(far, default=0.0) > SAME:
            largest = max(largest, *far, 0.0)
            shown = (", ".join(f"{value:.4f}" for value in side) or "none" for side in sides)
            different.append("  {}: official {}, ours {}".format(page, *shown))
    return [f"{metric}: {len(different)} of {compared} values differ, by at most {largest:.4f}", *different]


def _list(value: Any) -> list[float]:
    return [] if value is None else sorted(value) if isinstance(value, list) else [value]
