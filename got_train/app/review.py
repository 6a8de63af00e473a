"""A queue of drafts that a person walks through: what is left, accepted, corrected, and one step back.

What is done stands in the corrections' file alone, so a walk goes on where it ended. Knows drafts, records
and pictures; no model and no web.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from got_train import images
from got_train.drafts.draft import Answer, Draft
from got_train.drafts.readers import pixels_of
from got_train.errors import RequestError
from got_train.formats.plain_text import canonical_text

from .corrections import Corrections
from .uploads import PREVIEW_SIDE

ACCEPTED, CORRECTED = "accepted", "corrected"
AROUND = 0.6  # of a region's height that is shown around it


class Review:
    """The walk through one file of drafts."""

    def __init__(self, file: Path, drafts: Sequence[Draft], corrections: Corrections) -> None:
        self.file, self.drafts, self.corrections = file, list(drafts), corrections
        self._lock = threading.Lock()
        places = {draft.key: place for place, draft in enumerate(self.drafts)}
        self._places = places
        self._done: dict[int, str] = {}
        for row in corrections.rows():
            place, origin = self._place(row), _meta(row).get("origin")
            if place is not None and origin in (ACCEPTED, CORRECTED):
                self._done[place] = origin

    def counts(self) -> dict[str, Any]:
        done = list(self._done.values())
        return {
            "queue": str(self.file),
            "file": str(self.corrections.file),
            "total": len(self.drafts),
            "left": len(self.drafts) - len(done),
            ACCEPTED: done.count(ACCEPTED),
            CORRECTED: done.count(CORRECTED),
        }

    def next_left(self, place: int, step: int = 1) -> int | None:
        """The next draft that is left, behind this place or before it, round the end; None if none is."""
        total = len(self.drafts)
        places = ((place + step * distance) % total for distance in range(1, total + 1))
        return next((place for place in places if place not in self._done), None)

    def item(self, place: int) -> dict[str, Any]:
        """What the page shows of a draft."""
        draft = self._draft(place)
        return {
            **self.counts(),
            "place": place,
            "next": self.next_left(place),
            "before": self.next_left(place, -1),
            "done": self._done.get(place),
            "text": draft.text,
            "task": draft.record.task,
            "name": Path(str(draft.record.images[0])).name,
            "pictures": len(draft.record.images),
            "scores": draft.scores,
            "agreement": draft.agreement,
            "answers": [
                {
                    "by": answer.by,
                    "text": answer.text,
                    "confidence": answer.confidence,
                    "failed": answer.failed,
                }
                for answer in draft.answers
            ],
        }

    def picture(self, place: int, number: int) -> bytes:
        """A JPEG of a page, or of the region of a line with what stands around it, framed."""
        record = self._draft(place).record
        if not 0 <= number < len(record.images):
            raise RequestError(f"picture: {number}; expected 0 to {len(record.images) - 1}")
        with images.open_image(record.images[number]) as picture:
            box = pixels_of(record, picture.size)
            shown = picture if box is None else _around(picture, box)
            shown.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
            buffer = io.BytesIO()
            shown.save(buffer, "JPEG", quality=90)
        return buffer.getvalue()

    def save(self, place: int, text: str) -> dict[str, Any]:
        """Makes a training row of the text; it was accepted if it is what a reader read, else corrected."""
        draft = self._draft(place)
        with self._lock:
            if place in self._done:
                raise RequestError(f"draft {place + 1}: {self._done[place]} before; undo that first")
            reader = next((answer for answer in draft.answers if _same(answer.text, text)), None)
            origin = CORRECTED if reader is None else ACCEPTED
            meta = {"draft": draft.key, "origin": origin, "by": (reader or draft.answer).by}
            replaced = _replaced(draft, text)
            if replaced:
                meta["rejected_by"] = replaced.by
            if checkpoint := (replaced or reader or draft.answer).checkpoint:
                meta["checkpoint"] = checkpoint
            record = replace(
                draft.record,
                text=canonical_text(text),
                rejected=replaced.text if replaced else "",
                location=f"draft {place + 1}",
            )
            self.corrections.append(record, meta)
            self._done[place] = origin
            return {**self.counts(), "next": self.next_left(place)}

    def undo(self) -> dict[str, Any]:
        """Takes the last row back, if it is of this queue; the draft's place, and the text that was saved."""
        with self._lock:
            row = self.corrections.take_back(lambda row: self._place(row) in self._done)
            if row is None:
                raise RequestError(
                    f"undo: the last row of {self.corrections.file} is not of this queue; correct it there"
                )
            place = self._places[_meta(row)["draft"]]
            del self._done[place]
            return {**self.counts(), "place": place, "text": row["text"]}

    def _draft(self, place: int) -> Draft:
        if not 0 <= place < len(self.drafts):
            raise RequestError(f"place: {place}; expected 0 to {len(self.drafts) - 1}")
        return self.drafts[place]

    def _place(self, row: dict[str, Any]) -> int | None:
        return self._places.get(_meta(row).get("draft"))


def _meta(row: dict[str, Any]) -> dict[str, Any]:
    meta = row.get("meta")
    return meta if isinstance(meta, dict) else {}


def _same(one: str | None, other: str) -> bool:
    return one is not None and canonical_text(one) == canonical_text(other)


def _replaced(draft: Draft, text: str) -> Answer | None:
    """The wrong answer to keep beside: a checkpoint's, as preferences teach its model, else the draft's."""
    candidates = [answer for answer in draft.answers if answer.checkpoint] + [draft.answer]
    wrong = (answer for answer in candidates if (answer.text or "").strip() and not _same(answer.text, text))
    return next(wrong, None)


def _around(picture: Image.Image, box: tuple[int, int, int, int]) -> Image.Image:
    """The region with a frame around it and its surroundings, which help to read it."""
    from PIL import ImageDraw

    left, top, right, bottom = box
    room = max(8, round(AROUND * (bottom - top)))
    x, y = max(0, left - room), max(0, top - room)
    shown = picture.crop((x, y, min(picture.width, right + room), min(picture.height, bottom + room)))
    frame = (left - x - 2, top - y - 2, right - x + 1, bottom - y + 1)
    ImageDraw.Draw(shown).rectangle(frame, outline=(214, 0, 108), width=2)
    return shown
