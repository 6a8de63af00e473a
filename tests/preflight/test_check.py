"""got check: what it finds in rows made wrong on purpose, against hand counts and the run itself."""

import io
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from got_train.cli import check
from got_train.data import text_height
from got_train.data.collator import Collator
from got_train.data.record import Record
from got_train.data.records import read_records
from got_train.errors import ConfigError
from got_train.preflight import config_checks as settings
from got_train.preflight import duplicates, fingerprints
from got_train.preflight.findings import Finding
from got_train.preflight.rows import RowChecker
from got_train.preflight.scan import Source, scan
from got_train.preflight.statistics import Histogram, script_runs
from got_train.prompts import TASKS
from got_train.tokenizer import load_tokenizer


@pytest.fixture
def run(tiny_run, capsys):
    """A function: exit code, check.json and stdout of a check of the 64 small pages, without measuring."""
    path = tiny_run()

    def run(*words, measure=False):
        code = check.main([str(path), *words, "--workers", "0", *([] if measure else ["--no-measure"])])
        out = capsys.readouterr().out
        report = path.parent / "run" / "check.json"
        return code, json.loads(report.read_text()) if report.exists() else None, out

    run.folder, run.data = path.parent, path.parent / "data.jsonl"
    return run


def edit(run, **rows):
    """Change rows of the data by their line numbers, l1=..., or append with l65=."""
    lines = run.data.read_text().splitlines()
    for name, change in rows.items():
        number = int(name[1:])
        if number > len(lines):
            lines.append(change if isinstance(change, str) else json.dumps(change))
        else:
            lines[number - 1] = change if isinstance(change, str) else json.dumps(change)
    run.data.write_text("\n".join(lines) + "\n")


def row(run, number, **changes):
    return {**json.loads(run.data.read_text().splitlines()[number - 1]), **changes}


def causes(found, level):
    return {
        example["location"].rpartition("/")[2]: (kind["subject"], example["cause"], kind["fix"])
        for kind in found["findings"]
        if kind["level"] == level
        for example in kind["examples"]
    }


def test_every_bad_row_is_named_with_cause_and_mend(run):
    (run.folder / "5.png").write_bytes((run.folder / "5.png").read_bytes()[:300])
    edit(
        run,
        l2=row(run, 2, text="  "),
        l4=row(run, 4, images=["none.png"]),
        l8=row(run, 8, text="abcdefghij" * 60),
        l9=row(run, 9, task="orc"),
        l10=row(run, 10, box=[1, 1, 90, 20]),
        l12='{"images": ["1.png"]',
        l65={"query": "<image>OCR", "response": "a", "images": ["1.png"]},
        l66={"query": "<image><image>OCR: ", "response": "a", "images": ["1.png"]},
    )
    code, found, out = run()
    assert code == 1
    assert found["verdict"] == "not ready"
    errors = causes(found, "error")
    assert {where: said[0] for where, said in errors.items()} == {
        "data.jsonl:2": "answer",
        "data.jsonl:4": "picture",
        "data.jsonl:6": "picture",
        "data.jsonl:8": "length",
        "data.jsonl:9": "row",
        "data.jsonl:10": "region",
        "data.jsonl:12": "row",
        "data.jsonl:65": "question",
        "data.jsonl:66": "row",
    }
    assert errors["data.jsonl:9"][1:] == ("task is 'orc'", "did you mean ocr?")
    assert errors["data.jsonl:65"][1:] == (
        "query: 'OCR' is not known",
        "the nearest, with its spaces, is 'OCR: '",
    )
    assert found["sources"][0]["rows"] == 66
    assert found["sources"][0]["bad"] == 9
    assert found["sources"][0]["too_long"] == 1
    assert out.rstrip().endswith("not ready: 9 errors, 2 warnings")  # no validation, 6 steps
    kept = [json.loads(line) for line in (run.folder / "run" / "quarantine.jsonl").read_text().splitlines()]
    assert [each["location"].rpartition(":")[2] for each in kept] == [
        "2",
        "4",
        "6",
        "8",
        "9",
        "10",
        "12",
        "65",
        "66",
    ]
    assert kept[4]["cause"].endswith("task is 'orc'; did you mean ocr?")


