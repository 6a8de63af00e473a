"""What was read as a labelled page, for PAGE, ALTO and hOCR: spots with their boxes, plain lines without."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from got_train.data.labels import writers
from got_train.data.labels.labelled_page import Label, LabelledPage, Losses
from got_train.formats import spots

from .pages import Page

SUFFIXES = {"page": "xml", "alto": "xml"}  # others are called as their format


def label_file(form: str, readings: Iterable[tuple[Page, str]], task: str, file: Path) -> bytes:
    """The file of pages and their answers, which names the pictures from where it stands."""
    folder = file.parent
    pages = [_page(page, text, task, folder) for page, text in readings]
    # our boxes are whole pixels of the page
    labelled = [writers.sayable(form, page, Losses()) for page in pages]
    return writers.written(form, labelled).encode()


def _page(page: Page, text: str, task: str, folder: Path) -> LabelledPage:
    size = page.open().size
    named = os.path.relpath(str(page.file), folder).replace(os.sep, "/")
    if task == "spot":
        placed, faults = spots.parse(text)
        labels = [Label(spot.text, tuple(spots.pixel_box(spot.box, size))) for spot in placed]
        labels += [Label(fault.line, None) for fault in faults]  # what is no spot is read all the same
    else:
        labels = [Label(line.strip(), None) for line in text.splitlines() if line.strip()]
    return LabelledPage(named, tuple(labels), str(page), size)
