"""Data in other forms: round trips, what a form cannot say, pictures, and label files with positions."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from got_train.cli import convert_data
from got_train.data.collator import Collator
from got_train.data.convert_options import RECORD_FILES
from got_train.data.labels.readers import labelled_pages
from got_train.data.record import RecordError
from got_train.data.records import read_records
from got_train.formats.spots import parse
from got_train.tokenizer import load_tokenizer

ROOT = Path(__file__).resolve().parents[2]
FORMATS = ROOT / "tests/fixtures/formats"
LABELS = ROOT / "tests/fixtures/labels"


@pytest.fixture
def convert(tmp_path, capsys):
    """A function: run the command; its code, the rows that it wrote, the causes of those that it refused."""

    def run(source, to, *flags, out="out"):
        code = convert_data.main([str(source), "--to", to, "-o", str(tmp_path / out), *map(str, flags)])
        run.said = capsys.readouterr()
        file = tmp_path / out / RECORD_FILES[to]
        refused = file.with_name(file.stem + ".refused.jsonl")
        causes = (
            [json.loads(line)["cause"] for line in refused.read_text().splitlines()]
            if refused.exists()
            else []
        )
        return code, list(read_records(file, allow_empty=True)) if file.exists() else [], causes

    return run


@pytest.fixture
def ours(tmp_path):
    """Records of every task and region, with pictures in a folder of their own."""
    pages = tmp_path / "ours/pages"
    pages.mkdir(parents=True)
    for number in range(1, 4):
        noise = np.random.default_rng(number).integers(0, 256, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(noise).save(pages / f"{number}.png")
    one = {"images": ["pages/1.png"]}
    rows = [
        {**one, "task": "ocr", "text": " spaces stay \n\ttwo lines\n"},
        {**one, "task": "format", "text": "\\(x\\) <table> \u4e2d\u00e9", "box": [3, 4.5, 40, 30]},
        {**one, "task": "ocr", "text": "in it", "box": [100, 200, 100, 900], "box_unit": "thousandth"},
        {**one, "task": "ocr", "text": "a point", "box": [20, 10]},
        {**one, "task": "ocr", "text": "red", "color": "red"},
        {**one, "task": "multi_crop", "text": "tiles"},
        {**one, "task": "multi_crop_ocr", "text": "tiles"},
        {**one, "task": "spot", "text": "[0,0,500,500] two\n[500,0,1000,500] words"},
        {"images": [f"pages/{number}.png" for number in (1, 2, 3)], "task": "multi_page", "text": "three"},
    ]
    file = tmp_path / "ours/records.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture(scope="module")
def collator():
    return Collator(load_tokenizer(ROOT / "configs/nano/tokenizer"), side=16, view_tokens=2)


def samples(collator, records):
    return [
        (sample.ids.tolist(), sample.labels.tolist(), sample.views.tolist())
        for sample in map(collator.sample, records)
    ]


@pytest.fixture
def sources(tmp_path):
    """A function: the place of a source, made here if no fixture has it."""

    def made(name):
        if (FORMATS / name).exists():
            return FORMATS / name
        page = FORMATS / "got/images/harbour_p1.png"
        if name == "saved":
            import datasets

            rows = datasets.Dataset.from_parquet(
                [str(path) for path in (FORMATS / "hf_parquet").glob("*.parquet")],
                cache_dir=str(tmp_path / "cache"),
            )
            rows.save_to_disk(str(tmp_path / name))
        elif name == "texts":
            (tmp_path / name).mkdir(exist_ok=True)
            shutil.copy(page, tmp_path / name)
            (tmp_path / name / "harbour_p1.txt").write_text("Harbour report\n")
        elif name == "rows.csv":
            (tmp_path / name).write_text(f'file_name,text\n{page},"Harbour, report"\n')
        else:
            row = {"images": str(FORMATS / "got"), "annotations": str(FORMATS / "ms_swift/messages.jsonl")}
            (tmp_path / name).write_text(json.dumps({"harbour": row}))
        return tmp_path / name

    return made


# ---- there and back


@pytest.mark.parametrize("to", ["records", "got", "ms_swift"])
@pytest.mark.parametrize("flags", [[], ["--copy-images"]])
def test_a_converted_row_is_the_same_sample_id_by_id_and_pixel_by_pixel(convert, collator, ours, to, flags):
    code, found, causes = convert(ours, to, *flags)
    assert (code, causes) == (0, [])
    assert samples(collator, found) == samples(collator, read_records(ours))


def test_through_all_forms_and_back_only_pixels_became_thousandths(convert, ours):
    convert(ours, "got", out="a")
    convert(ours.parent.parent / "a/got.json", "ms_swift", out="b")
    code, found, _ = convert(ours.parent.parent / "b/ms_swift.jsonl", "records", out="c")
    assert code == 0
    for before, after in zip(read_records(ours), found, strict=True):
        assert (after.task, after.text, after.color) == (before.task, before.text, before.color)
        assert [Path(path).resolve() for path in after.images] == [
            Path(path).resolve() for path in before.images
        ]
    assert [record.box for record in found if record.box] == [
        (75, 150, 1000, 1000),
        (100, 200, 100, 900),
        (500, 333),
    ]


@pytest.mark.parametrize("to", ["records", "got", "ms_swift"])
@pytest.mark.parametrize(
    ("source", "flags"),
    [
        ("got/conversations.json", {"image_root": FORMATS / "got/images"}),
        ("ms_swift/messages.jsonl", {"image_root": FORMATS / "got"}),
        ("ms_swift/query_response.jsonl", {"image_root": FORMATS / "got"}),
        ("meta.json", {}),
        ("texts", {"task": "format"}),
        ("rows.csv", {"task": "ocr", "columns": ["images=file_name", "text=text"]}),
        ("hf_imagefolder", {"task": "ocr", "split": "test", "columns": ["images=image", "text=text"]}),
        ("hf_parquet", {"task": "ocr", "columns": ["images=image", "text=text"]}),
        ("saved", {"task": "ocr", "columns": ["images=image", "text=text"]}),
    ],
)
def test_every_form_that_is_read_converts_to_every_form(convert, collator, sources, source, flags, to):
    told = dict(flags)
    if "columns" in flags:
        told["columns"] = dict(pair.split("=") for pair in flags["columns"])
    wanted, unread = [], 0
    records = read_records(sources(source), **told)
    for place in range(len(records)):
        try:
            wanted += samples(collator, [records[place]])
        except RecordError:  # some rows of the fixtures are there to be refused
            unread += 1
    given = [
        word
        for key, value in flags.items()
        for word in (f"--{key.replace('_', '-')}", *(value if isinstance(value, list) else [value]))
    ]
    if source in ("meta.json", "rows.csv"):  # whose pictures stand in folders of others
        code, found, causes = convert(sources(source), to, *given, "--copy-images")
        assert any("is not copied; use --copy-from-anywhere" in cause for cause in causes)
        given.append("--copy-from-anywhere")
    code, found, causes = convert(sources(source), to, *given, "--copy-images")
    assert (code, len(causes)) == (int(unread > 0), unread)
    assert wanted
    assert samples(collator, found) == wanted


def test_rows_are_relative_to_their_file_and_in_the_form_that_others_read(convert, ours, tmp_path):
    convert(ours, "got", out="a")
    rows = json.loads((tmp_path / "a/got.json").read_text())
    assert rows[1] == {
        "image": "../ours/pages/1.png",
        "conversations": [
            {"from": "human", "value": "<image>\n[75, 150, 1000, 1000] OCR with format: "},
            {"from": "gpt", "value": "\\(x\\) <table> \u4e2d\u00e9"},
        ],
    }
    assert rows[8]["image"] == "../ours/pages"
    convert(ours, "ms_swift", out="b")
    last = json.loads((tmp_path / "b/ms_swift.jsonl").read_text().splitlines()[8])
    assert last["messages"][0]["content"] == "<image><image><image>OCR with format across multi pages: "
    assert last["images"] == [f"../ours/pages/{number}.png" for number in (1, 2, 3)]


# ---- refused


def test_what_a_form_cannot_say_is_refused_by_row_and_the_rest_converted(convert, ours, tmp_path):
    rows = [json.loads(line) for line in ours.read_text().splitlines()][:1]
    one = {"images": ["pages/1.png"], "task": "ocr", "text": "a"}
    rows += [
        {**one, "char_boxes": [["a", 1, 2, 3, 4]]},
        {**one, "text": "see <image> there"},
        {**one, "box": [0, 0, 41, 30]},
        {**one, "images": ["pages/9.png"]},
        {**one, "images": ["pages/1.png", "pages/3.png"], "task": "multi_page"},
        {**one, "text": ""},
    ]
    ours.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, found, causes = convert(ours, "got")
    assert (code, len(found)) == (convert_data.SOME_REFUSED, 1)
    for number, (cause, words) in enumerate(
        zip(
            causes,
            [
                "1 character boxes, which only records say; use --drop char_boxes",
                "the text holds <image>",
                "box: [0, 0, 41, 30] leaves the image",
                "no file ",
                "2 images that are no folder of their own",
                "empty answer",
            ],
            strict=True,
        ),
        2,
    ):
        assert f"records.jsonl:{number}: {words}" in cause
    code, found, causes = convert(ours, "got", "--drop", "char_boxes", "--copy-images", "--allow-empty")
    assert (code, len(found), len(causes)) == (convert_data.SOME_REFUSED, 4, 3)
    assert found[2].images[1].endswith("images/1-pages/0002.png")


def test_a_run_that_converts_nothing_leaves_the_former_file(convert, ours, tmp_path):
    convert(ours, "got")
    before = (tmp_path / "out/got.json").read_bytes()
    ours.write_text('{"images": ["pages/9.png"], "task": "ocr", "text": "a"}\n')
    code, _, causes = convert(ours, "got")
    assert (code, len(causes)) == (convert_data.WRONG_USAGE, 1)
    assert "no row can be converted; the first cause of " in convert.said.err
    assert (tmp_path / "out/got.json").read_bytes() == before
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["got.json", "got.refused.jsonl"]


@pytest.mark.parametrize(
    ("flags", "cause"),
    [
        (["--tasks", "spot"], "--tasks, --order: for labels with positions"),
        (["--task", "spots"], "task is 'spots'; did you mean spot?"),
        (["--split", "test"], "split 'test' of data without splits"),
    ],
)
def test_flags_that_do_not_fit_the_source_are_told(convert, ours, flags, cause):
    assert convert(ours, "records", *flags)[0] == convert_data.WRONG_USAGE
    assert cause in convert.said.err


def test_a_source_is_never_overwritten(convert, ours):
    before = ours.read_bytes()
    for source in (ours, ours.parent):
        assert convert(source, "records", out="ours")[0] == convert_data.WRONG_USAGE
        assert "is the source itself; use another file or folder" in convert.said.err
    assert ours.read_bytes() == before


def test_copies_share_no_name_and_are_made_once(convert, tmp_path):
    rows = []
    for folder, shade in (("x", 0), ("y", 90)):
        (tmp_path / folder).mkdir()
        Image.new("L", (8, 8), shade).save(tmp_path / folder / "p.png")
        rows += [{"images": [f"{folder}/p.png"], "task": task, "text": "a"} for task in ("ocr", "format")]
    (tmp_path / "two.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for _ in range(2):  # the second time the copies are there already
        code, found, _ = convert(tmp_path / "two.jsonl", "ms_swift", "--copy-images")
        assert code == 0
        assert [Path(record.images[0]).name for record in found] == ["p.png"] * 2 + ["p-2.png"] * 2
        assert np.asarray(Image.open(found[2].images[0]))[0, 0] == 90
    assert sorted(path.name for path in (tmp_path / "out/images").iterdir()) == ["p-2.png", "p.png"]


# ---- label files with positions


@pytest.fixture
def labels(tmp_path):
    """The label files with the pictures that they name, all of 400 x 200 pixels."""
    folder = tmp_path / "set"
    shutil.copytree(LABELS, folder)
    (folder / "scans").mkdir()
    for name in ("scans/harbour", "town", "street", "blank", "scans/street", "scans/blank"):
        Image.new("L", (400, 200), 200).save(folder / f"{name}.png")
    for number in range(1, 5):
        Image.new("L", (40, 10), 200).save(folder / f"crop_{number}.png")
    return folder


def test_page_xml_is_read_in_its_reading_order(convert, labels):
    code, found, causes = convert(labels / "page.xml", "records", "--tasks", "spot,box,ocr")
    assert (code, causes) == (0, [])
    spot, *boxes, plain = found
    assert plain.text == "Harbour & town\n[1] first\na note\nof two lines\nwords alone"
    assert spot.text == (
        "[50,50,950,200] Harbour & town\n[50,300,500,400] [1] first\n"
        "[50,600,500,800] a note<br>of two lines\n[550,300,950,400] words alone"
    )
    assert [(record.text, record.box) for record in boxes] == [
        ("Harbour & town", (20, 10, 380, 40)),
        ("[1] first", (20, 60, 200, 80)),
        ("a note\nof two lines", (20, 120, 200, 160)),
        ("words alone", (220, 60, 380, 80)),
    ]
    for words in (
        "1 illegible labels",
        "1 labels without text",
        "1 polygons turned into the boxes around them",
    ):
        assert words in convert.said.out


def test_alto_is_read_by_its_order_and_scaled_to_its_image(convert, labels):
    code, found, _ = convert(labels / "alto.xml", "records", "--tasks", "box,ocr")
    assert code == 0
    assert found[-1].text == "har-\nbour\na slanted\nno box"
    assert [record.box for record in found[:-1]] == [
        (20, 20, 370, 40),
        (0, 45, 348, 65),  # cut at the image's edge
        (20, 100, 370, 120),
        (20, 125, 100.25, 145),
    ]
    assert "1 boxes cut at the image's edge" in convert.said.out
    assert "1 polygons turned into the boxes around them" in convert.said.out


def test_coco_text_is_put_into_the_order_of_its_page(convert, labels):
    code, found, causes = convert(labels / "cocotext.json", "records", "--tasks", "spot,ocr")
    assert (code, causes, len(found)) == (0, [], 2)
    assert found[1].text == "OPEN CAFE\nEDGE"
    assert [(spot.text, spot.box) for spot in parse(found[0].text)[0]] == [
        ("OPEN", (326, 105, 476, 205)),
        ("CAFE", (500, 100, 650, 200)),
        ("EDGE", (925, 750, 1000, 850)),
    ]
    for words in (
        "1 illegible labels left out",
        "1 boxes cut at the image's edge",
        "1 labels outside their image, or without area, left out",
        "1 polygons turned into the boxes around them",
        "1 pages without text left out",
    ):
        assert words in convert.said.out
    code, found, _ = convert(labels / "cocotext.json", "records", "--allow-empty", "--order", "file")
    assert [record.text.count("\n") for record in found] == [2, 0]
    assert parse(found[0].text)[0][0].text == "CAFE"
    code, found, _ = convert(labels / "cocotext.json", "records", "--illegible", "skip_page", "--allow-empty")
    assert [record.text for record in found] == [""]
    assert "1 pages skipped for an illegible label" in convert.said.out


def test_coco_lists_of_objects_polygons_without_a_box_and_stray_labels(convert, labels):
    keys = {
        "images": [{"id": 1, "file_name": "street.png"}],
        "annotations": [
            {
                "image_id": 1,
                "segmentation": [[10, 20, 110, 30, 108, 50, 12, 40]],
                "attributes": {"text": "bent"},
            },
            {"image_id": 1, "bbox": [0, 100, 10, 10], "text": "crowd", "iscrowd": 1},
            {"image_id": 2, "bbox": [0, 0, 1, 1], "text": "lost"},
        ],
    }
    (labels / "coco.json").write_text(json.dumps(keys))
    code, found, causes = convert(labels / "coco.json", "records", "--tasks", "box")
    assert [(record.text, record.box) for record in found] == [("bent", (10, 20, 110, 50))]
    assert code == convert_data.SOME_REFUSED
    assert causes == [f"{labels / 'coco.json'}: 1 label(s) of image_id 2; no such image is listed"]


def test_paddleocr_detection_labels_name_pictures_from_the_folder_above_too(convert, labels):
    shutil.move(labels / "Label.txt", labels / "scans/Label.txt")  # where PPOCRLabel writes it
    code, found, causes = convert(labels / "scans/Label.txt", "records", "--tasks", "spot,box")
    assert code == convert_data.SOME_REFUSED
    assert [cause.partition(": ")[2].partition(" in ")[0] for cause in causes] == [
        "no picture scans/missing.png"
    ]
    assert found[0].text == "[25,100,275,200] OPEN\n[495,500,750,650] skewed"
    assert [record.box for record in found[1:]] == [(10, 20, 110, 40), (198, 100, 300, 130)]
    assert "2 illegible labels left out" in convert.said.out
    assert "1 pages without text left out" in convert.said.out


def test_paddleocr_recognition_labels_are_plain_text_only(convert, labels):
    code, found, _ = convert(labels / "rec_gt.txt", "records", "--tasks", "ocr")
    assert code == 0
    assert [(Path(record.images[0]).name, record.text) for record in found] == [
        ("crop_1.png", "OPEN"),
        ("crop_2.png", "[sic] 24\tm"),
        ("crop_3.png", "[sic] 24\tm"),
    ]
    assert convert(labels / "rec_gt.txt", "records", out="spots")[0] == convert_data.WRONG_USAGE
    assert "has no positions; --tasks ocr" in convert.said.err


def test_a_folder_of_xml_files_is_one_source_and_a_bad_file_ends_no_other(convert, labels):
    (labels / "page10.xml").write_text("<PcGts><Page imageFilename='town.png' imageWidth='9'/></PcGts>")
    (labels / "page2.xml").write_text("<html/>")
    code, found, causes = convert(labels, "got")
    assert (code, len(found)) == (convert_data.SOME_REFUSED, 2)
    assert "page2.xml: <html>; the root of PAGE XML is <PcGts>" in causes[0]
    assert "page10.xml:1: imageHeight of Page is None; a number" in causes[1]


LAUGHS = "".join(f"<!ENTITY l{n} '{f'&l{n - 1};' * 10}'>" for n in range(1, 10))


@pytest.mark.parametrize(
    "declared",
    ["<!DOCTYPE x [<!ENTITY a SYSTEM 'file:///etc/passwd'>]>", f"<!DOCTYPE x [<!ENTITY l0 'ha'>{LAUGHS}]>"],
)
@pytest.mark.parametrize("place", ["<Unicode>{}</Unicode>", "<Page imageFilename='{}'/>"])
def test_xml_with_a_document_type_is_refused_before_any_entity_is_read(labels, declared, place):
    entity = "&a;" if "&l0;" not in declared else "&l9;"
    (labels / "bomb.xml").write_text(f"{declared}<PcGts>{place.format(entity)}</PcGts>")
    (refused,) = labelled_pages(labels / "bomb.xml")
    assert isinstance(refused, RecordError)
    assert "declares a document type" in str(refused) or "not XML" in str(refused)
    assert "root:" not in str(refused)


def test_labels_of_another_shape_than_their_image_are_refused(convert, labels):
    Image.new("L", (200, 200)).save(labels / "scans/harbour.png")
    assert convert(labels / "page.xml", "records")[0] == convert_data.WRONG_USAGE
    assert "labels for 400 x 200, but " in convert.said.err
    Image.new("L", (800, 400)).save(labels / "scans/harbour.png")  # the same page, twice as fine
    _, found, _ = convert(labels / "page.xml", "records", "--tasks", "box")
    assert found[0].box == (40, 20, 760, 80)


@pytest.mark.parametrize("name", ["turned.jpg", "turned.tif"])
def test_a_picture_turned_by_its_exif_tag_is_measured_as_it_is_seen(convert, labels, name):
    tag = Image.Exif()
    tag[0x0112] = 6
    Image.new("L", (200, 400)).save(labels / name, exif=tag)
    row = {"image": name, "lines": [{"text": "wide", "box": [200, 100, 400, 200]}]}
    (labels / "lines.jsonl").write_text(json.dumps(row) + "\n")
    assert convert(labels / "lines.jsonl", "records")[1][0].text == "[500,500,1000,1000] wide"


@pytest.mark.parametrize(
    ("row", "cause"),
    [
        ({"lines": []}, "image is None; the path of one picture"),
        ({"image": "town.png", "lines": {}}, "lines is {}; a list of objects with text and box"),
        ({"image": "town.png", "lines": [{"text": "a"}]}, "line 1: box is None; x1, y1, x2, y2 in pixels"),
        (
            {"image": "town.png", "lines": [{"text": 5, "box": [1, 2, 3, 4]}]},
            "line 1: the text is 5; a string",
        ),
        ({"image": "no.png", "lines": [{"text": "a", "box": [1, 2, 3, 4]}]}, "no such picture"),
        (
            {"image": "town.png", "lines": [{"text": "a", "box": [float("nan"), 2, 3, 4]}]},
            "line 1: box is [nan, 2, 3, 4]; x1",
        ),
        (
            {"image": "town.png", "lines": [{"text": "a", "points": [[1, 2], [1e999, 2], [3, 4]]}]},
            "line 1: points is [[1, 2], [inf, 2], [3, 4]]; a list of x, y",
        ),
        (
            {"image": "town.png", "lines": [{"text": "a", "box": [9, 9, 2, 2]}]},
            "1 labels outside their image",
        ),
    ],
)
def test_a_bad_row_of_lines_is_told_with_its_place(convert, labels, row, cause):
    (labels / "lines.jsonl").write_text(json.dumps(row) + "\n")
    assert convert(labels / "lines.jsonl", "records")[0] == convert_data.WRONG_USAGE
    assert cause in convert.said.err


@pytest.mark.parametrize(
    ("keys", "cause"),
    [
        ({"imgs": [], "anns": {}}, "imgs is []; COCO's, by id or listed"),
        ({"images": [], "annotations": 5}, "annotations is 5; COCO's, by id or listed"),
        ({"images": [5], "annotations": []}, "image 0: 5; an object with id and file_name"),
        (
            {"images": [{"id": [1], "file_name": "town.png"}], "annotations": [{"image_id": [1]}]},
            "image 0 (town.png), label None: bbox is None",
        ),
    ],
)
def test_coco_of_another_shape_is_told(convert, labels, keys, cause):
    (labels / "coco.json").write_text(json.dumps(keys))
    assert convert(labels / "coco.json", "records")[0] == convert_data.WRONG_USAGE
    assert cause in convert.said.err


def test_an_image_listed_twice_in_coco_is_no_empty_page(convert, labels):
    image = {"id": 1, "file_name": "town.png"}
    note = {"image_id": 1, "bbox": [1, 2, 30, 4], "text": "x"}
    (labels / "coco.json").write_text(json.dumps({"images": [image, image], "annotations": [note]}))
    code, records, *_ = convert(labels / "coco.json", "records", "--allow-empty")
    assert (code, len(records)) == (convert_data.SOME_REFUSED, 1)


def test_page_xml_with_nan_for_a_place_is_refused(convert, labels):
    (labels / "nan.xml").write_text(
        '<PcGts><Page imageFilename="town.png" imageWidth="9" imageHeight="9"><TextRegion><TextLine>'
        '<Coords points="nan,5 20,30"/></TextLine></TextRegion></Page></PcGts>'
    )
    assert convert(labels / "nan.xml", "records")[0] == convert_data.WRONG_USAGE
    assert "nan.xml:1: point ['nan', '5']; as in 10,20 30,20" in convert.said.err


def test_names_of_files_steer_no_terminal_in_what_the_command_tells(convert, labels):
    name = "a\x1b[2J\ndone: 9 rows"
    (labels / f"{name}.json").write_bytes((labels / "cocotext.json").read_bytes())
    code, *_ = convert(labels / f"{name}.json", "records", out=name)
    assert code == 0
    first, *more = convert.said.out.splitlines()
    assert first.startswith("1 rows in ") and "/a\\x1b[2J\\ndone: 9 rows/" in first
    assert more and all(line.startswith("  1 ") for line in more)
    assert any(rf", the first at {labels}/a\x1b[2J\ndone: 9 rows.json" in line for line in more)
    assert "\x1b" not in convert.said.out


def test_the_commands_of_the_page_on_data_run(labels, ours, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs/data.md").read_text(encoding="utf-8")
    commands = [line.split()[2:] for line in text.splitlines() if line.startswith("got convert-data ")]
    assert len(commands) == 6
    (tmp_path / "pages").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "pages/1.png")
    (tmp_path / "pages/1.txt").write_text("Harbour report")
    import pyarrow
    from pyarrow import parquet

    page = {"bytes": (tmp_path / "pages/1.png").read_bytes(), "path": "1.png"}
    (tmp_path / "shards").mkdir()
    table = pyarrow.table({"image": [page], "ground_truth": ["Harbour report"]})
    parquet.write_table(table, "shards/train-00000-of-00001.parquet")
    labels.rename(tmp_path / "labels")
    for command in commands:
        assert convert_data.main(command) == convert_data.CONVERTED, command
    assert [record.task for record in read_records("mine/records.jsonl")] == ["spot", "spot"]


def test_a_label_file_in_place_of_records_is_told_what_to_do(labels):
    for name, form in (("page.xml", "XML"), ("cocotext.json", "COCO"), ("Label.txt", "PaddleOCR")):
        told = rf"labels with positions \({form}\); got convert-data makes records"
        with pytest.raises(RecordError, match=told):
            read_records(labels / name)


def test_only_pictures_below_the_folder_of_the_data_are_copied(convert, tmp_path):
    data, secret = tmp_path / "data", tmp_path / "private.png"
    data.mkdir()
    (data / "notes.png").write_text("password")
    for path in (secret, data / "a.png"):
        Image.new("L", (8, 8)).save(path)
    (data / "link.png").symlink_to(secret)
    names = ("/etc/passwd", "notes.png", "../private.png", "link.png", str(secret), "a.png")
    rows = [json.dumps({"images": [name], "task": "ocr", "text": "a"}) for name in names]
    (data / "rows.jsonl").write_text("\n".join(rows))
    code, found, causes = convert(data / "rows.jsonl", "records", "--copy-images")
    assert (code, len(found), len(causes)) == (1, 1, 5)
    assert [path.name for path in (tmp_path / "out/images").iterdir()] == ["a.png"]
    assert [cause.count("is not copied; use --copy-from-anywhere") for cause in causes] == [1, 0, 1, 1, 1]
    assert "notes.png: not a picture" in causes[1]
    code, found, causes = convert(data / "rows.jsonl", "records", "--copy-images", "--copy-from-anywhere")
    assert (code, len(found), len(causes)) == (1, 4, 2)  # the two that are no pictures stay out
