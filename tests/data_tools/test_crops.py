"""Spreads and documents of several pages: the pixels and texts of the pages given, under the limits asked."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy
import pytest
from PIL import Image

from data_tools import produce, record_source
from data_tools.engines import crops, multipage
from got_train import prompts
from got_train.data.records import read_records
from got_train.tokenizer import load_tokenizer

TOKENIZER = Path(__file__).parents[2] / "configs/nano/tokenizer"
SIZES = [(40, 60), (40, 60), (40, 60), (44, 66), (90, 120)]


def rng(seed: int = 0) -> numpy.random.Generator:
    return numpy.random.default_rng(seed)


def rows() -> list[produce.Row]:
    """Five pages of one grey each, three of them of the task format, and a box that is no whole page."""
    made = []
    for place, size in enumerate(SIZES):
        data = produce.encode(Image.new("L", size, 40 * (place + 1)), "png")
        task = "format" if place < 3 else "ocr"
        made.append(produce.Row(f"p{place}", (produce.Picture(f"{place}.png", data),), task, f"text {place}"))
    return [*made, produce.Row("box", made[0].pictures, "ocr", "t", box=(0, 0, 9, 9))]


class Pages:
    """An engine that makes these rows, one a number."""

    name, attempts = "given", 1

    def rows(self, index: int, rng: numpy.random.Generator) -> list[produce.Row]:
        return [rows()[index]]


@pytest.fixture(params=produce.CONTAINERS)
def pages(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    produce.produce(Pages(), produce.Plan(tmp_path / "pages", request.param, 6, 0, 4, settings={}))
    return tmp_path / "pages"


def test_records_are_read_back_from_both_containers_as_they_were_written(pages: Path) -> None:
    found = record_source.open_records([pages], ("ocr", "format"))
    assert [found[place].id for place in range(len(found))] == ["p0", "p1", "p2", "p3", "p4"]
    assert [found[place].picture.data for place in range(5)] == [row.pictures[0].data for row in rows()[:5]]
    only = record_source.open_records([pages, pages], ("format",))
    assert [only[place].text for place in range(len(only))] == ["text 0", "text 1", "text 2"] * 2


def test_a_spread_holds_the_pixels_of_its_pages_in_order_and_their_texts(pages: Path) -> None:
    engine = crops.CropsEngine(record_source.by_task([pages], ("format",)), (2, 3), None, 9, "png")
    directions = set()
    for seed in range(12):
        (row,) = engine.rows(0, rng(seed))
        numbers = [int(name[1:]) for name in row.meta["pages"]]
        assert row.task == "multi_crop" and row.text == "\n".join(f"text {number}" for number in numbers)
        assert len(set(numbers)) == len(numbers) in (2, 3)
        spread = numpy.asarray(Image.open(io.BytesIO(row.pictures[0].data)))
        across = row.meta["direction"] == "side by side"
        line = spread[30] if across else spread[:, 20]
        page = 40 if across else 60
        assert [line[place * (len(line) - page) // (len(numbers) - 1)] for place in range(len(numbers))] == [
            40 * (number + 1) for number in numbers
        ]
        assert all((spread == 40 * (number + 1)).sum() == 2400 for number in numbers)
        directions.add(across)
    assert directions == {True, False}


def test_pages_of_equal_task_and_similar_size_go_together_and_others_are_rejected(pages: Path) -> None:
    engine = crops.CropsEngine(record_source.by_task([pages], ("format", "ocr")), (2, 2), None, 9, "png")
    tasks, causes = set(), set()
    for seed in range(30):
        try:
            (row,) = engine.rows(0, rng(seed))
        except produce.Rejected as rejection:  # p3 and p4, the two of ocr: 44 and 90 pixels wide
            causes.add(rejection.cause)
            continue
        tasks.add(row.task)
        assert row.task == "multi_crop" and set(row.meta["pages"]) <= {"p0", "p1", "p2"}
    assert tasks == {"multi_crop"} and causes == {"pages of too different sizes"}


def test_a_document_keeps_within_its_tokens_and_its_pictures_are_the_pages_bytes(tmp_path: Path) -> None:
    image = produce.encode(Image.new("L", (8, 8), 255), "png")
    (tmp_path / "images").mkdir()
    lengths = [5, 30, 60, 90, 400]
    with (tmp_path / "records.jsonl").open("w") as lines:
        for place, length in enumerate(lengths):
            (tmp_path / "images" / f"{place}.png").write_bytes(image + bytes([place]))
            record = {"images": [f"images/{place}.png"], "task": "format", "text": "xq7" * length}
            lines.write(json.dumps(record) + "\n")
    tokenizer = load_tokenizer(TOKENIZER)
    engine = multipage.MultipageEngine(
        sources=(record_source.open_records([tmp_path], ("format",)),),
        tokenizer=str(TOKENIZER),
        pages=(2, 4),
        page_tokens=300,
        most_tokens=620,
        view_tokens=16,
    )
    made, causes = 0, set()
    for seed in range(40):
        try:
            (row,) = engine.rows(7, rng(seed))
        except produce.Rejected as rejection:
            causes.add(rejection.cause)
            continue
        made += 1
        texts = row.text.split("\n")
        assert all(len(tokenizer.encode(text)) < 300 for text in texts)
        assert [picture.data[-1] for picture in row.pictures] == [lengths.index(len(t) // 3) for t in texts]
        prompt = prompts.build_prompt("multi_page", views=len(texts), view_tokens=16)
        assert len(tokenizer.encode_prompt(prompt)) + len(tokenizer.encode(row.text)) + 1 <= 620
    assert made > 5 and causes == {"more than 620 tokens in all"}


def test_both_commands_write_records_that_our_reader_takes(pages: Path, tmp_path: Path) -> None:
    common = ["--records", str(pages), "--count", "3", "--container", "folder", "--num-workers", "1"]
    for module, more, task in (
        (crops, ["--page-tasks", "format"], "multi_crop"),
        (multipage, ["--tokenizer", str(TOKENIZER), "--pages", "2-3"], "multi_page"),
    ):
        out = tmp_path / task
        args = module.parser().parse_args([*common, *more, "--out", str(out)])
        module.make(args)
        records = read_records(out / "records.jsonl", check_files=True)
        assert len(records) == 3 and {record.task for record in records} == {task}


def test_wrong_records_and_limits_end_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "bad.jsonl").write_text("{}\n")
    common = ["--count", "1", "--out", str(tmp_path / "out")]
    for records, message in (
        (tmp_path / "nowhere", "no such folder, .parquet or .jsonl file"),
        (tmp_path / "bad.jsonl", "bad.jsonl:1: not a record"),
        (tmp_path, "neither *.parquet nor records.jsonl"),
    ):
        assert crops.main([*common, "--records", str(records)]) == 2
        assert message in capsys.readouterr().err
