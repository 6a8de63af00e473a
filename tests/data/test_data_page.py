"""Every example of docs/data.md is read as the page says."""

import re
from pathlib import Path

import pytest
import yaml

from got_train.config.loader import build
from got_train.config.schema import Config, SourceConfig
from got_train.data.records import RecordError, read_records
from got_train.training import run

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+) ?(\S*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
REFUSED = re.findall(r"^\| `(\{.*?)` \| `(.*)` \|$", PAGE, re.MULTILINE)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with the files of the page."""
    folder, names = tmp_path_factory.mktemp("page"), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for language, name, text in BLOCKS:
            if name:
                Path(name).parent.mkdir(parents=True, exist_ok=True)
                Path(name).write_text(text, encoding="utf-8")
            elif language == "python":
                exec(text, names)
    return folder


def test_every_settings_of_the_page_gives_the_records_that_it_says(data, monkeypatch):
    monkeypatch.chdir(data)
    settings = [text for language, _, text in BLOCKS if language == "yaml"]
    counted = 0
    for text in settings:
        config = build(Config, yaml.safe_load(text))
        mixture = run.build_mixture(config)
        said = re.search(r"# (\d+) records", text)
        if said:
            assert mixture.total == int(said[1]), text
            assert all(record.text for source in mixture.sources for record in source)
            counted += 1
        assert mixture[0].text
    assert (len(settings), counted) == (9, 8)
    assert mixture.total is None  # the last is the stream


def test_the_forms_of_the_page_say_the_same(data):
    ours = read_records(data / "ours")
    assert [record.task for record in ours] == ["ocr", "format", "multi_page"]
    for name in ("got.json", "swift.jsonl"):
        first, second = list(read_records(data / name))[:2]
        assert (first.text, second.text) == (ours[0].text, ours[1].text)
    meta = read_records(data / "meta.json")
    assert (len(meta), meta[5].images[1]) == (6, f"{data}/pictures/2.png")
    config = build(Config, {"data": {"validation": [{"path": str(data / "pages")}], "validation_rows": 2}})
    assert len(run.build_validation(config)) == 2


@pytest.mark.parametrize(("row", "message"), REFUSED, ids=[message[:30] for _, message in REFUSED])
def test_the_page_tells_what_is_said_of_a_bad_row(tmp_path, row, message):
    path = tmp_path / "my.jsonl"
    path.write_text(row + "\n")
    with pytest.raises(RecordError) as error:
        read_records(path)[0]
    assert str(error.value) == f"{path}:1: {message}"


def test_the_page_names_every_key_of_a_source():
    assert len(REFUSED) == 7
    named = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
    assert set(SourceConfig.__dataclass_fields__) <= named
