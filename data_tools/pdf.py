"""Pages of PDF files that carry their text: pictures with plain text and the boxes of lines and paragraphs.

Damaged files, scans and pages with a broken text layer are left out and counted by cause.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_tools import corpora, output, regions, textlayer

if TYPE_CHECKING:
    import numpy
    import pypdfium2

TASKS = ("ocr", "box", "color")
PIECE = 4  # characters; shorter lines are pieces of formulas, tables and figures
MOST_PIECES = 0.3  # of the lines; on a page with more, neither boxes nor order can be trusted


class PdfError(ValueError):
    """A folder without a page to read."""


@dataclass(frozen=True)
class PdfEngine:
    """Page by page through the files, in the order of their names."""

    folder: Path
    pages: tuple[tuple[str, int], ...]  # file under the folder, page from 0
    tasks: tuple[str, ...]
    dpi: int
    longest: int | None
    least_characters: int
    suffix: str = "jpg"
    name: str = "pdf"
    attempts: int = 1

    def rows(self, index: int, rng: numpy.random.Generator) -> list[output.Row]:
        import pypdfium2

        file, number = self.pages[index]
        try:
            page = _document(self.folder / file)[number]
            scale = self.longest / max(page.get_size()) if self.longest else self.dpi / 72
            image = page.render(scale=scale).to_pil().convert("RGB")
        except pypdfium2.PdfiumError:
            raise output.Rejected("damaged page") from None
        try:
            lines = textlayer.read_lines(page, *image.size)
            textlayer.check_ink(image, lines)
        except textlayer.TextLayerError as error:
            raise output.Rejected(str(error)) from None
        if sum(len(line.text) for line in lines) < self.least_characters:
            raise output.Rejected("few characters")
        if sum(len(line.text) < PIECE for line in lines) > MOST_PIECES * len(lines):
            raise output.Rejected("many small pieces (formulas, tables, figures)")
        paragraphs = [list(paragraph.lines) for paragraph in textlayer.group_paragraphs(lines)]
        meta = {"file": file, "page": number + 1}
        drawn = regions.Page(image, lines, paragraphs, meta=meta)
        return drawn.rows(self.name, index, self.tasks, self.suffix, rng)


@functools.lru_cache(maxsize=1)
def _document(path: Path) -> pypdfium2.PdfDocument:
    import pypdfium2

    return pypdfium2.PdfDocument(path)


def find_pages(folder: Path, split: str) -> tuple[tuple[tuple[str, int], ...], Counter[str]]:
    """The pages of all PDFs under the folder that fall on this side, and the files left out by cause."""
    import pypdfium2

    if not folder.is_dir():
        raise PdfError(f"--pdfs {folder}: no such folder; give the folder that holds the PDF files")
    pages: list[tuple[str, int]] = []
    left_out: Counter[str] = Counter()
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() != ".pdf" or not path.is_file():
            continue
        name = path.relative_to(folder).as_posix()
        if split != "all" and corpora.split_of(name) != split:
            continue
        try:
            with pypdfium2.PdfDocument(path) as document:
                pages += [(name, number) for number in range(len(document))]
        except pypdfium2.PdfiumError as error:
            left_out["locked by a password" if "assword" in str(error) else "damaged"] += 1
    if not pages:
        raise PdfError(
            f"--pdfs {folder}: no page in {sum(left_out.values())} files; give a folder with *.pdf files"
        )
    return tuple(pages), left_out


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    options = argparse.ArgumentParser(
        prog="python -m data_tools.pdf", description="Write the pages of PDF files as records."
    )
    options.add_argument(
        "--pdfs", type=Path, required=True, help="folder with *.pdf files, also in its subfolders"
    )
    output.add_arguments(options, shard_pages=250, counted=None)
    options.add_argument(
        "--split", choices=("all", *corpora.SPLITS), default="all", help="side, by file name (default: all)"
    )
    options.add_argument(
        "--tasks", type=output.one_of(TASKS), default=("ocr",), help="ocr,box,color (default: ocr)"
    )
    options.add_argument("--dpi", type=output.positive, default=144, help="(default: %(default)s)")
    options.add_argument(
        "--longest", type=output.positive, help="pixels of the longer side, instead of --dpi"
    )
    options.add_argument(
        "--least_characters", type=output.positive, default=50, help="of a page worth reading (default: 50)"
    )
    options.add_argument("--image", choices=("jpg", "png"), default="jpg", help="(default: %(default)s)")
    return options


def make(args: argparse.Namespace) -> dict[str, Any]:
    """Records as the options ask; returns the counts."""
    pages, left_out = find_pages(args.pdfs, args.split)
    engine = PdfEngine(
        args.pdfs, pages, args.tasks, args.dpi, args.longest, args.least_characters, args.image
    )
    counts = Counter(file for file, _ in pages)
    sizes = {file: [count, (args.pdfs / file).stat().st_size] for file, count in sorted(counts.items())}
    summary = output.write(engine, args, len(pages), pdfs=sizes, redrawn=False)
    return summary | {"left_out": dict(left_out)}


def main(arguments: list[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    return output.run(lambda: make(args))


if __name__ == "__main__":
    sys.exit(main())
