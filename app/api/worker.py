"""The port of a job worker: it takes no work, it only says how it does."""

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

from app.api.gauges import observe
from app.assembly import Parts
from app.errors import ConfigError
from app.telemetry.metrics import Metrics


def worker_app(parts: Parts, metrics: Metrics) -> Starlette:
    """`/healthz` and `/metrics`."""

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def text(_: Request) -> Response:
        await observe(metrics, parts)
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return Starlette(routes=[Route("/healthz", healthz), Route("/metrics", text)])


@asynccontextmanager
async def listening(app: Starlette, host: str, port: int | None) -> AsyncIterator[None]:
    """Serve an application beside the body; nothing for no port.

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
    server = _Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            ws="none",  # the import of what speaks it may fail, and nobody does
        )
    )
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await asyncio.gather(task, return_exceptions=True)


class _Server(uvicorn.Server):
    """Leaves the signals to the worker."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield
