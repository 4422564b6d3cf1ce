"""The HTTP server: uvicorn with bounds on connections, headers and idle time.

A proxy in front has such bounds too; these hold where there is none.
"""

from __future__ import annotations

import asyncio
import resource
import socket
import time
from typing import Any, ClassVar

import h11
import structlog
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

# Longer than proxies keep idle connections (Caddy here 30 s, nginx 60 s), or they would send
# requests into closing ones.
KEEP_ALIVE_S = 75
MAX_HEAD_BYTES = 32 * 1024
ACCEPT_S = 0.25  # longer than the event loop is busy at a time
_BACKLOG = 128


def most_connections() -> int:
    """Return how many connections may be open: half of this process's descriptors at most.

    The other half is for files, stores, decoders and upscalers. When all descriptors are taken,
    asyncio fails to accept a connection once for each place of the backlog, every second.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1000 if soft == resource.RLIM_INFINITY else min(1000, soft // 2)


class BoundedConnection(H11Protocol):
    """A connection whose headers must be short and arrive in time.

    It uses h11, since httptools keeps headers of any length. If there are too many connections,
    the one that has had no request for longest is closed, so idle ones keep nobody out.
    """

    HEAD_TIMEOUT_S: ClassVar[float] = 10.0
    """Time limit for the whole head of a request, from the connection's start or the first byte."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._most = most_connections()
        self._head_timer: asyncio.TimerHandle | None = None
        self._idle_since = time.monotonic()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_head_timer()
        if len(self.connections) > self._most:
            idle = (
                connection
                for connection in self.connections
                if isinstance(connection, BoundedConnection)
            )
            self._longest_idle(list(idle)).close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._start_head_timer()
        else:
            self._stop_head_timer()

    def on_response_complete(self) -> None:
        self._idle_since = time.monotonic()
        super().on_response_complete()

    def close(self) -> None:
        """Close the connection, and count it no longer."""
        self.connections.discard(self)
        self.transport.close()

    @property
    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _longest_idle(self, connections: list[BoundedConnection]) -> BoundedConnection:
        """The connection to close; this new one if all others have requests in progress."""
        others = [other for other in connections if other is not self and other._is_idle]  # noqa: SLF001
        return min(others, key=lambda other: other._idle_since, default=self)  # noqa: SLF001

    def _start_head_timer(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.HEAD_TIMEOUT_S, self.close)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class Server(uvicorn.Server):
    """Sets `stopping` of the state when the server begins to stop, so that streams end."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            address = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
            structlog.get_logger(__name__).info("serving", address=address)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self.started:
            # What the kernel has taken is accepted first, and has time to say what it asks for:
            # otherwise it is reset, and a proxy does not send an upload twice.
            await asyncio.sleep(ACCEPT_S)
            for server in self.servers:
                server.close()
            await asyncio.sleep(ACCEPT_S)
            self.lifespan.state["trustscale"].stopping.set()
        await super().shutdown(sockets)


def server_config(app: Any, **options: Any) -> uvicorn.Config:
    """Return the configuration of a server whose clients may be hostile; options are uvicorn's."""
    bounds = {
        "http": BoundedConnection,
        "h11_max_incomplete_event_size": MAX_HEAD_BYTES,
        "backlog": _BACKLOG,
        "ws": "none",
        "log_config": None,
        "access_log": False,
        "server_header": False,
    }
    return uvicorn.Config(app, **{**bounds, **options})
