"""Jobs on Redis. How Redis is used at all is told in `app/stores/redis.py`.

Keys, all under `trustscale:`::

    job:<id>                hash     the job, field by field; `starts` and `revision` as in SQLite
    job:<id>:starts         hash     unit -> "<starts> <token>"
    job:<id>:records        hash     unit -> checkpoint
    jobs:open               zset     jobs that are not final by creation
    jobs:ended              zset     final jobs by their end

Every change also publishes on the channel named like the job's hash; a lost message is made good
by reading again every second.

The client repeats a call whose answer the network lost, so the server may run it twice, long after
the first time even (a frozen server works off both when it wakes). Where twice is not the same as
once (a start counts, an end has one winner) the call carries a token, and the script recognises
its own repetition.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

from app.errors import NotFound
from app.stores.base import Job, JobKind, JobState, Progress, given_up
from app.stores.redis_client import PREFIX, Client, job_key, redis_errors

OPEN: Final = f"{PREFIX}jobs:open"
ENDED: Final = f"{PREFIX}jobs:ended"

WATCH_INTERVAL_S: Final = 1.0
RECORDS_AT_ONCE: Final = 64

# What every script starts with. KEYS: job, starts, records, open, ended. ARGV[1]: the job's id.
_HEAD: Final = """
local function get(field) return redis.call('HGET', KEYS[1], field) end
local function changed()
    redis.call('HINCRBY', KEYS[1], 'revision', 1)
    redis.call('PUBLISH', KEYS[1], '')
end
local function clock()
    local now = redis.call('TIME')
    return now[1] + now[2] / 1000000
end
local function close(state, at, score)
    redis.call('HSET', KEYS[1], 'state', state, 'finished_at', at)
    redis.call('ZREM', KEYS[4], ARGV[1])
    redis.call('ZADD', KEYS[5], score, ARGV[1])
end
local function is_latest(attempt)
    return get('state') == 'running' and get('attempt') == attempt
end
local function requeue(starts)
    redis.call('HSET', KEYS[1], 'state', 'queued', 'starts', starts)
    redis.call('ZADD', KEYS[4], get('created_score'), ARGV[1])
    changed()
end
"""

# ARGV: id, field, value, …
_CREATE: Final = """
if redis.call('EXISTS', KEYS[1]) == 1 then return end
for i = 2, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('ZADD', KEYS[4], get('created_score'), ARGV[1])
"""

# ARGV: id, token, most attempts, time, score, seconds for which a running attempt is alive.
# Answers {1} begun, {0} nothing to do, or {-1, attempt, starts, suspects …} to be given up.
_BEGIN: Final = """
local state = get('state')
if state ~= 'queued' and state ~= 'running' then return {0} end
if get('begin_token') == ARGV[2] then return {1} end
if state == 'running' and clock() - get('beat_at') < tonumber(ARGV[6]) then return {0} end
if get('cancel_requested') == '1' then
    close('cancelled', ARGV[4], ARGV[5])
    changed()
    return {0}
end
local starts = tonumber(get('starts'))
if starts >= tonumber(ARGV[3]) then
    local answer, most = {-1, get('attempt'), starts}, 1
    local units = redis.call('HGETALL', KEYS[2])
    for i = 1, #units, 2 do
        local count = tonumber(string.match(units[i + 1], '^%d+'))
        if count >= most and count > 1 and redis.call('HEXISTS', KEYS[3], units[i]) == 0 then
            if count > most then answer = {-1, get('attempt'), starts} end
            most = count
            table.insert(answer, units[i])
        end
    end
    return answer
end
redis.call('HINCRBY', KEYS[1], 'attempt', 1)
redis.call('HSET', KEYS[1], 'starts', starts + 1, 'state', 'running', 'begin_token', ARGV[2])
redis.call('HSET', KEYS[1], 'beat_at', clock())
redis.call('HSETNX', KEYS[1], 'started_at', ARGV[4])
changed()
return {1}
"""

# ARGV: id, attempt, starts, error, time, score. Nothing if an attempt began meanwhile.
_GIVE_UP: Final = """
local state = get('state')
if (state == 'queued' or state == 'running')
    and get('attempt') == ARGV[2] and get('starts') == ARGV[3] then
    redis.call('HSET', KEYS[1], 'error', ARGV[4])
    close('failed', ARGV[5], ARGV[6])
    changed()
end
"""

# ARGV: id, attempt.
_BEAT: Final = """
if not is_latest(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], 'beat_at', clock())
return 1
"""

# ARGV: id, attempt.
_RELEASE: Final = """
if not is_latest(ARGV[2]) then return 0 end
requeue(math.max(tonumber(get('starts')) - 1, 0))
return 1
"""

# ARGV: id.
_RESUME: Final = "if get('state') == 'awaiting_labels' then requeue(0) end"

# ARGV: id, token, unit.
_START_UNIT: Final = """
if get('state') ~= 'running' or get('cancel_requested') == '1'
    or redis.call('HEXISTS', KEYS[3], ARGV[3]) == 1 then return 0 end
