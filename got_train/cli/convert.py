"""A checkpoint in another layout: got convert SRC DST --layout transformers.

Prints what SRC holds, writes DST, reads it back, and says done only if a probe image gives the same logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from got_train.checkpoint import layouts
from got_train.checkpoint.convert import check_paths, convert
from got_train.cpu import settings
from got_train.requirements import need_paddle

from .arguments import CommandParser
from .exits import DONE, handle_errors

LAYOUTS = [layout for layout in layouts.LAYOUTS if layout != "vary"]  # of stage 1, which has no other
DTYPES = ("float32", "bfloat16")


def parser() -> CommandParser:
    parser = CommandParser(
        "convert",
        description="Write a GOT checkpoint in another layout and prove that it computes the same.",
    )
    parser.add_argument("source", metavar="SRC", help="a checkpoint folder or file in any layout")
    parser.add_argument("result", metavar="DST", help="the folder to make; must be new or empty")
    parser.add_argument("--layout", required=True, choices=LAYOUTS, help="whose names to write")
    parser.add_argument("--dtype", choices=DTYPES, help="of the weights written; SRC's own if not given")
    parser.add_argument(
        "--quantize",
        choices=("int8",),
        help="the decoder's matrices: a quarter of the bytes, for got infer on a CPU",
    )
    return parser


@handle_errors("convert")
def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    check_paths(Path(options.source), Path(options.result))
    need_paddle()
    settings.tune()
    convert(Path(options.source), Path(options.result), options.layout, options.dtype, options.quantize)
    return DONE
