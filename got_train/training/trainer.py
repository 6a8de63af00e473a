"""paddlenlp's Trainer, made exact: one method for each thing that it does otherwise, with the reason.

The loop, distribution, mixed precision and logging hooks are paddlenlp's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import paddle
import paddle.nn.functional as F
from paddle import nn
from paddlenlp.trainer import Trainer, TrainingArguments
from paddlenlp.trainer.integrations import VisualDLCallback
from paddlenlp.utils.log import logger

from got_train.checkpoint.adapters import load_adapter_weights, save_adapter
from got_train.checkpoint.weights import load_weights, save_model
from got_train.config.loader import dump_config
from got_train.config.schema import Config
from got_train.errors import TrainingError
from got_train.modeling.config import IGNORED
from got_train.modeling.got import Got
from got_train.modeling.lora import Adapter
from got_train.profiling.memory import peak_memory

from .callbacks.ema import EMA
from .callbacks.gradient_check import GradientCheck, global_norm, gradient
from .callbacks.progress import Progress
from .callbacks.validation import Validation, reader_for
from .checkpoints import (
    commit,
    commit_over,
    explain_save_errors,
    incomplete,
    make_tmp_dir,
    rotate_checkpoints,
    step_of,
)
from .early_stopping import has_stopped
from .feature_cache import FeatureCache
from .generation_eval import EvalRecords, GenerationEval
from .ledger import SampleLog, StepRecord
from .loader import WAITING, StepLoader, first_few
from .optimizer import build_lr_scheduler, build_optimizer, freeze, name_parameters
from .optimizer_state import gather_state, gather_weights, scatter_state, zero_shards
from .run_files import BEST, CURVES, MEMORY, ROWS_FILE, RUN_FILE, STATE_FILE, UNFINISHED, VALIDATION_PREFIX
from .signals import Interrupted, SignalHandler

if TYPE_CHECKING:
    from visualdl import LogWriter

    from got_train.data.records import Record

GLYPH_HEAD = "glyph_head.pdparams"
BEST_FILE = "best.json"


class NonFiniteError(TrainingError, ArithmeticError):
    """A loss or gradient that is no number; raised before anything is updated."""


class TrainingLoss(nn.Layer):
    """A Got with what only its training needs; returns the share of one micro-batch in the step's loss.

    The loss is the mean of -log p over the supervised tokens of the step. Where glyph_weight is above 0 the
    mean over patches of naming the character that each shows, from the neck's map, is added (nano stage 1).
    A tensor alone is returned because DataParallel looks for tensors in what a layer returns.
    """

    def __init__(self, got: Got, glyph_weight: float) -> None:
        super().__init__()
        self.got, self.glyph_weight = got, glyph_weight
        self.glyph_head = None
        # ZeRO stage 3 gathers a layer's weights while it runs; these are used beyond their layers
        self.extra_parameters = [got.vision.pos_embed, got.decoder.head]
        if glyph_weight:
            self.glyph_head = nn.Linear(got.config.vision.neck_width, got.config.decoder.vocab_size)

    def forward(
        self,
        input_ids: paddle.Tensor,
        pixel_values: paddle.Tensor,
        attention_mask: paddle.Tensor,
        labels: paddle.Tensor,
        step_tokens: int,
        position_ids: paddle.Tensor | None = None,
        step_patches: int = 0,
        glyph_labels: paddle.Tensor | None = None,
    ) -> paddle.Tensor:
        got = self.got
        if self.glyph_head is None:
            return got(input_ids, pixel_values, attention_mask, labels, position_ids).loss_sum / step_tokens
        neck_map = got.vision.neck_map(got.normalize(pixel_values))  # (V, S, S, C)
        features = got.projector(got.vision.features(neck_map))
        output = got.decode(input_ids, features, attention_mask, labels, position_ids)
        loss = output.loss_sum / step_tokens
        logits = self.glyph_head(neck_map)  # (V, S, S, vocabulary)
        wrong = F.cross_entropy(
            logits.flatten(0, 2), glyph_labels.flatten(), ignore_index=IGNORED, reduction="sum"
        )
        return loss + self.glyph_weight * wrong / max(step_patches, 1)


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


class GotTrainer(Trainer):
    """Trains a Got on a StepLoader's batches."""

    def __init__(
        self,
        model: Got,
        config: Config,
        loader: StepLoader,
        tokenizer: object,
        args: TrainingArguments,
        validation: Sequence[Record] = (),
        adapter: Adapter | None = None,
        ledger: SampleLog | None = None,
        rows: EvalRecords | None = None,
        feature_cache: FeatureCache | None = None,
    ) -> None:
        self.config, self.loader, self.got_tokenizer = config, loader, tokenizer
        self.adapter = adapter  # what the run trains on the model, with LoRA
        self.ledger, self.feature_cache = ledger, feature_cache
        self.interruption: SignalHandler | None = None  # what may end the run between two steps
        self.interrupted = False  # it has
        self._draws: list[range] = []  # of the step under way, as are the next
        self._marks: list[int] = []  # of their rows, for the ledger
        logger.set_level("WARNING")  # its print of 200 arguments hides everything else
        freeze(model, config)
        self.training_loss = self._wrapped = TrainingLoss(model, config.train.char_loss_weight)
        name_parameters(self.training_loss)
        self.progress = Progress(config.train.batch_size)
        self.average = EMA(model, config.train.ema_decay) if config.train.ema_decay else None
        callbacks = [self.progress]
        if config.train.sharding not in ("stage2", "stage3"):  # where a process has some gradients only
            callbacks += [GradientCheck(model, config, args.output_dir)]
        callbacks += [each for each in (self.average, feature_cache) if each is not None]
        super().__init__(model=model, args=args, train_dataset=loader, callbacks=callbacks)
        for part in ("vision", "decoder"):  # of which paddlenlp has switched on all or none
            model.part(part).enable_recompute = part in config.train.recomputed_parts
        self.validation = None
        if validation or rows:
            self.validation = Validation(self, validation, self._measuring(rows) if rows else None)
            self.add_callback(self.validation)

    def _measuring(self, rows: EvalRecords) -> GenerationEval:
        plan, reader = self.loader.plan, reader_for(self, self.config.eval.max_new_tokens)
        return GenerationEval(reader, rows, self.config, plan.rank, plan.ranks)

    # ---- what goes in

    def get_train_dataloader(self) -> StepLoader:
        return self.loader

    def create_optimizer_and_scheduler(self, num_training_steps: int) -> None:
        """Learning rate and weight decay differ by part; the schedule has the first update move."""
        self.lr_scheduler = build_lr_scheduler(self.config, num_training_steps)
        head = self.training_loss.glyph_head
        others = [] if head is None else head.parameters()
        self.optimizer = build_optimizer(self.model, self.config, self.lr_scheduler, others)
        self.trained = list(self.optimizer.decay)  # names; the loop puts the optimizer into others

    def _wrap_model(self, model: nn.Layer, training: bool = True) -> nn.Layer:
        self._wrapped = super()._wrap_model(
            self.training_loss if training and model is self.model else model, training
        )
        return self._wrapped

    # ---- one step

    def training_step(self, model: nn.Layer, inputs: dict, step_control: int = 0) -> paddle.Tensor:
        """Forward and backward of one micro-batch; its share of the step's mean over supervised tokens.

        paddlenlp averages the means of micro-batches, which weighs short answers more than long ones; here
        the sum is divided by the tokens of the whole step. Gradients are averaged over processes, hence their
        number.
        """
        draws, marks = inputs.pop("draws"), inputs.pop("marks")
        self._draws = [*self._draws, draws] if step_control else [draws]
        self._marks = [*self._marks, *marks] if step_control else marks
        if inputs["step_tokens"] == 0:
            raise NonFiniteError(self._named("no supervised token in the whole step"))
        self.progress.tokens += 0 if step_control else inputs["step_tokens"]
        # random masks are a function of the place in the run, so that resuming needs no generator state
        paddle.seed(hash((self.config.train.seed, draws.start)) & 0x7FFFFFFF)
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
        value, size = float(loss), global_norm([grad for grad in grads if grad is not None])
        if not (math.isfinite(value) and math.isfinite(size)):
            raise NonFiniteError(self._named(f"loss {value}, gradient norm {size}"))

    def _named(self, fault: str) -> str:
        rows = first_few(self.loader.rows(self._draws))
        return f"step {self.state.global_step + 1}: {fault}; nothing was updated; rows {rows}"

    def _maybe_log_save_evaluate(self, *args: object, **kwargs: object) -> None:
        """After every update, before a checkpoint is written; once more at the end of the run."""
        if self._marks:
            self._enter()
            over = self.control.should_training_stop or self.state.global_step >= self.state.max_steps
            if self.interruption is not None and self._heard() and not over:
                self.control.should_save = self.control.should_training_stop = self.interrupted = True
        super()._maybe_log_save_evaluate(*args, **kwargs)

    def _enter(self) -> None:
        """The rows of the step that was made, into the ledger."""
        if self.ledger is not None:
            draws = [draw for part in self._draws for draw in part]
            self.ledger.add(StepRecord.of(self.state.global_step, draws, self._marks))
        self._marks = []

    def _heard(self) -> bool:
        """Whether a signal has come to any process: they save together.

        One that comes meanwhile is for the next step, as the others have not heard of it.
        """
        number = self.interruption.number
        if self.args.world_size > 1:
            highest = paddle.to_tensor([number], dtype="int64")
            paddle.distributed.all_reduce(highest, op=paddle.distributed.ReduceOp.MAX)
            number = int(highest)
            if number and not self.interruption.number:
                self.interruption.hear(number, None)
        return number > 0

    def log(self, logs: dict[str, float], **kwargs: object) -> None:
        """paddlenlp forgets its history at every entry; validations are kept, as they tell when to stop."""
        history, loss_is_due = self.state.log_history, self.control.should_log
        if "loss" in logs:
            memory, waiting = peak_memory() / 2**30, self.loader.share_of_waiting()
            logs = {**logs, MEMORY: round(memory, 3), WAITING: round(waiting, 4)}
        super().log(logs, **kwargs)
        validated = any(name.startswith(VALIDATION_PREFIX) for name in logs)
        self.control.should_log = loss_is_due and validated
        kept = [{"step": self.state.global_step, **logs}] if validated else []
        self.state.log_history = history + kept

    def _get_learning_rate(self) -> float:
        """Of the update that was made; paddlenlp logs the next one's."""
        return self.lr_scheduler.base_lr * self.lr_scheduler.lr_lambda(self.state.global_step - 1)

    # ---- what comes out, and goes in again

    def _save_checkpoint(self, model: nn.Layer, metrics: dict | None = None) -> None:
        """Into a folder that does not count yet, then renamed: a killed save leaves the former checkpoint.

        paddlenlp's own would be half there when killed, and forgets to delete old ones in a single process.
        """
        made, first = self._begin(f"checkpoint-{self.state.global_step}"), self.is_world_process_zero()
        with explain_save_errors(made):
            self._save_state(made, first)
        self.wait()
        if first:
            commit(made)
            rotate_checkpoints(self.args.output_dir, self.config.train.save_total_limit)
        self.wait()  # so that whoever ends now names this checkpoint

    def _begin(self, name: str) -> Path:
        with explain_save_errors(Path(self.args.output_dir) / UNFINISHED / name):
            return make_tmp_dir(self.args.output_dir, name)

    def _save_state(self, made: Path, first: bool) -> None:
        """Model and all that a run goes on with; all processes must come here."""
        self.save_model(str(made))
        if first:
            if self.average is not None:
                self.average.save(made)
            self.state.save_to_json(str(made / STATE_FILE))
            (made / ROWS_FILE).write_text(json.dumps(self.loader.mixture.rows), encoding="utf-8")
            if self.training_loss.glyph_head is not None:
                paddle.save(self.training_loss.glyph_head.state_dict(), str(made / GLYPH_HEAD))
        state = gather_state(self.optimizer.state_dict(), self._shares(), keep=first)
        if first or self.config.train.sharding in ("stage1", "stage2"):  # each has some, whole
            paddle.save(state, str(made / f"optimizer-{self.args.process_index}.pdopt"))

    def kept_weights(self) -> AbstractContextManager:
        """In here the model has the weights that are validated and kept: the averages, if there are any."""
        return nullcontext() if self.average is None else self.average.in_place()

    def save_best(self, name: str, value: float) -> None:
        """The model of the best validation so far, in place of the one before."""
        made = self._begin(BEST)
        with explain_save_errors(made):
            self.save_model(str(made))
        if self.is_world_process_zero():
            best = {"step": self.state.global_step, name: value}
            (made / BEST_FILE).write_text(json.dumps(best) + "\n", encoding="utf-8")
            commit_over(made)

    def board(self) -> LogWriter | None:
        """Where pictures go; on the first process only."""
        callbacks = self.callback_handler.callbacks
        return next((each.vdl_writer for each in callbacks if isinstance(each, VisualDLCallback)), None)

    def _shares(self) -> dict:
        return zero_shards(self.training_loss, self._wrapped)

    def wait(self) -> None:
        if self.args.world_size > 1:
            paddle.distributed.barrier()

    def save_model(self, output_dir: str | None = None, **kwargs: object) -> None:
        """All processes must come here: each may hold a part of the weights."""
        gather_weights(self.training_loss, self._shares())
        if self.is_world_process_zero():
            self._save(output_dir)
        self.wait()

    def _save(self, output_dir: str, **kwargs: object) -> None:
        """A model's or an adapter's folder like any other, with the run's config beside it."""
        folder = Path(output_dir)
        if self.adapter is None:
            save_model(self.model, folder, tokenizer=self.got_tokenizer)
        else:
            save_adapter(self.model, folder, self.adapter, self.got_tokenizer)
        (folder / RUN_FILE).write_text(dump_config(self.config), encoding="utf-8")

    def train(self, resume_from_checkpoint: str | None = None, **kwargs: object) -> object:
        if resume_from_checkpoint is not None:
            self.loader.start = step_of(resume_from_checkpoint)
            if has_stopped(Path(resume_from_checkpoint), self.config):
                self.state.global_step = step_of(resume_from_checkpoint)
                return self._load_from_checkpoint(resume_from_checkpoint)
        if self.ledger is not None:
            self.ledger.go_on_from(self.loader.start)
        try:
            with self.interruption.orderly() if self.interruption else nullcontext():
                ended = super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)
            if self.interrupted:
                raise Interrupted(self.interruption.number)
            return ended
        except (SystemError, RuntimeError) as error:  # Paddle's handler of SIGCHLD raises it anywhere
            if "DataLoader" not in str(error):
                raise
            raise self.loader.dead_worker(self.state.global_step, error) from error
        finally:
            self.progress.close()
            if board := self.board():  # paddlenlp closes it at the end of a whole run only
                board.close()

    def _load_from_checkpoint(self, resume_from_checkpoint: str | None = None) -> None:
        if resume_from_checkpoint is None:
            return
        fill = load_weights if self.adapter is None else load_adapter_weights
        fill(self.model, resume_from_checkpoint)
        if self.feature_cache is not None:
            self.feature_cache.forget_weights()
        if self.average is not None:
            self.average.load(Path(resume_from_checkpoint))
        if self.training_loss.glyph_head is not None:
            state = paddle.load(str(Path(resume_from_checkpoint) / GLYPH_HEAD))
            self.training_loss.glyph_head.set_state_dict(state)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Every process reads all shares, so that a run may go on with another number of processes."""
        if checkpoint is None:
            return
        state, masters = {}, {}
        for path in sorted(Path(checkpoint).glob("optimizer-*.pdopt")):
            try:
                share = paddle.load(str(path))
            except Exception as error:  # of several kinds, by where the file is cut off
                raise incomplete(Path(checkpoint), f"{path.name}: {str(error)[:200]}") from error
            masters |= share.pop("master_weights", {})
            state |= share
        missing = [name for name in self.trained if f"{name}_moment1_0" not in state]
        if missing:
            others = f"{missing[0]} and {len(missing) - 1} others"
            raise incomplete(Path(checkpoint), f"no optimizer state of {others} in optimizer-*.pdopt")
        state = {**state, "master_weights": masters} if masters else state
        self.optimizer.set_state_dict(scatter_state(state, self._shares()))
