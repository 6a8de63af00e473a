"""got init: folders of every form become a config that loads, passes the check and has its reasons."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from got_train.cli import check, init
from got_train.config.loader import load_config
from got_train.data.records import read_records

NANO = "configs/nano/weights/stage3"
WORDS = ("harbour", "report", "mill", "town", "river", "clerk", "paper", "stone", "winter", "ledger")


def picture(path, text):
    image = Image.new("RGB", (128, 128), (248, 248, 248))
    face = ImageFont.load_default(16)
    for line, words in enumerate(text.split("\n")):
        ImageDraw.Draw(image).text((8, 8 + 22 * line), words, (20, 20, 20), font=face)
    image.save(path)


@pytest.fixture
def documents(tmp_path):
    """A function: a folder of so many pictures, and their texts by name."""
    folder = tmp_path / "docs"
    folder.mkdir()
    generator = np.random.default_rng(5)

    def make(count=24, name="{}"):
        texts = {}
        for number in range(count):
            lines = ["\n".join(" ".join(generator.choice(WORDS, 2)) for _ in range(3))]
            texts[name.format(number)] = lines[0]
            picture(folder / f"{name.format(number)}.png", lines[0])
        return folder, texts

    return make


def begin(folder, capsys, *words):
    """Exit code, config path, and what was said, of an init with the nano checkpoint."""
    out = folder.parent / "my.yaml"
    code = init.main([str(folder), "-o", str(out), "--init-from", NANO, "--workers", "0", *words])
    said = capsys.readouterr()
    return code, out, said.out + said.err


def as_texts(folder, texts):
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text + "\n")


def as_lines(folder, texts):
    rows = [{"images": [f"{name}.png"], "task": "ocr", "text": text} for name, text in texts.items()]
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def as_other_names(folder, texts):
    rows = [{"image": f"{name}.png", "ground_truth": text, "lang": "en"} for name, text in texts.items()]
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def as_conversations(folder, texts):
    rows = [
        {
            "image": f"{name}.png",
            "conversations": [{"from": "human", "value": "<image>\nOCR: "}, {"from": "gpt", "value": text}],
        }
        for name, text in texts.items()
    ]
    (folder / "got.json").write_text(json.dumps(rows))


def as_swift(folder, texts):
    rows = [
        {"query": "<image>OCR: ", "response": text, "images": [f"{name}.png"]} for name, text in texts.items()
    ]
    (folder / "swift.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def as_meta(folder, texts):
    as_conversations(folder, texts)
    (folder / "sets").mkdir()
    (folder / "got.json").rename(folder / "sets" / "got.json")
    meta = {"all": {"images": ".", "annotations": "sets/got.json"}}
    (folder / "meta.json").write_text(json.dumps(meta))
    (folder / "sets" / "got.json").rename(folder / "sets" / "got.rows")
    meta["all"]["annotations"] = "sets/got.rows"
    (folder / "meta.json").write_text(json.dumps(meta))


def as_image_folder(folder, texts):
    lines = [f'{name}.png,"{text}"' for name, text in texts.items()]
    (folder / "metadata.csv").write_text("\n".join(["file_name,text", *lines]) + "\n")


def as_parquet(folder, texts):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    pages = [{"bytes": (folder / f"{name}.png").read_bytes(), "path": name} for name in texts]
    table = pyarrow.table({"image": pages, "answer": list(texts.values()), "source": ["scan"] * len(texts)})
    parquet.write_table(table, folder / "data.parquet")
    for name in texts:
        (folder / f"{name}.png").unlink()


FORMS = (
    *(as_texts, as_lines, as_other_names, as_conversations, as_swift),
    *(as_meta, as_image_folder, as_parquet),
)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_a_folder_of_every_form_becomes_a_config_of_which_the_check_says_that_it_can_start(
    form, documents, capsys
):
    folder, texts = documents()
    form(folder, texts)
    code, out, said = begin(folder, capsys)
    assert code == 0, said
    config = load_config(out)
    sources = config.data.sources
    records = [
        record
        for source in sources
        for record in read_records(source.path, task=source.task or None, columns=source.columns)
    ]
    assert sorted(record.text for record in records) == sorted(texts.values())
    output = f"train.output_dir={folder.parent}/run"
    assert check.main([str(out), output, "--workers", "0", "--no-measure"]) == 0
    report = capsys.readouterr().out
    assert "ready with warnings" in report
    assert "error: " not in report


def test_every_setting_has_a_reason_and_what_it_says_was_seen(documents, capsys):
    folder, texts = documents()
    as_texts(folder, texts)
    _, out, said = begin(folder, capsys)
    lines = out.read_text().splitlines()
    bare = [line for line in lines if line.startswith("  ") and "#" not in line]
    assert [line.split(":")[0].strip() for line in bare] == ["train", "- {path", "output_dir"]
    assert "scripts: Latin 100%" in said
    assert "pictures: 128 in the middle" in said
    assert "24 rows are few" in said
    config = load_config(out)
    assert config.lora.rank == 8
    assert config.data.max_tokens % 64 == 0


def test_many_rows_train_whole_and_a_new_script_opens_the_encoder(documents, capsys, monkeypatch):
    folder, texts = documents()
    as_texts(folder, dict.fromkeys(texts, "\u043f\u0440\u0438\u0432\u0435\u0442 \u043c\u0438\u0440"))
    monkeypatch.setattr("got_train.autoconfig.proposal.FEW_ROWS", 20)
    _, out, said = begin(folder, capsys, "--no-measure")
    config = load_config(out)
    assert config.lora.rank == 0
    assert config.parts.vision.trainable
    assert "Cyrillic: the released encoder never saw it" in said


def test_marked_up_answers_get_the_task_format(documents, capsys):
    folder, texts = documents()
    as_texts(folder, {name: f"# {text}" for name, text in texts.items()})
    _, out, _ = begin(folder, capsys)
    assert [source.task for source in load_config(out).data.sources] == ["format"]


def test_documents_are_held_out_whole_and_the_same_ones_every_time(documents, capsys):
    folder, texts = documents(30, "letter{:02}")
    for number in range(5):  # five documents of three pages
        for leaf in range(3):
            name = f"letter{3 * number + leaf:02}"
            for ending in (".png",):
                (folder / f"{name}{ending}").rename(folder / f"deed{number}_page{leaf}{ending}")
            texts[f"deed{number}_page{leaf}"] = texts.pop(name)
    as_texts(folder, texts)
    found = []
    for _ in range(2):
        code, out, said = begin(folder, capsys, "--split", "0.2")
        assert code == 0, said
        parts = [
            {Path(str(record.images[0])).stem for record in read_records(out.with_suffix(f".{role}.jsonl"))}
            for role in ("train", "validation")
        ]
        found.append(parts)
        config = load_config(out)
        output = f"train.output_dir={folder.parent}/run"
        check.main([str(out), output, "--workers", "0", "--no-measure"])
        assert "leak" not in capsys.readouterr().out
        for made in folder.parent.glob("my*"):
            made.unlink()
    train, held = found[0]
    assert found[0] == found[1]
    assert train | held == set(texts)
    assert not train & held
    assert 3 <= len(held) <= 9  # a fifth of 30, whole documents
    deeds = [{name.partition("_")[0] for name in part if name.startswith("deed")} for part in (train, held)]
    assert not deeds[0] & deeds[1]
    assert config.train.early_stopping_patience == 3


def test_one_document_cannot_be_split(documents, capsys):
    folder, texts = documents(4, "deed_page{}")
    as_texts(folder, texts)
    code, out, said = begin(folder, capsys, "--split", "0.2")
    assert code == 1
    assert "all rows belong to one document" in said
    assert not out.exists()


def test_what_cannot_be_used_is_told(documents, capsys):
    folder, texts = documents(6)
    as_lines(folder, texts)
    lines = (folder / "data.jsonl").read_text().splitlines()
    lines[2] = json.dumps({**json.loads(lines[2]), "text": ""})
    (folder / "data.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "old.jsonl").write_text('{"page": 1}\n')
    (folder / "scan.pdf").write_bytes(b"%PDF-1.4")
    code, out, said = begin(folder, capsys)
    assert code == 0
    assert "data.jsonl:3: empty answer; give the text seen" in said
    assert "not used: " in said
    assert "old.jsonl:1: unknown key 'page'" in said
    assert "1 PDF file(s)" in said
    assert load_config(out).data.on_error == "skip"


def test_rows_that_cannot_be_used_at_all_make_no_config(documents, capsys):
    folder, texts = documents(3)
    as_texts(folder, texts)
    for picture in folder.glob("*.png"):
        picture.write_bytes(picture.read_bytes()[:60])
    code, out, said = begin(folder, capsys, "--split", "0.5")
    assert code == 1
    assert "none of 3 rows can be used" in said and "damaged or cut off" in said
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["", "-o", "a.yaml"], "argument folder: empty"),
        (["x", "-o", "a.yaml", "--workers", "-1"], "--workers: '-1'; expected a whole number, 0 or more"),
        (["x", "-o", "a.yaml", "--split", "nan"], "--split: 'nan'; expected a fraction such as 0.1"),
    ],
)
def test_wrong_usage_ends_with_2(arguments, said, capsys):
    with pytest.raises(SystemExit) as error:
        init.main(arguments)
    assert error.value.code == 2
    assert said in capsys.readouterr().err


def test_a_split_writes_nothing_where_one_of_its_files_is_there(documents, capsys):
    folder, texts = documents(4)
    as_texts(folder, texts)
    (folder.parent / "my.validation.jsonl").write_text("mine")
    code, out, said = begin(folder, capsys, "--split", "0.5")
    assert code == 2 and "my.validation.jsonl: exists already" in said
    assert not out.exists() and not (folder.parent / "my.train.jsonl").exists()


@pytest.mark.parametrize(
    ("prepare", "expected", "message"),
    [
        (lambda folder: None, 1, "no rows to train on"),
        (lambda folder: shutil.rmtree(folder), 1, "no such folder"),
        (lambda folder: (folder.parent / "my.yaml").write_text("x"), 2, "exists already; use another name"),
    ],
)
def test_it_refuses_with_advice(prepare, expected, message, documents, capsys):
    folder, _ = documents(2)
    prepare(folder)
    code, _, said = begin(folder, capsys)
    assert code == expected
    assert message in said


def test_without_a_checkpoint_it_says_which_to_name(documents, capsys):
    folder, texts = documents(2)
    as_texts(folder, texts)
    code = init.main([str(folder), "-o", str(folder.parent / "my.yaml"), "--init-from", "none"])
    assert code == 2
    assert "--init-from names the checkpoint to start from" in capsys.readouterr().err
