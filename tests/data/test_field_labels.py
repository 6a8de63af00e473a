"""Label files as people have them: what stands in the file stands in the records, or is counted as left out.

The inputs under fixtures/field are re-creations of public reports; the right answers are theirs.
"""

import json
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from got_train.cli import convert_data
from got_train.data.labels.labelled_page import Losses
from got_train.data.labels.readers import are_labels, label_format, labelled_pages
from got_train.data.labels.to_spots import LabelOptions, page_records
from got_train.data.record import RecordError
from got_train.formats.spots import parse

FIELD = Path(__file__).resolve().parents[1] / "fixtures/field"


@pytest.fixture
def case(tmp_path):
    """A function: a copy of a field input, which tests may change."""

    def copy(name):
        return Path(shutil.copytree(FIELD / name, tmp_path / name))

    return copy


def records_of(source, *tasks, **options):
    """Records of a label source, what it lost, and the causes of refused pages."""
    losses, records, refused = Losses(), [], []
    for page in labelled_pages(source):
        try:
            if isinstance(page, RecordError):
                raise page
            records += page_records(page, LabelOptions(tasks or ("ocr",), **options), losses)
        except RecordError as error:
            refused.append(str(error))
    return records, losses, refused


def texts(source):
    records, _, refused = records_of(source)
    assert refused == []
    return [record.text for record in records]


def words(text):
    return len(text.split())


# ---- ALTO


def test_words_of_alto_have_a_space_between_them_with_and_without_sp(case):
    folder = case("L01")
    assert texts(folder) == ["The mill at the river\nwas built in 1802"]
    file = folder / "p1.xml"
    file.write_text(file.read_text().replace("<String", "\n   <String"))  # pretty-printed
    assert texts(folder) == ["The mill at the river\nwas built in 1802"]
    once = re.sub(r'(CONTENT="mill"[^>]*/>)', r'\1<SP WIDTH="8" HPOS="102" VPOS="10"/>', file.read_text())
    file.write_text(once)  # SP between some words only
    assert texts(folder) == ["The mill at the river\nwas built in 1802"]
    spot, *boxes = records_of(folder, "spot", "box")[0]
    assert [found.text for found in parse(spot.text)[0]] == ["The mill at the river", "was built in 1802"]
    assert [record.text for record in boxes] == ["The mill at the river", "was built in 1802"]


def test_signs_of_chinese_alto_stay_together(case):
    folder = case("L01")
    file = folder / "p1.xml"
    file.write_text(file.read_text().replace('"The"', '"\u5730"').replace('"mill"', '"\u7403"'))
    assert texts(folder)[0].startswith("\u5730\u7403 at the river")


def test_a_hyphenated_line_of_alto_ends_in_one_visible_hyphen(case):
    lines = texts(case("L02"))[0].split("\n")
    assert lines == ["con-", "serve", "Fon-", "tane", "quin-", "win-", "alone"]
    assert "\u00ad" not in "".join(lines)


@pytest.mark.parametrize("named", ["", "scan_04.jpg", "scans\\SCAN_04.jpg"])
def test_a_picture_is_found_whatever_the_case_of_its_name(case, named):
    folder = case("L03c")
    file = folder / "Scan_04.xml"
    if named:
        told = f"<sourceImageInformation><fileName>{named}</fileName></sourceImageInformation>"
        file.write_text(file.read_text().replace("<Layout>", f"<Description>{told}</Description><Layout>"))
    records, _, refused = records_of(folder)
    assert refused == []
    assert Path(records[0].images[0]).name == "Scan_04.JPG"


# ---- PAGE


def test_lines_in_cells_of_a_page_table_are_read_row_by_row(case):
    folder = case("L04")
    assert texts(folder) == ["Weather table\nMonth\nRain\nMay\n44 mm"]
    file = folder / "p1.xml"
    text = file.read_text()
    head, region = re.search(r"<TextRegion.*?</TextRegion>", text, re.DOTALL).span()
    file.write_text(text[:head] + text[region:])  # a page that is only a table
    assert texts(folder) == ["Month\nRain\nMay\n44 mm"]
    columns = text.replace('col="0"', 'col="9"')  # by the place that a cell says, not by the file
    file.write_text(columns[:head] + columns[region:])
    assert texts(folder) == ["Rain\nMonth\n44 mm\nMay"]


