"""Pages an hour of `got infer` on a folder: one by one, in fixed batches, the next page where one ends.

python -m benchmarks.folders [--pages 64] [--batch-size 8] [--rounds 5] [--seed 0]: pages of one to six lines
for the nano model, read in turns on one thread. A fixed batch is a job of so many pages, whose rows are not
filled again. Hours are of processor time, which does not count other work on the machine. Texts are compared.

With --layers N a random decoder of GOT's width, with so many of its 24 layers, stands behind nano's encoder,
and lengths of answers are drawn (log-uniform, 20 to 400 tokens): most of the time is decoding, as in GOT.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import paddle

from got_train.cpu import settings
from got_train.generation.hypothesis import Hypothesis
from got_train.inference.continuous import read_requests
from got_train.inference.reader import (
    Decoding,
    OcrPipeline,
    OcrRequest,
    OcrResult,
    Page,
    Prompt,
    load_pipeline,
)
from got_train.modeling.cpu.accelerate import accelerate_if_tuned
from got_train.modeling.got import Got

from .serving import NANO, WORDS

Reader = Callable[[list[OcrRequest]], Iterator[OcrResult]]
WIDTH = {"width": 1024, "heads": 16, "kv_heads": 16, "mlp_width": 2816}  # GOT's decoder


@dataclass(frozen=True)
class SizedPipeline(OcrPipeline):
    """Whose answers are as long as is said, and end by nothing else."""

    tokens: dict[OcrRequest, int] = field(default_factory=dict)
    eos_token_ids = frozenset()

    def hypothesis(self, prompt: Prompt, decoding: Decoding, retry: bool = False) -> Hypothesis:
        return super().hypothesis(prompt, replace(decoding, max_new_tokens=self.tokens[prompt.request]))


def random_pipeline(nano: OcrPipeline, layers: int, requests: list[OcrRequest], seed: int) -> OcrPipeline:
    config, random = nano.model.config, np.random.default_rng([seed, 1])
    paddle.seed(seed)
    decoder = replace(config.decoder, layers=layers, max_positions=1024, **WIDTH)
    model = Got(replace(config, decoder=decoder)).eval()
    accelerate_if_tuned(model)
    tokens = np.exp(random.uniform(np.log(20), np.log(400), len(requests))).astype(int).tolist()
    return SizedPipeline(
        model,
        nano.tokenizer,
        no_repeat_ngram_size=0,
        stop_loops=False,
        tokens=dict(zip(requests, tokens, strict=True)),
    )


def draw(folder: Path, count: int, seed: int) -> list[OcrRequest]:
    """Pages of one to six lines of one or two words, in random order."""
    from data_tools.drawing.fonts import find_fonts
    from data_tools.engines.lines import render_page

    font, random = find_fonts(["Lato-Regular"])[0], np.random.default_rng(seed)
    requests = []
    for number in range(count):
        lengths = random.integers(1, 3, random.integers(1, 7))
        lines = [" ".join(random.choice(WORDS, length).tolist()) for length in lengths]
        file = folder / f"{number:04}.png"
        render_page(lines, font, 11, 128, np.random.default_rng([seed, number])).image.save(file)
        requests.append(OcrRequest((Page(str(file)),), "ocr"))
    return requests


def ways(pipeline: OcrPipeline, size: int) -> dict[str, Reader]:
    drawn = isinstance(pipeline, SizedPipeline)  # a batch_size of 1 would ask it for no lengths

    def jobs(requests: list[OcrRequest], pages: int) -> Iterator[OcrResult]:
        for start in range(0, len(requests), pages):
            yield from pipeline.read(requests[start : start + pages], size)

    return {
        "one by one": lambda requests: jobs(requests, 1) if drawn else pipeline.read(requests),
        f"fixed batches of {size}": lambda requests: jobs(requests, size),
        f"continuous batches of {size}": lambda requests: read_requests(pipeline, requests, size),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pages", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--layers", type=int, help="a random decoder of GOT's width, not nano's")
    options = parser.parse_args()
    settings.tune(options.threads)
    pipeline = load_pipeline(NANO, retry_loops=True)
    answers: dict[str, list[OcrResult]] = {}
    with tempfile.TemporaryDirectory() as folder:
        requests = draw(Path(folder), options.pages, options.seed)
        if options.layers:
            pipeline = random_pipeline(pipeline, options.layers, requests, options.seed)
        readers = ways(pipeline, options.batch_size)
        seconds = {name: [] for name in readers}
        list(pipeline.read(requests[:2], 2))  # what the first run of an operator takes
        for _ in range(options.rounds):
            for name, read in readers.items():
                began = time.process_time()
                answers[name] = list(read(requests))
                seconds[name].append(time.process_time() - began)
    alone = answers["one by one"]
    lengths = sorted(len(answer.ids) for answer in alone)
    middle = lengths[len(lengths) // 2]
    print(f"{options.pages} pages, answers of {lengths[0]} to {lengths[-1]} tokens, half below {middle}\n")
    print("| | pages an hour | against one by one | other texts |\n|---|---|---|---|")
    first = statistics.median(seconds["one by one"])
    for name, taken in seconds.items():
        median = statistics.median(taken)
        others = sum(a.text != b.text for a, b in zip(alone, answers[name], strict=True))
        print(f"| {name} | {options.pages * 3600 / median:,.0f} | {first / median:.2f} | {others} |")


if __name__ == "__main__":
    main()
