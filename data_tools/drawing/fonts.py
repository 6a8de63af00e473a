"""Fonts that arrive by pip: name -> file, and which characters a file can really draw.

Knows nothing of pages: a text with a character that its font lacks is for the caller to reject and count.
"""

from __future__ import annotations

import argparse
import functools
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from data_tools.text.scripts import JOINERS, needs_shaping, script_name
from got_train.errors import DrawingError

if TYPE_CHECKING:
    from PIL import ImageFont

# package -> licence of its fonts; every one of them may be shipped with and drawn into training data
PACKAGES = {
    "matplotlib": "Bitstream Vera (DejaVu), STIX Font License",
    "font-caladea": "Apache-2.0",
    "font-hanken-grotesk": "OFL-1.1",
    "font-lato": "OFL-1.1",
    "font-manrope": "OFL-1.1",
    "font-source-sans-pro": "OFL-1.1",
    "font-source-serif-pro": "OFL-1.1",
}
# matplotlib's Computer Modern has TeX's encodings behind a Unicode cmap ("<" draws an exclamation mark),
# LastResort draws a box for every character, others are pieces of formulas; a variable font shows one weight.
UNFIT = (
    "cm",
    "LastResort",
    "STIXNonUni",
    "STIXSiz",
    "DejaVuSansDisplay",
    "DejaVuSerifDisplay",
    "Manrope-Var",
)
SUFFIXES = (".ttf", ".otf", ".ttc")
LIST = "`python -m data_tools.drawing.fonts`"


class FontError(DrawingError):
    """A font that is not installed or cannot be read."""


class ShaperError(FontError):
    """A text whose letters join, or that runs from right to left, and nothing here that sets it so."""


@functools.cache
def installed_fonts() -> dict[str, Path]:
    """Name (file stem, such as Lato-Regular) -> file, for all fit fonts of the PACKAGES installed, sorted."""
    fonts: dict[str, Path] = {}
    for package in PACKAGES:
        try:
            files = metadata.distribution(package).files or []
        except metadata.PackageNotFoundError:
            continue
        # sorted in reverse so that .ttf comes before .otf: packages that ship both count once
        for file in sorted(files, key=str, reverse=True):
            name = file.stem
            if file.suffix in SUFFIXES and not name.startswith(UNFIT):
                fonts.setdefault(name, Path(str(file.locate())))
    return dict(sorted(fonts.items()))


def find_font(name: str | Path) -> Path:
    """The file of a font named as in installed_fonts (case does not matter) or by its path."""
    path = Path(name)
    if path.suffix.lower() in SUFFIXES:
        if path.is_file():
            return path
        raise FontError(f"fonts: no file {path}; give a font file or a name that {LIST} lists")
    by_lower = {known.lower(): path for known, path in installed_fonts().items()}
    if str(name).lower() not in by_lower:
        raise FontError(f"fonts: {str(name)!r} is not installed; {LIST} lists what is")
    return by_lower[str(name).lower()]


def find_fonts(names: list[str] | tuple[str, ...]) -> list[Path]:
    """The files of names, paths, folders, beginnings of names ("Lato-*") or "all", in order, each once."""
    files: list[Path] = []
    for name in names:
        if name == "all":
            files += installed_fonts().values()
        elif name.endswith("*"):
            known = installed_fonts().items()
            group = [path for font, path in known if font.lower().startswith(name[:-1].lower())]
            if not group:
                raise FontError(f"fonts: no installed font begins like {name!r}; {LIST} lists all")
            files += group
        elif Path(name).is_dir():
            group = sorted(path for path in Path(name).rglob("*") if path.suffix.lower() in SUFFIXES)
            if not group:
                raise FontError(f"fonts: no {', '.join(SUFFIXES)} file under {name}")
            files += group
        else:
            files.append(find_font(name))
    return list(dict.fromkeys(files))


@functools.lru_cache(maxsize=1024)
def load_font(path: Path, size: int, shaped: bool = False) -> ImageFont.FreeTypeFont:
    """The font at a size in pixels; in basic layout no ligature joins two characters and widths add up.

    `shaped` is the layout of Arabic, Hebrew, Devanagari and others, by Pillow's RAQM.
    """
    from PIL import ImageFont

    layout = ImageFont.Layout.RAQM if shaped else ImageFont.Layout.BASIC
    try:
        return ImageFont.truetype(str(path), size, layout_engine=layout)
    except OSError as error:
        raise FontError(f"fonts: {path} cannot be read as a font ({error})") from None


def font_for(text: str, path: Path, size: int) -> ImageFont.FreeTypeFont:
    """The font in the layout that a text needs; refused where that is a shaper's and there is none."""
    shaped = needs_shaping(text)
    if shaped and not has_shaper():
        raise ShaperError(
            f"{script_name(text)} needs a shaper, which this Pillow has not (RAQM with FriBiDi); "
            "install libraqm, or use Pillow's own wheels"
        )
    return load_font(path, size, shaped)


@functools.cache
def has_shaper() -> bool:
    """Whether Pillow can join letters and set lines from right to left."""
    from PIL import features

    return bool(features.check("raqm")) and features.check("fribidi") is not False


@functools.cache
def cmap(path: Path) -> frozenset[int]:
    """The code points that a font file claims to have."""
    from fontTools.ttLib import TTFont, TTLibError

    try:
        with TTFont(path, fontNumber=0, lazy=True) as font:
            return frozenset(font.getBestCmap() or {})
    except (TTLibError, OSError) as error:
        raise FontError(f"fonts: {path} cannot be read as a font ({error})") from None


@functools.lru_cache(maxsize=65536)
def draws(path: Path, char: str) -> bool:
    """Whether the font has this character and puts ink on paper for it (a space needs none)."""
    if ord(char) not in cmap(path):
        return False
    return char == " " or load_font(path, 32).getmask(char).getbbox() is not None


def missing(path: Path, text: str) -> str:
    """The characters of the text that the font cannot draw, in order, each once; empty when all are there."""
    return "".join(char for char in dict.fromkeys(text) if char not in JOINERS and not draws(path, char))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m data_tools.drawing.fonts", description="List the fonts found."
    )
    parser.add_argument("--text", default="", help="only those that can draw every character of this text")
    args = parser.parse_args(arguments)
    for name, path in installed_fonts().items():
        if not missing(path, args.text):
            print(f"{name}\t{path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
