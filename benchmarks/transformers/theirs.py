"""transformers' GotOcr2 at full size, and torch: the work of the other side. Needs no paddle."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
from PIL import Image
from transformers import (
    GotOcr2Config,
    GotOcr2ForConditionalGeneration,
    GotOcr2ImageProcessor,
    Qwen2Config,
    Qwen2ForCausalLM,
)
from transformers.models.got_ocr2.modeling_got_ocr2 import GotOcr2VisionEncoder
from turns import a4_page, repeated, take_turns

IMAGE, PROMPT, ANSWER = 151859, 287, 512


def matmul() -> Callable:
    a, b = torch.randn(4096, 768), torch.randn(768, 3072)
    return lambda: a @ b


def stream() -> Callable:
    a, b = torch.randn(1, 8192), torch.randn(8192, 32768)
    return lambda: a @ b


def encoder(dtype: torch.dtype = torch.float32) -> Callable:
    tower = GotOcr2VisionEncoder(GotOcr2Config().vision_config).to(dtype).eval()
    views = torch.randn(1, 3, 1024, 1024, dtype=dtype)
    return torch.no_grad()(lambda: tower(views))


def language_model(dtype: torch.dtype = torch.float32) -> Qwen2ForCausalLM:
    text = GotOcr2Config().text_config.to_dict()
    return Qwen2ForCausalLM(Qwen2Config(**text)).to(dtype).eval()


def prefill(dtype: torch.dtype = torch.float32) -> Callable:
    model = language_model(dtype)
    embeddings = torch.randn(1, PROMPT, 1024, dtype=dtype)
    return torch.no_grad()(lambda: model(inputs_embeds=embeddings, use_cache=True, logits_to_keep=1))


def decode(batch: int, tokens: int, dtype: torch.dtype = torch.float32) -> Callable:
    """Greedy steps after the prompt, each timed run from the same cache length."""
    model = language_model(dtype)
    ids = torch.randint(0, 151643, (batch, PROMPT))
    with torch.no_grad():
        past = model(ids, use_cache=True, logits_to_keep=1).past_key_values

    @torch.no_grad()
    def run() -> None:
        token = ids[:, -1:]
        for _ in range(tokens):
            token = model(token, past_key_values=past, use_cache=True).logits[:, -1:].argmax(-1)
        past.crop(-tokens)  # back to the prompt

    return run


def page(tokens: int, cache: str | None = None) -> Callable:
    """From the file of a page to its ids (a tokenizer would take a millisecond), in bfloat16."""
    config = GotOcr2Config()
    config.text_config._attn_implementation = "sdpa"  # the encoder has none
    model = GotOcr2ForConditionalGeneration(config).to(torch.bfloat16).eval()
    processor = GotOcr2ImageProcessor(size={"height": 1024, "width": 1024})
    ids = torch.randint(0, 151643, (1, PROMPT))
    ids[:, 20:276] = IMAGE
    path = a4_page()
    options = {"do_sample": False, "max_new_tokens": tokens, "min_new_tokens": tokens, "pad_token_id": 0}
    options |= {"cache_implementation": cache} if cache else {}

    @torch.no_grad()
    def run() -> None:
        pixels = processor(Image.open(path), return_tensors="pt")["pixel_values"].to(torch.bfloat16)
        answer = model.generate(input_ids=ids, pixel_values=pixels, no_repeat_ngram_size=20, **options)
        assert answer.shape[1] == PROMPT + tokens, answer.shape

    return run


def train(frozen: bool = False, dtype: torch.dtype = torch.float32) -> Callable:
    model = GotOcr2ForConditionalGeneration(GotOcr2Config()).to(dtype).train()
    for name, parameter in model.named_parameters():
        parameter.requires_grad = not (frozen and "vision_tower" in name)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, fused=True)
    ids = torch.randint(0, 151643, (1, PROMPT + ANSWER))
    ids[:, 20:276] = IMAGE
    labels = ids.clone()
    labels[:, :PROMPT] = -100
    views = torch.randn(1, 3, 1024, 1024, dtype=dtype)

    def run() -> None:
        model(input_ids=ids, pixel_values=views, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return run


def nano() -> Callable:
    vision = {
        "image_size": 128, "patch_size": 8, "hidden_size": 96, "num_hidden_layers": 3,
        "num_attention_heads": 4, "mlp_dim": 288, "window_size": 4, "global_attn_indexes": [2],
        "output_channels": 48,
    }  # fmt: skip
    text = {
        "vocab_size": 384, "hidden_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4,
        "num_key_value_heads": 4, "intermediate_size": 256, "max_position_embeddings": 512,
        "model_type": "qwen2",
    }  # fmt: skip
    config = GotOcr2Config(vision_config=vision, text_config=text, image_token_index=383)
    config.image_token_id = 383
    model = GotOcr2ForConditionalGeneration(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    ids = torch.randint(0, 380, (16, 70))
    ids[:, 5:21] = 383
    views = torch.randn(16, 3, 128, 128)

    def run() -> None:
        model(input_ids=ids, pixel_values=views, labels=ids).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return repeated(run)


def loss() -> Callable:
    head = torch.randn(151860, 1024).mul_(0.02).requires_grad_()
    states = torch.randn(8192, 1024, requires_grad=True)
    labels = torch.randint(0, 151643, (8192,))

    def run() -> None:
        torch.nn.functional.cross_entropy(states @ head.T, labels).backward()
        head.grad = states.grad = None

    return run


CASES = {
    "matmul": matmul,
    "stream": stream,
    "encoder": encoder,
    "encoder_bf16": lambda: encoder(torch.bfloat16),
    "prefill": prefill,
    "prefill_bf16": lambda: prefill(torch.bfloat16),
    "decode_1": lambda: decode(1, 32),
    "decode_8": lambda: decode(8, 16),
    "decode_12": lambda: decode(12, 10),
    "decode_32": lambda: decode(32, 8),
    "decode_1_bf16": lambda: decode(1, 32, torch.bfloat16),
    "decode_8_bf16": lambda: decode(8, 16, torch.bfloat16),
    "page_1000": lambda: page(1000),
    "page_32": lambda: page(32),
    "page_1000_static": lambda: page(1000, "static"),
    "page_32_static": lambda: page(32, "static"),
    "train": train,
    "train_bf16": lambda: train(dtype=torch.bfloat16),
    "train_frozen": lambda: train(frozen=True),
    "nano": nano,
    "loss": loss,
}

if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[2]))
    torch.manual_seed(0)
    take_turns(CASES)
