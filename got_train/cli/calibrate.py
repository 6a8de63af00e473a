"""How far a checkpoint's confidences can be believed: got calibrate CHECKPOINT --data FILE.

Reads records whose text is known, and writes the temperatures that fit into the checkpoint's folder.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from got_train.atomic_write import write_atomic
from got_train.errors import UsageError
from got_train.inference.calibration import calibrate, table
from got_train.inference.confidence import CALIBRATION

from .arguments import CommandParser
from .exits import DONE, handle_errors


def parser() -> CommandParser:
    command = CommandParser("calibrate", description=__doc__)
    add = command.add_argument
    add("checkpoint", help=f"a checkpoint's folder; {CALIBRATION} is written into it")
    add("--data", required=True, metavar="FILE", help="records with known text that were not trained on")
    add("--limit", type=int, metavar="N", help="use only the first N records")
    add("--batch-size", type=int, default=8, metavar="N", help="read N pages together (default 8)")
    add("--max-new-tokens", type=int, metavar="N", help="stop an answer after N tokens")
    add(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        default="float32",
        help="compute in this type (default float32)",
    )
    add("--threads", type=int, metavar="N", help="use N CPU threads (default: all cores)")
    return command


@handle_errors("calibrate")
def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    calibration = run(options)
    print(table(calibration))
    print(f"-> {Path(options.checkpoint) / CALIBRATION}; got infer uses it from now on", file=sys.stderr)
    return DONE


def run(options: argparse.Namespace) -> dict[str, Any]:
    from got_train.cpu import settings
    from got_train.data.records import read_records
    from got_train.inference.reader import load_pipeline

    for name in ("limit", "batch_size", "max_new_tokens", "threads"):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            flag = "--" + name.replace("_", "-")
            raise UsageError(f"{flag}: {getattr(options, name)}; expected at least 1")
    records = list(read_records(options.data, allow_empty=True))[: options.limit]
    settings.tune(options.threads)
    reader = load_pipeline(
        options.checkpoint, options.dtype, max_new_tokens=options.max_new_tokens, calibration=None
    )
    calibration = {
        "data": options.data,
        "dtype": options.dtype,
        **calibrate(reader, records, options.batch_size),
    }
    text = json.dumps(calibration, ensure_ascii=False, indent=2) + "\n"
    write_atomic(Path(options.checkpoint) / CALIBRATION, text)
    return calibration
