"""Pictures against the released processor's recorded tiles and pixels, and the files that are refused."""

import io
import json
import struct
from pathlib import Path

import numpy as np
import PIL
import pypdfium2
import pytest
from PIL import Image, features
from safetensors.numpy import load_file

from got_train import images
from got_train.cpu import resize
from got_train.errors import ImageError
from got_train.images import grid, normalise, open_image, parse_pages, pdf_pages, tile, view
from got_train.modeling import config

FIXTURES = Path(__file__).parent / "fixtures"
RELEASED = json.loads((FIXTURES / "tiles.json").read_text())  # by transformers 5.23's processor
PIXELS = load_file(FIXTURES / "processor_pixels.safetensors")


def save(path, image, *args, **options):
    image.save(path, *args, **options)
    return path


def grey(image):
    return np.asarray(image)[..., 0]


# The released processor.


def test_the_128_grids_at_1024_pixels_are_as_released():
    assert len(RELEASED["grids_1024"]) == 128
    for row in RELEASED["grids_1024"]:
        columns, rows = grid(row["size"], row["min"], row["max"], 1024)
        assert [columns, rows] == row["grid"], row
        assert columns * rows + (columns * rows > 1) == row["tiles"], row


def test_the_300_random_grids_are_as_released():
    rows = RELEASED["grids_random"]["rows"]
    assert len(rows) == 300
    assert [list(grid((w, h), low, high)) for w, h, low, high, _, _ in rows] == [row[4:] for row in rows]


def test_grids_are_tried_in_the_released_order():
    for name, order in RELEASED["aspect_ratio_order"].items():
        assert [list(pair) for pair in images._grids(*map(int, name.split("-")))] == order


def test_a4_gives_7_tiles_and_a_small_4_to_3_page_13():
    def tiles(size, most):
        columns, rows = grid(size, 1, most)
        return columns * rows + (columns * rows > 1)

    assert [tiles((2480, 3508), most) for most in (6, 12)] == [7, 7]
    assert [tiles((800, 600), most) for most in (6, 12)] == [7, 13]
    assert tiles((1024, 1024), 12) == 1


def test_tiles_run_row_by_row_with_the_thumbnail_last():
    for case in RELEASED["tiles"]:
        (width, height), (columns, rows) = case["size"], case["grid"]
        x, y = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
        page = Image.fromarray(
            np.stack([255 * x, 255 * y, 0 * x], -1).astype(np.uint8)
        )  # red right, green down
        found = [np.asarray(piece) for piece in tile(page, case["min"], case["max"], side=case["tile"])]
        assert {piece.shape for piece in found} == {(case["tile"], case["tile"], 3)}
        assert len(found) == len(case["tile_col_row"])
        for piece, place in zip(found, case["tile_col_row"], strict=True):
            red, green = piece[..., 0].mean() / 255, piece[..., 1].mean() / 255
            column, row = ((columns - 1) / 2, (rows - 1) / 2) if place is None else place
            assert abs(red * columns - 0.5 - column) < 0.1, (case, place)
            assert abs(green * rows - 0.5 - row) < 0.1, (case, place)


@pytest.mark.parametrize("case", RELEASED["pixels"]["cases"], ids=lambda case: case["name"])
def test_pixels_equal_the_released_processor_to_1e_6(case):
    # The released processor drops the alpha channel; open_image would put transparent parts on white.
    image = Image.fromarray(PIXELS[case["name"] + ".image"]).convert("RGB")
    most = case["kwargs"].get("max_patches", 1)
    ours = normalise([view(piece, 64) for piece in tile(image, 1, most, side=64)])
    slow, fast = PIXELS[case["name"] + ".slow"], PIXELS[case["name"] + ".fast"]
    assert (ours.shape, ours.dtype) == (slow.shape, np.float32)
    assert np.abs(ours - slow).max() < 1e-6
    levels = np.abs(ours - fast) * 255 * np.reshape(config.STD, (3, 1, 1))
    assert levels.max() < 1.001  # the torchvision twin rounds some values by one grey level


