"""Against transformers itself, in the interpreter that GOT_REFERENCE_PYTHON names (torch, transformers >= 5).

Ours read by it, its random models of many shapes read by us, and what a run starts from: SAM and OPT.
"""

import json

import numpy as np
import paddle
import pytest

from got_train import images, prompts
from got_train.checkpoint import layouts
from got_train.checkpoint.weights import load_decoder, load_model, load_vision, save_model
from got_train.generation.generate import generate
from got_train.modeling.config import DecoderConfig, GotConfig, VisionConfig
from got_train.modeling.got import Got
from got_train.tokenizer import train_tokenizer

pytestmark = pytest.mark.reference


def relative(ours, theirs):
    return np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max()


def randomised(model, seed):
    """Every parameter random, zeros and ones too; small embeddings, lest greedy answers are one word."""
    generator = np.random.default_rng(seed)
    for parameter in model.parameters():
        scale = 0.05 if parameter is model.decoder.head else 0.5
        values = scale * generator.normal(size=parameter.shape)
        parameter.set_value(paddle.to_tensor(values.astype("float32")))
    return model.eval()


# ---- ours, read by transformers

READS_OURS = """
import json, sys
import numpy as np, torch
from PIL import Image
from transformers import AutoConfig, AutoTokenizer, GotOcr2ForConditionalGeneration
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
torch.set_num_threads(1)
folder, picture, prompt = sys.argv[1:]
model, info = GotOcr2ForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
tokenizer = AutoTokenizer.from_pretrained(folder)
processor = GotOcr2ImageProcessorPil.from_pretrained(folder)
pixels = processor(Image.open(picture), return_tensors="pt")["pixel_values"]
batch = {**tokenizer(prompt, return_tensors="pt", add_special_tokens=False), "pixel_values": pixels}
batch.pop("token_type_ids", None)
with torch.no_grad():
    logits = model.eval()(**batch).logits[0]
    made = model.generate(**batch, max_new_tokens=24, do_sample=False)[0, batch["input_ids"].shape[1]:]
np.savez(folder + "/theirs.npz", logits=logits.numpy(), pixels=pixels.numpy())
model.save_pretrained(folder + "/back")
faults = [info]
for name in ("shards", "half"):
    other, info = GotOcr2ForConditionalGeneration.from_pretrained(
        f"{folder}/{name}", dtype=torch.float32, output_loading_info=True)
    faults.append(info)
    for ours, theirs in zip(model.parameters(), other.parameters()):
        assert torch.equal(ours if name == "shards" else ours.bfloat16().float(), theirs), name
print(json.dumps({
    "faults": [sorted(info[key]) for info in faults
               for key in ("missing_keys", "unexpected_keys", "mismatched_keys")],
    "dtype": str(model.dtype), "stops": model.generation_config.eos_token_id,
    "prompt": batch["input_ids"][0].tolist(), "ids": made.tolist(),
    "text": tokenizer.decode(made, skip_special_tokens=True),
}))
"""


@pytest.fixture(scope="module")
def exported(reference, tmp_path_factory):
    """A small random model of ours and what transformers makes of its export."""
    folder = tmp_path_factory.mktemp("exported")
    tokenizer = train_tokenizer(["reading pages of text, page after page"] * 20, 280)
    vision = VisionConfig(
        image_side=64, patch=8, width=32, layers=3, heads=4, mlp_width=48, window=3, global_layers=(2,),
        neck_width=12, out_width=40,
    )  # fmt: skip
    decoder = DecoderConfig(
        vocab_size=tokenizer.size, width=40, layers=2, heads=4, kv_heads=2, mlp_width=72, max_positions=256
    )
    config = GotConfig(
        vision=vision,
        decoder=decoder,
        image_token=tokenizer.image_id,
        pad_token=tokenizer.pad_id,
        stop_tokens=tokenizer.stop_ids,
    )
    paddle.seed(0)
    model = randomised(Got(config), seed=2)
    save_model(model, folder, "transformers", tokenizer=tokenizer)
    save_model(model, folder / "half", "transformers", "bfloat16")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("got_train.checkpoint.weights.SHARD_BYTES", 40_000)
        save_model(model, folder / "shards", "transformers")
    noise = np.random.default_rng(0).integers(0, 256, [90, 70, 3], dtype="uint8")
    picture = folder / "page.png"
    images.Image.fromarray(noise).save(picture)
    prompt = prompts.build_prompt("ocr", view_tokens=vision.view_tokens)
    return folder, model, tokenizer, picture, prompt, reference(READS_OURS, folder, picture, prompt)


