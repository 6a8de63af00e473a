"""From files to text: pages, questions, batches, answers. What infer.py and evaluation share.

Knows checkpoints, prompts and pictures; knows no command line, no metric and no training.
"""

from __future__ import annotations

import glob
import itertools
import math
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from got_train import images, prompts
from got_train.tokenizer import Tokenizer, TokenizerError, load_tokenizer

if TYPE_CHECKING:
    from got_train.data.records import Record
    from got_train.modeling import Got

NO_REPEAT = 20  # the original's no_repeat_ngram_size for one image; it sets none for several views
PDF, TIFF = (".pdf",), (".tif", ".tiff")


class ReadingError(ValueError):
    """Inputs that are not there, or a checkpoint whose parts do not fit one another."""


@dataclass(frozen=True)
class Page:
    """One picture: a file, or one page of a PDF or TIFF (from 1). It is opened when its turn comes."""

    file: str | images.EncodedImage
    number: int | None = None

    def __str__(self) -> str:
        return str(self.file) if self.number is None else f"{self.file} page {self.number}"

    @property
    def name(self) -> str:
        """A file name for what is read off this page, without its suffix."""
        stem = Path(str(self.file)).stem
        return stem if self.number is None else f"{stem}_{self.number:04d}"

    def open(self) -> Image.Image:
        if isinstance(self.file, images.EncodedImage):
            return images.open_image(self.file)
        if _is_pdf(self.file):
            pictures = (picture for _, picture in images.pdf_pages(self.file, self.number and [self.number]))
        elif self.number is None:
            return images.open_image(self.file)
        else:
            pictures = itertools.islice(images.image_frames(self.file), self.number - 1, None)
        for picture in pictures:
            return picture
        raise ReadingError(f"{self}: no such page; the file has fewer")


@dataclass(frozen=True)
class Question:
    """What is asked of which pages: of one, of its tiles (multi_crop), or of several (multi_page)."""

    pages: tuple[Page, ...]
    task: str
    box: Sequence[float] | None = None
    color: str | None = None
    box_unit: str = "pixel"  # or thousandth

    def __str__(self) -> str:
        more = len(self.pages) - 1
        return f"{self.pages[0]}" + (f" and {more} more" if more else "")

    @classmethod
    def of_record(cls, record: Record) -> Question:
        """What a record asks, without its answer."""
        pages = tuple(map(Page, record.images))
        return cls(pages, record.task, record.box, record.color, record.box_unit)


@dataclass(frozen=True)
class Answer:
    """What the model read. `ids` end with the stop token if it came; log_probs are those of `ids`."""

    question: Question
    text: str
    ids: list[int]
    log_probs: list[float]
    finished: str  # "stop", "length" (cut at the limit) or "loop" (cut after the first repetition)
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
class Failure:
    """A question that could not be put to the model; the cause begins with the page's name."""

    question: Question
    cause: str


def find_pages(names: Iterable[str | os.PathLike], numbers: Sequence[int] | None = None) -> list[Page]:
    """The pages of files, folders (pictures and PDFs, natural order) and patterns such as scans/*.png.

    `numbers` picks pages of the PDFs and TIFFs; those that a file does not have fail when they are opened.
    """
    files = [file for name in names for file in _files(os.fspath(name))]
    pages = [page for file in files for page in _pages(file, numbers)]
    if numbers is not None and all(page.number is None for page in pages):
        raise ReadingError(f"pages: {files[0]} has no pages to pick; a PDF or a TIFF of several pages has")
    return pages


