"""Read the pictures of a records file by Tesseract or RapidOCR, to set beside our own answers.

python -m benchmarks.other_readers RECORDS --by tesseract [--psm 7] -o predictions.jsonl

Writes what `got evaluate --predictions` scores and `--compare` sets side by side; prints seconds a picture.
RapidOCR is no dependency of ours: install it beside (`pip install rapidocr onnxruntime`).
Knows records and programs; knows no metric and no model of ours.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from got_train.atomic_write import write_atomic
from got_train.data.records import read_records

IMAGES_EACH = 100  # a program is started once for as many


def tesseract(paths: Sequence[Path], psm: int | None) -> Iterator[str]:
    """Text of each picture by the program `tesseract`, in English."""
    if shutil.which("tesseract") is None:
        raise SystemExit("tesseract: no such program; install tesseract-ocr and tesseract-ocr-eng")
    options = [] if psm is None else ["--psm", str(psm)]
    for start in range(0, len(paths), IMAGES_EACH):
        some = paths[start : start + IMAGES_EACH]
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as listing:
            listing.write("".join(f"{path}\n" for path in some))
            listing.flush()
            command = ["tesseract", listing.name, "stdout", *options]
            output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        pages = output.split("\f")  # a form feed stands between pages
        if len(pages) != len(some):
            raise SystemExit(f"tesseract: {len(pages)} answers to {len(some)} pictures; expected one each")
        yield from (page.strip() for page in pages)


def rapidocr(paths: Sequence[Path], detect: bool) -> Iterator[str]:
    """Text of each picture by the package rapidocr; without `detect` a picture is one line."""
    from rapidocr import RapidOCR

    engine = RapidOCR()
    for path in paths:
        result = engine(str(path), use_det=detect, use_cls=False, use_rec=True)
        yield "\n".join(result.txts or ())


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("records", metavar="RECORDS", help="records of one picture each")
    parser.add_argument("--by", choices=("tesseract", "rapidocr"), required=True)
    parser.add_argument("--psm", type=int, help="tesseract's page segmentation mode, such as 7: one line")
    parser.add_argument("--lines", action="store_true", help="rapidocr: each picture is one line; find none")
    parser.add_argument("--limit", type=int, help="read only the first N records")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the file of predictions")
    options = parser.parse_args(arguments)
    records = read_records(options.records)
    rows = [records[index] for index in range(min(len(records), options.limit or len(records)))]
    paths = [Path(row.images[0]) for row in rows]
    read = tesseract(paths, options.psm) if options.by == "tesseract" else rapidocr(paths, not options.lines)
    start = time.perf_counter()
    answers = list(read)
    seconds = (time.perf_counter() - start) / max(1, len(rows))
    written = "".join(
        json.dumps(
            {
                "id": path.stem,
                "images": [str(path)],
                "document": row.document,
                "task": row.task,
                "reference": row.text,
                "prediction": answer,
                "seconds": seconds,
            },
            ensure_ascii=False,
        )
        + "\n"
        for row, path, answer in zip(rows, paths, answers, strict=True)
    )
    options.output.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(options.output, written)
    print(f"{len(rows)} pictures, {seconds:.3f} s each; {options.output}")


if __name__ == "__main__":
    main()
