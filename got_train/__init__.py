"""Training and fine-tuning of GOT-OCR2.0 on PaddlePaddle, from a YAML file to a page read."""

__version__ = "0.1.0"
