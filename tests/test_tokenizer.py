"""Ids: GOT's own against recorded ones, the small and OPT's against hand-made ones and other tokenizers."""

import hashlib
import importlib.util
import json
import os
import pickle
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from got_train.errors import CheckpointError
from got_train.prompts import build_prompt
from got_train.tokenizer import (
    GOT_SPECIALS,
    NANO_SPECIALS,
    OptTokenizer,
    Tokenizer,
    load_tokenizer,
    train_tokenizer,
)

GOLDEN = json.loads((Path(__file__).parent / "fixtures" / "prompts.json").read_text(encoding="utf-8"))
TEXTS = (
    "The quick brown fox jumps over the lazy dog, and the dog doesn't mind: 1234567890.",
    "The theory of the thing is the theory that there is nothing other than the thing.",
    "\\title{\nGeneral OCR Theory\n}\n\\section*{1 Introduction}\n\n",
    "\\begin{tabular}{|l|r|}\n\\hline\na & 1 \\\\\n\\hline\n\\end{tabular}",
    "\\(x^{2}+y_{1}\\) and \\[\\frac{a}{b}=\\frac{c}{d}\\]\n\n  indented   text\twith tabs\r\n",
    "\u5149\u5b66\u5b57\u7b26\u8bc6\u522b\uff0c\u5149\u5b66\u5b57\u7b26\u3002",
    "caf\u00e9 \u00fc\u00df \U0001f600 \u65e5\u672c\u8a9e \ud55c\uad6d\uc5b4",
    "He'll we've I'M don't 'RE 3.14 \u0661\u0662 " + "aaaaaaa" * 3 + " === --- \n \n\n",
)


@pytest.fixture(scope="module")
def nano() -> Tokenizer:
    return train_tokenizer(TEXTS * 2, 330)


@pytest.fixture(scope="module")
def released() -> Path:
    folder, package = os.environ.get("GOT_TOKENIZER"), importlib.util.find_spec("dashscope")
    if folder is None and package is None:
        pytest.skip("set GOT_TOKENIZER to a folder with qwen.tiktoken, or install dashscope, which ships it")
    return Path(folder) if folder else Path(package.origin).parent / "resources"


def random_texts(count: int) -> list[str]:
    draw = random.Random(0)
    bits = [
        *"aetn\u00e9\u5149\U0001f600 \n\t=-.,1",
        "the",
        "  ",
        "\r\n",
        "'s",
        "\\frac",
        "<img>",
        "<|im_end|>",
        "12",
    ]
    return [*TEXTS, *("".join(draw.choices(bits, k=draw.randint(1, 40))) for _ in range(count))]


# The small tokenizer


def test_training_gives_exactly_the_size_asked(nano: Tokenizer):
    assert nano.size == 330 == len(nano.ranks) + 6
    assert [nano.specials[word] for word in NANO_SPECIALS] == [324, 325, 326, 327, 328, 329]
    assert (nano.pad_id, nano.end_id, nano.image_id, nano.stop_ids) == (324, 326, 329, (326, 324))


def test_training_joins_the_commonest_pair_first():
    # "abab" twice and "ab" once: "ab" 5 times; then "abab" 2 times (its parts are now words)
    tokenizer = train_tokenizer(["abab", "abab", "ab"], 264)
    assert list(tokenizer.ranks)[256:] == [b"ab", b"abab"]
    assert tokenizer.encode("ababab") == [257, 256]


def test_training_never_joins_across_pieces(nano: Tokenizer):
    tokenizer = train_tokenizer(["12 12 12 12 a\nb a\nb a\nb"] * 3, 263)
    assert list(tokenizer.ranks)[256:] == [b" a"]  # digits stand alone; "\n" and "b" are pieces of their own
    assert all(not word[1:].startswith(b" ") or not word.strip() for word in nano.ranks)


def test_training_is_deterministic_whatever_the_order(nano: Tokenizer):
    assert train_tokenizer(TEXTS[::-1] * 2, 330).ranks == nano.ranks


