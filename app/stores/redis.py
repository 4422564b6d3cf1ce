"""Calibrations, results, audit log and claims on Redis, for several machines behind one service.

What must happen at once is one transaction: what was read is watched, and what follows from it is
done if nothing of that has changed since; else it is read anew. The sweep of results is a Lua
script. Redis writes the effects of both to the append-only file as one unit, so a crash of the
server leaves them done or not done. Redis itself must be persistent (AOF) and must not evict: the
calibrations live there. A call may be made twice when the network loses its answer and the client
asks again; every call here gives the same outcome then.

Keys, all under `trustscale:`::

    schema                  number   version of this layout
    calibrations            hash     id -> head (JSON)
    calibration:<id>        string   blob
    active                  hash     upscaler -> activation (JSON)
    result:<id>             hash     document and blob:<name>, with a time to live
    results                 zset     id by the time of expiry (ms)
    results:sizes           hash     id -> bytes
    audit                   list     admin actions (JSON), the oldest first
    monitor:<calibration>*           see `app/stores/redis_monitor.py`
    claim:<name>            string   value, with a time to live
    job:<id>, jobs:*                 see `app/stores/redis_jobs.py`
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

from redis import exceptions as failures
from redis.asyncio import Redis

from app.errors import ConfigError, NotFound
from app.stores.base import (
    Activation,
    AuditEntry,
    Blob,
    Blobs,
    CalibrationHead,
    no_calibration,
    over,
    still_active,
)
from app.stores.job import as_text
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

SCHEMA_VERSION: Final = 2

# How long a call is known whose answer may have been lost: the client repeats it within seconds, a
# frozen server works it off when it wakes.
REPEATED_S: Final = 3600


async def check(client: Client) -> None:
    """See `Stores.check`; also refuses a server that may throw data away."""
    async with redis_errors():
        await client.set(f"{PREFIX}schema", SCHEMA_VERSION, nx=True)
        found = int(await client.get(f"{PREFIX}schema") or 0)
    if found > SCHEMA_VERSION:
        raise ConfigError(
            f"The data in Redis was written by a newer release (schema {found}, "
            f"this release knows {SCHEMA_VERSION})."
        )
    if found < SCHEMA_VERSION:  # what is there is read as it is; see `redis_jobs.py`
        async with redis_errors():
            await client.set(f"{PREFIX}schema", SCHEMA_VERSION)
    try:
        policy = await client.config_get("maxmemory-policy")
    except failures.RedisError:
        return  # not every server lets its settings be read
    if str(policy.get("maxmemory-policy", "")).startswith("allkeys"):
        raise ConfigError(
            "Redis may evict calibrations and jobs: set its maxmemory-policy to noeviction."
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

    async def activate(self, calibration: str, *, job: str | None = None) -> Activation:
        async def switch(pipe: Client) -> Activation:
            if job is not None:
                state, is_cancelled = await pipe.hmget(job_key(job), "state", "cancel_requested")
                if state not in {b"running", b"queued"} or is_cancelled == b"1":
                    raise over(job)
            upscaler = await self._upscaler(pipe, calibration)
            present = await pipe.hget(self._ACTIVE, upscaler)
            replaced = present and Activation.model_validate_json(present)
            if replaced and replaced.calibration == calibration:
                return replaced
            made = Activation(
                upscaler=upscaler,
                calibration=calibration,
                previous=replaced.calibration if replaced else None,
                at=datetime.now(UTC),
            )
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
            if active and Activation.model_validate_json(active).calibration == calibration:
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
    """`ResultStore` on Redis: Redis itself expires them, every put enforces the size limit."""

    _BY_EXPIRY: Final = f"{PREFIX}results"
    _SIZES: Final = f"{PREFIX}results:sizes"

    # Forgets what has expired, then removes the oldest above the limit. KEYS: by expiry, sizes.
    # ARGV: limit in bytes, prefix of the result keys. Answers how many were removed.
    _SWEEP: Final = """
    local clock = redis.call('TIME')
    local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
    local gone = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)
    local total = 0
    local function remove(id)
        redis.call('UNLINK', ARGV[2] .. id)
        redis.call('ZREM', KEYS[1], id)
        redis.call('HDEL', KEYS[2], id)
    end
    for _, id in ipairs(gone) do remove(id) end
    for _, size in ipairs(redis.call('HVALS', KEYS[2])) do total = total + size end
    local removed = #gone
    while total > tonumber(ARGV[1]) and redis.call('ZCARD', KEYS[1]) > 1 do
        local id = redis.call('ZRANGE', KEYS[1], 0, 0)[1]
        total = total - (redis.call('HGET', KEYS[2], id) or 0)
        remove(id)
        removed = removed + 1
    end
    """

    # KEYS: by expiry, sizes, result. ARGV: limit, prefix, id, ms to live, bytes, field, value, …
    _PUT: Final = f"""
    if redis.call('EXISTS', KEYS[3]) == 0 then
        local clock = redis.call('TIME')
        local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
        for i = 6, #ARGV, 2 do redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1]) end
        redis.call('PEXPIRE', KEYS[3], ARGV[4])
        redis.call('ZADD', KEYS[1], now + ARGV[4], ARGV[3])
        redis.call('HSET', KEYS[2], ARGV[3], ARGV[5])
    end
    {_SWEEP}
    return removed
    """

    def __init__(self, client: Client, *, ttl_s: float, max_bytes: int) -> None:
        self._client = client
        self._ttl_ms = milliseconds(ttl_s)
        self._max_bytes = max_bytes
        self._put = client.register_script(self._PUT)
        self._sweep = client.register_script(f"{self._SWEEP} return removed")

    async def put(
        self, result: str, document: bytes, blobs: Blobs, *, ttl_s: float | None = None
    ) -> None:
        fields: list[str | Blob] = ["document", document]
        for name, data in blobs.items():
            fields += [f"blob:{name}", data]
        size = len(document) + sum(map(len, blobs.values()))
        ttl_ms = self._ttl_ms if ttl_s is None else milliseconds(ttl_s)
        async with redis_errors():
            await self._put(
                keys=[self._BY_EXPIRY, self._SIZES, _result_key(result)],
                args=[self._max_bytes, _result_key(""), result, ttl_ms, size, *fields],
            )

    async def document(self, result: str) -> bytes:
        return await self._field(result, "document")

    async def blob(self, result: str, name: str) -> bytes:
        return await self._field(result, f"blob:{name}")

    async def sweep(self) -> int:
        async with redis_errors():
            return int(
                await self._sweep(
                    keys=[self._BY_EXPIRY, self._SIZES], args=[self._max_bytes, _result_key("")]
                )
            )

    async def _field(self, result: str, field: str) -> bytes:
        async with redis_errors():
            value = await self._client.hget(_result_key(result), field)
        if value is None:
            raise NotFound(f"There is no result {result!r}, or no longer.")
        return bytes(value)


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
        self._claim = client.register_script(self._CLAIM)
        self._replace = client.register_script(self._REPLACE)

    async def claim(self, name: str, value: bytes, *, seconds: float) -> bytes:
        async with redis_errors():
            kept = await self._claim(keys=[_claim_key(name)], args=[value, milliseconds(seconds)])
        return bytes(kept)

    async def replace(self, name: str, old: bytes, new: bytes | None, *, seconds: float) -> None:
        args = [old, milliseconds(seconds), *([] if new is None else [new])]
        async with redis_errors():
            await self._replace(keys=[_claim_key(name)], args=args)


def _blob_key(calibration: str) -> str:
    return f"{PREFIX}calibration:{calibration}"


def _claim_key(name: str) -> str:
    return f"{PREFIX}claim:{name}"


def _result_key(result: str) -> str:
    return f"{PREFIX}result:{result}"
