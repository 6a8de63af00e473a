"""Compile the CPU kernels: got precompile. Without it the first run compiles them."""

from __future__ import annotations

from collections.abc import Sequence

from .arguments import CommandParser
from .exits import DONE, handle_errors


def parser() -> CommandParser:
    return CommandParser("precompile", description="Compile the CPU kernels, so that the first run need not.")


@handle_errors("precompile")
def main(arguments: Sequence[str] | None = None) -> int:
    parser().parse_args(arguments)
    # after the arguments: these import numba and Paddle, which takes seconds
    from got_train.cpu import parallel_jit, settings

    parallel_jit.compile_in_this_process()
    settings.tune()
    import paddle
    from PIL import Image

    from got_train import images
    from got_train.generation.decode import DecodingState
    from got_train.modeling.config import DecoderConfig, GotConfig, VisionConfig
    from got_train.modeling.cpu.accelerate import accelerate
    from got_train.modeling.cpu.bf16_decoder import cast_decoder_to_bf16
    from got_train.modeling.cpu.int8_decoder import quantize_decoder
    from got_train.modeling.got import Got

    small = {"image_side": 64, "patch": 8, "width": 8, "heads": 2, "mlp_width": 8, "neck_width": 4}
    vision = VisionConfig(layers=2, window=3, global_layers=(1,), **small)
    decoder = DecoderConfig(vocab_size=16, width=vision.out_width, layers=1, heads=2, mlp_width=8)
    config = GotConfig(vision=vision, decoder=decoder, image_token=15)
    model, rounded = Got(config), Got(config)
    accelerate(model)
    seen = paddle.ones([3, 8], dtype="int64")
    ids, views = seen.clone(), paddle.zeros([3, 3, 64, 64])
    ids[:, 2:6] = 15
    model(ids, views, labels=ids).loss.backward()
    prompt = [tensor.numpy() for tensor in (ids, views, seen)]
    with paddle.no_grad():
        DecodingState(model, *prompt).step([1, 2, 3])
        cast_decoder_to_bf16(model.decoder)
        DecodingState(model, *prompt).step([1, 2, 3])
        accelerate(rounded)
        quantize_decoder(rounded.decoder)
        DecodingState(rounded, *prompt).step([1, 2, 3])

    for size in ((9, 20), (20, 9), (8, 8)):  # the height first, the width first, neither
        images.view(Image.new("RGB", size), 8)
    return DONE
