"""Features kept across epochs: the same bytes as without, nothing computed twice, nothing stale or torn."""

import re
from collections import namedtuple

import numpy as np
import paddle
import pytest

from got_train.config.loader import load_config
from got_train.errors import ConfigError
from got_train.modeling.cpu.accelerate import accelerate, restore
from got_train.modeling.vision import Vision
from got_train.training import feature_cache
from got_train.training.dry_run import dry_run
from got_train.training.feature_cache import FeatureCache, FeatureCacheError, encoder_fingerprint
from got_train.training.run import build_trainer

FROZEN = (
    "parts.vision.trainable=false",
    "train.max_steps=0",
    "train.num_train_epochs=2",
)  # 16 steps over 64 views


def same(one, other):
    """Whether two runs have the same losses and weights, bit for bit."""
    equal = [np.array_equal(one.after[name], other.after[name]) for name in other.after]
    return one.losses == other.losses and one.after.keys() == other.after.keys() and all(equal)


@pytest.fixture
def passes(monkeypatch):
    """The number of views of every pass of an encoder."""
    seen, neck_map = [], Vision.neck_map

    def counted(self, pixels):
        seen.append(len(pixels))
        return neck_map(self, pixels)

    monkeypatch.setattr(Vision, "neck_map", counted)
    return seen


@pytest.fixture
def kept(random_model, tmp_path):
    """An encoder, five views, the cache of the encoder, and what it gives without."""
    vision = random_model().vision
    views = paddle.to_tensor(np.random.default_rng(1).normal(size=(5, 3, 64, 64)).astype("float32"))
    with paddle.no_grad():
        plain = np.concatenate([vision(views[place : place + 1]).numpy() for place in range(5)])
    cache = FeatureCache(vision, tmp_path / "features")
    cache.attach()
    return namedtuple("Kept", "vision views cache plain")(vision, views, cache, plain)


def files(folder):
    return sorted(folder.rglob("*.features"))


# ---- runs


def test_two_epochs_with_and_without_are_the_same_and_the_encoder_sees_each_view_once(
    fit, tmp_path, passes, within
):
    kept = fit(*FROZEN, f"train.feature_cache={tmp_path}/features", f"train.output_dir={tmp_path}/a")
    assert passes == [1] * 64
    cache = kept.trainer.callback(FeatureCache)
    assert (cache.computed, cache.read) == (64, 64)
    one_by_one = fit(*FROZEN, "train.per_device_train_batch_size=1", f"train.output_dir={tmp_path}/b")
    kept_one_by_one = fit(
        *(*FROZEN, "train.per_device_train_batch_size=1", f"train.output_dir={tmp_path}/c"),
        f"train.feature_cache={tmp_path}/others",
    )
    assert same(kept_one_by_one, one_by_one)
    plain = fit(*FROZEN, f"train.output_dir={tmp_path}/d")  # here 8 views share a pass
    assert len(kept.losses) == 16
    within("losses", max(abs(np.subtract(kept.losses, plain.losses))), 1e-6)
    differences = [np.abs(kept.after[name] - plain.after[name]).max() for name in plain.after]
    within("weights", max(differences), 1e-5)


def test_a_second_run_with_the_same_encoder_computes_none(fit, tmp_path, passes):
    cached = (*FROZEN, f"train.feature_cache={tmp_path}/features")
    first = fit(*cached, f"train.output_dir={tmp_path}/a")
    passes.clear()
    second = fit(*cached, f"train.output_dir={tmp_path}/b")
    assert passes == []
    assert same(second, first)


@pytest.mark.parametrize("folder", ["features", "empty"])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(fit, tmp_path, folder):
    """With all features there, where the run left alone had to compute them, and with none."""
    cached = (*FROZEN, "train.save_steps=5")
    whole = fit(*cached, f"train.feature_cache={tmp_path}/features", f"train.output_dir={tmp_path}/a")
    again = (f"train.feature_cache={tmp_path}/{folder}", f"train.output_dir={tmp_path}/b")
    resumed = fit(*cached, *again, "train.save_total_limit=0", checkpoint=tmp_path / "a" / "checkpoint-10")
    assert len(resumed.losses) == 6
    assert resumed.losses == whole.losses[10:]
    assert all(np.array_equal(resumed.after[name], whole.after[name]) for name in whole.after)


