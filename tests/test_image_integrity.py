"""Pictures and PDF pages with holes are refused, whole ones of every kind are not."""

import io
import itertools
import struct
import zlib

import numpy as np
import pikepdf
import pytest
from PIL import Image, ImageDraw

from got_train.errors import ImageError
from got_train.images import image_frames, open_image, pdf_pages

NOISE = np.random.default_rng(0).integers(0, 256, (75, 90, 3), np.uint8)


def encoded(image, form, **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def page():
    image = Image.new("RGB", (200, 150), "white")
    draw = ImageDraw.Draw(image)
    for top in range(5, 140, 12):
        draw.text((5, top), "the quick brown fox jumps", fill="black")
    return image


def refused(data):
    with pytest.raises(ImageError, match=r"^image: damaged") as caught:
        open_image(io.BytesIO(data))
    return str(caught.value)


# ---- JPEG

JPEGS = [
    {"subsampling": subsampling, "progressive": progressive, "quality": quality, "restart_marker_rows": rows}
    for subsampling, progressive, quality, rows in itertools.product(
        (0, 1, 2), (False, True), (30, 95), (0, 1)
    )
]


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_24_kinds_of_whole_jpegs_are_read(mode):
    for options in JPEGS:
        image = Image.fromarray(NOISE).convert(mode)
        assert open_image(io.BytesIO(encoded(image, "JPEG", **options))).size == (90, 75), options


def test_a_jpeg_in_rgb_and_one_followed_by_other_bytes_are_read():
    assert open_image(io.BytesIO(encoded(page(), "JPEG", keep_rgb=True))).size == (200, 150)
    assert open_image(io.BytesIO(encoded(page(), "JPEG") + bytes(500))).size == (200, 150)


@pytest.mark.parametrize("options", JPEGS[:8], ids=str)
def test_a_jpeg_whose_data_end_at_any_of_20_places_before_its_end_marker_is_refused(options):
    data = encoded(Image.fromarray(NOISE), "JPEG", **options)
    scan = data.index(b"\xff\xda") + 20
    for place in np.linspace(scan, len(data) - 40, 20).astype(int):
        while data[place - 1] == 0xFF or data[place] == 0xFF:
            place -= 1
        refused(data[:place] + b"\xff\xd9")


def test_a_progressive_jpeg_without_its_last_scans_is_refused():
    data = encoded(page(), "JPEG", progressive=True)
    scans = [place for place in range(len(data)) if data[place : place + 2] == b"\xff\xda"]
    assert len(scans) == 10
    for count in range(1, 10):
        message = refused(data[: scans[count]] + b"\xff\xd9")
        assert "colour components end early" in message or "missing" in message


def test_a_jpeg_that_claims_more_rows_than_it_has_is_refused():
    data = encoded(page(), "JPEG")
    frame = data.index(b"\xff\xc0") + 5
    assert "premature end" in refused(data[:frame] + struct.pack(">H", 400) + data[frame + 2 :])


# ---- PNG


def png(image, rows=None, interlaced=False, **header):
    """A PNG of some rows of a picture, with correct checksums."""
    width, height = image.size
    depth, kind = {"RGB": (8, 2), "L": (8, 0), "1": (1, 0)}[image.mode]
    array = np.asarray(image) if image.mode != "1" else np.packbits(np.asarray(image), axis=1)
    if interlaced:
        lines = []
        for left, top, across, down in (
            *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2)),
            (0, 1, 1, 2),
        ):
            part = array[top::down, left::across]
            lines += [b"\0" + row.tobytes() for row in part if row.size]
    else:
        lines = [b"\0" + row.tobytes() for row in array]
    content = zlib.compress(b"".join(lines[:rows]))
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlaced))]
    chunks += [(b"IDAT", content[:99]), (b"IDAT", content[99:]), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


@pytest.mark.parametrize("mode", ["RGB", "L", "1"])
def test_a_png_of_all_rows_is_read_black_or_not_and_one_row_less_is_refused(mode):
    for image in (page().convert(mode), Image.new(mode, (33, 20))):
        assert np.array_equal(open_image(io.BytesIO(png(image))), image.convert("RGB"))
        height = image.size[1]
        for rows in (height - 1, height // 2, 1):
            assert "bytes of its rows" in refused(png(image, rows))


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (8, 8), (33, 20)])
def test_an_interlaced_png_needs_the_rows_of_all_its_passes(size):
    image = page().crop((0, 0, *size))
    whole = png(image, interlaced=True)
    assert np.array_equal(open_image(io.BytesIO(whole)), image)
    if size != (1, 1):
        assert "bytes of its rows" in refused(png(image, -1, interlaced=True))


