"""Siblings of the field cases: label files of the same kinds in other encodings, marks and shapes."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from got_train.autoconfig.documents import find_documents, read_documents
from got_train.cli import convert_data
from got_train.data.answers import unusual_answers
from got_train.data.record import RecordError, tell_once
from got_train.data.records import read_records

PAGE = (
    '<?xml version="1.0" encoding="{encoding}"?><PcGts xmlns="http://schema.primaresearch.org/PAGE/gts/'
    'pagecontent/2019-07-15"><Page imageFilename="{image}" imageWidth="400" imageHeight="200">'
    '<TextRegion id="r"><Coords points="0,0 390,0 390,190 0,190"/><TextLine id="l"><Coords '
    'points="10,10 200,10 200,30 10,30"/><TextEquiv><Unicode>Grüße</Unicode></TextEquiv></TextLine>'
    "</TextRegion></Page></PcGts>"
)
HOCR = (
    '<?xml version="1.0" encoding="{}"?><html><head><meta name="ocr-system" content="tesseract"/></head>'
    "<body><div class='ocr_page' title='image \"p1.png\"; bbox 0 0 400 200'><span class='ocr_line' "
    "title='bbox 10 10 200 30'>{}</span></div></body></html>"
)
COCO = {"id": 1, "image_id": 1, "bbox": [10, 10, 120, 20]}
PADDLE = [{"transcription": "one", "points": [[10, 10], [110, 10], [110, 30], [10, 30]], "difficult": False}]
TOTAL = "x: [[10 100 200]], y: [[20 20 60]], ornt: [u'c'], transcriptions: [u'{}']\n"


def page(encoding, python, image="p1.png"):
    return PAGE.format(encoding=encoding, image=image).encode(python)


def coco(**attributes):
    pictures = [{"id": 1, "file_name": "p1.png", "width": 400, "height": 200}]
    return json.dumps({"images": pictures, "annotations": [COCO | {"attributes": attributes}]})


@pytest.fixture
def convert(tmp_path, capsys):
    """A function: exit code, texts and words of got convert-data on files beside pictures."""

    def run(files, source="", pictures=("p1.png",)):
        for name in pictures:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            image = Image.new("L", (400, 200), 255)
            ImageDraw.Draw(image).text((20, 20), "harbour", 0)
            image.save(tmp_path / name)
        for name, content in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        out = tmp_path / "out"
        flags = ["--to", "records", "-o", str(out), "--tasks", "ocr"]
        code = convert_data.main([str(tmp_path / source), *flags])
        rows = out / "records.jsonl"
        texts = [json.loads(line)["text"] for line in rows.read_text().splitlines()] if rows.exists() else []
        said = capsys.readouterr()
        refused = out / "records.refused.jsonl"
        return code, texts, said.out + said.err + (refused.read_text() if refused.exists() else "")

    return run


@pytest.mark.parametrize(
    ("file", "content", "picture", "text"),
    [
        ("p1.xml", page("UTF-16", "utf-16"), "p1.png", "Grüße"),
        ("p1.xml", page("ISO-8859-1", "latin-1"), "p1.png", "Grüße"),
        ("p1.xml", page("UTF-8", "utf-8-sig", "C:\\scans\\P1.PNG"), "p1.png", "Grüße"),
        ("gt_a.txt", "10;21;267;21;267;67;10;67;ORANGE\n", "a.jpg", "ORANGE"),
        ("a.txt", "10\t21\t267\t21\t267\t67\t10\t67\tORANGE\n", "a.jpg", "ORANGE"),
        ("a.txt", "10 21 267 21 267 67 10 67 ORANGE red\n", "a.jpg", "ORANGE red"),
        (
            "a.txt",
            "10,21,267,21,267,67,10,67,1,000\n10,81,267,81,267,97,10,97,9.00\n",
            "a.jpg",
            "1,000\n9.00",
        ),
        ("a.txt", "10,21,100,21,267,21,267,67,100,67,10,67,ORANGE\n", "a.jpg", "ORANGE"),
        ("poly_gt_a.txt", TOTAL.format("ORANGE") + TOTAL.format("#"), "a.jpg", "ORANGE"),
        ("words.txt", 'rec/w1.png, "Tiredness"\nrec/w1.png, "a, b"\n', "rec/w1.png", "Tiredness|a, b"),
        ("words.txt", "rec/w1.png,Tiredness\n", "rec/w1.png", "Tiredness"),
        ("i.json", coco(Transcription="Cap"), "p1.png", "Cap"),
        ("i.json", coco(transcription="Far").replace("p1.png", "train/p1.png"), "p1.png", "Far"),
        ("annotations/i.json", coco(transcription="Up"), "images/p1.png", "Up"),
        ("p1.xml", page("UTF-8", "utf-8").replace(b"Unicode>", b"PlainText>"), "p1.png", "Grüße"),
        ("p1.hocr", HOCR.format("ISO-8859-1", "Grüße").encode("latin-1"), "p1.png", "Grüße"),
        ("a.txt", '10,21,267,21,267,67,10,67,0,"ORANGE"\n', "a.jpg", "ORANGE"),  # RCTW: not difficult
        ("a.txt", "10,21,90,21,267,21,267,67,90,67,10,67,####ORANGE\n", "a.jpg", "ORANGE"),  # CTW1500
        (
            "a.txt",
            "[[10.0, 21.0], [267.0, 21.0], [267.0, 67.0], [10.0, 67.0]] ('OR, \"A\"', 0.98)\n",
            "a.jpg",
            'OR, "A"',
        ),
        ("a.txt", "([[10, 21], [267, 21], [267, 67], [10, 67]], 'ORANGE', 0.98)\n", "a.jpg", "ORANGE"),
    ],
)
def test_other_encodings_marks_and_shapes_are_read(convert, file, content, picture, text):
    source = file if "words" in file or "i.json" in file else ""
    code, texts, _ = convert({file: content}, source, (picture,))
    assert (code, texts) == (0, text.split("|"))


@pytest.mark.parametrize("value", ["False", "no", False, 0])
def test_what_a_tool_calls_not_legible_is_counted_however_it_writes_it(convert, value):
    code, texts, said = convert({"i.json": coco(transcription="junk", legible=value)}, "i.json")
    assert (code, texts) == (2, []) and "1 illegible labels left out (1 words)" in said


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("Label.txt", "p1.png\t" + str(PADDLE), "its labels are Python's, in single quotes, and no JSON"),
        ("Label.txt", "p1.png\t" + json.dumps(PADDLE)[:-9], "the JSON of its labels is broken"),
        ("Label.txt", "p1.png\t港口".encode("gbk"), "not UTF-8"),
        (
            "e.jsonl",
            json.dumps({"id": 1, "data": {"ocr": "p1.png"}, "annotations": []}),
            "Label Studio in lines",
        ),
        ("p1.json", json.dumps({"DocumentMetadata": {}, "Blocks": []}), "Amazon Textract's answer"),
        ("p1.json", json.dumps({"responses": [{"fullTextAnnotation": {}}]}), "Google Vision's answer"),
        ("p1.json", json.dumps({"status": "ok", "analyzeResult": {}}), "Azure's answer"),
        (
            "p1.json",
            json.dumps({"input_path": "p1.png", "rec_texts": [], "rec_scores": []}),
            "give its Label.txt",
        ),
        ("p1.json", json.dumps({"schema_name": "DoclingDocument", "texts": []}), "a DoclingDocument"),
        ("p1.json", json.dumps({"valid_line": [], "meta": {}}), "CORD's label file"),
        ("p1.hocr", HOCR.format("UTF-8", "Grüße").encode("latin-1"), "not UTF-8"),
        (
            "Label.txt",
            f"p1.png\t{json.dumps(PADDLE)}\np1.png\tnull\n",
            "'null' where a list of labels belongs",
        ),
        ("Label.txt", f"p1.png\t{json.dumps(PADDLE[0])}\n", "where a list of labels belongs"),
        ("rec_gt.txt", "p1.png\t\n", "no text behind the picture"),
        ("a.txt", "10,21,267,21,267,67,10,67,Caf\u00e9\n".encode("latin-1"), "not UTF-8; save it as UTF-8"),
        ("a.txt", "total 0.51 0.5 0.2 0.1\n", "YOLO boxes, which have classes and no texts"),
        (
            "v.csv",
            "#filename,region_shape_attributes,region_attributes\np1.png,{},{}\n",
            "export its annotations",
        ),
        (
            "l.csv",
            "annotation_id,image,lead_time,transcription\n1,p1.png,2,a\n",
            "Label Studio's CSV; export JSON",
        ),
        ("m.json", json.dumps({"metainfo": {}, "data_list": []}), "MMOCR's labels"),
        ("x.json", json.dumps({"lang": "zh", "version": "0.1", "documents": []}), "XFUND's labels"),
        ("h.json", json.dumps({"info": {}, "annotations": []}), "HierText's labels"),
        ("l.xlsx", b"PK\x03\x04", "a spreadsheet; save it as CSV in UTF-8"),
        ("w.txt", json.dumps({"file_name": "p1.png", "annotations": []}), "a page of WildReceipt"),
        (
            "mets.xml",
            '<m:mets xmlns:m="http://www.loc.gov/METS/"/>',
            "METS, a list of files; give the folder",
        ),
        ("p1.tsv", "level\tpage_num\tconf\ttext\n5\t1\t96\tHarbour\n", "Tesseract's TSV; write hOCR or ALTO"),
    ],
)
def test_what_is_not_read_is_named_as_what_it_is(convert, file, content, words):
    code, texts, said = convert({file: content}, file)
    assert code == (1 if texts else 2) and texts in ([], ["one"]) and words in said
    assert "unknown key" not in said and "has records" not in said


@pytest.mark.parametrize("folder", ["", "json/"])
def test_a_folder_of_files_that_are_not_read_is_named_as_what_they_are(convert, folder):
    label = json.dumps({"valid_line": [], "meta": {}})
    code, _, said = convert({f"{folder}p1.json": label}, pictures=("image/p1.png",))
    assert code == 2 and "p1.json: CORD's label file" in said


def test_labels_in_the_folders_of_volumes_are_read_together_and_splits_one_by_one(convert):
    files = {f"vol{n}/page/p{n}.xml": page("UTF-8", "utf-8", f"p{n}.png") for n in (1, 2, 10)}
    code, texts, _ = convert(files, pictures=[f"vol{n}/p{n}.png" for n in (1, 2, 10)])
    assert (code, texts) == (0, ["Grüße"] * 3)


def test_labels_of_several_splits_are_not_joined(convert):
    files = {f"{split}/p1.xml": page("UTF-8", "utf-8") for split in ("train", "test")}
    code, texts, said = convert(files, pictures=("train/p1.png", "test/p1.png"))
    assert (code, texts) == (2, [])
    assert re.search("labels of several splits, .*/test, .*/train; give one of these folders", said)


def test_label_files_of_another_kind_in_a_folder_are_told(convert, tmp_path):
    """One alike in name is another copy of the same labels; one of another picture would be lost."""
    hocr = HOCR.format("UTF-8", "x")
    files = {"p1.xml": page("UTF-8", "utf-8"), "p1.hocr": hocr, "p2.hocr": hocr.replace("p1", "p2")}
    code, texts, said = convert(files, pictures=("p1.png", "p2.png"))
    assert (code, texts) == (0, ["Grüße"])
    told = "1 hOCR files in the same folder are not read (convert each by itself), the first at "
    assert f"{told}{tmp_path}/p2.hocr" in said and "p1.hocr" not in said


@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("points", [4, 2, 7])
def test_boxes_are_no_answers_whatever_parts_their_numbers(tmp_path, mark, points):
    numbers = ["10", "21", "267", "67"] if points == 2 else [str(10 + number) for number in range(2 * points)]
    lines = [mark.join([*numbers, text]) for text in ("ORANGE", "APPLE")]
    assert [each.kind for each in unusual_answers(["\n".join(lines)] * 4)] == ["boxes", "equal"]
    Image.new("L", (300, 100), 255).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("\n".join(lines))
    with pytest.raises(RecordError, match=r"its .txt files hold boxes .*; got convert-data makes records"):
        read_records(tmp_path)


@pytest.mark.parametrize(
    "answer",
    [
        "1 2 3 4 5 6 7 8 9\n9 8 7 6 5 4 3 2 1",  # a table of numbers
        "12, 14, 15 and 16 are even or not, as you like",
        "3 apples 4 pears 5 plums 6 figs",
        "x: the first, y: the second",
        "Bread, 1, 2.20\nMilk, 2, 0.99",  # a menu: two numbers are no box
        "Apples\t9\t8\t7\t6",  # a table: a box would not run backwards
        "<table><tr><td>a</td></tr></table>",
        "Rates 5 4 3 2",
    ],
)
def test_texts_with_numbers_stay_texts(answer):
    assert "boxes" not in [each.kind for each in unusual_answers([answer, answer + "."])]


def test_a_folder_that_holds_none_is_not_called_labels(tmp_path):
    (Path(tmp_path) / "p1.tsv").write_text("image\ttext\np1.png\tHarbour\n")
    assert len(read_records(tmp_path / "p1.tsv", task="ocr")) == 1


# ---- rows


TEXTS = ["Harbour report", "a town, a mill", "river 1802"]


def lines(*rows):
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)


def turns(question, keys=("role", "content"), speakers=("user", "assistant")):
    """Rows with a conversation each, the pictures beside it."""
    return [
        {
            "images": [f"{number}.png"],
            "messages" if keys[0] == "role" else "conversations": [
                {keys[0]: speakers[0], keys[1]: question},
                {keys[0]: speakers[1], keys[1]: text},
            ],
        }
        for number, text in enumerate(TEXTS, 1)
    ]


def in_parts(number, text):
    picture = {"type": "image_url", "image_url": {"url": f"{number}.png"}}
    asked = [picture, {"type": "text", "text": "OCR: "}]
    answer = [{"type": "text", "text": text}]
    return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]}


def paired(name):
    return lines(*({"image": f"{number}.png", name: text} for number, text in enumerate(TEXTS, 1)))


def table(mark, head="", quote=""):
    rows = (f"{number}.png{mark}{quote}{text}{quote}" for number, text in enumerate(TEXTS, 1))
    return head + "\n".join(rows)


@pytest.fixture
def folder(tmp_path):
    for number in (1, 2, 3):
        Image.new("L", (200, 60), 255).save(tmp_path / f"{number}.png")
    return tmp_path


def opened(folder, name, content):
    """What init makes of a file in a folder of pictures, and what it tells."""
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    candidates, notes = find_documents(str(folder), "")
    return read_documents(candidates, notes), notes


@pytest.mark.parametrize(
    ("name", "content", "task"),
    [
        ("a.jsonl", lines(*(in_parts(number, text) for number, text in enumerate(TEXTS, 1))), "ocr"),
        ("a.jsonl", lines(*turns("<image>OCR: ")), "ocr"),
        ("a.jsonl", lines(*turns("<image>OCR:")), "ocr"),  # as PaddleMIX and PaddleOCR-VL ask
        ("a.jsonl", lines(*turns("<image>OCR with format:")), "format"),
        ("a.json", json.dumps(turns("<image>\nOCR: ", ("from", "value"), ("user", "assistant"))), "ocr"),
        ("a.json", json.dumps(turns("<image>\nOCR: ", ("from", "value"), ("human", "gpt"))), "ocr"),
        ("a.jsonl", paired("ocr_text"), "ocr"),
        ("a.jsonl", paired("latex_formula"), "format"),
        ("a.jsonl", paired("html"), "format"),
        ("a.csv", table(",", "filename,words\n", '"'), "ocr"),
        ("a.csv", table(";", "filename;words\n"), "ocr"),
        ("a.csv", table(";"), "ocr"),
        ("a.csv", b"\xef\xbb\xbf" + table(",", "", '"').encode(), "ocr"),
        ("a.tsv", table("\t"), "ocr"),
        ("a.tsv", table("\t", "image\ttext\n"), "ocr"),
        ("a.csv", "\n".join(f'"{text}",{number}.png' for number, text in enumerate(TEXTS, 1)), "ocr"),
    ],
)
def test_rows_of_many_shapes_are_read_by_init_and_by_convert_data(folder, capsys, name, content, task):
    (document,), _ = opened(folder, name, content)
    assert [record.text for record in document.records] == TEXTS
    assert {record.task for record in document.records} == {task}
    assert [Path(record.images[0]).name for record in document.records] == ["1.png", "2.png", "3.png"]
    out = folder / "out"
    assert convert_data.main([str(folder / name), "--to", "records", "-o", str(out)]) == 0
    rows = [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]
    assert [(row["text"], row["task"]) for row in rows] == [(text, task) for text in TEXTS]


def test_a_question_without_its_last_space_is_told_once(folder, capsys):
    tell_once.cache_clear()
    (document,), _ = opened(folder, "a.jsonl", lines(*turns("<image>OCR:")))
    assert len([record.text for record in document.records]) == 3
    assert capsys.readouterr().err.count("lack the last space of GOT's own") == 1


def test_other_questions_are_never_dropped_in_silence(folder, capsys):
    asked = ("read it", "the total?", "the date?")
    rows = (
        {"image": f"{number}.png", "question": question, "answer": text}
        for number, (question, text) in enumerate(zip(asked, TEXTS, strict=True), 1)
    )
    _, notes = opened(folder, "a.jsonl", lines(*rows))
    assert any("question column question" in note and "3 different values" in note for note in notes)
    assert convert_data.main([str(folder / "a.jsonl"), "--to", "records", "-o", str(folder / "out")]) == 2
    assert "column question has 3 different questions" in capsys.readouterr().err
    documents, notes = opened(folder, "a.jsonl", lines(*turns("<image>Read the text.")))
    assert not documents and any("'Read the text.' is not known" in note for note in notes)


def test_numbers_of_pandas_are_no_questions(folder):
    content = ",image,text\n" + "\n".join(f"{number},{number}.png,line {number}" for number in (1, 2, 3))
    (document,), notes = opened(folder, "a.csv", content)
    assert len(document.records) == 3 and not any("question" in note for note in notes)


# ---- Label Studio


def region(text, name="transcription"):
    value = {"x": 10, "y": 5, "width": 50, "height": 10, "text": [text]}
    size = {"original_width": 400, "original_height": 200}
    return {"id": "a", "type": "textarea", "from_name": name, **size, "value": value}


def test_an_annotation_in_a_file_of_its_own_is_read_with_its_task(convert):
    task = {"id": 1, "data": {"ocr": "/data/upload/1/ab12cd34-p1.png"}}
    code, texts, _ = convert(
        {"1.json": json.dumps({"id": 7, "task": task, "result": [region("a")]})}, "1.json"
    )
    assert (code, texts) == (0, ["a"])
    code, _, said = convert({"2.json": json.dumps({"id": 7, "task": 1, "result": [region("a")]})}, "2.json")
    assert code == 2 and "an annotation of Label Studio without the data of its task; export JSON" in said


def test_a_text_of_a_region_that_another_replaces_is_counted(convert):
    results = [region("Hello you"), region("Hallo", "corrected")]
    task = {"data": {"ocr": "p1.png"}, "annotations": [{"result": results}]}
    code, texts, said = convert({"e.json": json.dumps([task])}, "e.json")
    assert (code, texts) == (0, ["Hallo"])
    assert "1 texts of a region before its last left out (2 words)" in said


# ---- folders of pictures and texts


@pytest.mark.parametrize(
    ("text", "picture"),
    [
        ("{}.TXT", "{}.PNG"),
        ("{}.gt.txt", "{}.png"),
        ("{}.gt.txt", "{}.bin.png"),
        ("{}.gt.txt", "{}.nrm.png"),
        ("{}.png.txt", "{}.png"),
        ("{}.gt.txt", "{}.gt.png"),
    ],
)
def test_texts_are_found_by_every_usual_name(tmp_path, text, picture):
    for name in ("page.1", "page.2"):
        Image.new("L", (40, 20), 255).save(tmp_path / picture.format(name), "PNG")
        (tmp_path / text.format(name)).write_text(name)
    records = read_records(tmp_path)
    assert [record.text for record in records] == ["page.1", "page.2"]
    assert records[0].location.endswith(text.format("page.1"))


def test_two_texts_of_one_picture_are_refused(tmp_path):
    Image.new("L", (40, 20), 255).save(tmp_path / "1.png")
    for name in ("1.txt", "1.gt.txt"):
        (tmp_path / name).write_text("a")
    with pytest.raises(RecordError, match="1.gt.txt and 1.txt; expected one text a picture"):
        read_records(tmp_path)


def test_the_fields_of_sroie_are_named_and_not_called_labels_with_positions(tmp_path, convert):
    fields = json.dumps({"company": "A", "total": "3"})
    code, _, said = convert({"key/0.json": fields}, pictures=("img/0.jpg",))
    assert code == 2 and "SROIE key information (company, date, address, total), no text of a page" in said
    documents, notes = find_documents(str(tmp_path), "")
    read_documents(documents, notes)
    assert not any("with positions" in note for note in notes)
