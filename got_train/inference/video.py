"""Video files: the frames in which something changed, and what was read off them as text with times.

Knows pictures, times and texts; knows no model.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from rapidfuzz.fuzz import ratio

from got_train.errors import InferenceError

if TYPE_CHECKING:
    import av
    from PIL import Image

EVERY = 0.5  # seconds between frames that are looked at
SMALL = 512  # pixels of the width in which frames are compared
BLOCK = 16  # pixels of its squares
CHANGE = 12  # grey levels by which one square differs on average; compression alone makes 1 to 3
SAME = 90  # of 100: texts as like as that are one, read twice
FORMATS = ("text", "json", "srt")


@dataclass(frozen=True)
class Frame:
    """`end` is when the next one begins, in seconds."""

    start: float
    end: float
    image: Image.Image


@dataclass(frozen=True)
class Cue:
    """A text and when it can be seen, in seconds."""

    start: float
    end: float
    text: str
    confidence: float


def unavailable() -> str | None:
    """Why videos cannot be read here; None if they can."""
    try:
        import av  # noqa: F401
    except ImportError:
        return 'PyAV is not installed; use `pip install -e ".[video]"` in the clone'
    return None


def frames(path: str | os.PathLike) -> Iterator[Frame]:
    """The first frame, and each that differs from the last one in some place; as they look at their end.

    For a change comes blurred, in low bit rates and in fades, and gets sharp.
    """
    before: tuple[float, av.VideoFrame] | None = None
    seen, time = None, 0.0
    for time, frame in _sampled(path):
        small = frame.reformat(width=SMALL, height=_even(SMALL * frame.height / frame.width), format="gray")
        squares = small.to_ndarray()
        if before is not None and _change(seen, squares) < CHANGE:
            before = (before[0], frame)
            continue
        if before is not None:
            yield Frame(before[0], time, _upright(before[1]))
        before, seen = (time, frame), squares
    if before is None:
        raise InferenceError(f"{path}: no frame in it; expected a whole video file")
    yield Frame(before[0], time + EVERY, _upright(before[1]))


def cues(read: Iterable[tuple[Frame, str, float]]) -> Iterator[Cue]:
    """Frames with their texts and confidences as cues; a text that stays is one, in its surest reading."""
    last: Cue | None = None
    for frame, text, confidence in read:
        cue = Cue(frame.start, frame.end, text, confidence)
        if last is not None and _same(last.text, text):
            best = max(last, cue, key=lambda candidate: candidate.confidence)
            last = Cue(last.start, cue.end, best.text, best.confidence)
            continue
        if last is not None and last.text.strip():
            yield last
        last = cue
    if last is not None and last.text.strip():
        yield last


def written(subtitles: Sequence[Cue], form: str) -> str:
    """The cues as text, as one line of JSON each, or as SRT."""
    if form == "json":
        rows = (vars(cue) | {"confidence": round(cue.confidence, 4)} for cue in subtitles)
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if form == "srt":
        return "\n".join(
            f"{number}\n{clock(cue.start, ',')} --> {clock(cue.end, ',')}\n{_lines(cue.text)}\n"
            for number, cue in enumerate(subtitles, start=1)
        )
    return "\n".join(f"[{clock(cue.start)} - {clock(cue.end)}]\n{cue.text}\n" for cue in subtitles)


def clock(seconds: float, point: str = ".") -> str:
    """75.5 is 00:01:15.500."""
    total = round(seconds * 1000)
    minutes, rest = divmod(total, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}{point}{rest % 1000:03d}"


def _sampled(path: str | os.PathLike) -> Iterator[tuple[float, av.VideoFrame]]:
    """Frames at least EVERY seconds apart, with their times from the start of the video."""
    import av

    try:
        with av.open(os.fspath(path)) as container:
            if not container.streams.video:
                raise InferenceError(f"{path}: no video in it; expected a file with moving pictures")
            first, due = None, 0.0
            for frame in container.decode(container.streams.video[0]):
                if frame.time is None:
                    continue
                first = frame.time if first is None else first
                if (time := frame.time - first) >= due - 1e-6:
                    due = time + EVERY
                    yield time, frame
    except (av.FFmpegError, OSError) as error:
        raise InferenceError(
            f"{path}: cannot be read ({error}); expected a whole video file such as MP4"
        ) from error


def _change(before: np.ndarray, now: np.ndarray) -> float:
    """The largest mean difference of a square."""
    if before.shape != now.shape:
        return 255.0
    height, width = (length // BLOCK * BLOCK for length in now.shape)
    difference = np.abs(before.astype(np.int16) - now)[:height, :width]
    return float(difference.reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK).mean(axis=(1, 3)).max())


def _upright(frame: av.VideoFrame) -> Image.Image:
    image = frame.to_image()
    turned = getattr(frame, "rotation", 0)  # how a phone was held; PyAV before 14 does not tell
    return image.rotate(turned, expand=True) if turned else image


def _same(text: str, other: str) -> bool:
    return ratio(" ".join(text.split()), " ".join(other.split())) >= SAME


def _lines(text: str) -> str:
    """Without blank lines, which would end the cue."""
    return "\n".join(line for line in text.splitlines() if line.strip())


def _even(length: float) -> int:
    return max(BLOCK, round(length / 2) * 2)
