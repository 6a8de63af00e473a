"""Fonts of the system's packages, asked of fontconfig: those with Chinese, those that look like handwriting.

Knows files and families; what a file can really draw, character by character, data_tools.drawing.fonts says.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

from .fonts import SUFFIXES, FontError, find_fonts

CHINESE = "zh-cn"  # fontconfig's own list of what simplified Chinese needs
# One face of a file that holds several is drawn, the first: in these it has the shapes of another country.
OTHER_COUNTRIES = (" JP", " KR", " HK", " TW", " TC", " MBE")
# Beginning of the family as fontconfig calls it -> package. Left out, as no reader could know the truth:
# fonts with small letters like capitals (bwht, humor-sans, tomsontalks) or like other letters (joscelyn).
HANDWRITING = {
    "ar pl kaitim gb": "fonts-arphic-gkai00mp",
    "ar pl ukai cn": "fonts-arphic-ukai",
    "breip": "fonts-breip",
    "dancing script": "fonts-dancingscript",
    "delphine": "fonts-sjfonts",
    "dkghandwriting": "fonts-dkg-handwriting",
    "kristi": "fonts-kristi",
    "lxgw wenkai": "fonts-lxgw-wenkai",
    "rufscript": "fonts-rufscript",
    "steve": "fonts-sjfonts",
}
LANGUAGES = {"en": "English", "zh": "Chinese"}
UNFIT = ("dkgBI", "dkgIt", "breipfont", "LXGWWenKaiMono")  # letters over each other; the same again
Texts = TypeVar("Texts")
Fonts = TypeVar("Fonts")


class NoFontsError(FontError):
    """No font of a kind is installed at all."""


class Face(NamedTuple):
    """One face of a font file, and its family."""

    path: Path
    family: str
    index: int


@functools.cache
def faces(language: str = "") -> tuple[Face, ...]:
    """The installed faces, or those that cover a language, sorted by file name; copies count once."""
    program = shutil.which("fc-list")
    if program is None:
        raise NoFontsError(
            "fonts: fc-list is not installed; install fontconfig, or name font files and folders"
        )
    pattern = f":lang={language}" if language else ":"
    listed = subprocess.run(
        [program, "--format", "%{file}\t%{index}\t%{family[0]}\n", pattern],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    result = {}
    for line in listed.splitlines():
        file, index, family = line.split("\t")
        if Path(file).suffix.lower() in SUFFIXES:
            result[Path(file).name, int(index)] = Face(Path(file), family, int(index))
    return tuple(result[name] for name in sorted(result))


def chinese_fonts(names: str = "all") -> list[Path]:
    """The installed fonts for simplified Chinese, or those of a list of names, files and folders."""
    if names != "all":
        return named_fonts(names)
    fonts = [
        face.path for face in faces(CHINESE) if face.index == 0 and not face.family.endswith(OTHER_COUNTRIES)
    ]
    if not fonts:
        raise NoFontsError(
            "fonts: no font with Chinese is installed; install fonts-wqy-microhei, fonts-arphic-ukai or "
            "fonts-lxgw-wenkai, as `make data-tools` does"
        )
    return fonts


def chinese_files(names: str = "all") -> list[Path]:
    """As chinese_fonts, for programs that choose the face by its family: whole collections too."""
    paths = chinese_fonts(names)
    if names == "all":
        paths += [face.path for face in faces(CHINESE) if face.family.endswith(" SC")]
    return list(dict.fromkeys(paths))


def handwriting_fonts(names: str = "all") -> list[Path]:
    """The installed fonts of the HANDWRITING families, or those of a list of names, files and folders."""
    if names != "all":
        return named_fonts(names)
    known = tuple(HANDWRITING)
    fonts = [
        face.path
        for face in faces()
        if face.index == 0 and face.family.lower().startswith(known) and not face.path.stem.startswith(UNFIT)
    ]
    if not fonts:
        packages = ", ".join(sorted(set(HANDWRITING.values())))
        raise NoFontsError(
            f"fonts: no handwriting font is installed; install one of {packages}, as `make data-tools` does"
        )
    return fonts


def with_fonts(
    texts: Mapping[str, Texts], find: Mapping[str, Callable[[], Fonts]], strict: bool
) -> tuple[dict[str, tuple[Texts, Fonts]], dict[str, str]]:
    """Texts and fonts by language, and why a language is left out: no font for it is installed.

    NoFontsError where none is left, or with `strict` where one would be left out.
    """
    usable: dict[str, tuple[Texts, Fonts]] = {}
    without: dict[str, str] = {}
    for language, own in texts.items():
        try:
            usable[language] = own, find[language]()
        except NoFontsError as error:
            if strict or len(texts) == 1:
                raise
            without[LANGUAGES[language]] = str(error)
    if not usable:
        raise NoFontsError(next(iter(without.values())))
    return usable, without


def named_fonts(names: str) -> list[Path]:
    """As fonts.find_fonts, for fonts of the system too: a family or a file's name without ending."""
    chosen: list[Path] = []
    by_name: dict[str, list[Path]] = {}
    for face in faces() if shutil.which("fc-list") else ():
        by_name.setdefault(face.family.lower(), []).append(face.path)
        by_name.setdefault(face.path.stem.lower(), []).append(face.path)
    for name in names.split(","):
        try:
            chosen += find_fonts([name])
        except FontError:
            if name.lower() not in by_name:
                raise
            chosen += by_name[name.lower()]
    return list(dict.fromkeys(chosen))
