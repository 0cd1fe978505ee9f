"""The web application: routes of every protocol, wrapped in `serving.middleware`. The only importer of FastAPI and Starlette."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from importlib.resources import files
from typing import Annotated, Any, Literal, TypeVar

from carnelian import __version__
from carnelian.data.transcript import Transcript
from carnelian.errors import MissingExtraError
from carnelian.serving.config import Refusal
from carnelian.serving.middleware import App, with_body_limit, with_head, with_key, with_origin_check, with_request_id
from carnelian.serving.protocols.messages import ClientLeft, Socket
from carnelian.serving.protocols.openai_http import (
    RESPONSE_FORMATS,
    TranscriptionRequest,
    model,
    models,
    transcription,
    transcription_events,
    translation_refused,
)
from carnelian.serving.protocols.realtime import realtime
from carnelian.serving.protocols.stream import stream
from carnelian.serving.service import Service

try:
    from fastapi import FastAPI, File, Form, Request, Response, UploadFile, WebSocket
    from fastapi.exceptions import RequestValidationError
    from pydantic import BaseModel
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect
    from starlette.responses import JSONResponse, StreamingResponse
    from starlette.websockets import WebSocketDisconnect
except ImportError as error:
    raise MissingExtraError(error.name or "fastapi", "serve", "Serving") from None

T = TypeVar("T")
PAGE = {"": "text/html", "page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
NO_FILE = "expected a file, which is a form field with a filename"  # in place of pydantic's words on Python classes
STATUS_CODES = {404: "not_found", 405: "method_not_allowed"}


class ErrorFields(BaseModel):
    """OpenAI's error object."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(BaseModel):
    """What every refusal looks like."""

    error: ErrorFields


REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": description}
    for status, description in {
        400: "No recording, or fields that do not go together",
        401: "No key, or a wrong one",
        404: "No such model",
        408: "The body did not come",
        413: "The body is too large",
        422: "A field is not of its kind",
        429: "Too many requests of this client",
        500: "The service failed",
        503: "The service is busy, starting or stopping",
    }.items()
}


def make_app(service: Service, *, keys: tuple[str, ...] = (), log_transcripts: bool = False) -> App:
    """The ASGI application of a service, which it starts and closes with its own lifespan."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        await service.start()
        yield
        await service.close()

    app = FastAPI(
        title="Carnelian",
        version=__version__,
        description="Speech recognition: OpenAI's transcription API, live recognition, health and metrics.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    add_refusals(app)
    add_transcriptions(app, service, log_transcripts)
    add_models(app, service)
    add_live(app, service)
    add_operation(app, service)
    add_page(app)
    inner = with_key(app, keys)
    return with_request_id(with_head(with_body_limit(with_origin_check(inner), service.config)), service.metrics)


def add_refusals(app: FastAPI) -> None:
    """Makes every kind of refusal one of OpenAI's error objects."""

    async def refused(request: Request | WebSocket, error: Exception) -> Response:
        more: Mapping[str, str] = {}
        if isinstance(error, RequestValidationError):
            first = error.errors()[0]
            place = ".".join(str(each) for each in first["loc"][1:])
            fault = NO_FILE if "UploadFile" in first["msg"] else first["msg"]
            error = Refusal(422, f"{place}: {fault}", param=place, code="invalid_value")
        elif isinstance(error, HTTPException):
            more = error.headers or {}
            error = Refusal(error.status_code, str(error.detail), code=STATUS_CODES.get(error.status_code))
        elif not isinstance(error, Refusal):
            error = Refusal(500, "The service failed.", kind="server_error")
        request.scope["state"]["notes"]["error"] = error.code or error.kind
        answer = JSONResponse(error.body, error.status, {**error.headers, **more})
        if isinstance(request, WebSocket):
            await request.send_denial_response(answer)
        return answer

    async def left(request: Request, error: Exception) -> Response:
        return Response(status_code=499)  # nobody reads it

    for kind in (Refusal, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, refused)  # type: ignore[arg-type]
    for kind in (ClientLeft, ClientDisconnect):
        app.add_exception_handler(kind, left)


