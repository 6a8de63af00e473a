"""From files to text: pages, requests, batches, results. What infer.py and evaluation share.

Knows checkpoints, prompts and pictures; knows no command line, no metric and no training.
"""

from __future__ import annotations

import itertools
import math
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from got_train import images, prompts
from got_train.errors import CheckpointError, ImageError, InferenceError, PromptError
from got_train.tokenizer import LINE_BREAK, Tokenizer, load_tokenizer

from .confidence import Calibration, Span, highlight_uncertain, load_calibration, spans
from .pages import Page, find_pages

if TYPE_CHECKING:
    from PIL import Image

    from got_train.checkpoint.adapters import SharedModels
    from got_train.data.records import Record
    from got_train.generation.generate import Generated
    from got_train.generation.hypothesis import Hypothesis
    from got_train.generation.no_repeat_ngram import NoRepeatNGram
    from got_train.modeling.got import Got

__all__ = [
    "Decoding",
    "FailedRequest",
    "OcrPipeline",
    "OcrRequest",
    "OcrResult",
    "Page",
    "Prompt",
    "find_pages",
    "load_pipeline",
]

NO_REPEAT = 20  # the original's no_repeat_ngram_size for one image; it sets none for several views
CONTEXT = 8192  # tokens of prompt and answer that GOT's last stage trained with (paper, 4.1)
ORIGINAL_TOKENS = 4096  # of an answer in the original; a long prompt leaves so many too, if positions do
LOOKAHEAD = 4  # batches of requests that are sorted by length, so that a batch has little padding
LOOKAHEAD_VIEWS = 64  # at most held for that, 3 MB each in GOT
# What builds tables: always allowed with allow_table_repeats, as is every token without a letter.
STRUCTURE = ("\\hline", "\\cline", "\\multicolumn", "<td>", "</td>", "<tr>", "</tr>", "<th>", "</th>")


@dataclass(frozen=True)
class OcrRequest:
    """What is asked of which pages: of one, of its tiles (multi_crop), or of several (multi_page)."""

    pages: tuple[Page, ...]
    task: str
    box: Sequence[float] | None = None
    color: str | None = None
    box_unit: str = "pixel"  # or thousandth
    auto_crop: bool = False  # ocr and format of a page with small lines become multi_crop
    line_height: float | None = None  # of the smallest lines in one view, pixels; where auto_crop measured it

    def __str__(self) -> str:
        more = len(self.pages) - 1
        return f"{self.pages[0]}" + (f" and {more} more" if more else "")

    @classmethod
    def of_record(cls, record: Record) -> OcrRequest:
        """What a record asks, without its answer."""
        pages = tuple(map(Page, record.images))
        return cls(pages, record.task, record.box, record.color, record.box_unit)


@dataclass(frozen=True)
class OcrResult:
    """What the model read. `ids` end with the stop token if it came; log_probs are those of `ids`."""

    request: OcrRequest
    text: str
    ids: list[int]
    log_probs: list[float]
    # "stop", "length" (cut at the limit), "loop" (cut after the first repetition), or "retried": it looped,
    # and came to an end under a stronger rule
    finished: str
    seconds: float  # its share of its batch's time

    @property
    def confidence(self) -> float:
        """The geometric mean of the tokens' probabilities."""
        return math.exp(sum(self.log_probs) / len(self.log_probs))

    @property
    def lowest(self) -> float:
        """The smallest of the tokens' probabilities."""
        return math.exp(min(self.log_probs))


@dataclass(frozen=True)
class FailedRequest:
    """A request that could not be put to the model; the cause begins with the page's name."""

    request: OcrRequest
    cause: str


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How one request wants its answer; the pipeline's own settings hold for the rest."""

    max_new_tokens: int | None = None  # never more than the pipeline's limit
    temperature: float = 0.0  # 0: the most probable token; else tokens are drawn
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()  # the text ends before the first of these


