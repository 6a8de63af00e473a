"""Exports of annotation tools and data sets in JSON: Label Studio, LabelMe, VIA, FUNSD, docTR.

Each is told by its keys; a format that has no texts is named, with what to export instead.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from got_train.data.record import RecordError, shorten
from got_train.images import SUFFIXES

from .image_search import image_of
from .to_spots import Label, LabelledPage, around, is_coordinate, is_rectangle, picture_size

Pages = Iterator[LabelledPage | RecordError]
_TEXT_KEYS = ("text", "transcription", "transcript", "content", "words", "utf8_string")


def tool_of(first: object) -> str:
    """The tool behind a JSON file, by its object or the first of its list; empty if it is none of these."""
    if not isinstance(first, dict) or not first:
        return ""
    keys = first.keys()
    if {"data", "annotations"} <= keys or {"data", "completions"} <= keys:
        return "Label Studio"
    if any(_is_min_result(value) for value in first.values()):
        return "Label Studio JSON_MIN"
    if {"shapes", "imagePath"} <= keys:
        return "LabelMe"
    if "_via_img_metadata" in keys or _each(first, {"filename", "regions"}):
        return "VIA"
    if isinstance(first.get("form"), list):
        return "FUNSD"
    if _each(first, {"polygons"}):
        return "docTR"
    if all(isinstance(text, str) and name.lower().endswith(SUFFIXES) for name, text in first.items()):
        return "docTR recognition"
    if keys <= {"company", "date", "address", "total"}:
        return "SROIE key information"
    return ""


def tool_pages(tool: str, content: Any, path: str, image_root: str | None) -> Pages:
    """The pages of an export; one that cannot be used does not end the others."""
    yield from _READERS[tool](content, path, image_root)


def _each(first: Mapping[str, Any], keys: set[str]) -> bool:
    return all(isinstance(value, dict) and keys <= value.keys() for value in first.values())


# ---- Label Studio


def _label_studio(tasks: Sequence, path: str, image_root: str | None) -> Pages:
    for place, task in enumerate(tasks):
        location = f"{path}[{place}]"
        try:
            yield _studio_page(task, path, location, image_root)
        except RecordError as error:
            yield error


def _studio_page(task: Any, path: str, location: str, image_root: str | None) -> LabelledPage:
    if not isinstance(task, dict) or not isinstance(task.get("data"), dict):
        raise RecordError(f"{location}: {shorten(task)}; a task of Label Studio with data and annotations")
    listed = task.get("annotations") or task.get("completions") or []
    done = [each for each in listed if isinstance(each, dict) and not each.get("was_cancelled")]
    pictures = [value for value in task["data"].values() if _is_picture(value)]
    if not pictures:
        raise RecordError(f"{location}: data names no picture; {', '.join(SUFFIXES[:3])} ...")
    results = done[0].get("result", []) if done else []
    regions: dict[Any, dict] = {}
    for place, result in enumerate(results):
        if isinstance(result, dict) and isinstance(result.get("value"), dict):
            region = regions.setdefault(result.get("id", place), {"value": {}, "size": None})
            region["value"] |= result["value"]
            region["size"] = region["size"] or (result.get("original_width"), result.get("original_height"))
    labels = [
        _percent_label(region["value"], f"{location}, region {name}") for name, region in regions.items()
    ]
    sizes = [region["size"] for region in regions.values()]
    image = _upload(pictures[0], path, image_root, location)
    left_out = tuple(
        ("further annotations of a page left out", Label(" ".join(_texts(other)), None, location=location))
        for other in done[1:]
    )
    return _percent_page(image, labels, location, sizes, left_out)


def _texts(annotation: Mapping[str, Any]) -> Iterator[str]:
    for result in annotation.get("result", []):
        value = result.get("value", {}) if isinstance(result, dict) else {}
        if "text" in value:
            yield _joined(value["text"])


def _label_studio_min(tasks: Sequence, path: str, image_root: str | None) -> Pages:
    """JSON_MIN: each kind of result is a list, of which the i-th belong together."""
    for place, task in enumerate(tasks):
        location = f"{path}[{place}]"
        try:
            if not isinstance(task, dict):
                raise RecordError(f"{location}: {shorten(task)}; an object of Label Studio's JSON_MIN")
            pictures = [value for value in task.values() if _is_picture(value)]
            boxes = next((value for value in task.values() if _is_min_result(value)), [])
            if not pictures:
                raise RecordError(f"{location}: names no picture; {', '.join(SUFFIXES[:3])} ...")
            texts = next((task[key] for key in _TEXT_KEYS if key in task), [])
            texts = [texts] if isinstance(texts, str) else texts
            if len(texts) != len(boxes):
                raise RecordError(f"{location}: {len(texts)} texts for {len(boxes)} boxes; one each")
            labels = [
                _percent_label({**box, "text": text}, f"{location}, region {number}")
                for number, (box, text) in enumerate(zip(boxes, texts, strict=True))
            ]
            sizes = [(box.get("original_width"), box.get("original_height")) for box in boxes]
            yield _percent_page(_upload(pictures[0], path, image_root, location), labels, location, sizes, ())
        except RecordError as error:
            yield error


def _is_min_result(value: object) -> bool:
    return (
        bool(value)
        and isinstance(value, list)
        and isinstance(value[0], dict)
        and "original_width" in value[0]
    )


def _percent_label(value: Mapping[str, Any], location: str) -> Label:
    """A region in percent of the picture; its text, if it has one."""
    text = _joined(value.get("text", ""))
    if isinstance(value.get("points"), list) and value["points"]:
        points = [tuple(point) for point in value["points"] if _numbers(point, 2)]
        if len(points) >= 2:
            return Label(text, around(points), not is_rectangle(points), location=location)
    sides = [value.get(key) for key in ("x", "y", "width", "height")]
    if not _numbers(sides, 4):
        return Label(text, None, location=location)  # a text of the whole page, or a brush
    x, y, width, height = sides
    turned = bool(value.get("rotation"))
    return Label(text, (x, y, x + width, y + height), turned, location=location)


def _percent_page(
    image: str, labels: Sequence[Label], location: str, sizes: Sequence, left_out: tuple
) -> LabelledPage:
    placed = [label for label in labels if label.box is not None]
    unplaced = [label for label in labels if label.box is None and label.text.strip()]
    if not placed:
        return LabelledPage(image, tuple(unplaced), location, order="page", left_out=left_out)
    left_out += tuple(("texts without a box left out", label) for label in unplaced)
    size = next((size for size in sizes if size and _numbers(size, 2)), None) or picture_size(image)
    across, down = size[0] / 100, size[1] / 100
    scaled = [
        Label(
            label.text,
            (label.box[0] * across, label.box[1] * down, label.box[2] * across, label.box[3] * down),
            label.polygon, True, label.location,
        )
        for label in placed
    ]  # fmt: skip
    return LabelledPage(image, tuple(scaled), location, size, "page", left_out)


def _upload(named: str, path: str, image_root: str | None, location: str) -> str:
    """The picture behind an upload's address, whose name begins with eight letters and a dash."""
    plain = unquote(named)
    folder, _, name = plain.rpartition("/")
    head, dash, rest = name.partition("-")
    tried = [plain] + ([f"{folder}/{rest}", rest] if dash and len(head) == 8 else [])
    for candidate in tried:
        try:
            return image_of(path, candidate, image_root, location)
        except RecordError as error:
            refusal = error
    raise refusal


