"""ASGI middleware that runs before a request is parsed; from the outside in: request id, body limit, origin, key."""

import asyncio
import hashlib
import hmac
import json
import re
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from carnelian.serving.config import Refusal, ServingConfig, overloaded
from carnelian.serving.logs import log
from carnelian.serving.metrics import Metrics

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

#: paths that need no key: the page and its files, health, and the description of the interface
OPEN = {"/", "/page.css", "/page.js", "/icon.svg", "/health/live", "/health/ready", "/openapi.json", "/docs"}
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
KEY_PROTOCOL = "openai-insecure-api-key."  # how a browser, which may set no header, gives a key to a WebSocket
#: of a body over the limit, this many times the limit is read and thrown away: most clients read the answer only after sending all
DISCARD = 4
SECURITY_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob:; media-src 'self' blob:; worker-src 'self' blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "permissions-policy": "microphone=(self)",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


def header(scope: Scope, name: str) -> str:
    """The first header of that name, or ""."""
    wanted = name.encode()
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == wanted), "")


def with_request_id(app: App, metrics: Metrics) -> App:
    """An application that gives every request an id, also in its answer; measures and logs it; answers exceptions with errors."""

    async def checked(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await app(scope, receive, send)
        given = header(scope, "x-request-id")
        request_id = given if REQUEST_ID.fullmatch(given) else f"req_{uuid.uuid4().hex}"
        state = scope.setdefault("state", {})
        state |= {"request_id": request_id, "notes": {}}
        started, status = time.monotonic(), 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] in ("http.response.start", "websocket.accept", "websocket.http.response.start"):
                status = message.get("status", 101)
                extra = {"x-request-id": request_id, **(SECURITY_HEADERS if scope["type"] == "http" else {})}
                known = {key for key, _ in message.get("headers", ())}
                added = [(key.encode(), value.encode()) for key, value in extra.items() if key.encode() not in known]
                message["headers"] = [*message.get("headers", ()), *added]
            await send(message)

        try:
            await app(scope, receive, send_with_id)
        except Refusal as refusal:
            if not status:
                await refuse(scope, send_with_id, refusal)
        except TimeoutError:
            log("info", "the client does not read", request_id=request_id)
        except Exception as error:
            log("error", "failure", request_id=request_id, error=f"{type(error).__name__}: {error}")
            metrics.errors.labels(type(error).__name__).inc()
            if status:
                raise
            await refuse(scope, send_with_id, Refusal(500, "The service failed.", kind="server_error"))
        finally:
            route = getattr(scope.get("route"), "path", "none")
            seconds = time.monotonic() - started
            if "error" in state["notes"]:
                metrics.errors.labels(state["notes"]["error"]).inc()
            metrics.observe_request(route, status or 499, seconds)  # 499: the client left before an answer
            if scope["path"] not in ("/health/live", "/health/ready", "/metrics"):
                fields = {
                    "method": scope.get("method", "WEBSOCKET"),
                    "path": scope["path"][:200],
                    "status": status or 499,
                }
                log("info", "request", request_id=request_id, **fields, seconds=round(seconds, 4), **state["notes"])

    return checked


async def refuse(scope: Scope, send: Send, refusal: Refusal, *, close: bool = False) -> None:
    """Answers with a refusal; a WebSocket that is not accepted yet gets it as an HTTP answer."""
    scope["state"]["notes"]["error"] = refusal.code or refusal.kind
    kind = "http.response" if scope["type"] == "http" else "websocket.http.response"
    body = json.dumps(refusal.body).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **refusal.headers}
    if refusal.status == 401:
        headers["www-authenticate"] = "Bearer"
    if close:
        headers["connection"] = "close"
    pairs = [(key.encode(), value.encode()) for key, value in headers.items()]
    await send({"type": f"{kind}.start", "status": refusal.status, "headers": pairs})
    await send({"type": f"{kind}.body", "body": body})


def with_head(app: App) -> App:
    """An application that answers HEAD as it answers GET; the server leaves the body out."""

    async def checked(scope: Scope, receive: Receive, send: Send) -> None:
        is_head = scope.get("method") == "HEAD"
        await app({**scope, "method": "GET"} if is_head else scope, receive, send)

    return checked


