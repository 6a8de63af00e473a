"""Picture files and PDF pages, up to the 8-bit square views that the encoder sees.

Knows the pixel values that the released weights were trained on; knows no model, prompt or record.
"""

from __future__ import annotations

import io
import mmap
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from numbers import Integral
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError, features

from . import remote_files
from .cpu.resize import resize
from .errors import ImageError
from .image_integrity import image_fault, pdf_content_fault, pdf_count_fault, pdf_page_fault
from .modeling.config import MEAN, STD
from .strict_files import printable

if TYPE_CHECKING:
    import pypdfium2


# A closed list: Pillow would start Ghostscript for an EPS file, and guesses at formats without a signature.
FORMATS = ("PNG", "JPEG", "TIFF", "GIF", "BMP", "WEBP", "PPM", "JPEG2000")
SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jfif", ".jpe", ".tif", ".tiff", ".gif", ".bmp", ".webp"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".jpx", ".jpf", ".j2c"),
)
if features.check("avif"):  # of Pillow 11.3 and later, where it is built in
    FORMATS, SUFFIXES = (*FORMATS, "AVIF"), (*SUFFIXES, ".avif")

_ORIENTATION = 0x0112  # EXIF and TIFF tag
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_NEW_SUBFILE, _SUBFILE = 0x00FE, 0x00FF  # TIFF tags: what a frame is
_REDUCED, _MASK = 1, 4  # bits of the first: a thumbnail, a mask of another frame
_LIGHT = 192  # grey level, from which on ink on white is lost to the eye
_MOST_PAGES = 100_000  # a page list longer than this is a typing error, and would fill the memory


@dataclass(frozen=True, repr=False)
class EncodedImage:
    """A picture file that stands inside another file, such as a row of a table: its bytes and its name."""

    name: str
    data: bytes

    def __repr__(self) -> str:
        return f"<{self.name}: {len(self.data)} bytes>"

    def __str__(self) -> str:
        return self.name


Source = str | os.PathLike | EncodedImage | BinaryIO  # of a picture


def open_image(source: Source) -> Image.Image:
    """The one picture of a file as 8-bit RGB: turned upright by its EXIF tag, transparent parts on white, or
    on black where all ink is light.

    The original code ignores the EXIF tag and shows the colours hidden under transparent pixels; opaque
    upright pictures come out the same. 16-bit grey is scaled (65535 becomes 255), CMYK converted without its
    ICC profile. A file of several frames is refused; `image_frames` reads those.
    """
    with _pictures(source) as (image, pages, location, file):
        frames = len(pages)
        if frames > 1:
            raise ImageError(
                f"{location}: {frames} frames in a {image.format}; expected one picture, or image_frames()"
            )
        if pages != [0]:
            image.seek(pages[0])
        return _decode(image, location, file)  # stays whole when its file is closed


def image_frames(source: Source, first: int = 1) -> Iterator[Image.Image]:
    """A file's frames from the `first` on, such as pages of a scanned TIFF, each as by `open_image`.

    Thumbnails and masks, which a TIFF keeps as frames of their own, are no pages.
    """
    with _pictures(source) as (image, pages, location, file):
        for number, frame in enumerate(pages[first - 1 :], first):
            image.seek(frame)
            picture = _decode(image, f"{location} frame {number}" if len(pages) > 1 else location, file)
            yield picture.copy() if picture is image else picture  # the next frame takes its place


def frame_count(source: Source) -> int:
    """How many pictures a file holds, thumbnails and masks aside."""
    with _pictures(source) as (_, pages, _, _):
        return len(pages)


def other_files(folder: str | os.PathLike, read: Sequence[str]) -> str:
    """What of a folder is not read, in words: `2 files of other kinds: 1 .heic, 1 .docx; 1 sub-folder`."""
    names = [name for name in os.listdir(folder) if name[0] != "."]
    paths = {name: os.path.join(folder, name) for name in names}
    left = [name for name in names if os.path.isfile(paths[name]) and paths[name] not in set(read)]
    kinds = Counter(os.path.splitext(name)[1].lower() or "without a suffix" for name in left)
    folders = sum(os.path.isdir(path) for path in paths.values())
    counts = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    parts = [f"{len(left)} file{'s' * (len(left) != 1)} of other kinds: {counts}"] * bool(left)
    parts += [f"{folders} sub-folder{'s' * (folders != 1)}"] * bool(folders)
    return "; ".join(parts)


