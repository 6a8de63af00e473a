"""paddlenlp's Trainer, made exact: one method for each thing that it does otherwise, with the reason.

The loop, distribution, mixed precision and logging hooks are paddlenlp's.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import paddle
from paddle import nn
from paddlenlp.trainer import Trainer, TrainingArguments
from paddlenlp.utils.log import logger

from got_train.config import Config, dump_config
from got_train.modeling import Got
from got_train.modeling.weights import fill_from, save_model

from .checkpoints import FINAL, UNFINISHED, delete_old, publish
from .loader import StepLoader
from .parts import build_optimizer, build_schedule, freeze, name_parameters


class NonFiniteError(ArithmeticError):
    """A loss or gradient that is no number; raised before anything is updated."""


class FiniteClip(nn.ClipGradByGlobalNorm):
    """Clipping by the global norm that refuses a norm which is no number, and remembers the last one."""

    def __init__(self, clip_norm: float):
        super().__init__(clip_norm or math.inf)
        self.last_norm = 0.0

    @paddle.no_grad()
    def _dygraph_clip(self, params_grads):
        present = [(parameter, grad) for parameter, grad in params_grads if grad is not None]
        squares = [paddle.sum(paddle.square(grad.astype("float32"))) for _, grad in present]
        norm = paddle.sqrt(paddle.add_n(squares))
        self.last_norm = float(norm)
        if not math.isfinite(self.last_norm):
            raise NonFiniteError(f"gradient norm {self.last_norm}")
        if self.last_norm <= self.clip_norm:
            return params_grads
        scale = self.clip_norm / norm
        return [(p, g if g is None else g * scale.astype(g.dtype)) for p, g in params_grads]


def arguments(config: Config, steps: int, accumulation: int, device: str) -> TrainingArguments:
    """paddlenlp's arguments for a run; what it does not need to know keeps its default."""
    train = config.train
    return TrainingArguments(
        output_dir=train.output_dir,
        max_steps=steps,
        per_device_train_batch_size=train.micro_batch_size,
        gradient_accumulation_steps=accumulation,
        seed=train.seed,
        device=device,  # paddlenlp's default is gpu, whatever the machine has
        bf16=train.precision == "bfloat16",
        fp16=train.precision == "float16",
        fp16_opt_level="O2",
        amp_master_grad=train.precision != "float32",
        recompute=train.recompute,
        sharding=train.sharding,
        tensor_parallel_degree=train.tensor_parallel,
        logging_steps=train.log_every,
        logging_dir=str(Path(train.output_dir) / "visualdl"),
        report_to=["visualdl"],
        save_steps=train.save_every,
        save_strategy="steps",
        ignore_data_skip=True,  # the loader starts at the right draw by itself
        remove_unused_columns=False,
        disable_tqdm=True,  # our own bar knows pages and time left
        skip_memory_metrics=True,
        do_train=True,
    )


