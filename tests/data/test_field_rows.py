"""Rows as people have them: Donut, PaddleOCR-VL, Nougat, prompts, CSV without a head or with semicolons.

The inputs under fixtures/field are re-creations of public reports; the right answers are theirs.
"""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from got_train.data.answers import unusual_answers
from got_train.data.columns import choose_columns
from got_train.data.record import RecordError
from got_train.data.records import read_records

FIELD = Path(__file__).resolve().parents[1] / "fixtures/field"


def rows_of(tmp_path, *rows, name="rows.jsonl", **options):
    (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_records(tmp_path / name, **options)


def test_the_text_of_donuts_ground_truth_is_the_answer():
    path = FIELD / "R01/train-00000-of-00001.parquet"
    for columns in (None, {"images": "image", "text": "ground_truth"}):
        records = read_records(path, task="ocr", columns=columns)
        assert [record.text for record in records][:3] == [
            "Der Hafen\nw\u00e4chst",
            "Town 1902",
            "M\u00fchle",
        ]
    whole = read_records(path, task="ocr", accept_answers=["json"])
    assert whole[1].text == '{"gt_parse": {"text_sequence": "Town 1902"}}'


def test_an_image_folder_of_donut_is_read_and_a_form_without_text_refused(tmp_path):
    rows = [
        {"file_name": "1.png", "ground_truth": json.dumps({"gt_parse": {"text_sequence": "Town"}})},
        {"file_name": "1.png", "ground_truth": json.dumps({"gt_parse": {"menu": [], "total": "5"}})},
    ]
    records = rows_of(tmp_path, *rows, name="metadata.jsonl")
    folder = read_records(tmp_path, task="ocr")
    assert folder[0].text == "Town"
    assert folder[0].images == (str(tmp_path / "1.png"),)
    with pytest.raises(RecordError, match="Donut's gt_parse of menu, total: fields of a form"):
        folder[1]
    assert len(records) == 2


def test_nougat_and_paddleocr_vl_rows_are_read(tmp_path):
    row = {"image": "1.png", "markdown": "# Town", "meta": [1]}
    (record,) = rows_of(tmp_path, row)
    assert (record.task, record.text) == ("format", "# Town")
    (record,) = read_records(FIELD / "R10/ernie.jsonl")
    assert (record.task, record.text) == ("ocr", "Harbour")
    assert Path(record.images[0]).is_file()
    told = {"image_info": [{"image_url": "1.png"}], "text_info": [{"text": "Read it.", "tag": "mask"},
            {"text": "a", "tag": "no_mask"}]}  # fmt: skip
    with pytest.raises(RecordError, match="the question 'Read it.' of an ERNIEKit row; expected one of OCR:"):
        rows_of(tmp_path, told)[0]


@pytest.mark.parametrize(
    ("prompt", "task"),
    [("OCR: ", "ocr"), ("<image>\nOCR with format:", "format"), ("OCR with boxes:", "spot")],
)
def test_a_prompt_in_gots_words_is_the_task_of_its_row(tmp_path, prompt, task):
    text = "[1,2,3,4] a" if task == "spot" else "a"
    (record,) = rows_of(tmp_path, {"images": ["1.png"], "prompt": prompt, "text": text}, task="format")
    assert record.task == task


def test_another_prompt_is_refused_and_never_dropped(tmp_path):
    with pytest.raises(RecordError, match="the prompt 'What is the total.' is none of GOT's questions"):
        rows_of(tmp_path, {"images": ["1.png"], "prompt": "What is the total?", "text": "5"})[0]


def test_a_document_is_kept_when_rows_are_written(tmp_path):
    (record,) = rows_of(tmp_path, {"images": ["1.png"], "task": "ocr", "text": "a", "document": "deed 7"})
    assert record.document == "deed 7"
    columns = {"images": "image", "text": "text", "document": "case"}
    row = {"image": "1.png", "text": "a", "case": "deed 8"}
    assert rows_of(tmp_path, row, task="ocr", columns=columns)[0].document == "deed 8"


# ---- CSV


def test_a_csv_file_without_a_head_is_read():
    records = read_records(FIELD / "L15/labels.csv", task="ocr")
    assert [record.text for record in records] == [
        "A MOVE to stop Mr. Gray from",
        "nominating any more, he said, life Peers",  # commas that nobody quoted
        "is to be made",
    ]
    assert records[2].location.endswith("labels.csv:3")


@pytest.mark.parametrize(("name", "sign"), [("a.csv", ";"), ("a.tsv", "\t"), ("a.csv", ",")])
@pytest.mark.parametrize("head", [True, False])
def test_cells_are_parted_by_commas_semicolons_or_tabs(tmp_path, name, sign, head):
    Image.new("L", (9, 9)).save(tmp_path / "1.png")
    lines = [f"image{sign}text"] * head + [f'1.png{sign}"one{sign} two"', f"1.png{sign}three"]
    (tmp_path / name).write_text("\n".join(lines))
    records = read_records(tmp_path / name, task="ocr", check_files=True)
    assert [record.text for record in records] == [f"one{sign} two", "three"]


def test_a_head_of_other_names_is_answered_with_the_columns_to_write(tmp_path):
    (tmp_path / "labels.csv").write_text("filename,words\n1.png,Town\n")
    with pytest.raises(RecordError, match=r"such as \{images: filename, text: words\}"):
        read_records(tmp_path / "labels.csv")
    assert read_records(tmp_path / "labels.csv", task="ocr", columns={"images": "filename", "text": "words"})


@pytest.mark.parametrize(
    ("name", "content", "texts"),
    [
        ("l.csv", "0.png|Town, gate\n1.png|Mill\n", ["Town, gate", "Mill"]),
        ("l.csv", "image, text\n0.png, Town\n1.png, Mill\n", ["Town", "Mill"]),
        ("l.csv", "Image;Text\n0.png;Town, gate\n1.png;Mill\n", ["Town, gate", "Mill"]),
        ("l.csv", "0.png,Town,gate\n1.png,Mill,wheel\n", ["Town,gate", "Mill,wheel"]),
    ],
)
def test_lists_of_pictures_and_texts_are_read_whatever_parts_them(tmp_path, name, content, texts):
    for number in (0, 1):
        Image.new("L", (40, 20), 255).save(tmp_path / f"{number}.png")
    (tmp_path / name).write_text(content)
    columns = choose_columns(tmp_path / name) or None
    assert [record.text for record in read_records(tmp_path / name, task="ocr", columns=columns)] == texts


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("0.png,Town,train\n1.png,Mill,test\n", "3 cells a line and no head, the last such as 'train'"),
        ("0.png,Town,1\n1.png,Mill,2\n", "3 cells a line and no head, the last such as '1'"),
        ("0.png,a,x\n1.png,b,x\n2.png,c,x\n", "3 cells a line and no head, the last such as 'x'"),
        ("sep=;\nimage;text\n0.png;Town\n", "'sep=;' is for Excel alone; leave this line out"),
        (
            "Bild;Wortlaut\n0.png;Town\n",
            r"columns which to read, such as {images: Bild, text: Wortlaut} if it",
        ),
    ],
)
def test_a_list_that_may_be_read_wrongly_is_refused_with_the_line_to_change(tmp_path, content, said):
    for number in range(3):
        Image.new("L", (40, 20), 255).save(tmp_path / f"{number}.png")
    (tmp_path / "l.csv").write_text(content)
    with pytest.raises(RecordError, match=said):
        read_records(tmp_path / "l.csv", task="ocr")


