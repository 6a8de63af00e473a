r"""Pictures of formulas: made up or of the user's LaTeX, by MathJax or LaTeX, target \( \) or \[ \].

What a formula is made of stands in formula_grammar and tex_source; here is what becomes a picture of it.
"""

from __future__ import annotations

import argparse
import base64
import functools
import io
import re
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from data_tools import arguments, produce
from data_tools.drawing import degrade, fonts, renderers
from data_tools.text import corpora, tex_source
from data_tools.text.formula_grammar import Grammar
from got_train.errors import DrawingError

if TYPE_CHECKING:
    import numpy
    from PIL import Image

RENDERERS = ("mathjax", "latex")
SCRIPT, PACKAGES = "formulas.mjs", ("mathjax-full", "@resvg/resvg-js")
# what hides, moves or overprints ink: the picture would not show the target
HIDING = re.compile(
    r"\\(?:[hv]?phantom|smash|math[lrc]lap|[lrc]lap|llap|rlap|kern|mkern|mskip|hskip|hspace|raise|lower"
    r"|moveleft|moveright|rule|Rule|space|color|textcolor|href|tag|ref|eqref|cite|mathchoice|raisebox"
    r"|includegraphics|footnote|vspace|hfill|strut|mathstrut|newline|bbox|style|class|cssId|unicode)\b"
)
PREAMBLES = {  # of --renderer latex; the names stand in meta
    name: r"\documentclass[10pt]{article}\usepackage[T1]{fontenc}\usepackage{lmodern}"
    rf"\usepackage{{amsmath,amssymb,mathrsfs,bm}}{packages}"
    for name, packages in {
        "Latin Modern": "",
        "Times": r"\usepackage{mathptmx}",
        "Palatino": r"\usepackage{mathpazo}",
    }.items()
}
TEX_NEEDS = ("lmodern.sty", "amsmath.sty", "mathrsfs.sty", "bm.sty", "mathptmx.sty", "mathpazo.sty")
LATEX_EM = 10 * 72 / 72.27  # of a 10 pt font, in seventy-seconds of an inch
BATCH = 250  # pictures that LaTeX sets in a run
SHORTEST = 2  # tokens of a formula of the user's that is worth a picture
LONGEST = 1500  # characters
LEAST_EM = 11.0  # pixels that an em has left when the picture is made 1024 pixels large


class Wanted(NamedTuple):
    """The formulas of one picture and how they are to be set."""

    formulas: tuple[tex_source.Formula, ...]
    sources: tuple[str, ...]
    em: int  # pixels
    typeface: str


class Ink(NamedTuple):
    """A formula as a mask, 255 where the ink is full."""

    mask: Image.Image