def test_text_of_words_glyphs_and_regions_is_taken_where_lines_have_none(case):
    folder = case("L06")
    assert texts(folder) == ["Town report\nsecond"]
    file = folder / "p1.xml"
    text = file.read_text()
    plain = re.sub(r"<TextEquiv>.*?</TextEquiv>|<Word.*?</Word>", "", text, flags=re.DOTALL)
    told = "<TextEquiv><Unicode>first line\nsecond line</Unicode></TextEquiv></TextRegion>"
    file.write_text(plain.replace("</TextRegion>", told))  # text at the region alone, a line for each
    assert texts(folder) == ["first line\nsecond line"]
    assert [record.box for record in records_of(folder, "box")[0]] == [(10, 10, 210, 30), (10, 60, 210, 80)]
    file.write_text(plain.replace("</TextRegion>", told.replace("\n", " ")))
    assert texts(folder) == ["first line second line"]
    glyphs = "".join(
        f'<Glyph><Coords points="1,1 2,2 3,3"/><TextEquiv><Unicode>{sign}</Unicode></TextEquiv></Glyph>'
        for sign in "Town"
    )
    first = text.index("<TextEquiv>")
    end = text.index("</Word>")
    file.write_text(text[:first] + glyphs + text[end:])
    assert texts(folder) == ["Town report\nsecond"]


def test_the_order_that_transkribus_writes_into_custom_is_followed(case):
    folder = case("L08")
    assert texts(folder) == ["first\nsecond\nthird\nfourth"]
    file = folder / "p1.xml"
    order = '<ReadingOrder><OrderedGroup id="o">{}</OrderedGroup></ReadingOrder><TextRegion id="r2"'
    one = '<RegionRefIndexed index="1" regionRef="r2"/>'
    file.write_text(file.read_text().replace('<TextRegion id="r2"', order.format(one)))
    assert texts(folder) == [
        "first\nsecond\nthird\nfourth"
    ]  # one region by ReadingOrder, the other by custom


# ---- other formats


def test_hocr_is_read_with_its_lines_and_boxes(case):
    folder = case("L09")
    for name in ("p1.hocr", "p1.xml", "p1.html"):
        file = next(folder.glob("p1.[hx]*")).rename(folder / name)
        (record,) = records_of(folder, "spot")[0]
        assert records_of(file, "spot")[0] == [record]
        assert record.text == "[25,83,500,250] Harbour report"
        assert Path(record.images[0]).name == "p1.png"


def test_hocr_reads_nothing_outside_its_file(case, tmp_path):
    (tmp_path / "secret").write_text("secret")
    file = case("L09") / "p1.hocr"
    entity = f"<!DOCTYPE html [<!ENTITY x SYSTEM 'file://{tmp_path}/secret'>]>"
    text = file.read_text()
    file.write_text(entity + text[text.index("<html") :].replace("Harbour", "&x;"))
    assert "secret" not in texts(file)[0]


def test_label_studio_is_read_in_both_of_its_forms(case):
    folder = case("L10")
    with Image.open(folder / "harbour.png") as image:
        assert image.size == (400, 200)
    (record,) = records_of(folder / "export.json", "box")[0]
    assert (record.text, record.box) == ("Harbour report", (10, 10, 210, 30))
    box = {"x": 2.5, "y": 5, "width": 50, "height": 10, "rotation": 0, "original_width": 400}
    row = {
        "ocr": "/data/upload/1/0a1b2c3d-harbour.png",
        "id": 1,
        "bbox": [{**box, "original_height": 200}],
        "transcription": ["Harbour report"],
        "annotator": 1,
    }
    (folder / "min.json").write_text(json.dumps([row]))
    (record,) = records_of(folder / "min.json", "box")[0]
    assert (record.text, record.box) == ("Harbour report", (10, 10, 210, 30))


