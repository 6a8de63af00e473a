"""The text metrics against the values of the original scripts, and against numbers worked out by hand."""

import json
import math
import random
import subprocess
import sys
import types
from pathlib import Path

import pytest

from got_train.evaluation.metrics import jieba_words
from got_train.evaluation.metrics import meteor as meteor_module
from got_train.evaluation.metrics.meteor import align, meteor, stages, stem, wordnet_synonyms
from got_train.evaluation.metrics.text import (
    OFFICIAL,
    Counts,
    averages,
    bleu,
    cer,
    edit_distance,
    exact_match,
    score,
    tokens,
    wer,
)

GOLDEN = json.loads((Path(__file__).parents[1] / "fixtures" / "metrics_golden_text.json").read_text("utf-8"))
PAIRS = {pair["id"]: pair for pair in GOLDEN["pairs"]}
NAMES = dict(zip(OFFICIAL, ("edit_dist", "precision", "recall", "f_measure", "bleu", "meteor"), strict=True))


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("mode", ["fixed", "official"])
@pytest.mark.parametrize(("tool", "unit"), [("got_plain", "word"), ("got_scene", "character")])
def test_got_values_are_met_to_1e_9(name, mode, tool, unit):
    values = PAIRS[name]["values"].get(f"{tool}.{mode}")
    if not values:  # an empty side, or a format pair, which has no scene values
        return
    scored = score(PAIRS[name]["answer"], PAIRS[name]["label"], unit, mode)
    for ours, theirs in NAMES.items():
        if ours != "meteor":
            assert scored[ours] == pytest.approx(values[theirs], rel=0, abs=1e-9), ours
    if "synonym" in stages() or unit == "character":  # single characters have synonyms without WordNet too
        assert scored["meteor"] == pytest.approx(values["meteor"], rel=0, abs=1e-9)
    else:
        assert values["meteor"] - 3e-3 <= scored["meteor"] <= values["meteor"] + 1e-9


def test_the_golden_file_holds_420_values_of_both_modes():
    counted = sum(
        len(values)
        for pair in PAIRS.values()
        for name, values in pair["values"].items()
        if name.startswith("got_") and values
    )
    assert counted == 420


@pytest.mark.parametrize("name", [name for name in PAIRS if "." not in name])
def test_edit_distance_and_cer_are_those_of_the_golden_file(name):
    pair = PAIRS[name]
    longest = max(len(pair["answer"]), len(pair["label"])) or 1
    assert edit_distance(pair["answer"], pair["label"]) == pair["levenshtein"] / longest
    if pair["cer"] is not None:
        assert cer(pair["answer"], pair["label"]) == pytest.approx(pair["cer"], abs=1e-9)


def spaced_once(text):
    return " ".join(text.split()) == text


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, pair in PAIRS.items()
        if name.startswith("en_") and spaced_once(pair["label"]) and spaced_once(pair["answer"])
    ],
)
def test_wer_of_english_is_that_of_jiwer(name):
    """Of texts without newlines: to jiwer these stand inside a word."""
    pair = PAIRS[name]
    assert wer(pair["answer"], pair["label"]) == pytest.approx(pair["jiwer_wer"], abs=1e-9)


@pytest.mark.parametrize("name", [name for name, pair in PAIRS.items() if pair["values"].get("nougat.fixed")])
def test_nougats_values_on_words_split_at_white_space_are_met(name):
    values = PAIRS[name]["values"]["nougat.fixed"]
    answer, label = PAIRS[name]["answer"].split(), PAIRS[name]["label"].split()
    assert bleu(answer, label) == pytest.approx(values["bleu"], rel=0, abs=1e-9)
    assert values["meteor"] - 3e-3 <= meteor(answer, label) <= values["meteor"] + 1e-9


