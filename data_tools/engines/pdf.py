"""Pages of PDF files that carry their text: pictures with plain text and the boxes of lines and paragraphs.

Damaged files, scans, pages with a broken text layer or dense mathematics are left out and counted by cause.
"""

from __future__ import annotations

import argparse
import atexit
import ctypes
import functools
import re
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_tools import arguments, produce
from data_tools.drawing import degrade, text_layer
from data_tools.text import corpora, packages
from got_train.errors import DrawingError

from . import regions

if TYPE_CHECKING:
    import numpy
    import pypdfium2

TASKS = ("ocr", "box", "color", "slices")
PIECE = 4  # characters; shorter lines are pieces of formulas, tables and figures
MOST_PIECES = 0.3  # of the lines; on a page with more, neither boxes nor order can be trusted
MATH_FONT = re.compile(
    r"(^|\+)(CMMI|CMSY|CMEX|CMBSY|MSAM|MSBM|EUFM|EUSM|RSFS|LMMATH|MTMI|MTSY|MTEX|TXSY|TXMI|PXSY|PXMI|WASY|STMARY)"
    r"|MATH|SYMBOL",
    re.IGNORECASE,
)
MATH_CODES = ((0x2190, 0x2210), (0x2213, 0x23FF), (0x27C0, 0x27EF), (0x2A00, 0x2AFF), (0x1D400, 0x1D7FF))
NOT_MATH = (0x2022, 0x2E)  # bullets, and the dots of a table of contents, which TeX takes from such fonts
SLICE_PAD = 4  # pixels of paper around a slice, where no other text stands


@dataclass(frozen=True, kw_only=True)
class PdfEngine:
    """Page by page through the files, in the order of their names."""

    folder: Path
    pages: tuple[tuple[str, int], ...]  # file under the folder, page from 0
    tasks: tuple[str, ...]
    dpi: int
    longest: int | None  # pixels of the longer side, instead of dpi
    least_characters: int  # of a page worth reading
    suffix: str = "jpg"
    name: str = "pdf"
    attempts: int = 1
    most_math: float = 1.0  # share of the characters of a page
    slices: int = 4  # of a page
    degrade: float = 0.0  # share of pages and slices

    def rows(self, index: int, rng: numpy.random.Generator) -> list[produce.Row]:
        import pypdfium2

        file, number = self.pages[index]
        try:
            page = _document(self.folder / file)[number]
            scale = self.longest / max(page.get_size()) if self.longest else self.dpi / 72
            image = page.render(scale=scale).to_pil().convert("RGB")
        except pypdfium2.PdfiumError:
            raise produce.Rejected("damaged page") from None
        try:
            lines = text_layer.read_lines(page, *image.size)
            text_layer.check_ink(image, lines)
        except text_layer.TextLayerError as error:
            raise produce.Rejected(str(error)) from None
        if sum(len(line.text) for line in lines) < self.least_characters:
            raise produce.Rejected("few characters")
        if self.most_math < 1 and math_share(page) > self.most_math:
            raise produce.Rejected("dense mathematics")
        if sum(len(line.text) < PIECE for line in lines) > MOST_PIECES * len(lines):
            raise produce.Rejected("many small pieces (formulas, tables, figures)")
        paragraphs = [list(paragraph.lines) for paragraph in text_layer.group_paragraphs(lines)]
        meta = {"file": file, "page": number + 1}
        drawn = regions.Page(image, lines, paragraphs, meta=meta)
        tasks = tuple(task for task in self.tasks if task != "slices")
        rows = []
        if tasks:
            worse = drawn.degraded(rng, self.degrade, upright=tasks != ("ocr",))
            rows += worse.rows(self.name, index, tasks, self.suffix, rng)
        if "slices" in self.tasks:
            rows += self._slices(drawn, index, rng)
        return rows

    def _slices(self, page: regions.Page, index: int, rng: numpy.random.Generator) -> list[produce.Row]:
        """Lines and paragraphs cut out of the page, as many of each."""
        cuts = cuttable(page)
        kinds = [[cut for cut in cuts if cut[0].kind == kind] for kind in ("line", "paragraph")]
        rows = []
        for number in range(self.slices):
            own = kinds[number % 2] or kinds[0]
            if not own:
                raise produce.Rejected("no line or paragraph that stands alone")
            region, box = own.pop(int(rng.integers(len(own))))
            name = f"{index:08d}-slice{number}"
            em = min(line.em for line in page.lines if line.text in region.text)
            image, parameters = degrade.apply(page.image.crop(box), rng, self.degrade, em)
            picture = produce.Picture(f"{name}.{self.suffix}", produce.encode(image, self.suffix))
            meta = page.meta | {"kind": region.kind, "box": box}
            meta |= {"degrade": parameters} if parameters else {}
            rows.append(produce.Row(f"{self.name}-{name}", (picture,), "ocr", region.text, meta=meta))
            if not any(kinds):
                break
        return rows


def cuttable(page: regions.Page) -> list[tuple[regions.Region, text_layer.Box]]:
    """The lines and paragraphs of several characters that can be cut out with no other text beside them."""
    size = page.image.size
    known = [regions.Region(line.text, text_layer.pixel_box([line], *size), "line", 1) for line in page.lines]
    known += [
        regions.Region(
            "\n".join(line.text for line in own), text_layer.pixel_box(own, *size), "paragraph", len(own)
        )
        for own in page.paragraphs
        if len(own) > 1 and page.holds_its_lines(own, text_layer.pixel_box(own, *size))
    ]
    boxes = []
    for region in known:
        for pad in (SLICE_PAD, 2, 0):
            box = padded(region.box, pad, size)
            if len(region.text) >= PIECE and regions.alone(region, known, box, least=0.05):
                boxes.append((region, box))
                break
    return boxes


