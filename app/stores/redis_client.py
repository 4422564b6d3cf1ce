"""What every store on Redis shares: key names, the client's type, and our errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from redis import exceptions as failures
from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff

from app.errors import ConfigError
from app.stores.base import StoreUnavailable

PREFIX: Final = "trustscale:"

# redis-py's types do not match the client's decoding; ours decodes nothing, and every answer is
# checked where it is read.
Client = Any

# A healthy server answers in milliseconds, even with a result of 20 MB; a frozen one never. Limits
# a whole call of a store, with connecting and retries.
ANSWER_TIMEOUT_S: Final = 10.0

# Errors by their class, the first that fits.
_REASONS: Final = (
    (failures.AuthenticationError, "it refuses the password"),
    (failures.NoPermissionError, "the user may not run a command"),
    (failures.BusyLoadingError, "it is still loading its data"),
    (failures.OutOfMemoryError, "its memory is full"),
    (failures.ReadOnlyError, "it is a read-only replica"),
    (failures.TimeoutError, "no answer in time"),
    (failures.ConnectionError, "no connection"),
)


def retry() -> Retry:
    """Three retries within about a second: enough for a server that restarts quickly.

    A timeout is not retried: a frozen server would be waited for twice.
    """
    return Retry(ExponentialBackoff(cap=0.6, base=0.1), 3, (failures.ConnectionError,))


@asynccontextmanager
async def redis_errors(within_s: float = ANSWER_TIMEOUT_S) -> AsyncIterator[None]:
    """Raise `StoreUnavailable` for every Redis error, without addresses and secrets."""
    try:
        async with asyncio.timeout(within_s):
            yield
    except TimeoutError as error:
        raise StoreUnavailable("Redis cannot be used now: no answer in time.") from error
    except failures.RedisError as error:
        reasons = (reason for kind, reason in _REASONS if isinstance(error, kind))
        # The first word of another answer is its code, such as MISCONF for a full disk.
        reason = next(reasons, f"it refused a command ({(str(error).split() or ['?'])[0]})")
        raise StoreUnavailable(f"Redis cannot be used now: {reason}.") from error


def check_url(url: str, what: str) -> None:
    """Return if a URL can be that of a Redis; nothing is connected. Raises ConfigError."""
    try:
        # Unknown parameters of the URL are noticed only when a connection is made.
        ConnectionPool.from_url(url).make_connection()  # type: ignore[no-untyped-call]
    except (ValueError, TypeError) as error:
        # The message may quote a password with an unescaped character: it is not repeated.
        raise ConfigError(
            f"The {what} URL cannot be read; it is redis[s]://[[user]:password@]host[:port]"
            "[/database], with special characters of the password percent-encoded."
        ) from error