def add_transcriptions(app: FastAPI, service: Service, log_transcripts: bool) -> None:
    """OpenAI's transcription route."""

    def note(request: Request, transcript: Transcript) -> None:
        notes = request.scope["state"]["notes"]
        notes["audio_seconds"] = round(transcript.duration, 3)
        if log_transcripts:
            notes["text"] = transcript.text

    @app.post("/v1/audio/transcriptions", responses=REFUSALS, tags=["openai"], response_model=None)
    async def transcribe(
        request: Request,
        file: Annotated[UploadFile, File(description="the recording: WAV, FLAC, OGG, MP3, AIFF or SPHERE")],
        model: Annotated[str, Form(description="the served model, or a name of OpenAI's")] = "",
        response_format: Annotated[str, Form(description=", ".join(RESPONSE_FORMATS))] = "json",
        granularities: Annotated[
            list[Literal["word", "segment"]], Form(alias="timestamp_granularities[]", description="of verbose_json")
        ] = [],  # noqa: B006
        include: Annotated[list[Literal["logprobs"]], Form(alias="include[]", description="of json")] = [],  # noqa: B006
        keywords: Annotated[list[str], Form(alias="keywords[]", description="expected words, such as names")] = [],  # noqa: B006
        stream: Annotated[bool, Form(description="answer with server-sent events")] = False,
        language: Annotated[str, Form(max_length=40, description="returned; the model knows one language")] = "",
        chunking_strategy: Annotated[str, Form(description="accepted; recordings are always cut at pauses")] = "auto",
        prompt: Annotated[str, Form(description="accepted and not used; see keywords[]")] = "",
        temperature: Annotated[float, Form(ge=0, le=1, description="accepted and not used")] = 0.0,
    ) -> Response:
        """Transcribe a recording."""
        sets = (tuple(granularities), tuple(include), tuple(keywords))
        wanted = TranscriptionRequest(model, response_format, *sets, chunking_strategy, language, temperature)
        wanted.check(service)
        recording = await file.read()
        await file.close()
        answer = streamed_answer if stream else whole_answer
        return await answer(request, service, wanted, recording, lambda whole: note(request, whole))


Finished = Callable[[Transcript], None]


def client_of(request: Request) -> str:
    """Whose request it is, for limits by client: its key, or else its address."""
    return request.scope["state"].get("client") or (request.client.host if request.client else "")


async def whole_answer(
    request: Request, service: Service, wanted: TranscriptionRequest, recording: bytes, finished: Finished
) -> Response:
    """The answer once everything is recognized."""
    with service.admitted(client_of(request)):
        answer, transcript = await while_connected(request, transcription(service, wanted, recording))
    finished(transcript)
    if isinstance(answer, dict):
        return JSONResponse(answer)
    kind = {"srt": "application/x-subrip", "vtt": "text/vtt"}.get(wanted.response_format, "text/plain")
    return Response(answer, media_type=f"{kind}; charset=utf-8")


async def streamed_answer(
    request: Request, service: Service, wanted: TranscriptionRequest, recording: bytes, finished: Finished
) -> Response:
    """An answer of events, once the first is there: what is no recording is refused before an answer begins."""

    async def events() -> AsyncGenerator[str]:
        with service.admitted(client_of(request)):
            async with aclosing(transcription_events(service, wanted, recording, finished)) as found:
                async for each in found:
                    yield each

    rest = events()
    first = await while_connected(request, anext(rest))

    async def body() -> AsyncGenerator[str]:
        async with aclosing(rest):
            yield first
            async for each in rest:
                yield each

    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(body(), media_type="text/event-stream", headers=headers)