def test_validation_and_reading_are_served_too(fit, tmp_path, passes):
    """All rows are read and validated before the run ends; the encoder still sees each view once."""
    data = f"data.validation={tmp_path}/data.jsonl"
    measured = (
        "eval.max_samples=6",
        "eval.max_new_tokens=4",
        "train.eval_steps=2",
        "train.preview_samples=2",
    )
    run = fit(*FROZEN, data, *measured, f"train.feature_cache={tmp_path}/features")
    assert sum(passes) == 64
    assert run.trainer.callback(FeatureCache).read == 64 + 8 * (64 + 6)


# ---- features


def test_what_is_kept_is_what_the_encoder_gives_in_its_own_type(kept):
    first, second = kept.vision(kept.views), kept.vision(kept.views)
    assert (kept.cache.computed, kept.cache.read) == (5, 5)
    assert np.array_equal(first.numpy(), kept.plain)
    assert np.array_equal(second.numpy(), kept.plain)
    assert first.stop_gradient and second.stop_gradient
    for dtype in ("bfloat16", "float16"):
        # the CPU encodes in float32 only; its output stands for one in half the bits
        cache = FeatureCache(kept.vision, kept.cache.folder / dtype)
        cache._compute = lambda views, dtype=dtype: paddle.to_tensor(kept.plain[:1]).astype(dtype)
        made, read = cache.features(kept.views[:1]), cache.features(kept.views[:1])
        assert cache.read == 1
        assert made.dtype == read.dtype == getattr(paddle, dtype)
        assert np.array_equal(made.numpy(), read.numpy())


def test_another_weight_or_another_pixel_is_not_found(kept):
    kept.vision(kept.views)
    changed = kept.views.clone()
    changed[4, 2, 63, 63] += 1e-6
    kept.vision(changed)
    assert (kept.cache.computed, kept.cache.read) == (6, 4)
    bias = kept.vision.patch_embed.bias
    bias.set_value(bias + 1e-6)
    kept.cache.on_train_begin(None, None, None)  # when mixed precision has cast the weights
    kept.vision(kept.views)
    assert (kept.cache.computed, kept.cache.read) == (11, 4)


def test_an_encoder_with_other_code_or_other_forwards_has_another_name(random_model, monkeypatch, tmp_path):
    encoder = random_model().vision
    first = encoder_fingerprint(encoder)
    accelerate(encoder)
    assert encoder_fingerprint(encoder) != first
    restore(encoder)
    assert encoder_fingerprint(encoder) == first
    assert {folder.name for folder in feature_cache.CODE} == {"modeling", "cpu"}
    (tmp_path / "vision.py").write_text("other = True")
    monkeypatch.setattr(feature_cache, "CODE", [*feature_cache.CODE, tmp_path])
    assert encoder_fingerprint(encoder) != first


def test_a_resumed_run_asks_by_the_weights_of_its_checkpoint(fit, tmp_path):
    """The encoder file may have become another since; the folder is named by what the checkpoint has."""
    cached = (*FROZEN, f"train.feature_cache={tmp_path}/features", "train.save_steps=8")
    fit(*cached, f"train.output_dir={tmp_path}/a")
    made = build_trainer(load_config(fit.path, [*cached, f"train.output_dir={tmp_path}/b"]))
    cache = made.callback(FeatureCache)
    assert cache.disk_usage(64).there == 64 * cache.disk_usage(64).view
    weight = made.model.vision.pos_embed
    weight.set_value(weight + 1)
    assert cache.disk_usage(64).there == 64 * cache.disk_usage(64).view  # named before that
    cache.forget_weights()
    assert cache.disk_usage(64).there == 0
    made._load_from_checkpoint(str(tmp_path / "a" / "checkpoint-8"))
    cache.on_train_begin(made.args, made.state, made.control)  # which the trainer calls once that is loaded
    assert cache.disk_usage(64).there == 64 * cache.disk_usage(64).view


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:20],
        lambda content: content[:-1],
        lambda content: content + b"\0",
        lambda content: content[:200] + bytes([content[200] ^ 1]) + content[201:],
        lambda content: bytes(len(content)),
    ],
)
def test_a_file_that_is_not_what_was_written_is_made_anew(kept, damage):
    kept.vision(kept.views)
    paths = files(kept.cache.folder)
    sound = paths[2].read_bytes()
    paths[2].write_bytes(damage(sound))
    assert np.array_equal(kept.vision(kept.views).numpy(), kept.plain)
    assert (kept.cache.computed, kept.cache.read) == (6, 4)
    assert paths[2].read_bytes() == sound


