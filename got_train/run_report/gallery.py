"""Rows to look at: what was read of them as the run went on, those read worst, those that got worse.

Knows answers and pictures; decides on nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from rapidfuzz.distance import Levenshtein

from got_train.evaluation.predictions import Prediction
from got_train.evaluation.report.pictures import Pictures
from got_train.formats.plain_text import canonical_text
from got_train.html.page import escaped

Row = Mapping[str, Any]  # a line of samples.jsonl, or an answer of measurements.jsonl
MOMENTS = 6  # of one row, at most: the first, the last, and some between
WORST = 8  # of each list: every one brings its picture
_CHOSEN = "edit_distance"  # what worst means; every kind has it
_VISIBLE = str.maketrans({" ": "\u00b7", "\t": "\u21e5", "\n": "\u21b5\n"})


def over_time(measurements: Sequence[Row], pictures: Pictures) -> str:
    """The rows that are read at every measuring, each with its answers by step."""
    rows: dict[str, list[tuple[int, Row]]] = {}
    for measurement in measurements:
        for answer in measurement.get("answers", ()):
            rows.setdefault(answer["id"], []).append((measurement["step"], answer))
    cards = [_card(answers[-1][1], pictures, _steps(answers)) for answers in rows.values()]
    if not cards:
        return ""
    note = (
        "The same rows at every measuring. <del>Missing</del> stands in the reference only, "
        "<ins>extra</ins> in the answer only."
    )
    return f"<h2 id=samples>Samples over time</h2><p class='note legend'>{note}</p>{''.join(cards)}"


def _steps(answers: Sequence[tuple[int, Row]]) -> str:
    shown = answers
    if len(answers) > MOMENTS:
        shown = [answers[moment * (len(answers) - 1) // (MOMENTS - 1)] for moment in range(MOMENTS)]
    parts = []
    for step, answer in shown:
        when = f"step {step:,}" if step else "before the run"
        parts.append(f"<h4 class=soft>{when}</h4>{_answer(answer)}")
    return "".join(parts)


def worst(before: Sequence[Row], after: Sequence[Row], pictures: Pictures) -> str:
    """Of each set of rows that was read at the end: the worst, and those that were read better before."""
    known = {row["id"]: row for row in before}
    parts = []
    for name in dict.fromkeys(row.get("data", "") for row in after):
        rows = [row for row in after if row.get("data", "") == name]
        bad = sorted((row for row in rows if _score(row) > 0), key=lambda row: -_score(row))
        fallen = [row for row in rows if row["id"] in known and _score(row) > _score(known[row["id"]])]
        fallen.sort(key=lambda row: _score(known[row["id"]]) - _score(row))
        parts += [
            _folded(f"misread in {name}, the worst first", bad, len(rows), known, pictures),
            _folded(f"of {name} read better before the run", fallen, len(rows), known, pictures),
        ]
    return f"<h2 id=worst>Worst cases</h2>{''.join(parts)}" if parts else ""


def _folded(title: str, rows: Sequence[Row], of: int, known: Mapping[str, Row], pictures: Pictures) -> str:
    shown = rows[:WORST]
    count = f"{len(rows):,} of {of:,} rows {escaped(title)}"
    count += f" ({len(shown)} shown)" if len(shown) < len(rows) else ""
    cards = "".join(_card(row, pictures, _both(known.get(row["id"]), row)) for row in shown)
    return f"<details><summary>{count}</summary>{cards}</details>" if rows else f"<p>{count}</p>"


def _both(before: Row | None, after: Row) -> str:
    if before is None:
        return _answer(after)
    return (
        f"<h4 class=soft>before the run, edit distance {_score(before):.3f}</h4>{_answer(before)}"
        f"<h4 class=soft>after it, {_score(after):.3f}</h4>{_answer(after)}"
    )


def _score(row: Row) -> float:
    return row["scores"][_CHOSEN]


def _card(row: Row, pictures: Pictures, texts: str) -> str:
    shown = pictures.shown(prediction(row))
    if "uri" in shown:
        picture = f'<div><img src="{shown["uri"]}" alt="the picture that was read"></div>'
        body = f"<div class=body>{picture}<div>{texts}</div></div>"
    else:
        body = f"<p class=soft>no picture: {escaped(shown['cause'])}</p>{texts}"
    chips = [row["task"], row.get("data", ""), row.get("color") or "", row.get("location", "")]
    listed = "".join(f"<span>{escaped(chip)}</span>" for chip in chips if chip)
    return (
        f"<article class=sample><h3>{escaped(row['id'])}</h3><div class=chips>{listed}</div>{body}"
        f"<details><summary>reference</summary><div class=text dir=auto>{escaped(row['reference'])}</div>"
        "</details></article>"
    )


def prediction(row: Row) -> Prediction:
    """What a line of ours tells of."""
    known = {field.name: row[field.name] for field in fields(Prediction) if row.get(field.name) is not None}
    known |= {name: tuple(known[name]) for name in ("box", "images") if name in known}
    return Prediction(**{"prediction": "", **known})


def _answer(row: Row) -> str:
    if row.get("failed"):
        return f"<p class=worse>failed: {escaped(row['failed'])}</p>"
    return f"<div class=text dir=auto>{difference(row['reference'], row.get('prediction', ''))}</div>"


def difference(reference: str, answer: str) -> str:
    """One text of both: what only the reference has is deleted, what only the answer has inserted."""
    return (
        "".join(_parts(canonical_text(reference), canonical_text(answer)))
        or "<span class=soft>(nothing on either side)</span>"
    )


def _parts(reference: str, answer: str) -> Iterator[str]:
    for code in Levenshtein.opcodes(reference, answer):
        missing = reference[code.src_start : code.src_end]
        if code.tag == "equal":
            yield escaped(missing)
            continue
        extra = answer[code.dest_start : code.dest_end]
        yield f"<del>{escaped(missing.translate(_VISIBLE))}</del>" if missing else ""
        yield f"<ins>{escaped(extra.translate(_VISIBLE))}</ins>" if extra else ""