@dataclass(frozen=True)
class OcrPipeline:
    """A model with its tokenizer, and how it is to decode."""

    model: Got
    tokenizer: Tokenizer
    max_new_tokens: int | None = None  # None: what is left of CONTEXT, see answer_limit
    no_repeat_ngram_size: int | None = None  # None: the original's, see NO_REPEAT
    stop_loops: bool = True
    max_crops: int = 6
    ngram_window: int = 0  # tokens in which no n-gram comes twice; 0: all
    allow_table_repeats: bool = False  # never ban what builds tables: STRUCTURE, and tokens without a letter
    retry_loops: bool = False  # read a page that loops again, with no n-gram of NO_REPEAT twice
    num_beams: int = 1
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        config, tokenizer = self.model.config, self.tokenizer
        if tokenizer.image_id != config.image_token or tokenizer.size > config.decoder.vocab_size:
            raise InferenceError(
                f"tokenizer: {tokenizer.size} ids with the image at {tokenizer.image_id}; the model has "
                f"{config.decoder.vocab_size} with the image at {config.image_token}"
            )

    @property
    def prompt_template(self) -> str:
        return self.model.config.prompt_template

    def read(
        self,
        requests: Iterable[OcrRequest],
        batch_size: int = 1,
        on_text: Callable[[OcrRequest, str], None] | None = None,
    ) -> Iterator[OcrResult | FailedRequest]:
        """Results in the order of the requests; `on_text` is given each answer while it grows.

        Requests that follow one another share a batch if they are of like length and decoded alike; it ends
        with its longest answer. continuous.py does not wait for that, where there are no beams.
        """
        requests = iter(requests)
        while window := self._window(requests, batch_size):
            # results by their index in the window: batches come in another order than the requests
            results = {index: item for index, item in enumerate(window) if isinstance(item, FailedRequest)}
            next_index = 0
            for batch in self._batches(window, batch_size):
                prompts_of_batch = [window[index] for index in batch]
                results |= zip(batch, self._answers(prompts_of_batch, on_text), strict=True)
                while next_index in results:
                    yield results.pop(next_index)
                    next_index += 1
            yield from (results[index] for index in sorted(results))  # failed ones behind the last batch

    def _window(self, requests: Iterator[OcrRequest], batch_size: int) -> list[Prompt | FailedRequest]:
        """The next requests as prompts: several batches, unless that is too many views."""
        window: list[Prompt | FailedRequest] = []
        views = 0
        for request in itertools.islice(requests, batch_size * LOOKAHEAD if batch_size > 1 else 1):
            prompt = self.prepare(request)
            window.append(prompt)
            if isinstance(prompt, Prompt):
                views += len(prompt.views)
            if len(window) >= batch_size and views >= LOOKAHEAD_VIEWS:
                break
        return window

    def _batches(self, window: Sequence[Prompt | FailedRequest], batch_size: int) -> Iterator[list[int]]:
        """Indices of prompts that are read together: of one n-gram rule, by length; else in their order."""
        groups: dict[int, list[int]] = {}
        for index, item in enumerate(window):
            if isinstance(item, Prompt):
                groups.setdefault(self._ngram_size(item.request), []).append(index)
        for _, group in sorted(groups.items()):
            group.sort(key=lambda index: len(window[index].ids))
            for start in range(0, len(group), batch_size):
                yield group[start : start + batch_size]

    def token_texts(self, answer: OcrResult) -> list[tuple[str, float]]:
        """The answer's tokens as text and their probabilities; tokens that share a character are joined."""
        texts: list[tuple[str, float]] = []
        ids, log_prob = [], 0.0  # of tokens that are only a part of a character so far
        for number, token in enumerate(answer.ids, start=1):
            ids.append(token)
            log_prob += answer.log_probs[number - 1]
            try:
                text = self.tokenizer.decode_bytes(ids).decode()
            except UnicodeDecodeError as error:
                if error.reason == "unexpected end of data" and number < len(answer.ids):
                    continue
                text = self.tokenizer.decode(ids)
            if text:
                texts.append((text, math.exp(log_prob)))
            ids, log_prob = [], 0.0
        return texts

    def calibrated_token_texts(self, answer: OcrResult) -> list[tuple[str, float]]:
        """As token_texts, with calibrated probabilities where there is a calibration."""
        calibration = self.calibration or Calibration()
        return [(text, calibration.apply("token", prob)) for text, prob in self.token_texts(answer)]

    def spans(self, answer: OcrResult, level: str) -> list[Span]:
        """The tokens, words or lines of an answer, each with its confidence, calibrated if possible."""
        return spans(self.token_texts(answer), level, self.calibration)

    def marked(self, answer: OcrResult, below: float) -> str:
        """The answer's text with `[?` and `?]` around words that are less sure."""
        text = "".join(piece for piece, _ in self.token_texts(answer)).strip()
        marked = highlight_uncertain(text, self.spans(answer, "word"), below)
        return marked if text == answer.text else marked.replace(LINE_BREAK, "\n")  # OPT writes it so

    @cached_property
    def _structure(self) -> frozenset[int]:
        """The tokens that are never banned with allow_table_repeats."""
        tokenizer = self.tokenizer
        words = {token for word in STRUCTURE for token in tokenizer.encode(word)}
        without_letter = (id for id in range(tokenizer.size) if _has_no_letter(tokenizer.decode([id])))
        return frozenset(words.union(without_letter)) - {*tokenizer.stop_ids}

    def _rule(self, size: int) -> NoRepeatNGram:
        from got_train.generation.no_repeat_ngram import NoRepeatNGram

        exempt = self._structure if size and self.allow_table_repeats else frozenset()
        window = max(self.ngram_window, size) if self.ngram_window else 0
        return NoRepeatNGram(size=size, window=window, exempt_tokens=exempt)

    def answer_limit(self, tokens: int) -> int:
        """Tokens of the answer to a prompt of so many, at most."""
        left = self.model.config.decoder.max_positions - tokens
        return min(left, self.max_new_tokens or max(CONTEXT - tokens, ORIGINAL_TOKENS))

    def hypothesis(self, prompt: Prompt, decoding: Decoding, retry: bool = False) -> Hypothesis:
        """The empty answer to a prompt, with the rules that it will grow by."""
        from got_train.generation.hypothesis import Hypothesis
        from got_train.generation.no_repeat_ngram import NoRepeatNGram, NoRepeatNGramProcessor
        from got_train.generation.repetition import RepetitionRule
        from got_train.generation.sampling import Sampler

        rule = NoRepeatNGram(size=NO_REPEAT) if retry else self._rule(self._ngram_size(prompt.request))
        limit = self.answer_limit(len(prompt.ids))
        return Hypothesis(
            min(limit, decoding.max_new_tokens or limit),
            self.eos_token_ids,
            NoRepeatNGramProcessor(rule, prompt.ids),
            RepetitionRule() if self.stop_loops else None,
            Sampler(decoding.temperature, decoding.top_p, decoding.seed) if decoding.temperature else None,
        )

    def _choose_crops(self, request: OcrRequest, picture: Image.Image) -> OcrRequest:
        """A request of tiles if the page's lines are too small for one view, and less so in tiles."""
        from got_train.data import text_height

        lines = text_height.measure_text_height(picture)
        if lines is None:
            return request
        vision = self.model.config.vision
        grid = text_height.tiles(picture.size, self.max_crops, vision.image_side)
        whole, tiled = lines.in_view(vision.image_side), lines.in_view(vision.image_side, grid)  # heights
        crop_tasks = {"ocr": "multi_crop_ocr", "format": "multi_crop"}
        too_small = whole < vision.patch / 2 and tiled > whole  # two lines would share a patch
        task = crop_tasks[request.task] if too_small else request.task
        return replace(request, task=task, line_height=whole)

    def _ngram_size(self, request: OcrRequest) -> int:
        if self.no_repeat_ngram_size is not None:
            return self.no_repeat_ngram_size
        return NO_REPEAT if request.task in prompts.ONE_VIEW else 0

    def prepare(self, request: OcrRequest) -> Prompt | FailedRequest:
        """The pages as views and the question as ids; needs no model, so any thread may do it."""
        started = time.perf_counter()
        config = self.model.config
        try:
            pictures = [page.open() for page in request.pages]
            if request.auto_crop:
                request = self._choose_crops(request, pictures[0])
            views = images.views(pictures, request.task, config.vision.image_side, self.max_crops)
            prompt = prompts.build_prompt(
                request.task,
                box=request.box,
                color=request.color,
                image_size=pictures[0].size if request.box_unit == "pixel" else None,
                views=len(views),
                prompt_template=config.prompt_template,
                view_tokens=config.vision.view_tokens,
            )
            ids = self.tokenizer.encode_prompt(prompt)
            if len(ids) >= config.decoder.max_positions:
                raise InferenceError(
                    f"a prompt of {len(ids)} tokens; the decoder has {config.decoder.max_positions} positions"
                )
        except (ImageError, PromptError, CheckpointError, InferenceError, OSError) as error:
            cause = str(error)
            if not cause.startswith(str(request.pages[0].file)):
                cause = f"{request}: {cause}"
            return FailedRequest(request, cause)
        return Prompt(request, ids, views, time.perf_counter() - started)

    def _answers(
        self, batch: list[Prompt], on_text: Callable[[OcrRequest, str], None] | None
    ) -> Iterator[OcrResult]:
        started = time.perf_counter()
        streams = [TextStreamer(self.tokenizer) for _ in batch]

        def on_token(row: int, token: int) -> None:
            text = streams[row].add(token)
            if text:
                on_text(batch[row].request, text)

        rule = self._rule(self._ngram_size(batch[0].request))
        generated = self._generate(batch, rule, None if on_text is None else on_token)
        if self.retry_loops and on_text is None:  # what was shown cannot be taken back
            self._retry(batch, generated)
        seconds = (time.perf_counter() - started) / len(batch)
        for row, prompt in enumerate(batch):
            text = self.text_of(generated.ids[row])
            if on_text is not None:
                rest = streams[row].flush(text)
                if rest:
                    on_text(prompt.request, rest)
            yield OcrResult(
                prompt.request,
                text,
                generated.ids[row],
                generated.log_probs[row],
                generated.finish_reasons[row],
                prompt.seconds + seconds,
            )

    def _generate(
        self, batch: list[Prompt], rule: NoRepeatNGram, on_token: Callable[[int, int], None] | None = None
    ) -> Generated:
        from got_train.generation.generate import RepetitionRule, generate

        return generate(
            self.model,
            *self.tensors(batch),
            max_new_tokens=[self.answer_limit(len(prompt.ids)) for prompt in batch],
            eos_token_ids=sorted(self.eos_token_ids),
            no_repeat_ngram=rule,
            repetition=RepetitionRule() if self.stop_loops else None,
            on_token=on_token,
            num_beams=self.num_beams,
        )

    def text_of(self, ids: Sequence[int]) -> str:
        """The text of an answer's tokens, stripped as in the original."""
        return self.tokenizer.decode(ids).strip()

    @property
    def eos_token_ids(self) -> frozenset[int]:
        return frozenset({*self.model.config.stop_tokens, *self.tokenizer.stop_ids})

    def tensors(self, batch: Sequence[Prompt]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ids (B, T), padded on the left, the views of all, and the attention mask (B, T)."""
        tokens = max(len(prompt.ids) for prompt in batch)
        padding = [tokens - len(prompt.ids) for prompt in batch]
        pad = self.tokenizer.pad_id
        ids = np.array([[pad] * gap + prompt.ids for gap, prompt in zip(padding, batch, strict=True)])
        mask = np.array([[0] * gap + [1] * (tokens - gap) for gap in padding])
        return ids, np.concatenate([prompt.views for prompt in batch]), mask

    def _retry(self, batch: list[Prompt], generated: Generated) -> None:
        """Puts new answers in the place of those that looped, if they come to an end."""
        from got_train.generation.no_repeat_ngram import NoRepeatNGram

        rows = [row for row, reason in enumerate(generated.finish_reasons) if reason == "loop"]
        if not rows:
            return
        again = self._generate([batch[row] for row in rows], NoRepeatNGram(size=NO_REPEAT))
        for number, row in enumerate(rows):
            if again.finish_reasons[number] == "stop":
                generated.ids[row], generated.log_probs[row] = again.ids[number], again.log_probs[number]
                generated.finish_reasons[row] = "retried"


def _has_no_letter(text: str) -> bool:
    return not any(letter.isalpha() or letter == "\ufffd" for letter in text)


@dataclass(frozen=True)
class Prompt:
    """A request as numbers: ids (T,), views (V, side, side, 3) uint8."""

    request: OcrRequest
    ids: list[int]
    views: np.ndarray
    seconds: float  # that preparing it took


class TextStreamer:
    """An answer's text while its tokens arrive; gives out only what later tokens cannot change.

    The text ends before the first of the `stop` texts; what may be the beginning of one is held back.
    """

    # space at the end is stripped in the answer, U+FFFD is half a character, <lb> OPT's newline
    _UNSURE = re.compile(r"(?:\s|\ufffd|<l?b?)+\Z")

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = ()) -> None:
        self.tokenizer, self.ids, self.sent = tokenizer, [], 0  # sent: characters given out so far
        self.stop, self.stopped = stop, False

    def add(self, token: int) -> str:
        self.ids.append(token)
        text = self.cut(self.tokenizer.decode(self.ids).lstrip())
        return self.flush(text if self.stopped else self._sure(text))

    def flush(self, text: str) -> str:
        """What `text` has beyond the part given out before."""
        new = text[self.sent :]
        self.sent = max(self.sent, len(text))
        return new

    def cut(self, text: str) -> str:
        """What stands before the first stop text."""
        ends = [position for word in self.stop if (position := text.find(word)) >= 0]
        self.stopped = self.stopped or bool(ends)
        return text[: min(ends)].rstrip() if ends else text

    def _sure(self, text: str) -> str:
        """Without the end that later tokens may change, or make a stop text of."""
        begun_stops = [
            size
            for word in self.stop
            for size in range(1, min(len(word), len(text) + 1))
            if text.endswith(word[:size])
        ]
        return self._UNSURE.sub("", text[: len(text) - max(begun_stops, default=0)])


def load_pipeline(
    folder: str | os.PathLike,
    dtype: str = "float32",
    adapter: str | os.PathLike | None = None,
    shared: SharedModels | None = None,
    **settings: int | bool | None,
) -> OcrPipeline:
    """The pipeline of a checkpoint folder, or of an adapter's, which names its base.

    With `adapter` the folder is the base, wherever it is now; `shared` holds bases that others have loaded,
    in its own dtype. `settings` are fields of OcrPipeline.
    """
    from paddle import get_device

    from got_train.checkpoint.adapters import is_adapter, load_adapted
    from got_train.checkpoint.foreign import refuse_foreign
    from got_train.checkpoint.weights import load_model
    from got_train.modeling.cpu.accelerate import accelerate_if_tuned
    from got_train.modeling.gpu.accelerate import accelerate_on_gpu

    refuse_foreign(adapter or folder)
    if not Path(folder).is_dir():
        raise InferenceError(
            f"{folder}: no such folder; a checkpoint has config.json, weights and a tokenizer"
        )
    tokenizer = load_tokenizer(adapter or folder)  # first, as it takes a moment and weights may take a minute
    if adapter is not None:
        model = load_adapted(adapter, folder, dtype)
    elif shared is not None:
        model = shared.load(folder)
    elif is_adapter(folder):
        model = load_adapted(folder, dtype=dtype)
    else:
        model = load_model(folder, dtype, keep_int8=get_device() == "cpu")
    accelerate_if_tuned(model)
    accelerate_on_gpu(model)
    if "calibration" not in settings:
        settings["calibration"] = load_calibration(folder if adapter is None else adapter)
    return OcrPipeline(model, tokenizer, **settings)
