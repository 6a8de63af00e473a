"""One offline HTML page that shows what a data set holds: random samples of each task, tokens, duplicates.

Reads anything that training reads; all text on the page is escaped, and it asks the network for nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import itertools
import os
import random
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from got_train.data.record import Record, RecordError
from got_train.errors import DataError, RenderingError
from got_train.formats import PLAIN_TASKS
from got_train.rendering import charts, markup
from got_train.rendering.html import data_uri, escaped

from . import arguments
from .text import token_counts

if TYPE_CHECKING:
    pass

MOST_TEXT = 6000  # characters of an answer that are shown
BARS = 24  # of a histogram
Place = tuple[int, int]  # data set, record
COLORS = {"red": "#e00000", "green": "#00a000", "blue": "#2040ff"}


@dataclass
class Survey:
    """What was read of the data, and the places of the samples by task."""

    length: Callable[[str], int]
    rows: int = 0
    tokens: dict[str, list[int]] = field(default_factory=dict)  # of each task, of every record read
    places: dict[str, dict[str, list[Place]]] = field(default_factory=dict)  # by task and folder
    texts: Counter[str] = field(default_factory=Counter)
    asked: Counter[tuple[str, ...]] = field(default_factory=Counter)  # pictures with what is asked of them
    faults: list[str] = field(default_factory=list)

    def read(self, place: Place, record: Record) -> None:
        kind = token_counts.kind(record.task, record.box, record.color)
        self.tokens.setdefault(kind, []).append(self.length(record.text))
        self.places.setdefault(kind, {}).setdefault(os.path.dirname(record.location), []).append(place)
        self.texts[" ".join(record.text.split())] += 1
        question = (record.task, str(record.box), str(record.color), *map(_fingerprint, record.images))
        self.asked[question] += 1


def survey(sets: Sequence[Sequence[Record]], most: int, tokenizer: str) -> Survey:
    """Read all records, or `most` of them evenly spaced; broken ones are noted."""
    result = Survey(token_counts.measure(tokenizer), rows=sum(map(len, sets)))
    every = [(number, index) for number, records in enumerate(sets) for index in range(len(records))]
    step = max(1.0, len(every) / most)
    for count in range(min(most, len(every))):
        number, index = every[int(count * step)]
        try:
            result.read((number, index), sets[number][index])
        except RecordError as error:
            result.faults.append(str(error))
    return result


def _fingerprint(image: object) -> str:
    data = getattr(image, "data", None)
    return os.fspath(image) if data is None else hashlib.sha256(data).hexdigest()


def page(
    names: Sequence[str], sets: Sequence[Sequence[Record]], survey: Survey, counted: str,
    samples: int, seed: int, side: int,
) -> Iterator[str]:  # fmt: skip
    """The page in pieces, so that many pictures need not stand in memory together."""
    yield HEAD
    yield f"<h1>{escaped(', '.join(names))}</h1>\n"
    yield _overview(names, sets, survey, counted)
    yield _duplicates(survey)
    lot = random.Random(seed)
    for kind in _by_size(survey):
        chosen = _chosen(survey.places[kind], samples, lot)
        yield f'<h2 id="{_anchor(kind)}">{escaped(kind)}</h2>\n<div class="samples">\n'
        for number, index in chosen:
            yield _card(sets[number][index], survey.length, counted, side)
        yield "</div>\n"
    yield "</main></body></html>\n"


def _by_size(survey: Survey) -> list[str]:
    return sorted(survey.tokens, key=lambda kind: -len(survey.tokens[kind]))


def _chosen(places: dict[str, list[Place]], samples: int, lot: random.Random) -> list[Place]:
    """Places by lot, of every folder as many as of the others while it has some."""
    piles = [lot.sample(group, min(samples, len(group))) for group in places.values()]
    turns = itertools.chain.from_iterable(itertools.zip_longest(*piles))
    return sorted(itertools.islice((place for place in turns if place is not None), samples))


def _overview(names: Sequence[str], sets: Sequence[Sequence[Record]], survey: Survey, counted: str) -> str:
    read = sum(map(len, survey.tokens.values()))
    share = (
        "" if read + len(survey.faults) == survey.rows else f", {read:,} of them read for the numbers below"
    )
    rows = [f"<p>{survey.rows:,} records{share}.</p>"]
    if len(names) > 1:
        listed = "".join(
            f"<li>{escaped(name)}: {len(records):,}</li>" for name, records in zip(names, sets, strict=True)
        )
        rows.append(f"<ul>{listed}</ul>")
    rows.append(
        f'<div class="wide"><table><tr><th>task<th>records<th>mean {counted}<th>median<th>longest<th></tr>'
    )
    for kind in _by_size(survey):
        lengths = sorted(survey.tokens[kind])
        mean, median = sum(lengths) / len(lengths), lengths[len(lengths) // 2]
        link = f'<a href="#{_anchor(kind)}">{escaped(kind)}</a>'
        numbers = "".join(f"<td>{number:,}" for number in (len(lengths), round(mean), median, lengths[-1]))
        rows.append(f"<tr><td>{link}{numbers}<td>{_histogram(lengths)}</tr>")
    rows.append("</table></div>")
    if survey.faults:
        listed = "".join(f"<li>{escaped(fault)}</li>" for fault in survey.faults[:10])
        rows.append(f"<h2>{len(survey.faults):,} records that cannot be read</h2><ul>{listed}</ul>")
    return "\n".join(rows) + "\n"


def _histogram(lengths: list[int]) -> str:
    """Bars from 0 to the longest answer."""
    width = max(1, -(-(lengths[-1] + 1) // BARS))
    bars = Counter(length // width for length in lengths)
    most = max(bars.values())
    drawn = "".join(
        f'<rect x="{index * 5}" y="{24 - 24 * count / most:.1f}" width="4" height="{24 * count / most:.1f}"/>'
        for index, count in sorted(bars.items())
    )
    title = f"{BARS} bars of {width} from 0"
    return f'<svg class="bars" viewBox="0 0 {5 * BARS} 24" role="img"><title>{title}</title>{drawn}</svg>'


def _duplicates(survey: Survey) -> str:
    texts = [(count, text) for text, count in survey.texts.items() if count > 1 and text]
    again = sum(count - 1 for count in survey.asked.values() if count > 1)
    total = max(1, sum(survey.asked.values()))
    empty = survey.texts.get("", 0)
    repeated = sum(count - 1 for count, _ in texts)
    lines = [
        "<h2>Duplicates</h2>",
        f"<p>{again:,} records ({100 * again / total:.1f} %) ask the same of the same picture as one before; "
        f"{repeated:,} ({100 * repeated / total:.1f} %) have an answer that stood before; "
        f"{empty:,} answers are empty.</p>",
    ]
    if texts:
        listed = "".join(
            f"<li>{count:,} times: <code>{escaped(text[:120])}</code></li>"
            for count, text in sorted(texts, reverse=True)[:10]
        )
        lines.append(f"<details><summary>The commonest</summary><ul>{listed}</ul></details>")
    return "\n".join(lines) + "\n"


def _card(record: Record, length: Callable[[str], int], counted: str, side: int) -> str:
    pictures = "".join(_picture(image, record, side) for image in record.images)
    asked = [record.task]
    if record.box is not None:
        unit = "" if record.box_unit == "pixel" else " thousandths"
        asked.append(f"{'point' if len(record.box) == 2 else 'box'} {[*record.box]}{unit}")
    if record.color is not None:
        asked.append(f'<b style="color:{COLORS[record.color]}">{record.color}</b> frame')
    size = f"{length(record.text):,} {counted}"
    cut = f"\n... {len(record.text) - MOST_TEXT:,} more characters" if len(record.text) > MOST_TEXT else ""
    raw = f"<pre>{escaped(record.text[:MOST_TEXT])}{cut}</pre>"
    drawn = rendered(record.text[:MOST_TEXT], record.task)
    if drawn is None:
        shown = raw
    else:
        shown = f'<div class="drawn wide">{drawn}</div><details><summary>raw</summary>{raw}</details>'
    empty = '<p class="note">(an empty answer)</p>' if not record.text else ""
    return (
        f'<article><div class="pictures">{pictures}</div><div class="answer">'
        f'<p class="note">{", ".join(asked)}; {size}<br>{escaped(_shortened(record.location))}</p>'
        f"{shown}{empty}</div></article>\n"
    )


def _shortened(where: str) -> str:
    """The end of a path that is too long for a line."""
    return where if len(where) <= 90 else "..." + where[-87:]


def _picture(source: object, record: Record, side: int) -> str:
    from got_train.errors import ImageError
    from got_train.images import open_image

    try:
        image = open_image(source)
    except (ImageError, OSError) as error:
        return f'<p class="fault">{escaped(str(error))}</p>'
    width, height = image.size
    image.thumbnail((side, side))
    shown = f'<img loading="lazy" alt="" src="{data_uri(image, "WEBP", 80)}">'
    marks = _marks(record, width, height)
    if marks:
        shown += f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none">{marks}</svg>'
    return f'<figure><div class="picture">{shown}</div><figcaption>{width} x {height}</figcaption></figure>'


def _marks(record: Record, width: int, height: int) -> str:
    """The box or point of a record over its picture."""
    if record.box is None:
        return ""
    box = list(record.box)
    if record.box_unit == "thousandth":
        box = [value * (height if index % 2 else width) / 1000 for index, value in enumerate(box)]
    if len(box) == 2:
        return f'<circle cx="{box[0]:g}" cy="{box[1]:g}" r="{max(width, height) / 100:g}"/>'
    x1, y1, x2, y2 = box
    return f'<rect x="{x1:g}" y="{y1:g}" width="{x2 - x1:g}" height="{y2 - y1:g}"/>'


# --- answers


def rendered(text: str, task: str) -> str | None:
    """An answer as HTML, by the renderers that read pages have; None if it is nothing but text."""
    if text.lstrip().startswith("{"):
        with contextlib.suppress(RenderingError):
            return _chart(charts.read(text))
    if task in PLAIN_TASKS or "**kern" in text or "\\begin{tikzpicture}" in text:
        return None
    return markup.formatted(text)


def _chart(chart: charts.Chart) -> str:
    titles = "".join(
        f"<tr><th>{escaped(name)}<td>{escaped(title)}</tr>" for name, title in chart.titles.items()
    )
    return f"<table>{titles}</table>{charts.table(chart)}"


def _anchor(kind: str) -> str:
    return re.sub(r"\W+", "-", kind)


HEAD = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Preview of records</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<style>
:root { --paper: #fff; --ink: #1c1c1c; --faint: #666; --line: #ccc; --panel: #f5f5f2; --mark: #d0006f; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #16181b; --ink: #e6e6e6; --faint: #a0a0a0; --line: #444; --panel: #202327;
    --mark: #ff4fa8; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1280px; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.4rem; overflow-wrap: anywhere; }
h2 { margin-top: 2rem; border-bottom: 1px solid var(--line); }
a { color: inherit; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: .5em 0; }
td, th { border: 1px solid var(--line); padding: .15em .5em; text-align: left; }
.note { color: var(--faint); margin: 0 0 .5em; font-size: .85em; overflow-wrap: anywhere; }
.fault { color: var(--mark); }
.bars { width: 120px; height: 24px; fill: currentColor; }
article { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); gap: 1rem; padding: 1rem;
  margin: 1rem 0; background: var(--panel); border-radius: 6px; }
.pictures { display: flex; flex-wrap: wrap; gap: .5rem; align-items: flex-start; }
figure { margin: 0; flex: 1 1 180px; max-width: 100%; } figcaption { color: var(--faint); font-size: .8em; }
.picture { position: relative; display: inline-block; max-width: 100%; background: #fff; line-height: 0; }
.picture img { max-width: 100%; max-height: 620px; }
.picture svg { position: absolute; inset: 0; width: 100%; height: 100%; fill: none; stroke: var(--mark); }
.picture svg * { stroke-width: 2px; vector-effect: non-scaling-stroke; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; font: 13px/1.45 ui-monospace, monospace;
  max-height: 620px; overflow-y: auto; }
.drawn { max-height: 620px; overflow: auto; overflow-wrap: anywhere; }
.drawn :is(h1, h2, h3, h4) { font-size: 1.1em; margin: .3em 0; border: 0; }
.drawn p { margin: .5em 0; } .formula { overflow-x: auto; padding: .4em 0; }
code { overflow-wrap: anywhere; } img.drawn { background: #fff; max-width: 100%; }
details { margin-top: .5em; } summary { cursor: pointer; color: var(--faint); }
@media (max-width: 700px) {
  article { grid-template-columns: minmax(0, 1fr); padding: .6rem; }
  main { padding: .6rem; }
}
</style></head><body><main>
"""


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    options = arguments.CommandParser(
        prog="python -m data_tools.preview", description="Show what records hold, on one offline HTML page."
    )
    options.add_argument("data", nargs="+", metavar="DATA", help="files or folders that training can read")
    options.add_argument(
        "-o", "--out", type=Path, default=Path("preview.html"), help="(default: %(default)s)"
    )
    options.add_argument(
        "--samples", type=arguments.positive, default=8, help="of each task (default: %(default)s)"
    )
    options.add_argument("--seed", type=arguments.not_negative, default=0, help="of the choice (default: 0)")
    options.add_argument("--tokenizer", default="", help="folder (default: characters are counted)")
    options.add_argument(
        "--most",
        type=arguments.positive,
        default=20_000,
        help="records read for the numbers (default: 20,000)",
    )
    options.add_argument(
        "--side",
        type=arguments.positive,
        default=1000,
        help="pixels of a picture's longer side (default: 1000)",
    )
    return options


def make(args: argparse.Namespace) -> Survey:
    """Write the page beside its place, then rename it."""
    from got_train.data.records import read_records

    sets = [read_records(path, allow_empty=True) for path in args.data]
    result = survey(sets, args.most, args.tokenizer)
    if not result.places:
        raise DataError(
            f"{args.data[0]}: no record can be read; {result.faults[0] if result.faults else 'none'}"
        )
    counted = "tokens" if args.tokenizer else "characters"
    beside = args.out.with_name(args.out.name + ".tmp")
    try:
        with beside.open("w", encoding="utf-8") as file:
            file.writelines(page(args.data, sets, result, counted, args.samples, args.seed, args.side))
        beside.replace(args.out)
    finally:
        beside.unlink(missing_ok=True)
    return result


def main(arguments: list[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    try:
        result = make(args)
    except (ValueError, OSError) as error:
        print(str(error).split("\n")[0], file=sys.stderr)
        return 2
    print(f"{args.out}: {result.rows:,} records, {len(result.places)} tasks", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