def test_any_of_200_changed_bytes_of_a_pngs_pixels_is_told():
    data = encoded(page(), "PNG")
    begin, end = data.index(b"IDAT") + 4, len(data) - 12
    for place in np.linspace(begin, end - 1, 200).astype(int):
        assert "image: damaged" in refused(data[:place] + bytes([data[place] ^ 0x41]) + data[place + 1 :])


def test_a_png_without_its_end_is_refused_and_bytes_after_it_are_not_looked_at():
    data = encoded(page(), "PNG")
    assert "no chunk IEND" in refused(data[:-12])
    assert open_image(io.BytesIO(data + b"IDAT" * 9)).size == (200, 150)


# ---- TIFF


def tiff(image, compression, change):
    """A TIFF of one strip after a change of (bytes, its tags)."""
    data = bytearray(encoded(image.convert("L"), "TIFF", compression=compression))
    with Image.open(io.BytesIO(bytes(data))) as opened:
        offset, count = opened.tag_v2[273][0], opened.tag_v2[279][0]
    return bytes(change(data, offset, count))


def half_count(data, offset, count):
    place = bytes(data).index(struct.pack("<HHI", 279, 4, 1)) + 8  # where the strip's bytes are counted
    data[place : place + 4] = struct.pack("<I", count // 2)
    return data


def half_zero(data, offset, count):
    data[offset + count // 2 : offset + count] = bytes(count - count // 2)
    return data


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
def test_a_tiff_whose_strip_is_half_as_long_is_refused_and_a_whole_one_is_not(compression):
    assert open_image(io.BytesIO(tiff(page(), compression, lambda data, *_: data))).size == (200, 150)
    refused(tiff(page(), compression, half_count))
    if compression != "raw":  # which has no way to tell
        refused(tiff(page(), compression, half_zero))


@pytest.mark.parametrize("compression", ["tiff_ccitt", "group3", "group4"])
@pytest.mark.parametrize("blank", [False, True])
def test_a_fax_strip_that_ends_early_is_refused_and_a_whole_one_of_the_same_pixels_is_not(compression, blank):
    """libtiff fills it with white; a page whose lower half is white has the same pixels, and is whole."""
    image = Image.new("1", (200, 150), 1)
    image.paste(page().convert("1").crop((0, 0, 200, 1 if blank else 75)))
    whole = encoded(image, "TIFF", compression=compression)
    assert np.array_equal(np.asarray(open_image(io.BytesIO(whole)))[..., 0] > 0, np.asarray(image))
    with Image.open(io.BytesIO(whole)) as opened:
        (count,) = opened.tag_v2[279]
    place = whole.index(struct.pack("<HHI", 279, 4, 1)) + 8
    for share in (0.1, 0.5, 0.8):
        cut = struct.pack("<I", int(count * share))
        said = refused(whole[:place] + cut + whole[place + 4 :])
        assert "strip or tile 0 ends before its last row" in said or "decoder error" in said


@pytest.mark.parametrize("tags", [{266: 2}, {292: 1}, {292: 4}, {266: 2, 292: 5}])
def test_fax_of_turned_bits_in_two_dimensions_and_of_codes_that_end_with_a_byte_is_told_too(tags):
    image = page().convert("1")
    data = bytearray(encoded(image, "TIFF", compression="group3", tiffinfo=tags))
    with Image.open(io.BytesIO(bytes(data))) as opened:
        assert {tag: opened.tag_v2[tag] for tag in tags} == tags
    assert np.array_equal(np.asarray(open_image(io.BytesIO(bytes(data))))[..., 0] > 0, np.asarray(image))
    place = data.index(struct.pack("<HHI", 279, 4, 1)) + 8
    data[place : place + 4] = struct.pack("<I", int.from_bytes(data[place : place + 4], "little") // 2)
    assert "ends before its last row" in refused(bytes(data))


def test_every_frame_of_a_tiff_is_looked_at():
    pages = [page().convert("L"), page().rotate(180).convert("L")]
    data = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    assert len(list(image_frames(io.BytesIO(data)))) == 2
    place = data.rindex(struct.pack("<HHI", 279, 4, 1)) + 8
    data = data[:place] + struct.pack("<I", 9000) + data[place + 4 :]
    frames = image_frames(io.BytesIO(data))
    next(frames)
    with pytest.raises(ImageError, match="image frame 2: damaged.*9,000 of 30,000 bytes in strip or tile 0"):
        next(frames)


# ---- PDF


def pdf(tmp_path, change=lambda pdf, page: None, content=b"BT /F1 14 Tf 8 60 Td (a word) Tj ET", after=None):
    made = pikepdf.new()
    made.add_blank_page(page_size=(96, 96))
    font = pikepdf.Dictionary(
        Type=pikepdf.Name.Font, Subtype=pikepdf.Name.Type1, BaseFont=pikepdf.Name.Helvetica
    )
    first = made.pages[0].obj
    first["/Resources"] = pikepdf.Dictionary(Font=pikepdf.Dictionary(F1=font))
    first["/Contents"] = made.make_stream(content)
    change(made, first)
    path = tmp_path / "a.pdf"
    made.save(
        path, compress_streams=False, object_stream_mode=pikepdf.ObjectStreamMode.disable, static_id=True
    )
    if after:
        data = path.read_bytes()
        assert after[0] in data
        path.write_bytes(data.replace(*after))
    return path


def picture(made, page, data, **header):
    header = {"Width": 60, "Height": 40, "BitsPerComponent": 8, "ColorSpace": pikepdf.Name.DeviceRGB} | header
    stream = made.make_stream(data, Type=pikepdf.Name.XObject, Subtype=pikepdf.Name.Image, **header)
    page["/Resources"]["/XObject"] = pikepdf.Dictionary(Im0=stream)
    page["/Contents"] = made.make_stream(b"q 90 0 0 90 0 0 cm /Im0 Do Q")


def flate(data, cut=0):
    return lambda made, page: picture(
        made, page, zlib.compress(data)[: -cut or None], Filter=pikepdf.Name.FlateDecode
    )


def dct(data):
    return lambda made, page: picture(made, page, data, Filter=pikepdf.Name.DCTDecode, Width=200, Height=150)


RGB = np.random.default_rng(0).integers(0, 200, 60 * 40 * 3, np.uint8).tobytes()
SCAN = encoded(page(), "JPEG")
WHOLE = {
    "text": {},
    "no content": {"change": lambda made, page: page.__delitem__("/Contents")},
    "empty content": {"content": b""},
    "white on white": {"content": b"1 g 0 0 90 90 re f"},
    "a picture": {"change": flate(RGB)},
    "a scan": {"change": dct(SCAN)},
}
BROKEN = {
    "an object that is gone": ({"after": (b"/Contents 4 0 R", b"/Contents 9 0 R")}, "object 9, is missing"),
    "zeros": ({"content": bytes(100)}, "nothing but zeros"),
    "noise": ({"content": bytes(range(128, 256)) * 3}, "no meaning"),
    "a word that does not end": ({"content": b"BT /F1 14 Tf 8 60 Td (a wo"}, "EOF"),
    "a picture of too few rows": ({"change": flate(RGB[:5000])}, "Im0: 5,000 of 7,200 bytes of a picture"),
    "a picture whose stream is cut": ({"change": flate(RGB, cut=99)}, "Im0: its compressed data end early"),
    "a scan that ends early": ({"change": dct(SCAN[:2000] + b"\xff\xd9")}, "Im0: Corrupt JPEG data"),
    "a count of 2 pages": (
        {"after": (b"/Count 1", b"/Count 2")},
        "2 pages by its own count, 1 in its page tree",
    ),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_pdf_is_drawn(tmp_path, name):
    ((number, drawn),) = pdf_pages(pdf(tmp_path, **WHOLE[name]), dpi=72)
    assert (number, drawn.size) == (1, (96, 96))
    assert (np.asarray(drawn).min() == 255) == (name in ("no content", "empty content", "white on white"))


@pytest.mark.parametrize("name", BROKEN)
def test_a_pdf_with_a_hole_is_refused(tmp_path, name):
    given, message = BROKEN[name]
    with pytest.raises(
        ImageError, match=r"a.pdf.*: damaged, (parts of the page|pages) are missing"
    ) as caught:
        list(pdf_pages(pdf(tmp_path, **given)))
    assert message in str(caught.value)
