"""Weights in every layout: names, orientation, round trips, what is refused, and saves that are killed."""

import dataclasses
import json
import os
import pickle
import shutil

import numpy as np
import paddle
import pytest
from safetensors.numpy import load_file, save_file

from got_train.checkpoint import layouts, weights
from got_train.checkpoint.hf_config import vision_from_shapes
from got_train.checkpoint.tensor_io import tensor_entries
from got_train.checkpoint.weights import (
    WeightFile,
    empty_init,
    load_decoder,
    load_model,
    load_vision,
    save_model,
)
from got_train.errors import CheckpointError, ConfigError
from got_train.modeling.config import GotConfig, VisionConfig
from got_train.modeling.got import Got

GOT_LAYOUTS = ("original", "transformers", "paddlemix")


def values(model):
    return {name: parameter.numpy() for name, parameter in model.named_parameters()}


def same(model, other, prefix=""):
    """Whether the parameters below a prefix are equal to the last bit."""
    ours, theirs = values(model), values(other)
    return all((ours[name] == theirs[name]).all() for name in ours if name.startswith(prefix))


def tensors_of(folder):
    return load_file(str(folder / "model.safetensors"))


def rewritten(folder, change, config=None):
    """The folder with its tensors passed through `change`."""
    save_file(change(tensors_of(folder)), str(folder / "model.safetensors"))
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def copied(got_tiny, tmp_path):
    """A function: a copy of a fixture folder to spoil."""

    def copy(layout):
        source = got_tiny / {"transformers": ".", "original": "original"}[layout]
        for name in ("config.json", "model.safetensors"):
            shutil.copyfile(source / name, tmp_path / name)
        return tmp_path

    return copy


# ---- names


def test_the_two_fixture_folders_are_one_model(got_tiny):
    assert same(load_model(got_tiny), load_model(got_tiny / "original"))


def test_all_95_parameters_are_found_under_each_of_their_three_names(got_tiny):
    table, model = json.loads((got_tiny / "names.json").read_text()), load_model(got_tiny)
    shapes = {name: list(value.shape) for name, value in values(model).items()}
    found = set()
    for row in table:
        hub, original, memory = row["hub"], row["original"], row["transformers"]
        ours = layouts.to_ours(layouts.canonical(hub), "transformers")
        assert layouts.to_ours(layouts.canonical(memory), "transformers") == ours
        assert layouts.to_ours(layouts.canonical(original), "original") == ours
        assert layouts.to_theirs(ours, "transformers") == hub
        assert layouts.to_theirs(ours, "original") == original
        assert shapes[ours] in (row["shape"], row["shape"][::-1])
        found.add(ours)
    assert found == shapes.keys() and len(table) == 95


def released_tensors():
    """Names and shapes of the 472 tensors of the released file, by sections 1 and 3 of its description."""
    shapes = {}
    eye, tail = "model.vision_tower_high.", (".weight", ".bias")

    def affine(name, *shape):
        shapes.update({name + ".weight": list(shape), name + ".bias": [shape[0]]})

    shapes[eye + "pos_embed"] = [1, 64, 64, 768]
    affine(eye + "patch_embed.proj", 768, 3, 16, 16)
    for i in range(12):
        block = f"{eye}blocks.{i}."
        for norm in ("norm1", "norm2"):
            shapes.update({block + norm + end: [768] for end in tail})
        affine(block + "attn.qkv", 2304, 768)
        affine(block + "attn.proj", 768, 768)
        side = 64 if i in (2, 5, 8, 11) else 14
        shapes.update({block + f"attn.rel_pos_{axis}": [2 * side - 1, 64] for axis in "hw"})
        affine(block + "mlp.lin1", 3072, 768)
        affine(block + "mlp.lin2", 768, 3072)
    shapes[eye + "neck.0.weight"] = [256, 768, 1, 1]
    shapes[eye + "neck.2.weight"] = [256, 256, 3, 3]
    for norm in ("neck.1", "neck.3"):
        shapes.update({eye + norm + end: [256] for end in tail})
    shapes[eye + "net_2.weight"] = [512, 256, 3, 3]
    shapes[eye + "net_3.weight"] = [1024, 512, 3, 3]
    affine("model.mm_projector_vary", 1024, 1024)
    for i in range(24):
        layer = f"model.layers.{i}."
        for letter in "qkv":
            affine(f"{layer}self_attn.{letter}_proj", 1024, 1024)
        shapes[layer + "self_attn.o_proj.weight"] = [1024, 1024]
        shapes.update({f"{layer}mlp.{name}_proj.weight": [2816, 1024] for name in ("gate", "up")})
        shapes[layer + "mlp.down_proj.weight"] = [1024, 2816]
        for norm in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{layer}{norm}.weight"] = [1024]
    shapes["model.norm.weight"] = [1024]
    shapes["model.embed_tokens.weight"] = shapes["lm_head.weight"] = [151860, 1024]
    return shapes


