"""Read pages with a GOT model: got infer --model_name_or_path CHECKPOINT --image_file PAGE [PAGE ...]."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from got_train.errors import ImageError, UsageError
from got_train.inference.job import _task, read, watch
from got_train.requirements import need_paddle

from .arguments import CommandParser
from .exits import WRONG_USAGE, describe, handle_errors, say

if TYPE_CHECKING:
    from got_train.inference.reader import OcrPipeline, OcrRequest, Page

READ, SOME_FAILED = 0, 1
MOST_BEAMS = 64
FORMATS = ("html", "md", "docx", "json", "txt")
_APART = "one would overwrite the other, so read them into an --output_dir each"


def parser() -> CommandParser:
    made = CommandParser(
        "infer",
        description="Read pages with a GOT model. Text goes to stdout, progress to stderr.",
        epilog="Exit codes: 0 all pages read, 1 some failed (listed on stderr), 2 wrong usage or checkpoint.",
    )
    add = made.add_argument
    several = {"nargs": "+", "action": "extend"}
    add("--model_name_or_path", required=True, metavar="FOLDER", help="a checkpoint or adapter, any layout")
    add("--adapter", metavar="FOLDER", help="of LoRA, put on that checkpoint, its base")
    inputs = made.add_mutually_exclusive_group(required=True)
    kinds = "pictures, PDFs, TIFFs, folders, patterns; - takes one a line from stdin"
    inputs.add_argument("--image_file", **several, metavar="PATH", help=kinds)
    inputs.add_argument("--video_file", metavar="FILE", help="read the frames that differ, with their times")
    kinds = "plain (default) or formatted text, or text lines with their boxes as JSON"
    add("--ocr_type", choices=("ocr", "format", "spot"), default="ocr", help=kinds)
    add("--box", metavar="[x1,y1,x2,y2]", help="read this region, in pixels of the image; or the point [x,y]")
    add("--color", choices=("red", "green", "blue"), help="read what stands in a box drawn in this color")
    add("--multi_crop", action="store_true", help="cut each page into tiles, for large or dense ones")
    crops = "one view a page, tiles as --multi_crop, or (auto) tiles where lines are too small for one view"
    add("--crop", choices=("single", "multi", "auto"), help=crops)
    add("--multi_page", action="store_true", help="read all pages as one text (with --ocr_type format)")
    add("--pages", metavar="3-10,12", help="pages of the PDFs, from 1")
    add("--render", action="store_true", help="write PAGE.html too, into --output_dir or here")
    add("--format", choices=FORMATS, help="write PAGE.<format> too, with what it can draw")
    add("--tables", choices=("html", "pipes"), default="html", help="of --format md (default html)")
    add("--save_render_file", metavar="FILE", help="where that of a single page goes instead")
    add("--draw", metavar="FILE", help="write the page with its boxes, with --ocr_type spot")
    add("--output_dir", metavar="FOLDER", help="one .txt, .mmd or .json a page goes here, not to stdout")
    add("--per", choices=("page", "document"), default="page", help="one file a page (default) or a document")
    add("--srt", action="store_true", help="subtitles of a video instead of text")
    add("--json", action="store_true", help="one line a page: file, page, text, finished, confidence, ...")
    add("--confidence", action="store_true", help="how sure the model is; with --json, of every token")
    add("--mark-below", "--mark_below", type=float, metavar="P", help="mark words less sure than P: [?word?]")
    add("--stream", action="store_true", help="show text while it is read")
    add("--batch_size", type=int, default=1, metavar="N", help="pages read together (default 1)")
    room = "of an answer, at most (default: what its prompt leaves of 8192)"
    add("--max_new_tokens", type=int, metavar="N", help=room)
    add(
        "--no_repeat_ngram_size",
        type=int,
        metavar="N",
        help="no N tokens twice; 0 is off (default 20, off with --multi_crop and --multi_page)",
    )
    add("--ngram_window", type=int, default=0, metavar="N", help="... within N tokens (default 0: in all)")
    spares = "... but for what builds tables: separators, digits, tokens without a letter"
    add("--spare_structure", action="store_true", help=spares)
    add("--no_retry", action="store_true", help="leave pages cut that began to repeat themselves")
    add("--num_beams", type=int, default=1, metavar="N", help="beam search; slower (default 1: greedy)")
    add("--max_tiles", type=int, default=6, metavar="N", help="tiles of --multi_crop at most (default 6)")
    add(
        "--prompt-template",
        help="refused unless it is the prompt template that the checkpoint was trained with",
    )
    add("--dtype", choices=("float32", "bfloat16", "float16"), default="float32", help="(default float32)")
    narrow = "bfloat16: the encoder in half the time on CPUs with such units (default float32)"
    add("--encoder_dtype", choices=("float32", "bfloat16"), default="float32", help=narrow)
    narrow = "bfloat16: the decoder's weights in half the memory on a CPU, and words sooner (default float32)"
    add("--decoder_dtype", choices=("float32", "bfloat16"), default="float32", help=narrow)
    add("--threads", type=int, metavar="N", help="CPU threads (default all cores)")
    add("--no_tune_cpu", action="store_true", help="leave Paddle's CPU settings as they are")
    return made


@handle_errors("infer")
def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    warnings.filterwarnings("ignore", message="Image size .* exceeds limit")  # Pillow's; twice it is an error
    try:
        questions, names = ([], []) if options.video_file else plan(options)
        if options.video_file:
            _check_video(options)
        need_paddle()
        reader = load(options, questions)
    except OSError as error:  # an input that cannot be read
        say("infer", describe(error))
        return WRONG_USAGE
    try:
        causes = watch(reader, options) if options.video_file else read(reader, questions, names, options)
    except BrokenPipeError:
        raise
    except OSError as error:  # an output that cannot be written
        say("infer", f"{describe(error)}; use a place that can be written, what was read before is kept")
        return SOME_FAILED
    if causes:
        say("infer", "\n  ".join([f"{len(causes)} of {len(questions) or 'the frames'} failed:", *causes]))
    return SOME_FAILED if causes else READ


def plan(options: argparse.Namespace) -> tuple[list[OcrRequest], list[str]]:
    """The questions, and the name of each answer's files; refused here: all that needs no model."""
    from got_train import images, prompts
    from got_train.inference.pages import left_out
    from got_train.inference.reader import OcrRequest, find_pages

    _check(options)
    task = _task(options)
    box = None if options.box is None else prompts.parse_box(options.box)
    numbers = None if options.pages is None else images.parse_pages(options.pages)
    inputs = list(_inputs(options.image_file))
    pages = find_pages(inputs, numbers)
    for line in left_out(inputs):
        say("infer", line)
    _check_region(task, box, options.color, pages[0])
    groups = [tuple(pages)] if options.multi_page else [(page,) for page in pages]
    auto = options.crop == "auto"
    questions = [OcrRequest(group, task, box, options.color, auto_crop=auto) for group in groups]
    if options.save_render_file and len(questions) > 1:
        raise UsageError(f"--save_render_file: one file for {len(questions)} pages; give --output_dir")
    if options.draw and len(questions) > 1:
        raise UsageError(f"--draw: one file for {len(questions)} pages; read them one by one")
    names = _names(options, questions)
    _check_files(options, pages, names)
    return questions, names


