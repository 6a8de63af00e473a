"""The picture that a label file names: beside the file, one folder up, or in a folder of pictures next to it.

The case of names does not matter, as cameras and Windows programs write `Scan_04.JPG` for `scan_04.jpg`.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from got_train.data.record import RecordError
from got_train.images import SUFFIXES

IMAGE_FOLDERS = ("img", "imgs", "image", "images", "pictures", "pages", "scans")
# of ICDAR and Total-Text: gt_img_1.txt belongs to img_1.jpg
_PREFIXES = ("gt_", "res_", "poly_gt_")


def image_of(path: str, named: str, image_root: str | None, location: str = "") -> str:
    """The picture of a label file: the one that it names, or the one of its own name."""
    plain = named.removeprefix("file://").replace("\\", "/").partition("?d=")
    plain = plain[2] or plain[0]
    roots = image_roots(path, image_root)
    stems = [Path(path).stem, Path(Path(path).stem).stem]  # page.hocr, page.png.txt
    stems += [stem.removeprefix(prefix) for stem in stems for prefix in _PREFIXES]
    for name in filter(None, dict.fromkeys([plain, plain.rsplit("/", 1)[-1]])):
        if image := next(filter(None, (find_file(root, name) for root in roots)), ""):
            return image
    for stem in dict.fromkeys(stems):  # of no name, or one that is not there
        if image := next(filter(None, (find_picture(root, stem) for root in roots)), ""):
            return image
    folders = " or ".join(map(str, roots))
    missing = f"no picture {named or Path(path).stem} in {folders}"
    raise RecordError(f"{location or path}: {missing}; image_root is its folder")


def image_roots(path: str, image_root: str | None) -> list[Path]:
    """Where the pictures of a label file may be."""
    if image_root is not None:
        return [Path(image_root)]
    folder = Path(path).parent
    beside = [parent / name for parent in (folder, folder.parent) for name in IMAGE_FOLDERS]
    return [folder, folder.parent, *(root for root in beside if root.is_dir())]


def find_file(root: Path, name: str) -> str:
    """A file by its path below a folder, by any case of its name; empty if it is not there."""
    if os.path.isfile(root / name):
        return str(root / name)
    folder, _, last = name.rpartition("/")
    names = _listing(root / folder)
    return str(root / folder / names[last.lower()]) if last.lower() in names else ""


def find_picture(root: Path, stem: str) -> str:
    """The picture of a folder that is called so, whatever its format; empty if there is none."""
    names = _listing(root)
    for suffix in SUFFIXES:
        if (stem + suffix).lower() in names:
            return str(root / names[(stem + suffix).lower()])
    return ""


def _listing(folder: Path) -> dict[str, str]:
    try:
        return _names(str(folder), os.stat(folder).st_mtime_ns)
    except OSError:
        return {}


@lru_cache(maxsize=64)
def _names(folder: str, changed: int) -> dict[str, str]:
    """The files of a folder by their names in small letters."""
    return {entry.name.lower(): entry.name for entry in os.scandir(folder) if entry.is_file()}