def test_the_released_sizes_give_the_472_names_and_shapes_of_the_released_file():
    with empty_init("float32"):  # without the 2 GB of its values
        model = Got(GotConfig())
    linears = {
        f"{name}.weight" for name, layer in model.named_sublayers() if isinstance(layer, paddle.nn.Linear)
    }
    ours = {
        layouts.to_theirs(name, "original"): parameter.shape[::-1]
        if name in linears
        else list(parameter.shape)
        for name, parameter in model.named_parameters()
    }
    expected = released_tensors()
    assert len(expected) == 472
    assert {**ours, "lm_head.weight": [151860, 1024]} == expected


def test_the_encoders_sizes_are_told_by_the_released_shapes_alone():
    shapes = {layouts.to_ours(name, "original"): shape for name, shape in released_tensors().items()}
    shapes.pop(None)
    assert vision_from_shapes(shapes) == VisionConfig()


def test_the_encoders_sizes_are_told_by_the_fixtures_shapes(got_tiny):
    found = vision_from_shapes(WeightFile(got_tiny / "original").shapes())
    assert found == load_model(got_tiny).config.vision
    assert (found.window, found.global_layers, found.heads, found.image_side) == (3, (1, 3), 4, 128)


@pytest.mark.parametrize("layout", GOT_LAYOUTS)
@pytest.mark.parametrize("window, everywhere", [(3, ()), (3, (0, 1, 2)), (7, (1,)), (1, (2,))])
def test_windows_of_any_size_and_global_layers_anywhere_survive_the_file(
    random_model, logits_of, tmp_path, layout, window, everywhere
):
    model = random_model(window=window, global_layers=everywhere)
    save_model(model, tmp_path / "made", layout)
    config = json.loads((tmp_path / "made" / "config.json").read_text())
    del config["got_train"]  # as another program would have written it
    (tmp_path / "made" / "config.json").write_text(json.dumps(config))
    assert (logits_of(load_model(tmp_path / "made")) == logits_of(model)).all()


def test_a_transformers_config_alone_says_every_size(random_model, tmp_path):
    """Each size differs from its default; what is left out are the second stop token and the template."""
    odd = {"max_positions": 77, "rope_theta": 5e4, "norm_eps": 1e-4, "init_std": 0.01}
    model = random_model(norm_eps=1e-3, window=2, global_layers=(0, 2), decoder=odd)
    save_model(model, tmp_path, "transformers")
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    del config["got_train"]
    path.write_text(json.dumps(config))
    assert load_model(tmp_path).config == dataclasses.replace(model.config, stop_tokens=(1,))


# ---- round trips


@pytest.mark.parametrize("before", GOT_LAYOUTS)
@pytest.mark.parametrize("after", GOT_LAYOUTS)
def test_a_model_is_equal_after_any_two_layouts(random_model, logits_of, tmp_path, before, after):
    model = random_model()
    save_model(model, tmp_path / "first", before)
    save_model(load_model(tmp_path / "first"), tmp_path / "second", after)
    again = load_model(tmp_path / "second")
    assert again.config == model.config
    assert same(again, model)
    assert (logits_of(again) == logits_of(model)).all()


@pytest.mark.parametrize("layout, folder", [("original", "original"), ("transformers", ".")])
def test_what_is_written_equals_the_fixture_name_by_name(got_tiny, tmp_path, layout, folder):
    save_model(load_model(got_tiny), tmp_path / "made", layout)
    ours, theirs = tensors_of(tmp_path / "made"), tensors_of(got_tiny / folder)
    assert ours.keys() == theirs.keys()
    assert all((ours[name] == theirs[name]).all() for name in theirs)


def test_paddlemix_has_its_linear_weights_turned_and_nothing_else(got_tiny, tmp_path):
    save_model(load_model(got_tiny), tmp_path / "made", "paddlemix")
    ours, theirs = tensors_of(tmp_path / "made"), tensors_of(got_tiny / "original")
    del theirs["lm_head.weight"]
    turned = ("_proj.weight", "attn.qkv.weight", "attn.proj.weight", "lin1.weight", "lin2.weight")
    turned += ("mm_projector_vary.weight",)
    assert ours.keys() == {name.replace("model.", "qwen2.", 1) for name in theirs}
    for name, value in theirs.items():
        expected = value.T if name.endswith(turned) else value
        assert np.array_equal(ours[name.replace("model.", "qwen2.", 1)], expected), name


@pytest.mark.parametrize("layout", GOT_LAYOUTS)
def test_shards_of_20_kilobytes_make_the_same_model(monkeypatch, random_model, tmp_path, layout):
    model = random_model()
    monkeypatch.setattr(weights, "SHARD_BYTES", 20_000)
    save_model(model, tmp_path / "made", layout)
    index = json.loads((tmp_path / "made" / "model.safetensors.index.json").read_text())
    shards = {name: load_file(str(tmp_path / "made" / name)) for name in set(index["weight_map"].values())}
    assert len(shards) > 2 and not (tmp_path / "made" / "model.safetensors").exists()
    sizes = [sum(value.nbytes for value in shard.values()) for shard in shards.values()]
    assert max(sizes) <= 20_000 and sum(sizes) == index["metadata"]["total_size"]
    assert all(name in shards[shard] for name, shard in index["weight_map"].items())
    assert same(load_model(tmp_path / "made"), model)


