"""Recipes and whole builds: what is refused, what is skipped, and that every way gives the same bytes."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from data_tools import build, produce, recipe
from data_tools.drawing import system_fonts
from data_tools.text import token_counts
from got_train.config.loader import load_config
from got_train.data.records import read_records
from got_train.tokenizer import load_tokenizer

ROOT = Path(__file__).parents[2]
TOKENIZER = str(ROOT / "configs" / "nano" / "tokenizer")
# rows at scale 1 in millions, from the paper: 2 + 1 + 1.2 + 0.8, then 7, then 0.6 + 0.5 + 0.2
AMOUNTS = {"stage1": 5.0, "stage2": 7.0, "stage3": 1.3}


@pytest.fixture
def write(tmp_path):
    """A function: a recipe of lines (4 shards or more), and of regions of them."""

    def write(**changes):
        words = {"sources": "pydoc"}
        sources = {
            "lines": {"rows": 32, "options": {**words, "char_boxes": True, "shard_pages": 8}},
            "short": {"engine": "lines", "rows": 20, "weight": 0, "options": {**words, "characters": "3-5"}},
            "regions": {"rows": 32, "of": ["lines"], "options": {"tasks": ["box", "color"]}},
        }
        settings = {"out": str(tmp_path / "out"), "tokenizer": TOKENIZER, "sources": sources, **changes}
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(settings, sort_keys=False))
        return str(path)

    return write


def run(*arguments, workers=1):
    return build.main([*arguments, "--num-workers", str(workers)])


def made(folder):
    """All files of the records, but the summaries and the settings, which name the folder."""
    found = {path.relative_to(folder).as_posix(): path for path in Path(folder).rglob("*.parquet")}
    return {name: path.read_bytes() for name, path in sorted(found.items())}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scael": 1}, "scael: no such setting; did you mean scale?"),
        ({"sources": {"lines": {"row": 1}}}, "sources.lines.row: no such setting; did you mean rows?"),
        ({"sources": {"line": {"rows": 1}}}, "sources.line.engine: no engine 'line'; did you mean lines?"),
        (
            {"sources": {"lines": {"rows": 1, "options": {"font_sise": "9-12"}}}},
            "sources.lines.options.font_sise: lines has no such option; did you mean font_size?",
        ),
        (
            {"sources": {"lines": {"rows": 1, "options": {"glyphs": True}}}},
            "sources.lines.options.glyphs: lines has no such option; use char_boxes",
        ),
        (
            {"sources": {"lines": {"rows": 1, "options": {"font_size": "9..12"}}}},
            "sources.lines.options: argument --font-size: '9..12' is not a range such as 1-4",
        ),
        (
            {"sources": {"lines": {"rows": 1, "options": {"count": 3}}}},
            "sources.lines.options.count: not an option",
        ),
        ({"sources": {"lines": {"rows": 0}}}, "sources.lines.rows must be at least 1; got 0"),
        ({"sources": {"crops": {"rows": 1}}}, "sources.crops.of: crops takes the records of others"),
        (
            {"sources": {"lines": {"rows": 1}, "crops": {"rows": 1, "of": ["line"]}}},
            "sources.crops.of: 'line' is not a source above it; did you mean lines?",
        ),
        ({"sources": {"../x": {"rows": 1, "engine": "lines"}}}, "sources.../x: a folder is called so"),
        ({"scale": 0}, "scale must be above 0; got 0"),
        ({"sources": {}}, "sources is empty"),
        ({"replay": {"data/stage1": 1.5}}, "replay.data/stage1 must be above 0, at most 1; got 1.5"),
    ],
)
def test_a_wrong_recipe_is_refused_by_its_key(write, capsys, settings, message):
    path = write(**settings)
    assert build.main([path]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"{path}: {message}") and said.count("\n") == 1


def test_overrides_win_and_name_sources_by_their_folders(write):
    made = recipe.load_recipe(write(), ["scale=0.5", "sources.short.rows=10"])
    assert (made.rows("lines"), made.rows("short"), made.rows("regions")) == (16, 5, 16)
    assert "--count=5" in made.arguments("short", ())
    with pytest.raises(recipe.RecipeError, match="an override reads key=value"):
        recipe.load_recipe(write(), ["scale"])


@pytest.mark.parametrize(
    "path", sorted((ROOT / "configs" / "data").glob("*.yaml")), ids=lambda path: path.stem
)
def test_every_recipe_in_the_repository_loads_and_has_the_papers_amounts(path):
    """Loading lets every engine's own parser read its options."""
    made = recipe.load_recipe(path)
    total = sum(source.share for source in made.sources.values())
    assert total == pytest.approx(AMOUNTS.get(path.stem, total))
    if path.stem == "nano":
        used = {made.engine(name) for name in made.sources}
        assert used == {*recipe.ENGINES, *recipe.OF_RECORDS} - {"pdf"}


