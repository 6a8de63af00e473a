"""The page to try checkpoints on: what it takes, refuses and saves, and a visit in a headless Chromium."""

import contextlib
import http.client
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

from got_train.app import uploads as limits
from got_train.app.corrections import Corrections
from got_train.app.listening import uvicorn_config
from got_train.app.server import Server
from got_train.app.uploads import Uploads, plain_name
from got_train.cli import app as command
from got_train.data.record import RecordError
from got_train.data.records import read_records
from got_train.errors import RequestError
from got_train.images import EncodedImage
from got_train.inference import confidence
from got_train.inference.batch import OcrBatch, Reading
from got_train.inference.reader import OcrRequest, OcrResult, Page, Prompt, load_pipeline
from got_train.inference.scheduler import BusyError, ClosingError, Scheduler, SchedulerConfig
from tests.app.serving import LINES, as_file, listening, picture
from tests.chromium import PROGRAM, Chromium

ROOT = Path(__file__).parents[2]
NANO = ROOT / "configs" / "nano" / "weights" / "stage3"
SOURCE = [7, 320, 507, 445]  # its second line, in thousandths
SPOTS = "[50,100,700,200] copyright\n[50,300,500,400] notice\nthis"
SAID = {"ocr": "the source coda", "format": "# Head\n\n\\(a^2\\) and <b>x</b>", "spot": SPOTS}


class Told:
    """A pipeline that says what it is told, less sure of words with d."""

    calibration = None

    def prepare(self, question):
        return Prompt(question, [], np.zeros((1, 1, 1, 3), np.uint8), 0.0)

    def token_texts(self, answer):
        return [(piece, 0.4 if "d" in piece else 0.95) for piece in re.findall(r"\s+|\S+", answer.text)]

    def spans(self, answer, level):
        return confidence.spans(self.token_texts(answer), level)


class Endless(Told):
    """One that comes to no end by itself; counts how many are read at once."""

    now = most = 0


class ToldBatch:
    """Stands for OcrBatch: a letter a step, so that answers grow as a model's do."""

    def __init__(self, pipeline):
        self.pipeline, self.readings = pipeline, []

    def __len__(self):
        return len(self.readings)

    def join(self, readings):
        self.readings += readings
        self._count()

    def leave(self, readings):
        self.readings = [reading for reading in self.readings if reading not in readings]
        self._count()

    def step(self):
        changed = list(self.readings)
        for reading in changed:
            if isinstance(self.pipeline, Endless):
                reading.text += "x"
                continue
            text = SAID[reading.prompt.request.task]
            reading.text = text[: len(reading.text) + 1]
            if reading.text == text:
                ids = list(range(len(text)))
                reading.result = OcrResult(reading.prompt.request, text, ids, [-0.1] * len(ids), "stop", 0.5)
                self.readings.remove(reading)
        time.sleep(0.005)
        return changed

    def _count(self):
        if isinstance(self.pipeline, Endless):
            self.pipeline.now = len(self.readings)
            self.pipeline.most = max(self.pipeline.most, self.pipeline.now)


def batch_of(pipeline):
    return ToldBatch(pipeline) if isinstance(pipeline, Told) else OcrBatch(pipeline)


@contextlib.contextmanager
def serving(folder, load, models, most_bytes=1 << 20, review=None):
    (folder / "uploads").mkdir()
    scheduler = Scheduler(load, models, SchedulerConfig(max_waiting=8), batch_of)
    place = Uploads(folder / "uploads", most_bytes)
    made = Server(scheduler, place, Corrections(folder / "saved" / "records.jsonl"), review=review)
    with listening(uvicorn_config(made.app, connections=100, shutdown_seconds=1)) as port:
        yield Client(port, folder)