def load(options: argparse.Namespace, questions: list[OcrRequest]) -> OcrPipeline:
    from got_train import prompts
    from got_train.cpu import settings as cpu
    from got_train.inference.reader import load_pipeline

    if not options.no_tune_cpu:
        cpu.tune(options.threads)
    elif options.threads is not None:
        cpu.set_threads(options.threads)
    reader = load_pipeline(
        options.model_name_or_path,
        options.dtype,
        adapter=options.adapter,
        max_new_tokens=options.max_new_tokens,
        no_repeat_ngram_size=options.no_repeat_ngram_size,
        max_tiles=options.max_tiles,
        ngram_window=options.ngram_window,
        spare_structure=options.spare_structure,
        retry_loops=not options.no_retry,
        num_beams=options.num_beams,
    )
    if options.encoder_dtype == "bfloat16":
        from got_train.modeling.cpu.bf16_encoder import ExportedVisionEncoder

        ExportedVisionEncoder(reader.model.vision, options.threads or cpu.usable_cores()).attach()
    if options.decoder_dtype == "bfloat16":
        from got_train.modeling.cpu.bf16_decoder import cast_decoder_to_bf16

        cast_decoder_to_bf16(reader.model.decoder)
    if options.prompt_template not in (None, reader.prompt_template):
        raise UsageError(
            f"--prompt-template: {options.prompt_template}; this checkpoint was trained with "
            f"{reader.prompt_template}"
        )
    prompts.question(
        _task(options), color=options.color, prompt_template=reader.prompt_template
    )  # stage1 has ocr only
    return reader


