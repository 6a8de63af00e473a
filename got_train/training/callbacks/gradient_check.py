"""After the first update: do policy, optimizer, gradients and weight changes say the same of every part?

The released trainers trained no encoder whatever the flags said, and nobody could see it. This costs one
pass over the weights before and after one update.
"""

from __future__ import annotations

import json
import math
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path

import paddle
from paddlenlp.trainer import TrainerCallback

from got_train.config.schema import Config
from got_train.cpu.parallel_jit import as_numpy
from got_train.errors import TrainingError
from got_train.modeling.config import PARTS
from got_train.modeling.got import Got
from got_train.training.adapters import is_trainable
from got_train.training.gradients import global_norm, gradient
from got_train.training.run_files import AUDIT_FILE


@dataclass
class ModuleCheck:
    """What was seen of one part; all but the first two and the norm count parameters.

    With LoRA the part's adapters are its parameters, and its own weights `frozen`.
    """

    part: str
    train: bool  # the policy: parts.<part>.trainable
    parameters: int = 0
    optimized: int = 0  # that the optimizer has
    with_gradient: int = 0
    changed: int = 0  # by the first update
    gradient_norm: float = 0.0
    frozen: int = 0
    frozen_modified: int = 0  # in the optimizer, with a gradient or changed

    def fault(self) -> str:
        """What is wrong, or nothing."""
        if self.train:
            for seen, count in (
                ("are in the optimizer", self.optimized),
                ("got a gradient", self.with_gradient),
            ):
                if count < self.parameters:
                    return f"is true, but only {count} of {self.parameters} parameters {seen}"
            if self.frozen_modified:
                return f"is by adapters, but {self.frozen_modified} of {self.frozen} other weights took part"
            if not math.isfinite(self.gradient_norm) or self.gradient_norm == 0:
                return f"is true, but the gradient's norm is {self.gradient_norm}"
            return "" if self.changed else f"is true, but none of {self.parameters} parameters has changed"
        for seen, count in (
            ("are in the optimizer", self.optimized),
            ("got a gradient", self.with_gradient),
            ("have changed", self.changed),
        ):
            if count:
                return f"is false, but {count} of {self.parameters} parameters {seen}"
        return ""


class GradientCheck(TrainerCallback):
    """Looks at the first update that this process makes, writes audit.json and stops the run on a fault."""

    def __init__(self, got: Got, config: Config, output_dir: str) -> None:
        self.got, self.config, self.path = got, config, Path(output_dir) / AUDIT_FILE
        self.parts = {part: ModuleCheck(part, getattr(config.parts, part).trainable) for part in PARTS}
        self._before: dict[str, int] = {}
        self.done = self.waits = False

    def on_optimizer_begin(
        self, args: object, state: object, control: object, optimizer: object = None, **kwargs: object
    ) -> None:
        if self.done:
            return
        chosen = optimizer_parameter_names(optimizer)
        for part, seen in self.parts.items():
            values, frozen = self._split(part)
            grads = [gradient(value) for value in values]
            seen.parameters, seen.frozen = len(values), len(frozen)
            seen.optimized = sum(value.name in chosen for value in values)
            seen.with_gradient = sum(grad is not None for grad in grads)
            seen.gradient_norm = global_norm([grad for grad in grads if grad is not None])
            seen.frozen_modified = sum(v.name in chosen or gradient(v) is not None for v in frozen)
            self._before |= {value.name: weight_checksum(value) for value in values + frozen}
        norms = [seen.gradient_norm for seen in self.parts.values()]
        # sampled answers that are all worth the same teach nothing; the next update is looked at
        self.waits = bool(self.config.rl.objective) and not any(norms)

    def on_optimizer_end(self, args: object, state: object, control: object, **kwargs: object) -> None:
        if self.done or self.waits:
            return
        for part, seen in self.parts.items():
            values, frozen = self._split(part)
            seen.changed, changed = (
                sum(weight_checksum(value) != self._before[value.name] for value in group)
                for group in (values, frozen)
            )
            seen.frozen_modified = max(seen.frozen_modified, changed)
        if kwargs.get("scaler") is not None and not any(seen.changed for seen in self.parts.values()):
            return  # float16: the scaler has skipped this update for its size; the next one is looked at
        self.done, self._before = True, {}
        if state.is_world_process_zero:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            report = {"step": state.global_step + 1, "parts": [asdict(seen) for seen in self.parts.values()]}
            self.path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        self._judge(state.global_step + 1)

    def _split(self, part: str) -> tuple[list[paddle.Tensor], list[paddle.Tensor]]:
        """The parameters that the part's `train` speaks of, and those that adapters leave as they are."""
        named = [(f"{part}.{name}", value) for name, value in self.got.part(part).named_parameters()]
        moving = [value for name, value in named if is_trainable(name, self.config)]
        resting = [value for name, value in named if not is_trainable(name, self.config)]
        return (moving, resting) if self.parts[part].train else (resting, [])

    def _judge(self, step: int) -> None:
        faults = [
            f"parts.{part}.trainable {seen.fault()}" for part, seen in self.parts.items() if seen.fault()
        ]
        if faults:
            raise TrainingError(
                f"step {step}: {'; '.join(faults)}; the run would not train what its config says, see "
                f"{self.path}"
            )


def weight_checksum(parameter: paddle.Tensor) -> int:
    """Tells whether any bit of a weight has changed without a second copy of it."""
    if parameter.place.is_gpu_place() or parameter.dtype == paddle.float16:
        return zlib.crc32(parameter.astype("float32").numpy().data)
    return zlib.crc32(as_numpy(parameter).data)


def optimizer_parameter_names(optimizer: object) -> set[str]:
    """Of the parameters that all processes together update; the inmost wrapper has a share of them."""
    names: set[str] = set()
    while optimizer is not None:
        names |= {parameter.name for parameter in vars(optimizer).get("_parameter_list") or ()}
        optimizer = vars(optimizer).get("_inner_opt")
    return names
