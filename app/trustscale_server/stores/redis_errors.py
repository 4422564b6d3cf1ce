"""Errors of Redis as `StoreUnavailable`, for whoever calls it; importable without redis-py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from trustscale_server.stores.documents import StoreUnavailable

# Limits a whole call of a store, with connecting and retries. A healthy server takes milliseconds.
ANSWER_TIMEOUT_S: Final = 10.0


@asynccontextmanager
async def redis_errors(within_s: float = ANSWER_TIMEOUT_S) -> AsyncIterator[None]:
    """Raise `StoreUnavailable` for every Redis error, without addresses and secrets."""
    from redis.exceptions import RedisError  # noqa: PLC0415 - only where Redis is used

    try:
        async with asyncio.timeout(within_s):
            yield
    except TimeoutError as error:
        raise StoreUnavailable("Redis cannot be used now: no answer in time.") from error
    except RedisError as error:
        raise StoreUnavailable(f"Redis cannot be used now: {_reason(error)}.") from error


def _reason(error: Exception) -> str:
    from redis import exceptions  # noqa: PLC0415 - as above

    message = str(error)
    if "certificate" in message.lower():
        return "its TLS certificate is not accepted"
    # Subclasses stand before their bases, since the first class that fits counts.
    reasons: dict[type[Exception], str] = {
        exceptions.AuthenticationError: "it refuses the password",
        exceptions.NoPermissionError: "the user may not run a command",
        exceptions.BusyLoadingError: "it is still loading its data",
        exceptions.OutOfMemoryError: "its memory is full",
        exceptions.ReadOnlyError: "it is a read-only replica",
        exceptions.TimeoutError: "no answer in time",
        exceptions.ConnectionError: "no connection",
    }
    for kind, reason in reasons.items():
        if isinstance(error, kind):
            return reason
    # The first word of any other answer is its code, such as MISCONF for a full disk.
    code, *_ = message.split() or ["?"]
    return f"it refused a command ({code})"
