"""Labels in other programs' formats: what was said before is said after or counted, as others read it.

What stands in a written file is found here with the standard library's parsers, not with the readers.
"""

import csv
import json
import os
import re
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from PIL import Image

from got_train.cli import convert_data
from got_train.data.convert_options import LABEL_FORMATS
from got_train.data.labels.readers import labelled_pages
from got_train.data.labels.writers import FORMATS

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
SCHEMAS = os.environ.get("GOT_SCHEMAS")
SIZE = 400, 200

LINES = [
    {"text": 'He said "no", twice', "box": [10, 10, 200, 30]},
    {"text": '"all of it"', "box": [10.5, 40.25, 200, 60]},
    {"text": "\u5317\u4eac 12,50 \u20ac & <b>", "points": [[10, 70], [201, 72], [200, 92], [11, 90]]},
    {"text": "five corners", "points": [[220, 10], [300, 5], [380, 10], [380, 30], [220, 30]]},
    {"text": "two\nlines", "box": [220, 40, 380, 80]},
    {"text": "smudge", "box": [220, 90, 380, 110], "legible": False},
    {"text": "###", "box": [220, 120, 380, 140]},
    {"text": "", "box": [10, 120, 200, 140]},
    {"text": "Latin, first", "box": [10, 150, 200, 170]},
]
TEXTS = [line["text"] for line in LINES if line["text"] not in ("", "###")]


@pytest.fixture
def convert(tmp_path, capsys):
    """A function: run the command; its code, the folder that it wrote, what it said."""

    def run(source, to, *flags, out="out"):
        code = convert_data.main([str(source), "--to", to, "-o", str(tmp_path / out), *map(str, flags)])
        run.said = capsys.readouterr()
        return code, tmp_path / out

    return run


@pytest.fixture
def source(tmp_path):
    """A page with labels of every kind, as our own lines."""
    folder = tmp_path / "source"
    folder.mkdir()
    Image.new("L", SIZE, 255).save(folder / "page one.png")
    (folder / "lines.jsonl").write_text(json.dumps({"image": "page one.png", "lines": LINES}) + "\n")
    return folder / "lines.jsonl"


def file_of(folder, form):
    known = FORMATS[form]
    return folder / (known.name or f"page one{known.suffix}")


def texts_in(file):
    """The texts of a written file, by the standard library."""
    content = file.read_text(encoding="utf-8")
    if file.suffix in (".xml", ".hocr"):
        root = ElementTree.fromstring(content)
        tags = [element.tag.rpartition("}")[2] for element in root.iter()]
        if "String" in tags:
            return [element.get("CONTENT") for element in root.iter() if element.tag.endswith("String")]
        if "attribute" in tags:
            return [note.text for note in root.iter("attribute") if note.get("name") == "text"]
        if file.suffix == ".hocr":
            return [element.text for element in root.iter() if element.get("class") == "ocrx_word"]
        lines = [line for line in root.iter() if line.tag.endswith("TextLine")]
        found = [[part.text for part in line.iter() if part.tag.endswith("Unicode")][-1:] for line in lines]
        return [text for texts in found for text in texts]
    if file.suffix == ".txt" and "\t" not in content:
        return [row[8] if len(row) == 9 else ",".join(row[8:]) for row in csv.reader(content.splitlines())]
    rows = [json.loads(line.partition("\t")[2] or line) for line in content.splitlines()] if file.suffix in (
        ".txt", ".jsonl") else [json.loads(content)]  # fmt: skip
    keys = r'"(?:text|transcription|utf8_string|description)": (?:\[\s*)?"((?:[^"\\]|\\.)*)"'
    return [json.loads(f'"{text}"') for text in re.findall(keys, json.dumps(rows, ensure_ascii=False))]


# ---- there and back


def test_the_command_offers_every_format_that_is_written_here():
    assert tuple(FORMATS) == LABEL_FORMATS


@pytest.mark.parametrize("form", FORMATS)
def test_every_text_stands_in_the_file_or_is_counted(convert, source, form):
    code, out = convert(source, form)
    assert code == 0 and convert.said.out.startswith("1 pages in ")
    found = texts_in(file_of(out, form))
    missing = [text for text in TEXTS if text not in found]
    loses_line_ends = FORMATS[form].white_space != "kept"
    expected = (["two\nlines"] if loses_line_ends else []) + (
        [] if FORMATS[form].illegible and form != "icdar" else ["smudge"]
    )
    if form == "icdar":  # the standard csv module takes the quotes off, ours writes them twice
        expected += [text for text in ('He said "no", twice', '"all of it"') if text in missing]
    assert sorted(missing) == sorted(expected)
    if loses_line_ends:
        assert "two lines" in found
        assert "1 line ends and double spaces in texts written as one space" in convert.said.out
    if "smudge" in expected:
        assert re.search(r"illegible .*\(\d+ words\)", convert.said.out)