def padded(box: text_layer.Box, pad: int, size: tuple[int, int]) -> text_layer.Box:
    return max(0, box[0] - pad), max(0, box[1] - pad), min(size[0], box[2] + pad), min(size[1], box[3] + pad)


def math_share(page: pypdfium2.PdfPage) -> float:
    """The share of a page's visible characters that are set in a font for mathematics, or are its symbols."""
    from pypdfium2 import raw

    layer = page.get_textpage()
    try:
        codes = [raw.FPDFText_GetUnicode(layer, index) for index in range(raw.FPDFText_CountChars(layer))]
        visible = [index for index, code in enumerate(codes) if code > 0x20]
        math = sum(_is_math(layer, index, codes[index]) for index in visible)
    finally:
        layer.close()
    return math / max(1, len(visible))


def _is_math(layer: pypdfium2.PdfTextPage, index: int, code: int) -> bool:
    from pypdfium2 import raw

    if code in NOT_MATH:
        return False
    if any(low <= code <= high for low, high in MATH_CODES):
        return True
    name, flags = ctypes.create_string_buffer(128), ctypes.c_int()
    length = raw.FPDFText_GetFontInfo(layer, index, name, 128, flags)
    return 0 < length <= 128 and _names_math_font(name.value)


@functools.lru_cache(maxsize=4096)
def _names_math_font(name: bytes) -> bool:
    return MATH_FONT.search(name.decode("latin-1")) is not None


_open: dict[Path, pypdfium2.PdfDocument] = {}  # one at most, as pages of a file follow each other


def _document(path: Path) -> pypdfium2.PdfDocument:
    """The file, open until a page of another one is asked for or the process ends."""
    import pypdfium2

    if path not in _open:
        _close()
        atexit.unregister(_close)
        atexit.register(_close)  # after pdfium's import, so before it closes itself
        _open[path] = pypdfium2.PdfDocument(path)
    return _open[path]


def _close() -> None:
    while _open:
        _open.popitem()[1].close()


def find_pages(folder: Path, split: str) -> tuple[tuple[tuple[str, int], ...], Counter[str]]:
    """The pages of all PDFs under the folder that fall on this side, and the files left out by cause."""
    import pypdfium2

    if not folder.is_dir():
        raise DrawingError(f"--pdfs {folder}: no such folder; give the folder that holds the PDF files")
    packages.verify(folder)
    pages: list[tuple[str, int]] = []
    left_out: Counter[str] = Counter()
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() != ".pdf" or not path.is_file():
            continue
        name = path.relative_to(folder).as_posix()
        if split != "all" and corpora.side_of(path, folder) != split:
            continue
        try:
            with pypdfium2.PdfDocument(path) as document:
                pages += [(name, number) for number in range(len(document))]
        except pypdfium2.PdfiumError as error:
            left_out["locked by a password" if "assword" in str(error) else "damaged"] += 1
    if not pages:
        raise DrawingError(
            f"--pdfs {folder}: no page in {sum(left_out.values())} files; give a folder with *.pdf files"
        )
    return tuple(pages), left_out


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    options = arguments.CommandParser(
        prog="python -m data_tools.engines.pdf", description="Write the pages of PDF files as records."
    )
    options.add_argument(
        "--pdfs", type=Path, required=True, help="folder with *.pdf files, also in its subfolders"
    )
    arguments.add_arguments(options, shard_pages=250, counted=None)
    options.add_argument(
        "--split", choices=("all", *corpora.SPLITS), default="all", help="side, by file name (default: all)"
    )
    options.add_argument(
        "--tasks", type=arguments.one_of(TASKS), default=("ocr",), help="ocr,box,color,slices (default: ocr)"
    )
    options.add_argument("--dpi", type=arguments.positive, default=144, help="(default: %(default)s)")
    options.add_argument(
        "--longest", type=arguments.positive, help="pixels of the longer side, instead of --dpi"
    )
    options.add_argument(
        "--least-characters",
        type=arguments.positive,
        default=50,
        help="of a page worth reading (default: 50)",
    )
    options.add_argument(
        "--most-math", type=degrade.share, default=0.05,
        help="share of a page's characters in fonts for mathematics, 0-1 (default: %(default)s)",
    )  # fmt: skip
    options.add_argument(
        "--slices",
        type=arguments.positive,
        default=4,
        help="lines and paragraphs cut out of a page (default: 4)",
    )
    degrade.add_arguments(options)
    options.add_argument("--image", choices=("jpg", "png"), default="jpg", help="(default: %(default)s)")
    return options


def make(args: argparse.Namespace) -> dict[str, Any]:
    """Records as the options ask; returns the counts."""
    pages, left_out = find_pages(args.pdfs, args.split)
    engine = PdfEngine(
        folder=args.pdfs,
        pages=pages,
        tasks=args.tasks,
        dpi=args.dpi,
        longest=args.longest,
        least_characters=args.least_characters,
        suffix=args.image,
        most_math=args.most_math,
        slices=args.slices,
        degrade=args.degrade,
    )
    counts = Counter(file for file, _ in pages)
    sizes = {file: [count, (args.pdfs / file).stat().st_size] for file, count in sorted(counts.items())}
    summary = produce.write(engine, args, len(pages), pdfs=sizes, redrawn=False)
    return summary | {"left_out": dict(left_out)}


main = produce.command(parser, make)

if __name__ == "__main__":
    sys.exit(main())
