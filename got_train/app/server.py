"""The page's requests: files in, answers out as they grow, renderings, downloads, corrections.

Knows the web; what is read, drawn or saved is the matter of other modules.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from got_train import images, prompts
from got_train.data.record import RecordError
from got_train.errors import ImageError, RenderingError, RequestError
from got_train.inference.reader import OcrRequest, Page
from got_train.rendering.document import Reading
from got_train.rendering.export import FORMATS, export

from .corrections import Corrections
from .guard import Guard
from .readings import BusyError, Event, Readings
from .uploads import KINDS, MOST_PAGES, Uploads, preview

MOST_TEXT = 1 << 20  # bytes of a request that is no file
TASKS = ("ocr", "format", "spot")
CROPS = ("single", "multi", "auto")
TILES = {"ocr": "multi_crop_ocr", "format": "multi_crop"}
MEDIA = {
    "html": "text/html; charset=utf-8",
    "md": "text/markdown; charset=utf-8",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "json": "application/json",
    "txt": "text/plain; charset=utf-8",
}
_HERE = Path(__file__).parent
_FILES = {"/": ("page.html", "text/html"), "/page.js": ("page.js", "text/javascript")}
_FILES["/page.css"] = ("page.css", "text/css")


class Server:
    """The requests' answers; `app` is what a web server runs."""

    def __init__(
        self, readings: Readings, uploads: Uploads, corrections: Corrections, hosts: Iterable[str] = ()
    ) -> None:
        self.readings, self.uploads, self.corrections = readings, uploads, corrections
        self._desk = ThreadPoolExecutor(2, "desk")  # files and renderings, off the loop
        routes = [Route(path, _static(*file)) for path, file in _FILES.items()]
        routes += [
            Route("/about", self.about),
            Route("/files/{key}/{number:int}", _told(self.preview)),
            *(
                Route(path, _told(answer), methods=["POST"])
                for path, answer in (
                    ("/files", self.upload),
                    ("/read", self.read),
                    ("/render", self.render),
                    ("/corrections", self.correct),
                )
            ),
        ]
        guard = Middleware(Guard, hosts=tuple(hosts))
        self.app = Starlette(routes=routes, middleware=[guard], lifespan=self._life)

    @contextlib.asynccontextmanager
    async def _life(self, _: Starlette) -> AsyncIterator[None]:
        yield
        self.readings.close()
        self._desk.shutdown(wait=False, cancel_futures=True)

    async def _at_desk(self, work: Callable[..., Any], *given: object) -> Any:  # noqa: ANN401
        return await asyncio.get_running_loop().run_in_executor(self._desk, work, *given)

    async def about(self, _: Request) -> Response:
        limits = {"megabytes": self.uploads.most_bytes / 2**20, "pages": MOST_PAGES, "kinds": KINDS}
        file = str(self.corrections.file)
        return JSONResponse({"models": self.readings.models, "corrections": file, "limits": limits})

    async def upload(self, request: Request) -> Response:
        """A file as the request's body, its name in the address."""
        name = request.query_params.get("name", "")
        file = self.uploads.place(name)
        try:
            with open(file, "xb") as opened:
                async for piece in _limited(request, self.uploads.most_bytes, self.uploads.too_large(name)):
                    opened.write(piece)
        except BaseException:
            self.uploads.drop(file.parent)
            raise
        upload = await self._at_desk(self.uploads.accept, file, name)
        return JSONResponse({"key": upload.key, "name": upload.name, "pages": len(upload.pages)})

    async def preview(self, request: Request) -> Response:
        asked = request.path_params
        picture = await self._at_desk(self.uploads.page, asked["key"], asked["number"])
        return Response(await self._at_desk(preview, picture), media_type="image/jpeg")

    async def read(self, request: Request) -> Response:
        """A line of JSON an event: {"begun"}, {"text"} as it grows, then {"answer"} or {"error"}."""
        asked = await _asked(request)
        model = _choice(asked, "model", self.readings.models)
        question = await self._question(asked)
        heard: asyncio.Queue[Event | None] = asyncio.Queue()
        loop, gone = asyncio.get_running_loop(), threading.Event()

        def tell(event: Event | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended before the reading
                loop.call_soon_threadsafe(heard.put_nowait, event)

        future = self.readings.start(model, question, tell, gone)

        async def lines() -> AsyncIterator[str]:
            try:
                while (event := await heard.get()) is not None:
                    yield json.dumps(event, ensure_ascii=False) + "\n"
            finally:
                gone.set()
                future.cancel()

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    async def _question(self, asked: Event) -> OcrRequest:
        task, crop = _choice(asked, "task", TASKS), _choice(asked, "crop", CROPS)
        if task == "spot" and crop == "multi":
            raise RequestError(
                "crop: multi with task spot; use single, because spot reads a page in one view"
            )
        region = _region(asked)
        if region != (None, None) and (task not in prompts.REGIONAL or crop != "single"):
            raise RequestError(
                f"box or color: with task {task}, crop {crop}; only ocr and format in one view read a region"
            )
        page = await self._picture(asked)
        words = TILES.get(task, task) if crop == "multi" else task
        auto = crop == "auto" and task in TILES
        return OcrRequest((Page(page),), words, *region, box_unit="thousandth", auto_crop=auto)

    async def _picture(self, asked: Event) -> images.EncodedImage:
        return await self._at_desk(self.uploads.page, _text(asked, "key"), _whole(asked, "number"))

    async def render(self, request: Request) -> Response:
        """A text in one of the formats; what is shown in the page is the same HTML that is downloaded."""
        asked = await _asked(request)
        form, task = _choice(asked, "format", FORMATS), _choice(asked, "task", prompts.TASKS)
        text, picture = _text(asked, "text"), await self._picture(asked)
        rendered = await self._at_desk(_rendered, picture, text, task, form)
        return Response(rendered, media_type=MEDIA[form])

    async def correct(self, request: Request) -> Response:
        asked = await _asked(request)
        task, text = _choice(asked, "task", prompts.TASKS), _text(asked, "text")
        picture, region = await self._picture(asked), _region(asked)
        count = await self._at_desk(self.corrections.add, picture, task, text, *region)
        return JSONResponse({"file": str(self.corrections.file), "records": count})


def _rendered(picture: images.EncodedImage, text: str, task: str, form: str) -> bytes:
    image = images.open_image(picture) if task == "spot" else None
    label = "" if form == "html" else picture.name  # a page of its own needs no heading
    return export([Reading(label, text, task, image)], form)


def _static(name: str, media: str) -> Callable[[Request], Awaitable[Response]]:
    async def answer(_: Request) -> Response:
        return Response((_HERE / name).read_bytes(), media_type=media)

    return answer


def _told(answer: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """What was wrong, as the page can say it."""

    async def careful(request: Request) -> Response:
        try:
            return await answer(request)
        except BusyError as error:
            return JSONResponse({"error": str(error)}, 503)
        except (RequestError, RecordError, RenderingError, ImageError) as error:
            return JSONResponse({"error": str(error)}, 400)
        except OSError as error:  # a full disk, a folder that may not be written
            return JSONResponse({"error": str(error)}, 500)
        except ClientDisconnect:
            return Response(status_code=400)

    return careful


async def _limited(request: Request, most: int, error: ValueError) -> AsyncIterator[bytes]:
    size = request.headers.get("content-length", "0")
    seen = int(size) if size.isdecimal() and len(size) < 19 else most + 1
    if seen > most:
        raise error
    seen = 0
    async for piece in request.stream():
        seen += len(piece)
        if seen > most:
            raise error
        yield piece


async def _asked(request: Request) -> Event:
    """The object of JSON in a request's body."""
    if request.headers.get("content-type", "").split(";")[0].strip() != "application/json":
        raise RequestError("content-type: not application/json")
    too_long = RequestError(f"request: over {MOST_TEXT:,} bytes")
    try:
        asked = json.loads(b"".join([piece async for piece in _limited(request, MOST_TEXT, too_long)]))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise RequestError(f"request: no JSON ({error})") from error
    if not isinstance(asked, dict):
        raise RequestError("request: no object of JSON")
    return asked


def _choice(asked: Event, name: str, choices: Iterable[str]) -> str:
    if asked.get(name) not in choices:
        raise RequestError(f"{name}: {str(asked.get(name))[:60]!r}; expected one of {', '.join(choices)}")
    return asked[name]


def _text(asked: Event, name: str) -> str:
    if not isinstance(asked.get(name), str):
        raise RequestError(f"{name}: {str(asked.get(name))[:60]!r}; expected a string")
    return asked[name]


def _whole(asked: Event, name: str) -> int:
    if type(asked.get(name)) is not int:
        raise RequestError(f"{name}: {str(asked.get(name))[:60]!r}; expected a whole number")
    return asked[name]


def _region(asked: Event) -> tuple[list[int] | None, str | None]:
    """Box in thousandths and color, both None for the whole page."""
    box, color = asked.get("box"), asked.get("color")
    if color is not None:
        _choice(asked, "color", prompts.COLORS)
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
