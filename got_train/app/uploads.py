"""Files that were handed in: how large and how many, and their pages as pictures.

They lie in a folder of their own under names of our making; no path comes from outside.
"""

from __future__ import annotations

import contextlib
import io
import re
import secrets
import shutil
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from got_train import images
from got_train.cpu.heap import give_back_memory
from got_train.errors import RequestError
from got_train.images import EncodedImage
from got_train.inference.pages import Page, find_pages
from got_train.inference.scheduler import BusyError

KINDS = (*images.SUFFIXES, ".pdf")
MOST_FILES = 20  # that are kept; the oldest goes
MOST_UNFINISHED = 8  # that are on their way at once
LARGE = 20_000_000  # pixels, after which memory is given back
MOST_PAGES = 500  # of a file
MOST_PIXELS = 100_000_000  # of a picture: 300 MB as RGB
PREVIEW_SIDE = 1600  # pixels
_ODD = re.compile(r"[^\w.() -]")


@dataclass(frozen=True)
class Upload:
    """A file with its pages. `name` is for people and for names of copies; no file is opened by it."""

    key: str
    name: str
    folder: Path
    pages: tuple[Page, ...]


class Uploads:
    """Those of one server. PDFs are opened here only, one at a time, for pdfium knows one thread."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self._folder = folder
        self._kept: OrderedDict[str, Upload] = OrderedDict()
        self._unfinished: set[Path] = set()
        self._lock = threading.Lock()

    def place(self, name: str) -> Path:
        """Where the bytes of a new file go; refused by its name's ending before any of them is read."""
        suffix = Path(plain_name(name)).suffix.lower()
        if suffix not in KINDS:
            raise RequestError(
                f"{plain_name(name)}: not a picture or PDF; expected one of {', '.join(KINDS)}"
            )
        folder = self._folder / secrets.token_urlsafe(16)
        with self._lock:
            if len(self._unfinished) >= MOST_UNFINISHED:
                raise BusyError(f"{len(self._unfinished)} files are on their way; send this one later")
            self._unfinished.add(folder)
        folder.mkdir(mode=0o700)
        return folder / f"file{suffix}"

    def too_large(self, name: str) -> RequestError:
        return RequestError(f"{plain_name(name)}: over {self.most_bytes / 2**20:g} MB; use a smaller file")

    def accept(self, file: Path, name: str) -> Upload:
        """The upload of a file that lies at its place; its first page is opened, so it is one."""
        name = plain_name(name)
        try:
            upload = self._opened(file, name)
            with self._lock:
                self._page(upload, 1)
                self._kept[upload.key] = upload
                self._unfinished.discard(upload.folder)
                self._keep_quota(upload)
                return upload
        except ValueError as error:
            self.drop(file.parent)
            raise RequestError(str(error).replace(str(file), name)) from error

    def _opened(self, file: Path, name: str) -> Upload:
        with self._lock:
            upload = Upload(file.parent.name, name, file.parent, tuple(find_pages([file])))
        if len(upload.pages) > MOST_PAGES:
            raise RequestError(
                f"{name}: {len(upload.pages)} pages; expected at most {MOST_PAGES}, so split it"
            )
        _check_pixels(file, name)
        return upload

    def drop(self, folder: Path) -> None:
        self._unfinished.discard(folder)
        shutil.rmtree(folder, ignore_errors=True)

    def _keep_quota(self, newest: Upload) -> None:
        """All files together, drawn pages too, have room for MOST_FILES of the largest; the oldest go."""
        while len(self._kept) > 1 and (
            len(self._kept) > MOST_FILES or self._bytes() > self.most_bytes * MOST_FILES
        ):
            oldest = next(upload for upload in self._kept.values() if upload is not newest)
            self.drop(self._kept.pop(oldest.key).folder)
        if self._bytes() > self.most_bytes * MOST_FILES:
            for drawn in newest.folder.glob("[0-9]*.png"):
                drawn.unlink()

    def _bytes(self) -> int:
        return sum(file.stat().st_size for upload in self._kept.values() for file in upload.folder.iterdir())

    def page(self, key: str, number: int) -> EncodedImage:
        """A page as a picture file of its own, named after the upload; numbers count from 1."""
        with self._lock:
            upload = self._kept.get(key)
            if upload is None:
                raise RequestError("this file has expired; upload it again")
            if not 1 <= number <= len(upload.pages):
                raise RequestError(f"{upload.name}: no page {number}; expected 1 to {len(upload.pages)}")
            try:
                return self._page(upload, number)
            except ValueError as error:
                raise RequestError(str(error).replace(str(upload.pages[0].file), upload.name)) from error

    def pages_of(
        self, data: bytes, name: str, numbers: Sequence[int] | None, most: int
    ) -> list[EncodedImage]:
        """The pages of a file that is not kept: all, or those that are named; refused if over `most`."""
        file = self.place(name)
        try:
            if len(data) > self.most_bytes:
                raise self.too_large(name)
            file.write_bytes(data)
            upload = self._opened(file, plain_name(name))
            count = len(upload.pages)
            for number in numbers or ():
                if not 1 <= number <= count:
                    raise RequestError(f"{upload.name}: no page {number}; expected 1 to {count}")
            chosen = numbers or range(1, count + 1)
            if len(chosen) > most:
                raise RequestError(
                    f"pages: {upload.name} has {len(chosen)} that were asked for; expected at most {most}, "
                    "so name them in pages"
                )
            with self._lock:
                return [self._page(upload, number) for number in chosen]
        except ValueError as error:
            raise RequestError(str(error).replace(str(file), plain_name(name))) from error
        finally:
            self.drop(file.parent)

    def _page(self, upload: Upload, number: int) -> EncodedImage:
        page = upload.pages[number - 1]
        if page.number is None:
            with _memory_given_back(page.open()):  # refused here if it is none
                pass
            return EncodedImage(upload.name, Path(page.file).read_bytes())
        drawn = upload.folder / f"{number}.png"
        if not drawn.exists():
            unfinished = drawn.with_suffix(".tmp")
            with _memory_given_back(page.open()) as picture:
                picture.save(unfinished, "PNG", compress_level=1)
            unfinished.replace(drawn)
            content = drawn.read_bytes()
            self._keep_quota(upload)
            return EncodedImage(f"{Path(upload.name).stem}_{number:04d}.png", content)
        return EncodedImage(f"{Path(upload.name).stem}_{number:04d}.png", drawn.read_bytes())


