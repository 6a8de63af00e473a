"""The words of Chinese text as jieba 0.42 cuts them, but faster: with its dictionary and its model.

GOT's published numbers count jieba's words. Pages of evaluation come in pairs that are nearly equal, so each
piece is cut once; jieba's own Viterbi search copies all paths with every character, this one keeps pointers.
jieba.lcut gives the same words in 1.7 times the time on common words and 2.6 times on random characters.
"""

from __future__ import annotations

import logging
import math
import re
import warnings
from functools import cache, lru_cache
from types import ModuleType

_BLOCKS = re.compile(r"([\u4E00-\u9FD5a-zA-Z0-9+#&\._%\-]+)")
_BLANKS = re.compile(r"(\r\n|\s)")
_HAN = re.compile("([\u4e00-\u9fd5]+)")
_NUMBERS = re.compile(r"([a-zA-Z0-9]+(?:\.\d+)?%?)")
_IMPOSSIBLE = -3.14e100  # jieba's logarithm of 0
_BEFORE = ("ES", "BM", "BM", "ES")  # what B, M, E and S may follow


def words(text: str) -> list[str]:
    """All of the text in its words; each blank and each mark is a word of its own."""
    result: list[str] = []
    for number, block in enumerate(_BLOCKS.split(text)):
        if number % 2:
            result += _block(block)
        else:
            for piece in _BLANKS.split(block):
                result += [piece] if _BLANKS.match(piece) else piece
    return result


@lru_cache(maxsize=1 << 12)  # a page has some hundred, and its answer nearly the same
def _block(block: str) -> tuple[str, ...]:
    """The words of the dictionary that make the block most probable; what is left of it is guessed."""
    frequencies = _dictionary()[0]
    result: list[str] = []
    singles = start = 0
    for end in [*_most_probable(block), None]:
        if end is not None and end - start == 1:
            start = end
            continue
        alone = block[singles:start]
        known = len(alone) < 2 or frequencies.get(alone)
        result += alone if known else _guessed(alone)
        if end is not None:
            result.append(block[start:end])
            singles = start = end
    return tuple(result)


def _most_probable(block: str) -> list[int]:
    """Where the words end on the way through the block that is most probable; of equals the longer word."""
    frequencies, logarithm_of_all = _dictionary()
    size = len(block)
    best, ends = [0.0] * (size + 1), [0] * size
    for start in range(size - 1, -1, -1):
        value, end = -math.inf, start + 1
        here = start + 1
        piece = block[start]
        while piece in frequencies:
            count = frequencies[piece]
            if count:
                chance = math.log(count) - logarithm_of_all + best[here]
                if chance >= value:
                    value, end = chance, here
            if here == size:
                break
            here += 1
            piece = block[start:here]
        if value == -math.inf:  # a character the dictionary has not
            value = -logarithm_of_all + best[end]
        best[start], ends[start] = value, end
    way = [ends[0]]
    while way[-1] < size:
        way.append(ends[way[-1]])
    return way


@lru_cache(maxsize=1 << 14)
def _guessed(text: str) -> tuple[str, ...]:
    """Words that are in no dictionary, by jieba's hidden Markov model."""
    result: list[str] = []
    for number, piece in enumerate(_HAN.split(text)):
        if number % 2:
            result += _by_states(piece, _states(piece))
        else:
            result += filter(None, _NUMBERS.split(piece))
    return tuple(result)


def _by_states(text: str, states: str) -> list[str]:
    result, start = [], 0
    for index, state in enumerate(states, 1):
        if state in "ES":
            result.append(text[start:index])
            start = index
    return result


def _states(text: str) -> str:
    """Of each character whether it begins (B), continues (M), ends (E) or is (S) a word: the best sequence.

    Of two equal ways the one over the later letter, as jieba's maximum of tuples has it.
    """
    start, change = _model()[:2]
    begin, middle, end, single = (
        start[state] + chance for state, chance in zip("BMES", _shown(text[0]), strict=True)
    )
    end_begin, single_begin = change["E"]["B"], change["S"]["B"]
    begin_middle, middle_middle = change["B"]["M"], change["M"]["M"]
    begin_end, middle_end = change["B"]["E"], change["M"]["E"]
    end_single, single_single = change["E"]["S"], change["S"]["S"]
    came = []
    for char in text[1:]:
        to_begin, to_middle, to_end, to_single = _shown(char)
        after_end, after_single = end + end_begin + to_begin, single + single_begin + to_begin
        begun, going = begin + begin_middle + to_middle, middle + middle_middle + to_middle
        short, long = begin + begin_end + to_end, middle + middle_end + to_end
        ended, alone = end + end_single + to_single, single + single_single + to_single
        came.append((after_single >= after_end, going >= begun, long >= short, alone >= ended))
        begin = after_single if after_single >= after_end else after_end
        middle = going if going >= begun else begun
        end = long if long >= short else short
        single = alone if alone >= ended else ended
    states = ["S" if single >= end else "E"]
    for choices in reversed(came):
        last = "BMES".index(states[-1])
        states.append(_BEFORE[last][choices[last]])
    return "".join(reversed(states))


@lru_cache(maxsize=1 << 15)
def _shown(char: str) -> tuple[float, ...]:
    """The logarithms of the chances of a character in the states B, M, E and S."""
    return tuple(_model()[2][state].get(char, _IMPOSSIBLE) for state in "BMES")


@cache
def _dictionary() -> tuple[dict[str, int], float]:
    """How often each word occurs, 0 for what only begins one; and the logarithm of all occurrences.

    Of a tokenizer of our own: the shared one may have been given words by others.
    """
    jieba = _jieba()
    jieba.setLogLevel(logging.WARNING)
    tokenizer = jieba.Tokenizer()
    tokenizer.initialize()
    return tokenizer.FREQ, math.log(tokenizer.total)


@cache
def _model() -> tuple[dict[str, float], dict[str, dict[str, float]], dict[str, dict[str, float]]]:
    """Logarithms of the chances of a first state, of a change of state, and of a character in a state."""
    final = _jieba().finalseg
    return final.start_P, final.trans_P, final.emit_P


def _jieba() -> ModuleType:
    with warnings.catch_warnings():  # of setuptools, about a module that jieba asks for
        warnings.simplefilter("ignore")
        import jieba
    return jieba
