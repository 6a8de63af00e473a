"""Requests that no page would send: half ones, slow ones, huge numbers, 400 mutated ones of fixed seeds."""

import http.client
import io
import json
import logging
import random
import socket
import time
from urllib.parse import quote

import pytest
from PIL import Image

from got_train.app import bodies, listening, uploads
from got_train.app.guard import Guard
from got_train.errors import ImageError
from got_train.images import image_frames
from tests.app.serving import as_file
from tests.app.test_app import Told, serving

READ = {"key": "", "number": 1, "task": "ocr", "crop": "single", "model": "told"}
VALUES = (
    *("null", "true", "[]", "{}", "-1", "0", "1.5", "1e999", "NaN", "9" * 5000, "9" * 4000, '""', '"a"'),
    *('"\\ud800"', '"\\u0000"', "[" * 90000, '{"a":' * 9000, '"' + "x" * 70000 + '"', "[1, 2, 3, 4]"),
    *("[900, 0, 100, 5]", "[1e3, 2, 3, 4]", "[-0, 1, 2, 3]", "99999999999999999999"),
)


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bodies, "BODY_SECONDS", 2)
        patch.setattr(listening, "HEAD_SECONDS", 2)
        with serving(tmp_path_factory.mktemp("app"), {"told": Told()}.get, ["told"]) as made:
            yield made


@pytest.fixture(scope="module")
def key(client):
    return client.upload(as_file(Image.new("L", (40, 30), 255)), "a.png")[1]["key"]


def raw(client, *pieces, pause=0.0):
    """What the server sends until it closes, and after how many seconds."""
    began = time.monotonic()
    host, port = client.host.split(":")
    with socket.create_connection((host, int(port)), timeout=20) as line:
        for piece in pieces:
            line.sendall(piece)
            time.sleep(pause)
        answer = b""
        while more := line.recv(65536):
            answer += more
    return answer, time.monotonic() - began


def test_a_head_that_does_not_end_closes_the_connection_after_2_seconds(client):
    for start in (b"", b"GET /about HTTP/1.1\r\nHost: ", b"POST /read HTTP/1.1\r\n"):
        answer, seconds = raw(client, start)
        assert not answer
        assert 1.5 < seconds < 10


def test_80_half_requests_leave_the_server_to_others_after_2_seconds(client):
    host, port = client.host.split(":")
    lines = [socket.create_connection((host, int(port))) for _ in range(80)]
    for line in lines:
        line.sendall(b"GET /about HT")
    time.sleep(4)
    assert client.ask("GET", "/about").status == 200
    for line in lines:
        assert line.recv(10) == b""
        line.close()


def test_a_body_that_does_not_end_is_refused_after_2_seconds(client):
    head = f"POST /files?name=a.png HTTP/1.1\r\nHost: {client.host}\r\nOrigin: http://{client.host}\r\n"
    before = len(list((client.folder / "uploads").iterdir()))
    answer, seconds = raw(client, head.encode() + b"Content-Length: 100000\r\n\r\nabc")
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"its body took over 2 seconds" in answer
    assert 1.5 < seconds < 10
    assert len(list((client.folder / "uploads").iterdir())) == before


def test_the_body_of_a_refused_request_is_not_read(client):
    size = 400 << 20
    head = f"POST /files?name=a.png HTTP/1.1\r\nHost: {client.host}\r\nOrigin: http://{client.host}\r\n"
    host, port = client.host.split(":")
    sent = 0
    with socket.create_connection((host, int(port)), timeout=20) as line:
        line.sendall(head.encode() + f"Content-Length: {size}\r\n\r\n".encode())
        with pytest.raises(OSError):  # the server has closed
            while sent < size:
                sent += line.send(bytes(1 << 20))
    assert sent < 16 << 20


@pytest.mark.parametrize("scheme", ["https", "ftp", "HTTPS", "file"])
def test_an_origin_of_another_scheme_is_refused(client, key, scheme):
    asked = READ | {"key": key}
    answer = client.ask("POST", "/read", asked, Origin=f"{scheme}://{client.host}")
    assert answer.status == 403
    assert client.ask("POST", "/read", asked).status == 200


def test_a_name_that_was_allowed_may_stand_behind_a_proxy_that_speaks_https():
    guard = Guard(None, hosts=("ocr.example",))
    headers = {"host": "ocr.example", "origin": "https://ocr.example"}
    from starlette.datastructures import Headers

    assert guard.refusal("POST", "/read", Headers(headers)) is None
    assert guard.refusal("POST", "/read", Headers(headers | {"origin": "ftp://ocr.example"}))


def test_numbers_of_any_length_are_refused_with_400(client, key):
    for digits in ("9" * 10, "9" * 5000, "0" * 400, "-1", "1.0", "%D9%A1"):
        assert client.ask("GET", f"/files/{key}/{digits}", Origin=None).status == 400, digits
    body = json.dumps(READ | {"key": key}).replace('"number": 1', f'"number": {"9" * 5000}')
    answer = client.ask("POST", "/read", body, Content_Type="application/json")
    assert (answer.status, b"no JSON" in answer.read()) == (400, True)


