"""A whole stage's data from one recipe: `python -m data_tools.build configs/data/nano.yaml scale=0.1`.

Every engine goes on where it was stopped, by its own state; what is missing on this machine is skipped and
named. Knows the commands of the engines and the files that they leave, nothing of what they draw.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from got_train.atomic_write import write_atomic
from got_train.errors import DrawingError

from . import arguments, produce
from .drawing import renderers
from .drawing.fonts import FontError
from .recipe import Recipe, RecipeError, load_recipe
from .text import token_counts

if TYPE_CHECKING:
    from tqdm import tqdm

# programs, packages or fonts that are not here; all other errors are the recipe's
MISSING = (ModuleNotFoundError, renderers.RendererError, FontError, DrawingError)
NOTHING = 10**9  # the part of so many that has no shard: its folder is prepared, and no record is made
PARTS_EACH = 4  # of a source for every process, at most; each part reads fonts and texts again
GRACE = 5  # seconds that workers have to leave
TICK = 0.5  # seconds between two looks at the files


@dataclass(frozen=True)
class Part:
    """What one process makes of a source: the shards whose number leaves `rest` when divided by `step`."""

    source: str
    engine: str
    arguments: tuple[str, ...]
    folder: str  # that paths are relative to
    out: str
    tokenizer: str
    shards: tuple[int, ...]
    rest: int
    step: int


@dataclass(frozen=True)
class Source:
    """A source whose folder is prepared: how many pages in how many shards, and how to make them."""

    name: str
    engine: str
    arguments: tuple[str, ...]
    out: Path
    pages: int
    shards: int
    expected: float  # records of all shards
    redrawn: bool  # whether a rejected page was made again, or left out
    without: dict[str, str]  # what was asked for and cannot be made here, such as Chinese, and why
    of: tuple[str, ...] = ()  # the sources that it takes records of

    def mine(self, shard: tuple[int, int]) -> list[int]:
        """The shards of part i of n."""
        return list(range(shard[0] - 1, self.shards, shard[1]))

    def state(self, number: int) -> Path:
        return self.out / produce.STATE / f"{number:05d}.json"

    def done(self, number: int, tokenizer: str) -> bool:
        is_made = self.state(number).exists()
        return is_made and token_counts.read_shard(self.out, number, tokenizer) is not None

    @property
    def complete(self) -> bool:
        return all(self.state(number).exists() for number in range(self.shards))


# yields a part with what stopped it ("" if nothing did), or None when some time has passed
Runner = Callable[[list[Part], int], Iterator[tuple[Part, str] | None]]


class Build:
    """One run over a recipe: sources without inputs first, then those that take their records."""

    def __init__(self, recipe: Recipe, runner: Runner, workers: int, shard: tuple[int, int] = (1, 1)) -> None:
        self.recipe, self.runner, self.workers, self.shard = recipe, runner, workers, shard
        self.sources: dict[str, Source] = {}
        self.skipped: dict[str, str] = {}
        self.waiting: dict[str, str] = {}
        self.failed: dict[str, str] = {}
        self._said: set[tuple[str, str]] = set()

    def run(self, strict: bool = False) -> dict[str, Any]:
        """Make all that can be made; returns the summary, which stands in the recipe's folder too."""
        _check_tokenizer(self.recipe.tokenizer)
        rest = list(self.recipe.sources)
        progress = _Progress(self)
        with contextlib.closing(progress):
            while rest:
                ready = [name for name in rest if not set(self.recipe.sources[name].of) & set(rest)]
                rest = [name for name in rest if name not in ready]
                for name in ready:
                    self._prepare(name, strict)
                self._make(ready, progress)
        if not self.sources:
            raise DrawingError(
                f"{self.recipe.out}: nothing can be made here; {_first(self.skipped, self.waiting)}"
            )
        return self._close()

    def _prepare(self, name: str, strict: bool) -> None:
        """Have the engine write its settings into its folder, or note why it cannot."""
        try:
            inputs = self._inputs(name)
            if inputs is None:
                return
            self.sources[name] = self._source(name, inputs, strict)
            for what, cause in self.sources[name].without.items():
                if (what, cause) not in self._said:  # most sources miss the same
                    _say(f"without {what}: {cause}")
                self._said.add((what, cause))
            return
        except MISSING as error:
            cause = missing(error)
        except _Absent as absent:
            cause = str(absent)
        if strict:
            raise DrawingError(f"sources.{name}: {cause}")
        self.skipped[name] = cause
        _say(f"skipped: {name}: {cause}")

    def _inputs(self, name: str) -> tuple[str, ...] | None:
        """Those sources whose records this one takes that can be made here; None if it has to wait."""
        absent = self.recipe.absent(name)
        if absent:
            raise _Absent(f"{absent[0]}: no such file or folder; yours, see docs/data_tools.md")
        of = self.recipe.sources[name].of
        inputs = tuple(other for other in of if other in self.sources)
        waited = [other for other in of if other in self.waiting]
        waited += [other for other in inputs if not self.sources[other].complete]
        if waited:
            self.waiting[name] = (
                f"for all parts of {waited[0]}; the same command makes it when they are there"
            )
            return None
        if of and not inputs:
            raise _Absent(f"{' and '.join(of)}, whose records it takes, are skipped")
        return inputs

    def _source(self, name: str, inputs: tuple[str, ...], strict: bool) -> Source:
        arguments = tuple(self.recipe.arguments(name, inputs, strict))
        engine, out = self.recipe.engine(name), self.recipe.folder(name)
        make_shards(engine, arguments, (NOTHING, NOTHING))
        settings = json.loads((out / produce.STATE / "settings.json").read_text())
        pages, shards = settings["count"], -(-settings["count"] // settings["shard_pages"])
        expected = pages * self.recipe.sources[name].rows_each
        redrawn, without = settings.get("redrawn", True), settings.get("without", {})
        return Source(name, engine, arguments, out, pages, shards, expected, redrawn, without, inputs)

    def _make(self, names: list[str], progress: _Progress) -> None:
        parts = self._parts([self.sources[name] for name in names if name in self.sources])
        progress.show()
        if not parts:
            return
        with contextlib.closing(self.runner(parts, self.workers)) as ended:
            for result in ended:
                if result and result[1] and result[0].source not in self.failed:
                    self.failed[result[0].source] = result[1]
                progress.show()

    def _parts(self, sources: list[Source]) -> list[Part]:
        """What is left of this machine's share, the sources mixed so that the time left can be foretold."""
        parts: list[tuple[float, Part]] = []
        first, machines = self.shard[0] - 1, self.shard[1]
        for source in sources:
            mine = source.mine(self.shard)
            count = min(len(mine), max(1, self.workers) * PARTS_EACH)
            for number in range(count):
                rest, step = first + number * machines, count * machines
                todo = [shard for shard in mine if shard % step == rest]
                todo = [shard for shard in todo if not source.done(shard, self.recipe.tokenizer)]
                if todo:
                    part = Part(
                        source.name, source.engine, source.arguments, os.getcwd(), str(source.out),
                        self.recipe.tokenizer, tuple(todo), rest, step,
                    )  # fmt: skip
                    parts.append(((number + 0.5) / count, part))
        return [part for _, part in sorted(parts, key=lambda shard: shard[0])]

    def _close(self) -> dict[str, Any]:
        sources = {name: self._closed(source) for name, source in self.sources.items()}
        counts = (tasks for closed in sources.values() for tasks in closed.pop("counts"))
        summary = {
            "out": self.recipe.out,
            "tokenizer": self.recipe.tokenizer or token_counts.CHARACTERS,
            "scale": self.recipe.scale,
            "sources": sources,
            "tasks": {task: list(count) for task, count in token_counts.total(counts).items()},
            "skipped": self.skipped,
            "waiting": self.waiting,
            "failed": self.failed,
        }
        out = Path(self.recipe.out)
        _write(out / "summary.json", json.dumps(summary, indent=1) + "\n")
        _write(out / "train.yaml", train_snippet(self.recipe, sources))
        if self.recipe.replay:
            _write(out / "replay.yaml", replay_snippet(self.recipe))
        return summary

    def _closed(self, source: Source) -> dict[str, Any]:
        numbers = [number for number in range(source.shards) if source.state(number).exists()]
        states = [json.loads(source.state(number).read_text()) for number in numbers]
        rejected: Counter[str] = Counter()
        for state in states:
            rejected.update(state["rejected"])
        counts = [token_counts.read_shard(source.out, number, self.recipe.tokenizer) for number in numbers]
        counts = [shard_counts for shard_counts in counts if shard_counts is not None]
        return {
            "engine": source.engine,
            "pages": sum(state["pages"] for state in states),
            "rows": sum(state["rows"] for state in states),
            "tokens": sum(count.tokens for shard_counts in counts for count in shard_counts.values()),
            "rejected": dict(rejected.most_common()),
            "redrawn": source.redrawn,
            "without": source.without,
            "missing_shards": source.shards - len(numbers),
            "counts": counts,
        }


class _Absent(Exception):  # noqa: N818 - a reason to leave a source out
    """Something of the user's that is not there."""


class _Progress:
    """A bar on stderr over all engines: records made, records a second, time left."""

    def __init__(self, build: Build) -> None:
        self._build = build
        self._rows: dict[Path, int] = {}  # of a shard's state file
        self._bar: tqdm | None = None

    def show(self) -> None:
        pages = sum(map(self._made, self._build.sources.values()))
        total = max(pages, round(self._total()))
        if self._bar is None:
            self._bar = _bar(pages, total)
        self._bar.total = total
        self._bar.update(pages - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def _made(self, source: Source) -> int:
        pages = 0
        for number in source.mine(self._build.shard):
            path = source.state(number)
            if path not in self._rows and path.exists():
                self._rows[path] = json.loads(path.read_text())["rows"]
            pages += self._rows.get(path, 0)
        return pages

    def _total(self) -> float:
        """Records that there will be: those of sources that are done, and what is expected of the others."""
        build, total = self._build, 0.0
        for name in build.recipe.sources:
            if name in build.sources:
                total += self._expected(build.sources[name])
            elif name not in build.skipped and name not in build.waiting:
                total += build.recipe.rows(name) / build.shard[1]
        return total

    def _expected(self, source: Source) -> float:
        mine = source.mine(self._build.shard)
        rows = [self._rows[source.state(number)] for number in mine if source.state(number) in self._rows]
        if source.name in self._build.failed or len(rows) == len(mine):
            return sum(rows)
        if rows:
            return sum(rows) * len(mine) / len(rows)
        return source.expected * len(mine) / max(1, source.shards)


def _bar(pages: int, total: int) -> tqdm:
    from tqdm import tqdm

    seconds = 0.2 if sys.stderr.isatty() else 30
    return tqdm(initial=pages, total=total, unit=" rows", file=sys.stderr, mininterval=seconds, smoothing=0)


def make_shards(engine: str, arguments: Sequence[str], shard: tuple[int, int]) -> None:
    """What the engine's command would make, in this process and without its bar."""
    module = importlib.import_module(f"data_tools.engines.{engine}")
    words = [*arguments, "--num-workers=1", f"--shard={shard[0]}/{shard[1]}"]
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        args = module.parser().parse_args(words)
        module.make(args)


def make_part(part: Part) -> str:
    """Make and count the shards of a part; returns what is missing for it, if anything is."""
    os.chdir(part.folder)
    try:
        make_shards(part.engine, part.arguments, (part.rest + 1, part.step))
    except MISSING as error:
        return missing(error)
    for number in part.shards:
        token_counts.count_shard(Path(part.out), number, part.tokenizer)
    return ""


def run_here(parts: list[Part], workers: int) -> Iterator[tuple[Part, str] | None]:
    """The parts by processes of this machine."""
    import multiprocessing
    from concurrent import futures

    executor = futures.ProcessPoolExecutor(
        min(workers, len(parts)),
        multiprocessing.get_context("spawn"),
        produce.start_worker,  # leaves Ctrl-C to this process, and ends with it
        (None, None, None, None),
    )
    try:
        waiting = {executor.submit(make_part, part): part for part in parts}
        while waiting:
            ended, _ = futures.wait(waiting, timeout=TICK, return_when=futures.FIRST_COMPLETED)
            for future in ended:
                yield waiting.pop(future), future.result()
            yield None
    except futures.process.BrokenProcessPool:
        raise DrawingError(
            "a worker process was ended from outside (out of memory?); repeat the command to go on, "
            "with a smaller --num-workers if memory was short"
        ) from None
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
        _end(multiprocessing.active_children(), GRACE if not waiting else 0)


def _end(workers: list[Any], seconds: float) -> None:
    """Wait for workers; all they make is on the disk, so one whose renderers keep it is ended."""
    end = time.monotonic() + seconds
    for worker in workers:
        worker.join(max(0, end - time.monotonic()))
        worker.terminate()


def missing(error: BaseException) -> str:
    """One line on what is not here."""
    if isinstance(error, ModuleNotFoundError):
        return f"python package {error.name}: not installed; `make data-tools` installs it"
    return str(error).split("\n")[0]


def train_snippet(recipe: Recipe, sources: dict[str, Any]) -> str:
    """The list that `data.train` of a run takes: every source with its weight."""
    weighted = {name: recipe.sources[name].share for name in sources if sources[name]["rows"]}
    empty = {name for name in weighted if recipe.engine(name) == "negatives"}
    entries = [
        _entry(str(recipe.folder(name)), weight, name in empty) for name, weight in weighted.items() if weight
    ]
    left = [name for name in recipe.sources if name not in weighted]
    notes = [f"# not in it, for it could not be made here: {', '.join(left)}\n"] if left else []
    notes += [f"# without {what}\n" for what in _without(sources)]
    return "# for data.train of a run; weights in millions of records\n" + "".join(notes) + _listed(entries)


def _without(sources: Mapping[str, Any]) -> list[str]:
    """What could not be made here, in which sources, and why; their rows are there, made of the rest."""
    result: dict[tuple[str, str], list[str]] = {}
    for name, source in sources.items():
        for what, cause in source["without"].items():
            result.setdefault((what, cause), []).append(name)
    return [f"{what}: {', '.join(names)}: {cause}" for (what, cause), names in result.items()]


def replay_snippet(recipe: Recipe) -> str:
    """The list that `data.replay` takes: the sources of former stages, their weights times the share."""
    import yaml

    entries = []
    for folder, share in recipe.replay.items():
        path = Path(folder) / "train.yaml"
        if not path.is_file():
            _say(f"replay: no {path}; build that stage, then repeat this command")
            continue
        for entry in yaml.safe_load(path.read_text(encoding="utf-8")) or []:
            weight = entry["weight"] * share
            entries.append(_entry(entry["path"], weight, entry.get("allow_empty", False)))
    return "# for data.replay of a run; weights in millions of records\n" + _listed(entries)


def _entry(path: str, weight: float, allow_empty: bool) -> str:
    more = ", allow_empty: true" if allow_empty else ""
    return f"{{path: {json.dumps(path)}, weight: {float(f'{weight:.6g}')}{more}}}"


def _listed(entries: list[str]) -> str:
    return "[" + ",\n ".join(entries) + "]\n"


def table(summary: dict[str, Any]) -> str:
    """The closing table as text: sources, tasks, causes of rejection."""
    counted = "characters" if summary["tokenizer"] == token_counts.CHARACTERS else "tokens"
    lines = [_row("source", "engine", "pages", "rows", counted, "rejected")]
    for name, source in summary["sources"].items():
        rejected = sum(source["rejected"].values())
        tried = source["pages"] + (rejected if source["redrawn"] else 0)
        share = f"{100 * rejected / max(1, tried):.1f} %"
        lines.append(_row(name, source["engine"], source["pages"], source["rows"], source["tokens"], share))
    lines += ["", _row("task", "", "", "rows", counted, "mean", "longest")]
    for task, (rows, tokens, longest) in summary["tasks"].items():
        lines.append(_row(task, "", "", rows, tokens, f"{tokens / max(1, rows):.0f}", longest))
    causes = [
        (count, f"{name}: {cause}")
        for name, source in summary["sources"].items()
        for cause, count in source["rejected"].items()
    ]
    lines += ["", " rejected  cause"] if causes else []
    lines += [f"{count:>9,}  {cause}" for count, cause in sorted(causes, key=lambda source: -source[0])]
    lines += [f"without {what}" for what in _without(summary["sources"])]
    for what in ("skipped", "waiting", "failed"):
        lines += [f"{what}: {name}: {cause}" for name, cause in summary[what].items()]
    unfinished = sum(source["missing_shards"] for source in summary["sources"].values())
    if unfinished:
        lines.append(f"{unfinished} shards are still to be made")
    return "\n".join(lines)


def _row(source: str, engine: str, *numbers: int | str) -> str:
    texts = (f"{number:,}" if isinstance(number, int) else number for number in numbers)
    return f"{source:<18} {engine:<12}" + "".join(f"{text:>13}" for text in texts)


def _say(line: str) -> None:
    """A line on stderr above the bar."""
    from tqdm import tqdm

    tqdm.write(line, file=sys.stderr)


def _check_tokenizer(folder: str) -> None:
    """Refuse a wrong folder here, not after an hour in a worker."""
    if folder and not Path(folder).is_dir():
        raise DrawingError(
            f"tokenizer {folder}: no such folder; tokenizer=FOLDER names the run's, and with tokenizer= "
            "characters are counted"
        )
    token_counts.measure(folder)


def _first(*causes: dict[str, str]) -> str:
    for source_causes in causes:
        for name, cause in source_causes.items():
            return f"{name}: {cause}"
    return "sources is empty"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text)


def parser(prog: str = "python -m data_tools.build") -> argparse.ArgumentParser:
    """The options of the command."""
    options = arguments.CommandParser(prog=prog, description="Make all records of a stage from a recipe.")
    options.add_argument("config", metavar="CONFIG", help="a recipe such as configs/data/stage1.yaml")
    options.add_argument(
        "overrides", nargs="*", metavar="key=value", help="scale=0.001, sources.charts.rows=10"
    )
    options.add_argument("--strict", action="store_true", help="refuse to begin when a tool is missing")
    return options


def finish(build: Build, strict: bool) -> int:
    """Run a build, print its table; the exit code: 2 for wrong inputs, 1 where something is left undone."""
    return produce.exit_code(lambda: _report(build.run(strict)))


def _report(summary: dict[str, Any]) -> int:
    out = Path(summary["out"])
    print(table(summary), file=sys.stderr)
    print(f'for a run: data.train="$(cat {out / "train.yaml"})"', file=sys.stderr)
    if (out / "replay.yaml").exists():
        print(f'           data.replay="$(cat {out / "replay.yaml"})"', file=sys.stderr)
    return 1 if summary["failed"] else 0


def main(words: list[str] | None = None) -> int:
    options = parser()
    options.add_argument(
        "--num-workers", type=arguments.positive, default=os.cpu_count() or 1, help="(default: all cores)"
    )
    options.add_argument(
        "--shard", type=arguments.part, default=(1, 1), help="make only part i of n, as in 2/8 (default: 1/1)"
    )
    args = options.parse_intermixed_args(words)
    try:
        recipe = load_recipe(args.config, args.overrides)
    except RecipeError as error:
        print(error, file=sys.stderr)
        return 2
    return finish(Build(recipe, run_here, args.num_workers, args.shard), args.strict)


if __name__ == "__main__":
    sys.exit(main())