def test_transformers_finds_every_weight_of_our_export_and_no_other_whole_in_shards_and_halved(exported):
    theirs = exported[-1]
    assert theirs["faults"] == [[]] * 9
    assert theirs["dtype"] == "torch.float32"
    assert theirs["stops"] == list(exported[2].stop_ids)


def test_transformers_gives_our_logits_to_1e_4(exported):
    folder, model, tokenizer, picture, prompt, theirs = exported
    ids, view = tokenizer.encode_prompt(prompt), images.view(images.open_image(picture), 64)
    found = np.load(folder / "theirs.npz")
    assert theirs["prompt"] == ids
    assert relative(model.normalize(paddle.to_tensor(view[None])), found["pixels"]) < 1e-6
    logits = model(paddle.to_tensor([ids]), paddle.to_tensor(view[None])).logits[0]
    assert relative(logits, found["logits"]) < 1e-4


def test_transformers_writes_our_greedy_tokens_and_text(exported):
    _, model, tokenizer, picture, prompt, theirs = exported
    ids, view = tokenizer.encode_prompt(prompt), images.view(images.open_image(picture), 64)
    made = generate(model, np.array([ids]), view[None], max_new_tokens=24).ids[0]
    assert len(set(made)) > 8
    assert made == theirs["ids"]
    assert tokenizer.decode(made) == theirs["text"]


def test_what_transformers_saves_of_our_export_is_our_model_again(exported):
    folder, model, *_ = exported
    again = load_model(folder / "back")
    assert again.config == model.config
    for name, parameter in again.named_parameters():
        assert (parameter.numpy() == dict(model.named_parameters())[name].numpy()).all(), name


# ---- transformers' models of many shapes, read by us

VISION = {
    "image_size": 64, "patch_size": 8, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4,
    "mlp_dim": 48, "window_size": 3, "global_attn_indexes": [1], "output_channels": 12,
}  # fmt: skip
TEXT = {
    "vocab_size": 64, "hidden_size": 40, "intermediate_size": 72, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128, "rope_theta": 1e6,
}  # fmt: skip
SHAPES = {
    "grouped heads, window 3 pads 8": {},
    "all heads, window 4 divides 8": {"text": {"num_key_value_heads": 4}, "vision": {"window_size": 4}},
    "one key head, three views a row": {"text": {"num_key_value_heads": 1}, "views": 3},
    "every matrix but qkv square": {
        "vision": {"hidden_size": 32, "mlp_dim": 32, "output_channels": 32},
        "text": {"hidden_size": 32, "intermediate_size": 32, "num_key_value_heads": 4, "vocab_size": 32},
    },
    "odd grid 7": {"vision": {"image_size": 56, "global_attn_indexes": [0, 2]}},
    "grid 10 gives 9 tokens": {"vision": {"image_size": 80, "window_size": 7}},
    "window 9 beyond grid 8": {"vision": {"window_size": 9}},
    "no global layer": {"vision": {"global_attn_indexes": []}},
    "all layers global": {"vision": {"global_attn_indexes": [0, 1, 2]}},
    "window 1": {"vision": {"window_size": 1}},
    "epsilon 1e-3 in the encoder": {"vision": {"layer_norm_eps": 1e-3}},
    "epsilon 1e-3 and rope 10000 in the decoder": {"text": {"rms_norm_eps": 1e-3, "rope_theta": 1e4}},
    "in shards": {"shard": "40KB"},
    "in bfloat16": {"dtype": "bfloat16"},
}
MAKES_THEIRS = """
import copy, json, sys
import numpy as np, torch
from transformers import GotOcr2Config, GotOcr2ForConditionalGeneration
torch.set_num_threads(1)
folder, shapes = sys.argv[1], json.loads(sys.argv[2])
for number, shape in enumerate(shapes):
    generator = torch.Generator().manual_seed(number)
    text, vision, views = shape["text"], shape["vision"], shape.get("views", 1)
    image = text["vocab_size"] - 1
    text["model_type"] = "qwen2"
    config = GotOcr2Config(text_config=text, vision_config=vision, image_token_index=image)
    model = GotOcr2ForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            scale = 0.5 if parameter.ndim == 1 else 0.15
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
            if shape.get("dtype") == "bfloat16":
                parameter.copy_(parameter.bfloat16().float())
    saved = copy.deepcopy(model).bfloat16() if shape.get("dtype") == "bfloat16" else model
    saved.save_pretrained(f"{folder}/{number}", max_shard_size=shape.get("shard", "5GB"))
    side = vision["image_size"] // vision["patch_size"]
    tokens = (((side + 1) // 2 + 1) // 2) ** 2
    ids = torch.randint(0, image, [2, views * tokens + 12], generator=generator)
    ids[0, 2:2 + views * tokens] = image
    ids[1, 5:5 + views * tokens] = image
    mask = torch.ones_like(ids)
    mask[1, -4:] = 0
    labels = torch.where(mask.bool() & (ids != image), ids, -100)
    labels[:, :2] = -100
    pixels = torch.randn([2 * views, 3, vision["image_size"], vision["image_size"]], generator=generator)
    output = model(input_ids=ids, attention_mask=mask, pixel_values=pixels, labels=labels)
    output.loss.backward()
    norms = {name: float(parameter.grad.norm()) for name, parameter in model.named_parameters()}
    np.savez(f"{folder}/{number}.npz", ids=ids, mask=mask, labels=labels, pixels=pixels,
             logits=output.logits.detach(), loss=output.loss.detach(), norms=json.dumps(norms))
print(json.dumps(len(shapes)))
"""