class Client:
    """Requests as the page makes them; headers can be put in their place, None leaves one out."""

    def __init__(self, port, folder):
        self.host, self.folder = f"127.0.0.1:{port}", folder

    def ask(self, method, path, body=None, **headers):
        if isinstance(body, dict):
            body, headers = json.dumps(body), {"Content-Type": "application/json", **headers}
        given = {"Host": self.host, "Origin": f"http://{self.host}"}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        line = http.client.HTTPConnection(self.host, timeout=30)
        line.putrequest(method, path, skip_host=True)
        if isinstance(body, str):
            body = body.encode()
        if body is not None and "Transfer-Encoding" not in given:
            given.setdefault("Content-Length", str(len(body)))
        for name, value in given.items():
            if value is not None:
                line.putheader(name, value)
        line.endheaders()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused before all is sent
            line.send(body or b"")
        return line.getresponse()

    def upload(self, data, name, **headers):
        answer = self.ask("POST", f"/files?name={quote(name, safe='')}", data, **headers)
        return answer.status, json.loads(answer.read())

    def events(self, key, task="ocr", **asked):
        asked = {"key": key, "number": 1, "task": task, "crop": "single", "model": "told", **asked}
        answer = self.ask("POST", "/read", asked)
        return [json.loads(line) for line in answer.read().splitlines()]


@pytest.fixture(scope="module")
def reader():
    return load_pipeline(NANO)


@pytest.fixture(scope="module")
def client(tmp_path_factory, reader):
    with serving(
        tmp_path_factory.mktemp("app"), {"nano": reader, "told": Told()}.get, ["nano", "told"]
    ) as made:
        yield made


@pytest.fixture(scope="module")
def page():
    return as_file(picture(*LINES))


@pytest.fixture
def corrections(tmp_path):
    return Corrections(tmp_path / "saved" / "records.jsonl")


def test_a_page_is_heard_as_it_is_read_and_in_a_box_too(client, reader, page):
    _, file = client.upload(page, "a.png")
    for box, text in ((None, "\n".join(LINES)), (SOURCE, "source")):
        begun, *texts, last = client.events(file["key"], model="nano", box=box)
        question = OcrRequest((Page(EncodedImage("a.png", page)),), "ocr", box, box_unit="thousandth")
        answer = next(reader.read([question]))
        assert begun == {"begun": True}
        assert len(texts) > 1
        assert "".join(event["text"] for event in texts) == last["answer"]["text"] == answer.text
        assert "".join(word for word, _ in last["answer"]["words"]) == answer.text
        sure = [sure for _, sure in last["answer"]["words"] if sure is not None]
        assert sure == [round(word.confidence, 4) for word in reader.spans(answer, "word")]
        assert answer.text == text


def test_boxes_come_in_thousandths_and_lines_without_one_are_told(client, page):
    _, file = client.upload(page, "a.png")
    answer = client.events(file["key"], "spot")[-1]["answer"]
    assert answer["boxes"] == [
        {"text": "copyright", "box": [50, 100, 700, 200]},
        {"text": "notice", "box": [50, 300, 500, 400]},
    ]
    assert [fault.split(",")[0] for fault in answer["faults"]] == ["line 3: no box and text"]


@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        ({"Host": "evil.example:7860"}, "host: 'evil.example:7860' is no name of this page"),
        ({"Host": "127.0.0.1.evil.example"}, "host: "),
        ({"Host": "localhost@evil.example"}, "host: "),
        ({"Host": ""}, "host: "),
        ({"Origin": "http://evil.example"}, "origin: 'http://evil.example'"),
        ({"Origin": "http://127.0.0.1:1"}, "origin: "),
        ({"Origin": "null"}, "origin: 'null'"),
        ({"Origin": None}, "origin: None"),
        ({"Sec_Fetch_Site": "cross-site"}, "sec-fetch-site: cross-site"),
        ({"Sec_Fetch_Site": "same-site"}, "sec-fetch-site: same-site"),
    ],
)
def test_other_pages_and_other_names_are_refused(client, page, headers, refused):
    before = len(list((client.folder / "uploads").iterdir()))
    status, told = client.upload(page, "a.png", **headers)
    assert status == 403
    assert told["error"].startswith(refused)
    assert len(list((client.folder / "uploads").iterdir())) == before
    if "Origin" not in headers:  # nothing can be looked at either
        assert client.ask("GET", "/about", Origin=None, **headers).status == 403


