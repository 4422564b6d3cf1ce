"""Who asks, and whether they are still there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import Response

Value = TypeVar("Value")

CLIENT_GONE = 499
"""Logged and counted for a client that hung up; nobody receives it."""


def client_name(request: Request, key: str | None) -> str:
    """Who is counted: the key, or the address when the API is open."""
    return f"key:{key}" if key else f"address:{request.client.host if request.client else ''}"


class Gone(Exception):
    """The client hung up; what it had asked for was cancelled."""


async def while_connected(
    request: Request,
    work: Coroutine[Any, Any, Value],
    *,
    finishes: Callable[[], bool] = lambda: False,
) -> Value:
    """The outcome of `work`, which is cancelled when the client who would read it hangs up.

    finishes: whether the work is to end nevertheless, as of that moment.

    Raises:
        Gone: the client did, and the work has ended.
    """
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done() and finishes():
            await asyncio.wait({task})
        if task.done():
            return task.result()
        task.cancel()
        await asyncio.wait({task})
        raise Gone
    finally:
        gone.cancel()
        task.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def answer_nobody(_request: Request, _gone: Exception) -> Response:
    """What is counted for a client that is gone."""
    return Response(status_code=CLIENT_GONE)