def image_files(folder: str | os.PathLike) -> list[str]:
    """Paths of the pictures in a folder in natural order (page2 before page10), without its sub-folders."""
    names = [name for name in os.listdir(folder) if name.lower().endswith(SUFFIXES) and name[0] != "."]
    return [os.path.join(folder, name) for name in sorted(names, key=natural_order)]


def natural_order(name: str) -> list[str | int]:
    """A sort key that compares the digits of a name as numbers."""
    pieces = re.split(r"([0-9]+)", name)
    return [int(piece) if index % 2 else piece for index, piece in enumerate(pieces)]


def rgb(image: Image.Image, location: str = "image") -> Image.Image:
    """The picture as 8-bit RGB, transparent parts on white, or on black where all ink is light."""
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        image = _eight_bits(image)
    if image.mode in ("I", "F", "LAB"):  # the range of the values is not known, or needs a colour profile
        raise ImageError(
            f"{location}: pixels of mode {image.mode}; expected 8 bits a channel, or 16 bits of grey"
        )
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, _ground(image)), image)
    return image.convert("RGB")


def _ground(image: Image.Image) -> str:
    """What lies under the transparent parts: white, but for pictures whose ink it would swallow."""
    alpha = np.asarray(image.getchannel("A"))
    visible = np.asarray(image.convert("RGB").convert("L"))[alpha >= 128]
    return "black" if visible.size and alpha.min() < 128 and visible.min() >= _LIGHT else "white"


def view(image: Image.Image, side: int) -> np.ndarray:
    """The whole picture squashed to a square, (side, side, 3) uint8; bicubic, as the original does."""
    _check_count("side", side, 1)
    return resize(rgb(image), (side, side))


def views(pictures: Sequence[Image.Image], task: str, side: int, max_crops: int) -> np.ndarray:
    """The views of one sample (N, side, side, 3) uint8, for training and reading alike.

    multi_crop cuts a single picture into tiles; several pictures are tiles or pages already.
    """
    if task.startswith("multi_crop") and len(pictures) == 1:
        pictures = tile(pictures[0], 1, max_crops, side=side)
    result = np.empty((len(pictures), side, side, 3), np.uint8)
    for index, picture in enumerate(pictures):
        result[index] = resize(rgb(picture), (side, side))
    return result


def normalise(views: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
    """Views (N, side, side, 3) uint8 as the encoder's input (N, 3, side, side) float32.

    Training does the same on the device; this is for scripts and tests.
    """
    views = np.asarray(views)
    if views.dtype != np.uint8 or views.ndim != 4 or views.shape[-1] != 3:
        raise ImageError(
            f"views: {views.dtype} of shape {views.shape}; expected uint8 (views, side, side, 3)"
        )
    values = (views.astype(np.float32) / 255 - np.float32(MEAN)) / np.float32(STD)
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2))


def grid(size: tuple[int, int], min_crops: int, max_crops: int, side: int = 1024) -> tuple[int, int]:
    """Columns and rows whose ratio is nearest to that of a picture of `size` (width, height).

    Of equally near grids a larger one is taken if the picture has over half its pixels. (800, 600) with 1 to
    6 tiles gives (3, 2): small pictures are enlarged too.
    """
    _check_count("min_crops", min_crops, 1)
    _check_count("max_crops", max_crops, min_crops)
    _check_count("side", side, 1)
    width, height = size
    best, smallest = (1, 1), float("inf")
    for columns, rows in _grids(min_crops, max_crops):
        difference = abs(width / height - columns / rows)
        tie = difference == smallest  # of floats, as released
        if difference < smallest or (tie and width * height > 0.5 * side * side * columns * rows):
            best, smallest = (columns, rows), difference
    return best


def tile(image: Image.Image, min_crops: int, max_crops: int, side: int = 1024) -> list[Image.Image]:
    """Square tiles row by row, then the whole picture as a thumbnail if there is more than one tile."""
    columns, rows = grid(image.size, min_crops, max_crops, side)
    image = rgb(image)
    squashed = Image.fromarray(resize(image, (side * columns, side * rows)))
    corners = [(side * column, side * row) for row in range(rows) for column in range(columns)]
    tiles = [squashed.crop((left, top, left + side, top + side)) for left, top in corners]
    if len(tiles) > 1:
        tiles.append(Image.fromarray(resize(image, (side, side))))
    return tiles


