"""The mean of several runs: of whole models and of adapters, refused where the runs began elsewhere."""

import json

import numpy as np
import paddle
import pytest

from got_train.checkpoint.adapters import load_adapted
from got_train.checkpoint.soup import blend
from got_train.checkpoint.weights import load_model
from got_train.cli import merge
from got_train.config.loader import load_config
from got_train.evaluation.greedy_soup import choose_greedily
from got_train.modeling.lora import detach
from got_train.training import run


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def trained(fit, kept):
    """A function: the final folder of a run of two steps by its name, made once; others start from `base`."""

    def trained(name, *overrides):
        folder = kept / name
        if not (folder / "final").exists():
            run.train(load_config(fit.path, [f"train.output_dir={folder}", "train.max_steps=2", *overrides]))
        return folder / "final"

    settings = json.loads(fit.path.read_text())
    base = trained("base")
    fit.path.write_text(json.dumps(settings | {"model": {"init_from": str(base)}}))
    return trained


@pytest.fixture
def adapters(trained):
    lora = ("lora.rank=3", "lora.alpha=6", "optimizer.learning_rate=0.1")
    return [trained(f"lora{seed}", f"train.seed={seed}", *lora) for seed in (1, 2)]


def merged(*arguments):
    return merge.main([str(each) for each in arguments])


def test_each_weight_of_a_soup_is_the_mean_over_the_runs(trained, arrays, tmp_path, capsys):
    runs = [trained(f"seed{seed}", f"train.seed={seed}") for seed in (1, 2, 3)]
    assert merged("--soup", *runs, tmp_path / "out") == 0
    assert "read back: largest difference 0 " in capsys.readouterr().out
    several = [arrays(folder / "model.safetensors") for folder in runs]
    made = arrays(tmp_path / "out" / "model.safetensors")
    assert made.keys() == several[0].keys()
    moved = 0.0
    for name, value in made.items():
        expected = np.mean([each[name].astype("float64") for each in several], axis=0)
        assert np.abs(value - expected).max() <= 1e-7 * max(1, np.abs(expected).max())
        moved = max(moved, float(np.abs(several[0][name] - value).max()))
    assert moved > 1e-3  # the runs are not one
    assert json.loads((tmp_path / "out" / "soup.json").read_text())["runs"] == [str(each) for each in runs]


def test_a_soup_of_adapters_computes_what_the_mean_of_the_merged_models_does(
    adapters, tmp_path, logits_of, within
):
    assert merged("--soup", *adapters, tmp_path / "out") == 0
    whole = [detach(load_adapted(folder), fold=True) for folder in adapters]
    weights = [dict(model.named_parameters()) for model in whole]
    far = logits_of(whole[0])
    for name, value in weights[0].items():
        value.set_value(paddle.to_tensor((value.numpy() + weights[1][name].numpy()) / 2))
    expected, found = logits_of(whole[0]), logits_of(load_adapted(tmp_path / "out"))
    assert json.loads((tmp_path / "out" / "adapter.json").read_text())["rank"] == 6
    within("soup of adapters", np.abs(found - expected).max(), 1e-5 * np.abs(expected).max())
    assert np.abs(far - expected).max() > 1e-3 * np.abs(expected).max()


def test_the_mean_of_one_run_is_that_run_to_the_last_bit(trained, logits_of):
    folder = trained("seed1", "train.seed=1")
    assert np.array_equal(logits_of(blend([folder])[0]), logits_of(load_model(folder)))


def test_runs_from_other_starts_are_refused(trained, adapters, tmp_path, capsys):
    one, base = trained("seed1", "train.seed=1"), trained("base")
    elsewhere = trained("elsewhere", f"model.init_from={one}")
    for folders, words in (
        ((one, elsewhere), f"{one} started from {base}, {elsewhere} from {one}"),
        ((one, base), "started from random weights"),
        ((one, adapters[0]), "adapters and whole models; use got merge"),
        ((one,), "1 run before OUT; expected two or more"),
        ((one, one), "is named twice"),
    ):
        assert merged("--soup", *folders, tmp_path / "out") == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_copy_of_the_start_is_the_same_start(trained, tmp_path, kept):
    import shutil

    shutil.copytree(trained("base"), tmp_path / "copy")
    one = trained("seed1", "train.seed=1")
    two = trained("copied", "train.seed=2", f"model.init_from={tmp_path / 'copy'}")
    assert merged("--soup", one, two, tmp_path / "out") == 0


def test_greedy_takes_the_best_run_and_then_those_that_do_not_make_the_mean_worse(capsys):
    # edit distances of means, by hand: c is best alone, with a it gets better, b spoils it, d changes nothing
    known = {"a": 0.3, "b": 0.4, "c": 0.2, "d": 0.5, "ca": 0.1, "cab": 0.15, "cad": 0.1}
    chosen = choose_greedily(list("abcd"), lambda some: known["".join(some)], lower=True)
    assert chosen == ["c", "a", "d"]
    assert "with b: 0.1500, before 0.1000; left out" in capsys.readouterr().out
    higher = {name: -value for name, value in known.items()}
    assert choose_greedily(list("abcd"), lambda some: higher["".join(some)], lower=False) == chosen


def test_greedy_reads_the_records_with_every_mean_that_it_tries(trained, fit, tmp_path, capsys):
    runs = [trained(f"seed{seed}", f"train.seed={seed}") for seed in (1, 2)]
    data = json.loads(fit.path.read_text())["data"]["train"]
    options = ("--greedy", data, "--limit", "8", "--max-new-tokens", "16")
    assert merged("--soup", *runs, tmp_path / "out", *options) == 0
    told = capsys.readouterr().out
    assert all(f"{folder}: " in told for folder in runs)
    assert "kept" in told or "left out" in told
    used = json.loads((tmp_path / "out" / "soup.json").read_text())["runs"]
    assert set(used) <= {str(folder) for folder in runs}


def test_options_of_a_soup_alone_are_refused(capsys):
    assert merged("a", "out", "--greedy", "data.jsonl") == 2
    assert "--greedy: goes with --soup" in capsys.readouterr().err
    assert merged("--soup", "a", "b", "out", "--limit", "3") == 2
    assert "--limit: goes with --greedy DATA" in capsys.readouterr().err
