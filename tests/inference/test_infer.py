"""infer.py as a user meets it: flags, what goes to stdout, stderr and files, exit codes, refusals."""

import argparse
import io
import json
import os
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

import infer
from got_train.cli.infer import parser
from got_train.inference import job
from got_train.inference import reader as reading
from got_train.inference.journal import ProgressFile
from got_train.inference.options import InferenceOptions
from got_train.inference.reader import OcrRequest, Page, load_pipeline

from .test_reading import picture, tiny_checkpoint

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def reader(checkpoint):
    return load_pipeline(checkpoint, max_new_tokens=10)


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scans")
    for number in (1, 2):
        picture(number).save(folder / f"p{number}.png")
    return folder


@pytest.fixture
def run(checkpoint, reader, monkeypatch, capfd):
    """Calls infer.main with a model that is loaded once; gives exit code, stdout and stderr."""

    def loaded(folder, dtype, adapter=None, **settings):
        assert (str(folder), dtype, adapter) == (str(checkpoint), "float32", None)
        return reading.OcrPipeline(reader.model, reader.tokenizer, **settings)

    monkeypatch.setattr(job, "load_pipeline", loaded)

    def call(*arguments):
        start = ["--model_name_or_path", checkpoint, "--no-cpu-tuning", "--max-new-tokens", "10"]
        code = infer.main([str(word) for word in [*start, *arguments]])
        return code, *capfd.readouterr()

    return call


def read(reader, *paths, task="ocr", **asked):
    """The answer of got_train.inference.reader, whose own tests compare it with prompts and generate."""
    pages = tuple(Page(str(path)) if isinstance(path, Path) else path for path in paths)
    return next(reader.read([OcrRequest(pages, task, **asked)]))


def test_the_text_of_one_page_is_all_that_goes_to_stdout(run, reader, scans):
    code, out, err = run("--image_file", scans / "p1.png")
    answer = read(reader, scans / "p1.png")
    assert answer.text
    assert (code, out) == (0, answer.text + "\n")
    assert err.startswith(f"[1/1] {scans}/p1.png: 10 tokens, ")
    assert err.endswith("s; no end within the limit, the text is cut\n")


@pytest.mark.parametrize(
    ("flags", "task", "asked"),
    [
        (["--ocr_type", "format"], "format", {}),
        (["--box", "[9,6,45,30]"], "ocr", {"box": [9, 6, 45, 30]}),
        (["--box", "9, 6", "--ocr_type", "format"], "format", {"box": [9, 6]}),
        (["--color", "green"], "ocr", {"color": "green"}),
        (["--multi_crop"], "multi_crop_ocr", {}),
        (["--multi_crop", "--ocr_type", "format"], "multi_crop", {}),
    ],
)
def test_flags_choose_the_prompt(run, reader, scans, flags, task, asked):
    code, out, _ = run("--image_file", scans / "p1.png", *flags)
    assert (code, out) == (0, read(reader, scans / "p1.png", task=task, **asked).text + "\n")


def test_max_crops_and_no_repeat_ngram_size_reach_the_reader(run, scans, monkeypatch):
    seen = {}

    def watched(reader, questions, *_):
        seen.update(vars(reader))
        return iter([reading.FailedRequest(next(questions), "stopped here")])

    monkeypatch.setattr(reading.OcrPipeline, "read", watched)
    run("--image_file", scans / "p1.png", "--max-crops", "2", "--no-repeat-ngram-size", "0")
    assert (seen["max_crops"], seen["no_repeat_ngram_size"], seen["max_new_tokens"]) == (2, 0, 10)


def test_several_pages_are_told_apart_and_batches_change_nothing(run, reader, scans):
    expected = "".join(
        f"==> {scans}/p{number}.png <==\n{read(reader, scans / f'p{number}.png').text}\n" for number in (1, 2)
    )
    for names in ([scans], [scans / "p*.png"], [scans / "p1.png", scans / "p2.png"]):
        assert run("--image_file", *names, "--batch-size", "2")[:2] == (0, expected)
    assert run("--image_file", scans / "p1.png", "--image_file", scans / "p2.png")[1] == expected


