"""Sizes of the small random models that several tests build: an encoder that gives 4 tokens a view."""

ENCODER = {
    "image_side": 64,
    "patch": 8,
    "width": 16,
    "layers": 2,
    "heads": 2,
    "mlp_width": 32,
    "window": 3,
    "global_layers": (1,),
    "neck_width": 8,
    "out_width": 16,
}
# of a run that trains it, on views of 32 x 32 pixels: settings of model.vision and model.decoder
TRAINED_ENCODER = {**ENCODER, "image_side": 32, "patch": 4, "mlp_width": 24, "global_layers": [1]}
TRAINED_DECODER = {
    "vocab_size": 0, "width": 16, "layers": 2, "heads": 4, "mlp_width": 24, "max_positions": 256,
}  # fmt: skip
