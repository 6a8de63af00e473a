"""Finger prints of rows: the same and nearly the same pictures and answers, within and between sources.

A row is FINGERPRINT.itemsize bytes, whatever its picture and its answer hold. Knows no file and no config.

Libraries were tried. datasketch needs 2.4 ms for a sketch of 2,000 characters, this one 0.06 ms. imagehash's
dhash sees margins: of 225 bits 64 differ when a page is cropped and resized, and 26 between two pages; here
they are 38 and 56 of 240 (30 drawn pages).
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from PIL import Image

SHORT = 16  # characters of an answer; pictures of shorter ones, words and sums, look alike by nature
BINS = 32  # of a sketch of an answer: the smallest hash of its shingles in each
SHINGLE = 8  # bytes
MIN_TEXT_BYTES = 96  # bytes of an answer; shorter ones are alike by chance
THUMB = 512  # pixels at most of the picture in which the written part of a page is looked for
INK = 64  # grey levels off the ground; less is what JPEG leaves around letters
STEP = 2  # grey levels; smaller ones are noise
WINDOW = 64  # neighbours in the order of a band that a row is compared with
MAX_DHASH_DISTANCE = 40  # of 240 bits, in which two prints of nearly the same picture differ at most
MIN_MINHASH_AGREEMENT = 27  # of BINS, in which two sketches of nearly the same answer agree at least
MIN_FORM_AGREEMENT = (
    16  # of BINS; with fewer in common two pages that look alike are one form, filled in twice
)

FINGERPRINT = np.dtype(
    [
        ("source", np.int32),
        ("row", np.int64),
        ("pictures", np.uint64),  # of the bytes of all its files
        ("question", np.uint64),  # of task, box and color
        ("answer", np.uint64),  # 0: too short to tell
        ("exact", np.uint64),  # of the whole answer, however short
        ("length", np.uint32),  # characters of the answer
        ("document", np.uint64),  # of its name, where the row or its file tells one; 0 otherwise
        ("dhash", np.uint16, 15),  # 240 bits
        ("minhash", np.uint16, BINS),
    ]
)


def hash_bytes(*pieces: bytes) -> int:
    digest = hashlib.blake2b(digest_size=8)
    for piece in pieces:
        digest.update(len(piece).to_bytes(8, "little") + piece)
    return int.from_bytes(digest.digest(), "little") or 1


def dhash(grey: Image.Image) -> np.ndarray:
    """(15,) uint16, the difference hash of what is written on a page: is it darker to the left or right.

    Taken of the box around the ink, so that neither margins nor size nor light matter.
    """
    across, down = (min(THUMB, side) for side in grey.size)
    small = np.asarray(grey.resize((across, down), Image.Resampling.BOX))
    ground = int(np.bincount(small.ravel(), minlength=256).argmax())
    ink = np.abs(small.astype(np.int16) - ground) > INK
    rows, columns = (np.flatnonzero(ink.any(axis=axis)) for axis in (1, 0))
    box = (0, 0, across, down)
    if len(rows) and len(columns):
        box = (float(columns[0]), float(rows[0]), columns[-1] + 1.0, rows[-1] + 1.0)
    written = Image.fromarray(small).resize((17, 15), Image.Resampling.BICUBIC, box=box)
    values = np.asarray(written).astype(np.int16)
    return np.packbits(values[:, 1:] > values[:, :-1] + STEP).view(np.uint16)


def normal_text(text: str) -> bytes:
    """An answer without what two transcriptions of one page differ in: case, spaces, forms of a letter."""
    return re.sub(r"\s+", " ", unicodedata.normalize("NFKC", text).lower()).strip().encode()


def minhash(text: bytes) -> np.ndarray:
    """(BINS,) uint16: two answers agree in as many bins as their shingles overlap."""
    codes = np.frombuffer(text, np.uint8).astype(np.uint64)
    value = np.zeros(len(codes) - SHINGLE + 1, np.uint64)
    with np.errstate(over="ignore"):
        for offset in range(SHINGLE):
            value = value * np.uint64(0x100000001B3) + codes[offset : offset + len(value)]
        value *= np.uint64(0x9E3779B97F4A7C15)
        value ^= value >> np.uint64(29)
        value *= np.uint64(0xBF58476D1CE4E5B9)
    bins = (value >> np.uint64(59)).astype(np.int64)
    least = np.full(BINS, 2**16 - 1, np.uint16)
    np.minimum.at(least, bins, ((value >> np.uint64(40)) & np.uint64(0xFFFF)).astype(np.uint16))
    return least


def same(keys: np.ndarray) -> np.ndarray:
    """(P, 2) places: each place that has a key already met, with the first that has it."""
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True, axis=0)
    origin = first[inverse.ravel()]
    later = np.flatnonzero(origin != np.arange(len(keys)))
    return np.stack([origin[later], later], axis=1)


def near_images(prints: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """(P, 2) places of nearly the same pictures that are not the same files.

    Each row comes with the nearest row before it of each group. A form that is filled in twice looks alike,
    but has other answers. Crops of the same word are no copies of each other.
    """
    names = ("dhash", "pictures", "answer", "exact", "minhash", "length")
    dhash, pictures, answer, exact, sketches, length = (np.ascontiguousarray(prints[name]) for name in names)

    def far(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        distance = np.full(len(left), np.inf)
        long = (length[left] >= SHORT) & (length[right] >= SHORT)
        kept = np.flatnonzero((pictures[left] != pictures[right]) & long)
        distance[kept] = _BITS[dhash[left[kept]] ^ dhash[right[kept]]].sum(axis=1) / MAX_DHASH_DISTANCE
        kept = kept[distance[kept] <= 1]
        first, second = left[kept], right[kept]
        known = (answer[first] > 0) & (answer[second] > 0)
        agree = (sketches[first] == sketches[second]).sum(axis=1) >= MIN_FORM_AGREEMENT
        distance[kept[~np.where(known, agree, exact[first] == exact[second])]] = np.inf
        return distance

    return _nearest(groups, dhash, far)


def near_answers(prints: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """(P, 2) places of nearly the same long answers that are not the same, likewise."""
    known = np.flatnonzero(prints["answer"])
    answer, sketches = (np.ascontiguousarray(prints[name][known]) for name in ("answer", "minhash"))

    def far(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        apart = (sketches[left] != sketches[right]).sum(axis=1)
        return np.where(answer[left] == answer[right], np.inf, apart / (BINS - MIN_MINHASH_AGREEMENT))

    bands = sketches.reshape(-1, BINS // 4, 4).view(np.uint64)[:, :, 0]
    return known[_nearest(groups[known], bands, far)]


_BITS = np.array([bin(value).count("1") for value in range(2**16)], np.uint8)
Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]  # of pairs of places; up to 1: near


def _nearest(groups: np.ndarray, bands: np.ndarray, far: Distance) -> np.ndarray:
    """For every row the nearest ones of those that share a band with it and stand near in its order.

    Bounded work: a band that thousands share is searched WINDOW neighbours far, not in full.
    """
    best: dict[tuple[int, int], tuple[float, int]] = {}
    for band in range(bands.shape[1]):
        for left, right in _neighbours(bands, band):
            distance = far(left, right)
            for index in np.flatnonzero(distance <= 1):
                first, later = sorted((int(left[index]), int(right[index])))
                key = later, int(groups[first])
                best[key] = min(best.get(key, (2.0, -1)), (float(distance[index]), first))
    pairs = sorted((later, first) for (later, _), (_, first) in best.items())
    return np.array([(first, later) for later, first in pairs], np.int64).reshape(-1, 2)


def _neighbours(bands: np.ndarray, band: int) -> Iterator[Sequence[np.ndarray]]:
    """Pairs of places that have the same value in a band, by how far apart they stand in its order."""
    rest = [bands[:, (band + step) % bands.shape[1]] for step in range(bands.shape[1])]
    order = np.lexsort(rest[::-1])
    key = bands[order, band]
    for step in range(1, min(WINDOW, len(order))):
        equal = np.flatnonzero(key[step:] == key[:-step])
        if not len(equal):
            return
        yield order[equal], order[equal + step]
