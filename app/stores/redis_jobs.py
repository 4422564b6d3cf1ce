"""Jobs on Redis. How Redis is used at all is told in `app/stores/redis.py`.

Keys, all under `trustscale:`::

    job:<id>                hash     the status of a job, field by field; `revision` as in SQLite
    job:<id>:request        string   its request (JSON)
    job:<id>:acts           set      "<owner> <unit>" of everyone who is in the act
    job:<id>:records        hash     unit -> what is recorded
    jobs:open               zset     jobs that are not final by creation
    jobs:open:<kind>        set      the same of a kind
    jobs:ended              zset     final jobs by their end

Every change also publishes on the channel named like the job's hash; a lost message is made good
by reading again every second.

The client repeats a call whose answer the network lost, so the server may run it twice, long after
the first time even (a frozen server works off both when it wakes). Every script here does the same
when it is run twice.

The release before kept the request in the hash and counted starts. Its jobs are read as they are,
and go on; who was in the act then is forgotten.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from pydantic import ValidationError

from app.errors import NotFound
from app.stores.base import Job, JobKind, JobState, JobStatus, Progress, check_end
from app.stores.redis_client import PREFIX, Client, job_key, redis_errors

OPEN: Final = f"{PREFIX}jobs:open"
ENDED: Final = f"{PREFIX}jobs:ended"

WATCH_INTERVAL_S: Final = 1.0
RECORDS_AT_ONCE: Final = 64

log = logging.getLogger(__name__)

# What every script starts with. KEYS: job, request, acts, records, open, ended. ARGV[1]: the id.
_HEAD: Final = """
local function get(field) return redis.call('HGET', KEYS[1], field) end
local function changed()
    redis.call('HINCRBY', KEYS[1], 'revision', 1)
    redis.call('PUBLISH', KEYS[1], '')
end
local function goes_on()
    local state = get('state')
    return state == 'running' or state == 'queued'
end
local function close(state, result, err, at, score)
    redis.call('HSET', KEYS[1], 'state', state, 'result', result, 'error', err)
    redis.call('DEL', KEYS[3])
    if state ~= 'awaiting_labels' then
        redis.call('HSET', KEYS[1], 'finished_at', at)
        redis.call('ZREM', KEYS[5], ARGV[1])
        redis.call('SREM', KEYS[5] .. ':' .. get('kind'), ARGV[1])
        redis.call('ZADD', KEYS[6], score, ARGV[1])
    end
    changed()
end
local function requeue()
    redis.call('HSET', KEYS[1], 'state', 'queued')
    changed()
end
"""

# ARGV: id, request, field, value, …
_CREATE: Final = """
if redis.call('EXISTS', KEYS[1]) == 1 then return end
for i = 3, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('SET', KEYS[2], ARGV[2])
redis.call('ZADD', KEYS[5], get('created_score'), ARGV[1])
redis.call('SADD', KEYS[5] .. ':' .. get('kind'), ARGV[1])
"""

# ARGV: id, owner, unit or '' for none, '1' if there is an act, time, score.
_START: Final = """
if not goes_on() then return 0 end
if ARGV[4] == '1' and redis.call('HEXISTS', KEYS[4], ARGV[3]) == 1 then return 0 end
if get('cancel_requested') == '1' then
    close('cancelled', '', '', ARGV[5], ARGV[6])
    return 0
end
if ARGV[4] == '1' then redis.call('SADD', KEYS[3], ARGV[2] .. ' ' .. ARGV[3]) end
redis.call('HSETNX', KEYS[1], 'started_at', ARGV[5])
if get('state') ~= 'running' then
    redis.call('HSET', KEYS[1], 'state', 'running')
    changed()
end
return 1
"""

# ARGV: id, owner, unit.
_END: Final = """
redis.call('SREM', KEYS[3], ARGV[2] .. ' ' .. ARGV[3])
if get('state') == 'running' and redis.call('EXISTS', KEYS[3]) == 0 then requeue() end
"""

# ARGV: id, unit, value.
_RECORD: Final = """
if not goes_on() then return 0 end
redis.call('HSETNX', KEYS[4], ARGV[2], ARGV[3])
for _, act in ipairs(redis.call('SMEMBERS', KEYS[3])) do
    if string.match(act, '^%S+ (.*)$') == ARGV[2] then redis.call('SREM', KEYS[3], act) end
