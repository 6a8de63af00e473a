"""Label files with positions, told apart by their content: XML, hOCR, COCO, PaddleOCR, ICDAR and others.

Knows keys and columns; what becomes of a labelled page is a matter of to_spots.py.
"""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from got_train.data.box_lines import box_format, text_lines
from got_train.data.line_files import first_bytes, forward_lines, has_utf16_mark, json_row
from got_train.data.record import RecordError, shorten
from got_train.images import SUFFIXES, natural_order
from got_train.strict_files import strict_json

from .annotation_tools import tool_of, tool_pages
from .hocr import hocr_pages, is_hocr
from .icdar import box_pages
from .image_search import find_file, find_picture, image_roots
from .labelled_page import PADDLE_MARKS, Label, LabelledPage, are_coordinates, around, corners, is_legible
from .other_formats import other_format
from .xml import xml_pages

LABEL_SUFFIXES = (".xml", ".txt", ".json", ".csv", ".hocr", ".html")
LABEL_FOLDERS = (
    "box",
    "boxes",
    "gt",
    "labels",
    "label",
    "annotations",
    "page",
    "alto",
    "xml",
    "key",
)  # of a data set
SPLITS = {"train", "training", "test", "testing", "val", "valid", "validation", "dev", "eval"}
_PICTURES = {"file", "image", "images"}  # keys of a page of lines
_OF_PAGES = (".pdf", ".tif", ".tiff")
_HOCR = (".hocr", ".html", ".htm")
SAMPLED = 20  # files of a folder by which it is told, and lines of a file
_TAB = "\t"
_TEXTS = ("utf8_string", "text", "transcription")
_PADDLE = re.compile(
    r"(?:\[\s*\".*\"\s*\]|[^\t]*?\.(?:" + "|".join(suffix[1:] for suffix in SUFFIXES) + r"))(\t|,|\s)",
    re.IGNORECASE,
)
_POINTS = re.compile(r"\{.*[\"'](?:transcription|points)[\"']\s*:", re.DOTALL)  # of a label without its list
# ICDAR's lists of words: `word_1.png, "Tiredness"`
_WORD = re.compile(
    r"([^\t,]+?\.(?:" + "|".join(suffix[1:] for suffix in SUFFIXES) + r"))\s*,\s*(\"(.*)\"|.*)", re.IGNORECASE
)

Read = Iterator[LabelledPage | RecordError]  # a page that cannot be used does not end the others


def are_labels(path: str | os.PathLike) -> bool:
    """Whether this is a label file with positions, or a folder of such files."""
    return bool(label_files(os.fspath(path)))


def labelled_pages(path: str | os.PathLike, image_root: str | os.PathLike | None = None) -> Read:
    """The pages of a label file, or of the label files of a folder in natural order.

    Pictures are looked for beside the file, one folder up, and in `images` or the like there; or in
    `image_root` alone.
    """
    path, root = os.fspath(path), None if image_root is None else os.fspath(image_root)
    files = label_files(path)
    if not files:
        if named := other_format(path):
            raise RecordError(named)
        raise RecordError(f"{path}: no label file known here; PAGE, ALTO, hOCR, COCO, PaddleOCR, ICDAR ...")
    for file, form in files.items():
        yield from _read(form, file, root)


def labels_beside(path: str | os.PathLike) -> Iterator[tuple[str, str]]:
    """Label files in a folder of labels that are of another kind and not read, each with its format.

    One that is called as a file that is read is another copy of the same labels.
    """
    files = label_files(os.fspath(path)) if os.path.isdir(path) else {}
    stems = {_stem(file) for file in files}
    for folder in sorted({os.path.dirname(file) for file in files}):
        for name in sorted(os.listdir(folder), key=natural_order):
            file = os.path.join(folder, name)
            if name[0] == "." or file in files or _stem(name) in stems or not os.path.isfile(file):
                continue
            if name.lower().endswith(LABEL_SUFFIXES) and (form := label_format(file)):
                yield file, form


