"""The running process: sockets, signals, warm-up and a shutdown that finishes what was accepted. The door to uvicorn."""

import asyncio
import resource
import socket
import time
from collections import Counter
from typing import Any

from carnelian.errors import CarnelianError, MissingExtraError
from carnelian.serving.doors import App, Receive, Scope, Send
from carnelian.serving.logs import UVICORN_LOG_CONFIG, log
from carnelian.serving.protocols.wyoming import start_wyoming
from carnelian.serving.service import Service

try:
    import uvicorn
except ImportError:
    raise MissingExtraError("uvicorn", "serve", "Serving") from None

MOST_FILES = 65_536  # open at once, each connection being one
TICKS = 10  # of uvicorn's, in a second
WAITING_MESSAGES = 4  # of a WebSocket; a client that sends more is slowed down


class GracefulServer(uvicorn.Server):
    """Uvicorn, which on SIGTERM or SIGINT drains the service before it closes connections, and closes those that ask for nothing."""

    def __init__(self, config: uvicorn.Config, app: App, service: Service, grace: float, wyoming: int | None):
        super().__init__(config)
        self.service, self.grace, self.wyoming_port = service, grace, wyoming
        self.wyoming: asyncio.Server | None = None
        self.asking: Counter[Any] = Counter()  # requests and sessions under way, by the client's address
        self.idle: dict[Any, float] = {}  # when a connection was first seen without any
        config.app = self.counted(app)

    def counted(self, app: App) -> App:
        """The application, which knows whose requests are under way."""

        async def counting(scope: Scope, receive: Receive, send: Send) -> None:
            client = scope.get("client")
            self.asking[client] += 1
            try:
                await app(scope, receive, send)
            finally:
                self.asking[client] -= 1
                self.asking += Counter()  # forgets who has left

        return counting

    async def on_tick(self, counter: int) -> bool:
        """Once in a second, closes connections that have sent no whole head of a request for the idle time."""
        if counter % TICKS == 0:
            now, most = time.monotonic(), self.service.config.idle_seconds
            connections: set[Any] = set(self.server_state.connections)
            idle = [each for each in connections if each.client not in self.asking]
            self.idle = {each: self.idle.get(each, now) for each in idle}
            for connection, since in self.idle.items():
                if now - since > 2 * most:  # nor does it read what it got
                    connection.transport.abort()
                elif now - since > most:
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


def run_server(
    app: Any, service: Service, *, host: str, port: int, wyoming: int | None = None, grace: float = 60.0
) -> None:
    """Serves until SIGTERM or SIGINT; `grace` is how many seconds accepted requests may then still take."""
    bound = listen(host, port)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if most == resource.RLIM_INFINITY else min(most, MOST_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
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
    GracefulServer(config, app, service, grace, wyoming).run(sockets=[bound])
