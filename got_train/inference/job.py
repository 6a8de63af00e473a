"""A reading job: pages or a video in, answers out, resumable. Knows no command line."""

from __future__ import annotations

import contextlib
import io
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

from got_train import images, prompts
from got_train.atomic_write import write_atomic
from got_train.checkpoint.stamp import model_stamp
from got_train.cpu import settings as cpu
from got_train.errors import ImageError, InferenceError, UsageError
from got_train.strict_files import printable_lines

from . import output, video
from .continuous import read_requests
from .journal import ProgressFile
from .options import InferenceOptions
from .plan import Plan
from .reader import FailedRequest, OcrPipeline, OcrRequest, OcrResult, Page, load_pipeline

# what the text of a page does not depend on
FREE = (
    *("image_file", "video_file", "pages", "json", "confidence", "stream", "batch_size", "prompt_template"),
    *("output_dir", "save_render_file", "draw", "threads", "cpu_tuning", "model_name_or_path"),
)


def load(options: InferenceOptions) -> OcrPipeline:
    """The model as the options want it."""
    if options.cpu_tuning:
        cpu.tune(options.threads)
    elif options.threads is not None:
        cpu.set_threads(options.threads)
    pipeline = load_pipeline(
        options.model_name_or_path,
        options.dtype,
        adapter=options.adapter,
        max_new_tokens=options.max_new_tokens,
        no_repeat_ngram_size=options.no_repeat_ngram_size,
        max_crops=options.max_crops,
        ngram_window=options.ngram_window,
        allow_table_repeats=options.allow_table_repeats,
        retry_loops=options.retry,
        num_beams=options.num_beams,
    )
    if options.encoder_dtype == "bfloat16":
        from got_train.modeling.cpu.bf16_encoder import ExportedVisionEncoder

        ExportedVisionEncoder(pipeline.model.vision, options.threads or cpu.usable_cores()).attach()
    if options.decoder_dtype == "bfloat16":
        from got_train.modeling.cpu.bf16_decoder import cast_decoder_to_bf16

        cast_decoder_to_bf16(pipeline.model.decoder)
    if options.decoder_dtype == "int8":
        from got_train.modeling.cpu.int8_decoder import quantize_decoder

        quantize_decoder(pipeline.model.decoder)
    template = pipeline.prompt_template
    if options.prompt_template not in (None, template):
        raise UsageError(f"--prompt-template: {options.prompt_template}; this checkpoint needs {template}")
    prompts.question(options.task, color=options.color, prompt_template=template)  # stage 1 has ocr only
    return pipeline


def read_pages(pipeline: OcrPipeline, plan: Plan, options: InferenceOptions) -> list[str]:
    """Write every answer; returns the causes of those that failed."""
    requests, names, several = plan.requests, plan.names, len(plan.requests) > 1
    causes = []
    with _progress(options) as progress:
        left = [
            index
            for index, request in enumerate(requests)
            if not (progress and progress.has(request.pages) and output.saved(options, names[index]))
        ]
        number = done = len(requests) - len(left)
        if done:
            _say(f"infer: {done} of {len(requests)} were read before, see {progress.path}")
        documents = _Documents(plan, left, progress, options)
        started = time.perf_counter()
        on_text = output.streaming(several) if options.stream else None
        results = read_requests(pipeline, _begun(requests, left, progress), options.batch_size, on_text)
        for index, result in zip(left, results, strict=True):
            number += 1
            cause = result.cause if isinstance(result, FailedRequest) else ""
            message = "failed"
            if not cause:
                try:
                    message = _write(result, pipeline, options, names[index], progress, several)
                except (ImageError, InferenceError) as error:  # the page may be gone when boxes are drawn
                    cause = str(error)
            if cause:
                causes.append(cause)
            else:
                message += output.pace(number - done, len(requests) - number, time.perf_counter() - started)
            _say(f"[{number}/{len(requests)}] {result.request}: {message}")
            documents.page_done(index)
    return causes


