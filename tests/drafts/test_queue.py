"""The order in which drafts are corrected: doubt and disagreement by rank, novelty by trigrams, no chance."""

import json
import math
import random
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from got_train.cli import queue as command
from got_train.config.loader import load_config
from got_train.data.record import Record
from got_train.data.records import read_records
from got_train.drafts import queue
from got_train.drafts.draft import Answer, Draft, read_drafts, write_drafts

WORDS = ("total", "subtotal", "cash", "change", "tax", "invoice", "date", "table", "server", "thank", "you")
WORDS += ("visit", "again", "item", "qty", "price")


def draft(number, *texts, confidence=None, finished="stop"):
    first = Answer(by="model", text=texts[0], confidence=confidence, finished=finished)
    others = [Answer(by=f"other{index}", text=text) for index, text in enumerate(texts[1:])]
    record = Record((f"{number}.png",), "ocr", "")
    return Draft(key=f"{number:04d}", record=record, answers=(first, *others))


def receipts(count, seed=0):
    """Lines of receipts with a doubt, and a second reader's text for every other one."""
    generator = random.Random(seed)
    drafts = []
    for number in range(count):
        text = f"{generator.choice(WORDS)} {generator.choice(WORDS)} {generator.randint(1, 999) / 100:.2f}"
        others = [text.replace("a", "o")] if number % 2 else []
        drafts.append(draft(number, text, *others, confidence=generator.random()))
    return drafts


def numbers(drafts):
    return [int(each.key) for each in drafts]


def cosine(one, two):
    """Of the counts of trigrams, one pair at a time: the independent way."""

    def counts(text):
        marked = "\x02\x02" + " ".join(text.lower().split()) + "\x03\x03"
        return Counter(marked[place : place + 3] for place in range(len(marked) - 2))

    one, two = counts(one), counts(two)
    product = sum(one[gram] * two[gram] for gram in one)
    return product / math.sqrt(sum(n * n for n in one.values()) * sum(n * n for n in two.values()))


def test_the_priority_is_the_mean_of_two_ranks_and_of_one_where_the_other_is_not_known():
    doubts = [0.1, 0.9, 0.5, None, None, 0.5]  # ranks 1, 5... of four: 1, 4, 2.5, 2.5
    disagreements = [0.0, 0.4, None, 0.2, None, 0.4]  # 1, 3.5, 2, 3.5 of four
    expected = [(1 + 1) / 8, (4 + 3.5) / 8, 2.5 / 4, 2 / 4, 0.5, (2.5 + 3.5) / 8]
    assert queue.priorities(doubts, disagreements) == pytest.approx(expected)


def test_doubt_is_that_of_the_first_reader_who_tells_it_and_1_of_a_cut_answer():
    assert queue.doubt(draft(0, "a", confidence=0.75)) == 0.25
    assert queue.doubt(draft(0, "a")) is None
    for finished, expected in (("loop", 1.0), ("length", 1.0), ("retried", 0.25)):
        assert queue.doubt(draft(0, "a", confidence=0.75, finished=finished)) == expected
    assert queue.disagreement(draft(0, "kitten", "sitting")) == round(3 / 7, 4)
    assert queue.disagreement(draft(0, "kitten")) is None


def test_the_order_of_60_receipt_lines_is_that_of_the_rule_worked_out_the_slow_way():
    drafts = receipts(60)
    ordered = queue.order(drafts)
    priority = queue.priorities(list(map(queue.doubt, drafts)), list(map(queue.disagreement, drafts)))
    left, before = set(range(60)), []
    for place, chosen in enumerate(ordered):
        novelty = {
            index: min([1 - cosine(drafts[index].text, drafts[other].text) for other in before] or [1])
            for index in left
        }
        best = max(priority[index] * novelty[index] for index in left)
        index = int(chosen.key)
        assert priority[index] * novelty[index] == pytest.approx(best, abs=1e-5), place
        assert chosen.scores["novelty"] == pytest.approx(novelty[index], abs=1e-4)
        left.remove(index)
        before.append(index)
    assert sorted(numbers(ordered)) == list(range(60))


def test_the_same_line_on_ten_receipts_comes_once_before_nine_others_that_are_less_doubtful():
    same = [draft(number, "TOTAL  12.00", confidence=0.1) for number in range(10)]
    others = [draft(number, f"{WORDS[number]} {number}", confidence=0.9) for number in range(10, 16)]
    ordered = numbers(queue.order([*same, *others]))
    assert ordered[0] == 0  # of equal ones the first in the file
    assert sorted(ordered[1:7]) == list(range(10, 16))
    assert ordered[7:] == list(range(1, 10))


