"""The service's log: one JSON object a line on standard error."""

import json
import sys
from datetime import UTC, datetime
from typing import Any


def log(level: str, event: str, **fields: Any) -> None:
    """Writes a line with the time (UTC), level, event and further fields. No field holds what was spoken unless that is asked for."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    line = {"time": now, "level": level, "event": event, **fields}
    print(json.dumps(line, ensure_ascii=False, default=str), file=sys.stderr, flush=True)


#: makes uvicorn's own messages lines of the same form
UVICORN_LOG_CONFIG: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"json": {"()": "carnelian.serving.logs.make_handler"}},
    "loggers": {"uvicorn": {"handlers": ["json"], "level": "INFO", "propagate": False}},
}


def make_handler() -> Any:
    """A logging handler that writes JSON lines."""
    import logging

    class JsonLines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            trace = {"exception": logging.Formatter().formatException(record.exc_info)} if record.exc_info else {}
            log(record.levelname.lower(), "server", message=record.getMessage(), **trace)

    return JsonLines()
