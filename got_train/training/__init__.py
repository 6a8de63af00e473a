"""Training behind paddlenlp's Trainer: parts and their learning rates, step loader, checkpoints, progress."""
