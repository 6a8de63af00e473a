"""From record to numbers: the answer and its end are supervised, nothing else; views, padding, refusals."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from got_train.data.collator import Collator
from got_train.data.records import Record, RecordError, read_records
from got_train.modeling.config import IGNORED
from got_train.prompts import TASKS
from got_train.tokenizer import BYTES, OptTokenizer, load_tokenizer

SYSTEM = (
    "<|im_start|>system\nYou should follow the instructions carefully and explain your answers in detail."
    "<|im_end|><|im_start|>user\n"
)


@pytest.fixture(scope="module")
def tokenizer():
    from pathlib import Path

    return load_tokenizer(Path(__file__).parents[2] / "configs" / "nano" / "tokenizer")


@pytest.fixture(scope="module")
def opt():
    words = ["<s>", "<pad>", "</s>", "<unk>", *BYTES, "he", "ll"]
    return OptTokenizer({word: place for place, word in enumerate(words)}, [("h", "e"), ("l", "l")])


@pytest.fixture
def collator(tokenizer):
    return Collator(tokenizer, side=16, view_tokens=2, max_tokens=400)


@pytest.fixture
def page(tmp_path):
    """A function: the path of a picture of one color."""

    def draw(width=40, height=20, color=(10, 20, 30), name="page"):
        path = tmp_path / f"{name}.png"
        Image.new("RGB", (width, height), color).save(path)
        return str(path)

    return draw


def text_of(collator, sample):
    return collator.tokenizer.decode(sample.ids, skip_special=False)


def supervised(collator, sample):
    """The supervised text; the supervised places must be the last ones, each with its own id."""
    places = np.flatnonzero(sample.labels != IGNORED)
    assert list(places) == list(range(places[0], len(sample.ids)))
    assert np.array_equal(sample.labels[places], sample.ids[places])
    return collator.tokenizer.decode(sample.labels[places], skip_special=False)


# ---- words and labels

WORDS = {
    "ocr": "OCR: ",
    "format": "OCR with format: ",
    "multi_crop": "OCR with format upon the patch reference: ",
    "multi_crop_ocr": "OCR upon the patch reference: ",
    "multi_page": "OCR with format across multi pages: ",
}
SPOT = ("spot",)  # its answers have a grammar, see test_spotting.py


def test_every_task_is_tested():
    assert (*WORDS, *SPOT) == TASKS


@pytest.mark.parametrize("task", WORDS)
@pytest.mark.parametrize("text", ["a", "two words\nand 3 lines\n", "x" * 60, "\u4e2d\u00e9 $\\frac{1}{2}$"])
def test_the_answer_and_its_end_are_supervised_and_nothing_else(collator, page, task, text):
    sample = collator.sample(Record((page(),), task, text))
    views = {"multi_crop": 3, "multi_crop_ocr": 3}.get(task, 1)  # 40 x 20 is two tiles and a thumbnail
    assert sample.views.shape == (views, 16, 16, 3)
    question = f"{SYSTEM}<img>{'<imgpad>' * 2 * views}</img>\n{WORDS[task]}<|im_end|><|im_start|>assistant\n"
    assert text_of(collator, sample) == f"{question}{text}<|im_end|>"
    assert supervised(collator, sample) == f"{text}<|im_end|>"
    assert (sample.ids == collator.tokenizer.image_id).sum() == 2 * views


@pytest.mark.parametrize(
    ("region", "words"),
    [
        ({"box": (4, 5, 20, 15)}, "[100, 250, 500, 750] OCR: "),
        ({"box": (13, 0, 39.5, 19.99)}, "[325, 0, 987, 999] OCR: "),
        ({"box": (20, 10)}, "[500, 500] OCR: "),
        ({"box": (100, 250, 500, 750), "box_unit": "thousandth"}, "[100, 250, 500, 750] OCR: "),
        ({"color": "green"}, "[green] OCR: "),
    ],
)
def test_a_region_is_asked_for_in_thousandths_of_the_image(collator, page, region, words):
    sample = collator.sample(Record((page(),), "ocr", "in it", **region))
    assert f"</img>\n{words}<|im_end|>" in text_of(collator, sample)
    assert supervised(collator, sample) == "in it<|im_end|>"


@pytest.mark.parametrize(("size", "tiles"), [((40, 20), 2), ((20, 20), 1), ((48, 32), 6), ((160, 20), 6)])
def test_a_page_to_be_cropped_is_as_many_views_as_tiles_and_a_thumbnail(collator, page, size, tiles):
    """40 x 20 is cut 2 x 1, 48 x 32 is 3 x 2, 160 x 20 as near to 8 x 1 as six tiles allow."""
    sample = collator.sample(Record((page(*size),), "multi_crop", "a"))
    views = tiles + (tiles > 1)
    assert len(sample.views) == views
    assert (sample.ids == collator.tokenizer.image_id).sum() == 2 * views


def test_max_crops_bounds_the_views(collator, page):
    assert len(replace(collator, max_crops=2).sample(Record((page(48, 32),), "multi_crop", "a")).views) <= 3


def test_pages_and_tiles_that_are_given_stay_one_view_each_in_order(collator, page):
    pages = tuple(page(30, 60, (shade, 0, 0), str(shade)) for shade in (0, 100, 200))
    for task in ("multi_page", "multi_crop"):
        sample = collator.sample(Record(pages, task, "a"))
        assert [int(view[8, 8, 0]) for view in sample.views] == [0, 100, 200]
        assert (sample.ids == collator.tokenizer.image_id).sum() == 6


def test_stage_1_has_the_image_as_a_bare_prefix(collator, opt, page):
    alone = replace(collator, tokenizer=opt, prompt_template="stage1")
    sample = alone.sample(Record((page(),), "ocr", "hello\nthere"))
    assert list(sample.ids[:3]) == [opt.image_id, opt.image_id, opt.start_id]
    assert opt.decode(sample.ids, skip_special=False) == "<imgpad><imgpad></s>OCR:hello\nthere\n"
    assert supervised(alone, sample) == "hello\nthere\n"
    assert sample.labels[-1] == opt.end_id
    assert (sample.labels == IGNORED).sum() == 2 + 1 + 4


def test_stage_1_of_the_nano_model_has_its_own_end(collator, page):
    alone = replace(collator, prompt_template="stage1")
    sample = alone.sample(Record((page(),), "ocr", "abc"))
    assert text_of(alone, sample) == "<imgpad><imgpad>OCR:abc<|im_end|>"
    assert supervised(alone, sample) == "abc<|im_end|>"


@pytest.mark.parametrize(
    "word", ["<|im_end|>", "<imgpad>", "<|endoftext|>", "<img></img>", "<|im_start|>user\n"]
)
def test_special_words_inside_an_answer_stay_text(collator, page, word):
    sample = collator.sample(Record((page(),), "ocr", f"see {word} there"))
    special = set(collator.tokenizer.specials.values())
    answer = sample.labels[sample.labels != IGNORED]
    assert [token for token in answer if token in special] == [collator.tokenizer.end_id]
    assert answer[-1] == collator.tokenizer.end_id
    assert (sample.ids == collator.tokenizer.image_id).sum() == 2
    assert collator.tokenizer.decode(answer) == f"see {word} there"


def test_an_empty_answer_is_its_end_alone(collator, page):
    assert supervised(collator, collator.sample(Record((page(),), "ocr", ""))) == "<|im_end|>"


# ---- batches


def test_a_batch_is_padded_on_the_right(collator, page):
    texts = ["a", "b" * 50, "c" * 7]
    samples = [collator.sample(Record((page(),), "ocr", text)) for text in texts]
    samples.append(collator.sample(Record((page(),), "multi_crop", "d")))
    batch = collator.batch(samples)
    tokens = max(len(sample.ids) for sample in samples)
    assert {name: (value.shape, value.dtype.name) for name, value in batch.items()} == {
        "input_ids": ((4, tokens), "int64"),
        "labels": ((4, tokens), "int64"),
        "attention_mask": ((4, tokens), "int64"),
        "pixel_values": ((6, 16, 16, 3), "uint8"),
    }
    for row, sample in enumerate(samples):
        own, rest = slice(len(sample.ids)), slice(len(sample.ids), None)
        assert np.array_equal(batch["input_ids"][row, own], sample.ids)
        assert np.array_equal(batch["labels"][row, own], sample.labels)
        assert (batch["attention_mask"][row, own] == 1).all()
        assert (batch["input_ids"][row, rest] == collator.tokenizer.pad_id).all()
        assert (batch["labels"][row, rest] == IGNORED).all()
        assert (batch["attention_mask"][row, rest] == 0).all()
    assert np.array_equal(batch["pixel_values"][3:], samples[3].views)


# ---- boxes of characters


def test_a_char_map_worked_out_by_hand(collator, page):
    """A 40 x 20 page as a view of 16 x 16 in patches of 4: a patch is 10 pixels wide and 5 high.

    The middles of the columns are at 5, 15, 25, 35, those of the rows at 2.5, 7.5, 12.5, 17.5. "a" covers
    those of columns 0 and 1 in row 1; "b" covers none and takes the patch that it is in; the space is paper.
    """
    char_boxes = (("a", 4, 6, 16, 11), ("b", 26, 13, 29, 14), (" ", 0, 0, 40, 20))
    seen = replace(collator, char_patch=4)
    sample = seen.sample(Record((page(),), "ocr", "a b", char_boxes=char_boxes))
    (a,), (b,), paper = seen.tokenizer.encode("a"), seen.tokenizer.encode("b"), seen.tokenizer.pad_id
    expected = np.full((1, 4, 4), paper)
    expected[0, 1, 0] = expected[0, 1, 1] = a
    expected[0, 2, 2] = b
    assert np.array_equal(sample.char_ids, expected)
    assert np.array_equal(seen.batch([sample, sample])["char_labels"], np.concatenate([expected, expected]))


def test_character_boxes_against_a_loop_over_patches(collator, page):
    generator = np.random.default_rng(0)
    char_boxes = []
    for row in range(3):
        for column in range(5):
            left, top = 8 * column + generator.uniform(0, 2), 6.5 * row + generator.uniform(0, 1)
            char_boxes.append(
                (chr(97 + 5 * row + column), left, top, left + generator.uniform(3, 6), top + 5.2)
            )
    seen = replace(collator, side=32, char_patch=2)
    sample = seen.sample(Record((page(),), "ocr", "a", char_boxes=tuple(char_boxes)))
    for down in range(16):
        for across in range(16):
            x, y = (across + 0.5) * 2 * 40 / 32, (down + 0.5) * 2 * 20 / 32
            over = [char for char, x1, y1, x2, y2 in char_boxes if x1 <= x < x2 and y1 <= y < y2]
            expected = seen.tokenizer.encode(over[0])[0] if over else seen.tokenizer.pad_id
            assert sample.char_ids[0, down, across] == expected


def test_where_the_decoder_is_to_look_worked_out_by_hand(collator, page):
    """A 40 x 20 page in 2 x 2 view tokens, each 20 x 10 pixels: "c" lies in the first, "é" in the fourth.

    The token before each of the answer's looks at the view token of the first character that begins in it;
    nobody looks for the line break, the second byte of "é", or the end.
    """
    seen = replace(collator, side=16, view_tokens=4, attention_labels=True)
    char_boxes = (("c", 4, 2, 8, 8), ("é", 25, 11, 35, 19), (" ", 0, 0, 9, 9))
    sample = seen.sample(Record((page(),), "ocr", "c\né ", char_boxes=char_boxes))
    image = np.flatnonzero(sample.ids == seen.tokenizer.image_id)
    assert len(image) == 4
    pieces = [seen.tokenizer.decode_bytes([token]) for token in sample.ids[sample.labels != IGNORED]]
    expected = []
    for start, piece in zip(np.cumsum([0, *map(len, pieces)]), pieces, strict=False):
        at_byte = [image[0], IGNORED, image[3], IGNORED, IGNORED][start : start + len(piece)]  # c \n é é " "
        expected.append(next((index for index in at_byte if index != IGNORED), IGNORED))
    answer = np.flatnonzero(sample.labels != IGNORED)
    assert expected.count(IGNORED) >= 1
    assert sample.attention_labels[answer - 1].tolist() == expected
    assert (np.delete(sample.attention_labels, answer - 1) == IGNORED).all()
    packed = replace(seen, packing_length=100).batch([sample, sample])["attention_labels"][0]
    second = packed[len(sample.ids) :][: len(sample.ids)]
    shifted = np.where(sample.attention_labels == IGNORED, IGNORED, sample.attention_labels + len(sample.ids))
    assert np.array_equal(second, shifted)


@pytest.mark.parametrize(
    ("task", "char_boxes"),
    [
        ("ocr", ()),
        ("ocr", (("b", 4, 2, 8, 8),)),
        ("ocr", (("a", 4, 2, 8, 8), ("b", 4, 2, 8, 8))),
        ("multi_crop", (("a", 4, 2, 8, 8),)),
    ],
    ids=["no boxes", "another character", "more than the text", "several views"],
)
def test_nobody_is_told_where_to_look_if_boxes_are_not_those_of_the_text(collator, page, task, char_boxes):
    seen = replace(collator, attention_labels=True)
    sample = seen.sample(Record((page(),), task, "a", char_boxes=char_boxes))
    assert (sample.attention_labels == IGNORED).all()


def test_pages_without_character_boxes_or_with_several_views_are_not_supervised_by_them(collator, page):
    seen = replace(collator, char_patch=4)
    assert (seen.sample(Record((page(),), "ocr", "a")).char_ids == IGNORED).all()
    several = seen.sample(Record((page(),), "multi_crop", "a", char_boxes=(("a", 0, 0, 9, 9),)))
    assert several.char_ids.shape == (3, 4, 4)
    assert (several.char_ids == IGNORED).all()
    assert collator.sample(Record((page(),), "ocr", "a", char_boxes=(("a", 0, 0, 9, 9),))).char_ids is None


# ---- refusals


def test_a_row_of_one_token_too_many_is_refused_with_file_and_line(collator, page):
    record = Record((page(),), "ocr", "x" * 20, location="data.jsonl:7")
    tokens = len(collator.sample(record).ids)
    assert len(replace(collator, max_tokens=tokens).sample(record).ids) == tokens
    message = (
        rf"data.jsonl:7: {tokens} tokens \({tokens - 21} of the prompt, 21 of the answer\); expected at most "
    )
    with pytest.raises(RecordError, match=message):
        replace(collator, max_tokens=tokens - 1).sample(record)


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 30, None])
def test_an_image_that_cannot_be_read_is_refused_with_file_and_line(collator, tmp_path, content):
    (tmp_path / "data.jsonl").write_text('\n{"images": ["broken.png"], "task": "ocr", "text": "a"}\n')
    if content is not None:
        (tmp_path / "broken.png").write_bytes(content)
    with pytest.raises(RecordError, match=r"data\.jsonl:2: .*broken\.png"):
        collator.sample(read_records(tmp_path / "data.jsonl")[0])


def test_an_image_that_breaks_off_is_refused_with_file_and_line(collator, tmp_path, page):
    whole = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    whole.save(tmp_path / "page.png")
    half = (tmp_path / "page.png").read_bytes()[:6000]
    (tmp_path / "page.png").write_bytes(half)
    with pytest.raises(RecordError, match=r"data:1: .*page\.png"):
        collator.sample(Record((str(tmp_path / "page.png"),), "ocr", "a", location="data:1"))


@pytest.mark.parametrize(
    ("record", "prompt_template", "message"),
    [
        ({"box": (0, 0, 41, 20)}, "repo", r"data:3: box: .* leaves the image; x must be in 0..40"),
        ({"task": "format"}, "stage1", "data:3: task: the stage1 prompt template knows no format"),
        ({"box": (1, 1, 2, 2)}, "stage1", "data:3: box: .* does not go with task ocr in stage1"),
        ({"box": (1, 1)}, "transformers", "data:3: box: the transformers prompt template has no point"),
    ],
)
def test_a_prompt_that_got_was_never_taught_is_refused_with_file_and_line(
    collator, page, record, prompt_template, message
):
    record = Record(**{"images": (page(),), "task": "ocr", "text": "a", "location": "data:3", **record})
    with pytest.raises(RecordError, match=message):
        replace(collator, prompt_template=prompt_template).sample(record)
