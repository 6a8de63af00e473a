"""The queue in the app: rows with their origin, one step back, and keys alone in Chromium."""

import json
import signal
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from got_train.app.corrections import Corrections
from got_train.app.review import Review
from got_train.cli import app as command
from got_train.cli import check
from got_train.config.loader import load_config
from got_train.data.record import Record
from got_train.data.records import read_records
from got_train.drafts.draft import Answer, Draft, read_drafts, write_drafts
from got_train.errors import RequestError
from got_train.training import run
from tests.app.test_app import Visit, ended, serving
from tests.chromium import PROGRAM

HASH = "c" * 64
# of model, Tesseract: the model wrong twice, Tesseract once; the last one is two lines
READ = [("total 12.0O", "total 12.00"), ("cash 20.00", "cash 20.00"), ("change", "charge"), ("a\nb", None)]


@pytest.fixture
def queue_file(tmp_path):
    """Four drafts; the second is a region of a page."""
    drafts = []
    for number, (model, other) in enumerate(READ):
        Image.new("L", (200, 100), 40 * number + 60).save(tmp_path / f"line{number}.png")
        region = {"box": (100, 400, 600, 700), "box_unit": "thousandth"} if number == 1 else {}
        record = Record((str(tmp_path / f"line{number}.png"),), "ocr", "", document=f"d{number}", **region)
        answers = [Answer(by="runs/mine", text=model, checkpoint=HASH, confidence=0.5, finished="stop")]
        if other is not None:
            answers.append(Answer(by="tesseract", text=other))
        drafts.append(Draft(key=f"key{number}", record=record, answers=tuple(answers)))
    write_drafts(tmp_path / "queue.jsonl", drafts)
    return tmp_path / "queue.jsonl"


@pytest.fixture
def review(queue_file, tmp_path):
    """A function: the walk, begun or gone on with."""
    return lambda: Review(
        queue_file, read_drafts(queue_file), Corrections(tmp_path / "saved" / "records.jsonl")
    )


def rows(tmp_path):
    return [json.loads(line) for line in (tmp_path / "saved" / "records.jsonl").read_text().splitlines()]


def test_a_row_says_whether_it_was_accepted_or_corrected_whose_draft_it_was_and_what_it_replaced(
    review, tmp_path
):
    walk = review()
    for place, text in enumerate(("total 12.00", "cash 20.00", "change 8.00", "a\nb\n")):
        walk.save(place, text)
    by_other, accepted, corrected, lines = rows(tmp_path)
    assert by_other["text"] == "total 12.00"
    assert by_other["rejected"] == "total 12.0O"  # the model was wrong where Tesseract was right
    origin = {"draft": "key0", "origin": "accepted", "by": "tesseract"}
    assert by_other["meta"] == origin | {"rejected_by": "runs/mine", "checkpoint": HASH}
    assert "rejected" not in accepted
    assert accepted["meta"] == {"draft": "key1", "origin": "accepted", "by": "runs/mine", "checkpoint": HASH}
    assert (accepted["box"], accepted["box_unit"], accepted["document"]) == (
        [100, 400, 600, 700],
        "thousandth",
        "d1",
    )
    assert (corrected["meta"]["origin"], corrected["rejected"]) == ("corrected", "change")
    assert (lines["text"], lines["meta"]["origin"]) == ("a\nb", "accepted")  # no white space is learnt
    records = read_records(tmp_path / "saved" / "records.jsonl", check_files=True)
    assert [record.rejected for record in records] == ["total 12.0O", "", "change", ""]
    assert all(Path(record.images[0]).parent.name == "pictures" for record in records)


def test_four_drafts_are_counted_down_and_a_walk_goes_on_where_it_ended(review):
    walk = review()
    assert (walk.counts()["left"], walk.next_left(-1)) == (4, 0)
    assert walk.save(0, "total 12.00")["next"] == 1
    after = walk.save(2, "change 8.00")
    assert (after["left"], after["accepted"], after["corrected"], after["next"]) == (2, 1, 1, 3)
    again = review()
    assert (again.counts(), again.next_left(-1), again.next_left(3)) == (walk.counts(), 1, 1)
    with pytest.raises(RequestError, match="^draft 1: accepted before; undo that first"):
        again.save(0, "other")
    again.save(1, "cash 20.00")
    assert again.save(3, "a b")["next"] is None
    assert again.counts()["left"] == 0


def test_one_step_back_takes_the_last_row_and_no_row_of_somebody_else(review, tmp_path):
    walk = review()
    walk.save(0, "total 12.00")
    file = tmp_path / "saved" / "records.jsonl"
    before = file.read_bytes()
    walk.save(1, "cash 2.00")
    undone = review().undo()  # after a restart too
    assert (undone["place"], undone["text"], undone["left"]) == (1, "cash 2.00", 3)
    assert file.read_bytes() == before
    with open(file, "a") as other:
        other.write('{"images": ["pictures/line0.png"], "task": "ocr", "text": "by hand"}\n')
    walk = review()
    with pytest.raises(RequestError, match="undo: the last row of .* is not of this queue; correct it there"):
        walk.undo()
    assert len(rows(tmp_path)) == 2


