"""What scanners, cameras and files do to a clean picture, bounded by its smallest text, which stays legible.

Knows pixels, a generator and one height of text; what stands on the picture is the engine's matter.
"""

from __future__ import annotations

import argparse
import functools
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from got_train.errors import DrawingError

if TYPE_CHECKING:
    from types import ModuleType

    import numpy
    from PIL import Image

    Pixels = numpy.ndarray  # (height, width) or (height, width, 3), uint8

LEAST_HEIGHT = 7.0  # pixels; text that small loses letters by resampling alone, so it is not warped
LEAST_SCALE = 0.92  # a picture is not made smaller than this to keep its turned corners inside
MOST_DEGREES, MOST_SHEAR, MOST_CORNER = 3.0, 0.03, 0.03  # the last as a share of the sides
TINTS = ((1.0, 0.97, 0.88), (1.0, 0.94, 0.82), (0.95, 0.97, 1.0), (0.93, 0.93, 0.91), (0.97, 1.0, 0.95))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The option --degrade of engines that make pictures."""
    parser.add_argument(
        "--degrade", type=share, default=0.0, help="share of pictures made worse, 0-1 (default: 0)"
    )


def share(text: str) -> float:
    """A number from 0 to 1, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share from 0 to 1")
    return value


def apply(
    image: Image.Image, rng: numpy.random.Generator, share: float, text_height: float
) -> tuple[Image.Image, dict[str, Any]]:
    """The picture, degraded in `share` of the calls; share 0 draws no random number and changes nothing."""
    image, parameters, _ = apply_with_matrix(image, rng, share, text_height)
    return image, parameters


def apply_with_matrix(
    image: Image.Image,
    rng: numpy.random.Generator,
    share: float,
    text_height: float,
    *,
    upright: bool = False,
) -> tuple[Image.Image, dict[str, Any], numpy.ndarray]:
    """As apply, with the matrix by which boxes follow (see moved)."""
    import numpy

    if not 0 <= share <= 1:
        raise DrawingError(f"degrade: share {share} is none; give a number from 0 to 1")
    if share == 0 or rng.random() >= share:
        return image, {}, numpy.eye(3)
    return degrade(image, rng, 0.2 + 0.8 * rng.random(), text_height, upright=upright)


def degrade(
    image: Image.Image,
    rng: numpy.random.Generator,
    strength: float,
    text_height: float,
    *,
    upright: bool = False,
) -> tuple[Image.Image, dict[str, Any], numpy.ndarray]:
    """A worse picture of the same size, the parameters drawn, and the 3x3 matrix from old to new places.

    text_height is the font size of the smallest text, in pixels; strength 0..1 is the share of what that text
    bears. All content stays inside. With upright=True lines stay level, so that boxes hold no neighbours.
    A picture in mode L stays L unless its paper is tinted.
    """
    import numpy
    from PIL import Image

    if not 0 <= strength <= 1 or not text_height > 0:
        raise DrawingError(
            f"degrade: strength {strength} and text_height {text_height}; expected 0..1 and pixels above 0"
        )
    pixels = numpy.array(image if image.mode in ("L", "RGB") else image.convert("RGB"))
    chosen = dict(zip((*_STEPS, "warp"), (rng.random(len(_STEPS) + 1) < 0.5).tolist(), strict=True))
    if not any(chosen.values()):
        chosen[str(rng.choice(list(chosen)))] = True
    parameters: dict[str, Any] = {"strength": round(strength, 3), "text_height": round(float(text_height), 1)}
    matrix = numpy.eye(3)
    if chosen["warp"] and text_height * LEAST_SCALE >= LEAST_HEIGHT:
        pixels, matrix, parameters["warp"] = _warp(pixels, rng, strength, upright)
    for name, step in _STEPS.items():  # in the order in which ink, paper, light, camera and file come
        if chosen[name]:
            pixels, parameters[name] = step(pixels, rng, strength, text_height * LEAST_SCALE)
    return Image.fromarray(pixels), parameters, matrix


