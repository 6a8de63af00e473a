"""How sure tokens, words and lines are, and temperatures that make such numbers right."""

import json
import math

import numpy as np
import pytest

from got_train.cli import calibrate
from got_train.errors import InferenceError
from got_train.inference import calibration
from got_train.inference.confidence import (
    CALIBRATION,
    Calibration,
    PlattScaling,
    calibration_error,
    fit_platt_scaling,
    highlight_uncertain,
    load_calibration,
    spans,
)
from got_train.inference.reader import load_pipeline

from .test_reading import picture, tiny_checkpoint

CAT, HAT = "\u732b", "\u5e3d"
PIECES = [("\n The", 0.9), (" ca", 0.8), ("t", 0.5), (".\n", 0.5), (f"{CAT}{HAT}", 0.25), (" end", 1.0)]


def test_a_word_or_line_is_as_sure_as_all_its_tokens_together():
    words = spans(PIECES, "word")
    assert [(word.text, word.start) for word in words] == [
        *(("The", 0), ("cat.", 4), (CAT, 9), (HAT, 10), ("end", 12)),
    ]
    assert [word.confidence for word in words] == pytest.approx([0.9, 0.8 * 0.5 * 0.5, 0.25, 0.25, 1.0])
    lines = spans(PIECES, "line")
    assert [(line.text, line.start) for line in lines] == [("The cat.", 0), (f"{CAT}{HAT} end", 9)]
    assert [line.confidence for line in lines] == pytest.approx([0.9 * 0.8 * 0.5 * 0.5, 0.25])
    tokens = spans(PIECES, "token")
    assert [token.text for token in tokens] == ["The", "ca", "t", ".", f"{CAT}{HAT}", "end"]
    text = "".join(piece for piece, _ in PIECES).strip()
    for each in [*words, *lines, *tokens]:
        assert text[each.start :].startswith(each.text)


def test_doubtful_words_are_marked_where_they_stand():
    text = f"The cat.\n{CAT}{HAT} end"
    assert highlight_uncertain(text, spans(PIECES, "word"), 0.25) == f"The [?cat.?]\n{CAT}{HAT} end"
    assert highlight_uncertain(text, spans(PIECES, "word"), 0.3) == f"The [?cat.?]\n[?{CAT}?][?{HAT}?] end"
    assert highlight_uncertain(text, [], 1) == text


def test_a_temperature_of_2_and_a_shift_of_1_by_hand():
    scale = PlattScaling(2.0, 1.0)
    assert scale.apply(0.8) == pytest.approx(1 / (1 + math.exp(-(math.log(4) / 2 + 1))))
    assert 0 < scale.apply(0.0) < scale.apply(0.1) < scale.apply(1.0) < 1
    assert PlattScaling().apply(1.0) == 1.0


def test_the_scale_that_spoilt_the_probabilities_is_found_again():
    random = np.random.default_rng(0)
    true = random.uniform(0.02, 0.98, 20_000)
    right = random.uniform(size=true.size) < true
    logits = np.log(true) - np.log1p(-true)
    told = 1 / (1 + np.exp(-(logits - 0.7) * 3))  # so that T = 3 and a shift of 0.7 mend it
    scale = fit_platt_scaling(told.tolist(), right.tolist())
    assert scale.temperature == pytest.approx(3, rel=0.05)
    assert scale.shift == pytest.approx(0.7, abs=0.05)
    assert calibration_error(told, right) > 0.1
    assert calibration_error([scale.apply(each) for each in told], right) < 0.015
    assert fit_platt_scaling([0.99, 0.999], [True, True]).temperature < 1  # one-sided, and yet finite


def test_calibration_error_is_that_worked_by_hand():
    # bins of 0.5: two of mean 0.3 with one right, two of mean 0.8 with two right
    told, right = [0.2, 0.4, 0.7, 0.9], [False, True, True, True]
    assert calibration_error(told, right, bins=2) == pytest.approx((0.2 * 2 + 0.2 * 2) / 4)


def test_what_was_right_is_told_from_the_true_text():
    found = calibration.observe([([("the ", 0.9), ("ca", 0.8), ("r", 0.7), (" sat", 0.6)], "the cat sat\n")])
    assert {level: observed.right[0] for level, observed in found.items()} == {
        "token": [True, True, False, True],
        "word": [True, False, True],
        "line": [False],
    }


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"))


def test_a_checkpoint_is_calibrated_and_reads_so_from_then_on(checkpoint, tmp_path, capsys):
    reader = load_pipeline(checkpoint, max_new_tokens=10)
    records = tmp_path / "val.jsonl"
    rows = []
    for number in range(4):
        picture(number).save(tmp_path / f"{number}.png")
        rows.append({"images": [f"{number}.png"], "task": "ocr", "text": "a b c d e f g"})
    records.write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = [str(checkpoint), "--data", str(records), "--max-new-tokens", "10", "--threads", "1"]
    assert calibrate.main(arguments) == 2  # a random model reads no letter right
    assert "calibrate: all " in capsys.readouterr().err
    answers = list(reader.read(reader_questions(tmp_path)))
    for row, answer in zip(rows, answers, strict=True):  # half of each line is right
        row["text"] = answer.text[: len(answer.text) // 2] + "#" * 5
    records.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert calibrate.main(arguments) == 0
    told = capsys.readouterr()
    assert told.out.startswith("level  temperature   shift  ECE before")
    written = json.loads((checkpoint / CALIBRATION).read_text())
    assert written["records"] == 4
    token = written["levels"]["token"]
    again = load_pipeline(checkpoint, max_new_tokens=10)
    assert again.calibration.scales["token"] == PlattScaling(token["temperature"], token["shift"])
    pieces = zip(reader.token_texts(answers[0]), again.calibrated_token_texts(answers[0]), strict=True)
    for (text, raw), (same, mended) in pieces:
        assert text == same
        assert mended == pytest.approx(again.calibration.apply("token", raw))
        assert mended != raw


def reader_questions(folder):
    from got_train.inference.reader import OcrRequest, Page

    return [OcrRequest((Page(str(folder / f"{number}.png")),), "ocr") for number in range(4)]


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"levels": {}}', '{"levels": {"word": {"temperature": 0, "shift": 0}}}']
)
def test_a_calibration_that_is_none_is_refused(tmp_path, text):
    (tmp_path / CALIBRATION).write_text(text)
    with pytest.raises(InferenceError, match=CALIBRATION):
        load_calibration(tmp_path)


def test_without_a_calibration_probabilities_stay(tmp_path):
    assert load_calibration(tmp_path) is None
    assert Calibration().apply("word", 0.123) == 0.123
