"""Calibrations and results on Redis, for several machines behind one service.

What must happen at once is one Lua script: Redis runs it without anything in between, and writes
its effects to the append-only file as one unit, so a crash of the server leaves a script done or
not done. Redis itself must be persistent (AOF) and must not evict: the calibrations live there.
A script may run twice when the network loses its answer and the client asks again; every script
here gives the same outcome then.

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
    claim:<name>            string   see `app/stores/redis_claims.py`
    job:<id>, jobs:*                 see `app/stores/redis_jobs.py`
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from uuid import uuid4

from redis import exceptions as failures
from redis.asyncio import Redis

from app.errors import ConfigError, Conflict, NotFound
from app.stores.base import (
    Activation,
    AuditEntry,
    Blob,
    CalibrationHead,
    JobStore,
    over,
)
from app.stores.database import as_text
from app.stores.redis_client import (
    ANSWER_TIMEOUT_S,
    PREFIX,
    Client,
    job_key,
    milliseconds,
    redis_errors,
    retry,
)
from app.stores.redis_jobs import RedisJobs

SCHEMA_VERSION: Final = 2

# How long a call is known whose answer may have been lost: the client repeats it within seconds, a
# frozen server works it off when it wakes.
REPEATED_S: Final = 3600


class RedisStores(NamedTuple):
    """The stores behind one Redis URL, with one pool of connections."""

    calibrations: RedisCalibrations
    jobs: JobStore
    results: RedisResults
    client: Client

    async def check(self) -> None:
        """See `Stores.check`; also refuses a server that may throw data away."""
        async with redis_errors():
            await self.client.set(f"{PREFIX}schema", SCHEMA_VERSION, nx=True)
            found = int(await self.client.get(f"{PREFIX}schema") or 0)
        if found > SCHEMA_VERSION:
            raise ConfigError(
                f"The data in Redis was written by a newer release (schema {found}, "
                f"this release knows {SCHEMA_VERSION})."
            )
        if found < SCHEMA_VERSION:  # what is there is read as it is; see `redis_jobs.py`
            async with redis_errors():
                await self.client.set(f"{PREFIX}schema", SCHEMA_VERSION)
        try:
            policy = await self.client.config_get("maxmemory-policy")
        except failures.RedisError:
            return  # not every server lets its settings be read
        if str(policy.get("maxmemory-policy", "")).startswith("allkeys"):
            raise ConfigError(
                "Redis may evict calibrations and jobs: set its maxmemory-policy to noeviction."
            )

    async def close(self) -> None:
        """Close all connections. Closing again does nothing."""
        await self.client.aclose()


def open_redis(
    url: str,
    *,
    result_ttl_s: float,
    max_result_bytes: int,
    answer_timeout_s: float = ANSWER_TIMEOUT_S,
) -> RedisStores:
    """The stores behind a Redis URL; connects at the first call. Raises ConfigError."""
    try:
        client = Redis.from_url(
            url,
            socket_timeout=answer_timeout_s,
            socket_connect_timeout=answer_timeout_s,
            socket_keepalive=True,
            health_check_interval=30,
            retry=retry(),
        )
        # Unknown parameters of the URL are noticed only when a connection is made.
        client.connection_pool.make_connection()  # type: ignore[no-untyped-call]
    except (ValueError, TypeError) as error:
        # The message may quote a password with an unescaped character: it is not repeated.
        raise ConfigError(
            "The Redis URL cannot be read; it is redis[s]://[[user]:password@]host[:port]"
            "[/database], with special characters of the password percent-encoded."
        ) from error
    return RedisStores(
        RedisCalibrations(client),
        RedisJobs(client),
        RedisResults(client, ttl_s=result_ttl_s, max_bytes=max_result_bytes),
        client,
    )


class RedisCalibrations:
    """`CalibrationStore` on Redis."""

    _ALL: Final = f"{PREFIX}calibrations"
    _ACTIVE: Final = f"{PREFIX}active"

    # KEYS: calibrations, blob. ARGV: id, head, blob.
    _PUT: Final = """
    if redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2]) == 1 then
        redis.call('SET', KEYS[2], ARGV[3])
    end
    """

    # KEYS: calibrations, active, and the job that activates. ARGV: id, time.
    # Answers the activation, nil if unknown, or 0 if the job does not go on.
    _ACTIVATE: Final = """
    if KEYS[3] then
        local state = redis.call('HGET', KEYS[3], 'state')
        if state ~= 'running' and state ~= 'queued' then return 0 end
        if redis.call('HGET', KEYS[3], 'cancel_requested') == '1' then return 0 end
    end
    local head = redis.call('HGET', KEYS[1], ARGV[1])
    if not head then return nil end
    local upscaler = cjson.decode(head)['upscaler']
    local present = redis.call('HGET', KEYS[2], upscaler)
    local previous = cjson.null
    if present then
        local before = cjson.decode(present)
        if before['calibration'] == ARGV[1] then return present end
        previous = before['calibration']
    end
    local activation = cjson.encode({upscaler = upscaler, calibration = ARGV[1],
        previous = previous, at = ARGV[2]})
    redis.call('HSET', KEYS[2], upscaler, activation)
    return activation
    """

    # KEYS: calibrations, active, blob, said. ARGV: id, token, seconds. Answers 0 unknown, -1
    # active, 1 deleted, also to the repetition of a call whose answer was lost.
    _DELETE: Final = """
    local head = redis.call('HGET', KEYS[1], ARGV[1])
    if not head then return redis.call('GET', KEYS[4]) == ARGV[2] and 1 or 0 end
    local present = redis.call('HGET', KEYS[2], cjson.decode(head)['upscaler'])
    if present and cjson.decode(present)['calibration'] == ARGV[1] then return -1 end
    redis.call('HDEL', KEYS[1], ARGV[1])
    redis.call('DEL', KEYS[3])
    redis.call('SET', KEYS[4], ARGV[2], 'EX', ARGV[3])
    return 1
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._put = client.register_script(self._PUT)
        self._activate = client.register_script(self._ACTIVATE)
        self._delete = client.register_script(self._DELETE)

    async def put(self, head: CalibrationHead, blob: bytes) -> None:
        async with redis_errors():
            await self._put(
                keys=[self._ALL, _blob_key(head.id)],
                args=[head.id, head.model_dump_json(), blob],
            )

    async def get(self, calibration: str) -> bytes:
        async with redis_errors():
            blob = await self._client.get(_blob_key(calibration))
        if blob is None:
            raise _no_calibration(calibration)
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
        keys: list[str] = [self._ALL, self._ACTIVE]
        if job is not None:
            keys.append(job_key(job))
        at = datetime.now(UTC).isoformat(timespec="microseconds")
        async with redis_errors():
            activation = await self._activate(keys=keys, args=[calibration, at])
        if activation == 0 and job is not None:
            raise over(job)
        if activation is None:
            raise _no_calibration(calibration)
        return _activation(activation)

    async def active(self) -> Mapping[str, Activation]:
        async with redis_errors():
            values = await self._client.hvals(self._ACTIVE)
        return {found.upscaler: found for found in map(_activation, values)}

    async def delete(self, calibration: str) -> None:
        async with redis_errors():
            blob = _blob_key(calibration)
            outcome = await self._delete(
                keys=[self._ALL, self._ACTIVE, blob, f"{blob}:deleted"],
                args=[calibration, uuid4().hex, REPEATED_S],
            )
        if outcome == 0:
            raise _no_calibration(calibration)
        if outcome == -1:
            raise Conflict(f"Calibration {calibration} is active; activate another one first.")


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
        self,
        result: str,
        document: bytes,
        blobs: Mapping[str, Blob],
        *,
        ttl_s: float | None = None,
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

    async def delete(self, result: str) -> None:
        async with redis_errors(), self._client.pipeline(transaction=True) as pipe:
            pipe.unlink(_result_key(result))
            pipe.zrem(self._BY_EXPIRY, result)
            pipe.hdel(self._SIZES, result)
            await pipe.execute()

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


def _blob_key(calibration: str) -> str:
    return f"{PREFIX}calibration:{calibration}"


def _result_key(result: str) -> str:
    return f"{PREFIX}result:{result}"


def _activation(value: bytes) -> Activation:
    fields: dict[str, Any] = json.loads(value)
    return Activation(
        fields["upscaler"],
        fields["calibration"],
        fields["previous"],
        datetime.fromisoformat(fields["at"]),
    )


def _no_calibration(calibration: str) -> NotFound:
    return NotFound(f"There is no calibration {calibration}.")
