"""Records and pictures of an object store, which here is fsspec's memory, made to fail in several ways."""

import json
import threading
import time
from dataclasses import replace

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image

from got_train import remote_files
from got_train.config.loader import load_config
from got_train.data.records import open_stream, read_records
from got_train.errors import ImageError
from got_train.images import open_image
from got_train.remote_files import RemoteCache, RemoteError, is_url, join
from got_train.training import run
from got_train.training.sources import source_stamps


class Flaky(MemoryFileSystem):
    """Raises `failures` before it opens anything, and counts what it is asked for."""

    protocol = "flaky"
    store, failures, opened, hangs = {}, [], [], None

    def _open(self, path, *args, **kwargs):
        Flaky.opened.append(path)
        if Flaky.hangs is not None:
            Flaky.hangs.wait(20)
        if Flaky.failures:
            raise Flaky.failures.pop(0)
        return super()._open(path, *args, **kwargs)


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    """An empty store, and a cache that waits hardly at all."""
    fsspec.register_implementation("flaky", Flaky, clobber=True)
    Flaky.store, Flaky.failures, Flaky.opened, Flaky.hangs = {}, [], [], None
    cache = RemoteCache(folder=tmp_path / "cache", wait=0.01, silence=5)
    monkeypatch.setattr(remote_files, "_cache", cache)
    yield cache
    fsspec.filesystem("memory").store.clear()


def put(url, content):
    with fsspec.open(url, "wb") as file:
        file.write(content)


def picture(seed, folder):
    path = folder / f"picture{seed}.png"
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path.read_bytes()


def records_in(root, folder, count=4):
    rows = []
    for number in range(count):
        put(f"{root}/pages/{number}.png", picture(number, folder))
        rows.append({"images": [f"pages/{number}.png"], "task": "ocr", "text": f"page {number}"})
    put(f"{root}/records.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    return f"{root}/records.jsonl"


def test_urls_are_told_from_paths_and_joined_with_slashes():
    assert is_url("s3://a/b")
    assert is_url("memory://x")
    assert not any(map(is_url, ("C:\\a", "C:/a", "a/b.jsonl", "/a//b", b"s3://a")))
    assert join("s3://a/b/", "c/d.png") == "s3://a/b/c/d.png"
    assert join("data", "gs://a/d.png") == "gs://a/d.png"
    assert join("data", "/abs/d.png") == "/abs/d.png"


def test_records_and_pictures_are_those_of_the_same_files_on_disk(tmp_path):
    url = records_in("memory://bucket/set", tmp_path)
    records = read_records(url, check_files=True)
    assert [record.text for record in records] == [f"page {number}" for number in range(4)]
    assert records[2].images == ("memory://bucket/set/pages/2.png",)
    assert records[2].location == f"{url}:3"
    for number, record in enumerate(records):
        local = np.asarray(Image.open(tmp_path / f"picture{number}.png"))
        assert np.array_equal(np.asarray(open_image(record.images[0])), local)
    streamed = open_stream(url)
    assert [streamed[row].images for row in range(4)] == [record.images for record in records]


def test_parquet_shards_are_found_by_a_pattern(tmp_path):
    import pyarrow
    import pyarrow.parquet

    for shard in range(3):
        table = {"image": [f"{shard}.png"] * 2, "text": [f"shard {shard} row {row}" for row in range(2)]}
        pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "shard.parquet")
        put(f"memory://bucket/shards/{shard}.parquet", (tmp_path / "shard.parquet").read_bytes())
    records = read_records("memory://bucket/shards/*.parquet", task="ocr")
    assert [record.text for record in records] == [f"shard {i // 2} row {i % 2}" for i in range(6)]
    assert records[5].images == ("memory://bucket/shards/2.png",)


def test_each_file_is_fetched_once(tmp_path):
    records = read_records(records_in("flaky://set", tmp_path))
    Flaky.opened.clear()
    for _ in range(3):
        open_image(records[0].images[0])
    assert len(Flaky.opened) == 1


