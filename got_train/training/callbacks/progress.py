"""What a run shows while it goes: a bar on a terminal, a line now and then in a file."""

from __future__ import annotations

import sys
import time

from paddlenlp.trainer import TrainerCallback
from tqdm import tqdm

from got_train.profiling.memory import peak_memory
from got_train.training.loader import WAITING, StepLoader
from got_train.training.run_files import VALIDATION_LOSS


class Progress(TrainerCallback):
    """Step, loss, learning rate, pages/s, tokens/s, peak memory, waiting, time left; on one process only.

    Speed and time left are those of this session: a resumed run does not count what was done before it. The
    share of waiting for data is that since the line before.
    """

    def __init__(self, batch_size: int, loader: StepLoader) -> None:
        self.batch_size, self.loader = batch_size, loader
        self.bar = None

    def on_train_begin(self, args: object, state: object, control: object, **kwargs: object) -> None:
        self.began, self.first = time.monotonic(), state.global_step
        if state.is_world_process_zero:
            self.bar = tqdm(
                total=state.max_steps,
                initial=self.first,
                unit="step",
                file=sys.stderr,
                mininterval=1.0,
                disable=not sys.stderr.isatty(),
            )

    def on_step_end(self, args: object, state: object, control: object, **kwargs: object) -> None:
        if self.bar is not None:
            self.bar.update(1)

    def on_log(
        self, args: object, state: object, control: object, logs: dict | None = None, **kwargs: object
    ) -> None:
        if self.bar is None:
            return
        if VALIDATION_LOSS in (logs or {}):
            self.bar.write(
                f"step {state.global_step}: validation loss {logs[VALIDATION_LOSS]:.4f}", file=sys.stderr
            )
        if "loss" not in (logs or {}):
            return
        seconds, done = max(time.monotonic() - self.began, 1e-9), state.global_step - self.first
        line = f"loss {logs['loss']:.4f}, lr {logs['learning_rate']:.1e}"
        line += (
            f", {done * self.batch_size / seconds:.1f} pages/s, {self.loader.tokens / seconds:.0f} tokens/s"
        )
        line += f", {peak_memory() / 2**30:.2f} GB, waits {100 * logs[WAITING]:.0f} %"
        if self.bar.disable:
            left = tqdm.format_interval((state.max_steps - state.global_step) * seconds / max(done, 1))
            print(
                f"step {state.global_step}/{state.max_steps}: {line}, {left} left",
                file=sys.stderr,
                flush=True,
            )
        else:
            self.bar.set_postfix_str(line)

    def close(self) -> None:
        """To be called however the run ends, so that what is printed next has a line of its own."""
        if self.bar is not None:
            self.bar.close()
