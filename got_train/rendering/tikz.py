r"""Drawings in TikZ as pictures, by pdfLaTeX (XeLaTeX for Chinese) without a shell and within limits.

Answers are programs of strangers: TeX may read its own files and those of a new folder, and write there.
"""

from __future__ import annotations

import io
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from got_train.errors import RenderingError
from got_train.formats.subprocesses import run
from got_train.formats.tikz import LIBRARIES, unavailable

from . import repair

SECONDS = 30.0  # for one drawing; one second is usual
MEMORY = 2 * 2**30
LONGEST = 100_000  # characters
SCALE = 2.5  # pixels a point, where no SVG can be made
LARGEST = 4000  # points of a side
_ENVIRONMENT = {  # TeX reads and writes nothing outside, and makes no fonts
    "openin_any": "p",
    "openout_any": "p",
    "shell_escape": "f",
    "MKTEXPK": "0",
    "max_print_line": "1000",
    "SOURCE_DATE_EPOCH": "0",
}
_DOCUMENT = r"""\documentclass[tikz,border=2pt]{standalone}
\usepackage{amsmath,amssymb}
%s
\begin{document}
%s
\end{document}
"""
_HAN = re.compile("[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef]")
_FONTS = ("Noto Serif CJK SC", "WenQuanYi Micro Hei", "LXGW WenKai", "AR PL UKai CN")
_FULL_WIDTH = {"\uff0c": ",", "\u3002": ".", "\uff1b": ";", "\uff08": "(", "\uff09": ")"}


@dataclass(frozen=True)
class Figure:
    """A drawing as bytes of an image, its kind (svg+xml or png), and what was mended for it."""

    data: bytes
    kind: str
    notes: tuple[str, ...]


def figure(source: str, seconds: float = SECONDS, as_png: bool = False) -> Figure:
    """The picture of one tikzpicture; of one that was cut off, of its whole commands."""
    if reason := unavailable():
        raise RenderingError(f"{reason}; `make data-tools` installs LaTeX")
    if len(source) > LONGEST or "\0" in source:
        raise RenderingError(f"{len(source):,} characters; expected at most {LONGEST:,}")
    mended = completed(source)
    try:
        return _set(mended.text, mended.notes, seconds, as_png)
    except RenderingError:
        plain = mended.text.translate(str.maketrans(_FULL_WIDTH))
        if plain == mended.text:
            raise
    note = "full-width signs are drawn as , . ; ( ), for TeX refuses them"
    return _set(plain, (*mended.notes, note), seconds, as_png)


def completed(source: str) -> repair.Mended:
    """A drawing that ends: half a command at the end becomes a comment, and what is open is closed."""
    if "\\end{tikzpicture}" in source:
        return repair.Mended(source)
    last = source.rfind(";") + 1
    rest = source[last:].strip()
    kept = source[:last] if last else source
    notes = [f"the last command has no end and is not drawn: {rest}"] if last and rest else []
    comment = "".join(f"\n% {line}" for line in rest.split("\n")) if notes else ""
    whole = repair.closed(kept)
    added = whole.text[len(kept) :]
    return repair.Mended(
        kept + comment + "\n" + added, (*notes, f"the drawing was cut off: {added} was added")
    )


def _set(source: str, notes: tuple[str, ...], seconds: float, as_png: bool) -> Figure:
    with tempfile.TemporaryDirectory(prefix="tikz-") as name:
        folder = Path(name)
        (folder / "drawing.tex").write_text(_document(source), encoding="utf-8")
        _compile(folder, seconds)
        if shutil.which("pdftocairo") and not as_png:
            ended = run(
                ["pdftocairo", "-svg", "drawing.pdf", "drawing.svg"],
                seconds=seconds,
                folder=folder,
                memory=MEMORY,
            )
            if ended.code == 0:
                return Figure((folder / "drawing.svg").read_bytes(), "svg+xml", notes)
        return Figure(_png(folder / "drawing.pdf"), "png", notes)


def _document(source: str) -> str:
    named = re.findall(r"\\usetikzlibrary\s*\{[^{}]*\}", source)
    plots = r"\usepackage{pgfplots}" if "\\begin{axis}" in source else ""
    lines = [rf"\usetikzlibrary{{{LIBRARIES},shapes,positioning}}", plots, *named]
    if _HAN.search(source):
        fonts = "".join(rf"\IfFontExistsTF{{{name}}}{{\setCJKmainfont{{{name}}}}}{{" for name in _FONTS)
        lines += [r"\usepackage{xeCJK}", fonts + "}" * len(_FONTS)]
    return _DOCUMENT % ("\n".join(lines), source)


def _compile(folder: Path, seconds: float) -> None:
    han = _HAN.search((folder / "drawing.tex").read_text(encoding="utf-8"))
    program = "xelatex" if han and shutil.which("xelatex") else "pdflatex"
    command = [program, "-no-shell-escape", "-interaction=nonstopmode", "-halt-on-error", "drawing.tex"]
    environment = _ENVIRONMENT | {"HOME": str(folder)}
    ended = run(command, seconds=seconds, folder=folder, memory=MEMORY, environment=environment)
    if ended.code is None:
        raise RenderingError(f"TeX takes longer than {seconds:g} seconds")
    if ended.code or not (folder / "drawing.pdf").is_file():
        log = ended.out.decode("utf-8", "replace")
        match = re.search(r"^! (.*)", log, re.MULTILINE)
        raise RenderingError(f"TeX refuses it: {match[1] if match else 'no page'}")


def _png(file: Path) -> bytes:
    import pypdfium2

    with pypdfium2.PdfDocument(file) as document:
        page = document[0]
        width, height = page.get_size()
        if max(width, height) > LARGEST:
            raise RenderingError(
                f"the drawing is {width:.0f} x {height:.0f} points; expected at most {LARGEST}"
            )
        kept = io.BytesIO()
        page.render(scale=min(SCALE, LARGEST / max(width, height))).to_pil().convert("RGB").save(kept, "PNG")
    return kept.getvalue()