@pytest.mark.parametrize("form", sorted(set(FORMATS) - {"label-studio-predictions"}))
def test_a_format_gives_back_what_it_was_given_less_what_was_counted(convert, source, form):
    code, out = convert(source, form, *["--copy-images"] * (form == "icdar"))  # which names no picture
    assert code == 0
    counted = convert.said.out
    (page,) = labelled_pages(file_of(out, form))
    (given,) = labelled_pages(source)
    assert Path(page.image).samefile(given.image) == (form != "icdar")
    assert Path(page.image).read_bytes() == Path(given.image).read_bytes()
    known = FORMATS[form]
    assert len(page.labels) == len(given.labels)
    for mine, theirs in zip(given.labels, page.labels, strict=True):
        if mine.legible and mine.text != "###":
            assert theirs.text.split() == mine.text.split() and theirs.legible
        elif known.illegible:
            assert not theirs.legible or theirs.text == "###"
        near = 0.51 if known.whole else 0.01
        scale = page.size or SIZE
        assert (
            max(
                abs(a * side / unit - b)
                for a, b, side, unit in zip(theirs.box, mine.box, SIZE * 2, tuple(scale) * 2, strict=True)
            )
            <= near
        )
        kept = mine.polygon if known.corners in (None, len(mine.polygon)) else ()
        assert len(theirs.polygon) == len(kept)
    assert ("1 places rounded to whole pixels" in counted) == known.whole
    assert ("polygons without 4 corners" in counted) == (known.corners == 4)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", ["L01", "L02", "L04", "L06", "L08", "L09", "L10", "L11b", "L14", "L16d"])
def test_words_of_field_files_are_words_of_the_new_file_and_words_counted(convert, tmp_path, name, form):
    folder = Path(shutil.copytree(FIXTURES / "field" / name, tmp_path / name))
    files = ("export.json", "instances_default.json", "a.json")
    source = next((folder / file for file in files if (folder / file).exists()), folder)
    code, out = convert(source, form)
    assert code == 0
    total = sum(len(label.text.split()) for page in labelled_pages(source) for label in page.labels)
    lost = sum(map(int, re.findall(r"\((\d+) words\)", convert.said.out)))
    known = FORMATS[form]
    written = [out / known.name] if known.name else sorted(out.glob(f"*{known.suffix}"))
    texts = [text for file in written for text in texts_in(file) if text and text != "###"]
    assert total > 0
    assert sum(len(text.split()) for text in texts) + lost == total


def test_words_keep_their_boxes_in_the_formats_that_have_words(convert, tmp_path):
    folder = Path(shutil.copytree(FIXTURES / "field/L01", tmp_path / "L01"))
    boxes = [[word.box for word in label.words] for label in next(labelled_pages(folder)).labels]
    assert len(boxes[0]) == 5
    for form in ("page", "alto", "hocr"):
        assert convert(folder, form, out=form)[0] == 0
        (page,) = labelled_pages(tmp_path / form)
        assert [[word.box for word in label.words] for label in page.labels] == boxes
    convert(folder, "labelme", out="labelme")
    assert "9 boxes of words left out" in convert.said.out


# ---- as others read them


def valid(file, schema):
    from lxml import etree

    class Local(etree.Resolver):
        def resolve(self, url, public, context):
            if not url.endswith("xlink.xsd"):
                return None
            named = 'targetNamespace="http://www.w3.org/1999/xlink"'
            (file,) = (file for file in Path(SCHEMAS).glob("*.xsd") if named in file.read_text())
            return self.resolve_filename(str(file), context)

    parser = etree.XMLParser(no_network=True)
    parser.resolvers.add(Local())
    checked = etree.XMLSchema(etree.parse(str(Path(SCHEMAS) / schema), parser))
    return checked.validate(etree.parse(str(file))) or str(checked.error_log)


