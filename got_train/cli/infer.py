"""Read pages with a GOT model: got infer --model-name-or-path CHECKPOINT --image-file PAGE [PAGE ...].

GOT's own spellings of its flags, such as --image_file and --ocr_type, are read too.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence

from got_train.inference.options import FORMATS, OCR_TYPES, InferenceOptions
from got_train.requirements import need_paddle

from .arguments import CommandParser
from .exits import DONE, FAILED, describe, handle_errors, say


def parser() -> CommandParser:
    """Flags without defaults: InferenceOptions has them, once."""
    parser = CommandParser(
        "infer",
        argument_default=argparse.SUPPRESS,
        description="Read pages with a GOT model. The text goes to stdout, progress to stderr.",
        epilog="Exit codes: 0 all pages read, 1 some failed (listed on stderr), 2 wrong usage or checkpoint. "
        "GOT's spellings --model_name_or_path, --image_file, --ocr_type, --multi_crop, --multi_page and "
        "--save_render_file are the same flags.",
    )
    names = ("--model-name-or-path", "--model_name_or_path", "--model-name")
    parser.add_argument(*names, required=True, metavar="FOLDER", help="checkpoint or adapter, any layout")
    parser.add_argument("--adapter", metavar="FOLDER", help="LoRA adapter to put on that checkpoint")
    _add_input(parser)
    _add_task(parser)
    _add_output(parser)
    _add_decoding(parser)
    _add_machine(parser)
    return parser


def _add_input(parser: CommandParser) -> None:
    group = parser.add_argument_group("input")
    source = group.add_mutually_exclusive_group(required=True)
    several = {"nargs": "+", "action": "extend"}
    kinds = "images, PDFs, TIFFs, folders or patterns; - reads one path a line from stdin"
    source.add_argument("--image-file", "--image_file", **several, metavar="PATH", help=kinds)
    source.add_argument("--video-file", metavar="FILE", help="read the frames that differ, with their times")
    group.add_argument("--pages", metavar="3-10,12", help="pages of the PDFs, counted from 1")


def _add_task(parser: CommandParser) -> None:
    add = parser.add_argument_group("what to read").add_argument
    kinds = "plain text (ocr, the default), formatted text, or lines with their boxes as JSON (spot)"
    add("--ocr-type", "--ocr_type", choices=OCR_TYPES, help=kinds)
    add("--box", metavar="[x1,y1,x2,y2]", help="read this region, in pixels of the image, or the point [x,y]")
    add("--color", choices=("red", "green", "blue"), help="read the box that is drawn in this color")
    crops = "cut each page into crops, for large or dense pages"
    add("--multi-crop", "--multi_crop", action="store_true", help=crops)
    crops = "one view a page, crops as --multi-crop, or (auto) crops where lines are too small for one view"
    add("--crop", choices=("single", "multi", "auto"), help=crops)
    add("--max-crops", type=int, metavar="N", help="use at most N crops of a page (default 6)")
    pages = "read all pages as one text; needs --ocr-type format"
    add("--multi-page", "--multi_page", action="store_true", help=pages)
    add("--prompt-template", help="refuse a checkpoint that was trained with another template")


def _add_output(parser: CommandParser) -> None:
    add = parser.add_argument_group("output").add_argument
    add("--output-dir", metavar="FOLDER", help="write a .txt, .mmd or .json file a page here, not to stdout")
    add("--group-by", choices=("page", "document"), help="write one file a page (default) or a document")
    add("--json", action="store_true", help="print a line a page: file, page, text, confidence, ...")
    add("--confidence", action="store_true", help="say how sure the model is; with --json, of every token")
    add("--mark-below", type=float, metavar="P", help="mark words less sure than P: [?word?]")
    add("--stream", action="store_true", help="show text while it is read")
    add("--srt", action="store_true", help="write subtitles of a video instead of text")
    add("--render", action="store_true", help="write PAGE.html too, into --output-dir or here")
    add("--format", choices=FORMATS, help=f"write PAGE.<format> too: {', '.join(FORMATS)}", metavar="FORMAT")
    add("--tables", choices=("html", "pipes"), help="how --format md writes tables (default html)")
    file = "write that of a single page to FILE instead"
    add("--save-render-file", "--save_render_file", metavar="FILE", help=file)
    add(
        "--draw",
        metavar="FILE|FOLDER",
        help="draw the boxes on the page, or on each page into a folder; needs --ocr-type spot",
    )


def _add_decoding(parser: CommandParser) -> None:
    add = parser.add_argument_group("decoding").add_argument
    add("--batch-size", type=int, metavar="N", help="read N pages together (default 1)")
    room = "stop an answer after N tokens (default: what its prompt leaves of 8192)"
    add("--max-new-tokens", type=int, metavar="N", help=room)
    ngrams = "repeat no N tokens; 0 is off (default 20, off with --multi-crop and --multi-page)"
    add("--no-repeat-ngram-size", type=int, metavar="N", help=ngrams)
    add("--ngram-window", type=int, metavar="N", help="... within N tokens (default 0: within the answer)")
    spared = "... except what builds tables: separators, digits, tokens without a letter"
    add("--allow-table-repeats", action="store_true", help=spared)
    retry = "leave a page cut where it began to repeat itself"
    add("--no-retry", dest="retry", action="store_false", help=retry)
    add("--num-beams", type=int, metavar="N", help="search with N beams; slower (default 1: greedy)")


def _add_machine(parser: CommandParser) -> None:
    add = parser.add_argument_group("machine").add_argument
    add("--dtype", choices=("float32", "bfloat16", "float16"), help="compute in this type (default float32)")
    narrow = "bfloat16 takes half the encoder's time on CPUs with bfloat16 units (default float32)"
    add("--encoder-dtype", choices=("float32", "bfloat16"), help=narrow)
    narrow = "bfloat16 halves the decoder's memory on a CPU, int8 again, and less time (default float32)"
    add("--decoder-dtype", choices=("float32", "bfloat16", "int8"), help=narrow)
    add("--threads", type=int, metavar="N", help="use N CPU threads (default: all cores)")
    tuning = "leave Paddle's CPU settings as they are"
    add("--no-cpu-tuning", dest="cpu_tuning", action="store_false", help=tuning)


@handle_errors("infer")
def main(arguments: Sequence[str] | None = None) -> int:
    options = InferenceOptions(**vars(parser().parse_args(arguments)))
    warnings.filterwarnings("ignore", message="Image size .* exceeds limit")  # Pillow's; twice it is an error
    from got_train.inference import job
    from got_train.inference.plan import check_video, make_plan

    plan = check_video(options) if options.video_file else make_plan(options)
    for note in plan.notes if plan else ():
        say("infer", note)
    need_paddle()
    pipeline = job.load(options)
    try:
        causes = job.read_pages(pipeline, plan, options) if plan else job.read_video(pipeline, options)
    except BrokenPipeError:
        raise
    except OSError as error:  # an output that cannot be written
        say("infer", f"{describe(error)}; use a place that can be written, finished pages are kept")
        return FAILED
    if causes:
        total = len(plan.requests) if plan else "the frames"
        say("infer", "\n  ".join([f"{len(causes)} of {total} failed:", *causes]))
    return FAILED if causes else DONE
