"""Fonts of the system: those for Chinese draw it, handwriting draws small and capital letters apart."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from data_tools.drawing import system_fonts
from data_tools.drawing.fonts import FontError, load_font, missing

needs_fontconfig = pytest.mark.skipif(shutil.which("fc-list") is None, reason="no fontconfig")


def found_or_skip(find: object) -> list[Path]:
    try:
        return find()
    except FontError as error:
        pytest.skip(str(error))


@needs_fontconfig
def test_chinese_fonts_draw_the_commonest_characters() -> None:
    for path in found_or_skip(system_fonts.chinese_fonts):
        assert missing(path, "\u7684\u4e00\u662f\u5728\u4e0d\u4e86\u6709\u548c\u4eba\u8fd9\u3002\uff0c") == ""


@needs_fontconfig
def test_handwriting_fonts_have_small_letters_unlike_their_capitals() -> None:
    """The large form of a small letter would make every label of it wrong."""
    for path in found_or_skip(system_fonts.handwriting_fonts):
        assert missing(path, "abcdefghijklmnopqrstuvwxyz0123456789.,") == ""
        font, unlike = load_font(path, 64), 0
        for small, capital in ("aA", "bB", "dD", "eE", "gG", "hH", "nN", "qQ", "rR"):
            # of the same height as its capital, a letter would be one of a font of capitals only
            tops = [font.getbbox(letter, anchor="ls")[1] for letter in (small, capital)]
            images = [font.getmask(letter) for letter in (small, capital)]
            same = images[0].size == images[1].size and bytes(images[0]) == bytes(images[1])
            unlike += not same and tops[0] != tops[1]
        assert unlike >= 6, path.stem


def test_a_font_is_found_by_family_file_and_name_and_others_are_refused() -> None:
    sans = system_fonts.named_fonts("DejaVuSans")
    assert sans[0].stem == "DejaVuSans" and system_fonts.named_fonts(str(sans[0])) == sans[:1]
    if shutil.which("fc-list") and (known := system_fonts.faces()):
        assert known[0].path in system_fonts.named_fonts(known[0].family)
    with pytest.raises(FontError, match="'No Such Font' is not installed"):
        system_fonts.named_fonts("DejaVuSans,No Such Font")


def test_a_language_without_fonts_is_left_out_unless_it_is_asked_for_alone_or_strictly() -> None:
    def none() -> list[Path]:
        raise system_fonts.NoFontsError("no font")

    def wrong() -> list[Path]:
        raise FontError("'X' is not installed")

    texts, find = {"en": ("a",), "zh": ("b",)}, {"en": lambda: ["A"], "zh": none}
    assert system_fonts.with_fonts(texts, find, strict=False) == (
        {"en": (("a",), ["A"])},
        {"Chinese": "no font"},
    )
    for asked, finders, strict in (
        (texts, find, True),
        ({"zh": ("b",)}, find, False),
        (texts, {"en": none, "zh": none}, False),
    ):
        with pytest.raises(system_fonts.NoFontsError, match="no font"):
            system_fonts.with_fonts(asked, finders, strict)
    with pytest.raises(FontError, match="'X' is not installed"):  # a font that was named
        system_fonts.with_fonts(texts, {**find, "zh": wrong}, strict=False)


def test_without_fontconfig_one_line_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    system_fonts.faces.cache_clear()
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(FontError, match="fonts: fc-list is not installed; install fontconfig, or name"):
        system_fonts.chinese_fonts()
    system_fonts.faces.cache_clear()
