"""Calibrations, index of results, audit log and claims on Redis, for several machines.

What must happen at once is one transaction: what was read is watched, and what follows from it is
done if nothing of that has changed since; else it is read anew. Redis writes its effects to the
append-only file as one unit, so a crash of the server leaves them done or not done. Redis itself
must be persistent (AOF) and must not evict: the calibrations live there. A call may be made twice
when the network loses its answer and the client asks again; every call here gives the same outcome
then.

Keys, all under `trustscale:`::

    schema                  number   version of this layout
    calibrations            hash     id -> head (JSON)
    calibration:<id>        string   blob
    active                  hash     upscaler -> activation (JSON)
    blobs                   string   which blob store all processes share
    result:<id>             hash     document, folder of its files, size, times
    results                 zset     id by the time of writing
    results:expiry          zset     id by the time of expiry
    results:bytes           number   the sum of their sizes
    audit                   list     admin actions (JSON), the oldest first
    monitor:<calibration>*           see `app/stores/redis_monitor.py`
    claim:<name>            string   value, with a time to live
    job:<id>, jobs:*                 see `app/stores/redis_jobs.py`
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

from redis import exceptions as failures
from redis.asyncio import Redis

from app.errors import ConfigError, NotFound
from app.stores.base import (
    Activation,
    AuditEntry,
    CalibrationHead,
    activated,
    no_calibration,
    over,
    still_active,
)
from app.stores.job import as_text
from app.stores.objects import BlobStore
from app.stores.redis_client import (
    ANSWER_TIMEOUT_S,
    PREFIX,
    Client,
    check_url,
    job_key,
    milliseconds,
    redis_errors,
    retry,
)
from app.stores.results import StoredResult

SCHEMA_VERSION: Final = 4

_BLOBS: Final = f"{PREFIX}blobs"

# How long a call is known whose answer may have been lost: the client repeats it within seconds, a
# frozen server works it off when it wakes.
REPEATED_S: Final = 3600


async def check(client: Client) -> None:
    """See `Stores.check`; also refuses a server that may throw data away."""
    async with redis_errors():
        await client.set(f"{PREFIX}schema", SCHEMA_VERSION, nx=True)
        found = int(await client.get(f"{PREFIX}schema") or 0)
    if found != SCHEMA_VERSION:
        raise ConfigError(
            f"The data in Redis was written by another release (schema {found}, "
            f"this release has {SCHEMA_VERSION})."
        )
    try:
        policy = await client.config_get("maxmemory-policy")
    except failures.RedisError:
        return  # not every server lets its settings be read
    if str(policy.get("maxmemory-policy", "")).startswith("allkeys"):
        raise ConfigError(
            "Redis may evict calibrations and jobs: set its maxmemory-policy to noeviction."
        )


async def persists(client: Client) -> bool:
    """Whether Redis can write and rewrite its append-only file; raises StoreUnavailable."""
    async with redis_errors():
        found = await client.info("persistence")
    return all(
        found.get(field, "ok") == "ok"
        for field in ("aof_last_write_status", "aof_last_bgrewrite_status")
    )


async def check_blobs(client: Client, blobs: BlobStore) -> None:
    """Return if all processes that share this Redis share these bytes. Raises ConfigError."""
    await blobs.check()
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


def connected(url: str, *, answer_timeout_s: float = ANSWER_TIMEOUT_S) -> Client:
    """The client of a Redis URL, which connects at the first call. Raises ConfigError."""
    check_url(url, "Redis")
    return Redis.from_url(
        url,
        socket_timeout=answer_timeout_s,
        socket_connect_timeout=answer_timeout_s,
        socket_keepalive=True,
        health_check_interval=30,
        retry=retry(),
    )


class RedisCalibrations:
    """`CalibrationStore` on Redis."""

    _ALL: Final = f"{PREFIX}calibrations"
    _ACTIVE: Final = f"{PREFIX}active"

    def __init__(self, client: Client) -> None:
        self._client = client

    async def put(self, head: CalibrationHead, blob: bytes) -> None:
        async def keep(pipe: Client) -> None:
            if not await pipe.hexists(self._ALL, head.id):
                pipe.multi()
                pipe.hset(self._ALL, head.id, head.model_dump_json())
                pipe.set(_blob_key(head.id), blob)

        async with redis_errors():
            await self._client.transaction(keep, self._ALL)

    async def get(self, calibration: str) -> bytes:
        async with redis_errors():
            blob = await self._client.get(_blob_key(calibration))
        if blob is None:
            raise no_calibration(calibration)
        return bytes(blob)

    async def heads(self, upscaler: str | None = None) -> list[CalibrationHead]:
        async with redis_errors():
            values = await self._client.hvals(self._ALL)
        heads = [CalibrationHead.model_validate_json(value) for value in values]
        return sorted(
            (head for head in heads if upscaler is None or head.upscaler == upscaler),
            key=lambda head: (head.created_at, head.id),
            reverse=True,
        )

    async def activate(
        self, calibration: str, *, job: str | None = None, without: Collection[str] | None = ()
    ) -> Activation:
        async def switch(pipe: Client) -> Activation:
            if job is not None:
                state, is_cancelled = await pipe.hmget(job_key(job), "state", "cancel_requested")
                if state not in {b"running", b"queued"} or is_cancelled == b"1":
                    raise over(job)
            upscaler = await self._upscaler(pipe, calibration)
            found = await pipe.hget(self._ACTIVE, upscaler)
            present = Activation.model_validate_json(found) if found else None
            made = activated(present, upscaler, calibration, without)
            pipe.multi()
            pipe.hset(self._ACTIVE, upscaler, made.model_dump_json())
            return made

        watched = [self._ALL, self._ACTIVE, *([] if job is None else [job_key(job)])]
        async with redis_errors():
            activation: Activation = await self._client.transaction(
                switch, *watched, value_from_callable=True
            )
        return activation

    async def active(self) -> Mapping[str, Activation]:
        async with redis_errors():
            values = await self._client.hvals(self._ACTIVE)
        return {found.upscaler: found for found in map(Activation.model_validate_json, values)}

    async def delete(self, calibration: str) -> None:
        is_asked = False

        async def remove(pipe: Client) -> None:
            nonlocal is_asked
            try:
                upscaler = await self._upscaler(pipe, calibration)
            except NotFound:
                if is_asked:  # it was this call, whose answer got lost
                    return
                raise
            active = await pipe.hget(self._ACTIVE, upscaler)
            if active and calibration in Activation.model_validate_json(active).calibrations:
                raise still_active(calibration)
            is_asked = True
            pipe.multi()
            pipe.hdel(self._ALL, calibration)
            pipe.unlink(_blob_key(calibration))

        async with redis_errors():
            await self._client.transaction(remove, self._ALL, self._ACTIVE)

    async def _upscaler(self, pipe: Client, calibration: str) -> str:
        head = await pipe.hget(self._ALL, calibration)
        if head is None:
            raise no_calibration(calibration)
        return str(json.loads(head)["upscaler"])


class RedisResults:
    """`ResultIndex` on Redis."""

    _BY_TIME: Final = f"{PREFIX}results"
    _BY_EXPIRY: Final = f"{PREFIX}results:expiry"
    _BYTES: Final = f"{PREFIX}results:bytes"
    _FIELDS: Final = ("folder", "size", "stored", "expires")

    def __init__(self, client: Client) -> None:
        self._client = client

    async def add(self, row: StoredResult) -> bool:
        key = _result_key(row.id)

        async def keep(pipe: Client) -> bool:
            found = await pipe.hget(key, "folder")
            if found is not None:
                return bool(found == row.folder.encode())
            pipe.multi()
            fields = row._asdict()
            del fields["id"]
            pipe.hset(key, mapping=fields)
            pipe.zadd(self._BY_TIME, {row.id: row.stored})
            pipe.zadd(self._BY_EXPIRY, {row.id: row.expires})
            pipe.incrby(self._BYTES, row.size)
            return True

        async with redis_errors():
            kept: bool = await self._client.transaction(keep, key, value_from_callable=True)
        return kept

    async def get(self, result: str) -> StoredResult | None:
        async with redis_errors():
            found = await self._client.hmget(_result_key(result), *self._FIELDS, "document")
        return _stored_result(result, found)

    async def remove(self, row: StoredResult) -> bool:
        key = _result_key(row.id)

        async def forget(pipe: Client) -> bool:
            if await pipe.hget(key, "folder") != row.folder.encode():
                return False
            pipe.multi()
            pipe.unlink(key)
            pipe.zrem(self._BY_TIME, row.id)
            pipe.zrem(self._BY_EXPIRY, row.id)
            pipe.decrby(self._BYTES, row.size)
            return True

        async with redis_errors():
            done: bool = await self._client.transaction(forget, key, value_from_callable=True)
        return done

    async def expired(self, at: float) -> list[StoredResult]:
        async with redis_errors():
            return await self._rows(await self._client.zrangebyscore(self._BY_EXPIRY, "-inf", at))

    async def oldest(self, limit: int) -> list[StoredResult]:
        async with redis_errors():
            return await self._rows(await self._client.zrange(self._BY_TIME, 0, limit - 1))

    async def total(self) -> int:
        async with redis_errors():
            return int(await self._client.get(self._BYTES) or 0)

    async def _rows(self, ids: list[bytes]) -> list[StoredResult]:
        names = [name.decode() for name in ids]
        async with self._client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.hmget(_result_key(name), *self._FIELDS)
            found = map(_stored_result, names, await pipe.execute())
        return [row for row in found if row is not None]  # else removed in between


def _stored_result(result: str, found: list[bytes | None]) -> StoredResult | None:
    """The row of the values of its fields."""
    folder, size, stored, expires, *document = found
    if folder is None or size is None or stored is None or expires is None:
        return None
    content = (document[0] or b"") if document else b""
    return StoredResult(
        result, folder.decode(), int(size), float(stored), float(expires), bytes(content)
    )


class RedisAudit:
    """`AuditLog` as a list: entry i is the element i − 1."""

    _KEY: Final = f"{PREFIX}audit"

    # KEYS: audit, said. ARGV: entry, seconds. A repeated call adds nothing.
    _APPEND: Final = """
    if redis.call('SET', KEYS[2], '1', 'NX', 'EX', ARGV[2]) then
        redis.call('RPUSH', KEYS[1], ARGV[1])
    end
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._append = client.register_script(self._APPEND)

    async def append(self, action: str, actor: str, facts: dict[str, Any]) -> None:
        entry = {"at": as_text(datetime.now(UTC)), "action": action, "actor": actor, "facts": facts}
        async with redis_errors():
            await self._append(
                keys=[self._KEY, f"{self._KEY}:{uuid4().hex}"], args=[json.dumps(entry), REPEATED_S]
            )

    async def entries(self, *, limit: int, before: int | None = None) -> list[AuditEntry]:
        async with redis_errors():
            length = int(await self._client.llen(self._KEY))
            last = length if before is None else min(before - 1, length)
            first = max(0, last - limit)
            found = await self._client.lrange(self._KEY, first, last - 1) if last > first else []
        numbered = enumerate(found, start=first + 1)
        return [AuditEntry(id=number, **json.loads(entry)) for number, entry in numbered][::-1]


