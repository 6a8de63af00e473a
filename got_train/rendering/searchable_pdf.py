"""A searchable PDF: the picture of each page, and what was read off it as invisible text over it.

Spots lie on their boxes. Text without places is spread over the page from its top to its bottom: a search
finds the page, but what a viewer marks there is no place that was read.
"""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from itertools import groupby
from typing import TYPE_CHECKING

from got_train.errors import RenderingError
from got_train.formats import spots

if TYPE_CHECKING:
    import pikepdf

    from .document import Reading

DPI = 144  # at which pages of PDFs are drawn; of pictures too, as few of them say their own truly
JPEG_QUALITY = 90
MARGIN = 0.05  # of the page's sides around text without places
_EM, _WIDTH, _ASCENT = 1000, 500, 800  # of the font without signs: every character is half as wide as high

Line = tuple[str, tuple[float, float, float, float]]  # a text and its box in pixels


def unavailable() -> str | None:
    """Why no PDF can be written; None if it can."""
    missing = [name for name in ("pikepdf", "fontTools") if find_spec(name) is None]
    return (
        f'{" and ".join(missing)} not installed; `pip install -e ".[pdf]"` in the clone' if missing else None
    )


def pdf(document: Iterable[Reading]) -> bytes:
    """The bytes of the PDF, a page for each of the document's, which are asked for one at a time."""
    import pikepdf

    file, codes = pikepdf.new(), {}
    font = file.make_indirect(pikepdf.Dictionary())  # written when all characters are known
    for reading in document:
        _add_page(file, reading, font, codes)
    if len(codes) >= 0xFFFF:
        raise RenderingError(f"{len(codes)} different characters; expected fewer than 65,535 in a PDF")
    _write_font(file, font, codes)
    file.docinfo["/Producer"] = "got_train"
    kept = io.BytesIO()
    file.save(kept, deterministic_id=True)
    return kept.getvalue()


def _lines(reading: Reading) -> list[Line]:
    if reading.image is None:
        raise RenderingError(f"{reading.label}: no picture; a searchable PDF shows the page")
    width, height = reading.image.size
    texts, lines = [line for line in reading.text.splitlines() if line.strip()], []
    if reading.task == "spot":
        placed, faults = spots.parse(reading.text)
        boxes = [spots.pixel_box(spot.box, reading.image.size) for spot in placed]
        lines = [(" ".join(spot.text.split()), tuple(box)) for spot, box in zip(placed, boxes, strict=True)]
        texts = [fault.line for fault in faults]
    return lines + _spread([" ".join(text.split()) for text in texts], width, height)


def _spread(texts: Sequence[str], width: int, height: int) -> list[Line]:
    """Lines from the top of a page to its bottom."""
    step = height * (1 - 2 * MARGIN) / max(1, len(texts))
    lines = []
    for number, text in enumerate(texts):
        top = height * MARGIN + number * step
        size = min(0.8 * step, height / 40)
        across = min(width * (1 - 2 * MARGIN), len(text) * size * _WIDTH / _EM)
        lines.append((text, (width * MARGIN, top, width * MARGIN + across, top + size)))
    return lines


def _visual(text: str) -> str:
    """A text as it stands on the page, left to right, which is the order that PDF's readers expect."""
    kinds = [unicodedata.bidirectional(sign) for sign in text]
    if not {"R", "AL"} & set(kinds):
        return text
    for index, kind in enumerate(kinds):
        if kind == "NSM" and index:  # a mark goes with its letter
            kinds[index] = kinds[index - 1]
    to_left = [kind in ("R", "AL") for kind in kinds]
    runs = [
        ("".join(sign for sign, _ in pairs), reverse)
        for reverse, pairs in groupby(zip(text, to_left, strict=True), lambda pair: pair[1])
    ]
    begins_left = next(kind for kind in kinds if kind in ("L", "R", "AL")) == "L"
    runs = runs if begins_left else runs[::-1]
    return "".join(run[::-1] if reverse else run for run, reverse in runs)