def test_a_link_may_lead_here_and_every_answer_forbids_what_it_does_not_need(client):
    for path, headers in (("/", {"Sec_Fetch_Site": "cross-site"}), ("/about", {}), ("/none", {})):
        answer = client.ask("GET", path, Origin=None, **headers)
        policy = answer.headers["Content-Security-Policy"]
        assert answer.status == (404 if path == "/none" else 200)
        assert policy.startswith("default-src 'none'; script-src 'self';")
        assert "http" not in policy
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_no_path_from_outside_reaches_a_file(client, page):
    secret = client.folder / "uploads" / "secret.png"
    secret.write_bytes(page)
    _, file = client.upload(page, "../../evil\\..\\..\\a b.png")
    assert (file["name"], file["pages"]) == ("a b.png", 1)
    for path in (
        f"/files/../{secret.name}/1",
        "/files/..%2fsecret.png/1",
        f"/files/{quote(str(secret), safe='')}/1",
        f"/files/{file['key']}/../1",
        f"/files/{file['key']}%2f..%2f..%2fsecret.png/1",
        "/page.js/../../__main__.py",
        "/..%2f__main__.py",
        "/%2e%2e/__main__.py",
        "//etc/passwd",
    ):
        answer = client.ask("GET", path)
        body = answer.read()
        assert answer.status in (400, 404), path
        assert b"import" not in body and b"root:" not in body and body[:2] != b"\xff\xd8", path
    for asked in (
        {"key": str(secret)},
        {"key": "../secret.png"},
        {"number": 0},
        {"number": -1},
        {"number": 2},
    ):
        answer = client.ask("POST", "/render", {"key": file["key"], "number": 1, "task": "ocr", "text": "x",
                                                "format": "txt", **asked})  # fmt: skip
        assert answer.status == 400
    assert not list(client.folder.glob("**/*evil*"))
    secret.unlink()


@pytest.mark.parametrize(
    ("name", "data", "refused"),
    [
        ("a.exe", b"MZ", "a.exe: not a picture or PDF; expected one of .png"),
        ("page.html", b"<script>", "page.html: not a picture or PDF"),
        ("", b"x", "page: not a picture or PDF"),
        ("a.png", b"no picture", "a.png: not a picture, or damaged at its start"),
        ("a.png", b"", "a.png: an empty file"),
        ("a.pdf", b"%PDF-1.7 but no more", "a.pdf: not a PDF, damaged or without pages"),
        ("a.jpg", b"\x89PNG\r\n\x1a\n" + b"\0" * 50, "a.jpg: "),
        ("a.png", b"x" * (1 << 20) + b"x", "a.png: over 1 MB; use a smaller file"),
    ],
)
def test_a_wrong_file_gets_a_message_and_leaves_nothing(client, name, data, refused):
    before = sorted((client.folder / "uploads").iterdir())
    status, told = client.upload(data, name)
    assert status == 400
    assert told["error"].startswith(refused)
    assert str(client.folder) not in told["error"]
    assert sorted((client.folder / "uploads").iterdir()) == before


def test_a_body_without_its_length_is_cut_at_the_limit_too(client):
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    status, told = client.upload(chunk * 17, "a.png", Transfer_Encoding="chunked")
    assert (status, told["error"]) == (400, "a.png: over 1 MB; use a smaller file")


def test_pictures_pages_and_files_are_limited(tmp_path, monkeypatch):
    place = Uploads(tmp_path, 1 << 20)

    def accept(image, name, **options):
        file = place.place(name)
        image.save(file, **options)
        return place.accept(file, name)

    small = Image.new("L", (4, 3))
    monkeypatch.setattr(limits, "MOST_PIXELS", 11)
    with pytest.raises(RequestError, match=r"a.png: 4 x 3 pixels; expected at most 11, so scale it down"):
        accept(small, "a.png")
    monkeypatch.setattr(limits, "MOST_PIXELS", 12)
    monkeypatch.setattr(limits, "MOST_PAGES", 2)
    with pytest.raises(RequestError, match=r"a.tif: 3 pages; expected at most 2, so split it"):
        accept(small, "a.tif", save_all=True, append_images=[small] * 2)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(limits, "MOST_FILES", 2)
    kept = [accept(small, "a.png") for _ in range(3)]
    assert len(list(tmp_path.iterdir())) == 2
    with pytest.raises(RequestError, match="has expired; upload it again"):
        place.page(kept[0].key, 1)
    assert place.page(kept[1].key, 1).name == "a.png"