def test_two_sources_of_one_engine_differ_and_a_source_keeps_its_seed_beside_others(write):
    made = recipe.load_recipe(write())
    seeds = [word for name in ("lines", "short") for word in made.arguments(name, ()) if "--seed" in word]
    assert len(set(seeds)) == 2
    alone = recipe.load_recipe(write(sources={"short": {"engine": "lines", "rows": 3}}))
    assert seeds[1] in alone.arguments("short", ())


def test_a_build_makes_every_source_and_its_table_counts_the_tokens_of_the_run(write, capsys, tmp_path):
    assert run(write()) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    records = {name: read_records(tmp_path / "out" / name) for name in ("lines", "short", "regions")}
    assert {name: len(each) for name, each in records.items()} == {"lines": 32, "short": 20, "regions": 64}
    assert {name: each["rows"] for name, each in summary["sources"].items()} == {
        name: len(each) for name, each in records.items()
    }
    encode = load_tokenizer(TOKENIZER).encode
    for task, kept in (
        ("ocr", [*records["lines"], *records["short"]]),
        ("ocr, box", [each for each in records["regions"] if each.box]),
        ("ocr, color", [each for each in records["regions"] if each.color]),
    ):
        tokens = [len(encode(each.text)) for each in kept]
        assert summary["tasks"][task] == [len(kept), sum(tokens), max(tokens)]
    said = capsys.readouterr().err
    row = next(line for line in said.splitlines() if line.startswith("ocr, box"))
    assert row.split()[2:4] == ["32", f"{summary['tasks']['ocr, box'][1]:,}"]
    assert all(each.text in {line for page in records["lines"] for line in page.text.split("\n")}
               for each in records["regions"])  # fmt: skip


def test_the_snippets_are_what_a_stage_takes_and_weigh_as_the_recipe_says(write, tmp_path):
    former = tmp_path / "former"
    former.mkdir()
    (former / "train.yaml").write_text(
        '[{path: "a/pages", weight: 2.0}, {path: "a/blank", weight: 0.5, allow_empty: true}]'
    )
    assert run(write(replay={str(former): 0.8})) == 0
    texts = [(tmp_path / "out" / f"{name}.yaml").read_text() for name in ("train", "replay")]
    config = load_config(
        ROOT / "configs" / "got" / "stage2.yaml", [f"data.train={texts[0]}", f"data.replay={texts[1]}"]
    )
    train = {Path(each.path).name: each.weight for each in config.data.sources}
    assert train == {"lines": 32e-6, "regions": 32e-6}  # short is only for others to use
    assert [(each.path, each.weight, each.allow_empty) for each in config.data.replay_sources] == [
        ("a/pages", 1.6, False),
        ("a/blank", 0.4, True),
    ]
    assert len(read_records(config.data.sources[0].path)) == 32


