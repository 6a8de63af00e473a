"""What fits into a GPU when GOT is fine-tuned: the table of docs/installation.md, computed, not measured.

By the estimate that `got train --dry-run` prints too: bfloat16, one page a row in one view, rows of the same
length, 85 % of the memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.scaling import GIB, USABLE, parameter_sizes, table
from got_train.modeling.config import PARTS, GotConfig
from got_train.profiling.memory import MicroBatch, Training, estimate

GPUS = (12, 24, 40, 80)  # GB
TOKENS = (1024, 2048, 6000)  # of a row: a receipt, a page of a book, a dense page
MOST_ROWS = 32
RANK = 8  # of configs/finetune/lora.yaml


@dataclass(frozen=True)
class Recipe:
    """What trains, and what is computed twice to save memory."""

    name: str
    trained: tuple[str, ...]
    recompute: tuple[str, ...]
    adapters: bool = False


RECIPES = (
    Recipe("`finetune/lora.yaml`", ("decoder",), ("decoder",), adapters=True),
    Recipe("`finetune/full.yaml`", ("projector", "decoder"), ("decoder",)),
    Recipe("the same, `train.recompute=false`", ("projector", "decoder"), ()),
    Recipe("`finetune/encoder.yaml`", PARTS, ("vision", "decoder")),
)


def needed(recipe: Recipe, rows: int, tokens: int, config: GotConfig) -> int:
    """Bytes at the fullest moment of a step, with gradients of several micro-batches summed."""
    sizes = parameter_sizes(config)
    trained: Mapping[str, Sequence[int]] = {part: sizes[part] for part in recipe.trained}
    frozen = {part: sizes[part] for part in PARTS if part not in recipe.trained}
    if recipe.adapters:
        trained, frozen = {"decoder": adapter_sizes(config)}, sizes
    training = Training(
        config, trained, frozen, recipe.recompute, accumulates=True, precision="bfloat16", device="gpu"
    )
    supervised = rows * (tokens - config.vision.view_tokens)
    return estimate(training, MicroBatch(rows, tokens, supervised, rows))


def adapter_sizes(config: GotConfig) -> list[int]:
    """Two matrices for each linear layer of the decoder."""
    decoder = config.decoder
    keys = decoder.width // decoder.heads * decoder.kv_heads
    pairs = [(decoder.width, decoder.width)] * 2 + [(decoder.width, keys)] * 2
    pairs += [(decoder.width, decoder.mlp_width)] * 3
    return [RANK * side for _ in range(decoder.layers) for pair in pairs for side in pair]


def most_rows(recipe: Recipe, memory: int, tokens: int, config: GotConfig) -> int:
    """The largest power of two that fits; 0 if not one row does."""
    counts = [2**power for power in range(MOST_ROWS.bit_length())]
    fitting = [rows for rows in counts if needed(recipe, rows, tokens, config) <= USABLE * memory * GIB]
    return max(fitting, default=0)


def rows() -> Iterator[tuple[str, ...]]:
    """Per recipe and length: what one row takes, and the rows of a micro-batch by the GPU's memory."""
    config = GotConfig()
    for recipe in RECIPES:
        for tokens in TOKENS:
            one = f"{needed(recipe, 1, tokens, config) / GIB:.1f}"
            counts = [most_rows(recipe, memory, tokens, config) for memory in GPUS]
            yield recipe.name, f"{tokens:,}", one, *(f"{count}" if count else "-" for count in counts)


def gpu_memory_table() -> str:
    head = ("config", "tokens a row", "GB for one row", *(f"{memory} GB" for memory in GPUS))
    return table(head, rows())


if __name__ == "__main__":
    print(gpu_memory_table())