@dataclass(frozen=True)
class Reader:
    """A model with its tokenizer, and how it is to decode."""

    model: Got
    tokenizer: Tokenizer
    max_new_tokens: int = 4096
    no_repeat_ngram_size: int | None = None  # None: the original's, see NO_REPEAT
    stop_loops: bool = True
    max_tiles: int = 6

    def __post_init__(self) -> None:
        config, tokenizer = self.model.config, self.tokenizer
        if tokenizer.image_id != config.image_token or tokenizer.size > config.decoder.vocab_size:
            raise ReadingError(
                f"tokenizer: {tokenizer.size} ids with the image at {tokenizer.image_id}; the model has "
                f"{config.decoder.vocab_size} with the image at {config.image_token}"
            )

    @property
    def dialect(self) -> str:
        return self.model.config.dialect

    def read(
        self,
        questions: Iterable[Question],
        batch_size: int = 1,
        on_text: Callable[[Question, str], None] | None = None,
    ) -> Iterator[Answer | Failure]:
        """Answers in the order of the questions; `on_text` hears each answer while it grows."""
        batch: list[_Prompt] = []
        for question in questions:
            prompt = self._prompt(question)
            if isinstance(prompt, Failure):
                yield from self._answers(batch, on_text)
                yield prompt
                batch = []
                continue
            if batch and self._ngram_size(batch[0].question) != self._ngram_size(question):
                yield from self._answers(batch, on_text)
                batch = []
            batch.append(prompt)
            if len(batch) >= batch_size:
                yield from self._answers(batch, on_text)
                batch = []
        yield from self._answers(batch, on_text)

    def pieces(self, answer: Answer) -> list[tuple[str, float]]:
        """The answer's tokens as text and their probabilities; tokens that share a character are joined."""
        found, ids, log_prob = [], [], 0.0
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
                found.append((text, math.exp(log_prob)))
            ids, log_prob = [], 0.0
        return found

    def _ngram_size(self, question: Question) -> int:
        if self.no_repeat_ngram_size is not None:
            return self.no_repeat_ngram_size
        return NO_REPEAT if question.task in prompts.ONE_VIEW else 0

    def _prompt(self, question: Question) -> _Prompt | Failure:
        started = time.perf_counter()
        config = self.model.config
        try:
            pictures = [page.open() for page in question.pages]
            views = images.views(pictures, question.task, config.vision.image_side, self.max_tiles)
            prompt = prompts.build_prompt(
                question.task,
                box=question.box,
                color=question.color,
                image_size=pictures[0].size if question.box_unit == "pixel" else None,
                views=len(views),
                dialect=config.dialect,
                view_tokens=config.vision.view_tokens,
            )
            ids = self.tokenizer.encode_prompt(prompt)
            if len(ids) >= config.decoder.max_positions:
                places = config.decoder.max_positions
                raise ReadingError(f"a prompt of {len(ids)} tokens; the decoder has {places} positions")
        except (images.ImageError, prompts.PromptError, TokenizerError, ReadingError, OSError) as error:
            cause = str(error)
            named = cause.startswith(str(question.pages[0].file))
            return Failure(question, cause if named else f"{question}: {cause}")
        return _Prompt(question, ids, views, time.perf_counter() - started)

    def _answers(
        self, batch: list[_Prompt], on_text: Callable[[Question, str], None] | None
    ) -> Iterator[Answer]:
        if not batch:
            return
        from got_train.modeling.generate import Loop, generate

        started = time.perf_counter()
        streams = [Stream(self.tokenizer) for _ in batch]

        def hear(row: int, token: int) -> None:
            if text := streams[row].add(token):
                on_text(batch[row].question, text)

        tokens = max(len(prompt.ids) for prompt in batch)
        padding = [tokens - len(prompt.ids) for prompt in batch]
        pad = self.tokenizer.pad_id
        made = generate(
            self.model,
            np.array([[pad] * gap + prompt.ids for gap, prompt in zip(padding, batch, strict=True)]),
            np.concatenate([prompt.views for prompt in batch]),
            np.array([[0] * gap + [1] * (tokens - gap) for gap in padding]),
            max_new_tokens=self.max_new_tokens,
            stop_tokens=sorted({*self.model.config.stop_tokens, *self.tokenizer.stop_ids}),
            no_repeat_ngram_size=self._ngram_size(batch[0].question),
            loop=Loop() if self.stop_loops else None,
            on_token=None if on_text is None else hear,
        )
        seconds = (time.perf_counter() - started) / len(batch)
        for row, prompt in enumerate(batch):
            text = self.tokenizer.decode(made.ids[row]).strip()  # as the original does
            if on_text is not None and (rest := streams[row].rest(text)):
                on_text(prompt.question, rest)
            yield Answer(
                prompt.question,
                text,
                made.ids[row],
                made.log_probs[row],
                made.finished[row],
                prompt.seconds + seconds,
            )


