"""How many pages are enough: got curve CONFIG trains on shares of the data and says what more would bring."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from got_train.config.loader import load_config
from got_train.requirements import need_paddle
from got_train.training.signals import SignalHandler

from .arguments import CommandParser
from .exits import DONE, handle_errors


def parser() -> CommandParser:
    parser = CommandParser(
        "curve",
        description="Train on nested shares of data.train, document by document, measure each on "
        "data.validation, and say what 2 and 5 times as many pages would bring.",
        epilog="Exit codes: 0 done, 2 wrong usage or too little data, 130 interrupted. The same command goes "
        "on with what is there.",
    )
    add = parser.add_argument
    add("config", help="a YAML file as for got train")
    add("overrides", nargs="*", metavar="section.key=value", help="settings that win over the file")
    add(
        "--output-dir", default="runs/curve", metavar="FOLDER", help="runs, curve.json and curve.html go here"
    )
    add("--shares", type=_numbers, metavar="A,B,C", help="of the documents (default 0.125,0.25,0.5,1)")
    add("--seeds", type=_whole, metavar="A,B", help="train each share with these seeds (default train.seed)")
    add("--metric", default="edit_distance", metavar="NAME", help="what is measured (default edit_distance)")
    add("--batch-size", type=int, default=8, metavar="N", help="read N held-out rows together (default 8)")
    return parser


@handle_errors("curve", interrupted="interrupted; run the same command to go on")
def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_intermixed_args(arguments)
    config = load_config(options.config, options.overrides)
    need_paddle()
    from got_train.training.learning_curve.runner import CURVE, PAGE, SHARES, Plan, measure

    signals = SignalHandler()
    signals.listen()
    output_dir = Path(options.output_dir)
    plan = Plan(
        config,
        output_dir,
        options.shares or SHARES,
        options.seeds or (),
        options.metric,
        options.batch_size,
    )
    print("\n".join([*measure(plan, signals), f"{output_dir / CURVE}, {output_dir / PAGE}"]))
    return DONE


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(map(float, text.split(",")))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}; expected numbers such as 0.25,0.5,1") from None


def _whole(text: str) -> tuple[int, ...]:
    try:
        return tuple(map(int, text.split(",")))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}; expected whole numbers such as 1,2,3") from None