def pdf_pages(
    path: str | os.PathLike, pages: Iterable[int] | None = None, dpi: float = 144
) -> Iterator[tuple[int, Image.Image]]:
    """Page numbers (from 1) and pages of a PDF in RGB, drawn one at a time; `pages` in the order to draw."""
    import pypdfium2

    if not 0 < dpi < float("inf"):
        raise ImageError(
            f"dpi: {dpi}; expected a positive number, 144 gives an A4 page of 1191 x 1684 pixels"
        )
    with _named(path) as name:
        with open(path, "rb") as file:
            if not file.read(1):
                raise ImageError(f"{name}: an empty file; expected a PDF")
        try:
            document = pypdfium2.PdfDocument(path)
            document.init_forms()  # the values of fields and check boxes are drawn with the page
        except pypdfium2.PdfiumError as error:
            if "password" in str(error).lower():
                raise ImageError(f"{name}: encrypted; save it without its password") from error
            raise ImageError(
                f"{name}: not a PDF, damaged or without pages ({error}); expected a whole PDF"
            ) from error
    try:
        with _whole_pdf(path, name, len(document)) as check:
            count = len(document)
            numbers = list(range(1, count + 1) if pages is None else pages)
            for number in numbers:
                if not 1 <= number <= count:
                    raise ImageError(f"{name}: no page {number}; expected 1 to {count}")
            for number in numbers:
                location = f"{name} page {number}"
                check(number, location, None)
                picture = _draw(document, number, dpi, location)
                check(number, location, picture)
                yield number, picture
    finally:
        document.close()


@contextmanager
def _whole_pdf(
    path: str | os.PathLike, name: str, count: int
) -> Iterator[Callable[[int, str, Image.Image | None], None]]:
    """A check of a page: before it is drawn, that its streams are whole; after, why nothing is to be seen."""
    import pikepdf

    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as raw:
        try:
            pdf = pikepdf.open(file)
            fault = pdf_count_fault(pdf, count)
        except pikepdf.PdfError as error:
            raise ImageError(f"{name}: a damaged PDF ({error}); expected a whole PDF") from error
        if fault:
            raise ImageError(f"{name}: damaged, pages are missing ({fault}); expected a whole PDF")

        def check(number: int, location: str, picture: Image.Image | None) -> None:
            try:
                if picture is None:
                    fault = pdf_page_fault(pdf, number, raw)
                else:
                    blank = all(low == high for low, high in picture.getextrema())
                    fault = pdf_content_fault(pdf, number) if blank else None
            except Exception as error:  # qpdf and pikepdf raise many built-in exceptions on damaged objects
                fault = " ".join(str(error).split())[:200] or type(error).__name__
            if fault:
                raise ImageError(
                    f"{location}: damaged, parts of the page are missing ({fault}); expected a whole PDF"
                )

        with pdf:
            yield check


def parse_pages(text: str) -> list[int]:
    """Page numbers of a list such as "3-10,12", counted from 1, in the order written."""
    pages: list[int] = []
    for piece in text.split(","):
        ends = re.fullmatch(r"\s*([0-9]{1,9})\s*(?:-\s*([0-9]{1,9})\s*)?", piece)
        if not ends:
            raise ImageError(
                f"pages: {piece.strip()!r} in {text!r}; expected numbers and ranges such as 3-10,12"
            )
        first, last = int(ends[1]), int(ends[2] or ends[1])
        if first < 1:
            raise ImageError(f"pages: {piece.strip()!r}; the first page is 1")
        if last < first:
            raise ImageError(f"pages: {piece.strip()!r} runs backwards; write {last}-{first}")
        if len(pages) + last - first >= _MOST_PAGES:
            raise ImageError(f"pages: {text!r} names over {_MOST_PAGES:,} pages; ask for fewer at a time")
        pages.extend(range(first, last + 1))
    ordered = sorted(pages)
    for page, following in zip(ordered, ordered[1:], strict=False):
        if page == following:
            raise ImageError(f"pages: {text!r} names page {page} twice; expected each page once")
    return pages


@contextmanager
def _named(source: Source) -> Iterator[str]:
    """Turns what Pillow and the system raise on a bad file into an ImageError that names the file."""
    location = printable(getattr(source, "name", "image") if hasattr(source, "read") else source)
    try:
        yield location
    except (ImageError, MemoryError):
        raise
    except remote_files.RemoteError as error:
        raise ImageError(str(error)) from error
    except FileNotFoundError as error:
        raise ImageError(f"{location}: no such file; expected the path of a picture or PDF") from error
    except IsADirectoryError as error:
        raise ImageError(f"{location}: a folder; expected a single file") from error
    except PermissionError as error:
        raise ImageError(f"{location}: not allowed to read it; expected a readable file") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{location}: too large ({error}); scale it down first") from error
    except UnidentifiedImageError as error:
        known = ", ".join(FORMATS)
        raise ImageError(
            f"{location}: not a picture, or damaged at its start; expected one of {known}"
        ) from error
    except Exception as error:  # decoders raise nearly every built-in exception on damaged data
        what = f"{type(error).__name__}: {error}"
        raise ImageError(f"{location}: damaged or cut off ({what}); expected a whole picture") from error