def _is_picture(value: object) -> bool:
    return isinstance(value, str) and value.lower().partition("?token")[0].endswith(SUFFIXES)


# ---- LabelMe and VIA


def _labelme(content: Mapping[str, Any], path: str, image_root: str | None) -> Pages:
    """The text of a shape is its description where any has one, else its label."""
    shapes = [shape for shape in content["shapes"] if isinstance(shape, dict)]
    described = any(shape.get("description") for shape in shapes)
    texts = [str(shape.get("description" if described else "label") or "") for shape in shapes]
    if len(texts) > 2 and len(set(texts)) == 1:
        yield RecordError(
            f"{path}: LabelMe, and all {len(texts)} labels are {texts[0]!r}: a class and no text; "
            "write the texts into the labels or descriptions"
        )
        return
    labels, left_out = [], []
    for place, (shape, text) in enumerate(zip(shapes, texts, strict=True)):
        location = f"{path}, shape {place}"
        points = [tuple(point) for point in shape.get("points", []) if _numbers(point, 2)]
        if len(points) < 2 or shape.get("shape_type", "polygon") not in ("rectangle", "polygon", "rotation"):
            kind = shape.get("shape_type", "none")
            left_out.append((f"shapes of type {kind} left out", Label(text, None, location=location)))
            continue
        polygon = len(points) > 2 and not is_rectangle(points)
        labels.append(Label(text, around(points), polygon, location=location))
    try:
        image = image_of(path, str(content.get("imagePath") or ""), image_root)
        sides = content.get("imageWidth"), content.get("imageHeight")
        size = sides if _numbers(sides, 2) else None
        yield LabelledPage(image, tuple(labels), path, size, "page", tuple(left_out))
    except RecordError as error:
        yield error


