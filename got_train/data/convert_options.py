"""What got convert-data is asked for and may be asked for, apart from how its command line is read.

Imports nothing that takes time, as the help of the command waits for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

RECORD_FILES = {"records": "records.jsonl", "got": "got.json", "ms_swift": "ms_swift.jsonl"}  # in a folder
LABEL_FORMATS = (
    *("page", "alto", "hocr", "icdar", "labelme", "label-studio", "label-studio-predictions", "cvat"),
    *("coco-text", "paddleocr", "via", "lines"),
)
DROPPABLE = ("char_boxes",)
ORDERS = ("file", "page")  # of lines: as the labels stand in their file; as they stand on the page
ILLEGIBLE = ("leave_out", "skip_page")


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """Which data, in which format, to where; the fields are the flags of the command."""

    source: str
    to: str  # a format of records, or of labels
    out: str  # a file, or a folder for it
    copy_images: bool = False
    copy_from_anywhere: bool = False  # not only from below the folder of the data
    image_root: str | None = None
    # of records
    task: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)  # key of a record -> what the source calls it
    split: str = ""
    allow_empty: bool = False
    drop: tuple[str, ...] = ()
    # of labels with positions
    tasks: tuple[str, ...] = ()  # none: spot
    order: str | None = None
    illegible: str = "leave_out"
