"""A checkpoint in another layout: python -m got_train.cli.convert SRC DST --layout transformers.

Prints what SRC holds, writes DST, reads it back, and says done only if a probe image gives the same logits.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from got_train.checkpoint import layouts
from got_train.checkpoint.convert import check_paths, convert

if TYPE_CHECKING:
    pass

LAYOUTS = [layout for layout in layouts.LAYOUTS if layout != "vary"]  # of stage 1, which has no other
DTYPES = ("float32", "bfloat16")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m got_train.cli.convert",
        description="Write a GOT checkpoint in another layout and prove that it computes the same.",
    )
    parser.add_argument("source", metavar="SRC", help="a checkpoint folder or file in any layout")
    parser.add_argument("result", metavar="DST", help="the folder to make; must be new or empty")
    parser.add_argument("--layout", required=True, choices=LAYOUTS, help="whose names to write")
    parser.add_argument("--dtype", choices=DTYPES, help="of the weights written; SRC's own if not given")
    options = parser.parse_args(arguments)

    from got_train.errors import RequirementError
    from got_train.requirements import need_paddle

    try:
        check_paths(Path(options.source), Path(options.result))
        need_paddle()
        from got_train.cpu import settings

        settings.tune()
        convert(Path(options.source), Path(options.result), options.layout, options.dtype)
    except (RequirementError, ValueError, OSError) as error:
        print(f"convert: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
