"""Pictures copied into one folder, under names that no two different pictures share.

Knows files and bytes; which record shows a picture is no matter of this file.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from got_train.atomic_write import write_atomic
from got_train.errors import ImageError
from got_train.images import FORMATS, EncodedImage, open_image
from got_train.strict_files import printable

from .record import RecordError

_SUFFIXES = {"JPEG": ".jpg", "TIFF": ".tif", "JPEG2000": ".jp2"}  # others are called as their format


class ImageCopier:
    """Copies in a folder. The same picture is copied once; one that is there already stays as it is.

    Only what decodes as a picture is copied, and with a `root` only what lies below it: a row of data that
    somebody else wrote may name any file of this machine.
    """

    def __init__(self, folder: Path, root: str | None = None) -> None:
        self._folder = folder
        self._root = None if root is None else Path(root).resolve()
        self._copied: dict[str, str] = {}  # path of a picture: that of its copy
        self._taken: set[str] = set()  # names, in small letters: some file systems know no others

    def one(self, image: str | EncodedImage) -> str:
        """The path of the copy of a picture."""
        known = "" if isinstance(image, EncodedImage) else os.path.abspath(image)
        if known not in self._copied:
            data, suffix = self._content(image)
            copy = self._free(_stem(image), suffix, {"": data})
            _write(copy, data)
            if not known:
                return str(copy)
            self._copied[known] = str(copy)
        return self._copied[known]

    def several(self, images: Sequence[str | EncodedImage]) -> tuple[str, ...]:
        """The paths of copies in a folder of their own, in its natural order."""
        contents = [self._content(image) for image in images]
        files = {f"{number:04d}{suffix}": data for number, (data, suffix) in enumerate(contents, 1)}
        folder = self._free(f"{_stem(images[0])}-pages", "", files)
        for name, data in files.items():
            _write(folder / name, data)
        return tuple(str(folder / name) for name in files)

    def _content(self, image: str | EncodedImage) -> tuple[bytes, str]:
        """The bytes of a picture and the ending of its name; a table's names may not tell its format."""
        inside = self._root is None or not isinstance(image, str) or self._is_below_root(image)
        if not inside:
            raise RecordError(
                f"{printable(image)}: not below {self._root}, so it is not copied; use --copy-from-anywhere"
            )
        try:
            open_image(image)
        except ImageError as error:
            raise RecordError(f"{error}") from error
        if isinstance(image, str):
            return Path(image).read_bytes(), Path(image).suffix
        with Image.open(io.BytesIO(image.data), formats=FORMATS) as opened:
            return image.data, _SUFFIXES.get(opened.format, f".{opened.format.lower()}")

    def _is_below_root(self, image: str) -> bool:
        return Path(image).resolve().is_relative_to(self._root)

    def _free(self, stem: str, suffix: str, files: dict[str, bytes]) -> Path:
        """The first of stem, stem-2, stem-3 ... that is not there, or holds just these files from before."""
        number, name = 1, stem + suffix
        while name.lower() in self._taken or not _is_free(self._folder / name, files):
            number += 1
            name = f"{stem}-{number}{suffix}"
        self._taken.add(name.lower())
        return self._folder / name


def _is_free(path: Path, files: dict[str, bytes]) -> bool:
    if not path.exists():
        return True
    if path.is_dir() and sorted(os.listdir(path)) != sorted(files):
        return False
    return all((path / name).is_file() and (path / name).read_bytes() == files[name] for name in files)


def _stem(image: str | EncodedImage) -> str:
    path = Path(str(image))
    return path.stem if path.suffix else "picture"  # bytes of a table that have no name


def _write(copy: Path, data: bytes) -> None:
    if not copy.exists():
        write_atomic(copy, data)
