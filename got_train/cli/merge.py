"""An adapter and its base as one model: python -m got_train.cli.merge ADAPTER OUT [--layout transformers].

OUT appears only when its weights, read back, give the logits of base and adapter for a probe image.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from got_train.checkpoint.convert import check_paths
from got_train.checkpoint.merge import merge

from .convert import DTYPES, LAYOUTS

if TYPE_CHECKING:
    pass

MERGED, REFUSED, INTERRUPTED = 0, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m got_train.cli.merge",
        allow_abbrev=False,
        description="Write base and adapter as one model and prove that it computes the same.",
        epilog="Exit codes: 0 merged, 2 wrong usage or not the same, 130 interrupted.",
    )
    parser.add_argument("adapter", metavar="ADAPTER", help="a folder that a LoRA run wrote")
    parser.add_argument("result", metavar="OUT", help="the folder to make; must be new or empty")
    parser.add_argument("--base", metavar="FOLDER", help="where the adapter's base is now, if it has moved")
    parser.add_argument("--layout", choices=LAYOUTS, help="whose names to write (default: original)")
    parser.add_argument("--dtype", choices=DTYPES, help="of the weights written (default: the base's)")
    options = parser.parse_args(arguments)

    from got_train.errors import RequirementError
    from got_train.requirements import need_paddle

    try:
        check_paths(Path(options.adapter), Path(options.result))
        need_paddle()
        from got_train.cpu import settings

        settings.tune()
        merge(options.adapter, options.result, options.base, options.layout, options.dtype)
    except KeyboardInterrupt:
        print("merge: interrupted; nothing is written", file=sys.stderr)
        return INTERRUPTED
    except (RequirementError, ValueError, OSError) as error:
        print(f"merge: {error}", file=sys.stderr)
        return REFUSED
    return MERGED


if __name__ == "__main__":
    sys.exit(main())
