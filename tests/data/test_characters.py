"""Which characters a model knows: counted from its rows, kept beside it, told where others come."""

import json

import pytest
from PIL import Image

from got_train.checkpoint.characters import copy_characters, load_characters, save_characters
from got_train.cli.init import main as init
from got_train.config.loader import load_config
from got_train.data.characters import characters_of, describe, unfamiliar
from got_train.data.records import read_records
from got_train.preflight.check import check
from got_train.tokenizer import load_tokenizer

NANO = "configs/nano/weights/stage3"


@pytest.fixture
def rows(tmp_path):
    """Records with these answers, over one picture."""

    def write(*texts):
        folder = tmp_path / "rows"
        folder.mkdir(exist_ok=True)
        Image.new("L", (64, 64), 255).save(folder / "p.png")
        lines = [json.dumps({"images": ["p.png"], "task": "ocr", "text": text}) for text in texts]
        (folder / "records.jsonl").write_text("\n".join(lines))
        return folder / "records.jsonl"

    return write


def test_without_a_list_only_characters_without_a_token_are_unfamiliar():
    tokenizer = load_tokenizer(NANO)
    assert unfamiliar("caf\u00e9 caf\u00e9 \u20ac9", tokenizer, None) == {"\u00e9": 2, "\u20ac": 1}
    assert unfamiliar("Plain words, 12.", tokenizer, None) == {}


def test_with_a_list_whatever_it_lacks_is_unfamiliar_but_white_space():
    tokenizer = load_tokenizer(NANO)
    assert unfamiliar("ab\nB \u00e9", tokenizer, frozenset("ab\u00e9")) == {"B": 1}


def test_words_for_one_for_some_and_for_many():
    assert describe({"\u20ac": 1}, True) == "1 character was never trained: '\u20ac' 1 time"
    told = describe({"a": 3, "b": 12}, False)
    assert told == "2 characters have no token and are spelled in bytes: 'b' 12 times, 'a' 3 times"
    assert describe(dict.fromkeys("abcdefghijk", 2), True).endswith("'h' 2 times and 3 more")


def test_characters_are_kept_beside_a_model_and_carried_along(rows, tmp_path):
    records = read_records(rows("ab", "bc\u20ac"))
    assert characters_of([records]) == frozenset("abc\u20ac")
    for name in ("one", "two", "none"):
        (tmp_path / name).mkdir()
    save_characters(tmp_path / "one", characters_of([records]))
    copy_characters(tmp_path / "one", tmp_path / "two")
    copy_characters(tmp_path / "none", tmp_path / "none")
    assert load_characters(tmp_path / "two") == frozenset("abc\u20ac")
    assert load_characters(tmp_path / "none") is None


def test_a_check_and_init_tell_characters_that_the_model_cannot_know(rows, tmp_path, capsys):
    file = rows("plain words", "caf\u00e9 \u00e9t\u00e9")
    config = tmp_path / "run.yaml"
    config.write_text(
        f"model: {{init_from: {NANO}}}\ndata: {{train: {file}, max_tokens: 160}}\n"
        f"train: {{output_dir: {tmp_path / 'run'}, max_steps: 2}}\n"
    )
    found = check(load_config(config), measure=False)
    told = [kind for kind in found["findings"] if kind["subject"] == "characters"]
    assert [kind["level"] for kind in told] == ["warning"]
    assert told[0]["examples"][0]["cause"].startswith(
        "1 character has no token and is spelled in bytes: '\u00e9' 3"
    )
    assert init([str(file.parent), "-o", str(tmp_path / "new.yaml"), "--init-from", NANO]) == 0
    assert "warning: 1 character has no token" in capsys.readouterr().out