@pytest.fixture(scope="module")
def theirs(reference, tmp_path_factory):
    folder = tmp_path_factory.mktemp("theirs")
    shapes = [
        {**shape, "vision": {**VISION, **shape.get("vision", {})}, "text": {**TEXT, **shape.get("text", {})}}
        for shape in SHAPES.values()
    ]
    assert reference(MAKES_THEIRS, folder, json.dumps(shapes)) == len(SHAPES)
    return folder


@pytest.mark.parametrize("shape", SHAPES)
def test_a_random_model_of_transformers_gives_its_logits_and_gradients_here(theirs, shape):
    number = list(SHAPES).index(shape)
    model, case = load_model(theirs / str(number)), np.load(theirs / f"{number}.npz")
    names = {"input_ids": "ids", "pixel_values": "pixels", "attention_mask": "mask", "labels": "labels"}
    output = model(**{ours: paddle.to_tensor(case[name]) for ours, name in names.items()})
    words = case["mask"] > 0
    assert relative(output.logits.numpy()[words], case["logits"][words]) < 1e-4
    assert abs(float(output.loss) - case["loss"]) < 1e-4 * case["loss"]
    output.loss.backward()
    norms = {
        layouts.to_ours(layouts.canonical(name), "transformers"): norm
        for name, norm in json.loads(str(case["norms"])).items()
    }
    ours = {name: float(parameter.grad.norm()) for name, parameter in model.named_parameters()}
    assert ours.keys() == norms.keys()
    largest = max(norms.values())
    for name, norm in norms.items():
        # biases of keys in a decoder have next to no gradient (softmax), hence a floor beside the 1e-4
        assert abs(ours[name] - norm) < 1e-4 * norm + 1e-6 * largest, name


# ---- what a run starts from