local count, token = 0, ''
local present = redis.call('HGET', KEYS[2], ARGV[3])
if present then count, token = string.match(present, '^(%d+) (.*)$') end
if token == ARGV[2] then return tonumber(count) end
redis.call('HSET', KEYS[2], ARGV[3], (count + 1) .. ' ' .. ARGV[2])
return count + 1
"""

# ARGV: id, unit. Twice takes back two, which only makes the count kinder.
_RELEASE_UNIT: Final = """
local present = redis.call('HGET', KEYS[2], ARGV[2])
if not present then return end
local count = math.max(tonumber(string.match(present, '^%d+')) - 1, 0)
redis.call('HSET', KEYS[2], ARGV[2], count .. ' ')
"""

# ARGV: id, attempt, unit, value.
_RECORD: Final = """
if not is_latest(ARGV[2]) then return 0 end
if redis.call('HSET', KEYS[3], ARGV[3], ARGV[4]) == 1 then
    redis.call('HSET', KEYS[1], 'starts', 1)
end
return 1
"""

# ARGV: id, attempt, progress.
_PROGRESS: Final = """
if not is_latest(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], 'progress', ARGV[3])
changed()
return 1
"""

# ARGV: id, attempt, token, state, result, error, time, score. An empty text is none.
_FINISH: Final = """
if get('finish_token') == ARGV[3] then return 1 end
if not is_latest(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], 'finish_token', ARGV[3], 'result', ARGV[5], 'error', ARGV[6])
if ARGV[4] == 'awaiting_labels' then
    redis.call('HSET', KEYS[1], 'state', ARGV[4])
else
    close(ARGV[4], ARGV[7], ARGV[8])
end
changed()
return 1
"""

# ARGV: id, time, score.
_CANCEL: Final = """
local state = get('state')
if state == 'queued' or state == 'awaiting_labels' then
    redis.call('HSET', KEYS[1], 'cancel_requested', '1')
    close('cancelled', ARGV[2], ARGV[3])
    changed()
elseif state == 'running' and get('cancel_requested') ~= '1' then
    redis.call('HSET', KEYS[1], 'cancel_requested', '1')
    changed()
