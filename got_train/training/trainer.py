"""paddlenlp's Trainer, made exact: one method for each thing that it does otherwise, with the reason.

The loop, distribution, mixed precision and logging hooks are paddlenlp's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol, TypeVar

import paddle
from paddle import nn
from paddlenlp.trainer import Trainer, TrainerCallback, TrainingArguments
from paddlenlp.trainer.integrations import VisualDLCallback
from paddlenlp.utils.log import logger

from got_train.checkpoint.adapters import check_same_adapter, load_adapter_weights, save_adapter
from got_train.checkpoint.tensor_io import save_tensors
from got_train.checkpoint.weights import load_weights, save_model
from got_train.config.loader import dump_config
from got_train.config.schema import Config
from got_train.errors import TrainingError
from got_train.folder_lock import FolderLock
from got_train.modeling.got import Got
from got_train.modeling.lora import Adapter
from got_train.profiling.memory import peak_memory
from got_train.tokenizer import Tokenizer

from .checkpoints import (
    commit,
    commit_over,
    explain_save_errors,
    incomplete,
    make_tmp_dir,
    rotate_checkpoints,
    step_of,
)
from .early_stopping import EarlyStopping
from .gradients import global_norm, gradient
from .ledger import SampleLog, StepRecord
from .loader import WAITING, StepLoader, first_few
from .loss import TrainingLoss
from .optimizer import build_lr_scheduler, build_optimizer, freeze, name_parameters
from .optimizer_state import ZeroShard, gather_state, gather_weights, scatter_state, zero_shards
from .run_files import (
    BEST,
    BEST_FILE,
    CURVES,
    MEMORY,
    RECORD_FILE,
    RUN_FILE,
    STATE_FILE,
    UNFINISHED,
    VALIDATION_PREFIX,
)
from .run_state import (
    RunRecord,
    load_optimizer,
    load_tensors,
    optimizer_file,
    read_record,
    read_trainer_state,
    save_optimizer,
    sizes,
    write_record,
)
from .signals import Interrupted, SignalHandler
from .trackers import Trackers, Writers

Callback = TypeVar("Callback", bound=TrainerCallback)
Guard = Callable[[Any, Any, Any], str]  # the base's reading, this one, the rows: why to end, or nothing


class Stateful(Protocol):
    """What has tensors that a run goes on with."""

    def state_dict(self) -> dict[str, paddle.Tensor]: ...

    def set_state_dict(self, state: dict[str, paddle.Tensor]) -> Any: ...


class NonFiniteError(TrainingError, ArithmeticError):
    """A loss or gradient that is not finite; raised before anything is updated."""


def training_arguments(config: Config, steps: int, accumulation: int, device: str) -> TrainingArguments:
    """paddlenlp's arguments for a run; what it does not need to know keeps its default."""
    train = config.train
    return TrainingArguments(
        output_dir=train.output_dir,
        max_steps=steps,
        per_device_train_batch_size=train.per_device_train_batch_size,
        gradient_accumulation_steps=accumulation,
        seed=train.seed,
        device=device,  # paddlenlp's default is gpu, whatever the machine has
        bf16=train.precision == "bfloat16",
        fp16=train.precision == "float16",
        fp16_opt_level="O2",
        amp_master_grad=train.precision == "bfloat16",  # float16's GradScaler would not see such gradients
        recompute=bool(train.recompute),
        sharding=train.sharding,
        ddp_find_unused_parameters=False,  # there are none: parts that do not train ask for no gradient
        logging_steps=train.logging_steps,
        logging_dir=str(Path(train.output_dir) / CURVES),
        report_to=["visualdl"],
        save_steps=train.save_steps,
        save_strategy="steps",
        ignore_data_skip=True,  # the loader starts at the right draw by itself
        remove_unused_columns=False,
        disable_tqdm=True,  # our own bar knows pages and time left
        skip_memory_metrics=True,
        do_train=True,
    )


def step_seed(seed: int, index: int) -> int:
    """Of the random masks of a micro-batch, by the first of its samples: resuming needs no generator state.

    Python's hash of two whole numbers is the same in every process and version; golden losses hang on it.
    """
    return hash((seed, index)) & 0x7FFFFFFF


