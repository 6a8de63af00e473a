"""Records of ours in the files of two document benchmarks, so that evalscope asks `got serve` for them.

python -m benchmarks.evalscope_sample RECORDS.jsonl OUT writes OUT/ocr_bench and OUT/omni_doc_bench: the rows
of OCRBench and of OmniDocBench, each page as a question or a text block. docs/serving.md has the commands.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import datasets
from PIL import Image

from got_train.data.record import Record
from got_train.data.records import read_records


def ocr_bench(records: Sequence[Record]) -> datasets.Dataset:
    """Rows of OCRBench; an answer counts where it holds the label, ends of lines as spaces."""
    rows = [
        {
            "dataset": "got_train",
            "question_type": "Regular Text Recognition",
            "question": "what is written in the image?",
            "answer": [record.text],
            "image": {
                "bytes": Path(record.images[0]).read_bytes(),
                "path": os.path.basename(record.images[0]),
            },
        }
        for record in records
    ]
    return datasets.Dataset.from_list(rows).cast_column("image", datasets.Image())


def omni_doc_bench(records: Sequence[Record]) -> datasets.Dataset:
    """Rows of OmniDocBench: a picture in base64, and the annotation of its page as JSON."""
    rows = []
    for index, record in enumerate(records):
        file = Path(record.images[0])
        with Image.open(file) as image:
            width, height = image.size
        block = {
            "category_type": "text_block",
            "poly": [0, 0, width, 0, width, height, 0, height],
            "ignore": False,
            "order": 1,
            "anno_id": 1,
            "text": record.text,
        }
        page = {
            "layout_dets": [block],
            "page_info": {
                "page_no": index,
                "width": width,
                "height": height,
                "image_path": f"{index:08d}.jpg",  # the scorer finds a page by a name with this ending
                "page_attribute": {
                    "language": "english",
                    "data_source": "got_train",
                    "layout": "single_column",
                },
            },
            "extra": {"relation": []},
        }
        image_base64 = base64.b64encode(file.read_bytes()).decode()
        rows.append({"index": index, "image": image_base64, "answer": json.dumps(page, ensure_ascii=False)})
    return datasets.Dataset.from_list(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("evalscope_sample", description=__doc__.splitlines()[0])
    parser.add_argument("records", help="whole pages of one picture, task ocr")
    parser.add_argument("out", type=Path)
    options = parser.parse_args(arguments)
    records = read_records(options.records)
    for write, split in ((ocr_bench, "test"), (omni_doc_bench, "train")):
        folder = options.out / write.__name__
        folder.mkdir(parents=True, exist_ok=True)
        write(records).to_parquet(folder / f"{split}.parquet")
    print(
        f"{len(records)} pages in {options.out}/ocr_bench and {options.out}/omni_doc_bench", file=sys.stderr
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