@pytest.mark.parametrize("form", ["pdf", "tif"])
def test_each_page_of_a_file_is_a_picture_of_its_own(client, form):
    colors = ((200, 0, 0), (0, 0, 200))
    images = [Image.new("RGB", (60, 40), color) for color in colors]
    data = as_file(images[0], {"pdf": "PDF", "tif": "TIFF"}[form], save_all=True, append_images=images[1:])
    _, file = client.upload(data, f"{form}.{form}")
    assert file["pages"] == 2
    for number, color in enumerate(colors, 1):
        answer = client.ask("GET", f"/files/{file['key']}/{number}")
        shown = Image.open(io.BytesIO(answer.read()))
        assert np.abs(np.array(shown)[20, 30].astype(int) - color).max() < 8
    asked = {"key": file["key"], "number": 2, "task": "ocr", "text": "two", "box": None}
    assert client.ask("POST", "/corrections", asked).status == 200
    record = read_records(client.folder / "saved" / "records.jsonl")[-1]
    assert Path(record.images[0]).name == f"{form}_0002.png"


@pytest.mark.parametrize(
    ("changed", "refused"),
    [
        ({"model": "other"}, "model: 'other'; expected one of nano, told"),
        ({"task": "multi_page"}, "task: 'multi_page'; expected one of ocr, format, spot"),
        ({"task": "spot", "crop": "multi"}, "crop: multi with task spot"),
        ({"task": "spot", "box": [0, 0, 9, 9]}, "box or color: with task spot"),
        ({"crop": "auto", "color": "red"}, "box or color: with task ocr, crop auto"),
        ({"box": [0, 0, 1001, 9]}, "box: [0, 0, 1001, 9]; expected x1, y1, x2, y2 in thousandths"),
        ({"box": [5, 0, 5, 9]}, "box: "),
        ({"box": [True, 0, 5, 9]}, "box: "),
        ({"box": "0,0,1,1"}, "box: "),
        ({"box": [0, 0, 9, 9], "color": "red"}, "box and color: both"),
        ({"number": "1"}, "number: '1'; expected a whole number"),
        ({"key": ["x"]}, "key: "),
    ],
)
def test_a_request_that_the_page_does_not_make_is_refused(client, page, changed, refused):
    _, file = client.upload(page, "a.png")
    asked = {"key": file["key"], "number": 1, "task": "ocr", "crop": "single", "model": "told", **changed}
    answer = client.ask("POST", "/read", asked)
    assert (answer.status, json.loads(answer.read())["error"][: len(refused)]) == (400, refused)


@pytest.mark.parametrize(
    ("body", "headers", "refused"),
    [
        ("{", {"Content_Type": "application/json"}, "request: no JSON"),
        ("[" * 100_000, {"Content_Type": "application/json"}, "request: no JSON"),
        ("[]", {"Content_Type": "application/json"}, "request: no object"),
        ("{}", {"Content_Type": "text/plain"}, "content-type: not application/json"),
        (" " * ((1 << 20) + 1), {"Content_Type": "application/json"}, "request: over 1,048,576 bytes"),
    ],
)
def test_a_body_that_is_none_is_refused(client, body, headers, refused):
    answer = client.ask("POST", "/corrections", body, **headers)
    assert (answer.status, json.loads(answer.read())["error"][: len(refused)]) == (400, refused)


