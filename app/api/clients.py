"""Clients of the API: their names, limits and repeated requests, and whether they are connected.

A client is a key, or an address (IPv6: a /64 network) when the API is open. Limits count requests
and input pixels per minute, which begins with a client's first request; refused requests do not
count. Gateways share the counters with `redis://` only.

An `Idempotency-Key` belongs to one caller and one body: a repeated request gets the answer of the
first one. During the first request its gateway renews a claim on the key in the shared store, and
repetitions poll it. If that gateway dies, the claim expires, and the next request counts as the
first. A failure frees the key.
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

from trustscale_server.errors import RateLimited

if TYPE_CHECKING:
    from limits import RateLimitItemPerMinute
    from limits.aio.strategies import FixedWindowRateLimiter


import hashlib
import io
import ipaddress
import json
import logging
import secrets
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, BinaryIO, Final, NamedTuple

from fastapi import Header

from trustscale_server.concurrency import beside
from trustscale_server.errors import BadRequest, NotFound
from trustscale_server.stores.base import ClaimStore, StoreUnavailable

Value = TypeVar("Value")
Unit = Literal["requests", "pixels"]

CLIENT_GONE = 499
"""Logged and counted for a client that hung up; it is not sent."""


def client_name(request: Request, key: str | None) -> str:
    """Return the client of a request: a digest of its key's id or of its address.

    Jobs are stored with it, so it tells neither. Of an IPv6 address only the network counts, since
    whoever has one has all 2^64 addresses of it.
    """
    name = f"key:{key}" if key else f"address:{_network(request)}"
    return hashlib.blake2b(name.encode(), digest_size=8).hexdigest()


def _network(request: Request) -> str:
    host = request.client.host if request.client else ""
    try:
        address = ipaddress.IPv6Address(host.partition("%")[0])
    except ValueError:
        return host
    return str(address.ipv4_mapped or ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))


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
        from trustscale_server.stores.redis import redis_errors

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
    """Open the limits per minute, counted behind the URL of the stores; None without limits."""
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

    from trustscale_server.stores.redis import ANSWER_TIMEOUT_S, PREFIX, retry

    pool = ConnectionPool.from_url(
        store,
        socket_timeout=None,  # see `redis.connected`
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


class ClientDisconnected(Exception):
    """The client hung up, and its work was cancelled."""


async def while_connected(
    request: Request,
    work: Coroutine[Any, Any, Value],
    *,
    finishes: Callable[[], bool] = lambda: False,
) -> Value:
    """Return the outcome of `work`, which is cancelled when the client hangs up.

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
        raise ClientDisconnected
    finally:
        gone.cancel()
        task.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def answer_nobody(_request: Request, _gone: Exception) -> Response:
    """Return the response that is counted for a client that hung up."""
    return Response(status_code=CLIENT_GONE)


HEADER: Final = "Idempotency-Key"

log = logging.getLogger(__name__)

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias=HEADER,
        min_length=1,
        max_length=255,
        description="Of your choice, new for each request. A repetition with the same key and body "
        "is answered with what the first one made, and costs nothing.",
    ),
]


class StoredResponse(NamedTuple):
    """The id of a result, job or calibration that a request created, and the answer."""

    id: str
    answer: Response


KEPT_S: Final = 86400.0
"""How long an `Idempotency-Key` is kept, with the result that was made under it."""


@dataclass(frozen=True, slots=True)
class IdempotencyKeys:
    """Recognises repeated requests.

    claims: shared by all gateways. lease_s: when the claim of a
    dead gateway expires. look_s: the interval of polling a request in flight. ignored: whether keys
    mean nothing.
    """

    claims: ClaimStore
    lease_s: float = 15.0
    look_s: float = 0.2
    ignored: bool = False

    async def once(
        self,
        request: Request,
        caller: str,
        make: Callable[[], Awaitable[StoredResponse]],
        recall: Callable[[str], Awaitable[Response]],
        body: bytes | None = None,
    ) -> Response:
        """Return the answer of `make`; under a known key, `recall` of the id that was made.

        Args:
            request: its form has been read.
            caller: of the key.
            make: does the work.
            recall: answers again, or raises NotFound.
            body: None: the request's is a form.

        Raises:
            BadRequest: the key was sent with another body.
        """
        key = request.headers.get(HEADER)
        if key is None or self.ignored:
            return (await make()).answer
        name = hashlib.sha256(f"{caller}\0{key}".encode()).hexdigest()
        claim = {"digest": await _digest(request, body), "by": secrets.token_hex(8)}
        mine = json.dumps(claim).encode()
        while (claimed := await self.claims.claim(name, mine, seconds=self.lease_s)) != mine:
            first = json.loads(claimed)
            if first["digest"] != claim["digest"]:
                raise BadRequest(f"This {HEADER} was sent with another request before.")
            if "made" not in first:
                await self._changed(name, claimed)
                continue
            with suppress(NotFound):
                return await recall(first["made"])
            await self.claims.replace(name, claimed, None, seconds=0)
        try:
            async with beside(self._renew(name, mine)):
                response = await make()
        except BaseException:
            await self._settle(name, mine, None)
            raise
        await self._settle(name, mine, json.dumps({**claim, "made": response.id}).encode())
        return response.answer

    async def _changed(self, name: str, claimed: bytes) -> None:
        while await self.claims.get(name) == claimed:  # noqa: ASYNC110 - the store has no event
            await asyncio.sleep(self.look_s)

    async def _settle(self, name: str, mine: bytes, end: bytes | None) -> None:
        """End a claim; what was made stays valid if the store is unavailable."""
        try:
            await self.claims.replace(name, mine, end, seconds=KEPT_S)
        except StoreUnavailable as error:
            log.warning("An idempotency key could not be stored: %s", error.detail)

    async def _renew(self, name: str, mine: bytes) -> None:
        while True:
            await asyncio.sleep(self.lease_s / 3)
            with suppress(StoreUnavailable):
                await self.claims.replace(name, mine, mine, seconds=self.lease_s)


async def _digest(request: Request, body: bytes | None) -> str:
    """A digest of the request that ignores how a form was split into parts."""
    contents: list[str | bytes | BinaryIO] = [request.method, request.url.path, request.url.query]
    if body is not None:
        contents.append(body)
    else:
        for name, value in (await request.form()).multi_items():
            contents.append(name)
            contents += [value] if isinstance(value, str) else [value.filename or "", value.file]
    return await asyncio.to_thread(_hashed, contents)


def _hashed(contents: Sequence[str | bytes | BinaryIO]) -> str:
    whole = hashlib.blake2b(digest_size=32)
    for item in contents:
        content = item.encode() if isinstance(item, str) else item
        file = io.BytesIO(content) if isinstance(content, bytes) else content
        whole.update(hashlib.file_digest(file, "blake2b").digest())  # type: ignore[arg-type]
        file.seek(0)
    return whole.hexdigest()