def test_an_empty_text_is_refused_and_the_draft_is_left(review, tmp_path):
    walk = review()
    with pytest.raises(ValueError, match="correction: no text; write what stands on the page"):
        walk.save(0, " \n")
    assert walk.counts()["left"] == 4
    assert not (tmp_path / "saved" / "records.jsonl").exists()


def test_a_region_is_shown_framed_with_what_stands_around_it(review):
    import io

    import numpy as np

    with Image.open(io.BytesIO(review().picture(1, 0))) as image:
        # 100 x 30 pixels of 200 x 100, and 18 more on each side
        assert image.size == (100 + 18 + 18, 30 + 18 + 18)
        reds = np.asarray(image.convert("RGB")).astype(int)
    frame = (reds[:, :, 0] - reds[:, :, 1] > 60).any(axis=1)
    assert 30 <= np.flatnonzero(frame).max() - np.flatnonzero(frame).min() <= 36
    with pytest.raises(RequestError, match="picture: 1; expected 0 to 0"):
        review().picture(1, 1)


def test_the_rows_are_checked_and_train_and_those_with_a_rejected_answer_are_pairs(fit, tmp_path, capsys):
    """16 corrected of 32 lines: got check finds them ready, 3 steps on all, 3 of preferences on the 16."""
    drafts = []
    for number in range(32):
        record = Record((str(tmp_path / f"{number}.png"),), "ocr", "", document=str(number))
        answer = Answer(by="base", text=f"line {number} of", checkpoint=HASH, confidence=number / 32)
        drafts.append(Draft(key=f"k{number}", record=record, answers=(answer,)))
    walk = Review(tmp_path / "q.jsonl", drafts, Corrections(tmp_path / "saved" / "records.jsonl"))
    for number in range(32):
        walk.save(number, drafts[number].text + (f"f {number}" if number % 2 else ""))
    file = tmp_path / "saved" / "records.jsonl"
    assert [row["meta"]["origin"] for row in rows(tmp_path)] == ["accepted", "corrected"] * 16
    capsys.readouterr()
    more = [f"data.train={file}", "train.max_steps=3", f"train.output_dir={tmp_path / 'tuned'}"]
    assert check.main([str(fit.path), *more, "--no-measure", "--workers", "1"]) == 0
    assert "32" in capsys.readouterr().out
    made = fit(*more)
    assert len(made.losses) == 3 and made.losses[-1] < made.losses[0]
    base = tmp_path / "tuned" / "final"
    run.train(load_config(fit.path, more))
    settings = json.loads(fit.path.read_text())
    fit.path.write_text(json.dumps(settings | {"model": {"init_from": str(base)}}))
    pairs = file.with_name("pairs.jsonl")  # as docs/prelabel.md makes them with grep
    pairs.write_text("".join(f"{line}\n" for line in file.read_text().splitlines() if '"rejected"' in line))
    preferred = fit("rl.objective=dpo", f"data.train={pairs}", "train.max_steps=3")
    assert len(read_records(pairs)) == 16 and len(preferred.losses) == 3


@pytest.fixture
def client(queue_file, review, tmp_path):
    (tmp_path / "served").mkdir()
    with serving(tmp_path / "served", {}.get, [], review=review()) as made:
        yield made


def test_without_a_model_the_queue_is_the_page_and_requests_are_checked(client):
    assert b"Correct the queue" in client.ask("GET", "/").read()
    first = json.loads(client.ask("GET", "/drafts").read())
    assert (first["left"], first["next"]) == (4, 0)
    assert client.ask("GET", "/drafts/1/0").read()[:2] == b"\xff\xd8"  # a JPEG
    for method, path, body, error in (
        ("GET", "/drafts/4", None, "place: 4; expected 0 to 3"),
        ("GET", "/drafts/x", None, "place: 'x'; expected a whole number"),
        ("POST", "/accept", {"place": "0", "text": "a"}, "place: '0'; expected a whole number"),
        ("POST", "/accept", {"place": 0, "text": ""}, "correction: no text; write what stands on the page"),
        ("POST", "/undo", {}, "undo: the last row of"),
    ):
        answer = client.ask(method, path, body)
        assert answer.status == 400
        assert json.loads(answer.read())["error"].startswith(error)
    assert (
        client.ask("POST", "/accept", {"place": 0, "text": "a"}, Origin="http://evil.example").status == 403
    )


def test_the_command_needs_a_model_or_a_queue(tmp_path, capsys):
    assert command.main([]) == 2
    assert command.main(["--queue", str(tmp_path / "none.jsonl"), "--port", "0"]) == 2
    err = capsys.readouterr().err.splitlines()
    assert err[0] == "app: --model-name-or-path: none; give a checkpoint, or drafts to correct with --queue"
    assert err[1] == f"app: {tmp_path / 'none.jsonl'}: No such file or directory"


