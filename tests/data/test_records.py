"""Every format of records from real files, and what is said of broken ones."""

import json
import os
import pickle
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from got_train.data.records import (
    ConcatDataset,
    Record,
    RecordError,
    RecordFile,
    name_from,
    read_meta,
    read_records,
    write_records,
)
from got_train.images import EncodedImage

FORMATS = Path(__file__).parents[1] / "fixtures" / "formats"
GOT = FORMATS / "got" / "images"
HARBOUR = str(GOT / "harbour_p1.png")
TEXT = (FORMATS / "text_pairs/gt/harbour_p1.txt").read_text().removesuffix("\n")
PLAIN = {"images": ["a.png"], "task": "ocr", "text": "words"}


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def conversation(query="OCR: ", image="a.png", answer="words"):
    return {"image": image, "conversations": [{"from": "human", "value": f"<image>\n{query}"}, said(answer)]}


def said(answer):
    return {"from": "gpt", "value": answer}


# Our own form.


def test_a_line_becomes_a_record_with_its_paths_joined_and_its_place(tmp_path):
    row = {"images": ["pages/1.png"], "task": "format", "text": "# T", "box": [1, 2.5, 30, 40], "color": None}
    record = read_records(write(tmp_path / "train.jsonl", PLAIN, row))[1]
    assert record == Record((f"{tmp_path}/pages/1.png",), "format", "# T", (1, 2.5, 30, 40))
    assert (record.location, record.box_unit) == (f"{tmp_path}/train.jsonl:2", "pixel")
    with pytest.raises(FrozenInstanceError):
        record.text = "other"


def test_image_root_replaces_the_folder_of_the_file_and_absolute_paths_stay(tmp_path):
    path = write(tmp_path / "train.jsonl", PLAIN, {**PLAIN, "images": ["/data/b.png"]})
    assert [record.images for record in read_records(path, image_root="root")] == [
        ("root/a.png",),
        ("/data/b.png",),
    ]


def test_a_list_in_json_is_read_like_lines(tmp_path):
    path = tmp_path / "train.json"
    path.write_text(json.dumps([PLAIN, {**PLAIN, "text": "two"}], indent=2))
    records = read_records(path)
    assert [record.text for record in records] == ["words", "two"]
    assert records[1].location == f"{path}[1]"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("last", [True, False])
def test_line_numbers_stay_true_past_blank_lines_bom_and_crlf(tmp_path, end, bom, last):
    lines = [
        "",
        json.dumps(PLAIN),
        "   ",
        "",
        json.dumps({**PLAIN, "text": "\u5c0f"}, ensure_ascii=False),
        "\t",
    ]
    path = tmp_path / "train.jsonl"
    path.write_bytes(bom + (end.join(lines) + end * last).encode())
    records = read_records(path)
    assert [(record.text, record.location) for record in records] == [
        ("words", f"{path}:2"),
        ("\u5c0f", f"{path}:5"),
    ]


def test_a_json_list_of_any_layout_gives_the_same_as_the_json_module(tmp_path):
    rows = [
        {**PLAIN, "text": text}
        for text in ('a "quoted" ]', "\u5c0f\u9547, [1, {2}", "\\", "\U0001f600", "\u0085x")
    ]
    for options in (
        {},
        {"indent": 3},
        {"ensure_ascii": False},
        {"ensure_ascii": False, "separators": (",", ":")},
    ):
        for before in (b"", b"\xef\xbb\xbf", b" \n"):
            path = tmp_path / "train.json"
            path.write_bytes(before + json.dumps(rows, **options).encode() + b"\n\n")
            assert [record.text for record in read_records(path)] == [row["text"] for row in rows]


def test_lines_under_the_name_of_json_are_read_as_lines(tmp_path):
    assert [record.location[-1] for record in read_records(write(tmp_path / "a.json", PLAIN, PLAIN))] == [
        "1",
        "2",
    ]
    assert len(read_records(write(tmp_path / "a.json", PLAIN))) == 1


def test_a_record_file_is_a_sequence(tmp_path):
    records = read_records(write(tmp_path / "a.jsonl", *({**PLAIN, "text": str(row)} for row in range(4))))
    assert (len(records), records[-1].text, records[np.int64(2)].text) == (4, "3", "2")
    assert [record.text for record in reversed(records)] == ["3", "2", "1", "0"]
    for index in (4, -5):
        with pytest.raises(IndexError, match=f"record {index} of 4"):
            records[index]
    with pytest.raises(TypeError):
        records["0"]