def test_pages_of_a_pdf_as_json_lines(run, reader, tmp_path):
    pdf = tmp_path / "doc.pdf"
    picture(1).save(pdf, save_all=True, append_images=[picture(number) for number in (2, 3, 4)])
    code, out, _ = run("--image_file", pdf, "--pages", "2-3", "--json", "--confidence")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [row["page"] for row in rows] == [2, 3]
    for row in rows:
        answer = read(reader, Page(str(pdf), row["page"]))
        assert (row["file"], row["text"], row["finished"]) == (str(pdf), answer.text, "length")
        assert row["confidence"] == pytest.approx(answer.confidence, abs=1e-4)
        assert row["lowest"] == pytest.approx(answer.lowest, abs=1e-4)
        assert row["seconds"] > 0
        assert [text for text, _ in row["tokens"]] == [text for text, _ in reader.token_texts(answer)]


def test_all_pages_as_one_sample(run, reader, scans):
    files = [scans / "p1.png", scans / "p2.png"]
    code, out, _ = run("--image_file", *files, "--multi_page", "--ocr_type", "format", "--json")
    row = json.loads(out)
    assert code == 0
    assert row["text"] == read(reader, *files, task="multi_page").text
    assert (row["file"], row["page"]) == ([str(file) for file in files], [None, None])


def test_files_take_the_texts_and_a_page_of_html(run, reader, scans, tmp_path):
    code, out, _ = run(
        "--image_file", scans, "--output-dir", tmp_path / "out", "--ocr_type", "format", "--render"
    )
    assert (code, out) == (0, "")
    made = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert made == [".lock", "journal.jsonl", "p1.html", "p1.mmd", "p2.html", "p2.mmd"]
    text = read(reader, scans / "p2.png", task="format").text
    assert (tmp_path / "out" / "p2.mmd").read_text(encoding="utf-8") == text + "\n"
    code, out, _ = run("--image_file", scans / "p1.png", "--output-dir", tmp_path / "plain")
    assert sorted(path.name for path in (tmp_path / "plain").iterdir()) == [
        ".lock",
        "journal.jsonl",
        "p1.txt",
    ]