MAKES_SAM = """
import json, sys
import numpy as np, torch
from transformers import SamConfig, SamModel, SamVisionConfig
torch.set_num_threads(1)
folder = sys.argv[1]
torch.manual_seed(0)
vision = SamVisionConfig(hidden_size=32, num_hidden_layers=3, num_attention_heads=4, image_size=64,
    patch_size=8, window_size=3, global_attn_indexes=[1], output_channels=12, mlp_dim=48)
model = SamModel(SamConfig(vision_config=vision.to_dict())).eval()
with torch.no_grad():
    for parameter in model.vision_encoder.parameters():
        parameter.copy_(torch.randn(parameter.shape) * (0.5 if parameter.ndim == 1 else 0.15))
    pixels = torch.randn([2, 3, 64, 64])
    seen = model.vision_encoder(pixels)[0]
np.savez(folder + "/seen.npz", pixels=pixels, seen=seen)
model.save_pretrained(folder + "/hub")
state = {}
renames = [("vision_encoder.", "image_encoder."), ("layers.", "blocks."), ("layer_norm", "norm"),
    ("projection", "proj"), ("neck.conv1", "neck.0"), ("neck.norm1", "neck.1"), ("neck.conv2", "neck.2"),
    ("neck.norm2", "neck.3")]
for name, value in model.state_dict().items():
    if name.startswith("vision_encoder."):
        for hub, published in renames:
            name = name.replace(hub, published)
    state[name] = torch.nn.Parameter(value) if value.is_floating_point() else value
torch.save(state, folder + "/sam_vit_b.pth")
print(json.dumps(len(state)))
"""


@pytest.mark.parametrize("path", ["hub", "sam_vit_b.pth"])
def test_sams_encoder_of_torch_gives_the_same_map_here(reference, random_model, tmp_path, path):
    reference(MAKES_SAM, tmp_path)
    model = random_model(width=32, heads=4, mlp_width=48, neck_width=12)
    assert load_vision(model, tmp_path / path) == ["vision.net_2.weight", "vision.net_3.weight"]
    case, seen = np.load(tmp_path / "seen.npz"), {}
    model.vision.neck.register_forward_post_hook(lambda layer, given, output: seen.update(map=output.numpy()))
    model.vision(paddle.to_tensor(case["pixels"]))
    assert relative(seen["map"], case["seen"].transpose(0, 2, 3, 1)) < 1e-5


MAKES_OPT = """
import json, os, sys
import numpy as np, torch
from transformers import OPTConfig, OPTForCausalLM
torch.set_num_threads(1)
folder = sys.argv[1]
torch.manual_seed(0)
model = OPTForCausalLM(OPTConfig(vocab_size=48, hidden_size=32, num_hidden_layers=2, ffn_dim=56, dropout=0.0,
    num_attention_heads=4, word_embed_proj_dim=32, max_position_embeddings=40)).eval()
generator = torch.Generator().manual_seed(0)
with torch.no_grad():
    for parameter in model.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
model.save_pretrained(folder + "/whole")
os.makedirs(folder + "/base")
model.config.save_pretrained(folder + "/base")
torch.save(model.model.state_dict(), folder + "/base/pytorch_model.bin")
x = torch.randn([3, 11, 32], generator=generator)
mask = torch.ones([3, 11], dtype=torch.long)
mask[1, :4], mask[2, 8:] = 0, 0
with torch.no_grad():
    logits = model(inputs_embeds=x, attention_mask=mask).logits
np.savez(folder + "/case.npz", x=x, mask=mask, logits=logits)
print(json.dumps(sorted(model.model.state_dict())[:1]))
"""


@pytest.mark.parametrize("path", ["whole", "base"])
def test_opt_of_torch_gives_the_same_logits_here_with_padding_on_either_side(
    reference, random_model, tmp_path, path
):
    assert reference(MAKES_OPT, tmp_path) == ["decoder.embed_positions.weight"]
    sizes = {"vocab_size": 48, "width": 32, "mlp_width": 56, "max_positions": 40}
    model, case = random_model("opt", decoder=sizes), np.load(tmp_path / "case.npz")
    load_decoder(model, tmp_path / path)
    places = np.clip(np.cumsum(case["mask"], axis=1) - 1, 0, None)
    x, mask, places = (paddle.to_tensor(array) for array in (case["x"], case["mask"], places))
    hidden = model.decoder(x, mask, places)
    logits = paddle.matmul(hidden, model.decoder.head, transpose_y=True).numpy()
    words = case["mask"] > 0
    assert relative(logits[words], case["logits"][words]) < 1e-5
