"""Prompts, byte by byte against recorded ones of the original demo and of transformers."""

import json
import random
import re
from pathlib import Path

import pytest

from got_train.errors import PromptError
from got_train.prompts import (
    TASKS,
    build_prompt,
    nearest_question,
    parse_box,
    parse_question,
    question,
    thousandths,
)

GOLDEN = json.loads((Path(__file__).parent / "fixtures" / "prompts.json").read_text(encoding="utf-8"))
SYSTEM = "You should follow the instructions carefully and explain your answers in detail."

# (name of the golden row, what we are asked); the boxes are of an image of 800 x 600 pixels
ASKED = {
    "plain": {"task": "ocr"},
    "format": {"task": "format"},
    "box": {"task": "ocr", "box": [100, 150, 400, 300], "image_size": (800, 600)},
    "box_format": {"task": "format", "box": [100, 150, 400, 300], "image_size": (800, 600)},
    "color": {"task": "ocr", "color": "red"},
    "color_format": {"task": "format", "color": "green"},
    "multi_page (always with format)": {"task": "multi_page", "views": 2},
    "multi_page_format": {"task": "multi_page", "views": 2},
    "crop": {"task": "multi_crop_ocr", "views": 3},
    "crop (always with format)": {"task": "multi_crop", "views": 3},
    "crop_format_max6": {"task": "multi_crop", "views": 3},
}
RECORDED = [("repo", row) for row in GOLDEN["original_demo_prompts"]]
RECORDED += [("transformers", row) for row in GOLDEN["transformers"]]


def written_out(prompt: str) -> str:
    return re.sub(r"{<imgpad>\*(\d+)}", lambda found: "<imgpad>" * int(found[1]), prompt)


@pytest.mark.parametrize(
    ("prompt_template", "row"), RECORDED, ids=[f"{d}-{row['name']}" for d, row in RECORDED]
)
def test_prompts_equal_the_recorded_ones_byte_by_byte(prompt_template: str, row: dict):
    assert build_prompt(**ASKED[row["name"]], prompt_template=prompt_template) == written_out(row["prompt"])


def test_the_default_template_is_that_of_the_original_repository():
    assert build_prompt("ocr") == build_prompt("ocr", prompt_template="repo")
    assert build_prompt("ocr", view_tokens=4) == (
        f"<|im_start|>system\n{SYSTEM}<|im_end|><|im_start|>user\n<img><imgpad><imgpad><imgpad><imgpad></img>\n"
        "OCR: <|im_end|><|im_start|>assistant\n"
    )


def test_hub_differs_from_repo_by_eight_spaces():
    for task in TASKS:
        repo, hub = build_prompt(task), build_prompt(task, prompt_template="hub")
        assert hub == repo.replace("system\nYou", "system\n        You")
        assert len(hub) == len(repo) + 8


def test_stage1_is_a_bare_prefix_and_ocr_without_a_space():
    assert build_prompt("ocr", prompt_template="stage1", view_tokens=3) == "<imgpad><imgpad><imgpad>OCR:"
    assert build_prompt("ocr", prompt_template="stage1").count("<imgpad>") == 256


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"task": "ocr"}, "OCR: "),
        ({"task": "format"}, "OCR with format: "),
        ({"task": "multi_crop"}, "OCR with format upon the patch reference: "),
        ({"task": "multi_crop_ocr"}, "OCR upon the patch reference: "),
        ({"task": "multi_page"}, "OCR with format across multi pages: "),
        ({"task": "ocr", "box": [113, 660, 886, 914]}, "[113, 660, 886, 914] OCR: "),
        ({"task": "format", "box": (113, 660)}, "[113, 660] OCR with format: "),
        ({"task": "format", "color": "blue"}, "[blue] OCR with format: "),
        ({"task": "ocr", "prompt_template": "transformers"}, " OCR: "),
        ({"task": "multi_page", "prompt_template": "transformers"}, " OCR with format across multi pages: "),
        ({"task": "ocr", "box": "[1, 2, 3, 4]", "prompt_template": "transformers"}, "[1, 2, 3, 4] OCR: "),
        ({"task": "format", "color": "blue", "prompt_template": "transformers"}, "[blue]  OCR with format: "),
        ({"task": "ocr", "prompt_template": "stage1"}, "OCR:"),
    ],
)
def test_query_gives_the_words_after_the_image(asked: dict, words: str):
    assert question(**asked) == words


@pytest.mark.parametrize(
    ("task", "views"), [("ocr", 1), ("multi_crop", 1), ("multi_crop", 13), ("multi_page", 8)]
)
def test_each_view_is_256_image_tokens(task: str, views: int):
    assert build_prompt(task, views=views).count("<imgpad>") == 256 * views