def test_a_100_000_line_file_is_opened_in_8_bytes_a_line_and_pickles_with_its_place(tmp_path):
    path = tmp_path / "long.jsonl"
    path.write_text("".join(f'{{"images":["{i}.png"],"task":"ocr","text":"{i}"}}\n' for i in range(100_000)))
    records = RecordFile(path)
    pickled = pickle.dumps(records)
    assert len(pickled) < 8 * 100_000 + 1000
    assert pickle.loads(pickled)[99_999] == records[99_999]
    assert records[54_321].location == f"{path}:54322"
    assert records[54_321].text == "54321"


def test_a_file_that_changed_is_refused(tmp_path):
    path = write(tmp_path / "a.jsonl", PLAIN)
    records = read_records(path)
    write(path, PLAIN, PLAIN)
    with pytest.raises(RecordError, match="a.jsonl: changed since it was opened; start again"):
        records[0]
    path.unlink()
    with pytest.raises(RecordError, match="a.jsonl: No such file"):
        records[0]


def test_a_blank_page_is_allowed_when_asked_for(tmp_path):
    path = write(tmp_path / "a.jsonl", {**PLAIN, "text": " \n"})
    assert read_records(path, allow_empty=True)[0].text == " \n"
    with pytest.raises(RecordError, match="a.jsonl:1: empty answer; give the text seen"):
        read_records(path)[0]


def test_missing_images_are_found_only_when_asked_for(tmp_path):
    path = write(tmp_path / "a.jsonl", PLAIN)
    assert read_records(path)[0].images == (f"{tmp_path}/a.png",)
    with pytest.raises(
        RecordError, match=f"a.jsonl:1: no file {tmp_path}/a.png; paths are relative to the data file"
    ):
        read_records(path, check_files=True)[0]
    (tmp_path / "a.png").touch()
    assert len(list(read_records(path, check_files=True))) == 1


@pytest.mark.parametrize("task", ["multi_crop", "multi_crop_ocr", "multi_page"])
def test_only_the_multi_tasks_take_several_images(task):
    assert len(Record(("a", "b"), task, "x").images) == 2
    assert len(Record(("a",), task, "x").images) == 1


def test_a_point_is_a_box_and_a_thin_box_in_thousandths_too():
    assert Record(("a",), "ocr", "x", box=(3, 4)).box == (3, 4)
    assert Record(("a",), "ocr", "x", box=(3, 4, 3, 9), box_unit="thousandth").box == (3, 4, 3, 9)


# The broken sheet: one line of a file, and what is said after `file:line: `.

