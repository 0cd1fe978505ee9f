"""What a service is limited to, and how a refusal looks in every protocol."""

from dataclasses import dataclass
from typing import Annotated

MEGABYTE = 1 << 20
MAX_RETRY_AFTER = 120  # seconds; clients ignore a longer wait


@dataclass(frozen=True, slots=True)
class ServingConfig:
    """Limits of a service; the command line makes one option of each field. Seconds and bytes, unless a name says otherwise."""

    max_upload_bytes: Annotated[int, "size of a request's body"] = 25 * MEGABYTE
    max_uploads_bytes: Annotated[int, "size of all bodies that are held at once"] = 1024 * MEGABYTE
    max_audio_seconds: Annotated[float, "duration of a recording"] = 4 * 3600.0
    max_requests: Annotated[int, "requests accepted and not yet answered; more are refused with 503"] = 256
    max_requests_per_client: Annotated[
        int, "the same of one API key, or of one address; more are refused with 429; 0: any number"
    ] = 0
    max_live: Annotated[int, "live sessions at once"] = 100
    max_message_bytes: Annotated[int, "size of a WebSocket message"] = 16 * MEGABYTE
    max_backlog_seconds: Annotated[float, "live audio that waits; its sender is slowed down at that"] = 30.0
    idle_seconds: Annotated[float, "wait for a byte from a client, or for a client that does not read"] = 60.0
    decoder_memory_bytes: Annotated[int, "memory of the process that decodes a recording"] = 512 * MEGABYTE
    decoder_seconds: Annotated[float, "wait for a block of a recording from that process"] = 20.0
    work_seconds: Annotated[float, "work in a batch, which is how long a new request waits for its turn"] = 0.5
    chunk_seconds: Annotated[float, "longest piece of a recording; longer ones are cut at quiet moments"] = 12.0
    max_ahead_seconds: Annotated[
        float, "a model that sees no further ahead is fed with live audio; any other recognizes each segment anew"
    ] = 1.0
    partial_seconds: Annotated[float, "new live audio between two partial results"] = 0.3


class Refusal(Exception):
    """A request that is not served: HTTP status, and the fields of OpenAI's error object."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ):
        super().__init__(message)
        self.status, self.kind, self.param, self.code = status, kind, param, code
        self.retry_after = None if retry_after is None else min(max(1, round(retry_after)), MAX_RETRY_AFTER)

    @property
    def body(self) -> dict:
        """`{"error": {message, type, param, code}}`."""
        return {"error": {"message": str(self), "type": self.kind, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the answer: Retry-After where trying again helps, and x-should-retry where it does not."""
        if self.retry_after is not None:
            return {"retry-after": str(self.retry_after)}
        return {"x-should-retry": "false"} if self.status < 500 else {}


def overloaded(message: str, retry_after: float, *, status: int = 503) -> Refusal:
    """The refusal of a service that is busy (503), or of a client that asks for too much at once (429)."""
    kind, code = ("rate_limit_error", "rate_limit_exceeded") if status == 429 else ("server_error", "overloaded")
    return Refusal(status, message, kind=kind, code=code, retry_after=retry_after)