def _stem(file: str) -> str:
    return os.path.basename(file).partition(".")[0].lower()


def label_files(path: str) -> dict[str, str]:
    """The label files that a path stands for, each with its format; none of what is records, or nothing."""
    if not os.path.isdir(path):
        form = label_format(path)
        return {path: form} if form else {}
    if files := _of_set(path):
        return files
    inner = inner_label_folders(path)
    if any(os.path.basename(folder).lower() in SPLITS for folder in inner):  # to be given one by one
        return {}
    return {file: form for files in inner.values() for file, form in files.items()}


def inner_label_folders(path: str) -> dict[str, dict[str, str]]:
    """The folders of labels in a folder of nothing but folders, such as the volumes of a work."""
    names = sorted((name for name in os.listdir(path) if name[0] != "."), key=natural_order)
    folders = [os.path.join(path, name) for name in names]
    if not folders or not all(map(os.path.isdir, folders)):
        return {}
    return {folder: files for folder in folders if (files := _of_set(folder))}


def _of_set(folder: str) -> dict[str, str]:
    """The label files of a folder, or of the one in it that is called like a folder of labels."""
    return _folder_files(folder) or next(
        (files for name in LABEL_FOLDERS if (files := _folder_files(os.path.join(folder, name)))), {}
    )


def label_format(path: str) -> str:
    """The name of a label file's format; empty for what is none."""
    try:
        return _format(path)
    except RecordError:  # not even JSON: who reads it as records will tell
        return ""