def test_a_store_that_fails_is_asked_four_times_and_then_named(tmp_path):
    records = read_records(records_in("flaky://set", tmp_path))
    Flaky.failures = [ConnectionError("reset by peer")] * 3
    Flaky.opened.clear()
    open_image(records[0].images[0])
    assert len(Flaky.opened) == 4
    Flaky.failures = [ConnectionError("reset by peer")] * 9
    said = (
        r"flaky://set/pages/1\.png: not read in 4 attempts, at last ConnectionError: reset by peer; look at "
        "the store"
    )
    with pytest.raises(ImageError, match=said):
        open_image(records[1].images[0])


def test_what_is_not_there_or_not_allowed_is_not_asked_for_again(tmp_path):
    with pytest.raises(RemoteError, match=r"memory://set/none\.jsonl: no such file in the store"):
        read_records("memory://set/none.jsonl")
    records = read_records(records_in("flaky://set", tmp_path))
    Flaky.failures, Flaky.opened = [PermissionError("no key")] * 2, []
    with pytest.raises(ImageError, match=r"pages/0\.png: PermissionError: no key"):
        open_image(records[0].images[0])
    assert len(Flaky.opened) == 1
    with pytest.raises(RemoteError, match="nothing://a/b: ValueError: Protocol not known"):
        read_records("nothing://a/b")


def test_a_store_that_says_nothing_is_given_up(tmp_path, store, monkeypatch):
    records = read_records(records_in("flaky://set", tmp_path))
    monkeypatch.setattr(remote_files, "_cache", replace(store, attempts=2, silence=0.2))
    Flaky.hangs, began = threading.Event(), time.monotonic()
    try:
        with pytest.raises(ImageError, match=r"not read in 2 attempts, at last TimeoutError: silence"):
            open_image(records[0].images[0])
        assert time.monotonic() - began < 5
    finally:
        Flaky.hangs.set()


def test_pictures_longest_unused_leave_and_data_files_stay(tmp_path, store, monkeypatch):
    url = records_in("memory://set", tmp_path, count=40)
    size = len(picture(0, tmp_path))
    monkeypatch.setattr(remote_files, "_cache", replace(store, max_bytes=10 * size))
    records = read_records(url)
    for record in records:
        open_image(record.images[0])
        held = list((store.folder / remote_files.PICTURES).iterdir())
        assert sum(file.stat().st_size for file in held) <= 11 * size
        open_image(records[0].images[0])  # used all the time, so it stays
    assert remote_files._key(records[0].images[0]) in {file.name for file in held}
    assert [record.text for record in records][39] == "page 39"


def test_a_data_file_that_changes_is_another_file_to_a_run(tmp_path):
    url = records_in("memory://set", tmp_path)
    data = load_config(_config(tmp_path, url)).data
    before = source_stamps(data)
    assert source_stamps(data) == before
    records_in("memory://set", tmp_path, count=5)
    assert source_stamps(data) != before
    assert len(read_records(url)) == 5


def test_a_folder_of_a_store_is_told_what_to_name(tmp_path):
    records_in("memory://set", tmp_path)
    with pytest.raises(RemoteError, match=r"memory://set/pages: a folder of a store; name a file"):
        read_records("memory://set/pages")


def _config(folder, url):
    (folder / "run.yaml").write_text(json.dumps({"data": {"train": url}}))
    return folder / "run.yaml"


def test_a_run_over_a_store_has_the_losses_of_one_over_files(tiny_run, tmp_path):
    """With two processes that read and decode."""
    path, losses = tiny_run(), []
    for file in tmp_path.glob("*.png"):
        put(f"memory://run/{file.name}", file.read_bytes())
    put("memory://run/data.jsonl", (tmp_path / "data.jsonl").read_bytes())
    for source in (str(tmp_path / "data.jsonl"), "memory://run/data.jsonl"):
        overrides = [f"data.train={source}", f"train.output_dir={tmp_path / 'run'}{len(losses)}"]
        overrides += ["train.max_steps=3", "data.num_workers=2", f"data.remote_cache={tmp_path / 'copies'}"]
        trainer, seen = run.build_trainer(load_config(path, overrides)), []
        log = trainer.log
        trainer.log = lambda logs, seen=seen, log=log, **more: (
            seen.append(logs.get("loss")),
            log(logs, **more),
        )
        trainer.train(resume_from_checkpoint=None)
        losses.append([loss for loss in seen if loss is not None])
    assert len(losses[0]) == 3
    assert losses[0] == losses[1]
