"""What the doctor does in a process of its own: python -m got_train.doctor.children kill CONFIG STEP, or
measure CONFIG, which prints JSON last."""

from __future__ import annotations

import json
import os
import signal
import sys

from got_train.requirements import need_paddle


def kill(path: str, step: str) -> None:
    """Train, and end after a step as if the power had gone."""
    from paddlenlp.trainer import TrainerCallback

    from got_train.config.loader import load_config
    from got_train.training.run import build_trainer

    class Kill(TrainerCallback):
        def on_step_end(self, args: object, state: object, control: object, **kwargs: object) -> None:
            if state.global_step == int(step):
                os.kill(os.getpid(), signal.SIGKILL)

    trainer = build_trainer(load_config(path))
    trainer.add_callback(Kill())
    trainer.train(resume_from_checkpoint=None)


def measure(path: str) -> None:
    """A dry run: the peak of a process that did other work before would tell nothing."""
    from got_train.config.loader import load_config
    from got_train.training import dry_run

    result = dry_run.measure(load_config(path))
    numbers = {
        "estimate MB": result.estimate / 2**20,
        "measured MB": result.memory / 2**20,
        "before the model MB": result.begun / 2**20,
        "seconds of a step": result.step_seconds[0],
    }
    print(json.dumps(numbers), flush=True)


if __name__ == "__main__":
    need_paddle()
    {"kill": kill, "measure": measure}[sys.argv[1]](*sys.argv[2:])
