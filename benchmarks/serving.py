"""A load test of `got serve` on this machine: throughput against one by one, lost or mixed answers, memory.

python -m benchmarks.serving [--requests 500] [--clients 32] [--batch-size 8]: a server with the nano model is
started, pages of one to five lines are read one after the other, then by many clients at once, of whom one
in ten hangs up before its answer. Every answer is compared with that of the same page alone.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
NANO = ROOT / "configs/nano/weights/stage3"
WORDS = ("license", "copyright", "notice", "the", "source", "code", "this", "list", "conditions")
COUNTS = ("got_generated_tokens_total", "got_decoding_steps_total")
HUNG_UP = 10  # one request in so many is given up by its client


def pages(count: int) -> list[bytes]:
    """Bodies of requests, each for a page of its own."""
    from data_tools.drawing.fonts import find_fonts
    from data_tools.engines.lines import render_page

    font, random, made = find_fonts(["Lato-Regular"])[0], np.random.default_rng(0), []
    for number in range(count):
        lines = random.choice(WORDS, 1 + number % 5).tolist()
        drawn = io.BytesIO()
        render_page(lines, font, 16, 128, np.random.default_rng(number)).image.save(drawn, "PNG")
        url = f"data:image/png;base64,{base64.b64encode(drawn.getvalue()).decode()}"
        content = [{"type": "text", "text": "OCR: "}, {"type": "image_url", "image_url": {"url": url}}]
        made.append(
            json.dumps({"model": "nano", "messages": [{"role": "user", "content": content}]}).encode()
        )
    return made


def ask(port: int, body: bytes, hang_up_after: float | None = None) -> str | None:
    """The text of an answer; None if the client hung up."""
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    line.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
    if hang_up_after is not None:
        time.sleep(hang_up_after)
        line.close()
        return None
    answer = line.getresponse()
    data = json.loads(answer.read())
    line.close()
    if answer.status != 200:
        raise RuntimeError(f"{answer.status}: {data}")
    return data["choices"][0]["message"]["content"]


def peak_memory(pid: int) -> float:
    """MB that the process has had at most."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024


def processor_seconds(pid: int) -> float:
    """That the server has used so far; unlike the clock, other work on the machine does not lengthen it."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def metric(port: int, name: str) -> float:
    line = http.client.HTTPConnection("127.0.0.1", port)
    line.request("GET", "/metrics")
    return float(re.search(rf"^{name} (\S+)", line.getresponse().read().decode(), re.MULTILINE)[1])


def load(
    port: int, bodies: Sequence[bytes], expected: Sequence[str], requests: int, clients: int
) -> tuple[Counter[str], float]:
    """What became of the requests, and the seconds that they took together."""
    random = np.random.default_rng(1)
    numbers = iter(range(requests))
    outcomes: Counter[str] = Counter()
    lock = threading.Lock()
    delays = random.uniform(0, 0.3, requests)

    def client() -> None:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            page = number % len(bodies)
            hung_up = number % HUNG_UP == HUNG_UP - 1
            try:
                text = ask(port, bodies[page], delays[number] if hung_up else None)
                outcome = "hung up" if hung_up else "right" if text == expected[page] else "mixed"
            except (OSError, RuntimeError, http.client.HTTPException) as error:
                outcome = f"lost ({type(error).__name__}: {str(error)[:80]})"
            with lock:
                outcomes[outcome] += 1

    threads = [threading.Thread(target=client) for _ in range(clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes, time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--pages", type=int, default=50)
    options = parser.parse_args()
    bodies = pages(options.pages)
    flags = ["--port", "0", "--threads", "1", "--batch-size", str(options.batch_size)]
    call = [sys.executable, "-m", "got_train", "serve", "--model", f"nano={NANO}", *flags]
    server = subprocess.Popen(call, cwd=ROOT, stderr=subprocess.PIPE, text=True, env=os.environ)
    try:
        line = next(line for line in server.stderr if "http" in line)
        port = int(re.search(r":(\d+)/v1", line)[1])
        ask(port, bodies[0])
        began, used = time.perf_counter(), processor_seconds(server.pid)
        expected = [ask(port, body) for body in bodies]
        alone = len(bodies) / (time.perf_counter() - began)
        alone_used = (processor_seconds(server.pid) - used) / len(bodies)
        before, used = peak_memory(server.pid), processor_seconds(server.pid)
        tokens, steps = (metric(port, name) for name in COUNTS)
        outcomes, seconds = load(port, bodies, expected, options.requests, options.clients)
        used = (processor_seconds(server.pid) - used) / options.requests
        tokens, steps = (metric(port, name) - old for name, old in zip(COUNTS, (tokens, steps), strict=True))
        rate = outcomes["right"] / seconds
        print(f"one by one: {alone:.2f} answers a second, {alone_used:.3f} processor seconds each")
        print(
            f"{options.clients} clients: {rate:.2f} answers a second ({seconds:.0f} s), "
            f"{used:.3f} processor seconds each"
        )
        print(f"outcomes: {dict(outcomes)}")
        print(f"rows a step: {tokens / steps:.2f}")
        print(f"peak memory: {before:.0f} MB before, {peak_memory(server.pid):.0f} MB after")
        left = metric(port, "got_requests_running") + metric(port, "got_requests_waiting")
        print(f"requests left in the server: {left:.0f}")
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)


if __name__ == "__main__":
    main()
