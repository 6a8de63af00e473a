"""A headless Chromium that measures what it draws: scripts run in an empty page, over pipes.

Speaks the DevTools protocol itself, so nothing but the browser is needed. Knows nothing of what is drawn.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from typing import Any

from got_train.errors import RequirementError

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
ENVIRONMENT = "GOT_CHROMIUM"  # the program, where it is not on the path
SECONDS = 30  # for one answer of the browser


def program() -> str | None:
    """The browser's program; None if there is none."""
    named = os.environ.get(ENVIRONMENT)
    return shutil.which(named) if named else next(filter(None, map(shutil.which, _NAMES)), None)


class Chromium:
    """One empty page of a browser, 800 x 400 pixels."""

    def __init__(self) -> None:
        path = program()
        if path is None:
            raise RequirementError("no Chromium is installed; use `apt-get install chromium`")
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        self._number, self._rest, self._session = 0, b"", ""
        command = [path, "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
        command += [f"--user-data-dir={self._profile.name}", "--no-first-run", "--disable-extensions"]
        command += ["--disable-background-networking", "--disable-component-update", "about:blank"]
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec 3<&{to_browser} 4>&{from_browser}; exec "$@"', "bash", *command],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        try:
            targets = self._call("Target.getTargets")["targetInfos"]
            page = next(target["targetId"] for target in targets if target["type"] == "page")
            attached = self._call("Target.attachToTarget", {"targetId": page, "flatten": True})
            self._session = attached["sessionId"]
            size = {"width": 800, "height": 400, "deviceScaleFactor": 1, "mobile": False}
            self._call("Emulation.setDeviceMetricsOverride", size)
        except BaseException:
            self.close()
            raise

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        asked = {"expression": script, "returnByValue": True, "awaitPromise": True}
        answer = self._call("Runtime.evaluate", asked)
        if "exceptionDetails" in answer:
            raise RequirementError(f"Chromium: a script failed: {answer['exceptionDetails'].get('text')}")
        return answer["result"].get("value")

    def close(self) -> None:
        self._process.kill()
        self._process.wait(20)
        for pipe in (self._write, self._read):
            with contextlib.suppress(OSError):
                os.close(pipe)
        self._profile.cleanup()

    def _call(self, method: str, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters or {}}
        if self._session:
            message["sessionId"] = self._session
        sent = memoryview(json.dumps(message).encode() + b"\0")
        while sent:
            sent = sent[os.write(self._write, sent) :]
        end = time.monotonic() + SECONDS
        while True:
            answer = self._next(end)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RequirementError(f"Chromium: {method}: {answer['error'].get('message')}")
                return answer["result"]

    def _next(self, end: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, *_ = select.select([self._read], [], [], max(0.0, end - time.monotonic()))
            piece = os.read(self._read, 1 << 16) if ready else b""
            if not piece:
                raise RequirementError("Chromium: it ended, or gave no answer in time")
            self._rest += piece
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)
