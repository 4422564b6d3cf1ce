"""The HTTP server: uvicorn with bounds on connections, headers, idle time and the work of reading.

A proxy in front has such bounds too; these hold where there is none.
"""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import time
from collections import Counter
from functools import partial
from http import HTTPStatus
from typing import Any, ClassVar, Final

import h11
import structlog
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from trustscale_server.http.clients import network
from trustscale_server.http.reading import READ_S, Debts, PausableFlow, RequestParser
from trustscale_server.platform.problems import PROBLEM_TYPE, problem

# Longer than proxies keep idle connections (Caddy here 30 s, nginx 60 s), or they would send
# requests into closing ones.
KEEP_ALIVE_S = 75
_ACCEPT_S = 0.25  # longer than the event loop is busy at a time
_MAX_CONNECTIONS: Final = 1000
DESCRIPTORS: Final = 4096
"""File descriptors that a busy gateway needs."""


def raise_descriptors() -> None:
    """Let this process open as many files as it needs, if the system permits it.

    Many systems begin with 1,024, and permit far more to a program that asks.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < DESCRIPTORS:
        limit = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def max_connections() -> int:
    """Return how many connections may be open: a third of this process's descriptors at most.

    Another third is for the files of their uploads, the rest for stores, decoders and upscalers.
    When all descriptors are taken, asyncio fails to accept a connection once for each place of the
    backlog, every second.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else min(_MAX_CONNECTIONS, soft // 3)


class BoundedConnection(H11Protocol):
    """A connection whose headers must be short and arrive in time, and whose body costs little.

    It uses h11, since httptools keeps headers of any length. If there are too many connections,
    the one that has had no request for longest is closed, so idle ones keep nobody out. If none is
    idle, the newest of the client with most is closed: one client may have them all, and another
    one still gets in.

    debts: one account of all connections of the server.
    """

    HEAD_TIMEOUT_S: ClassVar[float] = 10.0
    """Time limit for the whole head of a request, from the connection's start or the first byte."""

    _reading: PausableFlow

    def __init__(self, *args: Any, debts: Debts, **options: Any) -> None:
        super().__init__(*args, **options)
        self.conn: RequestParser = RequestParser(h11.SERVER, max_incomplete_event_size=32 * 1024)
        self._max_connections = max_connections()
        self._debts = debts
        self._head_timer: asyncio.TimerHandle | None = None
        self._idle_since = time.monotonic()
        self._made_at = self._idle_since
        self._unread = 0  # bytes that came after a refusal
        self._is_refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = self._reading = PausableFlow(transport)
        self._start_head_timer()
        if len(self.connections) > self._max_connections:
            self._connection_to_close().close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        started_s = time.thread_time()
        if self._is_refused:
            self._unread += len(data)
            if self._unread > 2**20:
                self.close()
        else:
            super().data_received(data)
            if self.conn.their_state is h11.IDLE:
                self._start_head_timer()
            else:
                self._stop_head_timer()
        if self._is_refused or self.conn.their_state is h11.SEND_BODY:
            # Later, once the headers are parsed, in which a proxy names the client to charge.
            self.loop.call_soon(self._charge, time.thread_time() - started_s + READ_S)

    def send_400_response(self, msg: str) -> None:
        """Answer with a problem document, and close when the client can have read it."""
        if self.conn.our_state is not h11.SEND_RESPONSE:
            self.transport.close()
            return
        document = problem("bad-request", self.conn.fault or msg)
        document["status"] = HTTPStatus.BAD_REQUEST.value
        body = json.dumps(document).encode()
        headers = [
            (b"content-type", PROBLEM_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        response = h11.Response(status_code=400, headers=headers, reason=b"Bad Request")
        for event in (response, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self._is_refused = True
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        # Closed at once, the system would answer what still comes with a reset, and the client
        # would lose the answer.
        self.loop.call_later(2.0, self.close)

    def on_response_complete(self) -> None:
        self._idle_since = time.monotonic()
        super().on_response_complete()

    def close(self) -> None:
        """Close the connection, and count it no longer."""
        self.connections.discard(self)
        self.transport.close()

    @property
    def address(self) -> str:
        """The client's, as a trusted proxy names it, or else that of the connection's other end."""
        client = self.scope["client"] if self.scope else self.client
        return network(client[0]) if client else ""

    @property
    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _charge(self, seconds: float) -> None:
        wait_s = self._debts.owe(self.address, seconds)
        if wait_s > 0 and not self.transport.is_closing():
            self._reading.hold()
            self.loop.call_later(wait_s, self._reading.release)

    def _connection_to_close(self) -> BoundedConnection:
        """The connection that has been idle for longest, else the newest of the largest client."""
        connections = [other for other in self.connections if isinstance(other, BoundedConnection)]
        idle = [other for other in connections if other is not self and other._is_idle]  # noqa: SLF001
        if idle:
            return min(idle, key=lambda other: other._idle_since)  # noqa: SLF001
        addresses = {other: other.address for other in connections}
        counts = Counter(addresses.values())
        # Among equals it is the one whose connection has just come.
        largest = max(counts, key=lambda address: (counts[address], address == self.address))
        of_largest = [other for other in connections if addresses[other] == largest]
        return max(of_largest, key=lambda other: other._made_at)  # noqa: SLF001

    def _start_head_timer(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.HEAD_TIMEOUT_S, self.close)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class GatewayServer(uvicorn.Server):
    """Sets `stopping` of the state when the server begins to stop, so that streams end.

    process_started_at: on the monotonic clock.
    """

    def __init__(self, config: uvicorn.Config, process_started_at: float) -> None:
        super().__init__(config)
        self._process_started_at = process_started_at

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            address = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
            ready_s = round(time.monotonic() - self._process_started_at, 2)
            structlog.get_logger(__name__).info("serving", address=address, ready_s=ready_s)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self.started:
            # What the kernel has taken is accepted first, and has time to say what it asks for:
            # otherwise it is reset, and a proxy does not send an upload twice.
            await asyncio.sleep(_ACCEPT_S)
            for server in self.servers:
                server.close()
            await asyncio.sleep(_ACCEPT_S)
            self.lifespan.state["trustscale"].stopping.set()
        await super().shutdown(sockets)


def server_config(app: Any, **options: Any) -> uvicorn.Config:
    """Return the configuration of a server whose clients may be hostile; options are uvicorn's."""
    bounds = {
        "http": partial(BoundedConnection, debts=Debts(time.monotonic)),
        "backlog": 128,
        "ws": "none",
        "log_config": None,
        "access_log": False,
        "server_header": False,
    }
    return uvicorn.Config(app, **{**bounds, **options})