def test_a_view_of_a_grey_image_needs_no_conversion_by_the_caller():
    image = Image.fromarray(PIXELS["grey_L.image"])
    assert image.mode == "L"
    assert np.abs(normalise([view(image, 64)]) - PIXELS["grey_L.slow"]).max() < 1e-6


def test_views_are_writable_and_of_the_right_side():
    squashed = view(Image.new("RGB", (30, 10), (1, 2, 3)), 16)
    squashed[0, 0] = 9
    assert (squashed.shape, squashed.dtype, squashed[5, 5].tolist()) == ((16, 16, 3), np.uint8, [1, 2, 3])


# just over and just under what has Pillow 13 begin with the height; one axis kept; enlarged
SIZES = (
    (80, 97),
    (80, 96),
    (200, 337),
    (200, 336),
    (333, 90),
    (7, 12),
    (64, 300),
    (300, 60),
    (1, 1),
    (3, 2000),
)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("pixels", ["noise", "black and white"])  # whose sums go below 0 and above 255
def test_squashed_pixels_equal_pillows_bicubic_resize_to_the_bit(size, pixels):
    noise = np.random.default_rng(size).integers(0, 256, (*size[::-1], 3), np.uint8)
    page = Image.fromarray(noise if pixels == "noise" else noise // 128 * 255)
    for after in ((64, 64), (60, 60), (128, 192), (97, 41), (1, 1)):
        resized = np.asarray(page.resize(after, Image.Resampling.BICUBIC))
        assert np.array_equal(resize.resize(page, after), resized), after


def test_views_of_a_squashed_page_do_not_share_its_memory():
    page = Image.new("RGB", (64, 64), (1, 2, 3))  # of a view's size already
    squashed = view(page, 64)
    squashed[:] = 9
    assert page.getpixel((5, 5)) == (1, 2, 3)


def test_with_a_pillow_of_unknown_order_pillow_resizes(monkeypatch):
    monkeypatch.setattr(resize, "_tall_turned", lambda: None)
    page = Image.fromarray(np.random.default_rng(0).integers(0, 256, (97, 80, 3), np.uint8))
    assert resize._passes((80, 97), (64, 64)) is None
    assert np.array_equal(view(page, 64), page.resize((64, 64), Image.Resampling.BICUBIC))


def test_this_pillows_order_of_passes_is_known():
    assert resize._tall_turned() is not None


def test_normalise_gives_hand_computed_values():
    row = normalise(np.array([[[[0, 128, 255]]]], np.uint8))
    by_hand = [-0.48145466 / 0.26862954, (128 / 255 - 0.4578275) / 0.26130258, (1 - 0.40821073) / 0.27577711]
    assert np.allclose(row.ravel(), by_hand, atol=1e-6)
    assert row.shape == (1, 3, 1, 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda image: tile(image, 0, 6), "min_crops: 0; expected a whole number, at least 1"),
        (lambda image: tile(image, 4, 3), "max_crops: 3; expected a whole number, at least 4"),
        (lambda image: tile(image, 1.0, 3), "min_crops: 1.0; expected a whole number"),
        (lambda image: grid((8, 8), 1, True), "max_crops: True; expected a whole number"),
        (lambda image: view(image, 0), "side: 0; expected a whole number"),
        (
            lambda image: normalise(np.zeros((2, 2, 3), np.uint8)),
            r"views: uint8 of shape \(2, 2, 3\); expected uint8",
        ),
        (lambda image: normalise(np.zeros((1, 2, 2, 3))), "views: float64 of shape"),
    ],
)
def test_wrong_tile_counts_sides_and_views_are_refused(call, message):
    with pytest.raises(ImageError, match="^" + message):
        call(Image.new("RGB", (8, 8)))


# What files hold.


