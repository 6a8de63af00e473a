"""METEOR of two lists of words, as NLTK computes it: equal words, equal Porter stems, WordNet's synonyms.

WordNet is used where nltk is installed and has it, nothing is ever downloaded; `stages` tells what was used.
Without it the synonyms of single characters are still known, which is all that scene text can ask for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cache, lru_cache

Synonyms = Callable[[str], set[str]]  # of a stem, itself among them
Place = tuple[int, str]  # a word and where it stands

# NLTK's additions to Porter's rules: words that no rule gets right
IRREGULAR = {
    "skies": "sky",
    "sky": "sky",
    "dying": "die",
    "lying": "lie",
    "tying": "tie",
    "news": "news",
    "innings": "inning",
    "inning": "inning",
    "outings": "outing",
    "outing": "outing",
    "cannings": "canning",
    "canning": "canning",
    "howe": "howe",
    "proceed": "proceed",
    "exceed": "exceed",
    "succeed": "succeed",
}
# all pairs of single characters in small letters that share a sense in WordNet 3.0
CHARACTERS = {"1": "i", "i": "1", "5": "v", "v": "5", "k": "m", "m": "k"}
# (suffix, what replaces it): the first suffix that fits decides; the rest must have the measure of its step
PLURALS = {"sses": "ss", "ies": "i", "ss": "ss", "s": ""}
STEP_2 = {
    "ational": "ate",
    "tional": "tion",
    "enci": "ence",
    "anci": "ance",
    "izer": "ize",
    "bli": "ble",
    "alli": "al",
    "entli": "ent",
    "eli": "e",
    "ousli": "ous",
    "ization": "ize",
    "ation": "ate",
    "ator": "ate",
    "alism": "al",
    "iveness": "ive",
    "fulness": "ful",
    "ousness": "ous",
    "aliti": "al",
    "iviti": "ive",
    "biliti": "ble",
    "fulli": "ful",
}
STEP_3 = {"icate": "ic", "ative": "", "alize": "al", "iciti": "ic", "ical": "ic", "ful": "", "ness": ""}
STEP_4 = (
    *("al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism"),
    *("ate", "iti", "ous", "ive", "ize"),
)


def meteor(prediction: Sequence[str], reference: Sequence[str], synonyms: Synonyms | None = None) -> float:
    """0 to nearly 1: n equal words give 1 - 0.5 / n^3. Case is ignored. No words on either side: 0."""
    pairs = sorted(align(prediction, reference, synonyms))
    if not pairs:
        return 0.0
    precision, recall = len(pairs) / len(prediction), len(pairs) / len(reference)
    mean = precision * recall / (0.9 * precision + 0.1 * recall)
    breaks = sum((b[0] - a[0], b[1] - a[1]) != (1, 1) for a, b in zip(pairs, pairs[1:], strict=False))
    return (1 - 0.5 * ((1 + breaks) / len(pairs)) ** 3) * mean


def align(
    prediction: Sequence[str], reference: Sequence[str], synonyms: Synonyms | None = None
) -> list[tuple[int, int]]:
    """The places of words that belong together, each word in one pair."""
    left = [(index, word.lower()) for index, word in enumerate(prediction)]
    right = [(index, word.lower()) for index, word in enumerate(reference)]
    exact, left, right = _matched(left, right, lambda word: {word})
    # the synonyms are those of the stems, not of the words: NLTK's way
    left, right = ([(index, stem(word)) for index, word in side] for side in (left, right))
    stems, left, right = _matched(left, right, lambda word: {word})
    related = [] if synonyms is None else _matched(left, right, synonyms)[0]
    return exact + stems + related


def _matched(
    left: list[Place], right: list[Place], accepted: Synonyms
) -> tuple[list[tuple[int, int]], list[Place], list[Place]]:
    """Pairs, and what is left over: from the end on, each word takes the last free one that it accepts."""
    free: dict[str, list[int]] = defaultdict(list)
    for index, word in right:
        free[word].append(index)
    pairs, alone = [], []
    for index, word in reversed(left):
        fitting = [synonym for synonym in accepted(word) if free.get(synonym)]
        if fitting:
            pairs.append((index, free[max(fitting, key=lambda synonym: free[synonym][-1])].pop()))
        else:
            alone.append((index, word))
    taken = {index for _, index in pairs}
    return pairs, alone[::-1], [(index, word) for index, word in right if index not in taken]


def stages() -> tuple[str, ...]:
    """What words are matched by on this machine."""
    return ("exact", "stem", "synonym of 1 character" if wordnet_synonyms() is None else "synonym")


def known_synonyms() -> Synonyms:
    """WordNet's where it is, else those of single characters."""
    return wordnet_synonyms() or (lambda word: {word, CHARACTERS.get(word, word)})


