"""train.py --dry-run: what it prints, against the run itself; it writes nothing and hides nothing."""

import json
import re

import pytest

import train


@pytest.fixture
def dry(tiny_run, capsys):
    """A function: exit code and output of a dry run."""
    path = tiny_run()

    def dry(*overrides):
        code = train.main([str(path), *overrides, "--dry-run"])
        return code, *capsys.readouterr()

    dry.folder = path.parent
    return dry


def test_the_report_of_64_rows_in_6_steps_of_8(dry):
    before = sorted(dry.folder.iterdir())
    code, out, _ = dry(
        "parts.vision.trainable=false",
        "parts.projector.learning_rate=0.003",
        "train.per_device_train_batch_size=4",
    )
    assert code == 0
    parts = {line.split()[0]: line.split()[1:] for line in out.splitlines()[1:4]}
    assert parts["vision"][1:] == ["no"]
    assert parts["projector"][:4] == ["272", "yes", "3.0e-03", "0.1"]  # 16 x 16 + 16
    assert parts["decoder"][1:4] == ["yes", "1.0e-02", "0.1"]
    assert float(parts["decoder"][4]) > 0
    assert "rows       64 in 1 source; of the first 48 the longest have" in out
    assert "steps      6 of 8 rows (1 process x 2 micro-batches x 4 rows)" in out
    memory = (
        r"memory     \d\.\d\d GB at most, measured on the longest rows; estimated \d\.\d\d \([+-]\d+%\)\n"
    )
    assert re.search(memory, out)
    assert re.search(r"time       about \d\d:\d\d: \d+\.\d\d s a step", out)
    assert sorted(dry.folder.iterdir()) == before


def test_tokens_of_the_run_are_those_of_its_rows(dry):
    """Answers of 1 to 60 letters: all 64 rows once an epoch, counted by hand from the file."""
    rows = [json.loads(line) for line in (dry.folder / "data.jsonl").read_text().splitlines()]
    from got_train.tokenizer import load_tokenizer

    settings = json.loads((dry.folder / "run.yaml").read_text())
    tokenizer = load_tokenizer(settings["model"]["tokenizer"])
    learnt = sum(len(tokenizer.encode(row["text"])) + 1 for row in rows)
    _, out, _ = dry("train.max_steps=8")
    said = re.search(r"tokens     about ([\d,]+), of which ([\d,]+) supervised", out)
    assert int(said[2].replace(",", "")) == learnt


def test_the_supervised_tokens_are_marked(dry):
    _, out, _ = dry()
    where, text = re.search(r"(\S+), as the decoder sees it; .*?:\n(.*)", out, re.DOTALL).groups()
    row = json.loads((dry.folder / "data.jsonl").read_text().splitlines()[int(where.rpartition(":")[2]) - 1])
    assert (
        f"<img><imgpad> x 4</img>\nOCR: <|im_end|><|im_start|>assistant\n>>>{row['text']}<|im_end|><<<"
        in text
    )
    assert text.count(">>>") == text.count("<<<") == 1


def test_the_longest_row_is_tried(dry):
    """Its answer of 60 letters does not fit; it is the last row, which 6 steps of 8 may not even draw."""
    lines = (dry.folder / "data.jsonl").read_text().splitlines()
    row = json.loads(lines[63])
    lines[63] = json.dumps({**row, "text": "abcdefghij" * 60})
    (dry.folder / "data.jsonl").write_text("\n".join(lines))
    code, _, err = dry("train.max_steps=8")
    assert code == 1
    assert re.search(r"data\.jsonl:64: \d+ tokens .*; expected at most 256 \(data.max_tokens\)", err)


def test_a_row_that_a_run_would_drop_is_no_fault(dry):
    (dry.folder / "11.png").write_bytes(b"no picture")
    code, _, err = dry("train.max_steps=8")
    assert code == 1
    assert "data.jsonl:12: " in err
    assert dry("train.max_steps=8", "data.on_error=skip")[0] == 0


@pytest.mark.parametrize(
    ("override", "code", "message"),
    [
        ("train.precision=bfloat16", 2, "train.precision bfloat16: "),
        ("data.max_tokens=300", 2, r"data.max_tokens \(300\): the decoder has 256 positions"),
        ("data.train=nowhere.jsonl", 1, "nowhere.jsonl: no such file"),
        ("optimizer.learning_rate=1e30", 1, "loss .*, gradient norm .*; nothing was updated"),
    ],
)
def test_whatever_would_stop_the_run_stops_the_dry_run(dry, override, code, message):
    given, _, err = dry(override)
    assert given == code
    assert re.search(message, err)