class GotTrainer(Trainer):
    """Trains a Got on a StepLoader's batches."""

    def __init__(
        self, model: Got, config: Config, loader: StepLoader, tokenizer: object, args: TrainingArguments, **kwargs
    ):
        self.config, self.loader, self.got_tokenizer = config, loader, tokenizer
        self._rows: list[range] = []  # draws of the step under way
        logger.set_level("WARNING")  # its print of 200 arguments hides everything else
        freeze(model, config)
        name_parameters(model)
        super().__init__(model=model, args=args, train_dataset=loader.samples.mixture, **kwargs)

    # ---- what goes in

    def get_train_dataloader(self) -> StepLoader:
        return self.loader

    def create_optimizer_and_scheduler(self, num_training_steps: int) -> None:
        """Learning rate and weight decay differ by part; the schedule has the first update move."""
        self.lr_scheduler = build_schedule(self.config, num_training_steps)
        self.clip = FiniteClip(self.config.optim.max_grad_norm)
        self.optimizer = build_optimizer(self.model, self.config, self.lr_scheduler, self.clip)

    # ---- one step

    def training_step(self, model, inputs, step_control: int = 0):
        """Forward and backward of one micro-batch; its share of the step's mean over supervised tokens.

        paddlenlp averages the means of micro-batches, which weighs short answers more than long ones; here the
        sum is divided by the tokens of the whole step. DataParallel averages over processes, hence their number.
        """
        draws, tokens = inputs.pop("draws"), inputs.pop("step_tokens")
        if step_control == 0:
            self._rows = []
        self._rows.append(draws)
        if tokens == 0:
            raise NonFiniteError(self._named("no supervised token in the whole step"))
        # random masks are a function of the place in the run, so that resuming needs no generator state
        paddle.seed(hash((self.config.train.seed, draws.start)) & 0x7FFFFFFF)
        model.train()
        with self.autocast_smart_context_manager():
            output = model(**self._prepare_inputs(inputs))
        loss = output.loss_sum * (max(1, self.args.dataset_world_size) / tokens)
        (self.scaler.scale(loss) if self.do_grad_scaling else loss).backward()
        return loss.detach()

    def _check_loss_valid(self, loss) -> None:
        """Called by the loop before the optimizer; names the rows of the step."""
        value = float(loss)
        if not math.isfinite(value) and not self.args.fp16:
            raise NonFiniteError(self._named(f"loss {value}"))

    def _named(self, fault: str) -> str:
        mixture = self.loader.samples.mixture
        rows = [mixture[draw].where for draws in self._rows for draw in draws]
        shown = ", ".join(rows[:8]) + (f" and {len(rows) - 8} more" if len(rows) > 8 else "")
        return f"step {self.state.global_step + 1}: {fault}; nothing was updated; rows {shown}"

    # ---- what comes out

    def _get_learning_rate(self) -> float:
        """Of the update that was made; paddlenlp logs the next one's."""
        return self.lr_scheduler.base_lr * self.lr_scheduler.lr_lambda(self.state.global_step - 1)

    def train(self, resume_from_checkpoint: str | None = None, **kwargs):
        self.loader.start = 0
        if resume_from_checkpoint is not None:
            from .checkpoints import step_of

            self.loader.start = step_of(Path(resume_from_checkpoint))
        try:
            return super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)
        except NonFiniteError as error:
            if "nothing was updated" in str(error):
                raise
            raise NonFiniteError(self._named(str(error))) from error

    def _save_checkpoint(self, model, metrics=None) -> None:
        """Into a folder that does not count yet, then renamed: a killed save leaves the former checkpoint.

        Old ones are deleted here because paddlenlp forgets to in a single process.
        """
        output_dir = self.args.output_dir
        self.args.output_dir = os.path.join(output_dir, UNFINISHED)
        try:
            super()._save_checkpoint(model, metrics)
        finally:
            self.args.output_dir = output_dir
        self._wait()
        if self.is_world_process_zero():
            publish(output_dir, f"checkpoint-{self.state.global_step}")
            delete_old(output_dir, self.config.train.keep_last, self.state.best_model_checkpoint)
        self._wait()

    def _wait(self) -> None:
        if self.args.world_size > 1:
            paddle.distributed.barrier()

    def _rotate_checkpoints(self, *args, **kwargs) -> None:
        """See _save_checkpoint."""

    def _save(self, output_dir: str | None = None, state_dict=None, merge_tensor_parallel: bool = False) -> None:
        """A checkpoint is a model folder like any other, with the run's config beside it."""
        folder = Path(output_dir or Path(self.args.output_dir) / FINAL)
        save_model(self.model, folder, tokenizer=self.got_tokenizer)
        (folder / "run.yaml").write_text(dump_config(self.config), encoding="utf-8")

    def _load_from_checkpoint(self, resume_from_checkpoint: str | None = None) -> None:
        if resume_from_checkpoint is not None:
            fill_from(self.model, resume_from_checkpoint)