def test_a_size_that_the_text_cannot_fill_is_refused():
    with pytest.raises(CheckpointError, match="^size: 300 needs more text; after 2 words no pair recurs"):
        train_tokenizer(["abab", "abab", "ab"], 300)
    with pytest.raises(CheckpointError, match="^size: 100 cannot hold 256 bytes and 6 special tokens"):
        train_tokenizer(TEXTS, 100)


def test_text_survives_the_way_there_and_back(nano: Tokenizer):
    for text in random_texts(200):
        assert nano.decode(nano.encode(text)) == text
        assert nano.decode(nano.encode_answer(text)) == text


def test_special_words_in_a_text_are_text(nano: Tokenizer):
    ids = nano.encode("<img>a<|im_end|>")
    assert max(ids) < len(nano.ranks)
    assert nano.decode(ids) == "<img>a<|im_end|>"
    assert nano.encode_prompt("<img>a<|im_end|>") == [nano.specials["<img>"], ord("a"), nano.end_id]


def test_text_is_brought_to_nfc(nano: Tokenizer):
    assert nano.encode("cafe\u0301") == nano.encode("caf\u00e9")
    assert nano.encode_prompt("cafe\u0301") == nano.encode("caf\u00e9")


def test_an_answer_ends_with_the_end_token(nano: Tokenizer):
    assert nano.encode_answer("") == [nano.end_id]
    assert nano.encode_answer("the") == [*nano.encode("the"), nano.end_id]


def test_decoding_drops_special_tokens_unless_asked(nano: Tokenizer):
    ids = nano.encode_prompt("<|im_start|>a<img><imgpad></img><|im_end|><|endoftext|>")
    assert nano.decode(ids) == "a"
    assert nano.decode(ids, skip_special=False) == "<|im_start|>a<img><imgpad></img><|im_end|><|endoftext|>"


def test_half_a_character_decodes_to_its_bytes():
    bytes_only = train_tokenizer([], 262)
    assert bytes_only.encode("\u00e9") == [0xC3, 0xA9]
    assert bytes_only.decode_bytes([0xC3]) == b"\xc3"
    assert bytes_only.decode([0xC3]) == "\ufffd"


@pytest.mark.parametrize("wrong", [-1, 330, -100])
def test_an_id_that_is_no_token_is_refused(nano: Tokenizer, wrong: int):
    with pytest.raises(CheckpointError, match=f"^id {wrong} is not a token id; ids are 0..329"):
        nano.decode([1, wrong])


def test_a_prompt_holds_its_image_tokens(nano: Tokenizer):
    ids = nano.encode_prompt(build_prompt("multi_page", views=3, view_tokens=4))
    assert ids.count(nano.image_id) == 12
    assert ids.count(nano.specials["<|im_start|>"]) == 3
    assert ids.count(nano.end_id) == 2
    assert (
        nano.encode_prompt(build_prompt("ocr", prompt_template="stage1", view_tokens=2))[:2]
        == [nano.image_id] * 2
    )


def test_a_saved_tokenizer_loads_as_it_was(nano: Tokenizer, tmp_path: Path):
    nano.save(tmp_path / "new" / "folder")
    again = load_tokenizer(tmp_path / "new" / "folder")
    assert (again.ranks, again.specials) == (nano.ranks, nano.specials)
    assert pickle.loads(pickle.dumps(nano)).encode(TEXTS[3]) == nano.encode(TEXTS[3])


# The layout of transformers


def test_the_exported_tokenizer_gives_the_same_ids_in_the_tokenizers_library(nano: Tokenizer, tmp_path: Path):
    tokenizers = pytest.importorskip("tokenizers")
    nano.to_transformers(tmp_path)
    fast = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in random_texts(500):
        assert fast.encode(text, add_special_tokens=False).ids == nano.encode_prompt(text)
        assert fast.decode(nano.encode(text), skip_special_tokens=False) == text


def test_the_exported_tokenizer_is_read_back(nano: Tokenizer, tmp_path: Path):
    nano.to_transformers(tmp_path)
    again = load_tokenizer(tmp_path)
    assert (again.ranks, again.specials) == (nano.ranks, nano.specials)