def test_the_page_of_html_goes_where_it_is_told(run, reader, scans, tmp_path):
    target = tmp_path / "demo.html"
    code, out, _ = run("--image_file", scans / "p1.png", "--render", "--save_render_file", target)
    assert (code, out) == (0, read(reader, scans / "p1.png").text + "\n")
    assert target.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_the_page_of_html_goes_into_the_current_folder_unless_told(run, scans, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = run("--image_file", scans, "--render")
    assert code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p1.html", "p2.html"]
    assert err.splitlines()[1].endswith(" -> p2.html")


def test_streamed_text_equals_the_text(run, scans):
    for flags in ([], ["--ocr_type", "format"]):
        plain = run("--image_file", scans, *flags)
        streamed = run("--image_file", scans, *flags, "--stream")
        assert streamed[:2] == plain[:2]


def test_confidence_is_told_beside_the_progress(run, reader, scans):
    answer = read(reader, scans / "p1.png")
    err = run("--image_file", scans / "p1.png", "--confidence")[2]
    assert f", confidence {answer.confidence:.3f}, lowest {answer.lowest:.3f};" in err


def test_a_broken_page_is_listed_at_the_end_with_its_cause_and_exit_code_1(run, reader, scans, tmp_path):
    for name in ("a.png", "c.png"):
        (tmp_path / name).write_bytes((scans / "p1.png").read_bytes())
    (tmp_path / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    code, out, err = run("--image_file", tmp_path, "--batch-size", "3", "--json")
    assert code == 1
    assert [Path(json.loads(line)["file"]).name for line in out.splitlines()] == ["a.png", "c.png"]
    assert f"[2/3] {tmp_path}/b.png: failed\n" in err
    *_, before, last = err.splitlines()
    assert before == "infer: 1 of 3 failed:"
    assert last.startswith(f"  {tmp_path}/b.png: not a picture, or damaged at its start")


def test_a_box_that_fits_the_first_page_only_is_a_failure_of_the_second(run, scans, tmp_path):
    picture(3, (40, 30)).save(tmp_path / "small.png")
    code, out, err = run("--image_file", scans / "p1.png", tmp_path / "small.png", "--box", "50,10,80,50")
    assert code == 1
    assert out.startswith(f"==> {scans}/p1.png <==")
    assert f"{tmp_path}/small.png: box: [50, 10, 80, 50] leaves the image; x must be in 0..40" in err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--box", "[1,2,3]"], "box: cannot read '[1,2,3]'; write 4 numbers"),
        (["--box", "__import__('os')"], "box: cannot read \"__import__('os')\"; write 4 numbers"),
        (["--box", "50,10,20,40"], "box: [50, 10, 20, 40] is reversed or empty"),
        (["--box", "5,10,200,40"], "box: [5, 10, 200, 40] leaves the image; x must be in 0..90"),
        (["--box", "5,10,20,40", "--color", "red"], "box and color: got [5, 10, 20, 40] and red together"),
        (
            ["--box", "5,10,20,40", "--multi_crop"],
            "box: [5, 10, 20, 40] does not go with task multi_crop_ocr",
        ),
        (
            ["--color", "red", "--multi_page", "--ocr_type", "format"],
            "color: red does not go with task multi_page",
        ),
        (
            ["--multi_page"],
            "--multi-page: no prompt for plain text was ever trained; use --ocr-type format",
        ),
        (
            ["--multi_page", "--ocr_type", "format", "--multi_crop"],
            "--multi-page: does not go with --multi-crop",
        ),
        (["--stream", "--json"], "--stream: shows one page at a time"),
        (["--stream", "--batch-size", "2"], "--stream: shows one page at a time"),
        (["--batch-size", "0"], "--batch-size: 0; expected at least 1"),
        (["--no-repeat-ngram-size", "-1"], "--no-repeat-ngram-size: -1; expected at least 0"),
        (["--max-new-tokens", "0"], "--max-new-tokens: 0; expected at least 1"),
        (["--threads", "0"], "--threads: 0; expected at least 1"),
        (
            ["--encoder-dtype", "bfloat16", "--dtype", "float16"],
            "--encoder-dtype bfloat16: got --dtype float16; use --dtype float32",
        ),
        (
            ["--decoder-dtype", "bfloat16", "--dtype", "bfloat16"],
            "--decoder-dtype bfloat16: got --dtype bfloat16; use --dtype float32",
        ),
        (["--crop", "auto", "--multi_crop"], "--crop auto: does not go with --multi-crop"),
        (["--crop", "auto", "--box", "1,2,3,4"], "--crop auto: boxes are read in one view"),
        (["--group-by", "document"], "--group-by document: writes files; add --output-dir"),
        (["--mark-below", "1.5"], "--mark-below: 1.5; expected a probability above 0"),
        (["--mark-below", "0.5", "--stream"], "--mark-below: marks whole answers"),
        (["--stream", "--num-beams", "2"], "--stream: no word is final with --num-beams 2"),
        (["--num-beams", "0"], "--num-beams: 0; expected at least 1"),
        (["--num-beams", "65"], "--num-beams: 65; expected at most 64"),
        (["--output-dir", ""], "--output-dir: an empty name"),
        (["--save_render_file", "x.md"], "--save-render-file: x.md; add --format md"),
        (["--tables", "pipes"], "--tables pipes: is a choice of Markdown; add --format md"),
        (["--srt"], "--srt: pages have no times; use it with --video-file"),
        (["--pages", "3-1"], "pages: '3-1' runs backwards; write 1-3"),
        (["--pages", "1-2"], "pages: "),
        (["--prompt-template", "hub"], "--prompt-template: hub; this checkpoint needs repo"),
    ],
)
def test_wrong_flags_are_refused_with_exit_code_2(run, scans, flags, message):
    code, out, err = run("--image_file", scans / "p1.png", *flags)
    assert (code, out) == (2, "")
    assert err.startswith(f"infer: {message}")
    assert err.count("\n") == 1


