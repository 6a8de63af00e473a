"""What a reading job will ask and write, found out before a model is loaded: requests and names of files."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from got_train import images, prompts
from got_train.errors import ImageError, UsageError

from . import output, video
from .options import InferenceOptions
from .pages import Page, find_pages, left_out
from .reader import OcrRequest

_APART = "give each an --output-dir of its own"


@dataclass(frozen=True)
class Plan:
    """Requests in their order, the name of each one's files without its suffix, and what is left out."""

    requests: list[OcrRequest]
    names: list[str]
    notes: list[str]


def make_plan(options: InferenceOptions) -> Plan:
    """The plan for pages; all that can be refused without a model is refused here."""
    _check_programs(options)
    box = None if options.box is None else prompts.parse_box(options.box)
    numbers = None if options.pages is None else images.parse_pages(options.pages)
    paths = _paths(options.image_file)
    pages = find_pages(paths, numbers)
    _check_region(options, box, pages[0])
    groups = [tuple(pages)] if options.multi_page else [(page,) for page in pages]
    auto_crop = options.crop == "auto"
    requests = [OcrRequest(group, options.task, box, options.color, auto_crop=auto_crop) for group in groups]
    if options.save_render_file and len(requests) > 1:
        raise UsageError(
            f"--save-render-file: one file for {len(requests)} pages; give one page, or --output-dir"
        )
    if options.draw and len(requests) > 1 and Path(options.draw).suffix:
        raise UsageError(f"--draw: one file for {len(requests)} pages; give one page, or a folder's name")
    names = _document_names(requests) if options.group_by == "document" else _page_names(options, requests)
    _check_files(options, pages, names)
    return Plan(requests, names, list(left_out(paths)))


def check_video(options: InferenceOptions) -> None:
    """Refuse a video that is not there or cannot be read here."""
    if reason := video.unavailable():
        raise UsageError(f"--video-file: {reason}")
    if not os.path.isfile(options.video_file):
        raise UsageError(f"--video-file: no file {options.video_file}; give a video such as clip.mp4")


def _check_programs(options: InferenceOptions) -> None:
    if options.format == "docx":
        from got_train.rendering import word

        if reason := word.unavailable():
            raise UsageError(f"--format: docx; {reason}")
    if options.format == "pdf":
        from got_train.rendering import searchable_pdf

        if reason := searchable_pdf.unavailable():
            raise UsageError(f"--format: pdf; {reason}")


def _paths(names: Sequence[str]) -> list[str]:
    """The paths that were given, with those on stdin in the place of `-`."""
    if names.count("-") > 1:
        raise UsageError("--image-file: - is given twice; give it once, as stdin can be read once")
    paths: list[str] = []
    for name in names:
        if name == "-":
            with contextlib.suppress(AttributeError):  # names of files need not be UTF-8
                sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")
        lines = [line.rstrip("\r\n") for line in sys.stdin] if name == "-" else [name]
        paths += [line for line in lines if line.strip()]
    if not paths:
        raise UsageError("--image-file: nothing on stdin; expected one path a line")
    return paths


def _check_region(options: InferenceOptions, box: list[float] | None, page: Page) -> None:
    """Refuse a region that does not fit the first page."""
    try:
        size = None if box is None else page.open().size
    except (ImageError, OSError):
        return  # the page will be listed among the failures
    prompts.question(options.task, box, options.color, size)


def _page_names(options: InferenceOptions, requests: Sequence[OcrRequest]) -> list[str]:
    """The first page's file name; refused if one file would overwrite another."""
    names: dict[str, OcrRequest] = {}
    for request in requests:
        name = request.pages[0].name
        if name in names and str(names[name]) == str(request):
            raise UsageError(f"{request}: is named twice; name it once")
        if name in names and (options.output_dir or options.exports or options.draw):
            raise UsageError(f"{name}: the name of {names[name]} and of {request}; {_APART}")
        names[name] = request
    return [request.pages[0].name for request in requests]


def _document_names(requests: Sequence[OcrRequest]) -> list[str]:
    """The file name of each page's document; its pages follow one another."""
    files: dict[str, str] = {}
    names = []
    for request in requests:
        file = str(request.pages[0].file)
        names.append(Path(file).stem)
        if files.setdefault(names[-1], file) != file:
            raise UsageError(f"{names[-1]}: the name of {files[names[-1]]} and of {file}; {_APART}")
    return names


def _check_files(options: InferenceOptions, pages: Sequence[Page], names: Sequence[str]) -> None:
    """No file that is written takes the place of a page or of another one."""
    folder = options.output_dir
    if folder and os.path.exists(folder) and not os.path.isdir(folder):
        raise UsageError(f"--output-dir: {folder} is a file; expected a folder, which is made if needed")
    inputs = {os.path.realpath(str(page.file)) for page in pages}
    for name in names:
        files = list(map(os.path.realpath, output.files(options, name).values()))
        for file in files:
            if file in inputs:
                raise UsageError(f"{file}: is an input and would be overwritten; use another --output-dir")
            if files.count(file) > 1:
                raise UsageError(f"{file}: would be written twice; leave one of the two out, or rename it")