def until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def test_two_pages_at_a_time_three_wait_and_a_visitor_who_goes_makes_room():
    slow = Endless()
    config = SchedulerConfig(batch_size=2, max_waiting=3)
    scheduler = Scheduler({"slow": slow}.get, ["slow"], config, batch_of)

    def start():
        with scheduler.reserve() as place:
            reading = Reading(prompt=slow.prepare(OcrRequest((Page("a.png"),), "ocr")), streamed=True)
            return place.submit("slow", reading, lambda job: None)

    jobs = []
    for count in range(5):
        jobs.append(start())
        until(lambda: scheduler.running == min(2, len(jobs)))  # noqa: B023
        assert scheduler.waiting == max(0, count - 1)
    with pytest.raises(BusyError, match="3 requests are waiting"):
        start()
    scheduler.cancel(jobs[0])
    until(lambda: scheduler.waiting == 2 and slow.now == 2)
    assert (slow.most, jobs[0].is_done, jobs[2].begun is not None) == (2, True, True)
    jobs.append(start())  # there is room again
    scheduler.close()
    assert (slow.now, [job.is_done for job in jobs]) == (0, [True] * 6)
    with pytest.raises(ClosingError):
        start()


def test_a_closed_connection_ends_its_reading(tmp_path, page):
    slow = Endless()
    with serving(tmp_path, {"slow": slow, "told": Told()}.get, ["slow", "told"]) as client:
        _, file = client.upload(page, "a.png")
        asked = {"key": file["key"], "number": 1, "task": "ocr", "crop": "single", "model": "slow"}
        answer = client.ask("POST", "/read", asked)
        begun, grown = (json.loads(answer.readline()) for _ in range(2))
        assert begun == {"begun": True}
        assert set(grown["text"]) == {"x"}
        assert slow.now == 1
        assert client.events(file["key"])[-1]["answer"]["text"] == SAID["ocr"]  # others do not wait for it
        answer.close()
        until(lambda: slow.now == 0)


def test_a_correction_is_a_record_that_training_reads(client, page):
    _, file = client.upload(page, "my page.png")
    file_of = client.folder / "saved" / "records.jsonl"
    before = file_of.read_text().count("\n") if file_of.exists() else 0
    asked = {"key": file["key"], "number": 1, "task": "ocr", "text": 'a "b"\n\u00e9\u4e2d'}
    for more in ({}, {"box": [1, 2, 300, 400]}, {"color": "red"}):
        answer = client.ask("POST", "/corrections", asked | more)
        before += 1
        assert json.loads(answer.read()) == {"file": str(file_of), "records": before}
    plain, boxed, framed = list(read_records(file_of, check_files=True))[-3:]
    assert (plain.text, plain.task, plain.box, plain.color) == (asked["text"], "ocr", None, None)
    assert (boxed.box, boxed.box_unit, framed.color) == ((1, 2, 300, 400), "thousandth", "red")
    copies = {Path(record.images[0]) for record in (plain, boxed, framed)}
    assert [copy.read_bytes() for copy in copies] == [page]  # copied once, byte for byte
    assert json.loads(file_of.read_text().splitlines()[-1])["images"] == ["pictures/my page.png"]


def test_a_wrong_correction_is_refused_before_anything_is_written(corrections, page):
    image = EncodedImage("a.png", page)
    for task, text, refused in (
        ("ocr", " \n", "correction: no text"),
        ("spot", "copyright", "correction: text of task spot, line 1: no box and text"),
        ("ocr", "half \ud800", "correction: text holds half a character"),
    ):
        with pytest.raises(RecordError, match=f"^{refused}"):
            corrections.add(image, task, text)
    assert not corrections.file.parent.exists()


