"""Read the pictures of a records file by Tesseract or RapidOCR, to set beside our own answers.

python -m benchmarks.other_readers RECORDS --by tesseract [--psm 7] -o predictions.jsonl

Writes what `got evaluate --predictions` scores and `--compare` sets side by side; prints seconds a picture.
RapidOCR is no dependency of ours: install it beside (`pip install rapidocr onnxruntime`). `got prelabel` has
the same readers. Knows records; knows no metric and no model of ours.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

from got_train.atomic_write import write_atomic
from got_train.data.records import read_records
from got_train.drafts.readers import RapidOcr, Tesseract
from got_train.errors import GotError

IMAGES_EACH = 100  # a program is started once for as many


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
    by_tesseract = options.by == "tesseract"
    try:
        reader = Tesseract(psm=options.psm) if by_tesseract else RapidOcr(detect=not options.lines)
        start = time.perf_counter()
        answers = [
            answer
            for first in range(0, len(rows), IMAGES_EACH)
            for answer in reader.read(rows[first : first + IMAGES_EACH])
        ]
    except GotError as error:
        raise SystemExit(str(error)) from error
    seconds = (time.perf_counter() - start) / max(1, len(rows))
    written = "".join(
        json.dumps(
            {
                "id": path.stem,
                "images": [str(path)],
                "document": row.document,
                "task": row.task,
                "reference": row.text,
                "prediction": answer.text or "",
                **({"failed": answer.failed} if answer.failed else {}),
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