def _begun(
    requests: list[OcrRequest], left: list[int], progress: ProgressFile | None
) -> Iterator[OcrRequest]:
    for index in left:
        if progress:
            progress.begin(requests[index].pages)
        yield requests[index]


def _write(
    answer: OcrResult,
    pipeline: OcrPipeline,
    options: InferenceOptions,
    name: str,
    progress: ProgressFile | None,
    several: bool,
) -> str:
    """Give an answer out on stdout, in files and to the progress file; a line about it."""
    output.show(answer, pipeline, options, several)
    files = output.save(answer, pipeline, options, name)
    if progress:
        progress.add(answer.request.pages, output.journal_row(answer, pipeline, options))
    return " -> ".join([output.summary(answer, options), *map(str, files)])


class _Documents:
    """Those of --group-by document, each written when the last of its pages that are left is read."""

    def __init__(
        self, plan: Plan, left: list[int], progress: ProgressFile | None, options: InferenceOptions
    ) -> None:
        self.names, self.progress, self.options = plan.names, progress, options
        self.pages: dict[str, list[OcrRequest]] = {}
        if options.group_by != "document":
            return
        for name, request in zip(plan.names, plan.requests, strict=True):
            self.pages.setdefault(name, []).append(request)
        self.last = {plan.names[index]: index for index in left}
        for name in self.pages.keys() - self.last.keys():  # a job may have been killed before it wrote this
            self._write(name)

    def page_done(self, index: int) -> None:
        if self.pages and self.last[self.names[index]] == index:
            self._write(self.names[index])

    def _write(self, name: str) -> None:
        files = output.write_document(name, self.pages[name], self.progress, self.options)
        _say(f"-> {', '.join(map(str, files))}")


def read_video(pipeline: OcrPipeline, options: InferenceOptions) -> list[str]:
    """Read a video's frames where they change; returns the causes of those that could not be read."""
    frames: list[video.Frame] = []  # whose answers are still to come
    causes: list[str] = []

    def requests() -> Iterator[OcrRequest]:
        begun = False
        try:
            for frame in video.frames(options.video_file):
                encoded = io.BytesIO()
                frame.image.save(encoded, "PNG", compress_level=1)
                frames.append(replace(frame, image=None))
                name = f"{options.video_file} at {video.clock(frame.start)}"
                page = Page(images.EncodedImage(name, encoded.getvalue()))
                begun = True
                yield OcrRequest((page,), options.task, auto_crop=options.crop == "auto")
        except InferenceError as error:  # what was read before the damage is not thrown away
            if not begun:
                raise
            causes.append(str(error))

    def answers() -> Iterator[tuple[video.Frame, str, float]]:
        for result in read_requests(pipeline, requests(), options.batch_size):
            if isinstance(result, FailedRequest):
                causes.append(result.cause)
                frames.pop(0)
                continue
            _say(f"{result.request}: {output.summary(result, options)}")
            yield frames.pop(0), output.marked_text(result, pipeline, options), result.confidence

    form = "srt" if options.srt else "json" if options.json else "text"
    text = video.written(list(video.cues(answers())), form)
    if options.output_dir is None:
        print(text, end="", flush=True)
    else:
        folder = Path(options.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        suffix = {"text": ".txt", "json": ".jsonl", "srt": ".srt"}[form]
        write_atomic(folder / (Path(options.video_file).stem + suffix), text)
    return causes


def _progress(options: InferenceOptions) -> ProgressFile | contextlib.nullcontext:
    """Of the output folder; None without one."""
    if not options.output_dir:
        return contextlib.nullcontext()
    settings = {name: value for name, value in asdict(options).items() if name not in FREE}
    settings["retry"] = options.retry and not options.stream  # see OcrPipeline.read
    folders = {"model": options.model_name_or_path, "adapter": options.adapter}
    for name, folder in folders.items():
        settings[name] = folder and str(Path(folder).resolve())
    settings["files"] = model_stamp(options.model_name_or_path, options.adapter)
    return ProgressFile(options.output_dir, settings)


def _say(message: str) -> None:
    print(printable_lines(message), file=sys.stderr, flush=True)