@pytest.mark.skipif(not SCHEMAS, reason="GOT_SCHEMAS names no folder with the published schemas")
@pytest.mark.parametrize(("form", "schema"), [("page", "page2019.xsd"), ("alto", "alto4.xsd")])
@pytest.mark.parametrize("name", ["rich", "plain", "empty", "L01", "L04", "L09", "L14"])
def test_page_and_alto_are_valid_by_their_published_schemas(convert, source, tmp_path, form, schema, name):
    place, flags = source, []
    if name in ("plain", "empty"):
        text = "Harbour report\nof the town" if name == "plain" else ""
        place, flags = tmp_path / "rows.jsonl", ["--allow-empty"]
        row = {"images": ["source/page one.png"], "task": "ocr", "text": text}
        place.write_text(json.dumps(row) + "\n")
    elif name != "rich":
        place = shutil.copytree(FIXTURES / "field" / name, tmp_path / name)
    code, out = convert(place, form, *flags)
    files = sorted(out.glob("*.xml"))
    assert code == 0 and files
    for file in files:
        assert valid(file, schema) is True
    broken = files[0].read_text().replace("imageWidth", "width").replace("PHYSICAL_IMG_NR", "NR")
    (tmp_path / "broken.xml").write_text(broken)
    assert valid(tmp_path / "broken.xml", schema) is not True


def test_label_studio_gets_regions_in_per_cent_and_addresses_of_local_files(convert, source):
    for form, key in (("label-studio", "annotations"), ("label-studio-predictions", "predictions")):
        _, out = convert(source, form, "--copy-images")
        (task,) = json.loads(file_of(out, form).read_text())
        assert task["data"] == {"ocr": "/data/local-files/?d=images/page%20one.png"}
        place, kind, text = task[key][0]["result"][:3]
        assert place["value"] == {"x": 2.5, "y": 5, "width": 47.5, "height": 10, "rotation": 0}
        assert (kind["value"]["labels"], text["value"]["text"]) == (["Text"], ['He said "no", twice'])
        assert len({place["id"], kind["id"], text["id"]}) == 1
        polygon = next(result for result in task[key][0]["result"] if result["type"] == "polygon")
        assert polygon["value"]["points"][1] == [50.25, 36]
        smudge = [result for result in task[key][0]["result"] if result["id"] == "line6"]
        assert smudge[1]["value"]["labels"] == ["Illegible"]


def test_icdar_lines_hold_eight_coordinates_and_the_text(convert, source):
    _, out = convert(source, "icdar")
    lines = file_of(out, "icdar").read_text().splitlines()
    assert lines[0] == '10,10,200,10,200,30,10,30,He said "no", twice'
    assert lines[1] == '10,40,200,40,200,60,10,60,""all of it""'
    assert lines[2].startswith("10,70,201,72,200,92,11,90,\u5317\u4eac 12,50")
    assert [line.split(",", 8)[8] for line in lines[5:8]] == ["###", "###", ""]


def test_cvat_gives_its_texts_back_and_turns_turned_boxes(convert, source, tmp_path):
    _, out = convert(source, "cvat", "--copy-images")
    file = out / "annotations.xml"
    turned = file.read_text().replace('ytl="10"', 'rotation="90" ytl="10"', 1)
    file.write_text(turned)
    (page,) = labelled_pages(file)
    assert page.labels[0].box == (95, -75, 115, 115)  # 190 x 20 around 105, 20


# ---- records