@contextmanager
def _pictures(source: Source) -> Iterator[tuple[Image.Image, list[int], str, BinaryIO]]:
    """An opened picture, the frames of it that are pages, its name for messages, and its file."""
    with _named(source) as location:
        if isinstance(source, EncodedImage):
            source = io.BytesIO(source.data)
        if not hasattr(source, "read"):
            fetch = remote_files.cache().read if remote_files.is_url(source) else partial(open, mode="rb")
            with fetch(source) as file, _pictures(file) as opened:
                yield opened
            return
        source.seek(0)
        start = source.read(5)
        if not start:
            raise ImageError(f"{location}: an empty file; expected a picture")
        if start == b"%PDF-":
            raise ImageError(f"{location}: a PDF, not a picture; pdf_pages() draws its pages")
        source.seek(0)
        with Image.open(source, formats=FORMATS) as image:
            # The further frames of an MPO (a photo of many phones) are depth or gain maps of the first.
            pages = [0] if image.format == "MPO" else _page_frames(image)
            yield image, pages, location, source


def _page_frames(image: Image.Image) -> list[int]:
    """The frames of a file that are pictures of their own; all of them if none calls itself one."""
    frames = list(range(getattr(image, "n_frames", 1)))
    if image.format != "TIFF" or len(frames) == 1:
        return frames
    pages = []
    for frame in frames:
        image.seek(frame)
        kind = image.tag_v2.get(_NEW_SUBFILE, 0)
        if not kind & (_REDUCED | _MASK) and image.tag_v2.get(_SUBFILE) != 2:
            pages.append(frame)
    image.seek(0)
    return pages or frames


def _decode(image: Image.Image, location: str, file: BinaryIO) -> Image.Image:
    if image.width * image.height > 2 * (Image.MAX_IMAGE_PIXELS or float("inf")):  # Pillow sees frame 1 only
        raise ImageError(f"{location}: {image.width}x{image.height} pixels; scale it down first")
    image.load()  # before the tag is read: Pillow turns a TIFF itself and then drops the tag
    fault = image_fault(image, file)
    if fault:
        raise ImageError(
            f"{location}: damaged, parts of the picture are missing ({fault}); expected a whole picture"
        )
    turn = _UPRIGHT.get(image.getexif().get(_ORIENTATION))
    if 0 in image.size:
        raise ImageError(f"{location}: {image.width}x{image.height} pixels; expected at least 1x1")
    picture = rgb(image, location)
    if turn is not None:
        return picture.transpose(turn)
    return picture


def _eight_bits(image: Image.Image) -> Image.Image:
    tags = getattr(image, "tag_v2", {})
    white = 2 ** tags.get(258, (16,))[0] - 1  # a TIFF may hold 12 bits
    values = np.asarray(image).astype(np.int64)
    if tags.get(262) == 0:  # white is zero: Pillow inverts that for 8 bits only
        values = white - values
    return Image.fromarray(((values * 255 + white // 2) // white).astype(np.uint8))


def _draw(document: pypdfium2.PdfDocument, number: int, dpi: float, location: str) -> Image.Image:
    import pypdfium2

    try:
        page = document[number - 1]
        try:
            width, height = (max(1, round(points * dpi / 72)) for points in page.get_size())
            if width * height > (Image.MAX_IMAGE_PIXELS or float("inf")):
                raise ImageError(f"{location}: {width}x{height} pixels at {dpi} dpi; use a lower dpi")
            bitmap = page.render(scale=dpi / 72)
            try:
                return bitmap.to_pil().convert("RGB")
            finally:
                bitmap.close()
        finally:
            page.close()
    except pypdfium2.PdfiumError as error:
        raise ImageError(f"{location}: cannot be drawn ({error}); repair it or leave it out") from error


def _grids(min_crops: int, max_crops: int) -> list[tuple[int, int]]:
    """All (columns, rows) of that many tiles, ordered by their product, then by columns."""
    counts = range(1, max_crops + 1)
    pairs = [(c, r) for c in counts for r in counts if min_crops <= c * r <= max_crops]
    return sorted(pairs, key=lambda pair: pair[0] * pair[1])


def _check_count(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ImageError(f"{name}: {value!r}; expected a whole number, at least {least}")
