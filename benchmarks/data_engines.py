"""What every data engine does on one core: samples a second, rejected share, mean answer, three thumbnails.

Samples a second are told twice: of CPU time, that of this process and of all that it starts (node, LaTeX,
chromium), which other work on the machine changes less, and by the clock. Beside them stands what the
renderer alone does with the same answers in a second of CPU time (benchmarks/plain_renderers.py).

python benchmarks/data_engines.py [--only charts,music] [--thumbnails docs/data_tools] prints the table of
docs/data_tools.md, with the tokens of --tokenizer. Each engine runs in a process of its own with the command
of its row, after a first shard that is not counted (fonts, texts and renderers load there).
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SEED = 7
PARTS = 4  # shards; the first is not counted
SHADES = 64  # grey levels or colours of a thumbnail
# name, engine, pages, options; those behind MADE take the records of the pages named
ENGINES = (
    ("lines", "lines", 4000, []),
    ("scene", "scene", 120, ["--language", "both"]),
    ("pages", "pages", 120, ["--tasks", "ocr,format", "--columns", "1-3"]),
    ("pages, Chinese", "pages", 80, ["--tasks", "ocr,format", "--language", "zh"]),
    ("pdf", "pdf", 0, []),
    ("handwriting", "handwriting", 120, ["--language", "both"]),
    ("formulas", "formulas", 600, []),
    ("formulas by LaTeX", "formulas", 400, ["--renderer", "latex"]),
    ("tables", "tables", 1000, ["--chinese", "0.3"]),
    ("markdown", "markdown", 24, ["--language", "both"]),
    ("molecules", "molecules", 400, []),
    ("music", "music", 80, []),
    ("geometry", "geometry", 1000, []),
    ("charts", "charts", 80, ["--language", "both"]),
    ("charts by echarts", "charts", 80, ["--language", "both", "--looks", "echarts"]),
    ("negatives", "negatives", 80, ["--language", "both"]),
    ("regions", "regions", 0, ["--tasks", "box,color"]),
    ("crops", "crops", 40, ["--page-tasks", "format"]),
    ("multipage", "multipage", 40, ["--page-tasks", "format", "--pages", "2-4", "--page-tokens", "8000",
                                    "--most-tokens", "40000"]),
)  # fmt: skip
DRAWN_ALONE = ("tables", "markdown", "molecules", "music", "geometry", "charts")
WARM = 5  # answers that a renderer alone draws before its time counts
OF_PAGES = ("regions", "crops", "multipage")


def command(name: str, engine: str, pages: int, options: list[str], folder: Path, pdfs: str) -> list[str]:
    words = [engine, "--seed", str(SEED), *(["--count", str(pages)] if pages else []), *options]
    words += ["--pdfs", pdfs] if engine == "pdf" else []
    words += ["--records", str(folder / "source")] if engine in OF_PAGES else []
    words += ["--tokenizer", "configs/nano/tokenizer"] if engine == "multipage" else []
    return words


def run(words: list[str], out: Path) -> dict[str, Any]:
    """The time of all shards but the first, and what they hold; in a process of its own."""
    return _alone("--one", [words, str(out)])


def _alone(task: str, told: list[Any]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, __file__, task, json.dumps(told)], cwd=ROOT,
        capture_output=True, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}, preexec_fn=_one_core,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return json.loads(done.stdout.splitlines()[-1])


def _one_core() -> None:
    """This process and all that it starts (node, LaTeX, chromium) share one core."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def one(words: list[str], out: str) -> None:
    """Make the first shard, then time the others; prints JSON."""
    engine, *options = words
    module = importlib.import_module(f"data_tools.{engine}")
    pages = int(options[options.index("--count") + 1]) if "--count" in options else None
    shard_pages = ["--shard-pages", str(-(-pages // PARTS) if pages else 25)]
    fixed = ["--out", out, "--num-workers", "1", *shard_pages]
    parser = module.parser()
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        many = pages is None and 10**6
        module.make(parser.parse_args([*options, *fixed, "--shard", f"1/{many or PARTS}"]))
        began, worked = time.perf_counter(), cpu_seconds()
        rows, rejected, tried = 0, 0, 0
        for part in range(2, PARTS + 1):
            module.make(parser.parse_args([*options, *fixed, "--shard", f"{part}/{many or PARTS}"]))
        seconds, work = time.perf_counter() - began, cpu_seconds() - worked
    for number in range(1, PARTS):
        state = json.loads((Path(out) / ".production" / f"{number:05d}.json").read_text())
        causes = sum(state["rejected"].values())
        rows, rejected = rows + state["rows"], rejected + causes
        tried += state["pages"] + (causes if engine not in ("pdf", "regions") else 0)
    print(
        json.dumps(
            {"seconds": seconds, "cpu_seconds": work, "rows": rows, "rejected": rejected, "tried": tried}
        )
    )


def renderer_alone(engine: str, out: str) -> None:
    """Draw the answers of an engine's records by its renderer and nothing else; prints JSON."""
    from plain_renderers import PLAIN

    rows = list(answers(Path(out)))
    PLAIN[engine](rows[:WARM])
    worked = cpu_seconds()
    PLAIN[engine](rows)
    print(json.dumps({"rate": len(rows) / (cpu_seconds() - worked)}))


def cpu_seconds() -> float:
    """CPU time of this process, of its children that ended, and of its descendants that run (Linux)."""
    spent: dict[int, tuple[int, int]] = {}  # process -> its parent, ticks with those of ended children
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it may end meanwhile
            fields = stat.read_text().rpartition(")")[2].split()
            spent[int(stat.parent.name)] = int(fields[1]), sum(map(int, fields[11:15]))

    def mine(process: int) -> bool:
        return process == os.getpid() or (process in spent and mine(spent[process][0]))

    return sum(ticks for process, (_, ticks) in spent.items() if mine(process)) / os.sysconf("SC_CLK_TCK")


def answers(out: Path) -> Iterator[dict[str, Any]]:
    from pyarrow import parquet

    for path in sorted(out.glob("*.parquet")):
        yield from parquet.read_table(path, columns=["text", "images", "box", "color"]).to_pylist()


def thumbnail(rows: list[dict[str, Any]], path: Path) -> None:
    """Three pictures of a run beside each other, each at most 320 x 240 pixels large."""
    from PIL import Image, ImageDraw

    chosen = [rows[place * (len(rows) - 1) // 2] for place in range(3)]
    sheet = Image.new("RGB", (3 * 330, 240), "#808080")
    for place, row in enumerate(chosen):
        image = Image.open(io.BytesIO(row["images"][0]["bytes"])).convert("RGB")
        if row["box"]:
            ImageDraw.Draw(image).rectangle(row["box"], outline="#e0006f", width=max(2, image.width // 200))
        image.thumbnail((320, 240), Image.Resampling.LANCZOS)
        sheet.paste(image, (place * 330 + (330 - image.width) // 2, (240 - image.height) // 2))
    path.parent.mkdir(parents=True, exist_ok=True)
    for shades in (SHADES, SHADES // 2, SHADES // 4, SHADES // 8):
        sheet.quantize(shades, dither=Image.Dither.NONE).save(path, optimize=True)
        if path.stat().st_size < 40_000:
            return


def shown(words: list[str]) -> str:
    """The command as a user types it."""
    hidden = {"--records": "RECORDS", "--pdfs": "PDFS"}
    return " ".join(hidden.get(words[place - 1], word) for place, word in enumerate(words))


def main() -> int:
    parser = argparse.ArgumentParser(description="Time every data engine on one core.")
    parser.add_argument("--only", default="", help="names of rows, such as charts,music")
    parser.add_argument(
        "--pdfs", default="", help="folder of PDF files for the engine pdf (default: left out)"
    )
    parser.add_argument("--tokenizer", default="configs/nano/tokenizer", help="folder (default: %(default)s)")
    parser.add_argument("--thumbnails", type=Path, help="folder for the pictures (default: none)")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--renderer_alone", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one or options.renderer_alone:
        task = one if options.one else renderer_alone
        task(*json.loads(options.one or options.renderer_alone))
        return 0
    only = set(filter(None, options.only.split(",")))
    sys.path.insert(0, str(ROOT))
    print(
        "| engine | samples/CPU s | renderer alone | samples/s | rejected | mean tokens | command "
        "| three of them |\n|---|--:|--:|--:|--:|--:|---|---|"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for row in ENGINES:
            if not only or row[0] in only:
                print(measured(row, folder, options), flush=True)
    return 0


def measured(row: tuple[str, str, int, list[str]], folder: Path, options: argparse.Namespace) -> str:
    """One line of the table."""
    from data_tools.text import token_counts

    label, engine, pages, words = row
    if engine == "pdf" and not options.pdfs:
        return f"| {label} | | | | | | no PDF files here | |"
    if engine in OF_PAGES and not (folder / "source").exists():
        run(
            ["pages", "--seed", "8", "--count", "100", "--tasks", "ocr,format", "--blocks"], folder / "source"
        )
    out = folder / label.replace(" ", "_").replace(",", "")
    words = command(label, engine, pages, words, folder, options.pdfs)
    try:
        found = run(words, out)
    except RuntimeError as error:
        return f"| {label} | | | | | | {error} | |"
    rows = list(answers(out))
    shown_rows = ""
    if options.thumbnails:
        thumbnail(rows, options.thumbnails / f"{out.name}.png")
        shown_rows = f"![{label}]({options.thumbnails.name}/{out.name}.png)"
    length = token_counts.measure(options.tokenizer)
    tokens = sum(length(each["text"]) for each in rows) / len(rows)
    share = 100 * found["rejected"] / max(1, found["tried"])
    ours, clock = (f"{found['rows'] / found[each]:.3g}" for each in ("cpu_seconds", "seconds"))
    plain = ""
    if label in DRAWN_ALONE:
        plain = f"{_alone('--renderer_alone', [engine, str(out)])['rate']:.3g}"
    cells = (label, ours, plain, clock, f"{share:.1f} %", f"{tokens:.0f}", f"`{shown(words)}`", shown_rows)
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