class GotTrainer(Trainer):
    """Trains a Got on a StepLoader's batches; each method says what paddlenlp's own would do otherwise.

    `extra` are the states beside model and optimizer that a run goes on with, by the names of their files;
    `eval_weights` puts the weights that are validated and kept into the model (an EMA's), for a while.
    """

    def __init__(
        self,
        model: Got,
        config: Config,
        loader: StepLoader,
        tokenizer: Tokenizer,
        args: TrainingArguments,
        callbacks: Sequence[TrainerCallback] = (),
        adapter: Adapter | None = None,
        sample_log: SampleLog | None = None,
        sources: dict[str, str] | None = None,
        threads: int = 0,
        training_loss: nn.Layer | None = None,
    ) -> None:
        self.config, self.loader, self.got_tokenizer = config, loader, tokenizer
        self.adapter = adapter  # what the run trains on the model, with LoRA
        self.sample_log, self.sources, self.threads = sample_log, sources or {}, threads
        self.signals: SignalHandler | None = None  # what may end the run between two steps
        self.lock: FolderLock | None = None  # on the folder of the run
        self.interrupted = False  # a signal has ended it
        self.guards: list[Guard] = []  # asked after every reading whether the run is to end, and why
        self.eval_weights: Callable[[], AbstractContextManager] = nullcontext
        self._indices: list[range] = []  # of the step's samples so far, by micro-batch
        self._checksums: list[int] = []  # of the same samples' records, for the sample log
        logger.set_level("WARNING")  # its print of 200 arguments hides everything else
        freeze(model, config)
        train = config.train
        weights = train.char_loss_weight, train.token_char_loss_weight, train.attention_loss_weight
        self.training_loss = training_loss or TrainingLoss(model, *weights)
        self._wrapped: nn.Layer = self.training_loss  # what _wrap_model made of it, for several processes
        name_parameters(self.training_loss)
        self.extra: dict[str, Stateful] = dict(self.training_loss.heads)
        super().__init__(model=model, args=args, train_dataset=loader, callbacks=list(callbacks))
        for part in ("vision", "decoder"):  # paddlenlp's own switch is for all layers or none
            model.part(part).enable_recompute = part in config.train.recomputed_parts

    # ---- what goes in

    def get_train_dataloader(self) -> StepLoader:
        """paddlenlp would draw a random order that a resumed run has to go through again."""
        return self.loader

    def create_optimizer_and_scheduler(self, num_training_steps: int) -> None:
        """Learning rate and weight decay differ by part; the schedule has the first update move."""
        self.lr_scheduler = build_lr_scheduler(self.config.optimizer, num_training_steps)
        head_parameters = [
            weight for head in self.training_loss.heads.values() for weight in head.parameters()
        ]
        self.optimizer = build_optimizer(self.model, self.config, self.lr_scheduler, head_parameters)
        self.trained = list(self.optimizer.decay)  # names; kept, as paddlenlp's loop wraps the optimizer

    def _wrap_model(self, model: nn.Layer, training: bool = True) -> nn.Layer:
        """What is trained is the model with its loss."""
        self._wrapped = super()._wrap_model(
            self.training_loss if training and model is self.model else model, training
        )
        return self._wrapped

    # ---- one step

    def training_step(self, model: nn.Layer, inputs: dict, step_control: int = 0) -> paddle.Tensor:
        """Forward and backward of one micro-batch, number step_control of its step; what it adds to the loss.

        paddlenlp averages the means of micro-batches, which weighs short answers more than long ones; here
        the sum is divided by the tokens of the whole step. Gradients are then averaged over the processes;
        multiplying by their number makes that a sum.
        """
        if step_control == 0:
            self._indices, self._checksums = [], []
        indices, checksums = inputs.pop("indices"), inputs.pop("checksums")
        self._indices.append(indices)
        self._checksums.extend(checksums)
        if inputs.get("step_tokens") == 0:
            raise self._non_finite("no supervised token in the whole step")
        paddle.seed(step_seed(self.config.train.seed, indices.start))
        model.train()
        with self.autocast_smart_context_manager():
            loss = model(**inputs) * max(1, self.args.dataset_world_size)
        (self.scaler.scale(loss) if self.do_grad_scaling else loss).backward()
        return loss.detach()

    def _check_loss_valid(self, loss: paddle.Tensor) -> None:
        """Called by the loop before the optimizer: refuse a step while nothing has been updated."""
        if self.do_grad_scaling:  # float16: the scaler looks at the gradients and skips such steps
            return
        grads = [gradient(parameter) for parameter in self.training_loss.parameters()]
        value, norm = float(loss), global_norm([grad for grad in grads if grad is not None])
        if not (math.isfinite(value) and math.isfinite(norm)):
            raise self._non_finite(f"loss {value}, gradient norm {norm}")

    def _non_finite(self, cause: str) -> NonFiniteError:
        step, rows = self.state.global_step + 1, first_few(self.loader.locations(self._indices))
        return NonFiniteError(f"step {step}: {cause}; nothing was updated; rows {rows}")

    def _maybe_log_save_evaluate(self, *args: object, **kwargs: object) -> None:
        """After every update, before a checkpoint is written; once more, without an update, at the end."""
        if self.lock is not None:
            self.lock.check()
        if self._checksums:  # there was an update
            if self.sample_log is not None:
                indices = [index for micro_batch in self._indices for index in micro_batch]
                self.sample_log.add(StepRecord.of(self.state.global_step, indices, self._checksums))
            self._checksums = []
            is_last = self.control.should_training_stop or self.state.global_step >= self.state.max_steps
            if self.signals is not None and self._signal_received() and not is_last:
                self.control.should_save = self.control.should_training_stop = self.interrupted = True
        super()._maybe_log_save_evaluate(*args, **kwargs)

    def _signal_received(self) -> bool:
        """Whether a signal has come to any process: they save together.

        One that comes while they ask each other counts at the next step: the others have not heard of it.
        """
        number = self.signals.number  # read once
        if self.args.world_size > 1:
            highest = paddle.to_tensor([number], dtype="int64")
            paddle.distributed.all_reduce(highest, op=paddle.distributed.ReduceOp.MAX)
            number = int(highest)
            if number and not self.signals.number:
                self.signals.on_signal(number, None)
        return number > 0

    def log(self, logs: dict[str, float], **kwargs: object) -> None:
        """paddlenlp forgets its history at every entry; validations are kept, as they tell when to stop."""
        history, loss_is_due = self.state.log_history, self.control.should_log  # super() changes both
        if "loss" in logs:
            gigabytes, waiting = peak_memory() / 2**30, self.loader.fraction_waiting()
            logs = {**logs, MEMORY: round(gigabytes, 3), WAITING: round(waiting, 4)}
        super().log(logs, **kwargs)
        is_validation = any(name.startswith(VALIDATION_PREFIX) for name in logs)
        self.control.should_log = loss_is_due and is_validation  # logging a validation leaves the loss due
        self.state.log_history = history
        if is_validation:
            history.append({"step": self.state.global_step, **logs})

    def _get_learning_rate(self) -> float:
        """Of the update that was made; paddlenlp logs the next one's."""
        return self.lr_scheduler.base_lr * self.lr_scheduler.lr_lambda(self.state.global_step - 1)

    def log_writer(self) -> Writers | None:
        """Where pictures go; on the first process only."""
        callback = self.callback(VisualDLCallback)
        if callback is None or callback.vdl_writer is None:
            return None
        return Writers(callback.vdl_writer, self.callback(Trackers))

    def callback(self, kind: type[Callback]) -> Callback | None:
        """The callback of a kind, where the run has one."""
        callbacks = self.callback_handler.callbacks
        return next((callback for callback in callbacks if isinstance(callback, kind)), None)

    # ---- what comes out

    def _save_checkpoint(self, model: nn.Layer, metrics: dict | None = None) -> None:
        """Into a folder that does not count yet, then renamed: a killed save leaves the former checkpoint.

        paddlenlp's own would be half there when killed, and forgets to delete old ones in a single process.
        """
        tmp_dir = self._make_tmp_dir(f"checkpoint-{self.state.global_step}")
        with explain_save_errors(tmp_dir):
            files = self._save_state(tmp_dir)
            self.wait()
            if self.is_world_process_zero():
                self._save_record(tmp_dir, files)
                commit(tmp_dir)
                rotate_checkpoints(self.args.output_dir, self.config.train.save_total_limit)
        self.wait()  # so that whoever ends now names this checkpoint

    def _make_tmp_dir(self, name: str) -> Path:
        if self.lock is not None:
            self.lock.check()
        with explain_save_errors(Path(self.args.output_dir) / UNFINISHED / name):
            return make_tmp_dir(self.args.output_dir, name)

    def _save_state(self, folder: Path) -> list[str]:
        """Model and optimizer, of which each process may have a part; returns the optimizer's files."""
        self.save_model(str(folder))
        first, sharding = self.is_world_process_zero(), self.config.train.sharding
        state = gather_state(self.optimizer.state_dict(), self._shards(), keep=first)
        several = sharding in ("stage1", "stage2")  # each process has some of the state, whole
        if first or several:
            save_optimizer(state, folder, self.args.process_index)
        self.loader.save(folder, self.state.global_step)
        return [optimizer_file(rank) for rank in range(self.args.world_size if several else 1)]

    def _save_record(self, folder: Path, optimizer_files: Sequence[str]) -> None:
        """What else the run goes on with; the record of it all is written last."""
        self.state.save_to_json(str(folder / STATE_FILE))
        extra = {name: f"{name}.safetensors" for name in self.extra}
        for name, file in extra.items():
            save_tensors(self.extra[name].state_dict(), folder / file, {"format": "pd"})
        schedule = self.lr_scheduler.state_dict()
        record = RunRecord(
            step=self.state.global_step,
            processes=self.args.world_size,
            threads=self.threads,
            deterministic=self.config.train.deterministic or self.args.device == "cpu",
            optimizer=tuple(optimizer_files),
            extra=extra,
            last_epoch=schedule["last_epoch"],
            last_lr=schedule["last_lr"],
            rows=tuple(map(str, self.loader.mixture.rows)),
            sources=self.sources,
            files=sizes(folder),
        )
        write_record(folder, record)

    def save_best(self, name: str, value: float) -> None:
        """The model of the best validation so far, in place of the one before."""
        tmp_dir = self._make_tmp_dir(BEST)
        with explain_save_errors(tmp_dir):
            self.save_model(str(tmp_dir))
            if self.is_world_process_zero():
                best = {"step": self.state.global_step, name: value}
                (tmp_dir / BEST_FILE).write_text(json.dumps(best) + "\n", encoding="utf-8")
                commit_over(tmp_dir)

    def save_model(self, output_dir: str | None = None, **kwargs: object) -> None:
        """All processes must come here: each may hold a part of the weights."""
        gather_weights(self.training_loss, self._shards())
        if self.is_world_process_zero():
            folder = Path(output_dir)
            if self.adapter is None:
                save_model(self.model, folder, tokenizer=self.got_tokenizer)
            else:
                save_adapter(self.model, folder, self.adapter, self.got_tokenizer)
            (folder / RUN_FILE).write_text(dump_config(self.config), encoding="utf-8")
        self.wait()

    def _shards(self) -> dict[str, ZeroShard]:
        return zero_shards(self.training_loss, self._wrapped)

    def wait(self) -> None:
        """For the other processes."""
        if self.args.world_size > 1:
            paddle.distributed.barrier()

    # ---- what goes in again

    def train(self, resume_from_checkpoint: str | None = None, **kwargs: object) -> object:
        """The whole run; its callbacks are closed however it ends."""
        if resume_from_checkpoint is not None:
            step = self.loader.start = step_of(resume_from_checkpoint)
            stopping = EarlyStopping(self.config.eval.best_metric, self.config.train.early_stopping_patience)
            if stopping.has_stopped(read_trainer_state(Path(resume_from_checkpoint)).log_history):
                self.state.global_step = step  # the run is over: only its last weights are wanted
                return self._load_from_checkpoint(resume_from_checkpoint)
        if self.sample_log is not None:
            self.sample_log.truncate_after(self.loader.start)
        try:
            with self.signals.graceful() if self.signals else nullcontext():
                result = super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)
            if self.interrupted:
                raise Interrupted(self.signals.number)
            return result
        except (SystemError, RuntimeError) as error:  # Paddle's handler of SIGCHLD raises it anywhere
            if "DataLoader" not in str(error):
                raise
            raise self.loader.dead_worker(self.state.global_step, error) from error
        finally:
            for callback in self.callback_handler.callbacks:
                if hasattr(callback, "close"):  # ours that hold files
                    callback.close()
            writer = self.log_writer()
            if writer is not None:  # paddlenlp closes it at the end of a whole run only
                writer.close()

    def _load_from_checkpoint(self, resume_from_checkpoint: str | None = None) -> None:
        """paddlenlp would unpickle what it finds; here the record tells what is opened."""
        if resume_from_checkpoint is None:
            return
        checkpoint = Path(resume_from_checkpoint)
        record = read_record(checkpoint)
        self.loader.load(checkpoint, record.step)
        if self.adapter is None:
            load_weights(self.model, checkpoint)
        else:
            check_same_adapter(checkpoint, self.adapter)
            load_adapter_weights(self.model, checkpoint)
        for name, state in self.extra.items():
            if name not in record.extra:
                raise incomplete(checkpoint, f"no {name} in {RECORD_FILE}")
            tensors = load_tensors(checkpoint / record.extra[name])
            if _shapes(tensors) != _shapes(state.state_dict()):
                raise incomplete(checkpoint, f"{record.extra[name]} has tensors of another run")
            state.set_state_dict(tensors)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Every process reads the whole state, so that a run may go on with another number of processes."""
        if checkpoint is not None:
            state = load_optimizer(Path(checkpoint), read_record(Path(checkpoint)), self.trained)
            self.optimizer.set_state_dict(scatter_state(state, self._shards()))

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Nothing to load: random masks follow from the step. paddlenlp would unpickle rng_state.pth."""


def _shapes(tensors: dict[str, paddle.Tensor]) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in tensors.items()}
