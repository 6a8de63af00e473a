"""Tables and data sets as records: parquet, image folders, saved data sets, CSV; named columns; streams."""

import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from data_tools.engines.lines import main as generate_lines
from got_train.data import parquet as parquet_records
from got_train.data.mixture import Mixture
from got_train.data.record import tell_once
from got_train.data.records import DataFileError, RecordError, RecordFile, open_stream, read_records
from got_train.data.streams import WINDOW
from got_train.images import EncodedImage, open_image

ROOT = Path(__file__).parents[2]
FORMATS = Path(__file__).parents[1] / "fixtures" / "formats"
HUB = FORMATS / "hf_parquet" / "test-00000-of-00001.parquet"
FOLDER = FORMATS / "hf_imagefolder"
NAMED = {"columns": {"images": "image", "text": "text"}, "task": "ocr"}
HARBOUR = (FORMATS / "text_pairs/gt/harbour_p1.txt").read_text().removesuffix("\n")
B = b"."
PICTURE = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])


def png(shade=0):
    import io

    buffer = io.BytesIO()
    Image.new("L", (3, 2), shade).save(buffer, "PNG")
    return buffer.getvalue()


def table(path, group=2, **columns):
    """A parquet file; a list of pictures, or of lists of them, becomes Hugging Face's bytes and path."""
    types = {"image": PICTURE, "images": pyarrow.list_(PICTURE)}
    arrays = {
        name: pyarrow.array(values, types[name] if name in types and not isinstance(values[0], str) else None)
        for name, values in columns.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.table(arrays), path, row_group_size=group)
    return path


def plain(path, count, first=0, **options):
    texts = [f"row {row}" for row in range(first, first + count)]
    pictures = [[{"bytes": png(), "path": f"{text}.png"}] for text in texts]
    return table(path, images=pictures, task=["ocr"] * count, text=texts, **options)


