"""The port of a job worker: `/healthz` and `/metrics`."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from trustscale_server.http.server import server_config
from trustscale_server.monitoring.gauges import Gauges
from trustscale_server.platform.errors import ConfigError


def worker_app(gauges: Gauges) -> Starlette:
    """Make the application on a worker's port: `/healthz` and `/metrics`."""

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def metrics(_: Request) -> Response:
        await gauges.update()
        return Response(gauges.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return Starlette(routes=[Route("/healthz", healthz), Route("/metrics", metrics)])


@asynccontextmanager
async def listening(app: Starlette, host: str, port: int | None) -> AsyncIterator[None]:
    """Serve an application beside the body; without a port, nothing.

    Raises:
        ConfigError: the port cannot be listened on.
    """
    if port is None:
        yield
        return
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"Cannot listen on {host}:{port} for metrics: {reason}.") from None
    server = _Server(server_config(app, lifespan="off"))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await asyncio.gather(task, return_exceptions=True)


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the worker."""
        yield
