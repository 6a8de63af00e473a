"""TikZ as answers: tokens, and the picture that LaTeX makes in a closed process."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

import numpy

from .subprocesses import run

SECONDS = 20.0  # for one drawing; a second is usual
SCALE = 2.0  # pixels a point
LARGEST = 2000.0  # points of a page's side
LIBRARIES = "angles,arrows,arrows.meta,backgrounds,calc,decorations.markings,intersections,patterns,quotes"
DOCUMENT = r"""\documentclass[tikz,border=2pt]{standalone}
\usepackage{tikz}
%s
\begin{document}
%s
\end{document}
"""
TIKZPICTURE = re.compile(r"\\begin\{tikzpicture\}.*?(?:\\end\{tikzpicture\}|\Z)", re.DOTALL)
# as DeTikZify cuts it
_TOKEN = re.compile(r"\\[a-zA-Z]+|\\.|[{}\[\]]|[^\s\\{}\[\]]+")
_DRAWING = re.compile(
    r"\\begin\{tikzpicture\}.*\\end\{tikzpicture\}|\\(?:begin\{tikzpicture\}|tikz\b).*", re.DOTALL
)
_COMMENT = re.compile(r"(?<!\\)%[^\n]*")


def unavailable() -> str | None:
    """Why drawings cannot be set; None if they can."""
    if shutil.which("pdflatex") is None:
        return "pdflatex is not installed"
    for file in ("standalone.cls", "tikz.sty"):
        if shutil.which("kpsewhich") and not _finds(file):
            return f"LaTeX has no {file}"
    return None


def tokens(text: str) -> list[str]:
    """Commands, braces and what stands between them, without comments."""
    return _TOKEN.findall(_COMMENT.sub("", text))


@lru_cache(maxsize=64)
def picture(text: str, seconds: float = SECONDS) -> numpy.ndarray | None:
    """The drawing in grey; None if it does not compile, takes too long or is larger than a page can be."""
    match = _DRAWING.search(text)
    if match is None or re.search("[\0\ud800-\udfff]", text):
        return None
    with tempfile.TemporaryDirectory(prefix="geometry-") as folder:
        source = Path(folder) / "drawing.tex"
        source.write_text(DOCUMENT % (_preamble(text), match[0]), "utf-8")
        return _rendered(source.with_suffix(".pdf")) if compiled(source, seconds) else None


def _preamble(text: str) -> str:
    named = re.findall(r"\\usetikzlibrary\s*\{[^{}]*\}", text)
    plots = r"\usepackage{pgfplots}" if "\\begin{axis}" in text else ""
    return "\n".join([rf"\usetikzlibrary{{{LIBRARIES}}}", plots, *named])


def compiled(source: Path, seconds: float, program: str = "pdflatex") -> bool:
    """Whether TeX sets a file, as a PDF beside it."""
    command = [program, "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", source.name]
    environment = {**os.environ, "openin_any": "p", "openout_any": "p", "shell_escape": "f"}
    ended = run(command, seconds=seconds, folder=source.parent, environment=environment)
    return ended.code == 0 and source.with_suffix(".pdf").is_file()


def _rendered(file: Path) -> numpy.ndarray | None:
    import pypdfium2

    document = pypdfium2.PdfDocument(file)
    try:
        page = document[0]
        if max(page.get_size()) > LARGEST:
            return None
        return numpy.asarray(page.render(scale=SCALE).to_pil().convert("L"))
    finally:
        document.close()


@lru_cache
def _finds(file: str) -> bool:
    return subprocess.run(["kpsewhich", file], capture_output=True, check=False).returncode == 0
