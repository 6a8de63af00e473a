"""The page's requests: files in, answers out as they grow, renderings, downloads, corrections.

Knows the web; what is read, drawn or saved is the matter of other modules.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from got_train import images, prompts
from got_train.data.record import RecordError
from got_train.errors import ImageError, RenderingError, RequestError
from got_train.inference.batch import Reading as PageReading
from got_train.inference.reader import FailedRequest, OcrRequest, Page
from got_train.inference.scheduler import BusyError, ClosingError, Scheduler
from got_train.rendering import FORMATS
from got_train.rendering.document import Reading
from got_train.rendering.export import export

from .bodies import json_object, limited
from .corrections import Corrections
from .guard import Guard
from .questions import choice, task_and_crop
from .readings import Event, PendingReading, ReadingStream, page_events
from .review import Review
from .uploads import KINDS, MOST_PAGES, Uploads, preview
from .worker_pool import WorkerPool

MOST_TEXT = 1 << 20  # bytes of a request that is no file
TASKS = ("ocr", "format", "spot")
MEDIA = {
    "html": "text/html; charset=utf-8",
    "md": "text/markdown; charset=utf-8",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "json": "application/json",
    "txt": "text/plain; charset=utf-8",
}
_HERE = Path(__file__).parent
_FILES = {"/": ("page.html", "text/html"), "/page.css": ("page.css", "text/css")}
_FILES |= {f"/{name}": (name, "text/javascript") for name in ("page.js", "requests.js")}
_REVIEW = ("queue.html", "text/html")


class Server:
    """The requests' answers; `app` is what a web server runs."""

    def __init__(
        self,
        scheduler: Scheduler,
        uploads: Uploads,
        corrections: Corrections,
        hosts: Iterable[str] = (),
        review: Review | None = None,
    ) -> None:
        """With a `review` there is a second page, which is the only one if there is no model."""
        self.scheduler, self.uploads, self.corrections = scheduler, uploads, corrections
        self.review = review
        self._workers = WorkerPool(scheduler)
        files = _FILES if scheduler.models else {**_FILES, "/": _REVIEW}
        routes = [Route(path, _static(*file)) for path, file in files.items()]
        routes += [] if review is None else self._review_routes()
        routes += [
            Route("/about", self.about),
            Route("/files/{key}/{number}", _with_errors(self.preview)),
            *(
                Route(path, _with_errors(answer), methods=["POST"])
                for path, answer in (
                    ("/files", self.upload),
                    ("/read", self.read),
                    ("/render", self.render),
                    ("/corrections", self.correct),
                )
            ),
        ]
        guard = Middleware(Guard, hosts=tuple(hosts))
        self.app = Starlette(routes=routes, middleware=[guard], lifespan=self._workers.lifespan)

    async def about(self, _: Request) -> Response:
        limits = {"megabytes": self.uploads.most_bytes / 2**20, "pages": MOST_PAGES, "kinds": KINDS}
        file = str(self.corrections.file)
        queue = self.review is not None
        return JSONResponse(
            {"models": self.scheduler.models, "corrections": file, "limits": limits, "queue": queue}
        )

    async def upload(self, request: Request) -> Response:
        """A file as the request's body, its name in the address."""
        name = request.query_params.get("name", "")
        file = self.uploads.place(name)
        try:
            with open(file, "xb") as opened:
                async for piece in limited(request, self.uploads.most_bytes, self.uploads.too_large(name)):
                    opened.write(piece)
        except BaseException:
            self.uploads.drop(file.parent)
            raise
        upload = await self._workers.run(self.uploads.accept, file, name)
        return JSONResponse({"key": upload.key, "name": upload.name, "pages": len(upload.pages)})

    async def preview(self, request: Request) -> Response:
        key, number = request.path_params["key"], _number(request, "number")
        picture = await self._workers.run(self.uploads.page, key, number)
        return Response(await self._workers.run(preview, picture), media_type="image/jpeg")

    async def read(self, request: Request) -> Response:
        """A line of JSON an event: {"begun"}, {"text"} as it grows, then {"answer"} or {"error"}."""
        fields = await json_object(request, MOST_TEXT)
        model = choice(fields, "model", self.scheduler.models)
        pipeline = self.scheduler.pipelines[model]
        with self.scheduler.reserve() as reservation:
            prompt = await self._workers.run(pipeline.prepare, await self._question(fields))
            if isinstance(prompt, FailedRequest):
                return JSONResponse({"error": prompt.cause}, 400)
            pending = PendingReading(reservation, model, PageReading(prompt=prompt, streamed=True))

        async def lines() -> AsyncIterator[str]:
            async for event in page_events(pending, pipeline):
                yield json.dumps(event, ensure_ascii=False) + "\n"

        return ReadingStream(pending, lines(), "application/x-ndjson")

    async def _question(self, fields: Event) -> OcrRequest:
        task, auto_crop = task_and_crop(fields, TASKS)
        region = _region(fields)
        page = Page(await self._picture(fields))
        return OcrRequest((page,), task, *region, box_unit="thousandth", auto_crop=auto_crop)

    async def _picture(self, fields: Event) -> images.EncodedImage:
        return await self._workers.run(self.uploads.page, _text(fields, "key"), _whole(fields, "number"))

    async def render(self, request: Request) -> Response:
        """A text in one of the formats; what is shown in the page is the same HTML that is downloaded."""
        fields = await json_object(request, MOST_TEXT)
        form, task = choice(fields, "format", FORMATS), choice(fields, "task", prompts.TASKS)
        text, picture = _text(fields, "text"), await self._picture(fields)
        rendered = await self._workers.run(_rendered, picture, text, task, form)
        return Response(rendered, media_type=MEDIA[form])

    async def correct(self, request: Request) -> Response:
        fields = await json_object(request, MOST_TEXT)
        task, text = choice(fields, "task", prompts.TASKS), _text(fields, "text")
        picture, region = await self._picture(fields), _region(fields)
        replaced, model = str(fields.get("replaced") or ""), fields.get("model")
        model = choice(fields, "model", self.scheduler.models) if model is not None else ""
        count = await self._workers.run(self.corrections.add, picture, task, text, *region, replaced, model)
        return JSONResponse({"file": str(self.corrections.file), "records": count})

    def _review_routes(self) -> list[Route]:
        return [
            Route("/queue", _static(*_REVIEW)),
            Route("/queue.js", _static("queue.js", "text/javascript")),
            Route("/drafts", _with_errors(self.first_draft)),
            Route("/drafts/{place}", _with_errors(self.draft)),
            Route("/drafts/{place}/{number}", _with_errors(self.draft_picture)),
            Route("/accept", _with_errors(self.accept), methods=["POST"]),
            Route("/undo", _with_errors(self.undo), methods=["POST"]),
        ]

    async def first_draft(self, _: Request) -> Response:
        """The counts, and which draft is next; null at the end."""
        return JSONResponse({**self.review.counts(), "next": self.review.next_left(-1)})

    async def draft(self, request: Request) -> Response:
        return JSONResponse(await self._workers.run(self.review.item, _number(request, "place")))

    async def draft_picture(self, request: Request) -> Response:
        places = _number(request, "place"), _number(request, "number")
        return Response(await self._workers.run(self.review.picture, *places), media_type="image/jpeg")

    async def accept(self, request: Request) -> Response:
        """A draft's text as it is to be learnt, changed or not."""
        asked = await json_object(request, MOST_TEXT)
        place, text = _whole(asked, "place"), _text(asked, "text")
        return JSONResponse(await self._workers.run(self.review.save, place, text))

    async def undo(self, request: Request) -> Response:
        await json_object(request, MOST_TEXT)
        return JSONResponse(await self._workers.run(self.review.undo))


