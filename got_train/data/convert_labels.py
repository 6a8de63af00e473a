"""Labels with positions in another format of labels: files of annotation tools, libraries and scorers.

Every file is read back and compared with what was to be said; what the format has no room for is counted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from got_train.atomic_write import write_atomic
from got_train.errors import DataError
from got_train.formats import spots as spotting
from got_train.images import EncodedImage

from .convert import (
    Refusals,
    add_labels_beside,
    check_label_flags,
    copy_root,
    first_cause,
    image_size,
    record_rows,
)
from .convert_options import ConvertOptions
from .image_copies import ImageCopier
from .labels.labelled_page import Label, LabelledPage, Losses, in_pixels, picture_size
from .labels.readers import are_labels, label_files, labelled_pages
from .labels.writers import FORMATS, in_page_order, same, sayable, written
from .record import Record, RecordError

PREDICTIONS = "label-studio-predictions"  # which no reader takes for labels
Refuse = Callable[[RecordError], None]


def convert_labels(options: ConvertOptions, losses: Losses) -> tuple[int, int]:
    """Writes OUT, and what was refused beside it; the number of pages of each."""
    if options.tasks:
        raise DataError(f"--tasks: is for records, but {options.to} has labels; leave it out")
    out, refusals = labels_out(options), label_refusals(options)
    folder = out if FORMATS[options.to].suffix else out.parent
    folder.mkdir(parents=True, exist_ok=True)
    refusals.unlink(missing_ok=True)
    copies = ImageCopier(folder / "images", copy_root(options)) if options.copy_images else None
    with Refusals(refusals) as refuse:
        pages: list[LabelledPage] = []
        refused = 0
        seen: dict[str, str] = {}
        for page in _pages(options):
            try:
                ready = _ready(page, options, folder, copies, seen, losses)
                pages += [] if ready is None else [ready]
            except RecordError as error:
                refuse(error)
                refused += 1
        add_labels_beside(options.source, losses)
        write = _write_each if FORMATS[options.to].suffix else _write_one
        done = write(pages, options, out, refuse) if pages else 0
    if not done:
        raise DataError(f"{options.source}: no page can be converted; {first_cause(refusals, losses)}")
    return done, refused + len(pages) - done


def labels_out(options: ConvertOptions) -> Path:
    """OUT itself, or the file of the usual name in it where all pages share one."""
    out, known = Path(options.out), FORMATS[options.to]
    if known.suffix and out.suffix in (".json", ".jsonl", ".xml", ".txt", ".hocr"):
        raise DataError(f"--out: {out}; {options.to} has a file a page; give a folder")
    if known.suffix or out.suffix == Path(known.name).suffix:
        return out
    if out.suffix in (".json", ".jsonl", ".xml", ".txt"):
        raise DataError(
            f"--out: {out}; {options.to} goes into a {Path(known.name).suffix} file, or into a folder"
        )
    return out / known.name


def label_refusals(options: ConvertOptions) -> Path:
    out = labels_out(options)
    return out / "refused.jsonl" if FORMATS[options.to].suffix else out.with_name(out.stem + ".refused.jsonl")


def _pages(options: ConvertOptions) -> Iterator[LabelledPage | RecordError]:
    """The pages of labels, or of records: one a spot or whole page, and one of all boxes of a picture."""
    if os.path.exists(options.source) and are_labels(options.source):
        check_label_flags(options)
        yield from labelled_pages(options.source, options.image_root)
        return
    boxes: dict[str | EncodedImage, LabelledPage] = {}
    for record in record_rows(options):
        try:
            page = _page_of(record)
            if record.box is None:
                yield page
            elif page.image in boxes:
                known = boxes[page.image]
                boxes[page.image] = replace(known, labels=known.labels + page.labels)
            else:
                boxes[page.image] = page
        except RecordError as error:
            yield error
    yield from boxes.values()


def _page_of(record: Record | RecordError) -> LabelledPage:
    if isinstance(record, RecordError):
        raise record
    location, image = record.location, record.images[0]
    if record.task not in ("spot", "ocr", "format") or record.color or len(record.images) > 1:
        asked = f"task {record.task}, color {record.color}, {len(record.images)} images"
        raise RecordError(f"{location}: {asked}; expected spot, ocr or format of one page")
    size = image_size(image)
    if record.task == "spot":
        spots = spotting.parse(record.text)[0]
        boxes = [spotting.pixel_box(spot.box, size) for spot in spots]
        labels = [Label(spot.text, tuple(box)) for spot, box in zip(spots, boxes, strict=True)]
        return LabelledPage(image, tuple(labels), location)
    if record.box is None:
        return LabelledPage(image, tuple(Label(line, None) for line in record.text.splitlines()), location)
    if len(record.box) != 4:
        raise RecordError(f"{location}: a point {list(record.box)}; expected a box, as labels have")
    box = record.box if record.box_unit == "pixel" else tuple(spotting.pixel_box(record.box, size))
    return LabelledPage(image, (Label(record.text, box, location=location),), location)


def _ready(
    page: LabelledPage | RecordError,
    options: ConvertOptions,
    folder: Path,
    copies: ImageCopier | None,
    seen: dict[str, str],
    losses: Losses,
) -> LabelledPage | None:
    """A page in pixels, its picture named from the folder, with what the format can say of it."""
    if isinstance(page, RecordError):
        raise page
    image = copies.one(page.image) if copies else page.image
    if isinstance(image, EncodedImage):
        raise RecordError(f"{page.location}: {image} is a picture inside a table; use --copy-images")
    first = seen.setdefault(os.path.realpath(image), page.location)
    if first != page.location:
        raise RecordError(f"{page.location}: {image} is the picture of {first} too; expected one page each")
    losses.add_left_out(page)
    page = in_pixels(page, picture_size(image))
    if options.illegible == "skip_page" and not all(label.legible for label in page.labels):
        texts = [label.text for label in page.labels]
        losses.add("pages skipped for an illegible label", page.location, texts)
        return None
    if options.order == "page":
        page = in_page_order(page)
    named = os.path.relpath(image, folder).replace(os.sep, "/")
    return sayable(options.to, replace(page, image=named), losses)


def _write_each(pages: Sequence[LabelledPage], options: ConvertOptions, out: Path, refuse: Refuse) -> int:
    """A file a page, called as its picture; those that are read back otherwise are taken away again."""
    taken: set[str] = set()
    sources = _sources(options)
    done = 0
    for page in pages:
        stem, number = Path(page.image).stem, 1
        while (name := stem if number == 1 else f"{stem}-{number}").lower() in taken:
            number += 1
        taken.add(name.lower())
        file, known = out / (name + FORMATS[options.to].suffix), FORMATS[options.to]
        try:
            if number > 1 and not known.names_picture:
                raise RecordError(f"{page.location}: another picture is called {stem}; use --copy-images")
            if os.path.realpath(file) in sources:
                raise DataError(f"--out: {file} is the source itself; use another folder")
            write_atomic(file, written(options.to, [page]))
            if page.labels:
                root = None if known.names_picture else file.parent / Path(page.image).parent
                _check(page, _read_back(file, root)[0])
            done += 1
        except RecordError as error:
            file.unlink(missing_ok=True)
            refuse(error)
    return done


def _write_one(pages: Sequence[LabelledPage], options: ConvertOptions, out: Path, refuse: Refuse) -> int:
    """One file; written once more without the pages that are read back otherwise."""
    if os.path.realpath(out) in _sources(options):
        raise DataError(f"--out: {out} is the source itself; use another file or folder")
    kept = []
    for page in pages:
        try:
            written(options.to, [page])
            kept.append(page)
        except RecordError as error:
            refuse(error)
    if not kept:
        return 0
    write_atomic(out, written(options.to, kept))
    if options.to == PREDICTIONS or not any(page.labels for page in kept):
        return len(kept)
    right = []
    for page, back in zip(kept, _read_back(out), strict=True):
        try:
            _check(page, back)
            right.append(page)
        except RecordError as error:
            refuse(error)
    if len(right) < len(kept):
        write_atomic(out, written(options.to, right)) if right else out.unlink()
    return len(right)


def _check(page: LabelledPage, back: LabelledPage | RecordError) -> None:
    if isinstance(back, RecordError):
        raise RecordError(f"{page.location}: would not be read back: {back}")
    for number, label in enumerate(page.labels):
        pair = replace(page, labels=(label,)), replace(back, labels=back.labels[number : number + 1])
        if not same(*pair):
            location = label.location or page.location
            raise RecordError(f"{location}: {label.text[:60]!r} would be read back as another label")
    if not same(page, back):
        raise RecordError(f"{page.location}: {len(back.labels)} labels read back, not {len(page.labels)}")


def _read_back(file: Path, image_root: Path | None = None) -> list[LabelledPage | RecordError]:
    return list(labelled_pages(file, image_root))


def _sources(options: ConvertOptions) -> set[str]:
    return {os.path.realpath(file) for file in [options.source, *label_files(options.source)]}
