"""The endpoint that other programs call: OpenAI's chat completions, models, health and metrics.

Knows the web; what a request asks is the matter of chat.py, who reads when that of the scheduler.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace

from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from got_train.errors import GotError, RequestError
from got_train.images import EncodedImage
from got_train.inference.batch import Reading
from got_train.inference.reader import FailedRequest, OcrRequest, Page, Prompt
from got_train.inference.scheduler import BusyError, ClosingError, Job, Scheduler

from . import remote
from .bodies import content_type, json_body, limited, parse_json, parse_object
from .chat import Attachment, ChatRequest, Completion, Json, UnknownModelError, parse
from .guard import Guard
from .metrics import Metrics
from .readings import PendingReading, ReadingStream, message
from .uploads import Uploads
from .worker_pool import WorkerPool

BODY_SECONDS = 60  # for a body to arrive
MAX_BODIES = 16  # that are read at once; others wait unread
MAX_PAGES = 32  # of a file, with task multi_page
MAX_FILES, MAX_FIELDS = 8, 64  # of a multipart body
MORE_TEXT = 1 << 20  # bytes of a body beside its pictures
TEXTS = (
    "model",
    "task",
    "box_unit",
    "color",
    "crop",
    "pages",
    "stop",
    "user",
)  # fields of a form that are no JSON
RETRY_AFTER = "1"  # seconds, told with 429


@dataclass(frozen=True, kw_only=True)
class ApiConfig:
    """Who may ask for what."""

    api_key: str | None = None
    hosts: tuple[str, ...] = ()  # names under which the server is reached beside this machine's own
    image_hosts: tuple[str, ...] = ()  # from which pictures are fetched; none: only data URLs
    default_task: str | None = None  # of a text that is none of GOT's questions; None: refused
    started: int = field(default_factory=lambda: int(time.time()))


class Api:
    """The requests' answers; `app` is what a web server runs."""

    def __init__(self, scheduler: Scheduler, uploads: Uploads, config: ApiConfig | None = None) -> None:
        self.scheduler, self.uploads, self.config = scheduler, uploads, config or ApiConfig()
        self.metrics = Metrics(scheduler)
        self._workers = WorkerPool(scheduler)
        self._bodies = asyncio.Semaphore(MAX_BODIES)
        routes = [
            Route("/v1/chat/completions", self._handled(self.complete), methods=["POST"]),
            Route("/v1/models", self._handled(self.models)),
            Route("/v1/models/{name:path}", self._handled(self.model)),
            Route("/health", self.health),
            Route("/metrics", self._handled(self.show_metrics)),
        ]
        hosts = None if self.config.api_key else self.config.hosts  # who has the key is known
        guard = Middleware(Guard, hosts=hosts, page=False)
        self.app = Starlette(
            routes=routes,
            middleware=[guard],
            lifespan=self._workers.lifespan,
            exception_handlers={404: _no_route, 405: _no_route},
        )

    async def health(self, _: Request) -> Response:
        ready = self.scheduler.is_open
        return JSONResponse({"status": "ok" if ready else "shutting down"}, 200 if ready else 503)

    async def show_metrics(self, _: Request) -> Response:
        return Response(self.metrics.text(), media_type="text/plain; version=0.0.4")

    async def models(self, _: Request) -> Response:
        return JSONResponse({"object": "list", "data": [*map(self._card, self.scheduler.models)]})

    async def model(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self.scheduler.models:
            raise UnknownModelError(
                f"model: {name[:60]!r}; expected one of {', '.join(self.scheduler.models)}"
            )
        return JSONResponse(self._card(name))

    def _card(self, name: str) -> Json:
        return {"id": name, "object": "model", "created": self.config.started, "owned_by": "got_train"}

    async def complete(self, request: Request) -> Response:
        with self.scheduler.reserve() as reservation:
            try:
                chat = await asyncio.wait_for(self._body(request), BODY_SECONDS)
            except asyncio.TimeoutError:
                raise SlowBodyError(
                    f"request: no whole body in {BODY_SECONDS} seconds; send it again"
                ) from None
            request.state.model = chat.model
            prompt = await self._prompt(chat)
            pending = PendingReading(
                reservation, chat.model, Reading(prompt=prompt, decoding=chat.decoding, streamed=chat.stream)
            )
        if chat.stream:
            return ReadingStream(pending, self._chunks(chat, pending), "text/event-stream")
        job = await self._result(request, pending)
        self.metrics.ended(job)
        if job.error is not None:
            raise job.error
        pipeline = self.scheduler.pipelines[chat.model]
        completion = Completion.new(chat.model)
        return JSONResponse(completion.whole(job.reading.result, pipeline, len(prompt.ids), chat.logprobs))

    async def _result(self, request: Request, pending: PendingReading) -> Job:
        """The job once it is over; it is given up when the client goes."""
        result = asyncio.ensure_future(pending.result())
        disconnected = asyncio.ensure_future(_disconnected(request))
        try:
            await asyncio.wait((result, disconnected), return_when=asyncio.FIRST_COMPLETED)
            if not result.done():
                raise ClientDisconnect
            return result.result()
        finally:
            result.cancel()
            disconnected.cancel()
            pending.cancel()

    async def _chunks(self, chat: ChatRequest, pending: PendingReading) -> AsyncIterator[str]:
        completion, sent = Completion.new(chat.model), 0
        pipeline = self.scheduler.pipelines[chat.model]
        yield _event(completion.chunk({"role": "assistant", "content": ""}))
        async for job, done in pending.changes():
            text = job.reading.text
            if len(text) > sent:
                yield _event(completion.chunk({"content": text[sent:]}))
                sent = len(text)
            if not done:
                continue
            self.metrics.ended(job)
            if job.error is not None:
                yield _event(_error(_status(job.error), message(job.error)))
                continue
            result = job.reading.result
            yield _event(completion.last_chunk(result, pipeline, chat.logprobs))
            if chat.include_usage:
                yield _event(completion.usage_chunk(result, len(job.reading.prompt.ids)))
        yield "data: [DONE]\n\n"

    async def _body(self, request: Request) -> ChatRequest:
        """JSON, or a form with files and the same fields."""
        most, models, task = self.uploads.most_bytes, self.scheduler.models, self.config.default_task
        async with self._bodies:
            if content_type(request) == "multipart/form-data":
                fields, files = await _form(request, most + MORE_TEXT)
                return await self._workers.run(parse, fields, models, task, files)
            body = await json_body(request, most * 4 // 3 + MORE_TEXT)
            return await self._workers.run(lambda: parse(parse_object(body), models, task))

    async def _prompt(self, chat: ChatRequest) -> Prompt:
        most = MAX_PAGES if chat.task == "multi_page" else 1
        pages = [
            Page(picture)
            for attachment in chat.attachments
            for picture in await self._workers.run(self._pictures, attachment, chat.pages, most)
        ]
        request = OcrRequest(
            tuple(pages), chat.task, chat.box, chat.color, chat.box_unit, auto_crop=chat.auto_crop
        )
        prompt = await self._workers.run(self.scheduler.pipelines[chat.model].prepare, request)
        if isinstance(prompt, FailedRequest):
            raise RequestError(prompt.cause)
        # the views are made: the files, which may be large, need not wait in the queue
        names = tuple(Page(EncodedImage(str(page), b"")) for page in pages)
        return replace(prompt, request=replace(prompt.request, pages=names))

    def _pictures(
        self, attachment: Attachment, pages: tuple[int, ...] | None, most: int
    ) -> list[EncodedImage]:
        name, data = attachment.name, attachment.data
        if attachment.url:
            name, data = remote.fetch(attachment.url, self.config.image_hosts, self.uploads.most_bytes)
        return self.uploads.pages_of(data, name, pages, most)

    def _handled(
        self, answer: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Only with the key; what is wrong in OpenAI's form; counted."""

        async def handle(request: Request) -> Response:
            try:
                self._check_key(request)
                response = await answer(request)
            except ClientDisconnect:
                response = Response(status_code=499)  # nobody hears it; nginx's number
            except Exception as error:
                status = _status(error)
                if status == 500:
                    traceback.print_exception(error)
                headers = {"Retry-After": RETRY_AFTER} if status == 429 else None
                response = JSONResponse(_error(status, message(error)), status, headers)
            if request.url.path == "/v1/chat/completions":
                model = getattr(request.state, "model", "")
                self.metrics.requests.labels(model, str(response.status_code)).inc()
            return response

        return handle

    def _check_key(self, request: Request) -> None:
        if self.config.api_key is None:
            return
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        right = hmac.compare_digest(given.strip().encode(), self.config.api_key.encode())
        if kind.lower() != "bearer" or not right:
            raise _KeyError("authorization: no key, or a wrong one; expected Bearer and the server's API key")


class _KeyError(RequestError):
    """The API key is wrong."""


class SlowBodyError(RequestError):
    """A body that does not arrive."""


def _status(error: Exception) -> int:
    statuses = (
        (_KeyError, 401),
        (UnknownModelError, 404),
        (BusyError, 429),
        (ClosingError, 503),
        (SlowBodyError, 408),
        (TimeoutError, 504),
        (GotError, 400),
    )
    return next((status for kind, status in statuses if isinstance(error, kind)), 500)


def _error(status: int, text: str) -> Json:
    kind = {401: "authentication_error", 429: "rate_limit_error"}.get(status)
    kind = kind or ("invalid_request_error" if status < 500 else "server_error")
    code = {401: "invalid_api_key", 404: "model_not_found", 429: "queue_full"}.get(status)
    return {"error": {"message": text, "type": kind, "param": None, "code": code}}


async def _form(request: Request, most: int) -> tuple[Json, list[Attachment]]:
    """The fields of a form as those of JSON, and its files; `prompt` is the text of the message."""
    too_long = RequestError(f"request: over {most:,} bytes")
    parser = MultiPartParser(
        request.headers,
        limited(request, most, too_long),
        max_files=MAX_FILES,
        max_fields=MAX_FIELDS,
        max_part_size=MORE_TEXT,
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise RequestError(f"request: {error.message}; expected a form with a file") from error
    try:
        files = [
            (item.filename or "picture", item)
            for _, item in form.multi_items()
            if isinstance(item, UploadFile)
        ]
        fields = {name: value for name, value in form.multi_items() if isinstance(value, str)}
        attachments = [Attachment(name[-80:], await item.read()) for name, item in files]
    finally:
        await form.close()
    text = fields.pop("prompt", "")
    body: Json = {name: value if name in TEXTS else _value(value) for name, value in fields.items()}
    return body | {"messages": [{"role": "user", "content": text}]}, attachments


def _value(text: str) -> object:
    try:
        return parse_json(text)
    except ValueError:
        return text


async def _no_route(request: Request, error: HTTPException) -> Response:
    message_text = f"{request.method} {request.url.path}: no such endpoint; use POST /v1/chat/completions"
    return JSONResponse(_error(error.status_code, message_text), error.status_code)


def _event(data: Json) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
