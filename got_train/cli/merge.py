"""Weights become one checkpoint: an adapter and its base, or with --soup the mean of several runs.

    got merge ADAPTER OUT [--layout transformers]
    got merge --soup A B C OUT [--greedy DATA]

OUT appears only when its weights, read back, give the logits that they should for a probe image.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from got_train.checkpoint.convert import check_paths
from got_train.cpu import settings
from got_train.errors import UsageError
from got_train.requirements import need_paddle

from .arguments import CommandParser
from .convert import DTYPES, LAYOUTS
from .exits import DONE, handle_errors

GREEDY_OPTIONS = {"metric": "edit_distance", "max_new_tokens": 1024, "batch_size": 8, "limit": None}


def parser() -> CommandParser:
    parser = CommandParser(
        "merge",
        usage="got merge ADAPTER OUT [options]\n       got merge --soup FOLDER FOLDER ... OUT [options]",
        description="Write base and adapter as one model, or the mean of several runs, and prove that it "
        "computes the same.",
        epilog="Exit codes: 0 merged, 2 wrong usage or not the same, 130 interrupted.",
    )
    parser.add_argument(
        "folders",
        nargs="+",
        metavar="FOLDER",
        help="what to merge, and last OUT, the folder to make; it must be new or empty",
    )
    parser.add_argument("--base", metavar="FOLDER", help="where the adapter's base is now, if it has moved")
    parser.add_argument("--layout", choices=LAYOUTS, help="whose names to write (default: original)")
    parser.add_argument("--dtype", choices=DTYPES, help="of the weights written (default: the base's)")
    soup = parser.add_argument_group("averaging runs")
    soup.add_argument(
        "--soup",
        action="store_true",
        help="average the weights of runs that started from one checkpoint, models or adapters",
    )
    soup.add_argument(
        "--greedy",
        metavar="DATA",
        help="take only runs that do not make the mean worse on these held-out records, the best run first",
    )
    soup.add_argument("--metric", metavar="NAME", help="what --greedy goes by (default edit_distance)")
    soup.add_argument("--max-new-tokens", type=int, metavar="N", help="of an answer (default 1024)")
    soup.add_argument("--batch-size", type=int, metavar="N", help="read N pages together (default 8)")
    soup.add_argument("--limit", type=int, metavar="N", help="read the first N records only")
    return parser


@handle_errors("merge", interrupted="interrupted; nothing is written")
def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    *sources, result = options.folders
    _check(options, sources)
    for source in sources:
        check_paths(Path(source), Path(result))
    need_paddle()
    settings.tune()
    if options.soup:
        _soup(options, sources, result)
    else:
        from got_train.checkpoint.merge import merge

        merge(sources[0], result, options.base, options.layout, options.dtype)
    return DONE


def _check(options: argparse.Namespace, sources: Sequence[str]) -> None:
    if not options.soup:
        if len(sources) != 1:
            raise UsageError(f"{len(sources)} folders before OUT; expected one ADAPTER, or use --soup")
        for name in ("greedy", *GREEDY_OPTIONS):
            if getattr(options, name) is not None:
                raise UsageError(f"--{name.replace('_', '-')}: goes with --soup; add it, or leave this out")
        return
    if len(sources) < 2:
        raise UsageError(f"--soup: {len(sources)} run before OUT; expected two or more")
    if twice := [folder for folder in sources if sources.count(folder) > 1]:
        raise UsageError(f"--soup: {twice[0]} is named twice; expected each run once")
    if options.base:
        raise UsageError("--base: goes with one ADAPTER; leave it out")
    for name in GREEDY_OPTIONS:
        value = getattr(options, name)
        if value is not None and not options.greedy:
            raise UsageError(
                f"--{name.replace('_', '-')}: goes with --greedy DATA; add it, or leave this out"
            )
        if isinstance(value, int) and value < 1:
            raise UsageError(f"--{name.replace('_', '-')}: {value}; expected at least 1")


def _soup(options: argparse.Namespace, sources: list[str], result: str) -> None:
    from got_train.checkpoint.adapters import is_adapter
    from got_train.checkpoint.soup import check_same_start, write_soup

    check_same_start(sources)
    if is_adapter(sources[0]) and (options.layout or options.dtype):
        raise UsageError("--layout and --dtype: the mean of adapters is an adapter; use got merge on it")
    if options.greedy:
        from got_train.evaluation.greedy_soup import pick

        given = {name: getattr(options, name) for name in GREEDY_OPTIONS}
        chosen = {name: value for name, value in given.items() if value is not None}
        sources = pick(sources, options.greedy, **(GREEDY_OPTIONS | chosen))
    write_soup(sources, result, options.layout, options.dtype)