def test_merges_as_pairs_and_three_digits_at_a_time_are_read_too(nano: Tokenizer, tmp_path: Path):
    nano.to_transformers(tmp_path)
    path = tmp_path / "tokenizer.json"
    text = path.read_text(encoding="utf-8").replace("|\\\\p{N}|", "|\\\\p{N}{1,3}|")
    data = json.loads(text)
    assert "{1,3}" in json.dumps(data["pre_tokenizer"])
    data["model"]["merges"] = [pair.split(" ") for pair in data["model"]["merges"]]
    path.write_text(json.dumps(data), encoding="utf-8")
    assert load_tokenizer(tmp_path).ranks == nano.ranks


def test_an_export_does_not_overwrite_a_saved_tokenizer(nano: Tokenizer, tmp_path: Path):
    nano.save(tmp_path)
    with pytest.raises(CheckpointError, match="qwen.tiktoken needs its own tokenizer_config.json"):
        nano.to_transformers(tmp_path)


def swap_two_ids(data: dict) -> None:
    vocab = data["model"]["vocab"]
    first, last = list(vocab)[256], list(vocab)[-1]
    vocab[first], vocab[last] = vocab[last], vocab[first]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (swap_two_ids, "the ids do not follow the merges"),
        (lambda data: data["model"]["merges"].pop(), "the ids do not follow the merges"),
        (
            lambda data: data["model"].update(type="Unigram"),
            "a model of type Unigram; it must be a byte-level BPE",
        ),
        (lambda data: data.pop("pre_tokenizer"), "pre_tokenizer is not Qwen's, so ids would differ"),
        (lambda data: data["model"]["vocab"].update({"\u5149": 9999}), "the vocabulary is not byte-level"),
        (
            lambda data: data["added_tokens"][5].update(id=400),
            "the added tokens must take the ids from 324 on",
        ),
        (lambda data: data["model"]["vocab"].pop("A"), "the ranks must be 0..322 in order"),
    ],
)
def test_a_tokenizer_json_that_ranks_cannot_hold_is_refused(
    change, message: str, nano: Tokenizer, tmp_path: Path
):
    nano.to_transformers(tmp_path)
    path = tmp_path / "tokenizer.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(CheckpointError, match=f"tokenizer.json: {message}"):
        load_tokenizer(tmp_path)


@pytest.mark.reference
def test_transformers_reads_the_export_with_the_same_ids(nano: Tokenizer, tmp_path: Path):
    python = os.environ.get("GOT_REFERENCE_PYTHON")
    if not python:
        pytest.skip("set GOT_REFERENCE_PYTHON to a Python that has transformers")
    nano.to_transformers(tmp_path)
    check_against_transformers(python, nano, tmp_path)


