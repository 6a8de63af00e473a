"""The pictures of samples as small data URIs, with the region that was asked drawn in.

Knows where predictions have their pictures: in files, or inside the data that they were read from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw

from got_train import images
from got_train.errors import ImageError
from got_train.rendering.html import data_uri

if TYPE_CHECKING:
    from got_train.evaluation.predictions import DataFile, Prediction

_SHOWN = 4  # pictures of one sample, at most
_REGION = (220, 30, 60)
_LINE = 3
_ENLARGED = 2.0  # times, at most, for small pictures
_QUALITY = 55


class Pictures:
    """Pictures by prediction. A picture that is not there is a cause instead, never an exception."""

    def __init__(self, data: Sequence[DataFile], settings: Mapping[str, Any] | None, side: int = 640) -> None:
        self.side = side
        self._data = {file.name: file for file in data}
        self._sources = {file["name"]: file for file in (settings or {}).get("data") or ()}

    def shown(self, prediction: Prediction) -> dict[str, Any]:
        """{"uri": ..., "more": pictures left out} or {"cause": why there is none}."""
        if not prediction.images:
            return {"cause": "the prediction names no picture"}
        try:
            opened = [images.open_image(source) for source in self._originals(prediction)[:_SHOWN]]
        except (ImageError, ValueError, OSError) as error:
            return {"cause": str(error)}
        small = [self._small(picture, prediction) for picture in opened]
        more = max(0, len(prediction.images) - _SHOWN)
        return {"uri": data_uri(_row(small), "WEBP", _QUALITY), "more": more}

    def _originals(self, prediction: Prediction) -> Sequence[images.Source]:
        """Paths, or what the data holds if the pictures are inside it."""
        file = self._file(prediction)
        if file is None or prediction.record is None or prediction.record >= len(file.records):
            return prediction.images
        record = file.records[prediction.record]
        return record.images if tuple(map(str, record.images)) == prediction.images else prediction.images

    def _file(self, prediction: Prediction) -> DataFile | None:
        """Data that an earlier evaluation read is opened once more, if it is there."""
        from got_train.evaluation.inputs import open_data

        name = prediction.data
        if name not in self._data and name in self._sources:
            source = self._sources.pop(name)
            try:
                opened = open_data([{"path": source["path"], **source.get("source", {})}])[0]
                self._data[name] = opened if opened.sha256 == source["sha256"] else None
            except (ValueError, OSError):
                self._data[name] = None
        return self._data.get(name)

    def _small(self, picture: Image.Image, prediction: Prediction) -> Image.Image:
        """The picture at its size in the report, with a frame around the region that was asked."""
        size, box = picture.size, prediction.box
        scale = min(_ENLARGED, self.side / max(size))
        small = picture.resize([max(1, round(length * scale)) for length in size], Image.Resampling.LANCZOS)
        if box is None:
            return small
        unit = [length / 1000 for length in size] if prediction.box_unit == "thousandth" else [1.0, 1.0]
        corners = [value * unit[index % 2] * scale for index, value in enumerate(box)]
        draw = ImageDraw.Draw(small)
        if len(corners) == 2:
            x, y = corners
            draw.ellipse([x - 6, y - 6, x + 6, y + 6], outline=_REGION, width=_LINE)
        else:  # around the region, not upon what stands in it
            left, top, right, bottom = corners
            around = [left - _LINE, top - _LINE, right + _LINE, bottom + _LINE]
            draw.rectangle(around, outline=_REGION, width=_LINE)
        return small


def _row(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures beside one another."""
    if len(pictures) == 1:
        return pictures[0]
    height = max(picture.height for picture in pictures)
    joined = Image.new("RGB", (sum(picture.width for picture in pictures), height), "white")
    left = 0
    for picture in pictures:
        joined.paste(picture, (left, 0))
        left += picture.width
    return joined
