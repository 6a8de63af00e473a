"""The endpoint that other programs call, with real clients: answers, batches, refusals, ends."""

import base64
import contextlib
import http.client
import io
import json
import logging
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from PIL import Image

pytest.importorskip("python_multipart")
pytest.importorskip("prometheus_client")

from got_train.app import remote
from got_train.app.api import Api, ApiConfig
from got_train.app.chat import NEUTRAL, UnknownModelError, parse
from got_train.app.uploads import Uploads
from got_train.cli import serve as command
from got_train.errors import RequestError
from got_train.images import EncodedImage
from got_train.inference.batch import OcrBatch, Reading
from got_train.inference.reader import Decoding, OcrRequest, Page, TextStreamer, load_pipeline
from got_train.inference.scheduler import Scheduler, SchedulerConfig
from tests.app import serving as shared
from tests.app.serving import LINES, listening
from tests.app.test_hostile_requests import VALUES

ROOT = Path(__file__).parents[2]
NANO = ROOT / "configs" / "nano" / "weights" / "stage3"
WORDS = ("license", "copyright", "notice", "the", "source", "code", "this", "list", "conditions")


def picture(*lines, seed=0):
    return shared.as_file(shared.picture(*lines, seed=seed))


def data_url(data, kind="image/png"):
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def body(data=None, text="OCR: ", **more):
    content = [{"type": "text", "text": text}]
    if data is not None:
        content.append({"type": "image_url", "image_url": {"url": data_url(data)}})
    return {"model": "nano", "messages": [{"role": "user", "content": content}], **more}


@contextlib.contextmanager
def serving(folder, pipelines, limits=None, **api):
    folder.mkdir(exist_ok=True)
    scheduler = Scheduler(pipelines.get, list(pipelines), limits)
    made = Api(scheduler, Uploads(folder, 1 << 20), ApiConfig(**api))
    config = uvicorn.Config(made.app, log_level="warning", timeout_graceful_shutdown=5)
    with listening(config) as port:
        yield Client(port, scheduler)


class Client:
    def __init__(self, port, scheduler):
        self.port, self.scheduler = port, scheduler
        self.url = f"http://127.0.0.1:{port}"

    def send(self, method, path, data=None, **headers):
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        if isinstance(data, dict):
            data, headers = json.dumps(data), {"Content-Type": "application/json", **headers}
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        line.request(method, path, data, headers)
        return line.getresponse()

    def ask(self, data, **headers):
        answer = self.send("POST", "/v1/chat/completions", data, **headers)
        return answer.status, json.loads(answer.read())

    def metrics(self):
        from prometheus_client.parser import text_string_to_metric_families

        text = self.send("GET", "/metrics").read().decode()
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return {(sample.name, *sorted(sample.labels.values())): sample.value for sample in samples}


def until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def pipeline():
    return load_pipeline(NANO, retry_loops=True)


@pytest.fixture(scope="module")
def client(tmp_path_factory, pipeline):
    with serving(tmp_path_factory.mktemp("api"), {"nano": pipeline}) as made:
        yield made


@pytest.fixture(scope="module")
def page():
    return picture(*LINES)


def read_alone(pipeline, data, task="ocr", **more):
    return next(pipeline.read([OcrRequest((Page(EncodedImage("a.png", data)),), task, **more)]))


