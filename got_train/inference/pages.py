"""Which pages files, folders and patterns hold, each opened only when its turn comes.

Knows pictures, PDFs and TIFFs of several pages; knows no model and no prompt.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from got_train import images
from got_train.errors import ImageError, InferenceError
from got_train.strict_files import printable

PDF, TIFF = (".pdf",), (".tif", ".tiff")


@dataclass(frozen=True)
class Page:
    """One picture: a file, or one page of a PDF or TIFF (from 1). It is opened when its turn comes."""

    file: str | images.EncodedImage
    number: int | None = None

    def __str__(self) -> str:
        name = printable(self.file)
        return name if self.number is None else f"{name} page {self.number}"

    @property
    def name(self) -> str:
        """A file name for what is read off this page, without its suffix."""
        stem = Path(str(self.file)).stem
        return stem if self.number is None else f"{stem}_{self.number:04d}"

    def open(self) -> Image.Image:
        if isinstance(self.file, images.EncodedImage):
            return images.open_image(self.file)
        if _is_pdf(self.file):
            pictures = (picture for _, picture in images.pdf_pages(self.file, self.number and [self.number]))
        elif self.number is None:
            return images.open_image(self.file)
        else:
            pictures = images.image_frames(self.file, self.number)
        for picture in pictures:
            return picture
        raise InferenceError(f"{self}: no such page; the file has fewer")


def find_pages(names: Iterable[str | os.PathLike], numbers: Sequence[int] | None = None) -> list[Page]:
    """The pages of files, folders (pictures and PDFs, natural order) and patterns such as scans/*.png.

    `numbers` picks pages of the PDFs and TIFFs; those that a file does not have fail when they are opened.
    """
    files = [file for name in names for file in _files(os.fspath(name))]
    pages = [page for file in files for page in _pages(file, numbers)]
    if numbers is not None and all(page.number is None for page in pages):
        raise InferenceError(
            f"pages: {files[0]} has no pages to pick; expected a PDF or a TIFF of several pages"
        )
    return pages


def left_out(names: Iterable[str | os.PathLike]) -> list[str]:
    """What stands in the folders among these names and is not read, a line a folder."""
    folders = [name for name in map(os.fspath, names) if os.path.isdir(name)]
    counts = ((folder, images.other_files(folder, _folder_files(folder))) for folder in folders)
    return [f"{folder}: not read: {others}" for folder, others in counts if others]


def _folder_files(folder: str) -> list[str]:
    pdfs = [name for name in os.listdir(folder) if name.lower().endswith(PDF) and name[0] != "."]
    files = images.image_files(folder) + [os.path.join(folder, name) for name in pdfs]
    return sorted(files, key=images.natural_order)


def _files(name: str) -> list[str]:
    if os.path.isdir(name):
        files = _folder_files(name)
        if not files:
            others = images.other_files(name, ()) or "it is empty"
            raise InferenceError(
                f"{name}: no picture and no PDF in this folder ({others}); sub-folders are not searched"
            )
        return files
    if os.path.exists(name):
        return [name]
    files = [file for file in glob.glob(name, recursive=True) if os.path.isfile(file)]
    if not files:
        raise InferenceError(
            f"{name}: no such file; expected a picture, a PDF, a folder or a pattern like scans/*.png"
        )
    return sorted(files, key=images.natural_order)


def _pages(file: str, numbers: Sequence[int] | None) -> list[Page]:
    count = _page_count(file)
    if count is None:
        return [Page(file)]
    return [Page(file, number) for number in numbers or range(1, count + 1)]


def _page_count(file: str) -> int | None:
    """Pages of a PDF, or of a TIFF of several; None for a picture, and for what will fail to open."""
    if _is_pdf(file):
        import pypdfium2

        try:
            with pypdfium2.PdfDocument(file) as document:
                return len(document) or None
        except (pypdfium2.PdfiumError, OSError):
            return None
    if not file.lower().endswith(TIFF):
        return None
    try:
        count = images.frame_count(file)
    except (ImageError, OSError):
        return None
    return count if count > 1 else None


def _is_pdf(file: str) -> bool:
    if file.lower().endswith(PDF):
        return True
    try:
        with open(file, "rb") as opened:
            return opened.read(5) == b"%PDF-"
    except OSError:
        return False