@pytest.mark.parametrize("name", [name for name, pair in PAIRS.items() if pair["values"].get("fox.official")])
def test_fox_is_the_official_mode_where_it_does_not_fail(name):
    pair = PAIRS[name]
    values, scored = pair["values"]["fox.official"], score(pair["answer"], pair["label"], mode="official")
    if not (pair["answer"] and pair["label"]):
        assert scored is None
        assert "error" in values or values["f_measure"] is None
        return
    for ours, theirs in NAMES.items():
        assert scored[ours] == pytest.approx(values[theirs], rel=0, abs=3e-3 if ours == "meteor" else 1e-9)


@pytest.mark.parametrize(
    ("prediction", "reference", "distance", "characters", "words", "same"),
    [
        ("", "", 0.0, 0.0, 0.0, True),
        ("", "abc", 1.0, 1.0, 1.0, False),
        ("abc", "", 1.0, 1.0, 1.0, False),
        (" ", "", 1.0, 1.0, 0.0, True),
        ("abc", "abc", 0.0, 0.0, 0.0, True),
        ("abc\n", "abc", 1 / 4, 1 / 3, 0.0, True),
        ("kitten", "sitting", 3 / 7, 3 / 7, 1.0, False),
        ("ab", "ba", 2 / 2, 2 / 2, 1.0, False),  # a transposition is two edits
        ("a b c d", "a b", 4 / 7, 4 / 3, 2 / 2, False),  # CER may exceed 1
        ("Abc", "abc", 1 / 3, 1 / 3, 1.0, False),
        ("e\u0301", "\u00e9", 2 / 2, 2 / 1, 1.0, False),  # composed or not counts
        ("\u4e2d\u56fd \u4eba", "\u4e2d\u56fd\u4eba", 1 / 4, 1 / 3, 0.0, True),
    ],
)
def test_rates_worked_out_by_hand(prediction, reference, distance, characters, words, same):
    assert edit_distance(prediction, reference) == pytest.approx(distance)
    assert cer(prediction, reference) == pytest.approx(characters)
    if "\u4e2d" not in prediction:  # there the words are jieba's affair
        assert wer(prediction, reference) == pytest.approx(words)
        assert exact_match(prediction, reference) is same


def levenshtein(a, b):
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, start=1):
        before, row[0] = row[0], i
        for j, right in enumerate(b, start=1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (left != right))
    return row[-1]


def test_200_random_pairs_have_the_edits_of_the_textbook_loop():
    chance = random.Random(1)
    for _ in range(200):
        a, b = (
            "".join(chance.choices("ab \u00e9\u4e2d\U00020bb7", k=chance.randint(0, 12))) for _ in range(2)
        )
        assert score(a, b).counts.edits == levenshtein(a, b)


@pytest.mark.parametrize(
    ("prediction", "reference", "value"),
    [
        ("some text", "", 0.0),
        ("", "some text", 0.0),
        (" \n", "some text", 0.0),
        ("", "", 1.0),
    ],
)
def test_fixed_scores_an_empty_side_0_and_two_empty_sides_1(prediction, reference, value):
    scored = score(prediction, reference)
    assert [scored[name] for name in ("precision", "recall", "f1", "bleu", "meteor")] == [value] * 5
    assert scored["exact_match"] == value
    if not (prediction.isspace() or reference.isspace()):
        assert scored["edit_distance"] == 1.0 - value


@pytest.mark.parametrize(("prediction", "reference"), [("", "text"), ("text", ""), ("", ""), (" ", "text")])
def test_official_drops_pairs_with_an_empty_side(prediction, reference):
    assert score(prediction, reference, mode="official") is None


def test_sets_of_words_worked_out_by_hand():
    """Predicted {a, b, c, d}, expected {a, b, e}: 2 in common; repetition is not seen."""
    scored = score("a b c d a a a", "a b e")
    assert (scored["precision"], scored["recall"]) == (2 / 4, 2 / 3)
    assert scored["f1"] == pytest.approx(4 / 7)
    exchanged = score("a b c d a a a", "a b e", mode="official")
    assert (exchanged["precision"], exchanged["recall"]) == (2 / 3, 2 / 4)
    assert score("ha ha", "ha ha ha ha ha")["f1"] == 1.0


