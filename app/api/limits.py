"""Limits per client, by requests and by input pixels; the counters live where the jobs do.

A client is a key, or an address when the API is open. The minute of a client begins with its first
request; what was refused does not count. With `redis://` all gateways share the counters, in
memory each has its own.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Final, Literal
from urllib.parse import urlsplit

from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage, RedisStorage, Storage
from limits.aio.strategies import FixedWindowRateLimiter
from redis.asyncio import ConnectionPool

from app.errors import RateLimited
from app.stores.redis_client import ANSWER_TIMEOUT_S, PREFIX, redis_errors, retry

Unit = Literal["requests", "pixels"]

_NAMESPACE: Final = "client"


class ClientLimits:
    """Counts what each client asks for; None means no limit."""

    def __init__(self, storage: Storage, *, requests: int | None, pixels: int | None) -> None:
        self._limiter = FixedWindowRateLimiter(storage)
        self._items: Mapping[Unit, RateLimitItemPerMinute | None] = {
            "requests": _per_minute(requests),
            "pixels": _per_minute(pixels),
        }

    async def take(self, client: str, unit: Unit, amount: int = 1) -> None:
        """Count an amount.

        Raises:
            RateLimited: it is more than the client has left; `retry_after` is the end of its
                minute.
            StoreUnavailable: the counters cannot be reached.
        """
        item = self._items[unit]
        if item is None:
            return
        async with redis_errors():
            # Asked first, because a hit that is refused would count.
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


def _per_minute(amount: int | None) -> RateLimitItemPerMinute | None:
    return None if amount is None else RateLimitItemPerMinute(amount, namespace=_NAMESPACE)


@asynccontextmanager
async def open_limits(
    store: str, *, requests: int | None, pixels: int | None
) -> AsyncIterator[ClientLimits]:
    """Limits whose counters live behind the URL of the stores."""
    pool: AbstractAsyncContextManager[object] = nullcontext()
    storage: Storage = MemoryStorage()
    if urlsplit(store).scheme in {"redis", "rediss"}:
        connections = ConnectionPool.from_url(
            store,
            socket_timeout=ANSWER_TIMEOUT_S,
            socket_connect_timeout=ANSWER_TIMEOUT_S,
            retry=retry(),
        )
        pool = connections
        storage = RedisStorage(
            f"async+{store}",
            implementation="redispy",
            key_prefix=f"{PREFIX}limits",
            connection_pool=connections,  # type: ignore[arg-type]
        )
    async with pool:
        yield ClientLimits(storage, requests=requests, pixels=pixels)