def _add_page(file: pikepdf.Pdf, reading: Reading, font: pikepdf.Object, codes: dict[str, int]) -> None:
    """Adds a page; characters that no page before it had get a code."""
    import pikepdf

    image = reading.image
    width, height = (side * 72 / DPI for side in image.size)
    encoded = io.BytesIO()
    image.convert("RGB").save(encoded, "JPEG", quality=JPEG_QUALITY)
    picture = file.make_stream(
        encoded.getvalue(),
        Type=pikepdf.Name.XObject,
        Subtype=pikepdf.Name.Image,
        Width=image.width,
        Height=image.height,
        ColorSpace=pikepdf.Name.DeviceRGB,
        BitsPerComponent=8,
        Filter=pikepdf.Name.DCTDecode,
    )
    drawn = [f"q {width:.3f} 0 0 {height:.3f} 0 0 cm /Page Do Q", "BT 3 Tr"]
    for text, (x1, y1, x2, y2) in _lines(reading):
        size = (y2 - y1) * 72 / DPI
        natural = len(text) * size * _WIDTH / _EM
        stretch = 100 * (x2 - x1) * 72 / DPI / natural
        baseline = height - y2 * 72 / DPI + size * (_EM - _ASCENT) / _EM
        signs = "".join(f"{codes.setdefault(sign, len(codes) + 1):04X}" for sign in _visual(text))
        drawn.append(
            f"/Text {size:.3f} Tf {stretch:.3f} Tz 1 0 0 1 {x1 * 72 / DPI:.3f} {baseline:.3f} Tm <{signs}> Tj"
        )
    drawn.append("ET")
    page = file.add_blank_page(page_size=(width, height))
    page.obj.Resources = pikepdf.Dictionary(
        XObject=pikepdf.Dictionary(Page=picture), Font=pikepdf.Dictionary(Text=font)
    )
    page.obj.Contents = file.make_stream("\n".join(drawn).encode("ascii"))


def _write_font(file: pikepdf.Pdf, font: pikepdf.Object, codes: dict[str, int]) -> None:
    """A font of one empty sign, which all codes show; what they mean is told by its ToUnicode map."""
    import pikepdf

    descriptor = file.make_indirect(
        pikepdf.Dictionary(
            Type=pikepdf.Name.FontDescriptor,
            FontName=pikepdf.Name.NoSigns,
            Flags=4,
            FontBBox=[0, _ASCENT - _EM, _WIDTH, _ASCENT],
            ItalicAngle=0,
            Ascent=_ASCENT,
            Descent=_ASCENT - _EM,
            CapHeight=_ASCENT,
            StemV=80,
            FontFile2=file.make_stream(_font_file()),
        )
    )
    outlines = pikepdf.Dictionary(
        Type=pikepdf.Name.Font,
        Subtype=pikepdf.Name.CIDFontType2,
        BaseFont=pikepdf.Name.NoSigns,
        CIDSystemInfo=pikepdf.Dictionary(Registry="Adobe", Ordering="Identity", Supplement=0),
        FontDescriptor=descriptor,
        DW=_WIDTH,
        CIDToGIDMap=file.make_stream(b"\0\0" + b"\0\1" * len(codes)),
    )
    font.Type = pikepdf.Name.Font
    font.Subtype = pikepdf.Name.Type0
    font.BaseFont = pikepdf.Name.NoSigns
    font.Encoding = pikepdf.Name("/Identity-H")
    font.DescendantFonts = [file.make_indirect(outlines)]
    font.ToUnicode = file.make_stream(_to_unicode(codes))


def _to_unicode(codes: dict[str, int]) -> bytes:
    """The map of codes to characters, 100 a block as the format asks."""
    rows = [f"<{code:04X}> <{sign.encode('utf-16-be').hex().upper()}>" for sign, code in codes.items()]
    blocks = [rows[start : start + 100] for start in range(0, len(rows), 100)]
    written = "".join(f"{len(block)} beginbfchar\n{chr(10).join(block)}\nendbfchar\n" for block in blocks)
    return (
        "/CIDInit /ProcSet findresource begin\n12 dict begin\nbegincmap\n"
        "/CIDSystemInfo << /Registry (Adobe) /Ordering (UCS) /Supplement 0 >> def\n"
        "/CMapName /Signs def\n/CMapType 2 def\n1 begincodespacerange\n<0000> <FFFF>\nendcodespacerange\n"
        f"{written}endcmap\nCMapName currentdict /CMap defineresource pop\nend\nend\n"
    ).encode("ascii")


def _font_file() -> bytes:
    """TrueType with .notdef and one empty sign."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.ttLib.tables._g_l_y_f import Glyph

    names = [".notdef", "empty"]
    builder = FontBuilder(_EM, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({0x20: "empty"})
    builder.setupGlyf({name: Glyph() for name in names})
    builder.setupHorizontalMetrics(dict.fromkeys(names, (_WIDTH, 0)))
    builder.setupHorizontalHeader(ascent=_ASCENT, descent=_ASCENT - _EM)
    builder.setupNameTable({"familyName": "NoSigns", "styleName": "Regular", "psName": "NoSigns"})
    builder.setupOS2(sTypoAscender=_ASCENT, sTypoDescender=_ASCENT - _EM)
    builder.setupPost()
    builder.updateHead(created=0, modified=0)
    kept = io.BytesIO()
    builder.font.recalcTimestamp = False
    builder.save(kept)
    return kept.getvalue()