BROKEN = [
    (
        '{"images": ["a.png"], "task": "ocr", "text": "x"',
        "not JSON: Expecting ',' delimiter at column 49; expected one obj",
    ),
    ('{"images": ["a.png"]} {}', "not JSON: Extra data at column 23"),
    ("images: a.png", "not JSON: Expecting value at column 1"),
    ('["a.png", "text"]', "['a.png', 'text']; expected an object with images, task and text"),
    (
        b'{"images": ["a.png"], "task": "ocr", "text": "\xff"}',
        "not UTF-8 ('utf-8' codec can't decode byte 0xff",
    ),
    ("[" * 100_000, "not JSON: maximum recursion depth exceeded"),
    ({"txt": "x", **PLAIN}, "unknown key 'txt'; did you mean text?"),
    ({"md5": "0", **PLAIN}, "unknown key 'md5'; expected one of images, task, text, box, color, box_unit"),
    ({"image": "a.png", "task": "ocr", "text": "x"}, "unknown key 'image'; did you mean images?"),
    ({"images": ["a.png"], "text": "x"}, "no task; a record has images, task and text"),
    ({**PLAIN, "images": "a.png"}, "images is 'a.png'; expected a list of paths, even of one"),
    ({**PLAIN, "images": []}, "images is empty; expected at least one path"),
    ({**PLAIN, "images": ["a.png", None]}, "images[1] is None; expected the path of an image"),
    ({**PLAIN, "images": ["a.png", "b.png"]}, "2 images with task ocr; expected one, or task multi_page"),
    ({**PLAIN, "task": "formated"}, "task is 'formated'; did you mean format?"),
    ({**PLAIN, "task": 3}, "task is 3; expected one of ocr, format, multi_crop"),
    ({**PLAIN, "text": None}, "text is None; expected a string"),
    ({**PLAIN, "text": ""}, "empty answer; give the text seen, or allow_empty for blank pages"),
    ({**PLAIN, "text": "\ud83d"}, "text holds half a character, '\\ud83d'; expected whole ones"),
    ({**PLAIN, "color": "rde"}, "color is 'rde'; did you mean red?"),
    ({**PLAIN, "color": "purple"}, "color is 'purple'; expected one of red, green, blue"),
    ({**PLAIN, "box": [1, 2, 3]}, "box is (1, 2, 3); four numbers x1, y1, x2, y2, or a point x, y"),
    ({**PLAIN, "box": "1,2,3,4"}, "box is '1,2,3,4'; four numbers"),
    ({**PLAIN, "box": [1, 2, True, 4]}, "box is (1, 2, True, 4); four numbers"),
    ({**PLAIN, "box": [1, 2, float("nan"), 4]}, "box is (1, 2, nan, 4); four numbers"),
    ({**PLAIN, "box": [1, 2, 3, float("inf")]}, "box is (1, 2, 3, inf); four numbers"),
    ({**PLAIN, "box": [float("nan"), 4]}, "box is (nan, 4); four numbers"),
    (
        {**PLAIN, "char_boxes": [["w", 1, 2, 3, 4], ["o", 3, 2, float("nan"), 4]]},
        "char_boxes holds ('o', 3, 2, nan, 4); expected a character, x1, y1, x2, y2",
    ),
    (
        {**PLAIN, "char_boxes": [["w", 1, 2, float("-inf"), 4]]},
        "char_boxes holds ('w', 1, 2, -inf, 4); expected a character",
    ),
    (
        {**PLAIN, "box": [-1, 2, 3, 4]},
        "box [-1, 2, 3, 4] begins outside the image; expected no number below 0",
    ),
    ({**PLAIN, "box": [9, 2, 3, 4]}, "box [9, 2, 3, 4] has no area; expected x1 < x2 and y1 < y2"),
    ({**PLAIN, "box": [3, 2, 3, 4]}, "box [3, 2, 3, 4] has no area"),
    (
        {**PLAIN, "box": [1, 2, 3, 1001], "box_unit": "thousandth"},
        "box [1, 2, 3, 1001] in thousandths; expected whole numbers",
    ),
    (
        {**PLAIN, "box": [1, 2, 3.5, 9], "box_unit": "thousandth"},
        "box [1, 2, 3.5, 9] in thousandths; expected whole numbers",
    ),
    ({**PLAIN, "box_unit": "percent"}, "box_unit is 'percent'; expected one of pixel, thousandth"),
    ({**PLAIN, "box": [1, 2, 3, 4], "color": "red"}, "box and color together; expected one region"),
    (
        {**PLAIN, "task": "multi_page", "box": [1, 2, 3, 4]},
        "box with task multi_page; only ocr and format read",
    ),
    ({**PLAIN, "task": "multi_crop", "color": "red"}, "color with task multi_crop; only ocr and format read"),
    (conversation(query="OCR"), "query: 'OCR' is not known"),
    (conversation(query="Read this."), "query: 'Read this.' is not known"),
    (conversation(query="[1, 2, 3, 1004] OCR: "), "query: box [1, 2, 3, 1004] is not"),
    (conversation(query="<image>\nOCR: "), "2 <image> in the question; expected one, before the query"),
    (conversation(image=None), "images is None; expected a list of paths"),
    ({"image": "a.png", "conversations": []}, "turns of nobody; expected one of human, then one of gpt"),
    ({"image": "a.png", "conversations": "OCR: "}, "conversations is 'OCR: '; expected a list of turns"),
    (
        {"image": "a.png", "conversations": [said("x"), said("y")]},
        "turns of gpt, gpt; expected one of human, then one of gpt",
    ),
    (conversation(answer=7), "the value of gpt is 7; expected a string"),
    (
        {**conversation(), "conversations": conversation()["conversations"] * 2},
        "4 turns; expected one question and one answer",
    ),
    (
        {"query": "<image>OCR: ", "response": "x", "images": []},
        "images is empty; expected at least one path",
    ),
    ({"query": "OCR: ", "response": "x", "images": ["a.png"]}, "0 <image> for 1 image(s)"),
    ({"query": "<image>OCR: ", "images": ["a.png"]}, "the answer is None; expected a string"),
    ({"query": "<image>OCR: ", "response": "x", "images": 3}, "images is 3; expected a list of paths"),
    (
        {"query": "<image>OCR: ", "response": "x", "images": ["a.png"], "history": [["a", "b"]]},
        "history is [['a', 'b'",
    ),
]


