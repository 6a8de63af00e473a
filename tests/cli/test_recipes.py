"""The recipes of configs/finetune: which parts a first step moves, and how far."""

from pathlib import Path

import numpy as np
import pytest

from got_train.config.loader import load_config
from got_train.training import run

ROOT = Path(__file__).parents[2]
NANO = ROOT / "configs" / "nano" / "weights" / "stage3"
SMALL = (
    "train.max_steps=1",
    "train.batch_size=4",
    "train.per_device_train_batch_size=4",
    "train.precision=float32",
)


@pytest.fixture
def moved(tiny_run, tmp_path, arrays):
    """A function: of each part that a recipe has kept, the largest change by one step from the nano model."""
    tiny_run()

    def moved(recipe, file="model.safetensors"):
        places = (f"model.init_from={NANO}", f"data.train={tmp_path / 'data.jsonl'}", "data.num_workers=0")
        output = (f"train.output_dir={tmp_path / recipe}", "data.max_tokens=256", "train.threads=1")
        made = run.train(load_config(ROOT / f"configs/finetune/{recipe}.yaml", [*places, *output, *SMALL]))
        before, after = arrays(NANO / "model.safetensors"), arrays(made / file)
        changes = {}
        for name, value in after.items():
            change = float(np.abs(value - before.get(name, 0)).max())
            changes[name] = change
        return changes

    return moved


def largest(changes, *words):
    return max(change for name, change in changes.items() if any(word in name for word in words))


def test_encoder_moves_all_parts_the_encoder_by_a_tenth(moved):
    """The first update of Adam moves a weight by its learning rate, whatever the gradient."""
    changes = moved("encoder")
    vision = [name for name in changes if "vision_tower" in name]
    decoder = [name for name in changes if "layers." in name and name not in vision]
    assert largest(changes, *vision) == pytest.approx(2e-6, rel=0.1)
    assert largest(changes, *decoder) == pytest.approx(2e-5, rel=0.1)
    assert largest(changes, "mm_projector") == pytest.approx(2e-5, rel=0.1)


def test_full_leaves_the_encoder_as_it_is(moved):
    changes = moved("full")
    assert largest(changes, "vision_tower") == 0
    assert largest(changes, "mm_projector") == pytest.approx(2e-5, rel=0.1)


def test_lora_keeps_matrices_of_the_decoder_only(moved):
    changes = moved("lora", "adapter.safetensors")
    assert all(name.startswith("decoder.") and ".lora_" in name for name in changes)
    assert largest(changes, "lora_B") == pytest.approx(2e-4, rel=0.01)  # from 0