@pytest.mark.parametrize("no", [False, "false", "False", "no", 0])
def test_boxes_that_cvat_calls_illegible_are_left_out_and_counted(case, no):
    file = case("L11b") / "instances_default.json"
    keys = json.loads(file.read_text())
    keys["annotations"][1]["attributes"]["legible"] = no
    file.write_text(json.dumps(keys))
    records, losses, _ = records_of(file, "spot")
    assert [record.text for record in records] == ["[25,50,325,150] Harbour"]
    assert losses.lines() == [
        f"1 illegible labels left out (1 words), the first at {file}: image 0 (a.png), label 2"
    ]


@pytest.mark.parametrize("tasks", [("spot",), ("ocr",), ("box",)])
@pytest.mark.parametrize("cut", [False, True])
def test_a_paddleocr_line_with_broken_json_is_refused_for_every_task(case, tasks, cut):
    file = case("L13") / "Label.txt"
    if cut:  # the line ends in the middle
        first, *others = file.read_text().splitlines(keepends=True)
        file.write_text(first[:90] + "\n" + "".join(others))
    records, _, refused = records_of(file, *tasks)
    assert len(records) == len(refused) == 1
    assert "Label.txt:1: the JSON of its labels is broken," in refused[0]
    assert ("two records run together" in refused[0]) != cut
    assert "four" in records[0].text and "{" not in records[0].text


def test_a_space_for_the_tab_is_named_by_line(case, capsys, tmp_path):
    file = case("L13e") / "rec_gt.txt"
    for tasks in ([], ["--tasks", "ocr"]):
        code = convert_data.main([str(file), "--to", "records", "-o", str(tmp_path / "out"), *tasks])
        assert code == convert_data.WRONG_USAGE
        assert "rec_gt.txt:1: no tab between picture and text" in capsys.readouterr().err
    file.write_text("rec/boat_1.jpg\tN08281\nrec/boat_1.jpg N08282\n")
    records, _, refused = records_of(file)
    assert [record.text for record in records] == ["N08281"]
    assert len(refused) == 1 and "rec_gt.txt:2: no tab" in refused[0]


def test_sroie_and_icdar_files_are_read_as_boxes_with_texts(case):
    folder = case("L14")
    records, losses, refused = records_of(folder, "spot", "ocr")
    assert (len(records), refused) == (12, [])
    assert records[1].text == "ORANGE\nAPPLE"
    assert [spot.text for spot in parse(records[0].text)[0]] == ["ORANGE", "APPLE"]
    assert losses.words == 0
    box = records_of(folder, "box")[0][0]
    assert (box.text, box.box) == ("ORANGE", (10, 21, 267, 67))


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("10,21,267,67,OLD MILL, LTD", "OLD MILL, LTD"),
        ('10, 21, 267, 67, "OLD"', "OLD"),
        ('10 21 267 67 "OLD"', "OLD"),
        ("10,21,267,21,267,67,10,67,Latin,OLD, 2", "OLD, 2"),
        ("10,21,267,21,267,67,10,67,7,50", "7,50"),
    ],
)
@pytest.mark.parametrize("name", ["{}.txt", "gt_{}.txt"])
def test_every_form_of_icdar_is_read(tmp_path, line, text, name):
    for number in range(3):
        Image.new("L", (400, 200)).save(tmp_path / f"img_{number}.jpg")
        (tmp_path / name.format(f"img_{number}")).write_text(line + "\n" + line.replace("21", "30") + "\n")
    records = records_of(tmp_path, "box")[0]
    assert [record.text for record in records][:1] == [text]
    assert records[0].box == (10, 21, 267, 67)