def test_the_openai_package_reads_a_page_whole_and_in_pieces(client, pipeline, page):
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=f"{client.url}/v1", api_key="none", max_retries=0) as api:
        assert [model.id for model in api.models.list()] == ["nano"]
        assert api.models.retrieve("nano").owned_by == "got_train"
        alone = read_alone(pipeline, page)
        asked = body(page, logprobs=True)
        whole = api.chat.completions.create(**asked)
        choice = whole.choices[0]
        assert (
            (choice.message.content, choice.finish_reason)
            == (alone.text, "stop")
            == ("\n".join(LINES), "stop")
        )
        tokens = choice.logprobs.content
        assert b"".join(bytes(token.bytes) for token in tokens).decode().strip() == alone.text
        assert [token.logprob for token in tokens] == pytest.approx(alone.log_probs[:-1], abs=1e-4)
        assert whole.usage.completion_tokens == len(alone.ids)
        assert whole.usage.prompt_tokens == len(pipeline.prepare(alone.request).ids)
        pieces = list(
            api.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
        )
        texts = [piece.choices[0].delta.content or "" for piece in pieces if piece.choices]
        assert "".join(texts) == alone.text
        assert sum(map(bool, texts)) > 1
        assert pieces[-2].choices[0].finish_reason == "stop"
        assert pieces[-2].choices[0].logprobs.content == tokens
        assert pieces[-1].usage == whole.usage
        box = [30, 50, 70, 80]  # pixels of its 128 x 128
        extra = {"task": "ocr", "box": box}
        part = api.chat.completions.create(**body(page, text=""), extra_body=extra)
        assert part.choices[0].message.content == read_alone(pipeline, page, box=box).text
        with pytest.raises(openai.BadRequestError, match="text: 'Who are you"):
            api.chat.completions.create(**body(page, text="Who are you?"))
        with pytest.raises(openai.NotFoundError, match="model: 'gpt'"):
            api.chat.completions.create(**(body(page) | {"model": "gpt"}))


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_sends_json_and_a_form(client, page, tmp_path):
    (tmp_path / "page.png").write_bytes(page)
    (tmp_path / "body.json").write_text(json.dumps(body(page)))
    url = f"{client.url}/v1/chat/completions"
    for more in (
        ["-H", "Content-Type: application/json", "-d", f"@{tmp_path / 'body.json'}"],
        [
            "-F",
            f"file=@{tmp_path / 'page.png'}",
            "-F",
            "model=nano",
            "-F",
            "task=ocr",
            "-F",
            "max_tokens=100",
        ],
    ):
        done = subprocess.run(["curl", "-sS", url, *more], capture_output=True, text=True, timeout=60)
        assert json.loads(done.stdout)["choices"][0]["message"]["content"] == "\n".join(LINES), done


def test_limits_and_stops_cut_an_answer(client, pipeline, page):
    alone = read_alone(pipeline, page)
    status, made = client.ask(body(page, max_tokens=3))
    assert (status, made["choices"][0]["finish_reason"]) == (200, "length")
    assert made["choices"][0]["message"]["content"] == pipeline.text_of(alone.ids[:3])
    for stream in (False, True):
        answer = client.send("POST", "/v1/chat/completions", body(page, stop=["urce", "zzz"], stream=stream))
        data = answer.read().decode()
        if stream:
            events = [json.loads(line[6:]) for line in data.split("\n\n") if line.startswith("data: {")]
            text = "".join(event["choices"][0]["delta"].get("content", "") for event in events)
            reason = events[-1]["choices"][0]["finish_reason"]
            assert data.endswith("data: [DONE]\n\n")
        else:
            choice = json.loads(data)["choices"][0]
            text, reason = choice["message"]["content"], choice["finish_reason"]
        assert (text, reason) == ("the\nso", "stop")


def test_a_stop_text_is_never_given_out_in_part():
    class Letters:
        def decode(self, ids):
            return "".join(map(chr, ids))

    for text in ("one two stop three", "a stst stop", "sto", "stostop"):
        streamer, given = TextStreamer(Letters(), ["stop", "never"]), ""
        for letter in text:
            given += streamer.add(ord(letter))
            assert "st" not in given[-2:] or "stst" in text
            if streamer.stopped:
                break
        whole = streamer.cut(text)
        given += streamer.flush(whole)
        assert given.strip() == text.split("stop")[0].strip() == whole.strip()


def test_a_temperature_draws_tokens_and_a_seed_repeats_them(client, page):
    def drawn(seed):
        return client.ask(body(page, temperature=2.0, seed=seed, max_tokens=12))[1]["choices"][0]["message"][
            "content"
        ]

    assert drawn(1) == drawn(1)
    assert len({drawn(seed) for seed in range(4)}) > 1