def test_inputs_that_cannot_be_are_refused_with_exit_code_2(run, scans, tmp_path):
    twin = tmp_path / "p1.png"
    picture(3).save(twin)
    both = ["--image_file", scans / "p1.png", twin]
    for arguments, message in (
        (["--image_file", tmp_path / "absent.png"], f"{tmp_path}/absent.png: no such file"),
        ([*both, "--output-dir", tmp_path / "out"], f"p1: the name of {scans}/p1.png and of {twin}"),
        ([*both, "--render"], f"p1: the name of {scans}/p1.png and of {twin}"),
        ([*both, "--save_render_file", "x.html"], "--save-render-file: one file for 2 pages"),
    ):
        code, out, err = run(*arguments)
        assert (code, out) == (2, "")
        assert err.startswith(f"infer: {message}")
    assert not (tmp_path / "out").exists()


def test_the_checkpoints_own_template_may_be_named(run, scans):
    assert run("--image_file", scans / "p1.png", "--prompt-template", "repo")[0] == 0


@pytest.mark.parametrize(
    "flags", [["--ocr_type", "html"], ["--color", "pink"], ["--batch-size", "x"], ["--image", "x"], []]
)
def test_argparse_refuses_with_exit_code_2(flags, capfd):
    with pytest.raises(SystemExit) as stopped:
        infer.main(["--model_name_or_path", "x", *flags])
    assert stopped.value.code == 2
    assert "usage: got infer" in capfd.readouterr().err


def test_a_checkpoint_that_is_none_is_refused(scans, tmp_path, capfd):
    for folder, message in ((tmp_path / "absent", "no such folder"), (tmp_path, "no tokenizer here")):
        code = infer.main(
            ["--model_name_or_path", str(folder), "--image_file", str(scans / "p1.png"), "--no-cpu-tuning"]
        )
        assert code == 2
        assert capfd.readouterr().err.startswith(f"infer: {folder}: {message}")


