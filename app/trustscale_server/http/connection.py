"""Whether a client is still there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from fastapi import Request

from trustscale_server.http.problems import ClientDisconnected

T = TypeVar("T")


async def while_connected(
    request: Request,
    work: Coroutine[Any, Any, T],
    *,
    finishes: Callable[[], bool] = lambda: False,
) -> T:
    """Return the outcome of `work`, which is cancelled when the client hangs up.

    finishes: whether the work runs to its end nevertheless, asked at that moment.

    Raises:
        ClientDisconnected: the client hung up, and the work has stopped.
    """
    task = asyncio.create_task(work)
    hangup = asyncio.create_task(disconnected(request))
    try:
        await asyncio.wait({task, hangup}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done() and finishes():
            await asyncio.wait({task})
        if task.done():
            return task.result()
        task.cancel()
        await asyncio.wait({task})
        raise ClientDisconnected
    finally:
        hangup.cancel()
        task.cancel()


async def disconnected(request: Request) -> None:
    """Return once the client has hung up."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