end
return 1
"""

# ARGV: id, progress.
_PROGRESS: Final = """
if not goes_on() then return end
redis.call('HSET', KEYS[1], 'progress', ARGV[2])
changed()
"""

# ARGV: id, state, result, error, time, score. An empty text is none.
_FINISH: Final = """
if goes_on() then
    close(ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6])
    return 1
end
local same = get('state') == ARGV[2] and get('result') == ARGV[3] and get('error') == ARGV[4]
return same and 1 or 0
"""

# ARGV: id.
_RESUME: Final = "if get('state') == 'awaiting_labels' then requeue() end"

# ARGV: id, time, score.
_CANCEL: Final = """
local state = get('state')
if state == 'queued' or state == 'awaiting_labels' then
    redis.call('HSET', KEYS[1], 'cancel_requested', '1')
    close('cancelled', '', '', ARGV[2], ARGV[3])
elseif state == 'running' and get('cancel_requested') ~= '1' then
    redis.call('HSET', KEYS[1], 'cancel_requested', '1')
    changed()
end
"""

# ARGV: id.
_REMOVE: Final = """
redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3], KEYS[4])
return redis.call('ZREM', KEYS[6], ARGV[1])
"""

_FIELDS: Final = (*(name for name in JobStatus.model_fields), "revision", "request")


class RedisJobs:
    """`JobStore` on Redis."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._scripts = {
            body: client.register_script(_HEAD + body)
            for body in (
                *(_CREATE, _START, _END, _RECORD, _PROGRESS, _FINISH, _RESUME, _CANCEL, _REMOVE),
            )
        }

    async def create(self, job: Job) -> JobStatus:
        fields: dict[str, str | int | float] = {
            "id": job.id,
            "kind": job.kind,
            "state": job.state.value,
            "progress": job.progress.model_dump_json(),
            "created_at": job.created_at.isoformat(),
            "created_score": job.created_at.timestamp(),
            "cancel_requested": int(job.cancel_requested),
            "trace": job.trace or "",
            "about": json.dumps(job.about),
            "result": "",
            "error": "",
            "revision": 0,
        }
        parts = (part for field in fields.items() for part in field)
        await self._run(_CREATE, job.id, json.dumps(job.request), *parts)
        return await self.get(job.id)

    async def get(self, job: str) -> JobStatus:
        return (await self._read(job))[0]

    async def load(self, job: str) -> Job:
        status = await self.get(job)
        async with redis_errors():
            request = await self._client.get(f"{job_key(job)}:request")
            request = request or await self._client.hget(job_key(job), "request")
        if request is None:
            raise NotFound(f"There is no job {job}.")
        return Job(**status.model_dump(), request=json.loads(request))

    async def unfinished(self) -> list[JobStatus]:
        return [job for job in await self._open() if job.goes_on]

    async def pending(self, kind: JobKind) -> list[JobStatus]:
        return [job for job in reversed(await self._open()) if job.kind == kind]

    async def count_pending(self, kind: JobKind) -> int:
        async with redis_errors():
            return int(await self._client.scard(f"{OPEN}:{kind}"))

    async def _open(self) -> list[JobStatus]:
        """The jobs that are not final, the oldest first; one that is damaged stops no other."""
        async with redis_errors():
            ids = [job.decode() for job in await self._client.zrange(OPEN, 0, -1)]
            async with self._client.pipeline(transaction=False) as pipe:
                for job in ids:
                    pipe.hmget(job_key(job), _FIELDS)
                found = await pipe.execute()
        jobs = []
        for job, values in zip(ids, found, strict=True):
            try:
                jobs.append(_status(job, values))
            except NotFound:  # removed between the two calls
                continue
            except (ValidationError, ValueError) as error:
                log.error("The job %s in Redis cannot be read: %s", job, error)  # noqa: TRY400
        # One may have ended between the two calls.
        return [job for job in jobs if not job.state.is_final]

    async def start(self, job: str, unit: str | None, owner: str) -> JobStatus | None:
        act = (owner, unit or "", int(unit is not None))
        begun = await self._run(_START, job, *act, *_moment(datetime.now(UTC)))
        return await self.get(job) if begun else None

    async def acts(self, job: str, unit: str) -> set[str]:
        async with redis_errors():
            found = await self._client.smembers(f"{job_key(job)}:acts")
        acts = (act.decode().split(" ", 1) for act in found)
        return {owner for owner, at in acts if at == unit}

    async def end(self, job: str, unit: str, owner: str) -> None:
        await self._run(_END, job, owner, unit)

    async def record(self, job: str, unit: str, value: bytes) -> bool:
        return bool(await self._run(_RECORD, job, unit, value))

    async def recorded(self, job: str) -> set[str]:
        async with redis_errors():
            return {key.decode() for key in await self._client.hkeys(f"{job_key(job)}:records")}

    async def records(self, job: str) -> AsyncIterator[tuple[str, bytes]]:
        units = sorted(await self.recorded(job), key=str.encode)
        for start in range(0, len(units), RECORDS_AT_ONCE):
            some = units[start : start + RECORDS_AT_ONCE]
            async with redis_errors():
                values = await self._client.hmget(f"{job_key(job)}:records", some)
            for unit, value in zip(some, values, strict=True):
                if value is not None:
                    yield unit, bytes(value)

    async def progress(self, job: str, progress: Progress) -> None:
        await self._run(_PROGRESS, job, progress.model_dump_json())

    async def finish(
        self,
        job: str,
        state: JobState,
        *,
        result: str | None = None,
        error: dict[str, Any] | None = None,
    ) -> bool:
        check_end(state)
        told = json.dumps(error) if error else ""
        end = (state.value, result or "", told, *_moment(datetime.now(UTC)))
        return bool(await self._run(_FINISH, job, *end))

    async def resume(self, job: str) -> JobStatus:
        await self._run(_RESUME, job)
        return await self.get(job)

    async def request_cancel(self, job: str) -> JobStatus:
        await self._run(_CANCEL, job, *_moment(datetime.now(UTC)))
        return await self.get(job)

    async def watch(self, job: str) -> AsyncGenerator[JobStatus, None]:
        seen: int | None = None
        async with self._client.pubsub() as channel:
            async with redis_errors():
                await channel.subscribe(job_key(job))
            while True:
                present, revision = await self._read(job)
                if revision != seen:
                    seen = revision
                    yield present
                    if present.state.is_final or present.state is JobState.AWAITING_LABELS:
                        return
                async with redis_errors():
                    await channel.get_message(
                        ignore_subscribe_messages=True, timeout=WATCH_INTERVAL_S
                    )

    async def expire(self, before: datetime) -> Sequence[str]:
        async with redis_errors():
            ids = await self._client.zrangebyscore(ENDED, "-inf", f"({before.timestamp()}")
        return [job.decode() for job in ids if await self._run(_REMOVE, job.decode())]

    async def _run(self, script: str, job: str, *args: str | bytes | float) -> Any:
        key = job_key(job)
        parts = [f"{key}:{part}" for part in ("request", "acts", "records")]
        async with redis_errors():
            return await self._scripts[script](keys=[key, *parts, OPEN, ENDED], args=[job, *args])

    async def _read(self, job: str) -> tuple[JobStatus, int]:
        async with redis_errors():
            values = await self._client.hmget(job_key(job), _FIELDS)
        return _status(job, values), int(values[_FIELDS.index("revision")])


