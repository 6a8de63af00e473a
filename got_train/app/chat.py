"""A chat request in OpenAI's form: what it asks of which picture, and the completion that answers it.

Knows JSON objects; knows no web, no queue and no model.
"""

from __future__ import annotations

import base64
import binascii
import math
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any
from urllib.parse import unquote_to_bytes

from got_train import images, prompts
from got_train.errors import ImageError, RequestError
from got_train.inference.reader import Decoding, OcrPipeline, OcrResult

from .questions import question_of, task_and_crop

Json = dict[str, Any]
MAX_ROLE_PARTS = 64  # parts of a message
MAX_STOPS = 4  # as OpenAI
KINDS = {  # of data URLs, and the suffix that the kind of file is known by
    "application/pdf": ".pdf",
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/jpg": ".jpg",
    "image/webp": ".webp",
    "image/gif": ".gif",
    "image/bmp": ".bmp",
    "image/tiff": ".tiff",
    "image/jp2": ".jp2",
    "image/avif": ".avif",
    "image/x-portable-anymap": ".ppm",
}
FINISH = {"stop": "stop", "retried": "stop", "length": "length", "loop": "length"}
OURS = ("task", "box", "box_unit", "color", "crop", "pages")
KNOWN = (
    *("model", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "seed", "stop"),
    *("stream", "stream_options", "logprobs", "user", "metadata", "store", *OURS),
)
# fields of OpenAI and vLLM that are taken as long as they change nothing
NEUTRAL: dict[str, tuple[object, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "top_logprobs": (0,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "repetition_penalty": (1,),
    "top_k": (-1, 0),
    "min_p": (0,),
    "logit_bias": ({},),
    "tools": ([],),
    "tool_choice": ("none",),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
}
SAMPLING = ("top_k", "min_p")  # at temperature 0 any value of them leaves the most probable token


class UnknownModelError(RequestError):
    """A model that is not served."""


@dataclass(frozen=True)
class Attachment:
    """A picture or PDF: its bytes, or the address that it is to be fetched from."""

    name: str
    data: bytes = b""
    url: str = ""


@dataclass(frozen=True, kw_only=True)
class ChatRequest:
    model: str
    attachments: tuple[Attachment, ...]
    task: str
    auto_crop: bool
    box: Sequence[float] | None
    box_unit: str
    color: str | None
    pages: tuple[int, ...] | None  # of a PDF or TIFF
    decoding: Decoding
    stream: bool
    include_usage: bool
    logprobs: bool


def parse(
    body: Json, models: Sequence[str], default_task: str | None = None, files: Sequence[Attachment] = ()
) -> ChatRequest:
    """The request of a JSON body. `default_task` answers questions that are none of GOT's.

    `files` came beside it, in a form.
    """
    _check_fields(body)
    model = body.get("model")
    if model not in models:
        raise UnknownModelError(f"model: {str(model)[:60]!r}; expected one of {', '.join(models)}")
    text, attachments = _message(body.get("messages"))
    attachments += files
    question = _question(body, text, default_task)
    task, auto_crop = task_and_crop(question, prompts.TASKS)
    several = task in ("multi_page", "multi_crop", "multi_crop_ocr")
    if not attachments or (len(attachments) > 1 and not several):
        raise RequestError(
            f"messages: {len(attachments)} pictures; expected one, or several with task multi_page"
        )
    options = body.get("stream_options") or {}
    if not isinstance(options, dict):
        raise RequestError(f"stream_options: {str(options)[:60]!r}; expected an object")
    return ChatRequest(
        model=model,
        attachments=tuple(attachments),
        task=task,
        auto_crop=auto_crop,
        box=_box(question.get("box")),
        box_unit=question["box_unit"],
        color=question.get("color"),
        pages=_pages(body.get("pages")),
        decoding=_decoding(body),
        stream=_flag(body, "stream"),
        include_usage=_flag(options, "include_usage"),
        logprobs=_flag(body, "logprobs"),
    )


def _check_fields(body: Json) -> None:
    for name, value in body.items():
        if name in KNOWN:
            continue
        if name not in NEUTRAL:
            near = get_close_matches(name, (*KNOWN, *NEUTRAL), 1)
            hint = f"did you mean {near[0]}?" if near else "leave it out"
            raise RequestError(f"{name[:60]}: no such field; {hint}")
        is_greedy = name in SAMPLING and body.get("temperature") in (None, 0)
        is_number = type(value) in (int, float)
        if value is not None and value not in NEUTRAL[name] and not (is_greedy and is_number):
            raise RequestError(f"{name}: {str(value)[:60]!r} is not supported; leave it out")


def _message(messages: object) -> tuple[str, list[Attachment]]:
    """Text and pictures of the one message of a user; those of the system change nothing in GOT."""
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise RequestError("messages: expected a list of objects with role and content")
    roles = [message.get("role") for message in messages]
    of_user = [
        message for role, message in zip(roles, messages, strict=True) if role not in ("system", "developer")
    ]
    if len(of_user) != 1 or of_user[0].get("role") != "user":
        named = ", ".join(str(role)[:20] for role in roles[:8])
        raise RequestError(
            f"messages: roles {named}; expected one message of the user, GOT holds no conversation"
        )
    content = of_user[0].get("content")
    if isinstance(content, str):
        return content, []
    if not isinstance(content, list) or len(content) > MAX_ROLE_PARTS:
        raise RequestError(f"content: expected a text, or a list of at most {MAX_ROLE_PARTS} parts")
    texts, attachments = [], []
    for number, part in enumerate(content, 1):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind == "image_url":
            given = part.get("image_url")
            url = given.get("url") if isinstance(given, dict) else given
            attachments.append(_attachment(url, f"picture {number}"))
        elif kind == "file" and isinstance(part.get("file"), dict):
            name = part["file"].get("filename") or f"file {number}"
            attachments.append(_attachment(part["file"].get("file_data"), str(name)[:80]))
        else:
            raise RequestError(
                f"content: part {number} is of type {str(kind)[:40]!r}; expected text, image_url or file"
            )
    return "\n".join(texts), attachments


def _attachment(url: object, name: str) -> Attachment:
    if not isinstance(url, str):
        raise RequestError(f"{name}: no address; expected data:image/png;base64,... in url or file_data")
    if url[:5].lower() != "data:":
        return Attachment(name, url=url)
    head, comma, body = url[5:].partition(",")
    kind, *parameters = head.lower().split(";")
    if not comma:
        raise RequestError(f"{name}: a data URL without a comma; expected data:image/png;base64,...")
    if kind not in KINDS:
        raise RequestError(f"{name}: a data URL of {kind[:40]!r}; expected one of {', '.join(KINDS)}")
    try:
        data = (
            base64.b64decode(body, validate=True)
            if "base64" in map(str.strip, parameters)
            else unquote_to_bytes(body)
        )
    except (binascii.Error, ValueError) as error:
        raise RequestError(f"{name}: base64 is damaged ({error}); encode the file again") from error
    suffix = KINDS[kind]
    return Attachment(name if name.lower().endswith(suffix) else name + suffix, data)


def _question(body: Json, text: str, default_task: str | None) -> Json:
    """Task, crop, box, box_unit and color, by fields or by the text."""
    question = {name: body.get(name) for name in ("task", "crop", "box", "box_unit", "color")}
    if question["task"] is None and text.strip():
        try:
            task, box, color = question_of(text)
        except RequestError:
            if default_task is None:
                raise
            task, box, color = default_task, None, None
        question["task"] = task
        if box is not None or color is not None:
            if question["box"] is not None or question["color"] is not None:
                raise RequestError("box or color: given in the text and as a field; give one of them")
            question |= {"box": box, "color": color, "box_unit": "thousandth"}
    question["task"] = question["task"] or default_task or "ocr"
    question["crop"] = question["crop"] or "single"
    question["box_unit"] = question["box_unit"] or "pixel"
    if question["box_unit"] not in ("pixel", "thousandth"):
        raise RequestError(f"box_unit: {str(question['box_unit'])[:60]!r}; expected one of pixel, thousandth")
    return question


def _box(box: object) -> Sequence[float] | None:
    if box is None:
        return None
    numbers = isinstance(box, list) and all(
        type(side) in (int, float) and math.isfinite(side) for side in box
    )
    if not numbers or len(box) != 4:
        raise RequestError(f"box: {str(box)[:60]}; expected x1, y1, x2, y2")
    return box


def _pages(pages: object) -> tuple[int, ...] | None:
    if pages is None:
        return None
    if isinstance(pages, list) and all(type(number) is int for number in pages):
        pages = ",".join(map(str, pages))
    try:
        return tuple(images.parse_pages(str(pages)[:1000]))
    except ImageError as error:
        raise RequestError(str(error)) from error


def _decoding(body: Json) -> Decoding:
    stop = body.get("stop")
    stops = [stop] if isinstance(stop, str) else stop or []
    if not isinstance(stops, list) or len(stops) > MAX_STOPS or not all(_is_stop(word) for word in stops):
        raise RequestError(f"stop: {str(stop)[:60]!r}; expected a text, or at most {MAX_STOPS}, none empty")
    limits = [_number(body, name, 1, 10**6, whole=True) for name in ("max_completion_tokens", "max_tokens")]
    return Decoding(
        max_new_tokens=min((limit for limit in limits if limit is not None), default=None),
        temperature=_number(body, "temperature", 0, 2) or 0.0,
        top_p=1.0 if (top_p := _number(body, "top_p", 0, 1)) is None else max(top_p, 1e-6),
        seed=_number(body, "seed", 0, 2**63 - 1, whole=True),
        stop=tuple(stops),
    )


def _is_stop(word: object) -> bool:
    return isinstance(word, str) and 0 < len(word) <= 1000


def _number(body: Json, name: str, low: float, high: float, whole: bool = False) -> Any:  # noqa: ANN401
    value = body.get(name)
    if value is None:
        return None
    if type(value) not in ((int,) if whole else (int, float)) or not low <= value <= high:
        kind = "a whole number" if whole else "a number"
        raise RequestError(f"{name}: {str(value)[:60]!r}; expected {kind} from {low:,} to {high:,}")
    return value


def _flag(body: Json, name: str) -> bool:
    value = body.get(name)
    if value not in (None, True, False) or type(value) is int:
        raise RequestError(f"{name}: {str(value)[:60]!r}; expected true or false")
    return bool(value)


# ---- answers


@dataclass(frozen=True)
class Completion:
    """The identity of one answer, whole or in chunks."""

    model: str
    id: str
    created: int

    @classmethod
    def new(cls, model: str) -> Completion:
        return cls(model, f"chatcmpl-{secrets.token_hex(12)}", int(time.time()))

    def whole(self, result: OcrResult, pipeline: OcrPipeline, prompt_tokens: int, logprobs: bool) -> Json:
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": result.text, "refusal": None},
            "logprobs": _logprobs(result, pipeline) if logprobs else None,
            "finish_reason": FINISH[result.finished],
        }
        head = self._head("chat.completion")
        return {**head, "choices": [choice], "usage": usage(result, prompt_tokens), "got": about(result)}

    def chunk(self, delta: Json) -> Json:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
        return {**self._head("chat.completion.chunk"), "choices": [choice]}

    def last_chunk(self, result: OcrResult, pipeline: OcrPipeline, logprobs: bool) -> Json:
        """How it ended; log-probabilities stand here for the whole answer."""
        choice = {
            "index": 0,
            "delta": {},
            "logprobs": _logprobs(result, pipeline) if logprobs else None,
            "finish_reason": FINISH[result.finished],
        }
        return {**self._head("chat.completion.chunk"), "choices": [choice], "got": about(result)}

    def usage_chunk(self, result: OcrResult, prompt_tokens: int) -> Json:
        return {
            **self._head("chat.completion.chunk"),
            "choices": [],
            "usage": usage(result, prompt_tokens),
        }

    def _head(self, kind: str) -> Json:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def usage(result: OcrResult, prompt_tokens: int) -> Json:
    count = len(result.ids)
    return {"prompt_tokens": prompt_tokens, "completion_tokens": count, "total_tokens": prompt_tokens + count}


def about(result: OcrResult) -> Json:
    """What OpenAI has no field for."""
    fields: Json = {"task": result.request.task, "finished": result.finished}
    if result.ids:
        fields["confidence"] = round(result.confidence, 4)
    return fields | {"seconds": round(result.seconds, 3)}


def _logprobs(result: OcrResult, pipeline: OcrPipeline) -> Mapping[str, Any]:
    """Of every token but the one that ends the answer; the model's own, before any ban or temperature."""
    content = []
    for token, log_prob in zip(result.ids, result.log_probs, strict=True):
        piece = pipeline.tokenizer.decode_bytes([token])
        if token not in pipeline.eos_token_ids:
            text = piece.decode("utf-8", errors="replace")
            content.append({"token": text, "logprob": log_prob, "bytes": [*piece], "top_logprobs": []})
    return {"content": content, "refusal": None}