def check_against_transformers(python: str, tokenizer: Tokenizer, folder: Path) -> None:
    texts = random_texts(300)
    (folder / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
    code = (
        "import json, sys; from transformers import AutoTokenizer as A; t = A.from_pretrained(sys.argv[1])\n"
        "texts = json.load(open(sys.argv[1] + '/texts.json', encoding='utf-8'))\n"
        "ids = t(texts, add_special_tokens=False)['input_ids']\n"
        "print(json.dumps([ids, [t.decode(i) for i in ids], len(t), t.pad_token_id, t.eos_token_id]))"
    )
    run = subprocess.run([python, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    ids, decoded, size, pad, eos = json.loads(run.stdout.splitlines()[-1])
    assert ids == [tokenizer.encode_prompt(text) for text in texts]
    assert decoded == texts
    assert (size, pad, eos) == (tokenizer.size, tokenizer.pad_id, tokenizer.pad_id)


# Files that are not right


def test_an_empty_folder_is_refused_with_what_was_looked_for(tmp_path: Path):
    names = "qwen.tiktoken, tokenizer.json, or vocab.json with merges.txt"
    with pytest.raises(CheckpointError, match=f"no tokenizer here; looked for {names}"):
        load_tokenizer(tmp_path)
    with pytest.raises(CheckpointError, match="no such folder; expected one with a tokenizer"):
        load_tokenizer(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda lines: ["version https://git-lfs"] + lines,
            "qwen.tiktoken:1: expected base64 and a rank; got 'vers",
        ),
        (lambda lines: lines[:7] + ["#### 7"] + lines[8:], "qwen.tiktoken:8: expected base64 and a rank"),
        (lambda lines: lines[:9] + lines[10:], r"qwen.tiktoken: the ranks must be 0\.\.322 in order"),
        (lambda lines: [*lines[:323], lines[0].split()[0] + " 323"], "'AA== 323' is there a second time"),
        (
            lambda lines: ["TVRoZQ== 0", *lines[1:]],
            "qwen.tiktoken: byte 0 has no rank; all 256 must have one",
        ),
    ],
)
def test_a_damaged_ranks_file_is_refused_by_line(change, message: str, nano: Tokenizer, tmp_path: Path):
    nano.save(tmp_path)
    path = tmp_path / "qwen.tiktoken"
    path.write_text("\n".join(change(path.read_text().splitlines())))
    with pytest.raises(CheckpointError, match=message):
        load_tokenizer(tmp_path)


def test_a_small_tokenizer_without_its_list_of_specials_is_refused(nano: Tokenizer, tmp_path: Path):
    nano.save(tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    with pytest.raises(
        CheckpointError, match="tokenizer_config.json: no special_tokens; only GOT's 151643 ranks"
    ):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(CheckpointError, match="tokenizer_config.json: invalid JSON"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("specials", [NANO_SPECIALS[:-1], (*NANO_SPECIALS, "<imgpad>")])
def test_special_tokens_must_be_there_once(specials: tuple[str, ...], nano: Tokenizer):
    with pytest.raises(CheckpointError, match="^special tokens: <imgpad> is missing or repeated"):
        Tokenizer(nano.ranks, specials)


# OPT, for stage 1. GPT-2 writes a space as \u0120 and a newline as \u010a.

MERGES = ["\u0120 t", "h e", "\u0120t he", "i n", "O C", "OC R", "< l", "<l b", "\u0120 \u0120"]


def opt_files(folder: Path) -> None:
    """As facebook/opt-125m's: special tokens first, then words by frequency, not by merge."""
    letters = [chr(b) for b in (*range(33, 127), *range(161, 173), *range(174, 256))]
    letters += [chr(256 + i) for i in range(256 - len(letters))]
    words = [".", "\u0120the", ",", *["".join(pair.split()) for pair in MERGES if pair != "\u0120t he"][::-1]]
    words = [
        "<s>",
        "<pad>",
        "</s>",
        "<unk>",
        *words,
        *(letter for letter in letters[::-1] if letter not in ".,"),
    ]
    words += ["madeupword0000"]
    (folder / "vocab.json").write_text(
        json.dumps({word: i for i, word in enumerate(words)}), encoding="utf-8"
    )
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *MERGES, ""]), encoding="utf-8")


@pytest.fixture
def opt(tmp_path: Path) -> OptTokenizer:
    opt_files(tmp_path)
    return load_tokenizer(tmp_path)


def test_opt_ids_are_those_of_its_vocabulary(opt: OptTokenizer):
    vocab = opt.vocab
    assert opt.encode("in the.") == [vocab["in"], 5, 4]
    assert opt.encode("the") == [vocab["t"], vocab["he"]]
    assert opt.encode("a  b") == [vocab["a"], vocab["\u0120"], vocab["\u0120"], vocab["b"]]
    assert opt.encode("a   ") == [vocab["a"], vocab["\u0120\u0120"], vocab["\u0120"]]


def test_opt_prompts_are_the_image_then_start_then_words(opt: OptTokenizer):
    ids = opt.encode_prompt(build_prompt("ocr", prompt_template="stage1", view_tokens=4))
    assert ids == [opt.image_id] * 4 + [2, opt.vocab["OCR"], opt.vocab[":"]]


