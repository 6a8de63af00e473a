"""Read pages with a GOT model: infer.py --model_name_or_path CHECKPOINT --image_file PAGE [PAGE ...]."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from got_train.reading import Answer, Page, Question, Reader

READ, SOME_FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130
ENDED = {
    "stop": "",
    "length": "; no end within the limit, the text is cut",
    "loop": "; it began to repeat itself and was cut",
}


class UsageError(ValueError):
    """Flags that do not go together."""


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="infer.py",
        allow_abbrev=False,
        description="Read pages with a GOT model. Text goes to stdout, progress to stderr.",
        epilog="Exit codes: 0 all pages read, 1 some failed (listed on stderr), 2 wrong usage or checkpoint.",
    )
    add = made.add_argument
    several = {"nargs": "+", "action": "extend"}
    add("--model_name_or_path", required=True, metavar="FOLDER", help="a checkpoint in any layout")
    add("--image_file", required=True, **several, metavar="PATH", help="pictures, PDFs, folders, patterns")
    add("--ocr_type", choices=("ocr", "format"), default="ocr", help="plain (default) or formatted text")
    add("--box", metavar="[x1,y1,x2,y2]", help="read this region, in pixels of the image; or the point [x,y]")
    add("--color", choices=("red", "green", "blue"), help="read what stands in a box drawn in this color")
    add("--multi_crop", action="store_true", help="cut each page into tiles, for large or dense ones")
    add("--multi_page", action="store_true", help="read all pages as one text (with --ocr_type format)")
    add("--pages", metavar="3-10,12", help="pages of the PDFs, from 1")
    add("--render", action="store_true", help="write PAGE.html too, into --output_dir or here")
    add("--save_render_file", metavar="FILE", help="where the HTML of a single page goes instead")
    add("--output_dir", metavar="FOLDER", help="one .txt or .mmd a page goes here instead of to stdout")
    add("--json", action="store_true", help="one line a page: file, page, text, finished, confidence, ...")
    add("--confidence", action="store_true", help="how sure the model is; with --json, of every token")
    add("--stream", action="store_true", help="show text while it is read")
    add("--batch_size", type=int, default=1, metavar="N", help="pages read together (default 1)")
    add("--max_new_tokens", type=int, default=4096, metavar="N", help="at most, an answer (default 4096)")
    add(
        "--no_repeat_ngram_size",
        type=int,
        metavar="N",
        help="no N tokens twice; 0 is off (default 20, off with --multi_crop and --multi_page)",
    )
    add("--max_tiles", type=int, default=6, metavar="N", help="tiles of --multi_crop at most (default 6)")
    add("--dialect", help="refused unless it is the prompt dialect that the checkpoint was trained with")
    add("--dtype", choices=("float32", "bfloat16", "float16"), default="float32", help="(default float32)")
    add("--threads", type=int, metavar="N", help="CPU threads (default all cores)")
    add("--no_tune_cpu", action="store_true", help="leave Paddle's CPU settings as they are")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")  # whatever the locale
    try:
        return run(options)
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # who reads stdout has seen enough, as in `infer.py ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return SOME_FAILED
    except OSError as error:  # an output that cannot be written
        _say(str(error))
        return SOME_FAILED


def run(options: argparse.Namespace) -> int:
    from got_train.installation import InstallationError, need_paddle

    try:
        questions, names = plan(options)
        need_paddle()
        reader = load(options, questions)
    except (InstallationError, ValueError, OSError) as error:
        _say(str(error))
        return WRONG_USAGE
    from got_train.modeling.generate import GenerateError

    try:
        causes = read(reader, questions, names, options)
    except GenerateError as error:  # weights that give no numbers
        _say(str(error))
        return WRONG_USAGE
    if causes:
        _say("\n  ".join([f"{len(causes)} of {len(questions)} failed:", *causes]))
    return SOME_FAILED if causes else READ


def read(
    reader: Reader, questions: list[Question], names: list[str], options: argparse.Namespace
) -> list[str]:
    """Writes every answer; returns the causes of those that there are not."""
    from got_train.reading import Failure

    several = len(questions) > 1
    causes = []
    results = reader.read(questions, options.batch_size, _streaming(several) if options.stream else None)
    for number, (result, name) in enumerate(zip(results, names, strict=True), start=1):
        if isinstance(result, Failure):
            causes.append(result.cause)
            told = "failed"
        else:
            show(result, reader, options, several)
            files = save(result, options, name)
            told = " -> ".join([_summary(result, options), *map(str, files)])
        print(f"[{number}/{len(questions)}] {result.question}: {told}", file=sys.stderr, flush=True)
    return causes


def plan(options: argparse.Namespace) -> tuple[list[Question], list[str]]:
    """The questions, and the name of each answer's files; refused here: all that needs no model."""
    from got_train import images, prompts
    from got_train.reading import Question, find_pages

    _check(options)
    task = _task(options)
    box = None if options.box is None else prompts.parse_box(options.box)
    numbers = None if options.pages is None else images.parse_pages(options.pages)
    pages = find_pages(options.image_file, numbers)
    _check_region(task, box, options.color, pages[0])
    groups = [tuple(pages)] if options.multi_page else [(page,) for page in pages]
    questions = [Question(group, task, box, options.color) for group in groups]
    if options.save_render_file and len(questions) > 1:
        raise UsageError(f"--save_render_file: one file for {len(questions)} pages; give --output_dir")
    return questions, _names(options, questions)


