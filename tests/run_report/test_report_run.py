"""The page of a run: what it says beside what the files say, that it asks for nothing, when it is written."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

import train
from got_train.cli import report
from got_train.config.loader import dump_config, load_config
from got_train.html import charts
from got_train.preflight.check import check as check_run
from got_train.run_report import folder, gallery, inputs, page, results, use
from tests.chromium import PROGRAM, Chromium

ROOT = Path(__file__).parents[2]
browser = pytest.mark.skipif(PROGRAM is None, reason="no Chromium")


class Page(HTMLParser):
    """Its tables as lists of cells, its links, its text."""

    def __init__(self, text):
        super().__init__()
        self.links, self.rows, self.words, self.open = [], [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.links += [
            (tag, value)
            for name, value in attributes
            if name in ("src", "href", "srcset", "action", "data") and not value.startswith(("#", "data:"))
        ]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        self.open = tag in ("td", "th") or (self.open and tag not in ("tr", "table"))

    def handle_endtag(self, tag):
        self.open = self.open and tag != "table"

    def handle_data(self, data):
        self.words.append(data)
        if self.open and self.rows:
            self.rows[-1][-1] += data

    def row(self, first):
        return next(row for row in self.rows if row and row[0] == first)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A checked run of 4 steps of LoRA from the nano checkpoint, with a bad row, validation and a probe."""
    place = tmp_path_factory.mktemp("tuned")
    drawn = [
        "--count",
        "8",
        "--side",
        "128",
        "--text",
        "lowercase",
        "--fonts",
        "DejaVuSans",
        "--num-workers",
        "1",
    ]
    drawn += ["--font-size", "17-21", "--container", "folder", "--out", str(place / "pages")]
    command = [sys.executable, "-m", "data_tools.engines.lines", *drawn]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    lines = (place / "pages/records.jsonl").read_text().splitlines(keepends=True)
    (place / "pages/train.jsonl").write_text(
        "".join(lines[:5]) + lines[0].replace("00000000.png", "none.png")
    )
    (place / "pages/valid.jsonl").write_text("".join(lines[5:7]))
    (place / "pages/old.jsonl").write_text(
        lines[7].replace('"text": "', '"text": "<script>alert(1)</script>')
    )
    probe = {"name": "old <b>pages", "path": str(place / "pages/old.jsonl")}
    settings = {
        "model": {"init_from": str(ROOT / "configs/nano/weights/stage3")},
        "data": {"train": str(place / "pages/train.jsonl"), "validation": str(place / "pages/valid.jsonl")},
        "lora": {"rank": 2, "alpha": 2},
        "parts": {"vision": {"trainable": False}},
        "optimizer": {"learning_rate": 1e-3},
        "eval": {"retention_sets": [probe], "max_new_tokens": 8, "time_limit": 0},
        "train": {
            "max_steps": 4,
            "batch_size": 6,
            "per_device_train_batch_size": 6,
            "logging_steps": 1,
            "save_steps": 2,
        },
    }
    settings["data"] |= {"on_error": "skip", "max_tokens": 256}
    settings["train"] |= {"eval_steps": 2, "threads": 1, "output_dir": str(place / "run")}
    (place / "my.yaml").write_text(yaml.safe_dump(settings))
    check_run(load_config(place / "my.yaml"), measure=False)
    assert train.main([str(place / "my.yaml")]) == 0
    return place / "run"


@pytest.fixture
def made(tuned, tmp_path):
    """A copy of the run that may be spoilt."""
    return Path(shutil.copytree(tuned, tmp_path / "run"))


def test_train_writes_a_model_card_that_says_what_the_files_say(tuned):
    text = (tuned / "final" / "README.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "|" in line
    ]
    checked = json.loads((tuned / "check.json").read_text())
    skills = json.loads((tuned / "skills.json").read_text())
    entered = (tuned / "ledger-0.jsonl").read_text().splitlines()
    base = ROOT / "configs/nano/weights/stage3"
    assert text.startswith("---\nlibrary_name: paddlepaddle\n")
    assert f"A LoRA adapter (rank 2) of `{base}`" in text and "complete, 4 steps" in text
    for source in checked["sources"]:
        tasks = ", ".join(f"{task} {count:,}" for task, count in source["tasks"].items())
        median = f"{source['tokens']['median']:,}"
        assert [source["role"], f"`{source['path']}`", str(source["rows"]), median, tasks] in rows
    for skill in skills["skills"]:
        task = skill["task"].replace("<", "&lt;")
        assert [task, skill["metric"], skill["verdict"]] in [row[:3] for row in rows]
    assert f"entered {len(entered)} steps" in text
    assert f"The check said: {checked['verdict']}." in text
    assert ["steps", "4"] in rows and ["lora.rank", "2"] in rows
    weights = (tuned / "final" / "adapter.safetensors").read_bytes()
    assert ["`adapter.safetensors`", f"`{hashlib.sha256(weights).hexdigest()}`"] in rows
    assert "<b>" not in text and "<script" not in text