def _rendered(picture: images.EncodedImage, text: str, task: str, form: str) -> bytes:
    image = images.open_image(picture) if task == "spot" else None
    label = "" if form == "html" else picture.name  # a page of its own needs no heading
    return export([Reading(label, text, task, image)], form)


def _static(name: str, media: str) -> Callable[[Request], Awaitable[Response]]:
    async def answer(_: Request) -> Response:
        return Response((_HERE / name).read_bytes(), media_type=media)

    return answer


def _with_errors(
    answer: Callable[[Request], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    """What was wrong, as the page can say it."""

    async def handle(request: Request) -> Response:
        try:
            return await answer(request)
        except (BusyError, ClosingError) as error:
            return JSONResponse({"error": str(error)}, 503)
        except (RequestError, RecordError, RenderingError, ImageError) as error:
            return JSONResponse({"error": str(error)}, 400)
        except OSError as error:  # a full disk, a folder that may not be written
            return JSONResponse({"error": str(error)}, 500)
        except ClientDisconnect:
            return Response(status_code=400)

    return handle


def _text(fields: Event, name: str) -> str:
    if not isinstance(fields.get(name), str):
        raise RequestError(f"{name}: {str(fields.get(name))[:60]!r}; expected a string")
    return fields[name]


def _number(request: Request, name: str) -> int:
    number = request.path_params[name]
    if not re.fullmatch("[0-9]{1,9}", number):
        raise RequestError(f"{name}: {number[:60]!r}; expected a whole number")
    return int(number)


def _whole(fields: Event, name: str) -> int:
    if type(fields.get(name)) is not int:
        raise RequestError(f"{name}: {str(fields.get(name))[:60]!r}; expected a whole number")
    return fields[name]


def _region(fields: Event) -> tuple[list[int] | None, str | None]:
    """Box in thousandths and color, both None for the whole page."""
    box, color = fields.get("box"), fields.get("color")
    if color is not None:
        choice(fields, "color", prompts.COLORS)
    if box is None:
        return None, color
    whole = isinstance(box, list) and len(box) == 4 and all(type(side) is int for side in box)
    if not whole or min(box) < 0 or max(box) > 1000 or box[0] >= box[2] or box[1] >= box[3]:
        raise RequestError(
            f"box: {str(box)[:60]}; expected x1, y1, x2, y2 in thousandths, x1 < x2 and y1 < y2"
        )
    if color is not None:
        raise RequestError("box and color: both are given; name the region by one of them")
    return box, None
