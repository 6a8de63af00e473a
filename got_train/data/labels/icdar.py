"""Text files of boxes: ICDAR and SROIE (`x1,y1,...,x4,y4,TEXT` a line), and YOLO's, which have no texts.

Knows folders and pictures; what such a line looks like is a matter of box_lines.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from got_train.data.box_lines import box_format, parser_of, text_lines
from got_train.data.record import RecordError

from .image_search import image_of
from .labelled_page import Label, LabelledPage, around, corners

# of RCTW: whether the text is difficult, and the text
_FLAGGED = re.compile(r"\s*([01])\s*,\s*\"(.*)\"\s*", re.DOTALL)
# of the multilingual ICDAR sets, which name the script before the text
_SCRIPTS = {"Arabic", "Bangla", "Chinese", "Hindi", "Japanese", "Korean", "Latin", "Mixed", "None", "Symbols"}


def box_pages(path: str, image_root: str | None) -> Iterator[LabelledPage | RecordError]:
    """The page of a file of boxes; lines that are none are counted as left out."""
    lines = text_lines(path)
    form = box_format(lines)
    if not form and box_format(text_lines(path, errors="replace")):
        yield RecordError(f"{path}: not UTF-8; save it as UTF-8")
        return
    if form.startswith("YOLO"):
        yield RecordError(f"{path}: YOLO boxes, which have classes and no texts; give files with texts")
        return
    try:
        image = image_of(path, "", image_root)
    except RecordError as error:
        yield error
        return
    read = parser_of(form)
    parsed = [(number, line, read(line)) for number, line in enumerate(lines, 1)]
    with_script = "x3" in form and all(
        line is None or line.text.partition(",")[0].strip() in _SCRIPTS for _, _, line in parsed
    )
    texts = [line.text for _, _, line in parsed if line is not None]
    flagged = "x3" in form and bool(texts) and all(map(_FLAGGED.fullmatch, texts))
    labels, left_out = [], []
    for number, raw, line in parsed:
        location = f"{path}:{number}"
        if line is None:
            left_out.append(
                ("lines that are no box with a text left out", Label(raw, None, location=location))
            )
            continue
        text = line.text.partition(",")[2] if with_script else line.text
        difficult = False
        if flagged and (match := _FLAGGED.fullmatch(text)):
            text, difficult = match[2].replace('""', '"'), match[1] == "1"
        elif form.startswith("polygons") and text.startswith("####"):
            text = text[4:] or "###"
        polygon = corners(line.points)
        labels.append(Label(text.strip(), around(line.points), polygon, not difficult, location))
    yield LabelledPage(image, tuple(labels), path, order="page", left_out=tuple(left_out))
