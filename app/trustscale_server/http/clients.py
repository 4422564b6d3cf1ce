"""Clients of the API: their names and limits."""

from __future__ import annotations

import hashlib
import ipaddress
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from fastapi import Request

from trustscale_server.platform.errors import RateLimited
from trustscale_server.stores.redis_errors import ANSWER_TIMEOUT_S, redis_errors

if TYPE_CHECKING:
    from limits import RateLimitItemPerMinute
    from limits.aio.strategies import FixedWindowRateLimiter


LimitedUnit = Literal["requests", "pixels"]


def client_name(request: Request, key: str | None) -> str:
    """Return the client of a request: a digest of its key's id or of its address.

    It is stored with jobs, so it is a digest, which reveals neither. Of an IPv6 address only the
    network counts: whoever has one address has all 2^64 of its network.
    """
    host = request.client.host if request.client else ""
    name = f"key:{key}" if key else f"address:{network(host)}"
    return hashlib.blake2b(name.encode(), digest_size=8).hexdigest()


def network(host: str) -> str:
    """Return the network of an address that counts as one client."""
    try:
        address = ipaddress.IPv6Address(host.partition("%")[0])
    except ValueError:
        return host
    return str(address.ipv4_mapped or ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))


class ClientLimits:
    """Counts the requests and pixels of each client; units without a limit are not counted."""

    def __init__(
        self,
        limiter: FixedWindowRateLimiter | None = None,
        limits: dict[LimitedUnit, RateLimitItemPerMinute] | None = None,
    ) -> None:
        self._limiter = limiter
        self._limits = limits or {}

    async def take(self, client: str, unit: LimitedUnit, amount: int = 1) -> None:
        """Count an amount.

        Raises:
            RateLimited: it exceeds what the client has left; `retry_after` ends its minute.
            StoreUnavailable: the counters cannot be reached.
        """
        limit = self._limits.get(unit)
        if limit is None or self._limiter is None:
            return
        async with redis_errors():
            # A refused hit would count, so it is tested first.
            if await self._limiter.test(
                limit, client, unit, cost=amount
            ) and await self._limiter.hit(limit, client, unit, cost=amount):
                return
            reset_at = (await self._limiter.get_window_stats(limit, client, unit)).reset_time
        raise RateLimited(
            f"At most {limit.amount:,} {unit} per minute are accepted from one client.",
            retry_after=reset_at - time.time(),
            limit=f"client_{unit}_per_minute",
            maximum=limit.amount,
        )


@asynccontextmanager
async def open_limits(
    store: str, *, client_requests_per_minute: int | None, client_pixels_per_minute: int | None
) -> AsyncIterator[ClientLimits]:
    """Open the limits per minute, counted behind the URL of the stores, if there are any."""
    amounts: dict[LimitedUnit, int | None] = {
        "requests": client_requests_per_minute,
        "pixels": client_pixels_per_minute,
    }
    if not any(amounts.values()):
        yield ClientLimits()
        return
    from limits import RateLimitItemPerMinute  # noqa: PLC0415 - only with limits
    from limits.aio.storage import MemoryStorage, RedisStorage  # noqa: PLC0415 - only with limits
    from limits.aio.strategies import FixedWindowRateLimiter  # noqa: PLC0415 - only with limits

    client_limits = {
        unit: RateLimitItemPerMinute(amount, namespace="client")
        for unit, amount in amounts.items()
        if amount is not None
    }
    if urlsplit(store).scheme not in {"redis", "rediss"}:
        yield ClientLimits(FixedWindowRateLimiter(MemoryStorage()), client_limits)
        return
    from redis.asyncio import ConnectionPool  # noqa: PLC0415 - only with limits

    from trustscale_server.stores.redis import KEY_PREFIX, retry  # noqa: PLC0415 - only with limits

    pool = ConnectionPool.from_url(
        store,
        socket_timeout=None,  # see `redis_client`
        socket_connect_timeout=ANSWER_TIMEOUT_S,
        retry=retry(),
    )
    async with aclosing(pool) as connections:
        storage = RedisStorage(
            f"async+{store}",
            implementation="redispy",
            key_prefix=f"{KEY_PREFIX}limits",
            connection_pool=connections,  # type: ignore[arg-type]
        )
        yield ClientLimits(FixedWindowRateLimiter(storage), client_limits)
