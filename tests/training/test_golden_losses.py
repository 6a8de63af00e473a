"""Thirty steps of each kind of training give the losses and weights that they gave when recorded."""

import json

import pytest

from tests.golden_losses import LOSSES, RUNS, STEPS, largest_difference, machine, train

# on another processor: sums in another order move the losses by 4e-6 in 90 steps (SSE4.2 instead of AVX2 in
# MKL, oneDNN and numba); a stage starts from the one before, so that little faults grow too
OTHER_PROCESSOR = 1e-5
GOLDEN = json.loads(LOSSES.read_text(encoding="utf-8"))
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    return train(tmp_path_factory.mktemp("golden"))


@pytest.mark.parametrize("name", RUNS)
def test_thirty_steps_give_the_golden_losses_and_weights(seen, name):
    golden = GOLDEN["runs"][name]
    assert len(golden["losses"]) == STEPS
    if machine() == GOLDEN["machine"]:
        assert seen[name]["losses"] == golden["losses"]
        assert seen[name]["weights"] == golden["weights"]
    else:
        assert largest_difference(golden["losses"], seen[name]["losses"]) < OTHER_PROCESSOR


@pytest.mark.parametrize("name", RUNS)
def test_the_golden_losses_fall(name):
    """A run that learns nothing would hide most faults."""
    losses = [float.fromhex(loss) for loss in GOLDEN["runs"][name]["losses"]]
    assert sum(losses[-10:]) < 0.95 * sum(losses[:10])


def test_packed_rows_give_the_losses_of_single_ones():
    """Same seed, pages and start as stage 2, four pages in a row or one: within float32's roundings."""
    assert largest_difference(GOLDEN["runs"]["stage2"]["losses"], GOLDEN["runs"]["packed"]["losses"]) < 1e-6
