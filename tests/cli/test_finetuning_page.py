"""Every command of docs/finetuning.md runs word by word in a fresh folder, with fewer pages and steps."""

import importlib
import json
import re
import shlex
from pathlib import Path

import pytest
import yaml
from PIL import Image

import got_train.cli.__main__
from got_train.config.loader import load_config
from got_train.data.records import read_records

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/finetuning.md").read_text(encoding="utf-8")
FENCED = re.findall(r"^```(.*?)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
SIZES = {"200": "14", "1000": "4", "100": "3"}  # pages


def commands():
    """The words of each command, with what the page's variables stand for."""
    lines = [line for kind, block in FENCED if not kind for line in block.splitlines()]
    named = dict(re.fullmatch(r'(\w+)="?(.*?)"?', line).groups() for line in lines if re.match(r"\w+=", line))
    asked = [line for line in lines if line.startswith(("got ", "python "))]
    filled = [re.sub(r"\$(\w+)", lambda found: named[found[1]], line) for line in asked]
    return [shlex.split(line) for line in filled]


def shortened(words):
    """The same with fewer pages and steps; at 14 pages init still holds some out, and page 101 is another."""
    words = [word.replace("00000101.png", "00000001.png") for word in words]
    if "--count" in words:
        place = words.index("--count") + 1
        words[place] = SIZES[words[place]]
        words += ["--num-workers", "1"]
    if words[:2] == ["got", "train"]:
        short = {"train.max_steps": 2, "train.save_steps": 1, "train.eval_steps": 1, "eval.max_samples": 3}
        words = [word for word in words if word.partition("=")[0] not in short]
        words += [f"{key}={value}" for key, value in short.items()]
    if "--step" in words:
        words[-1] = "2"
    return words


def run(words, capsys):
    """A command in this process, where Paddle is loaded once; what it prints."""
    module = got_train.cli.__main__ if words[0] == "got" else importlib.import_module(words[2])
    code = module.main(words[1:] if words[0] == "got" else words[3:])
    assert code in (0, None), (shlex.join(words), capsys.readouterr().err[-2000:])
    return capsys.readouterr()


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """A folder with what a clone has and nothing else."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_every_command_of_the_page_runs_in_its_order(fresh, capsys):
    asked = commands()
    assert [words[1] if words[0] == "got" else words[2] for words in asked] == [
        *["data_tools.engines.lines"] * 3,
        *("init", "check"),
        *["train"] * 4,
        *("infer", "infer", "merge", "infer", "convert"),
        *("evaluate", "evaluate", "report", "trace"),
    ]
    said = {}
    for words in asked:
        said[shlex.join(words)] = run(shortened(words), capsys)
    read = [shown.out for command, shown in said.items() if command.startswith("got infer")]
    assert read[1] == read[2]  # base and adapter, and both merged
    dry = next(shown.out for command, shown in said.items() if "--dry-run" in command)
    assert "<img><imgpad> x 16</img>\nOCR: <|im_end|><|im_start|>assistant\n>>>" in dry
    words = (fresh / "runs/example/lora/report.html").read_text(encoding="utf-8")
    assert "Verdict of the check" in words and "runs/example/lora/final" in words
    tables = [
        json.loads((fresh / f"runs/example/{name}/skills.json").read_text()) for name in ("lora", "full")
    ]
    assert [table["before"]["folder"] for table in tables] == ["configs/nano/weights/stage3"] * 2
    assert (fresh / "runs/example/transformers/model.safetensors").exists()


def test_the_rows_of_the_page_are_read(tmp_path):
    (text,) = [text for kind, text in FENCED if kind == "jsonl rows.jsonl"]
    (tmp_path / "rows.jsonl").write_text(text, encoding="utf-8")
    Image.new("RGB", (128, 128), "white").save(tmp_path / "1.png")
    records = list(read_records(tmp_path / "rows.jsonl", check_files=True))
    assert [record.task for record in records] == ["ocr", "format", "ocr", "ocr", "spot"]
    assert (records[2].box, records[3].color) == ((4, 40, 60, 62), "red")


def test_the_two_configs_differ_only_in_what_the_page_says():
    lora, full = (
        yaml.safe_load((ROOT / f"configs/finetune/example_{name}.yaml").read_text())
        for name in ("lora", "full")
    )
    assert lora.pop("lora")["parts"] == ["vision", "projector", "decoder"]
    assert float(lora["optimizer"].pop("learning_rate")) > float(full["optimizer"].pop("learning_rate"))
    assert lora["train"].pop("output_dir") != full["train"].pop("output_dir")
    assert lora == full
    assert load_config(ROOT / "configs/finetune/example_full.yaml").lora.rank == 0


def test_the_evidence_that_the_page_names_is_there():
    rows = re.findall(r"^\| .* \| (`test_.*) \|$", PAGE, re.MULTILINE)
    assert len(rows) == 12
    for row in rows:
        file = ""
        for name, test in re.findall(r"`(\w+\.py)?(?:::(\w+))?`", row):
            file = name or file
            texts = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob(file)]
            assert texts, file
            assert not test or any(f"def {test}(" in text for text in texts), (file, test)


def test_every_page_that_is_linked_to_is_there():
    for link in re.findall(r"\]\(([^)#]+)", PAGE):
        assert (ROOT / "docs" / link).exists(), link
