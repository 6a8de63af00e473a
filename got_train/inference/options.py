"""All that a reading job can be told: fields with their defaults, and the rules between them, checked once.

Knows the names of the flags for its messages; knows no parser, no file and no model.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from got_train.errors import UsageError

MAX_BEAMS = 64
FORMATS = ("html", "md", "docx", "json", "txt", "page", "alto", "hocr", "pdf")
LABELS = ("page", "alto", "hocr")  # with positions where the answer has them
OCR_TYPES = ("ocr", "format", "spot")
DRAWINGS = (".png", ".jpg", ".webp")
# the least of each number, None excepted
BOUNDS = {
    **{"batch_size": 1, "max_new_tokens": 1, "max_crops": 1, "threads": 1, "num_beams": 1},
    **{"no_repeat_ngram_size": 0, "ngram_window": 0},
}
# what is for pages and not for the frames of a video
FOR_PAGES = ("box", "color", "multi_page", "pages", "render", "format", "save_render_file", "draw", "stream")


@dataclass(frozen=True, kw_only=True)
class InferenceOptions:
    """One field for each flag of `got infer`."""

    model_name_or_path: str
    adapter: str | None = None  # LoRA matrices, put on that model

    image_file: Sequence[str] = ()
    video_file: str | None = None
    pages: str | None = None  # of PDFs and TIFFs, such as 3-10,12

    ocr_type: str = "ocr"
    box: str | None = None
    color: str | None = None
    multi_crop: bool = False
    multi_page: bool = False
    crop: str | None = None  # single, multi, auto
    max_crops: int = 6
    prompt_template: str | None = None  # refused unless it is the checkpoint's

    output_dir: str | None = None
    group_by: str = "page"  # or document
    json: bool = False
    confidence: bool = False
    mark_below: float | None = None
    stream: bool = False
    srt: bool = False
    render: bool = False
    format: str | None = None
    tables: str = "html"  # or pipes; of the format md
    save_render_file: str | None = None
    draw: str | None = None

    batch_size: int = 1
    max_new_tokens: int | None = None
    no_repeat_ngram_size: int | None = None
    ngram_window: int = 0
    allow_table_repeats: bool = False
    retry: bool = True
    num_beams: int = 1

    dtype: str = "float32"
    encoder_dtype: str = "float32"
    decoder_dtype: str = "float32"
    threads: int | None = None
    cpu_tuning: bool = True

    def __post_init__(self) -> None:
        for check in (_check_values, _check_task, _check_output, _check_decoding, _check_video):
            check(self)

    @property
    def task(self) -> str:
        """The task of the prompt, as records name it."""
        if self.multi_page:
            return "multi_page"
        if self.multi_crop or self.crop == "multi":
            return "multi_crop" if self.ocr_type == "format" else "multi_crop_ocr"
        return self.ocr_type

    @property
    def exports(self) -> bool:
        """Whether each page is also written in a format that draws."""
        return bool(self.render or self.format or self.save_render_file)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _check_values(options: InferenceOptions) -> None:
    for name in ("output_dir", "save_render_file", "draw", "adapter"):
        if getattr(options, name) == "":  # such as an unset variable of the shell
            raise UsageError(f"{_flag(name)}: an empty name; give a path, or leave it out")
    for name, least in BOUNDS.items():
        value = getattr(options, name)
        if value is not None and value < least:
            raise UsageError(f"{_flag(name)}: {value}; expected at least {least}")
    if options.num_beams > MAX_BEAMS:
        raise UsageError(
            f"--num-beams: {options.num_beams}; expected at most {MAX_BEAMS}, as each has a cache of its own"
        )
    if options.mark_below is not None and not 0 < options.mark_below <= 1:
        raise UsageError(
            f"--mark-below: {options.mark_below:g}; expected a probability above 0 and at most 1"
        )


def _check_task(options: InferenceOptions) -> None:
    if options.multi_page and options.ocr_type != "format":
        raise UsageError("--multi-page: no prompt for plain text was ever trained; use --ocr-type format")
    if options.multi_page and options.multi_crop:
        raise UsageError("--multi-page: does not go with --multi-crop; give one of them")
    if options.ocr_type == "spot" and options.multi_crop:
        raise UsageError("--ocr-type spot: reads a page in one view; leave out --multi-crop")
    if options.crop and (options.multi_crop or options.multi_page):
        raise UsageError(
            f"--crop {options.crop}: does not go with --multi-crop or --multi-page; give one of them"
        )
    one_view = options.box or options.color or options.ocr_type == "spot"
    if options.crop in ("multi", "auto") and one_view:
        raise UsageError(f"--crop {options.crop}: boxes are read in one view; use --crop single")


def _check_output(options: InferenceOptions) -> None:
    if options.draw and options.ocr_type != "spot":
        raise UsageError("--draw: other answers have no boxes; use --ocr-type spot")
    if options.draw and os.path.splitext(options.draw)[1] and not options.draw.lower().endswith(DRAWINGS):
        raise UsageError(
            f"--draw: {options.draw}; expected a name that ends in {', '.join(DRAWINGS)}, or a folder's"
        )
    if options.draw and options.group_by == "document":
        raise UsageError("--draw: is a picture a page; leave out --group-by document")
    if options.render and options.format not in (None, "html"):
        raise UsageError(f"--render: is --format html, not {options.format}; give one of them")
    if options.format in (*LABELS, "pdf") and options.ocr_type == "format":
        raise UsageError(f"--format {options.format}: has no markup; use --ocr-type ocr or spot")
    if options.format in ("page", "alto") and options.group_by == "document":
        raise UsageError(f"--format {options.format}: is a file a page; leave out --group-by document")
    if options.format == "json" and options.ocr_type == "spot":
        raise UsageError("--format json: answers of --ocr-type spot are JSON already; leave it out")
    suffix = os.path.splitext(options.save_render_file or "")[1].lower().removeprefix(".")
    if suffix in FORMATS and suffix != (options.format or "html"):
        raise UsageError(f"--save-render-file: {options.save_render_file}; add --format {suffix}")
    if options.tables != "html" and options.format != "md":
        raise UsageError(f"--tables {options.tables}: is a choice of Markdown; add --format md")
    if options.group_by == "document":
        if not options.output_dir:
            raise UsageError("--group-by document: writes files; add --output-dir")
        if options.multi_page:
            raise UsageError("--group-by document: joins pages that are read singly; leave out --multi-page")
        if options.save_render_file:
            raise UsageError("--group-by document: names its files itself; leave out --save-render-file")
    if options.mark_below is not None and (options.stream or options.ocr_type == "spot"):
        raise UsageError("--mark-below: marks whole answers of text; leave out --stream and spot")


def _check_decoding(options: InferenceOptions) -> None:
    if options.stream and (options.json or options.batch_size > 1):
        raise UsageError("--stream: shows one page at a time; leave out --json and --batch-size")
    if options.stream and options.num_beams > 1:
        raise UsageError(f"--stream: no word is final with --num-beams {options.num_beams}; give one of them")
    for part in ("encoder", "decoder"):
        narrow = getattr(options, f"{part}_dtype")
        if narrow != "float32" and options.dtype != "float32":
            raise UsageError(f"--{part}-dtype {narrow}: got --dtype {options.dtype}; use --dtype float32")


def _check_video(options: InferenceOptions) -> None:
    if options.srt and not options.video_file:
        raise UsageError("--srt: pages have no times; use it with --video-file")
    if options.srt and options.json:
        raise UsageError("--srt: does not go with --json; give one of them")
    if not options.video_file:
        return
    given = [_flag(name) for name in FOR_PAGES if getattr(options, name)]
    given += ["--ocr-type spot"] if options.ocr_type == "spot" else []
    given += ["--group-by document"] if options.group_by == "document" else []
    if given:
        raise UsageError(f"--video-file: {given[0]} is for pages; leave it out")
