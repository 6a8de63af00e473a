"""Answers as infer.py gives them out: on stdout, as rows of JSON, as files a page or a document.

Knows the flags that say how; knows no model beside the reader that answered.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from got_train.atomic_write import write_atomic

from . import label_files
from .options import LABELS

if TYPE_CHECKING:
    from .journal import ProgressFile
    from .options import InferenceOptions
    from .reader import OcrPipeline, OcrRequest, OcrResult

SUFFIXES = {"format": ".mmd", "spot": ".json"}
DRAWN = {".png": "PNG", ".jpg": "JPEG", ".webp": "WEBP"}  # of --draw, and Pillow's names
ENDED = {
    "stop": "",
    "length": "; no end within the limit, the text is cut",
    "loop": "; it began to repeat itself and was cut",
    "retried": "; it began to repeat itself and was read again with no repetition allowed",
}


def show(answer: OcrResult, reader: OcrPipeline, options: InferenceOptions, several: bool) -> None:
    if options.json:
        print(json.dumps(row(answer, reader, options), ensure_ascii=False), flush=True)
    elif options.stream:
        print(flush=True)
    elif options.output_dir is None and options.ocr_type == "spot":
        print(_spots(answer), flush=True)
    elif options.output_dir is None:
        print(_heading(answer.request) * several + marked_text(answer, reader, options), flush=True)


def files(options: InferenceOptions, name: str) -> dict[str, Path]:
    """Where `save` writes what of a page, or `write_document` of a document."""
    folder, paths = Path(options.output_dir or "."), {}
    if options.output_dir:
        paths["text"] = folder / (name + _suffix(options))
    if options.exports:
        form = options.format or "html"
        suffix = label_files.SUFFIXES.get(form, form)
        paths["export"] = Path(options.save_render_file or folder / f"{name}.{suffix}")
    if options.draw:
        drawing = Path(options.draw)
        paths["boxes"] = drawing if drawing.suffix else drawing / f"{name}.png"
    return paths


def _suffix(options: InferenceOptions) -> str:
    if options.ocr_type == "spot" and options.group_by == "document":
        return ".jsonl"  # a line a page
    return SUFFIXES.get(options.ocr_type, ".txt")


def saved(options: InferenceOptions, name: str) -> bool:
    """Whether all that `save` writes of a page is there; of a document it is written at its end."""
    return options.group_by == "document" or all(map(_is_whole, files(options, name).values()))


def _is_whole(file: Path) -> bool:
    """An empty file is what a power cut left: even the text of a blank page ends with a line feed."""
    return file.is_file() and file.stat().st_size > 0


def save(answer: OcrResult, reader: OcrPipeline, options: InferenceOptions, name: str) -> list[Path]:
    """The files that were written."""
    if options.group_by == "document":  # when its last page is read
        return []
    paths = files(options, name)
    if "text" in paths:
        text = _spots(answer) if options.ocr_type == "spot" else marked_text(answer, reader, options)
        write_atomic(paths["text"], f"{text}\n".encode("utf-8", "backslashreplace"))  # names of files in JSON
    if "export" in paths:
        _export([(answer.request, answer.text)], options, paths["export"])
    if "boxes" in paths:
        _draw(answer, paths["boxes"])
    return [*paths.values()]


def write_document(
    name: str, pages: Sequence[OcrRequest], journal: ProgressFile, options: InferenceOptions
) -> list[Path]:
    """Writes a document of pages that were read; one that failed leaves a line in its place."""
    rows = [journal.row(asked.pages) for asked in pages]
    spot = options.ocr_type == "spot"
    missing = ["" if spot else f"[{asked}: not read]" for asked in pages]
    paths = files(options, name)
    if spot:
        keys = ("file", "page", "lines", "faults")
        texts = [json.dumps({key: row[key] for key in keys}, ensure_ascii=False) for row in rows if row]
        write_atomic(
            paths["text"], "".join(text + "\n" for text in texts).encode("utf-8", "backslashreplace")
        )
    else:
        texts = [gap if row is None else row["marked"] for row, gap in zip(rows, missing, strict=True)]
        write_atomic(paths["text"], "\n\n".join(texts) + "\n")
    answers = [gap if row is None else row["text"] for row, gap in zip(rows, missing, strict=True)]
    if "export" in paths:
        _export(list(zip(pages, answers, strict=True)), options, paths["export"])
    return [*paths.values()]


def row(answer: OcrResult, reader: OcrPipeline, options: InferenceOptions) -> dict:
    files = [page.file for page in answer.request.pages]
    numbers = [page.number for page in answer.request.pages]
    result = {
        "file": files if options.multi_page else files[0],
        "page": numbers if options.multi_page else numbers[0],
        "text": answer.text,
        "finished": answer.finished,
        "confidence": round(answer.confidence, 4),
        "lowest": round(answer.lowest, 4),
        "seconds": round(answer.seconds, 3),
    }
    if options.ocr_type == "spot":
        result |= json.loads(_spots(answer))
    if options.crop == "auto":
        result |= {"task": answer.request.task, "line_height": answer.request.line_height}
    if options.confidence:
        result["tokens"] = [[text, round(sure, 4)] for text, sure in reader.calibrated_token_texts(answer)]
        result["words"], result["lines"] = (
            [[text, start, round(sure, 4)] for text, start, sure in reader.spans(answer, level)]
            for level in ("word", "line")
        )
        result["calibrated"] = reader.calibration is not None
    if options.mark_below is not None:
        doubtful = [word for word in reader.spans(answer, "word") if word.confidence < options.mark_below]
        result["doubtful"] = [[text, start, round(sure, 4)] for text, start, sure in doubtful]
    return result


def journal_row(answer: OcrResult, reader: OcrPipeline, options: InferenceOptions) -> dict:
    """What a later job needs of a page that it does not read again."""
    return row(answer, reader, options) | {"marked": marked_text(answer, reader, options)}


def marked_text(answer: OcrResult, reader: OcrPipeline, options: InferenceOptions) -> str:
    if options.mark_below is None:
        return answer.text
    return reader.marked(answer, options.mark_below)


def _export(answers: Sequence[tuple[OcrRequest, str]], options: InferenceOptions, file: Path) -> None:
    """Pages and their answers in another format, drawn where the format can hold drawings."""
    from got_train.rendering import searchable_pdf
    from got_train.rendering.document import Reading
    from got_train.rendering.export import export

    form = options.format or "html"
    if form in LABELS:
        pages = ((request.pages[0], text) for request, text in answers)
        write_atomic(file, label_files.label_file(form, pages, options.ocr_type, file))
        return
    pictured = form == "pdf" or options.ocr_type == "spot"
    readings = (
        Reading(str(request), text, options.ocr_type, request.pages[0].open() if pictured else None)
        for request, text in answers
    )
    if form == "pdf":
        write_atomic(file, searchable_pdf.pdf(readings))
    else:
        write_atomic(file, export(list(readings), form, options.tables))


def _spots(answer: OcrResult) -> str:
    """The lines of a page with their boxes in its pixels, as a line of JSON that convert_data reads."""
    from got_train.formats import spots

    page = answer.request.pages[0]
    listed = spots.spots_as_json(answer.text, page.open().size)
    return json.dumps({"file": str(page.file), "page": page.number, **listed}, ensure_ascii=False)


def _draw(answer: OcrResult, file: Path) -> None:
    from got_train.formats import spots
    from got_train.rendering.boxes import draw_boxes

    image = answer.request.pages[0].open()
    lines = spots.spots_as_json(answer.text, image.size)["lines"]
    drawn = io.BytesIO()
    draw_boxes(image, [line["box"] for line in lines]).save(drawn, DRAWN[file.suffix.lower()])
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, drawn.getvalue())


def summary(answer: OcrResult, options: InferenceOptions) -> str:
    sure = f", confidence {answer.confidence:.3f}, lowest {answer.lowest:.3f}" if options.confidence else ""
    return f"{len(answer.ids)} tokens, {answer.seconds:.1f} s{_crop(answer)}{sure}{ENDED[answer.finished]}"


def _crop(answer: OcrResult) -> str:
    """What --crop auto chose, and why."""
    if not answer.request.auto_crop:
        return ""
    chosen = "tiles" if answer.request.task.startswith("multi_crop") else "one view"
    height = answer.request.line_height
    return f", {chosen}: " + ("no lines found" if height is None else f"lines of {height:.0f} px in one view")


def pace(done: int, left: int, seconds: float) -> str:
    if not left:
        return ""
    minutes, rest = divmod(round(left * seconds / done), 60)
    return f" ({done / seconds:.2f} pages/s, {minutes // 60}:{minutes % 60:02d}:{rest:02d} left)"


def _heading(question: OcrRequest) -> str:
    return f"==> {question} <==\n"  # as head and tail tell files apart


def streaming(several: bool) -> Callable[[OcrRequest, str], None]:
    begun = set()

    def show(question: OcrRequest, text: str) -> None:
        if several and question.pages not in begun:
            text = _heading(question) + text
        begun.add(question.pages)
        print(text, end="", flush=True)

    return show