def test_the_tree_of_the_public_sroie_set_is_read_from_its_root(case, tmp_path):
    files = case("L14")
    for folder in ("img", "box", "key"):
        (tmp_path / "set" / folder).mkdir(parents=True)
    for image in files.glob("*.jpg"):
        image.rename(tmp_path / "set/img" / image.name)
        (tmp_path / "set/box" / f"{image.stem}.csv").write_text((files / f"{image.stem}.txt").read_text())
        (tmp_path / "set/key" / f"{image.stem}.json").write_text('{\n "company": "X",\n "total": "1"\n}')
    assert len(texts(tmp_path / "set")) == 6
    (refused,) = labelled_pages(next((tmp_path / "set/key").iterdir()))
    assert "SROIE key information" in str(refused)


def test_yolo_boxes_are_named_and_never_answers(tmp_path):
    Image.new("L", (400, 200)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("0 0.51 0.5 0.31 0.22\n1 0.2 0.3 0.1 0.1\n")
    records, _, (refused,) = records_of(tmp_path)
    assert records == [] and "YOLO boxes, which have classes and no texts" in refused


def test_texts_with_numbers_are_no_boxes(tmp_path):
    for number, text in enumerate(
        ["1, 2, 3, 4", "Total 12.50\n10,20", "2019, 2020, 2021, 2022 and more", "7"]
    ):
        Image.new("L", (400, 200)).save(tmp_path / f"{number}.png")
        (tmp_path / f"{number}.txt").write_text(text)
    assert not are_labels(tmp_path)


def test_labelme_is_read_by_its_texts_and_refused_where_labels_are_classes(case):
    file = case("L16d") / "a.json"
    (record,) = records_of(file, "box")[0]
    assert (record.text, record.box) == ("Harbour", (10, 10, 130, 30))
    keys = json.loads(file.read_text())
    keys["shapes"] = [{**keys["shapes"][0], "label": "text"}] * 3
    file.write_text(json.dumps(keys))
    assert "LabelMe, and all 3 labels are 'text'" in records_of(file)[2][0]
    keys["shapes"] = [{**keys["shapes"][0], "description": word} for word in ("one", "two", "three")]
    keys["shapes"].append({"label": "x", "points": [[1, 1], [2, 2]], "shape_type": "circle"})
    file.write_text(json.dumps(keys))
    records, losses, _ = records_of(file)
    assert records[0].text == "one\ntwo\nthree"
    assert losses.lines()[0].startswith("1 shapes of type circle left out")


OTHERS = {
    "FUNSD": {"form": [{"box": [9, 9, 99, 19], "text": "TO: Mill", "words": [
        {"box": [10, 10, 40, 20], "text": "TO:"}, {"box": [50, 10, 90, 20], "text": "Mill"}]}]},
    "VIA": {"a.png12": {"filename": "a.png", "regions": [
        {"shape_attributes": {"name": "rect", "x": 10, "y": 10, "width": 80, "height": 10},
         "region_attributes": {"text": "TO: Mill"}}]}},
    "docTR recognition": {"a.png": "TO: Mill"},
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_other_sets_are_told_by_their_keys_and_read(tmp_path, name):
    Image.new("L", (400, 200)).save(tmp_path / "a.png")
    (tmp_path / "a.json").write_text(json.dumps(OTHERS[name]))
    assert label_format(str(tmp_path / "a.json")) == name
    assert texts(tmp_path / "a.json") == ["TO: Mill"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", '{"a.png": {"img_dimensions": [1, 1], "polygons": []}}', "docTR detection labels"),
        ("a.xml", "<annotation><object/></annotation>", "Pascal VOC boxes, which have classes"),
        (
            "a.xml",
            "<annotations><image><box/></image></annotations>",
            "CVAT XML without texts; give the class",
        ),
        ("a.xml", "<TEI/>", "TEI, which has no boxes"),
    ],
)
def test_formats_without_texts_are_named(tmp_path, name, content, said):
    (tmp_path / name).write_text(content)
    assert said in records_of(tmp_path / name)[2][0]


# ---- nothing is lost without a word

READABLE = ["L01", "L02", "L04", "L06", "L08", "L09", "L10", "L11b", "L14", "L16d"]


@pytest.mark.parametrize("name", READABLE)
def test_words_in_the_file_are_words_in_records_and_words_counted(case, name):
    """The words of the file are counted here by patterns of its text, not by a reader."""
    folder = case(name)
    source = next((folder / file for file in ("export.json", "instances_default.json", "a.json")
                   if (folder / file).exists()), folder)  # fmt: skip
    counted = 0
    for file in [source] if source.is_file() else folder.iterdir():
        if file.suffix == ".xml":
            text = file.read_text()
            counted += len(re.findall(r'<String CONTENT="[^"]+"', text))
            counted += sum(map(words, re.findall(r"<Unicode>(.*?)</Unicode>", text)))
        elif file.suffix == ".hocr":
            counted += file.read_text().count("ocrx_word")
        elif file.suffix == ".txt":
            counted += sum(words(line.split(",", 8)[8]) for line in file.read_text().splitlines())
        elif file.suffix == ".json":
            values = r'"(?:text|transcription|label)": (?:\[\s*)?"([^"]*)"'
            counted += sum(map(words, re.findall(values, file.read_text())))
    records, losses, _ = records_of(source)
    assert counted > 0
    assert sum(words(record.text) for record in records) + losses.words == counted


# ---- what a label keeps beside its box


def labels_of(source):
    (page,) = labelled_pages(source)
    return page.labels


def test_words_with_boxes_and_the_corners_of_polygons_stay_with_their_label(case):
    (line,) = labels_of(case("L09") / "p1.hocr")
    assert [(word.text, word.box) for word in line.words] == [
        ("Harbour", (10, 10, 80, 30)),
        ("report", (90, 10, 200, 30)),
    ]
    first, *_ = labels_of(case("L01"))
    assert [word.text for word in first.words] == ["The", "mill", "at", "the", "river"]
    shutil.copytree(FIELD.parent / "labels", folder := case("L04").parent / "labels")
    for name in ("harbour", "town"):
        Image.new("L", (400, 200)).save(folder / f"{name}.png")
    by_text = {label.text: label for label in labels_of(folder / "page.xml")}
    assert by_text["words alone"].polygon == ((220, 62), (379, 60), (380, 78), (221, 80))
    assert [word.box for word in by_text["words alone"].words] == [(220, 62, 280, 80), (290, 62, 379, 80)]
    assert by_text["Harbour & town"].polygon == ()
    slanted = {label.text: label for label in labels_of(folder / "alto.xml")}["a slanted"]
    assert slanted.polygon == ((40, 204), (738, 200), (740, 236), (42, 240))


def test_a_turned_rectangle_of_label_studio_is_turned_around_its_first_corner(case):
    file = case("L10") / "export.json"
    tasks = json.loads(file.read_text())
    for result in tasks[0]["annotations"][0]["result"]:
        result["value"]["rotation"] = 90  # a box of 50 % x 10 % at 2.5 %, 5 % of 400 x 200 pixels
    file.write_text(json.dumps(tasks))
    label = labels_of(file)[0]
    assert (label.box, label.polygon) == ((-10, 10, 10, 210), ())


def test_predictions_of_label_studio_are_no_labels_until_somebody_accepts_them(case):
    file = case("L10") / "export.json"
    (task,) = json.loads(file.read_text())
    task["predictions"] = task.pop("annotations")
    file.write_text(json.dumps([task]))
    records, losses, refused = records_of(file)
    assert (records, refused) == ([], [])
    assert losses.lines()[0].startswith("1 predictions that nobody has accepted left out (")
    assert losses.words > 0


def test_a_rectangle_of_coco_without_a_bbox_is_read(tmp_path):
    Image.new("L", (400, 200)).save(tmp_path / "a.png")
    note = {"image_id": 1, "segmentation": [[10, 10, 90, 10, 90, 30, 10, 30]], "text": "Mill"}
    keys = {"images": [{"id": 1, "file_name": "a.png"}], "annotations": [note]}
    (tmp_path / "a.json").write_text(json.dumps(keys))
    assert texts(tmp_path / "a.json") == ["Mill"]