@pytest.mark.slow
def test_a_killed_build_goes_on_to_the_same_bytes(write, tmp_path):
    path = write()
    command = [sys.executable, "-m", "data_tools.build", path, "sources.lines.rows=400", "--num-workers", "2"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert subprocess.run([*command, f"out={whole}"], cwd=ROOT, capture_output=True).returncode == 0
    process = subprocess.Popen([*command, f"out={killed}"], cwd=ROOT, stderr=subprocess.DEVNULL)
    states = killed / "lines" / produce.STATE
    end = time.monotonic() + 60
    while len(list(states.glob("0000?.json"))) < 3 and time.monotonic() < end:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = made(killed)
    assert 0 < len(before) < len(made(whole))
    assert subprocess.run([*command, f"out={killed}"], cwd=ROOT, capture_output=True).returncode == 0
    assert made(killed) == made(whole)


def test_two_halves_are_the_whole_and_what_takes_records_waits_for_both(write, tmp_path, capsys):
    path, halves, whole = write(), tmp_path / "halves", tmp_path / "whole"
    assert run(path, f"out={whole}", workers=2) == 0
    assert run(path, f"out={halves}", "--shard", "1/2") == 0
    assert "waiting: regions: for all parts of lines" in capsys.readouterr().err
    assert not (halves / "regions").exists()
    for shard in ("2/2", "1/2"):
        assert run(path, f"out={halves}", "--shard", shard) == 0
    assert made(halves) == made(whole)


def test_another_scale_in_the_same_folder_is_refused(write, capsys):
    assert run(write(), "scale=0.5") == 0
    capsys.readouterr()
    assert run(write()) == 2
    assert "holds records made with count=16, not 32" in capsys.readouterr().err


def test_a_missing_program_is_skipped_by_one_line_and_refused_by_strict(write, tmp_path, capsys, monkeypatch):
    sources = {
        "lines": {"rows": 8, "options": {"sources": "pydoc"}},
        "geometry": {"rows": 8},
        "pdf": {"rows": 8, "options": {"pdfs": str(tmp_path / "none")}},
        "crops": {"rows": 2, "of": ["geometry", "pdf"]},
    }
    path = write(sources=sources)
    monkeypatch.setenv("PATH", "")
    assert run(path) == 0
    lines = capsys.readouterr().err.splitlines()
    for expected in (
        "skipped: geometry: pdflatex: not found; `make data-tools` installs it",
        f"skipped: pdf: {tmp_path / 'none'}: no such file or folder; yours, see docs/data_tools.md",
        "skipped: crops: geometry and pdf, whose records it takes, are skipped",
    ):
        assert lines.count(expected) == 2  # when it is met, and in the table
    assert (
        "not in it, for it could not be made here: geometry, pdf, crops"
        in (tmp_path / "out" / "train.yaml").read_text()
    )
    assert run(path, "--strict", f"out={tmp_path / 'strict'}") == 2
    assert capsys.readouterr().err == "sources.geometry: pdflatex: not found; `make data-tools` installs it\n"
    assert not list((tmp_path / "strict").rglob("*.parquet"))


@pytest.fixture
def no_system_fonts(tmp_path, monkeypatch):
    """fontconfig knows no folder; pip's fonts are found without it."""
    (tmp_path / "fonts.conf").write_text("<fontconfig></fontconfig>")
    monkeypatch.setenv("FONTCONFIG_FILE", str(tmp_path / "fonts.conf"))
    system_fonts.faces.cache_clear()
    yield
    system_fonts.faces.cache_clear()


@pytest.mark.usefixtures("no_system_fonts")
def test_without_chinese_fonts_the_pages_are_those_of_english_and_one_line_says_so(write, tmp_path, capsys):
    def sources(language):
        words = {"sources": "pydoc", "language": language}
        return {
            "lines": {"rows": 8, "options": words},
            "scene": {"rows": 1, "options": {**words, "width": 320, "height": 240}},
            "regions": {"rows": 8, "of": ["lines"], "options": {"tasks": ["box"]}},
        }

    both, english = tmp_path / "both", tmp_path / "english"
    path = write(sources=sources("both"))
    assert run(path, f"out={both}") == 0
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("without Chinese: ")]
    assert len(said) == 2 and said[1].startswith(
        "without Chinese: lines, scene: fonts: "
    )  # met; in the table
    snippet = (both / "train.yaml").read_text()
    assert f"# {said[1]}\n" in snippet and "could not be made" not in snippet
    assert json.loads((both / "summary.json").read_text())["sources"]["regions"]["without"] == {}
    assert run(write(sources=sources("en")), f"out={english}") == 0
    assert made(both) == made(english) != {}
    capsys.readouterr()

    path = write(sources=sources("both"))
    assert run(path, "--strict", f"out={tmp_path / 'strict'}") == 2
    assert capsys.readouterr().err.startswith("sources.lines: fonts: ")
    assert not list((tmp_path / "strict").rglob("*.json"))  # so that it can begin once the fonts are there


