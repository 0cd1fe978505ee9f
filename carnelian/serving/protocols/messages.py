"""A WebSocket as the protocols see it, and reading JSON that a stranger sent."""

import asyncio
import json
from typing import Any, Protocol

from carnelian.serving.config import Refusal, ServingConfig


class ClientLeft(Exception):
    """The other side closed the connection."""


class Socket(Protocol):
    """An accepted WebSocket."""

    async def receive(self) -> str | bytes:
        """The next message; raises ClientLeft at the end."""

    async def send(self, message: dict[str, Any]) -> None:
        """Sends an object as JSON; raises ClientLeft where nobody reads."""


async def next_message(socket: Socket, config: ServingConfig) -> str | bytes:
    """The next message within the configured idle time and size; raises Refusal or ClientLeft."""
    try:
        async with asyncio.timeout(config.idle_seconds):
            message = await socket.receive()
    except TimeoutError:
        raise Refusal(408, f"Nothing came for {config.idle_seconds:.0f} s.", code="idle_timeout") from None
    if len(message) > config.max_message_bytes:
        raise Refusal(413, f"Messages may have at most {config.max_message_bytes} bytes.", code="message_too_large")
    return message


def read_object(message: str | bytes) -> dict[str, Any]:
    """The JSON object of a message; raises Refusal 400 for anything else, also for half of a surrogate pair in it."""
    try:
        found = json.loads(message)
        if (b"\\u" if isinstance(message, bytes) else "\\u") in message:  # type: ignore[operator]
            json.dumps(found, ensure_ascii=False).encode()  # fails where an answer that quotes it would
    except (ValueError, RecursionError):
        raise Refusal(400, "A text message is expected to be a JSON object.", code="invalid_json") from None
    if not isinstance(found, dict):
        raise Refusal(400, "A text message is expected to be a JSON object.", code="invalid_json")
    return found


def read_rate(given: Any) -> int:
    """A sample rate between 8 and 48 kHz; raises Refusal 400 for anything else."""
    if isinstance(given, int | float) and not isinstance(given, bool) and 8000 <= given <= 48_000:
        return int(given)
    raise Refusal(
        400, f"sample_rate {str(given)[:40]}: expected 8000 to 48000.", param="sample_rate", code="invalid_value"
    )


def read_words(given: Any, param: str) -> list[str]:
    """A list of at most a thousand strings; raises Refusal 400 for anything else."""
    if given is None:
        return []
    if isinstance(given, list) and len(given) <= 1000 and all(isinstance(each, str) for each in given):
        return given
    raise Refusal(400, f"{param}: expected a list of at most 1000 strings.", param=param, code="invalid_value")
