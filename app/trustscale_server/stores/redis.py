"""Documents on Redis, for several machines. It must be persistent (AOF) and must not evict.

A change is decided on what was read; a script stores it if the versions still match, else it is
decided anew. The append-only file holds a script's effects as one unit. If an answer is lost, the
client repeats the call and decides on the first run's result.

Keys, all under `trustscale:`::

    schema               number   version of this layout
    changes              number   of all changes; the version of the document changed last
    blobs                string   which blob store all processes share
    written              string   proves that Redis takes a write
    copying              string   whose data are being copied to here; no service starts meanwhile
    documents:<folder>   hash     name -> version, a blank, value
    order:<folder>       zset     name by its sort key
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from math import inf
from typing import Any, Final, TypeVar

from redis import exceptions as failures
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff

from trustscale_server.platform.errors import ConfigError, Conflict
from trustscale_server.stores.blobs import Blobs
from trustscale_server.stores.documents import (
    ABSENT,
    Decide,
    Document,
    Key,
    Space,
    StoreUnavailable,
)
from trustscale_server.stores.redis_errors import ANSWER_TIMEOUT_S, redis_errors

T = TypeVar("T")

KEY_PREFIX: Final = "trustscale:"

# redis-py's types assume decoding; this client decodes nothing.
Client = Any

SCHEMA_VERSION: Final = 8

MIGRATIONS: Final[dict[int, str]] = {}
"""Lua that makes of a schema the next one; its `prefix` is that of all keys.