def test_control_c_ends_with_130_and_one_line(run, scans, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(reading.OcrPipeline, "read", interrupted)
    assert run("--image_file", scans / "p1.png") == (130, "", "infer: interrupted\n")


def test_weights_that_give_no_numbers_are_told_in_one_line(run, reader, scans):
    bias = reader.model.projector.bias
    before = bias.clone()
    bias.set_value(before * float("nan"))
    try:
        code, out, err = run("--image_file", scans / "p1.png")
    finally:
        bias.set_value(before)
    assert (code, out) == (2, "")
    assert err.startswith("infer: token 1: the logits hold nan or inf")


def test_an_output_that_cannot_be_written_ends_with_1_and_one_line(run, scans, tmp_path):
    code, _, err = run("--image_file", scans / "p1.png", "--save_render_file", scans / "p1.png" / "x.html")
    assert code == 1
    assert "File exists" in err.splitlines()[-1]


def lines_of(text):
    return [json.loads(line) for line in text.splitlines()]


def test_names_on_stdin_are_read_in_their_order(run, reader, scans, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{scans}/p2.png\n\n{scans}/p1.png\n"))
    code, out, _ = run("--image_file", "-", "--json")
    assert code == 0
    assert [row["file"] for row in lines_of(out)] == [f"{scans}/p2.png", f"{scans}/p1.png"]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    code, _, err = run("--image_file", "-")
    assert (code, err) == (2, "infer: --image-file: nothing on stdin; expected one path a line\n")


def test_a_second_run_reads_what_the_first_has_not_and_gives_the_same_files(run, scans, tmp_path):
    for number in (1, 2, 3, 4):
        (tmp_path / f"p{number}.png").write_bytes((scans / f"p{1 + number % 2}.png").read_bytes())
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    assert run("--image_file", tmp_path, "--output-dir", whole)[0] == 0
    run("--image_file", tmp_path / "p1.png", tmp_path / "p2.png", "--output-dir", torn)
    journal = torn / "journal.jsonl"
    rows = journal.read_bytes().splitlines(keepends=True)
    assert len(rows) == 3  # settings, two pages
    journal.write_bytes(b"".join(rows[:2]) + rows[2][:30])  # killed while it wrote the second row
    (torn / "p1.txt").write_text("not written again")
    code, _, err = run("--image_file", tmp_path, "--output-dir", torn, "--batch-size", "2")
    assert code == 0
    notes, _, rest = err.partition("\n")
    assert notes == f"infer: {tmp_path}: not read: 2 sub-folders"  # the outputs
    assert rest.startswith(f"infer: 1 of 4 were read before, see {journal}\n[2/4] {tmp_path}/p2.png: ")
    assert " pages/s, 0:00:0" in err
    assert (torn / "p1.txt").read_text() == "not written again"
    for name in ("p2.txt", "p3.txt", "p4.txt"):
        assert (torn / name).read_bytes() == (whole / name).read_bytes()
    keys = [row["file"] for row in lines_of(journal.read_text())[1:]]
    assert keys == [f"{tmp_path}/p{number}.png" for number in (1, 2, 3, 4)]


def test_a_page_that_changed_or_failed_is_read_again(run, scans, tmp_path):
    (tmp_path / "a.png").write_bytes((scans / "p1.png").read_bytes())
    (tmp_path / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    arguments = ["--image_file", tmp_path, "--output-dir", tmp_path / "out"]
    assert run(*arguments)[0] == 1
    picture(4).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((scans / "p2.png").read_bytes())
    code, _, err = run(*arguments)
    assert (code, "read before" in err) == (0, False)
    assert run(*arguments)[2] == (
        f"infer: {tmp_path}: not read: 1 sub-folder\n"
        f"infer: 2 of 2 were read before, see {tmp_path}/out/journal.jsonl\n"
    )


def test_other_settings_in_the_same_folder_are_refused(run, scans, tmp_path):
    arguments = ["--image_file", scans / "p1.png", "--output-dir", tmp_path]
    assert run(*arguments)[0] == 0
    code, _, err = run(*arguments, "--num-beams", "2")
    assert code == 2
    assert err == (
        f"infer: {tmp_path}/journal.jsonl: read with num_beams 1, now 2; use another --output-dir, or the "
        "same settings to go on\n"
    )


def test_a_job_that_was_killed_goes_on_to_the_same_files(run, checkpoint, scans, tmp_path):
    pages, whole, torn = tmp_path / "pages", tmp_path / "whole", tmp_path / "torn"
    pages.mkdir()
    for number in range(1, 31):
        (pages / f"{number}.png").write_bytes((scans / f"p{1 + number % 2}.png").read_bytes())
    flags = ["--image_file", pages, "--output-dir", torn]
    start = [sys.executable, "infer.py", "--model_name_or_path", checkpoint, "--max-new-tokens", "10"]
    with subprocess.Popen(
        [str(word) for word in (*start, *flags, "--threads", "1")], cwd=ROOT, stderr=subprocess.DEVNULL
    ) as job:
        journal, until = torn / "journal.jsonl", time.monotonic() + 60
        while not journal.exists() or journal.read_bytes().count(b"\n") < 5:
            assert job.poll() is None and time.monotonic() < until
            time.sleep(0.001)
        job.kill()
    done = journal.read_bytes().count(b"\n") - 1
    assert 4 <= done < 30
    code, _, err = run(*flags)
    assert (code, err.splitlines()[0]) == (0, f"infer: {done} of 30 were read before, see {journal}")
    assert run("--image_file", pages, "--output-dir", whole)[0] == 0
    for number in range(1, 31):
        assert (torn / f"{number}.txt").read_bytes() == (whole / f"{number}.txt").read_bytes()
    files = [row["file"] for row in lines_of(journal.read_text())[1:]]
    assert files == [f"{pages}/{number}.png" for number in range(1, 31)]  # each once


def test_a_second_job_in_the_same_folder_is_refused(run, scans, tmp_path):
    with ProgressFile(tmp_path, {}):
        code, out, err = run("--image_file", scans / "p1.png", "--output-dir", tmp_path)
    assert (code, out) == (2, "")
    assert err.startswith(f"infer: --output-dir {tmp_path}: in use by process {os.getpid()} on ")


def test_a_page_is_read_again_if_its_text_is_gone_or_it_changed_while_it_was_read(run, scans, tmp_path):
    page, out = tmp_path / "a.png", tmp_path / "out"
    page.write_bytes((scans / "p1.png").read_bytes())
    arguments = ["--image_file", page, "--output-dir", out]
    assert run(*arguments)[0] == 0
    (out / "a.txt").unlink()
    assert "read before" not in run(*arguments)[2]
    first = (out / "a.txt").read_text()
    with ProgressFile(tmp_path / "other", {}) as journal:
        journal.begin([Page(str(page))])
        picture(4).save(page)
        journal.add([Page(str(page))], {"text": first})
        assert not journal.has([Page(str(page))])


def test_a_name_that_is_not_utf8_is_a_name(run, scans, tmp_path, monkeypatch):
    page = os.fsencode(tmp_path) + b"/\xff.png"
    try:
        Path(os.fsdecode(page)).write_bytes((scans / "p1.png").read_bytes())
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    arguments = ["--image_file", "-", "--output-dir", tmp_path / "out", "--json"]
    outs = []
    for _ in range(2):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(page + b"\n"), encoding="utf-8"))
        code, out, err = run(*arguments)
        assert code == 0, err
        outs.append(out)
    assert [json.loads(line)["file"] for line in outs[0].splitlines()] == [os.fsdecode(page)]
    assert outs[1] == "" and "1 of 1 were read before" in err


def test_rows_of_no_page_and_files_on_one_another_are_refused(run, scans, tmp_path):
    page, out = tmp_path / "a.png", tmp_path / "out"
    page.write_bytes((scans / "p1.png").read_bytes())
    assert run("--image_file", page, "--output-dir", out)[0] == 0
    with open(out / "journal.jsonl", "a") as file:
        file.write("{}\n")
    for arguments, message in (
        (["--output-dir", out], f"{out}/journal.jsonl: b'{{}}\\n' is not the row of a page; move"),
        (["--ocr_type", "spot", "--draw", page], f"{page}: is an input and would be overwritten"),
        (["--format", "txt", "--output-dir", out], f"{out}/a.txt: would be written twice"),
        (["--output-dir", page], f"--output-dir: {page} is a file; expected a folder"),
    ):
        code, _, err = run("--image_file", page, *arguments)
        assert (code, err[: 7 + len(message)]) == (2, f"infer: {message}")
    assert page.read_bytes() == (scans / "p1.png").read_bytes()


def test_one_file_a_document_is_written_when_its_pages_are_there(run, reader, tmp_path):
    pdf, out = tmp_path / "doc.pdf", tmp_path / "out"
    picture(1).save(pdf, save_all=True, append_images=[picture(2), picture(3)])
    arguments = ["--image_file", pdf, "--output-dir", out, "--group-by", "document"]
    run(*arguments, "--pages", "1")
    first = read(reader, Page(str(pdf), 1)).text
    assert (out / "doc.txt").read_text(encoding="utf-8") == first + "\n"
    assert run(*arguments)[2].startswith("infer: 1 of 3 were read before")
    texts = [read(reader, Page(str(pdf), number)).text for number in (1, 2, 3)]
    assert (out / "doc.txt").read_text(encoding="utf-8") == "\n\n".join(texts) + "\n"
    (out / "doc.txt").unlink()
    assert run(*arguments)[0] == 0  # as after a kill between the last page and the document
    assert (out / "doc.txt").exists()


def test_doubtful_words_are_marked_in_text_and_named_in_json(run, reader, scans):
    answer = read(reader, scans / "p1.png")
    words = reader.spans(answer, "word")
    least = min(word.confidence for word in words)
    doubtful = [word for word in words if word.confidence == least]
    flags = ["--image_file", scans / "p1.png", "--mark-below", f"{least * 1.0000001}"]
    out = run(*flags)[1]
    assert out.count("[?") == len(doubtful)
    assert f"[?{doubtful[0].text}?]" in out
    assert out.replace("[?", "").replace("?]", "") == answer.text + "\n"
    row = json.loads(run(*flags, "--json", "--confidence")[1])
    assert [[text, start] for text, start, _ in row["doubtful"]] == [
        [word.text, word.start] for word in doubtful
    ]
    assert [word for word, _, _ in row["words"]] == answer.text.split()
    assert row["calibrated"] is False


def test_crop_auto_cuts_pages_of_small_lines_only_and_says_so(run, scans, tmp_path):
    page = Image.new("RGB", (400, 400), "white")
    for line in range(20):
        ImageDraw.Draw(page).text((10, 10 + 18 * line), "small letters on a wide page " * 2, fill="black")
    page.save(tmp_path / "small.png")
    large = page.crop((0, 0, 64, 64)).resize((64, 64))
    large.save(tmp_path / "large.png")
    code, out, err = run("--image_file", tmp_path, "--crop", "auto", "--json")
    rows = {Path(row["file"]).stem: row for row in lines_of(out)}
    assert code == 0
    assert rows["small"]["task"] == "multi_crop_ocr"
    assert 1 < rows["small"]["line_height"] < 4  # 12 or so of 400 pixels, in a view of 64
    assert rows["large"]["task"] == "ocr"
    assert ", tiles: lines of 2 px in one view" in err


def test_beams_and_bans_reach_the_reader(run, scans, monkeypatch):
    seen = {}

    def watched(reader, questions, *_):
        seen.update(vars(reader))
        return iter([reading.FailedRequest(next(questions), "stopped here")])

    monkeypatch.setattr(reading.OcrPipeline, "read", watched)
    flags = ["--num-beams", "3", "--ngram-window", "90", "--allow-table-repeats", "--no-retry"]
    run("--image_file", scans / "p1.png", *flags)
    kept = ("num_beams", "ngram_window", "allow_table_repeats", "retry_loops")
    assert [seen[name] for name in kept] == [3, 90, True, False]


def test_help_takes_less_than_a_second_and_names_every_flag(processor_seconds):
    started = processor_seconds()
    shown = subprocess.run([sys.executable, "infer.py", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert processor_seconds() - started < 1
    assert shown.returncode == 0
    for action in parser()._actions:
        assert action.option_strings[-1] in shown.stdout


def test_a_process_of_its_own_prints_the_text_and_nothing_else(checkpoint, reader, scans):
    command = [
        sys.executable,
        "infer.py",
        "--model_name_or_path",
        checkpoint,
        "--image_file",
        scans / "p1.png",
    ]
    done = subprocess.run(
        [*map(str, command), "--max-new-tokens", "10", "--threads", "1"], cwd=ROOT, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode("utf-8") == read(reader, scans / "p1.png").text + "\n"


def test_every_flag_is_a_field_of_the_options_and_has_its_default_there():
    actions = [action for action in parser()._actions if action.dest != "help"]
    assert {action.dest for action in actions} == {field.name for field in fields(InferenceOptions)}
    assert all(action.default is argparse.SUPPRESS for action in actions)


def test_gots_own_spellings_are_the_same_flags():
    spellings = [
        "--model_name_or_path a --image_file b --ocr_type format --multi_page --save_render_file c.html",
        "--model-name-or-path a --image-file b --ocr-type format --multi-page --save-render-file c.html",
        "--model-name a --image-file b --ocr-type format --multi-page --save-render-file c.html",
    ]
    given = [InferenceOptions(**vars(parser().parse_args(words.split()))) for words in spellings]
    assert given[0] == given[1] == given[2]
    assert (given[0].model_name_or_path, given[0].image_file, given[0].task) == ("a", ["b"], "multi_page")
