"""How far a checkpoint's confidences can be believed: got calibrate CHECKPOINT --data FILE.

Reads records whose text is known, and writes the temperatures that fit into the checkpoint's folder.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rapidfuzz.distance import Levenshtein

from got_train.atomic_write import write_whole
from got_train.inference.confidence import CALIBRATION, LEVELS, calibration_error, fit_scale, spans, units

if TYPE_CHECKING:
    from got_train.data.record import Record
    from got_train.inference.reader import Reader


class CalibrateError(ValueError):
    """Records from which no temperature can be learnt."""


@dataclass
class Observed:
    """Of a level: the confidences of its pieces and whether each was right, by record."""

    confidences: list[list[float]] = field(default_factory=list)
    right: list[list[bool]] = field(default_factory=list)

    def some(self, first: int, step: int) -> tuple[list[float], list[bool]]:
        return _flat(self.confidences[first::step]), _flat(self.right[first::step])


def observe(
    readings: Iterable[tuple[Sequence[tuple[str, float]], str]],
) -> dict[str, Observed]:
    """Of answers in pieces (see Reader.pieces) and their true texts."""
    found = {level: Observed() for level in LEVELS}
    for pieces, truth in readings:
        for level, observed in found.items():
            parts = spans(pieces, level)
            if level == "token":
                text = "".join(piece for piece, _ in pieces).strip()
                hits = _matched(text, truth)
                right = [all(hits[part.start : part.start + len(part.text)]) for part in parts]
            else:
                right = _matched([part.text for part in parts], units(truth, level))
            observed.confidences.append([part.confidence for part in parts])
            observed.right.append(right)
    return found


def fit(observed: Observed) -> dict[str, Any]:
    """The scale fitted to all, and how well one fitted to every other record does on the rest (ECE)."""
    probabilities, right = observed.some(0, 1)
    if all(right) or not any(right):
        what = "right" if right and all(right) else "wrong"
        raise CalibrateError(f"all {len(right)} were {what}; records of which the model reads some wrong")
    whole = fit_scale(probabilities, right)
    half = fit_scale(*observed.some(0, 2))
    held_out, held_right = observed.some(1, 2)
    return {
        "temperature": round(whole.temperature, 4),
        "shift": round(whole.shift, 4),
        "ece_before": round(calibration_error(held_out, held_right), 4),
        "ece_after": round(calibration_error([half.apply(p) for p in held_out], held_right), 4),
        "count": len(right),
        "right": round(sum(right) / len(right), 4),
        "confidence": round(sum(probabilities) / len(probabilities), 4),
    }


def calibrate(reader: Reader, records: Sequence[Record], batch_size: int) -> dict[str, Any]:
    """What calibration.json holds but for where it comes from."""
    from got_train.inference.reader import Failure, Question

    causes = []
    readings = []
    questions = (Question.of_record(record) for record in records)
    for record, answer in zip(records, reader.read(questions, batch_size), strict=True):
        if isinstance(answer, Failure):
            causes.append(answer.cause)
        else:
            readings.append((reader.pieces(answer), record.text))
    if len(readings) < 2:
        raise CalibrateError(f"{len(readings)} records were read; at least 2, better 100 ({causes[:1]})")
    levels, left_out = {}, {}
    for level, observed in observe(readings).items():
        try:
            levels[level] = fit(observed)
        except CalibrateError as error:
            left_out[level] = str(error)
    if not levels:
        raise CalibrateError(f"{left_out['word']}")
    return {"levels": levels, "left_out": left_out, "records": len(readings), "failed": causes}


def table(found: dict[str, Any]) -> str:
    rows = ["level  temperature   shift  ECE before  ECE after   right  confidence   count"]
    for level, row in found["levels"].items():
        rows.append(
            f"{level:<5}  {row['temperature']:>11.3f}  {row['shift']:>6.2f}  {row['ece_before']:>10.4f}  "
            f"{row['ece_after']:>9.4f}  {row['right']:>6.3f}  {row['confidence']:>10.3f}  {row['count']:>6}"
        )
    rows += [f"{level}: left out, {reason}" for level, reason in found["left_out"].items()]
    return "\n".join([*rows, *(f"failed: {cause}" for cause in found["failed"])])


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m got_train.cli.calibrate", description=__doc__)
    add = made.add_argument
    add("checkpoint", help=f"a checkpoint's folder; {CALIBRATION} is written into it")
    add("--data", required=True, metavar="FILE", help="records with known text that were not trained on")
    add("--limit", type=int, metavar="N", help="the first N records only")
    add("--batch_size", type=int, default=8, metavar="N", help="pages read together (default 8)")
    add("--max_new_tokens", type=int, metavar="N", help="of an answer, at most")
    add("--dtype", choices=("float32", "bfloat16", "float16"), default="float32", help="(default float32)")
    add("--threads", type=int, metavar="N", help="CPU threads (default all cores)")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        found = run(options)
    except (ValueError, OSError) as error:
        print(f"calibrate: {error}", file=sys.stderr)
        return 2
    print(table(found))
    print(f"-> {Path(options.checkpoint) / CALIBRATION}; infer.py uses it from now on", file=sys.stderr)
    return 0


def run(options: argparse.Namespace) -> dict[str, Any]:
    from got_train.cpu import settings
    from got_train.data.records import read_records
    from got_train.inference.reader import load_reader

    for name in ("limit", "batch_size", "max_new_tokens", "threads"):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            raise CalibrateError(f"--{name}: {getattr(options, name)}; at least 1")
    records = list(read_records(options.data, allow_empty=True))[: options.limit]
    settings.tune(options.threads)
    reader = load_reader(
        options.checkpoint, options.dtype, max_new_tokens=options.max_new_tokens, calibration=None
    )
    found = {"data": options.data, "dtype": options.dtype, **calibrate(reader, records, options.batch_size)}
    text = json.dumps(found, ensure_ascii=False, indent=2) + "\n"
    write_whole(Path(options.checkpoint) / CALIBRATION, text)
    return found


def _matched(found: Sequence[str], truth: Sequence[str]) -> list[bool]:
    """Whether each stands in the truth, in the alignment of fewest edits."""
    hits = [False] * len(found)
    for code in Levenshtein.opcodes(found, truth):
        if code.tag == "equal":
            hits[code.src_start : code.src_end] = [True] * (code.src_end - code.src_start)
    return hits


def _flat(parts: Iterable[list]) -> list:
    return [each for part in parts for each in part]


if __name__ == "__main__":
    sys.exit(main())
