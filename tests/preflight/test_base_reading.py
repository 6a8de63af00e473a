"""What the base cannot read is found by one forward pass: losses by class, against the model's own sum."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from got_train.cli import check
from got_train.data.collator import Collator
from got_train.data.record import Record
from got_train.preflight.base_reading import (
    CAPITALS,
    SMALL,
    BaseReading,
    base_reading,
    character_class,
    token_classes,
)
from got_train.tokenizer import load_tokenizer

NANO = "configs/nano/weights/stage3"
HEBREW = "\u05e9\u05dc\u05d5\u05dd"


@pytest.fixture(scope="module")
def collator():
    from got_train.checkpoint.weights import load_model

    model = load_model(NANO)
    vision = model.config.vision
    tokenizer = load_tokenizer(NANO)
    return model, Collator(tokenizer, side=vision.image_side, view_tokens=vision.view_tokens)


def record(tmp_path, name, text):
    image = Image.new("L", (128, 40), 255)
    ImageDraw.Draw(image).text((5, 8), text, 0, font=ImageFont.load_default(16))
    image.save(tmp_path / f"{name}.png")
    return Record((str(tmp_path / f"{name}.png"),), "ocr", text)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("A", CAPITALS),
        (" TOTAL", CAPITALS),
        ("Total", SMALL),
        ("\u00e9", "Latin letters with accents"),
        ("12", "digits"),
        ("-", "punctuation and signs"),
        (" \n", "spaces and line ends"),
        ("\u4e00", "Han"),
        (HEBREW, "Hebrew"),
    ],
)
def test_every_token_has_a_class(text, name):
    assert character_class(text) == name


def test_tokens_that_share_a_character_have_its_class(collator):
    tokenizer = collator[1].tokenizer
    ids = tokenizer.encode_answer("a" + HEBREW[0])
    classes = token_classes(tokenizer, ids)
    assert classes[0] == SMALL and classes[-1] == ""  # the end token
    assert set(classes[1:-1]) == {"Hebrew"} and len(classes) == len(ids)


def test_losses_by_class_add_up_to_the_models_own(collator, tmp_path):
    import paddle

    model, collate = collator
    samples = [collate.sample(record(tmp_path, n, text)) for n, text in enumerate(["harbour 12", "MILL, a"])]
    reading = base_reading(model, collate, samples)
    total = sum(count * loss for count, loss in reading.classes.values())
    wanted = 0.0
    for sample in samples:
        batch = {key: paddle.to_tensor(value) for key, value in collate.batch([sample]).items()}
        labels = batch["labels"].clone()
        labels[0, -1] = -100  # the end token, which is of no class
        wanted += float(
            model(batch["input_ids"], batch["pixel_values"], batch["attention_mask"], labels).loss_sum
        )
    assert np.isclose(total, wanted, rtol=1e-5)
    assert reading.rows == 2
    assert reading.chance == pytest.approx(np.log(model.config.decoder.vocab_size))


def test_only_frequent_classes_above_chance_are_unread():
    reading = BaseReading(
        5.95, 9, {"capitals A-Z": (500, 16.2), "small letters a-z": (400, 0.4), "digits": (5, 9.0)}
    )
    assert list(reading.unread()) == ["capitals A-Z"]
    said = reading.finding()
    assert "reads capitals A-Z (16.2) no better than chance (5.95 is the loss of guessing)" in said.cause
    assert "55% of the answers" in said.cause
    assert BaseReading(5.95, 9, {"small letters a-z": (400, 0.4)}).finding() is None


def test_the_check_says_that_the_base_has_never_seen_these_letters(tmp_path, capsys):
    rows = []
    for number in range(24):
        text = HEBREW * (1 + number % 3) + str(number)
        made = record(tmp_path, number, text)
        rows.append(f'{{"images": ["{made.images[0]}"], "task": "ocr", "text": "{text}"}}')
    (tmp_path / "data.jsonl").write_text("\n".join(rows) + "\n")
    (tmp_path / "run.yaml").write_text(
        f"model: {{init_from: {NANO}}}\ndata: {{train: {tmp_path}/data.jsonl, max_tokens: 256}}\n"
        f"train: {{output_dir: {tmp_path}/run, max_steps: 60, batch_size: 8, "
        "per_device_train_batch_size: 8}\n"
    )
    assert check.main([str(tmp_path / "run.yaml"), "--workers", "0"]) == 0
    out = capsys.readouterr().out
    assert "loss of the base before the run, 24 rows read (guessing: " in out
    assert "the base reads Hebrew (" in out and "no better than chance" in out
