"""What got convert-data is asked for, apart from how its command line is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


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
