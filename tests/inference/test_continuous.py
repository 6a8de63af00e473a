"""A folder through one running batch: texts and order of one by one, rows filled again, resumed jobs."""

import json
import time
from pathlib import Path

import numpy as np
import pytest

import infer
from data_tools.drawing.fonts import find_fonts
from data_tools.engines.lines import render_page
from got_train.generation import hypothesis
from got_train.generation.repetition import RepetitionDetector, RepetitionRule
from got_train.inference import continuous, job
from got_train.inference.batch import OcrBatch, _Row
from got_train.inference.continuous import read_requests
from got_train.inference.reader import FailedRequest, OcrPipeline, OcrRequest, Page, load_pipeline

from .test_reading import picture, tiny_checkpoint

NANO = Path(__file__).resolve().parents[2] / "configs/nano/weights/stage3"
WORDS = ("license", "copyright", "notice", "the", "source", "code", "this", "list", "conditions")
LINES = (5, 1, 1, 2, 4, 1, 3, 1, 5, 1, 2, 1)  # of each page


@pytest.fixture(scope="module")
def nano():
    return load_pipeline(NANO, retry_loops=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve pages of one to five lines."""
    made, random = tmp_path_factory.mktemp("pages"), np.random.default_rng(4)
    font = find_fonts(["Lato-Regular"])[0]
    for number, count in enumerate(LINES, start=1):
        words = random.choice(WORDS, count).tolist()
        page = render_page(words, font, 14, 128, np.random.default_rng(number))
        page.image.save(made / f"{number}.png")
    return made


@pytest.fixture(scope="module")
def questions(folder):
    return [OcrRequest((Page(str(folder / f"{number + 1}.png")),), "ocr") for number in range(len(LINES))]


@pytest.fixture(scope="module")
def alone(nano, questions):
    return list(nano.read(questions))


@pytest.fixture
def joined(monkeypatch):
    """How many rows were decoded already, and how many joined, each time that some did."""
    seen, join = [], OcrBatch.join

    def watched(batch, readings):
        seen.append((len(batch), len(readings)))
        join(batch, readings)

    monkeypatch.setattr(OcrBatch, "join", watched)
    return seen


@pytest.mark.parametrize("size", [2, 5, 8, 40])
def test_twelve_pages_of_very_different_length_are_those_they_are_alone(nano, questions, alone, joined, size):
    lengths = [len(answer.ids) for answer in alone]
    assert max(lengths) > 4 * min(lengths)
    together = list(read_requests(nano, questions, batch_size=size))
    assert [answer.request for answer in together] == questions
    assert [answer.text for answer in together] == [answer.text for answer in alone]
    for ours, single in zip(together, alone, strict=True):
        assert (ours.ids, ours.finished) == (single.ids, single.finished)
        assert np.abs(np.subtract(ours.log_probs, single.log_probs)).max() < 1e-4
    assert sum(rows for _, rows in joined) == 12
    assert all(there + rows <= size for there, rows in joined)
    if size < 12:
        assert joined[0] == (0, size) and any(there for there, _ in joined)  # joined what was under way


def test_a_page_joins_once_a_quarter_of_the_rows_is_empty_and_saves_steps(
    nano, questions, alone, joined, monkeypatch
):
    steps, step = [], OcrBatch.step
    monkeypatch.setattr(OcrBatch, "step", lambda batch: steps.append(len(batch)) or step(batch))
    list(read_requests(nano, questions, batch_size=4))
    lengths = [len(answer.ids) for answer in alone]
    fixed = sum(max(lengths[start : start + 4]) for start in range(0, 12, 4))
    assert len(steps) < 0.9 * fixed, (len(steps), fixed)
    assert sum(steps) == sum(lengths)  # a token of each row a step
    assert joined[1:] == [(3, 1)] * 8
    joined.clear()
    list(read_requests(nano, questions, batch_size=8))
    assert [rows >= 2 for _, rows in joined] == [True] * len(joined)


def test_pages_that_fail_take_no_others_along_and_no_row(nano, questions, alone, joined, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n broken")
    bad = OcrRequest((Page(str(broken)),), "ocr")
    absent = OcrRequest((Page(str(tmp_path / "absent.png")),), "ocr")
    asked = [bad, *questions[:5], absent, bad, bad, bad, bad, *questions[5:], bad]
    results = list(read_requests(nano, asked, batch_size=4))
    assert [result.request for result in results] == asked
    failed = [index for index, result in enumerate(results) if isinstance(result, FailedRequest)]
    assert failed == [0, 6, 7, 8, 9, 10, 18]
    assert results[6].cause.startswith(f"{tmp_path}/absent.png: ")
    assert [result.text for result in results if not isinstance(result, FailedRequest)] == [
        answer.text for answer in alone
    ]
    assert joined[0] == (0, 4)  # the broken one took no row
    assert list(read_requests(nano, [bad] * 9, batch_size=2)) == [FailedRequest(bad, results[0].cause)] * 9
    assert list(read_requests(nano, [], batch_size=2)) == []


def test_no_more_is_begun_than_so_many_batches_ahead_of_a_slow_page(nano, questions, monkeypatch):
    monkeypatch.setattr(continuous, "AHEAD", 2)
    begun, ahead, given = [], [], 0

    def asked():
        for request in questions:  # the first is the slowest
            begun.append(request)
            ahead.append(len(begun) - given)
            yield request

    results = read_requests(nano, asked(), batch_size=2)
    assert not begun  # nothing is opened before it is asked for
    for _ in results:
        given += 1
    assert (given, max(ahead)) == (12, 4)


def test_seconds_are_shares_that_sum_up_to_what_all_took(nano, questions):
    began = time.perf_counter()
    answers = list(read_requests(nano, questions, batch_size=4))
    took = time.perf_counter() - began
    assert 0.5 * took < sum(answer.seconds for answer in answers) <= took
    assert min(answer.seconds for answer in answers) > 0


def test_dropout_is_as_it_was_once_all_is_read(nano, questions):
    nano.model.train()
    try:
        results = read_requests(nano, questions[1:4], batch_size=2)
        next(results)
        assert not any(layer.training for layer in nano.model.sublayers(include_self=True))
        list(results)
        assert all(layer.training for layer in nano.model.sublayers(include_self=True))
    finally:
        nano.model.eval()


def test_loops_are_read_again_as_one_by_one_and_tiles_share_the_batch(tmp_path, monkeypatch):
    """A random model says a token twice now and then: a loop here, which a second reading does not mend."""
    monkeypatch.setattr(
        hypothesis,
        "RepetitionDetector",
        lambda _: RepetitionDetector(RepetitionRule(min_repeats=2, min_tokens=2)),
    )
    checkpoint = tiny_checkpoint(tmp_path / "model")
    random = load_pipeline(checkpoint, no_repeat_ngram_size=0, max_new_tokens=24, retry_loops=True)
    asked, retries = [], []
    for number, task in enumerate(("ocr", "multi_crop_ocr", "ocr", "ocr", "multi_crop_ocr")):
        picture(number).save(tmp_path / f"{number}.png")
        asked.append(OcrRequest((Page(str(tmp_path / f"{number}.png")),), task))
    single = list(random.read(asked))
    again = _Row.again
    monkeypatch.setattr(_Row, "again", lambda row: retries.append(row.reading.prompt.request) or again(row))
    together = list(read_requests(random, asked, batch_size=3))
    looped = [answer.request for answer in single if answer.finished == "loop"]
    assert looped and sorted(map(str, retries)) == sorted(map(str, looped))
    for ours, alone in zip(together, single, strict=True):
        assert (ours.request, ours.ids, ours.finished) == (alone.request, alone.ids, alone.finished)
    heard = {}
    for answer in read_requests(random, asked, 3, lambda page, text: heard.setdefault(page, []).append(text)):
        assert "".join(heard[answer.request]).startswith(answer.text)  # what a loop takes back was shown
    assert len(retries) == len(looped)  # none where somebody looks on


def test_a_job_that_is_interrupted_goes_on_to_the_files_of_one_by_one(
    nano, folder, tmp_path, monkeypatch, capfd
):
    monkeypatch.setattr(
        job,
        "load_pipeline",
        lambda *_, adapter, **settings: OcrPipeline(nano.model, nano.tokenizer, **settings),
    )

    def run(name, *flags):
        start = ["--model-name-or-path", NANO, "--no-cpu-tuning", "--image-file", folder]
        code = infer.main([str(word) for word in (*start, "--output-dir", tmp_path / name, *flags)])
        return code, capfd.readouterr().err

    assert run("whole")[0] == 0
    steps, step = [], OcrBatch.step

    def interrupted(batch):
        steps.append(len(batch))
        if len(steps) == 30:
            raise KeyboardInterrupt
        return step(batch)

    with monkeypatch.context() as patched:
        patched.setattr(OcrBatch, "step", interrupted)
        assert run("torn", "--batch-size", "3")[0] == 130
    journal = tmp_path / "torn" / "journal.jsonl"
    done = journal.read_bytes().count(b"\n") - 1
    assert 1 <= done < 12
    code, err = run("torn", "--batch-size", "3")
    assert (code, err.splitlines()[0]) == (0, f"infer: {done} of 12 were read before, see {journal}")
    for number in range(1, 13):
        name = f"{number}.txt"
        assert (tmp_path / "torn" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    files = [json.loads(row)["file"] for row in journal.read_text().splitlines()[1:]]
    assert files == [f"{folder}/{number}.png" for number in range(1, 13)]  # each once, in their order