def _check(options: argparse.Namespace) -> None:
    for part in ("encoder", "decoder"):
        if getattr(options, f"{part}_dtype") == "bfloat16" and options.dtype != "float32":
            raise UsageError(
                f"--{part}_dtype bfloat16: goes with --dtype float32 on a CPU; got {options.dtype}"
            )
    if options.multi_page and options.ocr_type != "format":
        raise UsageError("--multi_page: needs --ocr_type format; no prompt for plain text was ever trained")
    if options.multi_page and options.multi_crop:
        raise UsageError("--multi_page: does not go with --multi_crop; give one of them")
    if options.ocr_type == "spot" and options.multi_crop:
        raise UsageError("--ocr_type spot: reads a page in one view, so without --multi_crop")
    if options.draw and options.ocr_type != "spot":
        raise UsageError("--draw: needs --ocr_type spot; other answers have no boxes")
    if options.draw and not options.draw.lower().endswith((".png", ".jpg", ".webp")):
        raise UsageError(f"--draw: {options.draw}; a .png, .jpg or .webp")
    if options.render and options.format not in (None, "html"):
        raise UsageError(f"--render: is --format html, and --format is {options.format}; give one of them")
    if options.format == "json" and options.ocr_type == "spot":
        raise UsageError("--format json: answers of --ocr_type spot are JSON already; leave it out")
    suffix = os.path.splitext(options.save_render_file or "")[1].lower().removeprefix(".")
    if suffix in FORMATS and suffix != (options.format or "html"):
        raise UsageError(f"--save_render_file: {options.save_render_file}; give --format {suffix} too")
    if options.format == "docx":
        from got_train.rendering import word

        if reason := word.unavailable():
            raise UsageError(f"--format: docx; {reason}")
    if options.stream and (options.json or options.batch_size > 1):
        raise UsageError("--stream: shows one page at a time; without --json, and with --batch_size 1")
    for name in ("output_dir", "save_render_file", "draw", "adapter"):
        if getattr(options, name) == "":  # such as an unset variable of the shell
            raise UsageError(f"--{name}: an empty name; a path, or leave it out")
    if options.tables != "html" and options.format != "md":
        raise UsageError(f"--tables {options.tables}: is for --format md; give that too")
    _check_reading(options)
    least = {
        **{"batch_size": 1, "max_new_tokens": 1, "max_tiles": 1, "threads": 1, "no_repeat_ngram_size": 0},
        **{"ngram_window": 0, "num_beams": 1},
    }
    if options.num_beams > MOST_BEAMS:
        raise UsageError(
            f"--num_beams: {options.num_beams}; up to {MOST_BEAMS}, each with a cache of its own"
        )
    for name, bound in least.items():
        value = getattr(options, name)
        if value is not None and value < bound:
            raise UsageError(f"--{name}: {value}; at least {bound}")


def _check_reading(options: argparse.Namespace) -> None:
    """What this file itself adds to reading: crops, documents, marks, beams."""
    if options.crop and (options.multi_crop or options.multi_page):
        raise UsageError(f"--crop {options.crop}: does not go with --multi_crop or --multi_page; one of them")
    if options.crop in ("multi", "auto") and (options.box or options.color or options.ocr_type == "spot"):
        raise UsageError(f"--crop {options.crop}: boxes are read in one view; --crop single, or leave it out")
    if options.per == "document":
        if not options.output_dir or options.multi_page or options.ocr_type == "spot":
            raise UsageError("--per document: needs --output_dir; without --multi_page and --ocr_type spot")
        if options.save_render_file:
            raise UsageError("--per document: names the files itself; leave out --save_render_file")
    if options.mark_below is not None and not 0 < options.mark_below <= 1:
        raise UsageError(f"--mark-below: {options.mark_below:g}; a probability above 0, at most 1")
    if options.mark_below is not None and (options.stream or options.ocr_type == "spot"):
        raise UsageError("--mark-below: marks whole answers of text; without --stream and --ocr_type spot")
    if options.stream and options.num_beams > 1:
        raise UsageError(f"--stream: no word is certain with --num_beams {options.num_beams}; one of them")
    if options.srt and not options.video_file:
        raise UsageError("--srt: needs --video_file; pages have no times")
    if options.srt and options.json:
        raise UsageError("--srt: does not go with --json; give one of them")


