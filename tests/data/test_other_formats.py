"""Files of other programs are read, or named as what they are with the way to a file that is read."""

import json

import pytest
from PIL import Image

from got_train.cli import convert_data
from got_train.data.labels.readers import labelled_pages
from got_train.data.record import RecordError
from got_train.data.records import read_records

HOCR = (
    "<html><head><meta name='ocr-system' content='tesseract'/></head><body><div class='ocr_page' "
    "title='image \"p1.png\"; bbox 0 0 400 200'><span class='ocr_line' title='bbox 10 10 200 30'>Grüße"
    "</span></div></body></html>"
)
BOX = "T 10 170 30 190 0\nA 32 170 50 190 0\n~ 52 170 60 190 0\n"


@pytest.fixture
def write(tmp_path):
    """A function: a file of this name and content beside two pictures."""
    for name in ("p1.png", "p2.png"):
        Image.new("L", (400, 200), 255).save(tmp_path / name)

    def written(name, content):
        file = tmp_path / name
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return file

    return written


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_hocr_is_read_in_utf_8_and_utf_16(write, encoding):
    (page,) = labelled_pages(write("p1.hocr", HOCR.encode(encoding)))
    assert [(label.text, label.box) for label in page.labels] == [("Grüße", (10, 10, 200, 30))]
    assert page.image.endswith("p1.png")


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("p1.box", BOX, "Tesseract's boxes of single characters, which make no lines; write hOCR or ALTO"),
        ("Label.txt", "p1.png\t[]\n".encode("utf-16"), "Label.txt: is UTF-16; save it as UTF-8"),
        (
            "p.json",
            json.dumps({"asset": {"name": "p1.png"}, "regions": [{"tags": ["total"]}]}),
            "VoTT's labels; their regions have tags and no texts; label texts in Label Studio",
        ),
        ("p.json", json.dumps({"name": "bills", "assets": {}, "tags": []}), "VoTT's labels"),
    ],
)
@pytest.mark.parametrize("flags", [[], ["--tasks", "ocr"]])
def test_what_is_not_read_is_named_with_the_way_out(write, tmp_path, capsys, name, content, words, flags):
    file = write(name, content)
    code = convert_data.main([str(file), "--to", "records", "-o", str(tmp_path / "out"), *flags])
    assert code == 2
    assert words in capsys.readouterr().err


def test_boxes_of_tesseract_are_named_as_records_too_and_of_a_folder(write, tmp_path, capsys):
    with pytest.raises(RecordError, match="boxes of single characters"):
        read_records(write("p1.box", BOX))
    flags = ["--to", "records", "-o", str(tmp_path / "out"), "--tasks", "ocr"]
    assert convert_data.main([str(tmp_path), *flags]) == 2
    assert "p1.box: Tesseract's boxes" in capsys.readouterr().err


def test_texts_and_pictures_beside_boxes_of_tesseract_stay_a_folder_of_records(write, tmp_path):
    for name in ("p1", "p2"):
        write(f"{name}.box", BOX)
        write(f"{name}.txt", "TA\n")
    assert [record.text for record in read_records(tmp_path)] == ["TA", "TA"]


@pytest.mark.parametrize("rows", ["p1,hello\np2,world\n", "p1;hello\np2;world\n", "hello,p1\nworld,p2\n"])
def test_a_csv_file_whose_pictures_have_no_suffix_is_told_to_have_no_head(write, rows, tmp_path, capsys):
    with pytest.raises(RecordError) as told:
        read_records(write("rows.csv", rows))[0]
    assert "rows.csv:1: a row and no head, as p1 is the picture" in str(told.value)
    assert "write a first line such as image,text" in str(told.value)
    flags = ["--to", "records", "-o", str(tmp_path / "out")]
    assert convert_data.main([str(tmp_path / "rows.csv"), *flags]) == 2
    assert "a row and no head, as p1 is the picture" in capsys.readouterr().err


@pytest.mark.parametrize("source", ["out", "out/p1.json"])
def test_the_folder_that_infer_writes_for_spots_is_a_folder_of_labels(tmp_path, write, source):
    (tmp_path / "out").mkdir()
    page = {"file": "p1.png", "page": None, "lines": [{"text": "as", "box": [40, 20, 80, 30]}], "faults": []}
    write("out/p1.json", json.dumps(page, indent=1))
    flags = ["--to", "records", "-o", str(tmp_path / "made"), "--tasks", "spot"]
    assert convert_data.main([str(tmp_path / source), *flags]) == 0
    (row,) = map(json.loads, (tmp_path / "made/records.jsonl").read_text().splitlines())
    assert row["text"] == "[100,100,200,150] as"  # thousandths of a page of 400 x 200
    assert row["images"] == ["../p1.png"]


def test_pages_that_infer_named_from_where_it_ran_are_found_by_a_command_that_runs_there(
    tmp_path, write, monkeypatch
):
    (tmp_path / "runs/read").mkdir(parents=True)
    page = {"file": "p1.png", "page": None, "lines": [{"text": "as", "box": [40, 20, 80, 30]}], "faults": []}
    write("runs/read/p1.json", json.dumps(page))
    monkeypatch.chdir(tmp_path)
    assert convert_data.main(["runs/read", "--to", "records", "-o", "made/records.jsonl"]) == 0
    (row,) = map(json.loads, (tmp_path / "made/records.jsonl").read_text().splitlines())
    assert row["images"] == ["../p1.png"]


def test_spots_of_a_page_of_many_are_not_taken_for_those_of_the_file(tmp_path, write, capsys):
    first, second = Image.new("L", (40, 40), 255), Image.new("L", (40, 40), 0)
    first.save(tmp_path / "fax.tiff", save_all=True, append_images=[second])
    lines = [{"text": "as", "box": [4, 2, 8, 9]}]
    write("fax.json", json.dumps({"file": "fax.tiff", "page": 2, "lines": lines, "faults": []}))
    flags = ["--to", "records", "-o", str(tmp_path / "made")]
    assert convert_data.main([str(tmp_path / "fax.json"), *flags]) == 2
    assert "page 2 of fax.tiff, and a record names a picture; save the pages" in capsys.readouterr().err
