"""Exports of annotation tools and data sets in JSON: Label Studio, LabelMe, VIA, FUNSD, docTR.

Each is told by its keys; a format that has no texts is named, with what to export instead.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from got_train.data.record import RecordError, shorten
from got_train.images import SUFFIXES

from . import label_studio
from .image_search import image_of
from .labelled_page import TEXT_KEYS, Label, LabelledPage, are_coordinates, around, corners, is_legible

Pages = Iterator[LabelledPage | RecordError]


def tool_of(first: object) -> str:
    """The tool behind a JSON file, by its object or the first of its list; empty if it is none of these."""
    if not isinstance(first, dict) or not first:
        return ""
    keys = first.keys()
    if "data" in keys and keys & {"annotations", "completions", "predictions"}:
        return "Label Studio"
    if isinstance(first.get("result"), list) and "task" in keys:
        return "Label Studio annotation"
    if any(label_studio.is_min_result(value) for value in first.values()):
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
    for index, (shape, text) in enumerate(zip(shapes, texts, strict=True)):
        location = f"{path}, shape {index}"
        points = [tuple(point) for point in shape.get("points", []) if are_coordinates(point, 2)]
        if len(points) < 2 or shape.get("shape_type", "polygon") not in ("rectangle", "polygon", "rotation"):
            kind = shape.get("shape_type", "none")
            left_out.append((f"shapes of type {kind} left out", Label(text, None, location=location)))
            continue
        legible = is_legible(shape.get("flags") or {})
        labels.append(Label(text, around(points), corners(points), legible, location))
    try:
        image = image_of(path, str(content.get("imagePath") or ""), image_root)
        sides = content.get("imageWidth"), content.get("imageHeight")
        size = sides if are_coordinates(sides, 2) else None
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
                _via_label(region, f"{location}, region {index}") for index, region in enumerate(regions)
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
    text = next((str(notes[key]) for key in TEXT_KEYS if notes.get(key)), "")
    if not text and len(notes) == 1:
        text = str(next(iter(notes.values())))
    legible = is_legible(notes)
    sides = [shape.get(key) for key in ("x", "y", "width", "height")]
    if are_coordinates(sides, 4):
        x, y, width, height = sides
        return Label(text, (x, y, x + width, y + height), (), legible, location)
    across, down = shape.get("all_points_x"), shape.get("all_points_y")
    if are_coordinates(across) and are_coordinates(down) and len(across) == len(down) > 1:
        points = list(zip(across, down, strict=True))
        return Label(text, around(points), corners(points), legible, location)
    return Label(text, None, location=location)


# ---- FUNSD, docTR and others


def _funsd(content: Mapping[str, Any], path: str, image_root: str | None) -> Pages:
    """FUNSD: words with boxes, in entities of a form."""
    labels = []
    try:
        for index, entity in enumerate(content["form"]):
            if not isinstance(entity, dict):
                raise RecordError(f"{path}: form[{index}] is {shorten(entity)}; an object with box and text")
            words = entity.get("words") or [entity]
            for number, word in enumerate(words):
                location = f"{path}, form[{index}], word {number}"
                if not isinstance(word, dict) or not are_coordinates(word.get("box"), 4):
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


_READERS: dict[str, Callable[[Any, str, str | None], Pages]] = {
    "Label Studio": label_studio.pages,
    "Label Studio JSON_MIN": label_studio.min_pages,
    "Label Studio annotation": label_studio.annotation_page,
    "LabelMe": _labelme,
    "VIA": _via,
    "FUNSD": _funsd,
    "docTR": _doctr,
    "docTR recognition": _doctr_recognition,
    "SROIE key information": _sroie_keys,
}