def add_models(app: FastAPI, service: Service) -> None:
    """OpenAI's other routes."""

    @app.post("/v1/audio/translations", responses=REFUSALS, tags=["openai"], response_model=None)
    async def translate() -> Response:
        """Refused: the model transcribes only."""
        raise translation_refused()

    @app.get("/v1/models", responses=REFUSALS, tags=["openai"])
    async def list_models() -> dict[str, Any]:
        """The served model."""
        return models(service)

    @app.get("/v1/models/{name:path}", responses=REFUSALS, tags=["openai"])
    async def get_model(name: str) -> dict[str, Any]:
        """A model by its name."""
        return model(service, name)


async def while_connected(request: Request, work: Awaitable[T]) -> T:
    """The result of some work, which is cancelled where the client leaves before it is done."""

    async def disconnected() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    task, gone = asyncio.ensure_future(work), asyncio.create_task(disconnected())
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientLeft
    finally:
        for each in (task, gone):
            each.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


class ServerSocket:
    """A WebSocket of Starlette as the protocols see it."""

    def __init__(self, websocket: WebSocket, seconds: float):
        self.websocket, self.seconds = websocket, seconds

    async def receive(self) -> str | bytes:
        """The next message; raises ClientLeft at the end."""
        message = await self.websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise ClientLeft
        text = message.get("text")
        return message.get("bytes") or b"" if text is None else text

    async def send(self, message: dict[str, Any]) -> None:
        """Sends an object as JSON; raises ClientLeft where nobody reads."""
        try:
            async with asyncio.timeout(self.seconds):
                await self.websocket.send_text(json.dumps(message, ensure_ascii=False))
        except (WebSocketDisconnect, RuntimeError, OSError, TimeoutError):
            raise ClientLeft from None


def add_live(app: FastAPI, service: Service) -> None:
    """Live recognition over WebSockets."""

    async def serve(websocket: WebSocket, protocol: Callable[[Service, Socket], Awaitable[None]]) -> None:
        with service.admitted_live():
            offered = websocket.scope.get("subprotocols", [])
            await websocket.accept("realtime" if "realtime" in offered else None)
            try:
                await protocol(service, ServerSocket(websocket, service.config.idle_seconds))
                await websocket.close(1012 if service.draining else 1000)
            except (ClientLeft, RuntimeError, WebSocketDisconnect):
                pass

    @app.websocket("/v1/stream")
    async def stream_(websocket: WebSocket) -> None:
        await serve(websocket, stream)

    @app.websocket("/v1/realtime")
    async def realtime_(websocket: WebSocket) -> None:
        await serve(websocket, realtime)

    @app.websocket("/")
    async def vosk(websocket: WebSocket) -> None:
        await serve(websocket, lambda service, socket: stream(service, socket, vosk=True))


def add_operation(app: FastAPI, service: Service) -> None:
    """Health and metrics."""

    @app.get("/health/live", tags=["operation"])
    async def live() -> dict[str, str]:
        """Whether the process answers."""
        return {"status": "live"}

    @app.get("/health/ready", responses={503: REFUSALS[503]}, tags=["operation"])
    async def ready() -> dict[str, str]:
        """Whether a recording goes through decoder and recognizer."""
        if fault := await service.ready():
            raise Refusal(503, f"Not ready: {fault}.", kind="server_error", code="not_ready", retry_after=2)
        return {"status": "ready"}

    @app.get("/metrics", responses={401: REFUSALS[401]}, tags=["operation"], response_class=Response)
    async def metrics() -> Response:
        """Measures in Prometheus' text form."""
        return Response(service.metrics.text(), media_type=service.metrics.content_type)


def add_page(app: FastAPI) -> None:
    """The page and its files."""
    folder = files("carnelian.serving") / "page"

    def add(name: str, kind: str) -> None:
        content = (folder / (name or "index.html")).read_bytes()

        @app.get(f"/{name}", include_in_schema=False)
        async def asset() -> Response:
            return Response(content, media_type=kind, headers={"cache-control": "no-cache"})

    for name, kind in PAGE.items():
        add(name, kind)
