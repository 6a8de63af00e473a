"""Label Studio's exports, JSON and JSON-MIN: regions in per cent of the picture, with a text each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from got_train.data.record import RecordError, shorten
from got_train.images import SUFFIXES

from .image_search import image_of
from .labelled_page import (
    TEXT_KEYS,
    Label,
    LabelledPage,
    Points,
    are_coordinates,
    around,
    corners,
    picture_size,
)

ILLEGIBLE = "Illegible"  # the class of regions that nobody can read, where there is one
Pages = Iterator[LabelledPage | RecordError]
LeftOut = tuple[tuple[str, Label], ...]


def pages(tasks: Sequence, path: str, image_root: str | None) -> Pages:
    """The pages of the export JSON."""
    for number, task in enumerate(tasks):
        location = f"{path}[{number}]"
        try:
            yield _page(task, path, location, image_root)
        except RecordError as error:
            yield error


def annotation_page(annotation: Mapping[str, Any], path: str, image_root: str | None) -> Pages:
    """The page of a file that holds one annotation and its task, as a target storage has them."""
    task = annotation.get("task")
    if not isinstance(task, dict) or "data" not in task:
        yield RecordError(f"{path}: an annotation of Label Studio without the data of its task; export JSON")
        return
    yield from pages([{"data": task["data"], "annotations": [annotation]}], path, image_root)


def _page(task: Any, path: str, location: str, image_root: str | None) -> LabelledPage:
    if not isinstance(task, dict) or not isinstance(task.get("data"), dict):
        raise RecordError(f"{location}: {shorten(task)}; a task of Label Studio with data and annotations")
    annotations = _objects(task.get("annotations") or task.get("completions"))
    done = [annotation for annotation in annotations if not annotation.get("was_cancelled")]
    cancelled = [annotation for annotation in annotations if annotation.get("was_cancelled")]
    pictures = [value for value in task["data"].values() if _is_picture(value)]
    if not pictures:
        raise RecordError(f"{location}: data names no picture; {', '.join(SUFFIXES[:3])} ...")
    left_out = [("further annotations of a page left out", unread) for unread in done[1:]]
    left_out += [("cancelled annotations left out", unread) for unread in cancelled]
    left_out += [
        ("texts of a region before its last left out", unread) for unread in map(_replaced, done[:1])
    ]
    if not done:
        predictions = _objects(task.get("predictions"))
        left_out += [("predictions that nobody has accepted left out", unread) for unread in predictions]
    lost = tuple(
        (cause, Label(" ".join(_texts(unread)), None, location=location))
        for cause, unread in left_out
        if unread
    )
    return _page_of(_regions(done[0] if done else {}), pictures[0], path, location, image_root, lost)


def _regions(annotation: Mapping[str, Any]) -> dict[Any, dict]:
    """The values of results that belong together, by their id: a place, its class, its text."""
    regions: dict[Any, dict] = {}
    for number, result in enumerate(_objects(annotation.get("result"))):
        if isinstance(result.get("value"), dict):
            region = regions.setdefault(result.get("id", number), {})
            region |= result["value"]
            region.setdefault("size", [result.get("original_width"), result.get("original_height")])
    return regions


def _replaced(annotation: Mapping[str, Any]) -> dict[str, list[dict]]:
    """The results whose text another one of the same region replaces."""
    last: dict[Any, dict] = {}
    replaced = []
    for result in _objects(annotation.get("result")):
        value = result.get("value")
        if isinstance(value, dict) and "text" in value and "id" in result:
            before = last.get(result["id"])
            replaced += [before] if before is not None and before["value"]["text"] != value["text"] else []
            last[result["id"]] = result
    return {"result": replaced} if replaced else {}


def _texts(annotation: Mapping[str, Any]) -> Iterator[str]:
    for region in _regions(annotation).values():
        if "text" in region:
            yield _joined(region["text"])


def min_pages(tasks: Sequence, path: str, image_root: str | None) -> Pages:
    """The pages of JSON_MIN: each kind of result is a list, of which the i-th belong together."""
    for number, task in enumerate(tasks):
        location = f"{path}[{number}]"
        try:
            if not isinstance(task, dict):
                raise RecordError(f"{location}: {shorten(task)}; an object of Label Studio's JSON_MIN")
            pictures = [value for value in task.values() if _is_picture(value)]
            boxes = next((value for value in task.values() if is_min_result(value)), [])
            if not pictures:
                raise RecordError(f"{location}: names no picture; {', '.join(SUFFIXES[:3])} ...")
            texts = next((task[key] for key in TEXT_KEYS if key in task), [])
            texts = [texts] if isinstance(texts, str) else texts
            if len(texts) != len(boxes):
                raise RecordError(f"{location}: {len(texts)} texts for {len(boxes)} boxes; one each")
            regions = {
                index: {**box, "text": text, "size": [box.get("original_width"), box.get("original_height")]}
                for index, (box, text) in enumerate(zip(boxes, texts, strict=True))
            }
            yield _page_of(regions, pictures[0], path, location, image_root, ())
        except RecordError as error:
            yield error


def is_min_result(value: object) -> bool:
    """Whether this is a list of regions as JSON_MIN has them."""
    return (
        bool(value)
        and isinstance(value, list)
        and isinstance(value[0], dict)
        and "original_width" in value[0]
    )


def _page_of(
    regions: Mapping[Any, dict],
    picture: str,
    path: str,
    location: str,
    image_root: str | None,
    left_out: LeftOut,
) -> LabelledPage:
    image = _upload(picture, path, image_root, location)
    sizes = (region["size"] for region in regions.values())
    size = next((tuple(size) for size in sizes if are_coordinates(size, 2)), None) or picture_size(image)
    labels = [_label(region, size, f"{location}, region {name}") for name, region in regions.items()]
    placed = tuple(label for label in labels if label.box is not None)
    unplaced = tuple(label for label in labels if label.box is None and label.text.strip())
    if not placed:
        return LabelledPage(image, unplaced, location, order="page", left_out=left_out)
    left_out += tuple(("texts without a box left out", label) for label in unplaced)
    return LabelledPage(image, placed, location, size, "page", left_out)


def _label(region: Mapping[str, Any], size: Sequence[float], location: str) -> Label:
    """A region with its text, if it has one: a text of the whole page, or a brush, has no box."""
    text = _joined(region.get("text", ""))
    legible = not any(ILLEGIBLE in value for key, value in region.items() if key.endswith("labels"))
    outline = _outline(region, size)
    if not outline:
        return Label(text, None, (), legible, location)
    return Label(text, around(outline), corners(outline), legible, location)


def _outline(region: Mapping[str, Any], size: Sequence[float]) -> Points:
    """The corners of a polygon or rectangle in pixels; a rectangle is turned around its first corner."""
    across, down = size[0] / 100, size[1] / 100
    if isinstance(region.get("points"), list):
        points = [point for point in region["points"] if are_coordinates(point, 2)]
        if len(points) >= 2:
            return tuple((x * across, y * down) for x, y in points)
    sides = [region.get(key) for key in ("x", "y", "width", "height")]
    if not are_coordinates(sides, 4):
        return ()
    x, y, width, height = sides[0] * across, sides[1] * down, sides[2] * across, sides[3] * down
    turn = region.get("rotation") or 0
    if not are_coordinates([turn]) or not turn % 360:
        return (x, y), (x + width, y), (x + width, y + height), (x, y + height)
    cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    ends = (0, 0), (width, 0), (width, height), (0, height)
    turned = ((x + right * cos - below * sin, y + right * sin + below * cos) for right, below in ends)
    return tuple((round(across, 3), round(down, 3)) for across, down in turned)  # a right angle stays one


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


def _objects(values: object) -> list[dict]:
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []


def _joined(text: object) -> str:
    return "\n".join(map(str, text)) if isinstance(text, list) else str(text)