def moved(
    boxes: Iterable[tuple[float, ...]], matrix: numpy.ndarray, size: tuple[int, int]
) -> list[tuple[int, int, int, int]]:
    """The upright boxes, in whole pixels of a picture of this size, around where the matrix takes boxes."""
    import numpy

    result = []
    for x1, y1, x2, y2 in boxes:
        corners = matrix @ numpy.array([(x1, x2, x2, x1), (y1, y1, y2, y2), (1, 1, 1, 1)], float)
        xs, ys = (corners[axis] / corners[2] for axis in (0, 1))
        low = max(0, math.floor(xs.min() + 1e-6)), max(0, math.floor(ys.min() + 1e-6))
        high = min(size[0], math.ceil(xs.max() - 1e-6)), min(size[1], math.ceil(ys.max() - 1e-6))
        result.append((*low, *high))
    return result


@functools.cache
def _cv2() -> ModuleType:
    try:
        import cv2
    except ImportError:
        raise DrawingError(
            "degrade: cv2 is not installed; `pip install opencv-python-headless` brings it"
        ) from None
    cv2.setNumThreads(1)  # engines run as processes, one a core
    return cv2


def _warp(
    pixels: Pixels, rng: numpy.random.Generator, strength: float, upright: bool
) -> tuple[Pixels, numpy.ndarray, dict[str, Any]]:
    import numpy

    paper, content = _paper_and_content(pixels)
    random = rng.uniform(-1, 1, 12)
    amount = 0.0 if upright else strength
    while True:
        matrix = _drawn_matrix(pixels.shape[1::-1], random, amount)
        fit, scale = _fitted(matrix, content, pixels.shape[1::-1], random[10:])
        if scale >= LEAST_SCALE or amount < 1e-3:
            break
        amount /= 2  # a page filled to its edges can turn less than one with margins
    if upright or scale < LEAST_SCALE:
        # level lines: smaller and elsewhere
        shrunk = _scaling(1 - (1 - LEAST_SCALE) * strength * abs(random[0]), pixels.shape[1::-1])
        fit, scale = _fitted(shrunk, content, pixels.shape[1::-1], random[10:])
    matrix = numpy.round(fit, 9)
    cv2 = _cv2()
    border = {"borderMode": cv2.BORDER_REPLICATE}
    if paper is not None:
        border = {"borderMode": cv2.BORDER_CONSTANT, "borderValue": paper}
    # cv2 counts from the middle of pixels, boxes from their edges
    half = numpy.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    centred = numpy.linalg.inv(half) @ matrix @ half
    warped = cv2.warpPerspective(pixels, centred, pixels.shape[1::-1], flags=cv2.INTER_CUBIC, **border)
    return warped, matrix, {"matrix": [[float(f"{value:.6g}") for value in row] for row in matrix]}


