"""The programs that draw: found or named as missing, spoken to (node) or run in batches (LaTeX).

Knows no engine and no record; what is drawn and what it means is the caller's matter.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from data_tools import produce
from got_train.errors import DrawingError
from got_train.formats.subprocesses import run

if TYPE_CHECKING:
    import numpy
    from PIL import Image

NODE_FOLDER = Path(__file__).parents[1] / "node"
INSTALL = "`make data-tools` installs it"
NAMES = {
    "chromium": ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome"),
    "node": ("node", "nodejs"),
}
LATEX_SECONDS = 60.0  # for one run; a batch of 200 takes a few
NODE_SECONDS = 60.0  # for one answer; the first one waits for the script's packages to load
LARGEST_SIDE = 6000  # pixels of a page's picture; a wrong length in a source must not fill the memory
ATTEMPTS_AHEAD = 10  # of a page whose first ones are rejected before they are made
BORDER = 6.0  # points of paper around a snippet


class RendererError(DrawingError):
    """A program or package that is missing, or one that ended or stayed silent instead of answering."""


class Snippet(NamedTuple):
    """What LaTeX is to set on a page of its own."""

    tex: str
    preamble: str  # all before \begin{document}
    program: str = "pdflatex"
    dpi: int = 150


@dataclass(frozen=True)
class LatexPage:
    """What a snippet became: its picture, grey unless coloured, and the characters of its text layer."""

    image: Image.Image
    text: str


@dataclass(frozen=True)
class LatexFault:
    """Why a snippet has no page; `cause` has no numbers or names of the snippet in it, fit for counting."""

    cause: str
    message: str


def find_program(name: str) -> str:
    """The path of node, chromium, pdflatex, xelatex or any other program by its name."""
    for known in NAMES.get(name, (name,)):
        if path := shutil.which(known):
            return path
    raise RendererError(f"{name}: not found; {INSTALL}")


def find_package(name: str) -> Path:
    """The folder of an npm package of data_tools/node."""
    folder = NODE_FOLDER / "node_modules" / name
    if not (folder / "package.json").is_file():
        raise RendererError(f"npm package {name}: not found in data_tools/node; {INSTALL}")
    return folder


def program_version(name: str) -> str:
    """The first line of what a program says to --version."""
    command = [find_program(name), "--version"]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return said.splitlines()[0] if said else "unknown"


def package_version(name: str) -> str:
    """The version of an npm package of data_tools/node."""
    return str(json.loads((find_package(name) / "package.json").read_text(encoding="utf-8"))["version"])


@functools.cache
def find_tex_file(name: str) -> str:
    """The path of a TeX file such as multirow.sty."""
    done = subprocess.run([find_program("kpsewhich"), name], capture_output=True, text=True, check=False)
    if not done.stdout.strip():
        raise RendererError(f"{name}: not found by TeX; {INSTALL}")
    return done.stdout.strip()


def available(*names: str) -> bool:
    """Whether programs, npm packages ("npm:echarts") and TeX files ("tex:tikz.sty") are all there."""
    finders = {"npm": find_package, "tex": find_tex_file}
    try:
        for name in names:
            kind, _, rest = name.rpartition(":")
            finders.get(kind, find_program)(rest)
    except RendererError:
        return False
    return True


class Node:
    """A script of data_tools/node that answers JSON lines: {"id", ...} in, {"id", ...} out, in order.

    The process starts at the first question, again after it died, and in a forked process. A script
    says what is wrong with a question as {"error": text}; that is an answer, not a RendererError.
    """

    def __init__(self, script: str, packages: Sequence[str] = (), seconds: float = NODE_SECONDS) -> None:
        self.script = script
        self.packages = tuple(packages)
        self.seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._lines: SimpleQueue[bytes] = SimpleQueue()
        self._asked = 0

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """The script's answer; RendererError when it dies or takes longer than `seconds`."""
        process = self._running()
        self._asked += 1
        line = json.dumps({**question, "id": self._asked}) + "\n"
        try:
            process.stdin.write(line.encode())
            process.stdin.flush()
        except OSError:
            raise RendererError(self._death(process)) from None
        return self._answer(process)

    def close(self) -> None:
        """End the process; the next question starts another one."""
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            process.wait(2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._owner == os.getpid() and self._process.poll() is None:
            return self._process
        for package in self.packages:
            find_package(package)
        command = [find_program("node"), str(NODE_FOLDER / self.script)]
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, cwd=NODE_FOLDER
        )
        self._owner = os.getpid()
        self._lines = SimpleQueue()
        threading.Thread(target=_read_lines, args=(self._process.stdout, self._lines), daemon=True).start()
        atexit.register(self.close)
        return self._process

    def _answer(self, process: subprocess.Popen[bytes]) -> dict[str, Any]:
        end = time.monotonic() + self.seconds
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, end - time.monotonic()))
            except Empty:
                process.kill()
                process.wait()
                raise RendererError(f"{self.script}: no answer within {self.seconds:g} seconds") from None
            if not line:
                raise RendererError(self._death(process))
            try:
                answer = json.loads(line)
            except ValueError:
                continue  # a package that prints to stdout
            if isinstance(answer, dict) and answer.get("id") == self._asked:
                return answer

    def _death(self, process: subprocess.Popen[bytes]) -> str:
        process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").splitlines()
        said = [line.strip() for line in lines if re.match(r"\w*Error\b", line)] or [
            line for line in lines if line.strip()
        ]
        return f"{self.script}: ended with {process.returncode}: {said[0] if said else 'no message'}"