def test_a_key_that_stands_twice_in_a_request_is_refused(client, key):
    body = json.dumps(READ | {"key": key})[:-1] + ', "task": "format"}'
    answer = client.ask("POST", "/read", body, Content_Type="application/json")
    assert (answer.status, b"'task' stands twice" in answer.read()) == (400, True)


def test_the_limit_of_pixels_holds_for_the_second_frame_of_a_tiff(client, monkeypatch):
    frames = [Image.new("L", (40, 30)), Image.new("L", (400, 300))]
    data = as_file(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    assert client.upload(data, "a.tif")[0] == 200
    monkeypatch.setattr(uploads, "MOST_PIXELS", 100_000)
    status, told = client.upload(data, "a.tif")
    assert (status, "400 x 300 pixels; expected at most 100,000" in told["error"]) == (400, True)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50_000)  # of reading without a server
    found = image_frames(io.BytesIO(data))
    assert next(found).size == (40, 30)
    with pytest.raises(ImageError, match="image frame 2: 400x300 pixels; scale it down"):
        next(found)


def test_at_most_8_files_are_on_their_way_and_all_together_keep_the_quota(tmp_path):
    kept = uploads.Uploads(tmp_path, most_bytes=40_000)
    places = [kept.place("a.bmp") for _ in range(8)]
    with pytest.raises(uploads.BusyError, match="8 files are on their way"):
        kept.place("a.bmp")
    for place in places:
        kept.drop(place.parent)
    keys = []
    for _ in range(30):
        place = kept.place("a.bmp")
        place.write_bytes(as_file(Image.new("RGB", (120, 100)), "BMP"))  # 36,054 bytes
        keys.append(kept.accept(place, "a.bmp").key)
        assert sum(file.stat().st_size for file in tmp_path.rglob("*.*")) <= 20 * 40_000
    assert len(list(tmp_path.iterdir())) == 20
    assert kept.page(keys[-1], 1).name == "a.bmp"


# ---- mutated requests


def mutated(key, rng):
    """Method, path, headers and body of a request with one to three faults."""
    method, path = rng.choice(
        (("POST", "/read"), ("POST", "/render"), ("POST", "/corrections"), ("POST", "/files?name=a.png"))
        + (("GET", "/about"), ("GET", f"/files/{key}/1"))
    )
    fields = READ | {"key": key, "text": "a", "format": "html", "task": rng.choice(("ocr", "spot", "format"))}
    pieces = {name: json.dumps(value) for name, value in fields.items()}
    headers = {"Content-Type": "application/json"}
    for _ in range(rng.choice((1, 1, 2, 3))):
        choice = rng.randrange(7)
        if choice < 3:
            pieces[rng.choice((*pieces, "box", "color"))] = rng.choice(VALUES)
        elif choice == 3:
            pieces.pop(rng.choice(list(pieces)), None)
        elif choice == 4:
            name = rng.choice(
                ("Content-Type", "Content-Length", "Expect", "Accept", "Range", "Cookie", "Sec-Fetch-Site")
            )
            headers[name] = rng.choice(
                ("", "a" * 5000, "-1", "99999999999999999999", "\xff", "none", "application/json")
            )
        elif choice == 5:
            path = rng.choice(
                (
                    path + "?" + "a=1&" * 500,
                    path + "/",
                    "/files/" + quote(key) + "/" + rng.choice(VALUES)[:900],
                )
            )
            path = quote(path, safe="/?=&")
        else:
            method = rng.choice(("GET", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE"))
    body = "{" + ", ".join(f'"{name}": {value}' for name, value in pieces.items()) + "}"
    data = bytearray(body.encode())
    if rng.random() < 0.3:
        data[rng.randrange(len(data))] = rng.randrange(256)
    if rng.random() < 0.1:
        del data[rng.randrange(len(data)) :]
    return method, path, headers, bytes(data)


def test_400_mutated_requests_are_answered_and_none_with_a_fault_of_ours(client, key, caplog):
    """No schemathesis: it works from an OpenAPI description, which a server of one page has none of."""
    caplog.set_level(logging.ERROR)
    statuses = {}
    for number in range(400):
        method, path, headers, body = mutated(key, random.Random(f"request {number}"))
        began = time.monotonic()
        try:
            answer = client.ask(method, path, body, **headers)
            status = answer.status
            answer.read()
        except (http.client.RemoteDisconnected, ConnectionError, http.client.BadStatusLine):
            status = 0  # closed: not HTTP
        assert time.monotonic() - began < 10, number
        assert status < 500, (number, method, path[:80], headers, body[:200])
        statuses[status] = statuses.get(status, 0) + 1
    assert client.ask("GET", "/about").status == 200
    assert not [record for record in caplog.records if record.exc_info]
    assert statuses[400] > 100
    assert statuses[200] > 20
