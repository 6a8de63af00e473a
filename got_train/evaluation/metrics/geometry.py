r"""How like two drawings in TikZ are: as text, as tokens, and as the pictures that pdfLaTeX sets.

Answers are programs of strangers: TeX runs without a shell, reads and writes only where it is, and not long.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

import numpy
from rapidfuzz.distance import Levenshtein

from .values import Value, Values, means

DRAWN = ("compiles", "ssim", "pixel_equal")
SECONDS = 20.0  # for one drawing; a second is usual
SCALE = 2.0  # pixels a point
LARGEST = 2000.0  # points of a page's side
WINDOW = 7  # of SSIM, uniform
LIBRARIES = "angles,arrows,arrows.meta,backgrounds,calc,decorations.markings,intersections,patterns,quotes"
DOCUMENT = r"""\documentclass[tikz,border=2pt]{standalone}
\usepackage{tikz}
%s
\begin{document}
%s
\end{document}
"""
# as DeTikZify cuts it
_TOKEN = re.compile(r"\\[a-zA-Z]+|\\.|[{}\[\]]|[^\s\\{}\[\]]+")
_DRAWING = re.compile(
    r"\\begin\{tikzpicture\}.*\\end\{tikzpicture\}|\\(?:begin\{tikzpicture\}|tikz\b).*", re.DOTALL
)
_COMMENT = re.compile(r"(?<!\\)%[^\n]*")


def score(prediction: str, reference: str) -> Values:
    """geometry_edit, geometry_token_edit, compiles, ssim, pixel_equal; what does not compile has ssim 0."""
    values: dict[str, Value] = {
        "geometry_edit": Levenshtein.normalized_distance(prediction, reference),
        "geometry_token_edit": Levenshtein.normalized_distance(tokens(prediction), tokens(reference)),
    }
    reason = unavailable()
    if reason is not None:
        return Values(values | dict.fromkeys(DRAWN), dict.fromkeys(DRAWN, reason))
    found, expected = picture(prediction), picture(reference)
    if expected is None:
        values |= {"compiles": found is not None, "ssim": None, "pixel_equal": None}
        return Values(values, dict.fromkeys(("ssim", "pixel_equal"), "the reference does not compile"))
    return Values(values | {"compiles": found is not None} | _compared(found, expected))


averages = means


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


def ssim(first: numpy.ndarray, second: numpy.ndarray) -> float:
    """Structural similarity of two grey pictures of one size, as scikit-image has it."""
    from scipy.ndimage import uniform_filter

    def mean(picture: numpy.ndarray) -> numpy.ndarray:
        return uniform_filter(picture, WINDOW)

    first, second = first.astype(numpy.float64), second.astype(numpy.float64)
    sample = WINDOW**2 / (WINDOW**2 - 1)
    means = mean(first), mean(second)
    own = sample * (mean(first * first) - means[0] ** 2), sample * (mean(second * second) - means[1] ** 2)
    shared = sample * (mean(first * second) - means[0] * means[1])
    light, contrast = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    similar = (2 * means[0] * means[1] + light) * (2 * shared + contrast)
    similar /= (means[0] ** 2 + means[1] ** 2 + light) * (own[0] + own[1] + contrast)
    edge = WINDOW // 2
    return float(similar[edge:-edge, edge:-edge].mean())


def _compared(found: numpy.ndarray | None, expected: numpy.ndarray) -> dict[str, Value]:
    """Of pictures of different sizes the smaller one is continued in white, to the right and below."""
    if found is None:
        return {"ssim": 0.0, "pixel_equal": False}
    same = found.shape == expected.shape and bool((found == expected).all())
    size = [max(WINDOW, *sides) for sides in zip(found.shape, expected.shape, strict=True)]
    sides = []
    for side in (found, expected):
        sides.append(numpy.full(size, 255, side.dtype))
        sides[-1][: side.shape[0], : side.shape[1]] = side
    return {"ssim": ssim(*sides), "pixel_equal": same}


def _preamble(text: str) -> str:
    named = re.findall(r"\\usetikzlibrary\s*\{[^{}]*\}", text)
    plots = r"\usepackage{pgfplots}" if "\\begin{axis}" in text else ""
    return "\n".join([rf"\usetikzlibrary{{{LIBRARIES}}}", plots, *named])


def compiled(source: Path, seconds: float, program: str = "pdflatex") -> bool:
    """Whether TeX sets a file, as a PDF beside it."""
    command = [program, "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", source.name]
    environment = {**os.environ, "openin_any": "p", "openout_any": "p", "shell_escape": "f"}
    with subprocess.Popen(
        command,
        cwd=source.parent,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_limit,
    ) as process:
        try:
            return process.wait(seconds) == 0 and source.with_suffix(".pdf").is_file()
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return False


def _limit() -> None:
    """A loop that writes must not fill the disk."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 2**20, 64 * 2**20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


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