end
"""

# ARGV: id.
_REMOVE: Final = """
redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3])
return redis.call('ZREM', KEYS[5], ARGV[1])
"""


class RedisJobs:
    """`JobStore` on Redis."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._scripts = {
            body: client.register_script(_HEAD + body)
            for body in (
                *(_CREATE, _BEGIN, _GIVE_UP, _BEAT, _RELEASE, _RESUME, _START_UNIT, _RELEASE_UNIT),
                *(_RECORD, _PROGRESS, _FINISH, _CANCEL, _REMOVE),
            )
        }

    async def create(self, job: Job) -> Job:
        fields: dict[str, str | int | float] = {
            "id": job.id,
            "kind": job.kind,
            "state": job.state.value,
            "progress": job.progress.model_dump_json(),
            "created_at": job.created_at.isoformat(),
            "created_score": job.created_at.timestamp(),
            "attempt": job.attempt,
            "cancel_requested": int(job.cancel_requested),
            "request": json.dumps(job.request),
            "trace": job.trace or "",
            "starts": 0,
            "revision": 0,
        }
        await self._run(_CREATE, job.id, *(part for field in fields.items() for part in field))
        return await self.get(job.id)

    async def get(self, job: str) -> Job:
        return (await self._read(job))[0]

    async def unfinished(self) -> list[Job]:
        jobs = await self._open()
        return [job for job in jobs if job.state in {JobState.QUEUED, JobState.RUNNING}]

    async def pending(self, kind: JobKind) -> list[Job]:
        return [job for job in reversed(await self._open()) if job.kind == kind]

    async def _open(self) -> list[Job]:
        """The jobs that are not final, the oldest first."""
        with redis_errors():
            ids = await self._client.zrange(OPEN, 0, -1)
            async with self._client.pipeline(transaction=False) as pipe:
                for job in ids:
                    pipe.hgetall(job_key(job.decode()))
                found = await pipe.execute()
        jobs = [_job(fields) for fields in found if fields]
        # One may have ended between the two calls.
        return [job for job in jobs if not job.state.is_final]

    async def begin(self, job: str, *, max_attempts: int = 3, alive_s: float = 0.0) -> Job | None:
        now = datetime.now(UTC)
        outcome = await self._run(_BEGIN, job, uuid4().hex, max_attempts, *_moment(now), alive_s)
        if outcome[0] == 1:
            return await self.get(job)
        if outcome[0] == -1:
            attempt, starts, *units = outcome[1:]
            error = given_up(int(starts), sorted(unit.decode() for unit in units))
            await self._run(_GIVE_UP, job, attempt, starts, json.dumps(error), *_moment(now))
        return None

    async def beat(self, job: str, attempt: int) -> bool:
        return bool(await self._run(_BEAT, job, attempt))

    async def release(self, job: str, attempt: int) -> bool:
        return bool(await self._run(_RELEASE, job, attempt))

    async def resume(self, job: str) -> Job:
        await self._run(_RESUME, job)
        return await self.get(job)

    async def start_unit(self, job: str, unit: str) -> int:
        return int(await self._run(_START_UNIT, job, uuid4().hex, unit))

    async def release_unit(self, job: str, unit: str) -> None:
        await self._run(_RELEASE_UNIT, job, unit)

    async def unit_starts(self, job: str, unit: str) -> int:
        with redis_errors():
            value = await self._client.hget(f"{job_key(job)}:starts", unit)
        return int(value.split()[0]) if value else 0

    async def record(self, job: str, attempt: int, key: str, value: bytes) -> bool:
        return bool(await self._run(_RECORD, job, attempt, key, value))

    async def recorded(self, job: str) -> set[str]:
        with redis_errors():
            return {key.decode() for key in await self._client.hkeys(f"{job_key(job)}:records")}

    async def records(self, job: str) -> AsyncIterator[tuple[str, bytes]]:
        keys = sorted(await self.recorded(job), key=str.encode)
        for start in range(0, len(keys), RECORDS_AT_ONCE):
            some = keys[start : start + RECORDS_AT_ONCE]
            with redis_errors():
                values = await self._client.hmget(f"{job_key(job)}:records", some)
            for key, value in zip(some, values, strict=True):
                if value is not None:
                    yield key, bytes(value)

    async def progress(self, job: str, attempt: int, progress: Progress) -> bool:
        return bool(await self._run(_PROGRESS, job, attempt, progress.model_dump_json()))

    async def finish(
        self,
        job: str,
        attempt: int,
        state: JobState,
        *,
        result: str | None = None,
        error: dict[str, Any] | None = None,
    ) -> bool:
        if not state.is_final and state is not JobState.AWAITING_LABELS:
            raise ValueError(f"{state} does not end an attempt")
        told = json.dumps(error) if error else ""
        end = (state.value, result or "", told, *_moment(datetime.now(UTC)))
        return bool(await self._run(_FINISH, job, attempt, uuid4().hex, *end))

    async def request_cancel(self, job: str) -> Job:
        await self._run(_CANCEL, job, *_moment(datetime.now(UTC)))
        return await self.get(job)

    async def watch(self, job: str) -> AsyncGenerator[Job, None]:
        seen: int | None = None
        async with self._client.pubsub() as channel:
            with redis_errors():
                await channel.subscribe(job_key(job))
            while True:
                present, revision = await self._read(job)
                if revision != seen:
                    seen = revision
                    yield present
                    if present.state.is_final or present.state is JobState.AWAITING_LABELS:
                        return
                with redis_errors():
                    await channel.get_message(
                        ignore_subscribe_messages=True, timeout=WATCH_INTERVAL_S
                    )

    async def expire(self, before: datetime) -> Sequence[str]:
        with redis_errors():
            ids = await self._client.zrangebyscore(ENDED, "-inf", f"({before.timestamp()}")
        return [job.decode() for job in ids if await self._run(_REMOVE, job.decode())]

    async def _run(self, script: str, job: str, *args: str | bytes | float) -> Any:
        key = job_key(job)
        with redis_errors():
            return await self._scripts[script](
                keys=[key, f"{key}:starts", f"{key}:records", OPEN, ENDED], args=[job, *args]
            )

    async def _read(self, job: str) -> tuple[Job, int]:
        with redis_errors():
            fields = await self._client.hgetall(job_key(job))
        if not fields:
            raise NotFound(f"There is no job {job}.")
        return _job(fields), int(fields[b"revision"])


def _moment(at: datetime) -> tuple[str, float]:
    """A time as it is shown and as it is sorted."""
    return at.isoformat(timespec="microseconds"), at.timestamp()


def _job(fields: dict[bytes, bytes]) -> Job:
    # An empty text is none: no field of a job is meaningful when empty.
    values: dict[str, Any] = {
        name.decode(): value.decode() for name, value in fields.items() if value
    }
    for name in ("progress", "request", "error"):
        if name in values:
            values[name] = json.loads(values[name])
    return Job.model_validate({k: v for k, v in values.items() if k in Job.model_fields})