@dataclass(frozen=True)
class FormulaEngine:
    """Pictures of one or several formulas under each other, as records of the task format."""

    formulas: tuple[tuple[str, tuple[tex_source.Formula, ...]], ...]  # of the user's files
    generated: float  # share of made up ones
    display: float  # share of display among those
    count: tuple[int, int]  # in a picture
    sizes: tuple[int, int]  # pixels of an em
    renderer: str
    seed: int
    chinese_font: Path | None = None
    degrade: float = 0.0
    suffix: str = "png"
    name: str = "formulas"
    attempts: int = 200

    def rows(self, index: int, rng: numpy.random.Generator) -> list[produce.Row]:
        if self.renderer == "latex":
            drawing, inks = self._ahead.get(index, rng)
        else:
            drawing = self._draw(index, rng)
            inks = tuple(self._by_mathjax(formula, drawing.em) for formula in drawing.formulas)
        masks = []
        for ink in inks:
            if isinstance(ink, str):
                raise produce.Rejected(ink)
            masks.append(ink.mask)
        image, look = compose(masks, drawing.em, rng)
        if drawing.em * 1024 / max(image.size) < LEAST_EM:
            raise produce.Rejected("formula too large to be read at 1024 pixels")
        image, worse = degrade.apply(image, rng, self.degrade, 0.7 * drawing.em)
        sources = list(dict.fromkeys(drawing.sources))
        meta = {"source": sources, "renderer": self.renderer, "font": drawing.typeface, "em": drawing.em}
        meta |= look | ({"degrade": worse} if worse else {})
        picture = produce.Picture(f"{index:08d}.{self.suffix}", produce.encode(image, self.suffix))
        text = "\n".join(target(formula) for formula in drawing.formulas)
        return [produce.Row(f"{self.name}-{index:08d}", (picture,), "format", text, meta=meta)]

    def expect(self, pages: range) -> None:
        self._ahead.pages = pages

    def _draw(self, index: int, rng: numpy.random.Generator) -> Wanted:
        em = int(rng.integers(self.sizes[0], self.sizes[1] + 1))
        typeface = "MathJax TeX"
        if self.renderer == "latex":
            typeface = list(PREAMBLES)[int(rng.integers(len(PREAMBLES)))]
        chosen = [self._formula(rng) for _ in range(int(rng.integers(self.count[0], self.count[1] + 1)))]
        for _, formula in chosen if self.renderer == "latex" else ():
            self._ask(formula, em, draw=False)  # a run that fails costs more than this question
        return Wanted(
            tuple(chosen_formula for _, chosen_formula in chosen),
            tuple(name for name, _ in chosen),
            em,
            typeface,
        )

    def _formula(self, rng: numpy.random.Generator) -> tuple[str, tex_source.Formula]:
        if not self.formulas or rng.random() < self.generated:
            latex = self.renderer == "latex"
            grammar = Grammar(int(rng.integers(2**62)), self._chinese, chemistry=not latex)
            display = rng.random() < self.display
            name, formula = (
                "generated",
                tex_source.Formula(grammar.formula() if display else grammar.inline(), display),
            )
        else:
            name, formulas = self.formulas[int(rng.integers(len(self.formulas)))]
            formula = formulas[int(rng.integers(len(formulas)))]
        if HIDING.search(formula.tex):
            raise produce.Rejected("formula with a command that hides or moves ink")
        if len(formula.tex) > LONGEST:
            raise produce.Rejected("formula too long")
        return name, formula

    @functools.cached_property
    def _chinese(self) -> str:
        return "".join(c for c in common_chinese() if self.chinese_font and fonts.draws(self.chinese_font, c))

    @functools.cached_property
    def _ahead(self) -> renderers.Ahead[Wanted, tuple[Ink | str, ...]]:
        return renderers.Ahead(self.name, self.seed, BATCH, self._draw, self._by_latex)

    def _ask(self, formula: tex_source.Formula, em: int, draw: bool = True) -> dict[str, Any]:
        font = {}
        if self.chinese_font:
            font = {"font": {"path": str(self.chinese_font), "family": family(self.chinese_font)}}
        question = {"tex": formula.tex, "display": formula.display, "em": em, "draw": draw, **font}
        answer = renderers.node(SCRIPT, *PACKAGES).ask(question)
        if "error" in answer:
            raise produce.Rejected("MathJax rejects it: " + without_names(answer["error"]))
        # what MathJax has no glyph for comes from another font, with widths that are guessed but for Han
        strange = [char for char in answer["text"] if not "\u4e00" <= char <= "\u9fff"]
        if strange or (answer["text"] and not self._drawn(answer["text"])):
            raise produce.Rejected("formula with a character that MathJax has no glyph for")
        return answer

    def _drawn(self, text: str) -> bool:
        return self.chinese_font is not None and not fonts.missing(self.chinese_font, text)

    def _by_mathjax(self, formula: tex_source.Formula, em: int) -> Ink:
        from PIL import Image

        data = base64.b64decode(self._ask(formula, em)["png"])
        with Image.open(io.BytesIO(data)) as image:
            mask = image.convert("RGBA").getchannel("A")
        box = mask.getbbox()
        if box is None:
            raise produce.Rejected("nothing to be seen")
        if box[0] == 0 or box[1] == 0 or box[2] == mask.width or box[3] == mask.height:
            raise produce.Rejected("ink outside of what MathJax takes for the formula")
        return Ink(mask.crop(box))

    def _by_latex(self, drawings: list[Wanted]) -> list[tuple[Ink | str, ...]]:
        snippets = [[_snippet(drawing, formula) for formula in drawing.formulas] for drawing in drawings]
        todo = list(dict.fromkeys(snippet for picture in snippets for snippet in picture))
        inks = dict(zip(todo, map(_page_ink, renderers.latex_pictures(todo)), strict=True))
        return [tuple(inks[snippet] for snippet in picture) for picture in snippets]