def test_pixels_become_thousandths_by_truncation():
    assert thousandths([1, 2, 799, 599], (800, 600)) == [1, 3, 998, 998]
    assert thousandths([0, 0, 800, 600], (800, 600)) == [0, 0, 1000, 1000]
    assert thousandths([99.99, 0.5, 400.0, 300], (800, 600)) == [124, 0, 500, 500]
    assert thousandths((400, 300), (800, 600)) == [500, 500]


def test_division_comes_first_as_upstream():
    assert 4.59 * 1000 / 54 == 85.0  # in exact numbers too, but the original demo asks for 84
    assert thousandths([4.59, 0, 54, 54], (54, 54)) == [84, 0, 1000, 1000]


def test_a_box_without_image_size_is_in_thousandths_already():
    assert thousandths([0, 1, 999.0, 1000], None) == [0, 1, 999, 1000]
    assert question("ocr", [10, 20, 30, 40]) == "[10, 20, 30, 40] OCR: "


def test_the_list_of_the_caller_stays_as_it_is():
    box = [100, 150, 400, 300]
    first = build_prompt("ocr", box, image_size=(800, 600))
    assert box == [100, 150, 400, 300]
    assert first == build_prompt("ocr", tuple(box), image_size=(800, 600))
    assert first == build_prompt("ocr", "100,150,400,300", image_size=[800, 600])


@pytest.mark.parametrize(
    ("text", "box"),
    [
        ("[1, 2, 3, 4]", [1, 2, 3, 4]),
        ("1,2,3,4", [1, 2, 3, 4]),
        (" ( 1 ,2 ) ", [1, 2]),
        ("1.5,2,3.25,-4", [1.5, 2, 3.25, -4]),
    ],
)
def test_a_box_is_read_from_text(text: str, box: list):
    assert parse_box(text) == box
    assert [type(v) for v in parse_box(text)] == [type(v) for v in box]


@pytest.mark.parametrize(
    "text",
    ["", "1,2,3", "1 2 3 4", "[1,2,3,4)", "1,2,,4", "1,2,3,nan", "1e2,2,3,4", "[[1,2,3,4]]", "9" * 5000],
)
def test_other_text_is_no_box(text: str):
    with pytest.raises(PromptError, match="^box: cannot read"):
        parse_box(text)


def test_a_box_is_never_evaluated():
    with pytest.raises(PromptError, match="^box: cannot read"):
        build_prompt("ocr", box="[__import__('os').getpid(), 2, 3, 4]")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"task": "formatted"}, "task must be one of ocr, format, .*; got 'formatted'; did you mean format?"),
        ({"task": "OCR"}, "task must be one of .*; got 'OCR'; did you mean ocr?"),
        ({"task": None}, "task must be one of .*; got None"),
        (
            {"prompt_template": "hf"},
            "prompt_template must be one of repo, hub, transformers, stage1; got 'hf'",
        ),
        ({"color": "grean"}, "color must be one of red, green, blue; got 'grean'; did you mean green?"),
        ({"box": [1, 2, 3]}, r"box: \[1, 2, 3\] has length 3; give x1"),
        ({"box": []}, r"box: \[\] has length 0"),
        ({"box": 7}, r"box: \[7\] has length 1"),
        ({"box": [1, 2, 3, "4"]}, "box: .* must hold finite numbers only"),
        ({"box": [1, 2, 3, float("nan")]}, "box: .* must hold finite numbers only"),
        ({"box": [1, 2, 3, float("inf")]}, "box: .* must hold finite numbers only"),
        ({"box": [0, 0, True, True]}, "box: .* must hold finite numbers only"),
        ({"box": [30, 20, 10, 40]}, "box: .* is reversed or empty; x2 must exceed x1"),
        ({"box": [10, 20, 10, 40], "image_size": (100, 100)}, "box: .* is reversed or empty"),
        ({"box": [10, 40, 30, 20]}, "box: .* is reversed or empty"),
        ({"box": [0, 0, 1001, 10]}, "box: .* is not in whole thousandths 0..1000; pixels need image_size"),
        ({"box": [0.1, 0.2, 0.3, 0.4]}, "box: .* is not in whole thousandths"),
        ({"box": [0, 0, 10**400, 1]}, "box: .* is not in whole thousandths"),
        ({"box": [-1, 2, 3, 4], "image_size": (80, 60)}, "box: .* leaves the image; x must be in 0..80 and"),
        ({"box": [0, 0, 81, 4], "image_size": (80, 60)}, "box: .* leaves the image"),
        ({"box": [0, 0, 8, 61], "image_size": (80, 60)}, "box: .* leaves the image; .* y in 0..60"),
        ({"box": [1, 2, 3, 4], "color": "red"}, "box and color: got .* together; give one of them"),
        ({"task": "multi_crop", "box": [1, 2, 3, 4]}, "box: .* does not go with task multi_crop"),
        ({"task": "multi_page", "color": "red"}, "color: red does not go with task multi_page"),
        ({"views": 0}, "views must be a whole number, 1 or more; got 0"),
        ({"views": True}, "views must be a whole number"),
        ({"views": 2}, "views: ocr sees 1 view, got 2; multi_crop and multi_page see several"),
        ({"task": "format", "views": 7}, "views: format sees 1 view, got 7"),
        ({"view_tokens": 0}, "view_tokens must be a whole number"),
        ({"image_size": (800,)}, "image_size must be .width, height. in pixels"),
        ({"image_size": "800x600"}, "image_size must be .width, height. in pixels"),
        ({"image_size": (800, 0)}, "image_size: height must be a whole number, 1 or more; got 0"),
        ({"image_size": (799.5, 600)}, "image_size: width must be a whole number"),
        (
            {"box": [5, 6], "prompt_template": "transformers"},
            "box: the transformers prompt template has no point",
        ),
        (
            {"task": "format", "prompt_template": "stage1"},
            "task: the stage1 prompt template knows no format; it has ocr only",
        ),
        ({"box": [1, 2, 3, 4], "prompt_template": "stage1"}, "box: .* does not go with task ocr in stage1"),
        ({"color": "red", "prompt_template": "stage1"}, "color: red does not go with task ocr in stage1"),
    ],
)
def test_what_got_was_never_taught_is_refused(asked: dict, message: str):
    with pytest.raises(PromptError, match=f"^{message}"):
        build_prompt(**{"task": "ocr", **asked})