def load(options: argparse.Namespace, questions: list[Question]) -> Reader:
    from got_train import cpu, prompts
    from got_train.reading import load_reader

    if not options.no_tune_cpu:
        cpu.tune(options.threads)
    elif options.threads is not None:
        cpu.set_threads(options.threads)
    reader = load_reader(
        options.model_name_or_path,
        options.dtype,
        max_new_tokens=options.max_new_tokens,
        no_repeat_ngram_size=options.no_repeat_ngram_size,
        max_tiles=options.max_tiles,
    )
    if options.dialect not in (None, reader.dialect):
        raise UsageError(f"--dialect: {options.dialect}; this checkpoint was trained with {reader.dialect}")
    prompts.query(questions[0].task, color=options.color, dialect=reader.dialect)  # stage1 has ocr only
    return reader


def show(answer: Answer, reader: Reader, options: argparse.Namespace, several: bool) -> None:
    if options.json:
        print(json.dumps(_row(answer, reader, options), ensure_ascii=False), flush=True)
    elif options.stream:
        print(flush=True)
    elif options.output_dir is None:
        print(_heading(answer.question) * several + answer.text, flush=True)


def save(answer: Answer, options: argparse.Namespace, name: str) -> list[Path]:
    """The files that were written."""
    folder = Path(options.output_dir or ".")
    files = {}
    if options.output_dir:
        suffix = ".mmd" if options.ocr_type == "format" else ".txt"
        files[folder / (name + suffix)] = answer.text + "\n"
    if options.render or options.save_render_file:
        from got_train.rendering.html import render

        page = Path(options.save_render_file or folder / f"{name}.html")
        files[page] = render(answer.text, options.ocr_type)
    for file, text in files.items():
        file.write_text(text, encoding="utf-8")
    return list(files)


def _check(options: argparse.Namespace) -> None:
    if options.multi_page and options.ocr_type != "format":
        raise UsageError("--multi_page: needs --ocr_type format; no prompt for plain text was ever trained")
    if options.multi_page and options.multi_crop:
        raise UsageError("--multi_page: does not go with --multi_crop; give one of them")
    if options.stream and (options.json or options.batch_size > 1):
        raise UsageError("--stream: shows one page at a time; without --json, and with --batch_size 1")
    least = {"batch_size": 1, "max_new_tokens": 1, "max_tiles": 1, "threads": 1, "no_repeat_ngram_size": 0}
    for name, bound in least.items():
        value = getattr(options, name)
        if value is not None and value < bound:
            raise UsageError(f"--{name}: {value}; at least {bound}")


def _task(options: argparse.Namespace) -> str:
    if options.multi_page:
        return "multi_page"
    if options.multi_crop:
        return "multi_crop" if options.ocr_type == "format" else "multi_crop_ocr"
    return options.ocr_type


def _check_region(task: str, box: list[float] | None, color: str | None, page: Page) -> None:
    """A region that does not fit the first page is told at once, not when the weights are loaded."""
    from got_train import images, prompts

    try:
        size = None if box is None else page.open().size
    except (images.ImageError, OSError):
        return  # the page will be listed among the failures
    prompts.query(task, box, color, size)


def _names(options: argparse.Namespace, questions: list[Question]) -> list[str]:
    """The first page's file name, without its suffix; refused if one file would overwrite the other."""
    names: dict[str, Question] = {}
    for question in questions:
        name = question.pages[0].name
        if name in names and (options.output_dir or options.render):
            raise UsageError(f"{name}: the name of {names[name]} and of {question}; read them one by one")
        names[name] = question
    if options.output_dir:
        Path(options.output_dir).mkdir(parents=True, exist_ok=True)
    return [question.pages[0].name for question in questions]


def _row(answer: Answer, reader: Reader, options: argparse.Namespace) -> dict:
    files = [page.file for page in answer.question.pages]
    numbers = [page.number for page in answer.question.pages]
    row = {
        "file": files if options.multi_page else files[0],
        "page": numbers if options.multi_page else numbers[0],
        "text": answer.text,
        "finished": answer.finished,
        "confidence": round(answer.confidence, 4),
        "lowest": round(answer.lowest, 4),
        "seconds": round(answer.seconds, 3),
    }
    if options.confidence:
        row["tokens"] = [[text, round(probability, 4)] for text, probability in reader.pieces(answer)]
    return row


def _summary(answer: Answer, options: argparse.Namespace) -> str:
    sure = f", confidence {answer.confidence:.3f}, lowest {answer.lowest:.3f}" if options.confidence else ""
    return f"{len(answer.ids)} tokens, {answer.seconds:.1f} s{sure}{ENDED[answer.finished]}"


def _heading(question: Question) -> str:
    return f"==> {question} <==\n"  # as head and tail tell files apart


def _streaming(several: bool) -> Callable[[Question, str], None]:
    begun = set()

    def show(question: Question, text: str) -> None:
        if several and question.pages not in begun:
            text = _heading(question) + text
        begun.add(question.pages)
        print(text, end="", flush=True)

    return show


def _say(message: str) -> None:
    print(f"infer.py: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