def _folder_files(folder: str) -> dict[str, str]:
    """The label files of a folder: XML if it has any, else hOCR, JSON, or texts of boxes, all of one kind."""
    if not os.path.isdir(folder):
        return {}
    names = sorted((name for name in os.listdir(folder) if name[0] != "."), key=natural_order)
    for suffixes in ((".xml",), _HOCR, (".json",), (".txt",), (".csv",)):
        files = [os.path.join(folder, name) for name in names if name.lower().endswith(suffixes)]
        files = [file for file in files if os.path.isfile(file)]
        filled = [file for file in files if os.path.getsize(file) or suffixes != (".txt",)]  # else no text
        if suffixes == (".xml",) and files:
            return {file: label_format(file) for file in files}
        sample = filled[:: max(1, len(filled) // SAMPLED)]
        forms = [label_format(file) for file in sample]
        if suffixes == (".txt",) and any(form == "PaddleOCR" for form in forms):
            return {file: form for file, form in zip(sample, forms, strict=True) if form == "PaddleOCR"}
        if forms and all(forms):
            return {file: label_format(file) or forms[0] for file in files}
    return {}


def _format(path: str) -> str:
    suffix = Path(path).suffix.lower()
    if suffix == ".xml" and has_utf16_mark(path):  # which XML may be, as no other format here
        return "XML"
    if suffix in _HOCR and has_utf16_mark(path):
        return "hOCR" if is_hocr(Path(path).read_bytes().decode("utf-16", "replace")[:4096].encode()) else ""
    start = first_bytes(path)
    if suffix == ".xml" or (start.startswith(b"<") and suffix != ".txt"):
        return "hOCR" if is_hocr(start) else "" if suffix in _HOCR[1:] else "XML"
    if suffix in (".txt", ".csv", ".tsv") and box_format(text_lines(path, errors="replace")):
        return "ICDAR"
    if suffix == ".txt":
        lines = text_lines(path, errors="replace")[:SAMPLED]  # who reads them says that they are not UTF-8
        named = [match for match in map(_PADDLE.match, lines) if match]
        return "PaddleOCR" if len(named) > len(lines) / 2 else ""
    if suffix == ".json" and start[:1] in (b"{", b"["):
        return _json_format(path)
    if suffix != ".jsonl":
        return ""
    location, line = next(iter(forward_lines(path)), ("", b"{}"))
    return "lines" if "lines" in json_row(location, line) else ""


def _json_format(path: str) -> str:
    """COCO, or the tool that a JSON file is of."""
    content = _json(path)
    if isinstance(content, dict) and ({"anns", "imgs"} <= content.keys() or _is_coco(content)):
        return "COCO"
    if isinstance(content, dict) and isinstance(content.get("lines"), list) and content.keys() & _PICTURES:
        return "lines"
    return tool_of(content[0] if isinstance(content, list) and content else content)


def _read(form: str, path: str, root: str | None) -> Read:
    if form == "XML":
        yield from xml_pages(path, root)
    elif form == "COCO":
        yield from _coco(path, root)
    elif form == "PaddleOCR":
        yield from _paddle(path, root)
    elif form == "lines":
        yield from _lines(path, root)
    elif form == "ICDAR":
        yield from box_pages(path, root)
    elif form == "hOCR":
        yield from hocr_pages(path, root)
    else:
        yield from tool_pages(form, _json(path), path, root)


def _is_coco(keys: dict) -> bool:
    return {"annotations", "images"} <= keys.keys() and isinstance(keys["images"], list)


def _coco(path: str, root: str | None) -> Read:
    """COCO-Text (imgs and anns by id) and COCO (lists of them); boxes are x, y, width, height."""
    keys = _json(path)
    pictures, notes = (
        _coco_list(keys, path, *names) for names in (("imgs", "images"), ("anns", "annotations"))
    )
    by_picture: defaultdict[Any, list] = defaultdict(list)
    for note in notes:
        by_picture[_id(note, "image_id")].append(note)
    seen = set()
    for index, picture in enumerate(pictures):
        location, named = f"{path}: image {index}", _id(picture, "id")
        try:
            if named in seen:
                raise RecordError(f"{location}: the id {shorten(named)} of an image before it; one each")
            seen.add(named)
            yield _coco_page(picture, by_picture.pop(named, []), location, path, _folder(path, root))
        except RecordError as error:
            yield error
    for stray, lost in by_picture.items():
        yield RecordError(
            f"{path}: {len(lost)} label(s) of image_id {shorten(stray)}; no such image is listed"
        )


def _coco_list(keys: dict, path: str, by_id: str, listed: str) -> list:
    """The images or labels: the values of COCO-Text's object, or COCO's list."""
    entries, kind = (keys[by_id], dict) if by_id in keys else (keys[listed], list)
    if not isinstance(entries, kind):
        raise RecordError(
            f"{path}: {by_id if kind is dict else listed} is {shorten(entries)}; COCO's, by id or listed"
        )
    return list(entries.values() if kind is dict else entries)


def _id(element: object, key: str) -> int | float | str | None:
    value = element.get(key) if isinstance(element, dict) else None
    return value if isinstance(value, (int, float, str, type(None))) else repr(value)


def _coco_page(picture: dict, notes: Sequence, location: str, path: str, folder: str) -> LabelledPage:
    if not isinstance(picture, dict):
        raise RecordError(f"{location}: {shorten(picture)}; an object with id and file_name")
    name = picture.get("file_name")
    if not isinstance(name, str) or not name:
        raise RecordError(f"{location}: file_name is {shorten(name)}; the picture's name")
    location = f"{location} ({name})"
    strange = [note for note in notes if not isinstance(note, dict)]
    if strange:
        raise RecordError(f"{location}: label {shorten(strange[0])}; an object with bbox and text")
    labels = [_coco_label(note, f"{location}, label {note.get('id')}") for note in notes]
    sides = picture.get("width"), picture.get("height")
    size = sides if all(type(side) in (int, float) for side in sides) else None
    image = _coco_image(path, name, folder) or os.path.join(folder, name)
    return LabelledPage(image, tuple(labels), location, size, order="page")


def _coco_image(path: str, name: str, folder: str) -> str:
    """By its path, or its name alone, in the folder; or in one of pictures beside it or one folder up."""
    roots = [Path(folder), *image_roots(path, None)] if folder == os.path.dirname(path) else [Path(folder)]
    named = dict.fromkeys([name, name.rsplit("/", 1)[-1]])
    return next(filter(None, (find_file(root, part) for part in named for root in roots)), "")


def _coco_label(note: dict, location: str) -> Label:
    attributes = note.get("attributes") if isinstance(note.get("attributes"), dict) else {}
    legible = all(map(is_legible, (note, attributes)))
    named = ({key.lower(): value for key, value in keys.items()} for keys in (note, attributes))
    text = next((keys[key] for keys in named for key in _TEXTS if keys.get(key) is not None), "")
    points = _flat(note.get("polygon") or note.get("mask") or note.get("segmentation"))
    polygon = corners(points) if points else ()
    given = note.get("bbox")
    if are_coordinates(given, 4):
        x, y, width, height = given
        return Label(_text(text, location), (x, y, x + width, y + height), polygon, legible, location)
    if not points:
        raise RecordError(f"{location}: bbox is {shorten(given)}; x, y, width, height")
    return Label(_text(text, location), around(points), polygon, legible, location)


def _flat(polygon: object) -> list[tuple[float, float]]:
    """The corners of x1, y1, x2, y2 ..., which COCO wraps in a list of parts; none for what is no polygon."""
    if isinstance(polygon, list) and polygon and all(isinstance(part, list) for part in polygon):
        polygon = [number for part in polygon for number in part]
    if not are_coordinates(polygon) or len(polygon) < 6 or len(polygon) % 2:
        return []
    return list(zip(polygon[::2], polygon[1::2], strict=True))


def _paddle(path: str, root: str | None) -> Read:
    """PaddleOCR: a picture, a tab, and a list of texts with points (detection) or one text (recognition)."""
    listed = False  # whether this is a file of detection
    for location, raw in forward_lines(path):
        try:
            named, tab, label = raw.decode().partition(_TAB)
            if not tab and (word := _WORD.fullmatch(named)):
                named, tab, label = word[1], _TAB, word[3] or word[2]
            if not tab:
                named_alone = named.lower().endswith(SUFFIXES) and not re.search(r"\s", named)
                what = "no text behind the picture" if named_alone else "no tab between picture and text"
                raise RecordError(f"{location}: {what}; PaddleOCR's line is picture<TAB>text")
            listed = listed or label.startswith("[{")
            if not label.startswith("[") and (listed or _POINTS.match(label)):
                raise RecordError(
                    f"{location}: {shorten(label)} where a list of labels belongs; a picture, a tab and one "
                    "list of labels a line"
                )
            for name in _several(named):
                image = _paddle_image(path, name, root, location)
                labels = _paddle_labels(label, location)
                yield LabelledPage(image, labels, location, order="page")
        except UnicodeDecodeError as error:
            yield RecordError(f"{location}: not UTF-8 ({error}); save it as UTF-8")
        except RecordError as error:
            yield error


def _several(named: str) -> list[str]:
    """The pictures of a row: PaddleOCR lets a list of them share a label."""
    try:
        names = json.loads(named) if named.startswith("[") else [named]
    except ValueError:
        return [named]
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else [named]


def _paddle_labels(label: str, location: str) -> tuple[Label, ...]:
    try:
        rows = strict_json(label, allow_nan=True) if label.startswith("[") else None
    except ValueError as error:
        if re.match(r"\[\s*\{\s*[\"']", label):  # a list of labels, and no text that begins with a bracket
            two = " two records run together in one line," if "]" in label and "\t" in label else ""
            what = f"the JSON of its labels is broken,{two} {error}"
            if re.match(r"\[\s*\{\s*'", label):
                what = "its labels are Python's, in single quotes, and no JSON (json.dumps writes it)"
            raise RecordError(
                f"{location}: {what}; a picture, a tab and one list of labels a line"
            ) from error
        rows = None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return (Label(label, None, (), label.strip() not in PADDLE_MARKS, location),)
    return tuple(
        _pointed(row, f"{location}, label {index}", "transcription") for index, row in enumerate(rows)
    )


def _pointed(row: dict, location: str, key: str) -> Label:
    """A label with four or more points."""
    points = row.get("points")
    listed = isinstance(points, list) and len(points) > 1
    if not listed or not all(are_coordinates(point, 2) for point in points):
        raise RecordError(f"{location}: points is {shorten(points)}; a list of x, y")
    text = _text(row.get(key, ""), location)
    legible = is_legible(row) and text.strip() not in PADDLE_MARKS
    return Label(text, around(points), corners(points), legible, location)


def _lines(path: str, root: str | None) -> Read:
    """Our plain form, which infer.py --ocr-type spot writes too: an image and its lines."""
    single = path.lower().endswith(".json")  # page a file, as got infer --output-dir writes it
    rows = [(path, Path(path).read_bytes())] if single else forward_lines(path)
    folder = Path(_folder(path, root))
    # answers may have a folder of their own, and infer names pages from where it runs
    roots = [folder] if root is not None else [folder, folder.parent, Path()]
    for location, raw in rows:
        try:
            yield _lines_page(json_row(location, raw), location, roots)
        except RecordError as error:
            yield error


def _lines_page(row: dict, location: str, roots: Sequence[Path]) -> LabelledPage:
    name = row.get("image", row.get("file", row.get("images")))
    name = name[0] if isinstance(name, list) and len(name) == 1 else name
    if not isinstance(name, str):
        raise RecordError(f"{location}: image is {shorten(name)}; the path of one picture")
    if row.get("page") is not None and name.lower().endswith(_OF_PAGES):
        raise RecordError(
            f"{location}: page {shorten(row['page'])} of {name}, and a record names a picture; save the "
            "pages as pictures (of a PDF: pdftoppm -r 144 -png) and read these"
        )
    lines = row.get("lines")
    if not isinstance(lines, list) or not all(isinstance(line, dict) for line in lines):
        raise RecordError(f"{location}: lines is {shorten(lines)}; a list of objects with text and box")
    labels = tuple(_line(line, f"{location}, line {number}") for number, line in enumerate(lines, 1))
    image = next(filter(None, (find_file(root, name) for root in roots)), str(roots[0] / name))
    return LabelledPage(image, labels, location)


def _line(line: dict, location: str) -> Label:
    if "points" in line:
        return _pointed(line, location, "text")
    if not are_coordinates(line.get("box"), 4):
        raise RecordError(
            f"{location}: box is {shorten(line.get('box'))}; x1, y1, x2, y2 in pixels, or points"
        )
    text = _text(line.get("text", ""), location)
    return Label(text, tuple(line["box"]), legible=is_legible(line), location=location)


def _text(text: object, location: str) -> str:
    if not isinstance(text, str):
        raise RecordError(f"{location}: the text is {shorten(text)}; a string")
    return text


def _paddle_image(path: str, name: str, root: str | None, location: str) -> str:
    """PPOCRLabel names a picture with the folder that its label file stands in."""
    roots = image_roots(path, root)
    for folder in roots:
        if image := find_file(folder, name) or find_picture(folder, os.path.splitext(name)[0]):
            return image
    folders = " or ".join(map(str, roots))
    raise RecordError(f"{location}: no picture {name} in {folders}; image_root is its folder")


def _folder(path: str, root: str | None) -> str:
    return os.path.dirname(path) if root is None else root


def _json(path: str) -> Any:
    try:
        return strict_json(Path(path).read_bytes().decode("utf-8-sig"), allow_nan=True)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path}: not JSON: {error}; COCO's keys are images and annotations") from error