def test_requests_that_come_together_share_steps_and_read_what_each_reads_alone(pipeline, tmp_path):
    random = np.random.default_rng(3)
    pages = [picture(*random.choice(WORDS, 1 + number % 4), seed=number) for number in range(12)]
    expected = [read_alone(pipeline, data).text for data in pages]
    assert len(set(expected)) > 8
    config = SchedulerConfig(batch_size=4, wait_seconds=0.05)
    with serving(tmp_path / "api", {"nano": pipeline}, config) as client:
        texts = [None] * len(pages)

        def ask(number):
            texts[number] = client.ask(body(pages[number]))[1]["choices"][0]["message"]["content"]

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(pages))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        until(lambda: client.scheduler.running == 0)
        numbers = client.metrics()
    assert texts == expected
    tokens, steps = numbers["got_generated_tokens_total",], numbers["got_decoding_steps_total",]
    assert tokens > 2 * steps, (tokens, steps)
    assert numbers["got_requests_total", "200", "nano"] == 12
    assert numbers["got_request_seconds_count", "nano"] == 12
    assert numbers["got_requests_waiting",] == numbers["got_requests_running",] == 0


def test_two_models_take_turns_and_each_reads_as_it_does_alone(pipeline, page, tmp_path):
    pipelines = {"stage2": load_pipeline(NANO.with_name("stage2")), "stage3": pipeline}
    asked = [name for name in pipelines for _ in range(4)]
    with serving(tmp_path / "api", pipelines, SchedulerConfig(batch_size=2)) as client:
        texts = [None] * len(asked)

        def ask(number):
            answer = client.ask(body(page) | {"model": asked[number]})[1]
            texts[number] = answer["model"], answer["choices"][0]["message"]["content"]

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(asked))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert texts == [(name, read_alone(pipelines[name], page).text) for name in asked]


def endless(pipeline):
    """A pipeline whose answers come to no end before their limit: no token of it ends one."""
    tokenizer = pipeline.tokenizer

    class NoEnd(type(pipeline)):
        eos_token_ids = frozenset()

    return NoEnd(pipeline.model, tokenizer, stop_loops=False)


def test_a_full_queue_answers_429_and_a_client_that_goes_makes_room(pipeline, page, tmp_path):
    config = SchedulerConfig(batch_size=1, max_waiting=1)
    with serving(tmp_path / "api", {"nano": endless(pipeline)}, config) as client:
        scheduler, lines = client.scheduler, []

        def begin(stream):
            line = http.client.HTTPConnection("127.0.0.1", client.port)
            data = json.dumps(body(page, stream=stream))
            line.request("POST", "/v1/chat/completions", data, {"Content-Type": "application/json"})
            lines.append(line)

        for stream, running, waiting in ((True, 1, 0), (False, 1, 1)):
            begin(stream)
            until(lambda: (scheduler.running, scheduler.waiting) == (running, waiting))  # noqa: B023
        answer = client.send("POST", "/v1/chat/completions", body(page))
        assert (answer.status, answer.headers["Retry-After"]) == (429, "1")
        assert json.loads(answer.read())["error"]["code"] == "queue_full"
        lines[0].sock.close()  # the one that is read: the next takes its row
        until(lambda: (scheduler.running, scheduler.waiting) == (1, 0))
        lines[1].sock.close()
        until(lambda: (scheduler.running, scheduler.waiting) == (0, 0))


def test_a_request_that_takes_too_long_ends_with_504_and_leaves(pipeline, page, tmp_path):
    config = SchedulerConfig(timeout_seconds=0.3)
    with serving(tmp_path / "api", {"nano": endless(pipeline)}, config) as client:
        status, told = client.ask(body(page))
        assert (status, told["error"]["type"]) == (504, "server_error")
        answer = client.send("POST", "/v1/chat/completions", body(page, stream=True))
        assert '"error": {"message": "not finished within' in answer.read().decode()
        assert client.scheduler.running == 0


