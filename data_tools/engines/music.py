"""Sheet music as records of the task format: single systems of **kern on one or two staves.

verovio (LGPL, optional) engraves them in a process of its own, because it aborts on broken texts; what is
composed or cut is data_tools.text.kern's matter.
"""

from __future__ import annotations

import argparse
import functools
import io
import multiprocessing
import os
import re
import signal
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_tools import arguments, produce
from data_tools.drawing import degrade
from data_tools.drawing.fonts import ShaperError, find_fonts, font_for, missing
from data_tools.text import corpora, kern, phrases
from got_train.errors import DrawingError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess

    import numpy
    from PIL import Image

FONTS = ("Leipzig", "Bravura", "Gootville", "Leland", "Petaluma")
SECONDS = 60.0  # for one system; the first one waits for verovio to load
STAFF_UNITS = 0.18  # pixels between two staff lines at verovio's scale 1
WIDEST = 130  # spaces between staff lines, in which a system must fit so that a square view shows its notes
PAPERS = (
    (255, 255, 255),
    (255, 252, 240),
    (250, 245, 228),
    (244, 236, 214),
    (246, 246, 243),
    (240, 243, 247),
)
DEFAULT_FONTS = "Caladea-Regular,DejaVuSerif,Lato-Regular,SourceSerifPro-Regular,STIXGeneral"


