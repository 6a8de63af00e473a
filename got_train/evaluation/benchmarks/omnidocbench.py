"""OmniDocBench: pages of blocks in their order. Export for its official tool, and scores like its own.

Its matcher is not imitated to the letter: `scores` takes the best of all ways to pair blocks. Unlike it, it
counts pages without an answer as wrong, gives LaTeX tables their due and tells how much text was invented.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist

from got_train.data.record import Record
from got_train.errors import EvaluationError
from got_train.evaluation.metrics import formulas, omnidocbench_text, teds
from got_train.formats.tables import find_tables, with_html_tables

from . import read_folder

if TYPE_CHECKING:
    from got_train.evaluation.predictions import DataFile, Prediction

TABLE, FORMULA = "table", "equation_isolated"
TEXTS = ("title", "text_block", "code_txt", "code_txt_caption", "reference")
# these may be read or left out: a text that is like one of them is neither right nor invented
FREE = (
    *("figure_caption", "figure_footnote", "table_caption", "table_footnote", "equation_caption"),
    *(
        "code_algorithm",
        "code_algorithm_caption",
        "header",
        "footer",
        "page_footnote",
        "page_number",
        "abandon",
    ),
)
_FOLDER = "omnidocbench"  # of the exported answers
_REJECTED = 0.7  # distance from which two blocks do not belong together
_LIKE_FREE = 0.25
_MERGED = 4  # neighbouring blocks that may be one block on the other side
_A_BLOCK = 1e-3  # characters that a pair must gain for each of its blocks, and
_A_PAGE = 0.5  # for standing at the other end of the page: equal blocks are paired in their order
_SECONDS = 30  # for one page; a hundredth is usual
_DISPLAY = re.compile(r"\\\[(.+?)\\\]|\$\$(.+?)\$\$", re.DOTALL)
_WRAPPED = re.compile(r"\\(?:title|(?:sub)*section|text)\*?\{\s*([^{}]*?)\s*\}")


Pair = tuple[range, range]  # places of neighbouring blocks of the truth, and of the answer


@dataclass(frozen=True)
class Page:
    """What stands on a page, by kind, in reading order."""

    texts: list[str] = field(default_factory=list)
    formulas: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    free: list[str] = field(default_factory=list)


def open_records(path: str, image_root: str | None = None) -> tuple[list[Record], list[dict[str, Any]]]:
    """The pages; pictures lie in `images` beside the file, as published, or in image_root."""
    beside = Path(path).parent / "images"
    root = image_root or str(beside if beside.is_dir() else Path(path).parent)
    records, notes = [], []
    for place, page in enumerate(_pages(path)):
        name = page["page_info"]["image_path"]
        text = "\n\n".join(_contents(block) for _, block in _ordered(page))
        records.append(Record((os.path.join(root, name),), "format", text, location=f"{path}[{place}]"))
        attributes = page["page_info"].get("page_attribute", {})
        groups = {key: str(value) for key, value in attributes.items() if isinstance(value, str)}
        notes.append({"id": os.path.splitext(name)[0], "groups": groups})
    return records, notes


def read_answers(path: str, file: DataFile) -> list[str | None]:
    """The answers of a folder of <image>.md; None for the pages without one."""
    return read_folder(path, [note["id"] for note in file.notes], (".md",))


def blocks(page: Mapping[str, Any], location: str) -> Iterator[dict[str, Any]]:
    """Of a page whose blocks have their answers beside them (`pred`), each as a row of predictions."""
    for block in page.get("layout_dets", ()):
        if "pred" in block:
            kind = {TABLE: "table", FORMULA: "formula"}.get(block["category_type"], "text")
            yield {
                "reference": _contents(block),
                "prediction": block["pred"],
                "task": kind,
                "images": [page["page_info"]["image_path"]],
                "groups": {"block": block["category_type"]},
                "id": f"{page['page_info']['image_path']}#{block.get('anno_id')}",
                "location": location,
            }


def scores(file: DataFile, predictions: Sequence[Prediction], output_dir: Path | None) -> dict[str, Any]:
    """Means over pages; `official_rule` leaves out pages without an answer, as the official tool does."""
    answers = {each.id: None if each.failed is not None else each.prediction for each in predictions}
    if output_dir is not None:
        _export(answers, output_dir / _FOLDER)
    pages = [page for page in _pages(file.path) if _stem(page) in answers]
    found = {_stem(page): score_page(page, answers[_stem(page)]) for page in pages}
    present = [found[name] for name in found if answers[name] is not None]
    return {
        "summary": _means(list(found.values())) | {"missing_pages": len(found) - len(present)},
        "official_rule": _means(present),
        "pages": found,
        "note": "Blocks are paired in the best way, which is not the official one; pages without an answer "
        "count as wrong. Claims need the "
        f"official tool: give it the folder {_FOLDER}.",
    }


def score_page(page: Mapping[str, Any], answer: str | None) -> dict[str, Any]:
    """Scores of one page; None for what it has not. An answer that is not there has nothing right."""
    truth, read = truth_of(page), split_answer(answer or "")
    matched, left = _match(truth.texts, read.texts, omnidocbench_text.normalised)
    invented = [read.texts[place] for place in left if not _is_free(read.texts[place], truth.free)]
    edits = [_edits(_joined(truth.texts, ours), _joined(read.texts, theirs)) for ours, theirs in matched]
    pairs, _ = _match(truth.formulas, read.formulas, formulas.normalised, merged=1)
    return {
        "text_edit": _rate(edits),
        "order_edit": _order(matched) if truth.texts else None,
        "formula_edit": _rate([_formula_edits(truth, read, *pair) for pair in pairs]),
        "teds": [score["teds"] for score in _table_scores(truth.tables, read.tables)],
        "teds_s": [score["teds_s"] for score in _table_scores(truth.tables, read.tables)],
        "invented_characters": sum(map(len, invented)),
        "invented": invented[:5],
    }


def truth_of(page: Mapping[str, Any]) -> Page:
    """The blocks of a page by kind; those that continue one another are one."""
    found = Page()
    for category, block in _ordered(page):
        if category == TABLE:
            found.tables.append(with_html_tables(_contents(block)))
        elif category == FORMULA:
            found.formulas.append(_contents(block))
        elif category in TEXTS:
            found.texts.append(_contents(block))
    found.free.extend(_contents(block) for block in page["layout_dets"] if block["category_type"] in FREE)
    return found


def split_answer(answer: str) -> Page:
    """An answer in Markdown cut into tables, displayed formulas and text between blank lines."""
    rest, end, found = "", 0, Page()
    for table in find_tables(answer):
        rest += answer[end : table.start] + "\n\n"
        found.tables.append(table.html)
        end = table.end
    rest += answer[end:]
    found.formulas.extend(match[1] or match[2] for match in _DISPLAY.finditer(rest))
    rest = _WRAPPED.sub(r"\n\n\1\n\n", _DISPLAY.sub("\n\n", rest))
    gap = r"\n\s*\n" if re.search(r"\S\s*\n\s*\n\s*\S", rest) else r"\n"
    found.texts.extend(text.strip() for text in re.split(gap, rest) if omnidocbench_text.normalised(text))
    return found


def _match(
    truth: Sequence[str], read: Sequence[str], normalised: Callable[[str], str], merged: int = _MERGED
) -> tuple[list[Pair], list[int]]:
    """Blocks that belong together; neighbours may be one block on the other side.

    Every block of the truth is in one pair, with an empty range if nothing is like it. The places of the
    answer that nothing was found for come second.
    """
    options = _options(truth, read, normalised, merged)
    pairs = _best([(ours, theirs) for ours, theirs, _ in options], [gain for *_, gain in options])
    used = {place for ours, _ in pairs for place in ours}
    taken = {place for _, theirs in pairs for place in theirs}
    pairs += [(range(place, place + 1), range(0)) for place in range(len(truth)) if place not in used]
    return sorted(pairs, key=lambda pair: pair[0].start), [n for n in range(len(read)) if n not in taken]


def _options(
    truth: Sequence[str], read: Sequence[str], normalised: Callable[[str], str], merged: int
) -> list[tuple[range, range, float]]:
    """Runs of blocks that may be a pair, with what that gains: the characters that they have in common.

    Several blocks are like one of the other side only if they are more so than each of them alone.
    """
    ours, theirs = (
        {run: normalised(_joined(side, run)) for run in _runs(len(side), merged)} for side in (truth, read)
    )
    distances = _distances(ours, theirs)
    found = []
    for (run, other), distance in distances.items():
        parts = ((range(one, one + 1), range(two, two + 1)) for one in run for two in other)
        alone = len(run) == len(other) == 1
        if alone or all(distance < distances.get(part, 1.0) for part in parts):
            longer = max(len(ours[run]), len(theirs[other]))
            moved = (run.start + 0.5) / len(truth) - (other.start + 0.5) / len(read)
            price = _A_BLOCK * (len(run) + len(other)) + _A_PAGE * moved**2
            found.append((run, other, (1 - distance) * longer - price))
    return found


def _distances(ours: Mapping[range, str], theirs: Mapping[range, str]) -> dict[Pair, float]:
    """Between runs of which one is a single block; none where it is too far."""
    found = {}
    for single in (True, False):  # a block of the truth with any run, then several of the truth with a block
        rows = [run for run in ours if (len(run) == 1) == single]
        columns = [run for run in theirs if single or len(run) == 1]
        if rows and columns:
            texts = [ours[run] for run in rows], [theirs[run] for run in columns]
            costs = cdist(*texts, scorer=Levenshtein.normalized_distance, score_cutoff=_REJECTED)
            for row, column in zip(*(costs <= _REJECTED).nonzero(), strict=True):
                found[rows[row], columns[column]] = float(costs[row, column])
    return found


def _best(options: Sequence[Pair], gains: Sequence[float]) -> list[Pair]:
    """Those pairs that together gain most, each block in one at most."""
    if not options:
        return []
    import numpy
    from scipy.optimize import Bounds, LinearConstraint, milp  # here, for it takes long to load
    from scipy.sparse import csr_array

    held = [
        (side, place, number)
        for number, pair in enumerate(options)
        for side, run in enumerate(pair)
        for place in run
    ]
    blocks = {block: row for row, block in enumerate(dict.fromkeys((side, place) for side, place, _ in held))}
    rows = [blocks[side, place] for side, place, _ in held]
    shape = (len(blocks), len(options))
    once = csr_array((numpy.ones(len(held)), (rows, [number for *_, number in held])), shape=shape)
    found = milp(
        [-gain for gain in gains],
        integrality=1,
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(once, ub=1),
        options={"mip_rel_gap": 0, "time_limit": _SECONDS},
    )
    if found.x is None:
        raise EvaluationError(f"no way to pair {len(blocks)} blocks: {found.message}")
    return [pair for pair, chosen in zip(options, found.x, strict=True) if chosen > 0.5]


def _runs(length: int, longest: int) -> list[range]:
    return [
        range(start, start + size) for size in range(1, longest + 1) for start in range(length - size + 1)
    ]


def _joined(texts: Sequence[str], run: range) -> str:
    return " ".join(texts[place] for place in run)


def _edits(truth: str, read: str) -> tuple[int, int]:
    sides = omnidocbench_text.normalised(truth), omnidocbench_text.normalised(read)
    return Levenshtein.distance(*sides), max(map(len, sides))


def _formula_edits(truth: Page, read: Page, ours: range, theirs: range) -> tuple[int, int]:
    sides = [
        formulas.normalised(_joined(side.formulas, run)) for side, run in ((truth, ours), (read, theirs))
    ]
    return Levenshtein.distance(*sides), max(map(len, sides))


def _rate(edits: Sequence[tuple[int, int]]) -> float | None:
    longest = sum(length for _, length in edits)
    return sum(count for count, _ in edits) / longest if longest else None


def _order(matched: Sequence[Pair]) -> float:
    """How far the order of the answer's blocks is from that of the page's; 1 if nothing was found."""
    order = [theirs.start for _, theirs in matched if theirs]
    return Levenshtein.normalized_distance(order, sorted(order)) if order else 1.0


def _table_scores(truth: Sequence[str], read: Sequence[str]) -> list[Mapping[str, float | None]]:
    """Of each table of the page, with that of the answer which is most like it; 0 without one."""
    pairs, _ = _match(truth, read, teds.normalised, merged=1)
    nothing = {"teds": 0.0, "teds_s": 0.0}
    return [
        teds.score(read[theirs.start], truth[ours.start]) if theirs else nothing for ours, theirs in pairs
    ]


def _is_free(text: str, free: Sequence[str]) -> bool:
    near = omnidocbench_text.normalised(text)
    return any(
        Levenshtein.normalized_distance(near, omnidocbench_text.normalised(other)) < _LIKE_FREE
        for other in free
    )


def _means(pages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Over pages what a page has one of; over tables TEDS, as the official `table_TEDS`."""
    names = ("text_edit", "order_edit", "formula_edit")
    found: dict[str, Any] = {"pages": len(pages)}
    for name in names:
        values = [page[name] for page in pages if page[name] is not None]
        found[name] = math.fsum(values) / len(values) if values else None
    for name in ("teds", "teds_s"):
        values = [value for page in pages for value in page[name] if value is not None]
        found[name] = math.fsum(values) / len(values) if values else None
    return found | {"invented_characters": sum(page["invented_characters"] for page in pages)}


