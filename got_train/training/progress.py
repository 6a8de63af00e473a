"""What a run shows while it goes: one line on stderr, and exact scalars for VisualDL."""

from __future__ import annotations

import sys
import time

from paddlenlp.trainer import TrainerCallback
from tqdm import tqdm


class Progress(TrainerCallback):
    """A bar with loss, learning rate, pages/s and time left; on the first process only."""

    def __init__(self, batch_size: int):
        self.batch_size = batch_size
        self.bar = None

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        self.began, self.first = time.monotonic(), state.global_step
        if state.is_world_process_zero:
            self.bar = tqdm(
                total=state.max_steps, initial=state.global_step, unit="step", file=sys.stderr, mininterval=1.0
            )

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if self.bar is not None:
            self.bar.update(1)

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        if self.bar is None or not logs or "loss" not in logs:
            return
        seconds = time.monotonic() - self.began
        pages = (state.global_step - self.first) * self.batch_size / max(seconds, 1e-9)
        self.bar.set_postfix_str(f"loss {logs['loss']:.4f}, {pages:.1f} pages/s")

    def on_train_end(self, args, state, control, **kwargs) -> None:
        if self.bar is not None:
            self.bar.close()