def _via(content: Mapping[str, Any], path: str, image_root: str | None) -> Pages:
    for name, page in content.get("_via_img_metadata", content).items():
        location = f"{path}[{name!r}]"
        try:
            regions = page.get("regions", [])
            regions = list(regions.values()) if isinstance(regions, dict) else regions
            pairs = [
                _via_label(region, f"{location}, region {place}") for place, region in enumerate(regions)
            ]
            image = image_of(path, str(page.get("filename", "")), image_root, location)
            labels = tuple(label for label in pairs if label.box is not None)
            lost = tuple(("shapes without a box left out", label) for label in pairs if label.box is None)
            yield LabelledPage(image, labels, location, order="page", left_out=lost)
        except RecordError as error:
            yield error


def _via_label(region: Any, location: str) -> Label:
    if not isinstance(region, dict):
        raise RecordError(f"{location}: {shorten(region)}; an object with shape_attributes")
    shape, notes = region.get("shape_attributes", {}), region.get("region_attributes", {})
    text = next((str(notes[key]) for key in _TEXT_KEYS if notes.get(key)), "")
    if not text and len(notes) == 1:
        text = str(next(iter(notes.values())))
    sides = [shape.get(key) for key in ("x", "y", "width", "height")]
    if _numbers(sides, 4):
        x, y, width, height = sides
        return Label(text, (x, y, x + width, y + height), location=location)
    across, down = shape.get("all_points_x"), shape.get("all_points_y")
    if _numbers(across) and _numbers(down) and len(across) == len(down) > 1:
        points = list(zip(across, down, strict=True))
        return Label(text, around(points), not is_rectangle(points), location=location)
    return Label(text, None, location=location)


# ---- FUNSD, docTR and others


def _funsd(content: Mapping[str, Any], path: str, image_root: str | None) -> Pages:
    """FUNSD: words with boxes, in entities of a form."""
    labels = []
    try:
        for place, entity in enumerate(content["form"]):
            if not isinstance(entity, dict):
                raise RecordError(f"{path}: form[{place}] is {shorten(entity)}; an object with box and text")
            words = entity.get("words") or [entity]
            for number, word in enumerate(words):
                location = f"{path}, form[{place}], word {number}"
                if not isinstance(word, dict) or not _numbers(word.get("box"), 4):
                    raise RecordError(f"{location}: {shorten(word)}; text and box of x1, y1, x2, y2")
                labels.append(Label(str(word.get("text", "")), tuple(word["box"]), location=location))
        yield LabelledPage(image_of(path, "", image_root), tuple(labels), path, order="page")
    except RecordError as error:
        yield error


def _doctr(content: Mapping[str, Any], path: str, image_root: str | None) -> Pages:
    """docTR's detection labels have polygons, and no texts."""
    yield RecordError(
        f"{path}: docTR detection labels ({len(content)} pictures): polygons without texts; "
        "give its recognition labels, or files with texts"
    )


def _doctr_recognition(content: Mapping[str, str], path: str, image_root: str | None) -> Pages:
    """docTR's recognition labels: a picture of a word or line, and its text."""
    for name, text in content.items():
        location = f"{path}[{name!r}]"
        try:
            yield LabelledPage(image_of(path, name, image_root, location), (Label(text, None),), location)
        except RecordError as error:
            yield error


def _sroie_keys(content: Mapping[str, Any], path: str, image_root: str | None) -> Pages:
    yield RecordError(
        f"{path}: SROIE key information (company, date, address, total), no text of a page; "
        f"use the folder of boxes beside {os.path.dirname(path) or '.'}"
    )


def _joined(text: object) -> str:
    return "\n".join(map(str, text)) if isinstance(text, list) else str(text)


def _numbers(values: object, count: int = 0) -> bool:
    listed = isinstance(values, (list, tuple)) and (not count or len(values) == count)
    return bool(listed and values) and all(map(is_coordinate, values))


_READERS: dict[str, Callable[[Any, str, str | None], Pages]] = {
    "Label Studio": _label_studio,
    "Label Studio JSON_MIN": _label_studio_min,
    "LabelMe": _labelme,
    "VIA": _via,
    "FUNSD": _funsd,
    "docTR": _doctr,
    "docTR recognition": _doctr_recognition,
    "SROIE key information": _sroie_keys,
}