@cache
def wordnet_synonyms() -> Synonyms | None:
    """The single words that share a sense with a word, or None without nltk and its WordNet."""
    try:
        from nltk.corpus import wordnet

        wordnet.ensure_loaded()
    except (ImportError, LookupError):
        return None

    @lru_cache(maxsize=1 << 16)
    def synonyms(word: str) -> set[str]:
        names = {lemma.name() for sense in wordnet.synsets(word) for lemma in sense.lemmas()}
        return {name for name in names if "_" not in name} | {word}

    return synonyms


@lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """Porter's stem of a word in lower case, with NLTK's additions (its default mode)."""
    if word in IRREGULAR:
        return IRREGULAR[word]
    if len(word) <= 2:
        return word
    word = _without_ed_or_ing(_singular(word))
    if word.endswith("y") and len(word) > 2 and _shape(word[:-1])[-1] == "c":
        word = word[:-1] + "i"
    word = _replaced(_step_2(word), STEP_3)
    word = _without_ending(word)
    return _tidied(word)


def _singular(word: str) -> str:
    if word.endswith("ies") and len(word) == 4:
        return word[:-1]
    return _replaced(word, PLURALS, more_than=-1)


def _without_ed_or_ing(word: str) -> str:
    if word.endswith("ied"):
        return word[:-1] if len(word) == 4 else word[:-2]
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    cut = next(
        (end for end in ("ed", "ing") if word.endswith(end) and "v" in _shape(word[: -len(end)])), None
    )
    if cut is None:
        return word
    word = word[: -len(cut)]
    if word.endswith(("at", "bl", "iz")):
        return word + "e"
    if word[-1:] == word[-2:-1] and _shape(word)[-1] == "c":
        return word if word[-1] in "lsz" else word[:-1]
    return word + "e" if _measure(word) == 1 and _ends_short(word) else word


def _step_2(word: str) -> str:
    if word.endswith("alli") and _measure(word[:-4]) > 0:
        return _step_2(word[:-2])
    if word.endswith("logi"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    return _replaced(word, STEP_2)


def _without_ending(word: str) -> str:
    ending = next((ending for ending in STEP_4 if word.endswith(ending)), None)
    if ending is None:
        return word
    rest = word[: -len(ending)]
    return rest if _measure(rest) > 1 and (ending != "ion" or rest[-1] in "st") else word


def _tidied(word: str) -> str:
    """Without a last e or l that only the spelling needs."""
    if word.endswith("e"):
        rest = word[:-1]
        if _measure(rest) > 1 or (_measure(rest) == 1 and not _ends_short(rest)):
            word = rest
    return word[:-1] if word.endswith("ll") and _measure(word[:-1]) > 1 else word


def _replaced(word: str, rules: dict[str, str], more_than: int = 0) -> str:
    suffix = next((suffix for suffix in rules if word.endswith(suffix)), None)
    if suffix is None or _measure(word[: -len(suffix)]) <= more_than:
        return word
    return word[: -len(suffix)] + rules[suffix]


def _shape(word: str) -> str:
    """One c or v a letter; y is a vowel after a consonant."""
    shape = ""
    for letter in word:
        shape += "v" if letter in "aeiou" or (letter == "y" and shape[-1:] == "c") else "c"
    return shape


def _measure(word: str) -> int:
    """How many times vowels are followed by consonants."""
    return _shape(word).count("vc")


def _ends_short(word: str) -> bool:
    shape = _shape(word)
    return shape == "vc" or (shape.endswith("cvc") and word[-1] not in "wxy")
