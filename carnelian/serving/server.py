"""The running process: sockets, signals, warm-up and a shutdown that finishes what was accepted. The only importer of uvicorn."""

import asyncio
import resource
import socket
import time
from collections import Counter
from typing import Any

from carnelian.errors import CarnelianError, MissingExtraError
from carnelian.serving.logs import UVICORN_LOG_CONFIG, log
from carnelian.serving.middleware import App, Receive, Scope, Send
from carnelian.serving.protocols.wyoming import start_wyoming
from carnelian.serving.service import Service

try:
    import uvicorn
except ImportError:
    raise MissingExtraError("uvicorn", "serve", "Serving") from None

MAX_OPEN_FILES = 65_536  # each connection is one
TICKS_PER_SECOND = 10  # calls of uvicorn's `on_tick`
WAITING_MESSAGES = 4  # of a WebSocket; a client that sends more is slowed down


class GracefulServer(uvicorn.Server):
    """Uvicorn with a shutdown that finishes accepted requests first, and with a time limit for clients that send no request."""

    def __init__(self, config: uvicorn.Config, service: Service, grace: float, wyoming: int | None):
        super().__init__(config)
        self.service, self.grace, self.wyoming_port = service, grace, wyoming
        self.wyoming: asyncio.Server | None = None
        self.active: Counter[Any] = Counter()  # requests and sessions in progress, by the address of their connection
        self.idle_since: dict[Any, float] = {}  # connections without any, and when that was first seen
        config.load()
        config.loaded_app = self._counted(config.loaded_app)  # outside uvicorn's middleware, which replaces addresses

    def _counted(self, app: App) -> App:
        """The application, with its requests counted in `active`."""

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            client = scope.get("client")
            self.active[client] += 1
            try:
                await app(scope, receive, send)
            finally:
                self.active[client] -= 1
                if not self.active[client]:
                    del self.active[client]

        return counted

    async def on_tick(self, counter: int) -> bool:
        """Closes, once a second, each connection that has been without a complete request head for `idle_seconds`."""
        if counter % TICKS_PER_SECOND == 0:
            now, limit = time.monotonic(), self.service.config.idle_seconds
            connections: set[Any] = set(self.server_state.connections)
            idle = [connection for connection in connections if connection.client not in self.active]
            self.idle_since = {connection: self.idle_since.get(connection, now) for connection in idle}
            for connection, since in self.idle_since.items():
                if now - since > 2 * limit:  # it was closed, and does not read the rest of its last answer
                    connection.transport.abort()
                elif now - since > limit:
                    connection.transport.close()
        return await super().on_tick(counter)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts to listen once the service is warm."""
        await super().startup(sockets)
        if self.wyoming_port is not None and not self.should_exit:
            self.wyoming = await start_wyoming(self.service, self.config.host, self.wyoming_port)
        log("info", "ready", model=self.service.model.name, host=self.config.host, port=self.config.port)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finishes what was accepted, within the grace time, and refuses the rest."""
        log("info", "shutting down", requests=self.service.requests.total(), live=self.service.live)
        if self.wyoming:
            self.wyoming.close()
        await self.service.drain(self.grace)
        await super().shutdown(sockets)


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; CarnelianError where the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise CarnelianError(
            f"{host}:{port}: cannot listen there ({error.strerror}). Give another --host or --port"
        ) from None
    bound.setblocking(False)
    return bound


def raise_open_files() -> None:
    """Raises the process's limit of open files to `MAX_OPEN_FILES`, or as near to it as the system allows."""
    now, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_OPEN_FILES if allowed == resource.RLIM_INFINITY else min(allowed, MAX_OPEN_FILES)
    if now != resource.RLIM_INFINITY and now < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, allowed))


def run_server(
    app: Any, service: Service, *, host: str, port: int, wyoming: int | None = None, grace: float = 60.0
) -> None:
    """Serves until SIGTERM or SIGINT; `grace` is how many seconds accepted requests may then still take."""
    bound = listen(host, port)
    raise_open_files()
    config = uvicorn.Config(
        app,
        host=host,
        port=bound.getsockname()[1],
        log_config=UVICORN_LOG_CONFIG,
        access_log=False,
        server_header=False,
        ws="websockets-sansio",
        ws_max_size=service.config.max_message_bytes,
        ws_max_queue=WAITING_MESSAGES,
        timeout_graceful_shutdown=5,
        backlog=2048,
        lifespan="on",
    )
    GracefulServer(config, service, grace, wyoming).run(sockets=[bound])