def test_train_writes_the_page_and_it_says_what_the_files_say(tuned):
    seen = Page((tuned / "report.html").read_text(encoding="utf-8"))
    checked = json.loads((tuned / "check.json").read_text())
    skills = json.loads((tuned / "skills.json").read_text())["skills"]
    audit = {part["part"]: part for part in json.loads((tuned / "audit.json").read_text())["parts"]}
    words = " ".join(seen.words)
    assert checked["verdict"] in words and "made with other settings" not in words
    assert "complete, 4 steps" in words
    for skill in skills:
        assert [skill["task"], skill["metric"], skill["verdict"]] in [row[:3] for row in seen.rows]
        assert skill["words"] in words or skill["metric"] != "edit_distance"
    assert seen.row("decoder")[2:6] == [
        str(audit["decoder"][key]) for key in ("parameters", "optimized", "with_gradient", "changed")
    ]
    assert (seen.row("decoder")[1], seen.row("vision")[1]) == ("trains", "rests")
    assert seen.row("lora.rank") == ["lora.rank", "2", "0"]
    assert seen.row("train")[2:4] == ["6", "1"]  # rows, bad, of the check
    (bad,) = [json.loads(line) for line in (tuned / "quarantine-0.jsonl").read_text().splitlines()]
    assert seen.row(bad["location"]) == [bad["location"], bad["cause"]]
    assert "init_from:" in words and "vocab_size: 151860" not in words  # sizes are those of the checkpoint
    assert "20 rows entered 4 steps" in words
    assert "1 rows could not be used; they were drawn 4 times" in words


def test_it_links_to_nothing_runs_nothing_and_names_no_network(tuned):
    text = (tuned / "report.html").read_text(encoding="utf-8")
    assert Page(text).links == []
    assert "default-src 'none'" in text
    assert "<script" not in text and "&lt;script&gt;" in text and "old &lt;b&gt;pages" in text
    assert not re.search(r"url\(|@import|https?:", re.sub(r'xmlns="[^"]*"', "", text))


def test_answers_over_time_and_curves_are_those_of_the_journal(tuned):
    run = folder.read_run(tuned)
    journal = [json.loads(line) for line in (tuned / "measurements.jsonl").read_text().splitlines()]
    assert [row["step"] for row in journal] == [0, 2, 4]
    curve = results.measured(run, "edit_distance")["validation"]
    assert curve == [(row["step"], row["metrics"]["validation"]["ocr"]["edit_distance"]) for row in journal]
    assert [step for step, _ in run.curves["train/loss"]] == [1, 2, 3, 4]
    assert all(0.1 < value < 64 for _, value in run.curves["train/memory_gb"])
    text = (tuned / "report.html").read_text(encoding="utf-8")
    shown = text[text.index("id=samples>") : text.index("id=worst>")]
    assert shown.count("data:image/webp") == len(journal[0]["answers"]) == 3
    assert shown.count(">step 4<") == shown.count(">before the run<") == 3
    for row in journal:
        for answer in row["answers"]:
            assert gallery.difference(answer["reference"], answer["prediction"]) in shown


@pytest.mark.parametrize(
    ("reference", "answer", "expected"),
    [
        ("abc", "abc", "abc"),
        ("a b", "ab", "a<del>\u00b7</del>b"),
        ("ab", "a\nb", "a<ins>\u21b5\n</ins>b"),
        ("a<b", "a&b", "a<del>&lt;</del><ins>&amp;</ins>b"),
        ("x\U00020bb7y", "xy", "x<del>\U00020bb7</del>y"),
        ("", "", "<span class=soft>(nothing on either side)</span>"),
    ],
)
def test_a_difference_shows_both_texts_and_their_white_space(reference, answer, expected):
    assert gallery.difference(reference, answer) == expected


