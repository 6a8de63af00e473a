"""Ten million rows: generated places in a file that is mostly a hole; only rows that are asked for exist."""

import json
import pickle
import tracemalloc
from array import array

import numpy as np
import pytest

from got_train.data import line_files
from got_train.data.line_files import RecordFile
from got_train.data.mixture import Mixture

ROWS, LENGTH = 10_000_000, 96


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """A RecordFile over a gigabyte that takes a few kilobytes of disk."""
    path = tmp_path_factory.mktemp("rows") / "data.jsonl"
    path.write_bytes(line(0))
    with path.open("r+b") as file:
        file.truncate(ROWS * LENGTH)
    starts = array("q")
    starts.frombytes(np.arange(0, (ROWS + 1) * LENGTH, LENGTH, dtype=np.int64).tobytes())
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(line_files, "_line_starts", lambda path: (starts, array("q")))
        return RecordFile(path)


def line(row):
    text = json.dumps({"images": ["page.png"], "task": "ocr", "text": f"row {row}"})
    return text.ljust(LENGTH - 1).encode() + b"\n"


def written(records, row):
    """The record of a row, which is put into the file first."""
    with open(records.path, "r+b") as file:
        file.seek(row * LENGTH)
        file.write(line(row))
    return records[row]


def test_a_row_anywhere_is_read_by_its_place(records):
    assert len(records) == ROWS
    for row in (0, 1, 4_999_999, ROWS - 1):
        assert written(records, row).text == f"row {row}"
        assert records.location(row).endswith(f"data.jsonl:{row + 1}")


def test_the_rows_take_8_bytes_each_and_their_order_4(records, processor_seconds):
    """Start-up, a draw of the middle, as when a run is resumed, and a second epoch; nothing is kept of it."""
    assert len(pickle.dumps(records)) < 8.1 * ROWS
    tracemalloc.start()
    began = processor_seconds()
    mixture = Mixture([records], seed=3)
    drawn = [mixture.place(draw) for draw in (0, 7, ROWS // 2, ROWS - 1, ROWS, 2 * ROWS + 5)]
    seconds, (held, peak) = processor_seconds() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert {source for source, _ in drawn} == {0}
    assert held < 4.1 * ROWS
    assert peak < 3 * 4.1 * ROWS  # numbers, their order, and that of the epoch before
    assert seconds < 30
    assert len(pickle.dumps(mixture)) < 8.1 * ROWS  # a worker draws its own order


def test_draws_do_not_depend_on_what_was_drawn_before(records):
    draws = (3, ROWS - 2, ROWS + 3, 5)
    asked = Mixture([records], seed=3)
    assert [asked.place(draw) for draw in draws] == [Mixture([records], seed=3).place(draw) for draw in draws]
    expected = np.random.default_rng([3, 0, 0]).permutation(ROWS)  # as runs of earlier versions drew them
    assert [asked.place(draw)[1] for draw in (3, ROWS - 2, 5)] == list(expected[[3, ROWS - 2, 5]])


def test_weighted_sources_share_a_run_from_its_middle_as_from_its_start(records):
    asked = Mixture([records, records], weights=[0.8, 0.2], seed=3)
    block = [asked.place(draw)[0] for draw in range(7_000_000, 7_001_000)]
    assert block.count(0) == 800
