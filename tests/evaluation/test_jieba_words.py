"""Chinese words against jieba's own, on text that is hard to cut."""

import random

import jieba
import pytest

from got_train.evaluation.metrics import jieba_words
from got_train.evaluation.predictions import Prediction
from got_train.evaluation.scored import score_predictions

ODD = [*"\uff0c\u3002 \n\t\r0123456789.%+-#&_abcXYZ\u3042\uac00\u3000\u9fd6\u9fff\u3007", "\r\n"]


@pytest.fixture(scope="module")
def cutter():
    made = jieba.Tokenizer()
    made.initialize()
    return made


@pytest.mark.parametrize("source", ["common words", "all words", "all characters"])
def test_300_random_texts_are_cut_as_jieba_cuts_them(cutter, source):
    words = [word for word, count in cutter.FREQ.items() if count]
    pool = {
        "common words": sorted(words, key=cutter.FREQ.get)[-5000:],
        "all words": words,
        "all characters": [chr(code) for code in range(0x4E00, 0x9FA6)],
    }[source]
    chance = random.Random(4)
    for _ in range(300):
        pieces = chance.choices((pool, ODD), (0.85, 0.15), k=chance.randrange(60))
        text = "".join(map(chance.choice, pieces))
        assert jieba_words.words(text) == cutter.lcut(text)


def test_a_run_of_3000_rare_characters_is_cut_as_jieba_cuts_it(cutter):
    text = "".join(random.Random(1).choices([chr(code) for code in range(0x9000, 0x9FA6)], k=3000))
    assert jieba_words.words(text) == cutter.lcut(text)


def test_many_texts_are_scored_in_several_processes_with_the_same_result(monkeypatch):
    monkeypatch.setattr("got_train.evaluation.scored.CHARACTERS_PER_PROCESS", 20)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    rows = [Prediction("a word", "a wor", id=str(n)) for n in range(6)]
    together = score_predictions(rows)
    monkeypatch.setattr("got_train.evaluation.scored.CHARACTERS_PER_PROCESS", 10**9)
    assert together == score_predictions(rows)
    assert together[0].fixed["edit_distance"] == 1 / 6