def _paper_and_content(pixels: Pixels) -> tuple[tuple[int, ...] | None, tuple[int, int, int, int]]:
    """The colour along the edges (None if they have several) and the box of all that differs from it."""
    import numpy

    height, width = pixels.shape[:2]
    flat = pixels.reshape(height, width, -1)
    edge = numpy.concatenate([flat[0], flat[-1], flat[:, 0], flat[:, -1]]).astype(int)
    paper = numpy.median(edge, axis=0).astype(int)
    if (abs(edge - paper).max(axis=1) > 8).mean() > 0.05:
        return None, (0, 0, width, height)
    far = (abs(flat.astype(numpy.int16) - paper.astype(numpy.int16)) > 8).any(axis=2)
    rows, columns = (numpy.flatnonzero(far.any(axis=axis)) for axis in (1, 0))
    color = tuple(int(value) for value in paper)
    if not rows.size:
        return color, (width // 2, height // 2, width // 2 + 1, height // 2 + 1)
    return color, (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def _drawn_matrix(size: tuple[int, int], random: numpy.ndarray, amount: float) -> numpy.ndarray:
    """A turn and shear about the middle, then the corners pulled."""
    import numpy

    width, height = size
    angle, shear = (random[0] * MOST_DEGREES * amount * math.pi / 180, random[1] * MOST_SHEAR * amount)
    cosine, sine = math.cos(angle), math.sin(angle)
    turn = numpy.array([[cosine, -sine + shear * cosine, 0], [sine, cosine + shear * sine, 0], [0, 0, 1]])
    middle = numpy.array([[1, 0, width / 2], [0, 1, height / 2], [0, 0, 1]])
    turn = middle @ turn @ numpy.linalg.inv(middle)
    corners = numpy.array([(0, 0), (width, 0), (width, height), (0, height)], numpy.float32)
    pulled = corners + random[2:10].reshape(4, 2) * MOST_CORNER * amount * numpy.array([width, height])
    return _cv2().getPerspectiveTransform(corners, pulled.astype(numpy.float32)) @ turn


def _scaling(factor: float, size: tuple[int, int]) -> numpy.ndarray:
    import numpy

    width, height = size
    return numpy.array(
        [[factor, 0, (1 - factor) * width / 2], [0, factor, (1 - factor) * height / 2], [0, 0, 1]]
    )


def _fitted(
    matrix: numpy.ndarray,
    content: tuple[int, int, int, int],
    size: tuple[int, int],
    shift: numpy.ndarray,
) -> tuple[numpy.ndarray, float]:
    """The matrix followed by the scaling and shift that keep the content inside, and that scale."""
    import numpy

    x1, y1, x2, y2 = content
    corners = matrix @ numpy.array([(x1, x2, x2, x1), (y1, y1, y2, y2), (1, 1, 1, 1)], float)
    corners = corners[:2] / corners[2]
    low, high = corners.min(axis=1), corners.max(axis=1)
    sides = numpy.array(size, float)
    scale = min(1.0, *(sides / numpy.maximum(high - low, 1e-6)))
    free = sides - scale * (high - low)
    # where it lies now if it fits there, moved by up to a fiftieth of the page
    corner = numpy.clip(scale * low + (1 - scale) * sides / 2 + shift * sides / 50, 0, free)
    offset = corner - scale * low
    fit = numpy.array([[scale, 0, offset[0]], [0, scale, offset[1]], [0, 0, 1]])
    return fit @ matrix, float(scale)


def _bleed(
    pixels: Pixels, rng: numpy.random.Generator, strength: float, height: float
) -> tuple[Pixels, dict[str, Any]]:
    """Ink that runs a little: darker neighbours reach over, by less than a tenth of a small letter's stem."""
    cv2 = _cv2()
    reach = 1 if height < 40 else 2
    alpha = round(float(rng.uniform(0.2, 1) * strength * min(0.7, height / 40)), 3)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    grown = cv2.erode(pixels, kernel)  # the least value is the darkest
    return cv2.addWeighted(grown, alpha, pixels, 1 - alpha, 0), {"alpha": alpha, "reach": reach}


def _paper(
    pixels: Pixels, rng: numpy.random.Generator, strength: float, height: float
) -> tuple[Pixels, dict[str, Any]]:
    """Tinted paper with soft stains; ink and paper darken alike, so their contrast in shares stays."""
    import numpy

    cv2 = _cv2()
    tint = TINTS[int(rng.integers(len(TINTS)))]
    amount, stain = (
        round(float(value), 3) for value in rng.uniform(0.3, 1, 2) * strength * numpy.array([1, 0.08])
    )
    rows, columns = pixels.shape[:2]
    coarse = rng.standard_normal((max(2, rows // 64), max(2, columns // 64)), numpy.float32)
    stains = 1 - stain * numpy.clip(cv2.resize(coarse, (columns, rows), interpolation=cv2.INTER_CUBIC), 0, 2)
    factor = 1 - amount * (1 - numpy.array(tint, numpy.float32))
    colored = pixels if pixels.ndim == 3 else cv2.merge([pixels] * 3)
    paper = colored * stains[..., None].astype(numpy.float32) * factor
    return _bytes(paper), {"tint": [round(float(value), 3) for value in factor], "stain": stain}


def _shadow(
    pixels: Pixels, rng: numpy.random.Generator, strength: float, height: float
) -> tuple[Pixels, dict[str, Any]]:
    """Light that falls off across the picture, with a soft edge somewhere on it."""
    import numpy

    depth = round(float(rng.uniform(0.2, 1) * strength * 0.5), 3)
    angle, edge, width = (
        round(float(value), 3) for value in rng.uniform((0, 0.2, 0.1), (2 * math.pi, 0.8, 0.6))
    )
    rows, columns = pixels.shape[:2]
    across = numpy.linspace(-0.5, 0.5, columns, dtype=numpy.float32)[None] * math.cos(angle)
    down = numpy.linspace(-0.5, 0.5, rows, dtype=numpy.float32)[:, None] * math.sin(angle)
    ramp = numpy.clip((across + down + 0.5 - edge) / width + 0.5, 0, 1)
    light = 1 - depth * ramp * ramp * (3 - 2 * ramp)
    light = light if pixels.ndim == 2 else light[..., None]
    return _bytes(pixels * light), {"depth": depth, "angle": angle, "edge": edge, "width": width}


def _blur(
    pixels: Pixels, rng: numpy.random.Generator, strength: float, height: float
) -> tuple[Pixels, dict[str, Any]]:
    """Out of focus, or moved; a stem is about a twelfth of the font size, and blur stays below that."""
    import numpy

    cv2 = _cv2()
    sigma = round(float(rng.uniform(0.3, 1) * strength * min(0.05 * height, 2.5)), 3)
    if rng.random() < 0.6 or sigma < 0.4:
        return cv2.GaussianBlur(pixels, (0, 0), max(sigma, 0.05)), {"sigma": sigma}
    angle = round(float(rng.uniform(0, math.pi)), 3)
    reach = math.ceil(2 * sigma)
    steps = numpy.mgrid[-reach : reach + 1, -reach : reach + 1]
    off = steps[1] * math.sin(angle) - steps[0] * math.cos(angle)  # from the line of motion
    along = steps[1] * math.cos(angle) + steps[0] * math.sin(angle)
    kernel = numpy.exp(-0.5 * ((off / 0.4) ** 2 + (along / sigma) ** 2))
    moved = cv2.filter2D(pixels, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)
    return moved, {"sigma": sigma, "motion": angle}


def _noise(
    pixels: Pixels, rng: numpy.random.Generator, strength: float, height: float
) -> tuple[Pixels, dict[str, Any]]:
    """Grain of a sensor: at most a tenth of the contrast between the darkest and the lightest hundredth."""
    import numpy

    low, high = numpy.percentile(pixels[::4, ::4], (1, 99)).tolist()
    most = min(0.1 * (high - low), height)
    deviation = round(float(rng.uniform(0.2, 1) * strength * most), 2)
    grain = rng.standard_normal(pixels.shape[:2], numpy.float32) * deviation
    noisy = pixels + (grain if pixels.ndim == 2 else grain[..., None])
    return _bytes(noisy), {"deviation": deviation}


def _jpeg(
    pixels: Pixels, rng: numpy.random.Generator, strength: float, height: float
) -> tuple[Pixels, dict[str, Any]]:
    """Compressed and decoded; text that fits into one block of 8 pixels bears the least."""
    cv2 = _cv2()
    lowest = 75 - 45 * min(1.0, max(0.0, (height - 10) / 22))
    quality = round(95 - float(rng.uniform(0.2, 1)) * strength * (95 - lowest))
    swapped = pixels if pixels.ndim == 2 else pixels[..., ::-1]  # cv2 takes blue first
    _, data = cv2.imencode(".jpg", swapped, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    return (decoded if pixels.ndim == 2 else decoded[..., ::-1].copy()), {"quality": quality}


_STEPS = {"bleed": _bleed, "paper": _paper, "shadow": _shadow, "blur": _blur, "noise": _noise, "jpeg": _jpeg}


def _bytes(values: numpy.ndarray) -> Pixels:
    import numpy

    return numpy.clip(values + 0.5, 0, 255).astype(numpy.uint8)