def _read_lines(stream: Any, lines: SimpleQueue[bytes]) -> None:
    for line in stream:
        lines.put(line)
    lines.put(b"")


@functools.cache
def node(script: str, *packages: str) -> Node:
    """The one Node of a script in this process."""
    return Node(script, packages)


Wanted = TypeVar("Wanted")
Made = TypeVar("Made")


class Ahead(Generic[Wanted, Made]):
    """Makes in batches what an engine asks for one by one.

    `draw` says what page `index` wants, from its generator alone; `make` makes many at once, each as if it
    were alone. The first page of a batch brings along the first attempts of those behind it that can be
    drawn, so the bytes are the same whichever page is asked for first. A batch ends where `pages` end.
    """

    def __init__(
        self,
        engine: str,
        seed: int,
        batch: int,
        draw: Callable[[int, numpy.random.Generator], Wanted],
        make: Callable[[list[Wanted]], list[Made]],
    ) -> None:
        self._engine, self._seed, self._batch = engine, seed, batch
        self._draw, self._make = draw, make
        self.pages: range | None = None  # that are going to be asked for; None: all there are
        self._last = range(0)  # the batch at hand
        self._made: dict[Wanted, Made] = {}

    def get(self, index: int, rng: numpy.random.Generator) -> tuple[Wanted, Made]:
        drawing = self._draw(index, rng)
        if drawing not in self._made:
            todo = [drawing]
            if index not in self._last:  # else a page drawn again after a rejection, which comes alone
                self._made, self._last = {}, self._batch_of(index)
                todo = list(dict.fromkeys([drawing, *self._others(range(index + 1, self._last.stop))]))
            self._made |= zip(todo, self._make(todo), strict=True)
        return drawing, self._made[drawing]

    def _batch_of(self, index: int) -> range:
        start = self.pages.start if self.pages and index in self.pages else 0
        first = index - (index - start) % self._batch
        last = first + self._batch
        return range(first, min(last, self.pages.stop) if self.pages and index in self.pages else last)

    def _others(self, pages: range) -> list[Wanted]:
        others = []
        for other in pages:
            for attempt in range(ATTEMPTS_AHEAD):
                with contextlib.suppress(produce.Rejected):
                    others.append(
                        self._draw(other, produce.generator(self._seed, self._engine, other, attempt))
                    )
                    break
        return others


