"""Saved answers as a page: python -m got_train.rendering answer.mmd [answer.mmd ...] --output page.html."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from got_train import images

from .document import Reading
from .export import FORMATS, TABLES, FormatError, export


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m got_train.rendering", description=__doc__)
    parser.add_argument("answers", nargs="+", type=Path, metavar="FILE", help="a page's answer each")
    parser.add_argument("--output", required=True, type=Path, metavar="FILE")
    parser.add_argument("--format", choices=FORMATS, help="default: by the output's suffix")
    parser.add_argument("--tables", choices=TABLES, default="html", help="of md (default html)")
    parser.add_argument("--task", default="format", help="ocr, format (default), spot, ...")
    parser.add_argument("--image", nargs="*", default=[], metavar="FILE", help="a page's picture each")
    options = parser.parse_args(arguments)
    if options.image and len(options.image) != len(options.answers):
        parser.error(f"--image: {len(options.image)} for {len(options.answers)} answers; one each, or none")
    try:
        pictures = [images.open_image(file) for file in options.image] or [None] * len(options.answers)
        document = [
            Reading(file.name, file.read_text(encoding="utf-8"), options.task, picture)
            for file, picture in zip(options.answers, pictures, strict=True)
        ]
        form = options.format or options.output.suffix.removeprefix(".")
        made = export(document, form, options.tables)
        beside = options.output.with_name(options.output.name + ".tmp")
        beside.write_bytes(made)
        beside.replace(options.output)
    except (FormatError, images.ImageError, OSError, UnicodeDecodeError) as error:
        print(f"rendering: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
