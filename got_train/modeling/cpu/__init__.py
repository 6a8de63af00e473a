"""The model's forwards and gradients for a CPU, put on from outside."""