The first look of a newer process takes older data over. Processes of the release before that still
run can read then, and no longer change anything (`RedisDocuments._CHANGE`).
"""

_MIGRATE: Final = """
local prefix, step = KEYS[1], ARGV[1]
if redis.call('GET', prefix .. 'schema') ~= step then return end
STEP
redis.call('SET', prefix .. 'schema', string.format('%d', step + 1))
"""

_SCHEMA: Final = f"{KEY_PREFIX}schema"
_CHANGES: Final = f"{KEY_PREFIX}changes"
_BLOBS: Final = f"{KEY_PREFIX}blobs"
_WRITTEN: Final = f"{KEY_PREFIX}written"
_COPYING: Final = f"{KEY_PREFIX}copying"


def retry() -> Retry:
    """Retry three times within about a second, for a quick restart; never after a timeout."""
    return Retry(ExponentialBackoff(cap=0.6, base=0.1), 3, (failures.ConnectionError,))


def check_url(url: str, name: str) -> None:
    """Raise ConfigError if a URL cannot be that of a Redis; connects nothing."""
    try:
        # Only a connection notices unknown parameters.
        ConnectionPool.from_url(url).make_connection()  # type: ignore[no-untyped-call]
    except (ValueError, TypeError) as error:
        # The message may quote the password.
        raise ConfigError(
            f"The {name} URL cannot be read; it is redis[s]://[[user]:password@]host[:port]"
            "[/database], with special characters of the password percent-encoded."
        ) from error


async def check_redis(client: Client, copying: bytes | None = None) -> None:
    """Check a Redis, take over older data, and refuse a server that may evict data.

    copying: whose unfinished copy may be there.
    """
    async with redis_errors():
        policy = await _policy(client)
        await client.set(_SCHEMA, SCHEMA_VERSION, nx=True)
        while (version := int(await client.get(_SCHEMA))) in MIGRATIONS:
            script = _MIGRATE.replace("STEP", MIGRATIONS[version])
            await client.eval(script, 1, KEY_PREFIX, version)
        unfinished = await client.get(_COPYING)
    if unfinished not in {None, copying}:
        raise ConfigError(
            "Data are being copied to this Redis. If the copy was interrupted, run `trustscale "
            "stores copy` again, which goes on."
        )
    if version != SCHEMA_VERSION:
        raise ConfigError(
            f"The data in Redis was written by another release (schema {version}, "
            f"this release has {SCHEMA_VERSION}). Upgrade one release after another, or choose "
            "another database."
        )
    if policy.startswith("allkeys"):
        raise ConfigError(
            "Redis may evict calibrations and jobs: set its maxmemory-policy to noeviction."
        )


async def _policy(client: Client) -> str:
    """Which keys Redis evicts when its memory is full. Hosted servers may hide CONFIG, not this."""
    return str((await client.info("memory")).get("maxmemory_policy", ""))


async def weakness(client: Client) -> str | None:
    """Return why Redis may lose what is stored, if it may."""
    async with redis_errors():
        persistence, policy = await client.info("persistence"), await _policy(client)
    if not int(persistence.get("aof_enabled", 1)):
        return "Redis has no append-only file: its end loses jobs and results (appendonly yes)"
    fields = ("aof_last_write_status", "aof_last_bgrewrite_status")
    if any(persistence.get(field, "ok") != "ok" for field in fields):
        return "Redis cannot write or rewrite its append-only file"
    if policy.startswith("volatile"):
        return f"Redis may evict the job queue ({policy}): set maxmemory-policy to noeviction"
    return None


async def check_blobs(client: Client, blobs: Blobs) -> None:
    """Raise ConfigError unless all processes on this Redis share these bytes."""
    await blobs.probe()
    mine = await blobs.identity()
    async with redis_errors():
        await client.set(_BLOBS, mine, nx=True)
        first = await client.get(_BLOBS)
    if first != mine:
        raise ConfigError(
            "The blobs of this process are not those of the other processes on this Redis: set "
            "TRUSTSCALE_BLOBS to a folder that all share or to an object store. After a move of "
            f"all files, remove the key {_BLOBS} once."
        )


async def begin_copy(client: Client, source: bytes, *, after: int) -> None:
    """Let nobody but the copy of this source use a Redis; versions go on behind `after`.

    Raises Conflict if it has data of its own.
    """
    await check_redis(client, source)
    async with redis_errors():
        if await client.get(_COPYING) == source:
            return
        if await client.exists(_CHANGES):
            raise Conflict(
                "This Redis has data of its own. Name another database of it (redis://HOST/1), "
                "or empty this one."
            )
        await client.mset({_COPYING: source, _CHANGES: after})


async def end_copy(client: Client) -> None:
    """Let services use what was copied."""
    async with redis_errors():
        await client.delete(_COPYING)


def redis_client(url: str) -> Client:
    """Make the client of a Redis URL, which connects at the first call. Raises ConfigError.

    `redis_errors` limits the time of its commands. A `socket_timeout` of its own would swallow a
    cancellation that comes while it writes (`asyncio.wait_for` of Python 3.11).
    """
    check_url(url, "Redis")
    return Redis.from_url(
        url,
        socket_timeout=None,
        socket_connect_timeout=ANSWER_TIMEOUT_S,
        socket_keepalive=True,
        health_check_interval=30,
        retry=retry(),
    )


class RedisDocuments:
    """`Documents` on Redis."""

    # ARGV: the number of expected versions; folder, name and version of each; folder, name, order
    # and value of each document to store, without an order to remove.
    _CHANGE: Final = """
    local prefix, at = KEYS[1], 2
    if (redis.call('GET', prefix .. 'schema') or 'SCHEMA') ~= 'SCHEMA' then return -1 end
    local function version_of(folder, name)
        local kept = redis.call('HGET', prefix .. 'documents:' .. folder, name)
        return kept and string.match(kept, '^%d+') or '0'
    end
    for _ = 1, ARGV[1] do
        if version_of(ARGV[at], ARGV[at + 1]) ~= ARGV[at + 2] then return 0 end
        at = at + 3
    end
    -- Never used again, or a removed document that came back would pass for the one that was read.
    local version = string.format('%.0f', redis.call('INCR', prefix .. 'changes'))
    while at <= #ARGV do
        local folder, name, order, value = unpack(ARGV, at, at + 3)
        local documents, orders = prefix .. 'documents:' .. folder, prefix .. 'order:' .. folder
        if order == '' then
            redis.call('HDEL', documents, name)
            redis.call('ZREM', orders, name)
        else
            redis.call('HSET', documents, name, version .. ' ' .. value)
            redis.call('ZADD', orders, order, name)
        end
        at = at + 4
    end
    return 1
    """.replace("SCHEMA", str(SCHEMA_VERSION))

    def __init__(self, client: Client) -> None:
        self._client = client
        self._change = client.register_script(self._CHANGE)
        # Redis' clock minus the monotonic one of this machine, and when they were compared.
        self._ahead_s, self._compared = 0.0, -inf

    async def read(self, *keys: Key) -> list[Document]:
        async with redis_errors():
            return await self._read(keys)

    async def names(
        self, folder: str, *, most: float = inf, limit: int | None = None, newest: bool = False
    ) -> list[str]:
        page = {} if limit is None else {"start": 0, "num": limit}
        async with redis_errors():
            if newest:
                names = await self._client.zrevrangebyscore(_order(folder), most, -inf, **page)
            else:
                names = await self._client.zrangebyscore(_order(folder), -inf, most, **page)
        return [name.decode() for name in names]

    async def change(
        self,
        keys: Sequence[Key],
        decide: Decide[T],
        *,
        durable: bool = True,  # noqa: ARG002 - the server alone decides
    ) -> T:
        pause_s = 0.001
        async with redis_errors():
            while True:
                documents = await self._read(keys)
                answer, changes = decide(documents)
                if not changes:
                    return answer
                args: list[str | bytes | float] = [len(keys)]
                for key, document in zip(keys, documents, strict=True):
                    args += (*key, document.version)
                for key, put in changes.items():
                    args += (*key, "", "") if put is None else (*key, put.order, put.value)
                done = await self._change(keys=[KEY_PREFIX], args=args)
                if done == 1:
                    return answer
                if done < 0:
                    raise StoreUnavailable("The data in Redis are those of another release now.")
                # Another process changed a document, so this one decides anew, after a pause.
                await asyncio.sleep(random.uniform(0, pause_s))  # noqa: S311 - jitter
                pause_s = min(2 * pause_s, 0.5)

    async def drop(self, *folders: str) -> None:
        async with redis_errors():
            await self._client.unlink(*map(_documents, folders), *map(_order, folders))

    async def time(self) -> float:
        now = time.monotonic()
        if now - self._compared > 30:  # clocks of machines drift by milliseconds in that time
            async with redis_errors():
                seconds, micros = await self._client.time()
            self._ahead_s, self._compared = seconds + micros / 1e6 - now, now
        return time.monotonic() + self._ahead_s

    async def probe(self) -> None:
        async with redis_errors():
            await self._client.set(_WRITTEN, b"")
        used, limit = await self.space()
        # Redis itself would refuse large documents while small ones still fit. A reserve of 5 %
        # refuses new work, while what runs can still be stored.
        if limit != inf and limit - used < max(4 * 2**20, 0.05 * limit):
            raise StoreUnavailable("Redis cannot be used now: its memory is full.")

    async def space(self) -> Space:
        async with redis_errors():
            memory = await self._client.info("memory")
        return Space(int(memory.get("used_memory", 0)), int(memory.get("maxmemory", 0)) or inf)

    async def _read(self, keys: Sequence[Key]) -> list[Document]:
        async with self._client.pipeline(transaction=len(keys) > 1) as pipe:
            for folder, name in keys:
                pipe.hget(_documents(folder), name)
            return [_document(content) for content in await pipe.execute()]


def _document(content: bytes | None) -> Document:
    if content is None:
        return ABSENT
    version, _, value = content.partition(b" ")
    return Document(int(version), value)


def _documents(folder: str) -> str:
    return f"{KEY_PREFIX}documents:{folder}"


def _order(folder: str) -> str:
    return f"{KEY_PREFIX}order:{folder}"