def preview(picture: EncodedImage) -> bytes:
    """A JPEG of the page that is no larger than a screen."""
    buffer = io.BytesIO()
    with _memory_given_back(images.open_image(picture)) as small:
        small.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
        small.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


@contextlib.contextmanager
def _memory_given_back(picture: Image.Image) -> Iterator[Image.Image]:
    """A picture that is closed afterwards; of a large one the C library would keep the memory for later."""
    large = picture.width * picture.height > LARGE
    try:
        yield picture
    finally:
        picture.close()
        if large:
            give_back_memory()


def plain_name(name: str) -> str:
    """The last part of a name, without signs that mean something in a path."""
    return _ODD.sub("_", name.replace("\\", "/").rsplit("/", 1)[-1])[-80:].strip(". ") or "page"


def _check_pixels(file: Path, name: str) -> None:
    """Before decoding, for a small file can hold a huge picture, in any frame. What is none fails later."""
    sizes = []
    try:
        with Image.open(file, formats=images.FORMATS) as picture:
            sizes.append(picture.size)
            for frame in range(1, getattr(picture, "n_frames", 1)):
                picture.seek(frame)
                sizes.append(picture.size)
    except Exception:  # Pillow raises nearly every built-in exception on damaged files
        pass
    for width, height in sizes:
        if width * height > MOST_PIXELS:
            raise RequestError(
                f"{name}: {width} x {height} pixels; expected at most {MOST_PIXELS:,}, so scale it down"
            )
