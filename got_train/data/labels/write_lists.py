"""Labelled pages as JSON of annotation tools and data sets, as PaddleOCR's lines, and as ICDAR's text files.

Takes pages in pixels that the format can say, see writers.py; knows no file and counts no loss.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from urllib.parse import quote

from got_train.formats.spots import Box

from .label_studio import ILLEGIBLE
from .labelled_page import UNREADABLE, Label, LabelledPage, Points

LOCAL_FILES = "/data/local-files/?d="  # Label Studio's address of files below its document root


def icdar(pages: Sequence[LabelledPage]) -> str:
    """`x1,y1,...,x4,y4,text` a line; a text in quotes gets a second pair, as readers take one off."""
    (page,) = pages
    lines = []
    for label in page.labels:
        text = label.text if label.legible else UNREADABLE
        text = f'"{text}"' if len(text) > 1 and text[0] == text[-1] == '"' else text
        corners = ",".join(f"{side:g}" for point in _points(label) for side in point)
        lines.append(f"{corners},{text}\n")
    return "".join(lines)


def paddleocr(pages: Sequence[LabelledPage]) -> str:
    """Label.txt of PPOCRLabel: a picture, a tab, and its texts with their points."""
    lines = []
    for page in pages:
        labels = [
            {"transcription": label.text, "points": _listed(_points(label)), "difficult": not label.legible}
            for label in page.labels
        ]
        lines.append(f"{page.image}\t{json.dumps(labels, ensure_ascii=False)}\n")
    return "".join(lines)


def lines(pages: Sequence[LabelledPage]) -> str:
    """Our own lines, as `got infer --ocr-type spot` writes them."""
    rows = []
    for page in pages:
        labels = []
        for label in page.labels:
            shape = {"points": _listed(label.polygon)} if label.polygon else {"box": _plain(label.box)}
            labels.append({"text": label.text, **shape} | ({} if label.legible else {"legible": False}))
        rows.append(json.dumps({"image": page.image, "lines": labels}, ensure_ascii=False) + "\n")
    return "".join(rows)


def labelme(pages: Sequence[LabelledPage]) -> str:
    """LabelMe: the class is `text`, the text stands in the description."""
    (page,) = pages
    shapes = []
    for label in page.labels:
        points = label.polygon or (label.box[:2], label.box[2:])
        shapes.append(
            {
                "label": "text",
                "points": _listed(points),
                "group_id": None,
                "description": label.text,
                "shape_type": "polygon" if label.polygon else "rectangle",
                "flags": {} if label.legible else {"illegible": True},
                "mask": None,
            }
        )
    width, height = page.size
    content = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": page.image, "imageData": None}
    return _json(content | {"imageHeight": height, "imageWidth": width})


def via(pages: Sequence[LabelledPage]) -> str:
    """A project of the VGG Image Annotator 2: rectangles and polygons with the attribute text."""
    images = {}
    for page in pages:
        regions = []
        for label in page.labels:
            if label.polygon:
                across, down = zip(*label.polygon, strict=True)
                names = {"name": "polygon", "all_points_x": _plain(across), "all_points_y": _plain(down)}
            else:
                x1, y1, x2, y2 = label.box
                sides = _plain((x1, y1, x2 - x1, y2 - y1))
                names = {"name": "rect"} | dict(zip(("x", "y", "width", "height"), sides, strict=True))
            notes = {"text": label.text} | ({} if label.legible else {"legible": "no"})
            regions.append({"shape_attributes": names, "region_attributes": notes})
        row = {"filename": page.image, "size": -1, "regions": regions, "file_attributes": {}}
        images[f"{page.image}-1"] = row
    region = {name: {"type": "text", "description": "", "default_value": ""} for name in ("text", "legible")}
    project = {
        "_via_settings": {"ui": {}, "core": {"default_filepath": ""}, "project": {"name": "got_train"}},
        "_via_img_metadata": images,
        "_via_attributes": {"region": region, "file": {}},
        "_via_data_format_version": "2.0.10",
        "_via_image_id_list": list(images),
    }
    return _json(project)


def coco_text(pages: Sequence[LabelledPage]) -> str:
    """COCO-Text 2: images and labels by id, the text as utf8_string, the corners as mask."""
    images, notes, by_image = {}, {}, {}
    for number, page in enumerate(pages, 1):
        width, height = page.size
        images[f"{number}"] = {
            "id": number,
            "file_name": page.image,
            "width": width,
            "height": height,
            "set": "train",
        }
        by_image[f"{number}"] = []
        for label in page.labels:
            name = len(notes) + 1
            x1, y1, x2, y2 = label.box
            notes[f"{name}"] = {
                "id": name,
                "image_id": number,
                "bbox": _plain((x1, y1, x2 - x1, y2 - y1)),
                "mask": _plain([side for point in _points(label) for side in point]),
                "area": _plain([(x2 - x1) * (y2 - y1)])[0],
                "utf8_string": label.text,
                "legibility": "legible" if label.legible else "illegible",
                "class": "machine printed",
                "language": "na",
            }
            by_image[f"{number}"].append(name)
    return _json({"cats": {}, "anns": notes, "imgs": images, "imgToAnns": by_image, "info": {}})


def label_studio(pages: Sequence[LabelledPage]) -> str:
    """Tasks with annotations, as an export has them."""
    return _json(_tasks(pages, "annotations", {"was_cancelled": False}))


def label_studio_predictions(pages: Sequence[LabelledPage]) -> str:
    """Tasks with predictions, for people to correct."""
    return _json(_tasks(pages, "predictions", {"model_version": "got_train"}))


def _tasks(pages: Sequence[LabelledPage], key: str, facts: dict) -> list[dict]:
    tasks = []
    for page in pages:
        results = [
            result
            for number, label in enumerate(page.labels, 1)
            for result in _results(label, page.size, f"line{number}")
        ]
        data = {"ocr": LOCAL_FILES + quote(page.image)}
        tasks.append({"data": data, key: [facts | {"result": results}]})
    return tasks


def _results(label: Label, size: Sequence[float], name: str) -> list[dict]:
    """The place, its class and its text, which belong together by their id."""
    across, down = size[0] / 100, size[1] / 100
    if label.polygon:
        geometry: dict = {"points": [[x / across, y / down] for x, y in label.polygon], "closed": True}
    else:
        x1, y1, x2, y2 = label.box
        geometry = {"x": x1 / across, "y": y1 / down, "width": (x2 - x1) / across, "height": (y2 - y1) / down}
        geometry["rotation"] = 0
    shared = {"id": name, "to_name": "image", "original_width": size[0], "original_height": size[1]}
    shared |= {"image_rotation": 0}
    shape = "polygon" if label.polygon else "rectangle"
    classes = ["Text" if label.legible else ILLEGIBLE]
    return [
        shared | {"from_name": "poly" if label.polygon else "bbox", "type": shape, "value": geometry},
        shared | {"from_name": "label", "type": "labels", "value": geometry | {"labels": classes}},
        shared
        | {"from_name": "transcription", "type": "textarea", "value": geometry | {"text": [label.text]}},
    ]


def _points(label: Label) -> Points:
    x1, y1, x2, y2 = label.box
    return label.polygon or ((x1, y1), (x2, y1), (x2, y2), (x1, y2))


def _listed(points: Sequence[Sequence[float]]) -> list[list[float]]:
    return [_plain(point) for point in points]


def _plain(numbers: Box | Sequence[float]) -> list[float]:
    """Whole numbers without a point, others to a thousandth of a pixel."""
    return [int(number) if number == int(number) else round(number, 3) for number in numbers]


def _json(content: object) -> str:
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"
