"""What a run sees of records that it does not train on: their loss, some answers, the best weights so far."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import paddle
from paddlenlp.trainer import TrainerCallback

from got_train.data.collator import Collator
from got_train.data.records import Record
from got_train.modeling import Got
from got_train.modeling.generate import evaluating
from got_train.reading import Answer, Question, Reader

from .checkpoints import STATE_FILE, read_json

if TYPE_CHECKING:
    from visualdl import LogWriter

    from .trainer import GotTrainer

VALIDATION_LOSS = "validation_loss"


@paddle.no_grad()
def validation_loss(got: Got, collator: Collator, records: Sequence[Record], rows: int) -> tuple[float, int]:
    """The sum of -log p over the supervised tokens of the records, `rows` at a time, and their number."""
    total, tokens = 0.0, 0
    with evaluating(got):
        for start in range(0, len(records), rows):
            batch = collator.batch([collator.sample(record) for record in records[start : start + rows]])
            batch.pop("glyph_labels", None)
            output = got(**{name: paddle.to_tensor(value) for name, value in batch.items()})
            total += float(output.loss_sum)
            tokens += int(output.label_count)
    return total, tokens


class Validation(TrainerCallback):
    """Every so many steps the mean loss over all supervised tokens of the validation records.

    Processes share the records. The trainer keeps the weights when the loss is the lowest so far; after
    train.patience validations without a lower one the run ends. What came before stands in the run's log,
    which checkpoints keep.
    """

    def __init__(self, trainer: GotTrainer, records: Sequence[Record]) -> None:
        self.trainer, settings = trainer, trainer.config.train
        self.every, self.patience = settings.validate_every, settings.patience
        plan = trainer.loader.plan
        self.mine = [records[place] for place in range(plan.rank, len(records), plan.ranks)]
        for record in self.mine:
            trainer.loader.collator.sample(record)  # a bad row stops the run now, not after hours
        shown = [records[place] for place in range(min(settings.show_rows, len(records)))]
        self.gallery = Gallery(trainer.model, trainer.loader.collator, shown, settings.show_tokens)

    def on_step_end(self, args: object, state: object, control: object, **kwargs: object) -> None:
        step = state.global_step
        if step % self.every and step < state.max_steps:
            return
        before = validation_losses(state.log_history)
        with self.trainer.kept_weights():
            loss = self._loss()
            self.trainer.log({VALIDATION_LOSS: loss})
            if loss < min(before, default=float("inf")):
                self.trainer.save_best(loss)
            self.gallery.show(self.trainer.board(), step)
        if self.patience and since_best([*before, loss]) >= self.patience:
            control.should_training_stop = control.should_save = True

    def _loss(self) -> float:
        """Over the records of all processes."""
        trainer = self.trainer
        rows = trainer.config.train.micro_batch_size
        totals = validation_loss(trainer.model, trainer.loader.collator, self.mine, rows)
        if trainer.loader.plan.ranks > 1:
            shared = paddle.to_tensor(totals, dtype="float64")
            paddle.distributed.all_reduce(shared)
            totals = shared.tolist()
        return totals[0] / max(totals[1], 1)


def validation_losses(history: list[dict]) -> list[float]:
    return [entry[VALIDATION_LOSS] for entry in history if VALIDATION_LOSS in entry]


def since_best(losses: Sequence[float]) -> int:
    """Validations after the first that was lowest."""
    return len(losses) - 1 - int(np.argmin(losses)) if losses else 0


def has_stopped(checkpoint: Path, patience: int) -> bool:
    """Whether a run ended early at this checkpoint."""
    state = read_json(checkpoint / STATE_FILE)
    return bool(patience) and since_best(validation_losses(state["log_history"])) >= patience


class Gallery:
    """A few validation records with what the model reads of them, as VisualDL pictures and texts."""

    def __init__(self, got: Got, collator: Collator, records: Sequence[Record], tokens: int) -> None:
        self.collator, self.records = collator, records
        self.reader = Reader(got, collator.tokenizer, max_new_tokens=tokens, max_tiles=collator.max_tiles)
        self._pictured = False

    def show(self, board: LogWriter | None, step: int) -> None:
        if board is None or not self.records:
            return
        for number, (record, answer) in enumerate(zip(self.records, self._answers(), strict=True)):
            if not self._pictured:
                views, _ = self.collator.views(record)
                board.add_image(f"picture/{number}", np.concatenate(views, axis=1), 0)
            board.add_text(f"answer/{number}", f"truth: {record.text}\n\nread: {answer}", step)
        self._pictured = True

    def _answers(self) -> Iterator[str]:
        questions = [Question.of_record(record) for record in self.records]
        for answer in self.reader.read(questions, batch_size=len(questions)):
            yield answer.text if isinstance(answer, Answer) else str(answer.cause)