class RedisClaims:
    """`ClaimStore` on Redis."""

    # KEYS: claim. ARGV: value, ms to live.
    _CLAIM: Final = """
    local kept = redis.call('GET', KEYS[1])
    if kept then return kept end
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
    return ARGV[1]
    """

    # KEYS: claim. ARGV: old, ms to live, new or nothing.
    _REPLACE: Final = """
    if redis.call('GET', KEYS[1]) ~= ARGV[1] then return end
    if ARGV[3] then redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[2])
    else redis.call('DEL', KEYS[1]) end
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._claim = client.register_script(self._CLAIM)
        self._replace = client.register_script(self._REPLACE)

    async def claim(self, name: str, value: bytes, *, seconds: float) -> bytes:
        async with redis_errors():
            kept = await self._claim(keys=[_claim_key(name)], args=[value, milliseconds(seconds)])
        return bytes(kept)

    async def get(self, name: str) -> bytes | None:
        async with redis_errors():
            kept = await self._client.get(_claim_key(name))
        return None if kept is None else bytes(kept)

    async def replace(self, name: str, old: bytes, new: bytes | None, *, seconds: float) -> None:
        args = [old, milliseconds(seconds), *([] if new is None else [new])]
        async with redis_errors():
            await self._replace(keys=[_claim_key(name)], args=args)


class RedisCalls:
    """`CallStore` on Redis: sorted sets of calls by the milliseconds of the server's clock."""

    # KEYS: calls. ARGV: most, ms. Two calls of one millisecond differ by their number.
    _TAKE: Final = """
    local time = redis.call('TIME')
    local now = time[1] * 1000 + math.floor(time[2] / 1000)
    redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
    local found = redis.call('ZRANGE', KEYS[1], -ARGV[1], -ARGV[1], 'WITHSCORES')
    if found[2] then return math.max(1, found[2] + ARGV[2] - now) end
    local same = redis.call('ZCOUNT', KEYS[1], now, now)
    redis.call('ZADD', KEYS[1], now, now .. '-' .. same)
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
    return 0
    """

    # KEYS: calls. ARGV: ms.
    _COUNT: Final = """
    local time = redis.call('TIME')
    local now = time[1] * 1000 + math.floor(time[2] / 1000)
    return redis.call('ZCOUNT', KEYS[1], now - ARGV[1] + 1, '+inf')
    """

    def __init__(self, client: Client) -> None:
        self._take = client.register_script(self._TAKE)
        self._count = client.register_script(self._COUNT)

    async def take(self, upscaler: str, most: int, *, seconds: float) -> float:
        async with redis_errors():
            args = [most, milliseconds(seconds)]
            return float(await self._take(keys=[_calls_key(upscaler)], args=args)) / 1e3

    async def count(self, upscaler: str, *, seconds: float) -> int:
        async with redis_errors():
            args = [milliseconds(seconds)]
            return int(await self._count(keys=[_calls_key(upscaler)], args=args))


def _blob_key(calibration: str) -> str:
    return f"{PREFIX}calibration:{calibration}"


def _claim_key(name: str) -> str:
    return f"{PREFIX}claim:{name}"


def _calls_key(upscaler: str) -> str:
    return f"{PREFIX}calls:{upscaler}"


def _result_key(result: str) -> str:
    return f"{PREFIX}result:{result}"
