"""Evaluation takes whole what a split takes whole: one rule tells documents for both."""

import json

import pytest

from got_train.cli import evaluate
from got_train.data.documents import documents_of
from got_train.data.record import Record
from got_train.evaluation.documents import with_documents
from got_train.evaluation.predictions import DataFile, Prediction
from got_train.evaluation.scored import score_predictions
from got_train.evaluation.scores import summary

CROPS = [f"pages/{receipt}_crop_{crop}.png" for receipt in (335, 336) for crop in range(1, 5)]


def rows(images, documents=None):
    """The first half is read right, of the second half two of four letters."""
    return [
        Prediction(
            "abcd",
            "abcd" if place < len(images) / 2 else "ab",
            "ocr",
            images=(image,),
            id=str(place),
            document=documents and documents[place],
        )
        for place, image in enumerate(images)
    ]


def interval_of(predictions):
    group = summary(score_predictions(predictions), predictions)["groups"]["ocr"]
    return group["documents"], group["intervals"]["macro"]["edit_distance"]


def test_eight_crops_of_two_receipts_are_two_documents_and_their_interval_is_as_wide_as_the_two():
    # a draw of two receipts has the one twice, the other twice, or both: means of 0, 0.5 and 0.25
    assert interval_of(rows(CROPS)) == (2, [0.0, 0.5])
    count, (low, high) = interval_of(rows([f"pages/{name}.png" for name in "abcdefgh"]))
    assert count == 8 and 0 < low < 0.25 < high < 0.5


@pytest.mark.parametrize(
    "images, documents, rule, told",
    [
        (CROPS, None, "", "pages and crops by their names"),
        (CROPS, list("aabbccdd"), "", "the rows' `document`"),
        (CROPS, list("aabbccdd"), "file", "'file'"),
        ([f"{folder}/{name}.png" for folder in "xy" for name in "abcd"], None, "folder", "'folder'"),
        ([f"{n}_0{part}.png" for n in "123456" for part in "12"], None, "", "names that end in a number"),
        ([f"scan_{number}.png" for number in range(8)], None, "", "the file"),
        (CROPS, None, r"(\d)_crop", r"'(\\d)_crop'"),
    ],
)
def test_evaluation_groups_rows_as_a_split_does(images, documents, rule, told):
    records = [
        Record((image,), "ocr", "abcd", document=(documents or [""] * len(images))[place])
        for place, image in enumerate(images)
    ]
    names, told_by = documents_of(records, rule)
    found, (count,) = with_documents(rows(images, documents), rule)
    assert told == count.told_by == told_by
    assert count.documents == len(set(names))
    clusters = [row.cluster for row in found]
    assert [clusters.index(name) for name in clusters] == [names.index(name) for name in names]


def test_rows_that_say_their_document_keep_it_and_pictures_without_a_name_are_many_documents():
    records = [Record((f"{n}.png",), "ocr", "a", document="deed") for n in range(3)]
    data = DataFile("d", "d.jsonl", records, "")
    assert {data.answered(place).cluster for place in range(3)} == {"deed"}
    nameless = [Prediction("a", "a", images=("images[0]",), data="d", record=place) for place in range(3)]
    assert with_documents(nameless)[1][0].documents == 3


def test_names_that_make_one_document_of_all_pages_tell_nothing():
    found, (count,) = with_documents(rows([f"book_page_{number}.png" for number in range(8)]))
    assert (count.documents, count.told_by) == (8, "the file")


def test_the_command_says_what_it_used_and_takes_a_rule(tmp_path, capsys):
    file = tmp_path / "answers.jsonl"
    lines = [
        {"reference": "a", "prediction": "a", "images": [image], "data": "receipts", "record": place}
        for place, image in enumerate(CROPS)
    ]
    file.write_text("\n".join(map(json.dumps, lines)))
    assert evaluate.main(["--predictions", str(file)]) == 0
    told = "receipts: 8 rows of 2 documents, told by pages and crops by their names\n"
    assert told in capsys.readouterr().out
    assert evaluate.main(["--predictions", str(file), "--document", "file"]) == 0
    assert "receipts: 8 rows of 8 documents, told by 'file'\n" in capsys.readouterr().out
    assert evaluate.main(["--predictions", str(file), "--document", "("]) == 2
    assert "is not a regular expression" in capsys.readouterr().err