def test_a_fault_of_one_batch_is_told_and_the_next_request_is_answered(pipeline, page, tmp_path, monkeypatch):
    with serving(tmp_path / "api", {"nano": pipeline}) as client:
        monkeypatch.setattr(OcrBatch, "step", lambda self: 1 / 0)
        status, told = client.ask(body(page))
        assert (status, told["error"]["message"]) == (500, "ZeroDivisionError: see the server's log")
        monkeypatch.undo()
        assert client.ask(body(page))[0] == 200


@pytest.mark.parametrize(
    ("changed", "status", "refused"),
    [
        ({"model": None}, 404, "model: 'None'; expected one of nano"),
        ({"tasks": "ocr"}, 400, "tasks: no such field; did you mean task?"),
        ({"n": 2}, 400, "n: '2' is not supported; leave it out"),
        ({"top_k": 50, "temperature": 0.6}, 400, "top_k: '50' is not supported; leave it out"),
        ({"top_k": "50"}, 400, "top_k: '50' is not supported; leave it out"),
        ({"task": "read"}, 400, "task: 'read'; expected one of ocr"),
        ({"task": "spot", "crop": "multi"}, 400, "crop: multi with task spot"),
        ({"box": [1, 2, 3]}, 400, "box: [1, 2, 3]; expected x1, y1, x2, y2"),
        ({"box": [0, 0, 5000, 10]}, 400, "picture 2.png: box: [0, 0, 5000, 10] leaves the image"),
        ({"color": "pink"}, 400, "picture 2.png: color must be one of red, green, blue"),
        ({"pages": "2"}, 400, "picture 2.png: no page 2; expected 1 to 1"),
        ({"pages": "x"}, 400, "pages: 'x' in 'x'"),
        ({"temperature": -1}, 400, "temperature: '-1'; expected a number from 0 to 2"),
        ({"max_tokens": 0}, 400, "max_tokens: '0'; expected a whole number from 1"),
        ({"stop": [""]}, 400, "stop: "),
        ({"stream": 1}, 400, "stream: '1'; expected true or false"),
        ({"messages": "hello"}, 400, "messages: expected a list"),
        ({"messages": [{"role": "user", "content": "OCR:"}]}, 400, "messages: 0 pictures; expected one"),
        ({"messages": [{"role": "user", "content": "OCR:"}] * 2}, 400, "messages: roles user, user"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_openais_form(client, page, changed, status, refused):
    answer, told = client.ask(body(page) | changed)
    assert (answer, told["error"]["message"][: len(refused)]) == (status, refused)
    assert client.scheduler.waiting == client.scheduler.running == 0


@pytest.mark.parametrize(
    ("url", "refused"),
    [
        ("data:image/png;base64,@@@", "picture 2: base64 is damaged"),
        ("data:image/png;base64,AAAA", "picture 2.png: not a picture, or damaged at its start"),
        ("data:text/html;base64,AAAA", "picture 2: a data URL of 'text/html'; expected one of"),
        ("data:image/png", "picture 2: a data URL without a comma"),
        ("http://127.0.0.1:9/a.png", "image_url: http://127.0.0.1:9 is not a host that pictures are fetched"),
        ("file:///etc/passwd", "image_url: file:// is not a host"),
        (7, "picture 2: no address"),
        (data_url(b"x" * (1 << 20) + b"x"), "picture 2.png: over 1 MB; use a smaller file"),
    ],
)
def test_what_is_no_picture_is_refused(client, url, refused):
    asked = body()
    asked["messages"][0]["content"].append({"type": "image_url", "image_url": {"url": url}})
    status, told = client.ask(asked)
    assert (status, told["error"]["message"][: len(refused)]) == (400, refused)


def test_the_neutral_values_of_other_fields_and_all_of_gots_questions_are_taken(page):
    given = {name: values[0] for name, values in NEUTRAL.items()} | {"user": "me", "stop": None}
    for text, task, box, color in (
        ("OCR: ", "ocr", None, None),
        ("  OCR with format:", "format", None, None),
        ("OCR with boxes", "spot", None, None),
        ("[10, 20, 300, 400] OCR: ", "ocr", [10, 20, 300, 400], None),
        ("[red]  OCR with format: ", "format", None, "red"),
    ):
        made = parse(body(page, text, **given), ["nano"])
        assert (made.task, made.box, made.color) == (task, box, color)
    assert parse(body(page, "Convert this to Markdown."), ["nano"], "format").task == "format"
    assert parse(body(page, ""), ["nano"]).task == "ocr"
    system = [{"role": "system", "content": "Be brief."}, *body(page)["messages"]]
    assert parse({"model": "nano", "messages": system}, ["nano"]).task == "ocr"
    with pytest.raises(UnknownModelError):
        parse(body(page), ["other"])


def test_document_benchmarks_are_answered_as_evalscope_asks_them(pipeline, tmp_path):
    """As evalscope 1.14.1 does: the picture first, a PNG declared as JPEG, prompts of its own."""
    import datasets

    from benchmarks import evalscope_sample

    texts = ["the\nsource", "this\ncode\nlist"]
    rows = [{"images": [f"{n}.png"], "task": "ocr", "text": text} for n, text in enumerate(texts)]
    for row in rows:
        (tmp_path / row["images"][0]).write_bytes(picture(*row["text"].split("\n")))
    (tmp_path / "records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert evalscope_sample.main([str(tmp_path / "records.jsonl"), str(tmp_path)]) == 0
    names = {"cache_dir": str(tmp_path / "cache")}
    recognition = datasets.load_dataset(str(tmp_path / "ocr_bench"), split="test", **names)
    pages = datasets.load_dataset(str(tmp_path / "omni_doc_bench"), split="train", **names)
    pictures = recognition.cast_column("image", datasets.Image(decode=False))["image"]
    asked = []
    for number, text in enumerate(texts):
        expected = (tmp_path / f"{number}.png").read_bytes()
        assert pictures[number]["bytes"] == expected == base64.b64decode(pages[number]["image"])
        assert recognition[number]["answer"] == [text]
        (block,) = json.loads(pages[number]["answer"])["layout_dets"]
        assert (block["category_type"], block["text"], block["poly"][4:6]) == ("text_block", text, [128, 128])
        asked.append((recognition[number]["question"], "image/jpeg", expected, text))
        asked.append((" You are an AI assistant.\n\n    1. Text Processing:\n", "image/png", expected, text))
    common = {"temperature": 0.0, "max_tokens": 256, "top_p": 1.0, "top_k": 50, "seed": 42}
    with serving(tmp_path / "api", {"nano": pipeline}, default_task="ocr") as client:
        for question, kind, data, text in asked:
            shown = {"type": "image_url", "image_url": {"url": data_url(data, kind), "detail": "auto"}}
            messages = [{"role": "user", "content": [shown, {"type": "text", "text": question}]}]
            request = {"model": "nano", "messages": messages, **common}
            status, told = client.ask(request)
            assert (status, told["choices"][0]["message"]["content"]) == (200, text)
            streamed = {"stream": True, "stream_options": {"include_usage": True}}
            lines = (
                client.send("POST", "/v1/chat/completions", request | streamed).read().decode().split("\n\n")
            )
            chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
            pieces = [choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]]
            assert "".join(pieces) == text and chunks[-1]["usage"]["completion_tokens"] > len(texts)


def test_a_page_of_a_pdf_is_read_and_several_need_a_name(client, page):
    shown = Image.open(io.BytesIO(page)).convert("RGB")
    made = io.BytesIO()
    Image.new("RGB", shown.size, "white").save(
        made, "PDF", save_all=True, append_images=[shown], resolution=144
    )
    url = data_url(made.getvalue(), "application/pdf")
    asked = body()
    asked["messages"][0]["content"].append({"type": "file", "file": {"filename": "a.pdf", "file_data": url}})
    status, told = client.ask(asked | {"pages": 2})
    assert (status, told["choices"][0]["message"]["content"]) == (200, "\n".join(LINES))
    status, told = client.ask(asked)
    assert (status, told["error"]["message"][:39]) == (400, "pages: a.pdf has 2 that were asked for;")


def test_only_who_has_the_key_and_no_page_of_a_browser(pipeline, page, tmp_path, client):
    with serving(tmp_path / "api", {"nano": pipeline}, api_key="secret-key") as locked:
        for headers in ({}, {"Authorization": "Bearer secret"}, {"Authorization": "Basic secret-key"}):
            status, told = locked.ask(body(page), **headers)
            assert (status, told["error"]["code"]) == (401, "invalid_api_key")
            assert locked.send("GET", "/v1/models", **headers).status == 401
            assert locked.send("GET", "/metrics", **headers).status == 401
        key = {"Authorization": "Bearer secret-key"}
        assert locked.ask(body(page), Host="any.example", **key)[0] == 200
        assert locked.send("GET", "/health").status == 200
    for headers in (
        {"Host": "evil.example"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
    ):
        assert client.send("POST", "/v1/chat/completions", body(page), **headers).status == 403
    assert client.send("POST", "/v1/completions", {}).status == 404


def test_pictures_come_from_allowed_hosts_only_and_no_redirection_is_followed(page, tmp_path):
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Pictures(BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802
            self.send_response(302 if "moved" in self.path else 200)
            self.send_header("Location", "/page.png")
            self.send_header("Content-Type", "image/png")
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Pictures) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        host = f"127.0.0.1:{server.server_port}"
        assert remote.fetch(f"http://{host}/scan", [host], 1 << 20) == ("scan.png", page)
        for url, hosts, refused in (
            (f"http://{host}/moved", [host], "gave no picture .HTTP Error 302"),
            (f"http://{host}/page.png", ["127.0.0.1"], "is not a host that pictures are fetched from"),
            (f"http://user@{host}/page.png", [host], "is not a host"),
            (f"ftp://{host}/page.png", [host], "is not a host"),
        ):
            with pytest.raises(RequestError, match=refused):
                remote.fetch(url, hosts, 1 << 20)
        with pytest.raises(RequestError, match="over 9.53674e-05 MB"):
            remote.fetch(f"http://{host}/scan", [host], 100)
        server.shutdown()


def test_a_loop_is_read_again_unless_somebody_looks_on(pipeline, page, monkeypatch):
    from got_train.generation import hypothesis

    class Looping:
        def excess_tokens(self, ids):
            return len(ids) - 1 if len(ids) == 4 else 0

    detector = hypothesis.RepetitionDetector
    detectors = iter([Looping, None, Looping])
    monkeypatch.setattr(
        hypothesis, "RepetitionDetector", lambda rule: (made := next(detectors)) and made() or detector(rule)
    )
    prompt = pipeline.prepare(OcrRequest((Page(EncodedImage("a.png", page)),), "ocr"))
    batch = OcrBatch(pipeline)
    for streamed, finished in ((False, "retried"), (True, "loop")):
        reading = Reading(prompt=prompt, decoding=Decoding(), streamed=streamed)
        batch.join([reading])
        while reading.result is None:
            batch.step()
        assert reading.result.finished == finished
        assert (reading.text == "\n".join(LINES)) == (finished == "retried")
    assert len(batch) == 0


def test_wrong_flags_are_told_in_one_line(capsys, monkeypatch):
    monkeypatch.delenv("GOT_API_KEY", raising=False)
    for more, told in (
        (["--host", "0.0.0.0"], "serve: --host 0.0.0.0: others can reach it; set GOT_API_KEY, or use"),
        (["a", "b/a"], "serve: --model: two are called a; give one another name, as NAME=b/a"),
        (["=a"], "serve: --model: '=a'; expected FOLDER or NAME=FOLDER"),
        (["--batch-size", "0"], "serve: --batch-size: 0; expected at least 1"),
        (["--timeout", "0"], "serve: --timeout: 0.0; expected more than 0"),
    ):
        assert command.main(["--model", "a" if more[0] != "a" else "c", *more]) == 2
        assert capsys.readouterr().err.startswith(told)
    monkeypatch.setenv("GOT_API_KEY", "short")
    assert command.main(["--model", "a"]) == 2
    assert capsys.readouterr().err.startswith("serve: GOT_API_KEY: expected at least 8")


def test_the_command_ends_what_it_is_reading_before_it_goes(tmp_path, page):
    call = [
        sys.executable,
        "-m",
        "got_train",
        "serve",
        "--model",
        f"nano={NANO}",
        "--port",
        "0",
        "--threads",
        "1",
    ]
    running = subprocess.Popen(
        call, cwd=ROOT, stderr=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    try:
        address = next(line for line in running.stderr if "http" in line)
        client = Client(int(re.search(r"127\.0\.0\.1:(\d+)/v1", address)[1]), None)
        line = http.client.HTTPConnection("127.0.0.1", client.port, timeout=60)
        asked = json.dumps(body(page, stream=True))
        line.request("POST", "/v1/chat/completions", asked, {"Content-Type": "application/json"})
        answer = line.getresponse()
        answer.readline()
        running.send_signal(signal.SIGTERM)
        assert answer.read().decode().endswith("data: [DONE]\n\n")
        assert running.wait(30) == 143
        assert "Traceback" not in running.stderr.read()
        assert list(tmp_path.glob("got_train-serve-*")) == []
    finally:
        running.kill()


FIELDS = (
    *(
        "model",
        "task",
        "box",
        "box_unit",
        "color",
        "crop",
        "pages",
        "stop",
        "user",
        "max_tokens",
        "temperature",
    ),
    *("stream", "stream_options", "logprobs", "top_logprobs", "n", "messages", "seed", "top_p", "other"),
)


def test_300_mutated_requests_in_json_and_as_forms_are_refused_or_answered_and_none_is_a_fault_of_ours(
    client, page, caplog
):
    """Fixed seeds. Not schemathesis, which works from an OpenAPI description; the server has none."""
    caplog.set_level(logging.ERROR)
    sound, statuses = body(page, max_tokens=2), Counter()
    for number in range(300):
        rng = random.Random(f"api {number}")
        pieces = {name: json.dumps(value) for name, value in sound.items()}
        for _ in range(rng.choice((1, 1, 2, 3))):
            pieces[rng.choice(FIELDS)] = rng.choice(VALUES)
        if rng.random() < 0.3:
            pieces["messages"] = pieces["messages"].replace(
                rng.choice(('"user"', '"text"', '"image_url"', '"url"', "base64,")), rng.choice(VALUES[:17])
            )
        if rng.random() < 0.3:
            pieces.pop("messages")
            parts = [(name, "", value.strip('"')) for name, value in pieces.items()]
            parts.append(("file", '; filename="a.png"', "no picture"))
            head = 'Content-Disposition: form-data; name="'
            data = "".join(f'--b\r\n{head}{name}"{more}\r\n\r\n{value}\r\n' for name, more, value in parts)
            answer = client.send(
                "POST",
                "/v1/chat/completions",
                f"{data}--b--\r\n",
                Content_Type="multipart/form-data; boundary=b",
            )
        else:
            data = "{" + ", ".join(f'"{name}": {value}' for name, value in pieces.items()) + "}"
            answer = client.send("POST", "/v1/chat/completions", data, Content_Type="application/json")
        answer.read()
        assert answer.status < 500, (number, data[:300])
        statuses[answer.status] += 1
    assert not [record for record in caplog.records if record.exc_info]
    assert statuses[400] > 150
    assert client.scheduler.waiting == client.scheduler.running == 0
    assert client.ask(body(page))[0] == 200