@pytest.mark.parametrize("dtype, digits", [("bfloat16", 8), ("float16", 11)])
@pytest.mark.parametrize("layout", GOT_LAYOUTS)
def test_half_precision_files_hold_rounded_values_and_are_read(random_model, tmp_path, layout, dtype, digits):
    model = random_model()
    save_model(model, tmp_path / "made", layout, dtype)
    again = load_model(tmp_path / "made")
    for name, value in values(model).items():
        mantissa, exponent = np.frexp(value)
        rounded = np.ldexp(np.round(mantissa * 2**digits) / 2**digits, exponent)
        assert np.abs(values(again)[name] - rounded).max() < 1e-6, name  # float16's subnormals
    assert {tensor.dtype for tensor in WeightFile(tmp_path / "made").tensors.values()} == {dtype}
    assert json.loads((tmp_path / "made" / "config.json").read_text())["torch_dtype"] == dtype


def test_weights_can_be_read_by_whoever_can_read_the_config(random_model, tmp_path):
    save_model(random_model(), tmp_path / "made")
    modes = {name: (tmp_path / "made" / name).stat().st_mode for name in ("config.json", "model.safetensors")}
    assert modes["config.json"] == modes["model.safetensors"]


# ---- names in the wild


def in_memory(name):
    """The name in transformers 5 for one of its file."""
    return (
        name.replace("language_model.model.", "model.language_model.")
        .replace("vision_tower.", "model.vision_tower.")
        .replace("multi_modal_projector.multimodal", "model.multi_modal_projector.multimodal")
        .replace("multi_modal_projector.conv", "model.multi_modal_projector.conv")
    )


def first_draft(name):
    return (
        name.replace("vision_tower.", "visual.")
        .replace("multi_modal_projector.conv_upsampler", "visual_adapter.conv_up")
        .replace("multi_modal_projector.", "visual_adapter.")
    )


@pytest.mark.parametrize("head", [None, "lm_head.weight", "language_model.lm_head.weight"])
@pytest.mark.parametrize("rename", [str, in_memory, first_draft])
def test_transformers_names_of_all_versions_are_read_with_a_head_and_without(got_tiny, copied, rename, head):
    def change(tensors):
        tensors = {rename(name): value for name, value in tensors.items()}
        words = next(value for name, value in tensors.items() if "embed_tokens" in name)
        return tensors if head is None else {**tensors, head: words.copy()}

    folder = rewritten(copied("transformers"), change)
    assert same(load_model(folder), load_model(got_tiny))
    assert (WeightFile(folder).head is None) == (head is None)


def test_an_original_file_without_its_lm_head_is_read(got_tiny, copied):
    folder = copied("original")
    rewritten(folder, lambda t: {name: value for name, value in t.items() if name != "lm_head.weight"})
    assert same(load_model(folder), load_model(got_tiny))


def test_an_lm_head_that_differs_by_a_hundredth_is_refused(copied):
    def change(tensors):
        tensors["lm_head.weight"] = tensors["lm_head.weight"].copy()
        tensors["lm_head.weight"][7, 3] += 0.01
        return tensors

    with pytest.raises(
        CheckpointError, match="lm_head differs from the embedding by up to 0.01; GOT's are tied"
    ):
        load_model(rewritten(copied("original"), change))


def test_an_lm_head_of_another_shape_is_refused_and_a_turned_one_accepted(got_tiny, copied):
    folder = rewritten(copied("original"), lambda t: {**t, "lm_head.weight": t["lm_head.weight"].T.copy()})
    assert same(load_model(folder), load_model(got_tiny))
    rewritten(folder, lambda t: {**t, "lm_head.weight": t["lm_head.weight"][:, :-1].copy()})
    with pytest.raises(CheckpointError, match=r"lm_head is \[64, 539\], the embedding"):
        load_model(folder)


# ---- orientation


@pytest.mark.parametrize("layout", GOT_LAYOUTS)
def test_orientation_is_told_although_all_but_qkv_are_square(random_model, tmp_path, layout):
    model = random_model(mlp_width=16, decoder={"mlp_width": 16, "kv_heads": 4})
    save_model(model, tmp_path / "made", layout)
    source = WeightFile(tmp_path / "made")
    unequal = [n for n, t in source.tensors.items() if len(t.shape) == 2 and len(set(t.shape)) == 2]
    assert {name.split(".", 3)[-1] for name in unequal if "blocks" in name} == {
        "attn.qkv.weight",
        "attn.rel_pos_h",
        "attn.rel_pos_w",
    }
    assert source.transposed == (layout == "paddlemix")
    assert same(load_model(tmp_path / "made"), model)


