"""Two to eight pages read in one go, each short enough that all fit into the context: multi_page records.

Pages are records that engines made, of several languages where several are given; their pictures stay as
they are.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_tools import arguments, produce, record_source
from got_train.errors import DrawingError

from . import crops

if TYPE_CHECKING:
    import numpy

TRIES = 200  # draws of pages for one record; long pages are passed over


@dataclass(frozen=True, kw_only=True)
class MultipageEngine:
    """One record a number: pages drawn by lot from all sources, joined in the order drawn."""

    sources: tuple[record_source.MadeRecords, ...]
    tokenizer: str  # its folder
    pages: tuple[int, int]  # in a document
    page_tokens: int  # every page has fewer
    most_tokens: int  # of prompt, views and text together
    view_tokens: int  # of one page
    name: str = "multipage"
    attempts: int = 50

    def rows(self, index: int, rng: numpy.random.Generator) -> list[produce.Row]:
        count = int(rng.integers(self.pages[0], self.pages[1] + 1))
        chosen = self._chosen(count, rng)
        text = "\n".join(page.text for page in chosen)
        tokens = self._total(text, count)
        if tokens > self.most_tokens:
            raise produce.Rejected(f"more than {self.most_tokens} tokens in all")
        pictures = tuple(
            produce.Picture(f"{index:08d}-{position}{Path(page.picture.name).suffix}", page.picture.data)
            for position, page in enumerate(chosen)
        )
        meta = {"pages": [page.id for page in chosen], "tokens": tokens}
        return [produce.Row(f"{self.name}-{index:08d}", pictures, "multi_page", text, meta=meta)]

    def _chosen(self, count: int, rng: numpy.random.Generator) -> list[record_source.Made]:
        """Different pages with fewer tokens than the limit; every source as likely as the others."""
        encode = crops.load(self.tokenizer).encode
        pages: dict[tuple[int, int], record_source.Made] = {}
        for _ in range(TRIES):
            source = int(rng.integers(len(self.sources)))
            key = source, int(rng.integers(len(self.sources[source])))
            page = self.sources[source][key[1]]
            if key not in pages and len(encode(page.text)) < self.page_tokens:
                pages[key] = page
            if len(pages) == count:
                return list(pages.values())
        raise produce.Rejected(f"too few pages under {self.page_tokens} tokens")

    def _total(self, text: str, pages: int) -> int:
        """All that the decoder reads and writes: prompt with views, text, and the end."""
        from got_train import prompts

        tokenizer = crops.load(self.tokenizer)
        prompt = prompts.build_prompt("multi_page", views=pages, view_tokens=self.view_tokens)
        return len(tokenizer.encode_prompt(prompt)) + len(tokenizer.encode_answer(text))


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    options = arguments.CommandParser(
        prog="python -m data_tools.engines.multipage",
        description="Join pages to documents and write them as records.",
    )
    arguments.add_arguments(options, shard_pages=100, counted="documents")
    crops.add_record_arguments(options, default=("format",))
    options.add_argument("--tokenizer", required=True, help="folder of the tokenizer that counts")
    options.add_argument("--pages", type=arguments.span, default=(2, 8), help="in a document (default: 2-8)")
    options.add_argument(
        "--page-tokens",
        type=arguments.positive,
        default=650,
        help="every page has fewer (default: %(default)s)",
    )
    options.add_argument(
        "--most-tokens", type=arguments.positive, default=8000,
        help="of prompt, views and text together (default: %(default)s)",
    )  # fmt: skip
    options.add_argument(
        "--view-tokens", type=arguments.positive, default=256, help="of one page (default: %(default)s)"
    )
    return options


def make(args: argparse.Namespace) -> dict[str, Any]:
    """Records as the options ask; returns the counts."""
    sources = tuple(record_source.open_records([Path(path)], args.page_tasks) for path in args.records)
    least = args.pages[0] * args.view_tokens
    if least >= args.most_tokens:
        raise DrawingError(
            f"--most-tokens {args.most_tokens}: {args.pages[0]} views alone are {least}; give more"
        )
    crops.load(args.tokenizer)  # a wrong folder ends the command here, not in a worker
    engine = MultipageEngine(
        sources=sources,
        tokenizer=args.tokenizer,
        pages=args.pages,
        page_tokens=args.page_tokens,
        most_tokens=args.most_tokens,
        view_tokens=args.view_tokens,
    )
    return produce.write(
        engine, args, args.count, files=[record_source.fingerprint(source) for source in sources]
    )


main = produce.command(parser, make)

if __name__ == "__main__":
    sys.exit(main())
