"""What pages show reaches the model: light ink on nothing, thumbnails and masks of TIFFs, fields of PDFs.

The inputs under fixtures/field are re-creations of public reports; the right answers are theirs.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from got_train import images
from got_train.errors import InferenceError
from got_train.inference.pages import find_pages, left_out

FIELD = Path(__file__).resolve().parents[1] / "fixtures/field"


def grey(path):
    return np.asarray(images.open_image(path).convert("L"))


@pytest.mark.parametrize("path", sorted((FIELD / "I01").iterdir()), ids=lambda path: path.name)
def test_ink_on_transparency_is_visible_whatever_its_colour(path):
    shown = grey(path)
    assert shown.min() < 64 and shown.max() > 192
    ground = np.bincount(shown.ravel()).argmax()
    assert ground > 240 if path.name.startswith("black") else ground < 16


def test_cream_ink_and_a_white_page_with_black_text_on_transparency(tmp_path):
    for name, ink, page in (("cream", (255, 253, 208, 255), None), ("page", (0, 0, 0, 255), (255,) * 4)):
        image = Image.new("RGBA", (120, 40), (0, 0, 0, 0))
        if page:
            image.paste(page, (20, 5, 100, 35))
        ImageDraw.Draw(image).text((30, 10), "mill", ink)
        image.save(tmp_path / f"{name}.png")
    assert grey(tmp_path / "cream.png")[0, 0] == 0
    assert grey(tmp_path / "page.png")[0, 0] == 255  # as before: the ink is dark
    Image.new("RGBA", (9, 9), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (grey(tmp_path / "clear.png") == 255).all()


@pytest.mark.parametrize("kind", [1, 4])
def test_thumbnails_and_masks_of_a_tiff_are_no_pages(tmp_path, kind):
    from PIL import TiffImagePlugin

    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[254] = kind
    pages = [Image.new("L", (40, 40), shade) for shade in (200, 100)]
    extra = Image.new("L", (10, 10), 5)
    with TiffImagePlugin.AppendingTiffWriter(str(tmp_path / "scan.tif"), True) as file:
        for image, info in ((pages[0], None), (extra, tags), (pages[1], None)):
            image.save(file, "TIFF", tiffinfo=info or TiffImagePlugin.ImageFileDirectory_v2())
            file.newFrame()
    found = find_pages([tmp_path / "scan.tif"])
    assert [page.number for page in found] == [1, 2]
    assert [np.asarray(page.open())[0, 0, 0] for page in found] == [200, 100]
    with TiffImagePlugin.AppendingTiffWriter(str(tmp_path / "one.tif"), True) as file:
        pages[0].save(file, "TIFF")
        file.newFrame()
        extra.save(file, "TIFF", tiffinfo=tags)
        file.newFrame()
    assert [page.number for page in find_pages([tmp_path / "one.tif"])] == [None]
    assert images.open_image(tmp_path / "one.tif").size == (40, 40)


@pytest.mark.parametrize(("name", "dark"), [("filled.pdf", 3168), ("no_ap.pdf", 1620)])
def test_the_values_of_a_pdf_form_are_drawn(name, dark):
    ((_, page),) = images.pdf_pages(FIELD / "P01" / name)
    found = int((np.asarray(page.convert("L")) < 128).sum())
    assert abs(found - dark) <= 0.05 * dark  # PDFium's versions differ in smoothing


def test_every_picture_of_a_folder_that_can_be_read_is_read_and_the_rest_is_named(tmp_path):
    folder = Path(shutil.copytree(FIELD / "I02", tmp_path / "I02"))
    assert [Path(page.file).name for page in find_pages([folder])] == ["a.jpg", "b.jfif", "c.jpe", "d.j2k"]
    (folder / "more").mkdir()
    (told,) = left_out([folder, folder / "a.jpg"])
    assert told.startswith(f"{folder}: not read: 2 files of other kinds: 1 .")
    assert ".heic" in told and ".docx" in told and told.endswith("; 1 sub-folder")
    for page in find_pages([folder]):
        assert page.open().size
    assert left_out([FIELD / "I01"]) == []
    (folder / "more/note.docx").write_bytes(b"x")
    with pytest.raises(InferenceError, match=r"no picture and no PDF in this folder \(1 file of other kinds"):
        find_pages([folder / "more"])