def test_bleu_worked_out_by_hand():
    words = ["a", "b", "c", "d", "e"]
    assert bleu(["a", "b", "c", "d", "f"], words) == pytest.approx((4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    assert bleu(["a", "b", "c", "d"], words) == pytest.approx(math.exp(1 - 5 / 4))
    assert bleu(words, ["a", "b", "c", "d"]) == pytest.approx((4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    assert bleu(["a", "a", "a", "a"], ["a", "b", "c", "d"]) == pytest.approx(
        (1 / 4) ** 0.25 * sys.float_info.min**0.75
    )
    assert bleu(["x"], ["y"]) == 0.0
    assert bleu([], []) == 0.0


@pytest.mark.parametrize("count", [1, 2, 3, 10])
def test_meteor_of_n_equal_words_is_1_less_half_over_n_cubed(count):
    words = [f"w{place}" for place in range(count)]
    assert meteor(words, [word.upper() for word in words]) == pytest.approx(1 - 0.5 / count**3)


def test_meteor_worked_out_by_hand():
    """the cat sat against sat the cat: 3 pairs in 2 runs; then 2 of 3 words in 1 run."""
    assert meteor(["the", "cat", "sat"], ["sat", "the", "cat"]) == pytest.approx(1 - 0.5 * (2 / 3) ** 3)
    mean = (2 / 3 * 1) / (0.9 * 2 / 3 + 0.1 * 1)
    assert meteor(["the", "cat", "sat"], ["the", "cat"]) == pytest.approx((1 - 0.5 / 8) * mean)
    assert meteor(["cats", "running"], ["cat", "runs"]) == pytest.approx(1 - 0.5 / 8)
    assert meteor([], []) == meteor(["a"], []) == meteor(["a"], ["b"]) == 0.0


def test_words_are_paired_from_the_end():
    assert align(["a", "b", "a"], ["a", "a"]) == [(2, 1), (0, 0)]
    assert align(["a"], ["a", "x", "a"]) == [(0, 2)]


def test_synonyms_are_those_of_stems_and_come_last():
    """hous is the stem of houses; home and hous share a sense; the word nearest to the end is taken."""
    senses = {"hous": {"hous", "home", "dwell"}}
    assert align(["houses"], ["home"], lambda word: senses.get(word, {word})) == [(0, 0)]
    assert align(["houses"], ["home", "dwelling", "x"], lambda word: senses.get(word, {word})) == [(0, 1)]
    assert align(["houses"], ["home"]) == []


# of NLTK 3.9.1's PorterStemmer(): examples of Porter's paper, then what only NLTK does
STEMS = {
    **{
        "caresses": "caress",
        "ponies": "poni",
        "ties": "tie",
        "caress": "caress",
        "cats": "cat",
        "feed": "feed",
    },
    **{"agreed": "agre", "plastered": "plaster", "bled": "bled", "motoring": "motor", "sing": "sing"},
    **{"conflated": "conflat", "troubled": "troubl", "sized": "size", "hopping": "hop", "falling": "fall"},
    **{"hissing": "hiss", "fizzed": "fizz", "failing": "fail", "filing": "file", "happy": "happi"},
    **{"relational": "relat", "conditional": "condit", "rational": "ration", "valenci": "valenc"},
    **{"digitizer": "digit", "radically": "radic", "vietnamization": "vietnam", "operator": "oper"},
    **{"hopefulness": "hope", "formality": "formal", "sensibility": "sensibl", "triplicate": "triplic"},
    **{"electricity": "electr", "goodness": "good", "adoption": "adopt", "homologous": "homolog"},
    **{
        "bowdlerize": "bowdler",
        "probate": "probat",
        "rate": "rate",
        "cease": "ceas",
        "controlling": "control",
    },
    **{"roll": "roll", "generalizations": "gener", "oscillators": "oscil"},
    **{
        "sky": "sky",
        "skies": "sky",
        "dying": "die",
        "innings": "inning",
        "proceed": "proceed",
        "died": "die",
    },
    **{"enjoy": "enjoy", "spy": "spi", "cried": "cri", "geology": "geolog", "hopefully": "hope", "is": "is"},
    **{"as": "as", "oed": "o", "\u4e2d\u56fd\u4eba": "\u4e2d\u56fd\u4eba", "yy": "yy", "say": "say"},
}


@pytest.mark.parametrize(("word", "expected"), STEMS.items())
def test_a_stem_is_nltks(word, expected):
    assert stem(word) == expected


def test_without_nltk_or_its_wordnet_synonyms_of_single_characters_are_left(monkeypatch):
    """EXIT read as EX1T: 4 pairs in one run, as with WordNet, in which 1 and i are synonyms."""
    monkeypatch.setattr(meteor_module, "wordnet_synonyms", lambda: None)
    assert stages() == ("exact", "stem", "synonym of 1 character")
    assert score("EX1T", "EXIT", "character")["meteor"] == 1 - 0.5 / 4**3
    assert score("house", "home")["meteor"] == 0.0


def fake_nltk(monkeypatch, loaded):
    """What meteor needs of nltk: ensure_loaded and synsets with lemmas that have names."""

    def sense(*names):
        return types.SimpleNamespace(
            lemmas=lambda: [types.SimpleNamespace(name=lambda n=n: n) for n in names]
        )

    wordnet = types.SimpleNamespace(
        ensure_loaded=loaded, synsets=lambda word: [sense("home", "dwelling_house")] if word == "hous" else []
    )
    corpus = types.ModuleType("nltk.corpus")
    corpus.wordnet = wordnet
    monkeypatch.setitem(sys.modules, "nltk", types.ModuleType("nltk"))
    monkeypatch.setitem(sys.modules, "nltk.corpus", corpus)


def test_wordnet_gives_single_words_and_the_word_itself(monkeypatch):
    fake_nltk(monkeypatch, loaded=lambda: None)
    synonyms = wordnet_synonyms.__wrapped__()
    assert synonyms("hous") == {"hous", "home"}
    assert synonyms("x") == {"x"}


def test_nltk_without_wordnet_is_no_fault(monkeypatch):
    def missing():
        raise LookupError("Resource wordnet not found")

    fake_nltk(monkeypatch, loaded=missing)
    assert wordnet_synonyms.__wrapped__() is None


def test_chinese_on_either_side_sends_both_to_jieba():
    assert tokens("a b", "c d") == (["a", "b"], ["c", "d"])
    assert tokens("a b", "\u4e2d\u56fd\u4eba") == (["a", " ", "b"], ["\u4e2d\u56fd", "\u4eba"])
    assert tokens("\u30ab\u30e1\u30e9 \u30ec", "x") == (
        ["\u30ab\u30e1\u30e9", "\u30ec"],
        ["x"],
    )  # kana alone: split
    assert tokens("\U00020bb7 a", "") == (["\U00020bb7", "a"], [])  # outside the official range
    assert tokens("a b", "c", "character") == (["a", " ", "b"], ["c"])


def test_words_that_others_teach_jieba_change_nothing():
    import jieba

    before = tokens("\u4e2d\u56fd\u4eba\u5403\u996d", "")
    jieba.add_word("\u4e2d\u56fd\u4eba\u5403\u996d")
    try:
        jieba_words._block.cache_clear()
        assert tokens("\u4e2d\u56fd\u4eba\u5403\u996d", "") == before
    finally:
        jieba.del_word("\u4e2d\u56fd\u4eba\u5403\u996d")


@pytest.mark.parametrize(("unit", "mode", "wrong"), [("letter", "fixed", "unit"), ("word", "got", "mode")])
def test_an_unknown_unit_or_mode_is_refused(unit, mode, wrong):
    with pytest.raises(ValueError, match=f"^{wrong} must be one of"):
        score("a", "b", unit, mode)


def test_micro_weighs_by_length_and_macro_does_not():
    """Edits 3, 12, 0, 40, 7, 1 in 100, 400, 50, 500, 700, 90 characters, from the golden file."""
    golden = GOLDEN["micro_cer"]
    pairs = [
        ("x" * edits + "a" * (length - edits), "a" * length)
        for edits, length in zip(golden["edits"], golden["lengths"], strict=True)
    ]
    found = averages([score(*pair) for pair in pairs])
    assert found["micro"]["cer"] == pytest.approx(golden["micro"], abs=1e-9)
    assert found["macro"]["cer"] == pytest.approx(golden["macro"], abs=1e-9)


def test_averages_of_three_pairs_worked_out_by_hand():
    """An exact pair, an empty answer and an answer to a blank page."""
    scores = [score(*pair) for pair in (("ab cd", "ab cd"), ("", "abc"), ("x", ""))]
    found = averages(scores)
    assert found["macro"]["edit_distance"] == pytest.approx(2 / 3)
    assert found["micro"]["edit_distance"] == pytest.approx((0 + 3 + 1) / (5 + 3 + 1))
    assert found["micro"]["cer"] == pytest.approx((0 + 3 + 1) / (5 + 3 + 0))
    assert found["micro"]["wer"] == pytest.approx((0 + 1 + 1) / (2 + 1 + 0))
    assert found["macro"]["exact_match"] == pytest.approx(1 / 3)
    assert found["micro"]["precision"] == pytest.approx(2 / (2 + 0 + 1))
    assert found["micro"]["recall"] == pytest.approx(2 / (2 + 1 + 0))
    assert set(averages(scores, OFFICIAL)["macro"]) == set(OFFICIAL)
    with pytest.raises(ValueError, match="^averages: no scores"):
        averages([])


def test_rates_of_no_text_at_all_are_those_of_two_empty_sides():
    nothing = Counts()
    assert (nothing.edit_distance, nothing.cer, nothing.wer) == (0.0, 0.0, 0.0)
    assert (nothing.precision, nothing.recall, nothing.f1) == (1.0, 1.0, 1.0)


def test_words_are_counted_as_sroie_counts_them_by_hand():
    """Every word of a reading may meet one word of the label, wherever it stands; sums over all lines."""
    lines = [
        ("TOTAL RM 9.00", "TOTAL RM 9.00"),  # 3 of 3
        ("TOTAL TOTAL RM", "RM TOTAL"),  # 2 of 3 read and 2 labelled: the second TOTAL meets nothing
        ("9.0 0", "9.00"),  # 0 of 2 and 1
        ("", "CASH CHANGE"),  # 0 of 0 and 2
        ("Tel:03", ""),  # 0 of 1 and 0
    ]
    scores = [score(*line) for line in lines]
    assert [one["word_f1"] for one in scores] == pytest.approx([1, 4 / 5, 0, 0, 0])
    assert [one["word_precision"] for one in scores] == pytest.approx([1, 2 / 3, 0, 0, 0])
    assert [one["word_recall"] for one in scores] == pytest.approx([1, 1, 0, 0, 1 - 1])
    micro = averages(scores)["micro"]
    assert micro["word_precision"] == pytest.approx(5 / 9)
    assert micro["word_recall"] == pytest.approx(5 / 8)
    assert micro["word_f1"] == pytest.approx(10 / 17)
    nothing = Counts()
    assert (nothing.word_precision, nothing.word_recall, nothing.word_f1) == (1.0, 1.0, 1.0)


def test_metrics_import_neither_paddle_nor_jieba_nor_numpy():
    """nltk, which METEOR asks for synonyms where it is installed, would bring numpy."""
    code = "import sys; sys.modules['nltk'] = None; import got_train.evaluation.metrics.text as t; "
    code += "t.score('a b', 'a c'); print(*sorted(sys.modules))"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"paddle", "paddlenlp", "jieba", "numpy"} & set(found)
