"""An OpenAI-compatible endpoint for one or several models: got serve --model CHECKPOINT."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from got_train.errors import UsageError
from got_train.requirements import need_packages, need_paddle

from .arguments import CommandParser
from .exits import TERMINATED, handle_errors

if TYPE_CHECKING:
    from got_train.app.api import Api

API_KEY = "GOT_API_KEY"
LOCAL = ("127.0.0.1", "localhost", "::1")


def parser() -> CommandParser:
    command = CommandParser(
        "serve",
        description="An endpoint with OpenAI's chat completions, for any client: pictures in, text out.",
        epilog=f"The environment variable {API_KEY} is the key that clients must send.",
    )
    add = command.add_argument
    several = {"nargs": "+", "action": "extend"}
    models = "checkpoint or adapter, called as its folder or as NAME; several are several models"
    names = ("--model", "--model-name-or-path", "--model_name_or_path")
    add(*names, **several, required=True, dest="model", metavar="[NAME=]FOLDER", help=models)
    add("--host", default="127.0.0.1", help=f"listen here (default 127.0.0.1); others need {API_KEY}")
    add("--port", type=int, default=8000, help="listen on this port (default 8000; 0: any free one)")
    add("--allow-host", **several, default=[], metavar="NAME", help="accept requests for this host name too")
    fetched = "fetch pictures from this host, as it stands in their addresses (default: data URLs only)"
    add("--allow-image-host", **several, default=[], metavar="HOST", help=fetched)
    task = "read any text that is none of GOT's questions as this task (default: refuse it)"
    add("--default-task", choices=("ocr", "format", "spot"), help=task)
    add("--batch-size", type=int, default=8, metavar="N", help="decode N requests together (default 8)")
    add("--max-waiting", type=int, default=64, metavar="N", help="answer 429 if N requests wait (default 64)")
    wait = "an idle model waits so long for others to share the first pass (default 5)"
    add("--batch-wait-ms", type=float, default=5, metavar="MS", help=wait)
    add("--timeout", type=float, default=600, metavar="SECONDS", help="end a request then (default 600)")
    shutdown = "give requests under way so long when the server is told to end (default 30)"
    add("--shutdown-timeout", type=int, default=30, metavar="SECONDS", help=shutdown)
    limit = "accept pictures and PDFs up to N megabytes (default 20)"
    add("--max-upload-mb", type=float, default=20, metavar="N", help=limit)
    room = "stop an answer after N tokens (default: what its prompt leaves of 8192)"
    add("--max-new-tokens", type=int, metavar="N", help=room)
    add("--dtype", choices=("float32", "bfloat16", "float16"), default="float32", help="(default float32)")
    add("--threads", type=int, metavar="N", help="use N CPU threads (default: all cores)")
    return command


@handle_errors("serve")
def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    models, key = _models(options.model), os.environ.get(API_KEY)
    _check(options, key)
    need_packages("app", "starlette", "uvicorn", "python_multipart", "prometheus_client")
    need_paddle()
    from got_train.app import listening

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))  # until the web server has its own
    opened = listening.open_port(options.host, options.port)
    with tempfile.TemporaryDirectory(prefix="got_train-serve-") as folder, opened:
        api = _api(options, models, key, Path(folder))
        opened.listen()
        address = listening.address(options.host, opened)
        print(f"serve: {address}v1 (Ctrl-C ends it)", file=sys.stderr, flush=True)
        connections = 2 * (options.max_waiting + options.batch_size * len(models)) + 64
        listening.serve(api.app, opened, connections, options.shutdown_timeout)
    return 0


def _models(given: Sequence[str]) -> dict[str, str]:
    """Folders by the name that clients ask for."""
    models: dict[str, str] = {}
    for word in given:
        name, equals, folder = word.partition("=")
        if not equals or Path(word).exists():
            name, folder = Path(word).resolve().name, word
        if not name or not folder:
            raise UsageError(f"--model: {word!r}; expected FOLDER or NAME=FOLDER")
        if name in models:
            raise UsageError(f"--model: two are called {name}; give one another name, as NAME={word}")
        models[name] = folder
    return models


def _check(options: argparse.Namespace, key: str | None) -> None:
    if key is not None and (len(key) < 8 or not key.isascii() or not key.isprintable() or " " in key):
        raise UsageError(f"{API_KEY}: expected at least 8 printable characters without spaces")
    if key is None and options.host not in LOCAL:
        raise UsageError(f"--host {options.host}: others can reach it; set {API_KEY}, or use 127.0.0.1")
    for name, least in (
        ("batch_size", 1),
        ("max_waiting", 1),
        ("max_new_tokens", 1),
        ("shutdown_timeout", 0),
    ):
        value = getattr(options, name)
        if value is not None and value < least:
            raise UsageError(f"--{name.replace('_', '-')}: {value}; expected at least {least}")
    for name in ("timeout", "max_upload_mb"):
        if not 0 < getattr(options, name) < float("inf"):
            raise UsageError(f"--{name.replace('_', '-')}: {getattr(options, name)}; expected more than 0")
    if not 0 <= options.batch_wait_ms <= 10_000:
        raise UsageError(f"--batch-wait-ms: {options.batch_wait_ms:g}; expected 0 to 10000")


def _api(options: argparse.Namespace, models: dict[str, str], key: str | None, folder: Path) -> Api:
    from got_train.app.api import Api, ApiConfig
    from got_train.app.listening import in_address
    from got_train.app.uploads import Uploads
    from got_train.checkpoint.adapters import SharedModels
    from got_train.cpu import settings as cpu
    from got_train.inference.reader import OcrPipeline, load_pipeline
    from got_train.inference.scheduler import Scheduler, SchedulerConfig

    shared = SharedModels(options.dtype)

    def load(name: str) -> OcrPipeline:
        print(f"serve: loading {name} from {models[name]}", file=sys.stderr, flush=True)
        limit = options.max_new_tokens
        return load_pipeline(models[name], shared=shared, max_new_tokens=limit, retry_loops=True)

    cpu.tune(options.threads)
    scheduler = Scheduler(
        load,
        list(models),
        SchedulerConfig(
            batch_size=options.batch_size,
            max_waiting=options.max_waiting,
            wait_seconds=options.batch_wait_ms / 1000,
            timeout_seconds=options.timeout,
        ),
    )
    config = ApiConfig(
        api_key=key,
        hosts=tuple(in_address(name) for name in (*options.allow_host, options.host)),
        image_hosts=tuple(options.allow_image_host),
        default_task=options.default_task,
    )
    return Api(scheduler, Uploads(folder, int(options.max_upload_mb * 2**20)), config)
