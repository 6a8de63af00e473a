"""Which characters are taken for which: the script of a character, confusions of a pair of texts.

Knows Unicode and edits; knows no metric and no report.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from functools import lru_cache

from rapidfuzz.distance import Levenshtein

NOTHING = ""  # in a confusion: left out, or put in
_SCRIPTS = {
    "CJK": "Chinese",
    "HIRAGANA": "Japanese",
    "KATAKANA": "Japanese",
    "HANGUL": "Korean",
    "LATIN": "Latin",
    "CYRILLIC": "Cyrillic",
    "GREEK": "Greek",
    "ARABIC": "Arabic",
    "HEBREW": "Hebrew",
    "DEVANAGARI": "Devanagari",
    "THAI": "Thai",
    "BENGALI": "Bengali",
    "TAMIL": "Tamil",
    "ARMENIAN": "Armenian",
    "GEORGIAN": "Georgian",
}
_COUNTED = 4000  # characters of a text that its script is judged by


@lru_cache(maxsize=20_000)
def script(character: str) -> str:
    """Latin, Chinese, ..., or digit, punctuation, space, symbol; other for letters of none of these."""
    category = unicodedata.category(character)
    if category[0] == "Z" or category == "Cc":
        return "space"
    if category[0] in "NPS":
        return {"N": "digit", "P": "punctuation", "S": "symbol"}[category[0]]
    first = unicodedata.name(character, "").replace("FULLWIDTH ", "").replace("HALFWIDTH ", "")
    return _SCRIPTS.get(first.partition(" ")[0], "other")


def language(text: str) -> str:
    """The script that most letters are in; Japanese where kana stand among Chinese characters."""
    counts = Counter(script(character) for character in text[:_COUNTED])
    letters = {name: count for name, count in counts.items() if name in {*_SCRIPTS.values(), "other"}}
    if letters.get("Japanese", 0) * 10 > letters.get("Chinese", 0) > 0:
        return "Japanese"
    return max(letters, key=letters.__getitem__) if letters else "no letters"


def confusions(prediction: str, reference: str) -> Counter[tuple[str, str]]:
    """How often a character was read as another; NOTHING where one is missing or too much."""
    pairs: Counter[tuple[str, str]] = Counter()
    for edit, source, target in Levenshtein.editops(reference, prediction).as_list():
        expected = NOTHING if edit == "insert" else reference[source]
        got = NOTHING if edit == "delete" else prediction[target]
        pairs[expected, got] += 1
    return pairs


def word_confusions(prediction: list[str], reference: list[str]) -> Counter[tuple[str, str]]:
    """Words that were read as others."""
    edits = Levenshtein.editops(reference, prediction).as_list()
    replaced = ((source, target) for edit, source, target in edits if edit == "replace")
    return Counter((reference[source], prediction[target]) for source, target in replaced)