def test_a_later_session_takes_the_place_of_the_steps_that_it_made_again(tmp_path):
    from visualdl import LogWriter

    for session, steps in (("1", range(1, 8)), ("2", range(5, 7))):
        with LogWriter(file_name=str(tmp_path / f"vdlrecords.{session}.log")) as board:
            for step in steps:
                board.add_scalar("train/loss", step + 10 * int(session), step)
    curves, sessions = folder._curves(tmp_path)
    assert curves["train/loss"] == [(1, 11), (2, 12), (3, 13), (4, 14), (5, 25), (6, 26)]
    assert len(sessions) == 2
    torn = tmp_path / "vdlrecords.2.log"
    torn.write_bytes(torn.read_bytes()[:-7])  # killed while it wrote
    assert folder._curves(tmp_path)[0]["train/loss"] == [(1, 11), (2, 12), (3, 13), (4, 14), (5, 25)]


def test_a_curve_goes_through_its_values_on_a_scale_that_fits():
    """Drawn are 56 to 432 across and 30 to 154 down."""
    linear = charts.curves({"a": [(0, 0.0), (10, 1.0), (20, 0.5)]}, "step", "mean", low=0.0)
    assert 'points="56.0,154.0 244.0,30.0 432.0,92.0"' in linear
    wide = charts.curves({"a": [(1, 100.0), (2, 1.0), (3, 10.0)]}, "step", "loss")
    assert 'points="56.0,30.0 244.0,154.0 432.0,92.0"' in wide
    assert 'points="56.0,154.0"' in charts.curves({"a": [(5, 3.0)]}, "step", "loss")
    assert charts.thinned([(x, float(x)) for x in range(10)], 5) == [(x, x - 0.5) for x in range(1, 10, 2)]


def test_a_run_that_is_not_complete_says_so_and_how_to_go_on(made, capsys):
    for name in ("final", "skills"):
        shutil.rmtree(made / name)
    for name in ("skills.json", "check.json", "audit.json", "measurements.jsonl", "quarantine-0.jsonl"):
        (made / name).unlink()
    shutil.rmtree(made / "checkpoint-4")
    with open(made / "measurements.jsonl", "w") as torn:
        torn.write('{"step": 0, "rows"')
    assert report.main([str(made)]) == 0
    assert capsys.readouterr().out == f"{made}/report.html\n"
    words = " ".join(Page((made / "report.html").read_text()).words)
    assert "not complete: the last checkpoint is of step 2 of 4; --resume continues from it" in words
    assert "got check CONFIG" in words and "It comes with the end of the run" in words
    assert f"got train {made}/checkpoint-2/run.yaml --resume" in words


def test_an_interrupted_run_leaves_its_page(made, monkeypatch, capsys):
    from got_train.training import run

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "train", interrupted)
    (made / "report.html").unlink()
    config = made / "final" / "run.yaml"
    assert train.main([str(config), f"train.output_dir={made}"]) == 130
    assert "train: interrupted" in capsys.readouterr().err
    assert (made / "report.html").exists()


def test_a_fault_of_the_page_is_said_and_is_none_of_the_run(made, monkeypatch, capsys):
    from got_train.training import run

    monkeypatch.setattr(run, "train", lambda *_: made / "final")
    (made / "skills.json").write_text("{")
    assert train.main([str(made / "final" / "run.yaml"), f"train.output_dir={made}"]) == 0
    shown = capsys.readouterr()
    assert shown.out == f"{made}/final\n"
    assert shown.err.startswith(f"train: no report.html: TrainingError: {made}/skills.json: not JSON")


def test_a_check_of_other_settings_is_called_so(made):
    run = folder.read_run(made, load_config(made / "final" / "run.yaml", ["optimizer.learning_rate=1e-4"]))
    assert not run.checked and "other settings" in inputs.verdict(run)
    assert (
        "optimizer.learning_rate<td class='word wrap'>0.0001<td class='word wrap'>2e-05"
        in inputs.settings(run)
    )
    assert dump_config(run.config).splitlines()[0] in inputs.settings(run)


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (lambda run: shutil.rmtree(run / "final"), None),
        (lambda run: (run / "audit.json").write_text("x"), "audit.json: not JSON"),
        (
            lambda run: (run / "measurements.jsonl").write_text("{}\nx\n{}\n"),
            "measurements.jsonl:2: not JSON",
        ),
        (lambda run: (run / "ledger-0.jsonl").write_text("x\n"), "ledger-0.jsonl:1: not a line of a ledger"),
        (lambda run: [shutil.rmtree(each) for each in run.iterdir() if each.is_dir()], "no checkpoint and"),
    ],
)
def test_what_cannot_be_read_is_named(made, capsys, spoil, line):
    spoil(made)
    assert report.main([str(made)]) == (0 if line is None else 2)
    shown = capsys.readouterr().err
    assert line in shown if line else shown == ""