def test_the_command_serves_a_queue_without_paddle_and_ends_with_ctrl_c(queue_file, tmp_path):
    (tmp_path / "no_paddle").mkdir()
    (tmp_path / "no_paddle" / "paddle.py").write_text("raise SystemExit('paddle was imported')")
    flags = ["--queue", str(queue_file), "--corrections", str(tmp_path / "saved" / "records.jsonl")]
    script = f"import sys; sys.path.insert(0, {str(tmp_path / 'no_paddle')!r})\n"
    script += f"from got_train.cli import app\nraise SystemExit(app.main({[*flags, '--port', '0']!r}))"
    code, about = ended([sys.executable, "-c", script], signal.SIGINT, tmp_path)
    assert (code, about["models"], about["queue"]) == (130, [], True)


class Walk(Visit):
    """A browser at the queue, with a keyboard."""

    ready = "document.querySelector('#pictures img')?.naturalWidth > 0"

    def press(self, key, modifiers=0):
        """A key as a person presses it; Shift is 8, Ctrl 2."""
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 and not modifiers & 2 else "")
        code = {"Enter": 13, "Escape": 27}.get(key, 0)
        event = {"key": key, "modifiers": modifiers, "windowsVirtualKeyCode": code}
        down = {"type": "keyDown" if text else "rawKeyDown", "text": text}
        self.call("Input.dispatchKeyEvent", {**event, **down})
        self.call("Input.dispatchKeyEvent", {**event, "type": "keyUp"})

    def type(self, text):
        self.call("Input.insertText", {"text": text})

    def at(self, place):
        self.until(f"state.item?.place === {place} && !state.busy")


@pytest.mark.skipif(PROGRAM is None, reason="Chromium is not installed")
def test_four_drafts_are_done_by_twelve_keys_without_a_mouse(client, tmp_path):
    with Walk(client, tmp_path) as walk:
        walk.at(0)
        assert walk.texts("#counts") == ["4 left of 4; 0 accepted, 0 corrected"]
        assert walk.texts("#origin") == ["Draft by runs/mine, 50 % sure; the readers agree by 91 %"]
        assert walk.texts("#readers pre") == ["as the draft", "total 12.00"]
        assert walk.texts("#readers mark") == ["0"]
        walk.press("2")  # Tesseract's
        assert walk.run("$('text').value") == "total 12.00"
        walk.press("Enter")
        walk.at(1)
        walk.press("n")
        walk.at(2)
        walk.press("e")
        walk.type(" 8.00")
        assert walk.texts("#accept span") == ["Save the correction"]
        walk.press("n")  # in the text it is a letter
        assert walk.run("$('text').value") == "change 8.00n"
        walk.press("u")
        walk.run("$('text').value = 'change 8.00'")
        walk.press("Enter")  # a line is saved by Enter
        walk.at(3)
        assert walk.texts("#counts") == ["2 left of 4; 1 accepted, 1 corrected"]
        walk.press("u")
        walk.at(2)
        assert walk.run("$('text').value") == "change 8.00"
        walk.press("Enter")
        walk.at(3)
        walk.press("e")
        walk.press("Enter")  # of two lines: a line more
        walk.type("c")
        assert walk.run("$('text').value") == "a\nb\nc"
        walk.press("Escape")
        walk.press("p")
        walk.at(1)
        walk.press("p")
        walk.at(3)
        assert walk.run("$('text').value") == "a\nb\nc"  # what was typed is kept
        walk.press("Enter", modifiers=2)
        walk.at(1)
        walk.press("Enter")
        walk.until("!$('over').hidden")
        assert walk.texts("#over")[0].startswith(
            "All 4 drafts are done: 2 accepted, 2 corrected. The rows are"
        )
        walk.press("u")
        walk.at(1)
        assert walk.texts("#counts") == ["1 left of 4; 1 accepted, 2 corrected"]
        assert (walk.messages, walk.foreign()) == ([], [])
    texts = [row["text"] for row in rows(tmp_path)]
    assert texts == ["total 12.00", "change 8.00", "a\nb\nc"]


@pytest.mark.skipif(PROGRAM is None, reason="Chromium is not installed")
def test_an_enter_key_that_is_held_down_saves_each_draft_once_and_a_phone_shows_all(client, tmp_path):
    with Walk(client, tmp_path, width=390, height=844, mobile=True) as walk:
        walk.at(0)
        assert walk.run("document.documentElement.scrollWidth") == 390
        for _ in range(12):
            walk.press("Enter")
        walk.until("!$('over').hidden || !state.busy")
        end = time.monotonic() + 10
        while walk.run("$('over').hidden") and time.monotonic() < end:
            walk.press("Enter")
            time.sleep(0.05)
        assert walk.texts("#message") == [""] and walk.messages == []
    assert [row["meta"]["draft"] for row in rows(tmp_path)] == ["key0", "key1", "key2", "key3"]
