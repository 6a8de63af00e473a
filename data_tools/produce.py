"""The one way in which every engine makes its records: parallel, seeded by index, resumable, in whole shards.

Knows rows with their pictures in memory and two containers (parquet shards, folder with JSONL); how a page is
made is the engine's matter.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import struct
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from got_train import workers as processes
from got_train.atomic_write import write_atomic
from got_train.errors import DrawingError

if TYPE_CHECKING:
    import numpy
    from PIL import Image

CONTAINERS = ("parquet", "folder")
STATE = ".production"  # hidden, so that readers of the folder (datasets.load_dataset) do not take it for data
PNG_COLOURS = {"L": 0, "RGB": 2}  # mode of a picture -> colour type of a PNG
ROW_GROUP = 50  # rows; a reader decodes this many pictures to reach one
NOT_BYTES = ("out", "num_workers", "shard", "strict")


class Rejected(Exception):  # noqa: N818 - not a fault: the next attempt draws again
    """A page that must not become records; the cause is counted in the closing table."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


@dataclass(frozen=True)
class Picture:
    """An encoded image and its file name; rows of one page may share a picture."""

    name: str
    data: bytes


@dataclass(frozen=True)
class Row:
    """One record with its pictures; box in pixels x1, y1, x2, y2."""

    id: str
    pictures: tuple[Picture, ...]
    task: str
    text: str
    box: tuple[int, int, int, int] | None = None
    color: str | None = None
    char_boxes: list[list[Any]] = field(default_factory=list)  # character, x1, y1, x2, y2
    meta: dict[str, Any] = field(default_factory=dict)


class Engine(Protocol):
    """Makes pages by number: the same index and generator give the same rows, in any process (it pickles)."""

    name: str
    attempts: int  # how often a rejected page is drawn again before the run stops; 1 leaves it out instead

    def rows(self, index: int, rng: numpy.random.Generator) -> list[Row]: ...


@runtime_checkable
class InBatches(Protocol):
    """An engine that makes pages ahead and so has to know which ones a shard will ask for."""

    def expect(self, pages: range) -> None: ...


