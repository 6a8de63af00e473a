"""The model: encoder, projector, decoder, loss, in plain Paddle. Knows no files, no data, no kernels."""
