"""Boxes with texts, by hand."""

import json

import pytest

from got_train.errors import AnswerError
from got_train.evaluation.metrics.spots import averages, iou, score, spots
from got_train.formats import spots as spotting

REFERENCE = "[0, 0, 10, 10] one\n[20, 0, 30, 10] two"


def test_the_overlap_of_boxes_by_hand():
    assert iou((0, 0, 10, 10), (0, 0, 10, 10)) == 1.0
    assert iou((0, 0, 10, 10), (5, 0, 15, 10)) == pytest.approx(50 / 150)
    assert iou((0, 0, 10, 10), (10, 0, 20, 10)) == 0.0
    assert iou((0, 0, 0, 0), (0, 0, 0, 0)) == 0.0


def test_lines_and_json_say_the_same():
    rows = [{"box": [0, 0, 10, 10], "text": "one"}, {"bbox": [30, 10, 20, 0], "text": " two "}]
    assert spots(json.dumps(rows)) == spots(REFERENCE) == spots("(0,0,10,10): one\n\n[20.0, 0, 30, 10]  two ")
    with pytest.raises(AnswerError, match="line 2: 'words' is no"):
        spots("[0, 0, 1, 1] a\nwords")


def test_a_box_half_off_is_none_and_a_wrong_text_counts_for_its_box_alone():
    scored = score("[0, 0, 10, 9] one\n[20, 0, 30, 10] tow\n[26, 0, 36, 10] two", REFERENCE)
    assert scored["boxes_precision"] == pytest.approx(2 / 3)
    assert scored["boxes_recall"] == 1.0
    assert scored["boxes_f1"] == pytest.approx(0.8)
    assert scored["spotting_precision"] == pytest.approx(1 / 3)
    assert scored["spotting_recall"] == 0.5


def test_one_box_is_not_matched_twice_and_the_most_pairs_are_found():
    assert score("[0, 0, 10, 10] one\n[0, 0, 10, 10] one", "[0, 0, 10, 10] one")["boxes_precision"] == 0.5
    # the first prediction fits both references, the second only the first one
    both = score("[0, 0, 10, 10] a\n[0, 0, 6, 10] b", "[0, 0, 8, 10] a\n[3, 0, 10, 10] b")
    assert both["boxes_recall"] == 1.0


def test_empty_answers_and_references():
    assert score("", REFERENCE)["boxes_f1"] == 0.0
    assert score("", "")["spotting_f1"] == 1.0
    assert score("words", REFERENCE)["parses"] is False
    assert score(REFERENCE, "words")["boxes_f1"] is None


def test_averages_count_boxes_not_answers():
    pairs = [score("[0, 0, 10, 10] one", "[0, 0, 10, 10] one"), score("[0, 0, 1, 1] x", REFERENCE)]
    averaged = averages(pairs)
    assert averaged["boxes_precision"] == 0.5
    assert averaged["boxes_recall"] == pytest.approx(1 / 3)
    assert averaged["boxes_f1"] == pytest.approx(0.4)


def test_an_answer_of_the_task_is_read_line_by_line_and_its_texts_are_compared_without_boxes():
    """Written by the task's own writer. Of the answer one line is right, one is none, one box is 40 % off."""
    lines = [spotting.Spot("one", (0, 0, 100, 50)), spotting.Spot("two\nmore", (0, 60, 100, 110))]
    reference = spotting.write(lines)
    assert [score(reference, reference)[name] for name in ("spotting_f1", "text_edit")] == [1.0, 0.0]
    scored = score("[0,0,100,50] one\n[0,60,1 two\n[0,80,100,130] two<br>more", reference)
    assert (scored["boxes_precision"], scored["spotting_recall"], scored["parses"]) == (1 / 2, 1 / 2, False)
    # "one|two|more" was read as "one|[0,60,1 two|two|more", with | for a new line
    assert scored["text_edit"] == pytest.approx(12 / 24)
    assert score("[100,50,0,0] one", reference)["boxes_recall"] == 0.0  # reversed: not mended


def test_scores_of_other_systems_have_their_own_unit():
    reference = json.dumps([{"box": [0, 0, 2000.5, 100], "text": "one"}])
    assert score("[0, 0, 2000.5, 100] one", reference)["spotting_f1"] == 1.0