def test_lines_are_whole_whoever_writes_them_and_whatever_stood_there(tmp_path, page):
    file = tmp_path / "records.jsonl"
    file.write_text('{"images": ["pictures/a.png"], "task": "ocr", "text": "by hand"}')  # no line end
    image, counts = EncodedImage("a.png", page), []

    def add(name):
        own = Corrections(file)
        for number in range(10):
            counts.append(own.add(image, "ocr", f"{name} {number} " + "x" * 5000))

    threads = [threading.Thread(target=add, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(counts) == [*range(2, 42)]
    texts = [record.text.rstrip("x ") for record in read_records(file, check_files=True)]
    assert texts[0] == "by hand"
    assert sorted(texts[1:]) == sorted(f"{name} {number}" for name in "abcd" for number in range(10))
    assert [each.name for each in (tmp_path / "pictures").iterdir()] == ["a.png"]


def test_a_line_waits_until_another_program_has_written_its_own(corrections, page):
    fcntl = pytest.importorskip("fcntl")
    image = EncodedImage("a.png", page)
    corrections.add(image, "ocr", "one")
    with open(corrections.file, "ab", buffering=0) as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        other.write(b'{"images": ["pictures/a.png"], "task": "ocr", ')
        waiting = threading.Thread(target=corrections.add, args=(image, "ocr", "three"))
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
        other.write(b'"text": "two"}\n')
    waiting.join(10)
    assert [record.text for record in read_records(corrections.file)] == ["one", "two", "three"]


def test_a_full_disk_leaves_the_file_as_it_was(corrections, page, monkeypatch):
    image = EncodedImage("a.png", page)
    corrections.add(image, "ocr", "one")
    before = corrections.file.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        corrections.add(image, "ocr", "two")
    assert corrections.file.read_bytes() == before


@pytest.mark.parametrize(
    ("form", "start"), [("txt", b"# Head"), ("html", b"<!DOCTYPE html>"), ("md", b"# Head"), ("json", b"{")]
)
def test_the_text_can_be_had_in_other_formats(client, page, form, start):
    _, file = client.upload(page, "a.png")
    asked = {"key": file["key"], "number": 1, "task": "format", "text": SAID["format"], "format": form}
    answer = client.ask("POST", "/render", asked)
    body = answer.read()
    assert (answer.status, body[: len(start)]) == (200, start)
    assert form != "html" or b"<b>" not in body


def test_names_of_files_lose_what_means_something_in_a_path():
    assert plain_name("C:\\scans\\\u9875 1.PDF") == "\u9875 1.PDF"
    assert plain_name("/etc/..") == "page"
    assert plain_name("a\n$(x)`;.png") == "a__(x)__.png"
    assert len(plain_name("x" * 300 + ".png")) == 80


def test_a_wrong_command_is_told_in_one_line_with_code_2(tmp_path, capsys):
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    for more, told in (
        (["b", "c"], "app: --model-name-or-path: a, b, c; expected one or two different ones"),
        (["a"], "app: --model-name-or-path: a, a; "),
        (["--corrections", str(tmp_path)], f"app: --corrections: {tmp_path}; expected a .jsonl file"),
        (["--max-upload-mb", "0"], "app: --max-upload-mb: 0.0; expected more than 0"),
        (["--port", str(taken.getsockname()[1])], "app: --port: "),
        (["--port", "70000"], "app: --port: "),
        (["--port", "0", "--threads", "1"], "app: loading a\napp: a: no such folder"),
    ):
        assert command.main(["--model_name_or_path", "a", *more]) == 2
        assert capsys.readouterr().err.startswith(told)
    taken.close()


def ended(call, sign, folder):
    """The exit code of a command that is sent a signal once it serves, and what it answers before."""
    running = subprocess.Popen(
        call, cwd=ROOT, stderr=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(folder)}
    )
    try:
        address = next(line for line in running.stderr if "http" in line)
        port = int(re.search(r"127\.0\.0\.1:(\d+)/", address)[1])
        answer = Client(port, folder).ask("GET", "/about")
        about = json.loads(answer.read()) if answer.status == 200 else None
        assert len(list(folder.glob("got_train-app-*"))) == 1
        running.send_signal(sign)
        code = running.wait(20)
        assert "Traceback" not in running.stderr.read()
        return code, about
    finally:
        running.kill()


def test_the_command_serves_this_machine_and_ends_with_ctrl_c(tmp_path):
    flags = ["--model_name_or_path", str(NANO), "--port", "0", "--threads", "1"]
    code, about = ended([sys.executable, "-m", "got_train", "app", *flags], signal.SIGINT, tmp_path)
    assert (code, about["models"]) == (130, [str(NANO)])
    assert about["corrections"] == "corrections/records.jsonl"
    assert list(tmp_path.glob("got_train-app-*")) == []


def test_a_terminated_command_leaves_no_pages_behind(tmp_path):
    script = "from got_train.cli import app as command; from starlette.applications import Starlette\n"
    script += "command._server = lambda *_: type('Server', (), {'app': Starlette()})\n"  # no model is loaded
    script += "raise SystemExit(command.main(['--model_name_or_path', 'a', '--port', '0']))"
    assert ended([sys.executable, "-c", script], signal.SIGTERM, tmp_path) == (143, None)
    assert list(tmp_path.glob("got_train-app-*")) == []


class Visit(Chromium):
    """A browser that is at the page of a client."""

    ready = "document.querySelectorAll('article').length > 0"

    def __init__(self, client, folder, **looks):
        super().__init__(folder / "profile", **looks)
        self.address = f"http://{client.host}/"
        self.call("Page.navigate", {"url": self.address})
        self.until(self.ready)

    def until(self, condition):
        end = time.monotonic() + 30
        while not self.run(condition):
            assert time.monotonic() < end, (condition, self.run("document.body.innerText"), self.messages)
            time.sleep(0.03)

    def hand_in(self, *files):
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", {"nodeId": root, "selector": "#file"})["nodeId"]
        self.call("DOM.setFileInputFiles", {"nodeId": node, "files": list(map(str, files))})

    def drag(self, *box):
        left, top, width, height = self.run(
            "(r => [r.left, r.top, r.width, r.height])(image.getBoundingClientRect())"
        )
        points = [(left + x * width / 1000, top + y * height / 1000) for x, y in (box[:2], box[2:])]
        kinds = ("mousePressed", "mouseMoved", "mouseReleased")
        for kind, (x, y) in zip(kinds, (points[0], points[1], points[1]), strict=True):
            pressed = {"button": "left", "buttons": 1, "clickCount": 1}
            self.call("Input.dispatchMouseEvent", {"type": kind, "x": x, "y": y, **pressed})

    def choose(self, name, value):
        self.run(f"{name}.value = '{value}'; {name}.dispatchEvent(new Event('change'))")

    def click(self, what):
        self.run(f"document.querySelector('{what}').click()")

    def texts(self, what):
        return self.run(f"[...document.querySelectorAll('{what}')].map(each => each.textContent)")

    def read(self):
        self.click("#read")
        self.until("[...document.querySelectorAll('.state')].every(each => /tokens/.test(each.textContent))")
        self.until("[...document.querySelectorAll('iframe')].every(each => each.srcdoc)")
        self.until("document.querySelector('#stop').disabled")

    def foreign(self):
        return [
            url for url in self.requests if not url.startswith((self.address, "data:", "about:", "blob:"))
        ]


@pytest.mark.skipif(PROGRAM is None, reason="Chromium is not installed")
def test_a_visit_from_the_wrong_file_to_the_saved_correction(client, page, tmp_path):
    (tmp_path / "page.png").write_bytes(page)
    (tmp_path / "wrong.png").write_bytes(b"no picture")
    saved = client.folder / "saved" / "records.jsonl"
    with Visit(client, tmp_path) as visit:
        visit.hand_in(tmp_path / "wrong.png")
        visit.until("!message.hidden")
        assert visit.texts("#message")[0].startswith("wrong.png: not a picture")
        visit.messages.clear()  # the browser logs the answer 400
        visit.hand_in(tmp_path / "page.png")
        visit.until("message.hidden && image.naturalWidth > 0 && !$('read').disabled")

        visit.drag(*SOURCE)
        assert np.abs(np.subtract(visit.run("state.box"), SOURCE)).max() <= 3
        assert visit.run("[...marks.querySelectorAll('.region')].length") == 1
        length = "document.querySelectorAll('.raw')[1].textContent.length"
        grown = f"new MutationObserver(() => lengths.push({length}))"
        visit.run(f"window.lengths = []; {grown}.observe(answers, {{childList: true, subtree: true}})")
        visit.read()
        assert visit.texts(".raw") == ["source", SAID["ocr"]]
        assert len({seen for seen in visit.run("lengths") if 0 < seen < len(SAID["ocr"])}) > 1  # it grew
        assert visit.texts("article:nth-child(2) .sure-1") == ["coda"]
        assert visit.texts("article:nth-child(2) .different") == ["the", "coda"]

        visit.drag(500, 500, 501, 501)  # a click takes the box away
        assert visit.run("state.box") is None
        visit.choose("task", "format")
        visit.read()
        frame = visit.run("document.querySelectorAll('iframe')[1].srcdoc")
        assert re.search(r"<h1[^>]*>\s*Head\s*</h1>", frame)
        assert "<b>" not in frame
        right = "<img src=x onerror=hit=1> \\(x^2\\)"
        visit.run(f"document.querySelectorAll('textarea')[1].value = {json.dumps(right)}")
        visit.click("article:nth-child(2) .show")
        visit.until("/onerror/.test(document.querySelectorAll('iframe')[1].srcdoc)")
        visit.click("article:nth-child(2) .keep")
        visit.until("/saved/.test(document.querySelectorAll('.kept')[1].textContent)")
        record = read_records(saved, check_files=True)[-1]
        assert (record.text, record.task, record.box) == (right, "format", None)
        assert Path(record.images[0]).read_bytes() == page

        visit.call("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
        visit.run("document.querySelectorAll('.format')[1].value = 'md'")
        visit.click("article:nth-child(2) .download")
        made = tmp_path / "page.md"
        end = time.monotonic() + 15
        while not made.exists() and time.monotonic() < end:
            time.sleep(0.05)
        assert "$x^2$" in made.read_text()

        visit.choose("task", "spot")
        assert visit.run("[box.disabled, color.disabled, crop.disabled]") == [True] * 3
        visit.read()
        assert visit.texts("#marks .model-1 title") == ["copyright", "notice"]
        assert visit.run("marks.querySelector('.model-1').getAttribute('x')") == "50"
        assert visit.run("document.querySelectorAll('iframe')[1].srcdoc.includes('<svg viewBox')")
        assert visit.run("window.hit") is None
        assert (visit.messages, visit.foreign()) == ([], [])


@pytest.mark.skipif(PROGRAM is None, reason="Chromium is not installed")
def test_on_a_phone_nothing_stands_beside_the_screen_and_stop_ends_a_reading(tmp_path, page):
    (tmp_path / "page.png").write_bytes(page)
    slow = Endless()
    with (
        serving(tmp_path, {"slow": slow}.get, ["slow"]) as client,
        Visit(client, tmp_path, width=390, height=844, mobile=True, dark=True) as visit,
    ):
        visit.hand_in(tmp_path / "page.png")
        visit.until("image.naturalWidth > 0 && !$('read').disabled")
        assert visit.run("document.documentElement.scrollWidth") == 390
        visit.click("#read")
        visit.until("/xx/.test(document.querySelector('.raw').textContent)")
        visit.click("#stop")
        visit.until("document.querySelector('.state').textContent === 'stopped'")
        end = time.monotonic() + 10
        while slow.now and time.monotonic() < end:
            time.sleep(0.02)
        assert (slow.now, visit.messages, visit.foreign()) == (0, [], [])


def test_a_correction_keeps_the_answer_that_it_replaced_and_its_checkpoint(corrections, page, tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    image = EncodedImage("page.png", page)
    corrections.add(image, "ocr", "right", replaced="wrong", model=str(model))
    corrections.add(image, "ocr", "right", replaced="right", model=str(model))
    first, second = map(json.loads, corrections.file.read_text().splitlines())
    assert first["rejected"] == "wrong"
    assert len(first["meta"]["checkpoint"]) == 64
    assert "rejected" not in second
    assert [record.rejected for record in read_records(corrections.file)] == ["wrong", ""]
