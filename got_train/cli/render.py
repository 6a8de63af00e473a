"""Saved answers as a page: got render answer.mmd [answer.mmd ...] --output page.html."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from got_train import prompts
from got_train.atomic_write import write_atomic
from got_train.errors import RenderingError, UsageError
from got_train.formats import PLAIN_TASKS
from got_train.rendering import FORMATS, TABLES

from .arguments import CommandParser
from .exits import DONE, handle_errors


def parser() -> CommandParser:
    parser = CommandParser("render", description=__doc__)
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
    return parser


@handle_errors("render")
def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    from got_train import images  # which takes time, so the arguments come first
    from got_train.rendering.document import Reading
    from got_train.rendering.export import export

    answers, pages = options.answers, options.image
    if pages and len(pages) != len(answers):
        raise UsageError(f"--image: {len(pages)} for {len(answers)} answers; give one for each, or none")
    if options.output.resolve() in [file.resolve() for file in (*answers, *pages)]:
        raise UsageError(f"--output: {options.output} is an input; use another file")
    pictures = [images.open_image(file) for file in pages] or [None] * len(answers)
    document = [
        Reading(file.name, _text(file), options.task, picture)
        for file, picture in zip(answers, pictures, strict=True)
    ]
    form = options.format or options.output.suffix.removeprefix(".")
    write_atomic(options.output, export(document, form, options.tables))
    return DONE


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RenderingError(f"{file}: {error}; expected an answer's text in UTF-8") from error
