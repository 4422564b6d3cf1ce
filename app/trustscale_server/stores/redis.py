"""A Redis for several machines: its client, its checks, its layout, and what copies to it.

It must be persistent (AOF) and must not evict.

Keys, all under `trustscale:`::

    schema               number   version of this layout
    changes              number   of all changes; the version of the document changed last
    blobs                string   which blob store all processes share
    written              string   proves that Redis takes a write
    copying              string   whose data are being copied to here; no service starts until then
    documents:<folder>   hash     name -> version, a blank, value
    order:<folder>       zset     name by its sort key
"""

from __future__ import annotations

from typing import Any, Final

from redis import exceptions as failures
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff

from trustscale_server.platform.errors import ConfigError, Conflict
from trustscale_server.stores.blobs import Blobs
from trustscale_server.stores.redis_errors import ANSWER_TIMEOUT_S, redis_errors

KEY_PREFIX: Final = "trustscale:"

# redis-py's types assume decoding; this client decodes nothing.
Client = Any

SCHEMA_VERSION: Final = 8

MIGRATIONS: Final[dict[int, str]] = {}
"""Lua that makes of a schema the next one; its `prefix` is that of all keys.

The first look of a newer process takes older data over. Processes of the release before that still
run can read then, and no longer change anything (`redis_documents.py`).
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
WRITTEN: Final = f"{KEY_PREFIX}written"
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
