"""A local page to try checkpoints on: got app --model-name-or-path CHECKPOINT."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from got_train.errors import UsageError
from got_train.requirements import need_packages, need_paddle

from .arguments import CommandParser
from .exits import TERMINATED, handle_errors

if TYPE_CHECKING:
    from got_train.app.server import Server

MOST_MODELS = 2
MOST_WAITING = 8  # pages in the queue; more are refused, so that nobody waits without end


def parser() -> CommandParser:
    command = CommandParser(
        "app",
        description="A local web page: drop a page, read it, correct it, save it as training data. "
        "With --queue a second one, to correct drafts one after the other.",
    )
    add = command.add_argument
    models = "checkpoint or adapter; a second one reads the same pages beside it; --queue needs none"
    several = {"nargs": "+", "action": "extend"}
    names = ("--model-name-or-path", "--model_name_or_path", "--model-name")
    add(*names, **several, default=[], metavar="FOLDER", help=models)
    queue = "walk through these drafts of got queue with keys: accept, correct, next, undo"
    add("--queue", type=Path, metavar="FILE", help=queue)
    corrected = "append corrected answers to this file (default corrections/records.jsonl)"
    add("--corrections", type=Path, default=Path("corrections/records.jsonl"), metavar="FILE", help=corrected)
    add(
        "--host",
        default="127.0.0.1",
        help="listen here (default 127.0.0.1: this machine only); there is no password",
    )
    add("--port", type=int, default=7860, help="listen on this port (default 7860; 0: any free one)")
    names = "accept requests for this host name too"
    add("--allow-host", **several, default=[], metavar="NAME", help=names)
    add(
        "--max-upload-mb",
        type=float,
        default=50,
        metavar="N",
        help="accept files up to N megabytes (default 50)",
    )
    room = "stop an answer after N tokens (default: what its prompt leaves of 8192)"
    add("--max-new-tokens", type=int, metavar="N", help=room)
    add("--dtype", choices=("float32", "bfloat16", "float16"), default="float32", help="(default float32)")
    add("--threads", type=int, metavar="N", help="use N CPU threads (default: all cores)")
    add("--browser", action="store_true", help="open the page in the browser")
    return command


@handle_errors("app")
def main(arguments: Sequence[str] | None = None) -> int:
    return run(parser().parse_args(arguments))


def run(options: argparse.Namespace) -> int:
    _check(options)
    need_packages("app", "starlette", "uvicorn")
    if options.model_name_or_path:
        need_paddle()
    from got_train.app import listening

    # end in order, so that the uploaded pages are removed
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    opened = listening.open_port(options.host, options.port)
    with tempfile.TemporaryDirectory(prefix="got_train-app-") as folder, opened:
        server = _server(options, Path(folder))
        address = listening.address(options.host, opened) + "queue" * (options.queue is not None)
        opened.listen()  # from here on requests wait and are not refused
        print(f"app: {address} (Ctrl-C ends it)", file=sys.stderr, flush=True)
        if options.browser:
            webbrowser.open(address)
        listening.serve(server.app, opened, connections=64, shutdown_seconds=2)
    return 0


def _check(options: argparse.Namespace) -> None:
    folders = options.model_name_or_path
    if not folders and options.queue is None:
        raise UsageError("--model-name-or-path: none; give a checkpoint, or drafts to correct with --queue")
    if len(folders) > MOST_MODELS or len(set(folders)) < len(folders):
        raise UsageError(f"--model-name-or-path: {', '.join(folders)}; expected one or two different ones")
    if not options.max_upload_mb > 0:
        raise UsageError(f"--max-upload-mb: {options.max_upload_mb}; expected more than 0")
    if options.corrections.suffix != ".jsonl" or options.corrections.is_dir():
        raise UsageError(f"--corrections: {options.corrections}; expected a .jsonl file")


def _server(options: argparse.Namespace, folder: Path) -> Server:
    from got_train.app.corrections import Corrections
    from got_train.app.listening import in_address
    from got_train.app.review import Review
    from got_train.app.server import Server
    from got_train.app.uploads import Uploads
    from got_train.cpu import settings as cpu
    from got_train.drafts.draft import read_drafts
    from got_train.inference.reader import OcrPipeline, load_pipeline
    from got_train.inference.scheduler import Scheduler, SchedulerConfig

    def load(name: str) -> OcrPipeline:
        print(f"app: loading {name}", file=sys.stderr, flush=True)
        return load_pipeline(name, options.dtype, max_new_tokens=options.max_new_tokens)

    corrections = Corrections(options.corrections)
    review = None if options.queue is None else Review(options.queue, read_drafts(options.queue), corrections)
    if options.model_name_or_path:
        cpu.tune(options.threads)
    scheduler = Scheduler(load, options.model_name_or_path, SchedulerConfig(max_waiting=MOST_WAITING))
    uploads = Uploads(folder, int(options.max_upload_mb * 2**20))
    hosts = [in_address(name) for name in (*options.allow_host, options.host)]
    return Server(scheduler, uploads, corrections, hosts, review)