def test_what_fails_in_a_worker_leaves_the_others_and_ends_with_1(write, tmp_path, capsys):
    """A package that only drawing needs, hidden from the workers by a module of its name that fails."""
    hidden = tmp_path / "hidden" / "cv2"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("raise ModuleNotFoundError('No module named cv2', name='cv2')")
    sources = {
        "lines": {"rows": 8, "options": {"sources": "pydoc"}},
        "scene": {"rows": 4, "options": {"sources": "pydoc"}},
    }
    environment = os.environ | {"PYTHONPATH": str(hidden.parent)}
    command = [sys.executable, "-m", "data_tools.build", write(sources=sources)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 1, done.stderr
    assert "failed: scene: python package cv2: not installed; `make data-tools` installs it" in done.stderr
    assert len(read_records(tmp_path / "out" / "lines")) == 8


def test_no_tokenizer_counts_characters_and_a_wrong_folder_is_refused_at_once(write, tmp_path, capsys):
    assert run(write(tokenizer="", sources={"lines": {"rows": 4, "options": {"sources": "pydoc"}}})) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    texts = [each.text for each in read_records(tmp_path / "out" / "lines")]
    assert summary["tasks"]["ocr"] == [4, sum(map(len, texts)), max(map(len, texts))]
    capsys.readouterr()
    assert run(write(), "tokenizer=none", f"out={tmp_path / 'no'}") == 2
    assert capsys.readouterr().err.startswith("tokenizer none: no such folder")


def test_records_in_folders_are_counted_as_those_in_parquet_files(tmp_path):
    from data_tools.engines import lines

    counts = []
    for container in ("parquet", "folder"):
        out = tmp_path / container
        words = ["--count=6", "--sources=pydoc", "--tasks=ocr,box", "--shard-pages=3", "--num-workers=1"]
        lines.make(lines.parser().parse_args([f"--out={out}", f"--container={container}", *words]))
        for shard in (0, 1):
            token_counts.count_shard(out, shard, TOKENIZER)
        counts.append(token_counts.total(token_counts.read_shard(out, shard, TOKENIZER) for shard in (0, 1)))
    assert counts[0] == counts[1] and set(counts[0]) == {"ocr", "ocr, box"}
    assert token_counts.read_shard(tmp_path / "folder", 0, "another") is None


@pytest.mark.slow
def test_every_engine_of_the_nano_recipe_makes_records_that_training_reads(tmp_path):
    """Engines whose tools are missing are skipped, but not where GOT_DATA_TOOLS says that all are there."""
    out = tmp_path / "nano"
    strict = ["--strict"] if os.environ.get("GOT_DATA_TOOLS") else []
    assert (
        run(str(ROOT / "configs" / "data" / "nano.yaml"), f"out={out}", "scale=0.05", *strict, workers=2) == 0
    )
    summary = json.loads((out / "summary.json").read_text())
    assert not summary["failed"] and not summary["waiting"]
    for name, source in summary["sources"].items():
        records = read_records(out / name, allow_empty=True)
        assert len(records) == source["rows"] > 0
        assert all(records[place].images for place in range(len(records)))
    config = load_config(
        ROOT / "configs" / "nano" / "stage2.yaml", [f"data.train={(out / 'train.yaml').read_text()}"]
    )
    assert {Path(each.path).name for each in config.data.sources} == set(summary["sources"])
    assert not (strict and summary["skipped"])


@pytest.mark.slow
def test_ray_makes_the_same_bytes_on_one_machine(write, tmp_path):
    pytest.importorskip("ray")
    path = write()
    assert run(path, f"out={tmp_path / 'here'}") == 0
    command = [
        sys.executable,
        "-m",
        "data_tools.build_on_ray",
        path,
        f"out={tmp_path / 'ray'}",
        "--num-cpus",
        "2",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert made(tmp_path / "ray") == made(tmp_path / "here") != {}


@pytest.mark.parametrize("engine", [*recipe.ENGINES, *recipe.OF_RECORDS])
def test_flags_are_in_kebab_case_and_the_old_spelling_is_told_the_new_one(engine):
    parser = recipe.quiet_parser(engine)
    flags = [flag for action in parser._actions for flag in action.option_strings]
    assert "--num-workers" in flags and not [flag for flag in flags if "_" in flag]
    with pytest.raises(argparse.ArgumentError, match="^--num_workers: renamed; use --num-workers$"):
        parser.parse_args(["--num_workers", "2"])
