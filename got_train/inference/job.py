"""A reading job: pages in, answers out, resumable. Knows no command line."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from got_train.errors import InferenceError

if TYPE_CHECKING:
    from .journal import ProgressFile
    from .reader import OcrPipeline, OcrRequest, OcrResult


# what the text of a page does not depend on
FREE = (
    *("image_file", "video_file", "pages", "json", "confidence", "stream", "batch_size", "prompt_template"),
    *("output_dir", "save_render_file", "draw", "threads", "no_tune_cpu", "model_name_or_path"),
)


WEIGHTS = (".safetensors", ".pdparams", ".bin")


def read(
    reader: OcrPipeline, questions: list[OcrRequest], names: list[str], options: argparse.Namespace
) -> list[str]:
    """Writes every answer; returns the causes of those that there are not."""
    from got_train.errors import ImageError, InferenceError

    from . import output
    from .reader import FailedRequest

    several = len(questions) > 1
    causes = []
    with _journal(options) as journal:
        left = [
            place
            for place, asked in enumerate(questions)
            if not (journal and journal.has(asked.pages) and output.saved(options, names[place]))
        ]
        number = done = len(questions) - len(left)
        if done:
            _say(f"{done} of {len(questions)} were read before, as {journal.path} tells")
        documents = _Documents(questions, names, left, journal, options)
        started = time.perf_counter()
        shown = output.streaming(several) if options.stream else None
        results = reader.read(_begun(questions, left, journal), options.batch_size, shown)
        for place, result in zip(left, results, strict=True):
            number += 1
            cause = result.cause if isinstance(result, FailedRequest) else ""
            try:
                told = "failed" if cause else _keep(result, reader, options, names[place], journal, several)
            except (ImageError, InferenceError) as error:  # the page may be gone when its boxes are drawn
                cause, told = str(error), "failed"
            if cause:
                causes.append(cause)
            else:
                told += output.pace(number - done, len(questions) - number, time.perf_counter() - started)
            print(f"[{number}/{len(questions)}] {result.request}: {told}", file=sys.stderr, flush=True)
            documents.read(place)
    return causes


def _begun(
    questions: list[OcrRequest], left: list[int], journal: ProgressFile | None
) -> Iterator[OcrRequest]:
    for place in left:
        if journal:
            journal.begin(questions[place].pages)
        yield questions[place]


def _keep(
    answer: OcrResult,
    reader: OcrPipeline,
    options: argparse.Namespace,
    name: str,
    journal: ProgressFile | None,
    several: bool,
) -> str:
    """Gives an answer out on stdout, in files and to the journal; what is told of it."""
    from . import output

    output.show(answer, reader, options, several)
    files = output.save(answer, reader, options, name)
    if journal:
        journal.add(answer.request.pages, output.journal_row(answer, reader, options))
    return " -> ".join([output.summary(answer, options), *map(str, files)])


class _Documents:
    """Those of --per document, each written when the last of its pages that are left is read."""

    def __init__(
        self,
        questions: list[OcrRequest],
        names: list[str],
        left: list[int],
        journal: ProgressFile | None,
        options: argparse.Namespace,
    ) -> None:
        self.names, self.journal, self.options = names, journal, options
        self.pages: dict[str, list[OcrRequest]] = {}
        if options.per != "document":
            return
        for name, asked in zip(names, questions, strict=True):
            self.pages.setdefault(name, []).append(asked)
        self.last = {names[place]: place for place in left}
        for name in self.pages.keys() - self.last.keys():  # a job may have been killed before it wrote this
            self._write(name)

    def read(self, place: int) -> None:
        if self.pages and self.last[self.names[place]] == place:
            self._write(self.names[place])

    def _write(self, name: str) -> None:
        from . import output

        files = output.write_document(name, self.pages[name], self.journal, self.options)
        print(f"-> {', '.join(map(str, files))}", file=sys.stderr, flush=True)


def watch(reader: OcrPipeline, options: argparse.Namespace) -> list[str]:
    """Reads a video's frames where they change; returns the causes of those that could not be read."""
    import io

    from got_train import images

    from . import output, video
    from .reader import FailedRequest, OcrRequest, Page

    frames: list[video.Frame] = []  # whose answers are not there yet

    def questions() -> Iterator[OcrRequest]:
        begun = False
        try:
            for frame in video.frames(options.video_file):
                picture = io.BytesIO()
                frame.image.save(picture, "PNG", compress_level=1)
                frames.append(replace(frame, image=None))
                name = f"{options.video_file} at {video.clock(frame.start)}"
                page = Page(images.EncodedImage(name, picture.getvalue()))
                begun = True
                yield OcrRequest((page,), _task(options), auto_crop=options.crop == "auto")
        except InferenceError as error:  # what was read before the damage is not thrown away
            if not begun:
                raise
            causes.append(str(error))

    causes: list[str] = []

    def answers() -> Iterator[tuple[video.Frame, str, float]]:
        for result in reader.read(questions(), options.batch_size):
            if isinstance(result, FailedRequest):
                causes.append(result.cause)
                frames.pop(0)
                continue
            print(f"{result.request}: {output.summary(result, options)}", file=sys.stderr, flush=True)
            yield frames.pop(0), output.marked_text(result, reader, options), result.confidence

    form = "srt" if options.srt else "json" if options.json else "text"
    text = video.written(list(video.cues(answers())), form)
    if options.output_dir is None:
        print(text, end="", flush=True)
    else:
        from got_train.atomic_write import write_atomic

        folder = Path(options.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        suffix = {"text": ".txt", "json": ".jsonl", "srt": ".srt"}[form]
        write_atomic(folder / (Path(options.video_file).stem + suffix), text)
    return causes


def _journal(options: argparse.Namespace) -> ProgressFile | contextlib.nullcontext:
    """Of the output folder; None without one."""
    if not options.output_dir:
        return contextlib.nullcontext()
    from .journal import ProgressFile

    settings = {name: value for name, value in vars(options).items() if name not in FREE}
    settings["no_retry"] = options.no_retry or options.stream  # see Reader.read
    folders = {"model": options.model_name_or_path, "adapter": options.adapter}
    for name, folder in folders.items():
        settings[name] = folder and str(Path(folder).resolve())
    settings["weights"] = [state for folder in folders.values() if folder for state in _weights(Path(folder))]
    return ProgressFile(options.output_dir, settings)


def _weights(folder: Path) -> list[list[str | int]]:
    """Name, size and time of each file that the answers depend on."""
    files = [file for file in sorted(folder.iterdir()) if file.suffix in WEIGHTS]
    states = [(file.name, file.stat()) for file in files]
    return [[name, state.st_size, state.st_mtime_ns] for name, state in states]


def _task(options: argparse.Namespace) -> str:
    if options.multi_page:
        return "multi_page"
    if options.multi_crop or options.crop == "multi":
        return "multi_crop" if options.ocr_type == "format" else "multi_crop_ocr"
    return options.ocr_type


def _say(message: str) -> None:
    print(f"infer: {message}", file=sys.stderr)