def latex_pages(
    snippets: Sequence[str],
    preamble: str,
    program: str = "pdflatex",
    *,
    dpi: int | Sequence[int] = 150,
    border: float = BORDER,
    seconds: float = LATEX_SECONDS,
) -> list[LatexPage | LatexFault]:
    """Each snippet set in a box on a page of its own size; a wrong one costs a run more, not the others.

    `preamble` is all before \\begin{document}. Errors, characters that the font lacks, fonts that are
    replaced and lines wider than their column are faults.
    """
    find_program(program)
    resolutions = [dpi] * len(snippets) if isinstance(dpi, int) else list(dpi)
    results: dict[int, LatexPage | LatexFault] = {}
    batches = [list(range(len(snippets)))]
    while batches:
        todo = [number for number in batches.pop() if number not in results]
        if not todo:
            continue
        run = _run_latex([(number, snippets[number]) for number in todo], preamble, program, border, seconds)
        if run.preamble_error:
            raise RendererError(f"{program}: the preamble fails: {run.preamble_error}")
        pages: dict[int, LatexPage | LatexFault] = dict(run.faults)
        if not pages and run.pdf is not None:
            pages = dict(_read_pages(run.pdf, todo, resolutions) or {})
        if not pages and len(todo) == 1:
            pages = {todo[0]: LatexFault("LaTeX makes no page", run.last_line)}
        results |= pages
        # nobody to blame: the halves will tell
        batches += [todo] if pages else [todo[len(todo) // 2 :], todo[: len(todo) // 2]]
    return [results[number] for number in range(len(snippets))]


def latex_pictures(snippets: Sequence[Snippet]) -> list[LatexPage | LatexFault]:
    """As latex_pages, with a run for each preamble and program among the snippets."""
    pictures: dict[Snippet, LatexPage | LatexFault] = {}
    for preamble, program in dict.fromkeys((snippet.preamble, snippet.program) for snippet in snippets):
        todo = [x for x in dict.fromkeys(snippets) if (x.preamble, x.program) == (preamble, program)]
        texts, resolutions = [snippet.tex for snippet in todo], [snippet.dpi for snippet in todo]
        pictures |= zip(todo, latex_pages(texts, preamble, program, dpi=resolutions), strict=True)
    return [pictures[snippet] for snippet in snippets]


def page_that_shows(page: LatexPage | LatexFault, characters: str, read: Callable[[str], str]) -> LatexPage:
    """The page if `read` finds these characters in its text layer; else the page is rejected."""
    if isinstance(page, LatexFault):
        raise produce.Rejected(page.cause)
    if read(page.text) != characters:
        raise produce.Rejected("text layer differs from the source")
    return page


PAGE_MACROS = r"""
\makeatletter
\nofiles
\tracinglostchars=3
\hfuzz=0.5pt
\def\SnippetState{\the\currentgrouplevel\ifvmode v\else h\fi}
\def\SnippetPage#1{%
  \immediate\write16{^^J[snippet #1 begins at \SnippetState]}%
  \setbox0=\hbox{\@@input #1.tex \unskip}%
  \immediate\write16{^^J[snippet #1 ends at \SnippetState]}%
  \pdfpagewidth=\dimexpr\wd0+\SnippetBorder+\SnippetBorder\relax
  \pdfpageheight=\dimexpr\ht0+\dp0+\SnippetBorder+\SnippetBorder\relax
  \hoffset=\dimexpr\SnippetBorder-1in\relax
  \voffset=\hoffset
  \shipout\box0 }
\makeatother
"""


@dataclass(frozen=True)
class _Run:
    faults: dict[int, LatexFault]
    pdf: bytes | None
    preamble_error: str
    last_line: str


def _run_latex(
    numbered: list[tuple[int, str]], preamble: str, program: str, border: float, seconds: float
) -> _Run:
    with tempfile.TemporaryDirectory(prefix="latex-") as name:
        folder = Path(name)
        for number, snippet in numbered:
            (folder / f"{number}.tex").write_text(snippet.strip() + "\n", encoding="utf-8")
        pages = "\n".join(f"\\SnippetPage{{{number}}}" for number, _ in numbered)
        source = f"{preamble}\n\\newcommand*\\SnippetBorder{{{border:g}pt}}{PAGE_MACROS}"
        source += f"\\begin{{document}}\n{pages}\n\\end{{document}}\n"
        (folder / "main.tex").write_text(source, encoding="utf-8")
        in_time, log = _run_program(folder, program, seconds)
        output = folder / "main.pdf"
        pdf = output.read_bytes() if in_time and output.exists() else None
    return _read_log(log, pdf, in_time)


def _run_program(folder: Path, program: str, seconds: float) -> tuple[bool, str]:
    command = [find_program(program), "-no-shell-escape", "-interaction=nonstopmode", "-file-line-error"]
    # long lines, no files outside the folder, no bitmap fonts
    environment = os.environ | {
        "max_print_line": "100000", "error_line": "254", "half_error_line": "238",
        "openin_any": "p", "openout_any": "p", "MKTEXPK": "0",
    }  # fmt: skip
    ended = run([*command, "main.tex"], seconds=seconds, folder=folder, environment=environment)
    return ended.code is not None, ended.out.decode("utf-8", "replace")


# pattern of the log -> cause
COMPLAINTS = (
    (re.compile(r"^.*Missing character.*", re.M), "font lacks a character"),
    (re.compile(r"^(?:\S+\.\w+:\d+:|!) .*", re.M), "LaTeX error"),
    (re.compile(r"^LaTeX Font Warning: (?:Font shape|Some font shapes|Command).*", re.M), "font replaced"),
    (re.compile(r"^Overfull \\[hv]box.*", re.M), "line wider than its column"),
)  # fmt: skip


def _read_log(log: str, pdf: bytes | None, in_time: bool) -> _Run:
    """Who is to blame: every snippet with a complaint, up to one that left a group open or never ended."""
    before, *parts = re.split(r"^\[snippet (\d+) begins at (\w+)\]$", log, flags=re.M)
    closing = ("Transcript", "Output")
    lines = [line for line in log.splitlines() if line.strip() and not line.startswith(closing)]
    last_line = lines[-1] if lines else ""
    error = _complaint(before, errors_only=True)
    if error or not parts:
        return _Run({}, None, error.message if error else last_line, last_line)
    faults: dict[int, LatexFault] = {}
    for number, state, said in zip(map(int, parts[::3]), parts[1::3], parts[2::3], strict=True):
        end = re.search(r"^\[snippet \d+ ends at (\w+)\]$", said, re.M)
        if fault := _complaint(said):
            faults[number] = fault
        if end is None:
            cause = "LaTeX error" if in_time else "LaTeX takes too long"
            faults.setdefault(number, LatexFault(cause, last_line))
        elif end[1] != state:
            faults.setdefault(number, LatexFault("LaTeX error", "a group or line is left open"))
        if end is None or end[1] != state:
            break
    return _Run(faults, pdf, "", last_line)


def _complaint(said: str, errors_only: bool = False) -> LatexFault | None:
    for pattern, cause in COMPLAINTS[:2] if errors_only else COMPLAINTS:
        if match := pattern.search(said):
            return LatexFault(cause, match[0].strip())
    return None


def _read_pages(
    pdf: bytes, todo: list[int], resolutions: list[int]
) -> dict[int, LatexPage | LatexFault] | None:
    """The pages of a run without complaints; None when they are not one for each snippet."""
    import pypdfium2

    try:
        with pypdfium2.PdfDocument(pdf) as document:
            if len(document) != len(todo):
                return None
            return {n: _read_page(document[index], resolutions[n]) for index, n in enumerate(todo)}
    except pypdfium2.PdfiumError:
        return None


def _read_page(page: Any, dpi: int) -> LatexPage | LatexFault:
    scale = dpi / 72
    longest = max(page.get_width(), page.get_height()) * scale
    if longest > LARGEST_SIDE:
        return LatexFault("picture too large", f"{longest:.0f} pixels")
    layer = page.get_textpage()
    text = layer.get_text_range()
    layer.close()
    image = page.render(scale=scale).to_pil()
    grey = image.convert("L")
    darkest, lightest = grey.getextrema()
    if lightest - darkest < 24:
        return LatexFault("nothing to be seen", "the page is empty")
    return LatexPage(image if _coloured(image) else grey, text)


def _coloured(image: Image.Image) -> bool:
    from PIL import ImageChops

    red, green, blue = image.split()
    return any(ImageChops.difference(green, other).getbbox() for other in (red, blue))