@pytest.mark.parametrize(
    ("mode", "color", "name", "seen"),
    [
        ("RGB", (10, 20, 30), "a.png", (10, 20, 30)),
        ("L", 77, "a.png", (77, 77, 77)),
        ("1", 1, "a.png", (255, 255, 255)),
        ("1", 0, "a.tif", (0, 0, 0)),
        ("LA", (0, 0), "a.png", (255, 255, 255)),
        ("LA", (40, 255), "a.png", (40, 40, 40)),
        ("RGBA", (0, 0, 0, 0), "a.png", (255, 255, 255)),
        ("RGBA", (0, 0, 0, 51), "a.png", (204, 204, 204)),
        ("RGBA", (9, 8, 7, 255), "a.png", (9, 8, 7)),
        ("I;16", 65535, "a.png", (255, 255, 255)),
        ("I;16", 257 * 100, "a.png", (100, 100, 100)),
        ("I;16", 257 * 100, "a.tif", (100, 100, 100)),
        ("I;16", 257 * 100, "a.jp2", (100, 100, 100)),
        ("I;16", 257 * 100, "a.pgm", (100, 100, 100)),
        ("I;16B", 257 * 100, "a.tif", (100, 100, 100)),
        ("CMYK", (0, 0, 0, 255), "a.tif", (0, 0, 0)),
        pytest.param(
            *("YCbCr", (128, 128, 128), "a.tif", (128, 128, 128)),
            marks=pytest.mark.skipif(
                PIL.__version__ < "13", reason="Pillow 12.3 does not read what it wrote"
            ),
        ),
        ("RGB", (10, 20, 30), "a.bmp", (10, 20, 30)),
        ("P", 0, "a.gif", (0, 0, 0)),
    ],
)
def test_every_pixel_mode_becomes_8_bit_rgb(tmp_path, mode, color, name, seen):
    image = open_image(save(tmp_path / name, Image.new(mode, (3, 2), color)))
    assert (image.mode, image.size) == ("RGB", (3, 2))
    assert image.getpixel((1, 1)) == seen


def test_a_palette_with_a_transparent_entry_is_put_on_white(tmp_path):
    page = Image.new("P", (2, 1))
    page.putpalette([200, 0, 0, 0, 0, 250])
    page.putdata([0, 1])
    image = open_image(save(tmp_path / "p.png", page, transparency=0))
    assert [image.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (0, 0, 250)]


def test_a_color_marked_as_transparent_is_put_on_white(tmp_path):
    page = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8))
    image = open_image(save(tmp_path / "t.png", page, transparency=(1, 2, 3)))
    assert [image.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (4, 5, 6)]


def test_a_12_bit_tiff_is_scaled_by_its_own_white(tmp_path):
    tags = {256: 2, 257: 1, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: 3}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    values = bytes([0xFF, 0xF8, 0x08, 0])  # 4095 and 2056, then a byte of filling
    path = tmp_path / "a.tif"
    path.write_bytes(struct.pack("<2sHI", b"II", 42, 12) + values + struct.pack("<H", 9) + entries + bytes(4))
    assert grey(open_image(path)).tolist() == [[255, 128]]


def test_white_is_zero_in_a_16_bit_tiff_is_inverted(tmp_path):
    path = save(tmp_path / "w.tif", Image.new("I;16", (2, 2), 0), tiffinfo={262: 0})
    assert open_image(path).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("tag", "corner"),
    [(1, "tl"), (2, "tr"), (3, "br"), (4, "bl"), (5, "tl"), (6, "tr"), (7, "br"), (8, "bl")],
)
def test_all_8_exif_orientations_are_turned_upright(tmp_path, tag, corner):
    page = Image.new("L", (40, 20), 255)
    page.paste(0, (0, 0, 10, 10))  # a black square, top left as stored
    exif = Image.Exif()
    exif[0x0112] = tag
    for name in ("a.jpg", "a.png", "a.tif"):
        image = open_image(save(tmp_path / name, page, exif=exif))
        assert image.size == ((40, 20) if tag < 5 else (20, 40))
        right, bottom = image.width - 3, image.height - 3
        place = {"tl": (2, 2), "tr": (right, 2), "br": (right, bottom), "bl": (2, bottom)}[corner]
        assert image.getpixel(place)[0] < 40, (name, tag)
        assert (grey(image) < 128).sum() == 100, (name, tag)