@pytest.mark.parametrize(("line", "what"), BROKEN, ids=[what[:40] for _, what in BROKEN])
def test_a_broken_line_is_refused_by_file_and_line(tmp_path, line, what):
    raw = line if isinstance(line, bytes) else (line if isinstance(line, str) else json.dumps(line)).encode()
    path = tmp_path / "bad.jsonl"
    path.write_bytes(json.dumps(PLAIN).encode() + b"\n\n" + raw + b"\n" + json.dumps(PLAIN).encode())
    records = read_records(path)
    assert (len(records), records[2].text) == (3, "words")
    with pytest.raises(RecordError) as error:
        records[1]
    assert str(error.value).startswith(f"{path}:3: {what}")


@pytest.mark.parametrize(
    ("name", "data", "what"),
    [
        ("a.jsonl", b"", ": holds no records; expected at least one"),
        ("a.jsonl", b"\n \r\n", ": holds no records"),
        ("a.jsonl", b"\xef\xbb\xbf", ": holds no records"),
        ("a.json", b"[]", ": holds no records"),
        ("a.json", b'[{"a": 1}', "[0]: not JSON: a comma or ] is missing"),
        ("a.json", b'[{"a": 1} {"a": 2}]', "[0]: not JSON: a comma or ] is missing"),
        ("a.json", b'[{"a": 1}, {"a": 2]', "[1]: not JSON: Expecting ',' delimiter"),
        ("a.json", b'[{"a": 1},]', "[1]: not JSON: Expecting value"),
        ("a.json", b'[{"a": 1}] x', "[0]: not JSON: something follows the list"),
        ("a.json", b"[" * 100_000, "[0]: not JSON: maximum recursion"),
        ("a.jsonl", json.dumps(PLAIN).encode("utf-16"), ": is UTF-16; save it as UTF-8"),
    ],
)
def test_a_broken_file_is_refused_when_opened(tmp_path, name, data, what):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(RecordError) as error:
        read_records(path)
    assert str(error.value).startswith(f"{path}{what}")


def test_an_absent_file_and_a_task_that_is_none_are_refused(tmp_path):
    with pytest.raises(
        RecordError, match="none.jsonl: no such file; expected a .jsonl or .json file, or a folder"
    ):
        read_records(tmp_path / "none.jsonl")
    with pytest.raises(RecordError, match="a.jsonl: task is 'oc'; did you mean ocr?"):
        read_records(write(tmp_path / "a.jsonl", PLAIN), task="oc")


def test_the_sources_task_is_that_of_rows_that_name_none(tmp_path):
    path = write(tmp_path / "a.jsonl", {"images": ["a.png"], "text": "x"}, PLAIN)
    assert [record.task for record in read_records(path, task="format")] == ["format", "ocr"]


def test_a_record_made_by_hand_is_checked_too():
    for changes, what in (
        ({"images": ["a.png"]}, r"images is \['a.png'\]; expected a tuple of paths"),
        ({"images": (Path("a.png"),)}, r"images\[0\] is PosixPath"),
        ({"box": [1, 2, 3, 4]}, r"box is \[1, 2, 3, 4\]; four numbers"),
        ({"task": "page"}, "task is 'page'; "),
    ):
        with pytest.raises(RecordError, match=f"^record: {what}"):
            replace(Record(("a.png",), "ocr", "x"), **changes)


# The formats of others.


def test_the_original_conversations_are_read_with_boxes_in_thousandths():
    records = list(read_records(FORMATS / "got/conversations.json", image_root=GOT, check_files=True))
    assert [(record.task, record.box, record.color) for record in records] == [
        ("ocr", None, None),
        ("ocr", None, None),
        ("format", None, None),
        ("ocr", (40, 139, 840, 217), None),
        ("ocr", None, "red"),
    ]
    assert {record.box_unit for record in records if record.box} == {"thousandth"}
    assert (records[0].images, records[0].text) == ((HARBOUR,), TEXT)
    assert records[1].text == "\u5c0f\u9547\u7684\u6e05\u6668\n" + records[1].text.split("\n", 1)[1]
    assert records[3].location.endswith("conversations.json[3]")


def test_a_folder_of_tiles_or_pages_becomes_images_in_natural_order(tmp_path):
    folder = tmp_path / "images" / "sample"
    folder.mkdir(parents=True)
    for number in (10, 9, 1):
        Image.new("L", (2, 2)).save(folder / f"page{number}.png")
    (folder / "note.txt").touch()
    rows = [
        conversation("OCR with format across multi pages: ", image="sample"),
        conversation("OCR with format upon the patch reference: ", image="sample/"),
        conversation("OCR: ", image="sample"),
        conversation("OCR with format across multi pages: ", image="empty"),
    ]
    (tmp_path / "images" / "empty").mkdir()
    (tmp_path / "a.json").write_text(json.dumps(rows))
    records = read_records(tmp_path / "a.json", image_root=tmp_path / "images", check_files=True)
    assert (records[0].task, records[1].task) == ("multi_page", "multi_crop")
    assert [Path(image).name for image in records[0].images] == ["page1.png", "page9.png", "page10.png"]
    assert list(map(Path, records[1].images)) == list(map(Path, records[0].images))
    with pytest.raises(
        RecordError, match=r"a.json\[2\]: 3 images with task ocr; expected one, or task multi_page"
    ):
        records[2]
    with pytest.raises(
        RecordError, match=r"a.json\[3\]: no pictures in the folder .*empty; expected tiles or pages"
    ):
        records[3]


def test_conversations_in_lines_are_read_too(tmp_path):
    path = write(tmp_path / "a.jsonl", conversation("[10, 20] OCR with format: "))
    assert read_records(path)[0] == Record(
        (f"{tmp_path}/a.png",), "format", "words", (10, 20), None, "thousandth"
    )


def test_ms_swift_messages_are_read():
    records = list(
        read_records(FORMATS / "ms_swift/messages.jsonl", image_root=FORMATS / "got", check_files=True)
    )
    assert [(record.task, record.images) for record in records] == [
        ("ocr", (HARBOUR,)),
        ("ocr", (str(GOT / "town_p1.png"),)),
    ]
    assert records[0].text == TEXT


def test_ms_swift_query_and_response_is_read_and_two_pages_need_their_own_query():
    records = read_records(
        FORMATS / "ms_swift/query_response.jsonl", image_root=FORMATS / "got", check_files=True
    )
    assert records[0] == Record((HARBOUR,), "ocr", TEXT)
    with pytest.raises(
        RecordError, match="query_response.jsonl:2: 2 images with task ocr; expected one, or task multi_page"
    ):
        records[1]


def test_ms_swift_pages_boxes_and_image_objects_are_read(tmp_path):
    pages = {
        "query": "<image><image>OCR with format across multi pages: ",
        "response": "x",
        "images": ["a.png", "b.png"],
    }
    boxed = {
        "query": "<image>\n[1, 2, 3, 4] OCR: ",
        "response": "x",
        "images": [{"bytes": None, "path": "a.png"}],
    }
    named = {
        "query": "<image>OCR: ",
        "response": "x",
        "images": "a.png",
        "channel": "zh",
        "history": [],
        "system": None,
    }
    records = read_records(write(tmp_path / "a.jsonl", pages, boxed, named), image_root="r")
    assert records[0] == Record(("r/a.png", "r/b.png"), "multi_page", "x")
    assert records[1] == Record(("r/a.png",), "ocr", "x", (1, 2, 3, 4), None, "thousandth")
    assert records[2] == Record(("r/a.png",), "ocr", "x")


def test_predictions_of_ms_swift_are_not_taken_for_training_data():
    records = read_records(FORMATS / "ms_swift/infer_result.jsonl")
    with pytest.raises(
        RecordError, match="infer_result.jsonl:1: labels is 'Harbour.*; this is a result of inference"
    ):
        records[0]