def test_a_query_is_read_back():
    draw = random.Random(0)
    for _ in range(300):
        task, width, height = draw.choice(["ocr", "format"]), draw.randint(2, 5000), draw.randint(2, 5000)
        x1, y1 = draw.randint(0, width - 1), draw.randint(0, height - 1)
        box = [x1, y1, draw.randint(x1 + 1, width), draw.randint(y1 + 1, height)][: draw.choice([2, 4])]
        asked = question(task, box, image_size=(width, height))
        assert parse_question(asked) == (task, thousandths(box, (width, height)), None)
    for task in TASKS:
        assert parse_question(question(task)) == (task, None, None)
    for color in ("red", "green", "blue"):
        assert parse_question(question("format", color=color)) == ("format", None, color)


def test_a_region_thinner_than_a_thousandth_is_read_back():
    asked = question("ocr", [1000, 10, 1001, 20], image_size=(4000, 4000))
    assert asked == "[250, 2, 250, 5] OCR: "
    assert parse_question(asked) == ("ocr", [250, 2, 250, 5], None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("OCR:", "query: 'OCR:' is not known; the nearest, with its spaces, is 'OCR: '"),
        ("[red] OCR:", r"query: .* nearest, with its spaces, is '\[red\] OCR: '"),
        (" OCR: ", "query: .* nearest, with its spaces, is 'OCR: '"),
        (
            "Read the text.",
            "query: 'Read the text.' is not known; use 'OCR: ' for plain text, 'OCR with format",
        ),
        ("ocr with format: ", "query: .* nearest, with its spaces, is 'OCR with format: '"),
        ("[pink] OCR: ", "color must be one of red, green, blue; got 'pink'"),
        ("[red] OCR across multi pages: ", "query: .* is not known"),
        ("[red] OCR with format across multi pages: ", "color: red does not go with task multi_page"),
        ("[1,2,3,4] OCR: ", r"query: box \[1,2,3,4\] is not in thousandths"),
        ("[01, 2, 3, 4] OCR: ", "query: box .* is not in thousandths"),
        ("[1, 2, 3, 1001] OCR: ", "query: box .* is not in thousandths"),
        ("[3, 2, 1, 4] OCR: ", "query: box .* is not in thousandths"),
        ("[1, 2, 3] OCR: ", "box: cannot read"),
        ("[] OCR: ", "color must be one of"),
        ("", "query: '' is not known"),
    ],
)
def test_other_queries_are_refused_and_the_nearest_is_named(text: str, message: str):
    with pytest.raises(PromptError, match=f"^{message}"):
        parse_question(text)


def test_the_nearest_query_keeps_its_region():
    assert nearest_question("OCR:") == "OCR: "
    assert nearest_question("[1, 2, 3, 4] OCR with formt:") == "[1, 2, 3, 4] OCR with format: "
