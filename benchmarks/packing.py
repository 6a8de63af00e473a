"""Supervised tokens a second in packed rows and in padded ones, on lengths as stage 2's engines give them.

python -m benchmarks.packing [--rows 8] [--batches 4]: forward and backward pass of the decoder
with its loss. 6 of the 24 layers and a quarter of the words are taken, which keeps their proportion; features
count as cached. A sample has its engine's share of the rows and an answer of its engine's mean length times
exp(normal(0, spread)), as engines tell means alone; `--spread 0` gives every engine one length. One thread,
and seconds of processor time, as machines are shared.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from got_train.cpu import settings

from .scaling import read_stages

NANO = Path(__file__).resolve().parents[1] / "configs/nano"
LAYERS, WORDS = 6, 151_860 // 4
MOST, PACK = 8192, 2048  # tokens: data.max_tokens, data.packing_length


def lengths(samples: int, spread: float) -> list[tuple[int, int]]:
    """Tokens and supervised tokens of samples drawn by a seed."""
    sources = read_stages()[1].sources
    generator = np.random.default_rng(0)
    rows = np.array([source.rows for source in sources])
    found = []
    for place in generator.choice(len(sources), samples, p=rows / rows.sum()):
        source = sources[place]
        # so that the mean stays the engine's
        factor = np.exp(generator.normal(-(spread**2) / 2, spread))
        prompt = source.tokens - source.supervised
        answer = max(2, min(MOST - prompt, round(source.supervised * factor)))
        found.append((prompt + answer, answer))
    return found


def batches(drawn: Sequence[tuple[int, int]], rows: int, pack: int) -> list[dict[str, np.ndarray]]:
    """What a run's collator makes of them."""
    from got_train.data.collator import Collator, Sample
    from got_train.modeling.config import IGNORED
    from got_train.tokenizer import load_tokenizer

    collator = Collator(load_tokenizer(NANO / "tokenizer"), 128, 16, pack=pack)
    generator, found = np.random.default_rng(1), []
    for start in range(0, len(drawn), rows):
        samples = []
        for tokens, answer in drawn[start : start + rows]:
            ids = generator.integers(0, WORDS, tokens)
            labels = np.where(np.arange(tokens) < tokens - answer, IGNORED, ids)
            samples.append(Sample(ids, labels, np.zeros((1, 1, 1, 3), np.uint8), "drawn"))
        found.append(collator.batch(samples))
    return found


def seconds(model: object, batch: dict[str, np.ndarray]) -> float:
    import paddle

    from got_train.modeling.config import IGNORED
    from got_train.modeling.loss import fused_linear_cross_entropy

    given = {key: paddle.to_tensor(batch[key]) for key in batch if key != "pixel_values"}
    began = time.process_time()
    hidden = model(model.embed(given["input_ids"]), given["attention_mask"], given.get("position_ids"))
    total, count = fused_linear_cross_entropy(hidden, model.head, given["labels"], IGNORED)
    (total / count).backward()
    taken = time.process_time() - began
    for parameter in model.parameters():
        parameter.clear_gradient(set_to_zero=False)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.packing", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=8, help="samples of a micro-batch")
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--spread", type=float, default=0.5)
    options = parser.parse_args()
    settings.tune(1)
    from got_train.modeling.config import DecoderConfig
    from got_train.modeling.cpu.accelerate import accelerate
    from got_train.modeling.decoder import build_decoder
    from got_train.profiling.memory import peak_memory

    drawn = lengths(options.rows * options.batches, options.spread)
    model = build_decoder(DecoderConfig(vocab_size=WORDS, layers=LAYERS))
    accelerate(model)
    made = {name: batches(drawn, options.rows, pack) for name, pack in (("packed", PACK), ("padded", 0))}
    seconds(model, made["packed"][0])  # the first run chooses code paths
    taken = dict.fromkeys(made, 0.0)
    supervised = sum(answer for _, answer in drawn)
    head = ("", "places", "of which padding", "seconds", "supervised tokens/s", "GB at most")
    print(f"| {' | '.join(head)} |\n|{len(head) * '---|'}")
    for name, each in made.items():  # the one that takes less memory first, as peaks stay
        taken[name] = sum(seconds(model, batch) for batch in each)
        places = sum(batch["input_ids"].size for batch in each)
        padding = 1 - sum(tokens for tokens, _ in drawn) / places
        gigabytes = peak_memory() / 2**30
        speed = supervised / taken[name]
        print(f"| {name} | {places:,} | {padding:.0%} | {taken[name]:.1f} | {speed:.1f} | {gigabytes:.1f} |")
    print(f"packed is {taken['padded'] / taken['packed']:.2f} times as fast")


if __name__ == "__main__":
    main()