def delta(task, metric, before, after, verdict, rows=20):
    difference = {"rows": rows, "mean": after - before, "low": after - before, "high": after - before}
    difference |= {"higher": 0, "equal": 0, "lower": 0}
    return {
        **{"task": task, "metric": metric, "before": before, "after": after, "verdict": verdict, "p": 0.01},
        **{"difference": difference, "words": f"{task}: {metric}"},
    }


def test_the_verdict_says_how_good_it_is_now_and_a_collapsed_old_skill_in_red(made):
    """New receipts got better and are still bad; old pages collapsed; old boxes are as they were."""
    skills = json.loads((made / "skills.json").read_text())
    skills["skills"] = [
        delta("ocr in validation", "edit_distance", 0.8, 0.25, "better"),
        delta("ocr in validation", "cer", 0.9, 0.263, "better"),
        delta("ocr in validation", "exact_match", 0.0, 0.05, "inconclusive"),
        *(delta("ocr in old pages", name, 0.26, 0.88, "worse") for name in ("edit_distance", "cer")),
        delta("ocr in old pages", "exact_match", 0.5, 0.1, "worse"),
        *(delta("ocr in old boxes", name, 0.2, 0.21, "inconclusive") for name in ("cer", "exact_match")),
    ]
    (made / "skills.json").write_text(json.dumps(skills))
    text = page.write_report(made).read_text(encoding="utf-8")
    header = text[text.index("<header>") : text.index("</header>")]
    assert (
        "<p class='verdict '>validation: 1 of 20 rows (5.0%) are read without an error, 26.3% of the "
        "characters wrong; before the run 0.0% and 90.0%</p>"
    ) in header
    assert (
        "<p class='verdict worse'>old pages: 2 of 20 rows (10.0%) are read without an error, 88.0% of the "
        "characters wrong; before the run 50.0% and 26.0%; this old skill has become worse</p>"
    ) in header
    assert "old boxes" not in header


def test_another_system_stands_beside_the_result(made, tmp_path):
    rows = [json.loads(line) for line in (made / "skills/after/samples.jsonl").read_text().splitlines()]
    right = [{"id": row["id"], "reference": row["reference"], "prediction": row["reference"]} for row in rows]
    other = tmp_path / "engine.jsonl"
    other.write_text("".join(json.dumps(row) + "\n" for row in right))
    assert report.main([str(made), "--beside", str(other)]) == 0
    seen = Page((made / "report.html").read_text(encoding="utf-8"))
    words = " ".join(seen.words)
    assert f"engine: {len(rows)} of {len(rows)} rows (100.0%) are read without an error, 0.0% of the" in words
    assert "Beside engine" in words


def test_the_commands_that_it_offers_name_what_there_is(tuned):
    offered = dict(use.commands(folder.read_run(tuned)))
    assert offered["read a page"][3] == str(tuned / "final")
    assert offered["adapter and base as one model"][2:] == [str(tuned / "final"), str(tuned / "merged")]
    for words in offered.values():
        assert [*map(Path, words)] and all("none" not in word for word in words)
    compare = offered["see the rows that changed most"]
    assert all(Path(word).is_dir() for word in compare[3:5])


@browser
@pytest.mark.slow
@pytest.mark.parametrize("mobile", [False, True])
def test_it_opens_without_an_error_or_a_request_and_fits_a_phone(tuned, tmp_path, mobile):
    file, size = tuned / "report.html", {"width": 390, "height": 844} if mobile else {}
    with Chromium(tmp_path / "profile", dark=mobile, mobile=mobile, **size) as opened:
        opened.open(file)
        assert opened.run("document.documentElement.scrollWidth") <= (390 if mobile else 1200)
        assert opened.run("[...document.images].every(each => each.naturalWidth > 0)")
        color = opened.run("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", color)[:3])) / 3 < 60) == mobile
        lines = "[...document.querySelectorAll('.curve')].map(each => getComputedStyle(each).stroke)"
        assert len(set(opened.run(lines))) >= 2
        assert [each for each in opened.requests if not each.startswith("data:")] == [file.resolve().as_uri()]
        assert opened.messages == []


def test_the_page_has_the_sections_in_their_order(tuned):
    text = (tuned / "report.html").read_text(encoding="utf-8")
    found = [text.index(f"id={name}>") for name in page._SECTIONS if name != "beside"]
    assert found == sorted(found)