def test_no_chance_is_in_it_and_the_order_of_the_file_does_not_matter():
    drafts = receipts(80)
    first = queue.order(drafts)
    mixed = queue.shuffled(drafts, seed=3)
    assert numbers(mixed) != list(range(80))
    assert numbers(queue.order(mixed)) == numbers(queue.order(drafts)) == numbers(first)
    assert numbers(queue.order(drafts, limit=7)) == numbers(first)[:7]


def test_the_first_40_of_200_hold_more_than_twice_the_errors_of_40_at_random():
    """Confidences that are calibrated: a draft is wrong as often as it says."""
    generator = np.random.default_rng(0)
    confidences = generator.beta(4, 1, 200)
    wrong = generator.random(200) > confidences
    texts = ["".join(generator.choice(list("abcdefghijklmnop"), 12)) for _ in range(200)]
    drafts = [
        draft(number, text, confidence=float(confidence))
        for number, (text, confidence) in enumerate(zip(texts, confidences, strict=True))
    ]
    found = wrong[numbers(queue.order(drafts, 40))].sum()
    at_random = np.mean([wrong[numbers(queue.shuffled(drafts, seed, 40))].sum() for seed in range(50)])
    assert 6 < at_random < 10  # of 200 about 40 are wrong
    assert found > 2 * at_random


def test_the_command_writes_the_queue_beside_the_drafts_and_leaves_out_what_nobody_read(tmp_path, capsys):
    unread = Draft(
        key="none",
        record=Record(("n.png",), "ocr", ""),
        answers=(Answer(by="model", failed="n.png: damaged"),),
    )
    drafts = [*receipts(12), unread]
    file = tmp_path / "drafts.jsonl"
    write_drafts(file, drafts)
    assert command.main([str(file)]) == 0
    out, err = capsys.readouterr()
    assert err.splitlines() == [
        "queue: 1 of 13 are left out: no reader has read them",
        f"queue: 12 drafts in {tmp_path / 'queue.jsonl'}; correct them with got app --queue "
        f"{tmp_path / 'queue.jsonl'}",
    ]
    ordered = read_drafts(tmp_path / "queue.jsonl")
    assert numbers(ordered) == numbers(queue.order(drafts[:12]))
    assert len(out.splitlines()) == 10  # the first ten are shown
    assert out.splitlines()[0].startswith("  1 priority ") and ordered[0].text in out.splitlines()[0]
    first = json.loads((tmp_path / "queue.jsonl").read_text().splitlines()[0])
    assert first["queue"] == dict(ordered[0].scores) and first["queue"]["novelty"] == 1
    assert command.main([str(file), "--shuffle", "1", "--limit", "5", "-o", str(tmp_path / "r.jsonl")]) == 0
    assert numbers(read_drafts(tmp_path / "r.jsonl")) == numbers(queue.shuffled(drafts[:12], 1, 5))


def test_the_experiment_of_the_page_trains_on_the_right_texts_of_the_drafts_that_were_chosen(tmp_path):
    """docs/prelabel.md: its setting of data.train, read as got train reads it."""
    page = (Path(__file__).parents[2] / "docs" / "prelabel.md").read_text(encoding="utf-8")
    (setting,) = re.findall(r'"(data\.train=\[.*\])"', page)
    drafts = [replace(each, reference=f"right {each.key}") for each in receipts(9)]
    file = tmp_path / "chosen.jsonl"
    write_drafts(file, queue.order(drafts, 4))
    setting = setting.replace("runs/queue/$lines.jsonl", str(file))
    config = load_config(Path(__file__).parents[2] / "configs/finetune/nano_lora.yaml", [setting])
    (source,) = config.data.train
    records = read_records(source.path, columns=source.columns)
    assert [record.text for record in records] == [f"right {each.key}" for each in queue.order(drafts, 4)]
    first = Path(f"{int(queue.order(drafts)[0].key)}.png")
    assert Path(records[0].images[0]).resolve() == first.resolve()


def test_a_wrong_command_is_told_in_one_line(tmp_path, capsys):
    file = tmp_path / "drafts.jsonl"
    write_drafts(file, receipts(3))
    assert command.main([str(file), "-o", str(file)]) == 2
    assert command.main([str(file), "--limit", "0"]) == 2
    assert command.main([str(tmp_path / "none.jsonl")]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"queue: --output: {file} is the file of drafts; use another one"
    assert said[1] == "queue: --limit: 0; expected at least 1"
    assert said[2] == f"queue: {tmp_path / 'none.jsonl'}: No such file or directory"