def lines(path, count, first=0):
    rows = [{"images": ["a.png"], "task": "ocr", "text": f"row {row}"} for row in range(first, first + count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def words(records):
    return [record.text for record in records]


# Parquet.


@pytest.mark.parametrize(
    "path", [HUB, HUB.parent, HUB.parent / "*.parquet"], ids=["file", "folder", "pattern"]
)
def test_parquet_of_hugging_face_is_read_by_its_named_columns(path):
    records = read_records(path, **NAMED)
    assert words(records)[0] == HARBOUR
    assert [record.location for record in records] == [f"{HUB}[0]", f"{HUB}[1]"]
    picture = records[0].images[0]
    assert (picture.name, picture.data) == (
        "harbour_p1.png",
        (FORMATS / "got/images/harbour_p1.png").read_bytes(),
    )
    with open(FORMATS / "got/images/harbour_p1.png", "rb") as file:
        assert np.array_equal(open_image(picture), open_image(file))


def test_a_table_of_our_own_form_needs_no_names(tmp_path):
    path = table(
        tmp_path / "a.parquet",
        id=["1", "2"],
        images=[
            [{"bytes": png(1), "path": "1.png"}],
            [{"bytes": png(2), "path": None}, {"bytes": None, "path": "2.png"}],
        ],
        task=["format", "multi_page"],
        text=["x", "y"],
        box=[[1, 2, 30, 40], None],
        color=["", None],
        char_boxes=['[["x", 1, 2, 3, 4.5]]', "[]"],
        meta=["{}", None],
    )
    one, two = read_records(path)
    assert (one.images, one.task, one.box, one.color) == (
        (EncodedImage("1.png", png(1)),),
        "format",
        (1, 2, 30, 40),
        None,
    )
    assert one.char_boxes == (("x", 1, 2, 3, 4.5),)
    assert two.images == (EncodedImage("images[0]", png(2)), f"{tmp_path}/2.png")
    assert (two.box, two.char_boxes) == (None, ())


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_boxes_of_characters_by_their_former_name_are_read_and_told_once(tmp_path, capsys, suffix):
    path, boxes = tmp_path / f"a.{suffix}", [["x", 1, 2, 3, 4.5]]
    if suffix == "parquet":
        images = [[{"bytes": png(shade), "path": f"{shade}.png"}] for shade in (1, 2)]
        table(path, images=images, task=["ocr"] * 2, text=["x", "y"], glyphs=[json.dumps(boxes), "[]"])
    else:
        rows = [{"images": ["1.png"], "task": "ocr", "text": "x", "glyphs": value} for value in (boxes, [])]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tell_once.cache_clear()
    assert [record.char_boxes for record in read_records(path)] == [(("x", 1, 2, 3, 4.5),), ()]
    assert (
        capsys.readouterr().err
        == "note: rows have 'glyphs', which is called 'char_boxes' now; read as that\n"
    )


def test_a_row_with_both_names_of_the_boxes_is_refused(tmp_path):
    row = {"images": ["1.png"], "task": "ocr", "text": "x", "glyphs": [], "char_boxes": []}
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(RecordError, match="a.jsonl:1: unknown key 'glyphs'"):
        read_records(tmp_path / "a.jsonl")[0]


def test_conversations_messages_and_queries_are_read_from_tables_too(tmp_path):
    query = "<image>\n[1, 2, 3, 4] OCR: "
    turns = [{"from": "human", "value": query}, {"from": "gpt", "value": "x"}]
    said = [{"role": "user", "content": query}, {"role": "assistant", "content": "x"}]
    picture = {"bytes": png(), "path": "a.png"}
    columns = {
        "conversations": {"conversations": [turns], "image": [picture], "lang": ["en"]},
        "sequence": {  # as older versions of datasets keep a list of turns
            "conversations": [{"from": ["human", "gpt"], "value": [query, "x"]}],
            "image": [picture],
        },
        "messages": {"messages": [said], "images": [[picture]], "source": ["s"]},
        "query": {"query": [query], "response": ["x"], "images": [[picture]], "system": [None]},
    }
    for name, held in columns.items():
        record = read_records(table(tmp_path / f"{name}.parquet", **held))[0]
        assert (record.task, record.text, record.box, record.box_unit) == (
            "ocr",
            "x",
            (1, 2, 3, 4),
            "thousandth",
        )
        assert record.images == (EncodedImage("a.png", png()),)
    renamed = table(tmp_path / "renamed.parquet", dialog=[turns], page=[png()], messages=[None])
    record = read_records(renamed, columns={"conversations": "dialog", "images": "page"})[0]
    assert (record.text, record.images) == ("x", (EncodedImage("images[0]", png()),))


def test_rows_are_found_over_files_and_row_groups_at_random(tmp_path):
    for number, count in enumerate((5, 1, 7)):
        plain(tmp_path / f"records-{number:05d}-of-00003.parquet", count, first=[0, 5, 6][number], group=3)
    records = read_records(tmp_path)
    assert words(records) == [f"row {row}" for row in range(13)]
    for row in np.random.default_rng(0).permutation(13):
        assert records[row].text == f"row {row}"
    assert records[12].location == f"{tmp_path}/records-00002-of-00003.parquet[6]"
    assert pickle.loads(pickle.dumps(records))[7] == records[7]
    with pytest.raises(IndexError, match="record 13 of 13"):
        records[13]


def test_large_row_groups_are_copied_once_and_read_the_same(tmp_path, monkeypatch):
    import datasets

    path = plain(tmp_path / "a.parquet", 9, group=5)
    expected = list(read_records(path))
    monkeypatch.setattr(parquet_records, "GROUP_BYTES", 10)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    copied = read_records(path)
    assert list((tmp_path / "cache").rglob("*.arrow"))
    assert list(copied) == expected
    assert [record.location for record in copied] == [record.location for record in expected]
    assert list(pickle.loads(pickle.dumps(copied))) == expected


def test_the_split_is_train_or_the_only_one_or_the_one_asked_for(tmp_path):
    for number, name in enumerate(("data/train-00000-of-00001", "data/test-00000-of-00001", "validation/0")):
        plain(tmp_path / f"{name}.parquet", 1, first=number)
    assert words(read_records(tmp_path)) == ["row 0"]
    assert words(read_records(tmp_path, split="test")) == ["row 1"]
    assert words(read_records(tmp_path, split="validation")) == ["row 2"]
    with pytest.raises(
        RecordError, match=f"{tmp_path}: no split 'dev'; split: one of test, train, validation"
    ):
        read_records(tmp_path, split="dev")
    (tmp_path / "data/train-00000-of-00001.parquet").unlink()
    with pytest.raises(
        RecordError, match="several splits, none of them train; split: one of test, validation"
    ):
        read_records(tmp_path)


def test_no_picture_is_decoded_to_open_or_read_a_table(monkeypatch, tmp_path):
    path = table(
        tmp_path / "a.parquet", images=[[{"bytes": b"no picture", "path": "a.png"}]], task=["ocr"], text=["x"]
    )
    assert read_records(path)[0].images[0].data == b"no picture"
    with pytest.raises(
        ValueError, match="^a.png: not a picture, or damaged at its start; expected one of PNG"
    ):
        open_image(read_records(path)[0].images[0])
    with pytest.raises(ValueError, match="^e.png: an empty file; expected a picture"):
        open_image(EncodedImage("e.png", b""))


@pytest.mark.parametrize(
    ("columns", "options", "what"),
    [
        ({"image": [B], "words": ["x"]}, {}, ": unknown column 'words'; say in columns which to read"),
        ({"image": [B], "text": ["x"]}, {"columns": {"text": "txt"}}, ": no column 'txt' for text; it has"),
        ({"image": [B], "text": ["x"]}, {}, "[0]: no task; a record has images, task and text; task may be"),
        ({"image": [B], "text": ["x"]}, {"columns": {"text": "text"}}, "[0]: no images; a record has"),
        ({"image": [B], "text": [" "]}, {"task": "ocr"}, "[0]: empty answer; give the text seen"),
        ({"image": [B], "text": [""]}, {"task": "ocr"}, "[0]: empty answer"),
        ({"image": [7], "text": ["x"]}, {"task": "ocr"}, "[0]: images[0] is 7; expected the path"),
        ({"image": [B], "images": [["a"]], "text": ["x"]}, {"task": "ocr"}, "[0]: both image and images"),
        ({"text": pyarrow.array([], pyarrow.string())}, {}, ": holds no records; expected at least one"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_used_is_refused_by_file_and_row(tmp_path, columns, options, what):
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table(columns), path)
    with pytest.raises(RecordError) as error:
        read_records(path, **options)[0]
    assert str(error.value).startswith(f"{path}{what}")


def test_files_that_are_no_tables_or_changed_or_are_gone_are_refused(tmp_path):
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no table")
    with pytest.raises(
        RecordError, match=f"^{tmp_path}/bad.parquet: cannot be read .*; expected a whole parquet file"
    ):
        read_records(tmp_path / "bad.parquet")
    with pytest.raises(RecordError, match="none.parquet: no such file"):
        read_records(tmp_path / "none.parquet")
    with pytest.raises(RecordError, match=r"none-\*.parquet: no file fits this pattern"):
        read_records(tmp_path / "none-*.parquet")
    path = plain(tmp_path / "a.parquet", 3)
    records = read_records(path)
    plain(path, 30)
    with pytest.raises(DataFileError, match="a.parquet: changed since it was opened; start again"):
        records[0]
    (tmp_path / "records.jsonl").touch()
    with pytest.raises(
        RecordError, match=f"{tmp_path}: holds records.jsonl and parquet files; name one of them"
    ):
        read_records(tmp_path)


def test_shards_and_folder_of_data_tools_hold_the_same_records(tmp_path):
    made = {}
    for container in ("parquet", "folder"):
        out = str(tmp_path / container)
        options = [*("--count", "5", "--shard-pages", "2", "--num-workers", "1"), "--container", container]
        assert generate_lines(["--out", out, *options]) == 0
        records = list(read_records(out))
        pixels = [np.asarray(open_image(image)) for record in records for image in record.images]
        made[container] = [replace(record, images=("p",)) for record in records], pixels
    assert made["parquet"][0] == made["folder"][0]
    assert len(made["parquet"][1]) == 5
    for one, other in zip(made["parquet"][1], made["folder"][1], strict=True):
        assert np.array_equal(one, other)


# Image folders, saved data sets, CSV.


def test_an_image_folder_is_read_by_the_lines_of_its_metadata():
    for path in (FOLDER, FOLDER / "test"):
        for named in ("image", "file_name"):
            records = read_records(
                path, check_files=True, columns={"images": named, "text": "text"}, task="ocr"
            )
            assert records[0].images == (f"{FOLDER}/test/harbour_p1.png",)
            assert (records[0].text, records[1].location) == (HARBOUR, f"{FOLDER}/test/metadata.jsonl:2")
    with pytest.raises(RecordError, match="metadata.jsonl:1: unknown column 'lang'; say in columns"):
        read_records(FOLDER)[0]


def test_an_image_folder_with_splits_and_metadata_in_csv(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "test").mkdir()
    text = 'file_name,text,box\n\na.png,"one\nand ""two"", three",\nb.png,four,"[1, 2, 3, 4]"\nc.png,,\n'
    (tmp_path / "train/metadata.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    (tmp_path / "test/metadata.jsonl").write_text('{"file_name": "d.png", "text": "five"}\n')
    train = read_records(tmp_path, task="ocr", allow_empty=True)
    assert words(train) == ['one\nand "two", three', "four", ""]
    assert [record.location[-2:] for record in train] == [":3", ":5", ":6"]
    assert (train[1].box, train[1].images) == ((1, 2, 3, 4), (f"{tmp_path}/train/b.png",))
    assert words(read_records(tmp_path, task="ocr", split="test")) == ["five"]
    with pytest.raises(RecordError, match="metadata.csv:6: empty answer"):
        read_records(tmp_path, task="ocr")[2]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("file_name,text\na.png\n", ":2: 1 cells; expected 2, as in the first line"),
        ('file_name,text\na.png,"x\n', ': a " is open at the end of the file'),
        ("file_name,text\n", ": holds no records"),
        ("file_name,label\na.png,x\n", ": unknown column 'label'; say in columns"),
        ("file_name,text\na.png,\xff\n", ":2: not UTF-8"),
    ],
)
def test_a_broken_csv_is_refused_by_file_and_line(tmp_path, text, what):
    (tmp_path / "metadata.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(RecordError) as error:
        read_records(tmp_path, task="ocr")[0]
    assert str(error.value).startswith(f"{tmp_path}/metadata.csv{what}")


def test_saved_data_sets_are_read_with_their_splits_and_without_decoding(tmp_path):
    import datasets

    features = datasets.Features(
        image=datasets.Image(), text=datasets.Value("string"), lang=datasets.Value("string")
    )
    rows = {
        "image": [{"bytes": png(shade), "path": f"{shade}.png"} for shade in range(3)],
        "text": list("abc"),
        "lang": ["en"] * 3,
    }
    one = datasets.Dataset.from_dict(rows, features=features)
    one.save_to_disk(tmp_path / "one")
    datasets.DatasetDict(train=one, test=one.select([2])).save_to_disk(tmp_path / "both")
    records = read_records(tmp_path / "one", **NAMED)
    assert words(records) == words(read_records(tmp_path / "both", **NAMED)) == ["a", "b", "c"]
    assert records[2].images == (EncodedImage("2.png", png(2)),)
    assert records[2].location == f"{tmp_path}/one[2]"
    assert words(read_records(tmp_path / "both", split="test", **NAMED)) == ["c"]
    assert pickle.loads(pickle.dumps(records))[1] == records[1]
    for path, split, what in (
        ("one", "test", "split 'test' of a data set that has none"),
        ("both", "dev", "no split 'dev'"),
    ):
        with pytest.raises(RecordError, match=f"^{tmp_path}/{path}: {what}"):
            read_records(tmp_path / path, split=split, **NAMED)
    with pytest.raises(RecordError, match=f"^{tmp_path}/one: unknown column 'lang'"):
        read_records(tmp_path / "one")


# Named columns in lines.


def test_columns_name_the_keys_of_lines_and_leave_the_others_out(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"picture": "a.png", "truth": "x", "text": "not this", "source": 3}\n{"picture": ["b.png"]}\n'
    )
    records = read_records(path, columns={"images": "picture", "text": "truth"}, task="format")
    assert (records[0].images, records[0].text, records[0].task) == ((f"{tmp_path}/a.png",), "x", "format")
    with pytest.raises(
        RecordError, match="a.jsonl:2: no 'truth', which columns names for text; it has picture"
    ):
        records[1]


def test_a_split_of_data_without_splits_is_refused(tmp_path):
    path = lines(tmp_path / "records.jsonl", 1)
    for each in (path, tmp_path):
        with pytest.raises(RecordError, match=f"^{each}: split 'test' of data without splits; leave it out"):
            read_records(each, split="test")


def test_a_pattern_joins_files_in_natural_order(tmp_path):
    for number in (10, 9):
        lines(tmp_path / f"part{number}.jsonl", 2, first=number)
    assert words(read_records(tmp_path / "part*.jsonl")) == ["row 9", "row 10", "row 10", "row 11"]


# Streams.


def streams(tmp_path, counts):
    """The same rows as lines, as parquet and, to compare with, as a list of texts."""
    first = 0
    for number, count in enumerate(counts):
        lines(tmp_path / f"{number}.jsonl", count, first)
        plain(tmp_path / f"{number}.parquet", count, first, group=100)
        first += count
    return [open_stream(tmp_path / f"*.{suffix}") for suffix in ("jsonl", "parquet")], first


def test_a_stream_gives_its_rows_forward_and_again_from_the_start(tmp_path):
    found, total = streams(tmp_path, (300, 10, 290))
    for stream in found:
        assert stream.rows is None
        for row in (*range(0, total, 37), 599, 0, 256, 255, 511):
            assert stream[row].text == f"row {row}"
        with pytest.raises(IndexError, match="row 600: the stream has 600"):
            stream[600]
        assert stream.rows == 600
        assert pickle.loads(pickle.dumps(stream))[3] == stream[3]
    assert found[0][310].location == f"{tmp_path}/2.jsonl:1"
    assert found[1][410].location == f"{tmp_path}/2.parquet[100]"


def test_a_streams_epoch_has_every_row_once_and_shuffles_inside_windows(tmp_path):
    for stream in streams(tmp_path, (400, 200))[0]:
        mixture = Mixture([stream], [1], seed=3)
        orders = [[int(mixture[600 * epoch + draw].text[4:]) for draw in range(600)] for epoch in range(3)]
        for order in orders:
            for start in range(0, 600, WINDOW):
                window = order[start : start + WINDOW]
                assert sorted(window) == list(range(start, min(600, start + WINDOW)))
                assert window != sorted(window)
        assert len(set(map(tuple, orders))) == 3


@pytest.mark.parametrize("count", [2 * WINDOW, 600])
def test_a_streams_draw_is_a_pure_function_whatever_came_before(tmp_path, count):
    lines(tmp_path / "a.jsonl", count)

    def mixture():
        return Mixture([open_stream(tmp_path / "a.jsonl"), ["other"]], [3, 1], seed=5)

    draws = [0, 700, 1400, 3, 2900, 801, 802, 5000]
    known = {draw: mixture().place(draw) for draw in draws}  # each resumed from nothing
    together = mixture()
    assert [together.place(draw) for draw in draws] == [known[draw] for draw in draws]
    forward = mixture()
    assert [forward.place(draw) for draw in sorted(draws)] == [known[draw] for draw in sorted(draws)]


def test_slices_of_one_stream_by_two_processes_are_the_whole_order(tmp_path):
    stream = streams(tmp_path, (500, 200))[0][1]
    whole = [record.text for record in (Mixture([stream], [1], seed=1)[draw] for draw in range(1000))]
    for workers in (1, 2, 3):
        slices = [subprocess_words(stream.paths, range(1000)[worker::workers]) for worker in range(workers)]
        assert [slices[draw % workers][draw // workers] for draw in range(1000)] == whole


def subprocess_words(paths, draws):
    """What a forked process draws, after its parent has begun to read."""
    stream = open_stream(os.path.join(os.path.dirname(paths[0]), "*.parquet"))
    mixture = Mixture([stream], [1], seed=1)
    mixture[300]  # the parent's open file must not be read on by its child
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(read)
        with os.fdopen(write, "w") as file:
            file.write("\n".join(mixture[draw].text for draw in draws))
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as file:
        found = file.read().split("\n")
    os.waitpid(child, 0)
    return found


def test_a_stream_holds_one_window_and_reads_no_further(tmp_path, monkeypatch):
    path = lines(tmp_path / "a.jsonl", 2000)
    stream = open_stream(path)
    items = stream._forward(0)
    taken = []
    monkeypatch.setattr(stream, "_forward", lambda first: (taken.append(1) or item for item in items))
    stream[10]
    assert (len(taken), len(stream._window)) == (WINDOW, WINDOW)
    stream[WINDOW]
    assert (len(taken), len(stream._window)) == (2 * WINDOW, WINDOW)


def test_resuming_a_stream_of_parquet_does_not_read_the_groups_before(tmp_path, monkeypatch):
    stream = open_stream(plain(tmp_path / "a.parquet", 1000, group=100))
    rows = [read()["text"] for _, read in islice(stream._forward(512), 3)]
    assert rows == ["row 512", "row 513", "row 514"]
    groups = []
    opened = parquet.ParquetFile.iter_batches
    monkeypatch.setattr(
        parquet.ParquetFile,
        "iter_batches",
        lambda self, size, group, *a, **k: groups.append(group[0]) or opened(self, size, group, *a, **k),
    )
    assert stream[600].text == "row 600"
    assert groups == [5, 6, 7]  # window 512..767


def test_a_bad_row_of_a_stream_is_told_when_it_is_asked_for_and_the_others_are_read(tmp_path):
    path = lines(tmp_path / "a.jsonl", 3)
    path.write_text(path.read_text() + "\n{broken\n")
    stream = open_stream(path)
    with pytest.raises(RecordError, match="a.jsonl:5: not JSON"):
        stream[3]
    assert (stream[2].text, stream.rows) == ("row 2", 4)


def test_what_cannot_be_streamed_is_refused(tmp_path):
    (tmp_path / "a.json").write_text("[{}]")
    (tmp_path / "b.csv").write_text("text\nx\n")
    (tmp_path / "c.jsonl").write_text("\n")
    for path, what in (
        ("a.json", "a JSON list; streaming reads lines"),
        ("b.csv", "cannot be streamed; expected .jsonl or .parquet files"),
        ("none.jsonl", "no such file"),
        (".", "cannot be streamed; expected records.jsonl, or parquet files"),
    ):
        with pytest.raises(RecordError, match=what):
            open_stream(tmp_path / path)
    with pytest.raises(RecordError, match="c.jsonl: holds no records"):
        open_stream(tmp_path / "c.jsonl")[0]
    with pytest.raises(ValueError, match="data.train: a stream without a weight"):
        Mixture([open_stream(lines(tmp_path / "d.jsonl", 1))])


def test_a_mixture_with_a_stream_has_no_length_but_is_told_apart_by_size(tmp_path):
    path = lines(tmp_path / "a.jsonl", 4)
    mixture = Mixture([open_stream(path), ["a", "b"]], [1, 1])
    assert mixture.rows == [f"1 file(s) of {path.stat().st_size} bytes", 2]
    assert mixture.total is None
    with pytest.raises(TypeError, match="a mixture with a stream has no length"):
        len(mixture)
    assert RecordFile(path)[3].text == "row 3"


def test_tables_are_read_without_paddle_and_without_datasets():
    code = (
        "import sys; from got_train.data.records import read_records;"
        f"read_records({str(HUB)!r}, columns={{'text': 'text'}});"
        "print([name for name in ('paddle', 'datasets', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "[]\n"
