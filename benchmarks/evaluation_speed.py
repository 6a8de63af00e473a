"""How many pairs a second the metrics score, next to the tools that published numbers were computed with.

python benchmarks/evaluation_speed.py [--pairs 50]: made-up pages of 2,000 characters of which 3 % are wrong,
and made-up tables. nltk's edit distance is timed where it is installed, on as few pairs as it takes. With
--whole, 2,000 pairs of each language are scored at once, in as many processes as an evaluation takes.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec

from got_train.evaluation.metrics import degeneration, teds, text

CHARACTERS = 2000
WRONG = 0.03
ENGLISH = """
the small harbour wakes before the sun does ropes creak against wooden posts and a thin mist sits on
the water by six o'clock the first boats are out their lamps shrinking into yellow dots the only
sound left on the quay is a radio that nobody has switched off
"""
# a village in the morning, in common words
CHINESE = """
\u5c0f\u9547 \u65e9\u6668 \u592a\u9633 \u5347\u8d77 \u4e4b\u524d \u6e2f\u53e3 \u5df2\u7ecf
\u9192\u6765 \u6c34\u9762 \u4e0a \u6709 \u4e00\u5c42 \u8584\u96fe \u6e14\u8239 \u51fa\u53d1 \u4e86
\u5b69\u5b50 \u4e0a\u5b66 \u8001\u4eba \u559d\u8336 \u6211\u4eec \u7684 \u5de5\u4f5c \u5f00\u59cb
\u7ecf\u6d4e \u53d1\u5c55 \u95ee\u9898 \uff0c \u3002 \u548c
"""
WORDS = {"English": ENGLISH.split(), "Chinese": CHINESE.split()}
RANDOM = "random Chinese characters"  # in no words, which is the worst for jieba's model
SIZES = ((10, 5), (20, 10), (60, 12))  # rows and columns of a table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=50)
    parser.add_argument("--whole", action="store_true", help="2,000 pairs at once, and nothing else")
    options = parser.parse_args()
    if options.whole:
        _whole()
        return
    count = options.pairs
    source = random.Random(0)
    for language in WORDS:
        pairs = [_pair(source, language) for _ in range(count)]
        _report(f"{language}, all text metrics", lambda pair: text.score(*pair), pairs)
        _report(f"{language}, signs of degeneration", lambda pair: degeneration.score(*pair), pairs)
        if find_spec("nltk"):
            from nltk import edit_distance

            _report(f"{language}, nltk's edit distance alone", lambda pair: edit_distance(*pair), pairs[:2])  # noqa: B023
    for rows, columns in SIZES:
        pairs = [(_table(source, rows, columns), _table(source, rows, columns)) for _ in range(3)]
        _report(f"tables of {rows} x {columns}, TEDS and TEDS-S", lambda pair: teds.both(*pair), pairs)
        if find_spec("apted"):
            _report(f"tables of {rows} x {columns}, apted for TEDS alone", _by_apted, pairs[:1])


def _whole() -> None:
    from got_train.evaluation.predictions import Prediction
    from got_train.evaluation.scored import score_predictions

    source = random.Random(0)
    for language in (*WORDS, RANDOM):
        pairs = [_pair(source, language) for _ in range(2000)]
        rows = [Prediction(page, read, id=str(number)) for number, (read, page) in enumerate(pairs)]
        start, before = time.perf_counter(), sum(os.times()[:4])
        score_predictions(rows)
        seconds, used = time.perf_counter() - start, sum(os.times()[:4]) - before
        print(f"{language}: 2,000 pairs in {seconds:.1f} s, {used:.1f} s of all processors", flush=True)


def _report(what: str, run: Callable[[tuple[str, str]], object], pairs: Sequence[tuple[str, str]]) -> None:
    run(pairs[0])  # what is loaded once
    start = time.perf_counter()
    for pair in pairs:
        run(pair)
    seconds = (time.perf_counter() - start) / len(pairs)
    print(f"{what:45} {1 / seconds:10.1f} pairs/s, 2,000 pairs in {2000 * seconds:8.1f} s", flush=True)


def _pair(source: random.Random, language: str) -> tuple[str, str]:
    gap = " " if language == "English" else ""
    words = WORDS.get(language) or [chr(code) for code in range(0x4E00, 0x4E00 + 3000)]
    page = gap.join(source.choices(words, k=CHARACTERS))[:CHARACTERS]
    return "".join(source.choice(page) if source.random() < WRONG else char for char in page), page


def _table(source: random.Random, rows: int, columns: int) -> str:
    lines = ("".join(f"<td>{source.randint(0, 9999)}</td>" for _ in range(columns)) for _ in range(rows))
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _by_apted(pair: tuple[str, str]) -> float:
    from apted import APTED, Config
    from rapidfuzz.distance import Levenshtein

    class Node:
        def __init__(self, name: str, children: Sequence[Node] = ()) -> None:
            self.name = name
            self.children = children

    class Costs(Config):
        def rename(self, one: Node, other: Node) -> float:
            return Levenshtein.normalized_distance(one.name, other.name)

    def read(table: str) -> Node:
        lines = table.split("</tr>")[:-1]
        return Node(
            "", [Node("", [Node(cell.split(">")[-1]) for cell in line.split("</td>")[:-1]]) for line in lines]
        )

    return APTED(*map(read, pair), Costs()).compute_edit_distance()


if __name__ == "__main__":
    main()