def with_body_limit(app: App, config: ServingConfig) -> App:
    """An application that refuses bodies over the limit with 413, by Content-Length or by what arrives, and slow senders with 408.

    No byte over the limit reaches `app`. The bodies of all requests in progress are limited together too (503).
    """
    held = 0

    async def checked(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal held
        if scope["type"] != "http":
            return await app(scope, receive, send)
        limit, length = config.max_upload_bytes, header(scope, "content-length")
        if length.isdigit() and int(length) > limit:
            worth_reading = int(length) <= DISCARD * limit and not header(scope, "expect")
            await discard(receive, DISCARD * limit if worth_reading else 0)
            return await refuse(scope, send, too_large(limit, int(length)), close=True)
        count, refusal, answered, complete = 0, None, False, False

        async def receive_limited() -> Message:
            nonlocal count, refusal, held, complete
            try:
                async with asyncio.timeout(None if complete else config.idle_seconds):
                    message = await receive()
            except TimeoutError:
                refusal = Refusal(408, f"Nothing came for {config.idle_seconds:.0f} s.", code="request_timeout")
                return {"type": "http.disconnect"}
            size = len(message.get("body", b""))
            count, held = count + size, held + size
            complete = not message.get("more_body")
            if count > limit:
                refusal = too_large(limit, count)
            elif held > config.max_uploads_bytes:
                refusal = overloaded("The service holds too many uploads. Try again later.", 5)
            if refusal:
                return {"type": "http.disconnect"}
            return message

        async def send_unless_refused(message: Message) -> None:
            nonlocal answered
            if refusal is None:
                answered = answered or message["type"] == "http.response.start"
                async with asyncio.timeout(config.idle_seconds):  # a client may not read its answer
                    await send(message)

        try:
            await app(scope, receive_limited, send_unless_refused)
        except Exception:
            if refusal is None:
                raise
        finally:
            held -= count
        if refusal is not None and not answered:
            await discard(receive, DISCARD * limit if refusal.status == 413 else 0)
            await refuse(scope, send, refusal, close=True)

    return checked


def too_large(limit: int, count: int) -> Refusal:
    """OpenAI's refusal of a body over the limit."""
    message = f"Maximum content size limit ({limit}) exceeded ({count} bytes read)"
    return Refusal(413, message, param="file", code="content_too_large")


async def discard(receive: Receive, most: int, seconds: float = 10.0) -> None:
    """Reads and throws away the rest of a body, at most `most` bytes: a client that still sends may not read the answer."""
    try:
        async with asyncio.timeout(seconds):
            while most > 0:
                message = await receive()
                most -= len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body"):
                    return
    except TimeoutError:
        return


def with_key(app: App, keys: tuple[str, ...]) -> App:
    """An application that refuses requests without one of the keys with 401, before their body is read. No keys: it refuses none."""
    digests = [hashlib.sha256(key.encode()).digest() for key in keys]

    def known(key: str) -> bool:
        digest = hashlib.sha256(key.encode()).digest()
        return any([hmac.compare_digest(digest, each) for each in digests])  # a list: it takes as long for every key

    async def checked(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or not keys or scope["path"] in OPEN:
            return await app(scope, receive, send)
        scheme, _, key = header(scope, "authorization").partition(" ")
        if scheme.lower() != "bearer":
            offered = (each.strip() for each in header(scope, "sec-websocket-protocol").split(","))
            key = next((each.removeprefix(KEY_PROTOCOL) for each in offered if each.startswith(KEY_PROTOCOL)), "")
        if not known(key.strip()):
            message = (
                "Incorrect API key provided." if key else "You didn't provide an API key: Authorization: Bearer KEY."
            )
            await refuse(scope, send, Refusal(401, message, code="invalid_api_key"))
            return None
        scope["state"]["client"] = key
        await app(scope, receive, send)

    return checked


def with_origin_check(app: App) -> App:
    """An application that refuses WebSockets of pages of other sites (403): browsers let every page connect to localhost."""

    async def checked(scope: Scope, receive: Receive, send: Send) -> None:
        origin = header(scope, "origin") if scope["type"] == "websocket" else ""
        if origin and origin.partition("://")[2] != header(scope, "host"):
            message = f"Pages of {origin[:100]} may not open live sessions here."
            await refuse(scope, send, Refusal(403, message, code="origin_not_allowed"))
            return None
        await app(scope, receive, send)

    return checked