@pytest.mark.parametrize("layout", ["original", "paddlemix"])
def test_one_tensor_of_a_wrong_shape_does_not_turn_all_the_others(random_model, tmp_path, layout):
    save_model(random_model(), tmp_path / "made", layout)
    name = {"original": "model", "paddlemix": "qwen2"}[layout] + ".vision_tower_high.blocks.0.attn.qkv.weight"
    rewritten(tmp_path / "made", lambda t: {**t, name: t[name].T.copy()})
    with pytest.raises(CheckpointError, match="1 weights do not fit the model") as refused:
        load_model(tmp_path / "made")
    assert str(refused.value).endswith(
        "vision.blocks.0.attn.qkv.weight: the file has [48, 16], the model [16, 48]"
    )


def test_a_file_turned_by_halves_is_refused(copied):
    """paddlenlp's own conversion of the original file turns the decoder and leaves the encoder."""
    turn = ("_proj.weight",)
    folder = rewritten(
        copied("original"), lambda t: {n: v.T.copy() if n.endswith(turn) else v for n, v in t.items()}
    )
    with pytest.raises(CheckpointError, match="weights do not fit the model"):
        load_model(folder)


# ---- what does not fit


def test_everything_that_does_not_fit_is_in_one_message(copied):
    def change(tensors):
        del tensors["model.vision_tower_high.net_2.weight"]
        del tensors["model.layers.1.mlp.up_proj.weight"]
        tensors["model.norm.weight"] = tensors["model.norm.weight"][:63].copy()
        tensors["model.mm_projector_vary.weight"] = np.zeros([64, 3], "float32")
        tensors["model.layers.2.mlp.up_proj.weight"] = np.zeros([112, 64], "float32")
        tensors["adapter.weight"] = np.zeros(3, "float32")
        return tensors

    folder = rewritten(copied("original"), change)
    with pytest.raises(CheckpointError) as refused:
        load_model(folder)
    assert str(refused.value).splitlines() == [
        f"{folder}: 6 weights do not fit the model:",
        "  decoder.model.norm.weight: the file has [63], the model [64]",
        "  missing: decoder.model.layers.1.mlp.up_proj.weight",
        "  missing: vision.net_2.weight",
        "  not of this model: adapter.weight",
        "  not of this model: decoder.model.layers.2.mlp.up_proj.weight",
        "  projector.weight: the file has [3, 64], the model [64, 64]",
    ]


@pytest.mark.parametrize(
    "name", ["pos_embed", "patch_embed.proj.weight", "blocks.0.attn.rel_pos_h", "net_3.weight"]
)
def test_an_original_file_that_does_not_tell_the_encoders_sizes_is_refused(copied, name):
    whole = f"model.vision_tower_high.{name}"
    folder = rewritten(copied("original"), lambda t: {n: v for n, v in t.items() if n != whole})
    with pytest.raises(ConfigError, match="is not among the weights, which alone tell the encoder's sizes"):
        load_model(folder)


def test_a_tensor_named_in_two_ways_is_refused(copied):
    name = "vision_tower.pos_embed"
    folder = rewritten(copied("transformers"), lambda t: {**t, f"model.{name}": t[name]})
    with pytest.raises(CheckpointError, match="vision_tower.pos_embed is there twice"):
        load_model(folder)


def test_names_of_no_known_layout_are_refused(tmp_path):
    save_file({"bert.pooler.weight": np.zeros([2, 2], "float32")}, str(tmp_path / "model.safetensors"))
    with pytest.raises(CheckpointError, match=r"no known layout has names like bert\.pooler\.weight"):
        load_model(tmp_path)


def test_paddlenlp_opens_the_decoder_of_what_is_written_for_paddlemix(got_tiny, tmp_path):
    from paddlenlp.transformers import Qwen2ForCausalLM

    folder = tmp_path / "made"
    save_model(load_model(got_tiny), folder, "paddlemix")
    theirs = Qwen2ForCausalLM.from_pretrained(str(folder)).state_dict()
    stored = tensors_of(folder)
    shared = [name for name in theirs if name in stored and name.startswith("qwen2.layers")]
    assert len(shared) == sum(name.startswith("qwen2.layers") for name in stored) > 20
    assert all((theirs[name].numpy() == stored[name]).all() for name in shared)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_what_paddlemix_trains_is_read_from_its_pdparams(got_tiny, tmp_path, dtype):
    model = load_model(got_tiny)
    save_model(model, tmp_path, "paddlemix")
    file = tmp_path / "model.safetensors"
    state = {name: paddle.to_tensor(value).astype(dtype) for name, value in load_file(str(file)).items()}
    file.unlink()
    paddle.save(state, str(tmp_path / "model_state.pdparams"))
    read = load_model(tmp_path)
    rounded = {
        name: value.astype(dtype).astype("float32").numpy() for name, value in model.state_dict().items()
    }
    assert all((value == rounded[name]).all() for name, value in values(read).items())