@dataclass(frozen=True)
class _Prompt:
    """A question as numbers: ids (T,), views (N, side, side, 3) uint8."""

    question: Question
    ids: list[int]
    views: np.ndarray
    seconds: float


class Stream:
    """An answer's text while its tokens arrive; gives out only what later tokens cannot change."""

    # space at the end is stripped in the answer, U+FFFD is half a character, <lb> OPT's newline
    _UNSURE = re.compile(r"(?:\s|\ufffd|<l?b?)+\Z")

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer, self.ids, self.given = tokenizer, [], 0

    def add(self, token: int) -> str:
        self.ids.append(token)
        return self.rest(self._UNSURE.sub("", self.tokenizer.decode(self.ids).lstrip()))

    def rest(self, text: str) -> str:
        """What `text` has beyond the part given out before."""
        new = text[self.given :]
        self.given = max(self.given, len(text))
        return new


def load_reader(folder: str | os.PathLike, dtype: str = "float32", **settings: int | bool | None) -> Reader:
    """The Reader of a checkpoint folder; settings are the fields of Reader."""
    from got_train.modeling.weights import load_model

    if not Path(folder).is_dir():
        raise ReadingError(f"{folder}: no such folder; a checkpoint has config.json, weights and a tokenizer")
    tokenizer = load_tokenizer(folder)  # first, for it takes a moment and the weights may take a minute
    return Reader(load_model(folder, dtype), tokenizer, **settings)


def _files(name: str) -> list[str]:
    if os.path.isdir(name):
        pdfs = [file for file in os.listdir(name) if file.lower().endswith(PDF) and file[0] != "."]
        files = images.image_files(name) + [os.path.join(name, file) for file in pdfs]
        if not files:
            raise ReadingError(f"{name}: no picture and no PDF in this folder; sub-folders are not searched")
        return sorted(files, key=images.natural_order)
    if os.path.exists(name):
        return [name]
    files = [file for file in glob.glob(name, recursive=True) if os.path.isfile(file)]
    if not files:
        raise ReadingError(f"{name}: no such file; a picture, a PDF, a folder or a pattern like scans/*.png")
    return sorted(files, key=images.natural_order)


def _pages(file: str, numbers: Sequence[int] | None) -> list[Page]:
    count = _page_count(file)
    if count is None:
        return [Page(file)]
    return [Page(file, number) for number in numbers or range(1, count + 1)]


def _page_count(file: str) -> int | None:
    """Pages of a PDF, or of a TIFF of several; None for a picture, and for what will fail to open."""
    if _is_pdf(file):
        import pypdfium2

        try:
            with pypdfium2.PdfDocument(file) as document:
                return len(document) or None
        except (pypdfium2.PdfiumError, OSError):
            return None
    if not file.lower().endswith(TIFF):
        return None
    try:
        with Image.open(file, formats=["TIFF"]) as image:
            return image.n_frames if image.n_frames > 1 else None
    except Exception:  # Pillow raises nearly every built-in exception on damaged files
        return None


def _is_pdf(file: str) -> bool:
    if file.lower().endswith(PDF):
        return True
    try:
        with open(file, "rb") as opened:
            return opened.read(5) == b"%PDF-"
    except OSError:
        return False
