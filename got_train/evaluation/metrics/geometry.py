r"""How like two drawings in TikZ are: as text, as tokens, and as the pictures that pdfLaTeX sets.

Answers are programs of strangers: TeX runs without a shell, reads and writes only where it is, and not long.
"""

from __future__ import annotations

import numpy
from rapidfuzz.distance import Levenshtein

from got_train.formats.tikz import picture, tokens, unavailable

from .values import MetricValues, Value, means

DRAWN = ("compiles", "ssim", "pixel_equal")
WINDOW = 7  # of SSIM, uniform


def score(prediction: str, reference: str) -> MetricValues:
    """geometry_edit, geometry_token_edit, compiles, ssim, pixel_equal; what does not compile has ssim 0."""
    values: dict[str, Value] = {
        "geometry_edit": Levenshtein.normalized_distance(prediction, reference),
        "geometry_token_edit": Levenshtein.normalized_distance(tokens(prediction), tokens(reference)),
    }
    reason = unavailable()
    if reason is not None:
        return MetricValues(values | dict.fromkeys(DRAWN), dict.fromkeys(DRAWN, reason))
    predicted, expected = picture(prediction), picture(reference)
    if expected is None:
        values |= {"compiles": predicted is not None, "ssim": None, "pixel_equal": None}
        return MetricValues(values, dict.fromkeys(("ssim", "pixel_equal"), "the reference does not compile"))
    return MetricValues(values | {"compiles": predicted is not None} | _compared(predicted, expected))


averages = means


def ssim(first: numpy.ndarray, second: numpy.ndarray) -> float:
    """Structural similarity of two grey pictures of one size, as scikit-image has it."""
    from scipy.ndimage import uniform_filter

    def mean(picture: numpy.ndarray) -> numpy.ndarray:
        return uniform_filter(picture, WINDOW)

    first, second = first.astype(numpy.float64), second.astype(numpy.float64)
    sample = WINDOW**2 / (WINDOW**2 - 1)
    means = mean(first), mean(second)
    own = sample * (mean(first * first) - means[0] ** 2), sample * (mean(second * second) - means[1] ** 2)
    shared = sample * (mean(first * second) - means[0] * means[1])
    light, contrast = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    similar = (2 * means[0] * means[1] + light) * (2 * shared + contrast)
    similar /= (means[0] ** 2 + means[1] ** 2 + light) * (own[0] + own[1] + contrast)
    edge = WINDOW // 2
    return float(similar[edge:-edge, edge:-edge].mean())


def _compared(predicted: numpy.ndarray | None, expected: numpy.ndarray) -> dict[str, Value]:
    """Of pictures of different sizes the smaller one is continued in white, to the right and below."""
    if predicted is None:
        return {"ssim": 0.0, "pixel_equal": False}
    same = predicted.shape == expected.shape and bool((predicted == expected).all())
    size = [max(WINDOW, *sides) for sides in zip(predicted.shape, expected.shape, strict=True)]
    sides = []
    for side in (predicted, expected):
        sides.append(numpy.full(size, 255, side.dtype))
        sides[-1][: side.shape[0], : side.shape[1]] = side
    return {"ssim": ssim(*sides), "pixel_equal": same}
