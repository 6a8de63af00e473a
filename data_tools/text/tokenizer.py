"""The small tokenizer of the nano model, trained on the words of the corpora and of the prompts.

Prompts count 10,000 times, so that their words become single tokens and leave the text to the letters. With
--print, signs such as the euro's count as often, each becomes a token, and no word of the corpora does.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import corpora, printed
from .phrases import lowercase

PROMPT_SHARE = 10_000
WORDS = 200_000  # of the corpora


def texts(signs: str = "") -> list[str]:
    """What the tokenizer is trained on: all prompts of the nano model, and words as its pages show them.

    With signs the text is left to single characters, and these are among them.
    """
    from got_train import prompts

    asked = [prompts.build_prompt(task, view_tokens=1) for task in prompts.REGIONAL]
    asked += [prompts.build_prompt("ocr", color=color, view_tokens=1) for color in prompts.COLORS]
    asked.append(prompts.build_prompt("ocr", prompt_template="stage1", view_tokens=1))
    if signs:
        asked += [prompts.build_prompt(task, view_tokens=1) for task in (*prompts.ONE_VIEW, *prompts.WORDS)]
        return asked * PROMPT_SHARE + list(signs) * 2 * PROMPT_SHARE
    words = [word for document in lowercase(corpora.words("train")) for word in document]
    return asked * PROMPT_SHARE + [" ".join(words[:WORDS])]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m data_tools.text.tokenizer", description="Train a small tokenizer for a nano model."
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--size", type=int, default=384, help="tokens, special ones included (default: 384)")
    parser.add_argument(
        "--print", action="store_true", help="for engines.lines --text print: single characters and signs"
    )
    options = parser.parse_args(arguments)
    from got_train.errors import CheckpointError
    from got_train.tokenizer import train_tokenizer

    try:
        train_tokenizer(texts(printed.SIGNS if options.print else ""), options.size).save(options.out)
    except CheckpointError as error:
        print(f"tokenizer: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
