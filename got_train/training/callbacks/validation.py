"""What a run sees of records that it does not train on: their loss, its answers; the best weights so far."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import paddle
from paddlenlp.trainer import TrainerCallback
from tqdm import tqdm

from got_train.data.collator import Collator
from got_train.data.records import Record
from got_train.generation.generate import eval_mode
from got_train.inference.continuous import read_requests
from got_train.inference.reader import OcrPipeline, OcrRequest, OcrResult
from got_train.modeling.got import Got
from got_train.training.early_stopping import EarlyStopping
from got_train.training.generation_eval import EvalLog, EvalResult, GenerationEval, log_curves
from got_train.training.regressions import regressions
from got_train.training.run_files import EARLY_STOP, LOSS, VALIDATION_LOSS
from got_train.training.trackers import Writers
from got_train.training.trainer import GotTrainer


@paddle.no_grad()
def validation_loss(got: Got, collator: Collator, records: Sequence[Record], rows: int) -> tuple[float, int]:
    """The sum of -log p over the supervised tokens of the records, `rows` at a time, and their number."""
    collator = replace(collator, char_patch=0, attention_labels=False)  # what only training asks for
    total, tokens = 0.0, 0
    with eval_mode(got):
        for start in range(0, len(records), rows):
            batch = collator.batch([collator.sample(record) for record in records[start : start + rows]])
            output = got(**{name: paddle.to_tensor(value) for name, value in batch.items()})
            total += float(output.loss_sum)
            tokens += int(output.num_tokens)
    return total, tokens


class Validation(TrainerCallback):
    """Every so many steps the loss over the validation records, and what the model reads of some rows.

    Processes share the records. The trainer keeps the weights when the metric is the best so far; after
    train.early_stopping_patience validations without a better one the run ends. What came before stands in
    the run's log, which checkpoints keep.
    """

    def __init__(
        self, trainer: GotTrainer, records: Sequence[Record], generation_eval: GenerationEval | None = None
    ) -> None:
        self.trainer, self.config, self.generation_eval = trainer, trainer.config, generation_eval
        self.stopping = EarlyStopping(self.config.eval.best_metric, self.config.train.early_stopping_patience)
        self.baseline: EvalResult | None = None  # before the run, and the last of the run
        self.last: EvalResult | None = None
        schedule, collator = trainer.loader.schedule, trainer.loader.collator
        self.mine = [records[index] for index in range(schedule.rank, len(records), schedule.ranks)]
        order = () if generation_eval is None else generation_eval.records.order
        read = [file.records[index] for file, index in order]
        for record in (*self.mine, *read[schedule.rank :: schedule.ranks]):
            collator.sample(record)  # a bad row stops the run now, not after hours
        self.has_records = len(records) > 0
        self.eval_log = EvalLog(Path(self.config.train.output_dir))
        self.previews = self._build_previews(records)

    def _build_previews(self, records: Sequence[Record]) -> SamplePreviews:
        """Of what is read anyway, or else of the first records."""
        train, collator = self.config.train, self.trainer.loader.collator
        if self.generation_eval is not None:
            return SamplePreviews(
                collator, [file.records[index] for file, index in self.generation_eval.shown]
            )
        shown = [records[index] for index in range(min(train.preview_samples, len(records)))]
        return SamplePreviews(collator, shown, reader_for(self.trainer, train.preview_max_new_tokens))

    def on_train_begin(self, args: object, state: object, control: object, **kwargs: object) -> None:
        if state.is_world_process_zero:
            base = None if self.baseline is None else self.baseline.row(self.generation_eval.shown)
            self.eval_log.truncate_after(state.global_step, base)

    def on_step_end(self, args: object, state: object, control: object, **kwargs: object) -> None:
        step, every = state.global_step, self.config.train.eval_steps
        due = self._due(state, every) and self.has_records
        reads = self._due(state, self.config.eval.every_steps or every) and self.generation_eval is not None
        if not (due or reads):
            return
        before = self.stopping.values(state.log_history)
        with self.trainer.eval_weights():
            if due:
                self.trainer.log({VALIDATION_LOSS: self._loss()})
            regressed = self._read(step) if reads else ""
            values = self.stopping.values(state.log_history)
            decided = len(values) > len(before)
            if decided and self.stopping.evals_since_best(values) == 0 and not regressed:
                self.trainer.save_best(self.stopping.key, values[-1])
            if self.generation_eval is None:
                self.previews.show(self.trainer.log_writer(), step)
        if regressed:
            state.log_history.append({"step": step, EARLY_STOP: regressed})
        if regressed or (decided and self.stopping.should_stop(values)):
            control.should_training_stop = control.should_save = True

    def _due(self, state: object, every: int) -> bool:
        return state.global_step % every == 0 or state.global_step >= state.max_steps

    def _loss(self) -> float:
        """Over the records of all processes."""
        trainer = self.trainer
        rows = trainer.config.train.per_device_train_batch_size
        totals = validation_loss(trainer.model, trainer.loader.collator, self.mine, rows)
        if trainer.loader.schedule.ranks > 1:
            shared = paddle.to_tensor(totals, dtype="float64")
            paddle.distributed.all_reduce(shared)
            totals = shared.tolist()
        return totals[0] / max(totals[1], 1)

    def _read(self, step: int) -> str:
        """Evaluate what is read and write it everywhere; returns why the run is to end, if it is."""
        generation_eval, trainer = self.generation_eval, self.trainer
        self.last = result = generation_eval.evaluate(step)
        if self.stopping.metric != LOSS:
            trainer.log({self.stopping.key: generation_eval.value(result, self.stopping.metric)})
        if trainer.is_world_process_zero():
            self.eval_log.add(result.row(generation_eval.shown))
            tqdm.write(result.line(), file=sys.stderr)
        if writer := trainer.log_writer():
            log_curves(writer, result)
            answers = {sample.prediction.key: sample.prediction.prediction for sample in result.samples}
            texts = [answers.get((file.name, index)) for file, index in generation_eval.shown]
            self.previews.show(writer, step, texts)
        return self._regressions(result)

    def _regressions(self, result: EvalResult) -> str:
        if self.baseline is None:
            return ""
        records, messages = self.generation_eval.records, []
        if self.config.eval.stop_on_regression:
            worse = [skill.sentence() for skill in regressions(self.baseline, result, records)]
            messages += [f"eval.stop_on_regression: {'; '.join(worse)}"] if worse else []
        messages += filter(None, (guard(self.baseline, result, records) for guard in self.trainer.guards))
        message = "; ".join(messages)
        if message and self.trainer.is_world_process_zero():
            tqdm.write(f"step {result.step}: ended by {message}", file=sys.stderr)
        return message


def reader_for(trainer: GotTrainer, tokens: int) -> OcrPipeline:
    """Reads with the model in training, as infer.py does with a checkpoint."""
    collator = trainer.loader.collator
    return OcrPipeline(trainer.model, collator.tokenizer, max_new_tokens=tokens, max_crops=collator.max_crops)


class SamplePreviews:
    """A few records with what the model reads of them, as VisualDL pictures and texts."""

    def __init__(
        self, collator: Collator, records: Sequence[Record], reader: OcrPipeline | None = None
    ) -> None:
        self.collator, self.records, self.reader = collator, records, reader
        self._pictured = False

    def show(self, writer: Writers | None, step: int, answers: Sequence[str | None] | None = None) -> None:
        """The given answers (None: not read this time), or those of the reader."""
        if writer is None or not self.records:
            return
        answers = list(self._answers()) if answers is None else answers
        for number, (record, answer) in enumerate(zip(self.records, answers, strict=True)):
            if not self._pictured:
                views, _ = self.collator.views(record)
                writer.add_image(f"picture/{number}", np.concatenate(views, axis=1), 0)
            if answer is not None:
                writer.add_text(f"answer/{number}", f"truth: {record.text}\n\nread: {answer}", step)
        self._pictured = True

    def _answers(self) -> Iterator[str]:
        questions = [OcrRequest.of_record(record) for record in self.records]
        for answer in read_requests(self.reader, questions, batch_size=len(questions)):
            yield answer.text if isinstance(answer, OcrResult) else str(answer.cause)
