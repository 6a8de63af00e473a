"""The table of docs/installation.md on GPUs is the one printed today, and what must hold of it."""

from pathlib import Path

from benchmarks.gpu_memory import GPUS, RECIPES, TOKENS, adapter_sizes, gpu_memory_table, most_rows, needed
from got_train.config.loader import load_config
from got_train.modeling.config import GotConfig

ROOT = Path(__file__).parents[2]
CONFIG = GotConfig()


def test_the_page_has_the_table_of_today():
    assert gpu_memory_table() in (ROOT / "docs/installation.md").read_text(encoding="utf-8")


def test_more_memory_takes_no_fewer_rows_and_longer_rows_take_more():
    for recipe in RECIPES:
        for tokens in TOKENS:
            counts = [most_rows(recipe, memory, tokens, CONFIG) for memory in GPUS]
            assert counts == sorted(counts)
        sizes = [needed(recipe, 1, tokens, CONFIG) for tokens in TOKENS]
        assert sizes == sorted(sizes)


def test_recipes_are_those_of_the_configs():
    lora = load_config(ROOT / "configs/finetune/lora.yaml")
    assert sum(adapter_sizes(CONFIG)) == 3_784_704  # as lora.yaml says: 3.8 million
    assert (lora.lora.rank, lora.train.recompute) == (8, True)
    full = load_config(ROOT / "configs/finetune/full.yaml")
    assert (full.parts.vision.trainable, full.train.recompute) == (False, True)
    assert load_config(ROOT / "configs/finetune/encoder.yaml").parts.vision.trainable
