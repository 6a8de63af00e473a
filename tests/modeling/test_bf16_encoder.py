"""The encoder in bfloat16 through paddle.inference, against the same encoder in float32."""

from pathlib import Path

import numpy as np
import paddle
import pytest
from rapidfuzz.distance import Levenshtein

from got_train.cpu import settings
from got_train.errors import RequirementError
from got_train.modeling.config import VisionConfig
from got_train.modeling.cpu import bf16_encoder
from got_train.modeling.cpu.accelerate import accelerate
from got_train.modeling.cpu.bf16_encoder import ExportedVisionEncoder, export
from got_train.modeling.vision import Vision

NANO = Path(__file__).parents[2] / "configs" / "nano" / "weights" / "stage3"
SIZES = {
    "image_side": 128, "patch": 8, "width": 96, "layers": 3, "heads": 4, "mlp_width": 288, "window": 6,
    "global_layers": (2,), "neck_width": 48, "out_width": 128,
}  # fmt: skip
bfloat16 = pytest.mark.skipif(not settings.has_bfloat16(), reason="this processor has no units for bfloat16")


def made(seed=0):
    """With windows that do not divide the side, and positions that count."""
    paddle.seed(seed)
    vision = Vision(VisionConfig(**SIZES))
    for name, parameter in vision.named_parameters():
        if "rel_pos" in name:
            parameter.set_value(0.1 * paddle.randn(parameter.shape))
    vision.eval()
    return vision


@bfloat16
@pytest.mark.parametrize("queries", [100, 512])
def test_features_of_two_views_differ_by_the_rounding_of_bfloat16_and_no_more(queries, monkeypatch):
    monkeypatch.setattr(bf16_encoder, "CHUNK_QUERIES", queries)
    vision, views = made(), paddle.randn([2, 3, 128, 128])
    with paddle.no_grad():
        exact = vision(views).numpy()
        ExportedVisionEncoder(vision, 1).attach()
        found = vision(views).numpy()
        again = vision(views.flip(0)).numpy()[::-1]
    error = np.sqrt(np.mean((found - exact) ** 2) / np.mean(exact**2))
    assert 1e-4 < error < 2e-2  # bfloat16 has 8 bits: 4e-3 each
    assert np.array_equal(found, again)  # no view depends on its neighbours


def test_the_exported_graph_in_float32_gives_the_encoders_features(tmp_path, monkeypatch):
    """On any processor; the encoder is a plain one afterwards, also where it was accelerated."""
    monkeypatch.setattr(bf16_encoder, "CHUNK_QUERIES", 100)
    vision, view = made(), paddle.randn([1, 3, 128, 128])
    with paddle.no_grad():
        plain = vision(view).numpy()
        accelerate(vision)
        graph = paddle.jit.load(str(export(vision, tmp_path)))
        exported = graph(view).numpy()
        assert np.array_equal(vision(view).numpy(), plain)
    assert np.abs(exported - plain).max() < 1e-5 * np.abs(plain).max()


@pytest.mark.parametrize("part", [pytest.param("encoder", marks=bfloat16), "decoder"])
def test_the_trained_nano_reads_8_pages_to_all_but_one_word_of_the_same_text(tmp_path, capfd, part):
    """A word it hesitates over may tip: which one depends on the processor's order of sums."""
    from data_tools.engines import lines
    from infer import main

    recipe = "--count 8 --seed 3 --container folder --text lowercase --side 128 --font-size 17-21"
    lines.main(["--out", str(tmp_path / "data"), *recipe.split(), "--characters", "3-9"])
    pages = sorted(map(str, tmp_path.glob("data/**/*.png")))[:8]
    capfd.readouterr()
    texts = []
    for kind in ("float32", "bfloat16"):
        arguments = ["--model-name-or-path", str(NANO), f"--{part}-dtype", kind, "--image-file", *pages]
        assert main([*arguments, "--max-new-tokens", "48"]) == 0
        texts.append(capfd.readouterr().out)
    words = [text.split() for text in texts]
    assert len(pages) == 8 and len(set(words[0])) > 20
    assert Levenshtein.distance(*words) <= 2  # one word may become two


def test_a_processor_without_bfloat16_is_refused(monkeypatch):
    monkeypatch.setattr(settings, "has_bfloat16", lambda: False)
    with pytest.raises(RequirementError, match=r"encoder in bfloat16: cpu is not a CPU with avx512_bf16"):
        ExportedVisionEncoder(made(), 1)