def test_the_fox_questions_without_the_last_space_are_read_and_others_refused_with_the_nearest():
    for name, color in (("en_page_ocr.json", None), ("en_onbox_ocr.json", "red")):
        record = read_records(FORMATS / "fox" / name, image_root=GOT)[0]
        assert (record.task, record.color) == ("ocr", color)
    name = "encn-multi-8page-box-ocr.json"
    with pytest.raises(RecordError, match=rf"{name}\[0\]: query: '.*' is not known.*OCR.*: '"):
        read_records(FORMATS / "fox" / name, image_root=GOT)[0]


def test_a_meta_json_joins_its_data_sets_in_order(tmp_path):
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "a.json").write_text(
        json.dumps([conversation(answer="1"), conversation(answer="2")])
    )
    write(tmp_path / "sets" / "b.jsonl", conversation(answer="3"))
    meta = tmp_path / "meta.json"
    meta.write_text(
        json.dumps(
            {
                "first": {"images": "pictures/", "annotations": "sets/a.json", "conv": "mpt"},
                "second": {"images": "more", "annotations": "sets/b.jsonl"},
            },
            indent=1,
        )
    )
    records = read_records(meta)
    assert isinstance(records, ConcatDataset)
    assert [record.text for record in records] == ["1", "2", "3"]
    assert (len(records), records[-3].text, records[-1].text) == (3, "1", "3")
    assert [record.images[0] for record in records] == [f"{tmp_path}/pictures/a.png"] * 2 + [
        f"{tmp_path}/more/a.png"
    ]
    assert records[2].location == f"{tmp_path}/sets/b.jsonl:1"
    assert {name: len(part) for name, part in read_meta(meta).items()} == {"first": 2, "second": 1}
    with pytest.raises(IndexError, match="record 3 of 3"):
        records[3]


@pytest.mark.parametrize(
    ("meta", "what"),
    [
        (
            {"a": {"images": "i/", "annotations": "none.json"}},
            r"\['a'\]: no file .*none.json; annotations are named",
        ),
        ({"a": {"images": 3, "annotations": "none.json"}}, r"\['a'\]: \{'images': 3, .*; \{\"name\": "),
        ({"a": {"images": "i/"}}, ": not a meta JSON; "),
        ({}, ": not a meta JSON; "),
    ],
)
def test_a_wrong_meta_json_is_refused(tmp_path, meta, what):
    path = tmp_path / "meta.json"
    path.write_text(json.dumps(meta))
    with pytest.raises(RecordError, match=f"^{path}{what}"):
        read_meta(path)


def test_a_folder_of_pictures_and_texts_is_read_in_natural_order(tmp_path):
    for number in (10, 2):
        Image.new("L", (2, 2)).save(tmp_path / f"p{number}.png")
    (tmp_path / "p10.txt").write_bytes(b"\xef\xbb\xbften\r\nlines\r\n")
    (tmp_path / "p2.txt").write_text("two")
    records = read_records(tmp_path, task="format", check_files=True)
    assert [(record.task, record.text) for record in records] == [("format", "two"), ("format", "ten\nlines")]
    assert records[1].location == f"{tmp_path}/p10.txt"
    assert records[0].images == (f"{tmp_path}/p2.png",)
    (tmp_path / "p2.txt").write_bytes(b"\xff")
    with pytest.raises(RecordError, match="p2.txt: not UTF-8"):
        records[0]
    (tmp_path / "p2.txt").write_text("\n")
    with pytest.raises(RecordError, match="p2.txt: empty answer"):
        records[0]


def test_texts_with_their_pictures_elsewhere_are_read(tmp_path):
    for name in ("harbour_p1.png", "town_p1.png"):
        (tmp_path / name).write_bytes((GOT / name).read_bytes())
    records = read_records(FORMATS / "text_pairs/gt", image_root=tmp_path)
    assert [len(record.text) for record in records] == [140, 34]
    assert records[0].images == (f"{tmp_path}/harbour_p1.png",)
    with pytest.raises(
        RecordError, match=r"gt: no harbour_p1_red.txt \(1 missing\); expected one text a picture"
    ):
        read_records(FORMATS / "text_pairs/gt", image_root=GOT)