def test_opt_answers_are_one_line_ended_by_newline(opt: OptTokenizer):
    newline = opt.vocab["\u010a"]
    ids = opt.encode_answer("in\nthe.\n")
    assert ids.count(newline) == 1
    assert ids[-1] == newline == opt.end_id
    assert opt.stop_ids == (newline, 2)
    assert opt.decode(ids) == "in\nthe.\n"
    assert opt.decode(ids, skip_special=False) == "in\nthe.\n\n"
    assert opt.decode(opt.encode("in\nthe.\n")) == "in\nthe.\n"


def test_opt_special_and_unused_ids_decode_to_nothing(opt: OptTokenizer):
    ids = [opt.image_id, 2, opt.vocab["in"], opt.vocab["madeupword0000"], opt.size - 2, 1]
    assert opt.decode(ids) == "in"
    assert opt.decode([opt.image_id, 2, opt.vocab["in"], 1], skip_special=False) == "<imgpad></s>in<pad>"
    with pytest.raises(CheckpointError, match="is not a token id"):
        opt.decode([opt.size])


def test_opt_has_50272_rows_and_the_last_is_the_image(tmp_path: Path):
    opt_files(tmp_path)
    vocab = json.loads((tmp_path / "vocab.json").read_text(encoding="utf-8"))
    vocab |= {f"madeupword{i}": i for i in range(len(vocab), 50_265)}
    (tmp_path / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    tokenizer = load_tokenizer(tmp_path)
    assert (tokenizer.size, tokenizer.image_id, tokenizer.pad_id) == (50_272, 50_271, 1)


def test_opt_equals_the_tokenizers_library(opt: OptTokenizer, tmp_path: Path):
    tokenizers = pytest.importorskip("tokenizers")
    files = [str(tmp_path / name) for name in ("vocab.json", "merges.txt")]
    fast = tokenizers.ByteLevelBPETokenizer(*files)
    for text in random_texts(300):
        line = text.replace("\n", "<lb>")
        assert opt.encode(text) == fast.encode(line).ids
        assert opt.decode(opt.encode_answer(text)) == text


def test_opt_is_saved_and_read_back_also_from_tokenizer_json(opt: OptTokenizer, tmp_path: Path):
    opt.save(tmp_path / "again")
    assert load_tokenizer(tmp_path / "again").encode(TEXTS[0]) == opt.encode(TEXTS[0])
    (tmp_path / "json").mkdir()
    model = {"type": "BPE", "vocab": opt.vocab, "merges": opt.merges}
    (tmp_path / "json" / "tokenizer.json").write_text(json.dumps({"model": model}), encoding="utf-8")
    assert load_tokenizer(tmp_path / "json").encode(TEXTS[0]) == opt.encode(TEXTS[0])


def test_opt_refuses_the_prompt_of_another_stage(opt: OptTokenizer):
    with pytest.raises(
        CheckpointError, match="^prompt: OPT cannot read '<.im_start.>system.*; build it in the stage1"
    ):
        opt.encode_prompt(build_prompt("ocr"))
    with pytest.raises(CheckpointError, match="^prompt: OPT cannot read '<.im_end.>'"):
        opt.encode_prompt("<imgpad>OCR:<|im_end|>")
    with pytest.raises(CheckpointError, match="transformers has no GOT of stage 1"):
        opt.to_transformers("anywhere")


def test_a_vocabulary_that_is_not_opts_is_refused(tmp_path: Path):
    opt_files(tmp_path)
    vocab = json.loads((tmp_path / "vocab.json").read_text(encoding="utf-8"))
    (tmp_path / "vocab.json").write_text(json.dumps({w: i for w, i in vocab.items() if w != "<pad>"}))
    with pytest.raises(CheckpointError, match="vocab.json: vocabulary: no '<pad>', so it is not OPT's"):
        load_tokenizer(tmp_path)
    opt_files(tmp_path)
    (tmp_path / "merges.txt").write_text("#version: 0.2\nh e\nx y\n")
    with pytest.raises(CheckpointError, match="merge 2: 'x y' is not two words of the vocabulary"):
        load_tokenizer(tmp_path)


# GOT's own


def test_got_has_217_special_tokens_in_the_order_of_the_released_ids():
    ids = {word: 151_643 + i for i, word in enumerate(GOT_SPECIALS)}
    assert len(ids) == 217
    assert [ids["<|endoftext|>"], ids["<|im_start|>"], ids["<|im_end|>"]] == [151643, 151644, 151645]
    assert [ids["<|extra_0|>"], ids["<|extra_204|>"], ids["<ref>"], ids["</quad>"]] == [
        151646,
        151850,
        151851,
        151856,
    ]
    assert [ids["<img>"], ids["</img>"], ids["<imgpad>"]] == [151857, 151858, 151859]


@pytest.mark.weights
def test_the_released_tokenizer_gives_the_recorded_ids(released: Path):
    expected = GOLDEN["tokenizer"]
    assert hashlib.sha256((released / "qwen.tiktoken").read_bytes()).hexdigest() == expected["sha256"]
    got = load_tokenizer(released)
    assert (got.size, got.pad_id, got.end_id, got.image_id) == (151860, 151643, 151645, 151859)
    assert got.stop_ids == (151645, 151643)
    for sample in expected["samples"]:
        assert got.encode_prompt(sample["text"]) == sample["ids"]
    for row in (*GOLDEN["original_demo_prompts"], *GOLDEN["transformers"]):
        prompt = re.sub(r"{<imgpad>\*(\d+)}", lambda found: "<imgpad>" * int(found[1]), row["prompt"])
        ids = got.encode_prompt(prompt)
        assert len(ids) == row["tokens"]
        assert [i for i in ids if i != got.image_id] == row["ids_without_image_tokens"]


@pytest.mark.weights
@pytest.mark.parametrize(
    ("asked", "count"),
    [
        ({"task": "ocr"}, 286),
        ({"task": "format"}, 288),
        ({"task": "ocr", "color": "red"}, 289),
        ({"task": "ocr", "box": [100, 200, 300, 400]}, 306),
        ({"task": "multi_crop_ocr"}, 290),
        ({"task": "multi_crop"}, 292),
        ({"task": "multi_page"}, 291),
        ({"task": "ocr", "prompt_template": "hub"}, 287),
        ({"task": "multi_crop", "views": 7}, 292 + 6 * 256),
    ],
)
def test_released_prompts_have_the_known_lengths(asked: dict, count: int, released: Path):
    assert len(load_tokenizer(released).encode_prompt(build_prompt(**asked))) == count


@pytest.mark.weights
def test_the_eight_spaces_of_hub_are_one_id_more(released: Path):
    ids = load_tokenizer(released).encode_prompt(build_prompt("ocr", prompt_template="hub"))
    assert ids[:7] == [151644, 8948, 198, 286, 1446, 1265, 1795]
    assert ids[-9:] == [151858, 198, 93495, 25, 220, 151645, 151644, 77091, 198]


@pytest.mark.weights
def test_the_released_tokenizer_survives_saving_and_export(released: Path, tmp_path: Path):
    got = load_tokenizer(released)
    got.save(tmp_path / "own")
    got.to_transformers(tmp_path / "transformers")
    for folder in ("own", "transformers"):
        again = load_tokenizer(tmp_path / folder)
        assert (again.ranks, again.specials) == (got.ranks, got.specials)
    if python := os.environ.get("GOT_REFERENCE_PYTHON"):
        check_against_transformers(python, got, tmp_path / "transformers")


@pytest.mark.weights
def test_qwen_tokenizer_json_gets_the_special_tokens_of_got(released: Path, tmp_path: Path):
    got = load_tokenizer(released)
    got.to_transformers(tmp_path)
    path = tmp_path / "tokenizer.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    data["added_tokens"] = data["added_tokens"][:3]  # what Qwen1.5-0.5B, the start of stage 2, comes with
    path.write_text(json.dumps(data), encoding="utf-8")
    assert load_tokenizer(tmp_path).specials == got.specials


def test_prompts_and_tokenizer_do_not_import_paddle():
    code = "import sys, got_train.tokenizer; print(sorted({'paddle', 'paddlenlp'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