def test_an_opaque_upright_picture_is_what_pillow_gives():
    page = FIXTURES / "formats/got/images/harbour_p1.png"
    with Image.open(page) as image:
        assert np.array_equal(np.asarray(open_image(page)), np.asarray(image.convert("RGB")))


def test_a_file_object_is_read_from_its_start_and_left_open():
    file = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(file, "PNG")
    assert open_image(file).getpixel((0, 0)) == (255, 0, 0)
    assert not file.closed


def test_the_depth_map_in_a_phone_photo_is_left_aside(tmp_path):
    photo, depth = Image.new("RGB", (8, 8), "blue"), Image.new("RGB", (4, 4))
    path = save(tmp_path / "a.jpg", photo, "MPO", save_all=True, append_images=[depth])
    with Image.open(path) as opened:
        assert (opened.format, opened.n_frames) == ("MPO", 2)
    assert open_image(path).size == (8, 8)
    assert [image.size for image in images.image_frames(path)] == [(8, 8)]


def test_a_tiff_of_3_pages_gives_3_frames(tmp_path):
    pages = [Image.new("L", (10 + number, 5), 50 * number) for number in range(3)]
    path = save(tmp_path / "scan.tif", pages[0], save_all=True, append_images=pages[1:])
    found = list(images.image_frames(path))
    assert [(image.size, image.getpixel((0, 0))[0]) for image in found] == [
        ((10, 5), 0),
        ((11, 5), 50),
        ((12, 5), 100),
    ]
    with pytest.raises(
        ImageError, match=r"scan.tif: 3 frames in a TIFF; expected one picture, or image_frames"
    ):
        open_image(path)


def test_frames_in_colour_are_kept_apart(tmp_path):
    pages = [Image.new("RGB", (6, 5), color) for color in ("red", "green", "blue")]
    path = save(tmp_path / "scan.tif", pages[0], save_all=True, append_images=pages[1:])
    found = list(images.image_frames(path))
    assert [image.getpixel((2, 2)) for image in found] == [(255, 0, 0), (0, 128, 0), (0, 0, 255)]


def test_pictures_of_a_folder_come_in_natural_order(tmp_path):
    for name in ("page10.png", "page2.png", "page1.JPG", "notes.txt", ".page0.png"):
        (tmp_path / name).touch()
    assert [Path(path).name for path in images.image_files(tmp_path)] == [
        "page1.JPG",
        "page2.png",
        "page10.png",
    ]


# Files that are refused.


