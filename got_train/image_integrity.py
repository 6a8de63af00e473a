"""Whether a picture file or PDF page holds all of itself: what decoders fill with grey or black is a fault.

Pillow and pdfium draw what they can. libjpeg's warnings, PNG's checksums and row counts, TIFF's strips and
PDF's streams tell that something is missing; each check gives the fault in words, or None.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    import pikepdf
    from PIL import Image

MAX_CONTENT_BYTES = 32 << 20  # of a PDF page's drawing instructions; large maps have 10 MB, 48 MB draw 12 s
_CHUNK = 1 << 20
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # a JPEG's next segment; FF00 and FFD0 to FFD7 are data
_DCT = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}  # JPEG frames whose scans hold bits of 64 coefficients
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by PNG's colour type
_COMPRESSION, _PHOTOMETRIC, _PLANAR, _JPEG_TABLES = 259, 262, 284, 347  # TIFF tags
_STRIPS = {"offsets": 273, "counts": 279, "rows": 278}
_TILES = {"offsets": 324, "counts": 325, "rows": 323, "columns": 322}
_FAX = (2, 3, 4)  # TIFF's compressions: CCITT run lengths, T.4, T.6
# behind CCITT data these are read as rows if rows are missing; T.4's begin with an end-of-line code
_ROW_BEFORE, _ANY_RUNS = b"\xff" * 4096, b"\x6b\x2d\x9a\x35" * 1024
_BLACK_PIXEL = "00110101" + "010"  # white run of 0, black run of 1
_T4_ROWS = int(("000000000001" + _BLACK_PIXEL) * 1600, 2).to_bytes(23 * 200, "big")
_T4_2D_ROWS = int(("0000000000011" + _BLACK_PIXEL) * 1600, 2).to_bytes(24 * 200, "big")
_TURNED_BYTES = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_PDF_COMPONENTS = {
    "/DeviceGray": 1,
    "/CalGray": 1,
    "/DeviceRGB": 3,
    "/CalRGB": 3,
    "/Lab": 3,
    "/DeviceCMYK": 4,
}
_PDF_OPERATORS = (
    rb"BX|EX|q|Q|cm|w|J|j|M|d|ri|i|gs|m|l|c|v|y|h|re|s|S|f|F|f\*|B|B\*|b|b\*|n|W|W\*|BT|ET|Tc|Tw|Tz|TL|Tf|Tr|Ts|"
    rb"Td|TD|Tm|T\*|Tj|TJ|'|\"|d0|d1|CS|cs|SC|SCN|sc|scn|G|g|RG|rg|K|k|sh|BI|ID|EI|Do|MP|DP|BMC|BDC|EMC|"
    rb"INLINE IMAGE"
)


def image_fault(image: Image.Image, file: BinaryIO) -> str | None:
    """What is missing in the frame that was just decoded; None if nothing is, or nothing can tell."""
    if image.format == "TIFF":
        return _tiff_fault(image, file)
    if image.format not in ("PNG", "JPEG", "MPO"):  # Pillow refuses the others when data are missing
        return None
    file.seek(0)
    data = file.read()
    if image.format == "PNG":
        return _png_fault(image, data)
    return jpeg_fault(data)


def jpeg_fault(data: bytes) -> str | None:
    """libjpeg's first warning, or that a scan is missing."""
    import simplejpeg

    try:
        simplejpeg.decode_jpeg(data, "GRAY", min_height=1, min_width=1, min_factor=8)
    except ValueError as warning:
        try:
            simplejpeg.decode_jpeg(data, "GRAY", min_height=1, min_width=1, min_factor=8, strict=False)
        except ValueError:  # a kind of JPEG that only Pillow's libjpeg knows
            return None
        return str(warning)
    return _missing_scans(data)


def _missing_scans(data: bytes) -> str | None:
    """A JPEG whose file ends between two scans has no warning: libjpeg shows the coarser picture."""
    components: dict[int, list[int]] = {}  # the lowest bit sent of each coefficient
    position, dct = 2, False
    while match := _MARKER.search(data, position):
        marker, position = data[match.start() + 1], match.end()
        if marker == 0xD9:
            break
        if marker in (0x01, 0xD8):
            continue
        length = int.from_bytes(data[position : position + 2], "big")
        segment = data[position + 2 : position + length]
        position += length
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            dct = marker in _DCT
            components = {name: [-1] * 64 for name in segment[6::3]}
        elif marker == 0xDA and dct and len(segment) >= 4:
            names, (first, last, bits) = segment[1 : 1 + 2 * segment[0] : 2], segment[-3:]
            for name in names:
                if name in components and first <= last < 64:
                    components[name][first : last + 1] = [bits & 15] * (last - first + 1)
    unfinished = sum(any(bits) for bits in components.values())  # 0 is the last bit
    if not dct or not unfinished:
        return None
    return f"the scans of {unfinished} of {len(components)} colour components end early"