def _moment(at: datetime) -> tuple[str, float]:
    """A time as it is shown and as it is sorted."""
    return at.isoformat(timespec="microseconds"), at.timestamp()


def _status(job: str, found: Sequence[bytes | None]) -> JobStatus:
    """The job of its fields. Raises NotFound if there are none."""
    # An empty text is none: no field of a job is meaningful when empty.
    values: dict[str, Any] = {
        name: value.decode() for name, value in zip(_FIELDS, found, strict=True) if value
    }
    if "id" not in values:
        raise NotFound(f"There is no job {job}.")
    for name in ("progress", "error", "about"):
        if name in values:
            values[name] = json.loads(values[name])
    if "about" not in values and values["kind"] == "calibration":  # of the release before
        values["about"] = _about(json.loads(values["request"]))
    return JobStatus.model_validate(
        {k: v for k, v in values.items() if k in JobStatus.model_fields}
    )


def _about(request: dict[str, Any]) -> dict[str, str | None]:
    """What lists show, of a request of the release before."""
    fidelity = request["pipeline"]["fidelity"]
    is_semantic = fidelity["metric"] == "semantic"
    return {
        "name": request["config"].get("name"),
        "upscaler": request["upscaler"],
        "metric": fidelity["metric"],
        "labels": (fidelity.get("labels") or "people") if is_semantic else None,
        "parent": request.get("parent"),
    }