@dataclass(frozen=True)
class Plan:
    """Where the records go, how many pages, and how they are cut into shards."""

    out: Path
    container: str
    count: int
    seed: int
    shard_pages: int
    settings: dict[
        str, Any
    ]  # all that changes the bytes; kept beside the records and compared when a run goes on

    @property
    def shards(self) -> int:
        return -(-self.count // self.shard_pages)

    def pages(self, shard: int) -> range:
        return range(shard * self.shard_pages, min(self.count, (shard + 1) * self.shard_pages))


def settings(args: argparse.Namespace, **resolved: Any) -> dict[str, Any]:
    """All options that change the bytes, with what they led to and the versions that draw."""
    versions = {"python": platform.python_version()}
    for package in ("pillow", "numpy", "pyarrow", "pypdfium2", "typst"):
        with suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    chosen = {key: value for key, value in vars(args).items() if key not in NOT_BYTES}
    return {**chosen, **resolved, "versions": versions}


def encode(image: Image.Image, suffix: str) -> bytes:
    """PNG or JPEG bytes; the same image gives the same bytes."""
    import io

    if suffix == "png" and image.mode in PNG_COLOURS:
        return _png(image)
    buffer = io.BytesIO()
    if suffix == "jpg":
        # no colour subsampling: a frame of two pixels would smear into the text beside it
        image.save(buffer, "JPEG", quality=92, subsampling=0)
    else:
        image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _png(image: Image.Image) -> bytes:
    """PNG without filters: half the time of Pillow's, fewer bytes of drawings and as many of noisy scans."""
    import numpy

    pixels = numpy.asarray(image).reshape(image.height, -1)
    rows = numpy.pad(pixels, ((0, 0), (1, 0))).tobytes()  # each row begins with its filter, 0
    header = struct.pack(">2I5B", *image.size, 8, PNG_COLOURS[image.mode], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def generator(plan_seed: int, engine: str, index: int, attempt: int) -> numpy.random.Generator:
    """The random numbers of one attempt at one page; nothing else that a run does may use others."""
    import numpy

    return numpy.random.default_rng([plan_seed, zlib.crc32(engine.encode()), index, attempt])


def write(
    engine: Engine,
    args: argparse.Namespace,
    count: int,
    without: Mapping[str, str] | None = None,
    **resolved: Any,
) -> dict[str, Any]:
    """Make what a command's options ask for; `resolved` is what they led to. Returns the counts.

    `without` names what was asked for and cannot be made here, such as Chinese, and why.
    """
    chosen = settings(args, **resolved) | ({"without": dict(without)} if without else {})
    plan = Plan(args.out, args.container, count, args.seed, args.shard_pages, chosen)
    return produce(engine, plan, num_workers=args.num_workers, shard=args.shard)


def produce(
    engine: Engine, plan: Plan, *, num_workers: int = 1, shard: tuple[int, int] = (1, 1)
) -> dict[str, Any]:
    """Make all shards of this part that are not finished yet; returns the counts over all finished shards."""
    _prepare(plan)
    first, parts = shard
    mine = [number for number in range(plan.shards) if number % parts == first - 1]
    todo = [number for number in mine if not _state(plan, number).exists()]
    done = sum(len(plan.pages(number)) for number in mine if number not in set(todo))
    total = sum(len(plan.pages(number)) for number in mine)
    if num_workers == 1 or len(todo) <= 1:
        with _Progress(total, done) as progress:
            for number in todo:
                make_shard(engine, plan, number, progress.page)
    else:
        _produce_parallel(engine, plan, todo, min(num_workers, len(todo)), _Progress(total, done))
    finished = [number for number in range(plan.shards) if _state(plan, number).exists()]
    if plan.container == "folder" and len(finished) == plan.shards:
        _merge(plan)
    return _summary(plan, finished)


def make_shard(engine: Engine, plan: Plan, number: int, page_done: Callable[[int], None]) -> None:
    """One shard: its rows beside their place, then renamed, then the state file that says it is whole."""
    rows: list[Row] = []
    rejected: Counter[str] = Counter()
    if isinstance(engine, InBatches):
        engine.expect(plan.pages(number))
    for index in plan.pages(number):
        page, causes = _page(engine, plan, index)
        rejected.update(causes)
        rows += page
        page_done(len(page))
    state = {"pages": len(plan.pages(number)), "rows": len(rows), "rejected": dict(sorted(rejected.items()))}
    write = _write_parquet if plan.container == "parquet" else _write_folder
    write(plan, number, rows)
    write_atomic(_state(plan, number), json.dumps(state) + "\n")


def print_summary(summary: dict[str, Any]) -> None:
    """The closing table, to stderr."""
    rejected = summary["rejected"]
    tried = summary["pages"] + (sum(rejected.values()) if summary["redrawn"] else 0)
    print(f"{summary['rows']} records of {summary['pages']} pages in {summary['out']}", file=sys.stderr)
    for cause, count in rejected.items():
        print(f"  rejected: {count:>8} ({100 * count / max(1, tried):.2f} %)  {cause}", file=sys.stderr)
    for what, cause in summary["without"].items():
        print(f"  without {what}: {cause}", file=sys.stderr)
    for cause, count in summary.get("left_out", {}).items():
        print(f"  left out: {count:>8} files  {cause}", file=sys.stderr)
    if summary["missing_shards"]:
        print(f"  {summary['missing_shards']} shards of other parts are still to be made", file=sys.stderr)


def command(
    parser: Callable[[], argparse.ArgumentParser], make: Callable[[argparse.Namespace], dict[str, Any]]
) -> Callable[[list[str] | None], int]:
    """The main of an engine: reads its options, makes the records, prints the table, gives the exit code."""

    def main(words: list[str] | None = None) -> int:
        args = parser().parse_args(words)
        return exit_code(lambda: print_summary(make(args)))

    return main


def exit_code(command: Callable[[], int | None]) -> int:
    """What a command returns, or 0; wrong inputs are one line and 2, Ctrl-C is one line and 130."""
    try:
        return command() or 0
    except (ValueError, OSError) as error:
        print(str(error).split("\n")[0], file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on where this one ended", file=sys.stderr)
        return 130


def _page(engine: Engine, plan: Plan, index: int) -> tuple[list[Row], list[str]]:
    causes: list[str] = []
    for attempt in range(engine.attempts):
        try:
            return engine.rows(index, generator(plan.seed, engine.name, index, attempt)), causes
        except Rejected as rejection:
            causes.append(rejection.cause)
    if engine.attempts > 1:
        raise DrawingError(
            f"page {index}: all {engine.attempts} attempts were rejected, the last one for: {causes[-1]}; "
            "these settings leave nothing to draw"
        )
    return [], causes


def _prepare(plan: Plan) -> None:
    """Refuse a folder that holds records of other settings, and mark an empty one with these."""
    kept = plan.out / STATE / "settings.json"
    # through JSON, so that tuples compare equal with the lists read back
    settings = json.loads(json.dumps({**plan.settings, "container": plan.container, "count": plan.count,
                                      "seed": plan.seed, "shard_pages": plan.shard_pages}))  # fmt: skip
    if kept.exists():
        before = json.loads(kept.read_text())
        changed = sorted(key for key in {*before, *settings} if before.get(key) != settings.get(key))
        if changed:
            key = changed[0]
            raise DrawingError(
                f"--out {plan.out}: holds records made with {key}={before.get(key)!r}, not "
                f"{settings.get(key)!r}; repeat those settings to go on, or choose another folder"
            )
        return
    if plan.out.exists() and (not plan.out.is_dir() or any(plan.out.iterdir())):
        raise DrawingError(f"--out {plan.out}: exists and holds other files; choose a new or empty folder")
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(kept, json.dumps(settings, indent=1) + "\n")


def _state(plan: Plan, number: int) -> Path:
    return plan.out / STATE / f"{number:05d}.json"


def _write_parquet(plan: Plan, number: int, rows: list[Row]) -> None:
    import pyarrow
    from pyarrow import parquet

    value = {"dtype": "string", "_type": "Value"}
    features = {
        "id": value,
        "images": [{"_type": "Image"}],
        "task": value,
        "text": value,
        "box": [{"dtype": "int32", "_type": "Value"}],
        "color": value,
        "char_boxes": value,
        "meta": value,
    }
    string = pyarrow.string()
    image = pyarrow.struct([("bytes", pyarrow.binary()), ("path", string)])
    types = {"images": pyarrow.list_(image), "box": pyarrow.list_(pyarrow.int32())}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    schema = pyarrow.schema([(name, types.get(name, string)) for name in features], metadata=metadata)
    columns = {
        "id": [row.id for row in rows],
        "images": [
            [{"bytes": picture.data, "path": picture.name} for picture in row.pictures] for row in rows
        ],
        "task": [row.task for row in rows],
        "text": [row.text for row in rows],
        "box": [row.box for row in rows],
        "color": [row.color for row in rows],
        "char_boxes": [json.dumps(row.char_boxes, ensure_ascii=False) for row in rows],
        "meta": [json.dumps(row.meta, ensure_ascii=False) for row in rows],
    }
    target = plan.out / f"records-{number:05d}-of-{plan.shards:05d}.parquet"
    beside = target.with_name(f".{target.name}.tmp")
    parquet.write_table(pyarrow.table(columns, schema=schema), beside, row_group_size=ROW_GROUP)
    beside.replace(target)


def _write_folder(plan: Plan, number: int, rows: list[Row]) -> None:
    folder = plan.out / "images" / f"{number:05d}"
    beside = folder.with_name(f".{folder.name}.tmp")
    for left in (folder, beside):  # of a run that was stopped between the rename and the state file
        if left.exists():
            shutil.rmtree(left)
    beside.mkdir(parents=True)
    lines = []
    for row in rows:
        for picture in row.pictures:
            (beside / picture.name).write_bytes(picture.data)
        names = [f"images/{folder.name}/{picture.name}" for picture in row.pictures]
        record: dict[str, Any] = {"id": row.id, "images": names, "task": row.task, "text": row.text}
        record |= {"box": list(row.box)} if row.box else {}
        record |= {"color": row.color} if row.color else {}
        record |= {"char_boxes": row.char_boxes} if row.char_boxes else {}
        record |= {"meta": row.meta} if row.meta else {}
        lines.append(json.dumps(record, ensure_ascii=False) + "\n")
    beside.replace(folder)
    write_atomic(_state(plan, number).with_suffix(".jsonl"), "".join(lines))


def _merge(plan: Plan) -> None:
    parts = [_state(plan, number).with_suffix(".jsonl") for number in range(plan.shards)]
    write_atomic(plan.out / "records.jsonl", "".join(path.read_text(encoding="utf-8") for path in parts))


def _summary(plan: Plan, finished: list[int]) -> dict[str, Any]:
    states = [json.loads(_state(plan, number).read_text()) for number in finished]
    rejected: Counter[str] = Counter()
    for state in states:
        rejected.update(state["rejected"])
    summary = {
        "out": str(plan.out),
        "pages": sum(state["pages"] for state in states),
        "rows": sum(state["rows"] for state in states),
        "rejected": dict(rejected.most_common()),
        "redrawn": plan.settings.get("redrawn", True),
        "without": plan.settings.get("without", {}),
        "missing_shards": plan.shards - len(finished),
    }
    write_atomic(plan.out / STATE / "summary.json", json.dumps(summary, indent=1) + "\n")
    return summary


class _Progress:
    """A bar on stderr: pages done, pages and rows a second, time left."""

    def __init__(self, total: int, done: int) -> None:
        from tqdm import tqdm

        # a log file gets a line now and then, a terminal a bar that moves
        seconds = 0.2 if sys.stderr.isatty() else 30
        self.bar = tqdm(total=total, initial=done, unit=" pages", file=sys.stderr, mininterval=seconds)
        self.rows = 0
        self.start = time.monotonic()

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def page(self, rows: int) -> None:
        self.advance(1, rows)

    def advance(self, pages: int, rows: int) -> None:
        self.rows += rows
        rate = self.rows / max(1e-9, time.monotonic() - self.start)
        self.bar.set_postfix_str(f"{rate:.0f} rows/s", refresh=False)
        self.bar.update(pages)


_worker: dict[str, Any] = {}


def start_worker(engine: Engine, plan: Plan, pages: Any, rows: Any) -> None:
    processes.exit_with_parent(os.getppid())
    _worker.update(engine=engine, plan=plan, pages=pages, rows=rows)


def _work(number: int) -> None:
    def page_done(rows: int) -> None:
        with _worker["pages"].get_lock():
            _worker["pages"].value += 1
            _worker["rows"].value += rows

    make_shard(_worker["engine"], _worker["plan"], number, page_done)


def _produce_parallel(engine: Engine, plan: Plan, todo: list[int], workers: int, progress: _Progress) -> None:
    """Shards by processes, never threads: pdfium and typst hold state of their own."""
    import multiprocessing
    from concurrent import futures

    context = multiprocessing.get_context("spawn")
    pages, rows = context.Value("q", 0), context.Value("q", 0)
    shown = [0, 0]
    executor = futures.ProcessPoolExecutor(workers, context, start_worker, (engine, plan, pages, rows))
    try:
        with progress:
            waiting = {executor.submit(_work, number) for number in todo}
            while waiting:
                ended, waiting = futures.wait(waiting, timeout=0.5, return_when=futures.FIRST_COMPLETED)
                now = [pages.value, rows.value]
                progress.advance(now[0] - shown[0], now[1] - shown[1])
                shown = now
                for future in ended:
                    future.result()
    except BaseException as error:
        executor.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            process.terminate()
        if isinstance(error, futures.process.BrokenProcessPool):
            raise DrawingError(
                "a worker process was ended from outside (out of memory?); repeat the command to go on, "
                "with a smaller --num-workers if memory was short"
            ) from None
        raise
    executor.shutdown()
