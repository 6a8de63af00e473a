"""What stands in the repository: no traces, runs or checkpoints that nobody meant to keep."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MOST_BYTES = 1_000_000
MEANT = {  # larger files, each with its reason
    "configs/nano/weights/stage2/model.safetensors": "the quickstart starts from it",
    "configs/nano/weights/stage3/model.safetensors": "fine-tuning examples start from it",
    "got_train/doctor/got_tiny/model.safetensors": "the peer's tiny model",
    "got_train/doctor/got_tiny/original/model.safetensors": "the same in the original layout",
    "got_train/doctor/got_tiny/batch_grads.safetensors": "the peer's gradients of a batch",
    "got_train/doctor/got_tiny/multi_grads.safetensors": "of several views",
    "got_train/doctor/got_tiny/single_grads.safetensors": "of one view",
}


def test_no_tracked_file_is_above_a_megabyte_unless_it_is_listed():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    names = [name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]
    assert len(names) > 300
    large = {name for name in names if (ROOT / name).stat().st_size > MOST_BYTES}
    assert large == MEANT.keys(), "a file above 1 MB is listed in MEANT with its reason, or not tracked"
