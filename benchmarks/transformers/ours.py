"""got_train at full size: the work of our side."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from turns import a4_page, repeated, take_turns

from got_train.cpu import settings

if __name__ == "__main__":
    settings.tune(int(sys.argv[2]))

import paddle

from benchmarks.cpu_settings import nano_step
from got_train.inference.reader import OcrPipeline, OcrRequest, Page
from got_train.modeling.config import DecoderConfig, GotConfig, VisionConfig
from got_train.modeling.cpu.accelerate import accelerate
from got_train.modeling.cpu.bf16_decoder import cast_decoder_to_bf16
from got_train.modeling.cpu.bf16_encoder import ExportedVisionEncoder
from got_train.modeling.cpu.int8_decoder import quantize_decoder
from got_train.modeling.cpu.trim_hooks import trim_between_layers
from got_train.modeling.decoder import build_decoder
from got_train.modeling.got import Got
from got_train.modeling.loss import fused_linear_cross_entropy
from got_train.modeling.vision import Vision
from got_train.tokenizer import GOT_RANKS, Tokenizer
from got_train.training.optimizer import AdamW

IMAGE, PROMPT, ANSWER = 151859, 287, 512


def matmul() -> Callable:
    a, b = paddle.randn([4096, 768]), paddle.randn([768, 3072])
    return lambda: a @ b


def stream() -> Callable:
    a, b = paddle.randn([1, 8192]), paddle.randn([8192, 32768])
    return lambda: a @ b


def encoder() -> Callable:
    vision = Vision(VisionConfig())
    vision.eval()
    accelerate(vision)
    views = paddle.randn([1, 3, 1024, 1024])
    return paddle.no_grad()(lambda: vision(views))


def encoder_bf16() -> Callable:
    vision = Vision(VisionConfig())
    read = ExportedVisionEncoder(vision, int(sys.argv[2]))
    views = paddle.randn([1, 3, 1024, 1024])
    return lambda: read(views)


def started(batch: int, held: str = "float32") -> tuple:
    """A decoder, with its weights held so, and a cache that holds a prompt."""
    decoder = build_decoder(DecoderConfig(vocab_size=151860))
    decoder.eval()
    accelerate(decoder)
    if held == "bfloat16":
        cast_decoder_to_bf16(decoder)
    if held == "int8":
        quantize_decoder(decoder)
    mask = paddle.ones([batch, PROMPT], dtype="int64")
    return decoder, decoder.new_cache(mask), mask


def prefill(held: str = "float32") -> Callable:
    decoder, _, mask = started(1, held)
    embeddings = paddle.randn([1, PROMPT, 1024])
    places = paddle.arange(PROMPT).unsqueeze(0)

    def run() -> None:
        hidden = decoder.step(embeddings, places, decoder.new_cache(mask))[:, -1]
        decoder.lm_head(hidden)

    return paddle.no_grad()(run)


def decode(batch: int, tokens: int, held: str = "float32") -> Callable:
    decoder, cache, _ = started(batch, held)
    with paddle.no_grad():
        ids = paddle.randint(0, 151643, [batch, PROMPT])
        decoder.step(decoder.embed(ids), paddle.arange(PROMPT).expand([batch, PROMPT]), cache)

    def run() -> None:
        cache.length, token = PROMPT, ids[:, -1:]
        for number in range(tokens):
            place = paddle.full([batch, 1], PROMPT + number, dtype="int64")
            hidden = decoder.step(decoder.embed(token), place, cache)[:, -1]
            token = decoder.lm_head(hidden).argmax(-1, keepdim=True)

    return paddle.no_grad()(run)


def page(tokens: int) -> Callable:
    """From the file of a page to its text, with an answer of so many tokens, by the fastest settings."""
    words = {number.to_bytes(1 + (number > 255) * 2, "big"): number for number in range(GOT_RANKS)}
    tokenizer = Tokenizer(words)
    model = Got(GotConfig(decoder=DecoderConfig(vocab_size=tokenizer.size), stop_tokens=()))
    model.eval()
    accelerate(model)
    if settings.has_bfloat16():
        ExportedVisionEncoder(model.vision, int(sys.argv[2])).attach()
    quantize_decoder(model.decoder)
    pipeline = OcrPipeline(model, tokenizer, max_new_tokens=tokens, stop_loops=False)
    request = OcrRequest((Page(str(a4_page())),), "ocr")

    def run() -> None:
        (answer,) = pipeline.read([request])
        assert len(answer.ids) == tokens, len(answer.ids)

    return run


def step_of(model: Got, forward: Callable) -> Callable:
    accelerate(model)
    trim_between_layers(model)  # as a run does
    trained = [parameter for parameter in model.parameters() if not parameter.stop_gradient]
    clip = paddle.nn.ClipGradByGlobalNorm(1.0)
    decay = {parameter.name: 0.01 for parameter in trained}
    optimizer = AdamW(decay, tidy=True, learning_rate=1e-5, parameters=trained, grad_clip=clip)

    def run() -> None:
        forward().loss.backward()
        optimizer.step()
        optimizer.clear_grad()

    return run


def train(frozen: bool = False, cached: bool = False) -> Callable:
    config = GotConfig(vision=VisionConfig(), decoder=DecoderConfig(vocab_size=151860), image_token=IMAGE)
    model = Got(config)
    for parameter in model.vision.parameters() if frozen else ():
        parameter.stop_gradient = True
    ids = paddle.randint(0, 151643, [1, PROMPT + ANSWER])
    ids[:, 20:276] = IMAGE
    labels = ids.clone()
    labels[:, :PROMPT] = -100
    views = paddle.randn([1, 3, 1024, 1024])
    if not cached:
        return step_of(model, lambda: model(ids, views, labels=labels))
    features = paddle.randn([1, 256, 1024])
    return step_of(model, lambda: model.decode(ids, model.projector(features), labels=labels))


def nano() -> Callable:
    model, ids, views = nano_step()
    return repeated(step_of(model, lambda: model(ids, views, labels=ids)))


def loss() -> Callable:
    head = paddle.create_parameter([151860, 1024], "float32")
    states = paddle.randn([1, 8193, 1024])
    states.stop_gradient = False
    labels = paddle.randint(0, 151643, [1, 8193])

    def run() -> None:
        total, count = fused_linear_cross_entropy(states, head, labels, -100)
        (total / count).backward()
        head.clear_gradient()
        states.clear_gradient()

    return run


CASES = {
    "matmul": matmul,
    "stream": stream,
    "encoder": encoder,
    "encoder_bf16": encoder_bf16,
    "prefill": prefill,
    "prefill_bf16": lambda: prefill("bfloat16"),
    "decode_1": lambda: decode(1, 32),
    "decode_8": lambda: decode(8, 16),
    "decode_12": lambda: decode(12, 10),
    "decode_32": lambda: decode(32, 8),
    "decode_1_bf16": lambda: decode(1, 32, "bfloat16"),
    "decode_8_bf16": lambda: decode(8, 16, "bfloat16"),
    "decode_1_int8": lambda: decode(1, 32, "int8"),
    "decode_8_int8": lambda: decode(8, 16, "int8"),
    "page_1000": lambda: page(1000),
    "page_32": lambda: page(32),
    "train": train,
    "train_frozen": lambda: train(frozen=True),
    "train_cached": lambda: train(frozen=True, cached=True),
    "nano": nano,
    "loss": loss,
}

if __name__ == "__main__":
    paddle.seed(0)
    take_turns(CASES)
