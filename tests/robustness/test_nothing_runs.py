"""A pickle in the place of every file of a checkpoint, adapter, tokenizer and cache: no command runs it."""

import io
import pickle
import shutil
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from got_train.checkpoint.adapters import Adapters, save_adapter
from got_train.checkpoint.weights import load_model, save_model
from got_train.cli import convert, evaluate, infer, merge, train
from got_train.config.loader import load_config
from got_train.inference.reader import load_pipeline
from got_train.modeling.lora import Adapter, attach
from got_train.tokenizer import load_tokenizer
from got_train.training import run

# what paddlenlp and older versions keep beside the weights, and would unpickle
ROGUES = (
    *("optimizer-0.pdopt", "optimizer-1.pdopt", "optimizer.pdopt", "average.pdparams", "glyph_head.pdparams"),
    *("rng_state.pth", "rng_state_2.pth", "scheduler.pdparams", "scaler.pdparams", "training_args.bin"),
    *("model_state.pdparams", "pytorch_model.bin", "adapter_model.bin", "optimizer-1.safetensors"),
)


class Program:
    """Unpickled it makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.fixture
def ran(tmp_path):
    """Whether the program has run so far; it does where a pickle is simply loaded."""
    path = tmp_path / "it_ran"
    pickle.loads(pickle.dumps(Program(path))).close()
    assert path.exists()
    path.unlink()
    return path


def contents(ran):
    """As Python's pickle, and as the PyTorch file of which it is a part."""
    plain = pickle.dumps(Program(ran), protocol=2)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("weights/data.pkl", plain)
    return plain, packed.getvalue()


def each_replaced(folder, ran):
    """The folder with one of its files after the other replaced."""
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        sound = file.read_bytes()
        for content in contents(ran):
            file.write_bytes(content)
            yield file
            assert not ran.exists(), f"{file.name} was run"
        file.write_bytes(sound)


def refused(main, *arguments):
    """Whether a command ended with a message, not with a traceback."""
    return main([str(argument) for argument in arguments]) in (1, 2)


@pytest.fixture
def page(tmp_path):
    Image.new("RGB", (24, 24), "white").save(tmp_path / "page.png")
    return tmp_path / "page.png"


def test_no_file_of_a_checkpoint_is_run_on_resume(tiny_run, tmp_path, ran, capsys):
    path = tiny_run()
    short = ["train.max_steps=2", "train.save_steps=1", "train.ema_decay=0.9", "train.char_loss_weight=1"]
    final = run.train(load_config(path, short))
    expected = (final / "model.safetensors").read_bytes()
    shutil.rmtree(final)
    shutil.rmtree(tmp_path / "run" / "checkpoint-2")
    checkpoint = tmp_path / "run" / "checkpoint-1"
    for file in each_replaced(checkpoint, ran):
        assert refused(train.main, path, *short, "--resume"), file.name
        assert str(checkpoint) in capsys.readouterr().err
    for name in ROGUES:  # beside the sound files: not opened at all
        (checkpoint / name).write_bytes(contents(ran)[0])
    assert train.main([str(path), *short, "--resume"]) == 0
    assert (final / "model.safetensors").read_bytes() == expected
    assert not ran.exists()


def test_no_file_of_a_model_is_run_by_any_command_that_takes_one(tiny_run, tmp_path, page, ran):
    path = tiny_run()
    folder = run.train(load_config(path, ["train.max_steps=1"]))
    (folder / "calibration.json").write_text('{"levels": {"token": {"temperature": 1, "shift": 0}}}')
    read = ("--model_name_or_path", folder, "--image_file", page)
    assert infer.main([*map(str, read), "--max-new-tokens", "2"]) == 0
    scored = ("--data", tmp_path / "data.jsonl", "--output-dir", tmp_path / "scores")
    for number, file in enumerate(each_replaced(folder, ran)):
        if file.name == "run.yaml":  # which only a resumed run reads
            continue
        if (
            file.name == "characters.json"
        ):  # which reading does not open; convert copies it, a run looks at it
            infer.main([*map(str, read), "--max-new-tokens", "2"])
            convert.main([str(folder), str(tmp_path / "copied"), "--layout", "original"])
            train.main(
                [str(path), f"model={{init_from: {folder}}}", f"train.output_dir={tmp_path}/copied_run"]
            )
            continue
        assert refused(infer.main, *read)
        if number % 2:
            assert refused(evaluate.main, folder, *scored)
            converted = str(tmp_path / f"converted{number}")
            convert.main([str(folder), converted, "--layout", "original"])  # takes no calibration
            train.main([str(path), f"model={{init_from: {folder}}}", f"train.output_dir={tmp_path}/{number}"])
            with pytest.raises(ValueError):
                load_pipeline(folder)  # as the page does


def test_no_file_of_an_adapter_is_run_by_reading_and_merging(random_model, tmp_path, ran):
    base = random_model()
    nano = load_tokenizer(Path(__file__).parents[2] / "configs" / "nano" / "tokenizer")
    save_model(base, tmp_path / "base", tokenizer=nano)
    card = Adapter(str(tmp_path / "base"), "0" * 64, "repo", 2, 4.0, 0.0, ("projector",))
    attach(base, card)
    save_adapter(base, tmp_path / "adapter", card, nano)
    for _ in each_replaced(tmp_path / "adapter", ran):
        assert refused(merge.main, tmp_path / "adapter", tmp_path / "merged")
        with pytest.raises(ValueError):
            Adapters(load_model(tmp_path / "base"), tmp_path / "base").use(tmp_path / "adapter")


def test_no_file_of_a_feature_cache_is_run_and_a_damaged_one_is_made_anew(tiny_run, tmp_path, ran):
    settings = [
        "parts.vision.trainable=false",
        f"train.feature_cache={tmp_path}/features",
        "train.max_steps=1",
    ]
    path = tiny_run()
    expected = (run.train(load_config(path, settings)) / "model.safetensors").read_bytes()
    for file in sorted((tmp_path / "features").rglob("*.features")):
        file.write_bytes(contents(ran)[0])
    again = run.train(load_config(path, [*settings, f"train.output_dir={tmp_path}/again"]))
    assert (again / "model.safetensors").read_bytes() == expected
    assert not ran.exists()
