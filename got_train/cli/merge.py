"""An adapter and its base as one model: got merge ADAPTER OUT [--layout transformers].

OUT appears only when its weights, read back, give the logits of base and adapter for a probe image.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from got_train.checkpoint.convert import check_paths
from got_train.checkpoint.merge import merge
from got_train.cpu import settings
from got_train.requirements import need_paddle

from .arguments import CommandParser
from .convert import DTYPES, LAYOUTS
from .exits import DONE, handle_errors


def parser() -> CommandParser:
    parser = CommandParser(
        "merge",
        description="Write base and adapter as one model and prove that it computes the same.",
        epilog="Exit codes: 0 merged, 2 wrong usage or not the same, 130 interrupted.",
    )
    parser.add_argument("adapter", metavar="ADAPTER", help="a folder that a LoRA run wrote")
    parser.add_argument("result", metavar="OUT", help="the folder to make; must be new or empty")
    parser.add_argument("--base", metavar="FOLDER", help="where the adapter's base is now, if it has moved")
    parser.add_argument("--layout", choices=LAYOUTS, help="whose names to write (default: original)")
    parser.add_argument("--dtype", choices=DTYPES, help="of the weights written (default: the base's)")
    return parser


@handle_errors("merge", interrupted="interrupted; nothing is written")
def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    check_paths(Path(options.adapter), Path(options.result))
    need_paddle()
    settings.tune()
    merge(options.adapter, options.result, options.base, options.layout, options.dtype)
    return DONE
