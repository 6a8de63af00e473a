"""Saved answers as a page: python -m got_train.rendering answer.mmd [answer.mmd ...] --output page.html."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from got_train import images, prompts
from got_train.atomic_write import write_atomic
from got_train.errors import ImageError, RenderingError
from got_train.formats.answer_types import PLAIN_TASKS

from .document import Reading
from .export import FORMATS, TABLES, export


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m got_train.rendering", description=__doc__)
    parser.add_argument("answers", nargs="+", type=Path, metavar="FILE", help="a page's answer each")
    parser.add_argument("--output", required=True, type=Path, metavar="FILE")
    parser.add_argument("--format", choices=FORMATS, help="default: by the output's suffix")
    parser.add_argument("--tables", choices=TABLES, default="html", help="of md (default html)")
    parser.add_argument(
        "--task", choices=sorted({*prompts.TASKS, *PLAIN_TASKS}), default="format", help="(default format)"
    )
    parser.add_argument(
        "--image", nargs="*", type=Path, default=[], metavar="FILE", help="a page's picture each"
    )
    options = parser.parse_args(arguments)
    if options.image and len(options.image) != len(options.answers):
        parser.error(f"--image: {len(options.image)} for {len(options.answers)} answers; one each, or none")
    try:
        if options.output.resolve() in [file.resolve() for file in (*options.answers, *options.image)]:
            raise RenderingError(f"--output: {options.output} is what is shown; another file")
        pictures = [images.open_image(file) for file in options.image] or [None] * len(options.answers)
        document = [
            Reading(file.name, _text(file), options.task, picture)
            for file, picture in zip(options.answers, pictures, strict=True)
        ]
        form = options.format or options.output.suffix.removeprefix(".")
        write_atomic(options.output, export(document, form, options.tables))
    except OSError as error:
        print(f"rendering: {error.filename}: {error.strerror}; a file that can be used", file=sys.stderr)
        return 2
    except (RenderingError, ImageError) as error:
        print(f"rendering: {error}", file=sys.stderr)
        return 2
    return 0


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RenderingError(f"{file}: {error}; an answer's text in UTF-8") from error


if __name__ == "__main__":
    sys.exit(main())