def _check_video(options: argparse.Namespace) -> None:
    from got_train.inference import video

    _check(options)
    names = ("box", "color", "multi_page", "pages", "render", "format", "save_render_file", "draw", "stream")
    given = [name for name in names if getattr(options, name)]
    if given or options.ocr_type == "spot" or options.per == "document":
        what = f"--{given[0]}" if given else f"--ocr_type {options.ocr_type} or --per {options.per}"
        raise UsageError(f"--video_file: {what} is for pages; leave it out")
    if reason := video.unavailable():
        raise UsageError(f"--video_file: {reason}")
    if not os.path.isfile(options.video_file):
        raise UsageError(f"--video_file: no file {options.video_file}; a video such as clip.mp4")


def _inputs(names: Sequence[str]) -> list[str]:
    """The names that were given, with those on stdin in the place of `-`."""
    if names.count("-") > 1:
        raise UsageError("--image_file: - is there twice; stdin can be read once")
    found = []
    for name in names:
        if name == "-":
            with contextlib.suppress(AttributeError):  # names of files need not be UTF-8
                sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")
        lines = [line.rstrip("\r\n") for line in sys.stdin] if name == "-" else [name]
        found += [line for line in lines if line.strip()]
    if not found:
        raise UsageError("--image_file: - and nothing on stdin; one path a line")
    return found


def _check_region(task: str, box: list[float] | None, color: str | None, page: Page) -> None:
    """A region that does not fit the first page is told at once, not when the weights are loaded."""
    from got_train import prompts

    try:
        size = None if box is None else page.open().size
    except (ImageError, OSError):
        return  # the page will be listed among the failures
    prompts.question(task, box, color, size)


def _names(options: argparse.Namespace, questions: list[OcrRequest]) -> list[str]:
    """The first page's file name, without its suffix; refused if one file would overwrite the other."""
    if options.per == "document":
        return _document_names(questions)
    names: dict[str, OcrRequest] = {}
    for question in questions:
        name = question.pages[0].name
        if name in names and str(names[name]) == str(question):
            raise UsageError(f"{question}: is named twice; once is enough")
        if name in names and (options.output_dir or options.render or options.format):
            raise UsageError(f"{name}: the name of {names[name]} and of {question}; {_APART}")
        names[name] = question
    return [question.pages[0].name for question in questions]


def _check_files(options: argparse.Namespace, pages: Sequence[Page], names: Sequence[str]) -> None:
    """No file that is written takes the place of a page or of another one."""
    from got_train.inference import output

    if options.output_dir and os.path.exists(options.output_dir) and not os.path.isdir(options.output_dir):
        raise UsageError(f"--output_dir: {options.output_dir} is a file; a folder, which is made if need be")
    read = {os.path.realpath(str(page.file)) for page in pages}
    for name in names:
        files = list(map(os.path.realpath, output.files(options, name).values()))
        for file in files:
            if file in read:
                raise UsageError(f"{file}: is read and would be overwritten; another name or --output_dir")
            if files.count(file) > 1:
                raise UsageError(f"{file}: would be written twice; leave one of the two out, or rename it")


def _document_names(questions: list[OcrRequest]) -> list[str]:
    """The file name without its suffix for each of its pages, which follow one another."""
    files: dict[str, str] = {}
    names = []
    for question in questions:
        file = str(question.pages[0].file)
        names.append(Path(file).stem)
        if files.setdefault(names[-1], file) != file:
            raise UsageError(f"{names[-1]}: the name of {files[names[-1]]} and of {file}; {_APART}")
    return names
