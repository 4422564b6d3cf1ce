"""Clients of the API: their names, their limits, and whether they are still connected.

A client is a key, or an address when the API is open. Limits count requests and input pixels per
minute, which begins with a client's first request; refused requests do not count. Gateways share
the counters with `redis://` only.
"""

# Without limits the libraries that count are not imported.
# ruff: noqa: PLC0415

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import urlsplit

from fastapi import Request
from fastapi.responses import Response

from app.errors import RateLimited

if TYPE_CHECKING:
    from limits import RateLimitItemPerMinute
    from limits.aio.strategies import FixedWindowRateLimiter

Value = TypeVar("Value")
Unit = Literal["requests", "pixels"]

CLIENT_GONE = 499
"""Logged and counted for a client that hung up; nobody receives it."""


def client_name(request: Request, key: str | None) -> str:
    """The name that a client is counted under."""
    return f"key:{key}" if key else f"address:{request.client.host if request.client else ''}"


class ClientLimits:
    """Counts the requests and pixels of each client; units without an item are not limited."""

    def __init__(
        self,
        limiter: FixedWindowRateLimiter | None = None,
        items: dict[Unit, RateLimitItemPerMinute] | None = None,
    ) -> None:
        self._limiter = limiter
        self._items = items or {}

    async def take(self, client: str, unit: Unit, amount: int = 1) -> None:
        """Count an amount.

        Raises:
            RateLimited: it exceeds what the client has left; `retry_after` ends its minute.
            StoreUnavailable: the counters cannot be reached.
        """
        item = self._items.get(unit)
        if item is None or self._limiter is None:
            return
        from app.stores.redis import redis_errors

        async with redis_errors():
            # A refused hit would count, so it is tested first.
            if await self._limiter.test(
                item, client, unit, cost=amount
            ) and await self._limiter.hit(item, client, unit, cost=amount):
                return
            reset_at = (await self._limiter.get_window_stats(item, client, unit)).reset_time
        raise RateLimited(
            f"At most {item.amount:,} {unit} per minute are accepted from one client.",
            retry_after=reset_at - time.time(),
            limit=f"client_{unit}_per_minute",
            maximum=item.amount,
        )


@asynccontextmanager
async def open_limits(
    store: str, *, requests: int | None, pixels: int | None
) -> AsyncIterator[ClientLimits]:
    """Limits per minute, counted behind the URL of the stores; None: no limit."""
    amounts: dict[Unit, int | None] = {"requests": requests, "pixels": pixels}
    if not any(amounts.values()):
        yield ClientLimits()
        return
    from limits import RateLimitItemPerMinute
    from limits.aio.storage import MemoryStorage, RedisStorage
    from limits.aio.strategies import FixedWindowRateLimiter

    items = {
        unit: RateLimitItemPerMinute(amount, namespace="client")
        for unit, amount in amounts.items()
        if amount is not None
    }
    if urlsplit(store).scheme not in {"redis", "rediss"}:
        yield ClientLimits(FixedWindowRateLimiter(MemoryStorage()), items)
        return
    from redis.asyncio import ConnectionPool

    from app.stores.redis import ANSWER_TIMEOUT_S, PREFIX, retry

    pool = ConnectionPool.from_url(
        store,
        socket_timeout=ANSWER_TIMEOUT_S,
        socket_connect_timeout=ANSWER_TIMEOUT_S,
        retry=retry(),
    )
    async with aclosing(pool) as connections:
        storage = RedisStorage(
            f"async+{store}",
            implementation="redispy",
            key_prefix=f"{PREFIX}limits",
            connection_pool=connections,  # type: ignore[arg-type]
        )
        yield ClientLimits(FixedWindowRateLimiter(storage), items)


class Gone(Exception):
    """The client hung up, and its work was cancelled."""


async def while_connected(
    request: Request,
    work: Coroutine[Any, Any, Value],
    *,
    finishes: Callable[[], bool] = lambda: False,
) -> Value:
    """The outcome of `work`, which is cancelled when the client hangs up.

    finishes: whether the work runs to its end nevertheless, asked at that moment.

    Raises:
        Gone: the client hung up, and the work has stopped.
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
    """The response that is counted for a client that hung up."""
    return Response(status_code=CLIENT_GONE)