def damaged(folder):
    """Broken files and what is said of them."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    for name, what in (
        ("cut.png", "damaged or cut off"),
        ("cut.jpg", "damaged or cut off"),
        ("cut.tif", "damaged or cut off"),
        ("cut.bmp", "damaged or cut off"),
        ("cut.gif", "damaged or cut off"),
        ("cut.webp", "(damaged or cut off|not a picture)"),
    ):
        file = io.BytesIO()
        noise.save(file, Image.registered_extensions()[Path(name).suffix])
        (folder / name).write_bytes(file.getvalue()[: len(file.getvalue()) // 2])
        yield name, what
    (folder / "empty.png").touch()
    yield "empty.png", "an empty file; expected a picture"
    (folder / "text.png").write_text("not pixels")
    yield "text.png", "not a picture, or damaged at its start; expected one of PNG, JPEG"
    (folder / "shell.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    yield "shell.eps", "not a picture, or damaged at its start"
    (folder / "page.png").write_bytes(b"%PDF-1.4\n")
    yield "page.png", r"a PDF, not a picture; pdf_pages\(\) draws its pages"
    (folder / "folder.png").mkdir()
    yield "folder.png", "a folder; expected a single file"
    yield "absent.png", "no such file"
    frames = [Image.new("L", (4, 4), 60 * number) for number in range(3)]
    frames[0].save(folder / "moves.gif", save_all=True, append_images=frames[1:])
    yield "moves.gif", "3 frames in a GIF; expected one picture"
    frames[0].save(folder / "moves.png", save_all=True, append_images=frames[1:])
    yield "moves.png", "3 frames in a PNG; expected one picture"
    Image.new("F", (4, 4)).save(folder / "float.tif")
    yield "float.tif", "pixels of mode F; expected 8 bits a channel"
    Image.new("I", (4, 4)).save(folder / "long.tif")
    yield "long.tif", "pixels of mode I; expected 8 bits a channel"
    (folder / "bomb.pbm").write_bytes(b"P4 20000 20000\n")
    yield "bomb.pbm", r"too large \(Image size \(400000000 pixels\) exceeds limit"
    (folder / "zero.ppm").write_bytes(b"P6 0 3 255\n")
    yield "zero.ppm", "(0x3 pixels; expected at least 1x1|not a picture|damaged)"


def test_damaged_files_are_refused_by_name(tmp_path):
    cases = list(damaged(tmp_path))
    assert len(cases) == 18
    for name, what in cases:
        with pytest.raises(ImageError, match=f"^{tmp_path / name}: {what}"):
            open_image(tmp_path / name)


def test_a_cut_frame_is_refused_by_its_number(tmp_path):
    pages = [Image.new("L", (64, 64), number) for number in range(2)]
    path = save(tmp_path / "scan.tif", pages[0], save_all=True, append_images=pages[1:])
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ImageError, match=f"^{path}: damaged or cut off"):
        list(images.image_frames(path))


def test_a_file_object_without_a_name_is_called_image():
    with pytest.raises(ImageError, match="^image: not a picture"):
        open_image(io.BytesIO(b"nothing"))


def test_the_formats_of_the_list_are_known_to_pillow():
    Image.init()
    assert set(images.FORMATS) <= set(Image.OPEN)
    assert features.check("webp")
    assert features.check("jpg_2000")


# PDF.


@pytest.fixture
def pdf(tmp_path):
    """Three pages of 72 x 36 points; a black bar covers 1/8 of page 1, 2/8 of page 2 and 3/8 of page 3."""
    document = pypdfium2.PdfDocument.new()
    for number in range(3):
        bar = pypdfium2.PdfImage.new(document)
        bar.set_bitmap(pypdfium2.PdfBitmap.from_pil(Image.new("L", (4, 4), 0)))
        bar.set_matrix(pypdfium2.PdfMatrix().scale(9 * (number + 1), 36))
        page = document.new_page(72, 36)
        page.insert_obj(bar)
        page.gen_content()
    path = tmp_path / "three.pdf"
    document.save(path)
    document.close()
    return path


def test_pages_are_drawn_at_the_dpi_asked_for_on_white(pdf):
    found = dict(pdf_pages(pdf))
    assert {number: (image.mode, image.size) for number, image in found.items()} == dict.fromkeys(
        (1, 2, 3), ("RGB", (144, 72))
    )
    assert [round(float((grey(image) < 128).mean()) * 8) for image in found.values()] == [1, 2, 3]
    assert [image.size for _, image in pdf_pages(pdf, [1], dpi=72)] == [(72, 36)]


def test_pages_come_in_the_order_asked_for(pdf):
    assert [number for number, _ in pdf_pages(pdf, parse_pages("3,1-2"))] == [3, 1, 2]


def test_pages_are_drawn_one_at_a_time_and_the_file_is_closed(pdf, monkeypatch):
    drawn, closed = [], []
    draw, close = images._draw, pypdfium2.PdfDocument.close
    monkeypatch.setattr(images, "_draw", lambda *args: drawn.append(args[1]) or draw(*args))
    monkeypatch.setattr(pypdfium2.PdfDocument, "close", lambda self: closed.append(1) or close(self))
    pages = pdf_pages(pdf)
    assert (next(pages)[0], drawn, closed) == (1, [1], [])
    pages.close()
    assert (drawn, closed) == ([1], [1])


def bare_pdf(trailer=""):
    """A PDF of one page written by hand, without the table that readers can rebuild."""
    parts = [
        "%PDF-1.4",
        "1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj",
        "2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj",
        "3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 72 36]>>endobj",
        f"trailer<</Root 1 0 R/Size 4{trailer}>>",
        "%%EOF",
    ]
    return "\n".join(parts).encode("latin-1")


def test_pdfs_that_cannot_be_drawn_are_refused_by_name(tmp_path, pdf):
    password = f"/Encrypt<</Filter/Standard/V 1/R 2/O({'o' * 32})/U({'u' * 32})/P -4>>/ID[(a)(a)]"
    none = io.BytesIO()
    pypdfium2.PdfDocument.new().save(none)
    huge = bare_pdf().replace(b"72 36", b"14400 14400")
    for name, data, what in (
        ("empty.pdf", b"", "an empty file; expected a PDF"),
        ("text.pdf", b"hello", "not a PDF, damaged or without pages"),
        ("cut.pdf", pdf.read_bytes()[:60], "not a PDF, damaged or without pages"),
        ("none.pdf", none.getvalue(), "not a PDF, damaged or without pages"),
        ("secret.pdf", bare_pdf(password), "encrypted; save it without its password"),
        ("huge.pdf", huge, " page 1: 28800x28800 pixels at 144 dpi; use a lower dpi"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ImageError, match=f"^{tmp_path / name}:? ?{what}"):
            list(pdf_pages(tmp_path / name))
    with pytest.raises(ImageError, match="absent.pdf: no such file"):
        next(pdf_pages(tmp_path / "absent.pdf"))
    with pytest.raises(ImageError, match="dpi: 0; expected a positive number"):
        next(pdf_pages(pdf, dpi=0))
    (tmp_path / "plain.pdf").write_bytes(bare_pdf())
    assert [image.size for _, image in pdf_pages(tmp_path / "plain.pdf")] == [(144, 72)]


@pytest.mark.parametrize("pages", [[4], [1, 0], [-1]])
def test_a_page_beyond_the_end_is_refused_before_any_is_drawn(pdf, pages):
    with pytest.raises(ImageError, match=rf"three.pdf: no page {pages[-1]}; expected 1 to 3"):
        next(pdf_pages(pdf, pages))


def test_page_lists_are_read_as_written():
    assert parse_pages("3-10,12") == [3, 4, 5, 6, 7, 8, 9, 10, 12]
    assert parse_pages(" 7 , 2 - 3 ") == [7, 2, 3]
    assert parse_pages("5-5") == [5]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("0", "'0'; the first page is 1"),
        ("0-4", "'0-4'; the first page is 1"),
        ("5-3", "'5-3' runs backwards; write 3-5"),
        ("a", "'a' in 'a'; expected numbers and ranges"),
        ("", "'' in ''; expected numbers and ranges"),
        ("1,,2", "'' in '1,,2'; expected numbers and ranges"),
        ("3-", "'3-' in '3-'; expected numbers and ranges"),
        ("-3", "'-3' in '-3'; expected numbers and ranges"),
        ("1.5", "'1.5' in '1.5'; expected numbers and ranges"),
        ("1-999999999", "'1-999999999' names over 100,000 pages"),
        ("2,1-3", "'2,1-3' names page 2 twice; expected each page once"),
    ],
)
def test_page_lists_that_make_no_sense_are_refused(text, what):
    with pytest.raises(ImageError, match=f"^pages: {what}"):
        parse_pages(text)