def test_spot_rows_boxes_and_plain_pages_become_labels(convert, source, tmp_path):
    image = {"images": ["source/page one.png"]}
    rows = [{**image, "task": "spot", "text": "[25,50,500,150] Harbour\n[25,200,500,300] Mill, 12"}]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, out = convert(file, "icdar")
    assert (out / "page one.txt").read_text() == (
        "10,10,200,10,200,30,10,30,Harbour\n10,40,200,40,200,60,10,60,Mill, 12\n"
    )
    rows = [
        {**image, "task": "ocr", "text": "Harbour", "box": [10, 10, 200, 30]},
        {**image, "task": "ocr", "text": "red", "color": "red"},
        {**image, "task": "ocr", "text": "Mill", "box": [25, 200, 500, 300], "box_unit": "thousandth"},
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out = convert(file, "paddleocr", out="paddle")
    assert code == convert_data.SOME_REFUSED
    assert [
        label["transcription"] for label in json.loads((out / "Label.txt").read_text().split("\t")[1])
    ] == [
        "Harbour",
        "Mill",
    ]
    assert "color red" in (out / "Label.refused.jsonl").read_text()
    file.write_text(json.dumps({**image, "task": "ocr", "text": "Harbour\nreport"}) + "\n")
    for form in ("page", "alto", "hocr"):
        assert convert(file, form, out=form)[0] == 0
        (page,) = labelled_pages(tmp_path / form)
        assert [(label.text, label.box) for label in page.labels] == [("Harbour", None), ("report", None)]
    assert convert(file, "via", out="via")[0] == 0
    assert "2 texts without a box left out (2 words)" in convert.said.out


# ---- what goes wrong


def test_a_source_is_not_overwritten_and_a_picture_has_one_page(convert, source, tmp_path):
    assert convert(source, "lines", out="source")[0] == convert_data.WRONG_USAGE
    assert "is the source itself" in convert.said.err
    source.write_text(source.read_text() * 2)
    code, out = convert(source, "page")
    assert code == convert_data.SOME_REFUSED
    assert "is the picture of" in (out / "refused.jsonl").read_text()


def test_pages_of_one_name_get_files_of_their_own(convert, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / "in" / folder).mkdir(parents=True)
        Image.new("L", SIZE, 255).save(tmp_path / "in" / folder / "p.png")
    rows = [{"image": f"{folder}/p.png", "lines": LINES[:1]} for folder in ("a", "b")]
    (tmp_path / "in/lines.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert convert(tmp_path / "in/lines.jsonl", "alto")[0] == 0
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["p-2.xml", "p.xml"]
    images = [page.image for page in labelled_pages(tmp_path / "out")]
    assert [Path(image).resolve().parent.name for image in images] == ["b", "a"]


def test_a_page_without_a_text_is_a_page_in_every_format(convert, source):
    source.write_text(json.dumps({"image": "page one.png", "lines": []}) + "\n")
    for form in FORMATS:
        assert convert(source, form, out=form)[0] == 0
        assert file_of(Path(convert(source, form, out=form)[1]), form).exists()


@pytest.mark.parametrize(
    ("form", "flags", "cause"),
    [
        ("page", ["--tasks", "spot"], "--tasks: is for records, but page has labels; leave it out"),
        ("page", ["--task", "ocr"], "--task: is for records"),
        ("page", ["--out-is-file"], "page has a file a page; give a folder"),
        ("via", ["--out-is-file"], "via goes into a .json file"),
    ],
)
def test_flags_that_do_not_fit_are_told(convert, source, form, flags, cause):
    out = "out"
    if flags == ["--out-is-file"]:
        out, flags = "labels.xml", []
    assert convert(source, form, *flags, out=out)[0] == convert_data.WRONG_USAGE
    assert cause in convert.said.err


def test_a_star_is_a_text_but_for_paddleocr_which_takes_it_for_illegible(convert, source):
    lines = [{"text": "*", "box": [1, 2, 30, 40]}, {"text": "Mill", "box": [1, 50, 30, 90]}]
    source.write_text(json.dumps({"image": "page one.png", "lines": lines}) + "\n")
    assert convert(source, "paddleocr")[0] == 0
    assert "1 texts '*', which mean an illegible one there, marked so (1 words)" in convert.said.out
    (page,) = labelled_pages(convert(source, "paddleocr")[1] / "Label.txt")
    assert [(label.text, label.legible) for label in page.labels] == [("*", False), ("Mill", True)]
    (page,) = labelled_pages(convert(source, "page", out="page")[1])
    assert [label.text for label in page.labels] == ["*", "Mill"]


def test_control_characters_are_refused_where_xml_has_none(convert, source):
    rows = {"image": "page one.png", "lines": [{"text": "a\x01b", "box": [1, 2, 30, 40]}]}
    source.write_text(json.dumps(rows) + "\n")
    assert convert(source, "page")[0] == convert_data.WRONG_USAGE
    assert "page cannot hold this text" in convert.said.err
    assert convert(source, "labelme")[0] == 0


def test_the_commands_of_the_page_on_formats_run(convert, source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert convert(source, "page", "--copy-images", out="labels")[0] == 0
    text = (FIXTURES.parents[1] / "docs/formats.md").read_text(encoding="utf-8")
    commands = [line.split()[2:] for line in text.splitlines() if line.startswith("got convert-data ")]
    assert len(commands) == 3
    for command in commands:
        assert convert_data.main(command) == convert_data.CONVERTED, command
    (task,) = json.loads(Path("studio/predictions.json").read_text())
    assert len(task["predictions"][0]["result"]) == 3 * 6  # six of nine labels are legible and have a text
    named = re.findall(r"^\| .*? \| `([a-z][a-z-]+)` \|", text, re.MULTILINE)
    assert sorted(named) == sorted(FORMATS)