@dataclass(frozen=True)
class MusicEngine:
    """Systems as records of the task format, one a picture."""

    documents: tuple[corpora.Document, ...]  # of titles and authors
    fonts: tuple[Path, ...]
    staves: tuple[int, ...]
    bars: tuple[int, int]
    titled: float  # share of the pictures with a title or an author, which the target does not tell
    scores: tuple[kern.Score, ...] = ()  # cut from these instead of composed
    degrade: float = 0.0  # share of the pictures
    name: str = "music"
    attempts: int = 100

    def rows(self, index: int, rng: numpy.random.Generator) -> list[produce.Row]:
        text, source = self._text(rng)
        look = _look(rng)
        image = _engraved(text, look)
        gap = STAFF_UNITS * look["scale"]
        image, heading = self._on_paper(image, gap, rng)
        image, damage = degrade.apply(image, rng, self.degrade, 2 * gap)
        meta = {"source": source, "staff_gap": round(gap, 1), **look, **heading}
        meta |= {"degrade": damage} if damage else {}
        picture = produce.Picture(f"{index:08d}.png", produce.encode(image, "png"))
        return [produce.Row(f"{self.name}-{index:08d}", (picture,), "format", text, meta=meta)]

    def _text(self, rng: numpy.random.Generator) -> tuple[str, str]:
        bars = int(rng.integers(self.bars[0], self.bars[1] + 1))
        if not self.scores:
            return kern.compose(bars, self.staves[int(rng.integers(len(self.staves)))], rng), "composed"
        score = self.scores[int(rng.integers(len(self.scores)))]
        first = int(rng.integers(max(1, len(score.bars) - bars + 1)))
        return score.system(first, bars), f"{score.name}:{first + 1}"

    def _on_paper(
        self, system: Image.Image, gap: float, rng: numpy.random.Generator
    ) -> tuple[Image.Image, dict[str, Any]]:
        """The system on paper of some colour, with room around it and perhaps a title and an author above."""
        from PIL import Image, ImageChops

        margins = [int(gap * part) for part in rng.uniform((0.5, 0.5, 1, 0.5), (5, 5, 5, 6))]
        heading = self._heading(rng)
        size = int(2.2 * gap)
        above = margins[2] + (int(2.4 * size) if heading else 0)
        # a strip would be pulled to many times its height in the square view
        least = system.width // 4
        height = max(system.height + above + margins[3], least)
        shape = (system.width + margins[0] + margins[1], height)
        sheet = Image.new("L", shape, 255)
        sheet.paste(system, (margins[0], above + (height - system.height - above - margins[3]) // 2))
        font = self._write(sheet, heading, size, margins[2], rng) if heading else ""
        paper = PAPERS[int(rng.integers(len(PAPERS)))] if rng.random() < 0.6 else PAPERS[0]
        meta = {"paper": list(paper)} | ({"heading": list(heading), "heading_font": font} if heading else {})
        if paper == PAPERS[0]:
            return sheet, meta
        return ImageChops.multiply(sheet.convert("RGB"), Image.new("RGB", shape, paper)), meta

    def _heading(self, rng: numpy.random.Generator) -> tuple[str, ...]:
        if rng.random() >= self.titled:
            return ()
        title = phrases.name(self.documents, (1, 4), rng, True) if rng.random() < 0.8 else ""
        author = (
            phrases.name(self.documents, (2, 2), rng, True).title() if rng.random() < 0.7 or not title else ""
        )
        return title, author

    def _write(
        self, sheet: Image.Image, heading: tuple[str, ...], size: int, top: int, rng: numpy.random.Generator
    ) -> str:
        """The title in the middle, the author on the right; both smaller until they fit."""
        from PIL import ImageDraw

        able = [font for font in self.fonts if not missing(font, "".join(heading))]
        if not able:
            raise produce.Rejected("no font has all characters")
        font = able[int(rng.integers(len(able)))]
        draw = ImageDraw.Draw(sheet)
        title, author = heading
        right, below = sheet.width - size // 2, top // 2 + int(1.5 * size)
        places = (
            (title, size, sheet.width // 2, top // 2, "mt"),
            (author, int(0.7 * size), right, below, "rt"),
        )
        for text, height, x, y, anchor in places:
            try:
                face = font_for(text, font, height)
            except ShaperError as error:
                raise produce.Rejected(str(error)) from None
            if text and face.getlength(text) > 0.95 * sheet.width:
                raise produce.Rejected("a heading wider than the system")
            draw.text((x, y), text, font=face, fill=int(rng.integers(60)), anchor=anchor)
        return font.stem


def _look(rng: numpy.random.Generator) -> dict[str, Any]:
    """verovio's options that change how a system looks."""
    random = rng.random(6).tolist()
    return {
        "font": FONTS[int(rng.integers(len(FONTS)))],
        "scale": int(45 + 35 * random[0]),
        "spacingLinear": round(0.2 + 0.12 * random[1], 3),
        "spacingNonLinear": round(0.5 + 0.15 * random[2], 3),
        "staffLineWidth": round(0.13 + 0.1 * random[3], 3),
        "barLineWidth": round(0.2 + 0.3 * random[4], 3),
        "beamMaxSlope": (0, 10, 15, 20)[int(rng.integers(4))],
        "spacingStaff": int(6 + 8 * random[5]),
    }


def _engraved(text: str, look: dict[str, Any]) -> Image.Image:
    """The system as a grey picture, in which all notes, rests, ties and bars of the text were drawn."""
    from PIL import Image

    answer = _engraver().engrave(text, look)
    if "error" in answer:
        raise produce.Rejected(answer["error"])
    if answer["systems"] != 1 or answer["pages"] != 1:
        raise produce.Rejected("more than one system")
    expected = kern.counts(text)
    if {name: answer["drawn"][name] for name in expected} != expected:
        raise produce.Rejected("verovio draws other notes than the text has")
    image = Image.open(io.BytesIO(answer["png"])).convert("L")
    if image.width > WIDEST * STAFF_UNITS * look["scale"]:
        raise produce.Rejected("a system too wide for the view")
    return image


# The process that engraves.


class Engraver:
    """verovio in a process of its own, begun at the first text and again after it aborted."""

    def __init__(self) -> None:
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None
        self._owner = 0

    def engrave(self, text: str, look: dict[str, Any]) -> dict[str, Any]:
        """Picture and counts of what was drawn, or {"error": cause}."""
        for package in ("verovio", "resvg_py"):
            _version(package)
        pipe = self._running()
        try:
            pipe.send((text, look))
            if pipe.poll(SECONDS):
                return pipe.recv()
            cause = "verovio takes too long"
        except (EOFError, OSError):
            cause = "verovio aborts"
        self.close()
        return {"error": cause}

    def close(self) -> None:
        """End the process; the next text starts another one."""
        process, pipe, owned = self._process, self._pipe, self._owner == os.getpid()
        self._process = self._pipe = None
        if process is not None and owned:
            pipe.close()
            process.kill()
            process.join()

    def _running(self) -> Connection:
        if self._pipe is None or self._owner != os.getpid():
            context = multiprocessing.get_context("spawn")
            self._pipe, far = context.Pipe()
            # a daemon: ended with the process that asks, which would else wait for it to end by itself
            self._process = context.Process(target=_answer, args=(far,), daemon=True)
            self._process.start()
            far.close()  # so that the pipe ends with the process
            self._owner = os.getpid()
        return self._pipe


@functools.cache
def _engraver() -> Engraver:
    return Engraver()


@functools.cache
def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        raise DrawingError(f"{package}: not installed; `pip install verovio resvg_py` brings it") from None


def _answer(pipe: Connection) -> None:
    """Engraves until the asking process is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends this one
    while True:
        try:
            text, look = pipe.recv()
        except EOFError:
            return
        pipe.send(_engrave(text, look))


@functools.cache
def _toolkit() -> Any:
    import verovio

    verovio.enableLog(verovio.LOG_OFF)
    return verovio.toolkit()


def _engrave(text: str, look: dict[str, Any]) -> dict[str, Any]:
    import resvg_py

    toolkit = _toolkit()
    toolkit.resetOptions()
    options = {
        "inputFrom": "humdrum", "breaks": "none", "header": "none", "footer": "none", "pageWidth": 100000,
        "adjustPageWidth": True, "adjustPageHeight": True, "pageMarginLeft": 20, "pageMarginRight": 20,
        "pageMarginTop": 20, "pageMarginBottom": 20, "mnumInterval": 64, "xmlIdSeed": 1,
    }  # fmt: skip
    if not toolkit.setOptions(options | look):
        return {"error": "verovio refuses an option"}
    if not toolkit.loadData(text):
        return {"error": "verovio cannot read the text"}
    svg = toolkit.renderToSVG(1)
    if re.search(r"<text\b", svg):
        return {"error": "words in the system"}
    if 'visibility="hidden"' in svg:
        return {"error": "signs that are not shown"}
    drawn = {name: len(re.findall(rf'class="{name}[ "]', svg)) for name in ("note", "rest", "tie", "measure")}
    drawn["rest"] += len(re.findall(r'class="mRest[ "]', svg))
    return {
        "png": bytes(resvg_py.svg_to_bytes(svg_string=svg, background="white", skip_system_fonts=True)),
        "drawn": drawn,
        "systems": len(re.findall(r'class="system[ "]', svg)),
        "pages": toolkit.getPageCount(),
    }


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    options = arguments.CommandParser(
        prog="python -m data_tools.engines.music",
        description="Engrave single systems of **kern and write them as records of the task format.",
    )
    arguments.add_arguments(options, shard_pages=250, counted="systems")
    arguments.add_text_arguments(options)
    options.add_argument(
        "--kern",
        nargs="+",
        help="files and folders of .krn, cut into systems; else composed",
    )
    options.add_argument(
        "--staves", type=arguments.one_of(("1", "2")), default=("1", "2"), help="(default: 1,2)"
    )
    options.add_argument("--bars", type=arguments.span, default=(2, 6), help="of a system (default: 2-6)")
    options.add_argument(
        "--titled", type=degrade.share, default=0.3, help="share with a title or author above (default: 0.3)"
    )
    options.add_argument("--fonts", default=DEFAULT_FONTS, help="of titles: names, paths, folders, or all")
    degrade.add_arguments(options)
    return options


def make(args: argparse.Namespace) -> dict[str, Any]:
    """Records as the options ask; returns the counts."""
    versions = {package: _version(package) for package in ("verovio", "resvg_py")}
    staves = tuple(map(int, args.staves))
    scores = kern.read_scores(list(map(Path, args.kern)), staves, args.split) if args.kern else ()
    documents = corpora.documents(args.split, args.sources)
    engine = MusicEngine(
        documents=documents,
        fonts=tuple(find_fonts(args.fonts.split(","))),
        staves=staves,
        bars=args.bars,
        titled=args.titled,
        scores=scores,
        degrade=args.degrade,
        name=f"music-{args.split}",
    )
    return produce.write(engine, args, args.count, drawn_by=versions)


main = produce.command(parser, make)

if __name__ == "__main__":
    sys.exit(main())