def _snippet(drawing: Wanted, formula: tex_source.Formula) -> renderers.Snippet:
    dpi = round(drawing.em * 72 / LATEX_EM)
    return renderers.Snippet(latex_snippet(formula), PREAMBLES[drawing.typeface], dpi=dpi)


def _page_ink(page: renderers.LatexPage | renderers.LatexFault) -> Ink | str:
    from PIL import ImageOps

    if isinstance(page, renderers.LatexFault):
        return page.cause
    mask = ImageOps.invert(page.image)
    box = mask.getbbox()
    if box is None or box[0] == 0 or box[1] == 0 or box[2] == mask.width or box[3] == mask.height:
        return "ink outside of the page"
    return Ink(mask.crop(box))


def target(formula: tex_source.Formula) -> str:
    """The formula as Mathpix markdown writes it."""
    return rf"\[{formula.tex}\]" if formula.display else rf"\({formula.tex}\)"


def latex_snippet(formula: tex_source.Formula) -> str:
    style = r"\displaystyle " if formula.display else ""
    return f"${style}{formula.tex}$"


def compose(
    masks: list[Image.Image], em: int, rng: numpy.random.Generator
) -> tuple[Image.Image, dict[str, Any]]:
    """Formulas under each other on light paper, left or centred, with a margin of half an em or more."""
    from PIL import Image

    random = rng.random(6).tolist()
    paper, ink = 255 - int(26 * random[0]), int(70 * random[1])
    gap = round(em * (0.9 + 1.2 * random[2]))
    margins = [round(em * (0.5 + 1.5 * part)) for part in random[3:5]]
    centred = random[5] < 0.4
    width = max(mask.width for mask in masks)
    height = sum(mask.height for mask in masks) + gap * (len(masks) - 1)
    image = Image.new("L", (width + 2 * margins[0], height + 2 * margins[1]), paper)
    top = margins[1]
    for mask in masks:
        image.paste(ink, (margins[0] + (width - mask.width) // 2 * centred, top), mask)
        top += mask.height + gap
    return image, {"paper": paper, "ink": ink, "margins": margins, "gap": gap, "centred": centred}


def without_names(message: str) -> str:
    """MathJax's complaint without what it complains of, so that complaints of a kind count together."""
    return re.sub(r"\\\\?[A-Za-z]+|'[^']*'|\d+", "...", message.split("\n")[0])[:60]


@functools.cache
def common_chinese() -> str:
    """The 3755 characters of GB 2312's first level."""
    codes = (bytes([row, column]) for row in range(0xB0, 0xD8) for column in range(0xA1, 0xFF))
    return "".join(code.decode("gb2312", "ignore") for code in codes)


@functools.cache
def family(path: Path) -> str:
    """The family name of a font file's first face."""
    from fontTools.ttLib import TTFont

    with TTFont(path, fontNumber=0, lazy=True) as font:
        return str(font["name"].getBestFamilyName())


def read_files(
    files: list[Path], split: str
) -> tuple[tuple[tuple[str, tuple[tex_source.Formula, ...]], ...], Counter[str]]:
    """The different formulas of the .tex files, each in the first file that has it, and what was left out.

    Folders are searched. Of a hundred papers one has macros that only TeX itself can follow.
    """
    paths = [path for file in files for path in (sorted(file.rglob("*.tex")) if file.is_dir() else [file])]
    seen: set[tex_source.Formula] = set()
    formulas, left_out = [], Counter[str]()
    for path in paths:
        if split != "all" and corpora.split_of(path.name) != split:
            continue
        try:
            read = list(tex_source.read_formulas(path))
        except tex_source.EndlessError:
            left_out["macros that expand without end"] += 1
            continue
        new = [formula for formula in dict.fromkeys(read) if formula not in seen and _worth(formula)]
        seen.update(new)
        if new:
            formulas.append((path.name, tuple(new)))
    if not formulas:
        raise DrawingError(
            f"--tex {', '.join(map(str, files))}: no formula in {len(paths)} files; give .tex files with some"
        )
    return tuple(formulas), left_out


def _worth(formula: tex_source.Formula) -> bool:
    return len(tex_source.tokens(formula.tex)) >= SHORTEST


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    options = arguments.CommandParser(
        prog="python -m data_tools.engines.formulas", description="Draw formulas and write them as records."
    )
    arguments.add_arguments(options, shard_pages=500, counted="pictures")
    options.add_argument(
        "--tex", type=Path, nargs="+", default=[], help=".tex files or folders to take formulas from"
    )
    options.add_argument(
        "--split",
        choices=("all", *corpora.SPLITS),
        default="all",
        help="side of --tex, by file name (default: all)",
    )
    options.add_argument(
        "--generated", type=degrade.share, help="share of made up formulas (default: 1, with --tex 0)"
    )
    options.add_argument(
        "--display", type=degrade.share, default=0.7, help="share among the made up (default: 0.7)"
    )
    options.add_argument("--formulas", type=arguments.span, default=(1, 1), help="in a picture (default: 1)")
    options.add_argument(
        "--font-size", type=arguments.span, default=(22, 48), help="pixels of an em (default: 22-48)"
    )
    options.add_argument("--renderer", choices=RENDERERS, default="mathjax", help="(default: %(default)s)")
    options.add_argument(
        "--chinese-font", help="name or file for Chinese in \\text; without it none is drawn"
    )
    options.add_argument("--image", choices=("jpg", "png"), default="png", help="(default: %(default)s)")
    degrade.add_arguments(options)
    return options


def make(args: argparse.Namespace) -> dict[str, Any]:
    """Records as the options ask; returns the counts."""
    drawn_by = {package: renderers.package_version(package) for package in PACKAGES}
    if args.renderer == "latex":
        drawn_by["pdflatex"] = renderers.program_version("pdflatex")
        for file in TEX_NEEDS:
            renderers.find_tex_file(file)
    read, left_out = read_files(args.tex, args.split) if args.tex else ((), Counter())
    font = fonts.find_font(args.chinese_font) if args.chinese_font else None
    generated = args.generated if args.generated is not None else float(not read)
    if font and args.renderer == "latex":
        raise DrawingError(
            "--chinese-font: only MathJax draws Chinese in formulas; leave it or --renderer latex"
        )
    engine = FormulaEngine(
        formulas=read,
        generated=generated,
        display=args.display,
        count=args.formulas,
        sizes=args.font_size,
        renderer=args.renderer,
        seed=args.seed,
        chinese_font=font,
        degrade=args.degrade,
        suffix=args.image,
        name=f"formulas-{args.split}",
    )
    counts = {name: len(formulas) for name, formulas in read}
    summary = produce.write(engine, args, args.count, tex=counts, generated=generated, drawn_by=drawn_by)
    return summary | {"left_out": dict(left_out)}


main = produce.command(parser, make)

if __name__ == "__main__":
    sys.exit(main())
