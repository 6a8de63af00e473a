"""How well the base of a run reads these rows before it trains: loss by class of character, beside chance.

One forward pass over a few rows with their answers given. A class whose loss is that of guessing has never
been learnt: a run must teach it from nothing, which is another matter than to refine.
"""

from __future__ import annotations

import math
import time
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from got_train.config.schema import Config
from got_train.data.collator import Collator, Sample
from got_train.data.records import Record, RecordError
from got_train.tokenizer import Tokenizer

from .findings import WARNING, Finding
from .statistics import script_runs

if TYPE_CHECKING:
    from got_train.modeling.got import Got

ROWS = 32  # of the data, evenly spaced
SECONDS = 60.0  # of reading, after which no further row is taken
FEWEST = 20  # tokens of a class that tell anything
SHARE = 0.02  # of the tokens; rarer classes are no matter of a whole run
CAPITALS, SMALL, ACCENTED = "capitals A-Z", "small letters a-z", "Latin letters with accents"
DIGITS, SPACES, SIGNS = "digits", "spaces and line ends", "punctuation and signs"


@dataclass(frozen=True)
class BaseReading:
    """Tokens and their mean loss by class of character; `chance` is the loss of guessing among all tokens."""

    chance: float
    rows: int
    classes: Mapping[str, tuple[int, float]]

    def unread(self) -> dict[str, float]:
        """The classes that the base reads no better than chance, with their share of the tokens."""
        total = sum(count for count, _ in self.classes.values()) or 1
        return {
            name: count / total
            for name, (count, loss) in self.classes.items()
            if count >= FEWEST and count >= SHARE * total and loss >= self.chance and name != SPACES
        }

    def plain(self) -> dict[str, Any]:
        classes = {
            name: {"tokens": count, "loss": round(loss, 3)} for name, (count, loss) in self.classes.items()
        }
        return {"chance": round(self.chance, 3), "rows": self.rows, "classes": classes}

    def finding(self) -> Finding | None:
        unread = self.unread()
        if not unread:
            return None
        named = ", ".join(f"{name} ({self.classes[name][1]:.1f})" for name in unread)
        return Finding(
            WARNING,
            "base",
            "model.init_from",
            f"the base reads {named} no better than chance ({self.chance:.2f} is the loss of guessing); "
            f"they are {sum(unread.values()):.0%} of the answers",
            "where a person can read them in one view, train all parts without LoRA, with thousands of steps "
            "and data.replay for what the base can do",
        )


def read_with_base(config: Config, collator: Collator, records: Sequence[Record]) -> BaseReading | None:
    """The base of a run over a sample of its rows; None for a run that starts from nothing. Needs Paddle."""
    if not config.model.init_from:
        return None
    from got_train.checkpoint.adapters import is_adapter, load_adapted
    from got_train.checkpoint.weights import load_model

    folder = config.model.init_from
    model = (load_adapted if is_adapter(folder) else load_model)(folder)
    samples = []
    for row in np.linspace(0, len(records) - 1, min(ROWS, len(records))).astype(int).tolist():
        try:
            samples.append(collator.sample(records[row]))
        except RecordError:  # told already
            continue
    return base_reading(model, collator, samples)


def base_reading(
    model: Got, collator: Collator, samples: Sequence[Sample], seconds: float = SECONDS
) -> BaseReading:
    """Losses of the answers' tokens, each put to the class of the character that it belongs to."""
    import paddle

    began, rows = time.monotonic(), 0
    losses: defaultdict[str, list[float]] = defaultdict(list)
    with paddle.no_grad():
        for sample in samples:
            if rows and time.monotonic() - began > seconds:
                break
            batch = {name: paddle.to_tensor(values) for name, values in collator.batch([sample]).items()}
            output = model(batch["input_ids"], batch["pixel_values"], batch["attention_mask"])
            positions = np.flatnonzero(sample.labels >= 0)
            logits = output.logits[0].numpy()[positions - 1].astype(np.float64)
            ids = sample.labels[positions]
            highest = logits.max(axis=1, keepdims=True)
            log_sums = highest[:, 0] + np.log(np.exp(logits - highest).sum(axis=1))
            token_losses = log_sums - logits[np.arange(len(ids)), ids]
            for name, loss in zip(token_classes(collator.tokenizer, ids.tolist()), token_losses, strict=True):
                if name:
                    losses[name].append(float(loss))
            rows += 1
    ordered = sorted(losses.items(), key=lambda item: -len(item[1]))
    classes = {name: (len(values), float(np.mean(values))) for name, values in ordered}
    return BaseReading(math.log(model.config.decoder.vocab_size), rows, classes)


def token_classes(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    """The class of each token; tokens that share a character have its class, the end token none."""
    classes: list[str] = []
    waiting: list[int] = []
    for token in ids:
        waiting.append(token)
        if token in tokenizer.stop_ids:
            classes += [""] * len(waiting)
            waiting = []
            continue
        try:
            text = tokenizer.decode_bytes(waiting).decode()
        except UnicodeDecodeError as error:
            if error.reason == "unexpected end of data":
                continue
            text = tokenizer.decode(waiting)
        classes += [character_class(text)] * len(waiting)
        waiting = []
    return classes + [SIGNS] * len(waiting)


def character_class(text: str) -> str:
    """Of a token's text: by its letters, else its digits, else its signs."""
    letters = [sign for sign in text if sign.isalpha()]
    if letters:
        scripts = script_runs("".join(letters))
        script = max(scripts, key=lambda name: sum(map(len, scripts[name])))
        if script != "Latin":
            return script
        if not all(unicodedata.normalize("NFC", sign).isascii() for sign in letters):
            return ACCENTED
        return CAPITALS if all(map(str.isupper, letters)) else SMALL
    if any(map(str.isnumeric, text)):
        return DIGITS
    return SIGNS if text.strip() else SPACES