class Runs:
    def __reduce__(self):
        return os.mkdir, ("ran",)


@pytest.mark.parametrize("content", [{"a": Runs()}, {"a": np.ones(3, object)}, [1], b"x", {"a": memoryview}])
def test_a_pdparams_that_holds_anything_but_tensors_is_refused_and_nothing_runs(
    monkeypatch, tmp_path, content
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model_state.pdparams").write_bytes(pickle.dumps(content, 4))
    with pytest.raises(CheckpointError, match=r"model_state\.pdparams"):
        tensor_entries(tmp_path / "model_state.pdparams")
    assert not (tmp_path / "ran").exists()


def test_a_pdparams_whose_shape_lies_is_refused(tmp_path):
    file = tmp_path / "model_state.pdparams"
    content = pickle.dumps({"a": np.ones([4, 4], "float32")}, 4)
    file.write_bytes(content.replace(b"K\x04K\x04\x86", b"K\x04K\x09\x86"))
    with pytest.raises(CheckpointError, match=r"a: \[4, 9\] of float32 do not fit its 64 bytes"):
        tensor_entries(file)
    file.write_bytes(content[:-30])
    with pytest.raises(CheckpointError, match=r"model_state\.pdparams"):
        tensor_entries(file)


def test_surplus_global_layers_of_a_transformers_config_are_passed_over_as_there(got_tiny, copied):
    folder = copied("transformers")
    config = json.loads((folder / "config.json").read_text())
    layers = config["vision_config"]["global_attn_indexes"]
    config["vision_config"]["global_attn_indexes"] = [*layers, 5, 8, 11]
    (folder / "config.json").write_text(json.dumps(config))
    assert load_model(folder).config == load_model(got_tiny).config


def test_a_decoder_alone_is_no_got(copied):
    folder = rewritten(
        copied("original"),
        lambda t: {
            n: v
            for n, v in t.items()
            if n.startswith("model.layers") or n in ("model.embed_tokens.weight", "model.norm.weight")
        },
    )
    with pytest.raises(CheckpointError, match="these are weights of qwen alone, not of a whole GOT"):
        load_model(folder)


@pytest.mark.parametrize(
    "layout, section, change, message",
    [
        ("transformers", "text_config", {"rope_parameters": {"rope_type": "yarn"}}, "rope_type is 'yarn'"),
        ("transformers", "text_config", {"hidden_act": "gelu"}, "hidden_act is 'gelu'; only 'silu'"),
        ("transformers", "vision_config", {"hidden_act": "quick_gelu"}, "hidden_act is 'quick_gelu'"),
        ("transformers", "vision_config", {"use_abs_pos": False}, "use_abs_pos is False; only True"),
        ("transformers", "text_config", {"num_attention_heads": None}, "no num_attention_heads"),
        ("original", None, {"rope_scaling": {"type": "linear"}}, "rope_scaling is {'type': 'linear'}"),
        ("original", None, {"use_sliding_window": True}, "use_sliding_window is True"),
        ("original", None, {"hidden_size": None, "vocab_size": None}, "no vocab_size, hidden_size"),
        ("original", None, {"got_train": {"vision": {}}}, "no 'decoder'"),
        (
            "original",
            None,
            {"got_train": {"vision": {"depth": 3}, "decoder": {}}},
            "got_train.vision.depth: no such setting",
        ),
    ],
)
def test_a_config_of_something_else_is_refused_by_key(copied, layout, section, change, message):
    path = copied(layout) / "config.json"
    config = json.loads(path.read_text())
    (config if section is None else config[section]).update(change)
    path.write_text(json.dumps(config))
    with pytest.raises(ConfigError) as refused:
        load_model(path.parent)
    assert str(path) in str(refused.value) and message in str(refused.value)


def test_a_silent_config_means_qwen2s_rope_of_10000_and_a_spoken_one_1000000(copied):
    path = copied("original") / "config.json"
    config = json.loads(path.read_text())
    assert load_model(path.parent).config.decoder.rope_theta == 1_000_000
    del config["rope_theta"]
    path.write_text(json.dumps(config))
    assert load_model(path.parent).config.decoder.rope_theta == 10_000


def test_half_precision_on_the_cpu_is_refused(got_tiny):
    with pytest.raises(CheckpointError, match="dtype bfloat16: Paddle has no bfloat16 kernels on the CPU"):
        load_model(got_tiny, "bfloat16")


# ---- parts of other models


def vary_names(tensors):
    """The encoder of an original file as Vary-tiny's stage 1 names it."""
    before = "model.vision_tower_high."
    return {n.replace(before, "visual_encoder."): v for n, v in tensors.items() if n.startswith(before)}


def test_vary_tiny_under_the_key_model_of_a_pth_fills_the_encoder(write_pth, got_tiny, tmp_path):
    state = vary_names(tensors_of(got_tiny / "original"))
    name = "visual_encoder.blocks.0.mlp.lin1.weight"
    state[name] = np.asfortranarray(state[name])  # as torch saves a turned tensor
    path = tmp_path / "vary.pth"
    write_pth(path, {"model": state, "optimizer": {"step": np.arange(3)}, "epoch": 2})
    source = load_model(got_tiny)
    paddle.seed(3)
    model = Got(source.config)
    before = values(model)
    assert load_vision(model, path) == []
    assert same(model, source, "vision.")
    assert all((before[n] == v).all() for n, v in values(model).items() if not n.startswith("vision."))


def sam_names(tensors):
    """An original file as segment-anything's: no net_2 and net_3, and two parts that GOT has not."""
    sam = {n.replace("visual_encoder.", "image_encoder."): v for n, v in vary_names(tensors).items()}
    del sam["image_encoder.net_2.weight"], sam["image_encoder.net_3.weight"]
    sam["prompt_encoder.no_mask_embed.weight"] = np.zeros([1, 32], "float32")
    sam["mask_decoder.iou_token.weight"] = np.zeros([1, 32], "float32")
    return sam


def sam_hub_names(tensors):
    table = {
        layouts.to_theirs(layouts.to_ours(n, "sam"), "sam_hub"): v for n, v in tensors.items() if "image" in n
    }
    return {**table, "shared_image_embedding.positional_embedding": np.zeros([2, 4], "float32")}


@pytest.mark.parametrize(
    "suffix, rename", [("safetensors", dict), ("pth", dict), ("safetensors", sam_hub_names)]
)
def test_sam_fills_all_of_the_encoder_but_its_last_two_convolutions(
    write_pth, got_tiny, tmp_path, suffix, rename
):
    tensors = rename(sam_names(tensors_of(got_tiny / "original")))
    path = tmp_path / f"sam_vit_b.{suffix}"
    if suffix == "pth":
        write_pth(path, tensors)
    else:
        save_file(tensors, str(path))
    source = load_model(got_tiny)
    paddle.seed(3)
    model = Got(source.config)
    before = values(model)
    assert load_vision(model, path) == ["vision.net_2.weight", "vision.net_3.weight"]
    for name, value in values(model).items():
        filled = name.startswith("vision.") and ".net_" not in name
        assert (value == (values(source) if filled else before)[name]).all(), name


def test_a_vary_file_without_net_3_is_refused(got_tiny, tmp_path):
    tensors = vary_names(tensors_of(got_tiny / "original"))
    del tensors["visual_encoder.net_3.weight"]
    save_file(tensors, str(tmp_path / "vary.safetensors"))
    with pytest.raises(CheckpointError, match="missing: vision.net_3.weight"):
        load_vision(Got(load_model(got_tiny).config), tmp_path / "vary.safetensors")


def test_an_encoder_with_more_layers_than_the_model_is_refused(random_model, tmp_path):
    save_model(random_model(layers=4), tmp_path / "made")
    with pytest.raises(CheckpointError, match="not of this model: vision.blocks.3.attn.qkv.weight"):
        load_vision(random_model(), tmp_path / "made")


@pytest.mark.parametrize("layout", GOT_LAYOUTS)
def test_the_encoder_is_taken_from_a_got_in_any_layout(random_model, tmp_path, layout):
    source, model = random_model(seed=1), random_model(seed=2)
    save_model(source, tmp_path / "made", layout)
    assert load_vision(model, tmp_path / "made") == []
    assert same(model, source, "vision.")
    assert same(model, random_model(seed=2), "decoder.") and same(model, random_model(seed=2), "projector.")


def test_stage_1_survives_its_file_and_hands_its_encoder_to_stage_2(random_model, logits_of, tmp_path):
    first = random_model("opt")
    save_model(first, tmp_path / "stage1")
    names = tensors_of(tmp_path / "stage1").keys()
    assert {name.split(".")[0] for name in names} == {"visual_encoder", "opt_proj", "opt_model"}
    assert "opt_model.model.decoder.layers.1.self_attn_layer_norm.weight" in names
    again = load_model(tmp_path / "stage1")
    assert again.config == first.config
    assert same(again, first)
    assert (logits_of(again) == logits_of(first)).all()
    second = random_model("qwen2", seed=5)
    assert load_vision(second, tmp_path / "stage1") == []
    assert same(second, first, "vision.")
    assert same(second, random_model("qwen2", seed=5), "projector.")
    assert same(second, random_model("qwen2", seed=5), "decoder.")


def qwen_folder(model, folder, rows=0, **config):
    """The decoder as Qwen publishes it, with surplus rows in the embedding."""
    save_model(model, folder / "got")
    tensors = tensors_of(folder / "got")
    kept = ("model.layers.", "model.norm.", "model.embed_tokens.", "lm_head.")
    tensors = {name: value for name, value in tensors.items() if name.startswith(kept)}
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        tensors[name] = np.concatenate([tensors[name], np.ones([rows, 16], "float32")])
    sizes = model.config.decoder
    described = {
        "model_type": "qwen2",
        "vocab_size": sizes.vocab_size + rows,
        "hidden_size": sizes.width,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "num_key_value_heads": sizes.kv_heads,
        "intermediate_size": sizes.mlp_width,
        "rope_theta": 1_000_000.0,
        "rms_norm_eps": 1e-6,
    }
    (folder / "qwen").mkdir()
    save_file(tensors, str(folder / "qwen" / "model.safetensors"))
    (folder / "qwen" / "config.json").write_text(json.dumps({**described, **config}))
    return folder / "qwen"


def test_qwens_decoder_is_taken_without_the_rows_beyond_the_vocabulary(random_model, tmp_path):
    source, model = random_model(seed=1), random_model(seed=2)
    load_decoder(model, qwen_folder(source, tmp_path, rows=8))
    assert same(model, source, "decoder.")
    assert same(model, random_model(seed=2), "vision.") and same(model, random_model(seed=2), "projector.")


def test_a_vocabulary_smaller_than_the_models_is_refused(random_model, tmp_path):
    folder = qwen_folder(random_model(seed=1), tmp_path, rows=3)
    model = random_model(seed=2, decoder={"vocab_size": 48})
    with pytest.raises(
        CheckpointError, match=r"embed_tokens.weight: the file has \[43, 16\], the model \[48, 16\]"
    ):
        load_decoder(model, folder)


@pytest.mark.parametrize(
    "config, message",
    [
        ({"num_attention_heads": 2}, "decoder.heads (4) must be 2, as "),
        ({"rope_theta": 10000.0}, "decoder.rope_theta (1000000.0) must be 10000.0, as "),
        ({"rms_norm_eps": 1e-5}, "decoder.norm_eps (1e-06) must be 1e-05, as "),
    ],
)
def test_a_decoder_that_computes_otherwise_with_equal_shapes_is_refused(
    random_model, tmp_path, config, message
):
    folder = qwen_folder(random_model(seed=1), tmp_path, **config)
    with pytest.raises(ConfigError) as refused:
        load_decoder(random_model(seed=2), folder)
    assert str(refused.value).startswith(message)


def test_an_untied_qwen_is_refused(random_model, tmp_path):
    folder = qwen_folder(random_model(seed=1), tmp_path)
    rewritten(folder, lambda t: {**t, "lm_head.weight": t["lm_head.weight"] + 1})
    with pytest.raises(
        CheckpointError, match="lm_head differs from the embedding by up to 1; GOT's are tied"
    ):
        load_decoder(random_model(seed=2), folder)


def test_a_decoder_with_more_layers_than_the_model_is_refused(random_model, tmp_path):
    folder = qwen_folder(random_model(seed=1, decoder={"layers": 3}), tmp_path)
    with pytest.raises(
        CheckpointError, match="not of this model: decoder.model.layers.2.mlp.down_proj.weight"
    ):
        load_decoder(random_model(seed=2), folder)


@pytest.mark.parametrize("prefix", ["model.decoder.", "decoder."])
@pytest.mark.parametrize("head", [False, True])
def test_opts_decoder_is_taken_under_both_prefixes(write_pth, random_model, tmp_path, prefix, head):
    source, model = random_model("opt", seed=1), random_model("opt", seed=2)
    save_model(source, tmp_path / "stage1")
    before = "opt_model.model.decoder."
    tensors = {
        name.replace(before, prefix): value
        for name, value in tensors_of(tmp_path / "stage1").items()
        if name.startswith(before)
    }
    if head:
        tensors["lm_head.weight"] = tensors[f"{prefix}embed_tokens.weight"]
    (tmp_path / "opt").mkdir()
    write_pth(tmp_path / "opt" / "pytorch_model.bin", tensors)
    described = {"num_attention_heads": 4, "activation_function": "relu", "do_layer_norm_before": True}
    (tmp_path / "opt" / "config.json").write_text(json.dumps(described))
    load_decoder(model, tmp_path / "opt")
    assert same(model, source, "decoder.")
    (tmp_path / "opt" / "config.json").write_text(json.dumps({**described, "do_layer_norm_before": False}))
    with pytest.raises(ConfigError, match="do_layer_norm_before is False; only True can be computed"):
        load_decoder(model, tmp_path / "opt")


def test_an_encoder_has_no_decoder_to_give_and_a_decoder_no_encoder(got_tiny, random_model, tmp_path):
    save_file(sam_names(tensors_of(got_tiny / "original")), str(tmp_path / "sam.safetensors"))
    with pytest.raises(CheckpointError, match="no decoder among these weights of sam"):
        load_decoder(random_model(), tmp_path / "sam.safetensors")
    with pytest.raises(CheckpointError, match="no encoder among these weights of qwen"):
        load_vision(random_model(), qwen_folder(random_model(), tmp_path))


# ---- saving


@pytest.mark.parametrize(
    "kind, layout, allowed",
    [
        ("qwen2", "vary", "original, transformers, paddlemix"),
        ("opt", "original", "vary"),
        ("qwen2", "onnx", "orig"),
    ],
)
def test_a_layout_that_the_model_cannot_have_is_refused(random_model, tmp_path, kind, layout, allowed):
    with pytest.raises(CheckpointError, match=f"layout must be one of {allowed}.*; got '{layout}'"):
        save_model(random_model(kind), tmp_path / "made", layout)
    assert not list(tmp_path.iterdir())


def test_transformers_has_no_projector_that_changes_the_width(random_model, tmp_path):
    model = random_model(out_width=24)
    with pytest.raises(CheckpointError, match=r"vision.out_width \(24\) must be decoder.width \(16\) there"):
        save_model(model, tmp_path / "made", "transformers")
    save_model(model, tmp_path / "made", "original")
    assert same(load_model(tmp_path / "made"), model)


def test_the_folder_may_be_the_one_we_stand_in(monkeypatch, random_model, tmp_path):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    save_model(random_model(), ".")
    assert same(load_model("."), random_model())


class Killed(BaseException):
    pass


def test_a_save_killed_while_it_writes_leaves_the_old_model(monkeypatch, random_model, tmp_path):
    old, new = random_model(seed=1), random_model(seed=2)
    save_model(old, tmp_path / "made")
    write = weights.save_tensors

    def killed(tensors, path, metadata):
        write(tensors, path, metadata)
        os.truncate(path, path.stat().st_size // 2)
        raise Killed

    monkeypatch.setattr(weights, "save_tensors", killed)
    with pytest.raises(Killed):
        save_model(new, tmp_path / "made")
    assert same(load_model(tmp_path / "made"), old)
    monkeypatch.undo()
    save_model(new, tmp_path / "made")
    assert same(load_model(tmp_path / "made"), new)
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


@pytest.mark.parametrize("before", ["whole", "shards"])
@pytest.mark.parametrize("after", ["whole", "shards"])
def test_a_save_killed_at_any_rename_leaves_the_old_model_or_the_new_one(
    monkeypatch, random_model, tmp_path, before, after
):
    """Renames and deletions are the only steps that touch a folder which exists; each is cut off in turn."""
    old, new, size = random_model(seed=1), random_model(seed=2), {"whole": 5 << 30, "shards": 20_000}
    replace, unlink = os.replace, type(tmp_path).unlink
    outcomes = []
    for last in range(30):
        folder, done = tmp_path / str(last), 0
        monkeypatch.setattr(weights, "SHARD_BYTES", size[before])
        save_model(old, folder)
        monkeypatch.setattr(weights, "SHARD_BYTES", size[after])

        def counted(step, last=last):
            def run(*arguments, **named):
                nonlocal done
                if done == last:
                    raise Killed
                done += 1
                return step(*arguments, **named)

            return run

        monkeypatch.setattr(os, "replace", counted(replace))
        monkeypatch.setattr(type(tmp_path), "unlink", counted(unlink))
        try:
            save_model(new, folder)
            finished = True
        except Killed:
            finished = False
        monkeypatch.undo()
        found = load_model(folder)
        outcomes.append(same(found, new))
        assert outcomes[-1] or same(found, old)
        if finished:
            break
    assert finished and outcomes[-1] and not outcomes[0]
    assert outcomes == sorted(outcomes)  # old, old, ..., new, new
    kept = {path.name for path in folder.iterdir()}
    assert ("model.safetensors" in kept) == (after == "whole")
    assert sum(name.startswith("model-") for name in kept) == (
        0
        if after == "whole"
        else len(
            set(json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"].values())
        )
    )


class FakeTokenizer:
    def save(self, folder):
        (folder / "qwen.tiktoken").write_text("ranks")

    def to_transformers(self, folder):
        (folder / "tokenizer.json").write_text("{}")


def test_what_else_is_in_the_folder_stays_and_the_other_layouts_tokenizer_goes(random_model, tmp_path):
    folder = tmp_path / "made"
    save_model(random_model(), folder, tokenizer=FakeTokenizer())
    (folder / "checkpoint-3").mkdir()
    (folder / "notes.txt").write_text("mine")
    (folder / "checkpoint-3" / "model.safetensors").write_text("older")
    save_model(random_model(seed=1), folder)
    assert (folder / "qwen.tiktoken").exists()  # no new one came
    save_model(random_model(seed=1), folder, "transformers", tokenizer=FakeTokenizer())
    assert {path.name for path in folder.iterdir()} == {
        "checkpoint-3",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "notes.txt",
        "preprocessor_config.json",
        "tokenizer.json",
    }
    assert (folder / "checkpoint-3" / "model.safetensors").read_text() == "older"
    assert same(load_model(folder), random_model(seed=1))