def test_a_kill_inside_a_write_leaves_nothing_that_is_read(kept, monkeypatch):
    class Killed(BaseException):
        pass

    def killed(*paths):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr("os.replace", killed)
        with pytest.raises(Killed):
            kept.vision(kept.views)
    assert files(kept.cache.folder) == []
    assert np.array_equal(kept.vision(kept.views).numpy(), kept.plain)
    assert (kept.cache.computed, kept.cache.read) == (6, 0)
    assert len(files(kept.cache.folder)) == 5


def test_files_stand_in_folders_of_two_digits_below_one_of_the_encoder(kept):
    kept.vision(kept.views)
    for path in files(kept.cache.folder):
        assert re.fullmatch(
            r"[0-9a-f]{32}/[0-9a-f]{2}/[0-9a-f]{62}\.features", str(path.relative_to(kept.cache.folder))
        )


# ---- the disk


def test_what_the_run_takes_is_counted_and_refused_where_it_is_not_there(fit, tmp_path, monkeypatch, capsys):
    """4 tokens of 16 numbers in 4 bytes, 128 of a .npy file's head and 32 of SHA-256: 416 bytes a view."""
    disk = namedtuple("Disk", "total used free")
    monkeypatch.setattr(feature_cache.shutil, "disk_usage", lambda path: disk(0, 0, 64 * 416 - 1))
    cached = (*FROZEN, f"train.feature_cache={tmp_path}/features")
    with pytest.raises(
        ConfigError, match=r"features: 0\.000416 MB a view, .* for about 64 views; .* make room"
    ):
        fit(*cached)
    with pytest.raises(ConfigError, match="make room"):
        dry_run(load_config(fit.path, cached))
    monkeypatch.setattr(feature_cache.shutil, "disk_usage", lambda path: disk(0, 0, 64 * 416))
    capsys.readouterr()
    fit(*cached, f"train.output_dir={tmp_path}/a")
    said = f"train.feature_cache {tmp_path}/features: 0.000416 MB a view, 0.0 MB for about 64 views"
    assert said in capsys.readouterr().err
    assert [path.stat().st_size for path in files(tmp_path / "features")] == [416] * 64
    monkeypatch.setattr(feature_cache.shutil, "disk_usage", lambda path: disk(0, 0, 0))
    fit(*cached, f"train.output_dir={tmp_path}/b")  # all is there


def test_a_dry_run_tells_it_and_makes_none(fit, tmp_path):
    report = dry_run(load_config(fit.path, [*FROZEN, f"train.feature_cache={tmp_path}/features"]))
    assert "features   0.000416 MB a view, 0.0 MB for about 64 views; 0.0 MB are there, " in report
    assert not (tmp_path / "features").exists()


def test_a_stream_tells_no_number(fit, tmp_path, capsys):
    source = f"data.train=[{{path: {tmp_path}/data.jsonl, streaming: true, weight: 1}}]"
    cached = (f"train.feature_cache={tmp_path}/features", "parts.vision.trainable=false", "train.max_steps=1")
    fit(*cached, source)
    assert "0.000416 MB a view, an unknown number of views; 0.0 MB are there" in capsys.readouterr().err
    assert len(files(tmp_path / "features")) == 8


def test_a_disk_that_fills_up_ends_the_run_with_its_place(kept, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(feature_cache, "write_atomic", full)
    with pytest.raises(
        FeatureCacheError, match=r"\.features: could not be written \(No space left on device\); "
    ):
        kept.vision(kept.views)


@pytest.mark.parametrize(
    ("overrides", "fault"),
    [
        ((), r"train\.feature_cache \(kept\) keeps what parts\.vision gives, which trains"),
        (("train.char_loss_weight=1",), r"train\.feature_cache \(kept\) keeps what parts\.vision gives"),
        (
            ("train.char_loss_weight=1", "parts.vision.trainable=false"),
            r"train\.char_loss_weight \(1\.0\) teaches",
        ),
        (
            ("lora.rank=2", "lora.parts=[vision]", "model.init_from=base"),
            r"train\.feature_cache \(kept\) keeps what parts\.vision gives",
        ),
        (
            ("lora.rank=2", "lora.parts=[vision]", "model.init_from=base", "parts.vision.trainable=false"),
            r"parts\.vision\.trainable is false, but lora\.parts names vision",
        ),
        (
            ("parts.vision.trainable=false", "train.sharding=stage3"),
            r"train\.feature_cache: needs whole weights",
        ),
    ],
)
def test_an_encoder_that_trains_is_refused(tmp_path, overrides, fault):
    (tmp_path / "run.yaml").write_text("data: {train: mine.jsonl}\n")
    with pytest.raises(ConfigError, match=fault):
        load_config(tmp_path / "run.yaml", ["train.feature_cache=kept", *overrides])
