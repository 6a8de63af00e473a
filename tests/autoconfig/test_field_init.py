"""What people bring to got init: whatever it writes can start, or it says what stands against it.

The inputs under fixtures/field are re-creations of public reports; the right answers are theirs.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from got_train.cli import check, init
from got_train.config.loader import load_config
from got_train.data.collator import Collator
from got_train.data.documents import documents_of
from got_train.data.record import Record
from got_train.tokenizer import load_tokenizer
from got_train.training.run import build_mixture

ROOT = Path(__file__).resolve().parents[2]
FIELD = ROOT / "tests/fixtures/field"
NANO = ROOT / "configs/nano/weights/stage3"


@pytest.fixture
def begin(tmp_path, capsys):
    """A function: exit code, config and words of got init on a folder or file."""

    def run(source, *flags):
        out = tmp_path / "my.yaml"
        for old in tmp_path.glob("my*"):
            old.unlink()
        code = init.main([str(source), "-o", str(out), "--init-from", str(NANO), "--workers", "0", *flags])
        said = capsys.readouterr()
        run.said = said.out + said.err
        return code, load_config(out) if out.exists() else None

    return run


@pytest.fixture
def case(tmp_path):
    def copy(name):
        return Path(shutil.copytree(FIELD / name, tmp_path / name))

    return copy


def starts(config, tmp_path, capsys):
    """Whether the check finds nothing against a config, and each of its rows makes a sample."""
    out = tmp_path / "my.yaml"
    code = check.main([str(out), f"train.output_dir={tmp_path}/run", "--workers", "0", "--no-measure"])
    said = capsys.readouterr().out
    mixture = build_mixture(config)
    collator = Collator(
        load_tokenizer(NANO),
        side=128,
        view_tokens=4,
        max_tokens=config.data.max_tokens,
        max_crops=config.data.max_crops,
    )
    samples = [collator.sample(mixture[draw]) for draw in range(len(mixture))]
    assert all(len(sample.ids) for sample in samples)
    assert code == 0, said
    return samples


def small_print(path, lines, words=("harbour report",)):
    """A page whose lines are too small for one view of 128 pixels, and larger in tiles."""
    image = Image.new("L", (512, 512), 255)
    face = ImageFont.load_default(11)
    for number in range(lines):
        ImageDraw.Draw(image).text((10, 12 + 24 * number), words[number % len(words)], 0, font=face)
    image.save(path)


@pytest.mark.parametrize("form", ["folder", "records", "format"])
@pytest.mark.parametrize("split", [False, True])
def test_tiles_that_init_proposes_are_made_and_fit(begin, tmp_path, capsys, form, split):
    folder = tmp_path / "small"
    folder.mkdir()
    generator, rows = np.random.default_rng(1), []
    for number in range(8):
        words = ["".join(generator.choice(list("abcdefghijk"), 16)) for _ in range(8)]
        small_print(folder / f"p{number}.png", 8, words)
        answer = "# a\n" * (form == "format") + "\n".join(words)
        rows.append({"images": [f"p{number}.png"], "text": answer})
        if form != "records":
            (folder / f"p{number}.txt").write_text(answer)
    if form == "records":
        (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, config = begin(folder, *(["--split", "0.25"] if split else []))
    assert code == 0, begin.said
    samples = starts(config, tmp_path, capsys)
    assert "data.max_crops: " in begin.said and "tiles show them" in begin.said
    assert all(len(sample.views) > 1 for sample in samples)  # the promised tiles
    records = list(build_mixture(config).sources[0])
    assert {record.task for record in records} == {"multi_crop" if form == "format" else "multi_crop_ocr"}


def test_the_reported_folder_of_small_letters_gets_a_config_that_starts(begin, case, tmp_path, capsys):
    for flags in ([], ["--split", "0.5"]):
        code, config = begin(case("A1") if not flags else tmp_path / "A1", *flags)
        assert code == 0, begin.said
        starts(config, tmp_path, capsys)


def test_sroie_labels_become_text_and_never_coordinates(begin, case, tmp_path, capsys):
    folder = case("L14")
    code, config = begin(folder)
    assert code == 0, begin.said
    starts(config, tmp_path, capsys)
    texts = [record.text for record in build_mixture(config).sources[0]]
    assert texts[0] == "ORANGE\nAPPLE" and len(texts) == 6
    code, config = begin(folder, "--task", "spot")
    assert code == 0
    assert build_mixture(config).sources[0][0].text.startswith("[")


@pytest.mark.parametrize("name", ["L01", "L04", "L09", "L10", "L11b", "L16d"])
def test_a_folder_of_labels_becomes_rows(begin, case, tmp_path, capsys, name):
    code, config = begin(case(name))
    assert code == 0, begin.said
    assert starts(config, tmp_path, capsys)


def test_donuts_rows_are_read_by_their_text(begin, case, tmp_path, capsys):
    code, config = begin(case("R01"))
    assert code == 0, begin.said
    starts(config, tmp_path, capsys)
    assert build_mixture(config).sources[0][1].text == "Town 1902"


def test_of_two_columns_of_text_the_one_that_differs_is_taken(begin, case):
    code, config = begin(case("R16"))
    assert code == 0, begin.said
    assert config.data.sources[0].columns["text"] == "ground_truth"
    assert "not read: column text of" in begin.said and "the same in all rows, such as 'page'" in begin.said


def test_different_questions_that_are_dropped_are_said_and_not_ready_until_meant(
    begin, case, tmp_path, capsys
):
    code, config = begin(case("R03"))
    assert code == 1
    assert "not read: question column prompt of" in begin.said and "3 different values" in begin.said
    assert "column prompt has 3 different questions" in begin.said
    source = config.data.sources[0]
    accepted = json.dumps([{"path": source.path, "task": "ocr", "columns": source.columns,
                            "accept_answers": ["prompts"]}])  # fmt: skip
    words = [str(tmp_path / "my.yaml"), f"data.train={accepted}", f"train.output_dir={tmp_path}/run"]
    assert check.main([*words, "--workers", "0", "--no-measure"]) == 0


def test_questions_in_gots_words_are_read_row_by_row(begin, tmp_path):
    rows = []
    for number in range(6):
        small_print(tmp_path / f"{number}.png", 1)
        prompt = ("OCR:", "OCR with format:")[number % 2]
        rows.append({"image": f"{number}.png", "prompt": prompt, "answer": f"harbour {number}"})
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, config = begin(tmp_path / "rows.jsonl")
    assert code == 0, begin.said
    assert [record.task for record in build_mixture(config).sources[0]] == ["ocr", "format"] * 3


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["12.50", "7", "1,000", "99"], "digits and signs alone"),
        (["page"] * 4, "all answers are the same"),
        (['{"a": "b"}', '{"a": "c"}', '{"b": 1}'], "the answers are JSON"),
    ],
)
def test_answers_that_are_no_text_are_not_ready_until_the_config_says_so(
    begin, tmp_path, capsys, texts, said
):
    folder = tmp_path / "docs"
    folder.mkdir()
    for number, text in enumerate(texts):
        small_print(folder / f"{number}.png", 1 + number % 3)
        (folder / f"{number}.txt").write_text(text)
    code, config = begin(folder)
    assert code == 1 and said in begin.said and "not ready: " in begin.said
    kind = begin.said.partition("accept_answers: [")[2].partition("]")[0]
    source = json.dumps([{"path": str(folder), "task": "ocr", "accept_answers": [kind]}])
    words = [str(tmp_path / "my.yaml"), f"data.train={source}", f"train.output_dir={tmp_path}/run"]
    assert check.main([*words, "--workers", "0", "--no-measure"]) == 0


def test_a_csv_file_without_a_head_starts(begin, case, tmp_path, capsys):
    code, config = begin(case("L15"))
    assert code == 0, begin.said
    starts(config, tmp_path, capsys)


def test_every_file_that_is_not_read_is_counted_and_alike_messages_are_one(begin, case, tmp_path):
    folder = case("L15")
    for number in range(30):
        (folder / f"key_{number}.json").write_text('{\n "name": "X",\n "sum": "1"\n}')
    (folder / "photo.heic").write_bytes(b"x")
    (folder / "note.docx").write_bytes(b"x")
    code, _ = begin(folder)
    assert code == 0
    assert "2 file(s) of other kinds are not read: 1 .docx, 1 .heic" in begin.said.replace(
        "1 .heic, 1 .docx", "1 .docx, 1 .heic"
    )
    assert begin.said.count("not used: ") == 1 and "(30 files alike)" in begin.said


# ---- documents

CROPS = [f"{receipt:03}_{crop:05}" for receipt in range(20) for crop in range(5)]


@pytest.mark.parametrize(
    ("names", "documents", "told_by"),
    [
        (CROPS, 20, "names that end in a number"),
        ([name.replace("_", "_crop_") for name in CROPS], 20, "pages and crops by their names"),
        ([f"{name.partition('_')[0]}_page2_line{name[-2:]}" for name in CROPS], 20, "pages and crops"),
        ([f"scan_{number}" for number in range(100)], 100, "the file"),
        ([f"deed{number % 4}_page{number}" for number in range(100)], 4, "pages and crops"),
        ([f"deed{number % 4}Page{number}" for number in range(100)], 4, "pages and crops"),
        ([f"deed{number % 4}.pdf_{number}" for number in range(100)], 4, "pages and crops"),
        # words that only end as line, page and box do
        ([f"bill_{number}" for number in range(100)], 100, "the file"),
        ([f"map{number}" for number in range(100)], 100, "the file"),
        ([f"Deadline {number}" for number in range(100)], 100, "the file"),
    ],
)
def test_documents_are_told_from_names(names, documents, told_by):
    records = [Record((f"set/{name}.png",), "ocr", "a") for name in names]
    found, how = documents_of(records)
    assert (len(set(found)), how.startswith(told_by)) == (documents, True)


def test_the_rows_key_and_rules_win_over_names():
    records = [Record((f"{n % 2}/x_{n}.png",), "ocr", "a", document=f"deed {n % 3}") for n in range(12)]
    assert len(set(documents_of(records)[0])) == 3
    assert len(set(documents_of(records, "folder")[0])) == 2
    assert len(set(documents_of(records, r"x_(\d)")[0])) == 10


@pytest.mark.parametrize("same", [False, True])
def test_a_split_holds_out_the_share_that_is_asked_in_whole_documents(begin, tmp_path, capsys, same):
    """Crops of twenty receipts; words such as CASH look the same in all of them and chain nothing."""
    folder = tmp_path / "crops"
    folder.mkdir()
    generator = np.random.default_rng(3)
    for name in CROPS:
        text = "CASH" if same and name.endswith("4") else "".join(generator.choice(list("abcdefgh"), 9))
        image = Image.new("L", (200, 40), 255)
        ImageDraw.Draw(image).text((5, 5), text, 0, font=ImageFont.load_default(22))
        image.putpixel((0, 0), int(generator.integers(200, 256)))  # no two files are equal
        image.save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(text)
    code, config = begin(folder, "--split", "0.1")
    assert code == 0, begin.said
    assert (
        "held out: 10 of 100 rows (10.0%), 2 of 20 documents, told by names that end in a number"
        in begin.said
    )
    sides = [
        {Path(record.images[0]).stem[:3] for record in records}
        for records in (build_mixture(config).sources[0], _validation(config))
    ]
    assert len(sides[0]) == 18 and len(sides[1]) == 2 and not sides[0] & sides[1]
    starts(config, tmp_path, capsys)
    words = [str(tmp_path / "my.yaml"), f"train.output_dir={tmp_path}/run", "--workers", "0", "--no-measure"]
    check.main(words)
    assert "leak" not in capsys.readouterr().out


def _validation(config):
    from got_train.training.run import build_validation

    return list(build_validation(config))


@pytest.mark.parametrize("known", [True, False])
def test_what_the_base_cannot_read_chooses_which_parts_train(begin, tmp_path, known):
    folder = tmp_path / "docs"
    folder.mkdir()
    generator = np.random.default_rng(2)
    for number in range(12):
        letters = "abcdefghij" if known else "\u05d0\u05d1\u05d2\u05d3\u05d4"
        text = "".join(generator.choice(list(letters), 8))
        image = Image.new("L", (128, 128), 255)
        ImageDraw.Draw(image).text((8, 8), text, 0, font=ImageFont.load_default(18))
        image.save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(text)
    code, config = begin(folder)
    assert code == 0, begin.said
    assert (config.lora.rank > 0, config.parts.vision.trainable) == (known, not known)
    if known:
        assert "the base knows these characters: loss" in begin.said
    else:
        assert "the base reads Hebrew (loss" in begin.said and "no better than guessing" in begin.said
    code, config = begin(folder, "--no-measure")
    assert "nobody has looked whether the base reads these rows" in begin.said or not known