# ---- answers that are none


@pytest.mark.parametrize(
    ("texts", "kinds"),
    [
        (["10,21,267,21,267,67,10,67,ORANGE\n1,2,3,2,3,5,1,5,B"] * 2, ["boxes"]),
        (["10,21,267,67,ORANGE", "1,2,3,4,B"], ["boxes"]),
        (["0 0.51 0.5 0.31 0.22", "1 0.2 0.3 0.1 0.1"], ["boxes"]),
        (['{"total": "5"}', '[{"a": 1}]'], ["json"]),
        (["{'total': '5'}", "[{'a': None}]"], ["json"]),  # as Python prints it
        (["<page><line>Town</line></page>", '<?xml version="1.0"?><r/>'], ["xml"]),
        (["<table><tr><td>1</td></tr></table>", "<smiles>CCO</smiles>", "<b>x</b> and y"], []),
        (["Town\t10\t10\t60\t30", "Mill, the\t1\t2\t30\t40"], ["boxes"]),
        (["[[1, 2], [3, 2], [3, 4], [1, 4]] ('Town', 0.9)"] * 2, ["boxes"]),
        (["price 0.51 0.5 0.31 0.22", "date 0.2 0.3 0.1 0.1"], ["boxes"]),
        (["12.50", "7", "1,000"], ["numbers"]),
        (["/data/a.png", "b.JPG", "c/d.tif"], ["names"]),
        (["img_00001", "img_00002", "Line-3"], ["names"]),
        (["INV-00012", "INV-00013", "INV-00099"], []),  # what a field of a form may well say
        (["page"] * 6, ["equal"]),
        (["invoice", "receipt"] * 60, ["equal"]),
        (["page", "page"], []),
        (["Town 1902", "12.50", "M\u00fchle"], []),
        (['{"title": "t", "source": "s", "x_title": "x", "y_title": "y", "values": {"a": 1}}'] * 2, []),
        (["\u4e00\u4e8c\u4e09", "1902", "\u5e74"], []),
        (["[1] a note", "{x}"], []),
    ],
)
def test_answers_that_are_no_text_are_told_by_kind(texts, kinds):
    assert [unusual.kind for unusual in unusual_answers(texts)] == kinds


def test_a_folder_whose_texts_are_boxes_is_no_data_unless_that_is_meant(tmp_path):
    folder = Path(shutil.copytree(FIELD / "L14", tmp_path / "L14"))
    with pytest.raises(
        RecordError, match=r"its .txt files hold boxes \(ICDAR x1,y1,x2,y2,x3,y3,x4,y4,text\)"
    ):
        read_records(folder)
    assert len(read_records(folder, accept_answers=["boxes"])) == 6
    for text in folder.glob("*.txt"):
        text.write_text("0 0.51 0.5 0.31 0.22\n")
    with pytest.raises(RecordError, match="YOLO class, x, y, width, height"):
        read_records(folder)
