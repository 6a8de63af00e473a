"""Label files with positions, told apart by what stands in them: XML, COCO-Text, PaddleOCR, plain lines.

Knows keys and columns; what becomes of a labelled page is a matter of positions.py.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from got_train.data.line_files import first_bytes, forward_lines, json_row
from got_train.data.record import RecordError, shorten
from got_train.images import natural_order

from .to_spots import Label, LabelledPage, around, is_coordinate, is_rectangle
from .xml import labelled_page

PADDLE_MARKS = ("*", "###")  # PaddleOCR's: a text that is there and is not to be learnt
_TEXTS = ("utf8_string", "text", "transcription")
_XML, _TABS = ".xml", "\t"

Read = Iterator[LabelledPage | RecordError]  # a page that cannot be used does not end the others


def are_labels(path: str | os.PathLike) -> bool:
    """Whether this is a label file with positions, or a folder of PAGE or ALTO files."""
    try:
        return bool(_form(os.fspath(path)))
    except RecordError:  # not even JSON: who reads it as records will tell
        return False


def labelled_pages(path: str | os.PathLike, image_root: str | os.PathLike | None = None) -> Read:
    """The pages of a label file, or of the XML files of a folder in natural order.

    Pictures are named relative to the file (PaddleOCR's: also to the folder above it), or to `image_root`.
    """
    path, root = os.fspath(path), None if image_root is None else os.fspath(image_root)
    form = _form(path)
    if not form:
        raise RecordError(f"{path}: no label file known here; PAGE, ALTO, COCO-Text, PaddleOCR, or lines")
    return _FORMS[form](path, root)


def _form(path: str) -> str:
    """The name of the format; empty for what is none of these."""
    if os.path.isdir(path):
        return "xml" if _xml_files(path) else ""
    suffix, start = Path(path).suffix.lower(), first_bytes(path)
    if suffix == _XML or start.startswith(b"<"):
        return "xml"
    if suffix == ".txt":
        return "paddle" if _TABS.encode() in next(iter(forward_lines(path)), ("", b""))[1] else ""
    if suffix == ".json" and start.startswith(b"{"):
        keys = _json(path)
        return (
            "coco" if isinstance(keys, dict) and ({"anns", "imgs"} <= keys.keys() or _is_coco(keys)) else ""
        )
    if suffix != ".jsonl":
        return ""
    location, line = next(iter(forward_lines(path)), ("", b"{}"))
    return "lines" if "lines" in json_row(location, line) else ""


def _is_coco(keys: dict) -> bool:
    return {"annotations", "images"} <= keys.keys() and isinstance(keys["images"], list)


def _xml(path: str, root: str | None) -> Read:
    files = _xml_files(path) if os.path.isdir(path) else [path]
    for file in files:
        try:
            yield labelled_page(file, root)
        except RecordError as error:
            yield error


def _xml_files(folder: str) -> list[str]:
    names = [name for name in os.listdir(folder) if name.lower().endswith(_XML) and name[0] != "."]
    return [os.path.join(folder, name) for name in sorted(names, key=natural_order)]


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
    for place, picture in enumerate(pictures):
        location, named = f"{path}: image {place}", _id(picture, "id")
        try:
            if named in seen:
                raise RecordError(f"{location}: the id {shorten(named)} of an image before it; one each")
            seen.add(named)
            yield _coco_page(picture, by_picture.pop(named, []), location, _folder(path, root))
        except RecordError as error:
            yield error
    for stray, lost in by_picture.items():
        yield RecordError(
            f"{path}: {len(lost)} label(s) of image_id {shorten(stray)}; no such image is listed"
        )


def _coco_list(keys: dict, path: str, by_id: str, listed: str) -> list:
    """The images or labels: the values of COCO-Text's object, or COCO's list."""
    found, kind = (keys[by_id], dict) if by_id in keys else (keys[listed], list)
    if not isinstance(found, kind):
        raise RecordError(
            f"{path}: {by_id if kind is dict else listed} is {shorten(found)}; COCO's, by id or listed"
        )
    return list(found.values() if kind is dict else found)


def _id(element: object, key: str) -> int | float | str | None:
    value = element.get(key) if isinstance(element, dict) else None
    return value if isinstance(value, (int, float, str, type(None))) else repr(value)


def _coco_page(picture: dict, notes: Sequence, location: str, folder: str) -> LabelledPage:
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
    return LabelledPage(os.path.join(folder, name), tuple(labels), location, size, order="page")


def _coco_label(note: dict, location: str) -> Label:
    legible = note.get("legibility", "legible") == "legible" and not (
        note.get("iscrowd") or note.get("ignore")
    )
    attributes = note.get("attributes") if isinstance(note.get("attributes"), dict) else {}
    text = next((keys[key] for keys in (note, attributes) for key in _TEXTS if keys.get(key) is not None), "")
    polygon = _flat(note.get("polygon") or note.get("mask") or note.get("segmentation"))
    given = note.get("bbox")
    if _numbers(given, 4):
        x, y, width, height = given
        return Label(_text(text, location), (x, y, x + width, y + height), bool(polygon), legible)
    if not polygon:
        raise RecordError(f"{location}: bbox is {shorten(given)}; x, y, width, height")
    return Label(_text(text, location), around(polygon), not is_rectangle(polygon), legible)


def _flat(polygon: object) -> list[tuple[float, float]]:
    """The corners of x1, y1, x2, y2 ..., which COCO wraps in a list of parts; none for what is no polygon."""
    if isinstance(polygon, list) and polygon and all(isinstance(part, list) for part in polygon):
        polygon = [number for part in polygon for number in part]
    if not _numbers(polygon) or len(polygon) < 6 or len(polygon) % 2:
        return []
    corners = list(zip(polygon[::2], polygon[1::2], strict=True))
    return [] if is_rectangle(corners) else corners


def _paddle(path: str, root: str | None) -> Read:
    """PaddleOCR: a picture, a tab, and a list of texts with points (detection) or one text (recognition)."""
    for location, raw in forward_lines(path):
        try:
            named, tab, label = raw.decode().partition(_TABS)
            if not tab:
                raise RecordError(f"{location}: no tab; a picture, a tab and its label")
            for name in _several(named):
                yield LabelledPage(
                    _found(path, name, root, location),
                    _paddle_labels(label, location),
                    location,
                    order="page",
                )
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
        rows = json.loads(label) if label.startswith("[") else None
    except ValueError:
        rows = None  # a text that begins with a bracket
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return (Label(label, None, legible=label.strip() not in PADDLE_MARKS),)
    return tuple(
        _pointed(row, f"{location}, label {place}", "transcription") for place, row in enumerate(rows)
    )


def _pointed(row: dict, location: str, key: str) -> Label:
    """A label with four or more points."""
    points = row.get("points")
    if not isinstance(points, list) or len(points) < 2 or not all(_numbers(point, 2) for point in points):
        raise RecordError(f"{location}: points is {shorten(points)}; a list of x, y")
    text = _text(row.get(key, ""), location)
    legible = not row.get("difficult") and text.strip() not in PADDLE_MARKS
    return Label(text, around(points), not is_rectangle(points), legible)


def _lines(path: str, root: str | None) -> Read:
    """Our plain form, which infer.py --ocr_type spot writes too: an image and its lines."""
    for location, raw in forward_lines(path):
        try:
            yield _lines_page(json_row(location, raw), location, _folder(path, root))
        except RecordError as error:
            yield error


def _lines_page(row: dict, location: str, folder: str) -> LabelledPage:
    name = row.get("image", row.get("file", row.get("images")))
    name = name[0] if isinstance(name, list) and len(name) == 1 else name
    if not isinstance(name, str):
        raise RecordError(f"{location}: image is {shorten(name)}; the path of one picture")
    lines = row.get("lines")
    if not isinstance(lines, list) or not all(isinstance(line, dict) for line in lines):
        raise RecordError(f"{location}: lines is {shorten(lines)}; a list of objects with text and box")
    labels = tuple(_line(line, f"{location}, line {number}") for number, line in enumerate(lines, 1))
    return LabelledPage(os.path.join(folder, name), labels, location)


def _line(line: dict, location: str) -> Label:
    if "points" in line:
        return _pointed(line, location, "text")
    if not _numbers(line.get("box"), 4):
        raise RecordError(
            f"{location}: box is {shorten(line.get('box'))}; x1, y1, x2, y2 in pixels, or points"
        )
    return Label(_text(line.get("text", ""), location), tuple(line["box"]))


def _text(text: object, location: str) -> str:
    if not isinstance(text, str):
        raise RecordError(f"{location}: the text is {shorten(text)}; a string")
    return text


def _numbers(values: object, count: int = 0) -> bool:
    """Whether this is a list of coordinates, of `count` if it is told."""
    listed = isinstance(values, (list, tuple)) and (not count or len(values) == count)
    return listed and all(map(is_coordinate, values))


def _found(path: str, name: str, root: str | None, location: str) -> str:
    """PPOCRLabel names a picture with the folder that its label file stands in."""
    folder = Path(path).parent
    roots = [folder, folder.parent] if root is None else [Path(root)]
    for each in roots:
        if os.path.isfile(each / name):
            return str(each / name)
    raise RecordError(
        f"{location}: no picture {name} in {' or '.join(map(str, roots))}; image_root is its folder"
    )


def _folder(path: str, root: str | None) -> str:
    return os.path.dirname(path) if root is None else root


def _json(path: str) -> Any:
    try:
        return json.loads(Path(path).read_bytes().decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path}: not JSON: {error}; COCO's keys are images and annotations") from error


_FORMS = {"xml": _xml, "coco": _coco, "paddle": _paddle, "lines": _lines}