def _png_fault(image: Image.Image, data: bytes) -> str | None:
    """Checksums of the chunks that make the picture, and the count of its rows."""
    position, compressed, header, ended = 8, [], b"", False
    while position + 12 <= len(data) and not ended:
        length = int.from_bytes(data[position : position + 4], "big")
        kind, body = data[position + 4 : position + 8], memoryview(data)[position + 8 : position + 8 + length]
        checksum = data[position + 8 + length : position + 12 + length]
        position += 12 + length
        if kind not in (b"IHDR", b"PLTE", b"IDAT", b"IEND"):
            continue
        if len(checksum) < 4 or zlib.crc32(body, zlib.crc32(kind)) != int.from_bytes(checksum, "big"):
            return f"the checksum of its chunk {kind.decode()} is wrong"
        header = bytes(body) if kind == b"IHDR" else header
        compressed += [body] * (kind == b"IDAT")
        ended = kind == b"IEND"
    if not ended:
        return "no chunk IEND at its end"
    if image.tell() > 0 or len(header) < 13:  # a later frame of an animation
        return None
    interlaced = header[12] == 1
    if not interlaced and any(image.crop((0, image.height - 1, image.width, image.height)).tobytes()):
        return None  # the last row was written; rows that were not are all zeros
    width, height = image.size
    bits = header[8] * _CHANNELS.get(header[9], 0)
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    expected = 0
    for left, top, across, down in passes:
        columns, rows = -((left - width) // across), -((top - height) // down)
        expected += rows * (1 + (columns * bits + 7) // 8) if columns > 0 and rows > 0 else 0
    try:
        size = _count(_inflated(compressed), expected)
    except ValueError as fault:
        return str(fault)
    return f"{size:,} of {expected:,} bytes of its rows" if size < expected else None


def _tiff_fault(image: Image.Image, file: BinaryIO) -> str | None:
    """Strips or tiles that are missing or too short; JPEG strips with warnings; CCITT fax that ends early.

    LZW, Deflate and PackBits are told by libtiff.
    """
    tags = image.tag_v2
    numbers = _TILES if _TILES["offsets"] in tags else _STRIPS
    offsets, counts = (_as_tuple(tags.get(numbers[name])) for name in ("offsets", "counts"))
    if not offsets or len(counts) != len(offsets):
        return None
    width, height = tags[256], tags[257]
    rows = min(_as_tuple(tags.get(numbers["rows"], height))[0], height if numbers is _STRIPS else 1 << 31)
    columns = _as_tuple(tags[numbers["columns"]])[0] if numbers is _TILES else width
    bits = _as_tuple(tags.get(258, 1))
    planes = len(bits) if tags.get(_PLANAR, 1) == 2 else 1
    needed = -(-height // rows) * -(-width // columns) * planes
    if len(offsets) < needed:
        return f"{len(offsets)} of {needed} strips or tiles"
    if tags.get(_COMPRESSION, 1) == 1 and tags.get(_PHOTOMETRIC) != 6:
        row = (columns * (bits[0] if planes > 1 else sum(bits)) + 7) // 8
        for index, count in enumerate(counts[:needed]):
            last = numbers is _STRIPS and index % (needed // planes) == needed // planes - 1
            expected = row * (height - rows * (needed // planes - 1) if last else rows)
            if count < expected:
                return f"{count:,} of {expected:,} bytes in strip or tile {index}"
    if tags.get(_COMPRESSION) == 7:
        tables = bytes(tags.get(_JPEG_TABLES, b""))
        for index, (offset, count) in enumerate(zip(offsets[:needed], counts, strict=False)):
            file.seek(offset)
            data = file.read(count)
            fault = jpeg_fault(tables[:-2] + data[2:] if tables else data)
            if fault:
                return f"strip or tile {index}: {fault}"
    if tags.get(_COMPRESSION) in _FAX:
        for index, (offset, count) in enumerate(zip(offsets[:needed], counts, strict=False)):
            last = numbers is _STRIPS and index % (needed // planes) == needed // planes - 1
            file.seek(offset)
            size = columns, height - rows * (needed // planes - 1) if last else rows
            if not _is_whole_fax(file.read(count), size, tags):
                return f"strip or tile {index} ends before its last row"
    return None


def _is_whole_fax(data: bytes, size: tuple[int, int], tags: Mapping[int, Any]) -> bool:
    """Whether CCITT data hold all rows: then what follows them is not read, and changes no pixel.

    libtiff itself fills what is missing with white, and does not say so.
    """
    rows = _ANY_RUNS if tags[_COMPRESSION] != 3 else _T4_2D_ROWS if tags.get(292, 0) & 1 else _T4_ROWS
    turned = tags.get(266, 1) == 2  # the lowest bit of a byte comes first
    tails = [tail.translate(_TURNED_BYTES) if turned else tail for tail in (_ROW_BEFORE, rows)]
    return len({_fax_pixels(data + tail, size, tags) for tail in tails}) == 1


def _fax_pixels(data: bytes, size: tuple[int, int], tags: Mapping[int, Any]) -> bytes | None:
    """What a TIFF of one strip of these data shows; None if it is refused."""
    from PIL import Image

    entries = {256: size[0], 257: size[1], 258: 1, _COMPRESSION: tags[_COMPRESSION], _PHOTOMETRIC: 0}
    entries |= {_STRIPS["offsets"]: 8, 277: 1, _STRIPS["rows"]: size[1], _STRIPS["counts"]: len(data)}
    entries |= {tag: tags[tag] for tag in (266, 292, 293) if tag in tags}  # bit order, T4 and T6 options
    head = b"II*\0" + struct.pack("<I", 8 + len(data) + len(data) % 2)
    listed = b"".join(struct.pack("<HHII", tag, 4, 1, entries[tag]) for tag in sorted(entries))
    file = head + data + bytes(len(data) % 2) + struct.pack("<H", len(entries)) + listed + bytes(4)
    try:
        with Image.open(io.BytesIO(file), formats=("TIFF",)) as image:
            return image.tobytes()
    except OSError:
        return None


def _as_tuple(value: object) -> tuple:
    return value if isinstance(value, tuple) else () if value is None else (value,)


# ---- PDF


def pdf_count_fault(pdf: pikepdf.Pdf, count: int) -> str | None:
    """Whether the pages that the page tree holds are those that its root counts."""
    pages = len(pdf.pages)
    return f"{count} pages by its own count, {pages} in its page tree" if pages != count else None


def pdf_page_fault(pdf: pikepdf.Pdf, number: int, raw: bytes) -> str | None:
    """What is missing of the streams that a page is drawn from; `raw` is the file."""
    page = pdf.pages[number - 1].obj
    try:
        return _form_fault(page, page.get("/Contents"), page, raw, set())
    except RecursionError:
        return "its forms are nested too deeply"


def pdf_content_fault(pdf: pikepdf.Pdf, number: int) -> str | None:
    """Of a page on which nothing is drawn: what of its instructions cannot be understood."""
    import pikepdf

    content = b"".join(_decoded(stream) for stream in _streams(pdf.pages[number - 1].obj.get("/Contents")))
    if not content.strip(b"\0\t\n\f\r "):
        return "its content is nothing but zeros" if b"\0" in content else None
    pdf.get_warnings()  # older ones are forgotten
    beginning = pdf.make_stream(content[:_CHUNK])
    try:
        operators = {operator.unparse() for _, operator in pikepdf.parse_content_stream(beginning)}
    except pikepdf.PdfError as error:
        return str(error)
    unknown = {operator for operator in operators if not re.fullmatch(_PDF_OPERATORS, operator)}
    if unknown and b"BX" not in operators:
        return f"its content has no meaning ({len(unknown)} unknown operators)"
    return next(iter(map(str, pdf.get_warnings())), None) if len(content) < _CHUNK else None


def _form_fault(
    owner: pikepdf.Object, contents: pikepdf.Object | None, page: pikepdf.Object, raw: bytes, seen: set
) -> str | None:
    """Of a page or a form XObject: its content, then the forms, pictures and fonts that this names."""
    if contents is None:
        return _lost_content(owner, raw)
    streams = _streams(contents)
    if not streams or any(stream is None for stream in streams):
        return "an object of its content is missing"
    content = b""
    for stream in streams:
        try:
            content += _decoded(stream) + b"\n"
        except ValueError as fault:
            return f"its content: {fault}"
    resources = owner.get("/Resources", page.get("/Resources", None)) or {}
    names = set(re.findall(rb"/([^\s/<>\[\]()]+)", content))
    for kind, check in (("/XObject", _xobject_fault), ("/Font", _font_fault)):
        for name, thing in dict(resources.get(kind) or {}).items():
            if name[1:].encode() not in names or thing.objgen in seen:
                continue
            seen.add(thing.objgen)
            fault = check(thing, page, raw, seen)
            if fault:
                return f"{name[1:]}: {fault}"
    return None


def _lost_content(page: pikepdf.Object, raw: bytes) -> str | None:
    """A page may have no content; but qpdf drops a reference to an object that is gone, so look for it."""
    number, generation = page.objgen
    objects = re.findall(rb"(?<!\d)%d\s+%d\s+obj\b(.*?)endobj" % (number, generation), raw, re.DOTALL)
    lost = objects and re.search(rb"/Contents\s*\[?\s*(\d+)\s+\d+\s+R", objects[-1])
    return f"its content, object {lost[1].decode()}, is missing" if lost else None


def _streams(contents: pikepdf.Object | None) -> list[pikepdf.Object | None]:
    import pikepdf

    if contents is None:
        return []
    parts = list(contents) if isinstance(contents, pikepdf.Array) else [contents]
    return [part if isinstance(part, pikepdf.Stream) else None for part in parts]


def _xobject_fault(thing: pikepdf.Object, page: pikepdf.Object, raw: bytes, seen: set) -> str | None:
    import pikepdf

    if not isinstance(thing, pikepdf.Stream):
        return "is missing"
    if thing.get("/Subtype") == "/Form":
        return _form_fault(thing, thing, page, raw, seen)
    filters = _filters(thing)
    if filters == ["/DCTDecode"]:
        return jpeg_fault(thing.read_raw_bytes())
    if any(name != "/FlateDecode" for name in filters):  # JBIG2, JPEG 2000, fax
        return None
    expected = _picture_bytes(thing)
    try:
        size = _count(_flate_chunks(thing), expected or 1 << 62)
    except ValueError as fault:
        return str(fault)
    return f"{size:,} of {expected:,} bytes of a picture" if size < expected else None


def _picture_bytes(picture: pikepdf.Object) -> int:
    """Of a decoded picture; 0 if its colours are of a kind that is not counted here."""
    width, height = int(picture.get("/Width", 0)), int(picture.get("/Height", 0))
    if picture.get("/ImageMask", False):
        components, bits = 1, 1
    else:
        bits, space = int(picture.get("/BitsPerComponent", 8)), picture.get("/ColorSpace")
        try:
            kind = str(space[0] if len(space) else "")
            components = {"/Indexed": 1, "/Separation": 1}.get(kind) or (
                int(space[1].get("/N")) if kind == "/ICCBased" else _PDF_COMPONENTS.get(kind, 0)
            )
        except (TypeError, ValueError, IndexError):
            components = _PDF_COMPONENTS.get(str(space), 0)
    return height * ((width * components * bits + 7) // 8)


def _font_fault(font: pikepdf.Object, page: pikepdf.Object, raw: bytes, seen: set) -> str | None:
    import pikepdf

    if not isinstance(font, pikepdf.Dictionary):
        return "is missing"
    below = font.get("/DescendantFonts")
    descriptor = (below[0] if isinstance(below, pikepdf.Array) and len(below) else font).get(
        "/FontDescriptor"
    )
    for key in ("/FontFile", "/FontFile2", "/FontFile3"):
        file = descriptor.get(key) if isinstance(descriptor, pikepdf.Dictionary) else None
        if isinstance(file, pikepdf.Stream) and set(_filters(file)) == {"/FlateDecode"}:
            try:
                _count(_flate_chunks(file), MAX_CONTENT_BYTES)
            except ValueError as fault:
                return str(fault)
    return None


def _filters(stream: pikepdf.Object) -> list[str]:
    import pikepdf

    filters = stream.get("/Filter")
    if filters is None:
        return []
    return [str(name) for name in filters] if isinstance(filters, pikepdf.Array) else [str(filters)]


def _flate_chunks(stream: pikepdf.Object) -> Iterator[bytes]:
    chunks: Iterable[bytes] = [stream.read_raw_bytes()]
    for _ in _filters(stream):
        chunks = _inflated(chunks)
    return iter(chunks)


def _decoded(stream: pikepdf.Object | None) -> bytes:
    """The bytes of a content stream. Raises ValueError if some are missing."""
    import pikepdf

    if stream is None:
        return b""
    if all(name == "/FlateDecode" for name in _filters(stream)):
        content = bytearray()
        for chunk in _flate_chunks(stream):
            content += chunk
            if len(content) > MAX_CONTENT_BYTES:
                raise ValueError(f"over {MAX_CONTENT_BYTES >> 20} MB of drawing instructions")
        return bytes(content)
    try:
        return stream.read_bytes()
    except pikepdf.PdfError as error:
        raise ValueError(str(error)) from error


# ---- zlib


def _inflated(chunks: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    """Decompressed pieces of at most 1 MB. Raises ValueError where the stream is damaged or cut."""
    stream = zlib.decompressobj()
    try:
        for chunk in chunks:
            piece = stream.decompress(chunk, _CHUNK)
            while piece:
                yield piece
                piece = stream.decompress(stream.unconsumed_tail, _CHUNK)
            if stream.eof:
                return
    except zlib.error as error:
        raise ValueError(f"its compressed data are damaged ({error})") from error
    raise ValueError("its compressed data end early")


def _count(pieces: Iterable[bytes], most: int) -> int:
    """How many bytes there are, counted as far as `most`."""
    count = 0
    for piece in pieces:
        count += len(piece)
        if count >= most:
            break
    return count