def test_a_run_that_drops_bad_rows_is_ready_with_warnings_and_a_clean_one_is_ready(run):
    held_out = {**row(run, 1), "images": ["v.png"], "text": "quite another text"}
    Image.effect_noise((40, 24), 200).convert("RGB").save(run.folder / "v.png")
    (run.folder / "valid.jsonl").write_text(json.dumps(held_out) + "\n")
    words = f"data.validation={run.folder}/valid.jsonl", "train.max_steps=60"
    code, found, out = run(*words)
    assert (code, found["verdict"], found["findings"]) == (0, "ready", [])
    assert out.rstrip().splitlines()[-1] == "ready"
    edit(run, l2=row(run, 2, text=""))
    assert run(*words)[0] == 1
    code, found, _ = run(*words, "data.on_error=skip")
    assert (code, found["verdict"]) == (0, "ready with warnings")
    (run.folder / "valid.jsonl").write_text(json.dumps({**held_out, "text": ""}) + "\n")
    assert run(*words, "data.on_error=skip")[0] == 1  # rows of validation are never dropped


def test_findings_of_a_kind_are_summed_up_with_three_places_and_a_file_has_them_all(run):
    lines = {f"l{line}": row(run, line, text="x", task="orc") for line in range(1, 31)}
    edit(run, **lines, l40=row(run, 41), l42=row(run, 41))  # a question to one picture, three times
    code, found, out = run()
    assert code == 1
    kind = next(kind for kind in found["findings"] if kind["count"] == 30)
    assert len(kind["examples"]) == 20
    said = out.split("error: row, 30 times; did you mean ocr?\n")[1].splitlines()
    assert [line.partition(": ")[0].rpartition("/")[2] for line in said[:3]] == [
        f"data.jsonl:{line}" for line in (1, 2, 3)
    ]
    assert said[3] == "    ... and 27 more (see all findings)"
    assert "not ready: 30 errors of 1 kind, " in out
    file = run.folder / "run" / "findings.jsonl"
    assert f"all findings: {file}\n" in out
    kept = [json.loads(line) for line in file.read_text().splitlines()]
    assert [each["location"].rpartition(":")[2] for each in kept if each["level"] == "error"] == [
        str(line) for line in range(1, 31)
    ]
    assert sum(each["subject"] == "duplicate" for each in kept) == 2
    edit(run, **{f"l{line}": row(run, line, task="ocr", text=f"answer {line}") for line in range(1, 31)})
    run()
    assert all(json.loads(line)["level"] == "warning" for line in file.read_text().splitlines())


def test_lengths_are_those_of_the_samples(run):
    _, found, _ = run()
    settings = json.loads((run.folder / "run.yaml").read_text())
    collator = Collator(load_tokenizer(settings["model"]["tokenizer"]), side=32, view_tokens=4)
    samples = [collator.sample(record) for record in read_records(run.data)]
    lengths = sorted(len(sample.ids) for sample in samples)
    tokens = found["sources"][0]["tokens"]
    assert (tokens["least"], tokens["most"], tokens["median"]) == (lengths[0], lengths[-1], lengths[31])
    assert sum(count for _, count in tokens["histogram"]) == 64
    assert tokens["histogram"][0] == [64, sum(length <= 64 for length in lengths)]


def test_several_processes_find_what_one_finds_in_the_same_order(run):
    edit(run, l3=row(run, 3, text=""), l40=row(run, 40, task="x"), l41=row(run, 40), l64=row(run, 63))
    _, alone, _ = run()
    first = (run.folder / "run" / "quarantine.jsonl").read_text()
    _, several, _ = run("--workers", "2")
    for found in (alone, several):
        found.pop("seconds")
    assert several == alone
    assert (run.folder / "run" / "quarantine.jsonl").read_text() == first