def _export(answers: Mapping[str | None, str | None], folder: Path) -> None:
    """A file <image>.md a page, with tables in HTML: the official tool gives LaTeX tables nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in answers.items():
        if text is not None:
            (folder / f"{name}.md").write_text(with_html_tables(text), encoding="utf-8", newline="\n")


def _ordered(page: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Categories and blocks in reading order; those cut in two by a column or a figure are joined."""
    kept = [block for block in page["layout_dets"] if not block.get("ignore") and block.get("order")]
    ordered = sorted(kept, key=lambda block: block["order"])
    follows = {
        relation["target_anno_id"]: relation["source_anno_id"]
        for relation in page.get("extra", {}).get("relation", ())
        if relation.get("relation_type") == "truncated"
    }
    joined: dict[Any, dict[str, Any]] = {}
    for block in ordered:
        first = block["anno_id"]
        while first in follows and follows[first] != block["anno_id"]:
            first = follows[first]
        if first in joined and first != block["anno_id"]:
            joined[first] = {**joined[first], "text": _contents(joined[first]) + _contents(block)}
        else:
            joined[block["anno_id"]] = dict(block)
    return [(block["category_type"], block) for block in joined.values()]


def _contents(block: Mapping[str, Any]) -> str:
    """What a block says: a table in HTML if it has that, a formula in LaTeX, else its text."""
    names = ("html", "latex", "text") if block["category_type"] == TABLE else ("latex", "text", "html")
    return next((block[name] for name in names if block.get(name)), "")


def _pages(path: str) -> list[dict[str, Any]]:
    try:
        pages = json.loads(Path(path).read_text(encoding="utf-8-sig"))
        names = [
            os.path.splitext(page["page_info"]["image_path"])[0] for page in pages if page["layout_dets"]
        ]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise EvaluationError(f"{path}: no pages with layout_dets and page_info: {error!r}") from error
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise EvaluationError(f"{path}: image {twice[0]} twice; a page for each")
    return pages


def _stem(page: Mapping[str, Any]) -> str:
    return os.path.splitext(page["page_info"]["image_path"])[0]