@pytest.mark.parametrize(
    ("names", "options", "what"),
    [
        (
            (),
            {},
            ": holds no records; expected records.jsonl, metadata.jsonl or .csv, parquet files, a saved",
        ),
        (("a.png", "b.png", "c.png", "c.txt"), {}, r": no a.txt \(2 missing\); expected one text a picture"),
        (("a.png", "a.txt", "b.txt"), {}, r": no b picture \(1 missing\); expected one text a picture"),
        (("a.png", "a.jpg", "a.txt"), {}, ": 2 pictures a; expected one a text"),
        (("a.png", "a.txt"), {"task": "multi_page"}, ": task is 'multi_page'; expected one of ocr, format"),
        (
            ("a.png", "a.txt"),
            {"image_root": "/none"},
            "/none: no such folder; expected the folder of the images",
        ),
    ],
)
def test_an_uneven_folder_is_refused_when_opened(tmp_path, names, options, what):
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(RecordError, match=f"^({tmp_path})?{what}"):
        read_records(tmp_path, **options)


# Writing.


def test_what_is_written_is_read_back_the_same(tmp_path):
    records = [
        Record((f"{tmp_path}/sets/pages/1.png",), "ocr", 'line\nline \u5c0f \u2028 "q"', (1, 2, 3.5, 4)),
        Record((f"{tmp_path}/sets/a.png", f"{tmp_path}/sets/b.png"), "multi_page", "x"),
        Record((f"{tmp_path}/sets/a.png",), "format", "x", color="green"),
        Record((f"{tmp_path}/sets/a.png",), "format", "x", (0, 0, 1000, 1000), box_unit="thousandth"),
    ]
    path = tmp_path / "sets" / "train.jsonl"
    assert write_records(path, iter(records)) == 4
    assert list(read_records(path)) == records
    first = json.loads(path.read_text(encoding="utf-8").split("\n")[0])
    assert first == {
        "images": ["pages/1.png"],
        "task": "ocr",
        "text": records[0].text,
        "box": [1, 2, 3.5, 4],
    }
    assert [path.name for path in path.parent.iterdir()] == ["train.jsonl"]


def test_images_beside_the_folder_are_written_relative_to_the_file(tmp_path):
    path = tmp_path / "sets" / "train.jsonl"
    write_records(path, [Record((f"{tmp_path}/pages/1.png",), "ocr", "x")])
    assert json.loads(path.read_text())["images"] == ["../pages/1.png"]
    assert os.path.normpath(read_records(path)[0].images[0]) == f"{tmp_path}/pages/1.png"


def test_the_original_conversations_become_our_lines_and_stay_the_same(tmp_path):
    records = list(read_records(FORMATS / "got/conversations.json", image_root=GOT))
    write_records(tmp_path / "train.jsonl", records)
    again = list(read_records(tmp_path / "train.jsonl", check_files=True))
    assert [record.text for record in again] == [record.text for record in records]
    assert [Path(record.images[0]).resolve() for record in again] == [
        Path(r.images[0]).resolve() for r in records
    ]
    assert [(record.box, record.box_unit) for record in again] == [(r.box, r.box_unit) for r in records]


def test_a_picture_inside_its_file_is_not_written_as_a_path(tmp_path):
    record = Record((EncodedImage("p.png", b"..."),), "ocr", "x", location="a.parquet[3]")
    with pytest.raises(RecordError, match=r"a.parquet\[3\]: image p.png is inside its file; save it"):
        write_records(tmp_path / "train.jsonl", [record])
    assert list(tmp_path.iterdir()) == []


def test_a_writing_that_fails_leaves_the_old_file_alone(tmp_path):
    path = write(tmp_path / "train.jsonl", PLAIN)
    before = path.read_bytes()

    def failing():
        yield Record(("a.png",), "ocr", "new")
        raise KeyError("engine")

    with pytest.raises(KeyError):
        write_records(path, failing())
    with pytest.raises(RecordError, match="train.jsonl: no records to write; expected at least one"):
        write_records(path, [])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_records_are_read_without_paddle():
    code = "import sys, got_train.data.records; print([name for name in sys.modules if 'paddle' in name])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("folder", "image", "name"),
    [
        ("/home/me/data", "/home/me/pages/1.png", "../pages/1.png"),
        ("/home/me/data", "/mnt/scans/1.png", "/mnt/scans/1.png"),
        ("data", "data/pages/1.png", "pages/1.png"),
    ],
)
def test_a_row_names_pictures_relatively_unless_they_share_no_folder_with_it(folder, image, name):
    assert name_from(folder, image) == name