def test_a_process_that_is_killed_ends_the_check_and_says_nothing_of_the_run(run, monkeypatch, capsys):
    monkeypatch.setattr(RowChecker, "check", lambda *_: os._exit(1))
    assert check.main([str(run.folder / "run.yaml"), "--workers", "2", "--no-measure"]) == 1
    assert "check: --workers 2: a process was ended from outside" in capsys.readouterr().err
    assert not (run.folder / "run" / "check.json").exists()


def lives(process):
    """Not so where it has ended and nobody has asked for its code."""
    stat = Path(f"/proc/{process}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_killed_check_leaves_no_process_behind(run):
    rows = run.data.read_text() * 400
    run.data.write_text(rows)
    words = [sys.executable, "-m", "got_train", "check", str(run.folder / "run.yaml"), "--workers", "2"]
    started = subprocess.Popen([*words, "--no-measure"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    mine = Path(f"/proc/{started.pid}/task/{started.pid}/children")
    if not mine.exists():
        pytest.skip("needs /proc")
    end, children = time.monotonic() + 60, []
    while len(children) < 2 and time.monotonic() < end:
        time.sleep(0.1)
        children = mine.read_text().split()
    started.kill()
    started.wait()
    assert len(children) == 2
    while any(map(lives, children)) and time.monotonic() < end:
        time.sleep(0.1)
    assert not list(filter(lives, children))


def test_a_stream_is_checked_like_its_file(run):
    edit(run, l3=row(run, 3, text=""))
    _, plain, _ = run("train.max_steps=60")
    source = f"[{{path: {run.data}, weight: 1, streaming: true}}]"
    code, streamed, _ = run(f"data.train={source}", "train.max_steps=60")
    assert code == 1
    for key in ("rows", "bad", "tasks", "tokens"):
        assert streamed["sources"][0][key] == plain["sources"][0][key]
    assert causes(streamed, "error") == causes(plain, "error")


def test_a_sample_is_spread_over_the_rows(run):
    edit(run, l1=row(run, 1, text=""), l33=row(run, 33, text=""), l2=row(run, 2, text=""))
    _, found, _ = run("--sample", "4")
    assert found["sources"][0]["rows"] == 4
    assert set(causes(found, "error")) == {"data.jsonl:1", "data.jsonl:33"}


@pytest.mark.parametrize(
    ("override", "location", "cause"),
    [
        ("optimizer.learning_rat=1", "optimizer.learning_rat", "no such setting"),
        ("data.max_tokens=9999", "data.max_tokens (9999)", "the decoder has 256 positions"),
        ("data.train=none.jsonl", "none.jsonl", "no such file"),
        ("data.train=", "data.train", "no data"),
        ("model.tokenizer=none", "none", "no such folder"),
        ("train.output_dir=/proc/none", "train.output_dir /proc/none", r"cannot be written \(.*\)"),
    ],
)
def test_a_config_that_cannot_start_is_not_ready(run, override, location, cause):
    code, _, out = run(override)
    assert code == 1
    assert re.search(rf"error: .*{re.escape(location)}: {cause}; ", out)
    assert out.rstrip().splitlines()[-1].startswith("not ready: ")


@pytest.mark.parametrize(
    ("card", "said"),
    [("[]", "not an adapter"), ("{", "not an adapter"), ('{"base": "/none"}', "base /none is not there")],
)
def test_an_adapter_that_is_none_is_refused(tmp_path, card, said):
    (tmp_path / "adapter.json").write_text(card)
    with pytest.raises(ConfigError, match=said):
        settings.base_of(str(tmp_path))


def test_a_metric_that_there_is_not_is_told_before_the_run(run):
    code, found, _ = run(f"data.validation={run.data}", "eval.best_metric=eror", "eval.max_samples=4")
    assert code == 1
    assert causes(found, "error")["eval.best_metric"][1] == "no metric eror"


def test_rows_of_a_probe_are_looked_at_like_those_of_validation(run):
    edit(run, l5=row(run, 5, text=""))
    probe = f"eval.retention_sets=[{{name: old, path: {run.data}}}]"
    code, found, _ = run(probe, "eval.max_samples=4", "data.on_error=skip")
    assert [source["role"] for source in found["sources"]] == ["train", "probe"]
    assert code == 1  # a run drops no row that it does not train on
    assert causes(found, "error")["data.jsonl:5"][1] == "empty answer"
    leaks = [kind for kind in found["findings"] if kind["subject"] == "leak"]
    assert [kind["count"] for kind in leaks] == [63]


def test_wrong_usage_is_neither_ready_nor_not(run):
    with pytest.raises(SystemExit) as error:
        check.main([])
    assert error.value.code == 2


def test_the_json_on_stdout_is_the_file(run):
    _, found, out = run("--json")
    assert json.loads(out) == found


def test_memory_and_time_are_measured_on_the_longest_rows(run):
    code, found, out = run("train.per_device_train_batch_size=2", measure=True)
    assert code == 0
    needs = found["needs"]
    assert needs["steps"] == 6
    assert needs["parameters"] == needs["trained"] == 10_240 + 272 + 10_672  # as the dry run has them
    assert needs["checkpoint_bytes"] == 12 * needs["trained"]  # float32: the weight and two moments
    assert needs["seconds"] == round(6 * needs["step_seconds"], 0)
    assert "GB at most, measured on the longest rows" in out


def test_what_stops_the_first_step_is_found(run):
    code, found, _ = run("optimizer.learning_rate=1e30", measure=True)
    assert code == 1
    (said,) = causes(found, "error").values()
    assert "nothing was updated" in said[1] + said[2]


def test_a_finding_is_taken_apart_at_its_first_colon_and_last_semicolon():
    found = Finding.of(ValueError("a.jsonl:3: box: [1; 2] is odd; give x, y"), "row")
    assert (found.location, found.cause, found.fix) == ("a.jsonl:3", "box: [1; 2] is odd", "give x, y")
    found = Finding.of(ValueError("scans: old/a.jsonl:3: empty"), "row")
    assert (found.location, found.cause) == ("scans: old/a.jsonl:3", "empty")


def test_quantiles_are_those_of_numpy():
    values = np.random.default_rng(3).integers(0, 50, 501)
    numbers = Histogram()
    for value in values:
        numbers.add(int(value))
    for share in (0.05, 0.5, 0.95):
        assert numbers.quantile(share) == np.quantile(values, share, method="inverted_cdf")


def test_a_text_falls_into_its_scripts():
    text = "Ab \u0421\u0430\u043d 12, \u4e16\u754c \u0939\u093f\u0928\u094d\u0926\u0940"
    assert {name: "".join(runs) for name, runs in script_runs(text).items()} == {
        "Latin": "Ab",
        "Cyrillic": "\u0421\u0430\u043d",
        "Digits": "12",
        "Marks": ",",
        "Han": "\u4e16\u754c",
        "Devanagari": "\u0939\u093f\u0928\u094d\u0926\u0940",
    }


def test_bytes_a_token_are_those_of_the_tokenizer(run):
    """The nano tokenizer spells Devanagari in bytes: 3 tokens a letter."""
    edit(run, **{f"l{number}": row(run, number, text="\u0939\u0928") for number in range(1, 65)})
    _, found, _ = run()
    assert found["scripts"]["Devanagari"] == {
        "characters": 128,
        "bytes_per_token": 1.0,
        "tokens_per_character": 3.0,
    }
    assert any(
        "Devanagari takes 3.0 tokens a character" in said[1] for said in causes(found, "warning").values()
    )


def page(words, size=(500, 640), font=16, seed=0):
    """A page of random words, and the text on it."""
    generator = np.random.default_rng(seed)
    image = Image.new("RGB", size, (250, 250, 245))
    face, lines = ImageFont.load_default(font), []
    for line in range(words):
        lines.append(" ".join("".join(chr(97 + c) for c in generator.integers(0, 26, 6)) for _ in range(5)))
        ImageDraw.Draw(image).text((30, 30 + line * font * 1.6), lines[-1], (20, 20, 20), font=face)
    return image, "\n".join(lines)


def seen_of(tmp_path, **roles):
    """A scan of pages given by role as (image, text)."""
    sources = []
    for role, pages in roles.items():
        rows = []
        for number, (image, text) in enumerate(pages):
            name = f"{role}{number}.{'jpg' if isinstance(image, bytes) else 'png'}"
            if isinstance(image, bytes):
                (tmp_path / name).write_bytes(image)
            else:
                image.save(tmp_path / name)
            rows.append({"images": [name], "task": "ocr", "text": text})
        path = tmp_path / f"{role}.jsonl"
        path.write_text("".join(json.dumps(each) + "\n" for each in rows))
        sources.append(Source(role, str(path), read_records(path)))
    collator = Collator(load_tokenizer("configs/nano/tokenizer"), side=1024, view_tokens=256)
    return scan(sources, RowChecker(collator))


def jpeg(image):
    file = io.BytesIO()
    image.resize((400, 512)).save(file, "JPEG", quality=60)
    return file.getvalue()


def test_leaks_are_found_in_scaled_pictures_and_edited_answers_and_nowhere_else(tmp_path):
    pages = [page(20, seed=seed) for seed in range(12)]
    train = pages[:8]
    valid = [
        (jpeg(pages[0][0]), pages[0][1]),  # another size and format
        pages[1],  # the same file
        (pages[9][0], pages[2][1].upper().replace("\n", "  ")),  # the same words on another page
        (pages[10][0], pages[3][1].replace("a", "e", 3)),  # three letters changed
        pages[11],  # new
    ]
    seen = seen_of(tmp_path, train=train, validation=valid)
    leaks = {
        (int(seen.fingerprints["row"][later]), int(seen.fingerprints["row"][first]), pair.what)
        for pair in duplicates.find_pairs(seen)
        for first, later in pair.places
        if pair.subject == "leak"
    }
    assert leaks == {  # each pair once, by the strongest that it has in common
        (0, 0, "nearly the same picture in training"),
        (1, 1, "the same picture in training"),
        (2, 2, "the same answer in training"),
        (3, 3, "nearly the same answer in training"),
    }


def test_a_form_that_is_filled_in_twice_is_no_duplicate(tmp_path):
    blank, printed = page(20)
    rows = []
    for seed in (1, 2):
        filled, text = blank.copy(), page(12, seed=seed)[1]
        ImageDraw.Draw(filled).text((60, 600), text[:12], (20, 20, 20))
        rows.append((filled, text))
    assert not duplicates.find_pairs(seen_of(tmp_path, train=rows))
    assert printed


def test_two_answers_to_one_question_are_a_contradiction_and_one_answer_twice_a_duplicate(tmp_path):
    first, second = page(3, seed=1), page(3, seed=2)
    seen = seen_of(tmp_path, train=[first, (first[0], "other"), second, second])
    found = {pair.subject: pair.places.tolist() for pair in duplicates.find_pairs(seen)}
    assert found == {"contradiction": [[0, 1]], "duplicate": [[2, 3]]}


def test_shared_sketch_bins_are_near_the_overlap_of_two_texts():
    generator = np.random.default_rng(0)
    text = "".join(chr(97 + c) for c in generator.integers(0, 26, 4000))
    for cut in (400, 1000, 2000):
        other = text[cut:] + "".join(chr(97 + c) for c in generator.integers(0, 26, cut))
        overlap = (4000 - cut) / (4000 + cut)  # shingles of both over those of either
        agree = (fingerprints.minhash(text.encode()) == fingerprints.minhash(other.encode())).mean()
        assert abs(agree - overlap) < 0.2


@pytest.mark.parametrize("font", [9, 12, 18, 24])
def test_the_height_of_lines_is_told_within_a_fifth(font):
    image, _ = page(18, font=font)
    letters = ImageFont.load_default(font).getbbox("bdfghjklpqty")
    true = letters[3] - letters[1]  # from ascender to descender
    found = text_height.measure_text_height(image)
    assert abs(found.height - true) <= 0.2 * true + 1
    assert found.in_view(320) == pytest.approx(found.height * 320 / 640)


def line_crop(path, text, size):
    image = Image.new("L", size, 255)
    ImageDraw.Draw(image).text((2, 2), text, 0, font=ImageFont.load_default(size[1] - 10))
    image.save(path)
    return Record((str(path),), "ocr", text, location=path.name)


def looked_at(records, side=320):
    collator = Collator(load_tokenizer("configs/nano/tokenizer"), side=side, view_tokens=4)
    return scan([Source("train", "a", records)], RowChecker(collator))


def test_characters_of_line_crops_are_measured_across_the_view(tmp_path):
    """A crop of 600 x 30 pixels: its 40 characters share the 320 pixels of a view, so 8 px each at most."""
    long = line_crop(tmp_path / "a.png", "harbour report of the mill in town, 1902", (600, 30))
    short = line_crop(tmp_path / "b.png", "mill", (100, 30))
    found = looked_at([long, short]).statistics[0]
    widths = sorted(found.crop_widths.counts)
    assert widths[0] <= 8 and widths[1] >= 12
    said = settings.crop_width_warning(found, patch=16, role="train")
    assert said.location == "a.png" and "1 of 2 line crops" in said.cause
    assert "multi_crop" not in said.fix
    assert settings.crop_width_warning(looked_at([short]).statistics[0], patch=16, role="train") is None


def test_small_print_of_spot_rows_is_not_advised_what_spot_refuses(tmp_path):
    image, _ = page(60, size=(1800, 2400), font=16)
    image.save(tmp_path / "a.png")
    record = Record((str(tmp_path / "a.png"),), "spot", "[1,2,3,4] a")
    found = settings.text_height_warning(looked_at([record], 1024).statistics[0], patch=16, role="train")
    assert "multi_crop" not in found.fix and "--tasks window" in found.fix


def test_a_page_of_many_boxes_is_decoded_once(tmp_path, monkeypatch):
    from got_train import images

    opened = []
    whole = images.open_image
    monkeypatch.setattr(images, "open_image", lambda path: (opened.append(path), whole(path))[1])
    records = []
    for number in range(2):
        image, text = page(15)
        image.save(tmp_path / f"{number}.png")
        for row in range(20):
            records.append(Record((str(tmp_path / f"{number}.png"),), "ocr", text, box=(0, row, 90, row + 9)))
    result = looked_at(records)
    assert (len(result.fingerprints), len(opened)) == (40, 2)


def test_rows_of_few_pictures_in_any_order_decode_each_once_and_see_what_they_would_alone(
    tmp_path, monkeypatch
):
    from got_train import images

    opened = []
    whole = images.open_image
    monkeypatch.setattr(images, "open_image", lambda path: (opened.append(path), whole(path))[1])
    files = []
    for number in range(4):
        image, text = page(15 + number)
        files.append((str(tmp_path / f"{number}.png"), text))
        image.save(files[-1][0])
    records = [Record((path,), "ocr", f"{text} {row}") for row in range(6) for path, text in files]
    result, seen = looked_at(records), len(opened)
    alone = [looked_at([record]) for record in records]
    assert (len(result.fingerprints), seen) == (24, 4)
    for name in result.fingerprints.dtype.names[2:]:  # after source and row
        expected = np.concatenate([one.fingerprints[name] for one in alone])
        assert np.array_equal(result.fingerprints[name], expected), name
    assert result.statistics[0].lines.total == sum(one.statistics[0].lines.total for one in alone) == 24


def test_pages_of_one_document_in_training_and_validation_are_a_leak(tmp_path):
    rows = {}
    for role, number in (("train", 1), ("train", 2), ("validation", 3)):
        path = tmp_path / f"deed_page{number}.png"
        noise = np.random.default_rng(number).integers(0, 256, (30, 40), dtype=np.uint8)
        Image.fromarray(noise).save(path)
        rows.setdefault(role, []).append(Record((str(path),), "ocr", f"text {number}"))
    collator = Collator(load_tokenizer("configs/nano/tokenizer"), side=64, view_tokens=4)
    result = scan([Source(role, role, records) for role, records in rows.items()], RowChecker(collator))
    (pair,) = duplicates.find_pairs(result)
    assert (pair.subject, pair.what) == ("leak", "a page of the same document in training")


def test_blank_pages_and_photographs_have_no_lines():
    assert text_height.measure_text_height(Image.new("RGB", (300, 400), "white")) is None
    assert (
        text_height.measure_text_height(Image.linear_gradient("L").resize((300, 400)).convert("RGB")) is None
    )


def test_small_print_is_warned_of_with_what_tiles_would_gain(tmp_path):
    """Lines of 16 px on a page of 1800 x 2400: 16 x 1024 / 2400 = 7 in a view, and in 2 x 3 tiles 19."""
    small, text = page(60, size=(1800, 2400), font=16)
    seen = seen_of(tmp_path, train=[(small, text)])
    found = settings.text_height_warning(seen.statistics[0], patch=16, role="train")
    assert found.cause.startswith(
        "lines of 7 px in the view; 1 of 1 pages looked at in train have lines below 8"
    )
    assert found.fix.startswith("task multi_crop_ocr would show them 19 px high")
    large, text = page(15, size=(1800, 2400), font=60)
    seen = seen_of(tmp_path, train=[(large, text)])
    assert settings.text_height_warning(seen.statistics[0], patch=16, role="train") is None


@pytest.mark.parametrize("task", ["ocr", "format", "spot", "box", "color"])
def test_small_print_is_never_advised_a_task_that_the_row_cannot_have(tmp_path, task):
    """The advice is followed: the row with the task that it names makes a sample, of tiles."""
    small, text = page(60, size=(1800, 2400), font=16)
    region = {"box": {"box": (0, 0, 900, 1200)}, "color": {"color": "red"}}.get(task, {})
    text = "[0,0,500,500] small print" if task == "spot" else text
    small.save(tmp_path / "small.png")
    record = Record((str(tmp_path / "small.png"),), task if task in TASKS else "ocr", text, **region)
    collator = Collator(load_tokenizer("configs/nano/tokenizer"), side=1024, view_tokens=4, max_tokens=9000)
    result = scan([Source("train", "train", [record])], RowChecker(collator))
    fix = settings.text_height_warning(result.statistics[0], patch=16, role="train").fix
    if task in ("ocr", "format"):
        advised = replace(record, task=fix.split()[1])
        assert len(collator.sample(advised).views) > 1
    else:
        assert fix.startswith("such rows are read in one view: scan") and "_" not in fix


def test_a_blank_picture_with_an_answer_and_ink_without_one_are_told(run):
    Image.new("L", (128, 128), 250).save(run.folder / "2.png")
    Image.effect_noise((128, 128), 2).save(run.folder / "4.png")  # paper with grain
    edit(run, l7=row(run, 7, text=""))
    code, found, _ = run(f"data.train=[{{path: {run.data}, allow_empty: true}}]")
    blank = {
        example["location"].rpartition("/")[2]: example["cause"]
        for kind in found["findings"]
        if kind["subject"] == "blank"
        for example in kind["examples"]
    }
    assert code == 0
    names = {Path(json.loads(line)["images"][0]).name: number
             for number, line in enumerate(run.data.read_text().splitlines(), 1)}  # fmt: skip
    wanted = {f"data.jsonl:{names['2.png']}", f"data.jsonl:{names['4.png']}", "data.jsonl:7"}
    assert wanted == set(blank)
    assert blank["data.jsonl:7"] == "an empty answer to a picture with ink"
    assert blank[f"data.jsonl:{names['2.png']}"].startswith("a blank picture with the answer ")


@pytest.mark.parametrize(
    ("text", "kind"), [("12,30,90,30,90,50,12,50,TOTAL", "boxes"), ('{"a": "b"}', "json"), ("x", "equal")]
)
def test_answers_that_nobody_means_are_errors_until_the_source_says_so(run, text, kind):
    edit(run, **{f"l{number}": row(run, number, text=text) for number in range(1, 65)})
    code, found, out = run("data.max_tokens=160")
    assert code == 1 and f"accept_answers: [{kind}]" in out
    kinds = json.dumps(["equal", kind])
    code, _, out = run("data.max_tokens=160", f"data.train=[{{path: {run.data}, accept_answers: {kinds}}}]")
    assert code == 0, out
